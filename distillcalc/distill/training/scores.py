"""How good a model's answers are on items that people labelled, and whether another model's are better.

Everything here takes what was said and whether it was right; how a model is asked is told elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from distillcalc.calibration_measures import Interval, brier_score, expected_calibration_error, wilson
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

DRAWS = 5_000  # of a bootstrap
CELLS = 2_000_000  # weights of a bootstrap that are held at once


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model said about the evaluation items, in their order.

    Parameters
    ----------
    said : the answers, shape (items,).
    right : 1 where it is right and 0 where it is not, or a metric in [0, 1]; shape (items,).
    confidence : the model's probability of its answer, in [0, 1]; shape (items,).
    seconds_per_item : how long each answer took [s]; shape (items,), or one number for all of them.
    seed : of the training that made the model; None where there was none.

    Raises
    ------
    InputError
        If there are no items, the lengths differ, or a value is outside [0, 1].
    """

    said: tuple[str, ...]
    right: Floats
    confidence: Floats | None = None
    seconds_per_item: Floats | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "said", tuple(self.said))
        items = len(self.said)
        if not items:
            raise InputError("there are no answers to judge. Give at least one evaluation item")
        object.__setattr__(self, "right", _shares("right", self.right, items))
        if self.confidence is not None:
            object.__setattr__(self, "confidence", _shares("confidence", self.confidence, items))
        if self.seconds_per_item is not None:
            seconds = np.atleast_1d(np.array(self.seconds_per_item, dtype=np.float64))
            if seconds.shape not in ((1,), (items,)) or not (np.isfinite(seconds) & (seconds >= 0)).all():
                raise InputError(
                    f"seconds_per_item must be {items} numbers of at least 0, or one. Got {seconds.shape} of them"
                )
            object.__setattr__(self, "seconds_per_item", seconds)

    def __len__(self) -> int:
        return len(self.said)


