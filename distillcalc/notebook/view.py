"""One scenario as everything a panel shows, pure: the cheap verdict of every slider step, and the whole view.

:func:`quick` is closed form and takes some tens of milliseconds; :func:`render` adds pictures, sources, tipping
points and odds. Neither computes anything of its own: every number is read from the calculator's results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Literal

from distillcalc.catalog import Catalog
from distillcalc.decide.break_even import payback_months
from distillcalc.decide.recommend import recommend
from distillcalc.decide.table import Estimates
from distillcalc.decide.uncertainty import PREVIEW_DRAWS
from distillcalc.decide.words import count, duration, usd
from distillcalc.errors import DistillcalcError
from distillcalc.notebook import figures, tables
from distillcalc.notebook.controls import at_medians
from distillcalc.notebook.style import Theme, css
from distillcalc.notebook.turning import Turn, turned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distillcalc.decide.decision import Decision
    from distillcalc.estimate.context import Fidelity
    from distillcalc.estimate.outcome import Estimate
    from distillcalc.workload.scenario import Scenario

Tone = Literal["clear", "unsure", "none"]
SURE = 0.75  # a choice that is best in fewer of the draws is amber
# The parts of a view: those that are quickly made, and those that search for where the decision changes.
FIRST = (
    "verdict_html",
    "difference_html",
    "monthly_svg",
    "cumulative_svg",
    "latency_svg",
    "options_html",
    "gates_html",
)
REST = ("mind_html", "rules_html", "notes_html")


@dataclass(frozen=True)
class Quick:
    """The verdict while a slider moves.

    Parameters
    ----------
    verdict : one sentence, with its break-even and the volume at which it turns.
    tone : clear, unsure (a condition is still open) or none (nothing passes).
    recommendation : id of the option; None where none passes or the scenario cannot be right.
    monthly_usd : option -> USD in the first month, of every option that has a price.
    error : what is wrong with the scenario, as a sentence; empty where nothing is.
    """

    verdict: str
    tone: Tone
    recommendation: str | None = None
    monthly_usd: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    def to_html(self) -> str:
        """The verdict as a block; what is wrong in its place where something is."""
        return verdict_html(self.error or self.verdict, self.tone, "while moving: closed form, medians")


@dataclass(frozen=True)
class View:
    """Everything about one scenario, to be shown; each part is made when it is first read.

    Parameters
    ----------
    scenario : what was asked.
    decision : the numbers behind it; None where the scenario cannot be right.
    pinned : the decision to show the difference to.
    theme : "light" or "dark", of :meth:`to_html`; None follows the page.
    today : the day by which prices are old.
    error : what is wrong with the scenario, as a sentence; all else is empty then.
    """

    scenario: Scenario
    decision: Decision | None = field(default=None, repr=False)
    pinned: Decision | None = field(default=None, repr=False)
    theme: Theme | None = field(default=None, repr=False)
    today: date | None = field(default=None, repr=False)
    error: str = ""

    @property
    def recommendation(self) -> str | None:
        """Id of the recommended option; None where none passes."""
        return self.decision.recommendation if self.decision else None

    @cached_property
    def verdict(self) -> str:
        """One sentence: what to choose, its break-even, and the volume at which the verdict turns."""
        decision = self.decision
        if decision is None:
            return ""
        said = verdict_words(decision.options, decision.recommendation, self._turn, decision.scenario)
        if decision.recommendation is None and decision.relaxations:
            said += f" The cheapest way on: {decision.relaxations[0]}."
        return said

    @cached_property
    def chance(self) -> float:
        """Share of the draws in which the recommended option is the cheapest that passes."""
        if self.decision is None or self.recommendation is None:
            return 0.0
        return self.decision.uncertainty.probability_best.get(self.recommendation, 0.0)

    @cached_property
    def tone(self) -> Tone:
        """clear, unsure (a condition is open, or it is seldom the best) or none."""
        if self.decision is None or self.recommendation is None:
            return "none"
        return "clear" if self.decision.status == "feasible" and self.chance >= SURE else "unsure"

    @cached_property
    def sure(self) -> str:
        """How sure the verdict is, and what must still be found out."""
        decision = self.decision
        if decision is None or self.recommendation is None:
            return ""
        how = "fleets simulated" if decision.block.context.fidelity == "simulated" else "fleets sized by formula"
        odds = f"best in {self.chance:.0%} of {decision.uncertainty.draws:,} draws; {how}"
        return "; ".join([*decision.conditions, odds])

    @cached_property
    def verdict_html(self) -> str:
        """The verdict as a block."""
        return verdict_html(self.error or self.verdict, self.tone, self.sure)

    @cached_property
    def difference_html(self) -> str:
        """What changed since the pinned scenario; empty without one."""
        if self.pinned is None or self.decision is None:
            return ""
        return tables.difference_table(self.pinned, self.decision)

    @cached_property
    def options_html(self) -> str:
        """Every option, each number with its sources."""
        return tables.options_table(self.decision, self.today or date.today()) if self.decision else ""

    @cached_property
    def gates_html(self) -> str:
        """Every hard condition, with its source."""
        return tables.gates_table(self.decision) if self.decision else ""

    @cached_property
    def mind_html(self) -> str:
        """What would change the verdict, nearest first."""
        return tables.reasons_to_change(self.decision.tipping_points) if self.decision else ""

    @cached_property
    def rules_html(self) -> str:
        """The article's rules of thumb beside what was computed."""
        return tables.rules_list(self.decision) if self.decision else ""

    @cached_property
    def notes_html(self) -> str:
        """What else to know before acting."""
        return tables.notes_list(self.decision) if self.decision else ""

    @cached_property
    def monthly_svg(self) -> str:
        """A picture of what every option costs a month, as HTML that follows the theme."""
        return figures.monthly_figure(self.decision) if self.decision else ""

    @cached_property
    def cumulative_svg(self) -> str:
        """A picture of what has been paid by each month, with the break-even."""
        return figures.cumulative_figure(self.decision) if self.decision else ""

    @cached_property
    def latency_svg(self) -> str:
        """A picture of the answer times against the objective."""
        return figures.latency_figure(self.decision) if self.decision else ""

    @cached_property
    def _turn(self) -> Turn | None:
        """Where the verdict turns with the volume; None where the medians already say another."""
        if self.decision is None:
            return None
        point = at_medians(self.decision.scenario)
        _, table, turn = turned(point, self.decision.catalog)
        if table.option(0) != self.recommendation or self.recommendation is None:
            return Turn(float("nan"), table.option(0), above=False)
        return turn

    def to_html(self) -> str:
        """All of it as one block, for a place without widgets."""
        if self.error:
            return self._block(f'<div class="dc-error">{escape(self.error)}</div>')
        parts = [
            self.verdict_html,
            self.difference_html,
            heading("What every option costs a month"),
            self.monthly_svg,
            self.options_html,
            heading("Added up"),
            self.cumulative_svg,
            heading("How fast it answers"),
            self.latency_svg,
            heading("What would change my mind"),
            self.mind_html,
            heading("The article's rule of thumb"),
            self.rules_html,
            heading("Conditions and their sources"),
            self.gates_html,
            heading("Before you act"),
            self.notes_html,
        ]
        return self._block("".join(parts))

    def _block(self, inner: str) -> str:
        """With its style; a dollar in it begins no formula of MathJax's."""
        return f'<div class="dc-panel mathjax_ignore tex2jax_ignore">{css(self.theme)}{inner}</div>'

    def _repr_html_(self) -> str:
        return self.to_html()


