"""Mask keys signed with the parties' own certificates."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate

from isthmus.link.identity import Identity, TrustedPartner

_HALF = 32
_KIND = ec.ECDSA(hashes.SHA256())


class IdentitySigner:
    """Signs with a party's identity and checks against the certificates that it trusts.

    ECDSA on P-256 with SHA-256, as r and s of 32 bytes each.

    Args:
        identity: of this party.
        trusted: the certificates this party trusts, by party; those of all other feature parties
            are needed.
    """

    def __init__(self, identity: Identity, trusted: Mapping[str, TrustedPartner]) -> None:
        key = load_pem_private_key(identity.key_pem(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._certificates: dict[str, Certificate] = {
            party: partner.certificate for party, partner in trusted.items()
        }

    def sign(self, content: bytes) -> bytes:
        """See `Signer.sign`."""
        r, s = decode_dss_signature(self._key.sign(content, _KIND))
        return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")

    def verify(self, party: str, content: bytes, signature: bytes) -> bool:
        """See `Signer.verify`; False for a party whose certificate is not trusted."""
        if party not in self._certificates:
            return False
        key = self._certificates[party].public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        halves = [int.from_bytes(half, "big") for half in (signature[:_HALF], signature[_HALF:])]
        try:
            key.verify(encode_dss_signature(halves[0], halves[1]), content, _KIND)
        except InvalidSignature:
            return False
        return True
