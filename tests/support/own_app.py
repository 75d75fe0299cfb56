"""Programs of a test's own: what is changed in app.py, and how a program ends that serves otherwise."""

from support.server import ROOT

# The tutorial's last lines: gevent-websocket's own server, on a port that the system chooses.
TUTORIALS_END = (
    "    from gevent import pywsgi\n"
    "    from geventwebsocket.handler import WebSocketHandler\n"
    "    server = pywsgi.WSGIServer(('127.0.0.1', 0), app, handler_class=WebSocketHandler)\n"
    "    server.start()\n"
    "    print('Server listening on: http://localhost:' + str(server.server_port), flush=True)\n"
    "    server.serve_forever()\n"
)


def app_with(line, lines):
    """Return the source of app.py with other lines instead of one that is in it."""
    source = (ROOT / "app.py").read_text()
    assert line in source
    return source.replace(line, lines)


def app_with_settings(**settings):
    """Return the source of app.py with settings that it changes itself."""
    changes = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return app_with(
        "streams = MediaStreams(app)\n",
        "from dataclasses import replace\nfrom mediastreams import load\n"
        f"streams = MediaStreams(app, replace(load(), {changes}))\n",
    )
