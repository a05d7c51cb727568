"""How one log is to be read: its schema, and the SQL expressions over its lines or columns that hold its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from distillcalc.errors import InputError
from distillcalc.workload.logs import expressions as sql
from distillcalc.workload.logs.schemas import (
    FIELDS,
    Columns,
    Schema,
    UnknownSchema,
    flatten,
    from_mapping,
    no_figure,
    norm,
    recognise,
    unknown_schema,
)
from distillcalc.workload.logs.sources import Source, head_lines
from distillcalc.workload.logs.wording import quote, words

if TYPE_CHECKING:
    import duckdb

LONGEST_LINE = 16 << 20
LONGEST_OBJECT = 64 << 20  # tried where that is not enough: DuckDB takes buffers of twice the size, several a thread
LONGEST_DOCUMENT = 256 << 20
SAMPLE_ROWS = 1_000

_NULLS = ("", "NULL", "null", "None", "NaN", "nan", "N/A", r"\N")  # what databases and pandas write


@dataclass(frozen=True)
class Plan:
    """How one source is read: its schema and the expressions of its figures."""

    source: Source
    schema: Schema
    values: dict[str, tuple[sql.Value, ...]]
    table: str
    error_logged: bool
    typed: bool = False
    several_a_line: bool = False


class Planner:
    """Finds how each source is read."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str] | None) -> None:
        """Take a user's mapping; figures that it maps to nothing are not read.

        Raises
        ------
        InputError
            If it maps to nothing what is no figure.
        """
        self.connection = connection
        self.columns = {figure: key for figure, key in (columns or {}).items() if key}
        self.left_out = set(columns or {}) - set(self.columns)
        if unknown := self.left_out - set(FIELDS):
            raise no_figure(min(unknown))

    def plan(self, source: Source, number: int) -> Plan:
        """Find the schema of a source and the expressions that read it."""
        return self.without(self._whole_plan(source, number))

    def without(self, plan: Plan) -> Plan:
        """A plan without the figures that are not to be read."""
        values = {figure: found for figure, found in plan.values.items() if figure not in self.left_out}
        paths = {figure: found for figure, found in plan.schema.paths.items() if figure not in self.left_out}
        return replace(plan, schema=replace(plan.schema, paths=paths), values=values)

    def _whole_plan(self, source: Source, number: int) -> Plan:
        if source.wrapped and self._are_requests(objects(head_lines(source, 50))):
            source = replace(source, wrapped="", array=False)
        if source.format == "jsonl":
            samples = _json_samples(source)
            if any("resourceSpans" in sample for sample in samples):
                spans = [span for sample in samples for span in _otlp_spans(sample)]
                return self.otlp_plan(source, self.json_schema(spans, source.name), spans)
            return self.json_plan(source, self.json_schema(samples, source.name), samples)
        table = self.table_of(source, number)
        described = self.described(source, table)
        types = {str(row[0]): str(row[1]) for row in described}
        columns = self.table_columns(source, table, types)
        if self.columns:
            schema = from_mapping(self.columns, columns, source.name, all_keys=False)
        else:
            found = recognise(columns, all_keys=False)
            if found is None:
                raise unknown_schema(columns, source.name)
            schema = found
        values = {
            figure: tuple(sql.column_value(path, types) for path in paths) for figure, paths in schema.paths.items()
        }
        typed = source.format in ("parquet", "frame") and sql.is_typed(values)
        return Plan(source, schema, values, table, error_logged="error" in schema.paths, typed=typed)

    def _are_requests(self, samples: list[Any]) -> bool:
        """Whether objects are requests themselves, whatever lists they hold."""
        found = 0
        for columns in map(flatten, samples):
            mapped = any(norm(key) in columns for key in self.columns.values())
            found += mapped or recognise(columns, all_keys=True) is not None
        return 2 * found > len(samples)

    def json_plan(self, source: Source, schema: Schema, samples: list[Any]) -> Plan:
        """Expressions over the list of all values that the schema may need, so each line is parsed once for them."""
        paths = list(dict.fromkeys(path for found in schema.paths.values() for path in found))
        listed = ", ".join(quote(sql.json_path(path)) for path in paths)
        table = f"(SELECT json, json_extract_string(json, [{listed}]) AS x FROM {json_scan(source)})"
        at = {path: i + 1 for i, path in enumerate(paths)}
        values = {
            figure: tuple(
                sql.Value(f"x[{at[path]}]", nested=f"json_type(json, {quote(sql.json_path(path))}) = 'OBJECT'")
                for path in found
            )
            for figure, found in schema.paths.items()
        }
        columns = _json_columns(samples)
        errors = {norm(".".join(path)) for path in schema.paths.get("error", ())}
        # Bedrock leaves the code out where there is no error.
        error_logged = bool(errors & set(columns)) or schema.name == "bedrock-invocations"
        return Plan(source, schema, values, table, error_logged=error_logged)

    def otlp_plan(self, source: Source, schema: Schema, spans: list[Any]) -> Plan:
        """As :meth:`json_plan` for OTLP JSON: many spans a line, their attributes a list of keys and values."""
        paths = list(dict.fromkeys(path for found in schema.paths.values() for path in found))
        listed = ", ".join(quote(sql.json_path(path)) for path in paths)
        typed = ", ".join(f"a ->> '$.value.{kind}Value'" for kind in ("string", "int", "double", "bool"))
        table = (
            f"(SELECT place, json, json_extract_string(json, [{listed}]) AS x, "
            f"[a ->> '$.key' FOR a IN listed] AS keys, [coalesce({typed}) FOR a IN listed] AS attributes FROM ("
            "SELECT place, json, json_extract(json, '$.attributes[*]') AS listed FROM ("
            "SELECT place, unnest(CASE WHEN len(spans) > 0 THEN spans ELSE [json] END) AS json FROM ("
            "SELECT row_number() OVER () - 1 AS place, json, "
            f"json_extract(json, '$.resourceSpans[*].scopeSpans[*].spans[*]') AS spans FROM {json_scan(source)}))))"
        )
        values = {
            figure: tuple(
                sql.Value(
                    f"attributes[list_position(keys, {quote('.'.join(path[1:]))})]"
                    if path[0] == "attributes"
                    else f"x[{paths.index(path) + 1}]"
                )
                for path in found
            )
            for figure, found in schema.paths.items()
        }
        seen = _json_columns(spans)
        error_logged = any(norm(".".join(path)) in seen for path in schema.paths.get("error", ()))
        return Plan(source, schema, values, table, error_logged=error_logged, several_a_line=True)

    def json_schema(self, samples: list[Any], name: str) -> Schema:
        """The schema of JSON lines, or the sum of several where the lines differ."""
        columns = _json_columns(samples)
        if self.columns:
            return from_mapping(self.columns, columns, name, all_keys=True)
        found: dict[str, Schema] = {}
        for keys in distinct_keys(samples):
            schema = recognise(keys, all_keys=True)
            if schema is not None and schema.name not in found:
                found[schema.name] = recognise(_only(columns, schema), all_keys=True) or schema
        if len(found) > 1 and "plain" in found:
            found["plain"] = found.pop("plain")  # the least certain last
        kinds = {schema.kind for schema in found.values()}
        if len(kinds) > 1:
            found = {name: schema for name, schema in found.items() if schema.kind == "requests"}
        if found:
            return reduce(lambda a, b: a + b, found.values())
        whole = recognise(columns, all_keys=True)
        if whole is None:
            if not samples:
                raise UnknownSchema(f"{name} has no line that is a JSON object")
            raise unknown_schema(columns, name)
        return whole

    def table_of(self, source: Source, number: int) -> str:
        """The FROM item of a table."""
        if source.format == "frame":
            self.connection.register(f"frame_{number}", source.frame)
            return f"frame_{number}"
        if source.format == "parquet":
            return f"read_parquet({quote(str(source.path))})"
        header = csv_header(source)
        listed = ", ".join(f"{quote(column)}: 'VARCHAR'" for column in header)
        quoting = "'\"'" if source.quoted else "''"
        return (
            f"read_csv({quote(str(source.path))}, auto_detect=false, header=true, columns={{{listed}}}, "
            f"delim={quote(source.delimiter)}, quote={quoting}, escape={quoting}, "
            f"compression={quote(source.compression)}, max_line_size={LONGEST_LINE}, "
            f"buffer_size={2 * LONGEST_LINE}, nullstr=[{words(_NULLS)}], store_rejects=true, "
            "rejects_table='csv_errors', rejects_scan='csv_scans', rejects_line_size_limit=100000)"
        )

    def described(self, source: Source, table: str) -> list[Any]:
        """Columns and types of a table."""
        import duckdb

        try:
            return self.connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
        except duckdb.Error as error:
            raise InputError(
                f"{source.name} cannot be read as {source.format}; it may be cut or damaged: {first_line(error)}"
            ) from error

    def table_columns(self, source: Source, table: str, types: dict[str, str]) -> Columns:
        """The columns of a table, and the keys inside those that hold structs or JSON."""
        if source.format == "csv":
            values: list[dict[str, Any]] = _csv_samples(source, list(types))
        else:
            texts = ", ".join(
                f"CAST({sql.name(c)} AS VARCHAR) AS {sql.name(c)}"
                if kind == "VARCHAR"
                else f"CAST(to_json({sql.name(c)}) AS VARCHAR)"
                for c, kind in types.items()
                if kind == "VARCHAR" or not sql.is_plain(kind)
            )
            names = [c for c, kind in types.items() if kind == "VARCHAR" or not sql.is_plain(kind)]
            rows = self.connection.execute(f"SELECT {texts} FROM {table} LIMIT 200").fetchall() if names else []
            values = [dict(zip(names, row, strict=True)) for row in rows]
        columns: Columns = {norm(column): (column,) for column in types}
        for row in values:
            inside = flatten({key: text for key, text in row.items() if isinstance(text, str) and text[:1] in "{["})
            columns |= {key: path for key, path in inside.items() if len(path) > 1 and key not in columns}
        return columns


