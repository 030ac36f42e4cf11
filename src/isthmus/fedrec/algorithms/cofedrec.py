"""CoFedRec: each round the clients that agree on one group of items get the mean of their tables.

He, Liu, Keung, He: Co-clustering for Federated Recommender System, WWW 2024 (arXiv 2411.01690),
read in its released code. Clients are PFedRec's: private `(w_u, b_u)`, then the rows on new
predictions. The server takes the mean table, K-means of its rows gives K groups of items; it draws
a core client c and a group k; `s_u = sum_{i in k} cos(Q_c,i, Q_u,i)`; of these sorted, largest
first, the elbow is the point farthest from the line between first and last; clients up to and with
it get the mean of their tables, all others keep their own. From the second round on the clients'
loss has `lambda L_sup`, which turns rows of one item group to each other,

    L_sup = tau / tau' mean_i (log sum_{a != i} exp(e_i.e_a / tau)
                               - mean_{z in Z(i)} e_i.e_z / tau),

`e` being rows at length 1, i all M items and Z(i) the others of its group. Here i, a and z go over
(at most `contrast`) samples of the batch, each anchor with the weight of an item, 1 / M: the cost
of the whole is quadratic in M, at every batch. A row has its usual slope when its item is among the
samples, and none else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms._clusters import k_means
from isthmus.fedrec.copied_tables import Blend, CopiedTables
from isthmus.fedrec.method import Algorithm, Arrays
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.training import LocalTraining

_ROWS = 1 << 18
"""Rows of all clients' tables that the server copies at a time."""


@dataclass(frozen=True)
class Settings:
    """CoFedRec's numbers; the defaults are those that the code's page has for ML-100K."""

    groups: int = 60
    """K, groups of items (the paper has 30 for ML-100K and FilmTrust, 45 for ML-1M)."""
    contrastive: float = 0.005
    """lambda, weight of the contrastive term."""
    temperature: float = 0.1
    """tau (0.5 for ML-1M)."""
    base_temperature: float = 0.5
    """tau'."""
    contrast: int = 128
    """Samples of a batch that are contrasted with each other at most."""
    eta: float = 0.1
    """Rate of the score function."""
    item_factor: float = 80.0
    """Item rows move with rate eta M item_factor."""

    def __post_init__(self) -> None:
        if self.groups < 1 or self.contrast < 0:
            raise JobError("groups must be 1 or more, contrast 0 or more")
        if self.temperature <= 0 or self.base_temperature <= 0:
            raise JobError("temperature and base_temperature must be above 0")


class CoFedRec(CopiedTables):
    """Own tables; those of one group of clients become their mean each round."""

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model)
        self.settings = settings
        self.groups: Longs = np.zeros(0, np.int64)

    def extra(self, number: int) -> Floats:
        """The numbers of the contrastive term, and each item's group."""
        if not len(self.groups):
            return np.zeros(0, np.float32)
        settings = self.settings
        weight = settings.contrastive * settings.temperature / settings.base_temperature
        weight /= self.task.population.items
        head = [weight, 1 / settings.temperature, settings.contrast]
        return np.concatenate([head, self.groups]).astype(np.float32)

    def news(self) -> Arrays:
        """The items' groups."""
        return {"groups": self.groups}

    def hear(self, news: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> None:
        """Take the items' groups. Raises BadMessage where they are none."""
        items, found = self.task.population.items, news.get("groups")
        if found is None or found.dtype != np.int64 or found.shape not in ((0,), (items,)):
            raise BadMessage("groups are not a number for each item")
        if len(found) and not 0 <= found.min() <= found.max() < items:
            raise BadMessage("groups are out of range")
        self.groups = np.array(found)

    def blend(self, tables: Floats, number: int) -> Blend:
        """Group the items, then give one group of clients its mean table."""
        rng = self.task.generator(randomness.AGGREGATION, number)
        mean = tables.mean(axis=0, dtype=np.float64)
        self.groups = k_means(mean, self.settings.groups, rng)
        core = int(rng.integers(len(tables)))
        group = rng.choice(np.unique(self.groups))
        alike = similar(tables[:, self.groups == group], core)
        step, table = max(1, _ROWS // len(tables)), np.empty(mean.shape, np.float32)
        for first in range(0, len(mean), step):
            some = slice(first, first + step)
            table[some] = tables[alike, some].mean(axis=0, dtype=np.float64)
        return Blend(alike, table)

    def state(self) -> Arrays:
        """As the base has it, and the items' groups."""
        return super().state() | {"groups": self.groups}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        self.groups = state["groups"]


def similar(rows: Floats, core: int) -> Longs:
    """The clients like `core` on some items, ascending; itself is always one.

    Args:
        rows: each client's rows of these items, float32 [n, items, d].
        core: the client that others are compared with.
    """
    size = np.maximum(np.linalg.norm(rows, axis=2), 1e-12)
    cosine = np.einsum("nid,id->ni", rows, rows[core]) / (size * size[core])
    likeness = cosine.sum(axis=1, dtype=np.float64)
    likeness[core] = np.inf  # first, whatever rounding does
    order = np.argsort(-likeness, kind="stable")
    likeness[core] = len(rows[0])
    return np.sort(order[: elbow(likeness[order]) + 1])


def elbow(values: np.ndarray) -> int:
    """The place of the value farthest from the line between the first and the last of `values`."""
    if len(values) < 2:
        return 0
    along = np.array([len(values) - 1, values[-1] - values[0]])
    along = along / np.linalg.norm(along)
    away = np.stack([np.arange(len(values)), values - values[0]], axis=1)
    return int(np.abs(away[:, 0] * along[1] - away[:, 1] * along[0]).argmax())


def _build(task: Task, settings: Settings, model: Model) -> CoFedRec:
    rate = settings.eta * task.population.items * settings.item_factor
    training = replace(model.training, rate=rate, user_rate=settings.eta)
    return CoFedRec(task, replace(model, training=training), settings)


ALGORITHM = Algorithm(
    name="cofedrec",
    title="CoFedRec",
    paper="He et al., WWW 2024, arXiv 2411.01690",
    leaves="tables",
    private="the score function (w_u, b_u)",
    settings=Settings,
    build=_build,
    backbones=("cofedrec",),
    training={
        "cofedrec": LocalTraining(dim=32, epochs=2, optimiser="sgd", alternate=True, tolerance=0.0)
    },
)
