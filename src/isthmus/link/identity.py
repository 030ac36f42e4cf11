"""Who a party is: a key pair, a self-signed certificate, and the partners' certificates it trusts.

::

    <folder>/<name>.key.pem                the private key, readable by its owner alone
    <folder>/<name>.seed                   a secret that partners cannot guess, likewise
    <folder>/<name>.cert.pem               the certificate to give to partners
    <folder>/trusted/<partner>.cert.pem    certificates of partners, compared by voice

There is no authority above the parties: a certificate is trusted because somebody compared its
fingerprint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isthmus.errors import IdentityError
from isthmus.files import write_bytes
from isthmus.link.private_files import (
    check_private,
    make_private_folder,
    read_file,
    read_or_make_seed,
    write_private,
    write_seed,
)

DAYS = 825
"""How long a new certificate is valid, in days."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_DOMAIN = ".isthmus"
_TRUSTED = "trusted"


@dataclass(frozen=True)
class Identity:
    """A party's own key pair and certificate."""

    name: str
    key_path: Path
    certificate_path: Path
    certificate: x509.Certificate
    secret: bytes = field(repr=False)
    """32 random bytes that only this party knows, such as for weights no partner can compute."""

    @property
    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.certificate)

    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return _pem(self.certificate)

    def key_pem(self) -> bytes:
        """The private key as PEM. Never show, log or send it."""
        return read_file(self.key_path, "private key")


@dataclass(frozen=True)
class TrustedPartner:
    """A partner's certificate that this party trusts."""

    name: str
    path: Path
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.certificate)

    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return _pem(self.certificate)

    def is_same(self, certificate: x509.Certificate) -> bool:
        """Whether `certificate` is exactly the trusted one, byte for byte."""
        return _der(certificate) == _der(self.certificate)


