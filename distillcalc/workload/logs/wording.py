"""The SQL that takes the words out of prompts and answers, however they are wrapped.

Known are the messages of chats (OpenAI, Anthropic, Bedrock Converse, OpenTelemetry) with their parts, the items of
OpenAI's responses, lists of blocks, and calls of tools, whose arguments are words too. What is no text, such as an
image, has none.
"""

from __future__ import annotations

from collections.abc import Iterable

_NO_TEXT = ("{}", "[]", "null", '""')  # what stands in a log that was told to keep no texts
_REDACTED = ("redacted-by-litellm", "REDACTED_BY_LITELM", "REDACTED_BY_LITELLM")

# Parts that are no text, as OpenAI, Anthropic, Bedrock and OpenTelemetry name them.
MEDIA = (
    r'"type"\s*:\s*"(image_url|input_image|image|image_file|input_audio|audio|input_file|file|document|video|blob|uri)"'
    r'|"(image|document|video)"\s*:\s*\{\s*"(format|source|name)"'
)


def quote(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def words(listed: Iterable[str]) -> str:
    """Strings as the inside of an SQL list."""
    return ", ".join(quote(word) for word in listed)


def raw_text(sql: str, nested: str) -> str:
    """A prompt or an answer as it stands in the log, NULL where a log that keeps none says so.

    Parameters
    ----------
    nested : an expression for whether an object stands there rather than a text that looks like one. Of an object the
        messages are taken, or itself as one; NULL if it is neither
    """
    content = " OR ".join(
        f"json_type({sql}, '$.{key}') {kinds}"
        for key, kinds in (("content", "IN ('VARCHAR', 'ARRAY')"), ("parts", "= 'ARRAY'"), ("tool_calls", "= 'ARRAY'"))
    )
    return (
        f"CAST(CASE WHEN {sql} IN ('', {words(_NO_TEXT)}) THEN NULL WHEN NOT starts_with({sql}, '{{') THEN {sql} "
        f"WHEN NOT json_valid({sql}) THEN {sql} "
        f"WHEN json_type({sql}, '$.messages') = 'ARRAY' THEN {sql} ->> '$.messages' "
        f"WHEN ({nested} OR json_exists({sql}, '$.role')) AND ({content}) THEN '[' || {sql} || ']' "
        f"WHEN {nested} THEN NULL ELSE {sql} END AS VARCHAR)"
    )


def readable(text: str) -> str:
    """The words of a prompt: of a list of messages their contents, one below the other; other text as it is.

    NULL where all that is left of them is that they were taken out.
    """
    messages = f"[{_of_message('m')} FOR m IN CAST(json_extract({text}, '$[*]') AS JSON[])]"
    found = (
        f"CASE WHEN starts_with({text}, '[') AND json_valid({text}) "
        f"AND json_type({text}, '$[0]') IN ('OBJECT', 'VARCHAR') "
        f"THEN {_joined(messages)} ELSE {text} END"
    )
    # Not nullif(), which computes its argument twice: nested, the query grows beyond planning.
    return f"list_filter([{found}], lambda v: v NOT IN ('', {words(_REDACTED)}))[1]"


def _joined(listed: str) -> str:
    """What is not empty in a list of texts, one below the other."""
    return f"array_to_string(list_filter({listed}, lambda v: v <> ''), chr(10))"


def _of_message(m: str) -> str:
    found = (
        f"CASE json_type({m}, '$.content') WHEN 'VARCHAR' THEN {m} ->> '$.content' "
        f"WHEN 'ARRAY' THEN {_of_parts(m, 'content')} END",
        f"CASE WHEN json_type({m}, '$.parts') = 'ARRAY' THEN {_of_parts(m, 'parts')} END",
        f"array_to_string(json_extract_string({m}, '$.tool_calls[*].function.arguments'), chr(10))",
        f"CASE WHEN coalesce(json_type({m}, '$.content'), 'NULL') = 'NULL' THEN {_of_part(m)} END",
    )
    return _joined(f"[{', '.join(found)}]")


def _of_parts(m: str, key: str) -> str:
    return _joined(f"[{_of_part('p')} FOR p IN json_extract({m}, '$.{key}[*]')]")


def _of_part(p: str) -> str:
    """The words of a part of a message, of an item or of a block."""

    def text(*keys: str) -> str:
        return " ".join(f"WHEN json_type({p}, '$.{key}') = 'VARCHAR' THEN {p} ->> '$.{key}'" for key in keys)

    kind = f"{p} ->> '$.type'"
    return (
        f"CASE WHEN json_type({p}) = 'VARCHAR' THEN {p} ->> '$' {text('text', 'arguments', 'function.arguments')} "
        f"WHEN {kind} = 'function_call_output' THEN {p} ->> '$.output' "
        f"WHEN {kind} IN ('text', 'tool_result', 'reasoning') AND json_type({p}, '$.content') = 'VARCHAR' "
        f"THEN {p} ->> '$.content' "
        f"WHEN {kind} = 'tool_result' THEN array_to_string(json_extract_string({p}, '$.content[*].text'), chr(10)) "
        f"WHEN {kind} = 'tool_use' THEN {p} ->> '$.input' "
        f"WHEN {kind} = 'tool_call' THEN {p} ->> '$.arguments' "
        f"WHEN json_exists({p}, '$.toolUse') THEN {p} ->> '$.toolUse.input' END"
    )
