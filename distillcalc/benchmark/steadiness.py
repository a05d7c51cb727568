"""Whether a run was in a steady state, the target kept up with the requests, and the client with its own plan.

Figures of a run mean little while it still warms up, while a queue grows that would grow for ever, or when the load
was not the one that was asked for. Each is a verdict of its own, with its reason.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError

Floats = NDArray[np.float64]

MSER_BATCH = 5
MSER_LEFT = 5  # batches at the end at which no cut is tried: so few are alike by chance
FEWEST_BATCHES = 20
CONSTANT = 1e-9
BLOCKS = 20
SETTLED = 0.3  # share of the run before which a backlog may rise from none to its usual height
ERROR = 0.01  # share of runs that keep up and are called saturated
GREW_SHARE = 0.02  # of the requests that were due; less is not called growth, as in distillcalc.estimate.simulation
FEWEST_IN_BLOCK = 2
ALLOWED_LATE_S = 0.01
ALLOWED_SLOW = 0.02


@dataclass(frozen=True)
class WarmUp:
    """Where the steady state begins.

    Parameters
    ----------
    found : whether there is one; None where there are too few values to tell.
    cut : values before it, to be left out; 0 where none was found.
    count : all values.
    why : in words.
    """

    found: bool | None
    cut: int
    count: int
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Saturation:
    """Whether requests pile up.

    Parameters
    ----------
    saturated : whether they do; None where there are too few to tell.
    asked_per_s : requests due in the time looked at / that time [1/s].
    answered_per_s : answered in full in that time / that time [1/s].
    growth_per_s : by how much the number of those due and not answered rose [1/s], on average.
    growth_low_per_s, growth_high_per_s : 95% interval of it: what a run of this length cannot exclude.
    p_value : of so much growth where there is none.
    backlog_most, backlog_end : due and neither answered nor failed, at the most and when the last one was due.
    why : in words.
    """

    saturated: bool | None
    asked_per_s: float
    answered_per_s: float
    growth_per_s: float
    growth_low_per_s: float
    growth_high_per_s: float
    p_value: float
    backlog_most: int
    backlog_end: int
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not known."""
        return _plain(self)


