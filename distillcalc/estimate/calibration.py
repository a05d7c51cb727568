"""Measured serving points against the step-time model: how far it is off, and constants that fit them better.

A benchmark keeps a number of requests in flight (its concurrency) and reports the mean TTFT and TPOT.
:func:`predict` says what the model would have reported, :func:`calibrate` fits an engine's constants to what was,
and :func:`accuracy` says how well models and GPUs are predicted that were left out of the fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, EngineRow
from distillcalc.errors import InputError, near_matches
from distillcalc.estimate.step_time import CONSTANTS, Placement, StepTime, Weights

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NEEDED = ("model", "gpu", "input_tokens", "output_tokens", "concurrency", "tpot_s")
DEFAULTS: dict[str, Any] = {
    "engine": "vllm",
    "precision": "bf16",
    "kv_precision": "bf16",
    "tensor_parallel": 1,
    "ttft_s": float("nan"),
    "harness": "own",
}

# Reading and computing were found to take their times one after the other (overlap 0): no share that hides was left
# once prompts are counted in full.
# Where each constant is expected, and how far from it (standard deviation of the log): the published shares of peak
# (MBU 0.71 to 0.80 and MFU 0.64 to 0.77 on A100 and H100, from GEMM profiles) and what engines are known to add.
COMMON: dict[str, tuple[float, float]] = {
    "mbu": (0.78, 0.1),
    "kv_mbu": (0.7, 0.2),
    "expert_mbu": (0.62, 0.2),
    "mfu_bf16": (0.72, 0.1),
    "mfu_fp8": (0.55, 0.2),
    "mfu_fp4": (0.4, 0.15),
    "expert_mfu": (0.15, 0.5),
    "attention_mfu": (0.5, 0.4),
    "fixed_s": (1e-3, 0.7),
    "layer_s": (20e-6, 0.7),
    "expert_layer_s": (20e-6, 0.7),
    "quantise_s": (10e-6, 0.7),
    "all_reduce_s": (8e-6, 0.5),
    "link_efficiency": (0.5, 0.4),
}
OWN: dict[str, tuple[float, float]] = {  # of each engine
    "engine_s": (0.5e-3, 0.7),  # per step, beside what all engines have
    "sequence_s": (12e-6, 0.7),
    "request_s": (15e-3, 0.5),
}
# Of each harness, which are no property of the engine: the share of requests that arrive in one burst, of those that
# wait for a whole other request, and the steps before a first token is handed on.
HARNESS: dict[str, tuple[float, float]] = {"burst": (0.1, 0.7), "behind": (0.05, 1.0), "steps": (1.0, 0.8)}
NEUTRAL = {"burst": 0.1, "behind": 0.0, "steps": 0.5}  # of a harness that is not known
SHARES = {name for name in COMMON if not name.endswith("_s")}

TPOT_SCALE, TTFT_SCALE = 0.15, 0.2  # relative error from which a point weighs less
MEMORY_MARGIN = 0.1
POSSIBLE_SHARE = 0.9  # of peak compute: a set of points that implies more has not computed its prompts


ENGINE_FIELDS = (*CONSTANTS, "request_s")


@dataclass(frozen=True, eq=False)
class Points:
    """Measured points as arrays, shape (points,); times in seconds.

    Parameters
    ----------
    table : the columns as read.
    placement : the model on its replica, arrays.
    family : "dense" or "moe".
    room : requests whose cache the memory holds.
    """

    table: pd.DataFrame
    placement: Placement
    family: NDArray[np.str_]
    room: Floats

    def column(self, name: str) -> Any:
        """A column as an array."""
        return self.table[name].to_numpy()

    def __len__(self) -> int:
        return len(self.table)

    def take(self, mask: Bools) -> Points:
        """Those points only."""
        fields = {f.name: getattr(self.placement, f.name)[mask] for f in dataclasses.fields(Placement)}
        return Points(self.table[mask].reset_index(drop=True), Placement(**fields), self.family[mask], self.room[mask])


def read_measurements(source: str | Path | pd.DataFrame, catalog: Catalog | None = None) -> Points:
    """Measured points from a CSV file or a table.

    Parameters
    ----------
    source : columns ``model`` and ``gpu`` (ids of the catalog), ``input_tokens``, ``output_tokens``, ``concurrency``,
        ``tpot_s`` (mean), and if need be ``ttft_s`` (mean), ``engine``, ``precision``, ``kv_precision``,
        ``tensor_parallel``, ``gpus`` (of a replica, where more than those share the experts), ``harness`` (points with
        the same way of measuring). Or the table of ai-dynamo/aiconfigurator's measured points as it is published.
    catalog : where models and GPUs are looked up.

    Raises
    ------
    InputError
        If a column is missing, a value cannot be, or a model has no public shape.
    UnknownName
        For a model, GPU or engine that the catalog does not know.
    """
    import pandas as pd

    known = catalog or Catalog.load()
    name = "the table" if isinstance(source, pd.DataFrame) else str(source)
    if isinstance(source, pd.DataFrame):
        table = source.copy()
    else:
        try:
            table = pd.read_csv(source)
        except (OSError, ValueError, pd.errors.ParserError) as error:
            raise InputError(f"cannot read measurements from {source}: {error}") from error
    if "silicon_tpot_ms" in table:
        table = _aiconfigurator(table)
    missing = [column for column in NEEDED if column not in table]
    if missing:
        near = near_matches(missing[0], list(table.columns))
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{name} has no column {', '.join(missing)}.{hint} Its columns: {', '.join(map(str, table.columns[:20]))}. "
            f"Needed: {', '.join(NEEDED)}; times are in seconds"
        )
    for column, default in DEFAULTS.items():
        table[column] = table[column].fillna(default) if column in table else default
    table["gpus"] = table["gpus"].fillna(table["tensor_parallel"]) if "gpus" in table else table["tensor_parallel"]
    for column in ("input_tokens", "output_tokens", "concurrency", "tpot_s", "tensor_parallel", "gpus"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = ~(np.isfinite(numbers) & (numbers > 0))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(f"{name} row {row + 1}: {column} must be above 0. Got {table[column].iloc[row]!r}")
        table[column] = numbers.astype(float)
    if table.empty:
        raise InputError(f"{name} has no rows")
    return _placed(table.reset_index(drop=True), known)


def _aiconfigurator(table: pd.DataFrame) -> pd.DataFrame:
    """The published table in our columns.

    What it does not say is known of its origins: points of the file 2026-04-06.csv are of InferenceMAX, which draws
    lengths uniformly between 0.8 and 1 of the nominal ones and keeps the cache in FP8.
    """
    import pandas as pd

    models = {
        "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
        "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
        "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b",
        "openai/gpt-oss-120b": "gpt-oss-120b",
        "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    }
    file = table["silicon_data_source"].str.extract(r"source_file=([^;]+)")[0].str.split("/").str[-2:].str.join("/")
    inferencemax = file.eq("2026-04-06.csv")
    nominal = np.where(inferencemax, 0.9, 1.0)
    attention = table["attention_dp_size"].fillna(1)
    experts = table["moe_tp_size"].fillna(1) * table["moe_ep_size"].fillna(1)
    precision = table["precision"].fillna("bf16")
    engine = table["backend"].replace({"trtllm": "tensorrt-llm"})
    made = pd.DataFrame(
        {
            "model": table["model_path"].map(lambda path: models.get(path, path)),
            "gpu": table["system"].str.replace("_", "-"),
            "engine": engine,
            "precision": precision,
            "kv_precision": np.where(inferencemax & (precision != "bf16"), "fp8", "bf16"),
            "tensor_parallel": table["tp_size"],
            "gpus": np.maximum(table["tp_size"] * attention, experts),
            "input_tokens": table["isl"] * nominal,
            "output_tokens": table["osl"] * nominal,
            "concurrency": table["batch_size"],
            "ttft_s": table["silicon_ttft_ms"] / 1000,
            "tpot_s": table["silicon_tpot_ms"] / 1000,
            "harness": np.where(inferencemax, "inferencemax " + engine, file.str.split("/").str[0] + " " + engine),
        }
    )
    # Attention that is replicated over GPUs, and replicas over several machines, are not modelled.
    return made[(attention == 1) & (table["tp_size"] <= 8)].reset_index(drop=True)


def _placed(table: pd.DataFrame, catalog: Catalog) -> Points:
    keys = ["model", "gpu", "precision", "tensor_parallel", "gpus", "kv_precision"]
    made: dict[tuple[Any, ...], tuple[Placement, float]] = {}
    for model, name, precision, parallel, gpus, kv in table[keys].drop_duplicates().itertuples(index=False):
        row, gpu = catalog.model(model), catalog.gpu(name)
        if row.shape is None or row.params_b is None:
            raise InputError(f"the shape of {model} is not in the catalog. Give it in [overrides.models.{model}.shape]")
        one = Placement.of(row, gpu, precision, int(parallel), kv_precision=kv, expert_gpus=int(gpus))
        weights = Weights.of(row, precision)
        held = (weights.total - weights.experts) / parallel + weights.experts / gpus
        made[(model, name, precision, parallel, gpus, kv)] = one, gpu.memory_gb * 1e9 * (1 - MEMORY_MARGIN) - held
    found = [made[key] for key in table[keys].itertuples(index=False, name=None)]
    placement = Placement.stack([one for one, _ in found])
    total = (table["input_tokens"] + table["output_tokens"]).to_numpy()
    room = np.array([free for _, free in found]) / (placement.kv_bytes * total)
    return Points(table, placement, np.where(placement.is_moe > 0, "moe", "dense"), np.maximum(room, 1.0))


@dataclass(frozen=True)
class Prediction:
    """What a harness would have reported, shape (points,) [s]."""

    tpot_s: Floats
    ttft_s: Floats


def predict(points: Points, engines: Mapping[str, EngineRow], harness: Mapping[str, Any] | None = None) -> Prediction:
    """TPOT and TTFT of each point, each the mean over the requests of a run.

    ``harness`` may say how the run was made (see ``HARNESS``).

    TPOT = step + (b - 1) x prefill / output tokens: of b requests in flight each meets the prompts of all others once,
    prefill being what a prompt adds to a step. Where memory holds fewer requests than are sent, the rest wait.
    """
    names = points.column("engine")
    constants = {
        name: np.array([getattr(engines[engine], name) for engine in names], dtype=float) for name in ENGINE_FIELDS
    }
    own = {name: np.broadcast_to((harness or {}).get(name, mean), len(points)) for name, mean in NEUTRAL.items()}
    return _predicted(points, SimpleNamespace(**constants), own)


def _predicted(points: Points, engine: Any, harness: Mapping[str, Any]) -> Prediction:
    step = StepTime.of(points.placement, engine)
    prompt, output, sent = (points.column(name) for name in ("input_tokens", "output_tokens", "concurrency"))
    flight = np.clip(sent, 1.0, points.room)
    context = flight * (prompt + output / 2)
    plain = step.seconds(flight, flight, context)
    prefill = (step.token_s + step.exchange_s) * prompt + step.pair_s * prompt**2 / 2
    mixed = plain + prefill
    tpot = plain + (flight - 1) / output * prefill
    alone = step.seconds(1.0, prompt, 0.0, prompt**2 / 2)
    whole = alone + (output - 1) * tpot
    busy = np.clip(flight * prefill / whole, 0, 0.95)
    queue = busy / (1 - busy) * prefill / 2 + harness["burst"] * (flight - 1) / 2 * prefill
    waiting = np.where(sent > flight, (sent - flight) / flight * whole, 0.0) + harness["behind"] * whole / sent
    ttft = engine.request_s + mixed + plain * harness["steps"] + queue + waiting
    return Prediction(tpot, ttft)


def impossible(points: Points) -> Bools:
    """Points that no computation of their prompts can explain, and all others measured in the same way.

    A harness that repeats its prompts to an engine that caches them reports less time than the GPU needs to compute
    them. A set (same harness, model, GPU, precision) with a point above 90% of the peak is left out whole, and so is
    any point faster than the roofline at full peaks.
    """
    p = points.placement
    prompt, output, sent = (points.column(name) for name in ("input_tokens", "output_tokens", "concurrency"))
    tpot, ttft = points.column("tpot_s"), np.nan_to_num(points.column("ttft_s").astype(float))
    per_s = sent / (ttft + (output - 1) * tpot)
    flop = p.token_flop * (prompt + output) + p.pair_flop * (prompt**2 / 2 + prompt * output)
    share = per_s * flop / p.peak
    flight = np.clip(sent, 1.0, points.room)
    touched = 1 - p.expert_miss**flight
    read = (p.weights_bytes + p.experts_bytes * touched + p.kv_bytes * flight * (prompt + output / 2)) / p.bandwidth
    floor = np.maximum(read, p.token_flop / p.peak * (flight + (flight - 1) * prompt / output))
    sets = points.table[["harness", "model", "gpu", "precision"]].astype(str).agg("|".join, axis=1)
    return np.asarray(sets.isin(set(sets[share > POSSIBLE_SHARE])).to_numpy() | (tpot < floor))


# Fitting


class _Fit:
    """The free constants as one vector of logs, and how it becomes engines and harnesses."""

    def __init__(self, points: Points, prior: Mapping[str, EngineRow] | None = None, looseness: float = 1.0) -> None:
        self.points = points
        self.engines, self.harnesses = (sorted(set(points.column(name))) for name in ("engine", "harness"))
        expected: dict[str, tuple[float, float]] = {}
        start = prior[self.engines[0]] if prior else None
        for name, (mean, deviation) in COMMON.items():
            known = mean if start is None else getattr(start, name)
            expected[name] = known, deviation * looseness
        for engine in self.engines:
            for name, (mean, deviation) in OWN.items():
                known = mean if prior is None else 1e-4 if name == "engine_s" else getattr(prior[engine], name)
                expected[f"{name}:{engine}"] = known, deviation * looseness
        expected |= {f"{name}:{one}": HARNESS[name] for one in self.harnesses for name in HARNESS}
        self.names = list(expected)
        kinds = [name.split(":")[0] for name in self.names]
        self.most = np.array([0.0 if kind in {*SHARES, "burst", "behind"} else np.inf for kind in kinds])
        self.mean = np.minimum(np.log([max(mean, 1e-9) for mean, _ in expected.values()]), self.most - 1e-3)
        self.deviation = np.array([deviation for _, deviation in expected.values()])
        self.is_ttft = np.array([kind in {"request_s", *HARNESS} for kind in kinds])
        self.vector = self._solved()

    def constants(self, vector: Floats, points: Points) -> tuple[Any, dict[str, Floats]]:
        """Constants of each point's engine and of its harness; of one that was not fitted, as expected."""
        named = dict(zip(self.names, np.exp(vector).tolist(), strict=True))
        values: dict[str, Any] = {name: named[name] for name in COMMON}

        def each(column: str, fitted: list[str], known: Mapping[str, tuple[float, float]]) -> dict[str, Floats]:
            where = _places(fitted, points.column(column))
            return {
                name: np.array([*(named[f"{name}:{one}"] for one in fitted), NEUTRAL.get(name, mean)])[where]
                for name, (mean, _) in known.items()
            }

        own = each("engine", self.engines, OWN)
        values["fixed_s"] = values["fixed_s"] + own.pop("engine_s")
        return SimpleNamespace(**values, **own, overlap=0.0), each("harness", self.harnesses, HARNESS)

    def predict(self, points: Points) -> Prediction:
        """What the fitted constants say of any points."""
        return _predicted(points, *self.constants(self.vector, points))

    def _solved(self) -> Floats:
        """TPOT first; then TTFT, at those step times, gives what only it tells of."""
        from scipy.optimize import least_squares

        measured = {"tpot_s": self.points.column("tpot_s"), "ttft_s": self.points.column("ttft_s").astype(float)}
        vector = self.mean.copy()
        for what, part in (("tpot_s", ~self.is_ttft), ("ttft_s", self.is_ttft)):
            seen = np.isfinite(measured[what]) & (measured[what] > 0)
            if not seen.any():
                continue

            def residuals(free: Floats, what: str = what, part: Bools = part, seen: Bools = seen) -> Floats:
                trial = vector.copy()
                trial[part] = free
                made = getattr(_predicted(self.points, *self.constants(trial, self.points)), what)
                off = np.log(made[seen] / measured[what][seen]) / (TPOT_SCALE if what == "tpot_s" else TTFT_SCALE)
                robust = np.sqrt(2 * (np.sqrt(1 + off**2) - 1)) * np.sign(off)  # pseudo-Huber
                return np.concatenate([robust, (free - self.mean[part]) / self.deviation[part]])

            least = np.full(int(part.sum()), -40.0)
            vector[part] = least_squares(residuals, vector[part], bounds=(least, self.most[part]), diff_step=1e-4).x
        return vector

    def engines_fitted(self) -> dict[str, dict[str, float]]:
        """The constants of each engine by its id, to three digits."""
        named = dict(zip(self.names, np.exp(self.vector).tolist(), strict=True))
        shared = {name: named[name] for name in COMMON if name != "fixed_s"}
        made = {}
        for engine in self.engines:
            values = {**shared, "overlap": 0.0}
            values["fixed_s"] = named["fixed_s"] + named[f"engine_s:{engine}"]
            values |= {name: named[f"{name}:{engine}"] for name in ("sequence_s", "request_s")}
            made[engine] = {name: float(f"{values[name]:.3g}") for name in ENGINE_FIELDS}
        return made


