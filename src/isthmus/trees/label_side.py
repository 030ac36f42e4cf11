"""The label party's side of boosted trees, with or without partners; the protocol is in `fit`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.crypto.onehot import Layout
from isthmus.errors import BadMessage, DataError, TrainError
from isthmus.link import Link, Message, checks
from isthmus.session import Session
from isthmus.trees import wire
from isthmus.trees.binning import fit_bins
from isthmus.trees.drawing import Draws
from isthmus.trees.growing import Growth, scores_of
from isthmus.trees.losses import loss_of
from isthmus.trees.model import Node, TreeModel
from isthmus.trees.options import TreeOptions
from isthmus.trees.setup import as_dealer
from isthmus.trees.shape import BinShape, Bools
from isthmus.trees.sources import Numbers, OwnColumns, PartnerColumns, Source
from isthmus.trees.splitting import Scale

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Target:
    """What the label party learns."""

    labels: Floats
    """float64 `[rows]`."""
    weights: Floats
    """float64 `[rows]`, above 0."""
    valid: Bools
    """Rows to stop by, not learnt from, bool `[rows]`."""


def fit_as_label(
    session: Session, table: pl.DataFrame | None, target: Target, options: TreeOptions
) -> TreeModel:
    """See `fit`."""
    rows, learnt = len(target.labels), ~target.valid
    agreed = options.agreed() | {"rows": rows}
    for link in session.links.values():
        link.send("trees.hello", {"learnt": wire.packed(learnt)}, {"agreed": agreed})
    given = pl.DataFrame() if table is None else table
    bins = fit_bins(given, learnt, options.bins, options.min_rows)
    codes = np.empty((rows, len(bins)), dtype=np.int16)
    for place, one in enumerate(bins):
        codes[:, place] = one.codes(given)
    own = OwnColumns(codes, bins, options.min_rows)
    partners = _partners(session, rows, agreed, options)
    if not bins and not partners:
        raise DataError(f"no column has two bins of {options.min_rows} rows or more")
    boosting = _Boosting(session, own, partners, target, options)
    with session.progress.task("fit", options.trees * options.trees_a_round) as task:
        for number in range(options.trees):
            boosting.round(number)
            task.advance(options.trees_a_round)
            task.note(boosting.note())
            if boosting.settled():
                break
    kept = boosting.end()
    return TreeModel(
        options=options,
        parties=(session.me, *(partner.link.partner for partner in partners)),
        bins=bins,
        cuts=tuple(own.made[: kept[0]]),
        trees=tuple(boosting.trees),
        start=tuple(boosting.start.tolist()),
        losses=tuple(boosting.losses),
        valid_losses=tuple(boosting.valid_losses),
        rho=max((partner.rho for partner in partners), default=0.0),
    )


def _partners(
    session: Session, rows: int, agreed: dict[str, object], options: TreeOptions
) -> list[PartnerColumns]:
    for link in session.links.values():
        hello = wire.hear(link, "trees.hello")
        checks.same(link, hello, agreed)
        wire.take(link, hello, {})
    partners = []
    for number, name in enumerate(session.feature_parties):
        link = session.link(name)
        shape = _shape(link, wire.hear(link, "trees.columns"), options)
        dealer = as_dealer(link, Layout(shape.widths), rows)
        partners.append(PartnerColumns(link, number + 1, dealer, shape, options))
    return partners


def _shape(link: Link, message: Message, options: TreeOptions) -> BinShape:
    """A partner's columns. Raises BadMessage."""
    count = message.tensors["values"].size if "values" in message.tensors else 0
    if not 0 < count <= wire.MOST_COLUMNS:
        raise BadMessage(f"{link.partner} sent {message.topic} with {count} columns")
    values, missing = wire.take(
        link, message, {"values": (np.int64, (count,)), "missing": (np.bool_, (count,))}
    )
    if (values + missing < 2).any() or (values < 1).any() or (values > options.bins).any():
        raise BadMessage(f"{link.partner} sent {message.topic} with bins that cannot be")
    return BinShape(tuple(values.tolist()), tuple(missing.tolist()))


class _Boosting:
    """Rounds of trees, each on the derivatives of the loss at the scores so far."""

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
        return f"loss {self.losses[-1]:.5f}{valid}"

    def settled(self) -> bool:
        """Whether it has been long enough without a better loss."""
        patience = self._options.patience
        return patience is not None and len(self.losses) - self._best() >= patience

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
