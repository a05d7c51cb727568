"""Rules that send a request on, or keep it with the student, before any score: by length, language, script or topic."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from distillcalc.errors import InputError, MissingExtra
from distillcalc.route.requests import Request

if TYPE_CHECKING:
    from distillcalc.route.embedding import Embedder

Then: TypeAlias = Literal["teacher", "student"]
Counter: TypeAlias = Callable[[str], int]

LEAST_LEAD = 0.1  # of the likeliest language over the next, in [0, 0.99]


class Verdict(NamedTuple):
    """Where a rule sends a request, and why, in words."""

    then: Then
    reason: str


class Tools(NamedTuple):
    """What some rules need beside the request: a sentence encoder, a function that counts a text's tokens."""

    embedder: Embedder | None = None
    count_tokens: Counter | None = None


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    then: Then = "teacher"

    def why(self, request: Request, tools: Tools) -> str | None:
        """Why it holds, in words; None where it does not."""
        raise NotImplementedError


class Length(_Rule):
    """Holds for requests longer than ``above`` or shorter than ``below``, in words, characters or tokens.

    Tokens need a function that counts them, which is given with the request.
    """

    kind: Literal["length"] = "length"
    unit: Literal["words", "characters", "tokens"] = "words"
    above: int | None = Field(None, ge=0)
    below: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _bounds_something(self) -> Length:
        if self.above is None and self.below is None:
            raise ValueError("a rule on length needs above, below or both")
        if self.above is not None and self.below is not None and self.below > self.above + 1:
            raise ValueError(f"above {self.above} and below {self.below} {self.unit} holds for every request")
        return self

    def why(self, request: Request, tools: Tools) -> str | None:
        """Why it holds, in words; None where it does not."""
        found = self._measure(request.text, tools)
        if self.above is not None and found > self.above:
            return f"{found} {self.unit} are more than {self.above}"
        if self.below is not None and found < self.below:
            return f"{found} {self.unit} are fewer than {self.below}"
        return None

    def _measure(self, text: str, tools: Tools) -> int:
        if self.unit == "words":
            return len(text.split())
        if self.unit == "characters":
            return len(text)
        if tools.count_tokens is None:
            raise InputError("a rule on tokens needs a function that counts them: count_tokens=function of a text")
        return tools.count_tokens(text)


class Language(_Rule):
    """Holds for requests in none of the allowed languages, as the library lingua tells them.

    Texts of which it cannot tell are allowed unless ``unknown`` is true. Of the demo's 1,496 English messages, of a
    sentence or two, it takes 97.5% for English, 0.8% for nothing and the rest for something else; of their first three
    words alone, 48% and 31%. About 0.5 ms each on two cores, 60 MB of memory, and 0.3 s the first time.

    Parameters
    ----------
    allowed : ISO 639-1 codes, such as "en" and "de".
    unknown : whether it holds where the language cannot be told.
    """

    kind: Literal["language"] = "language"
    allowed: tuple[str, ...] = Field(min_length=1)
    unknown: bool = False

    @model_validator(mode="after")
    def _are_codes(self) -> Language:
        for code in self.allowed:
            if not re.fullmatch("[a-z]{2}", code):
                raise ValueError(f'allowed are ISO 639-1 codes of two small letters, such as "en". Got {code!r}')
        return self

    def why(self, request: Request, tools: Tools) -> str | None:
        """Why it holds, in words; None where it does not."""
        found = language_of(request.text)
        if found is None:
            return "its language cannot be told" if self.unknown else None
        return None if found in self.allowed else f"its language is {found!r}, not {_listed(self.allowed)}"


class Script(_Rule):
    """Holds for requests with more than a share of letters in other scripts; needs no library.

    Parameters
    ----------
    allowed : scripts as Unicode names letters: "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HANGUL", "CJK" and others.
    share : of letters that may be in others.
    """

    kind: Literal["script"] = "script"
    allowed: tuple[str, ...] = Field(("LATIN",), min_length=1)
    share: float = Field(0.1, ge=0, lt=1)

    def why(self, request: Request, tools: Tools) -> str | None:
        """Why it holds, in words; None where it does not."""
        scripts = [script_of(letter) for letter in request.text if letter.isalpha()]
        others = [script for script in scripts if script not in self.allowed]
        if len(others) <= self.share * len(scripts):
            return None
        return f"{len(others)} of {len(scripts)} letters are {_listed(sorted(set(others)))}"


