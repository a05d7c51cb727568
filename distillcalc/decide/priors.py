"""What the catalog believes of inputs that a scenario does not state."""

from __future__ import annotations

from typing import Any

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError
from distillcalc.estimate.inputs import LENGTHS, SPECS, uncertain_inputs
from distillcalc.workload.distributions import Distribution
from distillcalc.workload.scenario import Scenario

DRAWN_ANYWAY = ("student_retention", "teacher_quality")  # each model's own belief is drawn, by its size and its counts
OF_AN_UNMEASURED_ROUTER = ("escalation_rate", "apgr")


def with_priors(scenario: Scenario, catalog: Catalog | None = None) -> Scenario:
    """The scenario with the catalog's priors where it states nothing of its own.

    A prior of a factor (``relative``) is laid around the value that is stated, such as the volume; any other takes the
    place of a field that is at its default. What the scenario gives as a distribution stays. ``priors`` of the new
    scenario names the inputs that were filled so.

    Parameters
    ----------
    scenario : what is stated.
    catalog : left out, the shipped one; the scenario's overrides are laid over it.

    Raises
    ------
    InputError
        If a prior, laid around the stated value, reaches beyond what the input may be.
    """
    known = (catalog or Catalog.load()).with_overrides(scenario.overrides)
    given = uncertain_inputs(scenario)
    plain = scenario.model_dump(mode="python")
    filled = []
    for name, row in known.priors.items():
        spec = SPECS.get(name)
        if spec is None or name in LENGTHS:
            raise InputError(
                f"priors.{name} is not an input that a prior can be of. Those that are: {', '.join(SPECS)}"
            )
        if name in given or name in DRAWN_ANYWAY:
            continue
        if name in OF_AN_UNMEASURED_ROUTER and scenario.choices.routing.measured is not None:
            continue
        *parents, leaf = spec.path.split(".")
        owner: Any = scenario
        target: dict[str, Any] = plain
        for part in parents:
            owner, target = getattr(owner, part), target.setdefault(part, {})
        stated = getattr(owner, leaf)
        default = type(owner).model_fields[leaf].get_default(call_default_factory=True, validated_data={})
        one = Distribution.of(row.distribution)
        if row.relative and stated is not None and stated > 0:
            target[leaf] = one.scaled(float(stated)).to_dict()
        elif not row.relative and stated == default:
            target[leaf] = one.to_dict()
        else:
            continue
        filled.append(name)
    plain["priors"] = tuple(dict.fromkeys([*scenario.priors, *filled]))
    return Scenario.from_dict(plain)
