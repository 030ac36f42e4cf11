r"""WOE and IV of all parties' columns: who has the label never sees values, nor others the label.

The label party A encrypts its label of 0 and 1; each feature party B, with bins of its own making,
sends back encrypted sums over each bin, of which A can open nothing else (`crypto.products`)::

    A -> B   woe.key      A's public key, fresh in every run
    A -> B   woe.label    the label, encrypted
    B -> A   woe.bins     names of the columns, rows per bin; no edge, category or value
    B -> A   woe.sums     positives per bin, encrypted and masked but for their sums
    A -> B   woe.result   which bins are to be joined, which columns to keep; the IV, the WOE

Several bins share one sum: bin d's rows count (rows + 1)^d, so the sum's digits are the bins'
positives.

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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.crypto.products import Shape, encrypted, masked, opened
from isthmus.errors import BadMessage, DataError, JobError
from isthmus.link import Link
from isthmus.session import PATIENCE, Session
from isthmus.stats import wire
from isthmus.stats.binning import NO_BIN, BinningOptions, ColumnBins, fit_bins, label_groups, pooled
from isthmus.stats.columns import Bools, Codes, Table, frame, labels, read
from isthmus.stats.packing import Packing
from isthmus.stats.woe import woe_table
from isthmus.stats.woe_fit import ColumnWoe, WoeFit

Longs = npt.NDArray[np.int64]
Tell = Literal["keep", "iv", "woe"]
TELLS = ("keep", "iv", "woe")
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
    if label is not None:
        positive = labels(label, np.asarray(label).shape[0])
        if given.width and given.height != positive.size:
            raise DataError(f"the label has {positive.size} rows, the table {given.height}")
        return _as_label_party(session, table, positive, options, disclosure, threads)
    return _as_feature_party(session, table, options, disclosure, threads)


def _same(options: BinningOptions) -> dict[str, object]:
    return {"method": options.method, "bins": options.bins, "adjustment": options.adjustment}


# ----------------------------------------------------------------------------- the label party


def _as_label_party(
    session: Session, table: Table, label: Bools, options: BinningOptions,
    disclosure: Disclosure, threads: int,
) -> WoeFit:  # fmt: skip
    given = frame(table)
    columns = {
        link: wire.greet(link, "woe.hello", label.size, given.width, _same(options))
        for link in session.links.values()
    }
    found = list(_own(session.me, table, label, options, disclosure)) if given.width else []
    asked = [link for link, count in columns.items() if count]
    if asked:
        # All partners hold the same ciphertexts, and work at the same time.
        key = he.HeKey(threads)
        public, label_sent = key.public(), he.pack(_encrypted_label(key, label))
        for link in asked:
            link.send("woe.key", {"key": public})
            link.send("woe.label", label_sent)
        for link in asked:
            found += _partner(link, columns[link], key, label, options, disclosure)
    return WoeFit(rows=label.size, columns=tuple(found))


def _encrypted_label(key: he.HeKey, label: Bools) -> list[he.Cipher]:
    # As many repetitions as fit, whatever the number of columns.
    return encrypted(key, Shape(label.size, he.SLOTS), label.astype(np.int64))


def _own(
    me: str, table: Table, label: Bools, options: BinningOptions, disclosure: Disclosure
) -> Iterator[ColumnWoe]:
    given = frame(table)
    for name, bins in fit_bins(given, options, label).items():
        codes = bins.codes(read(given[name]))
        found = woe_table(
            bins.counts(codes), bins.counts(np.where(label, codes, NO_BIN)), options.adjustment
        )
        keep = found.total_iv >= disclosure.least_iv
        yield ColumnWoe(me, name, bins, keep, found.total_iv, found.woe, found)


def _partner(
    link: Link, count: int, key: he.HeKey, label: Bools, options: BinningOptions,
    disclosure: Disclosure,
) -> list[ColumnWoe]:  # fmt: skip
    shown = _shown_bins(link, count, label.size, options)
    positives = _opened_sums(link, key, label.size, shown)
    _check_sums(link, shown, positives, int(label.sum()))
    out, groups, ivs = [], [], []
    for column, hits in zip(shown, positives, strict=True):
        joined = _joined(column, hits, options)
        safe = _safe(column, hits, joined, disclosure.least_class)
        if disclosure.tell == "woe":
            joined = safe
        found = woe_table(*_over(joined, column.rows, hits), options.adjustment)
        told = woe_table(*_over(safe, column.rows, hits), options.adjustment).total_iv
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


def _opened_sums(link: Link, key: he.HeKey, rows: int, shown: list[_Shown]) -> list[Longs]:
    """The positives of each bin, int64 `[bins]` per column."""
    packing = Packing(rows)
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


def _check_sums(link: Link, shown: list[_Shown], positives: list[Longs], total: int) -> None:
    for column, hits in zip(shown, positives, strict=True):
        if (hits < 0).any() or (hits > column.rows).any() or int(hits.sum()) != total:
            raise BadMessage(f"{link.partner} sent woe.sums that cannot be those of its bins")


def _joined(column: _Shown, hits: Longs, options: BinningOptions) -> Longs:
    """The final bin of each bin that the partner has shown, numbered from 0."""
    groups = np.arange(column.rows.size)
    if column.free:
        groups = label_groups(column.rows, hits, column.values, options, ordered=column.ordered)
    return _numbered(groups)


def _safe(column: _Shown, hits: Longs, groups: Longs, least: int) -> Longs:
    """Groups joined further, so that each has `least` rows of both classes."""
    rows, ones = _over(groups, column.rows, hits)
    values = int(groups[: column.values].max(initial=-1)) + 1
    return _numbered(pooled(np.minimum(ones, rows - ones), values, least)[groups])


def _over(groups: Longs, rows: Longs, hits: Longs) -> tuple[Longs, Longs]:
    """Rows and positives of each group."""
    size = int(groups.max()) + 1
    counts = [np.bincount(groups, weights=one, minlength=size) for one in (rows, hits)]
    return counts[0].astype(np.int64), counts[1].astype(np.int64)


def _numbered(groups: Longs) -> Longs:
    """Groups numbered from 0 in order of appearance, as `ColumnBins.regrouped` does."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[place]


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


