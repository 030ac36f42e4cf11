r"""Private set intersection by oblivious transfer, in a star around the label party.

After Kolesnikov, Kumaresan, Rosulek and Trieu, "Efficient Batched Oblivious PRF with Applications
to Private Set Intersection", CCS 2016, on a cuckoo table without a stash. Between
the label party A, the receiver of the oblivious pseudo-random function, and each feature party B,
its sender::

    A -> B   align.base     a point, for 512 base oblivious transfers (`isthmus.crypto.ot`)
    B -> A   align.answers  two points for each, by B's secret s of 512 bits, and the code's keys
    A -> B   align.table    the seed of the hash functions of A's cuckoo table (`cuckoo`)
    A -> B   align.rows     64 bytes for each bin, A's id in it under a one-time pad
    B -> A   align.tags     F_j(y) for the three bins j of each of B's ids, in an order of B's own
             A knows F_j(x) for the one bin j that holds x; matches; intersects over all partners
    A -> B   align.common   a bit for each of B's ids, in B's order: is it everybody's?

**Security model: semi-honest.** The parties keep to the protocol and may study what they see. This
is a stronger demand than `ecdh` makes: there a party that lies can ask for ids that it made up, as
many as it announced. Here an A that sends other rows than the protocol says, and has some hundreds
of ids that it knows B to have, can find out s, and with s try offline whatever ids it can think of
on all that B sent; B cannot notice. A B that sends tags in some of an id's bins only learns from
A's bits in which bin A has it.

What each side learns is what `ecdh` lets it learn:

- A: the number of each B's ids; which of its own ids each B has.
- B: the number of A's ids; which of its own ids *all* parties have.
- Neither: anything about ids that are not shared. A's rows are under streams of which B has half,
  so they are as good as random to it. B's tags are so to A, wherever their id is not the one in A's
  bin, by the code's distance (`isthmus.crypto.oprf`), and their order is B's own. The three tags of
  an id come side by side; since one that matches is of an id that A has, and the others are random
  to A, that says nothing. The hash functions' seed is fresh, and fits A's ids whatever they are but
  for a probability of 2^-40.

Two things differ from the paper. The three hash functions have bins of their own (`cuckoo`), so
that an id needs no number of the function beside it. And the tags of an id share a row, where the
paper has three sets in orders of their own: so one bit answers for the id, and B does not learn
which of the three functions A placed it by.

**The length of a tag** is 40 + log2(n_A n_B) bits, in whole bytes: two different ids match with a
probability below 2^-40 in the whole run, as in the paper. That would be an error, found by the
digest of the agreed order, never a wrong alignment.

Rows and tags go in chunks, and B works on each chunk of rows as it comes, so that memory stays at
the ids, 16 bytes for each id of each side and B's tags.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from isthmus.align import cuckoo
from isthmus.align.order import random_order
from isthmus.align.protocol import Found, Pairs, Positions
from isthmus.align.wire import take, tensors
from isthmus.crypto.blocks import KEY_BYTES, Bytes, Words
from isthmus.crypto.oprf import CODE_KEYS, WIDTH, OprfReceiver, OprfSender, new_code
from isthmus.crypto.ot import POINT_BYTES, BadPoint, BaseSender, choose
from isthmus.crypto.ot_extension import random_bits
from isthmus.errors import AlignError, BadMessage
from isthmus.link import Link
from isthmus.session import Session

CHUNK = 8192
"""Bins or ids in a message; part of the protocol, the same at every party."""
STATISTICAL = 40
"""Two different ids match with a probability below 2 to the minus this."""
MOST_IDS = 1_600_000_000
_ROW_WORDS = WIDTH // 64


def intersect(
    session: Session, ids: Sequence[bytes], sizes: Mapping[str, int], workers: int | None
) -> Found:
    """Find what each pair has in common; see `IntersectionProtocol`. It needs no `workers`."""
    if max(len(ids), *sizes.values()) > MOST_IDS:
        raise AlignError(
            f"kkrt aligns up to {MOST_IDS:,} ids a party", mend="Align with protocol: ecdh."
        )
    if session.is_label_party:
        return _as_hub(session, ids, sizes)
    return _as_spoke(session, ids, sizes[session.label_party])


def tag_bytes(mine: int, theirs: int) -> int:
    """Bytes of a tag between parties with so many ids: at least 8, at most 13."""
    return max(8, -(-(STATISTICAL + (mine * theirs - 1).bit_length()) // 8))


# The label party: receiver of the pseudo-random function.


@dataclass
class _Partner:
    """One partner's exchange, as the label party has it."""

    link: Link
    size: int
    width: int
    """Bytes of a tag."""
    base: BaseSender = field(default_factory=BaseSender)
    own: Bytes = field(default_factory=lambda: np.empty((0, 0), dtype=np.uint8))
    """uint8 `[bins, width]`: the tag of the id in each bin."""

    def begin(self, bins: int) -> OprfReceiver:
        """The base transfers; raises BadMessage where the partner's points are none."""
        answer = self.link.recv("align.answers")
        points, code = tensors(
            self.link,
            answer,
            {
                "points": (np.uint8, (WIDTH, 2, POINT_BYTES)),
                "code": (np.uint8, (CODE_KEYS, KEY_BYTES)),
            },
        )
        self.own = np.empty((bins, self.width), dtype=np.uint8)
        try:
            return OprfReceiver(self.base.keys(points), code)
        except BadPoint as error:
            raise _bad_point(self.link) from error

    def matches(self, finder: _Finder) -> Pairs:
        """Take the partner's tags and find the own ones among them."""
        here, there = [], []
        for start, count in _pieces(self.size):
            shape = (count, cuckoo.PARTS, self.width)
            tags = take(self.link, "align.tags", "tags", np.uint8, shape)
            for part in range(cuckoo.PARTS):
                rows, found = finder.find(part, np.ascontiguousarray(tags[:, part]))
                there.append(rows + start)
                here.append(found)
        ours, theirs = np.concatenate(here), np.concatenate(there)
        if _repeats(ours) or _repeats(theirs):
            raise BadMessage(f"{self.link.partner} sent tags of the same id twice")
        return Pairs(self.link, self.size, ours, theirs)


