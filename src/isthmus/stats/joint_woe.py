r"""WOE and IV of all parties' columns: who has the label never sees values, nor others the label.

The label party A encrypts its label of 0 and 1; each feature party B, with bins of its own making,
sends back encrypted sums over each bin, of which A can open nothing else (`crypto.products`)::

    A -> B   woe.key      A's public key, fresh in every run
    A -> B   woe.label    the label, encrypted
    A -> B   woe.weight   where rows have weights: weight times label, then the weights, encrypted
    B -> A   woe.bins     names of the columns, rows per bin; no edge, category or value
    B -> A   woe.sums     positives per bin, encrypted and masked but for their sums; then the same
                          of weights
    A -> B   woe.result   which bins are to be joined, which columns to keep; the IV, the WOE

Several bins share one sum: bin d's rows count (rows + 1)^d, so the sum's digits are the bins'
positives. Weights are whole numbers by a scale (`weighted`), whose digits are to a base that no sum
of them reaches, a power of two: B learns that, and of the weights nothing else.

**Security model: semi-honest** (and see `crypto.he` on noise). What each side learns:

- A: B's names of columns (numbers, if B wants), how many bins each has, and rows and positives per
  bin. B joins bins of fewer than its `least` rows before anything is sent.
- B: nothing of the label but what A's `tell` allows: "keep" which columns have the IV that A asks
  for; "iv" the IV to three decimals; "woe" the WOE of each bin, which with the number of positives
  is the number of positives of that bin. Both are of bins that have `least_class` rows of each
  class, so none says its label for all its rows: for "woe", A first joins smaller ones and B learns
  which; for "iv", only the IV that it tells is of joined bins. With method "chi" or "monotone", B
  learns which bins A has joined, that is, which are alike.
- Feature parties learn nothing of one another.

What A tells is of bins of at least its own `least` rows too, so that one column does not cut out
one person. Two columns whose bins differ by a few rows still show those rows' labels, by the
difference of what A tells of each: `least` does not prevent it. B can cut out any `least` rows.

A label party that lies about its label, and encrypts a mark on single rows instead, learns the bins
of these rows: no protocol of this kind prevents it, so B should count the runs it agrees to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.crypto.products import Shape, encrypted, opened
from isthmus.errors import BadMessage, DataError, JobError
from isthmus.link import Link
from isthmus.session import PATIENCE, Session
from isthmus.stats import wire
from isthmus.stats.binning import BinningOptions, fit_bins, label_groups, pooled
from isthmus.stats.columns import Bools, Table, frame, labels, read
from isthmus.stats.packing import Packing
from isthmus.stats.weighted import Counts, Weights, fixed
from isthmus.stats.woe_fit import ColumnWoe, WoeFit
from isthmus.stats.woe_partner import TELLS, Tell, alike, at_feature_party, numbered

Longs = npt.NDArray[np.int64]
IV_DIGITS = 3
"""Decimals of an IV that a feature party is told without the WOE."""


@dataclass(frozen=True, kw_only=True)
class Disclosure:
    """What this party lets others see; each party has its own."""

    tell: Tell = "iv"
    """At the label party: what feature parties learn of their own columns."""
    least_iv: float = 0.0
    """At the label party: a column of less is not kept."""
    least_class: int = 5
    """At the label party, unless tell is "keep": rows of each class that a bin has at least."""
    names: bool = True
    """At a feature party: whether columns go by their names, or by numbers."""

    def __post_init__(self) -> None:
        """Raises JobError where a setting is impossible."""
        if self.tell not in TELLS:
            raise JobError(f"there is nothing called {self.tell!r} to tell: {', '.join(TELLS)}")
        if self.least_class < 1 or not self.least_iv >= 0:
            raise JobError("least_class must be 1 or more, and least_iv not negative")


def fit_woe(
    session: Session,
    table: Table,
    *,
    label: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    weighted: bool = False,
    options: BinningOptions | None = None,
    disclosure: Disclosure | None = None,
    threads: int = 1,
) -> WoeFit:
    """Bin all columns of all parties and measure each against the label; see the module.

    Every party calls it at the same time with its own aligned columns. A label party without
    partners gets its own columns only.

    Args:
        session: the party's session.
        table: the own columns, rows in the aligned order. May be empty of columns.
        label: 0 or 1 per row, at the label party only.
        weights: how much each row counts for WOE and IV, `[rows]`, at the label party only. How
            many rows a bin must have is of rows.
        weighted: whether the label party has weights; the same at all parties.
        options: of the own columns; `method`, `bins` and `adjustment` must be those of all parties.
        disclosure: what this party shows.
        threads: that SEAL may use.

    Returns:
        The own columns' bins with what this party knows of them, and at the label party the tables
        of all columns.

    Raises:
        DataError: the tables have different numbers of rows; a column or the label cannot be used.
        JobError: the parties' options differ, or a label is given where none belongs.
        BadMessage: a partner did not keep to the protocol.
    """
    options, disclosure = options or BinningOptions(), disclosure or Disclosure()
    given = frame(table)
    if session.is_label_party != (label is not None):
        raise JobError(f"{session.me} must {'have' if label is None else 'not have'} a label")
    if weighted != (weights is not None) and (session.is_label_party or not weighted):
        raise JobError("weights are given by the label party, and told of by `weighted` at all")
    if label is not None:
        positive = labels(label, np.asarray(label).shape[0])
        if given.width and given.height != positive.size:
            raise DataError(f"the label has {positive.size} rows, the table {given.height}")
        given_weights = None if weights is None else fixed(weights, positive.size)
        return _as_label_party(
            session, table, positive, given_weights, options, disclosure, threads
        )
    return at_feature_party(
        session, table, options, names=disclosure.names, weighted=weighted, threads=threads
    )


# ----------------------------------------------------------------------------- the label party


def _as_label_party(
    session: Session, table: Table, label: Bools, weights: Weights | None,
    options: BinningOptions, disclosure: Disclosure, threads: int,
) -> WoeFit:  # fmt: skip
    given, same = frame(table), alike(options, weights is not None)
    columns = {
        link: wire.greet(link, "woe.hello", label.size, given.width, same)
        for link in session.links.values()
    }
    found: list[ColumnWoe] = []
    if given.width:
        found += _own(session.me, table, label, weights, options, disclosure)
    asked = [link for link, count in columns.items() if count]
    if asked:
        # All partners hold the same ciphertexts, and work at the same time.
        key = he.HeKey(threads)
        public, label_sent = key.public(), he.pack(_encrypted(key, label.astype(np.int64)))
        for link in asked:
            link.send("woe.key", {"key": public})
            link.send("woe.label", label_sent)
        for vector in () if weights is None else (weights.whole * label, weights.whole):
            sent, most = (
                he.pack(_encrypted(key, vector)),
                {"most": 0 if weights is None else weights.most},
            )
            for link in asked:
                link.send("woe.weight", sent, header=most)
        for link in asked:
            found += _partner(link, columns[link], key, label, weights, options, disclosure)
    return WoeFit(rows=label.size, columns=tuple(found))


def _encrypted(key: he.HeKey, values: Longs) -> list[he.Cipher]:
    # As many repetitions as fit, whatever the number of columns.
    return encrypted(key, Shape(values.size, he.SLOTS), values)


def _own(
    me: str, table: Table, label: Bools, weights: Weights | None, options: BinningOptions,
    disclosure: Disclosure,
) -> Iterator[ColumnWoe]:  # fmt: skip
    given, by_row = frame(table), None if weights is None else weights.whole / weights.scale
    for name, bins in fit_bins(given, options, label, by_row).items():
        codes = bins.codes(read(given[name]))
        found = Counts.of(bins, codes, label, weights).table(options.adjustment)
        keep = found.total_iv >= disclosure.least_iv
        yield ColumnWoe(me, name, bins, keep, found.total_iv, found.woe, found)


def _partner(
    link: Link, count: int, key: he.HeKey, label: Bools, weights: Weights | None,
    options: BinningOptions, disclosure: Disclosure,
) -> list[ColumnWoe]:  # fmt: skip
    shown = _shown_bins(link, count, label.size, options)
    out, groups, ivs = [], [], []
    for column, counts in zip(shown, _counted(link, key, label, weights, shown), strict=True):
        joined = _joined(column, counts, options)
        safe = _safe(column, counts, joined, disclosure.least_class)
        if disclosure.tell == "woe":
            joined = safe
        found = counts.over(joined).table(options.adjustment)
        told = counts.over(safe).table(options.adjustment).total_iv
        groups.append(joined)
        ivs.append(told if disclosure.tell == "woe" else round(told, IV_DIGITS))
        keep = found.total_iv >= disclosure.least_iv
        out.append(
            ColumnWoe(link.partner, column.name, None, keep, found.total_iv, found.woe, found)
        )
    _tell(link, out, groups, ivs, disclosure.tell)
    return out


@dataclass(frozen=True, eq=False)
class _Shown:
    """What a partner shows of a column."""

    name: str
    rows: Longs
    values: int
    ordered: bool
    free: bool
    """Whether its bins may be joined by the label: not where its owner gave the edges."""


def _shown_bins(link: Link, count: int, rows: int, options: BinningOptions) -> list[_Shown]:
    message = link.recv("woe.bins", timeout=PATIENCE)
    names = wire.names(link, message, count)
    about = wire.tensor(link, message, "about", np.int32, (count, 4))
    bins, values = about[:, 0].astype(np.int64), about[:, 1]
    if not ((bins >= 1) & (bins <= 1024) & (values >= 0) & (values <= bins)).all():
        raise BadMessage(f"{link.partner} sent woe.bins with impossible numbers of bins")
    if not np.isin(about[:, 2:], (0, 1)).all():
        raise BadMessage(f"{link.partner} sent woe.bins with impossible kinds of columns")
    sizes = wire.tensor(link, message, "rows", np.int64, (int(bins.sum()),))
    parts = np.split(sizes, np.cumsum(bins)[:-1])
    if not ((sizes >= 1) & (sizes <= rows)).all() or any(int(p.sum()) != rows for p in parts):
        raise BadMessage(f"{link.partner} sent woe.bins that do not hold the {rows} rows")
    if (sizes < options.least).any():
        raise DataError(
            f"{link.partner} has bins of {int(sizes.min())} rows; {link.me} tells nothing of bins "
            f"of fewer than {options.least}",
            mend="Agree on least, or let the partner take the greater one.",
        )
    return [
        _Shown(name, part, int(a[1]), bool(a[2]), bool(a[3]))
        for name, part, a in zip(names, parts, about, strict=True)
    ]


def _counted(
    link: Link, key: he.HeKey, label: Bools, weights: Weights | None, shown: list[_Shown]
) -> list[Counts]:
    """What is in the bins of each column."""
    rows = label.size
    positives = _opened_sums(link, key, shown, Packing(rows))
    _check_sums(link, positives, [column.rows for column in shown], int(label.sum()))
    if weights is None:
        return [Counts(one.rows, hits) for one, hits in zip(shown, positives, strict=True)]
    hits, whole = (_opened_sums(link, key, shown, Packing(rows, weights.most)) for _ in range(2))
    total = int(weights.whole.sum())
    _check_sums(link, whole, [np.full(one.rows.size, total) for one in shown], total)
    _check_sums(link, hits, whole, int(weights.whole[label].sum()))
    return [
        Counts(one.rows, ones, w / weights.scale, p / weights.scale)
        for one, ones, w, p in zip(shown, positives, whole, hits, strict=True)
    ]


def _opened_sums(link: Link, key: he.HeKey, shown: list[_Shown], packing: Packing) -> list[Longs]:
    """The sums over each bin, int64 `[bins]` per column."""
    rows = packing.rows
    sums = sum(packing.sums(column.rows.size) for column in shown)
    found = []
    for start, stop in packing.batches(sums):
        message = link.recv("woe.sums", timeout=PATIENCE)
        shape = Shape(rows, stop - start)
        found.append(opened(key, shape, he.unpack(key, dict(message.tensors), shape.answered)))
    flat, out, at = np.concatenate(found), [], 0
    for column in shown:
        used = packing.sums(column.rows.size)
        out.append(packing.digits(flat[at : at + used], column.rows.size))
        at += used
    return out


def _check_sums(link: Link, sums: list[Longs], most: list[Longs], total: int) -> None:
    for hits, ends in zip(sums, most, strict=True):
        if (hits < 0).any() or (hits > ends).any() or int(hits.sum()) != total:
            raise BadMessage(f"{link.partner} sent woe.sums that cannot be those of its bins")


def _joined(column: _Shown, counts: Counts, options: BinningOptions) -> Longs:
    """The final bin of each bin that the partner has shown, numbered from 0."""
    groups = np.arange(column.rows.size)
    if column.free:
        values, ordered = column.values, column.ordered
        groups = label_groups(*counts.effective(), values, options, ordered=ordered)
    return numbered(groups)


def _safe(column: _Shown, counts: Counts, groups: Longs, least: int) -> Longs:
    """Groups joined further, so that each has `least` rows of both classes."""
    held = counts.over(groups)
    values = int(groups[: column.values].max(initial=-1)) + 1
    classes = np.minimum(held.positives, held.rows - held.positives)
    return numbered(pooled(classes, values, least)[groups])


def _tell(
    link: Link, found: list[ColumnWoe], groups: list[Longs], ivs: list[float], tell: Tell
) -> None:
    tensors: dict[str, npt.NDArray[Any]] = {
        "groups": np.concatenate(groups).astype(np.int32),
        "keep": np.array([column.keep for column in found], np.uint8),
    }
    if tell != "keep":
        tensors["iv"] = np.array(ivs, np.float64)
    if tell == "woe":
        tensors["woe"] = np.concatenate([np.array(column.woe or ()) for column in found])
    link.send("woe.result", tensors, header={"tell": tell})
