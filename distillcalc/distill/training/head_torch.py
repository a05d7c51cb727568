"""Cross-entropy and divergence through the language-model head, without the logits of all tokens at once.

Logits of 8,192 tokens over 49,152 ids are 1.6 GB in float32, and a naive loss holds several tensors of that size for
student and teacher. Here tokens go through the head a chunk at a time; each chunk's gradient is taken in closed form at
once (:mod:`.slopes_torch`), carried to the hidden states and to the head's weights, and its logits are overwritten by
the next chunk's, as in Liger's fused linear cross-entropy (arXiv:2410.10989). What the losses are is told in
:mod:`.losses_torch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from torch.autograd.function import once_differentiable  # noqa: TID253

from distillcalc.distill.training.losses_torch import (
    IGNORED,
    Kind,
    check_divergence,
    check_ids,
    check_vocabulary,
    other_vocabulary,
    sparse_logs,
)
from distillcalc.distill.training.slopes_torch import Divergence, live_slope, sparse_slope
from distillcalc.errors import InputError

CHUNK_BYTES = 64 * 2**20  # of a chunk's logits; 341 tokens at 49,152 ids
# Each chunk reads and writes the gradient of the whole weight. That is hidden behind 341 tokens of a CPU's arithmetic,
# and takes more of an accelerator's.
CHUNK_BYTES_ELSEWHERE = 256 * 2**20


@dataclass(frozen=True)
class Head:
    """The output layer: logits = c tanh(s (h W^T + b) / c), with scale s and softcap c.

    Parameters
    ----------
    weight : W, shape (V, H).
    bias : b, shape (V,).
    scale : s; 1 for most models.
    softcap : c, the bound of the logits (Gemma 2); None for no bound.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher that runs beside the student: its last hidden states, shape (N, Ht), and its own head."""

    hidden: Tensor
    head: Head


@dataclass(frozen=True)
class SparseTeacher:
    """A teacher of whom the top tokens are known, at the temperature of the loss.

    Parameters
    ----------
    ids : shape (N, K), int64; -1 is padding.
    logprobs : shape (N, K) [nats].
    tail_mass : probability of all other tokens, shape (N,).
    """

    ids: Tensor
    logprobs: Tensor
    tail_mass: Tensor


@dataclass(frozen=True)
class HeadLoss:
    """What came out, each a scalar.

    Parameters
    ----------
    total : hard + soft, differentiable once [nats, weighted].
    hard : sum of the weighted cross-entropies.
    soft : sum of the weighted divergences, each times the temperature squared.
    right : how many labels are the student's most likely token, among rows of any weight.
    """

    total: Tensor
    hard: Tensor
    soft: Tensor
    right: Tensor


def head_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    hard_weights: Tensor,
    *,
    soft_weights: Tensor | None = None,
    teacher: LiveTeacher | SparseTeacher | None = None,
    kind: Kind = "forward-kl",
    beta: float = 0.5,
    alpha: float = 0.1,
    temperature: float = 1.0,
    vocabulary: int | None = None,
    chunk_tokens: int | None = None,
) -> HeadLoss:
    """sum over rows of hard weight x cross-entropy + soft weight x T^2 divergence from the teacher.

    Values and gradients are those of the naive form within rounding. Rows of which both weights are 0 are not computed,
    and the teacher's head reads only rows with a soft weight. Logits, losses and the sum of the weight's gradient are
    in float32, or float64 where the weight is. Gradients reach the hidden states, the head's weight and its bias, as
    far as they require them; never the teacher or the weights of the rows.

    Parameters
    ----------
    hidden : the student's last hidden states, shape (N, H).
    head : the student's.
    labels : the next token, shape (N,); -100 where there is no hard term.
    hard_weights, soft_weights : of each row, shape (N,); the soft ones go with a teacher.
    teacher : live or sparse; None for the hard term alone.
    kind, beta, alpha, temperature : of the divergence, see :func:`.losses_torch.divergence`.
    vocabulary : ids from here on are cut off both models before the softmax.
    chunk_tokens : rows at a time; left out, as many as make 64 MiB of float32 logits (256 MiB on an accelerator).

    Returns
    -------
    The loss and its parts; NaN where a logit of a weighted row is NaN.

    Raises
    ------
    InputError
        For vocabularies of different sizes, ids or labels outside them, a divergence that does not exist, or soft
        weights without a teacher.
    """
    check_divergence(kind, beta, alpha, temperature)
    if (teacher is None) != (soft_weights is None):
        raise InputError("a soft term needs both a teacher and soft_weights. Got one of them.")
    if chunk_tokens is not None and chunk_tokens < 1:
        raise InputError(f"chunk_tokens must be at least 1. Got {chunk_tokens}.")
    head = _whole(head)
    size = head.weight.shape[0] if vocabulary is None else vocabulary
    check_vocabulary(size, head.weight.shape[0])
    scored = labels != IGNORED
    if scored.any() and not (int(labels[scored].min()) >= 0 and int(labels.max()) < size):
        raise InputError(
            f"labels must be from 0 to {size - 1:,}, or {IGNORED} for none. Got {int(labels[scored].min()):,} to "
            f"{int(labels.max()):,}."
        )
    device = hidden.device.type
    cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if isinstance(teacher, LiveTeacher):
        taught = _detached(_whole(teacher.head))
        if vocabulary is None and taught.weight.shape[0] != size:
            raise other_vocabulary(size, taught.weight.shape[0])
        check_vocabulary(size, taught.weight.shape[0])
        taught = replace(taught, weight=taught.weight.to(cast or taught.weight.dtype))
        teacher = LiveTeacher(teacher.hidden.detach(), taught)
    elif teacher is not None:
        check_ids(teacher.ids, size)
    hard = torch.where(scored, hard_weights, 0.0).detach()
    learns = (hidden.requires_grad, head.weight.requires_grad, head.bias is not None and head.bias.requires_grad)
    work = _Work(
        head=_detached(head),
        teacher=teacher,
        labels=labels,
        hard=hard,
        soft=torch.zeros_like(hard) if soft_weights is None else soft_weights.detach(),
        any_hard=bool((hard != 0).any()),
        measure=Divergence(kind, beta, alpha),
        temperature=temperature,
        size=size,
        chunk=chunk_tokens or max(1, (CHUNK_BYTES if device == "cpu" else CHUNK_BYTES_ELSEWHERE) // (4 * size)),
        compute=cast or head.weight.dtype,
        learns=learns if torch.is_grad_enabled() else (False, False, False),
    )
    return HeadLoss(*_Chunked.apply(hidden, head.weight, head.bias, work))


@dataclass(frozen=True)
class _Work:
    """All that the chunks need beside the hidden states; nothing in it requires a gradient."""

    head: Head
    teacher: LiveTeacher | SparseTeacher | None
    labels: Tensor
    hard: Tensor
    soft: Tensor
    any_hard: bool
    measure: Divergence
    temperature: float
    size: int
    chunk: int
    compute: torch.dtype  # of the products with the head's weight
    learns: tuple[bool, bool, bool]  # hidden, weight, bias

    @property
    def dtype(self) -> torch.dtype:
        """Of logits, losses and sums."""
        return torch.float64 if self.compute == torch.float64 else torch.float32

    def chunks(self) -> Iterator[tuple[Tensor, bool]]:
        """Rows that go through the head together, and whether they have a soft weight."""
        soft = self.soft != 0
        for rows, is_soft in ((soft, True), ((self.hard != 0) & ~soft, False)):
            for some in rows.nonzero()[:, 0].split(self.chunk):
                if len(some):
                    yield some, is_soft


class _Chunked(torch.autograd.Function):
    """Losses and gradients in one pass over the chunks; backward only scales the gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: _Work) -> tuple[Tensor, ...]:
        matrix = weight[: work.size].to(work.compute)
        hard, soft = (hidden.new_zeros((), dtype=work.dtype) for _ in range(2))
        right = torch.zeros((), dtype=torch.int64, device=hidden.device)
        to_hidden = torch.zeros_like(hidden) if work.learns[0] else None
        to_weight = torch.zeros_like(weight, dtype=work.dtype) if work.learns[1] else None
        to_bias = weight.new_zeros(len(weight), dtype=work.dtype) if work.learns[2] else None
        buffers = _Buffers(work, hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows, is_soft in work.chunks():
                part = hidden[rows].to(work.compute)
                losses, hits, slope = _chunk(part, matrix, rows, is_soft, work, buffers)
                hard += losses[0]
                soft += losses[1]
                right += hits
                if slope is None:
                    continue
                if to_bias is not None:
                    to_bias[: work.size] += slope.sum(0)
                slope = slope.to(work.compute)
                if to_hidden is not None:
                    to_hidden[rows] = torch.mm(slope, matrix).to(hidden.dtype)
                if to_weight is not None and work.compute == work.dtype:
                    to_weight[: work.size].addmm_(slope.t(), part)
                elif to_weight is not None:
                    to_weight[: work.size] += torch.mm(slope.t(), part)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(hard, soft, right)
        return hard + soft, hard, soft, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        same = bool(outer == 1)  # the usual case: nothing of the weight's size is made again
        made = (
            None if found is None else (found if same else found * outer).to(dtype)
            for found, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return *made, None


class _Buffers:
    """Memory of a chunk's logits, used again by every chunk: fresh pages cost as much as what is computed on them."""

    def __init__(self, work: _Work, like: Tensor) -> None:
        self.work, self.like = work, like
        self.made: dict[str, Tensor] = {}

    def get(self, name: str, rows: int) -> Tensor:
        """The first rows of a buffer, shape (rows, V)."""
        if name not in self.made:
            longest = min(self.work.chunk, self.like.shape[0])
            self.made[name] = self.like.new_empty(longest, self.work.size, dtype=self.work.dtype)
        return self.made[name][:rows]


def _chunk(
    part: Tensor, matrix: Tensor, rows: Tensor, is_soft: bool, work: _Work, buffers: _Buffers
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor | None]:
    """Hard and soft sums, labels that are right, and the gradient with respect to h W^T + b, shape (n, V)."""
    labels, hard, soft = work.labels[rows], work.hard[rows].to(work.dtype), work.soft[rows].to(work.dtype)
    scored = labels != IGNORED
    at = labels.clamp(min=0)[:, None]
    logits = _logits(part, matrix, work.head, buffers.get("logits", len(rows)))
    bent = None if work.head.softcap is None else 1 - (logits / work.head.softcap).square()
    hits = ((logits.argmax(-1) == labels) & scored).sum()
    hard_sum = soft_sum = logits.new_zeros(())
    slope: Tensor | None = None

    # At temperature 1 both terms share one softmax; otherwise the hard term has its own.
    shared = is_soft and work.temperature == 1
    if work.any_hard and not shared:
        slope = torch.log_softmax(logits, dim=-1, out=buffers.get("hard", len(rows)))
        hard_sum = _weighted(hard, -slope.gather(-1, at)[:, 0])
        slope.exp_().mul_(hard[:, None])
    if is_soft:
        entropy, apart, steep = _soft(logits, at, rows, soft, hard if shared else 0 * hard, work, buffers)
        if shared:
            hard_sum = _weighted(hard, entropy)
        soft_sum = _weighted(soft, apart) * work.temperature**2
        slope = steep if slope is None else slope.add_(steep)
    if slope is None or not any(work.learns):
        return (hard_sum, soft_sum), hits, None
    slope.scatter_add_(-1, at, -hard[:, None])
    if bent is not None:
        slope.mul_(bent)
    return (hard_sum, soft_sum), hits, slope if work.head.scale == 1 else slope.mul_(work.head.scale)


def _soft(
    logits: Tensor, at: Tensor, rows: Tensor, soft: Tensor, hard: Tensor, work: _Work, buffers: _Buffers
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy and divergence of softmax(logits / T), (n,) each, and the gradient without the label's, (n, V)."""
    teacher, heat, count = work.teacher, work.temperature, len(rows)
    if heat != 1:
        logits.div_(heat)
    student = buffers.get("student", count)
    soft = soft * heat  # T^2 of the loss times 1 / T of the logits
    if isinstance(teacher, SparseTeacher):
        labelled, ids = logits.gather(-1, at)[:, 0], teacher.ids[rows]
        log_p = sparse_logs(ids, teacher.logprobs[rows], teacher.tail_mass[rows], work.size, work.dtype)
        apart, slope, log_sum = sparse_slope(
            logits, ids, log_p, out=student, soft=soft, hard=hard, measure=work.measure
        )
        return log_sum - labelled, apart, slope
    assert teacher is not None
    log_q = torch.log_softmax(logits, dim=-1, out=student)
    entropy = -log_q.gather(-1, at)[:, 0]
    matrix = teacher.head.weight[: work.size]
    logits = _logits(teacher.hidden[rows].to(matrix.dtype), matrix, teacher.head, logits)  # over the student's
    if heat != 1:
        logits.div_(heat)
    log_p = torch.log_softmax(logits, dim=-1, out=buffers.get("teacher", count))
    return entropy, *live_slope(log_q, log_p, spare=logits, soft=soft, hard=hard, measure=work.measure)


def _logits(part: Tensor, matrix: Tensor, head: Head, out: Tensor) -> Tensor:
    """Logits of a chunk in the precision of ``out``, written there."""
    if matrix.dtype == out.dtype:
        torch.mm(part, matrix.t(), out=out)
    else:
        out.copy_(torch.mm(part, matrix.t()))
    if head.bias is not None:
        out += head.bias[: len(matrix)]
    if head.scale != 1:
        out *= head.scale
    return out if head.softcap is None else out.div_(head.softcap).tanh_().mul_(head.softcap)


def _weighted(weights: Tensor, losses: Tensor) -> Tensor:
    """Their sum; a loss without weight is not read."""
    return torch.where(weights == 0, 0.0, weights * losses).sum()


def _whole(head: Head) -> Head:
    """With all of the weights that FSDP has spread over processes; each gets the mean of the processes' gradients."""

    def whole(weight: Any) -> Any:
        if not hasattr(weight, "full_tensor"):
            return weight
        from torch.distributed.tensor import Partial

        # Each process has tokens of its own. DTensor's default would keep a process's own gradient of its own rows.
        return weight.full_tensor(grad_placements=[Partial("avg")] * weight.device_mesh.ndim)

    return replace(head, weight=whole(head.weight), bias=whole(head.bias))


def _detached(head: Head) -> Head:
    return replace(head, weight=head.weight.detach(), bias=None if head.bias is None else head.bias.detach())
