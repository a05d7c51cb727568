"""Together AI's fine-tuning API.

Sources: docs.together.ai/reference/upload-file (POST /files/upload), docs.together.ai/reference/post-fine-tunes and
post-fine-tunes-estimate-price, docs.together.ai/docs/fine-tuning/pricing; the request and answer types of
togethercomputer/together-py (resources/fine_tuning.py, types/fine_tuning_list_response.py, types/finetune_event.py,
types/fine_tuning_list_checkpoints_response.py). That ``total_price`` is in billionths of a dollar is said by users of
that client only: the reference does not say its unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distillcalc.distill.finetune.calls import Calls, moment
from distillcalc.distill.finetune.openai_api import answers
from distillcalc.distill.finetune.provider import (
    Checkpoint,
    Event,
    Job,
    JobError,
    JobRequest,
    ProviderError,
    Status,
    UploadedFile,
)

BASE_URL = "https://api.together.ai/v1"
KEY_ENV = "TOGETHER_API_KEY"
JOBS = "/fine-tunes"
STATUSES: Mapping[str, Status] = {
    "pending": "queued",
    "queued": "queued",
    "running": "running",
    "compressing": "running",
    "uploading": "running",
    "cancel_requested": "cancelling",
    "cancelled": "cancelled",
    "error": "failed",
    "user_error": "failed",
    "completed": "succeeded",
}
LONGEST_SUFFIX = 40  # of the client; the API takes 64
MARKED = "dc"  # before the fingerprint in a suffix
RANK = 8  # of LoRA, where none is asked for
USD_PER_UNIT = 1e-9  # of total_price

Rows = list[dict[str, Any]]


class TogetherFineTuning:
    """Files and fine-tuning jobs of Together's API; a job carries its run's fingerprint in its suffix.

    Parameters
    ----------
    calls : the connection.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def host(self) -> str:
        """The server's host name."""
        return self._calls.host

    def close(self) -> None:
        """Let the connections go."""
        self._calls.close()

    def upload(self, path: Path, *, name: str) -> UploadedFile:
        """Send a training file once, under a name; raises :class:`ProviderError`."""
        kind = "parquet" if path.suffix == ".parquet" else "jsonl"
        fields = {"purpose": "fine-tune", "file_name": name, "file_type": kind}
        return _file(self._calls.upload("/files/upload", path, name=name, fields=fields))

    def files(self) -> Iterator[UploadedFile]:
        """The files that the service holds for fine-tuning."""
        return (_file(item) for item in self._data("/files") if item.get("purpose") in (None, "fine-tune"))

    def estimate_usd(self, request: JobRequest) -> float | None:
        """The service's own price of a job that is not yet made [USD]; None where it gives none."""
        wanted = (
            "training_file", "validation_file", "model", "n_epochs", "n_evals", "training_type", "training_method",
        )  # fmt: skip
        body = {key: value for key, value in self.body(request).items() if key in wanted}
        try:
            answer = self._calls.post(f"{JOBS}/estimate-price", body)
        except ProviderError as error:
            if error.status in (401, 403):
                raise
            return None
        price = answer.get("estimated_total_price")
        return float(price) if answer.get("estimation_available") is not False and price is not None else None

    def create(self, request: JobRequest) -> Job:
        """Make a job, asking once; raises :class:`ProviderError`, ``lost`` where it may have been made all the same."""
        return job_of(self._calls.post(JOBS, self.body(request)))

    def body(self, request: JobRequest) -> dict[str, Any]:
        """The request as the API wants it."""
        rank = request.lora_rank or RANK
        lora = {"type": "Lora", "lora_r": rank, "lora_alpha": 2 * rank, "lora_trainable_modules": "all-linear"}
        body: dict[str, Any] = {
            "model": request.model,
            "training_file": request.training_file,
            "n_epochs": request.epochs,
            "n_evals": request.evaluations,
            "n_checkpoints": 1,
            "batch_size": request.batch_size or "max",
            "training_type": lora if request.lora else {"type": "Full"},
            "training_method": {"method": "sft", "train_on_inputs": "auto"},
            "suffix": suffix_of(request),
        }
        if request.learning_rate is not None:
            body["learning_rate"] = request.learning_rate
        if request.seed is not None:
            body["random_seed"] = request.seed
        if request.validation_file is not None:
            body["validation_file"] = request.validation_file
        return body

    def retrieve(self, id: str) -> Job:
        """How a job stands."""
        return job_of(self._calls.get(f"{JOBS}/{id}"))

    def events(self, id: str, after: str | None = None) -> Sequence[Event]:
        """A job's log, oldest first; only what came after the event with the id ``after``.

        The service's events have no ids: theirs are made of their place in the log.
        """
        items = sorted(self._data(f"{JOBS}/{id}/events"), key=lambda item: str(item.get("created_at", "")))
        known = {"created_at", "message", "level", "type", "object"}
        found = [
            Event(
                f"event-{place:06d}",
                str(item.get("message", "")),
                str(item.get("level") or "info").removeprefix("legacy_i").removeprefix("legacy_"),
                str(item.get("type") or ""),
                moment(item.get("created_at")),
                {key: value for key, value in item.items() if key not in known and value not in (None, "")},
            )
            for place, item in enumerate(items)
        ]
        return [event for event in found if after is None or event.id > after]

    def checkpoints(self, id: str) -> Sequence[Checkpoint]:
        """The states of the model that are kept, earliest first."""
        found = [
            Checkpoint(
                str(item.get("object_id") or item.get("path") or ""),
                int(item.get("step") or 0),
                item.get("object_name"),
                moment(item.get("created_at")),
            )
            for item in self._data(f"{JOBS}/{id}/checkpoints")
        ]
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def cancel(self, id: str) -> Job:
        """Ask for a job to be stopped."""
        return job_of(self._calls.post(f"{JOBS}/{id}/cancel"))

    def list(self) -> Iterator[Job]:
        """The jobs of this account."""
        return map(job_of, self._data(JOBS))

    def usable(self, model: str) -> bool:
        """Whether a model answers: one request of a token. Most fine-tunes need a dedicated endpoint first."""
        return answers(self._calls, model)

    def _data(self, path: str) -> Rows:
        data: Rows = self._calls.get(path).get("data") or []
        return data


