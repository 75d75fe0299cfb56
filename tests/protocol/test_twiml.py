import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from mediastreams.protocol import twiml

SHIPPED = sorted((Path(__file__).parents[2] / "twiml").glob("*.xml"))
STREAM_ATTRIBUTES = {"url", "name", "track", "statusCallback", "statusCallbackMethod", "connectorName"}


def document(stream, verb="Start"):
    return f"<Response><{verb}>{stream}</{verb}></Response>"


@pytest.fixture
def read():
    def read(text):
        return twiml.read(text.encode(), "bin.xml")

    return read


class TestShipped:
    """The documents in `twiml/`, against https://www.twilio.com/docs/voice/twiml/stream."""

    def test_all_are_there(self):
        names = ["both-tracks", "connect-stream", "named-with-parameters", "start-stream", "stop-stream"]
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
        for verb, path in (("Start", "/media"), ("Connect", "/echo")):
            for stream in root.iterfind(f"{verb}/Stream"):
                url, callback = urlsplit(stream.get("url")), urlsplit(stream.get("statusCallback"))
                assert (url.scheme, url.path, url.query) == ("wss", path, "")
                assert (callback.scheme, callback.path) == ("https", "/stream-status")
                assert url.netloc == callback.netloc == "example.ngrok.app"
                asks = [("bidirectional", "true")] if verb == "Connect" else []
                parameters = [(each.get("name"), each.get("value")) for each in stream]
                assert [each for each in parameters if each[0] == "bidirectional"] == asks
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
        streams = {path.stem: twiml.read(path.read_bytes(), path.name) for path in SHIPPED}
        assert streams["start-stream"] == twiml.StreamNoun(
            "wss://example.ngrok.app/media", status_callback="https://example.ngrok.app/stream-status"
        )
        assert [name for name, stream in streams.items() if stream.bidirectional] == ["connect-stream"]
        assert streams["named-with-parameters"].name == "support-line"
        assert streams["both-tracks"].track == "both_tracks"
        assert streams["named-with-parameters"].parameters == {"FirstName": "Jane", "LastName": "Doe"}


class TestRead:
    def test_connect_is_bidirectional(self, read):
        assert read(document('<Stream url="wss://a/b"/>', "Connect")).bidirectional
        assert not read(document('<Stream url="wss://a/b"/>')).bidirectional

    def test_the_new_attributes_are_taken_as_they_are_written(self, read):
        stream = read(document('<Stream url="wss://a/b" audioFormat="x/y" sampleRate="16000"/>'))
        assert (stream.audio_format, stream.sample_rate) == ("x/y", "16000")
        assert read(document('<Stream url="wss://a/b"/>')).sample_rate == ""

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
            (document('<Stream url="wss://a/b" statusCallbackMethod="PUT"/>'), 12200, "must be GET or POST"),
            (document('<Stream url="wss://a/b" samplerate="1"/>'), 12200, "no attribute samplerate"),
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
            twiml.load("no-such.xml")


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


class TestAddress:
    def address(self, text, base="wss://example.com", number=None):
        return ElementTree.fromstring(twiml.address(text.encode(), "bin.xml", base, number))

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
    def test_only_the_addresses_and_the_number_of_a_document_change(self, path):
        served = twiml.address(
            path.read_bytes(), path.name, "wss://a.example:8443/b", "+442071838750"
        ).decode()
        shipped = path.read_text()
        expected = shipped.replace("example.ngrok.app", "a.example:8443/b").replace(
            "+15550123456", "+442071838750"
        )
        assert ElementTree.canonicalize(served) == ElementTree.canonicalize(expected)
        assert served.startswith("<?xml version='1.0' encoding='utf-8'?>\n<Response>")

    @pytest.mark.parametrize("url", ["/media", "media", "wss://b/media", "wss://b:1/media?a=b#c"])
    def test_the_path_of_a_stream_stays(self, url):
        stream = self.address(document(f'<Stream url="{url}"/>'))[0][0]
        assert stream.attrib == {"url": "wss://example.com/media"}

    def test_this_machine_has_no_tls(self):
        stream = self.address(
            document('<Stream url="wss://a/media" statusCallback="https://a/stream-status"/>'), "ws://b:5000"
        )[0][0]
        assert stream.attrib == {"url": "ws://b:5000/media", "statusCallback": "http://b:5000/stream-status"}

    def test_a_stream_that_is_stopped_has_no_address(self):
        assert self.address(document('<Stream name="a"/>', "Stop"))[0][0].attrib == {"name": "a"}

    def test_the_number_is_that_of_dial_or_of_number(self):
        text = "<Response><Dial>+1</Dial><Dial> <Number>+2</Number><Client>+3</Client></Dial></Response>"
        assert [e.text for e in self.address(text, number="+44").iter()] == [None, "+44", " ", "+44", "+3"]
        assert [e.text for e in self.address(text).iter()] == [None, "+1", " ", "+2", "+3"]

    def test_what_is_no_twiml(self):
        for text, words in (("<a", "not well-formed"), ("<a/>", "is not TwiML")):
            with pytest.raises(twiml.TwimlError, match=words):
                self.address(text)
        with pytest.raises(twiml.TwimlError, match="malformed URL"):
            self.address(document('<Stream url="wss://[a/media"/>'))
