"""How good an option's answers are, as a Beta posterior from counts or a stated prior.

Quality is the mean of one task metric in [0, 1] on human-labelled items; retention is student / teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, ModelRow
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import FAIL, PASS, UNKNOWN, GateResult, at
from distillcalc.provenance import Provenance, assumed, derived, given
from distillcalc.workload.scenario import Evaluation

Floats = NDArray[np.float64]

TEACHER_PRIOR = (0.90, 0.05)  # mean and sd: nobody has measured the teacher on this task yet
RETENTION_PRIOR = (0.90, 0.04)  # the article's "80 to 95% kept", read as a central 95%
SMALL_RETENTION_SD = 0.06


@dataclass(frozen=True)
class Belief:
    """What is believed of one quality: mean and standard deviation, shape (n or 1, 1), and on what grounds.

    ``measured`` says whether counts on human-labelled items stand behind it.
    """

    mean: Floats
    sd: Floats
    source: Provenance
    measured: bool = False
    retention: Belief | None = None

    def times(self, ratio: Belief) -> Belief:
        """Quality of a student from the teacher's and the retention: means multiply, relative variances add."""
        mean = self.mean * ratio.mean
        relative = (self.sd / self.mean) ** 2 + (ratio.sd / ratio.mean) ** 2
        return Belief(mean, mean * np.sqrt(relative), ratio.source, ratio.measured, ratio)

    def over(self, teacher: Belief) -> Belief:
        """Retention: as it was stated, else the quotient of two measured qualities, relative variances added."""
        if self.retention is not None:
            return self.retention
        mean = self.mean / teacher.mean
        relative = (self.sd / self.mean) ** 2 + (teacher.sd / teacher.mean) ** 2
        return Belief(mean, mean * np.sqrt(relative), self.source, self.measured and teacher.measured)


def probability_at_least(belief: Belief, floor: Floats) -> Floats:
    """P(quality >= floor) under the Beta distribution with the belief's mean and sd, shape (n or 1, 1).

    Notes
    -----
    Beta(m k, (1 - m) k) with k = m (1 - m) / sd^2 - 1; for counts this is the Beta(1 + correct, 1 + wrong)
    posterior itself.
    """
    from scipy.special import betainc

    mean = np.clip(belief.mean, 1e-6, 1 - 1e-6)
    k = np.maximum(mean * (1 - mean) / np.maximum(belief.sd, 1e-9) ** 2 - 1, 1e-3)
    return np.asarray(1 - betainc(mean * k, (1 - mean) * k, np.clip(floor, 0, 1)))


@lru_cache(maxsize=1024)
def from_counts(evaluation: Evaluation, what: str) -> Belief:
    """Beta(1 + correct, 1 + wrong) posterior of a mean observed on labelled items."""
    a, b = 1.0 + evaluation.correct, 1.0 + evaluation.total - evaluation.correct
    mean = a / (a + b)
    sd = (mean * (1 - mean) / (a + b + 1)) ** 0.5
    source = Provenance("measured", f"{what}: {evaluation.correct} of {evaluation.total} labelled items right")
    return Belief(np.array([[mean]]), np.array([[sd]]), source, measured=True)


def teacher_belief(x: Inputs) -> Belief:
    """The teacher's quality: counts, else the stated mean, else a prior under which it meets the floor."""
    evaluations = x.scenario.choices.evaluations
    if "teacher" in evaluations and "teacher_quality" not in x.swept:
        return from_counts(evaluations["teacher"], "teacher")
    stated = x["teacher_quality"]
    if not np.isnan(stated).any():
        return Belief(stated, np.full((1, 1), 0.02), given("teacher_quality, taken as +- 0.02"))
    floor = x["floor"]
    if np.isnan(floor).any():
        mean, sd = TEACHER_PRIOR
        return _constant(mean, sd, assumed(f"{mean:g} +- {sd:g}: the teacher has not been measured on this task"))
    why = assumed(
        "halfway between the floor and 1: the model in use is taken to meet the floor, it has not been measured"
    )
    return Belief((1 + floor) / 2, np.maximum((1 - floor) / 4, 1e-4), why)


def _constant(mean: float, sd: float, source: Provenance) -> Belief:
    return Belief(np.array([[mean]]), np.array([[sd]]), source)


