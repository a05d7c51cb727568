"""Token prices: published figures, tiers, genai-prices' own sum, look-alikes, dates, hours, batch, expectations."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from genai_prices import Usage, calc_price
from genai_prices.types import StartDateConstraint, TimeOfDateConstraint
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from distillcalc.catalog import Catalog, TokenPriceOverride, TokenPrices, price_requests
from distillcalc.catalog.names import all_refs, find, package_version, split_ref
from distillcalc.catalog.prices import has_batch_price, token_prices
from distillcalc.errors import InputError, MissingPrice, UnknownName
from distillcalc.provenance import Provenance
from distillcalc.workload.lengths import LognormalLengths, Points, SampledLengths
from tests.workload.strategies import numbers

Floats = NDArray[np.float64]
DAY = date(2026, 12, 1)
NOON = datetime(2026, 12, 1, 12, 1, tzinfo=UTC)


def theirs(
    ref: str,
    total: int,
    out: int,
    read: int = 0,
    written: int = 0,
    *,
    batch: bool = False,
    at: datetime = NOON,
) -> float:
    """genai-prices' own sum [USD]."""
    provider, _, model = ref.partition("/")
    usage = Usage(input_tokens=total, output_tokens=out, cache_read_tokens=read, cache_write_tokens=written)
    context = {"processing": "batch"} if batch else None
    found = calc_price(usage, model, provider_id=provider, genai_request_timestamp=at, price_context=context)
    return float(found.total_price)


def made_up(
    thresholds: list[float], rows: dict[str, list[list[float]]], request_usd: list[float] | None = None
) -> TokenPrices:
    months = len(rows["input"])
    return TokenPrices(
        "house/model",
        np.array(thresholds),
        **{name: np.array(values, dtype=float) for name, values in rows.items()},
        request_usd=np.array(request_usd or [0.0] * months),
        provenance=Provenance("given", "a test"),
    )


TWO_TIERS = made_up(
    [0, 1000],
    {"input": [[2, 4]], "cached": [[0.2, 0.4]], "cache_write": [[2.5, 5]], "output": [[8, 12]]},
)


# Published prices


@pytest.mark.parametrize(
    ("ref", "prices"),
    [
        # FACTS, token prices: genai-prices 0.2.3, USD per million tokens, input / cached / output
        ("openai/gpt-5", (1.25, 0.125, 10)),
        ("openai/gpt-5-mini", (0.25, 0.025, 2)),
        ("openai/gpt-5-nano", (0.05, 0.005, 0.40)),
        ("openai/gpt-4o", (2.5, 1.25, 10)),
        ("openai/gpt-4o-mini", (0.15, 0.075, 0.60)),
        ("google/gemini-2.5-pro", (1.25, 0.125, 10)),
        ("google/gemini-2.5-flash", (0.30, 0.03, 2.50)),
        ("anthropic/claude-sonnet-4-0", (3, 0.30, 15)),
    ],
)
def test_published_prices(ref: str, prices: tuple[float, float, float]) -> None:
    found = token_prices(ref, DAY)
    assert (found.input[0, 0], found.cached[0, 0], found.output[0, 0]) == pytest.approx(prices)
    assert found.provenance == Provenance("catalog", f"genai-prices {package_version()}, {ref}")


def test_a_request_by_hand() -> None:
    # gpt-5: 3,000 in at 1.25 and 1,000 out at 10 per million: 0.00375 + 0.01 = 0.01375
    assert price_requests("openai/gpt-5", 3_000, 1_000, on=DAY) == pytest.approx(0.01375)
    # 2,000 of the prompt from the cache at 0.125: 0.00125 + 0.00025 + 0.01 = 0.0115
    assert price_requests("openai/gpt-5", 3_000, 1_000, 2_000, on=DAY) == pytest.approx(0.0115)


