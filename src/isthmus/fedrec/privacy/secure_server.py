"""The server of a secure sum that survives dropouts, and the protocol.

Bonawitz et al.: Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017,
figure 4, without the parts in bold italics (signatures, consistency check), on the ring of Bell et
al., CCS 2020 (`secure_terms`). Each client has two secrets: the seed b of a mask of its own, and
the seed s of the key from which come its masks with each neighbour.

1. **Keys.** Clients send two public keys, fresh in each sum: one seals boxes, one makes masks.
   The server puts them on a ring in random order and sends each its neighbours' keys.
2. **Shares.** Each splits b and s by Shamir, `threshold` of `neighbours`, and sends each neighbour
   its share of both in a box that the server passes on and cannot open.
3. **Words.** Each sends its words plus the mask of b, plus or minus the masks with all neighbours
   that shared. What is not there in time is not in the sum.
4. **Answers.** The server tells who survived. Each survivor sends, of every neighbour that shared,
   the share of b if it survived, and of s if it did not; of nobody both. The server rebuilds the
   b of all survivors and the s of the lost, and takes these masks off. What is left is the
   survivors' sum, exactly.

**What is hidden.** To a server that follows the protocol, in league with up to the share `traitors`
of the clients: of all others' words the sum alone (but for the chances of `secure_terms`). Whose
words came late keeps its b, so that they stay masked although s is known.

**Losses.** Up to `lost` clients may go after the seats, at any step; those that go before do not
count. With more, or where fewer than `threshold` neighbours of a client answer, there is an error
and no sum.

**Not withstood:** a server that does not follow. Keys pass through it unsigned: one that forges
them reads all. One that tells different clients of different survivors gets both seeds of a client
that has `Terms.two_faced` traitors among its neighbours, or more (there is no consistency check
round, which would need signatures, and these keys that clients have from elsewhere than the
server). What clients do check: that a list comes once, leaves enough survivors, does not cut the
ring, and has none that never shared. A hostile client can send wrong words, as in any sum; wrong
shares are seen and end the sum.
"""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from isthmus.errors import BadMessage, TrainError
from isthmus.fedrec.privacy import secure_secrets as crypto
from isthmus.fedrec.privacy.secure_terms import Flags, Rules, Terms
from isthmus.fedrec.privacy.secure_wire import (
    SESSION,
    Keys,
    Seat,
    Shares,
    Words,
    pack_boxes,
    pack_survivors,
    unpack_answer,
    unpack_words,
)

T = TypeVar("T")


