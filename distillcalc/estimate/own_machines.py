"""The options on machines of one's own: a distilled student, or the open big model itself."""

from __future__ import annotations

from distillcalc.errors import MissingPrice
from distillcalc.estimate import gates, quality
from distillcalc.estimate.context import Context
from distillcalc.estimate.distillation import add_one_off, self_trained
from distillcalc.estimate.option import Option, add_quality, kept, licence_gate, unpriced
from distillcalc.estimate.outcome import Outcome
from distillcalc.estimate.self_hosting import self_hosted


class SelfHost(Option):
    """A distilled student on machines of one's own, rented or bought, sized for the peak."""

    id = "self-host"
    title = "Distill and self-host"

    def candidates(self, context: Context) -> list[Outcome]:
        return [self._one(context, student) for student in context.choices.students]

    def _one(self, context: Context, student: str) -> Outcome:
        x, catalog = context.x, context.catalog
        row = catalog.model(student)
        try:
            one_off = self_trained(x, catalog, context.labels, row, context.teacher_row)
            outcome = self_hosted(context, self.id, student, row, x.student_lengths, x["student_reasoning_tokens"])
        except MissingPrice as error:
            return unpriced(self.id, student, str(error), context)
        belief = quality.distilled_belief(x, (student,), context.teacher_belief, student, row)
        add_one_off(x, outcome, one_off, context.teacher_ends_in)
        add_quality(context, outcome, belief)
        outcome.gates = kept(
            [
                context.terms_of(),
                licence_gate(student, row),
                gates.privacy_gate(x, labels_from=context.teacher),
                context.labelling_region,
                gates.context_gate(x, row.context_window, student, "student"),
                *outcome.gates,
                context.quality_gate(belief),
            ]
        )
        return outcome


class SelfHostTeacher(Option):
    """The teacher itself on machines of one's own, where its weights are open: nothing is distilled."""

    id = "self-host-teacher"
    title = "Self-host the big model"

    def candidates(self, context: Context) -> list[Outcome]:
        row, x = context.teacher_row, context.x
        name = context.choices.teacher
        if row is None or row.kind != "open" or row.shape is None:
            return [unpriced(self.id, name, f"the weights or the shape of {name} are not public", context)]
        try:
            outcome = self_hosted(context, self.id, name, row, x.lengths, x["reasoning_tokens"])
        except MissingPrice as error:
            return [unpriced(self.id, name, str(error), context)]
        belief = context.teacher_belief
        add_quality(context, outcome, belief)
        outcome.gates = kept(
            [
                licence_gate(name, row),
                gates.privacy_gate(x),
                gates.context_gate(x, row.context_window, name),
                *outcome.gates,
                context.quality_gate(belief, is_teacher=True),
            ]
        )
        return [outcome]
