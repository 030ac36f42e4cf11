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
from isthmus.fedrec.algorithms._one_round import Words
from isthmus.fedrec.algorithms._simplex import project
from isthmus.fedrec.algorithms._uploaded import uploaded
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm, Arrays, RoundReport, Watch
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.privacy.keyed import normals
from isthmus.fedrec.privacy.secure_sum import decoded, encoded
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Uploads

Matrix = NDArray[np.float64]
_WIDEST = 1e4
"""The largest deviation of a sketch's noise, by its sensitivity."""


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
        least = _gaussian.epsilon(_WIDEST)
        if self.epsilon < 0 or 0 < self.epsilon < least:
            raise JobError(f"epsilon must be 0 or at least {least:.2g}")


class SketchedFedCA(OwnTables):
    """Own tables; each client mixes its own with means of groups."""

    masks_sums = True
    PRIVATE = ("items", "network", "user", "sketches", "first")
    """What of the state is with the clients."""

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model)
        self.settings = settings
        count, here = task.population.clients, len(self.items)
        self.of: Longs = np.full(count, -1)
        """int64 [U], each client's group; -1 before there are any."""
        self.directions: Matrix = np.zeros((0, settings.sketch))
        """The groups' c_g, which all know."""
        self.sketches: Matrix = np.zeros((here, settings.sketch))
        """On the devices: s_u."""
        self.first: Longs = np.zeros(here, np.int64)
        """On the devices: the round in which s_u was made; 0: not yet."""

    @property
    def size(self) -> int:
        """Numbers of a client's table and network."""
        return self.model.initial.items.size + self.model.initial.network.size

    def round(self, number: int, watch: Watch) -> RoundReport:
        """As the base has it; under masks whole tables go up, in words of 64 bits."""
        fleet = self.task.fleet
        if fleet is not None:
            up, told = fleet.by_groups(self, number)
            down = 4 * self.size * told * fleet.took_part()
            return RoundReport(fleet.loss(), fleet.took_part(), up, down)
        report = super().round(number, watch)
        if self.task.sealing is None:
            return report
        return replace(report, up=report.clients * (8 * self.size + 32))

    def mix(self, uploads: Iterator[Uploads], number: int) -> int:
        """Sum by groups; each client mixes at home."""
        tables, networks = self.sent(uploads)
        everyone = np.arange(len(self.items))
        if self.of[0] < 0:
            self.sketch(everyone, number)
            self.form(everyone, self.noised(everyone, self.task))
        of, directions = self.gathered(everyone)
        if self.task.sealing is None:
            words = self.group_words(tables, networks, of, len(directions))
            means, sizes = self.means(words)
        else:
            members = [np.flatnonzero(of == group) for group in range(len(directions))]
            vectors = [_vectors(tables, networks, one) for one in members]
            totals = map(self.task.sealing.total, vectors, members)
            sizes = np.array([len(one) for one in members], np.float64)
            means = _means(np.stack(list(totals)), sizes)
        self.take(means, sizes, directions)
        return len(directions) * len(everyone)

    def sent(self, uploads: Iterator[Uploads]) -> tuple[Floats, Floats]:
        """On the devices: what clients send, tables float32 [n, M, d] and networks [n, t]."""
        nets: list[Floats] = []

        def kept() -> Iterator[Uploads]:
            for chunk in uploads:
                nets.append(chunk.network)
                yield chunk

        return uploaded(self, kept()), np.concatenate(nets)

    def sketch(self, clients: Longs, number: int) -> None:
        """On the devices: s_u of these, after their first round."""
        onto, _ = self._onto()
        start = self.model.initial.items
        for client in clients.tolist():
            found = ((self.items[client] - start).ravel() @ onto).astype(np.float64)
            self.sketches[client] = found / max(float(np.linalg.norm(found)), 1e-12)
        self.first[clients] = number

    def noised(self, clients: Longs, drawing: Task) -> Matrix:
        """On the devices: what of s_u goes up, always the same; noise by `drawing`."""
        found, deviation = self.sketches[clients], self.deviation
        identity, before = drawing.shard.identity[clients], self.first[clients] - 1
        if deviation and drawing.noise_key is None:
            _add_noise(found, drawing.seed, identity, before, deviation)
        elif deviation and drawing.noise_key is not None:
            for own, client in zip(found, identity.tolist(), strict=True):
                about = f"sketch of {client}"
                own += normals(drawing.noise_key, about, own, deviation, len(own))
        return found

    @property
    def deviation(self) -> float:
        """Of the noise on a sketch."""
        return 2 * multiplier(self.settings.epsilon) if self.settings.epsilon > 0 else 0.0

    def _onto(self) -> tuple[Floats, np.random.Generator]:
        """The projection, which all draw alike, and the generator as it is after that."""
        rng = self.task.generator(randomness.AGGREGATION)
        shape = (self.model.initial.items.size, self.settings.sketch)
        return rng.standard_normal(shape, np.float32), rng

    def form(self, clients: Longs, noised: Matrix) -> None:
        """At the server: the groups; of clients that come later each joins the nearest."""
        if len(self.directions):
            self.of[clients] = (noised @ self.directions.T).argmax(axis=1)
            return
        of = grouped(noised, self.settings, self._onto()[1])
        self.of[clients] = of
        centres = [noised[of == one].mean(axis=0) for one in range(int(of.max()) + 1)]
        sizes = [max(float(np.linalg.norm(one)), 1e-12) for one in centres]
        self.directions = np.stack([c / size for c, size in zip(centres, sizes, strict=True)])

    def gathered(self, clients: Longs) -> tuple[Longs, Matrix]:
        """At the server: groups and directions of a round with these clients.

        Where so many of a group are away that it is below `least`, it joins its nearest.
        """
        of, directions = self.of[clients], self.directions
        sizes = np.bincount(of, minlength=len(directions))
        large = np.flatnonzero(sizes >= min(self.settings.least, sizes.max()))
        place = (directions @ directions[large].T).argmax(axis=1)
        place[large] = np.arange(len(large))
        return place[of], directions[large]

    def group_words(self, tables: Floats, networks: Floats, of: Longs, groups: int) -> Words:
        """On the devices: sums by group in steps, uint64 [G (M d + t)], and clients a group [G]."""
        out = np.zeros((groups, self.size), np.uint64)
        everyone = np.arange(len(of))
        for group, one in zip(of, _vectors(tables, networks, everyone), strict=True):
            out[group] += encoded(one, self.task.everybody)
        counts = np.bincount(of, minlength=groups).astype(np.uint64)
        return np.concatenate([out.ravel(), counts])

    def means(self, words: Words) -> tuple[Floats, Matrix]:
        """At the server: the groups' means, float32 [G, M d + t], and their sizes, float64 [G]."""
        groups = len(words) // (self.size + 1)
        sums, sizes = words[:-groups].reshape(groups, -1), words[-groups:].astype(np.float64)
        return _means(decoded(sums), sizes), sizes

    def take(self, means: Floats, sizes: Matrix, directions: Matrix) -> None:
        """On the devices: all clients mix their own tables with the means."""
        w = weights(sizes, self.sketches, directions, self.settings).astype(np.float32)
        keep, size = np.float32(self.settings.interpolation), self.items[0].size
        for client in range(len(w)):
            mixed = (1 - keep) * (w[client] @ means)
            self.items[client] *= keep
            self.items[client] += mixed[:size].reshape(self.items.shape[1:])
            self.network[client] = keep * self.network[client] + mixed[size:]

    def state(self) -> Arrays:
        """As the base has it, and the groups."""
        return super().state() | {
            "of": self.of, "sketches": self.sketches, "directions": self.directions,
            "first": self.first,
        }  # fmt: skip

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        self.of, self.sketches = state["of"], state["sketches"]
        self.directions, self.first = state["directions"], state["first"]


