from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.benchmark.steadiness import punctuality, saturation, warm_up
from distillcalc.errors import InputError
from tests.benchmark.queues import mm1, served


def mser_by_definition(values: np.ndarray) -> int:
    """White (1997) as it is written: the cut with the least squared error of what is left, batch by batch."""
    means = [values[i : i + 5].mean() for i in range(0, len(values) // 5 * 5, 5)]
    errors = [
        np.sum((np.array(means[d:]) - np.mean(means[d:])) ** 2) / (len(means) - d) ** 2 for d in range(len(means))
    ]
    return 5 * int(np.argmin(errors[:-5]))


def test_a_warm_up_is_cut_where_it_ends() -> None:
    # 50 values that fall from 5 to 0, then 450 around 0: all of the fall is cut, and little of what follows.
    random = np.random.default_rng(1)
    values = np.concatenate([np.linspace(5, 0, 50), np.zeros(450)]) + 0.1 * random.standard_normal(500)
    found = warm_up(values)
    assert found.found
    assert 40 <= found.cut <= 60
    assert found.cut == mser_by_definition(values)
    assert found.why == f"steady after the first {found.cut} of 500"


@given(st.integers(0, 10_000), st.sampled_from([100, 153, 400]), st.floats(-1e6, 1e6))
def test_the_cut_is_the_definitions_whatever_the_level(seed: int, n: int, level: float) -> None:
    random = np.random.default_rng(seed)
    values = np.cumsum(random.standard_normal(n)) * 0.1 + random.exponential(1.0, n)
    cut = mser_by_definition(values)
    found = warm_up(values + level)
    assert (found.cut, found.found) == ((cut, True) if cut <= n / 2 else (0, False))


def test_a_run_that_never_settles_is_told() -> None:
    arrival, finish = mm1(np.random.default_rng(4), 1000, 1.3)  # more than it can serve: latencies rise to the end
    found = warm_up(finish - arrival)
    assert found.found is False
    assert found.cut == 0
    assert "no steady state: the best cut would be after" in found.why
    few = warm_up(np.zeros(99))
    assert few.found is None
    assert "too few to tell a warm-up: 99, it takes 100" in few.why
    assert warm_up(np.zeros(100)).why == "steady from the start"
    times = np.arange(200) * 0.1
    assert warm_up((times + 0.3) - times).found  # what differs is rounding


def test_most_independent_series_are_steady() -> None:
    random = np.random.default_rng(6)
    found = [warm_up(random.exponential(1.0, 500)) for _ in range(200)]
    assert np.mean([one.found is True for one in found]) > 0.95
    assert np.mean([one.cut for one in found]) < 50


def test_saturation_by_hand() -> None:
    # One due each second, served in 2 s each, one at a time: of 100 due by 99 s, those ended by then are 49 (the i-th,
    # from 1, at 2 i). Half of what comes piles up, 0.5 a second.
    due = np.arange(100.0)
    finish = served(due, np.full(100, 2.0))
    found = saturation(due, finish)
    assert found.saturated
    assert found.growth_per_s == pytest.approx(0.5, abs=0.02)
    assert found.asked_per_s == pytest.approx(1.0, abs=0.02)
    assert found.answered_per_s == pytest.approx(0.5, abs=0.02)
    assert (found.backlog_most, found.backlog_end) == (51, 51)
    assert found.p_value < 1e-6
    # It is looked at from 0.3 x 99 = 29.7 s on: 70 due, 35 answered in 69.3 s.
    assert found.why.startswith(
        "saturated: of 1.01 requests/s that were due 0.5051 were answered; what was left grew by"
    )
    # Served in 0.9 s it keeps up, with one under way at most.
    idle = saturation(due, served(due, np.full(100, 0.9)))
    assert idle.saturated is False
    assert (idle.growth_per_s, idle.backlog_most) == (0.0, 1)
    assert idle.p_value >= 0.5


def test_a_server_that_turns_requests_away_does_not_keep_up() -> None:
    # Every fourth fails at once: nothing waits, and yet a quarter of what is due is never answered.
    due = np.arange(200.0)
    answered = np.arange(200) % 4 > 0
    found = saturation(due, due + 0.1, answered)
    assert found.saturated
    assert found.growth_per_s == pytest.approx(0.25, abs=0.02)
    assert found.backlog_most == 1
    assert "failed" in found.why


@pytest.mark.parametrize(
    ("busy", "least", "most"), [(0.7, 0.0, 0.0), (0.95, 0.0, 0.02), (1.2, 0.3, 0.6), (1.5, 0.95, 1)]
)
def test_how_often_a_queue_is_called_saturated(busy: float, least: float, most: float) -> None:
    random = np.random.default_rng(3)
    found = np.mean([saturation(*mm1(random, 500, busy)).saturated is True for _ in range(300)])
    assert least <= found <= most


def test_the_interval_of_the_growth_holds_it() -> None:
    # A fifth more comes than can be served (one a second): what is left grows by 0.2 a second.
    random = np.random.default_rng(9)
    found = [saturation(*mm1(random, 2000, 1.2)) for _ in range(300)]
    assert np.mean([one.growth_low_per_s <= 0.2 <= one.growth_high_per_s for one in found]) == pytest.approx(
        0.95, abs=0.035
    )
    assert np.mean([one.growth_per_s for one in found]) == pytest.approx(0.2, abs=0.01)


def test_too_few_requests_say_nothing_of_saturation() -> None:
    found = saturation([0.0, 1.0], [5.0, 9.0])
    assert found.saturated is None
    assert found.backlog_end == 2
    assert math.isnan(found.growth_per_s)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["growth_per_s"] is None
    burst = saturation(np.zeros(500), np.arange(500.0) + 1)
    assert burst.saturated is None
    assert burst.backlog_most == 500


def test_the_order_of_requests_does_not_matter() -> None:
    random = np.random.default_rng(0)
    arrival, finish = mm1(random, 400, 1.1)
    turned = random.permutation(400)
    answered = random.random(400) < 0.9
    assert saturation(arrival, finish, answered) == saturation(arrival[turned], finish[turned], answered[turned])


def test_a_client_that_is_late() -> None:
    due = np.arange(100) / 10
    on_time = punctuality(due, due + 0.001)
    assert on_time.honoured
    assert on_time.late_p50_s == pytest.approx(0.001)
    assert on_time.sent_share == pytest.approx(1.0)
    # Two of a hundred 50 ms late: p99, 0.99 x 99 = 98.01 from the least, is one of them.
    stumbled = punctuality(due, due + np.where(np.arange(100) >= 98, 0.05, 0.0))
    assert not stumbled.honoured
    assert stumbled.late_p50_s == 0
    assert stumbled.late_p99_s == pytest.approx(0.05)
    assert "one in a hundred was sent 50 ms late or more, allowed are 10 ms" in stumbled.why
    assert punctuality(due, due + np.where(np.arange(100) >= 98, 0.05, 0.0), allowed_s=0.06).honoured


def test_a_client_that_cannot_send_so_many() -> None:
    # 100 a second are asked for and 80 sent.
    due = np.arange(1000) / 100
    found = punctuality(due, np.arange(1000) / 80)
    assert not found.honoured
    assert found.sent_share == pytest.approx(0.8)
    assert "sent at 80% of the rate asked for" in found.why
    burst = punctuality(np.zeros(5), np.zeros(5))
    assert burst.honoured
    assert burst.to_dict()["sent_share"] is None


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="finite numbers"):
        warm_up([1.0, math.nan])
    with pytest.raises(InputError, match="of one length"):
        saturation([1.0, 2.0], [3.0])
    with pytest.raises(InputError, match="one request at least"):
        punctuality([], [])
