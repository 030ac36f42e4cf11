"""What methods check of a partner's header before they use it, one way for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.errors import BadMessage, JobError
from isthmus.link.base import Link, Message


def whole(link: Link, message: Message, name: str, least: int, most: int) -> int:
    """A whole number of the header, from `least` to `most`.

    Raises:
        BadMessage: it is missing, or is no such number.
    """
    value = message.header.get(name)
    if type(value) is not int or not least <= value <= most:
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    return value


def same(link: Link, message: Message, agreed: Mapping[str, Any]) -> None:
    """Check that the partner came with what we came with, in the header's field `agreed`.

    Raises:
        JobError: it did not; the message names the fields.
    """
    theirs = message.header.get("agreed")
    if theirs == agreed:
        return
    known = theirs if isinstance(theirs, dict) else {}
    names = [name for name, value in agreed.items() if known.get(name) != value]
    raise JobError(
        f"{link.partner} and {link.me} differ in {', '.join(names) or 'what they know of'}",
        mend="Give all parties the same options and the same rows.",
    )
