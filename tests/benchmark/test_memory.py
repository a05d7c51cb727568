from __future__ import annotations

import gc
import time

import pytest
import torch

from distillcalc.benchmark.memory import Memory, PeakMemory, free_bytes, is_out_of_memory, weights_bytes
from tests.benchmark.models import llama


def test_weights_by_hand() -> None:
    # Llama of 97 tokens, width 32, two layers, feed-forward 64, 4 heads and 2 KV heads of 8: embeddings and output
    # 2 x 97 x 32; a layer 32 x 32 x 2 + 32 x 16 x 2 + 3 x 32 x 64 + 2 x 32; a last norm of 32.
    numbers = 2 * 97 * 32 + 2 * (2 * 1024 + 2 * 512 + 3 * 2048 + 64) + 32
    model = llama()
    buffers = sum(one.numel() for one in model.buffers())
    assert weights_bytes(model) == 4 * (numbers + buffers)
    assert weights_bytes(llama(tie_word_embeddings=True)) == 4 * (numbers - 97 * 32 + buffers)  # shared: once
    assert weights_bytes(model.to(torch.bfloat16)) == pytest.approx(2 * (numbers + buffers), rel=0.01)


def test_memory_is_weights_and_what_came_on_top() -> None:
    model = llama()
    with PeakMemory(model) as watched:
        held = torch.ones(64 * 2**20, dtype=torch.uint8)
        held += 1
        time.sleep(0.1)  # so that it is seen
        del held
    assert watched.memory is not None
    assert watched.memory.weights_bytes == weights_bytes(model)
    assert watched.memory.peak_bytes >= weights_bytes(model) + 60 * 2**20
    assert "resident set" in watched.memory.how


def test_what_others_left_behind_hides_nothing() -> None:
    class Ring:
        def __init__(self) -> None:
            self.held, self.ring = torch.ones(64 * 2**20, dtype=torch.uint8), self

    gc.disable()  # so that the ring is still there when watching begins
    try:
        Ring()
        with PeakMemory(llama()) as watched:
            gc.collect()
            held = torch.ones(64 * 2**20, dtype=torch.uint8)
            time.sleep(0.1)
            del held
    finally:
        gc.enable()
    assert watched.memory is not None
    assert watched.memory.peak_bytes >= 60 * 2**20


def test_the_peak_is_told_where_something_went_wrong() -> None:
    watched = PeakMemory(llama())
    with pytest.raises(KeyError), watched:
        raise KeyError
    assert watched.memory is not None
    assert watched.memory.peak_bytes >= watched.memory.weights_bytes
    assert not watched._thread.is_alive()


def test_memory_is_plain_for_a_record() -> None:
    assert Memory(3, 2, "seen").to_dict() == {"peak_bytes": 3, "weights_bytes": 2, "how": "seen"}


def test_a_host_has_something_free() -> None:
    import psutil

    assert 0 < free_bytes(torch.device("cpu")) <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),  # what graphs raise
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_which_errors_say_that_memory_lacks(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory
