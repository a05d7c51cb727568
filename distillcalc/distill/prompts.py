"""From a row to the request that is sent: the prompt, what is masked in it, and the bound of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from distillcalc.distill.engine import Unit
from distillcalc.distill.task import Messages, Task
from distillcalc.distill.teacher import Privacy, Teacher

if TYPE_CHECKING:
    from distillcalc.distill.redact import Redactor
    from distillcalc.distill.rows import Row


@dataclass(frozen=True)
class Prompts:
    """Makes the requests of a plan; the same row gives the same request, always."""

    task: Task
    teacher: Teacher
    privacy: Privacy

    @cached_property
    def redactor(self) -> Redactor | None:
        """What masks texts before they are sent; None where nothing is masked."""
        if not self.privacy.redact:
            return None
        from distillcalc.distill.redact import Redactor

        return Redactor(kinds=self.privacy.redact, region=self.privacy.phone_region)

    @cached_property
    def head(self) -> Messages:
        """What stands before the row's own message in every prompt, as it is sent."""
        return self.task.head if self.redactor is None else self.sent(self.task.head)[0]

    def sent(self, messages: Messages) -> tuple[Messages, Mapping[str, str]]:
        """Messages as they are sent, and what was masked in them by its placeholder."""
        if self.redactor is None:
            return messages, {}
        masked = self.redactor.redact_messages(messages)
        return masked.messages, masked.originals

    def prompt(self, row: Mapping[str, Any]) -> tuple[Messages, Mapping[str, str]]:
        """The prompt of a row as it is sent, and what was masked in it."""
        return self.sent(self.task.messages(row))

    def restored(self, text: str, originals: Mapping[str, str]) -> str:
        """A text of the teacher's with what was masked put back."""
        if self.redactor is None or not originals:
            return text
        from distillcalc.distill.redact import restore

        return restore(text, originals)

    def unit(self, index: int, row: Row, samples: tuple[int, ...], *, probe: str = "", **changed: Any) -> Unit:
        """What to ask for some samples of a row; ``changed`` fields of the request are laid over."""
        messages, _ = self.prompt(row.values)

        def body(count: int) -> dict[str, Any]:
            if self.teacher.seed is None:
                return self.teacher.body(self.task, messages, count, **changed)
            # What is still missing is the end of the samples. Each call has its own seed: with one, all would agree.
            seed = self.teacher.seed + samples[len(samples) - count]
            return self.teacher.body(self.task, messages, count, **{"seed": seed, **changed})

        return Unit(index, samples, body, self.teacher.most_input_tokens(self.task, messages), probe)
