"""What serving a model on machines of one's own costs: the cheapest GPU, its fleet, power and people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, EngineRow, GpuRow, ModelRow, provenance_of
from distillcalc.errors import InputError, MissingPrice
from distillcalc.estimate import gates
from distillcalc.estimate.capacity import (
    NO_OBJECTIVE_PERCENTILE,
    TENSOR_PARALLEL,
    Fleet,
    Load,
    Machines,
    ReplicaCapacity,
    engine_of,
    fleet,
    latencies,
    machines,
    memory_sentence,
    replica_capacity,
    shortfall,
    widths_of,
)
from distillcalc.estimate.cheapest_machine import at as at_machine
from distillcalc.estimate.cheapest_machine import cheapest, fleet_cost, taken
from distillcalc.estimate.context import Context
from distillcalc.estimate.outcome import FAIL, PASS, GateResult, Outcome, at
from distillcalc.estimate.step_time import StepTime
from distillcalc.provenance import Provenance, assumed, derived
from distillcalc.workload.lengths import JointLengths
from distillcalc.workload.scenario import Serving

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dedicated:
    """A provider's dedicated endpoint: which GPU, and what one of them costs for an hour [USD]."""

    gpu: str
    usd_per_gpu_hour: float
    source: Provenance


@dataclass(frozen=True)
class Price:
    """What one GPU costs for an hour [USD], where that came from, and whose machine it is."""

    usd_per_hour: float
    source: Provenance
    provider: str
    region: str | None = None


def gpu_usd_per_hour(
    catalog: Catalog, gpu: str, serving: Serving, parallel: int, *, region: str | None = None, private: bool = False
) -> Price | None:
    """Price of one GPU for an hour, with its origin; None where the catalog has none for the commitment.

    Owned: capital / lifetime + power x cooling x price of power.
    """
    if serving.commitment == "owned":
        row = catalog.gpu(gpu)
        capex = serving.capex_usd_per_gpu or row.capex_usd
        if capex is None or row.tdp_w is None:
            return None
        hourly = capex / (serving.lifetime_years * 8766) + row.tdp_w / 1000 * serving.cooling * serving.usd_per_kwh
        formula = (
            f"owned: {capex:g} USD over {serving.lifetime_years:g} years + {row.tdp_w:g} W x "
            f"{serving.cooling:g} at {serving.usd_per_kwh:g} USD/kWh"
        )
        return Price(hourly, derived(formula), "your own", region)
    rental = catalog.rental(
        gpu,
        serving.commitment,
        serving.gpu_provider,
        gpus=parallel,
        marketplace=serving.marketplace and not private,
        region=region,
    )
    if rental is None:
        return None
    found = provenance_of(rental)
    source = f"{rental.provider} {rental.product or gpu}, {serving.commitment}, {rental.usd_per_gpu_hour:g} USD/GPU-h"
    origin = Provenance(found.kind, f"{source} ({found.source})", found.checked, found.confidence)
    return Price(rental.usd_per_gpu_hour, origin, rental.provider, rental.region)


def _key(context: Context, row: ModelRow) -> _Key:
    """What the constants of a model on the GPUs in question, and their prices, depend on."""
    catalog, serving = context.catalog, context.choices.serving
    named = context.choices.gpus
    for name in named or ():
        catalog.gpu(name)
    candidates = [
        (name, gpu) for name, gpu in catalog.gpus.items() if (name in named if named is not None else gpu.kind == "gpu")
    ]
    workload = context.workload
    return _Key(row, tuple(candidates), serving, catalog, workload.region, workload.private)


class _Key:
    """Machine constants depend on the model, the GPUs, the serving choices and the prices, not on the traffic."""

    def __init__(
        self,
        row: ModelRow,
        gpus: tuple[tuple[str, GpuRow], ...],
        serving: Serving,
        catalog: Catalog,
        region: str | None,
        private: bool,
    ) -> None:
        self.row, self.gpus, self.serving, self.catalog = row, gpus, serving, catalog
        self.region, self.private = region, private
        self.key = (id(row), tuple(name for name, _ in gpus), serving, id(catalog), region, private)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Key) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class Rented:
    """Machines of each GPU type with the price of one replica-hour [USD], shape (gpus, 1, 1)."""

    machines: Machines
    usd_per_hour: Floats
    offers: tuple[Price, ...]


