"""How long one optimizer step of a distillation takes, and how much memory: of shapes of the catalog, random weights.

The loss is the one that students are trained with (:mod:`distillcalc.distill.training.lesson_torch`), in the numbers of
:func:`distillcalc.distill.training.fit.fit`: AdamW over weights in 32 bits, bf16 products on a GPU, the teacher beside
the student in 16. What the student learns means nothing. Neither trl nor datasets nor a tokenizer is needed.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from distillcalc.benchmark.in_process import Device, choose
from distillcalc.benchmark.machine import describe_machine
from distillcalc.benchmark.memory import Memory, PeakMemory, free_bytes, is_out_of_memory, weights_bytes
from distillcalc.benchmark.record import now
from distillcalc.benchmark.training_record import TECHNIQUES, Technique, TrainingStep
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.distill.training.recipe import Objective

LEARNING_RATE = 1e-4


def measure_training_step(
    technique: Technique,
    student: str,
    teacher: str = "",
    *,
    catalog: Catalog | None = None,
    device: Device = "auto",
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    sequences: int = 16,
    prompt_tokens: int = 256,
    answer_tokens: int = 32,
    rationale_tokens: int = 128,
    steps: int = 5,
    warm_up: int = 2,
    name: str = "",
    seed: int = 0,
) -> TrainingStep:
    """Take a few steps of one technique with its usual objective, and time them.

    Parameters
    ----------
    student, teacher : catalog ids. The teacher reads each batch where the technique asks for its distributions or
        hidden states; of the others it has written the texts before.
    catalog : to look them up in; left out, the shipped one.
    device, precision : see :meth:`distillcalc.benchmark.in_process.InProcess.load`.
    sequences : of a step, at most: fewer where no more fit at once.
    prompt_tokens, answer_tokens : of a sequence. Of a chain of thought every second sequence explains instead, in
        rationale_tokens.
    steps, warm_up : that are timed, and before them.
    name : of the record; left out, of technique, student and device.
    seed : of weights and texts.

    Raises
    ------
    InputError
        For a technique that is not known or lacks its teacher, numbers below 1, or models that do not fit.
    OutOfMemory
        If not even one sequence fits.
    TrainingDiverged
        If the loss is no number.
    MissingExtra
        If torch or transformers is not installed.
    """
    if technique not in TECHNIQUES:
        raise InputError(f"technique must be one of {', '.join(TECHNIQUES)}. Got {technique!r}")
    if min(sequences, prompt_tokens, answer_tokens, rationale_tokens, steps) < 1 or warm_up < 0:
        raise InputError("sequences, tokens and steps must be 1 or more, warm_up 0 or more")
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "distill") from error

    from distillcalc.benchmark.shapes import random_model
    from distillcalc.distill.training import devices
    from distillcalc.distill.training.recipe import Objective, technique_defaults
    from distillcalc.distill.training.shapes import count_parameters

    wants = Objective(**technique_defaults(technique))
    if wants.needs_teacher and not teacher:
        raise InputError(f"{technique} reads the teacher beside the student: give its shape")
    chosen = choose(precision, device)
    more: dict[str, Any] = {"catalog": catalog, "seed": seed}
    free = free_bytes(torch.device(chosen.device))
    learns = random_model(student, "fp32", chosen.device, **more).train()
    learns.config.use_cache = False
    teaches = random_model(teacher, chosen.precision, chosen.device, **more) if wants.needs_teacher else None  # type: ignore[arg-type]
    texts = _Texts(technique, prompt_tokens, answer_tokens, rationale_tokens, _vocabulary(learns, teaches), seed)
    memory = devices.memory_of(learns, precision=chosen.precision, teacher=teaches)
    at_once = devices.micro_batch(memory, free, texts.longest, sequences, what=student)
    found = _as_many_as_fit(learns, teaches, wants, texts, at_once, chosen.precision, warm_up + steps)
    beside = weights_bytes(teaches) if teaches is not None and chosen.device == "cpu" else 0  # a GPU counts it itself
    few = f"{found.sequences} sequences at once, for {sequences} do not fit"
    return TrainingStep(
        name=name or f"training-{technique}-{student}-{chosen.device}",
        created=now(),
        technique=technique,
        student=student,
        teacher=teacher if teaches is not None else "",
        parameters=count_parameters(learns),
        teacher_parameters=count_parameters(teaches) if teaches is not None else 0,
        device=chosen.device,
        precision=chosen.precision,
        objective=wants.model_dump(mode="json", exclude_none=True),
        sequences=found.sequences,
        **found.counts,
        seconds=tuple(found.seconds[warm_up:]),
        warm_up=warm_up,
        terms=found.terms,
        peak_bytes=found.memory.peak_bytes + beside,
        peak_how=found.memory.how,
        machine=describe_machine(),
        notes=(few,) if found.sequences < sequences else (),
    )


@dataclass(frozen=True)
class _Taken:
    """Steps that were taken: sequences of each, seconds, terms of the first one's loss, counts, memory."""

    sequences: int
    seconds: list[float]
    terms: dict[str, float]
    counts: dict[str, int]
    memory: Memory


