"""Models of the catalog's shapes with random weights: speed and memory can be measured where weights cannot be had.

What the models write means nothing, and nothing is said of their quality. Prompts are words or numbers that stand for
token ids, so that no tokenizer is needed either.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distillcalc.benchmark.decoding import CacheKind
from distillcalc.benchmark.in_process import DTYPES, MAX_BATCH, Device, InProcess, Precision, choose
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.catalog.schema import ModelRow

# How each of the catalog's shapes is built: the start of its id, transformers' model type, and what differs from the
# type's own defaults and no shape of the catalog tells. Tests hold the number of parameters to the catalog's.
_SIGLIP = {  # the vision encoder of Gemma 3 (arXiv:2503.19786, section 2.1), which the parameters include
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
    "image_size": 896, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
_SMALL_QWEN = {"linear_num_key_heads": 16, "linear_num_value_heads": 16}
FAMILIES: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("deepseek-r1-distill-qwen", "qwen2", {}),
    ("deepseek-r1-distill-llama", "llama", {}),
    ("qwen3.5-0.8b", "qwen3_5_text", _SMALL_QWEN),
    ("qwen3.5-2b", "qwen3_5_text", _SMALL_QWEN),
    ("qwen3.5-397b", "qwen3_5_moe_text", {}),
    ("qwen3.5-", "qwen3_5_text", {}),
    ("qwen3-30b", "qwen3_moe", {}),
    ("qwen3-235b", "qwen3_moe", {}),
    ("qwen3-", "qwen3", {}),
    ("gemma-3-1b", "gemma3_text", {"sliding_window": 512}),
    ("gemma-3-", "gemma3", {"vision_config": _SIGLIP, "text_config": {"sliding_window": 1024}}),
    ("phi-4-mini", "phi3", {"pad_token_id": 0, "partial_rotary_factor": 0.75}),
    ("gpt-oss", "gpt_oss", {}),
    ("mistral-small", "mistral", {"sliding_window": None}),
    ("llama-3", "llama", {}),
    ("orca-2", "llama", {}),
    ("vicuna", "llama", {}),
    ("alpaca", "llama", {}),
    ("smollm2", "llama", {}),
)


class TokenIds:
    """Stands for a tokenizer: each word of a text is one token.

    Numbers are token ids, other words fall on any id, always on the same one.

    Parameters
    ----------
    vocabulary : number of ids.

    Examples
    --------
    >>> from distillcalc.benchmark.shapes import TokenIds
    >>> TokenIds(100).encode("7 42 7")
    [7, 42, 7]
    >>> TokenIds(100).decode([7, 42])
    '7 42'
    """

    chat_template = None
    eos_token_id = None
    sep_token_id = None
    name_or_path = "token ids"

    def __init__(self, vocabulary: int) -> None:
        if vocabulary < 2:
            raise InputError(f"a vocabulary has 2 ids or more. Got {vocabulary}")
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return self.vocabulary

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """As a tokenizer of transformers is called; there are no special tokens to add."""
        return {"input_ids": self.encode(text)}

    def encode(self, text: str) -> list[int]:
        """One id for each word."""
        return [self._id(word) for word in text.split()]

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Ids as numbers with spaces between them."""
        return " ".join(map(str, ids))

    def _id(self, word: str) -> int:
        number = int(word) if word.isascii() and word.isdigit() else zlib.crc32(word.encode())
        return number % self.vocabulary


