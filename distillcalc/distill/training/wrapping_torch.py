"""What wraps a student while it learns, and comes off again: adapters, shards, and what SFTTrainer does to a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from distillcalc.errors import InputError


def refuse_first_fsdp(state: Any) -> None:
    """Refuse the first FSDP, accelerate's default: it runs on no CPU, so nothing here holds it against whole weights.

    Parameters
    ----------
    state : accelerate's, of the processes.

    Raises
    ------
    InputError
        If accelerate was asked for it.
    """
    plugin = getattr(state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 1:
        raise InputError("weights are sharded by FSDP2 here: accelerate launch --use_fsdp --fsdp_version 2 ...")


def base_of(model: Any) -> Any:
    """The student without its adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def gathered(model: Any, state: Mapping[str, Tensor]) -> Any:
    """A whole model on one process alone; of the sharded one every touch would wait for the other processes.

    Parameters
    ----------
    model : as it learns, sharded; under an adapter or not. state : its weights, gathered on this process.

    Raises
    ------
    RuntimeError
        If weights are missing.
    """
    from transformers import AutoModelForCausalLM

    base = base_of(model)
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(base.config)
        if base is not model:
            from peft import get_peft_model

            whole = get_peft_model(whole, model.peft_config["default"], low_cpu_mem_usage=True)
    whole.load_state_dict(state, strict=False, assign=True)
    base_of(whole).tie_weights()
    left = [name for name, parameter in whole.named_parameters() if parameter.is_meta]
    if left:
        raise RuntimeError(f"the gathered weights lack {left}")
    base_of(whole).generation_config = base.generation_config
    return whole


@contextmanager
def as_it_was(model: Any) -> Iterator[None]:
    """Take back what SFTTrainer does to a model: a forward of its own, and router logits in every answer.

    Parameters
    ----------
    model : that an SFTTrainer is made with inside the context.
    """
    base = base_of(model)
    config, forward = base.config.get_text_config(), base.__dict__.get("forward")
    router = getattr(config, "output_router_logits", None)
    try:
        yield
    finally:
        base.__dict__.pop("forward", None)
        if forward is not None:
            base.forward = forward
        if router is not None:
            config.output_router_logits = router
