"""What one fine-tune will be: its files looked over, its cost forecast, what speaks against it. Nothing is sent."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from distillcalc.catalog import Catalog
from distillcalc.distill.finetune.forecast import (
    Forecast,
    Notice,
    TrainingFileCheck,
    TrainingFileFacts,
    budget_notices,
    closing_notices,
    forecast,
)
from distillcalc.distill.finetune.spec import FineTuneSpec
from distillcalc.distill.finetune.terms import terms_notices
from distillcalc.errors import InputError

Terms = Callable[[FineTuneSpec, Catalog], Sequence[Notice]]
SHOWN = 3  # problems of a file


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file that will be sent: what for, its size [bytes], its SHA-256, its examples and tokens of one epoch."""

    what: str
    path: Path
    size: int
    sha256: str
    rows: int
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"path": str(self.path)}


@dataclass(frozen=True, slots=True)
class Plan:
    """A fine-tune before it is made: the spec, its files, the forecast, and what to know first."""

    spec: FineTuneSpec
    files: tuple[FilePlan, ...]
    forecast: Forecast
    notices: tuple[Notice, ...]

    @property
    def refusals(self) -> tuple[Notice, ...]:
        """What keeps the job from being made."""
        return tuple(notice for notice in self.notices if notice.level == "refuse")

    def refuse(self) -> None:
        """Raise :class:`InputError` with every refusal and its source, where there is one."""
        if self.refusals:
            raise InputError(
                "\n".join(
                    f"not made: {notice.words}{f' ({notice.source})' if notice.source else ''}"
                    for notice in self.refusals
                )
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "spec": self.spec.to_dict(),
            "files": [file.to_dict() for file in self.files],
            "forecast": self.forecast.to_dict(),
            "notices": [notice.to_dict() for notice in self.notices],
        }


def make_plan(
    spec: FineTuneSpec,
    *,
    catalog: Catalog | None = None,
    check: TrainingFileCheck | None = None,
    terms: Terms | None = None,
    today: date | None = None,
) -> Plan:
    """Look the files over, forecast the cost and collect what speaks against a fine-tune; nothing is sent.

    Parameters
    ----------
    spec : what is to be made.
    catalog : prices and closing dates; left out, the shipped one.
    check : looks a training file over; left out, the package's own.
    terms : a check of the teacher's terms, whose notices are added; left out, the catalog's.
    today : the day on which the job would be made.

    Raises
    ------
    InputError
        If a file cannot be read. What is only wrong in it is among the notices.
    """
    catalog = catalog or Catalog.load()
    check = check or default_check()
    files, notices = [], []
    for what, path in (("training", spec.training_file), ("validation", spec.validation_file)):
        if path is None:
            continue
        size, sha256 = _read(path)
        facts = check(path, epochs=1)
        files.append(FilePlan(what, path.resolve(), size, sha256, facts.rows, facts.billed_tokens))
        notices += _file_notices(what, path.name, facts)
    tokens = {file.what: file.tokens for file in files}
    made = forecast(catalog, spec, tokens_per_epoch=tokens["training"], validation_tokens=tokens.get("validation", 0))
    notices += closing_notices(catalog, spec, today=today or date.today())
    notices += budget_notices(spec, made)
    notices += (terms or terms_notices)(spec, catalog)
    return Plan(spec, tuple(files), made, tuple(notices))


def _file_notices(what: str, name: str, facts: TrainingFileFacts) -> list[Notice]:
    """What is wrong with a file, and what is likely a mistake.

    OpenAI's least number of examples is of training files ("Training file has 3 example(s), but must have at least
    10"); of a validation file that is too short for it we only warn.
    """
    problems = list(facts.problems)
    codes = {getattr(problem, "code", "") for problem in problems}
    found = []
    if what == "validation" and codes == {"too_few_examples"} and facts.rows:
        found.append(
            Notice("warn", f"{name} has {facts.rows} examples: few to validate with, and a service may refuse it")
        )
    elif problems or not facts.ok:
        found.append(Notice("warn" if facts.ok else "refuse", f"{name}: {_listed(problems, facts, 'problem')}"))
    warnings = list(getattr(facts, "warnings", ()))
    if warnings:
        found.append(Notice("warn", f"{name}: {_listed(warnings, facts, 'warning')}"))
    if getattr(facts, "tokens_are_estimated", False) and what == "training":
        found.append(Notice("note", "tokens are estimated as 4 bytes each; the service counts its own"))
    return found


def _listed(notes: Sequence[Any], facts: TrainingFileFacts, kind: str) -> str:
    """The first few of a report's problems or warnings, and how many more there are."""
    more = max(getattr(facts, f"{kind}_count", 0), len(notes)) - SHOWN
    return ("; ".join(map(str, notes[:SHOWN])) or "it does not fit") + (f" (and {more:,} more)" if more > 0 else "")


def fingerprint() -> str:
    """A new run's mark, by which its job and its files are found again; short enough for a suffix."""
    return secrets.token_hex(8)


def default_check() -> TrainingFileCheck:
    """The package's own check of a training file."""
    module = import_module("distillcalc.distill.training_file")
    return cast(TrainingFileCheck, module.check_training_file)


def _read(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return size, digest.hexdigest()