def test_a_cache_write_by_hand() -> None:
    # claude-sonnet-4 writes at 1.25 x 3 = 3.75: 1,000 plain, 2,000 written, 500 out at 15:
    # 0.003 + 0.0075 + 0.0075 = 0.018
    assert price_requests("anthropic/claude-sonnet-4-0", 3_000, 500, 0, 2_000, on=DAY) == pytest.approx(0.018)


def test_a_fee_per_request_by_hand() -> None:
    # sonar: 1 and 1 per million and 12 USD per thousand requests: 0.001 + 0.0001 + 0.012
    assert price_requests("perplexity/sonar", 1_000, 100, on=DAY) == pytest.approx(0.0131)


# Tiers are cliffs


@pytest.mark.parametrize(
    ("tokens", "usd"),
    [
        # gemini-2.5-pro: 1.25 up to and with 200,000 tokens, then 2.5 for all of them; 1,000 out at 10, then at 15
        (199_999, 199_999 * 1.25e-6 + 0.010),
        (200_000, 200_000 * 1.25e-6 + 0.010),
        (200_001, 200_001 * 2.50e-6 + 0.015),
    ],
)
def test_past_200_000_tokens_every_token_is_repriced(tokens: int, usd: float) -> None:
    assert price_requests("google/gemini-2.5-pro", tokens, 1_000, on=DAY) == pytest.approx(usd, rel=1e-12)
    assert theirs("google/gemini-2.5-pro", tokens, 1_000) == pytest.approx(usd, rel=1e-12)


def test_the_whole_prompt_decides_the_tier_not_its_uncached_part() -> None:
    usd = price_requests("google/gemini-2.5-pro", 200_001, 0, 200_000, on=DAY)
    # 1 token at 2.5 and 200,000 cached at 0.25, not at 0.125
    assert usd == pytest.approx(2.5e-6 + 0.05)


def test_two_tiers_by_hand() -> None:
    usd = TWO_TIERS.price([1000, 1001], [10, 10], [100, 100], [50, 50])
    # 850 x 2 + 100 x 0.2 + 50 x 2.5 + 10 x 8 = 1700 + 20 + 125 + 80 = 1,925 per million
    # 851 x 4 + 100 x 0.4 + 50 x 5 + 10 x 12 = 3404 + 40 + 250 + 120 = 3,814 per million
    assert usd == pytest.approx([1.925e-3, 3.814e-3])


# Agreement with genai-prices


def constraints(ref: str) -> list[Any]:
    """On what the model's price depends, None for a price that holds otherwise."""
    _, model = find(ref)
    return [price.constraint for price in model.prices] if isinstance(model.prices, list) else []


def comparable(ref: str) -> bool:
    """Whether calc_price takes the name, and one request's price is the day's: no hour changes it."""
    provider, model = find(ref)
    timed = any(isinstance(constraint, TimeOfDateConstraint) for constraint in constraints(ref))
    return provider.find_model(model.id) is model and not timed


def priced(ref: str, day: date, **how: Any) -> TokenPrices | None:
    try:
        return token_prices(ref, day, **how)
    except MissingPrice:
        return None


@pytest.mark.parametrize("processing", ["standard", "batch"])
@pytest.mark.parametrize("day", [date(2026, 10, 20), DAY, date(2027, 2, 1)])
def test_the_sum_is_genai_prices_own_over_all_its_models(processing: Any, day: date) -> None:
    rng = np.random.default_rng(day.toordinal())
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    compared = 0
    for ref in rng.permutation([ref for ref in all_refs() if comparable(ref)]):
        prices = priced(str(ref), day, processing=processing)
        if prices is None:
            continue
        total = int(rng.choice([rng.integers(0, 5_000), rng.integers(0, 1_000_000), 200_000, 200_001, 272_001]))
        read = int(rng.integers(0, total + 1))
        written = int(rng.integers(0, total - read + 1))
        out = int(rng.integers(0, 50_000))
        want = theirs(str(ref), total, out, read, written, batch=processing == "batch", at=at)
        assert prices.price(total, out, read, written) == pytest.approx(want, rel=1e-9, abs=1e-15), ref
        compared += 1
    assert compared > (1_500 if processing == "standard" else 80)


