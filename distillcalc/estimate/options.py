"""The ways to serve a workload, one class each, behind one interface.

``candidates(context)`` evaluates an option for every model and machine it could use, over all scenarios of
the context at once; the decision picks among them. Nothing here compares one option with another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import FineTunePriceRow, ModelRow, provenance_of
from distillcalc.errors import DistillcalcError, InputError, MissingPrice, UnknownName
from distillcalc.estimate import gates, quality
from distillcalc.estimate.api_latency import api_latency
from distillcalc.estimate.context import Context
from distillcalc.estimate.distillation import (
    OneOff,
    people,
    repeat_usd,
    self_trained,
    training_tokens,
    with_repeats,
)
from distillcalc.estimate.outcome import FAIL, PASS, GateResult, Outcome, at
from distillcalc.estimate.quality import Belief
from distillcalc.estimate.self_hosting import Dedicated, self_hosted
from distillcalc.estimate.tokens import api_cost
from distillcalc.provenance import Provenance, assumed, derived

Floats = NDArray[np.float64]


class Option(ABC):
    """One way to serve the workload."""

    id: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def candidates(self, context: Context) -> list[Outcome]:
        """Evaluate every model and machine this option could use; at least one, unpriced if need be."""


def _unpriced(option: str, label: str, why: str, context: Context) -> Outcome:
    return Outcome(option, (label,), unpriced=why, months=context.x.months)


def _kept(results: Iterable[GateResult | None]) -> list[GateResult]:
    return [gate for gate in results if gate is not None]


def _wrong_answers(context: Context, belief: Belief) -> dict[str, Floats]:
    cost = context.x["wrong_answer_usd"]
    if not cost.any():
        return {}
    return {"wrong_answers": cost * (1 - belief.mean) * context.x.requests}


def _served_by_api(
    context: Context,
    option: str,
    ref: str,
    *,
    belief: Belief,
    student: bool,
    one_off: OneOff | None = None,
    extra_gates: Iterable[GateResult | None] = (),
    price_factor: Floats | float = 1.0,
) -> Outcome:
    """Anything that is called per token: its running cost, latency, quality and the gates of an API."""
    x, catalog = context.x, context.catalog
    lengths = x.student_lengths if student else x.lengths
    thinking = x["student_reasoning_tokens"] if student else x["reasoning_tokens"]
    prefix = context.student_prefix if student else x["cacheable_prefix_tokens"]
    try:
        cost = api_cost(
            x,
            catalog,
            ref,
            lengths=lengths,
            prefix_tokens=prefix,
            reasoning_tokens=thinking,
            price_factor=price_factor,
        )
        window = catalog.token_prices(ref, context.workload.start, 1).context_window
    except (MissingPrice, UnknownName) as error:
        return _unpriced(option, ref, str(error), context)
    latency, latency_source = api_latency(x, catalog, ref, lengths, thinking)
    monthly = cost.monthly(x.requests) | _wrong_answers(context, belief)
    sources = {**cost.provenance, "latency": latency_source, "quality": belief.source}
    outcome = Outcome(
        option,
        (ref,),
        monthly_usd=monthly,
        latency=latency,
        quality_mean=belief.mean,
        quality_sd=belief.sd,
        facts={"cache_hit_share": cost.hit_share[:, :1]},
        provenance=sources,
        months=x.months,
    )
    if one_off is not None:
        outcome.one_off_usd = one_off.items
        outcome.provenance |= one_off.provenance
        outcome.monthly_usd |= with_repeats(x, one_off, context.teacher_ends_in)
    outcome.gates = _kept(
        [
            *extra_gates,
            gates.privacy_gate(x, external=ref),
            gates.region_gate(x, catalog, ref),
            gates.context_gate(x, window, ref, "student" if student else "teacher"),
            gates.slo_gate(x, latency, str(latency_source)),
            quality.quality_gate(x, belief, context.teacher_belief, is_teacher=option == "call-teacher"),
        ]
    )
    return outcome


class CallTeacher(Option):
    """The big model's API: prompt caching, and batch processing for what can wait."""

    id = "call-teacher"
    title = "Call the big model"

    def candidates(self, context: Context) -> list[Outcome]:
        x, ref = context.x, context.teacher
        retirement = gates.retirement_gate(x, context.catalog, ref, migrates=context.choices.on_retirement == "migrate")
        outcome = _served_by_api(
            context,
            self.id,
            ref,
            belief=context.teacher_belief,
            student=False,
            extra_gates=[retirement],
            price_factor=x["teacher_price_factor"],
        )
        if context.teacher_ends_in and not outcome.unpriced:
            hours = x["migration_hours"] * x["engineering_usd_per_hour"]
            outcome.monthly_usd["migration"] = (x.month == context.teacher_ends_in[0]) * (x.days > 0) * hours
            outcome.provenance["migration"] = assumed("migration_hours x engineering_usd_per_hour of [choices]")
        return [outcome]