def distilled_belief(x: Inputs, names: tuple[str, ...], teacher: Belief) -> Belief:
    """A student trained on this task's labels: counts, else the stated or the general retention."""
    evaluations = x.scenario.choices.evaluations
    found = next((name for name in names if name in evaluations), None)
    if found and "student_retention" not in x.swept:
        return from_counts(evaluations[found], found)
    retention = x["student_retention"]
    mean, sd = RETENTION_PRIOR
    if np.isnan(retention).any():
        ratio = _constant(
            mean,
            sd,
            assumed(f"retention {mean:g} +- {sd:g}, the article's 80 to 95%: not measured on this task"),
        )
    else:
        ratio = Belief(retention, np.full((1, 1), sd), given(f"student_retention, taken as +- {sd:g}"))
    return teacher.times(ratio)


def general_belief(x: Inputs, names: tuple[str, ...], row: ModelRow | None, teacher: Belief) -> Belief:
    """A small model that has not seen this task's labels: counts, else its published or claimed retention."""
    evaluations = x.scenario.choices.evaluations
    found = next((name for name in names if name in evaluations), None)
    if found:
        return from_counts(evaluations[found], found)
    if row and row.retention:
        scores = list(row.retention.values())
        spread = max(float(np.std(scores)), 0.05)
        ratio = _constant(
            min(float(np.mean(scores)), 0.99),
            spread,
            Provenance(
                "catalog",
                f"retention on {', '.join(row.retention)} ({row.source})",
                row.checked,
                row.confidence,
            ),
        )
    elif row and row.claimed_retention:
        low, high = row.claimed_retention
        ratio = _constant(
            (low + high) / 2,
            max((high - low) / 4, SMALL_RETENTION_SD),
            Provenance("catalog", "retention as the article claims it", row.checked, "low"),
        )
    else:
        ratio = _constant(0.85, 0.07, assumed("retention 0.85 +- 0.07: no figure known for this model"))
    return teacher.times(ratio)


def cascade_belief(student: Belief, teacher: Belief, escalation_rate: Floats, apgr: Floats) -> Belief:
    """Quality of a cascade: the router recovers part of the gap between student and teacher.

    q = q_s + PGR(c) (q_t - q_s) with PGR(c) = c^(1/APGR - 1), the power curve whose average over c is the
    APGR (RouteLLM, arXiv:2406.18665, defines both); APGR 0.5 is the random router's straight line.
    """
    recovered = escalation_rate ** (1 / apgr - 1)
    mean = student.mean + recovered * (teacher.mean - student.mean)
    sd = np.sqrt(((1 - recovered) * student.sd) ** 2 + (recovered * teacher.sd) ** 2)
    source = derived("student + PGR(escalation rate) x (teacher - student), PGR(c) = c^(1/APGR - 1)")
    kept = student.over(teacher)
    retention = Belief(kept.mean + recovered * (1 - kept.mean), (1 - recovered) * kept.sd, source)
    return Belief(mean, sd, source, retention=retention)


def quality_gate(x: Inputs, belief: Belief, teacher: Belief, *, is_teacher: bool = False) -> GateResult:
    """Whether the quality floor is met with the confidence asked for.

    pass where P(quality >= floor) reaches the confidence, fail where it is at most 1 - confidence, else
    unknown, with the probability. Without a floor of either kind, 0.9 of the teacher's quality is asked for.
    """
    target = x.scenario.workload.quality
    floor = x["floor"]
    relative = target.retention_floor
    if relative is not None and "floor" not in x.swept:
        if is_teacher:
            return GateResult.of("quality", "pass", "it is the teacher that the floor is relative to")
        chance = probability_at_least(belief.over(teacher), np.array([[relative]]))
    else:
        relative = None
        chance = probability_at_least(belief, floor)
    code = np.where(chance >= target.confidence, PASS, np.where(chance <= 1 - target.confidence, FAIL, UNKNOWN))

    def detail(i: int) -> str:
        asked = (
            f"{target.metric} >= {at(floor, i):.3g}"
            if relative is None
            else (f"{target.metric} >= {relative:.3g} of the teacher's")
        )
        base = f"P({asked}) is {at(chance, i):.2f}, asked for {target.confidence:g}"
        return base if belief.measured else f"{base}; not measured on this task yet"

    return GateResult("quality", code.astype(np.int8), detail, str(belief.source), chance)


def refs_of(catalog: Catalog, ref: str) -> tuple[str, ...]:
    """The names under which the counts of a model as it is published may be given: provider/model, any host."""
    found = catalog.model_of(ref)
    return (ref, *found[1].price_refs) if found else (ref,)
