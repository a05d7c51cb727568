from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.benchmark.power import NvidiaGpu, PowerMeter, Rapl, integral, largest_gap
from distillcalc.errors import InputError


class NvmlError(Exception):
    """As pynvml's."""


class Device:
    """A GPU that draws 100 W, as NVML would tell it."""

    NVMLError = NvmlError

    def __init__(self, *, counts: bool = True, pids: tuple[int, ...] = ()) -> None:
        self.counts, self.pids, self.began = counts, pids, time.perf_counter()

    def nvmlDeviceGetName(self, _: Any) -> bytes:
        return b"a GPU"

    def nvmlDeviceGetPowerUsage(self, _: Any) -> int:
        return 100_000  # mW

    def nvmlDeviceGetTotalEnergyConsumption(self, _: Any) -> int:
        if not self.counts:
            raise NvmlError
        return round(100_000 * (time.perf_counter() - self.began))  # mJ

    def nvmlDeviceGetComputeRunningProcesses(self, _: Any) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]


def test_an_integral_by_hand() -> None:
    # 100 W at 1 s rising to 200 W at 3 s: between 0 and 4 s 100 + 300 + 200 J.
    assert integral([1, 3], [100, 200], 0, 4) == pytest.approx(600)
    # Between 1.5 and 2.5 s the power is 125 to 175 W.
    assert integral([1, 3], [100, 200], 1.5, 2.5) == pytest.approx(150)
    assert integral([1], [50], 0, 2) == pytest.approx(100)
    assert largest_gap([1, 3], 0, 4) == 2
    assert largest_gap([], 0, 4) == 4
    with pytest.raises(InputError):
        integral([], [], 0, 1)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=9, unique=True),
    st.floats(0, 500),
    st.floats(0, 5),
    st.floats(0.1, 5),
    st.floats(0, 1),
)
def test_parts_of_a_window_add_up(moments: list[float], watts: float, began: float, length: float, cut: float) -> None:
    at = sorted(moments)
    powers = watts * (1 + np.sin(at))
    middle, ended = began + cut * length, began + length
    parts = integral(at, powers, began, middle) + integral(at, powers, middle, ended)
    assert integral(at, powers, began, ended) == pytest.approx(parts, abs=1e-9)
    # What always draws as much takes as much as it draws.
    assert integral(at, np.full(len(at), watts), began, ended) == pytest.approx(watts * length, abs=1e-9)


@pytest.mark.parametrize("counts", [True, False])
def test_a_device_of_100_w(counts: bool) -> None:
    with PowerMeter([NvidiaGpu(Device(counts=counts, pids=(os.getpid(),)), None)], every_s=0.02) as meter:
        time.sleep(0.6)
    found = meter.energy
    assert found is not None
    assert found.device == "a GPU"
    assert found.seconds >= 0.6
    assert found.joules == pytest.approx(100 * found.seconds, rel=0.05)
    assert found.mean_w == pytest.approx(100, rel=0.05)
    assert ("counter" in found.why) == counts
    if counts:
        assert found.valid


def test_what_makes_a_figure_invalid() -> None:
    with PowerMeter([NvidiaGpu(Device(), None)]) as short:
        pass
    with PowerMeter([NvidiaGpu(Device(pids=(os.getpid(), 1, 2)), None)]) as shared:
        time.sleep(0.55)
    with PowerMeter([NvidiaGpu(Device(counts=False), None)], every_s=30.0) as sparse:
        time.sleep(0.55)
    with PowerMeter([]) as nothing:
        pass
    for meter, why in (
        (short, "too short"), (shared, "2 other process"), (sparse, "too few"), (nothing, "no device here"),
    ):  # fmt: skip
        assert meter.energy is not None
        assert not meter.energy.valid
        assert why in meter.energy.why
    with pytest.raises(InputError, match="every_s must be above 0"):
        PowerMeter([], every_s=0)


def test_within_a_container_one_process_is_this_one() -> None:
    assert NvidiaGpu(Device(pids=(4242,)), None).others() == 0
    assert NvidiaGpu(Device(pids=(4242, 4243)), None).others() == 1
    assert NvidiaGpu(Device(), None).others() == 0


def test_a_processors_counter(tmp_path: Path) -> None:
    counter = tmp_path / "energy_uj"
    counter.write_text("5000000\n")
    with PowerMeter([Rapl(tmp_path)]) as meter:
        time.sleep(0.55)
        counter.write_text("38000000\n")
    assert meter.energy is not None
    assert (meter.energy.joules, meter.energy.valid) == (33, True)
    # It began anew: what was counted is lost.
    with PowerMeter([Rapl(tmp_path)]) as meter:
        counter.write_text("1\n")
    assert meter.energy is not None
    assert meter.energy.joules is None
    assert not meter.energy.valid
