"""Hypothesis without a clock: how long an example takes depends on the machine, and no test asserts on that."""

from hypothesis import settings

settings.register_profile("distillcalc", deadline=None)
settings.load_profile("distillcalc")
