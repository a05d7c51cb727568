"""The time of one step by hand, at its limits and by its properties."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.catalog import Catalog, GpuRow, ModelRow
from distillcalc.errors import InputError
from distillcalc.estimate.step_time import CONSTANTS, PCIE_GB_S, Placement, StepTime, Weights
from tests.estimate.tiny import catalog

# Every constant a number of its own, so that a mix-up shows.
ENGINE: dict[str, float] = {
    "mbu": 0.5, "kv_mbu": 0.4, "expert_mbu": 0.25, "mfu_bf16": 0.8, "mfu_fp8": 0.5, "mfu_fp4": 0.25,
    "expert_mfu": 0.1, "attention_mfu": 0.5, "overlap": 0.5, "fixed_s": 1e-3, "layer_s": 1e-5, "expert_layer_s": 2e-5,
    "quantise_s": 3e-6, "sequence_s": 1e-4, "all_reduce_s": 5e-6, "link_efficiency": 0.5,
    "repack": 0.0,
}  # fmt: skip
SHAPE = {
    "layers": 10, "hidden": 100, "heads": 10, "kv_heads": 5, "head_dim": 10, "vocab": 1000, "tied_embeddings": True,
}  # fmt: skip
EXPERTS = {"active_params_b": 3.5, "shape": {**SHAPE, "experts": 8, "experts_per_token": 2}}


def model(**changes: Any) -> ModelRow:
    return catalog(models={"tiny": {"shape": SHAPE, **changes}}).model("tiny")


def gpu(**changes: Any) -> GpuRow:
    return catalog(gpus={"toy": {"fp8_tflops": 200, "link_gb_s": 100, **changes}}).gpu("toy")


def step(row: ModelRow, precision: str = "bf16", tensor_parallel: int = 1, **changes: float) -> StepTime:
    placement = Placement.of(row, gpu(), precision, tensor_parallel)
    return StepTime.of(placement, SimpleNamespace(**{**ENGINE, **changes}))


# --- weights ---------------------------------------------------------------------------------------------------------


def test_the_engine_of_these_tests_has_every_constant() -> None:
    assert set(ENGINE) == set(CONSTANTS)


def test_weights_of_a_dense_model_with_one_table_of_embeddings() -> None:
    # 8 x 10^9 parameters x 2 bytes, and all of it is read: the table is the output layer too.
    assert Weights.of(model(), "bf16") == Weights(16e9, 0.0, 0.0, 1.0, 8e9)


def test_embeddings_of_their_own_are_held_and_not_read() -> None:
    # Two tables of 1,000 x 100. One is read as the output layer; of the other single rows are: 2 x 10^5 bytes.
    found = Weights.of(model(shape={**SHAPE, "tied_embeddings": False}), "bf16")
    assert found.embeddings == 200_000
    assert found.every == 16e9 - 200_000
    assert found.total == 16e9


@pytest.mark.parametrize(("precision", "bits"), [("fp8", 8), ("int8", 8), ("int4", 4.25), ("fp4", 4.5)])
def test_tables_stay_in_16_bits(precision: str, bits: float) -> None:
    # 8 x 10^9 less a table of 10^5, in few bits, with their scales; the table at 2 bytes.
    assert Weights.of(model(), precision).every == pytest.approx((8e9 - 1e5) * bits / 8 + 2e5, rel=1e-12)


def test_in_32_bits_everything_is_twice_as_large() -> None:
    two_tables = model(shape={**SHAPE, "tied_embeddings": False})
    for row in (model(), two_tables, model(**EXPERTS)):
        half, whole = Weights.of(row, "bf16"), Weights.of(row, "fp32")
        assert whole == Weights(2 * half.every, 2 * half.experts, 2 * half.embeddings, half.expert_miss, half.active)
    assert Placement.of(model(), gpu(kind="cpu"), "fp32", 1, kv_precision="fp32").kv_bytes == 4000


def test_a_cpus_peak_is_what_it_computes_in_and_a_gpu_has_one_for_32_bits() -> None:
    assert Placement.of(model(), gpu(kind="cpu"), "fp32", 1).peak == 1e14
    assert Placement.of(model(), gpu(fp32_tflops=50), "fp32", 1).peak == 5e13
    with pytest.raises(InputError, match=r"no fp32 peak of .*fp32_tflops in \[overrides\.gpus"):
        Placement.of(model(), gpu(), "fp32", 1)


def test_what_the_experts_hold() -> None:
    # (8 - 3.5) x 10^9 / (1 - 2/8) = 6 x 10^9 in the experts, 2 x 10^9 beside them.
    found = Weights.of(model(**EXPERTS), "bf16")
    assert (found.experts, found.every, found.expert_miss, found.active) == (12e9, 4e9, 0.75, 3.5e9)
    assert Weights.of(model(active_params_b=3.5), "bf16").experts == 0  # without experts in its shape


def test_experts_of_gpt_oss_as_published() -> None:
    # gpt-oss model card (arXiv 2508.10925), table 1: 114.71 of 116.83 x 10^9 parameters are in the MLPs, which are all
    # experts.
    found = Weights.of(Catalog.load().model("gpt-oss-120b"), "bf16")
    assert found.experts / 2 == pytest.approx(114.71e9, rel=0.01)


# --- placement -------------------------------------------------------------------------------------------------------


def test_gpus_share_every_layer() -> None:
    found = Placement.of(model(), gpu(), "bf16", 2)
    assert found.weights_bytes == 8e9
    assert found.kv_bytes == 1000  # of 2 x 10 layers x 5 heads x 10 x 2 bytes
    assert found.token_flop == 8e9  # 2 x 8 x 10^9 / 2
    assert found.pair_flop == 2000  # 4 x 10 layers x 10 heads x 10 / 2
    assert (found.bandwidth, found.peak, found.attention_peak, found.link) == (1e12, 1e14, 1e14, 1e11)
    assert (found.layers, found.hidden, found.is_moe, found.tensor_parallel, found.computes_in) == (10, 100, 0, 2, 16)


def test_cache_heads_that_are_fewer_than_gpus_are_held_more_than_once() -> None:
    assert Placement.of(model(), gpu(), "bf16", 5).kv_bytes == 400
    assert Placement.of(model(), gpu(), "bf16", 8).kv_bytes == 400  # 2,000 / 5 heads
    assert Placement.of(model(), gpu(), "bf16", 8, kv_precision="fp8").kv_bytes == 200


def test_more_gpus_may_share_the_experts() -> None:
    found = Placement.of(model(**EXPERTS), gpu(), "bf16", 2, expert_gpus=4)
    assert (found.weights_bytes, found.experts_bytes, found.token_flop) == (2e9, 3e9, 1.75e9)
    assert found.pair_flop == 2000


@pytest.mark.parametrize(
    ("precision", "tflops", "bits"),
    # fp4 weights on a GPU without fp4 and int4 weights on any are unpacked to 16 bits.
    [("bf16", 100, 16), ("fp8", 200, 8), ("int8", 300, 8), ("int4", 100, 16), ("fp4", 400, 4)],
)
def test_products_are_computed_in_what_the_gpu_can(precision: str, tflops: float, bits: float) -> None:
    able = Placement.of(model(), gpu(int8_tops=300, fp4_tflops=400), precision, 1)
    assert (able.peak, able.computes_in) == (tflops * 1e12, bits)
    assert able.attention_peak == 1e14
    plain = Placement.of(model(), gpu(fp8_tflops=None), precision, 1)
    assert (plain.peak, plain.computes_in) == (1e14, 16)


def test_without_a_known_link_gpus_speak_over_pcie() -> None:
    assert Placement.of(model(), gpu(link_gb_s=None), "bf16", 2).link == PCIE_GB_S * 1e9 == 32e9


def test_a_stack_is_its_placements() -> None:
    ones = [Placement.of(model(), gpu(), precision, n) for precision, n in (("bf16", 1), ("fp8", 2), ("fp8", 8))]
    stacked = StepTime.of(Placement.stack(ones), SimpleNamespace(**ENGINE)).seconds(3.0, 40.0, 5000.0, 700.0)
    alone = [float(StepTime.of(one, SimpleNamespace(**ENGINE)).seconds(3.0, 40.0, 5000.0, 700.0)) for one in ones]
    assert stacked.tolist() == alone


# --- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_by_hand() -> None:
    # fp8 on two toys of 1,000 GB/s, 200 TFLOPS in fp8 and 100 in bf16, and links of 100 GB/s.
    found = step(model(), "fp8", 2)
    # 1 ms + 10 layers x (10 + 3 us) + 20 all-reduces x 5 us.
    assert found.fixed_s == pytest.approx(1.23e-3)
    assert found.weights_s == pytest.approx(8.0001e-3)  # (8 x 10^9 + 10^5) / 2 / (1,000 GB/s x 0.5)
    assert found.kv_s == pytest.approx(2.5e-9)  # 1,000 bytes / (1,000 GB/s x 0.4)
    assert found.token_s == pytest.approx(8e-5)  # 8 x 10^9 / (200 x 10^12 x 0.5)
    assert found.pair_s == pytest.approx(4e-11)  # 2,000 / (100 x 10^12 x 0.5)
    # 20 all-reduces x 100 x 2 bytes x 2 (2 - 1) / 2 = 4,000 bytes / (100 GB/s x 0.5).
    assert found.exchange_s == pytest.approx(8e-8)
    assert (found.experts_s, found.sequence_s, found.overlap) == (0, 1e-4, 0.5)
    # Four sequences and a prompt of 100 tokens: reading 8.0001 + 4,000 x 2.5e-6 ms = 8.0101 ms, computing
    # 104 x 0.08 + 5,000 x 4e-8 = 8.3202 ms, engine 1.23 + 4 x 0.1 + 104 x 8e-5 = 1.63832 ms; half of the shorter hides.
    assert float(found.seconds(4, 104, 4000, 5000)) == pytest.approx((1.63832 + 8.3202 + 8.0101 / 2) * 1e-3)


def test_a_step_of_a_mixture_of_experts_by_hand() -> None:
    found = step(model(**EXPERTS))
    assert found.fixed_s == pytest.approx(1e-3 + 10 * 3e-5)
    assert found.weights_s == pytest.approx(8e-3)  # 4 GB / (1,000 GB/s x 0.5)
    assert found.experts_s == pytest.approx(48e-3)  # 12 GB / (1,000 GB/s x 0.25)
    assert found.token_s == pytest.approx(7e-4)  # 7 x 10^9 / (10^14 x 0.1)
    # Two tokens touch 1 - 0.75^2 = 7/16 of the experts: 8 + 21 ms and 100 x 2,000 / (4 x 10^11) s = 0.5 us of cache;
    # computing 1.4 ms, half of which hides; engine 1.3 + 0.2 ms.
    assert float(found.seconds(2, 2, 100)) == pytest.approx(29e-3 + 0.5e-6 + 0.7e-3 + 1.5e-3)


def test_one_gpu_exchanges_nothing() -> None:
    alone = step(model())
    assert alone.exchange_s == 0
    assert alone.fixed_s == pytest.approx(1e-3 + 10 * 1e-5)
    assert step(model(), all_reduce_s=1.0, link_efficiency=1e-9).seconds(1, 1, 1) == alone.seconds(1, 1, 1)


def test_experts_touched_go_from_those_of_one_token_to_all() -> None:
    found = step(model(**EXPERTS))
    reading = [float(found.seconds(0, tokens, 0)) for tokens in (1e-12, 1, 500)]
    computing = [0.5 * 7e-4 * tokens for tokens in (0, 1)]
    assert reading[0] == pytest.approx(found.fixed_s + 8e-3)
    assert reading[1] == pytest.approx(found.fixed_s + 8e-3 + 48e-3 * 2 / 8 + computing[1])
    # 500 tokens compute for 350 ms, behind which half of all 56 ms of reading hides.
    assert reading[2] == pytest.approx(found.fixed_s + 0.35 + 28e-3)


def test_a_step_of_several_tokens_rearranges_the_weights_once_whatever_their_number() -> None:
    # Reading takes 16 ms / 0.5 = 32 ms, rearranging 0.75 of that; computing 0.2 ms a token, half of which hides.
    found, plain = step(model(), repack=0.75), step(model())
    assert found.repack_s == pytest.approx(24e-3)
    assert found.seconds(1, 1, 0) == plain.seconds(1, 1, 0)
    for tokens in (2, 3, 50):
        more = float(found.seconds(1, tokens, 0) - plain.seconds(1, tokens, 0))
        assert more == pytest.approx(24e-3)
    # A mean batch between one and two is in part steps of two tokens.
    assert float(found.seconds(1, 1.25, 0) - plain.seconds(1, 1.25, 0)) == pytest.approx(6e-3)


def test_at_full_peaks_and_without_an_engine_it_is_the_roofline() -> None:
    ideal = {
        name: 0.0 if name.endswith("_s") or name == "repack" else 1.0 for name in CONSTANTS
    }  # fmt: skip
    found = step(model(), **ideal)
    for tokens in (1, 90, 110, 1000):  # 16 GB at 1,000 GB/s: 16 ms; 0.16 ms a token
        assert float(found.seconds(1, tokens, 0)) == pytest.approx(max(16e-3, tokens * 1.6e-4))


SIZES = st.floats(0, 1e6)


@given(st.sampled_from(["bf16", "fp8", "int4"]), st.sampled_from([1, 2, 8]), st.booleans(), st.lists(SIZES, min_size=8))
def test_more_work_never_takes_less_time(precision: str, n: int, moe: bool, sizes: list[float]) -> None:
    found = step(model(**(EXPERTS if moe else {})), precision, n)
    less, more = np.array(sizes[:4]), np.array(sizes[:4]) + np.array(sizes[4:8])
    assert found.seconds(*more) >= found.seconds(*less) * (1 - 1e-12)
    assert found.seconds(*less) >= found.fixed_s


@given(st.sampled_from([f.name for f in dataclasses.fields(StepTime) if f.name.endswith("_s")]), st.floats(1, 10))
def test_a_slower_part_never_makes_a_step_faster(part: str, times: float) -> None:
    found = step(model(**EXPERTS), tensor_parallel=2)
    slower = dataclasses.replace(found, **{part: getattr(found, part) * times})
    assert slower.seconds(4, 104, 4000, 5000) >= found.seconds(4, 104, 4000, 5000) * (1 - 1e-12)
