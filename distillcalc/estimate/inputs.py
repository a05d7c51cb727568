"""The numeric inputs of a scenario by name, each a number or an array over scenarios.

Everything the calculator computes is computed from :class:`Inputs`; a single scenario is the array of
length one. Sweeps, tipping points and draws only differ in the arrays they put in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.calendar import add_months, month_days, month_of
from distillcalc.errors import InputError, UnknownName
from distillcalc.workload.distributions import Distribution
from distillcalc.workload.lengths import JointLengths, LognormalLengths, Points, SampledLengths, TokenLengths
from distillcalc.workload.scenario import Scenario
from distillcalc.workload.workload import Frozen

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class InputSpec:
    """One input that may be swept.

    Parameters
    ----------
    path : where it stands in the scenario; the last part is its name.
    unit : as shown beside it.
    low, high : hard bounds, inclusive.
    integer : whole numbers only.
    alias : its name, where the last part of the path is that of another input.
    """

    path: str
    unit: str
    low: float
    high: float
    integer: bool = False
    alias: str = ""

    @property
    def name(self) -> str:
        """The name it is swept by."""
        return self.alias or self.path.rsplit(".", 1)[-1]


_SPECS = [
    InputSpec("workload.requests_per_day", "requests/day", 1e-6, 1e11),
    InputSpec("workload.growth_per_month", "per month", -0.99, 2),
    InputSpec("workload.interarrival_cv", "", 0, 1000),
    InputSpec("workload.input_tokens", "tokens", 0, 1e8),
    InputSpec("workload.output_tokens", "tokens", 0, 1e8),
    InputSpec("workload.student_input_tokens", "tokens", 0, 1e8),
    InputSpec("workload.cacheable_prefix_tokens", "tokens", 0, 1e8),
    InputSpec("workload.distinct_prefixes", "", 1, 1e11),
    InputSpec("workload.cache_ttl_s", "s", 1e-3, 1e8),
    InputSpec("workload.reasoning_tokens", "tokens", 0, 1e6),
    InputSpec("workload.student_reasoning_tokens", "tokens", 0, 1e6),
    InputSpec("workload.batchable_share", "", 0, 1),
    InputSpec("workload.task_changes_per_year", "per year", 0, 365),
    InputSpec("workload.wrong_answer_usd", "USD", 0, 1e9),
    InputSpec("workload.network_rtt_s", "s", 0, 10),
    InputSpec("workload.horizon_months", "months", 1, 120, integer=True),
    InputSpec("workload.discount_rate", "per year", -0.99, 10),
    InputSpec("workload.quality.floor", "", 0, 1),
    InputSpec("choices.teacher_quality", "", 1e-3, 0.999),
    InputSpec("choices.student_retention", "", 1e-3, 1),
    InputSpec("choices.teacher_price_factor", "", 1e-6, 100),
    InputSpec("choices.gpu_price_factor", "", 1e-6, 100),
    InputSpec("choices.token_price_change_per_year", "per year", -0.99, 10),
    InputSpec("choices.gpu_price_change_per_year", "per year", -0.99, 10),
    InputSpec("choices.migration_hours", "hours", 0, 1e6),
    InputSpec("choices.distillation.labels", "labels", 1, 1e9),
    InputSpec("choices.distillation.samples_per_prompt", "", 1, 1000),
    InputSpec("choices.distillation.filter_yield", "", 1e-3, 1),
    InputSpec("choices.distillation.human_evaluation_items", "items", 0, 1e7),
    InputSpec("choices.distillation.human_label_usd", "USD", 0, 1e6),
    InputSpec("choices.distillation.epochs", "", 1e-3, 100),
    InputSpec("choices.distillation.failed_runs", "runs", 0, 100),
    InputSpec("choices.distillation.engineering_hours", "hours", 0, 1e7),
    InputSpec("choices.distillation.engineering_usd_per_hour", "USD/hour", 0, 1e5),
    InputSpec("choices.distillation.repeat_share", "", 0, 1),
    InputSpec("choices.distillation.mfu", "", 1e-3, 1, alias="training_mfu"),
    InputSpec("choices.serving.step_time_factor", "", 1e-2, 100),
    InputSpec("choices.serving.spare_replicas", "replicas", 0, 1000),
    InputSpec("choices.serving.min_replicas", "replicas", 1, 1e5),
    InputSpec("choices.serving.operations_hours_per_month", "hours", 0, 1e4),
    InputSpec("choices.routing.escalation_rate", "", 0, 1),
    InputSpec("choices.routing.apgr", "", 1e-3, 0.999),
    InputSpec("choices.routing.verifier_usd_per_request", "USD", 0, 1e6),
    InputSpec("choices.routing.engineering_hours", "hours", 0, 1e7, alias="router_engineering_hours"),
]
SPECS: dict[str, InputSpec] = {spec.name: spec for spec in _SPECS}
UNSTATED = {"escalation_rate": 0.2, "apgr": 0.6}  # what a router is taken to do before anybody has said so
LENGTHS = ("input_tokens", "output_tokens", "student_input_tokens")


def _stated(scenario: Scenario, spec: InputSpec) -> float:
    """The scenario's own value; nan where it leaves the field out."""
    workload = scenario.workload
    if spec.name in LENGTHS:
        return float(getattr(workload, f"mean_{spec.name}"))
    value: Any = scenario
    for part in spec.path.split("."):
        value = getattr(value, part)
    return float("nan") if value is None or isinstance(value, dict) else float(value)


