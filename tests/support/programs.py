"""The programs that the files of `deploy/` are for, of the system or of a Python package."""

import os
import shutil
import sysconfig

import pytest


def executable(name, package):
    """Return the path of a program; without it the test is skipped, or fails where it is required."""
    folders = (sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/sbin", "/sbin")
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        if os.environ.get("DEPLOY_TESTS") == "required":
            pytest.fail(f"{name} is not on PATH")
        pytest.skip(f"{name} is not on PATH ({package})")
    return path
