import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from mediastreams import twiml

SHIPPED = sorted((Path(__file__).parent.parent / "twiml").glob("*.xml"))
STREAM_ATTRIBUTES = {"url", "name", "track", "statusCallback", "statusCallbackMethod", "connectorName"}


def document(stream, verb="Start"):
    return f"<Response><{verb}>{stream}</{verb}></Response>"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "bin.xml"
        path.write_text(text, encoding="utf-8")
        return twiml.read(str(path))

    return read


class TestShipped:
    """The documents in `twiml/`, against https://www.twilio.com/docs/voice/twiml/stream."""

    def test_all_are_there(self):
        names = ["both-tracks", "named-with-parameters", "start-stream", "stop-stream"]
        assert [path.stem for path in SHIPPED] == names

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
    def test_twilio_would_take_it(self, path):
        root = ElementTree.parse(path).getroot()
        assert root.tag == "Response"
        for stream in root.iter("Stream"):
            assert set(stream.attrib) <= STREAM_ATTRIBUTES
            assert stream.get("track", "inbound_track") in twiml.TRACKS
            for parameter in stream:
                assert (parameter.tag, set(parameter.attrib)) == ("Parameter", {"name", "value"})
                assert len(parameter.get("name") + parameter.get("value")) < 500
        for stream in root.iterfind("Start/Stream"):
            url = urlsplit(stream.get("url"))
            assert (url.scheme, url.path, url.query) == ("wss", "/media", "")
            assert url.hostname
        started = {stream.get("name") for stream in root.iterfind("Start/Stream")}
        assert {stream.get("name") for stream in root.iterfind("Stop/Stream")} <= started
        # <Start> returns at once: with nothing after it the call is over.
        assert root[-1].tag in ("Dial", "Pause", "Say")

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
    def test_a_comment_says_what_to_change_and_when_to_use_it(self, path):
        comment = re.search(r"<!--(.*?)-->", path.read_text(), re.DOTALL)[1]
        assert "Change: " in comment
        assert "Use it: " in comment

    def test_they_differ_as_they_say(self):
        streams = {path.stem: twiml.read(str(path)) for path in SHIPPED}
        assert streams["start-stream"] == twiml.StreamNoun("wss://example.ngrok.app/media")
        assert streams["both-tracks"].track == "both_tracks"
        assert streams["named-with-parameters"].parameters == {"FirstName": "Jane", "LastName": "Doe"}


class TestRead:
    def test_connect_is_bidirectional(self, read):
        assert read(document('<Stream url="wss://a/b"/>', "Connect")).bidirectional
        assert not read(document('<Stream url="wss://a/b"/>')).bidirectional

    @pytest.mark.parametrize(
        ("text", "code", "words"),
        [
            ("<Response>", 12100, "not well-formed"),
            ("<Response/>", None, "no <Start><Stream>"),
            (document('<Stream name="a"/>', "Stop"), None, "no <Start><Stream>"),
            (document('<Stream url="wss://a/b" track="both"/>'), 31941, 'invalid track "both"'),
            (
                document('<Stream url="wss://a/b" track="both_tracks"/>', "Connect"),
                31941,
                "must be inbound_track",
            ),
            (document(f'<Stream><Parameter name="a" value="{"b" * 499}"/></Stream>'), None, "499 at most"),
        ],
    )
    def test_what_twilio_refuses(self, read, text, code, words):
        with pytest.raises(twiml.TwimlError) as caught:
            read(text)
        assert caught.value.code == code
        assert words in str(caught.value)

    def test_no_such_file(self):
        with pytest.raises(twiml.TwimlError, match="No such file"):
            twiml.read("no-such.xml")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ws://a/media", 31922),
        ("https://a/media", 31922),
        ("a/media", 31922),
        ("", 31922),
        ("wss:///media", 31923),
        ("wss://a:b/media", 31923),
        ("wss://[a/media", 31923),
    ],
)
def test_urls_that_twilio_does_not_dial(url, code):
    with pytest.raises(twiml.TwimlError) as caught:
        twiml.check_url(url)
    assert caught.value.code == code
