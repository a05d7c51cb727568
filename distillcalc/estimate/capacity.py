"""How fast a self-hosted model is and how many machines the peak needs, in closed form.

An engine's step time is :mod:`.step_time`'s subject; here a request costs its prefill, its share of the steps and what
its prompt adds to those of others. All functions take arrays that broadcast over (GPUs, scenarios, months). The
simulation of the same engine, request by request, is :mod:`.simulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import EngineRow, GpuRow, ModelRow
from distillcalc.errors import UnknownName
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.step_time import BITS, CONSTANTS, Placement, StepTime, Weights
from distillcalc.workload.lengths import JointLengths
from distillcalc.workload.scenario import Serving

Floats = NDArray[np.float64]

TENSOR_PARALLEL = (1, 2, 4, 8)
NO_OBJECTIVE_PERCENTILE = 0.95
EDGE_ENGINE = "llama-cpp"  # what runs on phones and CPUs
ANYWHERE = ("transformers", EDGE_ENGINE)  # engines that need no GPU


@dataclass(frozen=True)
class Machines:
    """One model on each of several GPU types: the constants of its step time, shape (gpus, 1, 1).

    Parameters
    ----------
    gpus : ids.
    fits : whether the weights fit with room for one request, in as many GPUs as there may be.
    tensor_parallel : GPUs per replica.
    step : time of an engine step.
    request_s : time that a request takes before its first step [s].
    kv_bytes : cache of one token, over all GPUs of a replica [bytes].
    free_bytes : memory left for caches in a replica [bytes].
    weights_gb : of the weights, as held.
    max_sequences : most requests that the engine takes into one step.
    """

    gpus: tuple[str, ...]
    fits: NDArray[np.bool_]
    tensor_parallel: Floats
    step: StepTime
    request_s: Floats
    kv_bytes: Floats
    free_bytes: Floats
    weights_gb: float
    max_sequences: float

    def slower(self, factor: Floats | float) -> Machines:
        """The same machines with every engine step that many times as long; themselves where that is one."""
        if np.all(np.asarray(factor) == 1.0):
            return self
        times = (f.name for f in fields(self.step) if f.name.endswith("_s"))
        return replace(self, step=replace(self.step, **{name: getattr(self.step, name) * factor for name in times}))

    def reading_s(self, batch: Any) -> Floats:
        """Time to read, and to rearrange, the weights that a step of so many tokens uses [s]."""
        step = self.step
        if not self.reading_grows:
            return np.asarray(step.weights_s)
        several = np.clip(np.asarray(batch, dtype=float) - 1, 0, 1)
        touched = 1 - step.expert_miss ** np.asarray(batch, dtype=float)
        return np.asarray(step.weights_s + step.repack_s * several + step.experts_s * touched)

    @property
    def reading_grows(self) -> bool:
        """Whether a larger batch reads more of the weights, or rearranges them."""
        return bool(np.any(self.step.experts_s) or np.any(self.step.repack_s))


def serving_precision(row: ModelRow, asked: str) -> str:
    """The precision that weights are held in: as asked, or as they are published where that is smaller.

    Where fp32 is asked for, 16 bits are widened: that is what a CPU without bf16 units does.
    """
    if asked == "fp32":
        return asked
    native = row.native_precision or "bf16"
    return native if BITS[native] < BITS[asked] else asked


def machines(
    row: ModelRow,
    gpus: Sequence[tuple[str, GpuRow]],
    serving: Serving,
    engines: Mapping[str, EngineRow],
    tensor_parallel: Sequence[int | None] | None = None,
) -> Machines:
    """Constants of a model's step time on each GPU, see :class:`distillcalc.estimate.step_time.StepTime`.

    Parameters
    ----------
    tensor_parallel : GPUs per replica, for each of ``gpus``; left out or None, what ``serving`` says, or the fewest
        whose memory holds the weights.

    Raises
    ------
    UnknownName
        For an engine that the catalog does not know.
    """
    assert row.shape is not None
    assert row.params_b is not None
    precision = serving_precision(row, serving.precision)
    weights = Weights.of(row, precision)
    parallel, fits, free, held_kv, placements, rows = [], [], [], [], [], []
    for i, (_, gpu) in enumerate(gpus):
        memory = gpu.memory_gb * 1e9 * (1 - serving.memory_margin)
        asked = (tensor_parallel[i] if tensor_parallel is not None else None) or serving.tensor_parallel
        widths = widths_of(row) if gpu.kind == "gpu" else (1,)
        n = asked or next((n for n in widths if n * memory > weights.total * 1.05), widths[-1])
        placement = Placement.of(row, gpu, precision, n, kv_precision=serving.kv_precision)
        parallel.append(float(n))
        fits.append(n * memory > weights.total * 1.05)
        free.append(max(n * memory - weights.total, 0.0))
        held_kv.append(placement.kv_bytes * n)
        placements.append(placement)
        rows.append(engine_of(engines, serving, gpu))

    def column(values: Any) -> Floats:
        return np.asarray(values, dtype=float)[:, None, None]

    constants = SimpleNamespace(
        **{name: np.array([getattr(one, name) for one in rows]) for name in EngineRow.model_fields if name in CONSTANTS}
    )
    step = StepTime.of(Placement.stack(placements), constants)
    return Machines(
        gpus=tuple(name for name, _ in gpus),
        fits=np.array(fits)[:, None, None],
        tensor_parallel=column(parallel),
        step=StepTime(*(column(np.broadcast_to(value, len(rows))) for value in vars(step).values())),
        request_s=column([one.request_s for one in rows]),
        kv_bytes=column(held_kv),
        free_bytes=column(free),
        weights_gb=weights.total / 1e9,
        max_sequences=float(serving.max_sequences),
    )


def widths_of(row: ModelRow) -> tuple[int, ...]:
    """GPUs that a replica may have: engines split the attention heads evenly."""
    assert row.shape is not None
    heads = row.shape.heads
    return tuple(n for n in TENSOR_PARALLEL if heads % n == 0)


def engine_of(engines: Mapping[str, EngineRow], serving: Serving, gpu: GpuRow) -> EngineRow:
    """The constants of the engine that serves on a GPU, with what the scenario gives laid over them."""
    name = serving.engine if gpu.kind == "gpu" or serving.engine in ANYWHERE else EDGE_ENGINE
    if name not in engines:
        raise UnknownName("engine", name, engines, "See `distillcalc catalog engines`.")
    given: dict[str, float] = {}
    if serving.mfu is not None:
        given |= dict.fromkeys(("mfu_bf16", "mfu_fp8", "mfu_fp4", "expert_mfu", "attention_mfu"), serving.mfu)
    if serving.mbu is not None:
        given |= dict.fromkeys(("mbu", "kv_mbu", "expert_mbu"), serving.mbu)
    if serving.fixed_step_ms is not None:
        given |= {"fixed_s": serving.fixed_step_ms / 1000, "layer_s": 0.0, "expert_layer_s": 0.0, "quantise_s": 0.0}
    return engines[name].model_copy(update=given) if given else engines[name]


@dataclass(frozen=True)
class Load:
    """The request as the engine sees it, shape (n, 1) each: tokens in and out, at the mean and in the tail."""

    mean_input: Floats
    mean_input_squared: Floats
    mean_output: Floats
    lengths: JointLengths
    thinking: Floats

    @classmethod
    def of(cls, lengths: JointLengths, thinking: Floats) -> Load:
        """Thinking tokens are output tokens that come before the answer."""
        return cls(
            lengths.mean_input,
            lengths.mean_input_squared,
            np.maximum(lengths.mean_output + thinking, 1.0),
            lengths,
            thinking,
        )

    def input_at(self, level: float) -> Floats:
        """Prompt length [tokens] at a percentile."""
        return self.lengths.input_quantile(level)

    def output_at(self, level: float) -> Floats:
        """Output length [tokens] at a percentile, thinking included."""
        return np.maximum(self.lengths.output_quantile(level) + self.thinking, 1.0)

    @property
    def mean_total(self) -> Floats:
        """Tokens that a request holds in the cache when it ends."""
        return self.mean_input + self.mean_output

    @property
    def mean_context(self) -> Floats:
        """Tokens that a decode step reads per request, on average."""
        return self.mean_input + self.mean_output / 2


def prefill_s(m: Machines, tokens: Floats, tokens_squared: Floats) -> Floats:
    """Time to read a prompt alone [s]: one step of nothing else."""
    return m.step.seconds(1.0, tokens, 0.0, tokens_squared / 2)


def prompt_s(m: Machines, load: Load) -> Floats:
    """What a mean prompt adds to the steps of the requests that are being answered [s]: computing and exchanging it."""
    tokens, pairs = load.mean_input, load.mean_input_squared / 2
    return np.asarray((m.step.token_s + m.step.exchange_s) * tokens + m.step.pair_s * pairs)


@dataclass(frozen=True)
class Lines:
    """TPOT as the larger of two straight lines in the batch, one where reading is longer and one where computing is.

    Parameters
    ----------
    fixed, slope : [s] of each line; the batch may be any positive number.
    """

    fixed: tuple[Floats, Floats]
    slope: tuple[Floats, Floats]

    @classmethod
    def of(cls, m: Machines, load: Load, reading: Floats, prompt: Floats) -> Lines:
        """Step + (b - 1) x prompt / output tokens, with ``reading`` [s] of weights a step."""
        step, serial = m.step, 1 - m.step.overlap
        cache, token, per_output = load.mean_context * step.kv_s, step.token_s, prompt / load.mean_output
        always = step.sequence_s + step.exchange_s + per_output
        return cls(
            (step.fixed_s + reading - per_output, step.fixed_s + serial * reading - per_output),
            (always + cache + serial * token, always + token + serial * cache),
        )

    def at(self, batch: Floats) -> Floats:
        """TPOT [s] at a batch."""
        return np.maximum(self.fixed[0] + batch * self.slope[0], self.fixed[1] + batch * self.slope[1])

    def largest_batch(self, limit: Floats | float) -> Floats:
        """The largest batch whose TPOT is at most ``limit`` [s]."""
        return np.minimum((limit - self.fixed[0]) / self.slope[0], (limit - self.fixed[1]) / self.slope[1])


def pace(m: Machines, load: Load, prompt: Floats) -> Callable[[Floats], Floats]:
    """TPOT [s] as a function of the batch, the others' prompts included: step + (b - 1) x prompt / output."""
    if not m.reading_grows:
        return Lines.of(m, load, m.reading_s(1.0), prompt).at
    return lambda batch: Lines.of(m, load, m.reading_s(batch), prompt).at(batch)