usages = st.integers(0, 600_000).flatmap(
    lambda total: st.tuples(
        st.just(total), st.integers(0, 100_000), st.integers(0, total // 2), st.integers(0, total // 2)
    )
)


@given(
    ref=st.sampled_from(
        [
            "openai/gpt-6-sol",
            "openai/gpt-4o-mini",
            "google/gemini-2.5-pro",
            "anthropic/claude-haiku-5-5",
            "x-ai/grok-4.20",
            "azure/gpt-4o",
            "perplexity/sonar",
        ]
    ),
    rows=st.lists(usages, min_size=1, max_size=8),
)
def test_any_usage_costs_what_genai_prices_says(ref: str, rows: list[tuple[int, int, int, int]]) -> None:
    usd = price_requests(ref, *map(np.array, zip(*rows, strict=True)), on=DAY)
    assert usd.shape == (len(rows),)
    assert usd == pytest.approx([theirs(ref, *row) for row in rows], rel=1e-9, abs=1e-15)


def test_the_scalar_call_is_the_array_call() -> None:
    one = price_requests("google/gemini-2.5-pro", 250_000, 1_000, 5_000, on=DAY)
    assert one.shape == ()
    many = price_requests("google/gemini-2.5-pro", [250_000, 10], [1_000, 5], [5_000, 0], on=DAY)
    assert many[0] == one
    assert price_requests("google/gemini-2.5-pro", [], [], on=DAY).shape == (0,)


@pytest.mark.parametrize(
    "tokens", [(-1, 5, 0, 0), (5, -1, 0, 0), (5, 5, -1, 0), (5, 5, 0, -1)], ids=["input", "output", "cached", "written"]
)
def test_negative_tokens_are_refused(tokens: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="at least 0"):
        TWO_TIERS.price(*tokens)


@pytest.mark.parametrize(("read", "written"), [(101, 0), (0, 101), (60, 41)])
def test_more_cached_than_sent_is_refused(read: int, written: int) -> None:
    with pytest.raises(InputError, match="must not exceed input_tokens"):
        TWO_TIERS.price(100, 5, read, written)


# Names


def test_an_alias_that_is_spelt_out_is_its_model() -> None:
    assert find("openai/gpt-5-2025-08-07")[1].id == "gpt-5"
    assert find("openai/GPT-5")[1].id == "gpt-5"


@pytest.mark.parametrize(
    ("ref", "near"),
    [
        ("openai/gpt-5-turbo", "openai/gpt-5-pro"),
        ("openai/gpt-5-min", "openai/gpt-5-mini"),
        ("anthropic/claude-sonet-4-0", "anthropic/claude-sonnet-4-0"),
    ],
)
def test_an_unknown_model_gets_near_names(ref: str, near: str) -> None:
    with pytest.raises(UnknownName) as error:
        find(ref)
    assert near in error.value.near
    assert f'[overrides.token_prices."{ref}"]' in str(error.value)


@pytest.mark.parametrize(
    ("ref", "priced_as"),
    [
        ("google/gemini-2.5-pro-ultra", "google/gemini-2.5-pro"),
        ("anthropic/claude-sonnet-4-5-extended", "anthropic/claude-sonnet-4-5"),
        ("deepseek/deepseek-v4-flash-max", "deepseek/deepseek-v4-flash"),
        ("openai/ft:gpt-4o-mini-2024-07-18:acme", "openai/ft:gpt-4o-mini"),
    ],
)
def test_a_prefix_look_alike_is_refused_and_named(ref: str, priced_as: str) -> None:
    assert theirs(ref, 10, 10) > 0  # genai-prices would answer
    with pytest.raises(UnknownName, match=f"genai-prices would price it as {priced_as};"):
        find(ref)


def test_an_unknown_provider_is_the_part_before_the_slash() -> None:
    with pytest.raises(UnknownName, match=r"unknown provider 'opanai'\. Did you mean openai"):
        find("opanai/gpt-5")


@pytest.mark.parametrize("ref", ["gpt-5", "/gpt-5", "openai/", "", "/"])
def test_a_ref_is_provider_slash_model(ref: str) -> None:
    with pytest.raises(InputError, match="provider/model"):
        split_ref(ref)


def test_a_ref_is_split_at_its_first_slash() -> None:
    assert split_ref("together/Qwen/Qwen3-8B") == ("together", "Qwen/Qwen3-8B")


def test_every_ref_that_is_listed_can_be_found() -> None:
    for ref in all_refs():
        provider, model = find(ref)
        assert f"{provider.id}/{model.id}" == ref


def test_a_resold_model_says_whose_price_it_is() -> None:
    resold, own = token_prices("azure/gpt-4o", DAY), token_prices("openai/gpt-4o", DAY)
    assert resold.provenance.source.endswith("azure/gpt-4o (price of the model's maker, which this provider resells)")
    assert resold.price(3_000, 1_000) == own.price(3_000, 1_000)
    assert "resells" not in own.provenance.source


# No price


def test_a_model_without_output_price_has_no_price() -> None:
    with pytest.raises(MissingPrice, match=r"no token price known for openai/text-embedding-3-small"):
        token_prices("openai/text-embedding-3-small", DAY)


# Batch


def test_batch_price_by_hand() -> None:
    # gpt-4o-mini delayed: 0.075 and 0.30 per million, half of the standard price
    usd = price_requests("openai/gpt-4o-mini", 1_000_000, 1_000_000, on=DAY, processing="batch")
    assert usd == pytest.approx(0.375)
    assert usd == pytest.approx(price_requests("openai/gpt-4o-mini", 1_000_000, 1_000_000, on=DAY) / 2)


@pytest.mark.parametrize("ref", ["anthropic/claude-sonnet-4-0", "perplexity/sonar", "azure/gpt-6-luna"])
def test_an_absent_batch_price_is_not_the_standard_price(ref: str) -> None:
    assert not has_batch_price(ref)
    assert theirs(ref, 1_000, 10, batch=True) == theirs(ref, 1_000, 10)  # genai-prices would answer
    with pytest.raises(MissingPrice, match=f"no batch price known for {ref}$"):
        token_prices(ref, DAY, processing="batch")


def test_a_batch_price_is_not_known_before_its_first_day() -> None:
    _, model = find("openai/gpt-4o-mini")
    [first] = [
        variant.constraint.start_date
        for variant in model.price_variants or []
        if variant.when == {"processing": "batch"} and isinstance(variant.constraint, StartDateConstraint)
    ]
    before = date.fromordinal(first.toordinal() - 1)
    assert has_batch_price("openai/gpt-4o-mini", first)
    assert not has_batch_price("openai/gpt-4o-mini", before)
    assert token_prices("openai/gpt-4o-mini", first, processing="batch").input[0, 0] == pytest.approx(0.075)
    with pytest.raises(MissingPrice, match=f"no batch price known for openai/gpt-4o-mini on {before}"):
        token_prices("openai/gpt-4o-mini", before, processing="batch")


# Dates and hours


def changes() -> list[tuple[str, date]]:
    """Models that change their price, with the day of the last change."""
    found = []
    for ref in all_refs():
        days = [constraint.start_date for constraint in constraints(ref) if isinstance(constraint, StartDateConstraint)]
        if days and comparable(ref):
            found.append((ref, max(days)))
    return found


def test_a_dated_change_inside_the_horizon_is_seen_in_its_month() -> None:
    # gemini-3.8-flash doubles on 2027-01-01 (genai-prices 0.2.3): 0.75 in December, 1.50 from January on
    found = token_prices("google/gemini-3.8-flash", date(2026, 12, 1), 3)
    assert found.input[:, 0] == pytest.approx([0.75, 1.5, 1.5])
    assert found.output[:, 0] == pytest.approx([3.75, 7.5, 7.5])
    usd = [float(found.price(1_000_000, 0, month=month)) for month in range(3)]
    assert usd == pytest.approx([0.75, 1.5, 1.5])


def test_a_month_is_priced_at_its_middle() -> None:
    # From 2026-12-20 the first month's middle is 2027-01-04, after the change; from 2026-12-10 it is 12-25, before.
    assert token_prices("google/gemini-3.8-flash", date(2026, 12, 20), 1).input[0, 0] == pytest.approx(1.5)
    assert token_prices("google/gemini-3.8-flash", date(2026, 12, 10), 2).input[:, 0] == pytest.approx([0.75, 1.5])


@pytest.mark.parametrize(("ref", "change"), changes()[::20])
def test_a_days_price_is_that_days(ref: str, change: date) -> None:
    for day in (date.fromordinal(change.toordinal() - 1), change):
        at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        prices = priced(ref, day)
        if prices is not None:
            want = theirs(ref, 12_345, 678, 90, at=at)
            assert prices.price(12_345, 678, 90) == pytest.approx(want, rel=1e-9), day
            assert price_requests(ref, 12_345, 678, 90, on=day) == pytest.approx(want, rel=1e-9), day


def test_hours_of_the_day_are_averaged_by_hand() -> None:
    # deepseek-flash doubles from 01:00 to 04:00 and from 06:00 to 10:00 UTC: 7 of 24 hours, so a flat day
    # pays 1 + 7/24 times the price of noon; traffic at noon only pays that, at 02:00 only twice that.
    ref = "deepseek/deepseek-flash"
    noon = float(find(ref)[1].get_prices(NOON).input_mtok)
    assert token_prices(ref, DAY).input[0, 0] == pytest.approx(noon * (1 + 7 / 24))

    def only(hour: int) -> tuple[float, ...]:
        return tuple(1.0 if h == hour else 0.0 for h in range(24))

    at = {hour: token_prices(ref, DAY, hour_weights=only(hour)).input[0, 0] / noon for hour in (0, 1, 3, 4, 6, 9, 10)}
    assert at == pytest.approx({0: 1, 1: 2, 3: 2, 4: 1, 6: 2, 9: 2, 10: 1})


def test_hour_weights_are_shares_of_requests() -> None:
    # Three requests at noon for one at 02:00: (3 x 1 + 1 x 2) / 4 = 1.25 times the price of noon
    ref = "deepseek/deepseek-flash"
    weights = tuple({2: 1.0, 12: 3.0}.get(hour, 0.0) for hour in range(24))
    flat, noon = token_prices(ref, DAY, hour_weights=weights), find(ref)[1].get_prices(NOON)
    assert flat.output[0, 0] == pytest.approx(1.25 * float(noon.output_mtok))
    assert flat.cached[0, 0] == pytest.approx(1.25 * float(noon.cache_read_mtok))


def test_hour_weights_do_not_touch_a_price_without_hours() -> None:
    weights = tuple(float(hour) for hour in range(24))
    with_weights = token_prices("openai/gpt-5", DAY, hour_weights=weights)
    assert with_weights.input[0, 0] == token_prices("openai/gpt-5", DAY).input[0, 0]


# The user's own price


OWN = TokenPriceOverride(input_usd_per_mtok=1, output_usd_per_mtok=4)


def test_an_own_price_holds_for_every_month() -> None:
    found = token_prices("openai/gpt-5", DAY, 3, overrides={"openai/gpt-5": OWN})
    assert found.input.tolist() == found.cached.tolist() == found.cache_write.tolist() == [[1], [1], [1]]
    assert found.output.tolist() == [[4], [4], [4]]
    assert found.provenance.kind == "given"


def test_an_own_price_needs_no_list_price() -> None:
    found = token_prices("house/own-model", DAY, overrides={"house/own-model": OWN})
    # 1,000 x 1 + 100 x 4 = 1,400 per million
    assert found.price(1_000, 100) == pytest.approx(0.0014)


def test_own_cached_and_batch_prices() -> None:
    own = TokenPriceOverride(
        input_usd_per_mtok=1,
        output_usd_per_mtok=4,
        cached_input_usd_per_mtok=0.1,
        cache_write_usd_per_mtok=1.25,
        batch_input_usd_per_mtok=0.5,
        batch_output_usd_per_mtok=2,
    )
    standard = token_prices("a/b", DAY, overrides={"a/b": own})
    # 500 x 1 + 300 x 0.1 + 200 x 1.25 + 100 x 4 = 500 + 30 + 250 + 400 = 1,180 per million
    assert standard.price(1_000, 100, 300, 200) == pytest.approx(0.00118)
    batch = token_prices("a/b", DAY, processing="batch", overrides={"a/b": own})
    # 1,000 x 0.5 + 100 x 2 = 700 per million
    assert batch.price(1_000, 100) == pytest.approx(0.0007)


@pytest.mark.parametrize("half", [{}, {"batch_input_usd_per_mtok": 0.5}, {"batch_output_usd_per_mtok": 2}])
def test_half_an_own_batch_price_is_none(half: dict[str, float]) -> None:
    own = TokenPriceOverride(input_usd_per_mtok=1, output_usd_per_mtok=4, **half)
    with pytest.raises(MissingPrice, match="no batch price given for a/b"):
        token_prices("a/b", DAY, processing="batch", overrides={"a/b": own})
    given_one = Catalog.load({"token_prices": {"a/b": own.model_dump(exclude_none=True)}})
    assert not given_one.has_batch_price("a/b")


@pytest.mark.parametrize("price", [-1, math.inf, math.nan])
def test_an_own_price_is_a_number(price: float) -> None:
    with pytest.raises(ValidationError, match="input_usd_per_mtok"):
        TokenPriceOverride(input_usd_per_mtok=price, output_usd_per_mtok=4)


# The expected cost of a request


def column(*values: float) -> Floats:
    return np.array(values, dtype=float)[:, None]


def sampled(points: Points) -> SampledLengths:
    means = points.means
    return SampledLengths(points, column(means[0]), column(means[1]))


def total(items: dict[str, Floats]) -> Floats:
    return np.asarray(sum(items.values()))


def test_expected_cost_of_fixed_lengths_by_hand() -> None:
    fixed = LognormalLengths(column(1_000), column(100), 0.0, 0.0, 0.0)
    items = TWO_TIERS.per_request(
        fixed, prefix_tokens=column(800), hit_share=0.75, write_share=0.25, reasoning_tokens=50
    )
    # Three in four read the prefix of 800, one in four writes it: 200 x 2, 600 x 0.2, 200 x 2.5, 100 x 8, 50 x 8
    assert {item: usd.item() * 1e6 for item, usd in items.items()} == pytest.approx(
        {"input_tokens": 400, "cached_tokens": 120, "cache_writes": 500, "output_tokens": 800, "reasoning_tokens": 400}
    )


def test_a_prefix_longer_than_the_prompt_is_the_prompt() -> None:
    # Half of the requests have 400 tokens, half 2,000; the prefix is 1,000 and always hit: cached 400 at 0.2 and
    # 1,000 at 0.4 (the longer is in the dearer tier), in full only 1,000 at 4: (80 + 400) / 2 and 4,000 / 2.
    items = TWO_TIERS.per_request(sampled(Points.of([400, 2_000], [0, 0])), prefix_tokens=column(1_000), hit_share=1.0)
    assert items["cached_tokens"].item() * 1e6 == pytest.approx(240)
    assert items["input_tokens"].item() * 1e6 == pytest.approx(2_000)


def test_without_a_prefix_nothing_is_cached() -> None:
    lengths = LognormalLengths(column(800, 900), column(100, 100), 0.6, 0.8, 0.2)
    plain = TWO_TIERS.per_request(lengths, hit_share=0.9)
    assert not {"cached_tokens", "cache_writes"} & set(plain)
    no_prefix = TWO_TIERS.per_request(lengths, prefix_tokens=column(0, 0), hit_share=0.9)
    assert total(no_prefix) == pytest.approx(total(plain), rel=1e-12)


def test_hits_may_differ_by_month_and_prefixes_by_scenario() -> None:
    rows = {"input": [[2], [2]], "cached": [[0.2], [0.2]], "cache_write": [[2], [2]], "output": [[8], [8]]}
    lengths = LognormalLengths(column(1_000, 1_000), column(0, 0), 0.0, 0.0, 0.0)
    items = made_up([0], rows).per_request(
        lengths, prefix_tokens=column(500, 800), hit_share=np.array([[0.5, 1.0], [0.5, 1.0]])
    )
    # 250, 500 and 400, 800 tokens cached
    assert items["cached_tokens"] * 1e6 == pytest.approx(np.array([[50, 100], [80, 160]]))
    assert items["input_tokens"] * 1e6 == pytest.approx(np.array([[1500, 1000], [1200, 400]]))


def test_expected_cost_over_a_tier_by_hand() -> None:
    # Three of four requests have 500 tokens in and 10 out, one 2,000 and 50:
    # input (3 x 500 x 2 + 2,000 x 4) / 4 = 2,750; output (3 x 10 x 8 + 50 x 12) / 4 = 210 per million.
    # At the mean lengths of 875 and 20 it would be 1,750 + 160.
    items = TWO_TIERS.per_request(sampled(Points.of([500, 2_000], [10, 50], [3, 1])))
    assert items["input_tokens"].item() == pytest.approx(2.75e-3)
    assert items["output_tokens"].item() == pytest.approx(2.1e-4)


def test_the_fee_is_charged_once_a_request_and_month_by_month() -> None:
    rows = {"input": [[1], [1]], "cached": [[1], [1]], "cache_write": [[1], [1]], "output": [[1], [1]]}
    prices = made_up([0], rows, request_usd=[0.01, 0.02])
    items = prices.per_request(LognormalLengths(column(1, 2), column(1, 2), 0.5, 0.5, 0.0))
    assert items["request_fee"].tolist() == [[0.01, 0.02]]
    assert items["input_tokens"].shape == (2, 2)
    assert "request_fee" not in TWO_TIERS.per_request(LognormalLengths(column(1), column(1), 0.5, 0.5, 0.0))


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.6])
def test_expected_cost_is_the_mean_over_a_large_sample(correlation: float) -> None:
    rng = np.random.default_rng(7)
    z1, z2 = rng.standard_normal((2, 1_000_000))
    z2 = correlation * z1 + math.sqrt(1 - correlation**2) * z2
    s_in, s_out = 0.6, 0.8
    inputs = 800 * np.exp(s_in * z1 - s_in**2 / 2)
    outputs = 100 * np.exp(s_out * z2 - s_out**2 / 2)
    lengths = LognormalLengths(column(800), column(100), s_in, s_out, correlation)
    expected = total(TWO_TIERS.per_request(lengths)).item()
    drawn = TWO_TIERS.price(inputs, outputs)
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / 1_000  # four standard errors


