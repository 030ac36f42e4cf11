"""The population as the server of a run on devices sees it: how many clients and items, no more."""

from __future__ import annotations

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec.devices.parts import Census
from isthmus.fedrec.fleet import Fleet
from isthmus.fedrec.population import Ints, Population, Ragged
from isthmus.fedrec.task import Task


class Unseen(Population):
    """Raises JobError where a method's server looks at what clients have."""

    def __init__(self, census: Census, algorithm: str) -> None:
        object.__setattr__(self, "name", census.name)
        object.__setattr__(self, "items", census.items)
        object.__setattr__(self, "_count", census.clients)
        object.__setattr__(self, "_algorithm", algorithm)
        object.__setattr__(self, "_timed", census.timed)

    @property
    def clients(self) -> int:
        """U."""
        count: int = self._count  # type: ignore[attr-defined]
        return count

    @property
    def train(self) -> Ragged:
        """Not here."""
        raise self._not_here()

    @property
    def valid(self) -> Ints:
        """Not here."""
        raise self._not_here()

    @property
    def test(self) -> Ints:
        """Not here."""
        raise self._not_here()

    @property
    def turn(self) -> Ints | None:
        """Not here."""
        raise self._not_here()

    @property
    def ordered(self) -> bool:
        """As the census has it. Raises JobError where it does not say."""
        timed: bool | None = self._timed  # type: ignore[attr-defined]
        if timed is None:
            raise JobError(
                "the census does not say whether interactions have times",
                mend='Cut the parts anew, or write "timed": true (or false) into it everywhere.',
            )
        return timed

    def _not_here(self) -> JobError:
        algorithm: str = self._algorithm  # type: ignore[attr-defined]
        return JobError(
            f"{algorithm} cannot run on devices: its server works on clients' interactions",
            mend="Take one with a shared table, such as fedavg, row-wise, pfedrec or fedrap; or "
            "ordered-pairs, ease, fedca, fedem or pfedgraph.",
        )


def unseen_task(census: Census, algorithm: str, fleet: Fleet) -> Task:
    """The task of a server whose clients are in `fleet`."""
    nothing = Ragged(np.zeros(1, np.int64), np.zeros(0, np.int32))
    return Task(Unseen(census, algorithm), nothing, census.seed, fleet=fleet)
