"""How long one step of a serving engine takes: the roofline with the few constants that measurements fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StepTime:
    """The constants of one model on one replica; each a number or an array, all that broadcast together.

    Parameters
    ----------
    fixed_s : every step, whatever it does [s]: launches, all-reduce latency, the engine's scheduler.
    sequence_s : for each sequence that gets a token in the step [s]: sampling, detokenising, scheduling.
    weights_s : reading what every token uses of the weights once [s].
    experts_s : reading all routed experts once [s]; 0 for a dense model.
    expert_miss : share of the routed experts that a token leaves alone, 1 - experts per token / experts; 1 if dense.
    kv_s : reading one token of the cache [s].
    token_s : computing one token, prompt or output, and exchanging it between GPUs [s].
    pair_s : attention of one prompt token to one token before it [s].
    overlap : share of the shorter of reading and computing that hides behind the longer one, 0..1.

    Notes
    -----
    step = fixed + sequence n + max(read, compute) + (1 - overlap) min(read, compute),
    read = weights + experts (1 - miss^tokens) + kv context, compute = token tokens + pair pairs.
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

    def seconds(self, sequences: Any, tokens: Any, context: Any, pairs: Any = 0.0) -> Floats:
        """Duration of a step [s].

        Parameters
        ----------
        sequences : sequences that get their next output token.
        tokens : tokens computed: one per decoding sequence, and those of the prompts in the step.
        context : tokens of the cache that are read, summed over the decoding sequences.
        pairs : for each prompt token the tokens before it in its prompt, summed: s^2 / 2 for a whole prompt of s.
        """
        read = self.weights_s + self.experts_s * (1 - self.expert_miss ** np.asarray(tokens)) + self.kv_s * context
        compute = self.token_s * tokens + self.pair_s * pairs
        longer, shorter = np.maximum(read, compute), np.minimum(read, compute)
        return np.asarray(self.fixed_s + self.sequence_s * sequences + longer + (1 - self.overlap) * shorter)
