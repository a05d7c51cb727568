"""What every option has in common: the interface, an outcome without a price, and serving by the token.

``candidates(context)`` evaluates an option for every model and machine it could use, over all scenarios of
the context at once; the decision picks among them. Nothing here compares one option with another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, ModelRow
from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate import gates
from distillcalc.estimate.api_latency import api_latency, assumed_tail
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import Estimate, GateResult, Outcome
from distillcalc.estimate.quality import Belief
from distillcalc.estimate.tokens import api_cost
from distillcalc.provenance import derived, given
from distillcalc.workload.scenario import Scenario

if TYPE_CHECKING:
    from distillcalc.estimate.context import Context

Floats = NDArray[np.float64]


class Option(ABC):
    """One way to serve the workload."""

    id: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def candidates(self, context: Context) -> list[Outcome]:
        """Evaluate every model and machine this option could use; at least one, unpriced if need be."""

    def estimates(self, scenario: Scenario, catalog: Catalog | None = None) -> list[Estimate]:
        """The scalar estimate of every candidate for one scenario.

        Raises
        ------
        UnknownName, MissingPrice, Retired, InputError
            For a model, GPU or value that cannot be right.
        """
        from distillcalc.estimate.context import Context

        known = (catalog or Catalog.load()).with_overrides(scenario.overrides)
        context = Context(Inputs(scenario), known)
        return [outcome.estimate(0, context.x) for outcome in self.candidates(context)]


def unpriced(option: str, label: str, why: str, context: Context) -> Outcome:
    """An option that is known but has no price: shown, with the reason, never as free."""
    return Outcome(option, (label,), unpriced=why, months=context.x.months)


def kept(results: Iterable[GateResult | None]) -> list[GateResult]:
    """The gates that apply."""
    return [gate for gate in results if gate is not None]


def add_quality(context: Context, outcome: Outcome, belief: Belief) -> None:
    """Give an outcome its quality, what its wrong answers cost, and where both came from."""
    outcome.belief = belief
    outcome.provenance["quality"] = belief.source
    cost = context.x["wrong_answer_usd"]
    if cost.any():
        outcome.monthly_usd["wrong_answers"] = cost * (1 - belief.mean) * context.x.requests
        outcome.provenance["wrong_answers"] = given("wrong_answer_usd x (1 - quality) x requests")


def licence_gate(name: str, row: ModelRow | None) -> GateResult | None:
    """Whether a student's own licence lets it be used for business; None where it plainly does."""
    if row is None:
        return None
    words = row.licence.lower().replace("-", " ")
    if "non commercial" in words or "research" in words:
        return GateResult.of("licence", "fail", f"{name} is licensed for research only: {row.licence}", row.source)
    return None


def served_by_api(
    context: Context,
    option: str,
    ref: str,
    *,
    belief: Belief,
    extra_gates: Iterable[GateResult | None] = (),
    price_factor: Floats | float = 1.0,
) -> Outcome:
    """Anything that is called per token as it is published: running cost, latency, quality, the gates of an API."""
    x, catalog = context.x, context.catalog
    thinking = x["reasoning_tokens"]
    try:
        cost = api_cost(
            x,
            catalog,
            ref,
            lengths=x.lengths,
            prefix_tokens=x["cacheable_prefix_tokens"],
            reasoning_tokens=thinking,
            price_factor=price_factor,
        )
    except (MissingPrice, UnknownName) as error:
        return unpriced(option, ref, str(error), context)
    latency, latency_source = api_latency(x, catalog, ref, x.lengths, thinking)
    outcome = Outcome(
        option,
        (ref,),
        monthly_usd=cost.monthly(x.requests),
        latency=latency,
        facts={"cache_hit_share": cost.hit_share[:, :1]} if "cache_hit_share" in cost.provenance else {},
        provenance={**cost.provenance, "latency": latency_source},
        months=x.months,
        tokens_per_request=x["input_tokens"] + x["output_tokens"] + thinking,
    )
    for item in ("input_tokens", "cached_tokens", "cache_writes", "output_tokens", "reasoning_tokens", "request_fee"):
        if item in outcome.monthly_usd:
            outcome.provenance[item] = derived(
                f"expected tokens x price x requests ({cost.provenance['token_prices']})"
            )
    add_quality(context, outcome, belief)
    outcome.gates = kept(
        [
            *extra_gates,
            gates.privacy_gate(x, external=ref),
            gates.region_gate(x, catalog, ref),
            gates.context_gate(x, context.window(ref), ref),
            gates.slo_gate(
                x,
                latency,
                str(latency_source),
                to_do=latency_source.source,
                missed=assumed_tail(catalog, ref),
            ),
            context.quality_gate(belief, is_teacher=option == "call-teacher"),
        ]
    )
    return outcome
