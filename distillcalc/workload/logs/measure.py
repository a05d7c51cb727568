"""From a relation of requests, or of counts, to a WorkloadProfile: what was sent, how long, to whom.

Aggregates run in DuckDB, out of core; only what is small comes to Python. Arrivals are :mod:`.timing`'s subject,
texts :mod:`.texts`'.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from distillcalc.errors import InputError
from distillcalc.workload.logs.compress import Marginal, fitting_bins, joined, rank_correlation
from distillcalc.workload.logs.expressions import FAILED_WITHOUT_TIME
from distillcalc.workload.logs.plans import out_of_memory
from distillcalc.workload.logs.profile import (
    Failures,
    Lengths,
    ModelUse,
    Repeats,
    Side,
    Source,
    Tokens,
    WorkloadProfile,
)
from distillcalc.workload.logs.texts import ANSWERED, measure_failures, measure_prefixes, measure_repeats
from distillcalc.workload.logs.timing import measure_counts, measure_requests

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUANTILES = (("p1", 0.01), ("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
# output_tokens are billed tokens, reasoning included; the answer is what is left.
VISIBLE = "greatest(output_tokens - coalesce(reasoning_tokens, 0), 0)"


class Ingested(Protocol):
    """What :func:`measure` needs of a log that was read: an open connection and what became of the rows."""

    @property
    def connection(self) -> DuckDBPyConnection: ...
    @property
    def schema(self) -> str: ...
    @property
    def kind(self) -> Literal["requests", "counts"]: ...
    @property
    def rows_read(self) -> int: ...
    @property
    def rows_used(self) -> int: ...
    @property
    def rows_rejected(self) -> int: ...
    @property
    def reject_reasons(self) -> dict[str, int]: ...
    @property
    def kept_rejects(self) -> Path | None: ...
    @property
    def reject_examples(self) -> tuple[tuple[str, int | None, str], ...]: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def token_source(self) -> str: ...


def measure(ingested: Ingested) -> WorkloadProfile:
    """Measure what a log tells of its traffic.

    Parameters
    ----------
    ingested : the open connection with the relation ``requests`` or ``counts``.

    Raises
    ------
    InputError
        For a log without a single request, or too little memory.
    """
    import duckdb

    try:
        return _measured(ingested)
    except duckdb.OutOfMemoryException as error:
        (limit,) = _rows(ingested.connection, "SELECT current_setting('memory_limit')")[0]
        raise out_of_memory(error, limit) from error


def _measured(ingested: Ingested) -> WorkloadProfile:
    connection = ingested.connection
    source = Source(
        schema=ingested.schema,
        kind=ingested.kind,
        rows_read=ingested.rows_read,
        rows_used=ingested.rows_used,
        rows_rejected=ingested.rows_rejected,
        reject_reasons=tuple(sorted(ingested.reject_reasons.items())),
        rejects_file=None if ingested.kept_rejects is None else str(ingested.kept_rejects),
        reject_examples=ingested.reject_examples,
        token_source=ingested.token_source,
        notes=tuple(ingested.notes),
    )
    if ingested.kind == "counts":
        (requests,) = _rows(connection, "SELECT coalesce(sum(requests), 0)::BIGINT FROM counts")[0]
        if not requests:
            raise InputError(f"the log holds no request: every count of {ingested.rows_used:,} rows is 0")
        volume, cycle, arrivals = measure_counts(connection)
        means = Tokens(
            *(None, None),
            *(_mean_of_counts(connection, figure) for figure in ("input_tokens", "output_tokens")),
        )
        return WorkloadProfile(source, volume, cycle, arrivals, None, means, Repeats(), None, Failures(), models=())
    models, totals = _models(connection)
    if not totals["requests"]:
        raise InputError("the log holds no request. Read 0 rows that could be used")
    volume, cycle, arrivals = measure_requests(connection)
    hashed = bool(totals["hashed"])
    texts = bool(_rows(connection, "SELECT 1 FROM requests WHERE prompt IS NOT NULL LIMIT 1"))
    return WorkloadProfile(
        source=source,
        volume=volume,
        cycle=cycle,
        arrivals=arrivals,
        lengths=_lengths(connection),
        tokens=Tokens(*(_ratio(totals[name], totals[f"{name}_known"]) for name in ("cached", "reasoning"))),
        repeats=measure_repeats(connection, hashed=hashed, texts=texts),
        prefixes=measure_prefixes(connection) if texts else None,
        failures=measure_failures(
            connection,
            requests=totals["requests"],
            failed=totals["failed"],
            known=totals["failed_known"],
            hashed=hashed,
            undated=ingested.reject_reasons.get(FAILED_WITHOUT_TIME, 0),
        ),
        models=models,
    )


def _rows(connection: DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def _mean_of_counts(connection: DuckDBPyConnection, figure: str) -> float | None:
    """Mean tokens a request, of the periods that log their sum."""
    columns = [row[0] for row in _rows(connection, "DESCRIBE counts")]
    if figure not in columns:
        return None
    query = f"SELECT coalesce(sum({figure}), 0), coalesce(sum(requests), 0) FROM counts WHERE {figure} IS NOT NULL"
    total, requests = _rows(connection, query)[0]
    return _ratio(total, requests) if total else None


def _ratio(total: float, known: int) -> float | None:
    return float(total) / known if known else None


def _models(connection: DuckDBPyConnection) -> tuple[tuple[ModelUse, ...], dict[str, int]]:
    """Each model's use, most requests first, and the log's totals, in one pass."""
    columns = {
        "requests": "count(*)",
        "input": "sum(input_tokens)",
        "output": "sum(output_tokens)",
        "cached_all": "sum(cached_tokens)",
        "reasoning_all": "sum(reasoning_tokens)",
        "cost": "sum(cost_usd)",
        "cost_known": "count(cost_usd)",
        "cached": f"sum(cached_tokens) FILTER ({ANSWERED})",
        "cached_known": f"count(cached_tokens) FILTER ({ANSWERED})",
        "reasoning": f"sum(reasoning_tokens) FILTER ({ANSWERED})",
        "reasoning_known": f"count(reasoning_tokens) FILTER ({ANSWERED})",
        "failed": "count(*) FILTER (failed)",
        "failed_known": "count(failed)",
        "hashed": "count(prompt_hash)",
    }
    selected = ", ".join(f"{what} AS {name}" for name, what in columns.items())
    found = [
        (row[0], dict(zip(columns, row[1:], strict=True)))
        for row in _rows(connection, f"SELECT model, {selected} FROM requests GROUP BY model")
    ]
    found.sort(key=lambda pair: (-pair[1]["requests"], pair[0] is None, pair[0] or ""))
    models = tuple(
        ModelUse(
            model=model,
            requests=row["requests"],
            input_tokens=int(row["input"] or 0),
            output_tokens=int(row["output"] or 0),
            cached_tokens=None if row["cached_all"] is None else int(row["cached_all"]),
            reasoning_tokens=None if row["reasoning_all"] is None else int(row["reasoning_all"]),
            cost_usd=None if row["cost"] is None else float(row["cost"]),
            cost_logged=row["cost_known"],
        )
        for model, row in found
    )
    return models, {name: sum(row[name] or 0 for _, row in found) for name in columns}


def _lengths(connection: DuckDBPyConnection) -> Lengths | None:
    """Joint lengths of the answered requests that have both counts; None where there are none."""
    usable = f"requests WHERE {ANSWERED} AND input_tokens IS NOT NULL AND output_tokens IS NOT NULL"
    inputs = _marginal(connection, f"SELECT input_tokens AS v, count(*) AS n FROM {usable} GROUP BY 1")
    if inputs is None:
        return None
    outputs = _marginal(connection, f"SELECT {VISIBLE} AS v, count(*) AS n FROM {usable} GROUP BY 1")
    assert outputs is not None
    bins = fitting_bins(inputs, outputs)
    names = ("input_bins", "output_bins")
    try:
        for name, side, numbers in zip(names, (inputs, outputs), bins, strict=True):
            _table(connection, name, side, numbers)
        found = connection.execute(
            f"""
            SELECT a.bin AS a, b.bin AS b, count(*) AS n
            FROM (SELECT input_tokens AS x, {VISIBLE} AS y FROM {usable}) r
            JOIN input_bins a ON a.v = r.x JOIN output_bins b ON b.v = r.y GROUP BY 1, 2 ORDER BY 1, 2
            """
        ).fetchnumpy()
    finally:
        for name in names:
            connection.execute(f"DROP TABLE IF EXISTS {name}")
    a, b, n = (np.asarray(found[name], dtype=np.int64) for name in ("a", "b", "n"))
    few = joined(a, b, n)
    x, y = (_means(side, numbers) for side, numbers in zip((inputs, outputs), bins, strict=True))
    sample = tuple(
        (float(x[i]), float(y[j]), float(k)) for i, j, k in zip(*(part.tolist() for part in few), strict=True)
    )
    return Lengths(_side(inputs), _side(outputs), rank_correlation(a, b, n), sample)


def _marginal(connection: DuckDBPyConnection, query: str) -> Marginal | None:
    found = connection.execute(query).fetchnumpy()
    if not len(found["v"]):
        return None
    return Marginal.of(np.asarray(found["v"]), np.asarray(found["n"]))


def _table(connection: DuckDBPyConnection, name: str, side: Marginal, numbers: np.typing.NDArray[np.int64]) -> None:
    """A temporary table from each value to its bin."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT unnest($v::BIGINT[]) AS v, unnest($bin::INTEGER[]) AS bin",
        {"v": side.values.tolist(), "bin": numbers.tolist()},
    )


def _means(side: Marginal, numbers: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.float64]:
    """Mean length of each bin [tokens]."""
    weights = side.counts.astype(float)
    return np.asarray(np.bincount(numbers, weights=weights * side.values) / np.bincount(numbers, weights=weights))


def _side(side: Marginal) -> Side:
    return Side(side.mean, tuple((name, side.quantile(level)) for name, level in QUANTILES))
