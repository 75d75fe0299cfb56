"""Draws `terminal.svg`: the server's terminal in the middle of a simulated call, as it really looks.

It runs `app.py` on a terminal of its own, calls it with both tracks, and exports the screen once both
speakers have a line of text. Needs `rich`, and the recogniser of requirements-transcription.txt. From the top
folder:

    python docs/terminal.py
"""

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parent
COLUMNS, LINES = 110, 30
SECONDS = 60  # for the call to get there
PORT = "5057"


def main() -> None:
    """Run the server, call it and write the picture."""
    environ = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "LINES": str(LINES),
        "TERM": "xterm",
        "HTTP_SERVER_PORT": PORT,
    }
    ours, theirs = pty.openpty()
    command = [sys.executable, "app.py"]
    server = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    screen = pyte.Screen(COLUMNS, LINES)
    screen.set_mode(pyte.modes.LNM)
    stream = pyte.ByteStream(screen)
    caller = None
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            stream.feed(os.read(ours, 65536))
            shown = "\n".join(line.rstrip() for line in screen.display).rstrip()
            if caller is None and "Server listening" in shown:
                caller = subprocess.Popen(
                    [sys.executable, "-m", "mediastreams.caller", "--track", "both_tracks"],
                    env=environ,
                    stdout=subprocess.DEVNULL,
                )
            if re.search(r"speaking\n.*callee: I can hear", shown, re.DOTALL):
                draw(shown)
                return
        sys.exit(f"no call on the screen within {SECONDS} s:\n{shown}")
    finally:
        server.terminate()
        if caller is not None:
            caller.wait()
        server.wait()
        os.close(ours)


def draw(shown: str) -> None:
    """Write what a terminal shows as a picture."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text(shown))
        console.save_svg(str(FOLDER / "terminal.svg"), title="python app.py")


if __name__ == "__main__":
    main()