def quick(scenario: Scenario, catalog: Catalog | None = None) -> Quick:
    """The verdict of a scenario by closed form at its medians: for every step of a slider.

    Parameters
    ----------
    scenario : what is asked.
    catalog : what is known; left out, the shipped one. The scenario's overrides are laid over it.

    Returns
    -------
    Quick. What is wrong with a scenario stands in its ``error``.
    """
    try:
        point = at_medians(scenario)
        known = (catalog or Catalog.load()).with_overrides(point.overrides)
        block, table, turn = turned(point, known)
        options = Estimates(block)
        best = table.option(0)  # those that are left out of the table are not eligible
        monthly = {name: float(e.monthly_total_usd[0]) for name, e in options.items() if priced(e)}
        tone: Tone = "none" if best is None else "clear" if options[best].status == "feasible" else "unsure"
        return Quick(verdict_words(options, best, turn, point), tone, best, monthly)
    except DistillcalcError as error:
        return Quick("", "none", error=str(error))


def render(
    scenario: Scenario,
    *,
    theme: Theme | None = None,
    pinned: Scenario | None = None,
    draws: int = PREVIEW_DRAWS,
    fidelity: Fidelity = "closed_form",
    catalog: Catalog | None = None,
    today: date | None = None,
) -> View:
    """Everything about a scenario that the panel shows.

    Parameters
    ----------
    scenario : what is asked.
    theme : "light" or "dark", of :meth:`View.to_html`; left out, as the page is.
    pinned : a scenario to show the difference to.
    draws : for the odds, a power of two.
    fidelity : "simulated" sizes the fleets by simulation, which takes seconds.
    catalog : what is known; left out, the shipped one. The scenario's overrides are laid over it.
    today : the day by which prices are old; left out, today.

    Returns
    -------
    View. What is wrong with a scenario stands in its ``error``.
    """
    try:
        known = catalog or Catalog.load()
        decision = recommend(scenario, catalog=known, fidelity=fidelity, draws=draws)
        before = recommend(pinned, catalog=known, draws=draws) if pinned is not None else None
        view = View(scenario, decision, before, theme, today)
        for part in (*FIRST, *REST):
            getattr(view, part)
        return view
    except DistillcalcError as error:
        return View(scenario, theme=theme, error=str(error))


