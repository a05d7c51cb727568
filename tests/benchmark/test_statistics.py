from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter
from scipy.special import ndtri

from distillcalc.benchmark.statistics import (
    BATCHED,
    INDEPENDENT,
    TOO_FEW,
    UNTESTED,
    dependence,
    mean_interval,
    quantiles,
)
from distillcalc.errors import InputError
from tests.benchmark.queues import mm1

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Floats]


def autoregression(random: np.random.Generator, n: int, phi: float) -> Floats:
    """Standard normal, each phi x the one before and something new."""
    return lfilter([1], [1, -phi], random.standard_normal(n + 500))[500:] * math.sqrt(1 - phi**2)


def time_in_queue(random: np.random.Generator, n: int, busy: float) -> Floats:
    arrival, finish = mm1(random, n, busy, warm=1000)
    return finish - arrival


def coverage(draw: Draw, level: float, truth: float, *, in_order: bool = True, times: int = 400) -> float:
    random = np.random.default_rng(11)
    found = [quantiles(draw(random), (level,), in_order=in_order)[level] for _ in range(times)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
)
def test_the_value_is_numpys(samples: list[float], level: float) -> None:
    found = quantiles(samples, (level,))[level]
    assert found.value == pytest.approx(np.quantile(samples, level), rel=1e-12, abs=1e-9)
    assert found.low <= found.value <= found.high or found.how == TOO_FEW
    assert found.count == found.effective == len(samples)


def test_order_statistics_by_hand() -> None:
    # 20 samples, median: P(B < 6) = 0.0207 and P(B >= 15) = 0.0207 for B ~ Bin(20, 1/2), so the 6th and the 15th, which
    # hold it with 0.9586 (the table in Conover, Practical Nonparametric Statistics, has the same pair).
    found = quantiles(np.arange(1.0, 21.0), (0.5,))[0.5]
    assert (found.low, found.value, found.high, found.how) == (6.0, 10.5, 15.0, INDEPENDENT)
    assert stats.binom.cdf(14, 20, 0.5) - stats.binom.cdf(5, 20, 0.5) == pytest.approx(0.9586, abs=1e-4)


@pytest.mark.parametrize(("level", "fewest"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_too_few_for_an_upper_end(level: float, fewest: int) -> None:
    # The highest is an upper end if level^n <= 0.025: n >= ln 0.025 / ln level = 5.3, 71.9, 367.04.
    enough = quantiles(np.arange(float(fewest)), (level,))[level]
    assert enough.high == fewest - 1
    less = quantiles(np.arange(fewest - 1.0), (level,), least=-1.0)[level]
    assert less.high == math.inf
    assert less.how == TOO_FEW
    assert less.to_dict()["high"] is None


def test_a_request_that_was_never_answered_stands_above_all() -> None:
    # Of 0..9 with 9 and 8 never answered: the median is as before, p95 lies at 0.95 x 9 = 8.55, between the two.
    samples = np.array([0, 1, 2, 3, 4, 5, 6, 7, np.inf, np.inf])
    found = quantiles(samples, (0.5, 0.77, 0.95))
    assert found[0.5].value == 4.5
    assert found[0.77].value == pytest.approx(6.93)
    assert found[0.95].value == math.inf
    assert found[0.95].to_dict()["value"] is None
    # Known to be no less than 20 and 30: 20 + 0.55 x 10, at least.
    given_up = quantiles([0, 1, 2, 3, 4, 5, 6, 7, 20, 30], (0.5, 0.95), at_least=[False] * 8 + [True] * 2)
    assert given_up[0.95].value == pytest.approx(25.5)
    assert given_up[0.95].at_least
    assert given_up[0.95].high == math.inf
    assert not given_up[0.5].at_least
    assert json.loads(json.dumps(given_up[0.95].to_dict()))["at_least"] is True


def test_an_early_failure_does_not_make_the_others_faster() -> None:
    # Given up after 0.1 s, when it might have taken any time: the median of 1..9 is no lower for it.
    values = np.append(np.arange(1.0, 10.0), 0.1)
    found = quantiles(values, (0.5,), at_least=np.arange(10) == 9)[0.5]
    assert found.at_least
    assert found.low <= 4.5
    # With it endless, of ten: the 2nd and the 9th of the order are the ends (P(B < 2) = 0.0107, P(B >= 9) = 0.0107).
    assert found.high == 9.0


def test_nothing_and_one() -> None:
    nothing = quantiles([], (0.5,), least=0.0)[0.5]
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.count) == (0.0, math.inf, 0)
    assert nothing.to_dict()["value"] is None
    one = quantiles([3.0])
    assert [found.value for found in one.values()] == [3.0] * 3
    assert all(found.how == TOO_FEW for found in one.values())
    never = quantiles([math.inf] * 100, in_order=True)[0.5]
    assert never.value == never.low == math.inf


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_of_independent_samples_hold_what_they_say(level: float) -> None:
    truth = -math.log(1 - level)
    found = coverage(lambda random: random.exponential(1.0, 500), level, truth)
    # 95% or somewhat more; of 400 the standard error is 1.1%. Too wide an interval is wrong too.
    assert 0.93 <= found <= 0.99


@pytest.mark.parametrize(
    ("draw", "level", "truth", "least"),
    [
        (lambda random: autoregression(random, 500, 0.8), 0.5, 0.0, 0.93),
        (lambda random: autoregression(random, 500, 0.8), 0.95, float(ndtri(0.95)), 0.93),
        (lambda random: time_in_queue(random, 500, 0.7), 0.5, math.log(2) / 0.3, 0.92),
        (lambda random: time_in_queue(random, 2000, 0.7), 0.95, math.log(20) / 0.3, 0.90),  # e^-0.3t: P(T > t), M/M/1
    ],
)  # fmt: skip
def test_intervals_of_dependent_samples_hold_what_they_say(
    draw: Draw, level: float, truth: float, least: float
) -> None:
    assert coverage(draw, level, truth, times=300) >= least
    # Taken for independent they do not: this is what in_order is for.
    assert coverage(draw, level, truth, in_order=False, times=300) < 0.75


def test_a_hundred_and_a_thousand_times_the_requests_narrow_the_interval() -> None:
    random = np.random.default_rng(5)
    widths = []
    for n in (1000, 4000, 16000):
        found = quantiles(autoregression(random, n, 0.8), (0.5,), in_order=True)[0.5]
        assert found.how == BATCHED
        # A first-order autoregression's median is worth fewer than n (1 - phi) / (1 + phi) x 2 of them.
        assert found.effective < n / 4
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2]


