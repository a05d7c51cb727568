"""Whether two answers say the same: what stands after the marker, numbers by their value, the rest by its wording."""

from __future__ import annotations

import json
import re
from decimal import Decimal

from distillcalc.distill.records import Record
from distillcalc.distill.wording import normalised

_MARKER = re.compile(r"####|\b(?:final\s+)?answer\s*(?:is)?\s*:", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d{1,3})?"
_NUMBER = re.compile(rf"([-+−]?)\s*[$€£¥]?\s*([-+−]?)({_PLAIN})\s*[$€£¥%]?\.?", re.IGNORECASE)
_INSIDE = re.compile(rf"(?<![\w.,])[-−]?[$€£¥]?{_PLAIN}(?![\w]|[.,]\d)", re.IGNORECASE)


def final_answer(text: str) -> str:
    r"""What a text gives as its answer: what follows the last "####" or "Answer:", or stands in ``\boxed{}``.

    Of what follows a marker the first line counts. A text without either is its own answer.
    """
    marks = list(_MARKER.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].strip().strip("*").strip()
        if rest:
            return rest.splitlines()[0].strip().strip("*").strip()
    boxed = _BOXED.findall(text)
    return boxed[-1].strip() if boxed else text.strip()


def as_number(text: str) -> Decimal | None:
    """The number that a text is, without currency, thousands commas and percent sign; None where it is no number.

    "1,200.0" is 1200 and "$18" is 18. A percent sign is a unit: "20%" is 20. "3,5" is none: it can be read two ways.
    """
    found = _NUMBER.fullmatch(normalised(text))
    if found is None:
        return None
    value = Decimal(found[3].replace(",", ""))
    return -value if {found[1], found[2]} & {"-", "−"} else value


def answer_key(text: str) -> str:
    """A text that is equal for answers that say the same: a number by its value, else the normalised wording."""
    said = final_answer(text)
    number = as_number(said)
    if number is not None:
        plain = f"{number:f}"  # all its digits, however many
        plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
        return "0" if plain in ("-0", "") else plain
    return normalised(said).strip(" .!\"'`")


def same_answer(said: str, reference: str) -> bool:
    """Whether an answer says what the reference says.

    Numbers compare by value. Where the reference is a number and the answer a sentence with exactly one number in it,
    that one counts ("She has 18 left." and "18").
    """
    if answer_key(said) == answer_key(reference):
        return True
    wanted = as_number(final_answer(reference))
    if wanted is None:
        return False
    inside = _INSIDE.findall(normalised(final_answer(said)))
    return len(inside) == 1 and as_number(inside[0]) == wanted


def said_by(record: Record) -> str:
    """The answer of a record as text: its label where it has one, else the answer as it was written."""
    return record.value if isinstance(record.value, str) else record.answer


def vote_of(record: Record) -> str:
    """What a record's answer counts as in a vote: its JSON value, or label, where there is one, else its wording."""
    if record.value is None:
        return answer_key(record.answer)
    return json.dumps(record.value, sort_keys=True, ensure_ascii=False)
