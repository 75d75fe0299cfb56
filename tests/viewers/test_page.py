"""The page in a real browser, with calls of the simulated caller."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime

import numpy
import pytest
import soxr
from support.browser import accessibility_violations
from support.recogniser import PROGRAM
from support.server import ROOT, SECONDS, TOKEN, run_caller
from websockets.sync.client import connect

from mediastreams.audio import mulaw
from mediastreams.caller import SAMPLE, sound_file
from mediastreams.text import command

pytestmark = pytest.mark.xdist_group("browser")  # one browser and one server for all

SAID = sound_file.read(str(SAMPLE))


@pytest.fixture(scope="module")
def served(start_shared_server, tmp_path_factory):
    """A server with a page, and calls that are recorded."""
    folder = tmp_path_factory.mktemp("recordings")
    return start_shared_server(PROGRAM, PAGE_TOKEN=TOKEN, RECORDINGS_DIR=str(folder))


@pytest.fixture(scope="module")
def call(served):
    """A call that both sides speak in, for as long as the tests run; its stream's SID."""
    with calling(served.url, "--parameter", "name=Ann", "--track", "both_tracks", "--seconds", "600"):
        yield served.wait_for(r'"streamSid":"(MZ[0-9a-f]+)"')[1]


@contextmanager
def calling(*arguments):
    command = [sys.executable, "-m", "mediastreams.caller", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True) as caller:
        yield
        caller.send_signal(signal.SIGINT)
        assert caller.wait(SECONDS) == 0


@pytest.fixture
def watch(served, open_page):
    """Return a function that opens the page of a server as somebody who has its token."""

    def watch(place="", server=served, **options):
        page = open_page(f"http://localhost:{server.port}/#{TOKEN}", **options)
        page.get_by_text("Connected", exact=True).wait_for()
        if place:
            page.evaluate("place => { location.hash = place; }", place)
        return page

    return watch


@pytest.fixture
def watch_call(watch, call):
    """Return a function that opens the page, and in it the call."""

    def watch_call(**options):
        page = watch(**options)
        page.locator(".row", has_text="Ann").locator("a").click()
        page.get_by_role("heading", name="Ann").wait_for()
        return page

    return watch_call


