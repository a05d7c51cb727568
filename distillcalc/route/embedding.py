"""Texts as vectors: a sentence encoder, mean-pooled and normalised, that gives the same whatever the order of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError, MissingExtra
from distillcalc.route.requests import Request

Vectors = NDArray[np.float32]

MOST_TOKENS = 512  # of a text, where the encoder does not say; the rest is cut
TOKENIZED_AT_ONCE = 4_096


class Embedder:
    """A sentence encoder of transformers, loaded when it is first used.

    The mean of the last layer over a text's tokens, divided by its length (Reimers & Gurevych 2019, arXiv:1908.10084).
    Weights are read from safetensors only and no code of the model's is run.

    Parameters
    ----------
    model : a folder, or the name of a model on the Hugging Face hub.
    name : what is saved with a score that was fitted on it; left out, the folder or name.
    batch_size : texts at once; texts of like lengths go together.
    device : of torch; left out, a GPU where there is one.
    """

    def __init__(
        self, model: str | Path, *, name: str | None = None, batch_size: int = 64, device: str | None = None
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more. Got {batch_size}")
        self.model, self.batch_size, self.device = str(model), batch_size, device
        self.name = name or self.model

    def __repr__(self) -> str:
        return f"Embedder({self.name!r})"

    @cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingExtra("transformers", "route") from error
        _pools_by_mean(Path(self.model))
        try:
            with _no_progress_bar():
                tokenizer = AutoTokenizer.from_pretrained(self.model)
                model = AutoModel.from_pretrained(self.model, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"cannot load the sentence encoder {self.model!r}: {first}. Give a local folder with config.json, a "
                "tokenizer and safetensors, or a name of the Hugging Face hub that can be reached from here"
            ) from error
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return tokenizer, model.eval().to(device), _most_tokens(Path(self.model), tokenizer, model.config)

    @property
    def dimensions(self) -> int:
        """How long a vector is."""
        return int(self._loaded[1].config.hidden_size)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors.

        Parameters
        ----------
        texts : what to embed; equal ones are embedded once.

        Returns
        -------
        Shape (texts, dimensions), each row of length 1. The same text may differ by about 1e-7 with the texts that it
        is embedded with, never with their order.

        Raises
        ------
        InputError
            If the encoder cannot be loaded.
        MissingExtra
            If transformers is not installed.
        """
        distinct = sorted(set(texts))
        place = {text: i for i, text in enumerate(distinct)}
        found = np.zeros((len(distinct), self.dimensions), dtype=np.float32)
        if not distinct:
            return found
        tokens = self._tokens(distinct)
        order = np.argsort([len(one) for one in tokens], kind="stable")
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            found[rows] = self._pooled([tokens[i] for i in rows])
        return np.asarray(found[[place[text] for text in texts]])

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        tokenizer, _, most = self._loaded
        found: list[list[int]] = []
        for start in range(0, len(texts), TOKENIZED_AT_ONCE):
            part = list(texts[start : start + TOKENIZED_AT_ONCE])
            found += tokenizer(part, truncation=True, max_length=most, return_attention_mask=False)["input_ids"]
        return found

    def _pooled(self, tokens: list[list[int]]) -> Vectors:
        import torch

        tokenizer, model, _ = self._loaded
        longest = max(1, *(len(one) for one in tokens))
        ids = np.full((len(tokens), longest), tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros((len(tokens), longest), dtype=np.int64)
        for row, one in enumerate(tokens):
            ids[row, : len(one)], mask[row, : len(one)] = one, 1
        with torch.inference_mode():
            seen = torch.from_numpy(mask).to(model.device)
            hidden = model(input_ids=torch.from_numpy(ids).to(model.device), attention_mask=seen).last_hidden_state
            total = (hidden * seen.unsqueeze(-1)).sum(dim=1)  # its length goes with the normalisation
            vectors: Vectors = torch.nn.functional.normalize(total, dim=1).float().cpu().numpy()
        return vectors


def embeddings_of(requests: Sequence[Request], embedder: Embedder | None, dimensions: int | None = None) -> Vectors:
    """The requests' embeddings: those that they hold, and those of the texts of the others.

    Parameters
    ----------
    requests : with embeddings or texts.
    embedder : of the texts; None where every request holds its embedding.
    dimensions : what is expected.

    Returns
    -------
    Shape (requests, dimensions).

    Raises
    ------
    InputError
        If a request has no embedding and nothing makes one, or lengths differ; it names the request's place.
    """
    lacking = [i for i, request in enumerate(requests) if request.embedding is None]
    if lacking and embedder is None:
        raise InputError(
            f"request {lacking[0]}: it holds no embedding, and no encoder is given to make one. "
            "Give embedder=Embedder(folder or name)"
        )
    made = iter(embedder.embed([requests[i].text for i in lacking])) if lacking and embedder else iter(())
    rows = [next(made) if r.embedding is None else np.asarray(r.embedding, dtype=np.float32) for r in requests]
    length = dimensions or (rows[0].size if rows else 0)
    for place, row in enumerate(rows):
        if row.shape != (length,):
            raise InputError(f"request {place}: its embedding must have shape ({length},). Got {row.shape}")
    found = np.stack(rows) if rows else np.zeros((0, length), dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if bad.size:
        raise InputError(f"request {bad[0]}: its embedding holds nan or infinity")
    return found


def same_encoder(saved: str | None, embedder: Embedder | None) -> Embedder | None:
    """The encoder of a saved score: the one given where it is the same, else made from its name.

    Raises
    ------
    InputError
        If another one is given.
    """
    if saved is None:
        return embedder
    if embedder is None:
        return Embedder(saved)
    if embedder.name != saved:
        raise InputError(
            f"the score was fitted on embeddings of {saved!r}. Got {embedder.name!r}; "
            f"if it is the same model elsewhere, say so: Embedder(folder, name={saved!r})"
        )
    return embedder


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    from transformers.utils import logging

    shows = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shows:
            logging.enable_progress_bar()


def _pools_by_mean(folder: Path) -> None:
    file = folder / "1_Pooling" / "config.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens") is False:
        raise InputError(f"the encoder {folder.name!r} does not pool by the mean, as embeddings are made here")


def _most_tokens(folder: Path, tokenizer: Any, config: Any) -> int:
    file = folder / "sentence_bert_config.json"
    stated = json.loads(file.read_text(encoding="utf-8")).get("max_seq_length") if file.is_file() else None
    limits = (stated, getattr(config, "max_position_embeddings", None), tokenizer.model_max_length, MOST_TOKENS)
    return int(min(limit for limit in limits if limit))
