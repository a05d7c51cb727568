"""Texts that say the same: equal after normalising, or nearly equal by the shingles that they share.

Signatures are datasketch's MinHash, fed in one pass (``MinHash.generator``). They are banded here and not by its
``MinHashLSH``: a query of that lists every neighbour of a text, which is quadratic where a teacher fills a template
20,000 times. Every candidate is then compared by its true Jaccard index, so nothing below the threshold is called a
near-duplicate; what the bands miss is bounded by ``recall``.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.distill.comparing import vote_of
from distillcalc.distill.filtered import Filtered, Verdict, judged
from distillcalc.distill.records import Record
from distillcalc.distill.wording import Unit, jaccard, normalised, shingles
from distillcalc.errors import InputError, MissingExtra

SIZE = 5  # characters of a shingle
PERMUTATIONS = 128
HELD = 2_000  # sets of shingles
CELLS = 4_000_000  # comparisons of rapidfuzz at a time
ROUNDING = 1e-6  # rapidfuzz takes a ratio of 0.8 to miss a cutoff of 0.8, which it holds in single precision
RECALL = 0.995  # chance that a pair right at the threshold is found


def bands_and_rows(threshold: float, *, recall: float = RECALL, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """The bands and the rows of each that find a pair at the threshold with at least this chance.

    A pair of Jaccard index J shares one of b bands of r rows with the chance 1 - (1 - J^r)^b (Leskovec, Rajaraman and
    Ullman, Mining of Massive Datasets, 3.4.2). The most rows that reach the recall are taken: fewest false candidates.
    """
    for rows in range(permutations // 2, 1, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return permutations, 1


class Near:
    """Which of some texts are near-duplicates of each other; each distinct text is looked at once.

    Two texts are near-duplicates if their shingles' Jaccard index reaches the threshold. Where one of them has fewer
    than ``size`` shingles (below 2 * size - 1 characters) a single letter would change most of them; such a pair is
    judged by rapidfuzz's ratio (1 - insertions and deletions / both lengths) against the same threshold.

    Parameters
    ----------
    texts : any texts.
    threshold : in (0, 1].
    size, unit : of a shingle.
    recall : chance that a pair right at the threshold is found; one above it is found more surely.
    permutations : length of a signature; more cost time and make the bands sharper.
    seed : of the signatures.

    Raises
    ------
    InputError
        If the threshold or the recall is not in (0, 1].
    """

    def __init__(
        self,
        texts: Sequence[str],
        *,
        threshold: float = 0.8,
        size: int = SIZE,
        unit: Unit = "characters",
        recall: float = RECALL,
        permutations: int = PERMUTATIONS,
        seed: int = 1,
    ) -> None:
        if not 0 < threshold <= 1:
            raise InputError(f"threshold is a Jaccard index above 0 and up to 1, such as 0.8. Got {threshold:g}")
        if not 0 < recall < 1:
            raise InputError(f"recall is a chance between 0 and 1, such as {RECALL:g}. Got {recall:g}")
        folded = [normalised(text) for text in texts]
        numbers = {text: number for number, text in enumerate(dict.fromkeys(folded))}
        self.distinct = list(numbers)
        self.number = [numbers[text] for text in folded]  # of the distinct text, by text
        self.threshold, self.seed, self.permutations = threshold, seed, permutations
        # Sets of strings are large: those needed now are held, and the rest made again.
        self.shingles = lru_cache(HELD)(lambda i: shingles(self.distinct[i], size=size, unit=unit))
        self.short = [len(self.shingles(i)) < size for i in range(len(self.distinct))]
        self.bands, self.rows = bands_and_rows(threshold, recall=recall, permutations=permutations)

    @cached_property
    def buckets(self) -> NDArray[np.intp]:
        """Bucket of each distinct text in each band, shape (texts, bands); short texts are in none (-1)."""
        found = np.full((len(self.distinct), self.bands), -1, dtype=np.intp)
        long = [i for i, short in enumerate(self.short) if not short]
        if not long:
            return found
        try:
            from datasketch import MinHash
        except ImportError as error:
            raise MissingExtra("datasketch", "distill") from error
        coded = ([gram.encode() for gram in self.shingles(i)] for i in long)
        made = MinHash.generator(coded, num_perm=self.permutations, seed=self.seed, hashfunc=zlib.crc32)
        signatures = np.stack([one.hashvalues for one in made])
        for band in range(self.bands):
            part = np.ascontiguousarray(signatures[:, band * self.rows : (band + 1) * self.rows])
            keys = part.view(np.dtype((np.void, part.dtype.itemsize * self.rows))).ravel()
            found[long, band] = np.unique(keys, return_inverse=True)[1]
        return found

    @cached_property
    def short_pairs(self) -> list[tuple[int, int]]:
        """Pairs of distinct texts, one of them short, whose ratio reaches the threshold."""
        try:
            from rapidfuzz import process
            from rapidfuzz.distance import Indel
        except ImportError as error:
            raise MissingExtra("rapidfuzz", "distill") from error
        short = [i for i, is_short in enumerate(self.short) if is_short and self.distinct[i]]
        lengths = np.array([len(text) for text in self.distinct])
        reach = (2 - self.threshold) / self.threshold + 1e-9  # of two lengths, where the ratio can reach the threshold
        others = np.argsort(lengths, kind="stable")
        sorted_lengths = lengths[others]
        found: set[tuple[int, int]] = set()
        for length in sorted({len(self.distinct[i]) for i in short}):
            mine = [i for i in short if len(self.distinct[i]) == length]
            low, high = np.searchsorted(sorted_lengths, (length / reach, length * reach + 1))
            theirs = others[low:high]
            choices = [self.distinct[j] for j in theirs]
            rows = max(CELLS // len(choices), 1)
            for start in range(0, len(mine), rows):
                part = mine[start : start + rows]
                ratios = process.cdist(
                    [self.distinct[i] for i in part],
                    choices,
                    scorer=Indel.normalized_similarity,
                    score_cutoff=self.threshold - ROUNDING,
                    dtype=np.float64,
                )
                for row, column in np.argwhere(ratios >= self.threshold - ROUNDING):
                    i, j = part[row], int(theirs[column])
                    if i != j:
                        found.add((min(i, j), max(i, j)))
        return sorted(found)

    def near(self, i: int, j: int) -> bool:
        """Whether two distinct texts, neither of them short, are near-duplicates."""
        a, b = self.shingles(i), self.shingles(j)
        if min(len(a), len(b)) < self.threshold * max(len(a), len(b)):
            return False
        return jaccard(a, b) >= self.threshold

    def clusters(self) -> list[int]:
        """The cluster of each text; see :func:`clusters`."""
        root = list(range(len(self.distinct)))

        def find(i: int) -> int:
            while root[i] != i:
                root[i] = root[root[i]]
                i = root[i]
            return i

        for i, j in self.short_pairs:
            root[find(i)] = find(j)
        for members in self._crowds():
            parts: list[list[int]] = []  # of the bucket; what two buckets hold of one cluster is joined by its root
            for i in members:
                met = [part for part in parts if find(part[0]) == find(i) or any(self.near(i, j) for j in part)]
                for part in met:
                    root[find(part[0])] = find(i)
                if met:
                    met[0] += [i, *(j for part in met[1:] for j in part)]
                    parts = [part for part in parts if not any(part is one for one in met[1:])] if met[1:] else parts
                else:
                    parts.append([i])
        ids: dict[int, int] = {}
        return [ids.setdefault(find(number), len(ids)) for number in self.number]

    def _crowds(self) -> Iterator[list[int]]:
        """The members of every bucket that has several."""
        for column in self.buckets.T:
            order = np.argsort(column, kind="stable")
            order = order[column[order] >= 0]
            for members in np.split(order, np.flatnonzero(np.diff(column[order])) + 1):
                if len(members) > 1:
                    yield members.tolist()

    def leaders(self) -> list[int]:
        """For each distinct text the first before it, itself no near-duplicate, that it repeats; else itself."""
        before: dict[int, list[int]] = defaultdict(list)
        for i, j in self.short_pairs:
            before[j].append(i)
        held: list[dict[int, list[int]]] = [defaultdict(list) for _ in range(self.bands)]
        found: list[int] = []
        for i, row in enumerate(self.buckets.tolist()):
            candidates = {j for j in before[i] if found[j] == j}
            if not self.short[i]:
                near = {j for band, bucket in zip(held, row, strict=True) for j in band.get(bucket, ())}
                candidates |= {j for j in near if self.near(i, j)}
            found.append(min(candidates, default=i))
            if found[i] == i and not self.short[i]:
                for band, bucket in zip(held, row, strict=True):
                    band[bucket].append(i)
        return found

    def near_to(self, some: set[int]) -> set[int]:
        """The distinct texts that are among these, or near-duplicates of one of them."""
        found = set(some)
        for i, j in self.short_pairs:
            if some & {i, j}:
                found |= {i, j}
        for members in self._crowds():
            these = [i for i in members if i in some]
            found |= {i for i in members if these and i not in found and any(self.near(i, j) for j in these)}
        return found


def clusters(texts: Sequence[str], *, threshold: float = 0.8, **options: Any) -> list[int]:
    """The cluster of each text: near-duplicates of near-duplicates are together, however long the chain.

    Which texts are together does not depend on the order that they come in; clusters are numbered from 0 by their
    first text.

    Parameters
    ----------
    texts : any texts; empty ones are all equal.
    threshold : least Jaccard index of the shingles of two near-duplicates, in (0, 1].
    options : size, unit, recall, permutations, seed: see :class:`Near`.
    """
    return Near(texts, threshold=threshold, **options).clusters()


def exact_duplicates(records: Sequence[Record], *, punctuation: bool = True) -> Filtered:
    """Keep the first of the rows whose input reads the same once normalised (NFKC, case, white space).

    The samples of one row are no duplicates of each other: :func:`.filters.self_consistency` chooses among them.

    Parameters
    ----------
    records : any records.
    punctuation : whether a difference in punctuation alone makes another text.
    """
    texts = [normalised(record.text, punctuation=punctuation) for record in records]
    first = {text: i for i, text in reversed(list(enumerate(texts)))}
    return _without_repeats("exact_duplicates", {"punctuation": punctuation}, records, [first[text] for text in texts])


def near_duplicates(
    records: Sequence[Record],
    *,
    threshold: float = 0.8,
    size: int = SIZE,
    unit: Unit = "characters",
    recall: float = RECALL,
    seed: int = 1,
) -> Filtered:
    """Keep the first of the rows whose inputs are nearly the same.

    A record goes only if it is a near-duplicate of one that stays, not of one that goes itself: the chain of
    near-duplicates that :func:`clusters` follows is not followed here, and what stays is still unlike all else that
    stays. The samples of one row are no duplicates of each other.

    Parameters
    ----------
    records : any records.
    threshold, size, unit, recall, seed : see :class:`Near`.
    """
    settings = {"threshold": threshold, "size": size, "unit": unit, "recall": recall, "seed": seed}
    near = Near([r.text for r in records], threshold=threshold, size=size, unit=unit, recall=recall, seed=seed)
    leaders = near.leaders()
    first = {number: i for i, number in reversed(list(enumerate(near.number)))}
    return _without_repeats(
        "near_duplicates", settings, records, [first[leaders[number]] for number in near.number], "near-duplicate"
    )


def _without_repeats(
    name: str, settings: dict[str, Any], records: Sequence[Record], repeats: list[int], word: str = "duplicate"
) -> Filtered:
    """Take out each record that repeats one of another row; tell whether that row has another answer."""
    rows: dict[str, set[str]] = defaultdict(set)
    for record in records:
        rows[record.id].add(vote_of(record))
    verdicts: list[Verdict] = []
    for record, repeated in zip(records, repeats, strict=True):
        kept = records[repeated]
        if kept.id == record.id:
            verdicts.append(None)
            continue
        agrees = vote_of(record) in rows[kept.id]
        verdicts.append((word if agrees else f"{word} with another answer", kept.key))
    return judged(name, settings, records, verdicts)