def test_dependence_is_seldom_seen_where_there_is_none() -> None:
    random = np.random.default_rng(2)
    seen = np.mean([dependence(random.exponential(1.0, 400)).dependent for _ in range(400)])
    assert 0.02 <= seen <= 0.15  # two tests, each with 5%


def test_dependence_by_neighbours_and_by_batches() -> None:
    random = np.random.default_rng(3)
    near = dependence(autoregression(random, 1000, 0.8))
    assert near.lag1 == pytest.approx(0.8, abs=0.08)
    assert near.dependent
    # A slow swing of 4% of the variance: neighbours correlate by 0.04, of 1000 that is seen (0.052) about every third
    # time. Means of fifty have 1 + 49 x 0.04 = 3 times the variance.
    swing = math.sqrt(2) * 0.2 * np.sin(np.arange(1000) / 1000 * 2 * math.pi)
    slow = [dependence(swing + 0.98 * random.standard_normal(1000)) for _ in range(100)]
    assert np.mean([one.lag1 > 1.645 / math.sqrt(1000) for one in slow]) < 0.6
    assert np.mean([one.variance_ratio for one in slow]) == pytest.approx(2.96, abs=0.5)
    assert np.mean([one.dependent for one in slow]) > 0.9
    assert not dependence(np.full(500, 0.25)).dependent
    assert not dependence(np.arange(79.0)).dependent
    assert quantiles(np.arange(79.0), (0.5,), in_order=True)[0.5].how == UNTESTED
    assert dependence(np.arange(80.0)).dependent


def test_the_mean_of_independent_samples_is_scipys() -> None:
    samples = [1.0, 2.0, 4.0, 9.0]
    found = mean_interval(samples, 0.9)
    expected = stats.ttest_1samp(samples, 0).confidence_interval(0.9)
    assert found.value == 4.0
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    lone = mean_interval([2.0])
    assert (lone.value, lone.low, lone.high, lone.how) == (2.0, -math.inf, math.inf, TOO_FEW)
    assert math.isnan(mean_interval([]).value)


def test_a_mean_with_requests_that_never_ended_is_at_least() -> None:
    found = mean_interval([1.0, 3.0, math.inf])
    assert found.value == 2.0
    assert found.at_least
    assert found.high == math.inf
    assert mean_interval([1.0, 3.0], at_least=[False, True]).at_least


def test_the_interval_of_a_dependent_mean_holds_it() -> None:
    random = np.random.default_rng(8)
    runs = [autoregression(random, 500, 0.8) for _ in range(300)]
    heeded = [mean_interval(run, in_order=True) for run in runs]
    ignored = [mean_interval(run) for run in runs]
    assert np.mean([one.low <= 0 <= one.high for one in heeded]) >= 0.92
    # The variance of the mean is (1 + 0.8) / (1 - 0.8) = 9 times what it would be: 1.96 / 3 = 0.65 standard errors.
    assert np.mean([one.low <= 0 <= one.high for one in ignored]) == pytest.approx(0.485, abs=0.09)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=200), st.randoms(use_true_random=False))
def test_without_an_order_the_order_does_not_matter(samples: list[float], random: object) -> None:
    turned = samples.copy()
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert quantiles(samples) == quantiles(turned)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="without nan"):
        quantiles([1.0, math.nan])
    with pytest.raises(InputError, match=r"0.95 for p95. Got 95"):
        quantiles([1.0], (95,))
    with pytest.raises(InputError, match="confidence is a share"):
        mean_interval([1.0], 95)
    with pytest.raises(InputError, match="one for each of 2 samples"):
        quantiles([1.0, 2.0], at_least=[True])
