"""The catalog's priors: each is a distribution, and the one of token prices is what two dated lists say."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TieredPrices

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError
from distillcalc.workload.distributions import Distribution

SHARED = Path(__file__).parents[3] / "shared/data/prices/genai_prices_yaml_2026-08-21.csv"
MAKERS = {
    "openai",
    "anthropic",
    "google",
    "mistral",
    "deepseek",
    "x-ai",
    "zai",
    "cohere",
    "moonshotai",
    "minimax",
    "aws",
}
FIRST, SECOND = date(2026, 8, 21), date(2026, 11, 24)


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


@pytest.mark.skipif(not SHARED.exists(), reason="the price list of 2026-08-21 is not here")
def test_token_prices_of_one_model_between_two_dated_lists() -> None:
    def base(value: object) -> float | None:
        return None if value is None else float(value.base if isinstance(value, TieredPrices) else value)  # type: ignore[arg-type]

    with SHARED.open() as stream:
        before = {(row["provider"], row["model"]): row for row in csv.DictReader(stream)}
    ratios = []
    for provider in get_snapshot().providers:
        for model in provider.models if provider.id in MAKERS else ():
            row = before.get((provider.id, model.id))
            if not row or not row["input_usd_per_mtok"] or not row["output_usd_per_mtok"] or row["time_of_day_utc"]:
                continue
            prices = model.get_prices(datetime(SECOND.year, SECOND.month, SECOND.day, 12, tzinfo=UTC), None)
            into, out = base(prices.input_mtok), base(prices.output_mtok)
            if into is not None and out is not None:
                old = 3 * float(row["input_usd_per_mtok"]) + float(row["output_usd_per_mtok"])
                ratios.append((3 * into + out) / old)
    changed = sorted(ratio - 1 for ratio in ratios if abs(ratio - 1) > 1e-6)
    days = (SECOND - FIRST).days
    stays = (1 - len(changed) / len(ratios)) ** (365 / days)
    prior = Catalog.load().priors["token_price_change_per_year"].distribution["discrete"]
    told = dict(zip(prior["values"], prior["weights"], strict=True))
    assert (len(ratios), len(changed), days) == (176, 12, 95)
    assert told[0.0] == pytest.approx(stays, abs=1e-3)
    each = (1 - stays) / len(changed)
    for change in {round(c, 2) for c in changed}:
        count = sum(round(c, 2) == change for c in changed)
        assert told[change] == pytest.approx(count * each, abs=2e-4), change
    assert len(told) == len({round(c, 2) for c in changed}) + 1