@lru_cache(maxsize=256)
def _rented(key: _Key, wider: int) -> Rented:
    """The GPUs that have a price, each replica of the fewest GPUs that hold the weights, or ``wider`` steps above.

    Which GPUs those are is settled by the narrowest replicas; a wider one without an offer costs nan.
    """
    kept, parallel, prices, offers = [], [], [], []
    for name, gpu in key.gpus:
        fewest = int(machines(key.row, [(name, gpu)], key.serving, key.catalog.engines).tensor_parallel[0, 0, 0])
        narrow = _offer(key, name, fewest)
        if narrow is None:
            continue
        may = [n for n in widths_of(key.row) if n >= fewest] if gpu.kind == "gpu" else [fewest]
        n = may[min(wider, len(may) - 1)] if may else fewest
        found = _offer(key, name, n)
        kept.append((name, gpu))
        parallel.append(n)
        prices.append(found.usd_per_hour * n if found else np.nan)
        offers.append(found or narrow)
    if not kept:
        where = f" from {key.serving.gpu_provider}" if key.serving.gpu_provider else ""
        where += f" in {key.region}" if key.region else ""
        names = ", ".join(name for name, _ in key.gpus) or "none"
        how = ": give capex_usd_per_gpu in [choices.serving]" if key.serving.commitment == "owned" else ""
        raise MissingPrice(f"no {key.serving.commitment} price{where} known for any of the GPUs named ({names}){how}")
    sized = machines(key.row, kept, key.serving, key.catalog.engines, parallel)
    return Rented(sized, np.array(prices)[:, None, None], tuple(offers))


def _offer(key: _Key, gpu: str, parallel: int) -> Price | None:
    return gpu_usd_per_hour(key.catalog, gpu, key.serving, parallel, region=key.region, private=key.private)


@dataclass(frozen=True)
class Sized:
    """One model on each GPU type, each replica as wide as the objectives want, shape (gpus, n, 1).

    Parameters
    ----------
    wider : how often the fewest GPUs were doubled.
    """

    machines: Machines
    usd_per_hour: Floats
    capacity: ReplicaCapacity
    wider: NDArray[np.int64]


def _sized(levels: Callable[[int], Rented], most: int, load: Load, objectives: list[tuple[str, float, float]]) -> Sized:
    """The narrowest replicas, and wider ones where only those meet the objectives."""
    narrow = levels(0)
    found = Sized(
        narrow.machines,
        narrow.usd_per_hour,
        capacity := replica_capacity(narrow.machines, load, objectives),
        np.zeros(capacity.batch.shape, dtype=np.int64),
    )
    for wider in range(1, most):
        unmet = (found.capacity.batch < 1) & (found.capacity.room >= 1)
        if not unmet.any():
            break
        level = levels(wider)
        capacity = replica_capacity(level.machines, load, objectives)
        take = unmet & (capacity.batch >= 1) & np.isfinite(level.usd_per_hour)
        if take.any():
            found = Sized(
                _mixed(take, level.machines, found.machines),
                np.where(take, level.usd_per_hour, found.usd_per_hour),
                _mixed(take, capacity, found.capacity),
                np.where(take, wider, found.wider),
            )
    return found


Mixed = TypeVar("Mixed", Machines, ReplicaCapacity, StepTime)


def _mixed(take: NDArray[np.bool_], these: Mixed, those: Mixed) -> Mixed:
    """Field by field, the ones where ``take`` says so and else the others."""

    def one(a: Any, b: Any) -> Any:
        if isinstance(a, StepTime):
            return _mixed(take, a, b)
        if isinstance(a, dict):
            return {key: np.where(take, a[key], b[key]) for key in a}
        return np.where(take, a, b) if isinstance(a, np.ndarray) else b

    return replace(those, **{f.name: one(getattr(these, f.name), getattr(those, f.name)) for f in fields(those)})


def _served(
    context: Context,
    levels: Callable[[int], Rented],
    most: int,
    load: Load,
    objectives: list[tuple[str, float, float]],
    level: float,
    *,
    spares: bool,
) -> tuple[Sized, Fleet, dict[str, Floats]]:
    """Machines, fleet and latencies of one model on each of the GPU types."""
    x = context.x
    sized = _sized(levels, most, load, objectives)
    whole = fleet(x, sized.capacity, level, spares=spares)
    return sized, whole, _latencies(context, sized.machines, sized.capacity, whole, load, objectives)


def _latencies(
    context: Context,
    machines: Machines,
    capacity: ReplicaCapacity,
    whole: Fleet,
    load: Load,
    objectives: list[tuple[str, float, float]],
) -> dict[str, Floats]:
    """Latencies in the busiest hour [s] by objective name, shape (gpus, n, 1)."""
    x = context.x
    busiest_rate = x.requests_per_day / 86_400 * context.workload.profile.peak * (x.days > 0)
    # Where no batch meets the objectives the figures are those of a single request, the floor of the machine.
    busiest = np.where(np.isnan(whole.busiest), np.inf, whole.busiest)
    asked = sorted({0.5, 0.95, *(level for _, level, _ in objectives)})
    return latencies(machines, load, capacity, busiest_rate, busiest, x["interarrival_cv"], levels=asked)


