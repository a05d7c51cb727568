"""How long one step of a serving engine takes: a roofline with the few constants that measurements fit.

Reading and computing take their time at a share of the hardware's peak; what an engine adds per step, per layer, per
sequence and per exchange between GPUs comes on top. The constants are rows of the catalog's table ``engines``
(data/engines.toml), fitted by :mod:`distillcalc.estimate.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import EngineRow, GpuRow, ModelRow
from distillcalc.errors import UnknownPeak

Floats = NDArray[np.float64]

# Bits per weight: NVFP4 and MXFP4 carry a scale for each 16 or 32 weights.
BITS = {"fp32": 32.0, "bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4.25, "fp4": 4.5}


# What StepTime needs of an engine.
CONSTANTS = (
    *("mbu", "kv_mbu", "expert_mbu", "mfu_bf16", "mfu_fp8", "mfu_fp4", "expert_mfu", "attention_mfu", "overlap"),
    *("fixed_s", "layer_s", "expert_layer_s", "quantise_s", "sequence_s", "all_reduce_s", "link_efficiency", "repack"),
)


def kv_bytes_per_token(row: ModelRow, precision: str = "bf16") -> float:
    """Key-value cache of one token [bytes]: 2 x layers x KV heads x head size x bytes of a number."""
    assert row.shape is not None
    own = row.shape.kv_bytes_per_token_bf16
    whole = float(own or 4 * row.shape.layers * row.shape.kv_heads * row.shape.head_dim)
    return whole * BITS[precision] / 16


@dataclass(frozen=True)
class Weights:
    """The weights of a model in one precision [bytes], and the parameters that a token computes with.

    Parameters
    ----------
    every : read in every step: attention, dense layers, output layer.
    experts : the routed experts, of which a step reads those that its tokens choose; 0 for a dense model.
    embeddings : held, but only single rows of it are read.
    expert_miss : share of the experts that one token leaves alone, 1 - experts per token / experts; 1 if dense.
    active : parameters that one token is multiplied with.
    """

    every: float
    experts: float
    embeddings: float
    expert_miss: float
    active: float

    @property
    def total(self) -> float:
        """All that memory holds [bytes]."""
        return self.every + self.experts + self.embeddings

    @classmethod
    def of(cls, row: ModelRow, precision: str) -> Weights:
        """From a model's size and shape.

        Embeddings and the output layer stay in 16 bits where weights are in fewer, as quantisers leave them. Of the
        total P and the active A of a mixture of experts, with k of E experts a token, the experts hold
        (P - A) / (1 - k / E).
        """
        assert row.shape is not None
        assert row.params_b is not None
        shape, total = row.shape, row.params_b * 1e9
        active = (row.active_params_b or row.params_b) * 1e9
        miss, experts = 1.0, 0.0
        if shape.experts and shape.experts_per_token and active < total:
            miss = 1 - shape.experts_per_token / shape.experts
            experts = min((total - active) / miss, total)
        tables = 1 if shape.tied_embeddings else 2
        table = min(float(shape.vocab * shape.hidden), (total - experts) / (2 * tables))
        size = BITS[precision] / 8
        layers = (total - experts - tables * table) * size
        held = table * max(size, 2.0)
        return cls(layers + held, experts * size, (tables - 1) * held, miss, active)


@dataclass(frozen=True)
class Placement:
    """A model in one precision on one replica of ``tensor_parallel`` GPUs: all that its speed depends on.

    Every field is a number, or an array with one value for each of many placements (see :meth:`stack`).
    Bytes and FLOPs are those of one GPU.
    """

    layers: Any
    hidden: Any
    is_moe: Any
    tensor_parallel: Any
    weights_bytes: Any  # read in every step
    experts_bytes: Any
    expert_miss: Any
    kv_bytes: Any  # of one token's cache
    token_flop: Any
    pair_flop: Any  # attention of one prompt token to one before it
    bandwidth: Any  # [bytes/s]
    peak: Any  # of the matrix products [FLOP/s]
    attention_peak: Any  # [FLOP/s], 16 bits
    link: Any  # [bytes/s], one direction
    computes_in: Any  # bits in which the products are computed: 16, 8 or 4

    @classmethod
    def of(
        cls,
        row: ModelRow,
        gpu: GpuRow,
        precision: str,
        tensor_parallel: int,
        *,
        kv_precision: str = "bf16",
        expert_gpus: int | None = None,
    ) -> Placement:
        """The placement of one model.

        Parameters
        ----------
        precision : of the weights; the products are computed in it where the GPU can, otherwise in 16 bits. Of a CPU
            the catalog's peak is that of what it computes in best, which is fp32 where it has no bf16 units.
        tensor_parallel : GPUs that share every layer. KV heads beyond their number are held more than once.
        kv_precision : of the cache, "fp32", "bf16" or "fp8".
        expert_gpus : GPUs that share the experts, where that is not the same.
        """
        assert row.shape is not None
        shape, n = row.shape, tensor_parallel
        shared = expert_gpus or n
        weights = Weights.of(row, precision)
        peak, bits = _peak(gpu, precision)
        return cls(
            layers=float(shape.layers),
            hidden=float(shape.hidden),
            is_moe=float(weights.experts > 0),
            tensor_parallel=float(n),
            weights_bytes=weights.every / n,
            experts_bytes=weights.experts / shared,
            expert_miss=weights.expert_miss,
            kv_bytes=kv_bytes_per_token(row, kv_precision) / min(n, shape.kv_heads),
            token_flop=2 * weights.active / shared,
            pair_flop=4 * shape.layers * shape.heads * shape.head_dim / n,
            bandwidth=gpu.bandwidth_gb_s * 1e9,
            peak=peak,
            attention_peak=gpu.bf16_tflops * 1e12,
            link=(gpu.link_gb_s or PCIE_GB_S) * 1e9,
            computes_in=float(bits),
        )

    @classmethod
    def stack(cls, placements: list[Placement]) -> Placement:
        """Many placements as one whose fields are arrays."""
        return cls(*(np.array([getattr(one, field.name) for one in placements]) for field in fields(cls)))


PCIE_GB_S = 32.0  # a PCIe 4 slot, where the catalog knows no link


def _peak(gpu: GpuRow, precision: str) -> tuple[float, int]:
    """Dense peak of matrix products [FLOP/s] and the bits they are computed in."""
    if precision == "fp4" and gpu.fp4_tflops:
        return gpu.fp4_tflops * 1e12, 4
    if precision == "fp8" and gpu.fp8_tflops:
        return gpu.fp8_tflops * 1e12, 8
    if precision == "int8" and gpu.int8_tops:
        return gpu.int8_tops * 1e12, 8
    if precision == "fp32" and gpu.kind == "gpu":
        if gpu.fp32_tflops is None:
            raise UnknownPeak(f"the catalog knows no fp32 peak of {gpu.name}. Give fp32_tflops in [overrides.gpus]")
        return gpu.fp32_tflops * 1e12, 16
    return gpu.bf16_tflops * 1e12, 16  # weights in fewer bits are unpacked


@dataclass(frozen=True)
class StepTime:
    """The constants of one model on one replica; each a number or an array, all that broadcast together.

    Parameters
    ----------
    fixed_s : every step, whatever it does [s]: launches, latency of the all-reduces, the engine's scheduler.
    sequence_s : for each sequence that gets a token in the step [s]: sampling, detokenising, scheduling.
    weights_s : reading what every token uses of the weights once [s].
    experts_s : reading all routed experts once [s]; 0 for a dense model.
    expert_miss : share of the routed experts that a token leaves alone, 1 - experts per token / experts; 1 if dense.
    kv_s : reading one token of the cache [s].
    token_s : computing one token, prompt or output [s].
    pair_s : attention of one prompt token to one token before it [s].
    overlap : share of the shorter of reading and computing that hides behind the longer one, 0..1.
    exchange_s : exchanging one token's activations between the GPUs of a replica [s].
    repack_s : rearranging the weights in a step of more than one token [s]. A CPU's product of matrices copies its
        weights into blocks first (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008);
        its product of a matrix and a vector, which is a step of one token, does not.

    Notes
    -----
    step = fixed + sequence n + exchange tokens + max(read, compute) + (1 - overlap) min(read, compute),
    read = weights + experts (1 - miss^tokens) + kv context + repack min(tokens - 1, 1),
    compute = token tokens + pair pairs.
    The experts touched by t tokens that choose k of E at random are E (1 - (1 - k/E)^t).
    """

    fixed_s: Any
    sequence_s: Any
    weights_s: Any
    experts_s: Any
    expert_miss: Any
    kv_s: Any
    token_s: Any
    pair_s: Any
    overlap: Any
    exchange_s: Any = 0.0
    repack_s: Any = 0.0

    @classmethod
    def of(cls, placement: Placement, engine: EngineRow | Any) -> StepTime:
        """The constants of a placement under an engine.

        weights_s = bytes / (bandwidth MBU), token_s = 2 x active parameters / (peak MFU),
        pair_s = 4 x layers x heads x head size / (peak MFU), and two all-reduces a layer, each with its latency and
        with 2 (N - 1) / N of a token's activations in 16 bits over the link.

        Parameters
        ----------
        engine : a row of the catalog's ``engines``, or anything with its constants; they may be arrays.
        """
        p, n = placement, placement.tensor_parallel
        moe, parallel, bits = np.asarray(p.is_moe) > 0, np.asarray(n) > 1, np.asarray(p.computes_in)
        dense = np.where(bits == 16, engine.mfu_bf16, np.where(bits == 8, engine.mfu_fp8, engine.mfu_fp4))
        mfu = np.where(moe, engine.expert_mfu, dense)
        layer = engine.layer_s + np.where(moe, engine.expert_layer_s, 0.0) + np.where(bits < 16, engine.quantise_s, 0.0)
        reduces = np.where(parallel, 2 * p.layers * engine.all_reduce_s, 0.0)
        exchanged = 2 * p.layers * p.hidden * 2 * 2 * (n - 1) / n
        return cls(
            fixed_s=engine.fixed_s + p.layers * layer + reduces,
            sequence_s=engine.sequence_s,
            weights_s=p.weights_bytes / (p.bandwidth * engine.mbu),
            experts_s=p.experts_bytes / (p.bandwidth * engine.expert_mbu),
            expert_miss=p.expert_miss,
            kv_s=p.kv_bytes / (p.bandwidth * engine.kv_mbu),
            token_s=p.token_flop / (p.peak * mfu),
            pair_s=p.pair_flop / (p.attention_peak * engine.attention_mfu),
            exchange_s=exchanged / (p.link * engine.link_efficiency),
            overlap=engine.overlap,
            repack_s=engine.repack * p.weights_bytes / (p.bandwidth * engine.mbu),
        )

    def seconds(self, sequences: Any, tokens: Any, context: Any, pairs: Any = 0.0) -> Floats:
        """Duration of a step [s].

        Parameters
        ----------
        sequences : sequences that get their next output token.
        tokens : tokens computed: one per decoding sequence, and those of the prompts in the step.
        context : tokens of the cache that are read, summed over the decoding sequences.
        pairs : for each prompt token the tokens before it in its prompt, summed: s^2 / 2 for a whole prompt of s.
        """
        touched = 1 - self.expert_miss ** np.asarray(tokens, dtype=float)
        several = np.clip(np.asarray(tokens, dtype=float) - 1, 0, 1)
        read = self.weights_s + self.repack_s * several + self.experts_s * touched + self.kv_s * context
        compute = self.token_s * tokens + self.pair_s * pairs
        longer, shorter = np.maximum(read, compute), np.minimum(read, compute)
        engine = self.fixed_s + self.sequence_s * sequences + self.exchange_s * tokens
        return np.asarray(engine + longer + (1 - self.overlap) * shorter)
