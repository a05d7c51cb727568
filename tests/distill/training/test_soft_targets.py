"""Stored soft labels: what a teacher said once is what it says beside the student, and never of something else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distillcalc.distill.records import TopLogprobs
from distillcalc.distill.training.examples import Examples, make_examples
from distillcalc.distill.training.recipe import Objective
from distillcalc.distill.training.soft_targets import from_records, stored
from distillcalc.errors import InputError
from tests.distill.training import tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

SOFT = Objective(hard=0.3, soft=0.7, temperature=2.0)
ALL = 300  # the whole vocabulary
MIXED = {"batch_size": 8, "micro_batch": 2, "steps": 5}


def teacher(seed: int = 1) -> tuple[Any, Any]:
    return tiny.llama(seed, layers=3, hidden=48), tiny.tokenizer()


def kept(folder: Path, objective: Objective = SOFT, k: int = ALL, data: Examples | None = None, **given: Any) -> Any:
    return stored(
        data or tiny.examples(12), tiny.student(tiny.llama()), given.pop("teacher", None) or teacher(), folder,
        objective=objective, k=k, **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [{}, {"soft_on": "all"}, {"divergence": "jsd", "temperature": 1.0}, {"divergence": "reverse-kl"}],
    ids=["answers", "all", "jsd", "reverse"],
)
def test_the_whole_vocabulary_stored_is_the_live_teacher(tmp_path: Path, more: dict[str, Any]) -> None:
    objective = SOFT.model_copy(update=more)
    data, held = tiny.examples(12), tiny.examples(5)
    targets = kept(tmp_path / "cache", objective)
    of_held = kept(tmp_path / "held", objective, data=held)
    live, cached = (
        tiny.train(
            tiny.llama(), data, tmp_path / name, objective=objective, settings=MIXED | {"evaluations": 1},
            validation=held, **given,
        )
        for name, given in (
            ("live", {"teacher": teacher()}), ("cached", {"targets": targets, "validation_targets": of_held})
        )
    )  # fmt: skip
    # 16 bits round a log-probability of 5.7 nats by at most 2^-11 of it, .003; the first divergence by half its square,
    # 4e-6 at most. AdamW enlarges small gradients: 1.3e-4 was measured after five steps.
    assert cached.losses[0]["soft"] == pytest.approx(live.losses[0]["soft"], abs=1e-5)
    for term in ("loss", "soft", "hard"):
        assert tiny.curve(cached, term) == pytest.approx(tiny.curve(live, term), abs=4e-4)
    assert cached.evaluations[0]["eval_loss"] == pytest.approx(live.evaluations[0]["eval_loss"], abs=4e-4)
    assert live.losses[0]["soft"] > 0.02


def test_what_is_not_stored_is_told_and_grows_with_the_temperature(tmp_path: Path) -> None:
    assert kept(tmp_path / "all").rest == pytest.approx(0.0, abs=1e-6)
    hot, cold = (
        kept(tmp_path / f"{t}", SOFT.model_copy(update={"temperature": t}), k=8) for t in (8.0, 1.0)
    )  # fmt: skip
    assert 0 < cold.rest < hot.rest < 1
    # At an endless temperature all tokens are alike: 8 of them leave 1 - 8 / V.
    even = kept(tmp_path / "even", SOFT.model_copy(update={"temperature": 1000.0}), k=8)
    assert even.rest == pytest.approx(1 - 8 / even.cache.header.vocabulary, abs=1e-3)


def test_packed_batches_find_their_soft_labels(tmp_path: Path) -> None:
    targets = kept(tmp_path / "cache", k=8)
    padded, packed = (
        tiny.train(
            tiny.llama(), tiny.examples(12), tmp_path / str(packing), objective=SOFT, targets=targets,
            settings=MIXED | {"packing": packing},
        )
        for packing in (False, True)
    )  # fmt: skip
    assert tiny.curve(packed) == pytest.approx(tiny.curve(padded), abs=1e-5)


def test_of_the_top_alone_no_more_is_learnt(tmp_path: Path) -> None:
    first = [
        tiny.train(
            tiny.llama(), tiny.examples(12), tmp_path / f"of{k}", objective=SOFT, targets=kept(tmp_path / str(k), k=k),
            settings=MIXED | {"steps": 1},
        ).losses[0]["soft"]
        for k in (1, 8, 64, ALL)
    ]  # fmt: skip
    # Outcomes put together are never further apart (data processing inequality).
    assert first == sorted(first)
    assert 0 < first[0] < first[1] < first[2] < first[3]


def test_a_student_that_is_its_teacher_has_nothing_to_learn(tmp_path: Path) -> None:
    same = tiny.llama(), tiny.tokenizer()
    for k in (4, ALL):
        fitted = tiny.train(
            tiny.llama(), tiny.examples(12), tmp_path / f"of{k}", settings=MIXED | {"steps": 1},
            objective=SOFT.model_copy(update={"hard": 0.0}),
            targets=kept(tmp_path / str(k), k=k, teacher=same),
        )  # fmt: skip
        assert fitted.losses[0]["loss"] == pytest.approx(0, abs=5e-6)


def test_what_is_stored_are_the_teachers_probabilities(tmp_path: Path) -> None:
    targets = kept(tmp_path, k=5)
    model, _ = teacher()
    for number in (3, 0, 11):
        one = tiny.examples(12).sequences[number]
        with torch.no_grad():
            log_p = (model(torch.tensor([one.ids])).logits[0, one.start - 1 : -1] / 2.0).log_softmax(-1)
        ids, logprobs, tail = targets(number)
        top, places = log_p.topk(5)
        assert ids.tolist() == places.tolist()
        assert np.allclose(logprobs, top.numpy(), atol=3e-3)
        assert np.allclose(tail, 1 - top.exp().sum(-1).numpy(), atol=1e-5)


# never of something else


def test_a_cache_of_something_else_is_refused(tmp_path: Path) -> None:
    kept(tmp_path, k=8)
    kept(tmp_path, k=8)  # the same is read
    for said, given in (
        (r"another temperature: 2\.0, not 4\.0", {"objective": SOFT.model_copy(update={"temperature": 4.0})}),
        (r"another data \(samples, tokens or mask\)", {"data": tiny.examples(11)}),
        (r"another data", {"objective": SOFT.model_copy(update={"soft_on": "all"})}),
        (r"another teacher \(weights\)", {"teacher": teacher(2)}),
        (r"another k: 8, not 9", {"k": 9}),
    ):
        with pytest.raises(InputError, match=said):
            kept(tmp_path, **({"k": 8} | given))
    with pytest.raises(InputError, match="their tokenizers are not the same"):
        kept(tmp_path, k=8, teacher=(teacher()[0], tiny.tokenizer(reverse=True)))


def test_another_text_is_refused_in_the_training_too(tmp_path: Path) -> None:
    targets = kept(tmp_path / "cache", k=8)
    swapped = Examples(tuple(reversed(tiny.examples(12).sequences)))
    with pytest.raises(InputError, match="they are of another text or another soft_on"):
        tiny.train(tiny.llama(), swapped, tmp_path / "a", objective=SOFT, targets=targets)
    with pytest.raises(InputError, match="another soft_on"):
        tiny.train(
            tiny.llama(), tiny.examples(12), tmp_path / "b", targets=targets,
            objective=SOFT.model_copy(update={"soft_on": "all"}),
        )  # fmt: skip


def test_an_interrupted_teacher_goes_on(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "half", k=8, report=stop)
    assert told == [(8, 12)]
    half = kept(tmp_path / "half", k=8, report=lambda done, total: told.append((done, total)))
    assert told[1:] == [(4, 4)]  # what was there is not computed again
    whole = kept(tmp_path / "whole", k=8)
    for number in range(12):
        for mine, theirs in zip(half(number), whole(number), strict=True):
            assert np.array_equal(mine, theirs)


def test_a_padded_teacher_is_cut_to_what_is_shared(tmp_path: Path) -> None:
    padded = tiny.llama(1, layers=3, hidden=48, vocabulary=320)
    targets = kept(tmp_path, k=320, teacher=(padded, tiny.tokenizer()))
    ids, logprobs, _ = targets(3)
    assert ids.shape[1] == 300
    assert ids.max() < 300
    assert np.exp(logprobs.astype(np.float64)).sum(-1) == pytest.approx(1.0, abs=2e-3)


# from an API


def test_log_probabilities_of_an_api_by_hand(tmp_path: Path) -> None:
    """The API is 90% sure of each token of an answer and says no more: two outcomes, .9 and .1."""
    tokens = tiny.tokenizer()
    made = []
    for record in tiny.records(4):
        words = tuple(tokens.decode([i]) for i in tokens(record.answer)["input_ids"])
        sure = math.log(0.9)
        made.append(
            record.model_copy(
                update={
                    "logprobs": TopLogprobs(
                        tokens=words, logprobs=(sure,) * len(words), top=tuple(((word, sure),) for word in words),
                        tail_mass=(0.1,) * len(words), tokenizer="x",
                    )
                }
            )
        )  # fmt: skip
    made[2] = made[2].model_copy(update={"logprobs": None})  # of one of them it said nothing
    data = make_examples(made, tokens)
    targets = from_records(data, made, tokens)
    objective = Objective(hard=0.5, soft=0.5)
    model = tiny.llama()
    fitted = tiny.train(
        model, data, tmp_path, objective=objective, targets=targets, validation=data, validation_targets=targets,
        settings={"batch_size": 4, "micro_batch": 1, "steps": 1, "evaluations": 1, "learning_rate": 1e-12},
    )  # fmt: skip
    soft = hard = 0.0
    places = 0
    with torch.no_grad():
        for number, one in enumerate(data.sequences):
            log_q = model(torch.tensor([one.ids])).logits[0].log_softmax(-1)
            for place in range(one.start, len(one.ids)):
                said = float(log_q[place - 1, one.ids[place]])
                hard -= said
                if number != 2 and place < len(one.ids) - 1:  # of the end of the turn the API says nothing
                    q = math.exp(said)
                    soft += 0.9 * math.log(0.9 / q) + 0.1 * math.log(0.1 / (1 - q))
                    places += 1
    assert places == sum(len(s.ids) - s.start - 1 for s in data.sequences) - 4  # "maybe" has four tokens
    assert fitted.losses[0]["soft"] == pytest.approx(0.5 * soft / places, rel=1e-5)
    assert fitted.losses[0]["hard"] == pytest.approx(0.5 * hard / data.supervised, rel=1e-5)
    assert fitted.evaluations[0]["eval_loss"] == pytest.approx(fitted.losses[0]["loss"], rel=1e-5)


def test_records_of_which_few_have_log_probabilities_are_refused() -> None:
    data = tiny.examples(4)
    with pytest.raises(InputError):
        from_records(data, tiny.records(4), tiny.tokenizer())
