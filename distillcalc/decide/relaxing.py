"""Where nothing can be recommended: which condition to relax, how far, and what that would buy.

A relaxed scenario is decided anew, so what it buys is what :func:`recommend` would say. Conditions that no field of the
scenario holds (a provider's terms, a context window) are told from the gates of the options that they alone hold back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from distillcalc.catalog import Catalog
from distillcalc.decide.table import Block, compared, evaluate
from distillcalc.decide.words import usd
from distillcalc.errors import DistillcalcError
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import FAIL, LIKELY, Estimate, Outcome
from distillcalc.workload.scenario import Scenario

MARGIN = 1.001  # a latency limit is told a thousandth above the latency that it lets in
TRIES = 8  # a fleet that is sized for a limit may be a little slower than one that is not: the limit is then raised
RAISED = 1.05
OUTSIDE = {
    "terms": "get the provider's permission, or use a teacher whose terms allow it",
    "context": "use a model with a longer context window, or shorten the prompts",
    "memory": "rent GPUs with more memory, or hold the weights in fewer bits",
    "licence": "use a student whose licence allows it",
    "service": "have an account that the provider still lets fine-tune",
    "retirement": "end the horizon before it retires, or use a model that stays",
    "router": "measure a router on labelled items, or state its escalation rate",
    "region": "have the provider confirm the region",
    "fleet": "let the student be slower",
}


@dataclass(frozen=True)
class Relaxation:
    """One way to let an option through.

    Parameters
    ----------
    gates : the conditions that are given up or lowered.
    change : what to change, in words.
    option, label : what it lets in.
    present_value_usd, usd_per_1000_requests : of that, over the horizon.
    scenario : the relaxed one, which recommends that option; None where no field of a scenario holds the condition.
    """

    gates: tuple[str, ...]
    change: str
    option: str
    label: str
    present_value_usd: float
    usd_per_1000_requests: float
    scenario: Scenario | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return (
            f"{self.change}: that lets in {self.option} ({self.label}) at {usd(self.present_value_usd)} over the "
            f"horizon, {usd(self.usd_per_1000_requests)} per 1,000 requests"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "gates": list(self.gates),
            "change": self.change,
            "option": self.option,
            "label": self.label,
            "present_value_usd": self.present_value_usd,
            "usd_per_1000_requests": self.usd_per_1000_requests,
        }


@dataclass(frozen=True)
class _Change:
    gate: str
    words: str  # none where they are told by what became of a number
    apply: Callable[[dict[str, Any]], None]


def relaxations(scenario: Scenario, catalog: Catalog) -> list[Relaxation]:
    """Which condition to relax, cheapest way first; empty where an option passes as it stands, or none ever would.

    Single conditions first; pairs only where no single one is enough. A number is relaxed as little as is enough: the
    highest floor at which an option passes, the latency of the cheapest of those let in. The cost is that under the
    relaxed conditions.

    Parameters
    ----------
    scenario, catalog : as :func:`~distillcalc.decide.table.compare` takes them; distributions stand at their medians.
    """
    block = _evaluated(scenario, catalog)
    if _best(block) is not None:
        return []
    held = {gate for group in block.candidates.values() for outcome in group for gate in _held_by(outcome)}
    ways: list[_Change | str] = [*_changes(scenario, held), *(gate for gate in OUTSIDE if gate in held)]
    for size in (1, 2):
        made = (_relaxed(scenario, catalog, group) for group in combinations(ways, size))
        found = {one.change: one for one in made if one is not None}
        if found:
            return sorted(found.values(), key=lambda one: (one.present_value_usd, one.scenario is None))
    return []


def _changes(scenario: Scenario, held: Collection[str]) -> Iterator[_Change]:
    """What fields of the scenario can give up."""
    workload = scenario.workload
    names = [name for name in type(workload.slo).model_fields if getattr(workload.slo, name) is not None]
    for name in names:
        yield _Change("slo", "", partial(_without_objective, name))
    if len(names) > 1:
        yield _Change("slo", "", lambda plain: plain["workload"].update(slo={}))
    if workload.quality.floor != 0 and workload.quality.floor_relative_to_teacher != 0:
        yield _Change("quality", "", _no_floor)
    if workload.private:
        yield _Change(
            "privacy",
            "let texts leave the machines that you control (private = false)",
            lambda plain: plain["workload"].update(private=False),
        )
        if scenario.choices.distillation.inputs == "live":
            yield _Change(
                "privacy",
                'train on cleared prompts (inputs = "cleared" in [choices.distillation])',
                lambda plain: plain["choices"]["distillation"].update(inputs="cleared"),
            )
    if workload.region is not None:
        yield _Change(
            "region",
            f"let data leave {workload.region} (leave region out)",
            lambda plain: plain["workload"].update(region=None),
        )
    if scenario.choices.gpus is not None and "memory" in held:
        yield _Change(
            "memory",
            f"take any GPU that has a price, not only {', '.join(scenario.choices.gpus)} (leave gpus out)",
            lambda plain: plain["choices"].update(gpus=None),
        )


def _without_objective(name: str, plain: dict[str, Any]) -> None:
    plain["workload"]["slo"].pop(name, None)


def _no_floor(plain: dict[str, Any]) -> None:
    plain["workload"]["quality"] |= {"floor": 0.0, "floor_relative_to_teacher": None}


def _relaxed(scenario: Scenario, catalog: Catalog, group: tuple[_Change | str, ...]) -> Relaxation | None:
    """What giving a group of conditions up lets in; a condition that no field holds is given by its gate's name."""
    changes = [change for change in group if isinstance(change, _Change)]
    forgiven = [gate for gate in group if isinstance(gate, str)]
    plain = scenario.model_dump(mode="python")
    # A distribution stands at its median: what is asked is which condition, not how sure.
    for change in changes:
        change.apply(plain)
    try:
        made = Scenario.from_dict(plain)
        best = _best(_evaluated(made, catalog), forgiven)
    except DistillcalcError:
        return None
    if best is None:
        return None
    words = [change.words for change in changes if change.words]
    if any(change.gate == "quality" for change in changes):
        made, lowered = _least_floor(scenario, made, catalog, forgiven)
        words.append(lowered)
        best = _best(_evaluated(made, catalog), forgiven)
        if best is None:
            return None
    made, best = _least_latency(scenario, made, best, catalog, forgiven)
    words = [*_slo_words(scenario, made), *words, *(_outside(gate, scenario) for gate in forgiven)]
    return Relaxation(
        tuple(dict.fromkeys(change if isinstance(change, str) else change.gate for change in group)),
        " and ".join(words),
        best.option,
        best.label,
        best.present_value_usd,
        best.usd_per_1000_requests,
        None if forgiven else made,
    )


