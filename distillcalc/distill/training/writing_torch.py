"""Batches that the student writes itself, scored by the teacher (Agarwal et al., arXiv:2306.13649, algorithm 1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from transformers import GenerationConfig  # noqa: TID253

from distillcalc.distill.training.batches import Collator
from distillcalc.distill.training.examples import IGNORED
from distillcalc.distill.training.prompting import end_of_turn, padding_id
from distillcalc.distill.training.recipe import Objective
from distillcalc.errors import InputError

Writer = Callable[[Any, dict[str, Tensor], random.Random], dict[str, Tensor]]


def student_writes(tokenizer: Any, objective: Objective, collator: Collator) -> Writer:
    """A function that answers a batch's prompts with the student's own words.

    Parameters
    ----------
    objective : ``max_new_tokens`` and ``sampling_temperature`` of what it writes.
    collator : makes the new batch; what the student wrote is supervised by the teacher's distribution alone, so hard
        labels of it are left out.
    """
    pad, end = padding_id(tokenizer), end_of_turn(tokenizer)

    def write(trainer: Any, batch: dict[str, Tensor], chance: random.Random) -> dict[str, Tensor]:
        if trainer.is_fsdp_enabled:
            raise InputError("the student cannot write while its weights are sharded (FSDP): use DDP, or on_policy = 0")
        if "attention_mask" not in batch:
            raise InputError("packing and on-policy do not go together: set packing = false")
        prompts = _prompts(batch)
        device = trainer.accelerator.device
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, prompt in enumerate(prompts):  # at the right end, where the answers follow
            ids[place, longest - len(prompt) :] = torch.tensor(prompt)
            mask[place, longest - len(prompt) :] = 1
        model = trainer.accelerator.unwrap_model(trainer.model)
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        was, cached, usual = model.training, model.config.use_cache, base.generation_config
        model.eval()
        base.generation_config = GenerationConfig()  # what a family samples with is not its distribution
        model.config.use_cache = True
        devices = [device] if device.type == "cuda" else []
        try:
            with torch.no_grad(), torch.random.fork_rng(devices), trainer.compute_loss_context_manager():
                torch.manual_seed(chance.getrandbits(31))  # the training's own numbers go on as if nothing was written
                written = model.generate(
                    input_ids=ids.to(device), attention_mask=mask.to(device), do_sample=True, top_k=0, top_p=1.0,
                    temperature=objective.sampling_temperature, max_new_tokens=objective.max_new_tokens,
                    pad_token_id=pad, eos_token_id=end, use_cache=True,
                )[:, longest:].cpu()  # fmt: skip
        finally:
            model.train(was)
            model.config.use_cache = cached
            base.generation_config = usual
        rows = []
        for place, prompt in enumerate(prompts):
            said = written[place].tolist()
            said = said[: said.index(end) + 1] if end in said else said
            said = said or [end]
            rows.append(
                {"input_ids": [*prompt, *said], "labels": [IGNORED] * len(prompt) + said, "sample": -1, "group": 0}
            )
        made: dict[str, Any] = collator(rows)
        if not objective.hard:
            return made
        return _without_hard(made)

    return write


def _prompts(batch: dict[str, Tensor]) -> list[list[int]]:
    found = []
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["shift_labels"], strict=True):
        places = (labels != IGNORED).nonzero().flatten()
        end = int(places[0]) + 1 if len(places) else int(mask.sum())
        found.append(ids[:end].tolist())
    return found


def _without_hard(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The student's own words are no labels: only the teacher's distribution of them counts."""
    batch["shift_labels"] = torch.full_like(batch["shift_labels"], IGNORED)
    batch["counts"][:2] = 0
    return batch
