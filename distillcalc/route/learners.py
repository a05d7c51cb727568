"""What a learned score is made of: numbers in, probability out. Logistic regression and nearest neighbours.

scikit-learn fits, numpy predicts: a router that decides needs no scikit-learn. Boosted trees are in :mod:`.trees`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import MissingExtra

Floats = NDArray[np.float64]
Matrix = NDArray[np.floating[Any]]

ROWS_AT_ONCE = 4_096
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C: the prior's variance of a standardised feature's weight
MANY = 5_000_000  # distances, from which on scikit-learn is worth loading
COUNTS = (5, 10, 20, 50, 100, 200)  # neighbours
SOFTENING = 0.01  # of a squared distance: far above what float32 loses, far below that of two different texts


class Learner(Protocol):
    """Numbers of requests in, a probability for each out."""

    def probability(self, x: Matrix) -> Floats:
        """Of each row of features, shape (rows, features) -> (rows,)."""
        ...

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What is kept of it."""
        ...


@dataclass(frozen=True, eq=False)
class Logistic:
    """p = 1 / (1 + exp(-(weights . x + intercept))).

    Parameters
    ----------
    weights : of the features as they come, shape (features,).
    intercept : shape (1,).
    """

    weights: Floats
    intercept: Floats

    @property
    def features(self) -> int:
        """How many numbers it reads."""
        return len(self.weights)

    @classmethod
    def fit(cls, x: Matrix, y: Floats, strength: float) -> Logistic:
        """Fit with an L2 penalty on the weights of standardised features.

        Parameters
        ----------
        x : features, shape (rows, features).
        y : in [0, 1], shape (rows,); a row between counts on both sides, by its share.
        strength : C of scikit-learn, a prior's variance: the best one does not move with the number of rows.
        """
        linear = _sklearn("linear_model")
        mean, scale = x.mean(axis=0, dtype=float), x.std(axis=0, dtype=float)
        scale[scale < 1e-12] = 1.0
        rows, side, weight = both_sides(y)
        with one_thread():
            made = linear.LogisticRegression(C=strength, max_iter=1_000)
            made.fit(((x - mean) / scale).astype(np.float32)[rows], side, sample_weight=weight)
        weights = made.coef_[0].astype(float) / scale
        return cls(weights, made.intercept_.astype(float) - mean @ weights)

    def probability(self, x: Matrix) -> Floats:
        """Of each row; the same to the last bit, whichever rows it comes with."""
        found = np.empty(len(x))
        for start in range(0, len(x), ROWS_AT_ONCE):
            # A matrix product would add in another order for another number of rows.
            found[start : start + ROWS_AT_ONCE] = (x[start : start + ROWS_AT_ONCE] * self.weights).sum(axis=1)
        return sigmoid(found + self.intercept)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What is kept of it."""
        return {"weights": self.weights, "intercept": self.intercept}


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The mean outcome of the nearest rows, the nearer the more it counts, and of all rows as one neighbour more.

    p = (sum of w y + mean(w) share) / (sum of w + mean(w)), w = 1 / (squared distance + 0.01).

    Parameters
    ----------
    rows : that were seen, shape (seen, features), float32.
    outcomes : theirs, in [0, 1], shape (seen,).
    share : the mean outcome, shape (1,).
    count : of neighbours, shape (1,).
    """

    rows: NDArray[np.float32]
    outcomes: Floats
    share: Floats
    count: NDArray[np.int64]

    @property
    def features(self) -> int:
        """How many numbers it reads."""
        return int(self.rows.shape[1])

    @classmethod
    def fit(cls, x: Matrix, y: Floats, count: int) -> Neighbours:
        """Keep the rows."""
        return cls(
            np.ascontiguousarray(x, dtype=np.float32), np.asarray(y, dtype=float), np.array([y.mean()]),
            np.array([count], dtype=np.int64),
        )  # fmt: skip

    def probability(self, x: Matrix) -> Floats:
        """Of each row; about 1e-5 from what it is among other rows, for a matrix product adds in another order."""
        return np.asarray(self.of_counts(x, (int(self.count[0]),))[0])

    def of_counts(self, x: Matrix, counts: tuple[int, ...]) -> Floats:
        """The same with several numbers of neighbours, looked for once: shape (counts, rows)."""
        most = min(max(counts), len(self.rows))
        found = np.empty((len(counts), len(x)))
        for start in range(0, len(x), ROWS_AT_ONCE // 4):
            part = slice(start, start + ROWS_AT_ONCE // 4)
            distance, places = nearest(np.asarray(x[part], dtype=np.float32), self.rows, most)
            weight = 1 / (distance + SOFTENING)
            total, right = np.cumsum(weight, axis=1), np.cumsum(weight * self.outcomes[places], axis=1)
            for i, count in enumerate(counts):
                last = min(count, most) - 1
                mean = total[:, last] / (last + 1)
                found[i, part] = (right[:, last] + mean * self.share) / (total[:, last] + mean)
        return found

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What is kept of it."""
        return {"rows": self.rows, "outcomes": self.outcomes, "share": self.share, "count": self.count}


def nearest(x: NDArray[np.float32], rows: NDArray[np.float32], count: int) -> tuple[Floats, NDArray[np.intp]]:
    """The nearest rows of each x: squared Euclidean distances and places, the nearest first, shape (len(x), count).

    Of many it is scikit-learn that looks for them, where it is there: it is several times as fast.
    """
    if len(x) * len(rows) > MANY and count < len(rows) and find_spec("sklearn") is not None:
        from sklearn.neighbors import NearestNeighbors

        found, places = NearestNeighbors(algorithm="brute").fit(rows).kneighbors(x, n_neighbors=count)
        return np.asarray(found, dtype=float) ** 2, np.asarray(places)
    squared = (rows * rows).sum(axis=1)[None, :] - 2 * (x @ rows.T)
    if count < len(rows):
        places = np.argpartition(squared, count - 1, axis=1)[:, :count]
    else:
        places = np.broadcast_to(np.arange(len(rows)), (len(x), len(rows)))
    distance = np.take_along_axis(squared, places, axis=1) + (x * x).sum(axis=1)[:, None]
    order = np.lexsort((places, distance), axis=1)
    return (
        np.maximum(np.take_along_axis(distance, order, axis=1), 0).astype(float),
        np.take_along_axis(places, order, axis=1),
    )


def sigmoid(log_odds: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -700, 700))), dtype=float)


def both_sides(y: Floats) -> tuple[NDArray[np.intp], NDArray[np.int64], Floats]:
    """Rows of two classes for outcomes in [0, 1]: places, class and weight; a row between stands in both."""
    yes, no = np.flatnonzero(y > 0), np.flatnonzero(y < 1)
    side = np.repeat(np.array([1, 0]), [yes.size, no.size])
    return np.concatenate([yes, no]), side, np.concatenate([y[yes], 1 - y[no]])


@contextmanager
def one_thread() -> Iterator[None]:
    """Libraries compute in one thread: for matrices of this size, several would mostly wait for each other."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("threadpoolctl", "route") from error
    with threadpool_limits(1):
        yield


def _sklearn(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingExtra("sklearn", "route") from error
