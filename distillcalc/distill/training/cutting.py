"""Which layers of a model a student keeps, and a model of those layers alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from distillcalc.distill.training.shapes import said_by_layer, shapes_alone
from distillcalc.errors import InputError


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

    Raises
    ------
    InputError
        If the family's configuration cannot say which layers there are, so that the student could not be loaded again.
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
    _keep_in(student.config.get_text_config(), keep)
    have = {name: tuple(held.shape) for name, held in student.state_dict().items()}
    if have != {name: tuple(held.shape) for name, held in shapes_alone(student.config).state_dict().items()}:
        raise InputError(
            f"the layers of {type(model).__name__} differ in a way that its configuration cannot say of some of them. "
            "Start from a trained small model, or from a fresh one (student.model, student.fresh)"
        )
    return student


def _keep_in(config: Any, keep: Sequence[int]) -> None:
    """Let a configuration speak of some of its layers alone."""
    for name in said_by_layer(config):
        setattr(config, name, [getattr(config, name)[i] for i in keep])
    step = getattr(config, "decoder_sparse_step", None)
    if step is not None:  # mixtures of experts whose every step-th layer is one
        dense = [i for i in keep if i in config.mlp_only_layers or (i + 1) % step]
        config.decoder_sparse_step, config.mlp_only_layers = 1, [keep.index(i) for i in dense]
    if getattr(config, "moe_layers", None) is not None:
        config.moe_layers = [place for place, i in enumerate(keep) if i in config.moe_layers]
    if getattr(config, "first_k_dense_replace", None):
        config.first_k_dense_replace = sum(i < config.first_k_dense_replace for i in keep)
    config.num_hidden_layers = len(keep)


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
