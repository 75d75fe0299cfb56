import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediastreams.streams.transcript import Transcript, webvtt


def transcript(text, start, end, track="inbound"):
    return Transcript(track, text, True, start, end)


@pytest.mark.parametrize(("track", "speaker"), [("inbound", "caller"), ("outbound", "callee")])
def test_the_speaker(track, speaker):
    assert transcript("Hello.", 0, 1, track).speaker == speaker


def test_webvtt_in_the_order_of_time():
    text = webvtt(
        [
            transcript("Hello.", 1.0, 2.5),
            transcript("Hi <there> & so on", 0.5, 3661.0014, "outbound"),
            transcript("one word", 3600, 3600),
        ]
    )
    assert text == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 01:01:01.001\n<v callee>Hi &lt;there&gt; &amp; so on\n\n"
        "00:00:01.000 --> 00:00:02.500\n<v caller>Hello.\n\n"
        "01:00:00.000 --> 01:00:00.001\n<v caller>one word\n"
    )


@pytest.mark.parametrize("text", ["a\n\nb", "a --> b", "\x1b[2J", "a\r\u2028\x85b"])
def test_no_text_makes_a_cue_of_its_own(text):
    lines = webvtt([transcript(text, 0, 1)]).split("\n")
    assert len(lines) == 5
    assert sum("-->" in line for line in lines) == 1


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u306f\u3044\u3000\u305d\u3046",
        "oui\xa0!",
        5000 * "a",
    ],
    ids=["Persian", "Japanese", "French", "long"],
)
def test_words_stay_as_they_are_written(text):
    """Joiners, and the spaces of other scripts, are part of a text; nothing of it is cut."""
    assert webvtt([transcript(text, 0, 1)]).endswith(f"\n<v caller>{text}\n")


@given(st.integers(0, 400_000_000), st.integers(0, 4_000_000))
def test_any_time_is_written_as_webvtt_has_it(start, length):
    """https://www.w3.org/TR/webvtt1/#webvtt-timestamp, in milliseconds here."""
    timing = webvtt([transcript("a", start / 1000, (start + length) / 1000)]).split("\n")[2]
    times = [
        ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(milliseconds)
        for hours, minutes, seconds, milliseconds in re.findall(
            r"\b(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})\b", timing
        )
    ]
    assert times == [start, start + max(length, 1)]
