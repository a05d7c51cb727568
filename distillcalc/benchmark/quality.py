"""How good a target's answers are on items that people labelled, and how they compare with its teacher's.

What was said is read as the task reads a teacher's answers, and judged by
:mod:`distillcalc.distill.training.scores`; a request that failed is an answer that is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from distillcalc.benchmark.hearing import Floats, Metric, hear, items_of, metrics_of, teacher_of
from distillcalc.benchmark.judged import Judged, Pair
from distillcalc.benchmark.load import ClosedLoop, Prompt, Target
from distillcalc.benchmark.macro_f1 import macro_f1_interval
from distillcalc.benchmark.traces import OK
from distillcalc.calibration_measures import Interval
from distillcalc.distill.records import Record
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training.evaluation import Items
from distillcalc.distill.training.scores import (
    Answers,
    ClassScore,
    Difference,
    Score,
    exact_match,
    paired_difference,
    score,
)
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.benchmark.judge import Judge

CONCURRENCY = 8
MOST_OUTPUT_TOKENS = 256
_KEEPS_NONE = "{} keeps no texts, so that nothing can be judged. Set keep_texts=True"


@dataclass(frozen=True)
class Figure:
    """A measured share, and its 95% interval; None where it has no upper end."""

    value: float
    interval: Interval | None

    def __str__(self) -> str:
        ends = "" if self.interval is None else " ({:.3f} to {:.3f})".format(*self.interval)
        return f"{self.value:.3f}{ends}"

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "low": low, "high": high}


@dataclass(frozen=True, eq=False)
class Quality:
    """How good a target's answers are. Intervals are 95%.

    Parameters
    ----------
    metric : by which it is compared with the teacher, and which ``answers`` hold.
    items : evaluation items, all of them counted.
    figures : by name, in [0, 1]: "accuracy", the share of answers that are right and as the task wants them;
        "macro_f1" of a classification, the mean over the classes that people used; "exact_match", the share whose final
        answer says what people said, in whatever form; "rouge_l" of texts; "agreement", the share of items with the
        teacher's answer, right or wrong; "retention", the metric / the teacher's on the same items.
    per_class : of a classification.
    teacher : the metric of the teacher's answers; None without them.
    against_teacher : how much better the target is than its teacher; below 0 it is worse.
    judged : what a judge prefers, target (a) against teacher (b); None where none was asked.
    failed : requests that were not answered, by outcome.
    unusable : answers that the task cannot take, by what is wrong with them.
    at_limit : answers that have as many tokens as they may, and may have been cut.
    rejected : rows that are no evaluation items.
    answers : what was said, and the metric of each item.
    notes : what a reader must know, in words.
    """

    metric: Metric
    items: int
    figures: Mapping[str, Figure]
    per_class: Mapping[str, ClassScore]
    teacher: Figure | None
    against_teacher: Difference | None
    judged: Judged | None
    failed: Mapping[str, int]
    unusable: Mapping[str, int]
    at_limit: int
    rejected: int
    answers: Answers = field(repr=False)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as a record holds them; the answers themselves left out."""
        return {
            "metric": self.metric,
            "items": self.items,
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "per_class": {name: vars(one) for name, one in self.per_class.items()},
            "teacher": self.teacher.to_dict() if self.teacher else None,
            "against_teacher": self.against_teacher.to_dict() if self.against_teacher else None,
            "judge": self.judged.to_dict() if self.judged else None,
            "failed": dict(self.failed),
            "unusable": dict(self.unusable),
            "at_limit": self.at_limit,
            "rejected": self.rejected,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"{self.items:,} items"]
        lines += [f"{name.replace('_', ' ')} {figure}" for name, figure in self.figures.items()]
        if self.against_teacher is not None:
            lines.append(f"{self.metric.replace('_', ' ')} against the teacher's: {self.against_teacher}")
        if self.judged is not None:
            lines += str(self.judged).splitlines()
        return "\n".join([*lines, *self.notes])


