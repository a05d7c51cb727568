"""Energy and power while something runs: what the GPU's driver counts, or else its power integrated over the window.

A figure is told as valid or not, and why. On a machine without a GPU the processor's own counter (RAPL) is read where
the system allows it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from distillcalc.errors import InputError

EVERY_S = 0.05
FEWEST = 5  # samples of a window
SHORTEST_S = 0.5  # the counters of drivers move every 20 to 100 ms
LARGEST_GAP = 0.2  # of the window, between two samples
RAPL = Path("/sys/class/powercap/intel-rapl:0")


class Meter(Protocol):
    """One device whose power can be read."""

    @property
    def name(self) -> str:
        """What is metered."""

    def power_w(self) -> float | None:
        """Power now [W]; None where it cannot be read."""

    def energy_j(self) -> float | None:
        """Energy since some moment [J]; None where the device does not count it."""

    def others(self) -> int | None:
        """Processes beside this one that use the device; None where it does not say."""


@dataclass(frozen=True)
class Energy:
    """What a window took.

    Parameters
    ----------
    valid : whether the figures can be believed; ``why`` not, or what was read.
    device : what was metered.
    seconds : of the window [s].
    joules : energy in it [J]; None where nothing could be read.
    mean_w : joules / seconds [W].
    samples : of the power.
    """

    valid: bool
    why: str
    device: str
    seconds: float
    joules: float | None
    mean_w: float | None
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class PowerMeter:
    """Meters what runs inside the ``with`` block; ``energy`` tells of it afterwards.

    Parameters
    ----------
    meters : devices; left out, all NVIDIA GPUs that this process sees, else the processor if it can be read.
    every_s : between two samples [s].

    Raises
    ------
    InputError
        If ``every_s`` is not above 0.

    Examples
    --------
    >>> from distillcalc.benchmark.power import PowerMeter
    >>> with PowerMeter(()) as meter:
    ...     pass
    >>> meter.energy.why
    'no device here tells its power'
    """

    def __init__(self, meters: Sequence[Meter] | None = None, *, every_s: float = EVERY_S) -> None:
        if not every_s > 0:
            raise InputError(f"every_s must be above 0. Got {every_s}")
        self._meters = tuple(found_meters() if meters is None else meters)
        self._every_s = every_s
        self.energy: Energy | None = None

    def __enter__(self) -> PowerMeter:
        self._samples: list[list[tuple[float, float]]] = [[] for _ in self._meters]
        self._stop = threading.Event()
        self._others = max((meter.others() or 0 for meter in self._meters), default=0)
        self._counted = [meter.energy_j() for meter in self._meters]
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True) if self._meters else None
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = time.perf_counter()
        counted = [meter.energy_j() for meter in self._meters]
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.energy = self._told(ended, counted)

    def _watch(self) -> None:
        while True:
            for meter, held in zip(self._meters, self._samples, strict=True):
                power = meter.power_w()
                if power is not None:
                    held.append((time.perf_counter(), power))
            if self._stop.wait(self._every_s):
                return

    def _told(self, ended: float, counted: list[float | None]) -> Energy:
        seconds = ended - self._began
        names = ", ".join(dict.fromkeys(meter.name for meter in self._meters))
        if not self._meters:
            return Energy(False, "no device here tells its power", "", seconds, None, None, 0)
        fewest = min(len(held) for held in self._samples)
        joules = _counted(self._counted, counted)
        if joules is not None:
            why, enough = "the device's own counter of energy", True
        elif fewest:
            joules = 0.0
            for held in self._samples:
                moments, watts = np.array(held).T
                joules += integral(moments, watts, self._began, ended)
            gap = max(largest_gap([moment for moment, _ in held], self._began, ended) for held in self._samples)
            enough = fewest >= FEWEST and gap <= LARGEST_GAP * seconds
            why = (
                f"power, sampled {fewest} times"
                if enough
                else (f"power was sampled {fewest} times, with a gap of {gap:.2g} of {seconds:.2g} s: too few")
            )
        else:
            return Energy(False, "the device tells neither its power nor its energy", names, seconds, None, None, 0)
        if seconds < SHORTEST_S:
            enough, why = False, f"{seconds:.2g} s are too short: counters move every 20 to 100 ms"
        if self._others:
            enough, why = False, f"{self._others} other process(es) used the device too"
        return Energy(enough, why, names, seconds, joules, joules / seconds if seconds > 0 else None, fewest)


def _counted(before: Sequence[float | None], after: Sequence[float | None]) -> float | None:
    """What all counters rose by [J]; None where one does not count, or began anew."""
    rises = [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    return sum(rises) if len(rises) == len(before) and min(rises) >= 0 else None


def integral(moments: ArrayLike, watts: ArrayLike, began: float, ended: float) -> float:
    """Energy between two moments from samples of the power, by the trapezoidal rule [J].

    Before the first and after the last sample the power is taken to be theirs.

    Parameters
    ----------
    moments : rising, shape (n,) [s]; watts : shape (n,) [W].

    Raises
    ------
    InputError
        For no sample, or an end before the beginning.
    """
    at, power = np.asarray(moments, dtype=float), np.asarray(watts, dtype=float)
    if not at.size or at.shape != power.shape or ended < began:
        raise InputError("energy needs a sample at least, as many moments as powers, and an end after the beginning")
    inside = (at > began) & (at < ended)
    ends = np.interp([began, ended], at, power)
    times = np.concatenate([[began], at[inside], [ended]])
    values = np.concatenate([ends[:1], power[inside], ends[1:]])
    return float(np.trapezoid(values, times))


def largest_gap(moments: Sequence[float], began: float, ended: float) -> float:
    """The longest time in a window without a sample [s]."""
    inside = [one for one in moments if began <= one <= ended]
    return float(np.diff([began, *inside, ended]).max())


def found_meters() -> list[Meter]:
    """The devices of this machine whose power can be read."""
    gpus = _gpus()
    if gpus:
        return gpus
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return []  # the GPU does the work, and nothing here can read its counter: the processor's says something else
    counter = RAPL / "energy_uj"
    try:
        counter.read_text()
    except OSError:
        return []
    return [Rapl(RAPL)]


@dataclass(frozen=True)
class Rapl:
    """An x86 processor's counter of its package's energy (Intel SDM volume 3B, 15.10), as Linux shows it.

    Parameters
    ----------
    folder : of the package in /sys/class/powercap.
    """

    folder: Path

    @property
    def name(self) -> str:
        """What is metered."""
        return "the processor's package"

    def power_w(self) -> float | None:
        """It counts energy alone."""
        return None

    def energy_j(self) -> float | None:
        """Energy since the counter last began anew [J]."""
        try:
            return int((self.folder / "energy_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return None

    def others(self) -> int | None:
        """Everything that runs shares the processor: nothing is said of it."""
        return None


class NvidiaGpu:
    """One GPU through NVML.

    Parameters
    ----------
    nvml : the module ``pynvml``, initialised.
    handle : of the device.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @property
    def name(self) -> str:
        """What is metered."""
        said = self._nvml.nvmlDeviceGetName(self._handle)
        return said.decode() if isinstance(said, bytes) else str(said)

    def power_w(self) -> float | None:
        """Power now [W]."""
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1e3
        except self._nvml.NVMLError:
            return None

    def energy_j(self) -> float | None:
        """Energy since the driver was loaded [J]; from Volta on."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError:
            return None

    def others(self) -> int | None:
        """Processes beside this one that compute on it."""
        import os

        try:
            held = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        # Inside a container NVML tells numbers of the host: one process is then taken to be this one.
        others = [one for one in held if one.pid != os.getpid()]
        return len(others) if len(others) < len(held) else max(len(held) - 1, 0)


def _gpus() -> list[Meter]:
    """All GPUs that this process sees."""
    try:
        import pynvml
        import torch
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(place).uuid}")
            for place in range(torch.cuda.device_count())
        ]
    except pynvml.NVMLError:
        return []
    return [NvidiaGpu(pynvml, handle) for handle in handles]
