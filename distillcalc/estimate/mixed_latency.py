"""How long requests take where two models answer: quantiles of a mixture of one model alone and another, or of both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Latency = Mapping[str, Floats]

Z95 = 1.6448536269514722
Z99 = 2.3263478740408408
LEAST = 0.01  # of a tail's slope that matters: p99 within 0.7%
GRID_POINTS = 32  # of each part
SUM_POINTS = 40  # of each part of a sum, and of the sum
SAME = 0.02  # relative difference up to which a tail is that of the log-normal through p50 and p95
MILD = 0.5  # and up to which the tail of what comes second may be added to that of a log-normal
WHATS = ("ttft", "e2e")


def after(teacher: Latency, whats: tuple[str, ...] = WHATS) -> Lognormal:
    """The teacher's part of an escalated request: to the first token and to the last, shape (2, n, 1)."""
    return _through(teacher, whats)


def _through(latency: Latency, whats: tuple[str, ...]) -> Lognormal:
    """Through p50, p95 and, where each of ``whats`` has one, p99; shape (2, n, 1)."""
    levels = ["p50", "p95", *(["p99"] if all(f"{what}_p99" in latency for what in whats) else [])]
    return Lognormal.through(*(_stacked(latency, whats, level) for level in levels))


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
    rest take the student's time and then the teacher's. Each part goes through its known percentiles, log-normal
    between them. The sum of two log-normals is the log-normal with the sum's mean and variance (Fenton, 1960); where a
    p99 says that a part is none, it is their convolution. The mixture's distribution is inverted on the quantiles of
    both. No percentile is below the student's own, and
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
        late: Lognormal | Sum | None,
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
        return cls(student, teacher, _through(student, whats), after(teacher, whats), whats, held_back=False)

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
        if p99 is not None:
            p50, p95, p99 = np.broadcast_arrays(p50, p95, p99)
        middle = np.maximum(p50, 1e-12)
        sigma = np.maximum(np.log(np.maximum(p95 / middle, 1.0)) / Z95, 1e-6)
        if p99 is None:
            return cls(middle, sigma)
        return cls(middle, sigma, np.maximum(np.log(np.maximum(p99 / np.maximum(p95, 1e-12), 1.0)) / (Z99 - Z95), 1e-6))

    def bends(self, by: float = SAME) -> NDArray[np.bool_]:
        """Where p99 is not that of the log-normal through p50 and p95, by more than a share of the spread."""
        return np.asarray(np.abs(self.tail - self.sigma) > np.maximum(by * self.sigma, LEAST))

    def plus(self, other: Lognormal) -> Sum:
        """The sum of two that do not depend on each other."""
        return Sum(self, other)

    def at_rows(self, rows: NDArray[np.bool_]) -> Lognormal:
        """Of some scenarios, shape (rows, 1)."""
        of = (np.broadcast_to(v[..., 0], rows.shape)[rows][:, None] for v in (self.log_median, self.sigma, self.tail))
        median, sigma, tail = of
        return Lognormal(np.exp(median), sigma, tail)

    def where(self, condition: NDArray[np.bool_], other: Lognormal) -> Lognormal:
        """This one where the condition holds, and else the other."""
        median, sigma, tail = (
            np.where(condition, mine, others)
            for mine, others in (
                (self.log_median, other.log_median), (self.sigma, other.sigma), (self.tail, other.tail),
            )
        )  # fmt: skip
        return Lognormal(np.exp(median), sigma, tail)

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


class Sum:
    """The sum of two latencies: a log-normal, and a convolution in the scenarios where a part is no log-normal."""

    def __init__(self, one: Lognormal, other: Lognormal) -> None:
        self._lognormal = _fenton(one, other)
        self.log_median = self._lognormal.log_median
        # A convolution takes long; a mild tail of a teacher, which most have, does not ask for it.
        self._convolved = np.broadcast_to(one.bends() | other.bends(MILD), self.log_median.shape)
        self._rows = self._convolved[..., 0]
        if self._rows.any():
            self._log_seconds, self._z = _convolved(*(part.at_rows(self._rows) for part in (one, other)))

    def bends(self) -> NDArray[np.bool_]:
        """Where it is not taken for a log-normal."""
        return self._convolved

    def log_at(self, z: Floats) -> Floats:
        """Logarithm of the quantile at a standard normal level."""
        found = self._lognormal.log_at(z)
        if self._rows.any():
            at = np.broadcast_to(z, (*self._rows.shape, z.shape[-1]))[self._rows]
            found[self._rows] = _interpolated(at, self._z, self._log_seconds)
        return found

    def share_below(self, log_seconds: Floats) -> Floats:
        """Share of requests that take no longer."""
        from scipy.special import ndtr

        found = self._lognormal.share_below(log_seconds)
        if self._rows.any():
            at = np.broadcast_to(log_seconds, found.shape)[self._rows]
            found[self._rows] = ndtr(_interpolated(at, self._log_seconds, self._z))
        return found


