from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from distillcalc.benchmark import overhead
from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.benchmark.load import ClosedLoop, Prompt
from distillcalc.benchmark.noop_server import answer, served
from distillcalc.benchmark.overhead import client_overhead
from distillcalc.errors import DistillcalcError, InputError

FEW = {"requests": 100, "held_requests": 20, "concurrency": 4, "rate_per_s": 20.0}


def test_the_no_op_server_answers_as_a_server_of_models_would() -> None:
    with served(tokens=5) as url:
        traces = Endpoint(f"{url}/v1", "m", keep_texts=True).run([Prompt("a", 1, 5)] * 20, ClosedLoop(3))
    assert traces.ok.all()
    assert traces.output_tokens.tolist() == [5] * 20
    assert traces.input_tokens.tolist() == [1] * 20
    assert all(0 <= float(text.split(" ", 1)[0]) < 1 for text in traces.texts)
    assert traces.chunk_s.size == 100


def test_a_request_in_pieces_gets_one_answer_of_known_length() -> None:
    before, after = answer(2)
    length = len(before) + len("000.0000000") + len(after)
    with served(tokens=2) as url, socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 10) as client:
        client.settimeout(10)
        for _ in range(2):
            for piece in (b"POST /v1/chat/comp", b"letions HTTP/1.1\r\nContent-Len", b"gth: 4\r\n\r\n{", b'"a}'):
                client.sendall(piece)
            read = b""
            while len(read) < length:
                read += client.recv(1 << 16)
            assert len(read) == length
            assert read.startswith(before)
            assert read.endswith(after)


def test_requests_are_held_and_the_server_says_how_long() -> None:
    with served(hold_s=0.1) as url:
        traces = Endpoint(f"{url}/held/v1", "m", keep_texts=True).run([Prompt("a", 1, 8)] * 12, ClosedLoop(4))
    held_s = np.array([float(text.split(" ", 1)[0]) for text in traces.texts])
    assert (held_s >= 0.05).all()
    assert np.ptp(held_s) > 0.05  # 12 numbers spread over 0.05 to 0.15 s, or a machine so slow that they differ anyway
    assert (traces.ttft_s > held_s).all()


def test_the_time_that_the_server_held_a_request_is_not_the_clients() -> None:
    found = client_overhead(**FEW)
    assert found.requests_per_s > 0
    assert found.requests_per_cpu_s > 0
    assert 0 < found.ttft_p50_s <= found.ttft_p99_s
    assert found.ttft_p50_s <= found.e2e_p50_s <= found.e2e_p99_s
    # Held for 4 / 20 = 0.2 s, from half of that on: were it counted, no request would have less than 100 ms; and four
    # in flight could not come faster than 4 / 0.1 s.
    assert found.ttft_p50_s < 0.1
    assert found.held_requests_per_s < 40
    assert "requests/s of 8 tokens" in str(found)


def test_failures_are_not_taken_for_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "Endpoint", lambda url, *a, **k: Endpoint("http://127.0.0.1:1/v1", *a, **k))
    with pytest.raises(DistillcalcError, match="failed: connection refused"):
        client_overhead(**FEW)


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"requests": 0}, {"held_requests": 0}, {"rate_per_s": 0.0}, {"tokens": 0},
              {"input_characters": 0}],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        client_overhead(**(FEW | wrong))
