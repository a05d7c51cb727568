"""Whole runs: every technique from recipe to table, once and no more, killed and taken up, and odd input."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trl.trainer.sft_trainer  # noqa: F401
from transformers import AutoModelForCausalLM

from distillcalc.catalog import Catalog
from distillcalc.distill.records import Origin, Record
from distillcalc.distill.task import Task
from distillcalc.distill.training.examples import make_examples
from distillcalc.distill.training.local_teacher import quiet
from distillcalc.distill.training.material import Material
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.recipe import Recipe
from distillcalc.distill.training.run import TrainRun, Work, train
from distillcalc.distill.training.students import Student
from distillcalc.errors import InputError
from tests.distill.training import tiny
from tests.distill.training.making import (
    TASK,
    dataset,
    jsonl,
    llama,
    recipe_file,
    records,
    rows,
    saved,
    taught,
    tokenizer,
    with_logprobs,
)
from tests.distill.training.tiny import one_thread  # noqa: F401

gc.freeze()  # what is imported stays: a training collects garbage, which would else take longer than the training

LABEL_ONLY = "student trained on labels alone"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that does the task, records of it with chains and log-probabilities, and held-out rows."""
    folder = tmp_path_factory.mktemp("run")
    with quiet():
        saved(taught(llama(layers=4), records(64, seed=1)), folder / "teacher")
    dataset([with_logprobs(r) for r in records(16, seed=2, reasoning=True)], folder / "train.jsonl")
    jsonl(rows(6, seed=3), folder / "test.jsonl")
    return folder


def run(folder: Path, *, report: Callable[[Progress], None] | None = None, **changed: Any) -> TrainRun:
    return train(recipe_file(folder, **changed), runs=folder / "runs", report=report)


def titles(made: TrainRun) -> list[str]:
    assert made.table is not None
    return [entry.name for entry in made.table.entries]


