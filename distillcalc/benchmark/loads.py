"""Prompts and moments to send them, drawn from a workload: as long, as bursty and as alike as its own requests.

Prompts are random words of ordinary English. They say nothing, which speed does not mind, except where it depends on
what is written: speculative decoding, and experts that are chosen by the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from distillcalc.benchmark.load import ClosedLoop, OpenLoop, Prompt
from distillcalc.errors import InputError
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.simulation import Requests, Traffic, joint_sample
from distillcalc.workload.lengths import JointLengths
from distillcalc.workload.scenario import Choices, Scenario
from distillcalc.workload.workload import Workload

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CORRECTIONS = 12
TRIES = 64
FEWEST_WORDS = 50
OWN_WORDS = 3  # at the start of each prompt, from so many words that no two prompts share them
ENDINGS = (*"abcdefghijklmnopqrstuvwxyz0123456789", ".", ",", " a", " I", " of", " 10")
ENGLISH = """
    able about account across action after again against agree almost alone along always amount animal another answer
    appear apple area around arrive asked away back ball bank basic beach bear beat become before began begin behind
    believe below best better between beyond bird black block blood blue board boat body book born both bottom bought
    box branch bread break bridge bright bring broad brother brought brown build burn business busy buy call came camp
    capital captain car care carry case catch cause cell center century certain chair chance change chart check chief
    child choose church circle city claim class clean clear climb clock close clothes cloud coast cold collect color
    column come common company compare complete condition consider contain continue control cook cool copper copy corn
    corner cost cotton could count country course cover create crop cross crowd current dance dark daughter day dead
    deal dear death decide deep degree depend describe desert design develop dictionary differ direct discuss distant
    divide doctor dollar door double doubt down draw dream dress drink drive drop during early earth east easy edge
    effect eight either electric element else end enemy energy engine enough enter equal even evening event ever every
    exact example except excite exercise expect experience explain eye face fact fair fall family famous farm fast
    father favor fear feel feet fell felt few field fight figure fill final find fine finger finish fire first fish
    flat floor flow flower follow food foot force forest form forward found four free fresh friend front fruit full
    garden gather gave general gentle girl give glad glass gold gone good govern grand grass gray great green ground
    group grow guess guide hand happen happy hard have head hear heart heat heavy held help here high hill history hold
    home hope horse hot hour house huge human hundred hunt hurry idea imagine inch include industry insect instant
    instrument interest iron island join jump keep kept key kind king knew know lady lake land language large last late
    laugh law lead learn least leave left length less letter level life lift light line list listen little live local
    long look lost loud love low machine made main major make many map mark market mass master match material matter
"""
WORDS = tuple(ENGLISH.split())


class Tokenizer(Protocol):
    """What counts the tokens of a text."""

    def encode(self, text: str, /) -> list[int]:
        """The text's tokens, with those that it adds to every text."""


@dataclass(frozen=True)
class Prompts(Sequence[Prompt]):
    """Prompts of a benchmark, in the order in which they are sent.

    Parameters
    ----------
    items : the prompts.
    counted_by : "tokenizer", or "words" where there was none: a common word is about one token, no more is known.
    cut : prompts that were shortened, or whose output was, to fit the longest that the target takes.
    inexact : prompts that could not be made of exactly the wanted number of tokens; what they have is in them.
    """

    items: tuple[Prompt, ...]
    counted_by: str
    cut: int
    inexact: int

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.items)

    @overload
    def __getitem__(self, at: int) -> Prompt: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Prompt, ...]: ...
    def __getitem__(self, at: int | slice) -> Prompt | tuple[Prompt, ...]:
        return self.items[at]


def lengths_of(workload: Workload, *, teacher: bool = False) -> JointLengths:
    """Joint input and output lengths of a workload's student, or of its teacher."""
    # Nothing but the workload is read of the scenario: the choices need a name.
    inputs = Inputs(Scenario(workload=workload, choices=Choices(teacher="any")))
    return inputs.lengths if teacher else inputs.student_lengths


