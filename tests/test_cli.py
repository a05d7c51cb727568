"""The commands as a user runs them: real processes, what they print, how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distillcalc import Scenario, recommend


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-m", "distillcalc", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=120, env=env,
    )  # fmt: skip


def refused(*arguments: str, cwd: Path | None = None) -> str:
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_recommend_a_sample_from_another_folder(tmp_path: Path) -> None:
    done = run("recommend", "email-classification", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Call the big model (openai/gpt-6-sol)" in done.stdout
    assert "self-host" in done.stdout
    assert "break-even of self-host" in done.stdout
    assert "rule of thumb" in done.stdout
    assert done.stderr == ""


def test_json_is_one_line_on_stdout_and_the_tables_go_to_stderr() -> None:
    done = run("recommend", "email-classification", "--json")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    answer = json.loads(done.stdout)
    assert answer["recommendation"] == "call-teacher"
    assert answer["scenario"]["workload"]["start"] == "2026-12-01"
    assert "Call the big model" in done.stderr


def test_a_sample_printed_and_edited_is_a_scenario_of_ones_own(tmp_path: Path) -> None:
    listed = run("samples")
    assert "support-triage" in listed.stdout
    text = run("samples", "email-classification").stdout
    mine = tmp_path / "mine.toml"
    changed = text.replace("10_000", "500_000").replace("students =", "student_retention = 0.97\nstudents =")
    mine.write_text(changed)
    done = run("recommend", "mine.toml", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["recommendation"] == "self-host"


@pytest.mark.parametrize("table", ["models", "prices", "gpus", "engines", "priors", "terms", "retirements"])
def test_catalog_tables(table: str) -> None:
    done = run("catalog", table, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) >= 5
    assert all(row["source"] for row in rows)
    if table != "prices":
        assert all(row["checked"] for row in rows)
        assert all(row["confidence"] in ("high", "medium", "low") for row in rows)
    shown = run("catalog", table)
    assert shown.returncode == 0
    assert rows[0].get("id", rows[0].get("ref"))[:20] in shown.stdout


def test_the_claimed_and_the_computed_ratio_stand_side_by_side() -> None:
    (row,) = json.loads(run("catalog", "models", "--like", "gpt-5-mini", "--json").stdout)
    assert row["claimed_cost_ratio"] == [50, 50]
    assert row["computed_cost_ratio"] == pytest.approx(5.0)
    assert row["status"] == "ends 2026-12-11"


def test_catalog_takes_rows_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[gpus.my-card]\nname = "My card"\nmemory_gb = 48\nbandwidth_gb_s = 900\nbf16_tflops = 200\n')
    (row,) = json.loads(run("catalog", "gpus", "--like", "my-card", "--catalog", str(mine), "--json").stdout)
    assert row["source"] == "given by the user"


def test_compare() -> None:
    done = run("compare", "--student", "qwen3-8b", "--json")
    assert done.returncode == 0, done.stderr
    costs = json.loads(done.stdout)
    assert [cost["approach"] for cost in costs] == ["pre-training", "fine-tuning", "distillation"]
    assert "the article says" in done.stderr


def test_capacity_on_one_gpu_on_all_and_on_a_phone() -> None:
    asked = ("capacity", "--model", "deepseek-r1-distill-qwen-7b", "--scenario", "support-triage")
    one = run(*asked, "--gpu", "h100-sxm", "--tensor-parallel", "1", "--json")
    assert one.returncode == 0, one.stderr
    (row,) = json.loads(one.stdout)["rows"]
    assert row["replicas"] >= 1
    assert row["latency_s"]["e2e_p95"] < 5  # the sample's objective
    assert "E2E p95 5.00 s" in one.stderr
    assert "fitted to" in one.stderr
    every = run(*asked, "--gpu", "all", "--json")
    plan = json.loads(every.stdout)
    costs = [row["usd_per_month"] for row in plan["rows"] if not row["why_not"]]
    assert len(costs) > 30
    assert costs == sorted(costs)
    assert plan["best"] == next(row["gpu"] for row in plan["rows"])
    assert "cannot: l4: E2E p95 of 5 s is below the floor of this machine" in every.stderr
    phone = run("capacity", "--model", "qwen3.5-0.8b", "--scenario", "support-triage", "--gpu", "snapdragon-8-elite",
                "--precision", "int4")  # fmt: skip
    assert phone.returncode == 0
    assert "snapdragon-8-elite" in phone.stdout
    assert "assumed" in phone.stdout  # nothing was fitted to phones


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--model", "deepseek-r1-distill-llama-70b", "--gpu", "l4", "--tensor-parallel", "1"), "GB too little"),
        (("--model", "deepseek-r1-distill-qwen-7b", "--gpu", "l4", "--tensor-parallel", "1"), "below the floor"),
        (("--model", "deepseek-r1-distill-qwen-7b", "--gpu", "h100"), "Did you mean h100-sxm"),
        (("--model", "qwen-7b"), "unknown model"),
        (("--model", "qwen3-8b", "--precision", "fp9"), "fp9"),
        (("--model", "qwen3-8b", "--peak-per-s", "0.001"), "the peak must be at least the mean"),
    ],
)
def test_a_capacity_that_cannot_be(arguments: tuple[str, ...], told: str) -> None:
    done = run("capacity", "--scenario", "support-triage", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_recommend_by_simulation() -> None:
    done = run("recommend", "support-triage", "--simulate", "--json")
    assert done.returncode == 0, done.stderr
    own = json.loads(done.stdout)["options"]["self-host"]
    assert "simulation of the busiest hour" in json.dumps(own["provenance"])


def test_accuracy_as_it_is_stored() -> None:
    done = run("accuracy")
    assert done.returncode == 0, done.stderr
    for words in ("one model left out", "llama-3.1-70b", "1,322, of which 1,258 used", "aiconfigurator", "2026-"):
        assert words in done.stdout
    assert "Left out: 37. Attention replicated over GPUs" in done.stdout
    assert "%" in done.stdout
    asked = run("accuracy", "--json")
    assert asked.stdout.count("\n") == 1
    answer = json.loads(asked.stdout)
    assert answer["points"] == 1322
    assert answer["intervals"]["tpot"]["dense"] == pytest.approx(1.3, abs=0.05)
    assert "TPOT" in asked.stderr


def test_accuracy_of_measurements_of_ones_own(tmp_path: Path) -> None:
    lines = ["model,gpu,engine,input_tokens,output_tokens,concurrency,tpot_s"]
    for model, ms in (("llama-3.1-8b", 8.0), ("qwen3-14b", 13.0)):
        lines += [f"{model},h100-sxm,vllm,500,200,{n},{ms / 1000 * (1 + n / 50)}" for n in (1, 4, 16)]
    (tmp_path / "runs.csv").write_text("\n".join(lines))
    done = run("accuracy", "runs.csv", "--by", "concurrency", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["source"] == "runs.csv"
    assert {row["what"] for row in answer["errors"]} == {"tpot"}
    assert "one model left out, by concurrency" in {row["how"] for row in answer["errors"]}
    (tmp_path / "runs.csv").write_text("\n".join(lines).replace("tpot_s", "tpot_ms"))
    assert "no column tpot_s. Did you mean 'tpot_ms'" in refused("accuracy", "runs.csv", cwd=tmp_path)
    assert "cannot read measurements from none.csv" in refused("accuracy", "none.csv", cwd=tmp_path)
    assert "need MEASUREMENTS" in refused("accuracy", "--by", "engine", cwd=tmp_path)


def write(folder: Path, text: str) -> str:
    (folder / "s.toml").write_text(text)
    return "s.toml"


GOOD = """\
[workload]
requests_per_day = 100
input_tokens = 300
output_tokens = 20
start = 2026-12-01

