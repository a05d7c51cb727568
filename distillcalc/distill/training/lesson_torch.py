"""What a student is taught in one batch: hard labels, the teacher's distribution, its hidden states and attention.

The lesson runs inside the student's own forward, so that wrappers (DDP, FSDP, PEFT) see one call and gather and reduce
what they must. Nothing holds two full tensors of logits: see :mod:`.head_torch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, MethodType
from typing import Any

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from distillcalc.distill.training.batches import ALL, GROUPS, SOFT
from distillcalc.distill.training.checkpoints import PROJECTIONS
from distillcalc.distill.training.examples import IGNORED
from distillcalc.distill.training.head_torch import Head, LiveTeacher, SparseTeacher, head_loss
from distillcalc.distill.training.losses_torch import attention_loss, feature_loss, uld
from distillcalc.distill.training.recipe import Objective
from distillcalc.errors import InputError

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")


@dataclass
class Lesson:
    """How a batch becomes a loss.

    Parameters
    ----------
    objective : weights of the terms.
    vocabulary : first ids that student and teacher share; logits are cut there. None: all of them.
    layers : pairs of layers whose outputs are compared, (student's, teacher's), from 1.
    teacher_head : of a live teacher; None where soft labels are stored or there are none.
    """

    objective: Objective
    vocabulary: int | None = None
    layers: tuple[tuple[int, int], ...] = ()
    teacher_head: Head | None = None
    chunk_tokens: int | None = None
    group_weights: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.group_weights:
            self.group_weights = (1.0,) * GROUPS


def head_of(model: Any) -> Head:
    """A causal language model's output layer, with the scale and the cap that its family puts on the logits."""
    layer = model.get_output_embeddings()
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):  # Granite divides
        scale = 1.0 / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return Head(layer.weight, getattr(layer, "bias", None), float(scale), None if cap is None else float(cap))


def check_head(model: Any) -> None:
    """Refuse a model whose logits are not its last hidden states through its output layer.

    Raises
    ------
    InputError
        If they differ on a short input: losses would be computed on other logits than the model's. Or if they are no
        numbers.
    """
    ids = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
            hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            ours = logits_of(hidden, head_of(model))
    finally:
        model.train(was)
    if bool(logits.isnan().any()):
        raise InputError(f"the logits of {type(model).__name__} are no numbers: its weights are damaged")
    if not torch.allclose(ours.float(), logits.float(), rtol=1e-2, atol=1e-2 * float(logits.abs().max())):
        raise InputError(
            f"the logits of {type(model).__name__} are not its last hidden states through its output layer, so the "
            "losses here would be of another model. Use a family whose head is plain (Llama, Qwen, Mistral, Gemma, ...)"
        )


def logits_of(hidden: Tensor, head: Head) -> Tensor:
    """Logits of hidden states, (..., H) to (..., V)."""
    logits = nn.functional.linear(hidden, head.weight, head.bias) * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def teach(model: Any, lesson: Lesson, teacher_hidden_size: int | None = None) -> Any:
    """Let a causal language model's forward answer ``lesson_inputs`` with a loss; without them it is what it was.

    Parameters
    ----------
    model : of transformers; not wrapped in an adapter.
    teacher_hidden_size : where hidden states are compared: size of the teacher's.

    Returns
    -------
    A function that takes the lesson off again.
    """
    if lesson.layers and lesson.objective.features:
        size = model.config.get_text_config().hidden_size
        wanted = teacher_hidden_size or size
        projections = nn.ModuleList(nn.Linear(size, wanted, bias=False) for _ in lesson.layers)
        for projection in projections:
            if size == wanted:
                nn.init.eye_(projection.weight)
            else:
                nn.init.orthogonal_(projection.weight)
        setattr(model, PROJECTIONS, projections.to(model.device))
    before = model.forward

    def forward(self: Any, *args: Any, lesson_inputs: Mapping[str, Tensor] | None = None, **given: Any) -> Any:
        if lesson_inputs is None:
            return before(*args, **given)
        return _taught(self, lesson, lesson_inputs, given)

    had = "forward" in model.__dict__
    model.forward = MethodType(forward, model)

    def stop() -> None:
        if had:
            model.forward = before
        else:
            model.__dict__.pop("forward", None)
        if hasattr(model, PROJECTIONS):
            delattr(model, PROJECTIONS)

    return stop


