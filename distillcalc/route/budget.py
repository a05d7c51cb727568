"""Which thresholds surely keep within a budget: a test of the mean dollars of a request, like the one of quality.

The certifying items' own bills are tested, each of the model that answers it at that threshold, so that dear requests
that are the ones sent on count as what they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.estimate import certifying as tests
from distillcalc.route.mixing import Kind, answering, billed, outermost
from distillcalc.route.pairs import Pairs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def within_budget(
    most_usd: float,
    level: float,
    tuning: Pairs,
    certifying: Pairs,
    score: str,
    thresholds: Floats,
    kind: Kind,
    extra_usd: float = 0.0,
) -> Bools:
    """Threshold vectors whose mean dollars of a request are surely at most ``most_usd``, shape (mixtures,).

    Parameters
    ----------
    most_usd : of a request, on average.
    level : probability of any false one, at most.
    tuning, certifying : the first orders the tests, from the cheapest up; the second is tested.
    score, thresholds, kind, extra_usd : as in :func:`.certificate.certify`.

    Notes
    -----
    Where each model costs the same for every request what is left to chance is how many are sent on: the exact binomial
    test. Otherwise :func:`~distillcalc.estimate.certifying.bounded_mean_p_value` of what is left of the budget; no
    request is taken to be dearer than the dearest of the pairs. What cannot exceed the budget is not tested.

    Raises
    ------
    InputError
        If no dollars are known.
    """
    bills = [billed(pairs, kind, extra_usd) for pairs in (tuning, certifying)]
    if not all(np.isfinite(one).all() for one in bills):
        raise InputError("a budget takes dollars: give usd of every model's answers with the pairs")
    both = np.concatenate(bills)
    k = both.shape[1]
    same = k == 2 and both[0, 1] > both[0, 0] and bool((np.ptp(both, axis=0) <= 1e-12 * both.max(axis=0)).all())
    ends = outermost(tuning.score(score))
    p_values, cost = np.empty(len(thresholds)), np.empty(len(thresholds))
    for i, vector in enumerate(thresholds):
        who = [answering(pairs.score(score), vector) for pairs in (tuning, certifying)]
        cost[i] = bills[0][np.arange(len(tuning)), who[0]].mean()
        first = int(np.argmax(np.append(vector <= ends[0], True)))  # the first model that keeps everything, if one does
        may = [m for m in range(first + 1) if m == k - 1 or vector[m] < ends[1][m]]
        top, bottom = float(both[:, may].max()), float(both[:, may].min())
        if top <= most_usd:
            p_values[i] = 0.0
        elif bottom > most_usd:
            p_values[i] = 1.0
        elif same:
            sent = int((who[1] == k - 1).sum())
            p_values[i] = _rate_p_value(sent, len(certifying), (most_usd - both[0, 0]) / (both[0, 1] - both[0, 0]))
        else:
            left = most_usd - bills[1][np.arange(len(certifying)), who[1]]
            p_values[i] = tests.bounded_mean_p_value(left, most_usd - top, most_usd - bottom)
    return tests.fixed_sequence(p_values, np.argsort(cost, kind="stable"), level)


def _rate_p_value(sent: int, items: int, most: float) -> float:
    """P(Bin(items, most) <= sent): of "more than this share is sent on"."""
    from scipy.special import betainc

    if not 0 < most < 1 or sent >= items:
        return 1.0
    return float(1 - betainc(sent + 1, items - sent, most))
