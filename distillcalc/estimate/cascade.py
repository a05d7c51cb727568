"""The cascade: a student answers, a router sends a share on to the teacher; every attempt is paid.

A router that was measured has a candidate for each of its thresholds, so that the decision picks one; without, there is
one candidate for each student, at the escalation rate that is stated or assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate import gates, quality
from distillcalc.estimate.context import Context
from distillcalc.estimate.distillation import people_sources
from distillcalc.estimate.measured_cascade import points, serves_the_teacher, why_not
from distillcalc.estimate.mixed_latency import WHATS, Mixture, after, mixed_latency
from distillcalc.estimate.option import Option, add_quality, kept, unpriced
from distillcalc.estimate.outcome import FAIL, PASS, GateResult, Outcome
from distillcalc.estimate.quality import Belief
from distillcalc.provenance import Provenance, assumed, derived, given

Floats = NDArray[np.float64]

NOT_MEASURED_ODDS = 0.5  # of a router whose escalation rate and APGR nobody has even stated
STUDENTS = ("self-host", "hosted-open-student")

__all__ = ["NOT_MEASURED_ODDS", "Cascade", "after", "mixed_latency"]


@dataclass(frozen=True)
class Teacher:
    """What answers the requests that are sent on.

    Parameters
    ----------
    labels, label_index, monthly_usd, provenance, latency, timing, gates, facts : as of an outcome, of that share alone.
    called : whether it is the provider's API, which the texts then reach.
    """

    labels: tuple[str, ...]
    label_index: NDArray[np.intp]
    monthly_usd: dict[str, Floats]
    provenance: dict[str, Provenance]
    latency: dict[str, Floats]
    timing: Provenance
    gates: list[GateResult]
    facts: dict[str, Floats]
    called: bool


class Cascade(Option):
    """A student answers and a router sends a share on to the teacher; every attempt is paid."""

    id = "cascade"
    title = "Student first, teacher for the rest"

    def candidates(self, context: Context) -> list[Outcome]:
        firsts = [
            (option, context.choices.students[place] if option == "self-host" else student.labels[0], student)
            for option in STUDENTS
            for place, student in enumerate(context.outcomes(option))
        ]
        if context.choices.routing.measured is not None:  # a router that was measured is not beside guesses of others
            own = [first for first in firsts if not why_not(context, first[1]) and not first[2].unpriced]
            firsts = own or firsts
        return [found for first in firsts for found in self._behind(context, *first)]

    def _behind(self, context: Context, option: str, name: str, student: Outcome) -> Iterator[Outcome]:
        """Cascades whose first model is an already evaluated student."""
        if student.unpriced:
            yield unpriced(self.id, f"{student.labels[0]}, then {context.teacher_label}", student.unpriced, context)
            return
        measured = context.choices.routing.measured
        why = why_not(context, name)
        try:
            if measured is None or why:
                teacher = called(context, context.x["escalation_rate"])
                yield self._unmeasured(context, student, teacher, why)
                return
            yield from self._measured(context, option, name, student)
        except (MissingPrice, UnknownName) as error:
            yield unpriced(self.id, f"{student.labels[0]}, then {context.teacher_label}", str(error), context)

    def _unmeasured(self, context: Context, student: Outcome, teacher: Teacher, why: str) -> Outcome:
        """One cascade at the escalation rate and the APGR that are stated or assumed."""
        x, whats = context.x, _asked(context)
        teachers_part = context.once("after", lambda: after(context.teacher_latency, whats))
        mixture = Mixture.of_a_cascade(student.latency, teacher.latency, teachers_part, whats)

        def at_once() -> dict[str, Floats]:
            return context.once(
                "at least",
                lambda: mixed_latency(_at_once(student), context.teacher_latency, rate, teachers_part, whats),
            )

        rate = x["escalation_rate"]
        belief = quality.cascade_belief(student.belief, context.teacher_belief, rate, x["apgr"])
        outcome = _together(context, student, teacher, rate, mixture.at(rate))
        return self._judged(
            context,
            outcome,
            student,
            teacher,
            belief,
            at_once,
            _router_gate(context, why),
            context.quality_gate(belief),
        )

    def _measured(self, context: Context, option: str, name: str, student: Outcome) -> Iterator[Outcome]:
        """A cascade at each threshold of a measured router, its teacher called or, where it may be, served."""
        measured, whats = context.choices.routing.measured, _asked(context)
        assert measured is not None
        latency_matters = not context.x.drawn or bool(context.workload.slo.objectives())
        chooses_before = measured.kind == "router"
        overhead = measured.overhead_ms / 1000
        mixtures: dict[int, Mixture] = {}

        def mixture(student: Outcome, teacher: Teacher) -> Mixture:
            if chooses_before:
                return Mixture.of_a_router(student.latency, teacher.latency, whats)
            if id(teacher.latency) not in mixtures:  # all thresholds send on what one student has answered
                part = context.once(("after", id(teacher.latency)), lambda: after(teacher.latency, whats))
                mixtures[id(teacher.latency)] = Mixture.of_a_cascade(student.latency, teacher.latency, part, whats)
            return mixtures[id(teacher.latency)]

        def least(student: Outcome, teacher: Teacher, rate: Floats) -> dict[str, Floats]:
            made = Mixture.of_a_router if chooses_before else Mixture.of_a_cascade
            return _later(made(_at_once(student), teacher.latency, whats=whats).at(rate), overhead)

        for n, point in enumerate(points(context)):
            first, rate = student, point.rate
            if chooses_before:  # the student's fleet is that of the requests that reach it
                only = {"students" if option == "self-host" else "hosted": (name,)}
                (first,) = context.at_share(1 - rate, **only).outcomes(option)
            for teacher in _teachers(context, n, rate):
                latency = dict.fromkeys(first.latency, np.full((1, 1), np.nan))
                if latency_matters:
                    latency = _later(mixture(first, teacher).at(rate), overhead)
                outcome = _together(context, first, teacher, rate, latency, point.words, alone=chooses_before)
                if not point.looked_at.all():
                    outcome.monthly_usd = {
                        item: np.where(point.looked_at, usd, np.nan) for item, usd in outcome.monthly_usd.items()
                    }
                outcome.facts |= point.facts
                outcome.provenance |= point.provenance
                yield self._judged(
                    context,
                    outcome,
                    first,
                    teacher,
                    point.belief,
                    partial(least, first, teacher, rate),
                    point.router_gate(context),
                    point.quality_gate(context),
                )

    def _judged(
        self,
        context: Context,
        outcome: Outcome,
        student: Outcome,
        teacher: Teacher,
        belief: Belief,
        at_once: Callable[[], dict[str, Floats]],
        router: GateResult,
        good: GateResult,
    ) -> Outcome:
        """What comes on top of the two models: the router, a migration, the quality, and every gate."""
        x = context.x
        self._add_router(context, outcome)
        if teacher.called:
            context.add_migration(outcome)
        add_quality(context, outcome, belief)
        at_least = None
        if np.isnan(student.latency["e2e_p50"]).all() and context.workload.slo.objectives():
            # Nobody knows how fast the student is; the teacher's share alone may be too slow.
            at_least = at_once()
        timings = dict.fromkeys((student.provenance["latency"], teacher.timing))
        unmeasured = "; ".join(timing.source for timing in timings if timing.kind == "assumed")
        again = ("quality", "slo", "privacy") if teacher.called else ("quality", "slo")
        outcome.gates = kept(
            [
                *(gate for gate in student.gates if gate.name not in again),
                *teacher.gates,
                gates.slo_gate(
                    x, outcome.latency, str(outcome.provenance["latency"]), at_least=at_least, to_do=unmeasured
                ),
                _fleet_gate(student.monthly_total_usd, "student"),
                None if teacher.called else _fleet_gate(teacher.monthly_usd["teacher_gpus_busy"], "teacher"),
                router,
                good,
            ]
        )
        return outcome

    @staticmethod
    def _add_router(context: Context, outcome: Outcome) -> None:
        """What the router takes: people once, an evaluation set where none is paid yet, a verifier per request."""
        x = context.x
        outcome.one_off_usd["router_engineering"] = x["router_engineering_hours"] * x["engineering_usd_per_hour"]
        outcome.provenance["router_engineering"] = assumed("engineering_hours of [choices.routing]")
        if "human_evaluation_set" not in outcome.one_off_usd:
            outcome.one_off_usd["human_evaluation_set"] = x["human_evaluation_items"] * x["human_label_usd"]
            outcome.provenance["human_evaluation_set"] = people_sources()["human_evaluation_set"]
        if x["verifier_usd_per_request"].any():
            outcome.monthly_usd["verifier"] = x["verifier_usd_per_request"] * x.requests
            outcome.provenance["verifier"] = given("verifier_usd_per_request of [choices.routing]")


def _together(
    context: Context,
    student: Outcome,
    teacher: Teacher,
    rate: Floats,
    latency: dict[str, Floats],
    words: str = "",
    *,
    alone: bool = False,
) -> Outcome:
    """The running cost and the latency of a student and what answers the rest.

    ``words`` say for which requests; ``alone`` whether the student never sees what the teacher answers.
    """
    x, then = context.x, "or" if alone else "then"
    pairs = tuple(f"{one}, {then} {other}{words}" for one, other in product(student.labels, teacher.labels))
    several = len(teacher.labels) > 1
    index = student.label_index * len(teacher.labels) + teacher.label_index if several else student.label_index
    how = "either model alone" if alone else "student alone and student, then teacher"
    return Outcome(
        Cascade.id,
        pairs,
        index,
        monthly_usd={
            **{item: usd for item, usd in student.monthly_usd.items() if item != "wrong_answers"},
            **teacher.monthly_usd,
        },
        one_off_usd=dict(student.one_off_usd),
        latency=latency,
        facts=student.facts | teacher.facts,
        months=x.months,
        provenance={
            **student.provenance,
            **teacher.provenance,
            "latency": derived(f"quantile of the mixture of {how}"),
        },
        tokens_per_request=student.tokens_per_request * (1 - rate if alone else 1.0)
        + rate * (x["input_tokens"] + x["output_tokens"] + x["reasoning_tokens"]),
    )


def called(context: Context, rate: Floats) -> Teacher:
    """The teacher by its API for a share of the requests.

    Raises
    ------
    MissingPrice, UnknownName
        From the catalog.
    """
    x = context.x
    own = rate is x["escalation_rate"] or not x["cacheable_prefix_tokens"].any()
    cost = context.escalation_cost if own else context.teacher_cost(rate)
    source = derived(
        f"escalation_rate x the teacher's price of a request, thinking included ({cost.provenance['token_prices']})"
    )
    return Teacher(
        (context.teacher_label,),
        np.zeros((1, 1), dtype=np.intp),
        {"escalations": cost.total * rate * x.requests},
        {"escalations": source},
        context.teacher_latency,
        context.teacher_timing[1],
        context.once("gates of the teacher", lambda: _gates_of_the_api(context)),
        {},
        called=True,
    )


def _gates_of_the_api(context: Context) -> list[GateResult]:
    x = context.x
    return kept(
        [
            gates.privacy_gate(x, external=context.teacher),
            context.teacher_region,
            context.teacher_context,
            gates.retirement_gate(x, context.catalog, context.teacher, migrates=context.migrates),
        ]
    )


def _teachers(context: Context, n: int, rate: Floats) -> list[Teacher]:
    """What may answer the requests sent on at the nth threshold: the API, and a fleet that is sized for them."""
    return context.once(("teachers", n), lambda: [called(context, rate), *_served(context, rate)])


def _served(context: Context, rate: Floats) -> list[Teacher]:
    """The teacher on machines of one's own, sized for the share that is sent on; none where it cannot be."""
    if not serves_the_teacher(context):
        return []
    (found,) = context.at_share(rate).outcomes("self-host-teacher")
    if found.unpriced:
        return []
    return [
        Teacher(
            found.labels,
            found.label_index,
            {f"teacher_{item}": usd for item, usd in found.monthly_usd.items() if item != "wrong_answers"},
            {f"teacher_{name}": source for name, source in found.provenance.items() if name in found.monthly_usd},
            found.latency,
            found.provenance["latency"],
            [gate for gate in found.gates if gate.name not in ("quality", "slo", "privacy")],
            {f"teacher_{name}": found.facts[name] for name in ("replicas", "gpus_per_replica", "utilisation")},
            called=False,
        )
    ]


