"""What consumes a stream: the face that a recording, a transcript or a consumer of your own has.

    @consumers.register
    class Loudness(Consumer):
        def media(self, message: Media) -> None:
            ...

Each stream gets an object of its own, made when the stream starts. Its methods are called one after the
other, in the order of the messages, and never by the server's own thread: a consumer may wait, write to a
disk or ask another machine, and holds up nobody but itself. It is called 5 times a second, for the messages
that have come since. What it has not taken when 6,000 messages wait (a minute of both tracks) is lost to
it, the oldest first, counted and logged. Where it raises, that is logged once with the stream's SID, and it
gets nothing more. Neither is felt by the call or by another consumer.

Python runs one thread at a time all the same: heavy computing belongs into a process of its own.
"""

from mediastreams.protocol.messages import Dtmf, Mark, Media, Start
from mediastreams.streams.stream import Stream


class Consumer:
    """One stream's consumer; a subclass has those of the methods that it needs.

    `stream` is the stream's account, to be read: which messages are lost so far, and in `stop` how
    it ended. Sending on its WebSocket is the route's business.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def start(self, message: Start) -> None:
        """Take the `start` message. Called first."""

    def media(self, message: Media) -> None:
        """Take 20 ms of a track's audio, as a rule; `message.media.payload` is mu-law at 8 kHz."""

    def dtmf(self, message: Dtmf) -> None:
        """Take a key that was pressed."""

    def mark(self, message: Mark) -> None:
        """Take a mark that came back."""

    def flush(self) -> None:
        """Do what is better done once for several messages: nothing waits for now."""

    def stop(self) -> None:
        """Finish: nothing more comes. Called exactly once, also where the connection was dropped.

        Only not where another method has raised before. The server waits for it up to 3 seconds before it
        answers the end of the stream.
        """

    def is_finished(self) -> bool:
        """Say whether what `stop` has begun is done; asked after it, some times a second, until it is."""
        return True
