"""Secrets of parties that all run on one machine: repeatable, and so no secrets at all.

Between companies a party's secret is random and lies beside its key. In a rehearsal everything is
in one hand, and the same job must give the same numbers over TLS, in one process and in the pooled
reference: there a party's secret follows from the job's seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def rehearsal_secret(seed: int, party: str) -> bytes:
    """The 32 bytes that stand for the secret of `party` where a job with `seed` is rehearsed."""
    return hashlib.sha256(f"isthmus.rehearsal\x1f{seed}\x1f{party}".encode()).digest()


def rehearsal_secrets(seed: int, parties: Iterable[str]) -> dict[str, bytes]:
    """The same for several parties, by name."""
    return {party: rehearsal_secret(seed, party) for party in parties}
