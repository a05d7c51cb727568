"""Estimate and measurement side by side, before and after the step times are fitted to the machine.

Of a model in process the estimate is :mod:`.static_estimate`'s: batches that start and end together. What the decision
becomes of it is :mod:`.redeciding`'s subject.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distillcalc.benchmark.classifying import ENCODER
from distillcalc.benchmark.decoding import ROUNDED_TO
from distillcalc.benchmark.memory import at_work
from distillcalc.benchmark.record import Level, Record, Samples
from distillcalc.benchmark.refit import MeasuredSteps, refit
from distillcalc.benchmark.static_estimate import estimate_static
from distillcalc.catalog import Catalog, EngineRow, GpuRow, ModelRow
from distillcalc.errors import InputError
from distillcalc.estimate.step_time import BITS, Placement, StepTime, Weights, kv_bytes_per_token

SCHEMA_VERSION = 1
UNITS = {"TTFT": "s", "TPOT": "s", "E2E": "s", "throughput": "tokens/s", "memory": "bytes"}


@dataclass(frozen=True)
class Check:
    """One figure, estimated and measured.

    Parameters
    ----------
    record, load : of which run and level.
    what : "TTFT", "TPOT", "E2E" (means over the requests) [s], "throughput" [output tokens/s], or "memory" [bytes] at
        the peak.
    estimate, measured : the two.
    factor : a measured value is expected between estimate / factor and estimate x factor, nine times in ten.
    """

    record: str
    load: str
    what: str
    estimate: float
    measured: float
    factor: float

    @property
    def error(self) -> float:
        """Estimate / measured - 1."""
        return self.estimate / self.measured - 1

    @property
    def inside(self) -> bool:
        """Whether the measured value is within the estimate's interval."""
        return self.estimate / self.factor <= self.measured <= self.estimate * self.factor

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "error": self.error, "inside": self.inside}


