"""What a teacher's message says: the chain of thought apart from the answer, and whether the answer is valid."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from distillcalc.distill.task import Task

_THINK = re.compile(r"^\s*<(think|thinking|reasoning)>(.*?)</\1>\s*", re.DOTALL | re.IGNORECASE)
_OPEN_THINK = re.compile(r"^\s*<(think|thinking|reasoning)>", re.IGNORECASE)
_CLOSE_THINK = re.compile(r"</(think|thinking|reasoning)>\s*", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?```\s*$", re.DOTALL | re.IGNORECASE)
_HALVES = re.compile("[\ud800-\udfff]")
_AROUND = " \t\r\n\"'`*.,;:!"

SHOWN = 60  # characters of a wrong answer in its problem


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer, its value as the task understands it, the chain of thought, and what is wrong."""

    answer: str
    value: Any
    reasoning: str | None
    problems: tuple[str, ...]


def parse(message: Mapping[str, Any], finish_reason: str, task: Task) -> Parsed:
    """Read one choice of a chat completion.

    Parameters
    ----------
    message : as the server sent it; ``reasoning_content`` (DeepSeek, vLLM) or ``reasoning`` (OpenRouter) is the chain
        of thought, as is a ``<think>`` block at the start of the content.
    finish_reason : why it ended there.
    """
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    reasoning = reasoning if isinstance(reasoning, str) else None
    if isinstance(content, list):  # parts, as some servers send them
        content = "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
    reasoning = whole(reasoning) if reasoning else None
    content = whole(content) if isinstance(content, str) else content
    refusal = message.get("refusal")
    if refusal:
        return Parsed(whole(str(refusal)), None, reasoning, ("refused",))
    if finish_reason == "content_filter":
        return Parsed(str(content or ""), None, reasoning, ("stopped by a content filter",))
    if not isinstance(content, str) or not content.strip():
        cut = " (it ran out of tokens)" if finish_reason == "length" else ""
        return Parsed("", None, reasoning, (f"empty answer{cut}",))
    thought, answer, problems = _without_thoughts(content, task)
    reasoning = "\n".join(part for part in (reasoning, thought) if part) or None
    if problems:
        return Parsed(answer, None, reasoning, problems)
    if finish_reason == "length":
        return Parsed(answer, None, reasoning, ("cut off at the most tokens",))
    value, problem = _value(answer, task)
    if task.kind == "label" and value is not None:
        answer = value
    return Parsed(answer, value, reasoning, (problem,) if problem else ())


def _without_thoughts(content: str, task: Task) -> tuple[str | None, str, tuple[str, ...]]:
    thought: str | None = None
    if (block := _THINK.match(content)) is not None:
        thought, content = block[2].strip(), content[block.end() :]
    elif _OPEN_THINK.match(content):
        return content, "", ("the chain of thought was not finished",)
    elif (close := _CLOSE_THINK.search(content)) is not None:  # templates that open the block in the prompt
        thought, content = content[: close.start()].strip(), content[close.end() :]
    if task.reasoning == "visible":
        at = content.lower().rfind(task.answer_marker.lower())
        if at < 0:
            return thought, content.strip(), (f"no {task.answer_marker!r} before an answer",)
        visible = content[:at].strip()
        thought = "\n".join(part for part in (thought, visible) if part) or None
        content = content[at + len(task.answer_marker) :]
    answer = content.strip()
    return thought, answer, () if answer else ("empty answer",)


def _value(answer: str, task: Task) -> tuple[Any, str]:
    """The value of an answer, or None and what is wrong."""
    if task.labels is not None:
        label = _labels(task.labels).get(folded(answer))
        return (label, "") if label is not None else (None, f"not one of the labels: {answer[:SHOWN]!r}")
    if task.output_schema is not None:
        fence = _FENCE.match(answer)
        try:
            value = json.loads(fence[1] if fence else answer, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            return None, f"not JSON: {error.msg} at character {error.pos}"
        except (ValueError, RecursionError) as error:
            return None, f"not JSON: {error}"
        found = next(_validator(json.dumps(task.output_schema, sort_keys=True)).iter_errors(value), None)
        if found is not None:
            where = ".".join(map(str, found.absolute_path)) or "the answer"
            return None, f"does not fit the schema: {where}: {found.message[:SHOWN]}"
        return value, ""
    return None, ""


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def whole(text: str) -> str:
    """A text without halves of surrogate pairs, which no file can hold; each becomes U+FFFD."""
    return _HALVES.sub("\ufffd", text)


def folded(text: str) -> str:
    """A label without case, quotes, markup and punctuation around it; spaces, hyphens and underscores are alike."""
    return re.sub(r"[\s_-]+", " ", text.strip(_AROUND)).casefold().strip()


@lru_cache(maxsize=64)
def _labels(labels: tuple[str, ...]) -> dict[str, str]:
    return {folded(label): label for label in labels}


@lru_cache(maxsize=16)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema))
