"""When requests come: the hour-of-week profile, its peak, and what the gaps between requests do to a cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOURS_PER_WEEK = 168
SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, eq=False)  # arrays have no truth value: workloads are compared by their fields
class Profile:
    """The distinct hourly rates of a week, relative to its mean rate.

    Parameters
    ----------
    levels : rate of an hour / mean rate, distinct, rising, shape (k,).
    hours : share of the week's hours at each level, shape (k,); sums to 1.
    """

    levels: Floats
    hours: Floats

    @classmethod
    def of(cls, hour_of_week: tuple[float, ...] | None) -> Profile:
        """From 168 relative rates, Monday 00:00 first (UTC), or None for a flat week."""
        if hour_of_week is None:
            return cls(np.ones(1), np.ones(1))
        rates = np.asarray(hour_of_week, dtype=float)
        levels, counts = np.unique(rates / rates.mean(), return_counts=True)
        return cls(levels, counts / HOURS_PER_WEEK)

    @classmethod
    def rises_of(cls, hour_of_week: tuple[float, ...] | None) -> tuple[tuple[int, int, float], ...]:
        """How often the rate rises from one hour to the next: (level before, level after, share of the hours).

        Levels are positions in :attr:`levels` of the same week.
        """
        if hour_of_week is None:
            return ()
        _, level = np.unique(np.asarray(hour_of_week, dtype=float), return_inverse=True)
        after = np.roll(level, -1)
        pairs, counts = np.unique(np.stack([level, after])[:, after > level], axis=1, return_counts=True)
        return tuple(
            (int(low), int(high), float(n) / HOURS_PER_WEEK) for low, high, n in zip(*pairs, counts, strict=True)
        )

    @property
    def peak(self) -> float:
        """Rate of the busiest hour / mean rate."""
        return float(self.levels[-1])

    @property
    def requests(self) -> Floats:
        """Share of requests that come at each level, shape (k,)."""
        return self.levels * self.hours


def cache_hit_share(
    requests_per_day: Floats, distinct_prefixes: Floats, ttl_s: Floats, profile: Profile, *, refreshed: bool = True
) -> Floats:
    """Share of requests that find their prefix in a cache.

    Poisson arrivals per prefix: P(hit) = 1 - exp(-rate x TTL) where a hit restarts the time-to-live, and
    rate x TTL / (1 + rate x TTL) where it does not; averaged over the week's hours by the requests that come
    in each. Bursty traffic hits more often than this says.

    Parameters
    ----------
    requests_per_day : requests of the whole workload, any shape that broadcasts.
    distinct_prefixes : how many different prefixes they share between them.
    ttl_s : time-to-live [s].
    refreshed : whether a hit restarts it.

    Returns
    -------
    share in [0, 1], broadcast shape.

    Notes
    -----
    The gap to the previous request of a Poisson stream is exponential, so a hit, a gap below the TTL,
    has probability 1 - exp(-rate x TTL) (Kingman, Poisson Processes, 1993, section 4.1). Without a restart
    each miss is followed by rate x TTL hits on average.
    """
    mean_arrivals_per_ttl = requests_per_day / (SECONDS_PER_DAY * distinct_prefixes) * ttl_s
    hits = np.zeros_like(mean_arrivals_per_ttl)
    for level, share in zip(profile.levels, profile.requests, strict=True):
        if not share:
            continue  # in an hour without requests nothing hits, however long entries live
        arrivals = level * mean_arrivals_per_ttl
        # expm1(-log1p(a)) is a / (1 + a), for an endless TTL too
        hits = hits - share * np.expm1(-arrivals if refreshed else -np.log1p(arrivals))
    return hits


@cache
def business_hours(day_share: float = 0.8, start_hour: int = 8, end_hour: int = 18) -> tuple[float, ...]:
    """A week whose weekday office hours carry ``day_share`` of the requests; the rest is even.

    Returns 168 relative rates, Monday 00:00 first.
    """
    hours = np.arange(HOURS_PER_WEEK)
    office = (hours < 5 * 24) & (hours % 24 >= start_hour) & (hours % 24 < end_hour)
    rates = np.where(office, day_share / office.sum(), (1 - day_share) / (~office).sum())
    return tuple(float(rate) for rate in rates * HOURS_PER_WEEK)
