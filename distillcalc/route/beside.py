"""A router beside what it has to beat: one model for everything, sending on at random, and an oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.route.bands import Bands, Metric
from distillcalc.route.certificate import Certificate, rounded
from distillcalc.route.curve import Curve
from distillcalc.route.pairs import Pairs

Floats = NDArray[np.float64]

Advice: TypeAlias = Literal["router", "student", "teacher", "one-model", "more-data"]

THIS = "this router"


@dataclass(frozen=True)
class Row:
    """One way to answer the same requests.

    Parameters
    ----------
    name : in words.
    escalation_rate : share of requests that the teacher answers.
    quality : mean of what is right, with its 95% interval.
    usd_per_1000 : dollars of a thousand requests; nan where costs are not known.
    """

    name: str
    escalation_rate: float
    quality: Metric
    usd_per_1000: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        usd = self.usd_per_1000 if np.isfinite(self.usd_per_1000) else None
        return {
            "name": self.name,
            "escalation_rate": self.escalation_rate,
            "quality": self.quality.to_dict(),
            "usd_per_1000": usd,
        }


@dataclass(frozen=True, eq=False)
class Beside:
    """A router at one escalation rate beside its baselines, all on the same items.

    Parameters
    ----------
    rows : each model for everything, the router, and of two models random for as many dollars (as many calls where
        dollars are not known), and random and an oracle at the same quality where they reach it.
    over_random : quality above random for as many dollars; None of a chain of more than two.
    """

    rows: tuple[Row, ...]
    over_random: Metric | None

    @classmethod
    def of(cls, bands: Bands, rate: float) -> Beside:
        """The rows for a router that sends this share on.

        Parameters
        ----------
        bands : of items that the router was not made from.
        rate : share that is sent on, in [0, 1].
        """
        c = bands.curve
        quality = c.quality_at(rate)

        def row(name: str, at: float, usd: float, compute: Callable[[Curve], float]) -> Row:
            return Row(name, at, bands.metric(compute), usd * 1000)

        equal = c.random_rate(rate)
        rows = [
            row("always the student", 0.0, c.student_usd, lambda one: one.student_quality),
            row("always the teacher", 1.0, c.teacher_usd, lambda one: one.teacher_quality),
            row(THIS, rate, c.usd_at(rate), lambda one: one.quality_at(rate)),
            row(
                "random, for as many dollars" if c.priced else "random, as many sent on", equal, c.random_usd(equal),
                lambda one: one.random_quality(equal),
            ),
        ]  # fmt: skip
        random = c.random_rate_for(quality)
        if np.isfinite(random):
            rows.append(
                row("random, as good", random, c.random_usd(random), lambda one: one.random_quality(float(random)))
            )
        reached = np.flatnonzero(c.oracle_quality >= quality - 1e-12)
        if reached.size:
            best = float(c.oracle_rate[reached[0]])
            rows.append(Row("oracle, as good", best, Metric(quality, np.nan, np.nan), c.oracle_usd(best) * 1000))
        return cls(tuple(rows), bands.over_random(rate))

    @classmethod
    def of_chain(cls, pairs: Pairs, shares: Floats, quality: float, usd: float) -> Beside:
        """Each model of a chain for everything, and the router.

        Parameters
        ----------
        pairs : items that the router was not made from.
        shares : of requests that each model answers, shape (models,).
        quality, usd : of the router on them, dollars of a request.
        """
        n = len(pairs)

        def told(name: str, at: float, value: float, spread: float, usd: float) -> Row:
            error = 1.96 * spread / np.sqrt(n)
            return Row(name, at, Metric(value, max(value - error, 0.0), min(value + error, 1.0)), usd * 1000)

        rows = []
        for m, name in enumerate(pairs.models):
            right = pairs.right[:, m]
            alone = float("nan") if pairs.usd is None else float(pairs.usd[:, m].mean())
            at = float(m == len(pairs.models) - 1)
            rows.append(told(f"always {name}", at, float(right.mean()), float(right.std()), alone))
        spread = float(np.sqrt(max(quality * (1 - quality), 0.0)))
        rows.append(told(THIS, float(shares[-1]), quality, spread, usd))
        return cls(tuple(rows), None)

    def row(self, name: str) -> Row | None:
        """A row by its name; None where it is not reached."""
        return next((one for one in self.rows if one.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        over = None if self.over_random is None else self.over_random.to_dict()
        return {"rows": [row.to_dict() for row in self.rows], "over_random": over}

    def lines(self) -> list[list[str]]:
        """The rows as text cells: name, sent on, quality with its interval, dollars, against always the teacher."""
        known = [one for one in self.rows if one.name.startswith("always")]
        teacher = known[-1].usd_per_1000
        found = []
        for one in self.rows:
            q = one.quality
            interval = f" ({q.low:.3f} to {q.high:.3f})" if np.isfinite(q.low) else ""
            usd = f"${one.usd_per_1000:,.4g}" if np.isfinite(one.usd_per_1000) else "-"
            saved = f"{1 - one.usd_per_1000 / teacher:+.0%}" if np.isfinite(one.usd_per_1000) and teacher > 0 else "-"
            found.append([one.name, f"{one.escalation_rate:.1%}", f"{q.value:.3f}{interval}", usd, saved])
        return found


MOST_TIMES = 10  # as many pairs: what takes more than that to show is not worth looking for
TWO_SIDED, POWER = 1.96, 0.84  # standard normal quantiles of 0.975 and of 0.8


def pairs_to_show(lift: Metric, items: int) -> int | None:
    """About how many more pairs would show that a lift is above 0, as a normal approximation at a power of 0.8.

    items x (((1.96 + 0.84) standard errors / lift)^2 - 1); None where the lift is not above 0 or takes more than ten
    times the pairs that there are.
    """
    if not lift.value > 0:
        return None
    error = (lift.high - lift.low) / (2 * TWO_SIDED)
    more = items * (((TWO_SIDED + POWER) * error / lift.value) ** 2 - 1)
    return None if more > MOST_TIMES * items else rounded(max(int(more), 1))


@dataclass(frozen=True)
class Verdict:
    """Whether to route at all, and if not, which model to take.

    Parameters
    ----------
    advice : "router"; "student", "teacher" or "one-model" where one fixed model does better; "more-data" where nothing
        is certified yet, and the teacher stays for now.
    reasons : in words, the first is what decided.
    """

    advice: Advice
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        heads = {
            "router": "Route.",
            "student": "Do not route: the student alone.",
            "teacher": "Do not route: the teacher alone.",
            "one-model": "Do not route: one model of the chain.",
            "more-data": "Do not route yet: the teacher alone, until there are more pairs.",
        }
        return " ".join([heads[self.advice], *self.reasons])


def judge(certificate: Certificate, bands: Bands) -> Verdict:
    """Whether a router is worth having.

    Parameters
    ----------
    certificate : what was promised of it.
    bands : its curve on the certifying items.

    Notes
    -----
    In this order: a student that is certified by itself needs no router; a score that is not surely better than sending
    on at random (95% interval of the lift) is none; what is not certified waits; a router that random matches for as
    many dollars is none; and so is one that costs more than a teacher that does as well.
    """
    c, goal = bands.curve, certificate.goal
    lead, lift = bands.teacher_lead, bands.lift
    budget = goal.usd_per_request
    cheaper = c.priced and c.teacher_usd <= c.student_usd and lead.value >= 0
    fixed: Advice = "teacher"
    if lead.value <= 0 or (budget is not None and c.priced and c.teacher_usd > budget):
        fixed = "student"
    no_better = (
        f"The teacher is{' surely' if lead.high < 0 else ''} not better than the student on these pairs: "
        f"{lead.value:+.3f} ({lead.low:+.3f} to {lead.high:+.3f})."
    )
    context = (no_better,) if lead.value <= 0 else ()
    alone = certificate.certified & (certificate.certifying.escalation_rate == 0)
    if goal.asks_quality and alone.any():
        if cheaper:
            return Verdict("teacher", ("The student is certified by itself, and the teacher is better for less.",))
        return Verdict("student", (f"It is certified by itself: {goal}.", *context))
    if lift.low <= 0:
        return _not_shown(certificate, bands, fixed, context)
    if certificate.chosen is None:
        advice: Advice = "more-data" if certificate.more_items and fixed == "teacher" else fixed
        return Verdict(advice, (*certificate.sentences, *context))
    rate, usd = float(certificate.certifying.escalation_rate[certificate.chosen]), certificate.usd
    if np.isfinite(usd) and usd >= c.teacher_usd and lead.value > 0:
        why = (
            f"The router meets the goal only by sending on {rate:.0%}, and then costs ${usd * 1000:,.4g} per 1,000 "
            f"requests against ${c.teacher_usd * 1000:,.4g} for the teacher."
        )
        return Verdict("teacher", (why,))
    over = bands.over_random(rate)
    what = "The same dollars spent at random" if c.priced else "As many sent on at random"
    told = (
        f"{what} would have a quality {abs(over.value):.3f} {'lower' if over.value >= 0 else 'higher'} "
        f"({over.low:+.3f} to {over.high:+.3f})"
    )
    if over.value <= 0:
        return Verdict(fixed, (f"{told}: by this score the router is not worth its price.", *context))
    surely = "surely" if over.low > 0 else "not surely"
    said = [*certificate.sentences, f"{told}, {surely} so; over all rates APGR is {bands.apgr}.", *context]
    if np.isfinite(usd):
        said.append(
            f"${usd * 1000:,.4g} per 1,000 requests against ${c.teacher_usd * 1000:,.4g} for the teacher alone, "
            f"{1 - usd / c.teacher_usd:.0%} less."
        )
    return Verdict("router", tuple(said))


def _not_shown(certificate: Certificate, bands: Bands, fixed: Advice, context: tuple[str, ...]) -> Verdict:
    """Of a score that is not shown to beat sending on at random."""
    lift = bands.lift
    figures = f"{lift.value:+.4f} of quality on average ({lift.low:+.4f} to {lift.high:+.4f})"
    if lift.high < 0:
        said = f"The score is upside down, it is lower where the student is right: {figures}. Negate it."
        return Verdict(fixed, (said, *context))
    apgr = f", APGR {bands.apgr}; random is 0.5" if bands.curve.gap > 0 else ""
    said = f"The score is not shown to beat sending on as many at random: {figures}{apgr}."
    if fixed == "student" and certificate.goal.asks_quality and not certificate.certified.any():
        context = (*context, f"The goal is not certified of any of them: {certificate.goal}.")
    more = pairs_to_show(lift, certificate.certifying.items)
    if more is None or fixed == "student":
        return Verdict(fixed, (said, *context))
    return Verdict("more-data", (said, f"Were it as good as it looks, about {more:,} more pairs would show it."))


def judge_chain(certificate: Certificate, pairs: Pairs) -> Verdict:
    """The same of a chain of more than two, beside each of its models alone.

    Parameters
    ----------
    certificate : what was promised of it.
    pairs : the certifying items.
    """
    if certificate.chosen is None:
        return Verdict("more-data" if certificate.more_items else "teacher", tuple(certificate.sentences))
    quality, usd = float(certificate.certifying.quality[certificate.chosen]), certificate.usd
    for m, name in enumerate(pairs.models):
        right = float(pairs.right[:, m].mean())
        alone = float("nan") if pairs.usd is None else float(pairs.usd[:, m].mean())
        if right >= quality and (alone <= usd if np.isfinite(usd) else m < len(pairs.models) - 1):
            price = (
                f" for ${alone * 1000:,.4g} per 1,000 requests against ${usd * 1000:,.4g}" if np.isfinite(usd) else ""
            )
            advice: Advice = "teacher" if m == len(pairs.models) - 1 else "student" if m == 0 else "one-model"
            return Verdict(advice, (f"{name} alone is right in {right:.3f} against {quality:.3f}{price}.",))
    shares = ", ".join(
        f"{name} {share:.1%}"
        for name, share in zip(pairs.models, certificate.certifying.shares[certificate.chosen], strict=True)
    )
    said = [*certificate.sentences, f"Answered by: {shares}."]
    if np.isfinite(usd):
        teacher = float("nan") if pairs.usd is None else float(pairs.usd[:, -1].mean())
        said.append(f"${usd * 1000:,.4g} per 1,000 requests against ${teacher * 1000:,.4g} for {pairs.teacher} alone.")
    return Verdict("router", tuple(said))