class Server:
    """One sum: call `seat`, `deal`, `take` for each client, `announce` and `total`, in this order.

    Clients go by any numbers. One whose message is malformed counts as lost, see `refused`.

    Args:
        rules: what the sum must withstand.
        words: how many words each client sends.
        order: draws the ring; must not be foreseeable.
    """

    def __init__(self, rules: Rules, words: int, order: random.Random | None = None) -> None:
        self._rules, self._order = rules, order or secrets.SystemRandom()
        self._sum: Words = np.zeros(words, np.uint64)
        self._session = secrets.token_bytes(SESSION)
        self._places: dict[int, int] = {}
        self._shared: dict[int, Shares] = {}
        self._announced = False
        self.survivors: list[int] = []
        """Those whose words are in the sum, once they were announced."""
        self.refused: dict[int, str] = {}
        """Clients that sent what cannot be, and what it was."""

    def seat(self, keys: Mapping[int, bytes]) -> dict[int, bytes]:
        """1, 2: a seat on the ring for each client that sent keys.

        Raises:
            JobError: there are fewer than three.
        """
        found = self._read(keys, Keys.unpack)
        seen = Counter(key for one in found.values() for key in (one.sealing, one.masking))
        for client in [client for client, one in found.items() if not _sound(one, seen)]:
            # Seated, it would have all its neighbours refuse to go on.
            self.refused[client] = "its public keys are of low order, or there twice"
            del found[client]
        ring = sorted(found)
        self._order.shuffle(ring)
        self._ring = ring
        self.terms: Terms = self._rules.terms(len(ring))
        self._keys = [found[client] for client in ring]
        self._places = {client: place for place, client in enumerate(ring)}
        self._here: Flags = np.zeros(len(ring), bool)
        return {client: self._seat(place).pack() for place, client in enumerate(ring)}

    def _seat(self, place: int) -> Seat:
        near = tuple(self._keys[other] for other in self.terms.near(place))
        return Seat(self._session, self.terms, place, near)

    def deal(self, shares: Mapping[int, bytes]) -> dict[int, bytes]:
        """3, 4: the boxes for each client that shared.

        Raises:
            TrainError: too few did.
        """
        found = self._read(shares, lambda message: Shares.unpack(message, self.terms))
        self._shared = {self._places[client]: one for client, one in found.items()}
        self._enough(len(found), "shared")
        return {client: pack_boxes(self._boxes(self._places[client])) for client in found}

    def _boxes(self, place: int) -> list[bytes | None]:
        return [
            self._shared[other].boxes[self.terms.index(other, place) - 1]
            if other in self._shared
            else None
            for other in self.terms.near(place)
        ]

    def take(self, client: int, message: bytes) -> None:
        """5: add a client's masked words; each client's once, after it shared, and in time."""
        place = self._places.get(client)
        if self._announced or place not in self._shared or self._here[place]:
            self.refused[client] = "it sent words that nobody waits for"
            return
        found = self._read({client: message}, lambda one: unpack_words(one, len(self._sum)))
        for words in found.values():
            self._sum += words
            self._here[place] = True

    def announce(self) -> dict[int, bytes]:
        """6: the list of survivors, for each of them. Words that come now are too late.

        Raises:
            TrainError: there are too few.
        """
        self._announced = True
        self._enough(int(self._here.sum()), "sent words")
        self.survivors = [self._ring[place] for place in np.flatnonzero(self._here)]
        return dict.fromkeys(self.survivors, pack_survivors(self._here))

    def total(self, answers: Mapping[int, bytes]) -> Words:
        """7: the sum of the survivors' words, uint64 [k].

        Raises:
            TrainError: too few answered to take the masks off, or shares are wrong.
        """
        asked = {client: one for client, one in answers.items() if client in set(self.survivors)}
        found = self._read(asked, lambda message: unpack_answer(message, self.terms))
        known: dict[int, list[tuple[int, bytes]]] = {place: [] for place in self._shared}
        for client, shares in found.items():
            holder = self._places[client]
            for owner, share in zip(self.terms.near(holder), shares, strict=True):
                if share is not None and owner in known:
                    known[owner].append((self.terms.index(owner, holder), share))
        short = sum(len(one) < self.terms.threshold for one in known.values())
        if short:
            raise TrainError(
                f"the masks of {short} of {len(known)} clients cannot be taken off: fewer than "
                f"{self.terms.threshold} of the {self.terms.neighbours} neighbours answered",
                mend="Take the round anew with those that are there.",
            )
        out = self._sum.copy()
        for place, parts in known.items():
            self._unmask(out, place, crypto.rebuilt(parts[: self.terms.threshold]))
        return out

    def _unmask(self, out: Words, place: int, seed: bytes) -> None:
        """Take off what this seed has put on."""
        keys = self._keys[place]
        if self._here[place]:
            if crypto.mark_of(seed, self._session) != self._shared[place].mark:
                raise _wrong_shares()
            crypto.add_stream(out, crypto.self_key(seed, self._session), -1)
            return
        private = crypto.masking_key(seed, keys.sealing)
        if private.public_key().public_bytes_raw() != keys.masking:
            raise _wrong_shares()
        for other in self.terms.near(place):
            if self._here[other]:
                context = b"masks" + self._session
                key = crypto.agreed(private, self._keys[other].masking, context)
                crypto.add_stream(out, key, -1 if other < place else 1)

    def _enough(self, count: int, did: str) -> None:
        least = self.terms.clients - self.terms.lost
        if count < least:
            raise TrainError(
                f"only {count} of {self.terms.clients} clients {did}, and {least} are the least "
                "for this secure sum",
                mend="See to the clients that are missing, or let the sum tolerate more losses.",
            )

    def _read(self, messages: Mapping[int, bytes], unpack: Callable[[bytes], T]) -> dict[int, T]:
        found: dict[int, T] = {}
        for client, message in messages.items():
            try:
                found[client] = unpack(message)
            except BadMessage as error:
                self.refused[client] = error.message
        return found


def _wrong_shares() -> TrainError:
    return TrainError("shares do not fit what they are shares of: a client sent wrong ones")


def _sound(one: Keys, seen: Counter[bytes]) -> bool:
    """Whether a client's keys are new and make secrets."""
    both = (one.sealing, one.masking)
    return all(seen[key] == 1 for key in both) and all(map(crypto.makes_secrets, both))
