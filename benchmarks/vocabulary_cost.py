"""What a training step costs with embedding tables of 10^4 to 10^7 rows.

make bench NAME=vocabulary_cost
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.data import Features, FieldLayout, Layout, Split
from isthmus.link import Transcript, create_identity, open_links, trust
from isthmus.models import DeepFMBottom, DeepFMTop
from isthmus.session import Session
from isthmus.split import FeatureData, TrainOptions, train

FEATURE_PARTY, LABEL_PARTY = "alice", "bob"
PARTIES = (FEATURE_PARTY, LABEL_PARTY)
DIM, BATCH, STEPS, EPOCHS = 16, 1024, 400, 4
FIELDS = {FEATURE_PARTY: 8, LABEL_PARTY: 2}
LABEL_ROWS = 10_000
ROWS = (10**4, 10**5, 10**6, 10**7)
BAR = 0.85
"""Of the samples/s with the smallest table."""
TITLE = "Samples a second with embedding tables of 10^4 to 10^7 rows, batch 1024"
SUMMARY = """\
Two party processes over mutually authenticated TLS on loopback, `exact` schedule, batch 1024, the
network of the demo (embeddings of 16, lower towers 128-32, upper tower 64-32). The feature party's
eight categories share a table of the given number of rows; the label party's two have one of 10,000
rows. Samples are generated: every category is drawn evenly, or by a Zipf law of exponent 1.05 over
rows in random order. Median over interleaved runs of the median epoch after the first; the first
also writes the optimiser's memory for the first time. The floor is what reaching into the memory
costs alone: the rows that a batch touches are read once for the forward pass and read and written
once for the update, weights and moments, by `take` and `put` of numpy in one thread with nothing
round them. The end of an epoch, at which the parameters of the best one are copied, is not counted.
With even draws a larger table also has more distinct rows a batch. The bar is for even draws."""


def main() -> None:
    """Measure all sizes and both kinds of draws, or be one of the parties."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--draws", nargs="+", default=["uniform", "zipf"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--party", choices=PARTIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.party:
        with session_of(args.party, args.folder, args.port) as session:
            facts = _train(session, args.rows[0], args.draws[0])
        (args.folder / f"{args.party}.json").write_text(json.dumps(facts))
        return
    machine = machine_facts()
    raw = {draws: {rows: _empty() for rows in args.rows} for draws in args.draws}
    for _ in range(args.repeats):
        for draws, sizes in raw.items():
            for rows, found in sizes.items():
                _measure(draws, rows, found)
                print(draws, rows, {k: round(v[-1], 3) for k, v in found.items()}, flush=True)
    publish(_result(raw, machine))


# A party.


@contextmanager
def session_of(party: str, folder: Path, port: int) -> Iterator[Session]:
    """The session of one of two party processes that meet on a port of loopback."""
    (partner,) = (name for name in PARTIES if name != party)
    address = f"127.0.0.1:{port}"
    links = open_links(
        folder / party,
        party,
        {partner: address if party == FEATURE_PARTY else None},
        listen=None if party == FEATURE_PARTY else address,
        context="bench",
        transcript=Transcript(folder / f"{party}.jsonl"),
    )
    secret = party.encode()
    yield Session(me=party, parties=PARTIES, label_party=LABEL_PARTY, links=links, secret=secret)
    for link in links.values():
        link.close()


def identities(folder: Path) -> None:
    """Make an identity for each party that the other trusts."""
    made = {name: create_identity(folder / name, name, days=2) for name in PARTIES}
    trust(folder / FEATURE_PARTY, made[LABEL_PARTY].certificate_path)
    trust(folder / LABEL_PARTY, made[FEATURE_PARTY].certificate_path)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_parties_apart(module: str, folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    """Run `python -m module` as both parties; what each left in `<party>.json` in `folder`."""
    port = free_port()
    command = [sys.executable, "-m", module, "--folder", str(folder), "--port", str(port), *options]
    running = [subprocess.Popen([*command, "--party", party]) for party in PARTIES]
    try:
        if any(process.wait(timeout=3600) for process in running):
            raise RuntimeError("a party failed")
    finally:
        for process in running:
            process.kill()
    return {party: json.loads((folder / f"{party}.json").read_text()) for party in PARTIES}


def layout_of(fields: int, rows: int) -> Layout:
    """Categories of equal size that share a table of about `rows` rows."""
    each = rows // fields
    places = [FieldLayout(f"f{i}", "categorical", i, 1, 1 + i * each, each) for i in range(fields)]
    return Layout(tuple(places), 1 + fields * each, fields, 0)


def bottom_of(layout: Layout) -> DeepFMBottom:
    """A bottom of the demo's widths."""
    return DeepFMBottom(layout, dim=DIM, hidden=(128, 32), seed=1)


def top_of(parties: Sequence[str]) -> DeepFMTop:
    """The top of the demo's widths, over the parties that have features."""
    return DeepFMTop(dict.fromkeys(parties, 32), dim=DIM, hidden=(64, 32), seed=2)


def _draw(layout: Layout, draws: str, samples: int) -> Features:
    rng = np.random.default_rng(3)
    shape = (samples, layout.columns)
    each = layout.fields[0].rows
    if draws == "uniform":
        categories = rng.integers(0, each, shape)
    else:
        shares = np.cumsum(np.arange(1, each + 1) ** -1.05)
        ranks = np.searchsorted(shares, rng.random(shape) * shares[-1])
        categories = rng.permutation(each)[np.minimum(ranks, each - 1)]
    first = np.array([field.first_row for field in layout.fields])
    return Features(layout, (categories + first).astype(np.int32), np.empty((samples, 0), "f4"))


def _train(session: Session, rows: int, draws: str) -> dict[str, Any]:
    layout = layout_of(FIELDS[session.me], rows if session.me == FEATURE_PARTY else LABEL_ROWS)
    samples = STEPS * BATCH
    data = _draw(layout, draws if session.me == FEATURE_PARTY else "uniform", samples)
    labels = np.random.default_rng(4).integers(0, 2, samples).astype(np.float32)
    none = np.empty(0, np.int64)
    is_label = session.is_label_party
    began = time.perf_counter()
    bottom = bottom_of(layout)
    made = time.perf_counter() - began
    cpu = time.process_time()
    result = train(
        session,
        split=Split(np.arange(samples), none, none),
        bottom=bottom,
        data=FeatureData(data),
        top=top_of(PARTIES) if is_label else None,
        labels=labels if is_label else None,
        options=TrainOptions(batch_size=BATCH, epochs=EPOCHS, patience=0, device="cpu"),
    )
    facts: dict[str, Any] = {
        "seconds": [epoch.seconds for epoch in result.epochs],
        "cpu_ms": (time.process_time() - cpu) / (STEPS * EPOCHS) * 1e3,
        "init_s": made,
        "memory_mb": _peak_mb(),
    }
    if not is_label:
        facts["distinct"], facts["floor_ms"] = _floor(bottom.table.weight.detach(), data.index)
    return facts


def _floor(weight: torch.Tensor, index: npt.NDArray[np.int32]) -> tuple[float, float]:
    """Distinct rows of a batch, and the milliseconds of reaching for them, a median."""
    width = weight.shape[1]
    weights = weight.numpy().view(f"V{4 * width}").reshape(-1)
    moments = np.zeros(len(weight), f"V{8 * width}")
    moments[:] = moments[:1]  # takes the memory
    times, counts = [], []
    for batch in np.split(index, STEPS):
        rows = np.unique(batch)
        began = time.perf_counter()
        weights.take(rows, mode="clip")
        for table in (weights, moments):
            np.put(table, rows, table.take(rows, mode="clip"), mode="clip")
        times.append(time.perf_counter() - began)
        counts.append(len(rows))
    return statistics.mean(counts), statistics.median(times) * 1e3


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


# All of them.


def _empty() -> dict[str, list[float]]:
    return {"rate": [], "floor_ms": [], "distinct": [], "init_s": [], "cpu_ms": [], "memory_mb": []}


def _measure(draws: str, rows: int, found: dict[str, list[float]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        identities(folder)
        options = ("--rows", str(rows), "--draws", draws)
        both = run_parties_apart("benchmarks.vocabulary_cost", folder, *options)
    # The label party's clock also counts the copy of the best parameters at an epoch's end.
    epochs = both[FEATURE_PARTY]["seconds"][1:]
    found["rate"].append(STEPS * BATCH / statistics.median(epochs))
    for name in found.keys() - {"rate"}:
        found[name].append(both[FEATURE_PARTY][name])


def _result(raw: dict[str, dict[int, dict[str, list[float]]]], machine: dict[str, Any]) -> Result:
    middle = {
        draws: {
            rows: {k: statistics.median(v) for k, v in found.items()} for rows, found in s.items()
        }
        for draws, s in raw.items()
    }
    bars, table = [], []
    for draws, sizes in middle.items():
        first = next(iter(sizes.values()))["rate"]
        for rows, found in sizes.items():
            share = found["rate"] / first
            table.append(
                [
                    draws,
                    f"{rows:,}",
                    f"{found['rate']:,.0f}",
                    f"{share:.3f}",
                    f"{BATCH / found['rate'] * 1e3:.2f}",
                    f"{found['floor_ms']:.2f}",
                    f"{found['distinct']:,.0f}",
                    f"{found['init_s']:.2f}",
                    f"{found['memory_mb']:,.0f}",
                ]
            )
        if draws == "uniform":
            bars.append(Bar("samples/s, largest over smallest table, even draws", share, BAR))
    return Result(
        name="vocabulary_cost",
        title=TITLE,
        summary=SUMMARY,
        bars=bars,
        columns=[
            "draws",
            "rows",
            "samples/s",
            "share",
            "step ms",
            "floor ms",
            "rows a batch",
            "initial s",
            "peak MB",
        ],
        rows=table,
        raw=raw,
        machine=machine,
        versions=versions("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
