"""How far the step-time model is off: its errors on measured points, also of models and GPUs left out of the fit.

The errors of the constants that are shipped are kept in data/step_time_accuracy.csv, written by
benchmarks/fit_step_time.py; :func:`accuracy` finds them, and those of measurements of one's own. docs/accuracy.md says
what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.errors import InputError, near_matches
from distillcalc.estimate.calibration import Fit, Floats, Points, Prediction, impossible, possible, set_aside
from distillcalc.estimate.step_time import StepTime
from distillcalc.resources import data_folder

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

FIGURES = ("tpot", "ttft")
FAMILIES = {"dense": "dense", "moe": "mixtures of experts"}
COVERED = 0.9  # of a left-out model's points that an interval holds

IN_SAMPLE, ROOFLINE = "in sample", "decode-only roofline"
MODEL_OUT, GPU_OUT = "one model left out", "one GPU left out"
HARNESS_UNKNOWN = "one model left out, harness not known"
NOTHING_ASIDE, ASIDE = "one model left out, nothing set aside", "what was set aside"
STORED = "step_time_accuracy.csv"


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How far predictions are off.

    Parameters
    ----------
    table : a row for each way of testing (``how``), ``family`` ("dense" or "moe"), held-out ``group`` ("all" of them
        or one) and figure (``what``: "tpot" or "ttft") with ``rows``, the number of points; ``mape`` and ``median`` of
        |predicted / measured - 1|; ``bias``, the median of predicted / measured - 1; and for models left out
        ``coverage``, the share of points inside the interval that the errors of the other models give.
    intervals : for each (figure, family) the factor by which a measured value may be above or below its prediction,
        so that it holds nine in ten points of every model when that is left out.
    left_out : points that were not used, by reason.
    points : points of the source, those included.
    source, checked : of what, and when.
    """

    table: pd.DataFrame
    intervals: Mapping[tuple[str, str], float]
    left_out: Mapping[str, int]
    points: int
    source: str
    checked: date

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is not known is None."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        nested: dict[str, dict[str, float]] = {}
        for (what, family), factor in self.intervals.items():
            nested.setdefault(what, {})[family] = factor
        return {**self._head(), "intervals": nested, "errors": rows}

    def _head(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "checked": self.checked.isoformat(),
            "points": self.points,
            "left_out": dict(self.left_out),
        }

    def save(self, path: str | Path) -> None:
        """Write the errors as CSV, below a line of JSON with all else."""
        intervals = [[*key, round(factor, 6)] for key, factor in self.intervals.items()]
        head = json.dumps({**self._head(), "intervals": intervals})
        text = self.table.round(6).to_csv(index=False, lineterminator="\n")
        Path(path).write_text(f"# {head}\n{text}", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path | None = None) -> Accuracy:
        """The errors that :meth:`save` wrote; those of the shipped constants if no path is given."""
        import pandas as pd

        file = Path(path) if path is not None else data_folder() / STORED
        try:
            head, _, _ = file.read_text(encoding="utf-8").partition("\n")
            known = json.loads(head.removeprefix("#"))
            return cls(
                pd.read_csv(file, skiprows=1),
                {(what, family): factor for what, family, factor in known["intervals"]},
                known["left_out"],
                known["points"],
                known["source"],
                date.fromisoformat(known["checked"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is not a table of errors that was written by Accuracy.save: {error}") from error

    def error(self, what: str, family: str, how: str = MODEL_OUT, group: str = "all") -> pd.Series[Any]:
        """One row of the table."""
        t = self.table
        found = t[(t["what"] == what) & (t["family"] == family) & (t["how"] == how) & (t["group"] == group)]
        if len(found) != 1:
            raise InputError(f"no errors of {what}, {family}, {how!r}, {group!r}. There are: {sorted(set(t['how']))}")
        return found.iloc[0]

    def __rich__(self) -> RenderableType:
        """A table for each figure, grouped by family, and what was left out."""
        from rich.console import Group
        from rich.text import Text

        return Group(*(_table(self, what) for what in FIGURES if (self.table["what"] == what).any()), *(
            Text(line) for line in _lines(self)
        ))  # fmt: skip

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        Console(file=text, width=100, color_system=None).print(self)
        return text.getvalue()


def accuracy(points: Points, *, by: str | None = None, source: str = "the given points") -> Accuracy:
    """Errors in the sample, leaving one model out, leaving one GPU out, and of the plain roofline.

    Parameters
    ----------
    points : see :func:`distillcalc.estimate.calibration.read_measurements`.
    by : a column of the points, to break the errors of left-out models down by ("engine", "harness", ...).
    source : what the points are, in words.

    Notes
    -----
    A model that is left out is predicted by constants that were fitted without any of its points; likewise a GPU.
    Where there is one model or one GPU only, none can be left out, and those rows are missing.

    What a harness adds to TTFT (see :data:`distillcalc.estimate.calibration.HARNESS`) is fitted too, to the other
    models measured in it. "Harness not known" is without that, as for a server that nobody has measured.

    The roofline is the one without fitted constants: the longer of reading (MBU 0.8) and computing (MFU 0.5) one
    decoding step, 2 ms a step; for TTFT the prompt alone.

    "One model left out, nothing set aside" is fitted to, and counts, all points, those faster than the hardware
    included.

    Raises
    ------
    InputError
        If no point can be used, or ``by`` is no column.
    """
    import pandas as pd

    if by is not None and by not in points.table:
        near = near_matches(by, list(points.table.columns))
        raise InputError(
            f"the points have no column {by!r}.{f' Did you mean {near[0]}?' if near else ''} "
            f"Columns: {', '.join(points.table.columns)}"
        )
    used, reasons, aside = possible(points), set_aside(points), impossible(points)
    rows = _errors(IN_SAMPLE, used, Fit(used).predict(used)) + _errors(ROOFLINE, used, _roofline(used))
    intervals: dict[tuple[str, str], float] = {}
    if len(set(used.column("model"))) > 1:
        fits = _without(used, "model")
        unseen = _predicted(fits, used, "model")
        intervals, coverage = _intervals(used, unseen)
        rows += _errors(MODEL_OUT, used, unseen, "model", coverage)
        neutral = _predicted(fits, used, "model", harness_known=False)
        rows += [row for row in _errors(HARNESS_UNKNOWN, used, neutral, "model") if row["what"] == "ttft"]
        if by is not None:
            rows += _errors(f"{MODEL_OUT}, by {by}", used, unseen, by)
        if aside.any():
            rows += _errors(NOTHING_ASIDE, points, _predicted(_without(points, "model"), points, "model"), "model")
            out = points.take(aside)
            rows += _errors(ASIDE, out, _predicted(_without(used, "model", out), out, "model"), "model")
    if len(set(used.column("gpu"))) > 1:
        rows += _errors(GPU_OUT, used, _predicted(_without(used, "gpu"), used, "gpu"), "gpu")
    left_out = {**points.left_out, **{reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}}
    every = len(points) + sum(points.left_out.values())
    return Accuracy(pd.DataFrame(rows), intervals, left_out, every, source, date.today())


def _without(known: Points, column: str, wanted: Points | None = None) -> dict[str, Fit]:
    """For each group of the wanted points a fit to those known points that are not of it."""
    names = sorted(set((known if wanted is None else wanted).column(column)))
    return {name: Fit(known.take(known.column(column) != name)) for name in names}


def _predicted(fits: Mapping[str, Fit], wanted: Points, column: str, *, harness_known: bool = True) -> Prediction:
    """Each wanted point predicted by the fit without its group."""
    tpot, ttft = np.full(len(wanted), np.nan), np.full(len(wanted), np.nan)
    for name, fit in fits.items():
        out = wanted.column(column) == name
        made = fit.predict(wanted.take(out), harness_known=harness_known)
        tpot[out], ttft[out] = made.tpot_s, made.ttft_s
    return Prediction(tpot, ttft)


def _roofline(points: Points) -> Prediction:
    plain = SimpleNamespace(
        mbu=0.8, kv_mbu=0.8, expert_mbu=0.8, mfu_bf16=0.5, mfu_fp8=0.5, mfu_fp4=0.5, expert_mfu=0.5, attention_mfu=0.5,
        overlap=1.0, fixed_s=2e-3, layer_s=0.0, expert_layer_s=0.0, quantise_s=0.0, sequence_s=0.0, all_reduce_s=0.0,
        link_efficiency=1e9, repack=0.0,
    )  # fmt: skip
    step = StepTime.of(points.placement, plain)
    prompt, output = points.column("input_tokens"), points.column("output_tokens")
    flight = np.clip(points.column("concurrency"), 1.0, points.room)
    decode = step.seconds(flight, flight, flight * (prompt + output / 2))
    return Prediction(decode, step.seconds(1.0, prompt, 0.0, prompt**2 / 2))


def _ratio(what: str, points: Points, made: Prediction) -> Floats:
    """Predicted / measured, NaN where nothing was measured."""
    return np.asarray(getattr(made, f"{what}_s") / points.column(f"{what}_s"), dtype=float)


def _errors(
    how: str,
    points: Points,
    made: Prediction,
    column: str | None = None,
    coverage: Mapping[tuple[str, str, str], float] | None = None,
) -> list[dict[str, Any]]:
    """Rows of the table: of all points of a family, and by the groups of a column."""
    rows = []
    for what in FIGURES:
        ratio = _ratio(what, points, made)
        for family in sorted(set(points.family.tolist())):
            mine = (points.family == family) & np.isfinite(ratio)
            groups = {"all": mine}
            if column is not None:
                names = points.column(column)
                groups |= {str(name): mine & (names == name) for name in sorted(set(names[mine]))}
            for group, at in groups.items():
                if at.any():
                    off = np.abs(ratio[at] - 1)
                    rows.append({
                        "how": how, "family": family, "group": group, "what": what, "rows": int(at.sum()),
                        "mape": float(off.mean()), "median": float(np.median(off)),
                        "bias": float(np.median(ratio[at])) - 1,
                        "coverage": (coverage or {}).get((what, family, group), float("nan")),
                    })  # fmt: skip
    return rows


def _intervals(
    points: Points, unseen: Prediction
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str, str], float]]:
    """The factor that holds nine in ten points of each left-out model, and what the others' factor holds of each.

    The first holds by construction, on these models. The second is what to expect of another one: a model's points
    inside the interval made from the errors of the other models of its family. (Those errors come from fits that saw
    this model, so that it is not wholly blind.)
    """
    intervals: dict[tuple[str, str], float] = {}
    coverage: dict[tuple[str, str, str], float] = {}
    models = points.column("model")
    for what in FIGURES:
        off = np.abs(np.log(_ratio(what, points, unseen)))
        for family in sorted(set(points.family.tolist())):
            mine = (points.family == family) & np.isfinite(off)
            errors = {str(model): off[mine & (models == model)] for model in sorted(set(models[mine]))}
            if not errors:
                continue
            wide = {model: float(np.quantile(each, COVERED, method="higher")) for model, each in errors.items()}
            intervals[(what, family)] = float(np.exp(max(wide.values())))
            if len(errors) > 1:
                inside = {
                    model: each <= max(width for other, width in wide.items() if other != model)
                    for model, each in errors.items()
                }
                coverage |= {(what, family, model): float(each.mean()) for model, each in inside.items()}
                coverage[(what, family, "all")] = float(np.concatenate(list(inside.values())).mean())
    return intervals, coverage


# In words

TITLES = {"tpot": "TPOT, mean time per output token", "ttft": "TTFT, mean time to first token"}


def _table(found: Accuracy, what: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=f"{TITLES[what]}: predicted against measured", box=SIMPLE_HEAD, title_justify="left")
    shown.add_column("", no_wrap=True, overflow="ellipsis", max_width=52)
    for heading in ("points", "MAPE", "median", "bias", "inside"):
        shown.add_column(heading, justify="right", no_wrap=True)
    figure = found.table[found.table["what"] == what]
    for family, words in FAMILIES.items():
        part = figure[figure["family"] == family]
        if part.empty:
            continue
        shown.add_row(f"[bold]{words}[/bold]")
        for row in part.to_dict("records"):
            name = f"  {row['how']}" if row["group"] == "all" else f"    {row['group']}"
            inside = "" if row["coverage"] != row["coverage"] else f"{row['coverage']:.1%}"
            errors = (f"{row['mape']:.1%}", f"{row['median']:.1%}", f"{row['bias']:+.1%}", inside)
            shown.add_row(escape(name), f"{row['rows']:,}", *errors)
        shown.add_section()
    return shown


def _lines(found: Accuracy) -> list[str]:
    lines = [
        "MAPE and median are of |predicted / measured - 1|, bias is the median of predicted / measured - 1. Inside: "
        "share of a left-out model's points in the interval that the other models' errors give."
    ]
    if found.intervals:
        factors = ", ".join(
            f"{what.upper()} {FAMILIES[family]} {factor:.2f}" for (what, family), factor in found.intervals.items()
        )
        lines.append(f"Factor that holds nine in ten points of each left-out model: {factors}.")
    else:
        lines.append("All points are of one model: none can be left out, and errors in the sample flatter.")
    used = found.points - sum(found.left_out.values())
    lines.append(f"Points: {found.points:,}, of which {used:,} used.")
    lines += [
        f"Left out: {count:,}. {reason[0].upper()}{reason[1:]}." for reason, count in found.left_out.items() if count
    ]
    lines.append(f"Source: {found.source}; computed on {found.checked.isoformat()}.")
    return lines