def _taught(model: Any, lesson: Lesson, batch: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    """The loss, and what is told of it; as a mapping that is no ``dict``, so that FSDP does not round it to 16 bits."""
    wants = lesson.objective
    options: dict[str, Any] = {"use_cache": False}
    router = _router_loss_weight(model)
    if router:
        options["output_router_logits"] = True
    if lesson.layers and wants.features:
        options["output_hidden_states"] = True
    if wants.attention:
        options["output_attentions"] = True
    inputs = {name: given[name] for name in MODEL_INPUTS if given.get(name) is not None}
    found = model.get_decoder()(**inputs, **options)
    hidden = found.last_hidden_state
    counts = batch["counts"].clamp(min=1).to(hidden.device)  # ints: no wrapper rounds them
    labels, soft = batch["shift_labels"].flatten(), batch["soft"].flatten()
    flat = hidden.flatten(0, 1)
    weights = torch.tensor(lesson.group_weights, dtype=torch.float32, device=hidden.device) * wants.hard
    hard_weights = (weights / counts[:GROUPS].float())[batch["group"].flatten()]
    hard_weights = torch.where(labels != IGNORED, hard_weights, 0.0)
    parts: dict[str, Tensor] = {}
    taught_by = _teacher(lesson, batch)
    if taught_by is None:
        made = head_loss(flat, head_of(model), labels, hard_weights, chunk_tokens=lesson.chunk_tokens)
    else:
        here = soft | (labels != IGNORED)
        # The teacher speaks of the soft positions alone; of what is left, rows without either weight are not computed.
        soft_weights = torch.where(soft, wants.soft / counts[SOFT].float(), 0.0)[here]
        made = head_loss(
            flat[here], head_of(model), labels[here], hard_weights[here], soft_weights=soft_weights,
            teacher=_spread(taught_by, soft[here]), kind=wants.divergence, beta=wants.beta, alpha=wants.alpha,  # type: ignore[arg-type]
            temperature=wants.temperature, vocabulary=lesson.vocabulary, chunk_tokens=lesson.chunk_tokens,
        )  # fmt: skip
        parts["soft"] = made.soft
    total = made.total
    parts |= {"hard": made.hard, "right": made.right}
    if wants.divergence == "uld" and "uld_teacher" in batch:
        far = _uld(flat, head_of(model), lesson, batch)
        total = total + far
        parts["soft"] = far.detach()
    if lesson.layers and wants.features:
        near = _features(model, lesson, found.hidden_states, batch) * (wants.features / counts[ALL].float())
        total = total + near
        parts["features"] = near.detach()
    if wants.attention:
        alike = _attention(lesson, found.attentions, batch) * (wants.attention / counts[ALL].float())
        total = total + alike
        parts["attention"] = alike.detach()
    if router:
        balance = router * _router_loss(model, found.router_logits, given.get("attention_mask"))
        balance = balance * batch["share"].to(balance.device)  # a mean over batches, not over tokens
        total = total + balance
        parts["router"] = balance.detach()
    return {"loss": total, "told": MappingProxyType({"loss": total.detach(), **parts})}


def _teacher(lesson: Lesson, batch: Mapping[str, Tensor]) -> LiveTeacher | SparseTeacher | None:
    if not lesson.objective.soft or lesson.objective.divergence == "uld":
        return None
    if "teacher_hidden" in batch and lesson.teacher_head is not None:
        return LiveTeacher(batch["teacher_hidden"], lesson.teacher_head)
    if "teacher_ids" in batch:
        return SparseTeacher(batch["teacher_ids"].long(), batch["teacher_logprobs"], batch["teacher_tail"])
    return None


def _spread(teacher: LiveTeacher | SparseTeacher, soft: Tensor) -> LiveTeacher | SparseTeacher:
    """What the teacher says of the soft positions, among positions that only have a hard label."""
    if bool(soft.all()):
        return teacher

    def spread(values: Tensor, fill: float) -> Tensor:
        whole = values.new_full((soft.numel(), *values.shape[1:]), fill)
        whole[soft] = values
        return whole

    if isinstance(teacher, LiveTeacher):
        return LiveTeacher(spread(teacher.hidden, 0.0), teacher.head)
    return SparseTeacher(spread(teacher.ids, -1), spread(teacher.logprobs, 0.0), spread(teacher.tail_mass, 1.0))


def _features(model: Any, lesson: Lesson, states: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum over real positions of the distance between projected and teacher's hidden states, mean over the pairs."""
    real = batch["real"]
    projections = getattr(model, PROJECTIONS)
    total = states[0].new_zeros((), dtype=torch.float32)
    for place, (own, _) in enumerate(lesson.layers):
        mine = projections[place](states[own][real])
        total = total + feature_loss(mine, batch[f"teacher_state_{place}"], kind=lesson.objective.feature_loss).sum()
    return total / len(lesson.layers)


def _attention(lesson: Lesson, attentions: Any, batch: Mapping[str, Tensor]) -> Tensor:
    real = batch["real"]
    total = attentions[0].new_zeros((), dtype=torch.float32)
    for place, (own, _) in enumerate(lesson.layers):
        total = total + attention_loss(attentions[own - 1], batch[f"teacher_attention_{place}"], real).sum()
    return total / len(lesson.layers)


def _uld(flat: Tensor, head: Head, lesson: Lesson, batch: Mapping[str, Tensor]) -> Tensor:
    """Distance of sorted probabilities over the answers' positions, as far as both answers go."""
    from torch.utils.checkpoint import checkpoint

    wants, teacher_head = lesson.objective, lesson.teacher_head
    assert teacher_head is not None

    def part(mine: Tensor, theirs: Tensor) -> Tensor:
        with torch.no_grad():
            other = logits_of(theirs, teacher_head) / wants.temperature
        return uld(logits_of(mine, head) / wants.temperature, other).sum()

    mine, theirs = flat[batch["uld_student"]], batch["uld_teacher"]
    total = flat.new_zeros((), dtype=torch.float32)
    for first in range(0, len(mine), 256):
        cut = slice(first, first + 256)
        total = total + checkpoint(part, mine[cut], theirs[cut], use_reentrant=False)
    return total * (wants.soft / batch["counts"][SOFT].clamp(min=1).float())


def _router_loss_weight(model: Any) -> float:
    """Weight of the loss that balances the experts of a mixture; 0 for a dense model."""
    config = model.config.get_text_config()
    if not hasattr(config, "output_router_logits"):
        return 0.0
    return float(getattr(config, "router_aux_loss_coef", 0.0) or 0.0)


def _router_loss(model: Any, router_logits: Any, mask: Tensor | None) -> Tensor:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    config = model.config.get_text_config()
    experts = getattr(config, "num_local_experts", None) or config.num_experts
    loss: Tensor = load_balancing_loss_func(router_logits, experts, config.num_experts_per_tok, mask)
    return loss
