"""What is asked of the teacher: prompt, system prompt, examples, and what an answer must be.

A task says nothing of who is asked (:mod:`.teacher`) and of which rows (:mod:`.rows`).
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from distillcalc.distill.records import Strict
from distillcalc.errors import InputError, MissingExtra, near_matches
from distillcalc.workload.scenario import Use

Messages = tuple[dict[str, str], ...]

ANSWER_MARKER = "Answer:"


class Example(Strict):
    """One worked example in the prompt: the fields of an input, and the answer to it."""

    input: dict[str, Any]
    answer: str | dict[str, Any]
    reasoning: str | None = None


class Task(Strict):
    """What is asked, and what an answer must be.

    Parameters
    ----------
    name : of the task, and of its runs.
    prompt : text of the user's message; ``{column}`` stands for a field of the input row, ``{{`` for a brace.
    system : text of the system message; left out, there is none.
    examples : worked examples, each a user's message and the assistant's.
    labels : the answers that there are, for a classification.
    output_schema : JSON schema of an answer (``[task.output_schema]``), for structured output.
    reasoning : "none"; "visible" asks for a chain of thought before ``answer_marker`` and the answer. What a server
        sends as ``reasoning_content`` or in a ``<think>`` block is kept apart from the answer in either case.
    answer_marker : what stands before the answer where reasoning is visible.
    instruction : whether the labels, or the schema, are added to the system message.
    student : catalog id of the model that will be trained; its use is checked against the teacher's terms.
    student_host : provider that trains and serves it, where that is a service (a hosted fine-tune).
    use : what the student will be used for.
    """

    name: str = Field("task", pattern=r"^[\w][\w .-]{0,99}$")
    prompt: str = Field("{text}", min_length=1)
    system: str = ""
    examples: tuple[Example, ...] = ()
    labels: tuple[str, ...] | None = Field(None, min_length=2)
    output_schema: dict[str, Any] | None = None
    reasoning: Literal["none", "visible"] = "none"
    answer_marker: str = Field(ANSWER_MARKER, pattern=r"\S")
    instruction: bool = True
    student: str = ""
    student_host: str | None = None
    use: Use = Use()

    @field_validator("prompt")
    @classmethod
    def _template(cls, prompt: str) -> str:
        template_fields(prompt)
        return prompt

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None:
            kinds = [label.strip().casefold() for label in labels]
            if "" in kinds:
                raise ValueError("a label must not be empty")
            if len(set(kinds)) < len(kinds):
                twice = sorted({label for label in labels if kinds.count(label.strip().casefold()) > 1})
                raise ValueError(f"labels must differ by more than case and spaces. Got {', '.join(twice)}")
        return labels

    @field_validator("output_schema")
    @classmethod
    def _schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            try:
                from jsonschema import Draft202012Validator
                from jsonschema.exceptions import SchemaError
            except ImportError as error:
                raise MissingExtra("jsonschema", "distill") from error

            try:
                Draft202012Validator.check_schema(schema)
            except SchemaError as error:
                raise ValueError(f"output_schema is not a JSON schema: {error.message}") from error
            refuse_unwritable(schema, "output_schema")
            _refuse_loose_ends(schema)
            _refuse_bad_patterns(schema)
        return schema

    @model_validator(mode="after")
    def _one_kind_of_answer(self) -> Task:
        if self.labels is not None and self.output_schema is not None:
            raise ValueError("give labels or output_schema, not both: put the labels into the schema as an enum")
        for number, example in enumerate(self.examples, 1):
            if not isinstance(example.answer, str):
                refuse_unwritable(example.answer, f"the answer of example {number}")
            missing = [name for name in self.fields if name not in example.input]
            if missing:
                raise ValueError(f"example {number} has no {', '.join(missing)}, which the prompt uses")
            if self.labels is not None and example.answer not in self.labels:
                raise ValueError(f"the answer of example {number} must be one of the labels. Got {example.answer!r}")
        return self

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of an input that the prompt uses, in its order."""
        return template_fields(self.prompt)

    @property
    def kind(self) -> Literal["label", "json", "text"]:
        """What an answer is: one of the labels, a JSON value, or text."""
        return "label" if self.labels is not None else "json" if self.output_schema is not None else "text"

    @cached_property
    def head(self) -> Messages:
        """The messages before the input's own: system and examples; the same for every row."""
        system = "\n\n".join(part for part in (self.system, self._instruction()) if part)
        head = [{"role": "system", "content": system}] if system else []
        for example in self.examples:
            answer = example.answer if isinstance(example.answer, str) else _json(example.answer)
            if self.reasoning == "visible":
                answer = f"{example.reasoning or ''}\n{self.answer_marker} {answer}".strip()
            head += [
                {"role": "user", "content": self.render(example.input)},
                {"role": "assistant", "content": answer},
            ]
        return tuple(head)

    def _instruction(self) -> str:
        if not self.instruction:
            return ""
        parts = []
        if self.labels is not None:
            parts.append("The answer is one of these labels, spelt exactly so: " + ", ".join(self.labels))
        if self.output_schema is not None:
            parts.append("The answer is JSON that fits this schema: " + _json(self.output_schema))
        if self.reasoning == "visible":
            parts.append(f'Think step by step first. Then write "{self.answer_marker}" and the answer alone.')
        elif self.labels is not None:
            parts.append("Write the label alone.")
        return "\n".join(parts)

    def render(self, row: Mapping[str, Any]) -> str:
        """The user's message for one input; raises :class:`InputError` where it lacks a field."""
        try:
            return _FORMATTER.vformat(self.prompt, (), row)
        except KeyError as error:
            raise InputError(_no_field(str(error.args[0]), row)) from error

    def messages(self, row: Mapping[str, Any]) -> Messages:
        """The whole prompt for one input: system, examples, and the row."""
        return (*self.head, {"role": "user", "content": self.render(row)})


