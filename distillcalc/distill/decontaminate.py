"""Training records that give away an evaluation set: their input has an evaluation item in it, or nearly is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from distillcalc.distill.filtered import Filtered, Verdict, judged
from distillcalc.distill.records import Record
from distillcalc.distill.wording import n_grams, normalised, words
from distillcalc.errors import InputError, MissingExtra

WORDS = 13
FEWEST_WORDS = 8
CELLS = 2_000_000  # comparisons of rapidfuzz at a time
ROUNDING = 1e-6  # rapidfuzz takes a ratio of 0.9 to miss a cutoff of 0.9, which it holds in single precision
_SIGN = re.compile(r"\d+(?:[.,]\d+)*|\w|[^\w\s]")  # of a formula: a number, a one-letter name, or what is between


class Evaluation:
    """Evaluation texts, indexed by their runs of words.

    Parameters
    ----------
    items : texts by id, records, or texts (their places are then their ids).
    """

    def __init__(self, items: Mapping[str, str] | Iterable[str | Record]) -> None:
        if isinstance(items, str):
            raise InputError("the evaluation set is several texts, or a mapping from id to text. Got one text")
        pairs = (
            list(items.items())
            if isinstance(items, Mapping)
            else [(i.id, i.text) if isinstance(i, Record) else (str(n), i) for n, i in enumerate(items)]
        )
        self.ids = [str(name) for name, _ in pairs]
        self.words = [_parts(text) for _, text in pairs]
        self.formulas = [_is_formula(text) for _, text in pairs]
        self._grams: dict[int, dict[tuple[str, ...], int]] = {}

    @cached_property
    def whole(self) -> dict[tuple[str, ...], int]:
        """The first item of these words and no others."""
        return _first((tuple(item), n) for n, item in enumerate(self.words) if item)

    def grams(self, n: int) -> dict[tuple[str, ...], int]:
        """The first item that has these n words in a row."""
        if n not in self._grams:
            self._grams[n] = _first((gram, i) for i, item in enumerate(self.words) for gram in n_grams(item, n))
        return self._grams[n]

    def lengths(self, low: int, high: int) -> list[int]:
        """The numbers of words from low up to, not with, high that some item has."""
        return sorted({len(item) for item in self.words if low <= len(item) < high})


def _is_formula(text: str) -> bool:
    """Whether a text is numbers, signs and names of one letter: "7 + 5 - x"."""
    return any(c.isdigit() for c in text) and all(sum(map(str.isalpha, piece)) < 2 for piece in text.split())


def _parts(text: str) -> list[str]:
    """Words of a text; a formula's numbers and signs; of one without words, such as "?!", what is between spaces."""
    return _SIGN.findall(normalised(text)) if _is_formula(text) else words(text) or normalised(text).split()


def _first(pairs: Iterable[tuple[tuple[str, ...], int]]) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for gram, item in pairs:
        found.setdefault(gram, item)
    return found


def decontaminated(
    records: Sequence[Record],
    *,
    evaluation: Mapping[str, str] | Iterable[str | Record],
    n: int = WORDS,
    fewest: int = FEWEST_WORDS,
    ratio: float | None = 0.9,
    partial: float | None = None,
) -> Filtered:
    """Keep records whose input shares too little with the evaluation set to give its answers away.

    In this order, words compared without case and punctuation, a record goes if its input
    (1) has the words of an item and no others,
    (2) shares ``n`` words in a row with an item (13 in Brown et al., 2020, 2005.14165, Appendix C),
    (3) holds an item of ``fewest`` words or more, but fewer than n, or is held so by one (8 is the least n there), or
    (4) is an item in other order or spelling: rapidfuzz's token sort ratio reaches ``ratio``.
    Shorter items are found by (1) and (4) alone: a text that holds "card lost" does not give that item away.
    A formula, which has a number and no word ("7 + 5 - x"), is compared with its signs and never by (4): with other
    signs, or in other order, it is another problem.

    Parameters
    ----------
    records : training records.
    evaluation : texts by id, records, or texts (their places are then their ids).
    n : words in a row.
    fewest : words that an item or input must have to count where it is held whole.
    ratio : least likeness in [0, 1]; None leaves (4) out.
    partial : least likeness of an item of at least ``fewest`` words to the best-fitting piece of the input, in [0, 1].
        Slower by far than the rest: it compares every input with every such item. Left out, not done.

    Returns
    -------
    ``of`` in a removal is the id of the evaluation item.

    Raises
    ------
    InputError
        If n is below 1 or a ratio is not in (0, 1].
    """
    if n < 1 or fewest < 1:
        raise InputError(f"n and fewest are numbers of words, at least 1. Got n={n}, fewest={fewest}")
    for name, value in (("ratio", ratio), ("partial", partial)):
        if value is not None and not 0 < value <= 1:
            raise InputError(f"{name} is a likeness above 0 and up to 1, such as 0.9. Got {value:g}")
    known = Evaluation(evaluation)
    inputs = [_parts(record.text) for record in records]
    found: list[tuple[str, int] | None] = [_by_words(item, known, n, fewest) for item in inputs]
    formulas = [_is_formula(record.text) for record in records]
    _by_likeness(found, [[] if formula else item for formula, item in zip(formulas, inputs, strict=True)], known, ratio)
    _by_piece(found, inputs, known, fewest, partial)
    verdicts: list[Verdict] = [None if one is None else (one[0], (known.ids[one[1]], 0)) for one in found]
    settings = {"n": n, "fewest": fewest, "ratio": ratio, "partial": partial}
    return judged(
        "decontaminated",
        settings,
        records,
        verdicts,
        {
            "evaluation_items": len(known.ids),
            "items_given_away": len({one[1] for one in found if one is not None}),
        },
    )


