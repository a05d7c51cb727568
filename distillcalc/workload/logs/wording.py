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


# Where a list has none of these, its contents are all plain texts, for which one pass is enough.
_STRUCTURED = r'^\[\s*"|"(type|parts|tool_calls|text)"\s*:|"content"\s*:\s*[^"\s]'


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
        rf"CASE WHEN NOT regexp_matches({text}, '^\[\s*[{{\"]') OR NOT json_valid({text}) THEN {text} "
        f"WHEN regexp_matches({text}, {quote(_STRUCTURED)}) THEN {_joined(messages)} "
        f"ELSE array_to_string(json_extract_string({text}, '$[*].content'), chr(10)) END"
    )
    # Not nullif(), which computes its argument twice: nested, the query grows beyond planning. Nor [1]: of an empty
    # list DuckDB copies the next text before it says NULL, which takes gigabytes where one of the texts is long.
    return f"list_max(list_filter([{found}], lambda v: v NOT IN ('', {words(_REDACTED)})))"


def _joined(listed: str) -> str:
    """What is not empty in a list of texts, one below the other."""
    return f"array_to_string(list_filter({listed}, lambda v: v <> ''), chr(10))"


def _parsed_once(value: str, keys: tuple[str, ...], found: str) -> str:
    """An expression over ``e``, the list of what an object has under several keys.

    Each function of JSON parses what it is given and holds it, for a chunk of rows: with one a key, long prompts do not
    fit into memory.
    """
    paths = words(f"$.{key}" for key in keys)
    return f"list_max([{found} FOR e IN [CAST(json_extract({value}, [{paths}]) AS VARCHAR[])]])"


def _of_message(m: str) -> str:
    found = (
        f"CASE WHEN starts_with(e[1], '\"') THEN e[1] ->> '$' WHEN starts_with(e[1], '[') THEN {_of_parts('e[1]')} "
        f"WHEN e[1] IS NULL OR e[1] = 'null' THEN {_of_part(m, 'p')} END",
        f"CASE WHEN starts_with(e[2], '[') THEN {_of_parts('e[2]')} END",
        "CASE WHEN starts_with(e[3], '[') "
        "THEN array_to_string(json_extract_string(e[3], '$[*].function.arguments'), chr(10)) END",
    )
    return _parsed_once(m, ("content", "parts", "tool_calls"), _joined(f"[{', '.join(found)}]"))


def _of_parts(parts: str) -> str:
    return _joined(f"[{_of_part('p', 'q')} FOR p IN CAST(json_extract({parts}, '$[*]') AS JSON[])]")


def _of_part(p: str, e: str) -> str:
    """The words of a part of a message, of an item or of a block."""
    keys = ("text", "arguments", "function.arguments", "content", "output", "type", "input", "toolUse.input")
    text = " ".join(f"WHEN starts_with({e}[{i}], '\"') THEN {e}[{i}] ->> '$'" for i in (1, 2, 3))
    found = (
        f"CASE {text} "
        f"WHEN {e}[6] = '\"function_call_output\"' THEN {e}[5] ->> '$' "
        f"WHEN {e}[6] IN ('\"text\"', '\"tool_result\"', '\"reasoning\"') AND starts_with({e}[4], '\"') "
        f"THEN {e}[4] ->> '$' "
        f"WHEN {e}[6] = '\"tool_result\"' THEN array_to_string(json_extract_string({e}[4], '$[*].text'), chr(10)) "
        f"WHEN {e}[6] = '\"tool_use\"' THEN {e}[7] WHEN {e}[6] = '\"tool_call\"' THEN {e}[2] ELSE {e}[8] END"
    )
    inside = _parsed_once(p, keys, found).replace("FOR e IN", f"FOR {e} IN")
    return f"CASE WHEN starts_with(CAST({p} AS VARCHAR), '\"') THEN {p} ->> '$' ELSE {inside} END"
