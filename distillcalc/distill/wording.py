"""Texts made comparable: what two texts must share to be called the same."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from distillcalc.errors import InputError

Unit = Literal["characters", "words"]

_WORD = re.compile(r"[\w]+(?:['’][\w]+)*")


def normalised(text: str, *, punctuation: bool = True) -> str:
    """A text in compatible form (NFKC), casefolded, runs of white space as one space, none at the ends.

    Parameters
    ----------
    text : any text.
    punctuation : whether what is neither letter, digit nor space stays; False puts a space in its place. A text of
        nothing else, such as ":-)", stays as it is.
    """
    # Casefolding can undo the compatible form ("ͅ"), so it is made again.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not punctuation:
        bare = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in folded)
        folded = bare if bare.strip() else folded
    return " ".join(folded.split())


def words(text: str) -> list[str]:
    """The words of a text, normalised, without punctuation; what is within a word ("don't") stays."""
    return _WORD.findall(normalised(text))


def n_grams(items: list[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n neighbours, in order; none where there are fewer than n."""
    return list(zip(*(items[i:] for i in range(n)), strict=False)) if n <= len(items) else []


def shingles(text: str, *, size: int = 5, unit: Unit = "characters") -> frozenset[str]:
    """The set of all runs of ``size`` neighbouring characters, or words, of a normalised text.

    Five characters are what Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.2.2, advise for texts as
    short as e-mails, and nine for documents. The set is empty where the text is shorter than one shingle.

    Raises
    ------
    InputError
        If ``size`` is below 1.
    """
    if size < 1:
        raise InputError(f"a shingle has at least one of {unit}. Got size={size}")
    whole = normalised(text)
    if unit == "characters":
        return frozenset(whole[i : i + size] for i in range(len(whole) - size + 1))
    return frozenset(" ".join(gram) for gram in n_grams(whole.split(), size))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """What two sets share over what they have together, in [0, 1]; 1 for two empty ones."""
    shared = len(a & b)
    together = len(a) + len(b) - shared
    return shared / together if together else 1.0