def _outside(gate: str, scenario: Scenario) -> str:
    """What is to be done about a condition that no field holds."""
    if gate == "router" and scenario.choices.routing.measured is not None:
        return "measure the router on more labelled items of this student"
    return OUTSIDE[gate]


def _evaluated(scenario: Scenario, catalog: Catalog) -> Block:
    return evaluate(Inputs(scenario), catalog, compared(scenario))


def _best(block: Block, forgiven: Collection[str] = ()) -> Estimate | None:
    """The cheapest candidate that no gate holds back, but for those forgiven."""
    passing = [
        (cost, option, place)
        for option, candidates in block.candidates.items()
        for place, outcome in enumerate(candidates)
        if math.isfinite(cost := float(outcome.present_value_usd(block.context.x.discount)[0, 0]))
        and not set(_held_by(outcome)) - set(forgiven)
    ]
    if not passing:
        return None
    _, option, place = min(passing, key=lambda found: found[0])
    return block.estimate(option, place)


def _held_by(outcome: Outcome) -> list[str]:
    if outcome.unpriced:
        return []
    return [
        gate.name
        for gate in outcome.gates
        if gate.code[0, 0] == FAIL or (gate.probability is not None and gate.probability[0, 0] < LIKELY)
    ]


def _least_floor(
    scenario: Scenario, without: Scenario, catalog: Catalog, forgiven: Collection[str]
) -> tuple[Scenario, str]:
    """The scenario with the highest floor at which anything passes, to a thousandth, and that in words."""
    quality = scenario.workload.quality
    relative = quality.retention_floor
    asked = quality.floor if relative is None else relative
    assert asked is not None

    def floored(value: float) -> Scenario:
        plain = without.model_dump(mode="python")
        name = "floor" if relative is None else "floor_relative_to_teacher"
        plain["workload"]["quality"] |= {"floor": None, "floor_relative_to_teacher": None, name: value}
        return Scenario.from_dict(plain)

    low, high = 0, int(np.ceil(asked * 1000 - 1e-9))
    while high - low > 1:  # more is asked for, fewer pass
        middle = (low + high) // 2
        passes = _best(_evaluated(floored(middle / 1000), catalog), forgiven) is not None
        low, high = (middle, high) if passes else (low, middle)
    of_teacher = "" if relative is None else " of the teacher's"
    words = f"lower the quality floor from {quality.metric} {asked:.6g}{of_teacher} to {low / 1000:.3g}{of_teacher}"
    return floored(low / 1000), words


def _least_latency(
    scenario: Scenario, made: Scenario, best: Estimate, catalog: Catalog, forgiven: Collection[str]
) -> tuple[Scenario, Estimate]:
    """Objectives that were left out, as long as the option needs, and what is the answer then.

    One that the option meets as it was asked stays; one of unknown latency stays out.
    """
    gone = {
        name: limit
        for name in type(scenario.workload.slo).model_fields
        if (limit := getattr(scenario.workload.slo, name)) is not None and getattr(made.workload.slo, name) is None
    }
    known = {name: limit for name, limit in gone.items() if name in best.latency}
    plain = made.model_dump(mode="python")
    for attempt in range(TRIES if known else 0):
        for name, limit in known.items():
            needed = best.latency[name] * MARGIN * RAISED**attempt
            plain["workload"]["slo"][name] = limit if best.latency[name] <= limit else _rounded_up(needed)
        tight = Scenario.from_dict(plain)
        again = _best(_evaluated(tight, catalog), forgiven)
        if again is not None:
            return tight, again
    return made, best


def _rounded_up(value: float) -> float:
    """To the four digits that are told, so that what is told is enough."""
    places = 3 - math.floor(math.log10(value))
    return round(math.ceil(round(value * 10.0**places, 6)) / 10.0**places, max(places, 0))


def _slo_words(scenario: Scenario, made: Scenario) -> Iterator[str]:
    """What became of each objective that is not as it was."""
    for name in type(scenario.workload.slo).model_fields:
        own, now = getattr(scenario.workload.slo, name), getattr(made.workload.slo, name)
        if own == now:
            continue
        what, level, unit = name.split("_")
        asked = f"{what.upper()} {level} of {_seconds(own, unit)}"
        yield f"leave out the objective {asked}" if now is None else f"relax {asked} to {_seconds(now, unit)}"


def _seconds(value: float, unit: str) -> str:
    milliseconds = value if unit == "ms" else value * 1000
    return f"{milliseconds:.4g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.4g} s"
