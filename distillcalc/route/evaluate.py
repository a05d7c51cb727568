"""A router held against pairs that it has never seen: does it still do what it promised, and is it worth it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.estimate import certifying as tests
from distillcalc.route.bands import Bands
from distillcalc.route.beside import Beside
from distillcalc.route.certificate import refuse_leaks
from distillcalc.route.goal import Goal
from distillcalc.route.mixing import answering, billed, by_score, counts_of, seconds_of
from distillcalc.route.pairs import Pairs
from distillcalc.route.probability import Reliability
from distillcalc.route.router import Router

Floats = NDArray[np.float64]

COLUMN = "router"
LEVELS = (0.5, 0.95, 0.99)
NAMES = ("p50", "p95", "p99")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a router did on pairs that it was not made from.

    Parameters
    ----------
    items : how many, one of each text; repeats is how many more pairs there were.
    usd : mean dollars of a request; nan where they are not known.
    shares : of requests that each model answers, by its name.
    quality : of the mixture; by_model of each model alone.
    goal : what it was made for.
    p_value, p_value_against : of "it does not do so" and of "it does so" on these pairs; None where the goal is of
        dollars alone.
    seconds : p50, p95 and p99 of how long a request takes [s]; nan where nobody knows.
    bands, beside : the curve and the baselines at its threshold; None of a chain of more than two.
    reliability : of its probabilities; None without a calibration.
    """

    items: int
    repeats: int
    usd: float
    shares: dict[str, float]
    quality: float
    by_model: dict[str, float]
    goal: Goal | None
    p_value: float | None
    p_value_against: float | None
    seconds: dict[str, float]
    bands: Bands | None
    beside: Beside | None
    reliability: Reliability | None

    @property
    def holds(self) -> bool | None:
        """True where these pairs certify its goal by themselves, False where they refute it, None where neither."""
        if self.goal is None or self.p_value is None or self.p_value_against is None:
            return None
        level = 1 - self.goal.confidence
        return True if self.p_value <= level else False if self.p_value_against <= level else None

    @property
    def sentences(self) -> list[str]:
        """What was found, in words."""
        sent = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())
        more = f" ({self.repeats:,} more are repeats of a text)" if self.repeats else ""
        said = [f"{self.items:,} pairs{more}; answered by: {sent}. Quality {self.quality:.3f}."]
        alone = ", ".join(f"{name} {value:.3f}" for name, value in self.by_model.items())
        said.append(f"Each alone: {alone}.")
        if self.goal is not None and self.p_value is not None:
            verb = {
                True: "is certified by these pairs too",
                False: "is NOT met on these pairs: fit it anew",
                None: "is neither certified nor refuted by these pairs alone",
            }[self.holds]
            asked = self.goal.model_copy(update={"usd_per_month": None, "requests_per_month": None})
            said.append(f"Its goal ({asked}) {verb}.")
        if self.goal is not None and self.goal.usd_per_request is not None and np.isfinite(self.usd):
            month = self.usd * (self.goal.requests_per_month or 0.0)
            verb = "within" if month <= (self.goal.usd_per_month or 0.0) else "ABOVE"
            said.append(f"These cost ${month:,.0f} a month, {verb} its budget of ${self.goal.usd_per_month:,.0f}.")
        if self.bands is not None:
            said.append(f"APGR {self.bands.apgr}; random is 0.5, an oracle {self.bands.curve.oracle_apgr:.3f}.")
        if self.reliability is not None:
            said.append(f"Its probabilities are off by {self.reliability.ece:.3f} on average (ECE).")
        if np.isfinite(self.seconds["p50"]):
            said.append("E2E latency: " + ", ".join(f"{k} {v:.3g} s" for k, v in self.seconds.items()) + ".")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "items": self.items,
            "repeats": self.repeats,
            "usd_per_request": self.usd if np.isfinite(self.usd) else None,
            "shares": self.shares,
            "quality": self.quality,
            "by_model": self.by_model,
            "goal": None if self.goal is None else self.goal.model_dump(mode="json", exclude_none=True),
            "p_value": self.p_value,
            "p_value_against": self.p_value_against,
            "holds": self.holds,
            "seconds": {k: v if np.isfinite(v) else None for k, v in self.seconds.items()},
            "apgr": None if self.bands is None else self.bands.apgr.to_dict(),
            "beside": None if self.beside is None else self.beside.to_dict(),
            "ece": None if self.reliability is None else self.reliability.ece,
            "sentences": self.sentences,
        }