class Topic(_Rule):
    """Holds for requests that have one of some words, whatever their case, or match one of some regular expressions.

    Parameters
    ----------
    name : of the topic, for the reason.
    words : whole words or phrases.
    patterns : of Python's ``re``, searched for.
    """

    kind: Literal["topic"] = "topic"
    name: str = ""
    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Topic:
        if not self.words and not self.patterns:
            raise ValueError("a rule on a topic needs words or patterns")
        if not all(word.strip() for word in self.words):
            raise ValueError("words of a topic must not be empty")
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from error
        return self

    @cached_property
    def _compiled(self) -> tuple[re.Pattern[str], ...]:
        found = tuple(re.compile(pattern) for pattern in self.patterns)
        if not self.words:
            return found
        either = "|".join(r"\s+".join(map(re.escape, word.split())) for word in self.words)
        return (*found, re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.IGNORECASE))

    def why(self, request: Request, tools: Tools) -> str | None:
        """Why it holds, in words; None where it does not."""
        found = next((match for one in self._compiled if (match := one.search(request.text))), None)
        if found is None:
            return None
        return f"it has {found.group()!r}" + (f", of the topic {self.name}" if self.name else "")


class Nearest(_Rule):
    """Holds for requests whose nearest example is of one of some topics, by the cosine of their embeddings.

    Parameters
    ----------
    examples : texts by topic; give other topics too, so that what is nearer to them is not taken for these.
    topics : for which it holds.
    at_least : least cosine of the nearest example.
    """

    kind: Literal["nearest"] = "nearest"
    examples: dict[str, tuple[str, ...]]
    topics: tuple[str, ...] = Field(min_length=1)
    at_least: float = Field(0.5, ge=-1, le=1)

    @model_validator(mode="after")
    def _has_examples(self) -> Nearest:
        for topic in self.topics:
            if not self.examples.get(topic):
                raise ValueError(f"topic {topic!r} has no examples. There are: {', '.join(self.examples) or 'none'}")
        return self

    @cached_property
    def _embedded(self) -> dict[str, NDArray[np.float32]]:
        """The examples' embeddings, by the encoder's name."""
        return {}

    def why(self, request: Request, tools: Tools) -> str | None:
        """Why it holds, in words; None where it does not."""
        from distillcalc.route.embedding import embeddings_of

        if tools.embedder is None:
            raise InputError("a rule on nearest examples needs an encoder: embedder=Embedder(folder or name)")
        texts = [(topic, text) for topic, some in self.examples.items() for text in some]
        if tools.embedder.name not in self._embedded:
            self._embedded[tools.embedder.name] = tools.embedder.embed([text for _, text in texts])
        known = self._embedded[tools.embedder.name]
        x = embeddings_of([request], tools.embedder, known.shape[1])[0]
        cosines = known @ (x / max(float(np.linalg.norm(x)), 1e-12))
        best = int(cosines.argmax())
        topic, text = texts[best]
        if topic not in self.topics or cosines[best] < self.at_least:
            return None
        return f"it is near {text!r} of the topic {topic} (cosine {cosines[best]:.2f})"


Rule: TypeAlias = Annotated[Length | Language | Script | Topic | Nearest, Field(discriminator="kind")]


class Rules(BaseModel):
    """Rules in their order: the first that holds decides, whatever a score would say.

    Parameters
    ----------
    rules : of any kind; each sends on to the teacher or keeps with the student (``then``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def first(
        self, request: Request, *, embedder: Embedder | None = None, count_tokens: Counter | None = None
    ) -> Verdict | None:
        """What the first rule that holds decides; None where none does.

        Parameters
        ----------
        request : its text is read.
        embedder : for rules on nearest examples.
        count_tokens : for rules on tokens, text -> count.

        Raises
        ------
        InputError
            If a rule needs one of the two and it is not given.
        """
        tools = Tools(embedder, count_tokens)
        for rule in self.rules:
            why = rule.why(request, tools)
            if why is not None:
                return Verdict(rule.then, why)
        return None

    @classmethod
    def read(cls, values: Any) -> Rules:
        """From plain values, as JSON or TOML hold them; an :class:`.InputError` names the field."""
        from distillcalc.workload.files import validate

        return validate(cls, values)


def language_of(text: str) -> str | None:
    """ISO 639-1 code of a text's language, as lingua tells it; None where it cannot."""
    found = _detector().detect_language_of(text)
    return None if found is None else str(found.iso_code_639_1.name).lower()


@lru_cache(1)
def _detector() -> Any:
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError as error:
        raise MissingExtra("lingua", "route") from error
    # The full models take 0.9 GB and 6 s; for texts of 120 characters and more they say the same.
    builder = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode()
    return builder.with_minimum_relative_distance(LEAST_LEAD).build()


@lru_cache(4_096)
def script_of(letter: str) -> str:
    """The script of a letter: the first word of its Unicode name."""
    return unicodedata.name(letter, "UNKNOWN").split()[0]


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)
