"""Parts of models that read histories: masks, a transformer block, and attention to a candidate.

All take positions [batch, length, width] with a mask that is True where there is an item. What
stands where there is none never changes a result, and a history without any item gives zeros.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.data.features import PADDING, Layout
from isthmus.models.batch import FeatureBatch
from isthmus.models.layers import Dropout, seeded_linear

_AWAY = -1e9
"""Added to the score of a position that holds nothing; not -inf, which makes NaN of a history of
such positions alone."""


def mask_of(batch: FeatureBatch, layout: Layout, name: str) -> Tensor:
    """Where the sequence `name` has an item, bool [batch, length].

    Raises:
        KeyError: the layout has no field of that name.
    """
    return batch.index[:, layout.field(name).columns] != PADDING


class SequenceEncoder(Protocol):
    """From items to items that know their neighbours; zeros where there is no item."""

    def __call__(self, x: Tensor, mask: Tensor) -> Tensor:
        """From float32 [batch, length, width] and bool [batch, length] to the first's shape."""


class FeedForward(nn.Module):
    """Two layers on each position alone, 4 times as wide inside, LeakyReLU and dropout between.

    Args:
        width: of a position.
        dropout: rate inside.
        rng: draws the initial values and the seed of the dropout masks.
    """

    def __init__(self, width: int, dropout: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.up = seeded_linear(width, 4 * width, rng)
        self.down = seeded_linear(4 * width, width, rng)
        self.dropout = Dropout(dropout, int(rng.integers(2**62)))

    def forward(self, x: Tensor) -> Tensor:
        """From float32 [batch, length, width] to the same shape."""
        inside = self.dropout(F.leaky_relu(self.up(x)))
        return cast(Tensor, self.down(inside))


class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward layer, each added to its input and then normalised.

    Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation in Alibaba", 2019
    (arXiv 1905.06874), section 2.2. The cost grows with the square of the length.

    Args:
        width: of a position; a multiple of `heads`.
        heads: attentions side by side, each on width / heads numbers.
        dropout: rate after the attention and inside the feed-forward layer.
        rng: draws the initial values and the seeds of the dropout masks.
    """

    def __init__(self, width: int, heads: int, dropout: float, rng: np.random.Generator) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
        self.heads = heads
        self.reads = _without_bias(seeded_linear(width, 3 * width, rng))
        self.mixes = seeded_linear(width, width, rng)
        self.dropout = Dropout(dropout, int(rng.integers(2**62)))
        self.feed = FeedForward(width, dropout, rng)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """See `SequenceEncoder`."""
        y: Tensor = self.norm(x + self.dropout(self._attend(x, mask)))
        z: Tensor = self.last_norm(y + self.feed(y))
        return z * mask.unsqueeze(-1)

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        parts = self.reads(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        away = torch.zeros_like(mask, dtype=x.dtype).masked_fill_(~mask, _AWAY)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=away[:, None, None, :])
        return cast(Tensor, self.mixes(mixed.transpose(1, 2).flatten(2)))


class TargetAttention(nn.Module):
    """The activation unit of DIN: what a history says about one candidate.

    Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018 (arXiv
    1706.06978), equation 3 and figure 2: sum_j a(v_j, c) v_j over the items v_j, where `a` is a
    small network of the item, the candidate c and their product. The weights do not add up to one:
    how much of a history speaks for the candidate is kept. The sum is divided by the root of the
    number of positions, a constant, so that long histories start with values of ordinary size.

    Args:
        width: of items and candidate.
        rng: draws the initial values.
        hidden: width inside; the authors' is 36.
    """

    def __init__(self, width: int, rng: np.random.Generator, hidden: int = 36) -> None:
        super().__init__()
        self.of_items = seeded_linear(2 * width, hidden, rng)
        self.of_candidate = seeded_linear(width, hidden, rng)
        self.slope = nn.Parameter(torch.full((hidden,), 0.25))
        self.weigh = seeded_linear(hidden, 1, rng)
        # Begins as a sum over all items: no weight, no gradient to the items.
        nn.init.ones_(self.weigh.bias)

    def weights(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """How much each item says about the candidate, float32 [batch, n]; 0 where is none."""
        pairs = torch.cat((keys, keys * query.unsqueeze(1)), -1)
        inside = self.of_items(pairs) + self.of_candidate(query).unsqueeze(1)
        scores: Tensor = self.weigh(F.prelu(inside.flatten(0, 1), self.slope)).view(mask.shape)
        return scores * mask

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """The weighted sum of the items.

        Args:
            query: the candidate, float32 [batch, width].
            keys: the items, float32 [batch, n, width].
            mask: where there is an item, bool [batch, n].

        Returns:
            float32 [batch, width]; zeros for a history without items.
        """
        weights = self.weights(query, keys, mask) / keys.shape[1] ** 0.5
        return torch.bmm(weights.unsqueeze(1), keys).squeeze(1)


class Interests(nn.Module):
    """A few mixtures of a history, by learned queries that know no candidate.

    Self-attentive extraction of Cen et al., "Controllable Multi-Interest Framework for
    Recommendation" (ComiRec), KDD 2020 (arXiv 2005.09347), with
    weights softmax(W2 tanh(W1 v_j + p_j)) over the items v_j; p_j depends on recency alone.

    Args:
        width: of an item.
        tokens: how many mixtures.
        length: positions of the history.
        rng: draws the initial values.
    """

    def __init__(self, width: int, tokens: int, length: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.inside = seeded_linear(width, 4 * width, rng)
        self.scores = _without_bias(seeded_linear(4 * width, tokens, rng))
        self.recency = nn.Parameter(torch.zeros(length, tokens))
        """By position; the last is the newest item's."""

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """From items [batch, length, width] and mask [batch, length] to [batch, tokens, width].

        A history without items gives zeros.
        """
        scores = self.scores(torch.tanh(self.inside(items))) + self.recency
        there = mask.unsqueeze(-1)
        weights = scores.masked_fill(~there, _AWAY).softmax(1) * there
        return torch.bmm(weights.transpose(1, 2), items)


def _without_bias(layer: nn.Linear) -> nn.Linear:
    """As in the papers. A softmax does not see a bias: its gradient would be rounding alone, which
    Adam makes as large as any other.
    """
    layer.register_parameter("bias", None)
    return layer
