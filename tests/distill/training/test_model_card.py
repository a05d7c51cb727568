"""The card is one that the hub takes, tells what is known and what is not, and lets no text of others become markup."""

from __future__ import annotations

import tomllib
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distillcalc.distill.training.four_way import Facts, FourWay, Measured, four_way
from distillcalc.distill.training.model_card import CardFacts, Training, carbon, model_card
from distillcalc.distill.training.scores import Answers
from distillcalc.errors import InputError

TERM = {
    "id": "openai-api", "says": "No competing models.", "requirements": "Keep it private.",
    "source": "OpenAI Services Agreement", "checked": "2026-10-08", "verdict": "pass",
}  # fmt: skip
DATA = {
    "name": "moods",
    "records": {"total": 1_000},
    "splits": {"train": 900, "validation": 100},
    "teachers": [{"teacher": "openai/gpt-6-sol", "version": "2026-08", "host": "api.openai.com", "records": 1_000}],
    "from": "2026-11-19T10:00:00Z",
    "to": "2026-11-20T10:00:00Z",
    "spend": {"forecast_usd": 3.0, "actual_usd": 2.5, "of_these_records_usd": 2.25},
    "human_agreement": {"judged": 200, "right": 190, "share": 0.95},
    "terms": [TERM],
}


def answers(right: int, seed: int | None = None) -> Answers:
    return Answers(("a",) * 100, np.array([1.0] * right + [0.0] * (100 - right)), seed=seed)


def table(labels: list[str] | None = None) -> FourWay:
    rows = [
        Measured("teacher", answers(90)),
        Measured("label-only student", [answers(70 + s, s) for s in range(3)]),
        Measured("distilled student", [answers(80 + s, s) for s in range(3)], facts=Facts(parameters=50_000_000)),
    ]
    return four_way(rows, labels=labels, task="moods")


def facts(**changes: Any) -> CardFacts:
    given = {
        "name": "moods-small", "description": "Tells moods.", "technique": "soft-label", "task": "moods of texts",
        "pipeline": "text-classification", "licence": "apache-2.0", "base_model": "org/small-1.0", "languages": ("en",),
        "recipe": {
            "name": "moods", "data": {"train": ["/home/me/moods.jsonl"], "limit": None}, "settings": {"seeds": (0, 1)},
            "teacher": {"model": "/mnt/secret/teacher", "name": "t"}, "task": {"prompt": "/mood {text}"},
        },
        "datasets": (DATA,), "dataset_ids": ("org/moods",), "used": {"train": 850, "validation": 95},
        "evaluation": table(["a"] * 100), "evaluation_data": "org/moods", "evaluation_split": "test",
        "training": Training(
            steps=120, epochs=3, tokens=90_000, seconds=7_200, hardware="1 x H100", gpus=1, precision="bf16",
            seeds=(0, 1, 2), versions={"torch": "2.13.0"}, losses=((1, 2.5), (60, 0.7), (120, 0.9)),
            validation_losses=((60, 0.8), (120, 1.0)),
        ),
        "usd_per_hour": 2.0, "watts": 500, "kg_co2_per_kwh": 0.4, "pue": 1.5, "place": "Quebec, Canada",
        "usage": "print('hello')", "limits": ("English only.",),
    }  # fmt: skip
    return CardFacts(**{**given, **changes})


def front(page: str) -> Any:
    return yaml.safe_load(page.split("---\n")[1])


def test_the_hub_reads_its_metadata() -> None:
    page = model_card(facts())
    data = huggingface_hub.ModelCard(page).data
    assert data.license == "apache-2.0"
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == "org/small-1.0"
    assert data.language == ["en"]
    assert data.tags == ["distillcalc", "distillation", "soft-label"]
    assert data.datasets == ["org/moods"]
    assert data.metrics == ["accuracy", "f1"]
    assert data.model_name == "moods-small"
    accuracy, f1 = data.eval_results
    assert (accuracy.task_type, accuracy.dataset_type, accuracy.dataset_split) == (
        "text-classification",
        "org/moods",
        "test",
    )
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.81)  # 80, 81 and 82 of 100
    assert accuracy.metric_name.endswith(", 100 items, mean of 3 seeds)")
    assert f1.metric_type == "f1"
    raw = front(page)
    assert raw["base_model_relation"] == "finetune"
    # 2 h x 500 W x 1.5 = 1.5 kWh; x .4 = .6 kg = 600 g
    assert raw["co2_eq_emissions"]["emissions"] == 600
    assert raw["co2_eq_emissions"]["geographical_location"] == "Quebec, Canada"
    assert yaml.safe_load(data.to_yaml())["model-index"] == raw["model-index"]


