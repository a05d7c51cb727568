"""The file of a training: what it may say, what a technique sets under it, and what does not go together."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distillcalc.distill.training.recipe import DEFAULTS, Against, Hop, Objective, Recipe, StudentStart
from distillcalc.errors import InputError

WHOLE = """
name = "soft six"
technique = "soft-label"
accept_unclear_terms = true

[task]
name = "colours"
labels = ["yes", "no"]

[data]
train = ["a.jsonl", "/b.jsonl"]
inputs = ["c.csv"]
evaluation = "test.csv"
validation_share = 0.2

[teacher]
model = "big"
adapter = "adapter"
top_k = 16
name = "smollm2-135m"

[student]
layers = [0, 3, 5]
lora = { rank = 4, modules = ["q_proj"] }

[objective]
soft = 0.9
divergence = "jsd"
beta = 0.3

[[against]]
technique = "soft-label"
name = "hot"
objective = { temperature = 8.0 }

[[against]]
technique = "hard-label"

[training]
tokens = 10_000
batch_size = 32
micro_batch = 8
seeds = [0, 7]
patience = 2

[use]
distributed = true

[costs]
usd_per_hour = 2.5
"""


def plain(**changed: Any) -> dict[str, Any]:
    """A recipe that is right, with tables laid over; None takes one out."""
    made: dict[str, Any] = {
        "name": "r", "technique": "soft-label", "task": {"labels": ["yes", "no"]}, "data": {"train": ["a.jsonl"]},
        "teacher": {"model": "big"},
    }  # fmt: skip
    made |= changed
    return {name: value for name, value in made.items() if value is not None}


def saved(tmp_path: Path, **changed: Any) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(tomli_w.dumps(plain(**changed)))
    return file


def refusal(tmp_path: Path, **changed: Any) -> str:
    with pytest.raises(InputError) as refused:
        Recipe.load(saved(tmp_path, **changed))
    return str(refused.value)


def line_of(tmp_path: Path, start: str) -> int:
    """The number of the first line that starts so."""
    lines = (tmp_path / "recipe.toml").read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.startswith(start))


def test_what_is_wrong_with_keywords_is_told_in_sentences() -> None:
    values = {
        "name": "x",
        "technique": "classifier",
        "task": {"name": "t", "labels": ["a", "b"]},
        "data": {"train": ["a"]},
    }
    values["student"] = {"model": "encoder"}
    assert Recipe.of(**values) == Recipe.model_validate(values)
    with pytest.raises(InputError) as told:
        Recipe.of(**{**values, "technique": "classifer", "training": {"epochs": 0, "batchsize": 3}})
    said = str(told.value).splitlines()
    assert said[0].startswith("technique should be 'hard-label', ")
    assert said[0].endswith("Got 'classifer'")
    assert said[1:] == [
        "training.epochs should be greater than 0. Got 0",
        "unknown field training.batchsize. Did you mean batch_size?",
    ]
    with pytest.raises(InputError, match=r"^data: data needs train"):  # what does not go together, too
        Recipe.of(**{**values, "data": {}})


def test_a_whole_recipe_is_written_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(WHOLE)
    read = Recipe.load(file)
    assert read.objective == Objective(hard=0.5, soft=0.9, temperature=2.0, divergence="jsd", beta=0.3)
    assert read.student.layers == (0, 3, 5)
    assert [a.objective.temperature for a in read.against] == [8.0, 1.0]
    file.write_text(read.to_toml())
    assert Recipe.load(file) == read
    # A round trip through plain JSON values keeps it too.
    assert Recipe.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize("technique", DEFAULTS)
def test_a_technique_sets_what_the_file_leaves_out(technique: str) -> None:
    changed: dict[str, Any] = {"technique": technique}
    if technique == "chain":
        changed["hops"] = [{"layers": 4}, {"layers": 2}]
    if technique == "classifier":
        changed["student"] = {"model": "minilm"}
    got = Recipe.model_validate(plain(**changed)).objective
    for name, value in DEFAULTS[technique].items():
        assert getattr(got, name) == value
    # What the file says stands over it, also as an object of Python with some fields set.
    for objective in ({"hard": 0.25}, Objective(hard=0.25)):
        said = Recipe.model_validate(plain(**changed, objective=objective)).objective
        assert said.hard == 0.25
        assert said.soft == DEFAULTS[technique].get("soft", 0.0)


def test_against_has_the_defaults_of_its_own_technique() -> None:
    made = Against(technique="on-policy")
    assert (made.objective.hard, made.objective.soft, made.objective.divergence) == (0.0, 1.0, "jsd")
    assert Against(technique="soft-label", objective=Objective(temperature=3.0)).objective.soft == 0.5


def test_an_api_gives_its_distribution_at_temperature_1() -> None:
    api = {"teacher": None, "student": {"model": "small"}}
    made = Recipe.model_validate(plain(**api))
    assert made.objective.temperature == 1.0
    assert Recipe.model_validate(plain()).objective.temperature == 2.0
    beside = plain(**api, technique="hard-label", against=[{"technique": "soft-label"}])
    assert Recipe.model_validate(beside).against[0].objective.temperature == 1.0


@given(
    st.fixed_dictionaries(
        {}, optional={
            "hard": st.floats(0.1, 2), "soft": st.floats(0.1, 2), "temperature": st.floats(0.5, 9),
            "divergence": st.sampled_from(["reverse-kl", "jsd", "skewed-forward"]), "beta": st.floats(0, 1),
            "max_new_tokens": st.integers(1, 99),
        },
    ),
    st.sampled_from(["soft-label", "feature-based", "on-policy", "self-distillation"]),
)  # fmt: skip
def test_every_objective_survives_its_file(objective: dict[str, Any], technique: str) -> None:
    read = Recipe.model_validate(plain(technique=technique, objective=objective))
    assert Recipe.model_validate(tomllib.loads(read.to_toml())) == read


API = {"teacher": None, "student": {"model": "small"}}
HOPS = [{"layers": 4}, {"layers": 2}]
# name of the case: what is changed, words of the refusal, and the start of the line that it names
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no data": ({"data": {}}, "data needs train", "[data]"),
    "no task": ({"task": None}, "give task (a table) or task_file", "name ="),
    "two tasks": ({"task_file": "t.toml"}, "task_file: give task (a table) or task_file", "task_file"),
    "features from an API": ({**API, "technique": "feature-based"}, "its weights must be here", "technique"),
    "scores from an API": ({**API, "technique": "on-policy"}, "on-policy reads the teacher's distrib", "technique"),
    "a chain from an API": (
        {"teacher": None, "technique": "chain", "hops": HOPS}, "chain reads the teacher's", "technique"),
    "inputs for an API": (
        {**API, "data": {"inputs": ["a.csv"]}}, "labelled by a teacher on this machine", "inputs"),
    "features of texts": (
        {**API, "objective": {"features": 1.0}}, "read from the teacher's weights", "features"),
    "an API at another temperature": (
        {**API, "objective": {"temperature": 2.0}}, "at temperature 1. Set temperature = 1", "temperature"),
    "an API on prompts": ({**API, "objective": {"soft_on": "all"}}, 'soft_on = "answer"', "soft_on"),
    "an API's whole distribution": (
        {**API, "objective": {"divergence": "uld"}}, "an API gives the top of it", "divergence"),
    "an API's chains": (
        {**API, "technique": "chain-of-thought", "objective": {"soft": 0.5}}, "not of its chains", "soft ="),
    "nothing to start from": ({"teacher": None}, "student needs a model to start from", "name ="),
    "nothing to be born again from": (
        {"teacher": None, "technique": "self-distillation"}, "student needs a model to start from", "name ="),
    "a cache of features": (
        {"technique": "feature-based", "teacher": {"model": "b", "top_k": 8}}, "holds no hidden states", "top_k"),
    "a cache of attention": (
        {"teacher": {"model": "b", "top_k": 8}, "objective": {"attention": 1.0}}, "no attention", "top_k"),
    "a cache of new texts": (
        {"technique": "on-policy", "teacher": {"model": "b", "top_k": 8}}, "no scores of new texts", "top_k"),
    "a cache for one of several": (
        {"teacher": {"model": "b", "top_k": 8}, "against": [{"technique": "feature-based"}]}, "holds no", "top_k"),
    "a cache sorted": (
        {"teacher": {"model": "b", "top_k": 8}, "objective": {"divergence": "uld"}}, "leave top_k out", "top_k"),
    "a chain of one hop": (
        {"technique": "chain", "hops": [{"layers": 2}]}, "two hops at least. Got 1", "hops ="),
    "a chain of none": ({"technique": "chain"}, "two hops at least. Got 0", "name ="),
    "a chain that grows": (
        {"technique": "chain", "hops": [{"layers": 2}, {"layers": 4}]}, "must not rise. Got 2, then 4", "hops ="),
    "a chain with a student beside": (
        {"technique": "chain", "hops": HOPS, "student": {"layers": 1}}, "leave student out", "[student]"),
    "hops without a chain": ({"hops": HOPS}, "hops belong to the technique chain", "hops ="),
    "a hop of nothing": ({"technique": "chain", "hops": [{}, {"layers": 2}]}, "give layers (of the model", "hops ="),
    "generations of soft labels": ({"generations": 3}, "generations belong to self-distillation", "generations"),
    "soft labels without weight": ({"objective": {"soft": 0.0}}, "give soft a weight above 0", "soft ="),
    "soft hard labels": (
        {"technique": "hard-label", "objective": {"soft": 0.5}}, "for soft take soft-label", "soft ="),
    "features without weight": (
        {"technique": "feature-based", "objective": {"features": 0.0}}, "a weight for features", "features"),
    "a chain that teaches nothing": (
        {"technique": "chain", "hops": HOPS, "objective": {"soft": 0.0}}, "one student teaches the next", "soft ="),
    "nothing learnt": (
        {"technique": "chain-of-thought", "objective": {"hard": 0.0}}, "nothing would be learnt", "hard ="),
    "patience without evaluations": (
        {"training": {"patience": 2, "evaluations": 0}}, "set evaluations above 0", "[training]"),
    "patience without validation": (
        {"data": {"train": ["a"], "validation_share": 0.0}, "training": {"patience": 2}},
        "set data.validation_share above 0", "patience"),
    "a micro-batch that does not divide": (
        {"training": {"batch_size": 10, "micro_batch": 4}}, "multiple of micro_batch. Got 10 and 4", "[training]"),
    "steps and tokens": ({"training": {"steps": 1, "tokens": 9}}, "steps or tokens, not both", "[training]"),
    "a seed twice": ({"training": {"seeds": [1, 2, 1]}}, "seeds must differ. Got [1, 2, 1]", "[training]"),
    "no seed": ({"training": {"seeds": []}}, "seeds", "seeds"),
    "a seed below 0": ({"training": {"seeds": [-1]}}, "greater than or equal to 0. Got -1", "seeds"),
    "packing what is written": (
        {"technique": "on-policy", "training": {"packing": True}}, "packing and on-policy", "packing"),
    "packing two tokenizers": (
        {"objective": {"divergence": "uld"}, "training": {"packing": True}}, "packing and uld", "packing"),
    "hard labels of own words": (
        {"technique": "on-policy", "objective": {"divergence": "uld", "hard": 1.0}}, "set hard = 0", "hard ="),
    "layers and fresh": (
        {"student": {"layers": 2, "fresh": {"layers": 2}}}, "layers (of a trained model) or fresh", "[student"),
    "no layers": ({"student": {"layers": []}}, "names no layer", "[student]"),
    "layer 0 of them": ({"student": {"layers": 0}}, "at least 1. Got 0", "[student]"),
    "layers out of order": ({"student": {"layers": [3, 1]}}, "in rising order. Got [3, 1]", "[student]"),
    "an unknown key": ({"training": {"epoch": 3}}, "unknown field training.epoch", "epoch"),
    "an unknown table": ({"objetive": {"soft": 1.0}}, "Did you mean objective?", "[objetive]"),
    "an unknown technique": ({"technique": "distil"}, "technique", "technique"),
    "a wrong type": ({"training": {"epochs": "many"}}, "training.epochs should be a valid number", "epochs"),
    "a share above 1": ({"objective": {"beta": 1.5}}, "less than or equal to 1. Got 1.5", "beta"),
    "infinity": ({"objective": {"hard": float("inf")}}, "finite", "hard"),
    "a name with a slash": ({"name": "../r"}, "name", "name"),
    "against a chain": (
        {"technique": "chain", "hops": HOPS, "against": [{"technique": "hard-label"}]},
        "chain has comparisons of its own", "against"),
    "against an API's weights": (
        {**API, "against": [{"technique": "feature-based"}]}, "needs the teacher's weights", "against"),
    "against itself": ({"against": [{"technique": "soft-label"}]}, "needs a name of its own", "against"),
    "against two of a name": (
        {"against": [{"technique": "hard-label", "name": "A b"}, {"technique": "hard-label", "name": "a-b"}]},
        "needs a name of its own", "against"),
    "against in the run's own folder": (
        {"against": [{"technique": "hard-label", "name": "student"}]}, "are the run's", "against"),
    "against outside the run's folder": (
        {"against": [{"technique": "hard-label", "name": ".."}]}, "should match pattern", "against"),
    "against two of a title": (
        {"technique": "feature-based", "against": [
            {"technique": "hard-label", "name": "soft labels and hidden states"}]},
        "needs a title of its own", "against"),
    "a classifier of texts": (
        {"technique": "classifier", "task": {"name": "t"}, "student": {"model": "m"}}, "has none", "[task]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_told_with_its_line(tmp_path: Path, case: str) -> None:
    changed, words, start = REFUSED[case]
    said = refusal(tmp_path, **changed)
    first = next(line for line in said.splitlines() if words in line)
    assert f"(line {line_of(tmp_path, start)} of recipe.toml)" in first


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, generations=2, hops=HOPS, objective={"soft": 0.0}).splitlines()
    assert len(said) == 3


def test_python_is_told_the_same_as_a_file() -> None:
    with pytest.raises(ValidationError, match="a chain has an assistant"):
        Recipe.model_validate(plain(technique="chain"))


def test_a_recipe_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recipe .*missing\.toml"):
        Recipe.load(tmp_path / "missing.toml")
    file = tmp_path / "r.toml"
    file.write_text("name = \n")
    with pytest.raises(InputError, match="not valid TOML"):
        Recipe.load(file)
    file.write_bytes(b"name = '\xff'")
    with pytest.raises(InputError, match="UTF-8"):
        Recipe.load(file)


def test_relative_paths_start_at_the_file_and_names_of_a_hub_stay_names(tmp_path: Path) -> None:
    (tmp_path / "models" / "big").mkdir(parents=True)
    (tmp_path / "assistant").mkdir()
    file = saved(
        tmp_path,
        technique="chain",
        task=None,
        task_file="../task.toml",
        data={"train": ["a.jsonl", "/abs/b.jsonl"], "inputs": ["c.csv"], "evaluation": "t.csv",
              "evaluation_answers": "said.jsonl"},
        teacher={"model": "models/big", "adapter": "owner/adapter"},
        hops=[{"start": {"model": "assistant"}}, {"start": {"model": "owner/small"}}],
    )  # fmt: skip
    read = Recipe.load(file)
    assert read.data.train == (str(tmp_path / "a.jsonl"), "/abs/b.jsonl")
    assert read.data.inputs == (str(tmp_path / "c.csv"),)
    assert read.data.evaluation == str(tmp_path / "t.csv")
    assert read.data.evaluation_answers == str(tmp_path / "said.jsonl")
    assert read.task_file == str(tmp_path / "../task.toml")
    assert read.teacher is not None
    assert (read.teacher.model, read.teacher.adapter) == (str(tmp_path / "models/big"), "owner/adapter")
    assert [hop.student.model for hop in read.hops] == [str(tmp_path / "assistant"), "owner/small"]
    assert Recipe.load(saved(tmp_path, student={"model": "owner/small"})).student.model == "owner/small"


def test_the_task_of_a_labelling_file_with_a_use_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(
        '[task]\nname = "bank mail"\nlabels = ["yes", "no"]\n[inputs]\nfile = "i.csv"\n[teacher]\n'
        'model = "openai/gpt-6-sol"\n[labelling]\nbudget_usd = 1\n[use]\nkind = "embedding"\n'
    )
    read = Recipe.load(saved(tmp_path, task=None, task_file="task.toml"))
    assert (read.asked.name, read.asked.use.kind) == ("bank mail", "embedding")
    read = Recipe.load(saved(tmp_path, task=None, task_file="task.toml", use={"kind": "classifier"}))
    assert read.asked.use.kind == "classifier"


def test_a_hop_is_a_number_of_layers_or_a_start() -> None:
    assert Hop(layers=3).student == StudentStart(layers=3)
    assert Hop(start=StudentStart(model="m")).student.model == "m"
    with pytest.raises(ValidationError, match="one of them"):
        Hop(layers=3, start=StudentStart(model="m"))
