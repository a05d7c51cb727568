"""The commands of measuring, as a process and in this one: what they print, refuse and write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distillcalc.benchmark.noop_server import served
from distillcalc.benchmark.record import Record
from distillcalc.cli import app
from distillcalc.distill.training.local_teacher import quiet
from distillcalc.errors import DistillcalcError, InputError
from tests.distill.training.making import llama, saved
from tests.distill.training.tiny import one_thread  # noqa: F401

SCENARIO = """
[workload]
name = "tiny"
requests_per_day = 1_000
input_tokens = 30
output_tokens = 5
[workload.slo]
e2e_p50_s = 30.0
[choices]
teacher = "openai/gpt-6-sol"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    with quiet():
        saved(llama(layers=2), folder / "student")
    (folder / "tiny.toml").write_text(SCENARIO)
    return folder


def invoke(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_student_is_measured_estimated_and_fitted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    command = [sys.executable, "-m", "distillcalc", "benchmark", "run", "tiny.toml", "--model", "student"]
    more = ["--concurrency", "1,3", "--requests", "6", "--name", "first", "-o", "records", "--json"]
    done = subprocess.run(
        [*command, *more], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert [level["load"]["concurrency"] for level in told["levels"]] == [1, 3]
    assert told == Record.load(place / "records" / "first.json").model_dump(mode="json")
    for words in ("student: 3 in flight", "TTFT p50/p95/p99", "E2E p50", "wrote records/first.json"):
        assert words in done.stderr
    for noise in ("Warning", "Traceback", "it/s"):
        assert noise not in done.stderr

    invoke(*command[3:], "--concurrency", "1,3", "--requests", "6", "--seed", "9", "--name", "second", "-o", "records")
    said = invoke("benchmark", "compare", "records/first.json", "records/second.json")
    assert "3 in flight" in said

    said = invoke("benchmark", "machine", "--seconds", "1", "-o", "machine.toml")
    assert "GB/s" in said
    known = ["--machine", "this-machine", "--catalog", "machine.toml", "--engine", "llama-cpp"]
    said = invoke("validate", "records/first.json", *known, "--refit-on", "records/second.json", "-o", "engine.toml")
    assert "before the re-fit: TPOT" in said
    assert "after it: TPOT" in said
    assert "[engines.llama-cpp]" in (place / "engine.toml").read_text()
    plain = json.loads(invoke("validate", "records/first.json", *known, "--json").splitlines()[-1])
    assert {one["what"] for one in plain["before"]} == {"TTFT", "TPOT", "E2E", "throughput", "memory"}
    assert plain["after"] == []
    decided = ["--scenario", "support-triage", "--evaluation", "teacher=285/300", "--actual", "labels=12.5"]
    said = invoke("validate", "records/first.json", *known, *decided)
    assert "accuracy of teacher: " in said
    assert "paid $12.50" in said
    plain = json.loads(invoke("validate", "records/first.json", *known, *decided, "--json").splitlines()[-1])
    assert plain["redecision"]["actual_usd"] == {"labels": 12.5}
    for wrong, words in (
        (["--evaluation", "teacher=285/300"], "name its scenario with --scenario"),
        (["--scenario", "support-triage", "--evaluation", "teacher=4/3"], "Got 'teacher=4/3'"),
        (["--scenario", "support-triage", "--actual", "labels=much"], "Got 'labels=much'"),
    ):
        with pytest.raises(InputError, match=words):
            invoke("validate", "records/first.json", *known, *wrong)
    with pytest.raises(InputError, match="nothing was fitted"):
        invoke("validate", "records/first.json", *known, "-o", "engine.toml")


def test_an_endpoint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    with served(tokens=5) as url:
        said = invoke(
            "benchmark", "run", "tiny.toml", "--base-url", f"{url}/v1", "--model", "noop", "--concurrency", "",
            "--rates", "50", "--requests", "20", "-o", "records",
        )  # fmt: skip
    assert "50 a second" in said
    assert "the client itself" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name what to measure"),
        (["--model", "student", "--shape", "qwen3-8b"], "name what to measure"),
        (["--base-url", "http://127.0.0.1:9/v1"], "an endpoint is measured with --model"),
        (["--model", "student", "--concurrency", "1,x"], r"--concurrency must be whole numbers.* Got 'x'"),
        (["--model", "student", "--concurrency", "0"], "Got '0'"),
        (["--model", "student", "--rates", "-2"], r"--rates must be numbers above 0.* Got '-2'"),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--shape", "qwen9"], "qwen9"),
        (["--model", "student", "--precision", "fp7"], "fp7"),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "x", "--tokenizer", "no/such/folder"], "no tokenizer"),
    ],
)
def test_what_cannot_be_measured_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(DistillcalcError, match=message):
        invoke("benchmark", "run", "tiny.toml", *words)


def test_a_classifier_is_measured_by_its_folder(place: Path) -> None:
    from distillcalc.distill.packaged import minilm
    from distillcalc.distill.training.classifier import new_classifier

    with quiet():
        new_classifier(str(minilm()), ["red", "green"]).save(place / "classifier")
    asked = ["benchmark", "run", str(place / "tiny.toml"), "--model", str(place / "classifier"), "--concurrency", "2",
             "--requests", "4", "--name", "classifier", "-o", str(place)]  # fmt: skip
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0
    record = Record.load(place / "classifier.json")
    assert (record.measured.kind, record.measured.details["kind"]) == ("in-process", "encoder")
    assert record.levels[0].summary["requests"] == 4
    with pytest.raises(InputError, match="as it was saved"):
        CliRunner().invoke(app, [*asked, "--compile"], catch_exceptions=False)
