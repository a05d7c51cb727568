"""What several models answered to the same requests: right or not, with what score, for how many dollars.

Routers are learned, tuned and certified on these. A chain of models is listed from the first that is asked to the last,
the teacher; most have two.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError
from distillcalc.route.requests import Request

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rejected:
    """A row that is no pair: where it stands (1 is the first), and why."""

    row: int
    reason: str


@dataclass(frozen=True, eq=False)
class Pairs:
    """Items that every model of a chain has answered.

    Parameters
    ----------
    ids : one for each item, each once.
    texts : what was asked; "" where it is not kept.
    models : names, from the first that is asked to the teacher; two or more.
    right : how right each model's answer is, in [0, 1], shape (items, models).
    scores : how sure of each model but the teacher, higher is surer, by the score's name: shape (items, models - 1).
    usd : what each model's answer costs [USD], shape (items, models); None where nobody knows.
    seconds : how long each model's answer takes [s], shape (items, models); None where nobody knows.
    agreement : of each item, 1 where the first model and the teacher say the same and 0 where not, nan where it is not
        known, shape (items,); None where nobody compared.
    requests : of each item, what a score may be worked out of; left out, the texts alone.
    rejected : rows of the source that are no items.
    source : where they come from, in words.

    Raises
    ------
    InputError
        For shapes that do not fit, ids that come twice, outcomes outside of [0, 1], or scores that are not finite.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    models: tuple[str, ...]
    right: Floats
    scores: Mapping[str, Floats] = field(default_factory=dict)
    usd: Floats | None = None
    seconds: Floats | None = None
    agreement: Floats | None = None
    requests: tuple[Request, ...] = field(default=(), repr=False)
    rejected: tuple[Rejected, ...] = ()
    source: str = "pairs given in memory"

    def __post_init__(self) -> None:
        n, k = len(self.ids), len(self.models)
        if k < 2 or len(set(self.models)) < k:
            raise InputError(f"pairs are of two different models or more, the teacher last. Got {list(self.models)}")
        if n == 0:
            raise InputError(f"{self.source}: no item that every model has answered{_first(self.rejected)}")
        if len(self.texts) != n or (self.requests and len(self.requests) != n):
            raise InputError(f"texts and requests are one for each of {n:,} items. Got {len(self.texts):,}")
        if len(set(self.ids)) < n:
            twice = Counter(self.ids).most_common(1)[0][0]
            raise InputError(f"every item has an id of its own. {twice!r} comes twice")
        for name, values, shape in self._arrays():
            if values.shape != shape:
                raise InputError(f"{name} must have shape {shape}. Got {values.shape}")
            bad = np.argwhere(~np.isfinite(values))
            if bad.size:
                raise InputError(f"{name} of item {self.ids[bad[0][0]]!r} is not a number: {values[tuple(bad[0])]}")
            if not name.startswith("score ") and (values < 0).any():
                raise InputError(f"{name} must not be below 0. Got {values.min():g}")
        if self.agreement is not None and self.agreement.shape != (n,):
            raise InputError(f"agreement must have shape {(n,)}. Got {self.agreement.shape}")
        if (self.right > 1).any():
            raise InputError(f"right must be in [0, 1], 1 is a right answer. Got {self.right.max():g}")

    def _arrays(self) -> list[tuple[str, Floats, tuple[int, int]]]:
        n, k = len(self.ids), len(self.models)
        found = [("right", self.right, (n, k))]
        found += [(f"score {name}", values, (n, k - 1)) for name, values in self.scores.items()]
        found += [(name, v, (n, k)) for name, v in (("usd", self.usd), ("seconds", self.seconds)) if v is not None]
        return found

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        student_right: ArrayLike,
        teacher_right: ArrayLike,
        *,
        scores: Mapping[str, ArrayLike] | None = None,
        texts: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        student: str = "student",
        teacher: str = "teacher",
        student_usd: ArrayLike | None = None,
        teacher_usd: ArrayLike | None = None,
        student_s: ArrayLike | None = None,
        teacher_s: ArrayLike | None = None,
        source: str = "pairs given in memory",
    ) -> Pairs:
        """A student and its teacher, from plain arrays of one value an item.

        Parameters
        ----------
        student_right, teacher_right : in [0, 1], shape (items,).
        scores : by name, of the student, shape (items,).
        student_usd, teacher_usd, student_s, teacher_s : dollars and seconds of each answer, or one number for all;
            both models or neither.
        """
        right = np.column_stack([np.asarray(student_right, dtype=float), np.asarray(teacher_right, dtype=float)])
        n = len(right)
        names = tuple(ids) if ids is not None else tuple(str(i) for i in range(n))
        return cls(
            names,
            tuple(texts) if texts is not None else ("",) * n,
            (student, teacher),
            right,
            {name: np.asarray(values, dtype=float).reshape(-1, 1) for name, values in (scores or {}).items()},
            _both("usd", student_usd, teacher_usd, n),
            _both("s", student_s, teacher_s, n),
            source=source,
        )

    @classmethod
    def read(cls, source: str | Path | pd.DataFrame, **columns: Any) -> Pairs:
        """Read a CSV, JSONL or Parquet file, or a DataFrame; see :func:`.reading.read_pairs`."""
        from distillcalc.route.reading import read_pairs

        return read_pairs(source, **columns)

    @property
    def student(self) -> str:
        """The model that is asked first."""
        return self.models[0]

    @property
    def teacher(self) -> str:
        """The last model, which is sent what nobody before it keeps."""
        return self.models[-1]

    @property
    def is_binary(self) -> bool:
        """Whether every answer is right or wrong, and nothing between."""
        return bool(((self.right == 0) | (self.right == 1)).all())

    def score(self, name: str) -> Floats:
        """A score by its name, shape (items, models - 1).

        Raises
        ------
        InputError
            If it is not among the pairs' scores.
        """
        if name not in self.scores:
            raise InputError(f"the pairs hold no score {name!r}. They hold: {', '.join(self.scores) or 'none'}")
        return self.scores[name]

    def with_scores(self, **scores: Floats) -> Pairs:
        """The same items with more scores, shape (items,) or (items, models - 1)."""
        made = {name: np.asarray(values, dtype=float).reshape(len(self), -1) for name, values in scores.items()}
        return replace(self, scores={**self.scores, **made})

    def asked(self) -> tuple[Request, ...]:
        """Of each item, what a score may be worked out of."""
        return self.requests or tuple(Request(text) for text in self.texts)

    def take(self, rows: NDArray[Any]) -> Pairs:
        """The items in these places, or where a mask is true."""
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            ids=tuple(self.ids[i] for i in places),
            texts=tuple(self.texts[i] for i in places),
            right=self.right[places],
            scores={name: values[places] for name, values in self.scores.items()},
            usd=None if self.usd is None else self.usd[places],
            seconds=None if self.seconds is None else self.seconds[places],
            agreement=None if self.agreement is None else self.agreement[places],
            requests=tuple(self.requests[i] for i in places) if self.requests else (),
        )

    def keys(self) -> NDArray[np.uint64]:
        """A number for each item that says what it is: of its text without case and spaces.

        Of an item without a text, of all that is known of it: its id, outcomes and scores. Items of one text have one
        key: they must not stand on both sides of a split.
        """
        words = [" ".join(text.casefold().split()) for text in self.texts]
        if not all(words):
            known = np.column_stack([self.right, *(self.scores[name] for name in sorted(self.scores))])
            words = [w or f"\0{id}\0{row.tobytes()!r}" for w, id, row in zip(words, self.ids, known, strict=True)]
        digests = b"".join(hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words)
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)

    def distinct(self) -> Pairs:
        """One item of each text, the first by its id: what a test may take to be drawn one by one."""
        order = np.argsort(np.array(self.ids), kind="stable")
        _, first = np.unique(self.keys()[order], return_index=True)
        return self if len(first) == len(self) else self.take(np.sort(order[first]))

    def split(self, shares: Sequence[float], *, seed: int = 0) -> tuple[Pairs, ...]:
        """Deal the items out at random, items of one text together; the order of rows does not matter.

        Parameters
        ----------
        shares : of each part, summing to 1; a share of 0 gives no part.

        Raises
        ------
        InputError
            For shares that do not sum to 1, or parts that would have no item.
        """
        if min(shares, default=-1) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise InputError(f"shares of a split are 0 or above and sum to 1. Got {list(shares)}")
        keys, inverse, counts = np.unique(self.keys(), return_inverse=True, return_counts=True)
        order = np.argsort(_mixed(keys, seed), kind="stable")
        ends = np.cumsum(counts[order])
        cuts = np.cumsum([share for share in shares if share > 0])[:-1] * len(self)
        part_of = np.empty(len(keys), dtype=np.int64)
        part_of[order] = np.searchsorted(cuts, ends - counts[order] / 2, side="right")
        parts = part_of[inverse]
        found = []
        for number in range(sum(share > 0 for share in shares)):
            rows = np.flatnonzero(parts == number)
            if not rows.size:
                raise InputError(f"{len(self):,} items ({len(keys):,} texts) are too few for parts of {list(shares)}")
            found.append(self.take(rows[np.argsort([self.ids[i] for i in rows], kind="stable")]))
        return tuple(found)


def _mixed(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """The keys in an order that depends on them and the seed alone (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        z = keys + np.uint64((seed * 2 + 1) * 0x9E3779B97F4A7C15 % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def _both(name: str, student: ArrayLike | None, teacher: ArrayLike | None, n: int) -> Floats | None:
    if (student is None) != (teacher is None):
        raise InputError(f"give student_{name} and teacher_{name}, or neither")
    if student is None or teacher is None:
        return None
    return np.column_stack([np.broadcast_to(np.asarray(one, dtype=float), (n,)) for one in (student, teacher)])


def _first(rejected: Sequence[Rejected]) -> str:
    return (
        f"; of {len(rejected):,} rejected rows the first: row {rejected[0].row}: {rejected[0].reason}"
        if rejected
        else ""
    )
