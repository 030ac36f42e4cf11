"""Rounds of boosting at the label party: losses, draws, when to stop, and a state to go on from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.errors import TrainError
from isthmus.session import Session
from isthmus.trees.checkpoint import Arrays
from isthmus.trees.drawing import Draws
from isthmus.trees.growing import Growth, scores_of
from isthmus.trees.losses import loss_of
from isthmus.trees.model import Node
from isthmus.trees.options import TreeOptions
from isthmus.trees.shape import Bools, Cut
from isthmus.trees.sources import Numbers, OwnColumns, PartnerColumns, Source
from isthmus.trees.splitting import Scale

Floats = npt.NDArray[np.float64]

_NOTES = 20


@dataclass(frozen=True, eq=False)
class Target:
    """What the label party learns."""

    labels: Floats
    """float64 `[rows]`."""
    weights: Floats
    """float64 `[rows]`, above 0."""
    valid: Bools
    """Rows to stop by, not learnt from, bool `[rows]`."""


class Boosting:
    """Rounds of trees, each on the derivatives of the loss at the scores so far.

    Args:
        session: of the label party.
        own: its columns.
        partners: theirs.
        target: what is learnt.
        options: as agreed.
    """

    def __init__(
        self,
        session: Session,
        own: OwnColumns,
        partners: Sequence[PartnerColumns],
        target: Target,
        options: TreeOptions,
    ) -> None:
        self._own, self._partners = own, partners
        self._target, self._options = target, options
        self._loss = loss_of(options)
        self._learnt = ~target.valid
        self._draws = Draws(session.rng("trees", options.seed), options)
        learnt = self._learnt
        self.start = self._loss.start(target.labels[learnt], target.weights[learnt])
        self._scores = np.tile(self.start, (len(target.labels), 1))
        self.trees: list[tuple[Node, ...]] = []
        self.losses: list[float] = []
        self.valid_losses: list[float] = []
        self._cuts: list[list[int]] = []
        """After each round, the cuts of each party."""

    def round(self, number: int) -> None:
        """Add a tree for each class."""
        labels, weights = self._target.labels, self._target.weights[:, None]
        first, second = self._loss.derivatives(labels, self._scores)
        first, second = first * weights, second * weights
        used = self._draws.rows(self._learnt)
        factors = self._draws.factors(used, np.abs(first).sum(axis=1))[:, None]
        first, second = first * factors, second * factors
        for each in range(self._options.trees_a_round):
            tree = number * self._options.trees_a_round + each
            self._add(tree, each, used, np.stack([first[:, each], second[:, each]], axis=1))
        losses = self._loss.losses(labels, self._scores)
        self.losses.append(self._mean(losses, self._learnt))
        if self._target.valid.any():
            self.valid_losses.append(self._mean(losses, self._target.valid))
        self._cuts.append([self._own.cuts, *(partner.cuts for partner in self._partners)])

    def _add(self, tree: int, each: int, used: Bools, derivatives: Floats) -> None:
        alone = tree < self._options.own_trees * self._options.trees_a_round
        sources: list[Source] = [self._own, *([] if alone else self._partners)]
        columns = self._draws.columns([source.all_columns for source in sources])
        taking = [(one, some) for one, some in zip(sources, columns, strict=True) if some]
        numbers, scale = _fixed_point(tree, used, derivatives, self._options)
        growth = Growth(
            [source for source, _ in taking],
            [some for _, some in taking],
            numbers,
            scale,
            self._options,
        )
        self.trees.append(growth.grow())
        self._scores[:, each] += scores_of(growth.nodes, self.trees[-1])

    def _mean(self, losses: Floats, rows: Bools) -> float:
        found = float(np.average(losses[rows], weights=self._target.weights[rows]))
        if not math.isfinite(found):
            raise TrainError("the loss is not finite", mend="Take a smaller learning_rate.")
        return found

    def note(self) -> str:
        """The losses so far."""
        valid = f", valid {self.valid_losses[-1]:.5f}" if self.valid_losses else ""
        return f"round {self.rounds}, loss {self.losses[-1]:.5f}{valid}"

    def noteworthy(self) -> bool:
        """Whether it is the first round, the last, or one of some twenty between.

        Where there is no terminal each note is a line of a log.
        """
        every = max(1, self._options.trees // _NOTES)
        return self.rounds == 1 or self.rounds % every == 0 or self.settled()

    @property
    def rounds(self) -> int:
        """Rounds that have been made."""
        return len(self.losses)

    def settled(self) -> bool:
        """Whether all rounds are made, or it has been long enough without a better loss."""
        patience = self._options.patience
        if patience is not None and self.losses and self.rounds - self._best() >= patience:
            return True
        return self.rounds >= self._options.trees

    def state(self) -> tuple[Arrays, Mapping[str, Any]]:
        """All that the rounds so far have left, as arrays and JSON values."""
        nodes = [node for tree in self.trees for node in tree]
        cuts = [(cut.column, cut.bin, cut.missing_left) for cut in self._own.made]
        arrays = {
            "sizes": np.array([len(tree) for tree in self.trees], np.int64),
            "nodes": np.array(
                [(one.party, one.cut, one.column, one.left) for one in nodes], np.int64
            ).reshape(-1, 4),
            "values": np.array([(one.gain, one.value) for one in nodes], np.float64).reshape(-1, 2),
            "scores": self._scores,
            "losses": np.array(self.losses),
            "valid_losses": np.array(self.valid_losses),
            "own_cuts": np.array(cuts, np.int64).reshape(-1, 3),
            "cuts": np.array(self._cuts, np.int64),
        }
        return arrays, {"draws": self._draws.state()}

    def load_state(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Go on from what `state` gave of the same fit."""
        nodes = [
            Node(*map(int, whole), *map(float, real))
            for whole, real in zip(arrays["nodes"], arrays["values"], strict=True)
        ]
        ends = np.cumsum(arrays["sizes"]).tolist()
        self.trees = [
            tuple(nodes[end - size : end])
            for end, size in zip(ends, arrays["sizes"].tolist(), strict=True)
        ]
        self._scores = arrays["scores"].copy()
        self.losses = arrays["losses"].tolist()
        self.valid_losses = arrays["valid_losses"].tolist()
        self._own.made = [Cut(c, b, bool(left)) for c, b, left in arrays["own_cuts"].tolist()]
        self._cuts = arrays["cuts"].tolist()
        for place, partner in enumerate(self._partners):
            partner.cuts = self._cuts[-1][1 + place]
        self._draws.load_state(facts["draws"])

    def _best(self) -> int:
        """The number of rounds of least loss on the rows `valid`."""
        return 1 + int(np.argmin(self.valid_losses))

    def end(self) -> list[int]:
        """Drop the rounds after the best, tell partners, and give each party's number of cuts."""
        rounds = len(self.losses) if self._options.patience is None else self._best()
        self.trees = self.trees[: rounds * self._options.trees_a_round]
        kept = self._cuts[rounds - 1]
        for partner, cuts in zip(self._partners, kept[1:], strict=True):
            partner.link.send("trees.tree", header={"done": True, "cuts": cuts})
        return kept


def _fixed_point(
    tree: int, used: Bools, derivatives: Floats, options: TreeOptions
) -> tuple[Numbers, Scale]:
    """Derivatives `[rows, 2]` of the used rows as whole numbers, and their units."""
    if not np.isfinite(derivatives[used]).all():
        raise TrainError("derivatives are not finite", mend="Take a smaller learning_rate.")
    bits = options.bits_for(int(used.sum()))
    largest = np.abs(derivatives[used]).max(axis=0)
    units = [math.ldexp(1.0, _exponent(float(one)) - bits) for one in largest]
    values = np.zeros(derivatives.shape, dtype=np.int64)
    values[used] = np.rint(derivatives[used] / units).astype(np.int64)
    return Numbers(tree, used, values, bits), Scale(*units)


def _exponent(value: float) -> int:
    """Of the least power of two that is not below `value`; far from the ends of float64."""
    mantissa, exponent = math.frexp(value)
    return max(-900, exponent - 1 if mantissa == 0.5 else exponent)