def _places(known: Sequence[str], names: Any) -> NDArray[np.int64]:
    """The index of each name in ``known``, or its length."""
    where = {name: i for i, name in enumerate(known)}
    return np.array([where.get(name, len(known)) for name in names], dtype=np.int64)


def calibrate(
    measurements: str | Path | pd.DataFrame, catalog: Catalog | None = None, *, looseness: float = 0.5
) -> Catalog:
    """A catalog whose engines fit measurements of one's own.

    Parameters
    ----------
    measurements : see :func:`read_measurements`; one run with a handful of concurrencies is enough, since each
        constant is held near the catalog's.
    looseness : how far a constant may move, as a share of what is allowed to a fit from nothing.

    Raises
    ------
    InputError
        If the measurements cannot be read, or are faster than the hardware.
    """
    known = catalog or Catalog.load()
    points = read_measurements(measurements, known)
    for engine in sorted(set(points.column("engine"))):
        known.engine(engine)
    wrong = impossible(points)
    if wrong.all():
        raise InputError(
            "the measured points are faster than the GPU can compute their prompts: were prompts repeated to an engine "
            "that caches them? Measure with distinct prompts"
        )
    made = _Fit(points.take(~wrong), known.engines, looseness).engines_fitted()
    stamp = {"source": f"fitted to {len(points) - int(wrong.sum())} points of one's own", "checked": date.today()}
    return known.with_overrides({"engines": {name: {**values, **stamp} for name, values in made.items()}})


