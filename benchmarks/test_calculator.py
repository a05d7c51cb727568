"""How fast the calculator is, with its results checked: `make bench`.

Times are medians over the rounds. What is timed is what a user would run: warm, unless it says fresh.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from genai_prices import Usage, calc_price
from pytest_benchmark.fixture import BenchmarkFixture

from distillcalc import Decision, Scenario, price_requests, recommend, sweep
from distillcalc.estimate.inputs import with_inputs
from distillcalc.workload import OPTION_IDS
from distillcalc.workload.files import load_scenario

SWEEP_ONCE = Path(__file__).with_name("sweep_once.py")
Record = Callable[..., None]
Median = Callable[[], float]


def fresh_python(*arguments: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def scenario() -> Scenario:
    return load_scenario("support-triage")


@pytest.mark.parametrize(
    ("what", "code", "limit"),
    [
        ("import distillcalc", "import distillcalc; print(distillcalc.__version__)", {"below": 0.25}),
        ("from distillcalc import recommend", "from distillcalc import recommend; print(recommend.__name__)", {}),
        (
            "import, then the first recommend",
            "from distillcalc import recommend; from distillcalc.workload.files import load_scenario; "
            "print(recommend(load_scenario('support-triage')).recommendation)",
            {},
        ),
    ],
    ids=["import", "import-recommend", "first-answer"],
)
def test_fresh_interpreter(
    benchmark: BenchmarkFixture, record: Record, median_s: Median, what: str, code: str, limit: dict[str, float]
) -> None:
    """The whole life of an interpreter, its own start included; bytecode is compiled in the warm-up."""
    printed = benchmark.pedantic(fresh_python, ("-c", code), rounds=15, warmup_rounds=1)
    assert printed.strip()
    record(f"{what} (fresh interpreter)", median_s(), "s", **limit)


def assert_cheapest_eligible(decision: Decision) -> None:
    options = decision.options
    assert tuple(options) == OPTION_IDS
    eligible = {name: e.present_value_usd for name, e in options.items() if e.status in ("feasible", "provisional")}
    assert decision.recommendation == (min(eligible, key=eligible.__getitem__) if eligible else None)


def test_recommend(benchmark: BenchmarkFixture, record: Record, median_s: Median, scenario: Scenario) -> None:
    """One answer, every option evaluated."""
    decision = benchmark.pedantic(recommend, (scenario,), rounds=200, warmup_rounds=1)
    assert_cheapest_eligible(decision)
    record("recommend", median_s() * 1000, "ms", below=5)


def test_recommend_with_everything(
    benchmark: BenchmarkFixture, record: Record, median_s: Median, scenario: Scenario
) -> None:
    """The answer, its break-even, its tipping points and the JSON of it all."""

    def everything() -> tuple[Decision, str]:
        decision = recommend(scenario)
        assert decision.break_even
        assert decision.tipping_points
        return decision, decision.to_json()

    decision, text = benchmark.pedantic(everything, rounds=10, warmup_rounds=1)
    assert_cheapest_eligible(decision)
    assert json.loads(text)["recommendation"] == decision.recommendation
    for point in decision.tipping_points:
        table = sweep(scenario, {point.input: [point.flips_at]})
        best = table.loc[table["recommended"], "option"].tolist()
        assert best == ([point.to] if point.to else []), point
    record("recommend + break_even + tipping_points + to_json", median_s() * 1000, "ms")


def test_sweep(benchmark: BenchmarkFixture, record: Record, median_s: Median) -> None:
    """10,000 scenarios x every option x 36 months, volume and growth swept; its memory in a process of its own."""
    scenario, inputs = runpy.run_path(str(SWEEP_ONCE))["question"]()
    alone = json.loads(fresh_python(str(SWEEP_ONCE)))
    table = benchmark.pedantic(sweep, (scenario, inputs), rounds=7, warmup_rounds=1)

    n = len(inputs["requests_per_day"])
    assert len(table) == alone["rows"] == n * len(OPTION_IDS)
    for i in range(0, n, n // 20):
        one = recommend(with_inputs(scenario, {name: float(values[i]) for name, values in inputs.items()}))
        rows = table[table["scenario"] == i].set_index("option")
        expected = [one.options[name].present_value_usd for name in OPTION_IDS]
        np.testing.assert_allclose(rows["present_value_usd"].loc[list(OPTION_IDS)], expected, rtol=1e-9)
        assert rows.index[rows["recommended"]].tolist() == ([one.recommendation] if one.recommendation else [])
    benchmark.extra_info["alone"] = alone
    record(f"sweep of {n:,} x {len(OPTION_IDS)} options x 36 months", median_s(), "s", below=2)
    record("the same once, in a fresh process", alone["seconds"], "s", below=2)
    record("peak memory of that process", alone["peak_mib"], "MiB", below=1024)
    record("memory after import, before the sweep", alone["baseline_mib"], "MiB")


def test_price_requests(benchmark: BenchmarkFixture, record: Record, median_s: Median) -> None:
    """A million requests at once against a loop over calc_price on every fiftieth of them, times fifty.

    Both price the same tiered model with cache reads and writes; one prompt in six is beyond the tier's cliff.
    The Usage objects are built outside the loop's time, and the loop counts at its fastest of three.
    """
    n, every = 1_000_000, 50
    rng = np.random.default_rng(20261201)
    prompt = 1 + rng.lognormal(11, 1.5, n).astype(np.int64)
    answer = rng.lognormal(5, 1, n).astype(np.int64)
    read, written = ((prompt * rng.uniform(0, high, n)).astype(np.int64) for high in (0.6, 0.3))
    requests = (prompt, answer, read, written)
    day = date(2026, 12, 1)
    usd = benchmark.pedantic(price_requests, ("openai/gpt-6.1-sol", *requests), {"on": day}, rounds=20, warmup_rounds=2)

    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    start = time.perf_counter()
    usages = [
        Usage(input_tokens=total, output_tokens=out, cache_read_tokens=hit, cache_write_tokens=put)
        for total, out, hit, put in zip(*(tokens[::every].tolist() for tokens in requests), strict=True)
    ]
    building_s = time.perf_counter() - start
    loops = []
    for _ in range(3 if benchmark.stats else 1):
        start = time.perf_counter()
        prices = [
            calc_price(usage, "gpt-6.1-sol", provider_id="openai", genai_request_timestamp=noon).total_price
            for usage in usages
        ]
        loops.append(time.perf_counter() - start)

    expected = np.array([float(price) for price in prices])
    off = np.abs(usd[::every] - expected)
    assert len(usd) == n
    assert off.max() < 1e-9, "a request differs from calc_price"
    assert np.array_equal(np.round(usd[::every], 2), np.round(expected, 2))
    assert round(usd[::every].sum(), 2) == round(float(sum(prices)), 2)
    benchmark.extra_info |= {
        "rows_compared": len(prices),
        "largest_difference_usd": float(off.max()),
        "loop_s": min(loops),
        "usage_objects_s": building_s,
    }
    record("1,000,000 requests priced at once", median_s(), "s")
    record(f"calc_price, {len(prices):,} of them x {every}", min(loops) * every, "s")
    record("times faster, equal to the cent", min(loops) * every / median_s(), "x", at_least=100)
