"""Top-k log-probabilities of an answer: stored sparse, with the tail mass and the vocabulary's fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from distillcalc.distill.answers import whole_text
from distillcalc.distill.records import TopLogprobs

LEAST = -9999.0  # what servers send for a probability of zero


def top_logprobs(choice: Mapping[str, Any], tokenizer: str) -> TopLogprobs | None:
    """The log-probabilities of one choice; None where the server gave none.

    Parameters
    ----------
    choice : of a chat completion, with ``logprobs.content`` as OpenAI's API words it.
    tokenizer : fingerprint of the vocabulary, see :func:`fingerprint`.

    Notes
    -----
    An entry without a token or a number is left out; where that is the token that was written, all are.

    The tail mass of a position is 1 - sum over the listed tokens of exp(logprob), at least 0: what a loss with a tail
    bucket gives to all other tokens together.
    """
    given = choice.get("logprobs")
    content = given.get("content") if isinstance(given, Mapping) else None
    if not content or not isinstance(content, list):
        return None
    tokens, chosen, top, tails = [], [], [], []
    for place in content:
        own = _pair(place)
        if own is None:
            return None  # a position without a token: what follows could not be told apart
        others = place.get("top_logprobs")
        listed = [pair for entry in (others if isinstance(others, list) else ()) if (pair := _pair(entry)) is not None]
        known = listed if any(token == own[0] for token, _ in listed) else [*listed, own]
        tokens.append(own[0])
        chosen.append(own[1])
        top.append(tuple(sorted(known, key=lambda pair: -pair[1])))
        tails.append(min(max(1.0 - math.fsum(math.exp(logprob) for _, logprob in known), 0.0), 1.0))
    return TopLogprobs(
        tokens=tuple(tokens), logprobs=tuple(chosen), top=tuple(top), tail_mass=tuple(tails), tokenizer=tokenizer
    )


def _pair(entry: Any) -> tuple[str, float] | None:
    """Token and log-probability of an entry; None where it has not both."""
    if not isinstance(entry, Mapping) or entry.get("token") is None:
        return None
    try:
        value = float(entry["logprob"])
    except (KeyError, TypeError, ValueError):
        return None
    return whole_text(str(entry["token"])), min(value, 0.0) if math.isfinite(value) else LEAST


def fingerprint(model: str, version: str = "", system_fingerprint: str = "") -> str:
    """What the tokens of an answer are of, where the server does not send its vocabulary.

    Log-probabilities are only comparable between answers with the same one; a student with a vocabulary of its own
    must be aligned to it first.
    """
    digest = hashlib.sha256(f"{model}\n{version}\n{system_fingerprint}".encode()).hexdigest()[:12]
    return f"{version or model}#{digest}"
