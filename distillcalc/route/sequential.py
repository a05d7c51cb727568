"""Has a stream changed? Bets against "nothing has changed" that may be looked at after every request.

An e-process is the wealth of somebody who bets against a hypothesis at fair or worse odds: it starts at 1, and if the
hypothesis is true it ever reaches 1 / level with probability at most level, over an unlimited stream and however often
it is looked at (Ville 1939; Ramdas et al. 2022, arXiv:2210.01948). Here are the wealth, the bets on a share, and the
confidence sequence of a mean; what is bet on is the subject of :mod:`distillcalc.route.urn`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TILTS = (0.1, 0.25, 0.5, 1.0, 2.0)  # of the log odds: from a small change to a large one
SPREAD = 100  # observations over which the weights of later starts are about level
PRIOR = 0.5  # Jeffreys' prior of the mixture behind the confidence sequence
HALVINGS = 60


def start_weight(place: ArrayLike) -> Floats:
    """The share of the wealth that begins to bet at an observation; over all of them it adds up to 1.

    Parameters
    ----------
    place : number of the observation, from 1.

    Returns
    -------
    1/2 for the first and R(place - 2) - R(place - 1) after it, with R(s) = 1 / (2 + 2 ln(1 + s / 100)): a change at s
    is seen at the price of a factor of about s ln(s)^2, where a bet from the start would first have to win back all
    that it lost before the change.
    """
    at = np.asarray(place, dtype=float)
    return np.asarray(np.where(at <= 1, 0.5, _reserve(np.maximum(at - 2, 0)) - _reserve(np.maximum(at - 1, 0))))


def _reserve(starts: Floats) -> Floats:
    """Wealth that has not begun to bet, after so many later starts."""
    return np.asarray(0.5 / (1 + np.log1p(starts / SPREAD)))


@dataclass
class Wealth:
    """Bets of several kinds, each begun anew at every observation: an e-process that also finds late changes.

    Parameters
    ----------
    kinds : of bets; each has an equal share of the wealth.
    level : probability with which a true hypothesis is ever rejected, at most.

    Notes
    -----
    With the factors f of a kind of bet g (expectation at most 1 if nothing has changed), M_t = R_t + sum over g and
    starts s <= t of w_s / G prod_{i=s..t} f_{g,i}: a mixture over starts is again an e-process (Howard et al. 2021,
    arXiv:1810.08240, for mixtures; Shin, Ramdas & Rinaldo 2022, arXiv:2203.03532, for starts).
    """

    kinds: int
    level: float
    seen: int = 0
    log_e: float = 0.0
    most: float = 0.0
    alarmed_at: int | None = None
    changed_at: int | None = None
    alarmed_by: int | None = None
    _paid: Floats = field(init=False, repr=False)
    _begun: Floats = field(init=False, repr=False)
    _lowest: Floats = field(init=False, repr=False)
    _since: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._paid = np.zeros(self.kinds)
        self._begun = np.full(self.kinds, -np.inf)
        self._lowest = np.full(self.kinds, np.inf)
        self._since = np.zeros(self.kinds, dtype=np.int64)

    @property
    def bar(self) -> float:
        """The e-value that alarms."""
        return 1 / self.level

    def extend(self, log_factors: Floats, rows: Ints) -> Floats:
        """Bet on some observations, one after the other.

        Parameters
        ----------
        log_factors : natural logarithms of what each kind of bet multiplies its stake by, shape (observations, kinds).
        rows : number of each observation in the stream, by which an alarm is told.

        Returns
        -------
        The natural logarithm of the e-process after each observation, shape (observations,).
        """
        n = len(rows)
        if n == 0 or self.kinds == 0:
            self.seen += n
            return np.zeros(n)
        paid = np.add.accumulate(np.vstack([self._paid, log_factors]))
        places = self.seen + 1 + np.arange(n)
        starts = np.log(start_weight(places))[:, None] - paid[:-1]
        begun = np.asarray(np.logaddexp.accumulate(np.vstack([self._begun, starts])))[1:]
        wealth = begun + paid[1:] - np.log(self.kinds)
        rest = np.log(_reserve(np.asarray(places - 1, dtype=float)))
        top = np.maximum(wealth.max(axis=1), rest)
        log_e = top + np.log(np.exp(wealth - top[:, None]).sum(axis=1) + np.exp(rest - top))
        over = np.flatnonzero(log_e >= -np.log(self.level))
        if self.alarmed_at is None and len(over):
            first = int(over[0])
            self.alarmed_by = by = int(wealth[first].argmax())
            self.alarmed_at = int(rows[first])
            self.changed_at = self._lowest_at(paid[: first + 1], rows[: first + 1])[1][by]
        self._lowest, since = self._lowest_at(paid[:-1], rows)
        self._since = np.asarray(since, dtype=np.int64)
        self._paid, self._begun = paid[-1].copy(), begun[-1].copy()
        self.seen += n
        self.log_e, self.most = float(log_e[-1]), max(self.most, float(log_e.max()))
        return np.asarray(log_e)

    def _lowest_at(self, before: Floats, rows: Ints) -> tuple[Floats, list[int]]:
        """The least that each kind had paid before an observation, and the row of that one (the last of equals)."""
        last = len(before) - 1 - before[::-1].argmin(axis=0)
        least = np.asarray(before.min(axis=0))
        new = least <= self._lowest
        since = [int(rows[i]) if is_new else int(old) for i, is_new, old in zip(last, new, self._since, strict=True)]
        return np.where(new, least, self._lowest), since

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which :meth:`of` goes on."""
        told: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("kinds", "level", "seen", "log_e", "most", "alarmed_at", "changed_at", "alarmed_by")
        }
        if self.seen and self.kinds:
            told |= {name: getattr(self, f"_{name}").tolist() for name in ("paid", "begun", "lowest", "since")}
        return told

    @classmethod
    def of(cls, told: dict[str, Any]) -> Wealth:
        """What :meth:`to_dict` told."""
        made = cls(told["kinds"], told["level"])
        for name in ("seen", "log_e", "most", "alarmed_at", "changed_at", "alarmed_by"):
            setattr(made, name, told[name])
        for name in ("paid", "begun", "lowest"):
            setattr(made, f"_{name}", np.asarray(told.get(name, getattr(made, f"_{name}")), dtype=float))
        made._since = np.asarray(told.get("since", made._since), dtype=np.int64)
        return made


