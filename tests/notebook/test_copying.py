"""What is copied as Python decides the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc import Scenario, recommend
from distillcalc.notebook.controls import moved
from distillcalc.notebook.copying import as_python
from distillcalc.notebook.presets import PRESETS, preset


def ran(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(as_python(scenario), names)  # what a user does with it
    assert str(names["decision"]) in capsys.readouterr().out
    return names


@pytest.mark.parametrize("name", [*PRESETS, "near-break-even", "private-notes"])
def test_the_copied_code_gives_the_same_decision(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = preset(name)
    names = ran(scenario, capsys)
    assert names["scenario"] == scenario
    assert names["decision"].to_dict() == recommend(scenario).to_dict()


def test_after_sliders_moved_too(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = moved(
        preset("support-triage"),
        {"requests_per_day": 6_210.5, "input_tokens": 333.3, "e2e_p95_s": 100, "growth_per_month": -0.015},
    )
    names = ran(scenario, capsys)
    assert names["scenario"] == scenario
    assert names["decision"].recommendation == recommend(scenario).recommendation == "call-teacher"


def test_names_from_outside_stay_strings(capsys: pytest.CaptureFixture[str]) -> None:
    plain = preset("support-triage").to_dict()
    plain["workload"]["name"] = 'Büro "A"\\n\'); raise SystemExit("x") #'
    scenario = Scenario.from_dict(plain)
    assert ran(scenario, capsys)["scenario"] == scenario


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_any_name_is_copied(name: str) -> None:
    plain = preset("support-triage").to_dict()
    plain["workload"]["name"] = name
    scenario = Scenario.from_dict(plain)
    names: dict[str, Any] = {}
    exec(as_python(scenario).partition("decision =")[0], names)
    assert names["scenario"] == scenario


def test_it_reads_like_what_a_user_would_write() -> None:
    code = as_python(preset("support-triage"))
    assert code.startswith(
        "from datetime import date\n\nfrom distillcalc import Choices, Scenario, Workload, recommend\n"
    )
    assert "    requests_per_day=40_000,\n" in code
    assert '    input_tokens={"mean": 1_900, "p95": 3_400},\n' in code
    assert "    start=date(2026, 12, 1),\n" in code
    assert max(map(len, code.splitlines())) <= 100
