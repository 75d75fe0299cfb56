"""The files of the checkout, and copies of them."""

import shutil
import subprocess

from support.server import ROOT


def tracked(*folders):
    """Return the paths of the files that git tracks, or would, beneath these folders of the checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def copy_checkout(folder):
    """Copy them into a folder."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
