"""Before anything is spent: how many calls, tokens, dollars and minutes a labelling takes, and may it be done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from distillcalc.catalog import Catalog
from distillcalc.distill.ledger import ZERO, CallPrices
from distillcalc.distill.prompts import Prompts
from distillcalc.distill.rows import Reject, Row, Rows
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Privacy, Teacher, host_of, is_local
from distillcalc.distill.terms import TermsVerdict, check_terms
from distillcalc.errors import InputError, MissingPrice
from distillcalc.workload.logs.tokens import Tokenizer, token_counter

if TYPE_CHECKING:
    from distillcalc.decide import Decision
    from distillcalc.distill.spec import LabelSpec

PLAN_VERSION = 1
BYTES_PER_TOKEN = 4  # of English text, roughly: where no tokenizer is at hand
MESSAGE_TOKENS = 4  # marks around a message
COUNTED_AT_ONCE = 2_048
CALLS_IN_FLIGHT = 16
BATCH_MINUTES = 24 * 60.0  # the window of OpenAI's Batch API


@dataclass(frozen=True)
class Forecast:
    """What a labelling is expected to take; None where it is not known.

    Parameters
    ----------
    calls, samples : calls to the teacher, answers wanted.
    input_tokens, shared_tokens, output_tokens : in all; ``shared_tokens`` of the input are the same in every prompt.
    standard_usd, cached_usd, batch_usd : at list price, with the shared part read from the provider's cache, and
        through its batch API.
    most_usd : the most that it can cost, one try for each call: every prompt at a token a byte, every answer at its
        limit.
    minutes, batch_minutes : at the concurrency of the plan; of a batch, the provider's window.
    sources : where each figure comes from.
    """

    calls: int
    samples: int
    input_tokens: int
    shared_tokens: int
    output_tokens: int
    standard_usd: Decimal
    cached_usd: Decimal | None
    batch_usd: Decimal | None
    most_usd: Decimal
    minutes: float | None
    batch_minutes: float | None
    sources: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; dollars as text, to the last digit."""
        return {
            name: str(value) if isinstance(value, Decimal) else value for name, value in self.__dict__.items()
        }  # fmt: skip


