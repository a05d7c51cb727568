"""Writes the teacher's distributions, sample by sample, so that a killed writer loses next to nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from distillcalc.distill.journal import Journal, entries, sync_folder
from distillcalc.distill.training.logit_cache_files import (
    HEADER,
    JOURNAL,
    OFFSETS,
    PADDING,
    SAMPLES,
    SCHEMA_VERSION,
    Header,
    Settings,
    note_of,
    write_synced,
)
from distillcalc.errors import InputError

_COMMIT_ROWS = 8_192  # rows that wait for one sync
_MASS_OFF = 0.02  # of a position's probabilities together; an API's rounded numbers are off by less


class LogitCacheWriter:
    """Writes a cache; a context manager. Killed, it takes up where it was: what was synced is kept.

    Samples wait until some thousand tokens are together, go to the files, are synced, and only then named in the
    journal. :meth:`finish` makes the folder a cache.

    Parameters
    ----------
    folder : of the cache; made if it is missing.
    k, vocabulary, temperature, tokenizer, data, teacher, weights, dtype : see :class:`Settings`.

    Raises
    ------
    InputError
        If a setting cannot be right, the folder holds a whole cache or a half one of other settings, or another
        process writes it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        k: int,
        vocabulary: int,
        temperature: float,
        tokenizer: str,
        data: str,
        teacher: str = "",
        weights: str = "",
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        self.folder = Path(folder)
        try:
            self.settings = Settings(
                tokenizer=tokenizer, data=data, temperature=temperature, k=min(k, max(vocabulary, 1)),
                vocabulary=vocabulary,
                teacher=teacher, weights=weights, dtype=dtype,
            )  # fmt: skip
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"a cache cannot have this {first['loc'][0]}: {first['msg']}. Got {first['input']!r}"
            ) from error
        if (self.folder / HEADER).is_file():
            raise InputError(f"{self.folder} holds a whole cache. Open it with LogitCache.open, or delete the folder")
        self._rows: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._parts: list[list[NDArray[Any]]] = []
        self._open = True
        self._journal = Journal.open(self.folder / JOURNAL)
        try:
            self._take_up()
        except BaseException:
            self.close()
            raise

    def _take_up(self) -> None:
        """Begin, or go on behind what the journal says is on disk."""
        found = [entry for _, entry in entries(self.folder / JOURNAL)]
        wanted = self.settings.model_dump(mode="json")
        if not found:
            self._journal.write({"schema_version": SCHEMA_VERSION, "settings": wanted})
        elif found[0].get("settings") != wanted or found[0].get("schema_version") != SCHEMA_VERSION:
            others = found[0].get("settings") or {}
            what = ", ".join(key for key in wanted if others.get(key) != wanted[key]) or "its version"
            raise InputError(
                f"{self.folder} holds a half-written cache that differs in {what}. Delete the folder to begin anew"
            )
        for entry in found[1:]:
            self._rows |= dict(zip(entry["samples"], entry["rows"], strict=True))
        total = sum(self._rows.values())
        for name, (dtype, width) in self.settings.columns.items():
            file = self.folder / name
            with file.open("ab") as out:
                if out.tell() < total * dtype.itemsize * width:
                    raise InputError(f"{file} is shorter than its journal says. Delete {self.folder} to begin anew")
                out.truncate(total * dtype.itemsize * width)  # a torn end, of a process that was killed

    def __enter__(self) -> LogitCacheWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            with contextlib.suppress(OSError, InputError):  # what stopped the writer is the news
                self.flush()
        self.close()

    def __len__(self) -> int:
        return len(self._rows) + len(self._waiting)

    def __contains__(self, sample: object) -> bool:
        return sample in self._rows or sample in self._waiting

    def add(self, sample: str, top_ids: Any, top_logprobs: Any, tail_mass: Any) -> None:
        """Add a sample; after a restart, leave out those that are ``in`` the writer.

        Parameters
        ----------
        top_ids : (T, up to k) ids below the vocabulary, each at most once a position; -1 where a position has fewer.
        top_logprobs : (T, up to k) log-probabilities at the cache's temperature [nats].
        tail_mass : (T,) probability of all other tokens.

        Raises
        ------
        InputError
            If the sample is there already, or the arrays are no distributions over the vocabulary.
        """
        if not self._open:
            raise InputError(f"the writer of {self.folder} is closed: sample {sample!r} would be lost")
        if sample in self:
            raise InputError(f"sample {sample!r} is in the cache already. Leave out what is `in` the writer")
        ids, logprobs, tail = (_array(values) for values in (top_ids, top_logprobs, tail_mass))
        ids = ids.astype(np.int64)
        k = self.settings.k
        shaped = ids.ndim == 2 and ids.shape == logprobs.shape and tail.shape == ids.shape[:1] and ids.shape[1] <= k
        if not shaped:
            raise InputError(
                f"sample {sample!r}: ids and log-probabilities must be (T, up to {k}) and the tail mass (T,). Got "
                f"{ids.shape}, {logprobs.shape} and {tail.shape}"
            )
        missing = ((0, 0), (0, k - ids.shape[1]))
        ids = np.pad(ids, missing, constant_values=PADDING)
        logprobs = np.where(ids == PADDING, -np.inf, np.pad(logprobs.astype(np.float32), missing))
        self._check(sample, ids, logprobs, tail)
        dtypes = [dtype for dtype, _ in self.settings.columns.values()]
        with np.errstate(over="ignore"):  # below the least 16-bit number a token has no mass at all
            columns = (np.where(ids == PADDING, 0, ids), logprobs, tail)
            self._parts.append([column.astype(dtype) for column, dtype in zip(columns, dtypes, strict=True)])
        self._waiting[sample] = len(ids)
        if sum(self._waiting.values()) >= _COMMIT_ROWS:
            self.flush()

    def _check(self, sample: str, ids: NDArray[Any], logprobs: NDArray[Any], tail: NDArray[Any]) -> None:
        size = self.settings.vocabulary
        if ids.size and not (ids.min() >= PADDING and ids.max() < size):
            raise InputError(
                f"sample {sample!r}: ids must be below {size:,}, or -1 for none. Got {ids.min()} to {ids.max():,}"
            )
        ranked = np.sort(ids, axis=1)
        if ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] != PADDING)).any():
            raise InputError(f"sample {sample!r}: a position has an id twice; put their probabilities together")
        mass = np.exp(logprobs.astype(np.float64)).sum(1) + tail
        off = ~(np.abs(mass - 1) <= _MASS_OFF) | ~(tail >= 0)  # NaN is off too
        if off.any():
            place = int(off.argmax())
            raise InputError(
                f"sample {sample!r}: probabilities must sum to 1 with the tail. At position {place} they are "
                f"{mass[place]:.4g}: give log-probabilities (top_k), not logits"
            )

    def flush(self) -> None:
        """Put what waits on disk; a sample counts from here on."""
        if not self._waiting:
            return
        total = sum(self._rows.values())
        for place, (name, (dtype, width)) in enumerate(self.settings.columns.items()):
            with (self.folder / name).open("r+b") as out:
                out.seek(total * dtype.itemsize * width)  # not the end: a flush before may have failed half-way
                for part in self._parts:
                    out.write(part[place].tobytes())
                out.truncate()
                out.flush()
                os.fsync(out.fileno())
        self._journal.write({"samples": list(self._waiting), "rows": list(self._waiting.values())})
        self._rows |= self._waiting
        self._waiting, self._parts = {}, []

    def finish(self, samples: Iterable[str] = ()) -> Path:
        """Make the folder a whole cache: the header is written last, at once or not at all; returns the folder.

        Parameters
        ----------
        samples : those that must be there; :class:`InputError` where one is not.
        """
        self.flush()
        missing = [sample for sample in samples if sample not in self]
        if missing:
            raise InputError(
                f"{len(missing):,} samples were not added, the first is {missing[0]!r}. Add them before the cache is "
                "finished"
            )
        offsets = np.concatenate([[0], np.cumsum(list(self._rows.values()), dtype="<i8")]).astype("<i8")
        write_synced(self.folder / OFFSETS, offsets.tobytes())
        write_synced(self.folder / SAMPLES, json.dumps(list(self._rows), ensure_ascii=True).encode())
        names = [*self.settings.columns, OFFSETS, SAMPLES]
        header = Header(
            **self.settings.model_dump(),
            samples=len(self._rows),
            tokens=int(offsets[-1]),
            files={name: note_of(self.folder / name) for name in names},
        )
        part = self.folder / f"{HEADER}.part"
        write_synced(part, (header.model_dump_json(indent=2) + "\n").encode())
        part.replace(self.folder / HEADER)
        sync_folder(self.folder)
        self.close()
        for left in (JOURNAL, "journal.torn"):
            (self.folder / left).unlink(missing_ok=True)
        return self.folder

    def close(self) -> None:
        """Let the folder go; what was not flushed or finished is kept for the next writer where it was synced."""
        self._open = False
        self._journal.close()


def _array(values: Any) -> NDArray[Any]:
    """An array of whatever holds the numbers, a tensor on a GPU among them."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
