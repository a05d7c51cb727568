"""What is thrown out of the teacher's answers, and why; each filter keeps the order and reports what it took.

Every filter is ``f(records, *, options) -> Filtered``; :func:`apply_filters` runs several. Those that compare inputs
are in :mod:`.duplicates` and :mod:`.decontaminate`, and can be had from here too.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from distillcalc.distill.comparing import said_by, same_answer, vote_of
from distillcalc.distill.decontaminate import decontaminated
from distillcalc.distill.duplicates import exact_duplicates, near_duplicates
from distillcalc.distill.filtered import Filter, Filtered, FilterReport, Removal, Verdict, apply_filters, judged
from distillcalc.distill.records import Record
from distillcalc.distill.refusals import STOPPED, refusal_in
from distillcalc.errors import InputError

__all__ = [
    "Filter",
    "FilterReport",
    "Filtered",
    "Removal",
    "apply_filters",
    "balanced",
    "decontaminated",
    "exact_duplicates",
    "length",
    "near_duplicates",
    "no_refusals",
    "self_consistency",
    "teacher_fails_student_passes",
    "valid",
    "verified_chain",
]

CUT_OFF = frozenset({"length", "max_tokens"})  # finish reasons of servers


def _fault(record: Record) -> str | None:
    if record.problems:
        return "; ".join(record.problems)
    if record.finish_reason.casefold() in CUT_OFF:
        return "cut off at the limit of output tokens"
    if record.finish_reason.casefold() in STOPPED:
        return "stopped by the teacher's content filter"
    return None


def valid(records: Sequence[Record]) -> Filtered:
    """Keep answers that are what was asked for and whole: no problem of label or schema, not cut off, not stopped."""
    return judged("valid", {}, records, map(_fault, records))


def no_refusals(records: Sequence[Record]) -> Filtered:
    """Keep answers that do not refuse: by the teacher's content filter, by its refusal field, or by how they begin.

    How refusals begin in English, German, French and Spanish is in :mod:`.refusals`. A valid label is never one.
    """
    return judged("no_refusals", {}, records, map(refusal_in, records))


def self_consistency(records: Sequence[Record], *, threshold: float = 0.5) -> Filtered:
    """Keep one answer a row: the first that says what most samples of the row say (Wang et al., 2023, 2203.11171).

    Answers are counted by their value where they have one, else by their wording, numbers by their value. A sample
    that is not valid votes for nothing, and is still one of the samples. The report holds each row's agreement: the
    share of its samples that say what most say.

    Parameters
    ----------
    records : several samples a row, with the row's id in common.
    threshold : least agreement, in [0, 1]. Rows in which two answers have equally many votes go in any case.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is a share of a row's samples between 0 and 1. Got {threshold:g}")
    rows: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        rows[record.id].append(i)
    verdicts: list[Verdict] = [None] * len(records)
    agreement: dict[str, float] = {}
    ties = 0
    for row, places in rows.items():
        votes = {i: vote_of(records[i]) for i in places if _fault(records[i]) is None}
        ranked = Counter(votes.values()).most_common()
        agreement[row] = ranked[0][1] / len(places) if ranked else 0.0
        tie = len(ranked) > 1 and ranked[0][1] == ranked[1][1]
        ties += tie
        whole_row = (
            "no valid sample in its row" if not ranked
            else "two answers have equally many votes" if tie
            else f"agreement below {threshold:g}" if agreement[row] < threshold
            else None
        )  # fmt: skip
        chosen = next((i for i in places if not whole_row and votes.get(i) == ranked[0][0]), None)
        for i in places:
            if whole_row:
                verdicts[i] = whole_row
            elif i != chosen and chosen is not None:
                reason = (
                    "not valid" if i not in votes
                    else "says the same as the sample that is kept" if votes[i] == votes[chosen]
                    else "outvoted"
                )  # fmt: skip
                verdicts[i] = (reason, records[chosen].key)
    details = {
        "rows": len(rows),
        "ties": ties,
        "mean_agreement": math.fsum(agreement.values()) / len(rows) if rows else None,
        "agreement": agreement,
    }
    return judged("self_consistency", {"threshold": threshold}, records, verdicts, details)


def verified_chain(
    records: Sequence[Record], *, reference: Callable[[Record], str | None] | None = None, on: bool = True
) -> Filtered:
    """Keep chains of thought that end in the right answer.

    Numbers compare by value, and what stands after "####" or "Answer:" counts (:func:`.comparing.same_answer`). Records
    with no reference are kept and counted as unverified; those without a chain of thought are kept and not judged.

    The report always tells what it does or would do, because it need not help: OpenThoughts (Guha et al., 2025,
    2506.04178) found no significant gain from filtering by answers.

    Parameters
    ----------
    records : any records.
    reference : the right answer to a record, None where it is not known; left out, its human label.
    on : False keeps everything and only reports.
    """
    right_of = reference or (lambda record: record.human_label)
    judgements: list[bool | None] = []
    counts = {"right": 0, "wrong": 0, "unverified": 0, "without_reasoning": 0}
    for record in records:
        wanted = right_of(record) if record.reasoning else None
        judgements.append(None if wanted is None else same_answer(said_by(record), wanted))
        name = (
            "without_reasoning" if not record.reasoning
            else "unverified" if wanted is None
            else "right" if judgements[-1] else "wrong"
        )  # fmt: skip
        counts[name] += 1
    told = counts["right"] + counts["wrong"]
    before = counts["right"] / told if told else None
    details = {
        **counts,
        "would_remove": counts["wrong"],
        "accuracy_before": before,
        "accuracy_after": (1.0 if counts["right"] else None) if on else before,
    }
    verdicts = ("the answer is not the reference's" if on and right is False else None for right in judgements)
    return judged("verified_chain", {"on": on}, records, verdicts, details)


