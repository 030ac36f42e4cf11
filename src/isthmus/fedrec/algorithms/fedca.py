"""FedCA: each client's table is mixed with those of similar and complementary clients.

Zhang, Liu, Li, Zhong, Sun, Wang, Yin, Guo: Beyond Similarity: Personalized Federated
Recommendation with Composite Aggregation (arXiv 2406.03933; ACM TOIS 2026). For each client u of
those chosen

    min_w  sum_v (w_v - p_v)^2 + alpha sum_v (w_v - sim_uv)^2 - beta sum_v w_v c_uv

over the simplex, p_v = n_v / sum n, `sim_uv = 1 / (1 + |Q_u - Q_v|)`, phi_uv the angle between the
first `k` right singular vectors of the clients' interacted item rows. The problem is separable:
`w = Proj_simplex((p + alpha sim + beta c / 2) / (1 + alpha))`. The client then takes
`Q_u <- rho Q_u + (1 - rho) sum_v w_v Q_v`: an interpolation, no proximal term.

`variant="paper"`: c = -cos phi, so that clients whose subspaces lie apart are rewarded, as the
text says (`reward="aligned"` takes c = cos phi, as the printed formula reads).

`variant="authors"` is what the released code does (commit b8e6802): similarity by the distance of
first principal scores; c the cosine of the mean angle of greedily paired components of *all*
sampled rows, negatives among them, which is larger for *aligned* subspaces; no `alpha w^2`; and the
weights are crossed, so that alpha weighs c: `w = Proj_simplex(p + alpha c + beta sim)`.

In both only a share of the clients, drawn each round, is mixed at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.algorithms import _affinity as affinity
from isthmus.fedrec.algorithms._simplex import project
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.mixed_tables import MixedTables, Mixtures, Sent
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Uploads

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """FedCA's numbers; the defaults are those of the released code."""

    variant: Literal["paper", "authors"] = "paper"
    """The paper's objective, or what the released code does."""
    alpha: float = 0.3
    """Weight of similarity (of complementarity in the released code)."""
    beta: float = 0.3
    """Weight of complementarity (of similarity in the released code)."""
    interpolation: float = 0.9
    """rho, what a client keeps of its own table when it is mixed."""
    mixed: float = 0.1
    """Share of the clients that are mixed with each other in a round."""
    components: int = 4
    """k, dimensions of the subspaces whose angles are taken."""
    reward: Literal["complementary", "aligned"] = "complementary"
    """Which subspaces the paper variant gives weight to."""


class FedCA(MixedTables):
    """Own tables; a share of the clients is mixed by composite weights each round."""

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model)
        self.settings = settings
        self.mixed = settings.mixed
        self.more_up = (model.sizes.shared, model.sizes.shared)

    def sent(self, chunk: Uploads, place: int) -> Sent:
        """With the scatter matrix of the client's rows."""
        own = slice(chunk.indptr[place], chunk.indptr[place + 1])
        scatter = self._scatter(chunk.rows[own].astype(np.float64), chunk, place)
        return replace(super().sent(chunk, place), more=scatter)

    def mixtures(self, sent: Sequence[Sent]) -> Mixtures:
        """Composite aggregation among the round's chosen clients."""
        tables = np.stack([one.table for one in sent])
        networks = np.stack([one.network for one in sent])
        weights = np.array([one.weight for one in sent])
        basis = affinity.leading(np.stack([one.more for one in sent]), self.settings.components)
        w = composite(weights, tables, basis, self.settings).astype(np.float32)
        items, network = (
            (w @ all_.reshape(len(sent), -1)).reshape(all_.shape) for all_ in (tables, networks)
        )
        clients = np.array([one.client for one in sent])
        return Mixtures(clients, items, network, np.zeros((len(sent), 0), np.float32))

    def take(self, mixtures: Mixtures) -> None:
        """Each client blends its own table, as trained, with the mixture that it is sent."""
        keep, chosen = np.float32(self.settings.interpolation), mixtures.clients
        pairs = ((self.items, mixtures.items), (self.network, mixtures.network))
        for mine, mixed in pairs:
            mine[chosen] = keep * mine[chosen] + (1 - keep) * mixed

    def _scatter(self, rows: Matrix, chunk: Uploads, place: int) -> Matrix:
        """On a client: the scatter matrix [d, d] of the rows that span its subspace."""
        own = slice(chunk.indptr[place], chunk.indptr[place + 1])
        if self.settings.variant == "authors":
            counts = chunk.counts[own].astype(np.float64)
            rows = rows - (counts @ rows) / max(counts.sum(), 1.0)
            return np.asarray((rows * counts[:, None]).T @ rows)
        liked = self.task.population.train.of(int(chunk.clients[place]))
        rows = rows[np.isin(chunk.items[own], liked)]
        return np.asarray(rows.T @ rows)


def composite(weights: Matrix, tables: np.ndarray, basis: Matrix, settings: Settings) -> Matrix:
    """The mixing weights of n clients for each other, rows on the simplex, float64 [n, n].

    Args:
        weights: n_u, float64 [n].
        tables: float32 [n, M, d].
        basis: the clients' subspaces, orthonormal rows, float64 [n, k, d].
        settings: FedCA's numbers.
    """
    p = (weights / weights.sum())[None, :]
    alpha, beta = settings.alpha, settings.beta
    if settings.variant == "authors":
        likeness = 1 / (1 + affinity.distances(affinity.principal_scores(tables)))
        likeness[likeness > 0.9] = 1.0
        aligned = np.cos(affinity.greedy_angle(basis))
        return project(p + alpha * aligned + beta * likeness)
    flat = tables.reshape(len(tables), -1).astype(np.float64)
    likeness = 1 / (1 + affinity.distances(flat - flat.mean(axis=0)))
    aligned = np.cos(affinity.principal_angle(basis))
    reward = aligned if settings.reward == "aligned" else -aligned
    return project((p + alpha * likeness + beta * reward / 2) / (1 + alpha))


def _build(task: Task, settings: Settings, model: Model) -> FedCA:
    return FedCA(task, model, settings)


ALGORITHM = Algorithm(
    name="fedca",
    title="FedCA",
    paper="Zhang et al., ACM TOIS 2026, arXiv 2406.03933",
    leaves="tables",
    private="the user's vector",
    settings=Settings,
    build=_build,
    backbones=("fcf", "fedncf", "pfedrec"),
)
