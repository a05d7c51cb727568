"""The file of a training: data, teacher, student, technique, objective and settings, as TOML.

What is built of it stands in :mod:`.run`; here is only what may be asked for, and what goes together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from distillcalc.distill.records import Strict
from distillcalc.distill.task import Task
from distillcalc.distill.training.recipe_checks import problems_of
from distillcalc.errors import InputError
from distillcalc.workload.files import parse_toml, read_text, validate
from distillcalc.workload.scenario import Use

Technique = Literal[
    "hard-label", "soft-label", "chain-of-thought", "feature-based", "on-policy", "chain", "self-distillation",
    "classifier",
]  # fmt: skip
Divergence = Literal["forward-kl", "reverse-kl", "jsd", "skewed-forward", "skewed-reverse", "uld"]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Data(Strict):
    """What the student learns from, and what it is judged by.

    Parameters
    ----------
    train : labelled datasets (what ``distillcalc label`` or ``label_locally`` wrote).
    inputs : files of rows without answers, such as ``distillcalc inputs`` writes: the teacher on this machine labels
        them.
    evaluation : rows that people labelled (.csv, .jsonl, .parquet), never trained on; ``human_label`` is the column of
        what they said, ``id`` of the rows' names.
    evaluation_answers : dataset of the teacher's answers to the evaluation rows, where its weights are elsewhere.
    limit, evaluation_limit : only so many records, and so many evaluation rows, from the start.
    validation_share : of the records, set aside to choose when to stop; near-duplicates stay together.
    system, prompt : what the student is asked, instead of what the teacher was: instructions and examples move into
        the weights.
    drop_evaluation_items : records that would give an evaluation item away are left out, and counted.
    """

    train: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    evaluation: str | None = None
    evaluation_answers: str | None = None
    human_label: str = "human_label"
    id: str | None = None
    limit: int | None = Field(None, ge=1)
    evaluation_limit: int | None = Field(None, ge=1)
    validation_share: float = Field(0.1, ge=0, lt=0.9)
    system: str | None = None
    prompt: str | None = None
    drop_evaluation_items: bool = True


class TeacherWeights(Strict):
    """A teacher whose weights are here: a folder or a hub name, and an adapter to be merged into it.

    Parameters
    ----------
    model, adapter : local folders or hub names.
    top_k : soft labels are cached once as the most likely so many tokens and the mass of the rest; left out, the
        teacher runs beside the student and every token counts.
    name : under which it stands in tables, and by which terms are looked up in the catalog.
    """

    model: str
    adapter: str | None = None
    top_k: int | None = Field(None, ge=1, le=4_096)
    name: str = ""


class Lora(Strict):
    """Low-rank adapters instead of all weights (Hu et al., arXiv:2106.09685)."""

    rank: int = Field(8, ge=1, le=1_024)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class Fresh(Strict):
    """A configuration of its own with random weights; what is left out is the base model's."""

    layers: int | None = Field(None, ge=1)
    hidden: int | None = Field(None, ge=1)
    intermediate: int | None = Field(None, ge=1)
    heads: int | None = Field(None, ge=1)
    kv_heads: int | None = Field(None, ge=1)
    experts: int | None = Field(None, ge=1)


class StudentStart(Strict):
    """What the student is before it learns; one of these.

    Parameters
    ----------
    model : a local folder or a hub name; left out, the teacher's own weights.
    layers : so many of its layers, evenly spaced, or the numbers of those that stay.
    fresh : a small configuration with random weights, of the family and with the tokenizer of ``model``.
    catalog : catalog id that it is: its shape must be the catalog's, so that calculator and trainer mean the same
        student. Given alone with ``fresh = {}``, the catalog's shape is built.
    lora : train adapters only.
    """

    model: str | None = None
    layers: int | tuple[int, ...] | None = None
    fresh: Fresh | None = None
    catalog: str | None = None
    lora: Lora | None = None

    @model_validator(mode="after")
    def _one_start(self) -> StudentStart:
        if self.layers is not None and self.fresh is not None:
            raise ValueError("give layers (of a trained model) or fresh (random weights), not both")
        kept = self.layers if isinstance(self.layers, tuple) else ()
        if isinstance(self.layers, int) and self.layers < 1:
            raise ValueError(f"layers must be at least 1. Got {self.layers}")
        if self.layers == ():
            raise ValueError("layers names no layer: give a number of layers, or the numbers of those that stay")
        if kept and (min(kept) < 0 or list(kept) != sorted(set(kept))):
            raise ValueError(f"layers must be numbers from 0 in rising order. Got {list(kept)}")
        return self


