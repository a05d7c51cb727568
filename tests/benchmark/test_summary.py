from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.benchmark.summary import summarise
from distillcalc.benchmark.traces import Traces
from distillcalc.errors import InputError
from distillcalc.workload.workload import Slo
from tests.benchmark.queues import mm1, traces_of


def three() -> Traces:
    """Three tokens in two chunks after 0.5 s; one that was given up after 30 s; a single token, sent 0.1 s late."""
    return Traces(
        due_s=np.array([0.0, 1.0, 2.0]),
        sent_s=np.array([0.0, 1.0, 2.1]),
        first_s=np.array([0.5, np.nan, 2.4]),
        last_s=np.array([0.9, 31.0, 2.4]),
        input_tokens=np.array([10, 0, 12]),
        output_tokens=np.array([3, 0, 1]),
        outcome=("ok", "timeout", "ok"),
        chunk_s=np.array([0.5, 0.9, 2.4]),
        chunk_tokens=np.array([1, 2, 1]),
        offsets=np.array([0, 2, 2, 3]),
    )


def paced(n: int = 100, gap: float = 0.5, ttft: float = 0.2, tpot: float = 0.01, tokens: int = 11) -> Traces:
    """One request after the other, each answered alike: a token a chunk."""
    due = np.arange(n) * gap
    steps = ttft + tpot * np.arange(tokens)
    return traces_of(
        due,
        due + steps[-1],
        first_s=due + ttft,
        output_tokens=np.full(n, tokens),
        chunk_s=(due[:, None] + steps).ravel(),
        chunk_tokens=np.ones(n * tokens, dtype=int),
        offsets=np.arange(n + 1) * tokens,
    )


def test_three_requests_by_hand() -> None:
    found = summarise(three(), Slo(ttft_p50_s=0.45, tpot_p95_ms=300, e2e_p99_s=1))
    assert found.requests == 3
    assert found.outcomes == {"ok": 2, "timeout": 1}
    assert found.failed == 1
    assert found.window_s == (0.0, 2.0)
    # TTFT 0.5, at least 30, 0.4: the median is known, p95 lies 0.9 of the way from 0.5 to 30 or beyond.
    assert found.ttft.count == 3
    assert found.ttft.p50.value == pytest.approx(0.5)
    assert not found.ttft.p50.at_least
    assert found.ttft.p95.value == pytest.approx(0.5 + 0.9 * 29.5)
    assert found.ttft.p95.at_least
    assert found.ttft.mean.value == pytest.approx((0.5 + 30 + 0.4) / 3)
    assert found.ttft.mean.at_least
    # E2E 0.9, at least 30, 0.4: what timed out is never dropped.
    assert found.e2e.count == 3
    assert found.e2e.p50.value == pytest.approx(0.9)
    assert found.e2e.p99.at_least
    # TPOT (0.9 - 0.5) / 2 of the only answer that has one; ITL the gap between its two chunks.
    assert (found.tpot.count, found.itl.count) == (1, 1)
    assert found.tpot.p50.value == pytest.approx(0.2)
    assert found.itl.p50.value == pytest.approx(0.4)
    # Only the last is within 0.45 s, and its single token keeps any TPOT. The run lasts 2 s, which is less than twice
    # what it waited at most, but not than twice the median of 0.65 s: the window is 0.65 to 2.65, both end in it.
    assert found.rate_window_s == pytest.approx((0.65, 2.65))
    assert found.requests_per_s == 1.0
    assert found.output_tokens_per_s == 2.0
    assert found.total_tokens_per_s == 13.0
    assert found.goodput_per_s == 0.5
    assert [objective.within for objective in found.objectives] == [1 / 3, 2 / 3, 2 / 3]
    # The client was 0.1 s late once in three: p99 = 0.98 x 0.1.
    assert found.client.late_p50_s == 0
    assert found.client.late_p99_s == pytest.approx(0.098)
    assert not found.client.honoured
    assert found.saturation.saturated is None
    assert found.steady.found is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_steady_run_by_hand() -> None:
    # 100 requests, one each 0.5 s, answered after 0.2 s with 11 tokens 10 ms apart.
    found = summarise(paced(), Slo(ttft_p95_s=0.25, tpot_p95_ms=11, e2e_p95_s=0.31))
    assert found.ttft.p95.value == pytest.approx(0.2)
    assert found.tpot.p99.value == pytest.approx(0.01)
    assert found.itl.p50.value == pytest.approx(0.01)
    assert found.itl.count == 1000
    assert found.e2e.mean.value == pytest.approx(0.3)
    # Rates: between 99 and 100 of the answers in 49.5 s, as rounding has it.
    assert 99 / 49.5 <= found.requests_per_s <= 100 / 49.5
    assert found.goodput_per_s == found.requests_per_s
    assert found.output_tokens_per_s == pytest.approx(11 * found.requests_per_s)
    assert found.total_tokens_per_s == pytest.approx(21 * found.requests_per_s)
    assert found.verdict == "met"
    assert found.steady.found
    assert found.saturation.saturated is False
    assert found.client.honoured
    assert found.notes == ()
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_rate_of_a_long_latency_is_not_too_low() -> None:
    # 60 a minute, each answered after 10 s: counted from the first due to the last due, the 10 s before the first
    # answer would make it 0.83 a second; with the window moved by the latency it is one.
    due = np.arange(61.0)
    found = summarise(traces_of(due, due + 10.001 + 1e-4 * np.arange(61)))
    assert found.requests_per_s == pytest.approx(1.0, abs=0.02)


