"""From log files to a scenario that decides: the function, and the command as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distillcalc import Scenario, Workload, recommend
from distillcalc.errors import InputError

TRAFFIC = Path(__file__).resolve().parents[4] / "shared" / "data" / "traffic"

LOG = "\n".join(
    ["when,prompt_tokens,completion_tokens,model"]
    + [
        f"2026-10-{1 + i // 24:02d}T{i % 24:02d}:00:00Z,{200 + i},{10 + i % 5},gpt-4o-2024-08-06"
        for i in range(24 * 20)
    ]
)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "distillcalc", *arguments], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_from_logs_measures_and_what_is_given_wins(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(LOG)
    made = Workload.from_logs(log, columns={"at": "when"}, name="mine", horizon_months=6)
    # One request an hour for 20 days, 200 to 679 tokens in.
    assert made.requests_per_day == pytest.approx(24, rel=0.01)
    assert made.mean_input_tokens == pytest.approx(200 + 479 / 2)
    assert made.mean_output_tokens == pytest.approx(12)
    assert (made.name, made.horizon_months) == ("mine", 6)
    assert Workload.from_logs(log, columns={"at": "when"}, requests_per_day=99).requests_per_day == 99


def test_the_command_writes_a_scenario_that_recommend_takes(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    done = run("workload", "log.csv", "--column", "at=when", "-o", "mine.toml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["profile"]["source"]["rows_read"] == answer["profile"]["source"]["rows_used"] == 480
    # 480 x 439.5 x 2.5 + 480 x 12 x 10 USD per million tokens.
    (line,) = answer["bill"]
    assert line["ref"] == "openai/gpt-4o"
    assert line["list_usd"] == pytest.approx((480 * 439.5 * 2.5 + 480 * 12 * 10) / 1e6)
    written = Scenario.load(tmp_path / "mine.toml")
    assert written.choices.teacher == "openai/gpt-4o"
    assert written.workload == Workload.from_dict(written.workload.to_dict())
    # gpt-4o ends in January 2027: the command says so, and another teacher is named.
    assert "recommend will refuse mine.toml as it is: the teacher openai/gpt-4o shuts down on" in done.stderr
    assert run("recommend", "mine.toml", cwd=tmp_path).returncode == 2
    teacher = ("--teacher", "openai/gpt-6-sol", "--requests-per-day", "99000")
    done = run("workload", "log.csv", "--column", "at=when", "-o", "mine.toml", *teacher, cwd=tmp_path)
    assert "refuse" not in done.stdout
    assert Scenario.load(tmp_path / "mine.toml").workload.requests_per_day == 99_000
    assert run("recommend", "mine.toml", cwd=tmp_path).returncode == 0


def test_a_log_without_models_leaves_the_teacher_to_fill_in(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG.replace(",model", "").replace(",gpt-4o-2024-08-06", ""))
    done = run("workload", "log.csv", "--column", "at=when", "-o", "mine.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "name the big model in [choices]" in done.stdout
    assert '# teacher = "provider/model"' in (tmp_path / "mine.toml").read_text()
    with pytest.raises(InputError, match=r"choices\.teacher is missing"):
        Scenario.load(tmp_path / "mine.toml")


def test_counts_alone_can_be_looked_at_and_need_lengths_to_be_a_workload(tmp_path: Path) -> None:
    rows = "\n".join(f"{hour * 3600},{hour % 24}" for hour in range(24 * 20))
    (tmp_path / "counts.csv").write_text(f"hour_start_s,requests\n{rows}\n")
    looked = run("workload", "counts.csv", "--figure", "counts.png", "--json", cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr
    assert json.loads(looked.stdout)["workload"] is None
    assert (tmp_path / "counts.png").stat().st_size > 10_000
    refused = run("workload", "counts.csv", "-o", "mine.toml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--input-tokens" in refused.stderr
    given = run(
        "workload", "counts.csv", "-o", "mine.toml", *["--input-tokens", "900", "--output-tokens", "60"], cwd=tmp_path
    )
    assert given.returncode == 0, given.stderr
    assert "input_tokens = 900" in (tmp_path / "mine.toml").read_text()


def test_a_scenario_file_says_where_it_is_from_and_has_a_point_a_line(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    teacher = ("--teacher", "openai/gpt-6-sol", "--requests-per-day", "99000")
    done = run("workload", "log.csv", "--column", "at=when", "-o", "mine.toml", *teacher, cwd=tmp_path)
    assert "refuse" not in done.stdout
    assert Scenario.load(tmp_path / "mine.toml").workload.requests_per_day == 99_000
    text = (tmp_path / "mine.toml").read_text()
    assert text.startswith("# Measured by distillcalc: 480 requests in 20 days")
    sample = Scenario.load(tmp_path / "mine.toml").workload.length_sample
    assert sample is not None
    assert sum(line.startswith("    [") for line in text.splitlines()) == len(sample)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        (["log.csv", "--column", "at"], "figure=column"),
        (["log.csv", "--column", "at=nothing"], "nothing"),
        (["log.csv", "--column", "at=when", "--figure", "x.nonsense"], "cannot write the figure"),
        (["log.csv", "--column", "at=when", "--figure", "no/such/x.png"], "cannot write the figure"),
        (["log.csv", "--column", "at=when", "-o", "no/such/folder/x.toml"], "cannot write"),
        (
            ["log.csv", "--column", "at=when", "--max-rejected-share", "7"],
            "--max-rejected-share must be between 0 and 1",
        ),
        (["log.csv"], "--column at=when --column input_tokens=prompt_tokens"),
        (["log.csv", "--column", "att=when"], "--column maps 'att', which is no figure. Did you mean 'at'?"),
        (["log.csv", "--column", "at=model"], "--rejects rejects.jsonl writes all of them"),
        (["log.csv", "--column", "at=when", "--memory-limit", "much"], "--memory-limit must be a size"),
        (["log.csv", "--column", "at=when", "--teacher", "nope/zip", "-o", "x.toml"], "unknown provider 'nope'"),
    ],
)
def test_bad_input_is_refused_without_a_traceback(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    done = run("workload", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.toml").exists()


@pytest.mark.parametrize(
    ("file", "given"),
    [
        ("AzureLLMInferenceTrace_code.csv", {}),
        ("burstgpt1_hourly_requests.csv", {"input_tokens": 900, "output_tokens": 60}),
    ],
)
def test_both_real_traces_give_a_recommended_option(file: str, given: dict[str, float]) -> None:
    if not (TRAFFIC / file).is_file():
        pytest.skip(f"{file} lies in ../shared, which is not here")
    decision = recommend(
        Workload.from_logs(TRAFFIC / file, **given),
        teacher="openai/gpt-6-sol",
        student_retention=0.97,
        use={"competes_with_teacher": False},
    )
    assert decision.recommendation is not None
