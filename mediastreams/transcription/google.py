"""Google Cloud Speech-to-Text, with Google's own client: a thread a track, in one process for all calls.

In a process, because gRPC and gevent each want the threads for themselves: where gevent has patched
(gunicorn), a call of gRPC would block the server for ever. Keys are found as Google's libraries do, with
GOOGLE_APPLICATION_CREDENTIALS; GOOGLE_SPEECH_ENDPOINT is another server's address, http:// for one without
TLS and keys, on this machine.

Source: https://cloud.google.com/speech-to-text/docs/transcribe-streaming-audio
Started by the server, as `python -m mediastreams.transcription.google` (`process_engine`).
"""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from mediastreams.audio.timeline import RATE
from mediastreams.transcription import process_protocol
from mediastreams.transcription.session import Backlog, CloudError, recognise

INSTALL = "pip install -r requirements-google.txt"
# Google ends a stream after 305 s.
SESSION_SECONDS = 290.0
PATIENCE = 14.0


def missing() -> str | None:
    """Say what must be installed; None where it is."""
    try:
        there = importlib.util.find_spec("google.cloud.speech")
    except ModuleNotFoundError:
        there = None
    return None if there else INSTALL


class Speech:
    """Google's client, and how it is asked."""

    def __init__(self, endpoint: str | None = None) -> None:
        import grpc
        from google.api_core.client_options import ClientOptions
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import speech_v1
        from google.cloud.speech_v1.services.speech import SpeechClient

        self._speech = speech_v1
        self._errors = (GoogleAPICallError, GoogleAuthError)
        if endpoint and endpoint.startswith("http://"):
            transport = SpeechClient.get_transport_class("grpc")(
                channel=grpc.insecure_channel(endpoint.removeprefix("http://")),
                credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            )
            self._client = SpeechClient(transport=transport)
        else:
            options = ClientOptions(api_endpoint=endpoint.removeprefix("https://") if endpoint else None)
            self._client = SpeechClient(client_options=options)
        self._config = speech_v1.StreamingRecognitionConfig(
            config=speech_v1.RecognitionConfig(
                encoding=speech_v1.RecognitionConfig.AudioEncoding.MULAW,
                sample_rate_hertz=RATE,
                language_code="en-US",
                enable_word_time_offsets=True,
            ),
            interim_results=True,
        )

    def session(self, backlog: Backlog) -> None:
        """Send what comes and tell what is heard, until Google has heard all. Raises `CloudError`."""
        begin = 0.0
        try:
            for response in self._client.streaming_recognize(
                # Not tried again by the client itself: it would go on with what is left of the requests.
                requests=self._requests(backlog.chunks()),
                retry=None,
                timeout=SESSION_SECONDS + PATIENCE,
            ):
                for result in response.results:
                    if not result.alternatives:
                        continue
                    best = result.alternatives[0]
                    end = result.result_end_time.total_seconds()
                    start = best.words[0].start_time.total_seconds() if best.words else begin
                    backlog.heard(best.transcript, result.is_final, start, end)
                    if result.is_final:
                        begin = end
                    else:
                        break  # what follows is less stable, and would stand in its place
        except self._errors as error:
            raise CloudError(f"Google: {getattr(error, 'message', None) or error}") from None

    def _requests(self, chunks: Iterator[bytes]) -> Iterator[Any]:
        yield self._speech.StreamingRecognizeRequest(streaming_config=self._config)
        for chunk in chunks:
            yield self._speech.StreamingRecognizeRequest(audio_content=chunk)


def follow(speech: Speech, number: int, backlog: Backlog) -> None:
    """Recognise one track to its end."""
    say = partial(_say, number)
    recognise(backlog, speech.session, SESSION_SECONDS, say, time.sleep)
    process_protocol.write(id=number, ended=True, dropped=backlog.dropped / RATE)


def _say(number: int, warning: str) -> None:
    process_protocol.write(id=number, warning=warning)


def _tell(number: int, text: str, final: bool, start: float, end: float) -> None:
    process_protocol.write(id=number, text=text, final=final, start=start, end=end)


def main() -> int:
    """Serve; return the exit status: 3 where there is no client to be had, and an event says why."""
    source = process_protocol.take_over()
    try:
        speech = Speech(*sys.argv[1:])
    except Exception as error:  # such as no credentials
        process_protocol.write(failed=f"{error}".partition("\n")[0])
        return 3
    backlogs: dict[int, Backlog] = {}
    for number, kind, audio in process_protocol.read(source):
        backlog = backlogs.get(number)
        if backlog is None:
            backlog = backlogs[number] = Backlog(partial(_tell, number), threading.Event())
            threading.Thread(target=follow, args=(speech, number, backlog), daemon=True).start()
        if kind == process_protocol.END:
            backlog.finish()
            del backlogs[number]
        else:
            backlog.feed(audio)
    return 0


if __name__ == "__main__":
    os._exit(main())  # without waiting for gRPC's threads
