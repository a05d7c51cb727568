"""The cascade: a student answers every request, a router sends a share on to the teacher; every attempt is paid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate import gates, quality
from distillcalc.estimate.context import Context
from distillcalc.estimate.distillation import people_sources
from distillcalc.estimate.option import Option, add_quality, kept, unpriced
from distillcalc.estimate.outcome import GateResult, Outcome
from distillcalc.provenance import assumed, derived, given

Floats = NDArray[np.float64]

Z95 = 1.6448536269514722
GRID_POINTS = 48
WHATS = ("ttft", "e2e")
NOT_MEASURED_ODDS = 0.5  # of a router whose escalation rate and APGR nobody has even stated


class Cascade(Option):
    """The student answers first and the router sends a share on to the teacher; every attempt is paid."""

    id = "cascade"
    title = "Student first, teacher for the rest"

    def candidates(self, context: Context) -> list[Outcome]:
        students = [*context.outcomes("self-host"), *context.outcomes("hosted-open-student")]
        return [self.behind(context, student) for student in students]

    def behind(self, context: Context, student: Outcome) -> Outcome:
        """A cascade whose first model is an already evaluated student."""
        x, catalog = context.x, context.catalog
        labels = tuple(f"{label}, then {context.teacher_label}" for label in student.labels)
        if student.unpriced:
            return unpriced(self.id, labels[0], student.unpriced, context)
        rate = x["escalation_rate"]
        try:
            teacher = context.escalation_cost
        except (MissingPrice, UnknownName) as error:
            return unpriced(self.id, labels[0], str(error), context)
        latency = mixed_latency(
            student.latency,
            context.teacher_latency,
            rate,
            context.once("after", lambda: after(context.teacher_latency)),
        )
        outcome = Outcome(
            self.id,
            labels,
            student.label_index,
            monthly_usd={item: usd for item, usd in student.monthly_usd.items() if item != "wrong_answers"},
            one_off_usd=dict(student.one_off_usd),
            latency=latency,
            facts=dict(student.facts),
            months=x.months,
            provenance={
                **student.provenance,
                "escalations": derived(
                    "escalation_rate x the teacher's price of a request, thinking included "
                    f"({teacher.provenance['token_prices']})"
                ),
                "latency": derived("quantile of the mixture of student alone and student, then teacher"),
            },
            tokens_per_request=student.tokens_per_request
            + rate * (x["input_tokens"] + x["output_tokens"] + x["reasoning_tokens"]),
        )
        outcome.monthly_usd["escalations"] = teacher.total * rate * x.requests
        self._add_router(context, outcome)
        context.add_migration(outcome)
        belief = quality.cascade_belief(student.belief, context.teacher_belief, rate, x["apgr"])
        add_quality(context, outcome, belief)
        outcome.gates = kept(
            [
                *(gate for gate in student.gates if gate.name not in ("quality", "slo", "privacy")),
                gates.privacy_gate(x, external=context.teacher),
                gates.region_gate(x, catalog, context.teacher),
                gates.context_gate(x, context.window(context.teacher), context.teacher),
                gates.retirement_gate(x, catalog, context.teacher, migrates=context.migrates),
                gates.slo_gate(x, latency, str(outcome.provenance["latency"])),
                self._router_gate(context),
                quality.quality_gate(x, belief, context.teacher_belief),
            ]
        )
        return outcome

    @staticmethod
    def _add_router(context: Context, outcome: Outcome) -> None:
        """What the router takes: people once, an evaluation set where none is paid yet, a verifier per request."""
        x, routing = context.x, context.choices.routing
        outcome.one_off_usd["router_engineering"] = (
            np.full((1, 1), routing.engineering_hours) * x["engineering_usd_per_hour"]
        )
        outcome.provenance["router_engineering"] = assumed("engineering_hours of [choices.routing]")
        if "human_evaluation_set" not in outcome.one_off_usd:
            outcome.one_off_usd["human_evaluation_set"] = x["human_evaluation_items"] * x["human_label_usd"]
            outcome.provenance["human_evaluation_set"] = people_sources()["human_evaluation_set"]
        if routing.verifier_usd_per_request:
            outcome.monthly_usd["verifier"] = routing.verifier_usd_per_request * x.requests
            outcome.provenance["verifier"] = given("verifier_usd_per_request of [choices.routing]")

    @staticmethod
    def _router_gate(context: Context) -> GateResult:
        """A router that nobody has measured is not known to work; one that nobody has stated is an even bet."""
        if context.choices.routing.escalation_rate is not None or "escalation_rate" in context.x.swept:
            words = "escalation rate and APGR are stated, not measured on this traffic"
            return GateResult.of("router", "unknown", words)
        words = "no router has been measured: the escalation rate and the APGR are defaults"
        odds = np.full((1, 1), NOT_MEASURED_ODDS)
        return GateResult("router", np.zeros((1, 1), dtype=np.int8), lambda _: words, probability=odds)


def after(teacher: dict[str, Floats]) -> _Lognormal:
    """The teacher's part of an escalated request: to the first token and to the last, shape (2, n, 1)."""
    return _Lognormal.through(
        *(np.stack(np.broadcast_arrays(*(teacher[f"{what}_{level}"] for what in WHATS))) for level in ("p50", "p95"))
    )


