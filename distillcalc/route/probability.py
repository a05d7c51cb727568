"""From a score to the probability that the student is right; how far off it is: :mod:`..calibration_measures`."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.calibration_measures import Reliability, pair_of
from distillcalc.errors import InputError, UnknownName

__all__ = ["Calibration", "Reliability"]

Floats = NDArray[np.float64]
Kind: TypeAlias = Literal["isotonic", "platt", "temperature"]

EDGE = 1e-6  # scores of 0 and 1 have no finite log-odds
STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """A score's probability that the student is right; it never falls as the score rises.

    - ``isotonic``: the rising steps that fit best, straight lines between them (Zadrozny & Elkan 2002); knots beyond
      which it stays as it is.
    - ``platt``: 1 / (1 + exp(-(slope z + intercept))), z being log(score / (1 - score)) where scores are in [0, 1], and
      else the score itself (Platt 1999).
    - ``temperature``: the same of scores in [0, 1] without the intercept, slope = 1 / T (Guo et al. 2017,
      arXiv:1706.04599).

    Parameters
    ----------
    kind : of the three.
    x, y : knots of isotonic; slope and intercept are then unused.
    slope, intercept : of the other two.
    log_odds : whether the log-odds of the score are taken.
    """

    kind: Kind
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    slope: float = 0.0
    intercept: float = 0.0
    log_odds: bool = False

    @classmethod
    def fit(cls, scores: ArrayLike, right: ArrayLike, kind: Kind = "isotonic") -> Calibration:
        """Fit it on items that the score was not learned from.

        Parameters
        ----------
        scores : shape (items,).
        right : how right the student is, in [0, 1], shape (items,).
        kind : "isotonic", "platt" or "temperature".

        Raises
        ------
        InputError
            For scores that are all the same, outcomes that are all the same, or values that are not finite.
        """
        if kind not in get_args(Kind):
            raise UnknownName("kind of calibration", kind, get_args(Kind), "There are: isotonic, platt, temperature.")
        s, y = pair_of("scores", scores, right)
        if s.min() == s.max():
            raise InputError(f"a score that is {s[0]:g} for every item cannot be calibrated: it tells nothing apart")
        if y.min() == y.max():
            raise InputError(f"outcomes are all {y[0]:g}: calibrating takes items that are right and such that are not")
        if kind == "isotonic":
            return _isotonic(s, y)
        within = bool(s.min() >= 0 and s.max() <= 1)
        if kind == "temperature" and not within:
            raise InputError(
                f"a temperature is for scores in [0, 1], which are probabilities already. Got {s.min():g} to "
                f'{s.max():g}. Use kind="platt" or "isotonic"'
            )
        slope, intercept = _logistic(_log_odds(s) if within else s, y, with_intercept=kind == "platt")
        return cls(kind, slope=slope, intercept=intercept, log_odds=within)

    def one(self, score: float) -> float:
        """The probability at one score."""
        if self.kind != "isotonic":
            return float(self.many(np.array([score]))[0])
        right = bisect_right(self.x, score)
        if right in (0, len(self.x)):
            return self.y[max(right - 1, 0)]
        x0, x1, y0, y1 = self.x[right - 1], self.x[right], self.y[right - 1], self.y[right]
        return (y1 - y0) / (x1 - x0) * (score - x0) + y0

    def many(self, scores: ArrayLike) -> Floats:
        """The probabilities, in the shape of the scores."""
        s = np.asarray(scores, dtype=float)
        if self.kind == "isotonic":
            return np.asarray(np.interp(s, self.x, self.y))
        z = _log_odds(s) if self.log_odds else s
        return np.asarray(1 / (1 + np.exp(-np.clip(self.slope * z + self.intercept, -700, 700))))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which holds them to the last bit."""
        if self.kind == "isotonic":
            return {"kind": self.kind, "x": list(self.x), "y": list(self.y)}
        return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept, "log_odds": self.log_odds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """From :meth:`to_dict`."""
        known = {"kind", "x", "y", "slope", "intercept", "log_odds"}
        if values.get("kind") not in get_args(Kind) or set(values) - known:
            raise InputError(f"this is no calibration: {dict(values)}")
        return cls(
            values["kind"],
            tuple(values.get("x", ())),
            tuple(values.get("y", ())),
            float(values.get("slope", 0.0)),
            float(values.get("intercept", 0.0)),
            bool(values.get("log_odds", False)),
        )


def _isotonic(s: Floats, y: Floats) -> Calibration:
    from scipy.optimize import isotonic_regression

    x, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=y) / counts
    fitted = np.clip(isotonic_regression(means, weights=counts).x, 0, 1)
    # Of a level stretch its two ends say everything.
    level = np.diff(fitted) == 0
    keep = ~(np.concatenate([[False], level]) & np.concatenate([level, [False]]))
    return Calibration("isotonic", tuple(x[keep].tolist()), tuple(fitted[keep].tolist()))


def _log_odds(s: Floats) -> Floats:
    inside = np.clip(s, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


def _logistic(z: Floats, y: Floats, *, with_intercept: bool) -> tuple[float, float]:
    """Slope, 0 or above, and intercept of least log loss against Platt's softened outcomes, by Newton's method.

    A right item counts as (n1 + 1) / (n1 + 2) and a wrong one as 1 / (n0 + 2): finite where scores tell them apart.
    """
    yes, no = float(y.sum()), float((1 - y).sum())
    t = y * (yes + 1) / (yes + 2) + (1 - y) / (no + 2)
    order = np.lexsort((t, z))  # sums do not depend on the order of items
    z, t = z[order], t[order]
    centre = z.mean() if with_intercept else 0.0
    scale = float(np.sqrt(((z - centre) ** 2).mean()))
    x = np.column_stack([(z - centre) / scale, np.ones_like(z)])[:, : 2 if with_intercept else 1]
    w = np.zeros(x.shape[1])

    def loss(w: Floats) -> float:
        u = x @ w
        return float((np.logaddexp(0, u) - t * u).mean())

    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(x @ w)))
        gradient = x.T @ (p - t) / len(t)
        if np.abs(gradient).max() < 1e-12:
            break
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x / len(t) + 1e-12 * np.eye(len(w)), gradient)
        size = 1.0
        while loss(w - size * step) > loss(w) and size > 1e-8:
            size /= 2
        w = w - size * step
    if w[0] <= 0:  # higher scores were right less often: the least loss of a slope of 0 or above is at 0
        mean = float(t.mean())
        return 0.0, math.log(mean / (1 - mean)) if with_intercept else 0.0
    slope = float(w[0] / scale)
    return slope, float(w[1] - slope * centre) if with_intercept else 0.0