def select(plan: Plan, time_zone: str) -> str:
    """The SELECT that reads and checks every row of a source."""
    is_json = plan.source.format == "jsonl"
    raw = "CAST(json AS VARCHAR)" if is_json else "NULL"
    table = plan.table
    if plan.source.format in ("parquet", "frame"):
        raw, table = "CAST(to_json(whole_row) AS VARCHAR)", f"{plan.table} AS whole_row"
    return sql.rows(
        plan.schema,
        plan.values,
        table,
        zone=time_zone,
        raw=raw,
        json=is_json,
        error_logged=plan.error_logged,
        place="place" if plan.several_a_line else "CAST(NULL AS BIGINT)",
    )


def out_of_memory(error: Exception, memory_limit: str) -> InputError:
    """What to say where DuckDB had too little memory: what was parsed of a few thousand lines is held."""
    return InputError(
        f"memory_limit {memory_limit} is too small for these logs ({first_line(error)}). Tables need 128MiB or so, "
        "JSON 512MiB, and with prompts of 100 kB and more several GiB: raise it, or set threads=1"
    )


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error).splitlines()[0]


def _json_samples(source: Source) -> list[Any]:
    """The first objects of a JSON log."""
    if not source.array:
        return objects(head_lines(source, SAMPLE_ROWS))
    assert source.path is not None
    import duckdb

    try:
        rows = duckdb.execute(f"SELECT json FROM {json_scan(source)} LIMIT {SAMPLE_ROWS}").fetchall()
    except duckdb.Error as error:
        raise InputError(f"{source.name} is not a valid JSON array: {first_line(error)}") from error
    return objects(text for (text,) in rows)