class Inputs:
    """The inputs of n scenarios that share everything but the arrays given.

    Every value has shape (n, 1), or (1, 1) where it is the same for all, so that it broadcasts against
    the months, shape (1, months).

    Parameters
    ----------
    scenario : what all of them share.
    arrays : input name -> values, shape (n,); all of one length, or single numbers.
    latent : levels in (0, 1) by name, shape (n, 1) each, of what is believed but is no input: the quality of each
        model, whether a router works. Given, every belief is drawn: a scenario is then one way that things may be.

    Raises
    ------
    UnknownName
        For a name that cannot be swept.
    InputError
        For lengths that differ, a value out of its bounds, or the APGR of a router that is measured.
    """

    def __init__(
        self,
        scenario: Scenario,
        arrays: Mapping[str, ArrayLike] | None = None,
        latent: Mapping[str, Floats] | None = None,
    ) -> None:
        self.scenario = scenario
        self._latent = latent
        self.swept: dict[str, Floats] = {}
        for name, values in (arrays or {}).items():
            self.swept[name] = _checked(name, values)
        if "apgr" in self.swept and scenario.choices.routing.measured is not None:
            raise InputError(
                "apgr cannot be swept: the router is measured, so what it recovers at an escalation rate follows from "
                "its counts. Sweep escalation_rate, or leave out [choices.routing.measured]"
            )
        sizes = {name: array.shape[0] for name, array in self.swept.items() if array.shape[0] > 1}
        if len(set(sizes.values())) > 1:
            raise InputError(f"swept inputs must have one length. Got {sizes}")
        rows = {levels.shape[0] for levels in (latent or {}).values()}  # asked for later, they are of one row
        self.n = max([*sizes.values(), *rows], default=1)
        self._refuse_a_prefix_longer_than_its_prompt(scenario)
        self._values: dict[str, Floats] = {}
        if "horizon_months" in self.swept:
            self.months = int(self.swept["horizon_months"].max())
        else:
            self.months = scenario.workload.horizon_months

    def _refuse_a_prefix_longer_than_its_prompt(self, scenario: Scenario) -> None:
        if not {"input_tokens", "cacheable_prefix_tokens"} & self.swept.keys():
            return
        prefix = self.swept.get("cacheable_prefix_tokens", scenario.workload.cacheable_prefix_tokens)
        prompt = self.swept.get("input_tokens", scenario.workload.mean_input_tokens)
        bad = np.flatnonzero(np.asarray(prefix > prompt))
        if bad.size:
            place = int(bad[0])
            raise InputError(
                "cacheable_prefix_tokens must not exceed input_tokens. "
                f"Got {np.broadcast_to(prefix, (self.n, 1))[place, 0]:g} of "
                f"{np.broadcast_to(prompt, (self.n, 1))[place, 0]:g} tokens in place {place}"
            )

    def __getitem__(self, name: str) -> Floats:
        if name not in self._values:
            if name in self.swept:
                value = self.swept[name]
            elif name == "student_input_tokens" and self.scenario.workload.student_input_tokens is None:
                value = self["input_tokens"]
            else:
                own = self.stated(name)
                value = np.array([[UNSTATED.get(name, float("nan")) if own is None else own]])
            self._values[name] = value
        return self._values[name]

    @property
    def drawn(self) -> bool:
        """Whether beliefs are drawn too, so that each scenario is one way that things may be."""
        return self._latent is not None

    def latent(self, name: str) -> Floats | None:
        """Levels in (0, 1) of something believed, shape (n, 1); None where beliefs are not drawn."""
        return None if self._latent is None else self._latent[name]

    def stated(self, name: str) -> float | None:
        """The scenario's own value of an input; None where it leaves it out."""
        value = _stated(self.scenario, SPECS[name])
        return None if np.isnan(value) else value

    def rows(self, start: int, stop: int) -> Inputs:
        """The scenarios from ``start`` to ``stop``, as Inputs of their own over the same months."""
        part = Inputs(self.scenario)
        part.swept = {name: array[start:stop] if array.shape[0] > 1 else array for name, array in self.swept.items()}
        part.n = min(stop, self.n) - start
        if self._latent is not None:
            part._latent = {name: levels[start:stop] for name, levels in self._latent.items()}
        part.months = self.months
        return part

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """The scenarios in these places, as Inputs of their own over the same months; itself for all of them."""
        if len(rows) == self.n:
            return self
        part = Inputs(self.scenario)
        part.swept = {name: array[rows] if array.shape[0] > 1 else array for name, array in self.swept.items()}
        part.n, part.months = len(rows), self.months
        if self._latent is not None:
            part._latent = {name: levels[rows] for name, levels in self._latent.items()}
        volumes = self.requests_per_day
        part.__dict__["requests_per_day"] = volumes[rows] if volumes.shape[0] > 1 else volumes
        return part

    def at_share(self, share: Floats) -> Inputs:
        """The same scenarios where only a share of the requests arrives, shape (n or 1, 1)."""
        part = Inputs(self.scenario)
        part.swept, part.n, part.months, part._latent = self.swept, self.n, self.months, self._latent
        part.__dict__["requests_per_day"] = self.requests_per_day * share
        return part

    @cached_property
    def last_day(self) -> date:
        """First day after the longest horizon."""
        return add_months(self.scenario.workload.start, self.months)

    @cached_property
    def month(self) -> Floats:
        """Month index, shape (1, months)."""
        return np.arange(self.months, dtype=float)[None, :]

    @cached_property
    def days(self) -> Floats:
        """Calendar days of each month inside the horizon, shape (n or 1, months); 0 past it."""
        days = month_days(self.scenario.workload.start, self.months)[None, :]
        if "horizon_months" in self.swept:
            return days * (self.month < self["horizon_months"])
        return days

    @cached_property
    def requests_per_day(self) -> Floats:
        """Mean requests per day in each month, shape (n, months): volume x (1 + growth)^month."""
        growth = self["growth_per_month"]
        if growth.shape[0] == 1 and growth[0, 0] == 0:
            return np.repeat(self["requests_per_day"], self.months, axis=1)
        return self["requests_per_day"] * (1 + growth) ** self.month

    @cached_property
    def requests(self) -> Floats:
        """Requests of each month, shape (n, months)."""
        return self.requests_per_day * self.days

    @cached_property
    def discount(self) -> Floats:
        """Present value of a dollar spent in the middle of each month, shape (n or 1, months)."""
        return np.asarray((1 + self["discount_rate"]) ** (-(self.month + 0.5) / 12))

    def ends_after(self, day: date) -> NDArray[np.bool_]:
        """Whether a day comes before the end of each scenario's horizon, shape (n or 1, 1)."""
        return np.asarray(month_of(day, self.scenario.workload.start) < self["horizon_months"])

    def last_month(self, values: Floats) -> Floats:
        """The value of each scenario's own last month, shape (n or 1, 1), of values by month."""
        if "horizon_months" not in self.swept:
            return values[:, -1:]
        last = self["horizon_months"].astype(np.intp) - 1
        rows = max(values.shape[0], last.shape[0])
        by_month = np.broadcast_to(values, (rows, self.months))
        return np.asarray(np.take_along_axis(by_month, np.broadcast_to(last, (rows, 1)), axis=1))

    def price_path(self, name: str) -> Floats:
        """Price level of each month against the first, from a yearly change, shape (n or 1, months)."""
        return np.asarray((1 + self[name]) ** (self.month / 12))

    @cached_property
    def lengths(self) -> JointLengths:
        """The teacher's input and output lengths."""
        return self._joint(self.scenario.workload.points, self.scenario.workload.input_tokens, "input_tokens")

    @cached_property
    def student_lengths(self) -> JointLengths:
        """The student's input and output lengths."""
        workload = self.scenario.workload
        if workload.student_input_tokens is None and "student_input_tokens" not in self.swept:
            return self.lengths
        prompt = workload.student_input_tokens or workload.input_tokens
        return self._joint(workload.student_points, prompt, "student_input_tokens")

    def _joint(self, points: Points | None, inputs: TokenLengths | None, name: str) -> JointLengths:
        mean_input, mean_output = np.broadcast_arrays(self[name], self["output_tokens"])
        mean_input, mean_output = mean_input.copy(), mean_output.copy()
        if points is not None:
            return SampledLengths(points, mean_input, mean_output)
        workload = self.scenario.workload
        assert inputs is not None
        assert workload.output_tokens is not None
        return LognormalLengths(
            mean_input, mean_output, inputs.sigma, workload.output_tokens.sigma, workload.length_correlation
        )


