"""How fast a router is made and how fast it decides: 100,000 pairs, without the time of embedding."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from distillcalc.route.evaluate import Evaluation, evaluate_router
from distillcalc.route.fit import Fitted, fit_router
from distillcalc.route.goal import Goal
from distillcalc.route.pairs import Pairs
from distillcalc.route.requests import Request

Record = Callable[..., None]

PAIRS, DIMENSIONS = 100_000, 384
MOST_S, MOST_US = 10.0, 50.0


def made(seed: int, *, embedded: bool) -> Pairs:
    """A student that is surer where it is right, or embeddings that know a little of it."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(3, 1.2, PAIRS)
    right, teacher = rng.random(PAIRS) < chance, rng.random(PAIRS) < 0.9
    pairs = Pairs.of(
        right, teacher, scores={} if embedded else {"max_probability": chance},
        ids=[f"{seed} {i}" for i in range(PAIRS)], student_usd=1e-5, teacher_usd=1e-3,
    )  # fmt: skip
    if not embedded:
        return pairs
    vectors = rng.standard_normal((PAIRS, DIMENSIONS), dtype=np.float32)
    vectors[:, :8] += (chance - chance.mean()).astype(np.float32)[:, None] * 4
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(pairs, requests=tuple(Request(embedding=vector) for vector in vectors))


@pytest.mark.parametrize("score", ["max_probability", "logistic", "knn", "boosting"])
def test_fit_calibrate_and_evaluate(benchmark: BenchmarkFixture, record: Record, score: str) -> None:
    """Learned on 40,000 of them or not at all, tuned and certified on the rest, evaluated on as many others."""
    embedded = score != "max_probability"
    pairs, fresh = made(1, embedded=embedded), made(2, embedded=embedded)

    def whole() -> tuple[Fitted, Evaluation]:
        fitted = fit_router(pairs, Goal(retention=0.95), scores=[score])
        return fitted, evaluate_router(fitted.router, fresh)

    began = time.perf_counter()
    fitted, found = benchmark.pedantic(whole, rounds=1)
    seconds = time.perf_counter() - began
    assert fitted.verdict.advice == "router"
    assert found.items == PAIRS
    record(f"router of {PAIRS:,} pairs by {score}: fit, calibrate, certify and evaluate", seconds, "s", below=MOST_S)


@pytest.mark.parametrize("score", ["max_probability", "margin", "entropy", "mean_logprob"])
def test_decide(benchmark: BenchmarkFixture, record: Record, score: str) -> None:
    """One request at a time, with 77 labels or 30 tokens, calibrated probability and reason in words included."""
    pairs = Pairs.of(
        *(np.random.default_rng(seed).random(2_000) < 0.8 for seed in (0, 1)),
        scores={score: np.random.default_rng(2).random(2_000)},
    )
    router = fit_router(pairs, Goal(retention=0.8), scores=[score]).router
    rng = np.random.default_rng(3)
    requests = [
        Request("hello", probabilities=list(map(float, rng.dirichlet(np.full(77, 0.05)))), logprobs=[-0.1] * 30)
        for _ in range(1_000)
    ]

    def every() -> list[str]:
        return [router.decide(request).model for request in requests]

    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        chosen = every()
        rounds.append((time.perf_counter() - began) / len(requests))
    benchmark.pedantic(every, rounds=1)
    assert set(chosen) <= {"student", "teacher"}
    record(f"Router.decide by {score}", median(rounds) * 1e6, "us", below=MOST_US)
