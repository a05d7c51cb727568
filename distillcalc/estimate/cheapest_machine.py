"""Which GPU type serves each of many scenarios cheapest, without pricing every type in every month.

A bound from below, which needs no months, says which types can still win; only those are priced exactly, the most
promising first. What is found is what pricing all of them finds.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distillcalc.estimate.capacity import ReplicaCapacity, fleet
from distillcalc.estimate.inputs import Inputs

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Taken = TypeVar("Taken")

ROUNDING = 1e-8  # share by which a bound may lie above what it bounds


def taken(these: Taken, machine: Ints, rows: Ints | None = None) -> Taken:
    """Fields of shape (gpus, n or 1, k) at one machine a scenario: shape (1, scenarios, k).

    Parameters
    ----------
    these : a dataclass of such fields; dicts and dataclasses inside it too.
    machine : which, shape (scenarios,).
    rows : the scenarios, shape (scenarios,); left out, all of them.
    """

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one(inner) for key, inner in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return taken(value, machine, rows)
        if not isinstance(value, np.ndarray) or value.ndim != 3:
            return value
        return at(value, machine, rows)

    return replace(these, **{f.name: one(getattr(these, f.name)) for f in fields(these)})  # type: ignore[type-var,arg-type]


def at(values: NDArray[Any], machine: Ints, rows: Ints | None = None) -> NDArray[Any]:
    """An array of shape (gpus, n or 1, k) at one machine a scenario: shape (1, scenarios, k)."""
    places = machine if values.shape[0] > 1 else np.zeros_like(machine)
    if values.shape[1] == 1:
        return np.asarray(values[places, 0][None])
    return np.asarray(values[places, np.arange(len(machine)) if rows is None else rows][None])


def fleet_cost(x: Inputs, replicas: Floats, hourly: Floats) -> tuple[Floats, Floats]:
    """What GPUs cost by month, shape (gpus, n, months), and over the horizon, shape (gpus, n, 1) [USD]; inf if none."""
    usd = replicas * hourly * (24 * x.days)
    return usd, np.cumsum(np.where(np.isnan(usd), np.inf, usd) * x.discount, axis=2)[:, :, -1:]


def bounds(x: Inputs, capacity: ReplicaCapacity, usd_per_hour: Floats, path: Floats, *, spares: bool) -> Floats:
    """A cost over the horizon that no fleet of each GPU type goes below, shape (gpus, n) [USD].

    Replicas are at least the fewest allowed, and at least what the requests in flight and the prefill need on average;
    whole ones, staffing for waves and what autoscaling orders early come on top.
    """
    serving, profile = x.scenario.choices.serving, x.scenario.workload.profile
    weight = path * (24 * x.days) * x.discount
    rate = x.requests_per_day / 86_400 * (1.0 if serving.autoscaling else profile.peak)
    always, busy = weight.sum(axis=1, keepdims=True), (weight * rate).sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.maximum(1 / capacity.requests_per_s, capacity.seconds / capacity.batch)
    least = np.maximum(x["min_replicas"], 1.0)
    spare = x["spare_replicas"] if spares else np.zeros((1, 1))
    usd = usd_per_hour * x["gpu_price_factor"] * (np.maximum(least * always, each * busy) + spare * always)
    usd = np.where(capacity.batch >= 1, usd, np.inf)
    return np.asarray(np.broadcast_to(usd, (usd.shape[0], x.n, 1))[:, :, 0] * (1 - ROUNDING))


def cheapest(
    x: Inputs, capacity: ReplicaCapacity, usd_per_hour: Floats, *, level: float, path_name: str | None, spares: bool
) -> tuple[Ints, Floats]:
    """The GPU type of least cost over the horizon in each scenario, the first of equals, and that cost.

    Parameters
    ----------
    usd_per_hour : of a replica, shape (gpus, n or 1, 1).
    level : percentile of the requests that find a slot.
    path_name : input that moves the price from month to month; None where it stays.
    spares : as in :func:`~distillcalc.estimate.capacity.fleet`.

    Returns
    -------
    places, shape (n,), and USD, shape (n,); infinite where none can serve.
    """

    def path(y: Inputs) -> Floats:
        return np.ones((1, 1)) if path_name is None else y.price_path(path_name)

    low = bounds(x, capacity, usd_per_hour, path(x), spares=spares)
    order = np.argsort(low, axis=0, kind="stable")
    best, usd = order[0].copy(), np.full(x.n, np.inf)
    rows: Ints = np.arange(x.n)
    for place in range(len(order)):
        least = low[order[place, rows], rows]
        rows = rows[(least <= usd[rows]) & np.isfinite(least)]
        if not rows.size:
            break
        y, machine = x.take(rows), order[place, rows]
        replicas = fleet(y, taken(capacity, machine, rows), level, spares=spares).replicas
        hourly = at(usd_per_hour, machine, rows) * y["gpu_price_factor"] * path(y)
        cost = fleet_cost(y, replicas, hourly)[1][0, :, 0]
        wins = (cost < usd[rows]) | ((cost == usd[rows]) & (machine < best[rows]))
        best[rows[wins]], usd[rows[wins]] = machine[wins], cost[wins]
    return best, usd
