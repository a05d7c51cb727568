"""What all options of one evaluation share: the inputs, the catalog, and the teacher's own figures."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import add_months, month_of
from distillcalc.catalog import Catalog, ModelRow
from distillcalc.errors import Retired
from distillcalc.estimate import quality
from distillcalc.estimate.distillation import labelling_usd
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import Outcome
from distillcalc.estimate.quality import Belief
from distillcalc.estimate.tokens import ApiCost, api_cost
from distillcalc.provenance import Provenance

Floats = NDArray[np.float64]
T = TypeVar("T")


class Context:
    """Shared by the options: build one per evaluation.

    Raises
    ------
    UnknownName, InputError
        If the teacher is not a model that has a price.
    Retired
        If the teacher ends inside the horizon and the choices do not say to migrate.
    """

    def __init__(self, x: Inputs, catalog: Catalog) -> None:
        self.x = x
        self.catalog = catalog
        self.choices = x.scenario.choices
        self.workload = x.scenario.workload
        self.last_day = add_months(self.workload.start, x.months)
        self.teacher = catalog.price_ref(self.choices.teacher, self.last_day)
        self._once: dict[Hashable, Any] = {}
        self._outcomes: dict[str, list[Outcome]] = {}
        self._refuse_a_retired_teacher()

    def _refuse_a_retired_teacher(self) -> None:
        end = self.catalog.shutdown(self.teacher)
        start = self.workload.start
        last = self.last_day
        if end is None or end.on >= last:
            return
        migrates = self.choices.on_retirement == "migrate" and end.replacement is not None
        if migrates:
            return
        successor = (
            f" Its named successor is {end.replacement}: choose that," if end.replacement else " Choose another,"
        )
        also = ' set on_retirement = "migrate" in [choices],' if end.replacement else ""
        raise Retired(
            f"the teacher {self.teacher} shuts down on {end.on.isoformat()}, inside the horizon "
            f"({start.isoformat()} to {last.isoformat()}; {end.source}).{successor}{also} or end the horizon before it"
        )

    @cached_property
    def teacher_row(self) -> ModelRow | None:
        """The teacher's row of the catalog, if it has one."""
        found = self.catalog.model_of(self.choices.teacher) or self.catalog.model_of(self.teacher)
        return found[1] if found else None

    @cached_property
    def teacher_belief(self) -> Belief:
        """The teacher's quality."""
        return quality.teacher_belief(self.x)

    @cached_property
    def teacher_cost(self) -> ApiCost:
        """The teacher's running cost per request."""
        x = self.x
        return api_cost(
            x,
            self.catalog,
            self.teacher,
            lengths=x.lengths,
            prefix_tokens=x["cacheable_prefix_tokens"],
            reasoning_tokens=x["reasoning_tokens"],
            price_factor=x["teacher_price_factor"],
        )

    @cached_property
    def labels(self) -> tuple[Floats, Provenance]:
        """Price of the teacher's training labels [USD], and where it came from."""
        return labelling_usd(self.x, self.catalog, self.teacher)

    @cached_property
    def teacher_ends_in(self) -> list[int]:
        """Months of the horizon in which the teacher retires: a student must then be made again."""
        end = self.catalog.shutdown(self.teacher)
        if end is None:
            return []
        month = month_of(end.on, self.workload.start)
        return [month] if 0 <= month < self.x.months else []

    @cached_property
    def student_prefix(self) -> Floats:
        """Shared start of the student's prompt [tokens]: what its shorter prompt leaves of the teacher's."""
        x = self.x
        cut = x["input_tokens"] - x["student_input_tokens"]
        return np.clip(x["cacheable_prefix_tokens"] - np.maximum(cut, 0), 0, None)

    @cached_property
    def escalation_cost(self) -> ApiCost:
        """The teacher's running cost per request that a cascade sends on."""
        x = self.x
        return api_cost(
            x,
            self.catalog,
            self.teacher,
            lengths=x.lengths,
            prefix_tokens=x["cacheable_prefix_tokens"],
            reasoning_tokens=x["reasoning_tokens"],
            share=np.maximum(x["escalation_rate"], 1e-12),
            price_factor=x["teacher_price_factor"],
        )

    @cached_property
    def teacher_latency(self) -> dict[str, Floats]:
        """The teacher's latency [s] by objective name."""
        from distillcalc.estimate.api_latency import api_latency

        return api_latency(self.x, self.catalog, self.teacher, self.x.lengths, self.x["reasoning_tokens"])[0]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, computed the first time only."""
        if key not in self._once:
            self._once[key] = compute()
        return cast(T, self._once[key])

    def outcomes(self, option: str) -> list[Outcome]:
        """Every candidate of an option, evaluated once."""
        if option not in self._outcomes:
            from distillcalc.estimate.options import OPTIONS

            self._outcomes[option] = OPTIONS[option].candidates(self)
        return self._outcomes[option]
