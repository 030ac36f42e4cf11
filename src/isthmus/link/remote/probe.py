"""Why a partner cannot be dialled: nobody there, another certificate, or ours refused.

gRPC says no more than "unavailable", so a refused dial is looked into with a TLS handshake of our
own.
"""

from __future__ import annotations

import socket
import ssl

from cryptography import x509

from isthmus.errors import IsthmusError, PartnerAbsent, UntrustedPartner
from isthmus.link.identity import Identity, TrustedPartner, fingerprint
from isthmus.link.remote.address import split_address

_SECONDS = 3.0


def probe(address: str, identity: Identity, partner: TrustedPartner) -> IsthmusError:
    """Look into a failed dial.

    Returns:
        UntrustedPartner, which no waiting will mend; or PartnerAbsent, with what was found.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate is compared below; nothing is sent
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    try:
        with (
            socket.create_connection(split_address(address), _SECONDS) as plain,
            context.wrap_socket(plain) as line,
        ):
            return _compare(line, address, identity, partner)
    except ssl.SSLError:
        return PartnerAbsent(f"what answers at {address} is not a party")
    except OSError as error:
        return PartnerAbsent(f"nobody answers at {address} ({error.strerror or error})")


def _compare(
    line: ssl.SSLSocket, address: str, identity: Identity, partner: TrustedPartner
) -> IsthmusError:
    presented = x509.load_der_x509_certificate(line.getpeercert(binary_form=True) or b"")
    if not partner.is_same(presented):
        return UntrustedPartner(
            f"the certificate at {address} is not the one trusted for {partner.name}: "
            f"presented {fingerprint(presented)}, trusted {partner.fingerprint}",
            mend=f"Compare fingerprints with {partner.name} by voice, "
            "then use `isthmus identity trust` if it has a new one.",
        )
    if _is_refused(line):
        return UntrustedPartner(
            f"{partner.name} does not trust this party's certificate ({identity.fingerprint})",
            mend=f"{partner.name} must trust it with `isthmus identity trust`, "
            "after comparing fingerprints by voice.",
        )
    return PartnerAbsent(f"{partner.name} answers at {address} but does not accept a link yet")


def _is_refused(line: ssl.SSLSocket) -> bool:
    """Whether the other side turned our certificate down.

    In TLS 1.3 that comes after the handshake: an alert, where a party would speak HTTP/2 first.
    """
    try:
        return line.recv(1) == b""
    except TimeoutError:
        return False
    except (ssl.SSLError, ConnectionError):
        return True
