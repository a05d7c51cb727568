"""A process that fine-tunes and kills itself with SIGKILL at a point: ``python -m ... SPEC.json FOLDER POINT``.

Points are the stages of a run's progress, and two that no journal tells of: ``upload-sent`` and ``create-sent``, after
the service has taken a request and before its answer is written down. ``never`` lets it live.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from distillcalc.distill.finetune import FineTuneSpec, Progress, connect, finetune
from tests.distill.finetune.common import TODAY, words


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """A service that is killed with its answer in hand."""

    def __init__(self, service: Any, point: str) -> None:
        self._service, self._point = service, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def upload(self, *args: Any, **given: Any) -> Any:
        answer = self._service.upload(*args, **given)
        if self._point == "upload-sent":
            die()
        return answer

    def create(self, *args: Any) -> Any:
        answer = self._service.create(*args)
        if self._point == "create-sent":
            die()
        return answer


def main(file: str, folder: str, point: str) -> None:
    def tell(step: Progress) -> None:
        if step.stage == point:
            die()

    spec = FineTuneSpec.of(json.loads(Path(file).read_text()))
    service: Any = Dying(connect(spec, sleep=lambda seconds: None), point)
    done = finetune(
        spec, provider=service, folder=folder, check=words, today=TODAY, progress=tell, sleep=lambda seconds: None
    )
    service.close()
    sys.stdout.write(json.dumps(done.to_dict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
