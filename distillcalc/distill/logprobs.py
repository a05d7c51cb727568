"""Top-k log-probabilities of an answer: stored sparse, with the tail mass and the vocabulary's fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

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
    The tail mass of a position is 1 - sum over the listed tokens of exp(logprob), at least 0: what a loss with a tail
    bucket gives to all other tokens together.
    """
    content = (choice.get("logprobs") or {}).get("content")
    if not content:
        return None
    tokens, chosen, top, tails = [], [], [], []
    for place in content:
        listed = [(str(entry["token"]), _finite(entry["logprob"])) for entry in place.get("top_logprobs") or ()]
        own = (str(place["token"]), _finite(place["logprob"]))
        known = listed if any(token == own[0] for token, _ in listed) else [*listed, own]
        tokens.append(own[0])
        chosen.append(own[1])
        top.append(tuple(sorted(known, key=lambda pair: -pair[1])))
        tails.append(min(max(1.0 - math.fsum(math.exp(logprob) for _, logprob in known), 0.0), 1.0))
    return TopLogprobs(
        tokens=tuple(tokens), logprobs=tuple(chosen), top=tuple(top), tail_mass=tuple(tails), tokenizer=tokenizer
    )


def _finite(logprob: Any) -> float:
    value = float(logprob)
    return value if math.isfinite(value) else LEAST


def fingerprint(model: str, version: str = "", system_fingerprint: str = "") -> str:
    """What the tokens of an answer are of, where the server does not send its vocabulary.

    Log-probabilities are only comparable between answers with the same one; a student with a vocabulary of its own
    must be aligned to it first.
    """
    digest = hashlib.sha256(f"{model}\n{version}\n{system_fingerprint}".encode()).hexdigest()[:12]
    return f"{version or model}#{digest}"
