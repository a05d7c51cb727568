"""Words and numbers as the demo's report writes them, the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from distillcalc.calibration_measures import wilson
from distillcalc.decide.words import seconds, usd

MISSING = "–"
TEACHER = "call-teacher"
CASCADE = "cascade"

STUDENTS = ("self-host", "hosted-fine-tune", "hosted-open-student", "cascade")  # what a student of one's own takes

NAMES = {
    TEACHER: "Calling the big model",
    "call-small": "The provider's small model, as it is",
    "hosted-open-student": "An open small model at a host, as it is",
    "hosted-fine-tune": "A small model that a provider trains and serves",
    "self-host": "A small model of your own",
    "self-host-teacher": "The big model on machines of your own",
    "cascade": "A small model first, the big one when it is unsure",
}

HEADLINES = {
    "call-small": "Switch: the provider's own small model, as it is, does this",
    "hosted-open-student": "Switch: an open small model, as it is, does this",
    "hosted-fine-tune": "Distill: a small model that a provider trains and serves does this",
    "self-host": "Distill: a small model of your own does this",
    "self-host-teacher": "Move: the big model on machines of your own does this",
    "cascade": "Route: a small model, with the big one for what it is unsure of, does this",
}

STATUSES = {
    "feasible": "may be chosen",
    "provisional": "may be chosen, questions open",
    "unproven": "not proven",
    "ruled-out": "ruled out",
    "unpriced": "no price known",
}

GATES = {
    "slo": "speed",
    "context": "length of the messages",
    "service": "the service",
    "terms": "terms of use",
    "fleet": "too few machines",
    "router": "knowing when to ask the big model",
}

CHOOSABLE = ("feasible", "provisional")

KINDS = {
    "measured": "measured",
    "given": "given",
    "catalog": "from the catalog",
    "derived": "computed",
    "assumed": "assumed",
}

WHO = {"teacher": "Big model (teacher)", "student": "Small model (student)"}

SHORT = {"teacher": "Big model", "student": "Small model"}


def name_of(option: str | None) -> str:
    """An option as a person calls it."""
    return "none" if option is None else NAMES.get(option, option)


def mid(words: str) -> str:
    """The same words within a sentence."""
    return words[:1].lower() + words[1:]


def capital(words: str) -> str:
    """The same words at the start of a sentence."""
    return words[:1].upper() + words[1:]


def percent(share: float, digits: int = 0) -> str:
    """A share in percent."""
    return f"{100 * share:.{digits}f}%"


def whole(share: float) -> str:
    """A share that somebody asked for, in percent with all of its digits."""
    return f"{100 * share:.6g}%"


def odds(chance: float) -> str:
    """A probability in words."""
    return "below 1%" if chance < 0.01 else "above 99%" if chance > 0.99 else percent(chance)


def mean(values: Sequence[float | None]) -> float:
    """Of the values; nan where one is missing or there are none."""
    known = [math.nan if value is None else float(value) for value in values]
    return math.fsum(known) / len(known) if known else math.nan


@dataclass(frozen=True)
class Share:
    """So many right of so many, with Wilson's 95% interval.

    Parameters
    ----------
    right, total : counts; both 0 where nothing was counted.
    """

    right: int
    total: int

    @property
    def known(self) -> bool:
        """Whether anything was counted."""
        return self.total > 0

    @property
    def share(self) -> float:
        """Right / total; nan of none."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95%."""
        return wilson(self.right, self.total) if self.total else (math.nan, math.nan)

    @property
    def value(self) -> str:
        """In percent."""
        return percent(self.share, 1) if self.total else "–"

    @property
    def more(self) -> str:
        """The counts and the interval."""
        if not self.total:
            return "not measured"
        low, high = self.interval
        return f"{self.right:,} of {self.total:,} right; 95% interval {percent(low)} to {percent(high)}"


def latency(level: Mapping[str, Any], what: str = "e2e", point: str = "p50") -> float:
    """A latency of a benchmark's level [s]; nan where it was not measured."""
    found = level.get("summary", {}).get(what, {}).get(point, {}).get("value")
    return math.nan if found is None else float(found)


def spent(value: float) -> str:
    """Seconds in words; a dash where they are not known."""
    if not math.isfinite(value):
        return "–"
    return f"{value / 60:.1f} min" if value >= 90 else seconds(value)


def status_of(estimate: Mapping[str, Any]) -> str:
    """How far an option may be chosen, in words."""
    status = str(estimate.get("status", ""))
    return STATUSES.get(status, status)


def dollars(amount: float | None) -> str:
    """Dollars; a dash where there is no price."""
    value = number_of(amount)
    return usd(value) if math.isfinite(value) else MISSING


def number_of(value: Any) -> float:
    """A number; nan where there is none."""
    return math.nan if value is None else float(value)


def few(value: float) -> str:
    """A number with a decimal place where it is small."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ended(sentence: str) -> str:
    """With a capital at its start and a stop at its end."""
    return capital(sentence) if sentence.rstrip()[-1:] in (".", "!", "?", "") else f"{capital(sentence)}."


def load_of(level: Mapping[str, Any]) -> str:
    """A load of a benchmark in words."""
    load = level.get("load") or {}
    if load.get("kind") == "closed":
        return "one at a time" if load["concurrency"] == 1 else f"{load['concurrency']} at once"
    return f"{load['rate_per_s']:g} a second" if "rate_per_s" in load else "load not told"


def when(created: str) -> str:
    """A moment as a person writes it."""
    try:
        at = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{at.day} {at:%B %Y, %H:%M} UTC"
