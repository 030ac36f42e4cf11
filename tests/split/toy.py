"""A small federation with a planted interaction, for the tests of split training."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from isthmus.data import Features, Split, fit_encoder, split_samples
from isthmus.models import DeepFMBottom, DeepFMTop
from isthmus.session import Session
from isthmus.split import FeatureData

PARTIES = ("alice", "bob")
GENRES = ("war", "love", "crime", "animals")


@dataclass
class Toy:
    features: dict[str, Features]
    labels: np.ndarray
    split: Split
    seed: int = 3

    def data(self, party: str) -> FeatureData:
        return FeatureData(self.features[party])

    def bottom(self, party: str, dropout: float = 0.0) -> DeepFMBottom:
        seed = Session(me=party, parties=(party,), label_party=party, seed=self.seed)
        return DeepFMBottom(
            self.features[party].layout,
            dim=4,
            hidden=(8, 6),
            dropout=dropout,
            embedding_std=0.1,
            seed=seed.seed_for("bottom"),
        )

    def top(self, dropout: float = 0.0, parties: tuple[str, ...] = PARTIES) -> DeepFMTop:
        return DeepFMTop(
            dict.fromkeys(parties, 6), dim=4, hidden=(8,), dropout=dropout, seed=self.seed
        )


def make_toy(rows: int = 600, seed: int = 0) -> Toy:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 20, rows), rng.integers(0, 15, rows)
    age = rng.normal(40, 12, rows)
    tastes = rng.normal(size=(20, 15))
    logit = 2 * tastes[user, item] + (age - 40) / 12
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    genres = ["|".join(rng.choice(GENRES, rng.integers(0, 4), replace=False)) for _ in range(rows)]
    alice = pl.DataFrame({"user": user, "age": np.where(rng.random(rows) < 0.1, np.nan, age)})
    bob = pl.DataFrame({"item": item, "genres": genres})
    split = split_samples(rows, seed, (0.7, 0.15, 0.15))
    kinds = {
        "alice": {"user": "categorical", "age": "numeric"},
        "bob": {"item": "categorical", "genres": {"kind": "multi_hot", "separator": "|"}},
    }
    features = {
        name: fit_encoder(frame, kinds[name], split.train).encode(frame)
        for name, frame in (("alice", alice), ("bob", bob))
    }
    return Toy(features, labels, split)
