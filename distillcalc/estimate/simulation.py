"""A serving engine request by request: continuous batching, step after step, behind a queue.

The closed forms of :mod:`.capacity` know means; this knows the queue. Requests come by a random process or as a log
has them, wait until the cache has room for them, get their prompts read in chunks beside the others' output, and
give a token a step until they end. How long a step takes is :mod:`.step_time`'s subject.

What it leaves out: a request is admitted only when the cache has room for all of its tokens, so that none is ever
pushed out again (engines that reserve less admit more and pay with preemption); prompts share no prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError
from distillcalc.estimate.step_time import StepTime
from distillcalc.workload.lengths import JointLengths, LognormalLengths, SampledLengths

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Objectives = Sequence[tuple[str, float, float]]

MEASURES = ("ttft", "tpot", "e2e", "wait")
MOST_REQUESTS = 1 << 27
MOST_OUTPUT_TOKENS = 1 << 35
IDLE_POWER_SHARE = 0.3
GREW_SHARE = 0.02
GREW_DEVIATIONS = 3.0


@dataclass(frozen=True)
class Engine:
    """One replica of a model, as its scheduler sees it.

    Parameters
    ----------
    step_time : how long a step takes; its constants are single numbers.
    kv_tokens : tokens that its cache holds.
    max_sequences : most requests admitted at a time.
    chunk_tokens : tokens computed in a step at most. Every decoding sequence gets its one, prompts get the rest,
        first come first served, and are cut where it ends (chunked prefill). None: while a prompt can be admitted,
        a step reads all such prompts whole and decodes nothing.

    Raises
    ------
    InputError
        For constants that are arrays or out of range, a step that takes no time, a cache without room for two
        tokens, or chunks smaller than ``max_sequences``.
    """

    step_time: StepTime
    kv_tokens: float
    max_sequences: int = 256
    chunk_tokens: int | None = 2048

    def __post_init__(self) -> None:
        if not (math.isfinite(self.kv_tokens) and 2 <= self.kv_tokens < 2**62):
            raise InputError(f"kv_tokens must be room for at least 2 tokens. Got {self.kv_tokens!r}")
        if self.max_sequences < 1 or int(self.max_sequences) != self.max_sequences:
            raise InputError(f"max_sequences must be a whole number, 1 or more. Got {self.max_sequences!r}")
        if self.chunk_tokens is not None and not self.max_sequences <= self.chunk_tokens < 2**62:
            raise InputError(
                f"chunk_tokens must be at least max_sequences ({self.max_sequences}), for each of them gets a token "
                f"in every step. Got {self.chunk_tokens}"
            )
        for name, value in zip(StepTime.__dataclass_fields__, self.constants, strict=True):
            highest = 1.0 if name in ("expert_miss", "overlap") else math.inf
            if not 0 <= value <= highest or math.isinf(value):
                range_text = "a share between 0 and 1" if highest == 1 else "a finite number of seconds, 0 or more"
                raise InputError(f"{name} of a step must be {range_text}. Got {value:g}")
        if not float(self.step_time.seconds(1, 1, 1)) > 0:
            raise InputError("a step of one sequence takes no time: fixed_s, weights_s or token_s must be above 0")

    @cached_property
    def constants(self) -> Floats:
        """The constants of the step time in the order of its fields, shape (11,)."""
        values = [np.asarray(getattr(self.step_time, field.name), dtype=float) for field in fields(StepTime)]
        if any(value.size != 1 for value in values):
            shapes = {field.name: value.shape for field, value in zip(fields(StepTime), values, strict=True)}
            raise InputError(f"a simulation is of one replica: every constant must be one number. Got shapes {shapes}")
        return np.array([value.item() for value in values])


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Requests:
    """Requests in order of arrival, as a log has them or as :meth:`Traffic.draw` makes them.

    Parameters
    ----------
    arrival_s : moments of arrival [s], not falling, shape (n,). All at one moment is a burst.
    input_tokens : prompt lengths, 1 or more, whole, shape (n,) or one number.
    output_tokens : visible output, 1 or more, whole, shape (n,) or one number.
    thinking_tokens : output before the first visible token, whole, shape (n,) or one number.

    Raises
    ------
    InputError
        For no requests, shapes that differ, moments that are negative, not finite or not sorted, or lengths that
        are not whole or too small.
    """

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    thinking_tokens: Ints

    def __init__(
        self,
        arrival_s: ArrayLike,
        input_tokens: ArrayLike,
        output_tokens: ArrayLike,
        thinking_tokens: ArrayLike = 0,
    ) -> None:
        arrival = np.array(arrival_s, dtype=float)  # a copy: contiguous, and nobody else's
        if arrival.ndim != 1 or not arrival.size:
            raise InputError(f"arrival_s must be a row of moments, at least one. Got shape {arrival.shape}")
        if len(arrival) >= MOST_REQUESTS:
            raise InputError(f"at most {MOST_REQUESTS:,} requests can be simulated at a time. Got {len(arrival):,}")
        if not np.isfinite(arrival).all() or arrival[0] < 0:
            at = int(np.argmin(np.isfinite(arrival) & (arrival >= 0)))
            raise InputError(f"arrival_s must be finite and 0 or more. Got {arrival[at]:g} at position {at}")
        falls = np.flatnonzero(np.diff(arrival) < 0)
        if falls.size:
            at = int(falls[0])
            raise InputError(
                f"arrival_s must be sorted. Got {arrival[at + 1]:g} after {arrival[at]:g} at position {at + 1}; "
                "sort the requests, their lengths with them"
            )
        object.__setattr__(self, "arrival_s", arrival)
        for name, values, least in (
            ("input_tokens", input_tokens, 1),
            ("output_tokens", output_tokens, 1),
            ("thinking_tokens", thinking_tokens, 0),
        ):
            object.__setattr__(self, name, _whole(name, values, least, len(arrival)))
        if not int(self.all_output_tokens.sum()) < MOST_OUTPUT_TOKENS:
            raise InputError(f"at most {MOST_OUTPUT_TOKENS:,} output tokens can be simulated at a time")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def all_output_tokens(self) -> Ints:
        """Thinking and visible output, shape (n,)."""
        return self.thinking_tokens + self.output_tokens

    @property
    def rate_per_s(self) -> float:
        """Gaps between arrivals / time between the first and the last [1/s]; infinite for a burst."""
        span = float(self.arrival_s[-1] - self.arrival_s[0])
        return (len(self) - 1) / span if span > 0 else math.inf

    def at_rate(self, rate_per_s: float) -> Requests:
        """The same requests with all gaps stretched or shrunk alike, so that they come at another rate [1/s].

        Raises
        ------
        InputError
            For a rate that is not above 0, or a burst, which has no gaps to stretch.
        """
        if not (math.isfinite(rate_per_s) and rate_per_s > 0):
            raise InputError(f"rate_per_s must be above 0. Got {rate_per_s!r}")
        if math.isinf(self.rate_per_s):
            raise InputError("all requests arrive at one moment: there are no gaps to stretch to another rate")
        arrival = (self.arrival_s - self.arrival_s[0]) * (self.rate_per_s / rate_per_s)
        return Requests(arrival, self.input_tokens, self.output_tokens, self.thinking_tokens)


def _whole(name: str, values: ArrayLike, least: int, count: int) -> Ints:
    given = np.asarray(values)
    if given.ndim and given.shape != (count,):
        raise InputError(f"{name} must have one value, or one for each of {count} requests. Got shape {given.shape}")
    numbers = np.asarray(given, dtype=float)
    wrong = ~((numbers >= least) & (numbers < 2**40) & (numbers == np.floor(numbers)))
    if wrong.any():
        at = int(np.argmax(wrong))
        found = f"{numbers.ravel()[at]:g}" + (f" at position {at}" if given.ndim else "")
        raise InputError(f"{name} must be whole numbers of tokens, {least} or more. Got {found}")
    return np.array(np.broadcast_to(given.astype(np.int64), (count,)))


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Traffic:
    """Requests at random: a rate, how bursty it is, and lengths to draw from.

    Parameters
    ----------
    rate_per_s : mean arrivals [1/s].
    input_tokens, output_tokens, thinking_tokens : lengths as in :class:`Requests`, shape (m,) or one number; a
        request gets those of one position together, every position equally likely.
    interarrival_cv : standard deviation / mean of the gaps, which are Gamma: 1 is Poisson, 0 is a clock.

    Raises
    ------
    InputError
        For a rate that is not above 0, a negative CV, or lengths as in :class:`Requests`.
    """

    rate_per_s: float
    input_tokens: ArrayLike
    output_tokens: ArrayLike
    thinking_tokens: ArrayLike = 0
    interarrival_cv: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_per_s) and self.rate_per_s > 0):
            raise InputError(f"rate_per_s must be above 0. Got {self.rate_per_s!r}")
        if not (math.isfinite(self.interarrival_cv) and self.interarrival_cv >= 0):
            raise InputError(f"interarrival_cv must be 0 or more. Got {self.interarrival_cv!r}")
        _ = self.lengths

    @classmethod
    def of(
        cls,
        rate_per_s: float,
        lengths: JointLengths,
        thinking_tokens: ArrayLike = 0,
        *,
        interarrival_cv: float = 1.0,
        size: int = 20_000,
        seed: int = 0,
    ) -> Traffic:
        """Lengths that :func:`joint_sample` draws once, ``size`` of them, from a distribution of one scenario."""
        inputs, outputs = joint_sample(lengths, size, seed)
        return cls(rate_per_s, inputs, outputs, thinking_tokens, interarrival_cv)

    @cached_property
    def lengths(self) -> tuple[Ints, Ints, Ints]:
        """Input, visible output and thinking tokens, each of shape (m,)."""
        sizes = {np.size(v) for v in (self.input_tokens, self.output_tokens, self.thinking_tokens) if np.ndim(v)}
        if len(sizes) > 1 or 0 in sizes:
            raise InputError(f"lengths are drawn together and must be as many on each side. Got {sorted(sizes)}")
        as_requests = Requests(
            np.zeros(sizes.pop() if sizes else 1), self.input_tokens, self.output_tokens, self.thinking_tokens
        )
        return as_requests.input_tokens, as_requests.output_tokens, as_requests.thinking_tokens

    def draw(self, count: int, seed: int = 0) -> Requests:
        """So many requests; the same seed gives the same ones, and at another rate the same ones closer together.

        Raises
        ------
        InputError
            For a count below 1.
        """
        if count < 1:
            raise InputError(f"count must be 1 or more. Got {count}")
        random = np.random.default_rng(seed)
        if self.interarrival_cv > 0:
            shape = 1 / self.interarrival_cv**2
            gaps = random.standard_gamma(shape, count) / shape
        else:
            gaps = np.ones(count)
        row = random.integers(len(self.lengths[0]), size=count)
        return Requests(np.cumsum(gaps) / self.rate_per_s, *(side[row] for side in self.lengths))


def joint_sample(lengths: JointLengths, count: int, seed: int = 0) -> tuple[Ints, Ints]:
    """Pairs of input and output lengths [tokens], rounded to whole tokens and no shorter than one, shape (count,).

    Raises
    ------
    InputError
        For lengths of several scenarios.
    """
    if np.size(lengths.mean_input) != 1 or np.size(lengths.mean_output) != 1:
        raise InputError(f"a simulation is of one scenario. Got lengths of {np.size(lengths.mean_input)}")
    random = np.random.default_rng(seed)
    means = float(np.ravel(lengths.mean_input)[0]), float(np.ravel(lengths.mean_output)[0])
    if isinstance(lengths, SampledLengths):
        points = lengths.points
        row = random.choice(len(points.weights), size=count, p=points.weights)
        pairs: Any = [
            values[row] * (mean / base if base else 1.0)
            for values, mean, base in zip((points.inputs, points.outputs), means, points.means, strict=True)
        ]
    elif isinstance(lengths, LognormalLengths):
        z, other = random.standard_normal((2, count))
        y = lengths.correlation * z + math.sqrt(max(1 - lengths.correlation**2, 0.0)) * other
        pairs = [
            mean * np.exp(sigma * normal - sigma**2 / 2)
            for mean, sigma, normal in zip(means, (lengths.sigma_input, lengths.sigma_output), (z, y), strict=True)
        ]
    else:
        raise InputError(f"lengths must be log-normal or a sample. Got {type(lengths).__name__}")
    inputs, outputs = (np.maximum(np.rint(side), 1).astype(np.int64) for side in pairs)
    return inputs, outputs


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Simulation:
    """What became of the requests.

    Parameters
    ----------
    requests : as given, n of them.
    replicas : how many served them.
    start_s : moment at which the prompt began to be read [s], shape (n,); nan where it never did.
    ttft_s : first visible token - arrival [s], shape (n,); nan for one that was not reached, here and below.
    tpot_s : (last - first visible token) / (visible tokens - 1) [s], shape (n,); nan for a single visible token.
    e2e_s : last token - arrival [s], shape (n,).
    finish_s : moment of the last token [s], shape (n,).
    replica : which one served it, shape (n,); -1 for none.
    waiting : requests that waited for admission when it came, itself not counted, shape (n,).
    counted_from : position of the first request that percentiles and goodput count; those before warm it up.
    end_s : moment of the last completion, or at which the simulation was stopped [s].
    mean_in_system : requests waiting or being served, averaged over the time from the first arrival to the end.
    steps : engine steps, those that were under way at the end included, shape (replicas,).
    busy_s : time in steps [s], shape (replicas,).
    roofline_s : time in steps beyond their fixed and their sequences' part [s], reading or computing, shape
        (replicas,).
    window_s : time over which ``utilisation`` and ``mean_batch`` are taken [s]: from the first counted arrival to the
        last one, or to the end where those are one moment.
    utilisation : share of the window in which a replica was in a step, mean over replicas.
    mean_batch : requests worked on in a step, averaged over the busy time in the window.
    """

    requests: Requests
    replicas: int
    start_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    finish_s: Floats
    replica: Ints
    waiting: Ints
    counted_from: int
    end_s: float
    mean_in_system: float
    steps: Ints
    busy_s: Floats
    roofline_s: Floats
    window_s: float
    utilisation: float
    mean_batch: float

    @property
    def completed(self) -> int:
        """Requests that got their last token."""
        return int(np.isfinite(self.finish_s).sum())

    @property
    def in_flight(self) -> int:
        """Requests that had come but not ended when the simulation was stopped."""
        return int((self.requests.arrival_s <= self.end_s).sum()) - self.completed

    @property
    def wait_s(self) -> Floats:
        """Time from arrival until the prompt begins to be read [s], shape (n,)."""
        return self.start_s - self.requests.arrival_s

    def values(self, what: str) -> Floats:
        """The counted requests' ttft, tpot, e2e or wait [s], shape (n - counted_from,).

        Raises
        ------
        InputError
            For another name.
        """
        if what not in MEASURES:
            raise InputError(f"what is measured of a request is one of {', '.join(MEASURES)}. Got {what!r}")
        found: Floats = getattr(self, f"{what}_s")
        return found[self.counted_from :]

    def quantile(self, what: str, level: float) -> float:
        """The least value [s] that a share ``level`` of the counted requests does not exceed; nan where none has one.

        Parameters
        ----------
        what : "ttft", "tpot", "e2e" or "wait".
        level : 0..1.

        Raises
        ------
        InputError
            For another name or level.
        """
        if not 0 <= level <= 1:
            raise InputError(f"a level is a share between 0 and 1, 0.95 for p95. Got {level!r}")
        values = self.values(what)
        values = values[np.isfinite(values)]
        return float(np.quantile(values, level, method="inverted_cdf")) if values.size else math.nan

    def meets(self, objectives: Objectives) -> bool:
        """Whether every (what, level, limit in s) holds: an unfinished request meets none, a lone token any TPOT."""
        return all(np.mean(self._within(what, limit)) >= level for what, level, limit in objectives)

    def goodput_per_s(self, objectives: Objectives) -> float:
        """Counted requests that are each within the limit of every objective (what, level, limit in s) [1/s].

        Their share x the rate of arrivals; where all came at one moment, x their number / the time until the end.
        """
        good = np.ones(len(self.requests) - self.counted_from, dtype=np.bool_)
        for what, _, limit in objectives:
            good &= self._within(what, limit)
        arrived = self.requests.arrival_s[self.counted_from :]
        span = float(arrived[-1] - arrived[0])
        rate = (len(arrived) - 1) / span if span > 0 else len(arrived) / max(self.end_s - float(arrived[0]), 1e-300)
        return float(good.mean()) * rate

    def _within(self, what: str, limit: float) -> NDArray[np.bool_]:
        values = self.values(what)
        within = values <= limit
        if what == "tpot":
            within |= np.isfinite(self.values("e2e")) & (self.requests.output_tokens[self.counted_from :] == 1)
        return within

    @property
    def queue_grew(self) -> bool:
        """Whether more and more requests waited for admission: the load is more than the replicas can serve.

        Compared are the mean number waiting that the last tenth of the arrivals met and that the middle tenth met. It
        grew if they differ by more than 2% of the arrivals in between, and by more than three times their square
        root, which is how far a Poisson count strays. An overload smaller than that does not show in so few requests.
        """
        n = len(self.requests)
        if n < 20 or self.requests.arrival_s[0] == self.requests.arrival_s[-1]:
            return False  # a burst has no rate that could be too high
        tenth = n // 10
        middle = (n - tenth) // 2
        between = n - tenth - middle
        growth = self.waiting[-tenth:].mean() - self.waiting[middle : middle + tenth].mean()
        return bool(growth > max(GREW_SHARE * between, GREW_DEVIATIONS * math.sqrt(between)))

    def energy_j(self, tdp_w: float, gpus: int = 1, *, idle_share: float = IDLE_POWER_SHARE) -> float:
        """Energy of all replicas from the first arrival to the end [J].

        Parameters
        ----------
        tdp_w : rated power of a GPU [W].
        gpus : per replica.
        idle_share : power of an idle GPU / rated power. An assumption, as is the straight line below.

        Raises
        ------
        InputError
            For a power or a number of GPUs that is not above 0, or a share outside 0..1.

        Notes
        -----
        power = idle + (rated - idle) x share of the time in which the GPU reads or computes (``roofline_s``).
        """
        if not (tdp_w > 0 and gpus > 0 and 0 <= idle_share <= 1):
            raise InputError(
                f"tdp_w and gpus must be above 0 and idle_share within 0..1. Got {tdp_w!r}, {gpus!r}, {idle_share!r}"
            )
        lasted = self.replicas * (self.end_s - float(self.requests.arrival_s[0]))
        active = float(self.roofline_s.sum())
        return tdp_w * gpus * (idle_share * lasted + (1 - idle_share) * active)

    def wh_per_request(self, tdp_w: float, gpus: int = 1, *, idle_share: float = IDLE_POWER_SHARE) -> float:
        """:meth:`energy_j` / completed requests / 3600 [Wh]; nan where none completed."""
        energy = self.energy_j(tdp_w, gpus, idle_share=idle_share)
        return energy / self.completed / 3600 if self.completed else math.nan


def simulate(
    engine: Engine,
    requests: Requests,
    *,
    replicas: int = 1,
    queue: Literal["shortest", "central"] = "shortest",
    warm_up: float = 0.0,
    until_s: float | None = None,
) -> Simulation:
    """Serve requests on replicas and say what became of each.

    Parameters
    ----------
    engine : one replica.
    requests : in order of arrival.
    replicas : how many.
    queue : "shortest" sends an arrival to the replica with the fewest requests in it, the first of equals;
        "central" keeps one queue, from which a replica takes between two steps what it can admit.
    warm_up : share of the requests, the first ones, that percentiles and goodput leave out.
    until_s : moment at which to stop [s]; None serves all.

    Raises
    ------
    InputError
        For a request with more tokens than the cache of a replica holds, or parameters out of range.

    Notes
    -----
    A request is admitted, first come first served, when input + thinking + output fit what is free of the cache.
    The step that reads the last of the prompt gives output token 1. The step that gives token k reads
    input + k - 1 tokens of cache. At one moment steps end first, then requests arrive, then steps start.
    """
    if replicas < 1 or int(replicas) != replicas:
        raise InputError(f"replicas must be a whole number, 1 or more. Got {replicas!r}")
    if queue not in ("shortest", "central"):
        raise InputError(f"queue must be 'shortest' or 'central'. Got {queue!r}")
    if not 0 <= warm_up < 1:
        raise InputError(f"warm_up must be a share of the requests, at least 0 and below 1. Got {warm_up!r}")
    arrival, outputs = requests.arrival_s, requests.all_output_tokens
    if until_s is not None and not until_s > arrival[0]:
        raise InputError(f"until_s must be after the first arrival at {arrival[0]:g} s. Got {until_s!r}")
    needs = requests.input_tokens + outputs
    capacity = int(engine.kv_tokens)
    if int(needs.max()) > capacity:
        at = int(np.argmax(needs))
        raise InputError(
            f"request {at} has {needs[at]:,} tokens, {requests.input_tokens[at]:,} in and {outputs[at]:,} out, and the "
            f"cache of a replica holds {capacity:,}: {needs[at] - capacity:,} too few. "
            f"{int((needs > capacity).sum()):,} of {len(needs):,} requests can never be served. More GPUs a replica, a "
            "lower precision or a limit on the length of requests would do"
        )

    from distillcalc.estimate import simulation_core as core

    n = len(requests)
    first = min(int(warm_up * n), n - 1)
    until = math.inf if until_s is None else float(until_s)
    from_s, to_s = float(arrival[first]), float(arrival[-1])
    if not to_s > from_s:
        to_s = math.inf
    work = core.Work(
        arrival,
        requests.input_tokens,
        outputs,
        requests.thinking_tokens,
        *(np.full(n, np.nan) for _ in range(3)),
        *(np.full(n, core.NOBODY, dtype=np.int64) for _ in range(3)),
    )
    state = core.empty_replicas(replicas, engine.max_sequences)
    end_s, area = core.run(
        engine.constants,
        engine.chunk_tokens or 0,
        engine.max_sequences,
        capacity,
        queue == "central",
        until,
        from_s,
        to_s,
        work,
        state,
    )
    visible = requests.output_tokens
    after_first = np.where(visible > 1, visible - 1, np.nan)
    window = max(min(to_s, end_s) - from_s, 0.0)
    busy_in_window = float(state.window_busy_s.sum())
    return Simulation(
        requests=requests,
        replicas=replicas,
        start_s=work.start_s,
        ttft_s=work.first_s - arrival,
        tpot_s=(work.finish_s - work.first_s) / after_first,
        e2e_s=work.finish_s - arrival,
        finish_s=work.finish_s,
        replica=work.replica,
        waiting=work.waiting,
        counted_from=first,
        end_s=end_s,
        mean_in_system=area / (end_s - float(arrival[0])),
        steps=state.all_steps,
        busy_s=state.busy_s,
        roofline_s=state.roofline_s,
        window_s=window,
        utilisation=busy_in_window / (replicas * window) if window > 0 else 0.0,
        mean_batch=float(state.window_batch_s.sum()) / busy_in_window if busy_in_window > 0 else 0.0,
    )


def replicate(
    engine: Engine,
    traffic: Traffic,
    count: int,
    seeds: Iterable[int],
    *,
    replicas: int = 1,
    queue: Literal["shortest", "central"] = "shortest",
    warm_up: float = 0.0,
    threads: int = 2,
) -> tuple[Simulation, ...]:
    """:func:`simulate` of ``count`` requests drawn from each seed, side by side on threads.

    Each result depends on its seed alone, not on ``threads``; the spread between them is the error of the simulation.

    Raises
    ------
    InputError
        As :func:`simulate` and :meth:`Traffic.draw`, and for less than one thread.
    """
    if threads < 1:
        raise InputError(f"threads must be 1 or more. Got {threads}")

    def one(seed: int) -> Simulation:
        requests = traffic.draw(count, seed)
        return simulate(engine, requests, replicas=replicas, queue=queue, warm_up=warm_up)

    rest = list(seeds)
    if len(rest) < 2 or threads == 1:
        return tuple(one(seed) for seed in rest)
    with ThreadPoolExecutor(threads) as pool:
        return tuple(pool.map(one, rest))