API = {"teacher": None, "student": {"model": "teacher", "layers": 2}}
# name of the run: what is changed of the recipe, and the students that are then trained
RUNS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "hard": ({"technique": "hard-label"}, ["student trained on the teacher's text"]),
    "soft": ({"technique": "soft-label"}, [LABEL_ONLY, "student: soft labels"]),
    "soft-cached": (
        {"technique": "soft-label", "teacher": {"top_k": 8}, "against": [{"technique": "hard-label"}]},
        [LABEL_ONLY, "student: hard labels", "student: soft labels"],
    ),
    "soft-api": ({**API, "technique": "soft-label"}, [LABEL_ONLY, "student: soft labels"]),
    "two-task": ({"technique": "chain-of-thought"}, [LABEL_ONLY, "student: two-task chain of thought"]),
    "target": (
        {"technique": "chain-of-thought", "objective": {"two_task": False}},
        [LABEL_ONLY, "student: chain of thought before the answer"],
    ),
    "features": (
        {"technique": "feature-based", "training": {"seeds": [0, 1]}},
        [LABEL_ONLY, "student: soft labels and hidden states"],
    ),
    "on-policy": (
        {"technique": "on-policy", "objective": {"max_new_tokens": 4, "on_policy": 1.0}},
        [LABEL_ONLY, "student: on its own texts"],
    ),
    "chain": (
        {"technique": "chain", "student": None, "hops": [{"layers": 3}, {"layers": 2}]},
        [LABEL_ONLY, "student taught by the teacher itself, one hop", "assistant 1", "student after 2 hops"],
    ),
    "born-again": (
        {"technique": "self-distillation"},
        ["generation 0, on the teacher's labels", "generation 1, taught by generation 0"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_every_technique_runs_from_recipe_to_table(place: Path, name: str) -> None:
    changed, students = RUNS[name]
    seeds = changed.get("training", {}).get("seeds", [0])
    told: list[Progress] = []
    changed = {**changed, "costs": {"usd_per_hour": 3.6, "labels_usd": 0.5}}
    made = run(place, name=name, report=told.append, **changed)
    folder = place / "runs" / name
    assert titles(made) == ([] if "teacher" in changed and changed["teacher"] is None else ["teacher"]) + [
        "raw student", *students,
    ]  # fmt: skip
    assert len(made.trainings) == len(students) * len(seeds)
    assert all(f.steps == 2 for f in made.trainings.values())
    # The student that it is about is a model of its own, with its card.
    kept = AutoModelForCausalLM.from_pretrained(folder / "student")
    assert kept.config.num_hidden_layers == 2
    assert (folder / "student" / "README.md").is_file()
    assert not (folder / "student.part").exists()
    # What is told in files is what is told here.
    assert json.loads((folder / "four_way.json").read_text()) == made.table.to_dict()  # type: ignore[union-attr]
    written = json.loads((folder / "run.json").read_text(), parse_constant=pytest.fail)
    written.pop("at")
    assert written == json.loads(json.dumps(made.to_dict()))
    assert written["material"]["train"] == 16
    assert written["material"]["labels_usd"] == 0.5
    if name == "soft-cached":  # 8 of its tokens at T = 2 leave much out, and that is told
        assert any("is on tokens beyond the 8 that are stored" in note for note in made.notes)
    # A dollar in a thousand seconds: what a student took is its share, and its teachers' that were trained for it.
    assert made.table is not None
    for entry in made.table.entries[-len(students) :]:
        assert entry.facts.labels_usd == 0.5
        assert entry.facts.training_on == "CPU"
        assert entry.facts.training_usd == pytest.approx(entry.facts.training_hours * 3.6)  # type: ignore[operator]
        assert entry.facts.usd_per_1000_items == pytest.approx(entry.facts.latency_ms_per_item / 1000)  # type: ignore[operator]
    # Each student is told of by its name.
    assert {p.what for p in told if p.loss is not None} == {f"{s}, seed {n}" for s in students for n in seeds}
    assert str(made).startswith("colours: accuracy on 6 human-labelled items")


def test_students_are_held_against_each_other(place: Path) -> None:
    made = run(place, name="soft-cached", **RUNS["soft-cached"][0])
    pairs = [
        "student: hard labels against student trained on labels alone",
        "student: soft labels against student: hard labels",
        "student: soft labels against student trained on labels alone",
    ]
    assert list(made.gains) == pairs + [f"{pair}, how sure" for pair in pairs]
    assert [gain.metric for gain in made.gains.values()] == ["accuracy"] * 3 + ["brier"] * 3
    cached = place / "runs" / "soft-cached" / "soft-labels"
    assert len(list(cached.iterdir())) == 1  # the teacher's distributions of 16 sequences, once


def test_what_teaches_is_part_of_what_it_takes(place: Path) -> None:
    changed, _ = RUNS["chain"]
    made = run(place, name="chain", **changed, costs={"usd_per_hour": 3.6, "labels_usd": 0.5})
    took = {name.partition(",")[0]: f.seconds for name, f in made.trainings.items()}
    assert made.table is not None
    hours = {entry.name: entry.facts.training_hours for entry in made.table.entries}
    assert hours["assistant 1"] == pytest.approx(took["hop-1"] / 3600)
    assert hours["student after 2 hops"] == pytest.approx((took["hop-1"] + took["hop-2"]) / 3600)
    assert hours["student taught by the teacher itself, one hop"] == pytest.approx(took["one-hop"] / 3600)


def stamps(folder: Path) -> dict[str, int]:
    """When what is trained and asked was written."""
    return {
        str(file.relative_to(folder)): file.stat().st_mtime_ns
        for pattern in ("*/seed-*/**/*", "*answers.json", "soft-labels/**/*")
        for file in folder.glob(pattern)
        if file.is_file()
    }


def test_again_nothing_is_trained_and_the_result_is_the_same(place: Path) -> None:
    changed, _ = RUNS["features"]
    first = run(place, name="features", **changed)
    before = stamps(place / "runs" / "features")
    assert len([name for name in before if name.endswith("training.json")]) == 4
    told: list[Progress] = []
    again = run(place, name="features", report=told.append, **changed)
    assert (stamps(place / "runs" / "features"), told) == (before, [])
    assert again.to_dict() == first.to_dict()
    assert [gain.seeds for gain in first.gains.values()] == [2, 2]
    # From another folder, and where costs and use have become known: the same run.
    moved = recipe_file(place, name="features", **changed, costs={"usd_per_hour": 9.0}, use={"distributed": True})
    other = place / "elsewhere"
    other.mkdir()
    for file in ("train.jsonl", "test.jsonl", "teacher"):
        (other / file).symlink_to(place / file)
    shutil.move(moved, other / "features.toml")
    assert train(other / "features.toml", runs=place / "runs").gains == first.gains
    assert stamps(place / "runs" / "features") == before


def test_another_recipe_or_other_data_of_that_name_is_refused(tmp_path: Path, place: Path) -> None:
    for file in ("teacher", "test.jsonl"):
        (tmp_path / file).symlink_to(place / file)
    shutil.copy(place / "train.jsonl", tmp_path / "train.jsonl")
    with pytest.raises(InputError, match="layers must be at most 4"):
        run(tmp_path, student={"layers": 5})
    run(tmp_path)  # nothing had been trained: the slip is mended under the same name
    with pytest.raises(
        InputError, match=r"holds a run of another recipe or of other data: training\.steps differs\. Give"
    ):
        run(tmp_path, training={"steps": 3})
    with pytest.raises(InputError, match=r"data\.evaluation_limit, student\.layers differ\."):
        run(tmp_path, student={"layers": 1}, data={"evaluation_limit": 2})
    dataset(records(12, seed=4), tmp_path / "train.jsonl")
    with pytest.raises(InputError, match=r"of other data: data\.train differs"):
        run(tmp_path)


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, place: Path) -> None:
    for file in ("teacher", "test.jsonl", "train.jsonl"):
        (tmp_path / file).symlink_to(place / file)
    recipe = recipe_file(tmp_path, technique="soft-label")
    script = (
        "import os, signal, sys\n"
        "from distillcalc.distill.training.run import train\n"
        "def report(progress):\n"
        "    if progress.what.startswith('student: soft'): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"train({str(recipe)!r}, runs={str(tmp_path / 'runs')!r}, report=report)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    folder = tmp_path / "runs" / "run"
    before = stamps(folder)
    assert "label-only/seed-0/training.json" in before
    assert not (folder / "student").exists()
    told: list[Progress] = []
    made = train(recipe, runs=tmp_path / "runs", report=told.append)
    assert not any(p.what.startswith("student trained") and p.loss is not None for p in told)
    after = stamps(folder)
    trained = [name for name in before if name.startswith("label-only/seed-0/student/")]
    assert [after[name] for name in trained] == [before[name] for name in trained]
    # The same recipe without a kill: the same students, to the last bit of their losses.
    whole = run(place, name="soft", technique="soft-label", costs={"usd_per_hour": 3.6, "labels_usd": 0.5})
    for name, fitted in whole.trainings.items():
        assert [e["loss"] for e in made.trainings[name].losses] == [e["loss"] for e in fitted.losses]


def test_a_student_that_is_larger_than_its_teacher_is_told_of(place: Path) -> None:
    made = run(place, name="large", student={"layers": None, "fresh": {"layers": 8}})
    notes = [note for note in made.notes if "it will cost more to serve than the teacher does" in note]
    assert len(notes) == 1  # once, not for each of its students
    assert notes[0] in str(made)
    assert json.loads((place / "runs" / "large" / "run.json").read_text())["notes"] == list(made.notes)
    assert list(run(place, name="large", student={"layers": None, "fresh": {"layers": 8}}).notes) == list(made.notes)
    assert not any("cost more" in note for note in run(place, name="hard", **RUNS["hard"][0]).notes)


def test_adapters_are_judged_too(place: Path) -> None:
    made = run(place, name="lora", student={"layers": None, "lora": {"rank": 2, "modules": ["q_proj"]}})
    assert titles(made) == ["teacher", "raw student", "student trained on the teacher's text"]
    assert made.table is not None
    assert [e.facts.parameters for e in made.table.entries] == [1_610_016] * 3  # merged in the end
    raw = made.table.entry("raw")
    assert raw is not None
    assert raw.score.agreement == 1.0  # adapters that have learnt nothing: the teacher


def test_a_teacher_elsewhere_whose_answers_are_at_hand(place: Path) -> None:
    said = [
        r.model_copy(update={"origin": Origin(run="r", call="", teacher="smollm2-135m", usd="0.002", latency_s=0.5)})
        for r in records(6, seed=3)
    ]
    dataset(said, place / "said.jsonl")
    made = run(place, name="api", **API, data={"evaluation_answers": "said.jsonl"})
    assert made.table is not None
    row = made.table.entry("teacher")
    assert row is not None
    assert (row.score.accuracy, row.facts.parameters) == (1.0, None)
    assert row.facts.usd_per_1000_items == pytest.approx(2.0)
    assert row.facts.latency_ms_per_item == 500
    dataset(said[:5], place / "few.jsonl")
    with pytest.raises(InputError, match="has no answer of the teacher to the evaluation item"):
        run(place, name="api-few", **API, data={"evaluation_answers": "few.jsonl"})
    assert not list((place / "runs" / "api-few").glob("*/seed-*"))  # told before anything was trained


def test_soft_labels_of_an_api_are_counted_over_all_records(place: Path) -> None:
    """Of a few validation records perhaps none has log-probabilities; of all of them enough do."""
    bare = [r.model_copy(update={"logprobs": None}) for r in records(4, seed=6)]
    dataset([*(with_logprobs(r) for r in records(16, seed=5)), *bare], place / "some.jsonl")
    data = {"train": ["some.jsonl"], "validation_share": 0.2}
    asked: dict[str, Any] = {**API, "technique": "soft-label", "compare": False}
    made = run(place, name="api-some", **asked, data=data, training={"evaluations": 1})
    assert made.material["validation"] == 4
    assert made.trainings["soft-label, seed 0"].evaluations
    dataset([*(with_logprobs(r) for r in records(3, seed=5)), *records(9, seed=6)], place / "fewer.jsonl")
    with pytest.raises(InputError, match="3 of 12 records have soft labels"):
        run(place, name="api-none", **asked, data={"train": ["fewer.jsonl"]})


def test_soft_labels_of_validation_records_are_their_own(tmp_path: Path) -> None:
    found = [with_logprobs(r) for r in records(8)]
    parts = [[r for r in found if r.answer == answer] for answer in ("yes", "no")]
    train_on, validate_on = (make_examples(part, tokenizer()) for part in parts)
    plain: dict[str, Any] = {"name": "r", "technique": "soft-label", "task": {"labels": ["yes", "no"]}, **API,
                             "data": {"train": ["a"]}}  # fmt: skip
    work = Work(
        Recipe.model_validate({k: v for k, v in plain.items() if v is not None}), tmp_path, None, Catalog.load()
    )
    of_train, of_validation = work.api_targets(
        Student(None, tokenizer(), ""), train_on, validate_on, Material(tuple(parts[0]), tuple(parts[1]), None)
    )
    for of, answer in ((of_train, "yes"), (of_validation, "no")):
        for number in range(4):
            ids, logprobs, *_ = of(number)
            assert tokenizer().decode(ids[0, logprobs[0].argmax()]) == answer


def test_patience_keeps_the_best_weights(place: Path) -> None:
    made = run(
        place, name="patient", data={"validation_share": 0.25},
        training={"steps": 6, "evaluations": 3, "patience": 1, "learning_rate": 1e-3},
    )  # fmt: skip
    fitted = made.trainings["hard-label, seed 0"]
    losses = {entry["step"]: entry["eval_loss"] for entry in fitted.evaluations}
    assert fitted.best_step == min(losses, key=lambda step: losses[step])


def test_validation_records_that_a_student_cannot_learn_from(place: Path) -> None:
    bare = [r.model_copy(update={"reasoning": None}) for r in records(6, seed=7)]
    dataset([*records(6, seed=8, reasoning=True), *bare], place / "chains.jsonl")
    asked: dict[str, Any] = {"technique": "chain-of-thought", "compare": False}
    data = {"train": ["chains.jsonl"], "validation_share": 0.1}
    made = run(place, name="bare", **asked, data=data, training={"evaluations": 1})
    left = next(note for note in made.notes if "were left out" in note)
    assert left.startswith("student: two-task chain of thought: ")
    assert left.endswith("sequences were left out: it has no chain of thought")
    # One validation record of twelve: with a chain or without one.
    alone = any("no validation loss" in note for note in made.notes)
    assert alone != bool(made.trainings["chain-of-thought, seed 0"].evaluations)
    dataset(bare, place / "none.jsonl")
    with pytest.raises(InputError, match="nothing to learn from in 6 records: 6 x it has no chain of thought"):
        run(place, name="none", **asked, data={"train": ["none.jsonl"]})


def test_sequences_beyond_the_students_context_are_left_out(place: Path) -> None:
    long = [r.model_copy(update={"messages": ({"role": "user", "content": r.text * 60},)}) for r in records(2, seed=9)]
    dataset([*records(8, seed=8), *long], place / "long.jsonl")
    made = run(place, name="long", data={"train": ["long.jsonl"]}, training={"max_length": 4_000})
    assert "2 sequences were left out: longer than 256 tokens" in made.notes[0]


def test_without_evaluation_items_there_is_no_table(place: Path) -> None:
    made = run(place, name="blind", data={"evaluation": None})
    assert (made.table, made.gains) == (None, {})
    said = ["no evaluation items, so no table", "learnt from 16 records", *made.notes]
    assert str(made) == "\n".join(said)
    assert (place / "runs" / "blind" / "student" / "model.safetensors").is_file()
    assert not (place / "runs" / "blind" / "four_way.json").exists()


def test_an_answer_alone_is_right_where_the_teacher_thought_aloud(place: Path) -> None:
    """The teacher was told to think and then write "Answer:"; what a student learns is the answer."""
    shown = TASK.model_copy(update={"reasoning": "visible"})
    dataset(records(64, seed=1, reasoning=True, task=shown), place / "aloud.jsonl")
    made = run(
        place, name="aloud", task=shown.model_dump(mode="json", exclude_none=True), data={"train": ["aloud.jsonl"]},
        training={"steps": 12, "batch_size": 16, "learning_rate": 5e-3},
    )  # fmt: skip
    assert made.table is not None
    student, teacher = made.table.entry("distilled"), made.table.entry("teacher")
    assert student is not None
    assert teacher is not None
    assert student.score.accuracy > 0.5
    assert teacher.score.accuracy == 0.0  # this one was never taught the marker that it is asked for


def test_numbers_and_unicode_as_texts(place: Path) -> None:
    task = Task(name="größen", system="Wie viel?")
    found = [
        Record(id=str(n), input={"text": f"{n} Äpfel – 日本 {'x' * n}"}, answer=f"{n},000.0",
               messages=task.messages({"text": f"{n} Äpfel – 日本 {'x' * n}"}),
               origin=Origin(run="r", call="", teacher="smollm2-135m"))
        for n in range(1, 9)
    ]  # fmt: skip
    dataset(found, place / "zahlen.jsonl")
    jsonl([{"text": f"{n} Birnen ✓", "human_label": f"{n}000"} for n in range(1, 5)], place / "prüfung.jsonl")
    made = run(
        place, name="zahlen", task={"name": task.name, "system": task.system},
        data={"train": ["zahlen.jsonl"], "evaluation": "prüfung.jsonl", "id": None},
    )  # fmt: skip
    assert made.table is not None
    assert made.table.task == "größen"
    assert made.table.entries[0].score.macro_f1 is None  # texts are no classes


def test_answers_in_json(place: Path) -> None:
    schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}
    task = Task(name="form", system="Fill in.", output_schema=schema, instruction=False)
    found = []
    for r in records(8):
        value = {"red": r.answer == "yes"}
        changed = {"messages": task.messages(r.input), "answer": json.dumps(value), "value": value}
        found.append(r.model_copy(update=changed))
    dataset(found, place / "forms.jsonl")
    held = [{**row, "human_label": json.dumps({"red": row["human_label"] == "yes"})} for row in rows(4, seed=3)]
    jsonl(held, place / "forms-test.jsonl")
    made = run(
        place, name="forms", task=task.model_dump(mode="json", exclude_none=True),
        data={"train": ["forms.jsonl"], "evaluation": "forms-test.jsonl"},
        training={"steps": 40, "batch_size": 8, "learning_rate": 1e-2},
    )  # fmt: skip
    assert made.table is not None
    entry = made.table.entry("distilled")
    assert entry is not None
    assert entry.score.accuracy > 0


def test_a_prompt_that_the_items_cannot_fill_is_told_before_training(place: Path) -> None:
    with pytest.raises(InputError, match=r"the prompt uses \{title\}, and the input has text"):
        run(place, name="title", data={"prompt": "{title}: {text}"})
    assert not list((place / "runs" / "title").glob("*/seed-*"))


def test_what_stands_in_the_way_of_a_later_student_is_told_before_the_first(place: Path) -> None:
    dataset(records(8, seed=2), place / "no-chains.jsonl")
    letters = place / "letters"
    with quiet():
        tiny.tokenizer().save_pretrained(saved(llama(layers=1), letters))
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "no chains": ({"technique": "chain-of-thought", "data": {"train": ["no-chains.jsonl"]}}, "nothing to learn"),
        "no logprobs": (
            {**API, "technique": "soft-label", "data": {"train": ["no-chains.jsonl"]}}, "0 of 8 records have soft"),
        "other tokens": ({"technique": "soft-label", "student": {"layers": None, "model": "letters"}}, "token"),
        "no such layer": (
            {"technique": "feature-based", "objective": {"feature_layers": [[3, 1]]}}, "feature_layers pairs"),
        "hop too large": (
            {"technique": "chain", "student": None, "hops": [{"layers": 9}, {"layers": 1}]}, "at most 4"),
    }  # fmt: skip
    for name, (changed, words) in cases.items():
        with pytest.raises(InputError, match=words):
            run(place, name=name, **changed)
        assert not list((place / "runs" / name.replace(" ", "-")).glob("*/seed-*"))


