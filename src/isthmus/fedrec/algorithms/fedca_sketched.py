"""FedCA from noised similarity: clients are compared by noised sketches, tables are only summed.

Ours, for a server that must not see tables. FedCA (Zhang et al., arXiv 2406.03933) compares whole
tables and mixes them by weights of each client's own. Here

1. once, after the first round, each client sends a sketch of its direction: its table's change
   from the common start, projected to `sketch` numbers by a matrix known to all, brought to length
   1, with normal noise. That is `epsilon`-differentially private for all of its data (delta 1e-5;
   two sketches are 2 apart at most, exact Gaussian mechanism);
2. the server groups the noised sketches by K-means; groups below `least` join their nearest;
3. each round the tables of each group are *summed*, under masks with `--secure-sum`, and all
   groups' mean tables go to all clients;
4. each client finds at home, with its own sketch without noise, s_u, and the groups' directions
   c_g, FedCA's weights over groups instead of clients, p_g = |g| / U:

       w_u = Proj_simplex((p + alpha / (1 + |s_u - c_g|) - beta cos(s_u, c_g) / 2) / (1 + alpha))

   and takes `Q_u <- rho Q_u + (1 - rho) sum_g w_ug mean_g`.

Under a secure sum the server learns each client's noised sketch, so its group, and the groups'
sums. The sums carry no noise. Johnson and Lindenstrauss (1984) for the projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms import _gaussian
from isthmus.fedrec.algorithms._clusters import k_means
from isthmus.fedrec.algorithms._simplex import project
from isthmus.fedrec.algorithms._uploaded import uploaded
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm, Arrays, RoundReport, Watch
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Uploads

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """The numbers; those of FedCA are the defaults of its released code."""

    epsilon: float = 8.0
    """Of the sketch, sent once; 0: without noise, and so without privacy."""
    sketch: int = 4
    """Numbers of a sketch."""
    groups: int = 8
    """Groups of clients at most."""
    least: int = 10
    """Clients of a group at least, where there are enough."""
    alpha: float = 0.3
    """Weight of similarity."""
    beta: float = 0.3
    """Weight of complementarity."""
    interpolation: float = 0.9
    """rho, what a client keeps of its own table each round."""

    def __post_init__(self) -> None:
        if self.sketch < 1 or self.groups < 1 or self.least < 3:
            raise JobError("sketch and groups must be 1 or more, least 3 or more")
        if self.epsilon < 0:
            raise JobError("epsilon must be at least 0")


class SketchedFedCA(OwnTables):
    """Own tables; each client mixes its own with means of groups."""

    masks_sums = True

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model)
        self.settings = settings
        count = task.population.clients
        self.of: Longs = np.full(count, -1)
        """int64 [U], each client's group; -1 before there are any."""
        self.sketches: Matrix = np.zeros((count, settings.sketch))
        """On the devices: s_u."""
        self.directions: Matrix = np.zeros((0, settings.sketch))
        """The groups' c_g, which all know."""

    def round(self, number: int, watch: Watch) -> RoundReport:
        """As the base has it; under masks whole tables go up, in words of 64 bits."""
        report = super().round(number, watch)
        if self.task.sealing is None:
            return report
        words = self.items[0].size + self.network[0].size
        return replace(report, up=report.clients * (8 * words + 32))

    def mix(self, uploads: Iterator[Uploads], number: int) -> int:
        """Sum by groups; each client mixes at home."""
        tables, networks = self._sent(uploads)
        if self.of[0] < 0:
            self._group()
        members = [np.flatnonzero(self.of == group) for group in range(len(self.directions))]
        means = np.stack([self._mean(tables, networks, one) for one in members])
        sizes = np.array([len(one) for one in members], np.float64)
        w = weights(sizes, self.sketches, self.directions, self.settings).astype(np.float32)
        keep, size = np.float32(self.settings.interpolation), self.items[0].size
        for client in range(len(w)):
            mixed = (1 - keep) * (w[client] @ means)
            self.items[client] *= keep
            self.items[client] += mixed[:size].reshape(self.items.shape[1:])
            self.network[client] = keep * self.network[client] + mixed[size:]
        return len(members) * len(w)

    def _sent(self, uploads: Iterator[Uploads]) -> tuple[Floats, Floats]:
        nets: list[Floats] = []

        def kept() -> Iterator[Uploads]:
            for chunk in uploads:
                nets.append(chunk.network)
                yield chunk

        return uploaded(self, kept()), np.concatenate(nets)

    def _mean(self, tables: Floats, networks: Floats, members: Longs) -> Floats:
        """The mean of what these clients sent, table and network, float32 [M d + t]."""
        vectors = (
            np.concatenate([tables[one].ravel(), networks[one]]).astype(np.float64)
            for one in members.tolist()
        )
        sealing = self.task.sealing
        total = _sum(vectors) if sealing is None else sealing.total(vectors, members)
        return np.asarray(total / len(members), np.float32)

    def _group(self) -> None:
        """The sketches, on the devices; the groups, at the server."""
        settings, start = self.settings, self.model.initial.items
        rng = self.task.generator(randomness.AGGREGATION)
        onto = rng.standard_normal((start.size, settings.sketch), np.float32)
        for client, table in enumerate(self.items):
            found = ((table - start).ravel() @ onto).astype(np.float64)
            self.sketches[client] = found / max(float(np.linalg.norm(found)), 1e-12)
        noised = self.sketches.copy()
        if settings.epsilon > 0:
            deviation = 2 * multiplier(settings.epsilon)
            _add_noise(noised, self.task.seed, self.task.shard.identity, deviation)
        self.of = grouped(noised, settings, rng)
        centres = [noised[self.of == one].mean(axis=0) for one in range(int(self.of.max()) + 1)]
        sizes = [max(float(np.linalg.norm(one)), 1e-12) for one in centres]
        self.directions = np.stack([c / size for c, size in zip(centres, sizes, strict=True)])

    def state(self) -> Arrays:
        """As the base has it, and the groups."""
        return super().state() | {
            "of": self.of, "sketches": self.sketches, "directions": self.directions
        }  # fmt: skip

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        self.of, self.sketches = state["of"], state["sketches"]
        self.directions = state["directions"]


