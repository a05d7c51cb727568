"""How long requests take where two models answer: quantiles of a mixture of one model alone and another, or of both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Latency = Mapping[str, Floats]

Z95 = 1.6448536269514722
Z99 = 2.3263478740408408
GRID_POINTS = 32  # of each part
WHATS = ("ttft", "e2e")


def after(teacher: Latency, whats: tuple[str, ...] = WHATS) -> Lognormal:
    """The teacher's part of an escalated request: to the first token and to the last, shape (2, n, 1)."""
    return Lognormal.through(*(_stacked(teacher, whats, level) for level in ("p50", "p95")))


def _stacked(latency: Latency, whats: tuple[str, ...], level: str) -> Floats:
    return np.stack(np.broadcast_arrays(*(latency[f"{what}_{level}"] for what in whats)))


def mixed_latency(
    student: dict[str, Floats],
    teacher: dict[str, Floats],
    rate: Floats,
    teachers_part: Lognormal | None = None,
    whats: tuple[str, ...] = WHATS,
) -> dict[str, Floats]:
    """Latency of a cascade [s] by objective name, shape (n, 1): quantiles of a mixture.

    A share 1 - rate of requests ends with the student's answer, which is held back until it is judged; the
    rest take the student's time and then the teacher's. The student's part goes through its known percentiles,
    log-normal between them; the sum is the log-normal with the sum's mean and variance (Fenton, 1960); the
    mixture's distribution is inverted on the quantiles of both. No percentile is below the student's own, and
    the first token never after the last. TPOT is the slower model's where anything is escalated.
    """
    return Mixture.of_a_cascade(student, teacher, teachers_part, whats).at(rate)


class Mixture:
    """Student alone and what the escalated requests take, at any escalation rate.

    Parameters
    ----------
    student, teacher : latency of each [s] by objective name, shape (n or 1, 1).
    alone, late : what a request that stays takes, and one that is sent on; None where the student's speed is unknown.
    whats : what is worked out: the time to the first token, to the last, or both.
    held_back : whether the student's answer is only shown when it is judged, as in a cascade.
    """

    def __init__(
        self,
        student: Latency,
        teacher: Latency,
        alone: Lognormal | None,
        late: Lognormal | None,
        whats: tuple[str, ...],
        *,
        held_back: bool,
    ) -> None:
        self.student, self.teacher, self.whats, self.held_back = student, teacher, whats, held_back
        self._quantiles = None if alone is None or late is None else _Quantiles(alone, late)

    @classmethod
    def of_a_cascade(
        cls, student: Latency, teacher: Latency, teachers_part: Lognormal | None = None, whats: tuple[str, ...] = WHATS
    ) -> Mixture:
        """The student answers all, and what is escalated takes both."""
        if np.isnan(student["e2e_p50"]).all():
            return cls(student, teacher, None, None, whats, held_back=True)
        alone = Lognormal.through(student["e2e_p50"], student["e2e_p95"], student.get("e2e_p99"))
        late = alone.plus(teachers_part if teachers_part is not None else after(teacher, whats))
        return cls(student, teacher, alone, late, whats, held_back=True)

    @classmethod
    def of_a_router(cls, student: Latency, teacher: Latency, whats: tuple[str, ...] = WHATS) -> Mixture:
        """Each request is answered by one of the two alone."""
        if np.isnan(student["e2e_p50"]).all():
            return cls(student, teacher, None, None, whats, held_back=False)
        levels = ["p50", "p95", *(["p99"] if all(f"{what}_p99" in student for what in whats) else [])]
        alone = Lognormal.through(*(_stacked(student, whats, level) for level in levels))
        return cls(student, teacher, alone, after(teacher, whats), whats, held_back=False)

    def at(self, rate: Floats) -> dict[str, Floats]:
        """Latency [s] by objective name, shape (n, 1), where a share ``rate`` is escalated, shape (n or 1, 1)."""
        student, teacher = self.student, self.teacher
        if self._quantiles is None:  # a student of unknown speed makes a cascade of unknown speed
            return dict.fromkeys(student, student["e2e_p50"])
        percentiles = sorted({name.rsplit("_", 1)[1] for name in student})
        found: dict[str, Floats] = {}
        for percentile, seconds in self._quantiles.at(rate, percentiles).items():
            parts = list(seconds)
            if self.held_back:
                own = student[f"e2e_{percentile}"]
                parts = [np.where(rate > 0, np.maximum(mixed, own), own) for mixed in parts]
            found[f"e2e_{percentile}"] = parts[-1]
            if "ttft" in self.whats:
                found[f"ttft_{percentile}"] = np.minimum(*parts)
        for name in (name for name in student if name.startswith("tpot")):
            found[name] = np.where(rate > 0, np.maximum(student[name], teacher[name]), student[name])
        return found


