"""What a filter gives back: the records that stay, and a report of those that go and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from distillcalc.distill.records import Record

Key = tuple[str, int]
SHOWN = 8  # counts of a detail


@dataclass(frozen=True)
class Removal:
    """A record that a filter took out.

    Parameters
    ----------
    id, sample : of the record.
    reason : why, in words that other removals for the same reason share.
    of : id and sample of the record that it repeats, or id of the evaluation item that it gives away and 0.
    """

    id: str
    sample: int
    reason: str
    of: Key | None = None


@dataclass(frozen=True)
class FilterReport:
    """What one filter read, kept and took out; ``read`` is always ``kept`` and the removals together.

    Parameters
    ----------
    name : of the filter.
    settings : the options it ran with.
    read, kept : number of records.
    removed : those taken out, in the order they stood in.
    details : what else the filter counted.
    """

    name: str
    settings: dict[str, Any]
    read: int
    kept: int
    removed: tuple[Removal, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def by_reason(self) -> dict[str, int]:
        """Number of records taken out for each reason, most first."""
        return dict(Counter(removal.reason for removal in self.removed).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the removals one by one among them."""
        return {**asdict(self), "removed": [asdict(one) for one in self.removed], "by_reason": self.by_reason}

    def __str__(self) -> str:
        options = f" ({self.options})" if self.options else ""
        counts = f"{self.read:,} read, {self.kept:,} kept, {len(self.removed):,} removed"
        lines = [f"{self.name.replace('_', ' ')}{options}: {counts}"]
        lines += [f"  {count:>7,}  {reason}" for reason, count in self.by_reason.items()]
        lines += [f"  {name.replace('_', ' ')}: {in_words(value)}" for name, value in self.details.items()]
        return "\n".join(lines)

    @property
    def options(self) -> str:
        """The settings in words, those that are not set left out."""
        return options_in_words(self.settings)


def options_in_words(settings: Mapping[str, Any]) -> str:
    """Settings of a filter in words, those that are not set left out."""
    return ", ".join(
        f"{name.replace('_', ' ')}: {in_words(value)}" for name, value in settings.items() if value is not None
    )


def in_words(value: Any) -> str:
    """A number, a switch or a few counts as a person reads them."""
    if isinstance(value, Mapping):
        first = list(value.items())[:SHOWN]
        more = f", and {len(value) - SHOWN:,} more" if len(value) > SHOWN else ""
        return ", ".join(f"{key} {in_words(one)}" for key, one in first) + more
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not known" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


@dataclass(frozen=True)
class Filtered:
    """The records that a filter keeps, in their order, and its report."""

    kept: tuple[Record, ...]
    report: FilterReport


Filter = Callable[[Sequence[Record]], Filtered]
Verdict = str | tuple[str, Key | None] | None


def judged(
    name: str,
    settings: dict[str, Any],
    records: Sequence[Record],
    verdicts: Iterable[Verdict],
    details: dict[str, Any] | None = None,
) -> Filtered:
    """Records parted by a verdict on each: None keeps it, a reason (or a reason and whom it repeats) takes it out."""
    kept, removed = [], []
    for record, verdict in zip(records, verdicts, strict=True):
        if verdict is None:
            kept.append(record)
            continue
        reason, of = verdict if isinstance(verdict, tuple) else (verdict, None)
        removed.append(Removal(record.id, record.sample, reason, of))
    report = FilterReport(name, settings, len(records), len(kept), tuple(removed), details or {})
    return Filtered(tuple(kept), report)


def apply_filters(
    records: Iterable[Record], filters: Iterable[Filter]
) -> tuple[tuple[Record, ...], list[FilterReport]]:
    """Run filters one after the other, each on what the one before kept.

    Parameters
    ----------
    records : what the first filter reads.
    filters : functions of the records alone; ``functools.partial(length, most=400)`` makes one of a filter with
        options.

    Returns
    -------
    What the last one kept, and a report of each.
    """
    kept, reports = tuple(records), []
    for one in filters:
        found = one(kept)
        kept = found.kept
        reports.append(found.report)
    return kept, reports