def suffix_of(request: JobRequest) -> str:
    """The suffix of a job: the user's own, cut to fit, and the run's fingerprint."""
    mark = f"{MARKED}{request.fingerprint}"
    own = request.suffix[: LONGEST_SUFFIX - len(mark) - 1].rstrip("-")
    return f"{own}-{mark}" if own else mark


def job_of(answer: Mapping[str, Any]) -> Job:
    """A job as Together's API writes it."""
    if not answer.get("id"):
        raise ProviderError(f"the service's job has no id. Got {str(dict(answer))[:200]}", lost=True)
    said = str(answer.get("status", ""))
    status = STATUSES.get(said, "unknown")
    suffix = str(answer.get("suffix") or "").rpartition("-")[2]
    price = answer.get("total_price")
    return Job(
        id=str(answer["id"]),
        status=status,
        service_status=said,
        model=str(answer.get("model", "")),
        fine_tuned_model=answer.get("model_output_name") if status == "succeeded" else None,
        created=moment(answer.get("created_at")),
        finished=moment(answer.get("updated_at")) if status in ("succeeded", "failed", "cancelled") else None,
        trained_tokens=answer.get("token_count") or None,
        billed_usd=float(price) * USD_PER_UNIT if price else None,
        error=_error(answer) if status == "failed" else None,
        training_file=str(answer.get("training_file") or ""),
        validation_file=str(answer.get("validation_file") or ""),
        mark=suffix.removeprefix(MARKED) if suffix.startswith(MARKED) else "",
    )


def _error(answer: Mapping[str, Any]) -> JobError:
    """Why a job failed: its last event that is an error, since a job has no field for it."""
    events = [event for event in answer.get("events") or [] if "error" in str(event.get("level") or event.get("type"))]
    if not events:
        return JobError("", "the service gives no reason; see the job's events")
    return JobError(str(events[-1].get("type") or "").lower(), str(events[-1].get("message") or ""))


def _file(answer: Mapping[str, Any]) -> UploadedFile:
    if not answer.get("id"):
        raise ProviderError(f"the service's file has no id. Got {str(dict(answer))[:200]}", lost=True)
    return UploadedFile(str(answer["id"]), str(answer.get("filename", "")), int(answer.get("bytes") or 0))
