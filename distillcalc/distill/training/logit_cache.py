"""The teacher's distributions, computed once: memory-mapped files of top-k log-probabilities, by sample.

A cache is a folder of raw little-endian arrays and JSON; ``header.json`` is written last, so a folder without one is
not whole. It is bound to the tokenizer, the data and the temperature it was made with. Samples are found by their
name, never by the step at which they were seen: shuffling and another batch size change nothing.

Per token k ids (2 or 4 bytes), k log-probabilities (2 bytes) and the mass of all other tokens (4 bytes) are kept:
260 bytes at k = 64 and 49,152 ids, where dense 16-bit logits take 98,304. A 16-bit log-probability is off by 2^-11 of
itself at the most; KL(exact | stored) of the k + 1 outcomes is about half the variance of that, at most
2^-23 E[(log p)^2]: 32 bits would cost 388 bytes for nothing.

What k leaves out weighs more, and the more the higher the temperature: a cache for T above 1 wants a larger k, or the
teacher beside the student.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.distill.training.logit_cache_files import (
    HEADER,
    OFFSETS,
    PADDING,
    SAMPLES,
    Header,
    damaged,
    read_header,
    sha256_of,
)
from distillcalc.distill.training.logit_cache_writer import LogitCacheWriter
from distillcalc.errors import InputError

__all__ = ["LogitCache", "LogitCacheWriter", "data_fingerprint", "top_k", "weights_fingerprint"]

_ROWS_AT_ONCE = 256  # of a softmax over a whole vocabulary: 50 MB at 49,152 ids

Arrays = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]

_WORDS = {
    "tokenizer": "tokenizer", "data": "data (samples, tokens or mask)", "temperature": "temperature",
    "weights": "teacher (weights)", "k": "k", "vocabulary": "vocabulary size",
}  # fmt: skip


class LogitCache:
    """A whole cache, read where it lies; see :meth:`open`."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header = folder, header
        names: list[str] = json.loads((folder / SAMPLES).read_bytes())
        offsets = np.fromfile(folder / OFFSETS, dtype="<i8").tolist()
        if offsets[:1] != [0] or offsets[-1] != header.tokens:
            raise ValueError(f"offsets end at {offsets[-1:]}, not at {header.tokens:,} tokens")
        self._spans = dict(zip(names, (slice(a, b) for a, b in pairwise(offsets)), strict=True))
        self._ids, self._logprobs, tail = (
            np.memmap(folder / name, dtype=dtype, mode="r", shape=(header.tokens, width))
            if header.tokens
            else np.empty((0, width), dtype)  # an empty file cannot be mapped
            for name, (dtype, width) in header.columns.items()
        )
        self._tail = tail[:, 0]

    @staticmethod
    def is_whole(folder: str | Path) -> bool:
        """Whether a writer finished there; it may still be of other data."""
        return (Path(folder) / HEADER).is_file()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        tokenizer: str,
        data: str,
        temperature: float,
        k: int | None = None,
        vocabulary: int | None = None,
        weights: str | None = None,
        verify: bool = True,
    ) -> LogitCache:
        """Open a cache for a tokenizer, data and a temperature.

        Parameters
        ----------
        k, vocabulary, weights : that it must be of, too; left out, whatever it is of.
        verify : read every byte and compare checksums (about 1 s a GB); else sizes only.

        Raises
        ------
        InputError
            If there is none, it is of something else, or it is damaged; it says which, and what to do.
        """
        place = Path(folder)
        header = read_header(place)
        wanted = {"tokenizer": tokenizer, "data": data, "temperature": temperature, "weights": weights}
        if vocabulary is not None:
            wanted |= {"vocabulary": vocabulary} | ({"k": min(k, vocabulary)} if k is not None else {})
        elif k is not None:
            wanted |= {"k": min(k, header.vocabulary)}
        for name, value in wanted.items():
            if value is not None and getattr(header, name) != value:
                raise InputError(
                    f"the cache {place} was made with another {_WORDS[name]}: {getattr(header, name)!r}, not {value!r}."
                    " Its distributions are not of this training: delete the folder to have it made anew"
                )
        for name, note in header.files.items():
            file = place / name
            size = file.stat().st_size if file.is_file() else None
            if size != note.bytes:
                got = "it is missing" if size is None else f"it has {size:,} bytes, not {note.bytes:,}"
                raise damaged(place, f"{name}: {got}")
            if verify and sha256_of(file) != note.sha256:
                raise damaged(place, f"{name} is not what was written (checksum)")
        try:
            return cls(place, header)
        except ValueError as error:
            raise damaged(place, f"its files do not fit together ({error})") from error

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, sample: object) -> bool:
        return sample in self._spans

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __getitem__(self, sample: str) -> Arrays:
        """Ids (T, K) int64, log-probabilities (T, K) float32 and tail mass (T,) float32 of a sample.

        Row t is what the teacher expected at the sample's t-th target. An entry without mass has id -1 and
        log-probability -inf. Rounding leaves the sum a little off 1; the losses scale it back.
        """
        return self.batch((sample,))

    def batch(self, samples: Sequence[str]) -> Arrays:
        """The same of several samples, one after the other in the order they are named."""
        spans = [self._span(sample) for sample in samples]
        ids, logprobs, tail = (
            np.concatenate([part[span] for span in spans]) if spans else part[:0]
            for part in (self._ids, self._logprobs, self._tail)
        )
        wide = logprobs.astype(np.float32)
        return np.where(np.isneginf(wide), PADDING, ids.astype(np.int64)), wide, np.array(tail, np.float32)

    def _span(self, sample: str) -> slice:
        try:
            return self._spans[sample]
        except KeyError:
            raise InputError(
                f"the cache {self.folder} has no sample {sample!r}; it has {len(self):,}, such as "
                f"{', '.join(repr(name) for name, _ in zip(self, range(3), strict=False)) or 'none'}"
            ) from None


