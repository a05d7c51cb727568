"""What is not known for certain, drawn: one scrambled Sobol matrix that every option is evaluated on.

A scenario's distributions and what is believed beside them (each model's quality, whether an unmeasured router works)
are the dimensions of a unit cube; a row of levels in it is one way that things may be. Every option meets the same
rows (common random numbers), so what differs between options is theirs and not the draw's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog
from distillcalc.decide.table import compared
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import SPECS, Inputs, uncertain_inputs
from distillcalc.estimate.outcome import FAIL
from distillcalc.workload.distributions import Distribution
from distillcalc.workload.scenario import Scenario

Floats = NDArray[np.float64]

FEWEST, MOST = 64, 1 << 20
ROWS_PER_STRETCH = 4096  # bounds the memory of an evaluation
WORTH_A_THREAD = 1024  # rows; fewer are done before a thread has started
OWN = ("self-host", "self-host-teacher")
EDGE = 1e-9  # levels stay this far from 0 and 1, where quantiles may be infinite


class _Asked(dict[str, Floats]):
    """Notes which beliefs an evaluation asks for."""

    def __missing__(self, name: str) -> Floats:
        self[name] = np.full((1, 1), 0.5)
        return self[name]


@dataclass(frozen=True)
class Space:
    """The unit cube of everything that a scenario leaves uncertain.

    Parameters
    ----------
    scenario, catalog, options : what is evaluated.
    inputs : the inputs that are distributions, by name.
    beliefs : names of what is believed beside them, drawn by level.
    labels : model and machine of each alternative at the inputs' medians, by option and place.
    factor : lower triangular factor of the correlations of the inputs' normal scores; None where there are none.
    """

    scenario: Scenario
    catalog: Catalog
    options: tuple[str, ...]
    inputs: Mapping[str, Distribution]
    beliefs: tuple[str, ...]
    labels: Mapping[tuple[str, int], str] = field(default_factory=dict, repr=False)
    factor: Floats | None = None

    @classmethod
    def of(cls, scenario: Scenario, catalog: Catalog, options: Sequence[str] | None = None) -> Space:
        """The space of a scenario.

        Raises
        ------
        InputError
            For a distribution of something that is no input, or correlations that no joint distribution has.
        """
        chosen = tuple(options) if options is not None else compared(scenario)
        inputs = uncertain_inputs(scenario)
        asked = _Asked()
        middle = Inputs(scenario, {name: one.median for name, one in inputs.items()}, asked)
        context = Context(middle, catalog)
        labels = {
            (option, i): outcome.label(0) for option in chosen for i, outcome in enumerate(context.outcomes(option))
        }
        factor = correlation_factor(scenario.correlations, tuple(inputs))
        return cls(scenario, catalog, chosen, inputs, tuple(sorted(asked)), labels, factor)

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions: inputs, then beliefs."""
        return (*self.inputs, *self.beliefs)

    def levels(self, draws: int, seed: int = 0) -> Floats:
        """Scrambled Sobol points (Owen, 1998), shape (draws, dimensions); before correlation.

        Raises
        ------
        InputError
            If ``draws`` is not a power of two between 64 and 2^20.
        """
        from scipy.stats import qmc

        if not FEWEST <= draws <= MOST or draws & (draws - 1):
            near = min(max(1 << max(round(np.log2(max(draws, 1))), 0), FEWEST), MOST)
            raise InputError(
                f"draws must be a power of two from {FEWEST} to {MOST:,}, as Sobol points ask. "
                f"Got {draws:,}; near it: {near:,}"
            )
        if not self.names:
            return np.full((draws, 0), 0.5)
        return np.asarray(qmc.Sobol(len(self.names), scramble=True, rng=np.random.default_rng(seed)).random(draws))

    def arrays(self, levels: Floats, *, independent: bool = False) -> dict[str, Floats]:
        """The inputs at levels, shape (n,) each; correlated where they are, unless each is to be moved alone."""
        columns = np.clip(levels, EDGE, 1 - EDGE)
        if self.factor is not None and not independent:
            from scipy.special import ndtr, ndtri

            scores = ndtri(columns[:, : len(self.inputs)]) @ self.factor.T
            columns = np.clip(ndtr(scores), EDGE, 1 - EDGE)
        found = {}
        for place, (name, one) in enumerate(self.inputs.items()):
            spec = SPECS[name]
            found[name] = np.clip(one.quantile(columns[:, place]), spec.low, spec.high)
        if "input_tokens" in found or "cacheable_prefix_tokens" in found:
            workload = self.scenario.workload
            prompt = found.get("input_tokens", np.array(workload.mean_input_tokens))
            prefix = found.get("cacheable_prefix_tokens", np.array(workload.cacheable_prefix_tokens))
            if np.any(prefix > prompt):  # a prompt that turns out shorter is all prefix
                found["cacheable_prefix_tokens"] = np.minimum(prefix, prompt)
        return found

    def drawn(self, levels: Floats, *, independent: bool = False) -> Inputs:
        """Rows of levels as scenarios, each one way that things may be."""
        first = len(self.inputs)
        latent = {name: np.clip(levels[:, first + i, None], EDGE, 1 - EDGE) for i, name in enumerate(self.beliefs)}
        return Inputs(self.scenario, self.arrays(levels, independent=independent), latent)

    def evaluate(self, levels: Floats, *, independent: bool = False) -> Drawn:
        """Every alternative in every row of levels, shape (n, dimensions)."""
        edges = [*range(0, len(levels), ROWS_PER_STRETCH), len(levels)]
        stretches = [levels[a:b] for a, b in pairwise(edges)]

        def one(stretch: Floats) -> Drawn:
            return self._stretch(stretch, independent=independent, alone=len(stretches) == 1)

        if len(stretches) == 1:
            return one(stretches[0])
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
            return Drawn.joined(list(pool.map(one, stretches)))

    def _side_by_side(self, context: Context) -> None:
        """Evaluate machines of one's own beside what others serve; a cascade follows both."""
        own = [option for option in self.options if option in OWN]
        others = [option for option in self.options if option not in OWN and option != "cascade"]
        with ThreadPoolExecutor(1) as pool:
            aside = pool.submit(lambda: [context.outcomes(option) for option in own])
            for option in others:
                context.outcomes(option)
            aside.result()

    def _stretch(self, levels: Floats, *, independent: bool, alone: bool) -> Drawn:
        x, n = self.drawn(levels, independent=independent), len(levels)
        context = Context(x, self.catalog)
        if alone and n >= WORTH_A_THREAD:
            self._side_by_side(context)
        alternatives, columns = [], []
        for option in self.options:
            for i, outcome in enumerate(context.outcomes(option)):
                alternatives.append(Alternative(option, i, self.labels[option, i], outcome.unpriced))
                columns.append(outcome)
        passes = np.empty((n, len(columns)), dtype=bool)
        usd, once, quality = (np.empty((n, len(columns))) for _ in range(3))
        for a, outcome in enumerate(columns):
            usd[:, a] = outcome.present_value_usd(x.discount)[:, 0]
            once[:, a] = outcome.one_off_total_usd[:, 0]
            quality[:, a] = outcome.quality_mean[:, 0]
            passes[:, a] = outcome.likely[:, 0]
        passes &= np.isfinite(usd)
        monthly = tuple([(one.monthly_total_usd.astype(np.float32), n)] for one in columns)
        gates = [{gate.name: np.broadcast_to(gate.code[:, 0] != FAIL, n) for gate in one.gates} for one in columns]
        # Gates that can still be asked for their reasons hold on to all of it: of draws nobody asks.
        context.forget()
        return Drawn(
            tuple(alternatives),
            usd,
            once,
            passes,
            quality,
            tuple(gates),
            monthly,
            [(x.discount, n)],
        )


