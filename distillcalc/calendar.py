"""Months of a horizon as calendar dates and day counts."""

from __future__ import annotations

import calendar
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

DAYS_PER_MONTH = 365.25 / 12  # on average


def add_months(start: date, months: int) -> date:
    """The same day ``months`` later, or the last day of a shorter month."""
    index = start.year * 12 + start.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(start.day, calendar.monthrange(year, month + 1)[1]))


def month_days(start: date, months: int) -> NDArray[np.float64]:
    """Days in each month of the horizon, shape (months,)."""
    edges = [add_months(start, m) for m in range(months + 1)]
    return np.array([(b - a).days for a, b in pairwise(edges)], dtype=float)


def month_of(day: date, start: date) -> int:
    """Index of the horizon month that holds ``day``; negative before the start."""
    index = (day.year - start.year) * 12 + day.month - start.month
    return index if add_months(start, index) <= day else index - 1