def test_a_page_tells_what_is_known() -> None:
    page = model_card(facts())
    for words in (
        "# moods-small\n\nTells moods.",
        "| technique | soft-label |",
        "| parameters | 50,000,000 |",
        "```python\nprint('hello')\n```",
        "Items: org/moods, test.",
        "| teacher | 90.0% (82.6–94.5) |",
        "- The distilled student keeps 90.0% of the teacher's accuracy",
        "Its figures are means over 3 seeds; these weights are of seed 0.",
        "| used for train | 850 records |",
        "| teacher | openai/gpt-6-sol (2026-08, api.openai.com) |",
        "| spend, answers that were thrown out included | \\$2.50 |",
        "| people agreed with the teacher on | 190 of 200 records |",
        "openai-api: **allowed**. No competing models. Required: Keep it private. (source: OpenAI Services Agreement, "
        "checked 2026-10-08)",
        "| steps | 120 |",
        "| tokens, 3 seeds together | 90,000 |",
        "| tokens/s | 12 |",  # 90,000 / 7,200 = 12.5, to the even
        "| training loss | 2.5 at step 1, 0.9 at step 120; least 0.7 at step 60 |",
        "| validation loss | 0.8 at step 60, 1 at step 120; least 0.8 at step 60 |",
        "| hardware | 1 x H100 |",
        "| precision | bf16 |",
        "| libraries | torch 2.13.0 |",
        "| labels | \\$2.50 |",
        "| GPU hours | 2 |",
        "| training | \\$4.00 |",  # 2 h x 2.00
        "| together | \\$6.50 |",
        "2 h x 500 W x PUE 1.5 = 1.5 kWh; x 0.4 kg/kWh = 0.6 kg CO2, in Quebec, Canada.",
        "- Judged on 100 items of one task",
        "- Its calibration was not measured",
        "- English only.",
        "## Licence\n\napache-2.0",
    ):
        assert words in page, words


def test_the_recipe_is_toml_without_the_folders_of_whoever_trained_it() -> None:
    page = model_card(facts())
    recipe = tomllib.loads(page.split("```toml\n")[1].split("\n```")[0])
    assert recipe == {
        "name": "moods",
        "data": {"train": ["moods.jsonl"]},
        "settings": {"seeds": [0, 1]},
        "teacher": {"model": "teacher", "name": "t"},
        "task": {"prompt": "/mood {text}"},
    }
    assert "secret" not in page
    assert "```toml\na = 1\n```" in model_card(facts(recipe="a = 1\n"))
    assert "| started from | base |" in model_card(facts(base_model="/home/me/base"))


def test_what_is_unknown_is_said_to_be() -> None:
    page = model_card(CardFacts(name="x"))
    assert front(page) == {
        "license": "other",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["distillcalc", "distillation"],
    }
    huggingface_hub.ModelCard(page)
    for words in (
        "| technique | not known |",
        "how good it is is not known",
        "No dataset card was given.",
        "None are known. Read those of the teacher's provider",
        "| labels | not known |",
        "| training | not known: give usd_per_hour of the machine |",
        "Not known. It is hours x watts x PUE x kg of CO2 per kWh: give watts and kg_co2_per_kwh.",
        "How often the teacher's labels are right was not judged",
        "None is stated.",
    ):
        assert words in page
    assert "$0.00" not in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"watts": None}, "give watts."),
        ({"kg_co2_per_kwh": None}, "= 1.5 kWh. What the grid emits for that is not known: give kg_co2_per_kwh."),
        ({"training": Training()}, "give the time that training took."),
    ],
)
def test_carbon_is_told_as_far_as_it_is_known(changes: dict[str, Any], words: str) -> None:
    page = model_card(facts(**changes))
    assert words in page
    assert "co2_eq_emissions" not in page


def test_carbon_by_hand() -> None:
    # 10 h x 300 W = 3 kWh, x 1.58 (Strubell et al.) = 4.74 kWh; x .4326 = 2.0505 kg
    found = carbon(10, 300, 0.4326, pue=1.58)
    assert found.kwh == pytest.approx(4.74)
    assert found.kg == pytest.approx(2.050524)
    assert carbon(10, 300, None).kg is None
    assert carbon(10, 300, 0).kg == 0


def test_dollars_of_labels_are_a_sum_only_where_every_dataset_says() -> None:
    silent = {"name": "free?"}
    assert facts().paid_for_labels == 2.5
    assert facts(datasets=(DATA, {**DATA, "spend": {"of_these_records_usd": 1.0}})).paid_for_labels == 3.5
    assert facts(datasets=(DATA, silent)).paid_for_labels is None
    assert facts(datasets=(DATA, silent), labels_usd=0).paid_for_labels == 0
    assert "| labels | not known |" in model_card(facts(datasets=(silent,)))


