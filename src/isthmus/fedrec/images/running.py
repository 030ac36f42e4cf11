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
from typing import Any, Literal

import numpy as np

from isthmus.errors import JobError, NotFinite
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms import da_pfl
from isthmus.fedrec.images.convolutions import Convolutions
from isthmus.fedrec.images.data import Clients, Images, Longs, Reals
from isthmus.fedrec.images.networks import Dense, Extractor, Mixture, Network, Plain

Kind = Literal["dense", "cnn"]
WIDTHS: dict[Kind, int] = {"dense": 32, "cnn": 128}
"""Of the representation, unless set."""
_JUDGED = 256
"""Images at a time: what convolutions unfold takes some 250 kB an image."""

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
    network: Kind = "dense"
    """One dense layer, or two convolutions before it."""
    width: int | None = None
    """Of the representation; None for that of `WIDTHS`."""
    rate: float = 0.1
    mu: float = 0.01
    """FedProx's."""
    pull: float = 0.1
    """DA-PFL's lambda / s."""
    own_weight: float = 0.5
    """DA-PFL's xi_ii."""

    def __post_init__(self) -> None:
        if self.network not in WIDTHS:
            raise JobError(f"there is no network {self.network!r}", mend="Known: dense, cnn.")
        if min(self.rounds, self.steps, self.batch, self.width or 1) < 1 or self.width == 0:
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
        kind = Mixture if method == "pfedmoe" else Plain
        self.network: Network = kind(extractor(images, settings), images.classes)
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
            loss, slope = self.network.gradient(
                rows, self.images.pixels(picked), self.images.y[picked]
            )
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
            row = self.rows[place : place + 1]
            pieces = [own[start : start + _JUDGED] for start in range(0, len(own), _JUDGED)]
            logits = [self.network.logits(row, self.images.pixels(one)[None])[0] for one in pieces]
            out[place] = (np.concatenate(logits).argmax(axis=1) == self.images.y[own]).mean()
        return out


def extractor(images: Images, settings: Settings) -> Extractor:
    """The part of a network that `settings` name, for these images.

    Raises:
        JobError: the images' shape is not known, or they are too small.
    """
    width = settings.width or WIDTHS[settings.network]
    if settings.network == "dense":
        return Dense(images.x.shape[1:], width)
    if images.shape is None:
        raise JobError(
            f"the images of {images.name} have no rows and columns",
            mend="Give x as [N, rows, columns, 1 or 3], or take --network dense.",
        )
    return Convolutions(images.shape, width)


def averaged(rows: Reals, weights: Reals) -> Reals:
    """The weighted mean of all rows, [P]; weights sum to 1."""
    return np.asarray(weights @ rows)
