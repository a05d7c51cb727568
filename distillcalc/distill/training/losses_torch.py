"""What a student loses on one token: against a label, a teacher's distribution, its features or its attention.

Every function gives one value a row [nats] and leaves masks, weights and means to its caller. All of it is computed
in float32, or in float64 where the input is. The same losses through a language-model head, without the logits of all
tokens at once, are in :mod:`.head_torch`.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from torch.nn import functional  # noqa: TID253

from distillcalc.errors import InputError

Kind = Literal["forward-kl", "reverse-kl", "jsd", "skewed-forward", "skewed-reverse"]
FeatureKind = Literal["mse", "cosine", "normalised"]
IGNORED = -100  # the label of a token that has none, as transformers writes it
PADDING = -1  # the id that fills a row of fewer top tokens


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the probability that the student gives to each label.

    Parameters
    ----------
    logits : the student's, shape (N, V).
    labels : ids, shape (N,); -100 where there is none.

    Returns
    -------
    Cross-entropy, shape (N,) [nats]; 0 where there is no label.
    """
    return functional.cross_entropy(wide(logits), labels, ignore_index=IGNORED, reduction="none")


def divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    kind: Kind = "forward-kl",
    beta: float = 0.5,
    alpha: float = 0.1,
    temperature: float = 1.0,
    vocabulary: int | None = None,
) -> Tensor:
    """How far the student's distribution is from the teacher's, times the temperature squared.

    With p the teacher's and q the student's softmax(logits / T)::

        forward-kl      KL(p | q) = sum p log(p / q)                            (Hinton et al. 2015, arXiv:1503.02531)
        reverse-kl      KL(q | p)                                               (MiniLLM, arXiv:2306.08543)
        jsd             beta KL(p | m) + (1 - beta) KL(q | m), m = beta p + (1 - beta) q     (GKD, arXiv:2306.13649)
        skewed-forward  KL(p | alpha p + (1 - alpha) q)                         (DistiLLM, arXiv:2402.03898)
        skewed-reverse  KL(q | (1 - alpha) p + alpha q)                         (DistiLLM)

    The generalised Jensen-Shannon divergence vanishes at both ends. Divided by beta it tends to KL(p | q) as beta
    goes to 0, and divided by 1 - beta to KL(q | p) as beta goes to 1; so beta = 0 is defined as the forward KL and
    beta = 1 as the reverse KL, as in GKD.

    T squared keeps the size of the gradient as T grows (Hinton et al., section 2): the limit of T^2 KL is
    |zs - zt|^2 / 2V of the centred logits.

    Parameters
    ----------
    student_logits, teacher_logits : shape (N, V) each.
    kind : one of the five.
    beta : weight of the teacher in "jsd", in [0, 1].
    alpha : share of the own distribution in the skewed mixtures, in [0, 1).
    temperature : T, above 0.
    vocabulary : ids from here on are cut off both before the softmax; for vocabularies that are padded differently.

    Returns
    -------
    T^2 times the divergence, shape (N,) [nats].

    Raises
    ------
    InputError
        For an unknown kind, a parameter out of its range or vocabularies of different sizes.
    """
    check_divergence(kind, beta, alpha, temperature)
    student, teacher = wide(student_logits), wide(teacher_logits)
    if vocabulary is not None:
        check_vocabulary(vocabulary, student.shape[-1], teacher.shape[-1])
        student, teacher = student[..., :vocabulary], teacher[..., :vocabulary]
    elif student.shape[-1] != teacher.shape[-1]:
        raise other_vocabulary(student.shape[-1], teacher.shape[-1])
    log_q = torch.log_softmax(student / temperature, dim=-1)
    log_p = torch.log_softmax(teacher / temperature, dim=-1)
    return temperature**2 * divergence_of_logs(log_q, log_p, kind=kind, beta=beta, alpha=alpha)


