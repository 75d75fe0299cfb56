"""The documents: links lead somewhere; each command is run, or listed here with the reason."""

import re
from xml.etree import ElementTree

import pytest
from support.markdown import Document
from support.server import ROOT, run_caller

from mediastreams.caller import SAMPLE, sound_file
from mediastreams.web.metrics import ENDINGS

DOCUMENTS = [
    Document(path)
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "bench" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
]
COMMAND = re.compile(
    r"^(?:\w+=\S+ )*(?:\S*bin/)?(?:python3?|pip|npm|npx|curl|ngrok|gunicorn|ruff|mypy|docker)\b", re.M
)
RUN_BY_THE_README_TEST = "tests/test_readme.py"
# Where the commands of a section are run, or why they cannot be.
COMMANDS = {
    ("README.md", "Start it"): RUN_BY_THE_README_TEST,
    ("README.md", "Call it without a phone"): RUN_BY_THE_README_TEST,
    ("README.md", "Call it with your phone"): "ngrok and the call through it need an account of theirs",
    ("README.md", "Live transcripts"): RUN_BY_THE_README_TEST,
    ("README.md", "Recording"): RUN_BY_THE_README_TEST,
    ("README.md", "Two-way streams"): RUN_BY_THE_README_TEST,
    ("docs/two-way-streams.md", "The TwiML"): RUN_BY_THE_README_TEST,
    ("README.md", "Deploy"): RUN_BY_THE_README_TEST,
    ("README.md", "Run the tests"): "it is the command that runs this test: .ci/run takes it from there",
    (
        "CONTRIBUTING.md",
        "Set up",
    ): "installs the requirements of the tests, as the command of 'Run the tests' does",
    ("CONTRIBUTING.md", "Test, lint, types"): ".ci/run",
    ("CONTRIBUTING.md", "Faults that the tests must notice"): "it runs the tests hundreds of times",
    (
        "docs/architecture.md",
        "The picture of the terminal",
    ): "needs rich, which draws the picture, and the recogniser",
    ("docs/call-webhook.md", "Set it up"): "tests/call_webhook/test_docs.py",
    ("docs/container.md", "Build the image"): "tests/deploy/conftest.py",
    ("docs/container.md", "Run the server"): "tests/deploy/test_container.py",
    ("docs/container.md", "Server, Redis and workers"): "tests/deploy/test_compose.py",
    ("docs/deploy.md", "gunicorn"): RUN_BY_THE_README_TEST,
    ("docs/first-call.md", "The tunnel"): "ngrok needs an account; python app.py: tests/test_readme.py",
    ("docs/first-call.md", "The number"): "tests/rest/test_number.py",
    ("docs/first-call.md", "A call to your phone"): "tests/rest/test_dial.py",
    ("docs/first-call.md", "When it does not work"): "tests/doctor/test_main.py",
    ("docs/redis.md", "Start it"): "tests/cluster/test_redis_page.py",
    ("docs/redis.md", "Your own consumer"): "tests/cluster/test_redis_page.py",
    (
        "bench/README.md",
        "What Redis costs",
    ): "tests/test_bench.py runs it short",
    ("docs/live-page.md", "The picture"): "needs Chromium and the recogniser",
    ("docs/troubleshooting.md", "Find the cause with the simulated caller"): RUN_BY_THE_README_TEST,
    (
        "bench/README.md",
        "Run it",
    ): "tests/test_bench.py runs it short; the other servers are not installed here",
    ("bench/README.md", "Two-way calls"): "tests/test_bench.py runs it short, without the other servers",
    ("bench/README.md", "What live pages cost"): "tests/test_bench.py runs it short",
    ("bench/README.md", "How late a page plays a call"): "needs Chromium, and minutes",
    ("bench/README.md", "Whether a server grows"): "tests/test_bench.py runs it short",
    (
        "bench/README.md",
        "How right and how late the transcripts are",
    ): "needs a recording of speech and its words",
}


def place(document):
    return document.path.relative_to(ROOT).as_posix()


def command_sections():
    return {
        (place(document), heading)
        for document in DOCUMENTS
        for heading in document.headings
        for language, text in document.section(heading)
        if language == "sh" or (not language and COMMAND.search(text))
    }


def test_every_command_is_run_or_listed():
    assert command_sections() == set(COMMANDS)


@pytest.mark.parametrize(
    "where", sorted({text for text in COMMANDS.values() if "/" in text.partition(" ")[0]})
)
def test_what_runs_them_is_there(where):
    assert (ROOT / where.partition(" ")[0]).exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_every_link_leads_somewhere(document):
    for link in document.links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = document.path.parent / path if path else document.path
        assert target.exists(), link
        if anchor:
            assert anchor in Document(target).anchors(), link


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_pictures_are_shown_and_have_a_size(picture):
    assert "viewBox" in ElementTree.parse(picture).getroot().attrib
    assert any(
        (document.path.parent / link).resolve() == picture
        for document in DOCUMENTS
        for link in document.links
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_headings_are_unique(document):
    assert sorted(set(document.headings)) == sorted(document.headings)


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_what_is_named_in_the_project_is_there(document):
    """A path in backquotes, such as `mediastreams/echo.py`, is that of a file."""
    named = re.findall(r"`((?:mediastreams|tests|twiml|bench|docs)/[\w./-]*)`", document.text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("ending", [*ENDINGS, "server lost"])
def test_each_ending_of_a_stream_is_named(ending):
    text = (ROOT / "docs" / "consumers.md").read_text(encoding="utf-8")
    assert re.search(rf"`{ending}(?: \d+)?`", text)


def test_audio_of_ones_own_is_heard(start_server, tmp_path):
    (example,) = Document(ROOT / "docs" / "two-way-streams.md").blocks("Audio of your own", "python")
    program = (ROOT / "app.py").read_text(encoding="utf-8")
    main = 'if __name__ == "__main__":'
    (tmp_path / "app.py").write_text(program.replace(main, f"{example}\n\n{main}"), encoding="utf-8")
    (tmp_path / "hello.wav").write_bytes(SAMPLE.read_bytes())
    server = start_server(cwd=tmp_path)
    heard = tmp_path / "heard.wav"
    url = f"{server.url.removesuffix('/media')}/hello"
    call = run_caller(url, "--parameter", "bidirectional=true", "--save-heard", str(heard), "--seconds", "6")
    assert (call.returncode, call.stderr) == (0, "")
    server.wait_for("Mark said played")
    (voice, *_), said = sound_file.read(str(heard)), sound_file.read(str(SAMPLE))[0]
    assert said in voice
