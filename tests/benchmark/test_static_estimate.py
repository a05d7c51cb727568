from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.benchmark.static_estimate import estimate_static
from distillcalc.errors import InputError
from distillcalc.estimate.step_time import StepTime

# 10 ms a step, 1 ms a sequence, 2 ms for the weights, 0.1 ms a token computed, 1 us a cached token, 2 us a pair.
STEP = StepTime(
    fixed_s=0.010, sequence_s=0.001, weights_s=0.002, experts_s=0.0, expert_miss=1.0, kv_s=1e-6, token_s=1e-4,
    pair_s=2e-6, overlap=0.0,
)  # fmt: skip


def test_two_batches_by_hand() -> None:
    found = estimate_static(STEP, [10, 4, 6], [3, 1, 2], concurrency=2)
    # First batch: 2 rows padded to 10. Read: 10 + 2 + 2 + 20 x 0.1 + 2 x 50 x 0.002 = 16.2 ms.
    # Two steps for one row that still writes: 10 + 1 + 2 + 2 x 0.1 + 22 and 24 x 0.001 = 13.222, 13.224 ms.
    # Second batch: 10 + 1 + 2 + 0.6 + 18 x 0.002 = 13.636 ms; then 10 + 1 + 2 + 0.1 + 7 x 0.001 = 13.107 ms.
    # Its client had the short answer at 16.2 ms and waited until the batch ended at 42.646: 26.446 ms.
    np.testing.assert_allclose(found.ttft_s, [0.0162, 0.0162, 0.013636 + 0.026446], rtol=1e-12)
    np.testing.assert_allclose(found.tpot_s, [0.013223, np.nan, 0.013107], rtol=1e-12)
    np.testing.assert_allclose(found.e2e_s, [0.042646, 0.0162, 0.026743 + 0.026446], rtol=1e-12)
    assert found.seconds == pytest.approx(0.042646 + 0.026743)
    assert found.output_tokens_per_s == pytest.approx(6 / 0.069389)
    assert found.requests_per_s == pytest.approx(3 / 0.069389)
    assert found.most_cached == 26  # 2 x (10 + 3)


def test_a_static_cache_is_read_whole() -> None:
    found = estimate_static(STEP, [10, 4, 6], [3, 1, 2], concurrency=2, rounded_to=64)
    # The first batch needs 13 tokens a row and has 64: both steps read 2 x 64 = 128, 10 + 1 + 2 + 0.2 + 0.128 ms each.
    assert found.tpot_s[0] == pytest.approx(0.013328)
    assert found.most_cached == 128
    # Prompts are read as ever.
    assert found.ttft_s[0] == pytest.approx(0.0162)
    # A row that needs 65 has 128.
    assert estimate_static(STEP, [60], [5], 1, rounded_to=64).most_cached == 128
    assert estimate_static(STEP, [60], [4], 1, rounded_to=64).most_cached == 64


def test_a_request_costs_its_own_time_once() -> None:
    bare, with_more = (estimate_static(STEP, [5], [4], 1, request_s=r) for r in (0.0, 0.05))
    assert with_more.ttft_s[0] - bare.ttft_s[0] == pytest.approx(0.05)
    assert with_more.tpot_s[0] == pytest.approx(bare.tpot_s[0])


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=20), st.integers(1, 8))
def test_what_is_written_is_what_takes_time(lengths: list[tuple[int, int]], concurrency: int) -> None:
    inputs, outputs = (np.array(side) for side in zip(*lengths, strict=True))
    found = estimate_static(STEP, inputs, outputs, concurrency)
    assert (found.ttft_s <= found.e2e_s + 1e-12).all()
    several = outputs > 1
    np.testing.assert_allclose(
        found.e2e_s[several], (found.ttft_s + found.tpot_s * (outputs - 1))[several], rtol=1e-9
    )  # fmt: skip
    # One at a time nothing is padded and nobody waits for another: the run is the sum of its requests.
    alone = estimate_static(STEP, inputs, outputs, 1)
    assert alone.seconds == pytest.approx(float(alone.e2e_s.sum()))
    # A longer answer never makes the run shorter.
    longer = estimate_static(STEP, inputs, outputs + 1, concurrency)
    assert longer.seconds > found.seconds


def test_lengths_that_cannot_be_are_refused() -> None:
    for inputs, outputs, concurrency in (([], [], 1), ([1], [1, 2], 1), ([1], [0], 1), ([1], [1], 0)):
        with pytest.raises(InputError):
            estimate_static(STEP, inputs, outputs, concurrency)
