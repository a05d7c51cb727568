"""The replicas that one machine needs at any rate of arrivals, by simulation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.estimate.capacity import Machines
from distillcalc.estimate.fleet_search import FleetSearch, least_replicas
from distillcalc.estimate.simulation import Engine, Objectives, Requests, Simulation, Traffic
from distillcalc.estimate.step_time import StepTime

Floats = NDArray[np.float64]

CHUNK_TOKENS = 8192  # what engines compute in one step at most
RATES = 6  # at which fleets are simulated; between them they are interpolated
LOWEST = 1 / 100  # of the highest rate: below it the fleet is that of this rate


def engine_of_machine(m: Machines, i: int = 0, row: int = 0) -> Engine:
    """The engine that a simulation takes, of one machine in one scenario.

    Parameters
    ----------
    i, row : which machine and which scenario of the arrays.
    """

    def one(values: Any) -> float:
        array = np.asarray(values)
        return float(array[i if array.shape[0] > 1 else 0, row if array.shape[1] > 1 else 0, 0])

    step = StepTime(**{name: one(value) for name, value in vars(m.step).items()})
    most = int(m.max_sequences)
    room = max(one(m.free_bytes) / one(m.kv_bytes), 2.0)
    return Engine(step, room, max_sequences=most, chunk_tokens=max(CHUNK_TOKENS, most))


def within_window(traffic: Traffic, window: int | None) -> Traffic:
    """The same traffic with prompts cut so that prompt and output fit a context window; no real one is longer."""
    if window is None:
        return traffic
    inputs, outputs, thinking = traffic.lengths
    room = np.maximum(window - outputs - thinking, 1)
    return replace(traffic, input_tokens=np.minimum(inputs, room), output_tokens=outputs, thinking_tokens=thinking)


@dataclass(frozen=True, eq=False)
class SimulatedFleet:
    """Least fleets of one engine under one kind of traffic.

    Parameters
    ----------
    engine : one replica.
    traffic : lengths and burstiness, or requests to be replayed, faster or slower as the rate asks for.
    objectives : (what, level, limit [s]) each, as a user sees them.
    before_s : time that a request takes before the engine has it [s].
    seed : of the draws.
    """

    engine: Engine
    traffic: Traffic | Requests
    objectives: tuple[tuple[str, float, float], ...]
    before_s: float = 0.0
    seed: int = 0
    _found: dict[float, FleetSearch] = field(default_factory=dict, repr=False)

    @property
    def limits(self) -> Objectives:
        """The objectives of the engine itself."""
        return [(what, level, limit - self.offset_s(what)) for what, level, limit in self.objectives]

    def offset_s(self, what: str) -> float:
        """What a user sees beyond the engine's own latency [s]."""
        return 0.0 if what == "tpot" else self.before_s

    def quantile(self, simulation: Simulation, what: str, level: float) -> float:
        """A latency as a user sees it [s]."""
        return simulation.quantile(what, level) + self.offset_s(what)

    def at(self, rate_per_s: float) -> FleetSearch:
        """The least fleet at a rate.

        Raises
        ------
        InputError
            Where no number of replicas meets the objectives.
        """
        if rate_per_s not in self._found:
            if isinstance(self.traffic, Requests):
                traffic: Traffic | Requests = self.traffic.at_rate(rate_per_s)
            else:
                traffic = replace(self.traffic, rate_per_s=rate_per_s)
            self._found[rate_per_s] = least_replicas(self.engine, traffic, self.limits, seed=self.seed)
        return self._found[rate_per_s]

    def needed(self, rates_per_s: Floats) -> Floats:
        """Replicas at each rate: simulated at a few, interpolated between and rounded up; 1 at a rate of 0.

        Raises
        ------
        InputError
            As :meth:`at`.
        """
        rates = np.asarray(rates_per_s, dtype=float)
        top = float(rates.max())
        if top <= 0:
            return np.ones(rates.shape)
        some = np.maximum(rates, top * LOWEST)
        distinct = np.unique(some[rates > 0])
        tried = distinct if len(distinct) <= RATES else np.geomspace(distinct[0], top, RATES)
        tried[-1] = top
        fleets = np.maximum.accumulate([float(self.at(rate).replicas) for rate in tried.tolist()])
        return np.where(rates > 0, np.maximum(np.ceil(np.interp(some, tried, fleets) - 1e-9), 1.0), 1.0)
