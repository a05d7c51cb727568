"""Which columns or JSON keys of a log hold which figure: the schemas that are known, and the user's own mapping.

Keys are compared without regard to case, spaces and hyphens. Nested keys are written with dots
(``response.usage.prompt_tokens``), the first element of a list with ``[0]``. How values are read is left to
:mod:`distillcalc.workload.logs.ingest`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias, TypeVar

from distillcalc.errors import InputError, near_matches

Path: TypeAlias = tuple[str, ...]
Columns: TypeAlias = dict[str, Path]

FIELDS = {
    "at": "when the request was made",
    "input_tokens": "tokens in, cached ones included",
    "output_tokens": "tokens out, reasoning included",
    "cached_tokens": "tokens in that were read from a cache",
    "added_input_tokens": "tokens in that input_tokens leaves out",
    "added_output_tokens": "tokens out that output_tokens leaves out",
    "reasoning_tokens": "tokens out that were reasoning",
    "model": "the model that answered",
    "request_id": "unique per request",
    "status": "an HTTP status, true or false, or a word such as error or success",
    "error": "empty where the request went well",
    "cost_usd": "what the request cost",
    "prompt": "the text in",
    "system": "text that stands before the prompt",
    "response": "the text out",
    "cache_hit": "true where a cache gave the answer and no model was called",
    "kind": "what the row is, where not every row is a request",
    "requests": "requests in the period, for a log of counts",
}

DEPTH = 6

# Keys whose count is complete, cached and reasoning tokens in it, whatever else is logged beside them.
_COMPLETE = (
    *("prompt_tokens", "completion_tokens", "prompttokens", "completiontokens", "usage.input", "usage.output"),
    *("inputusage", "outputusage", "input_usage", "output_usage"),
)


@dataclass(frozen=True)
class Schema:
    """Where each figure stands in a log.

    Parameters
    ----------
    name : what users call it
    fields : for each figure (see ``FIELDS``) the keys that may hold it, best first
    signs : each group must have at least one of its keys in the log
    kind : ``"requests"`` (a row each) or ``"counts"`` (a row per period)
    requests : values of the figure ``kind`` that are requests; rows of any other are no requests. Empty: all are
    others : what stands in those values of ``kind`` that are no requests, as regular expressions
    bare : the time may be seconds since the log began
    """

    name: str
    fields: Mapping[str, tuple[str, ...]]
    signs: tuple[tuple[str, ...], ...] = ()
    kind: Literal["requests", "counts"] = "requests"
    requests: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()
    paths: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def __add__(self, other: Schema) -> Schema:
        """Both schemas at once, for a log that mixes them: the first key that a row has counts."""
        return Schema(
            name=" + ".join(dict.fromkeys([*self.name.split(" + "), *other.name.split(" + ")])),
            fields=_joined(self.fields, other.fields),
            kind=self.kind,
            requests=self.requests | other.requests,
            others=tuple(dict.fromkeys((*self.others, *other.others))),
            paths=_joined(self.paths, other.paths),
        )


Key = TypeVar("Key")


def _joined(mine: Mapping[str, tuple[Key, ...]], theirs: Mapping[str, tuple[Key, ...]]) -> dict[str, tuple[Key, ...]]:
    return {f: tuple(dict.fromkeys((*mine.get(f, ()), *theirs.get(f, ())))) for f in dict.fromkeys([*mine, *theirs])}


def _usage(*prefixes: str) -> dict[str, tuple[str, ...]]:
    """The figures of an OpenAI usage object (chat completions, responses) under each prefix."""

    def under(*keys: str) -> tuple[str, ...]:
        return tuple(prefix + key for prefix in prefixes for key in keys)

    return {
        "input_tokens": under("usage.prompt_tokens", "usage.input_tokens"),
        "output_tokens": under("usage.completion_tokens", "usage.output_tokens"),
        "cached_tokens": under(
            "usage.prompt_tokens_details.cached_tokens",
            "usage.input_tokens_details.cached_tokens",
            "usage.cache_read_input_tokens",
        ),
        # Anthropic's, whose lines may stand between the others.
        "added_input_tokens": under("usage.cache_read_input_tokens", "usage.cache_creation_input_tokens"),
        "reasoning_tokens": under(
            "usage.completion_tokens_details.reasoning_tokens", "usage.output_tokens_details.reasoning_tokens"
        ),
        "response": under(
            *("choices[0].message.content", "choices[0].message.tool_calls", "output_text", "output"),
            "choices[0].text",
        ),
    }


def _details(*keys: str) -> tuple[str, ...]:
    """Keys of Langfuse's usage details, as its API and its exports name them."""
    return tuple(f"{prefix}.{key}" for prefix in ("usageDetails", "usage_details") for key in keys)


