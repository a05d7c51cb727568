"""Millions of (input, output) lengths as at most 2,000 weighted pairs with the same marginals.

Each side is cut into bins no wider than 1%, each standing at its own mean, so that every mean is kept exactly and
every quantile from p1 to p99.9 to within 1%. A pair of marginals can be carried by few points (a vertex of the
transport polytope needs one per bin of either side, less one): the requests are cut into strata of like input; the
bins of the output are dealt to the strata in rising order, each to those that are owed most; within a stratum the
two sides are joined at random. What is lost of the dependence is that within a stratum, a 32nd of the requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_POINTS = 2000
STRATA = 32
BODY = (0.005, 0.9995)  # bins must be narrow only where quantiles are asked for
BODY_WIDTH, TAIL_WIDTH = 1.01, 1.1
WIDER = 1.15


@dataclass(frozen=True, eq=False)
class Marginal:
    """One side's lengths: distinct values [tokens], rising, and how many requests have each."""

    values: Ints
    counts: Ints

    @classmethod
    def of(cls, values: Ints, counts: Ints) -> Marginal:
        """Sorted by value."""
        order = np.argsort(values, kind="stable")
        return cls(values[order].astype(np.int64), counts[order].astype(np.int64))

    @property
    def requests(self) -> int:
        """How many requests."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean length [tokens]."""
        return float(self.values.astype(float) @ self.counts) / self.requests

    def quantile(self, level: float) -> float:
        """The least length [tokens] that at least a share ``level`` of the requests does not exceed."""
        reached = np.cumsum(self.counts)
        return float(self.values[int(np.searchsorted(reached, level * reached[-1] - 1e-9 * reached[-1]))])

    def bins(self, width: float = BODY_WIDTH) -> Ints:
        """The bin of each value, rising from 0; within the body the last value of a bin / its first <= width."""
        reached = np.cumsum(self.counts) / self.requests
        low, high = (int(np.searchsorted(reached, level)) for level in BODY)
        found = np.zeros(len(self.values), dtype=np.int64)
        at = number = 0
        while at < len(self.values):
            inside = low <= at <= high
            ratio = width if inside else max(width, TAIL_WIDTH)
            end = int(np.searchsorted(self.values, self.values[at] * ratio, side="right"))
            # A bin of a tail does not reach into the body.
            end = min(max(end, at + 1), low if at < low else high + 1 if inside else len(self.values))
            found[at:end] = number
            at, number = end, number + 1
        return found


def fitting_bins(inputs: Marginal, outputs: Marginal) -> tuple[Ints, Ints]:
    """Bins of both sides that :func:`joined` can carry in its points: 1% wide, wider only where they must be."""
    width = BODY_WIDTH
    while True:
        a, b = inputs.bins(width), outputs.bins(width)
        if int(a[-1]) + int(b[-1]) + 2 <= MOST_POINTS:
            return a, b
        width = 1 + (width - 1) * WIDER


def rank_correlation(a: Ints, b: Ints, counts: Ints | Floats) -> float | None:
    """Spearman's: the correlation of the mid-ranks of two ordered labels; None where one of them never varies."""

    def ranks(labels: Ints) -> Floats:
        mass = np.bincount(labels, weights=counts)
        return np.asarray((np.cumsum(mass) - mass / 2)[labels])

    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return None
    x, y, w = ranks(a), ranks(b), counts / counts.sum()
    x, y = x - w @ x, y - w @ y
    return float((w @ (x * y)) / np.sqrt((w @ x**2) * (w @ y**2)))


def joined(a: Ints, b: Ints, counts: Ints) -> tuple[Ints, Ints, Ints]:
    """Few cells (a, b, requests) with the marginals of many.

    Parameters
    ----------
    a, b : bin of the input and of the output of each cell, from 0.
    counts : requests in the cell.

    Returns
    -------
    a, b, counts of at most 2,000 cells whose sums over a and over b are those given, exactly.
    """
    if len(counts) <= MOST_POINTS:
        return a, b, counts
    cells = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(cells, (a, b), counts)
    mass_a, mass_b = cells.sum(axis=1).round().astype(np.int64), cells.sum(axis=0).round().astype(np.int64)
    owned = _dealt(_wanted(cells, mass_a), mass_b, MOST_POINTS - len(mass_a))
    random = np.random.default_rng(0)
    left, at, found = mass_a.copy(), 0, dict[tuple[int, int], int]()
    for stratum in owned:
        (present,) = np.nonzero(stratum)
        for bin_b in random.permutation(present).tolist():
            wanted = int(stratum[bin_b])
            while wanted:
                while not left[at]:
                    at += 1
                moved = min(wanted, int(left[at]))
                left[at] -= moved
                wanted -= moved
                found[at, bin_b] = found.get((at, bin_b), 0) + moved
    pairs = np.array(sorted(found), dtype=np.int64)
    return pairs[:, 0], pairs[:, 1], np.array([found[x, y] for x, y in pairs.tolist()], dtype=np.int64)


def _wanted(cells: Floats, mass_a: Ints) -> Floats:
    """Requests of each output bin in strata of equal size by rising input, shape (strata, output bins)."""
    ends = np.cumsum(mass_a).astype(float)
    starts = ends - mass_a
    edges = np.linspace(0, ends[-1], STRATA + 1)
    overlap = np.minimum(ends, edges[1:, None]) - np.maximum(starts, edges[:-1, None])
    share = np.maximum(overlap, 0) / np.maximum(mass_a, 1)
    return np.asarray(share @ cells)


def _dealt(wanted: Floats, mass_b: Ints, most: int) -> Ints:
    """Whole requests of each output bin for each stratum, in at most ``most`` non-zero places.

    What a stratum does not get of one bin it is owed when the next, a slightly longer output, is dealt.
    """
    weight = np.sqrt(mass_b)
    places = 1 + np.floor((most - len(mass_b)) * weight / weight.sum()).astype(int)
    owed = np.zeros(len(wanted))
    dealt = np.zeros(wanted.shape, dtype=np.int64)
    for bin_b, mass in enumerate(mass_b.tolist()):
        owed = owed + wanted[:, bin_b]
        first = np.argsort(-owed, kind="stable")[: places[bin_b]]
        claims = owed[first]
        # Down to a level at which the claims above it take just what there is.
        levels = (np.cumsum(claims) - mass) / np.arange(1, len(claims) + 1)
        level = levels[np.flatnonzero(claims > levels)[-1]] if np.any(claims > levels) else levels[0]
        parts = np.maximum(claims - level, 0)
        whole = np.floor(parts).astype(np.int64)
        short = mass - int(whole.sum())
        whole[np.argsort(whole - parts, kind="stable")[:short]] += 1
        dealt[first, bin_b] = whole
        owed[first] -= whole
    return dealt