def tpot_s(m: Machines, load: Load, batch: Floats, prompt: Floats) -> Floats:
    """Time per output token at a batch [s], see :func:`pace`."""
    return pace(m, load, prompt)(batch)


def largest_batch(m: Machines, load: Load, prompt: Floats, limit: Floats | float, most: Floats) -> Floats:
    """The largest batch whose TPOT is at most ``limit`` [s].

    In closed form for a dense model. The experts that a batch touches make TPOT of a mixture a curve: bisection.
    """
    if not m.reading_grows:
        return Lines.of(m, load, m.reading_s(1.0), prompt).largest_batch(limit)
    low, high = np.zeros(np.broadcast_shapes(most.shape, np.shape(limit))), np.broadcast_to(most, most.shape) + 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        meets = tpot_s(m, load, np.maximum(middle, 1e-9), prompt) <= limit
        low, high = np.where(meets, middle, low), np.where(meets, high, middle)
    return np.asarray(low)


BISECTIONS = 40


@dataclass(frozen=True)
class ReplicaCapacity:
    """What one replica can do under the objectives, shape (gpus, n, 1).

    Parameters
    ----------
    batch : most requests in flight that meet the objectives, whole; 0 where none does.
    room : most requests in flight that the memory holds, whole; 0 where the weights do not fit.
    requests_per_s : at that batch.
    seconds : time that one request stays in the engine at that batch.
    prefill : mean prefill, alone [s].
    prompt : what a mean prompt adds to the steps of others [s].
    floor_s : least value that each objective can have on this machine, by its name.
    """

    batch: Floats
    room: Floats
    requests_per_s: Floats
    seconds: Floats
    prefill: Floats
    prompt: Floats
    floor_s: dict[str, Floats]


