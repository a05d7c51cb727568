"""The plan: tokens and dollars worked by hand, and what makes a plan another one."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from distillcalc import Scenario, recommend
from distillcalc.catalog import Catalog
from distillcalc.distill.planning import LabelPlan, plan, plan_labels, save_plan
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Example, Task
from distillcalc.distill.teacher import Privacy, Teacher
from distillcalc.errors import InputError, MissingPrice
from distillcalc.workload.scenario import Use

DAY = date(2026, 11, 24)
BYTES = tiktoken.Encoding(
    "bytes", pat_str=r"\S+|\s+", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
)  # a token is a byte: counted by hand
PRICE = {"input_usd_per_mtok": 2, "cached_input_usd_per_mtok": 0.2, "output_usd_per_mtok": 10}
CATALOG = Catalog.load().with_overrides(
    {
        "token_prices": {
            "local/m": PRICE,
            "openai/gpt-6-sol": {**PRICE, "batch_input_usd_per_mtok": 1, "batch_output_usd_per_mtok": 5},
        }
    }
)
TASK = Task(name="My task", system="sys!!", labels=("ab", "cdef"), instruction=False)
TEACHER = Teacher(model="local/m", base_url="http://localhost:8000/v1", samples=2)
ROWS: list[dict[str, Any]] = [{"text": "abc", "gold": "ab"}, {"text": "héé", "gold": None}, {"text": ""}]


def made(
    task: Task = TASK, teacher: Teacher = TEACHER, rows: Any = ROWS, privacy: Privacy | None = None, **options: Any
) -> LabelPlan:
    given = rows if isinstance(rows, Rows) else Rows(rows, human_label=options.pop("human_label", None))
    options = {"catalog": CATALOG, "tokenizer": BYTES, "today": DAY, **options}
    return plan_labels(task, teacher, given, privacy=privacy, **options)


def with_(model: Any, **changed: Any) -> Any:
    return type(model).model_validate({**model.model_dump(exclude_unset=True), **changed})


# --- by hand


def test_tokens_and_dollars_by_hand() -> None:
    found = made(human_label="gold")
    f = found.forecast
    assert (found.rows_used, found.rows_rejected, found.human_labels, f.calls, f.samples) == (2, 1, 1, 4, 4)
    # system 5 + 4 marks; rows 3 and 5 bytes, 4 marks each: (3 + 5 + 2 x (9 + 4)) x 2 samples
    assert (f.input_tokens, f.shared_tokens) == (68, 36)
    assert f.output_tokens == 16  # four answers of (2 + 4) / 2 and one that ends it
    assert f.standard_usd == Decimal("0.000296")  # 4 x (17 x 2 + 4 x 10) / 1e6
    # bytes + 16 a message + 64: 5+16+3+16+64 = 104, and of héé, decomposed, 7: 108. Twice (104 x 2 + 512 x 10)
    assert f.most_usd == Decimal("0.021328")
    assert (f.cached_usd, f.batch_usd, f.minutes, f.batch_minutes) == (None, None, None, None)
    assert f.sources["tokens"] == "bytes"
    assert f.sources["output_tokens"] == "a label"


def test_all_samples_in_one_call_have_their_input_billed_once() -> None:
    f = made(teacher=with_(TEACHER, one_call=True)).forecast
    assert (f.calls, f.samples, f.input_tokens, f.output_tokens) == (2, 4, 34, 16)
    assert f.standard_usd == Decimal("0.000228")  # 2 x (17 x 2 + 8 x 10) / 1e6
    assert f.most_usd == Decimal("0.020904")  # (104 x 2 + 1024 x 10 + 108 x 2 + 1024 x 10) / 1e6


def priced(system: str, concurrency: int = 1) -> LabelPlan:
    task = Task(system=system, labels=("a", "b"), instruction=False)
    return made(task, Teacher(model="openai/gpt-6-sol"), [{"text": c} for c in "xyz"], concurrency=concurrency)


def test_cache_and_batch_by_hand() -> None:
    f = priced("s" * 1_020).forecast  # with its marks 1,024: just long enough to be cached
    assert f.shared_tokens == 3 * 1_024
    assert f.standard_usd == Decimal("0.006234")  # 3 x (1029 x 2 + 2 x 10) / 1e6
    assert f.cached_usd == Decimal("0.0025476")  # 2078, then 2 x (5 x 2 + 1024 x 0.2 + 2 x 10), / 1e6
    assert f.batch_usd == Decimal("0.003117")  # 3 x (1029 x 1 + 2 x 5) / 1e6
    assert f.batch_minutes == 24 * 60
    short = priced("s" * 1_019).forecast
    assert short.cached_usd == short.standard_usd
    assert priced("s" * 1_020, concurrency=3).forecast.cached_usd == f.standard_usd  # all at once: none finds it there


def test_time_is_of_the_catalogs_medians() -> None:
    api = CATALOG.api("openai/gpt-6-sol")
    assert api is not None
    assert api.ttft_p50_s is not None
    assert api.output_tokens_per_s is not None
    call_s = api.ttft_p50_s + 2 / api.output_tokens_per_s
    assert priced("s").forecast.minutes == pytest.approx(3 * call_s / 60)
    assert priced("s", concurrency=100).forecast.minutes == pytest.approx(call_s / 60)  # three calls, three at once


@pytest.mark.parametrize(
    ("task", "tokens", "source"),
    [
        (Task(), 256, "assumed: half of the limit"),
        (Task(labels=("a", "b"), reasoning="visible"), 256, "assumed: half of the limit"),
        (Task(examples=(Example(input={"text": "a"}, answer="abcd"),)), 5, "as the examples"),
        (Task(examples=(Example(input={"text": "a"}, answer={"a": 1}),)), 9, "as the examples"),
        (Task(reasoning="visible", examples=(Example(input={"text": "a"}, answer="ab", reasoning="abc"),)), 6,
         "as the examples"),
        (Task(examples=(Example(input={"text": "a"}, answer="a" * 999),)), 512, "as the examples"),
    ],
)  # fmt: skip
def test_tokens_of_an_answer(task: Task, tokens: int, source: str) -> None:
    f = made(task, with_(TEACHER, samples=1)).forecast
    assert (f.output_tokens, f.sources["output_tokens"]) == (2 * tokens, source)


# --- what cannot be planned


def test_rows_that_cannot_be_used_are_told_and_saved(tmp_path: Path) -> None:
    found = made(rows=[{"text": "a"}, "b", {"text": None}, {"text": "\ud800"}])
    assert found.rows_rejected == 3
    assert "3 rows cannot be used, the first is row 2: not a mapping" in str(found)
    file = save_plan(found, tmp_path / "run")
    saved = json.loads(file.read_text())
    assert saved["rows"] == {"from": "rows given in memory", "used": 1, "rejected": 3}
    assert saved["forecast"]["standard_usd"] == str(found.forecast.standard_usd)
    rejects = [json.loads(line) for line in (file.parent / "rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == [2, 3, 4]


def test_no_row_can_be_used() -> None:
    with pytest.raises(InputError, match=r"no row of rows given in memory can be used: text is empty \(row 1\)"):
        made(rows=[{"text": " "}])
    with pytest.raises(InputError, match=r"no row of rows given in memory can be used$"):
        made(rows=[])


@pytest.mark.parametrize("concurrency", [0, -1])
def test_nobody_calls(concurrency: int) -> None:
    with pytest.raises(InputError, match=f"concurrency is .* 1 or more. Got {concurrency}"):
        made(concurrency=concurrency)


def test_what_has_no_price_is_not_free() -> None:
    for model in ("local/other", "other"):
        with pytest.raises(MissingPrice, match=rf'\[overrides.token_prices."{model}"\]'):
            made(teacher=Teacher(model=model, base_url="http://localhost:8000/v1"))


def test_what_costs_nothing_is() -> None:
    free = Catalog.load().with_overrides(
        {"token_prices": {"local/m": {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}}}
    )
    found = made(catalog=free)
    assert found.forecast.most_usd == found.forecast.standard_usd == 0
    assert "$0.00" in str(found)


def test_a_private_task_is_not_even_planned_for_a_host_that_is_not_allowed() -> None:
    with pytest.raises(InputError, match="Nothing was sent"):
        made(teacher=Teacher(model="openai/gpt-6-sol"), privacy=Privacy(private=True))


def test_a_plan_says_no_key_and_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    found = made(teacher=with_(TEACHER, key_env="MY_KEY"), rows=[{"text": "a very private text"}])
    for text in (str(found), json.dumps(found.to_dict())):
        assert "sk-secret" not in text
        assert "very private" not in text


# --- the fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"}, {"student": "qwen3-4b"}, {"student_host": "openai"}, {"use": {"kind": "classifier"}},
    ],
)  # fmt: skip
def test_what_no_request_depends_on_leaves_the_plan_as_it_is(changed: dict[str, Any]) -> None:
    assert made(with_(TASK, **changed)).fingerprint == made().fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "{text}!"}, {"system": "sys"}, {"labels": ["cdef", "ab"]}, {"labels": None}, {"instruction": True},
        {"reasoning": "visible"}, {"answer_marker": "So:"}, {"examples": [{"input": {"text": "x"}, "answer": "ab"}]},
        {"labels": None, "output_schema": {"type": "string"}},
    ],
)  # fmt: skip
def test_another_question_is_another_plan(changed: dict[str, Any]) -> None:
    assert made(with_(TASK, **changed)).fingerprint != made().fingerprint


@pytest.mark.parametrize("changed", [{"key_env": "OTHER"}, {"timeout_s": 7}, {"base_url": "http://localhost:9/v1"}])
def test_how_the_teacher_is_reached_leaves_the_plan_as_it_is(changed: dict[str, Any]) -> None:
    assert made(teacher=with_(TEACHER, **changed)).fingerprint == made().fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"samples": 3}, {"one_call": True}, {"temperature": 0}, {"top_p": 0.5}, {"seed": 1}, {"send_as": "n"},
        {"reasoning_effort": "low"}, {"max_output_tokens": 511}, {"top_logprobs": 1}, {"extra_body": {"user": "me"}},
        {"structured": "none"}, {"strict": True}, {"max_tokens_field": "max_completion_tokens"},
        {"base_url": "https://example.com/v1"}, {"base_url": "http://localhost:8000/v2"},
    ],
)  # fmt: skip
def test_another_way_of_asking_is_another_plan(changed: dict[str, Any]) -> None:
    assert made(teacher=with_(TEACHER, **changed)).fingerprint != made().fingerprint


def test_rows_belong_to_the_plan_as_they_are_sent() -> None:
    plain = made().fingerprint
    assert made(rows=[*ROWS, {"text": ""}]).fingerprint == plain  # cannot be used
    assert made(rows=[{**row, "unused": 1} for row in ROWS]).fingerprint == plain
    assert made(human_label="gold").fingerprint == plain
    assert made(rows=ROWS[::-1]).fingerprint != plain
    assert made(rows=ROWS[:1]).fingerprint != plain
    assert made(rows=[{"text": "abd"}, ROWS[1]]).fingerprint != plain
    assert made(rows=Rows([{"text": "abc", "k": "a"}, {"text": "héé", "k": "b"}], id="k")).fingerprint != plain


def test_what_is_masked_belongs_to_the_plan_and_what_it_costs_does_not() -> None:
    plain = made().fingerprint
    assert made(privacy=Privacy(redact=("email",))).fingerprint != plain
    masked = made(privacy=Privacy(redact=("email", "card"))).fingerprint
    assert made(privacy=Privacy(redact=("card", "email"))).fingerprint == masked
    assert made(privacy=Privacy(private=True, allow_hosts=("a",))).fingerprint == plain
    assert made(concurrency=1, today=date(2026, 12, 1), tokenizer=None).fingerprint == plain


def test_a_file_that_was_changed_is_planned_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n')
    found = made(rows=Rows(file))
    assert [row.values for _, row in found.used_rows()] == [{"text": "a"}]
    file.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(InputError, match=r"rows.jsonl was changed since the plan was made"):
        list(found.used_rows())
    assert len(list(made(rows=Rows(file)).used_rows())) == 2
    file.unlink()
    with pytest.raises(InputError, match="was changed"):
        list(found.used_rows())


def test_the_run_is_named_by_task_and_plan() -> None:
    found = made()
    assert found.run_name == f"my-task-{found.fingerprint[:8]}"


def test_masked_texts_are_counted_as_they_are_sent() -> None:
    rows = [{"text": "mail jane.doe@example.com"}]
    plain, masked = (made(rows=rows, privacy=Privacy(redact=kinds)) for kinds in ((), ("email",)))  # type: ignore[arg-type]
    saved = len("jane.doe@example.com") - len("[EMAIL_1]")
    assert plain.forecast.input_tokens - masked.forecast.input_tokens == saved * 2


def test_each_sample_has_a_seed_of_its_own() -> None:
    found = made(teacher=with_(TEACHER, seed=7, samples=4))
    (_, row), *_ = found.used_rows()
    prompts = found.prompts
    assert [prompts.unit(0, row, (k,)).body(1)["seed"] for k in range(4)] == [7, 8, 9, 10]
    together = prompts.unit(0, row, (0, 1, 2, 3))
    assert together.body(4)["seed"] == 7
    assert together.body(3)["seed"] == 8  # one was given: the rest is asked for again, with another seed
    assert "seed" not in made().prompts.unit(0, row, (0,)).body(1)


# --- of a decision


def test_a_decision_says_who_for_whom_and_how_many() -> None:
    scenario = Scenario.load("email-classification")
    making = scenario.choices.distillation
    rows = [{"text": f"mail {i}"} for i in range(30)]
    found = plan(recommend(scenario), Task(labels=("a", "b")), Rows(rows))
    assert found.teacher.model == scenario.choices.teacher
    assert found.task.student in scenario.choices.students
    assert found.task.use == scenario.use
    assert found.terms.verdict == "pass"
    assert found.rows_used == 30
    assert found.rows.limit == -(-making.labels // (making.samples_per_prompt * making.filter_yield))
    own = plan(recommend(scenario), Task(labels=("a", "b"), student="mine", use=Use()), Rows(rows, limit=3))
    assert (own.task.student, own.task.use, own.rows_used) == ("mine", Use(), 3)


def test_a_decision_is_about_its_own_teacher() -> None:
    decision = recommend(Scenario.load("email-classification"))
    with pytest.raises(InputError, match="decide again with it"):
        plan(decision, Task(), Rows([{"text": "a"}]), teacher=Teacher(model="openai/gpt-5"))
