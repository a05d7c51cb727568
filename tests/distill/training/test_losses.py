"""The distillation losses against worked numbers, their limits, and what holds for all of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distillcalc.distill.training.losses_torch import (
    attention_loss,
    cross_entropy,
    divergence,
    feature_loss,
    sparse_divergence,
    uld,
)
from distillcalc.errors import InputError

KINDS = ("forward-kl", "reverse-kl", "jsd", "skewed-forward", "skewed-reverse")
P, Q = torch.tensor([[0.7, 0.2, 0.1]]).double().log(), torch.tensor([[0.4, 0.4, 0.2]]).double().log()
kinds = st.sampled_from(KINDS)


def logits(seed: int, rows: int, size: int, spread: float = 2.0) -> Tensor:
    return spread * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def top_of(teacher: Tensor, count: int, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """What an API or a cache keeps: the most likely ids, their log-probabilities, the mass of the rest."""
    logprobs, ids = torch.log_softmax(teacher / temperature, -1).sort(descending=True)
    return ids[:, :count], logprobs[:, :count], logprobs[:, count:].exp().sum(-1)


# p = [.7, .2, .1] teacher, q = [.4, .4, .2] student. KL(p|q) = .7 ln 1.75 + .3 ln .5 = .391731 - .207944 = .183787;
# KL(q|p) = .4 ln(4/7) + .4 ln 2 + .2 ln 2 = -.223846 + .415888 = .192042; the others likewise.
@pytest.mark.parametrize(
    ("options", "nats"),
    [
        ({"kind": "forward-kl"}, 0.1837869),
        ({"kind": "reverse-kl"}, 0.1920420),
        ({"kind": "jsd", "beta": 0.1}, 0.0165180),
        ({"kind": "jsd", "beta": 0.5}, 0.0462008),
        ({"kind": "jsd", "beta": 0.9}, 0.0170996),
        ({"kind": "jsd", "beta": 0.0}, 0.1837869),
        ({"kind": "jsd", "beta": 1.0}, 0.1920420),
        ({"kind": "skewed-forward", "alpha": 0.1}, 0.1485504),
        ({"kind": "skewed-reverse", "alpha": 0.1}, 0.1523769),
    ],
)
def test_three_tokens_by_hand(options: dict[str, object], nats: float) -> None:
    assert divergence(Q, P, **options).item() == pytest.approx(nats, abs=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_jsd_divided_by_its_weight_tends_to_the_two_kls(temperature: float) -> None:
    student, teacher = logits(0, 4, 9), logits(1, 4, 9)
    for beta, kind, weight in ((1e-6, "forward-kl", 1e-6), (1 - 1e-6, "reverse-kl", 1e-6)):
        near = divergence(student, teacher, kind="jsd", beta=beta, temperature=temperature) / weight
        torch.testing.assert_close(
            near, divergence(student, teacher, kind=kind, temperature=temperature), rtol=1e-4, atol=0
        )


def test_skewing_by_nothing_is_the_kl() -> None:
    for skewed, plain in (("skewed-forward", "forward-kl"), ("skewed-reverse", "reverse-kl")):
        torch.testing.assert_close(divergence(Q, P, kind=skewed, alpha=0.0), divergence(Q, P, kind=plain))


def test_hot_limit_is_half_the_mean_square_of_centred_logits() -> None:
    # zs - zt = [-2, 0, 0], centred [-4/3, 2/3, 2/3]; squares sum to 24/9, over 2 x 3 that is 4/9.
    teacher, student = torch.tensor([[3.0, 1.0, 0.0]]).double(), torch.tensor([[1.0, 1.0, 0.0]]).double()
    for kind in ("forward-kl", "reverse-kl"):
        assert divergence(student, teacher, kind=kind, temperature=1e5).item() == pytest.approx(4 / 9, abs=1e-4)
    assert divergence(student, teacher, temperature=1000).item() == pytest.approx(0.44472, abs=5e-6)
    # Near each other the JSD is beta (1 - beta) of the KL: (.5 x .5) x 4/9 = 1/9.
    assert divergence(student, teacher, kind="jsd", temperature=1e4).item() == pytest.approx(1 / 9, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_itself_loses_nothing(kind: str, dtype: torch.dtype) -> None:
    same = logits(2, 5, 300, 8).to(dtype)
    lost = divergence(same, same, kind=kind, temperature=2.0)  # type: ignore[arg-type]
    assert lost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    if kind.endswith("kl"):
        assert (lost == 0).all()
    else:
        assert lost.abs().max() < 1e-6


@given(kinds, st.integers(0, 99), st.integers(2, 40), st.floats(0.2, 5), st.floats(0, 1), st.floats(0, 0.99))
def test_never_negative_and_never_moved_by_a_constant(
    kind: str, seed: int, size: int, temperature: float, beta: float, alpha: float
) -> None:
    student, teacher = logits(seed, 3, size), logits(seed + 100, 3, size)
    options = {"kind": kind, "beta": beta, "alpha": alpha, "temperature": temperature}
    lost = divergence(student, teacher, **options)  # type: ignore[arg-type]
    assert (lost >= -1e-12).all()
    torch.testing.assert_close(divergence(student + 7, teacher - 3, **options), lost, atol=1e-10, rtol=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_both_exclude_count_nothing(kind: str) -> None:
    student, teacher = logits(3, 2, 6).requires_grad_(), logits(4, 2, 6)
    barred = torch.tensor([0.0, 0, 0, 0, -torch.inf, -torch.inf])
    lost = divergence(student + barred, teacher + barred, kind=kind)  # type: ignore[arg-type]
    expected = divergence(student[:, :4], teacher[:, :4], kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(lost, expected)
    (slope,) = torch.autograd.grad(lost.sum(), student, retain_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), student)[0])


def test_a_token_that_only_the_student_excludes_costs_infinity_forward() -> None:
    barred = Q.clone()
    barred[0, 0] = -torch.inf
    assert divergence(barred, P).item() == torch.inf
    assert math.isfinite(divergence(barred, P, kind="jsd").item())
    assert math.isfinite(divergence(barred, P, kind="skewed-forward").item())


def test_padded_vocabularies_are_cut_before_the_softmax() -> None:
    student, teacher = logits(5, 3, 12), logits(6, 3, 16)
    torch.testing.assert_close(
        divergence(student, teacher, vocabulary=10), divergence(student[:, :10], teacher[:, :10])
    )
    with pytest.raises(InputError, match=r"12 logits and the teacher 16.*vocabulary="):
        divergence(student, teacher)
    with pytest.raises(InputError, match="from 1 to 12"):
        divergence(student, teacher, vocabulary=13)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "kl"}, "one of forward-kl, reverse-kl, jsd"),
        ({"beta": 1.2}, "beta must be in"),
        ({"alpha": 1.0}, "alpha must be in"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.inf}, "temperature must be above 0 and finite"),
    ],
)
def test_what_cannot_be_right_is_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        divergence(Q, P, **options)  # type: ignore[arg-type]


def test_cross_entropy_is_minus_log_of_the_labels_probability() -> None:
    # q = [.4, .4, .2]: -ln .2 = 1.6094379; no label, no loss.
    lost = cross_entropy(Q.float().repeat(2, 1).bfloat16(), torch.tensor([2, -100]))
    assert lost.dtype == torch.float32
    assert lost.tolist() == pytest.approx([1.6094379, 0.0], abs=5e-3)
    assert cross_entropy(Q, torch.tensor([2])).item() == pytest.approx(1.6094379, abs=1e-7)


# Sparse


def test_tail_bucket_by_hand() -> None:
    # Top 1 of p = [.7, .2, .1]: outcomes .7/.3 against .4/.6. .7 ln 1.75 + .3 ln .5 = the full KL .1837869, since p and
    # q give the same odds inside the tail (.2/.1 = .4/.2). Reverse: .4 ln(4/7) + .6 ln 2 = .1920420.
    top = top_of(P, 1)
    assert sparse_divergence(Q, *top).item() == pytest.approx(0.1837869, abs=1e-7)
    assert sparse_divergence(Q, *top, kind="reverse-kl").item() == pytest.approx(0.1920420, abs=1e-7)
    # Another student, q = [.4, .2, .4], is further away, but not by these two outcomes.
    other = torch.tensor([[0.4, 0.2, 0.4]]).double().log()
    assert sparse_divergence(other, *top).item() == pytest.approx(0.1837869, abs=1e-7)
    assert divergence(other, P).item() == pytest.approx(0.7 * math.log(1.75) + 0.1 * math.log(0.25), abs=1e-7)


@given(kinds, st.integers(0, 99), st.integers(3, 60), st.data(), st.sampled_from([0.5, 1.0, 2.0]))
def test_knowing_only_the_top_never_adds(kind: str, seed: int, size: int, data: st.DataObject, heat: float) -> None:
    """Data processing inequality; V = 50 and k = 5 is one of these."""
    count = data.draw(st.integers(1, size))
    student, teacher = logits(seed, 3, size, 3), logits(seed + 100, 3, size, 3)
    options = {"kind": kind, "beta": 0.3, "temperature": heat}
    full = divergence(student, teacher, **options)  # type: ignore[arg-type]
    known = sparse_divergence(student, *top_of(teacher, count, heat), **options)  # type: ignore[arg-type]
    assert (known <= full + 1e-9).all()
    assert (known >= -1e-9).all()
    if count >= size - 1:  # a tail of one token is that token
        torch.testing.assert_close(known, full, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_ids_and_an_empty_tail_change_nothing(kind: str) -> None:
    student, teacher = logits(7, 2, 6).requires_grad_(), logits(8, 2, 6)
    ids, logprobs, tail = top_of(teacher, 6)
    full = divergence(student, teacher, kind=kind)  # type: ignore[arg-type]
    padded = (
        torch.cat([torch.full((2, 3), -1), ids], 1),
        torch.cat([torch.zeros(2, 3), logprobs], 1),
        torch.zeros_like(tail),
    )
    known = sparse_divergence(student, *padded, kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(known, full)
    (slope,) = torch.autograd.grad(known.sum(), student)
    torch.testing.assert_close(slope, torch.autograd.grad(full.sum(), student)[0])


@pytest.mark.parametrize("rounding", [1e-9, 1e-3])
def test_a_tail_of_nothing_is_rounding(rounding: float) -> None:
    ids, logprobs, _ = top_of(P, 3)
    assert sparse_divergence(Q, ids, logprobs, torch.tensor([rounding])).item() == pytest.approx(0.1837869, abs=1e-7)


def test_an_impossible_tail_is_infinite_only_in_reverse() -> None:
    ids, logprobs, _ = top_of(P, 2)
    found = {kind: sparse_divergence(Q, ids, logprobs, torch.zeros(1), kind=kind).item() for kind in KINDS}  # type: ignore[arg-type]
    # Scaled to one, p = [7/9, 2/9, 0] against q = [.4, .4, .2].
    assert found["forward-kl"] == pytest.approx(7 / 9 * math.log(7 / 9 / 0.4) + 2 / 9 * math.log(2 / 9 / 0.4))
    assert found.pop("reverse-kl") == torch.inf
    assert all(math.isfinite(nats) for nats in found.values())


def test_the_tail_of_a_sure_student_is_not_lost_to_rounding() -> None:
    # In float32, 1 - e^0/(e^0 + 2 e^-30) is 0; the tail is 2 e^-30, and KL = .5 ln .5/1 + .5 ln(.5/(2 e^-30)) = 13.96.
    student = torch.tensor([[0.0, -30.0, -30.0]], requires_grad=True)
    half = torch.tensor([0.5])
    lost = sparse_divergence(student, torch.tensor([[0]]), half.log()[None], half)
    assert lost.item() == pytest.approx(math.log(0.5) - 0.5 * (math.log(2) - 30), abs=1e-5)
    (slope,) = torch.autograd.grad(lost, student)
    assert slope[0].tolist() == pytest.approx([0.5, -0.25, -0.25])  # q - p


def test_ids_of_another_vocabulary_are_refused() -> None:
    for ids in ([[3]], [[-2]]):
        with pytest.raises(InputError, match="below 3"):
            sparse_divergence(Q, torch.tensor(ids), torch.zeros(1, 1), torch.zeros(1))


# Other losses


def test_uld_by_hand() -> None:
    # Sorted [.7, .2, .1] and [.4, .4, .2]: .3 + .2 + .1 = .6. Against [.6, .4], padded: .1 + .2 + .1 = .4.
    assert uld(Q, P).item() == pytest.approx(0.6)
    two = torch.tensor([[0.4, 0.6]]).double().log()
    assert uld(P, two).item() == pytest.approx(0.4)
    assert uld(two, P).item() == pytest.approx(0.4)


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 20))
def test_uld_does_not_read_the_names_of_tokens(seed: int, own: int, other: int) -> None:
    student, teacher = logits(seed, 2, own), logits(seed + 100, 2, other)
    order = torch.randperm(own, generator=torch.Generator().manual_seed(seed))
    far = uld(student, teacher)
    torch.testing.assert_close(uld(student[:, order], teacher), far)
    assert (uld(student, student[:, order]) < 1e-14).all()
    assert ((far >= 0) & (far <= 2)).all()


def test_uld_of_a_sure_and_a_clueless_model_nears_two() -> None:
    sure = torch.tensor([[100.0] + [0.0] * 999])  # |1 - 1/1000| + 999/1000 = 1.998
    assert uld(torch.zeros(1, 1000), sure).item() == pytest.approx(1.998, abs=1e-5)


def test_features_by_hand() -> None:
    # [3, 4] and [0, 5]: (9 + 1)/2 = 5. Cosine 20/25 = .8, so .2. Root mean squares are both 5/sqrt 2:
    # [3, 4] sqrt 2/5 and [0, 5] sqrt 2/5 differ by [3, -1] sqrt 2/5: 10 x 2/25/2 = .4.
    student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.0]])
    assert feature_loss(student, teacher).item() == pytest.approx(5)
    assert feature_loss(student, teacher, kind="cosine").item() == pytest.approx(0.2)
    assert feature_loss(student, teacher, kind="normalised").item() == pytest.approx(0.4)


@given(st.integers(0, 99), st.integers(1, 30), st.floats(0.1, 100))
def test_normalised_features_are_twice_the_cosine_and_forget_the_length(seed: int, width: int, length: float) -> None:
    student, teacher = logits(seed, 4, width), logits(seed + 100, 4, width)
    apart = feature_loss(student, teacher, kind="normalised")
    torch.testing.assert_close(apart, 2 * feature_loss(student, teacher, kind="cosine"), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(feature_loss(length * student, teacher, kind="normalised"), apart, atol=1e-6, rtol=1e-6)


def test_features_of_nothing_have_a_gradient() -> None:
    for kind in ("mse", "cosine", "normalised"):
        student = torch.zeros(1, 4, requires_grad=True)
        lost = feature_loss(student, torch.ones(1, 4), kind=kind)  # type: ignore[arg-type]
        (slope,) = torch.autograd.grad(lost.sum(), student)
        assert lost.isfinite().all()
        assert slope.isfinite().all()


def test_features_of_other_widths_or_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="project the student"):
        feature_loss(torch.zeros(1, 4), torch.zeros(1, 8))
    with pytest.raises(InputError, match="one of mse, cosine, normalised"):
        feature_loss(torch.zeros(1, 4), torch.zeros(1, 4), kind="l1")  # type: ignore[arg-type]


def test_attention_by_hand() -> None:
    # Two teacher heads [1, 0] and [.5, .5] look [.75, .25] on average, the student's one head [.5, .5]:
    # .75 ln 1.5 + .25 ln .5 = .1308. The first query sees itself alone: 0.
    teacher = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.5, 0.5]]]])
    student = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
    lost = attention_loss(student, teacher, torch.ones(1, 2))
    assert lost[0].tolist() == pytest.approx([0.0, 0.75 * math.log(1.5) + 0.25 * math.log(0.5)], abs=1e-6)


@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_attention_reads_no_padding(seed: int, own: int, other: int, filled: int) -> None:
    def attention(heads: int, shift: int) -> Tensor:
        scores = logits(seed + shift, 2 * heads, 36).view(2, heads, 6, 6)
        mask = torch.zeros(6).index_fill(0, torch.arange(filled, 6), -torch.inf)
        return torch.softmax(scores + mask, -1)

    student, teacher = attention(own, 0), attention(other, 100)
    mask = (torch.arange(6) < filled).long().expand(2, 6)
    lost = attention_loss(student, teacher, mask)
    torch.testing.assert_close(
        lost[:, :filled],
        attention_loss(student[..., :filled, :filled], teacher[..., :filled, :filled], mask[:, :filled]),
    )
    assert (lost >= -1e-12).all()
    assert (lost[:, filled:] == 0).all()
    student[:, :, filled:] = torch.nan  # what some kernels leave at padded queries
    torch.testing.assert_close(attention_loss(student.requires_grad_(), teacher, mask), lost)
    (slope,) = torch.autograd.grad(attention_loss(student, teacher, mask).sum(), student)
    assert slope.isfinite().all()
