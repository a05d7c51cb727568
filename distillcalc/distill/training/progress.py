"""How far a training is, and how it can fail."""

from __future__ import annotations

from dataclasses import dataclass

from distillcalc.errors import DistillcalcError


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Parameters
    ----------
    step, steps : optimizer steps done, and in all.
    loss : the last one that was told; None before.
    tokens_per_s : since it began, padding not counted.
    seconds_left : at the pace so far.
    what : which student learns.
    """

    step: int
    steps: int
    loss: float | None
    tokens_per_s: float
    seconds_left: float
    what: str = ""


class TrainingDiverged(DistillcalcError):
    """A loss is no number: the weights after that step would be lost."""

    def __init__(self, step: int, samples: str, terms: str) -> None:
        self.step, self.samples = step, samples
        super().__init__(
            f"the loss of step {step} is no number ({terms}), in the batch of {samples or 'unnamed samples'}. The "
            "weights of the last checkpoint are kept. A lower learning_rate, a lower max_grad_norm or fp32 usually "
            "helps; if it is the first step, look at those samples"
        )


class OutOfMemory(DistillcalcError):
    """The model, its gradients and a batch of one do not fit."""
