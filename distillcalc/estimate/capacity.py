"""How fast a self-hosted model is and how many machines the peak needs: the roofline, in closed form.

The step time of an engine is the larger of reading the weights and the cache, and computing; a request
costs its prefill and its share of the steps. All functions take arrays that broadcast over
(GPUs, scenarios, months). A simulation of the queue is not this module's subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import GpuRow, ModelRow
from distillcalc.estimate.inputs import Inputs
from distillcalc.workload.lengths import JointLengths
from distillcalc.workload.scenario import Serving

Floats = NDArray[np.float64]

BITS = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4}
TENSOR_PARALLEL = (1, 2, 4, 8)
ALL_REDUCE_S = 5e-6  # latency of one all-reduce inside a machine; two a layer
NO_OBJECTIVE_PERCENTILE = 0.95


def kv_bytes_per_token(row: ModelRow) -> float:
    """Key-value cache of one token in bf16 [bytes]: 2 x layers x KV heads x head size x 2 bytes."""
    assert row.shape is not None
    own = row.shape.kv_bytes_per_token_bf16
    return float(own or 4 * row.shape.layers * row.shape.kv_heads * row.shape.head_dim)


def weight_bytes(row: ModelRow, precision: str) -> float:
    """Size of the weights [bytes]: parameters x bits / 8."""
    assert row.params_b is not None
    return row.params_b * 1e9 * BITS[precision] / 8


@dataclass(frozen=True)
class Machines:
    """One model on each of several GPU types: the constants of its step time, shape (gpus, 1, 1).

    Parameters
    ----------
    gpus : ids.
    fits : whether the weights fit with room for one request, in at most 8 GPUs.
    tensor_parallel : GPUs per replica.
    weights_s : time to read the weights once [s].
    kv_s_per_token : time to read the cache of one token [s].
    flop_s_per_token : time to compute one decoded token [s].
    prefill_s_per_token, prefill_s_per_token2 : linear and quadratic (attention) coefficient of prefill [s].
    overhead_s : per engine step beyond the roofline [s].
    kv_bytes, free_bytes : cache of one token; memory left for caches in a replica [bytes].
    """

    gpus: tuple[str, ...]
    fits: NDArray[np.bool_]
    tensor_parallel: Floats
    weights_s: Floats
    kv_s_per_token: Floats
    flop_s_per_token: Floats
    prefill_s_per_token: Floats
    prefill_s_per_token2: Floats
    overhead_s: Floats
    kv_bytes: float
    free_bytes: Floats
    weights_gb: float


def serving_precision(row: ModelRow, asked: str) -> str:
    """The precision that weights are held in: as asked, or as they are published where that is smaller."""
    native = row.native_precision or "bf16"
    return native if BITS[native] < BITS[asked] else asked


def machines(row: ModelRow, gpus: Sequence[tuple[str, GpuRow]], serving: Serving) -> Machines:
    """Constants of a model's step time on each GPU.

    Notes
    -----
    Decode step = max[(W + b ctx KV) / (TP BW MBU), 2 P b / (TP peak MFU)] + overhead.
    Prefill = (2 P s + 2 L A s^2) / (TP peak MFU), A the width of attention, causal.
    P counts active parameters, W all of them (at the batch sizes that pay, every expert is touched).
    """
    assert row.shape is not None
    assert row.params_b is not None
    active = (row.active_params_b or row.params_b) * 1e9
    precision = serving_precision(row, serving.precision)
    weights = weight_bytes(row, precision)
    width = row.shape.heads * row.shape.head_dim
    kv = kv_bytes_per_token(row)
    parallel, fits, columns = [], [], []
    for _, gpu in gpus:
        memory = gpu.memory_gb * 1e9 * (1 - serving.memory_margin)
        tp = next((n for n in TENSOR_PARALLEL if n * memory > weights * 1.05), None)
        n = tp or TENSOR_PARALLEL[-1]
        peak = _peak_flops(gpu, precision) * n * serving.mfu
        bandwidth = gpu.bandwidth_gb_s * 1e9 * n * serving.mbu
        reduce_s = 2 * row.shape.layers * ALL_REDUCE_S if n > 1 else 0.0
        parallel.append(float(n))
        fits.append(tp is not None)
        columns.append(
            (
                weights / bandwidth,
                kv / bandwidth,
                2 * active / peak,
                2 * row.shape.layers * width / peak,
                serving.fixed_step_ms / 1000 + reduce_s,
                n * memory - weights,
            )
        )
    table = np.array(columns).T[:, :, None, None]
    return Machines(
        gpus=tuple(name for name, _ in gpus),
        fits=np.array(fits)[:, None, None],
        tensor_parallel=np.array(parallel)[:, None, None],
        weights_s=table[0],
        kv_s_per_token=table[1],
        flop_s_per_token=table[2],
        prefill_s_per_token=table[2],
        prefill_s_per_token2=table[3],
        overhead_s=table[4],
        kv_bytes=kv,
        free_bytes=np.maximum(table[5], 0.0),
        weights_gb=weights / 1e9,
    )


def _peak_flops(gpu: GpuRow, precision: str) -> float:
    if precision == "fp8" and gpu.fp8_tflops:
        return gpu.fp8_tflops * 1e12
    if precision == "int8" and gpu.int8_tops:
        return gpu.int8_tops * 1e12
    return gpu.bf16_tflops * 1e12  # weights in fewer bits are computed in bf16


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
    """Time to read a prompt [s]; never less than one pass over the weights."""
    compute = m.prefill_s_per_token * tokens + m.prefill_s_per_token2 * tokens_squared
    return np.asarray(np.maximum(compute, m.weights_s) + m.overhead_s)


def tpot_s(m: Machines, load: Load, batch: Floats, prefill: Floats) -> Floats:
    """Time per output token at a batch [s], other requests' prefill included: step + (b - 1) prefill / output."""
    step = np.maximum(m.weights_s + batch * load.mean_context * m.kv_s_per_token, batch * m.flop_s_per_token)
    return np.asarray(step + m.overhead_s + (batch - 1) * prefill / load.mean_output)


