"""Every option over n scenarios side by side: what each costs, whether it may be chosen, which is best.

This is the one place where options are compared; a decision, a sweep, a break-even and a tipping point all
read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.catalog import Catalog
from distillcalc.estimate.context import Context, Fidelity
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import LIKELY, Estimate, Outcome
from distillcalc.workload.scenario import OPTION_IDS, Scenario

Floats = NDArray[np.float64]

# Gates that ask for neither volume, lengths nor prices, and the inputs that they do ask for.
OF_THE_MODEL = frozenset({"quality", "terms", "privacy", "region", "licence", "router", "retirement"})
ASKED_OF_THE_MODEL = frozenset({"teacher_quality", "student_retention", "floor", "escalation_rate"})

CELLS_PER_CHUNK = 1_500_000  # (GPU, scenario, month) cells held at once; bounds the memory of a sweep


@dataclass(frozen=True)
class Table:
    """Options compared over n scenarios.

    Parameters
    ----------
    options : ids, in the order of the columns.
    present_value_usd : of each option's best candidate, shape (n, options); nan where unpriced.
    eligible : priced, no gate failed, none with odds below three to one, shape (n, options).
    best : column of the cheapest eligible option, -1 where there is none, shape (n,).
    """

    options: tuple[str, ...]
    present_value_usd: Floats
    eligible: NDArray[np.bool_]
    best: NDArray[np.intp]

    def option(self, i: int) -> str | None:
        """Id of the best option in scenario i."""
        return self.options[self.best[i]] if self.best[i] >= 0 else None


@dataclass
class Block:
    """One evaluated stretch of scenarios: the context, and for each option its candidates and the choice."""

    context: Context
    candidates: dict[str, list[Outcome]]
    choice: dict[str, NDArray[np.intp]] = field(default_factory=dict)
    present_value_usd: dict[str, Floats] = field(default_factory=dict)
    eligible: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Scenarios in the stretch."""
        return self.context.x.n

    def choose(self, option: str, candidate: int) -> None:
        """Let one candidate stand for an option in every scenario."""
        outcome = self.candidates[option][candidate]
        cost = outcome.present_value_usd(self.context.x.discount)[:, 0]
        self.choice[option] = np.full(1, candidate, dtype=np.intp)
        self.present_value_usd[option] = cost
        self.eligible[option] = outcome.likely[:, 0] & ~np.isnan(cost)

    def chosen(self, option: str, i: int = 0) -> Outcome:
        """The best candidate of an option in scenario i."""
        choice = self.choice[option]
        return self.candidates[option][int(choice[i if choice.shape[0] > 1 else 0])]

    def estimate(self, option: str, candidate: int | None = None, i: int = 0) -> Estimate:
        """The scalar estimate of an option in scenario i: of its best candidate, or of the one named."""
        choice = self.choice[option]
        place = int(choice[i if choice.shape[0] > 1 else 0]) if candidate is None else candidate
        return self.candidates[option][place].estimate(i, self.context.x)


class Estimates(Mapping[str, Estimate]):
    """The estimate of each option's best candidate in one scenario of a block, made when it is looked at."""

    def __init__(self, block: Block, i: int = 0) -> None:
        self._block, self._i = block, i
        self._made: dict[str, Estimate] = {}

    def __getitem__(self, option: str) -> Estimate:
        if option not in self._made:
            if option not in self._block.candidates:
                raise KeyError(option)
            self._made[option] = self._block.estimate(option, i=self._i)
        return self._made[option]

    def __iter__(self) -> Iterator[str]:
        return iter(self._block.candidates)

    def __len__(self) -> int:
        return len(self._block.candidates)


def compared(scenario: Scenario) -> tuple[str, ...]:
    """Which options a scenario compares, in the catalog's order."""
    named = scenario.choices.options
    return tuple(option for option in OPTION_IDS if named is None or option in named)


def still_possible(block: Block) -> tuple[str, ...]:
    """Options that may be recommended at other volumes, lengths and prices: no gate on their models holds them back."""
    return tuple(name for name, found in block.candidates.items() if not all(map(_held_back, found)))


def _held_back(outcome: Outcome) -> bool:
    gates = (gate for gate in outcome.gates if gate.name in OF_THE_MODEL)
    return any(gate.failed_everywhere or _unlikely(gate.probability) for gate in gates)


