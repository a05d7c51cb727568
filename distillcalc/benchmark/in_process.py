"""A causal language model in this process as the target of a benchmark: greedy, in batches that start and end together.

Whenever the engine is free it takes the requests that are due, reads their prompts in one step and writes until all
have what they want; requests that become due meanwhile wait for the batch to end. A closed loop of b is so served in
batches of b in lockstep. Servers that take requests in between (continuous batching) are endpoints
(:mod:`distillcalc.benchmark.endpoint`). Prompts are tokenised before the clock starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distillcalc.benchmark.decoding import CacheKind, Decoder, Steps
from distillcalc.benchmark.load import ClosedLoop, Load, Prompt
from distillcalc.benchmark.memory import Memory, PeakMemory, is_out_of_memory, row_bytes, weights_bytes
from distillcalc.benchmark.static_batches import Asked, Serving, lacks
from distillcalc.benchmark.traces import Traces
from distillcalc.errors import InputError

Precision = Literal["auto", "fp32", "bf16", "fp8", "int8"]
Device = Literal["auto", "cuda", "cpu"]

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
MAX_BATCH = 64


@dataclass(frozen=True)
class Run:
    """What the engine knows of a run beside its traces.

    Parameters
    ----------
    steps : each of its steps.
    memory : at the peak.
    out_of_memory : what did not fit and what would; empty where all fitted.
    """

    steps: Steps
    memory: Memory
    out_of_memory: str = ""


@dataclass(frozen=True)
class Chosen:
    """Where a model runs, in which precision, and why."""

    device: Literal["cuda", "cpu"]
    precision: str
    why: str


class InProcess:
    """A model in this process, as a target.

    Parameters
    ----------
    model : a causal language model of transformers, on its device, in its precision.
    tokenizer : its own; with a chat template a prompt is a user's message.
    name : as a record tells it.
    max_batch : most sequences at once.
    compile : run the steps that write through torch.compile, on a GPU as CUDA graphs. Batches are then always of the
        same size: rows without a request compute for nothing.
    cache : see :class:`distillcalc.benchmark.decoding.Decoder`.
    precision, why : as a record tells it; left out, of the weights.

    Raises
    ------
    InputError
        If max_batch is below 1, or steps cannot be compiled.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        max_batch: int = MAX_BATCH,
        compile: bool = False,
        cache: CacheKind = "auto",
        precision: str = "",
        why: str = "",
    ) -> None:
        if max_batch < 1:
            raise InputError(f"max_batch must be 1 or more. Got {max_batch}")
        self.model, self.tokenizer, self._name, self.max_batch = model.eval(), tokenizer, name, max_batch
        self.decoder = Decoder(self.model, cache=cache, compiled=compile)
        self.precision = precision or precision_of(model)
        self.why = why or "of the weights"
        self.last: Run | None = None
        self._ready = False

    @classmethod
    def load(
        cls,
        model: str,
        *,
        precision: Precision = "auto",
        device: Device = "auto",
        adapter: str | None = None,
        name: str = "",
        max_batch: int = MAX_BATCH,
        compile: bool = False,
        cache: CacheKind = "auto",
    ) -> InProcess:
        """A model from a local folder or a hub.

        Parameters
        ----------
        precision : "auto" is bf16 on a GPU that computes in it, else fp32; "fp8" and "int8" quantise the linear layers
            where torch has the products for it (:mod:`distillcalc.benchmark.quantised`).
        device : "auto" is the GPU if there is one.
        adapter : merged into it.
        name : left out, the last part of the model's.

        Raises
        ------
        InputError
            If there is no such model, or the machine has no such device or precision.
        MissingExtra
            If transformers is not installed.
        """
        from distillcalc.distill.training.students import load_model

        chosen = choose(precision, device)
        held = "fp32" if chosen.precision == "fp32" else "bf16"
        found, tokenizer = load_model(str(model), adapter=adapter, dtype=DTYPES[held])
        found = found.to(chosen.device)
        if chosen.precision not in DTYPES:
            from distillcalc.benchmark.quantised import quantise

            quantise(found, chosen.precision)
        called = name or str(model).rstrip("/").rsplit("/", 1)[-1]
        more: dict[str, Any] = {"precision": chosen.precision, "why": chosen.why}
        return cls(found, tokenizer, called, max_batch=max_batch, compile=compile, cache=cache, **more)

    @property
    def name(self) -> str:
        """The model's name, as a record tells it."""
        return self._name

    def encode(self, text: str) -> list[int]:
        """A prompt's tokens as the model reads them, its chat template included; counts for ``make_prompts``."""
        return self._ids([{"role": "user", "content": text}])

    def _ids(self, chat: list[dict[str, str]]) -> list[int]:
        from distillcalc.distill.training.prompting import prompt_ids

        return prompt_ids(self.tokenizer, chat) or [0]

    def describe(self) -> dict[str, Any]:
        """What a record says of the engine; plain values for JSON."""
        import torch

        device = self.model.device.type
        return {
            "engine": "transformers", "batching": "static", "max_batch": self.max_batch, "device": device,
            "precision": self.precision, "why": self.why, "cache": self.decoder.kind, "cache_why": self.decoder.why,
            "compiled": self.decoder.compiled, "weights_bytes": weights_bytes(self.model),
            "attention": str(getattr(self.model.config, "_attn_implementation", "")),
            "threads": torch.get_num_threads() if device == "cpu" else 0,
        }  # fmt: skip

    def run(self, prompts: Sequence[Prompt], load: Load, *, timeout_s: float = 120.0) -> Traces:
        """Send all prompts under the load; see :class:`distillcalc.benchmark.load.Target`.

        What the engine saw beside the traces is in ``last`` afterwards: its steps and its memory.

        Raises
        ------
        InputError
            If an open loop has not one moment for each prompt.
        """
        asked = [Asked(i, self._ids(prompt.chat), prompt) for i, prompt in enumerate(prompts)]
        rows = capacity = 0
        window = self.context_window()
        seen = [one for one in asked if not window or one.tokens <= window]
        if self.decoder.compiled and seen:
            at_once = load.concurrency if isinstance(load, ClosedLoop) else self.max_batch
            rows = min(at_once, self.max_batch, len(seen))
            capacity = max(one.tokens for one in seen)
        self._warm(rows, capacity)
        with PeakMemory(self.model) as watched:
            run = Serving(self, asked, load, timeout_s, rows, capacity)
            run.serve()
        assert watched.memory is not None
        self.last = Run(run.log.steps(), watched.memory, run.out_of_memory)
        return run.traces()

    def _warm(self, rows: int, capacity: int) -> None:
        """Touch the weights, or compile for this size of batch, before the clock starts."""
        if not self.decoder.compiled:
            self.decoder.release()  # so that what this run takes is seen
        if self._ready and not rows:
            return
        if rows and lacks(self, rows * self.row_bytes(1, capacity)):
            return  # the first batch needs more still, and tells it
        failed = False
        try:
            # Compiling, recording the graph and replaying it are a step each.
            list(self.decoder.run([[0]] * max(rows, 1), 4 if rows else 2, rows=rows, capacity=capacity))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = True  # so will the first batch, which tells it
        if failed or not self.decoder.compiled:
            self.decoder.release()
        self._ready = not failed

    def ends(self) -> set[int]:
        """Tokens after which the model has said all."""
        config = getattr(self.model, "generation_config", None)
        stated = getattr(config, "eos_token_id", None)
        found = stated if isinstance(stated, (list, tuple)) else [stated]
        return {int(one) for one in (*found, getattr(self.tokenizer, "eos_token_id", None)) if one is not None}

    def context_window(self) -> int:
        """Tokens that the model can see at once; 0 where it does not say."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 0)

    def text_of(self, ids: Sequence[int]) -> str:
        """What a model wrote."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def row_bytes(self, read: int, capacity: int) -> float:
        """About what one sequence of a batch takes [bytes]; see :func:`distillcalc.benchmark.memory.row_bytes`."""
        return row_bytes(self.model, read, capacity)