class CallSmall(Option):
    """A provider's own small model, already a distilled one, called as it is."""

    id = "call-small"
    title = "Call the provider's small model"

    def candidates(self, context: Context) -> list[Outcome]:
        names = context.choices.small
        if names is None:
            names = tuple(context.teacher_row.small_siblings) if context.teacher_row else ()
        if not names:
            return [
                _unpriced(
                    self.id,
                    "small model",
                    f"the catalog names no small model beside {context.teacher}; name "
                    'one with small = ["provider/model"]',
                    context,
                )
            ]
        found = []
        for name in names:
            try:
                ref = context.catalog.price_ref(name, context.last_day)
            except (MissingPrice, InputError) as error:
                found.append(_unpriced(self.id, name, str(error), context))
                continue
            row = context.catalog.model_of(ref)
            belief = quality.general_belief(
                context.x,
                quality.refs_of(context.catalog, ref),
                row[1] if row else None,
                context.teacher_belief,
            )
            retirement = gates.retirement_gate(context.x, context.catalog, ref)
            found.append(_served_by_api(context, self.id, ref, belief=belief, student=False, extra_gates=[retirement]))
        return found


class HostedOpenStudent(Option):
    """An open distilled model at a per-token host, as it was published: nothing is trained."""

    id = "hosted-open-student"
    title = "Call an open student at a host"

    def candidates(self, context: Context) -> list[Outcome]:
        found: list[Outcome] = []
        for ref in self._refs(context, found):
            row = context.catalog.model_of(ref)
            belief = quality.general_belief(
                context.x,
                quality.refs_of(context.catalog, ref),
                row[1] if row else None,
                context.teacher_belief,
            )
            retirement = gates.retirement_gate(context.x, context.catalog, ref)
            found.append(_served_by_api(context, self.id, ref, belief=belief, student=False, extra_gates=[retirement]))
        return found

    @staticmethod
    def _mean_price(context: Context, ref: str) -> float:
        """Price of a request of mean lengths [USD], to find the cheapest host; infinite where none is known."""
        try:
            prices = context.catalog.token_prices(ref, context.workload.start)
        except DistillcalcError:
            return float("inf")
        return float(prices.price(context.workload.mean_input_tokens, context.workload.mean_output_tokens))

    def _refs(self, context: Context, unpriced: list[Outcome]) -> list[str]:
        if context.choices.hosted is not None:
            return [context.catalog.price_ref(name, context.last_day) for name in context.choices.hosted]
        refs = []
        for student in context.choices.students:
            row = context.catalog.model(student)
            living = context.catalog.living_refs(row, context.last_day)
            if living:
                refs.append(min(living, key=lambda ref: self._mean_price(context, ref)))
            else:
                unpriced.append(
                    _unpriced(
                        self.id,
                        student,
                        f"no per-token host with a price is known for {student} now; name one with hosted = "
                        '["provider/model"]',
                        context,
                    )
                )
        return refs


