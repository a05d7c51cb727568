"""The steps of one run: send, make, watch, try. Each is written down, and none that makes something is taken twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from distillcalc.distill.finetune.calls import pause_s
from distillcalc.distill.finetune.forecast import Forecast, bill
from distillcalc.distill.finetune.journal import RunFolder
from distillcalc.distill.finetune.provider import (
    MARK,
    FineTuneProvider,
    Job,
    JobRequest,
    ProviderError,
    UploadedFile,
)
from distillcalc.distill.finetune.results import FineTuned, JobFailed, Progress, StillRunning
from distillcalc.distill.finetune.spec import FineTuneSpec
from distillcalc.errors import InputError

TRIES = 4  # of an upload or a creation that the service had no time for
LOOKS = 4  # at the service's list after a lost answer, with growing waits: lists may lag
NAMELESS_LOOKS = 5  # at a job that succeeded and names no model yet
FIRST_POLL_S, LONGEST_POLL_S, POLL_GROWTH = 5.0, 60.0, 1.5

Made = TypeVar("Made", UploadedFile, Job)


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one run, each of which may have been taken before.

    Parameters
    ----------
    run : the folder, held by this process; ``plan`` is what is stored there.
    spec : what is made.
    service : where.
    tell : hears of every step.
    sleep, clock : wait [s], and tell the time [s].
    """

    run: RunFolder
    spec: FineTuneSpec
    plan: dict[str, Any]
    service: FineTuneProvider
    tell: Callable[[Progress], None]
    sleep: Callable[[float], None]
    clock: Callable[[], float]

    @property
    def mark(self) -> str:
        """The run's fingerprint."""
        return str(self.plan["fingerprint"])

    def whole(self) -> FineTuned:
        """All of them, up to a model that answers; raises as :func:`.run.finetune` does."""
        self.tell(Progress("plan", f"the plan is in {self.run.path}"))
        created = self.run.last("created")
        job = self.service.retrieve(created["job_id"]) if created is not None else self.job(self.request())
        job = self.finished(job)
        if job.status != "succeeded":
            raise JobFailed(job)
        model = job.fine_tuned_model or ""
        usable = self.usable(model)
        made = Forecast.from_dict(self.plan["forecast"])
        result = FineTuned(self.spec.name, self.run.path, model, usable, job, made, bill(job, made))
        if self.run.last("done", model=model, usable=usable) is None:
            self.run.note("done", model=model, usable=usable, bill=result.bill.to_dict())
        return result

    def request(self) -> JobRequest:
        """What the job is made from, its files sent."""
        spec = self.spec
        ids = {file["what"]: self.uploaded(file) for file in self.plan["files"]}
        return JobRequest(
            model=spec.model,
            training_file=ids["training"],
            validation_file=ids.get("validation"),
            fingerprint=self.mark,
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            learning_rate_multiplier=spec.learning_rate_multiplier,
            learning_rate=spec.learning_rate,
            lora=spec.lora,
            lora_rank=spec.lora_rank,
            evaluations=spec.evaluations,
            suffix=spec.suffix,
            seed=spec.seed,
        )

    def uploaded(self, file: dict[str, Any]) -> str:
        """The id of a file at the service, sent only if it is not there."""
        what, size = file["what"], file["size"]
        known = self.run.last("uploaded", what=what)
        if known is not None:
            return str(known["file_id"])
        path = self.spec.training_file if what == "training" else self.spec.validation_file
        assert path is not None
        name = f"{MARK}-{self.mark}-{what}{path.suffix or '.jsonl'}"

        def look() -> UploadedFile | None:
            held = (file for file in self.service.files() if file.name == name and file.size in (0, size))
            return next(iter(held), None)

        sent = self.run.last("upload-intent", what=what)
        found = self.looked(look, LOOKS) if sent is not None else None
        if sent is None:
            self.run.note("upload-intent", what=what, name=name, size=size, sha256=file["sha256"])
            self.tell(Progress("upload-intent", f"sending the {what} file ({size:,} bytes)"))
        adopted = found is not None
        if found is None:
            found, adopted = self.once("upload", lambda: self.service.upload(path, name=name), look)
        self.run.note("uploaded", what=what, file_id=found.id, adopted=adopted)
        self.tell(Progress("uploaded", f"the {what} file is {found.id}"))
        return found.id

    def has_job(self) -> bool:
        """Whether the run's job is known, or found at the service after a creation that nobody heard the end of."""
        if self.run.last("created") is not None:
            return True
        if self.run.last("create-intent") is None:
            return False
        found = self.looked(self.own_job, LOOKS)
        if found is not None:
            self.keep(found, adopted=True)
        return found is not None

    def own_job(self) -> Job | None:
        """The service's job that carries the run's fingerprint, or its training file where marks are not kept."""
        sent = self.run.last("uploaded", what="training") or {}

        def ours(job: Job) -> bool:
            return job.mark == self.mark if job.mark else job.training_file == sent.get("file_id")

        return _earliest(filter(ours, self.service.list()))

    def job(self, request: JobRequest) -> Job:
        """Make the run's job: :meth:`has_job` has looked for it."""
        if self.run.last("create-intent") is None:
            self.hold_to_budget(request)
            self.run.note("create-intent", fingerprint=self.mark, training_file=request.training_file)
            self.tell(Progress("create-intent", f"asking {self.service.host} for a job on {request.model}"))
        found, adopted = self.once("creation", lambda: self.service.create(request), self.own_job)
        self.keep(found, adopted=adopted)
        return found

    def keep(self, job: Job, *, adopted: bool) -> None:
        """Write down which job is the run's."""
        self.run.note("created", job_id=job.id, adopted=adopted)
        self.tell(Progress("created", f"job {job.id} is {'found' if adopted else 'made'}", job))

    def hold_to_budget(self, request: JobRequest) -> None:
        """Refuse a job that the service itself prices above the budget."""
        usd = self.service.estimate_usd(request)
        if usd is None:
            return
        self.run.note("estimate", usd=usd)
        self.tell(Progress("estimate", f"the service says that the job costs {usd:,.2f} USD"))
        if self.spec.budget_usd is not None and usd > self.spec.budget_usd:
            raise InputError(
                f"not made: {self.service.host} says that the job costs {usd:,.2f} USD, more than "
                f"budget_usd = {self.spec.budget_usd:g}"
            )

    def once(self, what: str, make: Callable[[], Made], look: Callable[[], Made | None]) -> tuple[Made, bool]:
        """Make one thing, and whether it was found instead: after a failed answer the service is asked for it first."""
        for tried in range(TRIES):
            try:
                return make(), False
            except ProviderError as error:
                self.run.note(f"{what}-failed", why=str(error), lost=error.lost)
                self.tell(Progress(f"{what}-failed", str(error)))
                if not error.passing:
                    raise
                found = self.looked(look, LOOKS if error.lost else 1)
                if found is not None:
                    return found, True
                if tried == TRIES - 1:
                    raise
                self.sleep(pause_s(tried + 1, error.retry_after_s))
        raise AssertionError("unreachable")

    def looked(self, look: Callable[[], Made | None], times: int) -> Made | None:
        """What a look at the service finds, with growing waits between looks; None if nothing."""
        for tried in range(times):
            if tried:
                self.sleep(pause_s(tried))
            found = look()
            if found is not None:
                return found
        return None

    def finished(self, job: Job) -> Job:
        """The job when it is over and, if it succeeded, names its model."""
        until = self.clock() + self.spec.deadline_hours * 3600.0
        pause, told, last_event, nameless = FIRST_POLL_S, "", None, 0
        while True:
            if job.service_status != told:
                told = job.service_status
                self.run.note("status", status=job.status, service_status=told, job_id=job.id)
                self.tell(Progress("status", f"job {job.id} is {told}", job))
                pause = FIRST_POLL_S
            last_event = self.told_events(job, last_event)
            if job.over and (job.status != "succeeded" or job.fine_tuned_model):
                self.run.note("finished", job=job.to_dict())
                return job
            if job.over:
                nameless += 1
                if nameless > NAMELESS_LOOKS:
                    raise ProviderError(f"job {job.id} succeeded, and {self.service.host} names no model of it")
            if self.clock() >= until:
                raise StillRunning(job)
            self.sleep(max(min(pause, until - self.clock()), 0.0))
            pause = min(pause * POLL_GROWTH, LONGEST_POLL_S)
            try:
                job = self.service.retrieve(job.id)
            except ProviderError as error:
                if not error.passing:
                    raise
                self.run.note("poll-failed", why=str(error))
                self.tell(Progress("poll-failed", str(error)))

    def told_events(self, job: Job, after: str | None) -> str | None:
        """Tell the job's new events; the id of the newest. A log that cannot be read holds nothing up."""
        try:
            events = self.service.events(job.id, after)
        except ProviderError:
            return after
        for event in events:
            self.tell(Progress("event", event.message, job, event))
        return events[-1].id if events else after

    def usable(self, model: str) -> bool:
        """Whether the model answers, asked a few times: services take a while to load it."""
        for tried in range(LOOKS):
            if tried:
                self.sleep(pause_s(tried + 2))
            if self.service.usable(model):
                self.tell(Progress("usable", f"{model} answers"))
                return True
        self.tell(Progress("unusable", f"{model} does not answer yet"))
        return False


def _earliest(jobs: Iterable[Job]) -> Job | None:
    def when(job: Job) -> float:
        return job.created.timestamp() if job.created else math.inf

    return min(jobs, key=when, default=None)
