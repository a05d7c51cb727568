"""Which machine trains, in which precision, and how much of a batch fits into its memory.

Memory of a training = weights, gradients and AdamW's two moments (4 bytes each, of what learns), a chunk of logits, and
the activations: 34 s b h bytes a layer in 16 bits without the attention matrix (Korthikanti et al., arXiv:2205.05198,
section 4.1, with the feed-forward size in place of 4 h), twice that in 32 bits.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from distillcalc.distill.training.progress import OutOfMemory

SAFE = 0.85  # share of the free memory that is planned with
ATTENTION_BYTES_PER_HIDDEN = 18.0  # of 34: norms, queries, keys, values, projections
FEED_FORWARD_BYTES = 4.0  # per feed-forward unit of a gated layer, in 16 bits: gate, up, product, activation
LORA_SHARE = 0.05  # of the parameters that adapters have, generously
CHUNK_BYTES = 4 * 64 * 2**20  # logits of a chunk, the teacher's, and their gradients


@dataclass(frozen=True)
class Machine:
    """Where a training runs.

    Parameters
    ----------
    device : "cuda" or "cpu"; name : of the GPU, or of the processor; count : of processes.
    precision : "bf16" or "fp32"; why : it was chosen.
    free_bytes : memory that is free on the device.
    threads : that PyTorch computes with, on a CPU.
    """

    device: Literal["cuda", "cpu"]
    name: str
    precision: Literal["bf16", "fp32"]
    why: str
    free_bytes: int
    count: int = 1
    threads: int = 0

    def __str__(self) -> str:
        many = f"{self.count} x " if self.count > 1 else ""
        threads = f" ({self.threads} threads)" if self.device == "cpu" else ""
        return f"{many}{self.name}{threads}, {self.precision}: {self.why}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the versions of what computes."""
        versions = {name: metadata.version(name) for name in ("torch", "transformers", "trl", "accelerate", "peft")}
        return asdict(self) | {"python": platform.python_version(), "versions": versions}


def machine(precision: Literal["auto", "bf16", "fp32"] = "auto") -> Machine:
    """This machine, and the precision that suits it: bf16 on a GPU that computes in it, else fp32.

    On CPUs without hardware for it bf16 is several times slower than fp32, so it is never chosen there.
    """
    import torch

    count = processes().num_processes
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        why = "asked for" if precision != "auto" else "the GPU computes in it" if has else "the GPU has no bf16"
        chosen: Literal["bf16", "fp32"] = precision if precision != "auto" else "bf16" if has else "fp32"
        return Machine("cuda", torch.cuda.get_device_name(), chosen, why, free, count)
    import psutil

    free = psutil.virtual_memory().available // max(1, count)
    why = "asked for" if precision != "auto" else "bf16 is slower on a CPU"
    chosen = "fp32" if precision == "auto" else precision
    return Machine("cpu", processor(), chosen, why, free, count, torch.get_num_threads())


def processes() -> Any:
    """The processes that train together, of which this is one (accelerate's ``PartialState``).

    Without a GPU accelerate must be told that CPUs train; else each process believes that it is alone, and trains a
    student of its own in the same folder.
    """
    import torch
    from accelerate import PartialState

    cpu = not torch.cuda.is_available()
    state = PartialState(cpu=cpu)
    if cpu and state.num_processes == 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:  # somebody asked before
        PartialState._reset_state()
        state = PartialState(cpu=True)
    return state


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Memory:
    """What a training takes [bytes].

    Parameters
    ----------
    fixed : weights, gradients, optimizer, the teacher beside it, a chunk of logits.
    per_token : activations of one token.
    learning : of ``fixed``, gradients and optimizer.
    beside : of ``fixed``, the teacher.
    checkpointed : of one token where activations are computed anew.
    """

    fixed: float
    per_token: float
    learning: float = 0.0
    beside: float = 0.0
    checkpointed: float = math.inf

    def of(self, tokens: int) -> float:
        """Bytes for a micro-batch of so many tokens, padding included."""
        return self.fixed + self.per_token * tokens


