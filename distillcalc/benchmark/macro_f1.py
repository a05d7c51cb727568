"""How well the macro F1 of a classification is known: its interval, by a bootstrap over items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.calibration_measures import Interval
from distillcalc.distill.comparing import answer_key
from distillcalc.distill.training.scores import CELLS, DRAWS
from distillcalc.errors import InputError

Floats: TypeAlias = NDArray[np.float64]


def macro_f1_interval(said: Sequence[str], labels: Sequence[str], *, seed: int = 0) -> Interval:
    """95% interval of the mean F1 over the classes that people used.

    Parameters
    ----------
    said, labels : answers, and what people said, shape (items,) each.
    seed : of the bootstrap.

    Returns
    -------
    (float, float)
        Of what :func:`distillcalc.distill.training.scores.score` says: the 2.5% and 97.5% points of a bootstrap over
        items; of a draw the mean is over the classes that are in it. As for a share, two right and two wrong items are
        added (Agresti and Coull, Am. Stat. 52, 1998), spread over the classes as people used them, so that answers that
        are all right have an interval too. Simulated with 2 to 6 classes and 50 to 300 items it holds the true value in
        93 to 97% of samples. Of few items a class macro F1 itself is off, and so is this: with 77 classes of 13 items
        each it holds in 87%, of 4 items each in 79%.

    Raises
    ------
    InputError
        If there are no items, or not one answer for each.
    """
    if not labels or len(said) != len(labels):
        raise InputError(f"macro F1 needs an answer for each item. Got {len(said):,} for {len(labels):,}")
    names = sorted(set(labels))  # as score has them
    place = {answer_key(name): i for i, name in enumerate(names)} | {name: i for i, name in enumerate(names)}
    classes, items = len(names), len(labels)
    wanted = np.array([place[label] for label in labels])
    got = np.array([place.get(one, place.get(answer_key(one), classes)) for one in said])
    cells = np.zeros((classes, classes + 1))
    np.add.at(cells, (wanted, got), 1.0)
    share = cells.sum(axis=1) / items
    wrong = np.outer(share, np.append(share, 0.0))
    np.fill_diagonal(wrong, 0.0)
    if not wrong.any():  # one class: what is wrong is none of it
        wrong[0, 1] = 1.0
    cells[np.arange(classes), np.arange(classes)] += 2 * share
    cells += 2 * wrong / wrong.sum()
    rows, columns = np.nonzero(cells)
    drawn = _f1_draws(rows, columns, cells[rows, columns], classes, np.random.default_rng(seed))
    low, high = np.quantile(drawn, (0.025, 0.975), method="inverted_cdf")
    return float(low), float(high)


def _f1_draws(
    rows: NDArray[np.int64], columns: NDArray[np.int64], counts: Floats, classes: int, rng: np.random.Generator
) -> Floats:
    """Macro F1 of resampled items; alike ones are drawn together, so that their order does not matter."""
    items = round(counts.sum())
    of_row, of_column = (np.equal.outer(index, np.arange(classes)).astype(float) for index in (rows, columns))
    right = of_row * of_column
    size = max(1, CELLS // len(counts))
    found = []
    for start in range(0, DRAWS, size):
        draws = rng.multinomial(items, counts / counts.sum(), size=min(size, DRAWS - start)).astype(float)
        support, given = draws @ of_row, draws @ of_column
        f1 = 2 * (draws @ right) / np.maximum(support + given, 1.0)
        used = support > 0
        found.append((f1 * used).sum(axis=1) / used.sum(axis=1))
    return np.concatenate(found)
