"""The highest load that meets the SLO: bisection over measurements that are noisy.

A level passes when the whole interval of every objective's percentile is within its limit, and fails when one's is
beyond. What lies in between is measured again with more requests, and where that does not settle it, said to be
undecided rather than decided by a coin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

from distillcalc.benchmark.summary import Summary, Verdict
from distillcalc.errors import InputError
from distillcalc.workload.workload import Slo

REQUESTS = 400
GROWTH = 2
MOST_MEASUREMENTS = 30


class Measure(Protocol):
    """Runs one load."""

    def __call__(self, level: float, requests: int, seed: int, /) -> Summary:
        """Send so many requests at a level and summarise them under the SLO that is searched for.

        Parameters
        ----------
        level : requests per second of an open loop, or requests in flight of a closed one.
        requests : how many to send.
        seed : another one at every call, for prompts that no cache has seen and arrivals of their own.
        """


@dataclass(frozen=True)
class Measurement:
    """One level, measured once.

    Parameters
    ----------
    level : what was asked for.
    requests : that were sent.
    verdict : "met", "missed", "undecided", or "not sent": the client could not honour the load.
    why : in words.
    summary : all of it.
    """

    level: float
    requests: int
    verdict: Verdict | str
    why: str
    summary: Summary = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "summary": self.summary.to_dict()}


@dataclass(frozen=True)
class HighestLoad:
    """Between which loads the SLO ceases to be met.

    Parameters
    ----------
    met : highest level that met it; None: not even the lowest did.
    missed : lowest level that did not; None: none was found.
    undecided : lowest and highest level between them that could not be told from the limit; None: there is none.
    measured : every measurement, in its order.
    stopped : why it ended, in words.
    """

    met: float | None
    missed: float | None
    undecided: tuple[float, float] | None
    measured: tuple[Measurement, ...]
    stopped: str

    def __str__(self) -> str:
        low = "no level" if self.met is None else f"{self.met:.4g}"
        high = "no level" if self.missed is None else f"{self.missed:.4g}"
        return f"{low} met the SLO, {high} missed it, after {len(self.measured)} measurements: {self.stopped}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {**vars(self), "measured": [one.to_dict() for one in self.measured]}
        return {**plain, "undecided": list(self.undecided) if self.undecided else None}


def highest_load(
    measure: Measure,
    slo: Slo,
    low: float,
    high: float | None = None,
    *,
    whole: bool = False,
    tolerance: float = 0.05,
    requests: int = REQUESTS,
    most_requests: int | None = None,
    most_measurements: int = MOST_MEASUREMENTS,
    seed: int = 0,
) -> HighestLoad:
    """Between which loads the SLO ceases to be met.

    Parameters
    ----------
    measure : runs one level, see :class:`Measure`.
    slo : what must be met, one objective at least; ``measure`` summarises under the same.
    low : a level to start from [requests/s, or requests in flight], above 0.
    high : where to end; None: from ``low`` on each level is twice the one before until one misses it.
    whole : levels are whole numbers, of requests in flight.
    tolerance : the search ends when missed / met - 1 is no more, or for whole levels when there is none between them.
    requests : sent at a level at first. For p99 no fewer than 368 can ever pass (:mod:`.statistics`).
    most_requests : sent at a level at the most, each time twice as many, while it is undecided; None: 8 x ``requests``.
    most_measurements : after so many the search ends wherever it is.
    seed : of the first measurement; each later one has the next.

    Returns
    -------
    :class:`HighestLoad`.

    Raises
    ------
    InputError
        For an SLO without objectives, levels or numbers out of range, or a summary that was judged by another SLO.

    Notes
    -----
    Levels are halved by their ratio: the next is the geometric mean of its neighbours. A level at which requests pile
    up (:func:`.steadiness.saturation`) misses, whatever the latencies of so short a run. One at which the client could
    not honour the load says nothing of the target: it bounds the search from above and is not called missed.

    A level is called met or missed wrongly in (1 - confidence) / 2 of measurements, 2.5%, for one objective, and more
    often in runs that are short against the time for which a queue lasts (:func:`.statistics.quantiles` has figures);
    nothing corrects for how many measurements are made. Most levels are so far from the limit that none is in doubt.
    """
    most = 8 * requests if most_requests is None else most_requests
    _check(slo, low, high, whole, tolerance, requests, most, most_measurements)
    search = _Search(measure, slo, requests, most, most_measurements, seed, whole, tolerance)
    stopped = search.ends(float(low), None if high is None else float(high)) or search.halve()
    inside = search.undecided
    return HighestLoad(
        search.met,
        search.missed,
        (inside[0], inside[-1]) if inside else None,
        tuple(search.measured),
        stopped,
    )


@dataclass
class _Search:
    """What is known so far."""

    measure: Measure
    slo: Slo
    requests: int
    most_requests: int
    most_measurements: int
    seed: int
    whole: bool
    tolerance: float
    met: float | None = None
    missed: float | None = None
    ceiling: float | None = None  # lowest level that was missed or could not be sent
    unsure: list[float] = field(default_factory=list)
    measured: list[Measurement] = field(default_factory=list)

    @property
    def spent(self) -> bool:
        return len(self.measured) >= self.most_measurements

    @property
    def no_more(self) -> str:
        return f"the {self.most_measurements} measurements that were allowed are made"

    @property
    def undecided(self) -> list[float]:
        """Undecided levels that no other verdict has overtaken, rising."""
        low, high = self.met or 0.0, math.inf if self.ceiling is None else self.ceiling
        return sorted(level for level in self.unsure if low < level < high)

    def settle(self, level: float) -> str:
        """Measure a level until it is decided, or no more may be sent."""
        requests = self.requests
        while True:
            found = self._once(level, requests)
            self.measured.append(found)
            if found.verdict != "undecided" or requests * GROWTH > self.most_requests or self.spent:
                break
            requests *= GROWTH
        if found.verdict == "met":
            self.met = level
        elif found.verdict == "undecided":
            self.unsure.append(level)
        else:
            self.ceiling = level
            self.missed = level if found.verdict == "missed" else self.missed
        return found.verdict

    def _once(self, level: float, requests: int) -> Measurement:
        summary = self.measure(level, requests, self.seed + len(self.measured))
        if summary.slo != self.slo:
            raise InputError(f"measure must summarise under the SLO of the search, {self.slo!r}. Got {summary.slo!r}")
        verdict, why = judged(summary)
        return Measurement(level, requests, verdict, why, summary)

    def ends(self, low: float, high: float | None) -> str:
        """Measure the lowest and the highest level; why there is nothing between them to look for, or nothing."""
        verdict = self.settle(low)
        if verdict == "missed":
            return "even the lowest level misses the SLO"
        if verdict == "not sent":
            return "the client could not send the lowest level"
        level = low
        while self.ceiling is None and (high is None or level < high) and not self.spent:
            level = level * 2 if high is None else high
            self.settle(level)
        if self.ceiling is None and high is not None and self.met == high:
            return "the highest level that was to be tried meets the SLO"
        return ""

    def halve(self) -> str:
        """Measure between what was met and what was not until they are near enough; why it ended."""
        while (gap := self._gap()) is not None:
            if self.spent:
                return self.no_more
            self.settle(self._between(*gap))
        if self.ceiling is None:
            return self.no_more
        inside = self.undecided
        if inside:
            many = f"{self.most_requests:,} requests do not tell"
            return f"{many} whether the levels from {inside[0]:.4g} to {inside[-1]:.4g} meet the SLO or miss it"
        if self.ceiling != self.missed:
            return f"the client could not send {self.ceiling:.4g}: the target may bear more than was measured"
        return "met and missed are as near as was asked for"

    def _gap(self) -> tuple[float, float] | None:
        """The wider of the gaps below and above what is undecided, if one is too wide."""
        inside = self.undecided
        below = (self.met, inside[0] if inside else self.ceiling)
        above = (inside[-1], self.ceiling) if inside else (None, None)
        gaps = [(a, b) for a, b in (below, above) if a is not None and b is not None and not self._near(a, b)]
        return max(gaps, key=lambda gap: gap[1] / gap[0], default=None)

    def _near(self, low: float, high: float) -> bool:
        return high / low - 1 <= self.tolerance or (self.whole and high - low <= 1)

    def _between(self, low: float, high: float) -> float:
        middle = math.sqrt(low * high)
        return float(min(max(round(middle), low + 1), high - 1)) if self.whole else middle


def judged(summary: Summary) -> tuple[Verdict | str, str]:
    """Whether a level met the SLO, "met", "missed", "undecided" or "not sent", and why."""
    if not summary.client.honoured:
        return "not sent", summary.client.why
    if summary.saturation.saturated:
        return "missed", summary.saturation.why
    verdict = summary.verdict or "undecided"
    telling = [str(objective) for objective in summary.objectives if objective.verdict == verdict]
    return verdict, "; ".join(telling)


def _check(
    slo: Slo,
    low: float,
    high: float | None,
    whole: bool,
    tolerance: float,
    requests: int,
    most: int,
    measurements: int,
) -> None:
    if not slo.objectives():
        raise InputError("slo has no objective to search by. Give one, for example Slo(ttft_p95_s=0.5)")
    for name, level in (("low", low), ("high", high)):
        if level is not None and not (math.isfinite(level) and level > 0 and (not whole or level == int(level))):
            kind = "a whole number above 0" if whole else "a number above 0"
            raise InputError(f"{name} must be {kind}. Got {level!r}")
    if high is not None and high <= low:
        raise InputError(f"high must be above low. Got {high:g} and {low:g}")
    if not tolerance > 0 or requests < 1 or most < requests or measurements < 1:
        raise InputError(
            "tolerance must be above 0, requests 1 or more, most_requests no fewer, most_measurements 1 or more. "
            f"Got {tolerance!r}, {requests}, {most}, {measurements}"
        )
