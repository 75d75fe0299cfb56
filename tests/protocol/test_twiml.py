import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from mediastreams.protocol import twiml

SHIPPED = sorted((Path(__file__).parents[2] / "twiml").glob("*.xml"))
STREAM_ATTRIBUTES = {"url", "name", "track", "statusCallback", "statusCallbackMethod", "connectorName"}

NO_STREAM = "bin.xml has no <Start><Stream> and no <Connect><Stream>"


def document(stream, verb="Start"):
    return f"<Response><{verb}>{stream}</{verb}></Response>"


@pytest.fixture
def read():
    def read(text):
        return twiml.read(text.encode(), "bin.xml")

    return read


def test_the_first_stream_is_read_whichever_verb_it_has(read):
    """Behind `<Connect>` nothing runs while its stream lasts."""
    connect = '<Connect><Stream url="wss://a/echo"/></Connect>'
    start = '<Start><Stream url="wss://b/media"/></Start>'
    assert read(f"<Response>{connect}{start}</Response>").url == "wss://a/echo"
    assert read(f"<Response>{start}{connect}</Response>").url == "wss://b/media"


class TestShipped:
    """The documents in `twiml/`, against https://www.twilio.com/docs/voice/twiml/stream."""

    def test_all_are_there(self):
        names = "both-tracks connect-stream named-with-parameters resume-stream start-stream stop-stream"
        assert [path.stem for path in SHIPPED] == names.split()

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
        assert [name for name, stream in streams.items() if stream.bidirectional] == [
            "connect-stream",
            "resume-stream",
        ]
        assert [path.stem for path in SHIPPED if twiml.resumes(path.read_bytes(), path.name)] == [
            "resume-stream"
        ]
        assert streams["named-with-parameters"].name == "support-line"
        assert streams["both-tracks"].track == "both_tracks"
        parameters = {"FirstName": "Jane", "LastName": "Doe", "From": "{{From}}"}
        assert streams["named-with-parameters"].parameters == parameters


class TestRead:
    def test_connect_is_bidirectional(self, read):
        assert read(document('<Stream url="wss://a/b"/>', "Connect")).bidirectional
        assert not read(document('<Stream url="wss://a/b"/>')).bidirectional

    def test_what_is_not_written_is_twilios_default(self, read):
        assert read(document("<Stream/>")) == twiml.StreamNoun("")
        assert read(document("<Stream><Parameter/></Stream>")).parameters == {"": ""}

    def test_all_of_a_stream(self, read):
        stream = (
            '<Stream url="wss://a/b" name="n" track="outbound_track" statusCallback="https://a/c" '
            'statusCallbackMethod="GET"><Parameter name="p" value="v"/></Stream>'
        )
        assert read(document(stream)) == twiml.StreamNoun(
            "wss://a/b", "outbound_track", {"p": "v"}, False, "n", "https://a/c", "GET"
        )

    def test_the_new_attributes_are_taken_as_they_are_written(self, read):
        stream = read(document('<Stream url="wss://a/b" audioFormat="x/y" sampleRate="16000"/>'))
        assert (stream.audio_format, stream.sample_rate) == ("x/y", "16000")
        assert read(document('<Stream url="wss://a/b"/>')).sample_rate == ""

    @pytest.mark.parametrize(
        ("text", "code", "reason"),
        [
            ("<Response>", 12100, "bin.xml is not well-formed XML: no element found: line 1, column 10"),
            ("<a/>", None, "bin.xml is not TwiML: its root must be <Response>, not <a>"),
            ("<Response/>", None, NO_STREAM),
            (document('<Stream name="a"/>', "Stop"), None, NO_STREAM),
            (document('<Stream uri="a" b="c"/>'), 12200, "<Stream> has no attribute b, uri"),
            (
                document('<Stream url="wss://a/b" track="both"/>'),
                31941,
                'invalid track "both": it must be inbound_track, outbound_track, both_tracks',
            ),
            (
                document('<Stream url="wss://a/b" track="both_tracks"/>', "Connect"),
                31941,
                'invalid track "both_tracks": it must be inbound_track',
            ),
            (
                document('<Stream url="wss://a/b" statusCallbackMethod="PUT"/>'),
                12200,
                'invalid statusCallbackMethod "PUT": it must be GET or POST',
            ),
            (
                document(f'<Stream><Parameter name="a" value="{"b" * 499}"/></Stream>'),
                None,
                'parameter "a" is too long: name and value, 499 at most',
            ),
            (
                document('<Stream url="wss://a/b" samplerate="1"/>'),
                12200,
                "<Stream> has no attribute samplerate",
            ),
        ],
    )
    def test_what_twilio_refuses(self, read, text, code, reason):
        with pytest.raises(twiml.TwimlError) as caught:
            read(text)
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert str(caught.value) == (reason if code is None else f"{code} {reason}")
        assert caught.value.args == (code, reason)  # of which a copy is made

    def test_a_parameter_may_have_499_characters(self):
        twiml.check_parameter("a" * 9, "b" * 490)
        with pytest.raises(twiml.TwimlError):
            twiml.check_parameter("a" * 10, "b" * 490)

    def test_no_such_file(self):
        with pytest.raises(twiml.TwimlError) as caught:
            twiml.load("no-such.xml")
        assert str(caught.value) == "no-such.xml cannot be read: No such file or directory"


