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

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.features import Layout
from isthmus.models.batch import FeatureBatch
from isthmus.models.by_hand import HandWritten, RunCut
from isthmus.models.halves import BottomOptions, Cuts, FieldsBottom, TopOptions, TowerTop
from isthmus.models.mlp import Masks, Pass
from isthmus.models.table import EmbeddingTable


class DeepFMBottom(FieldsBottom, HandWritten):
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
        options = BottomOptions(dim, hidden, dropout, embedding_std, seed)
        super().__init__(layout, options, np.random.default_rng(seed))
        self.dim = dim

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """The cut: `deep` [batch, hidden[-1]], `sum` [batch, dim], `first` [batch, 1], float32."""
        fields = self.table(batch)
        deep, total, first = _Bottom.apply(  # type: ignore[no-untyped-call]
            fields, self.tower.masks(fields), *self.tower.flat_parameters()
        )
        return {"deep": deep, "sum": total, "first": first}

    @torch.no_grad()
    def run(self, batch: FeatureBatch) -> RunCut:
        """The same without autograd, see `isthmus.models.by_hand`."""
        # `hand_written` offers no `run` to a bottom with pre-computed vectors.
        assert isinstance(self.table, EmbeddingTable)
        fields, to_table = self.table.run(batch)
        flat, total, first = _terms(fields)
        made = Pass(flat, self.tower.masks(fields), self.tower.flat_parameters())

        @torch.no_grad()
        def back(gradient: Mapping[str, Tensor]) -> None:
            of_flat = made.accumulate(gradient["deep"])
            to_table(_terms_back(fields, of_flat, gradient["sum"], gradient["first"]))

        return RunCut({"deep": made.output, "sum": total, "first": first}, back)


class DeepFMTop(TowerTop, HandWritten):
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
        options = TopOptions(hidden, dropout, seed)
        beside = {"sum": (dim,), "first": (1,)}
        super().__init__(widths, beside, options, np.random.default_rng(seed))

    def forward(self, cuts: Cuts) -> Tensor:
        """The logits, float32 [batch], from each party's cut."""
        tensors = self._tensors(cuts)
        logits: Tensor = _Top.apply(  # type: ignore[no-untyped-call]
            len(self.parties), self.tower.masks(tensors[0]), *tensors, *self._weights()
        )
        return logits

    @torch.no_grad()
    def run(self, cuts: Cuts) -> tuple[Tensor, Callable[[Tensor], dict[str, dict[str, Tensor]]]]:
        """The logits without autograd, and the way back to the cuts' gradients, see
        `isthmus.models.by_hand`.
        """
        tensors, parties = self._tensors(cuts), len(self.parties)
        made = _TopPass(parties, self.tower.masks(tensors[0]), tensors, self._weights())

        @torch.no_grad()
        def back(gradient: Tensor) -> dict[str, dict[str, Tensor]]:
            column = gradient.unsqueeze(1)
            found = made.split(column, made.tower.accumulate(column))
            return {
                party: dict(zip(_CUT, found[i::parties], strict=True))
                for i, party in enumerate(self.parties)
            }

        return made.logits, back

    def _tensors(self, cuts: Cuts) -> list[Tensor]:
        return [cuts[party][name] for name in _CUT for party in self.parties]

    def _weights(self) -> list[Tensor]:
        return self.tower.flat_parameters()


_CUT = ("deep", "sum", "first")


def _terms(fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From fields [batch, fields, dim + 1] to the flat vectors, their sum s_p, and o_p."""
    flat = fields[..., :-1].flatten(1)
    # Field by field: a sum over a dimension this short takes twice as long.
    one, *others = fields.unbind(1)
    for other in others:
        one = one + other
    first = one[:, -1:].add(torch.linalg.vecdot(flat, flat).unsqueeze(1), alpha=-0.5)
    return flat, one[:, :-1].contiguous(), first


def _terms_back(fields: Tensor, of_flat: Tensor, of_sum: Tensor, of_first: Tensor) -> Tensor:
    """The gradient of the fields: ds/dv_f = 1, do/dv_f = -v_f, do/dw_f = 1."""
    gradient = torch.empty_like(fields)
    vectors = gradient[..., :-1]
    torch.addcmul(
        of_sum.unsqueeze(1), fields[..., :-1], of_first.unsqueeze(1), value=-1.0, out=vectors
    )
    vectors.add_(of_flat.view(vectors.shape))
    gradient[..., -1] = of_first
    return gradient


class _Bottom(torch.autograd.Function):
    """From fields [batch, fields, dim + 1] to the tower's output, the sum s_p, and o_p."""

    @staticmethod
    def forward(
        ctx: Any, fields: Tensor, masks: Masks, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        flat, total, first = _terms(fields)
        ctx.fields, ctx.made = fields.detach(), Pass(flat, masks, parameters)
        deep: Tensor = ctx.made.output
        # Without the detour the pass and the graph would hold each other.
        ctx.made.output = deep.detach()
        return deep, total, first

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        of_deep, of_sum, of_first = gradients
        of_flat, found = ctx.made.back(of_deep)
        return _terms_back(ctx.fields, of_flat, of_sum, of_first), None, *found


class _TopPass:
    """One pass through the top.

    Args:
        parties: how many.
        masks: of the tower.
        tensors: each party's `deep`, then each one's s_p, then each one's o_p.
        parameters: of the tower.
    """

    def __init__(
        self, parties: int, masks: Masks, tensors: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> None:
        deeps, sums, firsts = (tensors[i * parties : (i + 1) * parties] for i in range(3))
        self.widths = [deep.shape[1] for deep in deeps]
        self.tower = Pass(torch.cat(tuple(deeps), 1), masks, parameters)
        self.total = sum(sums[1:], start=sums[0])
        first = sum(firsts[1:], start=firsts[0] + self.tower.output)
        self.logits = first.squeeze(1).add(torch.linalg.vecdot(self.total, self.total), alpha=0.5)

    def split(self, column: Tensor, of_deeps: Tensor) -> list[Tensor]:
        """From the gradients of the logits [batch, 1] and of all `deep` to those of `tensors`."""
        parties = len(self.widths)
        of_sums = [column * self.total] * parties
        return [*torch.split(of_deeps, self.widths, 1), *of_sums, *[column] * parties]


class _Top(torch.autograd.Function):
    """The logits [batch]: the upper tower of all `deep` + sum_p o_p + 1/2 |sum_p s_p|^2."""

    @staticmethod
    def forward(ctx: Any, parties: int, masks: Masks, *tensors: Tensor) -> Tensor:
        made = _TopPass(parties, masks, tensors[: 3 * parties], tensors[3 * parties :])
        logits, made.logits = made.logits, made.logits.detach()
        ctx.made = made
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        column = gradients[0].unsqueeze(1)
        of_deeps, found = ctx.made.tower.back(column)
        return None, None, *ctx.made.split(column, of_deeps), *found
