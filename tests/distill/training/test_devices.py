"""How much of a batch fits: the formula by hand, divisors, and advice that would be right if it were followed."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.training import devices
from distillcalc.distill.training.devices import CHUNK_BYTES, SAFE, Memory, memory_of, micro_batch
from distillcalc.distill.training.progress import OutOfMemory
from distillcalc.distill.training.recipe import Lora
from tests.distill.training import tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

GIB = 2**30


def test_the_formula_by_hand() -> None:
    model = tiny.llama()  # hidden 32, feed-forward 64, two layers, four heads of eight, two of keys, 300 ids tied
    # 300 x 32 of embeddings; of a layer 32 x 32 x 2 (q, o) + 32 x 16 x 2 (k, v) + 3 x 32 x 64 + 2 x 32; a last norm.
    parameters = 9_600 + 2 * (2_048 + 1_024 + 6_144 + 64) + 32
    assert parameters == 28_192
    memory = memory_of(model, precision="fp32")
    # 4 bytes of weights, 12 of a gradient and two moments; four chunks of 64 MiB.
    assert memory.fixed == parameters * 16 + 4 * 64 * 2**20
    assert memory.learning == parameters * 12
    # 18 h + 8 ff bytes of a layer in 16 bits, twice that in 32: 2 x (576 + 512) = 2,176; two layers.
    assert memory.per_token == 4_352
    # Computed anew: 2 h bytes of each layer's input, twice for 32 bits, and one layer.
    assert memory.checkpointed == 2 * 2 * 32 * 2 + 2_176
    assert memory_of(model, precision="fp32", checkpointing=True).per_token == memory.checkpointed
    assert memory_of(model, precision="bf16").per_token == 2_176
    assert memory.of(100) == memory.fixed + 435_200


def test_a_teacher_beside_it_keeps_no_gradients() -> None:
    alone = memory_of(tiny.llama(), precision="fp32")
    teacher = tiny.llama(hidden=48, layers=4)
    both = memory_of(tiny.llama(), precision="fp32", teacher=teacher)
    assert both.beside == both.fixed - alone.fixed == 4 * sum(p.numel() for p in teacher.parameters())
    assert both.per_token - alone.per_token == 4 * (12 * 48 + 3 * 96)  # one layer at a time, whatever their number


def test_only_what_learns_has_a_gradient() -> None:
    learner = tiny.student(tiny.llama(), lora=Lora(rank=2)).model
    adapters = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    held = sum(p.numel() for p in learner.parameters())
    assert memory_of(learner, precision="fp32").fixed == held * 4 + adapters * 12 + CHUNK_BYTES
    assert adapters * 4 < held


def test_of_a_mixture_the_experts_at_work_count() -> None:
    # 18 x 32 + 8 x (two of four experts of 32, or of 16), twice for 32 bits, two layers.
    assert memory_of(tiny.mixtral(), precision="fp32").per_token == 2 * 2 * (576 + 8 * 64)
    assert memory_of(tiny.qwen3_moe(), precision="fp32").per_token == 2 * 2 * (576 + 8 * 32)


def test_families_that_name_it_otherwise_are_read() -> None:
    from transformers import GPT2Config

    model = tiny.model_of(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    assert memory_of(model, precision="bf16").per_token == 2 * (576 + 8 * 4 * 32)  # four times the width


@pytest.mark.parametrize(("room", "sequences"), [(500, 8), (499, 4), (300, 4), (299, 2), (199, 1), (150, 1)])
def test_the_largest_divisor_that_fits(room: float, sequences: int) -> None:
    # 100 and 10 for each of five tokens a sequence: eight take 500, four 300, two 200, one 150; .85 is planned with.
    assert micro_batch(Memory(100.0, 10.0), int(room / SAFE) + 1, 5, 8) == sequences


@given(
    fixed=st.floats(0, 1e4), token=st.floats(1e-3, 1e3), free=st.integers(1, 10**7), longest=st.integers(1, 500),
    batch=st.integers(1, 64),
)  # fmt: skip
def test_what_is_run_fits_and_the_next_divisor_does_not(
    fixed: float, token: float, free: int, longest: int, batch: int
) -> None:
    memory = Memory(fixed, token)
    try:
        found = micro_batch(memory, free, longest, batch)
    except OutOfMemory:
        assert memory.of(longest) > SAFE * free
        return
    assert batch % found == 0
    assert memory.of(found * longest) <= SAFE * free
    larger = [n for n in range(found + 1, batch + 1) if batch % n == 0]
    assert not larger or memory.of(larger[0] * longest) > SAFE * free


# what is said where nothing fits


def refusal(memory: Memory, free: float, longest: int) -> str:
    with pytest.raises(OutOfMemory) as refused:
        micro_batch(memory, int(free), longest, 8, what="a student")
    return str(refused.value)


def test_the_message_names_what_is_needed_and_what_there_is() -> None:
    # 4 GiB fixed and 8 MiB a token: 1,024 tokens are 8 GiB more; of 10 GiB 8.5 are planned with.
    said = refusal(Memory(4 * GIB, 8 * 2**20, 3 * GIB, 0.0, 2 * 2**20), 10 * GIB, 1_024)
    assert said.startswith("a student does not fit: about 12.0 GiB for one sequence of 1,024 tokens")
    # (8.5 - 4) GiB / 8 MiB = 576 tokens.
    assert "max_length = 576" in said
    assert "gradient_checkpointing = true" in said  # 4 + 1,024 x 2 MiB = 6 GiB
    assert "student.lora" not in said  # 1 + 8 = 9 GiB, above 8.5
    # (8.5 - 0.25 - 8) GiB / 16 bytes = 0.0168 billion.
    assert "at most 0.017 billion parameters" in said


def test_advice_that_would_not_help_is_not_given() -> None:
    said = refusal(Memory(4 * GIB, 8 * 2**20, 3 * GIB, 0.0, 7 * 2**20), 8 * GIB, 1_024)
    assert "gradient_checkpointing" not in said  # 4 + 7 GiB
    # A teacher of 20 GiB beside it stays, whatever the student is: LoRA saves 3 GiB of 24 + .5.
    said = refusal(Memory(24 * GIB, 2**10, 3 * GIB, 20 * GIB), 22 * GIB, 1_024)
    assert "lora" not in said
    assert "parameters" not in said  # 18.7 GiB are less than the teacher alone
    assert said.endswith("No student fits here; use another machine")
    said = refusal(Memory(24 * GIB, 2**10, 3 * GIB, 20 * GIB), 26 * GIB, 1_024)
    assert "lora" in said  # 21 of 22.1
    (parameters,) = re.findall(r"at most ([\d.]+) billion", said)
    assert float(parameters) == pytest.approx((26 * SAFE - 20.25) * GIB / 16 / 1e9, rel=0.05)


@given(
    weights=st.floats(0.01, 20), beside=st.floats(0, 20), token=st.floats(2**10, 2**24), share=st.floats(0.05, 1),
    free=st.floats(0.5, 40), longest=st.integers(16, 2_048), all_learn=st.booleans(),
)  # fmt: skip
def test_whoever_follows_the_advice_fits(
    weights: float, beside: float, token: float, share: float, free: float, longest: int, all_learn: bool
) -> None:
    learning = 3 * weights * GIB if all_learn else 0.0
    fixed = weights * GIB + learning + beside * GIB + CHUNK_BYTES
    memory = Memory(fixed, token, learning, beside * GIB, share * token)
    room = SAFE * int(free * GIB)
    if memory.of(longest) <= room:
        return
    said = refusal(memory, free * GIB, longest)
    for tokens in re.findall(r"max_length = (\d+)", said):
        assert memory.of(int(tokens)) <= room
    if "gradient_checkpointing" in said:
        assert fixed + memory.checkpointed * longest <= room
    if "lora" in said:
        assert fixed - 0.95 * learning + token * longest <= room
    for billions in re.findall(r"at most ([\d.e-]+) billion", said):
        rounded = float(billions) * 0.95 * 1e9  # two digits are told
        assert 16 * rounded + beside * GIB + CHUNK_BYTES + token * longest <= room


def test_what_to_set_where_the_device_ran_out() -> None:
    # Half of them, or less where half is no divisor: the batch must stay a multiple.
    for sequences, fewer in ((8, 4), (6, 3), (9, 3), (5, 1), (2, 1)):
        said = str(devices.ran_out(sequences))
        assert f"with {sequences} sequences at once. Set micro_batch = {fewer}:" in said
        assert sequences % fewer == 0
    assert "a shorter max_length" in str(devices.ran_out(1))


# which machine


def test_this_machine() -> None:
    here = devices.machine()
    assert here.precision == "fp32" or here.device == "cuda"
    assert here.free_bytes > 0
    assert here.count == 1
    plain = here.to_dict()
    assert plain["versions"]["torch"] == torch.__version__
    assert plain["precision"] in ("fp32", "bf16")
    asked: Any = devices.machine("bf16")
    assert (asked.precision, asked.why) == ("bf16", "asked for")


def test_a_machine_in_words() -> None:
    assert str(tiny.machine(name="Some CPU", threads=4, why="asked for")) == "Some CPU (4 threads), fp32: asked for"
    many = tiny.machine(device="cuda", name="H100", precision="bf16", count=8, why="the GPU computes in it")
    assert str(many) == "8 x H100, bf16: the GPU computes in it"


def test_a_memory_without_what_is_saved_gives_no_advice_of_it() -> None:
    said = refusal(Memory(4 * GIB, 2**20), 2 * GIB, 64)
    assert "checkpointing" not in said
    assert "lora" not in said
    assert math.isinf(Memory(1, 1).checkpointed)
