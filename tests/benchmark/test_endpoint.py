from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distillcalc.benchmark import wire
from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.benchmark.load import ClosedLoop, Load, OpenLoop, Prompt
from distillcalc.benchmark.noop_server import answer
from distillcalc.benchmark.traces import Traces
from distillcalc.errors import InputError
from tests.benchmark.servers import Program, Server, programmed

TOLERANCE_S = 0.002
ONE = ClosedLoop(1)


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with programmed() as server:
        yield server


@pytest.fixture
def fresh() -> Iterator[Server]:
    """A server that nothing else has asked: what others gave up may still be in flight in the shared one."""
    with programmed() as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """The same, its counts at zero."""
    shared.record()
    return shared


def prompts(programs: Sequence[Program]) -> list[Prompt]:
    return [Prompt(program.text, 11, program.tokens) for program in programs]


def run(server: Server, *programs: Program, load: Load = ONE, timeout_s: float = 20.0, **options: Any) -> Traces:
    return Endpoint(server.base_url, "m", **options).run(prompts(programs), load, timeout_s=timeout_s)


def one(server: Server, timeout_s: float = 20.0, options: dict[str, Any] | None = None, **program: Any) -> Traces:
    """One request that does what the program says."""
    return run(server, Program(**program), timeout_s=timeout_s, keep_texts=True, **(options or {}))


# --- times


def recovered(measured: NDArray[np.float64], true: NDArray[np.float64]) -> None:
    """Within 3% or 2 ms, in the middle of the requests: a busy machine may hold up any one of them."""
    assert np.median(np.abs(measured - true)) <= max(0.03 * float(np.median(true)), TOLERANCE_S)


@pytest.mark.parametrize("load", [ClosedLoop(4), OpenLoop(np.arange(16) * 0.06)], ids=["closed", "open"])
def test_times_are_those_at_which_the_server_sent(server: Server, load: Load) -> None:
    """Held against the moments that the server wrote down, so that a late server is no error of ours.

    All processes have one clock. When the run began on it is not in the traces: it is what the request that was fastest
    to arrive says, which is too late by the time of the way (some 0.1 ms).
    """
    programs = [Program(id=i, tokens=5, ttft_s=0.06 + 0.01 * (i % 5), gap_s=0.05 + 0.01 * (i % 4)) for i in range(16)]
    traces = run(server, *programs, load=load)
    assert traces.ok.all()
    assert traces.output_tokens.tolist() == [5] * 16
    assert traces.input_tokens.tolist() == [11] * 16
    requests = server.record()["requests"]
    began = min(requests[i]["received"] - traces.sent_s[i] for i in range(16))
    sent = np.array([requests[i]["sent"] for i in range(16)]) - began
    recovered(traces.ttft_s, sent[:, 0] - traces.due_s)
    recovered(traces.tpot_s, (sent[:, -1] - sent[:, 0]) / 4)
    recovered(traces.e2e_s, sent[:, -1] - traces.due_s)
    recovered(traces.itl_s(), np.diff(sent, axis=1).ravel())
    assert (traces.ttft_s >= [program.ttft_s for program in programs]).all()


def test_a_role_and_empty_deltas_are_not_the_first_token(shared: Server) -> None:
    """They leave at once, the first token 80 ms later: the server waits before it, not before its headers."""
    late = {"role_first": True, "empty": 3, "stall_after": 0}
    stalled = one(shared, timeout_s=0.3, **late)
    assert stalled.outcome == ("timeout",)
    assert np.isnan(stalled.first_s).all()
    assert stalled.offsets.tolist() == [0, 0]


def test_several_tokens_in_a_chunk(shared: Server) -> None:
    traces = one(shared, tokens=7, per_chunk=3, ttft_s=0.02, gap_s=0.05)
    assert traces.output_tokens.tolist() == [7]
    assert traces.chunk_tokens.tolist() == [3, 3, 1]
    np.testing.assert_allclose(traces.tpot_s, (traces.last_s - traces.first_s) / 6)
    assert (traces.itl_s() > 0.04).all()


