"""The shape of a model: in the catalog's words, of a family in sizes of its own, and with random weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.catalog.schema import ModelRow
    from distillcalc.distill.training.recipe import Fresh

NUMBERED = ("mlp_only_layers", "moe_layers")  # what a configuration says of layers by their numbers


def fresh_model(base: Any, shape: Fresh) -> Any:
    """A causal language model with random weights, of the family of a configuration.

    Raises
    ------
    InputError
        If the sizes do not go together.
    """
    return random_model(fresh_config(base, shape))


def fresh_config(base: Any, shape: Fresh, row: ModelRow | None = None) -> Any:
    """A configuration of the family of another one, in sizes of its own.

    Parameters
    ----------
    base : a configuration of transformers.
    shape : sizes; what it leaves out is the catalog's, or else the base's.
    row : of the catalog's models.

    Raises
    ------
    InputError
        If the sizes do not go together.
    """
    config = copy.deepcopy(base)
    text = config.get_text_config()
    patterns = {name: list(getattr(text, name)) for name in said_by_layer(text)}
    expert = _experts_name(text)
    wide = "moe_intermediate_size" if getattr(text, expert, None) and hasattr(text, "moe_intermediate_size") else ""
    names = {
        "layers": "num_hidden_layers", "hidden": "hidden_size", "intermediate": wide or "intermediate_size",
        "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "experts": expert,
    }  # fmt: skip
    known = row.shape if row is not None else None
    for ours, theirs in names.items():
        value = getattr(shape, ours) or getattr(known, ours, None)
        if value is None:
            continue
        if not hasattr(text, theirs):
            if getattr(shape, ours) is None and known is not None and ours == "kv_heads" and value == known.heads:
                continue
            raise InputError(
                f"a model of the family {text.model_type} has no {ours}. "
                + (f"Leave fresh.{ours} out" if known is None else "The catalog's model is of another family")
            )
        setattr(text, theirs, value)
    if known is None:
        if shape.heads is not None and shape.kv_heads is None and hasattr(text, "num_key_value_heads"):
            most = min(text.num_key_value_heads, shape.heads)
            text.num_key_value_heads = max(k for k in range(1, most + 1) if shape.heads % k == 0)
    else:
        if known.experts_per_token is not None and hasattr(text, "num_experts_per_tok"):
            text.num_experts_per_tok = known.experts_per_token
        text.vocab_size = max(text.vocab_size, known.vocab)  # never fewer than the tokenizer's
        config.tie_word_embeddings = text.tie_word_embeddings = known.tied_embeddings
    _refuse_uneven(text, own_head=not (shape.hidden or shape.heads))
    if shape.hidden or shape.heads:
        if getattr(text, "head_dim", None) is not None:
            text.head_dim = text.hidden_size // text.num_attention_heads
    elif known is not None and (
        hasattr(text, "head_dim") or known.head_dim * text.num_attention_heads != text.hidden_size
    ):
        text.head_dim = known.head_dim
    for name, pattern in patterns.items():
        setattr(text, name, [pattern[i % len(pattern)] for i in range(text.num_hidden_layers)])
    for name in NUMBERED:
        if getattr(text, name, None):
            setattr(text, name, [i for i in getattr(text, name) if i < text.num_hidden_layers])
    return config


def _refuse_uneven(text: Any, *, own_head: bool) -> None:
    """Heads must divide; where the base or the catalog has a size of a head, the hidden size may be any."""
    if text.hidden_size % text.num_attention_heads and not own_head:
        raise InputError(
            f"hidden must be a multiple of heads. Got {text.hidden_size} and {text.num_attention_heads}: set "
            "fresh.heads"
        )
    groups = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if text.num_attention_heads % groups:
        raise InputError(
            f"heads must be a multiple of kv_heads. Got {text.num_attention_heads} and {groups}: set fresh.kv_heads"
        )
    head = text.hidden_size // text.num_attention_heads
    if head % 2 and not own_head and getattr(text, "rope_parameters", None):
        raise InputError(
            f"hidden / heads must be even, for positions are turned in pairs. Got {text.hidden_size} / "
            f"{text.num_attention_heads} = {head}: set fresh.heads"
        )


def random_model(config: Any) -> Any:
    """A causal language model with random weights, in 32 bits."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def shapes_alone(config: Any) -> Any:
    """A model without memory for its weights: names and shapes."""
    import torch

    with torch.device("meta"):
        return random_model(copy.deepcopy(config))


def said_by_layer(config: Any) -> list[str]:
    """Names of what a configuration lists with one value for each layer."""
    return [
        name
        for name, value in vars(config).items()
        if "layer" in name and name not in NUMBERED and isinstance(value, (list, tuple))
        and len(value) == config.num_hidden_layers
    ]  # fmt: skip


def count_parameters(model: Any) -> int:
    """Parameters of a model, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def describe_shape(config: Any) -> str:
    """A shape in words: layers, hidden size, heads, vocabulary, experts."""
    text = config.get_text_config()
    words = f"{text.num_hidden_layers} layers, hidden {text.hidden_size:,}, {text.num_attention_heads} heads"
    experts = getattr(text, _experts_name(text), None)
    return words + f", vocabulary {text.vocab_size:,}" + (f", {experts} experts" if experts else "")


def shape_of(model: Any) -> dict[str, Any]:
    """A model's shape in the catalog's words (:class:`distillcalc.catalog.Shape`)."""
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    experts = getattr(text, _experts_name(text), None)
    wide = (getattr(text, "moe_intermediate_size", None) if experts else None) or getattr(
        text, "intermediate_size", None
    )
    shape: dict[str, Any] = {
        "layers": text.num_hidden_layers,
        "hidden": text.hidden_size,
        "heads": heads,
        "kv_heads": getattr(text, "num_key_value_heads", None) or heads,
        "head_dim": getattr(text, "head_dim", None) or text.hidden_size // heads,
        "vocab": text.vocab_size,
        "tied_embeddings": bool(getattr(model.config, "tie_word_embeddings", False)),
    }
    if wide:
        shape["intermediate"] = wide
    if experts:
        shape |= {"experts": experts, "experts_per_token": text.num_experts_per_tok}
    return shape


def catalog_row(model: Any, *, name: str, source: str, checked: str, licence: str = "") -> dict[str, Any]:
    """A model as a row of the catalog's models, for ``[overrides.models."id"]`` of a scenario.

    Parameters
    ----------
    source, checked : where its numbers come from and the day (ISO) on which they were read.
    """
    shape = shape_of(model)
    total = count_parameters(model)
    row: dict[str, Any] = {
        "name": name, "provider": "own", "kind": "open", "params_b": total / 1e9, "shape": shape,
        "licence": licence, "source": source, "checked": checked, "confidence": "high",
    }  # fmt: skip
    if shape.get("experts"):
        row["active_params_b"] = (total - _idle_parameters(model, shape)) / 1e9
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most:
        row["context_window"] = most
    return row


def _idle_parameters(model: Any, shape: Mapping[str, Any]) -> int:
    """Parameters that a token does not pass: of the experts that it is not sent to."""
    sent = float(shape["experts_per_token"] / shape["experts"])
    held = sum(int(p.numel()) for name, p in model.named_parameters() if ".experts." in name)  # not the shared ones
    return round(held * (1 - sent))


def _experts_name(text: Any) -> str:
    return (
        next((name for name in ("num_local_experts", "num_experts", "n_routed_experts") if hasattr(text, name)), "")
        or "num_experts"
    )
