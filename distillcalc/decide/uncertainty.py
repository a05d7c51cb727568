"""How sure a recommendation is: the odds of each option, what it may cost, and what knowing more would be worth.

Everything is read from one set of draws (:mod:`.draws`) and computed when first asked for. What is chosen is the option
of least expected cost among those whose odds of passing every gate are at least three to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog
from distillcalc.decide.draws import Alternative, Drawn, Space
from distillcalc.decide.value import (
    SampleValue,
    choose,
    costs_if_chosen,
    input_information_usd,
    perfect_information_usd,
    sample_information_usd,
)
from distillcalc.errors import InputError
from distillcalc.estimate.inputs import SPECS, Inputs
from distillcalc.estimate.measured_cascade import QUALITY_LATENT
from distillcalc.estimate.outcome import plain
from distillcalc.workload.scenario import Scenario

Floats = NDArray[np.float64]

DRAWS = 8_192
PREVIEW_DRAWS = 2_048
SOBOL_BASE = 1_024
LEVELS = (0.1, 0.5, 0.9)
ITEMS = (50, 100, 200, 500, 1_000, 2_000)  # how many more labels are weighed
NEGLIGIBLE = 1e-3  # of the expected cost: what is worth less is called nothing


@dataclass(frozen=True)
class OptionOdds:
    """One option while things are uncertain.

    Parameters
    ----------
    option, label : its id; model and machine of its best alternative at the medians.
    probability_best : that it is the cheapest that passes, with any of its models.
    probability_passes : that the alternative passes every gate.
    gates : P(gate holds) by name, of the alternative.
    expected_usd : over the horizon if it is chosen now, falling back where it fails; nan where nothing passes.
    present_value_usd : P10, P50 and P90 of its cost over the horizon.
    """

    option: str
    label: str
    probability_best: float
    probability_passes: float
    gates: Mapping[str, float]
    expected_usd: float
    present_value_usd: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "label": self.label,
            "probability_best": self.probability_best,
            "probability_passes": self.probability_passes,
            "gates": dict(self.gates),
            "expected_usd": plain(self.expected_usd),
            "present_value_usd": dict(zip(("p10", "p50", "p90"), map(plain, self.present_value_usd), strict=True)),
        }


@dataclass(frozen=True)
class Swing:
    """One bar of a tornado: one input at its P10 and at its P90, all else at its median.

    Parameters
    ----------
    input, unit : its name and unit; of something believed, such as a model's quality, the value that it takes.
    values : of the input at P10 and at P90.
    lead_usd : by how much the choice costs less than its rival, at each.
    best : the cheapest option that passes, at each; None where none does.
    """

    input: str
    unit: str
    values: tuple[float, float]
    lead_usd: tuple[float, float]
    best: tuple[str | None, str | None]

    @property
    def width_usd(self) -> float:
        """How far it moves the lead."""
        return abs(self.lead_usd[1] - self.lead_usd[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "input": self.input,
            "unit": self.unit,
            "values": list(map(plain, self.values)),
            "lead_usd": list(map(plain, self.lead_usd)),
            "best": list(self.best),
        }


@dataclass(frozen=True)
class Index:
    """Share of the variance of the lead that an input accounts for, alone and with all that it interacts with.

    ``first_error`` and ``total_error`` are half widths of a 95% bootstrap interval.
    """

    input: str
    first: float
    total: float
    first_error: float
    total_error: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: plain(v) if name != "input" else v for name, v in vars(self).items()}


@dataclass(frozen=True)
class Uncertainty:
    """What one set of draws says of a scenario; each figure is computed when first read.

    Parameters
    ----------
    space : what is uncertain.
    drawn : every alternative in every draw.
    levels : the draws, shape (n, dimensions).
    seed : of the draws.
    """

    space: Space
    drawn: Drawn
    levels: Floats
    seed: int

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        *,
        catalog: Catalog | None = None,
        draws: int = DRAWS,
        seed: int = 0,
        options: Sequence[str] | None = None,
    ) -> Uncertainty:
        """Draw a scenario.

        Parameters
        ----------
        scenario : its distributions, and what is believed of each model's quality, are drawn.
        catalog : what is known; left out, the shipped one. The scenario's overrides are laid over it.
        draws : a power of two.
        seed : the same seed gives the same draws.
        options : ids; left out, those that the scenario compares.

        Raises
        ------
        InputError, UnknownName
            For draws that are no power of two, impossible correlations, or what :func:`recommend` refuses.
        """
        known = (catalog or Catalog.load()).with_overrides(scenario.overrides)
        space = Space.of(scenario, known, options)
        levels = space.levels(draws, seed)
        return cls(space, space.evaluate(levels), levels, seed)

    @property
    def draws(self) -> int:
        """How many."""
        return self.drawn.n

    @cached_property
    def costs(self) -> Floats:
        """Cost of each draw if an alternative is chosen before its odds are known, shape (n, alternatives) [USD]."""
        d = self.drawn
        return costs_if_chosen(d.present_value_usd, d.one_off_usd, d.passes, self._teacher)

    @cached_property
    def _teacher(self) -> int | None:
        return next((a for a, one in enumerate(self.drawn.alternatives) if one.option == "call-teacher"), None)

    @cached_property
    def _served(self) -> NDArray[np.bool_]:
        return np.asarray(self.drawn.passes.any(axis=1))

    @property
    def probability_none(self) -> float:
        """That no option passes every gate."""
        return float(1 - self._served.mean())

    @cached_property
    def _odds(self) -> Floats:
        return np.asarray(self.drawn.passes.mean(axis=0))

    @cached_property
    def _expected(self) -> Floats:
        """Mean cost of each alternative over the draws in which anything passes; nan where there are none."""
        if not self._served.any():
            return np.full(len(self.drawn.alternatives), np.nan)
        return np.asarray(self.costs[self._served].mean(axis=0))

    @cached_property
    def chosen(self) -> int | None:
        """Column of the alternative that is chosen; None where no odds are good enough."""
        best = int(choose(self._expected, self._odds))
        return best if best >= 0 else None

    @property
    def choice(self) -> Alternative | None:
        """What is chosen."""
        return None if self.chosen is None else self.drawn.alternatives[self.chosen]

    @property
    def recommendation(self) -> str | None:
        """Id of the option that is chosen."""
        return self.choice.option if self.choice else None

    @cached_property
    def _columns(self) -> dict[str, int]:
        """The alternative that stands for each option: the one that would be chosen of it, else the likeliest."""
        found: dict[str, int] = {}
        for option in self.space.options:
            own = [a for a, one in enumerate(self.drawn.alternatives) if one.option == option]
            best = int(choose(self._expected[own], self._odds[own]))
            if best < 0:
                cost = np.nan_to_num(self._expected[own], nan=np.inf)
                best = int(np.lexsort((cost, -self._odds[own]))[0])
            found[option] = own[best]
        return found

    def column(self, option: str) -> int:
        """The column of the alternative that stands for an option."""
        if option not in self._columns:
            raise InputError(f"option must be one of {', '.join(self._columns)}. Got {option!r}")
        return self._columns[option]

    @property
    def negligible_usd(self) -> float:
        """What is worth less than this is called nothing: a thousandth of the expected cost of the choice [USD]."""
        return NEGLIGIBLE * float(self._expected[self.chosen]) if self.chosen is not None else 0.0

    @cached_property
    def rival(self) -> int | None:
        """Column of the best alternative of any other option: of good odds, else the likeliest; None without one."""
        if self.chosen is None:
            return None
        others = [a for option, a in self._columns.items() if option != self.recommendation]
        others = [a for a in others if np.isfinite(self._expected[a]) and np.isfinite(self._prices[a])]
        likely = [a for a in others if self._odds[a] >= 0.5]
        return min(likely or others, key=lambda a: self._expected[a], default=None)

    @cached_property
    def _prices(self) -> Floats:
        """Median present value of each alternative where it has one; nan where it never does."""
        return np.array([np.median(v[np.isfinite(v)]) if np.isfinite(v).any() else np.nan for v in self._usd])

    @cached_property
    def _usd(self) -> Floats:
        return np.ascontiguousarray(self.drawn.present_value_usd.T)

    @cached_property
    def _best(self) -> NDArray[np.intp]:
        """Column of the cheapest alternative that passes in each draw; -1 where none does."""
        best = np.argmin(np.where(self.drawn.passes, self.drawn.present_value_usd, np.inf), axis=1)
        return np.where(self._served, best, -1)

    @cached_property
    def options(self) -> dict[str, OptionOdds]:
        """The odds of every option, by id."""
        d = self.drawn
        wins = np.bincount(self._best[self._best >= 0], minlength=len(d.alternatives)) / d.n
        found = {}
        for option, a in self._columns.items():
            own = [i for i, one in enumerate(d.alternatives) if one.option == option]
            found[option] = OptionOdds(
                option,
                d.alternatives[a].label,
                float(wins[own].sum()),
                float(self._odds[a]),
                {name: float(np.mean(holds)) for name, holds in d.gates[a].items()},
                float(self._expected[a]),
                _percentiles(self._usd[a]),
            )
        return found

    @property
    def probability_best(self) -> dict[str, float]:
        """P(each option is the cheapest that passes), by id; with ``probability_none`` they add to one."""
        return {name: one.probability_best for name, one in self.options.items()}

    def monthly_usd(self, option: str) -> Floats:
        """P10, P50 and P90 of an option's running cost in each month, shape (3, months), not discounted."""
        if option not in self._monthly:
            usd = self.drawn.monthly_usd(self.column(option))
            self._monthly[option] = np.array([_percentiles(month) for month in np.ascontiguousarray(usd.T)]).T
        return self._monthly[option]

    @cached_property
    def _monthly(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def evpi_usd(self) -> float | None:
        """Expected value of perfect information: the expected regret of choosing now [USD]; None without a choice."""
        if self.chosen is None:
            return None
        return perfect_information_usd(self.costs[self._served], self.chosen)

    @property
    def expected_regret_usd(self) -> float | None:
        """What choosing now costs on average more than the best choice in hindsight [USD]."""
        return self.evpi_usd

    @cached_property
    def evpi_by_input(self) -> dict[str, float]:
        """Expected value of knowing one input exactly [USD], most first; empty without a choice."""
        if self.chosen is None:
            return {}
        rows = self._served
        costs, passes = self.costs[rows], self.drawn.passes[rows]
        found = {
            name: input_information_usd(self._values(name)[rows], costs, passes, self.chosen)
            for name in self.space.names
        }
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _values(self, name: str) -> Floats:
        """An input in each draw; of something believed, its level."""
        if name in self.space.inputs:
            return self._arrays[name]
        return np.asarray(self.levels[:, self.space.names.index(name)])

    @cached_property
    def _arrays(self) -> dict[str, Floats]:
        return self.space.arrays(self.levels)

    @cached_property
    def sample_values(self) -> list[SampleValue]:
        """What more labels are worth, the best number of them for each model, most net worth first."""
        if self.chosen is None:
            return []
        rows, each = self._served, self._label_usd
        costs, passes = self.costs[rows], self.drawn.passes[rows]
        found: dict[bytes, SampleValue] = {}
        for a in np.argsort(self._expected, kind="stable"):
            one, quality = self.drawn.alternatives[a], self.drawn.quality[rows, a]
            judged = quality[:64].tobytes()
            # A cascade's answers are its student's and its teacher's; alternatives may share a model.
            if one.option == "cascade" or one.unpriced or judged in found or not np.ptp(quality) > 0:
                continue
            # No sample tells more than the quality itself.
            if not input_information_usd(quality, costs, passes, self.chosen) > 0:
                continue
            worth = sample_information_usd(quality, costs, passes, self.chosen, ITEMS)
            chance = float(np.mean(self.drawn.gates[a].get("quality", np.ones(1))))
            values = [
                SampleValue(one.label, one.option, items, items * each, usd, chance, self._exists(one))
                for items, usd in zip(ITEMS, worth, strict=True)
            ]
            found[judged] = max(values, key=lambda value: value.net_usd)
        return sorted(found.values(), key=lambda value: -value.net_usd)

    @property
    def _label_usd(self) -> float:
        return float(Inputs(self.space.scenario)["human_label_usd"][0, 0])

    def _exists(self, one: Alternative) -> bool:
        """Whether there is a model to judge: it is called as it is, or has been judged before."""
        return one.option in ("call-teacher", "call-small", "hosted-open-student", "self-host-teacher") or any(
            one.label.startswith(name) for name in self.space.scenario.choices.evaluations
        )

    @cached_property
    def tornado(self) -> list[Swing]:
        """Each input at P10 and P90, all else at its median: how far the lead of the choice moves, most first."""
        if self.chosen is None or self.rival is None or not self.space.names:
            return []
        names = self.space.names
        levels = np.full((2 * len(names), len(names)), 0.5)
        for i in range(len(names)):
            levels[2 * i, i], levels[2 * i + 1, i] = LEVELS[0], LEVELS[2]
        moved = self.space.evaluate(levels, independent=True)
        lead, best = self._lead(moved), self._cheapest(moved)
        arrays = self.space.arrays(levels, independent=True)
        found = []
        for i, name in enumerate(names):
            pair = (2 * i, 2 * i + 1)
            values = arrays[name] if name in arrays else self._believed(name, moved)
            found.append(
                Swing(
                    name,
                    SPECS[name].unit if name in SPECS else "",
                    (float(values[pair[0]]), float(values[pair[1]])),
                    (float(lead[pair[0]]), float(lead[pair[1]])),
                    (best[pair[0]], best[pair[1]]),
                )
            )
        return sorted(found, key=lambda swing: -swing.width_usd)

    @cached_property
    def median_lead_usd(self) -> float:
        """By how much the choice costs less than its rival with everything at its median [USD]."""
        if self.chosen is None or self.rival is None:
            return 0.0
        middle = np.full((1, len(self.space.names)), 0.5)
        return float(self._lead(self.space.evaluate(middle, independent=True))[0])

    def _believed(self, name: str, moved: Drawn) -> Floats:
        """The quality or retention that a belief is of, where one thing moves at a time; its level if it is neither."""
        place = 2 * self.space.names.index(name)
        for a, one in enumerate(moved.alternatives):
            own = one.option != "cascade" or name == QUALITY_LATENT  # a cascade moves with its student and its teacher
            if own and moved.quality[place, a] != moved.quality[place + 1, a]:
                if name.startswith("retention of ") and self._teacher is not None:
                    return np.asarray(moved.quality[:, a] / moved.quality[:, self._teacher])
                return moved.quality[:, a]
        levels = np.full(len(moved.quality), 0.5)
        levels[place], levels[place + 1] = LEVELS[0], LEVELS[2]
        return levels

    def _lead(self, drawn: Drawn) -> Floats:
        """By how much the choice costs less than its rival, if each is chosen; 0 where nothing passes, shape (n,)."""
        assert self.chosen is not None
        assert self.rival is not None
        teacher, chosen, rival = (
            None if a is None else drawn.alternatives.index(self.drawn.alternatives[a])
            for a in (self._teacher, self.chosen, self.rival)
        )
        costs = costs_if_chosen(drawn.present_value_usd, drawn.one_off_usd, drawn.passes, teacher)
        return np.asarray(np.nan_to_num(costs[:, rival] - costs[:, chosen]))

    def _cheapest(self, drawn: Drawn) -> list[str | None]:
        best = np.argmin(np.where(drawn.passes, drawn.present_value_usd, np.inf), axis=1)
        served = np.asarray(drawn.passes.any(axis=1))
        return [drawn.alternatives[a].option if any_ else None for a, any_ in zip(best, served, strict=True)]

    @cached_property
    def indices(self) -> list[Index]:
        """First and total Sobol indices of the lead (Saltelli's and Jansen's estimators, SALib), largest total first.

        Raises
        ------
        InputError
            If inputs are correlated: the indices are of independent ones.
        """
        if self.space.factor is not None:
            raise InputError(
                "Sobol indices are of independent inputs, and correlations are given. "
                "evpi_by_input and the tornado hold with them"
            )
        if self.chosen is None or self.rival is None or not self.space.names:
            return []
        narrow = self._narrow
        found = sobol_indices(lambda levels: self._lead(narrow.evaluate(levels)), narrow.names, SOBOL_BASE, self.seed)
        others = [name for name in self.space.names if name not in narrow.names]
        return found + [Index(name, 0.0, 0.0, 0.0, 0.0) for name in others]

    @cached_property
    def _narrow(self) -> Space:
        """The options that the lead depends on: the choice, its rival, and what stands in where one of them fails.

        Where calling the big model passes in every draw nothing else ever stands in.
        """
        if self._teacher is None or self._odds[self._teacher] < 1 or self.rival is None:
            return self.space
        rival = self.drawn.alternatives[self.rival].option
        kept = {"call-teacher", self.recommendation, rival}
        options = tuple(option for option in self.space.options if option in kept)
        return Space.of(self.space.scenario, self.space.catalog, options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: odds, costs, regret, and what to find out; the indices are left to who asks for them."""
        return {
            "draws": self.draws,
            "seed": self.seed,
            "recommendation": self.recommendation,
            "probability_none": self.probability_none,
            "expected_regret_usd": self.evpi_usd,
            "options": {
                name: one.to_dict()
                | {
                    "monthly_usd": {
                        level: [plain(v) for v in months]
                        for level, months in zip(("p10", "p50", "p90"), self.monthly_usd(name), strict=True)
                    }
                }
                for name, one in self.options.items()
            },
            "evpi_by_input": self.evpi_by_input,
            "sample_values": [vars(value) | {"net_usd": value.net_usd} for value in self.sample_values],
            "tornado": [swing.to_dict() for swing in self.tornado],
        }


def sobol_indices(lead: Any, names: Sequence[str], base: int = SOBOL_BASE, seed: int = 0) -> list[Index]:
    """First and total Sobol indices of a function of the unit cube, largest total first.

    Parameters
    ----------
    lead : takes levels of shape (n, dimensions), gives values of shape (n,).
    names : of the dimensions.
    base : points of the design, a power of two; base x (dimensions + 2) evaluations.
    """
    from SALib.analyze import sobol as analysis
    from SALib.sample import sobol as sampling

    problem = {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}
    levels = sampling.sample(problem, base, calc_second_order=False, seed=seed)
    values = np.asarray(lead(levels), dtype=float)
    if not np.ptp(values) > 0:
        return [Index(name, 0.0, 0.0, 0.0, 0.0) for name in names]
    result = analysis.analyze(problem, values, calc_second_order=False, num_resamples=100, seed=seed)
    rows = zip(names, *(result[key] for key in ("S1", "ST", "S1_conf", "ST_conf")), strict=True)
    return sorted((Index(row[0], *map(float, row[1:])) for row in rows), key=lambda index: -index.total)


def _percentiles(values: Floats) -> tuple[float, float, float]:
    """P10, P50 and P90 of what is priced; nan where nothing is."""
    finite = values if np.isfinite(values).all() else values[np.isfinite(values)]
    if not finite.size:
        return (np.nan, np.nan, np.nan)
    at = [round(level * (finite.size - 1)) for level in LEVELS]
    parted = np.partition(finite, at)
    return float(parted[at[0]]), float(parted[at[1]]), float(parted[at[2]])
