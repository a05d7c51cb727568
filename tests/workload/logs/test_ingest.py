"""Every kind of log and of damage is a real file; rows read are always rows used plus rows rejected."""

from __future__ import annotations

import datetime as dt
import gc
import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.workload.logs import Ingested, ingest

TRAFFIC = Path(__file__).resolve().parents[4] / "shared" / "data" / "traffic"
needs_traffic = pytest.mark.skipif(not TRAFFIC.is_dir(), reason="../shared/data/traffic is not here")

NOON = dt.datetime(2024, 5, 1, 12, 0, 0)
BYTES = tiktoken.Encoding("bytes", pat_str=r"[^\n]+|\n", mergeable_ranks={bytes([b]): b for b in range(256)},
                          special_tokens={})  # fmt: skip


def plain(i: int, **changes: Any) -> dict[str, Any]:
    return {
        "timestamp": (NOON + dt.timedelta(seconds=i)).isoformat() + "Z",
        "input_tokens": 100 + i,
        "output_tokens": 10,
        "request_id": f"r{i}",
        **changes,
    }


def write_jsonl(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def write_csv(file: Path, rows: list[dict[str, Any]]) -> Path:
    header = list(rows[0])
    lines = [",".join(header), *(",".join(str(row[key]) for key in header) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


def fetch(log: Ingested, columns: str, order: str = '"at"') -> list[tuple[Any, ...]]:
    return log.connection.execute(f"SELECT {columns} FROM {log.kind} ORDER BY {order}").fetchall()


def rejects(log: Ingested) -> list[dict[str, Any]]:
    assert log.rejects_file is not None
    return [json.loads(line) for line in log.rejects_file.read_text().splitlines()]


def check(log: Ingested) -> Ingested:
    """What holds of every log."""
    assert log.rows_read == log.rows_used + log.rows_rejected
    assert log.rows_rejected == sum(log.reject_reasons.values())
    assert log.rows_used == log.connection.execute(f"SELECT count(*) FROM {log.kind}").fetchall()[0][0]
    assert len(rejects(log) if log.rejects_file else []) == log.rows_rejected
    return log


def read(*args: Any, **options: Any) -> Ingested:
    return check(ingest(*args, **{"max_rejected_share": 0.5, **options}))


# Real traces


@needs_traffic
def test_the_azure_trace() -> None:
    with read(TRAFFIC / "AzureLLMInferenceTrace_code.csv", max_rejected_share=0) as log:
        assert (log.schema, log.kind, log.rows_used) == ("azure-llm-trace", "requests", 8819)
        means = fetch(log, "avg(input_tokens), avg(output_tokens)", "1")[0]
        assert means == pytest.approx((2048, 28), abs=0.5)  # shared/FACTS.md
        assert fetch(log, "count(cached_tokens) + count(model) + count(failed)", "1") == [(0,)]


@needs_traffic
def test_the_burstgpt_counts() -> None:
    with read(TRAFFIC / "burstgpt1_hourly_requests.csv", max_rejected_share=0) as log:
        assert (log.schema, log.kind, log.rows_used) == ("aggregate-counts", "counts", 1461)
        assert fetch(log, "sum(requests)", "1") == [(1_429_737,)]
        assert any("start of the log" in note for note in log.notes)


# Formats


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_formats_plain_and_packed_under_any_name(tmp_path: Path, kind: str, compression: str) -> None:
    rows = [plain(i) for i in range(50)]
    file = (write_csv if kind == "csv" else write_jsonl)(tmp_path / "requests.log", rows)
    pack(file, compression)
    with read(file, max_rejected_share=0) as log:
        assert log.rows_used == 50
        assert fetch(log, '"at", input_tokens, request_id')[1] == (NOON + dt.timedelta(seconds=1), 101, "r1")
        assert log.sources[0].compression == compression


def pack(file: Path, compression: str) -> None:
    if compression == "gzip":
        file.write_bytes(gzip.compress(file.read_bytes()))
    elif compression == "zstd":
        duckdb.execute(
            f"COPY (SELECT line FROM read_csv('{file}', columns={{'line': 'VARCHAR'}}, delim=E'\\x01', quote='', "
            f"escape='', header=false, auto_detect=false)) TO '{file}.z' (FORMAT csv, HEADER false, QUOTE '', "
            "ESCAPE '', DELIMITER E'\\x01', COMPRESSION zstd)"
        )
        Path(f"{file}.z").rename(file)


def frame(count: int = 50) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "created_at": pd.date_range(NOON, periods=count, freq="s"),
            "prompt_tokens": range(count),
            "completion_tokens": [7.0] * count,
            "model": ["small"] * count,
        }
    )


def test_a_parquet_file_is_read_where_it_lies(tmp_path: Path) -> None:
    table = frame()
    file = tmp_path / "part-0"
    duckdb_write(table, file)
    with read(file, max_rejected_share=0) as log:
        assert (log.rows_used, log.schema) == (50, "plain")
        assert fetch(log, '"at", input_tokens, output_tokens, model')[3] == (
            NOON + dt.timedelta(seconds=3),
            3,
            7,
            "small",
        )
        assert log.connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def duckdb_write(table: pd.DataFrame, file: Path) -> None:
    with duckdb.connect() as connection:
        connection.register("given", table)
        connection.execute(f"COPY given TO '{file}' (FORMAT parquet)")


def test_a_data_frame(tmp_path: Path) -> None:
    with read(frame(), max_rejected_share=0) as log:
        assert log.rows_used == 50
        assert fetch(log, "sum(output_tokens)", "1") == [(350,)]
    broken = frame()
    broken.loc[3, "completion_tokens"] = -1
    broken.loc[4, "completion_tokens"] = None
    with read(broken) as log:
        assert log.reject_reasons == {"output_tokens is missing": 1, "output_tokens is negative": 1}
        assert [(one["file"], one["line"]) for one in rejects(log)] == [("the DataFrame", 4), ("the DataFrame", 5)]


@pytest.mark.parametrize(
    ("column", "given", "failed"),
    [
        ("status_code", [200, 404, 503, None], [False, True, True, None]),
        ("status_code", [200.0, 429.0, float("nan"), 204.0], [False, True, None, False]),
        ("success", [1, 0, None, 1], [False, True, None, False]),
        ("success", [True, False, True, True], [False, True, False, False]),
        ("status", ["ok", "error", "500", ""], [False, True, True, None]),
    ],
)
def test_failures_of_typed_and_written_statuses(column: str, given: list[Any], failed: list[bool | None]) -> None:
    table = frame(4).assign(**{column: pd.array(given, dtype="Int64") if None in given else given})
    with read(table) as log:
        assert [row for (row,) in fetch(log, "failed")] == failed


def test_a_frame_with_a_zone_is_brought_to_utc() -> None:
    table = frame(3)
    table["created_at"] = table["created_at"].dt.tz_localize("Europe/Berlin")
    with read(table) as log:
        assert fetch(log, 'min("at")', "1") == [(NOON - dt.timedelta(hours=2),)]


def test_folders_globs_and_mixed_formats(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [plain(i) for i in range(5)])
    (tmp_path / "deep").mkdir()
    write_jsonl(tmp_path / "deep" / "b.txt", [plain(i) for i in range(5, 12)])
    duckdb_write(frame(4), tmp_path / "deep" / "c")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(32)) * 40)
    (tmp_path / "empty.csv").touch()
    with read(tmp_path) as log:
        assert log.rows_used == 16
        assert sum("passed over" in note for note in log.notes) == 2
    with read(str(tmp_path / "**" / "*.txt")) as log:
        assert log.rows_used == 7
    with read([tmp_path / "a.csv", tmp_path / "a.csv"]) as log:
        assert log.rows_used == 5
        assert any("more than once" in note for note in log.notes)


