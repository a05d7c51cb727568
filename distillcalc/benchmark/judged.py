"""Pairs of answers, what a judge said of each, and what that comes to: win rate, flips, agreement with people."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from distillcalc.benchmark.agreement import Agreement
from distillcalc.calibration_measures import Interval
from distillcalc.errors import InputError

Winner: TypeAlias = Literal["a", "b", "tie"]

NOT_MEASURED = "agreement with people: not measured"


@dataclass(frozen=True)
class Pair:
    """Two answers to one request.

    Parameters
    ----------
    request : what was asked.
    a, b : the answers; an empty one is none.
    human : what people prefer, where they were asked: "a", "b" or "tie".
    """

    request: str
    a: str
    b: str
    human: Winner | None = None

    def __post_init__(self) -> None:
        if self.human not in (None, "a", "b", "tie"):
            raise InputError(f"what people prefer is 'a', 'b' or 'tie'. Got {self.human!r}")
        if not self.request.strip():
            raise InputError("a pair of answers needs the request that they answer. Got an empty one")


@dataclass(frozen=True)
class Verdict:
    """What the judge said of one pair.

    Parameters
    ----------
    winner : of both orders together: a tie where they contradict each other; None where one could not be read.
    a_first, b_first : with either answer in the first place; None where it could not be read or was not asked.
    how : "asked"; "not asked", where the answers are equal or one is empty; "unreadable"; "unanswered", where the
        budget or the server ended it.
    """

    winner: Winner | None
    a_first: Winner | None
    b_first: Winner | None
    how: Literal["asked", "not asked", "unreadable", "unanswered"]

    @property
    def flips(self) -> bool:
        """Whether the verdict depends on the order."""
        return self.how == "asked" and self.a_first != self.b_first


@dataclass(frozen=True)
class Judged:
    """What a judge said of many pairs. Intervals are 95%.

    Parameters
    ----------
    judge : the model.
    pairs : how many there were.
    wins, ties, losses : pairs that a won, neither, and b; contradictions are ties.
    win_rate, interval : (wins + ties / 2) / judged pairs, above 0.5 where a is preferred; of none None.
    flip_rate, flip_interval : share of the asked pairs whose verdict depends on the order; of none None.
    first_favoured, second_favoured : asked pairs of which the answer in that place was preferred in both orders.
    not_asked : pairs with equal answers, which tie, or with an empty one, which loses.
    unreadable : pairs of which a verdict was not what was asked for; they count in nothing above.
    unanswered : pairs that were not judged, see ``stopped``.
    cut, most_characters : texts of which only the first so many characters were shown.
    usd : spent, of a resumed run in all its sessions [USD].
    human : agreement with people on the pairs that they judged; None where it is not measured.
    human_decided : the same on the pairs for which both name a winner; None where there are none.
    human_unreadable : of the pairs that people judged, those without a verdict of the judge's.
    stopped : why it ended early; empty where it did not.
    verdicts : by pair, in their order.
    """

    judge: str
    pairs: int
    wins: int
    ties: int
    losses: int
    win_rate: float | None
    interval: Interval | None
    flip_rate: float | None
    flip_interval: Interval | None
    first_favoured: int
    second_favoured: int
    not_asked: int
    unreadable: int
    unanswered: int
    cut: int
    most_characters: int
    usd: Decimal
    human: Agreement | None
    human_decided: Agreement | None
    human_unreadable: int
    stopped: str
    verdicts: tuple[Verdict, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; dollars as text, the single verdicts left out."""
        plain = {name: value for name, value in vars(self).items() if name != "verdicts"}
        for name in ("human", "human_decided"):
            found = getattr(self, name)
            plain[name] = found.to_dict() if found is not None else None
        return plain | {"usd": str(self.usd), "agreement_with_people": self.agreement_words}

    @property
    def agreement_words(self) -> str:
        """How often people agree with the judge, or that nobody knows."""
        if self.human is None:
            return NOT_MEASURED
        decided = f"; where both name a winner {self.human_decided}" if self.human_decided is not None else ""
        return f"agreement with people: {self.human}{decided}"

    def __str__(self) -> str:
        lines = [f"{self.judge} judged {self.wins + self.ties + self.losses:,} of {self.pairs:,} pairs"]
        if self.win_rate is not None and self.interval is not None:
            low, high = self.interval
            lines[0] += (
                f": {self.wins:,} wins, {self.ties:,} ties, {self.losses:,} losses; win rate "
                f"{100 * self.win_rate:.1f}% (95% interval {100 * low:.1f} to {100 * high:.1f}%)"
            )
        if self.flip_rate is not None and self.flip_interval is not None:
            low, high = self.flip_interval
            lines.append(
                f"the verdict depends on the order in {100 * self.flip_rate:.1f}% of pairs ({100 * low:.1f} to "
                f"{100 * high:.1f}%), which count as ties: {self.first_favoured:,} for whatever came first, "
                f"{self.second_favoured:,} for whatever came second"
            )
        lines.append(self.agreement_words)
        told = [
            (self.not_asked, "were not asked: equal answers tie, an empty one loses"),
            (self.unreadable, "have no readable verdict and are left out"),
            (self.unanswered, f"were not judged: {self.stopped or 'the server refused them for good'}"),
        ]
        lines += [f"{count:,} pairs {what}" for count, what in told if count]
        if self.cut:
            lines.append(f"{self.cut:,} texts were cut after {self.most_characters:,} characters")
        return "\n".join(lines)
