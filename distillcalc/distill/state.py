"""Where a labelling run stands: which samples are there, what was spent, which calls are open.

The same entries make the same state, whether they were just written or are read again after a kill.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from distillcalc.distill.ledger import ZERO, Ledger

NOT_YET, GIVEN_UP = -1, -2


@dataclass
class Counts:
    """What happened in a run, by kind, over all of its sessions."""

    calls: int = 0
    responses: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    possibly_billed: int = 0
    charged_at_most: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    latency_s: float = 0.0
    timed: int = 0


class State:
    """Where a run stands.

    Parameters
    ----------
    rows, samples : of the plan.
    ledger : booked by every entry.
    """

    def __init__(self, rows: int, samples: int, ledger: Ledger) -> None:
        self.rows = rows
        self.samples = samples
        self.ledger = ledger
        self.places = array("q", [NOT_YET]) * (rows * samples)  # journal byte of the response that holds a sample
        self.choices = bytearray(rows * samples)
        self.open: dict[str, tuple[Decimal, int, list[int], bool]] = {}
        self.probes: dict[str, int] = {}
        self.batches: dict[int, dict[str, Any]] = {}
        self.booked_lines: set[str] = set()  # lines of batches that are in the journal
        self.counts = Counts()
        self.fingerprint: str | None = None
        self.got = 0
        self.given_up = 0

    def missing(self, row: int) -> list[int]:
        """The samples of a row that are still to be asked for."""
        first = row * self.samples
        return [k for k in range(self.samples) if self.places[first + k] == NOT_YET]

    @property
    def wanted(self) -> int:
        """Samples in all."""
        return self.rows * self.samples

    @property
    def left(self) -> int:
        """Samples that are neither there nor given up."""
        return self.wanted - self.got - self.given_up

    def next_call(self, row: int, sample: int) -> str:
        """A name for the next call that no other call of the run has."""
        return f"{row}.{sample}:{self.counts.calls}"

    def apply(self, place: int, entry: Mapping[str, Any]) -> None:
        """Take in one entry of the journal that stands at ``place`` [byte]."""
        kind = entry["t"]
        if kind == "run":
            self.fingerprint = entry["fingerprint"]
        elif kind == "intent":
            self.counts.calls += 1
            self.open[entry["call"]] = (Decimal(entry["usd"]), entry["row"], entry["samples"], bool(entry.get("probe")))
        elif kind in ("response", "failure"):
            if self.open.pop(entry["call"], None) is None:
                self.booked_lines.add(entry["call"])  # nothing but lines of batches has no intent of its own
            self._book(entry)
            if kind == "response":
                self._response(place, entry)
            else:
                self._failure(entry)
        elif kind == "batch":
            self.batches.setdefault(entry["chunk"], {}).update(entry)

    def _book(self, entry: Mapping[str, Any]) -> None:
        usd = Decimal(entry["usd"])
        self.ledger.spent += usd
        if entry.get("possibly"):
            self.ledger.possibly_billed += usd
            self.counts.possibly_billed += 1

    def _response(self, place: int, entry: Mapping[str, Any]) -> None:
        counts = self.counts
        counts.responses += 1
        counts.charged_at_most += entry["charged"] == "most"
        for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"):
            setattr(counts, name, getattr(counts, name) + entry["tokens"].get(name, 0))
        if entry.get("latency_s") is not None:
            counts.latency_s += entry["latency_s"]
            counts.timed += 1
        if entry.get("probe"):
            self.probes[entry["probe"]] = place
            return
        first = entry["row"] * self.samples
        for choice, k in enumerate(entry["samples"]):
            if self.places[first + k] == NOT_YET:
                self.places[first + k] = place
                self.choices[first + k] = choice
                self.got += 1

    def _failure(self, entry: Mapping[str, Any]) -> None:
        failures = self.counts.failures
        failures[entry["kind"]] = failures.get(entry["kind"], 0) + 1
        if entry.get("final") and not entry.get("probe"):
            first = entry["row"] * self.samples
            for k in entry["samples"]:
                if self.places[first + k] == NOT_YET:
                    self.places[first + k] = GIVEN_UP
                    self.given_up += 1

    def reconsider(self) -> None:
        """Take back what was given up where nothing was ever answered: the server refused it all, not a row."""
        if self.got == 0 and self.given_up:
            for place, stands in enumerate(self.places):
                if stands == GIVEN_UP:
                    self.places[place] = NOT_YET
            self.given_up = 0

    def interrupted(self) -> list[dict[str, Any]]:
        """Entries that book each open call, of a session that was killed, at the most that it can have cost."""
        return [
            {
                "t": "failure",
                "call": call,
                "row": row,
                "samples": samples,
                "kind": "interrupted",
                "message": "the process ended before the answer was read; it may have been billed",
                "usd": str(most),
                "possibly": most > ZERO,
                **({"probe": True} if probe else {}),
            }
            for call, (most, row, samples, probe) in self.open.items()
        ]
