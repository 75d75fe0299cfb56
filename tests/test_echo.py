"""`/echo` of `python app.py`, called as its TwiML says."""

import json

import pytest
from support.server import ROOT, SECONDS, run_caller
from support.sound import channels_of
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mediastreams.caller import SAMPLE, sound_file
from mediastreams.protocol.messages import Connected, Media, MediaMetadata, Start, StartMetadata

SID = "MZ" + "0123456789abcdef" * 2
CONNECT = str(ROOT / "twiml" / "connect-stream.xml")


def call(server, *arguments):
    result = run_caller("--twiml", f"http://127.0.0.1:{server.port}/twiml/connect-stream", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def start(**parameters):
    return Start(1, StartMetadata("AC1", SID, "CA1", custom_parameters=parameters), SID).to_json()


def media(number):
    metadata = MediaMetadata(chunk=number, timestamp=number * 20, payload=bytes([number]) * 160)
    return Media(number + 1, metadata, SID).to_json()


@pytest.fixture
def speak(server):
    """Return a function that sends messages to /echo and returns an iterator over what it sends."""
    url = server.url.replace("/media", "/echo")
    with connect(url, compression=None, open_timeout=SECONDS) as ws:

        def speak(*messages):
            for message in messages:
                ws.send(message)
            while True:
                yield json.loads(ws.recv(SECONDS))

        yield speak


def test_what_is_heard_is_what_was_said_a_second_later(server, tmp_path):
    heard = tmp_path / "heard.wav"
    printed = call(server, "--save-heard", str(heard))
    assert "Warning" not in printed
    (codes,) = channels_of(heard)
    said = sound_file.read(str(SAMPLE))[0]
    begin = codes.index(said[3200:8000]) - 3200
    assert 8000 <= begin < 12000  # a second of silence, and what the machine took to answer
    assert set(codes[:begin]) == {0xFF}
    length = len(codes) - begin
    assert length >= 4 * 8000
    assert codes[begin:] == said[:length]
    server.wait_for("mark echo begins played")


def test_each_message_is_one_of_twilios(speak):
    connected = Connected("Call", "1.0.0").to_json()
    sent = speak(connected, start(bidirectional="true"), media(1), media(2))
    silence, mark, one, two = (next(sent) for _ in range(4))
    assert set(silence) == {"event", "streamSid", "media"}
    assert mark == {"event": "mark", "streamSid": SID, "mark": {"name": "echo begins"}}
    assert one["media"]["payload"].startswith("AQEB")
    assert two["media"]["payload"].startswith("AgIC")


def test_a_key_begins_it_anew(server, tmp_path):
    heard = tmp_path / "heard.wav"
    call(server, "--save-heard", str(heard), "--digits", "1", "--seconds", "4")
    (codes,) = channels_of(heard)
    said = sound_file.read(str(SAMPLE))[0]
    begin = codes.index(said[8000:12000])
    assert 16000 <= begin + 4000 <= 24000  # the key was pressed at 0.5 s
    assert set(codes[:11000]) == {0xFF}
    server.wait_for("key 1, the echo begins anew")
    server.wait_for("mark echo begins cleared")
    server.wait_for("mark echo begins played")


def test_a_stream_that_does_not_ask_is_closed_with_the_reason(server, speak):
    with pytest.raises(ConnectionClosed) as caught:
        next(speak(start()))
    assert caught.value.rcvd.code == 1008
    reason = '/echo needs <Connect><Stream> with <Parameter name="bidirectional" value="true"/>'
    assert caught.value.rcvd.reason == reason
    server.wait_for(f"Stream {SID}: closed with 1008, {reason}")


def test_a_start_stream_at_echo_is_told(server):
    url = server.url.replace("/media", "/echo")
    result = run_caller(url, "--twiml", str(ROOT / "twiml" / "start-stream.xml"), "--seconds", "2")
    assert result.returncode == 1
    assert "Failed: 31921 server closed the WebSocket: " in result.stderr
    assert "/echo needs <Connect><Stream>" in result.stderr
    server.wait_for("stream-error, 31921 server closed the WebSocket; check this server's log")


def test_who_hangs_up_rudely_leaves_an_account(server):
    for _ in range(3):
        call(server, "--seconds", "0.5", "--drop", "--fast")
        server.wait_for(r"no stop message: dropped")
    assert "Traceback" not in server.stop()


def test_whatever_is_said(speak):
    header = MediaMetadata(
        chunk=1, timestamp=0, payload=(ROOT / "mediastreams" / "caller" / "sample.wav").read_bytes()[:160]
    )
    sent = speak(start(bidirectional="true"), Media(2, header, SID).to_json(), media(2))
    assert [next(sent)["event"] for _ in range(3)] == ["media", "mark", "media"]


def test_what_is_of_no_use_is_not_echoed(speak):
    sent = speak(start(bidirectional="true"), "{}", '{"event":"closed"}', media(1), media(1), media(2))
    assert [next(sent)["event"] for _ in range(4)] == ["media", "mark", "media", "media"]