def test_a_closed_loop() -> None:
    # Four in flight, a second each: 4 a second.
    due = np.repeat(np.arange(30.0), 4)
    found = summarise(traces_of(due, due + 1))
    assert found.requests_per_s == pytest.approx(4.0, rel=0.04)
    assert found.saturation.saturated is False
    assert found.client.honoured


def test_a_burst_and_a_single_request() -> None:
    burst = summarise(traces_of(np.zeros(8), np.arange(1.0, 9.0)))
    assert burst.requests_per_s == 1.0  # eight answers in eight seconds
    assert "less than two of its latencies" in burst.notes[0]
    single = summarise(traces_of([3.0], [5.0]), Slo(e2e_p95_s=3))
    assert single.requests_per_s == single.goodput_per_s == 0.5
    assert single.e2e.p95.value == 2.0
    assert single.verdict == "undecided"  # within the limit, but one request bounds no p95
    json.dumps(single.to_dict(), allow_nan=False)


def test_no_request_was_answered() -> None:
    n = 50
    due = np.arange(n) * 1.0
    nothing = {"first_s": np.full(n, np.nan), "output_tokens": np.zeros(n, dtype=int), "chunk_s": np.zeros(0),
               "chunk_tokens": np.zeros(0), "offsets": np.zeros(n + 1, dtype=int)}  # fmt: skip
    found = summarise(
        traces_of(due, due + 2, outcome=("timeout",) * 30 + ("http 503",) * 20, **nothing), Slo(ttft_p95_s=9)
    )
    assert found.outcomes == {"timeout": 30, "http 503": 20}
    assert found.requests_per_s == found.output_tokens_per_s == found.goodput_per_s == 0
    assert found.ttft.p50.value == 2.0  # 30 of 50 waited at least 2 s, the other 20 were never answered
    assert found.ttft.p50.at_least
    assert found.e2e.p95.value == math.inf
    assert found.e2e.to_dict()["p95"]["value"] is None
    assert (found.tpot.count, found.itl.count) == (0, 0)
    assert math.isnan(found.tpot.p50.value)
    assert found.verdict == "missed"  # though they had waited for less than the limit when they were given up
    assert "no request was answered" in found.notes
    json.dumps(found.to_dict(), allow_nan=False)


def test_all_tokens_in_one_chunk_have_no_tpot() -> None:
    due = np.arange(100.0)
    found = summarise(traces_of(due, due + 0.4, output_tokens=np.full(100, 20)), Slo(tpot_p95_ms=1, e2e_p95_s=1))
    assert found.tpot.count == 0
    assert math.isnan(found.tpot.p50.value)
    assert any("100 answers of several tokens came all at once" in note for note in found.notes)
    assert found.verdict == "met"  # the wait is in E2E; after the first token there was none
    assert found.goodput_per_s == found.requests_per_s


def test_a_stalled_stream_counts_at_its_stall() -> None:
    # Two chunks 0.1 s apart, and then nothing for 5 s.
    stalled = traces_of(
        [0.0], [5.3], first_s=[0.2], output_tokens=[2], outcome=("timeout",),
        chunk_s=np.array([0.2, 0.3]), chunk_tokens=np.array([1, 1]), offsets=np.array([0, 2]),
    )  # fmt: skip
    found = summarise(stalled, Slo(ttft_p50_s=1))
    assert found.ttft.p50.value == pytest.approx(0.2)  # it did come
    assert not found.ttft.p50.at_least
    assert found.itl.count == 2
    assert found.itl.p50.value == pytest.approx(0.1 + 0.5 * 4.9)
    assert found.itl.p99.at_least
    assert found.e2e.p50.at_least
    assert found.goodput_per_s == 0.0
    assert found.objectives[0].within == 0.0  # a request that failed meets no objective, be its first token in time


def test_a_window_and_a_warm_up() -> None:
    # The first 40 of 400 take 3 s, the others 1 s with some jitter.
    random = np.random.default_rng(0)
    due = np.arange(400.0)
    traces = traces_of(due, due + np.where(due < 40, 3.0, 1.0) + 0.05 * random.random(400))
    assert summarise(traces).e2e.p99.value > 3
    steady = summarise(traces, window="steady")
    assert steady.steady.cut == 40
    assert steady.window_s == (40.0, 399.0)
    assert steady.requests == 360
    assert steady.e2e.p99.value < 1.1
    part = summarise(traces, window=(10.0, 19.0))
    assert part.requests == 10
    assert part.e2e.p50.value > 3
    with pytest.raises(InputError, match="no request was due between"):
        summarise(traces, window=(10.2, 10.4))
    with pytest.raises(InputError, match="a window is"):
        summarise(traces, window=(5.0, 1.0))
    with pytest.raises(InputError, match="no request have nothing"):
        summarise(traces.take([]))