def sparse_divergence(
    student_logits: Tensor,
    top_ids: Tensor,
    top_logprobs: Tensor,
    tail_mass: Tensor,
    *,
    kind: Kind = "forward-kl",
    beta: float = 0.5,
    alpha: float = 0.1,
    temperature: float = 1.0,
    vocabulary: int | None = None,
) -> Tensor:
    """The divergence where only the teacher's top tokens are known: all others are one outcome, the tail.

    sum over the top of p log(p / q), plus p_r log(p_r / q_r) with r the rest (and likewise for the other kinds). By the
    data processing inequality it is never above the divergence of the full distributions.

    The teacher's K + 1 outcomes are scaled to sum to one, since stored values are rounded. A reverse KL is infinite
    where the teacher's tail mass is 0 and the student's is not; the mixtures are always finite.

    Parameters
    ----------
    student_logits : shape (N, V).
    top_ids : the teacher's top tokens, shape (N, K), each at most once a row; -1 where a row has fewer.
    top_logprobs : their log-probabilities at this temperature, shape (N, K) [nats].
    tail_mass : probability of all other tokens at this temperature, shape (N,).
    kind, beta, alpha, temperature, vocabulary : as in :func:`divergence`; the vocabulary cuts the student's logits.

    Returns
    -------
    T^2 times the divergence, shape (N,) [nats].

    Raises
    ------
    InputError
        For an unknown kind, a parameter out of its range or an id outside the vocabulary.
    """
    check_divergence(kind, beta, alpha, temperature)
    student = wide(student_logits)
    if vocabulary is not None:
        check_vocabulary(vocabulary, student.shape[-1])
        student = student[..., :vocabulary]
    check_ids(top_ids, student.shape[-1])
    student = student / temperature
    log_p = sparse_logs(top_ids, top_logprobs, tail_mass, student.shape[-1], student.dtype)
    known = top_ids != PADDING
    # The tail is summed over what is left, not taken as 1 - sum: nothing cancels where the student is sure.
    rows, columns = known.nonzero(as_tuple=True)
    left = student.index_put((rows, top_ids[rows, columns]), student.new_tensor(-torch.inf))
    top = student.gather(-1, top_ids.clamp(min=0)).masked_fill(~known, -torch.inf)
    log_q = torch.log_softmax(torch.cat([top, left.logsumexp(-1, keepdim=True)], dim=-1), dim=-1)
    return temperature**2 * divergence_of_logs(log_q, log_p, kind=kind, beta=beta, alpha=alpha)


