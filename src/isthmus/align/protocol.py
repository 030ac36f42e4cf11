"""The seam for private set intersection protocols: which ids are everybody's?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isthmus.session import Session


@dataclass(frozen=True)
class Match:
    """What a protocol finds out."""

    common: npt.NDArray[np.int64]
    """int64 `[c]`: positions in the own ids of those that all parties have, in any order."""
    pairwise: Mapping[str, int] = field(default_factory=dict)
    """At the label party: how many ids it has in common with each feature party."""


class IntersectionProtocol(Protocol):
    """A protocol, run by every party on its own session at the same time."""

    def __call__(
        self,
        session: Session,
        ids: Sequence[bytes],
        sizes: Mapping[str, int],
        workers: int | None,
    ) -> Match:
        """Find the ids that all parties have.

        Args:
            session: the party's session, with its links.
            ids: the party's distinct ids as canonical bytes.
            sizes: how many distinct ids each partner has announced.
            workers: child processes for work on points, where there is such; 0 for none, None for
                as many as are worth it.

        Raises:
            BadMessage: a partner did not keep to the protocol.
        """
        ...
