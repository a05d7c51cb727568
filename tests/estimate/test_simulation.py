"""The simulation against a plain one step by step, queueing theory, another simulator, and by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.estimate import simulation_core as core
from distillcalc.estimate.simulation import (
    Engine,
    Requests,
    Simulation,
    Traffic,
    joint_sample,
    replicate,
    simulate,
)
from distillcalc.estimate.step_time import StepTime
from distillcalc.workload.lengths import LognormalLengths, Points, SampledLengths
from tests.estimate.plain_simulation import Request, plain_simulation

FIXED = StepTime(1e-3, 0, 0, 0, 1, 0, 0, 0, 1)  # a millisecond a step, whatever it does
LLM_7B = StepTime(2e-3, 2e-5, 5e-3, 0, 1, 5e-8, 1.5e-5, 1e-10, 1)


@st.composite
def step_times(draw: st.DrawFn) -> StepTime:
    """Constants of which each can be nothing, so that the kink between reading and computing lies anywhere."""

    def some(highest: float) -> float:
        return draw(st.one_of(st.just(0.0), st.floats(highest / 100, highest)))

    return StepTime(
        fixed_s=draw(st.floats(1e-4, 5e-3)),
        sequence_s=some(1e-4),
        weights_s=some(5e-3),
        experts_s=some(5e-3),
        expert_miss=draw(st.floats(0, 1)),
        kv_s=some(1e-4),
        token_s=some(2e-3),
        pair_s=some(1e-5),
        overlap=draw(st.floats(0, 1)),
        exchange_s=some(1e-4),
        repack_s=some(5e-3),
    )


@dataclasses.dataclass
class Case:
    engine: Engine
    requests: Requests
    replicas: int
    queue: Any

    def plain(self, until: float = math.inf) -> tuple[list[Request], list[Any]]:
        r = self.requests
        columns = (r.arrival_s, r.input_tokens, r.output_tokens, r.thinking_tokens)
        requests = [Request(a, i, o, t) for a, i, o, t in zip(*(column.tolist() for column in columns), strict=True)]
        fleet = plain_simulation(
            lambda *step: float(self.engine.step_time.seconds(*step)),
            requests,
            kv=int(self.engine.kv_tokens),
            slots=self.engine.max_sequences,
            chunk=self.engine.chunk_tokens,
            replicas=self.replicas,
            central=self.queue == "central",
            until=until,
        )
        return requests, fleet

    def simulated(self, **more: Any) -> Simulation:
        return simulate(self.engine, self.requests, replicas=self.replicas, queue=self.queue, **more)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few requests and scarce slots, cache and tokens a step; some come together."""
    count = draw(st.integers(1, 25))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    gaps = random.exponential(draw(st.sampled_from([1e-3, 1e-2, 1e-1])), count)
    replicas, queue = draw(st.integers(1, 4)), draw(st.sampled_from(["shortest", "central"]))
    if replicas == 1 or queue == "shortest":
        # Not where replicas take from one queue: in step with each other, the last bit would say which takes first.
        gaps[random.random(count) < draw(st.sampled_from([0.0, 0.0, 0.5]))] = 0.0
    inputs = random.integers(1, draw(st.sampled_from([2, 40])) + 1, count)
    outputs = random.integers(1, draw(st.sampled_from([1, 4, 60])) + 1, count)
    thinking = random.integers(0, 20, count) * draw(st.booleans())
    slots = draw(st.integers(1, 6))
    engine = Engine(
        draw(step_times()),
        kv_tokens=int((inputs + outputs + thinking).max()) + draw(st.integers(0, 150)),
        max_sequences=slots,
        chunk_tokens=draw(st.one_of(st.none(), st.integers(slots, 50))),
    )
    requests = Requests(np.cumsum(gaps), inputs, outputs, thinking)
    return Case(engine, requests, replicas, queue)


# The plain simulation, step by step


