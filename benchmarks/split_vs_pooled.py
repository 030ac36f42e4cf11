"""Split training over TLS against the same network in one process of plain PyTorch, on ML-1M.

make bench NAME=split_vs_pooled
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from torch import Tensor, nn

from benchmarks.environments import WORK
from benchmarks.federation import FEATURE_PARTY, LABEL_PARTY, FinishedRun, run_job
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.data.features import Layout
from isthmus.data.sources import get
from isthmus.jobs.examples import example
from isthmus.jobs.steps import encode
from isthmus.models.batch import make_batch

BARS = {128: 0.8, 1024: 1.0, 4096: 1.0}
"""Batch size, and the share of the pooled samples/s to reach."""
EPOCHS = 3
TITLE = "Split DeepFM over TLS against plain PyTorch in one process, MovieLens-1M"
SUMMARY = """\
The demo's DeepFM (embeddings of 16, lower towers 128-32, upper tower 64-32, no dropout) on all of
MovieLens-1M, aligned on users. Ours: `isthmus run`, two party processes over mutually authenticated
TLS on loopback, `exact` schedule, a thread each. Pooled: the same network and the same encoded
rows in one process of plain PyTorch on all cores: nn.Embedding with sparse gradients, SparseAdam,
nn.Linear and Adam, batches by indexing, no DataLoader. Both: samples a second of training, the
median over the epochs after the first. Part of ours is that products go to oneDNN, where plain
PyTorch's go to MKL, which does not use this CPU's widest vectors."""


def main() -> None:
    """Run both at each batch size and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=list(BARS))
    parser.add_argument("--work", type=Path, default=WORK)
    args = parser.parse_args()
    machine = machine_facts()
    work: Path = args.work / "split_vs_pooled"
    base = movielens_job(work / "tables", get("ml-1m", args.work / "data"))
    raw: dict[str, Any] = {}
    for batch in args.batch:
        run = run_job(_with_batch(base, batch), work / f"batch-{batch}")
        report = run.report(LABEL_PARTY)
        samples = report["data"]["training_samples"]
        ours = [samples / seconds for seconds in run.epoch_seconds()]
        raw[str(batch)] = {"ours": ours, "pooled": _pooled(run, batch, samples)}
        print(batch, raw[str(batch)], flush=True)
    publish(_result(raw, machine))


def movielens_job(folder: Path, source: Path) -> dict[str, Any]:
    """The demo's job on MovieLens-1M, its two tables written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    users, films, ratings = (
        pl.read_parquet(source / f"{name}.parquet") for name in ("users", "movies", "ratings")
    )
    users.write_parquet(folder / "alice.parquet")
    events = ratings.join(films, on="MovieID", how="left")
    events.select("UserID", "MovieID", "Genres", "Rating").write_parquet(folder / "bob.parquet")
    job: dict[str, Any] = yaml.safe_load(example("movielens_entity"))
    job["name"] = "split-vs-pooled"
    for party in job["parties"]:
        job["parties"][party]["table"] = str((folder / f"{party}.parquet").resolve())
    features = job["parties"][LABEL_PARTY]["features"]
    job["parties"][LABEL_PARTY]["features"] = {n: features[n] for n in ("MovieID", "Genres")}
    job["parties"][FEATURE_PARTY]["features"]["Age"] = "categorical"
    job["train"]["model"]["dropout"] = 0.0
    job["train"] |= {"epochs": EPOCHS, "patience": 0}
    job["evaluate"] = {"alone": False, "pooled": False}
    job["predict"] = {"rows": "none"}
    return job


def _with_batch(job: Mapping[str, Any], batch: int) -> dict[str, Any]:
    return {**job, "train": {**job["train"], "batch_size": batch}}


class _Bottom(nn.Module):
    def __init__(self, layout: Layout, dim: int, hidden: list[int]) -> None:
        super().__init__()
        self.table = nn.Embedding(layout.table_rows, dim + 1, sparse=True)
        nn.init.normal_(self.table.weight, std=0.003)
        self.tower = _tower(len(layout.fields) * dim, hidden)
        self.fields = [(field.start, field.start + field.width) for field in layout.fields]

    def forward(self, index: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        rows = self.table(index)
        if weights is not None:
            rows = rows * weights.unsqueeze(-1)
        fields = torch.stack([rows[:, a:b].sum(1) for a, b in self.fields], 1)
        vectors, linear = fields[..., :-1], fields[..., -1]
        first = linear.sum(1) - 0.5 * vectors.square().sum((1, 2))
        return self.tower(vectors.flatten(1)), vectors.sum(1), first


def _tower(inputs: int, widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers)


def _pooled(run: FinishedRun, batch: int, samples: int) -> list[float]:
    """Samples a second of each epoch in plain PyTorch, on the rows that the parties encoded."""
    inputs = {p: run.folder / p / "encode" for p in (FEATURE_PARTY, LABEL_PARTY)}
    labels = torch.from_numpy(encode.load_labels(inputs[LABEL_PARTY]))[:samples]
    data, bottoms = [], []
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    for path in inputs.values():
        features = encode.load(path)
        everything = make_batch(
            features.layout, *features.gather(np.arange(samples)), backward=False
        )
        data.append((everything.index.long(), everything.weights))
        bottoms.append(_Bottom(features.layout, 16, [128, 32]))
    top, out = _tower(64, [64, 32]), nn.Linear(32, 1)
    tables = [bottom.table.weight for bottom in bottoms]
    dense = [p for m in (*[b.tower for b in bottoms], top, out) for p in m.parameters()]
    sparse_adam, adam = torch.optim.SparseAdam(tables, lr=2e-3), torch.optim.Adam(dense, lr=5e-4)
    speeds = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        for rows in torch.randperm(samples).split(batch):
            parts = [
                bottom(index[rows], None if weights is None else weights[rows])
                for bottom, (index, weights) in zip(bottoms, data, strict=True)
            ]
            total = parts[0][1] + parts[1][1]
            deep = out(top(torch.cat([part[0] for part in parts], 1))).squeeze(1)
            logits = parts[0][2] + parts[1][2] + 0.5 * total.square().sum(1) + deep
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[rows])
            sparse_adam.zero_grad()
            adam.zero_grad()
            loss.backward()
            sparse_adam.step()
            adam.step()
        speeds.append(samples / (time.perf_counter() - began))
    return speeds


def _result(raw: dict[str, Any], machine: dict[str, Any]) -> Result:
    speeds = {
        int(batch): {who: statistics.median(found[1:]) for who, found in both.items()}
        for batch, both in raw.items()
    }
    ratios = {batch: both["ours"] / both["pooled"] for batch, both in speeds.items()}
    order = sorted(ratios, key=lambda batch: ratios[batch] / BARS.get(batch, 1.0))
    return Result(
        name="split_vs_pooled",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar(f"samples/s, batch {b}", ratios[b], BARS.get(b, 1.0)) for b in order],
        columns=["batch", "split, samples/s", "pooled, samples/s", "ratio"],
        rows=[
            [
                f"{batch:,}",
                f"{both['ours']:,.0f}",
                f"{both['pooled']:,.0f}",
                f"{ratios[batch]:.2f}",
            ]
            for batch, both in speeds.items()
        ],
        raw=raw,
        machine=machine,
        versions=versions("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
