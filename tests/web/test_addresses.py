"""The lines at the start that tell what to paste at Twilio."""


def test_what_to_paste(start_server):
    server = start_server(PUBLIC_URL="a.example/b/media", LOG_LEVEL="ERROR")
    server.wait_for("webhook")
    server.stop()
    assert server.lines[-2:] == [
        "To paste into a TwiML Bin, as the Stream's url: wss://a.example/b/media",
        "Or without a Bin, as the number's webhook: https://a.example/b/twiml/start-stream"
        " (set DIAL_NUMBER to one that you can answer)",
    ]


def test_with_a_number_to_dial(start_server):
    server = start_server(PUBLIC_URL="a.example", DIAL_NUMBER="+442071838750")
    server.wait_for("as the number's webhook: https://a.example/twiml/start-stream$")


def test_how_to_be_told(server):
    server.stop()
    assert server.lines[1] == (
        f"To see what to paste at Twilio, set PUBLIC_URL to the address that `ngrok http {server.port}` shows"
    )


def test_a_server_without_webhooks_has_none(start_server, tmp_path):
    (tmp_path / "bare.py").write_text(
        "from flask import Flask\n"
        "from mediastreams.config import load\n"
        "from mediastreams.server.serve import serve\n"
        "from mediastreams.server.state import ServerState\n"
        "def announce(port):\n"
        "    print(f'listening on: http://localhost:{port}', flush=True)\n"
        "serve(Flask(__name__), ServerState(load()), announce)\n"
    )
    assert "PUBLIC_URL" not in start_server("bare.py", cwd=tmp_path).stop()
