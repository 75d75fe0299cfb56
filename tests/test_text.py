import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediastreams.text import elide, printable


class TestPrintable:
    @given(st.text(st.characters()))
    def test_any_text_fits_one_line(self, text):
        assert printable(text).isprintable()

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("", ""),
            ("J\u00fcrgen \u4e2d", "J\u00fcrgen \u4e2d"),
            ("a\r\nb\x1b[2J", r"a\u000d\u000ab\u001b[2J"),
            ("\ud800", r"\ud800"),
        ],
    )
    def test_what_is_not_printable_is_escaped(self, text, shown):
        assert printable(text) == shown

    def test_long_text_is_cut(self):
        assert printable("x" * 4096) == "x" * 4096
        assert printable("x" * 4097) == "x" * 4096 + "... (4097 characters)"


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", ""),
        (b"\xff\xff\xff", "////"),
        (bytes(6), "AAAAAAAA"),
        (bytes(7), "AAAAAAAA... (12 characters)"),
        (bytes(160), "AAAAAAAA... (216 characters)"),
    ],
)
def test_a_payload_is_elided(payload, shown):
    assert elide(payload) == shown