def fitted_engines(points: Points) -> dict[str, dict[str, Any]]:
    """Constants of each engine fitted to points alone, with the number of points that tell of it."""
    used = points.take(~impossible(points))
    made = _Fit(used).engines_fitted()
    return {engine: {**values, "rows": int((used.column("engine") == engine).sum())} for engine, values in made.items()}


# Errors


@dataclass(frozen=True)
class Accuracy:
    """How far predictions are off.

    Parameters
    ----------
    table : a row for each way of testing (``how``), family, held-out ``group`` and figure (``what``): ``rows``,
        ``mape`` and ``median`` of |predicted / measured - 1|, ``bias`` (median predicted / measured) and
        ``coverage``: share of points inside the interval that the other models' errors give.
    intervals : for each figure and family the factor by which a measurement may be above or below a prediction.
    left_out : points that were not used, and why.
    """

    table: pd.DataFrame
    intervals: dict[tuple[str, str], float]
    left_out: dict[str, int]


FIGURES = ("tpot_s", "ttft_s")


def accuracy(points: Points, catalog: Catalog | None = None) -> Accuracy:
    """Errors in the sample, leaving one model out, leaving one GPU out, and of the plain roofline.

    The roofline is the one without fitted constants: the larger of reading (MBU 0.8) and computing (MFU 0.5) one
    decoding step, 2 ms a step, no prefill of others.
    """
    import pandas as pd

    wrong = impossible(points)
    used = points.take(~wrong)
    rows: list[dict[str, Any]] = []
    whole = _Fit(used)
    _report(rows, "in sample", used, whole.predict(used))
    _report(rows, "decode-only roofline", used, _roofline(used))
    kept: dict[str, Prediction] = {}
    for how, column in (("one model left out", "model"), ("one GPU left out", "gpu")):
        made = _left_out(used, column)
        kept[column] = made
        _report(rows, how, used, made, column)
    intervals, covered = _intervals(used, kept["model"])
    if wrong.any():
        also = points.take(wrong)
        fits = {model: _Fit(used.take(used.column("model") != model)) for model in sorted(set(also.column("model")))}
        parts = [(also.take(also.column("model") == model), fits[model]) for model in fits]
        for part, made_fit in parts:
            _report(rows, "set aside: prompts not computed", part, made_fit.predict(part), "model")
    table = pd.DataFrame(rows)
    keys = table[["how", "family", "group", "what"]].to_numpy().tolist()
    table["coverage"] = [covered.get((how, family, group, what), float("nan")) for how, family, group, what in keys]
    return Accuracy(table, intervals, {"faster than the hardware": int(wrong.sum())})


