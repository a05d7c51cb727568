"""The cost of a request at a per-token API, by hand: caching, batch, price path, migration."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.catalog import Catalog
from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.tokens import ApiCost, api_cost, prices_over_horizon
from distillcalc.workload import Scenario
from tests.estimate.tiny import NOTHING, catalog, scenario


def cost(
    case: Scenario | None = None,
    known: Catalog | None = None,
    ref: str = "acme/big",
    arrays: dict[str, Any] | None = None,
    **more: Any,
) -> ApiCost:
    x = Inputs(case or scenario(), arrays)
    return api_cost(
        x,
        known or catalog(),
        ref,
        lengths=x.lengths,
        prefix_tokens=x["cacheable_prefix_tokens"],
        reasoning_tokens=x["reasoning_tokens"],
        **more,
    )


def cached_case(requests_per_day: float = 86_400.0, **workload: Any) -> Scenario:
    """One request a second over one prefix of 600 tokens that lives ln 2 seconds: half of the requests hit."""
    return scenario(
        {
            "requests_per_day": requests_per_day,
            "cacheable_prefix_tokens": 600,
            "cache_ttl_s": math.log(2),
            **workload,
        }
    )


# --- plain requests --------------------------------------------------------------------------------------------------


def test_a_request_by_hand() -> None:
    # 1,000 tokens x 10 USD/M = 0.010; 100 x 20 USD/M = 0.002.
    found = cost()
    assert set(found.usd_per_request) == {"input_tokens", "output_tokens"}
    assert found.usd_per_request["input_tokens"][0, 0] == pytest.approx(0.010)
    assert found.usd_per_request["output_tokens"][0, 0] == pytest.approx(0.002)
    assert found.total[0, 0] == pytest.approx(0.012)


def test_months_by_hand() -> None:
    # 31,000, 31,000 and 28,000 requests at 0.012 USD.
    x = Inputs(scenario())
    monthly = cost().monthly(x.requests)
    np.testing.assert_allclose(sum(monthly.values()), [[372, 372, 336]])


def test_reasoning_is_billed_as_output() -> None:
    # 50 tokens x 20 USD/M = 0.001.
    found = cost(scenario({"reasoning_tokens": 50}))
    assert found.usd_per_request["reasoning_tokens"][0, 0] == pytest.approx(0.001)
    assert found.total[0, 0] == pytest.approx(0.013)


def test_a_list_price() -> None:
    # gpt-5 in June 2026: 1.25 in and 10 out per million (genai-prices 0.2.3); 1,000 in and 100 out are
    # 0.00125 + 0.001.
    found = cost(scenario({"start": "2026-06-01"}), Catalog.load(), "openai/gpt-5")
    assert found.total[0, 0] == pytest.approx(0.00225)


def test_a_tier_is_a_cliff_over_the_distribution() -> None:
    # gemini-2.5-pro: 1.25 in, 10 out; 2.5 and 15 for requests above 200,000 tokens (genai-prices 0.2.3).
    # One request in four has 300,000 tokens, the others 100,000; each answers with 1,000.
    # 0.75 x (0.125 + 0.010) + 0.25 x (0.750 + 0.015) = 0.10125 + 0.19125.
    rows = [[100_000, 1000], [100_000, 1000], [100_000, 1000], [300_000, 1000]]
    case = scenario({"input_tokens": None, "output_tokens": None, "length_sample": rows, "start": "2026-06-01"})
    assert cost(case, Catalog.load(), "google/gemini-2.5-pro").total[0, 0] == pytest.approx(0.2925)


def test_a_price_factor_is_ones_own_price_over_the_list_price() -> None:
    found = cost(price_factor=np.array([[1.0], [0.5]]))
    np.testing.assert_allclose(found.total[:, 0], [0.012, 0.006])


def test_a_price_path_applies_month_by_month() -> None:
    # -75% a year: half after six months, a quarter after twelve.
    case = scenario({"horizon_months": 13}, {"token_price_change_per_year": -0.75})
    np.testing.assert_allclose(cost(case).total[0, [0, 6, 12]], [0.012, 0.006, 0.003])


def test_no_price_is_never_free() -> None:
    with pytest.raises(UnknownName):
        cost(ref="acme/unheard-of")
    x = Inputs(scenario())
    with pytest.raises(MissingPrice, match="no batch price"):
        prices_over_horizon(x, catalog(), "acme/small", "batch")


# --- caching ---------------------------------------------------------------------------------------------------------


def test_a_cached_request_by_hand() -> None:
    # P(hit) = 1 - exp(-1/s x ln 2 s) = 0.5. Of the 600 shared tokens 300 are read from the cache on average
    # and 300 are sent again, at the plain price: 1,000 - 300 = 700 x 10 USD/M + 300 x 1 USD/M = 0.0073.
    found = cost(cached_case())
    assert found.hit_share[0, 0] == pytest.approx(0.5)
    assert found.usd_per_request["cached_tokens"][0, 0] == pytest.approx(300e-6)
    # A write has no price of its own here, so it is billed as input.
    assert found.usd_per_request["cache_writes"][0, 0] == pytest.approx(300 * 10e-6)
    assert found.usd_per_request["input_tokens"][0, 0] == pytest.approx(400 * 10e-6)
    assert found.total[0, 0] == pytest.approx(0.0073 + 0.002)


def test_prefixes_share_the_traffic() -> None:
    # Two prefixes, half the rate each: 1 - exp(-ln 2 / 2) = 1 - 1/sqrt 2.
    assert cost(cached_case(distinct_prefixes=2)).hit_share[0, 0] == pytest.approx(1 - 0.5**0.5)


def test_escalated_requests_hit_less_often() -> None:
    # A quarter of the requests: 1 - exp(-ln 2 / 4).
    assert cost(cached_case(), share=0.25).hit_share[0, 0] == pytest.approx(1 - 0.5**0.25)


def test_hits_grow_with_the_traffic() -> None:
    # Doubling each month: 1/2, 3/4, 15/16.
    found = cost(cached_case(growth_per_month=1.0))
    np.testing.assert_allclose(found.hit_share[0], [0.5, 0.75, 0.9375])


@pytest.mark.parametrize(("prefix", "hit"), [(499.0, 0.0), (500.0, 0.5)])
def test_a_prefix_below_the_providers_minimum_is_not_cached(prefix: float, hit: float) -> None:
    found = cost(cached_case(), arrays={"cacheable_prefix_tokens": prefix})
    assert found.hit_share[0, 0] == pytest.approx(hit)
    if not hit:
        assert found.total[0, 0] == pytest.approx(0.012)


def test_a_cache_with_dear_writes_is_used_only_where_it_pays() -> None:
    # A write at 12.5 costs 2.5 more than sending, a hit saves 10 - 1 = 9. It pays where 9 h > 2.5 (1 - h),
    # above h = 2.5 / 11.5 = 0.217. The rates below give h = 0.21 and 0.22.
    dear = catalog(
        token_prices={
            "acme/big": {
                "input_usd_per_mtok": 10,
                "output_usd_per_mtok": 20,
                "cached_input_usd_per_mtok": 1,
                "cache_write_usd_per_mtok": 12.5,
            }
        }
    )
    rates = [86_400 * math.log(1 / (1 - h)) / math.log(2) for h in (0.21, 0.22)]
    found = cost(cached_case(), dear, arrays={"requests_per_day": rates})
    np.testing.assert_allclose(found.hit_share[:, 0], [0, 0.22])
    # Without: 0.010. With: 400 x 10 + 600 x (0.22 x 1 + 0.78 x 12.5) USD/M = 0.004 + 0.005982.
    np.testing.assert_allclose(found.total[:, 0] - 0.002, [0.010, 0.009982])


def test_no_discount_on_reads_means_no_caching() -> None:
    found = cost(cached_case(), ref="acme/small")
    assert found.hit_share.tolist() == [[0.0]]
    assert set(found.usd_per_request) == {"input_tokens", "output_tokens"}


def test_the_lifetime_is_the_providers_where_none_is_given() -> None:
    # 288 requests a day, one each 300 s, the provider's lifetime: 1 - 1/e.
    case = scenario({"requests_per_day": 288, "cacheable_prefix_tokens": 600})
    found = cost(case)
    assert found.hit_share[0, 0] == pytest.approx(1 - math.exp(-1))
    assert found.provenance["cache_ttl_s"].kind == "given"  # the row is the user's
    halved = cost(case, catalog(apis={"acme": {"cache_ttl_s": 150}}))
    assert halved.hit_share[0, 0] == pytest.approx(1 - math.exp(-0.5))


def test_a_lifetime_of_ours_is_called_assumed() -> None:
    case = scenario({"requests_per_day": 288, "cacheable_prefix_tokens": 600})
    bare = NOTHING.with_overrides({"token_prices": {"acme/big": catalog().token_prices_given["acme/big"].model_dump()}})
    found = cost(case, bare)
    assert found.hit_share[0, 0] == pytest.approx(1 - math.exp(-1))
    assert found.provenance["cache_ttl_s"].kind == "assumed"


# --- batch -----------------------------------------------------------------------------------------------------------


def test_the_batchable_share_pays_the_batch_price() -> None:
    # 0.25 x 0.006 + 0.75 x 0.012.
    found = cost(scenario({"batchable_share": 0.25}))
    assert found.batch_known
    assert found.total[0, 0] == pytest.approx(0.0105)


def test_what_is_delayed_neither_hits_the_cache_nor_keeps_it_warm() -> None:
    # Half of the requests are sent at once, one each two seconds: 1 - 1/sqrt 2 of them hit, and save 600 x 9 USD/M.
    # The other half pays the batch price of 0.006.
    hit = 1 - 0.5**0.5
    found = cost(cached_case(batchable_share=0.5))
    assert found.hit_share[0, 0] == pytest.approx(hit)
    assert found.total[0, 0] == pytest.approx(0.5 * (0.012 - hit * 600 * 9e-6) + 0.5 * 0.006)


def test_an_entry_that_a_hit_does_not_renew_expires_sooner() -> None:
    # ln 2 arrivals per lifetime: each miss is followed by ln 2 hits, ln 2 / (1 + ln 2) of all.
    known = catalog(apis={"acme": {"cache_ttl_refreshed": False}})
    assert cost(cached_case(), known).hit_share[0, 0] == pytest.approx(math.log(2) / (1 + math.log(2)))


def test_a_prompt_shorter_than_the_prefix_is_cached_whole() -> None:
    # Half of the prompts have 200 tokens, half 1,800; of the 600 shared ones a hit reads 200 or 600, 400 on average.
    case = cached_case(input_tokens=[200, 1800], output_tokens=100)
    found = cost(case)
    assert found.hit_share[0, 0] == pytest.approx(0.5)
    assert found.usd_per_request["cached_tokens"][0, 0] == pytest.approx(0.5 * 400e-6, rel=1e-2)
    assert found.total[0, 0] == pytest.approx(0.012 - 0.5 * 400 * 9e-6, rel=1e-3)


def test_without_a_batch_price_the_share_pays_the_standard_price() -> None:
    found = cost(scenario({"batchable_share": 1.0}), ref="acme/small")
    assert not found.batch_known
    assert found.total[0, 0] == pytest.approx(1000e-6 + 200e-6)
    assert "no batch price known for acme/small" in found.provenance["batch"].source


# --- migration -------------------------------------------------------------------------------------------------------

END = {"provider": "acme", "model": "big", "what": "shutdown", "on": "2027-01-15", "replacement": "acme/next"}


def test_the_successor_is_paid_from_the_month_of_the_shutdown() -> None:
    # acme/next: 3 in, 4 out: 0.003 + 0.0004.
    found = cost(known=catalog(retirements={"big": END}))
    np.testing.assert_allclose(found.total, [[0.012, 0.0034, 0.0034]])


def test_a_shutdown_on_the_last_day_but_one_still_counts_and_the_next_day_does_not() -> None:
    for on, last in ((date(2027, 2, 28), 0.0034), (date(2027, 3, 1), 0.012)):
        found = cost(known=catalog(retirements={"big": {**END, "on": on}}))
        assert np.broadcast_to(found.total, (1, 3))[0, 2] == pytest.approx(last)


def test_one_that_has_ended_before_the_start_is_its_successor_throughout() -> None:
    found = cost(known=catalog(retirements={"big": {**END, "on": "2026-01-15"}}))
    np.testing.assert_allclose(np.broadcast_to(found.total, (1, 3)), [[0.0034] * 3])


def test_a_successor_that_ends_too_is_followed_on() -> None:
    # acme/next until 10 February, then acme/last at 1 and 1: 0.0011.
    known = catalog(
        retirements={"big": END, "next": {**END, "model": "next", "on": "2027-02-10", "replacement": "acme/last"}},
        token_prices={"acme/last": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}},
    )
    np.testing.assert_allclose(cost(known=known).total, [[0.012, 0.0034, 0.0011]])


def test_without_a_named_successor_the_price_goes_on() -> None:
    found = cost(known=catalog(retirements={"big": {k: v for k, v in END.items() if k != "replacement"}}))
    np.testing.assert_allclose(np.broadcast_to(found.total, (1, 3)), [[0.012] * 3])


def test_a_successor_without_a_batch_price_is_paid_in_full() -> None:
    found = cost(scenario({"batchable_share": 1.0}), catalog(retirements={"big": END}))
    np.testing.assert_allclose(found.total, [[0.006, 0.0034, 0.0034]])


# --- properties ------------------------------------------------------------------------------------------------------

SHARES = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    requests=st.floats(1e-3, 1e9),
    prefix=st.floats(0, 1000),
    prefixes=st.floats(1, 1e6),
    ttl=st.floats(1e-3, 1e6),
    batch=SHARES,
    write=st.floats(0, 100),
    reasoning=st.floats(0, 1000),
)
def test_caching_and_batch_never_cost_more_and_never_less_than_nothing(
    requests: float, prefix: float, prefixes: float, ttl: float, batch: float, write: float, reasoning: float
) -> None:
    known = catalog(
        token_prices={
            "acme/big": {
                "input_usd_per_mtok": 10,
                "output_usd_per_mtok": 20,
                "cached_input_usd_per_mtok": 1,
                "cache_write_usd_per_mtok": write,
                "batch_input_usd_per_mtok": 5,
                "batch_output_usd_per_mtok": 10,
            }
        }
    )
    case = scenario(
        {
            "requests_per_day": requests,
            "cacheable_prefix_tokens": prefix,
            "distinct_prefixes": prefixes,
            "cache_ttl_s": ttl,
            "batchable_share": batch,
            "reasoning_tokens": reasoning,
        }
    )
    found = cost(case, known)
    plain = 0.012 + reasoning * 20e-6
    assert np.all((found.hit_share >= 0) & (found.hit_share <= 1))
    assert all(np.all(usd >= 0) for usd in found.usd_per_request.values())
    assert np.all(found.total <= plain * (1 + 1e-12))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-3, 1e9), min_size=2, max_size=6), st.floats(0, 1000))
def test_more_traffic_costs_more_in_total_even_where_hits_grow(volumes: list[float], prefix: float) -> None:
    # CORRECTIONS exempts caching from "never lowers"; what must hold is that hits never fall with the traffic.
    volumes = sorted(volumes)
    case = scenario({"cacheable_prefix_tokens": prefix, "batchable_share": 0.3})
    found = cost(case, arrays={"requests_per_day": volumes})
    hits = np.broadcast_to(found.hit_share, (len(volumes), found.hit_share.shape[1]))[:, 0]
    assert np.all(np.diff(hits) >= 0)
    uncached = cost(scenario({"batchable_share": 0.3}), arrays={"requests_per_day": volumes})
    total = (uncached.total * Inputs(case, {"requests_per_day": volumes}).requests).sum(axis=1)
    assert np.all(np.diff(total) >= 0)
