"""One training of one classifier: what is minimised, when it stops, and how a killed training goes on.

A pooled encoder's head starts at logistic regression on the encoder's own vectors, and then all weights learn ("linear
probing then fine-tuning", Kumar et al., arXiv:2202.10054): a random head would first pull the pretrained weights about.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training import checkpoints
from distillcalc.distill.training.classifier import Classifier, ClassifierData, new_classifier, pad_of, tokens_of
from distillcalc.distill.training.local_teacher import quiet
from distillcalc.distill.training.progress import Progress
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.distill.training.classifier_torch import ClassifierTrainer, Features, Pooling
    from distillcalc.distill.training.devices import Machine

SCHEMA_VERSION = 1
PLAN, RESULT, STUDENT, CHECKPOINTS = "plan.json", "training.json", "student", "checkpoints"
PENALTY = 1e-4  # of the first head's squared weights, for vectors of length 1
WARMUP = 0.1  # share of the steps over which the learning rate rises
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class ClassifierRun:
    """What a training brought.

    Parameters
    ----------
    classifier : with the weights that were kept. folder : where it was saved; None where it was not.
    losses : by step. evaluations : step, loss and accuracy on the evaluation rows, in order.
    steps, tokens, seconds : over all sessions; padding is not counted.
    best_step : whose weights were kept; the last where nothing was evaluated.
    truncated : texts longer than max_length. left_out : texts without a target.
    precision : "fp32" or "bf16".
    """

    classifier: Classifier
    folder: Path | None
    losses: tuple[float, ...]
    evaluations: tuple[dict[str, float], ...]
    steps: int
    tokens: int
    seconds: float
    best_step: int
    truncated: int
    left_out: int
    precision: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the classifier."""
        left = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("classifier", "folder")}
        return {
            "schema_version": SCHEMA_VERSION,
            **left,
            "losses": list(self.losses),
            "evaluations": [*self.evaluations],
        }


@dataclass(frozen=True)
class _Wants:
    """Settings of a training; what a resumed one must share."""

    start: str
    pooling: str | None
    hard_weight: float
    soft_weight: float
    temperature: float
    epochs: float
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    max_length: int
    seed: int
    eval_every: int | None
    patience: int | None
    probe: bool

    def __post_init__(self) -> None:
        for name, value in (
            ("temperature", self.temperature), ("epochs", self.epochs), ("batch_size", self.batch_size),
            ("learning_rate", self.learning_rate), ("head_learning_rate", self.head_learning_rate),
            ("max_length", self.max_length), ("eval_every", self.eval_every), ("patience", self.patience),
        ):  # fmt: skip
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be above 0. Got {value}")
        for name, value in (("hard_weight", self.hard_weight), ("soft_weight", self.soft_weight)):
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or above. Got {value}")
        if not self.hard_weight and not self.soft_weight:
            raise InputError("hard_weight and soft_weight are both 0: nothing would be learnt. Set one above 0")


def train_classifier(
    start: str | Path,
    data: ClassifierData,
    *,
    evaluation: ClassifierData | None = None,
    hard_weight: float | None = None,
    soft_weight: float | None = None,
    temperature: float = 2.0,
    epochs: float = 3.0,
    batch_size: int = 32,
    learning_rate: float = 5e-5,
    head_learning_rate: float | None = None,
    max_length: int = 128,
    pooling: Pooling | None = None,
    probe: bool = True,
    seed: int = 0,
    eval_every: int | None = None,
    patience: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    folder: str | Path | None = None,
    resume: bool = True,
) -> ClassifierRun:
    """Train a classifier on a teacher's labels; AdamW, linear warm-up and decay, bf16 on a GPU, fp32 on CPU.

    Parameters
    ----------
    start : folder or hub name of an encoder or a small decoder; see :func:`.classifier.new_classifier` and ``pooling``.
    data : texts and targets; those without a target are left out, and counted.
    evaluation : rows of the same labels to choose by: the weights with the highest accuracy are kept, at equal accuracy
        those with the lowest loss. Never the rows that the student is judged by.
    hard_weight, soft_weight, temperature : a, b and T of a CE(y, q) + b T^2 KL(p_T | q_T), see
        :class:`.classifier_torch.Mixture`; y is the likeliest label of soft targets. Left out, 1 and 0 for hard
        targets, 0.5 and 0.5 for soft ones.
    epochs : passes over the data. batch_size : rows of a step.
    learning_rate : of the encoder; head_learning_rate : of a pooled head; left out, 10 times the encoder's.
    max_length : tokens of a text that are read [tokens].
    probe : start a pooled head at logistic regression instead of random weights.
    seed : of head, order and dropout; the same seed gives the same weights on the same machine.
    eval_every : steps between evaluations, and between checkpoints; left out, an epoch.
    patience : evaluations without a gain that end the training; left out, none does.
    progress : told after each step.
    folder : of this training: checkpoints, then ``student/`` and ``training.json``; left out, nothing is kept on disk.
    resume : go on from the last whole checkpoint of the same training, or read it where it is done; False starts anew.

    Raises
    ------
    InputError
        If settings are out of range, labels do not fit, or the folder is another training's.
    TrainingDiverged
        At the first loss that is no number; it names the step and the rows.
    """
    defaults = (0.5, 0.5) if data.is_soft else (1.0, 0.0)
    wants = _Wants(
        str(start), pooling, defaults[0] if hard_weight is None else hard_weight,
        defaults[1] if soft_weight is None else soft_weight, temperature, epochs, batch_size, learning_rate,
        head_learning_rate or 10 * learning_rate, max_length, seed, eval_every, patience, probe,
    )  # fmt: skip
    _refuse_misfits(wants, data, evaluation)
    with ExitStack() as stack:
        if folder is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="classifier-")))
        else:
            place = Path(folder)
            done = _prepare(place, _fingerprint(wants, data, evaluation), resume)
            if done is not None:
                return done
        return _train(wants, data, evaluation, place, folder is not None, progress)


