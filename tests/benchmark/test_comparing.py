from __future__ import annotations

import json
import math
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from distillcalc.benchmark.comparing import Comparison, compare
from distillcalc.benchmark.comparing_metrics import OVERALL, Metric, Value
from distillcalc.benchmark.quality import quality_of
from distillcalc.benchmark.record import Level, Measured, Record
from distillcalc.benchmark.summary import summarise
from distillcalc.benchmark.traces import Traces
from distillcalc.distill.task import Task
from distillcalc.errors import UnknownName
from tests.benchmark.test_quality import rows

ONE = {"kind": "closed", "concurrency": 1}
TWO_A_SECOND = {"kind": "open", "rate_per_s": 2.0, "interarrival_cv": 1.0}


def estimate(value: float | None, low: float | None, high: float | None, count: int = 100) -> dict[str, Any]:
    return {
        "value": value,
        "low": low,
        "high": high,
        "count": count,
        "effective": float(count),
        "how": "as independent",
    }


def latency(p50: dict[str, Any]) -> dict[str, Any]:
    return {"count": p50["count"], **dict.fromkeys(("mean", "p50", "p95", "p99"), p50)}


def level(load: dict[str, Any], **changed: Any) -> Level:
    summary = {
        "requests": 100,
        "outcomes": {"ok": 100},
        "ttft": latency(estimate(0.2, 0.18, 0.22)),
        "tpot": latency(estimate(None, None, None, 0)),
        "requests_per_s": 4.0,
        "goodput_per_s": None,
    }
    return Level(load=load, summary={**summary, **changed.pop("summary", {})}, **changed)


def record(name: str = "one", **changed: Any) -> Record:
    plain: dict[str, Any] = {
        "name": name,
        "created": "2026-11-28T12:00:00+00:00",
        "measured": Measured(name="smollm2", kind="in-process"),
        "machine": {"cpu": "a processor", "versions": {"torch": "2.13.0"}},
        "workload": {"name": "mail", "lengths": {"input": 64, "output": [8, 16]}},
        "settings": {"seed": 0},
        "levels": (level(ONE),),
    }
    return Record(**{**plain, **changed})


def test_runs_that_differ_in_nothing_are_compared_without_a_word() -> None:
    found = compare(record("one"), record("two", measured=Measured(name="other", kind="in-process")))
    assert found.comparable
    assert found.headline == "one and two: the same workload, settings, machine and versions"
    assert [(one.group, one.name, one.a, one.b) for one in found.unlike] == [("measured", "name", "smollm2", "other")]
    ttft = found.metric("TTFT p50", "1 in flight")
    assert (ttft.a, ttft.b, ttft.ratio) == (Value(0.2, 0.18, 0.22), Value(0.2, 0.18, 0.22), 1.0)
    assert (ttft.overlap, ttft.telling, ttft.better_side) == (True, "not told apart", None)
    assert not any(one.name.startswith("TPOT") or one.name == "goodput/s" for one in found.metrics)  # nobody has any


def test_what_makes_runs_hard_to_compare_is_told_first() -> None:
    other = record(
        "two",
        measured=Measured(name="smollm2", kind="in-process", details={"cache": "static"}),
        machine={"cpu": "another", "versions": {"torch": "2.14.0"}, "commit": "abc"},
        workload={"name": "mail", "lengths": {"input": 64, "output": [8, 32]}},
        settings={"seed": 0, "timeout_s": 5.0},
    )
    found = compare(record("one"), other)
    assert not found.comparable
    assert [(one.group, one.name) for one in found.unlike] == [
        ("workload", "lengths.output"), ("settings", "timeout_s"), ("machine", "cpu"), ("versions", "versions.torch"),
        ("versions", "commit"), ("measured", "details"), ("measured", "details.cache"),
    ]  # fmt: skip
    assert found.unlike[1].a is None
    assert "one and two differ in workload (1), settings (1), machine (1), versions (2)" in found.headline
    lines = str(found).splitlines()
    assert lines[0].startswith("one and two differ in")
    told, table = (next(i for i, line in enumerate(lines) if word in line) for word in ("lengths.output", "TTFT p50"))
    assert told < table
    assert "[8, 16]" in lines[told]
    assert "[8, 32]" in lines[told]


