"""The Flask extension: the one place where settings, log, consumers, webhooks, metrics and server meet."""

import contextlib
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask
from flask.logging import default_handler
from geventwebsocket.websocket import WebSocket as GeventWebSocket

from mediastreams import config, terminal
from mediastreams.audio.files import unusable
from mediastreams.config import Settings
from mediastreams.consumers.accounted import Accounted, OnAccount
from mediastreams.consumers.level_meter import LevelMeter
from mediastreams.consumers.old_recordings import OldRecordings
from mediastreams.consumers.recording import RECORDED_EVERY, Recording
from mediastreams.consumers.registry import Consumers, Factory
from mediastreams.exceptions import MediaStreamsError
from mediastreams.log.configure import configure
from mediastreams.protocol.messages import Start, StartMetadata
from mediastreams.protocol.twiml import RESUMES
from mediastreams.server.serve import serve
from mediastreams.server.sockets import HOW_TO_SERVE
from mediastreams.server.state import ServerState
from mediastreams.server.websocket import WebSocket
from mediastreams.streams.stream import Puts, Stream
from mediastreams.terminal import Console
from mediastreams.text import command, printable
from mediastreams.transcription import select
from mediastreams.transcription.transcriber import Transcriber, TranscriptDisplay
from mediastreams.viewers.access import Access
from mediastreams.viewers.calls import Calls, LiveCalls
from mediastreams.viewers.lines import Lines
from mediastreams.viewers.messages import Hello
from mediastreams.viewers.routes import Page
from mediastreams.viewers.viewer import LivePage, Viewers
from mediastreams.web import metrics
from mediastreams.web.addresses import local_url, to_paste, to_watch
from mediastreams.web.call_streams import CallStreams
from mediastreams.web.health import Health
from mediastreams.web.index import Index
from mediastreams.web.lateness import Lateness
from mediastreams.web.tunnel import ForwardedHost, Watch
from mediastreams.web.webhooks import Webhooks

if TYPE_CHECKING:
    from mediastreams.cluster.publisher import Publisher
    from mediastreams.viewers.servers import AllCalls

logger = logging.getLogger(__name__)

LEAST_SECONDS = 1.0  # for each step of the end