def _left_out(points: Points, column: str) -> Prediction:
    """Each point predicted by a fit that has seen none of its group."""
    tpot, ttft = np.empty(len(points)), np.empty(len(points))
    for name in sorted(set(points.column(column))):
        out = points.column(column) == name
        made = _Fit(points.take(~out)).predict(points.take(out))
        tpot[out], ttft[out] = made.tpot_s, made.ttft_s
    return Prediction(tpot, ttft)


def _roofline(points: Points) -> Prediction:
    plain = SimpleNamespace(
        mbu=0.8, kv_mbu=0.8, expert_mbu=0.8, mfu_bf16=0.5, mfu_fp8=0.5, mfu_fp4=0.5, expert_mfu=0.5, attention_mfu=0.5,
        overlap=1.0, fixed_s=2e-3, layer_s=0.0, expert_layer_s=0.0, quantise_s=0.0, sequence_s=0.0, all_reduce_s=0.0,
        link_efficiency=1e9,
    )  # fmt: skip
    step = StepTime.of(points.placement, plain)
    prompt, output = points.column("input_tokens"), points.column("output_tokens")
    flight = np.clip(points.column("concurrency"), 1.0, points.room)
    decode = step.seconds(flight, flight, flight * (prompt + output / 2))
    return Prediction(decode, step.seconds(1.0, prompt, 0.0, prompt**2 / 2))


