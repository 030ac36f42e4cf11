"""Boosted trees of two parties over TLS: time, bytes, and quality beside LightGBM's and FATE's.

make bench NAME=secureboost
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.link import create_identity, open_links, trust
from isthmus.metrics import auc, ks
from isthmus.session import Session
from isthmus.trees import TreeOptions, fit, predict

LABEL, FEATURE = "guest", "host"
SECONDS, NEAR = 120.0, 0.002
SEEDS = (0, 1, 2)
# FATE 2.2's SecureBoost on these tables as it is split here, measured once: AUC and KS in sample.
FATE = {"default_credit": (0.768632, 0.420645), "breast": (0.999194, 0.985849)}
TITLE = (
    "Boosted trees over two parties: default_credit in seconds, as good as LightGBM on one table"
)
SUMMARY = """\
Two processes on one machine, one a party, joined by the TLS link, on FATE's tables as FATE splits
them: default_credit, 30,000 rows, 13 columns at the label party and 10 at the other, and breast,
569 rows, 10 and 20 columns. The time is that of `fit` at the slower party, the oblivious transfers
with it: 20 trees of depth 5, at most 32 bins a column, and the bytes are those of all its messages
both ways. Held out are 30 % of the rows, drawn three times; LightGBM has the other 70 % of both
parties' columns in one table and the same number of trees, depth, rate, bins, penalty and rows of a
leaf. With `cell` no sum that a partner shows is of fewer than 20 rows. FATE's figures are in
sample, of 5 trees (10 for breast) at its rate of 0.3 and its default depth of 3; the bars are for
as many trees of our default depth, 5, and the table has both. At depth 3 KS on default_credit is
below FATE's and AUC above: from another constant to begin with and with other bins KS goes from
0.416 to 0.421."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One fit of the plan."""

    name: str
    data: str
    options: TreeOptions
    seed: int | None = None
    """Of the cut into rows to learn from and rows held out; None: all are both."""


def plan(repeats: int) -> list[Part]:
    """Everything that the two processes do, in order."""
    fate = {"learning_rate": 0.3, "l2": 0.1, "min_rows": 1}
    parts = [Part("whole", "default_credit", TreeOptions()) for _ in range(repeats)]
    parts += [Part("cut", "default_credit", TreeOptions(), seed) for seed in SEEDS]
    parts += [Part("cell 20, cut", "default_credit", TreeOptions(cell=20), seed) for seed in SEEDS]
    for depth in (5, 3):
        for data, trees in (("default_credit", 5), ("breast", 10)):
            options = TreeOptions(trees=trees, depth=depth, **fate)
            parts.append(Part(f"fate, depth {depth}", data, options))
    return parts


def main() -> None:
    """Measure and publish, or be one of the parties."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ISTHMUS_DATA"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--party", choices=[LABEL, FEATURE], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    parts = plan(args.repeats)
    if args.party:
        print(json.dumps(_be(args.party, parts, args.data, args.folder, args.port)))
    else:
        publish(_measure(parts, args.data, args.repeats))


def _measure(parts: list[Part], data: Path, repeats: int) -> Result:
    machine = machine_facts()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = {name: create_identity(folder / name, name, days=2) for name in (LABEL, FEATURE)}
        trust(folder / LABEL, made[FEATURE].certificate_path)
        trust(folder / FEATURE, made[LABEL].certificate_path)
        found = _run(folder, data, repeats)
    runs = []
    for part, label, feature in zip(parts, found[LABEL], found[FEATURE], strict=True):
        run = {"name": part.name, "data": part.data, "seed": part.seed}
        run |= {name: label[name] for name in ("auc", "ks", "predict_seconds")}
        run["seconds"] = max(label["seconds"], feature["seconds"])
        run["cpu_seconds"] = [label["cpu_seconds"], feature["cpu_seconds"]]
        run["bytes"] = label["sent"] + feature["sent"]
        run["peak_mib"] = [label["peak_mib"], feature["peak_mib"]]
        if part.seed is not None:
            run |= _pooled(part, data)
        runs.append(run)
    return _result(runs, machine)


def _run(folder: Path, data: Path, repeats: int) -> dict[str, list[dict[str, Any]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.secureboost", "--data", str(data)]
    command += ["--repeats", str(repeats), "--folder", str(folder), "--port", port]
    parties = {
        party: subprocess.Popen([*command, "--party", party], stdout=subprocess.PIPE, text=True)
        for party in (LABEL, FEATURE)
    }
    return {name: json.loads(party.communicate()[0]) for name, party in parties.items()}


def _be(party: str, parts: list[Part], data: Path, folder: Path, port: int) -> list[dict[str, Any]]:
    """Be one party; what each part of the plan took."""
    partner = FEATURE if party == LABEL else LABEL
    address = f"127.0.0.1:{port}"
    dial = None if party == LABEL else address
    listen = address if party == LABEL else None
    links = open_links(folder / party, party, {partner: dial}, listen=listen, context="bench")
    session = Session(me=party, parties=(LABEL, FEATURE), label_party=LABEL, links=links)
    with links[partner]:
        return [_fit(session, part, data) for part in parts]


def _fit(session: Session, part: Part, data: Path) -> dict[str, Any]:
    table, labels = _table(data, part.data, session.me)
    learnt, held = _cut(table.height, part.seed)
    link = next(iter(session.links.values()))
    link.send("ready")
    link.recv("ready")
    sent, begin, used = link.meter.total().sent_bytes, time.perf_counter(), time.process_time()
    model = fit(session, table[learnt], None if labels is None else labels[learnt], part.options)
    found: dict[str, Any] = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - used,
        "sent": link.meter.total().sent_bytes - sent,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    begin = time.perf_counter()
    scores = predict(session, model, table[held])
    found["predict_seconds"] = time.perf_counter() - begin
    if labels is not None and scores is not None:
        found |= {"auc": auc(labels[held], scores), "ks": ks(labels[held], scores)}
    return found


def _table(data: Path, name: str, party: str) -> tuple[pl.DataFrame, Floats | None]:
    table = pl.read_csv(data / f"vfl_{name}" / f"{party}.csv").drop("id")
    if party != LABEL:
        return table, None
    return table.drop("y"), table["y"].to_numpy().astype(np.float64)


def _cut(rows: int, seed: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows held out."""
    if seed is None:
        return np.arange(rows), np.arange(rows)
    order = np.random.default_rng(seed).permutation(rows)
    learnt, held = np.split(order, [int(0.7 * rows)])
    return learnt, held


