"""Weights in 8 bits, with nothing but torch: fp8 and int8 products where the device has them, refused elsewhere.

Each output row of a weight and each token's activations have a scale of their own (W8A8, dynamic). The output layer
stays as it is, as quantisers leave it. Speed is what this is for: nobody has looked at what it does to quality.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from distillcalc.errors import InputError

FP8_MOST = 448.0  # the largest number of e4m3
INT8_MOST = 127.0
FP8_CAPABILITY = (8, 9)  # of CUDA devices with fp8 products
FEWEST_INT8_ROWS = 32  # torch's int8 product wants more than 16
ALLOWED_ERROR = 0.1  # relative to the largest value; rounding to 8 bits makes below 0.05
WIDTH_MULTIPLE = 16


def quantise(model: Any, precision: str) -> int:
    """Hold the linear layers of a model on a GPU in 8 bits, in place.

    Parameters
    ----------
    precision : "fp8" or "int8".

    Returns
    -------
    How many layers are; those whose sizes are no multiple of 16 are not.

    Raises
    ------
    InputError
        If this device or this torch has no such products, or gets them wrong.
    """
    import torch

    device = model.device
    if device.type != "cuda":
        raise InputError(
            f"precision {precision!r} needs a CUDA device: on a CPU torch's 8-bit products are slower than fp32. Set "
            "precision = 'fp32', or serve a GGUF file with llama.cpp and measure the endpoint"
        )
    if precision == "fp8" and torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
        raise InputError(f"{torch.cuda.get_device_name(device)} has no fp8 products. Set precision = 'int8' or 'bf16'")
    refuse_wrong_products(precision, device)
    head = model.get_output_embeddings()
    done = 0
    for layer in model.modules():
        if (
            type(layer) is torch.nn.Linear
            and layer is not head
            and not any(n % WIDTH_MULTIPLE for n in layer.weight.shape)
        ):
            hold_in_8_bits(layer, precision)
            done += 1
    return done


def refuse_wrong_products(precision: str, device: Any) -> None:
    """Try one product and hold it against the exact one.

    Raises
    ------
    InputError
        If it cannot be computed, or is wrong.
    """
    import torch

    layer = torch.nn.utils.skip_init(torch.nn.Linear, 64, 32, bias=False, device=device, dtype=torch.bfloat16)
    layer.requires_grad_(False)
    own = torch.Generator().manual_seed(0)  # the seed of everything else stays as it is
    layer.weight.copy_(torch.randn(32, 64, generator=own))
    asked = torch.randn(3, 64, generator=own).to(device, torch.bfloat16)
    exact = layer(asked).float()
    try:
        hold_in_8_bits(layer, precision)
        off = float((layer(asked).float() - exact).abs().max() / exact.abs().max())
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"torch {torch.__version__} computes no {precision} products on {device}: {first}. Set precision = 'bf16'"
        ) from error
    if not off < ALLOWED_ERROR:
        raise InputError(
            f"{precision} products on {device} are off by {off:.0%} of the largest value. Set precision = 'bf16'"
        )


def hold_in_8_bits(layer: Any, precision: str) -> None:
    """Replace the weight of one linear layer and what it computes."""
    import torch

    most, kind = (FP8_MOST, torch.float8_e4m3fn) if precision == "fp8" else (INT8_MOST, torch.int8)
    weight = layer.weight.detach()
    scale = (weight.abs().amax(dim=1, keepdim=True).float() / most).clamp(min=1e-12)
    scaled = weight.float() / scale
    held = (scaled if precision == "fp8" else scaled.round()).to(kind)
    layer.register_buffer("weight_scale", scale.t().contiguous(), persistent=False)
    layer.register_parameter("weight", torch.nn.Parameter(held, requires_grad=False))
    layer.forward = partial(_fp8 if precision == "fp8" else _int8, layer)


def _fp8(layer: Any, inputs: Any) -> Any:
    import torch

    rows = inputs.reshape(-1, inputs.shape[-1])
    scale = (rows.abs().amax(dim=1, keepdim=True).float() / FP8_MOST).clamp(min=1e-12)
    small = (rows / scale).clamp(-FP8_MOST, FP8_MOST).to(torch.float8_e4m3fn)
    made = torch._scaled_mm(
        small, layer.weight.t(), scale_a=scale, scale_b=layer.weight_scale, out_dtype=torch.bfloat16
    )
    return _finished(layer, made, inputs)


def _int8(layer: Any, inputs: Any) -> Any:
    import torch

    rows = inputs.reshape(-1, inputs.shape[-1])
    scale = (rows.abs().amax(dim=1, keepdim=True).float() / INT8_MOST).clamp(min=1e-12)
    small = (rows / scale).round().to(torch.int8)
    missing = max(FEWEST_INT8_ROWS - len(small), 0)
    if missing:
        small = torch.nn.functional.pad(small, (0, 0, 0, missing))
    made = torch._int_mm(small, layer.weight.t())[: len(rows)].float() * scale * layer.weight_scale
    return _finished(layer, made, inputs)


def _finished(layer: Any, made: Any, inputs: Any) -> Any:
    made = made.to(inputs.dtype)
    if layer.bias is not None:
        made = made + layer.bias
    return made.reshape(*inputs.shape[:-1], made.shape[-1])
