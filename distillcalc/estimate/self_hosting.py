"""What serving a model on machines of one's own costs: the cheapest GPU, its fleet, power and people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, GpuRow, ModelRow, provenance_of
from distillcalc.errors import MissingPrice
from distillcalc.estimate import gates
from distillcalc.estimate.capacity import (
    NO_OBJECTIVE_PERCENTILE,
    Fleet,
    Load,
    Machines,
    ReplicaCapacity,
    fleet,
    latencies,
    machines,
    memory_sentence,
    replica_capacity,
    shortfall,
)
from distillcalc.estimate.context import Context
from distillcalc.estimate.outcome import FAIL, PASS, GateResult, Outcome, at
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


def _priced_machines(context: Context, row: ModelRow) -> tuple[Machines, Floats, tuple[Price, ...]]:
    """The GPUs that have a price, with the model's constants on each and the price of one replica-hour."""
    catalog, serving = context.catalog, context.choices.serving
    named = context.choices.gpus
    for name in named or ():
        catalog.gpu(name)
    candidates = [
        (name, gpu) for name, gpu in catalog.gpus.items() if (name in named if named is not None else gpu.kind == "gpu")
    ]
    workload = context.workload
    return _machine_prices(_Key(row, tuple(candidates), serving, catalog, workload.region, workload.private))


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


@lru_cache(maxsize=256)
def _machine_prices(key: _Key) -> tuple[Machines, Floats, tuple[Price, ...]]:
    kept, prices, found_prices = [], [], []
    for name, gpu in key.gpus:
        parallel = int(machines(key.row, [(name, gpu)], key.serving).tensor_parallel[0, 0, 0])
        found = gpu_usd_per_hour(key.catalog, name, key.serving, parallel, region=key.region, private=key.private)
        if found is not None:
            kept.append((name, gpu))
            prices.append(found.usd_per_hour * parallel)
            found_prices.append(found)
    if not kept:
        where = f" from {key.serving.gpu_provider}" if key.serving.gpu_provider else ""
        where += f" in {key.region}" if key.region else ""
        names = ", ".join(name for name, _ in key.gpus) or "none"
        how = ": give capex_usd_per_gpu in [choices.serving]" if key.serving.commitment == "owned" else ""
        raise MissingPrice(f"no {key.serving.commitment} price{where} known for any of the GPUs named ({names}){how}")
    return machines(key.row, kept, key.serving), np.array(prices)[:, None, None], tuple(found_prices)


