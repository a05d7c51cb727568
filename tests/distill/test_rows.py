"""Rows from everywhere, and every row that cannot be used with its reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.rows import EXCERPT, Reject, Row, Rows
from distillcalc.distill.task import Task
from distillcalc.errors import InputError

TASK = Task()


def read(source: Any, task: Task = TASK, **options: Any) -> list[Row | Reject]:
    return list(Rows(source, **options).read(task))


def texts(found: Sequence[Row | Reject]) -> list[Any]:
    return [row.values["text"] for row in found if isinstance(row, Row)]


def reasons(found: Sequence[Row | Reject]) -> list[tuple[int, str]]:
    return [(row.place, row.reason) for row in found if isinstance(row, Reject)]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_the_same_rows_from_every_source(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": ["a", 'ü, "b"\nc'], "id": [1, 2]})
    table.to_parquet(tmp_path / "r.parquet")
    table.to_csv(tmp_path / "r.csv", index=False)
    table.to_json(tmp_path / "r.jsonl", orient="records", lines=True)
    rows = table.to_dict("records")
    for source in (table, rows, *(tmp_path / f"r.{kind}" for kind in ("parquet", "csv", "jsonl"))):
        found = read(source, id="id")  # type: ignore[arg-type]
        assert [(row.place, row.id, row.values) for row in found if isinstance(row, Row)] == [
            (1, "1", {"text": "a"}),
            (2, "2", {"text": 'ü, "b"\nc'}),
        ]


def test_lines_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "a"}', b"", b"{", b"[1]", b'{"text": "  "}', b'{"text": null}', b'{"text": NaN}',
        b"\xff\xfe", b'{"text": ' + b"[" * 100_000, b'{"text": ' + b"1" * 5_000 + b"}", b'{"text": "\\ud83d"}',
        b'{"text": "b"}',
    ]  # fmt: skip
    found = read(written(tmp_path, "r.jsonl", b"\n".join(lines)))
    assert texts(found) == ["a", "b"]
    told = reasons(found)
    assert [place for place, _ in told] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert told[1] == (4, "not a JSON object")
    assert {reason for _, reason in told[2:5]} == {"text is empty"}
    assert "lone surrogate" in told[-1][1]
    for reject in found:
        if isinstance(reject, Reject):
            assert len(reject.text) <= EXCERPT
            json.dumps(reject.to_dict(), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("r.csv", "", "is empty: its first line names the columns"),
        ("r.csv", "text,text\na,b\n", "names a column twice. Got text"),
        ("r.csv", b"text\n\xff\n", "not UTF-8"),
        ("r.csv", "txt\na\n", "Did you mean txt"),
        ("r.jsonl", '{"txt": "a"}\n', "Did you mean txt"),
        ("r.jsonl", '{\n{"txt": "a"}\n', "Did you mean txt"),  # the first line is none, the second tells
        ("r.parquet", "no", "not Parquet"),
        ("r.tsv", "text\na\n", "Got 'r.tsv'"),
        ("r.jsonl.gz", "", r"\.jsonl, \.csv or \.parquet"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(written(tmp_path, name, content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError, match="no input file"):
            read(path)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read(written(tmp_path, "r.jsonl", "\n\n")) == []
    assert read(written(tmp_path, "r.csv", "text\n")) == []
    assert read([]) == []
    assert read(pd.DataFrame({"text": []})) == []


def test_cells_that_are_too_many_or_few(tmp_path: Path) -> None:
    found = read(written(tmp_path, "r.csv", "text,b\na\n\nc,d,e\nf,g\n"))
    assert reasons(found) == [(1, "1 cells where the header has 2"), (2, "3 cells where the header has 2")]
    assert texts(found) == ["f"]


@pytest.mark.parametrize("source", [None, 3, {"text": "a"}, b"x", iter([{"text": "a"}]), ({"text": t} for t in "ab")])
def test_what_cannot_be_read_again(source: Any) -> None:
    with pytest.raises(InputError, match="read an iterator into a list first"):
        read(source)


def test_rows_that_are_no_mappings() -> None:
    assert reasons(read(["a", {"text": "b"}, 3])) == [(1, "not a mapping"), (3, "not a mapping")]


def test_values_of_numpy_and_pandas() -> None:
    table = pd.DataFrame({"text": ["a", "b", "c", "d"], "n": [1.0, np.nan, np.inf, 2.5]})
    found = read(table, Task(prompt="{text}{n}"))
    assert [row.values["n"] for row in found if isinstance(row, Row)] == [1.0, 2.5]
    assert reasons(found) == [(2, "n is empty"), (3, "n is empty")]
    missing = pd.DataFrame({"text": pd.array(["a", pd.NA], dtype="string"), "n": [pd.NaT, pd.Timestamp("2026-01-02")]})
    assert reasons(read(missing, Task(prompt="{text}{n}"))) == [(1, "n is empty"), (2, "text is empty")]
    (row,) = read([{"text": np.array([np.float32(0.5), np.nan])}])
    assert isinstance(row, Row)
    assert row.values["text"] == [0.5, None]
    (row,) = read([{"text": np.int64(7)}])
    assert isinstance(row, Row)
    assert type(row.values["text"]) is int


def test_bytes_are_text() -> None:
    assert texts(read([{"text": "ü".encode()}])) == ["ü"]


def test_a_table_with_a_column_twice() -> None:
    with pytest.raises(InputError, match=r"the DataFrame names a column twice. Got text"):
        read(pd.DataFrame([["a", "b"]], columns=["text", "text"]))


def test_ids_are_there_once() -> None:
    rows = [{"text": "a", "k": 1}, {"text": "b", "k": "1"}, {"text": "c", "k": None}, {"text": "d", "k": ""}]
    found = read(rows, id="k")
    assert texts(found) == ["a"]
    assert reasons(found) == [(2, "another row has the id '1' too"), (3, "k is empty"), (4, "k is empty")]


def test_ids_are_the_numbers_of_rows_where_none_are_named() -> None:
    assert [row.id for row in read([{"text": "a"}, {}, {"text": "b"}]) if isinstance(row, Row)] == ["1", "3"]


def test_the_label_of_a_person_is_not_shown_to_the_teacher() -> None:
    with pytest.raises(InputError, match="told the answer"):
        read([{"text": "a"}], human_label="text")
    rows = [{"text": "a", "gold": g} for g in ("yes", "", "  ", None, float("nan"), 3, True, {"b": "ä"})]
    found = [row.human_label for row in read(rows, human_label="gold") if isinstance(row, Row)]
    assert found == ["yes", None, None, None, None, "3", "true", '{"b": "ä"}']
    assert all("gold" not in row.values for row in read(rows, human_label="gold") if isinstance(row, Row))


@pytest.mark.parametrize("option", ["id", "human_label"])
def test_a_column_that_is_not_there(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} names the field 'nme'.*Did you mean name"):
        read([{"text": "a", "name": 1}], **{option: "nme"})


def test_a_limit_is_of_rows_from_the_start() -> None:
    assert texts(read([{"text": t} for t in "abc"], limit=2)) == ["a", "b"]


cells = st.one_of(st.none(), st.text(), st.floats(), st.integers(), st.lists(st.text(), max_size=2))


@given(rows=st.lists(st.dictionaries(st.sampled_from(["text", "k"]), cells), max_size=6))
def test_every_row_is_used_or_told(rows: list[dict[str, Any]]) -> None:
    first = {"text": "first", "k": "first"}
    found = read([first, *rows], id="k")
    assert [row.place for row in found] == list(range(1, len(rows) + 2))
    ids = [row.id for row in found if isinstance(row, Row)]
    assert len(set(ids)) == len(ids)


def test_rows_are_read_again_and_again(tmp_path: Path) -> None:
    rows = Rows(written(tmp_path, "r.jsonl", '{"text": "a"}\n'))
    assert list(rows.read(TASK)) == list(rows.read(TASK))
    assert rows.name == "r.jsonl"
    assert Rows([]).name == "rows given in memory"
