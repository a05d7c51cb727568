"""The chunked loss against the naive one, which holds all logits and is differentiated by torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distillcalc.distill.training.head_torch import Head, HeadLoss, LiveTeacher, SparseTeacher, head_loss
from distillcalc.distill.training.losses_torch import cross_entropy, divergence, sparse_divergence
from distillcalc.errors import InputError

KINDS = ("forward-kl", "reverse-kl", "jsd", "skewed-forward", "skewed-reverse")


@dataclass
class Case:
    """A student, its teacher in both forms, and rows of every sort: both weights, one, none, no label."""

    hidden: Tensor
    head: Head
    labels: Tensor
    hard: Tensor
    soft: Tensor
    live: LiveTeacher
    sparse: SparseTeacher
    temperature: float

    @property
    def leaves(self) -> list[Tensor]:
        return [x for x in (self.hidden, self.head.weight, self.head.bias) if x is not None and x.requires_grad]


def make(
    seed: int = 0,
    rows: int = 12,
    size: int = 17,
    width: int = 5,
    *,
    top: int = 4,
    temperature: float = 1.0,
    bias: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dtype: torch.dtype = torch.float64,
) -> Case:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    def head(width: int, learns: bool) -> Head:
        made = Head(normal(size, width), normal(size) if bias else None, scale, softcap)
        for x in (made.weight, made.bias):
            if x is not None:
                x.requires_grad_(learns)
        return made

    labels = torch.randint(size, (rows,), generator=random)
    labels[torch.rand(rows, generator=random) < 0.2] = -100
    hard, soft = (torch.rand(2, rows, generator=random, dtype=torch.float64) + 0.1).to(dtype)
    hard[torch.rand(rows, generator=random) < 0.3] = 0
    soft[torch.rand(rows, generator=random) < 0.3] = 0
    live = LiveTeacher(normal(rows, width + 2), head(width + 2, learns=False))
    with torch.no_grad():
        logprobs, ids = torch.log_softmax(logits(live.hidden, live.head) / temperature, -1).sort(descending=True)
    tail = logprobs[:, top:].exp().sum(-1)
    ids, logprobs = ids[:, :top].clone(), logprobs[:, :top].clone()
    if top > 1:  # some rows have fewer, with the mass moved to the tail
        fewer = torch.rand(rows, generator=random) < 0.3
        tail = torch.where(fewer, tail + logprobs[:, -1].exp(), tail)
        ids[fewer, -1] = -1
    sparse = SparseTeacher(ids, logprobs, tail)
    student = head(width, learns=True)
    return Case(normal(rows, width).requires_grad_(), student, labels, hard, soft, live, sparse, temperature)


def logits(hidden: Tensor, head: Head) -> Tensor:
    made = torch.nn.functional.linear(hidden, head.weight, head.bias) * head.scale
    return made if head.softcap is None else head.softcap * torch.tanh(made / head.softcap)


def naive(case: Case, form: str | None, **options: Any) -> tuple[Tensor, Tensor, int]:
    """Hard and soft sums of all rows at once, and how many labels are most likely."""
    made = logits(case.hidden, case.head)
    size = options.get("vocabulary") or made.shape[-1]
    hard = (cross_entropy(made[:, :size], case.labels) * case.hard).sum()
    reads = (case.hard != 0) & (case.labels != -100)
    soft = hard.new_zeros(())
    if form is not None:
        options["temperature"] = case.temperature
        teacher = case.sparse
        lost = (
            divergence(made, logits(case.live.hidden, case.live.head), **options)
            if form == "live"
            else sparse_divergence(made, teacher.ids, teacher.logprobs, teacher.tail_mass, **options)
        )
        soft = (lost * case.soft).sum()
        reads |= case.soft != 0
    right = int(((made[:, :size].argmax(-1) == case.labels) & reads & (case.labels >= 0)).sum())
    return hard, soft, right


def chunked(case: Case, form: str | None, **options: Any) -> HeadLoss:
    if form is not None:
        teacher = case.live if form == "live" else case.sparse
        options |= {"teacher": teacher, "soft_weights": case.soft, "temperature": case.temperature}
    return head_loss(case.hidden, case.head, case.labels, case.hard, **options)


def assert_same(case: Case, form: str | None, *, chunk_tokens: int | None = 5, **options: Any) -> None:
    hard, soft, right = naive(case, form, **options)
    expected = torch.autograd.grad(3 * (hard + soft), case.leaves)
    made = chunked(case, form, chunk_tokens=chunk_tokens, **options)
    torch.testing.assert_close(made.hard, hard.detach())
    torch.testing.assert_close(made.soft, soft.detach())
    torch.testing.assert_close(made.total, hard + soft)
    assert int(made.right) == right
    for found, true in zip(torch.autograd.grad(3 * made.total, case.leaves), expected, strict=True):
        torch.testing.assert_close(found, true)


@pytest.mark.parametrize("form", [None, "live", "sparse"])
@pytest.mark.parametrize("chunk_tokens", [1, 5, 12, 100, None])
def test_any_chunk_gives_what_all_rows_give(form: str | None, chunk_tokens: int | None) -> None:
    assert_same(make(), form, chunk_tokens=chunk_tokens)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["live", "sparse"])
def test_every_divergence(form: str, kind: str, temperature: float) -> None:
    assert_same(make(1, temperature=temperature), form, kind=kind, beta=0.3, alpha=0.2)
    assert_same(make(2, temperature=temperature, bias=True, scale=0.5, softcap=2.0), form, kind=kind)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("form", ["live", "sparse"])
def test_both_ends_of_the_jsd(form: str, beta: float) -> None:
    assert_same(make(3), form, kind="jsd", beta=beta)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["live", "sparse"])
def test_gradients_are_those_of_finite_differences(form: str, kind: str) -> None:
    case = make(4, rows=5, size=7, width=3, top=3, temperature=2.0, bias=True, softcap=3.0)

    def total(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        head = replace(case.head, weight=weight, bias=bias)
        return chunked(replace(case, hidden=hidden, head=head), form, kind=kind, chunk_tokens=2).total

    assert torch.autograd.gradcheck(total, case.leaves)


@settings(max_examples=60)
@given(
    st.integers(0, 999), st.integers(1, 9), st.integers(2, 30), st.integers(1, 6), st.integers(1, 11), st.data(),
    st.sampled_from(KINDS), st.sampled_from([None, "live", "sparse"]), st.sampled_from([0.7, 1.0, 3.0]), st.booleans(),
)  # fmt: skip
def test_any_shape(
    seed: int, rows: int, size: int, width: int, chunk: int, data: st.DataObject, kind: str, form: str | None,
    heat: float, bias: bool,
) -> None:  # fmt: skip
    top = data.draw(st.integers(1, size))
    case = make(seed, rows, size, width, top=top, temperature=heat, bias=bias)
    assert_same(case, form, chunk_tokens=chunk, **({} if form is None else {"kind": kind}))


@pytest.mark.parametrize("form", ["live", "sparse"])
def test_in_float32_within_its_rounding(form: str) -> None:
    assert_same(make(5, 40, 300, 16, top=20, dtype=torch.float32), form, chunk_tokens=7)


@pytest.mark.parametrize("form", ["live", "sparse"])
def test_padded_ids_are_cut_off_both_models(form: str) -> None:
    case = make(6)
    wider = torch.cat([case.live.head.weight, torch.full((3, 7), 9.0).double()])  # the teacher's padding is likely
    case.live = replace(case.live, head=Head(wider))
    with torch.no_grad():
        logprobs, ids = torch.log_softmax(logits(case.live.hidden, case.live.head)[:, :15], -1).sort(descending=True)
    case.sparse = SparseTeacher(ids[:, :4], logprobs[:, :4], logprobs[:, 4:].exp().sum(-1))
    case.labels[case.labels >= 15] = 0
    assert_same(case, form, vocabulary=15)
    made = chunked(case, form, vocabulary=15)
    (slope,) = torch.autograd.grad(made.total, case.head.weight)
    assert (slope[15:] == 0).all()
    assert (slope[:15] != 0).any()


@pytest.mark.parametrize("kind", ["forward-kl", "reverse-kl"])
def test_a_student_that_is_its_teacher_loses_nothing_and_learns_nothing(kind: str) -> None:
    case = make(7, 9, 40, 8, dtype=torch.float32)
    itself = LiveTeacher(case.hidden, case.head)
    made = head_loss(
        case.hidden, case.head, case.labels, 0 * case.hard, soft_weights=case.soft, teacher=itself, kind=kind
    )  # type: ignore[call-overload]
    assert float(made.total.detach()) == 0
    assert all((slope == 0).all() for slope in torch.autograd.grad(made.total, case.leaves))


def test_rows_without_weight_are_not_read() -> None:
    case = make(8)
    idle = (case.soft == 0) & ((case.hard == 0) | (case.labels == -100))
    assert idle.any()
    hard_only = (case.soft == 0) & ~idle
    assert hard_only.any()
    expected = chunked(case, "live")
    slopes = torch.autograd.grad(expected.total, case.leaves)
    with torch.no_grad():
        case.hidden[idle] = torch.nan
        case.live.hidden[idle | hard_only] = torch.nan
    made = chunked(case, "live", chunk_tokens=3)
    torch.testing.assert_close(made.total, expected.total)
    for found, true in zip(torch.autograd.grad(made.total, case.leaves), slopes, strict=True):
        torch.testing.assert_close(found, true)
    assert (slopes[0][idle] == 0).all()


@pytest.mark.parametrize("form", [None, "live", "sparse"])
def test_a_logit_that_is_no_number_shows(form: str | None) -> None:
    case = make(9)
    row = int(((case.hard != 0) & (case.labels != -100)).nonzero()[0])
    with torch.no_grad():
        case.hidden[row] = torch.nan
    made = chunked(case, form)
    assert made.total.isnan()
    assert made.hard.isnan()


@pytest.mark.parametrize("form", [None, "live", "sparse"])
@pytest.mark.parametrize("rows", [0, 4])
def test_no_rows_or_none_with_weight_cost_nothing_and_stay_in_the_graph(form: str | None, rows: int) -> None:
    case = make(10, rows=max(rows, 1))
    if rows == 0:
        case = replace(
            case, hidden=torch.zeros(0, 5, dtype=torch.float64, requires_grad=True), labels=case.labels[:0],
            hard=case.hard[:0], soft=case.soft[:0], live=replace(case.live, hidden=case.live.hidden[:0]),
            sparse=SparseTeacher(case.sparse.ids[:0], case.sparse.logprobs[:0], case.sparse.tail_mass[:0]),
        )  # fmt: skip
    case.hard, case.soft = 0 * case.hard, 0 * case.soft
    made = chunked(case, form)
    assert float(made.total.detach()) == 0
    assert int(made.right) == 0
    made.total.backward()
    assert all(leaf.grad is not None and (leaf.grad == 0).all() for leaf in case.leaves)


@pytest.mark.parametrize("form", ["live", "sparse"])
def test_an_adapter_leaves_the_frozen_weight_without_gradient(form: str) -> None:
    case = make(11, bias=True)
    assert case.head.bias is not None
    case.head.weight.requires_grad_(False)
    case.head.bias.requires_grad_(False)
    assert case.leaves == [case.hidden]
    assert_same(case, form)
    made = chunked(case, form)
    saved = made.total.grad_fn.saved_tensors  # type: ignore[union-attr]
    assert [x is not None for x in saved] == [True, False, False]


def test_the_teacher_learns_nothing() -> None:
    case = make(12)
    taught = replace(case.live.head, weight=case.live.head.weight.detach().requires_grad_())
    case.live = LiveTeacher(case.live.hidden.requires_grad_(), taught)
    chunked(case, "live").total.backward()
    assert case.live.hidden.grad is None
    assert taught.weight.grad is None
    assert case.head.weight.grad is not None


@pytest.mark.parametrize("form", [None, "live", "sparse"])
def test_evaluation_gives_the_same_sums_without_gradients(form: str | None) -> None:
    case = make(13, temperature=2.0)
    training = chunked(case, form)
    with torch.no_grad():
        made = chunked(case, form)
    assert not made.total.requires_grad
    for name in ("total", "hard", "soft", "right"):
        torch.testing.assert_close(getattr(made, name), getattr(training, name).detach())


def test_it_can_be_differentiated_again_but_not_twice() -> None:
    case = make(14)
    made = chunked(case, "live")
    first = torch.autograd.grad(made.total, case.leaves, retain_graph=True)
    second = torch.autograd.grad(made.total, case.leaves, create_graph=True)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(RuntimeError, match="does not require grad"):
        second[0].sum().backward()


@pytest.mark.parametrize("form", ["live", "sparse"])
def test_bfloat16_models_have_float32_losses(form: str) -> None:
    exact = make(15, 30, 200, 32, top=9)
    case = make(15, 30, 200, 32, top=9, dtype=torch.bfloat16)
    made, expected = chunked(case, form, chunk_tokens=4), chunked(exact, form)
    assert made.total.dtype == torch.float32
    assert float(made.total.detach()) == pytest.approx(float(expected.total.detach()), rel=0.02)
    for found, true in zip(
        torch.autograd.grad(made.total, case.leaves),
        torch.autograd.grad(expected.total, exact.leaves),
        strict=True,
    ):
        assert found.dtype == torch.bfloat16
        assert float((found.double() - true).norm() / true.norm()) < 0.03


def test_under_autocast_only_the_products_are_narrow() -> None:
    case = make(16, 30, 200, 32, dtype=torch.float32)
    expected = chunked(case, "live")
    with torch.autocast("cpu", torch.bfloat16):
        made = chunked(case, "live")
    assert made.total.dtype == torch.float32
    assert 0 < abs(float((made.total - expected.total).detach())) < 0.02 * float(expected.total.detach())
    for found, true in zip(
        torch.autograd.grad(made.total, case.leaves), torch.autograd.grad(expected.total, case.leaves), strict=True
    ):
        assert found.dtype == torch.float32
        assert float((found - true).norm() / true.norm()) < 0.03


SPREAD = """
import os
import sys
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from tests.distill.training import test_head as th

