"""Chooses the recogniser's engine by the settings."""

import importlib.util
import logging
import os
import sys

from mediastreams.config import Settings, environment
from mediastreams.transcription.base import Engine
from mediastreams.transcription.process_engine import EngineProcess

logger = logging.getLogger(__name__)

_PROVIDERS = {"google": "Google", "amazon": "Amazon", "watson": "Watson"}
_NEEDED = {
    "amazon": ("aws_access_key_id", "aws_secret_access_key", "aws_region"),
    "watson": ("speech_to_text_apikey", "speech_to_text_url"),
}


def choose(settings: Settings) -> Engine | None:
    """Return the engine that TRANSCRIBER asks for; None where there is none, or where nothing uses its texts.

    Without TRANSCRIBER it is the local engine; where that is not installed, a line tells how to install it.
    Where an engine lacks a setting or a package, the program ends with one line that names it.
    """
    kind = settings.transcriber
    is_used = settings.log_level in ("DEBUG", "INFO") or settings.recordings_dir is not None
    if kind == "off" or not is_used:
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
        return EngineProcess(_PROVIDERS[kind], module, environment(settings), kind)
    if not _is_installed("moonshine_voice"):
        why = "moonshine-voice is not installed (pip install -r requirements-transcription.txt)"
        logger.log(logging.INFO if kind is None else logging.WARNING, "No transcripts: %s", why)
        return None
    return EngineProcess("The local engine", "mediastreams.transcription.moonshine", environment(settings))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not
        return False
