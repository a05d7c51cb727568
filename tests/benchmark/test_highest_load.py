from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from distillcalc.benchmark.highest_load import highest_load, judged
from distillcalc.benchmark.summary import Summary, summarise
from distillcalc.errors import InputError
from distillcalc.workload.workload import Slo
from tests.benchmark.queues import served, traces_of

P95 = Slo(e2e_p95_s=1.0)


def mm1_of(slo: Slo, per_s: float = 10.0) -> Callable[[float, int, int], Summary]:
    """An M/M/1 queue that serves ``per_s``: its time in the queue exceeds t with e^-(per_s - rate) t."""

    def measure(rate: float, requests: int, seed: int) -> Summary:
        random = np.random.default_rng([7, seed])
        arrival = np.cumsum(random.exponential(1 / rate, requests))
        return summarise(traces_of(arrival, served(arrival, random.exponential(1 / per_s, requests))), slo, "steady")

    return measure


def exact(limit: float) -> Callable[[float, int, int], Summary]:
    """E2E is level / limit, to a tenth of a percent: P95 is met up to the limit."""

    def measure(level: float, requests: int, seed: int) -> Summary:
        due = np.arange(requests) * 10 * level / limit
        jitter = 1e-3 * np.random.default_rng(seed).random(requests)
        return summarise(traces_of(due, due + level / limit * (1 - jitter)), P95)

    return measure


def test_the_highest_rate_of_an_mm1_queue_is_between_the_two() -> None:
    # P(T > t) = e^-(mu - lambda) t, so p95 = ln 20 / (mu - lambda) <= 1 s up to lambda = 10 - 2.996 = 7.004 a second.
    truth = 10 - math.log(20)
    found = highest_load(mm1_of(P95), P95, 1.0, requests=4000, most_requests=64_000, tolerance=0.1)
    assert found.met is not None
    assert found.missed is not None
    assert found.met < truth < found.missed
    assert found.missed / found.met < 1.35
    assert len(found.measured) <= 30
    # It started at 1, doubled up to 8 or above, and what it passed by far took no second measurement.
    assert [one.level for one in found.measured[:3]] == [1.0, 2.0, 4.0]
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found).startswith(f"{found.met:.4g} met the SLO, {found.missed:.4g} missed it, after")


def test_the_highest_rate_of_an_md1_queue_with_two_objectives() -> None:
    # M/D/1, service 0.1 s, TTFT limit 0.15 s: of Erlang (1909), for a wait t below the service time, P(W <= t) =
    # (1 - busy) e^(rate t). At t = 0.05 s it is 0.5, the median, at rate 6.362: 0.3638 x e^0.3181 = 0.3638 x 1.3745.
    from scipy.optimize import brentq

    truth = brentq(lambda r: (1 - 0.1 * r) * math.exp(0.05 * r) - 0.5, 1, 9.9)
    assert truth == pytest.approx(6.362, abs=1e-3)
    slo = Slo(ttft_p50_s=0.15, e2e_p99_s=100.0)

    def measure(rate: float, requests: int, seed: int) -> Summary:
        random = np.random.default_rng([3, seed])
        arrival = np.cumsum(random.exponential(1 / rate, requests))
        return summarise(traces_of(arrival, served(arrival, np.full(requests, 0.1))), slo, "steady")

    found = highest_load(measure, slo, 2.0, 9.5, requests=4000, most_requests=32_000)
    assert found.met is not None
    assert found.missed is not None
    assert found.met < truth < found.missed
    assert found.missed / found.met < 1.2


def test_most_searches_hold_the_truth() -> None:
    truth = 10 - math.log(20)
    held, narrow = [], []
    for seed in range(0, 1200, 100):
        found = highest_load(mm1_of(P95), P95, 2.0, requests=2000, most_requests=8000, tolerance=0.1, seed=seed)
        assert found.met is not None
        held.append(found.met <= truth <= (found.missed or math.inf))
        narrow.append(found.met > truth / 2)
    assert np.mean(held) >= 0.85
    assert np.mean(narrow) >= 0.8


def test_bisection_without_noise() -> None:
    found = highest_load(exact(7.3), P95, 1.0, 100.0, tolerance=0.02)
    assert found.met is not None
    assert found.missed is not None
    assert found.met <= 7.3 <= found.missed
    assert found.missed / found.met <= 1.02
    # ln 100 / ln 1.02 = 233 steps of 2%: two ends and 8 halvings.
    assert len(found.measured) <= 10
    assert found.undecided is None
    assert found.stopped == "met and missed are as near as was asked for"


