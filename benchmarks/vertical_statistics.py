"""WOE, correlation and PCA of default_credit across two parties, against the pooled computation.

make bench NAME=vertical_statistics
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.decomposition import PCA

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.link import Link
from isthmus.session import Session, run_parties
from isthmus.stats import BinningOptions, WoeFit, correlation, fit_pca, fit_woe

TITLE = "Statistics across two parties on default_credit (30,000 rows)"
SUMMARY = """\
FATE's public default_credit data, split as FATE splits it: the label party has 13 columns and the
label, its partner 10. Two parties as threads of one process, links in memory, packed homomorphic
encryption by TenSEAL (BFV). Binning: WOE and information value of all 23 columns in ten quantile
bins, and by the best monotone binning from 32; the difference is the largest one from the same
bins computed in NumPy on the pooled table. Correlation: the joint matrix of all 23 columns, against
`numpy.corrcoef` of the pooled table. Components: five principal axes, variances and scores, against
scikit-learn's PCA of the pooled, standardised table, up to sign. Seconds are wall clock of both
parties together on a machine with other work."""


@dataclass(frozen=True)
class Run:
    """One computation across the parties."""

    name: str
    seconds: float
    cpu_seconds: float
    sent: int
    """Bytes, both ways."""
    difference: float
    """From the pooled computation, the largest."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISTHMUS_DATA", "data")))
    args = parser.parse_args()
    machine = machine_facts()
    folder = args.data / "vfl_default_credit"
    guest, host = pl.read_csv(folder / "guest.csv"), pl.read_csv(folder / "host.csv")
    if not guest["id"].equals(host["id"]):
        raise AssertionError("the tables are not aligned")
    label = guest["y"].to_numpy()
    own, partner = guest.drop("id", "y"), host.drop("id")
    runs = [binning(own, partner, label, method) for method in ("quantile", "monotone")]
    runs += [correlations(own, partner), components(own, partner)]
    publish(_result(runs, machine))


def binning(own: pl.DataFrame, partner: pl.DataFrame, label: Any, method: Any) -> Run:
    """WOE and IV of all columns of both parties."""
    options = BinningOptions(method=method)
    found, run = both(
        f"WOE and IV, {method}",
        lambda session: fit_woe(session, own, label=label, options=options),
        lambda session: fit_woe(session, partner, options=options),
    )
    mine, theirs = found["guest"], found["host"]
    return run(max(_difference(mine, theirs, own, partner, label)))


def correlations(own: pl.DataFrame, partner: pl.DataFrame) -> Run:
    """The joint matrix of all columns, shared."""
    found, run = both(
        "correlation",
        lambda session: correlation(session, own),
        lambda session: correlation(session, partner),
    )
    expected = np.corrcoef(_pooled(own, partner), rowvar=False)
    return run(max(float(np.abs(one.array() - expected).max()) for one in found.values()))


def components(own: pl.DataFrame, partner: pl.DataFrame, count: int = 5) -> Run:
    """The first principal components of all columns."""
    found, run = both(
        f"PCA, {count} components",
        lambda session: fit_pca(session, own, components=count),
        lambda session: fit_pca(session, partner, components=count),
    )
    guest, host = found["guest"], found["host"]
    pooled = _pooled(own, partner)
    pooled = (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)
    oracle = PCA(count, svd_solver="full").fit(pooled)
    axes = np.hstack([guest.axes, host.axes])
    signs = np.sign((axes * oracle.components_).sum(axis=1))
    scores = (guest.scores(own) + host.scores(partner)) * signs
    gaps = (
        axes * signs[:, None] - oracle.components_,
        guest.variance - oracle.explained_variance_,
        scores - oracle.transform(pooled),
    )
    return run(max(float(np.abs(gap).max()) for gap in gaps))


def _pooled(own: pl.DataFrame, partner: pl.DataFrame) -> Any:
    return np.hstack([own.to_numpy(), partner.to_numpy()])


def both(
    name: str, guest: Callable[[Session], Any], host: Callable[[Session], Any]
) -> tuple[dict[str, Any], Callable[[float], Run]]:
    """Run both parties' programs; their results, and what makes a `Run` of a difference."""
    links: list[Link] = []

    def metered(program: Callable[[Session], Any]) -> Callable[[Session], Any]:
        def run(session: Session) -> Any:
            links.extend(session.links.values())
            return program(session)

        return run

    begin, cpu = time.perf_counter(), time.process_time()
    found = run_parties({"guest": metered(guest), "host": metered(host)}, label_party="guest")
    seconds, used = time.perf_counter() - begin, time.process_time() - cpu
    sent = sum(topic.sent_bytes for link in links for topic in link.meter.snapshot().values())
    return found, lambda difference: Run(name, seconds, used, sent, difference)


def _difference(
    mine: WoeFit, theirs: WoeFit, own: pl.DataFrame, partner: pl.DataFrame, label: Any
) -> list[float]:
    """Of WOE and IV of each bin, from the same bins on the pooled table, in plain NumPy."""
    bins = {c.column: c.bins for c in theirs.own()}
    out = []
    for column in mine.columns:
        table, cut = (own, column.bins) if column.bins else (partner, bins[column.column])
        assert cut is not None
        assert column.table is not None
        raw = np.searchsorted(cut.edges, table[column.column].to_numpy(), side="left")
        codes = np.array(cut.groups)[raw]
        hits = np.bincount(codes, weights=label) / label.sum()
        misses = np.bincount(codes, weights=1 - label) / (1 - label).sum()
        woe = np.log(hits / misses)
        out.append(float(np.abs(woe - column.table.woe).max()))
        out.append(float(np.abs((hits - misses) * woe - column.table.iv).max()))
    return out


def _result(runs: list[Run], machine: dict[str, Any]) -> Result:
    worst = max(run.difference for run in runs)
    return Result(
        name="vertical_statistics",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("1e-6 over the largest difference", 1e-6 / max(worst, 1e-18), 1.0)],
        columns=["computation", "seconds", "CPU s, both", "MB both ways", "largest difference"],
        rows=[
            [
                run.name, f"{run.seconds:.1f}", f"{run.cpu_seconds:.1f}", f"{run.sent / 1e6:.1f}",
                f"{run.difference:.1e}",
            ]
            for run in runs
        ],
        raw={"runs": [vars(run) for run in runs]},
        machine=machine,
        versions=versions("tenseal", "numpy", "scikit-learn"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
