"""Cost ratios: computed by hand from the published prices, beside the article's claims; who is still alive."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest

from distillcalc.catalog import Catalog, RetirementRow
from distillcalc.catalog.ratios import CostRatio, cost_ratio, model_status, request_usd

CATALOG = Catalog.load()
DAY = date(2026, 11, 24)


@pytest.mark.parametrize(
    ("key", "computed", "claimed"),
    [
        # 3,000 tokens in and 1,000 out at the prices of FACTS, in USD per thousand requests
        ("gpt-5-mini", (3.75 + 10) / (0.75 + 2), 50),  # 13.75 / 2.75 = 5
        ("gpt-5-nano", (3.75 + 10) / (0.15 + 0.40), 100),  # 13.75 / 0.55 = 25
        ("gpt-4o-mini", (7.5 + 10) / (0.45 + 0.60), 60),  # 17.5 / 1.05 = 16.67
        ("gemini-2.5-flash", (3.75 + 10) / (0.90 + 2.50), 8),  # 13.75 / 3.4 = 4.04
        # Claude Haiku 4.5 at 1 and 5, 3.5 Haiku at 0.80 and 4, both Sonnets at 3 and 15 (anthropic.com/pricing)
        ("claude-4-haiku", (9 + 15) / (3 + 5), 8),  # 3
        ("claude-3.5-haiku", (9 + 15) / (2.4 + 4), 10),  # 3.75
    ],
)
def test_ratio_by_hand_beside_the_claim(key: str, computed: float, claimed: float) -> None:
    ratio = cost_ratio(CATALOG, CATALOG.models[key], DAY)
    assert ratio.computed == pytest.approx(computed)
    assert ratio.claimed == (claimed, claimed)


def test_the_two_ratios_that_the_facts_name() -> None:
    assert cost_ratio(CATALOG, CATALOG.models["gpt-5-mini"], DAY).computed == pytest.approx(5.0)
    assert cost_ratio(CATALOG, CATALOG.models["gpt-4o-mini"], DAY).computed == pytest.approx(16.67, abs=0.005)


def test_a_ratio_names_what_was_divided() -> None:
    ratio = cost_ratio(CATALOG, CATALOG.models["gpt-5-mini"], DAY)
    assert (ratio.student_ref, ratio.teacher_ref) == ("openai/gpt-5-mini", "openai/gpt-5")


def test_the_standard_request_by_hand() -> None:
    # gpt-5: 3,000 x 1.25 + 1,000 x 10 = 13,750 per million
    assert request_usd(CATALOG, "openai/gpt-5", DAY) == pytest.approx(0.01375)
    assert request_usd(CATALOG, "openai/text-embedding-3-small", DAY) is None
    assert request_usd(CATALOG, "nobody/nothing", DAY) is None


def test_a_ratio_is_of_the_day() -> None:
    # gemini-3.8-flash doubles on 2027-01-01; half the ratio from that day on, and not before
    row = CATALOG.models["gpt-5-mini"].model_copy(
        update={"price_refs": ["google/gemini-3.8-flash"], "teacher_price_ref": "openai/gpt-5"}
    )
    before, after = (cost_ratio(CATALOG, row, day).computed for day in (date(2026, 12, 31), date(2027, 1, 1)))
    assert before is not None
    assert after == pytest.approx(before / 2)


def test_without_a_teachers_price_there_is_a_claim_and_no_ratio() -> None:
    ratio = cost_ratio(CATALOG, CATALOG.models["gemini-2.0-flash"], DAY)
    assert ratio.computed is None
    assert ratio.claimed == (10, 10)


def test_weights_without_a_host_have_no_ratio() -> None:
    assert cost_ratio(CATALOG, CATALOG.models["qwen3-0.6b"], DAY) == CostRatio(None, None, None, None)


def test_a_free_student_has_no_ratio_rather_than_an_infinite_one() -> None:
    free = CATALOG.with_overrides({"token_prices": {"a/free": {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}}})
    row = CATALOG.models["gpt-5-mini"].model_copy(update={"price_refs": ["a/free"]})
    assert cost_ratio(free, row, DAY).computed is None


def test_a_living_host_is_compared_before_an_ended_one() -> None:
    row = CATALOG.models["deepseek-r1-distill-llama-70b"]
    end = CATALOG.shutdown(row.price_refs[0])
    assert end is not None
    assert end.on < DAY, "its first host has ended"
    assert cost_ratio(CATALOG, row, DAY).student_ref == row.price_refs[1]


# Status


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("gpt-5-mini", "ends 2026-12-11"),
        ("gpt-5-nano", "ends 2026-12-11"),
        ("gpt-4o-mini", "ends 2027-01-14"),
        ("gemini-2.0-flash", "ended 2026-06-01"),
        ("claude-3.5-haiku", "ended 2026-02-19"),
        ("qwen-turbo", "ended 2026-07-13"),
        ("gpt-5", "ends 2026-12-11"),
        ("gpt-4o", "ends 2027-01-14"),
        ("claude-sonnet-4", "ended 2026-06-15"),
        ("gpt-6-sol", "alive"),
        ("deepseek-r1", "alive"),
        ("qwen3", "family of 7"),
        ("qwen3-0.6b", "weights only"),
    ],
)
def test_status_on_the_day_of_the_tables(key: str, status: str) -> None:
    assert model_status(CATALOG, CATALOG.models[key], DAY) == status


def test_status_turns_on_the_day_itself() -> None:
    row = CATALOG.models["gpt-5-mini"]
    days = (date(2026, 12, 10), date(2026, 12, 11))
    assert [model_status(CATALOG, row, day) for day in days] == ["ends 2026-12-11", "ended 2026-12-11"]


def ended(*refs: str) -> Catalog:
    origin: dict[str, Any] = {"source": "a test", "checked": DAY, "confidence": "high"}
    rows = {}
    for i, ref in enumerate(refs):
        provider, _, model = ref.partition("/")
        rows[ref] = RetirementRow(**origin, provider=provider, model=model, what="shutdown", on=date(2027, 1, 1 + i))
    return dataclasses.replace(CATALOG, retirements=rows)


def test_open_weights_end_with_their_last_host() -> None:
    row = CATALOG.models["qwen3-8b"]
    first, second = row.price_refs
    assert model_status(ended(first), row, DAY) == "alive"
    assert model_status(ended(first, second), row, DAY) == "ends 2027-01-02"


def test_a_commercial_model_ends_with_its_maker() -> None:
    row = CATALOG.models["gemini-3.8-flash"]
    assert len(row.price_refs) > 1
    assert model_status(ended(row.price_refs[0]), row, DAY) == "ends 2027-01-01"
