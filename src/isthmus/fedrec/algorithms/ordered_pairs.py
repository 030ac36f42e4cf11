"""Ordered pairs: which item follows which, by ridge regression on two secure sums. One round.

Our own method. Client u has items x_1 .. x_n, oldest first. It adds to two sums

    C[i, j] = sum over a < b with x_a = i, x_b = j of decay^(b - a - 1)
    G[i, j] = 1 where it has both i and j, i <= j

and scores at home with what the server makes of the sums over all clients. Let h_t be the history
after t items, h_t = decay h_{t-1} + e_{x_t}. The weights that best tell the next item from it,
`argmin_S sum_u sum_t |h_t S - e_{x_{t+1}}|^2 + ridge |S|^2`, are `S = (A + ridge I)^-1 C` with
`A = sum h_t h_t'`; and, if each history is followed until it has decayed, A needs no sum of its
own: `A = (decay (C + C') + diag(G)) / (1 - decay^2)`. With `B` of EASE from G, a client scores

    z((1 - blend) z(h_n S) + blend z(x B)) (1 - broad) + broad z(h_n D^-1/2 V V' D^1/2)

with z: less the mean over items, by the deviation. V are the leading eigenvectors of what GF-CF
calls its ideal low-pass filter, here of D^-1/2 G D^-1/2 with D the diagonal of G (of C + C' where
there is no G): it tells apart, by and large, the items that came beside none of the client's.
Without order in the data, or where it tells nothing, blend is 1 and h is x: EASE, and a little of
GF-CF. The two ridges and
the blend are chosen on validation: clients judge each candidate at home, one at a time, and the
sum of their NDCG@10 is all that is asked for. Decay and filter are the same for all data.

**Many items** (more than `whole_items`). Matrices of M^2 words are too much for a device. Clients
add their ordered pairs to a count-min sketch, the server reads all pairs back, and S becomes one
Jacobi step: `S = diag(A + ridge)^-1 C`, `B = diag(G + ridge)^-1 (C + C')`, both sparse.

**What the server sees.** Under a secure sum (pairwise masks modulo 2^32; the words are made for it)
the sums C and G, or the sketch, and sums of NDCG: no client's contribution. Semi-honest; a server
in league with all clients but one learns that one's part. Sums themselves tell: a pair that one
client alone has stands in C as such, and whose it is can be known to one who knows the item to be
rare. Without a secure sum a client's C tells its whole sequence. With `clip` and `noise` the sums
are differentially private for whole clients (`epsilon_of`); nothing is then chosen on validation,
and the sketch is refused, as noise fills it.

Sources: Steck, Embarrassingly Shallow Autoencoders, WWW 2019 (B); Choi et al., Session-aware Linear
Item-Item Models, WWW 2021 (next item by ridge regression from a decayed history; mixing both);
Shen et al., How Powerful is Graph Convolution for Recommendation, CIKM 2021 (the low-pass filter);
Cormode, Muthukrishnan, J. Algorithms 2005 (count-min); Bonawitz et al., CCS 2017 (secure sum);
Balle, Wang, ICML 2018 (noise). Ours: A from C, and so two sums; words; Jacobi step; the choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms import _gaussian, _pairs
from isthmus.fedrec.algorithms._one_round import OneRound, WordSum
from isthmus.fedrec.algorithms._pair_sums import pairs_sum, sketch_sum, summed_pairs, summed_sketch
from isthmus.fedrec.algorithms._pair_weights import SparseWeights, Weights, WholeWeights
from isthmus.fedrec.method import Algorithm, Arrays, RoundReport, Watch
from isthmus.fedrec.population import NONE, Floats, Longs, Ragged
from isthmus.fedrec.privacy.accounting import epsilon_concentrated
from isthmus.fedrec.task import Model, Task

RIDGES = (30.0, 100.0, 300.0, 1000.0)
BLENDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The last leaves the order out, for data whose times tell nothing of what comes next."""
ORDERED, BOTH, BLEND, SKETCHED = range(4)
GAIN = 2.0**-40
"""Figures of validation are added up in whole numbers of this."""


