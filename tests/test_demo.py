"""The demo from end to end: as a process that is killed and goes on, and against a paid teacher under a budget."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import psutil
import pytest

from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.catalog import Catalog
from distillcalc.demo import run_demo, scenario_of
from distillcalc.demo_result import DemoResult
from distillcalc.demo_steps import PID, SMALL, STEPS, Demo, Nobody, data, end_left_over
from distillcalc.distill.journal import entries
from distillcalc.distill.teacher import Teacher
from distillcalc.errors import DistillcalcError, InputError
from distillcalc.route.reading import read_pairs
from distillcalc.route.router import Router
from tests.distill.training.tiny import one_thread  # noqa: F401

DEMO = [sys.executable, "-m", "distillcalc", "demo", "--small"]


def calls(folder: Path) -> int:
    """Calls in the journal of the labels."""
    return sum(entry["t"] == "intent" for file in folder.glob("*/journal.jsonl") for _, entry in entries(file))


@pytest.mark.slow
def test_killed_while_it_labels_it_goes_on_and_ends_in_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = subprocess.Popen([*DEMO, "--folder", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while calls(folder) < 4:
        assert first.poll() is None, "it ended before it labelled"
        assert time.monotonic() < deadline, "it did not begin to label"
        time.sleep(0.1)
    first.kill()  # and not the server of its teacher, which stays behind
    first.communicate()
    left = int((folder / PID).read_text().split()[0])
    assert psutil.pid_exists(left)
    at_kill = calls(folder)
    again = subprocess.run(
        [*DEMO, "--folder", str(folder), "--json"], capture_output=True, text=True, timeout=400, check=False
    )
    assert again.returncode == 0, again.stderr[-2000:]
    made = DemoResult.model_validate_json(again.stdout)
    assert again.stdout.count("\n") == 1
    assert DemoResult.load(folder / "demo.json") == made
    for number, step in enumerate(STEPS, 1):
        assert f"[{number} of {len(STEPS)}, " in again.stderr
        assert step in made.seconds
    assert "Traceback" not in again.stderr
    assert not psutil.pid_exists(left)  # ended by the second run, which took its place
    assert not (folder / PID).exists()
    # What was answered before the kill was not asked again; what was in flight, at most four, may have been.
    rows = SMALL.messages + SMALL.test
    assert 4 <= at_kill <= rows
    assert rows <= calls(folder) <= rows + 4
    assert made.labelling["rows"] == rows
    assert made.quality["teacher"][1] == made.quality["student"][1] == SMALL.test
    assert {check["what"] for check in made.validation["before"]} == {"TTFT", "TPOT", "E2E", "throughput", "memory"}
    assert {check["record"] for check in made.validation["after"]} == {"teacher", "student"}
    assert made.decision["recommendation"] == "call-teacher"
    # The router is of the very answers that were counted, and the second decision has what was measured of it.
    pairs = read_pairs(next(folder.glob("pairs-*.jsonl")))
    assert pairs.right.sum(axis=0).tolist() == [made.quality["student"][0], made.quality["teacher"][0]]
    assert Router.load(folder / "router", student="minilm-l6").version == made.routing["version"]
    assert made.routing["verdict"] in " ".join(again.stderr.split())
    assert made.after["options"]["cascade"]["provenance"]["escalation_rate"]["kind"] == "measured"
    assert "threshold" not in made.decision["options"]["cascade"]["facts"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "openai/gpt-6-sol is played by a small model" in page
    elsewhere = Teacher(model="openai/gpt-6-luna", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match="another teacher"):
        run_demo(folder, small=True, teacher=elsewhere)
    with pytest.raises(InputError, match="other settings"):
        run_demo(folder)


class Big(BaseHTTPRequestHandler):
    """An endpoint that knows the labels but for every tenth message."""

    truth: ClassVar[dict[str, str]] = {}
    keys: ClassVar[set[str]] = set()
    asked = 0

    def do_POST(self) -> None:
        Big.asked += 1
        Big.keys.add(self.headers.get("Authorization", ""))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        answer = self.truth.get(text, "delivery") if len(text) % 10 else "delivery"
        usage = {"prompt_tokens": 400, "completion_tokens": 2, "total_tokens": 402}
        if body.get("stream"):
            self._send("text/event-stream", "".join(f"data: {json.dumps(one)}\n\n" for one in (
                {"choices": [{"index": 0, "delta": {"content": answer}}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                {"choices": [], "usage": usage},
            )) + "data: [DONE]\n\n")  # fmt: skip
            return
        message = {"role": "assistant", "content": answer}
        self._send("application/json", json.dumps({
            "id": f"chat-{Big.asked}", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage,
        }))  # fmt: skip

    def _send(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    for part in ("messages", "test"):
        Big.truth |= {row.text: row.label for row in pd.read_csv(data() / f"{part}.csv").itertuples()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Big)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_paid_teacher_answers_itself_under_a_budget(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "sk-of-the-test")
    teacher = Teacher(model="openai/gpt-6-luna", base_url=endpoint, key_env="A_KEY", temperature=0.0,
                      max_output_tokens=16)  # fmt: skip
    with pytest.raises(InputError, match=r"measuring the teacher takes up to \$0\.\d+, and the budget is \$0\.0001"):
        run_demo(tmp_path / "poor", small=True, teacher=teacher, budget_usd="0.0001", accept_unclear_terms=True)
    assert Big.asked == 0
    # Enough to measure the teacher, and for a few labels: it stops before anything is trained on a part, and goes on.
    with pytest.raises(DistillcalcError, match=r"labelling stopped with \d+ of 48 answers .*larger --budget"):
        run_demo(tmp_path / "demo", small=True, teacher=teacher, budget_usd="0.0045", accept_unclear_terms=True)
    assert not (tmp_path / "demo" / "student").exists()
    made = run_demo(tmp_path / "demo", small=True, teacher=teacher, budget_usd="0.50", accept_unclear_terms=True)
    assert Big.keys == {"Bearer sk-of-the-test"}
    assert made.teacher["played_by"] == ""
    test = pd.read_csv(data() / "test.csv").head(SMALL.test)
    right = sum(len(row.text) % 10 != 0 or row.label == "delivery" for row in test.itertuples())
    assert made.quality["teacher"] == (right, SMALL.test)
    assert 0 < made.labelling["actual_usd"] < 0.5
    assert made.benchmarks["teacher"]["measured"]["kind"] == "endpoint"
    assert {check["record"] for check in made.validation["before"]} == {"student"}  # of an endpoint no step is known
    assert "gpt-6-luna" in made.decision["options"]["call-teacher"]["label"]
    assert made.routing["models"] == ["minilm-l6", "openai/gpt-6-luna"]
    assert made.after["options"]["cascade"]["provenance"]["escalation_rate"]["kind"] == "measured"
    assert "sk-of-the-test" not in "".join(
        file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.suffix in {".json", ".jsonl", ".html"}
    )


def test_the_log_gives_the_volume_and_the_file_the_rest() -> None:
    from distillcalc.workload.logs import profile_logs

    scenario = scenario_of(profile_logs(data() / "requests.parquet"))
    assert scenario.workload.requests_per_day == pytest.approx(277_339 * (1 - 0.0039) / 7, rel=0.01)
    assert scenario.workload.horizon_months == 24
    assert scenario.choices.teacher == "openai/gpt-6-sol"
    assert scenario.choices.students == ("minilm-l6",) or list(scenario.choices.students) == ["minilm-l6"]


def test_folders_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to the folder .*file: .*Name another one"):
        run_demo(tmp_path / "file", small=True)
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "asked.json").write_text("{")
    with pytest.raises(InputError, match=r"asked\.json is no longer what the demo wrote .*Remove it"):
        run_demo(tmp_path / "spoilt", small=True)


def test_a_key_that_is_not_set_stops_it_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        run_demo(tmp_path / "demo", small=True, teacher=Teacher(model="openai/gpt-6-luna"))
    assert not (tmp_path / "demo").exists()


def test_a_provider_is_measured_at_its_own_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    teacher = Teacher(model="openai/gpt-6-luna")
    demo = Demo(tmp_path / "demo", SMALL, teacher, Decimal(1), Nobody(), Catalog.load())
    target = demo.teacher_target(teacher)
    assert isinstance(target, Endpoint)
    assert target.base_url == Catalog.load().api("openai/gpt-6-luna").base_url  # type: ignore[union-attr]
    assert (target.model, target.key_env, target.max_tokens_field) == (
        "gpt-6-luna", "OPENAI_API_KEY", "max_completion_tokens",
    )  # fmt: skip


def test_an_address_that_is_none_is_told() -> None:
    done = subprocess.run(
        [*DEMO, "--model", "openai/gpt-6-luna", "--base-url", "nonsense", "--key-env", "PATH"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--base-url: base_url is written https://host/v1. Got 'nonsense'" in done.stderr


def test_a_server_of_a_demo_that_still_runs_is_left_alone(tmp_path: Path) -> None:
    model = tmp_path / "teacher"
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(model)])
    file = tmp_path / PID
    try:
        file.write_text(f"{server.pid} {psutil.Process().pid}")
        with pytest.raises(InputError, match=r"another demo works in .* \(process \d+\)"):
            end_left_over(file, model)
        assert server.poll() is None
        file.write_text(f"{server.pid} 1")  # whoever started it has ended
        end_left_over(file, model)
        assert not psutil.pid_exists(server.pid)
        assert not file.exists()
        file.write_text("what")
        end_left_over(file, model)
    finally:
        server.kill()
        server.wait()