torch.set_num_threads(1)
rank, meet = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
one, other = th.make(17, bias=True), th.make(17, bias=True)  # the same models, each reading rows of its own
one.hard[6:] = one.soft[6:] = other.hard[:6] = other.soft[:6] = 0
slopes = [torch.autograd.grad(th.chunked(case, "live").total, case.leaves) for case in (one, other)]
expected = [(a + b) / 2 for a, b in zip(*slopes)]

case = (one, other)[rank]
spread = lambda x: distribute_tensor(x.detach(), mesh, [Shard(0)]).requires_grad_()
case.head = th.Head(spread(case.head.weight), spread(case.head.bias))
case.live = th.LiveTeacher(case.live.hidden, th.Head(*map(spread, (case.live.head.weight, case.live.head.bias))))
found = torch.autograd.grad(th.chunked(case, "live").total, case.leaves)
torch.testing.assert_close(found[0], slopes[rank][0])
for mine, true in zip(found[1:], expected[1:], strict=True):
    assert isinstance(mine, DTensor) and mine.placements == (Shard(0),)
    torch.testing.assert_close(mine.full_tensor(), true)
distributed.barrier()
os._exit(0)  # all holds; gloo's threads now and then abort a process that ends on a busy machine
"""


def test_weights_spread_over_two_processes_get_the_mean_of_their_gradients(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    both = [
        subprocess.Popen([sys.executable, "-c", SPREAD, str(rank), str(tmp_path / "meet")], cwd=root)
        for rank in range(2)
    ]
    try:
        assert [process.wait(120) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_no_tensor_of_all_rows_times_the_vocabulary() -> None:
    """The largest tensors are a chunk's logits and the head's own size."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = [0]

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for each in made if isinstance(made, tuple) else (made,):
                if isinstance(each, Tensor):
                    largest[0] = max(largest[0], each.numel())
            return made

    case = make(18, rows=64, size=200, width=5)
    for form in (None, "live", "sparse"):
        for kind in KINDS:
            with Watch():
                options = {} if form is None else {"kind": kind}
                chunked(case, form, chunk_tokens=4, **options).total.backward()
    assert largest[0] == max(4 * 200, 200 * 7)


