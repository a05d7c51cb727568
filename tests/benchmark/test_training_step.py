from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distillcalc.benchmark import training_step
from distillcalc.benchmark.shapes import random_model
from distillcalc.benchmark.training_record import TECHNIQUES, TrainingStep
from distillcalc.benchmark.training_step import measure_training_step
from distillcalc.catalog import Catalog
from distillcalc.distill.training.progress import OutOfMemory, TrainingDiverged
from distillcalc.distill.training.shapes import count_parameters
from distillcalc.errors import InputError

VOCABULARY = 512
SHAPE = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": VOCABULARY, "intermediate": 128}


def row(**shape: int) -> dict[str, Any]:
    plain = {"name": "tiny", "provider": "own", "kind": "open", "params_b": 0.001, "context_window": 128}
    return plain | {"shape": SHAPE | shape}


CATALOG = Catalog.load(
    {"models": {"qwen3-tiny": row(), "qwen3-wide": row(layers=3, hidden=96), "qwen3-words": row(vocab=640)}}
)
FEW: dict[str, Any] = {
    "catalog": CATALOG, "device": "cpu", "sequences": 4, "prompt_tokens": 12, "answer_tokens": 4,
    "rationale_tokens": 8, "steps": 1, "warm_up": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models this small, more cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def step(**more: Any) -> TrainingStep:
    plain: dict[str, Any] = {
        "name": "one", "created": "2026-12-01T00:00:00+00:00", "technique": "soft-label", "student": "a",
        "teacher": "b", "parameters": 1_000, "teacher_parameters": 500, "device": "cpu", "precision": "fp32",
        "objective": {}, "sequences": 2, "tokens": 10, "padding": 0, "supervised": 4, "seconds": (1.0, 4.0, 2.0),
        "warm_up": 1, "terms": {"loss": 1.0}, "peak_bytes": 1, "peak_how": "counted", "machine": {},
    }  # fmt: skip
    return TrainingStep(**plain | more)


def test_rates_by_hand() -> None:
    made = step()
    assert made.seconds_per_step == 2.0
    assert made.tokens_per_s == 5.0
    # (6 x 1,000 + 2 x 500) operations a token, 5 tokens a second
    assert made.flop_per_s == 35_000.0


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    made = step(notes=("a note",))
    file = made.save(tmp_path / "new")
    assert file == tmp_path / "new/one.json"
    assert TrainingStep.load(file) == made
    plain = json.loads(file.read_text())
    assert (plain["schema_version"], plain["kind"]) == (1, "training-step")
    for wrong, value in (("schema_version", 2), ("more", 1), ("seconds", [])):
        file.write_text(json.dumps(plain | {wrong: value}))
        with pytest.raises(InputError, match=wrong):
            TrainingStep.load(file)
    with pytest.raises(InputError, match="cannot read"):
        TrainingStep.load(tmp_path / "none.json")


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_one_step_of_each_technique(technique: Any) -> None:
    made = measure_training_step(technique, "qwen3-tiny", "qwen3-wide", **FEW | {"steps": 2, "warm_up": 1})
    assert (len(made.seconds), made.warm_up) == (2, 1)
    assert min(made.seconds) > 0
    reads = technique in ("soft-label", "feature-based")
    assert made.teacher == ("qwen3-wide" if reads else "")
    assert made.parameters == count_parameters(random_model("qwen3-tiny", "fp32", "cpu", catalog=CATALOG))
    assert (made.teacher_parameters > made.parameters) is reads
    wanted = {"loss", "hard"} | ({"soft"} if reads else set()) | ({"features"} if "feature" in technique else set())
    assert set(made.terms) == wanted
    assert made.terms["loss"] == pytest.approx(sum(v for k, v in made.terms.items() if k != "loss"), rel=1e-5)
    # weights, gradients and AdamW's two moments are in 4 bytes each
    assert made.peak_bytes >= 4 * made.parameters
    if technique != "chain-of-thought":  # 4 sequences of 12 and 4 tokens, which is a multiple of 8
        assert (made.tokens, made.padding, made.supervised) == (64, 0, 16)
    else:  # two of 12 + 4, two of 12 + 8, padded to 24
        assert (made.tokens, made.padding, made.supervised) == (72, 24, 24)


def test_hard_labels_are_the_cross_entropy_of_transformers() -> None:
    made = measure_training_step("hard-label", "qwen3-tiny", **FEW)
    model = random_model("qwen3-tiny", "fp32", "cpu", catalog=CATALOG, seed=0)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.randint(VOCABULARY, (16,), generator=drawn) for _ in range(4)])
    labels = ids.clone()
    labels[:, :12] = -100
    with torch.no_grad():
        theirs = float(model(input_ids=ids, labels=labels).loss)
    assert made.terms["loss"] == pytest.approx(theirs, rel=1e-5)
    assert made.terms["loss"] == pytest.approx(math.log(VOCABULARY), rel=0.05)  # weights know nothing