def uncertain_inputs(scenario: Scenario) -> dict[str, Distribution]:
    """The inputs of a scenario that are given as distributions, by the names that sweeps use, in their order.

    Raises
    ------
    InputError
        For a distribution of something that is not an input.
    """
    given = dict(_distributions(scenario))
    known = {spec.path: name for name, spec in SPECS.items()}
    unknown = [path for path in given if path not in known]
    if unknown:
        raise InputError(
            f"{unknown[0]} cannot be a distribution. Those that can: {', '.join(spec.path for spec in SPECS.values())}"
        )
    return {name: given[path] for path, name in known.items() if path in given}


def _distributions(model: Frozen, path: str = "") -> Iterator[tuple[str, Distribution]]:
    for name, distribution in model.uncertain.items():
        yield path + name, distribution
    for name in type(model).model_fields:
        inner = getattr(model, name)
        if isinstance(inner, Frozen):
            yield from _distributions(inner, f"{path}{name}.")


def _checked(name: str, values: ArrayLike) -> Floats:
    if name not in SPECS:
        raise UnknownName("input", name, SPECS, f"Inputs that can be swept: {', '.join(SPECS)}.")
    spec = SPECS[name]
    try:
        array = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a number or an array of numbers. Got {values!r}") from error
    if array.ndim != 1 or not array.size:
        raise InputError(f"{name} must be a number or a one-dimensional array. Got shape {array.shape}")
    bad = ~((array >= spec.low) & (array <= spec.high))
    if bad.any():
        raise InputError(
            f"{name} must be between {spec.low:g} and {spec.high:g} {spec.unit}".rstrip()
            + f". Got {array[bad][0]:g} in place {int(np.flatnonzero(bad)[0])}"
        )
    if spec.integer and np.any(array != np.round(array)):
        raise InputError(f"{name} must be whole numbers. Got {array[array != np.round(array)][0]:g}")
    return array[:, None]


