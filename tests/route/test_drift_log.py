"""Live logs as they are found: every line is read, or counted with its number and the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distillcalc.errors import InputError
from distillcalc.route.live_log import read_log
from distillcalc.route.reference import Reference
from distillcalc.route.watch import Watch

ROWS = [
    {"time": "2026-03-01T00:00:00Z", "score": 0.9, "escalated": False, "student_answer": "a", "teacher_answer": " a\n"},
    {"time": 1772323260, "score": 0.5, "escalated": True, "right": True},
    {"time": 1772323320000, "score": None, "escalated": 1},
    {"time": "2026-03-01 00:03:00", "score": 0.8, "escalated": 0, "student_answer": "a", "teacher_answer": "b"},
    {"time": "2026-03-01T02:04:00+02:00", "score": 0.7, "escalated": False, "agreement": 1, "right": 0.25},
]
START = 1772323200.0  # 2026-03-01T00:00:00Z


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "live.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    log = read_log(file)
    assert log.time.tolist() == [START + 60 * i for i in range(5)]
    np.testing.assert_equal(log.score, [0.9, 0.5, np.nan, 0.8, 0.7])
    assert log.escalated.tolist() == [0, 1, 1, 0, 0]
    np.testing.assert_equal(log.agreement, [1, np.nan, np.nan, 0, 1])
    np.testing.assert_equal(log.right, [np.nan, 1, np.nan, np.nan, 0.25])
    assert str(log) == "5 requests read"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_hold_the_same(tmp_path: Path, kind: str) -> None:
    lines = tmp_path / "live.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in ROWS))
    table = pd.DataFrame(ROWS).rename(columns={"score": "confidence"})
    table["time"] = [START + 60 * i for i in range(5)]
    file = tmp_path / f"live.{kind}"
    if kind == "csv":
        table.to_csv(file, index=False)
    else:
        table["time"] = pd.to_datetime(table["time"], unit="s")
        table["escalated"] = table["escalated"].astype(bool)
        table["right"] = table["right"].astype(float)
        table.to_parquet(file)
    log, other = read_log(file, columns={"score": "confidence"}), read_log(lines)
    for name in ("time", "score", "escalated", "agreement", "right"):
        np.testing.assert_equal(getattr(log, name), getattr(other, name), err_msg=name)


def test_unreadable_lines_are_counted_with_line_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "live.jsonl"
    file.write_text(
        '{"score": 0.5, "escalated": true}\n'
        '{"score": 0.5, "escal\n'
        "[1, 2]\n"
        '{"score": "high", "escalated": true}\n'
        '{"score": 0.5, "escalated": 0.5}\n'
        '{"score": 0.5, "escalated": "yes", "right": 3}\n'
        '{"score": 0.5, "escalated": "no", "time": "yesterday"}\n'
        '{"score": 0.5}\n'
        '{"score": 0.25, "escalated": "no"}\n'
    )
    log = read_log(file)
    assert log.score.tolist() == [0.5, 0.25]
    assert [(one.line, one.reason.split(".")[0]) for one in log.unreadable] == [
        (2, "no JSON"),
        (3, "no JSON object"),
        (4, "score must be a number"),
        (5, "escalated must be true or false"),
        (6, "right must be true, false or between 0 and 1"),
        (7, "time must be ISO 8601 or seconds since 1970"),
        (8, "escalated must be true or false"),
    ]
    assert "2 requests read, 7 lines not" in str(log)
    assert "2 x escalated must be true or false" in str(log)
    assert "the first is line 2" in str(log)


def test_a_csv_with_a_broken_line_and_a_line_break_in_a_cell(tmp_path: Path) -> None:
    file = tmp_path / "live.csv"
    file.write_text('score,escalated,student_answer\n0.5,1,"two\nlines"\n0.5,1\n0.6,0,x\n0.7,,x\n')
    log = read_log(file)
    assert log.score.tolist() == [0.5, 0.6]
    assert [one.line for one in log.unreadable] == [4, 6]
    assert log.unreadable[0].reason == "other cells than the header's 3. Got 2"


def test_rows_are_taken_in_the_order_of_their_times(tmp_path: Path) -> None:
    file = tmp_path / "live.csv"
    file.write_text("time,score,escalated\n30,0.3,0\n10,0.1,0\n20,0.2,1\n")
    log = read_log(file)
    assert log.score.tolist() == [0.1, 0.2, 0.3]
    assert log.reordered
    assert "sorted by time" in str(log)
    watch = Watch(Reference.of(np.arange(30), np.zeros(30)))
    watch.read(log)
    assert watch.report().requests_per_day == pytest.approx(3 / 20 * 86_400)


def test_answers_are_the_same_as_the_user_says(tmp_path: Path) -> None:
    file = tmp_path / "live.csv"
    file.write_text("score,escalated,student_answer,teacher_answer\n1,0,Yes,yes\n")
    assert read_log(file).agreement.tolist() == [0]
    assert read_log(file, same=lambda a, b: a.lower() == b.lower()).agreement.tolist() == [1]


def test_files_that_are_no_log(tmp_path: Path) -> None:
    file = tmp_path / "live.csv"
    file.write_text("confidence,escalated\n0.5,1\n")
    with pytest.raises(InputError, match="no column score"):
        read_log(file)
    with pytest.raises(InputError, match="columns may name"):
        read_log(file, columns={"scores": "confidence"})
    with pytest.raises(InputError, match="cannot be read"):
        read_log(tmp_path / "none.csv")
    with pytest.raises(InputError, match="a live log is"):
        read_log(tmp_path / "live.txt")
    (tmp_path / "live.parquet").write_text("no table")
    with pytest.raises(InputError, match="no Parquet file"):
        read_log(tmp_path / "live.parquet")
