"""One training of one student: settings become TRL's, checkpoints are gone on from, and what happened is kept."""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training import checkpoints, devices
from distillcalc.distill.training.batches import Collator, Targets
from distillcalc.distill.training.examples import Examples, ids_of
from distillcalc.distill.training.fit_checks import RESULT, claim, refuse_contradictions
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.prompting import padding_id
from distillcalc.distill.training.recipe import Objective, Settings
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from distillcalc.distill.training.students import Student

SCHEMA_VERSION = 1
MOST_TOLD = 200  # losses of a training
REMEMBERED = 0.2  # share of the free memory that may hold what a live teacher said, where the training leaves it
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Fitted:
    """What a training brought.

    Parameters
    ----------
    folder : of the trained student: weights as safetensors, configuration, tokenizer.
    losses : by step, what was told: loss and its terms, learning rate, norm of the gradient.
    evaluations : validation loss and its terms, by step.
    steps, tokens, seconds : done in all, over all sessions; padding is not counted.
    supervised : tokens of the answers in one epoch.
    best_step : whose weights were kept; None where the last were.
    micro_batch, accumulation : how a batch was run.
    machine : where, in which precision, with which versions.
    """

    folder: Path
    losses: tuple[dict[str, float], ...]
    evaluations: tuple[dict[str, float], ...]
    steps: int
    tokens: int
    seconds: float
    supervised: int
    best_step: int | None
    micro_batch: int
    accumulation: int
    machine: dict[str, Any]

    @property
    def tokens_per_s(self) -> float:
        """Tokens learnt from in a second, evaluations and checkpoints included."""
        return self.tokens / self.seconds if self.seconds else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self) | {"folder": self.folder.name, "schema_version": SCHEMA_VERSION}
        return plain | {"losses": list(self.losses), "evaluations": list(self.evaluations)}

    @classmethod
    def load(cls, folder: Path) -> Fitted | None:
        """What a finished training left in its folder; None where it is not finished."""
        file = folder / RESULT
        if not file.is_file():
            return None
        plain = json.loads(file.read_text(encoding="utf-8"))
        if plain.pop("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{file} was written by another version of distillcalc. Delete its folder to train anew")
        plain["folder"] = folder / plain["folder"]
        for name in ("losses", "evaluations"):
            plain[name] = tuple(plain[name])
        return cls(**plain)


def fit(
    student: Student,
    examples: Examples,
    folder: str | Path,
    *,
    objective: Objective | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    validation: Examples | None = None,
    teacher: tuple[Any, Any] | None = None,
    targets: Callable[[int], Targets] | None = None,
    validation_targets: Callable[[int], Targets] | None = None,
    on_policy: float = 0.0,
    report: Report | None = None,
    keep_checkpoints: bool = False,
) -> Fitted:
    """Train a causal language model on sequences, and save it.

    Parameters
    ----------
    student : what learns; its weights are changed.
    examples, validation : to learn from; to choose when to stop.
    folder : of this training: checkpoints, then ``student/`` and ``training.json``. A training that was killed goes on
        from its last whole checkpoint; one that is finished is read. ``asked.json`` says what it is of.
    objective, settings : what is minimised, and how.
    teacher : model and tokenizer that read the same batches; needed where the objective asks for its distributions or
        hidden states and ``targets`` does not give them.
    targets, validation_targets : stored soft labels of a sequence by its number.
    on_policy : share of the batches that the student writes itself.
    report : told after each step how far it is.
    keep_checkpoints : leave them when it is done.

    Raises
    ------
    InputError
        If student and teacher, or what is asked for, do not go together, or the folder holds another training.
    TrainingDiverged
        At the first loss or gradient that is no number.
    OutOfMemory
        If not even one sequence fits.
    """
    try:
        import accelerate  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise MissingExtra(str(error.name), "distill") from error

    objective, settings = objective or Objective(), settings or Settings()
    refuse_contradictions(objective, settings, validation, targets, validation_targets, on_policy)
    place = Path(folder)
    claim(place, objective, settings, seed, examples, on_policy)
    done = Fitted.load(place)
    if done is not None:
        return done
    here = devices.machine(settings.precision)
    if here.count > 1:  # they must agree on how a batch is run
        here = replace(here, free_bytes=_least(here.free_bytes))
    per_process = _per_process(settings.batch_size, here.count)
    longest = max(len(s.ids) for part in (examples, validation) if part is not None for s in part.sequences)
    memory = devices.memory_of(
        student.model, precision=here.precision, teacher=teacher[0] if teacher else None,
        checkpointing=settings.gradient_checkpointing,
    )  # fmt: skip
    if settings.micro_batch is not None:
        sequences = max(n for n in range(1, min(settings.micro_batch, per_process) + 1) if per_process % n == 0)
    else:
        sequences = devices.micro_batch(memory, here.free_bytes, longest, per_process, what=student.origin)
    spare = devices.SAFE * here.free_bytes - memory.of(sequences * longest)
    remembered = max(0, int(min(REMEMBERED * here.free_bytes, spare)))
    plan = _Plan(place, objective, settings, seed, here, sequences, per_process, on_policy, remembered)
    trainer = _build(plan, student, examples, validation, teacher, targets, validation_targets, report)
    try:
        seconds = _carry_out(trainer, plan)
    finally:
        trainer.stop_teaching()
    return _keep(trainer, plan, student, examples, seconds, keep_checkpoints)