def _refuse_misfits(wants: _Wants, data: ClassifierData, evaluation: ClassifierData | None) -> None:
    for rows in (data, evaluation):
        if rows is not None and wants.soft_weight and not rows.is_soft and rows is data:
            raise InputError("soft_weight needs probabilities as targets, and these are labels. Set it to 0")
    if evaluation is not None and evaluation.labels != data.labels:
        odd = sorted(set(evaluation.labels) ^ set(data.labels))
        what = f"{', '.join(odd[:5])} are in one and not in the other" if odd else "their order differs"
        raise InputError(f"the evaluation rows have the labels of another task: {what}")
    if wants.patience is not None and evaluation is None:
        raise InputError("patience counts evaluations: give evaluation rows, or leave it out")


def _fingerprint(wants: _Wants, data: ClassifierData, evaluation: ClassifierData | None) -> str:
    """Of all that decides which weights a training ends with, but for the machine."""
    found = hashlib.blake2b(json.dumps(asdict(wants), sort_keys=True).encode(), digest_size=16)
    for rows in (data, evaluation):
        found.update(json.dumps([rows.texts, rows.labels] if rows is not None else None).encode())
        if rows is not None:
            found.update(str(rows.targets.dtype).encode() + rows.targets.tobytes())
    return found.hexdigest()


def _prepare(place: Path, fingerprint: str, resume: bool) -> ClassifierRun | None:
    """Make the folder ready; what a finished training left in it."""
    plan = place / PLAN
    if plan.is_file():
        if resume and json.loads(plan.read_text(encoding="utf-8"))["fingerprint"] != fingerprint:
            raise InputError(
                f"{place} holds a training with other data or settings. Give another folder, or resume=False to "
                "replace it"
            )
        if resume and (place / RESULT).is_file():
            plain = json.loads((place / RESULT).read_text(encoding="utf-8"))
            if plain.pop("schema_version") == SCHEMA_VERSION:
                for name in ("losses", "evaluations"):
                    plain[name] = tuple(plain[name])
                return ClassifierRun(classifier=Classifier.load(place / STUDENT), folder=place / STUDENT, **plain)
        if not resume:
            (place / RESULT).unlink(missing_ok=True)
            for old in (CHECKPOINTS, STUDENT):
                shutil.rmtree(place / old, ignore_errors=True)
    elif place.is_dir() and any(found.suffix != ".part" for found in place.iterdir()):
        raise InputError(f"{place} holds other things than a training. Give a folder of its own")
    place.mkdir(parents=True, exist_ok=True)
    part = plan.with_suffix(".part")
    part.write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
    part.replace(plan)
    return None


