"""Draws `live-page.png`: the live page in the middle of simulated calls, as Chromium shows it.

It runs `app.py`, calls it, opens the page, chooses a call and listens to it, and takes the picture once each
speaker has said something twice. Needs Chromium, `playwright` and the recogniser of
requirements-transcription.txt. From the top folder:

    python docs/live_page.py
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
PORT = "5058"
WIDTH, HEIGHT = 1200, 700
CALLS = [  # the last one is chosen
    ["--seconds", "60", "--parameter", "name=Eve Okoro", "--parameter", "queue=sales"],
    ["--track", "both_tracks", "--seconds", "60", "--parameter", "name=Dan Weber"],
    ["--digits", "12#", "--seconds", "60", "--parameter", "name=Bo Chen"],
    [
        "--track",
        "both_tracks",
        "--seconds",
        "60",
        "--parameter",
        "name=Ann Lee",
        "--parameter",
        "queue=support",
    ],
]


def main() -> None:
    """Run the server, call it, and take the picture."""
    token, url = secrets.token_urlsafe(), f"ws://localhost:{PORT}/media"
    environ = {**os.environ, "HTTP_SERVER_PORT": PORT, "PAGE_TOKEN": token, "LOG_LEVEL": "INFO"}
    server = subprocess.Popen(
        [sys.executable, "app.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    )
    assert server.stdout is not None
    callers = []
    try:
        while "Server listening" not in server.stdout.readline():
            pass
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1)
            page.goto(f"http://localhost:{PORT}/#{token}")
            for options in CALLS:
                command = [sys.executable, "-m", "mediastreams.caller", url, *options]
                callers.append(subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL))
                time.sleep(1)
            page.locator(".row", has_text="Ann Lee").locator("a").click()
            page.locator(".detail").get_by_role("button", name="Listen").click()
            page.locator("[role=log] .turn").nth(3).wait_for()
            page.locator(".partial").wait_for()
            page.screenshot(path=FOLDER / "live-page.png")
            browser.close()
    finally:
        for process in (*callers, server):
            process.terminate()
        server.communicate()


if __name__ == "__main__":
    main()