@dataclass(frozen=True)
class LabelPlan:
    """What will be asked of whom, for which rows, and what it is expected to take.

    Parameters
    ----------
    fingerprint : of everything that a request depends on; another one is another plan, and another run.
    vocabulary : fingerprint of the teacher's tokenizer, where a local file of it was given.
    rows_used, rows_rejected : of the source; ``rejects`` shows the first of the latter.
    stamp : of the file of rows as it was read.
    """

    task: Task
    teacher: Teacher
    rows: Rows
    privacy: Privacy
    catalog: Catalog
    fingerprint: str
    rows_used: int
    rows_rejected: int
    rejects: tuple[Reject, ...]
    human_labels: int
    url: str
    forecast: Forecast
    terms: TermsVerdict
    concurrency: int
    prices: CallPrices
    vocabulary: str = ""
    stamp: tuple[int, int] | None = None

    @property
    def prompts(self) -> Prompts:
        """Makes the plan's requests."""
        return Prompts(self.task, self.teacher, self.privacy)

    @property
    def run_name(self) -> str:
        """The name of the plan's run, and of its folder: a changed plan has another."""
        return f"{self.task.name.strip().lower().replace(' ', '-')}-{self.fingerprint[:8]}"

    def used_rows(self) -> Iterator[tuple[int, Row]]:
        """The rows that can be used, numbered from 0 in their order.

        Raises
        ------
        InputError
            If their file was changed since the plan was made: answers would be booked to other rows.
        """
        if self.rows.stamp != self.stamp:
            raise InputError(
                f"{self.rows.name} was changed since the plan was made. Plan again: with the rows as they were the run "
                "goes on, with others it is another one"
            )
        index = 0
        for found in self.rows.read(self.task):
            if isinstance(found, Row):
                yield index, found
                index += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; no key, no row."""
        return {
            "plan_version": PLAN_VERSION,
            "fingerprint": self.fingerprint,
            "run": self.run_name,
            "task": self.task.model_dump(mode="json", exclude_defaults=True),
            "teacher": self.teacher.model_dump(mode="json", exclude_defaults=True),
            "url": self.url,
            "privacy": self.privacy.model_dump(mode="json", exclude_defaults=True),
            "rows": {"from": self.rows.name, "used": self.rows_used, "rejected": self.rows_rejected},
            "human_labels": self.human_labels,
            "concurrency": self.concurrency,
            "forecast": self.forecast.to_dict(),
            "terms": {"verdict": self.terms.verdict, "detail": self.terms.detail, "source": self.terms.source},
        }

    def __str__(self) -> str:
        f = self.forecast
        lines = [
            f"{self.task.name}: {self.rows_used:,} rows of {self.rows.name}, {f.samples:,} answers of "
            f"{self.teacher.model} in {f.calls:,} calls to {host_of(self.url)}",
            f"tokens: {f.input_tokens:,} in ({f.shared_tokens:,} of them the same in every prompt), "
            f"{f.output_tokens:,} out ({f.sources['tokens']}; answers: {f.sources['output_tokens']})",
            f"dollars: {dollars(f.standard_usd)}; with the provider's cache {dollars(f.cached_usd)}; as a batch "
            f"{dollars(f.batch_usd)}; at the very most {dollars(f.most_usd)} ({f.sources['price']})",
            f"time: {duration(f.minutes)} at {self.concurrency} calls in flight ({f.sources['minutes']}); as a batch "
            + ("not known" if f.batch_minutes is None else f"within {duration(f.batch_minutes)}"),
            f"terms: {_VERDICTS[self.terms.verdict]}: {self.terms.detail}",
        ]
        if self.teacher.temperature == 0 and self.teacher.samples > 1:
            lines.append(
                f"NOTE: at temperature 0 the {self.teacher.samples} answers to a row will mostly be the same, and each "
                "is paid for"
            )
        if self.rows_rejected:
            first = self.rejects[0]
            lines.append(
                f"{self.rows_rejected:,} rows cannot be used, the first is row {first.place}: {first.reason}"
            )  # fmt: skip
        return "\n".join(lines)


_VERDICTS = {"pass": "allowed", "fail": "prohibited", "unknown": "unclear"}
MOST_REJECTS_SHOWN = 100


def dollars(amount: Decimal | None) -> str:
    """An amount in words: cents, or three digits of what is less than a dollar."""
    if amount is None:
        return "not known"
    if amount >= 1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${Decimal(f'{amount:.3g}'):f}"


def duration(minutes: float | None) -> str:
    """A time in words."""
    if minutes is None:
        return "not known"
    return (
        f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    )


def plan_labels(
    task: Task,
    teacher: Teacher,
    rows: Rows,
    *,
    privacy: Privacy | None = None,
    catalog: Catalog | None = None,
    concurrency: int = CALLS_IN_FLIGHT,
    tokenizer: Tokenizer | None = None,
    today: date | None = None,
) -> LabelPlan:
    """Plan a labelling: read the rows once, count tokens, price them, and hold the terms against the use.

    Parameters
    ----------
    rows : what is to be labelled.
    privacy : what may leave the machine.
    concurrency : calls in flight at the most.
    tokenizer : to count with, see :func:`.workload.logs.tokens.token_counter`; without one at hand, a token is taken
        to be four bytes, which the plan says.
    today : day whose prices apply.

    Raises
    ------
    InputError
        If a private task names a host that is not allowed, no row can be used, or concurrency is below 1.
    MissingPrice
        If the teacher has no price; one that costs nothing has a price of 0 in ``[overrides.token_prices]``.
    """
    if concurrency < 1:
        raise InputError(f"concurrency is how many calls are in flight at the most, 1 or more. Got {concurrency}")
    catalog = catalog or Catalog.load()
    privacy = privacy or Privacy()
    url = teacher.url(catalog)
    privacy.check(url)
    stamp = rows.stamp
    ref = price_ref(catalog, teacher)
    on = today or datetime.now(UTC).date()
    prices = CallPrices.of(catalog, ref, on)
    prompts = Prompts(task, teacher, privacy)
    counted = token_counter(tokenizer, 1)
    count, named = counted if counted is not None else (_estimate, f"estimated: {BYTES_PER_TOKEN} bytes a token")

    digest = hashlib.sha256(_identity(task, teacher, privacy, url).encode())
    shared = _tokens(count, prompts.head)
    used = rejected = labelled = own_tokens = 0
    most = ZERO
    rejects: list[Reject] = []
    waiting: list[str] = []
    calls_per_row = 1 if teacher.one_call else teacher.samples
    samples_per_call = teacher.samples if teacher.one_call else 1
    for found in rows.read(task):
        if isinstance(found, Reject):
            rejected += 1
            if len(rejects) < MOST_REJECTS_SHOWN:
                rejects.append(found)
            continue
        digest.update(json.dumps([found.id, found.values], sort_keys=True, ensure_ascii=False).encode() + b"\n")
        messages, _ = prompts.prompt(found.values)
        bound = teacher.most_input_tokens(task, messages)
        most += calls_per_row * prices.most(bound, teacher.max_output_tokens * samples_per_call)
        waiting.append(messages[-1]["content"])
        if len(waiting) == COUNTED_AT_ONCE:
            own_tokens += sum(count(waiting))
            waiting.clear()
        used += 1
        labelled += found.human_label is not None
    own_tokens += sum(count(waiting)) if waiting else 0
    if not used:
        first = f": {rejects[0].reason} (row {rejects[0].place})" if rejects else ""
        raise InputError(f"no row of {rows.name} can be used{first}")

    per_answer, answer_source = _expected_output(task, teacher, count)
    calls = used * calls_per_row
    samples = used * teacher.samples
    inputs = (own_tokens + used * (shared + MESSAGE_TOKENS)) * calls_per_row
    outputs = samples * per_answer
    forecast = _forecast(
        catalog, ref, on, prices, calls=calls, samples=samples, inputs=inputs, shared=shared, outputs=outputs,
        most=most, concurrency=concurrency,
    )  # fmt: skip
    forecast.sources.update(tokens=named, output_tokens=answer_source, price=prices.source)
    return LabelPlan(
        task, teacher, rows, privacy, catalog, digest.hexdigest(), used, rejected, tuple(rejects), labelled, url,
        forecast, check_terms(catalog, teacher.model, task), concurrency, prices, _vocabulary(tokenizer), stamp,
    )  # fmt: skip


def price_ref(catalog: Catalog, teacher: Teacher) -> str:
    """What the teacher's tokens are priced as; raises :class:`MissingPrice` where it costs nobody knows what."""
    if teacher.model in catalog.token_prices_given:
        return teacher.model
    if teacher.base_url is not None and "/" not in teacher.model:
        raise MissingPrice(
            f"{teacher.model} is asked at an address of your own, and some host's price is not yours. What it costs "
            f'you goes into [overrides.token_prices."{teacher.model}"] (input_usd_per_mtok and output_usd_per_mtok; 0 '
            "for a model of your own)"
        )
    try:
        return catalog.price_ref(teacher.model)
    except (InputError, LookupError) as error:
        raise MissingPrice(
            f"no token price known for {teacher.model}: {error}. What it costs you goes into "
            f'[overrides.token_prices."{teacher.model}"] (input_usd_per_mtok and output_usd_per_mtok; 0 for a model '
            "of your own)"
        ) from error


