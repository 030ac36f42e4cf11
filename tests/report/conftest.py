"""Reports as a run makes them, for both roles."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from isthmus import metrics
from isthmus.jobs import report as r


def example_report(role="label", **changes):
    """A report of the demo's shape: bob holds the label, alice adds four columns."""
    part = _label_side() if role == "label" else _feature_side()
    whole = {
        "model": r.ModelFacts(
            name="DeepFM, split",
            hyper_parameters={"dim": 16, "bottom": (64, 32), "top": (), "dropout": 0.3},
            parts=part.pop("parts"),
        ),
        "traffic": r.traffic_of(part.pop("meters")),
        "phases": tuple(
            r.Phase(name=name, seconds=seconds)
            for name, seconds in [
                ("align", 4.31),
                ("encode", 0.61),
                ("train", 31.2),
                ("evaluate", 0.93),
                ("predict", 0.08),
                *([("pooled", 9.87)] if role == "label" else []),
            ]
        ),
        "seconds": 37.9,
        "artefacts": (
            r.Artefact(path="report.json", description="this report as data"),
            r.Artefact(path="model/bottom.safetensors", description="the bottom model kept"),
        ),
        **part,
        **changes,
    }
    return r.Report(**whole)


def job_facts(party, **changes):
    facts = {
        "name": "movielens-first-light",
        "hash": "sha256:5f0c1d0f3a8a4c2b9d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c",
        "party": party,
        "parties": (
            r.Party(name="alice", role="feature"),
            r.Party(name="bob", role="label"),
        ),
        "created": datetime(2026, 11, 20, 7, 41, 12, tzinfo=UTC),
        "seed": 20261120,
        "label": "Rating > 3",
        "versions": r.Versions(isthmus="0.1.0", python="3.11.7", torch="2.13.0", numpy="2.4.6"),
    }
    return r.JobFacts(**(facts | changes))


def _label_side():
    labels, models = _scores()
    figures = {name: r.figures_of(metrics.binary_metrics(labels, p)) for name, p in models.items()}
    federation, alone, pooled = (
        models[name] for name in ("federation", "label_party_alone", "pooled")
    )
    return {
        "job": job_facts("bob"),
        "data": _data_facts(
            [
                ("MovieID", "categorical", 1684),
                ("Title", "categorical", 1660),
                ("Genres", "multi_hot", 21),
                ("Timestamp", "numeric", 2),
            ],
            positive_rate=0.5537,
        ),
        "alignment": _alignment_facts("alice"),
        "parts": (
            r.ModelPart(name="bottom", dense_parameters=22_656, sparse_parameters=57_239),
            r.ModelPart(name="top", dense_parameters=16_641),
        ),
        "training": _training_facts(
            tuple(
                r.EpochFacts(
                    epoch=epoch,
                    seconds=3.1 + 0.1 * (epoch % 3),
                    learning_rate=0.001,
                    train_loss=0.51 + 0.16 * 0.72**epoch - 0.002 * epoch,
                    validation_auc=0.789 - 0.07 * 0.6**epoch - 0.0012 * max(0, epoch - 7),
                    validation_log_loss=0.554 + 0.09 * 0.6**epoch + 0.002 * max(0, epoch - 7),
                )
                for epoch in range(1, 11)
            )
        ),
        "metrics": r.Metrics(**figures),
        "uplift": r.Uplift(
            over_label_party_alone=r.interval_of(
                metrics.bootstrap_uplift(labels, federation, alone, seed=1, resamples=100)
            ),
            over_pooled=r.interval_of(
                metrics.bootstrap_uplift(labels, federation, pooled, seed=1, resamples=100)
            ),
        ),
        "curves": r.Curves(**{name: r.curves_of(labels, p) for name, p in models.items()}),
        "meters": {"alice": _meter(out=("train.gradient", "align.blinded"))},
        "notes": ("The pooled model is known because one machine held both parties' tables.",),
    }