def _vectors(tables: Floats, networks: Floats, clients: Longs) -> Iterator[Matrix]:
    """Table and network of each of these clients, float64 [M d + t]."""
    for one in clients.tolist():
        yield np.concatenate([tables[one].ravel(), networks[one]]).astype(np.float64)


def _means(sums: Matrix, sizes: Matrix) -> Floats:
    """float32 [G, M d + t]; zeros of a group without clients."""
    return np.asarray(sums / np.maximum(sizes, 1)[:, None], np.float32)


def weights(sizes: Matrix, own: Matrix, directions: Matrix, settings: Settings) -> Matrix:
    """Each client's weights over the groups, rows on the simplex, float64 [n, G].

    Args:
        sizes: clients of each group, float64 [G].
        own: s_u, rows of length 1, float64 [n, k].
        directions: c_g, rows of length 1, float64 [G, k].
        settings: the numbers.
    """
    p = (sizes / sizes.sum())[None, :]
    # Not a matrix product, whose last bits hang on how many clients there are.
    cosine = (own[:, None, :] * directions[None, :, :]).sum(axis=2)
    away = np.sqrt(np.maximum(2 - 2 * cosine, 0))
    wanted = p + settings.alpha / (1 + away) - settings.beta * cosine / 2
    return project(wanted / (1 + settings.alpha))


def multiplier(epsilon: float) -> float:
    """The least noise for this epsilon at delta 1e-5, by the sensitivity."""
    low, high = 1e-2, _WIDEST
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


@compiled
def _add_noise(
    points: np.ndarray, seed: int, clients: np.ndarray, before: np.ndarray, deviation: float
) -> None:
    for place in range(len(points)):
        state = randomness.stream(seed, randomness.NOISE, before[place], clients[place])
        for k in range(points.shape[1]):
            state, drawn = randomness.gaussian(state)
            points[place, k] += deviation * drawn


def _promise(settings: Settings, delta: float) -> str:
    if not settings.epsilon > 0:
        return "Clients' sketches have no noise: each tells the server how its table moved first."
    # The noise is for this delta, whichever the run has.
    return (
        f"Each client sends one sketch of {settings.sketch} numbers, which no sum hides: epsilon "
        f"{settings.epsilon:g} at delta 1e-05 for all of its data. Tables, their sums by group and "
        "counts of ranks are outside this epsilon."
    )


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
    promise=_promise,
)
