"""Where the verdict turns with the volume, held against the search of every input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc import Scenario, recommend
from distillcalc.catalog import Catalog
from distillcalc.decide.table import compare
from distillcalc.decide.words import count
from distillcalc.notebook.controls import at_medians, moved
from distillcalc.notebook.presets import PRESETS, preset
from distillcalc.notebook.turning import SCAN, evaluated, nearest_turn

CATALOG = Catalog.load()


def of(scenario: Scenario):
    point = at_medians(scenario)
    return nearest_turn(point, CATALOG, evaluated(point, CATALOG)[1])


@pytest.mark.parametrize("name", [*PRESETS, "near-break-even", "email-classification"])
def test_it_is_the_tipping_point_of_the_volume(name: str) -> None:
    scenario = at_medians(preset(name))
    points = [p for p in recommend(scenario).tipping_points if p.input == "requests_per_day"]
    turn = of(scenario)
    if not points:
        assert turn is None
        return
    assert turn is not None
    assert count(turn.requests_per_day) == count(points[0].flips_at)
    assert turn.requests_per_day == pytest.approx(points[0].flips_at, rel=2e-4)
    assert (turn.to, turn.above) == (points[0].to, points[0].flips_at > points[0].own)


@pytest.mark.parametrize("name", PRESETS)
def test_the_grids_first_row_is_the_scenario_itself(name: str) -> None:
    block, table = evaluated(preset(name), CATALOG)
    decision = recommend(preset(name))
    assert table.option(0) == decision.recommendation
    for option, e in decision.options.items():
        assert block.estimate(option).present_value_usd == pytest.approx(e.present_value_usd, nan_ok=True)


@pytest.mark.parametrize("name", [*PRESETS, "private-notes", "email-classification"])
def test_what_is_left_out_is_recommended_at_no_volume(name: str) -> None:
    scenario = preset(name)
    _, table = evaluated(scenario, CATALOG)
    volumes = {"requests_per_day": np.append(scenario.workload.requests_per_day, np.geomspace(1, 1e8, SCAN))}
    whole = compare(scenario, CATALOG, volumes)
    assert len(table.options) < len(whole.options)
    assert [table.option(i) for i in range(SCAN + 1)] == [whole.option(i) for i in range(SCAN + 1)]


@settings(max_examples=12, deadline=None)
@given(st.floats(10, 1e7))
def test_one_step_past_the_turn_another_option_is_recommended(volume: float) -> None:
    scenario = moved(preset("support-triage"), {"requests_per_day": volume})
    here, turn = recommend(scenario).recommendation, of(scenario)
    assert turn is not None
    beyond = turn.requests_per_day * (1.001 if turn.above else 0.999)
    assert turn.above == (turn.requests_per_day > volume)
    assert recommend(moved(scenario, {"requests_per_day": beyond})).recommendation != here
    between = (turn.requests_per_day * volume) ** 0.5
    assert recommend(moved(scenario, {"requests_per_day": between})).recommendation == here
