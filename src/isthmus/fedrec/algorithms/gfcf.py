"""GF-CF on securely summed matrices: a linear graph filter and an ideal low-pass one, one round.

Shen, Wu, Zhang, Shan, Zhang, Letaief, Li: How Powerful is Graph Convolution for Recommendation?,
CIKM 2021. With n_u items of client u, g_i clients of item i and `R~ = D_U^-1/2 R D_I^-1/2`, client
u scores `x_u (R~'R~ + alpha D_I^-1/2 V V' D_I^1/2)`, V the K leading right singular vectors of R~.
`R~'R~ = D_I^-1/2 (sum_u x_u x_u' / n_u) D_I^-1/2` needs two sums over clients and nothing else: of
`x_u x_u' / n_u` and of `x_u` (which is what the rows of the first sum to). They are added up as
whole numbers of 64 bits. It equals GF-CF on the pooled data. The paper was not read
for this: the formula is as others give it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.algorithms._one_round import (
    OneRound,
    Words,
    WordSum,
    below_rarer,
    corner,
    diagonal,
    row_sums,
    whole,
)
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task

ONE = 2.0**32
"""Words count shares in steps of 1 / ONE, so that their sum is the same in any order."""


@dataclass(frozen=True)
class Settings:
    """GF-CF's numbers; the defaults are those of its paper for Gowalla and Yelp."""

    components: int = 256
    """K, singular vectors of the ideal filter."""
    alpha: float = 0.3
    """Weight of the ideal filter."""


class GFCF(OneRound):
    """Scores x_u F."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        self.settings = settings

    def learn(self) -> tuple[Floats, int]:
        """F, and the upper triangle and the counts that each client adds to."""
        shares, counts = summed(self.task)
        up = 8 * shares_sum(self.task).words
        return graph_filter(shares, counts, self.settings.components, self.settings.alpha), up

    def sum_of(self, what: str) -> WordSum | None:
        """The shares, and the items' counts."""
        return shares_sum(self.task) if what == "shares" else None

    def client_scores(self, clients: Longs) -> Floats:
        """x_u F."""
        return row_sums(self.task, clients, self.learned)


def summed(task: Task) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """sum_u x_u x_u' / n_u, float64 [M, M], and sum_u x_u, float64 [M].

    Each client's 1 / n_u is rounded to 32 bits behind the point.
    """
    items, one = task.population.items, shares_sum(task)
    words = one.mine() if task.fleet is None else task.fleet.words(one)
    found = words.astype(np.float64)
    size = corner(items)
    return whole(found[:size] / ONE, items, np.float64), found[size:]


def shares_sum(task: Task) -> WordSum:
    """`summed` as words of 64 bits: the upper triangle by rows, then the counts."""
    items = task.population.items
    size = corner(items)

    def mine() -> Words:
        train = task.population.train
        out = np.zeros(size + items, np.int64)
        _add_shares(train.indptr, train.items, diagonal(items), out)
        out[size:] = np.bincount(train.items, minlength=items)
        return out.view(np.uint64)

    def possible(words: Words, clients: int) -> bool:
        counts, own = words[size:], words[diagonal(items)]
        fits = int(counts.max(initial=0)) <= clients and below_rarer(words[:size], own)
        return fits and _adds_up(words[:size], counts.astype(np.float64))

    return WordSum("shares", size + items, mine, possible)


def _adds_up(corners: Words, counts: NDArray[np.float64]) -> bool:
    """Whether a row sums to how many have its item, as x_u' x_u / n_u = 1, but for rounding."""
    items = len(counts)
    sums = np.zeros(items)
    for row, at in enumerate(diagonal(items).tolist()):
        beside = corners[at : at + items - row].astype(np.float64)
        sums[row:] += beside
        sums[row] += beside[1:].sum()
    # A client rounds each of its at most M shares by half a step.
    return bool((np.abs(sums - ONE * counts) <= counts * (items / 2 + 1e-9 * ONE)).all())


def graph_filter(
    shares: NDArray[np.float64], counts: NDArray[np.float64], components: int, alpha: float
) -> Floats:
    """F of GF-CF, float32 [M, M], from the two sums of `summed`."""
    root = np.sqrt(counts)
    # An item that nobody has stays apart from all.
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    normal = inverse[:, None] * shares * inverse[None, :]
    _, vectors = np.linalg.eigh(normal)
    lead = vectors[:, ::-1][:, :components]
    ideal = (inverse[:, None] * lead) @ (lead.T * root[None, :])
    return np.asarray(normal + alpha * ideal, np.float32)


@compiled
def _add_shares(indptr: np.ndarray, items: np.ndarray, start: np.ndarray, out: np.ndarray) -> None:
    for client in range(len(indptr) - 1):
        own = items[indptr[client] : indptr[client + 1]]
        share = np.int64(np.rint(ONE / max(len(own), 1)))
        for place in range(len(own)):
            row = start[own[place]] - own[place]
            for other in own[place:]:
                out[row + other] += share


def _build(task: Task, settings: Settings, model: Model | None) -> GFCF:
    return GFCF(task, settings)


ALGORITHM = Algorithm(
    name="gfcf",
    title="One-round GF-CF",
    paper="Shen et al., CIKM 2021; on a secure sum",
    leaves="sums",
    private="which client has which item",
    settings=Settings,
    build=_build,
    rounds=1,
)