def _pooled(part: Part, data: Path) -> dict[str, float]:
    """LightGBM on the columns of both."""
    mine, labels = _table(data, part.data, LABEL)
    theirs, _ = _table(data, part.data, FEATURE)
    assert labels is not None
    x = np.column_stack([mine.to_numpy(), theirs.to_numpy()])
    learnt, held = _cut(len(labels), part.seed)
    given = {
        "objective": "binary",
        "learning_rate": part.options.learning_rate,
        "max_depth": part.options.depth,
        "num_leaves": 2**part.options.depth,
        "max_bin": part.options.bins,
        "min_data_in_leaf": part.options.min_rows,
        "lambda_l2": part.options.l2,
        "num_threads": 1,
        "verbose": -1,
    }
    data_set = lightgbm.Dataset(x[learnt], labels[learnt])
    scores = lightgbm.train(given, data_set, part.options.trees).predict(x[held])
    assert isinstance(scores, np.ndarray)
    return {"pooled_auc": auc(labels[held], scores), "pooled_ks": ks(labels[held], scores)}


def _result(runs: list[dict[str, Any]], machine: dict[str, Any]) -> Result:
    whole = sorted((run for run in runs if run["name"] == "whole"), key=lambda run: run["seconds"])
    timed = whole[len(whole) // 2]
    cuts = [run for run in runs if run["name"] == "cut"]
    fate = {run["data"]: run for run in runs if run["name"] == "fate, depth 5"}
    furthest = max(abs(run["auc"] - run["pooled_auc"]) for run in cuts)
    bars = [
        Bar("default_credit, 20 trees: 120 s over the time", SECONDS / timed["seconds"], 1.0),
        Bar("0.002 over the largest difference of AUC to LightGBM's", NEAR / furthest, 1.0),
    ]
    for data, run in fate.items():
        bars.append(Bar(f"{data} in sample: AUC over FATE's", run["auc"] / FATE[data][0], 1.0))
        bars.append(Bar(f"{data} in sample: KS over FATE's", run["ks"] / FATE[data][1], 1.0))
    return Result(
        name="secureboost",
        title=TITLE,
        summary=SUMMARY,
        bars=bars,
        columns=["what", "AUC", "KS", "peer's AUC", "peer's KS", "fit s", "CPU s", "MB", "MiB"],
        rows=[_row(run) for run in [timed, *(run for run in runs if run["name"] != "whole")]],
        raw={"runs": runs},
        machine=machine,
        versions=versions("cryptography", "lightgbm", "numpy", "polars"),
    )


def _row(run: dict[str, Any]) -> list[str]:
    if run["seed"] is not None:
        what, peer = f"held out, {run['name']} {run['seed']}", (run["pooled_auc"], run["pooled_ks"])
    elif run["name"] == "whole":
        what, peer = "in sample, 20 trees", None
    else:
        what, peer = f"in sample as {run['name']}", FATE[run["data"]]
    shown = ["", ""] if peer is None else [f"{one:.4f}" for one in peer]
    return [
        f"{run['data']}, {what}",
        f"{run['auc']:.4f}",
        f"{run['ks']:.4f}",
        *shown,
        f"{run['seconds']:.2f}",
        " + ".join(f"{seconds:.1f}" for seconds in run["cpu_seconds"]),
        f"{run['bytes'] / 1e6:.1f}",
        ", ".join(f"{peak:.0f}" for peak in run["peak_mib"]),
    ]


if __name__ == "__main__":
    main()
