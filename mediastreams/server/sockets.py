"""Flask-Sockets' `@sockets.route` on today's Flask and Werkzeug.

Flask-Sockets 0.2.1 is from 2017, and each method here mends one thing that has changed under it. Routing is
Werkzeug's; a request becomes a WebSocket only once a route was found.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import flask_sockets
import gevent
from flask import Blueprint, Flask, current_app, request
from geventwebsocket.exceptions import WebSocketError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Rule, WebsocketMismatch
from werkzeug.wrappers import Response

from mediastreams.log.limit import Route, route
from mediastreams.text import printable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

HOW_TO_SERVE = (
    "start it with `streams.serve()` (`python app.py`), or with gunicorn and this project's gunicorn.conf.py"
)

Function = TypeVar("Function", bound=Callable[..., None])

# The handler puts a callable here: it upgrades the request, or raises a refusal, and runs the
# function that it is given with the WebSocket, once the application has returned.
UPGRADE = "mediastreams.upgrade"

# The settings of the application's `MediaStreams`, by which its handshakes are judged: a server may have two
# applications, each with its own.
SETTINGS = "mediastreams.settings"

# The level at which the handler logs a request's line; INFO if it is not set, NOTSET where a better line was
# logged.
LOG_LEVEL = "mediastreams.log_level"


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return an exception that answers the request with `status` and one line of plain text."""
    return HTTPException(response=Response(f"{text}\n", status, headers, content_type="text/plain"))


class SocketMiddleware(flask_sockets.SocketMiddleware):  # type: ignore[misc]
    """The WSGI application in front of Flask's: it answers what a `@sockets.route` matches."""

    app: Flask
    ws: "Sockets"
    wsgi_app: "WSGIApplication"

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Call the route's function with the WebSocket, or pass the request on to Flask.

        Flask-Sockets catches every KeyError around the function as if the route were missing, so that
        a bug in it ends the call in silence; and answers a plain GET with 500.
        """
        try:
            handler, values = self.ws.url_map.bind_to_environ(environ).match()
        except (NotFound, WebsocketMismatch, MethodNotAllowed) as error:
            # What is behind may have one at this path: other `Sockets`, the page, a mounted application.
            if isinstance(error, NotFound) or self.app.url_map.bind_to_environ(environ).test():
                return self.wsgi_app(environ, start_response)
            return self._refusal(error)(environ, start_response)
        except HTTPException as error:
            return error(environ, start_response)

        def run(websocket: Any) -> None:
            self._run(websocket, handler, values, environ)

        if streams := self.app.extensions.get("mediastreams"):
            environ[SETTINGS] = streams.settings
        try:
            _upgrade(environ, run)
        except HTTPException as refused:
            return refused(environ, start_response)
        return []

    def _run(
        self, websocket: Any, handler: Callable[..., None], values: dict[str, Any], environ: "WSGIEnvironment"
    ) -> None:
        route.set(Route(handler))  # for the whole greenlet: it logs more when the function has returned
        with self.app.request_context(environ):
            try:
                # Without `**` the call takes no C stack, which each switch between greenlets copies.
                handler(websocket, **values) if values else handler(websocket)
            except WebSocketError:
                pass  # it used a WebSocket that had ended; how that came is logged
            except (Exception, gevent.Timeout):  # a Timeout of gevent's is no Exception
                # The border of the route's function: the peer learns of it by the Close, nobody else.
                logger.exception("The function of %s failed", printable(environ["PATH_INFO"]))
                websocket.close(1011, "internal error")

    @staticmethod
    def _refusal(error: HTTPException) -> HTTPException:
        if isinstance(error, MethodNotAllowed):
            return error
        return refusal(
            426,
            "This is a WebSocket endpoint: connect to it with wss:// (ws:// on this machine).",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )


def _refuse_handshake() -> None:
    """Refuse a handshake that has come as far as Flask, where there is no route for it."""
    if request.url_rule is None and current_app.url_map.bind_to_environ(request.environ).websocket:
        raise refusal(404, "There is no WebSocket at this path.")


def _upgrade(environ: "WSGIEnvironment", run: Callable[[Any], None]) -> None:
    if websocket := environ.get("wsgi.websocket"):  # gevent-websocket's own handler
        run(websocket)
    elif upgrade := environ.get(UPGRADE):
        upgrade(run)
    else:
        text = f"This server cannot speak WebSocket: {HOW_TO_SERVE}."
        # On the console too: that is what a person reads who has started it with `flask run`.
        logger.error(text, extra={"limit": "refusals with 501"})
        raise refusal(501, text)


class Sockets(flask_sockets.Sockets):  # type: ignore[misc]
    """`sockets = Sockets(app)`, then `@sockets.route("/media")` over a function that takes a WebSocket."""

    def init_app(self, app: Flask) -> None:
        """Put the routes in front of those of `app`."""
        app.wsgi_app = SocketMiddleware(app.wsgi_app, app, self)  # type: ignore[method-assign]
        # First: else a handshake for a path without a route would be told to log in, or get a page.
        app.before_request_funcs.setdefault(None, []).insert(0, _refuse_handshake)

    def route(self, rule: str, **options: Any) -> Callable[[Function], Function]:
        """Return a decorator that adds a route, with the options of `werkzeug.routing.Rule`."""
        decorator: Callable[[Function], Function] = super().route(rule, **options)
        return decorator

    def add_url_rule(self, rule: str, _endpoint: str | None, f: Callable[..., None], **options: Any) -> None:
        """Add a route to `f`; the options are those of `werkzeug.routing.Rule`.

        Flask-Sockets drops the options; and without `websocket=True` Werkzeug 2 and later answer every
        handshake with `WebsocketMismatch`. The endpoint is `f` itself, as Flask-Sockets has it.
        """
        options.pop("provide_automatic_options", None)  # a Blueprint's word to Flask's views
        self.url_map.add(Rule(rule, endpoint=f, **{"websocket": True, "methods": ["GET"], **options}))

    def register_blueprint(self, blueprint: Blueprint, **options: Any) -> None:
        """Add the routes of `blueprint`, and of the blueprints that are registered on it.

        Flask-Sockets calls a method that Flask 2 has changed.
        """
        state = blueprint.make_setup_state(self, options, blueprint.name not in self.blueprints)
        self.blueprints[blueprint.name] = blueprint
        for add_route in blueprint.deferred_functions:
            add_route(state)
        for inner, inner_options in blueprint._blueprints:
            own = inner_options.get("url_prefix") or inner.url_prefix
            prefix = "/".join(path.strip("/") for path in (state.url_prefix, own) if path)
            inner_options = {**inner_options, "url_prefix": f"/{prefix}"}
            self.register_blueprint(inner, **inner_options)  # type: ignore[arg-type]  # it is one of Flask
