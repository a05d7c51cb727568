"""The decision again, with what has been measured: does the recommendation stand, and what would the old one cost?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distillcalc.catalog import Catalog
from distillcalc.decide.decision import Decision
from distillcalc.decide.recommend import recommend
from distillcalc.decide.words import usd
from distillcalc.errors import InputError
from distillcalc.estimate.outcome import Estimate
from distillcalc.estimate.quality import Belief
from distillcalc.provenance import Provenance
from distillcalc.workload.scenario import Evaluation, Scenario

CHOOSABLE = ("feasible", "provisional")


@dataclass(frozen=True)
class QualityCheck:
    """What was believed of a model's quality, and what was counted.

    Parameters
    ----------
    name : "teacher", or the student's catalog id. metric : of the workload.
    estimate : mean of what was believed. low, high : nine times in ten the share counted is between these
        (5% and 95% of the beta-binomial of so many items: what was believed, and the chance of the sample).
    right, of : on human-labelled items.
    """

    name: str
    metric: str
    estimate: float
    low: float
    high: float
    right: int
    of: int

    @property
    def measured(self) -> float:
        """Share that was right."""
        return self.right / self.of

    @property
    def inside(self) -> bool:
        """Whether the measured share is within what was believed."""
        return self.low <= self.measured <= self.high

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "measured": self.measured, "inside": self.inside}

    def __str__(self) -> str:
        return (
            f"{self.metric} of {self.name}: {self.estimate:.2f} was believed ({self.low:.2f} to {self.high:.2f} nine "
            f"times in ten), measured {self.measured:.2f} ({self.right} of {self.of}): "
            f"{'inside' if self.inside else 'outside'}."
        )


@dataclass(frozen=True, eq=False)
class Redecision:
    """A decision before and after measuring.

    Parameters
    ----------
    before, after : the two decisions; the second knows the measured rows and counts.
    actual_usd : what was paid, by one-off item, instead of its forecast.
    recommendation : option that is the cheapest of those that may be chosen once actual dollars count; None where
        nothing may be.
    present_value_usd : of every priced option, with what is known now and actual dollars.
    qualities : of each model that was evaluated, what was believed and what was counted.
    """

    before: Decision
    after: Decision
    actual_usd: Mapping[str, float]
    recommendation: str | None
    present_value_usd: Mapping[str, float] = field(repr=False)
    qualities: tuple[QualityCheck, ...] = ()

    @property
    def stands(self) -> bool:
        """Whether the recommendation is what it was."""
        return self.recommendation == self.before.recommendation

    @property
    def regret_usd(self) -> float:
        """What staying with the old recommendation would cost over the horizon, above the new one [USD].

        0 where it stands; nan where either has no price.
        """
        old, new = self.before.recommendation, self.recommendation
        if old == new:
            return 0.0
        if old is None or new is None:
            return math.nan
        return self.present_value_usd.get(old, math.nan) - self.present_value_usd.get(new, math.nan)

    @property
    def dollars(self) -> list[tuple[str, float, float]]:
        """(item, forecast, actual) of what was paid [USD]; the forecast is that of the old recommendation's option."""
        forecast = self._option(self.before).one_off_usd if self.before.options else {}
        return [(item, float(forecast.get(item, math.nan)), actual) for item, actual in self.actual_usd.items()]

    def _option(self, decision: Decision) -> Estimate:
        """The recommended option, or else the first that pays for labels."""
        if decision.recommendation is not None and set(self.actual_usd) & set(
            decision.options[decision.recommendation].one_off_usd
        ):
            return decision.options[decision.recommendation]
        every = list(decision.options.values())
        return next((one for one in every if set(self.actual_usd) & set(one.one_off_usd)), every[0])

    @property
    def sentences(self) -> list[str]:
        """What has changed, in words."""
        old, new = self.before.recommendation, self.recommendation
        said = []
        if self.stands:
            said.append(f"The recommendation stands: {old or 'none of the options may be chosen'}.")
        elif new is None:
            said.append(f"The recommendation was {old}; with what was measured no option may be chosen.")
        else:
            said.append(f"The recommendation was {old or 'none'} and is now {new}.")
        if old is not None:
            was, now = self.before.options[old], self.after.options[old]
            said.append(
                f"{old}: {usd(was.present_value_usd)} as estimated, {usd(self.present_value_usd.get(old, math.nan))} "
                "with what was measured."
            )
            if was.status != now.status:
                gate = now.worst_gate()
                said.append(f"{old} was {was.status} and is {now.status}{f' ({gate})' if gate else ''}.")
        if not self.stands and math.isfinite(self.regret_usd):
            word = "more" if self.regret_usd >= 0 else "less, but it may not be chosen"
            said.append(f"Staying with {old} would cost {usd(abs(self.regret_usd))} {word}.")
        said += map(str, self.qualities)
        for item, forecast, actual in self.dollars:
            told = "was not forecast" if math.isnan(forecast) else f"forecast {usd(forecast)}"
            said.append(f"{item.replace('_', ' ')}: {told}, paid {usd(actual)}.")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "stands": self.stands,
            "before": self.before.recommendation,
            "after": self.recommendation,
            "regret_usd": self.regret_usd if math.isfinite(self.regret_usd) else None,
            "present_value_usd": {k: v for k, v in self.present_value_usd.items() if math.isfinite(v)},
            "actual_usd": dict(self.actual_usd),
            "qualities": [one.to_dict() for one in self.qualities],
            "sentences": self.sentences,
        }

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def redecide(
    scenario: Scenario,
    *,
    overrides: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    evaluations: Mapping[str, tuple[int, int]] | None = None,
    actual_usd: Mapping[str, float] | None = None,
    catalog: Catalog | None = None,
) -> Redecision:
    """Decide again with what has been measured.

    Parameters
    ----------
    scenario : that the first decision was made of.
    overrides : catalog rows that were measured, such as those of :class:`.validation.Validation`; they stand over the
        scenario's.
    evaluations : (right, of how many) human-labelled items by "teacher" or the student's catalog id; they stand in
        place of the scenario's counts, for they are of the same model.
    actual_usd : what one-off items came to, by item: "labels", "human_evaluation_set", "training", "failed_runs",
        "engineering" [USD].
    catalog : left out, the shipped one.

    Raises
    ------
    InputError
        For an amount that is no number of at least 0, or an item that no option pays for.
    """
    paid = dict(actual_usd or {})
    if wrong := [item for item, amount in paid.items() if not (math.isfinite(amount) and amount >= 0)]:
        raise InputError(f"actual_usd must be dollars of at least 0. Got {paid[wrong[0]]!r} for {wrong[0]}")
    before = recommend(scenario, catalog=catalog)
    after = recommend(_with(scenario, overrides or {}, evaluations or {}), catalog=catalog)
    known = {item for one in after.options.values() for item in one.one_off_usd}
    if missing := sorted(set(paid) - known):
        raise InputError(f"no option of this scenario pays for {', '.join(missing)}. Items: {', '.join(sorted(known))}")
    values = {name: _value(one, paid) for name, one in after.options.items()}
    may = [name for name, one in after.options.items() if one.status in CHOOSABLE and math.isfinite(values[name])]
    best = min(may, key=lambda name: values[name], default=None)
    checks = (_believed(before, name, *counts) for name, counts in (evaluations or {}).items())
    return Redecision(before, after, paid, best, values, tuple(check for check in checks if check is not None))