@dataclass(frozen=True)
class Settings:
    """The numbers of ordered pairs. Those of 0 (ridges) or below (blend) are chosen."""

    decay: float = 0.8
    """What an item of the history counts by the one after it."""
    ordered_ridge: float = 0.0
    """Added to the diagonal of A."""
    both_ridge: float = 0.0
    """Added to the diagonal of G."""
    blend: float = -1.0
    """Weight of EASE; 0 leaves it out, 1 leaves the order out."""
    broad: float = 0.1
    """Weight of the low-pass filter."""
    components: int = 128
    """Eigenvectors that it has."""
    whole_items: int = 6000
    """Items up to which matrices go up whole."""
    sketch_words: int = 1 << 24
    """Words of the sketch beyond; a power of two."""
    sketch_rows: int = 8
    """Words that a pair is added to."""
    judges: int = 2000
    """Clients that judge candidates, drawn if there are more."""
    clip: float = 0.0
    """The most that a client's sums may measure, by the 2-norm of all their numbers; 0: any."""
    noise: float = 0.0
    """Deviation of the noise on the sums, in clips."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise JobError(f"decay is {self.decay:g}", mend="It must be at least 0 and below 1.")
        if not 0 <= self.broad <= 1 or self.components < 1:
            raise JobError("broad must be from 0 to 1, and components 1 or more")
        if self.noise > 0 and self.clip <= 0:
            raise JobError("noise without clip protects nobody", mend="Set clip as well.")
        if self.sketch_words & (self.sketch_words - 1) or self.sketch_words < 2:
            raise JobError("sketch_words must be a power of two")


class OrderedPairs(OneRound):
    """Scores by next-item regression and EASE; `learned` is unused, the weights stand apart."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        self.settings = settings
        self.weights: Weights | None = None
        self.chosen = np.zeros(4)
        self._ordered = task.population.ordered
        self._tried = 0

    @cached_property
    def _sequence(self) -> Ragged:
        """On the devices: what clients have, oldest first."""
        return self.task.population.by_turn

    @property
    def _is_whole(self) -> bool:
        return self.task.population.items <= self.settings.whole_items

    def sum_of(self, what: str) -> WordSum | None:
        """C and G, or the sketch of C with the items' counts."""
        if what == ("pairs" if self._is_whole else "sketch"):
            return (pairs_sum if self._is_whole else sketch_sum)(self.task, self.settings)
        return None

    def round(self, number: int, watch: Watch) -> RoundReport:
        """Add up, choose on validation, tell all clients the weights chosen."""
        _, up = self.learn()
        assert self.weights is not None
        fleet = self.task.fleet
        clients = self.task.population.clients if fleet is None else fleet.took_part()
        tried = min(self.settings.judges, clients) * self._tried
        return RoundReport(None, clients, clients * up, 4 * (clients * self.weights.size + tried))

    def learn(self) -> tuple[Floats, int]:
        """Set the weights; the bytes up count the sums and a number for each candidate."""
        weights, up = self._whole() if self._is_whole else self._sketched()
        self.weights = weights
        asked = self._choose(weights, self._is_whole)
        if self.settings.broad > 0:
            weights.broaden(self.settings.components, self.task.generator(randomness.START))
        return self.learned, up + 4 * asked

    def _whole(self) -> tuple[Weights, int]:
        ordered, both = pair_sums(self.task, self.settings)
        count = len(both)
        up = 2 * count * (count + 1) + (4 * count**2 if self._ordered else 0)
        return WholeWeights(ordered, both, self.settings.decay), up

    def _sketched(self) -> tuple[Weights, int]:
        settings, count = self.settings, self.task.population.items
        table, popular = summed_sketch(self.task, settings)
        one = float(1 << _pairs.sketch_bits_for(self.task.everybody))
        pairs = _pairs.read_sketch(table, settings.sketch_rows, popular, one)
        weights = SparseWeights(pairs, popular.astype(np.float32), settings.decay)
        return weights, 4 * (len(table) + count)

    def _choose(self, weights: Weights, whole: bool) -> int:
        """Set `chosen`; how many candidates the clients judged."""
        settings, asked = self.settings, 0
        fixed = settings.clip > 0
        self.chosen[SKETCHED] = not whole
        self.chosen[BLEND] = 1.0
        lone = not self._ordered
        # Each part is chosen by itself, then how they are mixed.
        for which, given in ((BOTH, settings.both_ridge), (ORDERED, settings.ordered_ridge)):
            if which == ORDERED and lone:
                continue
            self.chosen[BLEND] = 1.0 if which == BOTH else 0.0
            several = () if given > 0 or fixed else RIDGES
            asked += self._best(weights, which, several, given if given > 0 else 300.0)
        if lone:
            return asked
        blends = () if settings.blend >= 0 or fixed else BLENDS
        return asked + self._best(
            weights, BLEND, blends, settings.blend if settings.blend >= 0 else 0.4
        )

    def _best(
        self, weights: Weights, which: int, candidates: tuple[float, ...], given: float
    ) -> int:
        """Put the best candidate, or what is given, at `which`; how many were judged."""
        found = self._gains(weights, which, candidates) if candidates else []
        self.chosen[which] = candidates[int(np.argmax(found))] if found else given
        weights.solve(self.chosen[ORDERED], self.chosen[BOTH])
        return len(found)

    def _gains(self, weights: Weights, which: int, candidates: tuple[float, ...]) -> list[int]:
        """What clients say that each candidate is worth, one at a time, at home."""

        def tried() -> Iterator[Arrays]:
            for value in candidates:
                self.chosen[which] = value
                weights.solve(self.chosen[ORDERED], self.chosen[BOTH])
                self._tried += 0 if which == BLEND else weights.size_tried
                yield self.state()

        fleet, judges = self.task.fleet, self._judges()
        if fleet is not None:
            return fleet.gains(tried(), judges)
        return [self.gain_units(judges) for _ in tried()]

    def _judges(self) -> Longs:
        """The clients that judge candidates, as far as they have a validation item."""
        count, wanted = self.task.population.clients, self.settings.judges
        if count <= wanted:
            return np.arange(count)
        rng = self.task.generator(randomness.SAMPLING)
        return np.sort(rng.choice(count, wanted, replace=False))

    def gain_units(self, clients: Longs) -> int:
        """The sum of the clients' NDCG@10 on their validation item among all but training items,
        each in whole numbers of `GAIN`, so that it is the same in any order.
        """
        population = self.task.population
        able = clients[population.valid[clients] != NONE]
        total, step = 0, max(1, self.task.memory // (16 * population.items))
        for first in range(0, len(able), step):
            some = able[first : first + step]
            known = population.train.take(some)
            scores = self.client_scores(some)
            found = _pairs.gains(scores, population.valid[some], known.indptr, known.items)
            total += int(np.rint(found / GAIN).astype(np.int64).sum())
        return total

    def client_scores(self, clients: Longs) -> Floats:
        """The mixed scores; popularity breaks the ties of what a client knows nothing about."""
        assert self.weights is not None
        weights, blend = self.weights, float(self.chosen[BLEND])
        items = self.task.population.items
        rarely = weights.popular / max(float(weights.popular.max()), 1.0)
        out = np.broadcast_to(1e-4 * rarely, (len(clients), items)).astype(np.float32)
        decay = self.settings.decay if self._ordered and blend < 1 else 1.0
        decayed = _pairs.histories(self._sequence, items, decay, clients)
        if blend < 1:
            out += (1 - blend) * _standard(weights.after(decayed))
        if blend > 0:
            history = _pairs.histories(self._sequence, items, 1.0, clients)
            out += blend * _standard(weights.beside(history))
        if weights.broad.size:
            broad = self.settings.broad
            out = (1 - broad) * _standard(out) + broad * _standard(weights.around(decayed))
        return np.asarray(out, np.float32)

    def state(self) -> Arrays:
        """What was chosen, and the weights."""
        chosen = self.chosen.copy()
        return {"chosen": chosen} | (self.weights.state() if self.weights is not None else {})

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.chosen = state["chosen"]
        if "popular" in state:
            kind = SparseWeights if self.chosen[SKETCHED] else WholeWeights
            self.weights = kind.restored(state, self.settings.decay)


def pair_sums(task: Task, settings: Settings) -> tuple[_pairs.Doubles, _pairs.Doubles]:
    """C and the whole of G, float64 [M, M], as the server has them; C is empty without order."""
    ordered, both = summed_pairs(task, settings)
    one = float(1 << _pairs.bits_for(task.everybody))
    sums = [ordered / one, both / one]
    if settings.noise > 0 and task.fleet is None:
        # As the clients' shares of the noise, drawn before masking, would add up.
        rng = task.generator(randomness.NOISE)
        deviation = settings.noise * settings.clip
        sums[0] += deviation * rng.standard_normal(sums[0].shape)
        sums[1] += deviation * np.triu(rng.standard_normal(sums[1].shape))
    own = np.diag(sums[1]).copy()
    return sums[0], sums[1] + sums[1].T - np.diag(own)


def epsilon_of(settings: Settings, delta: float = 1e-5, *, devices: bool = False) -> float:
    """Epsilon for one whole client added or taken away; infinite without noise.

    Args:
        settings: with `noise`.
        delta: the other number of the promise.
        devices: of the discrete noise that shards draw, which is accounted more coarsely.
    """
    if devices:
        return epsilon_concentrated(settings.noise, delta=delta)
    return _gaussian.epsilon(settings.noise, delta)


def _promise(settings: Settings, delta: float) -> str:
    if not settings.noise > 0:
        return ""
    epsilon, discrete = (epsilon_of(settings, delta, devices=one) for one in (False, True))
    return (
        f"Noise of {settings.noise:g} clips on the sums: epsilon {epsilon:.2f} at delta {delta:g} "
        f"for one whole client added or taken away; {discrete:.2f} between devices, whose shards "
        "draw it in whole numbers. Counts of ranks are outside this epsilon."
    )


def _standard(scores: Floats) -> Floats:
    scores = scores - scores.mean(axis=1, keepdims=True)
    deviation = scores.std(axis=1, keepdims=True)
    return np.asarray(scores / np.where(deviation > 0, deviation, 1))


def _build(task: Task, settings: Settings, model: Model | None) -> OrderedPairs:
    return OrderedPairs(task, settings)


ALGORITHM = Algorithm(
    name="ordered-pairs",
    title="Ordered pairs",
    paper="own method; after Steck, WWW 2019, and Choi et al., WWW 2021",
    leaves="sums",
    private="which client has which items, and their order",
    settings=Settings,
    build=_build,
    rounds=1,
    promise=_promise,
)
