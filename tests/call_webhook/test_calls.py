"""Whole calls: a server or a worker, and a program that takes what it posts."""

import os
import signal
import sys
import time

from support.caller import call
from support.receiver import SECRET, receiving, settings
from support.recogniser import PROGRAM
from support.redis import free_port
from support.server import ROOT, Server, environment, run, wait_until


def test_the_account_of_a_recording(start_server, tmp_path):
    with receiving() as receiver:
        folder = tmp_path / "recordings"
        server = start_server(
            "-c",
            PROGRAM,
            TRANSCRIBER="",
            RECORDINGS_DIR=str(folder),
            **settings(receiver, tmp_path / "spool"),
        )
        call(server.url, "--seconds", "4", "--track", "both_tracks")
        (account,) = receiver.accounts(1)
        server.wait_for(rf"INFO in poster: Account \S+ posted to 127.0.0.1:{receiver.port}$")
        output = server.stop()
    (path,) = folder.glob("*.json")
    ((_, headers, body, _),) = receiver.came
    assert body == path.read_bytes()
    assert headers["webhook-id"] == path.stem
    assert account["recording"] == f"{path.stem}.wav"
    assert {each["text"] for each in account["transcripts"]} == {"every word is made up here"}
    assert account["ended"] == "stop"
    for secret in ("my-token", SECRET[6:], "Traceback"):
        assert secret not in output


def test_the_folder_of_the_recordings_may_be_that_of_the_accounts(start_server, tmp_path):
    with receiving() as receiver:
        server = start_server(RECORDINGS_DIR=str(tmp_path))
        call(server.url, "--seconds", "0.2")
        server.stop()
        server = start_server(RECORDINGS_DIR=str(tmp_path), **settings(receiver, tmp_path))
        call(server.url, "--seconds", "0.2")
        server.wait_for("INFO in poster: Account .* posted")
        server.stop()
        assert len(receiver.came) == 1
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_stream_that_is_not_recorded(start_server, tmp_path):
    with receiving() as receiver:
        server = start_server(cwd=ROOT, **settings(receiver, tmp_path / "spool"))
        call(server.url, "--seconds", "1", "--parameter", "bidirectional=true", "--digits", "7")
        (account,) = receiver.accounts(1)
    assert (account["recording"], account["duration"]) == (None, 1.0)
    assert [each["digit"] for each in account["dtmf"]] == ["7"]


def test_it_survives_a_server_that_is_killed(start_server, tmp_path):
    port = free_port()
    dead = {
        "CALL_WEBHOOK": f"http://127.0.0.1:{port}/",
        "CALL_WEBHOOK_SECRET": SECRET,
        "CALL_WEBHOOK_DIR": str(tmp_path),
    }
    server = start_server(**dead)
    call(server.url, "--seconds", "0.2")
    server.wait_for(f"is not posted to 127.0.0.1:{port} yet: nothing listens on 127.0.0.1:{port} ")
    os.killpg(server.process.pid, signal.SIGKILL)
    with receiving() as receiver:
        start_server(**settings(receiver, tmp_path))
        (account,) = receiver.accounts(1)
        assert account["duration"] == 0.2
        wait_until(lambda: not list(tmp_path.glob("*.account")))


def test_a_server_that_ends_after_its_call_has_posted_it(start_server, tmp_path):
    with receiving() as receiver:
        server = start_server(**settings(receiver, tmp_path))
        call(server.url, "--seconds", "0.2")
        server.stop()
        receiver.accounts(1)
    assert not list(tmp_path.glob("*.account"))


def test_a_receiver_that_hangs_holds_no_call_up(start_server, tmp_path):
    with receiving(*["hang"] * 50) as receiver:
        server = start_server(**settings(receiver, tmp_path))
        began = time.monotonic()
        for _ in range(3):
            call(server.url, "--fast", "--calls", "4", "--seconds", "0.2")
        server.wait_for("Connection closed", times=12)
        assert time.monotonic() - began < 8  # less than it waits for one answer
        wait_until(lambda: len(list(tmp_path.glob("*.account"))) == 12)
        assert "Accounted has not finished" not in "\n".join(server.lines)


def test_workers_of_gunicorn(tmp_path):
    """Each account once, whichever worker had the call."""
    with receiving(500) as receiver:
        environ = {
            **environment(),
            "HTTP_SERVER_PORT": "0",
            "RECORDINGS_DIR": str(tmp_path / "recordings"),
            **settings(receiver, tmp_path / "spool"),
        }
        server = Server([sys.executable, "-m", "gunicorn", "-w", "3", "app:app"], ROOT, environ)
        try:
            server.wait_until_it_listens()
            server.wait_for("Booting worker", times=3)
            url = f"ws://127.0.0.1:{server.port}/media"
            call(url, "--calls", "20", "--fast")
            wait_until(lambda: len(receiver.came) >= 21)
            wait_until(lambda: not list((tmp_path / "spool").glob("*.account")))
        finally:
            output = server.stop()
    names = {path.stem for path in (tmp_path / "recordings").glob("*.json")}
    assert (len(receiver.ids), set(receiver.ids), len(names)) == (21, names, 20)
    assert "Traceback" not in output
    assert "its account cannot" not in output


def test_without_a_secret():
    result = run("app.py", CALL_WEBHOOK="https://example.com/my-token")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "CALL_WEBHOOK cannot be used: it needs CALL_WEBHOOK_SECRET, which signs what is posted; "
        "docs/call-webhook.md has the command that makes one\n"
    )


def test_without_the_setting_nothing_of_it_is_imported():
    result = run("-c", "import sys, app; print({'httpx', 'mediastreams.call_webhook'} & {*sys.modules})")
    assert (result.stdout, result.stderr) == ("set()\n", "")
