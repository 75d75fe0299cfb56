"""What a recogniser understood, and as WebVTT: subtitles that any player shows with a recording.

Source: https://www.w3.org/TR/webvtt1/
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mediastreams.protocol.messages import Track
from mediastreams.text import legible


@dataclass(frozen=True)
class Transcript:
    """A text that a recogniser understood, of a stretch of one track."""

    track: Track
    text: str
    """What was said; "" takes back the track's last text that is not final."""
    final: bool
    """Whether the text stays as it is; else the track's next transcript replaces it."""
    start: float
    """When it begins, in seconds from the stream's first audio, as in its recording."""
    end: float
    """When it ends, in seconds from there."""
    lag: float = 0.0
    """How many seconds after its last word the text was there."""

    @property
    def speaker(self) -> str:
        """Who speaks: the `caller` (inbound) or the `callee` (outbound)."""
        return "caller" if self.track == "inbound" else "callee"


def webvtt(transcripts: Iterable[Transcript]) -> str:
    """Return the transcripts as a WebVTT file, a cue for each, its speaker as the voice."""
    cues = ["WEBVTT\n"]
    for transcript in sorted(transcripts, key=lambda transcript: transcript.start):
        text = legible(transcript.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        end = max(transcript.end, transcript.start + 0.001)  # a cue must not end where it begins
        cues.append(f"{_time(transcript.start)} --> {_time(end)}\n<v {transcript.speaker}>{text}\n")
    return "\n".join(cues)


def _time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
