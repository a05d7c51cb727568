"""What an example of a chat fine-tuning file must be: its messages, their roles, contents and calls.

The rules and their names are those of OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning",
and of the format of chat examples in OpenAI's fine-tuning guide (tools, weights, images).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MESSAGE_KEYS = (
    "role", "content", "name", "weight", "refusal", "function_call", "tool_calls", "tool_call_id", "audio",
)  # fmt: skip
EXAMPLE_KEYS = ("messages", "tools", "parallel_tool_calls", "functions")
PARTS = ("text", "image_url", "input_audio", "refusal")

TOKENS_PER_MESSAGE = TOKENS_PER_EXAMPLE = 3  # that the chat format adds


def example_problems(example: Any) -> Iterator[tuple[str, str]]:
    """Why one example would be refused: what is wrong, and the cookbook's name for it where it has one."""
    if not isinstance(example, dict):
        yield f"must be a JSON object. Got {_kind(example)}", "data_type"
        return
    messages = example.get("messages")
    if not isinstance(messages, list) or not messages:
        hint = ""
        if "prompt" in example or "completion" in example:
            hint = ". prompt and completion are the format of models that have no chat"
        elif "preferred_output" in example:
            hint = ". preferred_output is the format of preference tuning"
        yield f"needs a list of messages that is not empty{hint}", "missing_messages_list"
        return
    for place, message in enumerate(messages, 1):
        for what, code in message_problems(message):
            yield f"message {place} {what}", code
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    if "assistant" not in roles:
        yield "has no assistant message to learn from", "example_missing_assistant_message"
    elif roles[-1] != "assistant":
        yield f"must end with the assistant's message. Ends with {_names(roles[-1:])}", "last_not_assistant"


def example_warnings(example: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is likely a mistake in an example that has no problems."""
    if unknown := [key for key in example if key not in EXAMPLE_KEYS]:
        yield f"has {_names(unknown)} beside messages, which OpenAI does not know", "unrecognized_key"
    if all(message.get("weight") == 0 for message in example["messages"] if message["role"] == "assistant"):
        yield "has weight 0 on all assistant messages: nothing is learnt from it", "no_weight"


def message_problems(message: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with one message, each with the cookbook's name for it."""
    if not isinstance(message, dict):
        yield f"must be a JSON object. Got {_kind(message)}", "data_type"
        return
    role, content = message.get("role"), message.get("content")
    calls = bool(message.get("tool_calls") or message.get("function_call"))
    if "role" not in message:
        yield "has no role", "message_missing_key"
    elif role not in ROLES:
        yield f"has the role {_names([role])}; known are {', '.join(ROLES[:-1])}", "unrecognized_role"
    if unknown := [key for key in message if key not in MESSAGE_KEYS]:
        known = ", ".join(MESSAGE_KEYS)
        yield f"has {_names(unknown)}, which no message has; known are {known}", "message_unrecognized_key"
    if calls and role != "assistant":
        yield "calls a tool, which only the assistant does", "tool_calls"
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        yield "is a tool's and needs the tool_call_id of the call that it answers", "message_missing_key"
    if "name" in message and not isinstance(message["name"], str):
        yield f"must have a text as name. Got {_kind(message['name'])}", "data_type"
    if "weight" in message:
        weight = message["weight"]
        if role != "assistant":
            yield "has a weight, which only assistant messages have", "weight"
        if isinstance(weight, bool) or weight not in (0, 1):
            yield f"must have the weight 0 or 1. Got {json.dumps(weight)[:40]}", "weight"
    excused = role == "assistant" and (calls or bool(message.get("refusal")))
    if "content" not in message and not excused:
        yield "has no content", "message_missing_key"
    elif isinstance(content, list):
        yield from _part_problems(role, content)
    elif not isinstance(content, str) and not (content is None and excused):
        yield f"must have a text, or a list of parts, as content. Got {_kind(content)}", "missing_content"
    elif not content and not excused:
        yield "has an empty content", "missing_content"


def _part_problems(role: Any, parts: list[Any]) -> Iterator[tuple[str, str]]:
    if not parts:
        yield "has an empty content", "missing_content"
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in PARTS:
            got = _kind(part) if kind is None else f"the type {_names([kind])}"
            yield f"has a part that is none of {', '.join(PARTS)}. Got {got}", "missing_content"
        elif kind == "text" and not isinstance(part.get("text"), str):
            yield "has a text part without text", "missing_content"
        elif kind in ("image_url", "input_audio") and role != "user":
            yield f"has a part {kind}, which only the user's messages have", "missing_content"


def example_texts(example: Mapping[str, Any]) -> tuple[int, list[str]]:
    """The tokens that the format adds to an example, and its texts: all roles first, then the rest."""
    messages = example["messages"]
    overhead = TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_EXAMPLE + sum("name" in message for message in messages)
    texts = [message["role"] for message in messages]
    for message in messages:
        for key, value in message.items():
            if isinstance(value, str) and key != "role":
                texts.append(value)
            elif key == "content" and isinstance(value, list):
                texts += [part["text"] for part in value if isinstance(part.get("text"), str)]
            elif key in ("tool_calls", "function_call") and value:
                texts.append(json.dumps(value))
    texts += [json.dumps(example[key]) for key in ("tools", "functions") if example.get(key)]
    return overhead, texts


def _names(keys: Sequence[Any]) -> str:
    """A few keys, cut short: they come from the file."""
    return ", ".join(repr(str(key)[:40]) for key in keys[:3]) + (" and others" if len(keys) > 3 else "")


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", dict: "an object", list: "a list", str: "a text"}
    return names.get(type(value), "a number")
