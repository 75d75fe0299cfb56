"""What `doctor` finds on the way through the public address."""

import re
import socket

from support.handshake import handshake
from support.server import SECONDS

REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nNgrok-Error-Code: ERR_NGROK_8012\r\nContent-Length: 0\r\n\r\n"


class TestBroken:
    """Each thing that is broken on purpose is the only fault that is found; the line says what to mend."""

    def test_the_tunnel_does_not_reach_the_server(self, world):
        world.start()
        world.tunnel.answer = REFUSED
        assert world.fault() == (
            "TwiML",
            f"Twilio would report 11200 HTTP retrieval failure: {world.url}/twiml/start-stream was answered "
            "with 502 Bad Gateway",
        )

    def test_the_address_does_not_exist(self, world):
        world.start()
        world.number["voice_url"] = "https://no-such-host.invalid/twiml/start-stream"
        name, text = world.fault(PUBLIC_URL="https://no-such-host.invalid", NGROK_API="off")
        assert name == "TwiML"
        assert "11210" in text

    def test_the_certificate_is_not_valid(self, world):
        world.start()
        name, text = world.fault(SSL_CERT_FILE="/dev/null")
        assert name == "TwiML"
        assert "11220" in text

    def test_there_is_no_such_document(self, world):
        world.start()
        name, text = world.fault("--twiml", "mine")
        assert name == "TwiML"
        assert "There is no such TwiML document; there are: both-tracks, connect-stream" in text

    def test_the_server_has_another_token(self, world):
        world.start(TWILIO_AUTH_TOKEN="another-token-0123456789")
        assert world.fault() == (
            "TwiML",
            "the server refuses what these settings sign: it runs with another TWILIO_AUTH_TOKEN, or for "
            "another address, restart it",
        )

    def test_the_server_has_another_public_url(self, world):
        world.start(PUBLIC_URL="https://old.ngrok.app", TWILIO_AUTH_TOKEN="")
        assert world.fault() == (
            "TwiML",
            "the document names wss://old.ngrok.app/media, not this address: "
            "the server has another PUBLIC_URL, restart it",
        )

    def test_the_server_has_no_token(self, world):
        world.start(TWILIO_AUTH_TOKEN="")
        assert world.fault() == (
            "signature",
            "the server accepts handshakes that Twilio has not signed: it runs without TWILIO_AUTH_TOKEN, "
            "restart it",
        )

    def test_a_proxy_drops_the_upgrade(self, world):
        world.start()
        world.tunnel.change = lambda head: re.sub(rb"(?i)\r\n(upgrade|connection): [^\r]*", b"", head)
        name, text = world.fault()
        assert name == "handshake"
        assert "31920 handshake failed: the server answered 426 UPGRADE REQUIRED" in text

    def test_the_server_is_for_another_account(self, world):
        world.start(TWILIO_ACCOUNT_SID="AC" + "1" * 32)
        name, text = world.fault()
        assert name == "call"
        assert "31921 server closed the WebSocket: it sent a Close, 1008" in text

    def test_the_server_is_full(self, world):
        world.start(MAX_STREAMS="1")
        with socket.create_connection(("127.0.0.1", world.port), SECONDS) as call:
            call.sendall(handshake(X_Twilio_Signature=world.signature()))
            assert call.recv(12) == b"HTTP/1.1 101"
            name, text = world.fault()
        assert name == "handshake"
        assert "503" in text

    def test_the_tunnel_cuts_calls_off(self, world):
        world.start()
        world.tunnel.seconds = 1
        name, text = world.fault()
        assert name == "call"
        assert text.startswith("Twilio would report 31903 connection broken: ")