def _shares(name: str, given: ArrayLike, items: int) -> Floats:
    values = np.array(given, dtype=np.float64)
    if values.shape != (items,):
        raise InputError(f"{name} must have one value for each of the {items} answers. Got the shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        worst = values[~((values >= 0) & (values <= 1))][0]
        raise InputError(f"{name} must be between 0 and 1. Got {worst}")
    values.setflags(write=False)
    return values


def exact_match(said: Sequence[str], reference: Sequence[str]) -> Floats:
    """1 where an answer says what the reference says, else 0 (:func:`distillcalc.distill.comparing.same_answer`).

    Parameters
    ----------
    said, reference : texts, shape (items,) each.

    Raises
    ------
    InputError
        If there are not as many references as answers.
    """
    from distillcalc.distill.comparing import same_answer

    if len(said) != len(reference):
        raise InputError(f"{len(said)} answers cannot be compared with {len(reference)} references: give one for each")
    return np.array(
        [one == other or same_answer(one, other) for one, other in zip(said, reference, strict=True)], float
    )


@dataclass(frozen=True)
class ClassScore:
    """Of one class: precision, recall, F1, and how many items people gave it (``support``)."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Score:
    """How good a model is; of several seeds the means over them. Intervals are 95%.

    Parameters
    ----------
    items, seeds : how many it was judged by.
    accuracy : mean of ``right``.
    accuracy_interval : one seed of 0/1: Wilson's; else see :func:`score`.
    macro_f1, per_class : where what people said was given; the mean is over the classes that people used.
    agreement : share of items with the teacher's answer, right or wrong: no measure of quality.
    retention : accuracy / the teacher's accuracy on the same items; None where the teacher is always wrong.
    ece, ece_adaptive, brier : calibration with bins of equal width and of equally many items, and the Brier score, see
        :mod:`distillcalc.calibration_measures`; None without confidences.
    """

    items: int
    seeds: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float | None = None
    per_class: Mapping[str, ClassScore] = field(default_factory=dict)
    agreement: float | None = None
    agreement_interval: Interval | None = None
    retention: float | None = None
    retention_interval: Interval | None = None
    ece: float | None = None
    ece_adaptive: float | None = None
    brier: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def score(
    answers: Answers | Sequence[Answers],
    *,
    labels: Sequence[str] | None = None,
    teacher: Answers | None = None,
    seed: int = 0,
) -> Score:
    """Judge a model by its answers.

    Parameters
    ----------
    answers : of one model, or of the same training with several seeds, about the same items.
    labels : what people said, shape (items,), where answers are classes.
    teacher : the teacher's answers to the same items.
    seed : of the bootstrap.

    Returns
    -------
    Score
        Its intervals: Wilson's for one seed of 0/1 outcomes (J. Am. Stat. Assoc. 22, 1927). Else the wider of a
        bootstrap that resamples items and seeds independently of each other (percentiles; Owen, Ann. Appl. Stat. 1,
        2007) and the t interval over the seeds' values. Two right and two wrong items are added to a bootstrap of 0/1
        outcomes, so that a model that is always right still has an interval (Agresti and Coull, Am. Stat. 52, 1998).
        For retention student and teacher are resampled on the same items, and one item is added that only the student
        gets right and one that only the teacher does.

    Raises
    ------
    InputError
        If the numbers of items differ.
    """
    runs = _runs(answers)
    items = len(runs[0])
    right = np.stack([run.right for run in runs])
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {
        "items": items,
        "seeds": len(runs),
        "accuracy": float(right.mean()),
        "accuracy_interval": _interval_of_mean(right, rng),
    }
    if labels is not None:
        found["macro_f1"], found["per_class"] = _f1(runs, labels)
    if teacher is not None:
        if len(teacher) != items:
            raise InputError(f"the teacher answered {len(teacher)} items and the student {items}: give the same ones")
        same = np.stack([exact_match(run.said, teacher.said) for run in runs])
        found |= {"agreement": float(same.mean()), "agreement_interval": _interval_of_mean(same, rng)}
        if teacher.right.any():
            found["retention"] = float(right.mean() / teacher.right.mean())
            found["retention_interval"] = _interval_of_ratio(right, teacher.right, rng)
    sure = [(run.confidence, run.right) for run in runs if run.confidence is not None]
    if len(sure) == len(runs):
        found["ece"] = float(np.mean([expected_calibration_error(*run, by="width") for run in sure]))
        found["ece_adaptive"] = float(np.mean([expected_calibration_error(*run, by="mass") for run in sure]))
        found["brier"] = float(np.mean([brier_score(*run) for run in sure]))
    return Score(**found)


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another on the same items: differences of a metric, 1 is 100 points.

    Parameters
    ----------
    mean : over items and seeds; above 0 the first is better.
    interval : 95%; the wider of the next two.
    over_items_and_seeds : of the bootstrap that resamples both.
    over_seeds : the t interval over ``by_seed``; None of one seed.
    by_seed : the difference of each pair of seeds.
    items : how many.
    mcnemar_p : exact two-sided p of McNemar's test, of one seed of 0/1 outcomes.
    metric : "accuracy" (or whatever is right), or "brier": how much lower the Brier score is.
    """

    mean: float
    interval: Interval
    over_items_and_seeds: Interval
    over_seeds: Interval | None
    by_seed: tuple[float, ...]
    items: int
    mcnemar_p: float | None = None
    metric: Literal["accuracy", "brier"] = "accuracy"

    @property
    def seeds(self) -> int:
        """How many pairs of seeds."""
        return len(self.by_seed)

    @property
    def beats(self) -> bool:
        """Whether the first is better by more than the interval: its lower end is above 0."""
        return self.interval[0] > 0

    @property
    def is_beaten(self) -> bool:
        """Whether the second is better by more than the interval."""
        return self.interval[1] < 0

    def __str__(self) -> str:
        low, high = self.interval
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        of = f"({seeds}, {self.items:,} item{'s' if self.items > 1 else ''})"
        if self.metric == "brier":  # as it is told, lower is better
            return f"Brier score {-self.mean:+.3f}, 95% interval {-high:+.3f} to {-low:+.3f} {of}"
        return f"{100 * self.mean:+.1f} points, 95% interval {100 * low:+.1f} to {100 * high:+.1f} {of}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "beats": self.beats}


def paired_difference(
    a: Answers | Sequence[Answers],
    b: Answers | Sequence[Answers],
    *,
    metric: Literal["accuracy", "brier"] = "accuracy",
    seed: int = 0,
) -> Difference:
    """How much better a is than b on the same items, with an interval that accounts for items and seeds.

    Parameters
    ----------
    a, b : one model's answers by seed. Seeds of the same number are paired, others in their order; a model with one
        seed is compared with each seed of the other, and what another seed of it would give stays unknown.
    metric : "accuracy" compares what is right, "brier" the squared distance of the confidence from it.
    seed : of the bootstrap.

    Returns
    -------
    Difference
        With D[s, i] = right_a[s, i] - right_b[s, i], its mean is that of D; of the Brier score D is
        (c_b - right_b)^2 - (c_a - right_a)^2 with c the confidence. Pairing takes the items' difficulty out of the
        error (Miller, arXiv:2411.00640). The bootstrap draws items and seeds with replacement, crossed, and takes
        the 2.5% and 97.5% points (Owen, Ann. Appl. Stat. 1, 2007). One item that only a gets right and one that only b
        does are added, so that few differing items do not pass for certainty (Bonett and Price, J. Educ. Behav. Stat.
        37, 2012); where outcomes are fractions these differ by the largest |D|. Three seeds say little about seeds: the
        t interval mean +- t(S - 1) sd / sqrt(S) over the seeds' differences is wide, and the wider of the two is told.

    Raises
    ------
    InputError
        If the items differ in number, or the seeds do and neither model has just one; for a Brier score without
        confidences.
    """
    first, second = _paired(_runs(a), _runs(b))
    if len(first[0]) != len(second[0]):
        raise InputError(f"{len(first[0])} items cannot be paired with {len(second[0])}: give answers to the same ones")
    outcomes = tuple(np.stack([_outcome(run, metric) for run in runs]) for runs in (first, second))
    differences = outcomes[0] - outcomes[1]
    seeds, items = differences.shape
    binary = all(map(_is_binary, outcomes))
    added = np.ones((seeds, 1)) * (1.0 if binary else np.abs(differences).max())
    rng = np.random.default_rng(seed)
    crossed = _percentiles(_crossed_means(np.hstack([differences, added, -added]), rng))
    by_seed = differences.mean(axis=1)
    over_seeds = _t_interval(by_seed)
    return Difference(
        mean=float(differences.mean()),
        interval=_wider(crossed, over_seeds),
        over_items_and_seeds=crossed,
        over_seeds=over_seeds,
        by_seed=tuple(by_seed.tolist()),
        items=items,
        mcnemar_p=_mcnemar(differences[0]) if binary and seeds == 1 else None,
        metric=metric,
    )


def _outcome(run: Answers, metric: str) -> Floats:
    """What is compared of one run, more is better."""
    if metric == "accuracy":
        return run.right
    if run.confidence is None:
        raise InputError("a Brier score needs each answer's confidence. These answers have none")
    return np.asarray(1 - (run.confidence - run.right) ** 2)


def _runs(answers: Answers | Sequence[Answers]) -> list[Answers]:
    runs = [answers] if isinstance(answers, Answers) else list(answers)
    if not runs:
        raise InputError("there are no answers to judge. Give those of at least one seed")
    if len({len(run) for run in runs}) > 1:
        raise InputError(f"every seed must answer the same items. Got {', '.join(str(len(r)) for r in runs)} of them")
    return runs


def _paired(a: list[Answers], b: list[Answers]) -> tuple[list[Answers], list[Answers]]:
    if len(a) == 1 or len(b) == 1:
        return a * len(b) if len(a) == 1 else a, b * len(a) if len(b) == 1 else b
    if len(a) != len(b):
        raise InputError(
            f"{len(a)} seeds cannot be paired with {len(b)}. Train both with the same seeds, or compare one"
        )
    by_seed = {run.seed: run for run in b}
    if len(by_seed) == len(b) and by_seed.keys() == {run.seed for run in a}:
        return a, [by_seed[run.seed] for run in a]
    return a, b


def _is_binary(values: Floats) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _f1(runs: list[Answers], labels: Sequence[str]) -> tuple[float, dict[str, ClassScore]]:
    """F1 = 2 TP / (2 TP + FP + FN) by class; an answer that is no class is a miss of the right one and no more."""
    from distillcalc.distill.comparing import answer_key

    if len(labels) != len(runs[0]):
        raise InputError(f"{len(runs[0])} answers cannot be judged by {len(labels)} labels: give one for each item")
    names = sorted(set(labels))
    place = {answer_key(name): i for i, name in enumerate(names)} | {name: i for i, name in enumerate(names)}

    def of(said: Sequence[str]) -> NDArray[np.int64]:
        return np.array([place[one] if one in place else place.get(answer_key(one), -1) for one in said])

    wanted = of(labels)
    support = np.bincount(wanted, minlength=len(names))
    by_seed = []
    for run in runs:
        got = of(run.said)
        true = np.bincount(wanted[got == wanted], minlength=len(names))
        given = np.bincount(got[got >= 0], minlength=len(names))
        by_seed.append((true / np.maximum(given, 1), true / support, 2 * true / (given + support)))
    precision, recall, f1 = np.mean(by_seed, axis=0)
    classes = {
        name: ClassScore(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
        for i, name in enumerate(names)
    }
    return float(f1.mean()), classes


def _resampled_means(rows: Floats, rng: np.random.Generator) -> Floats:
    """Means of the rows over resampled columns, shape (draws, rows).

    Columns that are alike are drawn together, by a multinomial: quick, and whatever their order the draws are the same.
    """
    columns, counts = np.unique(rows, axis=1, return_counts=True)
    items = rows.shape[1]
    size = max(1, CELLS // columns.shape[1])
    parts = [
        rng.multinomial(items, counts / items, size=min(size, DRAWS - start)) @ columns.T / items
        for start in range(0, DRAWS, size)
    ]
    return np.concatenate(parts)


def _seed_weights(seeds: int, rng: np.random.Generator) -> Floats:
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) / seeds


def _crossed_means(values: Floats, rng: np.random.Generator) -> Floats:
    """Means of values[seed, item] over resampled items and, independently, resampled seeds; shape (draws,)."""
    means: Floats = (_resampled_means(values, rng) * _seed_weights(len(values), rng)).sum(axis=1)
    return means


def _interval_of_mean(values: Floats, rng: np.random.Generator) -> Interval:
    seeds, items = values.shape
    binary = _is_binary(values)
    if binary and seeds == 1:
        return wilson(float(values.sum()), items)
    added = [np.zeros((seeds, 2)), np.ones((seeds, 2))] if binary else []
    crossed = _percentiles(_crossed_means(np.hstack([values, *added]), rng))
    if crossed[0] == crossed[1]:  # a metric that is the same for every item
        crossed = wilson(float(values.mean()) * items, items)
    low, high = _wider(crossed, _t_interval(values.mean(axis=1)))
    return max(0.0, low), min(1.0, high)


def _interval_of_ratio(student: Floats, teacher: Floats, rng: np.random.Generator) -> Interval | None:
    """Of mean(student) / mean(teacher); None where it has no upper end."""
    seeds = len(student)
    rows = np.vstack([student, teacher])
    if _is_binary(rows):
        only_student = np.append(np.ones(seeds), 0.0)[:, None]
        rows = np.hstack([rows, only_student, 1 - only_student])
    means = _resampled_means(rows, rng)
    ours = (means[:, :-1] * _seed_weights(seeds, rng)).sum(axis=1)
    theirs = means[:, -1]
    ratios = np.divide(ours, theirs, out=np.full_like(ours, np.inf), where=theirs > 0)
    crossed = _percentiles(ratios)
    if not np.isfinite(crossed).all():
        return None
    low, high = _wider(crossed, _t_interval(student.mean(axis=1) / teacher.mean()))
    return max(0.0, low), high


def _percentiles(draws: Floats) -> Interval:
    # No interpolation: between a number and infinity there is none.
    low, high = np.quantile(draws, (0.025, 0.975), method="inverted_cdf")
    return float(low), float(high)


def _t_interval(by_seed: Floats) -> Interval | None:
    if len(by_seed) < 2:
        return None
    from scipy.special import stdtrit

    half = stdtrit(len(by_seed) - 1, 0.975) * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    return float(by_seed.mean() - half), float(by_seed.mean() + half)


def _wider(one: Interval, other: Interval | None) -> Interval:
    return one if other is None or one[1] - one[0] >= other[1] - other[0] else other


def _mcnemar(differences: Floats) -> float:
    """Exact: of the items on which they differ, a wins as often as a fair coin (McNemar, Psychometrika 12, 1947)."""
    from scipy.stats import binomtest

    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