@dataclass(frozen=True)
class Alternative:
    """What may be chosen: one option with one model.

    Parameters
    ----------
    option, place, label : its id, its place among the option's candidates, model and machine.
    unpriced : why there is no price, or "".
    """

    option: str
    place: int
    label: str
    unpriced: str = ""


@dataclass(frozen=True)
class Drawn:
    """Every alternative in every row, shape (n, alternatives).

    Parameters
    ----------
    present_value_usd : as if it were used to the end of the horizon; nan where it has no price.
    one_off_usd : of it, before the first request.
    passes : priced, and no gate fails.
    quality : as drawn.
    gates : of each alternative, whether each gate holds, by name, shape (n,).
    """

    alternatives: tuple[Alternative, ...]
    present_value_usd: Floats
    one_off_usd: Floats
    passes: NDArray[np.bool_]
    quality: Floats
    gates: tuple[Mapping[str, NDArray[np.bool_]], ...]
    _monthly: tuple[list[Piece], ...] = field(repr=False)
    _discount: list[Piece] = field(repr=False)

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Stretches as one."""
        first = parts[0]
        places = range(len(first.alternatives))
        return cls(
            alternatives=first.alternatives,
            present_value_usd=np.concatenate([part.present_value_usd for part in parts]),
            one_off_usd=np.concatenate([part.one_off_usd for part in parts]),
            passes=np.concatenate([part.passes for part in parts]),
            quality=np.concatenate([part.quality for part in parts]),
            gates=tuple(
                {name: np.concatenate([part.gates[a][name] for part in parts]) for name in first.gates[a]}
                for a in places
            ),
            _monthly=tuple([piece for part in parts for piece in part._monthly[a]] for a in places),
            _discount=[piece for part in parts for piece in part._discount],
        )

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.passes)

    def monthly_usd(self, alternative: int) -> Floats:
        """Running cost of each month, shape (n, months), not discounted; kept to seven digits."""
        return _stacked(self._monthly[alternative])

    @cached_property
    def discount(self) -> Floats:
        """Present value of a dollar spent in each month, shape (n, months)."""
        return _stacked(self._discount)


Piece: TypeAlias = tuple[NDArray[Any], int]  # values of a stretch, and how many rows they stand for


def _stacked(pieces: Sequence[Piece]) -> NDArray[Any]:
    return np.concatenate([np.broadcast_to(values, (n, values.shape[1])) for values, n in pieces])


def correlation_factor(correlations: Mapping[str, Mapping[str, float]], inputs: Sequence[str]) -> Floats | None:
    """Lower triangular factor of the normal scores' correlations, from rank correlations; None where there are none.

    r = 2 sin(pi rho / 6) turns a rank correlation into that of the normal scores of a Gaussian copula (Kruskal, JASA
    53, 1958).

    Raises
    ------
    UnknownName
        For an input that is not given as a distribution.
    InputError
        If a pair is given twice, an input with itself, or no joint distribution has these correlations.
    """
    pairs = [(a, b, value) for a, others in correlations.items() for b, value in others.items()]
    if not pairs:
        return None
    seen: set[frozenset[str]] = set()
    for a, b, _ in pairs:
        for name in (a, b):
            if name not in inputs:
                hint = "Only inputs that are given as distributions can be correlated."
                raise UnknownName("uncertain input", name, inputs, hint)
        if a == b or frozenset((a, b)) in seen:
            what = "itself" if a == b else f"{b}, twice"
            raise InputError(f"correlations gives each pair of two inputs once. Got {a} with {what}")
        seen.add(frozenset((a, b)))

    def scores(scale: float) -> Floats:
        matrix = np.eye(len(inputs))
        for a, b, value in pairs:
            i, j = inputs.index(a), inputs.index(b)
            matrix[i, j] = matrix[j, i] = 2 * np.sin(np.pi * scale * value / 6)
        return matrix

    least = float(np.linalg.eigvalsh(scores(1.0)).min())
    if least < -1e-10:
        scale = max(s for s in np.arange(0, 1, 0.01) if np.linalg.eigvalsh(scores(s)).min() > 0)
        raise InputError(
            "no inputs can be correlated so: the matrix of correlations is not positive definite (its least eigenvalue "
            f"is {least:.3g}). Got {', '.join(f'{a} with {b} {value:g}' for a, b, value in pairs)}. "
            f"Times {scale:.2f} or less they would be possible"
        )
    matrix = scores(1.0)
    if least < 1e-10:  # a perfect correlation: the factor of the nearest that has one
        matrix = (matrix + 1e-9 * np.eye(len(inputs))) / (1 + 1e-9)
    return np.asarray(np.linalg.cholesky(matrix))
