"""What a student is before it learns: a model, layers cut from its teacher, or a small configuration of its own."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training.cutting import cut_layers, decoder_layers, layers_to_keep
from distillcalc.distill.training.recipe import Lora, StudentStart
from distillcalc.distill.training.shapes import (
    catalog_row,
    count_parameters,
    describe_shape,
    fresh_config,
    fresh_model,
    random_model,
    shape_of,
    shapes_alone,
)
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.catalog.schema import ModelRow

SAME_SIZE = 0.05  # relative; catalogs round, and count or leave out embeddings

__all__ = [
    "Student",
    "catalog_row",
    "count_parameters",
    "cut_layers",
    "decoder_layers",
    "describe_shape",
    "fresh_config",
    "fresh_model",
    "layers_to_keep",
    "load_model",
    "load_shape",
    "start_student",
    "with_lora",
]


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
        """How many there are, shared ones once; adapters are merged in the end, and do not count."""
        return sum(p.numel() for name, p in self.model.named_parameters() if "lora_" not in name)


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

    with _told_what(name, adapter), _unwarned():
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, use_safetensors=True)
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.config.use_cache = False
    return model, tokenizer


def load_shape(name: str) -> tuple[Any, Any]:
    """A model's configuration and its tokenizer from a folder or a hub, without its weights.

    Raises
    ------
    InputError
        If there is no such model.
    """
    try:
        from transformers import AutoConfig, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("transformers", "distill") from error

    with _told_what(name):
        return AutoConfig.from_pretrained(name), AutoTokenizer.from_pretrained(name)


@contextmanager
def _told_what(name: str, adapter: str | None = None) -> Iterator[None]:
    """Say which model cannot be loaded, and what would do."""
    from safetensors import SafetensorError

    for what, given in (("model", name), ("adapter", adapter)):
        if given and not Path(given).is_dir() and (given.startswith((".", "/", "~")) or given.count("/") > 1):
            raise InputError(f"no folder {given!r} of the {what}. Give a local folder, or owner/name of a hub")
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        what = f"{name!r}" + (f" with the adapter {adapter!r}" if adapter else "")
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the model {what}: {first}. Give a local folder with config.json, a tokenizer and "
            "safetensors, or a name of the Hugging Face hub that can be reached from here"
        ) from error


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without what transformers says to peft of names that it will give up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


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
        if row.shape is None and row.params_b is None:
            raise InputError(
                f"the catalog does not say how large {start.catalog} is, so nothing can be held against it: leave "
                "student.catalog out, or name a model of one size"
            )
    if start.model is None and teacher is None:
        raise InputError("the student has nothing to start from: give its model, or a teacher whose weights are here")
    kept: tuple[int, ...] = ()
    if start.fresh is not None:
        config, tokenizer = (
            load_shape(start.model) if start.model is not None else (teacher[0].config, teacher[1])  # type: ignore[index]
        )
        config = fresh_config(config, start.fresh, row)
        if row is not None:  # before so much memory is taken
            _refuse_other_size(shapes_alone(config), str(start.catalog), row)
        torch.manual_seed(seed)
        model = random_model(config)
        family = start.model or "the teacher"
        origin = f"random weights in the shape of {family}, {describe_shape(model.config)}"
    else:
        model, tokenizer = load_model(start.model) if start.model is not None else teacher  # type: ignore[misc]
        origin = start.model or "the teacher"
        if start.layers is not None:
            kept = layers_to_keep(len(decoder_layers(model)), start.layers)
            model = cut_layers(model, kept)
            origin = f"{len(kept)} of the layers of {origin} ({', '.join(map(str, kept))})"
        elif start.model is None:
            model = copy.deepcopy(model)
            origin = f"a copy of {origin}"
        model = model.float()  # a teacher on a GPU is in 16 bits, in which small steps would be lost
    model.config.use_cache = False
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if row is not None:
        _refuse_other_size(model, str(start.catalog), row)
    if start.lora is not None:
        torch.manual_seed(seed)
        model = with_lora(model, start.lora)
    return Student(model, tokenizer, origin, kept, start.catalog or "")


def with_lora(model: Any, lora: Lora) -> Any:
    """A model whose weights stand still under adapters that learn."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("peft", "distill") from error

    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    try:
        with _unwarned():
            return get_peft_model(
                model,
                LoraConfig(
                    r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules,
                    task_type="CAUSAL_LM",
                ),
            )  # fmt: skip
    except ValueError as error:
        linear = sorted(
            {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if type(part).__name__ == "Linear"}
        )
        raise InputError(
            f"lora.modules {modules!r} are not all in the model. There are: {', '.join(linear)}"
        ) from error


def _refuse_other_size(model: Any, name: str, row: ModelRow) -> None:
    """What the calculator counts with must be the student's: layers and heads make its memory, all of it its speed."""
    own = shape_of(model)
    other = f"the calculator would speak of another model. Leave student.catalog out, or start from {name}"
    for what in ("layers", "hidden", "heads", "kv_heads", "head_dim", "experts", "experts_per_token"):
        known = getattr(row.shape, what, None)
        if known is not None and own.get(what) != known:
            raise InputError(
                f"the student has {own.get(what) or 'no'} {what}, and the catalog's {name} {known}: {other}"
            )
    size = count_parameters(model) / 1e9
    if row.params_b and abs(size / row.params_b - 1) > SAME_SIZE:
        raise InputError(
            f"the student has {size:.4g} billion parameters, and the catalog's {name} {row.params_b:g}: {other}"
        )
