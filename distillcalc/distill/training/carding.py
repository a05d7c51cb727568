"""From a finished run to what its student carries: a model card, and its row of the catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training.model_card import CardFacts, Training, model_card

if TYPE_CHECKING:
    from distillcalc.distill.training.fit import Fitted
    from distillcalc.distill.training.material import Material
    from distillcalc.distill.training.recipe import Recipe
    from distillcalc.distill.training.run import TrainRun

CATALOG_FILE = "catalog.toml"

USAGE = """from distillcalc.distill.training.local_teacher import LocalTeacher

student = LocalTeacher.load("{name}")
print(student.answers([[{messages}]], max_new_tokens={tokens})[0].text)"""


def write_card(folder: Path, recipe: Recipe, run: TrainRun, fitted: Fitted, material: Material) -> None:
    """Write README.md and, for a model that writes, ``catalog.toml`` beside a student's weights.

    Parameters
    ----------
    folder : of the student. fitted : its training. material : what it learned from.
    """
    (folder / "README.md").write_text(model_card(card_facts(recipe, run, fitted, material)), encoding="utf-8")
    if recipe.technique != "classifier":
        import tomli_w

        row = student_row(folder, recipe.name)
        (folder / CATALOG_FILE).write_text(tomli_w.dumps({"models": {_id(recipe.name): row}}), encoding="utf-8")


def card_facts(recipe: Recipe, run: TrainRun, fitted: Fitted, material: Material) -> CardFacts:
    """What is known of a run, as a card's facts."""
    task = recipe.asked
    trainings = [f for name, f in run.trainings.items() if f.folder.parent.parent == fitted.folder.parent.parent]
    costs, machine = recipe.costs, fitted.machine
    distilled = run.table.entry("distilled") if run.table is not None else None
    base = recipe.student.model or (recipe.teacher.model if recipe.teacher is not None else "")
    system = recipe.data.system if recipe.data.system is not None else task.system
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": "..."}]
    limits = [f"{count:,} records were not learnt from: {why}" for why, count in material.left_out.items()]
    limits += list(run.notes)
    if run.table is None:
        limits.append("it was not judged on items that people labelled")
    return CardFacts(
        name=recipe.name,
        technique=recipe.technique,
        task=task.name,
        pipeline="text-classification" if recipe.technique == "classifier" else "text-generation",
        base_model=PurePath(base).name if Path(base).is_dir() else base,
        recipe=recipe.to_dict(),
        datasets=material.cards,
        used={"train": len(material.train), "validation": len(material.validation)},
        terms=material.terms,
        evaluation=run.table,
        student=distilled.name if distilled is not None else "distilled student",
        evaluation_data=PurePath(recipe.data.evaluation).name if recipe.data.evaluation else "",
        training=Training(
            steps=fitted.steps,
            epochs=fitted.losses[-1].get("epoch") if fitted.losses else None,
            tokens=sum(f.tokens for f in trainings),
            seconds=sum(f.seconds for f in trainings),
            hardware=machine["name"],
            gpus=machine["count"] if machine["device"] == "cuda" else 0,
            precision=machine["precision"],
            seeds=recipe.training.seeds,
            versions=machine["versions"],
            losses=tuple((int(e["step"]), e["loss"]) for e in fitted.losses),
            validation_losses=tuple((int(e["step"]), e["eval_loss"]) for e in fitted.evaluations),
        ),
        usd_per_hour=costs.usd_per_hour,
        labels_usd=material.labels_usd,
        watts=costs.watts,
        kg_co2_per_kwh=costs.kg_co2_per_kwh,
        pue=costs.pue,
        usage="" if recipe.technique == "classifier" else USAGE.format(
            name=f"runs/{run.folder.name}/student", messages=", ".join(map(repr, messages)), tokens=64
        ),
        limits=tuple(limits),
    )  # fmt: skip


def student_row(folder: Path, name: str) -> dict[str, Any]:
    """A trained student as a row of the catalog's models: the calculator then means the model that was trained."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from distillcalc.distill.training.students import catalog_row

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    today = datetime.now(UTC).date().isoformat()
    return catalog_row(model, name=name, source="config.json of the trained student", checked=today)


def _id(name: str) -> str:
    """A name as the catalog's ids are spelt: lower case with hyphens."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in name.lower()).split())