def _train(
    wants: _Wants, data: ClassifierData, evaluation: ClassifierData | None, place: Path, keep: bool,
    report: Callable[[Progress], None] | None,
) -> ClassifierRun:  # fmt: skip
    from distillcalc.distill.training import devices

    machine = devices.machine()
    classifier = new_classifier(
        wants.start, data.labels, pooling=wants.pooling, max_length=wants.max_length, seed=wants.seed  # type: ignore[arg-type]
    )  # fmt: skip
    features, truncated = _features(classifier, data)
    held = None if evaluation is None else _features(classifier, evaluation)[0]
    steps_an_epoch = math.ceil(len(features) / wants.batch_size)
    steps = max(1, math.ceil(wants.epochs * steps_an_epoch))
    every = wants.eval_every or steps_an_epoch
    pad = pad_of(classifier.tokenizer)
    last = checkpoints.last_whole(place / CHECKPOINTS) if keep else None
    if last is None and wants.probe:
        _probe(classifier, features, wants, pad, machine.device)
    trainer, watcher = _trainer(
        wants, classifier, features, held, steps, every, place / CHECKPOINTS, keep, machine, pad, report
    )
    if last is not None:
        watcher.resume(last)
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch.*|transformers.*|accelerate.*")
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    model, story = trainer.model, trainer.story
    if watcher.best is not None:
        model.load_state_dict(watcher.best)
    model.eval()
    run = ClassifierRun(
        classifier=Classifier(model, classifier.tokenizer, data.labels, wants.max_length, classifier.start),
        folder=place / STUDENT if keep else None, losses=tuple(story.losses), evaluations=tuple(story.evaluations),
        steps=trainer.state.global_step, tokens=story.tokens, seconds=story.seconds,
        best_step=story.best_step or trainer.state.global_step, truncated=truncated,
        left_out=int((~data.present).sum()), precision=machine.precision,
    )  # fmt: skip
    if keep:
        run.classifier.save(place / STUDENT)
        part = place / f"{RESULT}.part"
        part.write_text(json.dumps(run.to_dict(), indent=1) + "\n", encoding="utf-8")
        part.replace(place / RESULT)
        shutil.rmtree(place / CHECKPOINTS, ignore_errors=True)
    return run


def _features(classifier: Classifier, data: ClassifierData) -> tuple[Features, int]:
    """Texts that have a target as tokens, and how many of them were cut."""
    import torch

    from distillcalc.distill.training.classifier_torch import Features

    present = data.present
    texts = [text for text, there in zip(data.texts, present, strict=True) if there]
    ids, truncated = tokens_of(classifier.tokenizer, texts, classifier.max_length)
    soft = torch.tensor(data.targets[present], dtype=torch.float32) if data.is_soft else None
    return Features(ids, torch.tensor(data.hard[present]), soft), truncated


def _probe(classifier: Classifier, features: Features, wants: _Wants, pad: int, device: str) -> None:
    """Start the head of a pooled encoder where its own vectors already lead."""
    import torch
    from torch.nn.functional import one_hot

    from distillcalc.distill.training.classifier_torch import Pooled, over_all, probe

    model = classifier.model
    if not isinstance(model, Pooled):
        return
    model.to(device).eval()
    vectors = over_all(model.embed, features.ids, pad, device)
    hard = one_hot(features.labels, len(classifier.labels)).float()
    share = wants.soft_weight / (wants.hard_weight + wants.soft_weight)
    targets = hard if features.probabilities is None else (1 - share) * hard + share * features.probabilities
    probe(model, vectors, targets, PENALTY)
    torch.manual_seed(wants.seed)


def _trainer(
    wants: _Wants, classifier: Classifier, features: Features, held: Features | None, steps: int, every: int,
    place: Path, keep: bool, machine: Machine, pad: int, report: Callable[[Progress], None] | None,
) -> tuple[ClassifierTrainer, Any]:  # fmt: skip
    import torch
    from transformers import TrainingArguments, get_linear_schedule_with_warmup
    from transformers.trainer_callback import PrinterCallback

    from distillcalc.distill.training.classifier_torch import ClassifierTrainer, Mixture, Story, Watcher

    cpu, bf16 = machine.device == "cpu", machine.precision == "bf16"
    arguments = TrainingArguments(
        output_dir=str(place), per_device_train_batch_size=wants.batch_size, max_steps=steps,
        max_grad_norm=1.0, seed=wants.seed, data_seed=wants.seed, logging_strategy="no", eval_strategy="no",
        save_strategy="steps" if keep else "no", save_steps=every, save_total_limit=2, bf16=bf16, fp16=False,
        use_cpu=cpu, dataloader_pin_memory=not cpu, report_to="none", disable_tqdm=True, remove_unused_columns=False,
        log_level="error",
    )  # fmt: skip
    model = classifier.model.to(machine.device)
    model.train()
    optimizer = torch.optim.AdamW(_groups(model, wants), fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(WARMUP * steps), steps)
    story = Story()
    trainer = ClassifierTrainer(
        mixture=Mixture(wants.hard_weight, wants.soft_weight, wants.temperature), features=features, story=story,
        order_seed=wants.seed, model=model, args=arguments, data_collator=partial(features.collate, pad=pad),
        optimizers=(optimizer, schedule),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    watcher = Watcher(trainer, held, every, wants.patience, pad, bf16, report)
    trainer.add_callback(watcher)
    return trainer, watcher


def _groups(model: Any, wants: _Wants) -> list[dict[str, Any]]:
    """Parameters by learning rate; biases and norms do not decay."""
    heads = ("head.", "model.score.", "model.classifier.")
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith(heads), parameter.dim() > 1), []).append(parameter)
    return [
        {
            "params": parameters, "lr": wants.head_learning_rate if is_head else wants.learning_rate,
            "weight_decay": WEIGHT_DECAY if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]  # fmt: skip
