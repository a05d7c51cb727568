"""The options that train nothing: the big model's API, a provider's small model, an open model at a host."""

from __future__ import annotations

import numpy as np

from distillcalc.errors import DistillcalcError, InputError, MissingPrice
from distillcalc.estimate import gates, quality
from distillcalc.estimate.api_latency import api_latency, assumed_tail
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.option import Option, licence_gate, served_by_api, unpriced
from distillcalc.estimate.outcome import GateResult, Outcome


class CallTeacher(Option):
    """The big model's API: prompt caching, and batch processing for what can wait."""

    id = "call-teacher"
    title = "Call the big model"

    def candidates(self, context: Context) -> list[Outcome]:
        x, ref = context.x, context.teacher
        outcome = served_by_api(
            context,
            self.id,
            ref,
            belief=context.teacher_belief,
            extra_gates=[
                gates.retirement_gate(x, context.catalog, ref, migrates=context.migrates),
                *self._succeeding(context),
            ],
            price_factor=x["teacher_price_factor"],
        )
        if outcome.unpriced:
            return [outcome]
        outcome.labels = (context.teacher_label,)
        context.add_migration(outcome)
        return [outcome]

    @staticmethod
    def _succeeding(context: Context) -> list[GateResult | None]:
        """What must hold of the models that the teacher is followed by, from their days on."""
        x, catalog = context.x, context.catalog
        found: list[GateResult | None] = []
        for day, ref in context.teacher_successors:
            latency, source = api_latency(x, catalog, ref, x.lengths, x["reasoning_tokens"])
            own = (
                gates.context_gate(x, context.window(ref), ref),
                gates.region_gate(x, catalog, ref),
                gates.slo_gate(x, latency, str(source), to_do=source.source, missed=assumed_tail(catalog, ref)),
            )
            found += [gates.from_day(x, gate, day) for gate in own]
        return found


def _as_published(context: Context, option: str, ref: str) -> Outcome:
    """A model that is called as it is, not having seen this task's labels."""
    found = context.catalog.model_of(ref)
    row = found[1] if found else None
    belief = quality.general_belief(context.x, quality.refs_of(context.catalog, ref), row, context.teacher_belief)
    extra = [gates.retirement_gate(context.x, context.catalog, ref), licence_gate(ref, row)]
    return served_by_api(context, option, ref, belief=belief, extra_gates=extra)


class CallSmall(Option):
    """A provider's own small model, already a distilled one, called as it is."""

    id = "call-small"
    title = "Call the provider's small model"

    def candidates(self, context: Context) -> list[Outcome]:
        names = context.choices.small
        if names is None:
            names = tuple(context.teacher_row.small_siblings) if context.teacher_row else ()
        if not names:
            why = f'the catalog names no small model beside {context.teacher}; name one with small = ["provider/model"]'
            return [unpriced(self.id, "small model", why, context)]
        found = []
        for name in names:
            try:
                ref = context.catalog.price_ref(name, context.last_day)
            except (MissingPrice, InputError) as error:
                found.append(unpriced(self.id, name, str(error), context))
                continue
            found.append(_as_published(context, self.id, ref))
        return found


class HostedOpenStudent(Option):
    """An open distilled model at a per-token host, as it was published: nothing is trained."""

    id = "hosted-open-student"
    title = "Call an open student at a host"

    def candidates(self, context: Context) -> list[Outcome]:
        if context.choices.hosted is not None:
            refs = [context.catalog.price_ref(name, context.last_day) for name in context.choices.hosted]
            return [_as_published(context, self.id, ref) for ref in refs]
        found = []
        for student in context.choices.students:
            living = context.catalog.living_refs(context.catalog.model(student), context.last_day)
            if living:
                found += [_as_published(context, self.id, ref) for ref in self._cheapest_that_fit(context, living)]
                continue
            why = (
                f"no per-token host with a price is known for {student} over the horizon; name one with "
                'hosted = ["provider/model"]'
            )
            found.append(unpriced(self.id, student, why, context))
        return found

    @staticmethod
    def _cheapest_that_fit(context: Context, refs: list[str]) -> list[str]:
        """The hosts that charge least for a request of mean lengths in some scenario, of those that can serve it.

        One for a single scenario; a sweep of lengths may pass from one host to another.
        """
        # Which hosts there are to choose from must not differ from one stretch of draws to the next.
        x = Inputs(context.x.scenario) if context.x.drawn else context.x
        inputs, outputs = np.broadcast_arrays(x["input_tokens"][:, 0], x["output_tokens"][:, 0])
        longest = x.lengths.input_quantile(1 - gates.LONG_REQUEST_SHARE)[:, 0]
        columns = []
        for ref in refs:
            try:
                prices = context.catalog.token_prices(ref, context.workload.start)
            except DistillcalcError:
                columns.append(np.full(inputs.shape, np.inf))
                continue
            short = prices.context_window is not None and longest > prices.context_window
            api = context.catalog.api(ref)
            asked = context.workload.region
            away = bool(asked and api and api.regions and asked.lower() not in {r.lower() for r in api.regions})
            columns.append(np.where(short | away, 1e6, 0.0) + prices.price(inputs, outputs))
        return [refs[i] for i in np.unique(np.argmin(columns, axis=0))]