def _fleet_gate(monthly_usd: Floats, which: str) -> GateResult | None:
    """A model that no machine serves within the objectives has no fleet, and no price, behind a router either."""
    lacking = np.isnan(monthly_usd).any(axis=1, keepdims=True)
    if not lacking.any():
        return None
    code = np.where(lacking, FAIL, PASS).astype(np.int8)
    return GateResult("fleet", code, lambda i: f"no machine serves the {which} within the objectives")


def _router_gate(context: Context, why: str = "") -> GateResult:
    """A router that nobody has measured is not known to work; one that nobody has stated is an even bet.

    So is one that was measured on another student or before another teacher (``why``).
    """
    stated = not why and (context.choices.routing.escalation_rate is not None or "escalation_rate" in context.x.swept)
    if stated and "escalation_rate" not in context.x.scenario.priors:
        words = "escalation rate and APGR are stated, not measured on this traffic"
        return GateResult.of("router", "unknown", words)
    words = f"{why or 'no router has been measured'}: the escalation rate and the APGR are defaults"
    if "escalation_rate" in context.x.swept:
        words = f"{why}: the APGR is a default"
    odds = np.full((1, 1), NOT_MEASURED_ODDS)
    level = context.x.latent("the router works")
    if level is not None:
        odds = (level < odds).astype(float)
        return GateResult("router", np.where(odds > 0, PASS, FAIL).astype(np.int8), lambda _: words)
    return GateResult("router", np.zeros((1, 1), dtype=np.int8), lambda _: words, probability=odds)


def _at_once(student: Outcome) -> dict[str, Floats]:
    """A student that takes no time."""
    return dict.fromkeys(student.latency, np.full((1, 1), 1e-6))


def _later(latency: dict[str, Floats], seconds: float) -> dict[str, Floats]:
    """The time that scoring takes, on top of each request."""
    if not seconds:
        return latency
    return {name: value if name.startswith("tpot") else value + seconds for name, value in latency.items()}


def _asked(context: Context) -> tuple[str, ...]:
    """Which latencies are worked out: both, but in draws, of which nobody reads any, those that the gate asks for.

    The first token is held back to the last, so its latency takes both.
    """
    objectives = {what for what, _, _ in context.workload.slo.objectives()}
    return WHATS if "ttft" in objectives or not context.x.drawn else ("e2e",)
