"""Boosted trees as plain arrays: scikit-learn grows them, numpy follows them, and nothing of it is pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import DistillcalcError, MissingExtra
from distillcalc.route.learners import Matrix, both_sides, one_thread, sigmoid

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

ITERATIONS = (10, 25, 50, 100)
LEARNING_RATE = 0.1
LEAVES = 8
LEAST_IN_LEAF = 20
DIRECTIONS = 48
MOST_ROWS = 20_000  # that directions are found from
MOST_FEATURES = 64  # more are first turned to their main directions: an embedding's single numbers mean nothing
ROWS_AT_ONCE = 2_048
BINS = 255
UNREADABLE = "this version of scikit-learn keeps boosted trees in a way that is not read here. Try scikit-learn 1.9"


@dataclass(frozen=True, eq=False)
class Trees:
    """p = 1 / (1 + exp(-(start + the sum of a leaf of each tree))).

    Parameters
    ----------
    feature, threshold, left, right : of each tree's nodes, shape (trees, nodes): where x[feature] <= threshold go on at
        left, else at right; a leaf leads to itself.
    value : of leaves, shape (trees, nodes).
    start : log-odds before any tree, shape (1,).
    directions : that x is seen along, shape (features, directions); shape (features, 0) where it is seen as it comes.
    """

    feature: Places
    threshold: Floats
    left: Places
    right: Places
    value: Floats
    start: Floats
    directions: Floats

    @property
    def features(self) -> int:
        """How many numbers it reads."""
        return len(self.directions)

    @classmethod
    def fit(cls, x: Matrix, y: Floats, iterations: int, seed: int = 0) -> Trees:
        """Grow trees of up to 8 leaves with scikit-learn's HistGradientBoostingClassifier.

        Parameters
        ----------
        x : features, shape (rows, features).
        y : in [0, 1], shape (rows,); a row between counts on both sides, by its share.
        iterations : how many trees.
        seed : of the rows that the bins are made of where there are more than 200,000.

        Raises
        ------
        DistillcalcError
            If the installed scikit-learn keeps its trees in another way: what is read from it is compared with what it
            predicts.
        """
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier
        except ImportError as error:
            raise MissingExtra("sklearn", "route") from error
        directions = main_directions(x)
        main = _along(x, directions)
        rows, side, weight = both_sides(y)
        with one_thread():
            made = HistGradientBoostingClassifier(
                learning_rate=LEARNING_RATE, max_iter=iterations, max_leaf_nodes=LEAVES,
                min_samples_leaf=LEAST_IN_LEAF, early_stopping=False, random_state=seed,
            )  # fmt: skip
            weighted = not bool((weight == 1).all())
            seen = _few_values(main) if weighted else main
            made.fit(seen[rows], side, sample_weight=weight if weighted else None)
            sample = slice(None, 256)
            expected = made.predict_proba(main[sample])[:, 1]
        try:
            nodes, start = [one[0].nodes for one in made._predictors], float(made._baseline_prediction.ravel()[0])
            found = cls._of(nodes, start, directions)
            if np.allclose(found.probability(x[sample]), expected, rtol=0, atol=1e-9):
                return found
        except (AttributeError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DistillcalcError(UNREADABLE) from error
        raise DistillcalcError(UNREADABLE)

    @classmethod
    def _of(cls, trees: list[Any], start: float, directions: Floats) -> Trees:
        most = max(len(nodes) for nodes in trees)
        shape = (len(trees), most)
        itself = np.broadcast_to(np.arange(most), shape)
        feature, left, right = np.zeros(shape, dtype=np.int64), itself.copy(), itself.copy()
        threshold, value = np.zeros(shape), np.zeros(shape)
        for i, nodes in enumerate(trees):
            n = len(nodes)
            leaf = nodes["is_leaf"].astype(bool)
            feature[i, :n] = np.where(leaf, 0, nodes["feature_idx"])
            threshold[i, :n] = np.where(leaf, 0.0, nodes["num_threshold"])
            left[i, :n] = np.where(leaf, itself[i, :n], nodes["left"])
            right[i, :n] = np.where(leaf, itself[i, :n], nodes["right"])
            value[i, :n] = np.where(leaf, nodes["value"], 0.0)
        return cls(feature, threshold, left, right, value, np.array([start]), directions)

    def probability(self, x: Matrix) -> Floats:
        """Of each row; the same to the last bit, whichever rows it comes with."""
        return np.asarray(self.staged(x, (len(self.value),))[0])

    def staged(self, x: Matrix, iterations: tuple[int, ...]) -> Floats:
        """The same of the first so many trees, shape (stages, rows)."""
        found = np.empty((len(iterations), len(x)))
        trees = np.arange(len(self.value))
        for begin in range(0, len(x), ROWS_AT_ONCE):
            part = _along(x[begin : begin + ROWS_AT_ONCE], self.directions)
            rows = np.arange(len(part))[:, None]
            node = np.zeros((len(part), len(trees)), dtype=np.int64)
            while True:
                to_left = part[rows, self.feature[trees, node]] <= self.threshold[trees, node]
                following = np.where(to_left, self.left[trees, node], self.right[trees, node])
                if np.array_equal(following, node):
                    break
                node = following
            leaves = self.value[trees, node]
            for i, count in enumerate(iterations):
                found[i, begin : begin + len(part)] = leaves[:, :count].sum(axis=1)
        return sigmoid(found + self.start)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What is kept of it."""
        return dict(vars(self))


def main_directions(x: Matrix) -> Floats:
    """The 48 directions along which rows differ most, shape (features, 48); (features, 0) of 64 features or fewer."""
    if x.shape[1] <= MOST_FEATURES:
        return np.zeros((x.shape[1], 0))
    some = x[:MOST_ROWS].astype(float)
    some -= some.mean(axis=0)
    with one_thread():
        _, vectors = np.linalg.eigh(some.T @ some)
    found = vectors[:, ::-1][:, :DIRECTIONS]
    return np.ascontiguousarray(found * np.sign(found[np.abs(found).argmax(axis=0), np.arange(DIRECTIONS)]))


def _few_values(x: Floats) -> Floats:
    """Each number as the nearest of 255 quantiles of its column, shape as x.

    With weights scikit-learn takes seconds to choose bins among more values, and is as exact: it bins them anyway.
    """
    found = np.empty_like(x)
    for column in range(x.shape[1]):
        values = np.unique(np.quantile(x[:, column], np.linspace(0, 1, BINS), method="nearest"))
        found[:, column] = values[np.searchsorted((values[1:] + values[:-1]) / 2, x[:, column])]
    return found


def _along(x: Matrix, directions: Floats) -> Floats:
    """The rows along the directions; the same to the last bit, whichever rows they come with."""
    if not directions.shape[1]:
        return np.asarray(x, dtype=float)
    # einsum adds up each row by itself; a matrix product adds in another order for another number of rows.
    return np.asarray(np.einsum("nd,dk->nk", x.astype(float), directions))
