"""Token-length distributions: how many tokens go in and come out of a request, jointly.

:class:`TokenLengths` is what a user states about one side; :class:`JointLengths` is the pair in the form
that prices and latencies need: means, quantiles, and the partial expectations above a price threshold.
Every number may be an array over scenarios. How often requests come is :mod:`.arrivals`' subject.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

Floats = NDArray[np.float64]

Z95 = 1.6448536269514722  # standard normal quantile at 0.95
WIDEST_P95_RATIO = math.exp(Z95 * Z95 / 2)  # 3.868: a log-normal's p95 is never more times its mean
MAX_TOKENS = 100_000_000.0
COPULA_POINTS = 1024
WITHIN_STRATUM = 16


class TokenLengths(BaseModel):
    """Lengths of one side of a request, in tokens.

    Give one of: a number (every request has this length); ``mean`` and ``p95`` (log-normal);
    ``quantiles`` such as ``{"p50": 700, "p95": 2100, "p99": 4000}`` (log-linear between them);
    ``sample``, observed lengths, equally likely.

    Raises
    ------
    pydantic.ValidationError
        If the numbers cannot belong to one distribution.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float | None = Field(None, ge=0, le=MAX_TOKENS)
    p95: float | None = Field(None, ge=0, le=MAX_TOKENS)
    quantiles: dict[str, float] | None = None
    sample: tuple[float, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_shorthand(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("a token length is a number of tokens or a table. Got a boolean")
        if isinstance(value, (int, float)):
            return {"mean": value}
        if isinstance(value, (list, tuple)):
            return {"sample": value}
        if isinstance(value, dict) and "mean" not in value and len(value) > 1 and all(_is_quantile(k) for k in value):
            return {"quantiles": value}
        return value

    @model_validator(mode="after")
    def _one_distribution(self) -> TokenLengths:
        forms = [
            self.mean is not None or self.p95 is not None,
            self.quantiles is not None,
            self.sample is not None,
        ]
        if sum(forms) != 1:
            raise ValueError("give one of: a number, mean and p95, quantiles, sample. Got " + _got(self))
        if self.p95 is not None:
            if self.mean is None:
                raise ValueError("p95 needs a mean beside it, for example { mean = 900, p95 = 2100 }")
            if self.p95 < self.mean:
                raise ValueError(
                    f"p95 must be at least the mean for a log-normal. Got mean {self.mean:g} and p95 {self.p95:g}. "
                    "Where one request in a thousand is huge, give quantiles or a sample instead"
                )
            if (self.mean == 0 and self.p95 > 0) or (self.mean and self.p95 / self.mean > WIDEST_P95_RATIO):
                raise ValueError(
                    f"p95 can be at most {WIDEST_P95_RATIO:.2f} times the mean for a log-normal. "
                    f"Got {self.p95:g} against a mean of {self.mean:g}. For a heavier tail give quantiles or a sample"
                )
        if self.quantiles is not None:
            points = sorted((_quantile_level(k), v) for k, v in self.quantiles.items())
            values = [v for _, v in points]
            if len(points) < 2:
                raise ValueError("quantiles needs at least two, for example { p50 = 700, p95 = 2100 }")
            if any(not math.isfinite(v) or v < 0 or v > MAX_TOKENS for v in values):
                raise ValueError(f"quantiles must be token counts between 0 and {MAX_TOKENS:g}. Got {self.quantiles}")
            if values != sorted(values):
                raise ValueError(f"quantiles must rise with their level. Got {self.quantiles}")
        if self.sample is not None:
            if not self.sample:
                raise ValueError("sample is empty; it needs at least one observed length")
            if any(not math.isfinite(v) or v < 0 or v > MAX_TOKENS for v in self.sample):
                raise ValueError(f"sample holds token counts between 0 and {MAX_TOKENS:g}, one of them is not")
        return self

    @model_serializer
    def _shortest_form(self) -> Any:
        if self.quantiles is not None:
            return {"quantiles": dict(self.quantiles)}
        if self.sample is not None:
            return {"sample": list(self.sample)}
        return self.mean if self.p95 is None else {"mean": self.mean, "p95": self.p95}

    def __repr_args__(self) -> Any:
        return [(name, value) for name, value in super().__repr_args__() if value is not None]

    @property
    def is_lognormal(self) -> bool:
        """Whether the closed form applies (a fixed length is a log-normal of no width)."""
        return self.mean is not None

    @property
    def sigma(self) -> float:
        """Standard deviation of the log of the length, 0 for a fixed one.

        p95 / mean = exp(1.645 sigma - sigma^2 / 2), the narrower of its two roots.
        """
        if not self.mean or self.p95 is None:
            return 0.0
        return Z95 - math.sqrt(max(Z95 * Z95 - 2 * math.log(self.p95 / self.mean), 0.0))

    def stratum_means(self, strata: int) -> Floats:
        """Mean length [tokens] of each of ``strata`` equal shares of requests, shortest first."""
        edges = np.arange(strata + 1) / strata
        if self.sample is not None:
            lengths = np.sort(np.asarray(self.sample))
            reached = np.append(0.0, np.cumsum(lengths)) / len(lengths)  # E[length; the shortest share]
            means = np.diff(np.interp(edges, np.arange(len(lengths) + 1) / len(lengths), reached)) * strata
            return np.clip(np.maximum.accumulate(means), lengths[0], lengths[-1])  # rounding
        if self.quantiles is not None:
            inner = (np.arange(strata * WITHIN_STRATUM) + 0.5) / (strata * WITHIN_STRATUM)
            return np.asarray(self.quantile(inner).reshape(strata, WITHIN_STRATUM).mean(axis=1))
        if not self.sigma:
            return np.full(strata, float(self.mean or 0.0))
        # E[length; z < c] = mean Phi(c - sigma) for a log-normal.
        from scipy.special import ndtr, ndtri

        return np.asarray(np.diff(ndtr(ndtri(edges) - self.sigma)) * strata * float(self.mean or 0.0))

    def quantile(self, level: ArrayLike) -> Floats:
        """The length [tokens] that a share ``level`` of requests does not exceed."""
        q = np.asarray(level, dtype=float)
        if self.sample is not None:
            # Not interpolated: half of the longest request would be missing from the mean.
            return np.asarray(np.quantile(np.asarray(self.sample), q, method="inverted_cdf"), dtype=float)
        if self.quantiles is not None:
            points = sorted((_quantile_level(k), v) for k, v in self.quantiles.items())
            levels, values = np.array([p for p, _ in points]), np.array([v for _, v in points])
            return np.asarray(np.expm1(np.interp(_normal_quantile(q), _normal_quantile(levels), np.log1p(values))))
        mean = float(self.mean or 0.0)
        return np.asarray(mean * np.exp(self.sigma * _normal_quantile(q) - self.sigma**2 / 2))


def _is_quantile(key: Any) -> bool:
    try:
        return isinstance(key, str) and 0 <= _quantile_level(key) <= 1
    except ValueError:
        return False


def _quantile_level(key: str) -> float:
    """0.95 for "p95", "0.95" or "p95.0"."""
    text = key.strip().lower()
    try:
        level = float(text[1:]) / 100 if text.startswith("p") else float(text)
    except ValueError:
        level = math.nan
    if not 0 <= level <= 1:
        raise ValueError(f"a quantile is named like p50 or p99.9. Got {key!r}")
    return level


def _got(lengths: TokenLengths) -> str:
    stated = [k for k in ("mean", "p95", "quantiles", "sample") if getattr(lengths, k) is not None]
    return ", ".join(stated) or "nothing"


def _normal_quantile(level: Floats) -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(level, 1e-6, 1 - 1e-6)))


