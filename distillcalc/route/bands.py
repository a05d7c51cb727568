"""How far the figures of a curve might be off: a bootstrap over its items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.route.curve import Curve
from distillcalc.route.mixing import Kind, billed
from distillcalc.route.pairs import Pairs

Floats = NDArray[np.float64]

RESAMPLES = 1_000
GROUPS = 256  # of equal score or neighbouring scores, in which an item may be for its threshold
GRID = np.linspace(0, 1, 101)  # escalation rates at which bands are told
LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Metric:
    """A figure with its 95% interval; nan where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON."""
        return {name: v if np.isfinite(v) else None for name, v in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Bands:
    """A curve as other samples of the same size would have shown it.

    The items of one group of scores and one outcome are alike for a curve, so that a resample of the items is one
    multinomial draw over those cells. With more than 256 different scores neighbours are put into one group: the
    figures themselves are of every score, their intervals of 256 thresholds. Dollars are the mean of a cell, and so
    are outcomes between right and wrong, which are put together by eighths. The hull of a resample lies too high, so
    that the interval of AIQ is too short: about 87% where 95% is meant.

    Parameters
    ----------
    curve : as it was seen.
    rate, quality, usd : of each resample at each group, shape (resamples, groups + 1).
    """

    curve: Curve
    rate: Floats
    quality: Floats
    usd: Floats
    best: Floats

    @classmethod
    def of(
        cls,
        pairs: Pairs,
        score: str,
        kind: Kind = "cascade",
        extra_usd: float = 0.0,
        *,
        name: str | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> Bands:
        """Resample the items of a curve.

        Parameters
        ----------
        pairs, score, kind, extra_usd, name : as of :meth:`.curve.Curve.of`.
        resamples : how many.
        seed : the same one gives the same bands.
        """
        if resamples < 2:
            raise InputError(f"bands take 2 resamples or more. Got {resamples}")
        curve = Curve.of(pairs, score, kind, extra_usd, name=name)
        values, usd = pairs.score(score)[:, 0], billed(pairs, kind, extra_usd)
        group = _groups(values)
        outcome = _outcomes(pairs.right)
        cell, member = np.unique(group * (outcome.max() + 1) + outcome, return_inverse=True)
        counts = np.bincount(member)
        groups = int(group.max()) + 1
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(pairs), counts / len(pairs), size=resamples).astype(float) / len(pairs)
        starts = np.searchsorted(cell // (outcome.max() + 1), np.arange(groups))  # cells are in order of their groups
        means, (student, teacher) = (
            [np.bincount(member, weights=values[:, side]) / counts for side in (0, 1)] for values in (usd, pairs.right)
        )

        def rising(first: Floats, second: Floats) -> Floats:
            sums = np.add.reduceat(drawn * (second - first), starts, axis=1)
            at_none = drawn @ first
            return np.asarray(at_none[:, None] + np.pad(np.cumsum(sums, axis=1), ((0, 0), (1, 0))))

        return cls(
            curve,
            rising(np.zeros_like(student), np.ones_like(student)),
            rising(student, teacher),
            rising(*means),
            drawn @ np.maximum(student, teacher),
        )

    @cached_property
    def gap(self) -> Floats:
        """By how much the teacher is better, of each resample."""
        return np.asarray(self.quality[:, -1] - self.quality[:, 0])

    def _interval(self, value: float, drawn: Floats) -> Metric:
        known = drawn[np.isfinite(drawn)]
        if not known.size or not np.isfinite(value):
            return Metric(value, float("nan"), float("nan"))
        low, high = np.quantile(known, LEVELS)
        return Metric(value, float(low), float(high))

    def metric(self, compute: Callable[[Curve], float]) -> Metric:
        """Any figure of a curve, with its interval."""
        return self._interval(compute(self.curve), self._each(compute))

    def _each(self, compute: Callable[[Curve], float]) -> Floats:
        return np.array([compute(self._one(i)) for i in range(len(self.gap))])

    def _one(self, i: int) -> Curve:
        c = self.curve
        nothing = np.empty(0)
        return Curve(
            nothing, self.rate[i], self.quality[i], self.usd[i], nothing, nothing, c.student_usd, c.teacher_usd, c.kind,
            c.name,
        )  # fmt: skip

    @cached_property
    def _apgr(self) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            pgr = (self.quality - self.quality[:, :1]) / np.where(self.gap > 0, self.gap, np.nan)[:, None]
        return np.asarray(np.trapezoid(pgr, self.rate, axis=1))

    @property
    def apgr(self) -> Metric:
        """APGR, of the resamples in which the teacher is better."""
        return self._interval(self.curve.apgr, self._apgr)

    @property
    def lift(self) -> Metric:
        """Quality above that of sending on as many at random, on average over escalation rates: (APGR - 0.5) x the gap.

        Unlike APGR it is defined where the teacher is no better, and does not blow up where the gap is small.
        """
        c = self.curve
        seen = float(np.trapezoid(c.quality - c.student_quality - c.escalation_rate * c.gap, c.escalation_rate))
        above = self.quality - self.quality[:, :1] - self.rate * self.gap[:, None]
        return self._interval(seen, np.asarray(np.trapezoid(above, self.rate, axis=1)))

    @property
    def teacher_lead(self) -> Metric:
        """By how much the teacher is better than the student."""
        return self._interval(self.curve.gap, self.gap)

    def cpt(self, share: float) -> Metric:
        """CPT of a share of the gap."""
        return self.metric(lambda curve: curve.cpt(share))

    def aiq(self, cost: Any = "usd") -> Metric:
        """AIQ over dollars or calls."""
        return self.metric(lambda curve: curve.aiq(cost))

    def over_random(self, rate: float) -> Metric:
        """Quality above that of sending on at random for as many dollars; as many calls where dollars are not known."""
        return self.metric(lambda curve: curve.quality_at(rate) - curve.random_quality(curve.random_rate(rate)))

    @cached_property
    def quality_band(self) -> Floats:
        """Low and high ends of quality at the escalation rates of ``GRID``, shape (2, 101)."""
        rows = np.array([np.interp(GRID, rate, quality) for rate, quality in zip(self.rate, self.quality, strict=True)])
        return np.asarray(np.quantile(rows, LEVELS, axis=0))


def _outcomes(right: Floats) -> NDArray[np.intp]:
    """A number for each item by what came of it, shape (items,); outcomes between right and wrong by eighths."""
    steps = 1 if ((right == 0) | (right == 1)).all() else 8
    near = np.rint(right * steps).astype(np.intp)
    return np.asarray(near[:, 0] * (steps + 1) + near[:, 1])


def _groups(score: Floats) -> NDArray[np.intp]:
    """Each item's place among the groups, 0 for the lowest scores, shape (items,)."""
    distinct, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    if len(distinct) <= GROUPS:
        return np.asarray(inverse)
    middle = np.cumsum(counts) - counts / 2
    of = np.minimum((middle / len(score) * GROUPS).astype(np.intp), GROUPS - 1)
    return np.asarray(np.unique(of, return_inverse=True)[1][inverse])