def _vocabulary(tokenizer: Tokenizer | None) -> str:
    """A fingerprint of a local tokenizer file; empty where there is none."""
    if isinstance(tokenizer, (str, os.PathLike)) and Path(tokenizer).is_file():
        return f"{Path(tokenizer).name}#{hashlib.sha256(Path(tokenizer).read_bytes()).hexdigest()[:12]}"
    return ""


def _estimate(texts: Any) -> list[int]:
    return [-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts]


def _tokens(count: Any, messages: Any) -> int:
    texts = [message["content"] for message in messages]
    return sum(count(texts)) + MESSAGE_TOKENS * len(texts) if texts else 0


def _identity(task: Task, teacher: Teacher, privacy: Privacy, url: str) -> str:
    """Everything that a request depends on, rows aside: not the key, the price, the budget or the use."""
    parts = urlsplit(url)
    address = (
        f"{parts.hostname}{parts.path}" if is_local(host_of(url)) else f"{parts.netloc}{parts.path}"
    )  # a server of one's own may come back on another port  # fmt: skip
    return json.dumps(
        {
            "version": PLAN_VERSION,
            "task": task.model_dump(mode="json", exclude={"name", "student", "student_host", "use"}),
            "teacher": teacher.model_dump(mode="json", exclude={"key_env", "timeout_s", "base_url"}),
            "address": address,
            "redact": sorted(privacy.redact),
            "phone_region": privacy.phone_region,
        },
        sort_keys=True,
    )


