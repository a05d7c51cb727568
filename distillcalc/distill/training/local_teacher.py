"""The teacher whose weights are on this machine: what it answers, and how probable it finds each label.

A causal language model of transformers in this process: no server, no key, no bill. What it says becomes records like
paid ones in :mod:`.local_labels`.

A label's probability is that of its tokens and of the token that ends the turn. All labels are scored in one pass, as a
tree behind the prompt (:mod:`.label_tree`). What all prompts begin with, such as instructions and examples, is run
once, and its keys and values are kept.
"""

from __future__ import annotations

import copy
import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distillcalc.distill.training.label_tree import LabelTree, label_tree, path_scores, tree_mask
from distillcalc.distill.training.local_labels import SoftLabels, label_locally
from distillcalc.distill.training.prompting import Messages, end_of_turn, padding_id, prompt_ids
from distillcalc.distill.training.students import load_model
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_SHARED = 4  # tokens that all prompts begin with; fewer are not worth a cache of their own
CPU_ROWS, CUDA_ROWS = 16, 64  # answers written side by side
CPU_TOKENS, CUDA_TOKENS = 4_096, 65_536  # of prompts and trees in one pass
CPU_LOGITS = 256 * 1024**2  # bytes of logits in one pass; a GPU gets an eighth of what is free

__all__ = ["LocalTeacher", "SoftLabels", "Spoken", "label_locally", "quiet"]


@dataclass(frozen=True)
class Spoken:
    """One answer that a model wrote.

    Parameters
    ----------
    text : without the token that ends the turn.
    finish_reason : "stop" where it ended by itself, "length" where it ran out of tokens.
    input_tokens, output_tokens : of the prompt, and written; the token that ends the turn counts.
    mean_logprob : of the written tokens, at temperature 1 [nats].
    seconds : from the start of its batch until it was written [s].
    """

    text: str
    finish_reason: Literal["stop", "length"]
    input_tokens: int
    output_tokens: int
    mean_logprob: float
    seconds: float