def _as_hub(session: Session, ids: Sequence[bytes], sizes: Mapping[str, int]) -> Found:
    partners = [
        _Partner(link, sizes[name], tag_bytes(len(ids), sizes[name]))
        for name, link in session.links.items()
    ]
    for partner in partners:
        partner.link.send("align.base", {"point": partner.base.public})
    values = cuckoo.digests(ids)
    table = cuckoo.build(values)
    seed = np.frombuffer(table.seed, dtype=np.uint8)
    receivers = []
    for partner in partners:
        receivers.append(partner.begin(len(table.ids)))
        partner.link.send("align.table", {"seed": seed})
    with session.progress.task("align", len(ids) + sum(sizes.values())) as task:
        for start, count in _pieces(len(table.ids)):
            inside = table.ids[start : start + count]
            for partner, receiver in zip(partners, receivers, strict=True):
                corrections, tags = receiver.evaluate(_inputs(values, inside))
                partner.link.send("align.rows", {"rows": corrections})
                partner.own[start : start + count] = tags.view(np.uint8)[:, : partner.width]
            task.advance(int((inside != cuckoo.EMPTY).sum()))
        pairs = []
        for partner in partners:
            pairs.append(partner.matches(_Finder(table.ids, partner.own)))
            task.advance(partner.size)
    return Found(pairs)


def _inputs(values: Words, inside: npt.NDArray[np.int32]) -> Words:
    """The digest of the id in each bin, and something random for an empty one."""
    empty = inside == cuckoo.EMPTY
    inputs = values.take(inside, axis=0)
    inputs[empty] = np.frombuffer(secrets.token_bytes(16 * int(empty.sum())), "<u8").reshape(-1, 2)
    return inputs


