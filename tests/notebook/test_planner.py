"""The panel in process: what moves, what is shown meanwhile, what goes wrong, and what outlives it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from distillcalc import Scenario, recommend
from distillcalc.errors import InputError, UnknownName
from distillcalc.notebook import Panel, panel, planner
from distillcalc.notebook.presets import preset


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(planner, "QUIET_S", 0.05)
    monkeypatch.setattr(planner, "STILL_S", 0.05)


@pytest.fixture
def _all_parts() -> None:
    """A test that asks for this sees the parts that search for where the decision changes."""


@pytest.fixture(autouse=True)
def _without_the_search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others leave them out: they take half a second, at every change."""
    if "_all_parts" not in request.fixturenames:
        monkeypatch.setattr(planner, "REST", ())
        monkeypatch.setattr(planner, "PREVIEW_DRAWS", 64)


def made(scenario: Any = "support-triage", **options: Any) -> Panel:
    return Panel(scenario, simulate=False, **options)


def parts(shown: Panel) -> Any:
    return shown._parts


def dimmed(shown: Panel) -> bool:
    first, rest = ("dc-dim" in part._dom_classes for part in (parts(shown).monthly, parts(shown).mind))
    return bool(first and rest)


async def settled(shown: Panel) -> None:
    while shown._later.busy:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)


@pytest.mark.usefixtures("_all_parts")
def test_the_verdict_is_there_from_the_start() -> None:
    shown = panel("support-triage")
    assert isinstance(shown, Panel)
    assert "pays back in 12.2 months; calling the big model wins below 24,100" in parts(shown).verdict.value
    assert "<svg" in parts(shown).monthly.value
    assert "the volume below 24,100" in parts(shown).mind.value
    assert "dc-dim" not in parts(shown).monthly._dom_classes
    assert shown.message == ""


def test_a_slider_changes_the_scenario_the_verdict_and_the_rest() -> None:
    shown = made()
    parts(shown).sliders["requests_per_day"].handle.value = 6_200
    assert shown.scenario.workload.requests_per_day == 6_200
    assert "Call the big model" in parts(shown).verdict.value
    assert shown.view.recommendation == recommend(shown.scenario).recommendation == "call-teacher"
    assert "$0.00" in parts(shown).options.value


@pytest.mark.usefixtures("_all_parts")
def test_while_it_moves_the_old_result_is_dimmed_and_never_blank() -> None:
    async def moving() -> list[tuple[bool, str]]:
        shown = made()
        old = parts(shown).monthly.value
        seen = []
        for volume in (30_000, 20_000, 10_000):
            parts(shown).sliders["requests_per_day"].handle.value = volume
            await asyncio.sleep(0)
            seen.append((dimmed(shown), parts(shown).verdict.value))
            assert parts(shown).monthly.value == old
        await settled(shown)
        assert not any("dc-dim" in part._dom_classes for part in (parts(shown).monthly, parts(shown).mind))
        assert parts(shown).monthly.value not in ("", old)
        assert shown.view.scenario == shown.scenario
        return seen

    seen = asyncio.run(moving())
    assert all(was for was, _ in seen)
    assert "Distill and self-host" in seen[0][1]
    assert "Call the big model" in seen[2][1]


def test_widgets_are_made_once() -> None:
    shown = made()
    before = [id(child) for child in shown.children], id(parts(shown).monthly)
    shown.move(requests_per_day=3_000)
    shown.choose("rag-answers")
    assert before == ([id(child) for child in shown.children], id(parts(shown).monthly))


def test_after_a_while_the_fleets_are_simulated() -> None:
    async def still() -> str:
        shown = Panel("email-classification", remember=False)
        shown.move(requests_per_day=11_000)
        await settled(shown)
        return str(parts(shown).verdict.value)

    assert "fleets simulated" in asyncio.run(still())


def test_what_is_wrong_is_shown_and_the_last_good_result_stays_dimmed() -> None:
    shown = made()
    old = parts(shown).verdict.value
    shown.move(horizon_months=120, growth_per_month=0.5)
    assert "nobody has 10^12" in shown.message
    assert "nobody has 10^12" in parts(shown).said.value
    assert 'role="alert"' in parts(shown).said.value
    assert parts(shown).verdict.value == old
    assert dimmed(shown)
    shown.move(growth_per_month=0.02)
    assert shown.message == ""
    assert "10^12" not in parts(shown).said.value
    assert shown.scenario.workload.horizon_months == 120
    assert "dc-dim" not in parts(shown).monthly._dom_classes


def test_a_fault_of_our_own_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = made()

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("by <zero>")

    monkeypatch.setattr(planner, "quick", broken)
    parts(shown).sliders["requests_per_day"].handle.value = 100
    assert shown.message == "A fault of distillcalc itself, please report it: ZeroDivisionError: by <zero>"
    assert "by &lt;zero&gt;" in parts(shown).said.value


def test_an_error_of_the_dear_part_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing() -> Panel:
        shown = made()

        def broken(*_: Any, **__: Any) -> Any:
            raise InputError("the catalog went away")

        monkeypatch.setattr(planner, "recommend", broken)
        shown.move(requests_per_day=100)
        await settled(shown)
        return shown

    shown = asyncio.run(failing())
    assert shown.message == "the catalog went away"
    assert dimmed(shown)


def test_moving_what_is_no_control_is_refused() -> None:
    with pytest.raises(UnknownName, match="request_per_day"):
        made().move(request_per_day=3)


def test_presets_are_switched_and_what_was_moved_is_forgotten() -> None:
    shown = made()
    shown.move(requests_per_day=77)
    parts(shown).preset.value = "rag-answers"
    assert shown.scenario == preset("rag-answers")
    assert parts(shown).sliders["requests_per_day"].number.value == 12_000
    assert "share of the big model" in parts(shown).sliders["floor"].note.value
    parts(shown).sliders["requests_per_day"].number.value = 50
    parts(shown).reset.click()
    assert shown.scenario == preset("rag-answers")


