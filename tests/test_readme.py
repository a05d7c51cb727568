"""README's words alone: its commands exist, its code runs, its scenario loads, its output is what is printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillcalc import Scenario, recommend
from tests.distill.making import record
from tests.distill.server import Server, running
from tests.test_cli_route import pairs_file

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [code for named, code in found if named == language]


def test_the_shown_output_is_what_the_command_prints() -> None:
    shown = next(block for block in blocks("") if block.startswith("$ distillcalc recommend support-triage"))
    printed = re.sub(r"\s+", " ", str(recommend(Scenario.load("support-triage"))))
    shown = re.sub(r"\s+", " ", shown.removeprefix("$ distillcalc recommend support-triage"))
    for phrase in shown.split(" ... "):
        for figure in re.findall(r"\$?\d[\d,.]*\d%?|\(\d{4}-\d\d-\d\d\)", phrase):
            assert figure in printed, figure
    headline = shown.split(" self-host ")[0].strip()
    assert headline in printed


def test_the_scenario_loads_and_decides(tmp_path: Path) -> None:
    text = next(block for block in blocks("toml") if "[workload]" in block)
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    decision = recommend(Scenario.load(file))
    teacher = decision.options["call-teacher"]
    assert teacher.provenance["token_prices"].kind == "given"
    assert teacher.provenance["latency"].source == (
        "given by the user; TTFT tails: p95 measured, the other of the same log-normal; "
        "TPOT tails assumed: p95 twice the median, p99 2.67 times"
    )


PRINTED = (
    "Distill and self-host (qwen3-4b on rtx-4090): pays back in",
    "Distill and self-host",
    "It would change to",
    "2 answers of openai/gpt-6-luna in 2 calls",
    "Certified on",
)  # by each block of Python


@pytest.mark.parametrize("place", range(len(PRINTED)))
def test_the_python_runs(place: int, tmp_path: Path) -> None:
    found = blocks("python")
    assert len(found) == len(PRINTED)
    pairs_file(tmp_path / "pairs.jsonl", n=1_200)
    done = subprocess.run(
        [sys.executable, "-c", found[place]], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert PRINTED[place] in done.stdout


def test_the_uncertain_sample_is_printed_as_it_is() -> None:
    from distillcalc import Scenario, recommend

    shown = re.sub(r"\s+", " ", str(recommend(Scenario.load("near-break-even"))))
    (block,) = (block for block in blocks("") if block.startswith("$ distillcalc recommend near-break-even"))
    for part in re.sub(r"\s+", " ", block.split("\n", 1)[1]).split(" ... "):
        assert part.strip() in shown


COMMANDS = sorted(
    {
        line.split("#")[0].split(">")[0].strip().removeprefix(".venv/bin/distillcalc ")
        for block in blocks("")
        for line in block.splitlines()
        if line.startswith(".venv/bin/distillcalc ")
    }
    - {"dashboard"}  # serves until it is told to end: tests/notebook/browser looks at it
)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_works_as_it_stands(command: str, tmp_path: Path) -> None:
    sample = subprocess.run(
        [sys.executable, "-m", "distillcalc", "samples", "support-triage"], capture_output=True, text=True, timeout=60
    )
    (tmp_path / "mine.toml").write_text(sample.stdout, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "distillcalc", *shlex.split(command)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


ROUTING = next(block for block in blocks("") if block.startswith("distillcalc route"))


def test_a_router_is_made_and_watched_by_the_commands_shown(tmp_path: Path) -> None:
    """Every line of the block, in its order; the row that is shown is one of the pairs."""
    row = json.loads(next(block for block in blocks("") if block.startswith('{"text"')))
    pairs = pairs_file(tmp_path / "pairs.jsonl", n=2_000)
    with pairs.open("a") as file:
        file.write(json.dumps(row) + "\n")
    pairs_file(tmp_path / "fresh.jsonl", n=400, seed=1)
    live = [{"score": 0.9 - 0.001 * (i % 600), "escalated": False, "right": True} for i in range(400)]
    (tmp_path / "live.jsonl").write_text("".join(json.dumps(one) + "\n" for one in live))
    for line in ROUTING.splitlines():
        command = shlex.split(line.split("#")[0].removeprefix("distillcalc "))
        done = subprocess.run(
            [sys.executable, "-m", "distillcalc", *command],
            capture_output=True, text=True, timeout=120, cwd=tmp_path, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stdout} {done.stderr}"
        assert done.stdout
    for name in ("router/router.json", "curve.png", "routed.toml", "watch.json"):
        assert (tmp_path / name).is_file()


LABELLING = next(block for block in blocks("") if block.startswith("distillcalc label"))


@pytest.mark.slow
def test_the_task_and_the_fine_tune_are_carried_out_by_the_commands_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line of the block, in its order, against a server on this machine instead of the paid one."""
    task = next(block for block in blocks("toml") if "[task]" in block)
    fine_tune = next(block for block in blocks("toml") if "[finetune]" in block)
    texts = [
        f"my {kind} is number {i}, why {'so' * i}?" for i in range(30) for kind in ("card arrival", "exchange rate")
    ]
    (tmp_path / "questions.csv").write_text("text,truth\n" + "".join(f'"{t}",{t[3:16].strip(" is")}\n' for t in texts))
    (tmp_path / "test.csv").write_text("text\nsomething else altogether\n")
    monkeypatch.setenv("OUR_KEY", "none")
    with running(Server(answer=_labels_or_inputs)) as server:
        here = f'base_url = "{server.base_url}"\nkey_env = "OUR_KEY"\n'
        (tmp_path / "task.toml").write_text(task.replace("[teacher]\n", "[teacher]\n" + here))
        (tmp_path / "finetune.toml").write_text(fine_tune.replace("[finetune]\n", "[finetune]\n" + here))
        for line in LABELLING.splitlines():
            command = shlex.split(line.split("#")[0].removeprefix("distillcalc "))
            asks = (command[0] in ("label", "inputs") and "--plan" not in command) or command[:2] == ["finetune", "run"]
            done = subprocess.run(
                [sys.executable, "-m", "distillcalc", *command, *(["--yes"] if asks else [])],
                capture_output=True, text=True, timeout=120, cwd=tmp_path, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}: {done.stdout} {done.stderr}"
            assert done.stdout
        assert server.jobs
    assert (tmp_path / "training" / "README.md").is_file()


