import pytest

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


@pytest.mark.parametrize("text", ["a\n\nb", "a --> b", "\x1b[2J"])
def test_no_text_makes_a_cue_of_its_own(text):
    lines = webvtt([transcript(text, 0, 1)]).split("\n")
    assert len(lines) == 5
    assert sum("-->" in line for line in lines) == 1
