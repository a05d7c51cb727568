"""The file of a labelling: task, inputs, teacher, limits, privacy, use, filters and prices, as TOML."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from distillcalc.catalog import Catalog
from distillcalc.distill.planning import CALLS_IN_FLIGHT, LabelPlan, plan_labels
from distillcalc.distill.probe import PROBE_ROWS
from distillcalc.distill.recipe import Filters
from distillcalc.distill.records import Strict
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Privacy, Teacher
from distillcalc.errors import InputError
from distillcalc.workload.files import parse_toml, read_text, validate
from distillcalc.workload.scenario import Use


class Inputs(Strict):
    """Which rows: a file beside the task's, which column names them, and which one people labelled.

    Parameters
    ----------
    file : .jsonl, .csv or .parquet; relative to the task's file.
    id : column that names a row; left out, its number.
    human_label : column of what a person says is right; the teacher is never shown it.
    limit : only so many rows from the start.
    """

    file: str
    id: str | None = None
    human_label: str | None = None
    limit: int | None = Field(None, ge=1)


class Labelling(Strict):
    """How it is carried out.

    Parameters
    ----------
    budget_usd : ceiling of the run [USD].
    engine : "live", or "batch" for the Batch API.
    concurrency : calls in flight at the most.
    probe : rows to try first.
    tokenizer : a local tokenizer.json (relative to the task's file) or the name of a tiktoken encoding, to count with
        before anything is sent.
    attempts, patience_s : how often a call may fail, and how long nothing may be answered.
    """

    budget_usd: Decimal = Field(ge=0, allow_inf_nan=False)
    engine: Literal["live", "batch"] = "live"
    concurrency: int = Field(CALLS_IN_FLIGHT, ge=1, le=4_096)
    probe: int = Field(PROBE_ROWS, ge=0, le=1_000)
    tokenizer: str | None = None
    attempts: int = Field(5, ge=1, le=100)
    patience_s: float = Field(900.0, gt=0, le=86_400)

    @field_validator("budget_usd", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return str(value) if isinstance(value, float) else value  # 0.1 is a tenth, not its nearest float


class LabelSpec(Strict):
    """Everything that ``distillcalc label TASK.toml`` reads."""

    task: Task
    inputs: Inputs
    teacher: Teacher
    labelling: Labelling
    privacy: Privacy = Privacy()
    use: Use | None = None
    filters: Filters = Filters()
    overrides: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> LabelSpec:
        """Read a task file; what is wrong is told with its line.

        Raises
        ------
        InputError
            If there is no such file, it is not TOML, or a value in it cannot be right.
        """
        file = Path(path)
        if not file.is_file():
            raise InputError(f"no task file {str(file)!r}. It is TOML with [task], [inputs], [teacher] and [labelling]")
        text = read_text(file)
        spec = validate(cls, parse_toml(text, file.name), text=text, file=file.name)
        inside = Path(spec.inputs.file)
        if not inside.is_absolute():
            inputs = spec.inputs.model_copy(update={"file": str(file.parent / inside)})
            spec = spec.model_copy(update={"inputs": inputs})
        tokenizer = file.parent / (spec.labelling.tokenizer or "")
        if spec.labelling.tokenizer and tokenizer.is_file():
            labelling = spec.labelling.model_copy(update={"tokenizer": str(tokenizer)})
            spec = spec.model_copy(update={"labelling": labelling})
        if spec.use is not None:
            spec = spec.model_copy(update={"task": spec.task.model_copy(update={"use": spec.use})})
        return spec

    @property
    def rows(self) -> Rows:
        """The rows to label."""
        return Rows(self.inputs.file, self.inputs.id, self.inputs.human_label, self.inputs.limit)

    def catalog(self, rows: dict[str, Any] | None = None) -> Catalog:
        """The catalog with ``rows`` and then the file's own over it."""
        shipped = Catalog.load()
        return (shipped.with_overrides(rows) if rows else shipped).with_overrides(self.overrides)

    def plan(self, catalog: Catalog | None = None, **options: Any) -> LabelPlan:
        """The plan that this file describes; see :func:`.planning.plan_labels`."""
        return plan_labels(
            self.task, self.teacher, self.rows, privacy=self.privacy, catalog=catalog or self.catalog(),
            concurrency=self.labelling.concurrency, tokenizer=self.labelling.tokenizer, **options,
        )  # fmt: skip
