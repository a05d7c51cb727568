"""One fine-tune from upload to a model that answers; interrupted anywhere, the next call takes it up again.

What makes something (an upload, a job) is written down before and after. A call that finds an intent without a
result asks the service what it holds under the run's fingerprint before anything is made: a job is paid for once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

from distillcalc.catalog import Catalog
from distillcalc.distill.finetune.forecast import TrainingFileCheck
from distillcalc.distill.finetune.journal import RunFolder
from distillcalc.distill.finetune.plan import Plan, Terms, fingerprint, make_plan
from distillcalc.distill.finetune.provider import FineTuneProvider
from distillcalc.distill.finetune.results import FineTuned, Progress
from distillcalc.distill.finetune.spec import FineTuneSpec, connect
from distillcalc.distill.finetune.steps import Steps
from distillcalc.errors import InputError


def finetune(
    spec: FineTuneSpec,
    *,
    provider: FineTuneProvider | None = None,
    folder: str | Path = "runs",
    catalog: Catalog | None = None,
    check: TrainingFileCheck | None = None,
    terms: Terms | None = None,
    today: date | None = None,
    confirm: Callable[[Plan], bool] | None = None,
    progress: Callable[[Progress], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> FineTuned:
    """Make a fine-tune, or take up the one that was begun under this name, and wait until its model answers.

    Parameters
    ----------
    spec : what is to be made.
    provider : the service; left out, the one that the spec names.
    folder : where runs are kept; this one's folder is ``folder/name``.
    catalog, check, terms, today : of :func:`.plan.make_plan`.
    confirm : asked before anything is sent, unless the job was made before; False stops.
    progress : told of every step.
    sleep, clock : wait [s], and tell the time [s]; for tests.

    Raises
    ------
    InputError
        If the plan is refused, not confirmed, or another one than the folder holds.
    JobFailed
        If the job failed or was cancelled.
    StillRunning
        If the spec's deadline passed first; call again to wait on.
    ProviderError
        If the service refuses, or cannot be reached for long.
    """
    run = RunFolder(Path(folder) / spec.name)

    def allowed(begun: dict[str, Any] | None) -> Plan:
        plan = make_plan(spec, catalog=catalog, check=check, terms=terms, today=today)
        plan.refuse()
        if begun is not None and _contents(begun["files"]) != _contents([file.to_dict() for file in plan.files]):
            raise InputError(f"the files are not those that {run.path} was begun with: give this run another name")
        if confirm is not None and not confirm(plan):
            raise InputError("not made: it was not confirmed")
        return plan

    with run.locked():
        stored = run.plan()
        if stored is not None and spec.makes() != FineTuneSpec.of(stored["spec"]).makes():
            raise InputError(f"{run.path} holds a fine-tune of other settings: give this one another name")
        service = provider or connect(spec, sleep=sleep)
        try:
            begun = stored is not None
            if stored is None:
                stored = {"fingerprint": fingerprint(), **allowed(None).to_dict()}
                run.write_plan(stored)
            steps = Steps(run, spec, stored, service, progress or _unheard, sleep, clock)
            if begun and not steps.has_job():  # a job that is there is waited for, whatever today's plan would say
                allowed(stored)
            return steps.whole()
        finally:
            if provider is None:
                service.close()


def _contents(files: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((file["what"], file["sha256"]) for file in files)


def _unheard(step: Progress) -> None:
    return None
