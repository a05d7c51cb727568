"""Relations as the ingestion would leave them, made in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pandas as pd
import pytest

TRAFFIC = Path(__file__).resolve().parents[4] / "shared" / "data" / "traffic"
MONDAY = datetime(2026, 3, 2)

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


@dataclass
class StandIn:
    """What measure() needs of an ingested log."""

    connection: duckdb.DuckDBPyConnection
    schema: str = "test"
    kind: Literal["requests", "counts"] = "requests"
    rows_read: int = 0
    rows_used: int = 0
    rows_rejected: int = 0
    reject_reasons: dict[str, int] = field(default_factory=dict)
    kept_rejects: Path | None = None
    reject_examples: tuple[tuple[str, int | None, str], ...] = ()
    notes: list[str] = field(default_factory=list)
    token_source: str = "logged"


def traffic(name: str) -> Path:
    """A real trace, or a skip that says that it is not here."""
    file = TRAFFIC / name
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    return file


def requests(at: Any, **columns: Any) -> StandIn:
    """A log of requests at the given moments (or seconds after a Monday); columns left out are unknown.

    Lengths default to 100 in and 10 out. ``prompt`` alone is hashed too.
    """
    at = np.asarray(at)
    if at.dtype.kind in "if":
        at = np.datetime64(MONDAY, "us") + (at * 1e6).round().astype("timedelta64[us]")
    columns = {"input_tokens": 100, "output_tokens": 10, **columns}
    frame = pd.DataFrame(
        {"at": at, **{name: pd.Series(value) if isinstance(value, list) else value for name, value in columns.items()}}
    )
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.register("frame", frame)
    parts = []
    for name, kind in COLUMNS.items():
        if name in frame:
            parts.append(f'CAST("{name}" AS {kind}) AS "{name}"')
        elif name == "prompt_hash" and "prompt" in frame:
            parts.append("hash(CAST(prompt AS VARCHAR)) AS prompt_hash")
        else:
            parts.append(f'CAST(NULL AS {kind}) AS "{name}"')
    connection.execute(f"CREATE TABLE requests AS SELECT {', '.join(parts)} FROM frame")
    connection.unregister("frame")
    return StandIn(connection, rows_read=len(frame), rows_used=len(frame))


def counts(values: Any, *, step_s: int = 3600, start: datetime = MONDAY) -> StandIn:
    """A log of counts of consecutive windows."""
    connection = duckdb.connect()
    connection.execute('CREATE TABLE counts ("at" TIMESTAMP, requests BIGINT)')
    rows = [(start + timedelta(seconds=i * step_s), int(n)) for i, n in enumerate(values)]
    frame = pd.DataFrame(rows, columns=["at", "requests"])
    connection.register("frame", frame)
    connection.execute("INSERT INTO counts SELECT * FROM frame")
    connection.unregister("frame")
    return StandIn(connection, schema="aggregate-counts", kind="counts", rows_read=len(rows), rows_used=len(rows))


def azure() -> StandIn:
    """The Azure code trace."""
    file = traffic("AzureLLMInferenceTrace_code.csv")
    frame = pd.read_csv(file, parse_dates=["TIMESTAMP"])
    log = requests(
        frame["TIMESTAMP"].to_numpy().astype("datetime64[us]"),
        input_tokens=frame["ContextTokens"].to_numpy(),
        output_tokens=frame["GeneratedTokens"].to_numpy(),
    )
    log.schema = "azure-llm-trace"
    return log


def burstgpt() -> StandIn:
    """The BurstGPT trace's hourly counts, its zero hour at the epoch."""
    frame = pd.read_csv(traffic("burstgpt1_hourly_requests.csv"))
    return counts(frame["requests_est"], start=datetime(1970, 1, 1))
