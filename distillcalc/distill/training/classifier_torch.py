"""What computes in a classifier: an encoder with a pooled head, its loss, its trainer, and one pass over many texts.

Two kinds of model. "pooled" is an encoder whose token vectors are pooled (mean, or the first token's) under one linear
layer: what sentence-transformers folders are trained for. "standard" is ``AutoModelForSequenceClassification``, for
every other encoder and for small decoders; anyone with transformers can load it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253
from transformers import Trainer, TrainerCallback  # noqa: TID253
from transformers.trainer_pt_utils import get_length_grouped_indices  # noqa: TID253

from distillcalc.distill.training import checkpoints
from distillcalc.distill.training.losses_torch import IGNORED, cross_entropy, divergence
from distillcalc.distill.training.progress import Progress, TrainingDiverged

Pooling = Literal["mean", "cls"]
ROWS_AT_ONCE = 64
SHOWN = 8  # rows named where a loss is no number
STATE, BEST = "classifier_state.json", "best.safetensors"


class Pooled(nn.Module):  # type: ignore[misc]
    """An encoder, its token vectors pooled, and a linear layer.

    Parameters
    ----------
    encoder : any of transformers that gives ``last_hidden_state``.
    labels : how many there are. pooling : "mean" over real tokens, or "cls", the first token.
    dropout : of the pooled vector, while training.
    """

    def __init__(self, encoder: Any, labels: int, pooling: Pooling = "mean", dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, labels)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Pooled vectors, shape (rows, hidden)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        real = attention_mask[..., None].to(hidden.dtype)
        return (hidden * real).sum(1) / real.sum(1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, shape (rows, labels)."""
        logits: Tensor = self.head(self.dropout(self.embed(input_ids, attention_mask)))
        return logits


class Standard(nn.Module):  # type: ignore[misc]
    """A classifier of transformers that gives its logits alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, shape (rows, labels)."""
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


@dataclass(frozen=True)
class Mixture:
    """hard CE(label, q) + soft T^2 KL(p_T | q_T), with p_T proportional to p^(1/T) and q_T = softmax(logits / T)
    (Hinton et al., arXiv:1503.02531, section 2).

    Parameters
    ----------
    hard, soft : weights of the two. temperature : T.
    """

    hard: float
    soft: float
    temperature: float

    def __call__(self, logits: Tensor, labels: Tensor, probabilities: Tensor | None) -> Tensor:
        """The loss of each row [nats].

        Parameters
        ----------
        logits : the student's, shape (rows, labels). labels : hard targets, shape (rows,).
        probabilities : soft targets, shape (rows, labels).
        """
        total = logits.new_zeros(len(logits), dtype=torch.float32)
        if self.hard:
            total = total + self.hard * cross_entropy(logits, labels)
        if self.soft and probabilities is not None:
            # softmax(log p / T) is p^(1/T), normalised.
            total = total + self.soft * divergence(logits, probabilities.log(), temperature=self.temperature)
        return total


@dataclass(frozen=True)
class Features:
    """Texts as tokens, with their targets.

    Parameters
    ----------
    ids : token ids by row. labels : hard targets by row. probabilities : soft ones, shape (rows, labels), or None.
    """

    ids: Sequence[Sequence[int]]
    labels: Tensor
    probabilities: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> int:
        return row  # a batch is made of row numbers by collate

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """A batch, padded on the right."""
        made = padded([self.ids[row] for row in rows], pad)
        index = torch.tensor(list(rows))
        batch = {**made, "hard": self.labels[index], "row": index}
        if self.probabilities is not None:
            batch["probabilities"] = self.probabilities[index]
        return batch


