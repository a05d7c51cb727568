"""Calls to the teacher, many at once: reserved, journaled, sent, journaled again, and only then counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from distillcalc.distill.journal import Journal
from distillcalc.distill.ledger import ZERO, CallPrices, Ledger, read_usage
from distillcalc.distill.pacing import Pacer, backoff_s
from distillcalc.distill.state import State
from distillcalc.errors import DistillcalcError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

REFUSED_AT_START = 20  # requests refused before a first answer: something is wrong with all of them
MAYBE_BILLED = {408, 502, 504, 520, 524}  # of a gateway that gave up on a model that may have gone on
BARRED_IN_A_ROW = 5  # requests refused as not allowed or not found: it is the model or the key, not a row
LEFT_AT_429 = 4  # times as many refusals of one call as failures, while others are answered: it is left for later
MESSAGE = 300  # characters of a server's message that are kept


class LabellingStopped(DistillcalcError):
    """A run that cannot go on; what was paid for is in its journal, and the same command goes on from there."""


class OutOfBudget(LabellingStopped):
    """The next call could cost more than what is left of the budget."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to ask: some samples of a row, and how to word it; ``probe`` names a call beside the plan's own."""

    row: int
    samples: tuple[int, ...]
    body: Callable[[int], dict[str, Any]]  # of a number of samples
    most_input_tokens: int
    probe: str = ""


class _Next(Enum):
    GO_ON = 1  # answered
    AGAIN = 2  # failed, may be tried again
    WAIT = 3  # the server wants fewer calls
    OVER = 4  # not to be tried again


