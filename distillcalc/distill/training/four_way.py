"""Teacher, raw student, student of labels alone and distilled student, on the same items: how good, how big, how dear.

The numbers come from :mod:`.scores`; every view (text, rich, HTML, Markdown) shows the same rows and sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from distillcalc.distill.records import Strict
from distillcalc.distill.training.scores import Answers, Difference, Score, paired_difference, score
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SCHEMA_VERSION = 1
WIDTH = 110  # columns of the plain text
UNKNOWN = "-"
ALL_OF_ITSELF = "100%"  # what a teacher keeps of itself and agrees with itself: nothing that was measured
WRAPS = {"model": 24, "training": 24}  # columns whose cells may go on in the next line, and their greatest widths
DROPPED_WHEN_NARROW = (
    "tokens/s", "Brier", "macro F1", "size", "labels", "agreement", "seeds", "training", "ECE", "1,000 items",
    "parameters", "retention (95%)",
)  # fmt: skip
Role = Literal["teacher", "raw", "label-only", "distilled", "other"]
ROLES: dict[str, Role] = {
    "teacher": "teacher",
    "raw student": "raw",
    "label-only student": "label-only",
    "distilled student": "distilled",
}


class Facts(Strict):
    """What a model takes, besides its answers; what is not measured or known is None.

    Parameters
    ----------
    parameters : of the model. bytes : of its weights as they are served.
    latency_ms_per_item : median [ms]. tokens_per_s : written while answering.
    labels_usd, training_usd : paid once [USD]. training_hours : of ``training_on``, such as "CPU" or "1 x H100".
    usd_per_1000_items : of answering [USD].
    note : a sentence below the table.
    """

    parameters: int | None = Field(None, ge=1)
    bytes: int | None = Field(None, ge=1)
    latency_ms_per_item: float | None = Field(None, ge=0)
    tokens_per_s: float | None = Field(None, ge=0)
    labels_usd: float | None = Field(None, ge=0)
    training_usd: float | None = Field(None, ge=0)
    training_hours: float | None = Field(None, ge=0)
    training_on: str = ""
    usd_per_1000_items: float | None = Field(None, ge=0)
    note: str = ""


class Entry(Strict):
    """One model's row: its name, what it is here, how good its answers are and what it takes."""

    name: str = Field(min_length=1)
    role: Role
    score: Score
    facts: Facts = Facts()


class Comparison(Strict):
    """How much better one model of the table is than another (:func:`.scores.paired_difference`)."""

    name: str
    against: str
    difference: Difference


@dataclass(frozen=True)
class Measured:
    """A model that answered the evaluation items.

    Parameters
    ----------
    name : "teacher", "raw student", "label-only student", "distilled student", or any other.
    answers : its answers, one for each seed.
    role : what it is; left out, the name says.
    facts : what it takes; a latency that is not given is the median of the answers' ``seconds_per_item``.
    """

    name: str
    answers: Answers | Sequence[Answers]
    role: Role | None = None
    facts: Facts = field(default_factory=Facts)

    @property
    def runs(self) -> list[Answers]:
        """Its answers, seed by seed."""
        return [self.answers] if isinstance(self.answers, Answers) else list(self.answers)

    @property
    def is_a(self) -> Role:
        """The role, given or by its name."""
        return self.role or ROLES.get(self.name, "other")


