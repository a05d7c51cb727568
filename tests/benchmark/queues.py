"""Queues in numpy, whose figures are known in closed form, and traces made of moments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.benchmark.traces import Traces

Floats = NDArray[np.float64]


def served(arrival: Floats, service: Floats) -> Floats:
    """When one server, first come first served, ends each: finish_i = max(arrival_i, finish_(i-1)) + service_i.

    Lindley's recursion without a loop: finish_i = S_i + max over j <= i of (arrival_j - S_(j-1)), S sums of service.
    """
    sums = np.cumsum(service)
    return sums + np.maximum.accumulate(arrival - (sums - service))


def mm1(random: np.random.Generator, n: int, busy: float, warm: int = 0) -> tuple[Floats, Floats]:
    """(arrival, finish) in an M/M/1 queue that serves one a second; the first ``warm`` are left out."""
    arrival = np.cumsum(random.exponential(1 / busy, n + warm))
    finish = served(arrival, random.exponential(1.0, n + warm))
    return arrival[warm:], finish[warm:]


def traces_of(due: ArrayLike, last: ArrayLike, **given: Any) -> Traces:
    """Traces of requests that were due and ended then: sent on time, answered in one token as they end."""
    due, last = np.asarray(due, dtype=float), np.asarray(last, dtype=float)
    n = len(due)
    fields = {
        "due_s": due,
        "sent_s": due,
        "first_s": last,
        "last_s": last,
        "input_tokens": np.full(n, 10),
        "output_tokens": np.ones(n, dtype=int),
        "outcome": ("ok",) * n,
        "chunk_s": last,
        "chunk_tokens": np.ones(n, dtype=int),
        "offsets": np.arange(n + 1),
    }
    return Traces(**{**fields, **{k: v if k == "outcome" else np.asarray(v) for k, v in given.items()}})
