"""Label rows with a teacher: plan, probe, ask, journal, and collect, resumable at any point.

A run lives in ``runs/<task>-<plan>/``: ``plan.json``, ``journal.jsonl`` (what was sent and paid for), ``dataset.jsonl``
with its card, and ``report.json``. The same plan goes on where it stopped; a changed plan is another run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from distillcalc.catalog import Catalog
from distillcalc.distill import collect
from distillcalc.distill.card import dataset_card
from distillcalc.distill.comparing import vote_of
from distillcalc.distill.engine import Engine, LabellingStopped, Unit, now
from distillcalc.distill.journal import Journal, entry_at
from distillcalc.distill.ledger import CallPrices, Ledger
from distillcalc.distill.pacing import Pacer
from distillcalc.distill.planning import CALLS_IN_FLIGHT, LabelPlan, plan_labels, price_ref, save_plan
from distillcalc.distill.probe import PROBE_ROWS, ProbeReport, Rate, probe_rows, tally
from distillcalc.distill.records import (
    PARQUET_ABOVE,
    SCHEMA_VERSION,
    Dataset,
    Record,
    card_file,
    read_records,
    write_records,
)
from distillcalc.distill.rows import Row, Rows
from distillcalc.distill.state import State
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Privacy, Teacher, async_clients
from distillcalc.errors import InputError
from distillcalc.workload.logs.tokens import Tokenizer

JOURNAL_VERSION = 1
RUNS = Path("runs")

Confirm = Callable[[LabelPlan, ProbeReport | None], bool]


@dataclass(frozen=True)
class LabelRun:
    """What a labelling brought and what it cost; of all its sessions, not the last alone.

    Parameters
    ----------
    folder : of the run.
    stopped : why it ended before its plan was done; empty where it is done.
    answers, wanted, given_up : samples that are there, that the plan wants, that the server refused for good.
    spent_usd : sum over the journal; ``possibly_billed_usd`` of it are calls whose answer was never read, at the most
        that they can have cost.
    possibly_billed : such calls.
    charged_at_most : answers without a usable token count, booked at the most that they can have cost.
    """

    plan: LabelPlan
    folder: Path
    file: Path
    stopped: str
    answers: int
    wanted: int
    given_up: int
    spent_usd: Decimal
    possibly_billed_usd: Decimal
    possibly_billed: int
    charged_at_most: int
    repeated_response_ids: int
    failures: dict[str, int]
    calls: int
    most_in_flight_usd: Decimal
    seconds: float
    least_concurrency: int
    probe: ProbeReport | None
    valid: Rate
    problems: dict[str, int]
    accuracy: Rate

    @property
    def is_done(self) -> bool:
        """Whether every answer that the plan wants is there or was refused for good."""
        return self.answers + self.given_up == self.wanted

    def dataset(self) -> Dataset:
        """The records, read from the run's folder."""
        return Dataset.load(self.file)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; dollars as text, to the last digit."""
        plain: dict[str, Any] = {}
        for name, value in self.__dict__.items():
            if name == "plan":
                plain["fingerprint"] = self.plan.fingerprint
                plain["forecast_usd"] = str(self.plan.forecast.standard_usd)
            elif isinstance(value, (Rate, ProbeReport)):
                plain[name] = value.to_dict()
            else:
                plain[name] = str(value) if isinstance(value, (Decimal, Path)) else value
        return plain

    def __str__(self) -> str:
        lines = [
            f"{self.plan.run_name}: {self.answers:,} of {self.wanted:,} answers"
            + (f", {self.given_up:,} refused for good" if self.given_up else "")
            + (f"; stopped: {self.stopped}" if self.stopped else ""),
            f"dollars: ${self.spent_usd:f} spent, ${self.plan.forecast.standard_usd:f} forecast"
            + (
                f"; ${self.possibly_billed_usd:f} of it for {self.possibly_billed} calls whose answer was never read "
                "(possibly billed)"
                if self.possibly_billed
                else ""
            ),
            f"valid answers: {self.valid}",
            *(f"  {count:,} x {problem}" for problem, count in sorted(self.problems.items(), key=lambda p: -p[1])[:5]),
            f"the teacher is right, as people labelled: {self.accuracy}",
        ]
        if self.charged_at_most:
            lines.append(f"{self.charged_at_most} answers had no usable token count: booked at the most")
        if self.repeated_response_ids:
            lines.append(f"{self.repeated_response_ids} answers carry an id that another has too: a cache between?")
        if self.failures:
            lines.append("failures: " + ", ".join(f"{count} x {kind}" for kind, count in self.failures.items()))
        lines.append(f"wrote {self.file}")
        return "\n".join(lines)


def label(
    task: Task,
    teacher: Teacher,
    rows: Rows,
    *,
    budget_usd: Decimal | str | float,
    privacy: Privacy | None = None,
    catalog: Catalog | None = None,
    runs: str | Path = RUNS,
    engine: Literal["live", "batch"] = "live",
    concurrency: int = CALLS_IN_FLIGHT,
    probe: int = PROBE_ROWS,
    confirm: Confirm | None = None,
    accept_unclear_terms: bool = False,
    tokenizer: Tokenizer | None = None,
    progress: Callable[[State], None] | None = None,
    today: date | None = None,
    attempts: int = 5,
    patience_s: float = 900.0,
    poll_s: float = 30.0,
) -> LabelRun:
    """Label rows with a teacher, within a budget; the same call goes on where an earlier one stopped.

    Parameters
    ----------
    task : what is asked. teacher : who is asked. rows : for what.
    budget_usd : ceiling of all sessions of the run together [USD]; reserved before each call.
    privacy : what may leave the machine.
    runs : folder of run folders.
    engine : "live" calls, many at once; "batch" is OpenAI's Batch API, at its price.
    concurrency : calls in flight at the most; fewer while the server refuses.
    probe : rows to try first, which count; 0 tries none.
    confirm : asked after the probe with the plan and what the probe told; False stops there.
    accept_unclear_terms : go on where the teacher's terms do not say.
    attempts, patience_s : see :class:`.engine.Engine`. poll_s : between looks at a batch [s].

    Raises
    ------
    TermsProhibited, TermsUnclear
        Before anything is sent.
    InputError
        As :func:`.planning.plan_labels`, or where another process works on the run.
    """
    made = plan_labels(
        task, teacher, rows, privacy=privacy, catalog=catalog, concurrency=concurrency, tokenizer=tokenizer,
        today=today,
    )  # fmt: skip
    return run_plan(
        made, budget_usd=budget_usd, runs=runs, engine=engine, probe=probe, confirm=confirm,
        accept_unclear_terms=accept_unclear_terms, progress=progress, today=today, attempts=attempts,
        patience_s=patience_s, poll_s=poll_s,
    )  # fmt: skip


def run_plan(
    plan: LabelPlan,
    *,
    budget_usd: Decimal | str | float,
    runs: str | Path = RUNS,
    engine: Literal["live", "batch"] = "live",
    probe: int = PROBE_ROWS,
    confirm: Confirm | None = None,
    accept_unclear_terms: bool = False,
    progress: Callable[[State], None] | None = None,
    today: date | None = None,
    attempts: int = 5,
    patience_s: float = 900.0,
    poll_s: float = 30.0,
) -> LabelRun:
    """Carry a plan out; parameters as :func:`label`."""
    ceiling = _amount(budget_usd)
    if engine not in ("live", "batch"):
        raise InputError(f"engine is 'live' or 'batch'. Got {engine!r}")
    for name, value, least in (("probe", probe, 0), ("attempts", attempts, 1), ("poll_s", poll_s, 0)):
        if value < least:
            raise InputError(f"{name} must be at least {least}. Got {value}")
    if patience_s <= 0:
        raise InputError(f"patience_s is a time above 0 [s]. Got {patience_s:g}")
    plan.terms.require(accept_unclear=accept_unclear_terms)
    plan.teacher.key(plan.catalog)
    folder = Path(runs) / plan.run_name
    day = today or datetime.now(UTC).date()
    ref = price_ref(plan.catalog, plan.teacher)
    prices = CallPrices.of(plan.catalog, ref, day)
    began = time.monotonic()
    with Journal.open(folder / "journal.jsonl") as journal:
        state = resume(plan, journal, Ledger(ceiling))
        save_plan(plan, folder)
        session = _Session(plan, journal, state, prices, progress, attempts, patience_s)
        report: ProbeReport | None = None
        stopped = ""
        try:
            if engine == "live" and any("status" not in batch for batch in state.batches.values()):
                raise InputError(
                    "a batch of this run is at the provider: collect it first with engine='batch' (--engine batch)"
                )
            if probe and state.left and not state.batches:
                report = _in_loop(session.probe(probe))
            if confirm is not None and state.left and not confirm(plan, report):
                stopped = "not confirmed"
            elif engine == "batch":
                from distillcalc.distill.batch import run_batches

                batch_prices = CallPrices.of(plan.catalog, ref, day, "batch")
                run_batches(plan, journal, state, batch_prices, poll_s=poll_s, progress=progress)
            else:
                _in_loop(session.ask_all())
            if state.left and not stopped:
                stopped = session.why(state)
        except LabellingStopped as error:
            stopped = str(error)
        run = _collected(plan, folder, journal.file, state, prices.source, stopped, report, session, began)
    (folder / "report.json").write_text(json.dumps(run.to_dict(), indent=2) + "\n", encoding="utf-8")
    return run


def _amount(usd: Decimal | str | float) -> Decimal:
    try:
        return Decimal(str(usd))
    except InvalidOperation as error:
        raise InputError(f"the budget is an amount in USD, such as 25 or 12.50. Got {usd!r}") from error


def resume(plan: LabelPlan, journal: Journal, ledger: Ledger) -> State:
    """Where a run stands by its journal; calls that were in flight when it was killed are booked at the most.

    Raises
    ------
    InputError
        If the journal is of another plan.
    """
    state = State(plan.rows_used, plan.teacher.samples, ledger)
    for place, entry in journal.entries():
        if entry["t"] == "run" and entry["fingerprint"] != plan.fingerprint:
            raise InputError(
                f"{journal.file} is the journal of another plan ({entry['fingerprint'][:8]}). Give the run another "
                "folder, or restore what was changed"
            )
        state.apply(place, entry)
    if state.fingerprint is None:
        entry = {"t": "run", "version": JOURNAL_VERSION, "fingerprint": plan.fingerprint, "at": now()}
        state.apply(journal.write(entry), entry)
    state.reconsider()
    for entry in state.interrupted():
        entry["at"] = now()
        state.apply(journal.write(entry), entry)
    return state


class _Session:
    """One process's part of a run."""

    def __init__(
        self, plan: LabelPlan, journal: Journal, state: State, prices: CallPrices,
        progress: Callable[[State], None] | None, attempts: int, patience_s: float,
    ) -> None:  # fmt: skip
        self.plan, self.journal, self.state, self.prices = plan, journal, state, prices
        self._settings: dict[str, Any] = {"attempts": attempts, "patience_s": patience_s, "progress": progress}
        self.pacer = Pacer(plan.concurrency)
        self.left_over = 0
        self.interrupted = False

    def why(self, state: State) -> str:
        """Why answers are missing although nothing stopped the run."""
        if self.interrupted:
            return "interrupted; the same command goes on"
        return f"{state.left:,} answers failed too often; the same command tries them again"

    async def ask_all(self) -> None:
        """Every sample that is missing."""
        await self._run(self._units())

    def _units(self) -> Iterator[Unit]:
        prompts, one_call = self.plan.prompts, self.plan.teacher.one_call
        for index, row in self.plan.used_rows():
            missing = self.state.missing(index)
            if missing and one_call:
                yield prompts.unit(index, row, tuple(missing))
            else:
                for sample in missing:
                    yield prompts.unit(index, row, (sample,))

    async def probe(self, count: int) -> ProbeReport:
        """Ask for a few rows, and for pairs of answers at temperature 0."""
        chosen = probe_rows(self.plan, count)
        await self._run(self._probe_units(chosen))
        return self._report(chosen)

    def _probe_units(self, chosen: list[tuple[int, Row]]) -> Iterator[Unit]:
        prompts, teacher = self.plan.prompts, self.plan.teacher
        own = []
        for index, row in chosen:
            if missing := self.state.missing(index):
                if teacher.one_call:
                    own.append(prompts.unit(index, row, tuple(missing)))
                else:
                    own += [prompts.unit(index, row, (sample,)) for sample in missing]
        pairs = [
            prompts.unit(index, row, (0,), probe=f"{index}{which}", temperature=0)
            for index, row in chosen
            for which in ("b" if self._first_is_cold else "ab")
            if f"{index}{which}" not in self.state.probes
        ]
        return chain(own, pairs)

    @property
    def _first_is_cold(self) -> bool:
        """Whether the plan's own answers are at temperature 0, so that one more makes a pair."""
        return self.plan.teacher.temperature == 0

    def _report(self, chosen: list[tuple[int, Row]]) -> ProbeReport:
        plan, state = self.plan, self.state
        found: list[Record] = []
        together: list[int] = []
        pairs = same = 0
        with self.journal.file.open("rb") as stream:
            for index, row in chosen:
                first = index * state.samples
                places = [state.places[first + k] for k in range(state.samples)]
                own = [
                    collect.record(plan, row, entry_at(stream, place), k, state.choices[first + k], "")
                    for k, place in enumerate(places)
                    if place >= 0
                ]
                found += own
                together += [places.count(place) for place in set(places) if place >= 0]
                cold = [
                    collect.record(plan, row, entry_at(stream, state.probes[name]), 0, 0, "")
                    for name in (f"{index}a", f"{index}b")
                    if name in state.probes
                ]
                cold = own[:1] + cold if self._first_is_cold else cold
                if len(cold) == 2:
                    pairs += 1
                    same += vote_of(cold[0]) == vote_of(cold[1])
        valid, problems, accuracy, thought = tally(found)
        counts = state.counts
        several = plan.teacher.one_call and plan.teacher.samples > 1
        return ProbeReport(
            valid, problems, Rate(same, pairs), accuracy, max(together, default=0) if several else None,
            any(record.logprobs for record in found) if plan.teacher.top_logprobs else None, thought,
            counts.input_tokens / max(counts.responses, 1), counts.output_tokens / max(counts.responses, 1),
            counts.latency_s / counts.timed if counts.timed else None,
            sum(len(state.missing(index)) for index, _ in chosen),
        )  # fmt: skip

    async def _run(self, units: Iterator[Unit]) -> None:
        plan = self.plan
        clients = async_clients(plan.teacher, plan.catalog, plan.privacy, connections=plan.concurrency)
        async with contextlib.AsyncExitStack() as open_clients:
            for client in clients:
                await open_clients.enter_async_context(client)
            engine = Engine(
                clients, self.journal, self.state, self.prices, max_output_tokens=plan.teacher.max_output_tokens,
                pacer=self.pacer, **self._settings,
            )  # fmt: skip

            def stop() -> None:
                self.interrupted = True
                engine.stop()

            with _on_interrupt(stop):
                await engine.run(units)
            self.left_over += engine.left_over
        if self.interrupted:
            raise LabellingStopped("interrupted; the same command goes on")


