"""The SQL that turns a row of a log into the canonical columns, or into the reason why it cannot be used.

Every value is checked in the same pass that reads it: ``reason`` is NULL exactly where the row can be used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from distillcalc.workload.logs.schemas import Path, Schema, is_complete, norm

MOST_TOKENS = 1_000_000_000
FIRST_YEAR, LAST_YEAR = 1970, 2200

NOT_JSON = "not valid JSON"
NOT_AN_OBJECT = "not a JSON object"
NOT_A_REQUEST = "not a request (a span, an event or another row that is no model call)"
FAILED_WITHOUT_TIME = "a failed request without a time"
TIME_MISSING = "the time is missing"
TIME_UNREADABLE = "the time cannot be read"
TIME_OUT_OF_RANGE = f"the time is outside the years {FIRST_YEAR} to {LAST_YEAR}"
DUPLICATE = "its request id came before"
NOT_COUNTED = "no token count, and no tokenizer to count the text with"

# Rows that are whole but are no requests with a time: rejected and listed, but no sign of a damaged log.
HARMLESS = (NOT_A_REQUEST, FAILED_WITHOUT_TIME)

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
    "error",
    "failure",
    "failed",
    "fail",
    "timeout",
    "timed_out",
    "exception",
    "cancelled",
    "canceled",
    "aborted",
)
_WELL = ("ok", "success", "succeeded", "completed", "complete", "default", "debug", "warning", "unset", "info", "done")
_NO_TEXT = ("{}", "[]", "null", '""')  # what stands in a log that was told to keep no texts
_REDACTED = ("redacted-by-litellm", "REDACTED_BY_LITELM", "REDACTED_BY_LITELLM")
_NO_ERROR = ("", "null", "none", "{}", "[]", "false", "0", "nan")


@dataclass(frozen=True)
class Value:
    """An SQL expression and the DuckDB type it has."""

    sql: str
    type: str = "VARCHAR"

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
        return f"CASE WHEN {self.sql} NOT IN ('', {words(_NO_TEXT)}) THEN {self.sql} END"

    @property
    def number(self) -> str:
        """As a DOUBLE, NULL where it is none."""
        if not self.is_number:
            return f"TRY_CAST({self.sql} AS DOUBLE)"
        if self.type in ("FLOAT", "DOUBLE"):
            return f"CASE WHEN isnan({self.sql}) THEN NULL ELSE CAST({self.sql} AS DOUBLE) END"
        return f"CAST({self.sql} AS DOUBLE)"


def quote(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


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
    if not inner:
        return Value(sql, kind) if kind == "VARCHAR" or is_plain(kind) else Value(f"CAST(to_json({sql}) AS VARCHAR)")
    where = json_path(inner) if not inner[0].startswith("[") else "$" + inner[0] + json_path(inner[1:])[1:]
    if kind in ("VARCHAR", "JSON"):
        return Value(f"CASE WHEN json_valid({sql}) THEN json_extract_string({sql}, {quote(where)}) END")
    return Value(f"json_extract_string(to_json({sql}), {quote(where)})")


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
        and not {"kind", "added_input_tokens", "added_output_tokens"} & set(values)
    )


def time(value: Value, zone: str) -> tuple[str, str]:
    """A time in UTC, and the zone it was written with (empty: none), as SQL.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
    """
    if value.is_number:
        return _from_epoch(value.number), "NULL"
    if value.type == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {value.sql})", "NULL"
    if value.type.startswith("TIMESTAMP") or value.type == "DATE":
        return _in_utc(f"CAST({value.sql} AS TIMESTAMP)", zone), "''"
    t = value.sql
    # Substrings are slow on long text, so they are taken from its last six characters, ``tail``.
    written = (
        f"CASE WHEN strlen({t}) <= 20 AND NOT contains({t}, '-') AND TRY_CAST({t} AS DOUBLE) IS NOT NULL THEN 'Z' "
        f"WHEN strlen({t}) <= 15 THEN '' "
        "WHEN ends_with(tail, 'Z') OR ends_with(tail, 'UTC') OR ends_with(tail, 'GMT') THEN 'Z' "
        "WHEN tail[1] IN ('+', '-') THEN tail WHEN tail[2] IN ('+', '-') THEN tail[2:] "
        "WHEN tail[4] IN ('+', '-') THEN tail[4:] "
        f"WHEN tail[6] >= 'A' THEN regexp_extract({t}, '[A-Za-z_/]+$') ELSE '' END"
    )
    at = (
        f"coalesce(CASE WHEN zone = '' THEN {_in_utc(f'TRY_CAST({t} AS TIMESTAMP)', zone)} "
        f"WHEN zone = 'Z' THEN TRY_CAST({t} AS TIMESTAMP) "
        f"ELSE timezone('UTC', TRY_CAST({t} AS TIMESTAMPTZ)) END, {_from_epoch(f'TRY_CAST({t} AS DOUBLE)')}, "
        f"{_from_other_forms(t, zone)})"
    )
    return at, written


def _from_other_forms(t: str, zone: str) -> str:
    """Times as logging libraries write them that no cast reads: tried only where all else failed.

    A comma before the fraction (Python), no separators (ISO 8601 basic), a blank before the offset (Go), RFC 1123 and
    the Common Log Format.
    """
    iso = rf"regexp_replace(replace({t}, ',', '.'), ' ([+-]\d\d:?\d\d)( [A-Z]+)?( m=\S+)?$', '\1')"
    iso = rf"regexp_replace({iso}, '^(\d{{4}})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)', '\1-\2-\3 \4:\5:\6')"
    named = f"try_strptime({t}, ['%a, %d %b %Y %H:%M:%S %Z', '%d/%b/%Y:%H:%M:%S %z'])"
    return (
        rf"CASE WHEN regexp_matches({iso}, '(Z|UTC|GMT|[+-]\d\d(:?\d\d)?)$') "
        f"THEN timezone('UTC', TRY_CAST({iso} AS TIMESTAMPTZ)) "
        f"ELSE {_in_utc(f'TRY_CAST({iso} AS TIMESTAMP)', zone)} END, "
        f"timezone('UTC', {named})"
    )


def _in_utc(sql: str, zone: str) -> str:
    return sql if zone == "UTC" else f"timezone('UTC', timezone({quote(zone)}, {sql}))"


def _from_epoch(n: str) -> str:
    micros = (
        f"CASE WHEN abs({n}) < 1e11 THEN {n} * 1e6 WHEN abs({n}) < 1e14 THEN {n} * 1e3 "
        f"WHEN abs({n}) < 1e17 THEN {n} WHEN abs({n}) < 9e18 THEN {n} / 1e3 END"
    )
    return f"make_timestamp(TRY_CAST(round({micros}) AS BIGINT))"


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
        first.append(f"{coalesced([v.number for v in found], 'DOUBLE')} AS n_{figure}")
        if all(v.is_number for v in found):
            first.append(f"{coalesced([v.number for v in found], 'DOUBLE')} IS NOT NULL AS has_{figure}")
        else:
            first.append(f"{coalesced([v.text for v in found])} IS NOT NULL AS has_{figure}")
    plain, texts = ("model", "request_id", "kind"), ("prompt", "response")
    first += [f"{coalesced([v.text for v in values.get(figure, ())])} AS {figure}" for figure in plain]
    first += [f"{coalesced([v.words for v in values.get(figure, ())])} AS {figure}" for figure in texts]
    first += [f"{_left_out(schema, values, side)} AS n_added_{side}_tokens" for side in ("input", "output")]
    first.append(f"{failed(schema, values, error_logged=error_logged)} AS failed")
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

    def token(figure: str) -> str:
        return f"CAST(CASE WHEN n_{figure} BETWEEN 0 AND {MOST_TOKENS} THEN n_{figure} END AS BIGINT)"

    def whole(side: str) -> str:
        if not has.get(f"added_{side}_tokens"):
            return token(f"{side}_tokens")
        return f"{token(f'{side}_tokens')} + {token(f'added_{side}_tokens')}"

    prompt = _readable("prompt") if has.get("prompt") else "prompt"
    response = _readable("response") if has.get("response") else "response"
    out = {
        "at": '"at"',
        "input_tokens": whole("input"),
        "output_tokens": whole("output"),
        "cached_tokens": token("cached_tokens"),
        "reasoning_tokens": token("reasoning_tokens"),
        "model": "model",
        "request_id": "request_id",
        "failed": "failed",
        "cost_usd": "n_cost_usd",
        "prompt": prompt,
        "response": f"CASE WHEN NOT has_output_tokens THEN {response} END",
        "requests": token("requests"),
        "need": "need",
        "zone": "zone",
        "place": "place",
        "reason": "reason",
        "raw": "CASE WHEN reason IS NOT NULL THEN whole END",
    }
    return (
        f"SELECT {', '.join(f'{sql} AS {name(column)}' for column, sql in out.items())} FROM ("
        f"SELECT *, {_reason(schema, json=json, counts=is_counts)} AS reason FROM ("
        f'SELECT *, {at_sql} AS "at", {needs} AS need FROM ('
        f"SELECT *, {zone_sql} AS zone FROM (SELECT *, {tail} AS tail FROM ("
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
        return f'SELECT {at} AS "at", {get("requests", "BIGINT")} AS requests FROM {source}'
    prompt = coalesced([v.words for v in values.get("prompt", ())])
    prompt = _readable(prompt) if values.get("prompt") else prompt
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
        code = value.number if value.is_number else f"TRY_CAST({text} AS DOUBLE)"
        by_number = f"WHEN {code} >= 400 THEN true WHEN {code} >= 100 THEN false " + (
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
            f"WHEN {text} IN ({words(_FAILED)}) OR {text} LIKE '%error' THEN true "
            f"WHEN {text} IN ({words(_WELL)}) OR {text} LIKE '%ok' THEN false END"
        )
    errors = coalesced([v.text for v in values.get("error", ())])
    if values.get("error"):
        empty = "false" if error_logged else "NULL"
        wrong = f"lower({errors}) NOT IN ({words(_NO_ERROR)})"
        status = f"coalesce({', '.join(said)}, {empty})" if said else empty
        return f"CASE WHEN {wrong} THEN true ELSE {status} END"
    return f"coalesce({', '.join(said)})" if said else "CAST(NULL AS BOOLEAN)"


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


def words(listed: Iterable[str]) -> str:
    """Strings as the inside of an SQL list."""
    return ", ".join(quote(word) for word in listed)


def coalesced(found: list[str], type: str = "VARCHAR") -> str:
    """The first of several expressions that is not NULL."""
    if not found:
        return f"CAST(NULL AS {type})"
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _readable(text: str) -> str:
    """The words of a prompt: of a list of messages their contents, one below the other; other text as it is.

    NULL where all that is left of them is that they were taken out.
    """
    parts = f"json_extract_string({text}, '$[*].content')"
    readable = (
        f"CASE WHEN {text}[1] = '[' AND json_valid({text}) "
        f"THEN coalesce(nullif(array_to_string({parts}, chr(10)), ''), {text}) ELSE {text} END"
    )
    return reduce(lambda sql, word: f"nullif({sql}, {quote(word)})", _REDACTED, readable)


def _reason(schema: Schema, *, json: bool, counts: bool) -> str:
    cases: list[tuple[str, str]] = []
    if json:
        cases.append(("document IS NULL", NOT_JSON))
        cases.append(("t IS NULL AND json_type(document) <> 'OBJECT'", NOT_AN_OBJECT))
    if schema.requests:
        known = words(sorted(schema.requests))
        cases.append((f"kind IS NOT NULL AND lower(kind) NOT IN ({known})", NOT_A_REQUEST))
        cases.append(("kind IS NULL AND NOT has_input_tokens AND model IS NULL", NOT_A_REQUEST))
    cases += [
        ("t IS NULL AND failed", FAILED_WITHOUT_TIME),
        ("t IS NULL", TIME_MISSING),
        ('"at" IS NULL', TIME_UNREADABLE),
        (f"\"at\" < TIMESTAMP '{FIRST_YEAR}-01-01' OR \"at\" >= TIMESTAMP '{LAST_YEAR}-01-01'", TIME_OUT_OF_RANGE),
    ]
    if counts:
        return _case([*cases, ("NOT has_requests", "requests is missing"), *_number_cases("requests")])
    for figure in ("input_tokens", "output_tokens"):
        cases.append((f"NOT has_{figure} AND NOT need AND NOT coalesce(failed, false)", f"{figure} is missing"))
        cases += _number_cases(figure)
    for figure in ("cached_tokens", "reasoning_tokens"):
        cases += _number_cases(figure)
    for side in ("input", "output"):
        n = f"n_added_{side}_tokens"
        cases.append((f"{n} < 0", f"tokens left out of {side}_tokens are negative"))
        cases.append((f"{n} > {MOST_TOKENS}", f"tokens left out of {side}_tokens are above {MOST_TOKENS:,}"))
    cases.append(("n_cached_tokens > n_input_tokens + n_added_input_tokens", "cached_tokens exceed input_tokens"))
    cases.append(("has_cost_usd AND (n_cost_usd IS NULL OR NOT isfinite(n_cost_usd))", "cost_usd is not a number"))
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