@given(cases())
@settings(max_examples=300)
def test_jumping_over_steps_gives_what_single_steps_give(case: Case) -> None:
    plain, fleet = case.plain()
    found = case.simulated()
    assert [r.replica for r in plain] == found.replica.tolist()
    for name, values in {
        "start": found.start_s,
        "first": found.ttft_s + case.requests.arrival_s,
        "finish": found.finish_s,
    }.items():
        np.testing.assert_allclose(values, [getattr(r, name) for r in plain], rtol=1e-9, err_msg=name)
    assert [replica.steps for replica in fleet] == found.steps.tolist()
    np.testing.assert_allclose(found.busy_s, [replica.busy for replica in fleet], rtol=1e-9, atol=1e-15)


@given(cases(), st.integers(0, 2**32))
@settings(max_examples=100)
def test_what_is_stopped_early_is_what_had_ended_by_then(case: Case, seed: int) -> None:
    whole = case.simulated()
    arrival = case.requests.arrival_s
    share = np.random.default_rng(seed).uniform(0.05, 0.95)  # a half could be the very end of a step
    until = arrival[0] + share * (whole.end_s - arrival[0])
    stopped = case.simulated(until_s=until)
    ended = whole.finish_s <= until
    np.testing.assert_array_equal(stopped.finish_s, np.where(ended, whole.finish_s, np.nan))
    # arrivals = completions + in flight
    assert (arrival <= until).sum() == stopped.completed + stopped.in_flight
    assert stopped.completed == ended.sum()
    _, fleet = case.plain(until)
    assert [replica.steps for replica in fleet] == stopped.steps.tolist()
    under_way = [replica.end - until if replica.end < math.inf else 0.0 for replica in fleet]
    busy = [replica.busy - late for replica, late in zip(fleet, under_way, strict=True)]
    np.testing.assert_allclose(stopped.busy_s, busy, rtol=1e-9, atol=1e-12)


@given(cases())
@settings(max_examples=100)
def test_all_are_served_and_little_s_law_holds_on_the_path(case: Case) -> None:
    found = case.simulated()
    assert found.completed == len(case.requests)
    assert found.in_flight == 0
    # L = rate x W, the rate being n / T: the time integral of the number in the system is the sum of times in it.
    lasted = found.end_s - case.requests.arrival_s[0]
    assert found.mean_in_system * lasted == pytest.approx(found.e2e_s.sum(), rel=1e-9)
    assert found.window_s <= lasted * (1 + 1e-12)
    assert 0 <= found.utilisation <= 1 + 1e-12
    assert (found.roofline_s <= found.busy_s * (1 + 1e-9) + 1e-12).all()


@given(step_times(), st.integers(1, 300), st.integers(0, 3000), st.integers(0, 100_000), st.floats(0, 1e6))
def test_the_kernel_s_step_is_the_class_s(
    step: StepTime, sequences: int, more: int, context: int, pairs: float
) -> None:
    ours = core.step_seconds(Engine(step, 100).constants, sequences, sequences + more, context, pairs)
    assert ours == pytest.approx(float(step.seconds(sequences, sequences + more, context, pairs)), rel=1e-12)


@given(step_times(), st.integers(1, 100), st.integers(0, 5000), st.integers(1, 300), st.floats(0, 1))
def test_a_run_of_steps_is_the_sum_of_its_steps(
    step: StepTime, sequences: int, context: int, steps: int, share: float
) -> None:
    c = Engine(step, 100).constants
    at = context + sequences * np.arange(steps)
    ends = np.cumsum(step.seconds(sequences, sequences, at))
    assert core.run_seconds(c, sequences, context, steps) == pytest.approx(ends[-1], rel=1e-11)
    moment = share * ends[-1] * (1 - 1e-6)
    fewest = core.steps_until(c, sequences, context, steps, 10.0, 10.0 + moment)
    assert 10.0 + ends[fewest - 1] >= 10.0 + moment - 1e-9
    assert fewest == 1 or ends[fewest - 2] < moment + 1e-9


# By hand


