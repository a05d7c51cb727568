"""A training: its loss held against TRL's, exact over micro-batches, packing and recomputation; how it stops."""

from __future__ import annotations

import copy
import json
import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from distillcalc.distill.training.devices import SAFE, memory_of
from distillcalc.distill.training.examples import Examples, Sequence_
from distillcalc.distill.training.fit import Fitted, _Plan
from distillcalc.distill.training.progress import OutOfMemory, Progress, TrainingDiverged
from distillcalc.distill.training.recipe import Lora, Objective, Settings, StudentStart
from distillcalc.distill.training.students import start_student
from distillcalc.errors import InputError
from tests.distill.training import tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

SOFT = Objective(hard=0.5, soft=0.5, temperature=2.0)
FEATURES = Objective(hard=0.5, soft=0.5, soft_on="all", features=1.0)
ATTENTION = Objective(hard=0.5, soft=0.5, attention=1.0)
TWO_TASKS = Objective(rationale=0.3)
MIXED = {"steps": 4, "batch_size": 8}  # of twelve sequences: batches of eight and four, over two epochs


def teacher() -> tuple[Any, Any]:
    return tiny.llama(seed=1, layers=4, hidden=48), tiny.tokenizer()


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    return load_file(fitted.folder / "model.safetensors")


def nll(folder: Path, data: Examples) -> float:
    """Mean negative log-likelihood of a set's answers, with transformers alone, a sequence at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    total = 0.0
    with torch.no_grad():
        for one in data.sequences:
            log_q = model(torch.tensor([one.ids])).logits[0].log_softmax(-1)
            total -= sum(float(log_q[place - 1, one.ids[place]]) for place in range(one.start, len(one.ids)))
    return total / data.supervised


# what it is held against


def test_hard_labels_are_what_plain_sfttrainer_learns(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data, model = tiny.examples(), tiny.llama()
    ours = tiny.train(model, data, tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = SFTTrainer(
            model=copy.deepcopy(model),
            args=SFTConfig(
                output_dir=str(tmp_path / "trl"), per_device_train_batch_size=8, max_steps=5, learning_rate=1e-2,
                lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0, logging_steps=1,
                save_strategy="no", use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, max_length=None,
                activation_checkpointing=False, seed=0,
            ),
            train_dataset=Dataset.from_dict(
                {"input_ids": [list(s.ids) for s in data.sequences], "labels": [s.labels for s in data.sequences]}
            ),
            processing_class=tiny.tokenizer(),
        )  # fmt: skip
        plain.train()
    theirs = [told for told in plain.state.log_history if "loss" in told]
    assert tiny.curve(ours) == pytest.approx([told["loss"] for told in theirs], abs=1e-5)
    assert tiny.curve(ours, "grad_norm") == pytest.approx([told["grad_norm"] for told in theirs], abs=1e-4)
    assert tiny.curve(ours)[0] - tiny.curve(ours)[-1] > 1.0


def test_the_first_loss_is_the_mean_over_the_answers_tokens(tmp_path: Path) -> None:
    data, model = tiny.examples(), tiny.llama()
    model.save_pretrained(tmp_path / "start")
    fitted = tiny.train(model, data, tmp_path, settings={"steps": 1, "micro_batch": 2})
    assert tiny.curve(fitted) == pytest.approx([nll(tmp_path / "start", data)], abs=1e-5)


@pytest.mark.parametrize(
    ("objective", "chain"),
    [(Objective(), "none"), (SOFT, "none"), (FEATURES, "none"), (ATTENTION, "none"), (TWO_TASKS, "two-task")],
    ids=["hard", "soft", "features", "attention", "two tasks"],
)
def test_accumulation_is_exact_to_the_token(tmp_path: Path, objective: Objective, chain: Any) -> None:
    data = tiny.examples(6 if chain == "two-task" else 12, chain)
    sizes = sorted(len(s.ids) - s.start for s in data.sequences)
    assert sizes[0] * 8 < sizes[-1]  # so that a mean of means would be far off
    found = [
        tiny.train(
            tiny.llama(), data, tmp_path / str(part), objective=objective, settings=MIXED | {"micro_batch": part},
            teacher=teacher() if objective.needs_teacher else None, validation=tiny.examples(5),
        )
        for part in (8, 4, 2, 1)
    ]  # fmt: skip
    assert [f.accumulation for f in found] == [1, 2, 4, 8]
    terms = [name for name in ("loss", "hard", "soft", "features", "attention") if name in found[0].losses[0]]
    for name in terms:
        for other in found[1:]:
            assert tiny.curve(other, name) == pytest.approx(tiny.curve(found[0], name), abs=1e-5)
    for told in found[2].losses:  # the terms are told per step, of the last and smaller batch of an epoch too
        assert told["loss"] == pytest.approx(sum(told[name] for name in terms if name != "loss"), abs=1e-5)


def test_two_tasks_have_a_mean_each(tmp_path: Path) -> None:
    data, model = tiny.examples(6, "two-task"), tiny.llama()
    model.save_pretrained(tmp_path / "start")
    fitted = tiny.train(
        model, data, tmp_path, objective=TWO_TASKS, settings={"steps": 1, "batch_size": 12, "micro_batch": 3}
    )
    predict, explain = (
        nll(tmp_path / "start", Examples(tuple(s for s in data.sequences if s.group == group))) for group in (0, 1)
    )
    assert tiny.curve(fitted) == pytest.approx([0.7 * predict + 0.3 * explain], abs=1e-5)


@pytest.mark.parametrize("objective", [Objective(), SOFT, FEATURES, ATTENTION], ids=["hard", "soft", "features", "att"])
def test_packed_is_padded(tmp_path: Path, objective: Objective) -> None:
    given: dict[str, Any] = {"teacher": teacher()} if objective.needs_teacher else {}
    padded, packed = (
        tiny.train(
            tiny.llama(), tiny.examples(12), tmp_path / str(packing), objective=objective,
            settings=MIXED | {"micro_batch": 4, "packing": packing}, **given,
        )
        for packing in (False, True)
    )  # fmt: skip
    assert tiny.curve(packed) == pytest.approx(tiny.curve(padded), abs=1e-5)


def test_activations_computed_anew_change_nothing(tmp_path: Path) -> None:
    for name, model, objective in (("llama", tiny.llama(), FEATURES), ("moe", tiny.mixtral(), Objective())):
        given: dict[str, Any] = {"teacher": teacher()} if objective.needs_teacher else {}
        kept, anew = (
            tiny.train(
                model, tiny.examples(), tmp_path / f"{name}{again}", objective=objective,
                settings={"gradient_checkpointing": again, "steps": 3}, **given,
            )
            for again in (False, True)
        )  # fmt: skip
        assert tiny.curve(anew) == pytest.approx(tiny.curve(kept), abs=1e-6)


def test_bf16_on_a_cpu_stays_near_fp32(tmp_path: Path) -> None:
    fine, coarse = (
        tiny.train(
            tiny.llama(), tiny.examples(), tmp_path / name, objective=SOFT, teacher=teacher(),
            settings={"precision": name},
        )
        for name in ("fp32", "bf16")
    )  # fmt: skip
    assert coarse.machine["precision"] == "bf16"
    assert tiny.curve(coarse) == pytest.approx(tiny.curve(fine), rel=0.02)  # bf16 has 8 bits: 2^-8 = 0.004 a rounding
    assert tiny.curve(coarse) != pytest.approx(tiny.curve(fine), abs=1e-6)  # and it was used
    assert {t.dtype for t in weights(coarse).values()} == {torch.float32}  # of the weights, none is lost


# what is kept


def test_the_student_that_is_saved_is_the_one_that_learnt(tmp_path: Path) -> None:
    start = tiny.llama()
    learner = tiny.student(start)
    config = start.config.to_dict()
    fitted = tiny.train(learner, tiny.examples(), tmp_path, objective=FEATURES, teacher=teacher())
    model = AutoModelForCausalLM.from_pretrained(fitted.folder)
    ids = torch.tensor([tiny.examples().sequences[3].ids])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, learner.model(ids).logits)
        assert not torch.allclose(model(ids).logits, start(ids).logits, atol=0.1)
    kept = {name: value for name, value in model.config.to_dict().items() if config.get(name) != value}
    assert kept.keys() <= {"use_cache", "dtype", "architectures", "transformers_version", "_name_or_path"}
    assert "forward" not in learner.model.__dict__  # neither TRL's nor the lesson
    assert not [name for name in weights(fitted) if "projection" in name and "distill" in name]
    assert {path.name for path in tmp_path.iterdir()} == {"student", "training.json", "asked.json"}


def test_a_finished_training_is_read(tmp_path: Path) -> None:
    data = tiny.examples()
    first = tiny.train(tiny.llama(), data, tmp_path, validation=data, settings={"evaluations": 1})
    again = tiny.train(tiny.llama(seed=5), data, tmp_path, validation=data, settings={"evaluations": 1})
    assert again == first
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 5


def test_a_folder_is_of_one_training(tmp_path: Path) -> None:
    tiny.train(tiny.llama(), tiny.examples(), tmp_path)
    for given, said in (
        ({"settings": {"learning_rate": 1e-3}}, "of other settings"),
        ({"seed": 1}, "of other seed"),
        ({"objective": TWO_TASKS}, "of other objective"),
    ):
        with pytest.raises(InputError, match=said):
            tiny.train(tiny.llama(), tiny.examples(), tmp_path, **given)
    with pytest.raises(InputError, match="of other examples"):
        tiny.train(tiny.llama(), tiny.examples(9), tmp_path)
    tiny.train(tiny.llama(), tiny.examples(), tmp_path, settings={"micro_batch": 2})  # how it is run may change
    with pytest.raises(InputError, match="give its weights"):  # a slip, after which the folder is free
        tiny.train(tiny.llama(), tiny.examples(), tmp_path / "free", objective=SOFT)
    assert tiny.train(tiny.llama(), tiny.examples(), tmp_path / "free").steps == 5


def test_tokens_are_counted_without_padding(tmp_path: Path) -> None:
    data = tiny.examples(12)
    fitted = tiny.train(tiny.llama(), data, tmp_path, settings=MIXED | {"micro_batch": 2, "epochs": 2, "steps": None})
    assert fitted.steps == 4  # 12 in batches of 8: two a epoch
    assert fitted.tokens == 2 * data.tokens
    assert fitted.supervised == data.supervised == sum(len(s.ids) - s.start for s in data.sequences)


def test_steps_of_tokens() -> None:
    data = tiny.examples(12)  # 12 sequences
    wants = Settings(tokens=10 * data.tokens, batch_size=4)
    plan = _Plan(Path(), Objective(), wants, 0, tiny.machine(), 4, 4, 0.0)
    assert plan.steps(data) == 30  # ten epochs of three batches


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    tiny.train(tiny.llama(), tiny.examples(), tmp_path, report=told.append)
    assert [(p.step, p.steps) for p in told] == [(i, 5) for i in range(1, 6)]
    assert told[0].loss is None  # told after the step is
    assert all(p.loss is not None and p.tokens_per_s > 0 for p in told[1:])
    assert told[-1].seconds_left == 0


def test_epochs_have_orders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distillcalc.distill.training import trainer_torch

    orders = []
    plain = trainer_torch._Order.__iter__

    def noted(self: Any) -> Any:
        orders.append(list(plain(self)))
        return iter(orders[-1])

    monkeypatch.setattr(trainer_torch._Order, "__iter__", noted)
    tiny.train(tiny.llama(), tiny.examples(12), tmp_path, settings={"batch_size": 4, "micro_batch": 2, "steps": 9})
    assert len(orders) == 3
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert all(a != b for a, b in pairwise(orders))


def test_more_losses_than_are_told_are_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distillcalc.distill.training import fit

    every = tiny.train(tiny.llama(), tiny.examples(12), tmp_path / "a", settings=MIXED | {"steps": 9, "micro_batch": 2})
    monkeypatch.setattr(fit, "MOST_TOLD", 3)
    some = tiny.train(
        tiny.llama(), tiny.examples(12), tmp_path / "b",
        settings=MIXED | {"steps": 9, "micro_batch": 2, "checkpoints": 2}, keep_checkpoints=True,
    )  # fmt: skip
    assert [told["step"] for told in some.losses] == [1, 3, 6, 9]
    for name in ("loss", "hard"):
        one = tiny.curve(every, name)
        means = [one[0], sum(one[1:3]) / 2, sum(one[3:6]) / 3, sum(one[6:]) / 3]
        assert tiny.curve(some, name) == pytest.approx(means, abs=1e-5)
    assert {path.name for path in (tmp_path / "b").glob("checkpoint-*")} == {
        "checkpoint-6",
        "checkpoint-9",
    }


# the same again


def test_seeds(tmp_path: Path) -> None:
    made = [
        tiny.train(
            tiny.llama(), tiny.examples(12), tmp_path / f"{place}", objective=FEATURES, teacher=teacher(), seed=seed,
            settings={"batch_size": 4, "micro_batch": 2},
        )
        for place, seed in enumerate((3, 3, 4))
    ]  # fmt: skip
    one, same, other = map(weights, made)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert tiny.curve(made[0]) == tiny.curve(made[1])
    assert not any(torch.equal(one[name], other[name]) for name in one)


# validation


def test_validation_is_exact_to_the_token(tmp_path: Path) -> None:
    data, held = tiny.examples(8), tiny.examples(7)
    fitted = tiny.train(
        tiny.llama(),
        data,
        tmp_path,
        validation=held,
        settings={"evaluations": 1, "steps": 2, "micro_batch": 4, "checkpoints": 1},
    )
    (last,) = fitted.evaluations
    assert fitted.best_step is None  # the last weights are kept
    assert last["step"] == 2
    assert last["eval_loss"] == pytest.approx(nll(fitted.folder, held), abs=1e-5)
    model = AutoModelForCausalLM.from_pretrained(fitted.folder)
    right = 0
    for one in held.sequences:
        said = model(torch.tensor([one.ids])).logits[0].argmax(-1).tolist()
        right += sum(said[place - 1] == one.ids[place] for place in range(one.start, len(one.ids)))
    assert last["eval_token_accuracy"] == pytest.approx(right / held.supervised)


def test_a_remembering_teacher_takes_no_validation_sequence_for_one_of_the_training(tmp_path: Path) -> None:
    held = Examples(tuple(reversed(tiny.examples(8).sequences)))  # other sequences under the same numbers
    fitted = tiny.train(
        tiny.llama(), tiny.examples(8), tmp_path, validation=held, objective=FEATURES, teacher=teacher(),
        settings={"evaluations": 4, "steps": 4, "micro_batch": 2, "learning_rate": 1e-9},
    )  # fmt: skip
    for told in fitted.evaluations:  # all the same sequences, and a student that does not move
        for name in ("loss", "soft", "features"):
            assert told[f"eval_{name}"] == pytest.approx(fitted.losses[0][name], abs=1e-5)


def test_what_the_teacher_said_is_kept_where_the_training_leaves_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distillcalc.distill.training import devices, live_teacher_torch

    granted: list[int] = []

    class Noted(live_teacher_torch.LiveTeacher):
        def __init__(self, model: Any, lesson: Any, memory_bytes: int = 0) -> None:
            granted.append(memory_bytes)
            super().__init__(model, lesson, memory_bytes)

    monkeypatch.setattr(live_teacher_torch, "LiveTeacher", Noted)
    by, data = teacher(), tiny.examples()
    longest = max(len(s.ids) for s in data.sequences)
    needed = memory_of(tiny.llama(), precision="fp32", teacher=by[0]).of(8 * longest)
    for place, free in enumerate((int(needed / SAFE) + 1_000, int(needed), int(4 * needed))):
        monkeypatch.setattr(devices, "machine", lambda precision, free=free: tiny.machine(free_bytes=free))
        tiny.train(
            tiny.llama(), data, tmp_path / str(place), objective=SOFT, teacher=by, settings={"steps": 1}
        )  # fmt: skip
    assert granted[0] == int(SAFE * (int(needed / SAFE) + 1_000) - needed)  # what is left of .85
    assert granted[1:] == [0, int(0.2 * int(4 * needed))]  # nothing is left; and never more than a fifth


def test_patience_keeps_the_best_weights(tmp_path: Path) -> None:
    data, held = tiny.examples(8), Examples(tiny.examples(8).sequences[2:3])
    wants = {"steps": 40, "evaluations": 20, "patience": 2, "learning_rate": 3e-2, "batch_size": 4, "micro_batch": 4}
    told = []
    fitted = tiny.train(
        tiny.llama(), Examples(data.sequences[3:]), tmp_path, validation=held, settings=wants, report=told.append
    )
    losses = [told["eval_loss"] for told in fitted.evaluations]
    best = losses.index(min(losses))
    assert 0 < best < len(losses) - 1
    assert len(losses) == best + 3  # two without a gain
    assert fitted.best_step == 2 * (best + 1)
    assert fitted.steps == told[-1].step == 2 * (best + 3) < 40
    assert nll(fitted.folder, held) == pytest.approx(min(losses), abs=1e-5)


# how it stops


def test_a_loss_that_is_no_number_stops_with_step_and_samples(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"the loss of step 2 is no number .*0:0:0") as stopped:
        tiny.train(tiny.llama(), tiny.examples(3), tmp_path / "rate", settings={"learning_rate": 1e20})
    assert stopped.value.step == 2
    sequences = tiny.examples().sequences
    (alone,) = set(sequences[5].ids).difference(*(s.ids for s in sequences if s.sample != "5:0:0"))  # its number
    poisoned = tiny.llama(tie_word_embeddings=False)
    with torch.no_grad():
        poisoned.model.embed_tokens.weight[alone] = math.nan
    with pytest.raises(TrainingDiverged) as stopped:
        tiny.train(poisoned, tiny.examples(), tmp_path / "poison", settings={"micro_batch": 1})
    assert (stopped.value.step, stopped.value.samples) == (1, "5:0:0")
    assert not (tmp_path / "poison" / "training.json").exists()
    with torch.no_grad():
        poisoned.lm_head.weight[0] = math.nan
    with pytest.raises(InputError, match="its weights are damaged"):
        tiny.train(poisoned, tiny.examples(), tmp_path / "damaged")


def test_a_gradient_that_is_no_number_stops_before_the_weights_are_lost(tmp_path: Path) -> None:
    learner = tiny.student(tiny.llama())
    weight = learner.model.model.layers[0].mlp.up_proj.weight
    calls = []

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * math.nan if len(calls) == 3 else gradient

    weight.register_hook(poison)
    with pytest.raises(TrainingDiverged, match="norm of the gradient nan") as stopped:
        tiny.train(learner, tiny.examples(8), tmp_path)
    assert stopped.value.step == 3
    assert stopped.value.samples.count(":0:0") == 4
    assert "and 4 more" in stopped.value.samples
    assert all(torch.isfinite(p).all() for p in learner.model.parameters())


def test_a_batch_without_labels_divides_by_nothing(tmp_path: Path) -> None:
    ids = tiny.examples().sequences[0].ids
    fitted = tiny.train(tiny.llama(), Examples((Sequence_("a", ids, len(ids)),)), tmp_path, settings={"steps": 2})
    assert tiny.curve(fitted) == [0.0, 0.0]
    start = tiny.llama().state_dict()
    assert all(torch.equal(tensor, start[name]) for name, tensor in weights(fitted).items())


def test_a_device_without_memory_left_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distillcalc.distill.training.trainer_torch import StudentTrainer

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StudentTrainer, "compute_loss", full)
    with pytest.raises(OutOfMemory, match="with 8 sequences at once"):
        tiny.train(tiny.llama(), tiny.examples(), tmp_path)
    with pytest.raises(OutOfMemory, match="with one sequence"):
        tiny.train(tiny.llama(), tiny.examples(), tmp_path, settings={"micro_batch": 1})


@pytest.mark.parametrize(
    ("objective", "given", "said"),
    [
        (FEATURES, {"targets": lambda n: ()}, "hold no hidden states"),
        (ATTENTION, {"targets": lambda n: ()}, "no attention"),
        (SOFT, {}, "give its weights, or stored soft labels"),
        (Objective(soft=1, divergence="uld"), {"targets": lambda n: ()}, "uld sorts the teacher's whole distribution"),
        (Objective(), {"on_policy": 0.5}, "Got soft = 0"),
        (SOFT, {"on_policy": 0.5, "targets": lambda n: ()}, "Got stored soft labels"),
        (SOFT, {"on_policy": 0.5, "settings": {"packing": True}}, "packing and on-policy do not go together"),
        (Objective(soft=1, divergence="uld"), {"settings": {"packing": True}}, "packing and uld"),
        (SOFT, {"targets": lambda n: (), "validation": tiny.examples()}, "give validation_targets"),
        (Objective(), {"settings": {"patience": 2, "evaluations": 2}}, "patience counts evaluations"),
    ],
)
def test_what_would_be_left_out_in_silence_is_refused(
    tmp_path: Path, objective: Objective, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        tiny.train(tiny.llama(), tiny.examples(), tmp_path, objective=objective, **given)


# mixtures and adapters


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_mixtures_learn_with_the_loss_that_balances_their_experts(tmp_path: Path, family: str) -> None:
    model = getattr(tiny, family)(layers=3)
    data = tiny.examples()
    learner = start_student(StudentStart(layers=2), (model, tiny.tokenizer()))
    assert learner.kept_layers == (0, 2)
    start = copy.deepcopy(learner.model)
    longest = -(-max(len(s.ids) for s in data.sequences) // 8) * 8
    ids = torch.tensor([[*s.ids, *[0] * (longest - len(s.ids))] for s in data.sequences])
    mask = torch.tensor([[1] * len(s.ids) + [0] * (longest - len(s.ids)) for s in data.sequences])
    with torch.no_grad():
        theirs = start(input_ids=ids, attention_mask=mask, labels=ids, output_router_logits=True).aux_loss
    fitted = tiny.train(learner, data, tmp_path)
    first, last = fitted.losses[0], fitted.losses[-1]
    assert first["router"] == pytest.approx(0.02 * float(theirs), abs=1e-5)
    assert first["loss"] == pytest.approx(first["hard"] + first["router"], abs=1e-5)
    assert last["hard"] < first["hard"] - 0.5
    saved = AutoModelForCausalLM.from_pretrained(fitted.folder)
    assert saved.config.num_hidden_layers == 2
    assert not saved.config.output_router_logits  # TRL would have every answer compute them
    with torch.no_grad():
        assert torch.allclose(saved(ids, attention_mask=mask).logits, learner.model(ids, attention_mask=mask).logits)


def test_the_router_loss_is_a_mean_over_parts_of_a_batch(tmp_path: Path) -> None:
    found = [
        tiny.train(tiny.mixtral(), tiny.examples(), tmp_path / str(part), settings={"steps": 1, "micro_batch": part})
        for part in (8, 4, 1)
    ]
    router = [f.losses[0]["router"] for f in found]
    assert router == pytest.approx([router[0]] * 3, rel=0.2)  # of other parts, so not the same; not a sum over them
    assert router[0] > 0.01


def test_adapters_learn_and_the_weights_under_them_stand_still(tmp_path: Path) -> None:
    start = tiny.llama(tie_word_embeddings=False)
    learner = tiny.student(start, lora=Lora(rank=4, alpha=8, dropout=0.1))
    fitted = tiny.train(learner, tiny.examples(), tmp_path, objective=FEATURES, teacher=teacher())
    assert fitted.losses[-1]["loss"] < fitted.losses[0]["loss"] - 0.1
    before, after = start.state_dict(), weights(fitted)
    assert after.keys() == before.keys()  # merged: no adapter, no projection
    moved = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-6)}
    assert moved == {name for name in before if "_proj" in name}
    saved = AutoModelForCausalLM.from_pretrained(fitted.folder)
    assert type(saved).__name__ == "LlamaForCausalLM"
    assert nll(fitted.folder, tiny.examples()) < tiny.curve(tiny.train(start, tiny.examples(), tmp_path / "b"))[0] - 0.1


def test_the_least_divisor_of_a_process_is_run_at_once(tmp_path: Path) -> None:
    fitted = tiny.train(tiny.llama(), tiny.examples(), tmp_path, settings={"batch_size": 6, "micro_batch": 6})
    assert (fitted.micro_batch, fitted.accumulation) == (6, 1)
    left_out = tiny.train(tiny.llama(), tiny.examples(), tmp_path / "b", settings={"micro_batch": None})
    assert (left_out.micro_batch, left_out.accumulation) == (8, 1)  # what fits: all of it