def _feature_side():
    return {
        "job": job_facts("alice"),
        "data": _data_facts(
            [
                ("UserID", "categorical", 945),
                ("Gender", "categorical", 4),
                ("Age", "numeric", 2),
                ("Occupation", "categorical", 23),
                ("Zip-code", "categorical", 797),
            ]
        ),
        "alignment": _alignment_facts("bob"),
        "parts": (r.ModelPart(name="bottom", dense_parameters=26_752, sparse_parameters=30_107),),
        "training": _training_facts(
            tuple(
                r.EpochFacts(epoch=epoch, seconds=3.1 + 0.1 * (epoch % 3), learning_rate=0.001)
                for epoch in range(1, 11)
            )
        ),
        "meters": {"bob": _meter(out=("train.cut", "align.reblinded"))},
    }


def _scores():
    rng = np.random.default_rng(7)
    rows = 15_965
    signal = rng.normal(size=(3, rows))
    labels = rng.random(rows) < _sigmoid(0.25 + signal[0] + 0.55 * signal[1] + 0.3 * signal[2])
    federation = 0.25 + 0.98 * signal[0] + 0.5 * signal[1] + 0.05 * rng.normal(size=rows)
    pooled = federation + 0.06 * rng.normal(size=rows)
    alone = 0.25 + 1.2 * signal[0] + 0.05 * rng.normal(size=rows)
    named = {"label_party_alone": alone, "federation": federation, "pooled": pooled}
    return labels, {name: _sigmoid(logit) for name, logit in named.items()}


def _sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def _data_facts(features, **more):
    return r.DataFacts(
        rows_read=90_000,
        features=tuple(
            r.FeatureFacts(name=name, kind=kind, table_rows=rows) for name, kind, rows in features
        ),
        training_samples=57_633,
        validation_samples=6_402,
        test_samples=15_965,
        **more,
    )


def _alignment_facts(partner):
    return r.AlignmentFacts(
        protocol="ecdh",
        own_rows=90_000,
        own_keys=90_000,
        partner_keys={partner: 90_000},
        common_keys=80_000,
        samples=80_000,
    )


def _training_facts(curve):
    return r.TrainingFacts(
        schedule="exact",
        optimizer="Adam",
        batch_size=128,
        learning_rate=0.001,
        hyper_parameters={
            "embedding_learning_rate": 0.004,
            "weight_decay": 0.0,
            "decay": "cosine",
            "metric": "auc",
            "patience": 3,
        },
        epochs=10,
        steps=4510,
        samples_per_second=41_250.0,
        best_epoch=7,
        stop_reason="validation AUC did not rise for 3 epochs",
        curve=curve,
    )


def _meter(out):
    """Topic counts with `sent` and `received` swapped for what goes the other way."""
    counts = {
        "align.blinded": (2_881_204, 12, 1.21),
        "align.reblinded": (2_880_644, 12, 1.34),
        "align.digest": (412, 2, 0.01),
        "train.cut": (338_112_400, 5_012, 8.4),
        "train.gradient": (300_410_020, 4_510, 9.7),
    }
    snapshot = {}
    for topic, (size, messages, waited) in counts.items():
        sent = topic in out
        snapshot[topic] = SimpleNamespace(
            sent_bytes=size if sent else 0,
            received_bytes=0 if sent else size,
            sent_messages=messages if sent else 0,
            received_messages=0 if sent else messages,
            waited_seconds=0.0 if sent else waited,
        )
    return snapshot


@pytest.fixture(scope="session")
def label_report():
    return example_report("label")


@pytest.fixture(scope="session")
def feature_report():
    return example_report("feature")


@pytest.fixture(scope="session")
def make_report():
    return example_report


@pytest.fixture(scope="session")
def make_job():
    return job_facts


def guard_facts(**changes):
    """Int8 on alice's cut as bob received it, a lossless guard on what bob sent back."""
    cut = {
        "party": "alice",
        "direction": "cut",
        "guard": "int8",
        "lossy": True,
        "messages": 40,
        "bytes_before": 400_000,
        "bytes_after": 100_000,
        "ratio": 4.0,
    }
    back = {
        "direction": "gradient",
        "guard": "zeros",
        "lossy": False,
        "bytes_after": 150_000,
        "ratio": 400 / 150,
        "relative_error": 0.0,
        "saturated": 0,
    }
    return r.GuardFacts(**(cut | changes)), r.GuardFacts(**(cut | back))


@pytest.fixture(scope="session")
def make_guards():
    return guard_facts