def _cheapest_of_many(
    context: Context,
    sized: Sized,
    load: Load,
    objectives: list[tuple[str, float, float]],
    level: float,
    path_name: str | None,
) -> tuple[NDArray[np.intp], Fleet, dict[str, Floats]]:
    """For many scenarios: the best machine of each, shape (1, n, 1), and its fleet and latencies, shape (1, n, ...)."""
    x, capacity = context.x, sized.capacity
    best, usd = cheapest(x, capacity, sized.usd_per_hour, level=level, path_name=path_name, spares=True)
    hopeless = np.isinf(usd)
    if hopeless.any():  # no machine meets the objectives: show the one that comes nearest
        nearest = np.argmin(shortfall(capacity, objectives), axis=0)[:, 0]
        best = np.where(hopeless, nearest, best)
    one = taken(capacity, best)
    whole = fleet(x, one, level)
    return best[None, :, None], whole, _latencies(context, taken(sized.machines, best), one, whole, load, objectives)


def _own(context: Context, row: ModelRow) -> tuple[Callable[[int], Rented], int]:
    """Machines of one's own by how wide a replica is, and how many widths there are."""
    key, factor = _key(context, row), context.x["step_time_factor"]

    def as_slow(wider: int) -> Rented:
        rented = _rented(key, wider)
        return replace(rented, machines=rented.machines.slower(factor))

    return as_slow, 1 if key.serving.tensor_parallel else len(TENSOR_PARALLEL)


def _dedicated(context: Context, row: ModelRow, name: str, dedicated: Dedicated) -> tuple[Callable[[int], Rented], int]:
    """A provider's endpoint, as wide as it is."""
    gpu = context.catalog.gpu(dedicated.gpu)
    only = context.once(
        ("machine", id(row), dedicated.gpu),
        lambda: machines(row, [(dedicated.gpu, gpu)], context.choices.serving, context.catalog.engines),
    )
    price = Price(dedicated.usd_per_gpu_hour, dedicated.source, name)
    slow = only.slower(context.x["step_time_factor"])
    rented = Rented(slow, dedicated.usd_per_gpu_hour * only.tensor_parallel, (price,))
    return lambda _: rented, 1


def step_sentence(engine: EngineRow, serving: Serving, row: ModelRow) -> str:
    """Where a step time comes from, and how far measurements of models that were not fitted were off."""
    moe = row.shape is not None and row.shape.experts
    factor = engine.tpot_factor_moe if moe else engine.tpot_factor
    first = engine.ttft_factor_moe if moe else engine.ttft_factor
    given = [name for name in ("mfu", "mbu", "fixed_step_ms") if getattr(serving, name) is not None]
    if given:
        return f"step time of {engine.name} with {', '.join(given)} given"
    if not engine.rows:
        return f"step time of {engine.name}, assumed"
    if engine.confidence == "low":
        return f"step time of {engine.name}, {engine.source}"
    return (
        f"step time of {engine.name}, {engine.source}; nine in ten points of a model that was not fitted had a TPOT "
        f"within a factor of {factor:.2g} and a TTFT within {first:.2g}"
    )


SIMULATED_MACHINES = 2


def _simulated(
    context: Context,
    row: ModelRow,
    found: Sized,
    load: Load,
    whole: Fleet,
    by_name: dict[str, Floats],
    order: NDArray[np.intp],
    *,
    spares: bool,
) -> tuple[Fleet, dict[str, Floats], list[int]]:
    """Fleets and latencies of the cheapest machines by simulation, in place of the closed form's.

    Machines are taken in ``order`` until enough of them do; the third of what is returned says which. One that no
    number of replicas makes fast enough is passed over.
    """
    from distillcalc.estimate.simulated_fleet import SimulatedFleet, engine_of_machine, within_window
    from distillcalc.estimate.simulation import Traffic

    x, objectives = context.x, tuple(context.workload.slo.objectives())
    peak = x.requests_per_day / 86_400 * context.workload.profile.peak * (x.days > 0)
    traffic = within_window(
        Traffic.of(
            float(peak.max()),
            load.lengths,
            round(float(load.thinking[0, 0])),
            interarrival_cv=float(x["interarrival_cv"][0, 0]),
        ),
        row.context_window,
    )
    arrays = {name: getattr(whole, name).copy() for name in ("replicas", "busiest", "utilisation")}
    latency = {name: value.copy() for name, value in by_name.items()}
    kept: list[int] = []
    for i in order.tolist():
        before = float(found.machines.request_s[i, 0, 0])
        one = SimulatedFleet(engine_of_machine(found.machines, i), traffic, objectives, before)
        try:
            sized = fleet(x, found.capacity, 0.0, spares=spares, needed=one.needed)
        except InputError:
            continue
        for name, values in arrays.items():
            made = getattr(sized, name)
            values[i] = made[i if made.shape[0] > 1 else 0]
        at_peak = one.at(float(peak.max())).at
        for name, seconds in latency.items():
            what, _, level = name.partition("_p")
            value = one.quantile(at_peak, what, int(level) / 100)
            seconds[i] = 0.0 if np.isnan(value) else value
        kept.append(i)
        if len(kept) == SIMULATED_MACHINES:
            break
    return Fleet(**arrays), latency, kept