def mixed_latency(
    student: dict[str, Floats], teacher: dict[str, Floats], rate: Floats, teachers_part: _Lognormal | None = None
) -> dict[str, Floats]:
    """Latency of a cascade [s] by objective name, shape (n, 1): quantiles of a mixture.

    A share 1 - rate of requests ends with the student's answer, which is held back until it is judged; the
    rest take the student's time and then the teacher's. Each part is taken as the log-normal through its p50
    and p95, a sum as the log-normal with the sum's mean and variance (Fenton, 1960), and the mixture's
    distribution is inverted on a logarithmic grid. TPOT is the slower model's where anything is escalated.
    """
    if np.isnan(student["e2e_p50"]).all():  # a student of unknown speed makes a cascade of unknown speed
        return dict.fromkeys(student, student["e2e_p50"])
    done = _Lognormal.through(student["e2e_p50"], student["e2e_p95"])
    late = done.plus(teachers_part if teachers_part is not None else after(teacher))
    percentiles = sorted({name.rsplit("_", 1)[1] for name in student})
    found: dict[str, Floats] = {}
    for percentile, seconds in _quantiles(done, late, rate, percentiles).items():
        for what, mixed in zip(WHATS, seconds, strict=True):
            found[f"{what}_{percentile}"] = np.where(rate > 0, mixed, student[f"e2e_{percentile}"])
    for name in (name for name in student if name.startswith("tpot")):
        found[name] = np.where(rate > 0, np.maximum(student[name], teacher[name]), student[name])
    return found


class _Lognormal:
    """A latency by its median and the spread of its logarithm, shape (n, 1) each."""

    def __init__(self, median: Floats, sigma: Floats) -> None:
        self.median, self.sigma = median, sigma

    @classmethod
    def through(cls, p50: Floats, p95: Floats) -> _Lognormal:
        ratio = np.maximum(p95 / np.maximum(p50, 1e-12), 1.0)
        return cls(np.maximum(p50, 1e-12), np.maximum(np.log(ratio) / Z95, 1e-6))

    def plus(self, other: _Lognormal) -> _Lognormal:
        grown, other_grown = np.exp(self.sigma**2), np.exp(other.sigma**2)
        mine, others = self.median * np.sqrt(grown), other.median * np.sqrt(other_grown)
        mean = mine + others
        variance = mine**2 * (grown - 1) + others**2 * (other_grown - 1)
        spread = np.log1p(variance / mean**2)
        return _Lognormal(np.asarray(mean * np.exp(-spread / 2)), np.asarray(np.sqrt(spread)))

    def share_below(self, log_seconds: Floats) -> Floats:
        from scipy.special import ndtr

        return np.asarray(ndtr((log_seconds - np.log(self.median)) / self.sigma))


def _quantiles(alone: _Lognormal, late: _Lognormal, rate: Floats, percentiles: list[str]) -> dict[str, Floats]:
    """Percentiles of (1 - rate) alone + rate late, shape of ``late``; nan where ``late`` is not known."""
    low = np.log(alone.median) - 4 * alone.sigma
    high = np.maximum(np.log(late.median) + 4 * late.sigma, low + 8 * alone.sigma)
    grid = low + (high - low) * np.linspace(0, 1, GRID_POINTS)
    reached = (1 - rate) * alone.share_below(grid) + rate * late.share_below(grid)
    found = {}
    for percentile in percentiles:
        level = int(percentile[1:]) / 100
        right = np.maximum(np.argmax(reached >= level, axis=-1), 1)[..., None]
        below, above = (np.take_along_axis(reached, at, axis=-1) for at in (right - 1, right))
        left, end = (np.take_along_axis(grid, at, axis=-1) for at in (right - 1, right))
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.minimum(np.maximum((level - below) / (above - below), 0), 1)
        found[percentile] = np.exp(left + part * (end - left))
    return found
