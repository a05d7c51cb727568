"""How many machines one model needs at the peak, on each GPU: sized by simulation, priced by the hour of the week.

The closed forms of :mod:`.capacity` say at once which machines cannot do; :mod:`.fleet_search` finds the least fleet
that does on the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import DAYS_PER_MONTH
from distillcalc.catalog import Catalog, GpuRow, ModelRow
from distillcalc.errors import InputError
from distillcalc.estimate.capacity import (
    Load,
    Machines,
    engine_of,
    machines,
    memory_sentence,
    replica_capacity,
    widths_of,
)
from distillcalc.estimate.fleet_search import alone, least_replicas, simulate_steady
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.self_hosting import gpu_usd_per_hour, step_sentence
from distillcalc.estimate.simulated_fleet import SimulatedFleet, engine_of_machine, within_window
from distillcalc.estimate.simulation import Requests, Simulation, Traffic, simulate
from distillcalc.workload.logs.sources import Paths
from distillcalc.workload.scenario import Scenario, Serving

Floats = NDArray[np.float64]

WEEK = 168
LEVELS_SHOWN = (0.5, 0.95, 0.99)
SAMPLE = 20_000
WARM_UP = 0.1  # share of a trace that the percentiles leave out


@dataclass(frozen=True)
class Mix:
    """The cheapest way to pay for a week's replicas.

    Parameters
    ----------
    reserved, by_the_hour : replicas of each kind, the second at most.
    commitment : of the reserved ones.
    hourly : of those by the hour: "on-demand", or "spot" where the scenario takes machines that may be taken away.
    usd_per_month : of both.
    """

    reserved: int
    by_the_hour: int
    commitment: str
    hourly: str
    usd_per_month: float


@dataclass(frozen=True)
class MachinePlan:
    """One kind of machine under the peak.

    Parameters
    ----------
    gpu, gpus_per_replica : which and how many serve as one.
    why_not : empty, or why it cannot do, and what would.
    replicas, spares : that the peak needs, and beside them.
    latency_s : "ttft_p95" and the like [s], at the peak; of a device, of a request alone.
    tokens_per_s : output tokens per second that one request sees, median.
    goodput_per_s : requests per second at the peak that meet every objective.
    utilisation : share of time that a replica is in a step at the peak; mean_batch : requests in such a step.
    wh_per_request : energy at the peak, idle power included (an idle GPU is taken to draw 30% of its rating), spares
        left out.
    usd_per_replica_hour : of the commitment asked for; None without an offer, as for phones.
    usd_per_month : of the fleet: the peak's at all hours, or under autoscaling hour by hour of the scenario's own week
        (a peak beyond that comes on top), spares included.
    idle_share : share of what the paid machines could serve within the objectives that the traffic does not ask for.
    mix : the cheapest of reserved and on-demand replicas for the same week; None without offers.
    one_fewer : what a replica fewer would miss.
    on_front : no other machine is both cheaper and faster (E2E p95).
    """

    gpu: str
    gpus_per_replica: int
    why_not: str = ""
    replicas: int = 0
    spares: int = 0
    latency_s: dict[str, float] = field(default_factory=dict)
    tokens_per_s: float = math.nan
    goodput_per_s: float = math.nan
    utilisation: float = math.nan
    mean_batch: float = math.nan
    wh_per_request: float = math.nan
    usd_per_replica_hour: float | None = None
    usd_per_month: float | None = None
    idle_share: float = math.nan
    mix: Mix | None = None
    one_fewer: str = ""
    on_front: bool = False

    @property
    def does(self) -> bool:
        """Whether it meets the objectives."""
        return not self.why_not

    @property
    def machine(self) -> str:
        """What one replica runs on."""
        return f"{self.gpus_per_replica} x {self.gpu}" if self.gpus_per_replica > 1 else self.gpu


@dataclass(frozen=True)
class CapacityPlan:
    """One model on every machine in question, the cheapest that does first.

    Parameters
    ----------
    peak_per_s : arrivals that the fleet is sized for [1/s].
    objectives : (what, level, limit [s]) each.
    source : where the step times come from; tpot_factor : by which a measured TPOT may be off, nine times in ten.
    """

    model: str
    scenario: str
    peak_per_s: float
    mean_per_s: float
    interarrival_cv: float
    objectives: tuple[tuple[str, float, float], ...]
    rows: tuple[MachinePlan, ...]
    source: str
    tpot_factor: float

    @property
    def best(self) -> MachinePlan | None:
        """The cheapest machine that does; without prices the first that does."""
        return next((row for row in self.rows if row.does), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, nan as None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        found: dict[str, Any] = plain(asdict(self))
        return found | {"best": self.best.machine if self.best else None}


def plan_capacity(
    scenario: Scenario,
    model: str,
    gpus: Sequence[str] | Literal["all"] | None = None,
    *,
    catalog: Catalog | None = None,
    peak_to_mean: float | None = None,
    peak_per_s: float | None = None,
    month: int = 1,
    replicas: int | None = None,
    trace: Requests | None = None,
    seed: int = 0,
) -> CapacityPlan:
    """The least fleet of one model that meets the objectives at the peak, on each GPU, with its latencies and its bill.

    Parameters
    ----------
    scenario : its workload (volume, cycle, burstiness, lengths, objectives) and its ``[choices.serving]``.
    model : id in the catalog.
    gpus : ids; "all": every GPU of the catalog that has a price; None: those of the scenario, or all.
    peak_to_mean : busiest rate to size for / mean rate; None: the busiest hour of the scenario's week.
    peak_per_s : the same as a rate [1/s].
    month : of the horizon, from 1, whose volume is meant.
    replicas : so many instead of the least; spares are then none.
    trace : requests to be replayed at the peak's rate, with their own gaps and lengths; None: Gamma arrivals with the
        scenario's burstiness, lengths drawn from its distribution.
    seed : of the requests that are drawn; the same one gives the same plan.

    Raises
    ------
    InputError
        For a model without a public shape, a month outside the horizon, a peak below the mean; and, where a single
        machine is asked for, if it cannot do: by how much the memory is short, what the floor is, or how many
        replicas would keep up.
    UnknownName
        For a model, GPU or engine that the catalog does not know.
    """
    known = (catalog or Catalog.load()).with_overrides(scenario.overrides)
    row = known.model(model)
    if row.shape is None or row.params_b is None:
        raise InputError(
            f"the shape of {model} is not in the catalog, so its speed and memory are unknown. Give it in "
            f'[overrides.models."{model}".shape]'
        )
    x, workload, serving = Inputs(scenario), scenario.workload, scenario.choices.serving
    if not 1 <= month <= x.months or month != int(month):
        raise InputError(f"month must be a whole number between 1 and {x.months}, the horizon. Got {month}")
    if replicas is not None and (replicas < 1 or replicas != int(replicas)):
        raise InputError(f"replicas must be a whole number, 1 or more. Got {replicas}")
    mean = float(x.requests_per_day[0, month - 1]) / 86_400
    if mean <= 0:
        raise InputError("requests_per_day is 0: there is no peak to size for")
    peak = _peak(mean, workload.profile.peak, peak_to_mean, peak_per_s)
    load = Load.of(x.student_lengths, x["student_reasoning_tokens"])
    cv = float(x["interarrival_cv"][0, 0])
    thinking = round(float(x["student_reasoning_tokens"][0, 0]))
    traffic: Traffic | Requests = (
        trace.at_rate(peak)
        if trace is not None
        else within_window(
            Traffic.of(peak, x.student_lengths, thinking, interarrival_cv=cv, size=SAMPLE, seed=seed),
            row.context_window,
        )
    )
    job = _Job(
        known, row, model, serving, load, traffic, peak, tuple(workload.slo.objectives()), mean, workload.week,
        workload.region, workload.private, replicas, seed, float(x["gpu_price_factor"][0, 0]),
    )  # fmt: skip
    names = _asked(gpus, scenario, known)
    rows = [job.plan(name, known.gpu(name), n) for name in names for n in job.widths(known.gpu(name))]
    if len(names) == 1 and not any(one.does for one in rows):
        nearest = rows[-1]
        raise InputError(f"{model} on {nearest.machine}: {nearest.why_not}")
    ranked = _ranked(rows)
    engine = engine_of(known.engines, serving, known.gpu(ranked[0].gpu))
    return CapacityPlan(
        model=model,
        scenario=workload.name,
        peak_per_s=peak,
        mean_per_s=mean,
        interarrival_cv=cv if trace is None else _cv(trace),
        objectives=job.objectives,
        rows=tuple(ranked),
        source=step_sentence(engine, serving, row),
        tpot_factor=engine.tpot_factor_moe if row.shape.experts else engine.tpot_factor,
    )


def requests_of_logs(paths: Paths, **options: Any) -> Requests:
    """The answered requests of logs, to be replayed: arrivals and lengths, whole and at least one token each.

    Parameters
    ----------
    paths, options : as of :func:`distillcalc.workload.logs.ingest`.

    Raises
    ------
    InputError
        If the logs cannot be read, or hold counts only.
    """
    from distillcalc.workload.logs import ingest

    with ingest(paths, **options) as found:
        if found.kind != "requests":
            raise InputError("a trace to replay has a row per request; this log holds counts per period")
        rows = found.connection.execute(
            'SELECT epoch_us("at") AS at, input_tokens, output_tokens, coalesce(reasoning_tokens, 0) AS thinking '
            'FROM requests WHERE failed IS NOT TRUE ORDER BY "at"'
        ).fetchnumpy()
    if len(rows["at"]) < 2:
        raise InputError("a trace to replay needs two answered requests or more")
    at, inputs, outputs, thinking = (np.asarray(np.ma.filled(rows[name], 0)) for name in rows)
    thinking = np.minimum(thinking, np.maximum(outputs - 1, 0))
    return Requests((at - at[0]) / 1e6, np.maximum(inputs, 1), np.maximum(outputs - thinking, 1), thinking)


def _cv(trace: Requests) -> float:
    gaps = np.diff(trace.arrival_s)
    return float(gaps.std() / gaps.mean())


def _peak(mean: float, of_week: float, peak_to_mean: float | None, peak_per_s: float | None) -> float:
    if peak_per_s is not None and peak_to_mean is not None:
        raise InputError("give peak_to_mean or peak_per_s, not both")
    peak = peak_per_s if peak_per_s is not None else mean * (of_week if peak_to_mean is None else peak_to_mean)
    if not (math.isfinite(peak) and peak >= mean * (1 - 1e-12)):
        raise InputError(f"the peak must be at least the mean of {mean:.4g} requests/s. Got {peak:.4g}")
    return peak


def _asked(gpus: Sequence[str] | Literal["all"] | None, scenario: Scenario, known: Catalog) -> list[str]:
    if gpus is None:
        gpus = scenario.choices.gpus or "all"
    if gpus == "all":
        return [name for name, gpu in known.gpus.items() if gpu.kind == "gpu"]
    names = [gpus] if isinstance(gpus, str) else list(gpus)
    if not names:
        raise InputError('gpus must name at least one GPU, or be "all"')
    for name in names:
        known.gpu(name)
    return names


@dataclass(frozen=True)
class _Job:
    """What is the same for every machine."""

    catalog: Catalog
    row: ModelRow
    model: str
    serving: Serving
    load: Load
    traffic: Traffic | Requests
    peak_per_s: float
    objectives: tuple[tuple[str, float, float], ...]
    mean_per_s: float
    week: tuple[float, ...] | None
    region: str | None
    private: bool
    asked: int | None
    seed: int
    price_factor: float

    def widths(self, gpu: GpuRow) -> list[int]:
        """GPUs per replica to try: as asked for, or each that holds the weights, or the most there may be."""
        if gpu.kind != "gpu":
            return [1]
        if self.serving.tensor_parallel:
            return [self.serving.tensor_parallel]
        may = widths_of(self.row)
        return [n for n in may if bool(self.sized(gpu, n).fits[0, 0, 0])] or [may[-1]]

    def sized(self, gpu: GpuRow, n: int) -> Machines:
        made = machines(self.row, [("", gpu)], self.serving, self.catalog.engines, [n])
        return made.slower(self.serving.step_time_factor)

    def plan(self, name: str, gpu: GpuRow, n: int) -> MachinePlan:
        """One machine."""
        m = replace(self.sized(gpu, n), gpus=(name,))
        found = MachinePlan(name, n)
        if gpu.kind == "gpu" and n not in widths_of(self.row):
            may = ", ".join(str(one) for one in widths_of(self.row))
            return replace(found, why_not=f"engines split the heads of {self.model} evenly: over {may} GPUs. Got {n}")
        window, longest = self.row.context_window, float(np.squeeze(self.load.mean_total))
        if window is not None and longest > window:
            why = f"{self.model} takes {window:,} tokens, a request has {longest:,.0f} on average"
            return replace(found, why_not=why)
        if not bool(m.fits[0, 0, 0]):
            return replace(found, why_not=memory_sentence(m, self.row, self.model, 0, gpu, self.serving))
        capacity = replica_capacity(m, self.load, list(self.objectives))
        if float(np.squeeze(capacity.room)) < 1:
            return replace(found, why_not=f"{self.model} leaves no room for the cache of one request")
        before = float(m.request_s[0, 0, 0])
        lengths = self.traffic if isinstance(self.traffic, Traffic) else Traffic(1.0, *self.sides)
        try:
            by_itself = alone(engine_of_machine(m), lengths)
        except InputError as error:
            return replace(found, why_not=str(error))
        if gpu.kind != "gpu":
            return self.on_device(found, by_itself, before)
        for what, level, limit in self.objectives:
            floor = by_itself.quantile(what, level) + (0.0 if what == "tpot" else before)
            if floor > limit:
                return replace(
                    found,
                    why_not=f"{what.upper()} p{round(level * 100)} of {_seconds(limit)} is below the floor of this "
                    f"machine, {_seconds(floor)} for a request alone",
                )
        try:
            return self.simulated(found, m, gpu, float(np.squeeze(capacity.requests_per_s)))
        except InputError as error:
            return replace(found, why_not=str(error))

    @property
    def sides(self) -> tuple[Any, Any, Any]:
        """Lengths of a trace."""
        assert isinstance(self.traffic, Requests)
        return self.traffic.input_tokens, self.traffic.output_tokens, self.traffic.thinking_tokens

    def on_device(self, found: MachinePlan, by_itself: Simulation, before_s: float) -> MachinePlan:
        """A phone or a CPU serves its own user: one request at a time."""
        latency = {
            f"{what}_p{round(level * 100)}": by_itself.quantile(what, level) + (0.0 if what == "tpot" else before_s)
            for what in ("ttft", "tpot", "e2e")
            for level in LEVELS_SHOWN
        }
        missed = [
            f"{what.upper()} p{level * 100:g} is {_seconds(latency[f'{what}_p{round(level * 100)}'])}, "
            f"the limit {_seconds(limit)}"
            for what, level, limit in self.objectives
            if latency[f"{what}_p{round(level * 100)}"] > limit
        ]
        return replace(
            found,
            why_not="; ".join(missed),
            replicas=1,
            latency_s=latency,
            tokens_per_s=1 / latency["tpot_p50"] if latency["tpot_p50"] > 0 else math.nan,
            mean_batch=1.0,
        )

    def simulated(self, found: MachinePlan, m: Machines, gpu: GpuRow, serves_per_s: float) -> MachinePlan:
        """The least fleet at the peak, and what the week costs; a replica serves ``serves_per_s`` at most."""
        fleet = SimulatedFleet(
            engine_of_machine(m), self.traffic, self.objectives, float(m.request_s[0, 0, 0]), self.seed
        )
        spares = 0 if self.asked is not None else math.ceil(self.serving.spare_replicas)
        one_fewer = ""
        if self.asked is not None:
            at = self.asked_for(fleet)
            if not at.meets(fleet.limits):
                many = "1 replica" if self.asked == 1 else f"{self.asked} replicas"
                return replace(found, why_not=f"{many}: {_missed(fleet, at)}")
        else:
            search = fleet.at(self.peak_per_s)
            at = search.at
            if search.one_fewer is not None:
                one_fewer = _missed(fleet, search.one_fewer) or "the queue would grow"
        latency = {
            f"{what}_p{round(level * 100)}": fleet.quantile(at, what, level)
            for what in ("ttft", "tpot", "e2e")
            for level in LEVELS_SHOWN
        }
        found = replace(
            found,
            replicas=at.replicas if self.asked is not None else max(at.replicas, math.ceil(self.serving.min_replicas)),
            spares=spares,
            latency_s=latency,
            tokens_per_s=1 / latency["tpot_p50"] if latency["tpot_p50"] > 0 else math.nan,
            goodput_per_s=at.goodput_per_s(fleet.limits),
            utilisation=at.utilisation,
            mean_batch=at.mean_batch,
            wh_per_request=at.wh_per_request(gpu.tdp_w, found.gpus_per_replica) if gpu.tdp_w else math.nan,
            one_fewer=one_fewer,
        )
        return self.billed(found, fleet, serves_per_s)

    def asked_for(self, fleet: SimulatedFleet) -> Simulation:
        """The fleet that the user named; refused where it cannot keep up."""
        assert self.asked is not None
        if isinstance(self.traffic, Traffic):
            return simulate_steady(fleet.engine, self.traffic, self.asked, seed=self.seed)
        at = simulate(fleet.engine, self.traffic, replicas=self.asked, warm_up=WARM_UP)
        if at.queue_grew:
            least = least_replicas(fleet.engine, self.traffic, []).replicas
            many = "1 replica" if self.asked == 1 else f"{self.asked} replicas"
            raise InputError(f"{many} cannot keep up with the trace: the queue grows. {least} would")
        return at

    def billed(self, found: MachinePlan, fleet: SimulatedFleet, serves_per_s: float) -> MachinePlan:
        """With the bill of a month, idle hours paid."""
        relative = np.ones(WEEK) if self.week is None else np.asarray(self.week) / np.mean(self.week)
        need = np.full(WEEK, float(found.replicas))
        if self.serving.autoscaling and self.asked is None:
            # The mean week; a peak beyond it is what the fleet can grow to, and no hour of it.
            rates = np.minimum(self.mean_per_s * relative, self.peak_per_s)
            need = np.maximum(fleet.needed(rates), max(float(self.serving.min_replicas), 1.0))
            need = np.minimum(need, float(found.replicas))
        # A replica is started before the hour that needs it.
        rise = np.maximum(np.roll(need, -1) - need, 0)
        paid = need + rise * min(self.serving.start_up_s / 3600, 1.0) + found.spares
        # In replicas as busy as the objectives allow; where only the simulation meets them, as busy as at the peak.
        used = self.mean_per_s / (serves_per_s or self.peak_per_s / found.replicas)
        price = self.price(found, self.serving.commitment)
        hours = 24 * DAYS_PER_MONTH
        return replace(
            found,
            usd_per_replica_hour=price,
            usd_per_month=None if price is None else price * float(paid.mean()) * hours,
            idle_share=float(np.clip(1 - used / paid.mean(), 0, 1)),
            mix=self.mix(found, paid),
        )

    def price(self, found: MachinePlan, commitment: str) -> float | None:
        """Price of one replica-hour [USD]."""
        serving = self.serving.model_copy(update={"commitment": commitment})
        offer = gpu_usd_per_hour(
            self.catalog, found.gpu, serving, found.gpus_per_replica, region=self.region, private=self.private
        )
        return None if offer is None else offer.usd_per_hour * found.gpus_per_replica * self.price_factor

    def mix(self, found: MachinePlan, paid: Floats) -> Mix | None:
        """Each replica reserved or by the hour, whichever is cheaper for the hours in which it is paid."""
        by_the_hour = "spot" if self.serving.commitment == "spot" else "on-demand"
        hourly = self.price(found, by_the_hour)
        fixed = [(price, kind) for kind in ("reserved-1y", "reserved-3y") if (price := self.price(found, kind))]
        if hourly is None:
            return None
        hours = 24 * DAYS_PER_MONTH
        reserved, total, kind = 0, 0.0, ""
        shares = [float(np.clip(paid - k, 0, 1).mean()) for k in range(math.ceil(float(paid.max()) - 1e-9))]
        for share in shares:
            price, name = min(fixed, default=(math.inf, ""))
            if price < hourly * share:
                reserved, total, kind = reserved + 1, total + price * hours, name
            else:
                total += hourly * share * hours
        return Mix(reserved, len(shares) - reserved, kind, by_the_hour, total)


def _missed(fleet: SimulatedFleet, at: Simulation) -> str:
    """What a simulated fleet misses, in words."""
    return "; ".join(
        f"{what.upper()} p{level * 100:g} {_seconds(fleet.quantile(at, what, level))}, the limit {_seconds(limit)}"
        for (what, level, limit), inside in zip(fleet.objectives, fleet.limits, strict=True)
        if not at.meets([inside])
    )


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _ranked(rows: Sequence[MachinePlan]) -> list[MachinePlan]:
    """Those that do first, cheapest first; the Pareto front of cost and E2E p95 marked."""

    def cost(row: MachinePlan) -> float:
        return math.inf if row.usd_per_month is None else row.usd_per_month

    def order(row: MachinePlan) -> tuple[Any, ...]:
        return not row.does, cost(row), row.replicas * row.gpus_per_replica, row.latency_s.get("e2e_p95", math.inf)

    ranked = sorted(rows, key=order)
    fastest, marked = math.inf, []
    for row in ranked:
        end = row.latency_s.get("e2e_p95", math.inf)
        front = row.does and row.usd_per_month is not None and end < fastest
        fastest = min(fastest, end) if front else fastest
        marked.append(replace(row, on_front=front))
    return marked