def shape_config(catalog_id: str, catalog: Catalog | None = None, *, family: str = "") -> Any:
    """The configuration of a model of the catalog, as transformers would load it.

    Parameters
    ----------
    catalog : to look it up in; left out, the shipped one.
    family : transformers' model type, for a shape of one's own; left out, that of the catalog's models.

    Raises
    ------
    UnknownName
        If the catalog has no such model.
    InputError
        If its shape or its family is not known, or they do not go together.
    MissingExtra
        If transformers is not installed.
    """
    try:
        from transformers import CONFIG_MAPPING
    except ImportError as error:
        raise MissingExtra("transformers", "distill") from error
    from distillcalc.distill.training.recipe import Fresh
    from distillcalc.distill.training.shapes import fresh_config

    row = _row(catalog_id, catalog)
    assert row.shape is not None
    known = next(((kind, facts) for start, kind, facts in FAMILIES if catalog_id.startswith(start)), None)
    kind, facts = (family, {}) if family else known or ("", {})
    if kind not in CONFIG_MAPPING:
        raise InputError(
            f"nothing is known of how {catalog_id} is built{f' as {kind!r}' if kind else ''}. Give family, the model "
            f"type of transformers that it is of, such as {', '.join(sorted({each for _, each, _ in FAMILIES})[:4])}"
        )
    base = CONFIG_MAPPING[kind](**facts)
    text = base.get_text_config()
    text.vocab_size = row.shape.vocab
    if row.context_window and hasattr(text, "max_position_embeddings"):
        text.max_position_embeddings = row.context_window
    return fresh_config(base, Fresh(), row)


def random_model(
    catalog_id: str,
    precision: Precision = "auto",
    device: Device = "auto",
    *,
    catalog: Catalog | None = None,
    family: str = "",
    seed: int = 0,
) -> Any:
    """A model of the catalog with random weights, made on its device in its precision.

    Parameters
    ----------
    precision, device : see :meth:`distillcalc.benchmark.in_process.InProcess.load`.
    catalog, family : see :func:`shape_config`.
    seed : of the weights.

    Raises
    ------
    InputError
        If it cannot be built, or does not fit into the device's memory.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from distillcalc.benchmark.memory import free_bytes
    from distillcalc.distill.training.shapes import count_parameters, shapes_alone

    config, chosen = shape_config(catalog_id, catalog, family=family), choose(precision, device)
    held = "fp32" if chosen.precision == "fp32" else "bf16"
    dtype = getattr(torch, DTYPES[held])
    needed, free = count_parameters(shapes_alone(config)) * dtype.itemsize, free_bytes(torch.device(chosen.device))
    if needed > free:
        raise InputError(
            f"{catalog_id} does not fit: its weights take {needed / 2**30:.1f} GiB in {held}, and {free / 2**30:.1f} "
            f"GiB are free on the {chosen.device}. At most {free / dtype.itemsize / 1e9:.2g} billion parameters fit"
        )
    torch.manual_seed(seed)
    with torch.device(chosen.device):  # nothing of it is ever on the host, where the device is another
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if chosen.precision not in DTYPES:
        from distillcalc.benchmark.quantised import quantise

        quantise(model, chosen.precision)
    return model.eval()


def load_shape(
    catalog_id: str,
    precision: Precision = "auto",
    device: Device = "auto",
    *,
    catalog: Catalog | None = None,
    family: str = "",
    max_batch: int = MAX_BATCH,
    compile: bool = False,
    cache: CacheKind = "auto",
) -> InProcess:
    """A model of the catalog with random weights, as a target of a benchmark; see :func:`random_model`."""
    chosen = choose(precision, device)
    model = random_model(catalog_id, precision, device, catalog=catalog, family=family)
    row = _row(catalog_id, catalog)
    assert row.shape is not None
    more: dict[str, Any] = {"precision": chosen.precision, "why": chosen.why}
    return InProcess(
        model, TokenIds(row.shape.vocab), catalog_id, max_batch=max_batch, compile=compile, cache=cache, **more
    )


def _row(catalog_id: str, catalog: Catalog | None) -> ModelRow:
    from distillcalc.catalog import Catalog

    row = (catalog or Catalog.load()).model(catalog_id)
    if row.shape is None:
        raise InputError(f"the catalog knows no shape of {catalog_id}: it is a family, or its maker tells none")
    return row
