"""The same quality as LightGBM with the same parameters on pooled columns."""

import os
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from isthmus.metrics import auc, real_metrics
from isthmus.session import Session
from isthmus.trees import TreeOptions, fit_alone, predict

DATA = Path(os.environ.get("ISTHMUS_DATA", "none"))
ALONE = Session(me="alone", parties=("alone",), label_party="alone")


def theirs(x, y, options, rounds=None):
    given = {
        "objective": {"real": "regression"}.get(options.objective, options.objective),
        "learning_rate": options.learning_rate,
        "max_depth": options.depth,
        "num_leaves": 2**options.depth,
        "max_bin": options.bins,
        "min_data_in_leaf": options.min_rows,
        "lambda_l2": options.l2,
        "verbose": -1,
        "num_threads": 1,
        "num_class": options.trees_a_round,
    }
    return lightgbm.train(given, lightgbm.Dataset(x, y), rounds or options.trees)


def ours(x, y, options):
    table = pl.DataFrame(x, schema=[f"x{i}" for i in range(x.shape[1])])
    model = fit_alone(table, y, options)
    return lambda x: predict(ALONE, model, pl.DataFrame(x, schema=table.columns))


def made(rows=6000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 8))
    x[rng.random(x.shape) < 0.1] = np.nan
    known = np.nan_to_num(x)
    score = known[:, 0] + known[:, 1] * known[:, 2] + np.sin(2 * known[:, 3]) - np.isnan(x[:, 4])
    return x, score, rng


def test_auc_on_made_up_data_with_gaps():
    x, score, rng = made(40_000)
    y = (score + rng.normal(size=len(score)) > 0).astype(float)
    train, test = slice(0, 20_000), slice(20_000, None)
    options = TreeOptions()
    mine = auc(y[test], ours(x[train], y[train], options)(x[test]))
    reference = auc(y[test], theirs(x[train], y[train], options).predict(x[test]))
    assert abs(mine - reference) < 0.002
    assert mine > 0.8


def test_squared_errors_on_made_up_data():
    x, score, rng = made()
    y = score + 0.3 * rng.normal(size=len(score))
    train, test = slice(0, 3000), slice(3000, None)
    options = TreeOptions(objective="real", trees=40)
    mine = real_metrics(y[test], ours(x[train], y[train], options)(x[test])).rmse
    reference = real_metrics(y[test], theirs(x[train], y[train], options).predict(x[test])).rmse
    assert mine == pytest.approx(reference, rel=0.02)


def test_counts_on_made_up_data():
    x, score, rng = made(40_000)
    y = rng.poisson(np.exp(score / 3)).astype(float)
    train, test = slice(0, 20_000), slice(20_000, None)
    options = TreeOptions(objective="poisson", trees=40)
    mine = ours(x[train], y[train], options)(x[test])
    reference = theirs(x[train], y[train], options).predict(x[test])
    losses = [
        (each - y[test] * np.log(each)).mean()
        for each in (mine, reference, y[train].mean() + 0 * mine)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.005)
    assert losses[0] < losses[2] - 0.05


def test_classes_on_made_up_data():
    x, score, rng = made(10_000)
    y = np.digitize(score + 0.5 * rng.normal(size=len(score)), [-1.0, 0.0, 1.0]).astype(float)
    train, test = slice(0, 5000), slice(5000, None)
    options = TreeOptions(objective="multiclass", classes=4, trees=30)
    mine = ours(x[train], y[train], options)(x[test])
    reference = theirs(x[train], y[train], options).predict(x[test])
    right = np.arange(len(mine)), y[test].astype(int)
    losses = [-np.log(each[right]).mean() for each in (mine, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    found = [(each.argmax(axis=1) == y[test]).mean() for each in (mine, reference)]
    assert found[0] == pytest.approx(found[1], abs=0.01)
    assert found[0] > 0.6


def test_one_tree_of_few_values_is_the_same_tree():
    """With a bin for each value there is nothing to differ in: predictions are equal."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (2000, 4)).astype(float)
    y = (x[:, 0] * x[:, 1] + rng.normal(size=2000) * 9 > 16).astype(float)
    options = TreeOptions(trees=5, depth=4)
    mine, reference = ours(x, y, options)(x), theirs(x, y, options).predict(x)
    np.testing.assert_allclose(mine, reference, atol=2e-6)


@pytest.mark.skipif(not (DATA / "vfl_default_credit").exists(), reason="no vfl_default_credit")
def test_default_credit_held_out():
    guest = pl.read_csv(DATA / "vfl_default_credit" / "guest.csv")
    host = pl.read_csv(DATA / "vfl_default_credit" / "host.csv")
    x = np.column_stack([guest.drop("id", "y").to_numpy(), host.drop("id").to_numpy()])
    y = guest["y"].to_numpy().astype(float)
    train, test = np.split(np.random.default_rng(0).permutation(len(y)), [21_000])
    options = TreeOptions()
    mine = auc(y[test], ours(x[train], y[train], options)(x[test]))
    reference = auc(y[test], theirs(x[train], y[train], options).predict(x[test]))
    assert abs(mine - reference) < 0.002


@pytest.mark.skipif(not (DATA / "vfl_breast").exists(), reason="ISTHMUS_DATA has no vfl_breast")
def test_breast_in_sample_is_not_below_fate():
    guest = pl.read_csv(DATA / "vfl_breast" / "guest.csv")
    host = pl.read_csv(DATA / "vfl_breast" / "host.csv")
    x = np.column_stack([guest.drop("id", "y").to_numpy(), host.drop("id").to_numpy()])
    y = guest["y"].to_numpy().astype(float)
    options = TreeOptions(trees=10, depth=3, learning_rate=0.3, l2=0.1, min_rows=1)
    assert auc(y, ours(x, y, options)(x)) >= 0.999194