@pytest.mark.parametrize("url", ["ws://a/media", "https://a/media", "a/media", "", "//a/media"])
def test_a_stream_needs_wss(url):
    with pytest.raises(twiml.TwimlError) as caught:
        twiml.check_url(url)
    assert str(caught.value) == f'31922 the URL must begin with wss://, not "{url}"'


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("wss:///media", "no host, or more than that"),
        ("wss://jane@a/media", "no host, or more than that"),
        ("wss://a:b/media", "Port could not be cast to integer value as 'b'"),
        ("wss://a:65536/media", "Port out of range 0-65535"),
        ("wss://[a/media", "Invalid IPv6 URL"),
        ("wss://a..b/media", ""),  # what Python calls it differs between its versions
    ],
)
def test_urls_that_twilio_does_not_dial(url, what):
    with pytest.raises(twiml.TwimlError) as caught:
        twiml.check_url(url)
    assert str(caught.value).startswith(f'31923 malformed URL "{url}": {what}')


@pytest.mark.parametrize(
    "url", ["wss://a/media", "wss://a.example:8443", "wss://[::1]:5000/a", "wss://\u00fc.de/"]
)
def test_urls_that_twilio_dials(url):
    assert twiml.check_url(url) is None


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

    @pytest.mark.parametrize("url", ["/X/a/", "X/a/", "wss://b/X/a/", "wss://b:1/X/a/?a=b#c"])
    def test_the_path_of_a_stream_stays(self, url):
        start = self.address(document(f'<Stream url="{url}"/><Play url="{url}"/>'))[0]
        assert [each.attrib for each in start] == [{"url": "wss://example.com/X/a/"}, {"url": url}]

    def test_the_query_of_a_status_callback_stays(self):
        url = "https://a/calls/status?tenant=5&amp;b=%20"
        text = document(f'<Stream url="wss://a/media" statusCallback="{url}"/>')
        stream = self.address(text, "wss://b/c")[0][0]
        assert stream.get("statusCallback") == "https://b/c/calls/status?tenant=5&b=%20"

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
        text = "<Response><Dial/><Dial><Number> </Number></Dial></Response>"  # it dials none
        assert [e.text for e in self.address(text, number="+44").iter()] == [None, None, None, " "]

    def test_the_numbers_that_are_dialled(self):
        text = b"<Response><Dial>\n +1 </Dial><Dial><Number>+2</Number><Number> </Number></Dial></Response>"
        assert twiml.dialled(text, "bin.xml") == ["+1", "+2"]
        with pytest.raises(twiml.TwimlError, match="not well-formed XML"):
            twiml.dialled(b"<Response>", "bin.xml")

    def test_what_is_no_twiml(self):
        for text, words in (("<a", "12100 bin.xml is not well-formed"), ("<a/>", "bin.xml is not TwiML")):
            with pytest.raises(twiml.TwimlError) as caught:
                self.address(text)
            assert str(caught.value).startswith(words)
        with pytest.raises(twiml.TwimlError) as caught:
            self.address(document('<Stream url="wss://[a/media"/>'))
        assert str(caught.value) == '31923 malformed URL "wss://[a/media": Invalid IPv6 URL'


