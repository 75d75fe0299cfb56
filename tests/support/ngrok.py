"""An agent of ngrok: its local API, with the tunnels that a test says."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Agent:
    """Answers `GET /api/tunnels` as ngrok's agent does. A context manager: it ends with the block.

    `tunnels` are pairs of a public address and of what it forwards to; `status` and `body` may be set to
    something else. `asked` has the headers of each request.
    """

    def __init__(self, *tunnels, port=0):
        self.tunnels = list(tunnels)
        self.status = 200
        self.body = None
        self.asked = []
        self.answers = threading.Event()
        self.answers.set()
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                agent.asked.append(dict(self.headers))
                agent.answers.wait()
                is_there = self.path == "/api/tunnels"
                body = agent.body if agent.body is not None else agent.list()
                self.send_response(agent.status if is_there else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # nobody waits any more
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def list(self):
        """Return the answer; an example is at https://ngrok.com/docs/agent/api/#list-tunnels."""
        tunnels = [
            {
                "name": f"command_line {number}",
                "ID": f"id{number}",
                "uri": f"/api/tunnels/command_line+{number}",
                "public_url": url,
                "proto": url.partition(":")[0],
                "config": {"addr": addr, "inspect": True},
                "metrics": {"conns": {"count": 0, "gauge": 0}, "http": {"count": 0}},
            }
            for number, (url, addr) in enumerate(self.tunnels)
        ]
        return json.dumps({"tunnels": tunnels, "uri": "/api/tunnels"}).encode()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.answers.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
