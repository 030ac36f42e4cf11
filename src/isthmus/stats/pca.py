"""Principal components of all parties' columns: axes from the joint correlations, scores split.

The label party finds the eigenvectors of the correlation matrix (`correlation`) and sends each
feature party the part that belongs to its columns. Each multiplies its own standardised columns
with its own part of the axes: the parts of the scores add up to the scores, and stay where they are
unless a caller sends one.

The same as scikit-learn's `PCA` of standardised columns up to sign. Signs are fixed: each axis has
its component of greatest size positive.

What each side learns besides what `correlation` says: a feature party its own part of the axes and
the variance of each; as axes are orthonormal, that tells it the others' part up to a rotation of
their columns. Of a single column that would be all but its sign, so two parties of which the label
party has one column refuse, unless the correlations are shared (`share`). With `covariance`, the
label party learns the others' deviations, and axes are those of the covariance matrix.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from isthmus.errors import BadMessage, DataError, JobError
from isthmus.session import PATIENCE, Session
from isthmus.stats import storing, wire
from isthmus.stats.columns import Floats, Table, matrix
from isthmus.stats.correlation import Correlation, Scaled, correlation_of, standardised
from isthmus.stats.storing import STRICT


@dataclass(frozen=True, eq=False)
class SplitPca:
    """One party's part of the principal components."""

    columns: tuple[str, ...]
    """The own ones."""
    mean: Floats
    scale: Floats
    """What the own columns are divided by, `[columns]`: deviations, or ones with `covariance`."""
    axes: Floats
    """Own part of the axes, `[components, columns]`."""
    variance: Floats
    """Of each component (divided by n - 1), `[components]`, falling."""
    total_variance: float
    """Of all components that there could be."""
    correlation: Correlation | None
    """At the label party; at the feature party with `share`."""

    @property
    def variance_share(self) -> Floats:
        """Share of the total variance of each component."""
        return self.variance / self.total_variance

    def scores(self, table: Table) -> Floats:
        """The own part of the scores, float64 `[rows, components]`: the sum of all is the scores.

        Raises:
            DataError: columns are not those of the fit, or have gaps.
        """
        names, values = matrix(table)
        if missing := sorted(set(self.columns) - set(names)):
            raise DataError(f"the table has no column {missing[0]!r}")
        order = [names.index(name) for name in self.columns]
        found: Floats = (values[:, order] - self.mean) / self.scale @ self.axes.T
        return found

    def to_json(self) -> str:
        """For a file of this party alone: it has means and deviations."""
        stored = _Stored(
            self.columns, self.mean.tolist(), self.scale.tolist(), self.axes.tolist(),
            self.variance.tolist(), self.total_variance, self.correlation,
        )  # fmt: skip
        return json.dumps(asdict(stored), allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> SplitPca:
        """What `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        found = storing.parsed(_Stored, text, "principal components", _sound)
        return SplitPca(
            found.columns, np.array(found.mean), np.array(found.scale), np.array(found.axes),
            np.array(found.variance), found.total_variance, found.correlation,
        )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write the own part to a file. Raises StorageError."""
        storing.save(path, self.to_json())

    @staticmethod
    def load(path: str | Path) -> SplitPca:
        """What `save` wrote.

        Raises:
            StorageError: the file cannot be read, or is something else.
        """
        return storing.load(path, SplitPca.from_json)


@dataclass(frozen=True)
class _Stored:
    """A `SplitPca` in its file."""

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    variance: tuple[float, ...]
    total_variance: float
    correlation: Correlation | None
    __pydantic_config__ = STRICT


def _sound(stored: _Stored) -> bool:
    size = len(stored.columns)
    return (
        len(stored.mean) == len(stored.scale) == len(set(stored.columns)) == size > 0
        and min(stored.scale) > 0
        and len(stored.axes) == len(stored.variance) > 0
        and all(len(axis) == size for axis in stored.axes)
        and (stored.correlation is None or stored.correlation.is_sound)
        and _plausible(np.array(stored.axes), np.array(stored.variance), stored.total_variance)
    )


def _plausible(axes: Floats, variance: Floats, total: float) -> bool:
    """Whether finite numbers could be parts of axes with these variances."""
    falls = bool((np.diff(variance) <= 0).all()) and variance[-1] >= 0
    return falls and bool(np.abs(axes).max() <= 1 + 1e-9) and total > 0


def fit_pca(
    session: Session,
    table: Table,
    *,
    components: int,
    covariance: bool = False,
    share: bool = False,
    reuse: bool = False,
    joint: Correlation | None = None,
    threads: int = 1,
) -> SplitPca:
    """Principal components of all parties' columns; see the module.

    All parties call it at the same time with their own aligned columns.

    Args:
        session: the party's session.
        table: numbers without gaps, rows in the aligned order.
        components: how many; the same at all parties, and no more than all columns.
        covariance: columns are centred only, not scaled; the same at all parties.
        share: whether feature parties get the correlations too; the same at all parties.
        reuse: whether all have called `correlation` before with these columns and rows, so that it
            need not be done again; the same at all parties.
        joint: with `reuse`, what it gave here.
        threads: that SEAL may use.

    Raises:
        DataError: as in `correlation`, or there are fewer columns than components, or the label
            party of two has one column and the correlations are not shared, or `joint` is of other
            columns or rows.
        JobError: the parties want different things.
        BadMessage: a partner did not keep to the protocol.
    """
    if components < 1:
        raise JobError(f"{components} components")
    scaled = standardised(table)
    counts = {session.me: len(scaled.names)}
    same = {"components": components, "covariance": covariance, "share": share, "reuse": reuse}
    for link in session.links.values():
        theirs = wire.greet(link, "pca.hello", len(scaled.values), len(scaled.names), same)
        counts[link.partner] = theirs
        lone = (len(scaled.names) if session.is_label_party else theirs) < 2
        if lone and len(session.parties) == 2 and not share:
            raise DataError(
                f"{session.label_party} has one column, whose correlations the axes would tell",
                mend="Set share=True at both, or add a column there.",
            )
    if reuse and session.is_label_party:
        _check_joint(joint, scaled, counts)
    found = joint if reuse else correlation_of(session, scaled, share=share, threads=threads)
    scale = np.ones(scaled.std.size) if covariance else scaled.std
    if found is None or not session.is_label_party:
        axes, variance, total = _received(session, scaled, components, covariance)
    else:
        axes, variance, total = _found(session, scaled, found, components, covariance)
    return SplitPca(scaled.names, scaled.mean, scale, axes, variance, total, found)


def _check_joint(joint: Correlation | None, scaled: Scaled, counts: dict[str, int]) -> None:
    fits = joint is not None and (
        joint.rows == len(scaled.values)
        and joint.columns[: len(scaled.names)] == scaled.names
        and Counter(joint.parties) == counts
    )
    if not fits:
        raise DataError("the correlations at hand are of other columns or rows")


def _found(
    session: Session, scaled: Scaled, found: Correlation, components: int, covariance: bool
) -> tuple[Floats, Floats, float]:
    """The label party: the own part of the axes, variances, and their total."""
    own, size = len(scaled.names), len(found.columns)
    if components > size:
        raise DataError(
            f"{components} components of {size} columns", mend=f"Ask for {size} at the most."
        )
    places = {
        party: slice(found.parties.index(party), found.parties.index(party) + count)
        for party, count in Counter(found.parties).items()
        if party != session.me
    }
    deviations = np.ones(size)
    if covariance:
        deviations[:own] = scaled.std
        for party, place in places.items():
            link, count = session.link(party), place.stop - place.start
            message = link.recv("pca.deviations", timeout=PATIENCE)
            deviations[place] = wire.tensor(link, message, "std", np.float64, (count,))
            if (deviations[place] <= 0).any():
                raise BadMessage(f"{party} sent pca.deviations that are not positive")
    rows = found.rows
    matrix_ = found.array() * np.outer(deviations, deviations) * (rows / (rows - 1))
    values, vectors = np.linalg.eigh(matrix_)
    order = np.argsort(values)[::-1][:components]
    axes = vectors[:, order].T
    axes *= np.sign(axes[np.arange(components), np.abs(axes).argmax(axis=1)])[:, None]
    variance, total = np.maximum(values[order], 0.0), float(np.trace(matrix_))
    for party, place in places.items():
        about = {"axes": axes[:, place], "variance": variance, "total": np.array([total])}
        session.link(party).send("pca.axes", about)
    return axes[:, :own].copy(), variance, total


def _received(
    session: Session, scaled: Scaled, components: int, covariance: bool
) -> tuple[Floats, Floats, float]:
    """The feature party: the same, from the label party."""
    link, own = session.hub, len(scaled.names)
    if covariance:
        link.send("pca.deviations", {"std": scaled.std})
    message = link.recv("pca.axes", timeout=PATIENCE)
    axes = wire.tensor(link, message, "axes", np.float64, (components, own))
    variance = wire.tensor(link, message, "variance", np.float64, (components,))
    total = float(wire.tensor(link, message, "total", np.float64, (1,))[0])
    if not _plausible(axes, variance, total):
        raise BadMessage(f"{link.partner} sent pca.axes that cannot be those of components")
    return axes.copy(), variance.copy(), total
