"""Soft labels from an API: its top log-probabilities as a distribution over the student's own tokens.

An API names tokens by their text, not by an id. Where it cut the answer as the student's tokenizer does, each of its
tokens that the student has too gets its probability, and all that is left is the tail. Where it cut it otherwise, its
distributions are about other continuations: such a record has no soft labels, and is counted.

The probabilities are the API's at temperature 1, whatever it sampled with; other temperatures cannot be had from the
top alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.distill.logprobs import LEAST
from distillcalc.distill.records import Record, TopLogprobs
from distillcalc.distill.training.spelling import Spelling
from distillcalc.errors import InputError

LEAST_SHARE = 0.5  # of the records that must have targets
_PADDING = -1
_LEAST_TAIL = 1e-7  # an API's rounding, never certainty, is why nothing seems left


@dataclass(frozen=True)
class Targets:
    """What an API expected at each position of an answer, in the student's ids.

    Parameters
    ----------
    ids : (T, K) int64, each at most once a position; -1 where there are fewer than K.
    logprobs : (T, K) float32 [nats]; -inf where there is no id.
    tail_mass : (T,) float32, probability of all other tokens.
    soft : (T,) whether the API spoke of the position; where not, all mass is in the tail, and only the hard label
        counts.
    """

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    tail_mass: NDArray[np.float32]
    soft: NDArray[np.bool_]

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Ids, log-probabilities and tail mass, as a cache of logits gives them."""
        return self.ids, self.logprobs, self.tail_mass

    def widened(self, k: int) -> Targets:
        """The same with K = k columns, k at least K."""
        more = ((0, 0), (0, k - self.ids.shape[1]))
        return Targets(
            np.pad(self.ids, more, constant_values=_PADDING),
            np.pad(self.logprobs, more, constant_values=-np.inf),
            self.tail_mass,
            self.soft,
        )


@dataclass(frozen=True)
class Mismatch:
    """Why a record has no targets: the reason that is counted, and where it shows."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """How many records have soft labels.

    Parameters
    ----------
    records, with_targets : counts.
    why_not : records without targets, by reason; ``example`` of each reason, in words.
    positions, soft_positions : tokens of the answers with targets, and those that the API spoke of.
    known_mass : mean probability at those positions that is on tokens of the student; the rest is in the tail.
    """

    records: int
    with_targets: int
    why_not: Mapping[str, int] = field(default_factory=dict)
    example: Mapping[str, str] = field(default_factory=dict)
    positions: int = 0
    soft_positions: int = 0
    known_mass: float = math.nan

    def __str__(self) -> str:
        words = f"{self.with_targets:,} of {self.records:,} records have soft labels"
        return words + "".join(f"; {count:,}: {reason}" for reason, count in self.why_not.items())


@dataclass(frozen=True)
class ApiTargets:
    """Soft labels of records by sample name, all with the same K, and how many there are."""

    by_sample: Mapping[str, Targets]
    report: Report
    k: int

    def of(self, sample: str, length: int) -> Targets:
        """The targets of a sample of ``length`` tokens; where it has none, ones of which no position is soft."""
        found = self.by_sample.get(sample)
        return _blank(length, self.k) if found is None else found


def targets_of(record: Record, tokenizer: Any, answer_ids: Sequence[int]) -> Targets | Mismatch:
    """The soft labels of a record, token by token of the student's answer.

    Parameters
    ----------
    record : whose ``logprobs`` an API gave.
    tokenizer : the student's, or a :class:`Spelling` of it.
    answer_ids : the answer as the student learns it, its end of turn included (T,).

    Returns
    -------
    :class:`Targets` of T positions, or why there are none. An end of turn that the API does not list is not soft; nor
    is a position whose token it wrote unreadably. Names that mean one id are added up, log(sum exp); what the student
    cannot spell in one token joins the tail.
    """
    spelling = tokenizer if isinstance(tokenizer, Spelling) else Spelling(tokenizer)
    given = record.logprobs
    if given is None or not given.tokens:
        return Mismatch("the API gave no log-probabilities")
    ids = [int(i) for i in answer_ids]
    ends = bool(ids) and ids[-1] in spelling.special
    body = ids[:-1] if ends else ids
    written = [spelling.read(token) for token in given.tokens]
    found = _find(body, given.tokens, written, spelling)
    if found is None:
        return _why(body, given.tokens, written, spelling)
    first, lead = found
    places: list[int | None] = [first + t if written[first + t] is not None else None for t in range(len(body))]
    if ends:
        after = first + len(body)
        listed = after < len(written) and written[after] == spelling.bytes_of[ids[-1]]
        places.append(after if listed else None)
    leads = [lead, *(b"" for _ in ids)]
    rows = [
        None if place is None else _distribution(given, place, spelling, i, before)
        for place, i, before in zip(places, ids, leads, strict=False)
    ]
    if not any(rows):
        return Mismatch("the API wrote none of the answer's tokens readably")
    made = _blank(len(ids), max((len(row[0]) for row in rows if row is not None), default=1))
    for t, row in enumerate(rows):
        if row is None:
            continue
        known, tail = row
        made.ids[t, : len(known)] = list(known)
        made.logprobs[t, : len(known)] = list(known.values())
        made.tail_mass[t], made.soft[t] = tail, True
    return made


def collect_targets(
    samples: Iterable[tuple[str, Record, Sequence[int]]], tokenizer: Any, *, least_share: float = LEAST_SHARE
) -> ApiTargets:
    """The soft labels of many records, and how many have none and why.

    Parameters
    ----------
    samples : name, record, and the answer's token ids with its end of turn.
    tokenizer : the student's, or a :class:`Spelling` of it.
    least_share : share of the records that must have some.

    Raises
    ------
    InputError
        If fewer have.
    """
    spelling = tokenizer if isinstance(tokenizer, Spelling) else Spelling(tokenizer)
    found: dict[str, Targets] = {}
    why: Counter[str] = Counter()
    example: dict[str, str] = {}
    total = 0
    for name, record, ids in samples:
        total += 1
        made = targets_of(record, spelling, ids)
        if isinstance(made, Targets):
            found[name] = made
        else:
            why[made.reason] += 1
            example.setdefault(made.reason, f"{name}: {made.detail}" if made.detail else name)
    tails = [made.tail_mass[made.soft] for made in found.values()]
    soft = int(sum(map(len, tails)))
    report = Report(
        records=total,
        with_targets=len(found),
        why_not=dict(why.most_common()),
        example=example,
        positions=sum(len(made.soft) for made in found.values()),
        soft_positions=soft,
        known_mass=float(1 - sum(float(t.sum()) for t in tails) / soft) if soft else math.nan,
    )
    if not found or len(found) < least_share * total:
        shown = "".join(f" ({text})" for text in list(example.values())[:1])
        raise InputError(
            f"{report}{shown}. At least {least_share:.0%} must have them, or the student would learn mostly from "
            "labels alone and be called distilled. Train on hard labels instead; uld does not help, since it needs the "
            "teacher's whole distribution, which no API gives"
        )
    k = max(made.ids.shape[1] for made in found.values())
    return ApiTargets({name: made.widened(k) for name, made in found.items()}, report, k)


def _blank(length: int, k: int) -> Targets:
    """Targets that say nothing: all mass is in the tail, so that every divergence is 0."""
    return Targets(
        np.full((length, k), _PADDING, dtype=np.int64),
        np.full((length, k), -np.inf, dtype=np.float32),
        np.ones(length, dtype=np.float32),
        np.zeros(length, dtype=bool),
    )


def _find(
    body: Sequence[int], tokens: Sequence[str], written: Sequence[bytes | None], spelling: Spelling
) -> tuple[int, bytes] | None:
    """Where the API's tokens are the student's answer: the last place after which only blanks or an end follow.

    With it, what the student's tokenizer puts before a text: SentencePiece begins an answer with a space.
    """
    for first in range(len(written) - len(body), -1, -1):
        here = list(zip(range(first, first + len(body)), body, strict=True))
        if all(_same(tokens[p], written[p], i, spelling) for p, i in here[1:]):
            for lead in (b"", spelling.lead):
                if all(_same(tokens[p], written[p], i, spelling, lead) for p, i in here[:1]):
                    return first, lead
        last = first + len(body) - 1
        if not _is_blank(written[last], spelling):  # the answer would have to end before what is written here
            return None
    return None


def _same(token: str, written: bytes | None, i: int, spelling: Spelling, lead: bytes = b"") -> bool:
    """Whether a token of the API is the student's, as far as the API kept what it wrote."""
    spelt = spelling.bytes_of.get(i, b"")
    return spelt == lead + written if written is not None else spelt.decode("utf-8", errors="replace") == token


