"""What a student is before it learns: a model, layers cut from its teacher, or a small configuration of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training.recipe import Fresh, Lora, StudentStart
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.catalog.schema import ModelRow

SAME_SIZE = 0.05  # relative; catalogs round, and count or leave out embeddings


@dataclass(frozen=True)
class Student:
    """A model that will learn, its tokenizer, and where it comes from.

    Parameters
    ----------
    model : a causal language model (transformers). tokenizer : its own.
    origin : in words, for a card.
    kept_layers : of the model that it was cut from; empty where it was not.
    catalog_id : of the catalog's row that it is; empty where there is none.
    """

    model: Any
    tokenizer: Any
    origin: str
    kept_layers: tuple[int, ...] = ()
    catalog_id: str = ""

    @property
    def parameters(self) -> int:
        """How many there are, shared ones once."""
        return count_parameters(self.model)


def load_model(name: str, *, adapter: str | None = None, dtype: str = "float32") -> tuple[Any, Any]:
    """A causal language model and its tokenizer from a folder or a hub; an adapter is merged into it.

    Raises
    ------
    InputError
        If there is no such model, or it is none that writes.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("transformers", "distill") from error

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError) as error:
        what = f"{name!r}" + (f" with the adapter {adapter!r}" if adapter else "")
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the model {what}: {first}. Give a local folder with config.json and safetensors, or a name "
            "of the Hugging Face hub that can be reached from here"
        ) from error
    model.config.use_cache = False
    return model, tokenizer


def start_student(
    start: StudentStart,
    teacher: tuple[Any, Any] | None = None,
    *,
    seed: int = 0,
    catalog: Catalog | None = None,
) -> Student:
    """Build the student that a recipe starts from.

    Parameters
    ----------
    start : what is asked for.
    teacher : model and tokenizer of the teacher, which the student is cut from where ``start.model`` is left out.
    seed : of random weights.
    catalog : to look ``start.catalog`` up in; left out, the shipped one.

    Raises
    ------
    InputError
        If it cannot be built so, or is not the size that the catalog says.
    """
    import torch

    row = None
    if start.catalog is not None:
        from distillcalc.catalog import Catalog

        row = (catalog or Catalog.load()).model(start.catalog)
    if start.model is not None:
        model, tokenizer = load_model(start.model)
        origin = start.model
    elif teacher is not None:
        tokenizer = teacher[1]
        # Cut before it is copied: a large teacher fits once, not twice.
        model, origin = teacher[0], "the teacher's weights"
    else:
        raise InputError("the student has nothing to start from: give its model, or a teacher whose weights are here")
    kept: tuple[int, ...] = ()
    if start.fresh is not None:
        torch.manual_seed(seed)
        model = fresh_model(model.config, _of_catalog(start.fresh, row))
        origin = f"random weights in the shape of {origin}, {describe_shape(model.config)}"
    elif start.layers is not None:
        kept = layers_to_keep(len(decoder_layers(model)), start.layers)
        model = cut_layers(model, kept)
        origin = f"{len(kept)} of {origin}'s layers ({', '.join(map(str, kept))})"
    elif start.model is None:
        model = copy.deepcopy(model)
        origin = f"a copy of {origin}"
    model.config.use_cache = False
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if row is not None:
        _refuse_other_size(model, str(start.catalog), row)
    if start.lora is not None:
        torch.manual_seed(seed)
        model = with_lora(model, start.lora)
    return Student(model, tokenizer, origin, kept, start.catalog or "")


def layers_to_keep(total: int, asked: int | Sequence[int]) -> tuple[int, ...]:
    """Which layers a cut student keeps: evenly spaced with the first and the last, or those that are named.

    Layer i of n is round(i (total - 1) / (n - 1)), as in Sanh et al., arXiv:1910.01108, section 3, who take one of two.

    Raises
    ------
    InputError
        If more are asked for than there are.
    """
    if not isinstance(asked, int):
        if asked and max(asked) >= total:
            raise InputError(f"layers must be below {total}, the teacher's number of layers. Got {max(asked)}")
        return tuple(asked)
    if asked > total:
        raise InputError(f"layers must be at most {total}, the teacher's number of layers. Got {asked}")
    if asked == 1:
        return (0,)
    return tuple(round(i * (total - 1) / (asked - 1)) for i in range(asked))


