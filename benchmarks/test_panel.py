"""How long a user of the panel waits, measured in Chromium on the dashboard that Voila serves.

Key presses are timed by the page itself: from the key's event to the change of what is shown. Beside the panel stands a
bare slider whose handler only echoes its value: what Voila, the kernel and the browser take by themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from distillcalc.notebook.planner import QUIET_S

Record = Callable[..., None]

PRESSES = 60
PAUSE_MS = 90  # between presses: less than what starts the full view
NOTEBOOK = """
import ipywidgets as widgets
from distillcalc.notebook.served import served_panel
echo = widgets.HTML("<b>-</b>").add_class("echo")
slider = widgets.FloatLogSlider(1.0, min=-2, max=2, step=0.01, readout=False).add_class("bare")
slider.observe(lambda change: setattr(echo, "value", f"<b>{change['new']:.4g}</b>"), "value")
widgets.VBox([slider, echo, served_panel("support-triage")])
"""
SERVE = """
import sys
from pathlib import Path
from distillcalc.notebook.dashboard import serve
serve(Path(sys.argv[1]), started=lambda address: print(address, flush=True))
"""

# When the verdict is first seen, on the page's own clock, which starts with its navigation.
FIRST = """
const look = () => {
  const verdict = document.querySelector('.dc-verdict b');
  if (verdict && verdict.offsetParent !== null) window.__first = performance.now();
  else requestAnimationFrame(look);
};
look();
"""
# Time from each key to the next change of an element [ms].
WATCH = """selector => {
  window.__took = [];
  let pressed = null;
  addEventListener('keydown', () => { pressed = performance.now(); }, true);
  const target = document.querySelector(selector).closest('.widget-html, .jupyter-widgets');
  new MutationObserver(() => {
    if (pressed !== null) { window.__took.push(performance.now() - pressed); pressed = null; }
  }).observe(target, {childList: true, subtree: true, characterData: true});
}"""
# Time from the last key until the pictures are fresh, and until everything is [ms].
FRESH = """() => new Promise(done => {
  const panel = document.querySelector('.dc-panel'), took = [];
  let pressed = null, dimmed = 0;
  addEventListener('keydown', () => { pressed = performance.now(); }, true);
  new MutationObserver((_, observer) => {
    const old = [panel.querySelector('.dc-dim .dc-pic') !== null, panel.querySelector('.dc-dim') !== null];
    if (pressed === null || (dimmed === 0 && !(old[0] && old[1]))) return;
    dimmed = 1;
    for (const [i, still] of old.entries()) if (!still && took[i] === undefined) took[i] = performance.now() - pressed;
    if (took[0] !== undefined && took[1] !== undefined) { observer.disconnect(); done(took); }
  }).observe(panel, {attributes: true, attributeFilter: ['class'], childList: true, subtree: true});
})"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard with the panel and the bare slider; its address."""
    folder = tmp_path_factory.mktemp("panel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "panel.ipynb")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder / "panel.ipynb")], cwd=folder, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"JUPYTER_CONFIG_DIR": str(folder)},
    )  # fmt: skip
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium on this machine. Install it: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(chromium: Any, address: str) -> tuple[Any, float]:
    """A page with the panel on it, and how long its first verdict took [s]."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    page.add_init_script(FIRST)
    page.goto(address, wait_until="commit")
    page.wait_for_function("window.__first !== undefined")
    return page, page.evaluate("window.__first") / 1_000


def pressed(page: Any, slider: Any, shown: str) -> list[float]:
    """Milliseconds from each press of a key on a slider to the change of what is shown."""
    page.evaluate(WATCH, shown)
    slider.focus()
    for n in range(PRESSES):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"window.__took.length > {n}", polling=5)
        page.wait_for_timeout(PAUSE_MS)
    took: list[float] = page.evaluate("window.__took")
    assert len(took) == PRESSES
    return took


def test_first_verdict(benchmark: BenchmarkFixture, record: Record, chromium: Any, served: str) -> None:
    """At once after the address is printed, as a browser opens it; and a later page, whose kernel was made ready."""
    first = benchmark.pedantic(lambda: opened(chromium, served), rounds=1)
    first[0].close()
    time.sleep(15)
    page, later = opened(chromium, served)
    assert "Distill and self-host" in page.locator(".dc-verdict b").inner_text()
    page.close()
    record("dashboard: first verdict, opened at once", first[1], "s", below=6)
    record("dashboard: first verdict of a later page", later, "s")


def test_key_to_verdict(benchmark: BenchmarkFixture, record: Record, chromium: Any, served: str) -> None:
    """The price of the big model moves the volume at which the verdict turns: it changes at every step."""
    page, _ = opened(chromium, served)
    page.wait_for_timeout(8_000)  # the simulation after the first view, and the next page's kernel
    bare = pressed(page, page.locator(".bare [role=slider]"), ".echo b")
    price = page.get_by_role("slider", name="Big model's price [× list], slider", exact=True)
    ours = benchmark.pedantic(pressed, args=(page, price, ".dc-verdict b"), rounds=1)
    fresh = []
    for _ in range(5):
        page.wait_for_timeout(3_000)
        page.evaluate(f"() => {{ window.__fresh = ({FRESH})(); }}")
        page.keyboard.press("ArrowLeft")
        fresh.append(page.evaluate("window.__fresh"))
    page.close()
    record("panel: key press to verdict, p95", float(np.percentile(ours, 95)), "ms", below=80)
    record("panel: key press to verdict, median", float(np.median(ours)), "ms")
    record("bare slider: key press to echo, p95", float(np.percentile(bare, 95)), "ms")
    record("bare slider: key press to echo, median", float(np.median(bare)), "ms")
    pictures, everything = np.median(fresh, axis=0) - 1_000 * QUIET_S
    record("panel: pictures and table redrawn after the slider rests", float(pictures), "ms", below=400)
    record("panel: everything redrawn after the slider rests", float(everything), "ms", below=400)