class MediaStreams:
    """Twilio's Media Streams for a Flask application: `streams = MediaStreams(app)`.

    One for each application. It configures the log, adds the routes for Twilio's webhooks, `/livez`,
    `/healthz` and `/metrics`, and registers the consumers that the settings ask for: a recogniser, a
    recording. The application and gunicorn's workers find it in `app.extensions["mediastreams"]`.

    For the server's thread.
    """

    settings: Settings
    """The settings, loaded once."""
    state: ServerState
    """The server's state: its live WebSockets, and whether it is draining."""

    def __init__(self, app: Flask, settings: Settings | None = None) -> None:
        """Add everything to `app`. Where `settings` is None, they are those of the environment and `.env`.

        A setting that cannot be used ends the program with one line that names it.
        """
        self.settings = settings = config.load() if settings is None else config.checked(settings)
        lines = Lines()
        configure(settings, None if settings.page_token == "off" else lines.add)
        # Flask's own, which `app.logger` has where it was used before: each line would come twice, once
        # without LOG_FORMAT and LOG_DIGITS.
        app.logger.removeHandler(default_handler)
        self._app = app
        self._console: Console | None = None
        self._consumers = Consumers(on_missed=metrics.missed)
        self._metrics = metrics.StreamMetrics()
        self._streams = _CountedStreams(self._consumers, self._metrics)
        self._starts: list[Callable[[], None]] = []  # what the server does when it takes connections
        self._finishes: list[Callable[[float], None]] = [self._consumers.finish]  # and at its end
        self.state = ServerState(
            settings,
            opened=self._open,
            finish=self._finish,
            count_live=metrics.live,
            count_refused=metrics.refused,
        )
        self._publisher: Publisher | None = None
        self._register_consumers()
        self._webhooks = Webhooks(settings, self._streams.of_calls)
        app.register_blueprint(self._webhooks)
        app.register_blueprint(Health(self.state, self._metrics.count))
        self._access = None if settings.page_token == "off" else Access(settings)
        self._page = self._access and Page(self._access, settings)
        self._index = Index(settings)
        app.register_blueprint(self._page or self._index)
        self._all_calls: AllCalls | None = None
        if self._access:
            self._show_calls(self._access, lines)
        self._tunnel: Watch | None = None
        if settings.public_url is None:
            app.wsgi_app = ForwardedHost(app.wsgi_app, lambda: self.settings.public_url)  # type: ignore[method-assign]
            if settings.ngrok_api != "off":
                self._tunnel = Watch(settings, self._use_public_url)
        app.extensions["mediastreams"] = self

    def open(self, ws: WebSocket) -> Stream:
        """Return the stream of a route's WebSocket: a context manager, see `Stream`.

        Raises `MediaStreamsError` for one of gevent-websocket's own server, which has no limits.
        """
        if type(ws) is GeventWebSocket:
            raise MediaStreamsError(f"`streams.open` needs the server of this project: {HOW_TO_SERVE}")
        self._start()  # where the server is that of another application, in which this one is mounted
        return Stream(ws, self.settings, self._streams, Lateness(metrics.handled).sample)

    def register(self, factory: Factory) -> Factory:
        """Add a consumer: a subclass of `Consumer`, or a function that makes one of a `Stream`. Return it."""
        return self._consumers.register(factory)

    def serve(self, arguments: Sequence[str] | None = None) -> None:
        """Serve the application until SIGINT or SIGTERM, and drain; see `serve`.

        It prints the address. Where the log goes to a terminal and shows INFO, the terminal's last lines show
        who is speaking and what is being said.

        `arguments` may say where to listen (`config.with_arguments`). None: those of the command line. A
        program with options of its own passes an empty list.
        """
        self._use(config.with_arguments(self.settings, arguments))
        serve(self._app, self.state, self._announce)
        if self._console:
            self._console.close()

    def _use(self, settings: Settings) -> None:
        self.settings = self.state.settings = self._webhooks.settings = self._index.settings = settings
        if self._access:
            self._access.settings = settings

    def _use_public_url(self, url: str | None) -> None:
        self._use(replace(self.settings, public_url=url))

    def _register_consumers(self) -> None:
        settings, consumers = self.settings, self._consumers
        if settings.redis_url is not None:
            self._publish_calls(settings.redis_url)
        engine = None if self._is_heard_by_workers else select.choose(settings)
        if engine is not None:
            consumers.recognise(partial(Transcriber, engine=engine, on_unheard=self._metrics.unheard))
        self._has_recogniser = engine is not None or self._is_heard_by_workers
        if self._has_recogniser:
            consumers.register(partial(TranscriptDisplay, console=lambda: self._console))
            consumers.register(partial(metrics.TranscriptionLag, on_lag=self._metrics.lag))
        on_account = self._post_accounts()
        if settings.recordings_dir is None and on_account is not None:
            consumers.register(partial(Accounted, on_account=on_account))
        if settings.recordings_dir is not None:
            record = partial(
                Recording,
                folder=settings.recordings_dir,
                on_account=on_account,
                on_failed=self._metrics.recording_failed,
            )
            consumers.register(record, RECORDED_EVERY)
            if settings.recordings_days is not None:
                self._starts.append(OldRecordings(settings.recordings_dir, settings.recordings_days).start)

    def _publish_calls(self, urls: str) -> None:
        """Let workers on other machines consume the calls; without TRANSCRIBER, transcribe them as well."""
        if importlib.util.find_spec("redis") is None:
            sys.exit("REDIS_URL cannot be used: it needs pip install -r requirements-redis.txt")
        # Not before it is needed: who does without Redis need not have its library.
        from mediastreams.cluster.connection import Shards
        from mediastreams.cluster.publisher import Publisher

        settings = self.settings
        publisher = Publisher(
            Shards(urls),
            settings.redis_window,
            settings.idle_timeout,
            on_figures=lambda figures: self._metrics.redis(*figures),
        )
        self._publisher = publisher
        self._starts += [publisher.start, self._metrics.keep_counting]
        self._finishes.append(publisher.finish)
        self._consumers.tap(publisher.begin)
        if self._is_heard_by_workers:
            from mediastreams.cluster.words import RemoteWords, WordReader

            reader = WordReader(publisher)
            self._finishes.append(reader.finish)
            self._consumers.recognise(partial(RemoteWords, reader=reader, on_unheard=self._metrics.unheard))

    def _post_accounts(self) -> OnAccount | None:
        """Let the accounts of streams be posted by what this returns; None: they are not to be."""
        if self.settings.call_webhook is None:
            return None
        # Not before it is needed: httpx takes 100 ms of CPU.
        from mediastreams.call_webhook.poster import CallWebhook

        webhook = CallWebhook.of(self.settings, self._metrics.account_given_up)
        self._starts.append(webhook.start)
        self._finishes.append(webhook.finish)
        return webhook.put

    @property
    def _is_heard_by_workers(self) -> bool:
        return self.settings.redis_url is not None and self.settings.transcriber is None

    def _show_calls(self, access: Access, lines: Lines) -> None:
        """Let pages watch the calls, through a WebSocket of their own."""
        app, publisher = self._app, self._publisher
        own = LiveCalls(self._consumers, lines)
        self._streams.calls = own
        calls: Calls = own
        if publisher:
            from mediastreams.viewers.servers import AllCalls  # imports redis, which is only there for this

            calls = all_calls = self._all_calls = AllCalls(
                own, lambda: publisher.server, publisher.shards.all[0]
            )
            self._starts.append(all_calls.start)
            self._finishes.append(lambda _seconds: all_calls.finish())
        viewers = Viewers(calls, access, self.settings.page_viewers, self._hello)
        self.state.close_pages = viewers.drain
        app.wsgi_app = LivePage(app.wsgi_app, viewers)  # type: ignore[method-assign]

    def _hello(self) -> Hello:
        has_recordings = self.settings.recordings_dir is not None
        calls = self._all_calls
        workers = 1 if calls else self.state.workers
        is_alone = bool(calls and calls.is_alone)
        return Hello(workers, has_recordings, self._has_recogniser, command("call"), is_alone)

    def _open(self) -> None:
        """Begin what goes on beside the streams, and log what the settings ask for and the machine lacks."""
        self._start()
        metrics.room(self.settings.max_streams)
        if self._tunnel and self.state.port:
            self._tunnel.start(self.state.port)
        if not self._is_heard_by_workers:
            select.log_obstacle(self.settings)
        folder = self.settings.recordings_dir
        if folder is not None and (why := unusable(folder)):
            logger.warning("RECORDINGS_DIR=%r cannot be used: %s", folder, why)

    def _start(self) -> None:
        """Start what goes on beside the streams; again it does nothing."""
        starts, self._starts = self._starts, []
        for start in starts:
            start()

    def _finish(self, seconds: float) -> None:
        """Wait at most so long for what the consumers still do, but at least for a moment for each step."""
        until = time.monotonic() + seconds
        for finish in self._finishes:
            finish(max(until - time.monotonic(), LEAST_SECONDS))

    def _announce(self, port: int) -> None:
        is_text = self.settings.log_format == "text"

        def say(*lines: str) -> None:
            for line in lines:
                if not is_text:
                    logger.info(line)
                    continue
                with contextlib.suppress(OSError):  # its disk is full, or nobody reads it
                    print(line, flush=True)

        token = self._access.token if self._access else ""
        page = self._page.path(self._app) if self._page else ""
        say(f"Server listening on: {local_url(self.settings, port)}")
        say(*to_watch(self.settings, port, token, page))
        if self._tunnel:
            self._tunnel.look(port)
        say(*to_paste(self.settings, port))
        if is_text and logger.isEnabledFor(logging.INFO):
            self._show_on_terminal()

    def _show_on_terminal(self) -> None:
        self._console = terminal.of_stderr()
        if self._console:
            self._console.capture()
            self._consumers.register(partial(LevelMeter, console=self._console))


