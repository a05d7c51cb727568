"""The machine that a benchmark runs on: what it is, and how fast it reads and computes.

A micro-benchmark gives the two numbers that the step-time model needs of hardware, so that the same estimator describes
a machine that no data sheet tells of: a row of the catalog's ``gpus``.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from distillcalc.distill.training.devices import processor
from distillcalc.errors import InputError, MissingExtra

PACKAGES = ("torch", "transformers", "numpy", "vllm")


@dataclass(frozen=True)
class Sizes:
    """What is read and multiplied: so that the work outlasts what launching it takes, and the caches do not hold it.

    Parameters
    ----------
    read_bytes : of weights that are read in turn. widths : of the matrices.
    rows : tokens that are multiplied at a time.
    """

    read_bytes: int
    widths: tuple[int, ...]
    rows: int


SIZES = {
    "cpu": Sizes(256 * 2**20, (576, 1024, 2048), 512),
    # A product of 2,048 wide matrices takes an H100 some microseconds, as long as launching it.
    "cuda": Sizes(2 * 2**30, (4096, 8192), 4096),
}
SMALL_OPS = 200
LEAST_S, MOST_S = 1.0, 60.0
WARM_UP = 2
SHARES = {"read": 0.5, "compute": 0.4, "launch": 0.1}


@dataclass(frozen=True)
class Speed:
    """One speed, by repeats.

    Parameters
    ----------
    best : highest of the repeats.
    median : middle one.
    spread : (highest - lowest) / median.
    repeats : how many.
    """

    best: float
    median: float
    spread: float
    repeats: int

    @classmethod
    def of(cls, values: list[float]) -> Speed:
        """From the repeats' speeds."""
        middle = float(np.median(values))
        return cls(max(values), middle, (max(values) - min(values)) / middle, len(values))


@dataclass(frozen=True)
class MachineSpeed:
    """How fast a machine reads weights and multiplies matrices.

    Parameters
    ----------
    name, device, precision : what was measured, in which numbers.
    threads : of a CPU.
    memory_bytes : of the device.
    read_bytes_per_s : weights read by matrix-vector products, as writing a token of one sequence reads them.
    flop_per_s : of products of many tokens with a matrix, the fastest width.
    launch_s : of one small operation [s], the median.
    seconds : that it took.
    """

    name: str
    device: str
    precision: str
    threads: int
    memory_bytes: int
    read_bytes_per_s: Speed
    flop_per_s: Speed
    launch_s: float
    seconds: float

    def row(self) -> dict[str, Any]:
        """A row of the catalog's ``gpus``, for ``[overrides.gpus.this-machine]``: the best speeds are its peaks."""
        note = (
            f"repeats were within {self.read_bytes_per_s.spread:.0%} (bandwidth) and {self.flop_per_s.spread:.0%} "
            f"(compute) of their median; a small operation took {self.launch_s * 1e6:.3g} us"
        )
        return {
            "name": self.name, "kind": "cpu" if self.device == "cpu" else "gpu",
            "memory_gb": float(f"{self.memory_bytes / 1e9:.4g}"),
            "bandwidth_gb_s": float(f"{self.read_bytes_per_s.best / 1e9:.4g}"),
            "bf16_tflops": float(f"{self.flop_per_s.best / 1e12:.4g}"),
            "source": f"measured by distillcalc benchmark machine in {self.precision}, {self.seconds:.0f} s"
            + (f", {self.threads} threads" if self.device == "cpu" else ""),
            "checked": date.today(), "confidence": "high", "note": note,
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.precision}): reads {self.read_bytes_per_s.best / 1e9:.3g} GB/s "
            f"(repeats within {self.read_bytes_per_s.spread:.0%}), computes {self.flop_per_s.best / 1e12:.3g} TFLOP/s "
            f"(within {self.flop_per_s.spread:.0%}), {self.launch_s * 1e6:.3g} us for a small operation"
        )


def describe_machine() -> dict[str, Any]:
    """What a record says of the machine: hardware, versions, commit; no names of persons, hosts or folders."""
    found: dict[str, Any] = {
        "cpu": processor(), "cores": os.cpu_count(), "memory_gb": _memory_gb(), "system": platform.system(),
        "architecture": platform.machine(), "python": platform.python_version(), "versions": _versions(),
        "commit": _commit(), "gpu": "", "gpus": 0, "driver": "", "cuda": "",
    }  # fmt: skip
    try:
        import torch
    except ImportError:
        return found
    found["threads"] = torch.get_num_threads()
    if torch.cuda.is_available():
        found |= {
            "gpu": torch.cuda.get_device_name(), "gpus": torch.cuda.device_count(), "driver": _driver(),
            "cuda": str(torch.version.cuda), "gpu_memory_gb": round(torch.cuda.mem_get_info()[1] / 1e9, 1),
        }  # fmt: skip
    return found


