"""A client of a secure sum that survives dropouts: four messages up, and then it knows nothing.

See `secure_server` for the protocol and what it withstands.
"""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from isthmus.errors import BadMessage
from isthmus.fedrec.privacy import secure_secrets as crypto
from isthmus.fedrec.privacy.secure_terms import Rules
from isthmus.fedrec.privacy.secure_wire import (
    SEED,
    Keys,
    Seat,
    Shares,
    Words,
    pack_answer,
    pack_words,
    unpack_boxes,
    unpack_survivors,
)

_STEPS = ("join", "share", "masked", "answer", "nothing more")


class Client:
    """One client, for one sum: call `join`, `share`, `masked` and `answer`, each once.

    Args:
        rules: what the sum must withstand; a server that keeps to weaker ones is refused.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._at = 0
        self._sealing = X25519PrivateKey.generate()
        public = self._sealing.public_key().public_bytes_raw()
        self._own, self._pairs = secrets.token_bytes(SEED), secrets.token_bytes(SEED)
        """The seeds of the self-mask and of the masking key."""
        self._masking = crypto.masking_key(self._pairs, public)
        self._keys = Keys(public, self._masking.public_key().public_bytes_raw())

    def join(self) -> bytes:
        """1: our public keys."""
        self._turn("join")
        return self._keys.pack()

    def share(self, seat: bytes) -> bytes:
        """2, 3: shares of both seeds for each neighbour, each sealed for it alone.

        Raises:
            BadMessage: the seat is malformed, or has a key twice.
            JobError: there are fewer than three clients.
        """
        self._turn("share")
        self._seat = found = Seat.unpack(seat, self._rules)
        terms = found.terms
        public = [key for one in (*found.keys, self._keys) for key in (one.sealing, one.masking)]
        if len(set(public)) < len(public):
            raise BadMessage("the server sent the same public key for two")
        self._near = terms.near(found.place)
        own = crypto.split(self._own, terms.threshold, terms.neighbours)
        pairs = crypto.split(self._pairs, terms.threshold, terms.neighbours)
        context = b"boxes" + found.session
        self._seals = [crypto.agreed(self._sealing, one.sealing, context) for one in found.keys]
        boxes = (
            crypto.sealed(one + two, seal, found.place, other)
            for one, two, seal, other in zip(own, pairs, self._seals, self._near, strict=True)
        )
        return Shares(crypto.mark_of(self._own, found.session), tuple(boxes)).pack()

    def masked(self, boxes: bytes, words: Words) -> bytes:
        """4, 5: our words under the self-mask, and under masks with all neighbours that shared.

        Args:
            boxes: of the neighbours.
            words: uint64 [k]; left as they are.

        Raises:
            BadMessage: so few neighbours shared that our seeds could not be rebuilt.
        """
        self._turn("masked")
        seat = self._seat
        self._boxes = unpack_boxes(boxes, seat.terms)
        shared = sum(one is not None for one in self._boxes)
        if shared < seat.terms.threshold:
            raise BadMessage(
                f"only {shared} neighbours shared, {seat.terms.threshold} are the threshold"
            )
        out = words.copy()
        crypto.add_stream(out, crypto.self_key(self._own, seat.session), 1)
        context = b"masks" + seat.session
        for box, keys, other in zip(self._boxes, seat.keys, self._near, strict=True):
            if box is not None:
                key = crypto.agreed(self._masking, keys.masking, context)
                crypto.add_stream(out, key, 1 if seat.place < other else -1)
        return pack_words(out)

    def answer(self, survivors: bytes) -> bytes:
        """6, 7: of each neighbour the share of its self-mask if it survived, else of its key.

        Never both: after this, all shares are forgotten. A box that does not open is left out.

        Raises:
            BadMessage: the list is not one that the rules allow: too many are lost, we are, the
                ring is cut, or one survived that never shared.
        """
        self._turn("answer")
        seat, boxes = self._seat, self._boxes
        here = unpack_survivors(survivors, seat.terms)
        if not here[seat.place]:
            raise BadMessage("the server asks us for shares, and counts us as lost")
        if int(here.sum()) < seat.terms.clients - seat.terms.lost:
            raise BadMessage("more clients are lost than the sum tolerates")
        if not seat.terms.in_one_piece(here):
            raise BadMessage("the survivors do not stand on one ring")
        if any(box is None and here[other] for box, other in zip(boxes, self._near, strict=True)):
            raise BadMessage("a neighbour that never shared is counted as a survivor")
        self._boxes = []
        return pack_answer(
            [
                None if box is None else self._part(box, seal, other, bool(here[other]))
                for box, seal, other in zip(boxes, self._seals, self._near, strict=True)
            ]
        )

    def _part(self, box: bytes, seal: bytes, sender: int, survived: bool) -> bytes | None:
        content = crypto.opened(box, seal, sender, self._seat.place)
        if content is None:
            return None
        return content[:SEED] if survived else content[SEED:]

    def _turn(self, step: str) -> None:
        if _STEPS[self._at] != step:
            raise BadMessage(f"the server asks for {step} out of turn, or twice")
        # Also where the step fails: no second try with another message.
        self._at += 1
