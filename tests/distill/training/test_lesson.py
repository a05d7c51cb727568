"""A student that is its teacher has nothing to learn: no loss, no gradient, whatever is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from distillcalc.distill.training.batches import Collator
from distillcalc.distill.training.checkpoints import PROJECTIONS
from distillcalc.distill.training.lesson_torch import Lesson, teach
from distillcalc.distill.training.losses_torch import divergence
from distillcalc.distill.training.recipe import Objective
from tests.distill.training import tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

STILL = {"steps": 1, "micro_batch": 4}


@pytest.mark.parametrize(
    ("kind", "temperature", "soft_on"),
    [
        ("forward-kl", 1.0, "answer"), ("forward-kl", 3.0, "all"), ("reverse-kl", 1.0, "all"), ("jsd", 2.0, "answer"),
        ("skewed-forward", 3.0, "answer"), ("skewed-reverse", 1.0, "all"),
    ],
)  # fmt: skip
def test_soft_labels_of_oneself(tmp_path: Path, kind: Any, temperature: float, soft_on: Any) -> None:
    objective = Objective(hard=0.0, soft=1.0, divergence=kind, temperature=temperature, soft_on=soft_on)
    same, other = (
        tiny.train(
            tiny.llama(), tiny.examples(), tmp_path / str(seed), objective=objective, settings=STILL,
            teacher=(tiny.llama(seed), tiny.tokenizer()),
        )
        for seed in (0, 1)
    )  # fmt: skip
    assert same.losses[0]["loss"] == pytest.approx(0, abs=1e-6)
    assert same.losses[0]["grad_norm"] == pytest.approx(0, abs=1e-5)
    assert other.losses[0]["loss"] > 1e-2
    assert other.losses[0]["grad_norm"] > 1e-2


@pytest.mark.parametrize("kind", ["mse", "cosine", "normalised"])
def test_features_of_oneself(tmp_path: Path, kind: Any) -> None:
    objective = Objective(hard=0.0, features=1.0, feature_loss=kind)
    same, cut = (
        tiny.train(
            tiny.llama(layers=layers), tiny.examples(), tmp_path / str(layers), objective=objective, settings=STILL,
            teacher=(tiny.llama(layers=4), tiny.tokenizer()),
        )
        for layers in (4, 2)
    )  # fmt: skip
    assert same.losses[0]["loss"] == pytest.approx(0, abs=1e-6)  # all layers, through projections that are identities
    assert same.losses[0]["grad_norm"] == pytest.approx(0, abs=2e-3)  # of a cosine at its peak, rounding is left
    assert cut.losses[0]["loss"] > 1e-2


def test_attention_of_oneself(tmp_path: Path) -> None:
    objective = Objective(hard=0.0, attention=1.0)
    same, other = (
        tiny.train(
            tiny.llama(), tiny.examples(), tmp_path / str(seed), objective=objective, settings=STILL,
            teacher=(tiny.llama(seed), tiny.tokenizer()),
        )
        for seed in (0, 1)
    )  # fmt: skip
    assert same.losses[0]["loss"] == pytest.approx(0, abs=1e-6)
    assert same.losses[0]["grad_norm"] == pytest.approx(0, abs=1e-5)
    assert other.losses[0]["grad_norm"] > 1e-4


def test_attention_of_two_sizes_by_hand(tmp_path: Path) -> None:
    """KL of the teacher's mean attention from the student's, over the real queries, mean over pairs of layers."""
    student = tiny.llama(attn_implementation="eager")
    teacher = tiny.llama(1, layers=4, hidden=48, attn_implementation="eager")
    fitted = tiny.train(
        student, tiny.examples(), tmp_path, objective=Objective(hard=0.0, attention=2.0), settings=STILL,
        teacher=(teacher, tiny.tokenizer()),
    )  # fmt: skip
    total = 0.0
    with torch.no_grad():
        for one in tiny.examples().sequences:
            ids = torch.tensor([one.ids])
            mine = student(ids, output_attentions=True).attentions
            theirs = teacher(ids, output_attentions=True).attentions
            for own, other in ((0, 1), (1, 3)):  # layer i of 2 is compared with layer 2 i of 4
                p, q = theirs[other][0].mean(0), mine[own][0].mean(0)
                total += float(torch.special.xlogy(p, p / q.clamp(min=1e-30)).nansum()) / 2
    assert fitted.losses[0]["loss"] == pytest.approx(2.0 * total / tiny.examples().tokens, rel=1e-4)


def test_soft_and_features_by_hand(tmp_path: Path) -> None:
    student, teacher = tiny.llama(), tiny.llama(1, layers=4, hidden=32)
    objective = Objective(hard=0.25, soft=0.5, features=2.0, feature_loss="mse", temperature=2.0)
    fitted = tiny.train(
        student, tiny.examples(), tmp_path, objective=objective, settings=STILL, teacher=(teacher, tiny.tokenizer())
    )
    hard = soft = features = 0.0
    with torch.no_grad():
        for one in tiny.examples().sequences:
            ids = torch.tensor([one.ids])
            mine, theirs = (m(ids, output_hidden_states=True) for m in (student, teacher))
            places = range(one.start - 1, len(one.ids) - 1)
            log_q = mine.logits[0].log_softmax(-1)
            hard -= sum(float(log_q[place, one.ids[place + 1]]) for place in places)
            soft += float(divergence(mine.logits[0, places], theirs.logits[0, places], temperature=2.0).sum())
            for own, other in ((1, 2), (2, 4)):
                features += float((mine.hidden_states[own] - theirs.hidden_states[other]).square().mean(-1).sum()) / 2
    told, data = fitted.losses[0], tiny.examples()
    assert told["hard"] == pytest.approx(0.25 * hard / data.supervised, rel=1e-5)
    assert told["soft"] == pytest.approx(0.5 * soft / data.supervised, rel=1e-4)  # T^2 is in it
    assert told["features"] == pytest.approx(2.0 * features / data.tokens, rel=1e-5)  # over all positions, padding not


def test_a_student_without_a_lesson_is_what_it_was() -> None:
    model = tiny.llama()
    ids = torch.tensor([tiny.examples().sequences[0].ids])
    with torch.no_grad():
        before = model(ids).logits
        stop = teach(model, Lesson(Objective(features=1.0), layers=((1, 1), (2, 2))), 48)
        assert torch.equal(model(ids).logits, before)
        projections = getattr(model, PROJECTIONS)
        assert [tuple(p.weight.shape) for p in projections] == [(48, 32)] * 2
        gram = projections[0].weight.T @ projections[0].weight
        assert torch.allclose(gram, torch.eye(32), atol=1e-5)  # another size: lengths stay at the start
        stop()
        assert not hasattr(model, PROJECTIONS)
        assert "forward" not in model.__dict__
        assert torch.equal(model(ids).logits, before)


def test_a_chunk_of_logits_at_a_time_changes_nothing() -> None:
    model = tiny.llama()
    batch = Collator(0)(list(tiny.examples().dataset()))
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found = []
    for chunk in (None, 5):
        stop = teach(model, Lesson(Objective(), chunk_tokens=chunk))
        with torch.no_grad():
            found.append(model(**given, lesson_inputs=batch | {"share": torch.tensor(1.0)}))
        stop()
    assert float(found[0]["told"]["loss"]) == pytest.approx(float(found[1]["told"]["loss"]), rel=2e-6)
    assert int(found[0]["told"]["right"]) == int(found[1]["told"]["right"])
