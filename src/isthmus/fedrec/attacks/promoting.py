"""Promotion attacks, run and judged: how many clients are shown the targets, and what it costs.

ER@K, the exposure ratio (Zhang et al., WSDM 2022; Rong et al., ICDE 2022): of the honest clients
that have not interacted with a target (in training or held out), the share whose K best items
among those outside their training items hold it; the mean over targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec import randomness
from isthmus.fedrec.attacks.fedrecattack import FedRecAttack, public_share
from isthmus.fedrec.attacks.hostile import draw_targets, infiltrate, popularity, profiles
from isthmus.fedrec.attacks.pipattack import PipAttack, levels
from isthmus.fedrec.engine import Candidates
from isthmus.fedrec.evaluate import metrics, ranks
from isthmus.fedrec.method import Score
from isthmus.fedrec.options import Recipe
from isthmus.fedrec.population import Interactions, Longs, Ragged
from isthmus.fedrec.protocols import exams, make_task, protocol
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Guard

Kind = Literal["none", "random", "explicit", "pipattack", "fedrecattack"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CUTS = (5, 10)
LINEAR = ("fcf", "pfedrec")
"""Backbones whose score is a product of the row with the user's vector, and a constant."""


@dataclass(frozen=True)
class Plan:
    """What the attacker does.

    Raises:
        JobError: a number is out of range.
    """

    kind: Kind = "pipattack"
    """`none`: no attack. `random`: made-up profiles (targets and evenly drawn fillers), trained as
    anybody. `explicit`: the target's row is pushed to the hostile clients' own vectors."""
    malicious: float = 0.05
    """Hostile clients for each honest one."""
    targets: int = 1
    """Items to promote, drawn from the 45% least popular."""
    boost: float = 1.0
    """How far a row may move, in largest changes of the client's honest training."""
    fillers: int = 30
    """Items of a made-up profile beside the targets."""
    public: float = 0.05
    """Share of interactions that FedRecAttack knows."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise JobError(f"there is no attack {self.kind!r}", mend=f"Known: {', '.join(KINDS)}.")
        for name in ("malicious", "public"):
            if not 0 < getattr(self, name) <= 1:
                raise JobError(f"{name} must lie above 0 and not above 1")
        if self.targets < 1 or self.fillers < 1 or not self.boost > 0:
            raise JobError("targets, fillers and boost must be above 0")


@dataclass(frozen=True)
class Exposure:
    """After a round, over honest clients."""

    number: int
    er: dict[str, float]
    """`er@5`, `er@10`"""
    metrics: dict[str, dict[str, float]]
    """HR, NDCG, ... of held-out test items by protocol."""


@dataclass
class Promotion:
    """The outcome; what is reported is the last round, as no server knows of the attack."""

    data: str
    algorithm: str
    seed: int
    plan: Plan
    honest: int
    hostile: int
    targets: list[int]
    target_clients: list[int]
    """How many clients have each target in training."""
    rounds: list[Exposure] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def last(self) -> Exposure:
        """After the last round."""
        return self.rounds[-1]


def run(
    data: Interactions,
    recipe: Recipe,
    plan: Plan,
    *,
    rounds: int | None = None,
    every: int = 10,
    seed: int = 0,
    threads: int = 1,
    memory: int = 1 << 30,
    server: tuple[Guard, ...] = (),
    told: Callable[[Promotion], None] | None = None,
) -> Promotion:
    """Train among hostile clients.

    Args:
        data: the interactions of honest clients.
        recipe: the algorithm; a robust aggregator such as `trimmed-mean` is one.
        plan: the attack.
        rounds: how many; None for the algorithm's number.
        every: judge every so many rounds, and the last.
        seed: names all random streams, those of targets and profiles too.
        threads: over clients.
        memory: bytes for a chunk of clients.
        server: guards of the server, applied to what hostile clients send too: a norm bound.
        told: called after each judged round.

    Raises:
        JobError: the attack does not fit the algorithm, or asks for more targets than items.
        NotFinite: training diverged.
    """
    if plan.kind in KINDS[2:] and recipe.backbone not in LINEAR:
        raise JobError(
            f"{plan.kind} needs a backbone whose score is a product of row and vector",
            mend=f"Take an algorithm with the backbone {' or '.join(LINEAR)}.",
        )
    honest = make_task(data, protocol("full-ranking"), seed, threads=threads, memory=memory)
    if plan.targets >= honest.population.items:
        raise JobError("there are not as many items as targets")
    targets = draw_targets(honest, plan.targets)
    task = _attacked(honest, plan, targets, server)
    method = recipe.build(task)
    count = honest.population.clients
    have = popularity(honest.population)[targets].tolist()
    found = Promotion(
        data.name, recipe.algorithm.called(recipe.backbone), seed, plan, count,
        task.population.clients - count, targets.tolist(), have,
    )  # fmt: skip
    judge, total = _Judge(task, count, targets), rounds or recipe.algorithm.rounds
    for number in range(1, total + 1):
        judge.begin(number % every == 0 or number == total)
        method.round(number, judge.watch)
        if judge.judging:
            found.rounds.append(judge.finish(number, method.score))
            (told or (lambda one: None))(found)
    return found


def _attacked(task: Task, plan: Plan, targets: Longs, server: tuple[Guard, ...]) -> Task:
    if plan.kind == "none":
        return replace(task, guards=server)
    first, train = task.population.clients, task.population
    accounts = max(1, round(plan.malicious * first))
    made = profiles(task, targets, accounts, plan.fillers, plan.kind != "random")
    joined, rng = infiltrate(task, made), task.generator(randomness.ATTACK, 4)
    hostile: tuple[Guard, ...] = ()
    if plan.kind == "fedrecattack":
        known = public_share(task, plan.public)
        hostile = (FedRecAttack(first, targets, plan.boost, known, rng),)
    elif plan.kind in ("explicit", "pipattack"):
        labels = levels(popularity(train)) if plan.kind == "pipattack" else None
        hostile = (PipAttack(first, targets, plan.boost, labels, rng),)
    return replace(joined, guards=(*hostile, *server))


class _Judge:
    """Ranks of held-out items and of targets, client by client as they become ready."""

    def __init__(self, task: Task, honest: int, targets: Longs) -> None:
        self._task, self._honest, self._targets = task, honest, targets
        self._rules = [protocol("honest-sampled"), protocol("full-ranking")]
        population = task.population
        self._exams = [exams(one, population, task.seed)["test"] for one in self._rules]
        seen = population.seen
        self._open = np.array(
            [~np.isin(targets, seen.of(one)) for one in range(honest)], np.bool_
        ).reshape(honest, len(targets))
        self.judging = False

    def begin(self, judging: bool) -> None:
        self.judging = judging
        self._seen = np.zeros(self._honest, np.bool_)
        self._ranks = [np.zeros(self._honest, np.int64) for _ in self._rules]
        self._places = np.zeros(self._open.shape, np.int64)

    def watch(self, clients: Longs, score: Score) -> None:
        clients = clients[clients < self._honest]
        if not self.judging or not len(clients):
            return
        for rules, exam, found in zip(self._rules, self._exams, self._ranks, strict=True):
            found[clients] = ranks(self._task, rules, exam, clients, score)
        step = max(1, self._task.memory // (32 * self._task.population.items))
        for first in range(0, len(clients), step):
            some = clients[first : first + step]
            mine = self._task.population.train.take(some)
            self._places[some] = target_ranks(
                score, some, self._targets, mine, self._task.population.items
            )
        self._seen[clients] = True

    def finish(self, number: int, score: Score) -> Exposure:
        self.watch(np.flatnonzero(~self._seen), score)
        er = {f"er@{k}": exposure_ratio(self._places, self._open, k) for k in CUTS}
        names = [one.name for one in self._rules]
        values = [metrics(one) for one in self._ranks]
        return Exposure(number, er, dict(zip(names, values, strict=True)))


def target_ranks(score: Score, clients: Longs, targets: Longs, train: Ragged, items: int) -> Longs:
    """The rank, from 1, of each target among the items outside `train`, int64 [n, T].

    A target of equal score with others stands behind them.
    """
    table = score(clients, Candidates.everything(len(clients), items)).reshape(len(clients), items)
    wanted = table[:, targets].copy()
    table = table.copy()
    table[np.repeat(np.arange(len(clients)), train.counts), train.items] = -np.inf
    table[:, targets] = wanted
    return np.stack([(table >= wanted[:, [t]]).sum(axis=1) for t in range(len(targets))], axis=1)


def exposure_ratio(places: Longs, open_to: np.ndarray[Any, np.dtype[np.bool_]], cut: int) -> float:
    """ER@cut from ranks int64 [U, T] and who has not interacted with what, bool [U, T]."""
    each = [
        float((places[open_to[:, t], t] <= cut).mean())
        for t in range(places.shape[1])
        if open_to[:, t].any()
    ]
    return float(np.mean(each)) if each else 0.0
