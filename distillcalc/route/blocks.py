"""Sums of a stream by blocks of rows, so that it can be told what has been true since a change, in little memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SUMS = (
    "rows", "escalated",
    "scored", "ranks",
    "audited", "disagreed", "disagreed_expected",
    "kept_labelled", "kept_wrong", "kept_wrong_expected",
    "labelled", "wrong",
)  # fmt: skip
FIRST_SIZE, MOST_BLOCKS = 128, 1024


class Blocks:
    """Sums of blocks of equally many rows; two become one when there are too many.

    Parameters
    ----------
    size : rows of a block.
    sums : shape (blocks, sums), columns as in ``SUMS``.
    first : time of each block's first row in seconds since 1970, shape (blocks,); nan where no row had a time.
    """

    def __init__(self, size: int = FIRST_SIZE, sums: Floats | None = None, first: Floats | None = None) -> None:
        self.size = size
        self.sums = np.zeros((0, len(SUMS))) if sums is None else sums
        self.first = np.zeros(0) if first is None else first

    def add(self, rows: Ints, values: dict[str, Floats], times: Floats) -> None:
        """Add rows that follow each other; ``values`` holds what each adds to a sum."""
        while rows[-1] // self.size >= MOST_BLOCKS:
            self._halve()
        block = rows // self.size
        many = int(block[-1]) + 1
        if many > len(self.sums):
            more = many - len(self.sums)
            self.sums = np.vstack([self.sums, np.zeros((more, len(SUMS)))])
            self.first = np.concatenate([self.first, np.full(more, np.nan)])
        for column, name in enumerate(SUMS):
            self.sums[:, column] += np.bincount(block, weights=values[name], minlength=len(self.sums))
        timed = np.flatnonzero(np.isfinite(times))
        found, where = np.unique(block[timed], return_index=True)
        new = np.isnan(self.first[found])
        self.first[found[new]] = times[timed[where[new]]]

    def _halve(self) -> None:
        if len(self.sums) % 2:
            self.sums = np.vstack([self.sums, np.zeros((1, len(SUMS)))])
            self.first = np.append(self.first, np.nan)
        self.sums = self.sums[::2] + self.sums[1::2]
        self.first = np.where(np.isnan(self.first[::2]), self.first[1::2], self.first[::2])
        self.size *= 2

    def since(self, row: int) -> tuple[int, float, dict[str, float]]:
        """What was added from about a row on: first row and time of the block that begins nearest, and the sums."""
        at = min(round(row / self.size), max(len(self.sums) - 1, 0))
        time = float(self.first[at]) if len(self.first) else float("nan")
        total = self.sums[at:].sum(axis=0)
        return at * self.size, time, dict(zip(SUMS, total.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        first = [None if np.isnan(time) else time for time in self.first.tolist()]
        return {"size": self.size, "sums": self.sums.tolist(), "first": first}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Blocks:
        """What :meth:`to_dict` told."""
        first = np.array([np.nan if time is None else time for time in told["first"]], dtype=float)
        return cls(told["size"], np.array(told["sums"], dtype=float).reshape(-1, len(SUMS)), first)
