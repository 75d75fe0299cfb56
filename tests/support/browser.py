"""A real browser: Chromium, headless, driven by Playwright; and pages that notice what goes wrong in them."""

import importlib.util
import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
)
# In each page before its own scripts: what the Content-Security-Policy refuses, and a tap of what is played.
PROBE = """
window.violations = [];
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  violations.push(`${violatedDirective} ${blockedURI}`);
});
window.played = [[], []];
window.encoded = (floats) => {
  const bytes = new Uint8Array(Float32Array.from(floats).buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (!(to instanceof AudioDestinationNode) || this.context instanceof OfflineAudioContext) {
    return connect.call(this, to, ...rest);
  }
  window.rate = this.context.sampleRate;
  const tap = this.context.createScriptProcessor(16384, 2, 2);
  tap.onaudioprocess = ({ inputBuffer }) => {
    for (const n of [0, 1]) played[n].push(...inputBuffer.getChannelData(n));
  };
  connect.call(tap, to);
  return connect.call(this, tap);
};
"""


def _missing():
    """Return why there is no browser, "" where there is one."""
    for package in ("playwright", "axe_playwright_python"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed (pip install -r requirements-dev.txt)"
    return "" if _path() else f"none of {', '.join(NAMES)} is on PATH (apt-get install chromium)"


def _path():
    return next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser():
    """Return a Chromium for the tests of a module. Without one they are skipped, or fail in `.ci/run`."""
    if missing := _missing():
        (pytest.fail if os.environ.get("BROWSER_TESTS") == "required" else pytest.skip)(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_path(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens an address in a profile of its own: a page, as one person has it.

    Whatever a page logs as an error, raises, or is refused by its policy fails the test, but for lines with a
    word of `expected`.
    """
    pages = []

    def open_(address, expected=(), **options):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        context.add_init_script(PROBE)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.complaints = []
        page.expected = expected
        page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(f"{error} {error.stack}"))
        pages.append(page)
        page.goto(address)
        return page

    yield open_
    complaints = []
    for page in pages:
        complaints += page.evaluate("violations")
        complaints += [text for text in page.complaints if not any(word in text for word in page.expected)]
        page.context.close()
    assert complaints == [], complaints


def accessibility_violations(page):
    """Return what axe finds wrong in the page as it is, in both colour schemes."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for violation in Axe().run(page).response["violations"]:
            nodes = "; ".join(
                f"{node['html'][:160]} {node['failureSummary']}" for node in violation["nodes"][:3]
            )
            found.append(f"{scheme} {violation['id']}: {nodes}")
    return found
