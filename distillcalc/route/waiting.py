"""What it costs to wait with a router that has drifted, beside what it costs not to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from distillcalc.decide.words import usd
from distillcalc.errors import InputError
from distillcalc.route.drift import Drift


@dataclass(frozen=True)
class Prices:
    """What requests, wrong answers and remedies cost.

    Parameters
    ----------
    teacher_usd : dollars of one request that the teacher answers.
    wrong_answer_usd : dollars that a wrong answer costs; None where nobody knows, and then it is left out and said.
    requests_per_day : None to take it from the log's times.
    labels, label_usd : how many labels a recalibration takes, and dollars of each.
    hours, hour_usd : of the people who do it.
    redistill_usd : a new student, everything included; None where it is not known.
    """

    teacher_usd: float
    wrong_answer_usd: float | None = None
    requests_per_day: float | None = None
    labels: int = 0
    label_usd: float = 0.0
    hours: float = 0.0
    hour_usd: float = 0.0
    redistill_usd: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} must be 0 or more, and finite. Got {value}")

    @property
    def recalibrate_usd(self) -> float:
        """labels x dollars of each + hours x dollars of each."""
        return self.labels * self.label_usd + self.hours * self.hour_usd


@dataclass(frozen=True)
class Waiting:
    """Dollars a day of leaving things as they are, by the recent rates, with their intervals.

    Parameters
    ----------
    escalations_usd, escalations_low, escalations_high : a day, of escalations above the calibrated rate.
    wrong_usd, wrong_low, wrong_high : a day, of wrong answers below the certified floor; nan where it has no price.
    remedy : "recalibrate" or "re-distill", as the report advises; None where it advises neither.
    remedy_usd : once; nan where it has no price.
    requests_per_day : by which it was reckoned.
    unpriced : why parts have no price.
    """

    escalations_usd: float
    escalations_low: float
    escalations_high: float
    wrong_usd: float
    wrong_low: float
    wrong_high: float
    remedy: Literal["recalibrate", "re-distill"] | None
    remedy_usd: float
    requests_per_day: float
    unpriced: tuple[str, ...]

    @property
    def usd_per_day(self) -> float:
        """Of both parts; what has no price is left out, which ``unpriced`` says."""
        return self.escalations_usd + (0.0 if math.isnan(self.wrong_usd) else self.wrong_usd)

    @property
    def payback_days(self) -> float:
        """Days of waiting that cost as much as the remedy: infinite where waiting is free, nan without a price."""
        if math.isnan(self.remedy_usd):
            return float("nan")
        return self.remedy_usd / self.usd_per_day if self.usd_per_day > 0 else math.inf

    def __str__(self) -> str:
        low = self.escalations_low + (0.0 if math.isnan(self.wrong_low) else self.wrong_low)
        high = self.escalations_high + (0.0 if math.isnan(self.wrong_high) else self.wrong_high)
        told = f"waiting costs {usd(self.usd_per_day)} a day ({usd(low)} to {usd(high)})"
        if self.remedy is not None:
            doing = "recalibrating" if self.remedy == "recalibrate" else "re-distilling"
            if math.isnan(self.remedy_usd):
                told += f"; {doing} has no price"
            elif math.isinf(self.payback_days):
                told += f"; {doing} costs {usd(self.remedy_usd)} and does not pay back"
            else:
                days = self.payback_days
                many = "less than a day" if days < 1 else f"{days:.0f} day{'' if round(days) == 1 else 's'}"
                told += f"; {doing} costs {usd(self.remedy_usd)} and pays back in {many}"
        return f"{told}." + "".join(f" Not priced: {why}." for why in self.unpriced)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is None."""
        told = asdict(self) | {"usd_per_day": self.usd_per_day, "payback_days": self.payback_days, "told": str(self)}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in told.items()
        }


def waiting(drift: Drift, prices: Prices) -> Waiting:
    """What another day of waiting costs.

    Parameters
    ----------
    drift : the report; its rates since the latest change are those of the days to come.
    prices : what things cost.

    Returns
    -------
    Waiting: (escalation rate - calibrated rate) x requests x ``teacher_usd`` and (floor - quality) x requests x
    ``wrong_answer_usd``, each at least 0. A rate that is below the calibrated one costs nothing here: what it takes of
    the quality is the second part. The intervals are those of the live rates, held against the calibrated ones.

    Raises
    ------
    InputError
        If neither the prices nor the log's times say how many requests come a day.
    """
    requests = drift.requests_per_day if prices.requests_per_day is None else prices.requests_per_day
    if not math.isfinite(requests):
        raise InputError("the log has no times that say how many requests come a day: give requests_per_day")
    unpriced = []

    sent = drift["escalation rate"]
    extra = [
        max(rate - sent.calibrated, 0.0) * requests * prices.teacher_usd if sent.recent_n else 0.0
        for rate in (sent.recent, sent.recent_low, sent.recent_high)
    ]
    quality = next((test for test in drift.tests if test.name == "quality"), None)
    wrong = [float("nan")] * 3
    if quality is None:
        unpriced.append("wrong answers, for no floor was certified")
    elif not quality.recent_n:
        unpriced.append("wrong answers, for none was labelled" + (" since the change" if quality.n else ""))
    elif prices.wrong_answer_usd is None:
        unpriced.append("wrong answers, for what one costs was not given")
    else:
        per_share = requests * prices.wrong_answer_usd
        wrong = [
            max(quality.calibrated - share, 0.0) * per_share
            for share in (quality.recent, quality.recent_high, quality.recent_low)
        ]
    remedy: Literal["recalibrate", "re-distill"] | None = None
    cost = float("nan")
    if drift.advice == "recalibrate":
        remedy, cost = "recalibrate", prices.recalibrate_usd
    elif drift.advice == "re-distill":
        remedy, cost = "re-distill", float("nan") if prices.redistill_usd is None else prices.redistill_usd
    return Waiting(
        extra[0], extra[1], extra[2], wrong[0], wrong[1], wrong[2], remedy, cost, requests, tuple(unpriced)
    )  # fmt: skip
