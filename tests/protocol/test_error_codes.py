import re

import pytest

from mediastreams.protocol import error_codes

# https://www.twilio.com/docs/voice/media-streams and the dictionary of errors: what a stream may meet.
STREAM_CODES = [
    *(31900, 31901, 31902, 31903, 31904, 31910),
    *(31920, 31921, 31922, 31923, 31924, 31930, 31931),
    *(31940, 31941, 31942, 31950, 31951, 31952, 31953, 31954, 31960),
]


def test_every_code_of_a_stream_is_there():
    assert [code for code in error_codes.ERRORS if code >= 31000] == STREAM_CODES


@pytest.mark.parametrize("code", error_codes.ERRORS)
def test_an_entry_is_for_one_line_of_a_log(code):
    entry = error_codes.ERRORS[code]
    for text in entry:
        assert re.fullmatch(r"[ -~]+", text)
    assert not entry.meaning.endswith(".")
    assert not entry.check.endswith(".")
    assert error_codes.meaning(code) == f"{code} {entry.meaning}"


@pytest.mark.parametrize("code", error_codes.ERRORS)
def test_each_is_found_by_its_number_and_by_its_title(code):
    assert error_codes.find(str(code)) == code
    assert error_codes.find(f"Error - {code}: something") == code
    assert error_codes.find(error_codes.ERRORS[code].title) == code
    assert error_codes.find(f"{error_codes.ERRORS[code].title.rstrip('.:')}, it was said") == code
    assert error_codes.find(f"{error_codes.ERRORS[code].title.upper()} (wss://example.com/media)") == code


@pytest.mark.parametrize("text", ["", "Something else", "31999", "131901", "319010"])
def test_what_names_no_code(text):
    assert error_codes.find(text) is None


def test_the_readme_explains_what_the_table_has(readme):
    told = {int(code) for code in re.findall(r"\b(31\d{3})\b", readme)}
    assert told <= set(error_codes.ERRORS)
