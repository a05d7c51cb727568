"""Held-out items, and what models say of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distillcalc.distill.exports import THINK
from distillcalc.distill.records import Origin
from distillcalc.distill.task import Task
from distillcalc.distill.training.evaluation import (
    TIMED,
    Items,
    answers_in,
    answers_of,
    load_answers,
    read_items,
    save_answers,
    usd_per_1000_in,
)
from distillcalc.distill.training.local_teacher import LocalTeacher, Spoken
from distillcalc.distill.training.scores import Answers
from distillcalc.errors import InputError
from tests.distill.training.making import TASK, dataset, jsonl, llama, records, rows, taught, tokenizer

NUMBERS = Task(name="sums", prompt="{text}")
SHOWN = Task(name="sums", prompt="{text}", reasoning="visible")
JSON = Task(
    name="form", prompt="{text}",
    output_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
)  # fmt: skip


@dataclass
class Scripted:
    """A model that says what it is told to; keeps what it was asked."""

    says: list[str]
    finish: str = "stop"
    context: int | None = None
    asked: list[int] = field(default_factory=list)
    tokenizer: Any = field(default_factory=tokenizer)

    @property
    def model(self) -> Any:
        text = SimpleNamespace(max_position_embeddings=self.context)
        return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))

    def answers(self, prompts: Any, *, max_new_tokens: int, progress: Any = None) -> list[Spoken]:
        self.asked.append(max_new_tokens)
        return [Spoken(said, self.finish, 9, 2, -0.5, 0.1) for said in self.says[: len(prompts)]]  # type: ignore[arg-type]


def items_of(task: Task, *labels: str) -> Items:
    return read_items([{"text": f"{n}?", "human_label": label} for n, label in enumerate(labels)], task)


def judged(task: Task, labels: list[str], says: list[str], **options: Any) -> Answers:
    items = items_of(task, *labels)
    model: Any = Scripted(says)
    return answers_of(model, items, items.prompts(), task, max_new_tokens=8, **options)


def test_items_are_what_people_labelled(tmp_path: Path) -> None:
    file = jsonl([*rows(4), {"text": " ", "human_label": "yes", "id": "e"},
                  {"text": "unlabelled", "human_label": "", "id": "f"}], tmp_path / "t.jsonl")  # fmt: skip
    items = read_items(file, TASK, id="id")
    assert len(items) == 4
    assert items.labels == ["yes", "no", "yes", "no"]
    assert items.rejected == ("text is empty", "nobody has labelled it")
    assert items.records[0].id == "0-0"
    assert items.prompts()[0] == [dict(message) for message in TASK.messages(rows(1)[0])]
    assert items.prompts("", "Red? {text}")[0] == [{"role": "user", "content": f"Red? {rows(1)[0]['text']}"}]
    assert len(read_items(file, TASK, limit=3)) == 3


def test_items_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(InputError, match=r"empty\.csv is empty: its first line names the columns"):
        read_items(empty, TASK)
    empty.write_text("text,human_label\n")
    with pytest.raises(InputError, match="no evaluation item can be used: there are no rows"):
        read_items(empty, TASK)
    with pytest.raises(InputError, match=r"2 rows were rejected; the first: nobody has labelled it"):
        read_items([{"text": "a", "human_label": ""}, {"text": "b", "human_label": None}], TASK)
    with pytest.raises(InputError, match=r"'human_label', and the first row .* has text, label\."):
        read_items([{"text": "a", "label": "yes"}], TASK)
    with pytest.raises(InputError, match="of another task: 'maybe' is no label of colours"):
        read_items([{"text": "a", "human_label": "maybe"}, {"text": "b", "human_label": "yes"}], TASK)
    with pytest.raises(InputError, match="which holds what a person says is right"):
        read_items([{"text": "a"}], TASK, human_label="text")
    with pytest.raises(InputError, match="no input file"):
        read_items(tmp_path / "none.csv", TASK)


def test_labels_are_right_where_people_say_so() -> None:
    found = judged(TASK, ["yes", "yes", "no", "no"], ["yes", "no", "NO.", "perhaps"], seed=3)
    assert found.said == ("yes", "no", "no", "perhaps")
    assert found.right.tolist() == [1, 0, 1, 0]
    assert found.seed == 3
    # Two tokens of a mean log-probability of -0.5: exp(-1).
    assert found.confidence is not None
    assert found.confidence == pytest.approx(np.exp(-1))


def test_numbers_are_compared_by_value() -> None:
    found = judged(NUMBERS, ["1200", "18", "0.5", "7"], ["1,200.0", "She has 18 left.", "Answer: .5", "seven"])
    assert found.right.tolist() == [1, 1, 1, 0]
    # What is said is comparable too, so that agreement does not depend on how a number is written.
    assert judged(NUMBERS, ["1", "1"], ["1,200.0", "Answer: .5"]).said == ("1200", "0.5")
    assert judged(NUMBERS, ["1", "1"], ["1200", "0.50"]).said == ("1200", "0.5")


def test_json_is_compared_by_content() -> None:
    found = judged(JSON, ['{"n": 1}', '{"n": 2}', '{"n": 3}'], ['{ "n":1 }', '{"n": 3}', "no JSON"])
    assert found.right.tolist() == [1, 0, 0]
    assert found.said[0] == judged(JSON, ['{"n": 1}'], ['```json\n{"n": 1}\n```']).said[0]


def test_what_is_not_english_is_compared_too() -> None:
    city = Task(name="city", prompt="{text}")
    found = judged(city, ["Köln", "東京", "München"], ["köln", "東京。", "Munchen"])
    assert found.right.tolist() == [1, 0, 0]


def test_an_answer_that_is_cut_off_is_wrong() -> None:
    items = items_of(TASK, "yes")
    model: Any = Scripted(["yes"], finish="length")
    assert answers_of(model, items, items.prompts(), TASK, max_new_tokens=8).right.tolist() == [0]


@pytest.mark.parametrize(
    ("said", "taught_right", "marked_right"),
    [
        ("42", 1, 0),  # a student of answers alone
        (THINK.format(reasoning="40 + 2", answer="42"), 1, 0),  # of chains as targets
        ("40 + 2 is 42.\nAnswer: 42", 1, 1),  # a teacher does as it is told
        ("**answer:** 42", 1, 1),
        ("40 + 2", 0, 0),
    ],
)
def test_a_student_is_not_asked_for_a_marker_that_it_was_not_taught(
    said: str, taught_right: int, marked_right: int
) -> None:
    assert judged(SHOWN, ["42"], [said]).right.tolist() == [taught_right]
    assert judged(SHOWN, ["42"], [said], marked=True).right.tolist() == [marked_right]


def test_the_context_is_not_overrun() -> None:
    items = items_of(TASK, "yes", "no")
    model: Any = Scripted(["yes", "no"], context=30)
    prompts = items.prompts()
    longest = len(tokenizer().apply_chat_template(prompts[0], add_generation_prompt=True, return_dict=False))
    answers_of(model, items, prompts, TASK, max_new_tokens=99)
    assert set(model.asked) == {30 - longest}
    model = Scripted(["yes", "no"], context=1_000)
    answers_of(model, items, prompts, TASK, max_new_tokens=99)
    assert set(model.asked) == {99}


def test_a_real_model_is_asked_and_timed() -> None:
    items = read_items(rows(TIMED + 4, seed=9), TASK, id="id")
    student = LocalTeacher(taught(llama(layers=2), records(64, seed=1)), tokenizer(), "tiny")
    told: list[tuple[int, int]] = []
    found = answers_of(
        student, items, items.prompts(), TASK, max_new_tokens=8, progress=lambda *done: told.append(done)
    )
    assert found.right.mean() > 0.8
    assert told[-1] == (TIMED + 4, TIMED + 4)
    assert found.confidence is not None
    assert found.confidence.min() > 0
    assert found.seconds_per_item is not None
    assert found.seconds_per_item.shape == (1,)
    assert found.seconds_per_item[0] > 0


def test_answers_that_were_given_elsewhere(tmp_path: Path) -> None:
    items = read_items(rows(4), TASK, id="id")
    said = [r.model_copy(update={"origin": Origin(run="r", call="", teacher="t", latency_s=0.1 * n, usd="0.004",
                                                  choices=2)}) for n, r in enumerate(records(4))]  # fmt: skip
    said[1] = said[1].model_copy(update={"answer": "yes", "value": "yes"})
    said[2] = said[2].model_copy(update={"id": "another name"})  # found by its text
    said[3] = said[3].model_copy(update={"problems": ("cut",), "value": None})
    file = dataset(reversed(said), tmp_path / "said.jsonl")
    found = answers_in(file, items, TASK)
    assert found.said == ("yes", "yes", "yes", "no")
    assert found.right.tolist() == [1, 0, 1, 0]
    assert found.seconds_per_item is not None
    assert found.seconds_per_item.tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    assert usd_per_1000_in(file, items) == pytest.approx(2.0)  # 0.4 cents for two answers, a thousand of them
    # An id that names another text is another row: files number from 1, all of them.
    shifted = [r.model_copy(update={"id": records(4)[(n + 1) % 4].id}) for n, r in enumerate(records(4))]
    assert answers_in(dataset(shifted, tmp_path / "s.jsonl"), items, TASK).right.tolist() == [1, 1, 1, 1]
    assert usd_per_1000_in(tmp_path / "s.jsonl", items) is None
    assert answers_in(tmp_path / "s.jsonl", items, TASK).seconds_per_item is None
    with pytest.raises(InputError, match=r"few\.jsonl has no answer of the teacher to the evaluation item '0-3'"):
        answers_in(dataset(said[:3], tmp_path / "few.jsonl"), items, TASK)


def test_answers_are_kept_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    assert load_answers(file) is None
    for kept in (
        Answers(("ja", "nein ß"), np.array([1.0, 0.0]), np.array([0.25, 1.0]), np.array([0.5]), 7),
        Answers(("a",), np.array([0.5])),
    ):
        save_answers(kept, file)
        read = load_answers(file)
        assert read is not None
        assert (read.said, read.seed) == (kept.said, kept.seed)
        for name in ("right", "confidence", "seconds_per_item"):
            assert np.array_equal(getattr(read, name), getattr(kept, name)) or getattr(kept, name) is None
            assert (getattr(read, name) is None) == (getattr(kept, name) is None)
    file.write_text(json.dumps({"schema_version": 2}))
    with pytest.raises(InputError, match="another version"):
        load_answers(file)