def test_one_request_alone() -> None:
    step = StepTime(1, 0.5, 10, 0, 1, 0.25, 2, 0.125, 1)
    found = simulate(Engine(step, 100, chunk_tokens=None), Requests([5.0], 4, 2, 1))
    # Prefill: 1 + 0.5 x 1 + max(10, 2 x 4 + 0.125 x 4^2 / 2 = 9) = 11.5 gives the thought.
    # Then two steps that read 5 and 6 tokens: 1 + 0.5 + 10 + 0.25 x 5 = 12.75 and 13.
    assert found.ttft_s.tolist() == [11.5 + 12.75]
    assert found.tpot_s.tolist() == [13.0]
    assert found.e2e_s.tolist() == [11.5 + 12.75 + 13.0]
    assert found.start_s.tolist() == [5.0]
    assert found.steps.tolist() == [3]
    assert found.utilisation == 1
    assert found.mean_batch == 1
    # In the roofline for all but 1.5 s of each step; 37.25 s x 30 W + 32.75 s x 70 W.
    assert found.roofline_s.tolist() == [37.25 - 4.5]
    assert found.energy_j(50, 2) == pytest.approx(37.25 * 30 + 32.75 * 70)
    assert found.wh_per_request(50, 2) == pytest.approx((37.25 * 30 + 32.75 * 70) / 3600)


def test_a_prompt_in_chunks() -> None:
    step = StepTime(1, 0, 0, 0, 1, 0, 2, 0.5, 1)
    found = simulate(Engine(step, 100, max_sequences=2, chunk_tokens=3), Requests([0.0, 0.5], [4, 1], [3, 1]))
    # Step 1: 3 tokens, 1 + 6 + 0.5 x 9 / 2 = 9.25. Step 2: the fourth (pairs (16 - 9) / 2) and the other prompt
    # (1 / 2): 1 + 4 + 0.5 x 4 = 7. Steps 3 and 4: one token each, 3.
    assert found.ttft_s.tolist() == [16.25, 15.75]
    assert found.finish_s.tolist() == [22.25, 16.25]
    assert math.isnan(found.tpot_s[1])
    assert found.wait_s.tolist() == [0, 8.75]


def test_the_second_waits_until_the_cache_has_room_for_all_of_it() -> None:
    # 10 tokens each: a cache of 19 holds one at a time, of 20 both.
    requests = Requests([0.0, 0.0], 4, 6)
    scarce = simulate(Engine(FIXED, 19), requests)
    assert scarce.wait_s == pytest.approx([0, 6e-3])
    assert scarce.e2e_s == pytest.approx([6e-3, 12e-3])
    assert simulate(Engine(FIXED, 20), requests).e2e_s == pytest.approx([6e-3, 6e-3])


def test_a_burst_on_three_replicas_goes_to_the_shortest_queue() -> None:
    found = simulate(Engine(FIXED, 100, max_sequences=1), Requests(np.zeros(7), 1, 2), replicas=3)
    assert found.replica.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert found.e2e_s == pytest.approx([0.002, 0.002, 0.002, 0.004, 0.004, 0.004, 0.006])
    assert found.waiting.tolist() == list(range(7))
    assert not found.queue_grew
    # All within 4 ms but the last: 6 in 6 ms.
    assert found.goodput_per_s([("e2e", 0.95, 0.0041)]) == pytest.approx(1000)


def test_from_a_central_queue_the_first_replica_that_can_takes_the_next() -> None:
    # One slot each: two start at once, and the third goes to the second replica, whose request is the shorter.
    requests = Requests([0.0, 0.0, 0.0015], 1, [9, 4, 2])
    found = simulate(Engine(FIXED, 100, max_sequences=1), requests, replicas=2, queue="central")
    assert found.replica.tolist() == [0, 1, 1]
    assert found.finish_s == pytest.approx([0.009, 0.004, 0.006])
    # The shortest of queues of equal length is the first, long as its request may be.
    found = simulate(Engine(FIXED, 100, max_sequences=1), requests, replicas=2)
    assert found.replica.tolist() == [0, 1, 0]
    assert found.finish_s == pytest.approx([0.009, 0.004, 0.011])


