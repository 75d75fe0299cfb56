"""The routes for machines: `/livez` and `/healthz` are probes, `/metrics` is for Prometheus."""

import json
import logging
from collections.abc import Callable

from flask import Blueprint, Response, request

from mediastreams.server.sockets import LOG_LEVEL
from mediastreams.server.state import ServerState
from mediastreams.web import metrics


class Health(Blueprint):
    """The routes `/livez`, `/healthz` and `/metrics`; `count` brings the metrics up to date."""

    def __init__(self, state: ServerState, count: Callable[[], None]) -> None:
        super().__init__("mediastreams_health", __name__)
        self._state = state
        self._count = count
        self.before_request(self._log_quietly)
        self.add_url_rule("/livez", view_func=self.livez)
        self.add_url_rule("/healthz", view_func=self.healthz)
        self.add_url_rule("/metrics", view_func=self.metrics)

    def livez(self) -> Response:
        """Answer 200, also while the server drains: the answer itself shows that the server's loop turns.

        The liveness probe. An orchestrator that asked `/healthz` would kill a server that drains.
        """
        return Response('{"status": "ok"}\n', content_type="application/json")

    def healthz(self) -> Response:
        """Answer with the number of live streams: 200, or 503 while the server drains.

        The readiness probe.
        """
        live = self._state.live
        body = json.dumps({"status": "draining" if live.draining else "ok", "streams": len(live)})
        return Response(f"{body}\n", 503 if live.draining else 200, content_type="application/json")

    def metrics(self) -> Response:
        """Answer with the metrics of all workers."""
        self._count()
        return Response(metrics.page(), content_type=metrics.CONTENT_TYPE)

    @staticmethod
    def _log_quietly() -> None:
        request.environ[LOG_LEVEL] = logging.DEBUG  # these are asked for every few seconds
