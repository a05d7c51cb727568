"""How varied texts are: the inputs that a teacher writes tend to repeat themselves and the seeds they grew from."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.distill.duplicates import SIZE, Near
from distillcalc.distill.wording import n_grams, normalised, shingles, words

MOST_COMPARED = 2_000  # texts whose nearest neighbour is sought among all
CELLS = 4_000_000  # comparisons at a time


@dataclass(frozen=True)
class AgainstSeeds:
    """How far texts are from the seeds that they were made from.

    Parameters
    ----------
    equal : share of the texts that read as a seed does, once normalised.
    near : share that is equal to a seed or a near-duplicate of one.
    nearest_jaccard : mean Jaccard index of a text and the seed nearest to it; nan where there are no seeds or texts.
    new_bigrams : share of the texts' distinct pairs of neighbouring words that no seed has.
    seeds : how varied the seeds are themselves.
    """

    equal: float
    near: float
    nearest_jaccard: float
    new_bigrams: float
    seeds: Diversity


@dataclass(frozen=True)
class Diversity:
    """How varied texts are. Shares are in [0, 1], and nan where there is nothing to take a share of.

    Parameters
    ----------
    texts, words : number of them.
    distinct_1, distinct_2, distinct_3 : distinct runs of so many words over all runs (Li et al., 2016, 1510.03055).
        They fall as a set grows: compare sets of one size.
    exact_duplicates : share of the texts that an earlier one equals, once normalised.
    near_duplicates : share that an earlier one equals or nearly equals.
    nearest_jaccard : mean Jaccard index of a text and the other text nearest to it; 1 where each has a double.
    compared : number of texts that this mean is of, drawn where there are more than 2,000.
    compression_ratio : bytes of all texts, a line each in their order, over their bytes in gzip (Shaib et al., 2024,
        2403.00553); higher is more repetitive. Compare sets of one size.
    against : the same against the seeds, where there are some.
    """

    texts: int
    words: int
    distinct_1: float
    distinct_2: float
    distinct_3: float
    exact_duplicates: float
    near_duplicates: float
    nearest_jaccard: float
    compared: int
    compression_ratio: float
    against: AgainstSeeds | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for what is nan."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        lines = [
            f"{self.texts:,} texts, {self.words:,} words",
            f"distinct runs of 1, 2, 3 words: {self.distinct_1:.3f}, {self.distinct_2:.3f}, {self.distinct_3:.3f}",
            f"exact duplicates {self.exact_duplicates:.1%}, near-duplicates {self.near_duplicates:.1%}",
            f"nearest other text: Jaccard {self.nearest_jaccard:.3f}; gzip makes it {self.compression_ratio:.2f} "
            "times smaller",
        ]
        if self.against is not None:
            lines.append(
                f"against {self.against.seeds.texts:,} seeds: {self.against.equal:.1%} equal, {self.against.near:.1%} "
                f"near-duplicates, nearest seed {self.against.nearest_jaccard:.3f}, "
                f"{self.against.new_bigrams:.1%} of word pairs new"
            )
        return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def diversity(
    texts: Sequence[str], seeds: Sequence[str] | None = None, *, threshold: float = 0.8, seed: int = 0
) -> Diversity:
    """Measure how varied texts are, and how far from the seeds that they were made from.

    Parameters
    ----------
    texts : any texts.
    seeds : the texts that they were made from; left out, nothing is compared with any.
    threshold : Jaccard index from which texts are near-duplicates, in (0, 1].
    seed : of the draw of the texts whose nearest neighbour is sought, where there are many.
    """
    said = [words(text) for text in texts]
    folded = [normalised(text) for text in texts]
    near = Near(texts, threshold=threshold)
    leaders = near.leaders()
    # A text is new if it is the first of its wording, and its wording leads itself.
    news = sum(leader == number for number, leader in enumerate(leaders))
    chosen = list(range(len(texts)))
    if len(chosen) > MOST_COMPARED:
        chosen = sorted(random.Random(seed).sample(chosen, MOST_COMPARED))
    nearest = _nearest([folded[i] for i in chosen], folded, chosen)
    raw = "\n".join(texts).encode("utf-8", "surrogatepass")
    return Diversity(
        texts=len(texts),
        words=sum(map(len, said)),
        distinct_1=_distinct(said, 1),
        distinct_2=_distinct(said, 2),
        distinct_3=_distinct(said, 3),
        exact_duplicates=_share(len(texts) - len(set(folded)), len(texts)),
        near_duplicates=_share(len(texts) - news, len(texts)),
        nearest_jaccard=float(nearest.mean()) if len(texts) > 1 else np.nan,
        compared=len(chosen) if len(texts) > 1 else 0,
        compression_ratio=_share(len(raw), len(gzip.compress(raw, mtime=0))) if raw else np.nan,
        against=None if seeds is None else _against(texts, folded, said, chosen, seeds, threshold),
    )


def _against(
    texts: Sequence[str],
    folded: list[str],
    said: list[list[str]],
    chosen: list[int],
    seeds: Sequence[str],
    threshold: float,
) -> AgainstSeeds:
    seeds_folded = [normalised(text) for text in seeds]
    near = Near([*seeds, *texts], threshold=threshold)
    of_seed = near.near_to(set(near.number[: len(seeds)]))
    nearest = _nearest([folded[i] for i in chosen], seeds_folded) if seeds else np.array([])
    mine = {gram for one in said for gram in n_grams(one, 2)}
    theirs = {gram for text in seeds for gram in n_grams(words(text), 2)}
    known = set(seeds_folded)
    return AgainstSeeds(
        equal=_share(sum(text in known for text in folded), len(texts)),
        near=_share(sum(number in of_seed for number in near.number[len(seeds) :]), len(texts)),
        nearest_jaccard=float(nearest.mean()) if len(nearest) else np.nan,
        new_bigrams=_share(len(mine - theirs), len(mine)),
        seeds=diversity(seeds, threshold=threshold),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else np.nan


def _distinct(said: list[list[str]], n: int) -> float:
    grams = [gram for one in said for gram in n_grams(one, n)]
    return _share(len(set(grams)), len(grams))


def _nearest(texts: list[str], others: list[str], own: list[int] | None = None) -> NDArray[np.float64]:
    """Jaccard index of each text and the nearest of the others, ``own`` the places there that are the texts' own.

    Texts shorter than a shingle are one shingle.
    """
    from scipy.sparse import csr_array

    vocabulary: dict[str, int] = {}

    def coded(some: list[str]) -> list[list[int]]:
        sets = (shingles(text, size=SIZE) or {text} for text in some)
        return [[vocabulary.setdefault(gram, len(vocabulary)) for gram in grams] for grams in sets]

    rows, columns = coded(texts), coded(others)

    def matrix(codes: list[list[int]]) -> Any:
        ends = np.cumsum([0, *map(len, codes)])
        flat = np.array([code for one in codes for code in one], dtype=np.int64)
        return csr_array((np.ones(len(flat), dtype=np.int32), flat, ends), shape=(len(codes), len(vocabulary)))

    found = np.zeros(len(texts))
    if not texts or not others:
        return found
    mine, theirs = matrix(rows), matrix(columns).T.tocsr()
    sizes, other_sizes = (np.array([len(one) for one in codes]) for codes in (rows, columns))
    step = max(CELLS // len(others), 1)
    for start in range(0, len(texts), step):
        shared = (mine[start : start + step] @ theirs).toarray()
        index = shared / (sizes[start : start + step, None] + other_sizes - shared)
        if own is not None:
            places = own[start : start + step]
            index[np.arange(len(places)), places] = 0
        found[start : start + step] = index.max(axis=1)
    return found
