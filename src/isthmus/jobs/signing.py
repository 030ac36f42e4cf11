"""Whose mask keys a secure sum uses: signed with the feature parties' own certificates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from isthmus.errors import UntrustedPartner
from isthmus.jobs.job import Job
from isthmus.link.identity import Identity, check_dates, trusted_partner
from isthmus.split.aggregation import IdentitySigner


def _now() -> datetime:
    return datetime.now(UTC)


def signer_of(
    job: Job, identity: Identity, folder: Path, now: Callable[[], datetime] = _now
) -> IdentitySigner | None:
    """What signs the mask keys of `identity`; None where the job or the party needs none.

    The keys go through the label party. Without signatures it could put its own in their place, so
    a feature party takes them only from those whose certificates it trusts.

    Args:
        job: the job.
        identity: of this party.
        folder: its identity folder, which holds the certificates that it trusts.
        now: the present time.

    Raises:
        UntrustedPartner: another feature party's certificate is not trusted.
        IdentityError: one is expired or cannot be read.
    """
    me, spec = identity.name, job.spec
    if not spec.train.secure_sum or me == spec.label.party:
        return None
    others = [party for party in spec.feature_parties if party != me]
    found = {party: trusted_partner(folder, party) for party in others}
    trusted = {party: partner for party, partner in found.items() if partner is not None}
    if missing := [party for party in others if party not in trusted]:
        commands = " and ".join(
            f"`isthmus identity trust {party}.cert.pem --folder {folder}`" for party in missing
        )
        raise UntrustedPartner(
            f"{job.where('train', 'secure_sum')}: {me} does not trust the certificate of "
            f"{', '.join(missing)}, whose mask keys come through {spec.label.party}",
            mend=f"Get it from {', '.join(missing)}, compare its fingerprint by voice, and run "
            f"{commands}; each feature party must trust all the others.",
        )
    for party, partner in trusted.items():
        check_dates(partner.certificate, party, own=False, now=now())
    return IdentitySigner(identity, trusted)
