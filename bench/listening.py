"""Measures how late a page plays a call, and how often it has nothing to play.

It runs `app.py`, lets the simulated caller speak, listens in Chromium without a screen, and looks for what it
hears in what was said. The delay is from when the caller's message was sent until the browser hands the sound
to the system. Needs `playwright` and Chromium. From the top folder:

    python bench/listening.py --seconds 300
"""

import argparse
import base64
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy
import soxr
from playwright.sync_api import sync_playwright

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from mediastreams.audio import mulaw  # noqa: E402
from mediastreams.caller import SAMPLE, sound_file  # noqa: E402

PORT = "5059"
STRETCH = 4000  # samples that are looked for at a time: half a second
TAP = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (!(to instanceof AudioDestinationNode)) return connect.call(this, to, ...rest);
  window.heard = [];
  window.rate = this.context.sampleRate;
  const size = 2048;
  const tap = this.context.createScriptProcessor(size, 2, 2);
  tap.onaudioprocess = ({ inputBuffer, playbackTime }) => {
    // When the first of them was made: the tap hears it a buffer later.
    const ago = this.context.currentTime - (playbackTime - (2 * size) / rate);
    heard.push([Date.now() / 1000 - ago, ...inputBuffer.getChannelData(0)]);
  };
  this.port.addEventListener("message", ({ data }) => (window.underruns = data.underruns));
  connect.call(tap, to);
  return connect.call(this, tap);
};
"""
TAKE = """() => {
  const bytes = new Uint8Array(Float64Array.from(heard.splice(0).flat()).buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return [btoa(text), window.underruns ?? 0];
}"""


def main() -> None:
    """Listen, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=300)
    seconds = parser.parse_args().seconds
    said = _samples(sound_file.read(str(SAMPLE))[0])
    token = secrets.token_urlsafe()
    environ = {**os.environ, "HTTP_SERVER_PORT": PORT, "PAGE_TOKEN": token, "TRANSCRIBER": "off"}
    server = subprocess.Popen(
        [sys.executable, "app.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    )
    caller = None
    delays: list[float] = []
    try:
        assert server.stdout is not None
        server.stdout.readline()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page()
            page.add_init_script(TAP)
            started: list[float] = []
            page.on(
                "websocket", lambda socket: socket.on("framereceived", lambda frame: _note(frame, started))
            )
            page.goto(f"http://localhost:{PORT}/#{token}")
            command = [sys.executable, "-m", "mediastreams.caller", f"ws://localhost:{PORT}/media"]
            caller = subprocess.Popen([*command, "--seconds", str(seconds + 30)], stdout=subprocess.DEVNULL)
            page.locator(".row").get_by_role("button", name="Listen").click()
            page.get_by_text("s behind").wait_for()
            began = started[0]
            page.wait_for_timeout(3000)
            page.evaluate(TAKE)
            underruns = page.evaluate("window.underruns ?? 0")
            for _ in range(seconds // 10):
                page.wait_for_timeout(10_000)
                taken, ran_out = page.evaluate(TAKE)
                delays += _delays(
                    numpy.frombuffer(base64.b64decode(taken)), page.evaluate("rate"), said, began
                )
            browser.close()
    finally:
        for process in (caller, server):
            if process:
                process.terminate()
        server.communicate()
    late = sorted(delays)
    print(f"{len(late)} stretches found in {seconds} s, {ran_out - underruns} underruns")
    print(
        f"delay: median {statistics.median(late):.2f} s, "
        f"1st percentile {late[len(late) // 100]:.2f} s, 99th percentile {late[-len(late) // 100]:.2f} s"
    )


def _note(frame: str | bytes, started: list[float]) -> None:
    """Note when a call started, in seconds since 1970, where a message tells."""
    if isinstance(frame, str) and (match := re.search(r'"startedAt":([0-9.]+)', frame)):
        started.append(float(match[1]))


def _delays(taken: numpy.ndarray, rate: float, said: numpy.ndarray, began: float) -> list[float]:
    """Return how late each loud stretch was heard, in seconds after it was sent.

    `said` is repeated all the time, so a delay is known modulo its length.
    """
    buffers = taken.reshape(-1, 2049)
    heard = soxr.resample(buffers[:, 1:].ravel(), rate, 8000)
    period = len(said)
    circle = numpy.fft.rfft(said)
    found = []
    for at in range(0, len(heard) - STRETCH, STRETCH):
        stretch = heard[at : at + STRETCH]
        if numpy.linalg.norm(stretch) < 2:
            continue
        fit = numpy.fft.irfft(circle * numpy.conj(numpy.fft.rfft(stretch, period)), period)
        if fit.max() < 0.8 * numpy.linalg.norm(stretch) * numpy.linalg.norm(
            numpy.take(said, range(fit.argmax(), fit.argmax() + STRETCH), mode="wrap")
        ):
            continue
        position = at * rate / 8000
        time = buffers[int(position // 2048), 0] + (position % 2048) / rate
        found.append((time - began - fit.argmax() / 8000) % (period / 8000))
    return found


def _samples(mu_law: bytes) -> numpy.ndarray:
    return numpy.frombuffer(mulaw.decode(mu_law), "<i2").astype(float) / 32768


if __name__ == "__main__":
    main()
