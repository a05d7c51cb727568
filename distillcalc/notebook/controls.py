"""What a planner moves: the inputs that have a slider, their units and bounds, and a scenario with them moved.

Every value is kept and set in the units of the scenario; only what is shown may be a percentage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillcalc.catalog import Catalog
from distillcalc.decide.break_even import VOLUMES
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.inputs import SPECS, UNSTATED, with_inputs
from distillcalc.workload.scenario import Scenario

E2E = "e2e_p95_s"
NO_LIMIT_S = 100.0  # the right end of the latency slider: nothing is asked for there


@dataclass(frozen=True)
class Control:
    """One input with a slider.

    Parameters
    ----------
    name : as sweeps call it; ``e2e_p95_s`` is the latency objective.
    label : what it is, with its unit: what a screen reader says.
    group : heading that it stands under.
    low, high : ends of the slider, in the scenario's unit; a typed number may lie beyond them.
    log : whether equal steps are equal factors.
    step : of the slider: in decades where ``log``, else in the shown unit.
    scale : shown value / scenario's value (100 for a percentage).
    """

    name: str
    label: str
    group: str
    low: float
    high: float
    log: bool = False
    step: float = 0.01
    scale: float = 1.0

    @property
    def least(self) -> float:
        """The least value that may be typed."""
        if self.name == "requests_per_day":
            return VOLUMES[0]  # below it no break-even is looked for
        return SPECS[self.name].low if self.name in SPECS else 1e-3

    @property
    def most(self) -> float:
        """The largest value that may be typed."""
        return SPECS[self.name].high if self.name in SPECS else 1e6

    @property
    def whole(self) -> bool:
        """Whether it is a whole number."""
        return self.name in SPECS and SPECS[self.name].integer


_CONTROLS = (
    Control("requests_per_day", "Requests a day", "Traffic", 10, 1e7, log=True),
    Control("growth_per_month", "Growth [% a month]", "Traffic", -0.2, 0.3, step=0.5, scale=100),
    Control("horizon_months", "Horizon [months]", "Traffic", 1, 60, step=1),
    Control("input_tokens", "Big model's prompt [tokens]", "One request", 10, 1e5, log=True),
    Control("cacheable_prefix_tokens", "Shared start of it [tokens]", "One request", 0, 2e4, step=50),
    Control("output_tokens", "Answer [tokens]", "One request", 1, 1e4, log=True),
    Control("student_input_tokens", "Student's prompt [tokens]", "One request", 10, 1e5, log=True),
    Control("floor", "Least quality [share right]", "What must hold", 0.5, 1.0, step=0.005),
    Control(E2E, "Slowest answer, 95 of 100 [s]", "What must hold", 0.05, NO_LIMIT_S, log=True),
    Control("escalation_rate", "Router sends on [% of requests]", "What must hold", 0, 1, step=1, scale=100),
    Control("teacher_price_factor", "Big model's price [× list]", "Prices", 0.05, 20, log=True),
    Control("gpu_price_factor", "GPU price [× list]", "Prices", 0.05, 20, log=True),
    Control("engineering_hours", "Making a student [hours]", "Prices", 1, 2000, log=True),
    Control("operations_hours_per_month", "Running it [hours a month]", "Prices", 0, 200, step=1),
)
CONTROLS: dict[str, Control] = {control.name: control for control in _CONTROLS}


def value_of(scenario: Scenario, name: str) -> float:
    """What a scenario is computed with for one control; where it states nothing, what stands in for it.

    Parameters
    ----------
    scenario : whose value.
    name : of the control.
    """
    workload = scenario.workload
    if name == E2E:
        return NO_LIMIT_S if workload.slo.e2e_p95_s is None else workload.slo.e2e_p95_s
    if name == "floor":
        quality = workload.quality
        relative = quality.retention_floor
        return float(quality.floor if quality.floor is not None else relative or 0.0)
    if name in ("input_tokens", "output_tokens", "student_input_tokens"):
        return float(getattr(workload, f"mean_{name}"))
    value: Any = scenario
    for part in SPECS[name].path.split("."):
        value = getattr(value, part)
    return float(UNSTATED[name] if value is None else value)


def note_on(scenario: Scenario, name: str) -> str:
    """What a reader must know of a control in this scenario: what its number stands for; empty where that is plain."""
    workload, choices = scenario.workload, scenario.choices
    if name == "floor" and workload.quality.floor is None:
        return f"share of the big model's {workload.quality.metric}"
    if name == "floor":
        return f"mean {workload.quality.metric}"
    if name == E2E and workload.slo.e2e_p95_s is None:
        return "no limit is set"
    if name == "student_input_tokens" and workload.student_input_tokens is None:
        return "the same as the big model's"
    if name == "cacheable_prefix_tokens":
        api = Catalog.load().api(choices.teacher) if "/" in choices.teacher else None  # else it runs on own machines
        least = api.cache_min_prefix_tokens if api else None
        if least and 0 < workload.cacheable_prefix_tokens < least:
            return f"below {least:,} nothing is cached"
    if name == "escalation_rate":
        if choices.routing.measured is not None:
            return "measured: the decision picks it"
        return "nobody has measured it: 20% is taken" if choices.routing.escalation_rate is None else ""
    return ""


def is_fixed(scenario: Scenario, name: str) -> bool:
    """Whether a scenario holds a measurement that a slider must not overrule: a measured router's escalation rate."""
    return name == "escalation_rate" and scenario.choices.routing.measured is not None


