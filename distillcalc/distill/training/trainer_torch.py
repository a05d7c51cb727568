"""The trainer: TRL's SFTTrainer with a lesson for its loss, exact to the token over accumulated batches and machines.

What it adds to SFTTrainer: losses of several terms (:mod:`.lesson_torch`) that are means over the supervised tokens of
the whole optimizer step; batches that the student writes itself; a teacher beside the student; a stop at the first
loss that is no number; checkpoints that are known to be whole (:mod:`.checkpoints`).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from transformers import TrainerCallback  # noqa: TID253
from transformers.trainer_pt_utils import get_length_grouped_indices  # noqa: TID253
from trl import SFTTrainer  # noqa: TID253

from distillcalc.distill.training import checkpoints
from distillcalc.distill.training.batches import GROUPS, Collator
from distillcalc.distill.training.checkpoints import PROJECTIONS
from distillcalc.distill.training.lesson_torch import MODEL_INPUTS, Lesson, teach
from distillcalc.distill.training.live_teacher_torch import LiveTeacher
from distillcalc.distill.training.progress import Progress, TrainingDiverged
from distillcalc.distill.training.wrapping_torch import as_it_was, base_of, gathered, refuse_first_fsdp

LESSON_INPUTS = ("shift_labels", "soft", "real", "group", "counts", "teacher_ids", "teacher_logprobs",
                 "teacher_tail", "uld_student")  # fmt: skip


class StudentTrainer(SFTTrainer):
    """SFTTrainer whose loss is a lesson.

    Parameters
    ----------
    lesson : what is minimised.
    teacher : read beside each batch; None where soft labels are stored or there are none.
    writer : turns a batch into one that the student wrote, given the trainer and a random generator; ``on_policy`` is
        the share of batches for which it is asked.
    names : of the samples, by number, for messages.
    report : told how far the training is, after each optimizer step.
    validation_counts : supervised positions of the whole validation set, as a batch's ``counts``.
    other_tokens : adds the same texts in the tokens of a teacher that has others.
    validation_collator : for the validation set, where it is another.
    patience : evaluations without a gain after which the training ends; None for never.
    """

    control: Any
    data_collator: Any

    def __init__(
        self, *, lesson: Lesson, teacher: LiveTeacher | None = None, collator: Collator,
        writer: Callable[[StudentTrainer, dict[str, Tensor], random.Random], dict[str, Tensor]] | None = None,
        on_policy: float = 0.0, names: tuple[str, ...] = (), report: Callable[[Progress], None] | None = None,
        validation_counts: Tensor | None = None, teacher_hidden_size: int | None = None,
        other_tokens: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        validation_collator: Collator | None = None, patience: int | None = None, **given: Any,
    ) -> None:  # fmt: skip
        with as_it_was(given["model"]):
            super().__init__(data_collator=collator, **given)
        refuse_first_fsdp(self.accelerator.state)
        self.other_tokens, self.validation_collator, self.patience = other_tokens, validation_collator, patience
        self.lesson, self.teacher, self.writer, self.on_policy = lesson, teacher, writer, on_policy
        self.names, self.report, self.validation_counts = names, report, validation_counts
        self.loss_is_scaled_for_ga = True  # a lesson's loss is a share of the whole step's
        self.base_student = base_of(self.model)
        self.stop_teaching = teach(self.base_student, lesson, teacher_hidden_size)
        self.tokens_seen = 0
        self.began = time.monotonic()
        self.earlier_seconds, self.earlier_tokens = 0.0, 0
        self.told_step = 0
        self._sums: dict[str, Tensor] = {}
        self._samples: list[int] = []
        self.add_callback(_Steps(self))

    # what the projections of hidden states learn is the student's for as long as it learns
    def create_optimizer(self, *args: Any, **given: Any) -> Any:
        for parameter in getattr(self.base_student, PROJECTIONS, torch.nn.Module()).parameters():
            parameter.requires_grad_(True)
        return super().create_optimizer(*args, **given)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Tensor | None]:
        """The batches of one optimizer step, each with the counts of all of them over all processes."""
        batches = []
        for _ in range(num_batches):
            try:
                batches.append(next(epoch_iterator))
            except StopIteration:
                break
        if not batches:
            return batches, None
        if self.writer is not None and self.on_policy:
            for place, batch in enumerate(batches):
                # Of the step and the place in it, so that a training that was taken up again writes the same.
                chance = random.Random(f"{self.args.seed}/{self.state.global_step}/{place}/{self.args.process_index}")
                if chance.random() < self.on_policy:
                    batches[place] = self.writer(self, batch, chance)
        counts = torch.stack([batch["counts"] for batch in batches]).sum(0).to(self.accelerator.device)
        if self.args.world_size > 1:
            counts = self.accelerator.reduce(counts, "sum")
        for batch in batches:
            batch["counts"] = counts
            batch["share"] = torch.tensor(1.0 / (len(batches) * self.args.world_size))
        self.tokens_seen += int(counts[-1])
        self._samples = [int(number) for batch in batches for number in batch["sample"].tolist()]
        return batches, counts[:GROUPS].sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The lesson's loss of one batch, as a share of the optimizer step's."""
        loss, told = self._taught(model, inputs)
        if not torch.isfinite(told["loss"]):
            terms = ", ".join(f"{name} {float(told[name]):g}" for name in told if name not in ("loss", "right"))
            raise self._diverged(inputs["sample"].tolist(), terms)
        for name, value in told.items():
            self._sums[name] = self._sums[name] + value.detach() if name in self._sums else value.detach()
        # DDP and FSDP take the mean over processes of what is a share of the whole.
        return loss * self.accelerator.num_processes

    def _clip_grad_norm(self, model: Any) -> Any:
        """The norm of a step's gradient, which must be a number before the weights are changed by it."""
        norm = super()._clip_grad_norm(model)
        if not math.isfinite(float(norm)):
            raise self._diverged(self._samples, f"norm of the gradient {float(norm):g}")
        return norm

    def _diverged(self, samples: Iterable[int], terms: str) -> TrainingDiverged:
        named = [self.names[number] for number in samples if 0 <= number < len(self.names)]
        which = ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
        return TrainingDiverged(self.state.global_step + 1, which, terms)

    def _run_epoch(self, *args: Any, **given: Any) -> Any:
        """Nothing where a training that was taken up again had come to its end: the loop would take another step."""
        if self.state.global_step >= self.state.max_steps or self.gains_no_more():
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*args, **given)

    def gains_no_more(self) -> bool:
        """Whether the last evaluations, as many as there is patience, were no better than one before them.

        Told from the history alone, so that a training that was taken up again knows it too.
        """
        losses = [entry["eval_loss"] for entry in self.state.log_history if "eval_loss" in entry]
        if self.patience is None or not losses:
            return False
        losses = [math.inf if math.isnan(loss) else loss for loss in losses]
        return len(losses) - 1 - losses.index(min(losses)) >= self.patience

    def _taught(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and its terms as numbers."""
        given = {name: inputs[name] for name in LESSON_INPUTS if name in inputs}
        given["share"] = inputs.get("share", torch.tensor(1.0))
        if self.teacher is not None:
            if self.other_tokens is not None:
                inputs = {**inputs, **self.other_tokens(dict(inputs))}
                given |= {name: inputs[name] for name in ("uld_student",)}
            given |= self.teacher.read(inputs)
        plain = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
        found = model(**plain, lesson_inputs=MappingProxyType(given))  # no dict: FSDP would round what is in it
        return found["loss"], found["told"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the loss, means over the steps since the last time."""
        if "loss" in logs and self._sums:
            sums, self._sums = self._over_processes(self._sums), {}
            steps = max(1, self.state.global_step - self.told_step)
            logs |= {name: float(value) / steps for name, value in sums.items() if name != "right"}
            self.told_step = self.state.global_step
        super(SFTTrainer, self).log(logs, start_time)

    def _over_processes(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.args.world_size == 1:
            return sums
        return {name: self.accelerator.reduce(sums[name].float(), "sum") for name in sorted(sums)}

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """The lesson's loss over the whole validation set, exact to the token; share of its tokens that are right."""
        assert self.validation_counts is not None
        self.model.eval()
        counts = self.validation_counts.to(self.accelerator.device)
        sums: dict[str, Tensor] = {}
        with torch.no_grad():
            for batch, share, counted in self._validation_batches(eval_dataset):
                ready = self._prepare_inputs(batch) | {"counts": counts, "share": torch.tensor(share)}
                ready["sample"] = ready["sample"] + len(self.names)  # other sequences than the training's
                with self.compute_loss_context_manager():
                    _, told = self._taught(self.model, ready)
                for name, value in told.items():
                    sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.float() * counted
        sums = self._over_processes(sums)
        self.model.train()
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in sums.items() if name != "right"}
        metrics[f"{metric_key_prefix}_token_accuracy"] = float(sums["right"]) / max(1, int(counts[:GROUPS].sum()))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_batches(self, data: Any) -> Iterator[tuple[dict[str, Tensor], float, bool]]:
        """This process's batches, longest first; what each is of all of them; and whether it counts.

        Every process has as many, since sharded weights are gathered by all at once; none is counted twice.
        """
        rows = self.eval_dataset if data is None else data
        collate = self.validation_collator or self.data_collator
        lengths, size, many = list(rows["length"]), self.args.per_device_eval_batch_size, self.args.world_size
        order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
        batches = [order[first : first + size] for first in range(0, len(order), size)]
        for first in range(0, len(batches), many):
            place = first + self.args.process_index
            numbers = batches[min(place, len(batches) - 1)]
            yield collate([rows[number] for number in numbers]), 1.0 / len(batches), place < len(batches)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return _Order(list(rows["length"]), size, self.args.data_seed or self.args.seed, self)

    def save_student(self, folder: Path) -> None:
        """Write the student's weights as safetensors, adapters merged, and its configuration."""
        state = self.accelerator.get_state_dict(self.model_wrapped) if self.is_fsdp_enabled else None
        if not self.args.should_save:
            return
        model = self.accelerator.unwrap_model(self.model)
        if state is not None:
            model = gathered(model, state)
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        model.config.use_cache = True
        model.save_pretrained(folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The weights of a checkpoint; sharded ones are in files of their own already, by all processes."""
        if not (self.is_fsdp_enabled and _internal_call):
            super().save_model(output_dir, _internal_call)
        elif self.args.should_save and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)

    def create_model_card(self, *args: Any, **given: Any) -> None:
        """None here: the card of a student says more (:mod:`.model_card`)."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        checkpoints.load_projections(self.base_student, Path(resume_from_checkpoint))


class _Order(torch.utils.data.Sampler):
    """Samples of like length together, in an order that follows from seed and epoch alone: a resumed training has it.

    Parameters
    ----------
    lengths : tokens by sample. batch : samples of an optimizer step. trainer : knows the epoch; its state is another
        one when the training begins.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, trainer: StudentTrainer) -> None:
        self.lengths, self.batch, self.seed, self.trainer = lengths, batch, seed, trainer

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        epoch = int((self.trainer.state.epoch or 0.0) + 1e-6)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch, generator=generator))


class _Steps(TrainerCallback):
    """Tells how far the training is, ends it where it gains no more, and marks checkpoints that are whole."""

    def __init__(self, trainer: StudentTrainer) -> None:
        self.trainer = trainer
        self.loss: float | None = None
        self.first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.began = time.monotonic()
        self.first = self.trainer.told_step = state.global_step
        if state.best_global_step and state.best_model_checkpoint is None:  # the folder has moved
            best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(best) if best.is_dir() else None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.loss = float(logs["loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.report is None or not state.is_world_process_zero:
            return
        seconds = max(time.monotonic() - self.trainer.began, 1e-9)
        done = state.global_step - self.first
        self.trainer.report(
            Progress(
                step=state.global_step, steps=state.max_steps, loss=self.loss,
                tokens_per_s=self.trainer.tokens_seen / seconds,
                seconds_left=seconds / max(done, 1) * (state.max_steps - state.global_step),
            )
        )  # fmt: skip

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.gains_no_more():
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()  # the other processes' files are part of it
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if not self.trainer.is_fsdp_enabled:  # sharded, they are in the model's own files
                checkpoints.save_projections(self.trainer.base_student, folder)
            seconds = self.trainer.earlier_seconds + time.monotonic() - self.trainer.began
            checkpoints.mark_whole(folder, seconds, self.trainer.earlier_tokens + self.trainer.tokens_seen)
