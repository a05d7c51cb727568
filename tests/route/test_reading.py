"""Pairs out of tables: what is read, what is rejected with which reason, and that writing reads back equal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.route.pairs import Pairs
from distillcalc.route.reading import read_pairs, write_pairs, write_rejects
from distillcalc.route.requests import Request

CSV = """id,text,student_right,teacher_right,score_margin
a,one,1,yes,0.5
b,"two, with
a line",false,1,0.25
c,three,0.5,TRUE,-1e-3
"""


def file(folder: Path, content: str, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode())
    return path


def lines(folder: Path, *rows: object) -> Path:
    return file(folder, "".join(json.dumps(row) + "\n" for row in rows), "pairs.jsonl")


def same(a: Pairs, b: Pairs) -> None:
    assert (a.ids, a.texts, a.models) == (b.ids, b.texts, b.models)
    for x, y in (
        (a.right, b.right), (a.usd, b.usd), (a.seconds, b.seconds), (a.agreement, b.agreement),
        *((a.scores[name], b.scores[name]) for name in {*a.scores, *b.scores}),
    ):  # fmt: skip
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            np.testing.assert_array_equal(x, y)
    assert len(a.requests) == len(b.requests)
    for one, other in zip(a.requests, b.requests, strict=True):
        assert (one.text, one.answer) == (other.text, other.answer)
        for field in ("probabilities", "logprobs", "samples"):
            x, y = getattr(one, field), getattr(other, field)
            assert (None if x is None else list(x)) == (None if y is None else list(y))


def test_a_csv_is_read(tmp_path: Path) -> None:
    pairs = read_pairs(file(tmp_path, CSV))
    assert pairs.ids == ("a", "b", "c")
    assert pairs.texts[1] == "two, with\na line"
    np.testing.assert_array_equal(pairs.right, [[1, 1], [0, 1], [0.5, 1]])
    np.testing.assert_array_equal(pairs.scores["margin"], [[0.5], [0.25], [-0.001]])
    assert pairs.rejected == ()
    assert pairs.requests == ()
    assert pairs.agreement is None
    assert pairs.source == "pairs.csv"


def test_files_and_frames_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"id": i, "text": f"t{i}", "student_right": i % 2 == 0, "teacher_right": 1, "student_usd": 0.001,
         "teacher_usd": 0.25, "student_s": 0.1, "teacher_s": 2, "score_x": i / 7, "student_probabilities": [0.25, 0.75]}
        for i in range(5)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "p.parquet")
    frame.assign(student_probabilities="[0.25, 0.75]").to_csv(tmp_path / "p.csv", index=False)
    first = read_pairs(lines(tmp_path, *rows))
    assert first.seconds is not None
    np.testing.assert_array_equal(first.seconds[0], [0.1, 2])
    for other in (tmp_path / "p.parquet", tmp_path / "p.csv", frame, frame.convert_dtypes()):
        same(first, read_pairs(other))


def test_what_is_missing_or_odd_is_rejected_with_its_row_and_reason(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "id,student_right,teacher_right,score_x\n1,,1,1\n2,maybe,1,1\n3,1,85,1\n4,1,nan,1\n5,1,1,inf\n1,1,1,1\n1,0,1,1\n"
        ",1,1,1\n9,1,1\n\n10,1,-0.5,\n",
    )
    pairs = read_pairs(path)
    assert pairs.ids == ("1",)  # of row 6: row 1 was no pair and took no id away
    share = "must be 0 or 1, true or false, yes or no, or a share in [0, 1]"
    assert [(one.row, one.reason) for one in pairs.rejected] == [
        (1, "student_right is missing"),
        (2, f"student_right {share}. Got 'maybe'"),
        (3, f"teacher_right {share}. Got '85'"),
        (4, "teacher_right is missing"),
        (5, "score_x must be finite. Got 'inf'"),
        (7, "another row has the id '1'"),
        (8, "id is missing"),
        (9, "it has 3 cells, the header 4"),
        (10, f"teacher_right {share}. Got '-0.5'"),
    ]
    written = [json.loads(line) for line in write_rejects(pairs, tmp_path / "r.jsonl").read_text().splitlines()]
    assert written[0] == {"row": 1, "reason": "student_right is missing"}
    assert len(written) == 9


def test_lines_that_are_no_json_are_told(tmp_path: Path) -> None:
    good = '{"student_right": 1, "teacher_right": 0}\n'
    deep = "[" * 100_000
    pairs = read_pairs(file(tmp_path, f"\ufeff{good}nonsense\n\n[1]\n{deep}\n{good}", "p.jsonl"))
    assert pairs.ids == ("1", "5")
    assert [(one.row, one.reason) for one in pairs.rejected] == [
        (2, "it is no JSON"), (3, "it is no JSON object"), (4, "it is no JSON"),
    ]  # fmt: skip


def test_answers_are_compared_with_the_label_case_and_spaces_apart(tmp_path: Path) -> None:
    pairs = read_pairs(
        lines(
            tmp_path,
            {"student_answer": " Card  LOST", "teacher_answer": "card lost", "gold": "Card lost"},
            {"student_answer": 3.0, "teacher_answer": "4", "gold": "3"},
            {"student_answer": "", "teacher_answer": "none", "gold": "None"},  # an empty answer is a wrong one
            {"student_answer": None, "teacher_answer": "a", "gold": "a"},
            {"student_answer": "a", "teacher_answer": "a", "gold": " "},
        ),
        label="gold",
    )
    np.testing.assert_array_equal(pairs.right, [[1, 1], [1, 0], [0, 1]])
    np.testing.assert_array_equal(pairs.agreement, [1, 0, 0])
    assert [request.answer for request in pairs.requests] == [" Card  LOST", "3", ""]
    assert [(one.row, one.reason) for one in pairs.rejected] == [
        (4, "student_answer is missing"), (5, "gold is missing"),
    ]  # fmt: skip


def test_an_empty_cell_of_a_csv_is_no_answer(tmp_path: Path) -> None:
    pairs = read_pairs(file(tmp_path, "student_answer,teacher_answer,label\n,x,x\ny,x,x\n"))
    np.testing.assert_array_equal(pairs.right, [[0, 1]])
    assert pairs.rejected[0].reason == "student_answer is missing"


def test_agreement_that_is_told_needs_no_answers_and_may_be_unknown(tmp_path: Path) -> None:
    told = {"student_right": 1, "teacher_right": 1}
    pairs = read_pairs(lines(tmp_path, {**told, "agreement": 1}, {**told, "agreement": None}, {**told, "agreement": 7}))
    np.testing.assert_array_equal(pairs.agreement, [1, np.nan])
    assert pairs.rejected[0].row == 3


def test_twin_texts_of_other_outcomes_are_kept(tmp_path: Path) -> None:
    row = {"text": "same", "teacher_right": 1}
    assert len(read_pairs(lines(tmp_path, {**row, "student_right": 1}, {**row, "student_right": 0}))) == 2


def test_lists_that_are_odd_are_rejected(tmp_path: Path) -> None:
    told = {"student_right": 1, "teacher_right": 1}
    odd = [[0.5, 0.6], [1.0], "x", None, ["a", 0.5], [0.5, float("nan")], {"a": 1}]
    rows = [{**told, "student_probabilities": one} for one in (*odd, [0.5, 0.5], "[1, 0]")]
    pairs = read_pairs(lines(tmp_path, *rows))
    assert [request.probabilities for request in pairs.requests] == [(0.5, 0.5), (1.0, 0.0)]
    assert [one.row for one in pairs.rejected] == [1, 2, 3, 4, 5, 6, 7]
    assert pairs.rejected[0].reason == (
        "student_probabilities must be of 2 labels or more, 0 or above, and sum to 1. Got 2 that sum to 1.1"
    )
    assert pairs.rejected[3].reason == "student_probabilities is missing"


def test_logprobs_and_samples_go_to_the_requests(tmp_path: Path) -> None:
    told = {"text": "q", "student_right": 1, "teacher_right": 1}
    pairs = read_pairs(
        lines(tmp_path, {**told, "student_logprobs": [-1, -0.5], "student_samples": ["a", "b"]})
    )  # fmt: skip
    assert pairs.requests == (Request("q", logprobs=(-1.0, -0.5), samples=("a", "b")),)
    with pytest.raises(InputError, match="must be a list of texts"):
        read_pairs(lines(tmp_path, {**told, "student_samples": ["a", 1]}))


def test_columns_that_are_missing_are_told_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as found:
        read_pairs(file(tmp_path, "id,studnet_right,teacher_right\n1,1,1\n"))
    assert str(found.value) == (
        "pairs.csv has no student_right (or student_answer and a label). Did you mean studnet_right, teacher_right? "
        "It has: id, studnet_right, teacher_right."
    )
    with pytest.raises(InputError, match=r"no column label.*teacher_answer must be compared with what people say"):
        read_pairs(file(tmp_path, "student_right,teacher_answer\n1,x\n"))
    with pytest.raises(InputError, match=r"no column promt\. Did you mean prompt\?"):
        read_pairs(file(tmp_path, "prompt,student_right,teacher_right\nx,1,1\n"), text="promt")
    with pytest.raises(InputError, match="no column key"):
        read_pairs(file(tmp_path, "student_right,teacher_right\n1,1\n"), id="key")
    with pytest.raises(InputError, match="no teacher_usd beside student_usd"):
        read_pairs(file(tmp_path, "student_right,teacher_right,student_usd\n1,1,2\n"))
    with pytest.raises(InputError, match="the column 'a' twice"):
        read_pairs(file(tmp_path, "a,a\n1,1\n"))


def test_a_column_of_nothing_is_not_there(tmp_path: Path) -> None:
    row = {"student_right": 1, "teacher_right": 1, "student_usd": None, "teacher_usd": None, "score_x": None}
    pairs = read_pairs(lines(tmp_path, row, row))
    assert (len(pairs), pairs.usd, dict(pairs.scores)) == (2, None, {})


def test_three_models_have_a_score_each_but_the_teacher(tmp_path: Path) -> None:
    row = {"s_right": 0, "m_right": 1, "l_right": 1, "s_score_x": 0.1, "m_score_x": 0.2}
    pairs = read_pairs(lines(tmp_path, row), models=("s", "m", "l"), names={"s": "small"})
    assert pairs.models == ("small", "m", "l")
    np.testing.assert_array_equal(pairs.scores["x"], [[0.1, 0.2]])
    with pytest.raises(InputError, match="no m_score_x beside s_score_x"):
        read_pairs(lines(tmp_path, {k: v for k, v in row.items() if k != "m_score_x"}), models=("s", "m", "l"))


def test_a_limit_takes_rows_from_the_start(tmp_path: Path) -> None:
    assert read_pairs(file(tmp_path, CSV), limit=2).ids == ("a", "b")
    with pytest.raises(InputError, match="limit must be 1 or more"):
        read_pairs(file(tmp_path, CSV), limit=0)


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    for name, content, why in (
        ("a.txt", "x", "are read from .csv"),
        ("a.csv", "", "is empty"),
        ("a.parquet", "x", "is no Parquet file"),
        ("b.csv", "student_right,teacher_right\n", "no item that every model has answered"),
    ):
        with pytest.raises(InputError, match=why):
            read_pairs(file(tmp_path, content, name))
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(tmp_path / "none.csv")
    (tmp_path / "l.csv").write_bytes(b"student_right,teacher_right,text\n1,1,\xe9\n")
    with pytest.raises(InputError, match="not UTF-8: byte 0xe9"):
        read_pairs(tmp_path / "l.csv")
    with pytest.raises(InputError, match="of 1 rejected rows the first: row 1"):
        read_pairs(file(tmp_path, "student_right,teacher_right\n,1\n"))


TEXTS = st.text(max_size=12)
SHARES = st.floats(0, 1)
LOGPROBS = st.lists(st.floats(-9, 0), min_size=1, max_size=3)


@st.composite
def some_pairs(draw: st.DrawFn) -> Pairs:
    n = draw(st.integers(1, 4))
    texts = tuple(draw(TEXTS) for _ in range(n))
    some = draw(st.booleans())
    requests = tuple(
        Request(text, answer=draw(TEXTS.filter(bool)), logprobs=draw(LOGPROBS))
        for text in texts
    )  # fmt: skip
    arrays = [np.array(draw(st.lists(SHARES, min_size=2 * n, max_size=2 * n))).reshape(n, 2) for _ in range(3)]
    return Pairs(
        tuple(f"id {i}" for i in range(n)), texts, ("student", "teacher"), arrays[0],
        {"x": arrays[1][:, :1]}, arrays[1] if some else None, arrays[2] if some else None,
        requests=requests if some else (),
    )  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_is_written_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, ending: str) -> None:
    folder = tmp_path_factory.mktemp("pairs")

    @given(some_pairs())
    def holds(pairs: Pairs) -> None:
        same(pairs, read_pairs(write_pairs(pairs, folder / f"p.{ending}")))
        assert [one.name for one in folder.iterdir()] == [f"p.{ending}"]

    holds()


def test_a_chain_is_written_by_its_names_and_halves_of_characters_survive(tmp_path: Path) -> None:
    right = np.array([[0, 1, 1.0]])
    pairs = Pairs(
        ("1",), ("a \ud800 half",), ("s", "m", "l"), right, {"x": np.array([[1, 2.0]])}, agreement=np.array([np.nan])
    )
    for ending in ("csv", "jsonl"):
        again = read_pairs(write_pairs(pairs, tmp_path / f"p.{ending}"), models=pairs.models)
        assert again.texts == pairs.texts
        np.testing.assert_array_equal(again.scores["x"], [[1, 2]])
    with pytest.raises(InputError, match="are written as"):
        write_pairs(pairs, tmp_path / "p.txt")