TRAINING = next(block for block in blocks("") if block.startswith("distillcalc train"))


@pytest.mark.slow
def test_the_recipe_is_trained_by_the_commands_shown(tmp_path: Path) -> None:
    """Every line of the block; the recipe as it stands but for two steps, one seed, and the model of its package."""
    from distillcalc.distill.packaged import smollm2
    from distillcalc.distill.records import Dataset, Origin
    from distillcalc.errors import DistillcalcError

    try:
        model = smollm2()
    except DistillcalcError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    recipe = next(block for block in blocks("toml") if 'technique = "soft-label"' in block)
    recipe = recipe.replace('"HuggingFaceTB/SmolLM2-135M-Instruct"', json.dumps(str(model)))
    recipe = recipe.replace("epochs = 4", "steps = 2").replace("[0, 1, 2]", "[0]").replace("layers = 6", "layers = 1")
    (tmp_path / "recipe.toml").write_text(recipe)
    said = {"card arrival": "Where is card number {}?", "exchange rate": "What is the rate of currency {}?"}
    by = Origin(run="run", call="call", teacher="smollm2-135m")
    records = [
        record(f"{label}-{i}", text.format(i), label).model_copy(update={"origin": by})
        for label, text in said.items()
        for i in range(4)
    ]
    Dataset(tuple(records)).save(tmp_path / "dataset.jsonl")
    (tmp_path / "test.csv").write_text("text,truth\nWhere is my card now?,card arrival\n")
    for line in TRAINING.splitlines():
        command = shlex.split(line.split("#")[0].removeprefix("distillcalc "))
        done = subprocess.run(
            [sys.executable, "-m", "distillcalc", *command],
            capture_output=True, text=True, timeout=300, cwd=tmp_path, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stdout} {done.stderr}"
        if "--json" in command:
            answer = json.loads(done.stdout)
            assert [row["role"] for row in answer["table"]["entries"]] == ["teacher", "raw", "label-only", "distilled"]
    student = tmp_path / "runs" / "bank-questions-six-layers" / "student"
    assert {"README.md", "catalog.toml", "config.json"} <= {file.name for file in student.iterdir()}


def _labels_or_inputs(body: dict[str, Any]) -> str:
    said = str(body["messages"][-1]["content"])
    return json.dumps(["one more"]) if "new inputs" in said else said[3:16].strip(" is")


def test_make_targets_and_files_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "lint", "lab", "bench", "wheel"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).is_file(), link
