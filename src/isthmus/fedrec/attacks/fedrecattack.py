"""FedRecAttack: hostile clients promote an item by users' vectors guessed from public interactions.

Rong, Ye, Zhao, Yuen, Chen, He: FedRecAttack: Model Poisoning Attack to Federated Recommendation,
ICDE 2022 (arXiv 2204.01499); its abstract and the authors' program were read, the paper was not.
In each round:

1. users' vectors U^ [U, d] go on being fitted to the public interactions and the table Q by BPR,
   `- sum log sigma(u . q_pos - u . q_neg)`, Adam;
2. for each user u and target t that is not publicly theirs, with s_u,K the score of the K-th best
   item that is neither a target nor publicly theirs (K = 10),
   `L = sum_u sum_t g(s_u,K - s_u,t)`, `g(x) = x` for x >= 0, `exp(x) - 1` below;
3. a hostile client sends at most kappa rows: the targets' and others drawn once, by the size of
   their gradient. Each moves against the gradient of L, its length at most the limit of `Crafting`;
   what it sends is taken off, the next client sends from the rest. Once nothing of the targets'
   rows is left, the next begins with the whole gradient again: in the paper the server adds up
   what it is sent, while here it divides by all clients, so that hostile clients who stopped at
   the gradient would waste most of their number.

The attacker knows the table, a share of all clients' training items (1 to 10% in the paper, 5%
here unless asked otherwise), and nothing else. What differs: rows are sent, not gradients, so the
bound C = 1 on a gradient's row has become the limit on a change; the authors' tiny noise on
gradients is left out; one K-th item serves all targets of a user.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec import randomness
from isthmus.fedrec.attacks.hostile import Crafting, Trained, within
from isthmus.fedrec.population import Floats, Ints, Longs
from isthmus.fedrec.task import Task

K = 10
STEPS = 20
"""Steps of Adam on users' vectors in a round."""
_NOTHING = 1e-6
Reals = NDArray[np.float64]


def public_share(task: Task, share: float) -> tuple[Longs, Longs]:
    """Clients and items, int64 each, of a share of the training interactions, drawn by the seed."""
    train = task.population.train
    owner = np.repeat(np.arange(task.population.clients), train.counts)
    drawn = task.generator(randomness.ATTACK, 3).random(len(owner)) < share
    return owner[drawn], train.items[drawn].astype(np.int64)


class FedRecAttack(Crafting):
    """At most `kappa` rows a client, against the gradient of L by the table."""

    def __init__(
        self,
        first: int,
        targets: Longs,
        boost: float,
        public: tuple[Longs, Longs],
        rng: np.random.Generator,
        *,
        kappa: int = 60,
    ) -> None:
        super().__init__(first, targets, boost)
        self.public, self.kappa, self._rng = public, kappa, rng
        self._users: Reals = np.zeros((0, 0))
        self._adam = [self._users, self._users]
        self._steps, self._number = 0, 0
        self._whole: Reals = self._users
        self._left: Reals = self._users
        self._chosen: dict[int, Longs] = {}

    def begin(self, start: Floats, number: int) -> None:
        """Fit users' vectors to the new table and take the gradient of L, once a round."""
        if number == self._number:
            return
        self._number, table = number, start.astype(np.float64)
        if not self._users.size:
            self._users = self._rng.normal(0, 0.01, (self.first, table.shape[1]))
            self._adam = [np.zeros_like(self._users), np.zeros_like(self._users)]
        for _ in range(STEPS):
            self._fit(table)
        self._whole = promotion(self._users, table, self.targets, self.public)
        self._left = self._whole.copy()

    def _fit(self, table: Reals) -> None:
        who, what = self.public
        other = self._rng.integers(0, len(table), len(what))
        apart = table[what] - table[other]
        wrong = 1 / (1 + np.exp(np.clip((self._users[who] * apart).sum(1), -50, 50)))
        slope = np.zeros_like(self._users)
        np.add.at(slope, who, -wrong[:, None] * apart)
        self._steps += 1
        first, second = self._adam
        first += 0.1 * (slope - first)
        second += 0.001 * (slope**2 - second)
        one, two = first / (1 - 0.9**self._steps), second / (1 - 0.999**self._steps)
        self._users -= 0.01 * one / (np.sqrt(two) + 1e-8)

    def craft(self, own: Trained, number: int) -> tuple[Ints, Floats]:
        """Its rows of what is left of the gradient."""
        if not np.any(np.abs(self._left[self.targets]) > _NOTHING):
            self._left = self._whole.copy()
        items = self._items(own.client)
        change = -within(self._left[items].astype(np.float32), own.limit)
        self._left[items] += change
        return items.astype(np.int32), own.start[items] + change

    def _items(self, client: int) -> Longs:
        """The rows that a client changes in all rounds: drawn once, ascending."""
        if client not in self._chosen:
            size = np.linalg.norm(self._left, axis=1)
            size[self.targets] = 0
            count = min(self.kappa - len(self.targets), int(np.count_nonzero(size)))
            more = np.zeros(0, np.int64)
            if count > 0:
                more = self._rng.choice(len(size), count, False, size / size.sum())
            self._chosen[client] = np.sort(np.concatenate([self.targets, more])).astype(np.int64)
        return self._chosen[client]


def promotion(users: Reals, table: Reals, targets: Longs, public: tuple[Longs, Longs]) -> Reals:
    """The gradient of L by the table, float64 [M, d]."""
    scores = users @ table.T
    known = scores[:, targets].copy()
    masked = scores
    masked[public] = -np.inf
    masked[:, targets] = -np.inf
    best = np.argpartition(-masked, K - 1, axis=1)[:, :K]
    values = np.take_along_axis(masked, best, axis=1)
    rows = np.arange(len(users))
    last = best[rows, values.argmin(axis=1)]
    out = np.zeros_like(table)
    has = np.zeros(scores.shape, np.bool_)
    has[public] = True
    for place, target in enumerate(targets.tolist()):
        gap = scores[rows, last] - known[:, place]
        weight = np.where(gap >= 0, 1.0, np.exp(np.minimum(gap, 0))) * ~has[:, target]
        np.add.at(out, last, weight[:, None] * users)
        out[target] -= weight @ users
    return out
