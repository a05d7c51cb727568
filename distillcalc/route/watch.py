"""A deployed router watched, row by row or log by log: the state of its tests, which can be saved and goes on.

Each test has an equal share of the level ``alpha``, so that with probability 1 - alpha none of them ever alarms while
nothing changes: not after any number of rows, and however often one looks.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError
from distillcalc.route.blocks import Blocks
from distillcalc.route.drift import Drift, report
from distillcalc.route.reference import AGREEMENT, RIGHT, Reference, unit_values
from distillcalc.route.sequential import TILTS, Wealth, exact_interval, share_bets
from distillcalc.route.urn import SLOPES, Failures, luck

if TYPE_CHECKING:
    from distillcalc.route.live_log import LiveLog

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCHEMA_VERSION = 1
REFERENCE_SHARE = 0.25  # of the escalation test's level, spent on what the calibrated rate may have been
CHUNK = 32_768
SCORES_LIVE, LIVE = 101, 100  # salts


class Watch:
    """Sequential tests on the live log of a deployed router.

    Parameters
    ----------
    reference : what was true at calibration.
    alpha : probability that any test ever alarms while nothing has changed, at most.

    Notes
    -----
    The tests, where the reference holds what they need:

    - "escalation rate": bets against the exact interval of the calibrated rate, on both sides. Its hypothesis is that
      the live rate is somewhere in the interval, whose level is part of the test's.
    - "scores": the rank of each live score among the calibrated and the earlier live ones (a conformal test
      martingale).
    - "agreement" and "student's quality": more failures among kept requests than calibration and the stream so far had
      at the same level of the score (the same, within each level), one-sided.
    - "quality": bets against the certified floor, one-sided, on every request whose answer was labelled. Labels must be
      of requests drawn with equal probability, kept or not.

    A week has its rhythm: what is calibrated on Mondays drifts on Sundays. Calibrate on a sample of whole weeks.

    Raises
    ------
    InputError
        If alpha is not between 0 and 1.
    """

    def __init__(self, reference: Reference, *, alpha: float = 0.05) -> None:
        if not 0 < alpha < 1:
            raise InputError(f"alpha must be above 0 and below 1, the chance of ever a false alarm. Got {alpha:g}")
        self.reference = reference.fresh()
        self.alpha = alpha
        self.rows = 0
        self.ruled = 0
        self.first_time = self.last_time = float("nan")
        self.blocks = Blocks()
        named = {"agreement": reference.agreement, "student's quality": reference.right, "quality": reference.floor}
        tests = ["escalation rate", "scores", *(name for name, part in named.items() if part is not None)]
        self.share = alpha / len(tests)
        spent = self.share * REFERENCE_SHARE
        self.escalation_interval = low, high = exact_interval(reference.escalated, reference.items, spent)
        # A rate of 1 cannot be exceeded, nor one of 0 undercut: there is no bet on that.
        self._sides = [side for side, possible in ((1.0, high < 1), (-1.0, low > 0)) if possible]
        kinds = {"escalation rate": len(TILTS) * len(self._sides), "scores": 2 * len(SLOPES)}
        self.wealth = {
            name: Wealth(kinds.get(name, len(TILTS)), self.share - (spent if name == "escalation rate" else 0))
            for name in tests
        }
        self.alarm_times: dict[str, float | None] = {}

    def update(
        self,
        score: float,
        escalated: bool,
        *,
        agreement: float | None = None,
        right: float | None = None,
        time: float | None = None,
    ) -> bool:
        """Take one request; the same as :meth:`extend` with one row.

        Parameters
        ----------
        score : the student's; nan where a rule decided before any score.
        escalated : whether the request was sent on.
        agreement : 1 where both models answered the same, 0 where not, None where only one answered.
        right : how right the answer was that the user got, in [0, 1]; None where nobody looked.
        time : in seconds since 1970.

        Returns
        -------
        Whether any test has alarmed by now.
        """
        nan = float("nan")
        self.extend(
            [score],
            [escalated],
            agreement=[nan if agreement is None else agreement],
            right=[nan if right is None else right],
            time=[nan if time is None else time],
        )
        return any(one.alarmed_at is not None for one in self.wealth.values())

    def read(self, log: LiveLog) -> None:
        """Take a log that :func:`distillcalc.route.live_log.read_log` read, after what was taken already."""
        self.extend(log.score, log.escalated, agreement=log.agreement, right=log.right, time=log.time)

    def extend(
        self,
        scores: ArrayLike,
        escalated: ArrayLike,
        *,
        agreement: ArrayLike | None = None,
        right: ArrayLike | None = None,
        time: ArrayLike | None = None,
    ) -> None:
        """Take requests in the order in which they came, each as in :meth:`update`, unknown values nan.

        Raises
        ------
        InputError
            For arrays of other lengths or values outside their range; nothing is taken then.
        """
        score = np.asarray(scores, dtype=float).ravel()
        n = len(score)
        sent = unit_values(escalated, n, "escalated")
        if not np.isin(sent, (0.0, 1.0)).all():
            raise InputError("escalated must be true or false for each request. Got other values")
        same, good = unit_values(agreement, n, "agreement"), unit_values(right, n, "right")
        times = np.full(n, np.nan) if time is None else np.asarray(time, dtype=float).ravel()
        if len(times) != n:
            raise InputError(f"time must hold one value for each of {n} requests. Got {len(times)}")
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            self._take(score[part], sent[part], same[part], good[part], times[part])

    def _take(self, score: Floats, sent: Floats, same: Floats, good: Floats, times: Floats) -> None:
        """Take a chunk of rows: every test bets on its own, then they are added to the sums."""
        rows = self.rows + np.arange(len(score), dtype=np.int64)
        sums = {"rows": np.ones(len(score)), "escalated": sent}
        low, high = self.escalation_interval
        bets = [share_bets(sent, high if side > 0 else low, side * np.array(TILTS)) for side in self._sides]
        self.wealth["escalation rate"].extend(np.hstack(bets), rows)

        known = ~np.isnan(score)
        self.ruled += int((~known).sum())
        cells = self.reference.scores.cells(score[known], luck(rows[known], self.reference.seed, SCORES_LIVE))
        self.wealth["scores"].extend(self.reference.scores.bets(cells), rows[known])
        sums["scored"] = known.astype(float)
        sums["ranks"] = _spread(known, self.reference.scores.middles[cells])

        kept = known & (sent == 0)
        for name, values, failures, salt, columns in (
            ("agreement", same, self.reference.agreement, AGREEMENT, ("audited", "disagreed", "disagreed_expected")),
            (
                "student's quality",
                good,
                self.reference.right,
                RIGHT,
                ("kept_labelled", "kept_wrong", "kept_wrong_expected"),
            ),
        ):
            told = kept & ~np.isnan(values)
            expected = self._bet_on_failures(name, failures, score[told], 1 - values[told], rows[told], salt)
            added = (told.astype(float), _spread(told, 1 - values[told]), _spread(told, expected))
            sums |= dict(zip(columns, added, strict=True))

        labelled = ~np.isnan(good)
        sums |= {"labelled": labelled.astype(float), "wrong": _spread(labelled, 1 - good[labelled])}
        if self.reference.floor is not None:
            factors = share_bets(1 - good[labelled], 1 - self.reference.floor)
            self.wealth["quality"].extend(factors, rows[labelled])

        for name, one in self.wealth.items():
            if one.alarmed_at is not None and name not in self.alarm_times:
                at = float(times[one.alarmed_at - self.rows])
                self.alarm_times[name] = at if math.isfinite(at) else None
        self.blocks.add(rows, sums, times)
        self.rows += len(score)
        timed = times[np.isfinite(times)]
        if len(timed):
            self.first_time = float(np.fmin(self.first_time, timed.min()))
            self.last_time = float(np.fmax(self.last_time, timed.max()))

    def _bet_on_failures(
        self, name: str, failures: Failures | None, score: Floats, values: Floats, rows: Ints, salt: int
    ) -> Floats:
        """Bet on the failures of kept requests; the rate that calibration had at the same scores."""
        if failures is None:
            return np.zeros(len(score))
        levels = failures.levels(score)
        expected = failures.expected(levels)
        self.wealth[name].extend(failures.bets(levels, values, luck(rows, self.reference.seed, LIVE + salt)), rows)
        return expected

    @property
    def requests_per_day(self) -> float:
        """By the times of the rows; nan where they are not known or all the same."""
        span = self.last_time - self.first_time
        return self.rows / span * 86_400 if span > 0 else float("nan")

    def report(self) -> Drift:
        """What the tests say by now, and the advice."""
        return report(self)

    def to_dict(self) -> dict[str, Any]:
        """The state as plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "alpha": self.alpha,
            "rows": self.rows,
            "ruled": self.ruled,
            "times": [None if math.isnan(t) else t for t in (self.first_time, self.last_time)],
            "reference": self.reference.to_dict(),
            "wealth": {name: one.to_dict() for name, one in self.wealth.items()},
            "alarm_times": self.alarm_times,
            "blocks": self.blocks.to_dict(),
        }

    def save(self, file: str | Path) -> Path:
        """Write the state as JSON, all or nothing."""
        place = Path(file)
        beside = place.with_name(place.name + ".part")
        beside.write_text(json.dumps(self.to_dict(), allow_nan=False) + "\n", encoding="utf-8")
        os.replace(beside, place)
        return place

    @classmethod
    def load(cls, file: str | Path) -> Watch:
        """Go on from what :meth:`save` wrote.

        Raises
        ------
        InputError
            If the file is none, or of another version.
        """
        try:
            told = json.loads(Path(file).read_text(encoding="utf-8"))
            if told["schema_version"] != SCHEMA_VERSION:
                raise InputError(
                    f"{file} is of version {told['schema_version']}; this distillcalc reads {SCHEMA_VERSION}: "
                    "watch from the router's reference again"
                )
            watch = cls(Reference.from_dict(told["reference"]), alpha=told["alpha"])
            watch.rows, watch.ruled = told["rows"], told["ruled"]
            watch.first_time, watch.last_time = (float("nan") if t is None else t for t in told["times"])
            watch.wealth = {name: Wealth.of(one) for name, one in told["wealth"].items()}
            watch.alarm_times, watch.blocks = dict(told["alarm_times"]), Blocks.of(told["blocks"])
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{file} is no saved watch: {type(error).__name__} {error}. Watch.save writes one"
            ) from error
        return watch


def _spread(where: NDArray[np.bool_], values: Floats) -> Floats:
    """Values at some rows, 0 at the others."""
    found = np.zeros(len(where))
    found[where] = values
    return found