def test_a_teacher_with_the_students_weights_has_nothing_to_teach() -> None:
    made = measure_training_step("feature-based", "qwen3-tiny", "qwen3-tiny", **FEW)
    assert made.terms["soft"] == pytest.approx(0, abs=1e-5)
    assert made.terms["features"] == pytest.approx(0, abs=1e-5)  # projections begin as the identity
    assert made.terms["loss"] == pytest.approx(made.terms["hard"], rel=1e-4)
    apart = measure_training_step("feature-based", "qwen3-tiny", "qwen3-wide", **FEW)
    assert apart.terms["features"] > 0.1


def test_a_teacher_of_a_larger_vocabulary_is_read_as_far_as_both_go() -> None:
    made = measure_training_step("soft-label", "qwen3-tiny", "qwen3-words", **FEW)
    assert 0 < made.terms["soft"] < 1


def test_bf16_loses_the_same_within_its_rounding() -> None:
    whole, half = (
        measure_training_step("soft-label", "qwen3-tiny", "qwen3-wide", precision=p, **FEW) for p in ("fp32", "bf16")
    )  # fmt: skip
    assert (whole.precision, half.precision) == ("fp32", "bf16")
    assert half.terms["hard"] == pytest.approx(whole.terms["hard"], rel=0.02)
    assert half.terms["hard"] != whole.terms["hard"]


def test_a_step_changes_the_weights_and_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("qwen3-tiny", "fp32", "cpu", catalog=CATALOG)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    monkeypatch.setattr("distillcalc.benchmark.shapes.random_model", lambda *_, **__: model)
    measure_training_step("hard-label", "qwen3-tiny", **FEW)
    for name, p in model.named_parameters():
        assert not torch.equal(p, before[name]), name
        assert p.grad is None


def test_fewer_sequences_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training_step._steps

    def runs_out(most: int) -> Any:
        def steps(*given: Any) -> Any:
            if given[4] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(*given)

        return steps

    monkeypatch.setattr(training_step, "_steps", runs_out(2))
    made = measure_training_step("chain-of-thought", "qwen3-tiny", **FEW | {"sequences": 8})
    assert made.sequences == 2
    assert made.tokens == 16 + 20
    assert made.notes == ("2 sequences at once, for 8 do not fit",)
    monkeypatch.setattr(training_step, "_steps", runs_out(0))
    with pytest.raises(OutOfMemory, match="one sequence"):
        measure_training_step("hard-label", "qwen3-tiny", **FEW)
    monkeypatch.setattr(training_step, "_steps", whole)
    one = measure_training_step("chain-of-thought", "qwen3-tiny", **FEW | {"sequences": 1})
    assert one.terms["loss"] == pytest.approx(math.log(VOCABULARY), rel=0.05)  # the one task has all the weight


def test_other_errors_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> Any:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(training_step, "_steps", breaks)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        measure_training_step("hard-label", "qwen3-tiny", **FEW)


def test_a_loss_that_is_no_number_is_told() -> None:
    with pytest.raises(TrainingDiverged, match="loss nan"):
        training_step._refuse_no_number(3, {"loss": math.nan})


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match=r"technique must be one of hard-label"):
        measure_training_step("on-policy", "qwen3-tiny", **FEW)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reads the teacher beside"):
        measure_training_step("soft-label", "qwen3-tiny", **FEW)
    for wrong in ({"sequences": 0}, {"steps": 0}, {"warm_up": -1}):
        with pytest.raises(InputError, match="1 or more"):
            measure_training_step("hard-label", "qwen3-tiny", **FEW | wrong)
