"""Tiny models with random weights, prompts for them, and what transformers itself writes to these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
)

from distillcalc.benchmark.in_process import InProcess
from distillcalc.benchmark.load import Prompt
from distillcalc.benchmark.shapes import TokenIds

VOCABULARY = 97
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip


def llama(**more: Any) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE | more)).eval()


def gemma() -> Any:
    """Every second layer sees eight tokens alone, fewer than the sequences have."""
    torch.manual_seed(0)
    kinds = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(
        Gemma3TextConfig(**SHAPE | {"head_dim": 8, "sliding_window": 8, "layer_types": kinds})
    ).eval()  # fmt: skip


def qwen() -> Any:
    """Every second layer keeps a state of constant size instead of a cache."""
    torch.manual_seed(0)
    more = {
        "head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    }  # fmt: skip
    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**SHAPE | more)).eval()


def engine(model: Any = None, **more: Any) -> InProcess:
    return InProcess(model or llama(), TokenIds(VOCABULARY), "tiny", **more)


def prompts(*lengths: tuple[int, int], whole: bool = True) -> list[Prompt]:
    """Prompts of so many tokens in and out."""
    made = []
    for i, (read, write) in enumerate(lengths):
        ids = [(7 * i + 13 * k) % VOCABULARY for k in range(read)]
        made.append(Prompt(" ".join(map(str, ids)), read, write, whole))
    return made


def generated(model: Any, ids: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """What transformers writes to a batch, padded on the left."""
    longest = max(map(len, ids))
    padded = torch.tensor([[0] * (longest - len(one)) + list(one) for one in ids])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids])
    out = model.generate(
        input_ids=padded, attention_mask=mask, max_new_tokens=most, do_sample=False, pad_token_id=VOCABULARY - 1
    )
    return [row[longest:].tolist() for row in out]


def numbers(text: str) -> list[int]:
    return [int(one) for one in text.split()]


LENGTHS = ((3, 12), (11, 12), (7, 12))