def _unlikely(probability: Floats | None) -> bool:
    return probability is not None and bool((probability < LIKELY).all())


def evaluate(x: Inputs, catalog: Catalog, options: Sequence[str], fidelity: Fidelity = "closed_form") -> Block:
    """Evaluate options over one stretch of scenarios and choose each option's best candidate.

    Within an option the best candidate is the cheapest of those that may be chosen; where none may, the
    cheapest of all, so that it can be shown with what rules it out.
    """
    context = Context(x, catalog, fidelity)
    block = Block(context, {option: context.outcomes(option) for option in options})
    for option, candidates in block.candidates.items():
        if len(candidates) == 1:
            only = candidates[0]
            cost = only.present_value_usd(x.discount)[:, 0]
            block.choice[option] = np.zeros(1, dtype=np.intp)
            block.present_value_usd[option] = cost
            block.eligible[option] = only.likely[:, 0] & ~np.isnan(cost)
            continue
        costs = [candidate.present_value_usd(x.discount)[:, 0] for candidate in candidates]
        likely = [candidate.likely[:, 0] for candidate in candidates]
        size = max(column.shape[0] for column in (*costs, *likely))
        cost, allowed = np.empty((len(candidates), size)), np.empty((len(candidates), size), dtype=bool)
        for place, (usd, may) in enumerate(zip(costs, likely, strict=True)):
            cost[place], allowed[place] = usd, may
        allowed &= ~np.isnan(cost)
        if size == 1:  # a single decision: the same choice without arrays
            priced = np.flatnonzero(~np.isnan(cost[:, 0]))
            pool = np.flatnonzero(allowed[:, 0])
            pool = pool if pool.size else priced
            best = int(pool[np.argmin(cost[pool, 0])]) if pool.size else 0
            block.choice[option] = np.array([best], dtype=np.intp)
            block.present_value_usd[option], block.eligible[option] = cost[best], allowed[best]
            continue
        # Three ranks: may be chosen, priced, unpriced; the cheapest within the first that is not empty.
        rank = np.where(allowed, 0, np.where(np.isnan(cost), 2, 1))
        first = rank == rank.min(axis=0)
        choice = np.argmin(np.where(first, np.nan_to_num(cost, nan=0.0), np.inf), axis=0)
        block.choice[option] = choice
        block.present_value_usd[option] = np.take_along_axis(cost, choice[None], axis=0)[0]
        block.eligible[option] = np.take_along_axis(allowed, choice[None], axis=0)[0]
    return block


def blocks(
    scenario: Scenario, catalog: Catalog, arrays: Mapping[str, ArrayLike], options: Sequence[str]
) -> Iterator[Block]:
    """Evaluate arrays of scenarios in stretches that fit the memory."""
    x = Inputs(scenario, arrays)
    machines = len(scenario.choices.gpus or catalog.gpus)
    step = max(CELLS_PER_CHUNK // (machines * x.months), 1)
    if x.n <= step:
        yield evaluate(x, catalog, options)
        return
    for start in range(0, x.n, step):
        yield evaluate(x.rows(start, min(start + step, x.n)), catalog, options)


def table_of(parts: Sequence[Block]) -> Table:
    """The blocks' scenarios as one table."""
    options = tuple(parts[0].candidates)

    def stacked(name: str) -> NDArray[np.float64]:
        return np.concatenate(
            [
                np.stack([np.broadcast_to(getattr(part, name)[option], part.n) for option in options], axis=1)
                for part in parts
            ]
        )

    cost, eligible = stacked("present_value_usd"), stacked("eligible").astype(bool)
    best = np.argmin(np.where(eligible, cost, np.inf), axis=1)
    return Table(options, cost, eligible, np.where(eligible.any(axis=1), best, -1))


def compare(
    scenario: Scenario,
    catalog: Catalog,
    arrays: Mapping[str, ArrayLike] | None = None,
    options: Sequence[str] | None = None,
) -> Table:
    """Compare options over arrays of inputs; a single scenario is the table of one row."""
    chosen = tuple(options) if options is not None else compared(scenario)
    return table_of(list(blocks(scenario, catalog, arrays or {}, chosen)))
