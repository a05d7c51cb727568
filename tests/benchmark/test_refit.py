from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.benchmark.refit import SPREAD, MeasuredSteps, refit
from distillcalc.catalog import Catalog, EngineRow
from distillcalc.errors import InputError
from distillcalc.estimate.step_time import Placement, StepTime
from tests.estimate.tiny import catalog

SHAPE = {
    "layers": 30, "hidden": 576, "heads": 9, "kv_heads": 3, "head_dim": 64, "vocab": 49152, "tied_embeddings": True,
}  # fmt: skip


def engine(**changes: Any) -> EngineRow:
    return Catalog.load().engine("llama-cpp").model_copy(update={"layer_s": 1e-5, **changes})


def placement(layers: int, params_b: float) -> Placement:
    known = catalog(
        models={"tiny": {"shape": {**SHAPE, "layers": layers}, "params_b": params_b}},
        gpus={"toy": {"kind": "cpu", "bandwidth_gb_s": 20, "bf16_tflops": 0.1}},
    )
    return Placement.of(known.model("tiny"), known.gpu("toy"), "fp32", 1, kv_precision="fp32")


def steps(place: Placement, row: EngineRow, noise: float = 0.0, seed: int = 0) -> MeasuredSteps:
    """Batches of 1 to 16 over prompts of 32 to 512 tokens, 20 tokens written each."""
    facts = []
    for b in (1, 4, 16):
        for s in (32, 128, 512):
            facts.append((b, b * s, 0, b * s * s / 2))
            facts += [(b, b, b * (s + k), 0) for k in range(1, 20)]
    sequences, tokens, context, pairs = np.array(facts, dtype=float).T
    seconds = StepTime.of(place, row).seconds(sequences, tokens, context, pairs)
    chance = np.random.default_rng(seed).normal(0, noise, len(seconds))
    return MeasuredSteps(place, seconds * np.exp(chance), sequences, tokens, context, pairs)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.3, 0.95), st.floats(0.2, 0.95), st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 100))
def test_an_engine_unlike_the_one_expected_is_predicted_within_some_percent(
    mbu: float, mfu: float, fixed: float, layer: float, seed: int
) -> None:
    expected = engine()
    true = engine(mbu=mbu, mfu_bf16=mfu, fixed_s=1e-3 * np.exp(fixed), layer_s=1e-5 * np.exp(layer))
    places = placement(30, 0.1345), placement(3, 0.0389)
    found = refit(expected, [steps(place, true, 0.02, seed + i) for i, place in enumerate(places)])
    # Another number of layers, which was not measured.
    other = steps(placement(10, 0.0637), true)
    made = StepTime.of(other.placement, found).seconds(other.sequences, other.tokens, other.context, other.pairs)
    assert np.abs(made / other.seconds - 1).max() < 0.12
    assert np.abs(made / other.seconds - 1).mean() < 0.04


def test_what_is_as_expected_stays() -> None:
    row = engine()
    found = refit(row, [steps(placement(30, 0.1345), row)])
    for name in SPREAD:
        assert getattr(found, name) == pytest.approx(getattr(row, name), rel=0.02)
    assert found.rows > 10
    assert found.source.startswith("fitted to 180 measured steps")
    assert (found.mfu_fp8, found.request_s) == (row.mfu_fp8, row.request_s)  # nothing told of these


def test_single_slow_steps_do_not_bend_it() -> None:
    row = engine(mbu=0.5)
    run = steps(placement(30, 0.1345), row)
    late = run.seconds.copy()
    late[5::40] *= 30  # the machine was elsewhere
    found = refit(engine(), [MeasuredSteps(run.placement, late, run.sequences, run.tokens, run.context, run.pairs)])
    made = StepTime.of(run.placement, found).seconds(run.sequences, run.tokens, run.context, run.pairs)
    assert np.abs(made / run.seconds - 1).max() < 0.05


def test_shares_stay_shares_and_too_little_is_refused() -> None:
    run = steps(placement(30, 0.1345), engine())
    fast = MeasuredSteps(run.placement, run.seconds / 50, run.sequences, run.tokens, run.context, run.pairs)
    found = refit(engine(), [fast])
    assert max(found.mbu, found.kv_mbu, found.mfu_bf16, found.attention_mfu) <= 1
    with pytest.raises(InputError, match=r"4 kinds of steps or more.* Got 0"):
        refit(engine(), [])
    two = MeasuredSteps(*(run.placement, *(np.repeat(getattr(run, n)[:2], 9) for n in FACTS)))
    with pytest.raises(InputError, match=r"Got 2"):
        refit(engine(), [two])
    with pytest.raises(InputError, match=r"tell no slots of steps"):
        MeasuredSteps.of(run.placement, {key: [1.0] for key in ("seconds", "sequences", "tokens", "pairs")})


FACTS = ("seconds", "sequences", "tokens", "context", "pairs")


def test_a_static_cache_is_read_through_all_of_its_slots() -> None:
    arrays = {"seconds": [1, 1], "sequences": [2, 2], "tokens": [20, 2], "slots": [60, 60], "pairs": [100, 0]}
    made = MeasuredSteps.of(placement(3, 0.0389), arrays)
    assert made.context.tolist() == [0, 60]


def test_weights_rearranged_for_several_tokens_are_seen() -> None:
    true, expected = engine(repack=1.2, mbu=0.5), engine(repack=0.5)
    places = placement(30, 0.1345), placement(3, 0.0389)
    found = refit(expected, [steps(place, true, 0.02, seed) for seed, place in enumerate(places)])
    assert found.repack == pytest.approx(1.2, rel=0.1)
    # An engine that is known not to do so is not made to.
    assert refit(engine(), [steps(place, true) for place in places]).repack == 0


def test_what_many_steps_say_counts_more_than_what_a_few_do() -> None:
    # 200 steps of one token at one context are as expected; single ones at three other contexts took 1.3 times as long.
    row, place = engine(), placement(30, 0.1345)
    context = np.concatenate([np.full(200, 100.0), [200.0, 400.0, 800.0]])
    one, none = np.ones(203), np.zeros(203)
    right = StepTime.of(place, row).seconds(one, one, context, none)
    seen = right * np.where(context > 100, 1.3, 1.0)
    found = refit(row, [MeasuredSteps(place, seen, one, one, context, none)])
    made = StepTime.of(place, found).seconds(one, one, context, none)
    # By weights 1 / 0.05^2 = 400 and three of 1 / (0.05^2 + 0.15^2) = 40: about 120 / 520 of ln 1.3 = 0.06 too slow;
    # were each kind of step worth the same it would be 3 / 4 of it, 0.2.
    assert 0 < float(np.log(made / right)[0]) < 0.1
