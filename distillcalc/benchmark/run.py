"""One benchmark from end to end: a target under a workload's requests at several loads, as a record.

What is sent is :mod:`.loads`' subject, what is seen :mod:`.traces`', what is computed of it :mod:`.summary`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.benchmark.classifying import ENCODER, InProcessClassifier
from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.benchmark.highest_load import HighestLoad, highest_load
from distillcalc.benchmark.in_process import InProcess
from distillcalc.benchmark.load import ClosedLoop, Load, OpenLoop, Target
from distillcalc.benchmark.loads import Tokenizer, closed_loops, make_prompts, open_loop
from distillcalc.benchmark.machine import describe_machine
from distillcalc.benchmark.overhead import client_overhead
from distillcalc.benchmark.power import PowerMeter
from distillcalc.benchmark.record import Level, Measured, Record, now, plain
from distillcalc.benchmark.statistics import CONFIDENCE
from distillcalc.benchmark.summary import Summary, summarise
from distillcalc.benchmark.traces import Traces
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.estimate.simulation import Requests
    from distillcalc.workload.workload import Slo, Workload

CONCURRENCY = (1, 2, 4, 8)
ROUNDS = 8  # times that a closed loop is filled
FEWEST = 16  # requests a level
WARM_UP_SEED = 1_000_000
INSIDE = (InProcess, InProcessClassifier)  # targets in this process: they tell their steps and their shape
TRACE_ARRAYS = (
    "due_s", "sent_s", "first_s", "last_s", "input_tokens", "output_tokens", "chunk_s", "chunk_tokens", "offsets",
)  # fmt: skip
Report = Callable[[str], None]


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark measured.

    Parameters
    ----------
    record : all but the raw samples.
    samples : by level and name, such as "0.due_s" of the first level.
    summaries : of the levels, in their order.
    """

    record: Record
    samples: Mapping[str, NDArray[Any]] = field(repr=False)
    summaries: tuple[Summary, ...] = field(repr=False)

    def save(self, folder: str | Path) -> Path:
        """Write the record, and its raw samples beside it; returns the record's file."""
        return self.record.save(folder, self.samples)

    def __rich__(self) -> Any:
        """The levels as a table, and notes below it."""
        from distillcalc.benchmark.told import table_of

        return table_of(self.record)

    def __str__(self) -> str:
        from distillcalc.benchmark.told import lines_of

        return "\n".join(lines_of(self.record))


