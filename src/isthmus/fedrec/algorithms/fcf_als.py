"""FCF as first published: least squares on the device, gradients up, Adam at the server.

Ammad-ud-din, Ivannikova, Khan, Oyomno, Fu, Tan, Flanagan: Federated Collaborative Filtering for
Privacy-Preserving Personalized Recommendation System (arXiv 1901.09888). Of

    J = sum_u sum_i c_ui (x_ui - P_u.Q_i)^2 + l (sum_u |P_u|^2 + sum_i |Q_i|^2),  c_ui = 1 + a x_ui

each client solves for its own vector, `P_u = (Q'Q + a sum_{i in D_u} Q_i Q_i' + l I)^-1 (1 + a)
sum_{i in D_u} Q_i`, and sends `f_ui = c_ui (x_ui - P_u.Q_i) P_u` for every item i. The server needs
only their sum: it steps by Adam along `dJ/dQ_i = -2 sum_u f_ui + 2 l Q_i`. A client solves for its
vector anew with the table that it scores with. Gradients are rounded to steps of 2^-30, so that
their sum is the same in any order, and under masks.

Of the paper only the beginning could be read; the formulas are as other papers and programs give
them, Adam's numbers at second hand. The paper's server steps whenever enough gradients have come
in; ours once a round, with all clients'. What later papers call FCF is `fedavg --backbone fcf`.

What is sent is not harmless: gradients of different size for items had and not had, and of two
rounds the user's vector and then the items can be solved for (Chai, Wang, Chen, Yang 2019). A sum
hides that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError, NotFinite
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms._one_round import OneRound, Words, WordSum
from isthmus.fedrec.algorithms._server import Adam
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm, Arrays, RoundReport, Watch
from isthmus.fedrec.population import Floats, Longs, Ragged
from isthmus.fedrec.task import Model, Task

Matrix = NDArray[np.float64]
ONE = 2.0**30
"""Gradients are added up in whole numbers of 1 / ONE."""
LIMIT = 2.0**32
"""Sums of gradients stay below this, so that words of 64 bits hold their sign."""


@dataclass(frozen=True)
class Settings:
    """The numbers of FCF."""

    dim: int = 16
    """d, numbers an item row."""
    ridge: float = 1.0
    """l, weight of the squares of all parameters."""
    confidence: float = 1.0
    """a: an item that the client has counts 1 + a times as much as one that it has not."""
    server_rate: float = 0.1
    """Adam's rate at the server."""
    beta1: float = 0.4
    """What Adam keeps of the mean of gradients."""
    beta2: float = 0.99
    """What Adam keeps of the mean of squared gradients."""
    deviation: float = 0.1
    """Standard deviation of the first item rows."""


class FcfAls(OneRound):
    """Clients that solve, a server that steps; `learned` is the item table Q, float32 [M, d]."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        if settings.dim < 1:
            raise JobError("dim must be 1 or more")
        if task.guards:
            raise JobError(
                "fcf-als sends gradients of all items, which guards on item rows do not know",
                mend="Take fedavg with the backbone fcf.",
            )
        self.settings = settings
        shape = (task.population.items, settings.dim)
        start = task.generator(randomness.START).standard_normal(shape, np.float32)
        self.learned = start * np.float32(settings.deviation)
        self.adam = Adam(np.zeros(shape), np.zeros(shape))
        self._number = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the item table."""
        return (self.task.population.items, self.settings.dim)

    def taught(self) -> Arrays:
        """The item table alone."""
        return {"learned": self.learned}

    def round(self, number: int, watch: Watch) -> RoundReport:
        """Add up the clients' gradients, and step."""
        self._number = number
        return super().round(number, watch)

    def learn(self) -> tuple[Floats, int]:
        """One round: the next item table, and the bytes of a client's gradient."""
        one, table, fleet = self.settings, self.learned, self.task.fleet
        asked = self._gradients()
        words = asked.mine() if fleet is None else fleet.words(asked, self._number)
        total = (words.view(np.int64) / ONE).reshape(table.shape)
        gradient = 2 * one.ridge * table - 2 * total
        step = self.adam.step(gradient, one.server_rate, one.beta1, one.beta2, 1e-8)
        return (table + step).astype(np.float32), words.nbytes

    def sum_of(self, what: str) -> WordSum | None:
        """The clients' gradients."""
        return self._gradients() if what == "gradients" else None

    def _gradients(self) -> WordSum:
        """sum_u f_ui with the table at hand, as words: item by item, d each."""
        one = self.settings

        def mine() -> Words:
            train, table = self.task.population.train, self.learned
            users = solved(train, table, one)
            found = summed(train, users, table, one.confidence, self.task.everybody)
            return found.view(np.uint64).ravel()

        def possible(words: Words, clients: int) -> bool:
            largest = float(np.abs(words.view(np.int64).astype(np.float64)).max(initial=0.0))
            return largest <= ONE * clients * most(one, self.task.population.items)

        return WordSum("gradients", self.learned.size, mine, possible, given=self.taught())

    def client_scores(self, clients: Longs) -> Floats:
        """P_u.Q_i for all items."""
        lists = self.task.population.train.take(clients)
        users = solved(lists, self.learned, self.settings)
        out = np.empty((len(users), len(self.learned)), np.float32)
        _scores(users.astype(np.float32), self.learned, out)
        return out

    def state(self) -> Arrays:
        """The item table and Adam's moments."""
        adam = self.adam
        return {"learned": self.learned, "m": adam.m, "v": adam.v, "steps": np.array([adam.steps])}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.learned = state["learned"]
        self.adam = Adam(state["m"], state["v"], int(state["steps"][0]))


