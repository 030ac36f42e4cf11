"""A model of several parties is that of the pooled table, node by node."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trees.made import OPTIONS, PARTS, ROWS, SCORE, TABLE, Y, pooled_model, split_models

from isthmus.trees import TreeOptions, setup, sources

RNG = np.random.default_rng(2)
COUNTS = RNG.poisson(np.exp(SCORE / 3)).astype(float)
CLASSES = np.digitize(SCORE, [-0.3, 1.0]).astype(float)
CASES = {
    "binary": (OPTIONS, Y, {}),
    "weights": (OPTIONS, Y, {"weights": RNG.random(ROWS) + 0.1}),
    "real": (replace(OPTIONS, objective="real"), 1e4 * SCORE, {}),
    "poisson": (replace(OPTIONS, objective="poisson"), COUNTS, {}),
    "multiclass": (replace(OPTIONS, objective="multiclass", classes=3, trees=2), CLASSES, {}),
    "best first": (replace(OPTIONS, leaves=6, depth=9, min_gain=0.1), Y, {}),
    "rows drawn": (replace(OPTIONS, subsample=0.6), Y, {}),
    "columns drawn": (replace(OPTIONS, columns=0.3, trees=6), Y, {}),
    "one-side sampling": (replace(OPTIONS, goss=(0.3, 0.2)), Y, {}),
    "held-out rows": (
        replace(OPTIONS, patience=2, trees=40, learning_rate=0.5),
        Y,
        {"valid": np.arange(0, ROWS, 4)},
    ),
    "coarse": (replace(OPTIONS, bits=6, l2=0.0), Y, {}),
}


def structure(model):
    return [[(node.left, node.gain) for node in tree] for tree in model.trees]


def values(model):
    return np.array([node.value for tree in model.trees for node in tree])


@pytest.mark.parametrize("case", CASES)
def test_two_partners_and_the_pooled_table_give_the_same(case):
    options, labels, given = CASES[case]
    parts, predicted = split_models(options, labels, **given)
    pooled, reference = pooled_model(options, labels, **given)
    alice = parts["alice"]
    assert structure(alice) == structure(pooled)
    np.testing.assert_array_equal(values(alice), values(pooled))
    np.testing.assert_array_equal(predicted, reference)
    assert alice.losses == pooled.losses
    assert alice.valid_losses == pooled.valid_losses
    # Each party has its own cuts, together as many as the pooled model.
    assert sum(len(part.cuts) for part in parts.values()) == len(pooled.cuts) > 0
    for number, party in enumerate(PARTS):
        of_party = [node for tree in alice.trees for node in tree if node.party == number]
        assert sorted(node.cut for node in of_party) == list(range(len(parts[party].cuts)))
        assert {one.column for one in parts[party].bins} <= set(PARTS[party])
    assert parts["bob"].trees == ()


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_whatever_the_tables_are_it_is_the_pooled_model(data):
    rows = data.draw(st.integers(14, 90))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    columns = {"sure": pl.Series(np.arange(rows) % 2)}  # a partner must have something to split
    for number in range(data.draw(st.integers(2, 5))):
        kinds = data.draw(st.integers(1, 40))
        values = rng.integers(0, kinds, rows).astype(float)
        values[rng.random(rows) < data.draw(st.sampled_from([0.0, 0.2, 0.9]))] = np.nan
        text = data.draw(st.booleans())
        series = pl.Series(values).fill_nan(None)
        columns[f"x{number}"] = series.cast(pl.Int64).cast(pl.String) if text else series
    at = data.draw(st.integers(0, len(columns) - 1))
    names = list(columns)
    parts = {"alice": names[1 : at + 1], "bob": names[:1] + names[at + 1 :]}
    options = TreeOptions(
        objective="real",
        trees=3,
        depth=data.draw(st.integers(1, 6)),
        bins=data.draw(st.integers(2, 9)),
        min_rows=data.draw(st.integers(1, 6)),
        leaves=data.draw(st.sampled_from([None, 2, 5])),
        subsample=data.draw(st.sampled_from([1.0, 0.7])),
        columns=data.draw(st.sampled_from([1.0, 0.5])),
        l2=data.draw(st.sampled_from([0.0, 1.0])),
    )
    table, labels = pl.DataFrame(columns), rng.normal(size=rows)
    found, predicted = split_models(options, labels, parts, table)
    pooled, reference = pooled_model(options, labels, parts, table)
    assert structure(found["alice"]) == structure(pooled)
    np.testing.assert_array_equal(predicted, reference)


def test_in_many_small_messages_it_is_the_same(monkeypatch):
    whole, predicted = split_models(OPTIONS)
    monkeypatch.setattr(sources, "NUMBERS_BYTES", 3000)
    monkeypatch.setattr(sources, "NODES_BYTES", 3000)
    monkeypatch.setattr(setup, "_TRANSFERS", 1000)
    parts, again = split_models(OPTIONS)
    assert parts == whole
    np.testing.assert_array_equal(again, predicted)


def test_a_label_party_without_columns():
    parts = {"alice": [], "bob": list(TABLE.columns)}
    found, predicted = split_models(OPTIONS, parts=parts)
    pooled, reference = pooled_model(OPTIONS, parts=parts)
    assert structure(found["alice"]) == structure(pooled)
    np.testing.assert_array_equal(predicted, reference)
    # The partner's cuts are the pooled model's, which was fitted by the same code.
    assert found["bob"].cuts == pooled.cuts
    assert found["alice"].cuts == ()


def test_the_loss_falls_and_early_stopping_keeps_the_best_round():
    model, _ = pooled_model(OPTIONS)
    assert all(a > b for a, b in zip(model.losses, model.losses[1:], strict=False))
    options, labels, given = CASES["held-out rows"]
    stopped, _ = pooled_model(options, labels, **given)
    best = int(np.argmin(stopped.valid_losses)) + 1
    assert stopped.rounds == best < len(stopped.losses) == best + options.patience


def test_rows_held_out_have_no_part_in_the_trees():
    held = np.arange(0, ROWS, 4)
    other = Y.copy()
    other[held] = 1 - other[held]
    one, _ = pooled_model(OPTIONS, Y, valid=held)
    two, _ = pooled_model(OPTIONS, other, valid=held)
    assert structure(one) == structure(two)
    assert one.valid_losses != two.valid_losses


def test_first_trees_of_the_label_partys_own():
    options = replace(OPTIONS, own_trees=2)
    parts, _ = split_models(options)
    owners = [{node.party for node in tree} - {-1} for tree in parts["alice"].trees]
    assert owners[0] == owners[1] == {0}
    assert owners[2] & {1, 2}


def test_leaves_and_depth_and_rows_are_kept_to():
    options = replace(OPTIONS, leaves=5, depth=3)
    parts, _ = split_models(options)
    for tree in parts["alice"].trees:
        assert sum(node.party < 0 for node in tree) <= 5
    deep, _ = pooled_model(replace(OPTIONS, depth=2))
    assert max(len(tree) for tree in deep.trees) <= 7


def test_a_leaf_is_minus_gradient_over_curvature():
    """One stump of a column by hand: squared errors, no penalty."""
    options = replace(
        OPTIONS, objective="real", trees=1, depth=1, l2=0.0, learning_rate=1.0, min_hessian=0.0
    )
    y = np.where(np.arange(ROWS) < 200, 3.0, 1.0)
    table = TABLE.select("x0").with_columns(x0=np.arange(ROWS, dtype=float))
    model, predicted = pooled_model(
        replace(options, bins=7), y, parts={"alice": ["x0"]}, table=table
    )
    assert model.bins[0].edges[1] == 199.5
    np.testing.assert_allclose(predicted, y, atol=1e-9)
    (tree,) = model.trees
    mean = y.mean()
    gain = 200 * (3 - mean) ** 2 + 500 * (1 - mean) ** 2
    assert tree[0].gain == pytest.approx(gain, rel=1e-9)


def test_gaps_in_held_out_rows_alone():
    held_out = np.arange(ROWS - 30, ROWS)
    gap = pl.int_range(pl.len()) >= ROWS - 10
    table = TABLE.with_columns(x3=pl.when(gap).then(None).otherwise(pl.col("x0").fill_null(0.0)))
    options = TreeOptions(trees=3, depth=3, bins=8, patience=2)
    parts = {"alice": ["x1"], "bob": ["x3"]}
    found, scores = split_models(options, parts=parts, table=table, valid=held_out)
    pooled, wanted = pooled_model(options, parts=parts, table=table, valid=held_out)
    assert found["alice"].valid_losses == pooled.valid_losses
    np.testing.assert_array_equal(scores, wanted)
