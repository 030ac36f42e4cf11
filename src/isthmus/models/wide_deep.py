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

from collections.abc import Mapping

import numpy as np
from torch import Tensor

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


class WideDeepBottom(FieldsBottom):
    """A party's half: its linear terms, its embeddings and its lower tower.

    Args:
        layout: the party's encoded fields.
        options: what every bottom is told.
    """

    def __init__(self, layout: Layout, options: BottomOptions) -> None:
        super().__init__(layout, options, np.random.default_rng(options.seed))

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """The cut: `deep` [batch, hidden[-1]] and `first` [batch, 1], float32."""
        vectors, first = vectors_and_first(self.table(batch))
        return {"deep": self.tower(vectors.flatten(1)), "first": first}


class WideDeepTop(TowerTop):
    """The label party's half: the sum of the wide parts and the upper tower.

    Args:
        widths: width of each party's `deep`, in the agreed order of the parties.
        options: what every top is told.
    """

    def __init__(self, widths: Mapping[str, int], options: TopOptions) -> None:
        super().__init__(widths, {"first": (1,)}, options, np.random.default_rng(options.seed))

    def forward(self, cuts: Cuts) -> Tensor:
        """The logits, float32 [batch], from each party's cut."""
        deep: Tensor = self.tower(joined(cuts, self.parties, "deep"))
        return (deep + summed(cuts, self.parties, "first")).squeeze(1)
