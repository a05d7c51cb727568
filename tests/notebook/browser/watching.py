"""A page under watch: what it fetches, what it complains of, and how an element looks in every frame it paints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, Route, expect

SCREENSHOTS = Path(__file__).with_name("screenshots")
SETTLED_MS = 120_000  # other tests run beside these
LOOPBACK = ("127.0.0.1", "localhost")

# Heights and emptiness of everything that a selector finds, in every frame from here on.
_SAMPLE = """selectors => {
  const rows = [], empty = e => !e.innerText.trim() && !e.querySelector('svg, img, input');
  let on = true;
  const frame = () => {
    rows.push(selectors.map(s => [...document.querySelectorAll(s)].map(
      e => [e.getBoundingClientRect().height, empty(e), getComputedStyle(e).visibility, +getComputedStyle(e).opacity]
    )));
    if (on) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  window.__sampled = () => { on = false; return rows; };
}"""

_TALLEST = """() => {
  let most = 0;
  for (let e = document.querySelector('.dc-panel'); e; e = e.parentElement) most = Math.max(most, e.scrollHeight);
  return most;
}"""
_TOO_WIDE = """() => {
  const wide = [];
  for (let e = document.querySelector('.dc-panel'); e; e = e.parentElement)
    if (e.scrollWidth > e.clientWidth + 1) wide.push(`${e.className}: ${e.scrollWidth} px in ${e.clientWidth}`);
  return wide;
}"""


_READY = """async () => {
  const notebook = window.jupyterapp.shell.currentWidget;
  await notebook.context.ready;
  await notebook.sessionContext.ready;
  await notebook.sessionContext.session.kernel.info;
}"""


class Watched:
    """A page of a context that lets nothing off this machine, and keeps what went wrong.

    `off_loopback` and `errors` must be empty when a test ends; the fixture that gives it holds that.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.off_loopback: list[str] = []
        self.errors: list[str] = []
        context.route("**/*", self._let_through)
        context.on("request", self._seen)
        self.page: Page = context.new_page()
        self.page.set_default_timeout(SETTLED_MS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))

    def _seen(self, request: Request) -> None:
        place = urlsplit(request.url)
        if place.scheme not in ("data", "blob", "about") and place.hostname not in LOOPBACK:
            self.off_loopback.append(request.url)

    def _let_through(self, route: Route) -> None:
        if urlsplit(route.request.url).hostname in LOOPBACK:
            route.continue_()
        else:
            route.abort()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def hold(self) -> None:
        """Fail on whatever went wrong."""
        assert self.off_loopback == []
        assert self.errors == []


class Shown:
    """The panel on a page, as a user has it: boxes by their labels, sliders by their names."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.verdict = page.locator(".dc-verdict b")
        self.code = page.get_by_label("The scenario as Python")

    def ready(self) -> Shown:
        """Wait until a verdict stands there and everything below it is fresh."""
        self.verdict.wait_for(timeout=SETTLED_MS)
        self.settled()
        return self

    def settled(self) -> None:
        """Wait until nothing is dimmed any more."""
        expect(self.page.locator(".dc-dim")).to_have_count(0, timeout=SETTLED_MS)
        assert self.page.get_by_text("A fault of distillcalc").count() == 0

    def box(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def slider(self, label: str) -> Locator:
        return self.page.get_by_role("slider", name=f"{label}, slider", exact=True)

    def type(self, label: str, text: str, leads_to: str) -> None:
        """Type a number into a box, as a user does, and wait until the code of what is shown has it."""
        self.box(label).fill(text)
        self.box(label).press("Enter")
        expect(self.code).to_have_value(re.compile(re.escape(leads_to)), timeout=SETTLED_MS)
        self.settled()


@contextmanager
def sampled(page: Page, *selectors: str) -> Iterator[dict[str, list[Any]]]:
    """Sample elements in every frame meanwhile: selector -> frames -> (height, empty, visibility, opacity)."""
    frames: dict[str, list[Any]] = {}
    page.evaluate(_SAMPLE, list(selectors))
    yield frames
    rows = page.evaluate("window.__sampled()")
    frames |= {selector: [row[i] for row in rows] for i, selector in enumerate(selectors)}


def steady(frames: list[Any]) -> None:
    """Fail where an element was gone, empty, invisible or of another height in any frame."""
    assert len(frames) >= 10, "too few frames to tell"
    assert frames[0]
    assert {len(frame) for frame in frames} == {len(frames[0])}
    for at, frame in enumerate(frames):
        for (height, empty, visibility, opacity), (before, *_) in zip(frame, frames[0], strict=True):
            assert not empty, f"frame {at} is empty"
            assert visibility == "visible"
            assert opacity > 0.2
            assert abs(height - before) < 1, f"frame {at}: {height} px after {before} px"


def photographed(page: Page, name: str) -> None:
    """Keep a screenshot of all that scrolls around the panel, for people to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    seen = page.viewport_size
    assert seen is not None
    page.set_viewport_size({"width": seen["width"], "height": 200 + page.evaluate(_TALLEST)})
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    page.set_viewport_size(seen)


def too_wide(page: Page) -> list[str]:
    """What around the panel and in it is wider than its room, so that people would have to scroll sideways."""
    found: list[str] = page.evaluate(_TOO_WIDE)
    return found


def serious(page: Page, within: str | None = None) -> list[str]:
    """What axe finds serious or critical, as rule, words and the elements' HTML."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=within).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:150] for node in rule['nodes'][:5]]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def run_all(page: Page) -> None:
    """Run the notebook that JupyterLab or Notebook 7 shows, once its kernel answers."""
    page.evaluate(_READY)
    command(page, "notebook:run-all-cells")


def command(page: Page, name: str) -> None:
    """A command of JupyterLab or Notebook 7, as their menus call it."""
    page.evaluate("command => { window.jupyterapp.commands.execute(command); }", name)
