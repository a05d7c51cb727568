"""From pairs to a router: read top to bottom, this is how one is made, and told to be worth nothing where it is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.bands import Bands, Metric
from distillcalc.route.beside import Beside, Verdict, judge
from distillcalc.route.certificate import Certificate, certify
from distillcalc.route.confidence import CONFIDENCE, Confidence
from distillcalc.route.given import Given
from distillcalc.route.goal import Goal
from distillcalc.route.learned import LearnedScore
from distillcalc.route.mixing import Kind, by_score, candidates, mixtures
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
    tried : every score on the tuning items, the best first.
    parts : how many items each part has: to learn from, to tune on, to certify on.
    """

    router: Router
    certificate: Certificate
    verdict: Verdict
    bands: Bands | None
    beside: Beside | None
    tried: tuple[Tried, ...]
    parts: tuple[int, int, int]
    certifying: Pairs = field(repr=False)

    def reliability(self) -> Reliability:
        """How honest the router's probabilities are, on the certifying items.

        Raises
        ------
        InputError
            For a router without a calibration.
        """
        calibration = self.router.calibrations[0] if self.router.calibrations else None
        if calibration is None:
            raise InputError("the router has no calibration: fit it with one, such as isotonic")
        values = self.certifying.score(COLUMN)[:, 0]
        rows = by_score(values)
        return Reliability.of(calibration.many(values[rows]), self.certifying.right[rows, 0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "advice": self.verdict.advice,
            "reasons": list(self.verdict.reasons),
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
        the teacher gains; or scores of one's own. Left out: all that the pairs hold, or else "logistic".
    kind : left out, a cascade where a score judges the student's answer.
    rules : decide before any score.
    embedder : makes embeddings of texts; needed by learned scores.
    calibration : of the score to a probability: "isotonic", "platt" or None.
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
        For scores that say the same of every item, that the pairs do not hold, or too few items.
    """
    asked = list(scores) if scores is not None else (list(pairs.scores) or ["logistic"])
    if not asked:
        raise InputError("name at least one score")
    made = [_made(one, pairs, kind) for one in asked]
    learns = any(isinstance(one, str) for one in made)
    rules = rules or Rules()
    kind = kind or ("cascade" if any(_stage(one) == "after" for one in made) else "router")
    if embedder is not None:
        pairs = embedded(pairs, embedder)
    learning, tuning, certifying = _parts(pairs, shares, learns, seed)
    tried = []
    for one in made:
        stages = len(pairs.models) - 1
        own = _learn(one, learning, embedder, seed) if isinstance(one, str) else (one,) * stages
        router = Router(pairs.models, kind, own, (0.0,) * stages, rules)
        known = tuning.with_scores(**{COLUMN: router.scored(tuning)})
        bands = _bands(known, kind, extra_usd, router.score_name)
        tried.append((_rank(known, bands, kind), router, known, bands))
    tried.sort(key=lambda one: -one[0])
    _, router, tuned, _ = tried[0]
    held_out = certifying.with_scores(**{COLUMN: router.scored(certifying)})
    thresholds = candidates(tuned, COLUMN, kind)
    certificate = certify(tuned, held_out, COLUMN, thresholds, goal, kind=kind, extra_usd=extra_usd, source=source)
    final = Router(
        pairs.models,
        kind,
        router.scores,
        tuple(float(v) for v in (certificate.thresholds if certificate.thresholds is not None else thresholds[-1])),
        rules,
        _calibrations(calibration, tuned),
        _measured(certificate, router.score_name, overhead_ms),
        {
            "made": date.today().isoformat(),
            "goal": goal.model_dump(mode="json", exclude_none=True),
            "source": source or pairs.source,
            "promised": certificate.sentences,
        },
        np.unique(np.concatenate([part.keys() for part in (learning, tuning, certifying) if part is not None])),
        embedder=embedder,
    )
    final = replace(final, reference=final.reference_of(certifying, held_out.score(COLUMN)))
    bands = _bands(held_out, kind, extra_usd, router.score_name)
    verdict = judge(certificate, bands) if bands is not None else _of_chain(certificate)
    beside = None
    if bands is not None and certificate.chosen is not None:
        beside = Beside.of(bands, float(certificate.certifying.escalation_rate[certificate.chosen]))
    told = tuple(Tried(r.score_name, b.lift, b.apgr) for _, r, _, b in tried if b is not None)
    parts = (0 if learning is None else len(learning), len(tuning), len(certifying))
    return Fitted(final, certificate, verdict, bands, beside, told, parts, held_out)


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
    if one in pairs.scores:
        return Confidence(one) if one in CONFIDENCE else Given(one, "before" if kind == "router" else "after")
    if one in CONFIDENCE:
        return Confidence(one)
    known = [*pairs.scores, *CONFIDENCE, *LEARNED]
    raise UnknownName("score", one, known, f"The pairs hold: {', '.join(pairs.scores) or 'none'}.")


def _stage(one: Asked) -> str:
    return "before" if isinstance(one, str) else one.stage


def _parts(pairs: Pairs, shares: Sequence[float] | None, learns: bool, seed: int) -> tuple[Pairs | None, Pairs, Pairs]:
    wanted = list(shares) if shares is not None else list(SHARES if learns else SHARES_UNLEARNED)
    if len(wanted) != 3 or min(wanted[1:]) <= 0 or (learns and wanted[0] <= 0):
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


def _rank(pairs: Pairs, bands: Bands | None, kind: Kind) -> float:
    """What scores are compared by: the lift, or of a chain the mean quality along its front."""
    if bands is not None:
        return bands.lift.value
    return float(mixtures(pairs, COLUMN, candidates(pairs, COLUMN, kind), kind).quality.mean())


def _calibrations(how: str | None, tuned: Pairs) -> tuple[Calibration | None, ...]:
    """On the tuning items: a score that was learned is too sure of those that it learned from."""
    if how is None:
        return ()
    found = []
    for values, right in zip(tuned.score(COLUMN).T, tuned.right.T, strict=False):
        rows = by_score(values)
        found.append(Calibration.fit(values[rows], right[rows], how))  # type: ignore[arg-type]
    return tuple(found)


def _measured(certificate: Certificate, score: str, overhead_ms: float) -> MeasuredRouting | None:
    if certificate.measured is None:
        return None
    return certificate.measured.model_copy(update={"score": score, "overhead_ms": overhead_ms})


def _of_chain(certificate: Certificate) -> Verdict:
    if certificate.chosen is None:
        return Verdict("teacher" if certificate.more_items is None else "more-data", tuple(certificate.sentences))
    return Verdict("router", tuple(certificate.sentences))
