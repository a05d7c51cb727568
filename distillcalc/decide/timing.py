"""When to start: now, in some months, or never, while the big model serves until then.

Prices fall and volumes grow, so a student that does not pay today may pay next year; and one that pays today costs
something with every month that it is put off. What lies beyond the horizon is not counted: a late start has fewer
months to pay back in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import add_months
from distillcalc.errors import InputError, MissingPrice
from distillcalc.estimate.outcome import plain

if TYPE_CHECKING:
    from distillcalc.decide.decision import Decision

Floats = NDArray[np.float64]

BASELINE = "call-teacher"
AT_TOKEN_PRICES = ("labels",)
AT_GPU_PRICES = ("training", "failed_runs")


@dataclass(frozen=True)
class Start:
    """What starting in one month comes to.

    Parameters
    ----------
    month : from now; the last is the horizon itself, which is never.
    day : the date of it.
    present_value_usd : the big model until then, the making of the student then, and the option from then on.
    cost_of_delay_usd : against starting now; negative where waiting saves.
    payback_months : from now until the accumulated cost is below the big model's for good; None if it never is.
    """

    month: int
    day: date
    present_value_usd: float
    cost_of_delay_usd: float
    payback_months: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "month": self.month,
            "day": self.day.isoformat(),
            "present_value_usd": plain(self.present_value_usd),
            "cost_of_delay_usd": plain(self.cost_of_delay_usd),
            "payback_months": self.payback_months,
        }


@dataclass(frozen=True)
class Timing:
    """Every month in which an option may be started.

    Parameters
    ----------
    option : its id.
    starts : one a month, and never.
    probability_now, probability_later, probability_never : which is cheapest in the draws in which the option passes;
        None where nothing is uncertain.
    """

    option: str
    starts: tuple[Start, ...]
    probability_now: float | None = None
    probability_later: float | None = None
    probability_never: float | None = None

    @property
    def best(self) -> Start:
        """The cheapest start, the earliest of equals."""
        return min(self.starts, key=lambda start: start.present_value_usd)

    @property
    def never(self) -> Start:
        """The big model to the end."""
        return self.starts[-1]

    @property
    def cost_of_delay_usd(self) -> float:
        """Of the first month; negative where waiting saves."""
        return self.starts[1].cost_of_delay_usd

    @property
    def first_to_pay(self) -> Start | None:
        """The earliest start that is paid back inside the horizon."""
        return next((start for start in self.starts[:-1] if start.payback_months is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "option": self.option,
            "best_month": self.best.month if self.best is not self.never else None,
            "cost_of_delay_usd": plain(self.cost_of_delay_usd),
            "probability_now": self.probability_now,
            "probability_later": self.probability_later,
            "probability_never": self.probability_never,
            "starts": [start.to_dict() for start in self.starts],
        }


def timing(decision: Decision, option: str | None = None) -> Timing:
    """When to start an option, the big model serving until then.

    Parameters
    ----------
    decision : of a scenario that compares calling the big model.
    option : its id; left out, the recommended one, or the cheapest that makes a student where that is the big model.

    Returns
    -------
    Timing: cost, cost of delay [USD, present value] and payback [months from now] of each start, all else at its
    median; and how the draws are split between now, later and never.

    Raises
    ------
    InputError
        For an option that is not compared, or the big model itself; and where a gate rules calling the big model out,
        so that it cannot serve until then.
    MissingPrice
        If the option or the big model has no price.

    Notes
    -----
    PV(s) = sum_{t<s} teacher_t d_t + one-off(s) d(s) + sum_{t>=s} option_t d_t. Labels cost what they cost in month s,
    training follows the price of GPUs, people cost what they cost today. In the draws the one-off cost is today's.
    """
    name = option or _student(decision)
    if name not in decision.options or name == BASELINE:
        others = ", ".join(one for one in decision.options if one != BASELINE)
        raise InputError(f"option must be one of {others}. Got {name!r}")
    if BASELINE not in decision.options:
        raise InputError("timing compares with calling the big model: leave call-teacher among [choices] options")
    chosen, teacher = decision.options[name], decision.options[BASELINE]
    for one in (chosen, teacher):
        if not np.isfinite(one.present_value_usd):
            raise MissingPrice(f"{one.option} has no cost to compare: {one.unpriced or one.worst_gate()}")
    if teacher.failing():
        gate = teacher.failing()[0]
        raise InputError(
            f"calling the big model is ruled out by {gate.name} ({gate.detail}), so nothing can wait on it"
        )
    x = decision.block.context.x
    months = x.months
    labels = np.broadcast_to(decision.block.context.labels[0], (1, months))[0] if _labels(chosen) else np.ones(months)
    gpus = np.broadcast_to(x.price_path("gpu_price_change_per_year"), (1, months))[0]
    once = np.zeros(months)
    for item, usd in chosen.one_off_usd.items():
        level = labels / labels[0] if item in AT_TOKEN_PRICES else gpus if item in AT_GPU_PRICES else 1.0
        once = once + usd * level
    rate = float(x["discount_rate"][0, 0])
    at_start = (1 + rate) ** (-np.arange(months) / 12)
    mine, theirs = (np.broadcast_to(one.monthly_total_usd, months) * one.discount for one in (chosen, teacher))
    totals = _totals(mine[None], theirs[None], (once * at_start)[None])[0]
    day = decision.scenario.workload.start
    starts = [
        Start(
            s,
            add_months(day, s),
            float(totals[s]),
            float(totals[s] - totals[0]),
            _payback(mine, theirs, once[s] * at_start[s], s) if s < months else None,
        )
        for s in range(months + 1)
    ]
    return Timing(name, tuple(starts), *_shares(decision, name, at_start))


def _labels(chosen: Any) -> bool:
    return any(item in AT_TOKEN_PRICES and usd for item, usd in chosen.one_off_usd.items())


def _totals(mine: Floats, theirs: Floats, once: Floats) -> Floats:
    """Present value by start, shape (n, months + 1); the last is never."""
    n, months = mine.shape
    nothing = np.zeros((n, 1))
    before = np.concatenate([nothing, np.cumsum(theirs, axis=1)], axis=1)
    after = np.cumsum(mine[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(before + np.concatenate([np.broadcast_to(once, (n, months)) + after, nothing], axis=1))


def _payback(mine: Floats, theirs: Floats, once: float, start: int) -> float | None:
    """Months from now until what was spent at the start is saved for good, even within a month."""
    difference = once + np.concatenate([[0.0], np.cumsum((mine - theirs)[start:])])
    if difference[-1] > 0:
        return None
    above = np.flatnonzero(difference > 0)
    if not above.size:
        return float(start)
    last = int(above[-1])
    return float(start + last + difference[last] / (difference[last] - difference[last + 1]))


def _shares(decision: Decision, option: str, at_start: Floats) -> tuple[float | None, float | None, float | None]:
    """P(now), P(later) and P(never is cheapest) in the draws in which the option passes."""
    if not decision.is_uncertain:
        return None, None, None
    u = decision.uncertainty
    a, teacher = u.column(option), u.column(BASELINE)
    rows = u.drawn.passes[:, a]
    if not rows.any():
        return None, None, None
    discount = u.drawn.discount[rows]
    once = u.drawn.one_off_usd[rows, a][:, None] * at_start
    totals = _totals(u.drawn.monthly_usd(a)[rows] * discount, u.drawn.monthly_usd(teacher)[rows] * discount, once)
    best = np.argmin(totals, axis=1)
    now, never = float(np.mean(best == 0)), float(np.mean(best == totals.shape[1] - 1))
    return now, max(1 - now - never, 0.0), never


def _student(decision: Decision) -> str:
    """The recommended option, or the cheapest that makes a student and is not ruled out."""
    if decision.recommendation not in (None, BASELINE):
        return str(decision.recommendation)
    made = [e for e in decision.options.values() if "labels" in e.one_off_usd and np.isfinite(e.present_value_usd)]
    if not made:
        raise MissingPrice("no option that makes a student has a price here, so there is no start to time")
    return min(made, key=lambda e: (e.status == "ruled-out", e.present_value_usd)).option