def precision_of(model: Any) -> str:
    """The precision of a model's weights, as a record tells it."""
    found = str(model.dtype).removeprefix("torch.")
    return {dtype: short for short, dtype in DTYPES.items()}.get(found, found)


def choose(precision: Precision, device: Device) -> Chosen:
    """Where to run and in which precision.

    Raises
    ------
    InputError
        For a GPU that is not there, or a precision that is not known.
    """
    import torch

    from distillcalc.distill.training.devices import machine

    if precision not in ("auto", "fp32", "bf16", "fp8", "int8"):
        raise InputError(f"precision must be auto, fp32, bf16, fp8 or int8. Got {precision!r}")
    if device not in ("auto", "cuda", "cpu"):
        raise InputError(f"device must be auto, cuda or cpu. Got {device!r}")
    has = torch.cuda.is_available()
    if device == "cuda" and not has:
        raise InputError("there is no CUDA device here, or torch is a build without CUDA. Set device = 'cpu'")
    if device == "cpu" and has:
        why = "bf16 is slower on most CPUs" if precision == "auto" else "asked for"
        return Chosen("cpu", "fp32" if precision == "auto" else precision, why)
    if precision in ("fp8", "int8"):
        return Chosen("cuda" if has else "cpu", precision, "asked for")
    found = machine(precision)  # type: ignore[arg-type]
    return Chosen(found.device, found.precision, found.why)
