"""TLS as links use it: version 1.3 alone, both sides with certificates, nobody above them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable

from isthmus.link.identity import Identity, TrustedPartner, domain_of
from isthmus.link.remote.address import split_address


def version() -> tuple[str, bool]:
    """What TLS is Python's here, and whether it can do 1.3."""
    return ssl.OPENSSL_VERSION, ssl.HAS_TLSv1_3


def client_context(identity: Identity, partner: TrustedPartner) -> ssl.SSLContext:
    """For dialling `partner`: trusts its certificate and no other."""
    context = client_context_without_identity()
    context.load_verify_locations(cadata=partner.certificate_pem().decode())
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    return context


def client_context_without_identity() -> ssl.SSLContext:
    """For a look at who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def server_context(identity: Identity, partners: Iterable[TrustedPartner]) -> ssl.SSLContext:
    """For listening: a certificate of one of `partners` is required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # a stream is not resumed: a new one shakes hands anew
    pem = b"".join(partner.certificate_pem() for partner in partners)
    context.load_verify_locations(cadata=pem.decode())
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    return context


def dial(
    address: str, context: ssl.SSLContext, partner: str | None, seconds: float
) -> ssl.SSLSocket:
    """Connect and shake hands, each within `seconds`.

    Args:
        address: `host:port`.
        context: of a client.
        partner: whose name must be in the certificate; None for anybody.
        seconds: to wait at most for the connection, and again for the handshake.

    Raises:
        OSError: nobody answers; `ssl.SSLError`, where whoever does is not trusted or no party.
    """
    plain = socket.create_connection(split_address(address), seconds)
    domain = None if partner is None else domain_of(partner)
    try:
        return context.wrap_socket(plain, server_hostname=domain)
    except BaseException:
        plain.close()
        raise


def is_refusal(error: BaseException) -> bool:
    """Whether the other side said by TLS that it does not accept our certificate.

    In version 1.3 that comes after our half of the handshake.
    """
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
