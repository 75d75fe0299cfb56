"""Chooses the recogniser's engine by the settings."""

import importlib.util
import logging
import os
import sys

from mediastreams.config import SettingError, Settings, environment
from mediastreams.transcription import languages
from mediastreams.transcription.process_engine import EngineProcess

logger = logging.getLogger(__name__)

# What the log calls each, and its module.
_ENGINES = {
    "local": ("The local engine", "moonshine"),
    "google": ("Google", "google"),
    "amazon": ("Amazon", "amazon"),
    "watson": ("Watson", "watson"),
}
_NEEDED = {
    "amazon": ("aws_access_key_id", "aws_secret_access_key", "aws_region"),
    "watson": ("speech_to_text_apikey", "speech_to_text_url"),
}


def choose(settings: Settings) -> EngineProcess | None:
    """Return the engine that TRANSCRIBER asks for, else the local one; None where it is `off`.

    None also where the machine lacks what it needs (`log_obstacle`). Where a person must set or install
    something first, the program ends with one line that names it.
    """
    if settings.transcriber == "off":
        return None
    _check(settings)
    return None if obstacle(settings) else _engine(settings)


def require(settings: Settings) -> EngineProcess:
    """Return the engine that TRANSCRIBER asks for, else the local one.

    Where there can be none, the program ends with one line that says why.
    """
    if settings.transcriber == "off":
        sys.exit("TRANSCRIBER='off' cannot be used: a worker that transcribes needs a recogniser")
    _check(settings)
    if why := obstacle(settings):
        sys.exit(f"No transcripts: {why}")
    return _engine(settings)


def _check(settings: Settings) -> None:
    """End the program with one line where a person must set or install something first."""
    kind = settings.transcriber
    for name in _NEEDED.get(kind or "", ()):
        if getattr(settings, name) is None:
            sys.exit(f"TRANSCRIBER={kind!r} cannot be used: it needs {name.upper()}")
    if kind == "google" and not _is_installed("google.cloud.speech"):
        sys.exit("TRANSCRIBER='google' cannot be used: it needs pip install -r requirements-google.txt")
    _check_language(settings)


def _engine(settings: Settings) -> EngineProcess:
    name, module = _ENGINES[settings.transcriber or "local"]
    return EngineProcess(name, "mediastreams.transcription.process_main", environment(settings), module)


def _check_language(settings: Settings) -> None:
    """End the program with one line where the recogniser does not know the language."""
    kind, language = settings.transcriber or "local", settings.transcriber_language
    known = languages.NAMES.get(kind)
    if known is None:
        is_known = language.partition("-")[0] == "en"
        allowed = "en-US or other English: TRANSCRIBER='local' hears English only"
    else:
        is_known = language in known
        allowed = f"a language of TRANSCRIBER={kind!r}: {', '.join(sorted(known))}"
    if not is_known:
        sys.exit(str(SettingError("TRANSCRIBER_LANGUAGE", language, allowed)))


def log_obstacle(settings: Settings) -> None:
    """Log what there would have to be for transcripts, where they are wanted and there are none."""
    if settings.transcriber != "off" and (why := obstacle(settings)):
        level = logging.INFO if settings.transcriber is None else logging.WARNING
        logger.log(level, "No transcripts: %s", why)


def obstacle(settings: Settings) -> str:
    """Return why there can be no transcripts; "" where there can."""
    if not hasattr(os, "posix_spawn"):
        return "they need Linux or macOS"
    if settings.transcriber in (None, "local") and not _is_installed("moonshine_voice"):
        if not _has_wheel():
            return (
                "moonshine-voice is not there for this system, it needs Linux with glibc 2.34 or macOS 15 on "
                "Apple silicon (TRANSCRIBER=google, amazon or watson needs neither)"
            )
        return "moonshine-voice is not installed (pip install -r requirements-transcription.txt)"
    return ""


def _has_wheel() -> bool:
    """Return whether moonshine-voice can be installed on this system (`requirements-transcription.txt`)."""
    import platform

    machine = platform.machine()
    if sys.platform == "darwin":
        return machine == "arm64" and int(platform.mac_ver()[0].partition(".")[0] or 0) >= 15
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):  # another C library, such as musl
        return False
    is_new = name == "glibc" and tuple(map(int, version.split("."))) >= (2, 34)
    return is_new and machine in ("x86_64", "aarch64")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not
        return False
