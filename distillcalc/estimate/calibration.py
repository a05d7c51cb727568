"""Measured serving points: what the step-time model says of them, and constants that fit them.

A benchmark keeps a number of requests in flight (its concurrency) and reports the mean TTFT and TPOT.
:func:`predict` says what it would have reported, :func:`calibrate` fits an engine's constants to what it did.
How far predictions are off is the subject of :mod:`distillcalc.estimate.accuracy`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, EngineRow
from distillcalc.errors import InputError, UnknownName, near_matches
from distillcalc.estimate.step_time import BITS, CONSTANTS, Placement, StepTime, Weights

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
ENGINE_FIELDS = (*CONSTANTS, "request_s")  # of a row of the catalog's engines, what is fitted

# Where each constant is expected, and how far from it (standard deviation of the log): the published shares of peak
# (MBU 0.71 to 0.80 and MFU 0.64 to 0.77 on A100 and H100, from GEMM profiles) and what engines are known to add.
# Reading and computing were found to take their times one after the other: once prompts are counted in full, no share
# that hides was left, so that the overlap is 0 and not fitted.
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
SHARES = {name for name in COMMON if not name.endswith("_s")}  # never above 1
OWN: dict[str, tuple[float, float]] = {  # of each engine
    "engine_s": (0.5e-3, 0.7),  # per step, beside the fixed_s that all engines have
    "sequence_s": (12e-6, 0.7),
    "request_s": (15e-3, 0.5),
}
# Of each harness, which are no property of the engine: the share of requests that arrive in one burst, of those that
# wait for a whole other request, and the steps before a first token is handed on.
HARNESS: dict[str, tuple[float, float]] = {"burst": (0.1, 0.7), "behind": (0.05, 1.0), "steps": (1.0, 0.8)}
NEUTRAL = {"burst": 0.1, "behind": 0.0, "steps": 0.5}  # of a harness that is not known

# Relative error that is expected of a point (tpot_s, ttft_s), and from which it weighs less: where one model serves all
# models, GPUs and engines, and in runs of one engine of one's own.
ACROSS = {"tpot_s": 0.15, "ttft_s": 0.2}
OWN_RUNS = {"tpot_s": 0.02, "ttft_s": 0.05}
MEMORY_MARGIN = 0.1  # of a GPU's memory, for everything but weights and cache
POSSIBLE_SHARE = 0.9  # of peak compute: a set of points that implies more has not computed its prompts

NOT_MODELLED = "attention replicated over GPUs, or a replica of more than 8 GPUs: not modelled"
PROMPTS_NOT_COMPUTED = "measured like a point above 90% of the GPU's peak: prompts came from a cache"
BELOW_THE_ROOFLINE = "TPOT below the roofline at full peaks: fewer in flight than were sent"


@dataclass(frozen=True, eq=False)
class Points:
    """Measured points as arrays, shape (points,); times in seconds.

    Parameters
    ----------
    table : the columns as read.
    placement : the model on its replica, arrays.
    family : "dense" or "moe".
    room : requests whose cache the memory holds.
    left_out : rows of the source that are not among the points, by reason.
    """

    table: pd.DataFrame
    placement: Placement
    family: NDArray[np.str_]
    room: Floats
    left_out: Mapping[str, int] = field(default_factory=dict)

    def column(self, name: str) -> Any:
        """A column as an array."""
        return self.table[name].to_numpy()

    def __len__(self) -> int:
        return len(self.table)

    def take(self, mask: Bools) -> Points:
        """Those points only."""
        placement = Placement(*(getattr(self.placement, each.name)[mask] for each in dataclasses.fields(Placement)))
        table = self.table[mask].reset_index(drop=True)
        return Points(table, placement, self.family[mask], self.room[mask], self.left_out)


def read_measurements(source: str | Path | pd.DataFrame, catalog: Catalog | None = None) -> Points:
    """Measured points from a CSV file or a table.

    Parameters
    ----------
    source : one row for each run of a benchmark. Columns ``model`` and ``gpu`` (ids of the catalog), ``input_tokens``,
        ``output_tokens``, ``concurrency`` (requests in flight), ``tpot_s`` (mean [s]), and where they differ from the
        defaults ``ttft_s`` (mean [s]; left out), ``engine`` (vllm), ``precision`` and ``kv_precision`` (bf16),
        ``tensor_parallel`` (1), ``gpus`` (of a replica, where more than those share the experts) and ``harness``
        (a name for points that were measured in the same way). Or the table of measured points that
        ai-dynamo/aiconfigurator publishes, as it is.
    catalog : where models and GPUs are looked up; the shipped one if left out.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, a value cannot be, or a model has no public shape.
    UnknownName
        For a model or GPU that the catalog does not know.
    """
    import pandas as pd

    known = catalog or Catalog.load()
    name = "the table" if isinstance(source, pd.DataFrame) else str(source)
    if isinstance(source, pd.DataFrame):
        table = source.reset_index(drop=True)
    else:
        try:
            table = pd.read_csv(source)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read measurements from {source}: {error}") from error
    left_out: dict[str, int] = {}
    if "silicon_tpot_ms" in table:
        _require(table, AICONFIGURATOR, name)
        every = table
        table = _aiconfigurator(every)
        left_out[NOT_MODELLED] = len(every) - len(table)
    _require(table, NEEDED, name, " Times are in seconds")
    for column, default in DEFAULTS.items():
        table[column] = table[column].fillna(default) if column in table else default
    table["gpus"] = table["gpus"].fillna(table["tensor_parallel"]) if "gpus" in table else table["tensor_parallel"]
    for column in ("input_tokens", "output_tokens", "concurrency", "tpot_s", "ttft_s", "tensor_parallel", "gpus"):
        numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
        right = np.isfinite(numbers) & (numbers > 0)
        if column == "ttft_s":
            right |= table[column].isna()
        if column in ("tensor_parallel", "gpus"):
            _check(right & (numbers % 1 == 0), table, column, "a whole number above 0", name)
        _check(right, table, column, "above 0", name)
        table[column] = numbers
    for column, allowed in (("precision", tuple(BITS)), ("kv_precision", ("fp32", "bf16", "fp8"))):
        _check(table[column].isin(allowed), table, column, f"one of {', '.join(allowed)}", name)
    if table.empty:
        raise InputError(f"{name} has no rows{' that can be modelled' if any(left_out.values()) else ''}")
    return _placed(table, known, left_out)


def _require(table: pd.DataFrame, needed: Sequence[str], name: str, hint: str = "") -> None:
    missing = [column for column in needed if column not in table]
    if missing:
        near = near_matches(missing[0], [str(column) for column in table.columns])
        did_you_mean = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{name} has no column {', '.join(missing)}.{did_you_mean} Its columns: "
            f"{', '.join(map(str, table.columns[:20]))}. Needed: {', '.join(needed)}.{hint}"
        )


def _check(right: Any, table: pd.DataFrame, column: str, words: str, name: str) -> None:
    if not right.all():
        row = int(np.flatnonzero(~right)[0])
        got = table[column].iloc[row]
        raise InputError(f"{name} row {row + 1}: {column} must be {words}. Got {got if got == got else 'nothing'}")


AICONFIGURATOR = (
    *("silicon_data_source", "backend", "model_path", "system", "precision", "isl", "osl", "batch_size", "tp_size"),
    *("attention_dp_size", "moe_tp_size", "moe_ep_size", "silicon_ttft_ms", "silicon_tpot_ms"),
)


def _aiconfigurator(table: pd.DataFrame) -> pd.DataFrame:
    """The published table in our columns, without what is not modelled.

    Points of its file 2026-04-06.csv are of InferenceMAX, which draws lengths uniformly between 0.8 and 1 of the
    nominal ones and keeps the cache in FP8 where weights are quantised. Its batch is that of one attention replica:
    where the concurrency in the data source is another number, attention is replicated, whatever its column says.
    """
    import pandas as pd

    models = {
        "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
        "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
        "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b",
        "openai/gpt-oss-120b": "gpt-oss-120b",
        "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    }
    origin = table["silicon_data_source"].astype(str)
    file = origin.str.extract(r"source_file=([^;]+)")[0].str.split("/").str[-2:].str.join("/")
    sent = pd.to_numeric(origin.str.extract(r"silicon_concurrency=(\d+)")[0]).fillna(table["batch_size"])
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
            "concurrency": sent,
            "ttft_s": table["silicon_ttft_ms"] / 1000,
            "tpot_s": table["silicon_tpot_ms"] / 1000,
            "harness": np.where(inferencemax, "inferencemax " + engine, file.str.split("/").str[0] + " " + engine),
        }
    )
    modelled = (attention == 1) & (sent == table["batch_size"]) & (table["tp_size"] <= 8)
    return made[modelled].reset_index(drop=True)


def _placed(table: pd.DataFrame, catalog: Catalog, left_out: Mapping[str, int]) -> Points:
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
    family = np.where(placement.is_moe > 0, "moe", "dense")
    return Points(table, placement, family, np.maximum(room, 1.0), left_out)


@dataclass(frozen=True)
class Prediction:
    """What a harness would have reported, means over the requests of a run, shape (points,) [s]."""

    tpot_s: Floats
    ttft_s: Floats


def predict(points: Points, engines: Mapping[str, EngineRow], harness: Mapping[str, float] | None = None) -> Prediction:
    """TPOT and TTFT of each point as a benchmark that keeps ``concurrency`` requests in flight would report them.

    Parameters
    ----------
    points : the runs; of their times nothing is used.
    engines : rows of the catalog's engines by id.
    harness : how the runs were made, where that is known (see :data:`HARNESS`): ``burst``, the share of the requests
        in flight that arrive at the same moment; ``behind``, the share that waits for a whole other request;
        ``steps``, the steps that pass before a first token is handed on.

    Notes
    -----
    b = requests in flight: those sent, or as many as the memory holds; the rest wait.
    TPOT = step(b) + (b - 1) prefill / output tokens: each of b requests meets the prompts of all others once, prefill
    being what a prompt adds to a step.
    TTFT = request + step(b) (1 + steps) + prefill + queue + waiting, with
    queue = rho / (1 - rho) prefill / 2 + burst (b - 1) prefill / 2 (the mean wait of an M/D/1 queue of prompts, and of
    those that came at the same moment), rho = b prefill / E2E, and
    waiting = E2E (sent - b) / b + behind E2E / sent.

    Raises
    ------
    UnknownName
        For an engine of the points that is not among ``engines``.
    """
    names = points.column("engine")
    for engine in sorted(set(names)):
        if engine not in engines:
            raise UnknownName("engine", engine, engines)
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
    """Points that the hardware cannot have made in the way that is modelled; see :func:`set_aside`."""
    return np.asarray(np.logical_or.reduce(list(set_aside(points).values())), dtype=bool)


def set_aside(points: Points) -> dict[str, Bools]:
    """Points that the hardware cannot have made in the way that is modelled, by reason.

    A harness that repeats its prompts to an engine that caches them reports less time than the GPU needs to compute
    them. Where one point implies more than 90% of the dense peak, the whole set that it was measured with (same
    harness, model, GPU and precision) is set aside, since the others of it were computed as little.

    A single point whose TPOT is below the roofline at full peaks (reading weights, touched experts and cache of all
    that were sent, or computing them and their prompts) is set aside by itself: the engine had fewer in flight.

    Returns
    -------
    A mask, shape (points,), for each reason; no point is in two.
    """
    p = points.placement
    prompt, output, sent = (points.column(name) for name in ("input_tokens", "output_tokens", "concurrency"))
    tpot, flight = points.column("tpot_s"), np.clip(sent, 1.0, points.room)
    sets = points.table[["harness", "model", "gpu", "precision"]].astype(str).agg("|".join, axis=1)
    cached = sets.isin(set(sets[compute_share(points) > POSSIBLE_SHARE])).to_numpy()
    touched = 1 - p.expert_miss**flight
    read = (p.weights_bytes + p.experts_bytes * touched + p.kv_bytes * flight * (prompt + output / 2)) / p.bandwidth
    compute = p.token_flop / p.peak * (flight + (flight - 1) * prompt / output)
    return {PROMPTS_NOT_COMPUTED: cached, BELOW_THE_ROOFLINE: ~cached & (tpot < np.maximum(read, compute))}


def compute_share(points: Points) -> Floats:
    """Share of the GPUs' dense peak that a point's throughput implies if every prompt was computed, shape (points,).

    Requests per second (concurrency / E2E, Little's law) x FLOPs of a request's tokens / peak.
    """
    p = points.placement
    prompt, output, sent = (points.column(name) for name in ("input_tokens", "output_tokens", "concurrency"))
    e2e = np.nan_to_num(points.column("ttft_s")) + (output - 1) * points.column("tpot_s")
    flop = p.token_flop * (prompt + output) + p.pair_flop * (prompt**2 / 2 + prompt * output)
    with np.errstate(divide="ignore"):  # answers of one token without a TTFT: no throughput is known
        return np.where(e2e > 0, sent * flop / (p.peak * e2e), 0.0)


def possible(points: Points) -> Points:
    """The points that are not set aside.

    Raises
    ------
    InputError
        If that is none.
    """
    wrong = impossible(points)
    if wrong.all():
        raise InputError(
            "all measured points are faster than the GPU can compute their prompts or read their weights. Were prompts "
            "repeated to an engine that caches them, or were fewer requests in flight than `concurrency`? Measure with "
            "distinct prompts, and check that times are in seconds"
        )
    return points.take(~wrong)


# Fitting


class Fit:
    """Constants of engines and harnesses fitted to points; MAP in the logs of the constants, with a robust loss.

    Parameters
    ----------
    points : what is fitted to.
    around : an engine's row that the constants are held near, for points of that engine alone; left out, near what
        is expected of any engine (:data:`COMMON`, :data:`OWN`), which then share the constants of ``COMMON``.
    looseness : factor on how far a constant may move from where it is expected.

    Notes
    -----
    Least is the sum over points of a pseudo-Huber loss of log(predicted / measured) / scale (:data:`ACROSS`, or
    :data:`OWN_RUNS` around a row), plus the squares of (log constant - log expected) / deviation. TPOT first; then
    TTFT, at those step times, gives what only it tells of.
    """

    def __init__(self, points: Points, around: EngineRow | None = None, looseness: float = 1.0) -> None:
        self.points, self.scale = points, ACROSS if around is None else OWN_RUNS
        self.engines, self.harnesses = (sorted(set(points.column(name))) for name in ("engine", "harness"))
        # Of measured requests these two cannot be told.
        self.kept = {name: getattr(around, name) if around else 0.0 for name in ("overlap", "repack")}
        self.own = {name: OWN[name] for name in OWN if around is None or name != "engine_s"}
        expected: dict[str, tuple[float, float]] = {}
        for name, (mean, deviation) in COMMON.items():
            expected[name] = mean if around is None else getattr(around, name), deviation * looseness
        for engine in self.engines:
            for name, (mean, deviation) in self.own.items():
                expected[f"{name}:{engine}"] = mean if around is None else getattr(around, name), deviation * looseness
        for harness in self.harnesses:
            for name, (mean, deviation) in HARNESS.items():
                expected[f"{name}:{harness}"] = mean if around is None else max(NEUTRAL[name], 1e-3), deviation
        self.names = list(expected)
        kinds = [name.split(":")[0] for name in self.names]
        self.most = np.array([0.0 if kind in {*SHARES, "burst", "behind"} else np.inf for kind in kinds])
        self.mean = np.minimum(np.log([max(mean, 1e-9) for mean, _ in expected.values()]), self.most - 1e-3)
        self.deviation = np.array([deviation for _, deviation in expected.values()])
        self.is_ttft = np.array([kind in {"request_s", *HARNESS} for kind in kinds])
        self.vector = self._solved()

    def constants(self, vector: Floats, points: Points) -> tuple[Any, dict[str, Floats]]:
        """Constants of each point's engine and of its harness; of one that was not fitted, as expected."""
        return self._constants(vector, self._places(points))

    def _places(self, points: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each point's engine and harness are among those fitted; behind the last, if they are not."""
        columns = (("engine", self.engines), ("harness", self.harnesses))
        engine, harness = (_index(fitted, points.column(column)) for column, fitted in columns)
        return engine, harness

    def _constants(self, vector: Floats, places: tuple[Any, Any]) -> tuple[Any, dict[str, Floats]]:
        named = dict(zip(self.names, np.exp(vector).tolist(), strict=True))
        values: dict[str, Any] = {name: named[name] for name in COMMON}

        def each(where: Any, fitted: list[str], known: Mapping[str, tuple[float, float]]) -> dict[str, Floats]:
            return {
                name: np.array([*(named[f"{name}:{one}"] for one in fitted), NEUTRAL.get(name, mean)])[where]
                for name, (mean, _) in known.items()
            }

        own = each(places[0], self.engines, self.own)
        values["fixed_s"] = values["fixed_s"] + own.pop("engine_s", 0.0)
        return SimpleNamespace(**values, **own, **self.kept), each(places[1], self.harnesses, HARNESS)

    def predict(self, points: Points, *, harness_known: bool = True) -> Prediction:
        """What the fitted constants say of any points; those of their harness only where that may be known."""
        engine, harness = self.constants(self.vector, points)
        neutral = {name: np.full(len(points), mean) for name, mean in NEUTRAL.items()}
        return _predicted(points, engine, harness if harness_known else neutral)

    def _solved(self) -> Floats:
        """The logs of the constants, TPOT's first and then what only TTFT tells of."""
        from scipy.optimize import least_squares

        measured = {"tpot_s": self.points.column("tpot_s"), "ttft_s": self.points.column("ttft_s").astype(float)}
        vector, places = self.mean.copy(), self._places(self.points)
        for what, part in (("tpot_s", ~self.is_ttft), ("ttft_s", self.is_ttft)):
            seen = np.isfinite(measured[what])
            if not seen.any():
                continue

            def residuals(free: Floats, what: str = what, part: Bools = part, seen: Bools = seen) -> Floats:
                trial = vector.copy()
                trial[part] = free
                made = getattr(_predicted(self.points, *self._constants(trial, places)), what)
                off = np.log(made[seen] / measured[what][seen]) / self.scale[what]
                robust = np.sqrt(2 * (np.sqrt(1 + off**2) - 1)) * np.sign(off)  # pseudo-Huber
                return np.concatenate([robust, (free - self.mean[part]) / self.deviation[part]])

            least = np.full(int(part.sum()), -40.0)
            bounds = least, self.most[part]
            # lsmr: by the exact solver the SVD of each step is slow where other processes use the cores.
            vector[part] = least_squares(residuals, vector[part], bounds=bounds, diff_step=1e-4, tr_solver="lsmr").x
        return vector

    def engines_fitted(self) -> dict[str, dict[str, float]]:
        """The constants of each engine by its id, to three digits."""
        named = dict(zip(self.names, np.exp(self.vector).tolist(), strict=True))
        shared = {name: named[name] for name in COMMON if name != "fixed_s"}
        made = {}
        for engine in self.engines:
            values = {**shared, **self.kept}
            values["fixed_s"] = named["fixed_s"] + named.get(f"engine_s:{engine}", 0.0)
            values |= {name: named[f"{name}:{engine}"] for name in ("sequence_s", "request_s")}
            made[engine] = {name: float(f"{values[name]:.3g}") for name in ENGINE_FIELDS}
        return made


def _index(known: Sequence[str], names: Any) -> NDArray[np.int64]:
    """The index of each name in ``known``, or its length."""
    where = {name: i for i, name in enumerate(known)}
    return np.array([where.get(name, len(known)) for name in names], dtype=np.int64)


def calibrate(
    measurements: str | Path | pd.DataFrame, catalog: Catalog | None = None, *, looseness: float = 1.0
) -> Catalog:
    """A catalog whose engines fit measurements of one's own; engines that were not measured stay as they are.

    Parameters
    ----------
    measurements : see :func:`read_measurements`. One run at a handful of concurrencies is enough: each constant is
        held near the catalog's, and moves as far as the measurements ask for.
    catalog : what to start from; the shipped one if left out.
    looseness : how far a constant may move, as a share of what a fit from nothing allows; above 0.

    Returns
    -------
    The catalog with new rows of ``engines``. Their ``tpot_factor`` and its kin stay: they are errors on models that
    were not fitted, which a few points of one's own do not tell of.

    Raises
    ------
    InputError
        If the measurements cannot be read, or all of them are faster than the hardware.
    UnknownName
        For a model, GPU or engine that the catalog does not know.

    Examples
    --------
    An engine that takes 3 ms a step longer than the catalog's: two runs of one model tell of it.

    >>> import pandas as pd
    >>> from distillcalc.catalog import Catalog
    >>> from distillcalc.estimate.calibration import calibrate
    >>> runs = pd.DataFrame({
    ...     "model": "qwen3-8b", "gpu": "h100-sxm", "engine": "vllm", "input_tokens": 500, "output_tokens": 200,
    ...     "concurrency": [1, 16], "tpot_s": [0.0120, 0.0130],
    ... })
    >>> mine = calibrate(runs)
    >>> mine.engines["vllm"].fixed_s > Catalog.load().engines["vllm"].fixed_s
    True
    """
    if not looseness > 0:
        raise InputError(f"looseness must be above 0. Got {looseness}. It is how far constants may leave the catalog's")
    known = catalog or Catalog.load()
    points = read_measurements(measurements, known)
    for engine in sorted(set(points.column("engine"))):
        known.engine(engine)
    used = possible(points)
    rows: dict[str, dict[str, Any]] = {}
    for engine in sorted(set(used.column("engine"))):
        one = used.take(used.column("engine") == engine)
        (constants,) = Fit(one, known.engines[engine], looseness).engines_fitted().values()
        aside = int((points.column("engine") == engine).sum()) - len(one)
        source = f"fitted to {len(one)} points of one's own" + (f"; {aside} set aside" if aside else "")
        rows[engine] = {**constants, "rows": len(one), "source": source, "checked": date.today(), "note": ""}
    return known.with_overrides({"engines": rows})


def fitted_engines(points: Points) -> dict[str, dict[str, Any]]:
    """Constants of each engine fitted to points alone, with the number of points that tell of it."""
    used = possible(points)
    made = Fit(used).engines_fitted()
    return {engine: {**values, "rows": int((used.column("engine") == engine).sum())} for engine, values in made.items()}
