"""Months of a horizon: short months, leap years, ends of months."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.calendar import add_months, month_days, month_of

days = st.dates(date(1990, 1, 1), date(2090, 12, 31))


@pytest.mark.parametrize(
    ("start", "months", "then"),
    [
        (date(2026, 12, 1), 0, date(2026, 12, 1)),
        (date(2026, 12, 1), 1, date(2027, 1, 1)),
        (date(2026, 12, 1), 13, date(2028, 1, 1)),
        (date(2026, 12, 1), -1, date(2026, 11, 1)),
        (date(2027, 1, 31), 1, date(2027, 2, 28)),  # the last day of a shorter month
        (date(2028, 1, 31), 1, date(2028, 2, 29)),  # of a leap year
        (date(2027, 1, 31), 2, date(2027, 3, 31)),  # and not short for ever after
        (date(2027, 11, 30), 3, date(2028, 2, 29)),
    ],
)
def test_add_months(start: date, months: int, then: date) -> None:
    assert add_months(start, months) == then


def test_month_days_by_hand() -> None:
    # December 2026, January, February (2027 is no leap year), March
    assert month_days(date(2026, 12, 1), 4).tolist() == [31, 31, 28, 31]
    # From the 15th to the 15th, over the 29th of February 2028
    assert month_days(date(2028, 1, 15), 2).tolist() == [31, 29]


@given(start=days, months=st.integers(1, 120))
def test_month_days_are_all_the_days_of_the_horizon(start: date, months: int) -> None:
    found = month_days(start, months)
    assert found.sum() == (add_months(start, months) - start).days
    assert set(found) <= {28, 29, 30, 31}


@pytest.mark.parametrize(
    ("day", "start", "index"),
    [
        (date(2026, 12, 1), date(2026, 12, 1), 0),
        (date(2026, 12, 31), date(2026, 12, 1), 0),
        (date(2027, 1, 1), date(2026, 12, 1), 1),
        (date(2026, 11, 30), date(2026, 12, 1), -1),
        (date(2027, 1, 14), date(2026, 12, 15), 0),
        (date(2027, 1, 15), date(2026, 12, 15), 1),
        (date(2027, 2, 28), date(2027, 1, 31), 1),  # that month begins on its last day
        (date(2027, 2, 27), date(2027, 1, 31), 0),
    ],
)
def test_month_of(day: date, start: date, index: int) -> None:
    assert month_of(day, start) == index


@given(start=days, offset=st.integers(-4000, 4000))
def test_every_day_lies_in_its_month(start: date, offset: int) -> None:
    day = start + timedelta(days=offset)
    index = month_of(day, start)
    assert add_months(start, index) <= day < add_months(start, index + 1)
