"""The lines at the start that tell where the page is, and what to paste at Twilio."""

import re

import pytest

from mediastreams.config import Settings
from mediastreams.text import command
from mediastreams.web.addresses import addresses, local_url

TOKEN = "a-token-of-a-person"


def test_where_the_page_is(start_server):
    """With a token that is a new one at each start."""
    tokens = set()
    for _ in range(2):
        server = start_server()
        server.stop()
        page = rf"Watch the calls at http://localhost:{server.port}/#([\w-]{{22}})"
        tokens.add(re.fullmatch(page, server.lines[1])[1])
        assert server.stop().count("Watch the calls") == 1
    assert len(tokens) == 2


def test_a_token_of_the_settings_is_not_shown(start_server):
    server = start_server(PAGE_TOKEN=TOKEN, LOG_LEVEL="DEBUG")
    assert TOKEN not in server.stop()
    page = f"Watch the calls at http://localhost:{server.port}/ (log in with PAGE_TOKEN)"
    assert server.lines[1] == page


def test_no_page(start_server):
    assert "Watch the calls" not in start_server(PAGE_TOKEN="off").stop()


def test_a_log_as_json_has_no_token(start_server):
    server = start_server(LOG_FORMAT="json")
    page = f"Watch the calls at http://localhost:{server.port}/ (set PAGE_TOKEN: a log has no token)"
    server.stop()
    assert f'"message": "{page}"' in server.lines[1]
    assert "#" not in "".join(server.lines)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:80"),
        ("0.0.0.0", "http://localhost:80"),
        ("::", "http://localhost:80"),
        ("192.0.2.1", "http://192.0.2.1:80"),
        ("2001:db8::1", "http://[2001:db8::1]:80"),
    ],
)
def test_the_address_on_this_machine(host, url):
    settings = Settings(http_server_host=host, page_token=TOKEN)
    assert local_url(settings, 80) == url
    assert addresses(settings, 80, TOKEN)[0] == f"Watch the calls at {url}/ (log in with PAGE_TOKEN)"


def test_what_to_paste(start_server):
    server = start_server(PUBLIC_URL="a.example/b/media", LOG_LEVEL="ERROR")
    server.wait_for("webhook")
    server.stop()
    assert server.lines[-2:] == [
        "To paste into a TwiML Bin, as the Stream's url: wss://a.example/b/media",
        f"Or with `{command('number')}`, as the number's webhook: "
        "https://a.example/b/twiml/start-stream"
        " (set DIAL_NUMBER to one that you can answer)",
    ]


def test_with_a_number_to_dial(start_server):
    server = start_server(PUBLIC_URL="a.example", DIAL_NUMBER="+442071838750")
    server.wait_for("as the number's webhook: https://a.example/twiml/start-stream$")


def test_how_to_be_told(server):
    server.stop()
    assert server.lines[2] == f"To see what to paste at Twilio, run `ngrok http {server.port}`"


def test_how_to_be_told_where_ngrok_is_not_asked(start_server):
    server = start_server(NGROK_API="off")
    server.stop()
    assert server.lines[2] == (
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
