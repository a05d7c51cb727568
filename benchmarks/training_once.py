"""A few steps of one training in a fresh process, as one line of JSON: ours, TRL's SFTTrainer, or a naive Trainer.

    python benchmarks/training_once.py hard ours|trl
    python benchmarks/training_once.py soft ours|naive

The same model (SmolLM2-135M cut to six layers), texts, batches and steps. The naive Trainer keeps both full tensors of
logits, as one writes it at first; TRL's own DistillationTrainer is on-policy and does other work.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
import warnings
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from distillcalc.distill.packaged import smollm2
from distillcalc.distill.training.examples import IGNORED, Examples, Sequence_
from distillcalc.distill.training.fit import fit
from distillcalc.distill.training.local_teacher import quiet
from distillcalc.distill.training.recipe import Objective, Settings, StudentStart
from distillcalc.distill.training.students import Student, load_model, start_student

ROWS, TOKENS, ANSWER, BATCH, STEPS, WARM = 96, 96, 12, 8, 10, 2
TEMPERATURE = 2.0


def examples() -> Examples:
    """Sequences of the same length, so that padding and order play no part."""
    numbers = torch.Generator().manual_seed(0)
    ids = torch.randint(100, 49_000, (ROWS, TOKENS), generator=numbers).tolist()
    return Examples(tuple(Sequence_(f"{n}", tuple(row), TOKENS - ANSWER) for n, row in enumerate(ids)))


class Clock(TrainerCallback):
    """Seconds of the steps after the first few."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.at.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """From the end of the last step to warm up to the end of the last."""
        return self.at[-1] - self.at[WARM - 1]


class Naive(Trainer):
    """Both full tensors of logits, cross-entropy and KL over the supervised positions."""

    def __init__(self, *, teacher: Any, **given: Any) -> None:
        super().__init__(**given)
        self.taught_by = teacher.eval()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs.pop("labels")[:, 1:]
        mine = model(**inputs, use_cache=False).logits[:, :-1]
        with torch.no_grad():
            theirs = self.taught_by(**inputs, use_cache=False).logits[:, :-1]
        hard = torch.nn.functional.cross_entropy(mine.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        soft = torch.nn.functional.kl_div(
            torch.log_softmax(mine / TEMPERATURE, -1), torch.log_softmax(theirs / TEMPERATURE, -1),
            log_target=True, reduction="none",
        ).sum(-1)  # fmt: skip
        where = labels != IGNORED
        return 0.5 * hard + 0.5 * TEMPERATURE**2 * (soft * where).sum() / where.sum()


def arguments(folder: str) -> SFTConfig:
    """What all of them share."""
    return SFTConfig(
        output_dir=folder, per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=1e-4, logging_steps=STEPS,
        save_strategy="no", bf16=False, use_cpu=True, report_to="none", disable_tqdm=True, remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, seed=0, lr_scheduler_type="constant",
        gradient_checkpointing=False,
    )  # fmt: skip


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Sequences of one length as tensors."""
    ids = torch.tensor([row["input_ids"] for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def main(kind: str, which: str) -> None:
    """Train, and print tokens/s and the last loss."""
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    with quiet():
        teacher, tokenizer = load_model(str(smollm2()))
        student = start_student(StudentStart(layers=6), (teacher, tokenizer))
    data, clock = examples(), Clock()
    with tempfile.TemporaryDirectory() as folder, quiet():
        if which == "ours":
            soft = kind == "soft"
            wants = Objective(hard=0.5, soft=0.5, temperature=TEMPERATURE) if soft else Objective()
            settings = Settings(
                steps=STEPS, batch_size=BATCH, micro_batch=BATCH, learning_rate=1e-4, warmup=0.0, schedule="constant",
                evaluations=0, checkpoints=0, max_grad_norm=1.0,
            )  # fmt: skip
            done = fit(
                Student(student.model, tokenizer, "cut"), data, folder, objective=wants, settings=settings,
                teacher=(teacher, tokenizer) if soft else None, report=lambda _: clock.on_step_end(),
            )  # fmt: skip
            loss = done.losses[-1]["loss"]
        else:
            made = data.dataset().remove_columns(["group", "sample", "length"])
            given: dict[str, Any] = {
                "model": student.model, "args": arguments(folder), "train_dataset": made, "data_collator": collate,
                "processing_class": tokenizer, "callbacks": [clock],
            }  # fmt: skip
            trainer = SFTTrainer(**given) if which == "trl" else Naive(teacher=copy.deepcopy(teacher), **given)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    tokens = BATCH * TOKENS * (STEPS - WARM)
    print(json.dumps({"tokens_per_s": tokens / clock.seconds, "loss": loss}))


if __name__ == "__main__":
    main(*sys.argv[1:])