_BODY, _CHAT = ("response.body.",), ("response.", "response.body.", "")
_OTEL = ("attributes.", "", "span_attributes.", "SpanAttributes.")  # the last: ClickHouse's

_REQUESTS = (
    *("requests", "requests_est", "request_count", "num_requests", "n_requests", "num_model_requests"),
    *("api_requests", "total_requests", "requestcount", "request_counts"),
)

KNOWN: tuple[Schema, ...] = (
    Schema(
        "azure-llm-trace",
        {"at": ("TIMESTAMP",), "input_tokens": ("ContextTokens",), "output_tokens": ("GeneratedTokens",)},
        (("TIMESTAMP",), ("ContextTokens",), ("GeneratedTokens",)),
    ),
    Schema(
        "burstgpt",
        {
            "at": ("Timestamp",),
            "input_tokens": ("Request tokens",),
            "output_tokens": ("Response tokens",),
            "model": ("Model",),
        },
        (("Timestamp",), ("Request tokens",), ("Response tokens",)),
    ),
    Schema(
        "aggregate-counts",
        {
            "at": ("hour_start_s", "hour_start", "period_start", "window_start", "bucket", "hour", "minute"),
            "requests": _REQUESTS,
        },
        (
            ("hour_start_s", "hour_start", "period_start", "window_start", "bucket", "hour", "minute"),
            _REQUESTS,
        ),
        kind="counts",
    ),
    Schema(
        "openai-usage",
        {
            "at": ("start_time", "start_time_iso"),
            "requests": ("num_model_requests",),
            "input_tokens": ("input_tokens",),
            "output_tokens": ("output_tokens",),
        },
        (("start_time", "start_time_iso"), ("num_model_requests",)),
        kind="counts",
    ),
    Schema(
        "litellm-daily-spend",
        {
            "at": ("date",),
            "requests": ("api_requests",),
            "input_tokens": ("prompt_tokens",),
            "output_tokens": ("completion_tokens",),
        },
        (("date",), ("api_requests",)),
        kind="counts",
    ),
    Schema(
        "openai-batch",
        {
            **_usage(*_BODY),
            "at": ("response.body.created", "response.body.created_at"),
            "model": ("response.body.model",),
            # A custom_id is unique within its batch only.
            "request_id": ("id", "response.request_id", "response.body.id", "custom_id"),
            "status": ("response.status_code",),
            "error": ("error", "response.body.error"),
        },
        (("custom_id",), ("response", "response.status_code", "error", "error.message", "error.code")),
    ),
    Schema(
        "litellm-spend",
        {
            "at": ("startTime",),
            "input_tokens": ("prompt_tokens",),
            "output_tokens": ("completion_tokens",),
            "cached_tokens": (
                "metadata.usage_object.prompt_tokens_details.cached_tokens",
                "metadata.additional_usage_values.cache_read_input_tokens",
            ),
            "reasoning_tokens": ("metadata.usage_object.completion_tokens_details.reasoning_tokens",),
            "model": ("model",),
            "request_id": ("request_id",),
            "status": ("status", "metadata.status"),
            "cost_usd": ("spend",),
            "prompt": (
                *("messages", "proxy_server_request.messages", "proxy_server_request.input"),
                "proxy_server_request.prompt",
            ),
            "response": ("response.choices[0].message.content", "response.choices[0].message.tool_calls"),
            "kind": ("call_type",),
            "cache_hit": ("cache_hit",),
        },
        (("startTime",), ("prompt_tokens",), ("completion_tokens",), ("spend", "call_type")),
        # Of litellm.types.utils.CallTypes; a batch that is fetched has the tokens of all its requests in one row.
        others=("embedding", "image_", "moderation", "transcription", "speech", "rerank", "search", "batch"),
    ),
    Schema(
        "bedrock-invocations",
        {
            "at": ("timestamp",),
            "input_tokens": ("input.inputTokenCount",),
            "output_tokens": ("output.outputTokenCount",),
            # Cached tokens are counted beside inputTokenCount, not in it.
            "added_input_tokens": ("input.cacheReadInputTokenCount", "input.cacheWriteInputTokenCount"),
            "cached_tokens": ("input.cacheReadInputTokenCount",),
            "model": ("modelId",),
            "request_id": ("requestId",),
            "error": ("errorCode",),
            "prompt": ("input.inputBodyJson.messages", "input.inputBodyJson.inputText", "input.inputBodyJson.prompt"),
            "system": ("input.inputBodyJson.system",),
            "response": (
                *("output.outputBodyJson.output.message.content", "output.outputBodyJson.content"),
                "output.outputBodyJson.results[0].outputText",
            ),
            "kind": ("modelId",),
        },
        (
            ("modelId",),
            ("timestamp",),
            ("input.inputTokenCount", "output.outputTokenCount", "input.inputContentType", "input.inputBodyJson"),
        ),
        others=("embed", "image", "rerank", "canvas", r"stability\."),
    ),
    Schema(
        "otel-genai",
        {
            name: tuple(prefix + key for key in keys for prefix in _OTEL)
            for name, keys in {
                "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
                "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
                "cached_tokens": (
                    *("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cached_input_tokens"),
                    "gen_ai.usage.cache_read_input_tokens",
                ),
                "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
                "model": ("gen_ai.response.model", "gen_ai.request.model"),
                "error": ("error.type",),
                "prompt": ("gen_ai.input.messages", "gen_ai.prompt"),
                "system": ("gen_ai.system_instructions",),
                "response": ("gen_ai.output.messages", "gen_ai.completion"),
                "kind": ("gen_ai.operation.name",),
            }.items()
        }
        | {
            "at": ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime", "timestamp", "Timestamp"),
            "request_id": ("spanId", "span_id", "context.span_id", "SpanId"),
            "status": ("status.code", "status.status_code", "statusCode", "StatusCode", "status_code"),
        },
        (
            tuple(
                prefix + key
                for prefix in _OTEL
                for key in (
                    "gen_ai.usage.input_tokens",
                    "gen_ai.usage.prompt_tokens",
                    "gen_ai.operation.name",
                    "gen_ai.request.model",
                )
            ),
            ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime", "timestamp"),
        ),
        requests=frozenset({"chat", "text_completion", "generate_content", "completion"}),
    ),
    Schema(
        "langfuse",
        {
            "at": ("startTime", "start_time"),
            "input_tokens": (
                "usageDetails.input",
                "usage_details.input",
                "usage.input",
                "promptTokens",
                "inputUsage",
                "input_usage",
                "usage.promptTokens",
            ),
            "output_tokens": (
                "usageDetails.output",
                "usage_details.output",
                "usage.output",
                "completionTokens",
                "outputUsage",
                "output_usage",
                "usage.completionTokens",
            ),
            # Its usage details do not overlap: what is cached or reasoning is not in input or output once more.
            "added_input_tokens": _details(
                *("input_cached_tokens", "input_cache_read", "input_cache_creation", "input_audio_tokens"),
                *("input_audio", "cache_read_input_tokens", "cache_creation_input_tokens"),
            ),
            "added_output_tokens": _details(
                *("output_reasoning_tokens", "output_reasoning", "output_audio_tokens", "output_audio"),
                *("output_accepted_prediction_tokens", "output_rejected_prediction_tokens"),
            ),
            "cached_tokens": _details("input_cached_tokens", "input_cache_read", "cache_read_input_tokens"),
            "reasoning_tokens": _details("output_reasoning_tokens", "output_reasoning"),
            "model": ("model", "providedModelName", "provided_model_name"),
            "request_id": ("id",),
            "status": ("level",),
            "cost_usd": ("calculatedTotalCost", "totalCost", "total_cost", "costDetails.total", "cost_details.total"),
            "prompt": ("input.messages", "input"),
            "response": ("output.content", "output"),
            "kind": ("type",),
        },
        (
            ("startTime", "start_time"),
            ("traceId", "trace_id", "traceName", "trace_name"),
            (
                *("usageDetails", "usage_details", "usage.input", "promptTokens", "inputUsage", "usageDetails.input"),
                *("usage_details.input", "input_usage", "calculatedTotalCost"),
            ),
        ),
        requests=frozenset({"generation"}),
    ),
    Schema(
        "anthropic-messages",
        {
            "at": ("created_at", "timestamp", "request.created_at", "response.created_at", "time", "ts"),
            "input_tokens": ("response.usage.input_tokens", "usage.input_tokens"),
            "output_tokens": ("response.usage.output_tokens", "usage.output_tokens"),
            "cached_tokens": ("response.usage.cache_read_input_tokens", "usage.cache_read_input_tokens"),
            "added_input_tokens": (
                "response.usage.cache_read_input_tokens",
                "usage.cache_read_input_tokens",
                "response.usage.cache_creation_input_tokens",
                "usage.cache_creation_input_tokens",
            ),
            "model": ("response.model", "model", "request.model"),
            "request_id": ("response.id", "id"),
            "error": ("response.error", "error"),
            "prompt": ("request.messages", "messages"),
            "system": ("request.system", "system"),
            "response": ("response.content", "content"),
        },
        (
            (
                *("response.usage.cache_read_input_tokens", "usage.cache_read_input_tokens"),
                *("response.stop_reason", "stop_reason"),
            ),
            ("created_at", "timestamp", "request.created_at", "response.created_at", "time", "ts"),
        ),
    ),
    Schema(
        "openai-chat",
        {
            **_usage(*_CHAT),
            "at": (
                *("request.timestamp", "request.created_at", "timestamp", "created_at", "request_time", "time", "ts"),
                *("response.created", "response.created_at", "response.body.created", "created"),
            ),
            "model": ("response.model", "response.body.model", "model", "request.model", "request.body.model"),
            "request_id": ("request_id", "response.id", "response.body.id", "id"),
            "status": ("status_code", "response.status_code", "status"),
            "error": ("error", "response.error"),
            "cost_usd": ("cost_usd", "cost"),
            "prompt": (
                *("request.messages", "request.body.messages", "messages", "request.input", "request.prompt"),
                *("request.body.input", "input"),
            ),
            "system": ("request.instructions", "request.body.instructions", "instructions", "response.instructions"),
        },
        (
            (
                *("response.usage", "response.body.usage", "usage", "response.choices", "response.body.choices"),
                *("choices", "response.output"),
            ),
            (
                *("response.created", "response.created_at", "response.body.created", "created", "created_at"),
                *("timestamp", "request.timestamp", "request.created_at", "request_time", "time", "ts"),
            ),
        ),
    ),
)

