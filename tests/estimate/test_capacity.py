"""The step time and the sizing by hand, by brute force, and by their properties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from distillcalc.catalog import Catalog
from distillcalc.errors import UnknownName
from distillcalc.estimate.capacity import (
    Load,
    Machines,
    fleet,
    in_flight,
    largest_batch,
    latencies,
    prefill_s,
    prompt_s,
    replica_capacity,
    replicas_needed,
    serving_precision,
    shortfall,
    tpot_s,
)
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.step_time import Weights, kv_bytes_per_token
from distillcalc.workload import Serving, Slo
from tests.estimate.tiny import ROOFLINE, SHAPE, catalog, load, machine, scenario

ONE = np.ones((1, 1))
NONE = np.zeros((1, 1, 1))


def value(array: Any) -> float:
    return float(np.asarray(array).squeeze())


def objectives(**limits: float) -> list[tuple[str, float, float]]:
    return Slo(**limits).objectives()


def roofline() -> Catalog:
    """The shipped models and GPUs under an engine that can be worked out by hand."""
    return Catalog.load({"engines": {"vllm": ROOFLINE}})


def toy(**serving: Any) -> Machines:
    return machine(catalog(), "tiny", "toy", **serving)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "bytes_per_token"),
    [
        ("llama-3.1-8b", 131_072),  # 2 (K and V) x 32 layers x 8 heads x 128 x 2 bytes
        ("qwen3-8b", 147_456),  # 2 x 36 x 8 x 128 x 2
        ("llama-3.3-70b", 327_680),  # 2 x 80 x 8 x 128 x 2
        ("deepseek-r1", 70_272),  # latent attention: 61 layers x (512 + 64 values) x 2 bytes, DeepSeek-V2, 2405.04434
    ],
)
def test_cache_of_one_token(model: str, bytes_per_token: int) -> None:
    assert kv_bytes_per_token(Catalog.load().model(model)) == bytes_per_token


@pytest.mark.parametrize(
    ("precision", "gb"),
    # 8 x 10^9 parameters x bits / 8, of which a vocabulary of 1,000 x 100 keeps 16 bits; int4 has scales of 0.25 bits.
    [("bf16", 16.0), ("fp8", 8.0001), ("int8", 8.0001), ("int4", 4.25014675)],
)
def test_weights(precision: str, gb: float) -> None:
    assert Weights.of(catalog().model("tiny"), precision).total == pytest.approx(gb * 1e9)
    assert toy(precision=precision).weights_gb == pytest.approx(gb)


def test_weights_are_held_as_published_where_that_is_smaller() -> None:
    row = catalog(models={"tiny": {"native_precision": "fp8"}}).model("tiny")
    assert serving_precision(row, "bf16") == "fp8"
    assert serving_precision(row, "int4") == "int4"
    assert serving_precision(catalog().model("tiny"), "bf16") == "bf16"


def test_tensor_parallel_is_the_least_that_holds_the_weights() -> None:
    # A toy offers 90 GB. 40 x 10^9 parameters weigh 80 GB and want 84; 43 weigh 86 and want 90.3, so two.
    # Four hold 360 GB (171 want 359.1, 172 want 361.2), eight 720 (342 want 718.2, 343 want 720.3).
    for params, gpus, fits in ((40, 1, True), (43, 2, True), (171, 4, True), (172, 8, True), (342, 8, True)):
        m = machine(catalog(models={"tiny": {"params_b": params}}), "tiny", "toy")
        assert (value(m.tensor_parallel), bool(value(m.fits))) == (gpus, fits), params
    too_big = machine(catalog(models={"tiny": {"params_b": 343}}), "tiny", "toy")
    assert not value(too_big.fits)


def test_seventy_billion_parameters_on_80_gb() -> None:
    # 70.55 x 10^9 x 2 = 141.1 GB, with 5% on top 148.2. Two GPUs offer 2 x 80 x 0.95 = 152 GB, and at the default
    # margin of 10% only 144. In fp8 it is 74.1 of 2 x 72.
    known = Catalog.load()
    assert value(machine(known, "llama-3.3-70b", "h100-sxm", memory_margin=0.05).tensor_parallel) == 2
    assert value(machine(known, "llama-3.3-70b", "h100-sxm").tensor_parallel) == 4
    assert value(machine(known, "llama-3.3-70b", "h100-sxm", precision="fp8").tensor_parallel) == 2
    assert value(machine(known, "llama-3.3-70b", "h200-sxm", precision="fp8").tensor_parallel) == 1


def test_two_gpus_halve_the_times_and_add_the_all_reduce() -> None:
    two = machine(catalog(models={"tiny": {"params_b": 80}}), "tiny", "toy")  # 160 GB
    assert value(two.tensor_parallel) == 2
    assert value(two.step.weights_s) == pytest.approx(160 / 1600)
    assert value(two.step.token_s) == pytest.approx(160e9 / 1e14)
    # Two all-reduces a layer of 10 us each: 5 layers x 2 x 10 us = 0.1 ms more than the 2 ms of a step.
    assert value(two.step.fixed_s) == pytest.approx(0.0021)
    assert value(two.free_bytes) == pytest.approx(20e9)


# --- speed -----------------------------------------------------------------------------------------------------------


def test_the_constants_of_a_toy() -> None:
    m = toy()
    assert value(m.step.weights_s) == pytest.approx(0.020)  # 16 GB / 800 GB/s
    assert value(m.step.kv_s) == pytest.approx(2.5e-9)  # 2,000 bytes / 800 GB/s
    assert value(m.step.token_s) == pytest.approx(3.2e-4)  # 16 x 10^9 / 5 x 10^13
    assert value(m.step.pair_s) == pytest.approx(8e-11)  # 4 x 5 layers x 200 / 5 x 10^13
    assert value(m.free_bytes) == pytest.approx(74e9)  # 90 - 16


def test_a_decode_step_of_llama_8b_on_an_h100() -> None:
    # (8.03 x 10^9 - 128,256 x 4,096 embeddings) x 2 bytes / (3,350 GB/s x 0.8) = 5.6005 ms; the cache of 1,000 + 100/2
    # tokens x 131,072 bytes is 0.051 ms; 2 ms a step on top. Computing (16.06 x 10^9 / (989 x 10^12 / 2) = 0.03 ms) is
    # hidden.
    m, r = machine(roofline(), "llama-3.1-8b", "h100-sxm"), load(1000, 100)
    assert value(tpot_s(m, r, ONE, prompt_s(m, r))) == pytest.approx(5.6005e-3 + 0.0514e-3 + 2e-3, abs=1e-6)


def test_a_prefill_of_llama_8b_on_an_h100() -> None:
    # 2 x 8.03 x 10^9 x 1,000 = 1.606 x 10^13 FLOPs; causal attention 2 x 32 x 4,096 x 1,000^2 = 2.62 x 10^11;
    # at 989 x 10^12 / 2 that is 32.48 + 0.53 ms, and a step's 2 ms.
    m, r = machine(roofline(), "llama-3.1-8b", "h100-sxm"), load(1000, 100)
    assert value(prefill_s(m, r.mean_input, r.mean_input_squared)) == pytest.approx(35.008e-3, abs=1e-6)


def test_a_short_prompt_is_never_quicker_than_reading_the_weights() -> None:
    assert value(prefill_s(toy(), 1.0 * ONE, ONE)) == pytest.approx(0.022)


def test_a_wide_prompt_distribution_pays_more_attention() -> None:
    # E[s^2] = mean^2 exp(sigma^2): at sigma 1 the quadratic part is e times as long.
    m, wide = toy(), load(20_000, 100, sigma_in=1.0)
    # Linear: 20,000 x 0.32 ms = 6.4 s; quadratic: 4e-11 x 4e8 = 0.016 s x e; 2 ms.
    assert value(prefill_s(m, wide.mean_input, wide.mean_input_squared)) == pytest.approx(6.402 + 0.016 * math.e)


def test_a_step_is_the_longer_of_reading_and_computing_plus_what_the_others_prompts_add() -> None:
    m, r = toy(), load(1000, 100)
    # Alone: 0.32 + 4e-11 x 10^6 + 0.002 = 0.32204 s. Beside answers, whose step has its 2 ms in any case, 0.32004 s.
    assert value(prefill_s(m, r.mean_input, r.mean_input_squared)) == pytest.approx(0.32204)
    adds = prompt_s(m, r)
    assert value(adds) == pytest.approx(0.32004)
    # At 9: 20 ms + 9 x 1,050 x 2.5 ns = 20.02 ms is longer than 9 x 0.32; + 2 ms + 8 x 320.04 / 100 ms.
    assert value(tpot_s(m, r, 9 * ONE, adds)) == pytest.approx(0.020023625 + 0.002 + 0.0256032)
    # At 100 computing is longer: 32 ms + 2 ms + 99 x 3.2004 ms.
    assert value(tpot_s(m, r, 100 * ONE, adds)) == pytest.approx(0.032 + 0.002 + 0.3168396)


def test_what_does_not_overlap_takes_its_time() -> None:
    # Half of the 2.88 ms of computing at 9 hides: 20.023625 + 1.44 + 2 ms. A sequence costs 0.1 ms more.
    engines = {"vllm": {**ROOFLINE, "overlap": 0.5, "sequence_s": 1e-4}}
    m, r = machine(catalog(engines=engines), "tiny", "toy"), load(1000, 100)
    none = NONE
    assert value(tpot_s(m, r, 9 * ONE, none)) == pytest.approx(0.020023625 + 0.00144 + 0.002 + 9e-4)
    # At 100: 32 ms of computing and half of the 20.2625 ms of reading.
    assert value(tpot_s(m, r, 100 * ONE, none)) == pytest.approx(0.032 + 0.01013125 + 0.002 + 0.01)


def test_prompts_and_tokens_are_exchanged_between_gpus() -> None:
    # Two GPUs over 0.1 GB/s: 2 x 5 layers x 2 (2 - 1) / 2 x 100 x 2 bytes = 2,000 bytes a token, 20 us.
    known = catalog(gpus={"toy": {"link_gb_s": 0.1}})
    m, r = machine(known, "tiny", "toy", tensor_parallel=2), load(1000, 100)
    fast = machine(catalog(), "tiny", "toy", tensor_parallel=2)
    assert value(m.step.exchange_s) == pytest.approx(20e-6, rel=1e-6)
    assert value(prompt_s(m, r)) - value(prompt_s(fast, r)) == pytest.approx(0.020, rel=1e-6)
    slower = value(tpot_s(m, r, 3 * ONE, NONE)) - value(tpot_s(fast, r, 3 * ONE, NONE))
    assert slower == pytest.approx(60e-6, rel=1e-6)


def test_what_the_scenario_says_of_an_engine_stands_over_the_catalog() -> None:
    m = toy(mfu=0.25, mbu=0.4, fixed_step_ms=5)
    assert value(m.step.weights_s) == pytest.approx(0.040)
    assert value(m.step.token_s) == pytest.approx(6.4e-4)
    assert value(m.step.fixed_s) == pytest.approx(0.005)
    with pytest.raises(UnknownName, match="Did you mean vllm"):
        toy(engine="vlm")


def test_a_cache_of_8_bits_is_half_as_large() -> None:
    assert value(toy(kv_precision="fp8").kv_bytes) == value(toy().kv_bytes) / 2 == 1000


def test_thinking_counts_as_output() -> None:
    r = load(1000, 100, thinking=400)
    assert value(r.mean_output) == 500
    assert value(r.mean_context) == 1250
    assert value(r.mean_total) == 1500
    assert value(r.output_at(0.95)) == 500
    assert value(load(1000, 0).mean_output) == 1  # an answer has a token


def test_a_mixture_of_experts_reads_the_experts_that_its_tokens_choose() -> None:
    # 8 experts of which a token uses 2: with 8 x 10^9 parameters, 3.5 of them active, the experts hold (8 - 3.5) / 0.75
    # = 6, read in 15 ms; the other 2 take 5 ms. One token touches a quarter, eight 1 - 0.75^8 = 89.99%.
    row = {"active_params_b": 3.5, "shape": {**SHAPE, "experts": 8, "experts_per_token": 2}}
    m, r = machine(catalog(models={"tiny": row}), "tiny", "toy"), load(1000, 100)
    assert value(m.step.token_s) == pytest.approx(7e9 / 5e13)
    assert value(m.reading_s(1.0)) == pytest.approx(0.005 + 0.015 / 4)
    assert value(m.reading_s(8.0)) == pytest.approx(0.005 + 0.015 * (1 - 0.75**8))
    assert value(m.reading_s(1e4)) == pytest.approx(0.020)
    none = NONE
    found = value(largest_batch(m, r, none, 0.018, 1000 * ONE))
    assert value(tpot_s(m, r, found * ONE, none)) == pytest.approx(0.018, rel=1e-9)
    # Without routed experts in its shape, all is read.
    dense = machine(catalog(models={"tiny": {"active_params_b": 1}}), "tiny", "toy")
    assert value(dense.reading_s(1.0)) == pytest.approx(0.020)
    assert value(dense.step.token_s) == pytest.approx(4e-5)


def test_a_batch_of_several_rearranges_the_weights() -> None:
    # Reading takes 20 ms, rearranging three quarters of that once there are two sequences; in part between one and two.
    m = machine(catalog(engines={"vllm": {"repack": 0.75}}), "tiny", "toy")
    assert value(m.reading_s(1.0)) == pytest.approx(0.020)
    assert value(m.reading_s(1.5)) == pytest.approx(0.0275)
    for batch in (2.0, 3.0, 100.0):
        assert value(m.reading_s(batch)) == pytest.approx(0.035)
    plain, r = toy(), load(1000, 100)
    more = value(tpot_s(m, r, 4.0 * ONE, NONE)) - value(tpot_s(plain, r, 4.0 * ONE, NONE))
    assert more == pytest.approx(0.015)


@pytest.mark.parametrize(
    ("precision", "flops"),
    [("bf16", 1e14), ("fp8", 2e14), ("int8", 3e14), ("int4", 1e14)],  # int4 weights are computed in bf16
)
def test_the_peak_that_a_precision_is_computed_at(precision: str, flops: float) -> None:
    known = catalog(gpus={"toy": {"fp8_tflops": 200, "int8_tops": 300}})
    found = value(machine(known, "tiny", "toy", precision=precision).step.token_s)
    assert found == pytest.approx(16e9 / (flops * 0.5))


def test_without_a_fast_path_low_precision_is_computed_in_bf16() -> None:
    assert value(toy(precision="fp8").step.token_s) == pytest.approx(3.2e-4)


# --- the largest batch -----------------------------------------------------------------------------------------------


def test_the_largest_batch_under_a_tpot_limit_by_hand() -> None:
    # step + 2 ms + (b - 1) x 3.2004 ms: 47.63 ms at 9 and 50.83 ms at 10.
    found = replica_capacity(toy(), load(1000, 100), objectives(tpot_p95_ms=50))
    assert value(found.batch) == 9
    # A request stays 0.32204 + 99 x 0.047626825 = 5.03710 s; nine of them leave 1.78674 a second.
    assert value(found.seconds) == pytest.approx(5.03710, abs=1e-5)
    assert value(found.requests_per_s) == pytest.approx(9 / 5.03710, rel=1e-5)


def test_the_largest_batch_that_the_memory_holds() -> None:
    # 74 GB / (2,000 bytes x 1,100 tokens) = 33,636.4.
    found = replica_capacity(toy(max_sequences=100_000), load(1000, 100), [])
    assert (value(found.batch), value(found.room)) == (33_636, 33_636)
    # So many only compute: each takes 99 x (0.32 ms + its 3.2004 ms of prefill) = 0.34852 s of the engine.
    assert value(found.requests_per_s) == pytest.approx(1 / 0.34852, rel=1e-3)
    # An engine that takes at most so many at once.
    assert value(replica_capacity(toy(max_sequences=256), load(1000, 100), []).batch) == 256


def test_a_ttft_limit_leaves_prefill_a_share_of_the_time() -> None:
    # A first token alone takes 0.32204 s + a step of 22.0026 ms. Under 1 s the wait may stretch the prefill to
    # 0.9779974 s, so that 1 - 0.32204 / 0.9779974 = 67.1% of the time may go into prefill.
    found = replica_capacity(toy(), load(1000, 100), objectives(ttft_p95_s=1.0))
    assert value(found.requests_per_s) == pytest.approx((1 - 0.32204 / 0.977997375) / 0.32004)
    assert value(found.floor_s["ttft_p95"]) == pytest.approx(0.32204 + 0.022002625)


def test_an_e2e_limit_by_hand() -> None:
    # 0.32204 s + 99 steps: under 5 s a step may take 47.25 ms, between b = 8 (44.42 ms) and 9 (47.63 ms).
    found = replica_capacity(toy(), load(1000, 100), objectives(e2e_p95_s=5.0))
    assert value(found.batch) == 8
    assert value(found.floor_s["e2e_p95"]) == pytest.approx(0.32204 + 99 * 0.022002625)


def test_an_e2e_limit_bounds_the_wait_of_a_one_token_answer() -> None:
    # A classifier: the answer is the first token, so the E2E limit is a TTFT limit.
    label = load(1000, 1)
    by_e2e = replica_capacity(toy(), label, objectives(e2e_p95_s=1.0))
    by_ttft = replica_capacity(toy(), label, objectives(ttft_p95_s=1.0))
    assert value(by_e2e.requests_per_s) == value(by_ttft.requests_per_s) < 0.7 / 0.32004


def test_thoughts_come_out_of_the_ttft_limit() -> None:
    # 100 thoughts and 100 tokens: prefill 0.32204, a step alone 20 ms + 1,100 x 2.5 ns + 2 ms = 22.00275 ms.
    # Half the engine may prefill, so that a prompt takes twice as long; of 5 s are left 5 - 0.02200275 - 0.64408
    # = 4.333917 s for 100 thoughts, 43.34 ms each. With 1.6002 ms of prefill per further request:
    # 22.0000 + b x 0.00275 + (b - 1) x 1.6002 <= 43.34 at b <= 14.3.
    found = replica_capacity(toy(), load(1000, 100, thinking=100), objectives(ttft_p95_s=5.0))
    assert value(found.batch) == 14
    alone = value(found.floor_s["ttft_p95"])
    assert alone == pytest.approx(0.32204 + 101 * 0.02200275)
    # Just above what a request alone takes, one is served at a time.
    tight = replica_capacity(toy(), load(1000, 100, thinking=100), objectives(ttft_p95_s=alone * 1.01))
    assert value(tight.batch) == 1
    assert value(replica_capacity(toy(), load(1000, 100, thinking=100), objectives(ttft_p95_s=alone)).batch) == 0


@pytest.mark.parametrize(
    "limits", [{"tpot_p95_ms": 21.9}, {"ttft_p95_s": 0.34}, {"e2e_p95_s": 2.4}, {"ttft_p99_s": 1e-6}]
)
def test_below_the_floor_no_batch_does(limits: dict[str, float]) -> None:
    found = replica_capacity(toy(), load(1000, 100), objectives(**limits))
    assert (value(found.batch), value(found.requests_per_s)) == (0, 0)
    (name, floor) = next(iter(found.floor_s.items()))
    limit = next(iter(limits.values())) / (1000 if "tpot" in name else 1)
    assert value(floor) > limit
    assert value(shortfall(found, objectives(**limits))) == pytest.approx(value(floor) / limit)


def test_a_model_that_does_not_fit_serves_nothing() -> None:
    huge = machine(catalog(models={"tiny": {"params_b": 400}}), "tiny", "toy")
    found = replica_capacity(huge, load(10, 10), [])
    assert (value(found.batch), value(found.room), value(found.requests_per_s)) == (0, 0, 0)
    assert value(shortfall(found, [])) == math.inf


LENGTHS = st.floats(1, 20_000)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "ttft_p50_s": st.floats(0.02, 50),
        "ttft_p95_s": st.floats(0.02, 50),
        "ttft_p99_s": st.floats(0.02, 50),
        "tpot_p50_ms": st.floats(5, 500),
        "tpot_p95_ms": st.floats(5, 500),
        "tpot_p99_ms": st.floats(5, 500),
        "e2e_p50_s": st.floats(0.05, 100),
        "e2e_p95_s": st.floats(0.05, 100),
        "e2e_p99_s": st.floats(0.05, 100),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    inputs=LENGTHS,
    outputs=LENGTHS,
    sigma=st.floats(0, 1),
    limits=LIMITS,
    memory_gb=st.floats(17.7, 19),
    flops=st.floats(10, 2000),
    repack=st.sampled_from([0.0, 0.75]),
)
def test_the_closed_form_is_the_largest_batch_that_a_search_finds(
    inputs: float, outputs: float, sigma: float, limits: dict[str, float], memory_gb: float, flops: float, repack: float
) -> None:
    engine = {"vllm": {"repack": repack}}
    known = catalog(gpus={"toy": {"memory_gb": memory_gb, "bf16_tflops": flops}}, engines=engine)
    m = machine(known, "tiny", "toy", max_sequences=1_000_000)
    r = load(inputs, outputs, sigma_in=sigma, sigma_out=sigma)
    found = replica_capacity(m, r, objectives(**limits))
    adds = prompt_s(m, r)
    held = value(m.free_bytes) / (value(m.kv_bytes) * value(r.mean_total))
    assume(held < 100_000)
    tries = np.arange(1.0, math.floor(held) + 1)
    tpot = np.asarray(tpot_s(m, r, tries[None, :], adds)).ravel()
    step = value(tpot_s(m, r, ONE, adds))
    slack = np.full(tries.shape, np.inf)  # of the tightest objective, relative
    for what, level, limit in objectives(**limits):
        reading = value(prefill_s(m, r.input_at(level), r.input_at(level) ** 2))
        if what != "tpot":  # a prompt that is read without waiting, and one step
            slack = np.minimum(slack, (limit - reading - step) / limit)
        if what != "ttft":
            last = reading + (value(r.output_at(level)) - 1) * tpot if what == "e2e" else tpot
            slack = np.minimum(slack, (limit - last) / limit)
    assume(not np.any(np.abs(slack) < 1e-6))  # a limit that is met exactly may round either way
    meets = tries[slack > 0]
    assert value(found.batch) == (meets[-1] if meets.size else 0)


# --- replicas --------------------------------------------------------------------------------------------------------


def test_replicas_by_hand() -> None:
    # 10 a second x 5.03710 s = 50.37 in flight; 95% of the time at most 1.644854 x sqrt(50.37) = 11.67 more. 62.04
    # slots of 9 are 6.89 replicas; by the rate alone 10 / 1.78674 = 5.60 would do.
    capacity = replica_capacity(toy(), load(1000, 100), objectives(tpot_p95_ms=50))
    assert value(replicas_needed(capacity, 10 * ONE, ONE, 0.95)) == 7
    # Gaps with a coefficient of variation of 3 are five times as peaked, (9 + 1) / 2: 26.1 more, 8.50 replicas.
    assert value(replicas_needed(capacity, 10 * ONE, 3 * ONE, 0.95)) == 9
    # The median needs no reserve: 50.37 / 9 = 5.60.
    assert value(replicas_needed(capacity, 10 * ONE, ONE, 0.5)) == 6
    assert norm.ppf(0.95) == pytest.approx(1.644854, abs=1e-6)


def test_a_trickle_needs_one_replica_and_an_impossible_limit_has_no_number() -> None:
    capacity = replica_capacity(toy(), load(1000, 100), objectives(tpot_p95_ms=50))
    assert value(replicas_needed(capacity, 1e-9 * ONE, ONE, 0.95)) == 1
    none = replica_capacity(toy(), load(1000, 100), objectives(tpot_p95_ms=1))
    assert math.isnan(value(replicas_needed(none, ONE, ONE, 0.95)))


def test_a_fleet_has_spares_and_a_least_size() -> None:
    # 864,000 a day are 10 a second: 7 replicas.
    m, r = toy(), load(1000, 100)
    capacity = replica_capacity(m, r, objectives(tpot_p95_ms=50))
    case = scenario({"requests_per_day": 864_000}, {"serving": {"spare_replicas": 2}})
    found = fleet(Inputs(case), capacity, 0.95)
    assert found.busiest[0, 0].tolist() == [7, 7, 7]
    assert found.replicas[0, 0].tolist() == [9, 9, 9]
    assert found.utilisation[0, 0, 0] == pytest.approx(10 / (9 * value(capacity.requests_per_s)))
    assert fleet(Inputs(case), capacity, 0.95, spares=False).replicas[0, 0, 0] == 7
    wide = fleet(Inputs(case, {"min_replicas": [1, 20]}), capacity, 0.95)
    assert wide.busiest[0, :, 0].tolist() == [7, 20]


def test_the_busiest_hour_sizes_the_fleet_and_autoscaling_follows_the_week() -> None:
    # Half the week at 1.5, half at 0.5 of the mean of 10 a second: 15 and 5.
    # 15: 75.56 + 14.30 = 89.86 -> 9.98 -> 10. 5: 25.19 + 8.25 = 33.44 -> 3.72 -> 4. Mean 7.
    week = [3.0] * 84 + [1.0] * 84
    case = scenario({"requests_per_day": 864_000, "hour_of_week": week}, {"serving": {"spare_replicas": 0}})
    capacity = replica_capacity(toy(), load(1000, 100), objectives(tpot_p95_ms=50))
    assert fleet(Inputs(case), capacity, 0.95).replicas[0, 0, 0] == 10
    scaled = case.model_copy(
        update={"choices": case.choices.model_copy(update={"serving": Serving(spare_replicas=0, autoscaling=True)})}
    )
    found = fleet(Inputs(scaled), capacity, 0.95)
    # Once a week six more are ordered, five minutes of 168 hours early.
    assert found.replicas[0, 0, 0] == pytest.approx(7 + 6 * (300 / 3600) / 168)
    at_once = scaled.model_copy(
        update={
            "choices": case.choices.model_copy(
                update={"serving": Serving(spare_replicas=0, autoscaling=True, start_up_s=0)}
            )
        }
    )
    assert fleet(Inputs(at_once), capacity, 0.95).replicas[0, 0, 0] == pytest.approx(7)
    assert found.busiest[0, 0, 0] == 10


@pytest.mark.parametrize(("commitment", "replicas"), [("on-demand", [15, 8, 5]), ("reserved-1y", [15, 15, 15])])
def test_machines_that_are_reserved_or_owned_stay_when_the_traffic_goes(commitment: str, replicas: list[int]) -> None:
    # 20, 10 and 5 a second, halving: 13.03 -> 14, 6.89 -> 7, and (25.19 + 8.25) / 9 = 3.72 -> 4; one spare each.
    case = scenario({"requests_per_day": 1_728_000, "growth_per_month": -0.5}, {"serving": {"commitment": commitment}})
    capacity = replica_capacity(toy(), load(1000, 100), objectives(tpot_p95_ms=50))
    assert fleet(Inputs(case), capacity, 0.95).replicas[0, 0].tolist() == replicas


# --- latency ---------------------------------------------------------------------------------------------------------


def test_latency_of_an_idle_engine_by_hand() -> None:
    m, r = toy(), load(1000, 100)
    capacity = replica_capacity(m, r, [])
    found = latencies(m, r, capacity, 1e-12 * ONE[None], ONE[None], ONE)
    # 0.32204 s of prefill and a step of 22.002625 ms; then 99 more steps.
    assert value(found["ttft_p95"]) == pytest.approx(0.344042625)
    assert value(found["tpot_p99"]) == pytest.approx(0.022002625)
    assert value(found["e2e_p50"]) == pytest.approx(0.32204 + 99 * 0.022002625)


def test_in_flight_by_hand() -> None:
    # One a second: b = S(b) = 0.32204 + 99 x (22 ms + b x 2.625 us + (b - 1) x 3.2004 ms), which is
    # 2.1832004 + 0.31709948 b, so b = 2.1832004 / 0.68290052 = 3.196952.
    m, r = toy(), load(1000, 100)
    capacity = replica_capacity(m, r, [])
    assert value(in_flight(m, r, capacity, ONE[None])) == pytest.approx(3.196952, abs=1e-5)
    # Alone a request stays 2.5003 s: 0.025 in flight at one in a hundred seconds.
    assert value(in_flight(m, r, capacity, 0.01 * ONE[None])) == pytest.approx(0.0250030, abs=1e-7)
    # At 3.1 a second each takes 99 x (0.32 + 3.2004) ms = 0.34852 s to compute, more than there is.
    assert value(in_flight(m, r, capacity, 3.1 * ONE[None])) == math.inf


@settings(max_examples=100, deadline=None)
@given(inputs=LENGTHS, outputs=LENGTHS, flops=st.floats(1, 2000), rate=st.floats(1e-6, 100))
def test_what_is_in_flight_leaves_as_fast_as_it_comes(inputs: float, outputs: float, flops: float, rate: float) -> None:
    m, r = machine(catalog(gpus={"toy": {"bf16_tflops": flops}}), "tiny", "toy"), load(inputs, outputs)
    capacity = replica_capacity(m, r, [])
    batch = in_flight(m, r, capacity, rate * ONE[None])
    assume(value(batch) < 1e6)
    tpot = tpot_s(m, r, np.maximum(batch, 1.0), capacity.prompt)
    stays = capacity.prefill + (r.mean_output - 1) * tpot
    assert value(batch) == pytest.approx(rate * value(stays), rel=1e-6)


def test_latency_under_load_by_hand() -> None:
    # One a second on one replica of at most 9: 3.196952 in flight; 95%: + 1.644854 x 1.788002 = 6.137955;
    # 99%: + 2.326348 x 1.788002 = 7.356468.
    m, r = toy(), load(1000, 100)
    capacity = replica_capacity(m, r, objectives(tpot_p95_ms=50))
    found = latencies(m, r, capacity, ONE[None], ONE[None], ONE)
    # TPOT: 20 ms + 2 ms + b x 2.625 us + (b - 1) x 3.2004 ms.
    for level, batch in ((50, 3.196952), (95, 6.137955), (99, 7.356468)):
        expected = 0.022 + batch * 2.625e-6 + (batch - 1) * 3.2004e-3
        assert value(found[f"tpot_p{level}"]) == pytest.approx(expected, rel=1e-5)
        assert value(found[f"e2e_p{level}"]) == pytest.approx(0.32204 + 99 * expected, rel=1e-5)
    # Prompts keep the engine busy 32.004% of the time, a tail one takes 0.32204 / 0.67996 s; the median does not wait.
    assert value(found["ttft_p95"]) == pytest.approx(0.32204 / 0.67996 + 0.022002625)
    assert value(found["ttft_p50"]) == pytest.approx(0.344042625)
    # Bursts of a coefficient of variation of 3, (9 + 1) / 2 = 5: sqrt 5 times the reserve, 9.75; the engine takes 9.
    bursty = latencies(m, r, capacity, ONE[None], ONE[None], 3 * ONE)
    assert value(bursty["tpot_p95"]) == pytest.approx(0.047626825, abs=1e-6)


def test_latency_depends_on_the_load_and_not_on_a_limit_that_is_far() -> None:
    # The same fleet under the same traffic is as fast whether 60 s, 30 s or nothing is asked for.
    m, r = toy(), load(1000, 100)
    found = [
        latencies(m, r, replica_capacity(m, r, wanted), ONE[None], ONE[None], ONE)
        for wanted in ([], objectives(e2e_p95_s=60), objectives(e2e_p95_s=30))
    ]
    assert found[0] == found[1] == found[2]


def sized(
    limits: dict[str, float], r: Load, rate: float, cv: float, known: Catalog | None = None
) -> tuple[Machines, Any, Any, dict[str, float]]:
    m = machine(known or catalog(), "tiny", "toy")
    wanted = objectives(**limits)
    capacity = replica_capacity(m, r, wanted)
    level = max([0.95, *(level for _, level, _ in wanted)])
    needed = replicas_needed(capacity, rate * ONE, cv * ONE, level)
    found = latencies(m, r, capacity, rate * ONE, np.where(np.isnan(needed), np.inf, needed), cv * ONE)
    return m, capacity, needed, {name: value(seconds) for name, seconds in found.items()}


@settings(max_examples=250, deadline=None)
@given(
    inputs=LENGTHS,
    outputs=LENGTHS,
    sigma_in=st.floats(0, 1),
    sigma_out=st.floats(0, 1),
    thinking=st.one_of(st.just(0.0), st.floats(0, 5000)),
    limits=LIMITS,
    rate=st.floats(1e-4, 1e3),
    cv=st.floats(0, 20),
)
def test_no_latency_is_reported_above_the_limit_that_its_fleet_was_sized_for(
    inputs: float,
    outputs: float,
    sigma_in: float,
    sigma_out: float,
    thinking: float,
    limits: dict[str, float],
    rate: float,
    cv: float,
) -> None:
    r = load(inputs, outputs, thinking, sigma_in, sigma_out)
    _, capacity, needed, found = sized(limits, r, rate, cv)
    for what, level, limit in objectives(**limits):
        name = f"{what}_p{round(level * 100)}"
        if value(capacity.batch) >= 1:
            assert found[name] <= limit * (1 + 1e-6), name
            assert value(capacity.floor_s[name]) <= limit * (1 + 1e-6), name
    if value(capacity.batch) < 1 and value(capacity.room) >= 1:
        missed = value(shortfall(capacity, objectives(**limits)))
        assert missed > 1 - 1e-6
        assert found == pytest.approx(sized({}, r, 1e-12, cv)[3], rel=1e-9)  # a single request's
    else:
        assert math.isnan(value(needed)) == (value(capacity.batch) < 1)


@settings(max_examples=100, deadline=None)
@given(
    inputs=LENGTHS,
    outputs=LENGTHS,
    sigma=st.floats(0, 1),
    thinking=st.floats(0, 500),
    limits=LIMITS,
    rate=st.floats(1e-4, 1e3),
    cv=st.floats(0, 20),
)
def test_tails_are_longer_than_medians_and_the_end_comes_after_the_start(
    inputs: float, outputs: float, sigma: float, thinking: float, limits: dict[str, float], rate: float, cv: float
) -> None:
    _, _, _, found = sized(limits, load(inputs, outputs, thinking, sigma, sigma), rate, cv)
    for what in ("ttft", "tpot", "e2e"):
        assert 0 < found[f"{what}_p50"] <= found[f"{what}_p95"] <= found[f"{what}_p99"]
    for level in ("p50", "p95", "p99"):
        assert found[f"e2e_{level}"] >= found[f"ttft_{level}"]


# --- properties of the sizing ----------------------------------------------------------------------------------------

TRAFFIC = st.fixed_dictionaries({"inputs": LENGTHS, "outputs": LENGTHS, "thinking": st.floats(0, 500)})


def replicas(limits: dict[str, float], traffic: dict[str, float], rate: float, cv: float = 1.0) -> tuple[float, float]:
    """(batch, replicas), infinitely many where none meets the limits."""
    r = load(traffic["inputs"], traffic["outputs"], traffic["thinking"], 0.5, 0.5)
    _, capacity, needed, _ = sized(limits, r, rate, cv)
    return value(capacity.batch), (math.inf if math.isnan(value(needed)) else value(needed))


@settings(max_examples=100, deadline=None)
@given(TRAFFIC, LIMITS, st.floats(1e-3, 1e4), st.floats(1, 100), st.floats(0, 10), st.floats(0, 10))
def test_more_or_burstier_traffic_never_needs_fewer_replicas(
    traffic: dict[str, float], limits: dict[str, float], rate: float, more: float, cv: float, burst: float
) -> None:
    assert replicas(limits, traffic, rate * more, cv)[1] >= replicas(limits, traffic, rate, cv)[1]
    assert replicas(limits, traffic, rate, cv + burst)[1] >= replicas(limits, traffic, rate, cv)[1]


@settings(max_examples=150, deadline=None)
@given(TRAFFIC, LIMITS, st.data(), st.floats(1e-3, 1e4))
def test_a_tighter_slo_never_needs_fewer_replicas_nor_a_larger_batch(
    traffic: dict[str, float], limits: dict[str, float], data: st.DataObject, rate: float
) -> None:
    assume(limits)
    tighter = {name: limit * data.draw(st.floats(0.2, 1), name) for name, limit in limits.items()}
    fewer = {name: limits[name] for name in data.draw(st.lists(st.sampled_from(sorted(limits)), unique=True))}
    for strict, loose in ((tighter, limits), (limits, fewer)):
        (batch, count), (loose_batch, loose_count) = (replicas(case, traffic, rate) for case in (strict, loose))
        assert batch <= loose_batch
        assert count >= loose_count


@settings(max_examples=100, deadline=None)
@given(TRAFFIC, st.floats(1, 10), st.floats(1, 10), st.floats(1, 4000))
def test_a_faster_gpu_never_has_a_higher_tpot(
    traffic: dict[str, float], bandwidth: float, flops: float, batch: float
) -> None:
    fast = catalog(gpus={"toy": {"bandwidth_gb_s": 1000 * bandwidth, "bf16_tflops": 100 * flops}})
    r = load(traffic["inputs"], traffic["outputs"], traffic["thinking"])
    slow_m, fast_m = toy(), machine(fast, "tiny", "toy")
    slow_s, fast_s = (prefill_s(m, r.mean_input, r.mean_input_squared) for m in (slow_m, fast_m))
    assert value(fast_s) <= value(slow_s)
    slow_adds, fast_adds = (prompt_s(m, r) for m in (slow_m, fast_m))
    assert value(tpot_s(fast_m, r, batch * ONE, fast_adds)) <= value(tpot_s(slow_m, r, batch * ONE, slow_adds)) * (
        1 + 1e-9
    )


@settings(max_examples=100, deadline=None)
@given(TRAFFIC, LIMITS, st.floats(1e-3, 1e4), st.floats(17.8, 30))
def test_the_fleet_is_stable_in_time_and_in_memory(
    traffic: dict[str, float], limits: dict[str, float], rate: float, memory_gb: float
) -> None:
    # 17.8 GB x 0.9 leave next to nothing beside 16 GB of weights.
    known = catalog(gpus={"toy": {"memory_gb": memory_gb + 1}})
    r = load(traffic["inputs"], traffic["outputs"], traffic["thinking"])
    m, capacity, needed, _ = sized(limits, r, rate, 1.0, known)
    assume(value(capacity.batch) >= 1)
    assert value(needed) * value(capacity.requests_per_s) >= rate * (1 - 1e-9)
    assert value(capacity.batch) * value(m.kv_bytes) * value(r.mean_total) <= value(m.free_bytes) * (1 + 1e-9)
    # Little's law: what is in flight at the largest batch has a slot.
    assert rate * value(capacity.seconds) <= value(needed) * value(capacity.batch) * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10), min_size=168, max_size=168), st.floats(1, 1e7), LIMITS, st.floats(1, 5))
def test_autoscaling_never_costs_more_than_the_fixed_fleet(
    week: list[int], requests: float, limits: dict[str, float], least: float
) -> None:
    assume(sum(week) > 0)
    capacity = replica_capacity(toy(), load(500, 50), objectives(**limits))
    assume(value(capacity.batch) >= 1)
    cases = [
        scenario(
            {"requests_per_day": requests, "hour_of_week": week},
            {"serving": {"autoscaling": on, "min_replicas": least}},
        )
        for on in (True, False)
    ]
    scaled, fixed = (fleet(Inputs(case), capacity, 0.95) for case in cases)
    assert np.all(scaled.replicas <= fixed.replicas + 1e-9)  # machines start in less than the hour before
    assert np.all(scaled.replicas >= max(least, 1.0) + 1 - 1e-9)  # the least of them, and a spare
    assert np.all(scaled.utilisation <= 1 + 1e-9)


def test_shapes_are_gpus_by_scenarios_by_months() -> None:
    known = catalog(
        gpus={"big-toy": {"name": "B", "memory_gb": 200, "bandwidth_gb_s": 4000, "bf16_tflops": 900}},
        models={"tiny": {"shape": SHAPE}},
    )
    m = machine(known, "tiny", "toy", "big-toy")
    x = Inputs(scenario({"growth_per_month": 0.5}), {"input_tokens": [10, 100, 1000]})
    r = Load.of(x.lengths, x["student_reasoning_tokens"])
    capacity = replica_capacity(m, r, objectives(e2e_p95_s=4, tpot_p95_ms=40))
    assert capacity.batch.shape == capacity.room.shape == (2, 3, 1)
    assert fleet(x, capacity, 0.95).replicas.shape == (2, 3, 3)
    alone = replica_capacity(machine(known, "tiny", "big-toy"), load(100, 100), objectives(e2e_p95_s=4, tpot_p95_ms=40))
    assert capacity.batch[1, 1, 0] == value(alone.batch)
