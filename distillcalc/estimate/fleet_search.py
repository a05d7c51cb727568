"""The least number of replicas whose simulated latencies meet the objectives at the peak."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.estimate.simulation import Engine, Objectives, Requests, Simulation, Traffic, simulate

Ints = NDArray[np.int64]
Queue = Literal["shortest", "central"]

TAIL_REQUESTS = 200  # beyond the highest percentile
LEAST_TAIL_REQUESTS = 10
STAYS = 20  # a simulation lasts that many times as long as a request alone
LEAST_REQUESTS = 2_000
MOST_REQUESTS = 400_000
MOST_BURSTS = 25.0
LATENCIES = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, eq=False)  # simulations have no truth value
class FleetSearch:
    """The least fleet, what it does, and what one replica fewer would do.

    Parameters
    ----------
    replicas : the least number found to meet every objective with a queue that does not grow.
    at : the simulation of that many.
    one_fewer : of one fewer, with the same requests; None where that would be none.
    stable_from : fewest replicas that the work per request allows, :func:`stability_bound`.
    floor_s : each objective's percentile [s] with every request alone on a replica, by its name, "ttft_p95".
    tried : the numbers simulated, in order.
    """

    replicas: int
    at: Simulation
    one_fewer: Simulation | None
    stable_from: int
    floor_s: dict[str, float]
    tried: tuple[int, ...]


def replica_seconds(engine: Engine, traffic: Traffic) -> float:
    """The least time [s] that a request keeps a replica busy, however well requests are batched, mean over lengths.

    Notes
    -----
    Steps per request, k, are at least the largest of: output / max_sequences, E[tokens held x output] / kv_tokens
    (in every step the sequences' reserved tokens fit the cache), and, with chunks, tokens computed / chunk. Then
    seconds >= k fixed + sequence output + exchange tokens + overlap max(read, compute) + (1 - overlap) (read + compute)
    with read = k weights + kv contexts and compute = token tokens + pair input^2 / 2 summed over a request's steps: a
    sum of maxima is never below the maximum of the sums. Steps of one token rearrange no weights: none are counted.
    """
    inputs, visible, thinking = (side.astype(float) for side in traffic.lengths)
    output = visible + thinking
    fixed, sequence, weights, experts, miss, kv, token, pair, overlap, exchange, _ = engine.constants.tolist()
    computed = float(np.mean(inputs + output - 1))
    steps = max(
        float(np.mean(output)) / engine.max_sequences,
        float(np.mean((inputs + output) * output)) / int(engine.kv_tokens),
        computed / engine.chunk_tokens if engine.chunk_tokens else 0.0,
    )
    # Token k of an output reads input + k - 1 tokens, the first none: the prompt's own step gives it.
    contexts = float(np.mean((output - 1) * inputs + output * (output - 1) / 2))
    read = steps * (weights + experts * (1 - miss)) + kv * contexts
    compute = token * computed + pair * float(np.mean(inputs**2)) / 2
    roofline = overlap * max(read, compute) + (1 - overlap) * (read + compute)
    return float(steps * fixed + sequence * np.mean(output) + exchange * computed + roofline)


def stability_bound(engine: Engine, traffic: Traffic) -> int:
    """Fewest replicas that can keep up in the long run: rate x :func:`replica_seconds`, up to the next whole number.

    Fewer are overloaded for certain; as many may be, where batches are smaller than the bound supposes.
    """
    return max(1, math.ceil(traffic.rate_per_s * replica_seconds(engine, traffic) - 1e-9))


def alone(engine: Engine, traffic: Traffic) -> Simulation:
    """Each of the traffic's lengths once, alone on a replica: the latencies that no fleet goes below, shape (m,).

    Raises
    ------
    InputError
        For lengths that the cache of a replica does not hold.
    """
    longest = Requests([0.0], *(side.max() for side in traffic.lengths))
    endless = Engine(engine.step_time, 2**61, engine.max_sequences, engine.chunk_tokens)
    gap = simulate(endless, longest).end_s * (1 + 1e-9)
    return simulate(engine, Requests(gap * np.arange(len(traffic.lengths[0])), *traffic.lengths))


def _objective_name(what: str, level: float) -> str:
    return f"{what}_p{level * 100:g}"


def _checked(objectives: Objectives) -> None:
    for what, level, limit in objectives:
        if what not in LATENCIES:
            raise InputError(f"an objective is on {', '.join(LATENCIES)}. Got {what!r}")
        if not 0 < level < 1:
            raise InputError(f"the level of an objective is a share between 0 and 1, 0.95 for p95. Got {level!r}")
        if not (math.isfinite(limit) and limit > 0):
            raise InputError(f"the limit of {_objective_name(what, level)} must be seconds above 0. Got {limit!r}")


def requests_needed(
    stays: Simulation, rate_per_s: float, objectives: Objectives, warm_up: float, interarrival_cv: float = 1.0
) -> int:
    """Requests that a simulation takes to tell the percentiles and to come to its steady state.

    200 beyond the highest percentile, arrivals over 20 times the mean time that a request of ``stays`` takes, 2,000 at
    least; where they come in bursts (1 + CV^2) / 2 times as many, 25 times at most; and the ones that warm it up. No
    more than 400,000.
    """
    tail = max((TAIL_REQUESTS / (1 - level) for _, level, _ in objectives), default=0.0)
    bursts = min(max((1 + interarrival_cv**2) / 2, 1.0), MOST_BURSTS)
    steady = STAYS * rate_per_s * float(np.nanmean(stays.e2e_s))
    return math.ceil(min(max(bursts * max(tail, LEAST_REQUESTS), steady) / (1 - warm_up), MOST_REQUESTS) - 1e-6)


def least_replicas(
    engine: Engine,
    peak: Traffic | Requests,
    objectives: Objectives,
    *,
    count: int | None = None,
    seed: int = 0,
    warm_up: float = 0.1,
    queue: Queue = "shortest",
    most: int = 4096,
) -> FleetSearch:
    """The least number of replicas that meets every objective at the peak, and does not fall behind.

    Parameters
    ----------
    engine : one replica.
    peak : the traffic in the busiest hour, of which every size of fleet gets the same requests; or those requests.
    objectives : (what, level, limit [s]) each, what "ttft", "tpot" or "e2e"; none asks only to keep up.
    count : requests drawn; None takes :func:`requests_needed`.
    seed : of the draw.
    warm_up : share of the requests that the percentiles leave out.
    queue : as in :func:`.simulation.simulate`.
    most : replicas at most.

    Raises
    ------
    InputError
        For a limit below what a request alone takes, more replicas than ``most``, too few requests for a
        percentile, objectives that cannot be, and as :func:`.simulation.simulate`.

    Notes
    -----
    Under load a request stays longer than alone: where the fleet found shows that the simulation was too short to be
    steady, the search is made again with as many requests as that fleet's own times ask for.

    From :func:`stability_bound` (1 for given requests) in steps of 1, 2, 4, ... to a fleet that does, then by
    bisection between the last that did not and the first that did. One fewer than the answer was simulated and does
    not do, or is below the bound. That more replicas never do worse is assumed.
    """
    _checked(objectives)
    if most < 1:
        raise InputError(f"most must be 1 replica or more. Got {most}")
    if not 0 <= warm_up < 1:
        raise InputError(f"warm_up must be a share of the requests, at least 0 and below 1. Got {warm_up!r}")
    drawn = isinstance(peak, Traffic)
    lengths = peak if isinstance(peak, Traffic) else Traffic(1.0, *_sides(peak))
    by_itself = alone(engine, lengths)
    floors = _floors(by_itself, objectives)
    if isinstance(peak, Traffic):
        needed = requests_needed(by_itself, peak.rate_per_s, objectives, warm_up, peak.interarrival_cv)
        requests = peak.draw(needed if count is None else count, seed)
    else:
        requests = peak
    _enough(len(requests) - min(int(warm_up * len(requests)), len(requests) - 1), objectives)
    stable_from = stability_bound(engine, lengths) if drawn else 1
    if stable_from > most:
        raise InputError(
            f"{lengths.rate_per_s:g} requests/s keep at least {stable_from:,} replicas busy, more than the {most:,} "
            "allowed. A faster engine or a larger most would do"
        )

    found, works, tried = _search(engine, requests, objectives, stable_from, most, queue, warm_up)
    for _ in range(LONGER):
        if not isinstance(peak, Traffic) or count is not None:
            break
        needed = requests_needed(found[works], peak.rate_per_s, objectives, warm_up, peak.interarrival_cv)
        if needed <= len(requests):
            break
        requests = peak.draw(needed, seed)
        found, works, tried = _search(engine, requests, objectives, stable_from, most, queue, warm_up)
    return FleetSearch(works, found[works], found.get(works - 1), stable_from, floors, tried)


LONGER = 2  # searches at most beyond the first


def _search(
    engine: Engine,
    requests: Requests,
    objectives: Objectives,
    stable_from: int,
    most: int,
    queue: Queue,
    warm_up: float,
) -> tuple[dict[int, Simulation], int, tuple[int, ...]]:
    """The simulations by number of replicas, the least number that does, and the numbers tried in order."""
    found: dict[int, Simulation] = {}

    def does(replicas: int) -> bool:
        one = simulate(engine, requests, replicas=replicas, queue=queue, warm_up=warm_up)
        found[replicas] = one
        return one.meets(objectives) and not one.queue_grew

    fails, step = stable_from - 1, 1
    works = stable_from
    while not does(works):
        if works == most:
            raise InputError(f"{most:,} replicas do not do: {_shortcomings(found[most], objectives)}")
        fails, works = works, min(works + step, most)
        step *= 2
    while works - fails > 1:
        middle = (works + fails) // 2
        if does(middle):
            works = middle
        else:
            fails = middle
    tried = tuple(found)
    if works > 1 and works - 1 not in found:
        does(works - 1)
    return found, works, tried


def simulate_steady(
    engine: Engine,
    traffic: Traffic,
    replicas: int,
    *,
    count: int | None = None,
    seed: int = 0,
    warm_up: float = 0.1,
    queue: Queue = "shortest",
) -> Simulation:
    """A given fleet under a load that it can serve.

    Parameters as in :func:`least_replicas`.

    Raises
    ------
    InputError
        For a load that the fleet cannot keep up with; it says how many replicas can. And as
        :func:`.simulation.simulate`.
    """
    if count is None:
        count = requests_needed(alone(engine, traffic), traffic.rate_per_s, [("e2e", 0.99, 1.0)], warm_up)
    found = simulate(engine, traffic.draw(count, seed), replicas=replicas, queue=queue, warm_up=warm_up)
    if found.queue_grew or replicas < stability_bound(engine, traffic):
        least = least_replicas(engine, traffic, [], count=count, seed=seed, warm_up=warm_up, queue=queue).replicas
        raise InputError(
            f"{replicas} replica{'s' if replicas > 1 else ''} cannot keep up with {traffic.rate_per_s:g} requests/s: "
            f"their queue grows for as long as the load lasts. {least} keep up with it"
        )
    return found


def _sides(requests: Requests) -> tuple[Ints, Ints, Ints]:
    return requests.input_tokens, requests.output_tokens, requests.thinking_tokens


def _floors(by_itself: Simulation, objectives: Objectives) -> dict[str, float]:
    """The percentile of each objective with every request alone; refuses a limit below it."""
    floors = {}
    for what, level, limit in objectives:
        name = _objective_name(what, level)
        floors[name] = by_itself.quantile(what, level)
        if not by_itself.meets([(what, level, limit)]):
            raise InputError(
                f"{name} must be below {limit:g} s, and is {floors[name]:.4g} s with every request alone on a "
                "replica: no number of replicas meets it. A faster GPU, more GPUs a replica or a smaller model would"
            )
    return floors


def _enough(counted: int, objectives: Objectives) -> None:
    for what, level, _ in objectives:
        beyond = counted * (1 - level)
        if beyond < LEAST_TAIL_REQUESTS - 1e-6:
            least = math.ceil(LEAST_TAIL_REQUESTS / (1 - level) - 1e-6)
            raise InputError(
                f"{_objective_name(what, level)} needs at least {least:,} requests after the warm-up. Got {counted:,}"
            )


def _shortcomings(one: Simulation, objectives: Objectives) -> str:
    """What a simulated fleet misses, in words."""
    missed = [
        f"{_objective_name(what, level)} is {one.quantile(what, level):.4g} s, the limit {limit:g} s"
        for what, level, limit in objectives
        if not one.meets([(what, level, limit)])
    ]
    return "; ".join(missed) or "the queue grows"