# ----------------------------------------------------------------------------- a feature party


def _as_feature_party(
    session: Session, table: Table, options: BinningOptions, disclosure: Disclosure, threads: int
) -> WoeFit:
    given, link = frame(table), session.hub
    bins = fit_bins(given, options)
    wire.greet(link, "woe.hello", given.height, given.width, _same(options))
    if not given.width:
        return WoeFit(rows=given.height, columns=())
    codes = {name: bins[name].codes(read(given[name])) for name in bins}
    counts = {name: bins[name].counts(codes[name]) for name in bins}
    _show(link, bins, counts, options, disclosure)
    key = wire.tensor_of_any_length(link, link.recv("woe.key", timeout=PATIENCE), "key", np.uint8)
    public = he.HePublic(key, threads)
    label = Shape(given.height, he.SLOTS)
    asked = he.unpack(public, dict(link.recv("woe.label", timeout=PATIENCE).tensors), label.asked)
    _send_sums(link, public, asked, given.height, list(codes.values()), list(counts.values()))
    return WoeFit(rows=given.height, columns=_told(session.me, link, bins))


def _show(
    link: Link, bins: Mapping[str, ColumnBins], counts: Mapping[str, Longs],
    options: BinningOptions, disclosure: Disclosure,
) -> None:  # fmt: skip
    if any((rows < options.least).any() for rows in counts.values()):
        raise AssertionError("a bin of fewer rows than the policy allows")
    about = [
        (one.count, one.values, one.categories is None, name not in options.edges)
        for name, one in bins.items()
    ]
    names = list(bins) if disclosure.names else [str(number) for number in range(len(bins))]
    link.send(
        "woe.bins",
        {
            "names": wire.shown_names(names),
            "about": np.array(about, np.int32),
            "rows": np.concatenate(list(counts.values())),
        },
    )


def _send_sums(
    link: Link, public: he.HePublic, asked: list[he.Cipher], rows: int, codes: list[Codes],
    counts: list[Longs],
) -> None:  # fmt: skip
    packing = Packing(rows)
    columns = [
        (code, place) for code, count in zip(codes, counts, strict=True)
        for place in range(packing.sums(count.size))
    ]  # fmt: skip
    for start, stop in packing.batches(len(columns)):
        x = np.column_stack([packing.weights(code, place) for code, place in columns[start:stop]])
        answers, _ = masked(public, Shape(rows, stop - start), asked, x, to_key=True)
        link.send("woe.sums", he.pack(answers))


def _told(me: str, link: Link, bins: Mapping[str, ColumnBins]) -> tuple[ColumnWoe, ...]:
    message = link.recv("woe.result", timeout=PATIENCE)
    tell = message.header.get("tell")
    sizes = np.array([one.count for one in bins.values()])
    groups = wire.tensor(link, message, "groups", np.int32, (int(sizes.sum()),))
    keep = wire.tensor(link, message, "keep", np.uint8, (len(bins),))
    parts = [part.astype(np.int64) for part in np.split(groups, np.cumsum(sizes)[:-1])]
    if tell not in TELLS or not np.isin(keep, (0, 1)).all() or not all(map(_proper, parts)):
        raise BadMessage(f"{link.partner} sent an impossible woe.result")
    ivs = None if tell == "keep" else wire.tensor(link, message, "iv", np.float64, (len(bins),))
    ends = np.cumsum([int(part.max()) + 1 for part in parts])
    woes = (
        wire.tensor(link, message, "woe", np.float64, (int(ends[-1]),)) if tell == "woe" else None
    )
    out = []
    for number, (name, one) in enumerate(bins.items()):
        final = one.regrouped(parts[number])
        woe = None
        if woes is not None:
            woe = tuple(woes[ends[number] - final.count : ends[number]].tolist())
        iv = None if ivs is None else float(ivs[number])
        out.append(ColumnWoe(me, name, final, bool(keep[number]), iv, woe, None))
    return tuple(out)


def _proper(groups: Longs) -> bool:
    """Whether groups are numbered from 0 in order of appearance."""
    return bool((groups >= 0).all()) and bool((_numbered(groups) == groups).all())