class _CountedStreams:
    """Hands each stream to its consumers, the page and the metrics, and warns of a second for its audio."""

    calls: LiveCalls | None = None
    """What pages watch; None: there are none."""

    def __init__(self, consumers: Consumers, stream_metrics: metrics.StreamMetrics) -> None:
        self._consumers = consumers
        self._metrics = stream_metrics
        self._live: list[Stream] = []  # that have started
        self.of_calls = CallStreams(config.folder_for_calls())

    def begin(self, stream: Stream, message: Start) -> Puts:
        self._warn_of_second(stream, message.start)
        self._live.append(stream)
        self.of_calls.begin(stream)
        self._metrics.begin(stream)
        if self.calls:
            self.calls.begin(stream)
        return self._consumers.begin(stream, message)

    def end(self, stream: Stream) -> None:
        if stream in self._live:
            self._live.remove(stream)
        self.of_calls.end(stream)  # first: Twilio may ask at once how the call goes on
        self._consumers.end(stream)
        self._metrics.end(stream)
        if self.calls:
            self.calls.end(stream)

    def _warn_of_second(self, stream: Stream, start: StartMetadata) -> None:
        """Log that another live stream has a track of the same call: what it carries is handled twice."""
        for other in self._live:
            assert other.start is not None
            tracks = set(start.tracks) & set(other.start.start.tracks)
            if start.custom_parameters.get(RESUMES) == other.start.start.stream_sid:
                continue  # it broke, though this server has not met that yet
            if other.start.start.call_sid == start.call_sid and tracks:
                logger.warning(
                    "Stream %s: call %s has a second live stream of its %s track, beside %s; check that the "
                    "TwiML has one <Stream> and that Twilio asked for it once (two webhooks for one call)",
                    stream.name,
                    printable(start.call_sid),
                    " and ".join(sorted(tracks)),
                    other.name,
                )
                return
