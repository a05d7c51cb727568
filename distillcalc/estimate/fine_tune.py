"""Fine-tuning at a provider: a training price, then a price per token or per hour of a dedicated endpoint."""

from __future__ import annotations

import numpy as np

from distillcalc.catalog import FineTunePriceRow, ModelRow, provenance_of
from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate import gates, quality
from distillcalc.estimate.api_latency import api_latency
from distillcalc.estimate.context import Context
from distillcalc.estimate.distillation import OneOff, add_one_off, people, people_sources, repeat_usd, training_tokens
from distillcalc.estimate.option import Option, add_quality, kept, licence_gate, unpriced
from distillcalc.estimate.outcome import FAIL, PASS, GateResult, Outcome, at
from distillcalc.estimate.self_hosting import Dedicated, self_hosted
from distillcalc.provenance import Provenance

Plan = tuple[str, FineTunePriceRow, str | None]  # key of the price row, the row, the student (of a size class)


class HostedFineTune(Option):
    """The provider fine-tunes and serves the student: a training price, then a price per token or per hour."""

    id = "hosted-fine-tune"
    title = "Fine-tune at a provider"

    def candidates(self, context: Context) -> list[Outcome]:
        plans = self._plans(context)
        if not plans:
            why = (
                "no fine-tuning price is known for this teacher's provider or for the students' size; add a row to "
                "[overrides.finetune_prices]"
            )
            return [unpriced(self.id, "hosted fine-tune", why, context)]
        # A service that is closed to this team is only shown where no other is open.
        shut = [self._shut(context, row) is not None for _, row, _ in plans]
        return [self._one(context, *plan) for plan, out in zip(plans, shut, strict=True) if all(shut) or not out]

    def _plans(self, context: Context) -> list[Plan]:
        table, catalog = context.catalog.finetune_prices, context.catalog
        if context.choices.fine_tunes is not None:
            unknown = [key for key in context.choices.fine_tunes if key not in table]
            if unknown:
                raise UnknownName("fine-tuning price", unknown[0], table, "See data/finetune_prices.toml.")
            named: list[Plan] = []
            for key in context.choices.fine_tunes:
                limit = table[key].max_params_b
                if limit is None:
                    named.append((key, table[key], None))
                    continue
                sizes = ((student, catalog.model(student).params_b) for student in context.choices.students)
                named += [(key, table[key], student) for student, size in sizes if size is not None and size <= limit]
            return named
        provider = context.teacher.split("/", 1)[0]
        plans: list[Plan] = [
            (key, row, None)
            for key, row in table.items()
            if row.provider == provider and row.max_params_b is None and row.method != "rft"
        ]
        for student in context.choices.students:
            plans += [(key, row, student) for key, row in self._smallest_classes(context, catalog.model(student))]
        return plans

    @staticmethod
    def _smallest_classes(context: Context, student: ModelRow) -> list[tuple[str, FineTunePriceRow]]:
        """For each provider that prices by size, the smallest class that holds the student."""
        best: dict[tuple[str, str], tuple[str, FineTunePriceRow]] = {}
        methods = (context.choices.distillation.method, "sft")
        for key, row in context.catalog.finetune_prices.items():
            limit = row.max_params_b
            if row.method not in methods or limit is None or student.params_b is None or student.params_b > limit:
                continue
            old = best.get((row.provider, row.method))
            if old is None or limit < (old[1].max_params_b or 0):
                best[row.provider, row.method] = (key, row)
        return list(best.values())

    def _one(self, context: Context, key: str, row: FineTunePriceRow, student_id: str | None) -> Outcome:
        x, catalog = context.x, context.catalog
        student = catalog.model(student_id) if student_id else None
        label = f"{row.provider}/{row.base}" if student is None else f"{student.name} at {row.provider}"
        try:
            outcome = self._served(context, key, row, label, student)
            one_off = context.once(("making", key), lambda: self._making(context, key, row))
        except MissingPrice as error:
            return unpriced(self.id, label, str(error), context)
        ref = f"{row.provider}/{row.base}"
        names = (key, *((student_id,) if student_id else ()))
        belief = quality.distilled_belief(x, names, context.teacher_belief, student_id, student)
        add_one_off(x, outcome, one_off, context.teacher_ends_in)
        add_quality(context, outcome, belief)
        window = student.context_window if student else context.window(ref)
        outcome.gates = kept(
            [
                context.terms_of(row.provider if student is None else None),
                licence_gate(student_id or ref, student),
                self._closing(context, row),
                self._takes(row, student),
                gates.retirement_gate(x, catalog, ref) if student is None else None,
                gates.privacy_gate(x, external=row.provider),
                gates.region_gate(x, catalog, ref),
                gates.context_gate(x, window, label, "student"),
                *outcome.gates,
                context.quality_gate(belief),
            ]
        )
        return outcome

    @staticmethod
    def _making(context: Context, key: str, row: FineTunePriceRow) -> OneOff:
        """Labels, training at the provider's price, evaluation and people."""
        x, price = context.x, provenance_of(row)
        if row.training_usd_per_mtok is None:
            if row.training_usd_per_hour is None:
                raise MissingPrice(f"no training price known for {key}")
            raise MissingPrice(f"{key} is priced by the training hour, and its speed is not known")
        label_usd, label_source = context.labels
        run = np.maximum(training_tokens(x) / 1e6 * row.training_usd_per_mtok, row.minimum_usd or 0.0)
        items = {"labels": label_usd[:, :1], "training": run, "failed_runs": run * x["failed_runs"], **people(x)}
        formula = f"training tokens x {row.training_usd_per_mtok:g} USD/Mtok ({price.source})"
        training = Provenance("derived", formula, price.checked, price.confidence)
        sources = {"labels": label_source, "training": training, **people_sources()}
        return OneOff(items, repeat_usd(x, items, label_usd), sources)

    def _served(
        self, context: Context, key: str, row: FineTunePriceRow, label: str, student: ModelRow | None
    ) -> Outcome:
        """Serving by the token where that has a price, else on a dedicated endpoint by the hour."""
        x, price = context.x, provenance_of(row)
        thinking = x["student_reasoning_tokens"]
        if row.input_usd_per_mtok is None or row.output_usd_per_mtok is None:
            if row.hosting_usd_per_hour is None:
                raise MissingPrice(f"no price known for serving the fine-tune {key}")
            if student is None or row.hosting_gpu is None:
                raise MissingPrice(f"{key} is served by the hour on a machine that the catalog does not know")
            rent = Dedicated(row.hosting_gpu, row.hosting_usd_per_hour, price)
            return self_hosted(context, self.id, label, student, x.student_lengths, thinking, dedicated=rent)
        path = x.price_path("token_price_change_per_year")
        tokens_in = x["student_input_tokens"] * x.requests / 1e6
        tokens_out = (x["output_tokens"] + thinking) * x.requests / 1e6
        ref = f"{row.provider}/{row.base}"
        latency, source = api_latency(x, context.catalog, ref, x.student_lengths, thinking)
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
            gates=kept([gates.slo_gate(x, latency, str(source), to_do=source.source)]),
            tokens_per_request=x["student_input_tokens"] + x["output_tokens"] + thinking,
        )

    @staticmethod
    def _takes(row: FineTunePriceRow, student: ModelRow | None) -> GateResult | None:
        if student is None:
            return None
        words = f"{row.provider} prices by size; whether it takes {student.name} as a base is not in the catalog"
        return GateResult.of("service", "unknown", words, row.source)

    @staticmethod
    def _shut(context: Context, row: FineTunePriceRow) -> GateResult | None:
        """A service that is closed to this team when the student is first made; None where it is open."""
        start = context.workload.start
        for end in context.catalog.closings(row.provider):
            source = f"{end.source}, checked {end.checked.isoformat()}"
            if end.what == "new-customers-barred" and end.on <= start and not context.choices.fine_tunes_before:
                words = (
                    f"{row.provider} has taken no new fine-tuning customers since {end.on.isoformat()} "
                    "(set fine_tunes_before if you are an old one)"
                )
                return GateResult.of("service", "fail", words, source)
            if end.what == "no-new-jobs" and end.on <= start:
                words = f"{row.provider} takes no fine-tuning jobs after {end.on.isoformat()}"
                return GateResult.of("service", "fail", words, source)
        return None

    def _closing(self, context: Context, row: FineTunePriceRow) -> GateResult | None:
        """Whether the provider's service is open when the student is made, and when it must be made again."""
        shut, x = self._shut(context, row), context.x
        if shut is not None:
            return shut
        last_jobs = next((end for end in context.catalog.closings(row.provider) if end.what == "no-new-jobs"), None)
        if last_jobs is None:
            return None
        again = x["task_changes_per_year"] > 0
        for day, _ in context.teacher_successors:  # a student is made again when its teacher is replaced
            if day >= last_jobs.on:
                again = again | x.ends_after(day)
        stuck = x.ends_after(last_jobs.on) & again
        if not stuck.any():
            return None
        words = f"{row.provider} takes no fine-tuning jobs after {last_jobs.on.isoformat()}"

        def detail(i: int) -> str:
            stranded = "the student must be made again after that: it could not be"
            return f"{words}, and {stranded if at(stuck, i) else 'none is needed by then'}"

        code = np.where(stuck, FAIL, PASS).astype(np.int8)
        return GateResult("service", code, detail, f"{last_jobs.source}, checked {last_jobs.checked.isoformat()}")
