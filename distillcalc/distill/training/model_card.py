"""The card of a trained student: YAML that Hugging Face's hub reads, and a page that people do.

What it learned from, by which recipe, under whose terms, how good it is, what it cost, and what nobody knows of it. The
metadata follow https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Names, prompts and terms are texts of
others: none of them can become markup, a link or YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field

from distillcalc.distill.card_markdown import _LICENCE_ID, _list, _table, _terms, fenced, plain, yaml_text
from distillcalc.distill.records import Strict
from distillcalc.distill.training.four_way import Entry, FourWay
from distillcalc.errors import InputError

NOT_KNOWN = "not known"
METRIC_IDS = {"accuracy": "accuracy", "exact match": "exact_match"}  # as the hub spells them
# With its owner: a bare name is more often a folder's than the hub's, and a wrong link is worse than none.
HUB_ID = re.compile(r"(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
PATHS = ("train", "inputs", "evaluation", "model", "adapter", "task_file")  # of a recipe; folders are told to nobody


class Training(Strict):
    """How a student was trained; what is not given is not known.

    Parameters
    ----------
    steps : of the optimizer. epochs : passes over the data; both of one seed.
    tokens : read, padding left out. seconds : from the first step to the last, evaluations included [s]; both of all
        seeds together.
    hardware : in words; gpus : how many.
    precision : "fp32" or "bf16". seeds : one training each; the first is the one that is kept.
    versions : of the libraries, by name.
    losses, validation_losses : (step, loss) pairs of the seed that is kept, in their order.
    """

    steps: int | None = Field(None, ge=0)
    epochs: float | None = Field(None, ge=0)
    tokens: int | None = Field(None, ge=0)
    seconds: float | None = Field(None, ge=0)
    hardware: str = ""
    gpus: int = Field(0, ge=0)
    precision: str = ""
    seeds: tuple[int, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    losses: tuple[tuple[int, float], ...] = ()
    validation_losses: tuple[tuple[int, float], ...] = ()

    @property
    def hours(self) -> float | None:
        """Hours of the machine [h]; None where the time is not known."""
        return None if self.seconds is None else self.seconds / 3600


class CardFacts(Strict):
    """What a model card tells; what is left out is said to be unknown.

    Parameters
    ----------
    name, description : of the student.
    technique : how it was distilled, as the recipe names it.
    task : what it does; ``pipeline`` is the hub's name for that.
    licence : of the weights: an id that the hub knows ("apache-2.0"), or words.
    base_model : the hub's id (owner/name), or the name, of what it started from. adapter : whether it is one to that.
    library : that loads it. languages : their ISO 639 codes.
    recipe : as TOML, or as its values; of paths only the last part is told.
    datasets : cards of the data, as :func:`distillcalc.distill.card.dataset_card` makes them.
    dataset_ids : the hub's ids of the data, where it is there.
    used : records by what they were used for, such as {"train": 900, "validation": 100}.
    terms : that govern training on the teacher's answers; left out, those of the datasets' cards.
    evaluation : the four-way table; ``student`` is its row that this card is of; ``evaluation_data`` and
        ``evaluation_split`` name the items, by the hub's id where they have one.
    training : how it was trained.
    usd_per_hour : of the machine [USD]. labels_usd : of the labels [USD]; left out, those of the datasets' cards.
    watts : of the machine while it trains [W]. kg_co2_per_kwh : of its grid. pue : of its building. place : where it
        stands.
    usage : code that asks it.
    limits : known ones, a sentence each.
    """

    name: str = Field(min_length=1)
    description: str = ""
    technique: str = ""
    task: str = ""
    pipeline: Literal["text-generation", "text-classification"] = "text-generation"
    licence: str = ""
    base_model: str = ""
    adapter: bool = False
    library: str = "transformers"
    languages: tuple[str, ...] = ()
    recipe: dict[str, Any] | str = ""
    datasets: tuple[dict[str, Any], ...] = ()
    dataset_ids: tuple[str, ...] = ()
    used: dict[str, int] = Field(default_factory=dict)
    terms: tuple[dict[str, Any], ...] | None = None
    evaluation: FourWay | None = None
    student: str = "distilled student"
    evaluation_data: str = ""
    evaluation_split: str = ""
    training: Training = Training()
    usd_per_hour: float | None = Field(None, ge=0)
    labels_usd: float | None = Field(None, ge=0)
    watts: float | None = Field(None, gt=0)
    kg_co2_per_kwh: float | None = Field(None, ge=0)
    pue: float = Field(1.0, ge=1)
    place: str = ""
    usage: str = ""
    limits: tuple[str, ...] = ()

    @property
    def entry(self) -> Entry | None:
        """The student's row of the evaluation; None without one.

        Raises
        ------
        InputError
            If there is a table without such a row.
        """
        if self.evaluation is None:
            return None
        found = next((entry for entry in self.evaluation.entries if entry.name == self.student), None)
        if found is None:
            names = ", ".join(entry.name for entry in self.evaluation.entries)
            raise InputError(f"the evaluation has no row {self.student!r}. It has {names}")
        return found

    @property
    def paid_for_labels(self) -> float | None:
        """Dollars of the labels; None where a dataset does not say [USD]."""
        if self.labels_usd is not None:
            return self.labels_usd
        paid = [_spent(card) for card in self.datasets]
        known = [usd for usd in paid if usd is not None]
        return sum(known) if paid and len(known) == len(paid) else None

    @property
    def carbon(self) -> Carbon | None:
        """What training took from the socket; None where time or power is not known."""
        if self.training.hours is None or self.watts is None:
            return None
        return carbon(self.training.hours, self.watts, self.kg_co2_per_kwh, pue=self.pue)


@dataclass(frozen=True)
class Carbon:
    """Energy [kWh], and carbon dioxide [kg]; None where the grid is not known."""

    kwh: float
    kg: float | None


def carbon(hours: float, watts: float, kg_co2_per_kwh: float | None, *, pue: float = 1.0) -> Carbon:
    """Energy and carbon dioxide of a training.

    Parameters
    ----------
    hours : of the machine [h].
    watts : its mean power while training [W].
    kg_co2_per_kwh : of the grid that feeds it [kg/kWh]; None where it is not known.
    pue : power usage effectiveness of its building, at least 1.

    Returns
    -------
    Carbon
        kWh = hours x watts / 1000 x PUE (Strubell et al., arXiv:1906.02243, equation 1), kg = kWh x kg per kWh (Lacoste
        et al., arXiv:1910.09700). Making the hardware is not in it.
    """
    kwh = hours * watts / 1000 * pue
    return Carbon(kwh, None if kg_co2_per_kwh is None else kwh * kg_co2_per_kwh)


def model_card(facts: CardFacts) -> str:
    """A page of a trained student, for its README.md.

    Parameters
    ----------
    facts : what is known.

    Returns
    -------
    str
        Markdown with YAML in front.

    Raises
    ------
    InputError
        If the evaluation has no row of this student.
    """
    terms = _applying(facts)
    parts = ["---\n" + "\n".join(_yaml(_front(facts))) + "\n---", f"# {plain(facts.name)}"]
    if facts.description:
        parts.append(plain(facts.description))
    parts += ["## What it is", _table(("", ""), _what(facts))]
    if facts.usage:
        parts += ["## How to ask it", fenced(facts.usage, "python")]
    parts += ["## How good it is", *_evaluation(facts)]
    parts += ["## What it learned from", *_data(facts)]
    parts += ["## Terms that apply", *(_terms(terms) if terms else [_NO_TERMS])]
    parts += ["## How it was trained", _table(("", ""), _training(facts.training))]
    if facts.recipe:
        recipe = facts.recipe if isinstance(facts.recipe, str) else _toml(facts.recipe)
        parts += ["Recipe:", fenced(recipe.rstrip("\n"), "toml")]
    parts += ["## What it cost", _table(("", ""), _cost(facts)), "## Carbon", _carbon(facts)]
    parts += ["## Limits", _list(_limits(facts))]
    parts += ["## Licence", plain(facts.licence) if facts.licence else _NO_LICENCE]
    return "\n\n".join(part for part in parts if part) + "\n"


_NO_TERMS = "None are known. Read those of the teacher's provider before you use this or pass it on."
_NO_LICENCE = "None is stated. What it started from has a licence of its own, and the terms above apply."


def _front(facts: CardFacts) -> dict[str, Any]:
    """Metadata as plain values; what would not be an id of the hub is told on the page alone."""
    front: dict[str, Any] = {}
    if facts.languages:
        front["language"] = list(facts.languages)
    front["license"] = facts.licence if _LICENCE_ID.fullmatch(facts.licence) else "other"
    front["library_name"] = facts.library
    front["pipeline_tag"] = facts.pipeline
    if HUB_ID.fullmatch(facts.base_model):
        front["base_model"] = facts.base_model
        front["base_model_relation"] = "adapter" if facts.adapter else "finetune"
    front["tags"] = ["distillcalc", "distillation"] + ([_slug(facts.technique)] if _slug(facts.technique) else [])
    datasets = [name for name in facts.dataset_ids if HUB_ID.fullmatch(name)]
    if datasets:
        front["datasets"] = datasets
    if facts.entry is not None and facts.evaluation is not None:
        results = _results(facts, facts.entry, facts.evaluation)
        front["metrics"] = list(dict.fromkeys(metric["type"] for result in results for metric in result["metrics"]))
        front["model-index"] = [{"name": facts.name, "results": results}]
    if facts.carbon is not None and facts.carbon.kg is not None:
        front["co2_eq_emissions"] = _emissions(facts, facts.carbon.kg)
    return front


def _results(facts: CardFacts, entry: Entry, table: FourWay) -> list[dict[str, Any]]:
    score, (low, high) = entry.score, entry.score.accuracy_interval
    data = facts.evaluation_data or table.task or "evaluation items"
    dataset = {"type": data if HUB_ID.fullmatch(data) else _slug(data) or "other", "name": data}
    if facts.evaluation_split:
        dataset["split"] = facts.evaluation_split
    seeds = f", mean of {score.seeds} seeds" if score.seeds > 1 else ""
    name = f"{table.metric} (95% interval {low:.3f} to {high:.3f}, {score.items} items{seeds})"
    kind = METRIC_IDS.get(table.metric, _slug(table.metric) or "other")
    metrics = [{"type": kind, "value": round(score.accuracy, 4), "name": name}]
    if score.macro_f1 is not None:
        metrics.append({"type": "f1", "value": round(score.macro_f1, 4), "name": "macro F1"})
    return [{"task": {"type": facts.pipeline, "name": facts.task or data}, "dataset": dataset, "metrics": metrics}]


def _emissions(facts: CardFacts, kg: float) -> dict[str, Any]:
    found = {
        "emissions": kg * 1000,  # grams, as the hub asks for
        "source": "distillcalc: hours x watts x PUE x grid intensity",
        "training_type": "fine-tuning",
    }
    if facts.place:
        found["geographical_location"] = facts.place
    if facts.training.hardware:
        found["hardware_used"] = facts.training.hardware
    return found


def _what(facts: CardFacts) -> Iterator[tuple[str, Any]]:
    yield "technique", facts.technique or NOT_KNOWN
    yield "task", facts.task or NOT_KNOWN
    yield "started from", _without_folders(facts.base_model) or NOT_KNOWN
    yield "weights", "adapters to what it started from" if facts.adapter else "all"
    takes = facts.entry.facts if facts.entry is not None else None
    yield "parameters", NOT_KNOWN if takes is None or takes.parameters is None else takes.parameters
    yield "size", NOT_KNOWN if takes is None or takes.bytes is None else f"{takes.bytes / 1e6:,.1f} MB"


def _evaluation(facts: CardFacts) -> Iterator[str]:
    if facts.evaluation is None:
        yield "It was not judged on items that people labelled: how good it is is not known."
        return
    split = f", {facts.evaluation_split}" if facts.evaluation_split else ""
    if facts.evaluation_data:
        yield f"Items: {plain(facts.evaluation_data + split)}."
    yield facts.evaluation.to_markdown()
    if facts.entry is not None and facts.entry.score.seeds > 1:
        kept = f"seed {facts.training.seeds[0]}" if facts.training.seeds else "one of them"
        yield f"Its figures are means over {facts.entry.score.seeds} seeds; these weights are of {kept}."
    yield (
        "Retention is the accuracy divided by the teacher's on the same items; agreement is the share of items with "
        "the teacher's answer, right or wrong. ECE is how far confidence and accuracy are apart, 0 at best."
    )


def _data(facts: CardFacts) -> Iterator[str]:
    rows: list[tuple[str, Any]] = [(f"used for {what}", f"{count:,} records") for what, count in facts.used.items()]
    if rows:
        yield _table(("", ""), rows)
    if not facts.datasets:
        yield "No dataset card was given." if not facts.dataset_ids else _list(facts.dataset_ids)
    for card in facts.datasets:
        records, spend, agreed = (card.get(key) or {} for key in ("records", "spend", "human_agreement"))
        told: list[tuple[str, Any]] = [
            ("dataset", card.get("name") or NOT_KNOWN),
            ("records", records.get("total", NOT_KNOWN)),
        ]
        told += [(f"split {split}", count) for split, count in (card.get("splits") or {}).items()]
        told += [("teacher", _teacher(teacher)) for teacher in card.get("teachers") or ()]
        if card.get("from"):
            told.append(("answered", f"{card['from']} to {card['to']}"))
        told.append(("spend on these records", _usd(spend.get("of_these_records_usd"))))
        if spend.get("actual_usd") is not None:
            told.append(("spend, answers that were thrown out included", _usd(spend["actual_usd"])))
        if agreed.get("judged"):
            told.append(("people agreed with the teacher on", f"{agreed['right']:,} of {agreed['judged']:,} records"))
        yield _table(("", ""), told)


def _teacher(teacher: Mapping[str, Any]) -> str:
    more = ", ".join(str(teacher[key]) for key in ("version", "host") if teacher.get(key))
    name = str(teacher.get("teacher") or NOT_KNOWN)
    return f"{name} ({more})" if more else name


def _applying(facts: CardFacts) -> list[Mapping[str, Any]]:
    if facts.terms is not None:
        return list(facts.terms)
    found: dict[str, Mapping[str, Any]] = {}
    for card in facts.datasets:
        for term in card.get("terms") or ():
            found[json.dumps(term, sort_keys=True, default=str)] = term
    return list(found.values())


def _training(training: Training) -> Iterator[tuple[str, Any]]:
    seconds = training.seconds
    yield "steps", NOT_KNOWN if training.steps is None else training.steps
    if training.epochs is not None:
        yield "epochs", f"{training.epochs:g}"
    together = f", {len(training.seeds)} seeds together" if len(training.seeds) > 1 else ""
    yield f"tokens{together}", NOT_KNOWN if training.tokens is None else training.tokens
    yield f"time{together}", NOT_KNOWN if seconds is None else f"{seconds:,.0f} s"
    if seconds and training.tokens is not None:
        yield "tokens/s", f"{training.tokens / seconds:,.0f}"
    for what, losses in (("training loss", training.losses), ("validation loss", training.validation_losses)):
        if losses:
            (first, before), (last, after), (at, best) = losses[0], losses[-1], min(losses, key=lambda pair: pair[1])
            yield what, f"{before:.4g} at step {first:,}, {after:.4g} at step {last:,}; least {best:.4g} at step {at:,}"
    yield "hardware", training.hardware or NOT_KNOWN
    yield "precision", training.precision or NOT_KNOWN
    yield "seeds", ", ".join(map(str, training.seeds)) or NOT_KNOWN
    yield "libraries", ", ".join(f"{name} {version}" for name, version in training.versions.items()) or NOT_KNOWN


def _cost(facts: CardFacts) -> Iterator[tuple[str, Any]]:
    labels, hours = facts.paid_for_labels, facts.training.hours
    training = None if hours is None or facts.usd_per_hour is None else hours * facts.usd_per_hour
    yield "labels", _usd(labels)
    if hours is not None:
        gpus = facts.training.gpus
        yield (f"{'GPU' if gpus else 'CPU'} hours", f"{hours * (gpus or 1):,.3g}")
    else:
        yield "hours", NOT_KNOWN
    yield "training", _usd(training) + ("" if facts.usd_per_hour is not None else ": give usd_per_hour of the machine")
    if labels is not None and training is not None:
        yield "together", _usd(labels + training)


def _carbon(facts: CardFacts) -> str:
    found = facts.carbon
    if found is None:
        missing = [
            name for name, value in (("watts", facts.watts), ("kg_co2_per_kwh", facts.kg_co2_per_kwh)) if not value
        ]
        give = " and ".join(missing) or "the time that training took"
        return f"Not known. It is hours x watts x PUE x kg of CO2 per kWh: give {give}."
    how = f"{facts.training.hours:,.3g} h x {facts.watts:,g} W x PUE {facts.pue:g} = {found.kwh:,.3g} kWh"
    if found.kg is None:
        return f"{how}. What the grid emits for that is not known: give kg_co2_per_kwh."
    where = f", in {plain(facts.place)}" if facts.place else ""
    return (
        f"{how}; x {facts.kg_co2_per_kwh:g} kg/kWh = {found.kg:,.3g} kg CO2{where}. Making the hardware, and the "
        "teacher's own work, are not in it."
    )


def _limits(facts: CardFacts) -> Iterator[str]:
    entry, table = facts.entry, facts.evaluation
    if entry is None or table is None:
        yield "No person's labels were held against it."
    else:
        yield f"Judged on {entry.score.items:,} items of one task: of other inputs and languages nothing is known."
        if entry.score.seeds == 1:
            yield "Judged with one seed: another training of the same recipe may be better or worse."
        if entry.score.ece is None:
            yield "Its calibration was not measured: do not take its probabilities for chances."
    judged = sum((card.get("human_agreement") or {}).get("judged", 0) for card in facts.datasets)
    if not judged:
        yield "How often the teacher's labels are right was not judged; it repeats their errors."
    else:
        yield "It repeats the errors of the teacher that labelled its data."
    yield from facts.limits


def _spent(card: Mapping[str, Any]) -> float | None:
    """Dollars of a dataset, answers that were thrown out included where that is known."""
    spend = card.get("spend") or {}
    usd = spend.get("actual_usd")
    return spend.get("of_these_records_usd") if usd is None else usd


def _usd(amount: float | None) -> str:
    from distillcalc.decide.words import usd

    return NOT_KNOWN if amount is None else usd(amount)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:96].strip("-")


def _without_folders(name: str) -> str:
    return PurePath(name).name if PurePath(name).is_absolute() else name


def _toml(values: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(_told(values))


def _told(value: Any, key: str = "") -> Any:
    """Without what is None, which TOML cannot say, and without the folders of whoever trained it."""
    if isinstance(value, Mapping):
        return {name: _told(inner, name) for name, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_told(inner, key) for inner in value if inner is not None]
    return _without_folders(value) if key in PATHS and isinstance(value, str) else value


def _yaml(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Nested mappings and lists in block style; every text is quoted."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield f"{indent}{key}:"
            yield from _yaml(inner, indent + "  ")
        elif isinstance(inner, list):
            yield f"{indent}{key}:"
            yield from _yaml_items(inner, indent)
        else:
            yield f"{indent}{key}: {_scalar(inner)}"


def _yaml_items(items: Iterable[Any], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Mapping):
            first, *rest = _yaml(item, indent + "  ")
            yield f"{indent}- {first.strip()}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.12f}".rstrip("0").rstrip(".") if abs(value) >= 1e-9 or not value else f"{value:.6e}"
    return yaml_text(value) if isinstance(value, str) else json.dumps(value)