def cut_layers(model: Any, keep: Sequence[int]) -> Any:
    """A copy of a model with only some of its layers; embeddings, norms and the output layer stay.

    Parameters
    ----------
    keep : numbers of the layers that stay, in their order.
    """
    layers = decoder_layers(model)
    decoder = model.get_decoder()
    whole = decoder.layers
    try:
        decoder.layers = type(whole)([layers[i] for i in keep])
        student = copy.deepcopy(model)
    finally:
        decoder.layers = whole
    for place, layer in enumerate(student.get_decoder().layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place  # where its keys and values stand in the cache
    config = student.config.get_text_config()
    config.num_hidden_layers = len(keep)
    types = getattr(config, "layer_types", None)
    if types is not None:
        config.layer_types = [types[i] for i in keep]
    if getattr(config, "mlp_only_layers", None):
        config.mlp_only_layers = [place for place, i in enumerate(keep) if i in config.mlp_only_layers]
    return student


def decoder_layers(model: Any) -> Any:
    """The list of a causal language model's layers.

    Raises
    ------
    InputError
        If the model keeps them where nobody would look.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if layers is None:
        raise InputError(
            f"{type(model).__name__} does not keep its layers as a decoder's `layers`, so they can be neither cut nor "
            "mapped. Start from a trained small model instead (student.model)"
        )
    return layers


def fresh_model(base: Any, shape: Fresh) -> Any:
    """A causal language model with random weights, of the family of a configuration.

    Raises
    ------
    InputError
        If the sizes do not go together.
    """
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(base)
    text = config.get_text_config()
    names = {
        "layers": "num_hidden_layers", "hidden": "hidden_size", "intermediate": "intermediate_size",
        "heads": "num_attention_heads", "kv_heads": "num_key_value_heads",
        "experts": _experts_name(text),
    }  # fmt: skip
    for ours, theirs in names.items():
        value = getattr(shape, ours)
        if value is not None:
            if not hasattr(text, theirs):
                raise InputError(f"a model of the family {text.model_type} has no {ours}. Leave fresh.{ours} out")
            setattr(text, theirs, value)
    if shape.heads is not None and shape.kv_heads is None and hasattr(text, "num_key_value_heads"):
        text.num_key_value_heads = min(text.num_key_value_heads, shape.heads)
    if text.hidden_size % text.num_attention_heads:
        raise InputError(
            f"hidden must be a multiple of heads. Got {text.hidden_size} and {text.num_attention_heads}: set "
            "fresh.heads"
        )
    if text.num_attention_heads % getattr(text, "num_key_value_heads", 1):
        raise InputError(
            f"heads must be a multiple of kv_heads. Got {text.num_attention_heads} and {text.num_key_value_heads}: set "
            "fresh.kv_heads"
        )
    if getattr(text, "head_dim", None) is not None and (shape.hidden or shape.heads):
        text.head_dim = text.hidden_size // text.num_attention_heads
    types = getattr(text, "layer_types", None)
    if types is not None:
        text.layer_types = [types[i % len(types)] for i in range(text.num_hidden_layers)]
    return AutoModelForCausalLM.from_config(config)


def with_lora(model: Any, lora: Lora) -> Any:
    """A model whose weights stand still under adapters that learn."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("peft", "distill") from error

    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    try:
        return get_peft_model(
            model,
            LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules,
                task_type="CAUSAL_LM",
            ),
        )  # fmt: skip
    except ValueError as error:
        linear = sorted(
            {name.rsplit(".", 1)[-1] for name, _ in decoder_layers(model).named_modules() if "proj" in name}
        )
        raise InputError(
            f"lora.modules {modules!r} are not all in the model. There are: {', '.join(linear)}"
        ) from error


