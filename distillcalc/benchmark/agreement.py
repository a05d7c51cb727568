"""How often two judges say the same of the same items, and how much of that is more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distillcalc.calibration_measures import Interval, wilson
from distillcalc.errors import InputError


@dataclass(frozen=True)
class Agreement:
    """Of two judges, such as a model and people. Intervals are 95%.

    Parameters
    ----------
    items : that both judged.
    share, interval : of the items on which they say the same; Wilson's interval.
    kappa, kappa_interval : Cohen's; None where both always say one and the same thing, so that chance explains all.
    """

    items: int
    share: float
    interval: Interval
    kappa: float | None
    kappa_interval: Interval | None

    def __str__(self) -> str:
        low, high = self.interval
        said = f"{100 * self.share:.1f}% of {self.items:,} (95% interval {100 * low:.1f} to {100 * high:.1f}%)"
        if self.kappa is None or self.kappa_interval is None:
            return f"{said}, Cohen's kappa is not defined"
        low, high = self.kappa_interval
        return f"{said}, Cohen's kappa {self.kappa:.2f} ({low:.2f} to {high:.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def agreement(one: Sequence[str], other: Sequence[str]) -> Agreement:
    """Compare what two judges said.

    Parameters
    ----------
    one, other : the judges' verdicts, shape (items,) each.

    Returns
    -------
    Agreement
        kappa = (po - pe) / (1 - pe), with po the share on which they agree and pe = sum over verdicts of the product of
        both judges' shares of it (Cohen, Educ. Psychol. Meas. 20, 1960). Its interval is that of po, by the same line:
        Cohen's own, which holds pe as it is, with Wilson's limits of po in place of po +- 1.96 standard errors, so that
        full agreement on few items does not pass for certainty. Simulated with three verdicts and 20 to 200 items it
        holds the true kappa in 94 to 99% of samples (tests).

    Raises
    ------
    InputError
        If there are no items, or not as many of one as of the other.
    """
    items = len(one)
    if not items or items != len(other):
        raise InputError(
            f"two judges are compared on the same items, one at least. Got {items:,} verdicts and {len(other):,}"
        )
    same = sum(a == b for a, b in zip(one, other, strict=True))
    ours, theirs = Counter(one), Counter(other)
    chance = sum(ours[verdict] * theirs[verdict] for verdict in ours)  # of items x items: whole, so that 1 is 1
    share, interval = same / items, wilson(same, items)
    if chance == items * items:
        return Agreement(items, share, interval, None, None)
    expected = chance / (items * items)
    kappa, low, high = ((po - expected) / (1 - expected) for po in (share, *interval))
    return Agreement(items, share, interval, kappa, (low, high))
