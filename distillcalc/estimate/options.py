"""Every way to serve a workload, by id, in the order in which they are shown."""

from __future__ import annotations

from distillcalc.estimate.api_options import CallSmall, CallTeacher, HostedOpenStudent
from distillcalc.estimate.cascade import Cascade
from distillcalc.estimate.fine_tune import HostedFineTune
from distillcalc.estimate.option import Option
from distillcalc.estimate.own_machines import SelfHost, SelfHostTeacher

OPTIONS: dict[str, Option] = {
    option.id: option
    for option in (
        CallTeacher(),
        CallSmall(),
        HostedOpenStudent(),
        HostedFineTune(),
        SelfHost(),
        SelfHostTeacher(),
        Cascade(),
    )
}

__all__ = [
    "OPTIONS",
    "CallSmall",
    "CallTeacher",
    "Cascade",
    "HostedFineTune",
    "HostedOpenStudent",
    "Option",
    "SelfHost",
    "SelfHostTeacher",
]