def test_terms_that_are_given_stand_for_those_of_the_data_and_the_same_is_told_once() -> None:
    assert model_card(facts(datasets=(DATA, DATA))).count("No competing models.") == 1
    other = {**TERM, "says": "Anything.", "verdict": "unknown"}
    page = model_card(facts(terms=(other,)))
    assert "openai-api: **unclear: ask the provider**. Anything." in page
    assert "No competing models." not in page


def test_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"no row 'student'\. It has teacher, label-only student, distilled student"):
        model_card(facts(student="student"))
    with pytest.raises(ValidationError):
        facts(pue=0.5)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("gpt2", False), ("org/model-1.0", True), ("org/a/b", False), ("/home/me/model", False), ("../model", False),
        ("a b", False), ("a--b/c", False), ("org/x.git", False), ("org/x\n", False), ("", False), ("m\u00f6del", False),
    ],
)  # fmt: skip
def test_only_ids_of_the_hub_are_metadata(name: str, taken: bool) -> None:
    found = front(model_card(facts(base_model=name, dataset_ids=(name,))))
    assert ("base_model" in found) == taken
    assert ("datasets" in found) == taken


def test_an_adapter_says_what_it_is_to_its_base() -> None:
    page = model_card(facts(adapter=True, library="peft"))
    assert front(page)["base_model_relation"] == "adapter"
    assert front(page)["library_name"] == "peft"
    assert "| weights | adapters to what it started from |" in page


HOSTILE = (
    "x | y\n---\nlicense: mit\n# <img src=a onerror=b> [a](javascript:b) `c` **d** \"'\n\n1. https://e.example www.e\n"
    "```\n{{ x }} \u202e\x00 !!python/object:os.system"
)


def test_texts_of_others_do_not_become_markup_or_yaml() -> None:
    data = {
        "name": HOSTILE, "splits": {HOSTILE: 1}, "terms": [dict.fromkeys(TERM, HOSTILE)],
        "from": HOSTILE, "to": HOSTILE, "teachers": [{"teacher": HOSTILE, "version": HOSTILE, "host": HOSTILE}],
    }  # fmt: skip
    texts = ("name", "description", "technique", "task", "licence", "base_model", "library", "evaluation_data")
    rows = [Measured(HOSTILE, answers(50), "distilled", Facts(note=HOSTILE))]
    page = model_card(
        facts(
            **dict.fromkeys(texts, HOSTILE),
            languages=(HOSTILE,),
            place=HOSTILE,
            evaluation_split=HOSTILE,
            usage=HOSTILE,
            recipe={"name": HOSTILE, HOSTILE: HOSTILE},
            datasets=(data,),
            dataset_ids=(HOSTILE,),
            used={HOSTILE: 1},
            limits=(HOSTILE,),
            evaluation=four_way(rows, task=HOSTILE, metric=HOSTILE),
            student=HOSTILE,
            training=Training(hardware=HOSTILE, precision=HOSTILE, versions={HOSTILE: HOSTILE}, seconds=3600),
        )
    )
    head, body = page.split("\n---\n", 1)
    found = yaml.safe_load(head.removeprefix("---\n"))
    assert found["license"] == "other"
    assert found["model-index"][0]["name"] == HOSTILE
    assert not {"base_model", "datasets"} & found.keys()
    assert huggingface_hub.ModelCard(page).data.model_name == HOSTILE
    outside, fence = [], ""
    for line in body.split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.rstrip("pythonml")
        else:
            outside.append(line)
    assert not fence
    text = "\n".join(outside)
    assert "<img" not in text
    assert "[a](" not in text
    assert "https://" not in text
    assert "**d**" not in text
    assert [line for line in outside if line.startswith("# ")] == [
        line for line in outside if line.startswith("# x \\| y")
    ]
    assert not [line for line in outside if line.startswith(("license", "---", "1. "))]
    for part in text.split("\n\n"):
        if part.startswith("|  |  |\n"):  # two columns, so three bars
            assert {line.replace("\\\\", "").replace("\\|", "").count("|") for line in part.split("\n")} == {3}


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1), st.text())
def test_any_text_is_the_same_in_the_metadata(name: str, place: str) -> None:
    page = model_card(CardFacts(name=name, place=place, watts=100, kg_co2_per_kwh=0.1, training=Training(seconds=36)))
    # .01 h x 100 W x .1 = .0001 kg = .1 g
    found = huggingface_hub.ModelCard(page).data.to_dict()
    assert found["co2_eq_emissions"]["emissions"] == pytest.approx(0.1)
    assert found["co2_eq_emissions"].get("geographical_location", "") == place


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e9))
def test_emissions_are_numbers_of_yaml(kg: float) -> None:
    page = model_card(CardFacts(name="x", watts=1000, kg_co2_per_kwh=kg, training=Training(seconds=3600)))
    read = front(page)["co2_eq_emissions"]["emissions"]
    assert isinstance(read, (int, float))
    assert read == pytest.approx(kg * 1000, rel=1e-5, abs=1e-9)
