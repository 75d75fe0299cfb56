"""The image of `deploy/Dockerfile`, for the tests that run it."""

import tempfile
from pathlib import Path

import pytest
from support.checkout import copy_checkout
from support.containers import Podman
from support.markdown import Document
from support.server import ROOT

PAGE = Document(ROOT / "docs" / "container.md")
ENV = "PAGE_TOKEN=0123456789abcdef\n"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the checkout, with what must not get into an image."""
    folder = tmp_path_factory.mktemp("checkout")
    copy_checkout(folder)
    (folder / ".env").write_text(ENV)
    for name in (".git/config", "recordings/call.wav", "mediastreams/.env", "mediastreams/__pycache__/a.pyc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    return folder


@pytest.fixture(scope="session")
def podman(checkout):
    """Podman with the image, made by the command of docs/container.md, and one of Redis."""
    with tempfile.TemporaryDirectory(prefix="containers-") as folder:
        podman = Podman(Path(folder))
        try:
            podman.make_base("localhost/base", "docker.io/library/redis:8")
            podman.build(PAGE.blocks("Build the image", "sh")[0], "localhost/base", checkout)
            yield podman
        finally:
            podman.stop()