def test_a_json_array(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps([plain(i) for i in range(20)], indent=1))
    with read(file) as log:
        assert log.rows_used == 20


# Times


@pytest.mark.parametrize(
    "written",
    [
        "2024-05-01T12:00:00Z",
        "2024-05-01 12:00:00",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01T14:00:00.000000+0200",
        "2024-05-01 07:00:00-05",
        "2024-05-01T12:00:00.0000000",
        "2024-05-01 14:00:00 Europe/Berlin",
        "1714564800",
        "1714564800.0",
        "1714564800000",
        "1714564800000000",
        "1714564800000000000",
    ],
)
def test_times_are_read_however_they_are_written(tmp_path: Path, written: str) -> None:
    with read(write_jsonl(tmp_path / "a", [plain(0, timestamp=written)])) as log:
        assert fetch(log, '"at"') == [(NOON,)]
    with read(write_csv(tmp_path / "b", [plain(0, timestamp=written)])) as log:
        assert fetch(log, '"at"') == [(NOON,)]


def test_naive_times_are_in_the_zone_given_and_two_zones_are_noted(tmp_path: Path) -> None:
    rows = [plain(0, timestamp="2024-05-01T14:00:00"), plain(1, timestamp="2024-05-01T12:00:01Z"),
            plain(2, timestamp="2024-05-01T08:00:02-04:00")]  # fmt: skip
    with read(write_jsonl(tmp_path / "a", rows), time_zone="Europe/Berlin") as log:
        assert fetch(log, '"at"') == [(NOON + dt.timedelta(seconds=i),) for i in range(3)]
        note = next(note for note in log.notes if "zones" in note)
        assert "Europe/Berlin (1 rows)" in note
        assert "-04:00 (1 rows)" in note
    naive = frame(2)
    with read(naive, time_zone="Europe/Berlin") as log:
        assert fetch(log, 'min("at")', "1") == [(NOON - dt.timedelta(hours=2),)]
    with pytest.raises(InputError, match="time_zone must be"):
        ingest(naive, time_zone="Berlin")