def benchmark(
    target: Target,
    workload: Workload,
    *,
    concurrency: Sequence[int] = CONCURRENCY,
    rates_per_s: Sequence[float] = (),
    requests: int | None = None,
    trace: Requests | None = None,
    slo: Slo | None = None,
    search: bool = False,
    tokenizer: Tokenizer | None = None,
    longest: int | None = None,
    name: str = "",
    model: str = "",
    engine: str = "",
    weights: Literal["trained", "random", "unknown"] = "unknown",
    usd_per_hour: float | None = None,
    timeout_s: float = 120.0,
    seed: int = 0,
    overhead: bool = True,
    report: Report | None = None,
) -> Benchmark:
    """Measure a target under a workload's requests.

    Parameters
    ----------
    target : a model or a classifier in process, or an endpoint.
    workload : whose token lengths the prompts have, and whose burstiness the arrivals.
    concurrency : requests in flight of the closed loops, one level each.
    rates_per_s : of the open loops, one level each [1/s].
    requests : sent at each level; left out, eight times the concurrency, and 16 at least.
    trace : lengths, and of open loops the arrivals, of these requests instead.
    slo : judged by; left out, the workload's.
    search : look for the highest rate that meets the SLO too, with at least so many requests at each that one which
        meets it can be told to (72 for a p95, 368 for a p99).
    tokenizer : of the target, so that prompts have the wanted lengths; left out, an in-process target's own, else words
        are counted.
    longest : most tokens of a request; left out, an in-process target's context window.
    name : of the record; left out, of the target and the device.
    model : catalog id of its shape; engine : as the catalog names it; weights : "trained" or "random".
        Of a classifier in process it is "trained" if nobody says otherwise.
    usd_per_hour : of the machine, for dollars per million tokens.
    timeout_s : a request that brings nothing for so long is given up [s].
    seed : of prompts and arrivals.
    overhead : measure the client against a server that does nothing; of endpoints only.
    report : told in words how far it is.

    Returns
    -------
    :class:`Benchmark`.

    Raises
    ------
    InputError
        For no level, or a search without objectives.
    """
    if not concurrency and not rates_per_s:
        raise InputError("name a load at least: requests in flight (concurrency), or a rate (rates_per_s)")
    judged = slo if slo is not None else workload.slo
    if search and not judged.objectives():
        raise InputError("the highest load is one that meets objectives, and the workload's [workload.slo] has none")
    runner = _Runner(target, workload, judged, tokenizer, longest, trace, usd_per_hour, timeout_s, seed, requests)
    tell = report or (lambda said: None)
    loads: list[tuple[dict[str, Any], Load]] = [
        *(({"kind": "closed", "concurrency": int(n)}, ClosedLoop(n)) for n in concurrency),
        *((runner.open_words(rate), runner.open(rate)) for rate in rates_per_s),
    ]
    runner.warm(tell)
    for words, load in loads:
        tell(f"{target.name}: {_said(words)}")
        runner.level(words, load)
    found: HighestLoad | None = None
    if search:
        tell(f"{target.name}: the highest rate that meets the objectives")
        fewest = max(fewest_for(level) for _, level, _ in judged.objectives())
        found = highest_load(runner.search, judged, runner.first_rate(), requests=max(requests or 0, fewest), seed=seed)
    client = None
    if overhead and isinstance(target, Endpoint):
        tell("the client's own overhead")
        client = vars(client_overhead(concurrency=max(concurrency, default=32)))
    record = Record(
        name=name or _name(target, runner),
        created=now(),
        measured=Measured(
            name=target.name, kind="endpoint" if isinstance(target, Endpoint) else "in-process", model=model,
            weights=getattr(target, "weights", weights) if weights == "unknown" else weights,
            engine=engine or runner.facts.get("engine", ""), precision=runner.facts.get("precision", ""),
            details=runner.facts,
        ),
        machine=describe_machine(),
        workload=runner.asked,
        settings={
            "seed": seed, "timeout_s": timeout_s, "requests": requests, "slo": judged.model_dump(mode="json"),
            "usd_per_hour": usd_per_hour,
        },
        levels=tuple(runner.levels),
        highest_load=plain(found.to_dict()) if found is not None else None,
        client=client,
        notes=tuple(runner.notes),
    )  # fmt: skip
    return Benchmark(record, runner.samples, tuple(runner.summaries))


