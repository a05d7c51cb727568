"""When requests come: volume and its trend, the daily cycle, burstiness. From minutes or coarser counts and gaps.

Windows (seconds, minutes, hours, days) are the clock's own, in UTC, and count where the log covers at least 99% of
them, so that a log that begins in the middle of a minute has no slow first minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.workload.logs.profile import Arrivals, Cycle, Trend, Volume

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

US = 1_000_000
DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60
COVERED = 0.99
TREND_DAYS = 14
WEEK_DAYS, DAY_DAYS = 14, 3
SLICE_REQUESTS = 2_000_000
FULL_HOUR_GAPS = 30  # fewer gaps than this say little of an hour's burstiness
MOST_SERIES = 400
GAP_BINS = 4  # per doubling
SERIES_STEPS_S = (1, 10, MINUTE_S, 5 * MINUTE_S, 15 * MINUTE_S, HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S)
MONTH_DAYS = 365.25 / 12


@dataclass(frozen=True, eq=False)
class Counts:
    """Requests in the clock's windows of ``step_s`` seconds.

    Parameters
    ----------
    index : window number since the epoch, rising; windows without requests may be missing.
    requests : requests in each.
    covered : the log's first and last moment [s since the epoch], widened by its mean gap.
    """

    step_s: int
    index: Ints
    requests: Ints
    covered: tuple[float, float]

    def per(self, step_s: int) -> Counts:
        """The same in longer windows."""
        index, where = np.unique(self.index * self.step_s // step_s, return_inverse=True)
        return Counts(step_s, index, np.bincount(where, weights=self.requests).astype(np.int64), self.covered)

    @property
    def whole(self) -> tuple[int, int]:
        """First whole window and the one after the last; equal where there is none."""
        slack = (1 - COVERED) * self.step_s
        first = max(math.ceil((self.covered[0] - slack) / self.step_s), int(self.index[0]))
        after = min(math.floor((self.covered[1] + slack) / self.step_s), int(self.index[-1]) + 1)
        return first, max(first, after)

    def filled(self) -> Ints:
        """Requests of every whole window, those without any included."""
        first, after = self.whole
        inside = (self.index >= first) & (self.index < after)
        found = np.zeros(after - first, dtype=np.int64)
        found[self.index[inside] - first] = self.requests[inside]
        return found

    def peak_to_mean(self) -> float | None:
        """Busiest whole window / mean one; None for fewer than two."""
        counts = self.filled()
        return float(counts.max() / counts.mean()) if len(counts) > 1 and counts.any() else None


def moment(us: int) -> datetime:
    """Microseconds since the epoch as a date and time without zone (UTC)."""
    return datetime(1970, 1, 1) + timedelta(microseconds=us)


def measure_requests(connection: DuckDBPyConnection) -> tuple[Volume, Cycle, Arrivals]:
    """Volume, cycle and arrivals of the relation ``requests``."""
    requests, first, last = _row(connection, 'SELECT count(*), epoch_us(min("at")), epoch_us(max("at")) FROM requests')
    span = (last - first) / US
    gap = span / (requests - 1) if requests > 1 else 0.0
    covered = (first / US - gap, last / US + gap)
    minutes, seconds_squared, tens_squared = _minutes(connection, requests, first, last, covered)
    hours = minutes.per(HOUR_S)
    cv, within, distribution = _gaps(connection, requests, first, last)
    start, after = minutes.whole
    inside = (minutes.index >= start) & (minutes.index < after)
    total = int(minutes.requests[inside].sum())
    arrivals = Arrivals(
        interarrival_cv=cv,
        interarrival_cv_within_hour=within,
        dispersion_1s=_dispersion(int(seconds_squared[inside].sum()), total, (after - start) * 60),
        dispersion_10s=_dispersion(int(tens_squared[inside].sum()), total, (after - start) * 6),
        dispersion_60s=_dispersion(int((minutes.requests[inside] ** 2).sum()), total, after - start),
        minute_peak_to_mean=minutes.peak_to_mean(),
        hour_peak_to_mean=hours.peak_to_mean(),
        hour_p99_to_mean=_p99_to_mean(hours.filled()),
        mean_gap_s=gap if requests > 1 else None,
        distribution=distribution,
    )
    volume = _volume(minutes, first, last, requests, DAY_S / gap if gap else None)
    return volume, _cycle(hours, volume), arrivals


def measure_counts(connection: DuckDBPyConnection) -> tuple[Volume, Cycle, Arrivals]:
    """The same of the relation ``counts``: as much as counts of an hour or so can tell."""
    found = connection.execute(
        'SELECT epoch_us("at") AS t, sum(requests)::BIGINT AS n FROM counts GROUP BY 1 ORDER BY 1'
    ).fetchnumpy()
    at, n = np.asarray(found["t"]) // US, np.asarray(found["n"], dtype=np.int64)
    step = max(int(np.median(np.diff(at))), 1) if len(at) > 1 else HOUR_S
    index, where = np.unique(at // step, return_inverse=True)
    first, end = int(index[0]) * step, (int(index[-1]) + 1) * step
    requests = int(n.sum())
    windows = Counts(step, index, np.bincount(where, weights=n).astype(np.int64), (first, end))
    hours = windows.per(HOUR_S) if step <= HOUR_S else None
    whole = hours.filled() if hours is not None else np.zeros(0, dtype=np.int64)
    arrivals = Arrivals(
        minute_peak_to_mean=windows.per(MINUTE_S).peak_to_mean() if step <= MINUTE_S else None,
        hour_peak_to_mean=hours.peak_to_mean() if hours is not None else None,
        hour_p99_to_mean=_p99_to_mean(whole),
        distribution=_above(whole),
    )
    volume = _volume(windows, first * US, end * US, requests, requests / (end - first) * DAY_S)
    if hours is None:
        cycle = Cycle("none", (), f"counts per {step / HOUR_S:g} hours show no daily cycle")
    else:
        cycle = _cycle(hours, volume)
    return volume, cycle, arrivals


def _row(connection: DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _slices(first: int, last: int, requests: int, step_s: int) -> Iterator[str]:
    """Conditions on ``at`` that cut the log into parts of a million or two requests.

    What has to be held to count seconds or to sort gaps then does not grow with the log. Parts begin whole steps
    after ``first``.
    """
    parts = -(-requests // SLICE_REQUESTS)
    step = step_s * US
    length = max(-(-(last - first + 1) // (parts * step)), 1) * step
    for start in range(first, last + 1, length):
        yield f'"at" >= make_timestamp({start}) AND "at" < make_timestamp({start + length})'


def _joined(parts: Iterable[dict[str, Any]], *names: str) -> list[Any]:
    """The named columns of all parts, one after the other."""
    found = list(parts)
    return [np.concatenate([np.ma.filled(part[name], 0) for part in found]) for name in names]


def _minutes(
    connection: DuckDBPyConnection, requests: int, first: int, last: int, covered: tuple[float, float]
) -> tuple[Counts, Ints, Ints]:
    """Requests per minute, and in each the sums of the squared counts of its seconds and of its tens of seconds."""
    begin = first // (MINUTE_S * US) * MINUTE_S * US
    m, n, q1, q10 = _joined(
        (
            connection.execute(
                f"""
                WITH seconds AS (
                         SELECT epoch_us("at") // {US} AS s, count(*) AS n FROM requests WHERE {part} GROUP BY 1
                     ),
                     tens AS (SELECT s // 10 AS t, sum(n)::BIGINT AS n, sum(n * n)::BIGINT AS q FROM seconds GROUP BY 1)
                SELECT t // 6 AS m, sum(n)::BIGINT AS n, sum(q)::BIGINT AS q1, sum(n * n)::BIGINT AS q10
                FROM tens GROUP BY 1 ORDER BY 1
                """
            ).fetchnumpy()
            for part in _slices(begin, last, requests, MINUTE_S)
        ),
        *("m", "n", "q1", "q10"),
    )
    return Counts(MINUTE_S, m, n, covered), q1, q10


def _dispersion(squares: int, total: int, windows: int) -> float | None:
    """Variance / mean of the counts in ``windows`` windows."""
    if windows < 2 or not total:
        return None
    mean = total / windows
    return (squares / windows - mean * mean) / mean


def _p99_to_mean(counts: Ints) -> float | None:
    """99th percentile of the counts / their mean, from 100 windows on."""
    return float(np.quantile(counts, 0.99) / counts.mean()) if len(counts) >= 100 and counts.any() else None


def _above(counts: Ints) -> tuple[tuple[float, float], ...]:
    """(count / mean, share of windows with at least so many), rising."""
    if len(counts) < 2 or not counts.any():
        return ()
    x = np.sort(counts) / counts.mean()
    # Thinned evenly in the log of the share, so that the tail keeps its points.
    keep = np.unique(len(x) - np.geomspace(1, len(x), MOST_SERIES).round().astype(int))
    return tuple((float(x[i]), float(1 - i / len(x))) for i in keep if x[i] > 0 and (i == 0 or x[i] > x[i - 1]))


def _gaps(
    connection: DuckDBPyConnection, requests: int, first: int, last: int
) -> tuple[float | None, float | None, tuple[tuple[float, float], ...]]:
    """CV of all gaps, CV within hours, and (gap [s], share of gaps at least so long).

    Gaps are taken within hours counted from the first request, so that hours sort side by side and a log larger
    than memory needs no sort of the whole; those from one hour to the next are added from the hours' ends.
    """
    if requests < 3 or last == first:
        return None, None, ()
    hour = f"(t - {first}) // {HOUR_S * US}"
    h, b, n, total, squares, begins, finishes = _joined(
        (
            connection.execute(
                f"""
                SELECT h, b, count(*) AS n, sum(g) AS total, sum(g * g) AS squares, min(t) AS first, max(t) AS last
                FROM (
                    SELECT h, t, (t - before) / {US}.0 AS g, CASE WHEN before IS NULL THEN -1
                        WHEN t = before THEN 0 ELSE 1 + floor({GAP_BINS} * log2(t - before))::INTEGER END AS b
                    FROM (SELECT {hour} AS h, t, lag(t) OVER (PARTITION BY {hour} ORDER BY t) AS before
                          FROM (SELECT epoch_us("at") AS t FROM requests WHERE {part}))
                ) GROUP BY h, b
                """
            ).fetchnumpy()
            for part in _slices(first, last, requests, HOUR_S)
        ),
        *("h", "b", "n", "total", "squares", "first", "last"),
    )
    hours, where = np.unique(h, return_inverse=True)
    starts = np.full(len(hours), np.iinfo(np.int64).max)
    ends = np.full(len(hours), np.iinfo(np.int64).min)
    np.minimum.at(starts, where, begins)
    np.maximum.at(ends, where, finishes)
    between = (starts[1:] - ends[:-1]) / US  # never 0: an hour's end and the next one's start differ
    inside = b >= 0
    mean = (last - first) / US / (requests - 1)
    second = (float(squares[inside].sum()) + float(between @ between)) / (requests - 1)
    cv = math.sqrt(max(second - mean * mean, 0.0)) / mean

    where, count, total, squares = where[inside], n[inside], total[inside], squares[inside]
    per_hour, sums, squared = (np.bincount(where, weights=w, minlength=len(hours)) for w in (count, total, squares))
    full = (per_hour >= FULL_HOUR_GAPS) & (sums > 0)
    within = None
    if full.any():
        gaps, means = per_hour[full], sums[full] / per_hour[full]
        relative = np.maximum(squared[full] / gaps / means**2 - 1, 0.0)
        within = math.sqrt(float(gaps @ relative) / float(gaps.sum()))

    longest = 1 + np.floor(GAP_BINS * np.log2(between * US)).astype(np.int64)
    steps = np.bincount(np.append(b[inside], longest), weights=np.append(n[inside], np.ones(len(between))))
    at_least = np.cumsum(steps[::-1])[::-1] / steps.sum()
    edges = 2 ** ((np.arange(len(steps)) - 1) / GAP_BINS) / US
    drawn = tuple((float(edges[i]), float(at_least[i])) for i in range(1, len(steps)) if steps[i])
    return cv, within, drawn


def _volume(counts: Counts, first: int, last: int, requests: int, per_day: float | None) -> Volume:
    if counts.step_s <= DAY_S:
        days = counts.per(DAY_S)
        start, whole = days.whole[0], days.filled()
        trend = trend_of(whole)
    else:
        start, whole = 0, np.zeros(0, dtype=np.int64)
        trend = Trend(0, None, None, None, f"counts per {counts.step_s / DAY_S:g} days are too coarse to show one")
    daily = tuple((date(1970, 1, 1) + timedelta(days=start + i), int(n)) for i, n in enumerate(whole.tolist()))
    span = (last - first) / US
    longer = (s for s in SERIES_STEPS_S if s >= counts.step_s and span / s <= MOST_SERIES)
    step = next(longer, max(SERIES_STEPS_S[-1], counts.step_s))
    drawn = counts.per(step)
    # Whole windows where there are a few, else also those at the ends.
    begin, after = (
        drawn.whole if drawn.whole[1] - drawn.whole[0] > 2 else (int(drawn.index[0]), int(drawn.index[-1]) + 1)
    )
    filled = dict(zip(drawn.index.tolist(), drawn.requests.tolist(), strict=True))
    return Volume(
        requests=requests,
        first=moment(first),
        last=moment(last),
        span_s=span,
        requests_per_day=per_day,
        daily=daily,
        series=tuple((moment(i * step * US), filled.get(i, 0)) for i in range(begin, after)),
        series_step_s=float(step),
        trend=trend,
    )


def trend_of(daily: Ints) -> Trend:
    """Growth from requests per day, log-linear, with the weekdays' own levels taken out.

    ln(requests) = level(weekday) + slope x day + e, by least squares over the days that have requests; the standard
    error of the slope is widened by sqrt((1 + r) / (1 - r)) for the residuals' correlation r > 0 from one day to
    the next (Bartlett 1935), and the interval is Student's.

    Parameters
    ----------
    daily : requests of consecutive whole days, shape (n,).
    """
    days = len(daily)
    (used,) = np.nonzero(daily)
    if len(used) < TREND_DAYS:
        what = f"{days} whole days" + (f", {len(used)} of them with requests" if len(used) < days else "")
        return Trend(days, None, None, None, f"too short to show one: {what}, {TREND_DAYS} are needed")
    from scipy.special import stdtrit

    columns = [
        used.astype(float) - used.mean(),
        *(used % 7 == weekday for weekday in range(7) if (used % 7 == weekday).any()),
    ]
    design = np.stack(columns, axis=1).astype(float)
    logs = np.log(daily[used].astype(float))
    freedom = len(used) - design.shape[1]
    inverse = np.linalg.pinv(design.T @ design)
    solution = inverse @ design.T @ logs
    residuals = logs - design @ solution
    variance = float(residuals @ residuals) / freedom
    together = np.diff(used) == 1
    noise = float(residuals @ residuals)
    r = float(residuals[1:][together] @ residuals[:-1][together]) / noise if noise > 1e-12 else 0.0
    r = min(max(r, 0.0), 0.95)
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance * float(inverse[0, 0]) * (1 + r) / (1 - r))
    growth, low, high = (_monthly(float(solution[0]) + by) for by in (0.0, -half, half))
    statement = f"{growth:+.1%} a month (95% interval {low:+.1%} to {high:+.1%}) over {days} whole days"
    trend = Trend(days, growth, low, high, statement)
    said = {
        "growth": "the interval excludes 0",
        "steady": "the interval is narrow and holds 0",
        "open": "the interval holds 0 and is wide",
    }
    return Trend(days, growth, low, high, f"{statement}: {said[trend.verdict]}")


def _monthly(slope: float) -> float:
    """exp(slope per day) over a month - 1, held within what a number can say."""
    return math.expm1(min(max(slope * MONTH_DAYS, -50.0), 50.0))


def _cycle(hours: Counts, volume: Volume) -> Cycle:
    filled = hours.filled()
    start = hours.whole[0]
    days = len(filled) / 24
    log = _span_words(volume.span_s)
    if days < DAY_DAYS:
        return Cycle(
            "none", (), f"{log} of log show no daily cycle; {DAY_DAYS} days are needed, {WEEK_DAYS} for a weekly one"
        )
    weekly = days >= WEEK_DAYS * COVERED
    period = 168 if weekly else 24
    # The epoch was a Thursday: 72 hours after a Monday.
    hour = (np.arange(len(filled)) + start + 72) % period
    mean = np.bincount(hour, weights=filled, minlength=period) / np.bincount(hour, minlength=period)
    if not mean.any():
        return Cycle("none", (), "no request in a whole hour")
    rates = mean / mean.mean()
    busiest = int(rates.argmax())
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    when = f"{names[busiest // 24]} {busiest % 24:02d}:00" if weekly else f"{busiest:02d}:00"
    kind: Literal["hour-of-week", "hour-of-day"] = "hour-of-week" if weekly else "hour-of-day"
    more = "" if weekly else f"; weekdays are not told apart below {WEEK_DAYS} days"
    if not volume.dated:
        more += "; its clock begins at 0, so that its weekdays and hours are its own"
    zone = " UTC" if volume.dated else ""
    statement = f"{kind} from {log}: busiest {when}{zone} at {rates[busiest]:.2f} times the mean{more}"
    return Cycle(kind, tuple(round(float(rate), 4) for rate in rates), statement)


def _span_words(span: float) -> str:
    if span < 2 * HOUR_S:
        return f"{span / 60:.0f} minutes"
    return f"{span / HOUR_S:.0f} hours" if span < 3 * DAY_S else f"{span / DAY_S:.0f} days"