class Objective(Strict):
    """What is minimised: hard CE + soft T^2 D(teacher, student) + features + attention, per supervised token.

    Parameters
    ----------
    hard : weight of the cross-entropy with the teacher's text.
    soft : weight of the divergence from the teacher's distribution; ``temperature`` T of both; ``divergence``,
        ``beta`` (of jsd) and ``alpha`` (of the skewed ones) say which.
    soft_on : "answer", or "all" positions, the prompt's too.
    features : weight of hidden states through a learned projection; ``feature_loss`` says how they are compared;
        ``feature_layers`` pairs [student layer, teacher layer] from 1; left out, evenly spaced.
    attention : weight of KL(teacher's attention, student's), heads averaged.
    rationale : of a two-task chain of thought: (1 - rationale) CE(label | "predict") + rationale CE(rationale |
        "explain") (Hsieh et al., arXiv:2305.02301).
    two_task : the two-task form; else the chain stands before the answer as one target.
    on_policy : share of batches that the student writes itself (Agarwal et al., arXiv:2306.13649).
    max_new_tokens, sampling_temperature : of what it writes.
    """

    hard: float = Field(1.0, ge=0, allow_inf_nan=False)
    soft: float = Field(0.0, ge=0, allow_inf_nan=False)
    temperature: float = Field(1.0, gt=0, le=1_000, allow_inf_nan=False)
    divergence: Divergence = "forward-kl"
    beta: Share = 0.5
    alpha: Share = 0.1
    soft_on: Literal["answer", "all"] = "answer"
    features: float = Field(0.0, ge=0, allow_inf_nan=False)
    feature_loss: Literal["mse", "cosine", "normalised"] = "normalised"
    feature_layers: tuple[tuple[int, int], ...] | None = None
    attention: float = Field(0.0, ge=0, allow_inf_nan=False)
    rationale: Share = 0.5
    two_task: bool = True
    on_policy: Share = 0.5
    max_new_tokens: int = Field(64, ge=1)
    sampling_temperature: float = Field(1.0, gt=0)

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's distributions or hidden states are asked for."""
        return bool(self.soft or self.features or self.attention)


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "hard-label": {"hard": 1.0, "soft": 0.0},
    "soft-label": {"hard": 0.5, "soft": 0.5, "temperature": 2.0},
    "chain-of-thought": {"hard": 1.0, "soft": 0.0},
    "feature-based": {"hard": 0.5, "soft": 0.5, "features": 1.0},
    "on-policy": {"hard": 0.0, "soft": 1.0, "divergence": "jsd"},
    "chain": {"hard": 0.5, "soft": 0.5, "temperature": 2.0},
    "self-distillation": {"hard": 0.5, "soft": 0.5, "temperature": 2.0},
    "classifier": {"hard": 1.0, "soft": 0.0},
}


def technique_defaults(technique: str, *, api: bool = False) -> dict[str, Any]:
    """What a technique sets of its objective; an API gives the top of its distribution as it is, at temperature 1."""
    found = dict(DEFAULTS.get(technique, {}))
    return found | {"temperature": 1.0} if api and technique == "soft-label" else found


def _with_defaults(given: Any, *, api: bool = False) -> Any:
    """Plain values of something that has a technique and an objective, with what the technique sets."""
    if not isinstance(given, dict):
        return given
    objective = given.get("objective", {})
    if isinstance(objective, Objective):  # what was said of it counts, and not what it filled in
        objective = objective.model_dump(exclude_unset=True)
    if not isinstance(objective, dict):
        return given
    return {**given, "objective": {**technique_defaults(str(given.get("technique")), api=api), **objective}}