def _normal_cdf(z: Floats) -> Floats:
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


@dataclass(frozen=True)
class Above:
    """Moments of the requests whose input is longer than a threshold, each of shape (n, 1).

    share : P(input > threshold); input_tokens, output_tokens : E[tokens; input > threshold], per request
    of the whole traffic (not conditional).
    """

    share: Floats
    input_tokens: Floats
    output_tokens: Floats


class JointLengths(ABC):
    """Input and output lengths together; means may be arrays of shape (n, 1) over scenarios."""

    mean_input: Floats
    mean_output: Floats

    @abstractmethod
    def above(self, threshold: float | Floats) -> Above:
        """Partial moments above an input threshold [tokens], one for all or one a scenario, shape (n, 1)."""

    @abstractmethod
    def input_quantile(self, level: float) -> Floats:
        """Input length [tokens] at a level, shape (n, 1)."""

    @abstractmethod
    def output_quantile(self, level: float) -> Floats:
        """Output length [tokens] at a level, shape (n, 1)."""

    @property
    @abstractmethod
    def mean_input_squared(self) -> Floats:
        """E[input^2] [tokens^2], for the attention term of prefill, shape (n, 1)."""


@dataclass(frozen=True)
class LognormalLengths(JointLengths):
    """Log-normal lengths joined by a Gaussian copula: every moment in closed form.

    E[in; in > t] = m_in Phi((mu_in + s_in^2 - ln t) / s_in) and
    E[out; in > t] = m_out Phi((mu_in + rho s_in s_out - ln t) / s_in), the exponential tilting of the
    normal (Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 1, ch. 14).
    """

    mean_input: Floats
    mean_output: Floats
    sigma_input: float
    sigma_output: float
    correlation: float

    def above(self, threshold: float | Floats) -> Above:
        if isinstance(threshold, float) and threshold <= 0:
            one = np.ones_like(self.mean_input)
            return Above(one, self.mean_input, self.mean_output)
        s_in = self.sigma_input
        if s_in == 0:
            over = ((self.mean_input > threshold) | (np.asarray(threshold) <= 0)).astype(float)
            return Above(over, over * self.mean_input, over * self.mean_output)
        log_mean = np.log(np.maximum(self.mean_input, 1e-12))
        # A threshold of 0 is below every length: e^-700 stands for it.
        z = (log_mean - s_in**2 / 2 - np.log(np.maximum(threshold, 1e-300))) / s_in
        tilt = self.correlation * self.sigma_output
        return Above(_normal_cdf(z), self.mean_input * _normal_cdf(z + s_in), self.mean_output * _normal_cdf(z + tilt))

    def input_quantile(self, level: float) -> Floats:
        return self.mean_input * _lognormal_ratio(self.sigma_input, level)

    def output_quantile(self, level: float) -> Floats:
        return self.mean_output * _lognormal_ratio(self.sigma_output, level)

    @property
    def mean_input_squared(self) -> Floats:
        return self.mean_input**2 * math.exp(self.sigma_input**2)


