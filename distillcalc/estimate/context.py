"""What all options of one evaluation share: the inputs, the catalog, and the teacher's own figures."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy
from datetime import date
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import month_of
from distillcalc.catalog import Catalog, ModelRow
from distillcalc.errors import DistillcalcError, InputError, Retired, UnknownName
from distillcalc.estimate import gates, quality
from distillcalc.estimate.distillation import labelling_usd
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import GateResult, Outcome
from distillcalc.estimate.quality import Belief
from distillcalc.estimate.tokens import ApiCost, api_cost
from distillcalc.provenance import Provenance, assumed

Floats = NDArray[np.float64]
T = TypeVar("T")


Fidelity: TypeAlias = Literal["closed_form", "simulated"]

NOT_OF_THE_VOLUME = ("teacher_belief", "labels", "teacher_timing", "teacher_successors", "teacher_ends_in")


class Context:
    """Shared by the options: build one per evaluation.

    Raises
    ------
    UnknownName, MissingPrice, InputError
        If the teacher is not a model that has a price, or counts are given of a model that is not here.
    Retired
        If the teacher ends inside the horizon and the choices do not say to migrate.
    """

    def __init__(self, x: Inputs, catalog: Catalog, fidelity: Fidelity = "closed_form") -> None:
        self.x = x
        self.fidelity = fidelity
        if fidelity not in get_args(Fidelity):
            raise InputError(f"fidelity must be {' or '.join(get_args(Fidelity))}. Got {fidelity!r}")
        if fidelity == "simulated" and x.n > 1:
            raise InputError(
                f"a simulation is of one scenario: sweeps take fidelity='closed_form'. Got {x.n} scenarios"
            )
        self.catalog = catalog
        self.choices = x.scenario.choices
        self.workload = x.scenario.workload
        self.last_day = x.last_day
        self.teacher = catalog.price_ref(self.choices.teacher, self.last_day)
        self.migrates = self.choices.on_retirement == "migrate"
        self._once: dict[Hashable, Any] = {}
        self._outcomes: dict[str, list[Outcome]] = {}
        self._parts: list[Context] = []
        self._judged: dict[int, tuple[Belief, GateResult]] = {}  # the belief is kept, so that its id stays its own
        self._refuse_a_retired_teacher()
        catalog.token_prices(self.teacher, self.workload.start)  # without a price there is nothing to compare with
        self._refuse_counts_of_nobody()
        if self.choices.distillation.white_box and (self.teacher_row is None or self.teacher_row.kind != "open"):
            raise InputError(
                f"white_box distillation reads the teacher's weights, and those of {self.teacher} are not public. "
                "Choose an open teacher, or leave white_box out of [choices.distillation]"
            )

    def _refuse_a_retired_teacher(self) -> None:
        end = self.catalog.shutdown(self.teacher)
        start, last = self.workload.start, self.last_day
        if end is None or end.on >= last:
            return
        chain = self.catalog.successors(self.teacher, last)
        if self.migrates and chain and self._lives(chain[-1][1]):
            return
        living = chain[-1][1] if chain and self._lives(chain[-1][1]) else None
        if end.on < start:
            when = f"shut down on {end.on.isoformat()}, before the start ({start.isoformat()}; {end.source})"
        else:
            when = (
                f"shuts down on {end.on.isoformat()}, inside the horizon ({start.isoformat()} to "
                f"{last.isoformat()}; {end.source})"
            )
        if living:
            way_out = f'Its named successor is {living}: choose that, set on_retirement = "migrate" in [choices], or '
        else:
            way_out = "No successor that lives through the horizon is known: choose another teacher, or "
        raise Retired(f"the teacher {self.teacher} {when}. {way_out}end the horizon before it")

    def _lives(self, ref: str) -> bool:
        end = self.catalog.shutdown(ref)
        return end is None or end.on >= self.last_day

    def _refuse_counts_of_nobody(self) -> None:
        """Counts under a name that stands for nothing here would be lost in silence."""
        known = {"teacher", *self.choices.students, *self.catalog.finetune_prices}
        for name in self.choices.evaluations:
            if name in known:
                continue
            if "/" in name:
                self.catalog.price_ref(name)  # refuses what no provider offers, with the nearest names
                continue
            raise UnknownName(
                "model",
                name,
                known,
                'Counts in [choices.evaluations] are of "teacher", of a student by its catalog id, of a fine-tune by '
                "the key of its price, or of a published model by provider/model.",
            )
        stated = self.choices.student_retention
        for name in stated if isinstance(stated, dict) else ():
            if name not in self.choices.students:
                raise UnknownName("student", name, self.choices.students, "It is named in student_retention.")

    def window(self, ref: str) -> int | None:
        """Context window [tokens] of a model: the provider's, else the catalog's."""
        try:
            known = self.catalog.token_prices(ref, self.workload.start).context_window
        except DistillcalcError:
            known = None
        found = self.catalog.model_of(ref)
        return known or (found[1].context_window if found else None)

    @cached_property
    def teacher_successors(self) -> list[tuple[date, str]]:
        """The models that the teacher is followed by inside the horizon: (from that day on, provider/model)."""
        return self.catalog.successors(self.teacher, self.last_day)

    @cached_property
    def teacher_label(self) -> str:
        """The teacher and what it is followed by, in words."""
        steps = "".join(f", then {ref} from {day.isoformat()}" for day, ref in self.teacher_successors)
        return self.teacher + steps

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
    def labels(self) -> tuple[Floats, Provenance]:
        """Price of the teacher's training labels in each month [USD], shape (n, months), and its origin."""
        return labelling_usd(self.x, self.catalog, self.teacher)

    def of_teachers(self, gate: Callable[[str], GateResult | None]) -> GateResult | None:
        """A gate of the teacher and, from their days on, of the models that it is followed by: the strictest."""
        later = (gates.from_day(self.x, gate(ref), day) for day, ref in self.teacher_successors)
        return gates.strictest([gate(self.teacher), *later])

    @cached_property
    def teacher_region(self) -> GateResult | None:
        """Whether the teacher keeps data in the region asked for."""
        return self.of_teachers(lambda ref: gates.region_gate(self.x, self.catalog, ref))

    @cached_property
    def teacher_context(self) -> GateResult | None:
        """Whether requests fit the teacher's context window."""
        return self.of_teachers(lambda ref: gates.context_gate(self.x, self.window(ref), ref))

    @cached_property
    def labelling_region(self) -> GateResult | None:
        """Whether live prompts stay in the region asked for while they are labelled."""
        return self.of_teachers(lambda ref: gates.labelling_region_gate(self.x, self.catalog, ref))

    def terms_of(self, stays_at: str | None = None) -> GateResult | None:
        """Whether the teacher's terms allow a student for the stated use."""
        return self.once(
            ("terms", stays_at),
            lambda: self.of_teachers(lambda ref: gates.terms_gate(self.x, self.catalog, ref, stays_at)),
        )

    @cached_property
    def teacher_ends_in(self) -> list[int]:
        """Months of the horizon in which the teacher retires: a student must then be made again."""
        months = (month_of(day, self.workload.start) for day, _ in self.teacher_successors)
        return sorted({month for month in months if 0 <= month < self.x.months})

    def add_migration(self, outcome: Outcome) -> None:
        """Give whatever calls the teacher what moving to its successors costs, in their months."""
        if not self.teacher_ends_in:
            return
        x = self.x
        moves = np.isin(x.month, self.teacher_ends_in) & (x.days > 0)
        outcome.monthly_usd["migration"] = moves * (x["migration_hours"] * x["engineering_usd_per_hour"])
        outcome.provenance["migration"] = assumed("migration_hours x engineering_usd_per_hour of [choices]")

    @cached_property
    def escalation_cost(self) -> ApiCost:
        """The teacher's running cost per request that a cascade sends on."""
        return self.teacher_cost(self.x["escalation_rate"])

    def teacher_cost(self, share: Floats) -> ApiCost:
        """The teacher's running cost per request where a share of them reaches it, shape (n or 1, 1).

        The share only matters to what is cached.
        """
        x = self.x
        return api_cost(
            x,
            self.catalog,
            self.teacher,
            lengths=x.lengths,
            prefix_tokens=x["cacheable_prefix_tokens"],
            reasoning_tokens=x["reasoning_tokens"],
            share=np.maximum(share, 1e-12),
            price_factor=x["teacher_price_factor"],
        )

    def at_share(self, share: Floats, **choices: Any) -> Context:
        """The context of the same scenarios where only a share of the requests arrives, shape (n or 1, 1).

        What does not depend on the volume is shared with this one; fleets are sized by formula. ``choices`` narrow down
        which models are looked at.
        """
        shared = {name: getattr(self, name) for name in NOT_OF_THE_VOLUME}
        part = copy(self)
        vars(part).update(shared)
        vars(part).pop("escalation_cost", None)
        part.x, part.fidelity = self.x.at_share(share), "closed_form"
        part.choices = self.choices.model_copy(update=choices)
        part._once, part._outcomes, part._judged, part._parts = {}, {}, {}, []
        self._parts.append(part)
        return part

    @cached_property
    def teacher_latency(self) -> dict[str, Floats]:
        """The teacher's latency [s] by objective name."""
        return self.teacher_timing[0]

    @cached_property
    def teacher_timing(self) -> tuple[dict[str, Floats], Provenance]:
        """The teacher's latency [s] by objective name, and where it is from."""
        from distillcalc.estimate.api_latency import api_latency

        return api_latency(self.x, self.catalog, self.teacher, self.x.lengths, self.x["reasoning_tokens"])

    def quality_gate(self, belief: Belief, *, is_teacher: bool = False) -> GateResult:
        """Whether the quality floor is met; judged once where several options share a belief."""
        judged = self._judged.get(id(belief))
        if judged is None or is_teacher:
            judged = belief, quality.quality_gate(self.x, belief, self.teacher_belief, is_teacher=is_teacher)
            self._judged[id(belief)] = judged
        return judged[1]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, computed the first time only."""
        if key not in self._once:
            self._once[key] = compute()
        return cast(T, self._once[key])

    def forget(self) -> None:
        """Let go of everything that was evaluated; the context is of no use after it."""
        for part in self._parts:
            part.forget()
        for outcome in (outcome for found in self._outcomes.values() for outcome in found):
            outcome.gates.clear()
        vars(self).clear()

    def outcomes(self, option: str) -> list[Outcome]:
        """Every candidate of an option, evaluated once."""
        if option not in self._outcomes:
            from distillcalc.estimate.options import OPTIONS

            self._outcomes[option] = OPTIONS[option].candidates(self)
        return self._outcomes[option]
