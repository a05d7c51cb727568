"""How long draws take, and how near they are to what is known exactly: `make bench`."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.special import betainc

from distillcalc import Catalog
from distillcalc.decide.table import compare
from distillcalc.decide.uncertainty import Uncertainty

ONCE = Path(__file__).with_name("uncertainty_once.py")
QUESTION = runpy.run_path(str(ONCE))
Record = Callable[..., None]
Median = Callable[[], float]


def assert_right(u: Uncertainty) -> None:
    """Odds add up, a gate is its posterior, and rows are what the deterministic calculator says of them."""
    assert abs(sum(u.probability_best.values()) + u.probability_none - 1) < 1e-9
    exact = 1 - betainc(465, 37, 0.9)  # 464 of 500
    assert abs(u.options["self-host"].gates["quality"] - exact) < 5 / u.draws**0.75
    arrays = u.space.arrays(u.levels)
    for i in (0, u.draws // 2, u.draws - 1):
        at = {name: [values[i]] for name, values in arrays.items()}
        table = compare(u.space.scenario, Catalog.load(), at, ("call-teacher", "self-host"))
        mine = [u.drawn.present_value_usd[i, u.column(option)] for option in ("call-teacher", "self-host")]
        np.testing.assert_allclose(mine, table.present_value_usd[0], rtol=1e-12)


def test_everything(benchmark: BenchmarkFixture, record: Record, median_s: Median) -> None:
    """65,536 draws x 6 options x 36 months: odds, percentiles by month, regret, tornado, indices, value of knowing."""
    scenario = QUESTION["question"]()
    u = benchmark.pedantic(QUESTION["everything"], (scenario,), rounds=5, warmup_rounds=1)
    assert u.draws == 65_536
    assert_right(u)
    alone = json.loads(subprocess.run([sys.executable, str(ONCE)], check=True, capture_output=True, text=True).stdout)
    record("65,536 draws x 6 options x 36 months, all figures", median_s(), "s", below=3)
    record("the same once, in a fresh process that has loaded its libraries", alone["seconds"], "s", below=3)
    record("peak memory of that process", alone["peak_mib"], "MiB", below=1536)


def test_preview(benchmark: BenchmarkFixture, record: Record, median_s: Median) -> None:
    """2,048 draws: the odds and the regret that a slider shows while it moves."""
    scenario = QUESTION["question"]()
    options, evpi_usd = benchmark.pedantic(QUESTION["preview"], (scenario,), rounds=30, warmup_rounds=3)
    assert set(options) == set(QUESTION["OPTIONS"])
    assert evpi_usd > 0
    assert_right(Uncertainty.of(scenario, draws=2_048))
    record("preview: 2,048 draws x 6 options x 36 months", median_s() * 1000, "ms", below=60)


def test_odds_settle(benchmark: BenchmarkFixture, record: Record) -> None:
    """Root mean square difference of P(best) from that of 65,536 draws, over eight seeds."""
    scenario = QUESTION["question"]()

    def odds(draws: int, seed: int) -> np.ndarray:
        return np.array(list(Uncertainty.of(scenario, draws=draws, seed=seed).probability_best.values()))

    settled = benchmark.pedantic(lambda: odds(65_536, 99), rounds=1)
    for draws in (512, 2_048, 8_192):
        off = np.array([odds(draws, seed) - settled for seed in range(8)])
        record(f"P(best) of {draws:,} draws is off by", float(np.sqrt(np.mean(off**2)) * 100), "percentage points")