def _is_blank(written: bytes | None, spelling: Spelling) -> bool:
    if written is None:
        return False
    return not written.strip() or any(i in spelling.special for i in spelling.ids_of.get(written, ()))


def _why(body: Sequence[int], tokens: Sequence[str], written: Sequence[bytes | None], spelling: Spelling) -> Mismatch:
    ours = [spelling.bytes_of.get(i, b"") for i in body]
    theirs = [part if part is not None else token.encode() for part, token in zip(written, tokens, strict=True)]
    kept = [part for part, raw in zip(theirs, written, strict=True) if not _is_blank(raw, spelling)]
    answer, text = b"".join(ours), b"".join(theirs)
    if answer.strip() not in text:
        return Mismatch(
            "the API's tokens do not spell the answer that is learnt", f"{_shown(answer)} against {_shown(text)}"
        )
    place = next((t for t, (a, b) in enumerate(zip(ours, kept, strict=False)) if a != b), min(len(ours), len(kept)))
    shown = [" ".join(map(_shown, parts[place : place + 3])) for parts in (ours, kept)]
    return Mismatch("the API splits the answer into other tokens", " against ".join(shown))


def _distribution(
    given: TopLogprobs, place: int, spelling: Spelling, chosen: int, lead: bytes
) -> tuple[dict[int, float], float]:
    """Log-probability by id, best first, and the tail mass, at one place of the API's answer."""
    known: dict[int, float] = {}
    tail = given.tail_mass[place]
    for token, logprob in given.top[place]:
        if logprob <= LEAST:  # the API's word for "not among the most likely": its mass is the tail's
            continue
        written = spelling.read(token)
        ids = spelling.ids_of.get(lead + written, ()) if written is not None else ()
        if len(ids) > 1 and chosen in ids:
            ids = (chosen,)
        if len(ids) == 1:
            known[ids[0]] = float(np.logaddexp(known.get(ids[0], -math.inf), logprob))
        else:
            tail += math.exp(logprob)
    ranked = dict(sorted(known.items(), key=lambda pair: -pair[1]))
    return ranked, max(tail, _LEAST_TAIL)


def _shown(part: bytes) -> str:
    text = part.decode("utf-8", errors="backslashreplace")
    return repr(text if len(text) <= 40 else text[:37] + "...")
