"""gunicorn's settings, from those of `mediastreams.config`: `gunicorn app:app`, and `-w N` for N workers."""

from mediastreams.config import load

_settings = load()
_host = _settings.http_server_host

bind = f"{f'[{_host}]' if ':' in _host else _host}:{_settings.http_server_port}"
worker_class = "mediastreams.worker.Worker"
# Beyond MAX_STREAMS a handshake is answered (503), and so is /healthz.
worker_connections = _settings.max_streams + 100
# A worker drains by itself; gunicorn must not kill it before.
graceful_timeout = int(_settings.drain_timeout) + 10