def json_scan(source: Source) -> str:
    """The FROM item of a JSON log: a column ``json``, NULL where a line is not valid JSON. Blank lines are no rows."""
    if source.wrapped:
        # There may be one page as large as the file, which is unpacked some twentyfold at most.
        assert source.path is not None
        largest = source.path.stat().st_size * (1 if source.compression == "none" else 20)
        key = f"$.{source.wrapped}"
        size = min(max(LONGEST_LINE, largest), LONGEST_DOCUMENT)
        return (
            f"(SELECT unnest(CASE WHEN len(items) = 0 AND json_type(json, '{key}') IS DISTINCT FROM 'ARRAY' "
            f"THEN [json] ELSE items END) AS json FROM (SELECT json, json_extract(json, '{key}[*]') AS items "
            f"FROM read_json_objects({quote(str(source.path))}, format='unstructured', "
            f"compression={quote(source.compression)}, maximum_object_size={size})))"
        )
    reader = "read_json_objects" if source.array else "read_ndjson_objects"
    options = "format='array'" if source.array else "ignore_errors=true"
    return (
        f"{reader}({quote(str(source.path))}, {options}, compression={quote(source.compression)}, "
        f"maximum_object_size={LONGEST_LINE})"
    )


def _otlp_spans(line: Any) -> list[Any]:
    """The spans of a line of OTLP JSON, their attributes by key."""
    try:
        return [
            {**span, "attributes": {one["key"]: 0 for one in span.get("attributes", [])}}
            for resource in line.get("resourceSpans", [])
            for scope in resource.get("scopeSpans", [])
            for span in scope.get("spans", [])
        ]
    except (AttributeError, KeyError, TypeError):
        return []


