"""Labels as a tree that a model scores in one pass: what they share stands once, each token sees its ancestors alone.

Tree attention as in SpecInfer (Miao et al., arXiv:2305.09781, section 4.2), which verifies guessed tokens so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LabelTree:
    """Sequences of tokens that share what they begin with.

    Node 0 is the last token of the prompt, which is not part of the tree; the others are the tokens that a model must
    be shown. The last token of a sequence is never shown: only its probability counts.

    Parameters
    ----------
    tokens, parents, depths : of the nodes but 0; children of node 0 have depth 1.
    edges : a node, and a token that may follow it.
    paths : of each sequence: its edges.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    paths: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)


def label_tree(sequences: Sequence[Sequence[int]]) -> LabelTree:
    """The tree of some sequences of tokens, none of them empty."""
    nodes: dict[tuple[int, ...], int] = {(): 0}
    edges: dict[tuple[int, int], int] = {}
    paths = []
    for sequence in sequences:
        path = []
        for length, token in enumerate(sequence):
            node = nodes.setdefault(tuple(sequence[:length]), len(nodes))
            path.append(edges.setdefault((node, token), len(edges)))
        paths.append(tuple(path))
    shown = list(nodes)[1:]
    return LabelTree(
        tokens=tuple(way[-1] for way in shown), parents=tuple(nodes[way[:-1]] for way in shown),
        depths=tuple(map(len, shown)), edges=tuple(edges), paths=tuple(paths),
    )  # fmt: skip


def ancestors(tree: LabelTree) -> list[list[bool]]:
    """Which nodes each node may see: itself and those before it on its way; the prompt is not among them."""
    sees: list[list[bool]] = []
    for node, parent in enumerate(tree.parents):
        row = list(sees[parent - 1]) if parent else [False] * len(tree)
        row[node] = True
        sees.append(row)
    return sees


def tree_mask(real: Any, shared: int, tree: LabelTree, dtype: Any) -> Any:
    """What is added to attention scores where prompts stand before a tree: 0 where a token may look, else the least.

    Parameters
    ----------
    real : which tokens of the prompts are no padding, shape (rows, length), padded on the left.
    shared : tokens before them whose keys and values are kept.
    dtype : of the model.

    Returns
    -------
    Shape (rows, 1, length + nodes, shared + length + nodes).
    """
    import torch

    rows, length = real.shape
    sees = torch.zeros(rows, length + len(tree), shared + length + len(tree), dtype=torch.bool, device=real.device)
    sees[:, :, :shared] = True
    sees[:, :, shared : shared + length] = real[:, None].bool()
    sees[:, :length, shared : shared + length] &= torch.ones(length, length, device=real.device).tril().bool()
    sees[:, length:, shared + length :] = torch.tensor(ancestors(tree), device=real.device)
    mask = torch.zeros(sees.shape, dtype=dtype, device=real.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def path_scores(logits: Any, tree: LabelTree) -> Any:
    """Log-probability of each sequence of a tree: the sum over its edges [nats].

    Parameters
    ----------
    logits : of node 0 and of the others, shape (rows, 1 + nodes, vocabulary).

    Returns
    -------
    Shape (rows, sequences), float64.
    """
    import torch

    wide = logits.float()
    at, token = (torch.tensor(column, device=wide.device) for column in zip(*tree.edges, strict=True))
    edges = (wide[:, at, token] - wide.logsumexp(-1)[:, at]).double()
    return torch.stack([edges[:, list(path)].sum(1) for path in tree.paths], 1)