@pytest.mark.parametrize(
    ("a", "b", "overlap", "telling", "better"),
    [
        (Value(1, 0.9, 1.1), Value(2, 1.5, 2.5), False, "apart", "a"),
        (Value(2, 1.5, 2.5), Value(1, 0.9, 1.1), False, "apart", "b"),
        (Value(1, 0.5, 1.6), Value(2, 1.5, 2.5), True, "beyond", "a"),  # ends overlap, values are outside
        (Value(1, 0.5, 2.0), Value(1.8, 0.9, 2.5), True, "not told apart", None),
        (Value(1, 0.9, 1.1), Value(1.1, 0.1, 5), True, "not told apart", None),
        (Value(1, 0, 1), Value(2, 1, 3), True, "not told apart", None),  # 1 is in both
        (Value(1), Value(2, 1, 3), None, "no interval", None),
        (None, Value(2, 1, 3), None, "no interval", None),
        (Value(1, 0.9, 1.1), Value(math.inf, 3, math.inf), False, "apart", "a"),
        (Value(1, 0.9, math.inf), Value(9, 8, 10), True, "not told apart", None),
    ],
)
def test_intervals_say_what_can_be_told(
    a: Value | None, b: Value | None, overlap: bool | None, telling: str, better: str | None
) -> None:
    found = Metric("load", "TTFT p50", "s", "lower", a, b)
    assert (found.overlap, found.telling, found.better_side) == (overlap, telling, better)
    if better is not None:
        assert Metric("load", "x", "1/s", "higher", a, b).better_side == ("b" if better == "a" else "a")
        assert Metric("load", "x", "share", None, a, b).better_side is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_loads_are_matched_by_what_they_say() -> None:
    first = record(levels=(level(TWO_A_SECOND), level(ONE, summary={"requests_per_s": 5.0}), level({**ONE, "x": 1})))
    bursty = {**TWO_A_SECOND, "interarrival_cv": 3.0}
    second = record("two", levels=(level(bursty), level(ONE), level({**TWO_A_SECOND, "rate_per_s": 2})))
    found = compare(first, second)
    assert {one.load for one in found.metrics} == {"2 a second", "1 in flight"}
    rate = found.metric("requests/s", "1 in flight")
    assert (rate.a, rate.b, rate.ratio, rate.telling) == (Value(5.0), Value(4.0), 0.8, "no interval")
    assert (found.only_a, found.only_b) == (("1 in flight",), ("2 a second",))
    assert "measured of one alone: 1 in flight" in str(found)
    nothing = compare(record(levels=(level(ONE),)), record("two", levels=(level(bursty),)))
    assert nothing.metrics == ()
    assert "there is no load that both measured" in str(nothing)
    # The same load twice: the first with the first.
    twice = record(levels=(level(ONE), level(ONE, summary={"requests_per_s": 9.0})))
    pairs = [one for one in compare(twice, twice).metrics if one.name == "requests/s"]
    assert [one.a for one in pairs] == [one.b for one in pairs] == [Value(4.0), Value(9.0)]