def objects(lines: Any) -> list[Any]:
    """The JSON objects among lines."""
    found = []
    for line in lines:
        try:
            value = json.loads(line) if line else None
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _json_columns(samples: list[Any]) -> Columns:
    columns: Columns = {}
    for sample in samples:
        columns |= {key: path for key, path in flatten(sample).items() if key not in columns}
    return columns


def distinct_keys(samples: list[Any]) -> list[Columns]:
    """The sets of keys that occur, most frequent first."""
    found: dict[frozenset[str], list[Any]] = {}
    for sample in samples:
        keys = flatten(sample)
        entry = found.setdefault(frozenset(keys), [0, keys])
        entry[0] += 1
    return [keys for _, keys in sorted(found.values(), key=lambda entry: -entry[0])]


def _only(columns: Columns, schema: Schema) -> Columns:
    """The columns that a schema knows."""
    known = {norm(key) for keys in (*schema.fields.values(), *schema.signs) for key in keys}
    return {key: path for key, path in columns.items() if key in known}


def csv_header(source: Source) -> list[str]:
    """The column names of a CSV, each made unique."""
    import csv

    line = head_lines(source, 1)[0]
    names = next(csv.reader([line], delimiter=source.delimiter)) if source.quoted else line.split(source.delimiter)
    unique: list[str] = []
    for i, column in enumerate(names):
        bare = column.strip() or f"column_{i + 1}"
        taken = {one.lower() for one in unique}
        unique.append(bare if bare.lower() not in taken else f"{bare}_{i + 1}")
    return unique


def _csv_samples(source: Source, columns: list[str]) -> list[dict[str, Any]]:
    import csv

    lines = head_lines(source, 200)[1:]
    rows: list[list[str]] = []
    try:
        rows = list(
            csv.reader(
                lines, delimiter=source.delimiter, quoting=csv.QUOTE_MINIMAL if source.quoted else csv.QUOTE_NONE
            )
        )
    except csv.Error:
        return []
    return [dict(zip(columns, row, strict=False)) for row in rows]
