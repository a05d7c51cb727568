"""Arrivals: the hit share of a cache by hand and in its limits, profiles of the week."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distillcalc.workload import Profile, business_hours, cache_hit_share
from distillcalc.workload.arrivals import HOURS_PER_WEEK
from tests.workload.strategies import numbers

FLAT = Profile.of(None)
# 84 hours at 0.5 and 84 at 1.5 times the mean rate
TWO_LEVELS = Profile.of((1.0,) * 84 + (3.0,) * 84)


def hits(
    requests_per_day: float,
    distinct_prefixes: float = 1,
    ttl_s: float = 300,
    profile: Profile = FLAT,
    *,
    refreshed: bool = True,
) -> float:
    share: NDArray[np.float64] = cache_hit_share(
        np.array([requests_per_day]), np.array([distinct_prefixes]), np.array([ttl_s]), profile, refreshed=refreshed
    )
    return float(share[0])


def test_hit_share_by_hand() -> None:
    # 8,640 requests a day are 0.1 a second, over ten prefixes 0.01 a second each: 3 within 300 s.
    # 1 - exp(-3) = 1 - 0.049787 = 0.950213
    assert hits(8_640, distinct_prefixes=10) == pytest.approx(0.950213, abs=1e-6)


def test_hit_share_averages_over_the_hours_in_which_requests_come() -> None:
    # A quarter of the requests comes at half the rate, three quarters at one and a half times it:
    # 0.25 (1 - exp(-1.5)) + 0.75 (1 - exp(-4.5)) = 0.25 x 0.776870 + 0.75 x 0.988891 = 0.935886
    assert hits(8_640, distinct_prefixes=10, profile=TWO_LEVELS) == pytest.approx(0.935886, abs=1e-6)


def test_hit_share_is_that_of_a_simulated_poisson_stream() -> None:
    gaps = np.random.default_rng(1).exponential(scale=1 / 0.01, size=1_000_000)  # 0.01 requests a second
    assert hits(8_640, distinct_prefixes=10, ttl_s=60) == pytest.approx(np.mean(gaps <= 60), abs=2e-3)


def test_hit_share_without_a_restart_by_hand() -> None:
    # Each entry lives for 300 s from its write and sees 3 more requests: 3 of 4 hit
    assert hits(8_640, distinct_prefixes=10, refreshed=False) == pytest.approx(0.75)
    # At half and one and a half times the rate: 0.25 x 1.5 / 2.5 + 0.75 x 4.5 / 5.5 = 0.15 + 0.613636
    uneven = hits(8_640, distinct_prefixes=10, profile=TWO_LEVELS, refreshed=False)
    assert uneven == pytest.approx(0.763636, abs=1e-6)


def test_hit_share_without_a_restart_is_that_of_a_simulated_stream() -> None:
    arrivals = np.cumsum(np.random.default_rng(2).exponential(scale=100, size=200_000))
    found, written = 0, -math.inf
    for at in arrivals:
        if at - written <= 60:
            found += 1
        else:
            written = at
    assert hits(8_640, distinct_prefixes=10, ttl_s=60, refreshed=False) == pytest.approx(found / 200_000, abs=5e-3)


@given(rate=numbers(1e-3, 1e9), ttl=numbers(1e-3, 1e6))
def test_a_restart_never_hits_less(rate: float, ttl: float) -> None:
    assert hits(rate, ttl_s=ttl, refreshed=False) <= hits(rate, ttl_s=ttl) + 1e-12


def test_a_cache_that_forgets_at_once_never_hits() -> None:
    # For a short TTL the share is rate x TTL: 0.1 a second x 1 microsecond
    assert hits(8_640, ttl_s=1e-6) == pytest.approx(1e-7, rel=1e-6)
    assert hits(8_640, ttl_s=0) == 0


@pytest.mark.parametrize("profile", [FLAT, TWO_LEVELS, Profile.of((0.0,) * 100 + (1.0,) * 68)])
def test_a_cache_that_never_forgets_always_hits(profile: Profile) -> None:
    for refreshed in (True, False):
        assert hits(1, ttl_s=math.inf, profile=profile, refreshed=refreshed) == pytest.approx(1, abs=1e-12)
        assert hits(1e6, ttl_s=1e9, profile=profile, refreshed=refreshed) == pytest.approx(1, abs=1e-8)


def test_hit_share_broadcasts_over_scenarios_and_months() -> None:
    rates, prefixes = np.array([[100.0, 200.0, 400.0], [1e3, 2e3, 4e3]]), np.array([[1.0], [5.0]])
    share = cache_hit_share(rates, prefixes, np.array([[300.0]]), TWO_LEVELS)
    assert share.shape == (2, 3)
    assert share[1, 2] == pytest.approx(hits(4e3, 5, 300, TWO_LEVELS), rel=1e-12)


@given(rate=numbers(1e-3, 1e9), more=numbers(1, 1e3), prefixes=numbers(1, 1e6), ttl=numbers(1e-3, 1e6))
def test_more_traffic_or_a_longer_life_never_hits_less(rate: float, more: float, prefixes: float, ttl: float) -> None:
    share = hits(rate, prefixes, ttl, TWO_LEVELS)
    assert 0 <= share <= 1 + 1e-12
    assert hits(rate * more, prefixes, ttl, TWO_LEVELS) >= share - 1e-12
    assert hits(rate, prefixes, ttl * more, TWO_LEVELS) >= share - 1e-12
    assert hits(rate, prefixes * more, ttl, TWO_LEVELS) <= share + 1e-12


@given(rate=numbers(1e-3, 1e9), prefixes=numbers(1, 1e6), ttl=numbers(1e-3, 1e6))
def test_an_uneven_week_never_hits_more_per_hour_than_its_busiest(rate: float, prefixes: float, ttl: float) -> None:
    busiest = hits(rate * TWO_LEVELS.peak, prefixes, ttl)
    assert hits(rate, prefixes, ttl, TWO_LEVELS) <= busiest + 1e-12


# Profiles


def test_a_flat_week_has_one_level() -> None:
    assert FLAT.levels.tolist() == [1]
    assert FLAT.hours.tolist() == [1]
    assert FLAT.peak == 1


def test_levels_are_relative_to_the_mean() -> None:
    assert TWO_LEVELS.levels.tolist() == [0.5, 1.5]
    assert TWO_LEVELS.hours.tolist() == [0.5, 0.5]
    assert TWO_LEVELS.requests.tolist() == [0.25, 0.75]
    assert TWO_LEVELS.peak == 1.5


week = st.lists(numbers(0, 100), min_size=HOURS_PER_WEEK, max_size=HOURS_PER_WEEK).filter(lambda rates: sum(rates) > 1)


@given(rates=week, unit=numbers(0.1, 10))
def test_a_profile_keeps_every_hour_and_every_request(rates: list[float], unit: float) -> None:
    profile = Profile.of(tuple(rates))
    assert profile.hours.sum() == pytest.approx(1)
    assert profile.requests.sum() == pytest.approx(1)
    assert profile.peak == pytest.approx(max(rates) / np.mean(rates))
    assert Profile.of(tuple(rate * unit for rate in rates)).peak == pytest.approx(profile.peak)


# Business hours


def test_business_hours_by_hand() -> None:
    # 5 x 10 office hours carry 0.8 of 168 hours' worth: 0.8 x 168 / 50 = 2.688 each, the other 118 hours
    # 0.2 x 168 / 118 = 0.284746 each; the sum is 168.
    rates = business_hours()
    assert len(rates) == 168
    assert sum(rates) == pytest.approx(168)
    assert rates[8] == pytest.approx(2.688)  # Monday 08:00
    assert rates[17] == pytest.approx(2.688)
    assert rates[18] == pytest.approx(0.284746, abs=1e-6)  # the office closes
    assert rates[7] == pytest.approx(0.284746, abs=1e-6)
    assert rates[4 * 24 + 12] == pytest.approx(2.688)  # Friday noon
    assert rates[5 * 24 + 12] == pytest.approx(0.284746, abs=1e-6)  # Saturday noon
    assert sum(rate > 1 for rate in rates) == 50


def test_business_hours_peak_is_2688_times_the_mean() -> None:
    assert Profile.of(business_hours()).peak == pytest.approx(2.688)


@given(share=numbers(0.01, 1), start=st.integers(0, 11), end=st.integers(12, 24))
def test_business_hours_carry_the_share_asked_for(share: float, start: int, end: int) -> None:
    rates = np.array(business_hours(share, start, end)).reshape(7, 24)
    assert rates.sum() == pytest.approx(168)
    assert rates[:5, start:end].sum() == pytest.approx(168 * share)