pairs = st.lists(st.tuples(numbers(100, 5_000), numbers(0, 1_000), numbers(0.01, 10)), min_size=1, max_size=20)


@given(
    pairs=pairs,
    prefix=numbers(0, 6_000),
    hits=numbers(0, 1),
    writes=numbers(0, 1),
    thought=numbers(0, 500),
)
def test_expected_cost_of_a_sample_is_the_weighted_mean(
    pairs: list[tuple[float, float, float]], prefix: float, hits: float, writes: float, thought: float
) -> None:
    x, y, w = (np.array(values) for values in zip(*pairs, strict=True))
    writes = (1 - hits) * writes
    three = made_up(
        [0, 1000, 3000],
        {"input": [[2, 4, 3]], "cached": [[0.2, 0.4, 0.1]], "cache_write": [[2.5, 5, 6]], "output": [[8, 12, 9]]},
        request_usd=[0.001],
    )
    items = three.per_request(
        sampled(Points.of(x, y, w)),
        prefix_tokens=column(prefix),
        hit_share=hits,
        write_share=writes,
        reasoning_tokens=thought,
    )
    start = np.minimum(prefix, x)
    each = (
        hits * three.price(x, y + thought, start)
        + writes * three.price(x, y + thought, 0, start)
        + (1 - hits - writes) * three.price(x, y + thought)
    )
    assert total(items).item() == pytest.approx(np.average(each, weights=w), rel=1e-9)


