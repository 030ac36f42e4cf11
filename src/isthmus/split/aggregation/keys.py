"""How feature parties agree on masks: their public keys go through the label party, the hub.

::

    each -> hub   <purpose>.mask-key    the own public key (X25519, fresh)
    hub -> each   <purpose>.mask-keys   all public keys, in the agreed order of the parties
    each -> hub   <purpose>.mask-tag    a tag for each other feature party, and a signature
    hub -> each   <purpose>.mask-tags   the tags made for the receiver, and all signatures

The tags prove that each pair holds one key over one list of keys, so that a slip of the hub is an
error here and not a wrong sum later. They do not prove who is at the other end: **a hub that
departs from the protocol could put keys of its own in place of the parties'** and read every tensor
(a man in the middle). Signatures do: give every feature party a `Signer` that knows the others,
such as `IdentitySigner`, for which the feature parties must trust each other's certificates as they
trust the hub's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from isthmus.crypto.curve25519 import LowOrderPoint
from isthmus.crypto.masks import KEY_BYTES, TAG_BYTES, MaskKey, Masks, Roster
from isthmus.errors import BadMessage, JobError, UntrustedPartner
from isthmus.link import Link
from isthmus.session import Session
from isthmus.split.lane import shown

SIGNATURE_BYTES = 64


class Signer(Protocol):
    """Proves to other feature parties who we are, and checks their proofs."""

    def sign(self, content: bytes) -> bytes:
        """Our signature of `content`, 64 bytes."""

    def verify(self, party: str, content: bytes, signature: bytes) -> bool:
        """Whether `signature` is that of `party` for `content`."""


def check_federation(session: Session) -> None:
    """See whether a secure sum can hide anything.

    Raises:
        JobError: there are fewer than two feature parties, so the sum would be one party's tensor.
    """
    if len(session.feature_parties) < 2:
        raise JobError(
            f"a secure sum needs at least two feature parties, here is only "
            f"{', '.join(session.feature_parties) or 'the label party'}",
            mend="The sum would be that party's own tensor: use another aggregation.",
        )


def agree_masks(session: Session, purpose: str, *, signer: Signer | None = None) -> Masks:
    """A feature party's half: masks under keys that nobody else has.

    Args:
        session: of a feature party.
        purpose: what for, such as `train`; the same at all parties.
        signer: proves the keys' owners. With None the hub must be trusted not to swap keys.

    Raises:
        JobError: there are fewer than two feature parties.
        BadMessage: what the hub passed on does not fit together.
        UntrustedPartner: a party's signature is missing or wrong.
    """
    check_federation(session)
    hub, parties, key = session.hub, session.feature_parties, MaskKey()
    hub.send(f"{purpose}.mask-key", {"key": _bytes(key.public)})
    keys = _take(hub, f"{purpose}.mask-keys", {"keys": (len(parties), KEY_BYTES)})["keys"]
    try:
        roster = Roster(purpose, parties, tuple(row.tobytes() for row in keys))
        masks = key.masks(session.me, roster)
    except (ValueError, LowOrderPoint) as error:
        raise BadMessage(f"{hub.partner} passed on keys that cannot be: {error}") from error
    _prove(hub, purpose, roster, masks, signer)
    _check(hub, purpose, roster, masks, signer)
    return masks


def relay_keys(session: Session, purpose: str) -> None:
    """The label party's half: pass keys, tags and signatures on, and learn no key.

    Raises:
        JobError: there are fewer than two feature parties.
        BadMessage: a party sent something else.
    """
    check_federation(session)
    parties = session.feature_parties
    n = len(parties)
    shape: dict[str, tuple[int, ...]] = {"key": (KEY_BYTES,)}
    topic = f"{purpose}.mask-key"
    keys = np.stack([_take(session.link(party), topic, shape)["key"] for party in parties])
    for party in parties:
        session.link(party).send(f"{purpose}.mask-keys", {"keys": keys})
    shape = {"tags": (n, TAG_BYTES), "signature": (SIGNATURE_BYTES,)}
    topic = f"{purpose}.mask-tag"
    given = [_take(session.link(party), topic, shape) for party in parties]
    tags = np.stack([answer["tags"] for answer in given])
    signatures = np.stack([answer["signature"] for answer in given])
    for i, party in enumerate(parties):
        answer = {"tags": np.ascontiguousarray(tags[:, i]), "signatures": signatures}
        session.link(party).send(f"{purpose}.mask-tags", answer)


def _prove(hub: Link, purpose: str, roster: Roster, masks: Masks, signer: Signer | None) -> None:
    tags = np.zeros((len(roster.parties), TAG_BYTES), np.uint8)
    for i, peer in enumerate(roster.parties):
        if peer != masks.me:
            tags[i] = _bytes(masks.tag(peer, masks.me, roster.digest))
    signature = np.zeros(SIGNATURE_BYTES, np.uint8)
    if signer is not None:
        signature[:] = _bytes(signer.sign(_statement(roster, masks.me)))
    hub.send(f"{purpose}.mask-tag", {"tags": tags, "signature": signature})


def _check(hub: Link, purpose: str, roster: Roster, masks: Masks, signer: Signer | None) -> None:
    n = len(roster.parties)
    shapes: dict[str, tuple[int, ...]] = {
        "tags": (n, TAG_BYTES),
        "signatures": (n, SIGNATURE_BYTES),
    }
    answer = _take(hub, f"{purpose}.mask-tags", shapes)
    for i, peer in enumerate(roster.parties):
        if peer == masks.me:
            continue
        if answer["tags"][i].tobytes() != masks.tag(peer, peer, roster.digest):
            raise BadMessage(
                f"{peer} and {masks.me} did not get the same key from {hub.partner}",
                mend="All parties must run the same version; else something on the way lies.",
            )
        if signer is not None and not signer.verify(
            peer, _statement(roster, peer), answer["signatures"][i].tobytes()
        ):
            raise UntrustedPartner(
                f"the mask key that {hub.partner} passed on for {peer} is not signed by {peer}",
                mend=f"Trust the certificate of {peer} too, and have {peer} sign its keys.",
            )


def _statement(roster: Roster, party: str) -> bytes:
    return b"isthmus.mask-key.v1\0" + party.encode() + b"\0" + roster.digest


def _take(
    link: Link, topic: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[Any]]:
    message = link.recv(topic)
    if message.tensors.keys() != shapes.keys():
        raise BadMessage(
            f"{link.partner} sent the tensors {shown(sorted(message.tensors))} as {topic}, "
            f"agreed were {sorted(shapes)}"
        )
    for name, shape in shapes.items():
        array = message.tensors[name]
        if array.dtype != np.uint8 or array.shape != shape:
            raise BadMessage(
                f"{link.partner} sent {topic} {name!r} as {array.dtype} {list(array.shape)}, "
                f"agreed was uint8 {list(shape)}"
            )
    return dict(message.tensors)


def _bytes(content: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)