@dataclass(frozen=True)
class _Plan:
    folder: Path
    objective: Objective
    settings: Settings
    seed: int
    machine: devices.Machine
    micro_batch: int
    per_process: int
    on_policy: float
    remembered: int = 0  # bytes of what a live teacher said

    @property
    def accumulation(self) -> int:
        return self.per_process // self.micro_batch

    def steps(self, examples: Examples) -> int:
        """Optimizer steps of the whole training."""
        sequences = len(examples)
        if self.settings.steps is not None:
            return self.settings.steps
        if self.settings.tokens is not None:
            a_step = self.settings.batch_size * examples.tokens / sequences
            return max(1, round(self.settings.tokens / a_step))
        an_epoch = math.ceil(math.ceil(sequences / self.machine.count / self.micro_batch) / self.accumulation)
        return max(1, round(self.settings.epochs * an_epoch))


def _least(value: int) -> int:
    """The smallest of all processes' values."""
    from accelerate.utils import gather_object

    return int(min(gather_object([value])))


def _per_process(batch_size: int, processes: int) -> int:
    if batch_size % processes:
        raise InputError(f"batch_size must be a multiple of the {processes} processes. Got {batch_size}")
    return batch_size // processes


def _build(
    plan: _Plan, student: Student, examples: Examples, validation: Examples | None, teacher: tuple[Any, Any] | None,
    targets: Callable[[int], Targets] | None, validation_targets: Callable[[int], Targets] | None,
    report: Report | None,
) -> Any:  # fmt: skip
    import torch

    from distillcalc.distill.training.lesson_torch import Lesson, check_head
    from distillcalc.distill.training.live_teacher_torch import LiveTeacher
    from distillcalc.distill.training.pairing import layer_pairs, pair
    from distillcalc.distill.training.trainer_torch import StudentTrainer
    from distillcalc.distill.training.writing_torch import student_writes

    wants = plan.objective
    base = student.model.get_base_model() if hasattr(student.model, "get_base_model") else student.model
    check_head(base)
    lesson = Lesson(wants)
    if max(s.group for s in examples.sequences) > 0:
        lesson.group_weights = (1.0 - wants.rationale, wants.rationale)
    runner, other = None, None
    if wants.needs_teacher and targets is None:
        if teacher is None:
            raise InputError(
                "the objective asks for the teacher's distributions: give its weights, or stored soft labels"
            )
        paired = pair(student, teacher, wants, ids_of(examples, validation))
        lesson.vocabulary, other = paired.vocabulary, paired.other_tokens
        if wants.features or wants.attention:
            lesson.layers = layer_pairs(base, teacher[0], wants.feature_layers, student.kept_layers)
        runner = LiveTeacher(teacher[0].to(torch.device(plan.machine.device)), lesson, plan.remembered)
        check_head(teacher[0])
    if wants.attention:
        for model in (base, teacher[0] if teacher else None):
            if model is not None:
                model.set_attn_implementation("eager")  # the others give no attention
    pad = padding_id(student.tokenizer)
    collator = Collator(pad, wants.soft_on, plan.settings.packing, targets)
    counts = None
    if validation is not None:
        counts = collator_counts(validation, replace(collator, targets=validation_targets))
    return StudentTrainer(
        lesson=lesson, teacher=runner, collator=collator,
        validation_collator=replace(collator, targets=validation_targets) if targets else None,
        writer=student_writes(student.tokenizer, wants, collator) if plan.on_policy else None, on_policy=plan.on_policy,
        other_tokens=other, names=tuple(s.sample for s in examples.sequences), report=report,
        patience=plan.settings.patience,
        validation_counts=counts, teacher_hidden_size=_hidden(teacher[0]) if teacher else None,
        model=student.model, args=_arguments(plan, examples, validation), train_dataset=examples.dataset(),
        eval_dataset=validation.dataset() if validation is not None else None, processing_class=student.tokenizer,
    )  # fmt: skip


def collator_counts(examples: Examples, collator: Collator) -> Any:
    """Supervised, soft and real positions of a whole set, as a batch counts its own."""
    return sum(collator([row])["counts"] for row in examples.dataset())


