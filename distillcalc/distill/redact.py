"""Masking what must not leave the machine before a prompt goes to a teacher, and putting it back afterwards.

The teacher sees ``[EMAIL_1]`` instead of an address. The same original has the same placeholder all over one prompt, so
that the text still makes sense. What is found, and how, is told in :mod:`.sensitive`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from distillcalc.distill.sensitive import KINDS, Found, find
from distillcalc.errors import InputError, MissingExtra, UnknownName

_NAMES = "|".join(kind.upper() for kind in KINDS)
# As models write placeholders back: in another case, with a space, escaped for Markdown, or without the brackets.
_PLACEHOLDER = re.compile(
    rf"\[\s*({_NAMES})\\?[_ -]([1-9][0-9]*)\s*\\?\]|(?<![A-Za-z0-9_])({_NAMES})\\?_([1-9][0-9]*)(?![A-Za-z0-9_])",
    re.IGNORECASE | re.ASCII,
)
_TAKEN = re.compile(rf"({_NAMES})\\?[_ -]([1-9][0-9]*)", re.IGNORECASE | re.ASCII)

Piece: TypeAlias = tuple[str, str | None]  # a part of a text, and its kind where it is masked


@dataclass(frozen=True)
class Redacted:
    """A text that may leave, and what :func:`restore` needs to put back.

    Parameters
    ----------
    text : with placeholders.
    originals : what each placeholder stands for; it stays on this machine.
    counts : places masked, by kind; only kinds that were found.
    """

    text: str
    originals: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RedactedMessages:
    """A prompt that may leave: its messages, and the rest as in :class:`Redacted`."""

    messages: tuple[dict[str, str], ...]
    originals: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Redactor:
    """Masks the kinds asked for.

    Parameters
    ----------
    kinds : of "email", "phone", "card", "iban", "key".
    region : two-letter code ("US", "GB") of the country whose phone numbers are found without a country code too; None
        finds only those written with ``+``. With one, a bare number of that country's length that begins as its numbers
        do is masked even where it is an order's.

    Raises
    ------
    UnknownName, InputError
        For a kind or a region that there is not; at once, not at the first prompt.
    """

    kinds: Sequence[str] = KINDS
    region: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.kinds, str) or not self.kinds:
            raise InputError(f"kinds must be one or more of {', '.join(KINDS)}. Got {self.kinds!r}")
        for kind in self.kinds:
            if kind not in KINDS:
                raise UnknownName("kind of private text", kind, KINDS, f"There are: {', '.join(KINDS)}.")
        object.__setattr__(self, "kinds", tuple(dict.fromkeys(self.kinds)))
        if self.region is not None:
            try:
                from phonenumbers import SUPPORTED_REGIONS
            except ImportError as error:
                raise MissingExtra("phonenumbers", "distill") from error

            if self.region not in SUPPORTED_REGIONS:
                raise UnknownName("region", self.region, SUPPORTED_REGIONS, "Two capital letters, such as US or GB.")

    def redact(self, text: str) -> Redacted:
        """A text with everything private masked; ``restore(found.text, found.originals)`` gives it back exactly."""
        texts, originals, counts = self._mask([text])
        return Redacted(texts[0], originals, counts)

    def redact_messages(self, messages: Sequence[Mapping[str, str]]) -> RedactedMessages:
        """A whole prompt masked, with the same placeholder for the same original in all its messages.

        What was found in one message is masked wherever else it stands, also where nothing there gives it away. All
        texts of a message are masked but its role; what is no text raises :class:`InputError`, since it could hide one.
        """
        places = [(at, key) for at, message in enumerate(messages) for key in message if key != "role"]
        for at, key in places:
            if not isinstance(messages[at][key], str):
                raise InputError(
                    f"message {at + 1} must have a text as {key}, to be masked. Got {type(messages[at][key]).__name__}"
                )
        texts, originals, counts = self._mask([messages[at][key] for at, key in places])
        masked = [dict(message) for message in messages]
        for (at, key), text in zip(places, texts, strict=True):
            masked[at][key] = text
        return RedactedMessages(tuple(masked), originals, counts)

    def _mask(self, texts: list[str]) -> tuple[list[str], dict[str, str], dict[str, int]]:
        spans = [find(text, self.kinds, self.region) for text in texts]
        if not any(spans):
            return texts, {}, {}
        pieces = [_pieces(text, found) for text, found in zip(texts, spans, strict=True)]
        kind_of = {text: kind for cut in pieces for text, kind in cut if kind is not None}
        stays = "\n".join(text for cut in pieces for text, kind in cut if kind is None)
        if again := [original for original in kind_of if original in stays]:
            anywhere = re.compile("|".join(map(re.escape, sorted(again, key=len, reverse=True))))
            pieces = [list(_cut_again(cut, anywhere, kind_of)) for cut in pieces]
        taken = _taken([*texts, *(text for cut in pieces for text, kind in cut if kind is None)])
        placeholders: dict[str, str] = {}
        last: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        masked = []
        for cut in pieces:
            parts = []
            for text, kind in cut:
                if kind is None:
                    parts.append(text)
                    continue
                counts[kind] += 1
                if text not in placeholders:
                    name = kind.upper()
                    last[name] += 1
                    while (name, str(last[name])) in taken:
                        last[name] += 1
                    placeholders[text] = f"[{name}_{last[name]}]"
                parts.append(placeholders[text])
            masked.append("".join(parts))
        return masked, {placeholder: text for text, placeholder in placeholders.items()}, dict(counts)


def restore(text: str, originals: Mapping[str, str]) -> str:
    """Put back what placeholders stand for.

    Parameters
    ----------
    text : the teacher's answer, or a redacted text.
    originals : of the prompt's :class:`Redacted` or :class:`RedactedMessages`.

    Returns
    -------
    The text with each known placeholder replaced, whatever its case and with or without its brackets. One that the
    teacher made up stays as it is.
    """
    if not originals:
        return text

    def original(match: re.Match[str]) -> str:
        kind, number = match.group(1) or match.group(3), match.group(2) or match.group(4)
        return originals.get(f"[{kind.upper()}_{number}]", match.group())

    return _PLACEHOLDER.sub(original, text)


def restore_messages(messages: Iterable[Mapping[str, str]], originals: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    """:func:`restore` on all texts of messages but the role."""
    return tuple(
        {
            key: restore(value, originals) if key != "role" and isinstance(value, str) else value
            for key, value in m.items()
        }
        for m in messages
    )


def _pieces(text: str, found: list[Found]) -> list[Piece]:
    """A text cut into what stays (kind None) and what is masked."""
    cut: list[Piece] = []
    at = 0
    for start, end, kind in found:
        cut += [(text[at:start], None), (text[start:end], kind)]
        at = end
    return [*cut, (text[at:], None)]


def _cut_again(cut: list[Piece], anywhere: re.Pattern[str], kind_of: Mapping[str, str]) -> Iterator[Piece]:
    """The same pieces with what was found masked also where nothing gives it away."""
    for text, kind in cut:
        at = 0
        for match in anywhere.finditer(text) if kind is None else ():
            yield text[at : match.start()], None
            yield match.group(), kind_of[match.group()]
            at = match.end()
        yield text[at:], kind


def _taken(texts: Iterable[str]) -> set[tuple[str, str]]:
    """Kind and number of all that looks like a placeholder already: these numbers are not given out."""
    return {(m.group(1).upper(), m.group(2)) for text in texts for m in _TAKEN.finditer(text)}
