"""Quality against cost at every threshold of a score, beside always-student, always-teacher, random and oracle.

Routers are compared by PGR, the share of the gap between student and teacher that is recovered; APGR, its mean over all
escalation rates; CPT(x), the least escalation rate at which PGR reaches x (RouteLLM, Ong et al., arXiv:2406.18665); and
AIQ, the area under the non-decreasing convex hull of quality over cost, by the width of the cost (RouterBench, Hu et
al., arXiv:2403.12031). Between two thresholds a mixture of both is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.route.mixing import Kind, billed
from distillcalc.route.pairs import Pairs

Floats = NDArray[np.float64]
RANDOM_APGR = 0.5


@dataclass(frozen=True, eq=False)
class Curve:
    """A student and a teacher mixed at every threshold, from none sent on to all.

    Parameters
    ----------
    threshold : below it a request is sent on, shape (points,); the last is above every score.
    escalation_rate : share of requests sent on, shape (points,), rising from 0 to 1.
    quality : mean of what is right, shape (points,).
    usd : mean dollars of a request, shape (points,); nan where costs are not known.
    oracle_quality : the best that any router could have at each of ``oracle_rate``.
    student_usd, teacher_usd : of one model answering everything, nothing judged [USD per request].
    kind : a cascade pays the student for every request, a router for those that it keeps.
    """

    threshold: Floats
    escalation_rate: Floats
    quality: Floats
    usd: Floats
    oracle_rate: Floats
    oracle_quality: Floats
    student_usd: float
    teacher_usd: float
    kind: Kind
    name: str

    @classmethod
    def of(
        cls, pairs: Pairs, score: str, kind: Kind = "cascade", extra_usd: float = 0.0, *, name: str | None = None
    ) -> Curve:
        """The curve of a score over items that it was not made from.

        Parameters
        ----------
        pairs : of two models.
        score : its name.
        kind, extra_usd : see :func:`.mixing.billed`.
        name : what the score is called; left out, its name among the scores of the pairs.

        Raises
        ------
        InputError
            For chains of more than two models, or a score that the pairs do not hold.
        """
        if len(pairs.models) != 2:
            raise InputError(f"a curve is of two models. Got {len(pairs.models)}: {', '.join(pairs.models)}")
        values = pairs.score(score)[:, 0]
        usd = billed(pairs, kind, extra_usd)
        distinct, inverse = np.unique(values, return_inverse=True)
        n = len(values)
        gain = pairs.right[:, 1] - pairs.right[:, 0]

        def rising(more: Floats, start: float) -> Floats:
            sums = np.bincount(inverse, weights=more, minlength=len(distinct))
            return np.asarray(start + np.concatenate([[0.0], np.cumsum(sums)]) / n)

        best = np.sort(gain)[::-1]
        return cls(
            threshold=np.concatenate([distinct, [np.nextafter(distinct[-1], np.inf)]]),
            escalation_rate=rising(np.ones(n), 0.0),
            quality=rising(gain, float(pairs.right[:, 0].mean())),
            usd=rising(usd[:, 1] - usd[:, 0], float(usd[:, 0].mean())),
            oracle_rate=np.arange(n + 1) / n,
            oracle_quality=pairs.right[:, 0].mean() + np.concatenate([[0.0], np.cumsum(best)]) / n,
            student_usd=float("nan") if pairs.usd is None else float(pairs.usd[:, 0].mean()),
            teacher_usd=float("nan") if pairs.usd is None else float(pairs.usd[:, 1].mean()),
            kind=kind,
            name=name or score,
        )

    @property
    def student_quality(self) -> float:
        """Of the student answering everything."""
        return float(self.quality[0])

    @property
    def teacher_quality(self) -> float:
        """Of the teacher answering everything."""
        return float(self.quality[-1])

    @property
    def gap(self) -> float:
        """By how much the teacher is better; at most 0 where it is not."""
        return self.teacher_quality - self.student_quality

    @property
    def priced(self) -> bool:
        """Whether dollars are known."""
        return bool(np.isfinite(self.usd).all())

    @cached_property
    def pgr(self) -> Floats:
        """Performance gap recovered at each point; nan where the teacher is not better."""
        gap = self.gap
        return np.full(self.quality.shape, np.nan) if gap <= 0 else (self.quality - self.student_quality) / gap

    @property
    def apgr(self) -> float:
        """Mean of PGR over escalation rates from 0 to 1, by trapezoids; nan where the teacher is not better."""
        return float(np.trapezoid(self.pgr, self.escalation_rate))

    @property
    def oracle_apgr(self) -> float:
        """The highest APGR that these answers allow."""
        if self.gap <= 0:
            return float("nan")
        return float(np.trapezoid((self.oracle_quality - self.student_quality) / self.gap, self.oracle_rate))

    def cpt(self, share: float) -> float:
        """The least escalation rate at which ``share`` of the gap is recovered; nan where the teacher is no better.

        Parameters
        ----------
        share : of the gap, in (0, 1]; 0.5 for CPT(50%).
        """
        if not 0 < share <= 1:
            raise InputError(f"CPT is of a share of the gap, above 0 and at most 1. Got {share}")
        return float("nan") if self.gap <= 0 else _first_at(self.pgr, self.escalation_rate, share)

    def hull(self, cost: Literal["calls", "usd"] = "usd") -> tuple[Floats, Floats]:
        """Corners of the non-decreasing convex hull of quality over cost: what mixing thresholds at random can reach.

        Returns
        -------
        cost, quality : shape (corners,); both rise.
        """
        x = self.escalation_rate if cost == "calls" else self.usd
        return upper_hull(x, self.quality)

    def aiq(self, cost: Literal["calls", "usd"] = "usd") -> float:
        """Area under the hull by the width of the cost, in [0, 1]; nan where all costs are one."""
        x = self.escalation_rate if cost == "calls" else self.usd
        corners, height = self.hull(cost)
        low, high = float(np.min(x)), float(np.max(x))
        if not high > low:
            return float("nan")
        area = np.trapezoid(height, corners) + (high - corners[-1]) * height[-1]
        return float(area / (high - low))

    def quality_at(self, rate: float) -> float:
        """Quality where this share is sent on, between two thresholds on the line between them."""
        return float(np.interp(rate, self.escalation_rate, self.quality))

    def random_quality(self, rate: float) -> float:
        """Quality of sending on this share at random."""
        return self.student_quality + rate * self.gap

    def usd_at(self, rate: float) -> float:
        """Dollars of a request where this share is sent on."""
        return float(np.interp(rate, self.escalation_rate, self.usd))

    def random_usd(self, rate: float) -> float:
        """Dollars of a request of sending on this share at random, which needs no judging and pays one model each."""
        return self.student_usd + rate * (self.teacher_usd - self.student_usd)

    def oracle_usd(self, rate: float) -> float:
        """Dollars of a request of an oracle that sends on this share, paid as the curve's kind is."""
        kept = self.student_usd if self.kind == "cascade" else self.student_usd * (1 - rate)
        return kept + rate * self.teacher_usd

    def random_rate(self, rate: float) -> float:
        """The share that, sent on at random, costs what this router does where it sends on ``rate``; that itself where
        dollars are not known. A teacher that costs no more than its student can always be asked.
        """
        if not self.priced:
            return rate
        if self.teacher_usd <= self.student_usd:
            return 1.0
        share = (self.usd_at(rate) - self.student_usd) / (self.teacher_usd - self.student_usd)
        return min(max(share, 0.0), 1.0)

    def rate_for(self, quality: float) -> float:
        """The least escalation rate of at least this quality; nan where none has it."""
        return _first_at(self.quality, self.escalation_rate, quality)

    def random_rate_for(self, quality: float) -> float:
        """The least share that, sent on at random, gives this quality; nan where none does."""
        if quality <= self.student_quality:
            return 0.0
        return (
            (quality - self.student_quality) / self.gap if self.gap > 0 and quality <= self.teacher_quality else np.nan
        )


def _first_at(values: Floats, rate: Floats, wanted: float) -> float:
    """Where ``values``, joined by lines over ``rate``, first reach a value; nan where they never do."""
    reached = np.flatnonzero(values >= wanted - 1e-12)
    if not reached.size:
        return float("nan")
    right = int(reached[0])
    if right == 0:
        return float(rate[0])
    low, high = values[right - 1], values[right]
    part = (wanted - low) / (high - low) if high > low else 1.0
    return float(rate[right - 1] + min(max(part, 0.0), 1.0) * (rate[right] - rate[right - 1]))


def upper_hull(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """The non-decreasing upper convex hull of points, by Andrew's monotone chain.

    Returns
    -------
    cost, quality : its corners, both rising.
    """
    order = np.lexsort((-quality, cost))
    x, y = cost[order], quality[order]
    corners: list[int] = []
    for i in range(len(x)):
        if corners and (x[i] == x[corners[-1]] or y[i] <= y[corners[-1]]):
            continue  # not better than something cheaper
        while len(corners) >= 2:
            a, b = corners[-2], corners[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.asarray(x[corners]), np.asarray(y[corners])