def padded(ids: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Token ids and their mask, padded on the right."""
    longest = max(map(len, ids))
    return {
        "input_ids": torch.tensor([[*row, *[pad] * (longest - len(row))] for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
    }


def over_all(
    compute: Callable[..., Tensor], ids: Sequence[Sequence[int]], pad: int, device: Any, *, bf16: bool = False
) -> Tensor:
    """Run a model over many texts in batches of like length; rows come back in order, as float32 on the CPU."""
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    parts = []
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16) if bf16 else nullcontext():
        for start in range(0, len(order), ROWS_AT_ONCE):
            batch = padded([ids[row] for row in order[start : start + ROWS_AT_ONCE]], pad)
            parts.append(compute(**{name: tensor.to(device) for name, tensor in batch.items()}).float().cpu())
    found = torch.cat(parts)
    result = torch.empty_like(found)
    result[torch.tensor(order)] = found
    return result


def probe(model: Pooled, vectors: Tensor, targets: Tensor, penalty: float) -> None:
    """Set a head to logistic regression on the vectors that the encoder gives before it learns.

    Minimises CE(targets, W x / s + b) + penalty |W|^2, with s the mean length of the vectors x.

    Parameters
    ----------
    vectors : shape (rows, hidden). targets : probabilities, shape (rows, labels).
    """
    scale = vectors.norm(dim=1).mean().clamp(min=1e-6)
    inputs = vectors / scale
    weight = torch.zeros(targets.shape[1], vectors.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        logits = inputs @ weight.T + bias
        loss = -(targets * torch.log_softmax(logits, -1)).sum(1).mean() + penalty * weight.pow(2).sum()
        loss.backward()
        return loss

    search.step(closure)
    with torch.no_grad():
        model.head.weight.copy_(weight / scale)
        model.head.bias.copy_(bias)


class _Order(torch.utils.data.Sampler):  # type: ignore[misc]
    """Rows of like length together, in an order that follows from seed and epoch alone: a resumed training has it."""

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


@dataclass
class Story:
    """What happened in a training, over all its sessions."""

    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    best_step: int = 0

    @property
    def without_gain(self) -> int:
        """Evaluations since the best one."""
        return sum(1 for found in self.evaluations if found["step"] > self.best_step)


class ClassifierTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose loss is a mixture, told row by row."""

    def __init__(self, *, mixture: Mixture, features: Features, story: Story, order_seed: int, **given: Any) -> None:
        self.mixture, self.features, self.story, self.order_seed = mixture, features, story, order_seed
        super().__init__(train_dataset=features, **given)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean of the rows' losses; raises where it is no number."""
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        losses = self.mixture(logits, inputs["hard"], inputs.get("probabilities"))
        loss = losses.mean()
        value = float(loss.detach())
        if value - value != 0:  # inf and nan
            raise TrainingDiverged(self.state.global_step + 1, _rows(inputs["row"], losses), f"loss {value:g}")
        self.story.losses.append(value)
        self.story.tokens += int(inputs["attention_mask"].sum())
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return _Order([len(ids) for ids in self.features.ids], self.args.train_batch_size, self.order_seed)


def _rows(rows: Tensor, losses: Tensor) -> str:
    """Which rows of a batch have no number for a loss, in words."""
    bad = rows[~torch.isfinite(losses)].tolist()
    if len(bad) == len(rows):
        named = ", ".join(map(str, bad[:SHOWN])) + (", ..." if len(bad) > SHOWN else "")
        return f"rows {named} (counted from 0), all {len(bad)} of it"
    return f"rows {', '.join(map(str, bad[:SHOWN]))} (counted from 0)"


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Evaluates on a schedule, keeps the best weights, stops early, tells how far it is, and completes checkpoints.

    Parameters
    ----------
    trainer : of which it tells. evaluation : rows to choose by, or None. every : steps between two evaluations.
    patience : evaluations without a gain that end the training. pad : id. report : told after each step.
    """

    def __init__(
        self, trainer: ClassifierTrainer, evaluation: Features | None, every: int, patience: int | None, pad: int,
        bf16: bool, report: Callable[[Progress], None] | None,
    ) -> None:  # fmt: skip
        self.trainer, self.evaluation, self.every, self.patience = trainer, evaluation, every, patience
        self.pad, self.bf16, self.report = pad, bf16, report
        self.best: dict[str, Tensor] | None = None
        self.began = time.monotonic()
        self.earlier_seconds = trainer.story.seconds
        self.earlier = (0, 0)  # steps and tokens of earlier sessions

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note where this session starts."""
        self.began = time.monotonic()
        self.earlier = (state.global_step, self.trainer.story.tokens)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate where it is time, and tell."""
        story, step = self.trainer.story, state.global_step
        last = step >= state.max_steps
        if self.evaluation is not None and (step % self.every == 0 or last):
            self._evaluate(self.evaluation, step)
            if self.patience is not None and story.without_gain >= self.patience:
                control.should_training_stop = True
        if last or control.should_training_stop:
            control.should_save = False  # the student itself is written next
        story.seconds = self.earlier_seconds + time.monotonic() - self.began
        if self.report is not None:
            took = max(time.monotonic() - self.began, 1e-9)
            steps, tokens = self.earlier
            self.report(
                Progress(
                    step=step, steps=state.max_steps, loss=story.losses[-1],
                    tokens_per_s=(story.tokens - tokens) / took,
                    seconds_left=took / (step - steps) * (state.max_steps - step),
                )
            )  # fmt: skip

    def _evaluate(self, rows: Features, step: int) -> None:
        model, story = self.trainer.model, self.trainer.story
        model.eval()
        logits = over_all(model, rows.ids, self.pad, self.trainer.args.device, bf16=self.bf16)
        model.train()
        found = {
            "step": step,
            "loss": float(self.trainer.mixture(logits, rows.labels, rows.probabilities).mean()),
            "accuracy": float((logits.argmax(1) == rows.labels)[rows.labels != IGNORED].float().mean()),
        }
        best = next((e for e in story.evaluations if e["step"] == story.best_step), None)
        story.evaluations.append(found)
        if best is None or (found["accuracy"], -found["loss"]) > (best["accuracy"], -best["loss"]):
            story.best_step = step
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put what a resumed training needs beside the weights, then mark the checkpoint as whole."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        story = self.trainer.story
        if self.best is not None and story.best_step != state.global_step:
            from safetensors.torch import save_file

            save_file(self.best, folder / BEST)
        plain = {"losses": story.losses, "evaluations": story.evaluations, "best_step": story.best_step}
        (folder / STATE).write_text(json.dumps(plain), encoding="utf-8")
        checkpoints.mark_whole(folder, story.seconds, story.tokens)

    def resume(self, folder: Path) -> None:
        """Take up what :meth:`on_save` kept."""
        from safetensors.torch import load_file

        plain = json.loads((folder / STATE).read_text(encoding="utf-8"))
        story = self.trainer.story
        story.losses[:], story.evaluations[:] = plain["losses"], plain["evaluations"]
        story.best_step = plain["best_step"]
        story.seconds, story.tokens = checkpoints.seconds_before(folder)
        self.earlier_seconds = story.seconds
        if story.best_step:
            file = folder / BEST
            self.best = load_file(file if file.is_file() else folder / "model.safetensors")
