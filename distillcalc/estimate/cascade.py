"""The cascade: a student answers every request, a router sends a share on to the teacher; every attempt is paid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate import gates, quality
from distillcalc.estimate.context import Context
from distillcalc.estimate.distillation import people_sources
from distillcalc.estimate.option import Option, add_quality, kept, unpriced
from distillcalc.estimate.outcome import FAIL, PASS, GateResult, Outcome
from distillcalc.provenance import assumed, derived, given

Floats = NDArray[np.float64]

Z95 = 1.6448536269514722
Z99 = 2.3263478740408408
GRID_POINTS = 32  # of each part
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
        whats = _asked(context)
        teachers_part = context.once("after", lambda: after(context.teacher_latency, whats))
        latency = mixed_latency(student.latency, context.teacher_latency, rate, teachers_part, whats)
        at_least = None
        if np.isnan(student.latency["e2e_p50"]).all() and context.workload.slo.objectives():
            # Nobody knows how fast the student is; the teacher's share alone may be too slow.
            at_once = dict.fromkeys(student.latency, np.full((1, 1), 1e-6))
            at_least = context.once(
                "at least", lambda: mixed_latency(at_once, context.teacher_latency, rate, teachers_part, whats)
            )
        timings = dict.fromkeys((student.provenance["latency"], context.teacher_timing[1]))
        unmeasured = "; ".join(timing.source for timing in timings if timing.kind == "assumed")
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
                context.teacher_region,
                context.teacher_context,
                gates.retirement_gate(x, catalog, context.teacher, migrates=context.migrates),
                gates.slo_gate(x, latency, str(outcome.provenance["latency"]), at_least=at_least, to_do=unmeasured),
                self._fleet_gate(student),
                self._router_gate(context),
                context.quality_gate(belief),
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

    @staticmethod
    def _fleet_gate(student: Outcome) -> GateResult | None:
        """A student that no machine serves within the objectives has no fleet, and no price, behind a router either."""
        lacking = np.isnan(student.monthly_total_usd).any(axis=1, keepdims=True)
        if not lacking.any():
            return None
        code = np.where(lacking, FAIL, PASS).astype(np.int8)
        return GateResult("fleet", code, lambda i: "no machine serves the student within the objectives")

    @staticmethod
    def _router_gate(context: Context) -> GateResult:
        """A router that nobody has measured is not known to work; one that nobody has stated is an even bet."""
        stated = context.choices.routing.escalation_rate is not None or "escalation_rate" in context.x.swept
        if stated and "escalation_rate" not in context.x.scenario.priors:
            words = "escalation rate and APGR are stated, not measured on this traffic"
            return GateResult.of("router", "unknown", words)
        words = "no router has been measured: the escalation rate and the APGR are defaults"
        odds = np.full((1, 1), NOT_MEASURED_ODDS)
        level = context.x.latent("the router works")
        if level is not None:
            odds = (level < odds).astype(float)
            return GateResult("router", np.where(odds > 0, PASS, FAIL).astype(np.int8), lambda _: words)
        return GateResult("router", np.zeros((1, 1), dtype=np.int8), lambda _: words, probability=odds)


def _asked(context: Context) -> tuple[str, ...]:
    """Which latencies are worked out: both, but in draws, of which nobody reads any, those that the gate asks for.

    The first token is held back to the last, so its latency takes both.
    """
    objectives = {what for what, _, _ in context.workload.slo.objectives()}
    return WHATS if "ttft" in objectives or not context.x.drawn else ("e2e",)


def after(teacher: dict[str, Floats], whats: tuple[str, ...] = WHATS) -> _Lognormal:
    """The teacher's part of an escalated request: to the first token and to the last, shape (2, n, 1)."""
    return _Lognormal.through(
        *(np.stack(np.broadcast_arrays(*(teacher[f"{what}_{level}"] for what in whats))) for level in ("p50", "p95"))
    )