@dataclass(frozen=True)
class Validation:
    """How far an estimate is from what was measured.

    Parameters
    ----------
    machine : the row that describes it, by its id in the catalog.
    engine : id of the engine's row.
    before : with the rows as they were.
    after : with the engine's row fitted to ``fitted_on``; empty where nothing was fitted.
    fitted : the engine's new row; None where nothing was fitted.
    fitted_on : names of the records whose steps it was fitted to.
    notes : what a person should know.
    """

    machine: str
    engine: str
    before: tuple[Check, ...]
    after: tuple[Check, ...] = ()
    fitted: EngineRow | None = None
    fitted_on: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def worst(self, what: str, *, after: bool = False) -> float:
        """Largest relative error of a figure over all loads, without its sign; nan where it was not measured."""
        errors = [abs(one.error) for one in (self.after if after else self.before) if one.what == what]
        return max(errors, default=math.nan)

    def mean(self, what: str, *, after: bool = False) -> float:
        """Mean relative error of a figure over all loads, without signs; nan where it was not measured."""
        errors = [abs(one.error) for one in (self.after if after else self.before) if one.what == what]
        return float(np.mean(errors)) if errors else math.nan

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        """Rows for ``[overrides]`` of a scenario that say what was learnt; empty where nothing was fitted."""
        if self.fitted is None:
            return {}
        row = self.fitted.model_dump(mode="json")
        return {"engines": {self.engine: row}}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION, "machine": self.machine, "engine": self.engine,
            "before": [one.to_dict() for one in self.before], "after": [one.to_dict() for one in self.after],
            "fitted": self.fitted.model_dump(mode="json") if self.fitted is not None else None,
            "fitted_on": list(self.fitted_on), "notes": list(self.notes),
        }  # fmt: skip

    def __rich__(self) -> Any:
        """A row for each load and figure."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        head, *rows = self._rows()
        table = Table(title=self._title(), title_justify="left")
        for place, name in enumerate(head):
            table.add_column(name, justify="left" if place < 3 else "right")
        for row in rows:
            table.add_row(*row)
        return Group(table, *map(Text, self.sentences))

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._title(), *lines, *self.sentences])

    @property
    def sentences(self) -> list[str]:
        """The errors in words."""
        said = []
        for when, after in (("before the re-fit", False), ("after it", True)):
            if after and not self.after:
                continue
            parts = [
                f"{what} {self.mean(what, after=after):.0%} off on average, {self.worst(what, after=after):.0%} at the "
                "worst"
                for what in ("TPOT", "throughput", "TTFT", "memory")
                if not math.isnan(self.mean(what, after=after))
            ]
            said.append(f"{when}: {'; '.join(parts)}")
        if self.fitted is not None:
            said.append(f"{self.engine}: {self.fitted.source} ({', '.join(self.fitted_on)})")
        return [*said, *self.notes]

    def _title(self) -> str:
        return f"estimate against measurement: {self.engine} on {self.machine}"

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("record", "load", "figure", "measured", "estimate", "error", "inside its interval")
        more = ("after the re-fit", "error after") if self.after else ()
        rows: list[tuple[str, ...]] = [head + more]
        later = {(one.record, one.load, one.what): one for one in self.after}
        for one in self.before:
            row = (
                one.record, one.load, one.what, _told(one.what, one.measured), _told(one.what, one.estimate),
                f"{one.error:+.0%}", "yes" if one.inside else "no",
            )  # fmt: skip
            fitted = later.get((one.record, one.load, one.what))
            rows.append(row + ((_told(one.what, fitted.estimate), f"{fitted.error:+.0%}") if fitted else ()))
        return rows


def validate(
    records: Sequence[str | Path],
    *,
    machine: str,
    engine: str = "transformers",
    refit_on: Sequence[str | Path] = (),
    catalog: Catalog | None = None,
) -> Validation:
    """Hold the estimate against records of models in process.

    Parameters
    ----------
    records : their files.
    machine : id of the catalog's row of the machine that they were measured on.
    engine : id of the catalog's row of what served.
    refit_on : files of records whose steps the engine's row is fitted to: other runs than ``records``, or what is shown
        is how well it was fitted and not how well it predicts.
    catalog : with the machine's row; left out, the shipped one.

    Returns
    -------
    :class:`Validation`.

    Raises
    ------
    InputError
        For no records, one of an endpoint or without raw samples, or one that is in both lists.
    UnknownName
        For a machine, engine or model that the catalog does not know.
    """
    if not records:
        raise InputError("name a record at least")
    known = catalog or Catalog.load()
    gpu, row = known.gpu(machine), known.engine(engine)
    runs = [_Run.read(file, known, gpu) for file in records]
    before = tuple(check for run in runs for check in run.checks(row))
    if not refit_on:
        return Validation(machine, engine, before)
    fits = [_Run.read(file, known, gpu) for file in refit_on]
    twice = sorted({run.record.name for run in runs} & {run.record.name for run in fits})
    if twice:
        raise InputError(
            f"{', '.join(twice)}: a record that is fitted to cannot show how well the fit predicts. Measure again with "
            "another seed, or at other loads"
        )
    fitted = refit(row, [steps for run in fits for steps in run.steps()])
    return Validation(
        machine, engine, before, tuple(check for run in runs for check in run.checks(fitted)), fitted,
        tuple(run.record.name for run in fits),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Run:
    """A record with its samples, and the model on the machine."""

    record: Record
    samples: Mapping[str, Any]
    model: ModelRow
    precision: str
    placement: Placement

    @classmethod
    def read(cls, file: str | Path, catalog: Catalog, gpu: GpuRow) -> _Run:
        record = Record.load(file)
        measured = record.measured
        if measured.kind != "in-process":
            raise InputError(
                f"{record.name} is of an endpoint. What its engine does with requests is estimated by "
                "distillcalc accuracy and calibrate(), from a table of its runs"
            )
        model = _model(record, catalog)
        if measured.precision not in BITS:
            raise InputError(f"{record.name} was measured in {measured.precision!r}. Known: {', '.join(BITS)}")
        cache = "fp32" if measured.precision == "fp32" else "bf16"
        placement = without_head(Placement.of(model, gpu, measured.precision, 1, kv_precision=cache), model)
        if _encodes(record):
            placement = without_table(placement, model, measured.precision)
        return cls(record, Samples.of(file).arrays, model, measured.precision, placement)

    def steps(self) -> list[MeasuredSteps]:
        """Those of all levels."""
        found = []
        for place in range(len(self.record.levels)):
            prefix = f"{place}.step."
            arrays = {k.removeprefix(prefix): v for k, v in self.samples.items() if k.startswith(prefix)}
            found.append(MeasuredSteps.of(self.placement, arrays))
        return found

    def checks(self, engine: EngineRow) -> list[Check]:
        """All figures of the closed loops."""
        step = StepTime.of(self.placement, engine)
        found = []
        for place, level in enumerate(self.record.levels):
            if level.load["kind"] == "closed" and not level.summary["requests"] > level.summary["outcomes"].get(
                "ok", 0
            ):
                found += self._checks_of(place, level, step, engine)
        return found

    def _checks_of(self, place: int, level: Level, step: StepTime, engine: EngineRow) -> list[Check]:
        inputs, outputs = (self.samples[f"{place}.{side}_tokens"] for side in ("input", "output"))
        made = estimate_static(
            step,
            inputs,
            outputs,
            level.load["concurrency"],
            request_s=engine.request_s,
            rounded_to=ROUNDED_TO if self.record.measured.details.get("cache") == "static" else 0,
        )
        due, first, last = (self.samples[f"{place}.{name}_s"] for name in ("due", "first", "last"))
        several = outputs > 1
        tpot = ((last - first)[several] / (outputs[several] - 1)).mean() if several.any() else math.nan
        span = float(last.max() - due.min())
        pairs = {
            "TTFT": (made.ttft_s.mean(), (first - due).mean(), engine.ttft_factor),
            "TPOT": (np.nanmean(made.tpot_s) if several.any() else math.nan, tpot, engine.tpot_factor),
            "E2E": (made.e2e_s.mean(), (last - due).mean(), max(engine.tpot_factor, engine.ttft_factor)),
            "throughput": (made.output_tokens_per_s, float(outputs.sum()) / span, engine.tpot_factor),
            "memory": (self._memory(made.most_cached, made.most_read), level.peak_memory_bytes or math.nan, 1.25),
        }
        name = self.record.name
        return [
            Check(name, level.name, what, float(estimate), float(measured), factor)
            for what, (estimate, measured, factor) in pairs.items()
            if not (math.isnan(estimate) or math.isnan(measured))
        ]

    def _memory(self, cached: int, read: int) -> float:
        """Weights, cache (none of an encoder), and what the layer at work holds of the prompts in a step [bytes]."""
        assert self.model.shape is not None
        held = "fp32" if self.precision == "fp32" else "bf16"
        working = read * at_work(self.model.shape.hidden, self.model.shape.intermediate) * BITS[held] / 8
        kept = 0.0 if _encodes(self.record) else cached * kv_bytes_per_token(self.model, held)
        return Weights.of(self.model, self.precision).total + kept + working


def without_head(placement: Placement, model: ModelRow) -> Placement:
    """The placement, with prompt tokens that do not pass the output layer: this engine asks for the last one's alone.

    Of a large model the layer is some percent; of a student of 39 million parameters it is 28 million. What it computes
    for the tokens that are written is left to the time per sequence.
    """
    assert model.shape is not None
    assert model.params_b is not None
    tables = (1 if model.shape.tied_embeddings else 2) * model.shape.vocab * model.shape.hidden
    active = (model.active_params_b or model.params_b) * 1e9
    return replace(placement, token_flop=2 * max(active - tables, 0.0))


def _encodes(record: Record) -> bool:
    """Whether the target answers in the step that reads, so that it keeps no cache."""
    return bool(record.measured.details.get("kind") == ENCODER)


def without_table(placement: Placement, model: ModelRow, precision: str) -> Placement:
    """The placement of an encoder, which has no output layer: of its table of embeddings single rows are read.

    Of MiniLM's 22.7 million parameters the table is 11.7 million.
    """
    assert model.shape is not None
    table = model.shape.vocab * model.shape.hidden * BITS[precision] / 8
    return replace(placement, weights_bytes=max(placement.weights_bytes - table, 0.0))


def _model(record: Record, catalog: Catalog) -> ModelRow:
    """The model that was measured: by its catalog id, or by the shape that the record holds."""
    if record.measured.model:
        row = catalog.model(record.measured.model)
    elif (shape := record.measured.details.get("catalog_row")) is not None:
        row = catalog.with_overrides({"models": {"measured": shape}}).model("measured")
    else:
        raise InputError(f"{record.name} names no model of the catalog and holds no shape: nothing can be estimated")
    if row.shape is None or row.params_b is None:
        raise InputError(f"the catalog knows no shape of {record.measured.model}: nothing can be estimated")
    return row


def _told(what: str, value: float) -> str:
    unit = UNITS[what]
    if unit == "s":
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value / 1e9:.2f} GB" if unit == "bytes" else f"{value:.3g} tokens/s"
