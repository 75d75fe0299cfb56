"""The one place where settings, log, consumers, webhooks, metrics and server meet: a Flask extension."""

import logging
from collections.abc import Sequence
from functools import partial

from flask import Flask

from mediastreams import config, log, terminal
from mediastreams.config import Settings
from mediastreams.consumers.feeds import Consumers, Factory, Feed
from mediastreams.consumers.level_meter import LevelMeter
from mediastreams.consumers.recording import Recording, unusable
from mediastreams.protocol.messages import Start
from mediastreams.server.serve import serve
from mediastreams.server.state import ServerState
from mediastreams.server.websocket import WebSocket
from mediastreams.streams.stream import Stream
from mediastreams.terminal import Console
from mediastreams.transcription import select
from mediastreams.transcription.transcriber import Transcriber, TranscriptDisplay
from mediastreams.web import metrics
from mediastreams.web.addresses import addresses
from mediastreams.web.health import Health
from mediastreams.web.webhooks import Webhooks

logger = logging.getLogger(__name__)

RECORDED_EVERY = 0.45  # seconds: what a crash may cost of a recording, less half a tick


class MediaStreams:
    """Twilio's Media Streams for a Flask application: `streams = MediaStreams(app)`.

    It configures the log, adds the routes for Twilio's webhooks and for machines, and registers the consumers
    that the settings ask for: a recogniser, a recording. The application finds it in
    `app.extensions["mediastreams"]`, and so do gunicorn's workers.

    For the server's thread.
    """

    settings: Settings
    """The settings, loaded once."""
    state: ServerState
    """The server's state: its live WebSockets, and whether it drains."""

    def __init__(self, app: Flask, settings: Settings | None = None) -> None:
        """Add everything to `app`. `settings` None: those of the environment and `.env`.

        Where these cannot be used, the program ends with one line that says which.
        """
        self.settings = settings = config.load() if settings is None else settings
        log.configure(settings)
        self._app = app
        self._console: Console | None = None
        self._consumers = Consumers(on_missed=metrics.missed)
        self._metrics = metrics.StreamMetrics()
        self._streams = _CountedStreams(self._consumers, self._metrics)
        self.state = ServerState(
            settings,
            finish=self._consumers.finish,
            count_live=metrics.live,
            count_refused=metrics.refused,
        )
        self._register_consumers()
        app.register_blueprint(Webhooks(settings))
        app.register_blueprint(Health(self.state, self._metrics.count))
        app.extensions["mediastreams"] = self

    def open(self, ws: WebSocket) -> Stream:
        """Return the stream of a WebSocket that a route got: a context manager, see `Stream`."""
        return Stream(ws, self.settings, self._streams, metrics.handled)

    def register(self, factory: Factory) -> Factory:
        """Add a consumer: a subclass of `Consumer`, or what else makes one of a `Stream`. Returns it."""
        return self._consumers.register(factory)

    def serve(self) -> None:
        """Serve the application until SIGINT or SIGTERM, and drain; see `serve`.

        Prints where it listens. Where the log goes to a terminal and has INFO, the last lines show who is
        speaking and what is being said.
        """
        serve(self._app, self.state, self._announce)
        if self._console:
            self._console.close()

    def _register_consumers(self) -> None:
        settings, consumers = self.settings, self._consumers
        engine = select.choose(settings)
        if engine is not None:
            consumers.recognise(partial(Transcriber, engine=engine, on_unheard=self._metrics.unheard))
            consumers.register(partial(TranscriptDisplay, console=lambda: self._console))
            consumers.register(partial(metrics.TranscriptionLag, on_lag=self._metrics.lag))
        if settings.recordings_dir is not None:
            if why := unusable(settings.recordings_dir):
                logger.warning("RECORDINGS_DIR=%r cannot be used: %s", settings.recordings_dir, why)
            consumers.register(partial(Recording, folder=settings.recordings_dir), RECORDED_EVERY)

    def _announce(self, port: int) -> None:
        settings = self.settings
        host = settings.http_server_host
        if host in ("127.0.0.1", "::1", "0.0.0.0", "::"):
            host = "localhost"
        is_text = settings.log_format == "text"
        for line in (f"Server listening on: http://{host}:{port}", *addresses(settings, port)):
            print(line, flush=True) if is_text else logger.info(line)
        if not is_text or not logger.isEnabledFor(logging.INFO):
            return
        self._console = terminal.of_stderr()
        if self._console:
            self._console.capture()
            self._consumers.register(partial(LevelMeter, console=self._console))


class _CountedStreams:
    """Hands each stream to its consumers and to the metrics."""

    def __init__(self, consumers: Consumers, stream_metrics: metrics.StreamMetrics) -> None:
        self._consumers = consumers
        self._metrics = stream_metrics

    def begin(self, stream: Stream, message: Start) -> Sequence[Feed]:
        self._metrics.begin(stream)
        return self._consumers.begin(stream, message)

    def end(self, stream: Stream) -> None:
        self._consumers.end(stream)
        self._metrics.end(stream)
