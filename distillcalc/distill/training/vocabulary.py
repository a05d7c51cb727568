"""Two tokenizers held against each other: do the ids of the student and the teacher mean the same tokens?

A loss that compares distributions token by token needs that, id by id; where it is not so, nothing fails, the student
only learns nonsense. What of the rows of both output layers is shared is told here too: models of one family are
padded to different sizes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from distillcalc.errors import InputError

FEW = 5  # ids that a message names
_OF_A_CALL = ("truncation", "padding")  # set by the last call of a tokenizer, no part of what it is
_PROBES = (
    "The quick brown fox jumps over 12,345 lazy dogs.",
    "  def f(x):\n\treturn x**2  # 3.14\n\n\n",
    "don't WON'T Ünïcödé naïve ﬁ",
    "日本語のテキスト 한국어 العربية हिन्दी",
    "🙂👩‍👩‍👧 \u00a0\u200b\r\n",
    '{"label": "card_arrival", "score": -0.5}',
)


@dataclass(frozen=True)
class Alignment:
    """What a student's and a teacher's vocabulary share.

    Parameters
    ----------
    same : all ids below ``vocabulary`` that both have mean the same token, and both tokenizers split text alike.
    vocabulary : number of first ids that both share; logits of both are cut there [ids].
    differing : ids that mean one token to the student and another to the teacher [ids].
    differences : the first of them: id, the student's token, the teacher's.
    splits : what else makes them split text differently, in words; empty where nothing does.
    mapping : student's id to the teacher's id of the same token (None where there is none); only where the ids differ
        and one vocabulary holds all tokens of the other.
    overlap : share of the student's tokens that the teacher has too, whatever their ids; in [0, 1].
    unshared : ids below ``vocabulary`` that only one of them has: holes of the other's vocabulary.
    notes : what a reader should know though nothing is wrong.
    """

    same: bool
    vocabulary: int
    differing: int = 0
    differences: tuple[tuple[int, str, str], ...] = ()
    splits: tuple[str, ...] = ()
    mapping: Mapping[int, int | None] | None = field(default=None, repr=False)
    overlap: float = 1.0
    unshared: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def require(self, technique: str) -> Alignment:
        """The alignment itself, where a loss that compares token by token may use it.

        Parameters
        ----------
        technique : what asks, for the message.

        Raises
        ------
        InputError
            If the ids do not mean the same; it names the first that differ, or what else does.
        """
        if self.same:
            return self
        what = []
        if self.differences:
            named = "; ".join(f"id {i} is {s!r} to the student, {t!r} to the teacher" for i, s, t in self.differences)
            more = self.differing - len(self.differences)
            what.append(f"{self.differing:,} ids differ ({named}{f'; and {more:,} more' if more else ''})")
        what += [f"their {split}" for split in self.splits]
        if not what:
            what.append("they share no token")
        raise InputError(
            f"{technique} compares the teacher's and the student's distributions token by token, but their tokenizers "
            f"are not the same: {'; '.join(what)}. {self.overlap:.0%} of the student's tokens are the teacher's too. "
            'Start the student from a model of the teacher\'s family, or set divergence = "uld", which needs no common '
            "tokens; hard labels need none either"
        )

    def outside(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Which of some token ids are not shared, in their order: the teacher cannot read them as the student does."""
        return tuple(sorted({i for i in ids if not 0 <= i < self.vocabulary or i in self.unshared}))