def replica_capacity(m: Machines, load: Load, objectives: list[tuple[str, float, float]]) -> ReplicaCapacity:
    """The largest batch that fits the memory and meets every objective, in closed form.

    TPOT is the larger of two straight lines in the batch, so the tightest limit on it gives a largest batch;
    TTFT limits the share of time that goes into prefill, and so does E2E, which is never below TTFT.
    """
    prefill = prefill_s(m, load.mean_input, load.mean_input_squared)
    prompt = prompt_s(m, load)
    room = np.where(m.fits, np.minimum(m.free_bytes / (m.kv_bytes * load.mean_total), m.max_sequences), 0.0)
    batch = room
    tpot = pace(m, load, prompt)
    one_step = tpot(np.ones((1, 1)))
    thinks = load.thinking > 0
    prefill_share = np.ones((1, 1, 1))
    floors: dict[str, Floats] = {}
    slowest: Floats | float = np.inf  # the tightest limit on TPOT
    for what, level, limit in objectives:
        name = f"{what}_p{round(level * 100)}"
        longest_prefill = prefill_s(m, load.input_at(level), load.input_at(level) ** 2)
        if what == "tpot":
            floors[name] = one_step
            slowest = np.minimum(slowest, limit)
            continue
        # Thinking tokens come before the first visible one.
        longest_prefill = longest_prefill + m.request_s
        floors[name] = longest_prefill + load.thinking * one_step + one_step
        # A thinking model gives prefill at most half the engine and the rest of the limit to its thoughts.
        alone = limit - one_step - load.thinking * one_step
        share = np.minimum(1 - longest_prefill / np.maximum(alone, 1e-12), np.where(thinks, 0.5, 1.0))
        prefill_share = np.minimum(prefill_share, np.where(alone > longest_prefill, share, 0.0))
        per_thought = (limit - one_step - 2 * longest_prefill) / np.maximum(load.thinking, 1e-9)
        # One request alone may think as slowly as it does.
        slowest = np.minimum(slowest, np.where(thinks, np.maximum(per_thought, one_step), np.inf))
        if what == "e2e":
            outputs = load.output_at(level)
            floors[name] = np.maximum(floors[name], longest_prefill + (outputs - 1) * one_step)
            after_first = (limit - longest_prefill) / np.maximum(outputs - 1, 1e-9)
            slowest = np.minimum(slowest, np.where(limit > longest_prefill, after_first, 0.0))
    if np.any(np.isfinite(slowest)):
        batch = np.minimum(batch, largest_batch(m, load, prompt, slowest, np.maximum(room, 1.0)))
    batch = np.where(prefill_share > 0, np.maximum(np.floor(batch + 1e-9), 0.0), 0.0)
    at_batch = np.maximum(batch, 1.0)
    seconds = prefill + (load.mean_output - 1) * tpot(at_batch)
    rate = np.minimum(at_batch / seconds, prefill_share / np.maximum(prompt, 1e-12))
    usable = np.where(batch >= 1, rate, 0.0)
    return ReplicaCapacity(batch, np.floor(room), usable, seconds, prefill, prompt, floors)