def wait_until(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value


def text(page, name):
    """Return the text of the shown view's part of this name."""
    return page.locator(f".detail [data-f={name}]").first.text_content()


def level(page, track):
    return page.locator(f".detail [data-f={track}]").evaluate("meter => meter.value")


def resemblance(heard, rate, said):
    """Return how much what was heard resembles what was said over and over: 0 to 1.

    That is the median over its loud stretches of 0.4 s, each wherever it resembles most.
    """
    heard = soxr.resample(heard, rate, 8000)
    said = numpy.concatenate([said, said[:3200]])
    energy = numpy.convolve(said**2, numpy.ones(3200), "valid")
    found = []
    for at in range(0, len(heard) - 3200, 3200):
        stretch = heard[at : at + 3200]
        if numpy.linalg.norm(stretch) > 1:
            fit = numpy.abs(correlate(said, stretch)) / numpy.sqrt(numpy.maximum(energy, 1))
            found.append(fit.max() / numpy.linalg.norm(stretch))
    return statistics.median(found)


def correlate(said, stretch):
    size = 1 << len(said).bit_length()
    spectrum = numpy.fft.rfft(said, size) * numpy.conj(numpy.fft.rfft(stretch, size))
    return numpy.fft.irfft(spectrum)[: len(said) - len(stretch) + 1]


def samples(mu_law):
    return numpy.frombuffer(mulaw.decode(mu_law), "<i2").astype("float32") / 32768


def test_who_has_the_token_sees_how_to_place_a_call(watch, served):
    page = watch()
    assert page.url == f"http://localhost:{served.port}/"
    assert page.locator("h2:visible").text_content() == "No calls now"
    shown = f"{command('call')} ws://localhost:{served.port}/media"
    assert page.locator(".command code").text_content() == shown
    assert accessibility_violations(page) == []


def test_words_come_within_100_ms_of_the_console(watch_call, served):
    page = watch_call()
    page.evaluate("""() => {
        window.seen = [];
        const speakers = { Caller: "caller", Callee: "callee" };
        new MutationObserver((changes) => {
            for (const line of changes.flatMap((change) => [...change.addedNodes])) {
                if (line.className !== "turn ") continue;
                const [time, speaker] = [...line.children].map((part) => part.textContent);
                seen.push([`${time} ${speakers[speaker]}`, Date.now() / 1000]);
            }
        }).observe(document.querySelector(".conversation"), { childList: true, subtree: true });
    }""")
    wait_until(lambda: page.evaluate("seen.length") >= 4, "four final texts")
    seen = dict(page.evaluate("seen"))
    served.logged()
    logged = {}
    for line in served.lines:
        if match := re.match(
            r"\[(.*?)\] INFO in transcriber: MZ\w+ (\S+ call(?:er|ee)): every word is made up", line
        ):
            logged[match[2]] = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    delays = [at - logged[what] for what, at in seen.items()]
    assert statistics.median(delays) < 0.1, delays


def test_a_partial_text_changes_in_place(watch_call):
    page = watch_call()
    lines = page.locator(".partial")
    first = wait_until(lambda: lines.all_text_contents(), "a partial text")
    wait_until(lambda: lines.all_text_contents() not in ([], first), "another one")
    assert lines.count() <= 2


def test_what_is_said_is_seen_and_heard(watch_call):
    page = watch_call()
    for track in ("inbound", "outbound"):
        speaks_and_rests(page, track)
    wait_until(lambda: page.locator("canvas").evaluate(HEIGHT_OF_INBOUND) > 20, "the caller's waveform")
    assert is_heard(page)


def is_heard(page):
    """Return whether in one of three times both sides are heard as they spoke.

    The machine is shared: where it stalls for longer than the page has sound, that is heard.
    """
    return any(min(listen(page)) > 0.9 for _ in range(3))


def listen(page):
    """Listen for 5.5 s; return how much what is heard of each track resembles what was said."""
    page.evaluate("played = [[], []]")
    page.locator(".detail").get_by_role("button", name="Listen").click()
    page.get_by_text("s behind").wait_for()
    wait_until(lambda: page.evaluate("played[0].length / rate") > 5.5, "sound of both")
    page.locator("#player").get_by_role("button", name="Stop").click()
    page.locator("#player").wait_for(state="hidden")
    heard = [floats(page.evaluate(f"encoded(played[{n}])")) for n in range(2)]
    return [resemblance(heard[n], page.evaluate("rate"), samples(said)) for n, said in enumerate(SAID)]


def speaks_and_rests(page, track):
    """Wait until a track's meter has moved, and rests again."""
    wait_until(lambda: level(page, track) > 20, f"{track} speaks")
    wait_until(lambda: "speaking" in text(page, f"{track}-db"), f"{track} is said to speak")
    wait_until(lambda: level(page, track) == 0, f"{track} is silent")
    wait_until(lambda: "speaking" not in text(page, f"{track}-db"), f"{track} is said to be silent")


def test_a_call_on_another_server_is_seen_and_heard(start_server, watch, redis_server):
    one, other = (start_server("-c", PROGRAM, PAGE_TOKEN=TOKEN, REDIS_URL=redis_server.url) for _ in range(2))
    call = ("--track", "both_tracks", "--seconds", "600")
    with calling(one.url, "--parameter", "name=Ann", *call):
        # At the end of the test the servers end before the page does.
        page = watch(server=other, expected=["ERR_CONNECTION_REFUSED", "WebSocket connection to"])
        row = page.locator(".row", has_text="Ann")
        row.locator("a").click()
        page.get_by_role("heading", name="Ann").wait_for()
        server = page.locator("dt", has_text="Server").locator("xpath=following-sibling::dd").text_content()
        assert server not in row.text_content()
        with calling(other.url, "--parameter", "name=Bob", *call):
            page.locator(".row", has_text="Bob").wait_for()
            assert server in row.text_content()
            assert server not in page.locator(".row", has_text="Bob").text_content()
        page.reload()
        page.get_by_role("heading", name="Ann").wait_for()
        speaks_and_rests(page, "inbound")
        page.get_by_text("every word is made up here").first.wait_for()
        wait_until(lambda: page.locator("canvas").evaluate(HEIGHT_OF_INBOUND) > 20, "the caller's waveform")
        assert is_heard(page)
        assert accessibility_violations(page) == []
        notice = page.get_by_text("Redis is away")
        redis_server.kill()
        notice.wait_for()
        redis_server.start()
        notice.wait_for(state="hidden")
        os.killpg(one.process.pid, signal.SIGSTOP)
        page.get_by_text("Ended: server lost").wait_for()
        os.killpg(one.process.pid, signal.SIGCONT)
        page.get_by_text("Live, one-way").wait_for()
        page.locator(".detail").get_by_role("button", name="Listen").wait_for()


HEIGHT_OF_INBOUND = """canvas => {
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    const rows = new Set();
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] && data[i + 1] - data[i] > 60) rows.add(Math.floor(i / 4 / width));
    }
    return rows.size;
}"""


def floats(encoded):
    return numpy.frombuffer(base64.b64decode(encoded), "<f4")


def test_the_worklet_plays_what_came(watch):
    page = watch()
    played, reports = play(page, frames(SAID[0], SAID[1]))
    left, right = played
    for heard, said in ((left, SAID[0]), (right, SAID[1])):
        assert resemblance(heard, 48000, samples(said)) > 0.99
        loudest = numpy.abs(samples(said)).max()
        assert abs(numpy.abs(heard).max() - loudest) < 0.1 * loudest
    assert reports[-1]["underruns"] == 1  # at the end
    assert 0.15 <= reports[1]["delay"] <= 0.3


def test_a_gap_is_silent_and_audio_after_it_is_on_time(watch):
    page = watch()
    tone = mulaw.encode((8000 * numpy.sin(numpy.arange(16000) / 3)).astype("<i2").tobytes())
    sent = [each for each in frames(tone, tone) if not 8000 <= each[2] < 9600]
    (left, _), _ = play(page, sent)
    loud = numpy.abs(left).reshape(-1, 480).max(axis=1) > 0.05  # each 10 ms
    begin = int(numpy.argmax(loud))
    assert loud[begin : begin + 98].all()
    assert not loud[begin + 102 : begin + 118].any()
    assert loud[begin + 122 : begin + 195].all()


def test_audio_that_comes_late_is_played_once_and_behind_by_the_target(watch):
    page = watch()
    tone = mulaw.encode((8000 * numpy.sin(numpy.arange(24000) / 3)).astype("<i2").tobytes())
    late = [
        (at + 0.6 if position >= 8000 else at, *rest)
        for at, *rest in frames(tone, tone)
        for position in rest[1:2]
    ]
    (left, _), reports = play(page, late)
    loud = numpy.abs(left).reshape(-1, 480).max(axis=1) > 0.05
    assert abs(loud.sum() - 300) <= 4  # 3 s, and nothing twice
    assert reports[-1]["underruns"] == 2
    # Much at once is cut to the target.
    burst = [(0.1 if at < 2 else at, *rest) for at, *rest in frames(tone, tone)]
    (left, _), reports = play(page, burst)
    loud = numpy.abs(left).reshape(-1, 480).max(axis=1) > 0.05
    assert 120 <= loud.sum() <= 145
    assert max(report["delay"] for report in reports) <= 0.4


def test_nothing_is_louder_than_full_scale_and_a_muted_track_is_silent(watch):
    page = watch()
    square = mulaw.encode((32767 * numpy.sign(numpy.sin(numpy.arange(8000) / 2))).astype("<i2").tobytes())
    (left, right), _ = play(page, frames(square, square), muted=[False, True])
    assert 0.9 < numpy.abs(left).max() <= 1
    assert numpy.abs(right[12000:]).max() < 0.001


def frames(inbound, outbound):
    """Return audio as a page gets it each 100 ms: when (seconds), the track's number, position, payload."""
    return [
        (position / 8000, track, position, audio[position : position + 800])
        for position in range(0, len(inbound), 800)
        for track, audio in enumerate((inbound, outbound))
    ]


PLAY = """async ([frames, muted, seconds]) => {
    const context = new OfflineAudioContext(2, seconds * 48000, 48000);
    await context.audioWorklet.addModule("/page/worklet.js");
    const node = new AudioWorkletNode(context, "player", { numberOfInputs: 0, outputChannelCount: [2] });
    const reports = [];
    node.port.onmessage = ({ data }) => reports.push(data);
    node.connect(context.destination);
    node.port.postMessage({ number: 7, rate: 8000 });
    node.port.postMessage({ muted });
    const post = (until) => {
        for (; frames.length && frames[0][0] <= until; frames.shift()) {
            const [, track, position, payload] = frames[0];
            const audio = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
            const data = new Uint8Array(8 + audio.length);
            const header = new DataView(data.buffer);
            header.setUint8(0, track);
            header.setUint16(2, 7, true);
            header.setUint32(4, position, true);
            data.set(audio, 8);
            node.port.postMessage(data.buffer);
        }
        return new Promise((done) => setTimeout(done, 15)); // for the messages to be there
    };
    await post(0.0);
    for (let at = 0.05; at < seconds; at += 0.1) {
        context.suspend(at).then(() => post(at)).then(() => context.resume());
    }
    const buffer = await context.startRendering();
    return [[0, 1].map((n) => encoded(buffer.getChannelData(n))), reports];
}"""


def play(page, sent, muted=(False, False)):
    """Return what the worklet plays of each track at 48 kHz, and what it reports each second."""
    sent = sorted(
        (at, track, position, base64.b64encode(payload).decode()) for at, track, position, payload in sent
    )
    seconds = int(sent[-1][0] + 2)
    played, reports = page.evaluate(PLAY, [sent, list(muted), seconds])
    return [floats(channel) for channel in played], reports


def test_two_viewers_see_the_same_and_one_that_stalls_holds_up_nobody(watch_call):
    stalled, other = watch_call(), watch_call()
    said = other.locator("[role=log] .turn")
    before = wait_until(said.count, "a final text")
    stalled.evaluate(
        "() => { setTimeout(() => { for (const end = Date.now() + 2500; Date.now() < end; ); }, 0); }"
    )
    began = time.monotonic()
    wait_until(lambda: said.count() > before, "the other one gets a text")
    assert time.monotonic() - began < 2.5
    last = Counter(said.all_text_contents())  # where a text stands may still change
    wait_until(
        lambda: last <= Counter(stalled.locator("[role=log] .turn").all_text_contents()), "it catches up"
    )


def test_each_view_is_accessible_and_fits_a_phone(watch_call):
    page = watch_call()
    page.locator("[role=log] .turn").first.wait_for()
    assert accessibility_violations(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert accessibility_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator(".back").click()
    page.locator(".row").first.wait_for()
    assert page.locator(".view").is_hidden()
    assert accessibility_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_who_wants_no_motion_sees_the_waveform_in_steps(watch_call):
    count = """() => {
        let drawn = 0;
        const clear = CanvasRenderingContext2D.prototype.clearRect;
        CanvasRenderingContext2D.prototype.clearRect = function (...box) {
            drawn++;
            return clear.apply(this, box);
        };
        return new Promise((done) => setTimeout(() => done(drawn), 1500));
    }"""
    page = watch_call(reduced_motion="reduce")
    assert 1 <= page.evaluate(count) <= 4


def test_what_is_special_of_a_server_is_said(watch):
    page = watch()
    page.route_web_socket("**/page/live", lambda socket: [socket.send(each) for each in (HELLO, CALLS)])
    page.reload()
    page.get_by_text("This page shows the calls of one of 4 worker processes").wait_for()
    page.get_by_role("heading", name="No calls in this worker process").wait_for()
    page.unroute_all()


def row(n, **fields):
    """Return the row of a call, as a server sends it."""
    return {
        "id": f"{n}",
        "streamSid": f"MZ{n:032x}",
        "callSid": f"CA{n:032x}",
        "parameters": {"number": f"#{n}"},
        "tracks": ["inbound"],
        "startedAt": 1_700_000_000.0 + n,
        "format": "audio/x-mulaw 8000 Hz",
        "decodable": True,
        "twoWay": False,
        "seconds": 1.0,
        **dict.fromkeys(("lost", "late", "bad", "missing"), 0),
        "words": None,
        "ending": "",
        "endedAt": None,
        "rate": 8000,
        **fields,
    }


@contextmanager
def as_server(page, *rows, **hello):
    """Reload the page; what a server says comes from here. Yield the WebSocket."""
    sockets = []
    page.route_web_socket("**/page/live", lambda socket: sockets.append(socket))
    page.reload()
    wait_until(lambda: page.wait_for_timeout(20) or sockets, "the WebSocket")
    (socket,) = sockets
    socket.send(json.dumps({**json.loads(HELLO), "workers": 1, **hello}))
    live, ended = ([row for row in rows if bool(row["endedAt"]) is is_ended] for is_ended in (False, True))
    socket.send(json.dumps({"event": "calls", "live": live, "ended": ended}))
    yield socket
    page.unroute_all()


@pytest.mark.parametrize(
    ("parameters", "name"),
    [({"name": "", "plan": "gold"}, "gold"), ({"name": "", "plan": " "}, "Call CA000000")],
)
def test_a_call_is_not_named_by_empty_parameters(watch, parameters, name):
    page = watch()
    with as_server(page, row(1, parameters=parameters)):
        assert page.locator(".row strong").text_content() == name


def test_a_call_that_is_read_stays_though_the_server_has_forgotten_it(watch):
    page = watch("#call/1")
    with as_server(page, row(1, ending="stop", endedAt=1_700_000_002.0), row(2), recordings=True) as socket:
        page.get_by_role("heading", name="#1").wait_for()
        said = {"id": "1", "track": "inbound", "speaker": "caller", "text": "hello", "final": True}
        socket.send(json.dumps({"event": "transcript", **said, "start": 0.0, "end": 1.0}))
        socket.send(json.dumps({"event": "removed", "ids": ["1"]}))
        with page.expect_response("**/page/recordings?"):  # as after the end of each call
            socket.send(json.dumps({**json.loads(HELLO), "recordings": True}))
        page.wait_for_timeout(100)
        assert page.locator("[role=log] .turn").count() == 1
        assert page.locator("a[href='#ended']").first.get_attribute("aria-current") == "page"
        page.keyboard.press("Escape")
        page.locator(".nothing").wait_for()


HELLO = json.dumps(
    {"event": "hello", "workers": 4, "recordings": False, "recogniser": False, "caller": "mediastreams call"}
)
CALLS = json.dumps({"event": "calls", "live": [], "ended": []})


def test_the_form_for_the_token_is_accessible_and_says_what_is_wrong(open_page, served):
    page = open_page(f"http://localhost:{served.port}/", expected=["403"])
    assert accessibility_violations(page) == []
    page.get_by_label("Token").fill("not it")
    page.get_by_role("button").click()
    page.get_by_role("alert").wait_for()
    assert accessibility_violations(page) == []
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button").click()
    page.get_by_text("Connected", exact=True).wait_for()


@pytest.mark.parametrize("place", ["live", "ended", "call/12345678901234567890"])
def test_a_place_of_the_page_is_no_token(open_page, served, place):
    """Who comes back when the login has run out has not failed to log in."""
    page = open_page(f"http://localhost:{served.port}/#{place}")
    page.get_by_label("Token").fill(TOKEN)
    assert page.get_by_role("alert").count() == 0
    assert page.url.endswith(f"/#{place}")
    page.get_by_role("button").click()
    page.get_by_text("Connected", exact=True).wait_for()
    assert page.url.endswith(f"/#{place}")


def test_an_address_without_the_name_of_a_recording(watch):
    page = watch()
    with page.expect_response("**/page/recordings?"):
        page.reload()
    page.evaluate("location.hash = '#recording'")
    page.locator("a[href='#ended'][aria-current=page]").wait_for()


def test_an_address_with_a_token_that_is_opened_in_a_tab_with_the_form(open_page, served):
    page = open_page(f"http://localhost:{served.port}/")
    page.get_by_label("Token").wait_for()
    page.goto(f"http://localhost:{served.port}/#{TOKEN}")
    page.get_by_text("Connected", exact=True).wait_for()
    assert "#" not in page.url


def test_a_recording_is_played_with_captions(watch, served):
    page = watch("#ended")
    url = served.url
    result = run_caller(
        url, "--track", "both_tracks", "--fast", "--parameter", "name=Bo", "--parameter", "plan=gold"
    )
    assert result.returncode == 0, result.stderr
    row = page.locator(".row", has_text="Bo · gold")
    row.get_by_role("link").click()
    turns = page.locator(".detail .conversation button")
    turns.first.wait_for()
    assert turns.first.text_content().endswith("every word is made up here")
    wait_until(lambda: page.locator("canvas").evaluate(HEIGHT_OF_INBOUND) > 20, "the peaks")
    audio = page.locator("audio")
    assert abs(audio.evaluate("audio => audio.duration") - 5.2) < 0.01
    turns.nth(2).click()  # plays from there
    wait_until(lambda: "every word" in text(page, "caption"), "a caption")
    assert audio.evaluate("audio => audio.currentTime") > 1.5
    assert not audio.evaluate("audio => audio.paused")
    assert turns.nth(2).get_attribute("aria-current") == "true"
    for kind in ("WAV", "VTT", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("link", name=re.compile(f"^{kind} ")).click()
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
    assert accessibility_violations(page) == []


def test_a_recording_of_another_server_is_shown_anew_when_it_has_ended(start_server, watch, tmp_path):
    page_server, other = (start_server(PAGE_TOKEN=TOKEN, RECORDINGS_DIR=str(tmp_path)) for _ in range(2))
    with connect(other.url, compression=None) as call:
        start_call(call, 1)
        other.wait_for('"event":"start"')
        wait_until(lambda: list(tmp_path.glob("*.json")), "the files")
        page = watch("#ended", page_server)
        page.locator(".row", has_text="#1").locator("a").click()
        page.get_by_text("No end was written").wait_for()
        stop_call(call, 1)
    wait_until(lambda: json.loads(next(tmp_path.glob("*.json")).read_text())["end"], "its end")
    with connect(page_server.url, compression=None) as call:
        start_call(call, 2)
    page.locator(".detail").get_by_text("Ended: hung up").wait_for()


class Recorded:
    """A server with recordings; `fill` adds some that look as if it had made them."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        assert run_caller(server.url, "--fast").returncode == 0
        self.name = next(folder.glob("*.wav")).stem

    def fill(self, day, count):
        """Add recordings of this day, one each second of it; return the names."""
        names = [f"{day}T{n // 60:04}{n % 60:02}.000Z-MZ{int(day) * 1000 + n:032x}" for n in range(count)]
        for name in names:
            for suffix in (".wav", ".json"):
                shutil.copy(self.folder / f"{self.name}{suffix}", self.folder / f"{name}{suffix}")
        return names

    def end_a_call(self, n=1):
        with connect(self.server.url, compression=None) as call:
            start_call(call, n)


@pytest.fixture
def recorded(start_server, tmp_path):
    folder = tmp_path / "recordings"
    return Recorded(start_server(PAGE_TOKEN=TOKEN, RECORDINGS_DIR=str(folder)), folder)


@pytest.fixture
def ended(recorded, watch):
    """Return a function that opens the list of the ended calls, where it has so many."""

    def ended(count, **options):
        page = watch("#ended", recorded.server, **options)
        has_ended(page, count)
        return page

    return ended


def has_ended(page, count):
    number = page.locator("[data-f=ended-count]")
    wait_until(lambda: number.text_content() == count, f"{count} ended calls, not {number.text_content()}")


def scroll_to_the_end(page):
    page.locator(".scroller").evaluate("scroller => scroller.scrollTo(0, scroller.scrollHeight)")


class TestTheListOfEndedCalls:
    def test_it_goes_on_where_the_newest_ones_are_live(self, ended, recorded):
        recorded.fill("20240101", 30)
        with ExitStack() as stack:
            calls = [stack.enter_context(connect(recorded.server.url, compression=None)) for _ in range(100)]
            for n, call in enumerate(calls):
                start_call(call, n)
            wait_until(lambda: len(list(recorded.folder.glob("*.json"))) == 131, "the files")
            ended("31")

    def test_nothing_is_left_out_after_an_absence(self, ended, recorded):
        page = ended("1")
        recorded.fill("20990101", 250)
        recorded.end_a_call()
        has_ended(page, "100+")
        for count in ("200+", "252"):
            scroll_to_the_end(page)
            has_ended(page, count)

    def test_one_that_was_removed_goes(self, ended, recorded):
        names = recorded.fill("20240101", 3)
        page = ended("4")
        for name in names[:2]:
            for file in recorded.folder.glob(f"{name}*"):
                file.unlink()
        recorded.end_a_call()
        has_ended(page, "3")
        shown = page.locator(".row a").evaluate_all("links => links.map(link => link.hash)")
        assert shown[2:] == [f"#recording/{names[2]}"]

    def test_an_answer_that_comes_behind_a_later_one_changes_nothing(self, ended, recorded):
        page = ended("1")
        held = []

        def answer(route):
            held.append((route, route.fetch()))

        page.route("**/page/recordings?", answer, times=1)
        recorded.end_a_call(1)
        wait_until(lambda: page.wait_for_timeout(20) or held, "the first answer")
        recorded.end_a_call(2)
        has_ended(page, "3")
        ((route, first),) = held
        with page.expect_response("**/page/recordings?"):
            route.fulfill(response=first)
        page.wait_for_timeout(100)
        has_ended(page, "3")

    def test_older_ones_are_asked_for_again_after_a_failure(self, ended, recorded):
        recorded.fill("20240101", 250)
        page = ended("100+", expected=["ERR_FAILED"])
        page.route("**/page/recordings?before=2*", lambda route: route.abort())
        with page.expect_event("requestfailed"):
            scroll_to_the_end(page)
        page.unroute_all()
        page.locator(".scroller").evaluate("scroller => scroller.scrollTo(0, 0)")
        scroll_to_the_end(page)
        has_ended(page, "200+")

    def test_it_stays_where_it_is_when_one_is_chosen(self, ended, recorded):
        recorded.fill("20240101", 90)
        page = ended("91")
        page.locator(".row a").first.focus()
        for _ in range(60):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.locator(".row a[aria-current=page]:focus").wait_for()
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.closest('.row').ariaPosInSet") == "62"
        page.evaluate("location.hash = '#live'")
        page.evaluate("location.hash = '#ended'")
        assert page.locator(".scroller").evaluate("scroller => scroller.scrollTop") == 0

    def test_a_login_that_has_run_out_is_asked_for(self, ended, recorded):
        page = ended("1", expected=["403"])
        page.context.clear_cookies()
        recorded.end_a_call()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        has_ended(page, "2")  # it is the list again


class TestARecording:
    def test_a_long_call_that_ends_behind_many_others(self, ended, recorded):
        with connect(recorded.server.url, compression=None) as long:
            start_call(long, 1)
            wait_until(lambda: len(list(recorded.folder.glob("*.json"))) == 2, "its file")
            page = ended("1")
            recorded.fill("20990101", 120)
            recorded.end_a_call(2)
            has_ended(page, "100+")
            stop_call(long, 1)
        (name,) = (file.stem for file in recorded.folder.glob(f"*MZ{1:032x}.json"))
        page.evaluate("name => { location.hash = `#recording/${name}`; }", name)
        page.locator(".detail").get_by_text("Ended: hung up").wait_for()
        page.reload()
        page.locator(".detail").get_by_text("Ended: hung up").wait_for()

    def test_a_call_whose_files_are_complete_a_while_after_its_end(self, ended, recorded):
        page = ended("1")
        answers = []

        def answer(route):
            answers.append(route.fetch())
            content = answers[-1].json()
            if len(answers) < 3:
                for row in content["recordings"]:
                    row["ended"] = None
            route.fulfill(response=answers[-1], json=content)

        page.route("**/page/recordings?*", answer)
        with connect(recorded.server.url, compression=None) as call:
            start_call(call, 1)
            stop_call(call, 1)
        has_ended(page, "2")
        (name,) = {file.stem for file in recorded.folder.glob("*.json")} - {recorded.name}
        page.evaluate("name => { location.hash = `#recording/${name}`; }", name)
        page.locator(".detail").get_by_text("Ended: hung up").wait_for()

    def test_one_without_its_json_file(self, recorded, watch):
        (recorded.folder / f"{recorded.name}.json").unlink()
        page = watch("#ended", recorded.server, expected=["404"])
        row = page.locator(".row:has(a[href^='#recording/'])")
        assert re.fullmatch("MZ[0-9a-f]{6}", row.locator(".sids").text_content().strip())
        row.get_by_role("link").click()
        page.get_by_text("cannot be read: There is no such file of a recording.").wait_for()
        wait_until(lambda: page.locator("canvas").evaluate(HEIGHT_OF_INBOUND) > 20, "the peaks")

    def test_it_is_drawn_once_a_frame_however_often_one_seeks(self, recorded, watch):
        page = watch(f"#recording/{recorded.name}", recorded.server)
        canvas = page.locator("canvas")
        wait_until(lambda: canvas.evaluate(HEIGHT_OF_INBOUND) > 20, "the peaks")
        page.locator("audio").evaluate("audio => { audio.loop = true; return audio.play(); }")
        for n in range(5):
            with page.expect_event("console", lambda line: line.text == "seeked"):
                page.locator("audio").evaluate(
                    "audio => audio.addEventListener('seeked', () => console.log('seeked'), { once: true })"
                )
                canvas.click(position={"x": 20 + 10 * n, "y": 40})
        drawn = page.evaluate("""async () => {
            let drawn = 0, frames = 0;
            const { clearRect } = CanvasRenderingContext2D.prototype;
            CanvasRenderingContext2D.prototype.clearRect = function (...box) {
                drawn++;
                clearRect.apply(this, box);
            };
            while (frames++ < 30) await new Promise(requestAnimationFrame);
            return drawn;
        }""")
        assert drawn <= 35


EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def test_what_a_peer_chose_is_text(watch, served):
    page = watch()
    start = {
        "streamSid": f"MZ{EVIL}",
        "callSid": f"CA{EVIL}",
        "accountSid": EVIL,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {EVIL: f"{EVIL}!"},
    }
    common = {"streamSid": f"MZ{EVIL}"}
    payload = base64.b64encode(bytes(8000)).decode()
    messages = [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {"event": "start", "sequenceNumber": "1", "start": start, **common},
        {"event": "dtmf", "sequenceNumber": "2", "dtmf": {"track": "inbound", "digit": EVIL}, **common},
        {"event": "mark", "sequenceNumber": "3", "mark": {"name": EVIL}, **common},
        *(
            {
                "event": "media",
                "sequenceNumber": str(4 + n),
                "media": {
                    "track": "inbound",
                    "chunk": str(n),
                    "timestamp": str(1000 * n),
                    "payload": payload,
                },
                **common,
            }
            for n in range(3)
        ),
        {"event": EVIL, "sequenceNumber": "7", **common},
    ]
    with connect(served.url, compression=None) as call:
        for message in messages:
            call.send(json.dumps(message))
        row = page.locator(".row", has_text="onerror").first
        row.locator("a").click()
        detail = page.locator(".detail")
        for part in ("facts", "conversation", "events", "log"):
            detail.locator(f"[data-f={part}]", has_text="onerror").wait_for()
        assert "onerror" in detail.locator("h2").text_content()
        assert page.locator("img, main script").count() == 0
        call.close()
    page.goto(f"{page.url.partition('#')[0]}#ended")
    assert page.title() != "owned"
    assert page.locator("img").count() == 0


def test_of_many_keys_the_last_thousand_are_kept(watch, served):
    page = watch()
    with connect(served.url, compression=None) as call:
        start_call(call, 1)
        page.locator(".row", has_text="#1").first.locator("a").click()
        events = page.locator(".detail [data-f=events]")
        for number in range(2, 1302):
            digit = {"track": "inbound_track", "digit": str(number)}
            message = {"event": "dtmf", "sequenceNumber": str(number), "dtmf": digit}
            call.send(json.dumps({**message, "streamSid": f"MZ{1:032x}"}))
        events.locator("li", has_text="Key 1301").wait_for()
        assert events.locator("li").count() == 1000


def test_recordings_are_listed_while_calls_end_one_after_the_other(watch, served):
    page = watch("#ended")
    count = page.locator("[data-f=ended-count]")
    before = count.text_content()
    deadline = time.monotonic() + SECONDS
    while count.text_content() == before:  # no second without the end of a call
        assert time.monotonic() < deadline, "no recording was listed"
        with connect(served.url, compression=None) as call:
            start_call(call, 2)
        page.wait_for_timeout(300)


def test_two_hundred_calls(watch, served):
    page = watch()
    with ExitStack() as stack, ThreadPoolExecutor(20) as pool:
        calls = list(
            pool.map(lambda n: stack.enter_context(connect(served.url, compression=None)), range(200))
        )
        list(pool.map(start_call, calls, range(200)))
        try:
            count = page.locator("[data-f=live-count]")
            wait_until(lambda: int(count.text_content()) >= 200, "200 calls")
            rows = page.locator(".row")
            assert rows.count() < 30
            rows.first.locator("a").focus()
            page.keyboard.press("End")
            last = rows.last
            wait_until(
                lambda: last.get_attribute("aria-posinset") == last.get_attribute("aria-setsize"), "the last"
            )
            page.keyboard.press("Home")
            page.keyboard.press("ArrowDown")
            name = page.evaluate("document.activeElement.textContent")
            assert name == rows.nth(1).locator("a").text_content()
            page.keyboard.press("Enter")
            page.get_by_role("heading", name=name, exact=True).wait_for()
        finally:
            list(pool.map(lambda call: call.close(), calls))


def test_a_two_way_call_has_the_name_of_its_call_and_is_not_among_the_ended_ones(watch, served):
    page = watch()
    with connect(served.url, compression=None) as call:
        start_call(call, 7, {"bidirectional": "true"})
        row = page.locator(".row", has_text="Call CA000000")
        row.locator("a").click()
        page.get_by_role("heading", name="Call CA000000").wait_for()
        assert "true" not in page.locator(".facts").text_content()
        page.evaluate("location.hash = '#ended'")
        page.reload()  # the list has its recording now
        page.locator("a[href='#ended'][aria-current=page]").wait_for()
        with page.expect_response("**/page/recordings*"):
            page.reload()
        assert page.locator(".row", has_text="Call CA000000").count() == 0
    page.reload()
    page.locator(".row", has_text="Call CA000000").wait_for()


def test_nobody_speaks_in_a_call_that_has_ended(start_server, watch):
    server = start_server(PAGE_TOKEN=TOKEN)
    page = watch(server=server)
    with calling(server.url, "--seconds", "60"):
        page.locator(".row a").click()
        speaking = page.locator(".row [data-f=speaking]")
        wait_until(lambda: speaking.text_content() == "Caller speaking", "a speaker")
    page.get_by_text("Ended: hung up").wait_for()
    assert speaking.text_content() == ""


def test_what_a_page_does_not_know_of_a_call_is_said(start_server, watch):
    server = start_server(PAGE_TOKEN=TOKEN)
    page = watch(server=server)
    with connect(server.url, compression=None) as call:
        start_call(call, 1)
        page.locator(".row").wait_for()
        page.keyboard.press("ArrowDown")
        page.locator(".row a:focus").wait_for()
        page.keyboard.press("Enter")
        page.get_by_text("No transcripts: the server has no recogniser (TRANSCRIBER).").wait_for()
        stop_call(call, 1)
        page.get_by_text("Ended: hung up").wait_for()
    assert page.locator("figure.wave").is_hidden()  # there is nothing to show


def start_call(call, n, parameters=None):
    start = {
        "streamSid": f"MZ{n:032x}",
        "callSid": f"CA{n:032x}",
        "accountSid": "AC0",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": parameters or {"number": f"#{n}"},
    }
    call.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
    call.send(
        json.dumps({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": start["streamSid"]})
    )


def stop_call(call, n):
    stop = {"accountSid": "AC0", "callSid": f"CA{n:032x}"}
    call.send(json.dumps({"event": "stop", "sequenceNumber": "2", "stop": stop, "streamSid": f"MZ{n:032x}"}))


def test_a_server_that_waits_for_its_calls_to_end_is_said_to_shut_down(start_server, watch):
    server = start_server(PAGE_TOKEN=TOKEN)
    page = watch(server=server, expected=["503", "1001", "ERR_", "WebSocket connection to"])
    with connect(server.url, compression=None) as call:
        start_call(call, 1)
        page.locator(".row", has_text="#1").wait_for()
        server.process.send_signal(signal.SIGTERM)
        for _ in range(2):
            with page.expect_response("**/healthz"):
                pass
        assert page.get_by_role("status").text_content() == "The server is shutting down. Trying again."
        assert page.title() == "Not connected"
    assert "refused with 503" not in server.stop()


class Road:
    """Forwards connections to a server. While it is cut nothing is forwarded, no end of one either."""

    def __init__(self, port):
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._is_cut = threading.Event()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self._is_cut.set()

    def mend(self):
        """Forward connections that come from now on; those of before are lost."""
        self._is_cut = threading.Event()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._sockets:
            each.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                ends = [self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._to))]
                self._sockets += ends
                for here, there in (ends, ends[::-1]):
                    arguments = (here, there, self._is_cut)
                    threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, here, there, is_cut):
        with suppress(OSError):
            while data := here.recv(65536):
                if is_cut.is_set():
                    return
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)


def test_a_server_that_can_no_longer_be_reached_is_said_to_be_gone(start_server, open_page):
    server = start_server(PAGE_TOKEN=TOKEN)
    road = Road(server.port)
    page = open_page("about:blank", expected=["ERR_", "WebSocket connection to"])
    page.clock.install()
    page.goto(f"http://localhost:{road.port}/#{TOKEN}")
    state = page.get_by_role("status")
    wait_until(lambda: state.text_content() == "Connected", "the connection")
    road.cut()
    page.clock.fast_forward(80_000)
    assert state.text_content() == "Connected"
    page.clock.fast_forward(20_000)
    wait_until(lambda: "Trying again." in state.text_content(), "that it is gone is said")
    with page.expect_websocket():
        page.clock.fast_forward(1000)
    road.mend()  # but for the handshake that is under way
    page.clock.fast_forward(100_000)
    wait_until(lambda: state.text_content() == "The server is gone. Trying again.", "that it still is")
    page.clock.fast_forward(5000)
    wait_until(lambda: state.text_content() == "Connected", "it is back")
    road.close()


def test_a_server_that_is_gone_is_said_to_be_and_comes_back(start_server, watch):
    server = start_server(PAGE_TOKEN=TOKEN)
    page = watch(server=server, expected=["ERR_CONNECTION_REFUSED", "WebSocket connection to", "403"])
    server.stop()
    state = page.get_by_role("status")
    wait_until(lambda: "is gone. Trying again." in state.text_content(), "that it is gone is said")
    again = start_server(PAGE_TOKEN=TOKEN, HTTP_SERVER_PORT=str(server.port))
    wait_until(lambda: state.text_content() == "Connected", "it is back")
    again.stop()
    start_server(HTTP_SERVER_PORT=str(server.port))  # with another token
    page.get_by_label("Token").wait_for()
