"""The SQL that turns a row of a log into the canonical columns, or into the reason why it cannot be used.

Every value is checked in the same pass that reads it: ``reason`` is NULL exactly where the row can be used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from distillcalc.workload.logs.schemas import Path, Schema, is_complete, norm
from distillcalc.workload.logs.times import from_epoch, in_utc, written_time
from distillcalc.workload.logs.wording import MEDIA, quote, raw_text, readable, words

MOST_TOKENS = 1_000_000_000  # of a request
MOST_OF_A_PERIOD = 1e18
FIRST_YEAR, LAST_YEAR = 1970, 2200

NOT_JSON = "not valid JSON"
NOT_AN_OBJECT = "not a JSON object"
NOT_A_REQUEST = "not a request (a span, an event or another row that is no model call)"
FROM_CACHE = "answered from a cache of the log's own, without a model call"
FAILED_WITHOUT_TIME = "a failed request without a time"
TIME_MISSING = "the time is missing"
TIME_UNREADABLE = "the time cannot be read"
TIME_OUT_OF_RANGE = f"the time is outside the years {FIRST_YEAR} to {LAST_YEAR}"
DUPLICATE = "its request id came before"
NOT_COUNTED = "no token count, and no tokenizer to count the text with"

# Rows that are whole but are no requests with a time: rejected and listed, but no sign of a damaged log.
HARMLESS = (NOT_A_REQUEST, FROM_CACHE, FAILED_WITHOUT_TIME)

COLUMNS = {
    "at": "TIMESTAMP",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cached_tokens": "BIGINT",
    "reasoning_tokens": "BIGINT",
    "model": "VARCHAR",
    "request_id": "VARCHAR",
    "failed": "BOOLEAN",
    "cost_usd": "DOUBLE",
    "prompt_hash": "UBIGINT",
    "prompt": "VARCHAR",
}

_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
_NUMBERS |= {"FLOAT", "DOUBLE", "UHUGEINT"}
_FAILED = (
    *("error", "errored", "failure", "failed", "fail", "timeout", "timed_out", "timedout", "exception", "cancelled"),
    *("canceled", "aborted", "rate_limited", "rate_limit", "rate_limit_exceeded", "throttled", "throttling", "expired"),
    *("overloaded", "unavailable", "rejected", "denied", "unauthorized", "forbidden"),
)
# An answer that was cut short (incomplete, length, max_tokens) was made and paid.
_WELL = (
    *("ok", "success", "successful", "succeeded", "completed", "complete", "default", "debug", "warning", "unset"),
    *("info", "done", "finished", "incomplete", "stop", "length", "tool_calls", "end_turn", "max_tokens", "tool_use"),
    *("stop_sequence",),
)
_NO_ERROR = ("", "null", "none", "{}", "[]", "false", "0", "nan")


@dataclass(frozen=True)
class Value:
    """An SQL expression, the DuckDB type it has, and an expression for whether an object stands there, not a text."""

    sql: str
    type: str = "VARCHAR"
    nested: str = "false"

    @property
    def is_number(self) -> bool:
        """Whether it needs no parsing."""
        return self.type in _NUMBERS or self.type.startswith("DECIMAL")

    @property
    def text(self) -> str:
        """As text, empty as NULL."""
        return f"nullif({self.sql}, '')" if self.type == "VARCHAR" else f"CAST({self.sql} AS VARCHAR)"

    @property
    def words(self) -> str:
        """As the text of a prompt or a response, NULL where a log that keeps none says so."""
        return raw_text(self.sql if self.type == "VARCHAR" else f"CAST({self.sql} AS VARCHAR)", self.nested)

    @property
    def money(self) -> str:
        """As a DOUBLE, with or without a sign for dollars."""
        return self.number if self.is_number else f"TRY_CAST(ltrim({self.sql}, '$ ') AS DOUBLE)"

    @property
    def number(self) -> str:
        """As a DOUBLE, NULL where it is none."""
        if not self.is_number:
            return f"TRY_CAST({self.sql} AS DOUBLE)"
        if self.type in ("FLOAT", "DOUBLE"):
            return f"CASE WHEN isnan({self.sql}) THEN NULL ELSE CAST({self.sql} AS DOUBLE) END"
        return f"CAST({self.sql} AS DOUBLE)"


def name(column: str) -> str:
    """A column name in SQL."""
    return '"' + column.replace('"', '""') + '"'


def json_path(path: Path) -> str:
    """A path of keys as a JSON path; a key may end in ``[0]``."""
    parts = []
    for key in path:
        found = re.fullmatch(r"(.*?)((?:\[\d+\])*)", key, re.DOTALL)
        bare, index = (found[1], found[2]) if found else (key, "")
        parts.append('."' + bare.replace("\\", "\\\\").replace('"', '\\"') + '"' + index)
    return "$" + "".join(parts)


def column_value(path: Path, types: Mapping[str, str]) -> Value:
    """A path in a table: a column, or a key inside a column of structs or of JSON text."""
    column, inner = path[0], path[1:]
    index = re.fullmatch(r"(.*?)((?:\[\d+\])+)", column, re.DOTALL)
    if column not in types and index:
        column, inner = index[1], (index[2], *inner)
    if column not in types:
        return Value("NULL")
    kind, sql = types[column], name(column)
    if kind.startswith("ENUM"):
        return Value(f"CAST({sql} AS VARCHAR)")
    if not inner:
        if kind == "VARCHAR" or is_plain(kind):
            return Value(sql, kind)
        return Value(f"CAST(to_json({sql}) AS VARCHAR)", nested="true")
    where = json_path(inner) if not inner[0].startswith("[") else "$" + inner[0] + json_path(inner[1:])[1:]
    if kind in ("VARCHAR", "JSON"):
        return Value(
            f"CASE WHEN json_valid({sql}) THEN json_extract_string({sql}, {quote(where)}) END",
            nested=f"json_type({sql}, {quote(where)}) = 'OBJECT'",
        )
    inside = f"to_json({sql})"
    return Value(
        f"json_extract_string({inside}, {quote(where)})", nested=f"json_type({inside}, {quote(where)}) = 'OBJECT'"
    )


def is_plain(kind: str) -> bool:
    """Whether a DuckDB type is a single value that is neither text nor nested."""
    return kind in _NUMBERS or kind in ("BOOLEAN", "DATE", "UUID") or kind.startswith(("TIMESTAMP", "DECIMAL"))


def is_typed(values: Mapping[str, tuple[Value, ...]]) -> bool:
    """Whether a table needs no parsing at all: times and tokens have their types, each in a single column."""
    numbers = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "requests")
    at = values.get("at", ())
    return (
        len(at) == 1
        and (at[0].is_number or at[0].type.startswith("TIMESTAMP"))
        and all(len(values[f]) == 1 and values[f][0].is_number for f in numbers if f in values)
        and not {"kind", "cache_hit", "added_input_tokens", "added_output_tokens"} & set(values)
    )


def time(value: Value, zone: str) -> tuple[str, str]:
    """A time in UTC, and the zone it was written with (empty: none), as SQL."""
    if value.is_number:
        return from_epoch(value.number), "NULL"
    if value.type == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {value.sql})", "NULL"
    if value.type.startswith("TIMESTAMP") or value.type == "DATE":
        return in_utc(f"CAST({value.sql} AS TIMESTAMP)", zone), "''"
    return written_time(value.sql, zone)


def rows(
    schema: Schema,
    values: Mapping[str, tuple[Value, ...]],
    source: str,
    *,
    zone: str,
    raw: str,
    json: bool,
    error_logged: bool,
    place: str = "CAST(NULL AS BIGINT)",
) -> str:
    """A SELECT of the canonical columns with ``reason``, ``zone``, ``need`` (tokens are to be counted) and ``raw``.

    Parameters
    ----------
    values : for each figure the expressions that may hold it, best first
    source : a FROM item with the columns those expressions use
    zone : the time zone of times written without one
    raw : an expression for the row as text
    place : an expression for the line of the row, from 0, where a line holds several rows
    json : the source has a column ``json``, NULL where the line is not valid JSON
    error_logged : an empty error means that the request went well
    """
    has = {figure: bool(found) for figure, found in values.items()}
    first = [f"{raw} AS whole", f"{place} AS place"]
    if json:
        first.append("json AS document")
    numbers = ["input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "requests"]
    for figure in numbers:
        found = values.get(figure, ())
        read = [v.money if figure == "cost_usd" else v.number for v in found]
        first.append(f"{coalesced(read, 'DOUBLE')} AS n_{figure}")
        if all(v.is_number for v in found):
            first.append(f"{coalesced([v.number for v in found], 'DOUBLE')} IS NOT NULL AS has_{figure}")
        else:
            first.append(f"{coalesced([v.text for v in found])} IS NOT NULL AS has_{figure}")
    plain, texts = ("model", "request_id", "kind", "cache_hit"), ("prompt", "system", "response")
    first += [f"{coalesced([v.text for v in values.get(figure, ())])} AS {figure}" for figure in plain]
    first += [f"{coalesced([v.words for v in values.get(figure, ())])} AS raw_{figure}" for figure in texts]
    first += [f"{_left_out(schema, values, side)} AS n_added_{side}_tokens" for side in ("input", "output")]
    outcome = failed(schema, values, error_logged=error_logged)
    first.append(f"{outcome} AS failed")
    first.append(f"CASE WHEN {outcome} IS NULL THEN left({coalesced(statuses(values))}, 40) END AS odd_status")
    at = values["at"]
    only = at[0] if len(at) == 1 else Value(coalesced([v.text for v in at]))
    first.append(f"{only.text if only.type == 'VARCHAR' else only.sql} AS t")
    at_sql, zone_sql = time(Value("t", only.type), zone)
    tail = "right(t, 6)" if only.type == "VARCHAR" else "NULL"
    is_counts = schema.kind == "counts"
    needs = "false"
    if not is_counts:
        needs = (
            "NOT coalesce(failed, false) AND (NOT has_input_tokens OR NOT has_output_tokens) "
            "AND (has_input_tokens OR prompt IS NOT NULL) AND (has_output_tokens OR response IS NOT NULL)"
        )
    most = MOST_OF_A_PERIOD if is_counts else MOST_TOKENS

    def token(figure: str) -> str:
        return f"CAST(CASE WHEN n_{figure} BETWEEN 0 AND {most} THEN n_{figure} END AS BIGINT)"

    def whole(side: str) -> str:
        if not has.get(f"added_{side}_tokens"):
            return token(f"{side}_tokens")
        return f"{token(f'{side}_tokens')} + {token(f'added_{side}_tokens')}"

    prompt = readable("raw_prompt") if has.get("prompt") else "raw_prompt"
    if has.get("system"):
        prompt = f"CASE WHEN raw_prompt IS NOT NULL THEN concat_ws(chr(10), {readable('raw_system')}, {prompt}) END"
    response = readable("raw_response") if has.get("response") else "raw_response"
    texts_sql = f"{prompt} AS prompt, CASE WHEN NOT has_output_tokens THEN {response} END AS response"
    media = f"CASE WHEN need THEN regexp_matches(raw_prompt, {quote(MEDIA)}) END" if has.get("prompt") else "false"
    out = {
        "at": '"at"',
        "input_tokens": whole("input"),
        "output_tokens": whole("output"),
        "cached_tokens": token("cached_tokens"),
        "reasoning_tokens": token("reasoning_tokens"),
        "model": "model",
        "request_id": "request_id",
        "failed": "failed",
        "cost_usd": "CASE WHEN isfinite(n_cost_usd) THEN n_cost_usd END",
        "prompt": "prompt",
        "response": "response",
        "requests": token("requests"),
        "need": "need",
        "zone": "zone",
        "media": media,
        "odd_status": "odd_status",
        "odd_time": f"CASE WHEN reason = {quote(TIME_UNREADABLE)} THEN left(CAST(t AS VARCHAR), 60) END",
        "place": "place",
        "reason": "reason",
        "raw": "CASE WHEN reason IS NOT NULL THEN whole END",
    }
    return (
        f"SELECT {', '.join(f'{sql} AS {name(column)}' for column, sql in out.items())} FROM ("
        f"SELECT *, {_reason(schema, json=json, counts=is_counts)} AS reason FROM ("
        f'SELECT *, {at_sql} AS "at", {needs} AS need FROM ('
        f"SELECT *, {zone_sql} AS zone, {texts_sql} FROM (SELECT *, {tail} AS tail FROM ("
        f"SELECT {', '.join(first)} FROM {source})))))"
    )


def checked_rows(values: Mapping[str, tuple[Value, ...]], source: str, *, zone: str, kind: str, failed: str) -> str:
    """The canonical columns of a typed table in which every row is known to be usable: nothing is parsed or checked."""

    def get(figure: str, type: str) -> str:
        found = values.get(figure, ())
        cast = "TRY_CAST" if figure != "model" else "CAST"
        sql = found[0].sql if len(found) == 1 else coalesced([v.text for v in found])
        return f"{cast}({sql} AS {type})" if found else f"CAST(NULL AS {type})"

    at = time(values["at"][0], zone)[0]
    if kind == "counts":
        sums = ", ".join(f"{get(figure, 'BIGINT')} AS {figure}" for figure in ("input_tokens", "output_tokens"))
        return f'SELECT {at} AS "at", {get("requests", "BIGINT")} AS requests, {sums} FROM {source}'
    prompt = coalesced([v.words for v in values.get("prompt", ())])
    prompt = readable(prompt) if values.get("prompt") else prompt
    made = {"at": at, "failed": failed, "prompt_hash": f"md5_number_lower({prompt})", "prompt": prompt}
    if not values.get("prompt"):
        made["prompt_hash"] = "CAST(NULL AS UBIGINT)"
    listed = [f"{made.get(column) or get(column, type)} AS {name(column)}" for column, type in COLUMNS.items()]
    return f"SELECT {', '.join(listed)} FROM {source}"


def failed(schema: Schema, values: Mapping[str, tuple[Value, ...]], *, error_logged: bool) -> str:
    """Whether a request failed, from its status and its error; NULL where neither says."""
    said: list[str] = []
    for path, value in zip(schema.paths.get("status", ()), values.get("status", ()), strict=False):
        text, last = f"lower({value.text})", path[-1].lower()
        yes, no = ("false", "true") if last in ("success", "ok") else ("true", "false")
        in_otel = schema.name.startswith("otel")
        leading = rf"nullif(regexp_extract({text}, '^([1-5]\d\d)\b', 1), '')"  # of "429 Too Many Requests"
        code = (
            value.number if value.is_number else f"coalesce(TRY_CAST({text} AS DOUBLE), TRY_CAST({leading} AS DOUBLE))"
        )
        by_number = f"WHEN {code} BETWEEN 400 AND 599 THEN true WHEN {code} BETWEEN 100 AND 399 THEN false " + (
            f"WHEN {code} = 2 THEN true WHEN {code} IN (0, 1) THEN false"
            if in_otel
            else f"WHEN {code} = 1 THEN {yes} WHEN {code} = 0 THEN {no}"
        )
        if value.is_number:
            said.append(f"CASE {by_number} END")
            continue
        said.append(
            f"CASE WHEN {text} IN ('true', 't', 'yes') THEN {yes} WHEN {text} IN ('false', 'f', 'no') THEN {no} "
            f"{by_number} "
            f"WHEN {text} IN ({words(_FAILED)}) OR regexp_matches({text}, '(error|exception|timeout)$') THEN true "
            f"WHEN {text} IN ({words(_WELL)}) OR regexp_matches({text}, '(ok|unset)$') THEN false END"
        )
    errors = coalesced([v.text for v in values.get("error", ())])
    if values.get("error"):
        empty = "false" if error_logged else "NULL"
        wrong = f"lower({errors}) NOT IN ({words(_NO_ERROR)})"
        status = f"coalesce({', '.join(said)}, {empty})" if said else empty
        return f"CASE WHEN {wrong} THEN true ELSE {status} END"
    return f"coalesce({', '.join(said)})" if said else "CAST(NULL AS BOOLEAN)"


def statuses(values: Mapping[str, tuple[Value, ...]]) -> list[str]:
    """The statuses of a row as lower-case words."""
    return [f"lower({value.text})" for value in values.get("status", ())]


def _left_out(schema: Schema, values: Mapping[str, tuple[Value, ...]], side: str) -> str:
    """The tokens of one side that its count leaves out: none where the count was read from a key that has them in."""
    found = values.get(f"added_{side}_tokens", ())
    if not found:
        return "0::DOUBLE"
    alike: dict[str, list[str]] = {}  # the same count may stand in two places
    for path, value in zip(schema.paths[f"added_{side}_tokens"], found, strict=True):
        alike.setdefault(norm(path[-1]), []).append(value.number)
    total = " + ".join(f"coalesce({', '.join(numbers)}, 0)" for numbers in alike.values())
    keys = zip(schema.paths.get(f"{side}_tokens", ()), values.get(f"{side}_tokens", ()), strict=False)
    complete = [(is_complete(path) and schema.name != "mapping", value) for path, value in keys]
    if not any(has_all for has_all, _ in complete):
        return total
    read = [f"CASE WHEN {value.number} IS NOT NULL THEN {has_all} END" for has_all, value in complete]
    return f"CASE WHEN {coalesced(read)} THEN 0::DOUBLE ELSE {total} END"


def coalesced(found: list[str], type: str = "VARCHAR") -> str:
    """The first of several expressions that is not NULL."""
    if not found:
        return f"CAST(NULL AS {type})"
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _reason(schema: Schema, *, json: bool, counts: bool) -> str:
    cases: list[tuple[str, str]] = []
    if json:
        cases.append(("document IS NULL", NOT_JSON))
        cases.append(("t IS NULL AND json_type(document) <> 'OBJECT'", NOT_AN_OBJECT))
    if schema.requests:
        known = words(sorted(schema.requests))
        cases.append((f"kind IS NOT NULL AND lower(kind) NOT IN ({known})", NOT_A_REQUEST))
        cases.append(("kind IS NULL AND NOT has_input_tokens AND model IS NULL", NOT_A_REQUEST))
    if schema.others:
        cases.append((f"regexp_matches(lower(kind), {quote('|'.join(schema.others))})", NOT_A_REQUEST))
    cases.append(("lower(cache_hit) IN ('true', 't', '1', 'yes')", FROM_CACHE))
    cases += [
        ("t IS NULL AND failed", FAILED_WITHOUT_TIME),
        ("t IS NULL", TIME_MISSING),
        ('"at" IS NULL', TIME_UNREADABLE),
        (f"\"at\" < TIMESTAMP '{FIRST_YEAR}-01-01' OR \"at\" >= TIMESTAMP '{LAST_YEAR}-01-01'", TIME_OUT_OF_RANGE),
    ]
    if counts:
        return _case([*cases, ("NOT has_requests", "requests is missing"), *_number_cases("requests")])
    for figure, text in (("input_tokens", "prompt"), ("output_tokens", "response")):
        cases.append((f"NOT has_{figure} AND {text} IS NULL AND NOT coalesce(failed, false)", f"{figure} is missing"))
        cases += _number_cases(figure)
    for figure in ("cached_tokens", "reasoning_tokens"):
        cases += _number_cases(figure)
    for side in ("input", "output"):
        n = f"n_added_{side}_tokens"
        cases.append((f"{n} < 0", f"tokens left out of {side}_tokens are negative"))
        cases.append((f"{n} > {MOST_TOKENS}", f"tokens left out of {side}_tokens are above {MOST_TOKENS:,}"))
    cases.append(("n_cached_tokens > n_input_tokens + n_added_input_tokens", "cached_tokens exceed input_tokens"))
    cases.append(("n_cost_usd < 0", "cost_usd is negative"))
    return _case(cases)


def _number_cases(figure: str) -> list[tuple[str, str]]:
    n = f"n_{figure}"
    return [
        (f"has_{figure} AND ({n} IS NULL OR isnan({n}))", f"{figure} is not a number"),
        (f"{n} < 0", f"{figure} is negative"),
        (f"{n} > {MOST_TOKENS}", f"{figure} is above {MOST_TOKENS:,}"),
        (f"{n} <> floor({n})", f"{figure} is not a whole number"),
    ]


def _case(cases: list[tuple[str, str]]) -> str:
    return "CASE " + " ".join(f"WHEN {when} THEN {quote(then)}" for when, then in cases) + " END"