_PLAIN_TIME = (
    *("at", "timestamp", "time", "ts", "datetime", "date_time", "created_at", "created", "start_time", "startTime"),
    *("request_time", "requested_at", "arrival_time", "arrived_at", "logged_at", "event_time", "date", "timestamp_s"),
    *("timestamp_ms", "arrival_timestamp", "@timestamp"),
)
_PLAIN_TEXT = ("prompt", "messages", "question", "query", "input_text", "prompt_text", "request", "input")

PLAIN = Schema(
    "plain",
    {
        "at": _PLAIN_TIME,
        "input_tokens": (
            *("input_tokens", "prompt_tokens", "tokens_in", "context_tokens", "num_prompt_tokens", "n_input_tokens"),
            *("num_input_tokens", "in_tokens", "input_token_count", "prompt_token_count", "input_length"),
            *("usage.input_tokens", "usage.prompt_tokens", "prompt_len", "tokens_input"),
        ),
        "output_tokens": (
            *("output_tokens", "completion_tokens", "tokens_out", "generated_tokens", "num_output_tokens"),
            *("n_output_tokens", "num_completion_tokens", "out_tokens", "output_token_count", "output_length"),
            *("completion_token_count", "usage.output_tokens", "usage.completion_tokens", "output_len"),
            *("tokens_output", "response_tokens", "decode_tokens"),
        ),
        "cached_tokens": ("cached_tokens", "cached_input_tokens", "cache_read_input_tokens", "cache_read_tokens"),
        "reasoning_tokens": ("reasoning_tokens", "thinking_tokens", "reasoning_output_tokens"),
        "model": ("model", "model_name", "model_id"),
        "request_id": ("request_id", "req_id", "id", "uuid", "call_id"),
        "status": ("failed", "status_code", "status", "success", "ok"),
        "error": ("error", "error_message", "error_type"),
        "cost_usd": ("cost_usd", "cost", "spend", "total_cost", "price_usd"),
        "prompt": _PLAIN_TEXT,
        "response": ("response", "completion", "answer", "output_text", "response_text", "output", "reply"),
    },
    (_PLAIN_TIME, ("input_tokens", *_PLAIN_TEXT)),
)