class _Finder:
    """Finds a partner's tags among the own ones, by their first eight bytes and then by all."""

    def __init__(self, inside: npt.NDArray[np.int32], own: Bytes) -> None:
        self._parts = []
        size = len(inside) // cuckoo.PARTS
        for part in range(cuckoo.PARTS):
            taken = part * size + np.flatnonzero(
                inside[part * size : (part + 1) * size] != cuckoo.EMPTY
            )
            heads = _heads(own[taken])
            order = np.argsort(heads)
            self._parts.append((heads[order], own[taken[order]], inside[taken[order]]))

    def find(self, part: int, tags: Bytes) -> tuple[Positions, Positions]:
        """Rows of `tags` that are a tag of ours in this part, and which of our ids that is."""
        heads, own, ids = self._parts[part]
        asked = _heads(tags)
        maybe = np.argsort(asked)  # in order, so that the search stays in one place of memory
        at = np.searchsorted(heads, asked[maybe])
        rows, found = [], []
        while len(at):
            alike = at < len(heads)
            alike[alike] = heads[at[alike]] == asked[maybe[alike]]
            maybe, at = maybe[alike], at[alike]
            same = (own[at] == tags[maybe]).all(axis=1)
            rows.append(maybe[same])
            found.append(ids[at[same]])
            at = at + 1  # the next of our own may begin alike, though hardly ever does
        return np.concatenate(rows), np.concatenate(found).astype(np.int64)


def _cut(values: Words, width: int) -> npt.NDArray[np.void]:
    """The first bytes of each value as one item, `[n]`."""
    return np.ascontiguousarray(values.view(np.uint8)[:, :width]).view(f"V{width}")[:, 0]


def _heads(tags: Bytes) -> Words:
    return np.ascontiguousarray(tags[:, :8]).view(np.uint64)[:, 0]


def _repeats(positions: Positions) -> bool:
    return bool(len(positions)) and int(np.bincount(positions).max()) > 1


# A feature party: sender of the pseudo-random function.


def _as_spoke(session: Session, ids: Sequence[bytes], size: int) -> Found:
    hub, width = session.hub, tag_bytes(size, len(ids))
    sender = _answer(hub)
    order = random_order(len(ids))
    values = cuckoo.digests(ids)[order]
    seed = take(hub, "align.table", "seed", np.uint8, (cuckoo.SEED_BYTES,))
    bins = cuckoo.bins(size)
    agenda = _Agenda(cuckoo.places(seed.tobytes(), values, bins))
    tags = np.empty((len(ids), cuckoo.PARTS, width), dtype=np.uint8)
    strings = tags.view(f"V{width}")[:, :, 0]  # a tag as one item moves faster than as bytes
    with session.progress.task("align", len(ids) + bins) as task:
        for start, count in _pieces(bins):
            corrections = take(hub, "align.rows", "rows", np.uint64, (count, _ROW_WORDS))
            rows = sender.rows(corrections)
            for part, places, who in agenda.within(start, count):
                inputs = values.take(who, axis=0)
                found = sender.evaluate(places.astype(np.uint64), rows[places - start], inputs)
                strings[who, part] = _cut(found, width)
            task.advance(count)
        for start, count in _pieces(len(ids)):
            hub.send("align.tags", {"tags": tags[start : start + count]})
            task.advance(count)
    return Found(order=order)


def _answer(hub: Link) -> OprfSender:
    """The base transfers, with a fresh secret; raises BadMessage where the hub's point is none."""
    point = take(hub, "align.base", "point", np.uint8, (POINT_BYTES,))
    choices, code = random_bits(WIDTH), new_code()
    try:
        points, keys = choose(point, choices)
    except BadPoint as error:
        raise _bad_point(hub) from error
    hub.send("align.answers", {"points": points, "code": code})
    return OprfSender(choices, keys, code)


class _Agenda:
    """Which ids have a bin among those of a chunk, part by part."""

    def __init__(self, places: npt.NDArray[np.int32]) -> None:
        # int32 [3, n], the bins of each id.
        self._who = [np.argsort(row).astype(np.int32) for row in places]
        self._places = [row[who] for row, who in zip(places, self._who, strict=True)]

    def within(
        self, start: int, count: int
    ) -> Iterator[tuple[int, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
        """The part, the bins and the ids, for bins from `start`; parts without any left out."""
        for part, (places, who) in enumerate(zip(self._places, self._who, strict=True)):
            # Of the same kind, or all of the places would be converted in every chunk.
            ends = np.array([start, start + count], dtype=places.dtype)
            low, high = np.searchsorted(places, ends)
            if low < high:
                yield part, places[low:high], who[low:high]


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    """Start and length of each chunk."""
    for start in range(0, count, CHUNK):
        yield start, min(CHUNK, count - start)


def _bad_point(link: Link) -> BadMessage:
    return BadMessage(f"{link.partner} sent a point that is not in the group")
