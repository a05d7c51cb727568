"""What a benchmark measured, as one JSON file, with the raw samples beside it in a compressed one.

A record holds all that is needed to say where a number comes from: the machine, the versions, the settings, and every
request's times. How two records differ is :mod:`.comparing`'s subject.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from distillcalc.distill.records import Strict
from distillcalc.errors import InputError

SCHEMA_VERSION: Final = 1
SAMPLES_SUFFIX = ".samples.npz"


def plain(value: Any) -> Any:
    """Values that JSON can hold: plain lists and mappings, dates and paths as text, numbers that are none as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


class Measured(Strict):
    """What was measured.

    Parameters
    ----------
    name : as a person calls it.
    kind : a model "in-process", or an "endpoint".
    model : catalog id of the shape; empty where the catalog has none.
    weights : "trained", or "random" of a shape alone: its quality says nothing.
    engine : what served it, as the catalog's engines name it; empty where nobody said.
    precision : of the weights.
    gpus : it was spread over.
    details : what else the target says of itself: its cache, what was compiled, its batching.
    """

    name: str
    kind: Literal["in-process", "endpoint"]
    model: str = ""
    weights: Literal["trained", "random", "unknown"] = "unknown"
    engine: str = ""
    precision: str = ""
    gpus: int = Field(1, ge=1)
    details: dict[str, Any] = Field(default_factory=dict)


class Level(Strict):
    """What was measured at one load.

    Parameters
    ----------
    load : {"kind": "closed", "concurrency": 8} or {"kind": "open", "rate_per_s": 2.0, "interarrival_cv": 1.0}.
    summary : latencies with their intervals, throughput, goodput, outcomes, verdicts (:mod:`.summary`).
    peak_memory_bytes : of the device while it ran; None where it cannot be seen, as of an endpoint's.
    power : energy and its validity (:mod:`.power`); None where nothing was metered.
    usd_per_mtok : dollars per million tokens at a price, by "output" and "total"; empty without a price.
    steps : means of an engine's steps that a re-fit uses; None of an endpoint.
    """

    load: dict[str, Any]
    summary: dict[str, Any]
    peak_memory_bytes: int | None = None
    power: dict[str, Any] | None = None
    usd_per_mtok: dict[str, float] = Field(default_factory=dict)
    steps: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The load in words."""
        if self.load["kind"] == "closed":
            return f"{self.load['concurrency']} in flight"
        return f"{self.load['rate_per_s']:g} a second"


class Record(Strict):
    """One run of a benchmark.

    Parameters
    ----------
    schema_version : of this file.
    name : of the run, and of its files.
    created : when it ended (ISO 8601, UTC).
    measured : what.
    machine : processor, GPU, driver, versions, commit.
    workload : lengths and arrivals that were asked for.
    settings : seed, requests a level, warm-up, timeouts, objectives, price.
    levels : one for each load.
    highest_load : the search for the highest load that meets the objectives; None where nobody asked.
    client : the client's own overhead against a server that does nothing; None in process.
    quality : metrics on an evaluation set, by metric; empty where there was none.
    notes : what a person should know.
    samples : {"file": ..., "sha256": ...} of the raw samples; None where they were not kept.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,119}$")
    created: str
    measured: Measured
    machine: dict[str, Any]
    workload: dict[str, Any]
    settings: dict[str, Any]
    levels: tuple[Level, ...] = Field(min_length=1)
    highest_load: dict[str, Any] | None = None
    client: dict[str, Any] | None = None
    quality: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    samples: dict[str, str] | None = None

    def level(self, **load: Any) -> Level:
        """The level of a load, such as ``concurrency=8``.

        Raises
        ------
        InputError
            If none was measured at it.
        """
        for one in self.levels:
            if all(one.load.get(name) == value for name, value in load.items()):
                return one
        known = ", ".join(one.name for one in self.levels)
        raise InputError(f"{self.name} was not measured at {load}. It has: {known}")

    def save(self, folder: str | Path, arrays: Mapping[str, NDArray[Any]] | None = None) -> Path:
        """Write NAME.json and, where arrays are given, NAME.samples.npz beside it; returns the first.

        Parameters
        ----------
        arrays : raw samples by name; numbers only.

        Raises
        ------
        InputError
            If it cannot be written, or an array is not of numbers.
        """
        place = Path(folder)
        record = self
        try:
            place.mkdir(parents=True, exist_ok=True)
            if arrays is not None:
                packed = pack(arrays)
                file = place / f"{self.name}{SAMPLES_SUFFIX}"
                _write(file, packed)
                digest = hashlib.sha256(packed).hexdigest()
                record = self.model_copy(update={"samples": {"file": file.name, "sha256": digest}})
            target = place / f"{self.name}.json"
            text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
            _write(target, (text + "\n").encode())
        except OSError as error:
            raise InputError(f"cannot write the record to {place}: {error.strerror}") from error
        return target

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If it cannot be read, is no record, or is of another version.
        """
        file = Path(path)
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the record {file}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{file} is no JSON: {error}") from error
        version = held.get("schema_version") if isinstance(held, dict) else None
        if version is None:
            raise InputError(f"{file} is no benchmark record: it has no schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{file} is of version {version!r} of the record, and this distillcalc reads version {SCHEMA_VERSION}. "
                "Read it with the distillcalc that wrote it, whose version stands under machine"
            )
        try:
            return cls.model_validate(held)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{file} is no benchmark record: {where}: {first['msg']}") from error


@dataclass(frozen=True, eq=False)
class Samples:
    """Raw samples of a record, by name."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, record: str | Path) -> Samples:
        """Those beside a record's file.

        Raises
        ------
        InputError
            If the record names none, the file is missing, or it is not the one that the record is of.
        """
        file = Path(record)
        found = Record.load(file).samples
        if found is None:
            raise InputError(f"{file} keeps no raw samples")
        beside = file.parent / Path(found["file"]).name  # never outside the record's folder
        try:
            packed = beside.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the samples {beside}: {error.strerror}") from error
        if hashlib.sha256(packed).hexdigest() != found["sha256"]:
            raise InputError(f"{beside} is not the file that {file.name} was written with: its SHA-256 differs")
        return cls(unpack(packed))


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays of numbers as the bytes of a compressed npz file.

    Raises
    ------
    InputError
        If one is not of numbers: such would be pickled.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in "biuf":
            raise InputError(f"raw samples are numbers. Got {name} of {np.asarray(array).dtype}")
    out = io.BytesIO()
    np.savez_compressed(out, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return out.getvalue()


def unpack(packed: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of :func:`pack`."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def now() -> str:
    """This moment, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all."""
    part = file.with_name(file.name + ".part")
    with part.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