# A table with a count of requests has a row for a period, whatever else its columns say.
PLAIN_COUNTS = Schema(
    "plain-counts",
    {
        "at": (*_PLAIN_TIME, "day", "period", "start", "hour_start", "timestamp_hour", "bucket_start"),
        "requests": _REQUESTS,
        "input_tokens": PLAIN.fields["input_tokens"],
        "output_tokens": PLAIN.fields["output_tokens"],
    },
    kind="counts",
)


@lru_cache(maxsize=10_000)
def norm(key: str) -> str:
    """A key as it is compared: lower case, spaces and hyphens as underscores."""
    return re.sub(r"[\s\-]+", "_", key.strip()).lower()


def flatten(value: Any, path: Path = (), depth: int = DEPTH) -> Columns:
    """The keys of a nested object with what is under them, by their dotted names as they are compared."""
    found: Columns = {}
    items: Iterable[tuple[str, Any]] = value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        here = (*path, str(key))
        found.setdefault(dotted(here), here)
        if isinstance(inner, str) and inner[:1] == "{":
            inner = _parsed(inner)
        if isinstance(inner, dict) and depth:
            found |= flatten(inner, here, depth - 1)
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict) and depth:
            found |= flatten(inner[0], (*path, f"{key}[0]"), depth - 1)
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def dotted(path: Path) -> str:
    """A path as it is compared."""
    return norm(".".join(path))