class FourWay(Strict):
    """The table, with the comparisons that its sentences tell.

    Parameters
    ----------
    entries : the rows, in their order.
    comparisons : of what was distilled with what was not.
    task : what was asked. metric : what ``accuracy`` is here.
    """

    schema_version: int = SCHEMA_VERSION
    task: str = ""
    metric: str = "accuracy"
    entries: tuple[Entry, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = ()

    def entry(self, role: Role) -> Entry | None:
        """The first row of a role; None where there is none."""
        return next((entry for entry in self.entries if entry.role == role), None)

    @property
    def headline(self) -> str:
        """One line: what was asked, and how many items people labelled."""
        task = f"{one_line(self.task)}: " if self.task else ""
        items = self.entries[0].score.items
        return f"{task}{one_line(self.metric)} on {items:,} human-labelled item{'s' if items > 1 else ''}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the numbers say: whether distilling gained anything, and what of the teacher is kept at what size."""
        return tuple(sentence for entry in self.entries if entry.role == "distilled" for sentence in self._told(entry))

    def comparison(self, name: str, against: str) -> Difference | None:
        """How much better one row is than another; None where they were not compared."""
        found = (c.difference for c in self.comparisons if (c.name, c.against) == (name, against))
        return next(found, None)

    def _told(self, entry: Entry) -> Iterator[str]:
        for role in ("label-only", "raw"):
            other = self.entry(role)
            difference = self.comparison(entry.name, other.name) if other is not None else None
            if other is None or difference is None:
                if role == "label-only":
                    yield f"No student of labels alone is here, so what {_the(entry.name)} gained is not known."
            elif role == "label-only" or not difference.beats:
                yield _verdict(entry.name, other.name, difference)
        yield _kept(entry, self.entry("teacher"), one_line(self.metric))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump(mode="json")

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; raises :class:`InputError` where the file cannot be written."""
        file = Path(path)
        try:
            file.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the table to {file}: {error.strerror}") from error
        return file

    @classmethod
    def load(cls, path: str | Path) -> FourWay:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If there is no such file, it is not such a table, or another version wrote it.
        """
        import json

        file = Path(path)
        try:
            plain = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the table {file}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{file} is not JSON: {error}") from error
        version = plain.get("schema_version") if isinstance(plain, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{file} has schema_version {version!r}; this distillcalc reads {SCHEMA_VERSION}. "
                "Read it with the release that wrote it, or a newer one"
            )
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{file} is no four-way table. {'.'.join(map(str, first['loc']))}: {first['msg']}"
            ) from error

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        Console(file=text, width=WIDTH, color_system=None, legacy_windows=False, force_terminal=False).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Two tables, and the sentences below them; a narrow terminal gets fewer columns, not broken ones."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        yield Text(self.headline, style="bold")
        for columns, rows in _tables(self):
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
            kept = _that_fit(columns, rows, options.max_width)
            for i in kept:
                wraps = WRAPS.get(columns[i])
                justify: Literal["left", "right"] = "right" if i else "left"
                table.add_column(
                    Text(columns[i]), justify=justify, no_wrap=wraps is None, overflow="fold", max_width=wraps
                )
            for entry, row in zip(self.entries, rows, strict=True):
                table.add_row(*(Text(row[i]) for i in kept), style="bold" if entry.role == "distilled" else "")
            yield table
        yield from map(Text, _below(self))

    def _repr_html_(self) -> str:
        """A fragment of HTML; everything from outside is escaped."""

        def line(tag: str, cells: Sequence[str]) -> str:
            # A name goes on in the next line, so that a page's column of 880 px shows the whole table.
            styles = ("min-width:9em;text-align:left", "white-space:nowrap;text-align:right")
            return "".join(
                f"<{tag} style='padding:2px 8px;{styles[i > 0]}'>{escape(c)}</{tag}>" for i, c in enumerate(cells)
            )

        tables = []
        for columns, rows in _tables(self):
            body = "".join(
                f"<tr style='font-weight:{'bold' if entry.role == 'distilled' else 'normal'}'>{line('td', row)}</tr>"
                for entry, row in zip(self.entries, rows, strict=True)
            )
            tables.append(
                f"<table style='font-size:inherit'><thead><tr>{line('th', columns)}</tr></thead>"
                f"<tbody>{body}</tbody></table>"
            )
        below = "".join(f"<li>{escape(sentence)}</li>" for sentence in _below(self))
        return (
            "<div class='distillcalc-four-way mathjax_ignore tex2jax_ignore'>"
            f"<p><b>{escape(self.headline)}</b></p>{''.join(tables)}"
            f"<ul>{below}</ul></div>"
        )

    def to_markdown(self) -> str:
        """Tables and a list in Markdown; no text of others becomes markup."""
        from distillcalc.distill.card_markdown import plain

        parts = [f"**{plain(self.headline)}**"]
        for columns, rows in _tables(self):
            lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
            cells = [[plain(cell) for cell in line] for line in (columns, *rows)]
            parts.append("\n".join("| " + " | ".join(line) + " |" for line in (cells[0], lines[1], *cells[1:])))
        return "\n\n".join([*parts, "\n".join(f"- {plain(sentence)}" for sentence in _below(self))])


