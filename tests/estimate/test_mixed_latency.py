"""The latency of a router that chooses before: each request takes one model's time alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
