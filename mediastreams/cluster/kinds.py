"""The consumers that `work` knows by name, and those that a module has."""

import importlib
import os
import sys
from dataclasses import replace

import click

from mediastreams.audio.files import unusable
from mediastreams.cluster.job import Kind
from mediastreams.config import Settings
from mediastreams.consumers.accounted import OnAccount
from mediastreams.consumers.base import Consumer
from mediastreams.consumers.old_recordings import OldRecordings
from mediastreams.consumers.recording import RECORDED_EVERY, Recording
from mediastreams.transcription import select
from mediastreams.transcription.transcriber import Transcriber


def kind_of(name: str, settings: Settings, on_account: OnAccount | None = None) -> Kind:
    """Return the consumer `recording`, `transcription` or MODULE:CLASS.

    `on_account` gets the account of each recording; None: nobody does. What is missing ends the program with
    one line that names it.
    """
    if name == "recording":
        kind = _recording(settings, on_account)
    elif name == "transcription":
        kind = _transcription(settings)
    else:
        consumer = _load(name)
        kind = Kind(name, lambda stream, _publish, _unheard: consumer(stream))
    return replace(kind, hides_keys=settings.log_digits == "off")


def _recording(settings: Settings, on_account: OnAccount | None) -> Kind:
    folder = settings.recordings_dir
    if folder is None:
        sys.exit("RECORDINGS_DIR is not set: a worker that records needs a folder")
    if why := unusable(folder):
        sys.exit(f"RECORDINGS_DIR={folder!r} cannot be used: {why}")
    if settings.recordings_days is not None:
        OldRecordings(folder, settings.recordings_days).start()
    return Kind(
        "recording",
        lambda stream, _publish, _unheard: Recording(stream, folder, on_account),
        every=RECORDED_EVERY,
    )


def _transcription(settings: Settings) -> Kind:
    engine = select.require(settings)
    return Kind(
        "transcription",
        lambda stream, publish, unheard: Transcriber(stream, engine, publish, unheard),
        recognises=True,
    )


def _load(name: str) -> type[Consumer]:
    """Return the class that MODULE:CLASS names; a module is looked for in the current folder as well."""
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise click.BadParameter(
            f"{name}: it must be recording, transcription or MODULE:CLASS", param_hint="CONSUMERS"
        )
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise click.BadParameter(
            f"{name}: {module_name} cannot be imported: {type(error).__name__}: {error}",
            param_hint="CONSUMERS",
        ) from None
    consumer = getattr(module, class_name, None)
    if not (isinstance(consumer, type) and issubclass(consumer, Consumer)):
        raise click.BadParameter(
            f"{name}: {class_name} is no subclass of Consumer in {module_name}", param_hint="CONSUMERS"
        )
    return consumer