@dataclass(frozen=True)
class Punctuality:
    """Whether the client sent the requests when they were due.

    Parameters
    ----------
    honoured : whether it did.
    late_p50_s, late_p99_s : moment of sending - moment at which it was due [s].
    sent_share : rate at which requests were sent / rate at which they were due; nan of a burst.
    allowed_s : the p99 that is still called punctual [s].
    why : in words.
    """

    honoured: bool
    late_p50_s: float
    late_p99_s: float
    sent_share: float
    allowed_s: float
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not known."""
        return _plain(self)


def warm_up(values: ArrayLike) -> WarmUp:
    """Where to cut the warm-up of a series, by MSER-5.

    Parameters
    ----------
    values : in the order of time, such as the latency of each request, shape (n,). 100 are needed.

    Raises
    ------
    InputError
        For values that are not finite.

    Notes
    -----
    Of the means z of batches of five, the cut d is the one with the least sum of (z_i - mean)^2 over i > d, divided by
    (k - d)^2: the squared standard error of the mean of what is left, if it were independent. Where it falls into the
    second half the run holds no steady state that could be told, and a longer one is needed (White, Simulation 69,
    1997; White, Cobb and Spratt, Proc. Winter Simulation Conference 2000). In series that depend strongly on the past
    that happens to steady ones too: in one of seven of an M/M/1 queue that is 70% busy, of 2,000 requests.
    """
    series = np.asarray(values, dtype=float)
    if series.ndim != 1 or not np.isfinite(series).all():
        raise InputError(f"values must be one row of finite numbers. Got shape {series.shape}")
    n = len(series)
    k = n // MSER_BATCH
    if k < FEWEST_BATCHES:
        return WarmUp(None, 0, n, f"too few to tell a warm-up: {n}, it takes {FEWEST_BATCHES * MSER_BATCH}")
    if np.ptp(series) <= CONSTANT * np.abs(series).max():
        return WarmUp(True, 0, n, "steady from the start")  # what differs is rounding, which has no warm-up
    means = series[: k * MSER_BATCH].reshape(k, MSER_BATCH).mean(axis=1)
    means = means - means.mean()  # for what is lost in squares of large numbers
    left = np.arange(k, 0, -1)
    sums, squares = (np.cumsum(side[::-1])[::-1] for side in (means, means**2))
    error = np.maximum(squares - sums**2 / left, 0.0) / left**2
    cut = int(np.argmin(error[: k - MSER_LEFT])) * MSER_BATCH
    if cut > n / 2:
        return WarmUp(False, 0, n, f"no steady state: the best cut would be after {cut} of {n}, in the second half")
    return WarmUp(True, cut, n, f"steady after the first {cut} of {n}" if cut else "steady from the start")


def saturation(
    due_s: ArrayLike, finish_s: ArrayLike, answered: ArrayLike | None = None, *, from_s: float | None = None
) -> Saturation:
    """Whether the number of requests that are due and not answered keeps growing.

    Parameters
    ----------
    due_s : when each was due [s], shape (n,), in any order.
    finish_s : last token, or when it failed [s], shape (n,).
    answered : which were answered in full, shape (n,); None: all. One that fails never leaves the count: a server
        that turns away what it cannot serve is saturated too.
    from_s : moment from which to look [s]; None: after 30% of the time in which requests were due.

    Raises
    ------
    InputError
        For no requests, or arrays of different lengths.

    Notes
    -----
    The time until the last request was due is cut into 20 blocks; each block's growth is what became due in it minus
    what was answered. Saturated: the mean growth is above 0 by a one-sided t test with 1% error and above 2% of what
    became due. While the target keeps up, growth in one block is undone in others, so that the test errs less often
    than it says: simulated 1,000 times, an M/M/1 queue 95% busy is called saturated in 0.3% of runs of 500 requests.
    One that gets 150% of what it can serve is called so in 99% of them, with 120% in 43%, and in 98% of 2,000 requests.
    ``growth_high_per_s`` says how much
    overload a run could not have shown.
    """
    due, finish = np.asarray(due_s, dtype=float), np.asarray(finish_s, dtype=float)
    well = np.ones(len(due), dtype=bool) if answered is None else np.asarray(answered, dtype=bool)
    if due.ndim != 1 or not due.size or due.shape != finish.shape or due.shape != well.shape:
        raise InputError(f"due_s, finish_s and answered must be of one length. Got {due.shape}, {finish.shape}")
    due, ended, served = np.sort(due), np.sort(finish), np.sort(finish[well])
    backlog = np.arange(1, len(due) + 1) - np.searchsorted(ended, due, side="right")
    most, last = int(backlog.max()), int(backlog[-1])
    start = due[0] + SETTLED * (due[-1] - due[0]) if from_s is None else float(from_s)
    looked_at = int((due > start).sum())
    if looked_at < BLOCKS * FEWEST_IN_BLOCK or due[-1] <= start:
        why = f"too few to tell whether they pile up: {looked_at} requests, it takes {BLOCKS * FEWEST_IN_BLOCK}"
        unknown = math.nan
        return Saturation(None, unknown, unknown, unknown, unknown, unknown, unknown, most, last, why)
    from scipy.special import stdtr, stdtrit

    edges = np.linspace(start, due[-1], BLOCKS + 1)
    asked, done = (np.diff(np.searchsorted(side, edges, side="right")) for side in (due, served))
    growth = (asked - done).astype(float)
    block_s = float(edges[-1] - edges[0]) / BLOCKS
    mean, error = float(growth.mean()), float(growth.std(ddof=1)) / math.sqrt(BLOCKS)
    p_value = float(stdtr(BLOCKS - 1, -mean / error)) if error > 0 else (0.0 if mean > 0 else 1.0)
    half = float(stdtrit(BLOCKS - 1, 0.975)) * error
    share = float(growth.sum() / asked.sum())
    saturated = p_value < ERROR and share > GREW_SHARE
    rates = float(asked.mean()) / block_s, float(done.mean()) / block_s
    if not saturated:
        why = f"it keeps up: {rates[1]:.4g} of {rates[0]:.4g} requests/s were answered, and what is left does not grow"
    else:
        failed = int((~well & (finish > start) & (finish <= due[-1])).sum())
        also = f", {failed} failed" if failed else ""
        why = (
            f"saturated: of {rates[0]:.4g} requests/s that were due {rates[1]:.4g} were answered{also}; what was left "
            f"grew by {mean / block_s:.3g} a second, by chance in {p_value:.1g} of such runs"
        )
    per_s = (mean / block_s, (mean - half) / block_s, (mean + half) / block_s)
    return Saturation(saturated, *rates, *per_s, p_value, most, last, why)


def punctuality(due_s: ArrayLike, sent_s: ArrayLike, *, allowed_s: float = ALLOWED_LATE_S) -> Punctuality:
    """Whether the client honoured the load that was asked for: it is the harness, not the target, that is judged.

    Parameters
    ----------
    due_s, sent_s : when each request was due and sent [s], shape (n,).
    allowed_s : lateness at p99 that is still punctual [s].

    Raises
    ------
    InputError
        For no requests, or arrays of different lengths.

    Notes
    -----
    Late at p99, or sent at less than 98% of the rate asked for, and the load was another one than asked for.
    """
    due, sent = np.asarray(due_s, dtype=float), np.asarray(sent_s, dtype=float)
    if due.ndim != 1 or not due.size or due.shape != sent.shape:
        raise InputError(f"due_s and sent_s must be of one length, one request at least. Got {due.shape}, {sent.shape}")
    half, most = (float(level) for level in np.quantile(sent - due, (0.5, 0.99)))
    asked, took = float(np.ptp(due)), float(np.ptp(sent))
    share = asked / took if asked > 0 and took > 0 else math.nan
    wrong = []
    if most > allowed_s:
        wrong.append(
            f"one in a hundred was sent {most * 1000:.3g} ms late or more, allowed are {allowed_s * 1000:.3g} ms"
        )
    if share < 1 - ALLOWED_SLOW:
        wrong.append(f"they were sent at {share:.0%} of the rate asked for")
    why = "the client did not honour the load: " + "; ".join(wrong) if wrong else "the client sent on time"
    return Punctuality(not wrong, half, most, share, allowed_s, why)


def _plain(verdict: Any) -> dict[str, Any]:
    plain = asdict(verdict)
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}
