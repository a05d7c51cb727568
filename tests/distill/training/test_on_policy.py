"""Batches that the student writes: from the right prompts, by its own distribution, reproducibly, scored alone."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from distillcalc.distill.training.batches import Collator
from distillcalc.distill.training.recipe import Lora, Objective
from distillcalc.distill.training.writing_torch import student_writes
from distillcalc.errors import InputError
from tests.distill.training import tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

GKD = Objective(hard=0.0, soft=1.0, divergence="jsd", max_new_tokens=8)


def trainer_of(model: Any, sharded: bool = False) -> Any:
    """As much of a trainer as a writer asks for."""
    return SimpleNamespace(
        model=model, is_fsdp_enabled=sharded, compute_loss_context_manager=nullcontext,
        accelerator=SimpleNamespace(device=torch.device("cpu"), unwrap_model=lambda model: model),
    )  # fmt: skip


def writing(
    model: Any, rows: list[dict[str, Any]], objective: Objective = GKD, seed: str = "a", **given: Any
) -> dict[str, torch.Tensor]:
    write = student_writes(tiny.tokenizer(), objective, Collator(0, **given))
    return write(trainer_of(model), Collator(0)(rows), random.Random(seed))


def rows(count: int = 8) -> list[dict[str, Any]]:
    return list(tiny.examples(count).dataset())


def test_prompts_stay_and_answers_are_the_students(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.llama().train()
    seen: dict[str, Any] = {}
    generate = type(model).generate

    def noted(self: Any, **given: Any) -> Any:
        seen.update(given)
        return generate(self, **given)

    monkeypatch.setattr(type(model), "generate", noted)
    batch = writing(model, rows())
    longest = max(s.start for s in tiny.examples().sequences)
    for place, one in enumerate(tiny.examples().sequences):
        prompt = list(one.ids[: one.start])
        assert seen["input_ids"][place].tolist() == [0] * (longest - one.start) + prompt  # the prompt, at the right end
        assert int(seen["attention_mask"][place].sum()) == one.start
        length = int(batch["attention_mask"][place].sum())
        assert batch["input_ids"][place][: one.start].tolist() == prompt
        said = batch["input_ids"][place][one.start : length].tolist()
        assert 1 <= len(said) <= 8
        assert 2 not in said[:-1]  # nothing after the end of the turn
        assert len(said) == 8 or said[-1] == 2
        # Scored where the answer is predicted, and there alone.
        assert batch["soft"][place].nonzero().flatten().tolist() == list(range(one.start - 1, length - 1))
        assert batch["shift_labels"][place][one.start - 1 : length - 1].tolist() == said
    assert batch["sample"].tolist() == [-1] * 8  # nobody's
    assert model.training
    assert not model.config.use_cache


def test_what_it_writes_is_scored_by_the_teacher_alone() -> None:
    batch = writing(tiny.llama(), rows(), GKD.model_copy(update={"hard": 0.5}))
    assert bool((batch["shift_labels"] == -100).all())
    assert batch["counts"][:2].tolist() == [0, 0]
    assert int(batch["counts"][2]) == int(batch["soft"].sum()) > 0
    everywhere = writing(tiny.llama(), rows(), GKD, soft_on="all")
    assert everywhere["soft"].sum(1).tolist() == (everywhere["attention_mask"].sum(1) - 1).tolist()


def test_it_is_its_own_distribution_whatever_its_generation_config_says() -> None:
    plain = writing(tiny.llama(), rows())
    model = tiny.llama()
    usual = GenerationConfig(
        do_sample=True, repetition_penalty=5.0, no_repeat_ngram_size=1, top_k=1, top_p=0.1, temperature=0.1, min_p=0.5,
        typical_p=0.2, suppress_tokens=list(range(3, 150)), max_length=20,
    )  # fmt: skip
    model.generation_config = usual
    assert torch.equal(writing(model, rows())["input_ids"], plain["input_ids"])
    assert model.generation_config is usual


def test_the_first_words_follow_the_students_probabilities() -> None:
    model, row = tiny.llama().eval(), rows(1)[0]
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(4.0)  # of the head too: less flat
    start = tiny.examples(1).sequences[0].start
    with torch.no_grad():
        share = model(torch.tensor([row["input_ids"][:start]])).logits[0, -1].softmax(-1)
    batch = writing(model, [row] * 4_000, GKD.model_copy(update={"max_new_tokens": 1}))
    said = torch.bincount(batch["input_ids"][:, start], minlength=len(share)) / 4_000
    likely = share.topk(5).indices
    # The standard error of a share p of 4,000 draws is sqrt(p (1 - p) / 4,000), below .008; five of them are .04.
    assert float(share[likely[0]]) > 0.05
    assert torch.allclose(said[likely], share[likely], atol=0.04)
    warm = writing(model, [row] * 500, GKD.model_copy(update={"max_new_tokens": 1, "sampling_temperature": 1e-4}))
    assert set(warm["input_ids"][:, start].tolist()) == {int(share.argmax())}


def test_the_same_seed_writes_the_same_and_nobody_elses_numbers_are_used() -> None:
    model = tiny.llama()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (writing(model, rows(), seed=seed)["input_ids"] for seed in ("a", "a", "b"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_packed_batches_and_sharded_students_cannot_be_written() -> None:
    write = student_writes(tiny.tokenizer(), GKD, Collator(0))
    with pytest.raises(InputError, match="packing and on-policy do not go together"):
        write(trainer_of(tiny.llama()), Collator(0, packing=True)(rows()), random.Random(0))
    with pytest.raises(InputError, match=r"sharded \(FSDP\): use DDP, or on_policy = 0"):
        write(trainer_of(tiny.llama(), sharded=True), Collator(0)(rows()), random.Random(0))


# in a training


def teacher() -> tuple[Any, Any]:
    return tiny.llama(seed=1, layers=3, hidden=48), tiny.tokenizer()


def test_the_share_of_batches_is_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distillcalc.distill.training import writing_torch

    written: list[int] = []
    make = writing_torch.student_writes

    def noted(*given: Any) -> Any:
        write = make(*given)

        def noting(trainer: Any, batch: Any, chance: Any) -> Any:
            written.append(trainer.state.global_step)
            return write(trainer, batch, chance)

        return noting

    monkeypatch.setattr(writing_torch, "student_writes", noted)
    for share, least, most in ((0.0, 0, 0), (0.25, 5, 30), (1.0, 64, 64)):
        written.clear()
        tiny.train(
            tiny.llama(), tiny.examples(), tmp_path / str(share), objective=GKD, teacher=teacher(), on_policy=share,
            settings={"steps": 16, "micro_batch": 2},
        )  # fmt: skip
        # Of 64 batches a quarter is 16, with a standard deviation of sqrt(64 x .25 x .75) = 3.5.
        assert least <= len(written) <= most


@pytest.mark.parametrize("lora", [None, Lora(rank=4, dropout=0.2)], ids=["weights", "adapters"])
def test_a_seed_gives_the_same_training(tmp_path: Path, lora: Lora | None) -> None:
    given: dict[str, Any] = {"objective": GKD.model_copy(update={"hard": 0.2}), "on_policy": 0.5, "lora": lora}
    one, same, other = (
        tiny.train(
            tiny.llama(), tiny.examples(), tmp_path / str(place), teacher=teacher(), seed=seed,
            settings={"micro_batch": 4}, **given,
        )
        for place, seed in enumerate((0, 0, 1))
    )  # fmt: skip
    assert tiny.curve(one) == tiny.curve(same)
    assert tiny.curve(one) != pytest.approx(tiny.curve(other), abs=1e-4)
    assert one.tokens == same.tokens


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_its_own_words(tmp_path: Path) -> None:
    model = tiny.llama()
    fitted = tiny.train(
        model, tiny.examples(), tmp_path, objective=GKD, teacher=(tiny.llama(), tiny.tokenizer()), on_policy=1.0,
        settings={"steps": 1},
    )  # fmt: skip
    assert tiny.curve(fitted) == pytest.approx([0.0], abs=1e-6)
    assert tiny.curve(fitted, "grad_norm") == pytest.approx([0.0], abs=1e-5)


def test_the_divergence_falls_on_its_own_words(tmp_path: Path) -> None:
    for name, more, by in (("gkd", {}, teacher()), ("uld", {"divergence": "uld", "hard": 0.1}, teacher())):
        fitted = tiny.train(
            tiny.llama(), tiny.examples(), tmp_path / name, objective=GKD.model_copy(update=more), teacher=by,
            on_policy=1.0, settings={"steps": 24}, validation=tiny.examples(3),
        )  # fmt: skip
        soft = tiny.curve(fitted, "soft")
        assert sum(soft[-4:]) < 0.7 * sum(soft[:4])
        assert soft[0] > 0.01
        assert tiny.curve(fitted, "hard") == [0.0] * 24  # what it wrote is no label
