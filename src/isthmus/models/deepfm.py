"""DeepFM as a bottom and a top that compute the function of one DeepFM over all parties' fields.

Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017,
equations 1 to 4. With fields f, their vectors v_f and linear terms w_f (both already multiplied by
the field's value), the logit is

    y = sum_f w_f + sum_{f<g} <v_f, v_g> + deep(v_1, ..., v_F)

The pairwise term is 1/2 (|sum_f v_f|^2 - sum_f |v_f|^2) (Rendle, "Factorization Machines", ICDM
2010, lemma 3.1), and both sums go over parties as they go over fields. So with, per party p,

    s_p = sum_{f in p} v_f                                  [batch, dim]
    o_p = sum_{f in p} w_f - 1/2 sum_{f in p} |v_f|^2       [batch, 1]

    y = sum_p o_p + 1/2 |sum_p s_p|^2 + deep

holds exactly, and so do the gradients. A party's squared norms and linear terms are needed only in
the combination o_p; sending one number in place of two also tells the label party less. The deep
part has one lower tower a party: deep = upper(tower_1(v of party 1), tower_2(v of party 2), ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.batch import FeatureBatch
from isthmus.models.mlp import Mlp
from isthmus.models.table import EmbeddingTable


class DeepFMBottom(nn.Module):
    """A party's half: its embeddings, its linear terms and its lower tower.

    Args:
        layout: the party's encoded fields.
        dim: width of the embeddings, the same at all parties.
        hidden: widths of the lower tower; the last is the width of `deep`.
        dropout: rate after each layer of the tower.
        embedding_std: standard deviation of the initial embeddings.
        seed: of the initial values and dropout masks; the party's own.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        dim: int = 16,
        hidden: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        embedding_std: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.dim = dim
        self.table = EmbeddingTable(layout, dim + 1, std=embedding_std, rng=rng)
        self.tower = Mlp(len(layout.fields) * dim, hidden, dropout=dropout, rng=rng)

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """The cut: `deep` [batch, hidden[-1]], `sum` [batch, dim], `first` [batch, 1], float32."""
        flat, total, first = _Terms.apply(self.table(batch))  # type: ignore[no-untyped-call]
        return {"deep": self.tower(flat), "sum": total, "first": first}


class DeepFMTop(nn.Module):
    """The label party's half: the sum over parties, the interaction, the upper tower.

    Args:
        widths: width of each party's `deep`, in the agreed order of the parties.
        dim: width of the embeddings, the same at all parties.
        hidden: widths of the upper tower.
        dropout: rate after each layer of the tower.
        seed: of the initial values and dropout masks.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        dim: int = 16,
        hidden: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.parties = tuple(widths)
        self.expects = {
            party: {"deep": (width,), "sum": (dim,), "first": (1,)}
            for party, width in widths.items()
        }
        self.tower = Mlp(sum(widths.values()), hidden, outputs=1, dropout=dropout, rng=rng)

    def forward(self, cuts: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The logits, float32 [batch], from each party's cut."""
        parts = [cuts[party] for party in self.parties]
        sums, firsts = [part["sum"] for part in parts], [part["first"] for part in parts]
        pairs: Tensor = _Interaction.apply(*sums, *firsts)  # type: ignore[no-untyped-call]
        deep: Tensor = self.tower(torch.cat([part["deep"] for part in parts], 1))
        return pairs + deep.squeeze(1)


class _Terms(torch.autograd.Function):
    """From fields [batch, fields, dim + 1] to the flat vectors, their sum s_p, and o_p.

    With v_f and w_f the parts of a field, ds/dv_f = 1, do/dv_f = -v_f, do/dw_f = 1.
    """

    @staticmethod
    def forward(ctx: Any, fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = fields[..., :-1].flatten(1)
        summed = fields.sum(1)
        first = summed[:, -1:].add(torch.linalg.vecdot(flat, flat).unsqueeze(1), alpha=-0.5)
        ctx.fields = fields.detach()
        return flat, summed[:, :-1].contiguous(), first

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        of_flat, of_sum, of_first = gradients
        fields: Tensor = ctx.fields
        gradient = torch.empty_like(fields)
        vectors = gradient[..., :-1]
        torch.addcmul(
            of_sum.unsqueeze(1), fields[..., :-1], of_first.unsqueeze(1), value=-1.0, out=vectors
        )
        vectors.add_(of_flat.view(vectors.shape))
        gradient[..., -1] = of_first
        return gradient


class _Interaction(torch.autograd.Function):
    """From each party's s_p [batch, dim] and o_p [batch, 1] to sum_p o_p + 1/2 |sum_p s_p|^2."""

    @staticmethod
    def forward(ctx: Any, *terms: Tensor) -> Tensor:
        parties = len(terms) // 2
        total = sum(terms[1:parties], start=terms[0])
        first = sum(terms[parties + 1 :], start=terms[parties])
        ctx.total, ctx.parties = total.detach(), parties
        return first.squeeze(1).add(torch.linalg.vecdot(total, total), alpha=0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, ...]:
        column = gradients[0].unsqueeze(1)
        return (*[column * ctx.total] * ctx.parties, *[column] * ctx.parties)
