"""Certificates of parties: how they are made, read and compared."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isthmus.errors import IdentityError
from isthmus.link.private_files import read_file

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
"""What a party may be called."""
_DOMAIN = ".isthmus"
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises on certificates that are damaged, or of kinds that no party has."""


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate as 16 groups of four hexadecimal digits, to compare by voice."""
    digits = certificate.fingerprint(hashes.SHA256()).hex().upper()
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def check_dates(
    certificate: x509.Certificate, name: str, *, own: bool, now: datetime | None = None
) -> None:
    """Check that a certificate is valid at `now` (default: the clock).

    Raises:
        IdentityError: it has expired, or is not valid yet.
    """
    now = now or datetime.now(UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start <= now < end:
        return
    fault = f"expired on {end:%Y-%m-%d}" if now >= end else f"is valid only from {start:%Y-%m-%d}"
    mend = f"Make a new one with `isthmus identity new {name}`"
    if own:
        mend += ", and let every partner trust it."
    else:
        mend = f"{name} must do so: {mend}, then trust it here with `isthmus identity trust`."
    raise IdentityError(f"the certificate of {name} {fault}", mend=mend)


def read_certificate(path: Path) -> x509.Certificate:
    """Read one PEM certificate.

    Raises:
        IdentityError: the file is missing or is something else, such as a private key.
    """
    content = read_file(path, "certificate")
    if b"PRIVATE KEY" in content:
        raise IdentityError(
            f"{path} holds a private key, where a certificate belongs",
            mend="If that key has left its owner, make a new identity.",
        )
    try:
        (certificate,) = x509.load_pem_x509_certificates(content)
        certificate.public_key(), certificate.extensions  # they are parsed only when asked for
    except _UNREADABLE as error:
        raise IdentityError(f"{path} is not one PEM certificate that can be used") from error
    return certificate


def party_of(certificate: x509.Certificate, path: Path) -> str:
    """The party's name in a certificate, checked to be of the one shape that links use.

    Raises:
        IdentityError: it is not the certificate of a party.
    """
    try:
        extensions = certificate.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        domains = names.get_values_for_type(x509.DNSName)
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        public_key = certificate.public_key()
    except _UNREADABLE as error:
        raise IdentityError(f"{path} is not the certificate of a party") from error
    is_p256 = isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(
        public_key.curve, ec.SECP256R1
    )
    name = domains[0].removesuffix(_DOMAIN) if len(domains) == 1 else ""
    if constraints.ca or not is_p256 or not NAME.fullmatch(name) or domains != [name + _DOMAIN]:
        raise IdentityError(
            f"{path} is not the certificate of a party",
            mend="A party makes its certificate with `isthmus identity new`.",
        )
    return name


def domain_of(name: str) -> str:
    """The name in a party's certificate: `<name>.isthmus`."""
    return name + _DOMAIN


def self_signed(
    key: ec.EllipticCurvePrivateKey, name: str, now: datetime, days: int
) -> x509.Certificate:
    """A certificate of `name` for the public half of `key`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # partners' clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain_of(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    """The certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)
