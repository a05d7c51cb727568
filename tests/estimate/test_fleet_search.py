"""The least fleet against trying every size, its bounds, and by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.estimate.fleet_search import (
    alone,
    least_replicas,
    replica_seconds,
    requests_needed,
    simulate_steady,
    stability_bound,
)
from distillcalc.estimate.simulation import Engine, Requests, Traffic, simulate
from distillcalc.estimate.step_time import StepTime

FIXED = StepTime(1e-3, 0, 0, 0, 1, 0, 0, 0, 1)
LLM_7B = StepTime(2e-3, 2e-5, 5e-3, 0, 1, 5e-8, 1.5e-5, 1e-10, 1)
ENGINE = Engine(LLM_7B, 60_000)


def chats(rate: float, cv: float = 1.0) -> Traffic:
    random = np.random.default_rng(5)
    inputs, outputs = (1 + random.lognormal(mean, 1.0, 3000).astype(int) for mean in (6.8, 3.9))
    return Traffic(rate, inputs, outputs, interarrival_cv=cv)


@pytest.mark.parametrize(
    "objectives",
    [
        [("ttft", 0.95, 0.25)],
        [("tpot", 0.95, 0.02), ("e2e", 0.5, 2.0)],
        [("ttft", 0.99, 0.3), ("e2e", 0.95, 3.5)],
        [],
    ],
)
@pytest.mark.parametrize("queue", ["shortest", "central"])
def test_the_answer_is_the_first_size_that_does(objectives: Any, queue: Any) -> None:
    traffic = chats(100.0, cv=1.5)
    found = least_replicas(ENGINE, traffic, objectives, queue=queue)
    requests = found.at.requests

    def does(replicas: int) -> bool:
        one = simulate(ENGINE, requests, replicas=replicas, queue=queue, warm_up=0.1)
        within = [one.quantile(what, level) <= limit for what, level, limit in objectives]
        return all(within) and not one.queue_grew

    assert found.replicas == next(n for n in range(found.stable_from, 100) if does(n))
    assert found.at.replicas == found.replicas
    assert found.one_fewer is not None
    assert found.one_fewer.replicas == found.replicas - 1
    assert found.one_fewer.requests is requests
    if objectives:
        assert found.replicas > found.stable_from
        assert len(requests) * 0.9 >= 200 / (1 - max(level for _, level, _ in objectives)) - 1


def test_requests_given_are_replayed() -> None:
    # Six at once, one slot each, 2 ms: within 4 ms on three replicas.
    engine = Engine(FIXED, 100, max_sequences=1)
    burst = Requests(np.zeros(60), 1, 2)
    found = least_replicas(engine, burst, [("e2e", 0.5, 0.00601)], warm_up=0.0)
    # The thirtieth of sixty ends in the third round or before: ten a round.
    assert found.replicas == 10
    assert found.one_fewer is not None
    assert found.one_fewer.quantile("e2e", 0.5) == pytest.approx(0.008)
    assert found.floor_s == {"e2e_p50": pytest.approx(0.002)}
    assert least_replicas(engine, Requests(np.arange(60.0), 1, 2), []).one_fewer is None


def test_replica_seconds_by_hand() -> None:
    # 4 tokens in, 1 thought and 2 out; a cache of 20 and chunks of 8 hold more, two slots: 3 / 2 steps a request.
    step = StepTime(1, 0.5, 10, 0, 1, 0.25, 2, 0.125, 0.75)
    engine = Engine(step, 20, max_sequences=2, chunk_tokens=8)
    # Reads 1.5 x 10 + 0.25 x (5 + 6) = 17.75, computes 2 x 6 + 0.125 x 16 / 2 = 13.
    expected = 1.5 + 0.5 * 3 + 0.75 * 17.75 + 0.25 * 30.75
    assert replica_seconds(engine, Traffic(1.0, 4, 2, 1)) == pytest.approx(expected)
    # A cache of 7 holds one request: three steps each.
    scarce = dataclasses.replace(engine, kv_tokens=7)
    expected = 3 + 0.5 * 3 + 0.75 * 32.75 + 0.25 * 45.75
    assert replica_seconds(scarce, Traffic(1.0, 4, 2, 1)) == pytest.approx(expected)
    # Chunks of 2: six tokens in three steps.
    assert replica_seconds(dataclasses.replace(engine, chunk_tokens=2), Traffic(1.0, 4, 2, 1)) == pytest.approx(
        expected
    )
    assert stability_bound(scarce, Traffic(2 / expected, 4, 2, 1)) == 2
    assert stability_bound(scarce, Traffic(2.01 / expected, 4, 2, 1)) == 3


@given(st.integers(0, 2**32), st.sampled_from([None, 8, 64]), st.floats(0, 1), st.integers(1, 8))
@settings(max_examples=100)
def test_no_batching_needs_less_than_the_bound(seed: int, chunk: int | None, overlap: float, slots: int) -> None:
    """With work always at hand and whatever the batches, the busy time per request is not below it."""
    random = np.random.default_rng(seed)
    constants = random.uniform(0, 1, 10) * [1e-3, 1e-4, 5e-3, 5e-3, 1, 1e-5, 1e-4, 1e-6, 0, 1e-5]
    step = dataclasses.replace(StepTime(*constants), overlap=overlap)
    lengths = random.integers(1, 200, 50), random.integers(1, 30, 50), random.integers(0, 10, 50)
    engine = Engine(step, 240 + int(random.integers(0, 2000)), max_sequences=slots, chunk_tokens=chunk)
    busy = simulate(engine, Requests(np.zeros(50), *lengths)).busy_s.sum()
    assert busy >= 50 * replica_seconds(engine, Traffic(1.0, *lengths)) * (1 - 1e-9)


def test_alone_is_the_floor() -> None:
    traffic = chats(20.0)
    by_itself = alone(ENGINE, traffic)
    one = simulate(ENGINE, Requests([0.0], traffic.input_tokens[7], traffic.output_tokens[7]))  # type: ignore[index]
    assert by_itself.e2e_s[7] == pytest.approx(one.e2e_s[0])
    assert by_itself.ttft_s[7] == pytest.approx(one.ttft_s[0])
    assert (by_itself.wait_s == 0).all()
    shared = simulate(ENGINE, Requests(np.zeros(3000), *traffic.lengths), replicas=3)
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        values, floors = getattr(shared, name), getattr(by_itself, name)
        assert (values[np.isfinite(values)] >= floors[np.isfinite(values)] * (1 - 1e-9)).all()
    least = by_itself.quantile("ttft", 0.95)
    with pytest.raises(InputError, match=rf"ttft_p95 must be below .* is {least:.4g} s .* no number of replicas"):
        least_replicas(ENGINE, traffic, [("ttft", 0.95, 0.99 * least)])


def test_a_fleet_that_cannot_keep_up_is_refused_with_one_that_can() -> None:
    traffic = chats(60.0)
    least = least_replicas(ENGINE, traffic, []).replicas
    assert simulate_steady(ENGINE, traffic, least + 1).replicas == least + 1
    for few in (1, least - 1):
        with pytest.raises(InputError, match=rf"{few} replicas? cannot keep up with 60 requests/s.* \d+ keep up"):
            simulate_steady(ENGINE, traffic, few)


def test_enough_requests_for_the_percentile_and_for_long_stays() -> None:
    # Alone a request of 1 in and 5,000 out takes 5 s.
    by_itself = alone(Engine(FIXED, 1e6), Traffic(1.0, 1, 5000))
    assert requests_needed(by_itself, 1.0, [("ttft", 0.5, 1.0)], 0.0) == 2000
    assert requests_needed(by_itself, 1.0, [("ttft", 0.99, 1.0), ("tpot", 0.5, 1.0)], 0.2) == 25_000
    assert requests_needed(by_itself, 300.0, [("ttft", 0.99, 1.0)], 0.0) == 30_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": [("wait", 0.95, 1.0)]}, "ttft, tpot, e2e. Got 'wait'"),
        ({"objectives": [("ttft", 95, 1.0)]}, "0.95 for p95. Got 95"),
        ({"objectives": [("ttft", 0.95, 0.0)]}, "limit of ttft_p95 must be seconds above 0. Got 0"),
        ({"objectives": [("ttft", 0.99, 5.0)], "count": 500}, "ttft_p99 needs at least 1,000 .* Got 450"),
        ({"most": 0}, "most must be 1 replica or more. Got 0"),
        ({"most": 1}, "100 requests/s keep at least .* more than the 1 allowed"),
        ({"objectives": [("ttft", 0.95, 0.25)], "most": 4}, "4 replicas do not do: ttft_p95 is .* the limit 0.25 s"),
        ({"most": 4}, "4 replicas do not do: the queue grows"),
        ({"warm_up": 1.0}, "warm_up .* Got 1.0"),
    ],
)
def test_searches_that_cannot_be(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        least_replicas(**{"engine": ENGINE, "peak": chats(100.0), "objectives": [], **change})


def test_the_search_is_as_long_as_requests_stay_under_load() -> None:
    """At high rates a request stays far longer than alone; a run of seconds would end before the fleet is full."""
    traffic = Traffic(300.0, 350, 60)
    engine = Engine(StepTime(2e-3, 1e-5, 4.7e-3, 0, 1, 1.8e-8, 1.7e-5, 6e-10, 0), 990_000, 1024, 8192)
    limits = [("e2e", 0.95, 5.0)]
    found = least_replicas(engine, traffic, limits)
    longer = least_replicas(engine, traffic, limits, count=200_000)
    assert found.replicas == longer.replicas
    stays = float(np.mean(found.at.e2e_s))
    assert len(found.at.requests) >= 20 * 300 * stays * 0.9


def test_bursts_take_more_requests() -> None:
    one = simulate(ENGINE, Requests([0.0], 100, 10))
    calm, wild = (requests_needed(one, 1.0, [("e2e", 0.95, 1.0)], 0.1, cv) for cv in (1.0, 5.0))
    assert wild == pytest.approx(13 * calm, rel=1e-3)  # (1 + 25) / 2
