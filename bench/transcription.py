"""Measure the transcripts of the local engine: how right they are, how late, and what they cost the server.

    python bench/transcription.py
    python bench/transcription.py --calls 4 --audio FILE.wav --words "what is said in it"

Each call says the file again and again, at the pace of a call. The server, its engine and the calls share all
cores. What the numbers mean, and how they are taken, is in bench/README.md.
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import calls  # noqa: E402

from mediastreams.audio import mulaw  # noqa: E402
from mediastreams.audio.timeline import RATE  # noqa: E402
from mediastreams.caller import SAMPLE, sound_file  # noqa: E402

HEARD = "heard.json"  # in the server's folder
PAUSE = 1.5  # seconds between two times that the file is said
SAMPLE_WORDS = "hello this is a simulated call"


@dataclass(frozen=True)
class Text:
    """A text that was shown at a time (ns, monotonic), with what it says of the call."""

    at: int
    call_sid: str
    text: str
    final: bool
    start: float
    end: float


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line asks; return the exit status."""
    if arguments is None and sys.argv[1:] == ["--serve"]:
        _serve()
        return 0
    options = _parser().parse_args(arguments)
    speech = sound_file.read(options.audio)[0] + mulaw.SILENCE * round(PAUSE * RATE)
    seconds = len(speech) * options.times / RATE
    here = os.sched_getaffinity(0)
    command = (sys.executable, str(Path(__file__).resolve()), "--serve")
    environ = {"HTTP_SERVER_PORT": "0", "TRANSCRIBER": "local", "BENCH_LATENESS": "handled.json"}
    try:
        with calls.Process(command, here, environ) as process:
            load = calls.Load(process.url(), options.calls, seconds, speech)
            load.settle()
            before, began = process.cpu_ns_each(), time.monotonic_ns()
            load.speak()
            passed = time.monotonic_ns() - began
            shares = [(now - then) / passed for now, then in zip(process.cpu_ns_each(), before, strict=True)]
            own, *engine = process.resident_kb()
            load.hang_up()
            process.stop()
            texts = [Text(*row) for row in json.loads((process.folder / HEARD).read_text())]
            handled = json.loads((process.folder / "handled.json").read_text())
    except (calls.ServerError, FileNotFoundError) as error:
        print(f"Failed: {error}", file=sys.stderr)
        return 1
    # A call begins 2 s before what is measured; the last pause need not be whole.
    times = int((load.steps.stop / calls.PER_SECOND + PAUSE) / (len(speech) / RATE))
    _report(words(options.words) * times, load, texts, handled)
    print(
        f"server {own / 1024:.0f} MB, its engine {sum(engine) / 1024:.0f} MB resident; "
        f"{shares[0]:.1%} and {sum(shares[1:]):.1%} of a core"
    )
    return 0


def _serve() -> None:
    """Serve as `python app.py` does, and note each text and when each message was handled."""
    import lateness

    from mediastreams.transcription.transcriber import TranscriptDisplay

    texts: list[tuple[object, ...]] = []
    show = TranscriptDisplay.transcript

    def show_and_note(self, transcript):
        show(self, transcript)
        if transcript.text:
            sid = self.stream.start.start.call_sid
            row = transcript.text, transcript.final, transcript.start, transcript.end
            texts.append((time.monotonic_ns(), sid, *row))

    TranscriptDisplay.transcript = show_and_note
    try:
        lateness.serve()
    finally:
        Path(HEARD).write_text(json.dumps(texts))


def _report(said: list[str], load: calls.Load, texts: list[Text], handled: dict) -> None:
    errors, first, partial, final = [], [], [], []
    for call, sid in enumerate(load.sids):
        own = [text for text in texts if text.call_sid == sid]

        def since_spoken(at: int, second: float, call: int = call) -> float:
            step = min(int(second * calls.PER_SECOND), load.steps.stop - 1)
            return (at - load.sent[load.index(step, call)]) / 1e9

        finals = [text for text in own if text.final]
        heard = [word for text in finals for word in words(text.text)]
        errors.append(distance(said, heard) / len(said))
        final += [since_spoken(text.at, text.end) for text in finals]
        partial += [since_spoken(text.at, text.end) for text in own if not text.final]
        if own:
            first.append(since_spoken(own[0].at, own[0].start))
    late = sorted(
        times[step + 2] - load.sent[load.index(step, call)]
        for call, sid in enumerate(load.sids)
        if (times := handled.get(sid))
        for step in range(load.steps.stop)
        if times[step + 2]
    )
    print(
        f"{len(load.sids)} calls, {len(texts)} texts; {load.late_ms():.1f} ms is the load itself late (p99)"
    )
    print(f"word errors {statistics.mean(errors):.1%} (worst call {max(errors):.1%})")
    print(f"first words {_seconds(first)} after they began")
    print(f"texts {_seconds(partial)} after the last of their words")
    print(f"finals {_seconds(final)} after the last of their words")
    print(
        f"messages handled after {calls.percentile(late, 0.5) / 1e6:.2f} ms (p50), "
        f"{calls.percentile(late, 0.99) / 1e6:.2f} ms (p99), {late[-1] / 1e6:.2f} ms (max)"
    )


def _seconds(values: list[float]) -> str:
    if not values:
        return "never"
    return f"{statistics.median(values):.2f} s (median), {max(values):.2f} s (max)"


def words(text: str) -> list[str]:
    """Return the words of a text, in one spelling."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("mr.", "mister"))


def distance(said: list[str], heard: list[str]) -> int:
    """Return how many words must be put in, left out or changed (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/transcription.py", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--calls", type=int, default=1, metavar="N", help="calls at once (1)")
    add("--audio", default=str(SAMPLE), metavar="FILE.wav", help="what is said (the caller's sample)")
    add("--words", default=SAMPLE_WORDS, help="the words of it")
    add("--times", type=int, default=3, metavar="N", help="how often it is said (3)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
