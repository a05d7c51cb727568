"""Where nothing can be recommended: which condition to relax, how far, and what that would buy.

A relaxed scenario is decided anew, so what it buys is what :func:`recommend` would say. Conditions that no field of the
scenario holds (a provider's terms, a context window) are told from the gates of the options that they alone hold back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from distillcalc.catalog import Catalog
from distillcalc.decide.table import Block, compare, compared, evaluate
from distillcalc.decide.words import seconds, usd
from distillcalc.errors import DistillcalcError
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import FAIL, LIKELY, Estimate, Outcome
from distillcalc.workload.scenario import Scenario

MARGIN = 1.001  # a latency limit is told a thousandth above the latency that it lets in
OUTSIDE = {
    "terms": "get the provider's permission, or use a teacher whose terms allow it",
    "context": "use a model with a longer context window, or shorten the prompts",
    "memory": "rent GPUs with more memory, or hold the weights in fewer bits",
    "licence": "use a student whose licence allows it",
    "service": "have an account that the provider still lets fine-tune",
    "retirement": "end the horizon before it retires, or use a model that stays",
    "router": "measure a router and state its escalation rate",
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
    words: Callable[[Scenario, Estimate], str]
    apply: Callable[[dict[str, Any]], None]


def relaxations(scenario: Scenario, catalog: Catalog) -> list[Relaxation]:
    """Which condition to relax, cheapest way first; empty where an option passes as it stands, or none ever would.

    Single conditions first; pairs only where no single one is enough. A number is relaxed as little as is enough: the
    highest floor at which an option passes, the shortest latency that the cheapest of those let in has.

    Parameters
    ----------
    scenario, catalog : as :func:`~distillcalc.decide.table.compare` takes them; distributions stand at their medians.
    """
    if compare(scenario, catalog).best[0] >= 0:
        return []
    changes = list(_changes(scenario))
    for size in (1, 2):
        found = [one for group in combinations(changes, size) if (one := _relaxed(scenario, catalog, group))]
        if size == 1:
            found += _outside(scenario, catalog)
        if found:
            return sorted(found, key=lambda one: one.present_value_usd)
    return []


def _changes(scenario: Scenario) -> Iterator[_Change]:
    """What fields of the scenario can give up."""
    workload = scenario.workload
    for name in type(workload.slo).model_fields:
        if getattr(workload.slo, name) is not None:
            yield _Change("slo", _slo_words(name), partial(_without_objective, name))
    if len(workload.slo.objectives()) > 1:
        yield _Change("slo", lambda _, best: "leave out the latency objectives", lambda p: p["workload"].update(slo={}))
    if workload.quality.floor != 0 and workload.quality.floor_relative_to_teacher != 0:
        yield _Change("quality", lambda _, best: "", _no_floor)
    if workload.private:
        yield _Change(
            "privacy",
            lambda _, best: "let texts leave the machines that you control (private = false)",
            lambda plain: plain["workload"].update(private=False),
        )
        if scenario.choices.distillation.inputs == "live":
            yield _Change(
                "privacy",
                lambda _, best: 'train on cleared prompts (inputs = "cleared" in [choices.distillation])',
                lambda plain: plain["choices"]["distillation"].update(inputs="cleared"),
            )
    if workload.region is not None:
        yield _Change(
            "region",
            lambda s, best: f"let data leave {s.workload.region} (leave region out)",
            lambda plain: plain["workload"].update(region=None),
        )


def _slo_words(name: str) -> Callable[[Scenario, Estimate], str]:
    what, level, unit = name.split("_")

    def words(scenario: Scenario, best: Estimate) -> str:
        limit = getattr(scenario.workload.slo, name)
        asked = seconds(limit / 1000 if unit == "ms" else limit)
        had = best.latency.get(name)
        words = f"{what.upper()} {level} of {asked}"
        if had is None:
            return f"leave out the objective {words}"
        return f"relax {words} to {seconds((had / 1000 if unit == 'ms' else had) * MARGIN)}"

    return words


def _without_objective(name: str, plain: dict[str, Any]) -> None:
    plain["workload"]["slo"].pop(name)


def _no_floor(plain: dict[str, Any]) -> None:
    plain["workload"]["quality"] |= {"floor": 0.0, "floor_relative_to_teacher": None}


def _relaxed(scenario: Scenario, catalog: Catalog, group: tuple[_Change, ...]) -> Relaxation | None:
    plain = scenario.model_dump(mode="python")
    # A distribution stands at its median: what is asked is which condition, not how sure.
    for change in group:
        change.apply(plain)
    try:
        made = Scenario.from_dict(plain)
        block = evaluate(Inputs(made), catalog, compared(made))
    except DistillcalcError:
        return None
    best = _best(block)
    if best is None:
        return None
    words = [change.words(scenario, best) for change in group if change.gate != "quality"]
    if any(change.gate == "quality" for change in group):
        made, lowered = _least_floor(scenario, made, catalog)
        again = _best(evaluate(Inputs(made), catalog, compared(made)))
        if again is None:
            return None
        best = again
        words = [change.words(scenario, best) for change in group if change.gate != "quality"] + [lowered]
    made = _least_latency(scenario, made, best, catalog)
    return Relaxation(
        tuple(dict.fromkeys(change.gate for change in group)),
        " and ".join(words),
        best.option,
        best.label,
        best.present_value_usd,
        best.usd_per_1000_requests,
        made,
    )


def _best(block: Block) -> Estimate | None:
    passing = [name for name in block.candidates if block.eligible[name][0]]
    if not passing:
        return None
    return block.estimate(min(passing, key=lambda name: float(block.present_value_usd[name][0])))


def _least_floor(scenario: Scenario, without: Scenario, catalog: Catalog) -> tuple[Scenario, str]:
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

    def passes(value: float) -> bool:
        return bool(compare(floored(value), catalog).best[0] >= 0)

    low, high = 0, int(np.ceil(asked * 1000 - 1e-9))
    while high - low > 1:  # more is asked for, fewer pass
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle / 1000) else (low, middle)
    of_teacher = "" if relative is None else " of the teacher's"
    words = f"lower the quality floor from {quality.metric} {asked:.3g}{of_teacher} to {low / 1000:.3g}{of_teacher}"
    return floored(low / 1000), words


def _least_latency(scenario: Scenario, made: Scenario, best: Estimate, catalog: Catalog) -> Scenario:
    """Objectives that were left out, as long as the option needs, if it is still the answer then."""
    gone = [
        name
        for name in type(scenario.workload.slo).model_fields
        if getattr(scenario.workload.slo, name) is not None and getattr(made.workload.slo, name) is None
    ]
    if not gone or any(name not in best.latency for name in gone):
        return made
    plain = made.model_dump(mode="python")
    for name in gone:
        plain["workload"]["slo"][name] = best.latency[name] * MARGIN
    tight = Scenario.from_dict(plain)
    again = _best(evaluate(Inputs(tight), catalog, compared(tight)))
    return tight if again is not None and again.option == best.option else made


def _outside(scenario: Scenario, catalog: Catalog) -> list[Relaxation]:
    """Conditions that no field holds: the cheapest option that each of them alone holds back."""
    block = evaluate(Inputs(scenario), catalog, compared(scenario))
    found: dict[str, Relaxation] = {}
    for option, candidates in block.candidates.items():
        for place, outcome in enumerate(candidates):
            held = _held_by(outcome)
            cost = float(outcome.present_value_usd(block.context.x.discount)[0, 0])
            if len(held) != 1 or held[0] not in OUTSIDE or not np.isfinite(cost):
                continue
            old = found.get(held[0])
            if old is None or cost < old.present_value_usd:
                one = block.estimate(option, place)
                found[held[0]] = Relaxation(
                    (held[0],), OUTSIDE[held[0]], option, one.label, cost, one.usd_per_1000_requests
                )
    return list(found.values())


def _held_by(outcome: Outcome) -> list[str]:
    if outcome.unpriced:
        return []
    return [
        gate.name
        for gate in outcome.gates
        if gate.code[0, 0] == FAIL or (gate.probability is not None and gate.probability[0, 0] < LIKELY)
    ]
