"""Train SecretFlow's split DeepFM on two parties' CSV files and say how fast and how well.

Runs in SecretFlow's own environment (Python 3.10), not in ours, and imports nothing of ours. The
model and its sizes are those of SecretFlow's DeepFM tutorial: embeddings of 16, base nets 256-32,
fuse net 256-256-32, Adam 0.001. One thing is kinder to it than the tutorial: genres keep their
spelling, which the tutorial's text layer loses.

    python secretflow_party.py --data FOLDER --out result.json      one process starts all parties
    python secretflow_party.py --party alice --ports 9001,9002 ...  production, one process a party

FOLDER holds {alice,bob}_{train,test}.csv with an `ID` column; row i of both is the same sample.
Only epochs after the first are timed; an epoch begins and ends when both parties have nothing left
to do.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import secretflow as sf
from secretflow.data.vertical import read_csv
from sklearn.metrics import log_loss, roc_auc_score

# From 1.11 on, the learning half is a package of its own.
try:
    import secretflow_fl  # noqa: F401

    ROOT = "secretflow_fl"
except ImportError:
    ROOT = "secretflow"
NN = importlib.import_module(f"{ROOT}.ml.nn")
APPLICATIONS = f"{ROOT}.ml.nn.applications.sl_deep_fm"
Callback = importlib.import_module(f"{ROOT}.ml.nn.callbacks.callback").Callback

FEATURES = {"alice": ["UserID", "Gender", "Age", "Occupation"], "bob": ["MovieID", "Genres"]}
HASHED = {"UserID": 6040, "MovieID": 3952}  # the tutorial's buckets
BASE = [256, 32]
FUSE = [256, 256, 32]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--party", choices=["alice", "bob"])
    parser.add_argument("--ports", default="")
    return parser.parse_args()


def start(args: argparse.Namespace) -> None:
    """Start SecretFlow: Ray and all parties, or one party that talks to the other without Ray."""
    if args.party is None:
        sf.init(["alice", "bob"], address="local", log_to_driver=False)
        return
    addresses = [f"127.0.0.1:{port}" for port in args.ports.split(",")]
    parties = {
        name: {"address": address, "listen_addr": address}
        for name, address in zip(("alice", "bob"), addresses, strict=True)
    }
    sf.init(
        cluster_config={"parties": parties, "self_party": args.party},
        ray_mode=False,
        cross_silo_comm_backend="brpc_link",
    )


def read(folder: str, part: str, devices: dict[str, Any]) -> tuple[Any, Any]:
    """Features and label of one part as SecretFlow's tables."""
    paths = {device: f"{folder}/{name}_{part}.csv" for name, device in devices.items()}
    table = read_csv(paths, keys="ID", drop_keys="ID")
    label = table["Rating"]
    features = table[[column for columns in FEATURES.values() for column in columns]]
    for columns in FEATURES.values():
        for column in columns:
            features[column] = features[column].astype("string")
    return features, label


def vocabularies(folder: str) -> dict[str, list[str]]:
    """The values of each column with a known vocabulary, from both parties' tables in the clear."""
    found = {}
    for party, columns in FEATURES.items():
        table = pd.concat(
            [pd.read_csv(f"{folder}/{party}_{part}.csv", dtype=str) for part in ("train", "test")]
        )
        for column in columns:
            if column not in HASHED:
                values = table[column].dropna()
                tokens = values.str.split().explode() if column == "Genres" else values
                found[column] = sorted(tokens.unique())
    return found


def dataset_builder(batch: int) -> Callable[[Any], Any]:
    """How a party turns its columns into batches."""

    def build(parts: Any) -> Any:
        import pandas as pd
        import tensorflow as tf

        columns = [dict(part) if isinstance(part, pd.DataFrame) else part for part in parts]
        if len(columns) == 1:
            return tf.data.Dataset.from_tensor_slices(columns[0]).batch(batch)
        data = tf.data.Dataset.from_tensor_slices(tuple(columns)).batch(batch)
        return data.map(
            lambda row, label: (row, tf.expand_dims(tf.cast(label["Rating"] > 3, tf.float32), 1))
        )

    return build