def count_parameters(model: Any) -> int:
    """Parameters of a model, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def describe_shape(config: Any) -> str:
    """A shape in words: layers, hidden size, heads, vocabulary, experts."""
    text = config.get_text_config()
    words = f"{text.num_hidden_layers} layers, hidden {text.hidden_size:,}, {text.num_attention_heads} heads"
    experts = getattr(text, _experts_name(text), None)
    return words + f", vocabulary {text.vocab_size:,}" + (f", {experts} experts" if experts else "")


def catalog_row(model: Any, *, name: str, source: str, checked: str, licence: str = "") -> dict[str, Any]:
    """A model as a row of the catalog's models, for ``[overrides.models."id"]`` of a scenario.

    Parameters
    ----------
    source, checked : where its numbers come from and the day (ISO) on which they were read.
    """
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    shape: dict[str, Any] = {
        "layers": text.num_hidden_layers,
        "hidden": text.hidden_size,
        "heads": heads,
        "kv_heads": getattr(text, "num_key_value_heads", None) or heads,
        "head_dim": getattr(text, "head_dim", None) or text.hidden_size // heads,
        "vocab": text.vocab_size,
        "intermediate": text.intermediate_size,
        "tied_embeddings": bool(model.config.tie_word_embeddings),
    }
    row: dict[str, Any] = {
        "name": name, "provider": "own", "kind": "open", "params_b": count_parameters(model) / 1e9, "shape": shape,
        "licence": licence, "source": source, "checked": checked, "confidence": "high",
    }  # fmt: skip
    experts = getattr(text, _experts_name(text), None)
    if experts:
        shape |= {"experts": experts, "experts_per_token": text.num_experts_per_tok}
        shape["intermediate"] = getattr(text, "moe_intermediate_size", None) or text.intermediate_size
        expert = 3 * text.hidden_size * shape["intermediate"]
        idle = expert * (experts - text.num_experts_per_tok) * text.num_hidden_layers
        row["active_params_b"] = (count_parameters(model) - idle) / 1e9
    if getattr(text, "max_position_embeddings", None):
        row["context_window"] = text.max_position_embeddings
    return row


def _experts_name(text: Any) -> str:
    return (
        next((name for name in ("num_local_experts", "num_experts", "n_routed_experts") if hasattr(text, name)), "")
        or "num_experts"
    )


def _of_catalog(fresh: Fresh, row: ModelRow | None) -> Fresh:
    """A fresh shape, with the catalog's sizes where it leaves them out."""
    if row is None or row.shape is None:
        return fresh
    shape = row.shape
    known = {
        "layers": shape.layers, "hidden": shape.hidden, "heads": shape.heads, "kv_heads": shape.kv_heads,
        "intermediate": shape.intermediate, "experts": shape.experts,
    }  # fmt: skip
    return Fresh(**{name: getattr(fresh, name) or value for name, value in known.items()})


def _refuse_other_size(model: Any, name: str, row: ModelRow) -> None:
    text = model.config.get_text_config()
    if row.shape is not None:
        for what, found, known in (
            ("layers", text.num_hidden_layers, row.shape.layers),
            ("hidden", text.hidden_size, row.shape.hidden),
        ):
            if found != known:
                raise InputError(
                    f"the student has {found} {what}, and the catalog's {name} has {known}: the calculator would speak "
                    "of another model. Leave student.catalog out, or start from that model"
                )
    size = count_parameters(model) / 1e9
    if row.params_b and abs(size / row.params_b - 1) > SAME_SIZE:
        raise InputError(
            f"the student has {size:.4g} billion parameters, and the catalog's {name} has {row.params_b:g}: the "
            "calculator would speak of another model. Leave student.catalog out, or start from that model"
        )
