from datetime import datetime

import numpy as np
import polars as pl
import pytest

from isthmus.data import describe, infer_schema

RNG = np.random.default_rng(0)
N = 2000
TABLE = pl.DataFrame(
    {
        "ID": RNG.permutation(N),
        "user_id": RNG.integers(0, 500, N),
        "shop": RNG.integers(1000, 1400, N),
        "stars": RNG.integers(1, 6, N),
        "income": RNG.integers(10_000, 90_000, N),
        "height": RNG.normal(170, 10, N),
        "flag": RNG.random(N) < 0.5,
        "whole": RNG.integers(0, 2, N).astype(float),
        "sex": RNG.choice(["F", "M"], N),
        "genres": RNG.choice(["Drama|War", "Comedy", "War|Comedy", "Drama", "Drama|Comedy"], N),
        "words": [" ".join(RNG.choice(["red", "big", "old", "wet", "hot"], 3)) for _ in range(N)],
        "title": [f"The {i} of {i % 7} and {i * 3}" for i in range(N)],
        "seen_at": [datetime(2020, 1, 1)] * N,
        "born": [f"19{i % 90 + 10}-01-{i % 20 + 10}" for i in range(N)],
        "timestamp": RNG.integers(10**9, 2 * 10**9, N),
        "same": ["x"] * N,
        "nothing": pl.Series([None] * N, dtype=pl.Float64),
        "lists": [["a", "b"]] * N,
        "record": [{"a": 1}] * N,
    }
)
KINDS = {
    "user_id": "categorical",
    "shop": "categorical",
    "stars": "categorical",
    "income": "numeric",
    "height": "numeric",
    "flag": "categorical",
    "whole": "categorical",
    "sex": "categorical",
    "genres": "multi_hot",
    "words": "multi_hot",
    "title": "ignore",
    "seen_at": "ignore",
    "born": "ignore",
    "timestamp": "ignore",
    "same": "ignore",
    "nothing": "ignore",
    "lists": "multi_hot",
    "record": "ignore",
}


def test_kinds_are_chosen_sensibly():
    schema = infer_schema(TABLE.lazy())
    assert schema.key == ("ID",)
    assert {name: spec.kind for name, spec in schema.features.items()} == KINDS
    assert schema.features["genres"].separator == "|"
    assert schema.features["words"].separator == " "
    assert schema.features["lists"].separator is None


def test_a_profile_counts_and_shows_no_value_of_text():
    frame = pl.DataFrame({"name": ["Zoe", "", None, "Zoe"], "x": [1.5, float("nan"), None, -2.0]})
    name, number = describe(frame)
    assert (name.rows, name.missing, name.distinct) == (4, 2, 1)
    assert (name.minimum, name.maximum) == (None, None)
    assert "Zoe" not in repr(name)
    assert (number.missing, number.distinct) == (2, 2)
    assert (number.minimum, number.maximum) == (-2.0, 1.5)
    assert number.summary == "2 distinct, 2 missing, -2 to 1.5"


@pytest.mark.parametrize(
    ("name", "values", "key"),
    [
        ("customer_id", ["a7", "b9", "c1"], True),
        ("UserID", [10, 99_999, 5], True),
        ("n", [3, 1, 2], True),
        ("valid", ["a7", "b9", "c1"], False),
        ("n", [3, 1000, 99_999], False),
        ("id", [1, 1, 2], False),
        ("id", [1, None, 2], False),
    ],
)
def test_key_candidates(name, values, key):
    frame = pl.DataFrame({name: values})
    assert describe(frame)[0].is_key is key
    assert infer_schema(frame).key == ((name,) if key else ())


def test_a_table_without_rows_is_described():
    assert set(infer_schema(TABLE.clear()).used()) == {"lists"}
