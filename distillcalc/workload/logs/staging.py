"""Reading sources into the table ``staged``, row by row with the reason why it cannot be used; damaged ones too.

What is no row at all (broken CSV, the end of a file that was cut) is in the table ``broken``, with its text.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.errors import InputError
from distillcalc.workload.logs import expressions as sql
from distillcalc.workload.logs.plans import (
    LONGEST_LINE,
    LONGEST_OBJECT,
    SAMPLE_ROWS,
    Plan,
    Planner,
    csv_header,
    distinct_keys,
    first_line,
    json_scan,
    objects,
    select,
)
from distillcalc.workload.logs.rejects import EXCERPT
from distillcalc.workload.logs.schemas import Schema, recognise
from distillcalc.workload.logs.sources import Source, gzip_is_whole, open_lines
from distillcalc.workload.logs.wording import quote, words

if TYPE_CHECKING:
    import duckdb


_CSV_ERRORS = {
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "UNQUOTED VALUE": "a quote that is not closed",
    "LINE SIZE OVER MAXIMUM": f"longer than {LONGEST_LINE >> 20} MiB",
    "INVALID ENCODING": "not UTF-8",
}
_CUT = "cut off by the end of a damaged file"


class Stage:
    """The tables ``staged`` and ``broken`` in the making."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
        planner: Planner,
        time_zone: str,
        notes: list[str],
    ) -> None:
        self.connection, self.folder, self.planner = connection, folder, planner
        self.time_zone, self.notes = time_zone, notes
        self.read_as: dict[int, Source] = {}  # what each part of the staged rows was read from
        self.damaged: dict[Path, bool] = {}
        self.parts = 0

    def read(self, plans: list[Plan]) -> list[Plan]:
        """Read every source into the table ``staged``; returns the plans as they were at last read."""
        self.connection.execute(
            f"CREATE TABLE staged AS SELECT 0::INTEGER AS part, * FROM ({select(plans[0], self.time_zone)}) LIMIT 0"
        )
        self.connection.execute(
            "CREATE TABLE broken (part INTEGER, record BIGINT, lines BIGINT, reason VARCHAR, text VARCHAR)"
        )
        done = []
        for plan in plans:
            self.stage_one(plan)
            if plan.source.format == "jsonl" and not plan.several_a_line and not self.planner.columns:
                done.append(self.widen(plan))
            elif plan.source.quoted:
                self.mend(plan)
                done.append(self.without_quotes(plan))
            else:
                done.append(plan)
        return done

    def stage_one(self, plan: Plan, *, mend: bool = False) -> int:
        """Read one source, a damaged one unpacked as far as it goes; returns the number of the part that it became."""
        import duckdb

        part = self.parts
        self.parts += 1
        damaged = self.is_damaged(plan.source)
        try:
            if mend or damaged or (plan.source.bom and plan.source.format == "jsonl"):
                raise duckdb.InvalidInputException("to be read from a copy")
            self.insert(part, plan)
            self.read_as[part] = plan.source
        except duckdb.Error as error:
            self.forget_csv_errors(plan)
            if isinstance(error, duckdb.OutOfMemoryException):
                raise
            if plan.source.format not in ("csv", "jsonl") or plan.source.array:
                said = "the gzip file is cut or damaged" if damaged else first_line(error)
                raise InputError(f"{plan.source.name} cannot be read as {plan.source.format}: {said}") from error
            copy, cut = self.unpack(plan.source, part, mend=mend)
            table = plan.table.replace(quote(str(plan.source.path)), quote(str(copy.path)))
            table = table.replace(f"compression={quote(plan.source.compression)}", "compression='none'")
            longest = f"maximum_object_size={LONGEST_OBJECT}"
            table = table.replace(f"maximum_object_size={LONGEST_LINE}", longest)
            self.insert(part, replace(plan, table=table))
            self.read_as[part] = plan.source
            if cut is not None:
                record, text = cut
                self.connection.execute("INSERT INTO broken VALUES (?, ?, 1, ?, ?)", [part, record, _CUT, text])
        if plan.source.format == "csv":
            self.keep_csv_errors(part)
        if plan.source.cut:
            self.reject_cut_end(part, plan.source)
        return part

    def is_damaged(self, source: Source) -> bool:
        """Whether a gzip file is cut or does not fit its checksum: DuckDB may stop there without a word."""
        if source.compression != "gzip" or source.path is None:
            return False
        if source.path not in self.damaged:
            self.damaged[source.path] = not gzip_is_whole(source.path)
        return self.damaged[source.path]

    def insert(self, part: int, plan: Plan) -> None:
        """Read and check the rows of one source."""
        import duckdb

        if plan.source.wrapped:  # pages are taken apart first: with all else at once they do not fit into memory
            self.connection.execute(f"CREATE OR REPLACE TABLE pages AS SELECT json FROM {json_scan(plan.source)}")
            plan = replace(plan, table=plan.table.replace(json_scan(plan.source), "pages"))
        insert = f"INSERT INTO staged SELECT {part} AS part, * FROM ({select(plan, self.time_zone)})"
        try:
            self.connection.execute(insert)
        except duckdb.OutOfMemoryException:
            # Every thread holds what was parsed of a few thousand lines, which with long prompts is hundreds of MB.
            threads = int(self.one("SELECT current_setting('threads')")[0])
            if threads == 1:
                raise
            self.forget_csv_errors(plan)
            self.connection.execute("SET threads = 1")
            try:
                self.connection.execute(insert)
            finally:
                self.connection.execute(f"SET threads = {threads}")
        self.connection.execute("DROP TABLE IF EXISTS pages")

    def unpack(self, source: Source, part: int, *, mend: bool) -> tuple[Source, tuple[int, str] | None]:
        """A plain copy of a damaged text log, with its line ends made one kind, and its last line where it is cut.

        The last line of a file that broke off is not in the copy: half a number reads like a whole one.
        """
        copy = self.folder / f"part-{part}.{source.format}"
        number, last, mended = 0, b"", 0
        whole = not self.is_damaged(source)
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

    def forget_csv_errors(self, plan: Plan) -> None:
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
            + " ".join(f"WHEN error = {quote(e)} THEN {quote(r)}" for e, r in _CSV_ERRORS.items())
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
                f"UPDATE staged SET reason = {quote(_CUT)} WHERE reason IS NULL "
                f"AND rowid = (SELECT max(rowid) FROM staged WHERE part = {part})"
            )

    def widen(self, plan: Plan) -> Plan:
        """Look at the JSON lines that the schema left over; if they are of another one, read the log by both."""
        part = max(self.read_as)
        left = (sql.TIME_MISSING, "input_tokens is missing", "output_tokens is missing")
        lines = self.connection.execute(
            f"SELECT raw FROM staged WHERE part = {part} AND reason IN ({words(left)}) LIMIT {SAMPLE_ROWS}"
        ).fetchall()
        if not lines:
            return plan
        samples = objects(line for (line,) in lines)
        found: dict[str, Schema] = {}
        for keys in distinct_keys(samples):
            schema = recognise(keys, all_keys=True)
            if schema is not None and schema.kind == plan.schema.kind:
                found.setdefault(schema.name, schema)
        both = reduce(lambda a, b: a + b, found.values(), plan.schema)
        if both.paths == plan.schema.paths:
            return plan
        wider = self.planner.without(self.planner.json_plan(plan.source, both, samples))
        wider = replace(wider, error_logged=plan.error_logged or wider.error_logged)
        self.stage_one(wider)
        self.drop_part(part)
        return wider

    def mend(self, plan: Plan) -> None:
        """Read a CSV with quotes again where it is not UTF-8: DuckDB then loses count of its lines."""
        part = max(self.read_as)
        spoilt = quote(_CSV_ERRORS["INVALID ENCODING"])
        if self.one(f"SELECT count(*) FROM broken WHERE part = {part} AND reason = {spoilt}")[0]:
            self.stage_one(plan, mend=True)
            self.drop_part(part)

    def without_quotes(self, plan: Plan) -> Plan:
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
        header = csv_header(plan.source)
        if header != csv_header(source):
            return plan
        bare = replace(plan, source=source, table=self.planner.table_of(source, part))
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

    def one(self, query: str) -> tuple[Any, ...]:
        """The only row of a query."""
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row
