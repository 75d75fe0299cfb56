"""Which engine the settings ask for."""

import logging
import os
import sys

from mediastreams.config import Settings, environment
from mediastreams.transcription import google, moonshine
from mediastreams.transcription.base import Engine
from mediastreams.transcription.process_engine import Process

logger = logging.getLogger(__name__)


def choose(settings: Settings) -> Engine | None:
    """Return the engine that TRANSCRIBER asks for; None where there is none, or nobody to read it.

    Without TRANSCRIBER that is the local one if it is installed, else a line says how to install it. Where an
    engine lacks what a person must set or install, the program ends with one line that names it.
    """
    kind = settings.transcriber
    is_read = settings.log_level in ("DEBUG", "INFO") or settings.recordings_dir is not None
    if kind == "off" or not is_read:
        return None
    if kind == "amazon":  # loaded only then: the WebSocket of both providers takes time and memory
        from mediastreams.transcription import amazon

        return amazon.Amazon(
            _needed(settings, "aws_access_key_id"),
            _needed(settings, "aws_secret_access_key"),
            settings.aws_session_token,
            _needed(settings, "aws_region"),
            settings.aws_endpoint_url_transcribe_streaming,
        )
    if kind == "watson":
        from mediastreams.transcription import watson

        return watson.Watson(
            _needed(settings, "speech_to_text_apikey"),
            _needed(settings, "speech_to_text_url"),
            settings.speech_to_text_auth_url,
        )
    if kind == "google" and (install := google.missing()):
        sys.exit(f"TRANSCRIBER='google' cannot be used: it needs {install}")
    if not hasattr(os, "posix_spawn"):
        logger.warning("No transcripts: they need Linux or macOS")
        return None
    if kind == "google":
        endpoint = settings.google_speech_endpoint
        return Process("Google", google.__name__, environment(), *([endpoint] if endpoint else []))
    if why := moonshine.missing():
        logger.log(logging.INFO if kind is None else logging.WARNING, "No transcripts: %s", why)
        return None
    return Process("The local engine", moonshine.__name__, environment())


def _needed(settings: Settings, name: str) -> str:
    value: str | None = getattr(settings, name)
    if value is None:
        sys.exit(f"TRANSCRIBER={settings.transcriber!r} cannot be used: it needs {name.upper()}")
    return value
