"""Numbers as words: dollars, counts and durations, the same everywhere they are shown."""

from __future__ import annotations

import math

from distillcalc.calendar import DAYS_PER_MONTH


def usd(amount: float) -> str:
    """Dollars with the digits that a reader needs: $0.0042, $12.30, $4,560, $1.23M."""
    if not math.isfinite(amount):
        return "no price"
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    for limit, letter, unit in ((999.5e9, "T", 1e12), (999.5e6, "B", 1e9), (999_500, "M", 1e6)):
        if size >= limit:
            return f"{sign}${size / unit:.3g}{letter}"
    if size >= 99.995:
        return f"{sign}${size:,.0f}"
    if size >= 1 or size == 0:
        return f"{sign}${size:.2f}"
    return f"{sign}${size:.2f}" if size >= 0.1 else f"{sign}${size:.2g}"


def count(number: float) -> str:
    """A count to three significant digits: 8, 6,200, 1.2 million."""
    if not math.isfinite(number):
        return "no limit"
    if abs(number) >= 999_500:
        return f"{number / 1e6:.3g} million"
    if number == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(number)))
    rounded = round(number, digits)
    return f"{rounded:,.0f}" if digits <= 0 else f"{rounded:g}"


def duration(months: float) -> str:
    """Months as days, months or years: 41 days, 7.5 months, 3.1 years."""
    if months == 0:
        return "at once"
    if months < 3:
        days = max(round(months * DAYS_PER_MONTH), 1)
        return f"{days} day{'s' if days > 1 else ''}"
    return f"{months:.1f} months" if months < 24 else f"{months / 12:.1f} years"


def seconds(value: float) -> str:
    """Seconds or milliseconds: 120 ms, 1.4 s."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
