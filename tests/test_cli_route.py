"""The commands of routing, as a process and in this one: what they print, write and refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from distillcalc.cli import app
from distillcalc.errors import DistillcalcError
from distillcalc.workload.scenario import Scenario

LABELS = ("card", "rate", "top-up")


def pairs_file(file: Path, n: int = 1_200, seed: int = 0, **more: object) -> Path:
    """Messages of three labels; a student that is right as often as its probability says, a teacher in 93 of 100."""
    rng = np.random.default_rng(seed)
    with file.open("w") as out:
        for i in range(n):
            sure = 0.34 + 0.66 * rng.beta(3, 1.2)
            label = LABELS[int(rng.integers(3))]
            others = [one for one in LABELS if one != label]
            student = label if rng.random() < sure else others[0]
            row = {
                "text": f"message {seed} {i}", "label": label, "student_answer": student,
                "teacher_answer": label if rng.random() < 0.93 else others[1],
                "student_probabilities": [sure, (1 - sure) / 2, (1 - sure) / 2],
                "student_usd": 1e-6, "teacher_usd": 1e-4, "student_s": 0.01, "teacher_s": 0.5,
            } | more  # fmt: skip
            out.write(json.dumps(row) + "\n")
    return file


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["route", *map(str, words)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("route")
    pairs_file(folder / "pairs.jsonl")
    pairs_file(folder / "fresh.jsonl", seed=1)
    done = run(
        "fit", folder / "pairs.jsonl", "--label", "label", "--retention", 0.92, "--student", "qwen3-4b", "--teacher",
        "openai/gpt-6-sol", "--score", "max_probability", "--score", "entropy", "-o", folder / "router",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


def test_a_process_fits_a_router_and_prints_one_line_of_json(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distillcalc", "route", "fit", "pairs.jsonl", "--label", "label", "--floor", "0.8",
         "--score", "margin", "--figure", "curve.png", "--reliability", "honest.png", "--json"],
        capture_output=True, text=True, timeout=300, cwd=place, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line, rest = done.stdout.split("\n", 1)
    assert rest == ""
    told = json.loads(line, parse_constant=pytest.fail)
    assert told["advice"] == "router"
    assert told["certificate"]["goal"]["floor"] == 0.8
    assert [row["name"] for row in told["beside"]["rows"]][:3] == [
        "always the student", "always the teacher", "this router",
    ]  # fmt: skip
    for words in ("Route. Certified on 600 pairs", "always the teacher", "wrote curve.png", "wrote honest.png"):
        assert words in done.stderr
    assert (place / "curve.png").stat().st_size > 10_000
    for noise in ("Warning", "Traceback"):
        assert noise not in done.stderr


def test_evaluate_takes_pairs_that_it_never_saw_and_no_others(place: Path) -> None:
    done = run("evaluate", place / "router", place / "fresh.jsonl", "--label", "label", "--json")
    assert done.exit_code == 0, done.output
    assert "1,200 pairs; answered by: qwen3-4b" in done.output
    assert "E2E latency: p50 0.01 s" in done.output
    with pytest.raises(DistillcalcError, match="1,200 of 1,200 certifying pairs are among the router's own"):
        raised("evaluate", place / "router", place / "pairs.jsonl", "--label", "label")
    with pytest.raises(DistillcalcError, match="another student needs a router of its own"):
        raised("evaluate", place / "router", place / "fresh.jsonl", "--label", "label", "--student", "qwen3-8b")


def raised(*words: object) -> None:
    """Run a command and let its error out."""
    done = run(*words)
    assert done.exception is not None, done.output
    raise done.exception


def test_explain_says_what_it_decides_by_and_where_a_request_goes(place: Path) -> None:
    done = run("explain", place / "router", "hello", "--probabilities", "0.98,0.01,0.01")
    assert done.exit_code == 0, done.output
    assert "qwen3-4b answers where" in done.output
    assert "Certified on 600 pairs" in done.output
    assert "qwen3-4b: " in done.output.splitlines()[-1]
    assert "as calibrated" in done.output.splitlines()[-1]
    sent = run("explain", place / "router", "hello", "--probabilities", "0.35,0.33,0.32", "--json")
    told = json.loads(sent.stdout.splitlines()[-1])
    assert told["route"]["model"] == "openai/gpt-6-sol"
    with pytest.raises(DistillcalcError, match="probabilities"):
        raised("explain", place / "router", "hello")
    with pytest.raises(DistillcalcError, match="numbers with commas"):
        raised("explain", place / "router", "hello", "--probabilities", "high")


def test_a_scenario_takes_the_router_and_recommend_shows_its_rate(place: Path) -> None:
    done = run("scenario", place / "router", "support-triage", "-o", place / "routed.toml")
    assert done.exit_code == 0, done.output
    measured = Scenario.load(place / "routed.toml").choices.routing.measured
    assert measured is not None
    assert measured.certifying.items == 600
    shown = CliRunner().invoke(app, ["recommend", str(place / "routed.toml"), "--json"])
    told = json.loads(shown.stdout.splitlines()[-1])
    facts = told["options"]["cascade"]["facts"]
    place_of = measured.threshold.index(facts["threshold"])
    counts = measured.certifying
    assert facts["escalation_rate"] == pytest.approx((counts.escalated[place_of] + 1) / (counts.items + 2), abs=0.005)
    with pytest.raises(DistillcalcError, match=r"measured on qwen3-4b\. Got the student qwen3-8b"):
        raised("scenario", place / "router", "support-triage", "-o", place / "x.toml", "--student", "qwen3-8b")
    assert not (place / "x.toml").exists()


def test_drift_tells_a_quiet_log_from_one_that_moved(place: Path) -> None:
    rng = np.random.default_rng(0)
    fitted = json.loads((place / "router" / "router.json").read_text())
    threshold, score = fitted["thresholds"][0], fitted["scores"][0]["name"]
    for name, a, b in (("quiet", 3, 1.2), ("moved", 1.2, 1.6)):
        with (place / f"{name}.jsonl").open("w") as out:
            for _ in range(1_500):
                sure = 0.34 + 0.66 * rng.beta(a, b)
                rest = (1 - sure) / 2
                value = sure if score == "max_probability" else 1 + (
                    sure * np.log(sure) + 2 * rest * np.log(max(rest, 1e-12))
                ) / np.log(3)  # fmt: skip
                sent = bool(value < threshold)
                right = rng.random() < (0.93 if sent else sure)
                out.write(json.dumps({"score": value, "escalated": sent, "right": bool(right)}) + "\n")
    quiet = run("drift", place / "router", place / "quiet.jsonl", "--json", "--state", place / "watch.json")
    assert json.loads(quiet.stdout.splitlines()[-1])["drift"]["advice"] == "nothing", quiet.output
    asked = ("--requests-per-day", 40_000, "--teacher-usd", 1e-4, "--wrong-answer-usd", 0.05, "--state")
    moved = run("drift", place / "router", place / "moved.jsonl", *asked, place / "watch.json", "--json")
    told = json.loads(moved.stdout.splitlines()[-1])
    assert told["drift"]["advice"] == "recalibrate"
    assert told["waiting"] is not None
    assert "1,500 requests read" in moved.output
    with pytest.raises(DistillcalcError, match=r"watches with alpha 0\.05\. Got 0\.2"):
        raised("drift", place / "router", place / "moved.jsonl", "--state", place / "watch.json", "--alpha", 0.2)
    (place / "odd.jsonl").write_text('{"score": 0.5, "escalated": false, "student_right": true}\n')
    assert "not read: student_right" in run("drift", place / "router", place / "odd.jsonl").output
    with pytest.raises(DistillcalcError, match="no folder"):
        raised("drift", place / "router", place / "moved.jsonl", "--state", place / "nowhere" / "x.json")


def test_litellm_is_told_where_both_models_are_and_no_key(place: Path) -> None:
    done = run(
        "litellm", place / "router", "-o", place / "proxy", "--endpoint",
        "qwen3-4b=openai/my-student,http://127.0.0.1:8000/v1", "--endpoint",
        "openai/gpt-6-sol=openai/gpt-6-sol,,OPENAI_API_KEY",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"wrote {place / 'proxy'}\n" in done.output
    config = (place / "proxy" / "config.yaml").read_text()
    assert 'api_base: "http://127.0.0.1:8000/v1"' in config
    assert "os.environ/OPENAI_API_KEY" in config
    assert "site-packages" not in (place / "proxy" / "distillcalc_hook.py").read_text()  # it reads no texts
    assert (place / "proxy" / "router" / "router.json").is_file()
    with pytest.raises(DistillcalcError, match="--endpoint takes NAME=MODEL"):
        raised("litellm", place / "router", "-o", place / "other", "--endpoint", "qwen3-4b")


def test_what_cannot_be_right_is_told_before_the_work(place: Path) -> None:
    with pytest.raises(DistillcalcError, match=r"ends in \.png"):
        raised("fit", place / "pairs.jsonl", "--label", "label", "--retention", 0.9, "--figure", "curve.txt")
    with pytest.raises(DistillcalcError, match="ask for retention, floor or usd_per_month"):
        raised("fit", place / "pairs.jsonl", "--label", "label")
    with pytest.raises(DistillcalcError, match="no router in"):
        raised("explain", place / "nowhere")
    with pytest.raises(DistillcalcError, match="holds something else"):
        raised("fit", place / "pairs.jsonl", "--label", "label", "--retention", 0.9, "-o", place)
    with pytest.raises(DistillcalcError, match="cannot write a router"):
        raised("fit", place / "pairs.jsonl", "--label", "label", "--retention", 0.9, "-o", place / "pairs.jsonl" / "x")
    with pytest.raises(DistillcalcError, match=r"ends in \.toml"):
        raised("scenario", place / "router", "support-triage", "-o", place / "x.json")
    with pytest.raises(DistillcalcError, match="kind must be"):
        raised("fit", place / "pairs.jsonl", "--label", "label", "--retention", 0.9, "--score", "margin", "--kind", "x")


def test_rules_of_a_file_are_part_of_the_router(place: Path) -> None:
    (place / "rules.toml").write_text('[[rules]]\nkind = "topic"\npatterns = ["[05]$"]\nthen = "teacher"\n')
    done = run(
        "fit", place / "pairs.jsonl", "--label", "label", "--retention", 0.92, "--score", "max_probability", "--rules",
        place / "rules.toml", "-o", place / "ruled",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    sent = run("explain", place / "ruled", "message 5", "--probabilities", "1,0,0")
    assert "teacher: " in sent.output.splitlines()[-1]
    (place / "odd.toml").write_text('[[rules]]\nkind = "moon"\n')
    with pytest.raises(DistillcalcError, match="moon"):
        raised("fit", place / "pairs.jsonl", "--label", "label", "--retention", 0.92, "--rules", place / "odd.toml")