def with_inputs(scenario: Scenario, values: Mapping[str, float]) -> Scenario:
    """The scenario with inputs set by the names that sweeps use.

    A token length keeps the shape of its distribution and is scaled to the new mean.

    Raises
    ------
    UnknownName, InputError
        As :class:`Inputs`.
    """
    plain = scenario.model_dump(mode="python")
    for name, value in values.items():
        number = float(_checked(name, value)[0, 0])
        spec = SPECS[name]
        target = plain
        *parents, leaf = spec.path.split(".")
        for part in parents:
            target = target.setdefault(part, {})
        if name == "floor":
            target.pop("floor_relative_to_teacher", None)
        if name == "teacher_quality":
            plain["choices"]["evaluations"].pop("teacher", None)  # a stated quality stands over counts, as in a sweep
        elif name == "student_retention":
            published = {key: v for key, v in plain["choices"]["evaluations"].items() if key == "teacher" or "/" in key}
            plain["choices"]["evaluations"] = published
        if name in LENGTHS:
            _scale_lengths(scenario, target, name, number)
        else:
            target[leaf] = int(number) if spec.integer else number
    return Scenario.from_dict(plain)


def _scale_lengths(scenario: Scenario, target: dict[str, Any], name: str, mean: float) -> None:
    workload, base = scenario.workload, _stated(scenario, SPECS[name])
    if workload.length_sample is not None and name != "student_input_tokens":
        if not base:
            raise InputError(f"{name} of length_sample are all 0, so they cannot be scaled to a mean of {mean:g}")
        column = 0 if name == "input_tokens" else 1
        factor = mean / base
        target["length_sample"] = [
            tuple(v * factor if i == column else v for i, v in enumerate(row)) for row in target["length_sample"]
        ]
        return
    lengths: TokenLengths | None = getattr(workload, name)
    if lengths is None and name == "student_input_tokens":  # a prompt of its own starts from the teacher's
        rows = workload.length_sample or ()
        unweighted = TokenLengths(sample=tuple(row[0] for row in rows)) if rows and len(rows[0]) == 2 else None
        lengths = workload.input_tokens or unweighted
    if lengths is None or not base:
        target[name] = mean
        return
    factor = mean / base
    if lengths.sample is not None:
        target[name] = {"sample": [v * factor for v in lengths.sample]}
    elif lengths.quantiles is not None:
        target[name] = {"quantiles": {k: v * factor for k, v in lengths.quantiles.items()}}
    elif lengths.p95 is not None:
        stated = mean if lengths.mean == base else (lengths.mean or 0.0) * factor  # a copula's mean is not quite it
        target[name] = {"mean": stated, "p95": lengths.p95 * factor}
    else:
        target[name] = mean
