"""Wide & Deep as a bottom and a top that compute one network over all parties' fields.

Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016, arXiv 1606.07792, equation
3. With the linear terms w_f of all fields f, already multiplied by the field's value, and the
fields' vectors v_f, the logit is

    y = sum_f w_f + deep(v_1, ..., v_F)

The wide part is a sum over fields, so a sum over parties of one number each. The deep part has one
lower tower a party, deep = upper(tower_1(v of party 1), tower_2(v of party 2), ...).

Exact: loss and gradients are those of this network trained in one place. Lost: the paper's wide
part also takes cross-products of chosen columns (phi in equation 3). A product of two columns of
one party is a column that the party can add to its table; one of columns of two parties cannot be
had, since neither party sees both. Lost too, as in every split tower: the first layers of the deep
part see one party's fields each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.batch import FeatureBatch
from isthmus.models.inputs import field_vectors
from isthmus.models.mlp import Mlp


class WideDeepBottom(nn.Module):
    """A party's half: its linear terms, its embeddings and its lower tower.

    Args:
        layout: the party's encoded fields.
        dim: width of the embeddings.
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
        self.table = field_vectors(layout, dim + 1, std=embedding_std, rng=rng)
        self.tower = Mlp(layout.gives * dim, hidden, dropout=dropout, rng=rng)

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """The cut: `deep` [batch, hidden[-1]] and `first` [batch, 1], float32."""
        vectors, first = vectors_and_first(self.table(batch))
        return {"deep": self.tower(vectors.flatten(1)), "first": first}


class WideDeepTop(nn.Module):
    """The label party's half: the sum of the wide parts and the upper tower.

    Args:
        widths: width of each party's `deep`, in the agreed order of the parties.
        hidden: widths of the upper tower.
        dropout: rate after each layer of the tower.
        seed: of the initial values and dropout masks.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.parties = tuple(widths)
        self.expects = {party: {"deep": (width,), "first": (1,)} for party, width in widths.items()}
        self.tower = Mlp(sum(widths.values()), hidden, outputs=1, dropout=dropout, rng=rng)

    def forward(self, cuts: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The logits, float32 [batch], from each party's cut."""
        deep: Tensor = self.tower(joined(cuts, self.parties, "deep"))
        return (deep + summed(cuts, self.parties, "first")).squeeze(1)


def vectors_and_first(fields: Tensor) -> tuple[Tensor, Tensor]:
    """From fields [batch, fields, dim + 1] to vectors [batch, fields, dim] and the sum of the
    linear terms [batch, 1].
    """
    return fields[..., :-1], fields[..., -1:].sum(1)


def joined(cuts: Mapping[str, Mapping[str, Tensor]], parties: Sequence[str], name: str) -> Tensor:
    """The parties' tensors `name` side by side: [batch, sum of widths, ...]."""
    return torch.cat([cuts[party][name] for party in parties], 1)


def summed(cuts: Mapping[str, Mapping[str, Tensor]], parties: Sequence[str], name: str) -> Tensor:
    """The sum over parties of the tensors `name`."""
    first, *others = (cuts[party][name] for party in parties)
    return sum(others, start=first)
