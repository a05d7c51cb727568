"""A router beside what it has to beat: one model for everything, sending on at random, and an oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from distillcalc.route.bands import Bands, Metric
from distillcalc.route.certificate import Certificate, rounded
from distillcalc.route.curve import Curve

Advice: TypeAlias = Literal["router", "student", "teacher", "more-data"]


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
    rows : always-student, always-teacher, the router, random at the same escalation rate, and random and an oracle at
        the same quality where they reach it.
    over_random : quality above random at the same escalation rate.
    """

    rows: tuple[Row, ...]
    over_random: Metric

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

        rows = [
            row("always the student", 0.0, c.student_usd, lambda one: one.student_quality),
            row("always the teacher", 1.0, c.teacher_usd, lambda one: one.teacher_quality),
            row("this router", rate, c.usd_at(rate), lambda one: one.quality_at(rate)),
            row("random, as many sent on", rate, c.random_usd(rate), lambda one: one.random_quality(rate)),
        ]
        random = c.random_rate_for(quality)
        if np.isfinite(random):
            rows.append(
                row("random, as good", random, c.random_usd(random), lambda one: one.random_quality(float(random)))
            )
        reached = np.flatnonzero(c.oracle_quality >= quality - 1e-12)
        if reached.size:
            best = float(c.oracle_rate[reached[0]])
            rows.append(Row("oracle, as good", best, Metric(quality, np.nan, np.nan), _usd_of(c, best) * 1000))
        return cls(tuple(rows), bands.over_random(rate))

    def row(self, name: str) -> Row | None:
        """A row by its name; None where it is not reached."""
        return next((one for one in self.rows if one.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"rows": [row.to_dict() for row in self.rows], "over_random": self.over_random.to_dict()}

    def lines(self) -> list[list[str]]:
        """The rows as text cells: name, sent on, quality with its interval, dollars, against always the teacher."""
        teacher = self.rows[1].usd_per_1000
        found = []
        for one in self.rows:
            q = one.quality
            interval = f" ({q.low:.3f} to {q.high:.3f})" if np.isfinite(q.low) else ""
            usd = f"${one.usd_per_1000:,.4g}" if np.isfinite(one.usd_per_1000) else "-"
            saved = f"{1 - one.usd_per_1000 / teacher:+.0%}" if np.isfinite(one.usd_per_1000) and teacher > 0 else "-"
            found.append([one.name, f"{one.escalation_rate:.1%}", f"{q.value:.3f}{interval}", usd, saved])
        return found


def _usd_of(curve: Curve, rate: float) -> float:
    """Dollars of a request where an oracle sends this share on, paid as the curve's kind is."""
    kept = curve.student_usd if curve.kind == "cascade" else curve.student_usd * (1 - rate)
    return kept + rate * curve.teacher_usd


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
    advice : "router"; "student" or "teacher" where one fixed model does better; "more-data" where nothing is certified
        yet, and the teacher stays for now.
    reasons : in words, the first is what decided.
    """

    advice: Advice
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        heads = {
            "router": "Route.",
            "student": "Do not route: the student alone.",
            "teacher": "Do not route: the teacher alone.",
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
    In this order: a teacher that is not better than its student leaves nothing to route; a student that is certified by
    itself needs no router; a score that is not surely better than sending on at random (95% interval of the lift) is
    none; what is not certified waits; what costs more than the teacher is not worth it.
    """
    lead, lift, goal = bands.teacher_lead, bands.lift, certificate.goal
    if lead.value <= 0:
        surely = " surely" if lead.high < 0 else ""
        return Verdict(
            "student",
            (
                f"The teacher is{surely} not better than the student on these pairs: {lead.value:+.3f} "
                f"({lead.low:+.3f} to {lead.high:+.3f}), so that sending on buys nothing.",
            ),
        )
    alone = certificate.certified & (certificate.certifying.escalation_rate == 0)
    if goal.asks_quality and alone.any():
        return Verdict("student", (f"It is certified by itself: {goal}.",))
    if lift.low <= 0:
        told = (
            f"The score is not shown to beat sending on as many at random: {lift.value:+.4f} of quality on average "
            f"({lift.low:+.4f} to {lift.high:+.4f}), APGR {bands.apgr}; random is 0.5."
        )
        more = pairs_to_show(lift, certificate.certifying.items)
        if more is None:
            return Verdict("teacher", (told,))
        return Verdict("more-data", (told, f"Were it as good as it looks, about {more:,} more pairs would show it."))
    if certificate.chosen is None:
        return Verdict(
            "teacher" if certificate.more_items is None else "more-data", tuple(certificate.sentences)
        )  # fmt: skip
    curve, rate = bands.curve, float(certificate.certifying.escalation_rate[certificate.chosen])
    usd = certificate.usd
    if np.isfinite(usd) and usd >= curve.teacher_usd:
        why = (
            f"The router meets the goal only by sending on {rate:.0%}, and then costs ${usd * 1000:,.4g} per 1,000 "
            f"requests against ${curve.teacher_usd * 1000:,.4g} for the teacher."
        )
        return Verdict("teacher", (why,))
    over = bands.over_random(rate)
    surely = "surely" if over.low > 0 else "not surely"
    said = [
        *certificate.sentences,
        f"As many sent on at random would have a quality {over.value:.3f} lower ({over.low:+.3f} to {over.high:+.3f}), "
        f"{surely} worse; over all rates APGR is {bands.apgr}.",
    ]
    if np.isfinite(usd):
        said.append(
            f"${usd * 1000:,.4g} per 1,000 requests against ${curve.teacher_usd * 1000:,.4g} for the teacher alone, "
            f"{1 - usd / curve.teacher_usd:.0%} less."
        )
    return Verdict("router", tuple(said))
