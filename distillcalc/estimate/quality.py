"""How good an option's answers are, as a Beta posterior from counts or a stated prior.

Quality is the mean of one task metric in [0, 1] on human-labelled items; retention is student / teacher.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, ModelRow
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import FAIL, PASS, UNKNOWN, GateResult, at
from distillcalc.provenance import Provenance, assumed, derived, given
from distillcalc.workload.distributions import beta_quantile
from distillcalc.workload.scenario import Evaluation

Floats = NDArray[np.float64]

TEACHER_PRIOR = (0.90, 0.05)  # mean and sd: nobody has measured the teacher on this task yet
RETENTION_PRIOR = (0.90, 0.04)  # the article's "80 to 95% kept", read as a central 95%
SMALLEST_PRIOR_PARAMS_B = 7.0
LOSS_PER_HALVING = 0.04
SMALL_RETENTION_SD = 0.06
TEACHER_LATENT = "quality of the teacher"
_CERTAIN = np.zeros((1, 1))
_CERTAIN.setflags(write=False)


@dataclass(frozen=True)
class Paired:
    """Items that a mixture of student and teacher was compared with the teacher alone on.

    Parameters
    ----------
    gained, lost, both : items that the mixture alone got right, the teacher alone, and both, shape (n or 1, 1).
    level : where beliefs are drawn, which quantile of the retention is meant, shape (n, 1).
    """

    gained: Floats
    lost: Floats
    both: Floats
    level: Floats | None = None

    def at_least(self, least: Floats) -> Floats:
        """P(quality >= least x the teacher's on the same items), shape (n or 1, 1); 1 or 0 where it is drawn.

        Of the items that either gets right the shares alpha (gained) and beta (lost) have a Dirichlet posterior with
        Jeffreys' 1/2 of each cell, and 1 - beta >= least (1 - alpha) is asked: the mean over the quantiles of beta of
        what remains to be asked of alpha / (1 - beta), the trapezoid rule on 97 of their normal scores.
        """
        if self.gained.size == self.lost.size == self.both.size == least.size == 1:
            found = _paired_chance(self.gained.item(), self.lost.item(), self.both.item(), least.item())
            chance = np.array([[found]])
        else:
            chance = _paired_chances(self.gained, self.lost, self.both, least)
        return chance if self.level is None else np.asarray((self.level >= 1 - chance).astype(float))


@dataclass(frozen=True)
class Belief:
    """What is believed of one quality: mean and standard deviation, shape (n or 1, 1), and on what grounds.

    Parameters
    ----------
    measured : whether counts on human-labelled items stand behind it.
    retention : the student / teacher ratio that it was made from, where it was.
    student, recovered : of a cascade, the student's belief and the share of the gap to the teacher recovered.
    paired : of a measured router, the counts beside the teacher's on the same items.
    drawn : whether the mean is a draw of it: each scenario then knows its quality, and sd is 0.
    """

    mean: Floats
    sd: Floats
    source: Provenance
    measured: bool = False
    retention: Belief | None = None
    student: Belief | None = None
    recovered: Floats | None = None
    drawn: bool = False
    paired: Paired | None = None

    def times(self, ratio: Belief) -> Belief:
        """Quality of a student from the teacher's and the retention: means multiply, relative variances add."""
        mean = self.mean * ratio.mean
        relative = (self.sd / self.mean) ** 2 + (ratio.sd / ratio.mean) ** 2
        return Belief(
            mean, mean * np.sqrt(relative), ratio.source, ratio.measured, ratio, drawn=self.drawn and ratio.drawn
        )

    @property
    def beta(self) -> tuple[Floats, Floats]:
        """Parameters of the Beta distribution with this mean and sd.

        Beta(m k, (1 - m) k) with k = m (1 - m) / sd^2 - 1; for counts this is the Beta(1 + correct, 1 + wrong)
        posterior itself.
        """
        mean = np.minimum(np.maximum(self.mean, 1e-6), 1 - 1e-6)
        k = np.maximum(mean * (1 - mean) / np.maximum(self.sd, 1e-9) ** 2 - 1, 1.0)
        return mean * k, (1 - mean) * k


def drawn(x: Inputs, belief: Belief, name: str) -> Belief:
    """The belief, or a draw of it where beliefs are drawn: the quantile of its Beta distribution at a level."""
    level = x.latent(name)
    if level is None:
        return belief
    return replace(belief, mean=beta_quantile(*belief.beta, level), sd=_CERTAIN, drawn=True)


def known(mean: Floats, source: Provenance) -> Belief:
    """A quality that is an input of its own and was drawn as such: nothing is left to doubt."""
    return Belief(mean, _CERTAIN, source, drawn=True)


def probability_at_least(belief: Belief, floor: Floats) -> Floats:
    """P(quality >= floor) under the belief's Beta distribution, shape (n or 1, 1); 1 or 0 of a draw."""
    from scipy.special import betainc

    if belief.drawn:
        return np.asarray((belief.mean >= floor).astype(float))
    a, b = belief.beta
    return np.asarray(1 - betainc(a, b, np.minimum(np.maximum(floor, 0), 1)))


def probability_of_retention(belief: Belief, teacher: Belief, least: Floats) -> Floats:
    """P(quality >= least x the teacher's quality), shape (n or 1, 1).

    A stated or assumed retention answers itself. Of two independent posteriors it is the mean of
    P(student >= least x t) over the teacher's quantiles t, the midpoint rule on 64 of them. A cascade that
    recovers a share g of the gap keeps s / t (1 - g) + g of the teacher, so it asks (least - g) / (1 - g) of
    its student. Counts beside the teacher's own on the same items answer for themselves.
    """
    if belief.paired is not None:
        return belief.paired.at_least(least)
    if belief.student is not None and belief.recovered is not None:
        gap = 1 - belief.recovered
        asked = np.where(gap > 0, (least - belief.recovered) / np.where(gap > 0, gap, 1.0), 0.0)
        chance = probability_of_retention(belief.student, teacher, np.maximum(asked, 0.0))
        return np.where(asked <= 0, 1.0, chance)
    if belief.retention is not None:
        return probability_at_least(belief.retention, least)
    if belief.drawn and teacher.drawn:
        return np.asarray((belief.mean >= least * teacher.mean).astype(float))
    (a, b), (c, d) = belief.beta, teacher.beta
    if a.size == c.size == least.size == 1:
        return np.array([[_retention_chance(a.item(), b.item(), c.item(), d.item(), least.item())]])
    return _retention_chances(a, b, c, d, least)


def _retention_chances(a: Floats, b: Floats, c: Floats, d: Floats, least: Floats) -> Floats:
    from scipy.special import betainc, betaincinv

    levels = (np.arange(64) + 0.5) / 64
    asked = np.minimum(least * betaincinv(c, d, levels), 1.0)
    return np.asarray(np.mean(1 - betainc(a, b, asked), axis=1, keepdims=True))


def _paired_chances(gained: Floats, lost: Floats, both: Floats, least: Floats) -> Floats:
    from scipy.special import betainc, betaincinv, ndtr

    scores = np.linspace(-6, 6, 97)
    weights = np.exp(-(scores**2) / 2)
    a, b, c = gained + 0.5, lost + 0.5, both + 0.5
    beta = np.minimum(betaincinv(b, a + c, ndtr(scores)), 1 - 1e-12)
    asked = np.clip(1 / (1 - beta) - 1 / np.maximum(least, 1e-12), 0, 1)
    return np.asarray(((1 - betainc(a, c, asked)) @ (weights / weights.sum()))[:, None])


@lru_cache(maxsize=4096)
def _paired_chance(gained: float, lost: float, both: float, least: float) -> float:
    one = np.ones((1, 1))
    return float(_paired_chances(gained * one, lost * one, both * one, least * one)[0, 0])


@lru_cache(maxsize=4096)
def _retention_chance(a: float, b: float, c: float, d: float, least: float) -> float:
    one = np.ones((1, 1))
    return float(_retention_chances(a * one, b * one, c * one, d * one, least * one)[0, 0])


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
    if "teacher" in evaluations and (x.drawn or "teacher_quality" not in x.swept):
        return drawn(x, from_counts(evaluations["teacher"], "teacher"), TEACHER_LATENT)
    stated = x["teacher_quality"]
    if x.drawn and "teacher_quality" in x.swept:
        return known(stated, given("teacher_quality, drawn"))
    return drawn(x, _teacher_prior(x, stated), TEACHER_LATENT)


def _teacher_prior(x: Inputs, stated: Floats) -> Belief:
    if not np.isnan(stated).any():
        return Belief(stated, np.full((1, 1), 0.02), given("teacher_quality, taken as +- 0.02"))
    floor = x["floor"]
    mean, sd = TEACHER_PRIOR
    if np.isnan(floor).any() or (floor <= 2 * mean - 1).all():
        return _constant(mean, sd, assumed(f"{mean:g} +- {sd:g}: the teacher has not been measured on this task"))
    why = assumed(
        f"{mean:g}, or halfway between the floor and 1: the model in use is taken to meet the floor, not measured"
    )
    high = floor > 2 * mean - 1
    return Belief(
        np.where(high, (1 + floor) / 2, mean),
        np.where(high, np.minimum(np.maximum((1 - floor) / 4, 1e-4), sd), sd),
        why,
    )


def _constant(mean: float, sd: float, source: Provenance) -> Belief:
    return Belief(np.array([[mean]]), np.array([[sd]]), source)


def retention_prior(row: ModelRow | None) -> tuple[float, float]:
    """Mean and sd of what a distilled student keeps of its teacher, before it is measured.

    0.90 +- 0.04, the article's 80 to 95%, for 7 x 10^9 parameters and more; below, 0.04 less and 0.02 wider
    for each halving, as DeepSeek's distilled models lose on MATH-500 (0.954 kept at 7.6 x 10^9 parameters,
    0.862 at 1.8 x 10^9; arXiv:2501.12948).
    """
    mean, sd = RETENTION_PRIOR
    halvings = max(float(np.log2(SMALLEST_PRIOR_PARAMS_B / row.params_b)), 0.0) if row and row.params_b else 0.0
    return max(mean - LOSS_PER_HALVING * halvings, 0.05), sd + LOSS_PER_HALVING / 2 * halvings


def distilled_belief(
    x: Inputs, names: tuple[str, ...], teacher: Belief, student: str | None = None, row: ModelRow | None = None
) -> Belief:
    """A student trained on this task's labels: counts, else the stated or the general retention.

    ``names`` are those under which counts may be given; ``student`` and ``row`` its id and catalog row.
    """
    evaluations = x.scenario.choices.evaluations
    found = next((name for name in names if name in evaluations), None)
    if found and (x.drawn or "student_retention" not in x.swept):
        return drawn(x, from_counts(evaluations[found], found), f"quality of {found}")
    mean, sd = retention_prior(row)
    stated = x.scenario.choices.student_retention
    own = stated.get(student or "") if isinstance(stated, dict) and "student_retention" not in x.swept else None
    retention = x["student_retention"] if own is None else np.array([[own]])
    if x.drawn and own is None and "student_retention" in x.swept:
        return teacher.times(known(retention, given("student_retention, drawn")))
    if np.isnan(retention).any():
        why = f"retention {mean:.2g} +- {sd:.2g} by the article's 80 to 95% and the student's size: not measured here"
        ratio = _constant(mean, sd, assumed(why))
    else:
        spread = RETENTION_PRIOR[1]
        ratio = Belief(retention, np.full((1, 1), spread), given(f"student_retention, taken as +- {spread:g}"))
    return teacher.times(drawn(x, ratio, f"retention of {student or names[0]}"))


def general_belief(x: Inputs, names: tuple[str, ...], row: ModelRow | None, teacher: Belief) -> Belief:
    """A small model that has not seen this task's labels: counts, else its published or claimed retention."""
    evaluations = x.scenario.choices.evaluations
    found = next((name for name in names if name in evaluations), None)
    if found:
        return drawn(x, from_counts(evaluations[found], found), f"quality of {found}")
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
    return teacher.times(drawn(x, ratio, f"retention of {names[0]}"))


def cascade_belief(student: Belief, teacher: Belief, escalation_rate: Floats, apgr: Floats) -> Belief:
    """Quality of a cascade: the router recovers part of the gap between student and teacher.

    q = q_s + PGR(c) (q_t - q_s) with PGR(c) = c^(1/APGR - 1), the power curve whose average over c is the
    APGR (RouteLLM, arXiv:2406.18665, defines both); APGR 0.5 is the random router's straight line.
    """
    recovered = escalation_rate ** (1 / apgr - 1)
    source = derived("student + PGR(escalation rate) x (teacher - student), PGR(c) = c^(1/APGR - 1)")
    if student.retention is not None:  # the student's error is the teacher's too: one draw of it, not two
        kept = student.retention
        ratio = Belief(kept.mean + recovered * (1 - kept.mean), (1 - recovered) * kept.sd, source)
        mixed = teacher.times(ratio)
        mean, sd = mixed.mean, mixed.sd
    else:
        mean = student.mean + recovered * (teacher.mean - student.mean)
        sd = np.sqrt(((1 - recovered) * student.sd) ** 2 + (recovered * teacher.sd) ** 2)
    return Belief(mean, sd, source, student=student, recovered=recovered, drawn=student.drawn)


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
        chance = probability_of_retention(belief, teacher, np.array([[relative]]))
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
