"""Why a partner cannot be dialled: nobody there, another certificate, or ours refused.

gRPC says no more than "unavailable", so a refused dial is looked into with a TLS handshake of our
own.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509

from isthmus.errors import IsthmusError, PartnerAbsent, UntrustedPartner
from isthmus.link.identity import Identity, TrustedPartner, domain_of, fingerprint
from isthmus.link.remote.address import split_address

_SECONDS = 3.0


def probe(address: str, identity: Identity, partner: TrustedPartner) -> IsthmusError:
    """Look into a failed dial.

    Returns:
        UntrustedPartner, which no waiting will mend; or PartnerAbsent, with what was found.
    """
    try:
        presented = _certificate_at(address)
        if not partner.is_same(presented):
            return _other_certificate(address, presented, partner)
        if _refuses(address, identity, partner):
            return UntrustedPartner(
                f"{partner.name} does not trust this party's certificate ({identity.fingerprint})",
                mend=f"{partner.name} must trust it with `isthmus identity trust`, "
                "after comparing fingerprints by voice.",
            )
    except (ssl.SSLError, ValueError):
        return PartnerAbsent(f"what answers at {address} is not a party")
    except OSError as error:
        return PartnerAbsent(f"nobody answers at {address} ({error.strerror or error})")
    return PartnerAbsent(f"{partner.name} answers at {address} but does not accept a link yet")


def _certificate_at(address: str) -> x509.Certificate:
    """The certificate that is presented there. Nothing of ours is shown to whoever it is."""
    context = _tls()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _connect(address, context) as line:
        return x509.load_der_x509_certificate(line.getpeercert(binary_form=True) or b"")


def _refuses(address: str, identity: Identity, partner: TrustedPartner) -> bool:
    """Whether the partner, whose certificate was found to be right, turns ours down.

    In TLS 1.3 that comes after the handshake: an alert, where a party would speak HTTP/2 first.
    """
    context = _tls()
    context.load_verify_locations(cadata=partner.certificate_pem().decode())
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    with _connect(address, context, domain_of(partner.name)) as line:
        try:
            return line.recv(1) == b""
        except TimeoutError:
            return False
        except (ssl.SSLError, ConnectionError):
            return True


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    return context


@contextmanager
def _connect(
    address: str, context: ssl.SSLContext, domain: str | None = None
) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(split_address(address), _SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=domain) as line,
    ):
        yield line


def _other_certificate(
    address: str, presented: x509.Certificate, partner: TrustedPartner
) -> UntrustedPartner:
    return UntrustedPartner(
        f"the certificate at {address} is not the one trusted for {partner.name}: "
        f"presented {fingerprint(presented)}, trusted {partner.fingerprint}",
        mend=f"Compare fingerprints with {partner.name} by voice, "
        "then use `isthmus identity trust` if it has a new one.",
    )
