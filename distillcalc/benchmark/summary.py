"""What a run's traces say: latencies with intervals, throughput, goodput, outcomes, and whether to believe them.

A request that failed is never dropped. One that was given up waiting has a latency of at least what it waited; one that
failed otherwise was never answered, and stands above every number. Percentiles that rest on such say so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.benchmark.statistics import CONFIDENCE, LEVELS, Estimate, mean_interval, quantiles
from distillcalc.benchmark.steadiness import (
    ALLOWED_LATE_S,
    SETTLED,
    Punctuality,
    Saturation,
    WarmUp,
    punctuality,
    saturation,
    warm_up,
)
from distillcalc.benchmark.traces import TIMEOUT, Traces
from distillcalc.errors import InputError
from distillcalc.workload.workload import Slo

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SHORT = 2.0  # a run below so many times its median latency has no rate of its own
ALLOWED_LATE_SHARE = 0.05  # of the median TTFT, where that is more than the client is allowed anyway
SHIFTED_SHARE = 0.05

MET, MISSED, UNDECIDED = "met", "missed", "undecided"
Verdict = Literal["met", "missed", "undecided"]


@dataclass(frozen=True)
class Latency:
    """One kind of time over the counted requests [s].

    Parameters
    ----------
    count : values of it.
    mean, p50, p95, p99 : each with its interval.
    """

    count: int
    mean: Estimate
    p50: Estimate
    p95: Estimate
    p99: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {name: getattr(self, name).to_dict() for name in ("mean", "p50", "p95", "p99")}
        return {"count": self.count, **found}


@dataclass(frozen=True)
class Objective:
    """Whether one objective of the SLO was met.

    Parameters
    ----------
    what : "ttft", "tpot" or "e2e".
    level : share of requests that must be within the limit.
    limit_s : the limit [s].
    within : share that was.
    quantile : latency at that level [s], with its interval. Here a request that failed, however, is above any limit,
        and an answer that came at once keeps any TPOT.
    verdict : "met" where the whole interval is within the limit, "missed" where all of it is beyond, else "undecided".
    """

    what: str
    level: float
    limit_s: float
    within: float
    quantile: Estimate
    verdict: Verdict

    def __str__(self) -> str:
        ends = " to ".join(
            f"{end:.4g}" if math.isfinite(end) else "?" for end in (self.quantile.low, self.quantile.high)
        )
        name = f"{self.what.upper()} p{self.level * 100:g}"
        return f"{name} {self.quantile.value:.4g} s ({ends}) against {self.limit_s:g} s: {self.verdict}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**{k: v for k, v in vars(self).items() if k != "quantile"}, "quantile": self.quantile.to_dict()}


@dataclass(frozen=True)
class Summary:
    """What one run under one load came to.

    Parameters
    ----------
    requests : how many are counted, those due within ``window_s``.
    window_s : from when to when counted requests were due [s].
    outcomes : how many of the counted came to what: "ok", "timeout", "http 503", ...
    ttft : first token - due, of every counted request.
    tpot : (last - first token) / (tokens - 1), of the answers of two tokens or more that did not come all at once.
    itl : times between chunks; a stream that stalled until it was given up has a last one of at least so long.
    e2e : last token - due, of every counted request.
    requests_per_s : answered in full.
    output_tokens_per_s, total_tokens_per_s : of requests answered in full; total is input and output.
    goodput_per_s : requests answered within the limit of every objective [1/s]; None without an SLO.
    rate_window_s : from when to when answers were counted for the four rates [s].
    saturation, steady, client : verdicts on the run.
    slo : that it was judged by.
    objectives : whether each was met.
    notes : what else a reader must know, in words.
    """

    requests: int
    window_s: tuple[float, float]
    outcomes: Mapping[str, int]
    ttft: Latency
    tpot: Latency
    itl: Latency
    e2e: Latency
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    goodput_per_s: float | None
    rate_window_s: tuple[float, float]
    saturation: Saturation
    steady: WarmUp
    client: Punctuality
    slo: Slo | None
    objectives: tuple[Objective, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> int:
        """Counted requests that were not answered in full."""
        return self.requests - self.outcomes.get("ok", 0)

    @property
    def verdict(self) -> Verdict | None:
        """Whether the SLO was met: missed where one objective is, met where all are; None without any objective."""
        if not self.objectives:
            return None
        verdicts = {objective.verdict for objective in self.objectives}
        if MISSED in verdicts:
            return "missed"
        return "undecided" if UNDECIDED in verdicts else "met"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not finite."""
        plain: dict[str, Any] = {"requests": self.requests, "window_s": list(self.window_s)}
        plain["outcomes"] = dict(self.outcomes)
        for name in ("ttft", "tpot", "itl", "e2e"):
            plain[name] = getattr(self, name).to_dict()
        for name in ("requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "goodput_per_s"):
            value = getattr(self, name)
            plain[name] = value if value is not None and math.isfinite(value) else None
        plain["rate_window_s"] = list(self.rate_window_s)
        for name in ("saturation", "steady", "client"):
            plain[name] = getattr(self, name).to_dict()
        plain["slo"] = self.slo.model_dump() if self.slo is not None else None
        plain["verdict"] = self.verdict
        plain["objectives"] = [objective.to_dict() for objective in self.objectives]
        return {**plain, "notes": list(self.notes)}


def summarise(
    traces: Traces,
    slo: Slo | None = None,
    window: tuple[float, float] | Literal["steady"] | None = None,
    *,
    confidence: float = CONFIDENCE,
    lockstep: bool = False,
) -> Summary:
    """Latencies, throughput, goodput and verdicts of one run.

    Parameters
    ----------
    traces : of every request, in any order.
    slo : latency objectives to judge by.
    window : the requests due in it are counted [s]; "steady": those after the warm-up that MSER-5 finds in the E2E
        latencies (all, where it finds no steady state); None: all.
    confidence : of each interval by itself.
    lockstep : the requests were served in batches that start and end together, as a closed loop in this process is.

    Returns
    -------
    :class:`Summary`.

    Raises
    ------
    InputError
        For traces of no request, or a window in which none was due.

    Notes
    -----
    Latencies count from the moment a request was due, so that a late client makes them longer, never shorter. Their
    intervals heed that they depend on each other (:func:`.statistics.quantiles`).

    Rates are answers in a window of the same length as that in which requests were due, later by the median E2E
    latency / its length. Counted in the window itself, a run that starts with nothing under way would lose the answers
    of a whole latency; so moved, it loses only the mean distance of latencies from their median, than which no other
    shift has less. Where the run lasts less than two such latencies, or all was due at once, it is the counted
    requests' answers / the time from the first due to the last end. So it is in lockstep, where whole batches end at
    the edges of any other window, and chance would say how many of them count.

    Goodput is requests per second that are answered within the limits of all objectives at once (Zhong et al.,
    DistServe, arXiv 2401.09670, for what it is), whatever their percentiles; an answer whose tokens came all at once
    keeps any TPOT, as in :meth:`distillcalc.estimate.simulation.Simulation.goodput_per_s`.
    """
    if not len(traces):
        raise InputError("traces of no request have nothing to summarise")
    traces = _in_order(traces)
    steady = warm_up(np.where(np.isfinite(traces.e2e_s), traces.e2e_s, 0.0))
    asked = _window(traces, window, steady)
    counted = (traces.due_s >= asked[0]) & (traces.due_s <= asked[1])
    if not counted.any():
        raise InputError(f"no request was due between {asked[0]:g} and {asked[1]:g} s")
    ok = traces.ok
    timed_out = np.array([one == TIMEOUT for one in traces.outcome], dtype=bool)

    first = np.where(np.isnan(traces.ttft_s) & ok, traces.e2e_s, traces.ttft_s)  # an empty answer's only moment
    ttft_bound = timed_out & np.isnan(first)
    ttft = np.where(np.isnan(first), np.where(timed_out, traces.e2e_s, np.inf), first)
    e2e = np.where(ok | timed_out, traces.e2e_s, np.inf)
    tpot = np.where(traces.last_s > traces.first_s, traces.tpot_s, np.nan)
    told = counted & ok & np.isfinite(tpot)
    itl, itl_bound = _gaps(traces, counted, timed_out)

    good = ok.copy()
    objectives = []
    values = {"ttft": ttft, "tpot": np.where(np.isfinite(tpot), tpot, 0.0), "e2e": e2e}
    for what, level, limit in slo.objectives() if slo is not None else ():
        judged = np.where(ok, values[what], np.inf)
        good &= judged <= limit
        objectives.append(_objective(what, level, limit, judged[counted], confidence))

    rates = _rates(traces, counted, asked, good, lockstep)
    usual = float(np.median(ttft[counted]))
    client = punctuality(
        traces.due_s[counted],
        traces.sent_s[counted],
        allowed_s=max(ALLOWED_LATE_S, ALLOWED_LATE_SHARE * usual if math.isfinite(usual) else 0.0),
    )
    settled = traces.due_s[0] + SETTLED * (traces.due_s[-1] - traces.due_s[0])
    piling = saturation(traces.due_s, traces.last_s, ok, from_s=max(asked[0], float(settled)))
    return Summary(
        requests=int(counted.sum()),
        window_s=asked,
        outcomes=dict(Counter(traces.outcome[i] for i in np.flatnonzero(counted)).most_common()),
        ttft=_latency(ttft[counted], ttft_bound[counted], confidence),
        tpot=_latency(tpot[told], None, confidence),
        itl=_latency(itl, itl_bound, confidence),
        e2e=_latency(e2e[counted], timed_out[counted], confidence),
        requests_per_s=rates.requests,
        output_tokens_per_s=rates.output_tokens,
        total_tokens_per_s=rates.input_tokens + rates.output_tokens,
        goodput_per_s=rates.good if slo is not None else None,
        rate_window_s=rates.window_s,
        saturation=piling,
        steady=steady,
        client=client,
        slo=slo,
        objectives=tuple(objectives),
        notes=_notes(traces, counted, rates, piling, steady, client),
    )


def _in_order(traces: Traces) -> Traces:
    order = np.lexsort((traces.last_s, traces.sent_s, traces.due_s))
    return traces if (order == np.arange(len(traces))).all() else traces.take(order)


def _window(traces: Traces, window: Any, steady: WarmUp) -> tuple[float, float]:
    first, last = float(traces.due_s[0]), float(traces.due_s[-1])
    if window is None:
        return first, last
    if window == "steady":
        return float(traces.due_s[steady.cut]), last
    low, high = window
    if not low <= high:
        raise InputError(f"a window is (from, to) in seconds, 'steady' or None. Got {window!r}")
    return float(max(low, first)), float(min(high, last))


def _latency(values: Floats, at_least: Bools | None, confidence: float) -> Latency:
    p50, p95, p99 = quantiles(values, LEVELS, confidence, in_order=True, at_least=at_least, least=0.0).values()
    mean = mean_interval(values, confidence, in_order=True, at_least=at_least)
    return Latency(len(values), mean, p50, p95, p99)


def _objective(what: str, level: float, limit: float, values: Floats, confidence: float) -> Objective:
    found = quantiles(values, (level,), confidence, in_order=True, least=0.0)[level]
    verdict: Verdict = "met" if found.high <= limit else "missed" if found.low > limit else "undecided"
    return Objective(what, level, limit, float((values <= limit).mean()), found, verdict)


def _gaps(traces: Traces, counted: Bools, timed_out: Bools) -> tuple[Floats, Bools]:
    """Times between chunks of counted requests, in the order in which they ended, and which are only known at least."""
    owner = np.repeat(np.arange(len(traces)), np.diff(traces.offsets))
    inner = (owner[1:] == owner[:-1]) & counted[owner[1:]]
    stalled = np.flatnonzero(counted & timed_out & (np.diff(traces.offsets) > 0))
    last_chunk = traces.chunk_s[traces.offsets[stalled + 1] - 1]
    gaps = np.concatenate([np.diff(traces.chunk_s)[inner], traces.last_s[stalled] - last_chunk])
    ends = np.concatenate([traces.chunk_s[1:][inner], traces.last_s[stalled]])
    order = np.lexsort((gaps, ends))
    return gaps[order], (np.arange(len(gaps)) >= inner.sum())[order]


@dataclass(frozen=True)
class _Rates:
    """Answers, their tokens, and good answers per second of a window; ``lost`` is the share that it may miss."""

    requests: float
    input_tokens: float
    output_tokens: float
    good: float
    window_s: tuple[float, float]
    lost: float


def _rates(traces: Traces, counted: Bools, asked: tuple[float, float], good: Bools, lockstep: bool) -> _Rates:
    ok, width = traces.ok, asked[1] - asked[0]
    latencies = traces.e2e_s[ok & counted]
    usual = float(np.median(latencies)) if latencies.size else 0.0
    short = not latencies.size or width < SHORT * usual or width <= 0
    if short or lockstep:
        window = asked[0], float(traces.last_s[counted].max())
        rows, lost = ok & counted, 0.0 if lockstep else 1.0
    else:
        window = asked[0] + usual, asked[1] + usual
        rows = ok & (traces.last_s > window[0]) & (traces.last_s <= window[1])
        lost = float(np.abs(latencies - usual).mean()) / width
    span = window[1] - window[0]

    def per_s(amount: Any) -> float:
        return float(amount) / span if span > 0 else math.nan

    return _Rates(
        per_s(rows.sum()),
        per_s(traces.input_tokens[rows].sum()),
        per_s(traces.output_tokens[rows].sum()),
        per_s((rows & good).sum()),
        window,
        lost,
    )


def _notes(
    traces: Traces, counted: Bools, rates: _Rates, piling: Saturation, steady: WarmUp, client: Punctuality
) -> tuple[str, ...]:
    ok = traces.ok & counted
    notes = []
    if not ok.any():
        notes.append("no request was answered")
    elif rates.lost == 1:
        notes.append("the run lasts less than two of its latencies: rates are answers until the last one came")
    elif rates.lost > SHIFTED_SHARE:
        notes.append(f"the run is short against its latencies: rates may be {rates.lost:.0%} too low")
    failed = int((counted & ~ok).sum())
    if failed:
        notes.append(
            f"{failed:,} of {int(counted.sum()):,} requests failed: those given up count as no faster than their wait, "
            "the others as never answered"
        )
    at_once = int((ok & (traces.output_tokens > 1) & ~(traces.last_s > traces.first_s)).sum())
    if at_once:
        notes.append(f"{at_once:,} answers of several tokens came all at once: they have no TPOT")
    uncounted = int((ok & (traces.input_tokens == 0)).sum())
    if uncounted:
        notes.append(f"the target did not count the input of {uncounted:,} answers: total tokens/s are without it")
    notes += [steady.why] if steady.found is False else []
    notes += [piling.why] if piling.saturated else []
    notes += [] if client.honoured else [client.why]
    return tuple(notes)
