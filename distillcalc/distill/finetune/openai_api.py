"""OpenAI's fine-tuning API, and that of servers that speak it.

Source: the API reference of files and fine-tuning jobs (platform.openai.com/docs/api-reference/fine-tuning), and the
types of the openai client 3.54.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distillcalc.distill.finetune.calls import Calls, moment
from distillcalc.distill.finetune.provider import (
    MARK,
    Checkpoint,
    Event,
    Job,
    JobError,
    JobRequest,
    ProviderError,
    Status,
    UploadedFile,
)

BASE_URL = "https://api.openai.com/v1"
KEY_ENV = "OPENAI_API_KEY"
JOBS = "/fine_tuning/jobs"
STATUSES: Mapping[str, Status] = {
    "validating_files": "validating",
    "queued": "queued",
    "running": "running",
    "paused": "paused",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
MOST_PAGES = 50
PAGE = 100

Settings = Literal["method", "hyperparameters"]


class OpenAIFineTuning:
    """Files and fine-tuning jobs of OpenAI's API, at any address.

    Parameters
    ----------
    calls : the connection.
    settings : the key that holds the hyperparameters: "method" as today, "hyperparameters" as some servers want it.
    """

    def __init__(self, calls: Calls, *, settings: Settings = "method") -> None:
        self._calls, self._settings = calls, settings

    @property
    def host(self) -> str:
        """The server's host name."""
        return self._calls.host

    def close(self) -> None:
        """Let the connections go."""
        self._calls.close()

    def upload(self, path: Path, *, name: str) -> UploadedFile:
        """Send a training file once, under a name; raises :class:`ProviderError`."""
        return _file(self._calls.upload("/files", path, name=name, fields={"purpose": "fine-tune"}))

    def files(self) -> Iterator[UploadedFile]:
        """The files that the service holds for fine-tuning."""
        return map(_file, self._pages("/files", {"purpose": "fine-tune"}))

    def estimate_usd(self, request: JobRequest) -> float | None:
        """OpenAI gives no price before a job is made: None."""
        return None

    def create(self, request: JobRequest) -> Job:
        """Make a job, asking once; raises :class:`ProviderError`, ``lost`` where it may have been made all the same."""
        return job_of(self._calls.post(JOBS, self.body(request)))

    def body(self, request: JobRequest) -> dict[str, Any]:
        """The request as the API wants it."""
        wanted = {
            "n_epochs": request.epochs,
            "batch_size": request.batch_size,
            "learning_rate_multiplier": request.learning_rate_multiplier,
        }
        hyperparameters = {key: value for key, value in wanted.items() if value is not None}
        body: dict[str, Any] = {
            "model": request.model,
            "training_file": request.training_file,
            "metadata": {MARK: request.fingerprint},
        }
        if self._settings == "method":
            body["method"] = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        else:
            body["hyperparameters"] = hyperparameters
        if request.suffix:
            body["suffix"] = request.suffix
        if request.seed is not None:
            body["seed"] = request.seed
        if request.validation_file is not None:
            body["validation_file"] = request.validation_file
        return body

    def retrieve(self, id: str) -> Job:
        """How a job stands."""
        return job_of(self._calls.get(f"{JOBS}/{id}"))

    def events(self, id: str, after: str | None = None) -> Sequence[Event]:
        """A job's log, oldest first; only what came after the event with the id ``after``.

        The API lists the newest first, and its own ``after`` leads to older ones: it is read up to the known event.
        """
        found: list[Event] = []
        for item in self._pages(f"{JOBS}/{id}/events"):
            if item.get("id") == after:
                break
            found.append(
                Event(
                    str(item.get("id", "")),
                    str(item.get("message", "")),
                    str(item.get("level", "info")),
                    str(item.get("type") or ""),
                    moment(item.get("created_at")),
                    item.get("data") or {},
                )
            )
        return found[::-1]

    def checkpoints(self, id: str) -> Sequence[Checkpoint]:
        """The states of the model that are kept, earliest first."""
        found = [
            Checkpoint(
                str(item["id"]),
                int(item.get("step_number") or 0),
                item.get("fine_tuned_model_checkpoint"),
                moment(item.get("created_at")),
                {key: value for key, value in (item.get("metrics") or {}).items() if isinstance(value, (int, float))},
            )
            for item in self._pages(f"{JOBS}/{id}/checkpoints")
        ]
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def cancel(self, id: str) -> Job:
        """Ask for a job to be stopped."""
        return job_of(self._calls.post(f"{JOBS}/{id}/cancel"))

    def list(self) -> Iterator[Job]:
        """The jobs of this account, newest first."""
        return map(job_of, self._pages(JOBS))

    def usable(self, model: str) -> bool:
        """Whether a model answers: one request of a token."""
        return answers(self._calls, model)

    def _pages(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        after: str | None = None
        for _ in range(MOST_PAGES):
            page = self._calls.get(path, {**(query or {}), "limit": PAGE, "after": after})
            data = page.get("data") or []
            yield from data
            last = str(data[-1].get("id", "")) if data else ""
            if not page.get("has_more") or not last or last == after:
                return
            after = last


def answers(calls: Calls, model: str) -> bool:
    """Whether a model answers one request of a token; False where the server says that it does not serve it."""
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    for most in ({"max_tokens": 1}, {"max_completion_tokens": 16}):  # newer models refuse the older name
        try:
            calls.post("/chat/completions", asked | most)
        except ProviderError as error:
            if error.status == 400 and "max_tokens" in most and "max_tokens" in str(error):
                continue
            if error.passing or error.status in (400, 403, 404):
                return False
            raise
        return True
    return False


def job_of(answer: Mapping[str, Any]) -> Job:
    """A job as OpenAI's API writes it."""
    if not answer.get("id"):
        raise ProviderError(f"the service's job has no id. Got {str(dict(answer))[:200]}", lost=True)
    said = str(answer.get("status", ""))
    return Job(
        id=str(answer["id"]),
        status=STATUSES.get(said, "unknown"),
        service_status=said,
        model=str(answer.get("model", "")),
        fine_tuned_model=answer.get("fine_tuned_model") or None,
        created=moment(answer.get("created_at")),
        finished=moment(answer.get("finished_at")),
        estimated_finish=moment(answer.get("estimated_finish")),
        trained_tokens=answer.get("trained_tokens"),
        error=_error(answer.get("error")),
        training_file=str(answer.get("training_file") or ""),
        validation_file=str(answer.get("validation_file") or ""),
        mark=str((answer.get("metadata") or {}).get(MARK, "")),
    )


def _error(given: Any) -> JobError | None:
    """Why a job failed: an object whose fields may all be null, or a text with some servers."""
    if not isinstance(given, Mapping):
        return JobError("", str(given)) if given else None
    code, message, parameter = (str(given.get(key) or "") for key in ("code", "message", "param"))
    return JobError(code, message, parameter) if code or message else None


def _file(answer: Mapping[str, Any]) -> UploadedFile:
    if not answer.get("id"):
        raise ProviderError(f"the service's file has no id. Got {str(dict(answer))[:200]}", lost=True)
    return UploadedFile(str(answer["id"]), str(answer.get("filename", "")), int(answer.get("bytes") or 0))
