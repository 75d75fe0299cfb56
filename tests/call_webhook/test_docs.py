"""What docs/call-webhook.md says, done: the secret is made, and its receiver takes what a server posts."""

import re
import subprocess
import sys

from support.caller import call
from support.markdown import Document
from support.server import ROOT, SECONDS, Server, environment, wait_until

from mediastreams.config import Settings

DOCUMENT = Document(ROOT / "docs" / "call-webhook.md")


def make_secret():
    (command,) = DOCUMENT.blocks("Set it up", "sh")
    script = re.fullmatch(r'python3 -c "(.*)"', command)[1]
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS)
    return made.stdout.strip()


def test_its_receiver(start_server, tmp_path):
    (source,) = DOCUMENT.blocks("Verify it", "python")
    secret = make_secret()
    assert len({secret, make_secret()}) == 2
    (tmp_path / "receiver.py").write_text(source)
    command = [sys.executable, "-m", "flask", "--app", "receiver", "run", "--port", "0"]
    environ = {**environment(), "CALL_WEBHOOK_SECRET": secret, "PYTHONUNBUFFERED": "1"}
    receiver = Server(command, tmp_path, environ)
    try:
        url = receiver.wait_for(r"Running on (http://127\.0\.0\.1:\d+)")[1]
        webhook = {"CALL_WEBHOOK": f"{url}/calls", "CALL_WEBHOOK_DIR": str(tmp_path / "spool")}
        server = start_server(CALL_WEBHOOK_SECRET=secret, **webhook)
        call(server.url, "--seconds", "0.4")
        receiver.wait_for(r"^CA\w{32} 0\.4 \[\]$")
        receiver.wait_for('POST /calls HTTP/1.1.*" 204')
        server.wait_for(" posted to 127.0.0.1:")
        other = start_server(
            CALL_WEBHOOK_SECRET=make_secret(), **webhook
        )  # one that does not know the secret
        server.stop()
        call(other.url, "--seconds", "0.4")
        other.wait_for("yet: answered with 403 Forbidden; ")
    finally:
        receiver.stop()
    wait_until(lambda: len(list((tmp_path / "spool").glob("*.account"))) == 1)


def test_the_settings_that_it_shows():
    shown = dict(line.split("=", 1) for line in DOCUMENT.blocks("Set it up", "")[0].splitlines())
    assert Settings.read(shown).call_webhook == "https://example.com/calls"
