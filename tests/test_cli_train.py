"""The command of training, as a process and in this one: what it prints, refuses and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distillcalc.cli import app
from distillcalc.cli_train import _Bars
from distillcalc.distill.training.local_teacher import quiet
from distillcalc.distill.training.progress import Progress
from distillcalc.errors import InputError
from tests.distill.training.making import dataset, jsonl, llama, recipe_file, records, rows, saved, taught
from tests.distill.training.tiny import one_thread  # noqa: F401


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    with quiet():
        saved(taught(llama(layers=2), records(64, seed=1)), folder / "teacher")
    dataset(records(8, seed=2), folder / "train.jsonl")
    jsonl(rows(4, seed=3), folder / "test.jsonl")
    return folder


def test_a_process_prints_the_table_and_one_line_of_json(place: Path) -> None:
    recipe = recipe_file(place, technique="soft-label", student={"layers": 1}, costs={"usd_per_hour": 2.0})
    done = subprocess.run(
        [sys.executable, "-m", "distillcalc", "train", recipe.name, "--json", "--figure", "quality.png"],
        capture_output=True, text=True, timeout=300, cwd=place, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line, rest = done.stdout.split("\n", 1)
    assert rest == ""
    told = json.loads(line, parse_constant=pytest.fail)
    assert [entry["role"] for entry in told["table"]["entries"]] == ["teacher", "raw", "label-only", "distilled"]
    assert told["student"] == "runs/run/student"
    for words in (
        "colours: accuracy on 4 human-labelled items",
        "student: soft labels, seed 0: 2 of 2, loss", "wrote runs/run/student",
        "wrote quality.png", "1,000 items",
    ):  # fmt: skip
        assert words in done.stderr
    for noise in ("Warning", "Traceback", "it/s", "Writing model shards"):
        assert noise not in done.stderr
    assert (place / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "runs" / "run" / "student" / "model.safetensors").is_file()


def test_the_table_goes_to_stdout_without_json(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    recipe_file(place, name="plain", student={"layers": 1})
    done = CliRunner().invoke(app, ["train", "plain.toml", "--runs", "elsewhere"], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.startswith("colours: accuracy on 4 human-labelled items")
    assert "wrote elsewhere/plain/student" in done.stdout
    assert "student trained on the teacher's text, seed 0: 2 of 2, loss" in done.stderr


def refused(place: Path, *arguments: str) -> str:
    with pytest.raises(InputError) as error:
        CliRunner().invoke(app, ["train", *arguments], catch_exceptions=False)
    return str(error.value)


def test_what_is_wrong_is_told_in_a_sentence_and_2(place: Path) -> None:
    recipe_file(place, name="wrong", technique="chain", student=None)
    done = subprocess.run(
        [sys.executable, "-m", "distillcalc", "train", "wrong.toml", "--json"],
        capture_output=True, text=True, timeout=300, cwd=place, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "a chain has an assistant and a student, two hops at least. Got 0" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_figure_that_cannot_be_written_is_told_before_training(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    recipe_file(place, name="drawn")
    assert "no folder" in refused(place, "drawn.toml", "--figure", "nowhere/f.png")
    assert "ends in .png" in refused(place, "drawn.toml", "--figure", "f.docx")
    assert not (place / "runs" / "drawn").exists()
    recipe_file(place, name="drawn", data={"evaluation": None})
    assert "no evaluation items, so no figure" in refused(place, "drawn.toml", "--figure", "f.png")


def test_catalog_rows_of_ones_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    recipe_file(place, name="own", teacher={"name": "mine"}, student={"layers": 1})
    assert "the teacher's terms are unclear" in refused(place, "own.toml")
    (place / "rows.toml").write_text(
        '[terms.mine]\nprovider = "own"\nsurface = "weights"\nsays = "Do."\nposition = "allowed"\n'
        'private_classifier = "pass"\nnot_competing = "pass"\ncompeting = "pass"\n'
        '[models.mine]\nname = "Mine"\nprovider = "own"\nkind = "open"\nterms = "mine"\n'
    )
    done = CliRunner().invoke(app, ["train", "own.toml", "--catalog", "rows.toml"], catch_exceptions=False)
    assert done.exit_code == 0


def test_a_bar_where_a_person_looks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with _Bars() as bars:
        for step in range(1, 4):
            bars.update(Progress(step, 3, 0.5 / step, 1234.0, 1.0, "student: soft labels, seed 0"))
        bars.update(Progress(1, 9, None, float("nan"), float("nan"), "the teacher answers"))
    told = capsys.readouterr()
    assert told.out == ""
    assert "student: soft labels, seed 0: 100%" in told.err
    assert "loss 0.167, 1,234 tokens/s" in told.err
    assert "the teacher answers:  11%" in told.err
    assert "nan" not in told.err


def test_a_line_at_each_tenth_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with _Bars() as bars:
        for step in range(1, 41):
            bars.update(Progress(step, 40, 0.5, 1234.0, 61.0, "one"))
        bars.update(Progress(1, 1_000, None, 1.0, 1.0, "two"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "one: 1 of 40, loss 0.500, 1,234 tokens/s, 1:01 left"
    assert [line.split(",")[0] for line in lines[1:]] == [*(f"one: {n} of 40" for n in range(4, 41, 4)), "two: 1 of 1"]
    assert lines[-1] == "two: 1 of 1,000"
