"""Rounds of five methods on clients with label skew, each client judged on its own images.

- `local-only`: no server.
- `fedavg` (McMahan et al. 2017): `W <- sum_k n_k / n W_k`, all clients judged with W.
- `fedprox` (Li et al. 2020): FedAvg with `mu/2 |W_k - W|^2` in the client's loss.
- `pfedmoe` (Yi et al. 2024, arXiv 2402.01350): the mixture of `networks.Mixture`; only the shared
  extractor goes up, `theta <- sum_k n_k / n theta_k`; clients are judged with their whole mixture.
- `da-pfl` (Yang et al. 2024, arXiv 2403.09284): each client begins from its mixture
  `W~_i = xi_ii W_i + sum_j xi_ij W_j`, is pulled to it by `pull/2 |W - W~_i|^2` and judged with
  what it has trained. xi follows from class counts, which go to the server in the clear, and
  distances of models; the closed form of the affinity is our reading, see
  `isthmus.fedrec.algorithms.da_pfl`, whose functions these are.

Clients take the same number of steps of plain gradient descent a round, on batches drawn with
replacement; epochs over unequal numbers of images would not run in step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from isthmus.errors import JobError, NotFinite
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms import da_pfl
from isthmus.fedrec.images.data import Clients, Images, Longs, Reals
from isthmus.fedrec.images.networks import Mixture, Mlp, Network

METHODS = ("local-only", "fedavg", "fedprox", "pfedmoe", "da-pfl")


@dataclass(frozen=True)
class Settings:
    """The numbers of a run.

    Raises:
        JobError: one is out of range.
    """

    rounds: int = 50
    steps: int = 10
    """Steps a client and round."""
    batch: int = 32
    width: int = 32
    """Of the representation."""
    rate: float = 0.1
    mu: float = 0.01
    """FedProx's."""
    pull: float = 0.1
    """DA-PFL's lambda / s."""
    own_weight: float = 0.5
    """DA-PFL's xi_ii."""

    def __post_init__(self) -> None:
        if min(self.rounds, self.steps, self.batch, self.width) < 1:
            raise JobError("rounds, steps, batch and width must be 1 or more")
        if not self.rate > 0 or min(self.mu, self.pull) < 0 or not 0 <= self.own_weight <= 1:
            raise JobError("rate must be above 0, mu and pull not below, own_weight in 0 to 1")


@dataclass
class Found:
    """The outcome: accuracies are means over clients, each on its own images."""

    method: str
    seed: int
    valid: list[float] = field(default_factory=list)
    """By round."""
    test: list[float] = field(default_factory=list)
    lowest: list[float] = field(default_factory=list)
    """The 10th percentile over clients of test accuracy."""
    up: int = 0
    """Numbers that a client sends in a round."""

    @property
    def chosen(self) -> int:
        """The round of the best validation accuracy, from 1; the first of equals."""
        return int(np.argmax(self.valid)) + 1

    @property
    def accuracy(self) -> float:
        """On test, at the chosen round."""
        return self.test[self.chosen - 1]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"chosen": self.chosen, "accuracy": self.accuracy}


def run(
    images: Images,
    clients: Clients,
    method: str,
    settings: Settings | None = None,
    seed: int = 0,
    told: Callable[[Found], None] | None = None,
) -> Found:
    """Train and judge after every round.

    Raises:
        JobError: there is no such method.
        NotFinite: training diverged.
    """
    if method not in METHODS:
        raise JobError(f"there is no method {method!r}", mend=f"Known: {', '.join(METHODS)}.")
    one = _Run(images, clients, method, settings or Settings(), seed)
    for number in range(1, one.settings.rounds + 1):
        one.round(number)
        one.judge()
        (told or (lambda found: None))(one.found)
    return one.found


class _Run:
    """Clients' models as rows, and what the server does with them."""

    def __init__(
        self, images: Images, clients: Clients, method: str, settings: Settings, seed: int
    ) -> None:
        self.images, self.clients, self.method, self.settings = images, clients, method, settings
        self.seed = seed
        kind = Mixture if method == "pfedmoe" else Mlp
        self.network: Network = kind(images.x.shape[1], settings.width, images.classes)
        start = self.network.initial(randomness.generator(seed, randomness.START))
        self.rows: Reals = np.tile(start, (len(clients.train), 1))
        sends = 0 if method == "local-only" else self.network.shared
        self.found = Found(method, seed, up=sends)
        counts = [np.bincount(images.y[one], minlength=images.classes) for one in clients.train]
        self.affinity = da_pfl.complementarity(np.array(counts, np.float64))

    def round(self, number: int) -> None:
        """All clients train; the server's part comes before, as judging follows training."""
        begin = self.rows.copy()
        if self.method == "da-pfl":
            chosen = da_pfl.Settings(own_weight=self.settings.own_weight)
            begin = da_pfl.mixture(self.affinity, self.rows.astype(np.float32), chosen) @ begin
        pull = {"fedprox": self.settings.mu, "da-pfl": self.settings.pull}.get(self.method, 0.0)
        self.rows = self._train(begin, pull, number)
        if self.method in ("fedavg", "fedprox", "pfedmoe"):
            shared = self.network.shared
            self.rows[:, :shared] = averaged(self.rows[:, :shared], self.clients.weights)

    def _train(self, begin: Reals, pull: float, number: int) -> Reals:
        rng = randomness.generator(self.seed, randomness.SHUFFLE, number)
        rows, counts = begin.copy(), np.array([len(one) for one in self.clients.train])
        for _ in range(self.settings.steps):
            drawn = (rng.random((len(rows), self.settings.batch)) * counts[:, None]).astype(int)
            own = zip(self.clients.train, drawn, strict=True)
            picked: Longs = np.stack([one[places] for one, places in own])
            loss, slope = self.network.gradient(rows, self.images.x[picked], self.images.y[picked])
            if not np.isfinite(loss).all():
                raise NotFinite(f"the loss is not finite in round {number}", mend="Lower the rate.")
            rows -= self.settings.rate * (slope + pull * (rows - begin))
        return rows

    def judge(self) -> None:
        """Accuracies with the models after the round."""
        valid, test = (self._accuracies(p) for p in (self.clients.valid, self.clients.test))
        self.found.valid.append(float(valid.mean()))
        self.found.test.append(float(test.mean()))
        self.found.lowest.append(float(np.quantile(test, 0.1)))

    def _accuracies(self, parts: list[Longs]) -> Reals:
        out = np.empty(len(parts))
        for place, own in enumerate(parts):
            x = self.images.x[own][None]
            best = self.network.logits(self.rows[place : place + 1], x)[0].argmax(axis=1)
            out[place] = (best == self.images.y[own]).mean()
        return out


def averaged(rows: Reals, weights: Reals) -> Reals:
    """The weighted mean of all rows, [P]; weights sum to 1."""
    return np.asarray(weights @ rows)