def test_everything_that_was_measured_stands_side_by_side() -> None:
    quality = {"figures": {"accuracy": {"value": 0.9, "low": 0.85, "high": 0.94}, "agreement": {"value": 0.8}}}
    better = {"figures": {"accuracy": {"value": 0.97, "low": 0.95, "high": 0.98}}}
    power = {"valid": True, "mean_w": 200.0, "joules": 10.0}
    first = record(
        levels=(
            level(ONE, peak_memory_bytes=2_000_000_000, power=power, usd_per_mtok={"output": 0.5}),
            level(TWO_A_SECOND, summary={"outcomes": {"ok": 90, "timeout": 10}}),
        ),
        highest_load={"met": 4.0, "missed": 5.0},
        quality=quality,
    )
    second = record(
        "two",
        levels=(
            level(ONE, peak_memory_bytes=1_000_000_000, power={"valid": False, "mean_w": 9.0}),
            level(TWO_A_SECOND, summary={"ttft": latency(estimate(None, 1.0, None))}),
        ),
        highest_load={"met": 6.0, "missed": None},
        quality=better,
    )
    found = compare(first, second)
    assert found.metric("peak memory", "1 in flight").ratio == 0.5
    assert found.metric("mean power", "1 in flight").a == Value(200.0)
    assert found.metric("mean power", "1 in flight").b is None  # it was not valid
    assert found.metric("USD per million output tokens", "1 in flight").b is None
    never = found.metric("TTFT p99", "2 a second")
    assert never.b == Value(math.inf, 1.0, math.inf)
    assert (never.ratio, never.telling, never.better_side) == (None, "apart", "a")
    # 10 of 100 requests failed and 0 of 100: Wilson 0.055 to 0.174, and 0 to 0.037.
    failed = found.metric("failed requests", "2 a second")
    assert (failed.telling, failed.better_side) == ("apart", "b")
    most = found.metric("highest load that meets the SLO")
    assert (most.a, most.b) == (Value(4, 4, 5), Value(6, 6, math.inf))
    assert (most.telling, most.better_side) == ("apart", "b")
    accuracy = found.metric("accuracy")
    assert (accuracy.load, accuracy.telling, accuracy.better_side) == (OVERALL, "apart", "b")
    assert found.metric("agreement").better is None
    lines = [" ".join(line.split()) for line in str(found).splitlines()]
    for line in (
        "peak memory [GB] 2 1 0.5 -",
        "mean power [W] 200 - - -",
        "USD per million output tokens 0.5 - - -",
        "TTFT p99 [ms] 200 (180–220) never - first is better",
        "failed requests 0.1 (0.0552–0.174) 0 (0–0.037) 0 second is better",
        "the whole run highest load that meets the SLO 4 (4–5) 6 (6–?) 1.5 second is better",
        "accuracy 0.9 (0.85–0.94) 0.97 (0.95–0.98) 1.08 second is better",
        "agreement 0.8 - - -",
        "better: the 95% intervals do not overlap",
    ):
        assert line in lines
    # None failed of either: the same, although Wilson's lower end is above 0 by rounding.
    assert found.metric("failed requests", "1 in flight").telling == "not told apart"
    with pytest.raises(UnknownName, match=r"unknown metric 'TTFT p51 at 1 in flight'\. Did you mean TTFT p"):
        found.metric("TTFT p51", "1 in flight")
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert next(one for one in plain["metrics"] if one["name"] == "accuracy")["better_side"] == "b"


def test_what_was_really_measured_is_compared() -> None:
    def run(slower: float) -> Record:
        rng = np.random.default_rng(0)
        due = np.arange(200) * 0.1
        first = due + slower * rng.gamma(20, 0.01, 200)
        traces = Traces(
            due_s=due, sent_s=due, first_s=first, last_s=first + 0.1, input_tokens=np.full(200, 5),
            output_tokens=np.full(200, 3), outcome=("ok",) * 200, chunk_s=np.zeros(0),
            chunk_tokens=np.zeros(0, np.int64), offsets=np.zeros(201, np.int64),
        )  # fmt: skip
        summary = json.loads(json.dumps(summarise(traces).to_dict(), allow_nan=False))
        task = Task(name="t", labels=("a", "b"))
        quality = quality_of(["a"] * 20, task, rows(["a"] * 10 + ["b"] * 10)).to_dict()
        return record(levels=(Level(load=ONE, summary=summary),), quality=quality)

    found = compare(run(1.0), run(2.0))
    ttft = found.metric("TTFT p50", "1 in flight")
    assert ttft.ratio == pytest.approx(2.0)
    assert (ttft.telling, ttft.better_side) == ("apart", "a")
    assert found.metric("TPOT p50", "1 in flight").ratio == pytest.approx(1.0)
    assert found.metric("requests/s", "1 in flight").telling == "no interval"
    assert found.metric("accuracy").a == found.metric("accuracy").b
    assert found.metric("macro f1").telling == "not told apart"
    assert found.a == found.b.replace("two", "one")  # one name, told apart by their times
    assert found.a == "one (2026-11-28T12:00:00+00:00)"


def test_a_name_from_outside_is_no_markup() -> None:
    odd = record(machine={"cpu": "[red]x\x1b[31m"})
    found = compare(record(), odd)
    assert "[red]x [31m" in str(found)
    console = Console(width=40, record=True, file=StringIO())
    console.print(found)
    assert "TTFT" in console.export_text()


@given(*[st.tuples(*[st.floats(0.01, 10)] * 3).map(sorted)] * 2)
def test_the_other_way_round_says_the_same(one: list[float], other: list[float]) -> None:
    a, b = (Value(mid, low, high) for low, mid, high in (one, other))
    there, back = (Metric("load", "x", "s", "lower", *sides) for sides in ((a, b), (b, a)))
    assert (there.overlap, there.telling) == (back.overlap, back.telling)
    assert there.ratio is not None
    assert back.ratio is not None
    assert there.ratio * back.ratio == pytest.approx(1)
    swapped = {"a": "b", "b": "a", None: None}
    assert there.better_side == swapped[back.better_side]
    assert isinstance(compare(record(), record("two")), Comparison)