def create_identity(
    folder: Path,
    name: str,
    *,
    days: int = DAYS,
    replace: bool = False,
    now: datetime | None = None,
    secret: bytes | None = None,
) -> Identity:
    """Make a key pair (ECDSA P-256), a self-signed certificate for `<name>.isthmus`, and a seed.

    Args:
        folder: where the files go; made if needed, then for its owner alone.
        name: the party's name: small letters, digits, `-` and `_`.
        days: how long the certificate is valid.
        replace: put it in place of one that is still valid; an expired one is always replaced.
        now: the present time; the clock by default.
        secret: the party's seed, 32 bytes, where a rehearsal must be repeatable; by default random.

    Raises:
        IdentityError: the name cannot be used, or there is a valid identity already.
        StorageError: the folder cannot be written.
    """
    _check_name(name)
    now = now or datetime.now(UTC)
    key_path, certificate_path, seed_path = _paths(folder, name)
    if not replace and certificate_path.exists():
        _refuse_valid(certificate_path, name, now)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, name, now, days)
    make_private_folder(folder)
    kept = write_seed(seed_path, secret)
    write_private(
        key_path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    write_bytes(certificate_path, _pem(certificate))
    return Identity(name, key_path, certificate_path, certificate, kept)


def load_identity(folder: Path, name: str) -> Identity:
    """Read the identity of `name`; an expired one is returned too (see `check_dates`).

    A missing seed is made.

    Raises:
        IdentityError: it is missing, broken, or its key does not fit or is open to others.
        StorageError: its seed is missing and cannot be written.
    """
    _check_name(name)
    key_path, certificate_path, seed_path = _paths(folder, name)
    if not certificate_path.exists() or not key_path.exists():
        raise IdentityError(
            f"{name} has no identity in {folder}",
            mend=f"Make one with `isthmus identity new {name}`.",
        )
    certificate = read_certificate(certificate_path)
    _check_key(key_path, certificate)
    secret = read_or_make_seed(seed_path)
    return Identity(name, key_path, certificate_path, certificate, secret)


def trust(
    folder: Path,
    certificate_path: Path,
    name: str | None = None,
    *,
    replace: bool = False,
    now: datetime | None = None,
) -> TrustedPartner:
    """Trust a partner's certificate from now on; compare its fingerprint with the partner by voice.

    Args:
        folder: this party's identity folder.
        certificate_path: the file the partner sent.
        name: the partner's expected name; by default the one in the certificate.
        replace: put it in place of another certificate of the same partner that is still valid.
        now: the present time; the clock by default.

    Raises:
        IdentityError: the file is no party's certificate, has another name, is expired, or another
            one is trusted under that name already.
    """
    now = now or datetime.now(UTC)
    certificate = read_certificate(certificate_path)
    found = party_of(certificate, certificate_path)
    if name is not None and name != found:
        raise IdentityError(f"{certificate_path} is a certificate of {found!r}, not of {name!r}")
    check_dates(certificate, found, own=False, now=now)
    path = folder / _TRUSTED / f"{found}.cert.pem"
    partner = TrustedPartner(found, path, certificate)
    if path.exists() and not replace:
        old = read_certificate(path)
        if old.not_valid_after_utc > now and not partner.is_same(old):
            raise IdentityError(
                f"another certificate of {found} is trusted already: {fingerprint(old)}",
                mend="Ask the partner whether it made a new one; then trust it with `--replace`.",
            )
    make_private_folder(folder)
    write_bytes(path, _pem(certificate))
    return partner


def trusted_partners(folder: Path) -> dict[str, TrustedPartner]:
    """The partners whose certificates lie in `<folder>/trusted`, by name.

    Raises:
        IdentityError: one of the files is broken or lies under another name than its own.
    """
    partners = {}
    for path in sorted((folder / _TRUSTED).glob("*.cert.pem")):
        certificate = read_certificate(path)
        name = party_of(certificate, path)
        if path.name != f"{name}.cert.pem":
            raise IdentityError(f"{path} is a certificate of {name!r}: it lies under a wrong name")
        partners[name] = TrustedPartner(name, path, certificate)
    return partners


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
    except ValueError as error:
        raise IdentityError(f"{path} is not one PEM certificate") from error
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
    except (x509.ExtensionNotFound, ValueError) as error:
        raise IdentityError(f"{path} is not the certificate of a party") from error
    is_p256 = isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(
        public_key.curve, ec.SECP256R1
    )
    name = domains[0].removesuffix(_DOMAIN) if len(domains) == 1 else ""
    if constraints.ca or not is_p256 or not _NAME.fullmatch(name) or domains != [name + _DOMAIN]:
        raise IdentityError(
            f"{path} is not the certificate of a party",
            mend="A party makes its certificate with `isthmus identity new`.",
        )
    return name


def domain_of(name: str) -> str:
    """The name in a party's certificate: `<name>.isthmus`."""
    return name + _DOMAIN


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise IdentityError(
            f"{name!r} cannot be a party's name",
            mend="Use up to 40 small letters, digits, `-` and `_`.",
        )


def _refuse_valid(path: Path, name: str, now: datetime) -> None:
    if read_certificate(path).not_valid_after_utc > now:
        raise IdentityError(
            f"{name} has a valid identity already: {path}",
            mend="Use it, or replace it with `--replace`; partners must then trust the new one.",
        )


def _self_signed(
    key: ec.EllipticCurvePrivateKey, name: str, now: datetime, days: int
) -> x509.Certificate:
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


def _check_key(path: Path, certificate: x509.Certificate) -> None:
    check_private(path, "the private key")
    try:
        key = serialization.load_pem_private_key(read_file(path, "private key"), password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path} is not a PEM private key") from error
    if key.public_key() != certificate.public_key():
        raise IdentityError(f"the private key {path} does not belong to the certificate beside it")


def _paths(folder: Path, name: str) -> tuple[Path, Path, Path]:
    return folder / f"{name}.key.pem", folder / f"{name}.cert.pem", folder / f"{name}.seed"


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
