"""A report of drift as lines: the advice first, then one line for each test."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillcalc.route.drift import Drift, Test

_HEADS = {
    "nothing": "Nothing to do.",
    "recalibrate": "Recalibrate: choose the threshold again on new labels.",
    "re-distill": "Re-distill: the student no longer does what its score says.",
    "not-enough-yet": "Not enough yet.",
}


def lines(drift: Drift) -> list[str]:
    """The report in plain text.

    Returns
    -------
    The advice with its reasons, then a line for each test: what it counts, against what, and whether it alarms.
    """
    return [" ".join([_HEADS[drift.advice], *drift.reasons]), *(_line(test) for test in drift.tests)]


def when(time: float) -> str:
    """A time in seconds since 1970 as a minute in UTC."""
    return datetime.fromtimestamp(time, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _line(test: Test) -> str:
    if not test.started:
        return f"  {test.name:<18} not started: no values yet"
    against = "floor" if test.name == "quality" else "calibrated"
    told = (
        f"  {test.name:<18} {test.estimate:.3f} ({test.low:.3f} to {test.high:.3f}) of {test.n:,}, {against} "
        f"{test.calibrated:.3f}; "
    )
    wealth = f"e-value {test.e_value:.3g}" if test.e_value < 1e300 else "e-value beyond 1e300"
    if test.alarmed_at is None:
        return told + f"no alarm ({wealth}, alarms at {test.bar:.3g})"
    time = "" if test.alarmed_time is None else f", {when(test.alarmed_time)}"
    seen = "" if test.delay is None else f", {test.delay:,} rows from when it seems to have changed"
    return told + f"ALARM at row {test.alarmed_at:,}{time}{seen} ({wealth})"
