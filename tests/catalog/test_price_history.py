"""Dated changes of list prices: what genai-prices records, whose it is, and the prior that follows from it."""

from __future__ import annotations

import csv
from datetime import UTC, date, time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from genai_prices import data_snapshot
from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from distillcalc.catalog import Catalog
from distillcalc.catalog.price_history import makers_own, own_models, price_change_prior, price_changes
from distillcalc.errors import InputError

UNTIL = date(2026, 11, 24)
SHARED = Path(__file__).parents[3] / "shared/data/prices/genai_prices_yaml_2026-08-21.csv"


def of(provider: str, model: str) -> pd.DataFrame:
    table = price_changes()
    return table[(table.provider == provider) & (table.model == model)]


@pytest.mark.parametrize(
    ("provider", "model", "own"),
    [
        ("openai", "gpt-6-sol", True),
        ("deepseek", "deepseek-v4-pro", True),
        ("zai", "GLM-5.3-Flash", True),
        ("moonshotai", "kimi-k3", True),
        ("mistral", "pixtral-large", True),
        ("openai", "gpt-oss-120b", False),  # open weights: somebody else's price
        ("google", "claude-opus-4-6", False),
        ("mistral", "zai-glm-5-3", False),
        ("openrouter", "openai/gpt-6-sol", False),
        ("openrouter", "~anthropic/claude-opus-latest", False),
        ("quicksilverpro", "claude-opus-5", False),
        ("zhipuai", "GLM-5.3-Flash", False),  # the same model is zai's
        ("mistral", "mistral-medium-latest", False),  # not one model
        ("openai", "gpt-4o-mini-tts", False),
        ("openai", "text-embedding-3-small", False),
        ("openai", "ft:gpt-4o", False),
    ],
)
def test_whose_price_it_is(provider: str, model: str, own: bool) -> None:
    assert makers_own(provider, model) is own


def test_a_known_cut() -> None:
    # OpenAI's o3 fell from 10 / 40 to 2 / 8 USD per million tokens on 2025-06-10.
    row = of("openai", "o3").iloc[0]
    assert row.day == date(2025, 6, 10)
    assert (row.input_before, row.input_after, row.output_before, row.output_after) == (10, 2, 40, 8)
    assert row.ratio == pytest.approx(0.2)
    assert row.own


def test_a_blend_by_hand_and_tiers_alone_are_no_change() -> None:
    # gpt-5.6-sol: 5 / 30 to 4 / 20, so (3 x 4 + 20) / (3 x 5 + 30) = 32 / 45.
    assert of("openai", "gpt-5.6-sol").iloc[0].ratio == pytest.approx(32 / 45, abs=1e-6)
    assert of("anthropic", "claude-sonnet-4-6").iloc[0].ratio == 1  # its long-context tier went


def test_changes_since_a_day_are_those_of_all() -> None:
    every = price_changes()
    late = price_changes(date(2026, 8, 1))
    assert 0 < len(late) < len(every)
    pd.testing.assert_frame_equal(late, every[every.day >= date(2026, 8, 1)].reset_index(drop=True))


def test_resellers_are_told_apart_from_makers() -> None:
    table = price_changes()
    assert not table[table.provider.isin(["openrouter", "quicksilverpro", "avian"])].own.any()
    assert 10 < table.own.sum() < 0.2 * len(table)


def prices(into: str, out: str) -> ModelPrice:
    tiers = TieredPrices(base=Decimal(into), tiers=[])
    return ModelPrice(input_mtok=tiers, output_mtok=Decimal(out))


def listed(monkeypatch: pytest.MonkeyPatch, **models: Any) -> None:
    """A snapshot of one maker with these models."""
    made = [SimpleNamespace(id=name.replace("_", "-"), prices=p, deprecated=False) for name, p in models.items()]
    snapshot = SimpleNamespace(providers=[SimpleNamespace(id="openai", models=made)])
    monkeypatch.setattr(data_snapshot, "get_snapshot", lambda: snapshot)


def dated(day: date, into: str, out: str) -> ConditionalPrice:
    return ConditionalPrice(constraint=StartDateConstraint(start_date=day), prices=prices(into, out))


def test_a_prior_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ConditionalPrice(constraint=None, prices=prices("2", "10"))
    peak = TimeOfDateConstraint(start_time=time(8, tzinfo=UTC), end_time=time(16, tzinfo=UTC))
    by_hour = ConditionalPrice(constraint=peak, prices=prices("9", "9"))
    listed(
        monkeypatch,
        gpt_halved=[first, dated(date(2026, 3, 1), "2", "4"), dated(date(2026, 9, 1), "1", "5"), by_hour],
        gpt_before=[first, dated(date(2025, 11, 24), "1", "5")],
        gpt_to_come=[first, dated(date(2026, 11, 25), "1", "5")],
        gpt_steady=prices("1", "1"),
    )
    assert price_changes().model.tolist() == ["gpt-before", "gpt-halved", "gpt-halved", "gpt-to-come"]
    # One of four moved, to half: twice in a year of which each was on sale for a half, 1 - (3/4)^2 = 7/16.
    assert price_change_prior(UNTIL, 0.5) == {"discrete": {"values": [-0.5, 0.0], "weights": [0.4375, 0.5625]}}
    assert price_change_prior(UNTIL, 1)["discrete"]["weights"] == [0.25, 0.75]


@pytest.mark.parametrize("exposure", [0.0, -1.0, 1.5])
def test_an_exposure_out_of_bounds_is_refused(exposure: float) -> None:
    with pytest.raises(InputError, match="exposure_years must be above 0 and at most 1"):
        price_change_prior(UNTIL, exposure)


def test_the_catalogs_prior_is_what_the_snapshot_says() -> None:
    row = Catalog.load().priors["token_price_change_per_year"]
    found = price_change_prior(row.checked)
    assert row.distribution == found
    assert sum(found["discrete"]["weights"]) == pytest.approx(1, abs=2e-3)
    year = price_changes(date(2025, 11, 25))
    moved = year[year.own & (year.day <= UNTIL)].groupby(["provider", "model"]).ratio.prod()
    moved = moved[(moved - 1).abs() > 1e-6]
    assert (len(moved), (moved < 1).sum(), len(own_models())) == (9, 5, 199)  # as its evidence says
    assert "9 of 199 text models (5 fell" in row.evidence


@pytest.mark.skipif(not SHARED.exists(), reason="the price list of 2026-08-21 is not here")
def test_what_moved_between_two_dated_lists_is_what_is_dated() -> None:
    """A difference without a date is an entry that was put right; prices of days to come are none of that day's."""
    before: dict[tuple[str, str], tuple[float, float]] = {}
    with SHARED.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            into, out = row["input_usd_per_mtok"], row["output_usd_per_mtok"]
            if into and out and not row["time_of_day_utc"] and row["start_date"] <= "2026-08-21":
                before[row["provider"], row["model"]] = (float(into), float(out))
    both = [key for key in own_models() if key in before]
    changes = price_changes(date(2026, 8, 17))  # what was dated since the list's own newest row or is not in it
    last = {(r.provider, r.model): r for r in changes[changes.own & (changes.day <= UNTIL)].itertuples()}
    moved = [key for key in both if key in last and before[key] != (last[key].input_after, last[key].output_after)]
    assert len(both) == 109
    assert moved == [("deepseek", "deepseek-v4-flash"), ("deepseek", "deepseek-v4-pro"), ("openai", "gpt-5.6-sol")]
    assert round(1 - (1 - len(moved) / len(both)) ** (365 / 95), 2) == 0.10
