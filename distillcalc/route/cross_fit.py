"""Scores of items by models that never saw them: learned on some folds, asked about the other.

For studies of few items. What is deployed is learned, tuned and certified on three parts (:mod:`.fit`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.route.pairs import Pairs
from distillcalc.route.scores import Score

Floats = NDArray[np.float64]


def cross_fit(pairs: Pairs, learn: Callable[[Pairs], Score], *, folds: int = 5, seed: int = 0) -> Floats:
    """Out-of-fold scores.

    Parameters
    ----------
    pairs : all items; those of one text are in one fold.
    learn : makes a score of the items that it is given.
    folds : how many, two or more.
    seed : of the folds.

    Returns
    -------
    Shape (items,), in the order of the pairs.

    Raises
    ------
    InputError
        For fewer than two folds, or fewer texts than folds.
    """
    if folds < 2:
        raise InputError(f"folds must be 2 or more. Got {folds}")
    parts = pairs.split([1 / folds] * folds, seed=seed)
    place = {id: i for i, id in enumerate(pairs.ids)}
    found = np.full(len(pairs), np.nan)
    for part in parts:
        rows = np.array([place[id] for id in part.ids])
        rest = np.setdiff1d(np.arange(len(pairs)), rows)
        found[rows] = learn(pairs.take(rest)).many(pairs.take(rows).asked())
    return found
