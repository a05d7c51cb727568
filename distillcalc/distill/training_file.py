"""Whether a chat fine-tuning file would be taken, and what training on it would be billed.

The rules are those of OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning" (its error names,
its token count and its default epochs), and of the limits in OpenAI's fine-tuning guide and file reference.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from distillcalc.distill.training_example import example_problems, example_texts, example_warnings
from distillcalc.errors import InputError

Count = Callable[[Sequence[str]], list[int]]

LARGEST_FILE = 512_000_000  # bytes that the file upload takes
LONGEST_LINE = 1_000_000  # bytes; 65,536 tokens of English are about 260,000
TARGET_EPOCHS, LEAST_EXAMPLES, MOST_EXAMPLES, MOST_EPOCHS = 3, 100, 25_000, 25
_UNREAD = object()
BATCH = 256  # examples whose tokens are counted at once


class Problem(NamedTuple):
    """What is wrong in a line (0: in the file as a whole); ``code`` is the cookbook's name where it has one."""

    line: int
    what: str
    code: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}" if self.line else self.what


@dataclass(frozen=True)
class TrainingFileReport:
    """What a check of a training file found.

    Parameters
    ----------
    path : of the file.
    rows : examples, also those with problems.
    problems : why the file would be refused, the first of them; ``problem_count`` all of them, ``by_code`` by kind.
    warnings : what is taken but is likely a mistake, the first of them; ``warning_count`` all of them.
    tokens : of all sound examples; ``per_example`` their mean, p50, p95 and max.
    truncated : examples longer than ``max_tokens_per_example``; what is beyond is cut off and not billed.
    epochs : passes over the file.
    billed_tokens : sum of min(limit, tokens), times the epochs.
    tokens_are_estimated : counted as bytes / 4, since no counter was given.
    """

    path: str
    rows: int
    problems: tuple[Problem, ...]
    problem_count: int
    by_code: dict[str, int]
    warnings: tuple[Problem, ...]
    warning_count: int
    tokens: int
    per_example: dict[str, float]
    truncated: int
    max_tokens_per_example: int
    epochs: int
    billed_tokens: int
    tokens_are_estimated: bool

    @property
    def ok(self) -> bool:
        """Whether nothing was found that the file would be refused for."""
        return self.problem_count == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.__dict__,
            "ok": self.ok,
            "problems": [problem._asdict() for problem in self.problems],
            "warnings": [warning._asdict() for warning in self.warnings],
            "by_code": dict(self.by_code),
            "per_example": dict(self.per_example),
        }

    def __str__(self) -> str:
        about = "about " if self.tokens_are_estimated else ""
        head = "ok" if self.ok else f"{self.problem_count:,} problem{'s' * (self.problem_count != 1)}"
        lines = [f"{self.path}: {head}; {self.rows:,} examples, {about}{self.tokens:,} tokens"]
        if self.per_example:
            each = ", ".join(f"{name} {value:,.0f}" for name, value in self.per_example.items())
            lines.append(f"tokens of an example: {each}; {self.truncated:,} above {self.max_tokens_per_example:,}")
            lines.append(
                f"billed: {about}{self.billed_tokens:,} tokens in {self.epochs} epoch{'s' * (self.epochs != 1)}"
            )
        if self.tokens_are_estimated:
            lines.append("tokens are estimated as bytes / 4: give count_tokens for a count")
        for title, listed, total in (
            ("problem", self.problems, self.problem_count),
            ("warning", self.warnings, self.warning_count),
        ):
            lines += [f"{title}: {found}" for found in listed]
            if total > len(listed):
                lines.append(f"and {total - len(listed):,} more {title}s")
        return "\n".join(lines)


