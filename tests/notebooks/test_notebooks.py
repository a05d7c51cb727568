"""Every notebook runs from top to bottom without a warning, is kept without outputs, and teaches as the others do."""

from __future__ import annotations

import ast
import os
import re
from itertools import pairwise
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from distillcalc.distill.packaged import cache_folder

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = (
    "00_start_here",
    "01_should_i_distill",
    "02_your_traffic",
    "03_teach",
    "04_distill",
    "05_measure_and_validate",
    "06_route",
)
LONG = ("04_distill", "05_measure_and_validate")  # half a minute and more
AT_MOST_S = 600  # a cell, on a machine that is busy

every = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(name: str) -> list[str]:
    return [cell.source for cell in read(name).cells if cell.cell_type == "code"]


def test_these_are_all() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == list(NAMES)
    assert sorted(file.stem for file in FOLDER.glob("*.py")) == list(NAMES)


@every
def test_it_is_kept_without_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert cell.metadata == {}
    assert "widgets" not in notebook.metadata


@every
def test_it_is_in_step_with_its_text(name: str) -> None:
    text = jupytext.read(FOLDER / f"{name}.py")
    kept = read(name)
    assert [(cell.cell_type, cell.source) for cell in text.cells] == [
        (cell.cell_type, cell.source) for cell in kept.cells
    ], f"run: jupytext --to ipynb --update notebooks/{name}.py"
    assert text.metadata["kernelspec"] == kept.metadata["kernelspec"]


@every
def test_it_opens_with_what_it_answers_and_how_long_it_takes(name: str) -> None:
    first, *rest = read(name).cells
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "**What this answers:**" in first.source
    assert "**How long it takes:**" in first.source
    assert "runs/" in first.source or "nothing else is written" in first.source or "writes no\nfiles" in first.source
    checkup = next(cell for cell in rest if cell.cell_type == "code")
    assert "checkup(" in checkup.source


@every
def test_words_stand_before_every_cell_and_no_cell_defines_a_function(name: str) -> None:
    cells = read(name).cells
    for before, cell in pairwise(cells):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", cell.source
    tree = ast.parse("\n".join(source.replace("%matplotlib", "# %matplotlib") for source in code_of(name)))
    for node in ast.walk(tree):
        assert not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Try))


@every
def test_its_links_lead_to_notebooks(name: str) -> None:
    words = "".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)]+)\)", words)
    assert targets or name == NAMES[0]
    for target in targets:
        assert (FOLDER / target).is_file(), target


def test_the_first_leads_to_all_others() -> None:
    words = "".join(cell.source for cell in read(NAMES[0]).cells)
    for name in NAMES[1:]:
        assert f"({name}.ipynb)" in words


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in NAMES])
def test_it_runs_clean(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLCALC_CACHE", str(cache_folder()))  # the converted model, which takes a while to make
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # not the user's own sliders
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens: what leaves this machine fails
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1,localhost")
    for variable in [found for found in os.environ if found.endswith("_API_KEY")]:
        monkeypatch.delenv(variable)
    work = tmp_path / "work"
    work.mkdir()
    notebook = read(name)
    NotebookClient(notebook, timeout=AT_MOST_S, resources={"metadata": {"path": str(work)}}).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
    assert {file.name for file in work.iterdir()} <= {"runs"}
    made = [file.name for file in (work / "runs").iterdir()] if (work / "runs").is_dir() else []
    assert made in ([], [name])  # a folder of its own
