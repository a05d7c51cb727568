"""What a teacher's message says: the chain of thought apart from the answer, and whether the answer is valid."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from distillcalc.distill.task import Task

_THINK = re.compile(r"^\s*<(think|thinking|reasoning)>(.*?)</\1>\s*", re.DOTALL | re.IGNORECASE)
_OPEN_THINK = re.compile(r"^\s*<(think|thinking|reasoning)>", re.IGNORECASE)
_CLOSE_THINK = re.compile(r"</(think|thinking|reasoning)>\s*", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?```\s*$", re.DOTALL | re.IGNORECASE)
_AROUND = " \t\r\n\"'`*.,;:!“”\u2018’«»。"

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
    reasoning = whole_text(reasoning) if isinstance(reasoning, str) else None
    if isinstance(content, list):  # parts, as some servers send them
        texts = (part.get("text") for part in content if isinstance(part, Mapping))
        content = "".join(text for text in texts if isinstance(text, str))
    if isinstance(content, str):
        content = whole_text(content)
    refusal = message.get("refusal")
    if refusal:
        return Parsed(whole_text(str(refusal)), None, reasoning, ("refused",))
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
        # Not by the place in the lower-cased text: that can be longer than the text.
        marks = list(re.finditer(re.escape(task.answer_marker), content, re.IGNORECASE))
        if not marks:
            return thought, content.strip(), (f"no {task.answer_marker!r} before an answer",)
        visible, content = content[: marks[-1].start()].strip(), content[marks[-1].end() :]
        if visible.endswith("*") and content.startswith("*"):  # **Answer:** as models write it
            visible, content = visible.rstrip("*").strip(), content.lstrip("*")
        thought = "\n".join(part for part in (thought, visible) if part) or None
    answer = content.strip()
    return thought, answer, () if answer else ("empty answer",)


def _value(answer: str, task: Task) -> tuple[Any, str]:
    """The value of an answer, or None and what is wrong."""
    if task.labels is not None:
        exact, loose = _labels(task.labels)
        label = exact.get(answer.strip().casefold()) or loose.get(folded(answer))
        return (label, "") if label is not None else (None, f"not one of the labels: {answer[:SHOWN]!r}")
    if task.output_schema is not None:
        fence = _FENCE.match(answer)
        try:
            value = json.loads(fence[1] if fence else answer, parse_constant=_no_number, parse_float=_finite)
            json.dumps(value, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            return None, f"not JSON: {error.msg} at character {error.pos}"
        except UnicodeEncodeError:
            return None, "not JSON: half of a character (a lone surrogate)"
        except ValueError as error:  # NaN, Infinity, a number of too many digits
            return None, f"not JSON: {str(error)[:SHOWN]}"
        except RecursionError:
            return None, "not JSON: nested too deep"
        try:
            found = next(_validator(json.dumps(task.output_schema, sort_keys=True)).iter_errors(value), None)
        except RecursionError:
            return None, "does not fit the schema: nested too deep to be checked"
        if found is not None:
            where = ".".join(map(str, found.absolute_path)) or "the answer"
            return None, f"does not fit the schema: {where}: {found.message[:SHOWN]}"
        return value, ""
    return None, ""


def folded(text: str) -> str:
    """A label without case, quotes, markup and punctuation around it; spaces, hyphens and underscores are alike."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", text).strip(_AROUND)).casefold().strip()


@lru_cache(maxsize=64)
def _labels(labels: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Labels by their spelling but for case, and by what is left of them folded, where that is of one label alone."""
    keys = [folded(label) for label in labels]
    loose = {key: label for key, label in zip(keys, labels, strict=True) if key and keys.count(key) == 1}
    return {label.strip().casefold(): label for label in labels}, loose


def whole_text(text: str) -> str:
    """A text without halves of characters (lone surrogates), which no file can hold: U+FFFD stands for them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _no_number(number)


@lru_cache(maxsize=16)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema))
