"""Latency of a per-token API: dated medians or a measured endpoint, tails measured or by a factor, thinking first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from distillcalc.errors import InputError
from distillcalc.estimate.api_latency import REACH, TAIL, api_latency, assumed_tail
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import at
from distillcalc.provenance import Provenance
from distillcalc.workload import Scenario
from tests.estimate.tiny import catalog, detail, outcomes, scenario, verdict


def found(case: Scenario | None = None, ref: str = "acme/big", **arrays: Any) -> dict[str, float]:
    x = Inputs(case or scenario(), arrays)
    return {k: at(v, 0) for k, v in api_latency(x, catalog(), ref, x.lengths, x["reasoning_tokens"])[0].items()}


def test_medians_by_hand() -> None:
    # 0.5 s to the first token and 0.05 s of network; 50 tokens a second are 20 ms each; 99 more after the first.
    got = found()
    assert got["ttft_p50"] == pytest.approx(0.55)
    assert got["tpot_p50"] == pytest.approx(0.020)
    assert got["e2e_p50"] == pytest.approx(0.55 + 99 * 0.020)


def test_tails_by_hand() -> None:
    # Twice the median at p95; the network does not stretch.
    got = found()
    assert got["ttft_p95"] == pytest.approx(1.05)
    assert got["tpot_p95"] == pytest.approx(0.040)
    assert got["e2e_p95"] == pytest.approx(1.05 + 99 * 0.040)


def test_the_tail_factors_are_one_lognormal() -> None:
    # p95 / median = exp(1.645 sigma) = 2 gives sigma 0.421; p99 = exp(2.326 x 0.421) = 2.67.
    sigma = math.log(TAIL[0.95]) / 1.6448536
    assert TAIL[0.5] == 1
    assert TAIL[0.99] == pytest.approx(math.exp(2.3263479 * sigma), abs=0.005)


def test_thinking_comes_before_the_first_visible_token() -> None:
    # 200 thoughts x 20 ms.
    got = found(scenario({"reasoning_tokens": 200}))
    assert got["ttft_p50"] == pytest.approx(0.55 + 4)
    assert got["e2e_p50"] == pytest.approx(0.55 + 4 + 99 * 0.020)


def test_a_tail_answer_is_longer() -> None:
    # Observed answers of 10 (nine in ten) and 400: the p50 has 10, the p95 400 tokens.
    got = found(scenario({"output_tokens": [10] * 9 + [400]}))
    assert got["e2e_p50"] == pytest.approx(0.55 + 9 * 0.020)
    assert got["e2e_p95"] == pytest.approx(1.05 + 399 * 0.040)


def test_an_answer_of_one_token_or_none_ends_when_it_starts() -> None:
    for tokens in (0.0, 1.0):
        got = found(output_tokens=tokens)
        assert got["e2e_p95"] == got["ttft_p95"]


def test_the_network_is_counted_once() -> None:
    near, far = found(network_rtt_s=0.0), found(network_rtt_s=1.0)
    assert far["ttft_p95"] - near["ttft_p95"] == pytest.approx(1)
    assert far["e2e_p99"] - near["e2e_p99"] == pytest.approx(1)
    assert far["tpot_p50"] == near["tpot_p50"]


@pytest.mark.parametrize("missing", ["ttft_p50_s", "output_tokens_per_s"])
def test_without_a_dated_figure_nothing_is_made_up(missing: str) -> None:
    x = Inputs(scenario())
    known = catalog(apis={"acme-big": {missing: None}})
    got, source = api_latency(x, known, "acme/big", x.lengths, x["reasoning_tokens"])
    assert len(got) == 9
    assert all(np.isnan(seconds).all() for seconds in got.values())
    assert source.kind == "assumed"
    assert "no dated latency known for acme/big" in source.source
    assert all(math.isnan(seconds) for seconds in found(ref="nobody/x").values())


# --- a measured endpoint ---------------------------------------------------------------------------------------------


def measured(key: str = "acme-big", network_rtt_s: float = 0.0, **row: Any) -> tuple[dict[str, float], Provenance]:
    """Latency of acme/big [s] with a user's row over the catalog's, and where it is from."""
    x = Inputs(scenario(), {"network_rtt_s": network_rtt_s})
    got, source = api_latency(x, catalog(apis={key: row}), "acme/big", x.lengths, x["reasoning_tokens"])
    return {name: at(seconds, 0) for name, seconds in got.items()}, source


def test_the_medians_alone_are_as_they_were_to_the_last_bit() -> None:
    x = Inputs(scenario({"reasoning_tokens": 7}))
    got, _ = api_latency(x, catalog(), "acme/big", x.lengths, x["reasoning_tokens"])
    for level, tail in {0.5: 1.0, 0.95: 2.0, 0.99: 2.67}.items():
        name = f"p{round(level * 100)}"
        tpot = np.full((1, 1), tail / 50.0)
        ttft = 0.5 * tail + x["network_rtt_s"] + x["reasoning_tokens"] * tpot
        assert got[f"tpot_{name}"].tolist() == tpot.tolist()
        assert got[f"ttft_{name}"].tolist() == ttft.tolist()
        assert (
            got[f"e2e_{name}"].tolist() == (ttft + np.maximum(x.lengths.output_quantile(level) - 1, 0) * tpot).tolist()
        )


def test_measured_percentiles_by_hand() -> None:
    got, source = measured(
        ttft_p50_s=0.4,
        ttft_p95_s=1.0,
        ttft_p99_s=3.0,
        tpot_p50_ms=10,
        tpot_p95_ms=12,
        tpot_p99_ms=40,
        network_rtt_s=0.05,
    )
    assert [got[f"ttft_p{p}"] for p in (50, 95, 99)] == pytest.approx([0.45, 1.05, 3.05])
    assert [got[f"tpot_p{p}"] for p in (50, 95, 99)] == pytest.approx([0.010, 0.012, 0.040])
    # 99 tokens after the first: 0.99 s, 1.188 s and 3.96 s.
    assert [got[f"e2e_p{p}"] for p in (50, 95, 99)] == pytest.approx([1.44, 2.238, 7.01])
    assert source.kind == "given"
    assert source.source == "given by the user; tails measured"


def test_one_measured_tail_gives_the_other_as_of_one_lognormal() -> None:
    # From 0.4 s to 1.6 s is a factor of 4 at 1.645 sigma, so 4^(2.3263 / 1.6449) = 4^1.41432 = 7.104 at 2.326 sigma.
    assert pytest.approx(1.41432, abs=1e-5) == REACH
    got, source = measured(ttft_p50_s=0.4, ttft_p95_s=1.6)
    assert got["ttft_p95"] == pytest.approx(1.6)
    assert got["ttft_p99"] == pytest.approx(0.4 * 7.104, rel=1e-3)
    assert "TTFT tails: p95 measured, the other of the same log-normal" in source.source
    assert "TPOT tails assumed: p95 twice the median, p99 2.67 times" in source.source
    back, source = measured(ttft_p50_s=0.4, ttft_p99_s=0.4 * 4**REACH)
    assert back["ttft_p95"] == pytest.approx(1.6)
    assert "TTFT tails: p99 measured" in source.source


def test_a_measured_p95_of_twice_the_median_is_the_assumed_tail() -> None:
    assert measured(ttft_p95_s=1.0)[0]["ttft_p99"] == pytest.approx(0.5 * TAIL[0.99], rel=2e-3)


def test_the_median_of_tpot_is_milliseconds_or_tokens_per_second() -> None:
    # 12.5 ms a token are 80 tokens a second; either lies over the catalog's 50.
    as_time, as_speed = measured(tpot_p50_ms=12.5)[0], measured(output_tokens_per_s=80)[0]
    assert as_time == pytest.approx(as_speed)
    assert as_time["tpot_p95"] == pytest.approx(0.025)


def test_a_row_is_named_by_what_is_measured() -> None:
    by_ref, source = measured("acme/big", ttft_p50_s=0.8, ttft_p95_s=0.9, ttft_p99_s=1.0)
    assert [by_ref[f"ttft_p{p}"] for p in (50, 95, 99)] == pytest.approx([0.8, 0.9, 1.0])
    assert by_ref["tpot_p50"] == pytest.approx(0.020)  # the catalog's
    assert source.source.endswith("TTFT tails measured; TPOT tails assumed: p95 twice the median, p99 2.67 times")


def test_a_new_median_does_not_keep_the_tails_of_an_older_measurement() -> None:
    once = catalog(apis={"acme/big": {"ttft_p50_s": 0.4, "ttft_p95_s": 0.5, "tpot_p50_ms": 10, "tpot_p95_ms": 11}})
    twice = once.with_overrides({"apis": {"acme/big": {"ttft_p50_s": 3, "output_tokens_per_s": 20}}})
    x = Inputs(scenario(), {"network_rtt_s": 0.0})
    got = api_latency(x, twice, "acme/big", x.lengths, x["reasoning_tokens"])[0]
    assert at(got["ttft_p95"], 0) == pytest.approx(6)
    assert at(got["tpot_p95"], 0) == pytest.approx(0.1)


def test_the_provenance_tells_who_measured_what() -> None:
    medians = {"source": "a bench of March", "confidence": "low", "checked": "2026-03-01"}
    known = catalog(apis={"acme-big": medians, "acme/big": {"tpot_p95_ms": 90, "tpot_p99_ms": 95}})
    x = Inputs(scenario())
    source = api_latency(x, known, "acme/big", x.lengths, x["reasoning_tokens"])[1]
    assert (source.kind, source.confidence) == ("catalog", "low")
    assert source.source == (
        "a bench of March; TTFT tails assumed: p95 twice the median, p99 2.67 times; "
        "TPOT tails measured (given by the user)"
    )
    speed = catalog(apis={"acme-big": medians, "acme/big": {"output_tokens_per_s": 90}})
    source = api_latency(x, speed, "acme/big", x.lengths, x["reasoning_tokens"])[1]
    assert source.source == (
        "a bench of March (first token); given by the user (speed); tails assumed: p95 twice the median, p99 2.67 times"
    )


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"ttft_p50_s": 1, "ttft_p95_s": 0.9}, r"ttft_p95_s must not be below the p50 of 1 s\. Got 0\.9"),
        ({"ttft_p50_s": 1, "ttft_p99_s": 0.9}, r"ttft_p99_s must not be below the p50 of 1 s"),
        ({"ttft_p95_s": 3, "ttft_p99_s": 2}, r"ttft_p99_s must not be below the p95 of 3 s"),
        ({"tpot_p50_ms": 10, "tpot_p95_ms": 9}, r"tpot_p95_ms must not be below the p50 of 10 ms"),
        ({"output_tokens_per_s": 50, "tpot_p95_ms": 19}, r"tpot_p95_ms must not be below the p50 of 20 ms\. Got 19"),
        ({"output_tokens_per_s": 50, "tpot_p50_ms": 20}, r"the same median: give one of them"),
        ({"ttft_p95_s": -1}, r"ttft_p95_s"),
    ],
)
def test_falling_percentiles_are_refused(row: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        catalog(apis={"acme/big": row})
    assert "overrides.apis.acme/big" in str(error.value)


def test_tails_below_the_median_of_another_row_are_refused() -> None:
    known = catalog(apis={"acme/big": {"ttft_p95_s": 0.4}})  # the catalog's median is 0.5 s
    with pytest.raises(InputError, match=r"rows of apis on acme/big: .*ttft_p95_s must not be below the p50 of 0\.5 s"):
        known.api("acme/big")


# --- no figure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"ttft_p50_s": None, "output_tokens_per_s": None}, "ttft_p50_s and output_tokens_per_s"),
        ({"ttft_p50_s": None}, "ttft_p50_s"),
        ({"output_tokens_per_s": None}, "output_tokens_per_s"),
    ],
)
def test_without_a_figure_the_gate_is_unknown_and_says_what_to_give(row: dict[str, None], names: str) -> None:
    case = scenario({"slo": {"e2e_p95_s": 60}}, {"routing": {"escalation_rate": 0.2}})
    known = catalog(apis={"acme-big": row})
    told = f'(no dated latency known for acme/big: measure it and give {names} in [overrides.apis."acme/big"])'
    (teacher,) = outcomes("call-teacher", case, known)
    assert verdict(teacher, "slo") == "unknown"
    assert detail(teacher, "slo") == f"E2E p95 unknown against 60 s {told}"
    for cascade in outcomes("cascade", case, known):
        assert verdict(cascade, "slo") == "unknown"
        assert told[1:-1] in detail(cascade, "slo")


def test_what_the_gate_asks_for_settles_it() -> None:
    case = scenario({"slo": {"e2e_p95_s": 2.2}})
    row = {"ttft_p50_s": 0.4, "ttft_p95_s": 1.0, "output_tokens_per_s": 100, "tpot_p95_ms": 12}
    for key in ("acme-big", "acme/big"):  # 1.0 + 0.05 + 99 x 0.012 = 2.238 s
        (teacher,) = outcomes("call-teacher", case, catalog(apis={"acme-big": {"ttft_p50_s": None}} | {key: row}))
        assert verdict(teacher, "slo") == "fail"
        assert detail(teacher, "slo") == "E2E p95 2.24 s against 2.2 s"


def test_a_limit_missed_by_an_assumed_tail_says_so_and_what_to_give() -> None:
    asked = scenario(workload={"slo": {"e2e_p95_s": 0.001}})
    (teacher,) = outcomes("call-teacher", asked)
    assert verdict(teacher, "slo") == "fail"
    said = detail(teacher, "slo")
    assert said.endswith(
        "(the tail is assumed, p95 twice the median, p99 2.67 times: give the ttft_p95_s and tpot_p95_ms you measure "
        'in [overrides.apis."acme/big"])'
    )
    tails = {"acme/big": {"ttft_p95_s": 0.9, "tpot_p95_ms": 20.0}}
    assert assumed_tail(catalog(), "acme/big")
    assert assumed_tail(catalog().with_overrides({"apis": tails}), "acme/big") == ""
    half = catalog().with_overrides({"apis": {"acme/big": {"ttft_p95_s": 0.9}}})
    assert "give the tpot_p95_ms you measure" in assumed_tail(half, "acme/big")