def shortfall(capacity: ReplicaCapacity, objectives: list[tuple[str, float, float]]) -> Floats:
    """How far a machine is from the objectives: the largest floor / limit, infinite where it has no room."""
    worst = np.zeros((1, 1, 1))
    for what, level, limit in objectives:
        worst = np.maximum(worst, capacity.floor_s[f"{what}_p{round(level * 100)}"] / limit)
    return np.where(capacity.room >= 1, worst, np.inf)


@cache
def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(level))


def replicas_needed(capacity: ReplicaCapacity, arrivals_per_s: Floats, interarrival_cv: Floats, level: float) -> Floats:
    """Replicas that a peak needs, whole, shape (gpus, n, months).

    Square-root staffing: the requests in flight at an arrival rate r have mean a = r S and variance a Z
    around it, Z = (cv^2 + 1) / 2 the peakedness of arrivals under exponential service; slots for
    a + z sqrt(a Z) leave a share 1 - level of arrivals waiting (Halfin and Whitt, Operations Research 29,
    1981; Whitt, Management Science 38, 1992). Never below what keeps the queue stable.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        in_flight = arrivals_per_s * capacity.seconds
        peakedness = (interarrival_cv**2 + 1) / 2
        slots = in_flight + _normal_quantile(level) * np.sqrt(in_flight * peakedness)
        by_slots = slots / capacity.batch
        by_rate = arrivals_per_s / capacity.requests_per_s
        needed = np.ceil(np.maximum(by_slots, by_rate) - 1e-9)
    return np.asarray(np.where(capacity.batch >= 1, np.maximum(needed, 1.0), np.nan))


@dataclass(frozen=True)
class Fleet:
    """A fleet over the horizon, for one machine of each GPU type, shape (gpus, n, months).

    Parameters
    ----------
    replicas : paid for, on average over the week, spares included.
    busiest : needed in the busiest hour, spares left out.
    utilisation : share of the fleet's capacity that the traffic uses, averaged over the week.
    """

    replicas: Floats
    busiest: Floats
    utilisation: Floats


def fleet(
    x: Inputs,
    capacity: ReplicaCapacity,
    level: float,
    *,
    spares: bool = True,
    needed: Callable[[Floats], Floats] | None = None,
) -> Fleet:
    """Replicas in each month: the busiest hour's all week, or hour by hour where autoscaling is on.

    A machine that autoscaling adds is ordered, and paid, as long before its hour as it takes to start.

    Parameters
    ----------
    level : percentile of the requests that find a slot.
    spares : False where a provider answers for broken machines.
    needed : replicas at arrival rates [1/s]; left out, :func:`replicas_needed`.
    """
    serving, profile = x.scenario.choices.serving, x.scenario.workload.profile
    mean_rate = x.requests_per_day / 86_400
    cv = x["interarrival_cv"]
    at_rate = needed or (lambda rate: replicas_needed(capacity, rate, cv, level))
    least, spare = x["min_replicas"], x["spare_replicas"] if spares else np.zeros((1, 1))
    busiest = np.maximum(at_rate(mean_rate * profile.peak), np.maximum(least, 1.0))
    if serving.autoscaling and len(profile.levels) > 1:
        fleets = [np.maximum(at_rate(mean_rate * rate), np.maximum(least, 1.0)) for rate in profile.levels]
        paid: Any = sum(hours * count for hours, count in zip(profile.hours, fleets, strict=True))
        early = min(serving.start_up_s / 3600, 1.0)
        for low, high, hours in x.scenario.workload.rises if early else ():
            paid = paid + hours * early * (fleets[high] - fleets[low])
        replicas = paid + spare
    else:
        replicas = busiest + spare
    if serving.stays and spares:  # a machine that is owned or reserved is paid for when the peak is past
        replicas = np.maximum.accumulate(replicas, axis=-1) * (x.days > 0)  # months come last
    with np.errstate(divide="ignore", invalid="ignore"):
        utilisation = mean_rate / (replicas * capacity.requests_per_s)
    return Fleet(replicas, busiest, utilisation)


def in_flight(m: Machines, load: Load, capacity: ReplicaCapacity, rate: Floats) -> Floats:
    """Requests in flight on one replica at an arrival rate: Little's law, solved for itself.

    b = rate x S(b) with S(b) = prefill + (output - 1) TPOT(b). TPOT is the larger of two straight lines, so b is
    the larger of two quotients; infinite where the replica cannot keep up. A mixture of experts is taken to touch
    those of its largest batch.
    """
    steps, prefill = load.mean_output - 1, capacity.prefill
    lines = Lines.of(m, load, m.reading_s(np.maximum(capacity.batch, 1.0)), capacity.prompt)
    found: Any = 0.0
    for fixed, slope in zip(lines.fixed, lines.slope, strict=True):
        growing = rate * steps * slope
        still = rate * (prefill + steps * fixed)
        found = np.maximum(found, np.where(growing < 1, still / np.maximum(1 - growing, 1e-12), np.inf))
    alone = rate * (prefill + steps * lines.at(np.ones((1, 1))))
    return np.asarray(np.where(alone < 1, alone, found))


def latencies(
    m: Machines,
    load: Load,
    capacity: ReplicaCapacity,
    arrivals_per_s: Floats,
    busiest: Floats,
    cv: Floats,
    *,
    levels: Sequence[float] = (0.5, 0.95, 0.99),
) -> dict[str, Floats]:
    """Latency in the busiest hour of the busiest month [s] by objective name, shape (gpus, n, 1).

    ``levels`` are the percentiles asked for, as shares.

    The median request meets the mean number in flight, a tail one the number that staffing allows for; no more
    than the largest batch are ever in flight.
    """
    from scipy.special import ndtri

    at_batch = pace(m, load, capacity.prompt)
    one_step = at_batch(np.ones((1, 1)))
    rate, most = arrivals_per_s / busiest, np.maximum(capacity.batch, 1.0)
    mean = np.minimum(in_flight(m, load, capacity, rate), most)
    found: dict[str, Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        busy = np.max(rate, axis=2, keepdims=True) * capacity.prompt
        for level in levels:
            margin = float(ndtri(level)) * np.sqrt(mean * (cv**2 + 1) / 2 / busiest)
            batch = np.max(mean + margin, axis=2, keepdims=True)
            tpot = at_batch(np.minimum(np.maximum(batch, 1.0), most))
            prompt = load.input_at(level)
            reading = prefill_s(m, prompt, prompt**2)
            wait = 1 / np.maximum(1 - busy, 1e-3) if level > 0.5 else 1.0
            name = f"p{round(level * 100)}"
            first = m.request_s + reading * wait + one_step + load.thinking * tpot
            found[f"ttft_{name}"] = first
            found[f"tpot_{name}"] = tpot
            # TPOT already holds every other request's prefill once, so the end is not kept waiting twice;
            # but where the answer is a token or two it is the first token's wait that counts.
            found[f"e2e_{name}"] = np.maximum(first, m.request_s + reading + (load.output_at(level) - 1) * tpot)
    return found


def memory_sentence(m: Machines, row: ModelRow, name: str, gpu_index: int, gpu: GpuRow, serving: Serving) -> str:
    """Why a model does not fit, by how much, and which precision or number of GPUs would."""
    n = int(m.tensor_parallel[gpu_index, 0, 0])
    usable = gpu.memory_gb * (1 - serving.memory_margin)
    where = f"{n} x {m.gpus[gpu_index]}" if n > 1 else m.gpus[gpu_index]
    needed = m.weights_gb * 1.05
    short = needed - n * usable
    held = BITS[serving_precision(row, serving.precision)]
    smaller = (precision for precision in ("fp8", "int4") if BITS[precision] < held)
    fitting = (one for one in smaller if Weights.of(row, one).total * 1.05 < n * usable * 1e9)
    ways = [precision for precision in [next(fitting, None)] if precision]
    more = next((k for k in widths_of(row) if k > n and needed < k * usable), None)
    if more and gpu.kind == "gpu":
        ways.append(f"{more} GPUs")
    return (
        f"{name} needs {needed:.3g} GB ({m.weights_gb:.3g} of weights and 5% beside them); {where} offers "
        f"{n * usable:.3g} GB, {short:.3g} GB too little. {' or '.join(ways) or 'A larger GPU'} would hold it"
    )
