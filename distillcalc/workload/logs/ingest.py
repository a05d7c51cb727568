"""Logs of any known format as one relation in DuckDB, out of core; every row read is used or rejected with a reason.

A clean typed table (Parquet, DataFrame) is read where it lies, through a view. Everything else is staged once, row by
row with the reason why it cannot be used, in a database in a temporary folder that goes when the result is closed.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import tempfile
import weakref
import zoneinfo
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distillcalc.errors import InputError
from distillcalc.workload.logs import expressions as sql
from distillcalc.workload.logs.schemas import Columns, Schema, flatten, from_mapping, norm, recognise, unknown_schema
from distillcalc.workload.logs.sources import Paths, Source, find_sources, head_lines, open_lines
from distillcalc.workload.logs.tokens import BATCH, Tokenizer, how_to_give_one, token_counter

if TYPE_CHECKING:
    import duckdb

LONGEST_LINE = 16 << 20
EXCERPT = 200
SAMPLE_ROWS = 1_000

_CSV_ERRORS = {
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "UNQUOTED VALUE": "a quote that is not closed",
    "LINE SIZE OVER MAXIMUM": f"longer than {LONGEST_LINE >> 20} MiB",
    "INVALID ENCODING": "not UTF-8",
}
_NULLS = ("", "NULL", "null", "None", "NaN", "nan", "N/A", r"\N")  # what databases and pandas write
_CUT = "cut off by the end of a damaged file"


@dataclass(frozen=True, eq=False)
class Ingested:
    """Logs as one relation, with what became of every row.

    Parameters
    ----------
    connection : DuckDB with ``requests`` (or ``counts``, see ``kind``); closed by :meth:`close`
    schema : the schemas found, joined by ``" + "``
    kind : ``"requests"``: a relation ``requests`` with the columns of
        :data:`distillcalc.workload.logs.expressions.COLUMNS`, ``at`` in UTC. Unknown is NULL; only of a failed request
        may the tokens be unknown. ``"counts"``: a relation ``counts(at, requests)``
    rows_read, rows_used, rows_rejected : the first is always the sum of the others. Blank lines are no rows
    reject_reasons : rows by reason, most first
    rejects_file : JSONL with ``file``, ``line``, ``reason`` and ``text``; ``None`` where nothing was rejected
    notes : what a reader should know of the log, as sentences
    token_source : ``"counted"`` where tokens of some rows were counted from their texts
    """

    connection: duckdb.DuckDBPyConnection
    schema: str
    kind: Literal["requests", "counts"]
    rows_read: int
    rows_used: int
    rows_rejected: int
    reject_reasons: dict[str, int]
    rejects_file: Path | None
    notes: list[str]
    token_source: Literal["logged", "counted"]
    sources: tuple[Source, ...] = field(default=(), repr=False)
    folder: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """See to it that what was staged goes, even where nobody closes."""
        if self.folder is not None:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def close(self) -> None:
        """Close the connection and delete everything that was staged, texts included."""
        self.connection.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Ingested:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ingest(
    paths: Paths,
    *,
    columns: Mapping[str, str] | None = None,
    memory_limit: str = "1GiB",
    threads: int | None = None,
    max_rejected_share: float = 0.01,
    rejects: str | os.PathLike[str] | None = None,
    time_zone: str = "UTC",
    tokenizer: Tokenizer | None = None,
) -> Ingested:
    """Read request logs of any known format and schema into one relation.

    Parameters
    ----------
    paths : a file, folder, glob or DataFrame, or several
    columns : which column or dotted key holds which figure, ``{"at": "when", "input_tokens": "usage.in"}``; figures are
        those of :data:`distillcalc.workload.logs.schemas.FIELDS`
    memory_limit : what DuckDB may take; beyond it, it works on disk in the temporary folder
    threads : how many; ``None``: as many as there are cores
    max_rejected_share : above this share of rejected rows, in 0..1, nothing is returned. Rows that are no requests
        (spans of other kinds) do not count towards it
    rejects : where to write the rejected rows; ``None``: into the temporary folder
    time_zone : of times written without one, such as ``"Europe/Berlin"``
    tokenizer : counts tokens where the log has only texts: a local ``tokenizer.json``, the name of a tiktoken encoding
        in its cache, or a tiktoken Encoding. ``None``: ``o200k_base`` if tiktoken has it cached

    Raises
    ------
    InputError
        If there is no log, a schema is unknown, too many rows are rejected, none is left, or tokens cannot be counted.
    """
    import duckdb

    if not 0 <= max_rejected_share <= 1:
        raise InputError(f"max_rejected_share must be between 0 and 1. Got {max_rejected_share}")
    _check_zone(time_zone)
    sources, notes = find_sources(paths)
    folder = Path(tempfile.mkdtemp(prefix="distillcalc-logs-"))
    connection = None
    try:
        connection = duckdb.connect(str(folder / "logs.duckdb"))
        _configure(connection, str(folder), memory_limit, threads)
        reader = _Reader(connection, folder, columns, time_zone, max_rejected_share, notes)
        return reader.read(sources, Path(rejects) if rejects is not None else None, tokenizer)
    except BaseException as error:
        if connection is not None:
            connection.close()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, duckdb.Error):
            raise InputError(f"the logs cannot be read: {_first_line(error)}") from error
        raise


def _check_zone(time_zone: str) -> None:
    try:
        zoneinfo.ZoneInfo(time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"time_zone must be a name of the IANA database such as 'Europe/Berlin' or 'UTC'. Got {time_zone!r}"
        ) from error


def _configure(connection: duckdb.DuckDBPyConnection, folder: str, memory_limit: str, threads: int | None) -> None:
    import duckdb

    try:
        connection.execute(f"SET memory_limit = {sql.quote(memory_limit)}")
    except duckdb.Error as error:
        raise InputError(f"memory_limit must be a size such as '1GiB'. Got {memory_limit!r}") from error
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads must be at least 1. Got {threads}")
        connection.execute(f"SET threads = {int(threads)}")
    connection.execute(f"SET temp_directory = {sql.quote(folder)}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")


@dataclass(frozen=True)
class _Plan:
    """How one source is read: its schema and the expressions of its figures."""

    source: Source
    schema: Schema
    values: dict[str, tuple[sql.Value, ...]]
    table: str
    error_logged: bool
    typed: bool = False
    several_a_line: bool = False


class _Reader:
    """One run of :func:`ingest`: stages the sources, then settles what becomes of every row."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
        columns: Mapping[str, str] | None,
        time_zone: str,
        max_rejected_share: float,
        notes: list[str],
    ) -> None:
        self.connection, self.folder, self.columns, self.time_zone = connection, folder, columns, time_zone
        self.max_rejected_share, self.notes = max_rejected_share, notes
        self.read_as: dict[int, Source] = {}  # what each part of the staged rows was read from
        self.staged, self.parts = False, 0

    def read(
        self,
        sources: list[Source],
        rejects: Path | None,
        tokenizer: Tokenizer | None,
    ) -> Ingested:
        """Read all sources; see :func:`ingest`."""
        plans = [self.plan(source, i) for i, source in enumerate(sources)]
        kinds = {plan.schema.kind for plan in plans}
        if len(kinds) > 1:
            by = {plan.schema.kind: plan.source.name for plan in plans}
            raise InputError(
                f"{by['counts']} holds counts per period and {by['requests']} holds requests: read them separately"
            )
        kind = plans[0].schema.kind
        clean = self.clean_tables(plans)
        if clean is None:
            plans = self.stage(plans)
            counted = self.count_tokens(tokenizer)
            self.reject_duplicates()
            reasons, used = self.settle()
        else:
            counted, reasons, used = 0, {}, clean
        rejected = sum(reasons.values())
        rejects_file = (
            self.write_rejects(rejects) if rejected and self.is_worth_writing(reasons, used, rejects) else None
        )
        self.stop_if_too_many(reasons, used, rejects_file if rejects is not None else None)
        self.publish(plans, kind)
        self.note_clocks(kind)
        names = dict.fromkeys(part for plan in plans for part in plan.schema.name.split(" + "))
        if len(names) > 1:
            self.notes.append(f"the logs mix schemas: {', '.join(names)}")
        return Ingested(
            connection=self.connection,
            schema=" + ".join(names),
            kind=kind,
            rows_read=used + rejected,
            rows_used=used,
            rows_rejected=rejected,
            reject_reasons=reasons,
            rejects_file=rejects_file,
            notes=self.notes,
            token_source="counted" if counted else "logged",
            sources=tuple(sources),
            folder=self.folder,
        )

    # How a source is read

    def plan(self, source: Source, number: int) -> _Plan:
        """Find the schema of a source and the expressions that read it."""
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
        return _Plan(source, schema, values, table, error_logged="error" in schema.paths, typed=typed)

    def json_plan(self, source: Source, schema: Schema, samples: list[Any]) -> _Plan:
        """Expressions over the list of all values that the schema may need, so each line is parsed once for them."""
        paths = list(dict.fromkeys(path for found in schema.paths.values() for path in found))
        listed = ", ".join(sql.quote(sql.json_path(path)) for path in paths)
        table = f"(SELECT json, json_extract_string(json, [{listed}]) AS x FROM {_json_scan(source)})"
        at = {path: i + 1 for i, path in enumerate(paths)}
        values = {f: tuple(sql.Value(f"x[{at[path]}]") for path in found) for f, found in schema.paths.items()}
        columns = _json_columns(samples)
        errors = {norm(".".join(path)) for path in schema.paths.get("error", ())}
        return _Plan(source, schema, values, table, error_logged=bool(errors & set(columns)))

    def otlp_plan(self, source: Source, schema: Schema, spans: list[Any]) -> _Plan:
        """As :meth:`json_plan` for OTLP JSON: many spans a line, their attributes a list of keys and values."""
        paths = list(dict.fromkeys(path for found in schema.paths.values() for path in found))
        listed = ", ".join(sql.quote(sql.json_path(path)) for path in paths)
        typed = ", ".join(f"a ->> '$.value.{kind}Value'" for kind in ("string", "int", "double", "bool"))
        table = (
            f"(SELECT place, json, json_extract_string(json, [{listed}]) AS x, "
            f"[a ->> '$.key' FOR a IN listed] AS keys, [coalesce({typed}) FOR a IN listed] AS attributes FROM ("
            "SELECT place, json, json_extract(json, '$.attributes[*]') AS listed FROM ("
            "SELECT place, unnest(CASE WHEN len(spans) > 0 THEN spans ELSE [json] END) AS json FROM ("
            "SELECT row_number() OVER () - 1 AS place, json, "
            f"json_extract(json, '$.resourceSpans[*].scopeSpans[*].spans[*]') AS spans FROM {_json_scan(source)}))))"
        )
        values = {
            figure: tuple(
                sql.Value(
                    f"attributes[list_position(keys, {sql.quote('.'.join(path[1:]))})]"
                    if path[0] == "attributes"
                    else f"x[{paths.index(path) + 1}]"
                )
                for path in found
            )
            for figure, found in schema.paths.items()
        }
        seen = _json_columns(spans)
        error_logged = any(norm(".".join(path)) in seen for path in schema.paths.get("error", ()))
        return _Plan(source, schema, values, table, error_logged=error_logged, several_a_line=True)

    def json_schema(self, samples: list[Any], name: str) -> Schema:
        """The schema of JSON lines, or the sum of several where the lines differ."""
        columns = _json_columns(samples)
        if self.columns:
            return from_mapping(self.columns, columns, name, all_keys=True)
        found: dict[str, Schema] = {}
        for keys in _distinct_keys(samples):
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
                raise InputError(f"{name} has no line that is a JSON object")
            raise unknown_schema(columns, name)
        return whole

    def table_of(self, source: Source, number: int) -> str:
        """The FROM item of a table."""
        if source.format == "frame":
            self.connection.register(f"frame_{number}", source.frame)
            return f"frame_{number}"
        if source.format == "parquet":
            return f"read_parquet({sql.quote(str(source.path))})"
        header = _csv_header(source)
        listed = ", ".join(f"{sql.quote(column)}: 'VARCHAR'" for column in header)
        quoting = "'\"'" if source.quoted else "''"
        return (
            f"read_csv({sql.quote(str(source.path))}, auto_detect=false, header=true, columns={{{listed}}}, "
            f"delim={sql.quote(source.delimiter)}, quote={quoting}, escape={quoting}, "
            f"compression={sql.quote(source.compression)}, max_line_size={LONGEST_LINE}, "
            f"buffer_size={2 * LONGEST_LINE}, nullstr=[{sql.words(_NULLS)}], store_rejects=true, "
            "rejects_table='csv_errors', rejects_scan='csv_scans', rejects_line_size_limit=100000)"
        )

    def described(self, source: Source, table: str) -> list[Any]:
        """Columns and types of a table."""
        import duckdb

        try:
            return self.connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
        except duckdb.Error as error:
            raise InputError(
                f"{source.name} cannot be read as {source.format}; it may be cut or damaged: {_first_line(error)}"
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

    # Tables that are read where they lie

    def clean_tables(self, plans: list[_Plan]) -> int | None:
        """The number of rows if every source is a typed table in which nothing is wrong, else ``None``."""
        if not all(plan.typed for plan in plans):
            return None
        total = 0
        for plan in plans:
            checked = self.select(plan)
            rows, used, needed = self.one(
                f"SELECT count(*), count(*) FILTER (reason IS NULL), count(*) FILTER (need) FROM ({checked})"
            )
            if used < rows or needed or not rows:
                return None
            total += int(rows)
        if any("request_id" in plan.values for plan in plans):
            ids = " UNION ALL ".join(
                f"SELECT {sql.coalesced([v.text for v in plan.values['request_id']])} AS id FROM {plan.table}"
                for plan in plans
                if "request_id" in plan.values
            )
            given, distinct = self.one(
                "SELECT count(id), count(DISTINCT md5_number_lower(CAST(id AS VARCHAR))) FILTER (id IS NOT NULL) "
                f"FROM ({ids})"
            )
            if distinct < given:
                return None
        return total

    # Staging

    def select(self, plan: _Plan) -> str:
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
            zone=self.time_zone,
            raw=raw,
            json=is_json,
            error_logged=plan.error_logged,
            place="place" if plan.several_a_line else "CAST(NULL AS BIGINT)",
        )

    def stage(self, plans: list[_Plan]) -> list[_Plan]:
        """Read every source into the table ``staged``; returns the plans as they were at last read."""
        self.staged = True
        self.connection.execute(
            f"CREATE TABLE staged AS SELECT 0::INTEGER AS part, * FROM ({self.select(plans[0])}) LIMIT 0"
        )
        self.connection.execute(
            "CREATE TABLE broken (part INTEGER, record BIGINT, lines BIGINT, reason VARCHAR, text VARCHAR)"
        )
        done = []
        for plan in plans:
            self.stage_one(plan)
            if plan.source.format == "jsonl" and not plan.several_a_line and not self.columns:
                done.append(self.widen(plan))
            elif plan.source.quoted:
                self.mend(plan)
                done.append(self.without_quotes(plan))
            else:
                done.append(plan)
        return done

    def stage_one(self, plan: _Plan, *, mend: bool = False) -> int:
        """Read one source, a damaged one unpacked as far as it goes; returns the number of the part that it became."""
        import duckdb

        part = self.parts
        self.parts += 1
        insert = f"INSERT INTO staged SELECT {part} AS part, * FROM ({self.select(plan)})"
        try:
            if mend or (plan.source.bom and plan.source.format == "jsonl"):
                raise duckdb.InvalidInputException("to be read from a copy")
            self.connection.execute(insert)
            self.read_as[part] = plan.source
        except duckdb.Error as error:
            self.forget_csv_errors(plan)
            if (
                plan.source.format not in ("csv", "jsonl")
                or plan.source.array
                or isinstance(error, duckdb.OutOfMemoryException)
            ):
                raise InputError(
                    f"{plan.source.name} cannot be read as {plan.source.format}: {_first_line(error)}"
                ) from error
            copy, cut = self.unpack(plan.source, part, mend=mend)
            table = plan.table.replace(sql.quote(str(plan.source.path)), sql.quote(str(copy.path)))
            table = table.replace(f"compression={sql.quote(plan.source.compression)}", "compression='none'")
            self.connection.execute(
                f"INSERT INTO staged SELECT {part} AS part, * FROM ({self.select(replace(plan, table=table))})"
            )
            self.read_as[part] = plan.source
            if cut is not None:
                record, text = cut
                self.connection.execute("INSERT INTO broken VALUES (?, ?, 1, ?, ?)", [part, record, _CUT, text])
        if plan.source.format == "csv":
            self.keep_csv_errors(part)
        if plan.source.cut:
            self.reject_cut_end(part, plan.source)
        return part

    def unpack(self, source: Source, part: int, *, mend: bool) -> tuple[Source, tuple[int, str] | None]:
        """A plain copy of a damaged text log, with its line ends made one kind, and its last line where it is cut.

        The last line of a file that broke off is not in the copy: half a number reads like a whole one.
        """
        copy = self.folder / f"part-{part}.{source.format}"
        number, last, mended = 0, b"", 0
        whole = source.compression != "gzip" or _gzip_is_whole(source)
        with copy.open("wb") as out:
            for line in open_lines(source):
                if number:
                    out.write(last + b"\n")
                last = line.removesuffix(b"\r").replace(b"\r", b" ")
                last = last.removeprefix(b"\xef\xbb\xbf") if not number else last
                number += 1
                if mend and (text := last.decode("utf-8", "replace").encode()) != last:
                    last, mended = text, mended + 1
            if whole:
                out.write(last + b"\n")
        if mended:
            self.notes.append(f"{source.name} has {mended:,} lines that are not UTF-8: read with U+FFFD for such bytes")
        if whole:
            return replace(source, path=copy, compression="none"), None
        self.notes.append(f"{source.name} is cut or damaged: the {number - 1:,} lines that could be unpacked were read")
        return replace(source, path=copy, compression="none"), (number, last.decode("utf-8", "replace")[:EXCERPT])

    def forget_csv_errors(self, plan: _Plan) -> None:
        """Drop what a scan that failed has left behind."""
        if plan.source.format == "csv":
            self.connection.execute("DROP TABLE IF EXISTS csv_errors; DROP TABLE IF EXISTS csv_scans")

    def keep_csv_errors(self, part: int) -> None:
        """Take the records that are not CSV into ``broken``, each of their lines a row: a stray quote swallows lines.

        A line of nothing but spaces is blank, as in JSONL.
        """
        self.connection.execute(
            f"INSERT INTO broken SELECT {part}, line, greatest(1, "
            r"len(regexp_extract_all(text, '[^\n]*[^\s][^\n]*'))), "
            + "CASE "
            + " ".join(f"WHEN error = {sql.quote(e)} THEN {sql.quote(r)}" for e, r in _CSV_ERRORS.items())
            + " ELSE 'not valid CSV: ' || lower(error) END, text FROM ("
            "SELECT line, min(CAST(error_type AS VARCHAR)) AS error, any_value(csv_line) AS text "
            r"FROM csv_errors GROUP BY line) WHERE error <> 'MISSING COLUMNS' OR regexp_matches(text, '[^\s\x0b]')"
        )
        self.connection.execute("DELETE FROM csv_errors; DELETE FROM csv_scans")

    def reject_cut_end(self, part: int, source: Source) -> None:
        """Reject the last record of a cut zstd file, of which nobody knows whether it is whole."""
        self.notes.append(f"{source.name} is cut: what could be unpacked was read")
        if source.format != "csv":
            return  # half an object is no object, and rejected already
        last = b"".join(deque(open_lines(source), maxlen=1)).decode("utf-8", "replace").strip()
        texts = self.connection.execute(f"SELECT text FROM broken WHERE part = {part} ORDER BY record DESC LIMIT 1")
        broken = texts.fetchone()
        if not (last and broken and broken[0].strip().endswith(last)):
            self.connection.execute(
                f"UPDATE staged SET reason = {sql.quote(_CUT)} WHERE reason IS NULL "
                f"AND rowid = (SELECT max(rowid) FROM staged WHERE part = {part})"
            )

    def widen(self, plan: _Plan) -> _Plan:
        """Look at the JSON lines that the schema left over; if they are of another one, read the log by both."""
        part = max(self.read_as)
        left = (sql.TIME_MISSING, "input_tokens is missing", "output_tokens is missing")
        lines = self.connection.execute(
            f"SELECT raw FROM staged WHERE part = {part} AND reason IN ({sql.words(left)}) LIMIT {SAMPLE_ROWS}"
        ).fetchall()
        if not lines:
            return plan
        samples = _objects(line for (line,) in lines)
        found: dict[str, Schema] = {}
        for keys in _distinct_keys(samples):
            schema = recognise(keys, all_keys=True)
            if schema is not None and schema.kind == plan.schema.kind:
                found.setdefault(schema.name, schema)
        both = reduce(lambda a, b: a + b, found.values(), plan.schema)
        if both.paths == plan.schema.paths:
            return plan
        wider = self.json_plan(plan.source, both, samples)
        wider = replace(wider, error_logged=plan.error_logged or wider.error_logged)
        self.stage_one(wider)
        self.drop_part(part)
        return wider

    def mend(self, plan: _Plan) -> None:
        """Read a CSV with quotes again where it is not UTF-8: DuckDB then loses count of its lines."""
        part = max(self.read_as)
        spoilt = sql.quote(_CSV_ERRORS["INVALID ENCODING"])
        if self.one(f"SELECT count(*) FROM broken WHERE part = {part} AND reason = {spoilt}")[0]:
            self.stage_one(plan, mend=True)
            self.drop_part(part)

    def without_quotes(self, plan: _Plan) -> _Plan:
        """Where a stray quote has swallowed lines, read the log once more with quotes as characters.

        It stays if it rejects less than half as many rows.
        """

        def lost(part: int) -> int:
            staged = f"(SELECT count(*) FROM staged WHERE part = {part} AND reason IS NOT NULL)"
            return int(self.one(f"SELECT coalesce(sum(lines), 0) + {staged} FROM broken WHERE part = {part}")[0])

        part = max(self.read_as)
        swallowed = f"SELECT count(*) FROM broken WHERE part = {part} AND lines > 1"
        if not self.one(swallowed)[0]:
            return plan
        source = replace(plan.source, quoted=False)
        header = _csv_header(plan.source)
        if header != _csv_header(source):
            return plan
        bare = replace(plan, source=source, table=self.table_of(source, part))
        again = self.stage_one(bare)
        if 2 * lost(again) < lost(part):
            self.drop_part(part)
            return bare
        self.drop_part(again)
        return plan

    def drop_part(self, part: int) -> None:
        """Forget one reading of a source."""
        self.connection.execute(f"DELETE FROM staged WHERE part = {part}")
        self.connection.execute(f"DELETE FROM broken WHERE part = {part}")
        del self.read_as[part]

    # What becomes of the rows

    def count_tokens(self, tokenizer: Tokenizer | None) -> int:
        """Count the tokens of rows that have only texts; returns how many rows."""
        needed, rows = self.one("SELECT count(*) FILTER (need AND reason IS NULL), count(*) FROM staged")
        if not needed:
            return 0
        threads = int(self.one("SELECT current_setting('threads')")[0])
        counter = token_counter(tokenizer, threads)
        if counter is None:
            if needed > self.max_rejected_share * rows:
                raise InputError(
                    f"{needed:,} of {rows:,} rows have texts but no token counts, and no tokenizer is on this machine. "
                    f"{how_to_give_one()}"
                )
            self.connection.execute(
                f"UPDATE staged SET reason = {sql.quote(sql.NOT_COUNTED)} WHERE need AND reason IS NULL"
            )
            return 0
        count, name = counter
        self.connection.execute("CREATE TABLE counted (row BIGINT, input_tokens BIGINT, output_tokens BIGINT)")
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT rowid, CASE WHEN input_tokens IS NULL THEN prompt END, response FROM staged "
                "WHERE need AND reason IS NULL"
            )
            while batch := cursor.fetchmany(BATCH):
                self.keep_counts(batch, count)
        self.connection.execute(
            "UPDATE staged SET input_tokens = coalesce(staged.input_tokens, counted.input_tokens), "
            "output_tokens = coalesce(staged.output_tokens, counted.output_tokens) "
            "FROM counted WHERE staged.rowid = counted.row"
        )
        self.connection.execute("DROP TABLE counted")
        self.notes.append(f"the tokens of {needed:,} rows were counted from their texts with {name}, on this machine")
        return int(needed)

    def keep_counts(self, batch: list[tuple[Any, ...]], count: Any) -> None:
        """Count one batch of rows and store the counts."""
        import pandas as pd

        texts = [text for row in batch for text in row[1:] if text is not None]
        lengths = iter(count(texts))
        counts = [[row[0], *(next(lengths) if text is not None else None for text in row[1:])] for row in batch]
        frame = pd.DataFrame(counts, columns=["row", "i", "o"]).astype({"i": "Int64", "o": "Int64"})
        self.connection.register("counts_of_batch", frame)
        self.connection.execute("INSERT INTO counted SELECT row, i, o FROM counts_of_batch")
        self.connection.unregister("counts_of_batch")

    def reject_duplicates(self) -> None:
        """Reject every row whose request id an earlier row has."""
        given, distinct = self.one(
            "SELECT count(request_id), count(DISTINCT md5_number_lower(request_id)) FROM staged "
            "WHERE reason IS NULL AND request_id IS NOT NULL"
        )
        if distinct < given:
            self.connection.execute(
                f"UPDATE staged SET reason = {sql.quote(sql.DUPLICATE)} WHERE rowid IN (SELECT id FROM ("
                "SELECT rowid AS id, row_number() OVER (PARTITION BY request_id ORDER BY rowid) AS k FROM staged "
                "WHERE reason IS NULL AND request_id IN (SELECT request_id FROM staged WHERE reason IS NULL "
                "GROUP BY request_id HAVING count(*) > 1)) WHERE k > 1)"
            )

    def settle(self) -> tuple[dict[str, int], int]:
        """Rejected rows by reason, and how many rows are used."""
        reasons = self.connection.execute(
            "SELECT reason, CAST(sum(n) AS BIGINT) AS n FROM (SELECT reason, count(*) AS n FROM staged "
            "WHERE reason IS NOT NULL GROUP BY reason UNION ALL SELECT reason, sum(lines) FROM broken GROUP BY reason) "
            "GROUP BY reason ORDER BY n DESC, reason"
        ).fetchall()
        return dict(reasons), int(self.one("SELECT count(*) FROM staged WHERE reason IS NULL")[0])

    def is_worth_writing(self, reasons: dict[str, int], used: int, rejects: Path | None) -> bool:
        """Whether the rejects are to be written: asked for, or needed beside a result."""
        return rejects is not None or not self.too_many(reasons, used)

    def too_many(self, reasons: dict[str, int], used: int) -> bool:
        """Whether more rows are damaged than may be."""
        damaged = sum(n for reason, n in reasons.items() if reason not in sql.HARMLESS)
        return damaged > self.max_rejected_share * (used + sum(reasons.values()))

    def stop_if_too_many(self, reasons: dict[str, int], used: int, written: Path | None) -> None:
        """Stop if too many rows were rejected, or none is left."""
        rejected = sum(reasons.values())
        if not used + rejected:
            raise InputError("the logs have column names but no row")
        most = "; ".join(f"{n:,}: {reason}" for reason, n in itertools.islice(reasons.items(), 5))
        if used and not self.too_many(reasons, used):
            return
        examples = [
            f"{e['file']} line {e['line']}: {e['reason']}: {e['text'][:80]!r}"
            for e in itertools.islice(self.rejected(), 3)
        ]
        where = f"All of them: {written}" if written else "rejects='rejects.jsonl' writes all of them to a file"
        limit = f"above max_rejected_share {self.max_rejected_share:.3g}" if used else "so none is left"
        raise InputError(
            f"{rejected:,} of {used + rejected:,} rows were rejected ({rejected / (used + rejected):.1%}), {limit}. "
            f"Reasons: {most}. For example: {' | '.join(examples)}. {where}"
        )

    def publish(self, plans: list[_Plan], kind: str) -> None:
        """Make the relation ``requests`` or ``counts``."""
        if not self.staged:
            selects = [
                sql.checked_rows(
                    plan.values,
                    plan.table,
                    zone=self.time_zone,
                    kind=kind,
                    failed=sql.failed(plan.schema, plan.values, error_logged=plan.error_logged),
                )
                for plan in plans
            ]
            # A view of a registered DataFrame has to be temporary.
            temporary = "TEMP" if any(plan.source.format == "frame" for plan in plans) else ""
            self.connection.execute(f"CREATE {temporary} VIEW {kind} AS {' UNION ALL '.join(selects)}")
            return
        if kind == "counts":
            self.connection.execute('CREATE VIEW counts AS SELECT "at", requests FROM staged WHERE reason IS NULL')
            return
        made = {"prompt_hash": "CASE WHEN prompt IS NOT NULL THEN md5_number_lower(prompt) END AS prompt_hash"}
        listed = ", ".join(made.get(column, sql.name(column)) for column in sql.COLUMNS)
        self.connection.execute(f"CREATE VIEW requests AS SELECT {listed} FROM staged WHERE reason IS NULL")

    def note_clocks(self, kind: str) -> None:
        """Note clocks that run backwards, zones that are mixed, and times that have no date."""
        where = (
            '(SELECT part, "at" FROM staged WHERE reason IS NULL)'
            if self.staged
            else f'(SELECT 0 AS part, "at" FROM {kind})'
        )
        back, most = self.one(
            'SELECT count(*), epoch(max(step)) FROM (SELECT lag("at") OVER () - "at" AS step, '
            f"lag(part) OVER () AS before, part FROM {where}) WHERE step > INTERVAL 0 SECOND AND before = part"
        )
        if back:
            self.notes.append(
                f"the clock runs backwards at {back:,} rows, by up to {most:,.3g} s: used, in the order of their times"
            )
        first, last = self.one(f'SELECT CAST(min("at") AS VARCHAR), CAST(max("at") AS VARCHAR) FROM {kind}')
        if last < "1975":
            self.notes.append(
                "times count from the start of the log: hours of the day and days of the week are not known"
            )
        elif first < "2000":
            self.notes.append(f"the earliest request is of {first[:10]}: check the unit of the times")
        if not self.staged:
            return
        zones = self.connection.execute(
            "SELECT zone, count(*) AS n FROM staged WHERE reason IS NULL AND zone IS NOT NULL "
            "GROUP BY zone ORDER BY n DESC, zone"
        ).fetchall()
        if len(zones) > 1:
            told = ", ".join(f"{zone or 'none, read as ' + self.time_zone} ({n:,} rows)" for zone, n in zones[:6])
            self.notes.append(f"times are written in {len(zones)} zones, all brought to UTC: {told}")

    # The rejected rows

    def write_rejects(self, rejects: Path | None) -> Path:
        """Write the rejected rows to a JSONL file."""
        file = rejects if rejects is not None else self.folder / "rejects.jsonl"
        try:
            with file.open("w", encoding="utf-8") as out:
                out.writelines(json.dumps(reject) + "\n" for reject in self.rejected())
        except OSError as error:
            raise InputError(f"cannot write the rejected rows to {file}: {error.strerror}") from error
        return file

    def rejected(self) -> Iterator[dict[str, Any]]:
        """Every rejected row: its file, line (in tables the row, from 1), reason and first characters."""
        for part, source in sorted(self.read_as.items()):
            first = self.one(f"SELECT min(rowid) FROM staged WHERE part = {part}")[0] or 0
            broken = {
                int(record): (int(lines), reason, text or "")
                for record, lines, reason, text in self.connection.execute(
                    f"SELECT record, lines, reason, text FROM broken WHERE part = {part} ORDER BY record"
                ).fetchall()
            }
            with self.connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT coalesce(place, rowid - {first}), reason, left(coalesce(raw, ''), {EXCERPT}), "
                    "concat_ws(', ', \"at\", input_tokens, output_tokens, request_id) FROM staged "
                    f"WHERE part = {part} AND reason IS NOT NULL ORDER BY rowid"
                )
                staged = _fetched(cursor)
                if source.format in ("csv", "jsonl") and not source.array:
                    yield from _with_lines(source, staged, broken)
                    continue
                for row, reason, raw, known in staged:
                    yield {"file": source.name, "line": row + 1, "reason": reason, "text": raw or known}

    def one(self, query: str) -> tuple[Any, ...]:
        """The only row of a query."""
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _fetched(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(10_000):
        yield from rows


def _with_lines(
    source: Source, staged: Iterator[tuple[Any, ...]], broken: dict[int, tuple[int, str, str]]
) -> Iterator[dict[str, Any]]:
    """Rejected rows of a text log with the physical lines on which they stand.

    ``staged`` counts the rows that were read from 0, ``broken`` is by record from 1, where header and blank lines are
    records too. A record is a line, or in a CSV with quotes as many lines as it takes to close them.
    """
    wanted = next(staged, None)
    ordinal = -1
    is_csv = source.format == "csv"
    unseen = dict(broken)
    for record, line, text in _records(source, broken):
        if record in broken:
            lines, reason, shown = unseen.pop(record)
            shown = (text.decode("utf-8", "replace") or shown).strip("\n")
            parts = [part for part in shown.split("\n") if part.strip()] if lines > 1 else [shown]
            for i in range(lines):
                excerpt = parts[i] if i < len(parts) else ""
                yield {"file": source.name, "line": line + i, "reason": reason, "text": excerpt[:EXCERPT]}
        elif text.strip() and not (is_csv and record == 1):
            ordinal += 1
            while wanted is not None and wanted[0] == ordinal:
                shown = text[: 4 * EXCERPT].decode("utf-8", "replace")[:EXCERPT]
                yield {"file": source.name, "line": line, "reason": wanted[1], "text": shown}
                wanted = next(staged, None)
        if wanted is None and not unseen:
            return
    while wanted is not None:  # lines that cannot be found again
        yield {"file": source.name, "line": None, "reason": wanted[1], "text": wanted[2] or wanted[3]}
        wanted = next(staged, None)
    for record, (lines, reason, shown) in unseen.items():
        for _ in range(lines):
            yield {"file": source.name, "line": record, "reason": reason, "text": shown.strip("\n")[:EXCERPT]}


def _records(source: Source, broken: dict[int, tuple[int, str, str]]) -> Iterator[tuple[int, int, bytes]]:
    """Records of a text log: number, the physical line where it begins, and its bytes."""
    quoted = source.format == "csv" and source.quoted
    record, held, begins, delimiter = 0, b"", 1, source.delimiter.encode()
    for number, line in enumerate(open_lines(source), 1):
        if not held:
            begins = number
            record += 1
        held = held + b"\n" + line if held else line
        if quoted:
            known = broken.get(record)
            if known is not None and len(held) < 100_000:
                length = known[2].strip("\n").count("\n")
                if held.count(b"\n") < length:
                    continue
            elif _is_open(held, delimiter):
                continue
        yield record, begins, held
        held = b""
    if held:
        yield record, begins, held


_QUOTED = re.compile(rb'"(?:[^"]|"")*"')


def _is_open(record: bytes, delimiter: bytes) -> bool:
    """Whether a CSV record ends inside quotes. A quote opens only where a value begins; elsewhere it is a character."""
    at = 0
    while b'"' in record[at:]:
        if record[at : at + 1] == b'"':
            closed = _QUOTED.match(record, at)
            if closed is None:
                return True
            at = closed.end()
        following = record.find(delimiter, at)
        if following < 0:
            return False
        at = following + 1
    return False


def _json_samples(source: Source) -> list[Any]:
    """The first objects of a JSON log."""
    if not source.array:
        return _objects(head_lines(source, SAMPLE_ROWS))
    assert source.path is not None
    import duckdb

    try:
        rows = duckdb.execute(
            "SELECT json FROM read_json_objects(?, format='array', compression=?) LIMIT ?",
            [str(source.path), source.compression, SAMPLE_ROWS],
        ).fetchall()
    except duckdb.Error as error:
        raise InputError(f"{source.name} is not a valid JSON array: {_first_line(error)}") from error
    return _objects(text for (text,) in rows)


def _json_scan(source: Source) -> str:
    """The FROM item of a JSON log: a column ``json``, NULL where a line is not valid JSON. Blank lines are no rows."""
    reader = "read_json_objects" if source.array else "read_ndjson_objects"
    options = "format='array'" if source.array else "ignore_errors=true"
    return (
        f"{reader}({sql.quote(str(source.path))}, {options}, compression={sql.quote(source.compression)}, "
        f"maximum_object_size={4 * LONGEST_LINE})"
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


def _objects(lines: Any) -> list[Any]:
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


def _distinct_keys(samples: list[Any]) -> list[Columns]:
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


def _csv_header(source: Source) -> list[str]:
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


def _gzip_is_whole(source: Source) -> bool:
    """Whether a gzip file can be unpacked to its end."""
    import gzip
    import zlib

    assert source.path is not None
    try:
        with gzip.open(source.path) as stream:
            while stream.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error):
        return False
    return True
