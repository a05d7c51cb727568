"""A teacher beside the student: it reads the same batches, and remembers what it has read while memory allows.

A training passes over its sequences several times, and a frozen teacher says the same each time. What it says of a
sequence is kept by sample, so a second epoch costs no forward of the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from distillcalc.distill.training.lesson_torch import MODEL_INPUTS, Lesson, head_of


class LiveTeacher:
    """A teacher that reads the student's batches: last hidden states, and what the lesson's layers need.

    Parameters
    ----------
    model : causal language model; its weights stand still from here on.
    lesson : says which layers are compared.
    memory_bytes : that what it said may take; 0 remembers nothing. Attention maps and the texts of teachers with other
        tokens are never kept.
    """

    def __init__(self, model: Any, lesson: Lesson, memory_bytes: int = 0) -> None:
        self.model, self.lesson = model.eval(), lesson
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        lesson.teacher_head = head_of(model)
        self.memory_bytes = 0 if lesson.objective.attention else memory_bytes
        self.known: dict[int, dict[str, Tensor]] = {}
        self.forwards = 0  # batches that were read by the model

    @torch.no_grad()
    def read(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the teacher says of a batch, as inputs of the lesson."""
        if "uld_ids" in batch:
            return self._of_other_tokens(batch)
        samples = [int(number) for number in batch["sample"].tolist()]
        if samples and all(number in self.known for number in samples):
            return {
                name: torch.cat([self.known[number][name] for number in samples])
                for name in self.known[samples[0]]
            }  # fmt: skip
        made = self._forward(batch)
        # Packed rows hold several sequences, and what the student writes has no number: neither is kept.
        if self.memory_bytes > 0 and "attention_mask" in batch and min(samples, default=-1) >= 0:
            self._keep(samples, batch, made)
        return made

    def _forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        wants, layers = self.lesson.objective, self.lesson.layers
        options: dict[str, Any] = {"use_cache": False}
        if layers and wants.features:
            options["output_hidden_states"] = True
        if wants.attention:
            options["output_attentions"] = True
        self.forwards += 1
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        found = self.model.get_decoder()(**inputs, **options)
        made: dict[str, Tensor] = {}
        if wants.soft:
            made["teacher_hidden"] = found.last_hidden_state[batch["soft"]]
        for place, (_, theirs) in enumerate(layers):
            if wants.features:
                made[f"teacher_state_{place}"] = found.hidden_states[theirs][batch["real"]]
            if wants.attention:
                made[f"teacher_attention_{place}"] = found.attentions[theirs - 1]
        return made

    def _keep(self, samples: list[int], batch: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> None:
        size = sum(value.numel() * value.element_size() for value in made.values())
        if size > self.memory_bytes:
            self.memory_bytes = 0  # what was kept stays of use
            return
        self.memory_bytes -= size
        soft, real = batch["soft"].sum(1).tolist(), batch["real"].sum(1).tolist()
        parts = {
            name: value.split(soft if name == "teacher_hidden" else real) for name, value in made.items()
        }  # fmt: skip
        for row, number in enumerate(samples):
            self.known[number] = {name: part[row].clone() for name, part in parts.items()}

    def _of_other_tokens(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        decoder = self.model.get_decoder()
        found = decoder(input_ids=batch["uld_ids"], attention_mask=batch["uld_mask"], use_cache=False)
        return {"uld_teacher": found.last_hidden_state.flatten(0, 1)[batch["uld_places"]]}
