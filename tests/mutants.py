"""Puts small faults (mutants) into modules and prints those that the module's own tests do not notice.

    python tests/mutants.py                                       # every room without I/O
    python tests/mutants.py mediastreams/protocol/signature.py    # one module

Works on a copy, with mutmut. `mutants.md` lists the mutants that change nothing; these are not printed. The
exit status is 1 if another one survives.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = [
    *sorted(
        path.relative_to(ROOT)
        for room in ("protocol", "audio", "streams")
        for path in (ROOT / "mediastreams" / room).glob("[!_]*.py")
    ),
    *(
        Path("mediastreams") / name
        for name in (
            "server/frames.py",
            "server/deadlines.py",
            "server/handshake.py",
            "server/pacing.py",
            "caller/playout_buffer.py",
            "log/limit.py",
        )
    ),
]
CONFIG = """
[tool.mutmut]
source_paths = ["mediastreams"]
only_mutate = ["{module}"]
also_copy = ["app.py", "bench", "docs", "twiml", "conftest.py", "README.md"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "--hypothesis-profile=mutants", {deselected}]
pytest_add_cli_args_test_selection = ["{tests}"]
timeout_multiplier = 10
"""
# The same examples each time, and no deadline. A mutant's process is a fork of one that has run the tests.
CONFTEST = """
from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutants",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)
"""
ENVIRON = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
# The first has a Python of its own in another folder, without mutmut's settings. The others start a server.
DESELECTED = ", ".join(
    f'"--deselect=tests/{test}"'
    for test in (
        "audio/test_wav.py::TestWhileItGrows::test_no_room",
        "log/test_limit.py::test_a_loop_of_ones_own_keeps_its_lines",
        "log/test_limit.py::test_a_stream_of_unknown_events_keys_and_marks",
        "log/test_limit.py::test_refused_and_broken_connections",
    )
)
NOTICED = ("killed", "segfault")
SECONDS = 300  # for the tests of a module; a mutant that takes longer does not end


def main(modules: list[Path]) -> int:
    """Print a line for each module and each mutant that survives; return the exit status."""
    equivalent = (ROOT / "tests" / "mutants.md").read_text(encoding="utf-8")
    found = False
    for module in modules:
        section = re.search(rf"^## {re.escape(str(module))}\n(.*?)(?=^## |\Z)", equivalent, re.M | re.S)
        listed = section[1] if section else ""
        status = judge(module)
        survivors = {name: diff for name, diff in status.items() if diff}
        unlisted = {name: diff for name, diff in survivors.items() if f"`{diff}`" not in listed}
        print(f"{module}: {len(status)} mutants, {len(survivors)} survive, {len(unlisted)} unlisted")
        for name, diff in unlisted.items():
            print(f"  {name}\n    {diff}")
        sys.stdout.flush()
        found = found or bool(unlisted)
    return int(found)


def judge(module: Path) -> dict[str, str]:
    """Return a module's mutants: what each that survives changes, as `before -> after`; "" for the others."""
    tests = Path("tests", *module.parts[1:-1], f"test_{module.name}")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"), dirs_exist_ok=True)
        settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        settings += CONFIG.format(module=module, tests=tests, deselected=DESELECTED)
        Path(folder, "pyproject.toml").write_text(settings, encoding="utf-8")
        Path(folder, "conftest.py").write_text(CONFTEST, encoding="utf-8")
        mutmut(folder, "run", "--max-children", "1")
        lines = mutmut(folder, "results", "--all", "true").splitlines()
        status = dict(line.strip().split(": ") for line in lines if ": " in line)
        for name, state in status.items():
            if state not in NOTICED and notices(folder, module, tests, name):
                status[name] = "killed"
        return {
            name: "" if state in NOTICED else change(mutmut(folder, "show", name))
            for name, state in status.items()
        }


def notices(folder: str, module: Path, tests: Path, name: str) -> bool:
    """Return whether the tests notice a mutant in a process of its own.

    There it is also imported; mutmut imports the whole before. And a busy machine cannot let it time out.
    """
    source = Path(folder, module)
    whole = source.read_bytes()
    mutmut(folder, "apply", name)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(tests)]
    try:
        done = subprocess.run(
            command, cwd=folder, env=ENVIRON, stdout=subprocess.DEVNULL, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        source.write_bytes(whole)
    return done.returncode != 0


def mutmut(folder: str, *command: str) -> str:
    """Return what a command of mutmut prints. Raises `SystemExit` with it if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *command],
        cwd=folder,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-5000:])
    return done.stdout


def change(diff: str) -> str:
    """Return the changed lines of a diff as `before -> after`."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = (" ".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
    return f"{before} -> {after}"


if __name__ == "__main__":
    raise SystemExit(main([Path(each) for each in sys.argv[1:]] or MODULES))