class Settings(Strict):
    """How the training runs.

    Parameters
    ----------
    epochs, steps, tokens : passes over the records; or optimizer steps; or tokens, so that techniques whose sequences
        differ in length or number learn from as many.
    batch_size : sequences per optimizer step; they are run in parts of ``micro_batch`` (left out: what fits).
    learning_rate, warmup, weight_decay, max_grad_norm, schedule : of AdamW; warmup is a share of the steps.
    seeds : the student is trained once for each; the first is kept.
    max_length : longest sequence [tokens]; longer ones are left out, and counted.
    packing : sequences of a batch stand in one row without padding.
    evaluations : how often the validation loss is taken; ``patience`` of them without a gain end the training, and the
        best weights are kept.
    checkpoints : how many checkpoints a training writes; after a kill it goes on from the last whole one.
    precision : "auto" is bf16 on a GPU that has it, else fp32.
    gradient_checkpointing : less memory for a third more computing.
    """

    epochs: float = Field(3.0, gt=0, le=10_000)
    steps: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    batch_size: int = Field(16, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    learning_rate: float = Field(5e-4, gt=0, allow_inf_nan=False)
    warmup: Share = 0.06
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(1.0, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    max_length: int = Field(1_024, ge=8)
    packing: bool = False
    evaluations: int = Field(4, ge=0)
    patience: int | None = Field(None, ge=1)
    checkpoints: int = Field(4, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _goes_together(self) -> Settings:
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise ValueError(
                f"batch_size must be a multiple of micro_batch. Got {self.batch_size} and {self.micro_batch}"
            )
        if self.steps is not None and self.tokens is not None:
            raise ValueError("give steps or tokens, not both")
        if self.patience is not None and not self.evaluations:
            raise ValueError("patience counts evaluations: set evaluations above 0")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ. Got {list(self.seeds)}")
        return self


class Against(Strict):
    """Another technique that is trained on the same records, to be held against the recipe's.

    Parameters
    ----------
    technique : hard-label, soft-label, chain-of-thought, feature-based or on-policy.
    name : of its row and folder; left out, the technique's. Letters, digits, dots, hyphens and spaces.
    objective : what it leaves out is the technique's.
    """

    technique: Literal["hard-label", "soft-label", "chain-of-thought", "feature-based", "on-policy"]
    name: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._ -]{0,59})?$")
    objective: Objective = Objective()

    @model_validator(mode="before")
    @classmethod
    def _technique_defaults(cls, given: Any) -> Any:
        return _with_defaults(given)


class Hop(Strict):
    """One assistant of a progressive chain: how many of the teacher's layers it keeps, or another start."""

    layers: int | None = Field(None, ge=1)
    start: StudentStart | None = None

    @model_validator(mode="after")
    def _one_start(self) -> Hop:
        if (self.layers is None) == (self.start is None):
            raise ValueError("give layers (of the model before it) or start (a table as [student]), one of them")
        return self

    @property
    def student(self) -> StudentStart:
        """The start of this hop's student."""
        return self.start or StudentStart(layers=self.layers)


class Costs(Strict):
    """What is needed to tell dollars and carbon; what is not given stays unknown.

    Parameters
    ----------
    usd_per_hour : of this machine. labels_usd : of the labels, where no dataset card says.
    watts : of this machine while it trains; kg_co2_per_kwh : of its grid; pue : of its building.
    """

    usd_per_hour: float | None = Field(None, ge=0)
    labels_usd: float | None = Field(None, ge=0)
    watts: float | None = Field(None, gt=0)
    kg_co2_per_kwh: float | None = Field(None, ge=0)
    pue: float = Field(1.0, ge=1)


class Recipe(Strict):
    """Everything that ``distillcalc train RECIPE.toml`` reads.

    Parameters
    ----------
    name : of the run and its folder.
    technique : how the student is made; it sets what ``objective`` leaves out (:data:`DEFAULTS`).
    task : the task that was labelled (``[task]``, or ``task_file``, a file of ``distillcalc label``).
    hops : of a chain: the assistants and, last, the student. generations : of self-distillation.
    compare : also train the student on the labels alone, for the four-way table.
    against : other techniques that are trained on the same records, by the same ``training``; with its ``tokens`` on as
        many.
    use : what the student is for; the teacher's terms are checked by it.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,79}$")
    technique: Technique
    task_file: str | None = None
    task: Task | None = None
    data: Data
    teacher: TeacherWeights | None = None
    student: StudentStart = StudentStart()
    objective: Objective = Objective()
    training: Settings = Settings()
    hops: tuple[Hop, ...] = ()
    against: tuple[Against, ...] = ()
    generations: int = Field(1, ge=1, le=10)
    compare: bool = True
    use: Use | None = None
    accept_unclear_terms: bool = False
    costs: Costs = Costs()

    @model_validator(mode="before")
    @classmethod
    def _technique_defaults(cls, given: Any) -> Any:
        """What the technique stands for, under what the file says."""
        if not isinstance(given, dict):
            return given
        api = not given.get("teacher")
        found = _with_defaults(given, api=api)
        if api and isinstance(given.get("against"), (list, tuple)):
            found["against"] = [_with_defaults(other, api=True) for other in given["against"]]
        return found

    @model_validator(mode="after")
    def _goes_together(self) -> Recipe:
        found = [
            InitErrorDetails(type=PydanticCustomError("value_error", "{said}", {"said": said}), loc=at, input=None)
            for at, said in problems_of(self)
        ]
        if found:
            raise ValidationError.from_exception_data("recipe", found)
        return self

    @classmethod
    def of(cls, **values: Any) -> Recipe:
        """A recipe from keywords; raises :class:`~distillcalc.errors.InputError` that names what is wrong.

        Parameters
        ----------
        values : the fields; tables as mappings or as what they are here.
        """
        return validate(cls, values)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe; what is wrong is told with its line. Relative paths start at the file's folder.

        Raises
        ------
        InputError
            If there is no such file, it is not TOML, or a value in it cannot be right.
        """
        file = Path(path)
        if not file.is_file():
            raise InputError(f"no recipe {str(file)!r}. It is TOML with name, technique, [data], [student] and [task]")
        text = read_text(file)
        return validate(cls, parse_toml(text, file.name), text=text, file=file.name).at(file.parent)

    def at(self, folder: Path) -> Recipe:
        """The same recipe with its relative paths taken from a folder; a name that is no path there stays a name."""

        def of_file(name: str) -> str:
            return str(folder / name) if not Path(name).is_absolute() else name

        def of_model(name: str | None) -> str | None:
            return str(folder / name) if name and (folder / name).is_dir() else name

        data = self.data.model_copy(
            update={
                "train": tuple(map(of_file, self.data.train)),
                "inputs": tuple(map(of_file, self.data.inputs)),
                "evaluation": of_file(self.data.evaluation) if self.data.evaluation else None,
                "evaluation_answers": of_file(self.data.evaluation_answers) if self.data.evaluation_answers else None,
            }
        )
        update: dict[str, Any] = {
            "data": data,
            "student": self.student.model_copy(update={"model": of_model(self.student.model)}),
        }
        if self.hops:
            update["hops"] = tuple(
                hop.model_copy(update={"start": hop.start.model_copy(update={"model": of_model(hop.start.model)})})
                if hop.start is not None
                else hop
                for hop in self.hops
            )
        if self.task_file:
            update["task_file"] = of_file(self.task_file)
        if self.teacher:
            update["teacher"] = self.teacher.model_copy(
                update={"model": of_model(self.teacher.model), "adapter": of_model(self.teacher.adapter)}
            )
        return self.model_copy(update=update)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without what the defaults and the technique's defaults would say again."""
        plain = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        pairs: list[tuple[Recipe | Against, dict[str, Any]]] = [(self, plain)]
        pairs += zip(self.against, plain.get("against", ()), strict=True)
        for held, said in pairs:
            usual = Objective(**technique_defaults(held.technique, api=self.teacher is None))
            own = held.objective.model_dump(mode="json", exclude_none=True)
            own = {name: value for name, value in own.items() if getattr(usual, name) != getattr(held.objective, name)}
            said.pop("objective", None)
            if own:
                said["objective"] = own
        return plain

    def to_toml(self) -> str:
        """The recipe as a file that :meth:`load` reads back as it is."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    @property
    def asked(self) -> Task:
        """The task, from the table or from the file that was labelled."""
        if self.task is not None:
            return self.task if self.use is None else self.task.model_copy(update={"use": self.use})
        from distillcalc.distill.spec import LabelSpec

        task = LabelSpec.load(str(self.task_file)).task
        return task if self.use is None else task.model_copy(update={"use": self.use})