def test_a_students_prompt_of_its_own(place: Path) -> None:
    made = run(place, name="short", data={"system": "", "prompt": "{text}"})
    longer = run(place, name="hard", **RUNS["hard"][0], costs={"usd_per_hour": 3.6, "labels_usd": 0.5})
    (short,), (long,) = made.trainings.values(), longer.trainings.values()
    assert short.supervised == long.supervised
    assert short.tokens != long.tokens


def test_the_catalog_says_how_large_the_student_is(place: Path) -> None:
    shape = {"layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8, "vocab": 49_152, "intermediate": 64,
             "tied_embeddings": True}  # fmt: skip
    row = {"name": "Small", "provider": "own", "kind": "open", "params_b": 0.00159, "shape": shape}
    known = Catalog.load({"models": {"small": row}})
    recipe = recipe_file(place, name="sized", student={"layers": None, "catalog": "small", "fresh": {}})
    made = train(recipe, runs=place / "runs", catalog=known)
    assert AutoModelForCausalLM.from_pretrained(made.student).config.num_hidden_layers == 2
    recipe = recipe_file(place, name="sized wrong", student={"layers": 3, "catalog": "small"})
    with pytest.raises(InputError, match="the student has 3 layers, and the catalog's small 2"):
        train(recipe, runs=place / "runs", catalog=known)
