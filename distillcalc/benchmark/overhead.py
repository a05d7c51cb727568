"""What the benchmark's own client costs: how many requests it can stream, and the time it adds to each.

A client that becomes the bottleneck reports its own queue as the server's. So its limits are measured on this machine,
against a server that does nothing, and printed beside what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time

import numpy as np

from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.benchmark.load import ClosedLoop, Prompt
from distillcalc.benchmark.noop_server import TOKENS, served
from distillcalc.errors import DistillcalcError, InputError

FLAT_OUT = 64  # requests in flight when the client is to be the bottleneck
WARM_UP = 200
HOLD_S = 0.1


@dataclass(frozen=True)
class Overhead:
    """The client's limits on this machine, the no-op server on the same one.

    Parameters
    ----------
    requests_per_s : streamed requests per second flat out, of ``tokens`` tokens each. The server shares the machine,
        and whatever else runs there does.
    requests_per_cpu_s : per second of this process's own processor time: what a core of its own would allow.
    concurrency, held_requests_per_s : at which the times below were measured.
    ttft_p50_s, ttft_p99_s : added to the time to first token: what is measured above the time that the server held the
        request [s]; the way through the kernel is included.
    e2e_p50_s, e2e_p99_s : added to the time to the last token [s].
    """

    requests_per_s: float
    requests_per_cpu_s: float
    tokens: int
    concurrency: int
    held_requests_per_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    e2e_p50_s: float
    e2e_p99_s: float

    def __str__(self) -> str:
        return (
            f"The client streams up to {self.requests_per_s:,.0f} requests/s of {self.tokens} tokens "
            f"({self.requests_per_cpu_s:,.0f} for each second of processor time). With {self.concurrency} in flight "
            f"({self.held_requests_per_s:,.0f} requests/s) it adds "
            f"{self.ttft_p50_s * 1e3:.2g} ms to TTFT (p99 {self.ttft_p99_s * 1e3:.2g} ms) and "
            f"{self.e2e_p50_s * 1e3:.2g} ms to E2E (p99 {self.e2e_p99_s * 1e3:.2g} ms)."
        )


def client_overhead(
    *, concurrency: int = 32, rate_per_s: float | None = None, requests: int = 1_500, held_requests: int | None = None,
    input_characters: int = 1_000, tokens: int = TOKENS,
) -> Overhead:  # fmt: skip
    """Measure the client against the no-op server in a process of its own; about 2 s by default.

    First flat out, for requests per second. Then in a closed loop of ``concurrency``, where the server holds requests
    so long that they come at about ``rate_per_s`` (hold = concurrency / rate, by Little's law): the time above what the
    server says it held a request is what the client adds at that load. Flat out, that time would be the client's own
    queue, which a benchmark of a slower server does not have.

    Parameters
    ----------
    concurrency : requests in flight, such as in the benchmark that this stands beside.
    rate_per_s : requests per second at that concurrency; left out, each is held for 0.1 s.
    requests : to send flat out.
    held_requests : to send in the second part; left out, as many as take about a second.
    input_characters : of each prompt.
    tokens : of each answer, which come all at once.

    Raises
    ------
    InputError
        If a number cannot be right.
    MissingExtra
        If httptools is not installed.
    """
    load = ClosedLoop(concurrency)
    if min(requests, input_characters) < 1 or (held_requests is not None and held_requests < 1):
        raise InputError("requests, held_requests and input_characters must be 1 or more")
    if rate_per_s is not None and not 0 < rate_per_s < np.inf:
        raise InputError(f"rate_per_s must be above 0. Got {rate_per_s!r}")
    hold_s = HOLD_S if rate_per_s is None else concurrency / rate_per_s
    prompt = Prompt("x" * input_characters, input_characters, tokens)

    count = held_requests or max(2 * concurrency, round(concurrency / hold_s))
    with served(tokens=tokens, hold_s=hold_s) as url:
        endpoint = Endpoint(f"{url}/v1", "noop")
        endpoint.run([prompt] * WARM_UP, ClosedLoop(FLAT_OUT))
        cpu_s = process_time()
        flat_out = endpoint.run([prompt] * requests, ClosedLoop(FLAT_OUT))
        cpu_s = process_time() - cpu_s
        held = Endpoint(f"{url}/held/v1", "noop", keep_texts=True).run([prompt] * count, load)
    if not (flat_out.ok.all() and held.ok.all()):
        failed = sorted({*flat_out.outcome, *held.outcome} - {"ok"})
        raise DistillcalcError(f"requests to the no-op server on this machine failed: {', '.join(failed)}")

    held_s = np.array([float(text.split(" ", 1)[0]) for text in held.texts])
    ttft_s, e2e_s = held.ttft_s - held_s, held.e2e_s - held_s
    return Overhead(
        requests_per_s=requests / float(flat_out.last_s.max() - flat_out.sent_s.min()),
        requests_per_cpu_s=requests / cpu_s,
        tokens=tokens,
        concurrency=concurrency,
        held_requests_per_s=count / float(held.last_s.max() - held.sent_s.min()),
        ttft_p50_s=float(np.quantile(ttft_s, 0.5)),
        ttft_p99_s=float(np.quantile(ttft_s, 0.99)),
        e2e_p50_s=float(np.quantile(e2e_s, 0.5)),
        e2e_p99_s=float(np.quantile(e2e_s, 0.99)),
    )