def make_prompts(
    workload: Workload,
    count: int,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    *,
    longest: int | None = None,
    wrap: Callable[[str], str] | None = None,
    cached_prefix_tokens: int = 0,
    teacher: bool = False,
    trace: Requests | None = None,
) -> Prompts:
    """Texts with the token lengths of a workload.

    Parameters
    ----------
    workload : whose lengths are drawn. What a model thinks counts as output: a server streams it as such.
    count : prompts.
    tokenizer : of the target; None counts words for tokens.
    seed : the same one gives the same prompts. Another run against the same server needs another one, or the server's
        prefix cache may know them.
    longest : most tokens of input and output together; None: no limit. First prompts are cut, to one token, then
        outputs, as :func:`distillcalc.estimate.simulated_fleet.within_window` does.
    wrap : what the chat template makes of a user's text; what it adds counts as input. None: nothing. Where it writes
        the tokens that start a text, the tokenizer must be one that does not add them again.
    cached_prefix_tokens : about so many tokens at the start are the same in all prompts (fewer in shorter ones), so
        that a prefix cache can answer them; 0: each starts with words of its own.
    teacher : with the teacher's lengths instead of the student's.
    trace : lengths of these requests, in their order and from the start again when they end, instead of the workload's.

    Returns
    -------
    :class:`Prompts`; every text is encoded again, and corrected until it has the wanted length.

    Raises
    ------
    InputError
        For a count below 1, a window below 2 tokens, or a prefix below 0.
    """
    if count < 1 or (longest is not None and longest < 2) or cached_prefix_tokens < 0:
        raise InputError(
            "count must be 1 or more, longest 2 or more, cached_prefix_tokens 0 or more. "
            f"Got {count}, {longest}, {cached_prefix_tokens}"
        )
    inputs, outputs = _lengths(workload, count, seed, teacher, trace)
    wanted_in, wanted_out = inputs, outputs
    if longest is not None:
        inputs = np.minimum(inputs, np.maximum(longest - outputs, 1))
        outputs = np.minimum(outputs, longest - inputs)
    writer = _Writer(tokenizer, wrap, np.random.default_rng([seed, 1]), cached_prefix_tokens)
    items = []
    for i in range(count):
        text, tokens = writer.write(int(inputs[i]), i)
        items.append(Prompt(text, tokens, int(outputs[i])))
    cut = int(((inputs < wanted_in) | (outputs < wanted_out)).sum())
    inexact = sum(item.input_tokens != wanted for item, wanted in zip(items, inputs, strict=True))
    return Prompts(tuple(items), "words" if tokenizer is None else "tokenizer", cut, inexact)


def open_loop(
    workload: Workload, rate_per_s: float, count: int, seed: int = 0, *, trace: Requests | None = None
) -> OpenLoop:
    """Moments at which requests are due, at exactly the rate asked for and as bursty as the workload.

    Parameters
    ----------
    workload : its ``interarrival_cv`` is that of the gaps, which are Gamma: 1 is Poisson, 0 a clock.
    rate_per_s : gaps / time between the first and the last [1/s]; the first is due at 0.
    count : requests.
    seed : the same one gives at another rate the same moments, closer together.
    trace : arrivals to be replayed instead, from the start again a mean gap after they end, all gaps stretched alike.

    Raises
    ------
    InputError
        For a count or a rate that is not above 0, or a trace that is a burst.

    Notes
    -----
    Gaps are scaled so that the run has the rate asked for and not one that differs by chance: by 13 / sqrt(500) = 58%
    in 500 requests with a CV of 13. Of Poisson arrivals that is the process given how many came.
    """
    if trace is None:
        drawn = Traffic(rate_per_s, 1, 1, interarrival_cv=workload.interarrival_cv).draw(count, seed)
    elif count < 1:
        raise InputError(f"count must be 1 or more. Got {count}")
    else:
        drawn = Requests(_again(trace.arrival_s, count), 1, 1)
    if count == 1:
        return OpenLoop(np.zeros(1))
    return OpenLoop(drawn.at_rate(rate_per_s).arrival_s)


def closed_loops(most: int, *, least: int = 1) -> tuple[ClosedLoop, ...]:
    """Numbers of requests in flight from the least to the most, each twice the one before: 1, 2, 4, ..., most.

    Raises
    ------
    InputError
        For numbers that are not whole, below 1, or the least above the most.
    """
    ClosedLoop(least), ClosedLoop(most)
    if least > most:
        raise InputError(f"least must not be above most. Got {least} and {most}")
    steps = [least]
    while steps[-1] * 2 < most:
        steps.append(steps[-1] * 2)
    return tuple(ClosedLoop(step) for step in dict.fromkeys([*steps, most]))