class Lognormal:
    """A latency by its median and the spread of its logarithm, a wider spread beyond p95 where p99 is known."""

    def __init__(self, median: Floats, sigma: Floats, tail: Floats | None = None) -> None:
        self.log_median, self.sigma = np.log(median), sigma
        self.tail = sigma if tail is None else tail

    @classmethod
    def through(cls, p50: Floats, p95: Floats, p99: Floats | None = None) -> Lognormal:
        middle = np.maximum(p50, 1e-12)
        sigma = np.maximum(np.log(np.maximum(p95 / middle, 1.0)) / Z95, 1e-6)
        if p99 is None:
            return cls(middle, sigma)
        return cls(middle, sigma, np.maximum(np.log(np.maximum(p99 / np.maximum(p95, 1e-12), 1.0)) / (Z99 - Z95), 1e-6))

    def plus(self, other: Lognormal) -> Lognormal:
        grown, other_grown = np.exp(self.sigma**2), np.exp(other.sigma**2)
        mine, others = np.exp(self.log_median) * np.sqrt(grown), np.exp(other.log_median) * np.sqrt(other_grown)
        mean = mine + others
        variance = mine**2 * (grown - 1) + others**2 * (other_grown - 1)
        spread = np.log1p(variance / mean**2)
        return Lognormal(np.asarray(mean * np.exp(-spread / 2)), np.asarray(np.maximum(np.sqrt(spread), 1e-6)))

    def log_at(self, z: Floats) -> Floats:
        """Logarithm of the quantile at a standard normal level."""
        return np.asarray(self.log_median + self.sigma * np.minimum(z, Z95) + self.tail * np.maximum(z - Z95, 0))

    def share_below(self, log_seconds: Floats) -> Floats:
        from scipy.special import ndtr

        z = (log_seconds - self.log_median) / self.sigma
        if self.tail is not self.sigma:
            beyond = Z95 + (log_seconds - self.log_median - Z95 * self.sigma) / self.tail
            z = np.where(z > Z95, beyond, z)
        return np.asarray(ndtr(z))


class _Quantiles:
    """Percentiles of (1 - rate) alone + rate late; their distributions are worked out once for all rates."""

    def __init__(self, alone: Lognormal, late: Lognormal) -> None:
        levels = np.linspace(-4.0, 4.0, GRID_POINTS)
        shape = (*np.broadcast_shapes(alone.log_median.shape, late.log_median.shape)[:-1], GRID_POINTS)
        grid = np.concatenate([np.broadcast_to(part.log_at(levels), shape) for part in (alone, late)], axis=-1)
        self.grid = np.sort(grid, axis=-1)
        self.alone, self.late = alone.share_below(self.grid), late.share_below(self.grid)
        self.known = ~np.isnan(late.log_median) & ~np.isnan(alone.log_median)

    def at(self, rate: Floats, percentiles: list[str]) -> dict[str, Floats]:
        """By name, shape of ``late`` over the scenarios of both and of the rate; nan where a part is not known."""
        reached = (1 - rate) * self.alone + rate * self.late
        shape = reached.shape
        shares = reached.reshape(-1, 2 * GRID_POINTS)
        points = np.broadcast_to(self.grid, shape).reshape(-1, 2 * GRID_POINTS)
        rows = np.arange(len(shares))
        found = {}
        for percentile in percentiles:
            level = int(percentile[1:]) / 100
            right = np.maximum(np.argmax(shares >= level, axis=1), 1)
            below, above, left = shares[rows, right - 1], shares[rows, right], points[rows, right - 1]
            with np.errstate(invalid="ignore", divide="ignore"):
                part = np.where(above > below, (level - below) / (above - below), 1.0)
            seconds = np.exp(left + part * (points[rows, right] - left))
            found[percentile] = np.where(self.known, seconds.reshape(shape[:-1])[..., None], np.nan)
        return found