@pytest.mark.parametrize("prefix", [100.0, 700.0, 1_500.0])
def test_expected_cost_of_a_cached_prefix_is_the_mean_over_a_large_sample(prefix: float) -> None:
    z = np.random.default_rng(3).standard_normal(1_000_000)
    inputs = 800 * np.exp(0.6 * z - 0.18)
    lengths = LognormalLengths(column(800), column(0), 0.6, 0.0, 0.0)
    expected = total(TWO_TIERS.per_request(lengths, prefix_tokens=column(prefix), hit_share=1.0)).item()
    drawn = TWO_TIERS.price(inputs, 0, np.minimum(prefix, inputs))
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / 1_000  # four standard errors


@given(mean=numbers(10, 1e5), more=numbers(1, 10))
def test_longer_prompts_never_cost_less(mean: float, more: float) -> None:
    costs = [
        total(TWO_TIERS.per_request(LognormalLengths(column(m), column(50), 0.6, 0.8, 0.2))).item()
        for m in (mean, mean * more)
    ]
    assert costs[0] <= costs[1] * (1 + 1e-12)


# Scaling and migrating


def test_scaled_prices_by_hand() -> None:
    rows = {"input": [[2, 4]] * 2, "cached": [[1, 1]] * 2, "cache_write": [[3, 3]] * 2, "output": [[8, 12]] * 2}
    scaled = made_up([0, 1000], rows, request_usd=[0.01, 0.01]).scaled(np.array([1.0, 0.5]))
    before, after = (float(scaled.price(2_000, 10, 100, 50, month=month)) for month in (0, 1))
    # 1,850 x 4 + 100 x 1 + 50 x 3 + 10 x 12 = 7,770 per million and 0.01 for the request
    assert before == pytest.approx(0.01777)
    assert after == pytest.approx(before / 2)


