"""A shard's side of methods of one round: what it adds to sums, and candidates judged at home."""

from __future__ import annotations

import numpy as np

from isthmus.errors import BadMessage
from isthmus.fedrec.algorithms._one_round import OneRound, WordSum
from isthmus.fedrec.algorithms.ordered_pairs import OrderedPairs
from isthmus.fedrec.devices.grouped_here import GroupedHere
from isthmus.fedrec.devices.learned import take_learned
from isthmus.fedrec.devices.masking import SHARE, Masker
from isthmus.fedrec.devices.one_round import GAINS
from isthmus.fedrec.devices.parts import Part
from isthmus.fedrec.devices.wire import Array, Arrays, Ask, places_of
from isthmus.fedrec.method import Method
from isthmus.fedrec.shared_table import SharedTable

MOST_TRIED = 100


class Giving:
    """What the clients of a part give to a method of one round.

    Under masks a sum is given once: of two sums over different shards the difference would tell
    what those add that are in one of them alone.
    """

    def __init__(
        self, method: Method, part: Part, groups: GroupedHere | None, *, masked: bool
    ) -> None:
        self._method, self._part, self._masked = method, part, masked
        self._groups = groups
        self._given: dict[str, int] = {}
        self._gains: list[int] = []

    def plain(self, ask: Ask, arrays: Arrays) -> dict[str, Array]:
        """The sum over our clients, in the clear. Raises BadMessage where there is none."""
        return {"words": self._sum_of(ask, arrays).mine()}

    def masker(self, ask: Ask, arrays: Arrays) -> Masker:
        """Our part of a sum over shards.

        Raises:
            BadMessage: there is no such sum, or it was given before.
        """
        if ask.what == GAINS:
            return self._gains_masker()
        one = self._sum_of(ask, arrays)
        before = self._given.get(ask.what)
        if before is not None and not (one.given and ask.number > before):
            raise BadMessage(
                f"the server asks for the sum of {ask.what} a second time: two sums over different "
                "shards would tell what one of them adds"
            )
        self._given[ask.what] = ask.number
        noised = one.noised
        return Masker({SHARE: lambda parties: noised(parties) if noised else one.mine()})

    def _gains_masker(self) -> Masker:
        if not self._gains:
            raise BadMessage("the server asks what candidates are worth that nobody has judged")
        found, self._gains = np.array(self._gains, np.uint64), []
        return Masker({SHARE: lambda parties: found})

    def tried(self, ask: Ask, arrays: Arrays) -> dict[str, Array]:
        """Judge a candidate at home; under masks what it is worth is kept for their sum.

        Raises:
            BadMessage: what came is no candidate.
        """
        method = self._method
        if not isinstance(method, OrderedPairs):
            raise BadMessage("the server asks to judge a candidate, and there are none")
        if method.settings.clip > 0:
            # What a candidate is worth to clients goes up without noise.
            raise BadMessage("the server asks to judge a candidate of sums that are clipped")
        places = places_of(self._part.clients, arrays)
        take_learned(method, arrays)
        found = method.gain_units(places)
        if not self._masked:
            return {"units": np.array([found], np.int64)}
        if ask.what == "0":
            self._gains = []
        if ask.what != str(len(self._gains)) or len(self._gains) >= MOST_TRIED:
            raise BadMessage("candidates come out of turn")
        self._gains.append(found)
        return {}

    def _sum_of(self, ask: Ask, arrays: Arrays) -> WordSum:
        method = self._method
        found = method.sum_of(ask.what) if isinstance(method, (OneRound, SharedTable)) else None
        if self._groups is not None:
            found = self._groups.sum_of(ask, arrays)
        if found is None:
            raise BadMessage("the server asks for a sum that is not known here")
        if found.given and isinstance(method, OneRound):
            take_learned(method, arrays)
        return found
