"""The simulated caller as a program: Ctrl-C, and where its output goes."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from subprocess import PIPE, Popen

from support.caller import events
from support.server import ROOT, SECONDS, environment, run


def test_ctrl_c_hangs_up(record):
    url, calls, _ = record
    command = [sys.executable, "-m", "mediastreams.caller", url, "--seconds", "60"]
    with Popen(command, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=environment(), text=True) as process:
        while "started" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert "Stopped: " in printed
    assert events(calls[0])[-1] == "stop"


def test_a_second_ctrl_c_ends_the_program(listen):
    """The server does not answer the handshake, so that nothing can be hung up."""
    asked = threading.Event()

    def wait(connection):
        connection.recv(65536)
        asked.set()
        while connection.recv(65536):
            pass

    command = [sys.executable, "-m", "mediastreams.caller", f"ws://127.0.0.1:{listen(wait)}/media"]
    with Popen(command, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=environment(), text=True) as process:
        assert asked.wait(SECONDS)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:  # the first one may not have been acted on yet
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        errors = process.stderr.read()
    assert (process.returncode, errors) == (-signal.SIGINT, "")


def test_it_needs_nothing_of_the_server():
    show = (
        "import sys, mediastreams.caller.__main__\n"
        "print({'gevent', 'flask', 'werkzeug', 'geventwebsocket'} & set(sys.modules))\n"
        "ours = {name.split('.')[1] for name in sys.modules if name.startswith('mediastreams.')}\n"
        "print(sorted(ours))"
    )
    assert (
        run("-c", show).stdout
        == "set()\n['audio', 'caller', 'client', 'config', 'exceptions', 'ngrok', 'protocol', 'text']\n"
    )


def test_the_call_goes_on_where_nobody_reads_of_it(record):
    url, _, _ = record
    command = f"{sys.executable} -m mediastreams.caller {url} --fast | true"
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True)
    assert run.stderr == b""


def test_the_call_goes_on_where_the_disk_is_full(record):
    url, calls, _ = record
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "mediastreams.caller", url, "--fast"]
        run = subprocess.run(command, cwd=ROOT, env=environment(), stdout=full, stderr=subprocess.PIPE)
    assert b"Traceback" not in run.stderr
    assert [message["event"] for message in calls[0]][-1] == "stop"


def test_a_terminal_shows_the_seconds_go_by(record):
    url, _, _ = record
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mediastreams.caller", url, "--seconds", "2.1"]
    with Popen(command, stdout=follower, cwd=ROOT, env=environment()) as process:
        os.close(follower)
        shown = b""
        while select.select([leader], [], [], 10)[0]:
            try:
                shown += os.read(leader, 1024)
            except OSError:  # EIO: the program has ended
                break
    os.close(leader)
    assert process.returncode == 0
    assert b"\r1 s, 52 messages\r" in shown


def test_without_an_output_the_call_goes_through(record):
    url, calls, _ = record
    command = f"{sys.executable} -m mediastreams.caller {url} --seconds 0.1 >&-"
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
    assert events(calls[0])[-1] == "stop"


def test_the_call_goes_on_where_the_terminal_is_gone(record):
    url, calls, _ = record
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mediastreams.caller", url, "--seconds", "2.1"]
    with Popen(command, stdout=follower, stderr=PIPE, cwd=ROOT, env=environment()) as process:
        os.close(follower)
        shown = b""
        while b" s, " not in shown:
            shown += os.read(leader, 1024)
        os.close(leader)
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")
    assert events(calls[0])[-1] == "stop"
