"""Hosted fine-tuning: a provider trains and serves the student; forecast, made once, watched, and found again."""

from __future__ import annotations

from distillcalc.distill.finetune.plan import Plan, make_plan
from distillcalc.distill.finetune.provider import FineTuneProvider, ProviderError
from distillcalc.distill.finetune.results import FineTuned, JobFailed, Progress, StillRunning
from distillcalc.distill.finetune.run import finetune
from distillcalc.distill.finetune.spec import FineTuneSpec, connect

__all__ = [
    "FineTuneProvider",
    "FineTuneSpec",
    "FineTuned",
    "JobFailed",
    "Plan",
    "Progress",
    "ProviderError",
    "StillRunning",
    "connect",
    "finetune",
    "make_plan",
]
