"""Whom a server attacks, and how well it guessed their training items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec import randomness
from isthmus.fedrec.population import Longs
from isthmus.fedrec.task import Task

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Guess:
    """Means over the clients attacked."""

    precision: float
    recall: float
    f1: float


def drawn(task: Task, count: int) -> Longs:
    """`count` clients with training items, drawn by the task's seed; all if there are fewer."""
    able = np.flatnonzero(task.population.train.counts > 0)
    if len(able) <= count:
        return able
    rng = task.generator(randomness.ATTACK)
    return np.sort(rng.choice(able, count, replace=False))


def truth(task: Task, targets: Longs) -> Flags:
    """The training items of these clients, bool [n, M]."""
    lists = task.population.train.take(targets)
    out = np.zeros((len(targets), task.population.items), np.bool_)
    out[np.repeat(np.arange(len(targets)), lists.counts), lists.items] = True
    return out


def judged(guessed: Flags, true: Flags) -> Guess:
    """How good the guesses are, bool [n, M] each; F1 is taken client by client."""
    hits = (guessed & true).sum(axis=1)
    precision = hits / np.maximum(guessed.sum(axis=1), 1)
    recall = hits / np.maximum(true.sum(axis=1), 1)
    f1 = 2 * hits / np.maximum(guessed.sum(axis=1) + true.sum(axis=1), 1)
    return Guess(float(precision.mean()), float(recall.mean()), float(f1.mean()))


def largest(scores: NDArray[np.float64], among: Flags, counts: Longs) -> Flags:
    """Of each row of scores the `counts[i]` largest among those allowed, bool [n, M]."""
    out = np.zeros(among.shape, np.bool_)
    masked = np.where(among, scores, -np.inf)
    for place, count in enumerate(counts.tolist()):
        best = np.argsort(-masked[place], kind="stable")[:count]
        out[place, best] = among[place, best]
    return out
