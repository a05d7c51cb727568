"""The notebook of the panel in JupyterLab: its cells run, its sliders move, and its scenario outlives the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.notebook.browser.watching import (
    SCREENSHOTS,
    Shown,
    Watched,
    command,
    photographed,
    run_all,
    sampled,
    serious,
    steady,
)

pytestmark = pytest.mark.browser

REQUESTS = "Requests a day"


@pytest.fixture(scope="module")
def session(lab: str, watched: Callable[..., Watched]) -> Watched:
    """JupyterLab with notebook 01, run."""
    one = watched()
    one.page.goto(f"{lab}lab/tree/01_should_i_distill.ipynb")
    one.page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    run_all(one.page)
    return one


@pytest.fixture
def shown(session: Watched) -> Iterator[Shown]:
    yield Shown(session.page).ready()
    session.hold()


def test_the_panel_moves_in_jupyterlab_and_nothing_flickers(shown: Shown) -> None:
    shown.type(REQUESTS, "40000", "requests_per_day=40_000,")
    slider = shown.slider(REQUESTS)
    slider.scroll_into_view_if_needed()
    slider.focus()
    with sampled(shown.page, ".dc-verdict", ".dc-pic") as frames:
        for _ in range(60):
            shown.page.keyboard.press("ArrowLeft")
            shown.page.wait_for_timeout(30)
        expect(shown.verdict).to_contain_text("Call the big model")
        shown.settled()
    steady(frames[".dc-verdict"])
    steady(frames[".dc-pic"])
    photographed(shown.page, "lab-light")
    assert serious(shown.page, ".dc-panel") == []


def test_a_scenario_survives_the_kernel(shown: Shown) -> None:
    shown.type(REQUESTS, "6200", "requests_per_day=6_200,")
    told = shown.verdict.inner_text()
    shown.page.evaluate("document.querySelector('.dc-verdict').dataset.before = 'yes'")
    command(shown.page, "notebook:restart-run-all")
    shown.page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(shown.page.locator(".dc-verdict[data-before]")).to_have_count(0)
    shown.ready()
    expect(shown.box(REQUESTS)).to_have_value("6200")
    expect(shown.verdict).to_have_text(told)


def test_it_follows_jupyterlabs_dark_theme(shown: Shown) -> None:
    shown.page.evaluate(
        "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}).then(() => {})"
    )
    expect(shown.page.locator("body[data-jp-theme-light='false']")).to_have_count(1)
    shown.page.wait_for_timeout(500)
    photographed(shown.page, "lab-dark")
    assert serious(shown.page, ".dc-panel") == []


def test_a_dollar_begins_no_formula(lab: str, watched: Callable[..., Watched]) -> None:
    """JupyterLab typesets what stands between two dollars, and decisions are told in dollars."""
    one = watched(width=1280)
    one.page.goto(f"{lab}lab/workspaces/other/tree/00_start_here.ipynb")  # else it opens what the other page has open
    one.page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    run_all(one.page)
    told = one.page.locator(".distillcalc-decision").first
    expect(told).to_contain_text("$62,478 over 24 months against $103,548")
    one.page.wait_for_timeout(1_000)
    assert one.page.locator(".distillcalc-decision mjx-container").count() == 0
    told.screenshot(path=SCREENSHOTS / "lab-00.png")
    one.hold()
