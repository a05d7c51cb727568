"""The catalog's priors: each is a distribution with its evidence. That of token prices: test_price_history."""

from __future__ import annotations

from math import log2
from statistics import mean, stdev

import pytest

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError
from distillcalc.workload.distributions import Distribution


def test_every_prior_is_a_distribution_with_its_evidence() -> None:
    priors = Catalog.load().priors
    assert {"student_retention", "token_price_change_per_year", "growth_per_month", "escalation_rate"} <= set(priors)
    assert {"training_mfu", "engineering_hours", "requests_per_day"} <= set(priors)
    for name, row in priors.items():
        assert Distribution.of(row.distribution).median == pytest.approx(Distribution.of(row.distribution).median)
        assert len(row.evidence) > 20, name
        assert row.confidence == "low" or not row.source.startswith("assumed"), name


def test_a_prior_that_is_no_distribution_is_refused() -> None:
    with pytest.raises(InputError, match=r"priors\.growth_per_month.*low <= mode <= high"):
        Catalog.load({"priors": {"growth_per_month": {"distribution": {"triangular": [3, 2, 4]}}}})


def test_what_the_evidence_says_of_retention_is_in_the_catalog() -> None:
    scores = [
        (row.params_b, name, share)
        for row in Catalog.load().models.values()
        if row.params_b
        for name, share in row.retention.items()
    ]
    large = [share for size, _, share in scores if size > 13]
    middle = [(name, share) for size, name, share in scores if 7 < size < 9]
    assert (len(large), len(middle)) == (15, 8)
    assert (round(mean(large), 2), round(stdev(large), 2)) == (0.90, 0.05)
    assert sorted(share for name, share in middle if name == "math500") == [0.916, 0.954]
    others = [share for name, share in middle if name != "math500"]
    assert (min(others), max(others)) == (0.571, 0.695)
    models = Catalog.load().models
    big, small = (models[f"deepseek-r1-distill-qwen-{size}b"] for size in ("7", "1.5"))
    assert big.params_b
    assert small.params_b
    halvings = log2(big.params_b / small.params_b)
    losses = {name: (big.retention[name] - small.retention[name]) / halvings for name in big.retention}
    assert {name: round(loss, 2) for name, loss in losses.items()} == {
        "math500": 0.04,
        "gpqa_diamond": 0.10,
        "aime2024": 0.16,
        "livecodebench": 0.15,
    }


def test_dated_pairs_of_one_rental_rose() -> None:
    rows = Catalog.load().gpu_prices
    names = [name.removesuffix("-2026-11") for name in rows if name.endswith("-2026-11") and name.startswith("runpod")]
    rises = [rows[f"{name}-2026-11"].usd_per_gpu_hour / rows[name].usd_per_gpu_hour - 1 for name in names]
    days = {(rows[f"{name}-2026-11"].checked - rows[name].checked).days for name in names}
    assert (len(rises), days) == (3, {45})
    assert 0.12 < min(rises) <= max(rises) < 0.15


def test_the_error_of_a_step_time_is_that_of_the_engines() -> None:
    catalog = Catalog.load()
    factor = catalog.engines["vllm"].tpot_factor
    told = Distribution.of(catalog.priors["step_time_factor"].distribution)
    assert told.median == pytest.approx(1, abs=1e-3)
    assert float(told.quantile(0.95)) == pytest.approx(factor, abs=1e-3)
    assert float(told.quantile(0.05)) == pytest.approx(1 / factor, abs=1e-3)


def test_two_projects_of_three_take_longer_than_estimated() -> None:
    told = Distribution.of(Catalog.load().priors["engineering_hours"].distribution)
    assert float(told.quantile(0.33)) < 1 < float(told.quantile(0.35))  # 60 to 80% of surveyed projects
