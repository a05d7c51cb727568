"""Tipping points: on both sides of a flip the recommendation is what is said."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc import Catalog, Scenario, recommend
from distillcalc.decide.table import ASKED_OF_THE_MODEL, compare, compared, evaluate, still_possible
from distillcalc.decide.tipping import SEARCHED, _Search, tipping_points
from distillcalc.estimate.inputs import SPECS, Inputs, with_inputs
from distillcalc.workload.files import samples
from tests.decide.scenarios import scenario


@pytest.mark.parametrize("name", ["support-triage", "code-completion", "private-notes"])
def test_the_recommendation_changes_at_each_flip_and_not_before(name: str) -> None:
    sample = Scenario.load(name)
    base = recommend(sample).recommendation
    points = tipping_points(sample, Catalog.load())
    assert points
    for point in points:
        spec = SPECS[point.input]
        now = point.value if point.value is not None else 0.9
        step = 1e-4 * max(abs(point.flips_at - now), abs(point.flips_at), 1e-6)
        outward = 1.0 if point.flips_at > now else -1.0
        beyond = min(max(point.flips_at + outward * step, spec.low), spec.high)
        before = point.flips_at - outward * step
        assert recommend(with_inputs(sample, {point.input: beyond})).recommendation == point.to, point
        assert recommend(with_inputs(sample, {point.input: before})).recommendation == base, point


def test_the_volume_flip_is_the_break_even_volume() -> None:
    plain = scenario(choices={"student_retention": 0.97, "options": ["call-teacher", "self-host"]})
    decision = recommend(plain)
    flip = next(point for point in decision.tipping_points if point.input == "requests_per_day")
    assert flip.to == "self-host"
    assert flip.flips_at == pytest.approx(decision.break_even["self-host"].requests_per_day[0][0], rel=1e-5)


def test_nearest_first_and_at_most_one_on_each_side() -> None:
    points = recommend(Scenario.load("support-triage")).tipping_points
    distances = [point.distance for point in points]
    assert distances == sorted(distances)
    sides = [(p.input, p.value is not None and p.flips_at > p.value) for p in points if p.value is not None]
    assert len(sides) == len(set(sides))


def test_what_is_searched_can_be_swept() -> None:
    assert set(SEARCHED) <= set(SPECS)


def test_a_decision_that_nothing_can_turn_has_no_tipping_point() -> None:
    alone = scenario(choices={"options": ["call-teacher"]})
    assert tipping_points(alone, Catalog.load()) == []


def test_a_prior_that_counts_overrule_does_not_move_the_other_flips() -> None:
    counted = {"teacher": {"correct": 950, "total": 1000}, "qwen3-4b": {"correct": 940, "total": 1000}}
    plain = scenario(workload={"requests_per_day": 300_000}, choices={"evaluations": counted})
    stated = scenario(
        workload={"requests_per_day": 300_000},
        choices={"evaluations": counted, "teacher_quality": 0.7, "student_retention": 0.7},
    )
    assert recommend(plain).recommendation == recommend(stated).recommendation == "self-host"

    def others(given: Scenario) -> dict[tuple[str, str | None], float]:
        points = tipping_points(given, Catalog.load())
        return {(p.input, p.to): p.flips_at for p in points if p.input not in ("teacher_quality", "student_retention")}

    assert others(plain)
    assert others(stated) == pytest.approx(others(plain))


@pytest.mark.parametrize("name", sorted(samples()))
def test_what_the_search_leaves_out_passes_nowhere(name: str) -> None:
    """Two hundred draws of everything that asks nothing of the models, far beyond what is likely."""
    sample, catalog = Scenario.load(name), Catalog.load()
    known = catalog.with_overrides(sample.overrides)
    block = evaluate(Inputs(sample), known, compared(sample))
    possible = still_possible(block)
    search = _Search(sample, known)
    rng = np.random.default_rng(7)
    arrays = {
        input_: rng.choice(grid, 200)
        for input_ in SEARCHED
        if input_ not in ASKED_OF_THE_MODEL
        and search.stated(input_) is not None
        and (grid := search.grid(input_)) is not None
    }
    arrays["cacheable_prefix_tokens"] = np.minimum(arrays["cacheable_prefix_tokens"], arrays["input_tokens"])
    table = compare(sample, known, arrays)
    passed = {option for option, may in zip(table.options, table.eligible.any(axis=0), strict=True) if may}
    assert passed
    assert passed <= set(possible)
    assert len(possible) < len(table.options)  # something is left out
