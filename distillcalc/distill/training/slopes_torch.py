"""The divergences of :mod:`.losses_torch` with their gradients in closed form, in memory that is used again.

For a chunk of tokens in :mod:`.head_torch`: rows are tokens, and everything of the vocabulary's width is overwritten
rather than made anew. A test holds values and gradients to automatic differentiation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from distillcalc.distill.training.losses_torch import PADDING, Kind, divergence_of_logs


@dataclass(frozen=True)
class Divergence:
    """Which divergence, as in :func:`.losses_torch.divergence`."""

    kind: Kind = "forward-kl"
    beta: float = 0.5
    alpha: float = 0.1


def live_slope(
    log_q: Tensor, log_p: Tensor, *, spare: Tensor, soft: Tensor, hard: Tensor, measure: Divergence
) -> tuple[Tensor, Tensor]:
    """The divergence of each row, and its gradient with respect to the student's logits.

    With g = dD/dq, dD/dz = q (g - sum q g) for z the logits of q.

    Parameters
    ----------
    log_q, log_p : log-probabilities of student and teacher, finite, shape (n, V); overwritten.
    spare : memory of the same shape; overwritten.
    soft, hard : weights of the rows, shape (n,).
    measure : the divergence.

    Returns
    -------
    Divergence, shape (n,) [nats], and soft x dD/dz + hard x q, shape (n, V): the cross-entropy's gradient, without its
    label, falls on the same softmax.
    """
    kind, beta, alpha = measure.kind, measure.beta, measure.alpha
    soft, hard = soft[:, None], hard[:, None]
    if kind == "forward-kl" or (kind == "jsd" and beta == 0):  # dD/dz = q - p
        ratio = torch.sub(log_p, log_q, out=spare)
        p, q = log_p.exp_(), log_q.exp_()
        apart = _dot(p, ratio)
        return apart, q.mul_(soft + hard).sub_(p.mul_(soft))
    if kind == "reverse-kl" or (kind == "jsd" and beta == 1):  # q (log(q / p) - D)
        ratio = torch.sub(log_q, log_p, out=spare)
        q = log_q.exp_()
        apart = _dot(q, ratio)
        return apart, q.mul_(ratio.sub_(apart[:, None]).mul_(soft).add_(hard))
    share = {"jsd": beta, "skewed-forward": alpha}.get(kind, 1 - alpha)  # of the teacher in the mixture m
    p, q = log_p.exp(), torch.exp(log_q, out=spare)
    m = (p * share).add_(q, alpha=1 - share).clamp_(min=torch.finfo(p.dtype).tiny)
    log_m = m.log()
    if kind == "jsd":  # (1 - beta) q (log(q / m) - KL(q | m))
        ratio = log_q.sub_(log_m)
        own = _dot(q, ratio)
        apart = beta * _dot(p, log_p.sub_(log_m)) + (1 - beta) * own
        return apart, q.mul_(ratio.sub_(own[:, None]).mul_((1 - beta) * soft).add_(hard))
    if kind == "skewed-forward":  # (1 - alpha) q (sum q p / m - p / m)
        apart = _dot(p, log_p.sub_(log_m))
        ratio = p.div_(m).neg_()
        return apart, q.mul_(ratio.sub_(_dot(q, ratio)[:, None]).mul_((1 - alpha) * soft).add_(hard))
    ratio = log_q.sub_(log_m)  # q (g - sum q g), g = log(q / m) - alpha q / m
    apart = _dot(q, ratio)
    ratio.addcdiv_(q, m, value=-alpha)
    return apart, q.mul_(ratio.sub_(_dot(q, ratio)[:, None]).mul_(soft).add_(hard))


def sparse_slope(
    logits: Tensor,
    ids: Tensor,
    log_p: Tensor,
    *,
    out: Tensor,
    soft: Tensor,
    hard: Tensor,
    measure: Divergence,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same where the teacher's top tokens are known, the tail being one outcome.

    The gradient of the tail's outcome falls on its tokens in proportion to their probabilities.

    Parameters
    ----------
    logits : the student's, shape (n, V); overwritten.
    ids : the teacher's top tokens, shape (n, K); -1 is padding.
    log_p : the teacher's outcomes as :func:`.losses_torch.sparse_logs` gives them, shape (n, K + 1).
    out : memory for the gradient, shape (n, V).
    soft, hard, measure : as in :func:`live_slope`.

    Returns
    -------
    Divergence, shape (n,) [nats]; soft x dD/dz + hard x q, shape (n, V); log of the sum of exp of the logits, (n,).
    """
    known = ids != PADDING
    place, column = known.nonzero(as_tuple=True)
    cells = place, ids[place, column]
    top = logits.gather(-1, ids.clamp(min=0)).masked_fill(~known, -torch.inf)
    logits[cells] = -torch.inf
    most = logits.amax(-1, keepdim=True)
    nothing = torch.isneginf(most)  # left, where the top is the whole vocabulary
    if ids.shape[-1] >= logits.shape[-1]:
        logits.masked_fill_(nothing, 0.0)
    among = torch.softmax(logits, dim=-1, out=out)  # each token's part of the tail
    tail = torch.where(nothing, -torch.inf, most - among.amax(-1, keepdim=True).log())
    with torch.enable_grad():
        outcomes = torch.cat([top, tail], dim=-1).requires_grad_()
        log_q = torch.log_softmax(outcomes, dim=-1)
        apart = divergence_of_logs(log_q, log_p, kind=measure.kind, beta=measure.beta, alpha=measure.alpha)
        (steep,) = torch.autograd.grad(apart.sum(), outcomes)
    steep = steep * soft[:, None] + log_q.detach().exp() * hard[:, None]
    among.mul_(steep[:, -1:])
    among[cells] = steep[place, column]
    return apart.detach(), among, outcomes.detach().logsumexp(-1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Row by row, without a product of their size."""
    return torch.einsum("nv,nv->n", a, b)
