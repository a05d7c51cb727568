"""What a cache of the teacher's distributions is on disk: its header, its files and their checksums.

Read by :mod:`.logit_cache`, written by :mod:`.logit_cache_writer`.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from distillcalc.distill.records import Strict
from distillcalc.errors import InputError

SCHEMA_VERSION = 1
PADDING = -1  # the id of an entry that is none: a position with fewer than k known tokens
HEADER, SAMPLES, OFFSETS, TAIL, JOURNAL = "header.json", "samples.json", "offsets.i64", "tail.f32", "journal.jsonl"


class FileNote(Strict):
    """Size [bytes] and SHA-256 of a file of the cache."""

    bytes: int
    sha256: str


class Settings(Strict):
    """What a cache is of.

    Parameters
    ----------
    tokenizer : fingerprint (:func:`.vocabulary.vocabulary_fingerprint`).
    data : of the samples (:func:`.logit_cache.data_fingerprint`).
    temperature : at which the log-probabilities are.
    k : entries of a position. vocabulary : number of first ids that the softmax ran over.
    teacher : its name. weights : fingerprint of its weights; empty where nobody gave one.
    dtype : of the log-probabilities on disk.
    """

    tokenizer: str
    data: str
    temperature: float = Field(gt=0)
    k: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    teacher: str = ""
    weights: str = ""
    dtype: Literal["float16", "float32"] = "float16"

    @property
    def columns(self) -> dict[str, tuple[np.dtype[Any], int]]:
        """Type and width of the arrays that have a row for each token, by file name."""
        ids = ("ids.u16", "<u2") if self.vocabulary <= 2**16 else ("ids.u32", "<u4")
        logprobs = ("logprobs.f16", "<f2") if self.dtype == "float16" else ("logprobs.f32", "<f4")
        return {
            ids[0]: (np.dtype(ids[1]), self.k),
            logprobs[0]: (np.dtype(logprobs[1]), self.k),
            TAIL: (np.dtype("<f4"), 1),
        }

    @property
    def bytes_per_token(self) -> int:
        """Bytes on disk for one token."""
        return sum(dtype.itemsize * width for dtype, width in self.columns.values())


class Header(Settings):
    """A whole cache: what it is of, how much there is, and its files."""

    schema_version: int = SCHEMA_VERSION
    samples: int
    tokens: int
    files: dict[str, FileNote]


def read_header(place: Path) -> Header:
    """The header of a whole cache; raises :class:`InputError` where there is none, or it cannot be right."""
    file = place / HEADER
    if not file.is_file():
        half = (place / JOURNAL).is_file()
        raise InputError(
            f"{place} is {'a half-written cache: run the writer again to finish it' if half else 'no cache of logits'}"
            f" ({HEADER} is missing)"
        )
    try:
        found = json.loads(file.read_bytes())
        version = found.get("schema_version")
    except (ValueError, AttributeError) as error:
        raise damaged(place, f"{HEADER} is not JSON") from error
    if version != SCHEMA_VERSION:
        raise InputError(
            f"the cache {place} has schema_version {version!r}; this distillcalc reads {SCHEMA_VERSION}. Delete the "
            "folder to have it made anew"
        )
    try:
        header = Header.model_validate(found)
    except ValidationError as error:
        raise damaged(place, f"{HEADER}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
    missing = {*header.columns, OFFSETS, SAMPLES} - header.files.keys()
    if missing:
        raise damaged(place, f"{HEADER} names no {', '.join(sorted(missing))}")
    return header


def damaged(place: Path, what: str) -> InputError:
    """An error that says what of a cache is damaged, and what to do."""
    return InputError(f"the cache {place} is damaged. {what}. Delete the folder to have it made anew")


def write_synced(file: Path, data: bytes) -> None:
    """Write a file and wait until it is on disk."""
    with file.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def note_of(file: Path) -> FileNote:
    """What the header says of a file."""
    return FileNote(bytes=file.stat().st_size, sha256=sha256_of(file))


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