# Queueing theory


def erlang_c(servers: int, load: float) -> float:
    """P(wait) of M/M/c: a^c / c! / (a^c / c! + (1 - a / c) sum a^k / k!)."""
    top = load**servers / math.factorial(servers)
    return top / (top + (1 - load / servers) * sum(load**k / math.factorial(k) for k in range(servers)))


def as_queue(servers: int, rate: float, outputs: Any, count: int, seeds: range) -> tuple[Simulation, ...]:
    """An engine that is a queue with so many servers: steps of 1 ms, service in as many of them."""
    engine = Engine(FIXED, 1e12, max_sequences=servers)
    return replicate(engine, Traffic(rate, 1, outputs), count, seeds, warm_up=0.1)


def holds(values: list[float], expected: float, allowance: float = 0.0) -> None:
    """Within four standard errors of the mean over independent seeds, and what the width of a step explains."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    assert abs(float(np.mean(values)) - expected) < 4 * error + allowance, (np.mean(values), expected, error)
    assert error < 0.05 * expected, "too few requests to tell"


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 3.0), (20, 17.0)])
def test_erlang_c(servers: int, load: float) -> None:
    """Service is geometric with a mean of 10,000 steps of 1 ms, all but exponential with a mean of 10 s."""
    outputs = np.random.default_rng(1).geometric(1e-4, 400_000)
    mean_s = outputs.mean() / 1000
    rate = load / mean_s
    found = as_queue(servers, rate, outputs, 100_000, range(12))
    # A free server starts at the next step of 1 ms at the latest: that is not waiting.
    waits = [one.values("wait") for one in found]
    expected = erlang_c(servers, load)
    holds([float((wait > 1.001e-3).mean()) for wait in waits], expected, 0.0005)
    # The sample's second moment against twice the mean squared, which an exponential has.
    spread = float((outputs**2).mean() / outputs.mean() ** 2 / 2)
    holds([float(wait.mean()) for wait in waits], expected * spread * mean_s / (servers - load), 0.002)


def test_m_g_c_against_ciw() -> None:
    """Three servers, service that is short for nine in ten and long for the tenth; mean and p95 of the wait."""
    import ciw

    short, long, rate = 400, 4000, 3.0
    outputs = np.array([short] * 9 + [long])
    found = as_queue(3, rate, outputs, 40_000, range(12))
    ours = {
        "mean": [float(one.values("wait").mean()) for one in found],
        "p95": [one.quantile("wait", 0.95) for one in found],
    }
    theirs: dict[str, list[float]] = {"mean": [], "p95": []}
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate)],
        service_distributions=[ciw.dists.Pmf([short / 1000, long / 1000], [0.9, 0.1])],
        number_of_servers=[3],
    )
    for seed in range(8):
        ciw.seed(seed)
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_customers(10_000, method="Finish")
        waits = [record.waiting_time for record in simulation.get_all_records()][1000:]
        theirs["mean"].append(float(np.mean(waits)))
        theirs["p95"].append(float(np.quantile(waits, 0.95)))
    for name, ours_of in ours.items():
        theirs_of = theirs[name]
        error = math.sqrt(np.var(ours_of, ddof=1) / len(ours_of) + np.var(theirs_of, ddof=1) / len(theirs_of))
        assert abs(np.mean(ours_of) - np.mean(theirs_of)) < 4 * error + 1e-3, (name, ours_of, theirs_of)
        assert error < 0.15 * np.mean(theirs_of), name


# What batching does


@pytest.fixture(scope="module")
def chats() -> Traffic:
    random = np.random.default_rng(5)
    return Traffic(
        12.0, 1 + random.lognormal(6.8, 1.2, 5000).astype(int), 1 + random.lognormal(3.5, 1.0, 5000).astype(int)
    )


def test_chunks_keep_long_prompts_from_stalling_the_others(chats: Traffic) -> None:
    requests = chats.draw(5000, seed=3)
    chunked, whole = (simulate(Engine(LLM_7B, 400_000, chunk_tokens=n), requests, warm_up=0.1) for n in (512, None))
    assert chunked.quantile("tpot", 0.99) < 0.7 * whole.quantile("tpot", 0.99)


def test_more_replicas_wait_less_on_this_traffic(chats: Traffic) -> None:
    requests = chats.draw(20_000, seed=4).at_rate(60.0)
    waits = [simulate(Engine(LLM_7B, 60_000), requests, replicas=n).wait_s.mean() for n in (2, 3, 4, 6, 8, 12, 16)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 10 * waits[-1]


def test_an_overload_is_seen_and_a_high_load_is_none(chats: Traffic) -> None:
    engine = Engine(LLM_7B, 400_000)
    most = 5000 / simulate(engine, Requests(np.zeros(5000), *chats.lengths)).end_s  # with work always at hand
    for seed in range(5):
        requests = chats.draw(20_000, seed)
        assert not simulate(engine, requests.at_rate(0.85 * most)).queue_grew
        assert simulate(engine, requests.at_rate(1.15 * most)).queue_grew


def test_the_step_that_reads_more_than_it_computes_uses_more_power(chats: Traffic) -> None:
    requests = chats.draw(2000)
    found = simulate(Engine(LLM_7B, 400_000), requests)
    lasted = found.end_s - requests.arrival_s[0]
    assert 0.3 * 700 * lasted < found.energy_j(700) < 700 * lasted
    assert found.energy_j(700, 4) == pytest.approx(4 * found.energy_j(700))
    assert found.energy_j(700, idle_share=1) == pytest.approx(700 * lasted)
    assert found.wh_per_request(700) * 3600 * 2000 == pytest.approx(found.energy_j(700))


# Measures


def test_quantiles_are_of_the_counted_requests_that_have_a_value() -> None:
    # One slot, 1 ms a step: each waits for those before it.
    found = simulate(Engine(FIXED, 100, max_sequences=1), Requests(np.zeros(10), 1, [1] * 9 + [3]), warm_up=0.2)
    assert found.counted_from == 2
    assert found.values("e2e") == pytest.approx([0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.012])
    assert found.quantile("e2e", 0.5) == pytest.approx(0.006)
    assert found.quantile("e2e", 0.51) == pytest.approx(0.007)
    assert found.quantile("tpot", 0.99) == pytest.approx(0.001)
    assert found.meets([("e2e", 0.5, 0.0061), ("tpot", 0.99, 0.0011)])
    assert not found.meets([("e2e", 0.5, 0.0059)])
    assert found.meets([])
    # Of 8 counted 4 end within 6.1 ms; the lone tokens have no TPOT that could be too long.
    assert found.goodput_per_s([("e2e", 0.9, 0.0061), ("tpot", 0.9, 1e-9)]) == pytest.approx(4 / 0.012)
    assert math.isnan(simulate(Engine(FIXED, 100), Requests([0.0], 1, 1)).quantile("tpot", 0.5))


def test_what_did_not_end_meets_no_limit() -> None:
    found = simulate(Engine(FIXED, 100, max_sequences=1), Requests(np.zeros(4), 1, 10), until_s=0.0205)
    assert found.completed == 2
    assert found.in_flight == 2
    assert not found.meets([("e2e", 0.6, 1.0)])
    assert found.meets([("e2e", 0.5, 1.0)])
    assert found.steps.tolist() == [21]
    assert found.busy_s == pytest.approx([0.0205])


# Arrivals and lengths


def test_gamma_with_cv_1_is_poisson() -> None:
    gaps = np.diff(Traffic(2.0, 1, 1).draw(50_000, seed=8).arrival_s, prepend=0.0)
    assert np.allclose(gaps, np.random.default_rng(8).standard_exponential(50_000) / 2)


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_gaps_have_the_rate_and_the_cv_asked_for(cv: float) -> None:
    gaps = np.diff(Traffic(4.0, 1, 1, interarrival_cv=cv).draw(200_000, seed=1).arrival_s)
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03, abs=1e-9)


def test_lengths_of_one_request_stay_together() -> None:
    drawn = Traffic(1.0, [1, 2, 3], [10, 20, 30], [100, 200, 300]).draw(3000, seed=2)
    assert (drawn.output_tokens == 10 * drawn.input_tokens).all()
    assert (drawn.thinking_tokens == 100 * drawn.input_tokens).all()
    assert np.bincount(drawn.input_tokens)[1:] == pytest.approx([1000, 1000, 1000], rel=0.1)


def test_another_rate_only_stretches_the_gaps() -> None:
    requests = Requests([1.0, 2.0, 4.0], 1, 1)
    assert requests.rate_per_s == pytest.approx(2 / 3)
    faster = requests.at_rate(4.0)
    assert faster.arrival_s == pytest.approx([0, 1 / 6, 0.5])
    assert faster.rate_per_s == pytest.approx(4.0)
    one, other = (Traffic(rate, [5, 7], [1, 2]).draw(100, seed=6) for rate in (1.0, 10.0))
    assert one.arrival_s == pytest.approx(10 * other.arrival_s)
    assert one.input_tokens.tolist() == other.input_tokens.tolist()


def test_a_joint_distribution_is_sampled_with_its_means() -> None:
    mean = np.array([[800.0]]), np.array([[50.0]])
    lognormal = LognormalLengths(*mean, 0.8, 0.6, 0.5)
    inputs, outputs = joint_sample(lognormal, 200_000, seed=1)
    assert inputs.mean() == pytest.approx(800, rel=0.01)
    assert outputs.mean() == pytest.approx(50, rel=0.02)
    assert np.corrcoef(np.log(inputs), np.log(outputs))[0, 1] == pytest.approx(0.5, abs=0.02)
    sampled = SampledLengths(Points.of([100, 300], [4, 2], [3, 1]), np.array([[300.0]]), np.array([[7.0]]))
    inputs, outputs = joint_sample(sampled, 100_000)
    # Means 150 and 3.5, so both sides are doubled: (200, 8) three times in four, (600, 4) else.
    assert set(zip(inputs.tolist(), outputs.tolist(), strict=True)) == {(200, 8), (600, 4)}
    assert (inputs == 200).mean() == pytest.approx(0.75, abs=0.01)
    assert Traffic.of(3.0, sampled, size=50).draw(10).input_tokens.max() <= 600


# The same again


def test_a_seed_gives_the_same_bits_whatever_the_threads(chats: Traffic) -> None:
    engine = Engine(LLM_7B, 100_000)
    by_threads = [replicate(engine, chats, 3000, [1, 2, 3, 1], replicas=2, threads=n) for n in (1, 2, 4)]
    names = ("start_s", "ttft_s", "tpot_s", "e2e_s", "finish_s", "replica", "waiting", "steps", "busy_s", "roofline_s")
    for found in by_threads:
        for one, same in zip(found, by_threads[0], strict=True):
            for name in names:
                np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
            assert (one.end_s, one.mean_in_system) == (same.end_s, same.mean_in_system)
        np.testing.assert_array_equal(found[0].e2e_s, found[3].e2e_s)
        assert not np.array_equal(found[0].e2e_s, found[1].e2e_s)


# What cannot be right


@pytest.mark.parametrize(
    ("arrival", "lengths", "message"),
    [
        ([], (1, 1), "at least one"),
        ([[0.0]], (1, 1), r"shape \(1, 1\)"),
        ([0.0, math.nan], (1, 1), "nan at position 1"),
        ([-1.0, 2.0], (1, 1), "-1 at position 0"),
        ([0.0, 3.0, 2.0], (1, 1), "2 after 3 at position 2; sort"),
        ([0.0, 1.0], ([1, 0], 1), "input_tokens must be whole numbers of tokens, 1 or more. Got 0 at position 1"),
        ([0.0, 1.0], (1, [1.5, 2]), "output_tokens .* Got 1.5 at position 0"),
        ([0.0, 1.0], (1, 1, -1), "thinking_tokens .* 0 or more. Got -1"),
        ([0.0, 1.0], (1, math.nan), "output_tokens .* Got nan"),
        ([0.0, 1.0], ([1, 2, 3], 1), r"each of 2 requests. Got shape \(3,\)"),
        ([0.0], (1, 2**36), "output tokens can be simulated"),
    ],
)
def test_requests_that_cannot_be(arrival: Any, lengths: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Requests(arrival, *lengths)


def test_a_request_larger_than_the_cache_is_refused_with_what_is_missing() -> None:
    with pytest.raises(
        InputError, match=r"request 1 has 130 tokens, 100 in and 30 out.* holds 120: 10 too few\. 1 of 3"
    ):
        simulate(Engine(FIXED, 120), Requests([0, 1, 2], [90, 100, 5], [30, 10, 5], [0, 20, 0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_tokens": 1}, "at least 2 tokens. Got 1"),
        ({"kv_tokens": math.nan}, "Got nan"),
        ({"max_sequences": 0}, "max_sequences must be a whole number, 1 or more. Got 0"),
        ({"chunk_tokens": 100}, r"at least max_sequences \(256\).* Got 100"),
        ({"step_time": dataclasses.replace(FIXED, kv_s=-1.0)}, "kv_s .* Got -1"),
        ({"step_time": dataclasses.replace(FIXED, overlap=1.5)}, "overlap .* share between 0 and 1. Got 1.5"),
        ({"step_time": dataclasses.replace(FIXED, fixed_s=math.nan)}, "fixed_s .* Got nan"),
        ({"step_time": dataclasses.replace(FIXED, fixed_s=0.0)}, "takes no time"),
        ({"step_time": dataclasses.replace(FIXED, kv_s=np.zeros(3))}, "one number"),
    ],
)
def test_engines_that_cannot_be(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(Engine(FIXED, 1000), **change)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, r: simulate(e, r, replicas=0), "replicas must be .* Got 0"),
        (lambda e, r: simulate(e, r, queue="random"), "Got 'random'"),
        (lambda e, r: simulate(e, r, warm_up=1.0), "warm_up .* Got 1.0"),
        (lambda e, r: simulate(e, r, until_s=0.0), "after the first arrival at 1 s. Got 0.0"),
        (lambda e, r: simulate(e, r).quantile("latency", 0.5), "ttft, tpot, e2e, wait. Got 'latency'"),
        (lambda e, r: simulate(e, r).quantile("ttft", 95), "0.95 for p95. Got 95"),
        (lambda e, r: simulate(e, r).energy_j(0), "Got 0"),
        (lambda e, r: Requests([1, 1], 1, 1).at_rate(2), "no gaps to stretch"),
        (lambda e, r: r.at_rate(0), "rate_per_s must be above 0. Got 0"),
        (lambda e, r: Traffic(0, 1, 1), "rate_per_s must be above 0. Got 0"),
        (lambda e, r: Traffic(1, 1, 1, interarrival_cv=-1), "interarrival_cv must be 0 or more. Got -1"),
        (lambda e, r: Traffic(1, [1, 2], [1, 2, 3]), r"as many on each side. Got \[2, 3\]"),
        (lambda e, r: Traffic(1, 1, 0), "output_tokens .* Got 0"),
        (lambda e, r: Traffic(1, 1, 1).draw(0), "count must be 1 or more. Got 0"),
        (lambda e, r: replicate(e, Traffic(1, 1, 1), 5, [1], threads=0), "threads must be 1 or more. Got 0"),
        (
            lambda e, r: joint_sample(LognormalLengths(np.ones((2, 1)), np.ones((2, 1)), 1, 1, 0), 5),
            "one scenario. Got lengths of 2",
        ),
    ],
)
def test_calls_that_cannot_be(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(Engine(FIXED, 1000), Requests([1.0, 2.0], 3, 4))
