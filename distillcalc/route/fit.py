"""From pairs to a router: read top to bottom, this is how one is made, and told to be worth nothing where it is so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.bands import Bands, Metric
from distillcalc.route.beside import Beside, Verdict, judge, judge_chain
from distillcalc.route.certificate import Certificate, certify
from distillcalc.route.confidence import CONFIDENCE, Confidence, needs
from distillcalc.route.given import Given
from distillcalc.route.goal import Goal
from distillcalc.route.learned import LearnedScore
from distillcalc.route.mixing import Kind, by_score, candidates, mixtures, outermost
from distillcalc.route.pairs import Pairs
from distillcalc.route.probability import Calibration, Reliability
from distillcalc.route.router import Router
from distillcalc.route.rules import Rules
from distillcalc.route.scores import Score
from distillcalc.workload.routing import MeasuredRouting

if TYPE_CHECKING:
    from distillcalc.route.embedding import Embedder

Floats = NDArray[np.float64]
Asked: TypeAlias = "str | Score"

KINDS = ("logistic", "knn", "boosting")
LEARNED = (*KINDS, *(f"{kind}-gains" for kind in KINDS))
SHARES = (0.4, 0.3, 0.3)  # to learn from, to tune on, to certify on
SHARES_UNLEARNED = (0.0, 0.5, 0.5)
FEW_REJECTED, MOST_REJECTED = 0.02, 0.5  # shares of rows that are no pairs
MOST_SCORE = 1e290  # what rules decide lies beyond
FREQUENT = 0.05  # share of one text
COLUMN = "router"  # the chosen score among the scores of the pairs


@dataclass(frozen=True)
class Tried:
    """One score on the tuning items.

    Parameters
    ----------
    name : of the score.
    lift : quality above sending on as many at random, on average over escalation rates.
    apgr : average performance gap recovered.
    """

    name: str
    lift: Metric
    apgr: Metric


@dataclass(frozen=True, eq=False)
class Fitted:
    """A router, what is promised of it, and whether it is worth having.

    Parameters
    ----------
    router : with the chosen thresholds; where nothing was certified it sends everything on.
    certificate : what was promised on the certifying items.
    verdict : whether to route at all.
    bands : the curve of the chosen score on the certifying items; None of a chain of more than two.
    beside : the router beside its baselines at the chosen threshold; None where none is chosen.
    tried : every score on the tuning items, the best first; empty of a chain of more than two.
    parts : how many items each part has: to learn from, to tune on, to certify on.
    certifying : those items, one of each text, with the score in ``scores["router"]``.
    notes : what a reader must know before believing the promise, in words.
    """

    router: Router
    certificate: Certificate
    verdict: Verdict
    bands: Bands | None
    beside: Beside | None
    tried: tuple[Tried, ...]
    parts: tuple[int, int, int]
    certifying: Pairs = field(repr=False)
    notes: tuple[str, ...] = ()

    def reliability(self) -> Reliability:
        """How honest the router's probabilities are, on the certifying items.

        Raises
        ------
        InputError
            For a router without a calibration.
        """
        calibration = self.router.calibrations[0] if self.router.calibrations else None
        if calibration is None:
            raise InputError("the router has no calibration: fit it with one, on a student that is sometimes wrong")
        values = self.certifying.score(COLUMN)[:, 0]
        rows = by_score(values)
        return Reliability.of(calibration.many(values[rows]), self.certifying.right[rows, 0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "advice": self.verdict.advice,
            "reasons": list(self.verdict.reasons),
            "notes": list(self.notes),
            "models": list(self.router.models),
            "kind": self.router.kind,
            "score": self.router.score_name,
            "version": self.router.version,
            "thresholds": list(self.router.thresholds),
            "certificate": self.certificate.to_dict(),
            "apgr": None if self.bands is None else self.bands.apgr.to_dict(),
            "beside": None if self.beside is None else self.beside.to_dict(),
            "tried": [{"name": t.name, "lift": t.lift.to_dict(), "apgr": t.apgr.to_dict()} for t in self.tried],
            "items": dict(zip(("learned", "tuned", "certified"), self.parts, strict=True)),
        }


@dataclass(frozen=True, eq=False)
class _Try:
    """A score on the tuning items."""

    router: Router
    tuned: Pairs
    bands: Bands | None
    rank: float


def fit_router(
    pairs: Pairs,
    goal: Goal,
    *,
    scores: Sequence[Asked] | None = None,
    kind: Kind | None = None,
    rules: Rules | None = None,
    embedder: Embedder | None = None,
    calibration: str | None = "isotonic",
    shares: Sequence[float] | None = None,
    extra_usd: float = 0.0,
    overhead_ms: float = 0.0,
    seed: int = 0,
    source: str = "",
) -> Fitted:
    """Make a router from pairs that people judged.

    Parameters
    ----------
    pairs : what student and teacher answered to the same requests, right or wrong.
    goal : what is asked of it.
    scores : which are tried: names of scores that the pairs hold; of confidence scores; "logistic", "knn" or
        "boosting", learned on embeddings of the texts to tell whether the student is right, and with "-gains" whether
        the teacher gains; or scores of one's own. Left out: all that the pairs hold, or that the student's
        probabilities or log-probabilities give, or else "logistic".
    kind : left out, a cascade where the score judges the student's answer.
    rules : decide before any score.
    embedder : makes embeddings of texts; needed by learned scores.
    calibration : of the score to a probability: "isotonic", "platt", "temperature" or None.
    shares : of the items, to learn from, to tune on, to certify on; left out, 0.4, 0.3 and 0.3, or halves to tune and
        certify where nothing is learned.
    extra_usd : dollars that the router, a probe or a verifier costs for each request that is judged.
    overhead_ms : time that it takes of each request.
    seed : of the split and of the learning.
    source : of the pairs, in words.

    Returns
    -------
    Fitted. The score is the one with the largest lift on the tuning items; its threshold the cheapest that the
    certifying items certify.

    Raises
    ------
    InputError
        For scores that say the same of every item, that the pairs do not hold, too few items, or pairs most of whose
        rows were rejected.
    """
    for name, value in (("extra_usd", extra_usd), ("overhead_ms", overhead_ms)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} must be a number of 0 or more. Got {value}")
    for name, values in pairs.scores.items():
        if (np.abs(values) >= MOST_SCORE).any():
            raise InputError(f"the score {name} must be below {MOST_SCORE:g} in size. Got {np.abs(values).max():g}")
    notes = _rejected(pairs)
    asked = list(scores) if scores is not None else default_scores(pairs)
    if not asked:
        raise InputError("name at least one score")
    made = [_made(one, pairs, kind) for one in asked]
    learns = any(isinstance(one, str) for one in made)
    rules = rules or Rules()
    if embedder is not None and learns:
        pairs = embedded(pairs, embedder)
    learning, tuning, whole = _parts(pairs, shares, learns, seed)
    certifying = whole.distinct()
    notes += _repeats(whole, certifying)
    tried = [_try(one, learning, tuning, kind, rules, embedder, extra_usd, seed) for one in made]
    tried.sort(key=lambda one: -one.rank)
    best = tried[0]
    router, kind = best.router, best.router.kind
    held_out = certifying.with_scores(**{COLUMN: router.scored(certifying)})
    thresholds = candidates(best.tuned, COLUMN, kind, name=router.score_name)
    certificate = certify(best.tuned, held_out, COLUMN, thresholds, goal, kind=kind, extra_usd=extra_usd, source=source)
    bands = _bands(held_out, kind, extra_usd, router.score_name)
    verdict = judge(certificate, bands) if bands is not None else judge_chain(certificate, held_out)
    chosen = certificate.thresholds if certificate.thresholds is not None else outermost(best.tuned.score(COLUMN))[1]
    final = Router(
        pairs.models,
        kind,
        router.scores,
        tuple(float(v) for v in chosen),
        rules,
        _calibrations(calibration, best.tuned),
        _measured(certificate, router.score_name, overhead_ms),
        {
            "made": date.today().isoformat(),
            "goal": goal.model_dump(mode="json", exclude_none=True),
            "source": source or pairs.source,
            "advice": verdict.advice,
            "verdict": str(verdict),
            "promised": certificate.sentences,
            "notes": list(notes),
            "judge_usd": extra_usd,
        },
        np.unique(np.concatenate([part.keys() for part in (learning, tuning, whole) if part is not None])),
        embedder=embedder,
    )
    final = replace(final, reference=final.reference_of(certifying, held_out.score(COLUMN)))
    told = tuple(Tried(one.router.score_name, one.bands.lift, one.bands.apgr) for one in tried if one.bands is not None)
    parts = (0 if learning is None else len(learning), len(tuning), len(certifying))
    beside = _beside(certificate, bands, held_out)
    return Fitted(final, certificate, verdict, bands, beside, told, parts, held_out, tuple(notes))


def default_scores(pairs: Pairs) -> list[Asked]:
    """What is tried where nothing is named."""
    if pairs.scores:
        return list(pairs.scores)
    if pairs.requests and len(pairs.models) == 2:
        held = [name for name in CONFIDENCE if all(getattr(one, needs(name)) is not None for one in pairs.requests)]
        if held:
            return list(held)
    return ["logistic"]


def _rejected(pairs: Pairs) -> list[str]:
    """What to say of rows that were no pairs; too many of them are refused."""
    lost, rows = len(pairs.rejected), len(pairs.rejected) + len(pairs)
    if not lost:
        return []
    reasons = Counter(one.reason.split(". Got")[0] for one in pairs.rejected)
    why = "; ".join(f"{count:,} x {reason}" for reason, count in reasons.most_common(3))
    said = f"{lost:,} of {rows:,} rows are no pairs ({why})"
    if lost > MOST_REJECTED * rows:
        raise InputError(
            f"{said}: what is left is hardly what the traffic is. Mend the rows, or leave them out knowingly"
        )
    if lost > FEW_REJECTED * rows:
        said += ": if those are the hard ones, or the easy ones, nothing that is promised holds"
    return [f"{said}."]


def _repeats(whole: Pairs, distinct: Pairs) -> list[str]:
    """What to say of texts that come more than once among the certifying items."""
    if len(distinct) == len(whole):
        return []
    _, counts = np.unique(whole.keys(), return_counts=True)
    most = counts.max() / len(whole)
    said = f"Of {len(whole):,} certifying pairs {len(distinct):,} are of different texts: each text counts once"
    if most > FREQUENT:
        said += f", and one text is {most:.0%} of them: answer it by a rule or a cache, and promises are of the others"
    return [f"{said}."]


def _try(
    one: Asked, learning: Pairs | None, tuning: Pairs, kind: Kind | None, rules: Rules, embedder: Embedder | None,
    extra_usd: float, seed: int,
) -> _Try:  # fmt: skip
    """A score, learned where it is to be, on the tuning items."""
    stages = len(tuning.models) - 1
    own = _learn(one, learning, embedder, seed) if isinstance(one, str) else (one,) * stages
    as_kind: Kind = kind or ("cascade" if any(score.stage == "after" for score in own) else "router")
    router = Router(tuning.models, as_kind, own, (0.0,) * stages, rules, embedder=embedder)
    tuned = tuning.with_scores(**{COLUMN: router.scored(tuning)})
    bands = _bands(tuned, as_kind, extra_usd, router.score_name)
    if bands is not None:
        return _Try(router, tuned, bands, bands.lift.value)
    grid = candidates(tuned, COLUMN, as_kind, name=router.score_name)
    return _Try(router, tuned, None, float(mixtures(tuned, COLUMN, grid, as_kind).quality.mean()))


def _beside(certificate: Certificate, bands: Bands | None, pairs: Pairs) -> Beside | None:
    if certificate.chosen is None:
        return None
    found = certificate.certifying
    if bands is not None:
        return Beside.of(bands, float(found.escalation_rate[certificate.chosen]))
    place = certificate.chosen
    return Beside.of_chain(pairs, found.shares[place], float(found.quality[place]), float(found.usd[place]))


def embedded(pairs: Pairs, embedder: Embedder) -> Pairs:
    """The pairs with their texts embedded, once for all scores."""
    asked = pairs.asked()
    lacking = [i for i, request in enumerate(asked) if request.embedding is None]
    vectors = embedder.embed([asked[i].text for i in lacking])
    made = dict(zip(lacking, vectors, strict=True))
    known = tuple(replace(one, embedding=made.get(i, one.embedding)) for i, one in enumerate(asked))
    return replace(pairs, requests=known)


def _made(one: Asked, pairs: Pairs, kind: Kind | None) -> Asked:
    """A score, or the name of one that is still to be learned."""
    if not isinstance(one, str) or one in LEARNED:
        return one
    if one in CONFIDENCE and (one not in pairs.scores or _is_the_confidence(one, pairs)):
        return Confidence(one)
    if one in pairs.scores:
        return Given(one, "before" if kind == "router" else "after")
    known = [*pairs.scores, *CONFIDENCE, *LEARNED]
    raise UnknownName("score", one, known, f"The pairs hold: {', '.join(pairs.scores) or 'none'}.")


def _is_the_confidence(name: str, pairs: Pairs) -> bool:
    """Whether a column that is named like a confidence is what the student's own figures give, and so will be live."""
    field_name = needs(name)
    if len(pairs.models) > 2 or not pairs.requests:
        return False
    if any(getattr(request, field_name) is None for request in pairs.requests):
        return False
    return bool(np.allclose(Confidence(name).many(pairs.requests), pairs.score(name)[:, 0], atol=1e-4))


