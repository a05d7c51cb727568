"""A batch of sequences in this process: the prompts are read at once, then each step writes a token of every sequence.

What a step did (how many sequences, tokens and cached tokens it was for) is kept beside its time, in the words of
:meth:`distillcalc.estimate.step_time.StepTime.seconds`, so that its constants can be fitted to it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
CacheKind = Literal["auto", "static", "dynamic"]

ROUNDED_TO = 64  # cached tokens: batches of nearly the same length share one preallocated cache


@dataclass(frozen=True, eq=False)
class Steps:
    """What each step of a run was for, and how long it took; arrays of shape (steps,).

    Parameters
    ----------
    began_s : from the start of the run [s].
    seconds : duration [s], until the chosen tokens were in the host's memory.
    sequences : that got their next token.
    tokens : that were computed: of the prompts, or one for each row of the batch; padding and ended rows included.
    context : tokens of the sequences' cache, each one's newest included, summed; 0 where prompts are read.
    pairs : for each prompt token the tokens before it in its prompt, summed: s^2 / 2 of a whole prompt.
    padding : of ``tokens``, those that were for nothing.
    slots : of the cache that attention went through, rows x their length; a static cache is read to its end, whatever
        of it is filled.
    """

    began_s: Floats
    seconds: Floats
    sequences: Ints
    tokens: Ints
    context: Ints
    pairs: Floats
    padding: Ints
    slots: Ints

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in self.arrays().items()}
        if len(set(sizes.values())) > 1:
            raise InputError(f"facts of steps must be one for each step. Got {sizes}")

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def reads(self) -> Bools:
        """Which steps read prompts; the others write."""
        return self.pairs > 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, for a record's raw samples."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def take(self, which: Any) -> Steps:
        """Some of the steps: a mask, a slice or positions."""
        return Steps(**{name: value[which] for name, value in self.arrays().items()})

    def summary(self) -> dict[str, Any]:
        """Means of the steps that read and of those that write, for a record; plain values for JSON."""
        made: dict[str, Any] = {}
        for name, which in (("read", self.reads), ("write", ~self.reads)):
            part = self.take(which)
            made[name] = {"steps": len(part)}
            if part:
                made[name] |= {key: float(np.mean(value)) for key, value in part.arrays().items() if key != "began_s"}
                made[name]["median_s"] = float(np.median(part.seconds))
        return made


class StepLog:
    """Collects the facts of steps, one after the other."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def add(
        self,
        *,
        began_s: float,
        seconds: float,
        sequences: int,
        tokens: int,
        context: int,
        pairs: float,
        padding: int,
        slots: int,
    ) -> None:
        """One step, as :class:`Steps` tells it."""
        self._rows.append((began_s, seconds, sequences, tokens, context, pairs, padding, slots))

    def steps(self) -> Steps:
        """All of them."""
        table = np.array(self._rows, dtype=float).reshape(-1, len(fields(Steps)))
        whole = {each.name for each in fields(Steps) if each.type == "Ints"}
        columns: dict[str, Any] = {
            each.name: table[:, i].astype(np.int64 if each.name in whole else np.float64)
            for i, each in enumerate(fields(Steps))
        }
        return Steps(**columns)


@dataclass(frozen=True)
class Step:
    """One step of a batch.

    Parameters
    ----------
    chosen : the most likely token of each row.
    began, ended : of the clock :func:`time.perf_counter` [s].
    tokens : computed. slots : of the cache, over all rows.
    """

    chosen: list[int]
    began: float
    ended: float
    tokens: int
    slots: int


