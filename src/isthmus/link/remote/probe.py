"""Why a partner cannot be dialled: nobody there, no party, or another certificate."""

from __future__ import annotations

import ssl

from cryptography import x509

from isthmus.errors import IsthmusError, PartnerAbsent, UntrustedPartner
from isthmus.link.identity import TrustedPartner, fingerprint
from isthmus.link.remote.tls import client_context_without_identity, dial

_SECONDS = 3.0


def probe(address: str, partner: TrustedPartner) -> IsthmusError:
    """Look into a failed dial.

    Returns:
        UntrustedPartner, which no waiting will mend; or PartnerAbsent, with what was found.
    """
    try:
        presented = _certificate_at(address)
    except (ssl.SSLError, ValueError):
        return PartnerAbsent(f"what answers at {address} is not a party")
    except OSError as error:
        return PartnerAbsent(f"nobody answers at {address} ({error.strerror or error})")
    if not partner.is_same(presented):
        return _other_certificate(address, presented, partner)
    return PartnerAbsent(f"{partner.name} answers at {address} but does not accept a link yet")


def _certificate_at(address: str) -> x509.Certificate:
    """The certificate that is presented there. Nothing of ours is shown to whoever it is."""
    context = client_context_without_identity()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with dial(address, context, None, _SECONDS) as line:
        return x509.load_der_x509_certificate(line.getpeercert(binary_form=True) or b"")


def _other_certificate(
    address: str, presented: x509.Certificate, partner: TrustedPartner
) -> UntrustedPartner:
    return UntrustedPartner(
        f"the certificate at {address} is not the one trusted for {partner.name}: "
        f"presented {fingerprint(presented)}, trusted {partner.fingerprint}",
        mend=f"Compare fingerprints with {partner.name} by voice, "
        "then use `isthmus identity trust` if it has a new one.",
    )
