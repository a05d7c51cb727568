"""The latency of a router that chooses before, and of either kind where a tail is heavier than a log-normal's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from distillcalc.estimate.mixed_latency import Mixture, mixed_latency
from distillcalc.estimate.outcome import at


def seconds(**values: float) -> dict[str, Any]:
    return {name: np.array([[value]]) for name, value in values.items()}


STUDENT = seconds(ttft_p50=0.1, ttft_p95=0.2, e2e_p50=1, e2e_p95=2, tpot_p50=0.01, tpot_p95=0.02)
TEACHER = seconds(ttft_p50=2, ttft_p95=5, e2e_p50=3, e2e_p95=6, tpot_p50=0.005, tpot_p95=0.05)


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.9])
def test_a_mixture_of_student_alone_and_teacher_alone(rate: float) -> None:
    # Against a million requests drawn: log-normals through the same medians and p95s.
    rng, n = np.random.default_rng(2), 1_000_000
    found = Mixture.of_a_router(STUDENT, TEACHER).at(np.array([[rate]]))
    sent = rng.random(n) < rate
    for what in ("ttft", "e2e"):
        own, big = (
            at(of[f"{what}_p50"], 0)
            * np.exp(np.log(at(of[f"{what}_p95"], 0) / at(of[f"{what}_p50"], 0)) / 1.6448536 * rng.standard_normal(n))
            for of in (STUDENT, TEACHER)
        )
        for level in (50, 95):
            wanted = np.quantile(np.where(sent, big, own), level / 100)
            assert at(found[f"{what}_p{level}"], 0) == pytest.approx(wanted, rel=0.06)
    assert (at(found["tpot_p50"], 0), at(found["tpot_p95"], 0)) == (0.01, 0.05)


@pytest.mark.parametrize(("rate", "model"), [(0.0, STUDENT), (1.0, TEACHER)])
def test_where_one_model_answers_all_it_is_as_fast_as_that_one(rate: float, model: dict[str, Any]) -> None:
    found = Mixture.of_a_router(STUDENT, TEACHER).at(np.array([[rate]]))
    for name in ("ttft_p50", "ttft_p95", "e2e_p50", "e2e_p95"):
        assert at(found[name], 0) == pytest.approx(at(model[name], 0), rel=0.03)


def test_many_rates_are_each_one_rate() -> None:
    rates = np.array([[0.0], [0.2], [0.7]])
    for made in (Mixture.of_a_router, Mixture.of_a_cascade):
        many = made(STUDENT, TEACHER).at(rates)
        for i, rate in enumerate(rates):
            alone = made(STUDENT, TEACHER).at(rate[None])
            assert {name: at(v, i) for name, v in many.items()} == {name: at(v, 0) for name, v in alone.items()}


def test_a_cascade_waits_for_the_student_and_a_router_does_not() -> None:
    for rate in (0.1, 0.5, 1.0):
        cascade = mixed_latency(STUDENT, TEACHER, np.array([[rate]]))
        router = Mixture.of_a_router(STUDENT, TEACHER).at(np.array([[rate]]))
        assert all(at(router[name], 0) <= at(cascade[name], 0) for name in cascade)


def test_a_model_of_unknown_speed_makes_a_mixture_of_unknown_speed() -> None:
    unknown = dict.fromkeys(STUDENT, np.array([[np.nan]]))
    for made in (Mixture.of_a_router, Mixture.of_a_cascade):
        assert all(np.isnan(v).all() for v in made(unknown, TEACHER).at(np.array([[0.3]])).values())
        late = made(STUDENT, unknown).at(np.array([[0.3]]))
        assert all(np.isnan(late[name]).all() for name in ("e2e_p50", "e2e_p95"))


def with_p99(of: dict[str, Any], **p99: float) -> dict[str, Any]:
    return {**of, **seconds(**{f"{what}_p99": value for what, value in p99.items()})}


def drawn(of: dict[str, Any], what: str, z: np.ndarray) -> np.ndarray:
    """Seconds through p50, p95 and p99, the logarithm straight in normal levels between and beyond them."""
    logs = np.log([at(of[f"{what}_{level}"], 0) for level in ("p50", "p95", "p99")])
    z95, z99 = 1.6448536, 2.3263479
    below, beyond = logs[0] + (logs[1] - logs[0]) / z95 * z, logs[1] + (logs[2] - logs[1]) / (z99 - z95) * (z - z95)
    return np.asarray(np.exp(np.where(z < z95, below, beyond)))


def levels(rng: np.random.Generator, n: int) -> np.ndarray:
    """Standard normal, each nth of the distribution once: less noise in a tail than numbers drawn."""
    return np.asarray(ndtri((rng.permutation(n) + 0.5) / n))


PLAIN = {"student": 2 ** (2.3263479 / 1.6448536), "teacher": 3 * 2 ** (2.3263479 / 1.6448536)}


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("student_p99", "teacher_p99"), [(6.0, 8.0), (12.0, 8.0), (2.2, 8.0), (2.67, 20.0)])
def test_a_cascade_keeps_the_tail_of_its_parts(rate: float, student_p99: float, teacher_p99: float) -> None:
    # Against 300,000 requests.
    rng, n = np.random.default_rng(4), 300_000
    student = with_p99(STUDENT, ttft=0.3, e2e=student_p99, tpot=0.03)
    teacher = with_p99(TEACHER, ttft=7.3, e2e=teacher_p99, tpot=0.06)
    found = mixed_latency(student, teacher, np.array([[rate]]))
    own, sent = drawn(student, "e2e", levels(rng, n)), rng.random(n) < rate
    z = levels(rng, n)
    for what in ("ttft", "e2e"):
        total = own + sent * drawn(teacher, what, z)
        for level in (50, 95, 99):
            wanted = np.quantile(total, level / 100)
            assert at(found[f"{what}_p{level}"], 0) == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_a_router_keeps_the_tail_of_its_parts(rate: float) -> None:
    rng, n = np.random.default_rng(5), 300_000
    student = with_p99(STUDENT, ttft=0.9, e2e=12, tpot=0.03)
    teacher = with_p99(TEACHER, ttft=20, e2e=30, tpot=0.06)
    found = Mixture.of_a_router(student, teacher).at(np.array([[rate]]))
    sent, z, other = rng.random(n) < rate, levels(rng, n), levels(rng, n)
    for what in ("ttft", "e2e"):
        total = np.where(sent, drawn(teacher, what, z), drawn(student, what, other))
        for level in (50, 95, 99):
            assert at(found[f"{what}_p{level}"], 0) == pytest.approx(np.quantile(total, level / 100), rel=0.03)


def test_a_p99_that_is_the_log_normals_changes_nothing() -> None:
    plain = {
        name: with_p99(of, ttft=1, e2e=PLAIN[name], tpot=0.1)
        for name, of in (("student", STUDENT), ("teacher", TEACHER))
    }
    plain["teacher"]["ttft_p99"] = np.array([[2 * 2.5 ** (2.3263479 / 1.6448536)]])
    for rate in (0.1, 0.6):
        found, wanted = (
            mixed_latency(a, b, np.array([[rate]]))
            for a, b in ((plain["student"], plain["teacher"]), (STUDENT, TEACHER))
        )
        for name, value in wanted.items():
            assert at(found[name], 0) == pytest.approx(at(value, 0), rel=1e-6)


def test_scenarios_with_a_tail_and_without_are_each_as_alone() -> None:
    p99 = np.array([[9.0], [2.67], [30.0]])
    several = mixed_latency(STUDENT | {"e2e_p99": p99}, TEACHER, np.array([[0.3]]))
    for i, value in enumerate(p99):
        one = mixed_latency(STUDENT | {"e2e_p99": value[None]}, TEACHER, np.array([[0.3]]))
        for name in ("ttft_p95", "e2e_p50", "e2e_p95", "e2e_p99"):
            assert at(several[name], i) == pytest.approx(at(one[name], 0), rel=1e-9)
