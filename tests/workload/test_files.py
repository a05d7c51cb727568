"""Scenario files: the samples load, round trips lose nothing, errors name the line and what would be right."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from distillcalc import Scenario
from distillcalc.errors import InputError
from distillcalc.workload.files import load_scenario, samples, save_scenario
from tests.workload.strategies import scenarios

SAMPLES = sorted(samples())

HEAD = """\
[workload]
name = "x"
requests_per_day = 10
input_tokens = 5
output_tokens = 5
start = 2026-12-01
"""  # lines 1 to 6
CHOICES = """\
[choices]
teacher = "openai/gpt-6-sol"
"""


def refusal(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_scenario(file)
    return str(error.value)


# Samples


def test_there_are_samples_of_each_kind_of_task() -> None:
    assert SAMPLES == [
        "code-completion",
        "email-classification",
        "near-break-even",
        "private-notes",
        "support-triage",
    ]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_loads_by_its_name_and_by_its_path(name: str) -> None:
    scenario = load_scenario(name)
    assert load_scenario(samples()[name]) == load_scenario(str(samples()[name])) == Scenario.load(name) == scenario
    assert scenario.workload.requests_per_day > 0


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_states_no_default_and_begins_with_a_comment(name: str) -> None:
    text = samples()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    scenario = load_scenario(name)
    assert scenario.to_dict()["workload"]["start"] >= date(2026, 12, 1)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_survives_a_file(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    assert load_scenario(save_scenario(scenario, tmp_path / "copy.toml")) == scenario


def test_support_triage_is_read_as_written() -> None:
    scenario = load_scenario("support-triage")
    assert scenario.workload.requests_per_day == 40_000
    assert scenario.workload.input_tokens is not None
    assert (scenario.workload.input_tokens.mean, scenario.workload.input_tokens.p95) == (1_900, 3_400)
    assert scenario.workload.hour_of_week == "business-hours"
    assert scenario.choices.evaluations["qwen3-8b"].correct == 470
    assert scenario.use.kind == "classifier"


# Round trips


@given(stated=scenarios())
def test_a_scenario_survives_a_file(stated: Scenario) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert Scenario.load(stated.save(Path(folder) / "scenario.toml")) == stated


def test_a_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xef\xbb\xbf" + (HEAD + CHOICES).replace("\n", "\r\n").encode())
    assert load_scenario(file).workload.name == "x"


# No such file


@pytest.mark.parametrize(
    ("name", "near"), [("suport-triage", "support-triage"), ("Private_Notes", "private-notes"), ("code", "code-")]
)
def test_a_misspelt_sample_gets_the_near_one(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"no scenario file '{name}'. Did you mean the sample '{near}"):
        load_scenario(name)


def test_a_missing_file_lists_the_samples(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_scenario(tmp_path / "none.toml")
    for name in SAMPLES:
        assert name in str(error.value)


def test_a_folder_is_not_a_scenario(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scenario file"):
        load_scenario(tmp_path)


def test_a_folder_is_not_a_place_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write the scenario to .*: Is a directory"):
        save_scenario(load_scenario("support-triage"), tmp_path)


def test_latin_1_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes('[workload]\nname = "café"\n'.encode("latin-1"))
    # "[workload]" and a line end are 11 bytes, 'name = "caf' 11 more: the é is byte 22
    with pytest.raises(InputError, match=r"mine\.toml is not UTF-8 text \(byte 22\)"):
        load_scenario(file)


# Not TOML


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "growth = = 3\n", ["mine.toml is not valid TOML", "line 7", "'growth = = 3'"]),
        (HEAD + 'name = "y"\n', ["line 7", "'name = \"y\"'"]),
        (HEAD + CHOICES + "small = [1, 2\n", ["mine.toml is not valid TOML", "end of document"]),
        ("workload\n", ["line 1"]),
    ],
)
def test_what_is_not_toml_is_shown_with_its_line(tmp_path: Path, text: str, says: list[str]) -> None:
    message = refusal(tmp_path, text)
    for part in says:
        assert part in message


# Values that cannot be right: the line


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        pytest.param(HEAD.replace("= 10", "= -10") + CHOICES, "workload.requests_per_day", 3, id="plain key"),
        pytest.param(HEAD + "[workload.slo]\n# why\nttft_p95_s = -1\n" + CHOICES, "slo.ttft_p95_s", 9, id="nested"),
        pytest.param(HEAD + "[ workload . slo ]\nttft_p95_s = -1\n" + CHOICES, "slo.ttft_p95_s", 8, id="spaced header"),
        pytest.param(
            HEAD.replace("input_tokens = 5", "input_tokens = { mean = 9, p95 = 5 }", 1) + CHOICES,
            "workload.input_tokens",
            4,
            id="inline table",
        ),
        pytest.param(HEAD + "slo = { ttft_p95_s = 1, e2e_p95_s = -2 }\n" + CHOICES, "slo.e2e_p95_s", 7, id="in inline"),
        pytest.param(HEAD + "slo.ttft_p95_s = 1\nslo.e2e_p95_s = -1\n" + CHOICES, "slo.e2e_p95_s", 8, id="dotted key"),
        pytest.param(
            'workload.name = "x"\nworkload.requests_per_day = -1\n'
            'workload.input_tokens = 1\nworkload.output_tokens = 1\nchoices.teacher = "a/b"\n',
            "workload.requests_per_day",
            2,
            id="dotted without header",
        ),
        pytest.param(
            HEAD.replace("requests_per_day", '"requests_per_day"').replace("= 10", "= 0") + CHOICES,
            "workload.requests_per_day",
            3,
            id="quoted key",
        ),
        pytest.param(
            HEAD + CHOICES + '[choices.evaluations]\n"qwen3.5-4b" = { correct = -9, total = 5 }\n',
            "choices.evaluations.qwen3.5-4b.correct",
            10,
            id="quoted key with a dot",
        ),
        pytest.param(
            HEAD + CHOICES + '[choices.evaluations."qwen3.5-4b"]\ncorrect = -9\ntotal = 5\n',
            "choices.evaluations.qwen3.5-4b.correct",
            10,
            id="quoted header with a dot",
        ),
        pytest.param(
            HEAD + CHOICES + "[choices.evaluations]\nteacher = { correct = 9, total = 5 }\n",
            "choices.evaluations.teacher",
            10,
            id="rule over two fields",
        ),
        pytest.param(
            "[workload]\nrequests_per_day = 1\nlength_sample = [\n  [100, 5],\n  [200, 6],\n]\ngrowth_per_month = -3\n"
            + CHOICES,
            "workload.growth_per_month",
            7,
            id="after rows in brackets",
        ),
        pytest.param(
            "[workload]\nrequests_per_day = 1\nlength_sample = [\n  [100],\n]\ngrowth_per_month = -3\n" + CHOICES,
            "workload.growth_per_month",
            6,
            id="after a row that looks like a header",
        ),
        pytest.param(
            '[workload]\nname = """\nrequests_per_day = 1\n[choices]\n"""\nrequests_per_day = -1\n'
            "input_tokens = 1\noutput_tokens = 1\n" + CHOICES,
            "workload.requests_per_day",
            6,
            id="after a long string",
        ),
        pytest.param(
            "[workload] # [choices]\nname = 'a # [b'\nrequests_per_day = -1\ninput_tokens = 1\noutput_tokens = 1\n"
            + CHOICES,
            "workload.requests_per_day",
            3,
            id="brackets in comments and strings",
        ),
        pytest.param(
            HEAD + CHOICES + 'options = ["call-teacher", "self-hots"]\n', "choices.options.1", 9, id="in a list"
        ),
        pytest.param(
            HEAD.replace("requests_per_day = 10\n", "") + CHOICES, "workload.requests_per_day", 1, id="missing"
        ),
        pytest.param(HEAD + "[choices]\n", "choices.teacher", 7, id="missing in another table"),
        pytest.param(HEAD + CHOICES + "[overrides]\ngpus = 3\n", "overrides.gpus", 10, id="overrides"),
    ],
)
def test_a_wrong_value_is_found_in_the_file(tmp_path: Path, text: str, field: str, line: int) -> None:
    message = refusal(tmp_path, text)
    assert field in message
    assert f"(line {line} of mine.toml)" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "reqests_per_day = 3\n" + CHOICES, "unknown field workload.reqests_per_day (line 7 of mine.toml). Did"),
        (
            HEAD + "[workload.slo]\nttft_p99 = 3\n" + CHOICES,
            "workload.slo.ttft_p99 (line 8 of mine.toml). Did you mean ttft_p99_s?",
        ),
        (HEAD + CHOICES + "[chioces]\na = 1\n", "unknown field chioces (line 9 of mine.toml). Did you mean choices?"),
        (HEAD + CHOICES + "[use]\nqqqq = 1\n", "Known: distributed, competes_with_teacher, kind."),
        ("requests_per_day = 1\n", "unknown field requests_per_day (line 1 of mine.toml)"),
    ],
)
def test_an_unknown_field_gets_the_near_one(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_the_message_has_what_was_got(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEAD.replace("= 10", '= "many"') + CHOICES)
    assert message.endswith("Got 'many' (line 3 of mine.toml)")


def test_a_missing_section_has_no_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, HEAD) == "choices is missing."


def test_every_problem_has_its_own_line(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, HEAD.replace("= 10", "= 0").replace("output_tokens = 5", "output_tokens = -5") + CHOICES
    )
    assert ["line 3" in message.splitlines()[0], "line 5" in message.splitlines()[1]] == [True, True]


def test_a_hundred_problems_are_not_all_told(tmp_path: Path) -> None:
    week = ", ".join(['"a"'] * 168)
    lines = refusal(tmp_path, HEAD + f"hour_of_week = [{week}]\n" + CHOICES).splitlines()
    assert len(lines) == 11
    assert lines[-1].endswith("more like these")


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_infinite_traffic_is_refused(tmp_path: Path, value: str) -> None:
    assert "(line 3 of mine.toml)" in refusal(tmp_path, HEAD.replace("= 10", f"= {value}") + CHOICES)


def test_the_same_values_make_the_same_scenario_from_a_dict(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(HEAD + CHOICES, encoding="utf-8")
    plain: dict[str, Any] = {
        "workload": {
            "name": "x",
            "requests_per_day": 10,
            "input_tokens": 5,
            "output_tokens": 5,
            "start": date(2026, 12, 1),
        },
        "choices": {"teacher": "openai/gpt-6-sol"},
    }
    assert load_scenario(file) == Scenario.from_dict(plain)
