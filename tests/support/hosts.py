"""Hosts of the test's own on this machine: network namespaces, on a switch whose cables can be unplugged."""

import contextlib
import os
import shutil
import subprocess

import pytest

NETWORK = "10.213.77"


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


class Hosts:
    """Hosts with an address each; a command runs on one with `on(host)` before it."""

    def __init__(self, *names):
        """Make them. The test is skipped where that needs rights or a program that are not there."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and `ip` (apt-get install iproute2)")
        self._prefix = f"ms{os.getpid()}"
        self._made = []
        self.addresses = {}
        self._switch = self._add("switch")
        run(*self._on(self._switch), "ip", "link", "add", "br0", "type", "bridge")
        run(*self._on(self._switch), "ip", "link", "set", "br0", "up")
        for number, name in enumerate(names, 1):
            self._connect(name, number)
        self._connect_test()

    def on(self, name):
        """Return what begins a command that runs on a host."""
        return self._on(f"{self._prefix}-{name}")

    @contextlib.contextmanager
    def unplugged(self, name):
        """Cut a host off while the block runs."""
        cable = self._cable(name)
        run(*self._on(self._switch), "ip", "link", "set", cable, "down")
        try:
            yield
        finally:
            run(*self._on(self._switch), "ip", "link", "set", cable, "up")

    def close(self):
        """Remove them."""
        for namespace in reversed(self._made):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)

    def _connect(self, name, number):
        namespace, cable = self._add(name), self._cable(name)
        address = self.addresses[name] = f"{NETWORK}.{number}"
        link = ("ip", "link", "add", cable, "netns", self._switch, "type", "veth")
        run(*link, "peer", "eth0", "netns", namespace)
        run(*self._on(self._switch), "ip", "link", "set", cable, "master", "br0", "up")
        run(*self._on(namespace), "ip", "address", "add", f"{address}/24", "dev", "eth0")
        run(*self._on(namespace), "ip", "link", "set", "eth0", "up")
        run(*self._on(namespace), "ip", "link", "set", "lo", "up")

    def _connect_test(self):
        """Give this machine an address on the switch, so that the test reaches the hosts."""
        device, cable = f"{self._prefix}-test"[:15], self._cable("test")
        run("ip", "link", "add", device, "type", "veth", "peer", cable, "netns", self._switch)
        run(*self._on(self._switch), "ip", "link", "set", cable, "master", "br0", "up")
        run("ip", "address", "add", f"{NETWORK}.254/24", "dev", device)
        run("ip", "link", "set", device, "up")

    def _add(self, name):
        namespace = f"{self._prefix}-{name}"
        run("ip", "netns", "add", namespace)
        self._made.append(namespace)
        return namespace

    @staticmethod
    def _on(namespace):
        return ["ip", "netns", "exec", namespace]

    @staticmethod
    def _cable(name):
        return f"to-{name}"