class HostedFineTune(Option):
    """The provider fine-tunes and serves the student: a training price, then a price per token or per hour."""

    id = "hosted-fine-tune"
    title = "Fine-tune at a provider"

    def candidates(self, context: Context) -> list[Outcome]:
        rows = self._rows(context)
        if not rows:
            return [
                _unpriced(
                    self.id,
                    "hosted fine-tune",
                    "no fine-tuning price is known for this teacher's provider "
                    "or for the students' size; add a row to [overrides.finetune_prices]",
                    context,
                )
            ]
        return [self._one(context, key, row, student) for key, row, student in rows]

    def _rows(self, context: Context) -> list[tuple[str, FineTunePriceRow, str | None]]:
        table = context.catalog.finetune_prices
        if context.choices.fine_tunes is not None:
            unknown = [key for key in context.choices.fine_tunes if key not in table]
            if unknown:
                raise UnknownName("fine-tuning price", unknown[0], table, "See data/finetune_prices.toml.")
            named: list[tuple[str, FineTunePriceRow, str | None]] = []
            for key in context.choices.fine_tunes:
                limit = table[key].max_params_b
                if limit is None:
                    named.append((key, table[key], None))
                    continue
                sizes = ((student, context.catalog.model(student).params_b) for student in context.choices.students)
                named += [(key, table[key], student) for student, size in sizes if size is not None and size <= limit]
            return named
        provider = context.teacher.split("/", 1)[0]
        rows: list[tuple[str, FineTunePriceRow, str | None]] = [
            (key, row, None)
            for key, row in table.items()
            if row.provider == provider and row.max_params_b is None and row.method != "rft"
        ]
        for student in context.choices.students:
            size = context.catalog.model(student)
            for key, row in self._smallest_classes(context, size):
                rows.append((key, row, student))
        return rows

    @staticmethod
    def _smallest_classes(context: Context, student: ModelRow) -> list[tuple[str, FineTunePriceRow]]:
        """For each provider that prices by size, the smallest class that holds the student."""
        best: dict[tuple[str, str], tuple[str, FineTunePriceRow]] = {}
        method = context.choices.distillation.method
        for key, row in context.catalog.finetune_prices.items():
            wanted = row.method in (("lora", "sft") if method == "lora" else ("full", "sft"))
            if (
                not wanted
                or row.max_params_b is None
                or student.params_b is None
                or student.params_b > row.max_params_b
            ):
                continue
            old = best.get((row.provider, row.method))
            if old is None or row.max_params_b < (old[1].max_params_b or 0):
                best[row.provider, row.method] = (key, row)
        return list(best.values())

    def _one(self, context: Context, key: str, row: FineTunePriceRow, student_id: str | None) -> Outcome:
        x = context.x
        student = context.catalog.model(student_id) if student_id else None
        label = f"{row.provider}/{row.base}" if student is None else f"{student.name} at {row.provider}"
        if row.training_usd_per_mtok is None and row.training_usd_per_hour is None:
            return _unpriced(self.id, label, f"no training price known for {key}", context)
        if row.training_usd_per_mtok is None:
            return _unpriced(
                self.id, label, f"{key} is priced by the training hour, and its speed is not known", context
            )
        per_token = row.input_usd_per_mtok is not None and row.output_usd_per_mtok is not None
        if not per_token and row.hosting_usd_per_hour is None:
            return _unpriced(self.id, label, f"no price known for serving the fine-tune {key}", context)

        label_usd, label_source = context.labels
        run = np.maximum(training_tokens(x) / 1e6 * row.training_usd_per_mtok, row.minimum_usd or 0.0)
        items = {"labels": label_usd, "training": run, "failed_runs": run * x["failed_runs"], **people(x)}
        price = provenance_of(row)
        one_off = OneOff(
            items,
            repeat_usd(x, items),
            {
                "labels": label_source,
                "training": Provenance(
                    "derived",
                    f"training tokens x {row.training_usd_per_mtok:g} USD/Mtok ({price.source})",
                    price.checked,
                    price.confidence,
                ),
                "engineering": assumed("engineering_hours x engineering_usd_per_hour of [choices.distillation]"),
                "human_evaluation_set": assumed("human_evaluation_items x human_label_usd of [choices.distillation]"),
            },
        )
        ref = f"{row.provider}/{row.base}"
        names = (key, label, *((student_id,) if student_id else ()))
        belief = quality.distilled_belief(x, names, context.teacher_belief)
        if per_token:
            outcome = self._per_token(context, row, label)
        elif student is None or row.hosting_gpu is None:
            return _unpriced(
                self.id,
                label,
                f"{key} is served by the hour on a machine that the catalog does not know",
                context,
            )
        else:
            rent = Dedicated(row.hosting_gpu, row.hosting_usd_per_hour or 0.0, price)
            try:
                outcome = self_hosted(
                    context,
                    self.id,
                    label,
                    student,
                    x.student_lengths,
                    x["student_reasoning_tokens"],
                    dedicated=rent,
                )
            except MissingPrice as error:
                return _unpriced(self.id, label, str(error), context)
        outcome.monthly_usd |= with_repeats(x, one_off, context.teacher_ends_in) | _wrong_answers(context, belief)
        outcome.one_off_usd = one_off.items
        outcome.quality_mean, outcome.quality_sd = belief.mean, belief.sd
        outcome.provenance |= {"quality": belief.source, **one_off.provenance}
        outcome.gates = _kept(
            [
                gates.terms_gate(x, context.catalog, context.teacher),
                self._closing(context, row),
                gates.retirement_gate(x, context.catalog, ref) if student is None else None,
                gates.privacy_gate(x, external=row.provider),
                gates.region_gate(x, context.catalog, ref),
                *outcome.gates,
                quality.quality_gate(x, belief, context.teacher_belief),
            ]
        )
        return outcome

    def _per_token(self, context: Context, row: FineTunePriceRow, label: str) -> Outcome:
        """Serving a fine-tune that is billed by the token."""
        x = context.x
        assert row.input_usd_per_mtok is not None
        assert row.output_usd_per_mtok is not None
        path = x.price_path("token_price_change_per_year")
        tokens_in = x["student_input_tokens"] * x.requests / 1e6
        tokens_out = (x["output_tokens"] + x["student_reasoning_tokens"]) * x.requests / 1e6
        latency, source = api_latency(
            x, context.catalog, f"{row.provider}/{row.base}", x.student_lengths, x["student_reasoning_tokens"]
        )
        price = provenance_of(row)
        return Outcome(
            self.id,
            (label,),
            latency=latency,
            months=x.months,
            monthly_usd={
                "input_tokens": tokens_in * row.input_usd_per_mtok * path,
                "output_tokens": tokens_out * row.output_usd_per_mtok * path,
            },
            provenance={"input_tokens": price, "output_tokens": price, "latency": source},
            gates=_kept([gates.slo_gate(x, latency, str(source))]),
        )

    @staticmethod
    def _closing(context: Context, row: FineTunePriceRow) -> GateResult | None:
        x, start = context.x, context.workload.start
        closings = context.catalog.closings(row.provider)
        for end in closings:
            source = f"{end.source}, checked {end.checked.isoformat()}"
            if end.what == "new-customers-barred" and end.on <= start and not context.choices.fine_tunes_before:
                return GateResult.of(
                    "service",
                    "fail",
                    f"{row.provider} has taken no new fine-tuning customers since "
                    f"{end.on.isoformat()} (set fine_tunes_before if you are an old one)",
                    source,
                )
            if end.what == "no-new-jobs" and end.on <= start:
                return GateResult.of(
                    "service",
                    "fail",
                    f"{row.provider} takes no fine-tuning jobs after {end.on.isoformat()}",
                    source,
                )
        last_jobs = next((end for end in closings if end.what == "no-new-jobs"), None)
        if last_jobs is None:
            return None
        stuck = x.ends_after(last_jobs.on) & (x["task_changes_per_year"] > 0)
        if not stuck.any():
            return None
        words = f"{row.provider} takes no fine-tuning jobs after {last_jobs.on.isoformat()}"

        def detail(i: int) -> str:
            again = (
                "the task changes: the student could not be made again" if at(stuck, i) else "none is needed by then"
            )
            return f"{words}, and {again}"

        return GateResult(
            "service",
            np.where(stuck, FAIL, PASS).astype(np.int8),
            detail,
            f"{last_jobs.source}, checked {last_jobs.checked.isoformat()}",
        )