def weights(sizes: Matrix, own: Matrix, directions: Matrix, settings: Settings) -> Matrix:
    """Each client's weights over the groups, rows on the simplex, float64 [n, G].

    Args:
        sizes: clients of each group, float64 [G].
        own: s_u, rows of length 1, float64 [n, k].
        directions: c_g, rows of length 1, float64 [G, k].
        settings: the numbers.
    """
    p = (sizes / sizes.sum())[None, :]
    cosine = own @ directions.T
    away = np.sqrt(np.maximum(2 - 2 * cosine, 0))
    wanted = p + settings.alpha / (1 + away) - settings.beta * cosine / 2
    return project(wanted / (1 + settings.alpha))


def multiplier(epsilon: float) -> float:
    """The least noise for this epsilon at delta 1e-5, by the sensitivity."""
    low, high = 1e-2, 1e4
    while high / low > 1 + 1e-6:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _gaussian.epsilon(middle) > epsilon else (low, middle)
    return high


def grouped(points: Matrix, settings: Settings, rng: np.random.Generator) -> Longs:
    """The group of each point, numbered from 0 without gaps; small ones join their nearest."""
    of = k_means(points, min(settings.groups, len(points)), rng)
    sizes = np.bincount(of)
    large = np.flatnonzero(sizes >= min(settings.least, sizes.max()))
    centres = np.stack([points[of == one].mean(axis=0) for one in large])
    away = np.linalg.norm(points[:, None] - centres[None], axis=2)
    joined = np.where(np.isin(of, large), np.searchsorted(large, of), away.argmin(axis=1))
    return joined.astype(np.int64)


def _sum(vectors: Iterator[Matrix]) -> Matrix:
    total = next(vectors).copy()
    for one in vectors:
        total += one
    return total


@compiled
def _add_noise(points: np.ndarray, seed: int, clients: np.ndarray, deviation: float) -> None:
    for place in range(len(points)):
        state = randomness.stream(seed, randomness.NOISE, 0, clients[place])
        for k in range(points.shape[1]):
            state, drawn = randomness.gaussian(state)
            points[place, k] += deviation * drawn


def _build(task: Task, settings: Settings, model: Model) -> SketchedFedCA:
    return SketchedFedCA(task, model, settings)


ALGORITHM = Algorithm(
    name="fedca-sketched",
    title="FedCA from noised sketches",
    paper="ours, after Zhang et al., ACM TOIS 2026",
    leaves="sums",
    private="the user's vector, and under a secure sum its table",
    settings=Settings,
    build=_build,
    backbones=("fcf", "fedncf", "pfedrec"),
)
