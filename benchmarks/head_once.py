"""One step of the loss through the language-model head, naive or chunked, in a process of its own.

    python benchmarks/head_once.py memory naive|chunked TOKENS SUPERVISED    # what one step adds to the peak
    python benchmarks/head_once.py speed both TOKENS SUPERVISED              # seconds, by turns

Naive is what a trainer does that knows of no chunks: the logits of all tokens from both heads, F.cross_entropy, and the
KL of two log_softmax. Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from distillcalc.distill.training.head_torch import Head, LiveTeacher, head_loss

VOCABULARY, HIDDEN = 49_152, 576  # SmolLM2-135M
ROUNDS = 3
THREADS = 2


def naive(hidden: Tensor, head: Tensor, labels: Tensor, taught: Tensor, teacher_head: Tensor) -> Tensor:
    scored = labels != -100
    logits = functional.linear(hidden, head)
    with torch.no_grad():
        wanted = functional.linear(taught, teacher_head)
    hard = functional.cross_entropy(logits, labels, reduction="sum")
    log_q, log_p = functional.log_softmax(logits, -1), functional.log_softmax(wanted, -1)
    soft = (functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1) * scored).sum()
    return (hard + soft) / scored.sum()


def chunked(hidden: Tensor, head: Tensor, labels: Tensor, taught: Tensor, teacher_head: Tensor) -> Tensor:
    weights = (labels != -100) / (labels != -100).sum()
    return head_loss(
        hidden, Head(head), labels, weights, soft_weights=weights, teacher=LiveTeacher(taught, Head(teacher_head))
    ).total


def inputs(tokens: int, supervised: float) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    hidden, taught = torch.randn(tokens, HIDDEN, requires_grad=True), torch.randn(tokens, HIDDEN)
    head, teacher_head = torch.randn(VOCABULARY, HIDDEN).mul_(0.05), torch.randn(VOCABULARY, HIDDEN).mul_(0.05)
    labels = torch.randint(VOCABULARY, (tokens,))
    labels[torch.rand(tokens) >= supervised] = -100
    return hidden, head.requires_grad_(), labels, taught, teacher_head


def step(loss: Callable[..., Tensor], given: tuple[Tensor, ...]) -> tuple[float, float]:
    """Loss and seconds of one forward and backward."""
    given[0].grad = given[1].grad = None
    began = time.perf_counter()
    total = loss(*given)
    total.backward()
    return float(total.detach()), time.perf_counter() - began


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(what: str, which: str, tokens: int, supervised: float) -> None:
    torch.set_num_threads(THREADS)
    given = inputs(tokens, supervised)
    if what == "memory":
        before = peak_mib()
        total, seconds = step({"naive": naive, "chunked": chunked}[which], given)
        print(json.dumps({"total": total, "step_mib": peak_mib() - before, "seconds": seconds}))
        return
    took: dict[str, list[float]] = {"naive": [], "chunked": []}
    totals = {}
    for turn in range(ROUNDS + 1):
        for name, loss in (("naive", naive), ("chunked", chunked)):
            totals[name], seconds = step(loss, given)
            if turn:  # the first is warm-up
                took[name].append(seconds)
    print(json.dumps({"totals": totals, "seconds": took}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
