"""What consumes a stream: the interface of a recording, of a recogniser, or of a consumer of your own.

    @streams.register
    class Loudness(Consumer):
        def media(self, message: Media) -> None:
            ...

Each stream gets an object of its own, made when the stream starts. Its methods are called one after the
other, in the order of the messages, and never by the server's own thread: a consumer may wait, write to a
disk or ask another machine, and holds up nobody but itself. It is called 5 times a second, for the messages
that have come since. When 6,000 messages wait for it (a minute of both tracks), the oldest are dropped,
counted and logged. Where it raises, that is logged once with the stream's SID, and it gets nothing more.
Neither is felt by the call or by another consumer.

Python runs one thread at a time all the same: heavy computing belongs into a process of its own.
"""

from mediastreams.protocol.messages import Dtmf, Mark, Media, Start, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript


class Consumer:
    """One stream's consumer; a subclass has those of the methods that it needs.

    The methods are called in a native thread, one at a time.
    """

    stream: Stream
    """The stream, to be read: which messages are lost so far, and in `stop` how it ended."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def start(self, message: Start) -> None:
        """Take the `start` message. Called first."""

    def media(self, message: Media) -> None:
        """Take 20 ms of a track's audio, as a rule; `message.media.payload` is mu-law at 8 kHz."""

    def audio(self, track: Track, position: int, payload: bytes) -> None:
        """Take the same audio, mu-law at 8 kHz, where it belongs on the call's timeline (`timeline`).

        `position` is that of the first sample, counted at 8 kHz from the start of the stream, the same for
        all consumers. Overlaps are cut: each position of a track comes once. What is missing leaves a gap
        between the end of one payload and the next `position`; where it comes late, `position` goes back.
        """

    def dtmf(self, message: Dtmf) -> None:
        """Take a key that was pressed."""

    def mark(self, message: Mark) -> None:
        """Take a mark that came back."""

    def transcript(self, transcript: Transcript) -> None:
        """Take what was said, where the stream is transcribed: partial texts and final ones, in order."""

    def flush(self) -> None:
        """Do what is better done once for several messages: nothing waits for now."""

    def stop(self) -> None:
        """Finish: nothing more comes. Called exactly once, also where the connection was dropped.

        Only not where another method has raised before. The server waits for it up to 3 seconds before it
        answers the end of the stream.
        """

    def is_finished(self) -> bool:
        """Return whether what `stop` has begun is done; asked after it, some times a second, until it is."""
        return True
