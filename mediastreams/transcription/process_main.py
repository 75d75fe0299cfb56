"""The engine process: one recogniser for all tracks of the server.

The server starts it as `python -m mediastreams.transcription.process_main google` (`process_engine`). One
thread reads, so that the server never waits; one asyncio event loop, in the main thread, runs a task for each
track. Keys and language come from the environment.
"""

import asyncio
import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, Protocol

from mediastreams.config import Settings
from mediastreams.transcription import languages, process_protocol
from mediastreams.transcription.session import Backlog

MAX_LATE = 4.0  # seconds after the end of a track in which its last texts may come

Frames = asyncio.Queue[tuple[int, int, int, bytes] | None]  # None is the end of the input


class Recogniser(Protocol):
    """What recognises the tracks. Only the event loop's thread uses it."""

    async def recognise(self, backlog: Backlog, warn: Callable[[str], None]) -> None:
        """Recognise a track until it ends, or is cancelled. `warn` gets what belongs in the log."""


async def serve(frames: Frames, recogniser: Recogniser) -> None:
    """Recognise the tracks until the input ends.

    A track that has ended `MAX_LATE` seconds ago is given up: the server no longer waits for it, and where
    more audio comes than can be recognised, such tracks would gather without end.
    """
    tracks: dict[int, tuple[Backlog, asyncio.Task[None]]] = {}
    while (frame := await frames.get()) is not None:
        number, kind, rate, audio = frame
        if number not in tracks:
            tracks[number] = _begin(recogniser, number, rate)
        backlog, task = tracks[number]
        if kind == process_protocol.END:
            backlog.finish()
            asyncio.get_running_loop().call_later(MAX_LATE, task.cancel)
            del tracks[number]
        else:
            backlog.feed(audio)


def _begin(recogniser: Recogniser, number: int, rate: int) -> tuple[Backlog, asyncio.Task[None]]:
    """Begin to recognise a track; return its backlog, and the task that ends with it."""

    def write_text(text: str, final: bool, start: float, end: float) -> None:
        process_protocol.write(id=number, text=text, final=final, start=start, end=end)

    def warn(warning: str) -> None:
        process_protocol.write(id=number, warning=warning)

    async def recognise() -> None:
        try:
            await recogniser.recognise(backlog, warn)
        except Exception as error:  # asyncio shows its traceback
            warn(f"no transcript from here, {type(error).__name__}: {error}")
            raise
        finally:
            process_protocol.write(id=number, ended=True, dropped=backlog.dropped / rate)

    backlog = Backlog(write_text, rate)
    return backlog, asyncio.create_task(recognise())


def _read(source: BinaryIO, frames: Frames, loop: asyncio.AbstractEventLoop) -> None:
    for frame in process_protocol.read(source):
        loop.call_soon_threadsafe(frames.put_nowait, frame)
    loop.call_soon_threadsafe(frames.put_nowait, None)


async def main(name: str) -> None:
    """Serve with the module `name`, then end the process, whatever sessions or a library's threads still do.

    The exit status is 3 when the recogniser cannot be used, and an event says why.
    """
    frames: Frames = asyncio.Queue()
    arguments = process_protocol.take_over(), frames, asyncio.get_running_loop()
    threading.Thread(target=_read, args=arguments, daemon=True).start()
    language = os.environ.get("TRANSCRIBER_LANGUAGE", Settings.transcriber_language)
    try:
        module = importlib.import_module(f"mediastreams.transcription.{name}")
        its_language = languages.NAMES.get(name, {}).get(language, language)
        recogniser: Recogniser = module.connect(os.environ, its_language)
    except Exception as error:  # such as no credentials, or a library that cannot be loaded
        process_protocol.write(failed=str(error).partition("\n")[0])
        os._exit(3)
    await serve(frames, recogniser)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
