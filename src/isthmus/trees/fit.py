r"""Boosted trees over columns of several parties, without showing the label or the columns.

The model is that of SecureBoost (Cheng et al., "SecureBoost: A Lossless Federated Learning
Framework", IEEE Intelligent Systems 2021): the label party L finds each node's best split by sums
of the loss's first and second derivatives g and h over the bins of all parties' columns. There the
derivatives go out under additive homomorphic encryption and sums come back; here they go out under
one-time masks that fit only the bin that a row is in (`isthmus.crypto.onehot`), which costs one
block of AES for each row, column and bin. For each feature party B::

    L -> B   trees.hello     options, rows; which rows are learnt from
    B -> L   trees.hello     options, rows
    B -> L   trees.columns   of each column, without its name, the number of bins; the rounds of its
                             checkpoints
    L -> B   trees.begin     the round to go on after, 0 for the beginning
    B <-> L  trees.base, .answers, .choices, .keys: B's half of the keys (`setup`), once
    then for each tree
    L -> B   trees.tree      its rows and columns
    L -> B   trees.numbers   g and h of each row under a mask for each column
    B -> L   trees.sums      its share of the root's sums by bin; which cuts leave enough rows
    then until all nodes are leaves, for all nodes of a level at once (or for one, with `leaves`)
    L -> B   trees.splits    nodes to split; for B's columns the column, the bin and the side of
                             missing values
    B -> L   trees.sides     the rows that go left at B's splits, a bit each
    L -> B   trees.rows      the same for others' splits
    B -> L   trees.sums      its shares of each two children's sums, of which it adds up the smaller
                             child's (the other's is the difference); the cuts allowed in both

L takes its own share off, which gives the exact sums in fixed point, of 40 bits or fewer: so few
that a sum is exact in float64 as well. So a model of several parties is equal to that of the same
columns in one table, to the last bit, unless `cell` or `noise` ask for less.

**Security model: semi-honest.** What each side learns:

- L: of each B the number of columns and of each column's bins; for each node and bin the sum of g
  and h, with the bins in their order but not their edges; which cuts leave `min_rows` rows on both
  sides; the side of each row at the splits that it chose of B's. It is what SecureBoost's active
  party learns. L knows the g and h it sums: in a node of few rows the exact sum of a bin can be
  taken apart into the rows it is of (a subset sum, or by differences between trees), and tells L
  these rows' bins. With `cell` no sum is of fewer rows: B puts neighbouring bins together, alike in
  siblings and by whole groups of their parent, so that no fewer follow from a column's sums in a
  tree. `bits` makes g and h coarse, a small `depth` keeps nodes large, `noise` hides sums, and the
  first `own_trees` ask B nothing.
- B: the rows of each node, from which it learns which rows the label party and other partners
  found alike, and which splits of its own served; rows held out for `valid`. Nothing of g, h or the
  labels: these are masked as the primitive says.
- Partners of one L learn nothing of each other but the rows of nodes.

A feature party that does not keep to the oblivious transfers, and sends what stands for no choice,
can learn the keys and with them g and h, and so labels (`isthmus.crypto.ot_extension`).

Both find out a partner that sends sums, cuts or rows that cannot be, but not one that lies well.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from isthmus.errors import DataError, JobError
from isthmus.session import Session
from isthmus.trees.boosting import Target
from isthmus.trees.feature_side import fit_as_feature
from isthmus.trees.label_side import Keeping, fit_as_label
from isthmus.trees.losses import loss_of
from isthmus.trees.model import TreeModel
from isthmus.trees.options import TreeOptions

_MOST_ROWS = 1 << 31


def fit(
    session: Session,
    table: pl.DataFrame | None,
    labels: ArrayLike | None = None,
    options: TreeOptions | None = None,
    *,
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    keeping: Keeping | None = None,
) -> TreeModel:
    """Fit a model; every party calls it at the same time, with the same rows in the same order.

    With the session's folder set at every party, checkpoints are written there between rounds, and
    a later call with the same arguments goes on from the last that all have, to the same model.
    `clear_checkpoints` removes them. They hold nothing of the masks, which are made anew.

    Args:
        session: the party's session. A label party without links fits its own columns alone.
        table: the own columns: numbers, where null and NaN are missing, or text, which is of
            categories. None at a label party without any.
        labels: `[rows]`, at the label party alone.
        options: the same at every party.
        weights: of the rows, above 0, at the label party alone; derivatives count as often.
        valid: numbers of rows that are not learnt from, to stop by, at the label party alone.
        keeping: when checkpoints are written, at the label party; every 30 seconds by default.

    Raises:
        DataError: the own data cannot be used.
        JobError: the parties differ, or labels are at the wrong party.
        TrainError: the loss is not finite.
        BadMessage: a partner did not keep to the protocol.
    """
    options = options or TreeOptions()
    if table is not None and not hasattr(table, "height"):
        raise DataError(
            f"columns come as a polars data frame, not as {type(table).__name__}",
            mend="Name the columns of an array: pl.DataFrame(array, schema=[...]).",
        )
    if not session.is_label_party:
        if labels is not None or weights is not None or valid is not None:
            raise JobError(f"{session.me} is not the label party, and came with labels or rows")
        if table is None or not table.height or not table.width:
            raise DataError(f"{session.me} came without columns or rows")
        return fit_as_feature(session, table, options)
    if labels is None:
        raise JobError(f"{session.me} is the label party, and came without labels")
    if set(session.links) != set(session.feature_parties):
        raise JobError(f"{session.me} has not a link to every feature party")
    target = _target(labels, weights, valid, options)
    if table is not None and table.width and table.height != len(target.labels):
        raise DataError(f"{table.height} rows of columns and {len(target.labels)} labels")
    return fit_as_label(session, table, target, options, keeping or Keeping())


def fit_alone(
    table: pl.DataFrame,
    labels: ArrayLike,
    options: TreeOptions | None = None,
    *,
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    seed: int = 0,
) -> TreeModel:
    """Fit a model of one table by the same code, without a session; see `fit`."""
    session = Session(me="alone", parties=("alone",), label_party="alone", seed=seed)
    return fit(session, table, labels, options, weights=weights, valid=valid)


def _target(
    labels: ArrayLike, weights: ArrayLike | None, valid: ArrayLike | None, options: TreeOptions
) -> Target:
    y = _values(labels, None, "labels")
    if not 0 < len(y) < _MOST_ROWS:
        raise DataError(f"there are {len(y)} labels")
    w = np.ones(len(y)) if weights is None else _values(weights, len(y), "weights")
    if w.min() <= 0:
        raise DataError("weights must be above 0", mend="Leave rows of weight 0 out.")
    held = _rows(valid, len(y))
    if options.patience is not None and not held.any():
        raise JobError("patience has no rows to stop by", mend="Give valid, or leave it out.")
    if held.all():
        raise DataError("all rows are held out for valid, and none is left to learn from")
    loss_of(options).check(y[~held])
    if held.any() and options.objective == "multiclass":
        known = np.isin(y[held], np.unique(y[~held]))
        if not known.all():
            raise DataError("the rows valid have labels that no row to learn from has")
    return Target(y, w, held)


def _values(
    values: ArrayLike, rows: int | None, name: str
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or (rows is not None and len(found) != rows):
        raise DataError(f"{name} have shape {list(found.shape)}, not one number a row")
    if not np.isfinite(found).all():
        raise DataError(f"{name} are missing or not finite in some rows")
    return found


def _rows(valid: ArrayLike | None, rows: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    out = np.zeros(rows, dtype=np.bool_)
    numbers = np.empty(0, np.int64) if valid is None else np.asarray(valid)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise DataError("valid must be numbers of rows")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= rows):
        raise DataError(f"valid has numbers beyond the {rows} rows")
    out[numbers.astype(np.int64)] = True
    return out
