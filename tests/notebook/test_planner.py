"""The panel in process: what moves, what is shown, what outlives it."""

from __future__ import annotations

import pytest

from distillcalc.notebook import Panel, panel


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_verdict_is_there_from_the_start() -> None:
    shown = panel("support-triage")
    assert isinstance(shown, Panel)
    assert shown.view.verdict.startswith("Distill and self-host (qwen3-4b on rtx-4090): pays back in 12.2 months; ")
    assert "24,100 requests a day" in shown.view.verdict
    assert shown.message == ""


def test_a_moved_slider_changes_the_scenario_and_the_verdict() -> None:
    shown = panel("support-triage")
    shown.move(requests_per_day=6_200)
    assert shown.scenario.workload.requests_per_day == 6_200
    assert shown.view.decision is not None
    assert shown.view.decision.recommendation == "call-teacher"