def four_way(
    models: Iterable[Measured],
    *,
    labels: Sequence[str] | None = None,
    task: str = "",
    metric: str = "accuracy",
    seed: int = 0,
) -> FourWay:
    """Judge models on the same items and compare what was distilled with what was not.

    Parameters
    ----------
    models : in the order of the rows; at most one teacher, one raw and one label-only student.
    labels : what people said, shape (items,), where answers are classes.
    task, metric : names of what was asked, and of what ``right`` is.
    seed : of the bootstraps.

    Raises
    ------
    InputError
        If there are no models, two of a name or of a role of which there is one, or they answered unlike items.
    """
    given = list(models)
    _refuse_doubles(given)
    by_role = {model.is_a: model for model in given if model.is_a not in ("distilled", "other")}
    teacher = by_role.get("teacher")
    if teacher is not None and len(teacher.runs) != 1:
        raise InputError(f"a teacher has one list of answers. Got {len(teacher.runs)}")
    if len({len(run) for model in given for run in model.runs}) > 1:
        lengths = ", ".join(f"{model.name} {len(model.runs[0])}" for model in given if model.runs)
        raise InputError(f"the models must answer the same items. Got these numbers of answers: {lengths}")
    entries = []
    for model in given:
        beside = teacher.runs[0] if teacher is not None and model is not teacher else None
        found = score(model.runs, labels=labels, teacher=beside, seed=seed)
        entries.append(Entry(name=model.name, role=model.is_a, score=found, facts=_with_latency(model)))
    comparisons = [
        Comparison(
            name=model.name,
            against=by_role[role].name,
            difference=paired_difference(model.runs, by_role[role].runs, seed=seed),
        )
        for model in given
        if model.is_a in ("distilled", "other")
        for role in ("label-only", "raw", "teacher")
        if role in by_role
    ]
    return FourWay(task=task, metric=metric, entries=tuple(entries), comparisons=tuple(comparisons))


def _refuse_doubles(models: list[Measured]) -> None:
    if not models:
        raise InputError("there are no models to compare. Give at least one")
    for what, names in (
        ("models called", [model.name for model in models]),
        ("models with the role", [model.is_a for model in models if model.is_a not in ("distilled", "other")]),
    ):
        double = next((name for name in names if list(names).count(name) > 1), None)
        if double is not None:
            raise InputError(f"there are two {what} {double!r}. Give each a name, or a role, of its own")


def _with_latency(model: Measured) -> Facts:
    seconds = [run.seconds_per_item for run in model.runs if run.seconds_per_item is not None]
    if model.facts.latency_ms_per_item is not None or not seconds:
        return model.facts
    return model.facts.model_copy(update={"latency_ms_per_item": 1000 * float(np.median(np.concatenate(seconds)))})