def _report(rows: list[dict[str, Any]], how: str, points: Points, made: Prediction, column: str | None = None) -> None:
    """Errors by family, and by held-out group."""
    for what in FIGURES:
        measured = points.column(what).astype(float)
        ratio = getattr(made, what) / measured
        seen = np.isfinite(ratio)
        for family in sorted(set(points.family.tolist())):
            groups = ["all", *(sorted(set(points.column(column)[points.family == family])) if column else [])]
            for group in groups:
                at = seen & (points.family == family)
                if group != "all":
                    at &= points.column(str(column)) == group
                if at.any():
                    off = np.abs(ratio[at] - 1)
                    rows.append({
                        "how": how, "family": family, "group": group, "what": what.removesuffix("_s"),
                        "rows": int(at.sum()), "mape": float(off.mean()), "median": float(np.median(off)),
                        "bias": float(np.median(ratio[at])),
                    })  # fmt: skip


def _intervals(
    points: Points, made: Prediction
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str, str, str], float]]:
    """The factor that holds nine of ten points of each left-out model, and what the other models' factor holds of it.

    The second is the honest test: a model's points against the errors of the other models of its family.
    """
    intervals, covered = {}, {}
    models = points.column("model")
    for what in FIGURES:
        off = np.abs(np.log(points.column(what).astype(float) / getattr(made, what)))
        for family in sorted(set(points.family.tolist())):
            mine = (points.family == family) & np.isfinite(off)
            wide = {
                model: float(np.quantile(off[mine & (models == model)], 0.9)) for model in sorted(set(models[mine]))
            }
            name = what.removesuffix("_s")
            intervals[(name, family)] = float(np.exp(max(wide.values())))
            for model in wide:
                others = [width for other, width in wide.items() if other != model]
                if others:
                    inside = off[mine & (models == model)] <= max(others)
                    covered[("one model left out", family, model, name)] = float(inside.mean())
    return intervals, covered