@dataclass(frozen=True)
class ReplicaCapacity:
    """What one replica can do under the objectives, shape (gpus, n, 1).

    Parameters
    ----------
    batch : most requests in flight that meet the objectives, whole; 0 where none does.
    room : most requests in flight that the memory holds, whole; 0 where the weights do not fit.
    requests_per_s : at that batch.
    seconds : time that one request stays in the engine at that batch.
    prefill : mean prefill [s].
    floor_s : least value that each objective can have on this machine, by its name.
    """

    batch: Floats
    room: Floats
    requests_per_s: Floats
    seconds: Floats
    prefill: Floats
    floor_s: dict[str, Floats]


def replica_capacity(m: Machines, load: Load, objectives: list[tuple[str, float, float]]) -> ReplicaCapacity:
    """The largest batch that fits the memory and meets every objective, in closed form.

    TPOT is the larger of two straight lines in the batch, so each limit on it gives a largest batch;
    TTFT limits the share of time that goes into prefill, and so does E2E, which is never below TTFT.
    """
    prefill = prefill_s(m, load.mean_input, load.mean_input_squared)
    per_output = prefill / load.mean_output
    slope_memory = load.mean_context * m.kv_s_per_token + per_output
    slope_compute = m.flop_s_per_token + per_output

    def largest_batch(tpot_limit: Floats | float) -> Floats:
        by_memory = (tpot_limit - m.weights_s - m.overhead_s + per_output) / slope_memory
        by_compute = (tpot_limit - m.overhead_s + per_output) / slope_compute
        return np.asarray(np.minimum(by_memory, by_compute))

    room = np.where(m.fits, m.free_bytes / (m.kv_bytes * load.mean_total), 0.0)
    batch = room
    one_step = tpot_s(m, load, np.ones((1, 1)), prefill)
    thinks = load.thinking > 0
    prefill_share = np.ones((1, 1, 1))
    floors: dict[str, Floats] = {}
    for what, level, limit in objectives:
        name = f"{what}_p{round(level * 100)}"
        longest_prefill = prefill_s(m, load.input_at(level), load.input_at(level) ** 2)
        if what == "tpot":
            floors[name] = one_step
            batch = np.minimum(batch, largest_batch(limit))
            continue
        # Thinking tokens come before the first visible one.
        floors[name] = longest_prefill + load.thinking * one_step + one_step
        # A thinking model gives prefill at most half the engine and the rest of the limit to its thoughts.
        alone = limit - one_step - load.thinking * one_step
        share = np.minimum(1 - longest_prefill / np.maximum(alone, 1e-12), np.where(thinks, 0.5, 1.0))
        prefill_share = np.minimum(prefill_share, np.where(alone > longest_prefill, share, 0.0))
        per_thought = (limit - one_step - 2 * longest_prefill) / np.maximum(load.thinking, 1e-9)
        batch = np.minimum(batch, np.where(thinks, np.maximum(largest_batch(per_thought), 1.0), np.inf))
        if what == "e2e":
            outputs = load.output_at(level)
            floors[name] = np.maximum(floors[name], longest_prefill + (outputs - 1) * one_step)
            after_first = (limit - longest_prefill) / np.maximum(outputs - 1, 1e-9)
            batch = np.minimum(batch, np.where(limit > longest_prefill, largest_batch(after_first), 0.0))
    batch = np.where(prefill_share > 0, np.maximum(np.floor(batch + 1e-9), 0.0), 0.0)
    at_batch = np.maximum(batch, 1.0)
    seconds = prefill + (load.mean_output - 1) * tpot_s(m, load, at_batch, prefill)
    rate = np.minimum(at_batch / seconds, prefill_share / prefill)
    return ReplicaCapacity(batch, np.floor(room), np.where(batch >= 1, rate, 0.0), seconds, prefill, floors)


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