def test_a_server_that_does_not_count(shared: Server) -> None:
    endpoint = Endpoint(shared.base_url, "m")
    traces = endpoint.run(prompts([Program(tokens=6, per_chunk=2, usage=False)]), ONE)
    assert traces.outcome == ("ok",)
    assert traces.output_tokens.tolist() == [3]  # events
    assert traces.input_tokens.tolist() == [0]
    assert "did not count the tokens of 1 of 1 answers" in endpoint.notes[0]
    endpoint.run(prompts([Program()]), ONE)
    assert endpoint.notes == ()  # of the last run


def test_thoughts(shared: Server) -> None:
    traces = one(shared, tokens=4, thoughts=2, gap_s=0.02)
    assert traces.output_tokens.tolist() == [4]
    assert len(traces.chunk_s) == 4
    assert traces.texts == (" word word",)
    endpoint = Endpoint(shared.base_url, "m")
    hidden = endpoint.run(prompts([Program(tokens=4, hidden=6)]), ONE)
    assert hidden.output_tokens.tolist() == [10]
    assert "6 output tokens are thoughts" in endpoint.notes[0]


# --- how it comes over the wire


@pytest.mark.parametrize(
    "program",
    [
        {"split": 3}, {"split": 7, "crlf": True}, {"comments": True}, {"comments": True, "crlf": True, "split": 50},
        {"framing": "length"}, {"framing": "close"}, {"framing": "length", "split": 13}, {"keep_alive": False},
        {"done": False}, {"finish": False}, {"role_first": False}, {"hint": True}, {"empty": 2},
    ],
    ids=str,
)  # fmt: skip
def test_answers_that_are_right_however_they_come(shared: Server, program: dict[str, Any]) -> None:
    traces = run(shared, *[Program(tokens=3, **program)] * 3, keep_texts=True)
    assert traces.outcome == ("ok",) * 3
    assert traces.texts == (" word word word",) * 3
    assert traces.output_tokens.tolist() == [3] * 3
    assert traces.chunk_tokens.tolist() == [1] * 9


def test_plain_completions(server: Server) -> None:
    assert one(server, tokens=3, options={"chat": False}).texts == (" word word word",)
    request = server.record()["requests"][0]
    assert request["path"] == "POST /v1/completions HTTP/1.1"
    assert "messages" not in request["body"]


def test_a_response_that_does_not_end_after_done_is_not_waited_for(shared: Server) -> None:
    traces = one(shared, tokens=2, lingers_s=30.0)
    assert traces.outcome == ("ok",)
    assert traces.last_s[0] < 5.0


def test_connections_are_kept_and_closed_ones_replaced(server: Server) -> None:
    run(server, *[Program(tokens=1)] * 5)
    assert server.record()["connections"] == 1 + 1  # and that of the record itself
    run(server, *[Program(tokens=1, keep_alive=False)] * 5)
    assert server.record()["connections"] == 5 + 1


# --- what goes wrong


