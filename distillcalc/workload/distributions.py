"""What is believed of one number: a distribution, written as a small table and drawn by its quantiles.

A table has one key, the kind: ``{ uniform = [low, high] }``, ``{ triangular = [low, mode, high] }``,
``{ lognormal = { mean = 1.0, p95 = 1.6 } }``, ``{ beta = { mean = 0.9, sd = 0.04 } }`` or ``{ beta = [a, b] }``,
``{ discrete = { values = [...], weights = [...] } }``, ``{ empirical = [...] }``. How inputs are drawn together is the
subject of :mod:`distillcalc.decide.draws`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError
from distillcalc.workload.lengths import WIDEST_P95_RATIO, Z95

Floats = NDArray[np.float64]
Kind: TypeAlias = Literal["uniform", "triangular", "lognormal", "beta", "discrete", "empirical"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMS: dict[Kind, str] = {
    "uniform": "{ uniform = [low, high] }",
    "triangular": "{ triangular = [low, mode, high] }",
    "lognormal": "{ lognormal = { mean = 1.0, p95 = 1.6 } }",
    "beta": "{ beta = { mean = 0.9, sd = 0.04 } } or { beta = [a, b] }",
    "discrete": "{ discrete = { values = [...], weights = [...] } }",
    "empirical": "{ empirical = [...] }",
}
NEARLY_ALL = 0.999  # the share of a distribution without an end that must lie within an input's bounds


@dataclass(frozen=True)
class Distribution:
    """What is believed of one number.

    Parameters
    ----------
    kind : one of uniform, triangular, lognormal, beta, discrete, empirical.
    parameters : low, high; low, mode, high; mean, p95; the two shape parameters; values; values.
    weights : of a discrete distribution's values; they need not sum to one.

    Make one with :func:`uniform`, :func:`triangular`, :func:`lognormal`, :func:`beta`, :func:`discrete` or
    :func:`empirical`, or from a table with :meth:`of`.
    """

    kind: Kind
    parameters: tuple[float, ...]
    weights: tuple[float, ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Distribution:
        """A distribution from its table.

        Raises
        ------
        InputError
            If no number can be distributed so, with what was got and what would be right.
        """
        if len(table) != 1 or next(iter(table)) not in KINDS:
            raise InputError(f"a distribution is a table with one of the keys {', '.join(KINDS)}. Got {dict(table)!r}")
        (name, given), *_ = table.items()
        kind = cast(Kind, name)
        if kind == "lognormal":
            return lognormal(**_named(kind, given, ("mean", "p95")))
        if kind == "beta" and isinstance(given, Mapping):
            return beta(**_named(kind, given, ("mean", "sd")))
        if kind == "discrete":
            if not isinstance(given, Mapping) or not {"values"} <= given.keys() <= {"values", "weights"}:
                raise _malformed(kind, given)
            values = _numbers(kind, given["values"])
            return discrete(values, _numbers(kind, given["weights"]) if "weights" in given else None)
        numbers = _numbers(kind, given)
        if kind == "empirical":
            return empirical(numbers)
        if len(numbers) != (3 if kind == "triangular" else 2):
            raise _malformed(kind, given)
        if kind == "uniform":
            return uniform(*numbers)
        return triangular(*numbers) if kind == "triangular" else Distribution("beta", _shapes(*numbers))

    def to_dict(self) -> dict[str, Any]:
        """The table that :meth:`of` reads back equal."""
        if self.kind == "lognormal":
            return {"lognormal": dict(zip(("mean", "p95"), self.parameters, strict=True))}
        if self.kind == "discrete":
            return {"discrete": {"values": list(self.parameters), "weights": list(self.weights)}}
        return {self.kind: list(self.parameters)}

    def scaled(self, factor: float) -> Distribution:
        """The distribution of a multiple of the number, ``factor`` above 0; one of a share cannot be scaled."""
        if self.kind == "beta" or not factor > 0:
            raise InputError(
                f"only a distribution other than beta is scaled, by a factor above 0. Got {self!r}, {factor:g}"
            )
        return Distribution(self.kind, tuple(p * factor for p in self.parameters), self.weights)

    def __repr__(self) -> str:
        if self.kind == "lognormal":
            return "lognormal(mean={:g}, p95={:g})".format(*self.parameters)
        if self.kind in ("discrete", "empirical"):
            weighted = f", {list(self.weights)}" if self.weights else ""
            return f"{self.kind}({list(self.parameters)}{weighted})"
        if self.kind == "beta":
            a, b = self.parameters
            mean = a / (a + b)
            return f"beta(mean={mean!r}, sd={math.sqrt(mean * (1 - mean) / (a + b + 1))!r})"
        return f"{self.kind}({', '.join(f'{p:g}' for p in self.parameters)})"

    def quantile(self, level: ArrayLike) -> Floats:
        """The value that a share ``level`` of the distribution does not exceed; same shape as ``level``."""
        u = np.asarray(level, dtype=float)
        p = self.parameters
        if self.kind == "uniform":
            return np.asarray(p[0] + u * (p[1] - p[0]))
        if self.kind == "triangular":
            low, mode, high = p
            left = (mode - low) / (high - low)
            below = low + np.sqrt(u * (high - low) * (mode - low))
            above = high - np.sqrt((1 - u) * (high - low) * (high - mode))
            return np.where(u < left, below, above)
        if self.kind == "lognormal":
            from scipy.special import ndtri

            return np.asarray(p[0] * np.exp(self._sigma * ndtri(u) - self._sigma**2 / 2))
        if self.kind == "beta":
            return beta_quantile(p[0], p[1], u)
        values, reached = self._steps
        return np.asarray(values[np.minimum(np.searchsorted(reached, u - 1e-12), len(values) - 1)])

    @cached_property
    def _sigma(self) -> float:
        """Of the logarithm: p95 / mean = exp(1.645 s - s^2 / 2), the narrower root."""
        return Z95 - math.sqrt(max(Z95 * Z95 - 2 * math.log(self.parameters[1] / self.parameters[0]), 0.0))

    @cached_property
    def _steps(self) -> tuple[Floats, Floats]:
        values = np.array(self.parameters)
        weights = np.array(self.weights) if self.weights else np.ones(len(values))
        order = np.argsort(values, kind="stable")
        return values[order], np.cumsum(weights[order]) / weights.sum()

    @cached_property
    def median(self) -> float:
        """The value that stands for it where only one number can: half lies on either side."""
        return float(self.quantile(0.5))

    @cached_property
    def mean(self) -> float:
        """Its mean."""
        p = self.parameters
        if self.kind == "lognormal":
            return p[0]
        if self.kind == "beta":
            return p[0] / (p[0] + p[1])
        if self.kind in ("uniform", "triangular"):
            return sum(p) / len(p)
        return float(np.average(p, weights=self.weights or None))

    @property
    def ends(self) -> tuple[float, float]:
        """Least and largest value; of a log-normal and of a beta, those that all but one in a thousand lie within."""
        if self.kind in ("lognormal", "beta"):
            return float(self.quantile(1 - NEARLY_ALL)), float(self.quantile(NEARLY_ALL))
        return min(self.parameters), max(self.parameters)


def uniform(low: float, high: float) -> Distribution:
    """Every value between two ends is as likely."""
    _finite("uniform", (low, high))
    if not low < high:
        raise InputError(f"uniform needs low < high. Got [{low:g}, {high:g}]")
    return Distribution("uniform", (float(low), float(high)))


def triangular(low: float, mode: float, high: float) -> Distribution:
    """Between two ends, most likely at ``mode``."""
    _finite("triangular", (low, mode, high))
    if not low <= mode <= high or low == high:
        raise InputError(f"triangular needs low <= mode <= high and low < high. Got [{low:g}, {mode:g}, {high:g}]")
    return Distribution("triangular", (float(low), float(mode), float(high)))


def lognormal(mean: float, p95: float) -> Distribution:
    """A positive number whose logarithm is normal, by its mean and the value that one in twenty exceeds."""
    _finite("lognormal", (mean, p95))
    if not mean > 0:
        raise InputError(f"lognormal needs a mean above 0. Got {mean:g}")
    if not 1 < p95 / mean <= WIDEST_P95_RATIO:
        raise InputError(
            f"lognormal needs a p95 above its mean and at most {WIDEST_P95_RATIO:.2f} times it. "
            f"Got mean {mean:g} and p95 {p95:g}"
        )
    return Distribution("lognormal", (float(mean), float(p95)))


def beta(mean: float, sd: float) -> Distribution:
    """A share between 0 and 1 by its mean and standard deviation."""
    _finite("beta", (mean, sd))
    if not 0 < mean < 1 or not 0 < sd < math.sqrt(mean * (1 - mean)):
        raise InputError(
            f"beta needs a mean between 0 and 1 and an sd between 0 and sqrt(mean (1 - mean)). Got mean {mean:g}, "
            f"sd {sd:g}"
        )
    k = mean * (1 - mean) / sd**2 - 1
    return Distribution("beta", (mean * k, (1 - mean) * k))


def discrete(values: Sequence[float], weights: Sequence[float] | None = None) -> Distribution:
    """One of a few values, each with its weight; equal ones where none are given."""
    _finite("discrete", values)
    shares = (1.0,) * len(values) if weights is None else tuple(float(w) for w in weights)
    if not values or len(shares) != len(values):
        raise InputError(f"discrete needs as many weights as values. Got {len(values)} values, {len(shares)} weights")
    if any(not math.isfinite(w) or w < 0 for w in shares) or not sum(shares):
        raise InputError(f"discrete needs weights of at least 0, one of them above. Got {list(shares)}")
    return Distribution("discrete", tuple(float(v) for v in values), shares)


def empirical(values: Sequence[float]) -> Distribution:
    """Observed values, each as likely."""
    _finite("empirical", values)
    if not len(values):
        raise InputError("empirical needs at least one observed value. Got none")
    return Distribution("empirical", tuple(float(v) for v in values))


def beta_quantile(a: ArrayLike, b: ArrayLike, level: Floats) -> Floats:
    """Quantiles of a Beta distribution; of one distribution at many levels by a table of 4,097 of them.

    The table stands at equal steps of the normal score of the level, so it is as fine in the tails; what lies between
    two of its points is off by less than 10^-6 of the distribution's width.
    """
    from scipy.special import betaincinv, ndtri

    if np.size(a) > 1 or np.size(b) > 1 or np.size(level) < FEW:
        return np.asarray(betaincinv(a, b, level))
    table = _beta_table(float(np.ravel(a)[0]), float(np.ravel(b)[0]))
    return np.asarray(np.interp(ndtri(np.clip(level, 1e-7, 1 - 1e-7)), SCORES, table))


FEW = 2  # one level alone is computed outright
SCORES = np.linspace(-5.5, 5.5, 4_097)


@lru_cache(maxsize=256)
def _beta_table(a: float, b: float) -> Floats:
    from scipy.special import betaincinv, ndtr

    return np.asarray(betaincinv(a, b, ndtr(SCORES)))


def is_distribution(value: Any) -> bool:
    """Whether a value is a distribution, or a table that is meant to be one."""
    return isinstance(value, Distribution) or (
        isinstance(value, Mapping) and len(value) == 1 and set(value) <= set(KINDS)
    )


def as_distribution(value: Distribution | Mapping[str, Any]) -> Distribution:
    """A distribution, from itself or from its table."""
    return value if isinstance(value, Distribution) else Distribution.of(value)


def _shapes(a: float, b: float) -> tuple[float, float]:
    _finite("beta", (a, b))
    if a <= 0 or b <= 0:
        raise InputError(f"beta = [a, b] needs two shape parameters above 0. Got [{a:g}, {b:g}]")
    return float(a), float(b)


def _malformed(kind: Kind, given: Any) -> InputError:
    return InputError(f"{kind} is written {FORMS[kind]}. Got {given!r}")


def _named(kind: Kind, given: Any, names: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(given, Mapping) or set(given) != set(names):
        raise _malformed(kind, given)
    return dict(zip(names, _numbers(kind, [given[name] for name in names]), strict=True))


def _numbers(kind: Kind, given: Any) -> list[float]:
    if not isinstance(given, (list, tuple)) or any(
        isinstance(v, bool) or not isinstance(v, (int, float)) for v in given
    ):
        raise _malformed(kind, given)
    return [float(v) for v in given]


def _finite(kind: Kind, numbers: Sequence[float]) -> None:
    bad = next((v for v in numbers if not math.isfinite(v)), None)
    if bad is not None:
        raise InputError(f"{kind} needs finite numbers. Got {bad}")