ONE_TIER = {"input": [[5.0]] * 3, "cached": [[0.5]] * 3, "cache_write": [[6.0]] * 3, "output": [[20.0]] * 3}
OTHER_TIERS = {
    "input": [[2.0, 4.0]] * 3,
    "cached": [[0.2, 0.4]] * 3,
    "cache_write": [[2.5, 5.0]] * 3,
    "output": [[8.0, 12.0]] * 3,
}


@pytest.mark.parametrize("switch", [0, 1, 3])
def test_a_migration_has_the_old_prices_before_and_the_new_ones_after(switch: int) -> None:
    old, new = made_up([0], ONE_TIER, [0.1] * 3), made_up([0, 1000], OTHER_TIERS, [0.2] * 3)
    for first, second in ((old, new), (new, old)):
        joined = first.then(switch, second)
        for month in range(3):
            which = first if month < switch else second
            for tokens in (1, 999, 1_000, 1_001, 50_000):
                usd = joined.price(tokens, 7, tokens // 2, tokens // 4, month=month)
                assert usd == pytest.approx(which.price(tokens, 7, tokens // 2, tokens // 4, month=month), rel=1e-12)


def test_a_migration_between_different_thresholds_keeps_both() -> None:
    joined = made_up([0, 3000], OTHER_TIERS).then(1, made_up([0, 1000], OTHER_TIERS))
    assert joined.thresholds.tolist() == [0, 1000, 3000]
    # 2,000 tokens are in the first tier of the old model (2) and in the second of the new (4)
    assert joined.price(2_000, 0, month=0) == pytest.approx(0.004)
    assert joined.price(2_000, 0, month=1) == pytest.approx(0.008)
