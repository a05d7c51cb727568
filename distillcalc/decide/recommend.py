"""From a workload to a decision: read top to bottom, this is the whole calculator."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from distillcalc.catalog import Catalog
from distillcalc.decide.break_even import payback_months
from distillcalc.decide.decision import Decision
from distillcalc.decide.table import Block, Estimates, compared, evaluate
from distillcalc.decide.words import duration, usd
from distillcalc.errors import InputError
from distillcalc.estimate.context import Fidelity
from distillcalc.estimate.inputs import Inputs, uncertain_inputs
from distillcalc.estimate.options import OPTIONS
from distillcalc.estimate.outcome import LIKELY, Estimate
from distillcalc.workload.scenario import Scenario, Use
from distillcalc.workload.workload import Workload

if TYPE_CHECKING:
    from distillcalc.decide.uncertainty import Uncertainty

OLD_PRICE = timedelta(days=90)


def recommend(
    workload: Workload | Scenario,
    *,
    catalog: Catalog | None = None,
    fidelity: Fidelity = "closed_form",
    use: Use | dict[str, Any] | None = None,
    draws: int | None = None,
    seed: int = 0,
    **choices: Any,
) -> Decision:
    """Which option serves the workload best, and why.

    Parameters
    ----------
    workload : the traffic, or a whole scenario (then nothing else but ``catalog`` is taken).
    catalog : what is known; left out, the shipped one. The scenario's overrides are laid over it.
    fidelity : "simulated" sizes the fleets of the two cheapest machines of each self-hosted model by simulation, which
        takes seconds, and takes the cheaper one; "closed_form" sizes all by formulas, as sweeps and break-evens do.
    use : what the student will be used for.
    draws, seed : where an input is a distribution: how many draws, a power of two (left out, 8,192), and their seed.
    choices : fields of :class:`~distillcalc.workload.Choices`; ``teacher`` is needed.

    Returns
    -------
    Decision. The recommended option is the cheapest, by present value over the horizon, of those that have a
    price, that no gate rules out and whose odds of meeting the quality floor are at least three to one. Where inputs
    are distributions, the cheapest on average over the draws, of those that pass every gate in three of four.

    Raises
    ------
    UnknownName, MissingPrice, Retired, InputError
        For a model, GPU or value that cannot be right.

    Examples
    --------
    >>> from distillcalc import Workload, recommend
    >>> traffic = Workload(requests_per_day=2_000, input_tokens=900, output_tokens=60)
    >>> recommend(traffic, teacher="openai/gpt-6-sol").recommendation
    'call-teacher'
    """
    scenario = _scenario(workload, use, choices)
    known = (catalog or Catalog.load()).with_overrides(scenario.overrides)
    block = evaluate(Inputs(scenario), known, compared(scenario), fidelity)
    drawn = _drawn(scenario, known, block, draws, seed)
    options = Estimates(block)
    passing = sorted((name for name in options if block.eligible[name][0]), key=lambda n: block.present_value_usd[n][0])
    warnings = _warnings(scenario, known, block, options[passing[0]] if passing else None)
    if drawn is not None:
        passing = _by_expected_cost(drawn, passing, warnings)
        if fidelity == "simulated":
            warnings.append("Only the fleets at the medians are simulated; the draws size theirs by formula.")
    eligible = [options[name] for name in passing[:2]]
    best = eligible[0] if eligible else None
    reason = _reason(best, eligible, options, scenario)
    return Decision(
        scenario=scenario,
        catalog=known,
        recommendation=best.option if best else None,
        reason=reason if drawn is None or best is None else _uncertain_reason(best, options, drawn, scenario),
        options=options,
        block=block,
        runner_up=eligible[1].option if len(eligible) > 1 else None,
        warnings=tuple(warnings),
        drawn=drawn,
        draws=draws,
        seed=seed,
    )


def _drawn(scenario: Scenario, catalog: Catalog, block: Block, draws: int | None, seed: int) -> Uncertainty | None:
    """The draws, where any input is a distribution; each option of the block then stands for its best there."""
    if not uncertain_inputs(scenario):
        if scenario.correlations:
            raise InputError("correlations are between inputs that are given as distributions, and none is")
        return None
    from distillcalc.decide.uncertainty import DRAWS, Uncertainty

    drawn = Uncertainty.of(scenario, catalog=catalog, draws=DRAWS if draws is None else draws, seed=seed)
    for option in block.candidates:
        place = drawn.drawn.alternatives[drawn.column(option)].place
        block.choose(option, place)
    return drawn


def _by_expected_cost(drawn: Uncertainty, at_medians: list[str], warnings: list[str]) -> list[str]:
    """Options that may be recommended, by their mean cost over the draws; a warning where the medians say another."""
    likely = [name for name, odds in drawn.options.items() if odds.probability_passes >= LIKELY]
    passing = sorted(likely, key=lambda name: drawn.options[name].expected_usd)
    if passing and at_medians and passing[0] != at_medians[0]:
        warnings.append(
            f"With every input at its median {at_medians[0]} is the cheapest; on average over the draws {passing[0]} "
            "is, because the costs are lopsided. Tipping points are those of the medians."
        )
    return passing


def _uncertain_reason(best: Estimate, options: Mapping[str, Estimate], drawn: Uncertainty, scenario: Scenario) -> str:
    odds, months = drawn.options[best.option], scenario.workload.horizon_months
    low, _, high = odds.present_value_usd
    name = f"{OPTIONS[best.option].title} ({best.label})"
    span = f"{months} month{'s' if months > 1 else ''}"
    others = {name: one for name, one in drawn.options.items() if name != best.option}
    rival = max(others.values(), key=lambda one: one.probability_best, default=None)
    told = (
        f"{name}: {usd(odds.expected_usd)} on average over {span} (P10 {usd(low)}, P90 {usd(high)}); the cheapest that "
        f"passes in {odds.probability_best:.0%} of {drawn.draws:,} draws"
    )
    if rival is not None and rival.probability_best > 0:
        told += f", {rival.option} in {rival.probability_best:.0%}"
    return f"{told}; choosing now costs {usd(drawn.evpi_usd or 0.0)} on average against hindsight."


def _scenario(workload: Workload | Scenario, use: Use | dict[str, Any] | None, choices: dict[str, Any]) -> Scenario:
    if isinstance(workload, Scenario):
        if use is not None or choices:
            raise InputError("a Scenario already holds its choices and use; give a Workload to choose here")
        return workload
    if not isinstance(workload, Workload):
        raise InputError(f"recommend takes a Workload or a Scenario. Got {type(workload).__name__}")
    if "teacher" not in choices:
        raise InputError('name the big model that you call, for example teacher="openai/gpt-6-sol"')
    stated = dict(choices.items())
    return Scenario.from_dict({"workload": workload, "choices": stated, "use": use if use is not None else Use()})


def _reason(
    best: Estimate | None, eligible: list[Estimate], options: Mapping[str, Estimate], scenario: Scenario
) -> str:
    months = scenario.workload.horizon_months
    teacher = options.get("call-teacher")
    if best is None:
        blocked = "; ".join(f"{e.option}: {e.unpriced or e.worst_gate()}" for e in options.values())
        return f"No option can be recommended: {blocked}."
    name = f"{OPTIONS[best.option].title} ({best.label})"
    cost = f"{usd(best.present_value_usd)} over {months} month{'s' if months > 1 else ''}"
    if best.option == "call-teacher" or teacher is None or teacher.unpriced:
        if len(eligible) > 1:
            other = eligible[1]
            return (
                f"{name}: {cost}; the next best, {OPTIONS[other.option].title.lower()} ({other.label}), costs "
                f"{usd(other.present_value_usd - best.present_value_usd)} more."
            )
        return f"{name}: {cost}; nothing else that is shown to be good enough passes every gate."
    saved = teacher.present_value_usd - best.present_value_usd
    if saved <= 0:
        return (
            f"{name}: {cost}, the cheapest that passes every gate; calling the big model would cost "
            f"{usd(-saved)} less but is held back by {_held_back(teacher)}."
        )
    share = saved / teacher.present_value_usd if teacher.present_value_usd else 0.0
    months_to_pay = payback_months(best, teacher)
    paid = (
        ""
        if months_to_pay is None
        else (", cheaper from the first day" if months_to_pay == 0 else f", pays back in {duration(months_to_pay)}")
    )
    percent = f"{share:.0%}" if share < 0.995 else f"{share:.1%}"
    return f"{name}: {cost} against {usd(teacher.present_value_usd)} for calling the big model, {percent} less{paid}."


def _held_back(estimate: Estimate) -> str:
    gates = estimate.failing() or estimate.open_questions()
    return ", ".join(dict.fromkeys(gate.name for gate in gates)) or "nothing"


def _warnings(scenario: Scenario, catalog: Catalog, block: Block, best: Estimate | None) -> list[str]:
    found = []
    quality = scenario.workload.quality
    if quality.floor is None and quality.floor_relative_to_teacher is None:
        found.append(
            "No quality floor is set: 0.9 of the teacher's quality is asked for. Set [workload.quality] floor."
        )
    measured = scenario.choices.evaluations or scenario.choices.routing.measured
    if not measured and scenario.choices.teacher_quality is None:
        found.append(
            "No model has been measured on this task: qualities are stated or assumed. "
            "Give counts in [choices.evaluations]."
        )
    thinking = [
        student
        for student in scenario.choices.students
        if catalog.model(student).thinks and not scenario.workload.student_reasoning_tokens
    ]
    if thinking:
        found.append(
            f"{', '.join(thinking)} thinks before it answers, and student_reasoning_tokens is 0: state what it thinks, "
            "it is served and billed like output."
        )
    teacher = catalog.model_of(scenario.choices.teacher)
    if teacher and teacher[1].thinks and not scenario.workload.reasoning_tokens:
        found.append(f"{teacher[0]} thinks before it answers, and reasoning_tokens is 0: state what it thinks.")
    if scenario.choices.serving.commitment.startswith("reserved") and scenario.workload.horizon_months < 12:
        found.append("A reservation runs a year or longer; only the months of the horizon are counted.")
    if block.context.teacher_successors:
        found.append(f"The teacher ends inside the horizon: {block.context.teacher_label}.")
    asked = (gate.detail for gate in best.gates if gate.name == "terms" and "Required: " in gate.detail) if best else ()
    requirement = next(iter(asked), "")
    if requirement:
        found.append("The terms ask: " + requirement.split("Required: ", 1)[1])
    today = date.today()
    old = {
        origin.source: origin.checked
        for option in block.candidates
        for origin in block.chosen(option).provenance.values()
        if origin.checked is not None and today - origin.checked > OLD_PRICE
    }
    for source, checked in sorted(old.items(), key=lambda item: item[1])[:3]:
        found.append(f"Last checked {checked}: {source}")
    return found
