"""What the demo found, from the first decision to the last: one JSON file, of which the report is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from distillcalc.distill.records import Strict
from distillcalc.errors import InputError

SCHEMA_VERSION = 1


class DemoResult(Strict):
    """Everything that the demo's steps brought, as plain values.

    Parameters
    ----------
    created : UTC, ISO 8601.
    small : run with small settings, as tests do: its numbers say little.
    machine : :func:`distillcalc.benchmark.machine.describe_machine`.
    teacher : who answered: {"name", "played_by", "sentence"}; ``played_by`` is empty where the model itself did.
    seconds : by step, in their order.
    traffic : ``WorkloadProfile.to_dict()`` of the log.
    decision : ``Decision.to_dict()``, before anything was measured.
    labelling : {"rows", "valid", "right", "calls", "forecast_usd", "actual_usd", "price", "seconds"}; ``right`` of
        ``valid`` answers by the author's labels, which the student never sees.
    training : ``TrainRun.to_dict()``: the four-way table, gains, notes.
    quality : (right, of how many) on the test messages, by "teacher" and "student".
    benchmarks : ``Record`` as plain values, by "teacher" and "student".
    validation : ``Validation.to_dict()``, and its ``sentences``.
    routing : ``route.fit.Fitted.to_dict()`` of the router between student and teacher; its ``verdict`` and ``goal`` in
        words; its ``folder`` beside this file; and ``certifying``, the messages it was certified on, as ``score``,
        ``student_right`` and ``teacher_right`` in one order. Empty in results that are older than the step.
    redecision : ``Redecision.to_dict()``.
    after : ``Decision.to_dict()`` with what was measured.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    small: bool = False
    machine: dict[str, Any]
    teacher: dict[str, str]
    seconds: dict[str, float]
    traffic: dict[str, Any]
    decision: dict[str, Any]
    labelling: dict[str, Any]
    training: dict[str, Any]
    quality: dict[str, tuple[int, int]]
    benchmarks: dict[str, dict[str, Any]]
    validation: dict[str, Any]
    routing: dict[str, Any] = Field(default_factory=dict)
    redecision: dict[str, Any]
    after: dict[str, Any]

    def save(self, file: str | Path) -> Path:
        """Write it as JSON."""
        path = Path(file)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, file: str | Path) -> DemoResult:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If there is no such file, or it is not such a result.
        """
        try:
            return cls.model_validate_json(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the demo's result {file}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{file} is no result of the demo. {where}: {first['msg']}") from error
