"""Dollars: worked by hand, bounded from above, and never beyond the ceiling."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distillcalc.catalog import Catalog
from distillcalc.catalog.prices import token_prices
from distillcalc.distill.ledger import CallPrices, Ledger, Tier, Usage, read_usage
from distillcalc.errors import InputError, MissingPrice

DAY = date(2026, 11, 24)
CATALOG = Catalog.load()
D = Decimal
TIERED = CallPrices(
    "big/model",
    (Tier(0, D("2"), D("0.2"), D("2.5"), D("10")), Tier(1000, D("4"), D("0.4"), D("5"), D("15"))),
    D("0.01"),
    "a test",
)

money = st.decimals(0, 100, places=4)
tokens = st.integers(0, 5_000)


@st.composite
def prices(draw: st.DrawFn) -> CallPrices:
    steps = sorted(draw(st.sets(st.integers(1, 4_000), max_size=3)))
    return CallPrices("a/b", tuple(Tier(a, *(draw(money) for _ in range(4))) for a in (0, *steps)), draw(money), "")


def test_a_call_worked_by_hand() -> None:
    # 1,000 tokens are not above 1,000: (700 x 2 + 200 x 0.2 + 100 x 2.5 + 50 x 10) / 1e6 + 0.01
    assert TIERED.cost(1_000, 50, 200, 100) == D("0.01219")
    # one more is the next tier, for all of them: (701 x 4 + 200 x 0.4 + 100 x 5 + 50 x 15) / 1e6 + 0.01
    assert TIERED.cost(1_001, 50, 200, 100) == D("0.014134")
    assert TIERED.cost(0, 0) == D("0.01")


def test_the_most_of_a_call_by_hand() -> None:
    assert TIERED.most(1_000, 50) == (1_000 * D("2.5") + 50 * 10) / 1_000_000 + D("0.01")  # written to the cache
    assert TIERED.most(1_001, 50) == (1_001 * D("5") + 50 * 15) / 1_000_000 + D("0.01")


@given(prices=prices(), bound=tokens, limit=tokens, data=st.data())
def test_no_usage_within_its_bounds_costs_more_than_the_most(
    prices: CallPrices, bound: int, limit: int, data: st.DataObject
) -> None:
    used = data.draw(st.integers(0, bound))
    cached = data.draw(st.integers(0, used))
    written = data.draw(st.integers(0, used - cached))
    out = data.draw(st.integers(0, limit))
    assert prices.cost(used, out, cached, written) <= prices.most(bound, limit)


@given(prices=prices(), bound=tokens, limit=tokens, more=tokens)
def test_the_most_only_rises(prices: CallPrices, bound: int, limit: int, more: int) -> None:
    assert prices.most(bound + more, limit) >= prices.most(bound, limit)
    assert prices.most(bound, limit + more) >= prices.most(bound, limit)


@pytest.mark.parametrize("ref", ["openai/gpt-6-sol", "anthropic/claude-sonnet-4-5", "mistral/mistral-large"])
@given(used=st.integers(0, 600_000), out=st.integers(0, 100_000), data=st.data())
def test_the_same_as_the_calculators_price(ref: str, used: int, out: int, data: st.DataObject) -> None:
    cached = data.draw(st.integers(0, used))
    written = data.draw(st.integers(0, used - cached))
    ours = CallPrices.of(CATALOG, ref, DAY).cost(used, out, cached, written)
    theirs = float(token_prices(ref, DAY).price([used], [out], [cached], [written])[0])
    assert float(ours) == pytest.approx(theirs, rel=1e-12, abs=1e-12)


def test_where_the_price_depends_on_the_hour_the_dearest_counts() -> None:
    found = CallPrices.of(CATALOG, "deepseek/deepseek-v4-pro", DAY)
    for hour in range(24):
        only = tuple(float(hour == h) for h in range(24))
        theirs = token_prices("deepseek/deepseek-v4-pro", DAY, hour_weights=only).price([900], [80], [100])
        assert found.cost(900, 80, 100) >= D(repr(float(theirs[0]))) - D("1e-15")
    assert float(found.tiers[0].output) > token_prices("deepseek/deepseek-v4-pro", DAY).output[0, 0]
    assert "dearest hour" in found.source
    assert "dearest hour" not in CallPrices.of(CATALOG, "openai/gpt-6-sol", DAY).source


def test_prices_of_ones_own() -> None:
    own = CATALOG.with_overrides(
        {"token_prices": {"local/m": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.3, "source": "a contract"}}}
    )
    found = CallPrices.of(own, "local/m", DAY)
    assert found.cost(1, 1) == D("0.0000004")  # a tenth and three tenths of a millionth, no float between
    assert found.cost(2, 0, 1, 1) == D("0.0000002")  # what has no price of its own is plain input
    assert "a contract" in found.source
    with pytest.raises(MissingPrice, match="no batch price given"):
        CallPrices.of(own, "local/m", DAY, "batch")


def test_a_model_that_costs_nothing() -> None:
    free = CATALOG.with_overrides({"token_prices": {"local/m": {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}}})
    found = CallPrices.of(free, "local/m", DAY)
    assert found.most(10**9, 10**9) == 0
    ledger = Ledger(D(0))
    assert ledger.reserve(found.most(1, 1))


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, Usage(7, 0, 0, 3, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": None,
          "completion_tokens_details": None}, Usage(7, 0, 0, 3, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4,
          "cache_write_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 2}}, Usage(7, 4, 1, 3, 2)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_cache_hit_tokens": 5}, Usage(7, 5, 0, 3, 0)),  # DeepSeek
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 30}, Usage(7, 0, 0, 23, 0)),  # thoughts
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 5}, Usage(7, 0, 0, 3, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": [1], "completion_tokens_details": "x"},
         Usage(7, 0, 0, 3, 0)),
    ],
)  # fmt: skip
def test_usage_as_providers_word_it(usage: dict[str, Any], read: Usage) -> None:
    assert read_usage({"usage": usage}) == read


@pytest.mark.parametrize(
    "usage",
    [
        None, [], "7", {}, {"prompt_tokens": 7}, {"prompt_tokens": -7, "completion_tokens": 3},
        {"prompt_tokens": True, "completion_tokens": 3}, {"prompt_tokens": "7", "completion_tokens": 3},
        {"prompt_tokens": 7.5, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}},
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": "2"}},
    ],
)  # fmt: skip
def test_usage_that_cannot_be_right_has_a_problem(usage: Any) -> None:
    assert read_usage({"usage": usage}).problem
    assert read_usage({}).problem == "the response has no usage"


words = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens", "reasoning_tokens"]
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 50), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner)),
    max_leaves=8,
)


@given(usage=anything)
def test_no_usage_stops_the_booking(usage: Any) -> None:
    found = read_usage({"usage": usage})
    if not found.problem:
        assert found.cached_tokens + found.write_tokens <= found.input_tokens
        assert TIERED.cost(found.input_tokens, found.output_tokens, found.cached_tokens, found.write_tokens) >= 0


@pytest.mark.parametrize("ceiling", ["-0.01", "nan", "inf", "-inf", "snan"])
def test_a_budget_that_is_none(ceiling: str) -> None:
    with pytest.raises(InputError, match=r"an amount in USD, 0 or more. Got"):
        Ledger(D(ceiling))


def test_reserved_spent_and_given_back() -> None:
    ledger = Ledger(D("1"))
    assert ledger.reserve(D("0.7"))
    assert not ledger.reserve(D("0.4"))
    assert ledger.left == D("0.3")
    ledger.settle(D("0.7"), D("0.2"))
    assert ledger.reserve(D("0.8"))  # to the last cent
    assert ledger.left == 0
    ledger.settle(D("0.8"), D("0.8"), possibly=True)
    assert (ledger.spent, ledger.possibly_billed, ledger.reserved, ledger.most_committed) == (1, D("0.8"), 0, 1)
    assert not ledger.reserve(D("0.000001"))
    assert ledger.reserve(D(0))


def test_without_a_ceiling_everything_fits() -> None:
    ledger = Ledger()
    assert ledger.left is None
    assert ledger.reserve(D(10**12))


@given(
    ceiling=money,
    steps=st.lists(st.tuples(st.booleans(), money, st.decimals(0, 1, places=3)), max_size=40),
)
def test_no_sequence_commits_more_than_the_ceiling(
    ceiling: Decimal, steps: list[tuple[bool, Decimal, Decimal]]
) -> None:
    ledger, flying = Ledger(ceiling), list[Decimal]()
    for reserves, most, share in steps:
        if reserves:
            if ledger.reserve(most):
                flying.append(most)
            else:
                assert ledger.spent + ledger.reserved + most > ceiling
        elif flying:
            settled = flying.pop()
            ledger.settle(settled, settled * share)
        assert ledger.spent + ledger.reserved <= ceiling
        assert ledger.reserved == sum(flying)
    assert ledger.most_committed <= ceiling


@given(prices=prices(), used=tokens, out=tokens)
def test_a_call_of_its_bounds_can_be_paid_for_with_its_most(prices: CallPrices, used: int, out: int) -> None:
    most = prices.most(used, out)
    assume(most > 0)
    ledger = Ledger(most)
    assert ledger.reserve(most)
    ledger.settle(most, prices.cost(used, out))
    assert ledger.spent <= most