def moved(scenario: Scenario, values: Mapping[str, float]) -> Scenario:
    """The scenario with controls moved, all else as it was.

    A number takes the place of a distribution; token lengths keep their shape. A shared start that is longer than its
    prompt is cut to it, and the latency limit is taken away at the slider's right end.

    Parameters
    ----------
    scenario : where the controls stood.
    values : name of a control -> its value, in the unit of the scenario.

    Raises
    ------
    UnknownName, InputError
        For a control that is not there, or a scenario that cannot be right.
    """
    unknown = next((name for name in values if name not in CONTROLS), None)
    if unknown is not None:
        raise UnknownName("control", unknown, CONTROLS, f"Controls: {', '.join(CONTROLS)}.")
    fixed = next((name for name in values if is_fixed(scenario, name)), None)
    if fixed is not None:
        raise InputError(f"{fixed} is measured in this scenario, so it cannot be moved")
    inputs = {name: float(value) for name, value in values.items() if name not in (E2E, "floor")}
    if {"input_tokens", "cacheable_prefix_tokens"} & inputs.keys():
        prompt = inputs.get("input_tokens", scenario.workload.mean_input_tokens)
        prefix = inputs.get("cacheable_prefix_tokens", scenario.workload.cacheable_prefix_tokens)
        inputs["cacheable_prefix_tokens"] = min(prefix, prompt)
    plain = _without_ties(scenario, values)
    changed = with_inputs(Scenario.from_dict(plain) if plain else scenario, inputs) if inputs else scenario
    rest = {name: float(values[name]) for name in (E2E, "floor") if name in values}
    return _with_objectives(changed, rest) if rest else changed


def at_medians(scenario: Scenario) -> Scenario:
    """The scenario with every distribution at its median: what a closed form is computed for."""
    from distillcalc.estimate.inputs import Inputs, uncertain_inputs

    names = uncertain_inputs(scenario)
    if not names:
        return scenario
    return with_inputs(
        Scenario.from_dict({**scenario.model_dump(mode="python"), "correlations": {}, "priors": ()}),
        {name: float(Inputs(scenario)[name][0, 0]) for name in names},
    )


def _without_ties(scenario: Scenario, values: Mapping[str, float]) -> dict[str, Any] | None:
    """The scenario without correlations and priors of inputs that become numbers; None where it has none of them."""
    ties = {a: {b: r for b, r in others.items() if b not in values} for a, others in scenario.correlations.items()}
    kept = {a: others for a, others in ties.items() if others and a not in values}
    priors = tuple(name for name in scenario.priors if name not in values)
    if kept == scenario.correlations and priors == scenario.priors:
        return None
    return {**scenario.model_dump(mode="python"), "correlations": kept, "priors": priors}


def _with_objectives(scenario: Scenario, values: Mapping[str, float]) -> Scenario:
    plain = scenario.model_dump(mode="python")
    if E2E in values:
        limit = values[E2E]
        plain["workload"]["slo"][E2E] = None if limit >= NO_LIMIT_S else limit
    if "floor" in values:
        absolute = scenario.workload.quality.floor is not None
        name = "floor" if absolute else "floor_relative_to_teacher"
        plain["workload"]["quality"] |= {"floor": None, "floor_relative_to_teacher": None, name: values["floor"]}
    return Scenario.from_dict(plain)
