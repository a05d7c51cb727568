"""What the step-time model says of a run in batches that start and end together, before it is run.

The engine of :mod:`.in_process` takes the requests that are due, reads their prompts in one step, and writes until all
have what they want. Its steps follow from the lengths alone, and :class:`~distillcalc.estimate.step_time.StepTime` says
how long each takes. Engines that take requests in between are :func:`distillcalc.estimate.calibration.predict`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError
from distillcalc.estimate.step_time import StepTime

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StaticEstimate:
    """What a closed loop in static batches would be measured at.

    Parameters
    ----------
    ttft_s : of each request, shape (n,) [s].
    tpot_s : of each request, shape (n,) [s]; nan of a single output token.
    e2e_s : of each request, shape (n,) [s].
    seconds : of the whole run [s].
    requests_per_s, output_tokens_per_s : n / seconds, and all output tokens / seconds.
    most_cached : tokens of the cache of the largest batch, padding included.
    most_read : tokens of the largest prompts that are read at once, padding included.
    """

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    seconds: float
    requests_per_s: float
    output_tokens_per_s: float
    most_cached: int
    most_read: int


def estimate_static(
    step: StepTime,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    concurrency: int,
    *,
    request_s: float = 0.0,
    rounded_to: int = 0,
) -> StaticEstimate:
    """Times of a closed loop whose requests are served in batches of so many, in their order.

    Parameters
    ----------
    step : constants of the model on this machine.
    input_tokens, output_tokens : of the requests, shape (n,); outputs 1 or more.
    concurrency : requests in flight, which are a batch.
    request_s : time of a request beside its steps [s].
    rounded_to : of a static cache, whose rows are as long as the batch's longest request, rounded up to so many tokens,
        and are read whole in every step; 0: a cache that grows.

    Raises
    ------
    InputError
        For no requests, lengths that differ in number, or a concurrency below 1.

    Notes
    -----
    Of a batch of b prompts, the longest of s tokens: reading takes step(b sequences, b s tokens, 0 context,
    b s^2 / 2 pairs), for short ones are padded; the k-th token after the first takes step(those still writing,
    b tokens, b (s + k) context); with a static cache the context is that of its whole rows. All rows compute until the
    longest answer ends, and a request's last token is its own; its client then asks again, and waits until the batch
    has ended.
    """
    inputs, outputs = np.asarray(input_tokens, dtype=np.int64), np.asarray(output_tokens, dtype=np.int64)
    if inputs.ndim != 1 or inputs.shape != outputs.shape or not inputs.size:
        raise InputError(f"a run has lengths of one request or more, as many in as out. Got {inputs.shape}")
    if concurrency < 1 or outputs.min() < 1 or inputs.min() < 1:
        raise InputError("concurrency, input_tokens and output_tokens must be 1 or more")
    ttft, tpot, e2e = np.empty(len(inputs)), np.full(len(inputs), np.nan), np.empty(len(inputs))
    total, cached, most_read = 0.0, 0, 0
    free = np.zeros(concurrency)  # moments from which each client has its answer, and asks again
    for first in range(0, len(inputs), concurrency):
        rows = slice(first, first + concurrency)
        longest, wanted = int(inputs[rows].max()), outputs[rows]
        b, most = len(wanted), int(wanted.max())
        read = float(step.seconds(b, b * longest, 0, b * longest**2 / 2)) + request_s
        after = np.arange(1, most)
        writing = (wanted[:, None] > after[None]).sum(axis=0)
        whole = -(-(longest + most) // rounded_to) * rounded_to if rounded_to else longest + most
        context = b * (np.full(most - 1, whole) if rounded_to else longest + after)
        ends = np.concatenate([[0.0], np.cumsum(step.seconds(writing, b, context))]) + read
        waited = total - free[:b]  # whose answer was short waits for the longest
        ttft[rows], e2e[rows] = waited + read, waited + ends[wanted - 1]
        some = wanted > 1
        tpot[rows] = np.where(some, (ends[wanted - 1] - read) / np.maximum(wanted - 1, 1), np.nan)
        free = np.sort(np.concatenate([free[b:], total + ends[wanted - 1]]))
        total += float(ends[-1])
        cached, most_read = max(cached, b * whole), max(most_read, b * longest)
    return StaticEstimate(
        ttft, tpot, e2e, total, len(inputs) / total, float(outputs.sum()) / total, cached, most_read
    )  # fmt: skip