@contextlib.contextmanager
def _on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C lets calls in flight be read to their end; a second one interrupts as usual."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        stop()
        loop.remove_signal_handler(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        loop.add_signal_handler(signal.SIGINT, first)
    except NotImplementedError:  # Windows: the first Ctrl-C interrupts
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _in_loop(work: Any) -> Any:
    """Run a coroutine to its end, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    result: list[Any] = []
    failure: list[BaseException] = []

    def aside() -> None:
        try:
            result.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=aside)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _collected(
    plan: LabelPlan, folder: Path, journal: Path, state: State, price: str, stopped: str, probe: ProbeReport | None,
    session: _Session, began: float,
) -> LabelRun:  # fmt: skip
    """Write what is there as a dataset with its card, and say what it came to."""
    file = folder / ("dataset.parquet" if state.wanted > PARQUET_ABOVE else "dataset.jsonl")
    counted = _Counted()
    answers = write_records(counted.through(collect.records(plan, state, journal, price)), file)
    run = LabelRun(
        plan, folder, file, stopped, answers, state.wanted, state.given_up, state.ledger.spent,
        state.ledger.possibly_billed, state.counts.possibly_billed, state.counts.charged_at_most, counted.repeated,
        dict(state.counts.failures), state.counts.calls, state.ledger.most_committed, time.monotonic() - began,
        int(session.pacer.least_limit), probe, Rate(counted.valid, counted.read), counted.problems,
        Rate(counted.right, counted.judged),
    )  # fmt: skip
    card_file(file).write_text(json.dumps(_card(run), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return run


class _Counted:
    """Counts records as they pass, without holding them."""

    def __init__(self) -> None:
        self.read = self.valid = self.judged = self.right = 0
        self.problems: dict[str, int] = {}
        self._ids = array("q")  # of the response ids, one a call
        self._call = ""

    def through(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            self.read += 1
            self.valid += not record.problems
            if record.is_right is not None:
                self.judged += 1
                self.right += record.is_right
            for problem in record.problems:
                kind = problem.split(":", 1)[0]
                self.problems[kind] = self.problems.get(kind, 0) + 1
            if record.origin.call != self._call and record.origin.response_id:
                self._ids.append(hash(record.origin.response_id))
            self._call = record.origin.call
            yield record

    @property
    def repeated(self) -> int:
        """Calls whose response carries an id that the response of another carries too."""
        import numpy as np

        ids = np.array(self._ids)
        return len(ids) - len(np.unique(ids))


def _card(run: LabelRun) -> dict[str, Any]:
    """What the dataset is, with the plan, the terms and the spend that it came from."""
    plan = run.plan
    limits = []
    if run.accuracy.total:
        limits.append(f"the teacher is right, as people labelled, in {run.accuracy}")
    if run.stopped:
        limits.append(f"the labelling is not done: {run.stopped}")
    if run.possibly_billed:
        limits.append(
            f"${run.possibly_billed_usd:f} of the spend is for {run.possibly_billed} calls whose answer was never read"
        )
    card = dataset_card(
        read_records(run.file), task=plan.task, name=plan.run_name, forecast_usd=plan.forecast.standard_usd,
        actual_usd=run.spent_usd, terms=plan.terms.applying, limits=limits,
    )  # fmt: skip
    return {
        "schema_version": SCHEMA_VERSION, **card, "fingerprint": plan.fingerprint, "terms_verdict": plan.terms.detail,
        "teacher": plan.teacher.model_dump(mode="json", exclude_defaults=True, exclude={"key_env"}),
    }  # fmt: skip
