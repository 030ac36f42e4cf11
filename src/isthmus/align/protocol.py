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


@dataclass(frozen=True, eq=False)
class Pairs:
    """What the label party has in common with one partner."""

    link: Link
    size: int
    """The partner's number of ids."""
    here: Positions
    """int64 `[c]`: which of the label party's ids, each once."""
    there: Positions
    """int64 `[c]`: which of the partner's, in the order in which the partner sent them."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a protocol leaves each party with, before the label party tells what is common."""

    pairs: Sequence[Pairs] = ()
    """At the label party: what it has in common with each feature party."""
    order: Positions | None = None
    """At a feature party: int64 `[n]`, the own ids in the order in which they were sent."""


class IntersectionProtocol(Protocol):
    """A protocol, run by every party on its own session at the same time.

    Afterwards the label party knows which ids it has in common with each partner, by places in an
    order that is the partner's own. `isthmus.align.telling` tells the partner which they are.
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
