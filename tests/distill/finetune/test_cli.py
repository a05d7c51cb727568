"""The commands: what they print, what they ask, what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distillcalc import cli_finetune
from distillcalc.distill.finetune import StillRunning, steps
from distillcalc.errors import InputError
from tests.distill.finetune.common import KEY, MODELS, training_file, words
from tests.distill.server import Server

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli_finetune, "_check", lambda: words)
    monkeypatch.setattr(steps, "FIRST_POLL_S", 0.001)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def spec_file(server: Server, tmp_path: Path, api: str) -> Path:
    training_file(tmp_path)
    file = tmp_path / "spec.toml"
    size = "params_b = 8" if api == "together" else ""
    file.write_text(
        f'[finetune]\nname = "one"\nprovider = "{api}"\nbase_url = "{server.base_url}"\nkey_env = "{KEY}"\n'
        f'model = "{MODELS[api]}"\ntraining_file = "train.jsonl"\nself_hosted = true\n{size}\n'
    )
    return file


def call(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(cli_finetune.finetune_app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout, done.stderr


def test_a_plan_sends_nothing(server: Server, spec_file: Path) -> None:
    out, _ = call("plan", str(spec_file))
    assert "12 examples, 120 tokens each epoch" in out
    assert "cost unknown" in out
    assert server.files == {}


def test_a_plan_with_a_price(server: Server, spec_file: Path) -> None:
    spec_file.write_text(spec_file.read_text().replace("self_hosted = true", ""))
    out, err = call("plan", str(spec_file), "--json")
    answer = json.loads(out)
    assert out.count("\n") == 1
    assert answer["forecast"]["usd"] > 0
    assert answer["forecast"]["provenance"]["source"] in err.replace("\n", "")


def test_run_status_events_and_list(server: Server, spec_file: Path) -> None:
    out, err = call("run", str(spec_file), "--yes", "--json")
    done = json.loads(out)
    assert out.count("\n") == 1
    assert "created: job" in err
    assert done["usable"]
    status = json.loads(call("status", "one", "--json")[0])
    assert status["job"]["fine_tuned_model"] == done["model"]
    assert status["last"]["event"] == "done"
    offline = json.loads(call("status", "runs/one", "--offline", "--json")[0])
    assert offline["job"]["id"] == done["job"]["id"]
    log = json.loads(call("events", "one", "--json")[0])
    assert log["events"][-1]["message"] == "The job is succeeded"
    assert [checkpoint["step"] for checkpoint in log["checkpoints"]] == [10, 20]
    (row,) = json.loads(call("list", "--json")[0])
    assert row["result"] == done["model"]
    assert done["model"] in call("list")[0]
    assert len(server.jobs) == 1


def test_cancel(server: Server, spec_file: Path) -> None:
    server.order("job_stuck")
    spec_file.write_text(spec_file.read_text() + "deadline_hours = 0.00001\n")
    with pytest.raises(StillRunning):
        call("run", str(spec_file), "--yes")
    assert json.loads(call("cancel", "one", "--json")[0])["status"] == "cancelled"


def test_without_a_terminal_and_without_yes_nothing_is_spent(server: Server, spec_file: Path) -> None:
    with pytest.raises(InputError, match="Add --yes"):
        call("run", str(spec_file))
    assert server.files == server.jobs == {}


def test_labellings_in_the_same_folder_are_no_fine_tunes(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mail-0123"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text('{"run": "mail-0123"}')
    assert json.loads(call("list", "--json")[0]) == []
    with pytest.raises(InputError, match="is not the plan of a fine-tune"):
        call("status", "mail-0123")


def test_names_that_are_no_runs(server: Server) -> None:
    with pytest.raises(InputError, match="no run 'nothing'"):
        call("status", "nothing")
    assert json.loads(call("list", "--json")[0]) == []


def test_the_whole_command_line_ends_with_2_where_it_refuses(server: Server, spec_file: Path) -> None:
    script = (
        "import sys; from distillcalc import cli, cli_finetune; from tests.distill.finetune.common import words; "
        "cli_finetune._check = lambda: words; "
        "known = any(group.name == 'finetune' for group in cli.app.registered_groups); "
        "known or cli.app.add_typer(cli_finetune.finetune_app, name='finetune'); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "finetune", "run", str(spec_file), "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Add --yes" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.files == {}
