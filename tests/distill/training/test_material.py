"""What students learn from: read, labelled, filtered, split, and whether terms allow it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from distillcalc.catalog import Catalog
from distillcalc.distill.records import Dataset, Origin, Record
from distillcalc.distill.task import Task
from distillcalc.distill.terms import TermsProhibited, TermsUnclear
from distillcalc.distill.training.local_teacher import LocalTeacher
from distillcalc.distill.training.material import Material, gather, teacher_name
from distillcalc.distill.training.recipe import Recipe, TeacherWeights
from distillcalc.errors import InputError
from tests.distill.training.making import TASK, TEACHER, dataset, jsonl, llama, records, rows, saved, taught

Told = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LocalTeacher:
    folder = saved(taught(llama(layers=2), records(64, seed=1)), tmp_path_factory.mktemp("m") / "teacher")
    return LocalTeacher.load(folder, name=TEACHER)


def recipe(tmp_path: Path, **changed: Any) -> Recipe:
    made: dict[str, Any] = {
        "name": "r", "technique": "hard-label", "task": TASK.model_dump(mode="json", exclude_none=True),
        "teacher": {"model": str(tmp_path / "teacher"), "name": TEACHER}, "student": {"layers": 1},
        "data": {"validation_share": 0.0},
    }  # fmt: skip
    made["data"] = {**made["data"], **changed.pop("data", {})}
    return Recipe.model_validate({k: v for k, v in {**made, **changed}.items() if v is not None})


def gathered(tmp_path: Path, asked: Recipe, who: LocalTeacher | None = None, **options: Any) -> Material:
    tmp_path.mkdir(exist_ok=True)
    return gather(asked, asked.asked, folder=tmp_path, teacher=who, catalog=Catalog.load(), **options)


def train_on(tmp_path: Path, found: Any, **changed: Any) -> Recipe:
    """A recipe over records; ``data`` and other tables laid over."""
    file = dataset(found, tmp_path / "train.jsonl")
    data = {"train": [str(file)], **changed.pop("data", {})}
    return recipe(tmp_path, data=data, **changed)


def by(teacher: str, found: list[Record]) -> list[Record]:
    return [r.model_copy(update={"origin": Origin(run="r", call="", teacher=teacher)}) for r in found]


def test_records_with_problems_are_left_out_and_counted(tmp_path: Path) -> None:
    found = records(6)
    found[2] = found[2].model_copy(update={"answer": "maybe", "value": None, "problems": ("not one of the labels",)})
    made = gathered(tmp_path, train_on(tmp_path, found))
    assert [r.id for r in made.train] == ["0-0", "0-1", "0-3", "0-4", "0-5"]
    assert made.left_out == {"the teacher's answer has a problem": 1}
    assert (made.items, made.validation, made.teachers, made.labels_usd) == (None, (), [TEACHER], None)


def test_only_so_many_records_and_items(tmp_path: Path) -> None:
    test = jsonl(rows(6, seed=5), tmp_path / "test.jsonl")
    data = {"limit": 4, "evaluation": str(test), "evaluation_limit": 3}
    made = gathered(tmp_path, train_on(tmp_path, records(10), data=data))
    assert len(made.train) == 4
    assert made.items is not None
    assert len(made.items) == 3


def test_records_that_give_evaluation_items_away_are_left_out(tmp_path: Path) -> None:
    held = rows(3, seed=5)
    test = jsonl(
        [*held, {"id": "x", "text": "one more red thing of four words", "human_label": ""}], tmp_path / "t.jsonl"
    )
    leak = records(3, seed=5)
    turned = leak[1].model_copy(update={"input": {"text": " ".join(reversed(held[1]["text"].split()))}})
    found = [*records(4), leak[0].model_copy(update={"input": {"text": held[0]["text"].upper() + "!"}}), turned]
    asked = train_on(tmp_path, found, data={"evaluation": str(test), "id": "id"})
    made = gathered(tmp_path, asked)
    assert len(made.train) == 4
    assert made.left_out == {
        "gives an evaluation item away: equal to an evaluation item": 1,
        "gives an evaluation item away: nearly equal to an evaluation item (ratio at least 0.95)": 1,
    }
    assert made.notes == ("1 rows of t.jsonl are not judged: 1 x nobody has labelled it",)
    kept = asked.model_copy(update={"data": asked.data.model_copy(update={"drop_evaluation_items": False})})
    assert len(gathered(tmp_path, kept).train) == 6


def test_an_evaluation_file_that_is_the_training_file_leaves_nothing(tmp_path: Path) -> None:
    test = jsonl(rows(8), tmp_path / "test.jsonl")
    with pytest.raises(InputError, match="0 records are left to learn from, of 8: 8 x gives an evaluation item away"):
        gathered(tmp_path, train_on(tmp_path, records(8), data={"evaluation": str(test)}))
    # The file of the records itself is none of rows.
    with pytest.raises(
        InputError, match=r"the prompt names the field 'text', and the first row of train\.jsonl has id"
    ):
        gathered(tmp_path, train_on(tmp_path, records(8), data={"evaluation": str(tmp_path / "train.jsonl")}))


def test_data_of_another_task_is_refused(tmp_path: Path) -> None:
    other = TASK.model_copy(update={"labels": ("spam", "ham")})
    with pytest.raises(
        InputError, match=r"8 of 8 answers are none of colours \(the first: 'yes' of record '0-0'\).*spam"
    ):
        gathered(tmp_path, train_on(tmp_path, records(8), task=other.model_dump(mode="json", exclude_none=True)))
    form = Task(name="form", output_schema={"type": "object"})
    texts = [r.model_copy(update={"value": None}) for r in records(4)]
    asked = train_on(tmp_path, texts, task=form.model_dump(mode="json", exclude_none=True))
    with pytest.raises(InputError, match="whose answers fit the schema"):
        gathered(tmp_path, asked)
    json_answers = [r.model_copy(update={"answer": '{"a": 1}', "value": {"a": 1}}) for r in records(4)]
    asked = train_on(tmp_path, json_answers, task=form.model_dump(mode="json", exclude_none=True))
    assert len(gathered(tmp_path, asked).train) == 4


def test_too_few_records_say_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 records are left to learn from, of 1: there are no more"):
        gathered(tmp_path, train_on(tmp_path, records(1)))
    with pytest.raises(InputError, match="no dataset"):
        gathered(tmp_path, recipe(tmp_path, data={"train": [str(tmp_path / "none.jsonl")]}))


def test_near_duplicates_are_on_one_side_of_the_validation_split(tmp_path: Path) -> None:
    pairs = []
    for record in records(40):
        twin = record.model_copy(update={"id": record.id + "-twin", "input": {"text": record.text + "."}})
        pairs += [record, twin]
    made = gathered(tmp_path, train_on(tmp_path, pairs, data={"validation_share": 0.25}))
    assert len(made.train) + len(made.validation) == 80
    assert len(made.validation) == pytest.approx(20, abs=2)
    sides = [{r.id.removesuffix("-twin") for r in part} for part in (made.train, made.validation)]
    assert not sides[0] & sides[1]
    assert {r.answer for r in made.validation} == {"yes", "no"}
    again = gathered(tmp_path, train_on(tmp_path, pairs, data={"validation_share": 0.25}))
    assert again == made


def test_where_nothing_can_be_set_aside_it_is_said(tmp_path: Path) -> None:
    few = train_on(tmp_path, records(9), data={"validation_share": 0.2})
    made = gathered(tmp_path, few)
    assert (len(made.train), made.validation) == (9, ())
    assert made.notes == ("9 records are too few to set some aside for validation",)
    alike = [r.model_copy(update={"input": {"text": "red all over" + "." * n}}) for n, r in enumerate(records(12))]
    made = gathered(tmp_path, train_on(tmp_path, alike, data={"validation_share": 0.2}))
    assert (len(made.train), made.validation) == (12, ())
    assert "near-duplicates stay together" in made.notes[0]
    asked = train_on(tmp_path, records(9), data={"validation_share": 0.2}, training={"patience": 1})
    with pytest.raises(InputError, match="of 9 records none can be set aside"):
        gathered(tmp_path, asked)


def test_datasets_that_were_paid_for(tmp_path: Path) -> None:
    one = dataset(records(4), tmp_path / "a.jsonl", name="a", spend={"actual_usd": 0.1})
    two = dataset(records(4, seed=2), tmp_path / "b.jsonl", name="b", spend={"actual_usd": 0.2})
    bare = dataset(records(4, seed=3), tmp_path / "c.jsonl")
    made = gathered(tmp_path, recipe(tmp_path, data={"train": [str(one), str(two)]}))
    assert made.labels_usd == 0.3  # decimals are added, not their nearest floats
    assert [card["name"] for card in made.cards] == ["a", "b"]
    assert made.notes == ()
    mixed = recipe(tmp_path, data={"train": [str(one), str(bare)]})
    made = gathered(tmp_path, mixed)
    assert made.labels_usd == 0.1
    assert made.notes == ("what the labels cost is known of 1 of 2 datasets: the rest counts as free",)
    given = recipe(tmp_path, data={"train": [str(one)]}, costs={"labels_usd": 7.0})
    assert gathered(tmp_path, given).labels_usd == 7.0


def test_records_of_several_files_keep_names_apart(tmp_path: Path) -> None:
    numbered = [[r.model_copy(update={"id": str(n)}) for n, r in enumerate(records(3, seed=s))] for s in (0, 1)]
    twice = [*numbered[0], numbered[0][0], numbered[0][0]]
    files = [str(dataset(found, tmp_path / f"{n}.jsonl")) for n, found in enumerate([twice, numbered[1]])]
    made = gathered(tmp_path, recipe(tmp_path, data={"train": files}))
    assert [r.id for r in made.train] == ["0", "1", "2", "0#2", "0#3", "1/0", "1/1", "1/2"]
    assert [r.text for r in made.train[:3]] == [r.text for r in numbered[0]]


def test_terms_that_prohibit_stop_it(tmp_path: Path) -> None:
    asked = train_on(tmp_path, by("openai/gpt-6-sol", records(4)), teacher=None, student={"model": "m"},
                     use={"competes_with_teacher": True})  # fmt: skip
    with pytest.raises(TermsProhibited, match="prohibit"):
        gathered(tmp_path, asked)
    forced = asked.model_copy(update={"accept_unclear_terms": True})
    with pytest.raises(TermsProhibited):
        gathered(tmp_path, forced)


def test_terms_that_are_unclear_ask_a_person(tmp_path: Path) -> None:
    asked = train_on(tmp_path, by("nobody/knows", records(4)), teacher=None, student={"model": "m"})
    with pytest.raises(TermsUnclear, match="set accept_unclear_terms = true in the recipe"):
        gathered(tmp_path, asked)
    made = gathered(tmp_path, asked.model_copy(update={"accept_unclear_terms": True}))
    assert made.verdict[0] == "unknown"
    assert "nobody/knows" in made.verdict[1]


def test_the_packaged_models_terms_allow_it(tmp_path: Path) -> None:
    made = gathered(tmp_path, train_on(tmp_path, records(4)))
    assert made.verdict[0] == "pass"
    assert [row["id"] for row in made.terms] == ["smollm2-apache-weights"]
    # Answers under the names of its folders are the teacher's too.
    weights = {"model": "models/big", "adapter": "made/adapter", "name": TEACHER}
    for name in ("big", "big+adapter"):
        made = gathered(tmp_path, train_on(tmp_path, by(name, records(4)), teacher=weights))
        assert made.verdict[0] == "pass"


def test_the_strictest_of_several_teachers_counts(tmp_path: Path) -> None:
    mixed = [*records(4), *by("nobody/knows", records(4, seed=2))]
    with pytest.raises(TermsUnclear, match="nobody/knows"):
        gathered(tmp_path, train_on(tmp_path, mixed))
    # Weights whose distributions are learnt from count as well, whoever wrote the answers.
    with pytest.raises(TermsUnclear, match="mystery"):
        gathered(tmp_path, train_on(tmp_path, records(4), teacher={"model": "models/mystery"}))


def test_a_teachers_name() -> None:
    assert teacher_name(TeacherWeights(model="a/b")) == "b"
    assert teacher_name(TeacherWeights(model="a/b", adapter="c/d")) == "b+d"
    assert teacher_name(TeacherWeights(model="a/b", adapter="c/d", name="x")) == "x"


def inputs_file(tmp_path: Path, count: int = 6, seed: int = 3, name: str = "in.csv") -> Path:
    file = tmp_path / name
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "text"])
        writer.writerows([row["id"], row["text"]] for row in rows(count, seed))
        writer.writerow(["empty", ""])
    return file


def test_inputs_are_labelled_here_once(tmp_path: Path, teacher: LocalTeacher) -> None:
    file = inputs_file(tmp_path)
    asked = recipe(tmp_path, data={"inputs": [str(file)], "id": "id"})
    told: Told = []
    made = gathered(tmp_path / "run", asked, teacher, report=lambda *what: told.append(what))
    assert told[-1] == ("the teacher labels", 6, 6)
    assert [r.answer for r in made.train] == [row["human_label"] for row in rows(6, 3)]
    assert made.teachers == [TEACHER]
    assert made.notes == ("1 rows of in.csv were not labelled: 1 x text is empty",)
    assert (made.train[0].id, made.train[0].human_label) == ("3-0", None)
    kept = tmp_path / "run" / "labels-0.jsonl"
    before = kept.stat().st_mtime_ns
    told.clear()
    assert gathered(tmp_path / "run", asked, teacher, report=lambda *what: told.append(what)) == made
    assert (kept.stat().st_mtime_ns, told) == (before, [])


def test_labels_of_other_rows_or_for_another_task_are_not_taken_up(tmp_path: Path, teacher: LocalTeacher) -> None:
    asked = recipe(tmp_path, data={"inputs": [str(inputs_file(tmp_path))], "id": "id"})
    gathered(tmp_path / "run", asked, teacher)
    inputs_file(tmp_path, seed=4)  # the same name, other rows
    assert [r.id for r in gathered(tmp_path / "run", asked, teacher).train] == [f"4-{n}" for n in range(6)]
    other = recipe(
        tmp_path, data={"inputs": [str(tmp_path / "in.csv")], "id": "id"},
        task=TASK.model_copy(update={"system": "Is it red at all?"}).model_dump(mode="json", exclude_none=True),
    )  # fmt: skip
    made = gathered(tmp_path / "run", other, teacher)
    assert made.train[0].messages[0]["content"] == "Is it red at all?"
    # Records without their card are half of what was to be written.
    (tmp_path / "run" / "labels-0.card.json").unlink()
    told: Told = []
    gathered(tmp_path / "run", other, teacher, report=lambda *what: told.append(what))
    assert told
    # What was copied from another run says nothing of what it was made of, and is taken as it is.
    file = tmp_path / "run" / "labels-0.jsonl"
    Dataset(tuple(records(3, seed=8)), {}).save(file)
    assert [r.id for r in gathered(tmp_path / "run", other, teacher).train] == ["8-0", "8-1", "8-2"]


def test_no_more_rows_are_labelled_than_are_learnt_from(tmp_path: Path, teacher: LocalTeacher) -> None:
    train = dataset(records(3), tmp_path / "train.jsonl")
    files = [str(inputs_file(tmp_path, name="a.csv")), str(inputs_file(tmp_path, seed=4, name="b.csv"))]
    data = {"train": [str(train)], "inputs": files, "limit": 5, "id": "id"}
    told: Told = []
    made = gathered(tmp_path / "run", recipe(tmp_path, data=data), teacher, report=lambda *what: told.append(what))
    assert [r.id for r in made.train] == ["0-0", "0-1", "0-2", "1/3-0", "1/3-1"]
    assert told[-1] == ("the teacher labels", 2, 2)


def test_inputs_without_a_teacher(tmp_path: Path) -> None:
    asked = recipe(tmp_path, data={"inputs": [str(inputs_file(tmp_path))]})
    with pytest.raises(InputError, match=r"give \[teacher\] model"):
        gathered(tmp_path, asked, None)