def base_builder(
    columns: list[str],
    vocabulary: dict[str, list[str]],
    hashed: dict[str, int],
    units: list[int],
    where: str,
) -> Callable[[], Any]:
    """How a party builds its base net. All it needs is passed in: it runs in another process."""

    def build() -> Any:
        import importlib

        import tensorflow as tf

        layers = tf.keras.layers
        inputs = {column: tf.keras.Input(shape=(1,), dtype=tf.string) for column in columns}
        outputs = {}
        for column in columns:
            if column in hashed:
                layer = layers.Hashing(num_bins=hashed[column], output_mode="one_hot")
            elif column == "Genres":
                layer = layers.TextVectorization(
                    output_mode="multi_hot",
                    standardize=None,
                    split="whitespace",
                    vocabulary=vocabulary[column],
                )
            else:
                layer = layers.StringLookup(vocabulary=vocabulary[column], output_mode="one_hot")
            outputs[column] = layer(inputs[column])
        net = importlib.import_module(where).DeepFMbase(
            dnn_units_size=units, preprocess_layer=tf.keras.Model(inputs=inputs, outputs=outputs)
        )
        net.compile(
            loss=tf.keras.losses.binary_crossentropy,
            optimizer=tf.keras.optimizers.Adam(),
            metrics=[tf.keras.metrics.AUC()],
        )
        return net

    return build


def fuse_builder(units: list[int], where: str) -> Callable[[], Any]:
    """How the label party builds the fuse net."""

    def build() -> Any:
        import importlib

        import tensorflow as tf

        net = importlib.import_module(where).DeepFMfuse(dnn_units_size=units)
        net.compile(
            loss=tf.keras.losses.binary_crossentropy,
            optimizer=tf.keras.optimizers.Adam(),
            metrics=[tf.keras.metrics.AUC()],
        )
        return net

    return build


class EpochTimer(Callback):
    """Seconds of each epoch, from nothing running to nothing running."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def settle(self) -> None:
        """Wait until every party has done all it was asked."""
        sf.reveal([worker.get_basenet_output_num() for worker in self._workers.values()])

    def on_epoch_begin(self, epoch: Any = None, logs: Any = None) -> None:
        """Start the clock."""
        self.settle()
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: Any = None, logs: Any = None) -> None:
        """Stop the clock."""
        self.settle()
        self.seconds.append(time.perf_counter() - self.began)
        print(f"epoch {epoch}: {self.seconds[-1]:.2f} s", flush=True)


def main() -> None:
    """Train, predict, write the result."""
    args = options()
    logging.disable(logging.INFO)
    start(args)
    devices = {name: sf.PYU(name) for name in FEATURES}
    train_x, train_y = read(args.data, "train", devices)
    test_x, _ = read(args.data, "test", devices)
    words = vocabularies(args.data)
    builders = {device: dataset_builder(args.batch) for device in devices.values()}
    model = NN.SLModel(
        base_model_dict={
            device: base_builder(FEATURES[name], words, HASHED, BASE, APPLICATIONS)
            for name, device in devices.items()
        },
        device_y=devices["bob"],
        model_fuse=fuse_builder(FUSE, APPLICATIONS),
        random_seed=args.seed,
    )
    timer = EpochTimer()
    model.fit(
        train_x,
        train_y,
        epochs=args.epochs,
        batch_size=args.batch,
        verbose=0,
        callbacks=[timer],
        dataset_builder=builders,
    )
    predicted = sf.reveal(model.predict(test_x, batch_size=args.batch, dataset_builder=builders))
    probability = np.concatenate([np.asarray(part).reshape(-1) for part in predicted])
    write_result(args, timer, probability)
    sf.shutdown()


def write_result(args: argparse.Namespace, timer: EpochTimer, probability: Any) -> None:
    """Rates over the epochs after the first; accuracy on the held-out rows."""
    rows = len(pd.read_csv(f"{args.data}/bob_train.csv", usecols=["ID"]))
    label = (pd.read_csv(f"{args.data}/bob_test.csv")["Rating"].to_numpy() > 3).astype(int)
    rates = [rows / seconds for seconds in timer.seconds[1:]]
    result = {
        "version": sf.__version__,
        "epoch_seconds": timer.seconds,
        "samples_per_second": statistics.median(rates),
        "best_samples_per_second": max(rates),
        "auc": float(roc_auc_score(label, probability)),
        "log_loss": float(log_loss(label, np.clip(probability, 1e-7, 1 - 1e-7))),
        "train_rows": rows,
        "test_rows": len(label),
    }
    with Path(args.out).open("w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
