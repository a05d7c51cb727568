"""The cascade by hand: every attempt is paid, an escalated request waits for both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.estimate.cascade import mixed_latency
from distillcalc.estimate.outcome import at
from tests.estimate.tiny import DAYS, catalog, only, outcomes, scenario, verdict


def test_a_cascade_pays_every_attempt() -> None:
    # The student's whole fleet, the teacher for a quarter of the requests, the verifier for each.
    case = scenario({}, {"routing": {"escalation_rate": 0.25, "verifier_usd_per_request": 0.0001}})
    found = outcomes("cascade", case)[0]
    student = only("self-host", case)
    np.testing.assert_allclose(found.monthly_usd["escalations"][0], 0.25 * 12 * DAYS)
    np.testing.assert_allclose(found.monthly_usd["verifier"][0], 0.1 * DAYS)
    np.testing.assert_allclose(found.monthly_total_usd, student.monthly_total_usd + 3.1 * DAYS)
    # And 40 hours for the router at 100 USD.
    assert found.one_off_usd == {**student.one_off_usd, "router_engineering": np.array([[4000.0]])}
    assert found.label(0) == "tiny on toy, then acme/big"


def test_a_cascade_stands_on_each_student() -> None:
    found = outcomes("cascade")
    assert [o.label(0) for o in found] == ["tiny on toy, then acme/big", "host/tiny, then acme/big"]
    # 0.0006 for all and 0.2 x 0.012.
    np.testing.assert_allclose(found[1].monthly_total_usd[0], 3.0 * DAYS)


def test_escalated_requests_hit_the_cache_less_often() -> None:
    # One request each ln 2 seconds over a prefix that lives one second: half hit; a quarter of them: 1 - 0.5^(1/4).
    case = scenario(
        {"requests_per_day": 86_400 * np.log(2), "cacheable_prefix_tokens": 600, "cache_ttl_s": 1},
        {"routing": {"escalation_rate": 0.25}},
    )
    hit = 1 - 0.5**0.25
    each = 0.012 - 600 * hit * 9e-6
    np.testing.assert_allclose(
        outcomes("cascade", case)[0].monthly_usd["escalations"][0], 0.25 * each * 86_400 * np.log(2) * DAYS
    )


def test_a_cascade_that_never_escalates_costs_its_student_and_always_both() -> None:
    never, always = (outcomes("cascade", scenario({}, {"routing": {"escalation_rate": c}}))[0] for c in (0, 1))
    student, teacher = only("self-host"), only("call-teacher")
    np.testing.assert_allclose(never.monthly_total_usd, student.monthly_total_usd)
    np.testing.assert_allclose(always.monthly_total_usd, student.monthly_total_usd + teacher.monthly_total_usd)
    assert at(never.quality_mean, 0) == pytest.approx(at(student.quality_mean, 0))
    assert at(always.quality_mean, 0) == pytest.approx(at(teacher.quality_mean, 0))


def test_a_router_takes_people_and_an_evaluation_set_even_where_nothing_is_trained() -> None:
    found = outcomes("cascade", scenario({}, {"routing": {"engineering_hours": 10}}))[1]
    assert {name: at(usd, 0) for name, usd in found.one_off_usd.items()} == {
        "router_engineering": 1000,
        "human_evaluation_set": 500,
    }


def test_a_router_that_nobody_has_stated_is_an_even_bet() -> None:
    stated = scenario({}, {"routing": {"escalation_rate": 0.2, "apgr": 0.6}})
    for case, odds in ((scenario(), 0.5), (stated, None)):
        found = outcomes("cascade", case)[0]
        gate = next(gate for gate in found.gates if gate.name == "router")
        assert verdict(found, "router") == "unknown"
        assert (None if gate.probability is None else at(gate.probability, 0)) == odds


def seconds(**values: float) -> dict[str, Any]:
    return {name: np.array([[value]]) for name, value in values.items()}


def mixed(rate: float) -> dict[str, float]:
    """A student of 1 s (p95 2 s) before a teacher of 2 s to the first token (5 s) and 3 s to the last (6 s)."""
    student = seconds(ttft_p50=0.1, ttft_p95=0.2, e2e_p50=1, e2e_p95=2, tpot_p50=0.01, tpot_p95=0.02)
    teacher = seconds(ttft_p50=2, ttft_p95=5, e2e_p50=3, e2e_p95=6, tpot_p50=0.005, tpot_p95=0.05)
    return {name: at(value, 0) for name, value in mixed_latency(student, teacher, np.array([[rate]])).items()}


def test_without_escalations_the_answer_comes_when_it_is_judged() -> None:
    # The router reads the whole answer before it lets it go: the first token is seen with the last.
    assert mixed(0) == pytest.approx(
        {"ttft_p50": 1, "ttft_p95": 2, "e2e_p50": 1, "e2e_p95": 2, "tpot_p50": 0.01, "tpot_p95": 0.02}
    )


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.7, 1.0])
def test_a_mixture_of_student_alone_and_student_then_teacher(rate: float) -> None:
    # Against a million requests drawn: log-normals through the same medians and p95s.
    rng, n = np.random.default_rng(1), 1_000_000
    z95 = 1.6448536

    def drawn(p50: float, p95: float) -> Any:
        return p50 * np.exp(np.log(p95 / p50) / z95 * rng.standard_normal(n))

    student = drawn(1, 2)
    escalated = rng.random(n) < rate
    found = mixed(rate)
    for what, teacher in (("ttft", drawn(2, 5)), ("e2e", drawn(3, 6))):
        total = student + escalated * teacher
        for level in (50, 95):
            assert found[f"{what}_p{level}"] == pytest.approx(np.quantile(total, level / 100), rel=0.05)
    assert (found["tpot_p50"], found["tpot_p95"]) == (0.01, 0.05)  # the slower of the two


def test_an_escalated_request_waits_for_both() -> None:
    # Fixed lengths: the student always takes 2.5003 s (test_capacity), the teacher 0.55 + 99 x 0.02 = 2.53 s.
    found = outcomes("cascade", scenario({}, {"routing": {"escalation_rate": 1.0}}))[0]
    assert at(found.latency["e2e_p50"], 0) == pytest.approx(2.5003 + 2.53, rel=0.05)
    assert at(found.latency["ttft_p50"], 0) == pytest.approx(2.5003 + 0.55, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.floats(0.01, 100), st.floats(1, 4))
def test_more_escalations_are_never_quicker(rates: list[float], student_s: float, spread: float) -> None:
    student = seconds(e2e_p50=student_s, e2e_p95=student_s * spread, tpot_p50=0.01, tpot_p95=0.02)
    teacher = seconds(ttft_p50=2, ttft_p95=5, e2e_p50=3, e2e_p95=6, tpot_p50=0.005, tpot_p95=0.05)
    found = mixed_latency(student, teacher, np.sort(rates)[:, None])
    for what in ("e2e", "ttft"):
        assert np.all(np.diff(found[f"{what}_p95"][:, 0]) >= -1e-9)
        assert np.all(found[f"{what}_p95"] >= found[f"{what}_p50"] * (1 - 1e-9))
    assert np.all(found["e2e_p95"] >= found["ttft_p95"] * (1 - 0.05))


def test_a_cascade_behind_an_api_of_unknown_speed_is_of_unknown_speed() -> None:
    known = catalog(apis={"acme-big": {"ttft_p50_s": None}})
    case = scenario({"slo": {"e2e_p95_s": 60}}, {"routing": {"escalation_rate": 0.2}})
    assert [verdict(found, "slo") for found in outcomes("cascade", case, known)] == ["unknown", "unknown"]


def test_an_escalated_request_must_fit_the_teacher_too() -> None:
    small = catalog(
        token_prices={"acme/big": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "context_window": 1099}}
    )
    for found in outcomes("cascade", known=small):
        assert -1 in [int(gate.code[0, 0]) for gate in found.gates if gate.name == "context"]


def test_terms_bind_the_cascade_of_a_trained_student_only() -> None:
    rival = scenario(use={"competes_with_teacher": True})
    assert [verdict(found, "terms") for found in outcomes("cascade", rival)] == ["fail", None]
    assert verdict(only("self-host", rival), "terms") == "fail"
    assert verdict(only("call-small", rival), "terms") is None


def test_a_cascade_inherits_what_rules_its_student_out() -> None:
    huge = catalog(models={"tiny": {"params_b": 400}})
    assert verdict(outcomes("cascade", known=huge)[0], "memory") == "fail"
    assert outcomes("cascade", known=catalog(models={"tiny": {"shape": None}}))[0].unpriced


def test_wrong_answers_of_a_cascade_are_counted_once() -> None:
    case = scenario({"wrong_answer_usd": 1}, {"teacher_quality": 0.8, "student_retention": 0.5})
    found = outcomes("cascade", case)[0]
    wrong = 1 - at(found.quality_mean, 0)
    np.testing.assert_allclose(found.monthly_usd["wrong_answers"][0], wrong * 1000 * DAYS)


def test_a_cascade_is_never_quicker_than_its_student_at_any_percentile() -> None:
    # A student whose tail is far heavier than its p50 and p95 tell.
    student = seconds(
        e2e_p50=0.2, e2e_p95=0.4, e2e_p99=18, ttft_p50=0.1, ttft_p95=0.1, ttft_p99=0.1, tpot_p50=0.01, tpot_p95=0.01,
        tpot_p99=0.01,
    )  # fmt: skip
    teacher = {
        name: np.array([[value]])
        for what, values in (("ttft", (0.5, 1, 1.3)), ("e2e", (1, 2, 3)), ("tpot", (0.01, 0.01, 0.01)))
        for name, value in zip((f"{what}_p50", f"{what}_p95", f"{what}_p99"), values, strict=True)
    }
    found = mixed_latency(student, teacher, np.array([[0.002]]))
    assert at(found["e2e_p99"], 0) >= 18
    assert at(found["e2e_p95"], 0) >= 0.4
    assert at(found["ttft_p99"], 0) <= at(found["e2e_p99"], 0)