@pytest.mark.parametrize(
    ("outcome", "program"),
    [
        ("http 503", {"status": 503}),
        ("http 401", {"status": 401, "keep_alive": False}),
        ("http 307", {"status": 307, "location": "/v1/elsewhere"}),
        ("error in the stream: 500", {"error_after": 2, "tokens": 5}),
        ("error in the stream: 500", {"error_after": 0}),
        ("connection lost", {"cut_after": 2, "tokens": 5, "gap_s": 0.02}),
        ("connection lost", {"cut_after": 0}),
        ("connection lost", {"cut_after": 0, "framing": "length"}),
        ("stream ended early", {"end_after": 2, "tokens": 5}),
        ("stream ended early", {"end_after": 2, "tokens": 5, "framing": "close"}),
        ("stream ended early", {"finish": False, "done": False}),
        ("no output", {"tokens": 0}),
        ("not a stream", {"raw": '{"choices": [{"message": {"content": "whole"}}]}', "framing": "length"}),
        ("unreadable event", {"raw": "data: {oh\n\n"}),
    ],
    ids=str,
)
def test_what_goes_wrong_is_told_and_the_next_is_sent(shared: Server, outcome: str, program: dict[str, Any]) -> None:
    bad = Program(**program)
    traces = run(shared, bad, Program(tokens=2), bad, Program(tokens=2), keep_texts=True)
    assert traces.outcome == (outcome, "ok", outcome, "ok")
    assert (traces.last_s >= traces.sent_s).all()  # the moment at which it failed
    sent_s = traces.sent_s
    assert (sent_s[1:] >= traces.last_s[:-1]).all()
    if program.get("tokens") == 5 and outcome != "connection lost":  # which may take along what was under way
        assert traces.output_tokens.tolist() == [2] * 4  # what came before stands
        assert not np.isnan(traces.first_s).any()


def test_a_redirect_is_not_followed(server: Server) -> None:
    run(server, Program(id=1, status=307, location=f"{server.base_url}/chat/completions"))
    found = server.record()
    assert list(found["requests"]) == [1]
    assert found["connections"] == 2  # with that of the record


def test_a_stalled_stream_times_out_and_is_counted(shared: Server) -> None:
    stalled = Program(tokens=4, stall_after=2)
    traces = run(shared, stalled, Program(tokens=4), stalled, load=ClosedLoop(3), timeout_s=0.5)
    assert traces.outcome == ("timeout", "ok", "timeout")
    assert traces.output_tokens.tolist() == [2, 4, 2]
    waited = traces.last_s - np.array([traces.chunk_s[1], np.nan, traces.chunk_s[-1]])
    assert (waited[[0, 2]] >= 0.5).all()
    assert (waited[[0, 2]] < 5.0).all()
    # Comments that keep the connection alive bring no output.
    assert one(shared, timeout_s=0.5, tokens=4, stall_after=1, comments=True).outcome == ("timeout",)


def test_the_timeout_is_on_silence_and_the_total_on_everything(shared: Server) -> None:
    slow = {"tokens": 6, "gap_s": 0.2}
    assert one(shared, timeout_s=0.9, **slow).outcome == ("ok",)  # 1 s in all, never 0.9 s of silence
    traces = one(shared, timeout_s=0.9, options={"total_timeout_s": 0.5}, **slow)
    assert traces.outcome == ("timeout",)
    assert traces.last_s[0] - traces.sent_s[0] >= 0.5
    assert 1 <= traces.output_tokens[0] < 6


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        silent = Endpoint(f"http://127.0.0.1:{port}/v1", "m")  # takes connections, and never reads
        assert silent.run(prompts([Program()] * 2), ClosedLoop(2), timeout_s=0.3).outcome == ("timeout",) * 2
    gone = silent.run(prompts([Program()] * 5), ClosedLoop(2))
    assert gone.outcome == ("connection refused",) * 5
    assert np.isnan(gone.first_s).all()


@pytest.mark.parametrize(
    ("scheme", "reply", "outcome"),
    [
        ("http", b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        ("http", b"", "connection lost"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "cannot connect: WRONG_VERSION_NUMBER"),
    ],
)
def test_another_protocol(scheme: str, reply: bytes, outcome: str) -> None:
    def greet() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=greet)
        thread.start()
        endpoint = Endpoint(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/v1", "m")
        assert endpoint.run(prompts([Program()]), ONE, timeout_s=5).outcome == (outcome,)
        thread.join()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_an_encrypted_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/certificate"]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")

    def serve() -> None:
        for connections in range(2):
            connection, _ = listening.accept()
            with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as encrypted:
                for _ in range(2 * connections):  # none on the first, which does not trust us
                    read = encrypted.recv(1 << 16)
                    while b"}]" not in read:  # of the messages
                        read += encrypted.recv(1 << 16)
                    encrypted.sendall(b"000.0000000".join(answer(3)))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = Endpoint(f"https://127.0.0.1:{listening.getsockname()[1]}/v1", "m")
        unknown = endpoint.run(prompts([Program()]), ONE, timeout_s=10)
        assert unknown.outcome == ("cannot connect: CERTIFICATE_VERIFY_FAILED",)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
        trusted = endpoint.run(prompts([Program()] * 2), ONE, timeout_s=10)
        assert trusted.outcome == ("ok", "ok")
        assert trusted.output_tokens.tolist() == [3, 3]
        thread.join()