def solved(lists: Ragged, table: Floats, settings: Settings) -> Matrix:
    """P_u of each client by least squares, float64 [n, d]; `lists` are the clients' items.

    Raises:
        NotFinite: the item rows are too few or alike, and there is no ridge.
    """
    dim = table.shape[1]
    wide = table.astype(np.float64)
    shared = wide.T @ wide + settings.ridge * np.eye(dim)
    left = np.empty((len(lists.counts), dim, dim))
    left[:] = shared
    right = np.zeros((len(lists.counts), dim))
    _normal_equations(lists.indptr, lists.items, wide, settings.confidence, left, right)
    try:
        return np.asarray(np.linalg.solve(left, right[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError as error:
        raise NotFinite(
            "a client's least squares have no one solution", mend="Set a ridge above 0."
        ) from error


def most(settings: Settings, items: int) -> float:
    """What no number of a client's gradient can pass, given that P_u is the best vector.

    With A^2 the part of one item in the client's part of J, and B^2 that of its vector: there is no
    less than A^2 + B^2 <= (1 + a) n_u, what the vector 0 has, and |f_ui| = sqrt(c_ui / l) A B.
    """
    weight = max(1.0, 1 + settings.confidence)
    if settings.ridge <= 0:
        return LIMIT
    return float(weight**1.5 * items / (2 * settings.ridge**0.5) + 1 / ONE)


def summed(
    lists: Ragged, users: Matrix, table: Floats, confidence: float, everybody: int = 1
) -> Longs:
    """sum_u f_ui in whole numbers of 1 / ONE, int64 [M, d].

    Args:
        lists: the clients' items.
        users: their vectors.
        table: the item rows.
        confidence: a.
        everybody: clients whose sums these may be added to.

    Raises:
        NotFinite: a gradient is so large that sums could leave their range.
    """
    out = np.zeros(table.shape[::-1], np.int64)
    turned = np.ascontiguousarray(table.T, np.float64)
    limit = LIMIT / max(everybody, len(users))
    if not np.isfinite(users).all() or not _add_gradients(
        lists.indptr, lists.items, turned, users, confidence, limit, out
    ):
        raise NotFinite(
            f"a client's gradient has a number beyond {limit:.3g}",
            mend="Set a larger ridge, or a lower server_rate.",
        )
    return np.ascontiguousarray(out.T)


@compiled
def _normal_equations(
    indptr: np.ndarray, items: np.ndarray, table: np.ndarray, confidence: float,
    left: np.ndarray, right: np.ndarray,
) -> None:  # fmt: skip
    for u in range(len(right)):
        for k in range(indptr[u], indptr[u + 1]):
            row = table[items[k]]
            for i in range(len(row)):
                right[u, i] += (1 + confidence) * row[i]
                for j in range(len(row)):
                    left[u, i, j] += confidence * row[i] * row[j]


@compiled
def _add_gradients(
    indptr: np.ndarray, items: np.ndarray, turned: np.ndarray, users: np.ndarray,
    confidence: float, limit: float, out: np.ndarray,
) -> bool:  # fmt: skip
    dim, count = turned.shape
    weight = np.empty(count)
    for u in range(len(users)):
        weight[:] = 0.0
        for j in range(dim):
            weight -= users[u, j] * turned[j]
        for k in range(indptr[u], indptr[u + 1]):
            weight[items[k]] = (1 + confidence) * (1 + weight[items[k]])
        if not np.abs(weight).max() * np.abs(users[u]).max() <= limit:
            return False
        for j in range(dim):
            line, factor = out[j], users[u, j] * ONE
            for i in range(count):
                line[i] += np.int64(np.rint(weight[i] * factor))
    return True


@compiled
def _scores(users: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    for u in range(len(users)):
        for i in range(len(table)):
            found = np.float32(0)
            for j in range(users.shape[1]):
                found += users[u, j] * table[i, j]
            out[u, i] = found


def _build(task: Task, settings: Settings, model: Model | None) -> FcfAls:
    return FcfAls(task, settings)


ALGORITHM = Algorithm(
    name="fcf-als",
    title="FCF (least squares)",
    paper="Ammad-ud-din et al. 2019, arXiv 1901.09888",
    leaves="sums",
    private="the user's vector",
    settings=Settings,
    build=_build,
)
