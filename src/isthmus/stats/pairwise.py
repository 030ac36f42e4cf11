"""The sums of products of every two parties' columns, for the label party: who sends what to whom.

Between the label party A and a feature party B, A holds the key and opens the sums::

    A -> B   correlation.key       A's public key, fresh in every run
    A -> B   correlation.asked     A's columns, encrypted (`crypto.side_by_side`)
    A -> B   correlation.turn      where there are several B: A has time for the answers of a group
    B -> A   correlation.answers   masked products; masks add up to zero over each sum

Two feature parties C and B have no link, so A carries what they say: C holds the key, and nothing
that A carries is anything but encrypted under it. B's masks do not add up to zero::

    A -> C        correlation.turn     A has time for it: what C asks may fill the window
    C -> A -> B   correlation.key, correlation.asked
    A -> B        correlation.turn     as above
    B -> A -> C   correlation.answers
    C -> A        correlation.opened   what C has opened: each sum with B's masks, uniform for C
    B -> A        correlation.masks    what the masks add up to

and A takes the one from the other. C learns nothing, B learns nothing, and A learns the sums: even
with the help of one of the two, as each slot has a mask of its own. But A must carry what it gets:
one that puts its own key in the place of C's learns the sums with columns that it makes up, as it
also could with columns of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.crypto.side_by_side import Answers, Layout, in_messages, opened, questions
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.session import PATIENCE, Session
from isthmus.stats import wire

Longs = npt.NDArray[np.int64]
Tensors = dict[str, npt.NDArray[Any]]
_KEY, _ASKED, _ANSWERS = "correlation.key", "correlation.asked", "correlation.answers"
_TURN = "correlation.turn"


@dataclass(frozen=True, eq=False)
class Table:
    """What a party has, and what it knows of the others."""

    words: Sequence[Longs]
    """The own columns, int64 `[rows, columns]` each."""
    counts: Mapping[str, int]
    """Columns of each party, in the agreed order, the label party first."""
    threads: int
    """That SEAL may use."""

    def layout(self, holder: str, owner: str) -> Layout:
        """Of the columns of two parties."""
        rows = len(self.words[0])
        asked, owned = self.counts[holder], self.counts[owner]
        return Layout(rows, asked, owned, len(self.words), max(self.counts.values()))


def at_label_party(session: Session, table: Table) -> dict[tuple[str, str], Longs]:
    """The label party's part.

    Returns:
        For each two parties (holder, owner) int64 `[words, owned, asked]`, within `he.HALF`.

    Raises:
        BadMessage: a partner did not keep to the protocol.
    """
    links = {party: session.link(party) for party in session.feature_parties}
    key = he.HeKey(table.threads)
    _send_key(list(links.values()), {"key": key.public()})
    layouts = {party: table.layout(session.me, party) for party in links}
    parts = _asking(key, layouts, table.words, links)
    found = {(session.me, party): sums for party, sums in parts.items()}
    for holder in links:
        _carry(session, table, holder)
        for owner in _after(session, holder):
            shape = (len(table.words), table.counts[owner], table.counts[holder])
            sums = _sums(links[holder], "correlation.opened", shape)
            off = _sums(links[owner], "correlation.masks", shape)
            found[holder, owner] = he.centred(sums - off)
    return found


def at_feature_party(session: Session, table: Table) -> None:
    """A feature party's part. Raises BadMessage."""
    link = session.hub
    several = len(session.feature_parties) > 1
    _answering(link, table, session.label_party, session.me, several)
    for holder in session.feature_parties:
        if holder == session.me:
            break
        several = len(_after(session, holder)) > 1
        masks = _answering(link, table, holder, session.me, several)
        link.send("correlation.masks", {"sums": masks})
    others = _after(session, session.me)
    if not others:
        return
    link.recv(_TURN, timeout=PATIENCE)
    key = he.HeKey(table.threads)
    link.send(_KEY, {"key": key.public()})
    layouts = {party: table.layout(session.me, party) for party in others}
    # All that is sent to the label party is carried to all of them.
    found = _asking(key, layouts, table.words, dict.fromkeys(others, link), once=True)
    for party in others:
        link.send("correlation.opened", {"sums": found[party]})


def _after(session: Session, holder: str) -> tuple[str, ...]:
    """The feature parties with which `holder` is the one that has the key."""
    parties = session.feature_parties
    return parties[parties.index(holder) + 1 :]


# ----------------------------------------------------------------------------- the key holder


def _send_key(links: Sequence[Link], tensors: Tensors) -> None:
    for link in links:
        link.send(_KEY, tensors)


