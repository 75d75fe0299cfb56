"""Google Cloud Speech-to-Text, with Google's own client.

Keys are found as Google's libraries do, with GOOGLE_APPLICATION_CREDENTIALS; GOOGLE_SPEECH_ENDPOINT is
another server's address, http:// for one without TLS and keys, on this machine.

Source: https://cloud.google.com/speech-to-text/docs/transcribe-streaming-audio
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any

import grpc
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import speech_v1 as speech
from google.cloud.speech_v1.services.speech import SpeechClient

from mediastreams.transcription.provider import PATIENCE, Provider
from mediastreams.transcription.session import Backlog, SessionError


class Google(Provider):
    """Google's service, or that of the environment. `language` is its own name of a language (`languages`).

    Raises `GoogleAuthError` when there is no key.

    Each session has a thread for Google's client, which blocks: the one for asyncio reports "Internal error
    from Core" instead of Google's reason now and then (https://github.com/grpc/grpc/issues/36066).
    """

    name = "Google"
    session_seconds = 290.0  # Google ends a stream after 305 s

    def __init__(self, environ: Mapping[str, str], language: str = "en-US") -> None:
        super().__init__()
        self._language = language
        endpoint = environ.get("GOOGLE_SPEECH_ENDPOINT", "")
        if endpoint.startswith("http://"):
            transport = SpeechClient.get_transport_class("grpc")(
                channel=grpc.insecure_channel(endpoint.removeprefix("http://")),
                credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            )
            self._client = SpeechClient(transport=transport)
        else:
            options = ClientOptions(api_endpoint=endpoint.removeprefix("https://") or None)
            self._client = SpeechClient(client_options=options)

    def _config(self, rate: int) -> speech.StreamingRecognitionConfig:
        return speech.StreamingRecognitionConfig(
            config=speech.RecognitionConfig(
                encoding=speech.RecognitionConfig.AudioEncoding.MULAW,
                sample_rate_hertz=rate,
                language_code=self._language,
                enable_word_time_offsets=True,
            ),
            interim_results=True,
        )

    async def session(self, backlog: Backlog) -> None:
        """Send the chunks and add the texts, until Google has sent the last."""
        responses: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        arguments = backlog.chunks(), backlog.rate, responses, loop
        threading.Thread(target=self._hold, args=arguments, daemon=True).start()
        begin = 0.0
        while (response := await responses.get()) is not None:
            if isinstance(response, Exception):
                raise response
            for result in response.results:
                if not result.alternatives:
                    continue
                best = result.alternatives[0]
                end = result.result_end_time.total_seconds()
                start = best.words[0].start_time.total_seconds() if best.words else begin
                backlog.add_text(best.transcript, result.is_final, start, end)
                if not result.is_final:
                    break  # what follows is less stable, and would stand in its place
                begin = end

    def _hold(
        self,
        chunks: AsyncIterator[bytes],
        rate: int,
        responses: asyncio.Queue[Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Hold a session, in its thread: put the responses, then None or the error that has ended it.

        It never waits for who takes the responses: nobody does after the session was given up.
        """

        def put(response: Any) -> None:
            loop.call_soon_threadsafe(responses.put_nowait, response)

        def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        async def next_chunk() -> bytes | None:
            return await anext(chunks, None)

        def requests() -> Iterator[Any]:
            yield speech.StreamingRecognizeRequest(streaming_config=self._config(rate))
            while (chunk := wait(next_chunk())) is not None:
                yield speech.StreamingRecognizeRequest(audio_content=chunk)

        last: Exception | None = None
        try:
            for response in self._client.streaming_recognize(
                requests=requests(),
                retry=None,  # the client itself would go on with what is left of the requests
                timeout=self.session_seconds + PATIENCE,
            ):
                put(response)
        except (GoogleAPICallError, GoogleAuthError) as error:
            last = SessionError(getattr(error, "message", None) or str(error))
        except Exception as error:
            last = error
        put(last)


connect = Google
