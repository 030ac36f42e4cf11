"""Whether `--resume` would help after a failure: something is finished, and stays of use."""

from __future__ import annotations

from isthmus.jobs.artefacts import MARKER, PartyFolder

MENDED_OUTSIDE = ("error", "stopped", "storage", "link.gone", "link.slow", "link.failed")
"""Codes of failures after which neither the job nor a table has to change."""


def can_go_on(folder: PartyFolder, code: str) -> bool:
    """Whether the party of `folder` has a finished step, and a failure of `code` leaves it of use.

    Args:
        folder: of a party of the job.
        code: of the failure where it began.
    """
    return code in MENDED_OUTSIDE and any(folder.path.glob(f"*/{MARKER}"))
