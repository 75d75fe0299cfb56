"""The engine process of a provider: serves all tracks of the server.

The server starts it as `python -m mediastreams.transcription.provider_process google` (`process_engine`). One
asyncio event loop, in the process's main thread, runs a task for each track. Keys and language come from the
environment.
"""

import asyncio
import importlib
import os
import sys

from mediastreams.config import Settings
from mediastreams.transcription import languages, process_protocol
from mediastreams.transcription.provider import Provider
from mediastreams.transcription.session import Backlog

MAX_LATE = 4.0  # seconds after the end of a track in which its last texts may come


async def serve(name: str) -> int:
    """Serve with the module `name` until the input ends.

    Returns the exit status: 3 when the provider cannot be used, and an event says why.
    """
    source = process_protocol.take_over()
    try:
        language = languages.NAMES[name][
            os.environ.get("TRANSCRIBER_LANGUAGE", Settings.transcriber_language)
        ]
        module = importlib.import_module(f"mediastreams.transcription.{name}")
        provider: Provider = module.connect(language)
    except Exception as error:  # such as no credentials, or a library that cannot be loaded
        process_protocol.write(failed=str(error).partition("\n")[0])
        return 3
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    tracks: dict[int, tuple[Backlog, asyncio.Task[None]]] = {}
    while (frame := await process_protocol.read_async(reader)) is not None:
        number, kind, rate, audio = frame
        if number not in tracks:
            tracks[number] = _begin(provider, number, rate)
        backlog, task = tracks[number]
        if kind == process_protocol.END:
            backlog.finish()
            loop.call_later(MAX_LATE, task.cancel)
            del tracks[number]
        else:
            backlog.feed(audio)
    return 0


def _begin(provider: Provider, number: int, rate: int) -> tuple[Backlog, asyncio.Task[None]]:
    """Begin to recognise a track; return its backlog, and the task that ends with it."""

    def write_text(text: str, final: bool, start: float, end: float) -> None:
        process_protocol.write(id=number, text=text, final=final, start=start, end=end)

    async def recognise() -> None:
        try:
            await provider.recognise(
                backlog, lambda warning: process_protocol.write(id=number, warning=warning)
            )
        finally:
            process_protocol.write(id=number, ended=True, dropped=backlog.dropped / rate)

    backlog = Backlog(write_text, rate)
    return backlog, asyncio.create_task(recognise())


async def main() -> None:
    """Serve, and end the process without waiting for what sessions or a library's threads still do."""
    os._exit(await serve(sys.argv[1]))


if __name__ == "__main__":
    asyncio.run(main())