def one_line(text: str) -> str:
    """A text of others without line breaks and without characters that steer a terminal or turn the writing round."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _the(name: str) -> str:
    return f"the {name}" if name in ROLES else one_line(name)


def _verdict(name: str, against: str, difference: Difference) -> str:
    one_seed = " One seed each: others may turn out otherwise." if difference.seeds == 1 else ""
    if not (difference.beats or difference.is_beaten):
        return f"No difference between {_the(name)} and {_the(against)} can be told: {difference}.{one_seed}"
    word = "better" if difference.beats else "worse"
    return _sentence(f"{_the(name)} is {word} than {_the(against)}: {difference}.{one_seed}")


def _kept(entry: Entry, teacher: Entry | None, metric: str) -> str:
    """What a student keeps of its teacher, at what share of its size and time."""
    if teacher is None:
        return f"There is no teacher here, so what {_the(entry.name)} keeps of it is not known."
    kept, interval = entry.score.retention, entry.score.retention_interval
    if kept is None:
        return "The teacher is right about none of these items, so there is nothing to keep."
    how_sure = f" (95% interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}%)" if interval is not None else ""
    ours, theirs = entry.facts, teacher.facts
    sizes = [
        (ours.parameters, theirs.parameters, "parameters"),
        (ours.bytes, theirs.bytes, "bytes"),
    ]
    known = [f"{_share(a / b)} of its {what}" for a, b, what in sizes if a is not None and b is not None][:1]
    unknown = [] if known else ["their sizes"]
    if ours.latency_ms_per_item is not None and theirs.latency_ms_per_item:
        known.append(f"{_share(ours.latency_ms_per_item / theirs.latency_ms_per_item)} of its time per item")
    else:
        unknown.append("their times per item")
    at = f", at {' and '.join(known)}" if known else ""
    but = f"; {' and '.join(unknown)} were not both measured" if unknown else ""
    return _sentence(f"{_the(entry.name)} keeps {100 * kept:.1f}% of the teacher's {metric}{how_sure}{at}{but}.")


def _sentence(text: str) -> str:
    return "The" + text[3:] if text.startswith("the ") else text


def _share(ratio: float) -> str:
    percent = 100 * ratio
    return f"{percent:,.0f}%" if percent >= 9.95 else f"{percent:.2g}%"


def _below(table: FourWay) -> list[str]:
    """The sentences, the notes, and what a dash means where there is one."""
    lines = list(table.sentences)
    lines += [f"{one_line(e.name)}: {one_line(e.facts.note)}" for e in table.entries if e.facts.note.strip()]
    if any(cell == UNKNOWN for _, rows in _tables(table) for row in rows for cell in row):
        lines.append(f"{UNKNOWN}: not measured, or not known")
    return lines


def _tables(table: FourWay) -> list[tuple[list[str], list[list[str]]]]:
    """Columns and rows in words: how good they are, then what they take. A column that no row fills is left out."""
    metric = one_line(table.metric)
    good = [f"{metric} (95%)", "retention (95%)", "agreement", "macro F1", "ECE", "Brier", "seeds"]
    takes = ["parameters", "size", "per item", "tokens/s", "labels", "training", "1,000 items"]
    return [
        _filled(["model", *columns], [[one_line(e.name), *cells(e)] for e in table.entries])
        for columns, cells in ((good, _how_good), (takes, _what_it_takes))
    ]


def _filled(columns: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    always = ("model", "ECE", "per item", "parameters", "1,000 items")  # what everybody looks for is shown as unknown
    nothing = (UNKNOWN, ALL_OF_ITSELF)
    kept = [i for i, name in enumerate(columns) if name in always or any(row[i] not in nothing for row in rows)]
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _that_fit(columns: list[str], rows: list[list[str]], width: int) -> list[int]:
    """The columns that a terminal of some width shows whole."""
    from rich.cells import cell_len

    needed = [
        min(max(map(cell_len, (name, *(row[i] for row in rows)))), WRAPS.get(name, WIDTH))
        for i, name in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    for name in DROPPED_WHEN_NARROW:
        if name in columns and sum(needed[i] + 3 for i in kept) > width:
            kept.remove(columns.index(name))
    return kept


def _how_good(entry: Entry) -> list[str]:
    s = entry.score
    own = ALL_OF_ITSELF if entry.role == "teacher" else None
    return [
        _percent(s.accuracy, s.accuracy_interval),
        own if own and s.accuracy else _percent(s.retention, s.retention_interval),
        own or _percent(s.agreement),
        _number(s.macro_f1),
        _number(s.ece),
        _number(s.brier),
        str(s.seeds),
    ]


def _what_it_takes(entry: Entry) -> list[str]:
    from distillcalc.decide.words import seconds, usd

    f = entry.facts
    hours = f"{_hours(f.training_hours)}{f' {one_line(f.training_on)}' if f.training_on else ''}"
    training = [usd(f.training_usd)] if f.training_usd is not None else []
    training += [hours] if f.training_hours is not None else []
    return [
        _short(f.parameters),
        f"{_short(f.bytes)}B" if f.bytes is not None else UNKNOWN,
        seconds(f.latency_ms_per_item / 1000) if f.latency_ms_per_item is not None else UNKNOWN,
        f"{f.tokens_per_s:,.3g}" if f.tokens_per_s is not None else UNKNOWN,
        usd(f.labels_usd) if f.labels_usd is not None else UNKNOWN,
        ", ".join(training) or UNKNOWN,
        usd(f.usd_per_1000_items) if f.usd_per_1000_items is not None else UNKNOWN,
    ]


def _percent(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return UNKNOWN
    ends = f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval is not None else ""
    return f"{100 * value:.1f}%{ends}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return UNKNOWN
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.2g} min"


def _short(count: int | None) -> str:
    """A count to three digits: 950, 22.7M, 135M, 1.7B; of bytes 22.7 M."""
    if count is None:
        return UNKNOWN
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {letter}"
    return f"{count} "