def fleet(x: Inputs, capacity: ReplicaCapacity, level: float, *, spares: bool = True) -> Fleet:
    """Replicas in each month: the busiest hour's all week, or hour by hour where autoscaling is on.

    ``spares`` is False where a provider answers for broken machines.
    """
    serving, profile = x.scenario.choices.serving, x.scenario.workload.profile
    mean_rate = x.requests_per_day / 86_400
    cv = x["interarrival_cv"]
    least, spare = x["min_replicas"], x["spare_replicas"] if spares else np.zeros((1, 1))
    busiest = np.maximum(replicas_needed(capacity, mean_rate * profile.peak, cv, level), np.maximum(least, 1.0))
    if serving.autoscaling and len(profile.levels) > 1:
        paid: Any = 0.0
        for rate, hours in zip(profile.levels, profile.hours, strict=True):
            needed = replicas_needed(capacity, mean_rate * rate, cv, level)
            paid = paid + hours * np.maximum(needed, np.maximum(least, 1.0))
        replicas = paid + spare
    else:
        replicas = busiest + spare
    if serving.stays and spares:  # a machine that is owned or reserved is paid for when the peak is past
        replicas = np.maximum.accumulate(replicas, axis=2) * (x.days > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        utilisation = mean_rate / (replicas * capacity.requests_per_s)
    return Fleet(replicas, busiest, utilisation)


def in_flight(m: Machines, load: Load, prefill: Floats, rate: Floats) -> Floats:
    """Requests in flight on one replica at an arrival rate: Little's law, solved for itself.

    b = rate x S(b) with S(b) = prefill + (output - 1) TPOT(b). TPOT is the larger of two straight lines, so b is
    the larger of two quotients; infinite where the replica cannot keep up.
    """
    steps, per_output = load.mean_output - 1, prefill / load.mean_output
    lines = (m.weights_s, load.mean_context * m.kv_s_per_token), (np.zeros((1, 1, 1)), m.flop_s_per_token)
    found: Any = 0.0
    for fixed, slope in lines:
        growing = rate * steps * (slope + per_output)
        still = rate * (prefill + steps * (fixed + m.overhead_s - per_output))
        found = np.maximum(found, np.where(growing < 1, still / np.maximum(1 - growing, 1e-12), np.inf))
    alone = rate * (prefill + steps * tpot_s(m, load, np.ones((1, 1)), prefill))
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

    one_step = tpot_s(m, load, np.ones((1, 1)), capacity.prefill)
    rate, most = arrivals_per_s / busiest, np.maximum(capacity.batch, 1.0)
    mean = np.minimum(in_flight(m, load, capacity.prefill, rate), most)
    found: dict[str, Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        busy = np.max(rate, axis=2, keepdims=True) * capacity.prefill
        for level in levels:
            margin = float(ndtri(level)) * np.sqrt(mean * (cv**2 + 1) / 2 / busiest)
            batch = np.max(mean + margin, axis=2, keepdims=True)
            tpot = tpot_s(m, load, np.minimum(np.maximum(batch, 1.0), most), capacity.prefill)
            prompt = load.input_at(level)
            reading = prefill_s(m, prompt, prompt**2)
            wait = 1 / np.maximum(1 - busy, 1e-3) if level > 0.5 else 1.0
            name = f"p{round(level * 100)}"
            first = reading * wait + one_step + load.thinking * tpot
            found[f"ttft_{name}"] = first
            found[f"tpot_{name}"] = tpot
            # TPOT already holds every other request's prefill once, so the end is not kept waiting twice;
            # but where the answer is a token or two it is the first token's wait that counts.
            found[f"e2e_{name}"] = np.maximum(first, reading + (load.output_at(level) - 1) * tpot)
    return found


def memory_sentence(m: Machines, row_name: str, gpu_index: int) -> str:
    """Why a model does not fit."""
    return (
        f"{row_name} needs {m.weights_gb:.0f} GB for its weights, more than 8 x {m.gpus[gpu_index]} hold; "
        "a lower precision or a larger GPU would fit"
    )