def test_a_slider_that_follows_another_moves_with_it() -> None:
    shown = made("code-completion")
    parts(shown).sliders["input_tokens"].number.value = 900
    assert parts(shown).sliders["student_input_tokens"].number.value == 900
    triage = made()
    parts(triage).sliders["input_tokens"].number.value = 900
    assert parts(triage).sliders["cacheable_prefix_tokens"].number.value == 900
    parts(triage).sliders["input_tokens"].number.value = 1_900
    assert parts(triage).sliders["cacheable_prefix_tokens"].number.value == 1_500


def test_pin_a_and_explore_b() -> None:
    shown = made()
    parts(shown).pin.click()
    assert shown.pinned == preset("support-triage")
    assert parts(shown).pin.description == "Unpin A"
    assert "Nothing was moved since A" in parts(shown).difference.value
    shown.move(gpu_price_factor=1.2)
    assert "GPU price [× list] 1 to 1.2" in parts(shown).difference.value
    assert "the same choice" in parts(shown).difference.value
    parts(shown).pin.click()
    assert shown.pinned is None
    assert parts(shown).difference.value == ""


def test_a_is_decided_by_the_same_means_as_b() -> None:
    async def still() -> str:
        shown = Panel("private-notes", remember=False)
        shown.pin()
        shown.move(operations_hours_per_month=11)
        await settled(shown)
        assert "fleets simulated" in parts(shown).verdict.value
        return str(parts(shown).difference.value)

    # An hour a month at $100 for 24 months, whatever the fleets are sized by; latency stays.
    difference = asyncio.run(still())
    assert "+$2,400" in difference
    assert "+0 ms" in difference


def test_a_scenario_is_saved_and_loaded(tmp_path: Path) -> None:
    shown = made()
    shown.move(requests_per_day=6_200)
    file = tmp_path / "mine.toml"
    parts(shown).path.value = str(file)
    parts(shown).save.click()
    assert Scenario.load(file) == shown.scenario
    assert str(file) in parts(shown).said.value
    other = made("rag-answers")
    parts(other).path.value = str(file)
    parts(other).load.click()
    assert other.scenario == shown.scenario
    assert parts(other).preset.value == "own"
    parts(other).path.value = str(tmp_path / "none.toml")
    parts(other).load.click()
    assert "no scenario file" in other.message
    assert other.scenario == shown.scenario


def test_a_file_is_opened_from_the_browser() -> None:
    shown = made()
    text = Path(planner.__file__).parents[2] / "data" / "samples" / "private-notes.toml"
    content = text.read_bytes()
    file = {"name": "notes.toml", "type": "", "size": len(content), "content": memoryview(content)}
    shown._on_upload({"new": (file,)})
    assert shown.scenario == Scenario.load("private-notes")
    assert "Opened notes.toml" in parts(shown).said.value
    shown._on_upload({"new": ({**file, "content": memoryview(b"\xff\xfe\x00")},)})
    assert "not UTF-8" in shown.message
    shown._on_upload({"new": ({**file, "content": memoryview(b"[workload")},)})
    assert "notes.toml is not valid TOML" in shown.message
    assert shown.scenario == Scenario.load("private-notes")


def test_the_copied_python_is_that_of_what_is_shown() -> None:
    shown = made()
    shown.move(requests_per_day=6_200)
    assert "requests_per_day=6_200" in parts(shown).code.value
    assert "<textarea readonly" in parts(shown).code.value


def test_a_query_string_holds_the_state() -> None:
    shown = made()
    shown.move(requests_per_day=6_200, floor=0.85)
    text = shown.to_query()
    assert text == "v=1&from=support-triage&requests_per_day=6200&floor=0.85"
    again = Panel.from_query(text)
    assert again.scenario == shown.scenario
    assert again.to_query() == text
    assert again.view.verdict == shown.view.verdict
    own = made(preset("rag-answers"))
    assert Panel.from_query(own.to_query()).scenario == own.scenario
    with pytest.raises(InputError, match="begins with v=1"):
        Panel.from_query("v=0&from=support-triage")


def test_a_scenario_survives_a_kernel_that_ends() -> None:
    first = made()
    first.move(requests_per_day=6_200)
    first.pin()
    first.move(requests_per_day=8_000)
    second = made()  # what a new kernel does
    assert second.scenario == first.scenario
    assert second.pinned == first.pinned
    assert "As you left it" in parts(second).said.value
    second.start_over()
    assert made().scenario == preset("support-triage")
    assert made("rag-answers").scenario == preset("rag-answers")


def test_a_panel_that_nobody_touched_or_that_shall_not_remember_leaves_nothing_behind(tmp_path: Path) -> None:
    made()
    shown = made(remember=False)
    shown.move(requests_per_day=5)
    assert not (tmp_path / "cache").exists()


def test_a_damaged_memory_is_told_and_left() -> None:
    first = made()
    first.move(requests_per_day=6_200)
    assert first._place is not None
    first._place.write_text("{")
    second = made()
    assert second.scenario == preset("support-triage")
    assert "could not be taken up again" in parts(second).said.value


def test_distributions_are_moved_from_their_medians() -> None:
    shown = made("near-break-even")
    assert parts(shown).preset.value == "near-break-even"
    assert parts(shown).sliders["requests_per_day"].number.value == pytest.approx(33_333, rel=0.01)
    shown.move(requests_per_day=20_000)
    assert shown.scenario.workload.requests_per_day == 20_000
    assert shown.message == ""
