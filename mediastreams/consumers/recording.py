"""Records a stream's audio as a WAV file, with a JSON file beside it that describes the call.

    <RECORDINGS_DIR>/20261122T180000.123Z-MZ0123456789abcdef0123456789abcdef.wav

The time is that of `start`, in UTC. A transcribed stream also has a `.vtt` file. One track is mono; of two,
inbound is left and outbound right. Each chunk is at its position (`timeline`): a second in the file is a
second of the call, and missing audio is silence.

Where the payloads are not mu-law of one channel, nothing is decoded: they are kept as they came, in the order
of their arrival, in a `.raw` file; of two tracks, in `-inbound.raw` and `-outbound.raw`. The JSON file names
their format.

A worker completes the files of one that has died, where they are in its folder. Else it begins a second part,
`-part2`, whose JSON file says what it continues. What is noted of a call grows, and so it is not in the
checkpoint but is read from the JSON file.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from mediastreams.audio.files import TakenOverError
from mediastreams.audio.wav import Written
from mediastreams.consumers.account import Continued, name_successor
from mediastreams.consumers.accounted import Accounted, OnAccount
from mediastreams.consumers.base import Checkpoint
from mediastreams.consumers.recording_files import Number
from mediastreams.protocol.messages import STREAM_SID, Media, Start, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import webvtt
from mediastreams.text import printable

logger = logging.getLogger(__name__)

RECORDED_EVERY = 0.45  # seconds of a recording that a crash may cost, less half a tick of the consumers
PARAMETER, NO = "record", "no"  # of the TwiML
_FIRST = 0.1  # seconds of audio: tracks begin a few ms apart, and the file begins with the first to begin
_MAX_APART = 1  # second by which a track may be behind the other where a part begins


class _State(Struct):
    """A checkpoint: what is written, and what is not in the account."""

    number: tuple[int, int]
    begin: int | None
    """The position at which this recording begins; None: nothing is written."""
    samples: int
    """How many of them the WAV file has."""
    raw: dict[Track, int]
    """How many bytes are written of each track that is not decoded."""
    unwritten: list[tuple[Track, int, bytes]]
    """Audio that was put and is not written yet; less than 0.1 s."""
    ends: dict[Track, int]
    """The position behind the last sample of each track."""
    noted: tuple[int, int, int]
    """How many keys, marks and texts the account has."""
    before: int
    """How many samples of the stream are in the parts before."""
    continues: Continued | None


class Recording(Accounted):
    """Records its stream into `folder`, which is made where it is missing.

    Where that fails, one line in the log says why, `on_failed` is called in the consumers' thread, and the
    recording ends: the file has what was written before. The JSON file is there from the start, and complete
    at the end of the stream; where the server is killed, it has no `end`. A stream whose SID is not one of
    Twilio's is not recorded, since it names the file.
    """

    def __init__(
        self,
        stream: Stream,
        folder: str,
        on_account: OnAccount | None = None,
        on_failed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(stream, on_account, folder)
        self._on_failed = on_failed
        self._folder = Path(folder)
        self._came = 0  # bytes of audio
        self._channels: dict[Track, int] = {}
        self._ends: dict[Track, int] = {}  # the position behind each track's last sample
        self._saved_transcripts = 0  # how many of them are in the file
        self._saved = self._account.noted, self._account.begin  # of the account in the file
        self._logged: set[str] = set()

    def start(self, message: Start) -> None:
        """Create the files."""
        self._begin(message, None)

    def resume(self, message: Start, state: Any) -> None:
        """Go on with the files of the worker that has written `state`, or with a further part."""
        if self._is_unwanted:  # so it was for the worker before
            super().resume(message, state)
        else:
            self._begin(message, self._converted(state, _State))

    def checkpoint(self) -> Checkpoint | None:
        """Return what is written; of a stream that is not to be recorded, what is noted.

        None where the recording has ended before its time, or has not begun.
        """
        files, account = self._files, self._account
        if self._is_unwanted:
            return super().checkpoint()
        if not files.audio or account.error is not None:
            return None
        if (account.noted, account.begin) != self._saved:
            self._save_account()
        tracks, wav = list(self._channels), files.wav
        state = _State(
            number=files.number,
            begin=wav.origin if wav else account.begin if self._ends else None,
            samples=wav.samples if wav else 0,
            raw={track: file.size for track, file in files.raw.items()},
            unwritten=[(tracks[n], position, audio) for n, position, audio in wav.unwritten()] if wav else [],
            ends=self._ends,
            noted=account.noted,
            before=account.before,
            continues=account.continues,
        )
        return Checkpoint(msgspec.to_builtins(state, builtin_types=(bytes,)))

    def media(self, message: Media) -> None:
        """Keep a payload that is not decoded; of a pause nothing, since nobody knows what silence is."""
        media = message.media
        if not self._files.raw or not self._is_announced(media.track):
            return
        self._ends[media.track] = max(self._ends.get(media.track, 0), media.timestamp)
        if self._account.error is not None or self.stream.pauses.overlaps(media.timestamp, media.timestamp):
            return
        try:
            self._files.raw[media.track].put(media.payload)
        except OSError as error:
            self._give_up(error)

    def audio(self, track: Track, position: int, payload: bytes) -> None:
        """Put the audio at its position; of a pause silence."""
        wav = self._files.wav
        if wav is None or not self._is_announced(track):
            return
        self._ends[track] = max(self._ends.get(track, 0), position + len(payload))
        if self._account.error is not None:
            return
        if wav.origin is not None and position < wav.origin:
            self._log_once(f"audio of {track} from before the recording began is left out")
        self._came += len(payload)
        try:
            wav.put(self._channels[track], position, self.stream.pauses.silenced(position, payload))
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Write the audio and the transcripts that have come."""
        if not self._files.audio or self._account.error is not None:
            return
        wav = self._files.wav
        if wav and wav.origin is None and self._came < _FIRST * self.stream.rate * len(self._channels):
            return
        try:
            self._files.flush()
        except OSError as error:
            self._give_up(error)
        self._save_transcripts()

    def stop(self) -> None:
        """Write the rest, and the JSON file as it is at the end."""
        files, stream = self._files, self.stream
        if not files.audio:
            super().stop()
            return
        if self._account.error is None:
            try:
                files.close()
            except OSError as error:
                self._give_up(error)
        self._save_transcripts()
        self._save_account()
        self._name_successor()  # again: the stream before may have ended meanwhile, as this server met it
        if files.is_replaced:  # who has taken it over hands the account over
            return
        super().stop()
        if self._account.error is not None:
            return
        if files.wav:
            seconds = files.wav.samples / stream.rate
            logger.info("Stream %s: %.2f s recorded in %s", stream.name, seconds, files.wav.path)
        for raw in files.raw.values():
            encoding = printable(stream.media_format.encoding)
            logger.info("Stream %s: %d bytes of %s kept in %s", stream.name, raw.size, encoding, raw.path)

    def abandon(self) -> None:
        """Close the files as they are."""
        self._files.abandon()

    @property
    def _is_unwanted(self) -> bool:
        start = self.stream.start
        assert start is not None
        return start.start.custom_parameters.get(PARAMETER, "").strip().lower() == NO

    @property
    def _end(self) -> int:
        return max(self._ends.values(), default=0) if self._files.audio else super()._end

    def _begin(self, message: Start, state: _State | None) -> None:
        """Create the files; with a state, go on with those that it tells of."""
        super().start(message)
        if self._is_unwanted:
            logger.info("Stream %s: not recorded, its TwiML has %s=%s", self.stream.name, PARAMETER, NO)
            return
        if not STREAM_SID.fullmatch(message.stream_sid):
            logger.warning("Stream %s: not recorded, its SID is not MZ and 32 digits", self.stream.name)
            return
        self._channels = {name: channel for channel, name in enumerate(self._files.tracks)}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if state is None:
                self._files.create()
            else:
                self._go_on(state)
        except TakenOverError:
            logger.warning("Stream %s: not recorded, another worker has taken it over", self.stream.name)
            self._on_account = None
            return
        except OSError as error:
            why = f"RECORDINGS_DIR={str(self._folder)!r} cannot be used: {error.strerror}"
            logger.error("Stream %s: not recorded, %s", self.stream.name, why)
            self._account.error = error.strerror or str(error)
            self._on_failed()
            return
        self._save_account()
        self._name_successor()

    def _go_on(self, state: _State) -> None:
        """Complete the files of the worker before; where they cannot be completed, begin the next part."""
        files, account, stream = self._files, self._account, self.stream
        number, began = Number(*state.number), state.begin or 0
        if files.take_over(number, Written(state.begin, state.samples), state.raw):
            account.before, account.continues = state.before, state.continues
            account.known_begin = state.begin
            if not account.read(state.noted):
                self._log_once("what was noted before the takeover is missing: its account cannot be read")
        else:
            begin, before, ends = began, files.name, state.ends.values()
            files.create(number)
            if state.begin is not None and ends:
                account.known_begin = begin = max(min(ends), max(ends) - _MAX_APART * stream.rate)
                if files.wav:
                    files.wav.origin = begin
            account.before = state.before + begin - began
            account.continues = Continued(before, round((begin - began) / stream.rate, 3))
            logger.info("Stream %s: %s continues %s", stream.name, files.name, before)
        self._ends = state.ends
        for track, position, audio in state.unwritten:
            self.audio(track, position, audio)

    def _is_announced(self, track: Track) -> bool:
        if track in self._channels:
            return True
        self._log_once(f"{track} is not among its tracks, not recorded")
        return False

    def _give_up(self, error: OSError) -> None:
        self._account.error = error.strerror or str(error)
        path = self._files.audio[0].path
        logger.error("Stream %s: the recording %s ends: %s", self.stream.name, path, self._account.error)
        self._on_failed()
        for file in self._files.audio:
            with contextlib.suppress(OSError):
                file.close()

    def _log_once(self, text: str, level: int = logging.WARNING) -> None:
        if text not in self._logged:
            self._logged.add(text)
            logger.log(level, "Stream %s: %s", self.stream.name, text)

    def _save_transcripts(self) -> None:
        transcripts = self._account.transcripts
        if len(transcripts) > self._saved_transcripts:
            self._save(".vtt", webvtt(transcripts))
            self._saved_transcripts = len(transcripts)

    def _save_account(self) -> None:
        account = self._account
        self._save(".json", account.to_json())
        self._saved = account.noted, account.begin

    def _name_successor(self) -> None:
        try:
            name_successor(self.stream, self._folder)
        except OSError as error:
            self._log_once(f"the account of the stream before cannot be written: {error.strerror}")

    def _save(self, suffix: str, text: str) -> None:
        files = self._files
        if files.is_replaced:
            self._log_once(f"another worker has taken {files.audio[0].path} over, nothing more is written")
            return
        try:
            files.save(suffix, text)
        except OSError as error:
            if self._account.error is None:  # else it has been logged that there is no room
                path = files.path(suffix)
                self._log_once(f"{path} cannot be written: {error.strerror}", logging.ERROR)
