"""How far probabilities are off what came true: reliability, calibration error, Brier score, and a share's interval.

The probability always comes first and what came true second. Bins and ties are those of :meth:`Reliability.of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError

Floats = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
By: TypeAlias = Literal["mass", "width"]

BINS = 15  # of the calibration error, as in Guo et al.
Z95 = 1.959963984540054  # the normal distribution's 97.5% point


@dataclass(frozen=True, eq=False)
class Reliability:
    """What was predicted beside what was observed, bin by bin; empty bins are left out.

    Parameters
    ----------
    predicted : mean probability of a bin's items, shape (bins,), rising.
    observed : mean outcome of them.
    low, high : 95% interval of observed, see :func:`wilson`.
    count : items of each bin.
    brier : :func:`brier_score` of all items.
    """

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    count: NDArray[np.int64]
    brier: float

    @classmethod
    def of(cls, probability: ArrayLike, right: ArrayLike, *, bins: int = 10, by: By = "mass") -> Reliability:
        """Sort items into bins.

        Parameters
        ----------
        probability : that an answer is right, in [0, 1], shape (items,).
        right : outcomes in [0, 1], shape (items,).
        bins : at most so many.
        by : "width", bins of equal width ((m - 1) / bins, m / bins], 0 in the first; or "mass", of equally many items
            by rising probability. Items of the same probability count with their common mean there, so that their order
            does not matter, and bins that hold nothing but one probability are one bin.

        Raises
        ------
        InputError
            If there are no items, not as many outcomes, values outside [0, 1], or no such bins.
        """
        p, y = pair_of("probability", probability, right)
        if p.min() < 0 or p.max() > 1:
            raise InputError(f"probability must be in [0, 1]. Got {p.min():g} to {p.max():g}")
        if bins < 1 or by not in get_args(By):
            raise InputError(f'bins must be 1 or more, by "mass" or "width". Got {bins} by {by!r}')
        p, y, place = _by_mass(p, y, bins) if by == "mass" else _by_width(p, y, bins)
        _, bin_of, count = np.unique(place, return_inverse=True, return_counts=True)
        predicted, observed = (np.bincount(bin_of, weights=values) / count for values in (p, y))
        low, high = _wilson(observed, count)
        return cls(predicted, observed, low, high, count.astype(np.int64), brier_score(probability, right))

    @property
    def items(self) -> int:
        """How many there are."""
        return int(self.count.sum())

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over items of |predicted - observed| of their bin."""
        return float((self.count * np.abs(self.predicted - self.observed)).sum() / self.count.sum())


def expected_calibration_error(probability: ArrayLike, right: ArrayLike, *, bins: int = BINS, by: By) -> float:
    """Sum over bins of (items in it / items) |mean outcome - mean probability|.

    Parameters
    ----------
    probability, right, bins, by : see :meth:`Reliability.of`.

    Returns
    -------
    float
        In [0, 1]. Guo et al., arXiv:1706.04599, equation 3 ("width"); with bins of equally many items ("mass") Nixon
        et al., arXiv:1904.01685. Of few items it is too high even where the probabilities are right.
    """
    return Reliability.of(probability, right, bins=bins, by=by).ece


def brier_score(probability: ArrayLike, right: ArrayLike) -> float:
    """Mean of (probability - right)^2 (Brier, Mon. Weather Rev. 78, 1950, two outcomes): lower is better.

    Parameters
    ----------
    probability, right : shape (items,), in [0, 1].
    """
    p, y = pair_of("probability", probability, right)
    return float(((p - y) ** 2).mean())


def wilson(right: float, items: int) -> Interval:
    """Wilson's 95% interval of a share (J. Am. Stat. Assoc. 22, 1927).

    Parameters
    ----------
    right : how many, or the sum of a metric in [0, 1]: of all such with the same mean, 0/1 outcomes vary most.
    items : of how many.
    """
    low, high = _wilson(np.array(right / items), np.array(items))
    return float(low), float(high)


def pair_of(name: str, values: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    """Values and outcomes of the same items as arrays, shape (items,).

    Raises
    ------
    InputError
        If they differ in number, there are none, one is not finite, or an outcome is outside [0, 1]; ``name`` is what
        the values are called.
    """
    v, y = np.asarray(values, dtype=float), np.asarray(right, dtype=float)
    if v.ndim != 1 or v.shape != y.shape or not v.size:
        raise InputError(f"{name} and right are one for each of 1 item or more. Got shapes {v.shape} and {y.shape}")
    for what, one in ((name, v), ("right", y)):
        bad = np.flatnonzero(~np.isfinite(one))
        if bad.size:
            raise InputError(f"{what} of item {bad[0]} is not a number: {one[bad[0]]}")
    if y.min() < 0 or y.max() > 1:
        raise InputError(f"right must be in [0, 1]. Got {y.min():g} to {y.max():g}")
    return v, y


def _by_width(p: Floats, y: Floats, bins: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    return p, y, np.searchsorted(np.arange(1, bins) / bins, p, side="left")


def _by_mass(p: Floats, y: Floats, bins: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Items by rising probability, the common mean of equal ones, and the bin of each."""
    values, which, counts = np.unique(p, return_inverse=True, return_counts=True)
    p, y = np.repeat(values, counts), np.repeat(np.bincount(which, weights=y) / counts, counts)
    sizes = [len(part) for part in np.array_split(p, min(bins, len(p)))]
    ends = np.cumsum(sizes)
    first, last = p[ends - sizes], p[ends - 1]
    same = (first[:-1] == last[:-1]) & (last[:-1] == first[1:]) & (first[1:] == last[1:])
    return p, y, np.repeat(np.concatenate([[0], np.cumsum(~same)]), sizes)


def _wilson(share: Floats, items: NDArray[np.int64]) -> tuple[Floats, Floats]:
    z2 = Z95**2 / items
    middle = (share + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
