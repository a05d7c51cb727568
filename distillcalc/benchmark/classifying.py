"""A trained classifier in this process as the target of a benchmark: one step reads the texts and gives their labels.

It is served as a decoder is (:mod:`.static_batches`): whenever it is free it takes the requests that are due, as many
as a batch holds. Its answer counts as one output token: first and last token are the same moment, there is no TPOT.
Texts are tokenised before the clock starts, and cut where the classifier reads no more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from distillcalc.benchmark.decoding import Step
from distillcalc.benchmark.in_process import MAX_BATCH, Device, Run, choose, precision_of
from distillcalc.benchmark.load import Load, Prompt
from distillcalc.benchmark.memory import PeakMemory, row_bytes, weights_bytes
from distillcalc.benchmark.static_batches import Asked, Serving
from distillcalc.benchmark.traces import Traces
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.distill.training.classifier import Classifier

ENCODER = "encoder"  # what a record calls a target that answers in the step that reads


class InProcessClassifier:
    """A classifier in this process, as a target.

    Parameters
    ----------
    classifier : trained, on its device, in its precision. A small decoder with a classification head is served alike.
    name : as a record tells it; left out, the model that it started from.
    max_batch : most texts at once.

    Raises
    ------
    InputError
        If max_batch is below 1.
    """

    weights: Final = "trained"  # as a record tells it

    def __init__(self, classifier: Classifier, name: str = "", *, max_batch: int = MAX_BATCH) -> None:
        if max_batch < 1:
            raise InputError(f"max_batch must be 1 or more. Got {max_batch}")
        from distillcalc.distill.training.classifier import pad_of

        classifier.model.eval()
        self.classifier, self.max_batch = classifier, max_batch
        self._name = name or classifier.start or "classifier"
        self.model = _Model(classifier.model)
        self.decoder = _OneStep(classifier.model, pad_of(classifier.tokenizer), self.model.device)
        self.precision = precision_of(self.model)
        self.last: Run | None = None
        self.notes: tuple[str, ...] = ()
        self._ready = False

    @classmethod
    def load(
        cls, folder: str | Path, *, name: str = "", max_batch: int = MAX_BATCH, device: Device = "auto"
    ) -> InProcessClassifier:
        """A classifier from the folder that it was saved to; fp32 on a CPU, bf16 on a GPU.

        Parameters
        ----------
        name : left out, the folder's.
        device : "auto" is the GPU if there is one.

        Raises
        ------
        InputError
            If the folder holds no whole classifier, or the machine has no such device.
        MissingExtra
            If torch or transformers is not installed.
        """
        from distillcalc.distill.training.classifier import Classifier

        found = Classifier.load(folder, choose("auto", device).device)
        return cls(found, name or Path(folder).resolve().name, max_batch=max_batch)

    @property
    def name(self) -> str:
        """The model's name, as a record tells it."""
        return self._name

    def encode(self, text: str) -> list[int]:
        """All of a text's tokens, those beyond what is read included; counts for ``make_prompts``."""
        return list(self.classifier.tokenizer(text, verbose=False)["input_ids"])  # else it warns of long texts

    def context_window(self) -> int:
        """0: no text is too long, for it is cut at the classifier's ``max_length``."""
        return 0

    def ends(self) -> set[int]:
        """Tokens after which all is said: none, for the label is the only one."""
        return set()

    def text_of(self, ids: Sequence[int]) -> str:
        """The label."""
        return self.classifier.labels[ids[0]] if ids else ""

    def row_bytes(self, read: int, capacity: int) -> float:
        """About what one text of a batch takes [bytes]: activations, and no cache."""
        return row_bytes(self.model, read)

    def describe(self) -> dict[str, Any]:
        """What a record says of the engine; plain values for JSON."""
        import torch

        device = self.model.device.type
        return {
            "engine": "transformers", "batching": "static", "kind": ENCODER, "max_batch": self.max_batch,
            "device": device, "precision": self.precision, "why": "of the weights",
            "labels": len(self.classifier.labels), "max_length": self.classifier.max_length,
            "compiled": False, "weights_bytes": weights_bytes(self.model),
            "attention": str(getattr(self.model.config, "_attn_implementation", "")),
            "threads": torch.get_num_threads() if device == "cpu" else 0,
        }  # fmt: skip

    def run(self, prompts: Sequence[Prompt], load: Load, *, timeout_s: float = 120.0) -> Traces:
        """Send all prompts under the load; see :class:`distillcalc.benchmark.load.Target`.

        Of a chat its ``text`` is read. ``last`` tells steps and memory afterwards, ``notes`` whether texts were cut.

        Raises
        ------
        InputError
            If an open loop has not one moment for each prompt.
        """
        from distillcalc.distill.training.classifier import tokens_of

        most = self.classifier.max_length
        ids, longer = tokens_of(self.classifier.tokenizer, [prompt.text for prompt in prompts], most)
        asked = [
            Asked(i, tokens, replace(prompt, output_tokens=1, whole=True))
            for i, (tokens, prompt) in enumerate(zip(ids, prompts, strict=True))
        ]
        if not self._ready:  # touch the weights before the clock starts
            list(self.decoder.run([[self.decoder.pad]], 1))
            self._ready = True
        with PeakMemory(self.model) as watched:
            run = Serving(self, asked, load, timeout_s)
            run.serve()
        assert watched.memory is not None
        self.last = Run(run.log.steps(), watched.memory, run.out_of_memory)
        self.notes = (f"texts of more than {most} tokens were cut: {self.name} reads no more",) if longer else ()
        return run.traces()


class _Model:
    """A classifier's module with what is asked of a model of transformers: configuration, device and weights."""

    def __init__(self, module: Any) -> None:
        inner = module.encoder if hasattr(module, "encoder") else module.model
        self.config, self.device, self.dtype = inner.config, inner.device, inner.dtype
        self.parameters, self.named_parameters = module.parameters, module.named_parameters
        self.buffers = module.buffers


class _OneStep:
    """Batches of a single step, in the place of a :class:`distillcalc.benchmark.decoding.Decoder`: it keeps no cache.

    Parameters
    ----------
    module : gives logits of shape (rows, labels). pad : fills short rows, on the right.
    """

    def __init__(self, module: Any, pad: int, device: Any) -> None:
        self.module, self.pad, self.device = module, pad, device

    def capacity(self, longest: int, steps: int) -> int:
        """Tokens of a cache."""
        return 0

    def held_bytes(self) -> int:
        """Memory of caches that are kept [bytes]."""
        return 0

    def release(self) -> None:
        """Give the memory of caches back."""

    def run(self, prompts: Sequence[Sequence[int]], steps: int, *, rows: int = 0, capacity: int = 0) -> Iterator[Step]:
        """Read the texts; the token of each is the number of its likeliest label."""
        import torch

        from distillcalc.distill.training.classifier_torch import padded

        batch = {name: tensor.to(self.device) for name, tensor in padded(prompts, self.pad).items()}
        began = time.perf_counter()
        with torch.inference_mode():
            # Only when the labels are here has the device finished: copying them waits for it.
            chosen = self.module(**batch).argmax(-1).tolist()
        yield Step(chosen, began, time.perf_counter(), batch["input_ids"].numel(), 0)
