"""How much a model in this process writes as more requests are in flight, until more of them bring nothing.

A closed loop at 1, 4, 16, ... requests in flight, each level a benchmark of its own, so that a few seconds do for each;
what comes out is one record with all of them. Rates that an endpoint keeps up with are :mod:`.highest_load`'s subject.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distillcalc.benchmark.run import Benchmark, Report, benchmark
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.benchmark.in_process import InProcess
    from distillcalc.workload.workload import Workload

FACTOR = 4  # from one level to the next
ROUNDS = 3  # times that a loop is filled
FEWEST = 6  # requests a level
GAIN = 0.1  # of output tokens a second, below which more in flight bring nothing
NEXT_TAKES = (
    4.0  # times as long as the level before it, once computing takes longest: it has so many times the requests
)


def to_saturation(
    target: InProcess,
    workload: Workload,
    *,
    most: int = 256,
    rounds: int = ROUNDS,
    fewest: int = FEWEST,
    gain: float = GAIN,
    seconds: float = math.inf,
    seed: int = 0,
    report: Report | None = None,
    **given: Any,
) -> Benchmark:
    """Measure a model at ever more requests in flight, until its throughput stops growing.

    Parameters
    ----------
    target : model in this process.
    workload : whose lengths the requests have; equal ones, so that levels differ in nothing else.
    most : requests in flight, at most; the target's ``max_batch`` bounds it too.
    rounds, fewest : requests of a level are rounds x requests in flight, and no fewer than ``fewest``.
    gain : a level that writes less than (1 + gain) times as many tokens a second as the one before it is the last.
    seconds : no level is begun that would likely end later than this from now [s]; the first one always is.
    seed : of the prompts of the first level.
    given : to :func:`.run.benchmark`: name, model, weights, usd_per_hour, timeout_s.

    Returns
    -------
    One :class:`.run.Benchmark` of all levels; its last note says why there are no more.

    Raises
    ------
    InputError
        For most, rounds or fewest below 1, or a model that answers nothing.
    """
    if min(most, rounds, fewest) < 1:
        raise InputError(f"most, rounds and fewest must be 1 or more. Got {most}, {rounds}, {fewest}")
    ends = time.monotonic() + seconds
    parts: list[Benchmark] = []
    level, most = 1, min(most, target.max_batch)
    while True:
        began = time.monotonic()
        made = benchmark(
            target, workload, concurrency=[level], requests=max(rounds * level, fewest), seed=seed + len(parts),
            report=report, **given,
        )  # fmt: skip
        parts.append(made)
        now = time.monotonic()
        why = _last(parts, most, gain) or _late(level, now - began, ends - now)
        if why:
            return _together(parts, why, {"rounds": rounds, "fewest": fewest, "most": most, "gain": gain})
        level = min(level * FACTOR, most)


def _last(parts: Sequence[Benchmark], most: int, gain: float) -> str:
    """Why the level that was measured is the last; empty where it is not."""
    here = parts[-1].record.levels[0]
    level, outcomes = here.load["concurrency"], here.summary["outcomes"]
    if set(outcomes) - {"ok"}:
        return f"{level} in flight are more than it serves: {', '.join(sorted(set(outcomes) - {'ok'}))}"
    if len(parts) > 1:
        before, rate = (part.summaries[0].output_tokens_per_s for part in parts[-2:])
        if rate < (1 + gain) * before:
            earlier = parts[-2].record.levels[0].load["concurrency"]
            return f"saturated: {level} in flight write {rate / before:.2f} times as many tokens a second as {earlier}"
    return f"not saturated with {level} in flight, and no more were asked for" if level >= most else ""


def _late(level: int, took: float, left: float) -> str:
    if NEXT_TAKES * took <= left:
        return ""
    return f"not saturated with {level} in flight, and {left:.0f} s were left: the next level takes more"


def _together(parts: Sequence[Benchmark], why: str, asked: dict[str, Any]) -> Benchmark:
    """One benchmark of several, a level each."""
    samples = {
        f"{place}.{name.split('.', 1)[1]}": array
        for place, part in enumerate(parts)
        for name, array in part.samples.items()
    }
    first, last = parts[0].record, parts[-1].record
    notes = dict.fromkeys(note for part in parts for note in part.record.notes)
    record = last.model_copy(
        update={
            "levels": tuple(part.record.levels[0] for part in parts),
            "settings": {**first.settings, "requests": None, **asked},
            "notes": (*notes, why),
        }
    )
    return Benchmark(record, samples, tuple(part.summaries[0] for part in parts))