def evaluate_router(router: Router, pairs: Pairs, *, extra_usd: float | None = None, seed: int = 0) -> Evaluation:
    """Hold a router against pairs that it has never seen.

    Parameters
    ----------
    router : as it was made.
    pairs : of the same models.
    extra_usd : dollars of judging a request; left out, those that it was fitted with.
    seed : of the bands.

    Raises
    ------
    InputError
        For pairs of other models, or among which are items that the router was made from.
    """
    router.refuse_others(pairs)
    refuse_leaks(router.seen, pairs, "router's own")
    if extra_usd is None:
        extra_usd = float(router.facts.get("judge_usd", 0.0))
    whole, pairs = pairs, pairs.distinct()
    known = pairs.with_scores(**{COLUMN: router.scored(pairs)})
    thresholds, rows = np.array(router.thresholds), np.arange(len(pairs))
    who = answering(known.score(COLUMN), thresholds)
    shares = np.bincount(who, minlength=len(pairs.models)) / len(pairs)
    asked = router.facts.get("goal")
    goal = None if asked is None else Goal.of(**asked)
    two = len(pairs.models) == 2
    bands = Bands.of(known, COLUMN, router.kind, extra_usd, name=router.score_name, seed=seed) if two else None
    overhead = 0.0 if router.measured is None else router.measured.overhead_ms / 1000
    usd = float(billed(pairs, router.kind, extra_usd)[rows, who].mean())
    return Evaluation(
        len(pairs),
        len(whole) - len(pairs),
        usd,
        {name: float(share) for name, share in zip(pairs.models, shares, strict=True)},
        float(pairs.right[rows, who].mean()),
        {name: float(value) for name, value in zip(pairs.models, pairs.right.mean(axis=0), strict=True)},
        goal,
        *_p_values(goal, known, thresholds, who),
        dict(zip(NAMES, map(float, seconds_of(pairs, who, router.kind, LEVELS, overhead)), strict=True)),
        bands,
        None if bands is None else Beside.of(bands, float(shares[-1])),
        _reliability(router, known),
    )


def _p_values(
    goal: Goal | None, pairs: Pairs, thresholds: Floats, who: NDArray[np.intp]
) -> tuple[float | None, float | None]:
    """Of "the goal is not met" and of "it is met"."""
    if goal is None or not goal.asks_quality:
        return None, None
    right, teacher = pairs.right[np.arange(len(pairs)), who], pairs.right[:, -1]
    if goal.floor is not None:
        margin, low, high = right - goal.floor, -goal.floor, 1 - goal.floor
    else:
        assert goal.retention is not None
        margin, low, high = right - goal.retention * teacher, -goal.retention, 1.0
    against = float(tests.bounded_mean_p_value(-margin, -high, -low))
    if not pairs.is_binary:
        return float(tests.bounded_mean_p_value(margin, low, high)), against
    counts = counts_of(pairs, COLUMN, thresholds[None, :])
    if goal.floor is not None:
        return float(tests.floor_p_value(counts.right(0), counts.items, goal.floor)), against
    assert goal.retention is not None
    found = tests.retention_p_value(
        counts.items, counts.teacher_right, counts.gained[0], counts.lost[0], goal.retention,
        gamma=tests.NUISANCE_SHARE * (1 - goal.confidence),
    )  # fmt: skip
    return float(found), against


def _reliability(router: Router, pairs: Pairs) -> Reliability | None:
    if not router.calibrations or router.calibrations[0] is None:
        return None
    values = pairs.score(COLUMN)[:, 0]
    rows = by_score(values)
    return Reliability.of(router.calibrations[0].many(values[rows]), pairs.right[rows, 0]) if rows.any() else None
