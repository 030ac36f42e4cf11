from datetime import datetime

import numpy as np
import polars as pl
import pytest

from isthmus.data import describe, infer_schema, read_table
from isthmus.errors import DataError

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
    assert "Zoe" not in repr(name)
    assert (number.missing, number.distinct) == (2, 2)
    assert (number.low, number.high) == (None, None)
    assert number.summary == "2 distinct, 2 missing"


def test_a_range_is_of_many_rows_and_rounded():
    values = [-98_765.4, *range(1000, 1998), 123_456.7]
    (profile,) = describe(pl.DataFrame({"x": values}, schema={"x": pl.Float64}, strict=False))
    assert (profile.low, profile.high) == (1000, 2000)
    assert profile.summary == "1000 distinct, mostly 1,000 to 2,000"
    (few,) = describe(pl.DataFrame({"x": values[:99]}, strict=False))
    assert few.low is None
    (endless,) = describe(pl.DataFrame({"x": [float("inf"), *map(float, range(200))]}))
    assert (endless.low, endless.high) == (2, 200)


def test_what_is_ignored_has_a_reason():
    reasons = {profile.name: profile.reason for profile in describe(TABLE)}
    assert {name for name, kind in KINDS.items() if kind == "ignore"} == {
        name for name, reason in reasons.items() if reason and name != "ID"
    }
    assert reasons["same"] == "one value"
    assert reasons["nothing"] == "no values"
    assert reasons["title"] == "nearly all different"


def test_a_table_that_breaks_off_is_named_and_not_quoted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"secret" disk,3\n4,5\n')
    with pytest.raises(DataError, match=r"a\.csv cannot be read") as caught:
        describe(read_table(path), source=str(path))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "key"),
    [
        ("customer_id", ["a7", "b9", "c1"], True),
        ("UserID", [10, 99_999, 5], True),
        ("n", [3, 1, 2], True),
        ("customer_no", ["a7", "b9", "c1"], True),
        ("bank_customer", [15_634_602, 30, 99_999_999], True),
        ("CustomerNo", [7, 1000, 99_999], True),
        ("valid", ["a7", "b9", "c1"], False),
        ("casino", [7, 1000, 99_999], False),
        ("customer", [0.5, 1000.5, 99.9], False),
        ("bank_customer", [7, None, 9_999_999], False),
        ("n", [3, 1000, 99_999], False),
        ("id", [1, 1, 2], False),
        ("id", [1, None, 2], False),
    ],
)
def test_key_candidates(name, values, key):
    frame = pl.DataFrame({name: values})
    assert describe(frame)[0].is_key is key
    assert infer_schema(frame).key == ((name,) if key else ())


def test_any_column_without_a_value_twice_can_be_the_key():
    frame = pl.DataFrame(
        {"a": ["x", "y"], "b": [1, 9], "c": [0.5, 1.5], "d": [1, 1], "e": [1, None]}
    )
    assert [profile.name for profile in describe(frame) if profile.can_be_key] == ["a", "b"]


def test_of_several_keys_the_one_named_so_is_taken():
    frame = pl.DataFrame({"row": [1, 2, 3], "bank_customer": [70, 99, 5], "user_id": [9, 500, 8]})
    assert infer_schema(frame).key == ("user_id",)
    assert infer_schema(frame[["row", "bank_customer"]]).key == ("bank_customer",)
    assert infer_schema(frame[["row"]]).key == ("row",)


def test_customer_numbers_that_come_back_are_categories():
    frame = pl.DataFrame({"customer_no": [*range(10**6, 10**9, 10**6)] * 2})
    assert infer_schema(frame).features["customer_no"].kind == "categorical"


def test_a_table_without_rows_is_described():
    assert set(infer_schema(TABLE.clear()).used()) == {"lists"}


def test_lists_of_numbers_of_one_width_are_vectors():
    rows = [[0.5, 1.5], None, [2.0, 3.0]]
    frame = pl.DataFrame(
        {
            "face": rows,
            "voice": pl.Series(rows, dtype=pl.Array(pl.Float32, 2)),
            "ragged": [[0.5], [1.0, 2.0], None],
            "tags": [["a"], ["a", "b"], []],
            "numbers": [[1], [1, 2], []],
        }
    )
    found = infer_schema(frame.lazy()).features
    assert {name: (spec.kind, spec.width) for name, spec in found.items()} == {
        "face": ("vector", 2),
        "voice": ("vector", 2),
        "ragged": ("ignore", None),
        "tags": ("multi_hot", None),
        "numbers": ("multi_hot", None),
    }
