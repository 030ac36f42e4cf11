"""Signs that two parties write the same ids differently, seen from the counts of one of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from isthmus.align.alignment import AlignmentCounts
from isthmus.align.keys import Keys

FEW = 0.1
"""Share of the smaller set of ids below which a match is called small."""
HARDLY = 0.01
"""Share of the ids of one form below which they count as all lost."""


def suspicions(
    keys: Keys, common: npt.NDArray[np.int64], counts: AlignmentCounts
) -> tuple[str, ...]:
    """What this party should look at, a sentence each; counts alone, never an id.

    Args:
        keys: the own ids.
        common: int64 `[c]`, which of them are common to all.
        counts: what the alignment found.
    """
    is_common = np.zeros(len(keys.values), dtype=bool)
    is_common[common] = True
    said = [_lost(name, has, is_common) for name, has in keys.forms.items()]
    return tuple(text for text in (_small(counts), *said) if text)


def _small(counts: AlignmentCounts) -> str:
    smallest = min(counts.keys, *counts.partners.values())
    if counts.common >= FEW * smallest:
        return ""
    return (
        f"only {counts.common:,} ids are common to all, of {smallest:,} at the party that has the "
        "fewest: is it the same key, written in the same way, on every side?"
    )


def _lost(form: str, has: npt.NDArray[np.bool_], is_common: npt.NDArray[np.bool_]) -> str:
    # In a form that the partners keep, ids are common as often as others; else hardly any is.
    total, matched = int(has.sum()), int((has & is_common).sum())
    if matched >= HARDLY * total:
        return ""
    return (
        f"of the {total:,} ids here with {form}, {matched or 'none'} found a partner's: does every "
        "side write them so, or has one of them numbers where there is text here?"
    )
