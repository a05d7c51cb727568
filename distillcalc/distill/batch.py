"""The same plan through OpenAI's Batch API: files of requests, polled until their answers are there.

A chunk of requests is written down and journaled before it is sent; a chunk whose creation was never answered is looked
for among the provider's batches before it is created again. Requests that a batch did not get to are not billed and go
into another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.engine import LabellingStopped, OutOfBudget, now
from distillcalc.distill.journal import Journal
from distillcalc.distill.ledger import ZERO, CallPrices, read_usage
from distillcalc.distill.pacing import backoff_s, retry_after_s
from distillcalc.distill.planning import LabelPlan
from distillcalc.distill.state import State
from distillcalc.distill.teacher import client

if TYPE_CHECKING:
    from openai import OpenAI

ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
MOST_REQUESTS = 50_000  # of one batch, and the size of its file: OpenAI's limits
MOST_BYTES = 190_000_000
MOST_ROUNDS = 3  # of batches in a row that bring nothing
ENDED = ("completed", "failed", "expired", "cancelled")
BOOKED_AT_ONCE = 1_000
ATTEMPTS = 6


def run_batches(
    plan: LabelPlan,
    journal: Journal,
    state: State,
    prices: CallPrices,
    *,
    poll_s: float = 30.0,
    progress: Callable[[State], None] | None = None,
    most_requests: int = MOST_REQUESTS,
) -> None:
    """Send what is missing as batches, wait for them, and journal every answer.

    Parameters
    ----------
    prices : the teacher's batch prices.
    poll_s : between two looks at a batch [s].
    most_requests : of one batch.

    Raises
    ------
    LabellingStopped
        If the provider refuses a batch, the budget does not hold the next one, or the wait is interrupted.
    """
    with client(plan.teacher, plan.catalog, plan.privacy) as api:
        batches = _Batches(plan, journal, state, prices, api, progress, most_requests)
        try:
            in_vain = 0
            while in_vain < MOST_ROUNDS:
                left = state.left
                batches.reserve_again()
                batches.send_missing()
                if not batches.open():
                    return
                batches.collect(poll_s)
                in_vain = in_vain + 1 if state.left == left else 0
        except KeyboardInterrupt:
            raise LabellingStopped(
                "interrupted; the batch goes on at the provider, and the same command collects it"
            ) from None


class _Batches:
    def __init__(
        self, plan: LabelPlan, journal: Journal, state: State, prices: CallPrices, api: OpenAI,
        progress: Callable[[State], None] | None, most_requests: int,
    ) -> None:  # fmt: skip
        self.plan, self.journal, self.state, self.prices, self.api = plan, journal, state, prices, api
        self.progress, self.most_requests = progress, most_requests
        self.folder = journal.file.parent
        self.reserved: dict[int, Decimal] = {}
        self.unreadable = 0  # lines of output files

    def open(self) -> list[int]:
        """Numbers of the chunks that were begun and have not ended."""
        return [number for number, chunk in self.state.batches.items() if "status" not in chunk]

    def reserve_again(self) -> None:
        """Set the money of chunks of an earlier session aside again."""
        for number in self.open():
            if number not in self.reserved:
                most = Decimal(self.state.batches[number]["usd"])
                if "id" in self.state.batches[number]:  # it runs, and costs, whatever the budget is now
                    self.state.ledger.reserved += most
                elif not self.state.ledger.reserve(most):
                    self._too_dear(most)
                self.reserved[number] = most

    def _too_dear(self, most: Decimal) -> None:
        ledger = self.state.ledger
        raise OutOfBudget(
            f"the budget of ${ledger.ceiling} does not hold the next batch, which may cost ${most:f}: "
            f"${ledger.spent:f} is spent. Raise the budget: the same command goes on where this one stopped"
        )

    def send_missing(self) -> None:
        """Create the chunks that were begun but not created, and new ones for what no chunk holds."""
        waiting: set[tuple[int, int]] = set()
        for number in self.open():
            waiting |= set(self._samples_of(number))
            if "id" not in self.state.batches[number]:
                self._create(number)
        for lines, most in self._chunks(waiting):
            if not self.state.ledger.reserve(most):
                if self.open():
                    return  # what is there is collected first: it may cost less than was set aside
                self._too_dear(most)
            number = len(self.state.batches)
            file = self._file(number)
            file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            self.reserved[number] = most
            self._note(number, usd=str(most), lines=len(lines), file=file.name)
            self._create(number)

    def _file(self, number: int) -> Path:
        return self.folder / f"batch-{number:04d}.jsonl"

    def _note(self, number: int, **about: Any) -> None:
        entry = {"t": "batch", "chunk": number, **about, "at": now()}
        self.state.apply(self.journal.write(entry), entry)

    def _samples_of(self, number: int) -> Iterator[tuple[int, int]]:
        with self._file(number).open(encoding="utf-8") as lines:
            for line in lines:
                row, samples = _read_id(json.loads(line)["custom_id"])
                yield from ((row, k) for k in samples)

    def _chunks(self, waiting: set[tuple[int, int]]) -> Iterator[tuple[list[str], Decimal]]:
        """Lines of requests that no open chunk holds, and the most that they can cost [USD]."""
        lines: list[str] = []
        size, most = 0, ZERO
        prompts, teacher = self.plan.prompts, self.plan.teacher
        for index, row in self.plan.used_rows():
            missing = [k for k in self.state.missing(index) if (index, k) not in waiting]
            for samples in _runs(missing) if teacher.one_call else [[k] for k in missing]:
                unit = prompts.unit(index, row, tuple(samples))
                line = json.dumps({
                    "custom_id": f"{index}.{samples[0]}+{len(samples)}", "method": "POST", "url": ENDPOINT,
                    "body": unit.body(len(samples)),
                }, ensure_ascii=False)  # fmt: skip
                cost = self.prices.most(unit.most_input_tokens, teacher.max_output_tokens * len(samples))
                left = self.state.ledger.left
                full = len(lines) == self.most_requests or size + len(line.encode()) > MOST_BYTES
                if lines and (full or (left is not None and most + cost > left)):
                    yield lines, most
                    lines, size, most = [], 0, ZERO
                lines.append(line)
                size += len(line.encode()) + 1
                most += cost
        if lines:
            yield lines, most

    def _create(self, number: int) -> None:
        """Upload a chunk and have it run; one that was created already is taken up again."""
        chunk = self.state.batches[number]
        found = self._existing(number) if "input_file" in chunk else None
        if found is None and "input_file" not in chunk:
            with self._file(number).open("rb") as stream:
                uploaded = self._patiently(partial(self._upload, stream))
            self._note(number, input_file=uploaded.id)
        for attempt in range(1, ATTEMPTS + 1):
            if found is not None:
                break
            try:
                found = self.api.batches.create(
                    input_file_id=self.state.batches[number]["input_file"], endpoint="/v1/chat/completions",
                    completion_window="24h", metadata=self._marks(number),
                )  # fmt: skip
            except Exception as error:
                self._refuse_fatal(error)
                if attempt == ATTEMPTS:
                    raise LabellingStopped(f"the batch could not be created: {error}") from error
                time.sleep(_pause(error, attempt))
                found = self._existing(number)  # the answer may have been lost, not the batch
        assert found is not None
        self._note(number, id=found.id)

    def _upload(self, stream: Any) -> Any:
        stream.seek(0)
        return self.api.files.create(file=stream, purpose="batch")

    def _marks(self, number: int) -> dict[str, str]:
        return {"distillcalc_plan": self.plan.fingerprint[:32], "distillcalc_chunk": str(number)}

    def _existing(self, number: int) -> Any:
        """The provider's batch of a chunk, where it has one."""
        marks = self._marks(number)

        def look() -> Any:
            for batch in self.api.batches.list(limit=100):
                if batch.metadata == marks:
                    return batch
            return None

        return self._patiently(look)

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """A call that changes nothing that is billed, tried again where the server falters."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except Exception as error:
                self._refuse_fatal(error)
                if attempt == ATTEMPTS:
                    raise LabellingStopped(f"the server does not answer: {error}. The same command goes on") from error
                time.sleep(_pause(error, attempt))
        return None

    def _refuse_fatal(self, error: Exception) -> None:
        import openai

        if not isinstance(error, openai.APIError):
            raise error
        status = getattr(error, "status_code", None)
        quota = getattr(error, "code", None) == "insufficient_quota"
        if status is not None and status < 500 and (quota or status not in (408, 409, 425, 429)):
            raise LabellingStopped(f"the server answered {status} {error.message}") from error

    def collect(self, poll_s: float) -> None:
        """Wait until every open chunk has ended, and journal what each brought."""
        while numbers := self.open():
            for number in numbers:
                name = self.state.batches[number]["id"]
                batch = self._patiently(partial(self.api.batches.retrieve, name))
                if batch.status in ENDED:
                    self._read(number, batch)
            if self.open():
                time.sleep(poll_s)

    def _read(self, number: int, batch: Any) -> None:
        seen: set[str] = set()
        before = self.state.ledger.spent
        for which in (batch.output_file_id, batch.error_file_id):
            if which:
                file = self.folder / f"{self._file(number).stem}-{which}.jsonl"
                if not file.exists():
                    self._patiently(partial(self._download, which, file))
                self._book(number, file, seen)
        self._commit(self._missing(number, seen))
        problems = [f"{p.code}: {p.message}" for p in (batch.errors.data or [])] if batch.errors else []
        self._note(number, status=batch.status, problems=problems[:5])
        most, usd = self.reserved.pop(number), self.state.ledger.spent - before
        self.state.ledger.reserved -= most
        if usd > most:
            raise LabellingStopped(
                f"the provider billed ${usd:f} for a batch that could cost ${most:f} at the most: it does not keep to "
                f"the limit of {self.plan.teacher.max_output_tokens} output tokens. The budget cannot be kept with it"
            )
        if batch.status == "failed":
            raise LabellingStopped(
                f"the provider refused the batch: {'; '.join(problems[:5]) or 'it does not say why'}"
            )
        if batch.status == "cancelled":
            raise LabellingStopped("the batch was cancelled; the same command sends what is missing again")

    def _missing(self, number: int, seen: set[str]) -> list[dict[str, Any]]:
        """Entries for what a batch brought no answer to.

        Where lines of its output could not be read, it may be one of those, which were billed: booked at the most.
        """
        said = "the batch brought no answer to it" + (" that can be read" if self.unreadable else "")
        found = []
        with self._file(number).open(encoding="utf-8") as lines:
            for line in lines:
                name = json.loads(line)["custom_id"]
                row, samples = _read_id(name)
                if any(f"{row}.{k}" in seen for k in samples) or self._is_booked(number, name):
                    continue
                entry = self._failure(number, name, row, samples, "batch-missing", said)
                if self.unreadable:
                    entry |= {"usd": str(self._most_of(number, name)), "possibly": True}
                found.append(entry)
        self.unreadable = 0
        return found

    def _download(self, which: str, file: Path) -> None:
        part = file.with_suffix(".part")
        with self.api.files.with_streaming_response.content(which) as response:
            response.stream_to_file(part)
        part.replace(file)

    def _book(self, number: int, file: Path, seen: set[str]) -> None:
        waiting: list[dict[str, Any]] = []
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.strip():
                    continue
                try:
                    found = json.loads(line)
                    row, samples = _read_id(found["custom_id"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    self.unreadable += 1
                    continue
                if not (row < self.state.rows and samples and samples[-1] < self.state.samples):
                    self.unreadable += 1
                    continue
                if any(f"{row}.{k}" in seen for k in samples):
                    continue
                seen.update(f"{row}.{k}" for k in samples)
                if self._is_booked(number, found["custom_id"]):
                    continue
                waiting.append(self._entry(number, found, row, samples))
                if len(waiting) == BOOKED_AT_ONCE:
                    self._commit(waiting)
                    waiting = []
        self._commit(waiting)

    def _is_booked(self, number: int, name: str) -> bool:
        """Whether an earlier session journaled this line before it was killed."""
        return f"batch{number}:{name}" in self.state.booked_lines

    def _commit(self, found: list[dict[str, Any]]) -> None:
        for place, entry in zip(self.journal.write_all(found), found, strict=True):
            self.state.apply(place, entry)
        if self.progress is not None and found:
            self.progress(self.state)

    def _most_of(self, number: int, name: str) -> Decimal:
        """The most that one line of a chunk can have cost [USD]."""
        teacher = self.plan.teacher
        with self._file(number).open(encoding="utf-8") as lines:
            body = next(found["body"] for found in map(json.loads, lines) if found["custom_id"] == name)
        bound = teacher.most_input_tokens(self.plan.task, body["messages"])
        return self.prices.most(bound, teacher.max_output_tokens * body.get("n", 1))

    def _failure(
        self, number: int, name: str, row: int, samples: list[int], kind: str, said: str, *, final: bool = False
    ) -> dict[str, Any]:
        entry = {
            "t": "failure", "call": f"batch{number}:{name}", "row": row, "samples": samples, "kind": kind,
            "message": said[:300], "usd": "0", "at": now(),
        }  # fmt: skip
        return entry | ({"final": True} if final else {})

    def _entry(self, number: int, found: dict[str, Any], row: int, samples: list[int]) -> dict[str, Any]:
        """A line of an output or error file as an entry of the journal."""
        name, response, error = found["custom_id"], found.get("response") or {}, found.get("error")
        status = response.get("status_code")
        if status != 200 or not isinstance(response.get("body"), dict):
            said = json.dumps(error or response.get("body") or "no answer", ensure_ascii=False)
            kind = str((error or {}).get("code") or status or "batch-error")
            return self._failure(number, name, row, samples, kind, said, final=status in (400, 413, 422))
        body = response["body"]
        usage = read_usage(body)
        most = self._most_of(number, name) if usage.problem else ZERO
        usd = most
        if not usage.problem:
            usd = self.prices.cost(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.write_tokens)
        choices = body.get("choices")
        choices = choices if isinstance(choices, list) else []
        return {
            "t": "response", "call": f"batch{number}:{name}", "row": row, "samples": samples[: len(choices)],
            "usd": str(usd), "charged": "most" if usage.problem else "usage",
            "tokens": {
                "input_tokens": usage.input_tokens, "cached_tokens": usage.cached_tokens,
                "output_tokens": usage.output_tokens, "reasoning_tokens": usage.reasoning_tokens,
            },
            "latency_s": None, "processing": "batch", "at": now(), "body": body,
        }  # fmt: skip


def _runs(samples: list[int]) -> list[list[int]]:
    """Samples cut into stretches without gaps."""
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(samples)) if b != a + 1), len(samples)]
    return [samples[a:b] for a, b in pairwise(cuts) if b > a]


def _read_id(name: str) -> tuple[int, list[int]]:
    """The row and the samples that a custom_id names."""
    row, _, rest = name.partition(".")
    first, _, count = rest.partition("+")
    return int(row), list(range(int(first), int(first) + int(count)))


def _pause(error: Exception, attempt: int) -> float:
    response = getattr(error, "response", None)
    asked = retry_after_s(response.headers) if response is not None else None
    return backoff_s(attempt) if asked is None else min(asked, 60.0)
