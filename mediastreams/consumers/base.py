"""The interface of a consumer, such as a recording, a recogniser, or your own.

`@streams.register` adds one. It may wait, write to a disk or ask another machine. One that is too slow loses
the oldest messages, one that raises gets nothing more; the call and the other consumers go on.
"""

from typing import Any, NamedTuple

from mediastreams.protocol.messages import Dtmf, Mark, Media, Start, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript


class Checkpoint(NamedTuple):
    """From where another worker can go on."""

    state: Any
    """What `resume` needs to know, as MessagePack has it: None, bool, int, float, str, bytes, list, dict."""
    position: int | None = None
    """From which position on the audio must come again; None: only what comes after this."""


class Consumer:
    """One stream's consumer, made when the stream starts; a subclass has those of the methods that it needs.

    They are called one at a time, in the order of the messages, in a native thread beside the server's.
    """

    stream: Stream
    """The stream, to be read: which messages are lost so far, and in `stop` how it ended."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def start(self, message: Start) -> None:
        """Called first, with the `start` message."""

    def media(self, message: Media) -> None:
        """Called for each chunk, as a rule 20 ms.

        `message.media.payload` is in the stream's `media_format`, as a rule mu-law at 8 kHz.
        """

    def audio(self, track: Track, position: int, payload: bytes) -> None:
        """Called for the same audio, mu-law, on the call's timeline (`timeline`).

        `position` is that of the first sample, counted at `stream.rate` (8 kHz as a rule) from the start of
        the stream, the same for all consumers. Overlaps are cut: each position of a track comes once. Missing
        audio is a gap between the end of one payload and the next `position`; where it comes late, `position`
        goes back. Not called where the stream's `media_format` is not decodable.
        """

    def dtmf(self, message: Dtmf) -> None:
        """Called for a key that was pressed."""

    def mark(self, message: Mark) -> None:
        """Called for a mark that Twilio returned."""

    def transcript(self, transcript: Transcript) -> None:
        """Called for each text of the recogniser, partial and final, in order."""

    def flush(self) -> None:
        """Called when nothing waits for now: for what is better done once for several messages."""

    def stop(self) -> None:
        """Called once, last, also where the connection was dropped; not after another method has raised.

        The server waits for it up to 3 seconds before it answers the end of the stream.
        """

    def is_finished(self) -> bool:
        """Return whether what `stop` has begun is done; asked several times a second, until it is."""
        return True

    def checkpoint(self) -> Checkpoint | None:
        """Return from where another worker can go on; None: it begins anew, with what comes after this.

        Only a worker asks, after `flush`, at most once a second (docs/redis.md).
        """
        return None

    def resume(self, message: Start, state: Any) -> None:
        """Called in place of `start` by a worker that takes over from one that has died or stopped.

        `state` is that of the last `checkpoint`, None where there was none. What came after it comes again.
        """
        self.start(message)

    def abandon(self) -> None:
        """Called last in place of `stop` where another worker goes on: release all, write nothing."""
