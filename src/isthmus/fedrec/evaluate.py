"""Ranks of held-out items, and the metrics that follow from them."""

from __future__ import annotations

import numpy as np

from isthmus.errors import NotFinite
from isthmus.fedrec import randomness
from isthmus.fedrec.compiled import compiled, inlined
from isthmus.fedrec.method import Score
from isthmus.fedrec.population import NONE, Longs
from isthmus.fedrec.protocols import EvalProtocol, Exam
from isthmus.fedrec.task import Task

CUTS = (5, 10, 20)
METRICS = tuple(f"{name}@{k}" for k in CUTS for name in ("hr", "ndcg", "recall", "mrr"))


def ranks(task: Task, rules: EvalProtocol, exam: Exam, clients: Longs, score: Score) -> Longs:
    """The rank, from 1, of each client's held-out item, int64 [n]; 0 for one that has none.

    Raises:
        NotFinite: a score is NaN.
    """
    out = np.zeros(len(clients), np.int64)
    wanted = np.flatnonzero(exam.positive[clients] != NONE)
    width = 8 * (task.population.items if exam.sampled is None else (rules.candidates or 0) + 1)
    step = max(1, task.memory // (4 * width))
    for first in range(0, len(wanted), step):
        places = wanted[first : first + step]
        some = clients[places]
        out[places] = _ranks(task, rules, exam, some, score)
    return out


def _ranks(task: Task, rules: EvalProtocol, exam: Exam, clients: Longs, score: Score) -> Longs:
    candidates = exam.candidates(clients, task.population.items)
    scores = score(clients, candidates)
    if np.isnan(scores).any():
        raise NotFinite("the scores of a model are not numbers", mend="Lower the learning rates.")
    chance = randomness.uniforms(task.seed, randomness.TIES, 0, task.shard.identity[clients])
    if rules.ties_against:
        chance[:] = 1.0
    if exam.excluded is None:
        return _sampled_ranks(scores, candidates.count, chance)
    excluded = exam.excluded.take(clients)
    table = scores.reshape(len(clients), task.population.items)
    return _full_ranks(table, exam.positive[clients], excluded.indptr, excluded.items, chance)


@inlined
def _behind(equal: int, chance: float) -> int:
    """How many of the equal ones stand ahead: uniform over 0 .. equal, all of them at chance 1."""
    return min(int(chance * (equal + 1)), equal)


@compiled
def _sampled_ranks(scores: np.ndarray, count: np.ndarray, chance: np.ndarray) -> np.ndarray:
    out = np.empty(len(count), np.int64)
    begin = 0
    for place in range(len(count)):
        own, ahead, equal = scores[begin], 0, 0
        for k in range(begin + 1, begin + count[place]):
            if scores[k] > own:
                ahead += 1
            elif scores[k] == own:
                equal += 1
        begin += count[place]
        out[place] = 1 + ahead + _behind(equal, chance[place])
    return out


@compiled
def _full_ranks(
    scores: np.ndarray,
    positive: np.ndarray,
    indptr: np.ndarray,
    excluded: np.ndarray,
    chance: np.ndarray,
) -> np.ndarray:
    out = np.empty(len(positive), np.int64)
    for place in range(len(positive)):
        row = scores[place]
        own, ahead, equal = row[positive[place]], 0, -1
        for item in range(row.size):
            ahead += row[item] > own
            equal += row[item] == own
        for k in range(indptr[place], indptr[place + 1]):
            ahead -= row[excluded[k]] > own
            equal -= row[excluded[k]] == own
        out[place] = 1 + ahead + _behind(equal, chance[place])
    return out


def counted(found: Longs) -> Longs:
    """How many clients have rank 1, 2, ... 20, and how many were ranked at all, int64 [21].

    Whole numbers, so that the counts of parts of the clients add up to those of all of them.
    """
    ranked = found[found > 0]
    near = np.bincount(ranked[ranked <= CUTS[-1]] - 1, minlength=CUTS[-1])
    return np.append(near, len(ranked)).astype(np.int64)


def metrics(found: Longs) -> dict[str, float]:
    """The means of hit rate, NDCG, recall and reciprocal rank at 5, 10 and 20 over clients.

    One item is held out a client, so recall is the hit rate, and NDCG is `1 / log2(1 + rank)`.
    """
    return metrics_of(counted(found))


def metrics_of(counts: Longs) -> dict[str, float]:
    """As `metrics`, from what `counted` gave."""
    rank, total = np.arange(1, CUTS[-1] + 1), max(int(counts[-1]), 1)
    out: dict[str, float] = {}
    for k in CUTS:
        hit = counts[:-1] * (rank <= k)
        values = (hit, hit / np.log2(1 + rank), hit, hit / rank)
        for name, value in zip(("hr", "ndcg", "recall", "mrr"), values, strict=True):
            out[f"{name}@{k}"] = float(value.sum() / total)
    return out