class TestFilled:
    """As in a TwiML Bin."""

    def test_attributes_and_texts(self):
        given = (
            b"<Response><Start><Stream url='wss://a/b'>"
            b"<Parameter name='{{CallSid}}' value='from {{ From }}'/>"
            b"</Stream></Start><Dial>{{To}}</Dial>{{From}}</Response>"
        )
        values = {"From": '"<+1&2>"', "To": "+15550123456", "CallSid": "CA1"}
        root = ElementTree.fromstring(twiml.filled(given, "a.xml", values))
        assert root.find("Start/Stream/Parameter").attrib == {"name": "CA1", "value": 'from "<+1&2>"'}
        assert (root.find("Dial").text, root.find("Dial").tail) == ("+15550123456", '"<+1&2>"')

    @pytest.mark.parametrize("value", [None, "", "\0\x0b\ufffe\ud800"])
    def test_what_is_not_there_is_empty(self, value):
        given = b"<Response><Dial>a{{From}}b</Dial></Response>"
        filled = twiml.filled(given, "a.xml", {} if value is None else {"From": value})
        assert ElementTree.fromstring(filled).find("Dial").text == "ab"

    @pytest.mark.parametrize("text", ["{From}", "{{#e164}}{{/e164}}", "{{}}", "{{ From }"])
    def test_what_is_no_tag_stays(self, text):
        given = f"<Response><Dial>{text}</Dial></Response>".encode()
        assert ElementTree.fromstring(twiml.filled(given, "a.xml", {"From": "x"})).find("Dial").text == text

    def test_what_is_no_twiml(self):
        with pytest.raises(twiml.TwimlError, match="is not well-formed XML"):
            twiml.filled(b"<Response>{{From}}", "a.xml", {})


RESUMING = (
    '<Response><Connect><Stream url="wss://a.example/echo"><Parameter name="a" value="b"/></Stream></Connect>'
    "<Redirect>{}</Redirect><Say>Over.</Say></Response>"
)


class TestResume:
    @pytest.mark.parametrize(
        ("redirect", "is_one"),
        [
            ("https://a.example/twiml/x?resume=1", True),
            ("/twiml/x?b=c&amp;resume=12", True),
            ("https://a.example/b/twiml/x.xml?resume=1", True),
            ("https://a.example/twiml/x", False),
            ("https://a.example/twiml/x?resume=", False),
            ("https://a.example/twiml/x?unresume=1", False),
            ("https://a.example/other?resume=1", False),
            ("", False),
        ],
    )
    def test_which_documents_ask(self, redirect, is_one):
        assert twiml.resumes(RESUMING.format(redirect).encode(), "x.xml") is is_one

    def test_the_document_again(self):
        document = RESUMING.format("https://a.example/twiml/x?b=c&amp;resume=1").encode()
        pause, connect, redirect, say = ElementTree.fromstring(twiml.resumed(document, "x.xml", 3, 2, "MZ1"))
        assert (pause.tag, pause.attrib, say.tag) == ("Pause", {"length": "2"}, "Say")
        assert redirect.text == "https://a.example/twiml/x?b=c&resume=4"
        assert [each.attrib for each in connect.iter("Parameter")] == [
            {"name": "a", "value": "b"},
            {"name": "resumes", "value": "MZ1"},
        ]

    def test_without_what_is_not_known(self):
        document = RESUMING.format("/twiml/x?resume=1").encode()
        connect, redirect, _ = ElementTree.fromstring(twiml.resumed(document, "x.xml", 1, 0, None))
        assert (redirect.text, len(list(connect.iter("Parameter")))) == ("/twiml/x?resume=2", 1)

    def test_what_is_behind_it(self):
        document = RESUMING.format("/twiml/x?resume=1").encode()
        assert [verb.tag for verb in ElementTree.fromstring(twiml.rest(document, "x.xml"))] == ["Say"]

    @pytest.mark.parametrize(
        ("redirect", "addressed"),
        [
            ("https://a.example/twiml/x?resume=1", "https://b.example/c/twiml/x?resume=1"),
            ("/twiml/x", "https://b.example/c/twiml/x"),
            ("https://a.example/menu?a=b", "https://a.example/menu?a=b"),
        ],
    )
    def test_a_redirect_to_a_document_gets_the_servers_address(self, redirect, addressed):
        document = twiml.address(RESUMING.format(redirect).encode(), "x.xml", "wss://b.example/c")
        assert ElementTree.fromstring(document).find("Redirect").text == addressed