def _by_words(mine: list[str], known: Evaluation, n: int, fewest: int) -> tuple[str, int] | None:
    """The rule and the item by which an input is found without likeness."""
    whole = known.whole.get(tuple(mine))
    if whole is not None:
        return "equal to an evaluation item", whole
    if len(mine) >= n:
        index = known.grams(n)
        for gram in n_grams(mine, n):
            if gram in index:
                return f"{n} words in a row of an evaluation item", index[gram]
    elif len(mine) >= fewest:
        around = known.grams(len(mine)).get(tuple(mine))
        if around is not None:
            return "within an evaluation item", around
    for size in known.lengths(fewest, min(n, len(mine))):
        for gram in n_grams(mine, size):
            if gram in known.whole:
                return "holds an evaluation item", known.whole[gram]
    return None


def _by_likeness(
    found: list[tuple[str, int] | None], inputs: list[list[str]], known: Evaluation, ratio: float | None
) -> None:
    """Fill in the items that an input is nearly equal to; only lengths that can reach the ratio are compared."""
    todo = [i for i, one in enumerate(found) if one is None and inputs[i]]
    items = [i for i, item in enumerate(known.words) if item and not known.formulas[i]]
    if ratio is None or not todo or not items:
        return
    try:
        from rapidfuzz import process
        from rapidfuzz.distance import Indel
    except ImportError as error:
        raise MissingExtra("rapidfuzz", "distill") from error
    mine = {i: " ".join(sorted(inputs[i])) for i in todo}
    theirs = {i: " ".join(sorted(known.words[i])) for i in items}
    todo.sort(key=lambda i: len(mine[i]))
    items.sort(key=lambda i: len(theirs[i]))
    lengths = np.array([len(theirs[i]) for i in items])
    reach = (2 - ratio) / ratio + 1e-9  # of two lengths, where the ratio can be reached
    rows = max(CELLS // len(items), 1)
    for start in range(0, len(todo), rows):
        part = todo[start : start + rows]
        low = np.searchsorted(lengths, len(mine[part[0]]) / reach)
        high = np.searchsorted(lengths, len(mine[part[-1]]) * reach, "right")
        near = items[low:high]
        if not near:
            continue
        likeness = process.cdist(
            [mine[i] for i in part],
            [theirs[j] for j in near],
            scorer=Indel.normalized_similarity,
            score_cutoff=ratio - ROUNDING,
            dtype=np.float64,
        )
        for row in np.flatnonzero((likeness >= ratio - ROUNDING).any(axis=1)):
            best = likeness[row].max()
            item = min(near[j] for j in np.flatnonzero(likeness[row] == best))
            found[part[row]] = (f"nearly equal to an evaluation item (ratio at least {ratio:g})", item)


def _by_piece(
    found: list[tuple[str, int] | None],
    inputs: list[list[str]],
    known: Evaluation,
    fewest: int,
    partial: float | None,
) -> None:
    """Fill in the items that a piece of an input is nearly equal to."""
    todo = [i for i, one in enumerate(found) if one is None and len(inputs[i]) >= fewest]
    items = [i for i, item in enumerate(known.words) if len(item) >= fewest]
    if partial is None or not todo or not items:
        return
    try:
        from rapidfuzz import fuzz, process
    except ImportError as error:
        raise MissingExtra("rapidfuzz", "distill") from error
    theirs = [" ".join(known.words[i]) for i in items]
    cutoff = 100 * (partial - ROUNDING)
    rows = max(CELLS // len(items), 1)
    for start in range(0, len(todo), rows):
        part = todo[start : start + rows]
        likeness = process.cdist(
            [" ".join(inputs[i]) for i in part],
            theirs,
            scorer=fuzz.partial_ratio,
            score_cutoff=cutoff,
            dtype=np.float64,
        )
        for row in np.flatnonzero((likeness >= cutoff).any(axis=1)):
            item = items[int(likeness[row].argmax())]
            found[part[row]] = (f"a piece nearly equal to an evaluation item (ratio at least {partial:g})", item)