def _parts(pairs: Pairs, shares: Sequence[float] | None, learns: bool, seed: int) -> tuple[Pairs | None, Pairs, Pairs]:
    wanted = list(shares) if shares is not None else list(SHARES if learns else SHARES_UNLEARNED)
    if len(wanted) != 3 or not np.isfinite(wanted).all() or min(wanted[1:]) <= 0 or (learns and wanted[0] <= 0):
        raise InputError(
            "shares are three: to learn from, to tune on and to certify on, the last two above 0, and the first where "
            f"a score is learned. Got {wanted}"
        )
    made = pairs.split(wanted, seed=seed)
    return (made[0], made[1], made[2]) if len(made) == 3 else (None, made[0], made[1])


def _learn(name: str, learning: Pairs | None, embedder: Embedder | None, seed: int) -> tuple[Score, ...]:
    """A score of each model but the teacher, learned from the same texts."""
    assert learning is not None
    asked = learning.asked()
    if embedder is None and any(request.embedding is None for request in asked):
        raise InputError(f"the score {name} is learned from embeddings of texts: give an embedder")
    gains = name.endswith("-gains")
    return tuple(
        LearnedScore.fit(
            asked,
            right,
            kind=name.removesuffix("-gains"),  # type: ignore[arg-type]
            target="teacher-gains" if gains else "student-right",
            teacher_right=learning.right[:, -1] if gains else None,
            embedder=embedder,
            seed=seed,
        )
        for right in learning.right.T[:-1]
    )


def _bands(pairs: Pairs, kind: Kind, extra_usd: float, name: str) -> Bands | None:
    return Bands.of(pairs, COLUMN, kind, extra_usd, name=name) if len(pairs.models) == 2 else None


def _calibrations(how: str | None, tuned: Pairs) -> tuple[Calibration | None, ...]:
    """On the tuning items: a score that was learned is too sure of those that it learned from."""
    if how is None:
        return ()
    found: list[Calibration | None] = []
    for values, right in zip(tuned.score(COLUMN).T, tuned.right.T, strict=False):
        rows = by_score(values)
        known, outcomes = values[rows], right[rows]
        if np.ptp(outcomes) == 0 or np.ptp(known) == 0:  # always right or never: there is nothing to calibrate
            found.append(None)
            continue
        found.append(Calibration.fit(known, outcomes, how))  # type: ignore[arg-type]
    return tuple(found)


def _measured(certificate: Certificate, score: str, overhead_ms: float) -> MeasuredRouting | None:
    if certificate.measured is None:
        return None
    plain = certificate.measured.model_dump(mode="python")
    return MeasuredRouting.model_validate({**plain, "score": score, "overhead_ms": overhead_ms})
