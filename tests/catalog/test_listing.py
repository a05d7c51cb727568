"""Listings: every row of a table, complete in the JSON, and as a table that prints."""

from __future__ import annotations

import io
import json
from datetime import date
from typing import Any

import pytest
from rich.console import Console

from distillcalc.catalog import Catalog
from distillcalc.catalog.listing import COLUMNS, listing, listing_table

CATALOG = Catalog.load()
DAY = date(2026, 12, 1)
TABLES = list(COLUMNS)


def rows(table: str, **how: Any) -> list[dict[str, Any]]:
    return listing(CATALOG, table, on=DAY, **how)


def row(table: str, name: str, catalog: Catalog = CATALOG, on: date = DAY) -> dict[str, Any]:
    [found] = [r for r in listing(catalog, table, on=on, every=True) if r.get("id", r.get("ref")) == name]
    return found


def printed(table: str, found: list[dict[str, Any]], width: int = 400) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(listing_table(table, found))
    return out.getvalue()


@pytest.mark.parametrize("table", ["models", "gpus", "terms", "retirements"])
def test_every_row_is_listed_with_every_field(table: str) -> None:
    found = rows(table)
    assert [r["id"] for r in found] == list(getattr(CATALOG, table))
    for r in found:
        fields = getattr(CATALOG, table)[r["id"]].model_dump(mode="json")
        assert fields.items() <= r.items()


@pytest.mark.parametrize("table", TABLES)
def test_a_listing_is_json(table: str) -> None:
    assert json.loads(json.dumps(rows(table), allow_nan=False)) == rows(table)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_a_line_for_every_row_and_a_cell_for_every_heading(table: str) -> None:
    found = rows(table)
    shown = listing_table(table, found)
    assert shown.row_count == len(found) > 3
    assert [str(column.header) for column in shown.columns] == list(COLUMNS[table])
    assert all(len(list(column.cells)) == len(found) for column in shown.columns)
    text = printed(table, found)
    for heading in COLUMNS[table]:
        assert heading.split()[0] in text


@pytest.mark.parametrize("table", TABLES)
def test_nothing_found_is_an_empty_table(table: str) -> None:
    assert rows(table, like="no such thing") == []
    assert listing_table(table, []).row_count == 0


def test_like_is_a_part_of_the_name_in_any_case() -> None:
    found = [r["id"] for r in rows("models", like="QWEN3-")]
    assert "qwen3-8b" in found
    assert all("qwen3-" in name for name in found)


def test_markup_in_a_row_is_printed_as_it_is() -> None:
    own = CATALOG.with_overrides({"gpus": {"[bold]mine": {**GPU, "name": "x"}}})
    assert "[bold]mine" in printed("gpus", [row("gpus", "[bold]mine", own)])


GPU = {"name": "Mine", "memory_gb": 48, "bandwidth_gb_s": 900, "bf16_tflops": 300}


# Models


def test_a_model_shows_the_claim_and_the_computed_ratio_side_by_side() -> None:
    found = row("models", "gpt-5-mini")
    assert found["computed_cost_ratio"] == pytest.approx(5)
    assert found["claimed_cost_ratio"] == [50, 50]
    assert found["computed_from"] == ["openai/gpt-5", "openai/gpt-5-mini"]
    assert found["computed_on"] == "2026-12-01"
    text = printed("models", [found])
    for cell in ("gpt-5-mini", "50x", "5.0x", "82%", "ends 2026-12-11"):
        assert cell in text


def test_a_range_of_claims_is_a_range() -> None:
    assert "85%–95%" in printed("models", [row("models", "deepseek-r1-distill-qwen-32b")])


def test_what_is_not_known_is_a_dash_and_not_zero() -> None:
    text = printed("models", [row("models", "vicuna-13b")])
    assert "0.0x" not in text
    assert " - " in text


# Prices


def test_a_price_by_tier() -> None:
    found = row("prices", "google/gemini-2.5-pro")
    assert found["tiers_above_input_tokens"] == [0, 200_000]
    assert found["input_usd_per_mtok"] == [1.25, 2.5]
    assert found["cached_usd_per_mtok"] == [0.125, 0.25]
    assert found["output_usd_per_mtok"] == [10, 15]
    assert found["batch_input_usd_per_mtok"] == [0.625, 1.25]
    assert "1.25 / 2.5" in printed("prices", [found])


def test_a_price_with_its_end() -> None:
    found = row("prices", "openai/gpt-5")
    assert found["shutdown"] == "2026-12-11"
    assert "ends 2026-12-11" in printed("prices", [found])
    assert row("prices", "openai/gpt-6-sol")["shutdown"] is None


def test_no_batch_price_is_none_and_not_the_standard_price() -> None:
    found = row("prices", "anthropic/claude-sonnet-4-0")
    assert found["batch_input_usd_per_mtok"] is None
    assert found["batch_output_usd_per_mtok"] is None
    assert row("prices", "openai/gpt-5", on=date(2026, 1, 1))["batch_input_usd_per_mtok"] is None


def test_prices_are_those_of_the_catalogs_models_or_all() -> None:
    named = {ref for model in CATALOG.models.values() for ref in model.price_refs}
    assert {r["ref"] for r in rows("prices")} == named
    every = {r["ref"] for r in rows("prices", every=True)}
    assert len(every) > 1_000
    assert "openai/text-embedding-3-small" not in every, "it has no price per output token"


def test_an_own_price_is_listed_first() -> None:
    own = CATALOG.with_overrides({"token_prices": {"a/b": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4}}})
    first = listing(own, "prices", on=DAY)[0]
    assert (first["ref"], first["input_usd_per_mtok"], first["output_usd_per_mtok"]) == ("a/b", [1], [4])


# GPUs


def test_a_gpu_shows_its_cheapest_rental_by_commitment() -> None:
    found = row("gpus", "h100-sxm")
    best = CATALOG.rental("h100-sxm", "on-demand", gpus=8)
    assert best is not None
    assert found["rental"]["on-demand"]["usd_per_gpu_hour"] == best.usd_per_gpu_hour
    assert f"{best.usd_per_gpu_hour:g} ({best.provider})" in printed("gpus", [found])


def test_a_rental_of_eight_gpus_is_one_to_choose_from() -> None:
    offer = {"gpu": "mine", "provider": "ones", "commitment": "spot", "usd_per_gpu_hour": 3}
    eights = {**offer, "provider": "eights", "usd_per_gpu_hour": 2, "min_gpus": 8}
    own = CATALOG.with_overrides({"gpus": {"mine": GPU}, "gpu_prices": {"a": offer, "b": eights}})
    assert row("gpus", "mine", own)["rental"]["spot"]["provider"] == "eights"


def test_a_gpu_nobody_rents_out_shows_a_dash() -> None:
    own = CATALOG.with_overrides({"gpus": {"mine": GPU}})
    assert set(row("gpus", "mine", own)["rental"].values()) == {None}
