"""One gevent WSGI server, from its start to the end of its drain."""

import errno
import gc
import logging
import signal
import sys
from collections.abc import Callable

import gevent
from flask import Flask
from gevent.event import Event

from mediastreams.config import Settings
from mediastreams.server.descriptors import Server
from mediastreams.server.handler import handler_of
from mediastreams.server.state import ServerState

# In the log these lines are the handler's, with those of pywsgi.
_errors = logging.getLogger("mediastreams.server.handler")


def serve(app: Flask, state: ServerState, announce: Callable[[int], None]) -> None:
    """Serve `app` on the settings' host and port until SIGINT or SIGTERM; `announce` is called with the port.

    The first of these signals drains (`ServerState.drain`), a second one ends the server at once. If it
    cannot listen, the program exits with one line that says why.
    """
    settings = state.settings
    address = settings.http_server_host, settings.http_server_port
    server = Server(address, app, handler_class=handler_of(state), log=None, error_log=_errors)
    try:
        server.init_socket()  # who connects from now on is answered when everything has started
    except OSError as error:
        sys.exit(_cannot_listen(settings, error))
    stopping, ending = Event(), Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, lambda: (ending if stopping.is_set() else stopping).set())
    state.port = int(server.address[1])
    announce(state.port)
    state.open()
    server.start()
    gc.freeze()  # no collection looks again at what was imported
    stopping.wait()
    gevent.spawn(state.drain).link(lambda _: ending.set())
    ending.wait()
    server.stop(timeout=0)


def _cannot_listen(settings: Settings, error: OSError) -> str:
    host, port = settings.http_server_host, settings.http_server_port
    if error.errno == errno.EADDRINUSE:
        return (
            f"HTTP_SERVER_PORT={port} cannot be used: another program listens there. "
            "Is this server running in another terminal? Stop it there with Ctrl-C, "
            f"or set another port, such as HTTP_SERVER_PORT={port + 1 if port < 65535 else 5000}."
        )
    if error.errno == errno.EACCES:
        return f"HTTP_SERVER_PORT={port} cannot be used: the system allows only ports from 1024 to this user."
    return f"HTTP_SERVER_HOST={host} cannot be used: {error.strerror or error}"
