"""The commands of labelling, as processes: what they print, ask, refuse and write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distill.server import Server, running

TASK = """
[task]
name = "bank mail"
prompt = "{{text}}"
labels = ["yes", "no"]
[inputs]
file = "inputs.csv"
human_label = "truth"
[teacher]
model = "local/tiny"
base_url = "{url}"
temperature = 0
max_output_tokens = 8
[labelling]
budget_usd = 0.5
probe = 3
[use]
kind = "classifier"
competes_with_teacher = false
[overrides.token_prices."local/tiny"]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 2.0
"""


def folder_with_task(tmp_path: Path, server: Server, count: int = 20) -> Path:
    texts = [f"question {i} about {'a card' if i % 2 else 'an account of mine'} and {i * i}" for i in range(count)]
    lines = ["text,truth", *(f"{text},{'yes' if i % 2 else 'no'}" for i, text in enumerate(texts))]
    (tmp_path / "inputs.csv").write_text("\n".join(lines))
    file = tmp_path / "task.toml"
    file.write_text(TASK.format(url=server.base_url))
    return file


def distillcalc(tmp_path: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "distillcalc", *arguments],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_plan_label_and_dataset(tmp_path: Path) -> None:
    with running(answer=lambda body: "yes" if "card" in body["messages"][-1]["content"] else "no") as server:
        file = str(folder_with_task(tmp_path, server))
        planned = distillcalc(tmp_path, "label", file, "--plan", "--json")
        assert server.requests == 0
        plan = json.loads(planned.stdout)
        assert plan["rows"] == {"from": "inputs.csv", "used": 20, "rejected": 0}
        assert plan["terms"]["verdict"] == "unknown"
        assert "20 answers of local/tiny in 20 calls" in planned.stderr

        unclear = distillcalc(tmp_path, "label", file, "--yes", code=2)
        assert "--accept-unclear-terms" in unclear.stderr
        assert server.requests == 0

        nobody = distillcalc(tmp_path, "label", file, "--accept-unclear-terms", code=2)
        assert "nobody is here to say yes" in nobody.stderr
        assert "agrees with itself at temperature 0: 3 of 3" in nobody.stdout
        assert server.requests == 6

        done = distillcalc(tmp_path, "label", file, "--accept-unclear-terms", "--yes", "--json")
        run = json.loads(done.stdout)
        assert (run["answers"], run["wanted"], run["stopped"]) == (20, 20, "")
        assert run["accuracy"]["count"] == 20
        assert server.requests == 23  # what the first probe paid for counts
        assert "20 of 20" in done.stderr

        made = distillcalc(tmp_path, "dataset", file, "-o", "out", "--system", "Sort.", "--json")
        assert json.loads(made.stdout)["kept"] <= 20
        train = json.loads(made.stdout)["files"]["train"]
        assert train == {"path": "out/data.train.jsonl", "rows": train["rows"]}
        assert f"wrote out/data.train.jsonl: {train['rows']} rows of train" in made.stderr
        assert (tmp_path / "out" / "README.md").is_file()
        assert "by OpenAI's rules: ok; " in made.stderr  # by the rules of OpenAI's fine-tuning
        refused = distillcalc(tmp_path, "dataset", file, "-o", "out", code=2)
        assert "--overwrite" in refused.stderr


def test_a_budget_that_runs_out_is_told_with_its_own_exit_code(tmp_path: Path) -> None:
    with running(answer=lambda body: "yes") as server:
        file = str(folder_with_task(tmp_path, server))
        short = distillcalc(
            tmp_path, "label", file, "--accept-unclear-terms", "--yes", "--budget", "0.0005", "--probe", "0", code=3
        )
        assert "Raise the budget" in short.stdout
        assert distillcalc(tmp_path, "label", file, "--accept-unclear-terms", "--yes").returncode == 0
        assert len(server.served) == 20 + 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("budget_usd = 0.5", "budget_usd = -1", "budget_usd"),
        ('file = "inputs.csv"', 'file = "none.csv"', "no input file"),
        ('human_label = "truth"', 'human_label = "text"', "would be told the answer"),
        ('prompt = "{text}"', 'prompt = "{txet}"', "Did you mean text?"),
        ('base_url = "', 'base_url = "ftp://', "https://host/v1"),
        ('labels = ["yes", "no"]', 'labels = ["yes", "Yes"]', "differ by more than case"),
        ("[use]", '[privacy]\nprivat = true\n[use]', "Did you mean private?"),
        ("temperature = 0", "temperature = 0\nextra_body = { n = 3 }", "extra_body must not set n"),
        ('[overrides.token_prices."local/tiny"]', '[overrides.token_prices."local/other"]', "no token price known"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_task_file_is_told(tmp_path: Path, old: str, new: str, said: str) -> None:
    with running() as server:
        file = folder_with_task(tmp_path, server)
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        done = distillcalc(tmp_path, "label", str(file), "--plan", code=2)
        assert said in done.stderr
        assert server.requests == 0


def test_dataset_before_label_says_what_to_run(tmp_path: Path) -> None:
    with running() as server:
        file = str(folder_with_task(tmp_path, server))
        assert "Run: distillcalc label" in distillcalc(tmp_path, "dataset", file, code=2).stderr


def test_new_inputs_from_seeds(tmp_path: Path) -> None:
    with running(answer=lambda body: json.dumps(["Do you lend money for a boat?"])) as server:
        file = folder_with_task(tmp_path, server)
        file.write_text(file.read_text().replace("max_output_tokens = 8", "max_output_tokens = 80"))
        done = distillcalc(
            tmp_path, "inputs", str(file), "--count", "1", "-o", "new.jsonl", "--yes", "--accept-unclear-terms"
        )
    assert "1 kept" in done.stdout
    assert json.loads((tmp_path / "new.jsonl").read_text())["text"] == "Do you lend money for a boat?"
