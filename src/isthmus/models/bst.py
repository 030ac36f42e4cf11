"""BST, the Behaviour Sequence Transformer: a history's items and the candidate see each other.

Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation in Alibaba", 2019 (arXiv
1905.06874), section 2. The candidate stands behind the newest item. Positions count from the newest
item on and not in time; and the upper tower takes the candidate's output and the mean of the items'
in place of all outputs side by side, so that its width does not grow with the length. How it is
split: `isthmus.models.histories`. Exact where history and candidate are at one party, or where the
history is sent; else the history is encoded without the candidate, and interests stand for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.models.attention import Interests, TransformerBlock
from isthmus.models.layers import normal
from isthmus.models.linear_encoder import LinearEncoder

Encoder = Literal["transformer", "linear"]
_ENCODERS = {"transformer": TransformerBlock, "linear": LinearEncoder}


@dataclass(frozen=True)
class Bst:
    """BST's way of reading, see `isthmus.models.histories.Style`."""

    dim: int = 16
    """Width of the embeddings, the same at all parties; a multiple of `heads`."""
    heads: int = 2
    layers: int = 1
    """Encoders on top of each other."""
    dropout: float = 0.0
    """Rate within the encoders."""
    encoder: Encoder = "transformer"
    std: float = 0.01
    """Standard deviation of the initial position embeddings."""
    tokens: int = 4
    """Interests that stand for a history whose candidate is elsewhere."""
    sent: bool = False
    """Whether such a history is sent whole instead."""
    hidden: int = 36
    """Width inside the candidate's attention."""

    def reader(self, length: int, rng: np.random.Generator) -> nn.Module:
        """The encoder over items and candidate."""
        return CandidateLast(Encoded(self, length + 1, rng))

    def digest(self, length: int, rng: np.random.Generator) -> nn.Module:
        """Interests of the items as the encoder leaves them."""
        return EncodedInterests(
            Encoded(self, length, rng), Interests(self.dim, self.tokens, length, rng)
        )


class Encoded(nn.Module):
    """Items with their positions, through the encoders.

    Args:
        style: what encoders, and how many.
        length: positions.
        rng: draws the initial values and the seeds of the dropout masks.
    """

    def __init__(self, style: Bst, length: int, rng: np.random.Generator) -> None:
        super().__init__()
        make = _ENCODERS[style.encoder]
        self.recency = nn.Parameter(normal(length, style.dim, style.std, rng))
        """By position; the last is the newest item's, or the candidate's."""
        self.encoders = nn.ModuleList(
            make(style.dim, style.heads, style.dropout, rng) for _ in range(style.layers)
        )

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """See `isthmus.models.attention.SequenceEncoder`."""
        x = items + self.recency
        for encoder in self.encoders:
            x = encoder(x, mask)
        return x


class CandidateLast(nn.Module):
    """Reads a history together with the candidate.

    Args:
        encoded: the encoder, for one position more than the history has.
    """

    def __init__(self, encoded: Encoded) -> None:
        super().__init__()
        self.encoded = encoded

    def forward(self, candidate: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """From [batch, dim], [batch, length, dim] and bool [batch, length] to [batch, 2 * dim].

        The candidate's output, and the mean of the items' (zeros where there is no item).
        """
        there = torch.cat((mask, torch.ones_like(mask[:, :1])), 1)
        out = self.encoded(torch.cat((items, candidate.unsqueeze(1)), 1), there)
        count = mask.sum(1, keepdim=True).clamp(min=1)
        return torch.cat((out[:, -1], out[:, :-1].sum(1) / count), 1)


class EncodedInterests(nn.Module):
    """Interests of an encoded history.

    Args:
        encoded: the encoder.
        interests: what mixes its outputs.
    """

    def __init__(self, encoded: Encoded, interests: Interests) -> None:
        super().__init__()
        self.encoded, self.interests = encoded, interests

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """From items [batch, length, dim] and mask [batch, length] to [batch, tokens, dim]."""
        mixed: Tensor = self.interests(self.encoded(items, mask), mask)
        return mixed
