"""What a planner moves: each control sets its input and nothing else, and what cannot be moved is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc import Scenario, recommend
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.inputs import SPECS, uncertain_inputs
from distillcalc.notebook.controls import (
    CONTROLS,
    E2E,
    NO_LIMIT_S,
    at_medians,
    is_fixed,
    moved,
    note_on,
    value_of,
)

TRIAGE = Scenario.load("support-triage")
COUNTS = {"items": 100, "teacher_right": 90, "escalated": [20, 50], "gained": [2, 1], "lost": [4, 1]}
MEASURED = {
    "student": "qwen3-4b",
    "teacher": "openai/gpt-6-sol",
    "score": "margin",
    "threshold": [0.1, 0.9],
    "tuning": COUNTS,
    "certifying": COUNTS,
    "student_right": 88,
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_read_back_as_it_was_moved(name: str) -> None:
    control = CONTROLS[name]
    target = 7.0 if control.whole else control.low + (control.high - control.low) * 0.4
    if name == "cacheable_prefix_tokens":
        target = 1_000.0
    scenario = moved(TRIAGE, {name: target})
    assert value_of(scenario, name) == pytest.approx(target)
    for other in CONTROLS.keys() - {name, "cacheable_prefix_tokens"}:
        assert value_of(scenario, other) == value_of(TRIAGE, other)


@pytest.mark.parametrize("name", CONTROLS)
def test_the_slider_lies_within_what_may_be_typed(name: str) -> None:
    control = CONTROLS[name]
    assert control.least <= control.low < control.high <= control.most
    assert "[" in control.label or name == "requests_per_day"  # a unit
    if name in SPECS:
        assert SPECS[name].low <= control.least


def test_nothing_moved_is_the_same_scenario() -> None:
    assert moved(TRIAGE, {}) is TRIAGE


def test_the_latency_limit_is_taken_away_at_the_right_end() -> None:
    assert moved(TRIAGE, {E2E: NO_LIMIT_S}).workload.slo.e2e_p95_s is None
    assert moved(TRIAGE, {E2E: 2.0}).workload.slo.e2e_p95_s == 2.0
    assert value_of(moved(TRIAGE, {E2E: NO_LIMIT_S}), E2E) == NO_LIMIT_S
    assert note_on(moved(TRIAGE, {E2E: NO_LIMIT_S}), E2E) == "no limit is set"


def test_the_floor_stays_absolute_or_relative() -> None:
    assert moved(TRIAGE, {"floor": 0.8}).workload.quality.floor == 0.8
    relative = Scenario.load("code-completion")
    lower = moved(relative, {"floor": 0.8}).workload.quality
    assert (lower.floor, lower.floor_relative_to_teacher) == (None, 0.8)


def test_a_shared_start_follows_a_prompt_that_becomes_shorter() -> None:
    short = moved(TRIAGE, {"input_tokens": 600})
    assert short.workload.cacheable_prefix_tokens == 600
    assert moved(TRIAGE, {"input_tokens": 1_800}).workload.cacheable_prefix_tokens == 1_500


def test_token_lengths_keep_their_shape() -> None:
    # p95 / mean is 140 / 60 before and after.
    lengths = moved(TRIAGE, {"output_tokens": 120}).workload.output_tokens
    assert lengths is not None
    assert (lengths.mean, lengths.p95) == (120, pytest.approx(280))


def test_a_number_takes_the_place_of_a_distribution_and_of_what_it_is_tied_to() -> None:
    rough = Scenario.load("near-break-even")
    assert "requests_per_day" in uncertain_inputs(rough)
    known = moved(rough, {"requests_per_day": 30_000})
    assert "requests_per_day" not in uncertain_inputs(known)
    assert "growth_per_month" in uncertain_inputs(known)
    assert known.correlations == {}
    recommend(known, draws=64)


def test_medians_have_no_distribution_and_the_same_numbers() -> None:
    rough = Scenario.load("near-break-even")
    point = at_medians(rough)
    assert not uncertain_inputs(point)
    assert not point.correlations
    for name in CONTROLS:
        assert value_of(point, name) == pytest.approx(value_of(rough, name))
    assert at_medians(TRIAGE) is TRIAGE


def test_what_is_no_control_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownName, match=r"unknown control 'request_per_day'\. Did you mean requests_per_day"):
        moved(TRIAGE, {"request_per_day": 1.0})


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="requests_per_day must be between"):
        moved(TRIAGE, {"requests_per_day": -1})
    with pytest.raises(InputError, match="floor"):
        moved(TRIAGE, {"floor": 1.2})


def test_a_guess_is_told_as_one() -> None:
    assert note_on(TRIAGE, "escalation_rate") == "nobody has measured it: 20% is taken"
    assert value_of(TRIAGE, "escalation_rate") == 0.2
    assert note_on(moved(TRIAGE, {"escalation_rate": 0.3}), "escalation_rate") == ""
    assert note_on(Scenario.load("code-completion"), "student_input_tokens") == "the same as the big model's"
    assert not is_fixed(TRIAGE, "escalation_rate")


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(CONTROLS)), st.floats(0, 1))
def test_every_place_of_every_slider_is_a_scenario(name: str, share: float) -> None:
    control = CONTROLS[name]
    if control.log:
        value = control.low * (control.high / control.low) ** share
    else:
        value = control.low + (control.high - control.low) * share
    if control.whole:
        value = round(value)
    assert isinstance(moved(TRIAGE, {name: min(value, control.high)}), Scenario)


def test_a_measured_router_is_not_overruled() -> None:
    plain = TRIAGE.to_dict()
    plain["choices"]["routing"] = {"measured": MEASURED}
    routed = Scenario.from_dict(plain)
    assert is_fixed(routed, "escalation_rate")
    assert note_on(routed, "escalation_rate") == "measured: the decision picks it"
    with pytest.raises(InputError, match="escalation_rate is measured"):
        moved(routed, {"escalation_rate": 0.3})
    assert not is_fixed(moved(routed, {"requests_per_day": 100}), "floor")


def test_a_shared_start_that_is_too_short_to_be_cached_says_so() -> None:
    # OpenAI caches prompts from 1,024 tokens on (catalog, cache_min_prefix_tokens).
    short = moved(TRIAGE, {"cacheable_prefix_tokens": 420.0})
    assert note_on(short, "cacheable_prefix_tokens") == "below 1,024 nothing is cached"
    for plain in (0.0, 1_024.0):
        assert note_on(moved(short, {"cacheable_prefix_tokens": plain}), "cacheable_prefix_tokens") == ""
    dearer, cheaper = (
        recommend(moved(short, {"cacheable_prefix_tokens": float(n)})).options["call-teacher"].present_value_usd
        for n in (1_023, 1_024)
    )
    assert cheaper < dearer
    assert recommend(short).options["call-teacher"].present_value_usd == dearer