def verdict_words(options: Mapping[str, Estimate], best: str | None, turn: Turn | None, scenario: Scenario) -> str:
    """The verdict in one sentence: what to choose, when that has paid back, and the volume at which it turns.

    Parameters
    ----------
    options : estimates by id.
    best : the recommended one; None where none passes.
    turn : the nearest volume at which another is recommended; None where none is.
    scenario : what was asked.
    """
    if best is None:
        held = dict.fromkeys(e.worst_gate() or "price" for e in options.values())
        return f"Nothing can be recommended: every option is held back ({', '.join(held)})."
    chosen, teacher = options[best], options.get("call-teacher")
    name = f"{tables.title(best)} ({chosen.label})"
    months = scenario.workload.horizon_months
    span = f"{months} month{'s' if months > 1 else ''}"
    cost = f"{usd(chosen.present_value_usd)} over {span}"
    back = (
        payback_months(chosen, teacher) if teacher is not None and priced(teacher) and best != "call-teacher" else None
    )
    if back is not None:
        cost = "cheaper from the first day" if back == 0 else f"pays back in {duration(back)}"
    return f"{name}: {cost}; {_turning_words(turn)}."


def _turning_words(turn: Turn | None) -> str:
    if turn is None:
        return "it stays so at any volume"
    if turn.requests_per_day != turn.requests_per_day:
        return f"with every input at its median {_SUBJECTS[turn.to] if turn.to else 'nothing'} would be recommended"
    side = "above" if turn.above else "below"
    who = "nothing passes" if turn.to is None else f"{_SUBJECTS[turn.to]} wins"
    return f"{who} {side} {count(turn.requests_per_day)} requests a day"


_SUBJECTS = {
    "call-teacher": "calling the big model",
    "call-small": "calling the provider's small model",
    "hosted-open-student": "calling an open student at a host",
    "hosted-fine-tune": "fine-tuning at a provider",
    "self-host": "distilling and self-hosting",
    "self-host-teacher": "self-hosting the big model",
    "cascade": "student first, teacher for the rest",
}


def verdict_html(verdict: str, tone: Tone, said: str) -> str:
    """The verdict as a block: green where it is clear, amber where it is not, red where nothing passes.

    Parameters
    ----------
    verdict : the sentence.
    tone : of it.
    said : how sure it is.
    """
    tag = {"clear": "clear", "unsure": "not sure", "none": "nothing passes"}[tone]
    return (
        f'<div class="dc-verdict dc-{tone}"><b>{escape(verdict)}</b>'
        f'<span class="dc-tag">{tag}</span>{escape(said)}</div>'
    )


def heading(text: str) -> str:
    """A heading of a part of the panel."""
    return f"<h3>{escape(text)}</h3>"


def priced(estimate: Estimate) -> bool:
    """Whether an option has a price."""
    return not estimate.unpriced and math.isfinite(estimate.present_value_usd)
