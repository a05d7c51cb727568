"""What a run tells: its steps while it goes on, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillcalc.distill.finetune.forecast import Bill, Forecast
from distillcalc.distill.finetune.provider import Event, Job
from distillcalc.errors import DistillcalcError


class JobFailed(DistillcalcError):
    """A job ended without a model: it failed, or was cancelled; ``job`` tells how."""

    def __init__(self, job: Job) -> None:
        self.job = job
        why = f": {job.error}" if job.error else ""
        super().__init__(f"job {job.id} {job.status}{why}. A run of another name makes a new job")


class StillRunning(DistillcalcError):
    """The deadline of this call passed and the job goes on; the same call waits on. ``job`` is its last state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id} is still {job.service_status or job.status}: run it again to wait on")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a run: which, in words, and the job or event that it tells of."""

    stage: str
    words: str
    job: Job | None = None
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A finished fine-tune: the model's name, whether it answered, the job, what was forecast and what it cost."""

    name: str
    folder: Path
    model: str
    usable: bool
    job: Job
    forecast: Forecast
    bill: Bill

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "model": self.model,
            "usable": self.usable,
            "job": self.job.to_dict(),
            "forecast": self.forecast.to_dict(),
            "bill": self.bill.to_dict(),
        }