def _lengths(workload: Workload, count: int, seed: int, teacher: bool, trace: Requests | None) -> tuple[Ints, Ints]:
    if trace is not None:
        rows = np.arange(count) % len(trace)
        return trace.input_tokens[rows], trace.all_output_tokens[rows]
    inputs, outputs = joint_sample(lengths_of(workload, teacher=teacher), count, seed)
    thinking = workload.reasoning_tokens if teacher else workload.student_reasoning_tokens
    return inputs, outputs + round(thinking)


def _again(arrival_s: Floats, count: int) -> Floats:
    """So many arrivals of a trace that starts again when it ends."""
    n = len(arrival_s)
    round_s = float(arrival_s[-1] - arrival_s[0]) * n / max(n - 1, 1)
    at = np.arange(count)
    return np.asarray(arrival_s[at % n] + at // n * round_s, dtype=float)


class _Writer:
    """Writes texts of a number of tokens."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        wrap: Callable[[str], str] | None,
        random: np.random.Generator,
        shared_tokens: int,
    ) -> None:
        self.tokenizer, self.wrap, self.random = tokenizer, wrap, random
        self.around = self.count("")
        # Words of one token make the count add up; a tokenizer that knows none gets all of them.
        one = [word for word in WORDS if self.count(f"{WORDS[0]} {word}") == self.count(WORDS[0]) + 1]
        self.words = one if len(one) >= FEWEST_WORDS else list(WORDS)
        self.order = random.permutation(len(self.words))
        self.shared = [str(word) for word in random.choice(self.words, shared_tokens)]

    def count(self, text: str) -> int:
        if self.tokenizer is None:
            return len((self.wrap(text) if self.wrap else text).split())
        return len(self.tokenizer.encode(self.wrap(text) if self.wrap else text))

    def write(self, wanted: int, position: int) -> tuple[str, int]:
        """A text of so many tokens, those around it included, and how many it has."""
        room = max(wanted - self.around, 1)
        filler = [str(word) for word in self.random.choice(self.words, room)]
        words = [*self.shared[: max(room - OWN_WORDS, 0)], *self._name(position), *filler]
        keep = min(room, len(words))
        text, have = self._of(words[:keep])
        for _ in range(CORRECTIONS):
            each = max(have - self.around, 1) / keep
            better = min(max(keep + round((wanted - have) / each), 1), len(words))
            if better == keep:
                break
            keep = better
            text, have = self._of(words[:keep])
        while have > wanted and keep > 1:
            keep -= 1
            text, have = self._of(words[:keep])
        if have > wanted:
            text, have = self._of(["a"])
        return (text, have) if have >= wanted else self._filled(text, have, wanted)

    def _of(self, words: list[str]) -> tuple[str, int]:
        text = " ".join(words)
        return text, self.count(text)

    def _filled(self, text: str, have: int, wanted: int) -> tuple[str, int]:
        """The text with what it lacks: the next word may be more tokens than are left."""
        for _ in range(CORRECTIONS):
            gap = wanted - have
            fitting = [ending for ending, tokens in self.endings if tokens <= gap]
            for ending in fitting[:TRIES]:
                longer = self.count(text + ending)
                if have < longer <= wanted:
                    text, have = text + ending, longer
                    break
            else:
                break
            if have == wanted:
                break
        return text, have

    @cached_property
    def endings(self) -> list[tuple[str, int]]:
        """What a text can be made longer with, and by how many tokens; most first, and of equals the shortest."""
        base = " ".join(WORDS[:2])
        have = self.count(base)
        found = [(ending, self.count(base + ending) - have) for ending in (*(f" {w}" for w in WORDS), *ENDINGS)]
        return sorted(found, key=lambda ending: (-ending[1], len(ending[0])))

    def _name(self, position: int) -> list[str]:
        """Words that no other prompt of this run starts with, if it has room for them."""
        base = len(self.words)
        return [self.words[self.order[position // base**digit % base]] for digit in range(OWN_WORDS)]