def check_training_file(
    path: str | Path,
    *,
    count_tokens: Count | None = None,
    max_tokens_per_example: int = 65_536,
    minimum_rows: int = 10,
    epochs: int | None = None,
    listed: int = 20,
) -> TrainingFileReport:
    """Check a chat fine-tuning file, line by line, without holding it.

    Parameters
    ----------
    path : a JSONL file, one ``{"messages": [...]}`` a line.
    count_tokens : counts the tokens of texts, such as the counters of :mod:`distillcalc.workload.logs.tokens`; left
        out, tokens are estimated as bytes / 4 and the report says so.
    max_tokens_per_example : the training context [tokens]; 65,536 for gpt-4o and gpt-4.1.
    minimum_rows : fewer examples are refused.
    epochs : passes, as the job will be told; left out, OpenAI's default: 3, more below 100 examples in all (at most
        25), fewer above 25,000.
    listed : how many problems, and warnings, the report holds; the rest are counted.

    Returns
    -------
    TrainingFileReport

    Raises
    ------
    InputError
        If there is no such file, or an option cannot be right.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no training file {str(file)!r}. export(dataset, path, 'openai') writes one")
    if max_tokens_per_example < 1 or listed < 0 or (epochs is not None and epochs < 1):
        raise InputError(
            f"max_tokens_per_example and epochs must be 1 or more and listed 0 or more. Got {max_tokens_per_example}, "
            f"{epochs} and {listed}"
        )
    notes, tokens = _Notes(listed), _Tokens(count_tokens)
    size = file.stat().st_size
    if size > LARGEST_FILE:
        notes.problem(0, f"the file is {size:,} bytes; at most {LARGEST_FILE:,} are taken. Split it", "file_size")
    rows = 0
    with file.open("rb") as opened:
        for number, example, is_row in _examples(opened, notes):
            rows += is_row
            if example is not _UNREAD and notes.example(number, example):
                tokens.add(example)
    if rows < minimum_rows and "array" not in notes.codes:
        notes.problem(0, f"{rows} examples; at least {minimum_rows} are needed", "too_few_examples")
    each = tokens.finish()
    passes = epochs or default_epochs(rows)
    return TrainingFileReport(
        path=str(file),
        rows=rows,
        problems=tuple(notes.problems),
        problem_count=notes.codes.total(),
        by_code=dict(notes.codes.most_common()),
        warnings=tuple(notes.warnings),
        warning_count=notes.warning_count,
        tokens=sum(each),
        per_example=_distribution(each),
        truncated=sum(n > max_tokens_per_example for n in each),
        max_tokens_per_example=max_tokens_per_example,
        epochs=passes,
        billed_tokens=sum(min(n, max_tokens_per_example) for n in each) * passes,
        tokens_are_estimated=count_tokens is None,
    )


def default_epochs(examples: int) -> int:
    """Passes that OpenAI makes over a file of so many examples where none are asked for (the cookbook's rule)."""
    if examples < 1:
        return TARGET_EPOCHS
    if examples * TARGET_EPOCHS < LEAST_EXAMPLES:
        return min(MOST_EPOCHS, LEAST_EXAMPLES // examples)
    if examples * TARGET_EPOCHS > MOST_EXAMPLES:
        return max(1, MOST_EXAMPLES // examples)
    return TARGET_EPOCHS


class _Notes:
    """Problems and warnings, the first few kept and all counted."""

    def __init__(self, listed: int) -> None:
        self.listed = listed
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.codes: Counter[str] = Counter()
        self.warning_count = 0

    def problem(self, line: int, what: str, code: str) -> None:
        self.codes[code] += 1
        if len(self.problems) < self.listed:
            self.problems.append(Problem(line, what, code))

    def warning(self, line: int, what: str, code: str) -> None:
        self.warning_count += 1
        if len(self.warnings) < self.listed:
            self.warnings.append(Problem(line, what, code))

    def example(self, line: int, example: Any) -> bool:
        """Note what is wrong with one example; True where nothing is."""
        before = self.codes.total()
        for what, code in example_problems(example):
            self.problem(line, what, code)
        if self.codes.total() > before:
            return False
        for what, code in example_warnings(example):
            self.warning(line, what, code)
        return True


class _Tokens:
    """Tokens by example, counted in batches: four bytes are held for each."""

    def __init__(self, count: Count | None) -> None:
        self.count = count
        self.each = array("I")
        self.waiting: list[tuple[int, list[str]]] = []

    def add(self, example: Mapping[str, Any]) -> None:
        overhead, texts = example_texts(example)
        if self.count is None:
            roles = len(example["messages"])  # a token each
            estimate = sum(-(-len(text.encode("utf-8", "replace")) // 4) for text in texts[roles:])
            self.each.append(overhead + roles + estimate)
            return
        self.waiting.append((overhead, texts))
        if len(self.waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        if self.count is None or not self.waiting:
            return
        counts = iter(self.count([text for _, texts in self.waiting for text in texts]))
        self.each.extend(overhead + sum(next(counts) for _ in texts) for overhead, texts in self.waiting)
        self.waiting.clear()

    def finish(self) -> array[int]:
        self.flush()
        return self.each


def _distribution(each: array[int]) -> dict[str, float]:
    if not each:
        return {}
    ordered = sorted(each)
    rank = {name: ordered[-(-len(ordered) * share // 100) - 1] for name, share in (("p50", 50), ("p95", 95))}
    return {"mean": sum(ordered) / len(ordered), **rank, "max": ordered[-1]}


def _examples(opened: BinaryIO, notes: _Notes) -> Iterator[tuple[int, Any, bool]]:
    """Line number, parsed value (_UNREAD where there is none) and whether the line is an example."""
    seen: set[bytes] = set()
    number = returns = 0
    while line := opened.readline(LONGEST_LINE + 2):
        number += 1
        if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            size = len(line)
            while (more := opened.readline(LONGEST_LINE)) and not more.endswith(b"\n"):
                size += len(more)
            if number == 1 and line.lstrip()[:1] == b"[":
                yield _array(notes)
                return
            what = f"{size + len(more):,} bytes; a line longer than {LONGEST_LINE:,} is more than any training context"
            notes.problem(number, what, "line_too_long")
            yield number, _UNREAD, True
            continue
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            notes.problem(1, "starts with a byte order mark (BOM). Save the file as UTF-8 without one", "bom")
            line = line[3:]
        if line.endswith(b"\r\n"):
            returns += 1
            if returns == 1:
                what = "ends in CR LF, as Windows writes lines; it is taken, but \\n alone is meant"
                notes.warning(number, what, "crlf")
        if not line.strip():
            notes.problem(number, "is blank. Remove it", "blank_line")
            yield number, _UNREAD, False
            continue
        if number == 1 and line.lstrip()[:1] == b"[":
            yield _array(notes)
            return
        digest = hashlib.blake2b(line.strip(), digest_size=8).digest()
        if digest in seen:
            notes.warning(number, "is the same as an earlier line", "duplicate")
        seen.add(digest)
        yield number, _parsed(number, line, notes), True


def _array(notes: _Notes) -> tuple[int, Any, bool]:
    what = "the file is a JSON array. Write one object a line, without brackets and commas around them"
    notes.problem(1, what, "array")
    return 1, _UNREAD, False


def _parsed(number: int, line: bytes, notes: _Notes) -> Any:
    try:
        return json.loads(line.decode("utf-8").rstrip(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        notes.problem(number, f"is not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}", "not_utf8")
    except RecursionError:
        notes.problem(number, "is nested too deep to be an example", "invalid_json")
    except ValueError as error:
        text = line.decode("utf-8").rstrip()
        if not isinstance(error, json.JSONDecodeError):
            what = f"is not JSON: {error}"
        elif text.endswith(",") and error.pos >= len(text) - 1:
            what = "ends in a comma. Each line is a JSON object by itself, with nothing after it"
        else:
            what = f"is not JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}"
        notes.problem(number, what, "invalid_json")
    return _UNREAD


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")
