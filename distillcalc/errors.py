"""Errors that speak of the domain: what was wrong, what was got, what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DistillcalcError(Exception):
    """Base of every error a user can cause; commands print it without a traceback and exit 2."""


class InputError(DistillcalcError, ValueError):
    """A value, a file or a combination that cannot be right."""


class UnknownName(DistillcalcError, LookupError):
    """A model, GPU, option or other name that the catalog does not know."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name = kind, name
        self.near = near_matches(name, known)
        did_you_mean = f" Did you mean {', '.join(self.near)}?" if self.near else ""
        super().__init__(f"unknown {kind} {name!r}.{did_you_mean}{' ' + hint if hint else ''}")


class MissingPrice(DistillcalcError, LookupError):
    """Something is known but its price is not; it is never taken to be free."""


class UnknownPeak(InputError, MissingPrice):
    """A machine's speed in the asked precision is not known: the user can give it, and until then it has no price."""


class Retired(InputError):
    """A model or a service ends inside the horizon of the scenario."""


class MissingExtra(DistillcalcError, ImportError):
    """A library of an optional extra is not installed; the message is the install line."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed. Run: pip install 'distillcalc[{extra}]'")


def near_matches(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names nearest to a misspelt one, best first."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    wanted = name.lower()
    close = [candidate for candidate in by_lower if len(wanted) > 3 and candidate.startswith(wanted)][:count]
    close += difflib.get_close_matches(wanted, by_lower, n=count, cutoff=0.6)
    tails = {candidate.rsplit("/", 1)[-1]: candidate for candidate in by_lower}
    close += [tails[tail] for tail in difflib.get_close_matches(wanted.rsplit("/", 1)[-1], tails, n=count)]
    close += [candidate for candidate in by_lower if wanted in candidate]
    return [by_lower[candidate] for candidate in dict.fromkeys(close)][:count]
