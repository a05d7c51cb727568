"""Damage that is easily overlooked: nothing is lost in silence, no log is overwritten, rejects are found again."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillcalc.errors import InputError
from distillcalc.workload.logs import ingest, profile_logs

START = 1_788_220_800
HEADER = "timestamp,request_id,prompt,input_tokens,output_tokens\n"


def row(i: int, **changes: Any) -> dict[str, Any]:
    return {"timestamp": START + 30 * i, "request_id": f"r{i}", "input_tokens": 100 + i % 7, "output_tokens": 10} | (
        changes
    )


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


def told(file: Path) -> list[tuple[int, str]]:
    return [(one["line"], one["reason"]) for one in map(json.loads, file.read_text().splitlines())]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "distillcalc", "workload", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=120,
    )  # fmt: skip


# Packed files


def test_a_gzip_with_a_byte_flipped_is_read_up_to_there_and_said_to_be_damaged(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(write(tmp_path / "a", [row(i) for i in range(20_000)]).read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "a").write_bytes(packed)
    with ingest(tmp_path / "a", max_rejected_share=1) as log:
        assert log.rows_read == log.rows_used + log.rows_rejected <= 20_000
        assert log.reject_reasons["cut off by the end of a damaged file"] == 1
        assert any("cut or damaged" in note for note in log.notes)
    packed = bytearray(gzip.compress(json.dumps([row(i) for i in range(2_000)]).encode()))
    packed[-6] ^= 0xFF  # of the checksum
    (tmp_path / "b").write_bytes(packed)
    with pytest.raises(InputError, match="the gzip file is cut or damaged"):
        ingest(tmp_path / "b")


def test_gzip_of_several_members_and_with_something_behind_it_is_whole(tmp_path: Path) -> None:
    lines = write(tmp_path / "a", [row(i) for i in range(2_000)]).read_bytes()
    half = lines.index(b"\n", len(lines) // 2) + 1
    for after in (b"", b"\0" * 512, b"signature"):
        (tmp_path / "a").write_bytes(gzip.compress(lines[:half]) + gzip.compress(lines[half:]) + after)
        with ingest(tmp_path / "a", max_rejected_share=0) as log:
            assert (log.rows_used, log.notes) == (2_000, [])


# What is written


def test_a_log_is_never_overwritten(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [row(0, input_tokens=-1), *(row(i) for i in range(1, 300))])
    before = log.read_bytes()
    (tmp_path / "other").symlink_to(log)
    for file in (log, tmp_path / "other"):
        with pytest.raises(InputError, match=r"rejects would overwrite .*, which is one of the logs"):
            ingest(log, rejects=file)
    for option in ("--rejects", "-o", "--figure"):
        done = run("log.jsonl", option, "log.jsonl", cwd=tmp_path)
        assert (done.returncode, "which is one of the logs" in done.stderr) == (2, True), done.stderr
    assert log.read_bytes() == before


def test_what_was_written_before_is_no_log(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", [row(0, input_tokens=-1), *(row(i) for i in range(1, 300))])
    for _ in range(2):  # the second time, what the first has written lies among the logs
        done = run(".", "-o", "mine.toml", "--rejects", "rejects.jsonl", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "holds the rows that distillcalc rejected" in done.stdout
    assert "is a scenario that distillcalc wrote" in done.stdout
    assert told(tmp_path / "rejects.jsonl") == [(1, "input_tokens is negative")]
    with pytest.raises(InputError, match="holds the rows that distillcalc rejected"):
        ingest(tmp_path / "rejects.jsonl")


def test_rejected_rows_are_shown_where_no_file_is_given(tmp_path: Path) -> None:
    write(tmp_path / "a", [row(i, input_tokens=-1 if i < 4 else 5, prompt="secret") for i in range(500)])
    done = run("a", "-o", "mine.toml", cwd=tmp_path)
    assert "rejected: a line 1: input_tokens is negative: '{" in done.stdout
    assert "--rejects FILE writes all 4" in done.stdout
    assert "secret" not in (tmp_path / "mine.toml").read_text()
    profile = profile_logs(tmp_path / "a")
    assert profile.source.rejects_file is None
    assert profile.source.reject_examples == tuple(
        (str(tmp_path / "a"), i, "input_tokens is negative") for i in (1, 2, 3)
    )
    assert "secret" not in json.dumps(profile.to_dict())
    assert profile_logs(tmp_path / "a", rejects=tmp_path / "b").source.rejects_file == str(tmp_path / "b")


# Pages


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pages", [1, 10])
def test_pages_of_an_interface_are_read_like_arrays(
    tmp_path: Path, indent: int | None, packed: bool, pages: int
) -> None:
    rows = [row(i, model={"name": "m"}) for i in range(1_000)]
    rows[7]["input_tokens"] = -1
    size = 1_000 // pages
    text = "".join(
        json.dumps({"meta": {"page": i, "data": [1]}, "data": rows[i * size : (i + 1) * size]}, indent=indent) + "\n"
        for i in range(pages)
    )
    (tmp_path / "a").write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with ingest(tmp_path / "a", rejects=tmp_path / "b") as log:
        assert (log.schema, log.rows_read, log.rows_used) == ("plain", 1_000, 999)
    assert told(tmp_path / "b") == [(8, "input_tokens is negative")]


def test_a_page_may_be_larger_than_what_is_looked_at_first(tmp_path: Path) -> None:
    rows = [row(i, prompt="x" * 30_000) for i in range(100)]
    (tmp_path / "a").write_text(json.dumps({"data": rows, "meta": {}}))
    with ingest(tmp_path / "a", max_rejected_share=0) as log:
        assert log.rows_used == 100


# Where rejected rows stand


def test_lines_of_a_csv_whose_texts_have_quotes_and_lines(tmp_path: Path) -> None:
    lines = [f'{START + i},r{i},"say ""hi"" {i}\nline two",5,10\n' for i in range(10)]
    lines[6] = lines[6].replace(",5,10", ",-5,10")
    (tmp_path / "a").write_text(HEADER + "".join(lines))
    with ingest(tmp_path / "a", max_rejected_share=1, rejects=tmp_path / "b"):
        assert told(tmp_path / "b") == [(14, "input_tokens is negative")]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_last_line_that_is_half_stands_last(tmp_path: Path, threads: int) -> None:
    rows = [row(i, prompt="p" * 300, status="success") for i in range(12_000)]
    rows[6_000]["input_tokens"] = -5
    file = write(tmp_path / "a", rows)
    file.write_text(file.read_text() + json.dumps(rows[0])[:44])
    with ingest(file, threads=threads, rejects=tmp_path / "b"):
        assert told(tmp_path / "b") == [(6_001, "input_tokens is negative"), (12_001, "not valid JSON")]


def test_a_stray_quote_leaves_the_rows_in_order(tmp_path: Path) -> None:
    lines = [f'{START + i},r{i},"hello {i}",5,10,success\n' for i in range(1_000)]
    lines[11] = lines[11].replace('"hello 11"', '"hel"lo" 11"')
    lines[13] = lines[13].replace(",5,", ",-5,")
    (tmp_path / "a").write_text(HEADER.replace("\n", ",status\n") + "".join(lines))
    with ingest(tmp_path / "a", rejects=tmp_path / "b") as log:
        assert not any("backwards" in note for note in log.notes)
    assert told(tmp_path / "b") == [(13, "a quote that is not closed"), (15, "input_tokens is negative")]


@pytest.mark.parametrize("limit", [1000, None, b"1GiB"])
def test_a_memory_limit_that_is_no_text(tmp_path: Path, limit: Any) -> None:
    with pytest.raises(InputError, match="memory_limit must be a size such as '1GiB'"):
        ingest(write(tmp_path / "a", [row(0)]), memory_limit=limit)


def test_pages_without_items_and_lines_that_are_no_pages(tmp_path: Path) -> None:
    lines = [
        {"data": [row(i) for i in range(3)]},
        {"data": []},
        row(7),
        {"data": [row(8)]},
        {"data": [row(9)], "error": 1},
    ]
    with ingest(write(tmp_path / "a", lines), max_rejected_share=0.5) as log:
        assert (log.rows_used, log.reject_reasons) == (6, {})
    with ingest(write(tmp_path / "b", [row(i, results=[{"rank": 1}], items=[{"x": 2}]) for i in range(9)])) as log:
        assert log.rows_used == 9
    lines = [{"when": START + i, "n": 5, "m": 6, "items": [{"x": 2}]} for i in range(9)]
    with ingest(write(tmp_path / "c", lines), columns={"at": "when", "input_tokens": "n", "output_tokens": "m"}) as log:
        assert log.rows_used == 9


@pytest.mark.parametrize("columns", ["when", ["when", "n"], 3])
def test_columns_that_are_no_mapping(tmp_path: Path, columns: Any) -> None:
    with pytest.raises(InputError, match=r"columns must be a mapping such as .*Got"):
        profile_logs(write(tmp_path / "a", [row(0)]), columns=columns)
