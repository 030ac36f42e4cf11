"""The seam for private set intersection protocols: what does each pair have in common?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isthmus.link import Link
from isthmus.session import Session

Positions = npt.NDArray[np.int64]
Names = npt.NDArray[np.uint8]
"""uint8 `[n, w]`: what two parties call ids between themselves, by a hash whose key both have."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """What the label party has in common with one partner."""

    link: Link
    size: int
    """The partner's number of ids."""
    here: Positions
    """int64 `[c]`: which of the label party's ids, each once."""
    there: Positions | None = None
    """int64 `[c]`: which of the partner's, in the order in which the partner sent them."""
    names: Names | None = None
    """uint8 `[c, w]`: what both call them, of a protocol that does not say where the partner has
    them."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a protocol leaves each party with, before the label party tells what is common."""

    pairs: Sequence[Pairs] = ()
    """At the label party: what it has in common with each feature party."""
    order: Positions | None = None
    """At a feature party: int64 `[n]`, the own ids in the order in which they were sent."""
    names: Names | None = None
    """At a feature party instead: uint8 `[n, w]`, what the label party calls each of the own ids
    that it has too."""


class IntersectionProtocol(Protocol):
    """A protocol, run by every party on its own session at the same time.

    Afterwards the label party knows which ids it has in common with each partner, by places in an
    order that is the partner's own or by names that both can work out.
    `isthmus.align.telling` tells the partner which they are.
    """

    def __call__(
        self,
        session: Session,
        ids: Sequence[bytes],
        sizes: Mapping[str, int],
        workers: int | None,
    ) -> Found:
        """Find what the label party has in common with each feature party.

        Args:
            session: the party's session, with its links.
            ids: the party's distinct ids as canonical bytes.
            sizes: how many distinct ids each partner has announced.
            workers: child processes or threads for work on single ids, where there is such; 0 for
                none, None for as many as are worth it.

        Raises:
            BadMessage: a partner did not keep to the protocol.
            JobError: a package that the protocol needs is not installed.
        """
        ...
