from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from distillcalc.benchmark.quantised import (
    FP8_MOST,
    INT8_MOST,
    hold_in_8_bits,
    quantise,
    refuse_wrong_products,
)
from distillcalc.errors import InputError

CPU = torch.device("cpu")


def layer(bias: bool = True) -> Any:
    torch.manual_seed(0)
    return torch.nn.Linear(64, 48, bias=bias).to(torch.bfloat16).requires_grad_(False)


@pytest.mark.parametrize(("precision", "kind"), [("fp8", torch.float8_e4m3fn), ("int8", torch.int8)])
@pytest.mark.parametrize("shape", [(64,), (1, 1, 64), (2, 40, 64)])
def test_products_in_8_bits_are_near_the_exact_ones(precision: str, kind: Any, shape: tuple[int, ...]) -> None:
    exact = layer()
    held = copy.deepcopy(exact)
    hold_in_8_bits(held, precision)
    assert held.weight.dtype == kind
    inputs = torch.randn(shape, dtype=torch.bfloat16)
    made, wanted = held(inputs), exact(inputs)
    assert made.shape == wanted.shape
    assert made.dtype == torch.bfloat16
    # e4m3 keeps 3 bits of a mantissa, 6% at most of each factor, which average out over 64 of them.
    off = float((made.float() - wanted.float()).abs().max() / wanted.float().abs().max())
    assert 0 < off < 0.06


def test_a_scale_for_each_row_by_hand() -> None:
    one = torch.nn.Linear(16, 16, bias=False).to(torch.bfloat16).requires_grad_(False)
    one.weight[:] = 0
    one.weight[0, 0], one.weight[1, 3], one.weight[2, :2] = 2.0, -4.0, torch.tensor([1.0, 0.5])
    held = copy.deepcopy(one)
    hold_in_8_bits(held, "int8")
    torch.testing.assert_close(held.weight_scale[0, :3], torch.tensor([2.0, 4.0, 1.0]) / INT8_MOST)
    assert held.weight[0, 0] == 127
    assert held.weight[1, 3] == -127
    assert held.weight[2, :2].tolist() == [127, 64]  # 63.5 to the even one
    fp8 = copy.deepcopy(one)
    hold_in_8_bits(fp8, "fp8")
    assert fp8.weight[1, 3].float() == -FP8_MOST
    assert fp8.weight[2, 1].float() == 224.0


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_nothing_is_nothing(precision: str) -> None:
    held = layer(bias=False)
    hold_in_8_bits(held, precision)
    assert held(torch.zeros(3, 64, dtype=torch.bfloat16)).abs().max() == 0


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_a_device_is_tried_before_it_is_believed(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_wrong_products(precision, CPU)
    name = "_scaled_mm" if precision == "fp8" else "_int_mm"
    right = getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *args, **more: right(*args, **more) * 2)
    with pytest.raises(InputError, match=f"{precision} products on cpu are off by (9.|10.)%"):
        refuse_wrong_products(precision, CPU)

    def none(*args: Any, **more: Any) -> Any:
        raise RuntimeError("no kernel for this device\nand a long story")

    monkeypatch.setattr(torch, name, none)
    with pytest.raises(InputError, match=f"computes no {precision} products on cpu: no kernel for this device. Set"):
        refuse_wrong_products(precision, CPU)


def test_on_a_cpu_it_is_refused_with_what_would_do() -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(InputError, match=r"'fp8' needs a CUDA device.*llama\.cpp"):
        quantise(LlamaForCausalLM(config), "fp8")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_a_model_on_a_gpu_in_8_bits(precision: str) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        dtype=torch.bfloat16,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to("cuda", torch.bfloat16).eval()
    ids = torch.arange(40, device="cuda")[None]
    with torch.no_grad():
        exact = model(ids).logits.float()
        assert quantise(model, precision) == 2 * 7  # four of the attention and three of the feed-forward; not the head
        made = model(ids).logits.float()
    assert float((made - exact).abs().max() / exact.abs().max()) < 0.2
