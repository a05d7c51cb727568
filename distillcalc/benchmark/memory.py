"""How much memory a model takes at its peak: as the GPU's allocator counted it, or by watching the process."""

from __future__ import annotations

import ctypes
import gc
import threading
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

EVERY_S = 0.02
# How errors that are no class of their own say it: of CUDA, while graphs are recorded, and of the host's allocator.
SAID = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Memory:
    """Memory of a run [bytes].

    Parameters
    ----------
    peak_bytes : weights, cache and everything else at once.
    weights_bytes : of them, weights.
    how : it was found.
    """

    peak_bytes: int
    weights_bytes: int
    how: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class PeakMemory:
    """Watches the memory of a model while something runs.

    On a GPU the peak is what its allocator had given out. On a CPU it is the weights and the highest that the resident
    set of this process rose above where it stood at the start, seen every 20 ms. The weights must have been touched
    before. What the process holds free at the start is given back first where the C library can (glibc); elsewhere the
    peak is that much too low.

    Parameters
    ----------
    model : whose weights are counted, and on whose device.
    """

    def __init__(self, model: Any) -> None:
        self._cuda = model.device if model.device.type == "cuda" else None
        self.weights_bytes = weights_bytes(model)
        self.memory: Memory | None = None

    def __enter__(self) -> PeakMemory:
        if self._cuda is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self._cuda)
            return self
        import psutil

        _give_back()
        process = psutil.Process()
        self._began, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(process,), daemon=True)
        self._thread.start()
        self._began.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cuda is not None:
            import torch

            peak = int(torch.cuda.max_memory_allocated(self._cuda))
            self.memory = Memory(peak, self.weights_bytes, "the most that the GPU's allocator had given out")
            return
        self._stop.set()
        self._thread.join()
        self.memory = Memory(
            self.weights_bytes + self._highest - self._start,
            self.weights_bytes,
            "weights, and how far the resident set of the process rose above its start, seen every 20 ms",
        )

    def _watch(self, process: Any) -> None:
        # Here and not before: as a thread starts, the C library frees stacks of those that ended.
        self._start = self._highest = int(process.memory_info().rss)
        self._began.set()
        while True:
            self._highest = max(self._highest, int(process.memory_info().rss))
            if self._stop.wait(EVERY_S):
                self._highest = max(self._highest, int(process.memory_info().rss))
                return


def _give_back() -> None:
    """What nobody uses any more, and freed memory that the C library keeps for later."""
    gc.collect()  # freed in the middle of a run, it would hide as much of what the run takes
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def weights_bytes(model: Any) -> int:
    """Parameters and buffers, shared ones once [bytes]."""
    return int(sum(part.numel() * part.element_size() for part in (*model.parameters(), *model.buffers())))


def row_bytes(model: Any, read: int, cached: int = 0) -> float:
    """About what one sequence of a batch takes [bytes]: its cache, and activations where its prompt is read.

    2 x layers x KV heads x head size numbers a cached token, and :func:`at_work` a prompt token.
    """
    from distillcalc.distill.training.shapes import shape_of

    shape = shape_of(model)
    held = 2 * shape["layers"] * shape["kv_heads"] * shape["head_dim"] * cached
    return float((held + at_work(shape["hidden"], shape.get("intermediate")) * read) * model.dtype.itemsize)


def at_work(hidden: int, intermediate: int | None) -> int:
    """About so many numbers of a prompt token are held by the layer at work: 8 hidden and 3 feed-forward ones."""
    return 8 * hidden + 3 * (intermediate or 4 * hidden)


def free_bytes(device: Any) -> int:
    """What the device could still give: on a GPU also what its allocator holds and does not use [bytes]."""
    if device.type == "cuda":
        import torch

        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + held)
    import psutil

    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, on a GPU or on the host."""
    import torch

    words = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(said in words for said in SAID)
    )