def uld(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Universal logit distillation: the distance of two distributions over different vocabularies.

    sum |sort(ps) - sort(pt)|, the smaller vocabulary padded with zeros: the Wasserstein distance where every token is
    as far from every other (Boizard et al. 2024, arXiv:2402.12030, equation 4). It sees the shapes, not the words.

    Parameters
    ----------
    student_logits : shape (N, Vs).
    teacher_logits : shape (N, Vt), each row from the teacher's own tokenization.

    Returns
    -------
    Distance, shape (N,), in [0, 2].
    """
    size = max(student_logits.shape[-1], teacher_logits.shape[-1])

    def ranked(logits: Tensor) -> Tensor:
        shares = torch.softmax(wide(logits), dim=-1).sort(dim=-1, descending=True).values
        return functional.pad(shares, (0, size - shares.shape[-1]))

    return (ranked(student_logits) - ranked(teacher_logits)).abs().sum(-1)


def feature_loss(student_hidden: Tensor, teacher_hidden: Tensor, *, kind: FeatureKind = "mse") -> Tensor:
    """How far the student's hidden state is from the teacher's.

    After FitNets (arXiv:1412.6550) and, for the cosine, DistilBERT (arXiv:1910.01108). "mse" is |hs - ht|^2 / d,
    "normalised" the same after each is divided by its root mean square, "cosine" 1 - cos; normalised = 2 cosine.

    Parameters
    ----------
    student_hidden : projected to the teacher's width, shape (N, d).
    teacher_hidden : shape (N, d).

    Returns
    -------
    Loss, shape (N,).

    Raises
    ------
    InputError
        For an unknown kind or different shapes.
    """
    if kind not in get_args(FeatureKind):
        raise InputError(f"the feature loss must be one of {', '.join(get_args(FeatureKind))}. Got {kind!r}.")
    student, teacher = wide(student_hidden), wide(teacher_hidden)
    if student.shape != teacher.shape:
        raise InputError(
            f"hidden states must have one shape. Got {tuple(student.shape)} for the student and {tuple(teacher.shape)} "
            f"for the teacher; project the student to the teacher's width."
        )
    if kind == "cosine":
        return 1 - functional.cosine_similarity(student, teacher, dim=-1)
    if kind == "normalised":
        student, teacher = (functional.rms_norm(x, x.shape[-1:], eps=1e-12) for x in (student, teacher))
    return (student - teacher).square().mean(-1)


def attention_loss(student_attention: Tensor, teacher_attention: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher | student) of where a query looks, heads averaged (after MiniLM, arXiv:2002.10957).

    Heads are averaged, so that their numbers may differ. A probability of the student that underflows counts as the
    smallest float.

    Parameters
    ----------
    student_attention : probabilities, shape (B, Hs, S, S), queries before keys.
    teacher_attention : shape (B, Ht, S, S).
    mask : 1 where a token is real, shape (B, S).

    Returns
    -------
    Divergence by query, shape (B, S) [nats]; 0 where the query is masked.
    """
    real = mask.bool()
    both = real[:, :, None] & real[:, None, :]

    def looks(attention: Tensor) -> Tensor:
        shares = torch.where(both, wide(attention).mean(1), 0.0)
        return shares / torch.where(real, shares.sum(-1), 1.0)[..., None]

    student, teacher = looks(student_attention), looks(teacher_attention)
    tiny = torch.finfo(student.dtype).tiny
    return (torch.special.xlogy(teacher, teacher) - teacher * student.clamp(min=tiny).log()).sum(-1)


def divergence_of_logs(log_q: Tensor, log_p: Tensor, *, kind: Kind, beta: float, alpha: float) -> Tensor:
    """The divergence of two distributions, given as logarithms: student's first, shape (N, C) each; no temperature."""
    if kind == "forward-kl" or (kind == "jsd" and beta == 0):
        return _kl(log_p, log_q)
    if kind == "reverse-kl" or (kind == "jsd" and beta == 1):
        return _kl(log_q, log_p)
    if kind == "jsd":
        mixture = _log_mixture(log_p, log_q, beta)
        return beta * _kl(log_p, mixture) + (1 - beta) * _kl(log_q, mixture)
    if kind == "skewed-forward":
        return _kl(log_p, _log_mixture(log_p, log_q, alpha))
    return _kl(log_q, _log_mixture(log_p, log_q, 1 - alpha))


def sparse_logs(top_ids: Tensor, top_logprobs: Tensor, tail_mass: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """The teacher's K + 1 outcomes as logarithms that sum to one, shape (N, K + 1); -inf where an id is padding.

    Where the top is the whole vocabulary, what is stored of a tail is rounding, and the student has none.
    """
    known = top_ids != PADDING
    top = top_logprobs.to(dtype).masked_fill(~known, -torch.inf)
    tail = tail_mass.to(dtype).masked_fill(known.sum(-1) >= size, 0.0)
    return torch.log_softmax(torch.cat([top, tail.log()[:, None]], dim=-1), dim=-1)


def wide(x: Tensor) -> Tensor:
    """In float32 or better."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def check_divergence(kind: str, beta: float, alpha: float, temperature: float) -> None:
    """Raise :class:`InputError` where a parameter of a divergence cannot be right."""
    if kind not in get_args(Kind):
        raise InputError(f"the divergence must be one of {', '.join(get_args(Kind))}. Got {kind!r}.")
    if not 0 <= beta <= 1:
        raise InputError(f"beta must be in [0, 1]. Got {beta}. It is the weight of the teacher in the JSD.")
    if not 0 <= alpha < 1:
        raise InputError(f"alpha must be in [0, 1). Got {alpha}. It is the share of the own distribution.")
    if not 0 < temperature < torch.inf:
        raise InputError(f"temperature must be above 0 and finite. Got {temperature}.")


def check_vocabulary(vocabulary: int, *sizes: int) -> None:
    """Raise :class:`InputError` where there are fewer logits than ids."""
    if not 0 < vocabulary <= min(sizes):
        raise InputError(f"vocabulary must be from 1 to {min(sizes):,}, the number of logits. Got {vocabulary:,}.")


def check_ids(ids: Tensor, size: int) -> None:
    """Raise :class:`InputError` where an id of the teacher is not one of the student's, -1 aside."""
    if ids.numel() and not (int(ids.min()) >= PADDING and int(ids.max()) < size):
        raise InputError(
            f"the teacher's ids must be below {size:,}, or {PADDING} for padding. Got {int(ids.min()):,} to "
            f"{int(ids.max()):,}; the teacher's vocabulary is not the student's."
        )


def other_vocabulary(student: int, teacher: int) -> InputError:
    """Two models whose logits cannot be compared one by one."""
    return InputError(
        f"the student has {student:,} logits and the teacher {teacher:,}. Where the first ids are the same tokens, "
        f"give vocabulary=; otherwise use the cross-tokenizer loss (uld)."
    )


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """sum a log(a / b); an outcome of probability 0 under a counts nothing, also where it is 0 under b."""
    a = log_a.exp()
    return (a * (log_a - log_b).masked_fill(a == 0, 0.0)).sum(-1)


def _log_mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """log(share p + (1 - share) q); finite, so that its gradient is."""
    mixture = share * log_p.exp() + (1 - share) * log_q.exp()
    return mixture.clamp(min=torch.finfo(mixture.dtype).tiny).log()
