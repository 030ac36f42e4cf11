"""A feature party's part of `joint_woe`: its bins without what is in them, and sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.crypto.products import Shape, masked
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.link.checks import whole
from isthmus.session import PATIENCE, Session
from isthmus.stats import wire
from isthmus.stats.binning import BinningOptions, ColumnBins, fit_bins
from isthmus.stats.columns import Codes, Table, frame, read
from isthmus.stats.packing import Packing
from isthmus.stats.woe_fit import ColumnWoe, WoeFit

Longs = npt.NDArray[np.int64]
Tell = Literal["keep", "iv", "woe"]
TELLS = ("keep", "iv", "woe")


def numbered(groups: Longs) -> Longs:
    """Groups numbered from 0 in order of appearance, as `ColumnBins.regrouped` does."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[place]


def alike(options: BinningOptions, weighted: bool) -> dict[str, object]:
    """What all parties must say alike."""
    said: dict[str, object] = {
        "method": options.method,
        "bins": options.bins,
        "adjustment": options.adjustment,
    }
    return said | ({"weighted": True} if weighted else {})


def at_feature_party(
    session: Session,
    table: Table,
    options: BinningOptions,
    *,
    names: bool,
    weighted: bool,
    threads: int,
) -> WoeFit:
    """A feature party's part.

    Args:
        session: the party's session.
        table: the own columns.
        options: of its bins.
        names: whether columns go by their names.
        weighted: whether the label party has weights.
        threads: that SEAL may use.

    Raises:
        DataError, JobError, BadMessage: see `joint_woe.fit_woe`.
    """
    given, link = frame(table), session.hub
    bins = fit_bins(given, options)
    wire.greet(link, "woe.hello", given.height, given.width, alike(options, weighted))
    if not given.width:
        return WoeFit(rows=given.height, columns=())
    codes = {name: bins[name].codes(read(given[name])) for name in bins}
    counts = {name: bins[name].counts(codes[name]) for name in bins}
    _show(link, bins, counts, options, names)
    key = wire.tensor_of_any_length(link, link.recv("woe.key", timeout=PATIENCE), "key", np.uint8)
    public = he.HePublic(key, threads)
    label = Shape(given.height, he.SLOTS)
    first = link.recv("woe.label", timeout=PATIENCE)
    asked = [(he.unpack(public, dict(first.tensors), label.asked), Packing(label.rows))]
    for _ in range(2 if weighted else 0):
        message = link.recv("woe.weight", timeout=PATIENCE)
        most = whole(link, message, "most", 1, he.HALF - 1)
        vector = he.unpack(public, dict(message.tensors), label.asked)
        asked.append((vector, Packing(label.rows, most)))
    for vector, packing in asked:
        _send_sums(link, public, vector, packing, list(codes.values()), list(counts.values()))
    return WoeFit(rows=given.height, columns=_told(session.me, link, bins))


def _show(
    link: Link, bins: Mapping[str, ColumnBins], counts: Mapping[str, Longs],
    options: BinningOptions, by_name: bool,
) -> None:  # fmt: skip
    if any((rows < options.least).any() for rows in counts.values()):
        raise AssertionError("a bin of fewer rows than the policy allows")
    about = [
        (one.count, one.values, one.categories is None, name not in options.edges)
        for name, one in bins.items()
    ]
    names = list(bins) if by_name else [str(number) for number in range(len(bins))]
    link.send(
        "woe.bins",
        {
            "names": wire.shown_names(names),
            "about": np.array(about, np.int32),
            "rows": np.concatenate(list(counts.values())),
        },
    )


def _send_sums(
    link: Link, public: he.HePublic, asked: list[he.Cipher], packing: Packing,
    codes: list[Codes], counts: list[Longs],
) -> None:  # fmt: skip
    rows = packing.rows
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
    return bool((groups >= 0).all()) and bool((numbered(groups) == groups).all())
