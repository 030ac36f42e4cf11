"""Robust averaging: of each number of a row, the largest and smallest changes are left out.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning, ICML 2018 (algorithm 1:
coordinate-wise median and trimmed mean), taken item by item: the row of item i moves by

    trimmed mean over clients of (Q_u,i - Q_i), number by number,

which leaves out the `trim` largest and the `trim` smallest shares of them (rounded down);
`middle="median"` takes the median. The network likewise over all clients. Clients count alike: a
weight is what a hostile client would lie about.

`over="all"` takes the mean over all clients of the round, those that did not touch i with a change
of 0. This is the algorithm of the paper on the whole table, with what it promises: fewer hostile
clients than `trim` of all cannot bring a number beyond what honest ones sent. The price: an item
that no more than `trim` of the clients move the same way stays where it is.

`over="touched"` takes it over the clients that touched i, as the row-wise mean does (a row that few
touched is a plain mean then). It promises something for items of which hostile clients are fewer
than `trim` of those that touch them, and nothing for others: on unpopular items hostile clients are
soon most of those that have it. Zhang et al. (Rethinking Byzantine Robustness in Federated
Recommendation from Sparse Aggregation Perspective, AAAI 2025, arXiv 2501.03301; abstract read) say
so of all robust means that are taken item by item.

The server must see each client's changes, so there is no secure sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.shared_table import SharedTable
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Shared, Uploads


@dataclass(frozen=True)
class Settings:
    """Trimmed mean's numbers."""

    trim: float = 0.1
    """Share of the changes that is left out at each end; below a half."""
    middle: Literal["trimmed", "median"] = "trimmed"
    """What is taken of the changes."""
    over: Literal["all", "touched"] = "all"
    """Whether clients that did not touch an item count, with a change of 0."""
    share: float = 1.0
    """Share of the clients that train in a round."""

    def __post_init__(self) -> None:
        if not 0 <= self.trim < 0.5:
            raise JobError(f"trim is {self.trim:g}", mend="It must be at least 0 and below 0.5.")


@dataclass(frozen=True)
class Robust:
    """The server's side."""

    settings: Settings

    def aggregate(self, shared: Shared, uploads: Iterator[Uploads]) -> Shared:
        """The next shared parameters."""
        chunks = list(uploads)
        if not chunks:
            return shared
        items = np.concatenate([one.items for one in chunks])
        rows = np.concatenate([one.rows for one in chunks])
        order = np.argsort(items, kind="stable")
        table = shared.items.copy()
        median, clients = self.settings.middle == "median", 0
        if self.settings.over == "all":
            clients = sum(len(one.clients) for one in chunks)
        _middle_of_rows(
            items, rows, order, shared.items, clients, self.settings.trim, median, table
        )
        nets = np.concatenate([one.network for one in chunks]).astype(np.float64) - shared.network
        moved = middle(nets, self.settings.trim, median=median)
        return Shared(table, (shared.network + moved).astype(np.float32))


def middle(changes: NDArray[np.float64], trim: float, *, median: bool) -> NDArray[np.float64]:
    """The trimmed mean or the median of each column, float64 [n, k] to [k]."""
    if median:
        return np.asarray(np.median(changes, axis=0))
    cut = int(trim * len(changes))
    return np.asarray(np.sort(changes, axis=0)[cut : len(changes) - cut].mean(axis=0))


@compiled
def _middle_of_rows(
    items: np.ndarray, rows: np.ndarray, order: np.ndarray, starts: np.ndarray, clients: int,
    trim: float, median: bool, out: np.ndarray,
) -> None:  # fmt: skip
    """Of each item the middle of the changes, and of zeros that make them `clients` at least."""
    buffer = np.empty(len(order))
    first = 0
    while first < len(order):
        item, last = items[order[first]], first
        while last < len(order) and items[order[last]] == item:
            last += 1
        touched = last - first
        count = max(clients, touched)
        cut = (count - 1) // 2 if median else int(trim * count)
        some = buffer[:touched]
        for j in range(out.shape[1]):
            start = np.float64(starts[item, j])
            for k in range(touched):
                some[k] = np.float64(rows[order[first + k], j]) - start
            some.sort()
            total = 0.0
            for k in range(touched):
                # The zeros stand between negative changes and the others.
                place = k if some[k] < 0 else k + count - touched
                if cut <= place < count - cut:
                    total += some[k]
            out[item, j] = start + total / (count - 2 * cut)
        first = last


def _build(task: Task, settings: Settings, model: Model) -> SharedTable:
    return SharedTable(task, model, Robust(settings), share=settings.share)


ALGORITHM = Algorithm(
    name="trimmed-mean",
    title="Trimmed mean",
    paper="Yin et al., ICML 2018",
    leaves="tables",
    private="the user's vector",
    settings=Settings,
    build=_build,
    backbones=("fcf", "fedncf", "pfedrec"),
)