@lru_cache(maxsize=4096)
def _lognormal_ratio(sigma: float, level: float) -> float:
    return math.exp(sigma * float(_normal_quantile(np.asarray(level))) - sigma**2 / 2)


@dataclass(frozen=True, eq=False)  # arrays have no truth value: workloads are compared by their fields
class Points:
    """Weighted (input, output) pairs, sorted by input, with running sums from the top."""

    inputs: Floats
    outputs: Floats
    weights: Floats

    @classmethod
    def of(cls, inputs: ArrayLike, outputs: ArrayLike, weights: ArrayLike | None = None) -> Points:
        """Sort the pairs and make the weights sum to one."""
        x, y = np.asarray(inputs, dtype=float), np.asarray(outputs, dtype=float)
        w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float)
        order = np.argsort(x, kind="stable")
        return cls(x[order], y[order], w[order] / w.sum())

    @cached_property
    def _tails(self) -> tuple[Floats, Floats, Floats]:
        def tail(values: Floats) -> Floats:
            return np.append(np.cumsum(values[::-1])[::-1], 0.0)

        return tail(self.weights), tail(self.weights * self.inputs), tail(self.weights * self.outputs)

    @property
    def means(self) -> tuple[float, float]:
        """Mean input and output [tokens]."""
        return float(self._tails[1][0]), float(self._tails[2][0])

    def quantile(self, values: Floats, level: float) -> float:
        """Weighted quantile of ``values``."""
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(self.weights[order])
        return float(values[order][min(int(np.searchsorted(reached, level - 1e-12)), len(values) - 1)])


@dataclass(frozen=True)
class SampledLengths(JointLengths):
    """A weighted sample of pairs, scaled to the means asked for."""

    points: Points
    mean_input: Floats
    mean_output: Floats

    @property
    def _scales(self) -> tuple[Floats, Floats]:
        base_in, base_out = self.points.means
        return (
            self.mean_input / base_in if base_in else np.ones_like(self.mean_input),
            self.mean_output / base_out if base_out else np.ones_like(self.mean_output),
        )

    def above(self, threshold: float | Floats) -> Above:
        scale_in, scale_out = self._scales
        with np.errstate(divide="ignore"):
            cut = np.where(scale_in > 0, threshold / np.where(scale_in > 0, scale_in, 1.0), np.inf)
        at = np.searchsorted(self.points.inputs, cut, side="right")
        at = np.where(np.asarray(threshold) <= 0, 0, at)  # a request without input is a request too
        share, inputs, outputs = self.points._tails
        return Above(share[at], scale_in * inputs[at], scale_out * outputs[at])

    def input_quantile(self, level: float) -> Floats:
        return self._scales[0] * self.points.quantile(self.points.inputs, level)

    def output_quantile(self, level: float) -> Floats:
        return self._scales[1] * self.points.quantile(self.points.outputs, level)

    @property
    def mean_input_squared(self) -> Floats:
        return self._scales[0] ** 2 * float(np.sum(self.points.weights * self.points.inputs**2))


def copula_points(inputs: TokenLengths, outputs: TokenLengths, correlation: float) -> Points:
    """Pairs that carry both distributions and a Gaussian copula between them.

    1,024 points of an unscrambled Sobol set, so that the same scenario always gives the same sum. Each point
    stands for a stratum of each side and carries the stratum's mean, so both means are those of the
    distributions themselves, whatever their tails.
    """
    from scipy.stats import qmc

    uniform = qmc.Sobol(2, scramble=False).random(COPULA_POINTS) + 0.5 / COPULA_POINTS
    z1, z2 = _normal_quantile(uniform[:, 0]), _normal_quantile(uniform[:, 1])
    z2 = correlation * z1 + math.sqrt(1 - correlation**2) * z2
    ranks = (np.argsort(np.argsort(z, kind="stable"), kind="stable") for z in (z1, z2))
    return Points.of(
        *(side.stratum_means(COPULA_POINTS)[rank] for side, rank in zip((inputs, outputs), ranks, strict=True))
    )