def vocabulary_fingerprint(tokenizer: Any) -> str:
    """What a tokenizer is, as one number: two with the same fingerprint split every text into the same ids.

    Parameters
    ----------
    tokenizer : of transformers. Of a fast one the whole of its back end counts (merges, normaliser, pre-tokenizer,
        added tokens, what it puts around a text), except truncation and padding, which are settings of a call; of a
        slow one its class, its vocabulary and how it splits some probe texts.

    Returns
    -------
    SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for number, token in sorted(_tokens(tokenizer).items()):
        digest.update(f"{number} {json.dumps(token)}\n".encode())
    backend = _backend(tokenizer)
    if backend is None:
        rest: Any = [type(tokenizer).__name__, _split(tokenizer)]
    else:
        rest = {key: value for key, value in backend.items() if key not in _OF_A_CALL}
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()


def align(student_tokenizer: Any, teacher_tokenizer: Any, student_vocab: int, teacher_vocab: int) -> Alignment:
    """Hold two tokenizers against each other, id by id.

    Parameters
    ----------
    student_vocab, teacher_vocab : rows of the models' output layers, which may be padded beyond the tokenizers
        (Qwen2.5: 151,936 rows of the small models, 152,064 of the large ones, for 151,665 tokens) [ids].

    Returns
    -------
    An :class:`Alignment`. Tokens that only one of them added after the shared ones do not make it refuse.
    """
    student, teacher = _tokens(student_tokenizer), _tokens(teacher_tokenizer)
    both = sorted(i for i in student.keys() & teacher.keys() if i < min(student_vocab, teacher_vocab))
    wrong = [i for i in both if student[i] != teacher[i]]
    vocabulary = wrong[0] if wrong else both[-1] + 1 if both else 0
    splits = _splits(student_tokenizer, teacher_tokenizer)
    same = not wrong and not splits and vocabulary > 0
    ids_of = {token: i for i, token in teacher.items()}
    shared = sum(token in ids_of for token in student.values())
    nested = shared in (len(student), len(teacher))
    return Alignment(
        same=same,
        vocabulary=vocabulary,
        differing=len(wrong),
        differences=tuple((i, student[i], teacher[i]) for i in wrong[:FEW]),
        splits=splits,
        mapping={i: ids_of.get(token) for i, token in sorted(student.items())} if wrong and nested else None,
        overlap=shared / len(student) if student else 0.0,
        unshared=frozenset(i for i in student.keys() ^ teacher.keys() if i < vocabulary),
        notes=_notes(student_tokenizer, teacher_tokenizer, student_vocab, teacher_vocab, vocabulary) if same else (),
    )


def _tokens(tokenizer: Any) -> dict[int, str]:
    """Token by id, added tokens among them."""
    return {int(i): str(token) for token, i in tokenizer.get_vocab().items()}


def _backend(tokenizer: Any) -> dict[str, Any] | None:
    """What the tokenizers library knows of a fast tokenizer; None of a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    found: dict[str, Any] = json.loads(backend.to_str())
    return found


def _split(tokenizer: Any) -> list[list[int]]:
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in _PROBES]


def _splits(student: Any, teacher: Any) -> tuple[str, ...]:
    """What makes two tokenizers split the same text differently, in words."""
    ours, theirs = _backend(student), _backend(teacher)
    if ours is None or theirs is None:  # nothing to compare but what they do
        return () if _split(student) == _split(teacher) else ("splits of the same texts differ",)
    added = {token["content"] for backend in (ours, theirs) for token in backend["added_tokens"]}
    found = []
    for part, name in (("normalizer", "normalisers differ"), ("pre_tokenizer", "pre-tokenizers differ")):
        if _without_offsets(ours[part]) != _without_offsets(theirs[part]):
            found.append(name)
    a, b = ours["model"], theirs["model"]
    if a.get("merges") != b.get("merges"):
        found.append("merges differ")
    if _base(a, added) != _base(b, added):
        found.append("tokens before any were added differ")
    rest = [{key: value for key, value in model.items() if key not in ("vocab", "merges")} for model in (a, b)]
    if rest[0] != rest[1]:
        keys = sorted(key for key in rest[0].keys() | rest[1].keys() if rest[0].get(key) != rest[1].get(key))
        found.append(f"settings differ ({', '.join(keys)})")
    return tuple(found)


def _base(model: Mapping[str, Any], added: set[str]) -> Any:
    """The tokens that text is built of, with what decides between them; ids are compared elsewhere."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        return vocabulary.keys() - added
    return [entry for entry in vocabulary or () if entry[0] not in added]  # Unigram: tokens with their scores


def _without_offsets(part: Any) -> Any:
    """A part of a back end without what only moves the offsets of tokens in their text."""
    if isinstance(part, dict):
        return {key: _without_offsets(value) for key, value in part.items() if key != "trim_offsets"}
    return [_without_offsets(value) for value in part] if isinstance(part, list) else part


def _notes(student: Any, teacher: Any, student_vocab: int, teacher_vocab: int, vocabulary: int) -> tuple[str, ...]:
    notes = []
    if not student_vocab == teacher_vocab == vocabulary:
        notes.append(
            f"the first {vocabulary:,} ids are shared, and the distributions are compared over them; the student's "
            f"output layer has {student_vocab:,} rows, the teacher's {teacher_vocab:,}"
        )
    tokens = {"student": _tokens(student), "teacher": _tokens(teacher)}
    for who, other, rows in (("student", "teacher", student_vocab), ("teacher", "student", teacher_vocab)):
        alone = sorted(tokens[who].keys() - tokens[other].keys())
        if alone:
            named = ", ".join(f"{i} {tokens[who][i]!r}" for i in alone[:FEW])
            notes.append(
                f"only the {who} has {len(alone):,} of the tokens ({named}{', ...' if len(alone) > FEW else ''})"
                + ("; the teacher cannot read a text with them" if who == "student" else "")
            )
        rowless = sum(i >= rows for i in tokens[who])
        if rowless:
            notes.append(f"the {who}'s output layer has no row for {rowless:,} tokens of its tokenizer")
    if student.eos_token_id != teacher.eos_token_id:
        notes.append(
            f"the student ends a text with {student.eos_token!r}, the teacher with {teacher.eos_token!r}: at the end "
            "of an answer the teacher expects another token"
        )
    return tuple(notes)
