"""The dashboard in a real browser: sliders by keyboard and mouse, boxes, presets, pins, reloads, sizes and themes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from distillcalc.notebook import PRESETS
from tests.notebook.browser.watching import Shown, Watched, photographed, sampled, serious, steady, too_wide

pytestmark = pytest.mark.browser

REQUESTS = "Requests a day"
OUTPUT = (".dc-verdict", ".dc-pic", ".dc-scroll")


@pytest.fixture(scope="module")
def session(voila: str, watched: Callable[..., Watched]) -> Watched:
    """One page of the dashboard, for all tests that do not need their own."""
    one = watched()
    one.page.goto(voila)
    Shown(one.page).ready()
    return one


@pytest.fixture
def shown(session: Watched) -> Iterator[Shown]:
    """The panel as it was at the start; the page must be clean afterwards."""
    panel = Shown(session.page)
    session.page.get_by_role("button", name="Start over").click()
    session.page.get_by_label("Start from").select_option("Support triage")
    expect(session.page).to_have_url(re.compile(r"\?v=1&from=support-triage$"))
    panel.settled()
    yield panel
    session.hold()


def test_a_slider_moves_by_keyboard_and_nothing_flickers(shown: Shown) -> None:
    before = shown.verdict.inner_text()
    slider = shown.slider(REQUESTS)
    slider.focus()
    with sampled(shown.page, *OUTPUT) as frames:
        for _ in range(60):
            shown.page.keyboard.press("ArrowLeft")
            shown.page.wait_for_timeout(30)
        expect(shown.verdict).not_to_have_text(before)
        shown.settled()
    for selector in OUTPUT:
        steady(frames[selector])
    # Sixty steps of a hundredth of a decade from 4.60 lead to 10^4; on a busy machine ipywidgets loses some of them.
    # Slider and box say the same.
    place = float(slider.get_attribute("aria-valuenow") or "nan")
    expect(shown.box(REQUESTS)).to_have_value(f"{float(f'{10**place:.3g}'):.0f}")
    assert 4.0 <= round(place, 2) < 4.38
    expect(shown.verdict).to_contain_text("Call the big model")
    expect(slider).to_be_focused()


def test_a_slider_is_dragged_and_nothing_flickers(shown: Shown) -> None:
    before = shown.verdict.inner_text()
    handle = shown.slider(REQUESTS).bounding_box()
    assert handle
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    mouse = shown.page.mouse
    with sampled(shown.page, *OUTPUT) as frames:
        mouse.move(x, y)
        mouse.down()
        for step in range(1, 26):
            mouse.move(x - 4 * step, y)
            shown.page.wait_for_timeout(20)
        dragged = float(shown.box(REQUESTS).input_value())
        expect(shown.verdict).not_to_have_text(before)  # while the button is still down
        mouse.up()
        shown.settled()
    for selector in OUTPUT:
        steady(frames[selector])
    assert 10 < dragged < 40_000
    expect(shown.verdict).to_contain_text("Call the big model")


def test_a_number_is_typed_and_a_bound_is_explained(shown: Shown) -> None:
    shown.type(REQUESTS, "6200", "requests_per_day=6_200,")
    expect(shown.verdict).to_contain_text("Call the big model")
    shown.type("Growth [% a month]", "-500", "growth_per_month=-")
    note = shown.page.locator(".dc-control", has=shown.page.get_by_label("Growth [% a month]", exact=True))
    expect(note.locator(".dc-amber")).to_contain_text("-99 is taken")
    expect(shown.box("Growth [% a month]")).to_have_value("-99")


def test_every_preset_has_a_verdict(shown: Shown) -> None:
    list_of = shown.page.get_by_label("Start from")
    assert len(PRESETS) >= 5
    verdicts = set()
    with sampled(shown.page, ".dc-verdict", ".dc-pic") as frames:
        for name, title in PRESETS.items():
            list_of.select_option(title)
            expect(shown.page).to_have_url(re.compile(f"from={name}$"))
            shown.settled()
            verdicts.add(shown.verdict.inner_text())
    assert len(verdicts) == len(PRESETS)
    steady(frames[".dc-verdict"])
    steady(frames[".dc-pic"])


def test_fleets_are_simulated_once_it_rests(shown: Shown) -> None:
    shown.page.get_by_label("Start from").select_option(PRESETS["on-device"])
    expect(shown.page.locator(".dc-verdict")).to_contain_text("fleets simulated")
    expect(shown.verdict).to_contain_text("snapdragon")
    shown.settled()


def test_a_pinned_scenario_is_compared_with(shown: Shown) -> None:
    shown.page.get_by_role("button", name="Pin as A").click()
    expect(shown.page.get_by_role("button", name="Unpin A")).to_be_visible()
    shown.type(REQUESTS, "6200", "requests_per_day=6_200,")
    photographed(shown.page, "dashboard-pinned")
    difference = shown.page.locator(".dc-panel")
    expect(difference).to_contain_text(re.compile(r"40,000.*6,200", re.DOTALL))
    shown.page.get_by_role("button", name="Unpin A").click()
    expect(shown.page.get_by_role("button", name="Pin as A")).to_be_visible()


def test_a_scenario_survives_a_reload_and_can_be_sent_on(shown: Shown, voila: str) -> None:
    page = shown.page
    shown.type(REQUESTS, "6200", "requests_per_day=6_200,")
    shown.type("Answer [tokens]", "75", 'output_tokens={"mean": 75,')
    shown.settled()
    expect(page).to_have_url(re.compile("requests_per_day=6200"))
    told, address = shown.verdict.inner_text(), page.url
    page.reload()
    Shown(page).ready()
    assert page.url == address
    expect(shown.box(REQUESTS)).to_have_value("6200")
    expect(shown.box("Answer [tokens]")).to_have_value("75")
    expect(shown.verdict).to_have_text(told)


def test_an_address_that_cannot_be_right_is_told_on_the_page(watched: Callable[..., Watched], voila: str) -> None:
    one = watched()
    one.page.goto(f"{voila}?v=1&from=support-triage&requests_per_day=lots&theme=light")
    panel = Shown(one.page).ready()
    expect(one.page.get_by_role("alert")).to_contain_text("requests_per_day is a number. Got 'lots'")
    expect(panel.box(REQUESTS)).to_have_value("40000")
    panel.type(REQUESTS, "6200", "requests_per_day=6_200,")
    expect(one.page.get_by_text("requests_per_day is a number")).to_have_count(0)
    expect(one.page).to_have_url(re.compile("requests_per_day=6200.*theme=light"))
    one.hold()


def looks(one: Watched, theme: str) -> None:
    """The verdict is on the first screen, nothing is wider than the page, and axe finds nothing serious."""
    paper = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(int(part) for part in re.findall(r"\d+", paper)[:3]) / 3
    assert (shade < 80) == (theme == "dark")
    for width in (1280, 800):
        one.page.set_viewport_size({"width": width, "height": 900})
        one.page.wait_for_timeout(300)
        photographed(one.page, f"dashboard-{theme}-{width}")
        assert too_wide(one.page) == []
        verdict = Shown(one.page).verdict.bounding_box()
        assert verdict
        assert verdict["y"] + verdict["height"] < 600
        assert serious(one.page) == []
    one.page.set_viewport_size({"width": 1280, "height": 900})


def test_it_is_readable_at_both_widths_and_for_everybody(shown: Shown, session: Watched) -> None:
    looks(session, "light")


def test_it_is_dark_where_the_system_is(watched: Callable[..., Watched], voila: str) -> None:
    one = watched(dark=True)
    one.page.goto(voila)
    Shown(one.page).ready()
    looks(one, "dark")
    one.hold()