def data_fingerprint(samples: Iterable[tuple[str, Sequence[int], Sequence[bool]]]) -> str:
    """What data is, as one number, whatever its order.

    Parameters
    ----------
    samples : name, token ids (T,), and whether each is supervised (T,).

    Returns
    -------
    SHA-256 in hexadecimal.

    Raises
    ------
    InputError
        If two samples have one name, or a mask is not as long as its tokens.
    """
    digests: dict[str, bytes] = {}
    for name, ids, mask in samples:
        if len(ids) != len(mask):
            raise InputError(f"sample {name!r} has {len(ids):,} tokens and a mask of {len(mask):,}: one for each token")
        if name in digests:
            raise InputError(f"two samples are called {name!r}: each needs a name of its own")
        of_ids = np.asarray(ids, dtype="<i8").tobytes()
        digests[name] = hashlib.sha256(of_ids + np.asarray(mask, dtype=bool).tobytes()).digest()
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).digest() + digests[name])
    return whole.hexdigest()


def weights_fingerprint(model: Any) -> str:
    """SHA-256 of the names, types, shapes and bytes of a model's weights, in hexadecimal."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def top_k(logits: Any, k: int, temperature: float = 1.0, vocabulary: int | None = None) -> tuple[Any, Any, Any]:
    """The k most likely tokens of each position, and the probability that is left.

    log p = log softmax(z[:vocabulary] / T); the tail is the sum over all that are not among the k, not 1 - sum, so that
    it is right where the teacher is sure.

    Parameters
    ----------
    logits : torch tensor (N, V). vocabulary : rows from there on are padding, or not shared, and cut off.

    Returns
    -------
    ids (N, K) int64, best first; log-probabilities (N, K) float32 [nats]; tail mass (N,) float32, where
    K = min(k, vocabulary).

    Raises
    ------
    InputError
        If a setting cannot be right, or logits are not numbers.
    """
    import torch

    size = logits.shape[-1] if vocabulary is None else vocabulary
    if not 0 < size <= logits.shape[-1]:
        raise InputError(f"vocabulary must be from 1 to {logits.shape[-1]:,}, the number of logits. Got {size:,}")
    if k < 1 or not 0 < temperature < float("inf"):
        raise InputError(f"k must be 1 or more and temperature above 0. Got {k} and {temperature}")
    k = min(k, size)
    ids = logits.new_empty((len(logits), k), dtype=torch.int64)
    logprobs = logits.new_empty((len(logits), k), dtype=torch.float32)
    tail = logits.new_empty(len(logits), dtype=torch.float32)
    with torch.no_grad():
        for first in range(0, len(logits), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            scaled = logits[rows, :size].float() / temperature
            top, ids[rows] = scaled.topk(k, dim=-1)
            least = top[:, -1:].masked_fill(top[:, -1:].isneginf(), 0.0)  # no other is above it
            others = scaled.scatter_(1, ids[rows], -torch.inf).sub_(least).exp_().sum(-1).log() + least[:, 0]
            total = torch.logaddexp(top.logsumexp(-1), others)
            logprobs[rows], tail[rows] = top - total[:, None], (others - total).exp()
        wrong = logprobs.isnan().any(-1) | tail.isnan()
        if bool(wrong.any()):
            raise InputError(
                f"the teacher's logits are not numbers at position {int(wrong.nonzero()[0])}: NaN or infinite"
            )
    return ids, logprobs, tail