def _as_many_as_fit(
    student: Any, teacher: Any, wants: Objective, texts: _Texts, sequences: int, precision: str, steps: int
) -> _Taken:
    """Take the steps; where memory runs out in spite of the estimate, with half of the sequences."""
    from distillcalc.distill.training import devices

    try:
        with PeakMemory(student) as watched:
            seconds, terms, counts = _steps(student, teacher, wants, texts, sequences, precision, steps)
        assert watched.memory is not None
        return _Taken(sequences, seconds, terms, counts, watched.memory)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if sequences == 1:
            raise devices.ran_out(1) from error
    # Only here, where the error is gone, is what its frames held free again.
    _give_back(student)
    return _as_many_as_fit(student, teacher, wants, texts, sequences // 2, precision, steps)


class _Texts:
    """Batches of random tokens: nothing is learnt of them, and none is like another."""

    def __init__(
        self, technique: Technique, prompt: int, answer: int, rationale: int, vocabulary: int, seed: int
    ) -> None:
        self.explains = technique == "chain-of-thought"
        self.prompt, self.answer, self.rationale, self.vocabulary = prompt, answer, rationale, vocabulary
        self.seed = seed

    @property
    def longest(self) -> int:
        return self.prompt + max(self.answer, self.rationale if self.explains else 0)

    def batches(self, sequences: int, steps: int) -> Iterator[dict[str, Any]]:
        """Of each step its batch, on the host."""
        import torch

        from distillcalc.distill.training.batches import Collator
        from distillcalc.distill.training.examples import EXPLAIN, PREDICT, Sequence_

        drawn = torch.Generator().manual_seed(self.seed)
        collate = Collator(pad=0)
        for _ in range(steps):
            rows = []
            for place in range(sequences):
                explains = self.explains and place % 2 == 1
                length = self.prompt + (self.rationale if explains else self.answer)
                ids = tuple(torch.randint(self.vocabulary, (length,), generator=drawn).tolist())
                one = Sequence_(str(place), ids, self.prompt, EXPLAIN if explains else PREDICT)
                rows.append({"input_ids": one.ids, "labels": one.labels, "group": one.group, "sample": place})
            yield collate(rows)


def _steps(
    student: Any, teacher: Any, wants: Objective, texts: _Texts, sequences: int, precision: str, steps: int
) -> tuple[list[float], dict[str, float], dict[str, int]]:
    """Seconds of each step, terms of the first one's loss, and what its batch counts."""
    import torch

    from distillcalc.distill.training.lesson_torch import Lesson, check_head, teach
    from distillcalc.distill.training.live_teacher_torch import LiveTeacher
    from distillcalc.distill.training.pairing import layer_pairs
    from distillcalc.distill.training.recipe import Settings

    check_head(student)
    lesson = Lesson(wants)
    if texts.explains and sequences > 1:
        lesson.group_weights = (1.0 - wants.rationale, wants.rationale)
    reader = None
    if teacher is not None:
        if _rows(student) != _rows(teacher):
            lesson.vocabulary = texts.vocabulary
        if wants.features:
            lesson.layers = layer_pairs(student, teacher)
        reader = LiveTeacher(teacher, lesson)  # remembers nothing: every step reads anew
    stop = teach(student, lesson, teacher.config.get_text_config().hidden_size if teacher is not None else None)
    device = student.device
    seconds: list[float] = []
    first: dict[str, float] = {}
    counts: dict[str, int] = {}
    try:
        optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
        for batch in texts.batches(sequences, steps):
            _wait(device)
            began = time.perf_counter()
            here = {name: value.to(device) for name, value in batch.items()}
            told = _one_step(student, reader, optimizer, here, precision, Settings().max_grad_norm)
            _wait(device)
            seconds.append(time.perf_counter() - began)
            terms = {name: float(value) for name, value in told.items() if name != "right"}
            _refuse_no_number(len(seconds), terms)
            first = first or terms
            counts = counts or _counts(batch)
    finally:
        stop()
    return seconds, first, counts


def _one_step(
    student: Any, reader: Any, optimizer: Any, batch: Mapping[str, Any], precision: str, norm: float
) -> Mapping[str, Any]:
    """The teacher reads, the student reads, and its weights change; terms of the loss."""
    import torch

    given = {name: batch[name] for name in ("shift_labels", "soft", "real", "group", "counts")}
    given["share"] = torch.tensor(1.0)
    if reader is not None:
        given |= reader.read(batch)
    with torch.autocast(student.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        made = student(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], lesson_inputs=given
        )  # fmt: skip
    made["loss"].backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    told: Mapping[str, Any] = made["told"]
    return told


def _counts(batch: Mapping[str, Any]) -> dict[str, int]:
    from distillcalc.distill.training.batches import ALL, GROUPS

    counts = batch["counts"].tolist()
    return {
        "tokens": counts[ALL], "padding": batch["real"].numel() - counts[ALL], "supervised": sum(counts[:GROUPS]),
    }  # fmt: skip


def _refuse_no_number(step: int, terms: Mapping[str, float]) -> None:
    from distillcalc.distill.training.progress import TrainingDiverged

    if not all(map(math.isfinite, terms.values())):
        raise TrainingDiverged(step, "", ", ".join(f"{name} {value:g}" for name, value in terms.items()))


def _rows(model: Any) -> int:
    from distillcalc.distill.training.pairing import vocabulary_rows

    return vocabulary_rows(model)


def _vocabulary(*models: Any) -> int:
    """Ids that all of them know."""
    return min(_rows(model) for model in models if model is not None)


def _wait(device: Any) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _give_back(student: Any) -> None:
    """Gradients, and what the allocator keeps for later."""
    student.zero_grad(set_to_none=True)
    gc.collect()
    if student.device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
