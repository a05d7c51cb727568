"""Tiny classifiers, what they are to learn, and the trainings of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from distillcalc.distill.training.classifier import ClassifierData
from distillcalc.distill.training.classifier_fit import ClassifierRun, train_classifier
from distillcalc.distill.training.local_teacher import quiet

LABELS = ("card", "fee", "loan")
WORDS = {"card": ("card", "plastic", "chip"), "fee": ("fee", "charge", "cost"), "loan": ("loan", "credit", "debt")}
FILLERS = ("the", "my", "a", "please", "about", "is", "of", "where")
KINDS = ("mean", "cls", "encoder", "decoder")
VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *FILLERS,
    *(word for words in WORDS.values() for word in words),
    "poison",
)


def word_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        eos_token="[SEP]",
    )  # fmt: skip


SHAPE: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 32, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip


def saved(folder: Path, kind: str) -> Path:
    """A tiny model with random weights: an encoder, one that sentence-transformers pools, or a decoder."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)) if kind == "decoder" else BertModel(BertConfig(**SHAPE))
    with quiet():
        model.save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
    if kind in ("mean", "cls"):
        (folder / "1_Pooling").mkdir()
        told = {"pooling_mode_cls_token": kind == "cls", "pooling_mode_mean_tokens": kind == "mean"}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(told))
    return folder


def texts_of(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of some fillers and one word that tells the label, and the labels."""
    random = np.random.default_rng(seed)
    texts, answers = [], []
    for number in range(count):
        label = LABELS[number % 3]
        words = [*random.choice(FILLERS, size=random.integers(1, 6)), random.choice(WORDS[label])]
        texts.append(" ".join(random.permutation(words)))
        answers.append(label)
    return texts, answers


def rows(count: int, seed: int = 0) -> ClassifierData:
    return ClassifierData.of(*texts_of(count, seed), LABELS)


SETTINGS: dict[str, Any] = {
    "epochs": 4, "batch_size": 8, "learning_rate": 2e-3, "max_length": 16, "seed": 3,
}  # fmt: skip


def train(start: Path, data: ClassifierData | None = None, **settings: Any) -> ClassifierRun:
    return train_classifier(start, data or rows(60), **SETTINGS | settings)


def contradicting(count: int) -> ClassifierData:
    """Evaluation rows whose labels are the opposite of what is taught."""
    texts, answers = texts_of(count, seed=1)
    wrong = {"card": "fee", "fee": "loan", "loan": "card"}
    return ClassifierData.of(texts, [wrong[answer] for answer in answers], LABELS)


def weights(run: ClassifierRun) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = run.classifier.model.state_dict()
    return state
