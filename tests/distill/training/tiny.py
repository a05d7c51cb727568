"""Tiny models, a tiny tokenizer and a few records, so that a training takes less than a second."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.trainer.sft_trainer  # noqa: F401
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, PreTrainedTokenizerFast, Qwen3MoeConfig

from distillcalc.distill.records import Origin, Record
from distillcalc.distill.training.devices import Machine
from distillcalc.distill.training.examples import Chain, Examples, make_examples
from distillcalc.distill.training.fit import Fitted, fit
from distillcalc.distill.training.recipe import Lora, Objective, Settings
from distillcalc.distill.training.students import Student, with_lora

gc.freeze()  # what is imported stays: a training collects garbage, which would else take longer than the training

END, START, PAD = "<|end|>", "<|start|>", "<|pad|>"
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
ANSWERS = (
    "no",
    "yes, and here is why it is so",
    "maybe",
    "a long answer that goes on and on, far beyond all the others",
)


@contextmanager
def alone() -> Iterator[None]:
    """One thread: of models this small, more cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tests of a module that imports it run so."""
    with alone():
        yield


@cache
def tokenizer(size: int = 300, reverse: bool = False) -> Any:
    """Byte pairs learnt from the records' own texts; ``reverse`` trains on other text, so that the ids differ."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    texts = [f"this is text number {i} of some " + ANSWERS[i % 4] for i in range(20)] + ["user assistant system\n"] * 9
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PAD, START, END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator([t[::-1] for t in texts] if reverse else texts, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=PAD, eos_token=END, additional_special_tokens=[START]
    )  # fmt: skip
    made.chat_template = TEMPLATE
    return made


def records(count: int = 8, reasoning: bool = False) -> list[Record]:
    """Texts of unequal length with answers of very unequal length (1 to 25 tokens)."""
    made = []
    for i in range(count):
        text = f"this is text number {i}" + " of some" * (i % 3)
        made.append(
            Record(
                id=str(i), input={"text": text}, messages=({"role": "user", "content": text},), answer=ANSWERS[i % 4],
                reasoning=f"because number {i} says" + " so" * (i % 5) if reasoning else None,
                origin=Origin(run="r", call="c", teacher="t"),
            )
        )  # fmt: skip
    return made


def examples(count: int = 8, chain: Chain = "none", tokens: Any = None) -> Examples:
    """The records as sequences."""
    return make_examples(records(count, chain != "none"), tokens or tokenizer(), chain=chain)


def model_of(config: Any, seed: int = 0) -> Any:
    """Random weights in a shape; large enough that distributions are not flat."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.config.use_cache = False
    return model


def llama(seed: int = 0, layers: int = 2, hidden: int = 32, vocabulary: int | None = None, **more: Any) -> Any:
    """A Llama of a few thousand parameters."""
    given: dict[str, Any] = {"tie_word_embeddings": True, "attn_implementation": "sdpa"} | more
    return model_of(
        LlamaConfig(
            vocab_size=vocabulary or len(tokenizer()), hidden_size=hidden, intermediate_size=2 * hidden,
            num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
            pad_token_id=0, bos_token_id=None, eos_token_id=2, **given,
        ), seed,
    )  # fmt: skip


def mixtral(seed: int = 0, layers: int = 2) -> Any:
    """A mixture of four experts, two at work."""
    return model_of(
        MixtralConfig(
            vocab_size=len(tokenizer()), hidden_size=32, intermediate_size=32, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
            router_aux_loss_coef=0.02, max_position_embeddings=512, bos_token_id=None, eos_token_id=2,
        ), seed,
    )  # fmt: skip


def qwen3_moe(seed: int = 0, layers: int = 2) -> Any:
    """A mixture of four experts, two at work, of another family."""
    return model_of(
        Qwen3MoeConfig(
            vocab_size=len(tokenizer()), hidden_size=32, intermediate_size=64, moe_intermediate_size=16,
            num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=4,
            num_experts_per_tok=2, router_aux_loss_coef=0.02, max_position_embeddings=512, bos_token_id=None,
            eos_token_id=2, tie_word_embeddings=False,
        ), seed,
    )  # fmt: skip


def student(model: Any, tokens: Any = None, lora: Lora | None = None) -> Student:
    """A copy of a model as a student, so that the model can be trained again."""
    made = copy.deepcopy(model)
    for parameter in made.parameters():
        parameter.requires_grad_(True)
    if lora is not None:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what peft asks transformers
            made = with_lora(made, lora)
    return Student(made, tokens or tokenizer(), "a tiny model")


PLAIN = {
    "steps": 5, "batch_size": 8, "micro_batch": 8, "learning_rate": 1e-2, "warmup": 0.0, "evaluations": 0,
    "checkpoints": 0, "precision": "fp32",
}  # fmt: skip


def train(
    model: Any, data: Examples, folder: Path, *, objective: Objective | None = None, lora: Lora | None = None,
    settings: dict[str, Any] | None = None, **given: Any,
) -> Fitted:  # fmt: skip
    """One training of a copy of a model."""
    wants = Settings(**(PLAIN | (settings or {})))
    learns = model if isinstance(model, Student) else student(model, lora=lora)
    with alone():
        return fit(learns, data, folder, objective=objective, settings=wants, **given)


def curve(fitted: Fitted, name: str = "loss") -> list[float]:
    """What was told of a loss at each step."""
    return [told[name] for told in fitted.losses]


def machine(**given: Any) -> Machine:
    """A machine of one CPU process."""
    return Machine(**({"device": "cpu", "name": "a CPU", "precision": "fp32", "why": "", "free_bytes": 2**30} | given))
