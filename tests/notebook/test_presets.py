"""Scenarios to start from: each is whole, decides, and is found by its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillcalc import Scenario, recommend
from distillcalc.errors import InputError, UnknownName
from distillcalc.notebook.presets import PRESETS, opened, preset
from distillcalc.notebook.view import render


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_decided(name: str) -> None:
    decision = recommend(preset(name))
    assert decision.recommendation is not None
    assert decision.scenario.workload.requests_per_day > 0


@pytest.mark.parametrize("name", [n if n == "on-device" else pytest.param(n, marks=pytest.mark.slow) for n in PRESETS])
def test_a_presets_fleets_can_be_simulated(name: str) -> None:
    """As the panel does once its sliders rest: phones, which are owned and not rented, as well as GPUs."""
    view = render(preset(name), fidelity="simulated")
    assert view.error == ""
    assert view.recommendation == render(preset(name)).recommendation


def test_two_presets_are_the_shipped_samples() -> None:
    assert preset("support-triage") == Scenario.load("support-triage")
    assert preset("near-break-even") == Scenario.load("near-break-even")


def test_what_stays_on_the_device_calls_nobody() -> None:
    decision = recommend(preset("on-device"))
    assert decision.recommendation == "self-host"
    assert "snapdragon" in decision.options["self-host"].label
    assert decision.options["call-teacher"].failing()[0].name == "privacy"


def test_a_name_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown preset 'rag-answer'\. Did you mean rag-answers"):
        preset("rag-answer")


def test_a_file_is_opened_by_its_path(tmp_path: Path) -> None:
    file = preset("rag-answers").save(tmp_path / "mine.toml")
    assert opened(file) == opened(str(file)) == preset("rag-answers")
    assert opened("rag-answers") == preset("rag-answers")
    with pytest.raises(InputError, match="no scenario file"):
        opened(tmp_path / "other.toml")