def _json(value: Any) -> str:
    """JSON as a person writes it: ä is ä, not six characters that cost more tokens and are imitated."""
    return json.dumps(value, ensure_ascii=False)


def refuse_unwritable(value: Any, what: str) -> None:
    """Raise ValueError where a value is none of JSON's, such as a date of TOML, or inf."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be plain JSON: {error}. Write a date as text") from error


def _refuse_loose_ends(schema: dict[str, Any]) -> None:
    """References are followed inside the schema and nowhere else; one that leads nowhere would cost every answer."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    uri = str(schema.get("$id", ""))
    resolver = Registry().with_resource(uri, DRAFT202012.create_resource(schema)).resolver(uri)
    waiting: list[Any] = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            reference = found.get("$ref")
            if isinstance(reference, str):
                try:
                    resolver.lookup(reference)
                except Unresolvable as error:
                    raise ValueError(
                        f"output_schema refers to {reference!r}, which is not inside it. References look like "
                        "'#/$defs/name'"
                    ) from error
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _refuse_bad_patterns(found: Any) -> None:
    """Patterns must be regular expressions: one that is none would fail at the first answer, after it was paid."""
    if isinstance(found, dict):
        pattern = found.get("pattern")
        if isinstance(pattern, str):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"output_schema has the pattern {pattern!r}, which is none: {error}") from error
        for inner in found.values():
            _refuse_bad_patterns(inner)
    elif isinstance(found, list):
        for inner in found:
            _refuse_bad_patterns(inner)


def _no_field(name: str, row: Mapping[str, Any]) -> str:
    near = near_matches(name, row)
    hint = f" Did you mean {{{near[0]}}}?" if near else ""
    return f"the prompt uses {{{name}}}, and the input has {', '.join(map(str, row)) or 'no fields'}.{hint}"


class _Plain(string.Formatter):
    """Fields by their names alone: no attributes, no indices, no conversions that could reach into objects."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> Any:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


_FORMATTER = _Plain()


def template_fields(prompt: str) -> tuple[str, ...]:
    """The names of the fields in a prompt template, in order; raises ValueError where it is not one."""
    try:
        parts = list(string.Formatter().parse(prompt))
    except ValueError as error:
        raise ValueError(f"the prompt is not a template: {error}. Write {{{{ and }}}} for braces") from error
    names: dict[str, None] = {}
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not name or spec or conversion:
            written = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"the prompt names fields as {{column}}. Got {{{written}}}; write {{{{ for a brace")
        names[name] = None
    if not names:
        raise ValueError("the prompt must use at least one field of the input, such as {text}: all would be alike")
    return tuple(names)
