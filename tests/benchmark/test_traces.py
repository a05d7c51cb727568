from __future__ import annotations

import numpy as np
import pytest

from distillcalc.benchmark.load import ClosedLoop, OpenLoop
from distillcalc.benchmark.traces import Traces
from distillcalc.errors import InputError


def by_hand() -> Traces:
    """Three requests: three tokens in two chunks after 0.5 s, one that timed out, a single token sent 0.1 s late."""
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
        texts=("a b c", "", "d"),
    )


def test_times_by_hand() -> None:
    traces = by_hand()
    assert traces.ok.tolist() == [True, False, True]
    # From the moment it was due: the client's lateness is the request's wait.
    np.testing.assert_allclose(traces.ttft_s, [0.5, np.nan, 0.4])
    np.testing.assert_allclose(traces.e2e_s, [0.9, 30.0, 0.4])
    np.testing.assert_allclose(traces.tpot_s, [0.2, np.nan, np.nan])  # (0.9 - 0.5) / 2
    np.testing.assert_allclose(traces.late_s, [0.0, 0.0, 0.1])
    np.testing.assert_allclose(traces.itl_s(), [0.4])  # of one request's chunks alone


def test_some_of_the_requests() -> None:
    traces = by_hand()
    last = traces.take(traces.ok).take([1])
    assert last.outcome == ("ok",)
    assert last.texts == ("d",)
    assert last.chunk_s.tolist() == [2.4]
    assert last.offsets.tolist() == [0, 1]
    none = traces.take([])
    assert len(none) == 0
    assert none.itl_s().size == 0
    # In another order, the chunks go with their requests.
    turned = traces.take([2, 0])
    assert turned.chunk_s.tolist() == [2.4, 0.5, 0.9]
    np.testing.assert_allclose(turned.itl_s(), [0.4])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="traces of 1 requests"):
        Traces(
            **{name: np.zeros(2) for name in ("due_s", "sent_s", "first_s", "last_s", "input_tokens", "output_tokens")},
            outcome=("ok",), chunk_s=np.zeros(0), chunk_tokens=np.zeros(0), offsets=np.zeros(2),
        )  # fmt: skip
    with pytest.raises(InputError, match=r"concurrency must be a whole number, 1 or more. Got 0"):
        ClosedLoop(0)
    with pytest.raises(InputError, match="do not fall"):
        OpenLoop(np.array([1.0, 0.5]))
    assert OpenLoop(np.array([0.0, 1.0, 4.0])).rate_per_s == 0.5
    assert OpenLoop(np.array([2.0, 2.0])).rate_per_s == np.inf