def is_complete(path: Path) -> bool:
    """Whether a count of tokens leaves none out."""
    return dotted(path).endswith(_COMPLETE)


def split(key: str) -> Path:
    """A dotted key as a path; the keys of OpenTelemetry (``gen_ai.usage.input_tokens``) have dots of their own."""
    for own in ("gen_ai.", "error.type"):
        before, found, after = key.partition(own)
        if found:
            return (*[part for part in before.split(".") if part], found + after)
    return tuple(key.split("."))


def recognise(columns: Columns, *, all_keys: bool) -> Schema | None:
    """The schema that these keys belong to, with the paths of its figures; ``None`` where none fits.

    Parameters
    ----------
    columns : the keys seen, see :func:`flatten`
    all_keys : keep the keys that were not seen, since they may yet come (JSON), rather than drop them (a table)
    """
    for schema in KNOWN:
        if all(any(norm(key) in columns for key in group) for group in schema.signs):
            found = _located(schema, columns, all_keys=all_keys)
            if _is_usable(found, columns):
                return found
    for schema in (PLAIN_COUNTS, PLAIN):
        found = _located(schema, columns, all_keys=False)
        if _is_usable(found, columns):
            return found
    return None


def _located(schema: Schema, columns: Columns, *, all_keys: bool) -> Schema:
    paths: dict[str, tuple[Path, ...]] = {}
    for name, keys in schema.fields.items():
        seen = [columns[norm(key)] for key in keys if norm(key) in columns]
        unseen = [split(key) for key in keys if norm(key) not in columns] if all_keys else []
        if seen or unseen:
            paths[name] = tuple(dict.fromkeys([*seen, *unseen]))
    return replace(schema, paths=paths)


