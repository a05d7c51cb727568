"""A decision in three sentences that a manager can read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from distillcalc.decide.words import count, duration, usd
from distillcalc.errors import DistillcalcError
from distillcalc.estimate.inputs import SPECS
from distillcalc.estimate.options import OPTIONS

if TYPE_CHECKING:
    from distillcalc.decide.decision import Decision
    from distillcalc.decide.tipping import TippingPoint
    from distillcalc.decide.uncertainty import Uncertainty

SURE = 0.95  # of the draws: from here on a recommendation is far from break-even
FACTORS = {
    "teacher_price_factor": "times the list price",
    "gpu_price_factor": "times the list price",
    "step_time_factor": "times the estimate",
}
SHARE_NAMES = {"per month": "a month", "per year": "a year"}
INPUT_WORDS = {
    "requests_per_day": "the volume",
    "growth_per_month": "growth",
    "input_tokens": "the mean prompt",
    "output_tokens": "the mean answer",
    "student_input_tokens": "the student's mean prompt",
    "teacher_price_factor": "your price of the big model",
    "gpu_price_factor": "your price of GPUs",
    "token_price_change_per_year": "the change of token prices",
    "gpu_price_change_per_year": "the change of GPU prices",
    "student_retention": "what the student keeps of the big model's quality",
    "teacher_quality": "the big model's quality",
    "floor": "the quality floor",
    "engineering_hours": "engineering hours",
    "operations_hours_per_month": "hours a month of operations",
    "escalation_rate": "the escalation rate",
    "training_mfu": "the MFU of training",
    "step_time_factor": "the measured time of an engine step",
    "wrong_answer_usd": "what a wrong answer costs",
}


def explain(decision: Decision) -> str:
    """What to choose, what would change it, and what to find out or do first: three sentences in plain English.

    Parameters
    ----------
    decision : of :func:`recommend`. Where nothing in its scenario is a distribution, the odds are those of the models'
        qualities alone.
    """
    return " ".join((_choice(decision), _change(decision), _next(decision)))


def words_of(name: str) -> str:
    """An input, or something believed, in words."""
    return INPUT_WORDS.get(name, name.replace("_", " "))


def measure_first(u: Uncertainty) -> str:
    """What is worth finding out before deciding, as a clause; empty where nothing is."""
    best = next((value for value in u.sample_values if value.net_usd > 0), None)
    top = next(iter(u.evpi_by_input.items()), None)
    found = []
    judged = top[0].partition(" of ")[2] if top is not None else ""
    told_by_labels = best is not None and judged != "" and judged in best.model
    if top is not None and top[1] > u.negligible_usd and not told_by_labels:
        found.append(f"{words_of(top[0])}, which would be worth up to {usd(top[1])} to know exactly")
    if best is not None and best.net_usd > u.negligible_usd:
        metric = u.space.scenario.workload.quality.metric
        first = "" if best.trained else ", once it is trained,"
        found.append(
            f"the {metric} of {best.model}{first} on {best.items:,} more labelled items, which costs "
            f"{usd(best.cost_usd)} and is worth {usd(best.worth_usd)} because the probability that it is good enough "
            f"is {best.probability:.2f} so far"
        )
    if len(found) == 2 and best is not None and top is not None and best.worth_usd > top[1]:
        found.reverse()
    return "; then ".join(found)


def far_from_break_even(u: Uncertainty) -> bool:
    """Whether the choice is best almost whatever happens, and knowing more would be worth next to nothing."""
    choice = u.recommendation
    return choice is not None and u.rival is not None and u.probability_best[choice] >= SURE


def _choice(decision: Decision) -> str:
    if decision.recommendation is None:
        return "No option can be recommended for " + decision.scenario.workload.name + " as it stands."
    u, best = decision.uncertainty, decision.options[decision.recommendation]
    months = decision.scenario.workload.horizon_months
    odds = u.options[best.option]
    title = OPTIONS[best.option].title
    span = f"{months} month{'s' if months > 1 else ''}"
    cost = odds.expected_usd if decision.is_uncertain else best.present_value_usd
    said = f"{title} ({best.label}): {'about ' if decision.is_uncertain else ''}{usd(cost)} over {span}"
    if decision.is_uncertain:
        low, _, high = odds.present_value_usd
        if high > low * 1.01:
            said += f" (nine times in ten above {usd(low)}, one time in ten above {usd(high)})"
    teacher = decision.options.get("call-teacher")
    if teacher is not None and best.option != "call-teacher" and math.isfinite(teacher.present_value_usd):
        against = u.options["call-teacher"].expected_usd if decision.is_uncertain else teacher.present_value_usd
        if math.isfinite(against):
            said += f", against {usd(against)} for calling the big model"
            held = [f"{gate.name}" for gate in (*teacher.failing(), *teacher.open_questions())]
            if against < cost and held:
                said += f", which is held back by {' and '.join(dict.fromkeys(held))}"
    chance = u.probability_best[best.option]
    sure = "far from break-even: " if far_from_break_even(u) else ""
    if decision.is_uncertain:
        return f"{said}; {sure}it is the cheapest that is good enough in {_percent(chance)} of {u.draws:,} draws."
    return f"{said}."


def _change(decision: Decision) -> str:
    points = decision.tipping_points[:2]
    if decision.recommendation is None:
        return _relax(decision)
    if not points:
        return "No single input changes that within the range that was searched."
    return "It would change " + ", or ".join(_flip(point) for point in points) + "."


def _relax(decision: Decision) -> str:
    first = next(iter(decision.relaxations), None)
    if first is not None:
        return f"The cheapest way on is this: {first}."
    if decision.is_uncertain:
        odds = max(decision.uncertainty.options.values(), key=lambda one: one.probability_passes)
        doubts = [f"{name} holds in {share:.0%}" for name, share in odds.gates.items() if share < 1]
        return (
            f"The likeliest to pass is {odds.option} ({odds.label}), in {odds.probability_passes:.0%} of draws where "
            f"75% are asked for ({', '.join(doubts) or 'it has no price'})."
        )
    return "No single condition, and no two together, would let one through."


def _flip(point: TippingPoint) -> str:
    to = OPTIONS[point.to].title.lower() if point.to else "nothing that passes"
    side = "above" if point.flips_at > point.own else "below"
    now = "not stated now" if point.value is None else f"{_amount(point.input, point.value)} now"
    return f"to {to!r} if {words_of(point.input)} came to {side} {_amount(point.input, point.flips_at)} ({now})"


def _amount(name: str, value: float) -> str:
    """A value of an input with its unit."""
    unit = SPECS[name].unit if name in SPECS else ""
    if unit in SHARE_NAMES and abs(value) < 1:
        return f"{value:.2%} {SHARE_NAMES[unit]}"
    if unit == "USD" or unit.startswith("USD/"):
        return usd(value) + (" an hour" if unit.endswith("hour") else "")
    if name in FACTORS:
        return f"{value:.3g} {FACTORS[name]}"
    if unit == "requests/day":
        return f"{count(value)} requests a day"
    if unit == "" and SPECS[name].high <= 1:
        return f"{value:.1%}"
    return f"{count(value)} {unit}".rstrip()


def _next(decision: Decision) -> str:
    u = decision.uncertainty
    if decision.recommendation is None:
        return "Until then keep what serves the traffic today."
    first = measure_first(u)
    worth = f"choosing now costs {usd(u.evpi_usd or 0)} on average against hindsight"
    wait = _waiting(decision)
    if not first:
        return f"Nothing that could be found out is worth waiting for ({worth}){wait}."
    return f"Find out first: {first} ({worth}){wait}."


def _waiting(decision: Decision) -> str:
    from distillcalc.decide.timing import timing

    try:
        when = timing(decision)
    except DistillcalcError:
        return ""
    cost = when.cost_of_delay_usd
    if decision.recommendation == "call-teacher":
        if when.best is when.never or when.best.month == 0:
            return ""
        return f"; look again in {duration(when.best.month)}, when {when.option} would start to be the cheaper way"
    if when.best.month == 0:
        return f"; each month of waiting costs about {usd(cost)}" if cost > 0 else ""
    saved = when.starts[0].present_value_usd - when.best.present_value_usd
    return f"; starting in {duration(when.best.month)} instead of now would save {usd(saved)}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if 0.005 <= share <= 0.995 else f"{share:.1%}"
