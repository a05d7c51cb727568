"""The Decision: which option, why, what every other one lost by, and what would change it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from distillcalc.catalog import Catalog
from distillcalc.decide.break_even import BreakEvens, payback_months
from distillcalc.decide.rules import RuleCheck, check_rules
from distillcalc.decide.table import Block
from distillcalc.decide.tipping import TippingPoint, tipping_points
from distillcalc.estimate.outcome import LIKELY, Estimate, plain
from distillcalc.workload.scenario import Scenario

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from distillcalc.decide.relaxing import Relaxation
    from distillcalc.decide.uncertainty import Uncertainty

WORTH_MEASURING = 0.1  # share of the cost that an unproven option must save to be worth a look


@dataclass(frozen=True)
class Decision:
    """What the calculator recommends for a scenario.

    Parameters
    ----------
    scenario : what was asked.
    catalog : what it was answered from.
    recommendation : id of the option, None where none passes.
    reason : in one sentence.
    options : the estimate of every option's best candidate, by id.
    block : the evaluation that the estimates were read from.
    runner_up : the next best eligible option.
    warnings : what a reader should know before acting.
    drawn : the draws that it was decided on; None where no input is a distribution.
    draws, seed : how many were asked for, and their seed.

    ``candidates``, ``break_even``, ``tipping_points``, ``rules``, ``relaxations`` and ``uncertainty`` are computed
    when first read. Where inputs are distributions the estimates are those at their medians.
    """

    scenario: Scenario
    catalog: Catalog = field(repr=False)
    recommendation: str | None
    reason: str
    options: Mapping[str, Estimate] = field(repr=False)
    block: Block = field(repr=False)
    runner_up: str | None
    warnings: tuple[str, ...] = ()
    drawn: Uncertainty | None = field(default=None, repr=False)
    draws: int | None = None
    seed: int = 0

    @property
    def is_uncertain(self) -> bool:
        """Whether any input is a distribution, so that it was decided on draws."""
        return self.drawn is not None

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """How sure it is; where no input is a distribution, of the models' qualities alone."""
        if self.drawn is not None:
            return self.drawn
        from distillcalc.decide.uncertainty import PREVIEW_DRAWS, Uncertainty

        return Uncertainty.of(self.scenario, catalog=self.catalog, draws=self.draws or PREVIEW_DRAWS, seed=self.seed)

    @property
    def status(self) -> str:
        """feasible, provisional (a condition is still open, or fails in some draws) or none."""
        if self.recommendation is None:
            return "none"
        status = self.options[self.recommendation].status
        return status if status in ("feasible", "provisional") else "provisional"

    @property
    def conditions(self) -> list[str]:
        """What must still be found out about the recommended option."""
        if self.recommendation is None:
            return []
        return [f"{gate.name}: {gate.detail}" for gate in self.options[self.recommendation].open_questions()]

    @cached_property
    def candidates(self) -> Mapping[str, tuple[Estimate, ...]]:
        """Every model and machine that was looked at, by option."""
        return {
            name: tuple(self.block.estimate(name, i) for i in range(len(group)))
            for name, group in self.block.candidates.items()
        }

    @cached_property
    def opportunity(self) -> Estimate | None:
        """The option that is not proven good enough yet and would save most on average: odds x saving.

        Only where it would save a tenth at least.
        """
        cost = self.options[self.recommendation].present_value_usd if self.recommendation else float("inf")
        unproven = [
            estimate
            for group in self.candidates.values()
            for estimate in group
            if estimate.status == "unproven" and estimate.present_value_usd < cost * (1 - WORTH_MEASURING)
        ]
        if math.isinf(cost):
            return min(unproven, key=lambda e: e.present_value_usd, default=None)
        return max(unproven, key=lambda e: e.odds * (cost - e.present_value_usd), default=None)

    @cached_property
    def break_even(self) -> BreakEvens:
        """Break-even of every priced option against calling the big model, by id; each is made when it is looked at."""
        return BreakEvens(self.scenario, self.catalog, self.options)

    @cached_property
    def tipping_points(self) -> list[TippingPoint]:
        """The nearest value of each input that changes the recommendation, nearest first."""
        return tipping_points(self.scenario, self.catalog)

    @cached_property
    def relaxations(self) -> list[Relaxation]:
        """Where nothing can be recommended: which condition to relax and what that buys, cheapest first."""
        from distillcalc.decide.relaxing import relaxations

        return relaxations(self.scenario, self.catalog) if self.recommendation is None else []

    @cached_property
    def rules(self) -> list[RuleCheck]:
        """The article's rules of thumb that apply, each beside the computed answer."""
        return check_rules(self)

    def payback_months(self) -> float | None:
        """Months until the recommended option has paid back against calling the big model."""
        teacher = self.options.get("call-teacher")
        if self.recommendation in (None, "call-teacher") or teacher is None or teacher.unpriced:
            return None
        return payback_months(self.options[self.recommendation], teacher)

    def lost_by(self, option: str) -> str:
        """Why an option was not recommended: what ruled it out, or by how much it lost."""
        from distillcalc.decide.words import usd

        estimate = self.options[option]
        if option == self.recommendation:
            return "recommended"
        if self.drawn is not None and not estimate.unpriced:
            odds = self.drawn.options[option]
            likely = odds.probability_passes >= LIKELY
            shares = [f"{name} {share:.0%}" for name, share in odds.gates.items() if share < 1]
            held = "" if likely else f"; passes every gate in {odds.probability_passes:.0%} ({', '.join(shares)})"
            mean = f", costs {usd(odds.expected_usd)} on average if chosen" if likely else ""
            return f"the cheapest that passes in {odds.probability_best:.0%} of draws{mean}{held}"
        if estimate.unpriced:
            return f"unpriced: {estimate.unpriced}"
        failing = estimate.failing()
        if failing:
            return "ruled out: " + "; ".join(f"{gate.name}: {gate.detail}" for gate in failing)
        if estimate.status == "unproven":
            doubts = [g for g in estimate.open_questions() if g.probability is not None and g.probability < LIKELY]
            return "unproven: " + "; ".join(f"{gate.name}: {gate.detail}" for gate in doubts)
        if self.recommendation is None:
            return "not eligible"
        more = estimate.present_value_usd - self.options[self.recommendation].present_value_usd
        return f"costs {usd(more)} more over the horizon"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values; absent numbers are None."""
        return {
            "recommendation": self.recommendation,
            "status": self.status,
            "reason": self.reason,
            "conditions": self.conditions,
            "runner_up": self.runner_up,
            "opportunity": (
                {
                    "option": self.opportunity.option,
                    "label": self.opportunity.label,
                    "present_value_usd": plain(self.opportunity.present_value_usd),
                }
                if self.opportunity
                else None
            ),
            "options": {
                name: estimate.to_dict() | {"lost_by": self.lost_by(name)} for name, estimate in self.options.items()
            },
            "break_even": {name: result.to_dict() for name, result in self.break_even.items()},
            "tipping_points": [point.to_dict() for point in self.tipping_points],
            "relaxations": [one.to_dict() for one in self.relaxations],
            "rules_of_thumb": [check.to_dict() for check in self.rules],
            "gates": {name: [gate.to_dict() for gate in estimate.gates] for name, estimate in self.options.items()},
            "probability_best": self.drawn.probability_best if self.drawn else None,
            "evpi": {"usd": self.drawn.evpi_usd, "by_input": self.drawn.evpi_by_input} if self.drawn else None,
            "uncertainty": self.drawn.to_dict() if self.drawn else None,
            "provenance": {
                name: {number: source.to_dict() for number, source in estimate.provenance.items()}
                for name, estimate in self.options.items()
            },
            "warnings": list(self.warnings),
            "scenario": json.loads(json.dumps(self.scenario.to_dict(), default=str)),
        }

    def to_json(self) -> str:
        """The dictionary as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        from distillcalc.decide.render import text

        return text(self)

    def _repr_html_(self) -> str:
        from distillcalc.decide.render import html

        return html(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from distillcalc.decide.render import rich_parts

        parts: Iterator[Any] = rich_parts(self, options.max_width)
        yield from parts
