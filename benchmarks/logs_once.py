"""One reading of a log, in a process of its own: run with what to do and a file, it prints one line of JSON.

``profile`` is what users run; ``aggregate`` a single bare pass over the same columns in DuckDB; ``statistics`` the SQL
that an analyst would write by hand for the main figures of the profile: volume by minute and hour, gaps between
arrivals, exact quantiles and joint counts of the lengths, failures, models. All with the same memory limit and threads.
``write`` makes the file, of so many rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
from sweep_once import memory_mib

from distillcalc.workload.logs import profile_logs

MEMORY = "1GiB"
START = "TIMESTAMP '2026-01-05 00:00:00'"
COLUMNS = "timestamp, model, input_tokens, cached_tokens, output_tokens, status"
TYPES = (
    "{timestamp: 'TIMESTAMP', model: 'VARCHAR', input_tokens: 'BIGINT', cached_tokens: 'BIGINT', "
    "output_tokens: 'BIGINT', status: 'BIGINT'}"
)

# Ninety days, lognormal lengths that go together, half of the prompts partly cached, 1% failures.
REQUESTS = f"""
    SELECT {START} + to_microseconds(CAST((i + 0.8 * random()) * 7.776e12 / {{rows}} AS BIGINT)) AS timestamp,
        CASE WHEN u < 0.7 THEN 'gpt-6-sol' ELSE 'claude-haiku-4-5' END AS model,
        CAST(greatest(1, exp(6.5 + 0.9 * z)) AS INTEGER) AS input_tokens,
        CASE WHEN u < 0.5 THEN input_tokens // 128 * 128 ELSE 0 END AS cached_tokens,
        CAST(greatest(1, exp(4.5 + 0.5 * z + 0.6 * y)) AS INTEGER) AS output_tokens,
        CASE WHEN u > 0.99 THEN 500 ELSE 200 END AS status
    FROM (SELECT range AS i, random() AS u, sqrt(-2 * ln(random() + 1e-12)) * cos(2 * pi() * random()) AS z,
        sqrt(-2 * ln(random() + 1e-12)) * cos(2 * pi() * random()) AS y FROM range({{rows}}))
"""

AGGREGATE = """
    SELECT count(*), min(timestamp), max(timestamp), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
        count(*) FILTER (status >= 400), approx_count_distinct(model) FROM {log}
"""

STATISTICS = (
    "SELECT time_bucket(INTERVAL 1 MINUTE, timestamp) AS minute, count(*) FROM {log} GROUP BY 1",
    "SELECT time_bucket(INTERVAL 1 HOUR, timestamp) AS hour, count(*) FROM {log} GROUP BY 1",
    "SELECT avg(gap), stddev_pop(gap) FROM "
    "(SELECT epoch_us(timestamp) - lag(epoch_us(timestamp)) OVER (ORDER BY timestamp) AS gap FROM {log})",
    "SELECT quantile_cont(input_tokens, [0.05, 0.25, 0.5, 0.75, 0.95, 0.99]), "
    "quantile_cont(output_tokens, [0.05, 0.25, 0.5, 0.75, 0.95, 0.99]), corr(input_tokens, output_tokens) FROM {log}",
    "SELECT count(*) FROM (SELECT input_tokens, output_tokens, count(*) FROM {log} GROUP BY ALL)",
    "SELECT model, count(*), sum(input_tokens), sum(cached_tokens), sum(output_tokens), "
    "count(*) FILTER (status >= 400) FROM {log} GROUP BY 1",
    "SELECT count(*) FROM {log}",
)


def write_log(file: Path, rows: int) -> None:
    """Generated requests as Parquet or as lines of JSON, in order of time, always the same."""
    kind = "PARQUET" if file.suffix == ".parquet" else "JSON"
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SELECT setseed(0.42)")
        connection.execute(f"COPY ({REQUESTS.format(rows=rows)}) TO '{file}' (FORMAT {kind})")


def read_bare(queries: tuple[str, ...], file: Path) -> list[tuple[Any, ...]]:
    """The first row of every query over a log, under the limits of a profile."""
    source = f"read_parquet('{file}')" if file.suffix == ".parquet" else f"read_ndjson('{file}', columns = {TYPES})"
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = '{folder}'")
        connection.execute("SET enable_progress_bar = false")
        log = f"(SELECT {COLUMNS} FROM {source})"
        return [connection.execute(query.format(log=log)).fetchall()[0] for query in queries]


if __name__ == "__main__":
    what, file = sys.argv[1], Path(sys.argv[2])
    start = time.perf_counter()
    if what == "write":
        rows = int(sys.argv[3])
        write_log(file, rows)
    elif what == "profile":
        profile = profile_logs(file, memory_limit=MEMORY)
        rows = profile.source.rows_used
    else:
        rows = read_bare((AGGREGATE,) if what == "aggregate" else STATISTICS, file)[-1][0]
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - start, "peak_mib": memory_mib("VmHWM")}))
