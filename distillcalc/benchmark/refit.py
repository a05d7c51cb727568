"""An engine's constants fitted to steps that were measured one by one.

:func:`distillcalc.estimate.calibration.calibrate` fits what a benchmark reports of requests; an engine in this process
tells each step, which says far more of what a step takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import EngineRow
from distillcalc.errors import InputError
from distillcalc.estimate.step_time import CONSTANTS, Placement, StepTime

Floats = NDArray[np.float64]

# How far each constant may lie from where it was (standard deviation of the log), and the least and the most that it
# can be: shares of a machine's measured peak, and what PyTorch adds on a fast GPU and on a slow CPU.
SPREAD: Mapping[str, tuple[float, float, float]] = {
    "mbu": (0.7, 0.01, 1.0),
    "kv_mbu": (1.5, 1e-4, 1.0),
    "mfu_bf16": (0.7, 0.01, 1.0),
    "attention_mfu": (1.5, 1e-3, 1.0),
    "fixed_s": (1.5, 1e-6, 0.1),
    "layer_s": (1.5, 1e-8, 0.01),
    "sequence_s": (1.5, 1e-8, 0.01),
    "repack": (1.5, 1e-3, 5.0),
}
NOISE = 0.05  # how far the model may be off the median of many like steps, relative
SINGLE = 0.15  # how far one step is off the median of its like, relative
FEWEST = 4  # groups of like steps
BUCKET = 1.25  # contexts within so much of each other are alike


@dataclass(frozen=True, eq=False)
class MeasuredSteps:
    """Steps of one model.

    Parameters
    ----------
    placement : the model on the machine.
    seconds, sequences, tokens, context, pairs : of each step, shape (steps,), as
        :class:`distillcalc.benchmark.decoding.Steps` has them. The context is what attention went through.
    """

    placement: Placement
    seconds: Floats
    sequences: Floats
    tokens: Floats
    context: Floats
    pairs: Floats

    @classmethod
    def of(cls, placement: Placement, arrays: Mapping[str, Any]) -> MeasuredSteps:
        """From a record's raw samples of steps, by name; a static cache is read through all of its slots."""
        names = ("seconds", "sequences", "tokens", "slots", "pairs")
        if missing := [name for name in names if name not in arrays]:
            raise InputError(f"the samples tell no {', '.join(missing)} of steps: only a model in process has such")
        seconds, sequences, tokens, slots, pairs = (np.asarray(arrays[name], dtype=float) for name in names)
        return cls(placement, seconds, sequences, tokens, np.where(pairs > 0, 0.0, slots), pairs)

    def grouped(self) -> tuple[MeasuredSteps, Floats]:
        """Like steps as one, and how many: the median of those of as many sequences, tokens and about one context."""
        bucket = np.round(np.log(np.maximum(self.context + self.pairs, 1.0)) / math.log(BUCKET))
        keys = np.stack([self.sequences, self.tokens, self.pairs > 0, bucket], axis=1)
        _, group = np.unique(keys, axis=0, return_inverse=True)
        group = group.ravel()

        def middle(values: Floats) -> Floats:
            return np.array([np.median(values[group == one]) for one in range(int(group.max()) + 1)])

        held = (self.seconds, self.sequences, self.tokens, self.context, self.pairs)
        return MeasuredSteps(self.placement, *map(middle, held)), np.bincount(group).astype(float)


def refit(engine: EngineRow, runs: Sequence[MeasuredSteps], *, noise: float = NOISE) -> EngineRow:
    """The engine's constants as the steps have them.

    Parameters
    ----------
    engine : where each constant is expected; what is 0 there stays 0.
    runs : steps of one model or more on the same machine. Of a single model it cannot be told what a layer takes from
        what a step does; together they are right all the same.
    noise : relative error that the model may have at the median of many like steps. The median of n steps is off by
        :data:`SINGLE` / sqrt(n) on top: writing is measured by hundreds of steps, reading a prompt by a few.

    Returns
    -------
    A new row. Least squares of the logs of the medians of like steps, beside a normal prior of each constant's log
    (:data:`SPREAD`), as :func:`distillcalc.estimate.calibration.calibrate` has it; outliers weigh less (soft L1).

    Raises
    ------
    InputError
        For no steps, or fewer kinds of steps than can tell anything.
    """
    from scipy.optimize import least_squares

    groups = [run.grouped() for run in runs if len(run.seconds)]
    count = sum(len(counts) for _, counts in groups)
    if count < FEWEST:
        raise InputError(f"a re-fit needs {FEWEST} kinds of steps or more: other batches, other lengths. Got {count}")
    names = [name for name in SPREAD if getattr(engine, name) > 0]
    least = np.log([SPREAD[name][1] for name in names])
    most = np.log([SPREAD[name][2] for name in names])
    spread = np.array([SPREAD[name][0] for name in names])
    start = np.clip(np.log([getattr(engine, name) for name in names]), least + 1e-9, most - 1e-9)
    fixed = {name: getattr(engine, name) for name in CONSTANTS}

    scales = [np.sqrt(noise**2 + SINGLE**2 / counts) for _, counts in groups]

    def off(logs: Floats) -> Floats:
        constants = SimpleNamespace(**{**fixed, **dict(zip(names, np.exp(logs), strict=True))})
        errors = [
            np.log(StepTime.of(one.placement, constants).seconds(one.sequences, one.tokens, one.context, one.pairs))
            - np.log(one.seconds)
            for one, _ in groups
        ]
        return np.concatenate([*(e / s for e, s in zip(errors, scales, strict=True)), (logs - start) / spread])

    models = len({str(run.placement) for run in runs if len(run.seconds)})
    found = least_squares(off, start, bounds=(least, most), loss="soft_l1")
    values = {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(found.x), strict=True)}
    return engine.model_copy(
        update={
            **values, "rows": count, "checked": date.today(), "confidence": "high", "note": "",
            "source": f"fitted to {sum(len(run.seconds) for run in runs):,} measured steps ({count} kinds) of "
            f"{models} model{'s' if models > 1 else ''} on one machine",
        }
    )  # fmt: skip