def measure_machine(seconds: float = 20.0) -> MachineSpeed:
    """Measure how fast this machine reads and computes; on its GPU if there is one.

    Parameters
    ----------
    seconds : about so long, from 1 to 60.

    Returns
    -------
    :class:`MachineSpeed`. Reading: matrix-vector products with matrices of :data:`WIDTHS` in turn, 256 MiB of them, so
    that none is still in a cache; 2 flops a weight, whose time is that of reading it. Computing: 512 rows times a
    square matrix, 2 x 512 x width^2 flops.

    Raises
    ------
    InputError
        For a duration out of range.
    MissingExtra
        If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "distill") from error

    if not LEAST_S <= seconds <= MOST_S:
        raise InputError(f"seconds must be between {LEAST_S:g} and {MOST_S:g}. Got {seconds:g}")
    began = time.perf_counter()
    cuda = torch.cuda.is_available()
    device, dtype = torch.device("cuda" if cuda else "cpu"), torch.bfloat16 if cuda else torch.float32
    size, sizes = dtype.itemsize, SIZES[device.type]
    with torch.inference_mode():
        reads, products = {}, {}
        for width in sizes.widths:
            matrices = torch.randn(max(sizes.read_bytes // (width * width * size), 2), width, width, device=device).to(
                dtype
            )
            vector, rows = (torch.randn(n, width, device=device).to(dtype) for n in (1, sizes.rows))
            share = seconds / len(sizes.widths)

            def read(held: Any = matrices, by: Any = vector) -> None:
                for matrix in held:
                    torch.nn.functional.linear(by, matrix)

            def multiply(held: Any = matrices[:4], by: Any = rows) -> None:
                for matrix in held:
                    torch.nn.functional.linear(by, matrix)

            reads[width] = _speeds(read, matrices.numel() * size, SHARES["read"] * share, cuda)
            flops = 2.0 * sizes.rows * width * width * len(matrices[:4])
            products[width] = _speeds(multiply, flops, SHARES["compute"] * share, cuda)
        small = torch.ones(1, 64, device=device, dtype=dtype)

        def launch() -> None:
            one = small
            for _ in range(SMALL_OPS):
                one = one + small

        launches = _speeds(launch, SMALL_OPS, SHARES["launch"] * seconds, cuda)
    memory = torch.cuda.mem_get_info()[1] if cuda else round((_memory_gb() or 0) * 1e9)
    fastest_read, fastest_product = (
        max(found.values(), key=lambda values: max(values)) for found in (reads, products)
    )  # fmt: skip
    return MachineSpeed(
        name=torch.cuda.get_device_name() if cuda else processor(),
        device=device.type,
        precision="bf16" if cuda else "fp32",
        threads=0 if cuda else torch.get_num_threads(),
        memory_bytes=int(memory),
        read_bytes_per_s=Speed.of(fastest_read),
        flop_per_s=Speed.of(fastest_product),
        launch_s=1 / float(np.median(launches)),
        seconds=time.perf_counter() - began,
    )


def _speeds(work: Callable[[], None], amount: float, seconds: float, cuda: bool) -> list[float]:
    """Amount / time of each repeat: three at least, as many as fit into the time."""
    for _ in range(WARM_UP):
        _timed(work, cuda)
    found: list[float] = []
    ends = time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < ends:
        found.append(amount / _timed(work, cuda))
    return found


def _timed(work: Callable[[], None], cuda: bool) -> float:
    began = time.perf_counter()
    work()
    if cuda:
        import torch

        torch.cuda.synchronize()
    return max(time.perf_counter() - began, 1e-9)


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for name in ("distillcalc", *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """Of the checkout that this package lies in, "-dirty" where files differ; "unknown" of an installed wheel."""
    place = Path(__file__).resolve().parents[2]
    if not (place / ".git").exists():
        return "unknown"
    try:
        said = subprocess.run(
            ["git", "-C", str(place), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip() or "unknown"


def _driver() -> str:
    try:
        import pynvml
    except ImportError:
        return "unknown"
    try:
        pynvml.nvmlInit()
        said = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return "unknown"
    return said.decode() if isinstance(said, bytes) else str(said)
