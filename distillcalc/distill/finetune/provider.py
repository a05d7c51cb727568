"""What every fine-tuning service is asked for, and what it answers, whoever it is.

Each service has a module of its own (:mod:`.openai_api`, :mod:`.together_api`); :mod:`.run` knows only this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from distillcalc.errors import DistillcalcError

Status = Literal[
    "validating", "queued", "running", "paused", "cancelling", "succeeded", "failed", "cancelled", "unknown"
]
FINAL: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
MARK = "distillcalc_run"  # key of a job's metadata, and start of a file's name, that tell whose they are


class ProviderError(DistillcalcError, RuntimeError):
    """A fine-tuning service refused, failed, or could not be heard.

    Parameters
    ----------
    message : what was asked, and what came back; never a key.
    status : HTTP status; None where no answer came.
    code : the service's own code, such as "invalid_training_file".
    lost : whether the request may have been carried out all the same.
    retry_after_s : how long the service asks to wait [s].
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        lost: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.lost, self.retry_after_s = status, code, lost, retry_after_s

    @property
    def passing(self) -> bool:
        """Whether the same request may do later: rate limits, servers in trouble, lost answers."""
        if self.code in ("insufficient_quota", "billing_hard_limit_reached"):
            return False
        return self.lost or self.status is None or self.status in (408, 429) or self.status >= 500


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, in the service's words: its code, its message, the parameter it speaks of."""

    code: str
    message: str
    parameter: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.code else self.message


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning job as the service tells of it.

    Parameters
    ----------
    id : the service's id of the job.
    status : where it stands; ``service_status`` is the service's own word.
    model : the base model.
    fine_tuned_model : name of the result; None until there is one.
    created, finished, estimated_finish : UTC; None where the service does not say.
    trained_tokens : tokens billed, all epochs; None until they are counted.
    billed_usd : what the service says that the job costs; None where it does not say.
    error : why it failed.
    training_file, validation_file : ids of the files.
    mark : the fingerprint of the run that made it, as far as the service gave it back.
    """

    id: str
    status: Status
    service_status: str
    model: str
    fine_tuned_model: str | None = None
    created: datetime | None = None
    finished: datetime | None = None
    estimated_finish: datetime | None = None
    trained_tokens: int | None = None
    billed_usd: float | None = None
    error: JobError | None = None
    training_file: str = ""
    validation_file: str = ""
    mark: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in FINAL

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, times in ISO 8601."""
        return plain(self)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's log: what happened, when, how grave, with the service's own data."""

    id: str
    message: str
    level: str = "info"
    kind: str = ""
    at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, times in ISO 8601."""
        return plain(self)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the model that the service kept: the step it is of, its name if it can be called, its metrics."""

    id: str
    step: int
    model: str | None = None
    at: datetime | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, times in ISO 8601."""
        return plain(self)


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file that the service holds: its id, its name there, its size [bytes]."""

    id: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job is made from: the ids of the uploaded files, the settings, and the run's fingerprint."""

    model: str
    training_file: str
    fingerprint: str
    validation_file: str | None = None
    epochs: int = 3
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    learning_rate: float | None = None
    lora: bool = True
    lora_rank: int | None = None
    evaluations: int = 0
    suffix: str = ""
    seed: int | None = None


class FineTuneProvider(Protocol):
    """A fine-tuning service. What only reads is repeated by itself where that may help; what makes a thing is not."""

    @property
    def host(self) -> str:
        """The server's host name."""

    def upload(self, path: Path, *, name: str) -> UploadedFile:
        """Send a training file once, under a name; raises :class:`ProviderError`."""

    def files(self) -> Iterable[UploadedFile]:
        """The files that the service holds for fine-tuning."""

    def estimate_usd(self, request: JobRequest) -> float | None:
        """The service's own price of a job that is not yet made [USD]; None where it gives none."""

    def create(self, request: JobRequest) -> Job:
        """Make a job, asking once; raises :class:`ProviderError`, ``lost`` where it may have been made all the same."""

    def retrieve(self, id: str) -> Job:
        """How a job stands."""

    def events(self, id: str, after: str | None = None) -> Sequence[Event]:
        """A job's log, oldest first; only what came after the event with the id ``after``."""

    def checkpoints(self, id: str) -> Sequence[Checkpoint]:
        """The states of the model that are kept, earliest first."""

    def cancel(self, id: str) -> Job:
        """Ask for a job to be stopped."""

    def list(self) -> Iterable[Job]:
        """The jobs of this account."""

    def usable(self, model: str) -> bool:
        """Whether a model answers: one request of a token."""

    def close(self) -> None:
        """Let the connections go."""


def plain(told: Job | Event | Checkpoint) -> dict[str, Any]:
    """What a service told, as plain values for JSON: times in ISO 8601."""

    def value(given: Any) -> Any:
        return given.isoformat() if isinstance(given, datetime) else given

    return {key: value(given) for key, given in asdict(told).items()}