def _believed(decision: Decision, name: str, right: int, of: int) -> QualityCheck | None:
    """What the decision believed of a model; None where no option is of it alone, or nothing was counted."""
    from scipy.stats import betabinom

    # Of a cascade it is not alone; of an option without a price nothing is believed.
    alone = [one for id, one in decision.options.items() if id != "cascade" and math.isfinite(one.quality_mean)]
    found = next(
        (one for one in alone if (one.option == "call-teacher" if name == "teacher" else _is_of(one.label, name))), None
    )
    if found is None or not of:
        return None
    mean, sd = np.array([[found.quality_mean]]), np.array([[found.quality_sd]])
    a, b = Belief(mean, sd, Provenance("derived", "the decision")).beta
    low, high = betabinom.ppf([0.05, 0.95], of, a.item(), b.item()) / of
    metric = decision.scenario.workload.quality.metric
    return QualityCheck(name, metric, found.quality_mean, float(low), float(high), right, of)


def _is_of(label: str, model: str) -> bool:
    """Whether an option's label, such as "qwen3-4b on l4", names the model."""
    return label == model or label.startswith(f"{model} ")


def _with(
    scenario: Scenario, overrides: Mapping[str, Mapping[str, Mapping[str, Any]]], evaluations: Mapping[str, Any]
) -> Scenario:
    plain = scenario.to_dict()
    rows: dict[str, Any] = {table: dict(entries) for table, entries in plain.get("overrides", {}).items()}
    for table, entries in overrides.items():
        for key, row in entries.items():
            rows.setdefault(table, {})[key] = {**rows.get(table, {}).get(key, {}), **row}
    if rows:
        plain["overrides"] = rows
    if evaluations:
        counts = {name: Evaluation(correct=right, total=total) for name, (right, total) in evaluations.items()}
        plain["choices"] = {**plain["choices"], "evaluations": {**plain["choices"].get("evaluations", {}), **counts}}
    return Scenario.from_dict(plain)


def _value(estimate: Estimate, paid: Mapping[str, float]) -> float:
    """Present value, with what was paid instead of its forecast."""
    off = sum(amount - estimate.one_off_usd[item] for item, amount in paid.items() if item in estimate.one_off_usd)
    return estimate.present_value_usd + off