def _fenton(one: Lognormal, other: Lognormal) -> Lognormal:
    """The log-normal with the mean and variance of the sum; beyond p95 it bends as far as the second part does."""
    grown, other_grown = np.exp(one.sigma**2), np.exp(other.sigma**2)
    mine, others = np.exp(one.log_median) * np.sqrt(grown), np.exp(other.log_median) * np.sqrt(other_grown)
    mean = mine + others
    variance = mine**2 * (grown - 1) + others**2 * (other_grown - 1)
    spread = np.log1p(variance / mean**2)
    sigma = np.asarray(np.maximum(np.sqrt(spread), 1e-6))
    part = np.where(other.bends(), others**2 * (other_grown - 1) / np.maximum(variance, 1e-300), 0.0)
    tail = sigma * (1 + part * (other.tail / other.sigma - 1))
    return Lognormal(np.asarray(mean * np.exp(-spread / 2)), sigma, np.asarray(tail))


def _convolved(one: Lognormal, other: Lognormal) -> tuple[Floats, Floats]:
    """Logarithms of seconds of the sum and their standard normal levels, shape (rows, SUM_POINTS) each.

    P(X + Y <= t) = sum over i of w_i P(Y <= t - x_i): X the narrower of the two, at even levels weighted by the normal
    density, so that each term is smooth. The t are sums of equal quantiles, which reach further than those of the sum.
    """
    from scipy.special import ndtri

    levels = np.linspace(-4.5, 4.5, SUM_POINTS)
    weights = np.exp(-(levels**2) / 2)
    weights /= weights.sum()
    ends = [np.exp(part.log_at(np.array([0.0, Z99]))) for part in (one, other)]
    first_is_narrow = (ends[0][:, 1] - ends[0][:, 0] <= ends[1][:, 1] - ends[1][:, 0])[:, None]
    narrow, wide = one.where(first_is_narrow, other), other.where(first_is_narrow, one)
    waits = np.exp(narrow.log_at(levels))
    seconds = waits + np.exp(wide.log_at(levels))
    shares = np.zeros_like(seconds)
    for i, weight in enumerate(weights):
        left = seconds - waits[:, i : i + 1]
        shares += weight * np.where(left > 0, wide.share_below(np.log(np.maximum(left, 1e-300))), 0.0)
    # Strictly rising, so that it can be read both ways.
    z = np.maximum.accumulate(ndtri(np.clip(shares, 1e-12, 1 - 1e-12)), axis=1) + 1e-9 * np.arange(SUM_POINTS)
    return np.log(seconds) + 1e-12 * np.arange(SUM_POINTS), np.asarray(z)


def _interpolated(at: Floats, x: Floats, y: Floats) -> Floats:
    """Straight lines through the points of each row, and on beyond its ends; shape of ``at``, (rows, points)."""
    right = np.clip((x[:, None, :] < at[..., None]).sum(axis=-1), 1, x.shape[1] - 1)
    x0, x1, y0, y1 = (np.take_along_axis(of, right - back, axis=1) for of, back in ((x, 1), (x, 0), (y, 1), (y, 0)))
    return np.asarray(y0 + (y1 - y0) * ((at - x0) / (x1 - x0)))


class _Quantiles:
    """Percentiles of (1 - rate) alone + rate late; their distributions are worked out once for all rates."""

    def __init__(self, alone: Lognormal, late: Lognormal | Sum) -> None:
        shape = (*np.broadcast_shapes(alone.log_median.shape, late.log_median.shape)[:-1], GRID_POINTS)
        self.bent = np.broadcast_to(alone.bends() | late.bends(), (*shape[:-1], 1))
        levels = np.linspace(-4.0, 4.0, GRID_POINTS)
        # Where a part bends at p95 it has a point there.
        levels = np.where(self.bent, np.where(np.abs(levels - Z95) < 4 / GRID_POINTS, Z95, levels), levels)
        grid = np.concatenate([np.broadcast_to(part.log_at(levels), shape) for part in (alone, late)], axis=-1)
        self.grid = np.sort(grid, axis=-1)
        self.alone, self.late = alone.share_below(self.grid), late.share_below(self.grid)
        self.known = ~np.isnan(late.log_median) & ~np.isnan(alone.log_median)

    def at(self, rate: Floats, percentiles: list[str]) -> dict[str, Floats]:
        """By name, shape of ``late`` over the scenarios of both and of the rate; nan where a part is not known."""
        from scipy.special import ndtri

        reached = (1 - rate) * self.alone + rate * self.late
        shape = reached.shape
        shares = reached.reshape(-1, 2 * GRID_POINTS)
        points = np.broadcast_to(self.grid, shape).reshape(-1, 2 * GRID_POINTS)
        rows, bent = np.arange(len(shares)), np.broadcast_to(self.bent, (*shape[:-1], 1)).ravel()
        found = {}
        for percentile in percentiles:
            level = int(percentile[1:]) / 100
            right = np.maximum(np.argmax(shares >= level, axis=1), 1)
            below, above, left = shares[rows, right - 1], shares[rows, right], points[rows, right - 1]
            with np.errstate(invalid="ignore", divide="ignore"):
                straight = np.where(above > below, (level - below) / (above - below), 1.0)
                # A tail wants more than the share between two points: what is straight of a log-normal.
                low, middle, high = (ndtri(np.clip(share, 1e-16, 1 - 1e-16)) for share in (below, level, above))
                part = np.where(bent & (high > low), (middle - low) / (high - low), straight)
            seconds = np.exp(left + part * (points[rows, right] - left))
            found[percentile] = np.where(self.known, seconds.reshape(shape[:-1])[..., None], np.nan)
        return found