def test_whole_levels_end_beside_each_other() -> None:
    found = highest_load(exact(23.5), P95, 1, whole=True, tolerance=1e-9)
    assert (found.met, found.missed) == (23.0, 24.0)
    assert [one.level for one in found.measured[:6]] == [1, 2, 4, 8, 16, 32]
    assert all(one.level == int(one.level) for one in found.measured)


def test_the_ends() -> None:
    high = highest_load(exact(50.0), P95, 1.0, 20.0)
    assert (high.met, high.missed) == (20.0, None)
    assert high.stopped == "the highest level that was to be tried meets the SLO"
    low = highest_load(exact(0.5), P95, 1.0)
    assert (low.met, low.missed, len(low.measured)) == (None, 1.0, 1)
    assert low.stopped == "even the lowest level misses the SLO"
    endless = highest_load(exact(1e30), P95, 1.0, most_measurements=7)
    assert (endless.met, endless.missed) == (64.0, None)
    spent = highest_load(exact(7.3), P95, 1.0, 100.0, most_measurements=4)
    assert len(spent.measured) == 4
    assert "4 measurements that were allowed" in spent.stopped
    assert endless.stopped == "the 7 measurements that were allowed are made"


def test_a_level_that_cannot_be_told_from_the_limit_is_measured_again_and_then_said_so() -> None:
    # E2E 0.5 s below 10 and 2 s above 20; between, p95 is at the limit: 5% of requests take a hair longer.
    sent: list[tuple[float, int, int]] = []

    def measure(level: float, requests: int, seed: int) -> Summary:
        sent.append((level, requests, seed))
        random = np.random.default_rng(seed)
        due = np.arange(requests) * 10.0
        near = np.where(random.random(requests) < 0.05, 1.1, 0.9)
        return summarise(traces_of(due, due + (0.5 if level < 10 else 2.0 if level > 20 else near)), P95)

    found = highest_load(measure, P95, 1.0, requests=200, most_requests=800, tolerance=0.05)
    assert found.met is not None
    assert found.missed is not None
    assert found.undecided is not None
    assert 9 <= found.met < 10 <= found.undecided[0] <= found.undecided[1] <= 20 < found.missed <= 22
    assert "800 requests do not tell whether the levels from" in found.stopped
    again = [requests for level, requests, _ in sent if level == found.undecided[0]]
    assert again == [200, 400, 800]
    assert [seed for *_, seed in sent] == list(range(len(sent)))  # each with prompts of its own


def test_a_client_that_cannot_send_bounds_the_search_but_is_no_miss() -> None:
    def measure(level: float, requests: int, seed: int) -> Summary:
        due = np.arange(requests) / level
        sent = np.arange(requests) / min(level, 40.0)  # the client sends 40 a second at most
        return summarise(traces_of(due, sent + 0.01, sent_s=sent), P95)

    found = highest_load(measure, P95, 5.0, tolerance=0.1)
    assert found.met is not None
    assert 36 <= found.met <= 41
    assert found.missed is None
    assert "the client could not send" in found.stopped
    assert {one.verdict for one in found.measured} == {"met", "not sent"}
    alone = highest_load(measure, P95, 80.0)
    assert (alone.met, alone.missed) == (None, None)
    assert alone.stopped == "the client could not send the lowest level"


def test_a_level_at_which_requests_pile_up_misses() -> None:
    # 1.2 a second against one that can be served, for so short a time that all are still within a generous limit.
    slo = Slo(e2e_p95_s=1e6)
    due = np.arange(400) / 1.2
    verdict, why = judged(summarise(traces_of(due, served(due, np.ones(400))), slo))
    assert verdict == "missed"
    assert why.startswith("saturated")


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="no objective to search by"):
        highest_load(exact(1.0), Slo(), 1.0)
    with pytest.raises(InputError, match=r"low must be a number above 0. Got 0"):
        highest_load(exact(1.0), P95, 0.0)
    with pytest.raises(InputError, match=r"low must be a whole number above 0. Got 1.5"):
        highest_load(exact(1.0), P95, 1.5, whole=True)
    with pytest.raises(InputError, match="high must be above low"):
        highest_load(exact(1.0), P95, 2.0, 1.0)
    with pytest.raises(InputError, match="tolerance must be above 0"):
        highest_load(exact(1.0), P95, 1.0, most_requests=10)
    with pytest.raises(InputError, match="measure must summarise under the SLO"):
        highest_load(lambda *_: replace(exact(1.0)(1, 400, 0), slo=None), P95, 1.0)
