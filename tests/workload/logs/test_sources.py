"""What a file is, is told by its content; a file of each kind under a misleading name."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from distillcalc.errors import InputError
from distillcalc.workload.logs.sources import Source, find_sources, gunzip, head_lines, open_lines, recognise_file

CSV = b"timestamp,input_tokens,output_tokens\n2024-05-01 12:00:00,1,2\n"
JSONL = b'{"timestamp": 1714564800, "input_tokens": 1, "output_tokens": 2}\n'


def zstd(file: Path, lines: int = 1) -> Path:
    duckdb.execute(
        f"COPY (SELECT i AS \"a,b\" FROM range({lines}) t(i)) TO '{file}' (FORMAT csv, DELIMITER ';', "
        "COMPRESSION zstd, QUOTE '', ESCAPE '')"
    )
    return file


@pytest.mark.parametrize(
    ("content", "format", "compression"),
    [
        (CSV, "csv", "none"),
        (JSONL, "jsonl", "none"),
        (gzip.compress(CSV, mtime=0), "csv", "gzip"),
        (gzip.compress(JSONL, mtime=0), "jsonl", "gzip"),
        (b"\n\n" + JSONL, "jsonl", "none"),
        (b'{"timestamp": 17145\n' + JSONL, "jsonl", "none"),
        (b"half a line}\n" + JSONL * 3, "jsonl", "none"),
        (b"[\n" + JSONL.strip() + b"\n]\n", "jsonl", "none"),
    ],
)
def test_content_not_name(tmp_path: Path, content: bytes, format: str, compression: str) -> None:
    file = tmp_path / "traffic.parquet"
    file.write_bytes(content)
    found = recognise_file(file)
    assert (found.format, found.compression) == (format, compression)


def test_zstd_and_parquet(tmp_path: Path) -> None:
    assert recognise_file(zstd(tmp_path / "a.csv")).compression == "zstd"
    duckdb.execute(f"COPY (SELECT 1 AS a) TO '{tmp_path / 'b.csv'}' (FORMAT parquet)")
    assert recognise_file(tmp_path / "b.csv").format == "parquet"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(CSV.replace(b",", delimiter.encode()))
    assert recognise_file(file).delimiter == delimiter


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty once unpacked"),
        (b"PK\x03\x04....", "zip archive"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        ("timestamp,input".encode("utf-16"), "UTF-16"),
        (b"\x7fELF\x02\x01\x01" + bytes(200), "binary"),
        (b"Dear reader\nthis is a letter\n", "first line is 'Dear reader'"),
        (b'{\n  "a": 1\n}\n', "jq -c"),
    ],
)
def test_what_is_no_log_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        find_sources(file)


def test_places_without_logs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder is empty"):
        find_sources(tmp_path)
    (tmp_path / "README.md").write_text("# Logs\n")
    with pytest.raises(InputError, match=r"no logs in .*README.md is neither"):
        find_sources(tmp_path)
    with pytest.raises(InputError, match="no file fits the glob"):
        find_sources(str(tmp_path / "*.csv"))
    with pytest.raises(InputError, match="no file "):
        find_sources(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no logs given"):
        find_sources([])
    with pytest.raises(InputError, match="Got int"):
        find_sources(7)  # type: ignore[arg-type]


def test_a_folder_is_searched_in_order_and_what_is_passed_over_is_noted(tmp_path: Path) -> None:
    for name in ("b/2", "a/1", "a/0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CSV)
    (tmp_path / "a" / "empty").touch()
    found, notes = find_sources([tmp_path, pd.DataFrame({"a": [1]})])
    assert [source.path and source.path.name for source in found] == ["0", "1", "2", None]
    assert notes == [f"passed over: {tmp_path / 'a' / 'empty'} is empty"]


def test_gunzip_reads_members_on_and_stops_at_damage() -> None:
    whole = gzip.compress(CSV) + gzip.compress(JSONL)
    assert b"".join(gunzip(io.BytesIO(whole))) == CSV + JSONL
    assert b"".join(gunzip(io.BytesIO(whole[:-4]))) == CSV + JSONL
    many = CSV * 10_000
    cut = b"".join(gunzip(io.BytesIO(gzip.compress(many, 1)[:500])))
    assert many.startswith(cut)
    assert len(cut) > 100
    assert b"".join(gunzip(io.BytesIO(gzip.compress(CSV) + b"junk"))) == CSV


def test_a_zstd_file_that_is_cut_is_known_as_such(tmp_path: Path) -> None:
    file = zstd(tmp_path / "a", 300_000)
    whole = file.read_bytes()
    assert not recognise_file(file).cut
    skippable = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    file.write_bytes(whole + skippable + whole)
    assert not recognise_file(file).cut
    for length in (len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert recognise_file(file).cut
    file.write_bytes(whole + whole[:40])
    assert recognise_file(file).cut


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines(tmp_path: Path, pack: type[bytes]) -> None:
    file = tmp_path / "a"
    file.write_bytes(pack(b"a,b\r\n\n1,2\n3,4"))
    source = recognise_file(file)
    assert list(open_lines(source)) == [b"a,b\r", b"", b"1,2", b"3,4"]
    assert head_lines(source, 2) == ["a,b", "1,2"]


def test_what_a_source_is_called() -> None:
    assert Source(None, "frame").name == "the DataFrame"
    assert Source(Path("a/b"), "csv").name == "a/b"
