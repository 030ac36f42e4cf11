"""The first message of everything done with ids: what we are about to do, and with how many."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.align.keys import Keys
from isthmus.align.wire import number
from isthmus.errors import AlignError
from isthmus.link import Link, Message
from isthmus.session import PATIENCE, Session

_MOST_IDS = 2**31 - 1
_USUAL: Mapping[str, str] = {"rows": "common", "normalise": ""}
"""Left out of the message where they are so."""


def greet(session: Session, agreed: Mapping[str, str], table: Keys) -> dict[str, int]:
    """Tell the partners what we are about to do and hear the same; how many ids each has.

    Args:
        session: the party's session.
        agreed: what must be the same at every party, by name.
        table: the own ids.

    Raises:
        AlignError: a partner is about to do something else.
        BadMessage: a partner does not say how many ids it has.
    """
    mine = {**_USUAL, **agreed, "columns": table.parts}
    said = {name: value for name, value in mine.items() if _USUAL.get(name) != value}
    for link in session.links.values():
        link.send("align.hello", header={**said, "ids": len(table.values)})
    sizes = {}
    for partner, link in session.links.items():
        # The partner may still be reading a table much longer than ours.
        message = link.recv("align.hello", timeout=PATIENCE)
        for name, value in mine.items():
            _check_same(link, message, name, value)
        sizes[partner] = number(link, message, "ids", _MOST_IDS)
    return sizes


def _check_same(link: Link, message: Message, name: str, mine: object) -> None:
    theirs = message.header.get(name, _USUAL.get(name))
    if theirs != mine:
        shown = theirs if isinstance(theirs, int) else str(theirs)[:80]
        raise AlignError(
            f"{link.partner} aligns with {name} = {shown!r}, {link.me} with {mine!r}",
            mend="Give both sides the same job.",
        )