def _served(
    context: Context,
    sized: Machines,
    load: Load,
    objectives: list[tuple[str, float, float]],
    level: float,
    *,
    spares: bool,
) -> tuple[ReplicaCapacity, Fleet, dict[str, Floats]]:
    """Capacity, fleet and latencies of one model on each of the machines: all that does not depend on a price."""
    x = context.x
    capacity = replica_capacity(sized, load, objectives)
    whole = fleet(x, capacity, level, spares=spares)
    busiest_rate = x.requests_per_day / 86_400 * context.workload.profile.peak * (x.days > 0)
    # Where no batch meets the objectives the figures are those of a single request, the floor of the machine.
    busiest = np.where(np.isnan(whole.busiest), np.inf, whole.busiest)
    levels = sorted({0.5, 0.95, *(asked for _, asked, _ in objectives)})
    seconds = latencies(sized, load, capacity, busiest_rate, busiest, x["interarrival_cv"], levels=levels)
    return capacity, whole, seconds


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
    if dedicated is None:
        sized, usd_per_hour, offers = _priced_machines(context, row)
    else:
        sized = context.once(
            ("machine", id(row), dedicated.gpu),
            lambda: machines(row, [(dedicated.gpu, context.catalog.gpu(dedicated.gpu))], serving),
        )
        usd_per_hour = dedicated.usd_per_gpu_hour * sized.tensor_parallel
        offers = (Price(dedicated.usd_per_gpu_hour, dedicated.source, name),)
    objectives = context.workload.slo.objectives()
    level = max([NO_OBJECTIVE_PERCENTILE, *(level for _, level, _ in objectives)])

    def served() -> tuple[ReplicaCapacity, Fleet, dict[str, Floats]]:
        return _served(context, sized, Load.of(lengths, thinking), objectives, level, spares=dedicated is None)

    # Providers that rent out the same machine differ in its price alone.
    capacity, whole, by_name = (
        served() if dedicated is None else context.once(("served", id(row), dedicated.gpu), served)
    )
    path = x.price_path("gpu_price_change_per_year")
    committed = dedicated is None and serving.stays  # paid at the price of the day it was bought or reserved
    hourly = usd_per_hour * x["gpu_price_factor"] * (np.ones((1, 1)) if committed else path)
    gpu_usd = whole.replicas * hourly * (24 * x.days)

    cost = np.cumsum(np.where(np.isnan(gpu_usd), np.inf, gpu_usd) * x.discount, axis=2)[:, :, -1:]
    hopeless = np.isinf(cost).all(axis=0)
    if hopeless.any():  # no machine meets the objectives: show the one that comes nearest
        cost = np.where(hopeless, shortfall(capacity, objectives), cost)
    best = np.argmin(cost, axis=0)[None]  # (1, n, 1)

    def chosen(values: Floats) -> Floats:
        """The values of each scenario's best GPU."""
        if best.shape[1] == 1:
            return np.asarray(values[int(best[0, 0, 0]) if values.shape[0] > 1 else 0])
        n = max(values.shape[1], best.shape[1])
        full = np.broadcast_to(values, (len(sized.gpus), n, values.shape[2]))
        return np.asarray(np.take_along_axis(full, np.broadcast_to(best, (1, n, 1)), axis=0)[0])

    usable = chosen(capacity.batch) >= 1
    fits, holds = chosen(np.asarray(sized.fits, dtype=float)) > 0, chosen(capacity.room) >= 1
    # Where no batch meets the objectives there is no fleet to price.
    fleet_usd = np.where(usable, chosen(gpu_usd), np.nan)
    utilisation = np.minimum(np.maximum(np.nan_to_num(chosen(whole.utilisation)), 0), 1)
    people_usd = x["operations_hours_per_month"] * x["engineering_usd_per_hour"] * (x.days > 0)
    latency = {key: chosen(value) for key, value in by_name.items()}
    parallel = [int(n) for n in sized.tensor_parallel[:, 0, 0]]
    labels = tuple(
        f"{name} on {n} x {gpu}" if n > 1 else f"{name} on {gpu}" for n, gpu in zip(parallel, sized.gpus, strict=True)
    )
    first_gpu = int(best[0, 0, 0])
    outcome = Outcome(
        option,
        labels,
        best[0],
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
            "gpus_busy": offers[first_gpu].source,
            "gpus_idle": offers[first_gpu].source,
            "replica_usd_per_hour": offers[first_gpu].source,
            "utilisation": derived("mean arrivals / (replicas x requests per second of a replica)"),
            "batch": derived("most requests in flight that the memory and the objectives allow"),
            "requests_per_s_per_replica": derived("batch / time that a request stays, within the share of prefill"),
            "gpus_per_replica": derived("fewest of 1, 2, 4, 8 whose memory holds the weights"),
            "replicas_last_month": derived("as replicas, in the last month"),
            "latency": derived(
                f"roofline at MFU {serving.mfu:g}, MBU {serving.mbu:g}, {serving.fixed_step_ms:g} ms a step "
                f"on the shape of {name} ({row.source})"
            ),
            "replicas": derived("square-root staffing of the busiest hour, plus spares"),
        },
    )
    outcome.tokens_per_request = lengths.mean_input + lengths.mean_output + thinking
    if dedicated is None:
        outcome.monthly_usd["operations"] = people_usd
        outcome.provenance["operations"] = assumed("operations_hours_per_month of [choices.serving]")

    def memory_detail(i: int) -> str:
        if not at(fits, i):
            return memory_sentence(sized, name, int(at(best[0], i)))
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
    region = gates.machine_region_gate(x, wheres, best[0]) if dedicated is None else None
    outcome.gates = [gate for gate in (memory, slo, region) if gate is not None]
    return outcome
