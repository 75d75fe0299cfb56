"""Chooses the engine that the settings ask for."""

import importlib.util
import logging
import os
import sys

from mediastreams.config import Settings, environment
from mediastreams.transcription.process_engine import EngineProcess

logger = logging.getLogger(__name__)

_PROVIDERS = {"google": "Google", "amazon": "Amazon", "watson": "Watson"}
_NEEDED = {
    "amazon": ("aws_access_key_id", "aws_secret_access_key", "aws_region"),
    "watson": ("speech_to_text_apikey", "speech_to_text_url"),
}
# What an engine process reads from its environment.
_SETTINGS = (
    "google_speech_endpoint",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region",
    "aws_endpoint_url_transcribe_streaming",
    "speech_to_text_apikey",
    "speech_to_text_url",
    "speech_to_text_auth_url",
)


def choose(settings: Settings) -> EngineProcess | None:
    """Return the engine that TRANSCRIBER asks for; None where there is none, or nobody to read its texts.

    Without TRANSCRIBER that is the local one if it is installed, else a line says how to install it. Where an
    engine lacks what a person must set or install, the program ends with one line that names it.
    """
    kind = settings.transcriber
    is_read = settings.log_level in ("DEBUG", "INFO") or settings.recordings_dir is not None
    if kind == "off" or not is_read:
        return None
    for name in _NEEDED.get(kind or "", ()):
        if getattr(settings, name) is None:
            sys.exit(f"TRANSCRIBER={kind!r} cannot be used: it needs {name.upper()}")
    if kind == "google" and not _is_installed("google.cloud.speech"):
        sys.exit("TRANSCRIBER='google' cannot be used: it needs pip install -r requirements-google.txt")
    if not hasattr(os, "posix_spawn"):
        logger.warning("No transcripts: they need Linux or macOS")
        return None
    if kind in _PROVIDERS:
        module = "mediastreams.transcription.provider_process"
        return EngineProcess(_PROVIDERS[kind], module, _environment(settings), kind)
    if not _is_installed("moonshine_voice"):
        why = "moonshine-voice is not installed (pip install -r requirements-transcription.txt)"
        logger.log(logging.INFO if kind is None else logging.WARNING, "No transcripts: %s", why)
        return None
    return EngineProcess("The local engine", "mediastreams.transcription.moonshine", environment())


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment with these settings, which may be others than those that it gives."""
    environ = environment()
    for name in _SETTINGS:
        environ.pop(name.upper(), None)
        if (value := getattr(settings, name)) is not None:
            environ[name.upper()] = value
    return environ


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not
        return False
