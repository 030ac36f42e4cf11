"""AutoInt as a bottom and a top: self-attention over a party's fields, then over parties' tokens.

Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks",
CIKM 2019, arXiv 1810.11921, the interacting layer (equations 5 to 8). With head h and fields m, k,

    a_{m,k}^h = softmax_k <Q_h e_m, K_h e_k>
    e_m'      = relu( [sum_k a_{m,k}^h V_h e_k]_h + R e_m )

A bottom runs such layers over its own fields and makes of the n results a fixed number of tokens,
by learned queries z_j: token_j = sum_k softmax_k <z_j, e_k'> e_k'. The top runs such layers over
all parties' tokens. With the fields' linear terms w_f,

    y = sum_f w_f + linear(the top's results) + deep(v_1, ..., v_F)

where deep has one lower tower a party, as in the paper's AutoInt+.

Exact: loss and gradients are those of this network trained in one place. It is not the AutoInt
that attends over all parties' fields at once: there a field of one party meets each single field of
another, here it meets that party's tokens, which are mixtures. How many fields a party has is not
told to others; what a token was mixed of neither. Exact attention between parties would need every
field's vector at the label party.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.batch import FeatureBatch
from isthmus.models.halves import (
    BottomOptions,
    Cuts,
    FieldsBottom,
    TopOptions,
    TowerTop,
    joined,
    summed,
    vectors_and_first,
)
from isthmus.models.layers import normal, seeded_linear


class InteractingLayer(nn.Module):
    """Self-attention over a set of vectors, with a residual and ReLU.

    Args:
        inputs: width of the vectors.
        width: of the results, all heads side by side; a multiple of `heads`.
        heads: how many.
        rng: draws the initial values.
    """

    def __init__(self, inputs: int, width: int, heads: int, rng: np.random.Generator) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared out to {heads} heads")
        self.heads = heads
        std = 1.0 / math.sqrt(inputs)
        self.queries, self.keys, self.values = (
            nn.Parameter(normal(inputs, width, std, rng)) for _ in range(3)
        )
        self.residual = nn.Parameter(normal(inputs, width, std, rng))

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, n, inputs] to [batch, n, width]."""
        query, key, value = (
            (x @ w).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for w in (self.queries, self.keys, self.values)
        )
        attention = (query @ key.transpose(2, 3)).softmax(3)
        mixed = (attention @ value).transpose(1, 2).flatten(2)
        return torch.relu(mixed + x @ self.residual)


def interacting(
    inputs: int, width: int, heads: int, layers: int, rng: np.random.Generator
) -> nn.Sequential:
    """So many interacting layers, the first from `inputs` to `width`."""
    return nn.Sequential(
        *(InteractingLayer(width if i else inputs, width, heads, rng) for i in range(layers))
    )


class AutoIntBottom(FieldsBottom):
    """A party's half: its embeddings, attention over its fields, tokens, and its lower tower.

    Args:
        layout: the party's encoded fields.
        options: what every bottom is told.
        heads, layers: of the attention over the party's fields.
        width: of a token; the same at all parties, a multiple of `heads`.
        tokens: how many; the same at all parties.
    """

    def __init__(
        self,
        layout: Layout,
        options: BottomOptions,
        *,
        heads: int = 2,
        layers: int = 1,
        width: int = 16,
        tokens: int = 4,
    ) -> None:
        rng = np.random.default_rng(options.seed)
        super().__init__(layout, options, rng)
        self.attention = interacting(options.dim, width, heads, layers, rng)
        self.seeks = nn.Parameter(normal(tokens, width, 1.0 / math.sqrt(width), rng))

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """The cut: `deep` [batch, hidden[-1]], `tokens` [batch, tokens, width], `first` [batch, 1],
        float32.
        """
        vectors, first = vectors_and_first(self.table(batch))
        x = self.attention(vectors)
        tokens = (self.seeks @ x.transpose(1, 2)).softmax(2) @ x
        return {"deep": self.tower(vectors.flatten(1)), "tokens": tokens, "first": first}


class AutoIntTop(TowerTop):
    """The label party's half: attention over all parties' tokens, the wide sum, the upper tower.

    Args:
        widths: width of each party's `deep`, in the agreed order of the parties.
        options: what every top is told.
        heads, layers: of the attention over the tokens.
        width: of a token; the same at all parties, a multiple of `heads`.
        tokens: how many from each party.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        options: TopOptions,
        *,
        heads: int = 2,
        layers: int = 1,
        width: int = 16,
        tokens: int = 4,
    ) -> None:
        rng = np.random.default_rng(options.seed)
        super().__init__(widths, {"tokens": (tokens, width), "first": (1,)}, options, rng)
        self.attention = interacting(width, width, heads, layers, rng)
        self.out = seeded_linear(len(widths) * tokens * width, 1, rng)

    def forward(self, cuts: Cuts) -> Tensor:
        """The logits, float32 [batch], from each party's cut."""
        x = self.attention(joined(cuts, self.parties, "tokens"))
        deep: Tensor = self.tower(joined(cuts, self.parties, "deep"))
        attended: Tensor = self.out(x.flatten(1))
        return (deep + attended + summed(cuts, self.parties, "first")).squeeze(1)