class _Runner:
    """One target and workload, level by level."""

    def __init__(
        self, target: Target, workload: Workload, slo: Slo, tokenizer: Tokenizer | None, longest: int | None,
        trace: Requests | None, usd_per_hour: float | None, timeout_s: float, seed: int, requests: int | None,
    ) -> None:  # fmt: skip
        self.target, self.workload, self.slo, self.trace = target, workload, slo, trace
        self.usd_per_hour, self.timeout_s, self.requests = usd_per_hour, timeout_s, requests
        self.seed = seed
        inside = target if isinstance(target, INSIDE) else None
        self.facts: dict[str, Any] = _facts(inside) if inside else {}
        self.tokenizer: Tokenizer | None = tokenizer or inside
        self.longest = longest or ((inside.context_window() or None) if inside else None)
        self.levels: list[Level] = []
        self.summaries: list[Summary] = []
        self.samples: dict[str, NDArray[Any]] = {}
        self.notes: list[str] = []
        self.asked: dict[str, Any] = {"name": workload.name}

    def open(self, rate: float) -> OpenLoop:
        """Arrivals at a rate."""
        return open_loop(self.workload, rate, self._count(rate), self.seed, trace=self.trace)

    def open_words(self, rate: float) -> dict[str, Any]:
        """An open loop in plain values."""
        cv = None if self.trace is not None else self.workload.interarrival_cv
        return {"kind": "open", "rate_per_s": float(rate), "interarrival_cv": cv, "replayed": self.trace is not None}

    def warm(self, tell: Report) -> None:
        """A few requests that are not counted: connections, caches and clocks come up."""
        tell(f"{self.target.name}: warming up")
        traces = self._sent(2, ClosedLoop(1), self.seed + WARM_UP_SEED)  # prompts that nothing counted has
        if not traces.ok.any():
            raise InputError(
                f"{self.target.name} answers nothing: {traces.outcome[0]}. Nothing can be measured until it does"
            )

    def level(self, words: dict[str, Any], load: Load) -> Summary:
        """Run one load, and keep what was seen."""
        count = len(load.due_s) if isinstance(load, OpenLoop) else self._count(load.concurrency)
        with PowerMeter() as meter:
            traces = self._sent(count, load)
        lockstep = isinstance(self.target, INSIDE) and isinstance(load, ClosedLoop)
        summary = summarise(traces, self.slo if self.slo.objectives() else None, lockstep=lockstep)
        run = self.target.last if isinstance(self.target, INSIDE) else None
        place = len(self.levels)
        self.samples |= {f"{place}.{name}": getattr(traces, name) for name in TRACE_ARRAYS}
        if run is not None:
            self.samples |= {f"{place}.step.{name}": array for name, array in run.steps.arrays().items()}
            if run.out_of_memory:
                self.notes.append(f"{_said(words)}: {run.out_of_memory}")
        self.levels.append(
            Level(
                load=words,
                summary=plain(summary.to_dict()),
                peak_memory_bytes=run.memory.peak_bytes if run is not None else None,
                power=plain(meter.energy.to_dict()) if meter.energy is not None else None,
                usd_per_mtok=self._prices(summary),
                steps=plain(run.steps.summary()) if run is not None else None,
            )
        )
        self.summaries.append(summary)
        notes = getattr(self.target, "notes", ())
        self.notes += [note for note in notes if note not in self.notes]
        return summary

    def search(self, level: float, requests: int, seed: int) -> Summary:
        """One measurement of the search for the highest rate."""
        loop = open_loop(self.workload, level, requests, seed, trace=self.trace)
        return summarise(self._sent(requests, loop, seed), self.slo, "steady")  # not the start, which is empty

    def first_rate(self) -> float:
        """Where the search starts: a quarter of the highest throughput seen."""
        return max(max(one.requests_per_s for one in self.summaries) / 4, 1e-3)

    def _count(self, level: float) -> int:
        return self.requests or max(FEWEST, ROUNDS * math.ceil(level))

    def _sent(self, count: int, load: Load, seed: int | None = None) -> Traces:
        own = self.seed + 1 + len(self.levels) if seed is None else seed + 1000
        prompts = make_prompts(
            self.workload, count, self.tokenizer, own, longest=self.longest, trace=self.trace
        )  # fmt: skip
        self.asked |= {
            "counted_by": prompts.counted_by, "mean_input_tokens": float(np.mean([p.input_tokens for p in prompts])),
            "mean_output_tokens": float(np.mean([p.output_tokens for p in prompts])), "cut": prompts.cut,
        }  # fmt: skip
        return self.target.run(list(prompts), load, timeout_s=self.timeout_s)

    def _prices(self, summary: Summary) -> dict[str, float]:
        if self.usd_per_hour is None or not summary.output_tokens_per_s > 0:
            return {}
        each_s = self.usd_per_hour / 3600
        rates = {"output": summary.output_tokens_per_s, "total": summary.total_tokens_per_s}
        return {name: each_s / rate * 1e6 for name, rate in rates.items() if rate > 0}


def fewest_for(level: float, confidence: float = CONFIDENCE) -> int:
    """Requests of which the largest is above a quantile with half of what the confidence leaves.

    level^n <= (1 - confidence) / 2: with fewer, no order statistic bounds the quantile from above.
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log(level))


def _facts(target: InProcess | InProcessClassifier) -> dict[str, Any]:
    """What the engine says of itself, and the model's shape as a row of the catalog, so that it can be estimated."""
    from distillcalc.distill.training.shapes import catalog_row

    row = catalog_row(target.model, name=target.name, source="the model that was measured", checked=now()[:10])
    said = target.describe()
    if said.get("kind") == ENCODER:
        row["shape"]["tied_embeddings"] = True  # there is one table of embeddings, and no output layer beside it
    return {**said, "catalog_row": row}


def _said(words: Mapping[str, Any]) -> str:
    return Level(load=dict(words), summary={}).name


def _name(target: Target, runner: _Runner) -> str:
    device = runner.facts.get("device", "endpoint")
    return re.sub(r"[^a-z0-9._-]+", "-", f"{target.name}-{device}".lower()).strip("-._") or "benchmark"


__all__ = ["Benchmark", "benchmark", "closed_loops"]