def self_hosted(
    context: Context,
    option: str,
    name: str,
    row: ModelRow,
    lengths: JointLengths,
    thinking: Floats,
    *,
    dedicated: Dedicated | None = None,
) -> Outcome:
    """Running cost, latency and gates of one model on the GPU that serves it cheapest under the objectives.

    ``dedicated`` is a provider's endpoint at its own price by the replica-hour, with no spares and no people
    of one's own; left out, the machines are one's own.

    Raises
    ------
    MissingPrice
        If the model's size or shape is not public, or none of the GPUs has a price.
    UnknownName
        For a GPU that the catalog does not know.

    Notes
    -----
    The fleet is sized by the busiest hour (see :mod:`.capacity`) and paid every hour of the month.
    """
    if row.shape is None or row.params_b is None:
        raise MissingPrice(
            f"the shape of {name} is not in the catalog, so its speed and memory are unknown. Give it in "
            f'[overrides.models."{name}".shape]'
        )
    x, serving = context.x, context.choices.serving
    engines = context.catalog.engines
    levels, most = _own(context, row) if dedicated is None else _dedicated(context, row, name, dedicated)
    objectives = context.workload.slo.objectives()
    level = max([NO_OBJECTIVE_PERCENTILE, *(level for _, level, _ in objectives)])

    path_name = "gpu_price_change_per_year"
    committed = dedicated is None and serving.stays  # paid at the price of the day it was bought or reserved
    path = np.ones((1, 1)) if committed else x.price_path(path_name)
    sizing = "square-root staffing of the busiest hour, plus spares"
    load = Load.of(lengths, thinking)
    if dedicated is None and x.n > 1:
        found = _sized(levels, most, load, objectives)
        best, whole, by_name = _cheapest_of_many(
            context, found, load, objectives, level, None if committed else path_name
        )
        sized, capacity, usd_per_hour = found.machines, found.capacity, found.usd_per_hour
        gpu_usd, _ = fleet_cost(
            x, whole.replicas, at_machine(usd_per_hour, best[0, :, 0]) * x["gpu_price_factor"] * path
        )
    else:

        def served() -> tuple[Sized, Fleet, dict[str, Floats]]:
            return _served(context, levels, most, load, objectives, level, spares=dedicated is None)

        # Providers that rent out the same machine differ in its price alone.
        found, whole, by_name = (
            served() if dedicated is None else context.once(("served", id(row), dedicated.gpu), served)
        )
        sized, capacity = found.machines, found.capacity
        usd_per_hour = found.usd_per_hour if dedicated is None else levels(0).usd_per_hour
        hourly = usd_per_hour * x["gpu_price_factor"] * path
        gpu_usd, cost = fleet_cost(x, whole.replicas, hourly)
        if context.fidelity == "simulated" and np.isfinite(cost).any():
            order = np.argsort(cost[:, 0, 0], kind="stable")[: int(np.isfinite(cost).sum())]
            whole, by_name, kept = _simulated(
                context, row, found, load, whole, by_name, order, spares=dedicated is None
            )
            gpu_usd, cost = fleet_cost(x, whole.replicas, hourly)
            cost = np.where(np.isin(np.arange(len(cost)), kept)[:, None, None], cost, np.inf)
            sizing = "simulation of the busiest hour, plus spares" if kept else f"no simulated fleet does; {sizing}"
        hopeless = np.isinf(cost).all(axis=0)
        if hopeless.any():  # no machine meets the objectives: show the one that comes nearest
            cost = np.where(hopeless, shortfall(capacity, objectives), cost)
        best = np.argmin(cost, axis=0)[None]  # (1, n, 1)
    kinds = len(sized.gpus)

    def chosen(values: Floats) -> Floats:
        """The values of each scenario's best GPU."""
        if values.shape[0] == 1:
            return np.asarray(values[0])
        if best.shape[1] == 1:
            return np.asarray(values[int(best[0, 0, 0])])
        n = max(values.shape[1], best.shape[1])
        full = np.broadcast_to(values, (kinds, n, values.shape[2]))
        return np.asarray(np.take_along_axis(full, np.broadcast_to(best, (1, n, 1)), axis=0)[0])

    usable = chosen(capacity.batch) >= 1
    fits, holds = chosen(np.asarray(sized.fits, dtype=float)) > 0, chosen(capacity.room) >= 1
    # Where no batch meets the objectives there is no fleet to price.
    fleet_usd = np.where(usable, chosen(gpu_usd), np.nan)
    utilisation = np.minimum(np.maximum(np.nan_to_num(chosen(whole.utilisation)), 0), 1)
    people_usd = x["operations_hours_per_month"] * x["engineering_usd_per_hour"] * (x.days > 0)
    latency = {key: chosen(value) for key, value in by_name.items()}
    # A candidate is a GPU type and how wide its replicas are.
    widths = [levels(wider) for wider in range(int(found.wider.max()) + 1)]
    machine = chosen(found.wider.astype(float)).astype(np.int64) * kinds + best[0]  # (n, 1)
    labels = tuple(
        f"{name} on {int(n)} x {gpu}" if n > 1 else f"{name} on {gpu}"
        for width in widths
        for n, gpu in zip(width.machines.tensor_parallel[:, 0, 0], sized.gpus, strict=True)
    )
    offers = [offer for width in widths for offer in width.offers]
    first = int(machine[0, 0])
    engine = engine_of(engines, serving, context.catalog.gpu(sized.gpus[int(best[0, 0, 0])]))
    outcome = Outcome(
        option,
        labels,
        machine,
        months=x.months,
        latency=latency,
        monthly_usd={"gpus_busy": fleet_usd * utilisation, "gpus_idle": fleet_usd * (1 - utilisation)},
        facts={
            "replicas": chosen(whole.replicas)[:, :1],
            "replicas_last_month": x.last_month(chosen(whole.replicas)),
            "gpus_per_replica": chosen(sized.tensor_parallel),
            "utilisation": utilisation[:, :1],
            "replica_usd_per_hour": chosen(usd_per_hour) * x["gpu_price_factor"],
            "requests_per_s_per_replica": chosen(capacity.requests_per_s),
            "batch": chosen(capacity.batch),
        },
        provenance={
            "gpus_busy": offers[first].source,
            "gpus_idle": offers[first].source,
            "replica_usd_per_hour": offers[first].source,
            "utilisation": derived("mean arrivals / (replicas x requests per second of a replica)"),
            "batch": derived("most requests in flight that the memory and the objectives allow"),
            "requests_per_s_per_replica": derived("batch / time that a request stays, within the share of prefill"),
            "gpus_per_replica": derived("fewest of 1, 2, 4, 8 that hold the weights and meet the objectives"),
            "replicas_last_month": derived("as replicas, in the last month"),
            "latency": derived(f"{step_sentence(engine, serving, row)} on the shape of {name} ({row.source})"),
            "replicas": derived(sizing),
        },
    )
    outcome.tokens_per_request = lengths.mean_input + lengths.mean_output + thinking
    if dedicated is None:
        outcome.monthly_usd["operations"] = people_usd
        outcome.provenance["operations"] = assumed("operations_hours_per_month of [choices.serving]")

    def memory_detail(i: int) -> str:
        if not at(fits, i):
            gpu = int(at(best[0], i))
            return memory_sentence(sized, row, name, gpu, context.catalog.gpu(sized.gpus[gpu]), serving)
        if not at(holds, i):
            return f"{name} leaves no room for the cache of one request"
        return f"{sized.weights_gb:.3g} GB of weights fit"

    memory = GateResult("memory", np.where(holds, PASS, FAIL).astype(np.int8), memory_detail)
    floors = {
        key: chosen(np.broadcast_to(value, np.broadcast_shapes(value.shape, (1, 1, 1))))
        for key, value in capacity.floor_s.items()
    }
    slo = gates.slo_gate(x, latency, str(outcome.provenance["latency"]), floors)
    if slo is not None:
        slo = GateResult(slo.name, np.where(usable, slo.code, FAIL).astype(np.int8), slo.detail, slo.source)
    wheres = [(offer.provider, offer.region) for offer in offers]
    region = gates.machine_region_gate(x, wheres, machine) if dedicated is None else None
    outcome.gates = [gate for gate in (memory, slo, region) if gate is not None]
    return outcome
