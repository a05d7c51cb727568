"""Latency of a per-token API: dated medians, tails by a stated factor, thinking first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from distillcalc.estimate.api_latency import TAIL, api_latency
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import at
from distillcalc.workload import Scenario
from tests.estimate.tiny import catalog, scenario


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
