"""How much of a reference text an answer says in the same words and order: ROUGE-L."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distillcalc.distill.wording import normalised
from distillcalc.errors import InputError, MissingExtra

# Scripts that put no spaces between words: each character, with its marks, is a token.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_MARKS = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3"
_TOKEN = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\s{_UNSPACED}]+")


def rouge_tokens(text: str) -> list[str]:
    """The tokens that ROUGE compares: runs of letters and digits in lower case; of unspaced scripts, each character.

    Of ASCII texts they are those of Google's ``rouge-score`` without its stemmer; that one drops every other letter.
    """
    bare = normalised(text, punctuation=False)
    return _TOKEN.findall(bare) if any(c.isalnum() for c in bare) else []


def rouge_l(said: Sequence[str], reference: Sequence[str]) -> NDArray[np.float64]:
    """ROUGE-L F1 of each answer with its reference.

    Parameters
    ----------
    said, reference : texts, shape (items,) each.

    Returns
    -------
    array, shape (items,)
        2 P R / (P + R) in [0, 1], with P = LCS / tokens said, R = LCS / tokens of the reference, and LCS the length of
        their longest common subsequence (Lin, ROUGE, ACL Workshop 2004, section 3.1, equations 2 to 4 with beta = 1; a
        text counts as one sentence). 0 where either has no token.

    Raises
    ------
    InputError
        If there are not as many references as answers.
    MissingExtra
        If rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError as error:
        raise MissingExtra("rapidfuzz", "distill") from error

    if len(said) != len(reference):
        raise InputError(f"{len(said)} answers cannot be compared with {len(reference)} references: give one for each")
    place: dict[str, int] = {}  # whole numbers: rapidfuzz compares by hash, and theirs are their own

    def tokens(text: str) -> list[int]:
        return [place.setdefault(token, len(place)) for token in rouge_tokens(text)]

    scores = []
    for one, other in zip(said, reference, strict=True):
        ours, theirs = tokens(one), tokens(other)
        both = len(ours) + len(theirs)
        scores.append(2 * LCSseq.similarity(ours, theirs) / both if ours and theirs else 0.0)
    return np.array(scores, dtype=np.float64)
