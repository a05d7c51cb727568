"""Finding what must not leave the machine: e-mail addresses, phone and card numbers, bank accounts, keys.

Each detector yields (start, end) of what it finds in a text, and runs only where a cheap look says that it could find
something. Doubtful cases are masked: a mask is put back later, a leak is not. :mod:`.redact` does the masking.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from distillcalc.errors import MissingExtra

Span: TypeAlias = tuple[int, int]
Found: TypeAlias = tuple[int, int, str]  # start, end, kind

KINDS = ("email", "phone", "card", "iban", "key")

_CANDIDATE = re.compile(r"[@\d]")
_DIGIT = re.compile(r"\d")

# An address: atoms of RFC 5322 less those that stand around addresses in prose, code and links (= / { } | ` *), and the
# letters of Latin-1 and Latin Extended-A/B. Domains of other scripts are taken where the Latin ones do not fit.
_LONGEST_LOCAL = 256
_LATIN = "A-Za-z0-9\u00c0-\u024f"
_LOCAL = re.compile(rf"[{_LATIN}_](?:[{_LATIN}_.!#$%&'+?^~-]*[{_LATIN}_+-])?$")
_NOT_LOCAL = re.compile(rf"[^{_LATIN}_.!#$%&'+?^~-]")
_DOMAIN = re.compile(rf"(?:[{_LATIN}](?:[{_LATIN}-]*[{_LATIN}])?\.)+[A-Za-z\u00c0-\u024f][{_LATIN}-]*[{_LATIN}]")
_ANY_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}")

# Words after which bare digits are no phone number, however valid they would be as one.
_COUNTED = re.compile(
    r"(?:\b(?:order|invoice|ref(?:erence)?|ticket|case|tracking|id|sku|item|po|account|amount|total|transaction|booking)"
    r"|\b(?:usd|eur|gbp)|[#$€£])\W{0,3}(?:(?:number|no|nr|id|num)\b\W{0,3}|#)?$",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"://[^\s:/@]{0,200}:$")  # what follows is a password, and the host after the @

_SEPARATOR = r"[ \t\u00a0\u2009\u202f./\u2010-\u2014-]"
_CARD_RUN = re.compile(rf"(?<![A-Za-z\d])\d(?:{_SEPARATOR}{{0,3}}\d){{12,}}(?![A-Za-z])")
_GROUP = re.compile(r"\d+")
_CARD_SHAPES = {(4, 6, 5), (4, 6, 4)}  # American Express, Diners Club
# Issuer prefixes and their lengths: ISO/IEC 7812 ranges as the card schemes publish them.
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d{2}|62\d{2}|60\d{2}|8[12]\d{2})\d{12,15}"  # Discover, UnionPay, RuPay
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:30[0-5]\d|3095|36\d{2}|3[89]\d{2})\d{10,15}"  # Diners Club
    r"|(?:50\d{2}|5[6-8]\d{2}|6304|6759|676[1-3])\d{9,15}"  # Maestro
    r"|220[0-4]\d{12,15}|9792\d{12}"  # Mir, Troy
)

_IBAN = re.compile(r"[A-Za-z]{2} ?[0-9]{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,29}")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2} ?[0-9]{2}[ \u00a0-]?[A-Za-z0-9]")
# Characters by country: SWIFT, IBAN Registry, release 101.
_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS = {code: length for length, codes in _IBAN_COUNTRIES.items() for code in codes.split()}

_KEY_MARKS = ("sk-", "k_live_", "k_test_", "KIA", "SIA", "gh", "github_pat_", "glpat-", "xox", "AIza", "hf_", "eyJ")
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic and those that follow them
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{10,}"  # Stripe
    r"|A[KS]IA[A-Z0-9]{16}"  # AWS
    r"|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{20,}"  # GitHub, GitLab
    r"|xox[a-z]-[A-Za-z0-9-]{10,}"  # Slack
    r"|AIza[A-Za-z0-9_-]{30,}"  # Google
    r"|hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,65536}\.[A-Za-z0-9_-]*"  # JSON web tokens
    r")"
)
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_URL_PASSWORD = re.compile(r"://[^\s:/@]{0,200}:([^\s@/]{3,200})@")
_WORDS = ("key", "secret", "passw", "passphrase", "pwd", "token", "credential", "bearer")
_BEARER = re.compile(r"\bbearer[ \t]{1,5}([\w.~+/=-]{12,})", re.IGNORECASE | re.ASCII)
_ASSIGNMENT = re.compile(
    r"(?:(?P<password>passw(?:or)?d|pwd|passphrase)"
    r"|(?:api|access|private|secret|account)[_ .-]?key|secret|token|credential)"
    r"""["'`*]{0,3}[ \t]{0,9}(?::=|=>|==?|:|\bis\b)\s{0,9}["'`*]{0,3}(?P<value>[^\s"'`<>,;]{6,})""",
    re.IGNORECASE,
)
_LEAST_ENTROPY = 2.5  # bits a character; eight characters that all differ have 3
_AFTER_VALUE = ".:!?)]}*&|"


def find(text: str, kinds: Sequence[str], region: str | None) -> list[Found]:
    """What of the given kinds stands in a text: spans in order, none overlapping.

    Of two finds that overlap the one that starts first counts, and the longer where they start together; what the
    other covers beyond it is masked with it.
    """
    found: list[Found] = []
    likely = _CANDIDATE.search(text) is not None
    for kind in kinds:
        if likely or kind == "key":
            found += [(start, end, kind) for start, end in _DETECTORS[kind](text, region)]
    if len(found) < 2:
        return found
    merged: list[Found] = []
    for start, end, kind in sorted(found, key=lambda span: (span[0], -span[1])):
        if merged and start < merged[-1][1]:
            first, last, earlier = merged[-1]
            merged[-1] = (first, max(last, end), earlier)
        else:
            merged.append((start, end, kind))
    return merged


def emails(text: str, region: str | None = None) -> Iterator[Span]:
    """Addresses with a dotted domain; each ``@`` is looked at once, so that the time is linear."""
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1) or _ANY_DOMAIN.match(text, at + 1)
        if domain is not None:
            before = text[max(0, at - _LONGEST_LOCAL) : at]
            cut = 0
            for stop in _NOT_LOCAL.finditer(before):
                cut = stop.end()
            local = _LOCAL.search(before[cut:])
            if local is not None and _LOGIN.search(before[: len(before) - len(local.group())]) is None:
                yield at - len(local.group()), domain.end()
        at = text.find("@", at + 1)


def phones(text: str, region: str | None) -> Iterator[Span]:
    """Numbers that libphonenumber holds to be valid: international ones, and a region's own where one is given."""
    if (region is None and "+" not in text and "\uff0b" not in text) or _DIGIT.search(text) is None:
        return
    try:
        from phonenumbers import Leniency, PhoneNumberMatcher
    except ImportError as error:
        raise MissingExtra("phonenumbers", "distill") from error

    for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID):
        if not (match.raw_string.isdigit() and _COUNTED.search(text, max(0, match.start - 30), match.start)):
            unclosed = match.raw_string.startswith("(") and ")" not in match.raw_string
            yield match.start + unclosed, match.end


def cards(text: str, region: str | None = None) -> Iterator[Span]:
    """Payment cards: 13 to 19 digits, grouped as cards are, of a known issuer, whose check digit (Luhn) is right."""
    for run in _CARD_RUN.finditer(text):
        groups = [(run.start() + m.start(), run.start() + m.end()) for m in _GROUP.finditer(run.group())]
        at = 0
        while at < len(groups):
            end = _card_from(text, groups, at)
            if end is None:
                at += 1
            else:
                yield groups[at][0], groups[end][1]
                at = end + 1


def _card_from(text: str, groups: list[Span], first: int) -> int | None:
    """The last group of the longest card that starts with a group; None where none does."""
    start = groups[first][0]
    if start > 1 and text[start - 1] == "." and text[start - 2].isdigit():
        return None  # the decimals of a number
    best, sizes, total = None, [], 0
    for last in range(first, len(groups)):
        sizes.append(groups[last][1] - groups[last][0])
        total += sizes[-1]
        if total > 19:
            break
        if total >= 13 and _is_grouped(sizes):
            digits = "".join(str(int(c)) for a, b in groups[first : last + 1] for c in text[a:b])
            if _ISSUERS.fullmatch(digits) and _passes_luhn(digits):
                best = last
    return best


def _is_grouped(sizes: list[int]) -> bool:
    """Whether groups of these sizes could be a card: all alike but the last, or a scheme's own way."""
    return tuple(sizes) in _CARD_SHAPES or (len(set(sizes[:-1])) <= 1 and sizes[-1] <= max(sizes[0], 7))


def _passes_luhn(digits: str) -> bool:
    try:
        from stdnum import luhn
    except ImportError as error:
        raise MissingExtra("stdnum", "distill") from error

    return bool(luhn.is_valid(digits))


def ibans(text: str, region: str | None = None) -> Iterator[Span]:
    """Bank accounts whose check digits and length fit their country; a country's own check of the rest is left out."""
    at = 0
    while (start := _IBAN_START.search(text, at)) is not None:
        end = _iban_end(text, start.start(), _IBAN_LENGTHS.get(start.group()[:2].upper(), 0))
        if end is not None:
            yield start.start(), end
        at = end or start.start() + 2


def _iban_end(text: str, start: int, length: int) -> int | None:
    """Where the account of a length that starts here ends; None where none does."""
    candidate = _IBAN.match(text, start) if length else None
    if candidate is None:
        return None
    characters = ""
    end = start
    while len(characters) < length and end < candidate.end():
        if text[end].isalnum():
            characters += text[end]
        end += 1
    if len(characters) < length or (end < len(text) and text[end].isascii() and text[end].isalnum()):
        return None
    try:
        from stdnum import iban
    except ImportError as error:
        raise MissingExtra("stdnum", "distill") from error

    return end if iban.is_valid(characters, check_country=False) else None


def keys(text: str, region: str | None = None) -> Iterator[Span]:
    """API keys by their shapes, private keys, passwords in links, and random values beside a word for secret."""
    if any(mark in text for mark in _KEY_MARKS):
        for match in _KEY.finditer(text):
            yield match.span()
    if "-----BEGIN " in text:
        for match in _PEM.finditer(text):
            yield match.span()
    if "://" in text and "@" in text:
        for match in _URL_PASSWORD.finditer(text):
            yield match.span(1)
    lower = text.lower()
    if any(word in lower for word in _WORDS):
        for match in _BEARER.finditer(text):
            if _is_random(match.group(1)):
                yield match.span(1)
        for match in _ASSIGNMENT.finditer(text):
            value = match.group("value").rstrip(_AFTER_VALUE)
            password = match.group("password") is not None and _DIGIT.search(value) is not None
            if len(value) >= 6 and "://" not in value and (password or (len(value) >= 8 and _is_random(value))):
                yield match.start("value"), match.start("value") + len(value)


def _is_random(value: str) -> bool:
    """Whether a value looks drawn at random: letters with digits or in mixed case, and enough different ones."""
    letters = any(c.isalpha() for c in value)
    mixed = any(c.islower() for c in value[1:]) and any(c.isupper() for c in value[1:])
    if not letters or not (mixed or _DIGIT.search(value)):
        return False
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values()) >= _LEAST_ENTROPY


_DETECTORS: dict[str, Callable[[str, str | None], Iterator[Span]]] = {
    "email": emails,
    "phone": phones,
    "card": cards,
    "iban": ibans,
    "key": keys,
}
