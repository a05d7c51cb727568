"""What it takes to make the same student by pre-training, by fine-tuning and by distilling: cost ranges.

The article gives a cost range for each; here they are computed from tokens, parameters, utilisation and
prices, and set beside the article's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from distillcalc.catalog import Catalog
from distillcalc.catalog.prices import Processing
from distillcalc.errors import InputError, MissingPrice
from distillcalc.estimate.distillation import gpu_hours, training_flops

CHINCHILLA_TOKENS_PER_PARAMETER = 20.0  # Hoffmann et al., arXiv:2203.15556
OVERTRAINED_TOKENS_PER_PARAMETER = 1_875.0  # Llama 3.1 8B: 15 x 10^12 tokens (its model card)

ARTICLE_USD: dict[str, tuple[float, float]] = {
    "pre-training": (10e6, 100e6),
    "fine-tuning": (100.0, 10e3),
    "distillation": (1e3, 100e3),
}


@dataclass(frozen=True)
class MakingCost:
    """The cost of making one student one way; every pair is low, high.

    Parameters
    ----------
    approach : pre-training, fine-tuning or distillation.
    tokens : seen in training.
    gpu_hours : of the training run.
    compute_usd, labels_usd : rented GPUs; the teacher's answers.
    article_usd : what the article says.
    how : the formula with its numbers.
    """

    approach: str
    tokens: tuple[float, float]
    gpu_hours: tuple[float, float]
    compute_usd: tuple[float, float]
    labels_usd: tuple[float, float]
    article_usd: tuple[float, float]
    how: str

    @property
    def total_usd(self) -> tuple[float, float]:
        """Compute and labels [USD]."""
        return self.compute_usd[0] + self.labels_usd[0], self.compute_usd[1] + self.labels_usd[1]

    @property
    def verdict(self) -> str:
        """How the computed range lies to the article's."""
        (low, high), (claimed_low, claimed_high) = self.total_usd, self.article_usd
        if high < claimed_low:
            return "below the article's range"
        if low > claimed_high:
            return "above the article's range"
        if low >= claimed_low and high <= claimed_high:
            return "inside the article's range"
        return "overlaps the article's range"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "approach": self.approach,
            "tokens": list(self.tokens),
            "gpu_hours": list(self.gpu_hours),
            "compute_usd": list(self.compute_usd),
            "labels_usd": list(self.labels_usd),
            "total_usd": list(self.total_usd),
            "article_usd": list(self.article_usd),
            "verdict": self.verdict,
            "how": self.how,
        }


def making_costs(
    student: str,
    teacher: str,
    *,
    catalog: Catalog | None = None,
    examples: tuple[float, float] = (10_000, 1_000_000),
    labels: tuple[float, float] = (10_000, 800_000),
    input_tokens: float = 500,
    output_tokens: float = 500,
    epochs: tuple[float, float] = (1, 3),
    mfu: tuple[float, float] = (0.3, 0.5),
    gpu: str = "h100-sxm",
    on: date | None = None,
) -> list[MakingCost]:
    """Cost ranges of pre-training, fine-tuning and distilling one student.

    Parameters
    ----------
    student : catalog id; its active parameters set the compute.
    teacher : provider/model that writes the labels.
    catalog : left out, the shipped one.
    examples : of human or existing data for fine-tuning (the article's 10K to 1M).
    labels : teacher answers for distillation (800,000 is what DeepSeek-R1's distilled models were given).
    input_tokens, output_tokens : of one example.
    epochs, mfu : low and high.
    gpu : catalog id; its cheapest and dearest on-demand price are the low and the high.
    on : the day of the token prices (today).

    Returns
    -------
    One MakingCost per approach. Low ends take the low count, LoRA, the high MFU and the low price; high ends
    the high count, every weight, the low MFU and the high price. People are not counted, as in the article.

    Raises
    ------
    UnknownName, MissingPrice, InputError

    Notes
    -----
    FLOPs = 6 P T (every weight) or 4 P T (LoRA); GPU-hours = FLOPs / (peak x MFU).
    """
    known = catalog or Catalog.load()
    row, card = known.model(student), known.gpu(gpu)
    params = row.active_params_b or row.params_b
    if params is None:
        raise InputError(f"the size of {student} is not public, so its training cannot be computed")
    for name, pair in (("examples", examples), ("labels", labels), ("epochs", epochs), ("mfu", mfu)):
        if not 0 < pair[0] <= pair[1]:
            raise InputError(f"{name} must be (low, high) with 0 < low <= high. Got {pair}")
    if mfu[1] > 1:
        raise InputError(f"mfu is a share of the GPU's peak and cannot exceed 1. Got {mfu[1]}")
    offers = [p.usd_per_gpu_hour for p in known.gpu_prices.values() if p.gpu == gpu and p.commitment == "on-demand"]
    if not offers:
        raise MissingPrice(f"no on-demand rental price known for {gpu}")
    cheap, dear = min(offers), max(offers)

    def run(tokens: tuple[float, float], method_low: str) -> tuple[tuple[float, float], tuple[float, float]]:
        low = float(gpu_hours(training_flops(params, np.array(tokens[0]), method=method_low), card.bf16_tflops, mfu[1]))
        high = float(gpu_hours(training_flops(params, np.array(tokens[1]), method="full"), card.bf16_tflops, mfu[0]))
        return (low, high), (low * cheap, high * dear)

    per_example = input_tokens + output_tokens
    ref = known.price_ref(teacher)
    processing: Processing = "batch" if known.has_batch_price(ref, on or date.today()) else "standard"
    quoted = known.token_prices(ref, on or date.today(), processing=processing)
    one_label = float(quoted.price(input_tokens, output_tokens))
    rent = f"{cheap:g} to {dear:g} USD per {card.name} hour, MFU {mfu[0]:g} to {mfu[1]:g}"
    plans = {
        "pre-training": (
            (params * 1e9 * CHINCHILLA_TOKENS_PER_PARAMETER, params * 1e9 * OVERTRAINED_TOKENS_PER_PARAMETER),
            "full",
            (0.0, 0.0),
            f"{CHINCHILLA_TOKENS_PER_PARAMETER:g} to {OVERTRAINED_TOKENS_PER_PARAMETER:,.0f} tokens per parameter",
        ),
        "fine-tuning": (
            (examples[0] * per_example * epochs[0], examples[1] * per_example * epochs[1]),
            "lora",
            (0.0, 0.0),
            f"{examples[0]:,.0f} to {examples[1]:,.0f} examples of {per_example:,.0f} tokens; the data is at hand",
        ),
        "distillation": (
            (labels[0] * per_example * epochs[0], labels[1] * per_example * epochs[1]),
            "lora",
            (labels[0] * one_label, labels[1] * one_label),
            f"{labels[0]:,.0f} to {labels[1]:,.0f} answers of {ref} at {one_label:.3g} USD each ({processing} price)",
        ),
    }
    found = []
    for approach, (tokens, method, label_usd, how) in plans.items():
        hours, usd = run(tokens, method)
        found.append(MakingCost(approach, tokens, hours, usd, label_usd, ARTICLE_USD[approach], f"{how}; {rent}"))
    return found