@pytest.mark.parametrize(
    ("change", "options", "match"),
    [
        ({"labels": torch.tensor([17])}, {}, "from 0 to 16, or -100"),
        ({"labels": torch.tensor([-1])}, {}, "from 0 to 16, or -100"),
        ({}, {"kind": "kl"}, "one of forward-kl"),
        ({}, {"temperature": 0.0}, "temperature must be above 0"),
        ({}, {"chunk_tokens": 0}, "at least 1"),
        ({}, {"vocabulary": 18}, "from 1 to 17"),
        ({}, {"soft_weights": torch.ones(1)}, "both a teacher and soft_weights"),
    ],
)
def test_what_cannot_be_right_is_refused(change: dict[str, Any], options: dict[str, Any], match: str) -> None:
    case = replace(make(rows=1), labels=torch.tensor([0]))
    case = replace(case, **change)
    with pytest.raises(InputError, match=match):
        chunked(case, None, **options)


def test_teachers_of_other_vocabularies_are_refused() -> None:
    case = make(rows=1)
    case.live = replace(case.live, head=Head(torch.zeros(20, 7).double()))
    with pytest.raises(InputError, match=r"17 logits and the teacher 20.*vocabulary="):
        chunked(case, "live")
    case.sparse = replace(case.sparse, ids=case.sparse.ids + 17)
    with pytest.raises(InputError, match="below 17"):
        chunked(case, "sparse")