def test_clocks_that_run_backwards_are_used_and_counted(tmp_path: Path) -> None:
    with read(write_jsonl(tmp_path / "a", [plain(i) for i in (0, 1, 5, 2, 3, 1)])) as log:
        assert log.rows_used == 5  # r1 comes twice
        assert any("backwards at 1 rows, by up to 3 s" in note for note in log.notes)


def test_times_that_cannot_be(tmp_path: Path) -> None:
    rows = [
        plain(0),
        plain(1, timestamp="yesterday"),
        plain(2, timestamp=None),
        plain(3, timestamp="9999-01-01"),
        plain(4),
    ]
    with read(write_jsonl(tmp_path / "a", rows), max_rejected_share=0.7) as log:
        assert [one["line"] for one in rejects(log)] == [2, 3, 4]
        assert log.reject_reasons == {
            "the time cannot be read": 1, "the time is missing": 1, "the time is outside the years 1970 to 2200": 1,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2026-01-01 00:00:00,123", "2025-12-31 23:00:00.123"),  # Python's logging, in the zone given
        ("2026-01-01T00:00:00,5+02:00", "2025-12-31 22:00:00.5"),
        ("20260101T000000Z", "2026-01-01 00:00:00"),  # ISO 8601 without separators
        ("20260101T000000.5+0200", "2025-12-31 22:00:00.5"),
        ("20260101T000000", "2025-12-31 23:00:00"),
        ("Thu, 01 Jan 2026 00:00:00 GMT", "2026-01-01 00:00:00"),  # RFC 1123
        ("01/Jan/2026:01:02:03 +0100", "2026-01-01 00:02:03"),  # Common Log Format
        ("2026-01-01 00:00:00.123456789 +0000 UTC", "2026-01-01 00:00:00.123456"),  # Go
        ("2026-01-01 01:00:00 -0500 EST", "2026-01-01 06:00:00"),
        ("2026-01-01 00:00:00 +0530", "2025-12-31 18:30:00"),
        ("2026-01-01T00:00Z", "2026-01-01 00:00:00"),
    ],
)
def test_times_as_logging_libraries_write_them(tmp_path: Path, written: str, utc: str) -> None:
    rows = [plain(0, timestamp=written), plain(1, timestamp="2026-01-01T00:00:00Z")]
    with read(write_jsonl(tmp_path / "a", rows), time_zone="Europe/Berlin") as log:
        assert fetch(log, 'CAST("at" AS VARCHAR)', "input_tokens")[0] == (utc,)