def memory_of(model: Any, *, precision: str, teacher: Any = None, checkpointing: bool = False) -> Memory:
    """Estimate what training a causal language model takes.

    Parameters
    ----------
    teacher : a model that reads the same batches, without gradients.
    checkpointing : whether activations are computed anew instead of kept.
    """
    learns = sum(p.numel() for p in model.parameters() if p.requires_grad)
    learning = learns * 12.0  # a gradient and two moments, 4 bytes each
    fixed = _bytes(model) + learning + CHUNK_BYTES
    config = model.config.get_text_config()
    wide = 2.0 if precision == "fp32" else 1.0
    layer = wide * (ATTENTION_BYTES_PER_HIDDEN * config.hidden_size + FEED_FORWARD_BYTES * 2 * _feed_forward(config))
    kept = layer * config.num_hidden_layers
    # The inputs of the layers, and one layer at a time.
    checkpointed = wide * 2.0 * config.hidden_size * config.num_hidden_layers + layer
    beside = teaches = 0.0
    if teacher is not None:
        beside = _bytes(teacher)
        text = teacher.config.get_text_config()
        teaches = 4.0 * (text.hidden_size * 12 + _feed_forward(text) * 3)  # one layer at a time
    return Memory(
        fixed + beside, (checkpointed if checkpointing else kept) + teaches, learning, beside, checkpointed + teaches
    )


def _bytes(model: Any) -> float:
    return float(sum(p.numel() * p.element_size() for p in model.parameters()))


def _feed_forward(config: Any) -> float:
    """Feed-forward units that a token goes through in a layer; of a mixture, those of the experts at work."""
    wide = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None)
    if wide is None:  # GPT-2 and its like
        wide = getattr(config, "n_inner", None) or 4 * config.hidden_size
    units = float(max(wide) if isinstance(wide, (list, tuple)) else wide)
    return units * (getattr(config, "num_experts_per_tok", None) or 1)


def micro_batch(memory: Memory, free_bytes: int, longest: int, batch_size: int, *, what: str = "") -> int:
    """How many sequences fit at once: the largest divisor of the batch that does.

    Parameters
    ----------
    longest : tokens of the longest sequence. batch_size : sequences of a step on this process.

    Raises
    ------
    OutOfMemory
        If not even one does; it says by how much, and what would.
    """
    room = SAFE * free_bytes
    divisors = [n for n in range(batch_size, 0, -1) if batch_size % n == 0]
    for sequences in divisors:
        if memory.of(sequences * longest) <= room:
            return sequences
    needed, gib = memory.of(longest), 2.0**30
    raise OutOfMemory(
        f"{what or 'the student'} does not fit: about {needed / gib:.1f} GiB for one sequence of {longest:,} tokens "
        f"({memory.fixed / gib:.1f} GiB of weights, gradients and optimizer), and {room / gib:.1f} GiB are free. "
        + _what_would_fit(memory, room, longest)
    )


def _what_would_fit(memory: Memory, room: float, longest: int) -> str:
    """Advice that is computed: what brings it below the room."""
    advice = []
    tokens = int((room - memory.fixed) / memory.per_token) if room > memory.fixed else 0
    if tokens >= 8:
        advice.append(f"max_length = {tokens}")
    if memory.checkpointed < memory.per_token and memory.fixed + memory.checkpointed * longest <= room:
        advice.append("gradient_checkpointing = true")
    adapters = LORA_SHARE * memory.learning
    if memory.fixed - memory.learning + adapters + memory.per_token * longest <= room and memory.learning > adapters:
        advice.append("[student.lora], which keeps no optimizer for the weights that stand still")
    parameters = (room - CHUNK_BYTES - memory.beside - memory.per_token * longest) / 16.0
    if parameters > 1e6:
        advice.append(f"a student of at most {parameters / 1e9:.2g} billion parameters in fp32")
    return "What would fit: " + "; or ".join(advice) if advice else "No student fits here; use another machine"


def ran_out(sequences: int) -> OutOfMemory:
    """What to say where the device had no memory left in the middle, in spite of the estimate."""
    if sequences > 1:
        fewer = max(n for n in range(1, sequences // 2 + 1) if sequences % n == 0)  # so that the batch is a multiple
        return OutOfMemory(
            f"the device ran out of memory with {sequences} sequences at once. Set micro_batch = {fewer}: the batch "
            "stays the same, and the training goes on from its last checkpoint"
        )
    return OutOfMemory(
        "the device ran out of memory with one sequence. Set gradient_checkpointing = true, a shorter max_length, or "
        "[student.lora]"
    )