[choices]
teacher = "openai/gpt-6-sol"
"""


@pytest.mark.parametrize(
    ("change", "to", "says"),
    [
        ("requests_per_day = 100", "requests_per_day = -5", ["requests_per_day", "greater than 0", "Got -5", "line 2"]),
        ("requests_per_day = 100", "requests_a_day = 100", ["requests_a_day", "line 2", "requests_per_day"]),
        ("requests_per_day = 100", "requests_per_day = 1e300", ["requests_per_day", "100000000000", "line 2"]),
        ("input_tokens = 300", "input_tokens = { mean = 300, p95 = 9000 }", ["3.87 times the mean", "line 3"]),
        ("output_tokens = 20", "output_tokens 20", ["not valid TOML", "line 4"]),
        ("start = 2026-12-01", "start = 2026-13-01", ["not valid TOML", "line 5"]),
        ("openai/gpt-6-sol", "openai/gpt-6-soll", ["unknown model", "Did you mean openai/gpt-6-sol"]),
        ("openai/gpt-6-sol", "openai/gpt-5", ["shuts down on 2026-12-11", "on_retirement"]),
        ("openai/gpt-6-sol", "google/gemma-3", ["price"]),
        (
            'teacher = "openai/gpt-6-sol"',
            'teacher = "openai/gpt-6-sol"\ngpus = ["h100sxm"]',
            ["unknown GPU", "h100-sxm"],
        ),
        (
            'teacher = "openai/gpt-6-sol"',
            'teacher = "openai/gpt-6-sol"\nstudents = ["qwen3-8bb"]',
            ["unknown model", "qwen3-8b"],
        ),
        ("[choices]", "[overrides.gpu.x]\nname = 1\n[choices]", ["unknown catalog table 'gpu'", "gpus"]),
        (
            "[choices]",
            "[overrides.gpus.h100-sxm]\nmemory_gb = -3\n[choices]",
            ["overrides.gpus.h100-sxm", "memory_gb", "-3"],
        ),
    ],
)
def test_bad_scenarios_are_refused_with_what_would_be_right(
    tmp_path: Path, change: str, to: str, says: list[str]
) -> None:
    assert change in GOOD
    name = write(tmp_path, GOOD.replace(change, to))
    message = refused("recommend", name, cwd=tmp_path)
    for words in says:
        assert words in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "Did you mean the sample 'support-triage'" in refused("recommend", "suport-triage")
    assert "no scenario file 'nowhere/x.toml'" in refused("recommend", "nowhere/x.toml")
    (tmp_path / "latin.toml").write_bytes("name = 'caf\xe9'".encode("latin-1"))
    assert "not UTF-8" in refused("recommend", "latin.toml", cwd=tmp_path)
    (tmp_path / "empty.toml").write_text("")
    assert "workload is missing" in refused("recommend", "empty.toml", cwd=tmp_path)
    assert "cannot read" in refused("catalog", "gpus", "--catalog", str(tmp_path / "none.toml"))


def test_unknown_commands_and_names_end_with_2() -> None:
    assert run("recomend", "support-triage").returncode == 2
    assert run("catalog", "modells").returncode == 2
    assert "unknown model 'qwen3-9b'" in refused("compare", "--student", "qwen3-9b")
    assert "unknown sample" in refused("samples", "suport-triage")


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m distillcalc catalog models | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_the_scenario_in_the_json_holds_the_rows_that_were_laid_over(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[token_prices."openai/gpt-6-sol"]\ninput_usd_per_mtok = 0.02\noutput_usd_per_mtok = 0.1\n')
    answer = json.loads(run("recommend", "email-classification", "--json", "--catalog", str(mine)).stdout)
    again = recommend(Scenario.from_dict(answer["scenario"]))
    assert again.recommendation == answer["recommendation"]
    assert again.options["call-teacher"].present_value_usd == answer["options"]["call-teacher"]["present_value_usd"]
    assert again.options["call-teacher"].present_value_usd == pytest.approx(22.63)


UNCERTAIN = """
[workload]
name = "near break-even"
requests_per_day = { lognormal = { mean = 40_000, p95 = 90_000 } }
growth_per_month = { triangular = [-0.02, 0.03, 0.08] }
input_tokens = { mean = 900, p95 = 2_100 }
output_tokens = 60
start = 2026-12-01
[workload.quality]
floor = 0.90
[choices]
teacher = "openai/gpt-6-sol"
students = ["qwen3-4b"]
teacher_price_factor = { uniform = [0.6, 1.0] }
[choices.evaluations]
teacher = { correct = 478, total = 500 }
qwen3-4b = { correct = 464, total = 500 }
[use]
kind = "classifier"
competes_with_teacher = false
[correlations.requests_per_day]
growth_per_month = -0.3
"""


@pytest.fixture
def uncertain(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(UNCERTAIN, encoding="utf-8")
    return file


def test_recommend_over_distributions(uncertain: Path) -> None:
    done = run("recommend", str(uncertain), "--draws", "1024", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sum(told["probability_best"].values()) == pytest.approx(1, abs=0.2)
    assert told["evpi"]["usd"] > 0
    assert "of 1,024 draws" in done.stderr
    assert "find out first" in done.stderr
    again = run("recommend", str(uncertain), "--draws", "1024", "--seed", "1", "--json")
    assert json.loads(again.stdout)["evpi"]["usd"] != told["evpi"]["usd"]
    words = run("recommend", str(uncertain), "--draws", "1024", "--explain").stdout
    assert "It would change to" in words


def test_uncertainty_in_tables_figures_and_json(uncertain: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    done = run("uncertainty", str(uncertain), "--draws", "1024", "--figures", str(figures), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["draws"] == 1_024
    assert told["explanation"]
    for title in ("What matters", "When to start", "P(best)"):
        assert title in done.stderr
    assert {file.stem for file in figures.iterdir()} == {"odds", "cost", "value", "tornado"}


def test_sobol_indices_on_a_sample_with_the_catalogs_priors() -> None:
    done = run("uncertainty", "email-classification", "--priors", "--draws", "512", "--indices", "--json")
    assert done.returncode == 0, done.stderr
    assert {index["input"] for index in json.loads(done.stdout)["indices"]} >= {"requests_per_day", "growth_per_month"}


def test_a_map_of_two_inputs(tmp_path: Path) -> None:
    image = tmp_path / "map.png"
    done = run(
        "boundary", "support-triage", "requests_per_day", "output_tokens", "--points", "11", "-o", str(image), "--json"
    )
    assert done.returncode == 0, done.stderr
    assert image.stat().st_size > 5_000
    assert "at requests_per_day 40000 and output_tokens 60: self-host" in done.stderr
    assert json.loads(done.stdout)["point"] == [40_000, 60]


def test_what_cannot_be_drawn_is_refused(uncertain: Path) -> None:
    assert "power of two" in refused("recommend", str(uncertain), "--draws", "1000")
    assert "independent inputs" in refused("uncertainty", str(uncertain), "--draws", "64", "--indices")
    uncertain.write_text(UNCERTAIN.replace("growth_per_month = -0.3", "labels = 0.3"), encoding="utf-8")
    assert "labels" in refused("recommend", str(uncertain))
    uncertain.write_text(UNCERTAIN.replace("[-0.02, 0.03, 0.08]", "[0.03, -0.02, 0.08]"), encoding="utf-8")
    said = refused("recommend", str(uncertain))
    assert "low <= mode <= high" in said
    assert "line 5" in said