class SelfHost(Option):
    """A distilled student on machines of one's own, rented or bought, sized for the peak."""

    id = "self-host"
    title = "Distill and self-host"

    def candidates(self, context: Context) -> list[Outcome]:
        if not context.choices.students:
            return [
                _unpriced(self.id, "student", 'no student is named; name one with students = ["qwen3-8b"]', context)
            ]
        return [self._one(context, student) for student in context.choices.students]

    def _one(self, context: Context, student: str) -> Outcome:
        x, catalog = context.x, context.catalog
        row = catalog.model(student)
        try:
            one_off = self_trained(x, catalog, context.labels, row, context.teacher_row)
            outcome = self_hosted(context, self.id, student, row, x.student_lengths, x["student_reasoning_tokens"])
        except MissingPrice as error:
            return _unpriced(self.id, student, str(error), context)
        belief = quality.distilled_belief(x, (student,), context.teacher_belief)
        outcome.one_off_usd = one_off.items
        outcome.monthly_usd |= with_repeats(x, one_off, context.teacher_ends_in) | _wrong_answers(context, belief)
        outcome.quality_mean, outcome.quality_sd = belief.mean, belief.sd
        outcome.provenance |= {**one_off.provenance, "quality": belief.source}
        outcome.gates = _kept(
            [
                gates.terms_gate(x, catalog, context.teacher),
                gates.privacy_gate(x, labels_from=context.teacher),
                gates.context_gate(x, row.context_window, student, "student"),
                *outcome.gates,
                quality.quality_gate(x, belief, context.teacher_belief),
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
            return [_unpriced(self.id, name, f"the weights or the shape of {name} are not public", context)]
        try:
            outcome = self_hosted(context, self.id, name, row, x.lengths, x["reasoning_tokens"])
        except MissingPrice as error:
            return [_unpriced(self.id, name, str(error), context)]
        belief = context.teacher_belief
        outcome.monthly_usd |= _wrong_answers(context, belief)
        outcome.quality_mean, outcome.quality_sd = belief.mean, belief.sd
        outcome.provenance["quality"] = belief.source
        outcome.gates = _kept(
            [
                gates.privacy_gate(x),
                gates.context_gate(x, row.context_window, name),
                *outcome.gates,
                quality.quality_gate(x, belief, belief, is_teacher=True),
            ]
        )
        return [outcome]


class Cascade(Option):
    """The student answers first and the router sends a share on to the teacher; every attempt is paid."""

    id = "cascade"
    title = "Student first, teacher for the rest"

    def candidates(self, context: Context) -> list[Outcome]:
        students = [*context.outcomes(SelfHost.id), *context.outcomes(HostedOpenStudent.id)]
        return [self.behind(context, student) for student in students]

    def behind(self, context: Context, student: Outcome) -> Outcome:
        """A cascade whose first model is an already evaluated student."""
        x, catalog = context.x, context.catalog
        labels = tuple(f"{label}, then {context.teacher}" for label in student.labels)
        if student.unpriced:
            return _unpriced(self.id, labels[0], student.unpriced, context)
        rate = x["escalation_rate"]
        try:
            teacher = context.escalation_cost
        except (MissingPrice, UnknownName) as error:
            return _unpriced(self.id, labels[0], str(error), context)
        student_belief = Belief(student.quality_mean, student.quality_sd, student.provenance["quality"])
        belief = quality.cascade_belief(student_belief, context.teacher_belief, rate, x["apgr"])
        monthly = {item: usd for item, usd in student.monthly_usd.items() if item != "wrong_answers"}
        monthly["escalations"] = teacher.total * rate * x.requests
        verifier = context.choices.routing.verifier_usd_per_request
        if verifier:
            monthly["verifier"] = verifier * x.requests
        monthly |= _wrong_answers(context, belief)
        latency = self._latency(context, student.latency, rate)
        outcome = Outcome(
            self.id,
            labels,
            student.label_index,
            monthly_usd=monthly,
            one_off_usd=student.one_off_usd,
            latency=latency,
            quality_mean=belief.mean,
            quality_sd=belief.sd,
            facts=dict(student.facts),
            months=x.months,
            provenance={
                **student.provenance,
                **teacher.provenance,
                "quality": belief.source,
                "escalations": assumed("escalation_rate and apgr of [choices.routing], not measured on this traffic"),
                "latency": derived(
                    "student alone, or student then teacher at the same percentile where escalations "
                    "are more frequent than it"
                ),
            },
        )
        outcome.gates = _kept(
            [
                *(gate for gate in student.gates if gate.name not in ("quality", "slo", "privacy")),
                gates.privacy_gate(x, external=context.teacher),
                gates.region_gate(x, catalog, context.teacher),
                gates.retirement_gate(x, catalog, context.teacher, migrates=context.choices.on_retirement == "migrate"),
                gates.slo_gate(x, latency, str(outcome.provenance["latency"])),
                GateResult.of(
                    "router",
                    "unknown",
                    "no router has been measured on this traffic: its escalation rate and APGR are stated, not found",
                ),
                quality.quality_gate(x, belief, context.teacher_belief),
            ]
        )
        return outcome

    @staticmethod
    def _latency(context: Context, student: dict[str, Floats], rate: Floats) -> dict[str, Floats]:
        """A percentile q meets an escalated request where the escalation rate exceeds 1 - q."""
        teacher = context.teacher_latency
        found = {}
        for name, alone in student.items():
            what, percentile = name.split("_p")
            escalated = rate > 1 - int(percentile) / 100
            late = np.maximum(alone, teacher[name]) if what == "tpot" else student[f"e2e_p{percentile}"] + teacher[name]
            found[name] = np.where(escalated, late, alone)
        return found


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