def _hidden(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)


def _arguments(plan: _Plan, examples: Examples, validation: Examples | None) -> Any:
    from trl import SFTConfig

    wants = plan.settings
    steps = plan.steps(examples)
    told = max(1, steps // MOST_TOLD)

    def often(times: int) -> int:
        """Steps between; a multiple of those between two losses told, so that none spans a checkpoint."""
        return max(told, steps // max(1, times) // told * told)

    evaluates = bool(wants.evaluations and validation is not None)
    every = often(wants.evaluations)
    saves = bool(wants.checkpoints) or wants.patience is not None
    save_every = every if wants.patience is not None else often(wants.checkpoints)
    schedule = "constant_with_warmup" if wants.schedule == "constant" else wants.schedule
    cpu = plan.machine.device == "cpu"
    # transformers 5.23 calls activations what was called gradients before
    recompute = next(n for n in ("activation_checkpointing", "gradient_checkpointing") if hasattr(SFTConfig, n))
    return SFTConfig(
        output_dir=str(plan.folder), per_device_train_batch_size=plan.micro_batch,
        per_device_eval_batch_size=plan.micro_batch, gradient_accumulation_steps=plan.accumulation,
        learning_rate=wants.learning_rate, lr_scheduler_type=schedule, warmup_steps=math.ceil(wants.warmup * steps),
        weight_decay=wants.weight_decay, max_grad_norm=wants.max_grad_norm, max_steps=steps,
        seed=plan.seed, data_seed=plan.seed, logging_steps=told, logging_first_step=True,
        logging_nan_inf_filter=False, eval_strategy="steps" if evaluates else "no",
        eval_steps=every if evaluates else None,
        save_strategy="steps" if saves else "no", save_steps=save_every, save_total_limit=2,
        load_best_model_at_end=wants.patience is not None, metric_for_best_model="eval_loss", greater_is_better=False,
        bf16=plan.machine.precision == "bf16", fp16=False, use_cpu=cpu, dataloader_pin_memory=not cpu,
        report_to="none", disable_tqdm=True, remove_unused_columns=False, label_names=["shift_labels"],
        dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, packing=False,
        average_tokens_across_devices=False, log_level="error", prediction_loss_only=True,
        **{recompute: wants.gradient_checkpointing},
    )  # fmt: skip


def _carry_out(trainer: Any, plan: _Plan) -> float:
    """Train, from the last whole checkpoint where there is one; seconds of all sessions."""
    import torch
    from transformers.trainer_callback import PrinterCallback

    from distillcalc.distill.training.local_teacher import quiet

    trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        checkpoints.clear_broken(plan.folder)
    trainer.accelerator.wait_for_everyone()
    # Of one that was interrupted within a batch accelerate still waits for the rest, and would load no optimizer.
    trainer.accelerator.gradient_state._set_sync_gradients(True)
    last = checkpoints.last_whole(plan.folder)
    before = checkpoints.seconds_before(last)
    trainer.earlier_seconds, trainer.earlier_tokens = before
    began = time.monotonic()
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch.*|transformers.*|trl.*|accelerate.*|peft.*")
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except RuntimeError as error:  # what CPUs raise has no class of its own
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise devices.ran_out(plan.micro_batch) from error
    return before[0] + time.monotonic() - began


def _keep(
    trainer: Any, plan: _Plan, student: Student, examples: Examples, seconds: float, keep_checkpoints: bool
) -> Fitted:  # fmt: skip
    """Save the student and what happened; checkpoints go when both are on disk."""
    from distillcalc.distill.training.local_teacher import quiet

    state = trainer.state
    target = plan.folder / "student"
    told = [dict(entry) for entry in state.log_history]
    best = state.best_model_checkpoint if plan.settings.patience is not None else None  # else the last is kept
    fitted = Fitted(
        folder=target,
        losses=tuple(entry for entry in told if "loss" in entry),
        evaluations=tuple(entry for entry in told if "eval_loss" in entry),
        steps=state.global_step, tokens=trainer.earlier_tokens + trainer.tokens_seen, seconds=seconds,
        supervised=examples.supervised, best_step=int(best.rsplit("-", 1)[-1]) if best else None,
        micro_batch=plan.micro_batch, accumulation=plan.accumulation, machine=plan.machine.to_dict(),
    )  # fmt: skip
    with quiet():
        trainer.save_student(target)
    if state.is_world_process_zero:
        student.tokenizer.save_pretrained(target)
        part = plan.folder / f"{RESULT}.part"
        part.write_text(json.dumps(fitted.to_dict(), indent=1) + "\n", encoding="utf-8")
        part.replace(plan.folder / RESULT)
        if not keep_checkpoints:
            for old in plan.folder.glob("checkpoint-*"):
                shutil.rmtree(old, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return fitted
