"""DCN-V2 as a bottom and a top: cross layers of low rank over all parties' fields, split exactly.

Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021, arXiv 2008.13535, the parallel
structure with cross layers of low rank. With x_0 all fields' vectors side by side, [inputs],

    x_l = x_0 * (U_l V_l^T x_{l-1} + b_l) + x_{l-1}        l = 1 .. L; U_l, V_l [inputs, rank]

    y = sum_f w_f + w^T x_L + deep(x_0)                    w_f: the fields' linear terms

It looks as if every layer needed all parties' fields at once. It does not: with s_l = V_l^T x_{l-1}
[rank], unrolling gives

    x_l = x_0 * (1 + sum_{m <= l} (U_m s_m + b_m))

so that, V_{l,i} being a row of V_l and so on, and all sums over the inputs i,

    s_l     = t_l + sum_{m < l} A_{l,m} s_m
    w^T x_L = c   + sum_{m <= L} k_m . s_m

    A_{l,m} = sum_i x_{0,i} V_{l,i} U_{m,i}^T              [rank, rank]
    t_l     = sum_i x_{0,i} V_{l,i} (1 + sum_{m < l} b_{m,i})       [rank]
    k_m     = sum_i x_{0,i} w_i U_{m,i}                    [rank]
    c       = sum_i x_{0,i} w_i (1 + sum_{m <= L} b_{m,i})          a number

Everything on the right is linear in x_0 and a sum over inputs, hence a sum over parties. Each party
keeps the rows of U, V, b and w that belong to its own fields and sends A, t and k in one tensor
`cross` and c with its linear terms in `first`; the label party adds them up and runs the L small
recursions. For L = 1 that is a factorisation machine with two vectors a field.

Exact: loss and gradients are those of this network over all parties' fields, trained in one place;
no cross between parties is lost, at any depth. The price is width: `cross` holds
L (L - 1) / 2 rank^2 + 2 L rank numbers a sample, see `cross_width`. Lost is what every split tower
loses: the first layers of the deep part see one party's fields each. Not offered: cross layers of
full rank, mixtures of experts, and the stacked structure (a tower on top of x_L): their cut would
be as wide as all fields together.
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
from isthmus.models.layers import normal


def cross_width(layers: int, rank: int) -> int:
    """Numbers a sample in `cross`, for so many cross layers of that rank."""
    return layers * (layers - 1) // 2 * rank * rank + 2 * layers * rank


class Crosses(nn.Module):
    """A party's rows of all cross layers, and of the weights of their result.

    Args:
        inputs: width of the party's part of x_0.
        layers: how many cross layers.
        rank: of each.
        rng: draws the initial values.
    """

    def __init__(self, inputs: int, layers: int, rank: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.layers, self.rank = layers, rank
        std = 1.0 / math.sqrt(max(inputs, 1))
        # A cross then begins about as large as the product of two of its inputs.
        self.u = nn.Parameter(normal(inputs, layers * rank, 1.0 / math.sqrt(rank), rng))
        self.v = nn.Parameter(normal(inputs, layers * rank, std, rng))
        self.bias = nn.Parameter(torch.zeros(inputs, layers))
        self.weight = nn.Parameter(normal(inputs, 1, std, rng))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From the party's part of x_0, [batch, inputs], to its A, t and k as `cross` and its c.

        `cross` [batch, cross_width]: A_{2,1}, A_{3,1}, A_{3,2}, ..., then all t, then all k.
        """
        shape = (x.shape[1], self.layers, self.rank)
        u, v = self.u.view(shape), self.v.view(shape)
        # scale[:, l] = 1 + b_1 + ... + b_l
        scale = torch.cat([torch.ones_like(self.bias[:, :1]), 1.0 + self.bias.cumsum(1)], 1)
        of_a = [
            (v[:, i].unsqueeze(2) * u[:, j].unsqueeze(1)).flatten(1)
            for i in range(self.layers)
            for j in range(i)
        ]
        of_t = (v * scale[:, :-1].unsqueeze(2)).flatten(1)
        of_k = self.u * self.weight
        of_c = self.weight * scale[:, -1:]
        found = x @ torch.cat([*of_a, of_t, of_k, of_c], 1)
        return found[:, :-1], found[:, -1:]


def recursion(cross: Tensor, layers: int, rank: int) -> Tensor:
    """w^T x_L - c, [batch, 1], from all parties' summed `cross` [batch, cross_width]."""
    pairs = layers * (layers - 1) // 2
    a, t, k = torch.split(cross, [pairs * rank * rank, layers * rank, layers * rank], 1)
    a, t = a.reshape(len(a), pairs, rank, rank), t.reshape(len(t), layers, rank)
    s: list[Tensor] = []
    for i in range(layers):
        before = i * (i - 1) // 2
        new = t[:, i]
        for j in range(i):
            new = new + (a[:, before + j] * s[j].unsqueeze(1)).sum(2)
        s.append(new)
    return (k * torch.cat(s, 1)).sum(1, keepdim=True)


class DcnBottom(FieldsBottom):
    """A party's half: its embeddings, its rows of the cross layers and its lower tower.

    Args:
        layout: the party's encoded fields.
        options: what every bottom is told.
        layers: how many cross layers, the same at all parties.
        rank: of the cross layers, the same at all parties.
    """

    def __init__(
        self, layout: Layout, options: BottomOptions, *, layers: int = 2, rank: int = 8
    ) -> None:
        rng = np.random.default_rng(options.seed)
        super().__init__(layout, options, rng)
        self.crosses = Crosses(self.inputs, layers, rank, rng)

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """The cut: `deep` [batch, hidden[-1]], `cross` [batch, cross_width(layers, rank)], `first`
        [batch, 1], float32.
        """
        vectors, first = vectors_and_first(self.table(batch))
        x = vectors.flatten(1)
        cross, constant = self.crosses(x)
        return {"deep": self.tower(x), "cross": cross, "first": first + constant}


class DcnTop(TowerTop):
    """The label party's half: sums over parties, the recursion of the crosses, the upper tower.

    Args:
        widths: width of each party's `deep`, in the agreed order of the parties.
        options: what every top is told.
        layers: how many cross layers, the same at all parties.
        rank: of the cross layers, the same at all parties.
    """

    def __init__(
        self, widths: Mapping[str, int], options: TopOptions, *, layers: int = 2, rank: int = 8
    ) -> None:
        crossing = {"cross": (cross_width(layers, rank),), "first": (1,)}
        super().__init__(widths, crossing, options, np.random.default_rng(options.seed))
        self.layers, self.rank = layers, rank

    def forward(self, cuts: Cuts) -> Tensor:
        """The logits, float32 [batch], from each party's cut."""
        crossed = recursion(summed(cuts, self.parties, "cross"), self.layers, self.rank)
        deep: Tensor = self.tower(joined(cuts, self.parties, "deep"))
        return (deep + crossed + summed(cuts, self.parties, "first")).squeeze(1)