def _expected_output(task: Task, teacher: Teacher, count: Any) -> tuple[int, str]:
    """Tokens of a typical answer, and where that comes from."""
    said = [
        (example.reasoning or "") + (example.answer if isinstance(example.answer, str) else json.dumps(example.answer))
        for example in task.examples
    ]
    if said and (task.reasoning == "none" or any(example.reasoning for example in task.examples)):
        return min(round(sum(count(said)) / len(said)) + 1, teacher.max_output_tokens), "as the examples"
    if task.labels is not None and task.reasoning == "none":
        return min(round(sum(count(list(task.labels))) / len(task.labels)) + 1, teacher.max_output_tokens), "a label"
    return max(teacher.max_output_tokens // 2, 1), "assumed: half of the limit"


def _forecast(
    catalog: Catalog, ref: str, on: date, prices: CallPrices, *, calls: int, samples: int, inputs: int, shared: int,
    outputs: int, most: Decimal, concurrency: int,
) -> Forecast:  # fmt: skip
    per_in, per_out = inputs / calls, outputs / calls
    standard = calls * prices.cost(round(per_in), round(per_out))
    api = catalog.api(ref) if "/" in ref else None
    cached = None
    least = (api.cache_min_prefix_tokens if api else None) or 0
    if api is not None and api.cache_min_prefix_tokens is not None:
        cold = min(calls, concurrency)  # calls that find nothing in the cache yet
        hit = shared if shared >= least else 0
        cached = cold * prices.cost(round(per_in), round(per_out)) + (calls - cold) * prices.cost(
            round(per_in), round(per_out), min(hit, round(per_in))
        )
    try:
        batch_prices = CallPrices.of(catalog, ref, on, "batch")
        batch = calls * batch_prices.cost(round(per_in), round(per_out))
    except MissingPrice:
        batch = None
    minutes, source = None, "the probe will tell"
    if api is not None and api.ttft_p50_s is not None and (api.output_tokens_per_s or api.tpot_p50_ms):
        tpot_s = 1 / api.output_tokens_per_s if api.output_tokens_per_s else (api.tpot_p50_ms or 0) / 1000
        minutes = calls * (api.ttft_p50_s + per_out * tpot_s) / min(concurrency, calls) / 60
        source = f"medians of {ref} in the catalog"
    return Forecast(
        calls, samples, inputs, shared * calls, outputs, standard, cached, batch, most, minutes,
        None if batch is None else BATCH_MINUTES, {"minutes": source},
    )  # fmt: skip


def plan(
    decision: Decision, task: Task | LabelSpec, rows: Rows | None = None, *, privacy: Privacy | None = None,
    teacher: Teacher | None = None, **options: Any,
) -> LabelPlan:  # fmt: skip
    """The labelling that a decision asks for: its teacher, its student and use, as many rows as its labels need.

    Parameters
    ----------
    decision : of :func:`distillcalc.recommend`; its scenario's ``[choices.distillation]`` says how many labels.
    task : what is asked; its student and use are taken from the decision where it does not say. A task file's
        :class:`.spec.LabelSpec` brings its rows, teacher and privacy along.
    rows : what may be labelled; as many as ``labels / (samples_per_prompt x filter_yield)`` are taken from the start.
    privacy : left out, private where the workload is.
    teacher : how the teacher is asked; left out, as the decision's teacher by its defaults.
    options : further ones of :func:`plan_labels`.

    Raises
    ------
    InputError
        If there are no rows, or the teacher given is not the decision's.
    """
    if not isinstance(task, Task):
        spec = task
        rows, teacher, task = rows or spec.rows, teacher or spec.teacher, spec.task
        privacy = privacy or spec.privacy
        options.setdefault("concurrency", spec.labelling.concurrency)
        options.setdefault("tokenizer", spec.labelling.tokenizer)
        options.setdefault("catalog", decision.catalog.with_overrides(spec.overrides))
    if rows is None:
        raise InputError("a plan needs the rows that may be labelled: plan(decision, task, rows)")
    scenario = decision.scenario
    making = scenario.choices.distillation
    chosen = scenario.choices.teacher
    if teacher is None:
        teacher = Teacher(model=chosen, samples=round(making.samples_per_prompt))
    elif teacher.model != chosen:
        raise InputError(f"the decision is about the teacher {chosen}. Got {teacher.model}: decide again with it")
    changed: dict[str, Any] = {}
    if not task.student:
        label = decision.options[decision.recommendation].label if decision.recommendation else ""
        students = scenario.choices.students
        changed["student"] = next((student for student in students if label.startswith(student)), students[0])
    if "use" not in task.model_fields_set:
        changed["use"] = scenario.use
    wanted = -(-making.labels // (making.samples_per_prompt * making.filter_yield))
    limit = int(wanted) if rows.limit is None else min(int(wanted), rows.limit)
    return plan_labels(
        task.model_copy(update=changed), teacher, Rows(rows.source, rows.id, rows.human_label, limit),
        privacy=privacy or Privacy(private=scenario.workload.private),
        catalog=options.pop("catalog", decision.catalog),
        **options,
    )  # fmt: skip


def save_plan(made: LabelPlan, folder: Path) -> Path:
    """Write a plan as ``plan.json``, with the rows that it cannot use in ``rejects.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.json"
    file.write_text(json.dumps(made.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if made.rows_rejected:
        with (folder / "rejects.jsonl").open("w", encoding="utf-8") as out:
            for found in made.rows.read(made.task):
                if isinstance(found, Reject):
                    out.write(json.dumps(found.to_dict(), ensure_ascii=False) + "\n")
    return file