def test_more_connections_than_the_machine_allows(shared: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 30, hard))
    try:
        traces = run(shared, *[Program(tokens=1, ttft_s=0.3)] * 60, load=OpenLoop(np.zeros(60)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(traces.outcome) == {"ok", "cannot connect: Too many open files"}


# --- load


def test_a_closed_loop_keeps_its_number_in_flight(fresh: Server) -> None:
    programs = [Program(id=i, tokens=2, ttft_s=0.02 + 0.01 * (i % 7), gap_s=0.01) for i in range(40)]
    traces = run(fresh, *programs, load=ClosedLoop(5))
    assert fresh.record()["most_in_flight"] == 5
    assert traces.due_s.tolist() == traces.sent_s.tolist()
    # And never fewer for long: the sixth is sent when the first has ended, and so on.
    free_s = traces.sent_s[5:] - np.sort(traces.last_s)[:-5]
    assert (free_s >= 0).all()
    assert np.median(free_s) < 0.02


def test_more_in_flight_than_there_are_prompts(shared: Server) -> None:
    assert run(shared, Program(), Program(), load=ClosedLoop(50)).outcome == ("ok", "ok")


def test_an_open_loop_sends_when_it_is_due_whatever_happened_before(fresh: Server) -> None:
    due = np.array([0.0, 0.0, 0.0, 0.1, 0.15, 0.2, 0.35, 0.4, 0.5])
    programs = [Program(id=i, tokens=1, ttft_s=1.0) for i in range(9)]  # none is answered before the last is sent
    traces = run(fresh, *programs, load=OpenLoop(due))
    np.testing.assert_allclose(traces.due_s, due, atol=1e-9)
    assert (traces.late_s >= 0).all()
    assert np.median(traces.late_s) < 0.02
    record = fresh.record()
    assert record["most_in_flight"] == 9
    received = np.array([record["requests"][i]["received"] for i in range(9)])
    assert np.median(np.abs(received - received[0] - due)) < 0.02
    assert (traces.ttft_s > 1.0).all()


def test_a_slow_client_is_told_by_how_late_it_was(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that needs 30 ms for each answer cannot send one each 10 ms: that shows, and is part of the wait."""
    reads = wire._Connection.data_received

    def slow(self: wire._Connection, data: bytes) -> None:
        time.sleep(0.03)
        reads(self, data)

    monkeypatch.setattr(wire._Connection, "data_received", slow)
    traces = run(shared, *[Program(tokens=1)] * 20, load=OpenLoop(np.arange(20) * 0.01))
    assert traces.ok.all()
    assert traces.late_s.max() > 0.03
    assert (traces.ttft_s >= traces.late_s).all()


def test_a_burst_of_more_than_is_sent_at_once(shared: Server) -> None:
    many = 3 * wire.AT_ONCE + 1
    assert run(shared, *[Program(tokens=1)] * many, load=OpenLoop(np.zeros(many))).ok.all()


# --- what is sent


def test_what_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_KEY", " secret-1 ")
    endpoint = Endpoint(
        server.base_url + "/", "org/m", key_env="BENCH_KEY", ignore_eos=True, extra_body={"top_k": 1, "seed": 3}
    )
    whole, short = Program(id=0), Program(id=1)
    assert endpoint.run([Prompt(whole.text, 1, 9), Prompt(short.text, 1, 9, whole=False)], ONE).ok.all()
    sent = server.record()["requests"]
    assert sent[0]["body"] == {
        "model": "org/m", "messages": [{"role": "user", "content": whole.text}], "max_tokens": 9, "temperature": 0.0,
        "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True, "top_k": 1, "seed": 3,
    }  # fmt: skip
    assert "ignore_eos" not in sent[1]["body"]
    assert sent[0]["headers"]["authorization"] == "Bearer secret-1"
    assert sent[0]["headers"]["host"] == server.base_url.split("/")[2]
    plain = Endpoint(server.base_url, "m", temperature=None, max_tokens_field="max_completion_tokens")
    assert "temperature" not in plain.body(Prompt("a", 1, 9))
    assert plain.body(Prompt("a", 1, 9))["max_completion_tokens"] == 9


def test_the_key_is_kept_nowhere(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_KEY", "secret-1")
    endpoint = Endpoint(shared.base_url, "m", key_env="BENCH_KEY", keep_texts=True)
    refused = Program(status=401, problem=json.dumps({"error": {"message": "no such key:\nsecret-1", "code": "k"}}))
    traces = endpoint.run(prompts([refused, Program()]), ONE)
    assert endpoint.notes == ("http 401 (1 times); the server said: no such key: ***",)
    assert "secret-1" not in repr(endpoint) + repr(vars(endpoint)) + repr(vars(traces))


def test_what_the_server_said_is_kept_short(shared: Server) -> None:
    endpoint = Endpoint(shared.base_url, "m")
    endpoint.run(prompts([Program(status=500, problem="x" * 9_000), Program(error_after=0)]), ONE)
    assert max(map(len, endpoint.notes)) < 400
    assert any("out of memory" in note for note in endpoint.notes)


def test_it_runs_where_a_loop_is_running_already(shared: Server) -> None:
    async def notebook() -> Traces:
        return run(shared, Program(tokens=2))

    assert asyncio.run(notebook()).ok.all()


@pytest.mark.parametrize("in_notebook", [False, True])
def test_an_interrupt_ends_the_run(shared: Server, in_notebook: bool) -> None:
    async def notebook() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as a notebook's kernel has it
        interrupted()

    def interrupted() -> None:
        threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            run(shared, *[Program(stall_after=1)] * 5, load=ClosedLoop(2))

    if in_notebook:
        asyncio.run(notebook())
    else:
        interrupted()
    assert "distillcalc benchmark" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_url": "127.0.0.1:8000"}, "base_url is written"),
        ({"base_url": "http://127.0.0.1/v1?key=x"}, "base_url is written"),
        ({"base_url": "http://me:secret@127.0.0.1/v1"}, "key_env"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "port"),
        ({"base_url": "http://127.0.0.1/v 1"}, "ASCII"),
        ({"base_url": "https://llm.example/v1"}, "llm.example: key_env"),
        ({"model": ""}, "model"),
        ({"extra_body": {"stream": False, "n": 2}}, "must not set n, stream"),
        ({"extra_body": {"seed": float("nan")}}, "plain JSON"),
        ({"total_timeout_s": 0.0}, "total_timeout_s"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Endpoint(**({"base_url": "http://127.0.0.1/v1", "model": "m"} | arguments))


def test_runs_that_cannot_be_right_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_KEY", raising=False)
    endpoint = Endpoint("http://127.0.0.1:9/v1", "m")
    some = prompts([Program()])
    with pytest.raises(InputError, match="no prompts"):
        endpoint.run([], ONE)
    with pytest.raises(InputError, match="one moment for each of 1 prompts"):
        endpoint.run(some, OpenLoop(np.zeros(2)))
    with pytest.raises(InputError, match="timeout_s"):
        endpoint.run(some, ONE, timeout_s=0)
    with pytest.raises(InputError, match="BENCH_KEY must hold the key"):
        Endpoint("http://127.0.0.1:9/v1", "m", key_env="BENCH_KEY").run(some, ONE)
