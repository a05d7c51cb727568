"""Quality: Beta posteriors, retention, cascades, and the gate that asks for a probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.quality import (
    RETENTION_PRIOR,
    TEACHER_PRIOR,
    Belief,
    cascade_belief,
    distilled_belief,
    from_counts,
    general_belief,
    probability_at_least,
    probability_of_retention,
    quality_gate,
    refs_of,
    retention_prior,
    teacher_belief,
)
from distillcalc.provenance import assumed
from distillcalc.workload import Evaluation, Scenario
from tests.estimate.tiny import catalog, scenario


def belief(mean: float, sd: float, **more: Any) -> Belief:
    return Belief(np.array([[mean]]), np.array([[sd]]), assumed("a test"), **more)


def one(value: float) -> Any:
    return np.array([[value]])


def gate(case: Scenario, student: Belief, teacher: Belief | None = None, **more: Any) -> Any:
    return quality_gate(Inputs(case), student, teacher or belief(0.9, 0.02), **more)


# --- posteriors ------------------------------------------------------------------------------------------------------


def test_a_posterior_by_hand() -> None:
    # 7 of 8 right: Beta(8, 2), mean 8/10, variance 8 x 2 / (10^2 x 11) = 16/1100.
    found = from_counts(Evaluation(correct=7, total=8), "student")
    assert found.mean[0, 0] == pytest.approx(0.8)
    assert found.sd[0, 0] == pytest.approx((16 / 1100) ** 0.5)
    assert found.measured
    assert "7 of 8" in found.source.source


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 20_000), share=st.floats(0, 1), floor=st.floats(0, 1))
def test_counts_give_the_beta_posterior_itself(total: int, share: float, floor: float) -> None:
    correct = round(share * total)
    found = from_counts(Evaluation(correct=correct, total=total), "student")
    a, b = 1 + correct, 1 + total - correct
    assert found.mean[0, 0] == pytest.approx(beta.mean(a, b), rel=1e-12)
    assert found.sd[0, 0] == pytest.approx(beta.std(a, b), rel=1e-10)
    assert probability_at_least(found, one(floor))[0, 0] == pytest.approx(beta.sf(floor, a, b), rel=1e-7, abs=1e-9)


def test_a_uniform_posterior_is_its_own_tail() -> None:
    # Mean 1/2 and variance 1/12 are Beta(1, 1): P(q >= f) = 1 - f.
    flat = belief(0.5, (1 / 12) ** 0.5)
    for floor in (0.0, 0.2, 0.9, 1.0):
        assert probability_at_least(flat, one(floor))[0, 0] == pytest.approx(1 - floor, abs=1e-12)


def test_limits_of_the_tail() -> None:
    sure = belief(0.9, 0.0)
    assert probability_at_least(sure, one(0.89))[0, 0] == pytest.approx(1.0)
    assert probability_at_least(sure, one(0.91))[0, 0] == pytest.approx(0.0)
    assert probability_at_least(belief(0.9, 0.05), one(0.0))[0, 0] == 1.0
    assert probability_at_least(belief(0.9, 0.05), one(1.0))[0, 0] == 0.0
    assert probability_at_least(belief(1.2, 0.05), one(0.99))[0, 0] > 0.99999  # a retention above 1


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.001, 0.2), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_floor_is_never_likelier(mean: float, sd: float, f1: float, f2: float) -> None:
    low, high = sorted((f1, f2))
    student = belief(mean, sd)
    assert probability_at_least(student, one(low))[0, 0] >= probability_at_least(student, one(high))[0, 0]


# --- retention -------------------------------------------------------------------------------------------------------


def test_a_student_is_the_teacher_times_the_retention() -> None:
    # 0.8 x 0.9 = 0.72; relative sd: sqrt((0.04/0.8)^2 + (0.0675/0.9)^2) = sqrt(0.0025 + 0.005625) = 0.0901388.
    found = belief(0.8, 0.04).times(belief(0.9, 0.0675))
    assert found.mean[0, 0] == pytest.approx(0.72)
    assert found.sd[0, 0] == pytest.approx(0.72 * 0.0081250**0.5)


def test_a_stated_retention_answers_for_itself() -> None:
    # However unsure the teacher is, the student keeps what it keeps: the ratio's own distribution is asked.
    kept = belief(0.5, (1 / 12) ** 0.5)  # uniform
    for teacher_sd in (0.001, 0.1):
        teacher = belief(0.8, teacher_sd)
        assert probability_of_retention(teacher.times(kept), teacher, one(0.3))[0, 0] == pytest.approx(0.7)


@pytest.mark.parametrize("least", [0.0, 0.4, 0.9, 1.0])
def test_the_retention_of_two_uniform_posteriors(least: float) -> None:
    # S and T uniform: P(S >= r T) = E[1 - r T] = 1 - r / 2.
    flat = belief(0.5, (1 / 12) ** 0.5, measured=True)
    assert probability_of_retention(flat, flat, one(least))[0, 0] == pytest.approx(1 - least / 2)


@pytest.mark.parametrize(("right", "teacher_right"), [(440, 470), (460, 470), (85, 90), (9, 9)])
def test_the_retention_of_two_posteriors_by_integration(right: int, teacher_right: int) -> None:
    n = 500 if right > 100 else (100 if right > 10 else 10)
    student, teacher = (from_counts(Evaluation(correct=k, total=n), "m") for k in (right, teacher_right))
    s, t = beta(1 + right, 1 + n - right), beta(1 + teacher_right, 1 + n - teacher_right)
    exact, _ = quad(lambda q: t.pdf(q) * s.sf(0.95 * q), 0, 1, points=[teacher_right / n], limit=200)
    # The midpoint rule on 64 quantiles of the teacher.
    assert probability_of_retention(student, teacher, one(0.95))[0, 0] == pytest.approx(exact, abs=2e-3)


def test_many_posteriors_at_once_are_each_on_its_own() -> None:
    teacher = belief(0.9, 0.02)
    means = np.array([[0.7], [0.8], [0.9]])
    many = probability_of_retention(Belief(means, np.full((1, 1), 0.03), assumed("t")), teacher, one(0.9))
    alone = [probability_of_retention(belief(m.item(), 0.03), teacher, one(0.9))[0, 0] for m in means]
    assert many.ravel().tolist() == alone


# --- where a belief comes from ---------------------------------------------------------------------------------------


def test_the_teacher_is_counted_then_stated_then_presumed() -> None:
    counted = scenario({}, {"evaluations": {"teacher": {"correct": 8, "total": 8}}, "teacher_quality": 0.5})
    assert teacher_belief(Inputs(counted)).mean[0, 0] == pytest.approx(0.9)  # Beta(9, 1)
    stated = teacher_belief(Inputs(scenario({}, {"teacher_quality": 0.5})))
    assert (stated.mean[0, 0], stated.sd[0, 0]) == (0.5, 0.02)
    bare = teacher_belief(Inputs(scenario()))
    assert (bare.mean[0, 0], bare.sd[0, 0]) == TEACHER_PRIOR
    # The model in use is taken to meet the floor: halfway between it and 1, a quarter of the way to either as sd.
    floored = teacher_belief(Inputs(scenario({"quality": {"floor": 0.8}})))
    assert floored.mean[0, 0] == pytest.approx(0.9)
    assert floored.sd[0, 0] == pytest.approx(0.05)
    assert not floored.measured


def test_a_swept_teacher_overrides_its_counts() -> None:
    counted = scenario({}, {"evaluations": {"teacher": {"correct": 8, "total": 8}}})
    found = teacher_belief(Inputs(counted, {"teacher_quality": [0.3, 0.6]}))
    assert found.mean.ravel().tolist() == [0.3, 0.6]


def test_a_distilled_student_is_counted_then_stated_then_presumed() -> None:
    teacher = belief(0.8, 0.02)
    counted = Inputs(scenario({}, {"evaluations": {"tiny": {"correct": 8, "total": 8}}}))
    assert distilled_belief(counted, ("tiny",), teacher).mean[0, 0] == pytest.approx(0.9)
    assert distilled_belief(counted, ("other",), teacher).mean[0, 0] == pytest.approx(0.8 * RETENTION_PRIOR[0])
    stated = distilled_belief(Inputs(scenario({}, {"student_retention": 0.5})), ("tiny",), teacher)
    assert stated.mean[0, 0] == pytest.approx(0.4)
    assert stated.source.kind == "given"
    assert distilled_belief(Inputs(scenario()), ("tiny",), teacher).source.kind == "assumed"


def test_a_smaller_student_is_expected_to_keep_less() -> None:
    # 0.90 +- 0.04 from 7 x 10^9 parameters up; 0.04 less and 0.02 wider for each halving: 3.5 is one, 1.75 two.
    def prior(params_b: float | None) -> tuple[float, float]:
        return retention_prior(catalog(models={"tiny": {"params_b": params_b}}).model("tiny"))

    for size, expected in ((70, (0.90, 0.04)), (7, (0.90, 0.04)), (3.5, (0.86, 0.06)), (1.75, (0.82, 0.08))):
        assert prior(size) == pytest.approx(expected)
    assert prior(None) == retention_prior(None) == (0.90, 0.04)


def test_retention_may_be_stated_student_by_student() -> None:
    teacher = belief(0.8, 0.02)
    x = Inputs(scenario({}, {"students": ["tiny", "mini"], "student_retention": {"tiny": 0.5}}))
    assert distilled_belief(x, ("tiny",), teacher, "tiny").mean[0, 0] == pytest.approx(0.4)
    assert distilled_belief(x, ("mini",), teacher, "mini").mean[0, 0] == pytest.approx(0.8 * RETENTION_PRIOR[0])
    swept = Inputs(x.scenario, {"student_retention": [0.25, 0.75]})  # a sweep is of all of them
    assert distilled_belief(swept, ("tiny",), teacher, "tiny").mean.ravel().tolist() == pytest.approx([0.2, 0.6])


def test_a_model_as_published_has_its_measured_then_its_claimed_retention() -> None:
    teacher, x = belief(0.8, 0.02), Inputs(scenario())
    # Claimed 0.8 to 0.9: middle 0.85, never surer than +- 0.06.
    claimed = general_belief(x, ("acme/small",), catalog().model("small"), teacher)
    assert claimed.mean[0, 0] == pytest.approx(0.8 * 0.85)
    assert claimed.retention is not None
    assert claimed.retention.sd[0, 0] == 0.06
    # Published 0.6 and 0.8: mean 0.7, sd 0.1.
    published = catalog(models={"small": {"retention": {"maths": 0.6, "code": 0.8}}}).model("small")
    found = general_belief(x, ("acme/small",), published, teacher)
    assert found.mean[0, 0] == pytest.approx(0.8 * 0.7)
    assert found.retention is not None
    assert found.retention.sd[0, 0] == pytest.approx(0.1)
    assert general_belief(x, ("acme/small",), None, teacher).source.kind == "assumed"
    counted = Inputs(scenario({}, {"evaluations": {"acme/small": {"correct": 8, "total": 8}}}))
    assert general_belief(counted, ("acme/small",), published, teacher).mean[0, 0] == pytest.approx(0.9)


def test_the_counts_of_a_published_model_may_be_named_by_any_host() -> None:
    known = catalog(models={"tiny": {"price_refs": ["host/tiny", "other/tiny"]}})
    assert set(refs_of(known, "other/tiny")) == {"host/tiny", "other/tiny"}
    assert refs_of(known, "stranger/model") == ("stranger/model",)
    assert "tiny" not in refs_of(known, "host/tiny")  # that is the student trained on this task


# --- cascade ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apgr", [0.2, 0.5, 0.8])
def test_a_cascade_that_sends_none_on_is_its_student_and_all_its_teacher(apgr: float) -> None:
    student, teacher = belief(0.6, 0.03), belief(0.9, 0.02)
    none = cascade_belief(student, teacher, one(0.0), one(apgr))
    every = cascade_belief(student, teacher, one(1.0), one(apgr))
    assert (none.mean[0, 0], none.sd[0, 0]) == (pytest.approx(0.6), pytest.approx(0.03))
    assert (every.mean[0, 0], every.sd[0, 0]) == (pytest.approx(0.9), pytest.approx(0.02))


def test_a_random_router_is_the_straight_line() -> None:
    # 0.6 + 0.3 x (0.9 - 0.6) = 0.69; sd sqrt((0.7 x 0.03)^2 + (0.3 x 0.02)^2).
    found = cascade_belief(belief(0.6, 0.03), belief(0.9, 0.02), one(0.3), one(0.5))
    assert found.mean[0, 0] == pytest.approx(0.69)
    assert found.sd[0, 0] == pytest.approx((0.021**2 + 0.006**2) ** 0.5)


def test_a_student_made_from_its_teacher_shares_the_teachers_error() -> None:
    # Retention 0.8 +- 0.05, 30% of the gap recovered: 0.86 +- 0.035 of the teacher.
    teacher = belief(0.9, 0.02)
    found = cascade_belief(teacher.times(belief(0.8, 0.05)), teacher, one(0.3), one(0.5))
    assert found.mean[0, 0] == pytest.approx(0.774)
    assert found.sd[0, 0] == pytest.approx(0.774 * ((0.02 / 0.9) ** 2 + (0.035 / 0.86) ** 2) ** 0.5)


def test_a_cascade_asks_less_of_its_student() -> None:
    # 30% of the gap is recovered, so that keeping 0.93 of the teacher takes (0.93 - 0.3) / 0.7 = 0.9 of the student.
    teacher, student = belief(0.9, 0.02), belief(0.85, 0.03)
    mixed = cascade_belief(student, teacher, one(0.3), one(0.5))
    asked = probability_of_retention(student, teacher, one(0.9))[0, 0]
    assert probability_of_retention(mixed, teacher, one(0.93))[0, 0] == pytest.approx(asked)
    assert 0.3 < asked < 0.95
    # What the teacher's answers secure is certain, whatever the student does.
    assert probability_of_retention(mixed, teacher, one(0.3))[0, 0] == 1
    all_sent_on = cascade_belief(student, teacher, one(1.0), one(0.5))
    assert probability_of_retention(all_sent_on, teacher, one(1.0))[0, 0] == 1


@pytest.mark.parametrize("apgr", [0.3, 0.5, 0.6, 0.9])
def test_the_gap_that_is_recovered_averages_to_the_apgr(apgr: float) -> None:
    # RouteLLM (arXiv:2406.18665): APGR is the integral over the share of calls of the gap recovered.
    c = (np.arange(200_000) + 0.5) / 200_000
    quality = cascade_belief(belief(0.5, 0.01), belief(0.9, 0.01), c[:, None], one(apgr)).mean
    assert ((quality - 0.5) / 0.4).mean() == pytest.approx(apgr, abs=2e-4)


def test_a_better_router_never_lowers_quality() -> None:
    apgr = np.linspace(0.05, 0.95, 19)[:, None]
    found = cascade_belief(belief(0.6, 0.03), belief(0.9, 0.02), one(0.3), apgr)
    assert np.all(np.diff(found.mean[:, 0]) > 0)


# --- gate ------------------------------------------------------------------------------------------------------------


def test_the_gate_asks_for_its_confidence() -> None:
    # Uniform belief: P(q >= f) = 1 - f. At confidence 0.9: pass up to 0.1, fail from 0.9, unknown between.
    flat = belief(0.5, (1 / 12) ** 0.5)
    for floor, verdict in ((0.05, 1), (0.0999, 1), (0.1001, 0), (0.5, 0), (0.8999, 0), (0.9001, -1)):
        found = gate(scenario({"quality": {"floor": floor}}), flat)
        assert found.code[0, 0] == verdict, floor
        assert found.probability[0, 0] == pytest.approx(1 - floor)


def test_more_confidence_makes_a_pass_unknown() -> None:
    flat = belief(0.5, (1 / 12) ** 0.5)
    assert gate(scenario({"quality": {"floor": 0.3, "confidence": 0.6}}), flat).code[0, 0] == 1
    assert gate(scenario({"quality": {"floor": 0.3, "confidence": 0.8}}), flat).code[0, 0] == 0


def test_a_floor_of_nothing_asks_for_nothing() -> None:
    assert gate(scenario({"quality": {"floor": 0}}), belief(0.01, 0.01)).code[0, 0] == 1


def test_without_a_floor_nine_tenths_of_the_teacher_is_asked_for() -> None:
    teacher = belief(0.5, 0.001, measured=True)
    assert gate(scenario(), belief(0.47, 0.001, measured=True), teacher).code[0, 0] == 1  # 0.94 of it
    assert gate(scenario(), belief(0.43, 0.001, measured=True), teacher).code[0, 0] == -1  # 0.86
    found = gate(scenario(), belief(0.47, 0.001, measured=True), teacher)
    assert found.detail(0).startswith("P(accuracy >= 0.9 of the teacher's) is 1.00, asked for 0.9")
    assert gate(scenario(), belief(0.1, 0.1), teacher, is_teacher=True).code[0, 0] == 1


def test_an_absolute_floor_is_asked_of_the_teacher_too() -> None:
    case = scenario({"quality": {"floor": 0.95, "metric": "exact match"}})
    found = gate(case, belief(0.9, 0.01), is_teacher=True)
    assert found.code[0, 0] == -1
    assert found.detail(0) == "P(exact match >= 0.95) is 0.00, asked for 0.9; not measured on this task yet"


def test_what_was_measured_is_not_called_unmeasured() -> None:
    case = scenario({"quality": {"floor": 0.5}})
    assert "not measured" not in gate(case, belief(0.9, 0.01, measured=True)).detail(0)


def test_a_small_evaluation_says_not_sure_yet() -> None:
    case = scenario({"quality": {"floor": 0.9}})
    few, many = (from_counts(Evaluation(correct=93 * k, total=100 * k), "s") for k in (1, 10))
    # Beta(94, 8): P(>= 0.9) = 0.80. Beta(931, 71): 0.999.
    assert beta.sf(0.9, 94, 8) == pytest.approx(0.8, abs=0.03)
    assert gate(case, few).code[0, 0] == 0
    assert gate(case, many).code[0, 0] == 1


def test_a_swept_floor_is_absolute_row_by_row() -> None:
    x = Inputs(scenario(), {"floor": [0.0, 0.5, 1.0]})
    assert quality_gate(x, belief(0.5, 0.1), belief(0.9, 0.02)).code.ravel().tolist() == [1, 0, -1]