def measure_quality(
    target: Target,
    task: Task,
    items: Items | Rows | Sequence[Record],
    teacher_answers: Answers | Sequence[str] | None = None,
    metric: Metric = "accuracy",
    judge: Judge | None = None,
    *,
    human: Sequence[Pair] = (),
    prompts: Sequence[Sequence[Mapping[str, str]]] | None = None,
    marked: bool = False,
    max_output_tokens: int = MOST_OUTPUT_TOKENS,
    concurrency: int = CONCURRENCY,
    timeout_s: float = 120.0,
    seed: int = 0,
) -> Quality:
    """Ask a target about every evaluation item and judge what it writes.

    Parameters
    ----------
    target : a model in process, or an endpoint; it must keep what it writes.
    task : what is asked, and what an answer must be.
    items : the evaluation items, with what people said: rows, or records that have a ``human_label``.
    teacher_answers : to the same items in their order, as they were written, or as
        :func:`distillcalc.distill.training.evaluation.answers_in` reads them (of texts it keeps the final answer alone,
        by which ROUGE-L then goes).
    metric : what is compared with the teacher.
    judge : asked which answer is better, the target's or the teacher's.
    human : pairs that people judged, for the judge's agreement with them.
    prompts : what is asked instead of the task's own prompt, one for each item (a student is asked for less).
    marked : an answer must stand behind the task's marker where the task asks for visible reasoning; a student that was
        taught the answer alone does not write it.
    max_output_tokens : of an answer, thoughts included.
    concurrency : requests in flight.
    timeout_s : a request that brings nothing for so long is given up, and wrong [s].
    seed : of the bootstraps.

    Returns
    -------
    Quality
        Of shares Wilson's intervals, of ROUGE-L a bootstrap's, see :func:`.scores.score`; of macro F1 see
        :func:`.macro_f1.macro_f1_interval`; of the difference to the teacher see :func:`.scores.paired_difference`.

    Raises
    ------
    InputError
        If no item is labelled, the teacher's answers or the prompts are not one for each item, a judge has nothing to
        compare with, the metric does not fit the task, or the target keeps no texts.
    """
    made = items_of(items, task)
    _check(task, len(made), teacher_answers, metric, judge, prompts=prompts)
    if getattr(target, "keep_texts", True) is False:
        raise InputError(_KEEPS_NONE.format(target.name))
    asked = prompts if prompts is not None else [task.messages(record.input) for record in made.records]
    traces = target.run(
        [_prompt(messages, max_output_tokens) for messages in asked], ClosedLoop(concurrency), timeout_s=timeout_s
    )
    if not traces.texts:
        raise InputError(_KEEPS_NONE.format(target.name))
    return quality_of(
        traces.texts, task, made, teacher_answers, metric, judge, human=human, marked=marked, seed=seed,
        outcomes=traces.outcome, at_limit=int((traces.ok & (traces.output_tokens >= max_output_tokens)).sum()),
    )  # fmt: skip


def quality_of(
    texts: Sequence[str],
    task: Task,
    items: Items | Rows | Sequence[Record],
    teacher_answers: Answers | Sequence[str] | None = None,
    metric: Metric = "accuracy",
    judge: Judge | None = None,
    *,
    human: Sequence[Pair] = (),
    outcomes: Sequence[str] | None = None,
    at_limit: int = 0,
    marked: bool = False,
    seed: int = 0,
) -> Quality:
    """The same of answers that are there already, such as a classifier's.

    Parameters
    ----------
    texts : what was written about each item.
    outcomes : what became of each request, "ok" or why it failed; left out, all were answered.
    at_limit : answers that may have been cut.
    task, items, teacher_answers, metric, judge, human, marked, seed : see :func:`measure_quality`.

    Raises
    ------
    InputError
        As :func:`measure_quality`, or for not one text for each item.
    """
    made = items_of(items, task)
    n = len(made)
    outcomes = (OK,) * n if outcomes is None else outcomes
    _check(task, n, teacher_answers, metric, judge, texts=texts, outcomes=outcomes)
    ours = hear(texts, outcomes, made.records, task, marked)
    values = metrics_of(ours, made.labels, task, metric)
    figures, per_class = _figures(ours.said, values, made.labels, task, seed)
    answers = Answers(ours.said, values[metric])
    teacher = teacher_of(teacher_answers, made, task, metric)
    theirs: Figure | None = None
    judged: Judged | None = None
    if teacher is not None:
        theirs = _share(score(teacher, seed=seed))
        figures |= _beside(answers, teacher, seed)
        if judge is not None:
            asked_of = [_request(task, record) for record in made.records]
            judged = judge.compare(list(map(Pair, asked_of, ours.said, teacher.said)), human=human)
    failed = Counter(one for one in outcomes if one != OK)
    unusable = Counter(one.split(":", 1)[0] for one in ours.problems if one)
    return Quality(
        metric=metric,
        items=n,
        figures=figures,
        per_class=per_class,
        teacher=theirs,
        against_teacher=paired_difference(answers, teacher, seed=seed) if teacher is not None else None,
        judged=judged,
        failed=dict(failed.most_common()),
        unusable=dict(unusable.most_common()),
        at_limit=at_limit,
        rejected=len(made.rejected),
        answers=answers,
        notes=_notes(n, failed, unusable, at_limit, made),
    )


