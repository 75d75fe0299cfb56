"""The commands of docs/redis.md, as they stand there."""

import os
import re
import sys

from support.caller import call
from support.cluster import ended_at_exit, pending
from support.markdown import Document
from support.server import ROOT, Server, environment, wait_until

PAGE = Document(ROOT / "docs" / "redis.md")
_, SERVE, RECORD, TRANSCRIBE = PAGE.blocks("Start it", "sh")
(OWN,) = PAGE.blocks("Your own consumer", "")
LOUDEST, RESUMING = PAGE.blocks("Your own consumer", "python")


def test_its_commands(redis_server, tmp_path):
    """Server, workers, and the README's consumer in a module of its own."""
    for name in ("app.py", "mediastreams", "twiml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "loudest.py").write_text(f"from mediastreams import Checkpoint\n{LOUDEST}\n{RESUMING}\n")
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "TRANSCRIBER": "", "PAGE_TOKEN": "off"}
    environ["PATH"] = f"{tmp_path}{os.pathsep}{environ['PATH']}"
    environ["REDIS_URL"] = redis_server.url  # of the command that names none
    environ.pop("PYTHONPATH", None)
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)

    def start(command):
        command = command.replace("redis://localhost:6379", redis_server.url)
        return Server(["sh", "-c", command.replace(".venv/bin/python", "python")], tmp_path, environ)

    with ended_at_exit(start(SERVE)) as server, ended_at_exit(start(RECORD)) as recording:
        server.wait_until_it_listens()
        recording.wait_for("takes calls for recording")
        with ended_at_exit(start(OWN)) as own, ended_at_exit(start(f"{TRANSCRIBE} --help")) as transcription:
            own.wait_for("takes calls for loudest:Loudest")
            assert "Consume the calls that servers publish on REDIS_URL" in transcription.stop(told=False)
            printed = call(server.url)
            sid = re.search("Stream (MZ[0-9a-f]{32}) started", printed)[1]
            own.wait_for(r"INFO in loudest: Call CA[0-9a-f]{32}: at most -\d+\.\d dBFS")
            recording.wait_for(rf"Stream {sid}: 5\.20 s recorded in recordings/.*-{sid}\.wav")
            wait_until(lambda: not pending(redis_server, "recording"))
    assert list((tmp_path / "recordings").glob(f"*-{sid}.wav"))