@dataclass(frozen=True)
class LocalTeacher:
    """A causal language model in this process; :meth:`load` makes one.

    Parameters
    ----------
    model, tokenizer : of transformers. The model is in evaluation mode.
    name : under which its records name it.
    """

    model: Any
    tokenizer: Any
    name: str
    _shares: bool = field(init=False, repr=False)
    _takes: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model  # under an adapter
        takes = frozenset(inspect.signature(base.forward).parameters)
        if "past_key_values" not in takes:
            raise InputError(
                f"{type(self.model).__name__} keeps no keys and values, so it cannot write in batches here. Give a "
                "causal language model with attention, or serve this one and label over HTTP"
            )
        if getattr(self.tokenizer, "chat_template", None) is None:
            end_of_turn(self.tokenizer)  # raises where there is none
        config = self.model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
        windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        shares = kinds == {"full_attention"} and not windowed and not getattr(self.model, "_is_stateful", False)
        # Elsewhere padding between cache and prompt would count into the window, or into the recurrent state.
        object.__setattr__(self, "_shares", bool(shares and "position_ids" in takes))
        object.__setattr__(self, "_takes", takes)
        self.model.eval()

    @classmethod
    def load(
        cls, model: str | Path, adapter: str | Path | None = None, device: str | None = None, *, name: str = ""
    ) -> LocalTeacher:
        """Load a model from a folder or the hub; fp32 on CPU, bf16 on CUDA.

        Parameters
        ----------
        model : local folder, or name on the hub.
        adapter : folder or name of a PEFT adapter, merged into the weights.
        device : such as "cpu" or "cuda:1"; left out, the GPU where there is one.
        name : of the teacher; left out, the last part of the model's name, and of the adapter's.

        Raises
        ------
        InputError
            If it cannot be loaded; it says why.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("torch", "distill") from error

        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = "bfloat16" if place.startswith("cuda") else "float32"
        with quiet():
            loaded, tokenizer = load_model(str(model), adapter=str(adapter) if adapter else None, dtype=dtype)
            loaded = loaded.to(place)
        last = "+".join(Path(str(part)).name for part in (model, adapter) if part)
        return cls(loaded, tokenizer, name or last)

    @property
    def device(self) -> Any:
        """Where the weights are."""
        return self.model.device

    def answers(
        self,
        prompts: Sequence[Messages],
        *,
        max_new_tokens: int,
        batch_size: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Spoken]:
        """What the model answers, in the order of the prompts.

        Parameters
        ----------
        prompts : messages; :func:`.prompting.prompt_ids` writes them in the model's chat template, or, where its
            tokenizer has none, as their texts with an empty line after each. SmolLM2's template adds a system message
            of its own where none is given.
        max_new_tokens : of an answer, at the most.
        batch_size : answers side by side; left out, 16 on CPU and 64 on a GPU, fewer where prompts are long.
        temperature : 0 takes the most probable token; above, tokens are drawn from softmax(logits / temperature).
        seed : of the draws; a prompt's draws depend on it and on the prompt's place alone, not on the batch.
        progress : called with how many are done, and how many there are.

        Raises
        ------
        InputError
            If a prompt and its answer do not fit the model's context.
        """
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be at least 1. Got {max_new_tokens}")
        if not 0 <= temperature < float("inf"):
            raise InputError(f"temperature must be 0 or above. Got {temperature}")
        ids = self._prompts(prompts, max_new_tokens)
        ends = [self._ends(messages) for messages in prompts]
        rows = batch_size or (CPU_ROWS if self.device.type == "cpu" else CUDA_ROWS)
        shared, cache = self._shared(ids)
        spoken: dict[int, Spoken] = {}
        for batch in _batches(ids, rows, self._most_tokens, shared):
            spoken |= self._write(batch, ids, ends, shared, cache, max_new_tokens, temperature, seed)
            if progress is not None:
                progress(len(spoken), len(ids))
        return [spoken[i] for i in range(len(ids))]

    def label_distribution(
        self,
        prompts: Sequence[Messages],
        labels: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """How probable each label is as the answer, if one of the labels is the answer.

        P(label | prompt) = exp(s_label) / sum_l exp(s_l), with s_l of :meth:`label_logprobs`.

        Returns
        -------
        Probabilities, shape (prompts, labels); each row sums to 1.
        """
        import numpy as np

        scores = self.label_logprobs(prompts, labels, progress=progress)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        found: NDArray[np.float32] = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return found

    def label_logprobs(
        self,
        prompts: Sequence[Messages],
        labels: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float64]:
        """Log-probability of each label as the whole answer: s_l = sum_t log p(token_t | prompt, tokens before t).

        Parameters
        ----------
        prompts : as for :meth:`answers`. labels : two or more.
        progress : called with how many prompts are done, and how many there are.

        Returns
        -------
        Log-probabilities [nats], shape (prompts, labels); exp of a row sums to what the teacher gives to these labels
        among all answers, at most 1.

        Raises
        ------
        InputError
            If labels are fewer than two, or two of them are the same tokens.
        """
        import numpy as np

        if not prompts:
            return np.zeros((0, len(labels)))
        sequences = self._label_tokens(labels, prompts[0])
        ids = self._prompts(prompts, max(map(len, sequences)))
        scores = np.zeros((len(ids), len(labels)))
        done = 0
        if not self._shares or not self._tree_holds(max(ids, key=len), sequences):
            for i, prompt in enumerate(ids):
                scores[i] = self._score_each(prompt, sequences)
                if progress is not None:
                    progress(i + 1, len(ids))
            return scores
        tree = label_tree(sequences)
        shared, cache = self._shared(ids)
        for batch in _batches(ids, self._rows_of(tree), self._most_tokens, shared, len(tree)):
            scores[batch] = self._score_tree([ids[i][shared:] for i in batch], tree, shared, cache)
            done += len(batch)
            if progress is not None:
                progress(done, len(ids))
        return scores

    def _prompts(self, prompts: Sequence[Messages], room: int) -> list[list[int]]:
        """Tokens of the prompts, each of which leaves room for an answer."""
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        made = [prompt_ids(self.tokenizer, messages) for messages in prompts]
        for i, ids in enumerate(made):
            if not ids:
                raise InputError(f"prompt {i} has no tokens. It must have a user's message")
            if most and len(ids) + room > most:
                raise InputError(
                    f"prompt {i} has {len(ids):,} tokens, and with {room} for the answer that is more than the "
                    f"{most:,} of {self.name}. Shorten the prompt, or ask for less"
                )
        return made

    def _ends(self, messages: Messages) -> frozenset[int]:
        """Tokens that end an answer."""
        stated = getattr(self.model.generation_config, "eos_token_id", None)
        found = {end_of_turn(self.tokenizer, messages), self.tokenizer.eos_token_id}
        found |= set(stated) if isinstance(stated, (list, tuple)) else {stated}
        return frozenset(token for token in found if token is not None)

    def _label_tokens(self, labels: Sequence[str], messages: Messages) -> list[tuple[int, ...]]:
        """Each label as an answer: its tokens, and the one that ends the turn."""
        if len(labels) < 2:
            raise InputError(f"give two labels or more. Got {len(labels)}")
        made: dict[tuple[int, ...], str] = {}
        for label in labels:
            tokens = self.tokenizer(label, add_special_tokens=False)["input_ids"]
            key = (*tokens, end_of_turn(self.tokenizer, messages, label))
            if key in made:
                raise InputError(f"the labels {made[key]!r} and {label!r} are the same tokens. Spell one differently")
            made[key] = label
        return list(made)

    @property
    def _most_tokens(self) -> int:
        return CPU_TOKENS if self.device.type == "cpu" else CUDA_TOKENS

    def _rows_of(self, tree: LabelTree) -> int:
        """How many prompts may be scored in one pass: their logits must fit."""
        import torch

        room = CPU_LOGITS if self.device.type == "cpu" else torch.cuda.mem_get_info(self.device)[0] // 8
        vocabulary = self.model.config.get_text_config().vocab_size
        return int(max(1, room // ((len(tree) + 1) * vocabulary * 4)))

    def _shared(self, ids: Sequence[Sequence[int]]) -> tuple[int, Any]:
        """How many tokens all prompts begin with, and their keys and values; each keeps one token of its own."""
        import torch

        if not self._shares or len(ids) < 2:
            return 0, None
        first, last = min(map(tuple, ids)), max(map(tuple, ids))  # what the two ends of the order share, all share
        most = min(map(len, ids)) - 1
        shared = next((i for i in range(most) if first[i] != last[i]), most)
        if shared < LEAST_SHARED:
            return 0, None
        with torch.inference_mode():
            _, past = self._read(torch.tensor([first[:shared]], device=self.device), 1)
        return shared, past

    def _padded(self, parts: Sequence[Sequence[int]], shared: int) -> tuple[Any, Any, Any]:
        """Tokens padded on the left, which of them are real, and their positions after what is shared."""
        import torch

        longest = max(map(len, parts))
        fill = padding_id(self.tokenizer)
        tokens = torch.tensor([[fill] * (longest - len(p)) + list(p) for p in parts], device=self.device)
        real = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in parts], device=self.device)
        return tokens, real, (shared + real.cumsum(1) - 1).clamp(min=0)

    def _write(
        self, batch: Sequence[int], ids: Sequence[Sequence[int]], ends: Sequence[frozenset[int]], shared: int,
        cache: Any, max_new_tokens: int, temperature: float, seed: int,
    ) -> dict[int, Spoken]:  # fmt: skip
        """The answers to a batch of prompts, by the prompts' numbers; those that are done leave the batch."""
        import torch

        began = time.perf_counter()
        written: dict[int, list[int]] = {i: [] for i in batch}
        logprobs: dict[int, float] = dict.fromkeys(batch, 0.0)
        done: dict[int, Spoken] = {}
        draws = (
            {i: torch.Generator(self.device).manual_seed(seed * 1_000_003 + i) for i in batch} if temperature else {}
        )
        going = list(batch)
        past = _repeated(cache, len(batch))
        with torch.inference_mode():
            tokens, real, places = self._padded([ids[i][shared:] for i in batch], shared)
            seen = torch.cat([real.new_ones(len(batch), shared), real], 1)
            for step in range(max_new_tokens):
                logits, past = self._read(tokens, 1, attention_mask=seen, position_ids=places, past_key_values=past)
                logp = torch.log_softmax(logits[:, -1].float(), -1)
                chosen = self._choose(logp, [draws[i] for i in going] if draws else [], temperature)
                for row, (i, token) in enumerate(zip(going, chosen.tolist(), strict=True)):
                    if i in done:
                        continue
                    written[i].append(token)
                    logprobs[i] += float(logp[row, token])
                    stops = token in ends[i]
                    if stops or step + 1 == max_new_tokens:
                        said = written[i][:-1] if stops else written[i]
                        done[i] = Spoken(
                            self.tokenizer.decode(said, skip_special_tokens=True), "stop" if stops else "length",
                            len(ids[i]), len(written[i]), logprobs[i] / len(written[i]), time.perf_counter() - began,
                        )  # fmt: skip
                if len(done) == len(batch):
                    break
                tokens, places = chosen[:, None], places[:, -1:] + 1
                keep = [row for row, i in enumerate(going) if i not in done]
                if self._shares and 4 * len(keep) <= 3 * len(going):  # copying the rest is cheaper than running them
                    going = [going[row] for row in keep]
                    index = torch.tensor(keep, device=self.device)
                    past.batch_select_indices(index)
                    tokens, places, seen = tokens[index], places[index], seen[index]
                seen = torch.cat([seen, seen.new_ones(len(going), 1)], 1)
        return done

    def _read(self, tokens: Any, keep: int, **given: Any) -> tuple[Any, Any]:
        """Logits of the last so many tokens, and the keys and values of all."""
        given |= {"use_cache": True, "logits_to_keep": keep}
        told = self.model(input_ids=tokens, **{name: value for name, value in given.items() if name in self._takes})
        return told.logits[:, -keep:], told.past_key_values

    @staticmethod
    def _choose(logp: Any, draws: Sequence[Any], temperature: float) -> Any:
        """The most probable tokens, or tokens drawn by adding Gumbel noise, each row's from its own generator."""
        import torch

        if not draws:
            return logp.argmax(-1)
        uniform = torch.stack([torch.rand(logp.shape[1], generator=g, device=logp.device) for g in draws])
        return (logp / temperature - torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))).argmax(-1)

    def _score_tree(self, parts: Sequence[Sequence[int]], tree: LabelTree, shared: int, cache: Any) -> Any:
        """Log-probability of each label after each prompt, all in one pass."""
        import torch

        with torch.inference_mode():
            tokens, real, places = self._padded(parts, shared)
            nodes = torch.tensor([tree.tokens, tree.depths], device=self.device)
            tokens = torch.cat([tokens, nodes[:1].expand(len(parts), -1)], 1)
            places = torch.cat([places, places[:, -1:] + nodes[1]], 1)
            mask = tree_mask(real, shared, tree, self.model.dtype)
            logits, _ = self._read(
                tokens, len(tree) + 1, attention_mask=mask, position_ids=places,
                past_key_values=_repeated(cache, len(parts)),
            )  # fmt: skip
            return path_scores(logits, tree).cpu().numpy()

    def _score_each(self, prompt: Sequence[int], sequences: Sequence[Sequence[int]]) -> Any:
        """Log-probability of each label after one prompt, a sequence a label: right for every model, and slow."""
        import numpy as np
        import torch

        scores = np.zeros(len(sequences))
        for length in sorted({len(s) for s in sequences}):  # equal lengths need no padding
            numbers = [i for i, s in enumerate(sequences) if len(s) == length]
            most = max(1, self._most_tokens // (4 * (len(prompt) + length)))
            for part in (numbers[i : i + most] for i in range(0, len(numbers), most)):
                rows = torch.tensor([[*prompt, *sequences[i][:-1]] for i in part], device=self.device)
                with torch.inference_mode():
                    logp = torch.log_softmax(self._read(rows, length)[0].float(), -1)
                    token = torch.tensor([list(sequences[i]) for i in part], device=self.device)[..., None]
                    scores[part] = logp.gather(-1, token).squeeze(-1).double().sum(1).cpu().numpy()
        return scores

    def _tree_holds(self, prompt: Sequence[int], sequences: Sequence[tuple[int, ...]]) -> bool:
        """Whether a model scores a tree as it scores sequences: some count positions in ways of their own."""
        import torch

        few = sorted(set(sequences), key=len)[-2:]
        close = 1e-3 if self.model.dtype == torch.float32 else 0.3
        try:
            tree = self._score_tree([list(prompt)], label_tree(few), 0, None)[0]
        except (RuntimeError, ValueError, TypeError):  # a model that takes no such mask
            return False
        return bool(abs(tree - self._score_each(prompt, few)).max() < close)


def _batches(ids: Sequence[Sequence[int]], rows: int, tokens: int, shared: int, more: int = 0) -> Iterator[list[int]]:
    """Numbers of prompts in batches of like lengths, the longest first, so that a lack of memory shows at once."""
    batch: list[int] = []
    for i in sorted(range(len(ids)), key=lambda i: -len(ids[i])):
        longest = len(ids[batch[0] if batch else i]) - shared + more
        if batch and (len(batch) == rows or (len(batch) + 1) * longest > tokens):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _repeated(cache: Any, rows: int) -> Any:
    """A copy of the keys and values of one prompt for so many; None stays None."""
    if cache is None:
        return None
    copied = copy.deepcopy(cache)
    copied.batch_repeat_interleave(rows)
    return copied


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars, writing reports and warning of what peft asks it."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra("transformers", "distill") from error

    shows, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if shows:
            logging.enable_progress_bar()
