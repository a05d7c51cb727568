"""SIGKILL at every step, then the same call again: one upload and one job on the server, whatever the step."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distill.finetune.common import APIS, events_of, spec
from tests.distill.server import Server

POINTS = ("plan", "upload-intent", "upload-sent", "uploaded", "create-intent", "create-sent", "created", "event")
ROOT = Path(__file__).resolve().parents[3]


def call(tmp_path: Path, point: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.distill.finetune.victim", str(tmp_path / "spec.json"), str(tmp_path / "runs"),
         point],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("point", POINTS)
def test_killed_and_taken_up_again(server: Server, tmp_path: Path, api: str, point: str) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(spec(server, tmp_path, api).to_dict()))
    killed = call(tmp_path, point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = call(tmp_path, "never")
    assert finished.returncode == 0, finished.stderr
    done = json.loads(finished.stdout)
    assert done["usable"]
    assert list(server.jobs) == [done["job"]["id"]]
    assert len(server.files) == 1
    events = events_of(tmp_path)
    for once in ("upload-intent", "uploaded", "create-intent", "created", "done"):
        assert events.count(once) == 1


def test_killed_at_every_step_in_turn(server: Server, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(spec(server, tmp_path).to_dict()))
    for point in ("upload-sent", "create-sent", "created", "usable"):
        assert call(tmp_path, point).returncode in (-signal.SIGKILL, 0)
    done = json.loads(call(tmp_path, "never").stdout)
    assert list(server.jobs) == [done["job"]["id"]]
    assert len(server.files) == 1