def test_caveats_are_told() -> None:
    arrival, finish = mm1(np.random.default_rng(0), 800, 2.0)
    found = summarise(traces_of(arrival, finish, sent_s=arrival + 40.0, input_tokens=np.zeros(800, dtype=int)))
    text = " ".join(found.notes)
    for told in ("no steady state", "saturated", "did not honour the load", "did not count the input of 800"):
        assert told in text


def test_verdicts_heed_the_interval() -> None:
    # E2E 1..200 ms in a random order: of B ~ Bin(200, 0.95) P(B < 184) = 0.0238 and P(B >= 197) = 0.0090, P(B >= 196)
    # = 0.0264 being too much: the 95% interval of p95 goes from the 184th to the 197th.
    values = np.random.default_rng(1).permutation(np.arange(1.0, 201.0)) / 1000
    due = np.arange(200.0)
    verdicts = {
        limit: summarise(traces_of(due, due + values), Slo(e2e_p95_s=limit)).verdict
        for limit in (0.1835, 0.1845, 0.1965, 0.1975)
    }
    assert verdicts == {0.1835: "missed", 0.1845: "undecided", 0.1965: "undecided", 0.1975: "met"}
    objective = summarise(traces_of(due, due + values), Slo(e2e_p95_s=0.1505)).objectives[0]
    assert objective.within == 0.75  # 150 of 200
    assert str(objective) == "E2E p95 0.19 s (0.184 to 0.197) against 0.1505 s: missed"


@st.composite
def runs(draw: st.DrawFn) -> Traces:
    n = draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    due = np.cumsum(random.exponential(draw(st.sampled_from([0.0, 0.1, 2.0])), n))
    ttft, tokens = random.exponential(0.5, n), random.integers(0, 6, n)
    last = due + ttft + random.exponential(0.3, n) * np.maximum(tokens - 1, 0)
    outcome = tuple(str(one) for one in random.choice(["ok", "ok", "ok", "timeout", "http 503"], n))
    chunks = [np.linspace(due[i] + ttft[i], last[i], tokens[i]) for i in range(n)]
    return traces_of(
        due, last, first_s=np.where(tokens > 0, due + ttft, np.nan), output_tokens=tokens, outcome=outcome,
        chunk_s=np.concatenate(chunks), chunk_tokens=np.ones(tokens.sum(), dtype=int),
        offsets=np.concatenate([[0], np.cumsum(tokens)]),
    )  # fmt: skip


limits = st.floats(0.01, 3.0)


@settings(max_examples=60, deadline=None)
@given(runs(), limits, limits, limits, st.floats(1.0, 3.0), st.randoms(use_true_random=False))
def test_goodput_and_order(traces: Traces, ttft: float, tpot: float, e2e: float, looser: float, random: object) -> None:
    def slo(factor: float) -> Slo:
        return Slo(ttft_p95_s=ttft * factor, tpot_p50_ms=1000 * tpot * factor, e2e_p99_s=e2e * factor)

    tight, loose = summarise(traces, slo(1.0)), summarise(traces, slo(looser))
    assert tight.goodput_per_s is not None
    assert loose.goodput_per_s is not None
    assert tight.goodput_per_s <= loose.goodput_per_s <= loose.requests_per_s
    assert all(a.within <= b.within for a, b in zip(tight.objectives, loose.objectives, strict=True))
    assert sum(tight.outcomes.values()) == tight.requests == tight.ttft.count == tight.e2e.count == len(traces)
    order = list(range(len(traces)))
    random.shuffle(order)  # type: ignore[attr-defined]
    turned = summarise(traces.take(order), slo(1.0)).to_dict()
    assert turned == {**tight.to_dict(), "outcomes": turned["outcomes"]}
    assert dict(turned["outcomes"]) == dict(tight.outcomes)


def test_in_lockstep_a_rate_is_that_of_the_whole_run() -> None:
    # Three batches of four that take 1.02, 1.00 and 0.98 s: 12 answers in 3 s, whatever a window's edge cuts.
    ends = np.repeat(np.cumsum([1.02, 1.00, 0.98]), 4)
    due = np.concatenate([np.zeros(4), ends[:8]])
    made = Traces(
        due_s=due, sent_s=due, first_s=ends, last_s=ends, input_tokens=np.full(12, 5), output_tokens=np.full(12, 2),
        outcome=("ok",) * 12, chunk_s=ends, chunk_tokens=np.full(12, 2), offsets=np.arange(13),
    )  # fmt: skip
    found = summarise(made, lockstep=True)
    assert found.requests_per_s == pytest.approx(4.0)
    assert found.output_tokens_per_s == pytest.approx(8.0)
    assert not any("rates" in note for note in found.notes)