def share_bets(values: Floats, share: ArrayLike, tilts: ArrayLike = TILTS) -> Floats:
    """What bets against a share multiply their stakes by.

    Parameters
    ----------
    values : in [0, 1], shape (n,): 0 or 1, or any value of which the mean is meant.
    share : the expectation that is bet against, in (0, 1], one or one for each value.
    tilts : delta, of the log odds; above 0 bets on more than ``share``, below 0 on less. Shape (kinds,).

    Returns
    -------
    delta x - ln(1 - p + p e^delta), shape (n, kinds): the likelihood ratio of the share with log odds delta higher. A
    tilt above 0 is an e-process for every share at most p, one below 0 for every share at least p; values between 0 and
    1 keep it one, for e^(delta x) is convex (Waudby-Smith & Ramdas 2020, arXiv:2010.09686).
    """
    tilt = np.asarray(tilts, dtype=float)
    p = np.broadcast_to(np.asarray(share, dtype=float), values.shape)[:, None]
    return np.asarray(values[:, None] * tilt - np.log1p(p * np.expm1(tilt)))


def mean_interval(total: float, n: float, level: float) -> tuple[float, float]:
    """The confidence sequence of a mean: it holds at all times together with probability 1 - level.

    Parameters
    ----------
    total, n : sum and number of values in [0, 1] whose expectation does not change.
    level : in (0, 1).

    Returns
    -------
    Low and high: every mean p for which B(t + 1/2, n - t + 1/2) / B(1/2, 1/2) is less than p^t (1 - p)^(n - t) / level,
    the mixture of Robbins (Ann. Math. Stat. 41, 1970) and of Howard et al. 2021, arXiv:1810.08240.
    """
    from scipy.special import betaln

    if n <= 0:
        return 0.0, 1.0
    least = float(betaln(total + PRIOR, n - total + PRIOR) - betaln(PRIOR, PRIOR) + np.log(level))

    def inside(p: float) -> bool:
        with np.errstate(divide="ignore"):
            gained = (total * np.log(p) if total > 0 else 0.0) + ((n - total) * np.log1p(-p) if total < n else 0.0)
        return bool(gained > least)

    mean = total / n

    def border(out: float) -> float:
        inner = mean
        for _ in range(HALVINGS):
            middle = (out + inner) / 2
            inner, out = (middle, out) if inside(middle) else (inner, middle)
        return out

    return (0.0 if inside(0.0) else border(0.0)), (1.0 if inside(1.0) else border(1.0))


def exact_interval(k: int, n: int, level: float) -> tuple[float, float]:
    """The exact interval of a share from k of n (Clopper & Pearson, Biometrika 26, 1934), level / 2 on each side.

    Raises
    ------
    InputError
        If k is not between 0 and n, or n is 0.
    """
    from scipy.special import betaincinv

    if not 0 <= k <= n or n < 1:
        raise InputError(f"a share needs a count of at most the items, and an item. Got {k} of {n}")
    low = float(betaincinv(k, n - k + 1, level / 2)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - level / 2)) if k < n else 1.0
    return low, high
