"""What the next live value must look like if nothing has changed since calibration: a Pólya urn, with no assumption.

The calibration's values and those of live requests, if they come from one law, stand in every order equally often. So
of the n + 1 gaps that n calibrated values leave, the next live value falls into each with the same probability, and a
gap that has received values is likelier by as many: an urn (Blackwell & MacQueen, Ann. Stat. 1, 1973). This is the
conformal p-value of the next value against all before it (Vovk, Gammerman & Shafer 2005; Vovk et al. 2021,
arXiv:2102.10439), read in cells between fixed ranks: exact for any number of calibrated values, however few.
Ties are broken by a random number of each value, which keeps it exact for scores that are discrete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.route.sequential import TILTS, share_bets

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_CELLS, CELL_ITEMS = 32, 10
MOST_LEVELS, LEVEL_ITEMS = 20, 25
DESIGN_SHARE = 1 / 3  # of the calibrated values of a level, by which the rank is chosen and which the urn leaves out
SHRINK = 4.0  # items' worth of the overall rate in the rate of a level
SLOPES = np.array([0.1, 0.3, 0.9, -0.1, -0.3, -0.9])


def luck(rows: Ints, seed: int, salt: int) -> Floats:
    """A number in [0, 1) of each row, the same whenever it is asked for (splitmix64; Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        z = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64((seed * 0xD1342543DE82EF95 + salt * 0xBF58476D1CE4E5B9) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(float) * 2.0**-53)


def _earlier(cells: Ints, many: int) -> Ints:
    """How many earlier values lie in each cell, shape (n, many)."""
    one_hot = np.zeros((len(cells) + 1, many), dtype=np.int64)
    one_hot[np.arange(1, len(cells) + 1), cells] = 1
    return np.add.accumulate(one_hot)[:-1]


@dataclass
class Scores:
    """Cells between ranks of the calibrated scores, and what has fallen into each.

    Parameters
    ----------
    edges, ties : scores at the ranks, ascending, and the random number of each, shape (cells - 1,).
    calibrated : the gaps between calibrated scores that each cell holds, adding up to items + 1, shape (cells,).
    live : scores of live requests in each, shape (cells,).
    """

    edges: Floats
    ties: Floats
    calibrated: Floats
    live: Floats

    @classmethod
    def calibrate(cls, scores: Floats, seed: int) -> Scores:
        """Cells of about ten calibrated scores or more, at most 32."""
        n = len(scores)
        tie = luck(np.arange(n, dtype=np.int64), seed, 1)
        order = np.lexsort((tie, scores))
        many = int(np.clip(n // CELL_ITEMS, 2, MOST_CELLS))
        ranks = np.unique(np.round(np.arange(1, many) * (n + 1) / many).astype(np.int64).clip(1, n))
        at = order[ranks - 1]
        gaps = np.diff(np.concatenate([[0], ranks, [n + 1]])).astype(float)
        return cls(scores[at], tie[at], gaps, np.zeros(len(gaps)))

    @property
    def middles(self) -> Floats:
        """The mid-rank of each cell among the calibrated scores, in (0, 1), shape (cells,)."""
        return np.asarray((np.cumsum(self.calibrated) - self.calibrated / 2) / self.calibrated.sum())

    def cells(self, scores: Floats, ties: Floats) -> Ints:
        """The cell of each score, shape (n,)."""
        below = np.searchsorted(self.edges, scores, side="left")
        level = np.unique(self.edges)
        # A score that equals an edge is above as many of the equal edges as have a smaller random number.
        key = np.searchsorted(level, self.edges) + self.ties
        tied = np.searchsorted(self.edges, scores, side="right") > below
        within = np.searchsorted(key, np.searchsorted(level, scores) + ties, side="left")
        return np.asarray(np.where(tied, within, below), dtype=np.int64)

    def bets(self, cells: Ints) -> Floats:
        """What bets on each next cell multiply their stakes by, natural logarithms, shape (n, 12); remembers the cells.

        A bet is a density on the rank u in [0, 1], 1 + e (2u - 1) for a shift (up where e > 0) and
        1 + e (6 u^2 - 6 u + 1) for a spread, averaged over the cell's part of [0, 1] by the urn.
        """
        mass = self.calibrated + self.live + _earlier(cells, len(self.calibrated))
        whole = mass.sum(axis=1)
        every = np.arange(len(cells))
        high = np.add.accumulate(mass, axis=1)[every, cells] / whole
        low = high - mass[every, cells] / whole
        shift = high + low - 1
        spread = 2 * (low * low + low * high + high * high) - 3 * (low + high) + 1
        self.live = self.live + np.bincount(cells, minlength=len(self.live))
        return np.asarray(np.log1p(np.hstack([shift[:, None] * SLOPES, spread[:, None] * SLOPES])))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; scores beyond any threshold (rules) are told as "inf"."""
        return {
            "edges": [value if np.isfinite(value) else str(value) for value in self.edges.tolist()],
            "ties": self.ties.tolist(),
            "calibrated": self.calibrated.tolist(),
            "live": self.live.tolist(),
        }

    @classmethod
    def of(cls, told: dict[str, Any]) -> Scores:
        """What :meth:`to_dict` told."""
        return cls(*(np.array([float(v) for v in told[name]]) for name in ("edges", "ties", "calibrated", "live")))


@dataclass
class Failures:
    """Failures (no agreement, or a wrong answer) by level of the score, calibrated and live.

    Parameters
    ----------
    edges : scores between the levels, ascending, shape (levels - 1,).
    items, failed : calibrated items of each level, and the sum of their failures, shape (levels,).
    cut, tie : the failure at the rank that parts a level's values into low and high, and its random number.
    low, high : the gaps below and above it, and live values there, shape (levels,).

    Notes
    -----
    Within a level the failure is the value of an urn with two cells, parted at a rank that a third of the level's
    calibrated items chose (they are left out of the urn, or the rank would depend on what it parts). A bet that live
    failures are more has the odds of the level's urn, so that scores that move from one level to another change
    nothing.
    """

    edges: Floats
    items: Floats
    failed: Floats
    cut: Floats
    tie: Floats
    low: Floats
    high: Floats

    @classmethod
    def calibrate(cls, scores: Floats, failures: Floats, seed: int, salt: int) -> Failures:
        """Levels of about 25 calibrated items or more, at most 20, equal scores in one."""
        n = len(scores)
        many = int(np.clip(n // LEVEL_ITEMS, 1, MOST_LEVELS))
        ordered = np.sort(scores)
        edges = np.unique(ordered[np.round(np.arange(1, many) * n / many).astype(np.int64)])
        level = np.searchsorted(edges, scores, side="right")
        rows = np.arange(n, dtype=np.int64)
        tie = luck(rows, seed, salt)
        design = luck(rows, seed, salt + 1) < DESIGN_SHARE
        count = len(edges) + 1
        items = np.bincount(level, minlength=count).astype(float)
        failed = np.bincount(level, weights=failures, minlength=count).astype(float)
        overall = float(failures[design].mean()) if design.any() else 0.5
        made = cls(edges, items, failed, *(np.zeros(count) for _ in range(4)))
        for b in range(count):
            drawn, kept = np.flatnonzero(design & (level == b)), np.flatnonzero(~design & (level == b))
            rate = (failures[drawn].sum() + SHRINK * overall) / (len(drawn) + SHRINK)
            m = len(kept)
            rank = int(np.clip(np.round((1 - rate) * (m + 1)), min(1, m), m))
            made.low[b], made.high[b] = rank, m + 1 - rank
            if rank:
                at = kept[np.lexsort((tie[kept], failures[kept]))[rank - 1]]
                made.cut[b], made.tie[b] = failures[at], tie[at]
        return made

    def levels(self, scores: Floats) -> Ints:
        """The level of each score, shape (n,)."""
        return np.asarray(np.searchsorted(self.edges, scores, side="right"), dtype=np.int64)

    def expected(self, levels: Ints) -> Floats:
        """The calibrated failure rate at each level, shape (n,)."""
        return np.asarray((self.failed / np.maximum(self.items, 1))[levels])

    def bets(self, levels: Ints, failures: Floats, ties: Floats, tilts: ArrayLike = TILTS) -> Floats:
        """What bets on more failures multiply their stakes by, natural logarithms, shape (n, kinds); remembers them."""
        cut, tie = self.cut[levels], self.tie[levels]
        above = (failures > cut) | ((failures == cut) & (ties > tie)) | (self.low[levels] == 0)
        count = len(self.items)
        start = np.concatenate([self.low, self.high])
        cells = levels + count * above
        mass = start + _earlier(cells, 2 * count)
        every = np.arange(len(levels))
        high = mass[every, levels + count]
        share = high / (high + mass[every, levels])
        after = np.asarray(start + np.bincount(cells, minlength=2 * count), dtype=float)
        self.low, self.high = after[:count], after[count:]
        return share_bets(above.astype(float), share, tilts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = ("items", "failed", "cut", "tie", "low", "high")
        edges = [value if np.isfinite(value) else str(value) for value in self.edges.tolist()]
        return {"edges": edges, **{name: getattr(self, name).tolist() for name in names}}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Failures:
        """What :meth:`to_dict` told."""
        names = ("edges", "items", "failed", "cut", "tie", "low", "high")
        return cls(*(np.array([float(v) for v in told[name]]) for name in names))