class Engine:
    """Asks the teacher for units until they are done, the budget is, or something stops it.

    Parameters
    ----------
    clients : see :func:`.teacher.async_clients`; workers share them evenly.
    journal, state : of the run.
    prices : of the teacher, today.
    max_output_tokens : per sample, as the requests state it.
    pacer : how many calls are in flight.
    attempts : how often one call may fail before it is left for the next session.
    patience_s : how long nothing may be answered before the run stops.
    progress : called after each outcome.
    """

    def __init__(
        self,
        clients: Sequence[AsyncOpenAI],
        journal: Journal,
        state: State,
        prices: CallPrices,
        *,
        max_output_tokens: int,
        pacer: Pacer,
        attempts: int = 5,
        patience_s: float = 900.0,
        progress: Callable[[State], None] | None = None,
    ) -> None:
        import httpx2
        import openai

        self._clients, self._journal, self._state, self._prices = clients, journal, state, prices
        self._ledger: Ledger = state.ledger
        self._max_output_tokens = max_output_tokens
        self._attempts, self._patience_s = attempts, patience_s
        self._progress = progress
        self.pacer = pacer
        self._freed = asyncio.Event()
        self._halted: Exception | None = None
        self._stopping = False
        self._answered_at = time.monotonic()
        self._answers = 0
        self._refused = 0
        self._barred = 0
        self.left_over = 0
        self._response_type = httpx2.Response
        self._unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
        self._status_error, self._timeout_error = openai.APIStatusError, openai.APITimeoutError
        self._connection_error = openai.APIConnectionError

    async def run(self, units: Iterator[Unit]) -> None:
        """Ask for every unit; calls in flight are read to their end whatever happens.

        Raises
        ------
        LabellingStopped
            If the budget does not hold the next call, or the server refuses the key, the model or everything.
        """
        self._answered_at = time.monotonic()
        clients = islice(cycle(self._clients), self.pacer.most)
        workers = [asyncio.create_task(self._work(client, units)) for client in clients]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        if self._halted is not None:
            raise self._halted

    def stop(self) -> None:
        """Send nothing more; what is in flight is read to its end."""
        self._stopping = True
        self._freed.set()

    @property
    def _ending(self) -> bool:
        return self._stopping or self._halted is not None

    def _halt(self, error: Exception) -> None:
        self._halted = self._halted or error
        self._freed.set()

    async def _work(self, client: AsyncOpenAI, units: Iterator[Unit]) -> None:
        try:
            for unit in units:
                if self._ending:
                    return
                await self._ask(client, unit)
        except Exception as error:  # noqa: BLE001 - raised again by run
            self._halt(error)  # rows that cannot be read, a full disk: what is in flight is paid for, and is read

    async def _ask(self, client: AsyncOpenAI, unit: Unit) -> None:
        missing = list(unit.samples)
        failures = refusals = 0
        answers = self._answers
        while not self._ending:
            outcome, got = await self._try(client, unit, missing)
            if outcome is _Next.GO_ON:
                failures = 0
                missing = missing[got:]
                if not missing or unit.probe:
                    return
            elif outcome is _Next.OVER:
                return
            elif outcome is _Next.AGAIN:
                failures += 1
                if failures >= self._attempts:
                    self.left_over += len(missing)
                    return
                await asyncio.sleep(backoff_s(failures))
            elif self._answers > answers:  # others are answered: it may be this call that is too much
                refusals, answers = refusals + 1, self._answers
                if refusals >= LEFT_AT_429 * self._attempts:
                    self.left_over += len(missing)
                    return
            if time.monotonic() - self._answered_at > self._patience_s:
                self._halt(LabellingStopped(
                    f"the server has answered nothing for {self._patience_s:g} s. Try again later: the same command "
                    "goes on where this one stopped"
                ))  # fmt: skip

    async def _reserve(self, most: Decimal) -> bool:
        while not self._ledger.reserve(most):
            if self._ending or self._ledger.reserved == ZERO:
                return False
            self._freed.clear()
            await self._freed.wait()
        return True

    def _settle(self, most: Decimal) -> None:
        """Give a reservation back; what the call cost was booked by its entry."""
        self._ledger.reserved -= most
        self._freed.set()

    async def _try(self, client: AsyncOpenAI, unit: Unit, samples: list[int]) -> tuple[_Next, int]:
        most = self._prices.most(unit.most_input_tokens, self._max_output_tokens * len(samples))
        if not await self._reserve(most):
            if not self._ending:
                self._halt(OutOfBudget(
                    f"the budget of ${self._ledger.ceiling} does not hold the next call, which may cost ${most:f}: "
                    f"${self._ledger.spent:f} is spent. Raise the budget: the same command goes on where this one "
                    "stopped"
                ))  # fmt: skip
            return _Next.OVER, 0
        try:
            await self.pacer.enter()
            try:
                if self._ending:
                    return _Next.OVER, 0
                return await self._send(client, unit, samples, most)
            finally:
                self.pacer.leave()
        finally:
            self._settle(most)

    async def _send(self, client: AsyncOpenAI, unit: Unit, samples: list[int], most: Decimal) -> tuple[_Next, int]:
        call = self._state.next_call(unit.row, samples[0])
        about: dict[str, Any] = {"call": call, "row": unit.row, "samples": samples}
        if unit.probe:
            about["probe"] = unit.probe
        intent = {"t": "intent", **about, "usd": str(most)}
        self._state.apply(-1, intent)  # counted at once: the next call needs another name
        await self._journal.commit(intent)
        sent = time.monotonic()
        try:
            response = await client.post("/chat/completions", cast_to=self._response_type, body=unit.body(len(samples)))
            raw = response.content
        except self._status_error as error:
            return await self._refusal(about, error, sent, most)
        except self._timeout_error as error:
            return await self._lost(about, "timeout", error, most)
        except self._connection_error as error:
            return await self._lost(about, "connection", error, most)
        return await self._answer(about, raw, time.monotonic() - sent, most)

    async def _answer(self, about: dict[str, Any], raw: bytes, latency_s: float, most: Decimal) -> tuple[_Next, int]:
        try:
            text = raw.decode()
            body = json.loads(text)
            if not isinstance(body, dict):
                raise ValueError("the response is not a JSON object")
        except (ValueError, RecursionError) as error:
            await self._fail(about, "invalid-json", str(error), most, possibly=True)
            self._refused += 1
            if self._refused >= REFUSED_AT_START and not self._answers:
                self._halt(LabellingStopped(
                    f"the server answered {self._refused} times with what is not JSON ({text_start(raw)!r}): is "
                    "base_url right? Nothing more was sent"
                ))  # fmt: skip
            return _Next.AGAIN, 0
        usage = read_usage(body)
        usd = most
        if not usage.problem:
            usd = self._prices.cost(
                usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.write_tokens
            )  # fmt: skip
        choices = body.get("choices")
        got = len(choices) if isinstance(choices, list) else 0
        entry: dict[str, Any] = {
            "t": "response", **about, "samples": about["samples"][:got], "usd": str(usd),
            "charged": "most" if usage.problem else "usage",
            "tokens": {
                "input_tokens": usage.input_tokens, "cached_tokens": usage.cached_tokens,
                "output_tokens": usage.output_tokens, "reasoning_tokens": usage.reasoning_tokens,
            },
            "latency_s": round(latency_s, 6), "at": now(),
        }  # fmt: skip
        if usage.problem:
            entry["problem"] = usage.problem
        # The body goes in as it came: parsed once, and not written anew.
        head = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
        inside = text.strip() if "\n" not in text.strip() else json.dumps(body, ensure_ascii=False)
        await self._book(entry, head[:-1] + ',"body":' + inside + "}")
        if usd > most:
            self._halt(LabellingStopped(
                f"the server billed ${usd:f} for a call that could cost ${most:f} at the most: it does not keep "
                f"to the limit of {self._max_output_tokens} output tokens. The budget cannot be kept with it"
            ))  # fmt: skip
        self._answers += 1
        self._barred = 0
        self._answered_at = time.monotonic()
        self.pacer.answered()
        if got == 0:
            return _Next.AGAIN, 0
        return _Next.GO_ON, min(got, len(about["samples"]))

    async def _refusal(self, about: dict[str, Any], error: Any, sent: float, most: Decimal) -> tuple[_Next, int]:
        status, code = int(error.status_code), getattr(error, "code", None)
        said = str(getattr(error, "message", error))[:MESSAGE]
        headers = error.response.headers
        if status == 429 and code != "insufficient_quota":
            self.pacer.refused(sent, headers)
            await self._fail(about, "429", said, ZERO)
            return _Next.WAIT, 0
        if status in (408, 409, 425) or (status >= 500 and status != 501):
            if "retry-after" in headers:
                self.pacer.refused(sent, headers)
            maybe = status in MAYBE_BILLED
            return await self._fail(about, str(status), said, most if maybe else ZERO, possibly=maybe), 0
        fatal = status in (401, 402, 405, 429, 501) or status < 400
        if status in (403, 404):  # some providers say so to one text that they will not have
            self._barred += 1
            fatal = not self._answers or self._barred >= BARRED_IN_A_ROW
        self._refused += 1
        at_all = self._refused >= REFUSED_AT_START and not self._answers
        await self._fail(about, str(status), said, ZERO, final=not fatal and not at_all)
        if fatal or at_all:
            what = f"a redirect to {headers.get('location')}" if status < 400 else f"{status} {said}"
            self._halt(LabellingStopped(f"the server answered {what}. Nothing more was sent"))
        return _Next.OVER, 0

    async def _lost(self, about: dict[str, Any], kind: str, error: Exception, most: Decimal) -> tuple[_Next, int]:
        """A call whose answer was not read: billed, for all we know, unless it never left."""
        unsent = isinstance(error.__cause__, self._unsent)
        said = f"{error} {error.__cause__!r}"[:MESSAGE]
        kind = "no-connection" if unsent else kind
        return await self._fail(about, kind, said, ZERO if unsent else most, possibly=not unsent), 0

    async def _fail(
        self, about: dict[str, Any], kind: str, said: str, usd: Decimal, *, possibly: bool = False, final: bool = False
    ) -> _Next:
        entry = {"t": "failure", **about, "kind": kind, "message": said, "usd": str(usd), "at": now()}
        if possibly:
            entry["possibly"] = True
        if final:
            entry["final"] = True
        await self._book(entry, entry)
        return _Next.AGAIN

    async def _book(self, entry: dict[str, Any], line: dict[str, Any] | str) -> None:
        place = await self._journal.commit(line)
        self._state.apply(place, entry)
        if self._progress is not None:
            self._progress(self._state)


def text_start(raw: bytes) -> str:
    """The first characters of a response, to be shown."""
    return raw[:60].decode(errors="replace").strip()


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
