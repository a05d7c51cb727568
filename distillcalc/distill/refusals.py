"""Answers that refuse: how they begin, in English, German, French and Spanish."""

from __future__ import annotations

import re
from typing import Any

from distillcalc.distill.records import Record
from distillcalc.distill.wording import normalised

# A refusal is an inability of the writer's AND an act that only an assistant declines, or an object that points at
# the request. "I'm sorry, I can't find your order" and "Sorry for the delay" are answers of a help desk.
_THAT = (
    r"(?:(?:that|this|these|such)"
    r"(?: (?:an? )?(?:kinds?|types?|sorts?|requests?|information|content|question|text|topic)\b"
    r"|[.!,;]|$)|(?:your|the) request\b|requests?\b|what you)"
)
_EN_SORRY = (
    r"(?:(?:oh,? )?(?:i'm|i am|we're|we are|i do) )?(?:(?:very|really|so|terribly|truly) )?(?:sorry|apologi[sz]e)"
    r"|i(?:'d| would)? (?:must |have to )?apologi[sz]e|my apologies|apologies|unfortunately|regrettably|no"
)
_EN_CANNOT = (
    r"(?:i|we)(?:'m| am|'re| are)? ?"
    r"(?:(?:can't|can not|cannot)(?: and (?:will not|won't))?|(?:won't|will not)(?: be able)?|couldn't"
    r"|must decline|decline to|refuse to"
    r"|(?:simply )?(?:not able|unable|not allowed|not permitted|not comfortable|not going)(?: to| with)?)"
)
_EN_ACT = (
    r"(?:(?:help|assist|support)(?:ing)?(?: you)?"
    rf"(?: (?:with|in|on) (?:that|this|it|these|those|such|{_THAT}|creating|writing|making|doing)\b|[.!,;]|$)"
    rf"|(?:comply|engage|fulfil|fulfill)\b|(?:do|answer|discuss|share|complete|continue|classify|translate) {_THAT}"
    r"|(?:provide|give|create|write|generate|produce|share)(?: you)?(?: with)?"
    rf" (?:{_THAT}|(?:any |an? |the )?(?:\w+ )?(?:instructions|guidance|content)\b"
    r"|(?:medical|legal|financial) advice\b))"
)
_PATTERNS = (
    # English
    r"(?:i'm sorry,? (?:but )?)?as an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    rf"(?:(?:{_EN_SORRY})[,.!;:]* (?:but |that )?)?{_EN_CANNOT} (?:to )?{_EN_ACT}",
    r"(?:i'm sorry,? (?:but )?)?(?:that|this)(?: request)? "
    r"(?:is|goes|would be) against my (?:guidelines|programming|polic)",
    # German
    r"(?:es )?(?:tut mir (?:sehr |wirklich )?leid|entschuldigung|entschuldige|leider)[,.!;:]* (?:aber )?"
    r"(?:(?:ich )?(?:kann|darf) (?:ich )?|(?:dabei|damit|das|diese \w+) (?:kann|darf) ich )(?:\w+ ){0,5}?nicht "
    r"(?:\w+ ){0,3}?"
    r"(?:helfen|weiterhelfen|behilflich|beantworten|erfüllen|nachkommen|unterstützen|bereitstellen|tun)\b",
    r"(?:ich (?:kann|darf)|(?:dabei|damit) (?:kann|darf) ich) (?:\w+ ){0,5}?nicht (?:\w+ ){0,2}?"
    r"(?:helfen|weiterhelfen|behilflich|beantworten|erfüllen|nachkommen|unterstützen)\b",
    r"als (?:eine? )?(?:ki|künstliche intelligenz|(?:großes )?sprachmodell)\b",
    # French
    r"(?:(?:je (?:suis|m'excuse)[, ]*)?"
    r"(?:vraiment |sincèrement )?(?:désolée?|navrée?|malheureusement)[,.!;:]* (?:mais )?)?"
    r"je ne (?:peux|puis|suis) (?:malheureusement )?pas (?:en mesure de |autorisée? à |capable de )?"
    r"(?:vous |t'|te |y )?(?:aider|assister|répondre à (?:cette|votre|ta)|fournir (?:ce|cette|ces|de telles?)"
    r"|satisfaire|accéder à (?:cette|votre) demande|faire (?:cela|ça))\b",
    r"en tant qu(?:'|e )(?:ia|intelligence artificielle|(?:grand )?modèle de langage|assistante? (?:ia|virtuel))\b",
    # Spanish
    r"(?:(?:lo siento|lo lamento|disculpa|disculpe|perdón|lamentablemente)(?: mucho)?[,.!;:]* (?:pero )?)?"
    r"no (?:puedo|me es posible|estoy autorizad[oa] (?:a|para)) (?:ayudar(?:te|le|los)?|asistir(?:te|le)?"
    r"|responder a (?:esa|esta|eso|esto|su|tu)|cumplir con|proporcionar (?:esa|ese|esta|este)|hacer (?:eso|esto))\b",
    r"como (?:una? )?(?:ia|inteligencia artificial|(?:gran )?modelo de lenguaje|asistente de ia)\b",
)
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS))
STOPPED = frozenset({"content_filter", "refusal", "safety"})  # finish reasons of servers
_LEADING = " \t\n_#>\"'`“”«»¡-"


def is_refusal(text: str) -> bool:
    """Whether a text begins as a refusal does: an apology or none, then what the writer will not do.

    Only the beginning is read. "Sorry for the delay, your card is on its way" is no refusal, and neither is "I can't
    find your order": a help desk writes both.
    """
    start = normalised(text[:400].replace("’", "'").replace("*", "")).lstrip(_LEADING)
    return _REFUSAL.match(start) is not None


def refusal_in(record: Record) -> str | None:
    """Why an answer counts as refused; None where it does not.

    A valid label is never refused, whatever it is called. Of a JSON value every text in it is read.
    """
    if record.finish_reason.casefold() in STOPPED:
        return "stopped by the teacher's content filter"
    if any("refus" in problem.casefold() for problem in record.problems):
        return "the teacher refused"
    if isinstance(record.value, str) and not record.problems and record.value == record.answer.strip():
        return None
    texts = [record.answer] if record.value is None else _texts(record.value)
    return "begins as a refusal" if any(map(is_refusal, texts)) else None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inside for text in _texts(part)]
