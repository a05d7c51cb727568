"""Logs of any known format as one relation in DuckDB, out of core; every row read is used or rejected with a reason.

A clean typed table (Parquet, DataFrame) is read where it lies, through a view. Everything else is staged once, row by
row with the reason why it cannot be used, in a database in a temporary folder that goes when the result is closed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import weakref
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distillcalc.errors import InputError
from distillcalc.workload.logs import expressions as sql
from distillcalc.workload.logs.plans import Plan, Planner, first_line, out_of_memory, select
from distillcalc.workload.logs.rejects import rejected_rows, write_rejects
from distillcalc.workload.logs.schemas import UnknownSchema
from distillcalc.workload.logs.sources import Paths, Source, find_sources, keep_logs
from distillcalc.workload.logs.staging import Stage
from distillcalc.workload.logs.times import FORMS
from distillcalc.workload.logs.tokens import BATCH, Tokenizer, how_to_give_one, token_counter
from distillcalc.workload.logs.wording import quote

if TYPE_CHECKING:
    import duckdb


SHOWN = 3


@dataclass(frozen=True, eq=False)
class Ingested:
    """Logs as one relation, with what became of every row.

    Parameters
    ----------
    connection : DuckDB with ``requests`` (or ``counts``, see ``kind``); closed by :meth:`close`
    schema : the schemas found, joined by ``" + "``
    kind : ``"requests"``: a relation ``requests`` with the columns of
        :data:`distillcalc.workload.logs.expressions.COLUMNS`, ``at`` in UTC. Unknown is NULL; only of a failed request
        may the tokens be unknown. ``"counts"``: a relation ``counts(at, requests,
        input_tokens, output_tokens)``, the tokens sums of the period
    rows_read, rows_used, rows_rejected : the first is always the sum of the others. Blank lines are no rows
    reject_reasons : rows by reason, most first
    rejects_file : JSONL with ``file``, ``line``, ``reason`` and ``text``; ``None`` where nothing was rejected. Where no
        file was given it lies in ``folder``, which goes when this is closed
    reject_examples : file, line and reason of the first few
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
    reject_examples: tuple[tuple[str, int | None, str], ...] = ()

    def __post_init__(self) -> None:
        """See to it that what was staged goes, even where nobody closes."""
        if self.folder is not None:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def kept_rejects(self) -> Path | None:
        """The file of the rejected rows, if it stays when this is closed."""
        file = self.rejects_file
        return None if file is None or (self.folder is not None and self.folder in file.parents) else file

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
        those of :data:`distillcalc.workload.logs.schemas.FIELDS`. Empty: the figure is not read
    memory_limit : what DuckDB may take; beyond it, it works on disk in the temporary folder. JSON needs 512MiB
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
    if columns is not None and not isinstance(columns, Mapping):
        raise InputError(f'columns must be a mapping such as {{"at": "when"}}. Got {columns!r}')
    _check_zone(time_zone)
    sources, notes = find_sources(paths)
    if rejects is not None:
        keep_logs(sources, {"rejects": Path(rejects)})
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
        if isinstance(error, duckdb.OutOfMemoryException):
            raise out_of_memory(error, memory_limit) from error
        if isinstance(error, duckdb.Error):
            raise InputError(f"the logs cannot be read: {first_line(error)}") from error
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
        if not isinstance(memory_limit, str):
            raise TypeError
        connection.execute(f"SET memory_limit = {quote(memory_limit)}")
    except (duckdb.Error, TypeError) as error:
        raise InputError(f"memory_limit must be a size such as '1GiB'. Got {memory_limit!r}") from error
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads must be at least 1. Got {threads}")
        connection.execute(f"SET threads = {int(threads)}")
    connection.execute(f"SET temp_directory = {quote(folder)}")
    connection.execute("SET TimeZone = 'UTC'")
    # It makes IN a join with the list, and a join mixes up the order of rows: rejects and clocks go by that order.
    connection.execute("SET disabled_optimizers = 'in_clause'")
    connection.execute("SET enable_progress_bar = false")


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
        self.connection, self.folder, self.time_zone = connection, folder, time_zone
        self.max_rejected_share, self.notes = max_rejected_share, notes
        self.planner = Planner(connection, columns)
        self.names: list[str] = []
        self.stage: Stage | None = None  # None: every source is read where it lies
        self.oddities: list[str] = []  # those of them with statuses that are not understood

    def read(
        self,
        sources: list[Source],
        rejects: Path | None,
        tokenizer: Tokenizer | None,
    ) -> Ingested:
        """Read all sources; see :func:`ingest`."""
        plans = self.plans(sources)
        sources = [plan.source for plan in plans]
        kinds = {plan.schema.kind for plan in plans}
        if len(kinds) > 1:
            by = {plan.schema.kind: plan.source.name for plan in plans}
            raise InputError(
                f"{by['counts']} holds counts per period and {by['requests']} holds requests: read them separately"
            )
        kind = plans[0].schema.kind
        self.names = [source.name for source in sources]
        clean = self.clean_tables(plans)
        if clean is None:
            self.stage = Stage(self.connection, self.folder, self.planner, self.time_zone, self.notes)
            plans = self.stage.read(plans)
            counted = self.count_tokens(tokenizer)
            self.reject_duplicates()
            reasons, used = self.settle()
        else:
            counted, reasons, used = 0, {}, clean
        rejected = sum(reasons.values())
        rejects_file = (
            write_rejects(rejects or self.folder / "rejects.jsonl", self.rejected())
            if rejected and self.is_worth_writing(reasons, used, rejects)
            else None
        )
        self.stop_if_too_many(reasons, used, rejects_file if rejects is not None else None)
        self.publish(plans, kind)
        self.note_rows(plans, reasons)
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
            reject_examples=tuple(
                (e["file"], e["line"], e["reason"]) for e in itertools.islice(self.rejected(), SHOWN)
            ),
        )

    def plans(self, sources: list[Source]) -> list[Plan]:
        """How each source is read. What lies in a folder beside logs and is none is passed over with a note."""
        plans, strays = [], []
        for i, source in enumerate(sources):
            try:
                plans.append(self.planner.plan(source, i))
            except UnknownSchema as error:
                if source.named:
                    raise
                strays.append(error)
        if strays and not plans:
            raise strays[0]
        self.notes += [f"passed over: {str(stray).partition('. Say which')[0]}" for stray in strays]
        return plans

    def clean_tables(self, plans: list[Plan]) -> int | None:
        """The number of rows if every source is a typed table in which nothing is wrong, else ``None``."""
        if not all(plan.typed for plan in plans):
            return None
        total = 0
        for plan in plans:
            checked = select(plan, self.time_zone)
            rows, used, needed, odd = self.one(
                "SELECT count(*), count(*) FILTER (reason IS NULL), count(*) FILTER (need), count(odd_status) "
                f"FROM ({checked})"
            )
            if odd:
                self.oddities.append(checked)
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
                f"UPDATE staged SET reason = {quote(sql.NOT_COUNTED)} WHERE need AND reason IS NULL"
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
                f"UPDATE staged SET reason = {quote(sql.DUPLICATE)} WHERE rowid IN (SELECT id FROM ("
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
            raise InputError(f"no row in {' or '.join(self.names[:5])}: column names at most")
        most = "; ".join(f"{n:,}: {reason}" for reason, n in itertools.islice(reasons.items(), 5))
        if used and not self.too_many(reasons, used):
            return
        examples = [
            f"{e['file']} line {e['line']}: {e['reason']}: {e['text'][:80]!r}"
            for e in itertools.islice(self.rejected(), SHOWN)
        ]
        where = f"All of them: {written}" if written else "rejects='rejects.jsonl' writes all of them to a file"
        limit = f"above max_rejected_share {self.max_rejected_share:.3g}" if used else "so none is left"
        raise InputError(
            f"{rejected:,} of {used + rejected:,} rows were rejected ({rejected / (used + rejected):.1%}), {limit}. "
            f"Reasons: {most}. For example: {' | '.join(examples)}. {self.hints(reasons)}{where}"
        )

    def hints(self, reasons: dict[str, int]) -> str:
        """What may be done about some reasons, as sentences."""
        found = ""
        if sql.TIME_UNREADABLE in reasons:
            (time,) = self.one("SELECT any_value(odd_time) FROM staged WHERE odd_time IS NOT NULL")
            found += f"The time {time!r} is in none of the forms that are read: {FORMS}. "
        if sql.DUPLICATE in reasons:
            found += "If the ids of this log are not unique, leave them out: columns={'request_id': ''}. "
        return found

    def publish(self, plans: list[Plan], kind: str) -> None:
        """Make the relation ``requests`` or ``counts``."""
        if self.stage is None:
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
            self.connection.execute(
                'CREATE VIEW counts AS SELECT "at", requests, input_tokens, output_tokens FROM staged '
                "WHERE reason IS NULL"
            )
            return
        made = {"prompt_hash": "CASE WHEN prompt IS NOT NULL THEN md5_number_lower(prompt) END AS prompt_hash"}
        listed = ", ".join(made.get(column, sql.name(column)) for column in sql.COLUMNS)
        self.connection.execute(f"CREATE VIEW requests AS SELECT {listed} FROM staged WHERE reason IS NULL")

    def note_rows(self, plans: list[Plan], reasons: dict[str, int]) -> None:
        """Note what is particular to some rows or schemas."""
        if cached := reasons.get(sql.FROM_CACHE):
            self.notes.append(
                f"{cached:,} rows were answered from a cache without a model call: not counted as requests"
            )
        if any("openai-batch" in plan.schema.name for plan in plans):
            self.notes.append(
                "the times of a batch are when the provider ran it: volume over time, cycle and burstiness do not say "
                "when requests came"
            )
        rows = ["SELECT * FROM staged"] if self.stage is not None else self.oddities
        if rows:
            odd = self.connection.execute(
                f"SELECT odd_status, count(*) AS n FROM ({' UNION ALL BY NAME '.join(rows)}) "
                "WHERE odd_status IS NOT NULL GROUP BY odd_status ORDER BY n DESC, odd_status"
            ).fetchall()
            told = ", ".join(f"{word!r} ({n:,} rows)" for word, n in odd[:6])
            self.notes += [f"status words that are not understood, so their outcome is unknown: {told}"] if odd else []
        if self.stage is not None and (media := self.one("SELECT count(*) FILTER (media) FROM staged")[0]):
            self.notes.append(f"{media:,} prompts have images or other files, whose tokens are not counted")

    def note_clocks(self, kind: str) -> None:
        """Note clocks that run backwards, zones that are mixed, and times that have no date."""
        where = (
            '(SELECT part, "at" FROM staged WHERE reason IS NULL)'
            if self.stage is not None
            else f'(SELECT 0 AS part, "at" FROM {kind})'
        )
        back, most = self.one(
            'SELECT count(*), epoch(max(step)) FROM (SELECT lag("at") OVER () - "at" AS step, '
            f"lag(part) OVER () AS before, part FROM {where}) WHERE step > INTERVAL 0 SECOND AND before = part"
        )
        if back:
            self.notes.append(
                f"the clock runs backwards at {back:,} rows, by up to {most:,.0f} s: used, in the order of their times"
            )
        first, last = self.one(f'SELECT CAST(min("at") AS VARCHAR), CAST(max("at") AS VARCHAR) FROM {kind}')
        if last < "1975":
            self.notes.append(
                "times count from the start of the log: hours of the day and days of the week are not known"
            )
        elif first < "2000":
            self.notes.append(f"the earliest request is of {first[:10]}: check the unit of the times")
        if self.stage is None:
            return
        zones = self.connection.execute(
            "SELECT zone, count(*) AS n FROM staged WHERE reason IS NULL AND zone IS NOT NULL "
            "GROUP BY zone ORDER BY n DESC, zone"
        ).fetchall()
        if len(zones) > 1:
            told = ", ".join(f"{zone or 'none, read as ' + self.time_zone} ({n:,} rows)" for zone, n in zones[:6])
            self.notes.append(f"times are written in {len(zones)} zones, all brought to UTC: {told}")

    def rejected(self) -> Iterator[dict[str, Any]]:
        """Every rejected row."""
        return rejected_rows(self.connection, self.stage.read_as) if self.stage is not None else iter(())

    def one(self, query: str) -> tuple[Any, ...]:
        """The only row of a query."""
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row