def _is_usable(schema: Schema, columns: Columns) -> bool:
    """Whether the log has a time, and tokens or a text to count them from (or counts of requests)."""

    def has(name: str) -> bool:
        return any(dotted(path) in columns for path in schema.paths.get(name, ()))

    if schema.kind == "counts":
        return has("at") and has("requests")
    if schema.name == "openai-batch":
        return True  # a failed request has neither
    if schema.name in ("otel-genai", "langfuse", "bedrock-invocations"):
        return has("at")  # rows that are no requests have no tokens
    return has("at") and (has("input_tokens") or has("prompt")) and (has("output_tokens") or has("response"))


def from_mapping(mapping: Mapping[str, str], columns: Columns, name: str, *, all_keys: bool) -> Schema:
    """The schema that a user's mapping describes; figures it leaves out are found under their plain names.

    Parameters
    ----------
    mapping : figure (see ``FIELDS``) to the column or dotted key that holds it
    name : the log, for the message

    Raises
    ------
    InputError
        If a figure is unknown, a column is not in the log, or the time or the tokens are still missing.
    """
    unknown = [figure for figure in mapping if figure not in FIELDS]
    if unknown:
        raise no_figure(unknown[0])
    paths: dict[str, tuple[Path, ...]] = {}
    for figure, key in mapping.items():
        if norm(key) not in columns and not all_keys:
            near = near_matches(key, [".".join(path) for path in columns.values()])
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InputError(f"columns maps {figure} to {key!r}, which {name} does not have. {hint}{seen(columns)}")
        paths[figure] = (columns.get(norm(key)) or split(key),)
    taken = {path for (path,) in paths.values()}
    for figure, found in _located(PLAIN, columns, all_keys=False).paths.items():
        free = tuple(path for path in found if path not in taken)
        if free and not (figure in ("input_tokens", "output_tokens") and "requests" in mapping):
            paths.setdefault(figure, free)
    kind: Literal["requests", "counts"] = "counts" if "requests" in mapping else "requests"
    needs = [("at",), ("requests",)] if kind == "counts" else [
        ("at",), ("input_tokens", "prompt"), ("output_tokens", "response")
    ]  # fmt: skip
    for group in needs:
        if not any(figure in paths for figure in group):
            raise InputError(
                f"columns must also map {' or '.join(group)} ({FIELDS[group[0]]}) for {name}. {seen(columns)}"
            )
    return Schema("mapping", {figure: (key,) for figure, key in mapping.items()}, (), kind, paths=paths)


def no_figure(name: str) -> InputError:
    """What to say of a mapping of something that is no figure."""
    near = near_matches(name, FIELDS)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return InputError(f"columns maps {name!r}, which is no figure. {hint}Figures: {', '.join(FIELDS)}")


class UnknownSchema(InputError):
    """A file that can be read but holds nothing that is known as a log."""


def unknown_schema(columns: Columns, name: str) -> UnknownSchema:
    """What to say of a log whose columns belong to no known schema: what was seen, and a mapping to write."""
    lines = []
    for figure in ("at", "input_tokens", "output_tokens"):
        near = _guess(figure, columns)
        lines.append(f"{figure!r}: {near!r}" if near else f"{figure!r}: '<your column>'")
    known = ", ".join([*(schema.name for schema in KNOWN), PLAIN.name])
    return UnknownSchema(
        f"{name} has no schema that is known ({known}). {seen(columns)} "
        f"Say which column is which: columns={{{', '.join(lines)}}}. "
        "Instead of tokens a log may have the texts ('prompt', 'response'), or counts ('at', 'requests')"
    )


def seen(columns: Columns) -> str:
    """The columns of a log as a sentence."""
    names = list(dict.fromkeys(".".join(path) for path in columns.values()))
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return f"Its columns: {', '.join(names[:30])}{more}."


def _guess(figure: str, columns: Collection[str] | Columns) -> str | None:
    words: dict[str, tuple[str, ...]] = {
        "at": ("time", "date", "when", "created"),
        "input_tokens": ("prompt", "input", "context", "in_"),
        "output_tokens": ("complet", "output", "generat", "out_", "respon"),
    }
    for key in columns:
        if any(word in key for word in words[figure]) and (figure == "at" or "tok" in key or "len" in key):
            return ".".join(columns[key]) if isinstance(columns, dict) else key
    return None