def _asking(
    key: he.HeKey, layouts: Mapping[str, Layout], words: Sequence[Longs], links: Mapping[str, Link],
    *, once: bool = False,
) -> dict[str, Longs]:  # fmt: skip
    """Ask all owners the same, and open what they answer.

    Args:
        key: its own.
        layouts: by owner; those of the questions are alike but for `copies`.
        words: the own columns.
        links: by owner.
        once: whether one link leads to all owners, so that each question goes once.

    Returns:
        By owner, int64 `[words, owned, asked]`.
    """
    found: dict[str, list[Longs]] = {owner: [] for owner in layouts}
    # One with as many copies as any owner needs serves all.
    widest = max(layouts.values(), key=lambda layout: layout.copies)
    for asked in questions(key, widest, words):
        tensors = he.pack(asked)
        for link in list(links.values())[: 1 if once else None]:
            # Nothing is answered before all is asked, so no window fills.
            link.send(_ASKED, tensors)
    for _ in range(widest.groups):
        for owner, layout in layouts.items():
            if len(layouts) > 1 and not once:
                links[owner].send(_TURN)
            answers = _received(links[owner], key, layout)
            found[owner].append(opened(key, layout, answers))
    return {
        owner: np.concatenate(parts, axis=2)[:, :, : layouts[owner].asked]
        for owner, parts in found.items()
    }


def _received(link: Link, key: he.HeKey, layout: Layout) -> list[list[he.Cipher]]:
    """The answers of one group, by batch and word."""
    flat: list[he.Cipher] = []
    for count in in_messages(layout):
        message = link.recv(_ANSWERS, timeout=PATIENCE)
        flat += he.unpack(key, dict(message.tensors), count)
    step = layout.words
    return [flat[at : at + step] for at in range(0, len(flat), step)]


# ----------------------------------------------------------------------------- the owner


def _answering(link: Link, table: Table, holder: str, me: str, several: bool) -> Longs:
    """Answer all that `holder` asks; what is to be taken off, int64 `[words, owned, asked]`.

    Of `several` who are asked each waits for its turn: what it says may fill the window while the
    label party still waits for another's.
    """
    layout = table.layout(holder, me)
    data = wire.tensor_of_any_length(link, link.recv(_KEY, timeout=PATIENCE), "key", np.uint8)
    public = he.HePublic(data, table.threads)
    answers = Answers(public, layout, table.words)
    for chunk in range(layout.chunks):
        groups = [link.recv(_ASKED, timeout=PATIENCE) for _ in range(layout.groups)]
        asked = [he.unpack(public, dict(group.tensors), layout.words) for group in groups]
        answers.add(chunk, asked)
    masks = []
    for group in range(layout.groups):
        batches, off = answers.masked(group, to_key=link.partner == holder)
        flat = [one for batch in batches for one in batch]
        if several:
            link.recv(_TURN, timeout=PATIENCE)
        for count in in_messages(layout):
            link.send(_ANSWERS, he.pack(flat[:count]))
            flat = flat[count:]
        masks.append(off)
    return np.concatenate(masks, axis=2)[:, :, : layout.asked]


# ----------------------------------------------------------------------------- the carrier


def _carry(session: Session, table: Table, holder: str) -> None:
    """Carry what a feature party asks of those after it, and their answers."""
    source = session.link(holder)
    owners = [session.link(owner) for owner in _after(session, holder)]
    if not owners:
        return
    source.send(_TURN)
    message = source.recv(_KEY, timeout=PATIENCE)
    _send_key(owners, {"key": wire.tensor_of_any_length(source, message, "key", np.uint8)})
    layouts = [table.layout(holder, link.partner) for link in owners]
    for _ in range(layouts[0].groups * layouts[0].chunks):
        tensors = _ciphers(source, _ASKED)
        for link in owners:
            link.send(_ASKED, tensors)
    for _ in range(layouts[0].groups):
        for link, layout in zip(owners, layouts, strict=True):
            if len(owners) > 1:
                link.send(_TURN)
            for _ in in_messages(layout):
                source.send(_ANSWERS, _ciphers(link, _ANSWERS))


def _ciphers(link: Link, topic: str) -> Tensors:
    """Ciphertexts of another party's key, which the one they are for will look at."""
    message = link.recv(topic, timeout=PATIENCE)
    data = wire.tensor_of_any_length(link, message, "bytes", np.uint8)
    sizes = wire.tensor_of_any_length(link, message, "sizes", np.int64)
    return {"bytes": data, "sizes": sizes}


def _sums(link: Link, topic: str, shape: tuple[int, ...]) -> Longs:
    message = link.recv(topic, timeout=PATIENCE)
    found = wire.tensor(link, message, "sums", np.int64, shape)
    if (found > he.HALF).any() or (found < -he.HALF).any():
        raise BadMessage(f"{link.partner} sent {topic} with numbers that are none of the modulus")
    return found