@dataclass
class Decoder:
    """Greedy decoding of whole batches with a causal language model of transformers.

    Parameters
    ----------
    model : on its device, in its precision.
    cache : "static" is allocated once for the longest that the batch can become, "dynamic" grows; "auto" is static
        where the model supports it.
    compiled : run the steps that write through torch.compile, on a GPU as CUDA graphs.

    Raises
    ------
    InputError
        If steps are to be compiled that use a growing cache.
    """

    model: Any
    cache: CacheKind = "auto"
    compiled: bool = False
    kind: Literal["static", "dynamic"] = field(init=False)
    why: str = field(init=False, default="asked for")
    _kept: dict[tuple[int, int], Any] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.cache == "auto":
            supports = bool(getattr(self.model, "_can_compile_fullgraph", False))
            self.kind = "static" if supports else "dynamic"
            self.why = "the model supports it" if supports else "the model supports no static cache"
        else:
            self.kind = self.cache
        if self.compiled and self.kind == "dynamic":
            raise InputError(
                f"steps are compiled for a static cache only, and this one is dynamic: {self.why}. Set compile = False"
            )
        known = inspect.signature(self.model.forward).parameters
        self._takes = {name for name in ("position_ids", "logits_to_keep") if name in known}
        self._write = self.model
        kinds = getattr(self.model.config.get_text_config(), "layer_types", None) or ()
        self._sees_all = all(kind == "full_attention" for kind in kinds)

    def capacity(self, longest: int, steps: int) -> int:
        """Tokens that a row's cache comes to hold: the longest prompt and all steps, of a static one rounded up."""
        tokens = longest + steps
        return -(-tokens // ROUNDED_TO) * ROUNDED_TO if self.kind == "static" else tokens

    def held_bytes(self) -> int:
        """Memory of caches that are kept for later batches [bytes]."""
        import torch

        layers = [layer for cache in self._kept.values() for layer in cache.layers]
        held = [part for layer in layers for part in vars(layer).values() if isinstance(part, torch.Tensor)]
        return sum(part.nbytes for part in held)

    def release(self) -> None:
        """Give the memory of caches back."""
        self._kept.clear()

    def run(self, prompts: Sequence[Sequence[int]], steps: int, *, rows: int = 0, capacity: int = 0) -> Iterator[Step]:
        """Read the prompts, then write.

        Parameters
        ----------
        prompts : token ids of each, at least one.
        steps : at most; the first one reads the prompts and gives the first token. Who has enough stops earlier.
        rows : of the batch, at least one a prompt; the others compute for nothing. 0: as many as prompts.
        capacity : tokens that a row of a static cache holds; 0: as :meth:`capacity` says.
        """
        import torch

        device, longest = self.model.device, max(map(len, prompts))
        rows = rows or len(prompts)
        capacity = capacity or self.capacity(longest, steps)
        static = self.kind == "static"
        width = capacity if static else longest + steps
        ids = torch.zeros((rows, longest), dtype=torch.long)
        # Columns to come are hidden by the causal order, so that the mask of a static cache never changes.
        mask = torch.ones((rows, width), dtype=torch.long)
        mask[:, : longest - 1] = 0
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
            mask[row, longest - len(prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        positions = (mask[:, :longest].cumsum(-1) - 1).clamp(min=0)
        cache = self._cache(rows, capacity)
        began = time.perf_counter()
        chosen = self._chosen(self.model, ids, mask[:, :longest], positions, cache)
        # Only when the tokens are here has the device finished: copying them waits for it.
        yield Step(chosen.tolist(), began, time.perf_counter(), rows * longest, rows * (width if static else longest))
        positions = positions[:, -1:] + 1
        for step in range(1, steps):
            began = time.perf_counter()
            seen = width if static else longest + step
            if self.compiled and device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()
            told = mask[:, :seen]
            if self.compiled and not self._sees_all:
                told = self._masks(told, positions, cache)
            chosen = self._chosen(self._write, chosen[:, None], told, positions, cache)
            yield Step(chosen.tolist(), began, time.perf_counter(), rows, rows * seen)
            positions = positions + 1

    def _chosen(self, forward: Any, ids: Any, mask: Any, positions: Any, cache: Any) -> Any:
        import torch

        more = {"position_ids": positions, "logits_to_keep": 1}
        with torch.no_grad():
            out = forward(
                input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True,
                **{name: more[name] for name in self._takes},
            )  # fmt: skip
            return out.logits[:, -1].argmax(-1)

    def _cache(self, rows: int, capacity: int) -> Any:
        from transformers import DynamicCache, StaticCache

        if self.kind == "dynamic":
            return DynamicCache(config=self.model.config)
        found = self._kept.get((rows, capacity))
        if found is not None:
            found.reset()
            return found
        self._kept.clear()
        if self.compiled:
            self._write = self._compiled()
        self._kept[rows, capacity] = found = StaticCache(config=self.model.config, max_cache_len=capacity)
        return found

    def _masks(self, mask: Any, positions: Any, cache: Any) -> Any:
        """What each kind of layer sees, made outside of what is compiled.

        A window's place is a number that changes in every step: inside, every step would be compiled anew.
        """
        import torch
        from transformers.masking_utils import create_masks_for_generate

        like = torch.empty((len(mask), 1, 0), dtype=self.model.dtype, device=mask.device)
        return create_masks_for_generate(
            config=self.model.config, inputs_embeds=like, attention_mask=mask, past_key_values=cache,
            position_ids=positions,
        )  # fmt: skip

    def _compiled(self) -> Any:
        """The model for batches of one size; what was compiled for others is forgotten, for torch keeps few."""
        import torch

        torch.compiler.reset()
        dynamic = False if self._sees_all else None
        return torch.compile(self.model.__call__, mode="reduce-overhead", dynamic=dynamic)
