"""The seam to clients that are elsewhere: what a method's server may ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from isthmus.fedrec.population import Longs
from isthmus.fedrec.uploads import Uploads

if TYPE_CHECKING:
    from isthmus.fedrec.algorithms._one_round import Words, WordSum
    from isthmus.fedrec.algorithms.fedca_sketched import SketchedFedCA
    from isthmus.fedrec.copied_tables import Blend, CopiedTables
    from isthmus.fedrec.engine import Work
    from isthmus.fedrec.method import Arrays
    from isthmus.fedrec.mixed_tables import MixedTables, Mixtures, Sent
    from isthmus.fedrec.shared_table import SharedTable


class Fleet(Protocol):
    """Clients on devices. Whoever does not answer is left out."""

    def train(
        self, method: SharedTable | CopiedTables, work: Work, clients: Longs
    ) -> Iterator[Uploads]:
        """As `engine.train`, guards applied; `counts` and `loss` of the uploads are empty, and
        `user` but for a method that has it sent.

        If clients are judged as trained, that is done at home.
        """
        ...

    def loss(self) -> float | None:
        """The mean loss of the clients of the last `train`."""
        ...

    def words(self, one: WordSum, number: int = 1) -> Words:
        """A sum over all clients that are there, uint64 [k]; `number` is the round."""
        ...

    def gains(self, candidates: Iterator[Arrays], clients: Longs) -> list[int]:
        """What each candidate is worth to `clients`, who judge it at home; one of them at a time.

        Of each the sum of `OrderedPairs.gain_units`, over the same clients for all candidates.
        """
        ...

    def tables(self, method: MixedTables, number: int, clients: Longs) -> list[Sent]:
        """Train `clients` from their own tables; what those of them that are mixed send."""
        ...

    def hand(self, number: int, mixtures: Mixtures | None) -> None:
        """Give each client its mixture, and end round `number` of `tables`."""
        ...

    def give(self, number: int, found: Blend) -> None:
        """Give what a method of `CopiedTables` made of all tables, and end round `number`."""
        ...

    def by_groups(self, method: SketchedFedCA, number: int) -> tuple[int, int]:
        """Round `number` of FedCA from sketches: train, add up by groups, mix at home.

        Returns the bytes from all shards, and how many groups there were.
        """
        ...

    def took_part(self) -> int:
        """The clients that did, in the last `train`, `tables` or `words`."""
        ...
