"""Noise on the sums that a partner shows, and what it is worth as differential privacy.

The Gaussian mechanism in terms of zero-concentrated differential privacy (Bun and Steinke,
"Concentrated Differential Privacy", TCC 2016): noise of standard deviation s on numbers of which
one row can change the squared distance by D^2 costs rho = D^2 / (2 s^2), and costs add up. rho
gives (rho + 2 sqrt(rho log(1 / delta)), delta)-differential privacy for every delta.

**What is counted.** Tables are neighbours where one row has other values in the partner's columns.
Its g and h, at most 1 in units of the noise, then go from one bin of each column to another: four
numbers a column, D^2 = 4 columns. In a tree the row is in the root and in one node of each further
level whose sums are shown: `depth` times at the most. A tree that is made again, because the fit
was stopped and resumed, has new noise and is counted again: the same noise on what a label party
might have changed meanwhile would show the difference.

**What is not.** The bins (their edges, their number, whether there is one for missing values) are
taken as given, as if public: they are quantiles of the same columns, and a row more moves many of
them. The label party is taken to keep to the protocol: one that scales g and h up makes the noise
worth less, unseen. The sides of the rows at the partner's splits, and which cuts leave enough rows,
are shown exactly, and the nodes depend on them. So the fit as a whole is not differentially
private: the noise hides a row's bins in the sums, not its side at the splits.
"""

from __future__ import annotations

import json
import math
import secrets
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isthmus.errors import StorageError
from isthmus.files import write_json
from isthmus.trees.options import TreeOptions

Words = npt.NDArray[np.uint64]


def rho_of_tree(options: TreeOptions, columns: int) -> float:
    """What one tree of so many of a partner's columns costs; 0 where there is no noise."""
    if not options.noise:
        return 0.0
    return options.depth * 4 * columns / (2 * options.noise**2)


def epsilon(rho: float, delta: float) -> float:
    """Of (epsilon, delta)-differential privacy, by Bun and Steinke's proposition 1.3."""
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


class Account:
    """What a partner's noisy sums cost in all, on disk before they are shown.

    Args:
        path: of the file; None: in memory alone.
        fingerprint: of the fit; what another cost is not counted.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint
        self.rho = self._earlier()

    def spend(self, rho: float) -> None:
        """Count what is about to be shown. Raises StorageError."""
        self.rho += rho
        if self._path is not None and rho:
            write_json(self._path, {"fingerprint": self._fingerprint, "rho": self.rho})

    def _earlier(self) -> float:
        try:
            found = {} if self._path is None else json.loads(self._path.read_bytes())
            known = found.get("fingerprint") == self._fingerprint
            return float(found["rho"]) if known else 0.0
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"cannot read {self._path}, which says what noisy sums have cost so far",
                mend="Begin anew, without --resume.",
            ) from error


class Noise:
    """A partner's noise: seeded by the system, though its generator is not one for keys.

    Args:
        options: as agreed.
    """

    def __init__(self, options: TreeOptions) -> None:
        self._deviation = options.noise
        self._rng = np.random.default_rng(secrets.randbits(128))

    def added(self, sums: Words, bits: int) -> Words:
        """Shares of sums with noise, modulo 2^64, where 1 is two to `bits`."""
        if not self._deviation:
            return sums
        noise = self._rng.normal(0.0, math.ldexp(self._deviation, bits), sums.shape)
        found: Words = sums + np.rint(noise).astype(np.int64).view(np.uint64)
        return found