def test_seconds_since_1970_are_no_zone_of_their_own(tmp_path: Path) -> None:
    rows = [
        plain(0, timestamp="1714564800"),
        plain(1, timestamp="2024-05-01T12:00:01Z"),
        plain(2, timestamp="1714564802.5"),
    ]
    with read(write_jsonl(tmp_path / "a", rows)) as log:
        assert [at for (at,) in fetch(log, 'second("at")', "input_tokens")] == [0, 1, 2]
        assert not log.notes


@pytest.mark.parametrize("name", [None, "when"])
def test_the_index_of_a_time_series_is_its_time(name: str | None) -> None:
    index = pd.date_range("2024-05-01 14:00", periods=2, freq="s", tz="Europe/Berlin", name=name)
    frame = pd.DataFrame({"input_tokens": [1, 2], "output_tokens": [3, 4]}, index=index)
    with ingest(frame, columns={"at": "when"} if name else None) as log:
        assert fetch(log, 'CAST("at" AS VARCHAR)', "1")[0] == ("2024-05-01 12:00:00",)
    assert list(frame.columns) == ["input_tokens", "output_tokens"]  # the user's own is left as it is


# Damage


def test_a_truncated_gzip_is_used_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    for write in (write_csv, write_jsonl):
        file = write(tmp_path / write.__name__, [plain(i) for i in range(5000)])
        packed = gzip.compress(file.read_bytes())
        file.write_bytes(packed[: len(packed) // 2])
        with read(file) as log:
            assert 1000 < log.rows_used < 4900
            assert log.reject_reasons == {"cut off by the end of a damaged file": 1}
            assert rejects(log)[0]["line"] == log.rows_used + 1 + (write is write_csv)
            assert any("cut or damaged" in note for note in log.notes)
            assert fetch(log, "count(DISTINCT input_tokens)", "1") == [(log.rows_used,)]


def test_a_truncated_zstd_is_used_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    for write in (write_csv, write_jsonl):
        file = write(tmp_path / write.__name__, [plain(i) for i in range(40_000)])
        pack(file, "zstd")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with read(file) as log:
            assert 1000 < log.rows_used < 39_000
            assert log.rows_rejected == 1
            assert any("is cut" in note for note in log.notes)


def test_half_a_json_line(tmp_path: Path) -> None:
    rows = [plain(i) for i in range(5)]
    half = json.dumps(plain(7))[:30]
    with read(write_jsonl(tmp_path / "a", [*rows, half, "", *rows[:0], "[1, 2]", "7", json.dumps(plain(8))])) as log:
        assert log.rows_read == 9
        assert [(one["line"], one["reason"]) for one in rejects(log)] == [
            (6, "not valid JSON"), (8, "not a JSON object"), (9, "not a JSON object"),
        ]  # fmt: skip
        assert rejects(log)[0]["text"] == half


def test_tokens_that_cannot_be(tmp_path: Path) -> None:
    bad: list[Any] = [None, -5, 3.5, "many", "", 10**12, "nan"]
    rows = [
        plain(0),
        *(plain(i + 1, input_tokens=value) for i, value in enumerate(bad)),
        plain(20, input_tokens="12.0"),
    ]
    with read(write_jsonl(tmp_path / "a", rows), max_rejected_share=0.9) as log:
        assert log.rows_used == 2
        assert log.reject_reasons == {
            "input_tokens is missing": 2,
            "input_tokens is not a number": 2,
            "input_tokens is above 1,000,000,000": 1,
            "input_tokens is negative": 1,
            "input_tokens is not a whole number": 1,
        }
        assert [one["line"] for one in rejects(log)] == list(range(2, 9))
    rows = [{**row, "input_tokens": "" if row["input_tokens"] is None else row["input_tokens"]} for row in rows]
    with read(write_csv(tmp_path / "b", rows), max_rejected_share=0.9) as log:
        assert log.rows_used == 2
        assert [one["line"] for one in rejects(log)] == list(range(3, 10))
        assert rejects(log)[1]["text"].endswith(",-5,10,r2")


def test_later_rows_with_a_request_id_that_came_before_are_rejected(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a", [plain(0), plain(1), plain(2, request_id="r0"), plain(3, request_id=None)])
    write_csv(tmp_path / "b", [plain(1), plain(5)])
    with read([tmp_path / "a", tmp_path / "b"]) as log:
        assert log.reject_reasons == {"its request id came before": 2}
        assert [(Path(one["file"]).name, one["line"]) for one in rejects(log)] == [("a", 3), ("b", 2)]
        assert fetch(log, "input_tokens") == [(100,), (101,), (103,), (105,)]
    table = frame(4).assign(request_id=["a", "b", "a", "c"])
    duckdb_write(table, tmp_path / "c")
    with read(tmp_path / "c") as log:
        assert [one["line"] for one in rejects(log)] == [3]


def test_mixed_schemas_in_one_file_and_across_files(tmp_path: Path) -> None:
    chat = {"id": "c1", "created": 1714564800, "model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 6}}
    mixed = write_jsonl(tmp_path / "a", [*(plain(i) for i in range(3)), chat, {"hello": 1}])
    with read(mixed) as log:
        assert (log.rows_used, log.rows_rejected) == (4, 1)
        assert log.schema == "openai-chat + plain"
        assert any("mix schemas" in note for note in log.notes)
    late = write_jsonl(tmp_path / "b", [*(plain(i) for i in range(3000)), chat])  # beyond the lines first looked at
    with read(late, max_rejected_share=0) as log:
        assert log.rows_used == 3001
        assert "openai-chat" in log.schema
    other = tmp_path / "c"
    other.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")
    with read([mixed, other]) as log:
        assert log.rows_used == 5
    counts = write_csv(tmp_path / "d", [{"hour_start_s": 0, "requests": 4}])
    with pytest.raises(InputError, match="read them separately"):
        ingest([mixed, counts])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_ten_megabyte_lines(tmp_path: Path, kind: str) -> None:
    rows = [plain(i, prompt="x") for i in range(4)]
    rows[2]["prompt"] = "y" * 10_000_000
    file = (write_csv if kind == "csv" else write_jsonl)(tmp_path / "a", rows)
    with read(file, max_rejected_share=0) as log:
        assert fetch(log, "strlen(prompt)") == [(1,), (1,), (10_000_000,), (1,)]


def test_csv_rows_that_are_broken_have_their_line_and_text(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(
        b"timestamp,input_tokens,output_tokens,prompt\n"
        b'2024-05-01 12:00:00,1,2,"two\nlines"\n'  # lines 2 and 3
        b"2024-05-01 12:00:01,5\n"  # 4: too few
        b"\n"
        b"2024-05-01 12:00:02,1,2,a,b\n"  # 6: too many
        b"2024-05-01 12:00:03,-1,2,a\n"  # 7: negative
        b"2024-05-01 12:00:04,1,2,\xff\xfe\n"  # 8: not UTF-8, used
        b"timestamp,input_tokens,output_tokens,prompt\n"  # 9: a header again
        b"2024-05-01 12:00:05,1,2,a\n"
        b'2024-05-01 12:00:06,1,2,"open\n'  # 11
        b"2024-05-01 12:00:07,1,2,swallowed\n"  # 12
    )
    with read(file, max_rejected_share=1) as log:
        assert (log.rows_read, log.rows_used) == (9, 3)
        assert [(one["line"], one["reason"]) for one in rejects(log)] == [
            (4, "too few columns"),
            (6, "too many columns"),
            (7, "input_tokens is negative"),
            (9, "the time cannot be read"),
            (11, "a quote that is not closed"),
            (12, "a quote that is not closed"),
        ]
        assert rejects(log)[5]["text"] == "2024-05-01 12:00:07,1,2,swallowed"


def test_a_stray_quote_costs_its_own_line(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a", [plain(i, model='"m"' if i == 1 else "m") for i in range(500)])
    lines = file.read_text().splitlines()
    lines[100] = lines[100].replace(",m", ',"m')
    file.write_text("\n".join(lines) + "\n")
    with read(file) as log:
        assert (log.rows_read, log.rows_used) == (500, 500)  # as a character of the model's name


def test_what_other_programs_write_for_nothing_is_unknown(tmp_path: Path) -> None:
    nothing = ["", "NULL", "null", "None", "NaN", "nan", "N/A", r"\N"]
    with read(write_csv(tmp_path / "a", [plain(i, cached_tokens=word) for i, word in enumerate(nothing)])) as log:
        assert fetch(log, "count(*), count(cached_tokens)", "1") == [(len(nothing), 0)]


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    good, bad = write_jsonl(tmp_path / "a", [plain(0, prompt="secret")]), write_jsonl(tmp_path / "b", [{"x": 1}])
    with pytest.raises(InputError):
        ingest(bad)
    log = ingest(good)
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    log.close()
    ingest(good)  # nobody closes this one
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    for write in (write_csv, write_jsonl):
        file = write(tmp_path / write.__name__, [plain(i) for i in range(3)])
        file.write_text(file.read_text().replace("\n", "\n\n  \n"))
        with read(file, max_rejected_share=0) as log:
            assert log.rows_read == 3


def test_line_ends_of_both_kinds_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a", [plain(i) for i in range(6)])
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines[:3]) + b"\r\n" + b"\n".join(lines[3:]))
    with read(file, max_rejected_share=0) as log:
        assert log.rows_used == 6
    file = write_jsonl(tmp_path / "b", [plain(i) for i in range(6)])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    with read(file, max_rejected_share=0) as log:
        assert log.rows_used == 6


def test_too_many_rejects_stop_with_the_reasons(tmp_path: Path) -> None:
    rows = [plain(i, output_tokens=-1 if i % 10 == 0 else 5) for i in range(100)]
    file = write_jsonl(tmp_path / "a", rows)
    with pytest.raises(
        InputError, match=r"10 of 100 rows were rejected \(10.0%\).*10: output_tokens is negative.*line 1:"
    ):
        ingest(file)
    with pytest.raises(InputError, match="All of them"):
        ingest(file, rejects=tmp_path / "rejects.jsonl")
    assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 10
    with read(file, max_rejected_share=0.1) as log:
        assert log.rows_used == 90


def test_logs_that_are_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(InputError, match="is empty"):
        ingest(empty)
    only = tmp_path / "header.csv"
    only.write_text("timestamp,input_tokens,output_tokens\n")
    with pytest.raises(InputError, match="no row"):
        ingest(only)
    binary = tmp_path / "model.bin"
    binary.write_bytes(bytes(range(256)) * 100)
    with pytest.raises(InputError, match="binary"):
        ingest(binary)
    cut = tmp_path / "cut.parquet"
    duckdb_write(frame(), cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut or damaged"):
        ingest(cut)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no logs in"):
        ingest(tmp_path / "nothing")


def test_options_that_cannot_be(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a", [plain(0)])
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"memory_limit": "much"}, "memory_limit"),
        ({"threads": 0}, "threads"),
        ({"max_rejected_share": 2}, "max_rejected_share"),
        ({"rejects": tmp_path / "no" / "such.jsonl"}, None),
    ]
    for options, message in cases:
        if message is None:
            write_jsonl(file, [plain(0), plain(1, input_tokens=-1)])
            message, options = "cannot write the rejected rows", {**options, "max_rejected_share": 1}
        with pytest.raises(InputError, match=message):
            ingest(file, **options)


# Tokens from texts


def test_tokens_are_counted_where_there_are_only_texts(tmp_path: Path) -> None:
    rows = [{"time": NOON.isoformat(), "prompt": "héllo" * i, "response": "abc"} for i in range(1, 5000)]
    file = write_jsonl(tmp_path / "a", rows)
    with read(file, tokenizer=BYTES) as log:
        assert log.token_source == "counted"
        assert fetch(log, "input_tokens, output_tokens", "input_tokens")[:2] == [(6, 3), (12, 3)]
        assert any("4,999 rows were counted" in note for note in log.notes)
    some = write_jsonl(
        tmp_path / "b", [*(plain(i, prompt="abcd") for i in range(3)), plain(9, prompt="ab", input_tokens=None)]
    )
    with read(some, tokenizer=BYTES) as log:
        assert fetch(log, "input_tokens") == [(100,), (101,), (102,), (2,)]


@pytest.mark.parametrize("staged", [True, False], ids=["staged", "read where it lies"])
def test_prompts_of_a_template_that_differ_in_two_numbers_are_no_repeats(tmp_path: Path, staged: bool) -> None:
    """DuckDB's hash() takes a fifth of these for others of them."""
    count = 20_000
    prompts = [f"Hello{i % 100:04d}, order no. {i // 100:04d}" for i in range(count)]
    table = frame(count).assign(prompt=prompts)
    file = tmp_path / "log"
    if staged:
        table.to_json(file, orient="records", lines=True, date_format="iso")
    else:
        duckdb_write(table, file)
    with read(file) as log:
        assert fetch(log, "count(DISTINCT prompt_hash)", "1") == [(count,)]


def test_without_a_tokenizer_the_error_says_how_to_give_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    only_texts = {"time": NOON.isoformat(), "prompt": "hello", "response": "abc"}
    file = write_jsonl(tmp_path / "a", [only_texts] * 3)
    with pytest.raises(InputError, match=r"texts but no token counts.*tokenizer='path/to/tokenizer.json'"):
        ingest(file)
    with pytest.raises(InputError, match="not in tiktoken's cache"):
        ingest(file, tokenizer="cl100k_base")
    with pytest.raises(InputError, match="must be a tokenizer"):
        ingest(file, tokenizer="nothing.json")
    some = write_jsonl(
        tmp_path / "b", [*(plain(i, response="abcd") for i in range(9)), plain(9, output_tokens=None, response="ab")]
    )
    with read(some) as log:
        assert log.reject_reasons == {"no token count, and no tokenizer to count the text with": 1}


def test_a_local_tokenizer(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    file = write_jsonl(tmp_path / "a", [{"time": NOON.isoformat(), "prompt": "a b c", "response": "a"}])
    with read(file, tokenizer=tmp_path / "tokenizer.json") as log:
        assert fetch(log, "input_tokens, output_tokens") == [(3, 1)]


# Damage at random


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["csv", "jsonl"]), packed=st.booleans())
def test_rows_read_are_the_lines_of_the_file_whatever_is_damaged(
    tmp_path: Path, data: st.DataObject, kind: str, packed: bool
) -> None:
    write = write_csv if kind == "csv" else write_jsonl
    file = write(tmp_path / "log", [plain(i) for i in range(30)])
    header = kind == "csv"
    lines = file.read_bytes().split(b"\n")[:-1]
    harm = st.tuples(
        st.integers(int(header), len(lines) - 1),
        st.one_of(
            st.sampled_from(
                [b"", b" ", b",", b'"', b"{", b"}", b"\xff", b"\x00", b"null", b"1e999", b"-1", b"\r", b"\x01"]
            ),
            st.binary(max_size=12).map(lambda junk: junk.replace(b"\n", b"")),
        ),
        st.integers(0, 80),
        st.sampled_from(["insert", "replace", "cut"]),
    )
    for at, junk, where, how in data.draw(st.lists(harm, max_size=8)):
        line = lines[at]
        kept = {"insert": line[where:], "replace": line[where + len(junk) :], "cut": b""}[how]
        lines[at] = line[:where] + junk + kept
    raw = b"\n".join(lines) + b"\n"
    file.write_bytes(gzip.compress(raw) if packed else raw)
    with read(file, max_rejected_share=1) as log:
        count = sum(bool(line.strip(b" \t\r\v\f")) for line in lines[header:])
        if header and raw.count(b'"') > 1:  # two stray quotes may make one record of several lines
            assert 0 < log.rows_read <= count
        else:
            assert log.rows_read == count
        if log.rejects_file:
            told = [reject["line"] for reject in rejects(log)]
            assert told == sorted(set(told))
            assert all(lines[line - 1].strip() for line in told)
