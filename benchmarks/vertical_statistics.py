"""WOE, correlation and PCA of default_credit across parties, against the pooled computation.

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
from isthmus.stats.correlation import DIGITS

TITLE = "Statistics across parties on default_credit (30,000 rows)"
SUMMARY = """\
FATE's public default_credit data, split as FATE splits it: the label party has 13 columns and the
label, its partner 10. Parties as threads of one process, links in memory, packed homomorphic
encryption by TenSEAL (BFV). Binning: WOE and information value of all 23 columns in ten quantile
bins, and by the best monotone binning from 32; the difference is the largest one from the same
bins computed in NumPy on the pooled table. Correlation: the joint matrix of all 23 columns, against
`numpy.corrcoef` of the pooled table; once more with `digits=5`, where one word a number is enough;
and with the partner's columns at two partners, whose products the label party carries. Components:
five principal axes, variances and scores, against scikit-learn's PCA of the pooled, standardised
table, up to sign. Seconds are wall clock of all parties together on two cores; bytes are those of
all links, both ways."""


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
    bound: float
    """That it must keep."""


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
    runs += [correlations(own, {"host": partner}), correlations(own, {"host": partner}, digits=5)]
    halves = {"first": partner[:, :5], "second": partner[:, 5:]}
    runs += [correlations(own, halves), components(own, partner)]
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


def correlations(
    own: pl.DataFrame, partners: dict[str, pl.DataFrame], *, digits: int = DIGITS
) -> Run:
    """The joint matrix of all columns, shared."""

    def program(table: pl.DataFrame) -> Callable[[Session], Any]:
        return lambda session: correlation(session, table, digits=digits)

    few = "" if digits == DIGITS else f", {digits} digits"
    tables = {"guest": own, **partners}
    found, run = together(
        f"correlation, {len(tables)} parties{few}",
        {name: program(table) for name, table in tables.items()},
        bound=1e-6 if digits == DIGITS else 10.0**-digits,
    )
    expected = np.corrcoef(np.hstack([t.to_numpy() for t in tables.values()]), rowvar=False)
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
    """Two parties' programs; see `together`."""
    return together(name, {"guest": guest, "host": host})


def together(
    name: str, programs: dict[str, Callable[[Session], Any]], *, bound: float = 1e-6
) -> tuple[dict[str, Any], Callable[[float], Run]]:
    """Run all parties' programs; their results, and what makes a `Run` of a difference."""
    links: list[Link] = []

    def metered(program: Callable[[Session], Any]) -> Callable[[Session], Any]:
        def run(session: Session) -> Any:
            links.extend(session.links.values())
            return program(session)

        return run

    begin, cpu = time.perf_counter(), time.process_time()
    found = run_parties({p: metered(one) for p, one in programs.items()}, label_party="guest")
    seconds, used = time.perf_counter() - begin, time.process_time() - cpu
    sent = sum(topic.sent_bytes for link in links for topic in link.meter.snapshot().values())
    return found, lambda difference: Run(name, seconds, used, sent, difference, bound)


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
    worst = max(run.difference / run.bound for run in runs)
    return Result(
        name="vertical_statistics",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("1e-6 (digits=5: 1e-5) over the largest difference", 1 / max(worst, 1e-12), 1.0)],
        columns=["computation", "seconds", "CPU s, all", "MB both ways", "largest difference"],
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
