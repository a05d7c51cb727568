"""Metrics of two benchmark records side by side, and whether their difference can be told from chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from distillcalc.benchmark.record import Level, Record
from distillcalc.calibration_measures import wilson

Telling: TypeAlias = Literal["apart", "beyond", "not told apart", "no interval"]
Side: TypeAlias = Literal["a", "b"]

OVERALL = "the whole run"
LATENCIES = ("ttft", "tpot", "itl", "e2e")
RATES = (
    ("requests_per_s", "requests/s"), ("output_tokens_per_s", "output tokens/s"),
    ("total_tokens_per_s", "total tokens/s"), ("goodput_per_s", "goodput/s"),
)  # fmt: skip
POWERS = (("mean_w", "mean power", "W"), ("joules", "energy", "J"), ("joules_per_output_token", "energy a token", "J"))
QUALITIES = {"accuracy", "macro_f1", "exact_match", "rouge_l", "retention"}


@dataclass(frozen=True)
class Value:
    """A figure and its interval; an end is None where there is none, and infinite where it is not bounded."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether both ends are there."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Metric:
    """One metric of both runs.

    Parameters
    ----------
    load : at which it was measured, in words.
    name, unit : of it: "s", "1/s", "share", "bytes", "W", "J", "USD".
    better : whether "lower" or "higher" is better; None where neither is by itself.
    a, b : the values; None where one has none.
    """

    load: str
    name: str
    unit: str
    better: Literal["lower", "higher"] | None
    a: Value | None
    b: Value | None

    @property
    def ratio(self) -> float | None:
        """b / a; None where one is missing, infinite, or a is 0."""
        if self.a is None or self.b is None or self.a.value == 0:
            return None
        found = self.b.value / self.a.value
        return found if math.isfinite(found) and math.isfinite(self.a.value) else None

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals have a number in common; None where one is missing."""
        ends = self._ends()
        return None if ends is None else ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]

    @property
    def telling(self) -> Telling:
        """Whether the difference can be told from chance.

        "apart": the intervals do not overlap, which two measurements of one truth do less often than one in twenty
        (Schenker and Gentleman, Am. Stat. 55, 2001). "beyond": they overlap, but either value is outside the other's
        interval. Else "not told apart", and "no interval" where one has none.
        """
        ends = self._ends()
        if ends is None or self.a is None or self.b is None:
            return "no interval"
        if not self.overlap:
            return "apart"
        (a_low, a_high), (b_low, b_high) = ends
        inside = b_low <= self.a.value <= b_high or a_low <= self.b.value <= a_high or self.a.value == self.b.value
        return "not told apart" if inside else "beyond"

    @property
    def better_side(self) -> Side | None:
        """Which is better, where that can be told ("apart" or "beyond")."""
        if self.better is None or self.a is None or self.b is None or self.telling not in ("apart", "beyond"):
            return None
        return "a" if (self.a.value < self.b.value) == (self.better == "lower") else "b"

    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        found = []
        for one in (self.a, self.b):
            if one is None or one.low is None or one.high is None:
                return None
            found.append((one.low, one.high))
        return found[0], found[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not finite."""
        plain = {name: _finite(asdict(one)) if one else None for name, one in (("a", self.a), ("b", self.b))}
        return {
            "load": self.load, "name": self.name, "unit": self.unit, "better": self.better, **plain,
            "ratio": self.ratio, "overlap": self.overlap, "telling": self.telling, "better_side": self.better_side,
        }  # fmt: skip


def metrics_of_level(a: Level, b: Level) -> Iterator[Metric]:
    """Each metric of a load that both measured; of which neither has a value, left out."""

    def metric(name: str, unit: str, better: Any, of: Any) -> Iterator[Metric]:
        one, other = of(a), of(b)
        if one is not None or other is not None:
            yield Metric(a.name, name, unit, better, one, other)

    for kind in LATENCIES:
        for place in ("p50", "p95", "p99"):
            yield from metric(f"{kind.upper()} {place}", "s", "lower", lambda x, k=kind, p=place: _latency(x, k, p))
    for key, name in RATES:
        yield from metric(name, "1/s", "higher", lambda x, k=key: _plain(x.summary.get(k)))
    yield from metric("failed requests", "share", "lower", _failed)
    yield from metric("peak memory", "bytes", "lower", lambda x: _plain(x.peak_memory_bytes))
    for key, name, unit in POWERS:
        yield from metric(name, unit, "lower", lambda x, k=key: _power(x, k))
    for key in sorted({*a.usd_per_mtok, *b.usd_per_mtok}):
        yield from metric(
            f"USD per million {key} tokens", "USD", "lower", lambda x, k=key: _plain(x.usd_per_mtok.get(k))
        )


def metrics_overall(a: Record, b: Record) -> Iterator[Metric]:
    """What is measured once a run: the highest load, and quality."""
    loads = [_highest(record) for record in (a, b)]
    if any(loads):
        yield Metric(OVERALL, "highest load that meets the SLO", "1/s", "higher", loads[0], loads[1])
    figures = [record.quality.get("figures") or {} for record in (a, b)]
    for name in dict.fromkeys([*figures[0], *figures[1]]):
        one, other = (_interval(found.get(name)) for found in figures)
        better: Literal["higher"] | None = "higher" if name in QUALITIES else None  # agreement is no quality
        yield Metric(OVERALL, name.replace("_", " "), "share", better, one, other)


def _latency(level: Level, kind: str, place: str) -> Value | None:
    """Of a request that was never answered a percentile is infinite, which JSON holds as null."""
    told = level.summary.get(kind)
    if not told or not told.get("count"):
        return None
    found = told[place]
    value, low, high = (found.get(end) for end in ("value", "low", "high"))
    return Value(
        math.inf if value is None else float(value),
        -math.inf if low is None else float(low),
        math.inf if high is None else float(high),
    )


def _interval(found: Mapping[str, Any] | None) -> Value | None:
    if not found or found.get("value") is None:
        return None
    return Value(float(found["value"]), found.get("low"), found.get("high"))


def _plain(value: Any) -> Value | None:
    return Value(float(value)) if is_number(value) else None


def _failed(level: Level) -> Value | None:
    outcomes = level.summary.get("outcomes") or {}
    total = sum(outcomes.values())
    if not total:
        return None
    failed = total - outcomes.get("ok", 0)
    return Value(failed / total, *wilson(failed, total))


def _power(level: Level, name: str) -> Value | None:
    return _plain(level.power.get(name)) if level.power is not None and level.power.get("valid") else None


def _highest(record: Record) -> Value | None:
    """Between the highest load that met the objectives and the lowest that did not."""
    found = record.highest_load
    if not found or not is_number(found.get("met")):
        return None
    missed = found.get("missed")
    return Value(float(found["met"]), float(found["met"]), math.inf if missed is None else float(missed))


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _finite(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: v if v is None or math.isfinite(v) else None for name, v in plain.items()}
