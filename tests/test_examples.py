"""Every example runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_runs(file: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_plan_of_a_decision_names_its_teacher_and_student(tmp_path: Path) -> None:
    (file,) = (file for file in EXAMPLES if file.name == "plan.py")
    questions = tmp_path / "q.csv"
    questions.write_text("text\nwhere is my order\nI want my money back\n")
    done = subprocess.run(
        [sys.executable, str(file), "support-triage", str(questions)], capture_output=True, text=True, timeout=120
    )
    assert "student: qwen3-4b" in done.stdout
    assert "2 answers of openai/gpt-6-sol in 2 calls to api.openai.com" in done.stdout
    assert "dollars: $" in done.stdout
