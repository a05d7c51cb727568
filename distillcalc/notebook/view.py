"""One scenario as everything a panel shows, pure: the cheap verdict of every slider step, and the whole view.

:func:`quick` is closed form and takes some tens of milliseconds; :func:`render` adds pictures, sources, tipping
points and odds. Neither computes anything of its own: every number is read from the calculator's results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
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
from distillcalc.notebook.turning import Turn, evaluated, turns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distillcalc.decide.decision import Decision
    from distillcalc.estimate.context import Fidelity
    from distillcalc.estimate.outcome import Estimate
    from distillcalc.workload.scenario import Scenario

Tone = Literal["clear", "unsure", "none"]
SURE = 0.75  # a choice that is best in fewer of the draws is amber


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
    """Everything about one scenario, to be shown.

    Parameters
    ----------
    scenario : what was asked.
    verdict, tone : as of :class:`Quick`; the tone is unsure as well where the choice is seldom the best.
    sure : how sure that is, in one sentence.
    decision : the numbers behind it; None where the scenario cannot be right.
    verdict_html, options_html, gates_html, mind_html, rules_html, notes_html, difference_html : fragments of HTML;
        ``mind`` is what would change the verdict, ``difference`` is empty without a pinned scenario.
    monthly_svg, cumulative_svg, latency_svg : pictures, as HTML that follows the theme.
    error : what is wrong with the scenario, as a sentence; all else is empty then.
    """

    scenario: Scenario
    verdict: str
    tone: Tone
    sure: str = ""
    decision: Decision | None = field(default=None, repr=False)
    verdict_html: str = field(default="", repr=False)
    options_html: str = field(default="", repr=False)
    gates_html: str = field(default="", repr=False)
    mind_html: str = field(default="", repr=False)
    rules_html: str = field(default="", repr=False)
    notes_html: str = field(default="", repr=False)
    difference_html: str = field(default="", repr=False)
    monthly_svg: str = field(default="", repr=False)
    cumulative_svg: str = field(default="", repr=False)
    latency_svg: str = field(default="", repr=False)
    theme: Theme | None = field(default=None, repr=False)
    error: str = ""

    def to_html(self) -> str:
        """All of it as one block, for a place without widgets."""
        if self.error:
            return f'<div class="dc-panel">{css(self.theme)}<div class="dc-error">{escape(self.error)}</div></div>'
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
        return f'<div class="dc-panel">{css(self.theme)}{"".join(parts)}</div>'

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
        block, table = evaluated(point, known)
        options = Estimates(block)
        best = table.option(0)
        turning = turns(point, known, table) if best is not None else []
        monthly = {name: float(e.monthly_total_usd[0]) for name, e in options.items() if priced(e)}
        tone: Tone = "none" if best is None else "clear" if options[best].status == "feasible" else "unsure"
        return Quick(verdict_words(options, best, turning, point), tone, best, monthly)
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
        return of_decision(decision, theme=theme, pinned=before, today=today)
    except DistillcalcError as error:
        return View(scenario, "", "none", theme=theme, error=str(error))


def of_decision(
    decision: Decision, *, theme: Theme | None = None, pinned: Decision | None = None, today: date | None = None
) -> View:
    """The view of a decision that was made already.

    Parameters
    ----------
    decision : what to show.
    theme, today : as for :func:`render`.
    pinned : the decision to show the difference to.
    """
    best = decision.recommendation
    turning = [
        Turn(point.flips_at, point.to, point.flips_at > point.own)
        for point in decision.tipping_points
        if point.input == "requests_per_day"
    ]
    verdict = verdict_words(decision.options, best, turning, decision.scenario)
    if best is None and decision.relaxations:
        verdict += f" The cheapest way on: {decision.relaxations[0]}."
    chance = decision.uncertainty.probability_best.get(best, 0.0) if best is not None else 0.0
    sure = f"Best in {chance:.0%} of {decision.uncertainty.draws:,} draws" if best is not None else ""
    tone: Tone = "none" if best is None else "clear" if decision.status == "feasible" and chance >= SURE else "unsure"
    conditions = "; ".join(decision.conditions)
    said = f"{sure}; {conditions}" if conditions and sure else sure
    return View(
        scenario=decision.scenario,
        verdict=verdict,
        tone=tone,
        sure=sure,
        decision=decision,
        verdict_html=verdict_html(verdict, tone, said),
        options_html=tables.options_table(decision, today or date.today()),
        gates_html=tables.gates_table(decision),
        mind_html=tables.reasons_to_change(decision.tipping_points),
        rules_html=tables.rules_list(decision),
        notes_html=tables.notes_list(decision),
        difference_html=tables.difference_table(pinned, decision) if pinned is not None else "",
        monthly_svg=figures.monthly_figure(decision),
        cumulative_svg=figures.cumulative_figure(decision),
        latency_svg=figures.latency_figure(decision),
        theme=theme,
    )


def verdict_words(options: Mapping[str, Estimate], best: str | None, turning: list[Turn], scenario: Scenario) -> str:
    """The verdict in one sentence: what to choose, when that has paid back, and the volume at which it turns.

    Parameters
    ----------
    options : estimates by id.
    best : the recommended one; None where none passes.
    turning : nearest volumes at which another is recommended, nearest first.
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
    return f"{name}: {cost}; {_turning_words(turning)}."


def _turning_words(turning: list[Turn]) -> str:
    if not turning:
        return "it stays so at any volume"
    turn = turning[0]
    side = "above" if turn.above else "below"
    who = "nothing passes" if turn.to is None else f"{_as_subject(turn.to)} wins"
    return f"{who} {side} {count(turn.requests_per_day)} requests a day"


def _as_subject(option: str) -> str:
    return _SUBJECTS[option]


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