def _share(found: Score) -> Figure:
    return Figure(found.accuracy, found.accuracy_interval)


def _figures(
    said: tuple[str, ...], values: Mapping[str, Floats], labels: Sequence[str], task: Task, seed: int
) -> tuple[dict[str, Figure], Mapping[str, ClassScore]]:
    """Each metric with its interval, and of a classification each class."""
    figures = {name: _share(score(Answers(said, right), seed=seed)) for name, right in values.items()}
    if task.kind != "label":
        return figures, {}
    found = score(Answers(said, values["accuracy"]), labels=labels, seed=seed)
    assert found.macro_f1 is not None
    figures["macro_f1"] = Figure(found.macro_f1, macro_f1_interval(said, labels, seed=seed))
    return figures, found.per_class


def _beside(answers: Answers, teacher: Answers, seed: int) -> dict[str, Figure]:
    """Agreement with the teacher, of which two silences are none, and what is kept of its quality."""
    spoke = [bool(one and other) for one, other in zip(answers.said, teacher.said, strict=True)]
    same = Answers(answers.said, exact_match(answers.said, teacher.said) * spoke)
    figures = {"agreement": _share(score(same, seed=seed))}
    both = score(answers, teacher=teacher, seed=seed)
    if both.retention is not None:
        figures["retention"] = Figure(both.retention, both.retention_interval)
    return figures


def _check(
    task: Task, n: int, teacher: Answers | Sequence[str] | None, metric: str, judge: Judge | None,
    **given: Sequence[Any] | None,
) -> None:  # fmt: skip
    """Before anything is asked, and paid for."""
    if metric not in get_args(Metric):
        raise InputError(f"metric must be one of {', '.join(get_args(Metric))}. Got {metric!r}")
    if metric == "rouge_l" and task.kind == "json":
        raise InputError("ROUGE-L compares texts, and the task's answers are JSON. Use accuracy")
    for what, one in {"teacher_answers": teacher, **given}.items():
        if one is not None and len(one) != n:
            raise InputError(f"{what} must be one for each of {n:,} items. Got {len(one):,}")
    if judge is not None and teacher is None:
        raise InputError("a judge compares with the teacher's answers: give teacher_answers")


def _prompt(messages: Sequence[Mapping[str, str]], most: int) -> Prompt:
    text = "\n\n".join(message["content"] for message in messages)
    return Prompt(text, 0, most, whole=False, messages=tuple(messages))


def _request(task: Task, record: Record) -> str:
    """What was asked, without the worked examples."""
    return "\n\n".join(part for part in (task.system, task.render(record.input)) if part)


def _notes(n: int, failed: Counter[str], unusable: Counter[str], at_limit: int, items: Items) -> tuple[str, ...]:
    notes = []
    if failed:
        told = ", ".join(f"{count:,} x {outcome}" for outcome, count in failed.most_common())
        notes.append(f"{failed.total():,} of {n:,} requests failed and count as wrong: {told}")
    if unusable:
        told = ", ".join(f"{count:,} x {problem}" for problem, count in unusable.most_common(3))
        notes.append(f"{unusable.total():,} of {n:,} answers are not what the task asks for and count as wrong: {told}")
    if at_limit:
        notes.append(f"{at_limit:,} of {n:,} answers have as many tokens as they may: they may have been cut")
    if items.rejected:
        notes.append(f"rows that are no evaluation items: {len(items.rejected):,}; the first: {items.rejected[0]}")
    return tuple(notes)
