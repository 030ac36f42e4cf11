"""What a job's report says of the tables that were looked at, from the files of the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from isthmus.jobs import tabular
from isthmus.jobs.artefacts import PartyFolder, StepFolder
from isthmus.jobs.cleaning import CLEANING
from isthmus.jobs.job import Job
from isthmus.jobs.report.looks import (
    Bin,
    BinFacts,
    BinnedColumn,
    CleanedColumn,
    CorrelationFacts,
    Looks,
    PartnerProfile,
    PcaFacts,
    ProfileColumn,
    ProfileFacts,
)
from isthmus.jobs.steps import align, correlate, encode, pca, profile
from isthmus.stats import (
    Cleaning,
    ColumnProfile,
    ColumnWoe,
    Correlation,
    SplitPca,
    TableProfile,
    WoeFit,
)

LOOKED = {
    "profile/own.json": "what is in this party's columns; private",
    "profile/shown.json": "what partners see of them",
    "profile/drift.json": "how the common rows differ from the rest; private",
    "bin/bins.json": "bins, WOE and IV; private",
    "correlate/correlation.json": "the correlations",
    "pca/pca.json": "this party's part of the principal axes; private",
    "pca/scores.npy": "this party's part of each sample's scores on them; private",
    "encode/cleaning.json": "what was done to columns, with its statistics; private",
}
"""Files that such a job leaves."""


def looks_of(job: Job, folder: PartyFolder) -> Looks | None:
    """The part of the report; None where the job looked at nothing. Raises StorageError."""
    done = {name: folder.step(name) for name in ("profile", "bin", "correlate", "pca")}
    done = {name: step for name, step in done.items() if step.marker() is not None}
    if not done:
        return None
    return Looks(
        cleaning=_cleaning(folder),
        rows_dropped=folder.step("align").read_json(align.DROPPED)["rows"],
        profile=_profile(job, done["profile"]) if "profile" in done else None,
        bins=_bins(job, folder) if "bin" in done else None,
        correlation=_correlation(done["correlate"]) if "correlate" in done else None,
        pca=_pca(job, done["pca"]) if "pca" in done else None,
    )


def _cleaning(folder: PartyFolder) -> tuple[CleanedColumn, ...]:
    path = folder.step("encode").file(CLEANING)
    if not path.exists():
        return ()
    return tuple(
        CleanedColumn(
            column=one.column,
            low=one.low,
            high=one.high,
            fill=one.fill,
            mean=one.mean,
            deviation=one.std,
            drop=one.drop,
        )
        for one in Cleaning.load(path).columns
    )


def _profile(job: Job, step: StepFolder) -> ProfileFacts:
    spec, shown = job.spec.profile, step.file(profile.SHOWN)
    assert spec is not None
    drift = {}
    if step.file(profile.DRIFT).exists():
        drift = {one["column"]: one for one in step.read_json(profile.DRIFT)}
    partners = sorted(step.file(profile.FOLDER).glob("*.json"))
    own = TableProfile.load(step.file(profile.OWN))
    return ProfileFacts(
        least=spec.least,
        epsilon=spec.epsilon,
        own=tuple(_column(column, drift.get(column.name, {})) for column in own.columns),
        shown=_columns(TableProfile.load(shown)) if shown.exists() else None,
        partners=tuple(
            PartnerProfile(party=path.stem, columns=_columns(TableProfile.load(path)))
            for path in partners
        ),
    )


def _columns(found: TableProfile) -> tuple[ProfileColumn, ...]:
    return tuple(_column(column, {}) for column in found.columns)


def _column(column: ColumnProfile, drift: Mapping[str, Any]) -> ProfileColumn:
    about: dict[str, Any] = {}
    if column.numbers is not None:
        about = asdict(column.numbers)
        about["deviation"] = about.pop("std")
    elif column.categories is not None:
        about = asdict(column.categories)
    return ProfileColumn(
        name=column.name,
        rows=column.rows,
        missing=column.missing,
        distinct=column.distinct,
        drift_psi=drift.get("psi"),
        drift_ks=drift.get("ks"),
        **about,
    )


def _bins(job: Job, folder: PartyFolder) -> BinFacts:
    spec = job.spec.bin
    assert spec is not None
    found = WoeFit.load(folder.step("bin").file(tabular.BINS))
    rows, psi = _own_bins(folder, found)
    columns = sorted(found.columns, key=lambda one: -1.0 if one.iv is None else one.iv)[::-1]
    return BinFacts(
        method=spec.method,
        tell=spec.tell,
        least_iv=spec.least_iv,
        transform=spec.transform,
        weighted=job.spec.label.weight is not None,
        columns=tuple(
            _binned(column, rows.get(column.column, ()), psi.get(column.column))
            for column in columns
        ),
    )


def _own_bins(
    folder: PartyFolder, found: WoeFit
) -> tuple[dict[str, tuple[int, ...]], dict[str, float]]:
    """Of the own columns: training rows in each bin, and PSI from these to the test samples."""
    if not found.own():
        return {}, {}
    table = tabular.load_from(folder)
    split = encode.load_split(folder.step("encode").path, table.height)
    counted = {}
    codes = found.codes(table[split.train])
    for column in found.own():
        assert column.bins is not None
        counted[column.column] = tuple(column.bins.counts(codes[column.column]).tolist())
    return counted, found.stability(table[split.train], table[split.test])


def _binned(column: ColumnWoe, rows: tuple[int, ...], psi: float | None) -> BinnedColumn:
    """With what this party knows of each bin."""
    table = column.table
    own = column.bins is not None
    counts = rows if table is None else table.rows
    labels = [f"bin {number}" for number in range(1, len(counts) + 1)]
    if column.bins is not None:
        labels = list(column.bins.labels())
    return BinnedColumn(
        party=column.party,
        column=column.column,
        keep=column.keep,
        iv=column.iv,
        psi=psi if own else None,
        bins=tuple(
            Bin(
                label=label,
                rows=counts[at],
                positives=None if table is None else table.positives[at],
                woe=None if column.woe is None else column.woe[at],
            )
            for at, label in enumerate(labels)
        ),
    )


def _correlation(step: StepFolder) -> CorrelationFacts:
    left_out = step.read_json(correlate.COLUMNS)["left_out"]
    path = step.file(correlate.CORRELATION)
    if not path.exists():
        return CorrelationFacts(left_out=left_out)
    found = Correlation.load(path)
    vif = found.vif().tolist()
    return CorrelationFacts(
        left_out=left_out,
        parties=found.parties,
        columns=found.columns,
        matrix=found.matrix,
        vif=tuple(value if np.isfinite(value) else None for value in vif),
    )


def _pca(job: Job, step: StepFolder) -> PcaFacts:
    spec = job.spec.pca
    assert spec is not None
    found = SplitPca.load(step.file(pca.PCA))
    return PcaFacts(
        left_out=step.read_json(pca.COLUMNS)["left_out"],
        scaled=not spec.covariance,
        variance=tuple(found.variance.tolist()),
        shares=tuple(found.variance_share.tolist()),
        columns=found.columns,
        axes=tuple(tuple(axis) for axis in found.axes.tolist()),
    )