def length(
    records: Sequence[Record],
    *,
    least: int = 1,
    most: int | None = None,
    least_reasoning: int = 0,
    most_reasoning: int | None = None,
    count: Callable[[str], int] = len,
    unit: str = "characters",
) -> Filtered:
    """Keep answers and chains of thought whose length is within bounds.

    Parameters
    ----------
    records : any records.
    least, most : bounds of the answer, both allowed [unit]; None sets none.
    least_reasoning, most_reasoning : of the chain of thought, where there is one [unit].
    count : length of a text. Left out, its characters: they mean the same in scripts that put no spaces between
        words. Give a tokenizer's count for tokens.
    unit : what ``count`` counts, for the report.
    """
    bounds = {"answer": (least, most), "reasoning": (least_reasoning, most_reasoning)}
    for what, (low, high) in bounds.items():
        if high is not None and high < low:
            raise InputError(f"the {what} cannot have at least {low} and at most {high} {unit}")

    def verdict(record: Record) -> str | None:
        for what, text in (("answer", record.answer), ("reasoning", record.reasoning)):
            if text is None:
                continue
            low, high = bounds[what]
            n = count(text)
            if n < low:
                return f"{what} below {low} {unit}"
            if high is not None and n > high:
                return f"{what} above {high} {unit}"
        return None

    settings = {"least": least, "most": most, "least_reasoning": least_reasoning, "most_reasoning": most_reasoning}
    return judged("length", {**settings, "unit": unit}, records, map(verdict, records))


def balanced(
    records: Sequence[Record], *, most_per_class: int | None = None, ratio: float | None = None, seed: int = 0
) -> Filtered:
    """Keep at most so many records of a class, drawn at random.

    The class is the record's label, or its answer where it has none.

    Parameters
    ----------
    records : any records.
    most_per_class : records of a class.
    ratio : records of a class over those of the smallest, at least 1; where both are given, the lower cap holds.
    seed : of the draw.
    """
    if most_per_class is None and ratio is None:
        raise InputError("balanced needs a cap: most_per_class=500, or ratio=3 times the smallest class")
    if most_per_class is not None and most_per_class < 1:
        raise InputError(f"most_per_class is at least 1. Got {most_per_class}")
    if ratio is not None and not ratio >= 1:
        raise InputError(f"ratio is of the smallest class, and at least 1. Got {ratio:g}")
    classes: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        classes[_class_of(record)].append(i)
    caps = [most_per_class] if most_per_class is not None else []
    if ratio is not None and classes:
        caps.append(int(ratio * min(map(len, classes.values()))))
    cap = min(caps, default=0)
    verdicts: list[Verdict] = [None] * len(records)
    for name, places in sorted(classes.items()):
        drawn = random.Random(f"{seed} {name}").sample(places, len(places))
        for i in drawn[cap:]:
            verdicts[i] = f"above {cap} of its class"
    before = {name: len(places) for name, places in sorted(classes.items())}
    after = {name: min(n, cap) for name, n in before.items()}
    settings = {"most_per_class": most_per_class, "ratio": ratio, "seed": seed}
    return judged("balanced", settings, records, verdicts, {"before": before, "after": after})


def _class_of(record: Record) -> str:
    return said_by(record) if record.value is None or isinstance(record.value, str) else vote_of(record)


def teacher_fails_student_passes(
    records: Sequence[Record],
    *,
    student_answers: Mapping[str, str],
    human_labels: Mapping[str, str] | None = None,
    keep: Literal["others", "only"] = "others",
    easy: bool = True,
) -> Filtered:
    """Take out records from which the student would unlearn: the teacher is wrong, and the student already right.

    Parameters
    ----------
    records : any records.
    student_answers : what the student says now, by id of the row.
    human_labels : what is right, by id of the row; left out, each record's own.
    keep : "others" takes such records out; "only" keeps nothing else, to look at them.
    easy : False takes out, with keep="others", also those that the student answers as rightly as the teacher: it has
        little to learn from them.

    Returns
    -------
    Records for which either answer cannot be judged stay with "others" and go with "only". The report counts the four
    cases.
    """
    if keep not in ("others", "only"):
        raise InputError(f"keep is 'others' or 'only'. Got {keep!r}")
    counts = {"both_right": 0, "teacher_only": 0, "student_only": 0, "both_wrong": 0, "not_known": 0}
    names = {(True, True): "both_right", (True, False): "teacher_only", (False, True): "student_only"}

    def case(record: Record) -> str:
        wanted = record.human_label if human_labels is None else human_labels.get(record.id)
        student = student_answers.get(record.id)
        if wanted is None or student is None:
            return "not_known"
        teacher_right = not record.problems and same_answer(said_by(record), wanted)
        return names.get((teacher_right, same_answer(student, wanted)), "both_wrong")

    reasons = {"student_only": "the teacher is wrong and the student right"}
    if not easy:
        reasons["both_right"] = "too easy: the student agrees with a right teacher"
    if keep == "only":
        reasons = {
            "both_right": "both are right",
            "teacher_only": "the teacher alone is right",
            "both_wrong": "both are wrong",
            "not_known": "no label or no answer of the student's",
        }
    verdicts: list[Verdict] = []
    for record in records:
        found = case(record)
        counts[found] += 1
        verdicts.append(reasons.get(found))
    settings: dict[str, Any] = {"keep": keep, "easy": easy}
    return judged("teacher_fails_student_passes", settings, records, verdicts, {"cases": counts})
