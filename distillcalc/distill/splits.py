"""Training, validation and test sets that share no text: near-duplicates are always on the same side."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from distillcalc.distill.duplicates import clusters
from distillcalc.distill.records import Record
from distillcalc.distill.wording import normalised
from distillcalc.errors import InputError

SHARES = MappingProxyType({"train": 0.8, "validation": 0.1, "test": 0.1})
RECALL = 0.9999  # of a pair right at the threshold; a pair that is missed could cross the splits


@dataclass(frozen=True)
class Splits:
    """Records parted into sets that no group crosses.

    Parameters
    ----------
    parts : the records of each split, in the order they stood in.
    shares : share of the records that was asked for, by split.
    groups : number of groups; ``largest_group`` is the number of records of the largest.
    classes : number of records of each class, by split; empty where the splits are not stratified.
    warnings : what could not be done as asked, in words.
    """

    parts: dict[str, tuple[Record, ...]]
    shares: dict[str, float]
    groups: int
    largest_group: int
    classes: dict[str, dict[str, int]]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> tuple[Record, ...]:
        return self.parts[name]

    @property
    def realised(self) -> dict[str, float]:
        """Share of the records that each split got; nan where there are no records."""
        total = sum(map(len, self.parts.values()))
        return {name: len(part) / total if total else math.nan for name, part in self.parts.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the records."""
        return {
            "records": {name: len(part) for name, part in self.parts.items()},
            "shares": self.shares,
            "realised": {name: None if math.isnan(share) else share for name, share in self.realised.items()},
            "groups": self.groups,
            "largest_group": self.largest_group,
            "classes": self.classes,
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        lines = [
            f"{name}: {len(part):,} records, {self.realised[name]:.1%} (asked: {self.shares[name]:.1%})"
            for name, part in self.parts.items()
        ]
        lines.append(f"{self.groups:,} groups, the largest of {self.largest_group:,}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


def split(
    records: Sequence[Record],
    *,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    groups: Sequence[Hashable] | Callable[[Record], Hashable] | None = None,
    stratify: bool = True,
    threshold: float = 0.8,
) -> Splits:
    """Part records into splits of about these shares, whole groups at a time.

    scikit-learn's StratifiedGroupKFold makes folds of one size, refuses classes with fewer members than folds, and
    depends on the order of the rows; shares such as 0.7, 0.15 and 0.15 would take 20 folds. So the groups are dealt
    here: the largest first, those of one size in an order that the seed draws, each to the split that is furthest
    behind its share of what has been dealt, counted in the group's classes and in all.

    Which split a record gets depends on the seed and on the records, not on their order. Near-duplicates are sought
    by hashing: a pair right at the threshold is missed with a chance below 1 in 10,000, one above it more rarely.

    Parameters
    ----------
    records : any records; the samples of one row stay together.
    shares : share of the records, by split; they sum to 1.
    seed : of the order in which groups are dealt.
    groups : what must stay together: a value for each record, or a function of it. Left out, the clusters of
        near-duplicate inputs (:func:`.duplicates.clusters`).
    stratify : whether each split should have the same shares of the labels; answers that are no label are one class.
    threshold : Jaccard index from which inputs are near-duplicates, in (0, 1].

    Raises
    ------
    InputError
        If the shares are not above 0 or do not sum to 1, or there are not as many groups as records.
    """
    if not shares or not all(0 < share <= 1 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise InputError(f"shares are above 0 and sum to 1, such as {dict(SHARES)}. Got {dict(shares)}")
    together = _groups(records, groups, threshold)
    classes = [record.value if stratify and isinstance(record.value, str) else "" for record in records]
    where = _deal(together, classes, dict(shares), _keys(records, together, seed))
    parts = {name: tuple(r for r, i in zip(records, where, strict=True) if i == name) for name in shares}
    counts: dict[str, dict[str, int]] = {}
    if set(classes) - {""}:
        counts = {
            name: dict(sorted(Counter(c for c, i in zip(classes, where, strict=True) if i == name).items()))
            for name in shares
        }
    sizes = [len(members) for members in together]
    largest = max(sizes, default=0)
    return Splits(parts, dict(shares), len(sizes), largest, counts, _warnings(records, shares, parts, largest))


def _groups(
    records: Sequence[Record], groups: Sequence[Hashable] | Callable[[Record], Hashable] | None, threshold: float
) -> list[list[int]]:
    """The records that must stay together, by their places; those of one row do in any case."""
    values: Sequence[Hashable]
    if groups is None:
        values = clusters([record.text for record in records], threshold=threshold, recall=RECALL)
    elif callable(groups):
        values = [groups(record) for record in records]
    else:
        values = groups
    if len(values) != len(records):
        raise InputError(f"groups has a value for each record. Got {len(values)} for {len(records)} records")
    root = list(range(len(records)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    first: dict[tuple[str, Hashable], int] = {}
    for i, (record, value) in enumerate(zip(records, values, strict=True)):
        for key in (("row", record.id), ("group", value)):
            root[find(i)] = find(first.setdefault(key, i))
    together: dict[int, list[int]] = defaultdict(list)
    for i in range(len(records)):
        together[find(i)].append(i)
    return list(together.values())


def _keys(records: Sequence[Record], together: list[list[int]], seed: int) -> list[bytes]:
    """A key that orders the groups at random and depends on what is in them alone."""
    keys = []
    for members in together:
        name = min(f"{records[i].id}\0{records[i].sample}\0{normalised(records[i].text)}" for i in members)
        keys.append(blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return keys


def _deal(together: list[list[int]], classes: list[str], shares: dict[str, float], keys: list[bytes]) -> list[str]:
    """The split of each record."""
    where = [""] * len(classes)
    seen: Counter[str] = Counter()
    have: dict[str, Counter[str]] = {name: Counter() for name in shares}
    for group in sorted(range(len(together)), key=lambda g: (-len(together[g]), keys[g])):
        mine = Counter(classes[i] for i in together[group])
        seen.update(mine)
        dealt, size = seen.total(), mine.total()

        def ahead(name: str, mine: Counter[str] = mine, dealt: int = dealt, size: int = size) -> float:
            """How far the split is ahead of its share, in the classes of this group and in all."""
            by_class = sum(n * (have[name][c] - shares[name] * seen[c]) for c, n in mine.items())
            return round(by_class + size * (have[name].total() - shares[name] * dealt), 9)

        chosen = min(shares, key=ahead)
        have[chosen].update(mine)
        for i in together[group]:
            where[i] = chosen
    return where


def _warnings(
    records: Sequence[Record], shares: Mapping[str, float], parts: dict[str, tuple[Record, ...]], largest: int
) -> tuple[str, ...]:
    """What could not be done as asked."""
    found = []
    total = len(records)
    small = [name for name, share in shares.items() if largest > share * total]
    if total and largest > 1 and small:
        found.append(f"a group of {largest:,} records is larger than the share of {', '.join(small)}")
    for name, share in shares.items():
        if total and not parts[name]:
            found.append(f"{name} is empty")
        elif total and abs(len(parts[name]) / total - share) > 0.02 and abs(len(parts[name]) - share * total) > 1:
            got = len(parts[name]) / total
            found.append(f"{name} has {got:.1%} of the records, {share:.1%} was asked for: groups stay whole")
    return tuple(found)
