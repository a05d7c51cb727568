"""The calculator over arrays of inputs, as one tidy table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.catalog import Catalog
from distillcalc.decide.table import Block, blocks, compared, table_of
from distillcalc.estimate.inputs import Inputs, with_inputs
from distillcalc.estimate.outcome import FAIL
from distillcalc.workload.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

LATENCIES = ("ttft_p95", "tpot_p95", "e2e_p95")


def sweep(scenario: Scenario, inputs: Mapping[str, ArrayLike], *, catalog: Catalog | None = None) -> pd.DataFrame:
    """Every option for every scenario of an array of inputs, in one vectorised call.

    Parameters
    ----------
    scenario : what all scenarios share; distributions stand at their medians.
    inputs : input name -> values, shape (n,) each, or one number for all; names as in
        ``distillcalc.estimate.inputs.SPECS``.
    catalog : what is known; left out, the shipped one. The scenario's overrides are laid over it.

    Returns
    -------
    DataFrame with n x options rows: ``scenario`` (its place in the arrays), the swept inputs, ``option``,
    ``label``, ``status``, ``recommended``, ``present_value_usd``, ``one_off_usd``, ``monthly_usd_first``,
    ``monthly_usd_last``, ``usd_per_1000_requests``, ``quality_mean``, ``ttft_p95_s``, ``tpot_p95_ms``,
    ``e2e_p95_s``.

    Raises
    ------
    UnknownName, InputError
        For an input that cannot be swept, values out of bounds, or lengths that differ.
    """
    import pandas as pd

    horizons = np.unique(np.asarray(inputs.get("horizon_months", []), dtype=float))
    if len(horizons) > 1:
        return _by_horizon(scenario, inputs, catalog)
    known = (catalog or Catalog.load()).with_overrides(scenario.overrides)
    options = compared(scenario)
    parts = list(blocks(scenario, known, inputs, options))
    table = table_of(parts)
    n = len(table.best)
    columns: dict[str, Any] = {"scenario": np.repeat(np.arange(n), len(options))}
    for name in inputs:
        swept = np.concatenate([np.broadcast_to(part.context.x[name][:, 0], part.n) for part in parts])
        columns[name] = np.repeat(swept, len(options))
    columns["option"] = _categorical(np.tile(np.arange(len(options)), n), options)
    details = [_details(part, options) for part in parts]
    labels = np.concatenate([detail.pop("label") for detail in details])
    codes, names = pd.factorize(labels.ravel())
    columns["label"] = _categorical(codes, [str(name) for name in names])
    statuses = np.concatenate([detail.pop("status") for detail in details]).ravel()
    columns["status"] = _categorical(statuses, STATUSES)
    columns["recommended"] = (table.best[:, None] == np.arange(len(options))).ravel()
    columns["present_value_usd"] = table.present_value_usd.ravel()
    for name in details[0]:
        columns[name] = np.concatenate([detail[name] for detail in details]).ravel()
    return pd.DataFrame(columns)


def _by_horizon(scenario: Scenario, inputs: Mapping[str, ArrayLike], catalog: Catalog | None) -> pd.DataFrame:
    """A sweep over several horizons: one sweep for each, since which models live through it depends on it."""
    import pandas as pd

    checked = Inputs(scenario, inputs)
    months = checked.swept["horizon_months"][:, 0]
    parts = []
    for value in np.unique(months):
        rows = np.flatnonzero(months == value)
        own = {
            name: v[rows, 0] if len(v) > 1 else v[0, 0] for name, v in checked.swept.items() if name != "horizon_months"
        }
        part = sweep(
            with_inputs(scenario, {"horizon_months": value}),
            own | {"horizon_months": np.full(len(rows), value)},
            catalog=catalog,
        )
        part["scenario"] = rows[part["scenario"]]
        parts.append(part)
    whole = pd.concat(parts, ignore_index=True)
    for name in ("option", "label", "status"):
        whole[name] = pd.Categorical(
            whole[name], list(dict.fromkeys(c for part in parts for c in part[name].cat.categories))
        )
    whole = whole.sort_values(["scenario", "option"], kind="stable", ignore_index=True)
    return whole[["scenario", *inputs, *(name for name in whole if name not in ("scenario", *inputs))]]


def _categorical(codes: NDArray[Any], names: Sequence[str]) -> pd.Categorical[str]:
    import pandas as pd

    return pd.Categorical.from_codes(codes.astype(np.int64), pd.Index(list(names)))


STATUSES = ("feasible", "provisional", "unproven", "ruled-out", "unpriced")


def _details(part: Block, options: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Per scenario and option, the figures of the chosen candidate, shape (n, options)."""
    x, n = part.context.x, part.n
    requests = np.cumsum(x.requests * x.discount, axis=1)[:, -1]  # levelised, as in Estimate
    last = x["horizon_months"][:, 0].astype(np.intp) - 1
    found: dict[str, list[NDArray[Any]]] = {}

    def put(name: str, values: NDArray[Any]) -> None:
        found.setdefault(name, []).append(values)

    for option in options:
        candidates, choice = part.candidates[option], np.broadcast_to(part.choice[option], n)

        def chosen(values: list[NDArray[Any]], choice: NDArray[np.intp] = choice) -> NDArray[Any]:
            if len(values) == 1:
                return np.broadcast_to(values[0], n)
            stacked: NDArray[Any] = np.stack([np.broadcast_to(v, n) for v in values])
            return np.asarray(np.take_along_axis(stacked, choice[None], axis=0)[0])

        put("label", chosen([np.array(c.labels, dtype=object)[c.label_index[:, 0]] for c in candidates]))
        put("status", chosen([_status(c) for c in candidates]))
        put(
            "one_off_usd",
            chosen([c.one_off_total_usd[:, 0] if not c.unpriced else np.full(1, np.nan) for c in candidates]),
        )
        put("monthly_usd_first", chosen([c.monthly_total_usd[:, 0] for c in candidates]))
        put("monthly_usd_last", chosen([_at_month(c.monthly_total_usd, last) for c in candidates]))
        put("usd_per_1000_requests", part.present_value_usd[option] / requests * 1000)
        put("quality_mean", chosen([c.quality_mean[:, 0] for c in candidates]))
        for name in LATENCIES:
            factor, unit = (1000.0, "ms") if name.startswith("tpot") else (1.0, "s")
            put(
                f"{name}_{unit}",
                chosen([c.latency.get(name, np.full((1, 1), np.nan))[:, 0] * factor for c in candidates]),
            )
    return {name: np.stack([np.broadcast_to(v, n) for v in values], axis=1) for name, values in found.items()}


def _at_month(monthly: NDArray[Any], month: NDArray[np.intp]) -> NDArray[Any]:
    """The value of each scenario's own last month, shape (n or 1,)."""
    return np.asarray(monthly[np.arange(monthly.shape[0]) if monthly.shape[0] > 1 else 0, month])


def _status(outcome: Any) -> NDArray[np.int8]:
    """Index into STATUSES for each scenario, shape (n or 1,)."""
    if outcome.unpriced:
        return np.full(1, 4, dtype=np.int8)
    failed = np.zeros((1, 1), dtype=bool)
    for gate in outcome.gates:
        failed = failed | (gate.code == FAIL)
    status = np.where(failed, 3, np.where(~outcome.likely, 2, np.where(outcome.unknown, 1, 0)))
    return np.asarray(status[:, 0], dtype=np.int8)
