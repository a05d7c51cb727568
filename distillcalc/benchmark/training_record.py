"""What one optimizer step of a distillation took, as a JSON file of its own beside the records of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, get_args

from pydantic import Field, ValidationError

from distillcalc.distill.records import Strict
from distillcalc.errors import InputError

SCHEMA_VERSION: Final = 1
Technique = Literal["hard-label", "soft-label", "chain-of-thought", "feature-based"]
TECHNIQUES: tuple[Technique, ...] = get_args(Technique)
FLOPS_LEARNING, FLOPS_READING = 6.0, 2.0  # a parameter and token, forwards and back; forwards alone


class TrainingStep(Strict):
    """What one step of a distillation took.

    Parameters
    ----------
    schema_version, kind : of this file.
    name : of the measurement, and of its file.
    created : when it ended (ISO 8601, UTC).
    technique : of the distillation.
    student, teacher : catalog ids of the shapes; no teacher where the technique reads none in the step.
    parameters, teacher_parameters : how many there are, shared ones once; 0 without a teacher.
    device : "cuda" or "cpu". precision : of the products.
    objective : what is minimised.
    sequences : of a step, all at once. tokens : of them, padding not counted; padding : tokens of it.
    supervised : of the tokens, those of answers.
    seconds : of each step, from batch on the host to changed weights [s]; the device had finished.
    warm_up : steps before them that are not counted.
    terms : of the loss in the first step, each with its weight, and their sum: "hard", "soft", "features", "loss".
    peak_bytes : memory at the peak, with weights, gradients, moments, activations and the teacher.
    peak_how : how it was found.
    machine : see :func:`distillcalc.benchmark.machine.describe_machine`.
    notes : what a person should know.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["training-step"] = "training-step"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,119}$")
    created: str
    technique: Technique
    student: str
    teacher: str = ""
    parameters: int = Field(ge=1)
    teacher_parameters: int = Field(0, ge=0)
    device: Literal["cuda", "cpu"]
    precision: Literal["bf16", "fp32"]
    objective: dict[str, Any]
    sequences: int = Field(ge=1)
    tokens: int = Field(ge=1)
    padding: int = Field(ge=0)
    supervised: int = Field(ge=1)
    seconds: tuple[float, ...] = Field(min_length=1)
    warm_up: int = Field(ge=0)
    terms: dict[str, float]
    peak_bytes: int = Field(ge=0)
    peak_how: str
    machine: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def seconds_per_step(self) -> float:
        """The middle one [s]."""
        return median(self.seconds)

    @property
    def tokens_per_s(self) -> float:
        """Tokens learnt from in a second, padding not counted."""
        return self.tokens / self.seconds_per_step

    @property
    def flop_per_s(self) -> float:
        """Useful arithmetic: (6 parameters + 2 of the teacher's) x tokens / s [FLOP/s].

        A token takes about 2 operations a parameter forwards and 4 back (Kaplan et al., arXiv:2001.08361, section 2.1);
        over the device's peak this is the MFU that costs of trainings are computed with.
        """
        each = FLOPS_LEARNING * self.parameters + FLOPS_READING * self.teacher_parameters
        return each * self.tokens_per_s

    def save(self, folder: str | Path) -> Path:
        """Write NAME.json, whole or not at all; returns the file.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        file = Path(folder) / f"{self.name}.json"
        part = file.with_name(file.name + ".part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")
            part.replace(file)
        except OSError as error:
            raise InputError(f"cannot write the training step to {folder}: {error.strerror}") from error
        return file

    @classmethod
    def load(cls, path: str | Path) -> TrainingStep:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If it cannot be read, or is no such file of this version.
        """
        file = Path(path)
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the training step {file}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(
                f"{file} is no training step of version {SCHEMA_VERSION}: {where}: {first['msg']}"
            ) from error