def mixed_latency(
    student: dict[str, Floats],
    teacher: dict[str, Floats],
    rate: Floats,
    teachers_part: _Lognormal | None = None,
    whats: tuple[str, ...] = WHATS,
) -> dict[str, Floats]:
    """Latency of a cascade [s] by objective name, shape (n, 1): quantiles of a mixture.

    A share 1 - rate of requests ends with the student's answer, which is held back until it is judged; the
    rest take the student's time and then the teacher's. The student's part goes through its known percentiles,
    log-normal between them; the sum is the log-normal with the sum's mean and variance (Fenton, 1960); the
    mixture's distribution is inverted on the quantiles of both. No percentile is below the student's own, and
    the first token never after the last. TPOT is the slower model's where anything is escalated.
    """
    if np.isnan(student["e2e_p50"]).all():  # a student of unknown speed makes a cascade of unknown speed
        return dict.fromkeys(student, student["e2e_p50"])
    alone = _Lognormal.through(student["e2e_p50"], student["e2e_p95"], student.get("e2e_p99"))
    late = alone.plus(teachers_part if teachers_part is not None else after(teacher, whats))
    percentiles = sorted({name.rsplit("_", 1)[1] for name in student})
    found: dict[str, Floats] = {}
    for percentile, seconds in _quantiles(alone, late, rate, percentiles).items():
        own = student[f"e2e_{percentile}"]
        parts = [np.where(rate > 0, np.maximum(mixed, own), own) for mixed in seconds]
        found[f"e2e_{percentile}"] = parts[-1]
        if "ttft" in whats:
            found[f"ttft_{percentile}"] = np.minimum(*parts)
    for name in (name for name in student if name.startswith("tpot")):
        found[name] = np.where(rate > 0, np.maximum(student[name], teacher[name]), student[name])
    return found


class _Lognormal:
    """A latency by its median and the spread of its logarithm, a wider spread beyond p95 where p99 is known."""

    def __init__(self, median: Floats, sigma: Floats, tail: Floats | None = None) -> None:
        self.log_median, self.sigma = np.log(median), sigma
        self.tail = sigma if tail is None else tail

    @classmethod
    def through(cls, p50: Floats, p95: Floats, p99: Floats | None = None) -> _Lognormal:
        middle = np.maximum(p50, 1e-12)
        sigma = np.maximum(np.log(np.maximum(p95 / middle, 1.0)) / Z95, 1e-6)
        if p99 is None:
            return cls(middle, sigma)
        return cls(middle, sigma, np.maximum(np.log(np.maximum(p99 / np.maximum(p95, 1e-12), 1.0)) / (Z99 - Z95), 1e-6))

    def plus(self, other: _Lognormal) -> _Lognormal:
        grown, other_grown = np.exp(self.sigma**2), np.exp(other.sigma**2)
        mine, others = np.exp(self.log_median) * np.sqrt(grown), np.exp(other.log_median) * np.sqrt(other_grown)
        mean = mine + others
        variance = mine**2 * (grown - 1) + others**2 * (other_grown - 1)
        spread = np.log1p(variance / mean**2)
        return _Lognormal(np.asarray(mean * np.exp(-spread / 2)), np.asarray(np.maximum(np.sqrt(spread), 1e-6)))

    def log_at(self, z: Floats) -> Floats:
        """Logarithm of the quantile at a standard normal level."""
        return np.asarray(self.log_median + self.sigma * np.minimum(z, Z95) + self.tail * np.maximum(z - Z95, 0))

    def share_below(self, log_seconds: Floats) -> Floats:
        from scipy.special import ndtr

        z = (log_seconds - self.log_median) / self.sigma
        if self.tail is not self.sigma:
            beyond = Z95 + (log_seconds - self.log_median - Z95 * self.sigma) / self.tail
            z = np.where(z > Z95, beyond, z)
        return np.asarray(ndtr(z))


def _quantiles(alone: _Lognormal, late: _Lognormal, rate: Floats, percentiles: list[str]) -> dict[str, Floats]:
    """Percentiles of (1 - rate) alone + rate late, shape of ``late``; nan where ``late`` is not known."""
    levels = np.linspace(-4.0, 4.0, GRID_POINTS)
    shape = (*np.broadcast_shapes(alone.log_median.shape, late.log_median.shape, rate.shape)[:-1], GRID_POINTS)
    grid = np.concatenate([np.broadcast_to(part.log_at(levels), shape) for part in (alone, late)], axis=-1)
    grid = np.sort(grid, axis=-1)
    reached = (1 - rate) * alone.share_below(grid) + rate * late.share_below(grid)
    shares, points = reached.reshape(-1, 2 * GRID_POINTS), grid.reshape(-1, 2 * GRID_POINTS)
    rows = np.arange(len(shares))
    known = ~np.isnan(late.log_median)
    found = {}
    for percentile in percentiles:
        level = int(percentile[1:]) / 100
        right = np.maximum(np.argmax(shares >= level, axis=1), 1)
        below, above, left = shares[rows, right - 1], shares[rows, right], points[rows, right - 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.where(above > below, (level - below) / (above - below), 1.0)
        seconds = np.exp(left + part * (points[rows, right] - left))
        found[percentile] = np.where(known, seconds.reshape(shape[:-1])[..., None], np.nan)
    return found
