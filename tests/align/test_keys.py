import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.align.keys import read_keys
from isthmus.errors import AlignError


def values(ids, **options):
    return read_keys(ids, **{"repeats": "refuse", "nulls": "refuse", **options}).values


def test_integers_of_any_width_and_their_text_are_the_same_ids():
    expected = [b"7", b"-3", b"0"]
    for ids in (
        [7, -3, 0],
        ["7", "-3", "0"],
        np.array([7, -3, 0], dtype=np.int16),
        pl.Series([7, -3, 0], dtype=pl.Int32),
        pl.Series(["7", "-3", "0"], dtype=pl.Categorical),
        pl.DataFrame({"id": [7, -3, 0]}),
        np.array(["7", "-3", "0"]),
    ):
        assert values(ids) == expected


def test_large_unsigned_integers_and_text_are_kept_exactly():
    assert values(pl.Series([2**64 - 1], dtype=pl.UInt64)) == [b"18446744073709551615"]
    assert values([" a", "A", "a", "007", "Zoë", ""]) == [
        b" a",
        b"A",
        b"a",
        b"007",
        "Zoë".encode(),
        b"",
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 12)), unique=True, min_size=1))
def test_different_composite_keys_never_collide(rows):
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row")
    assert len(set(values(frame))) == len(rows)


def test_a_composite_key_matches_across_kinds_and_column_names():
    left = pl.DataFrame({"shop": [1, 12], "user": ["23", "3"]})
    right = pl.DataFrame({"s": ["1", "12"], "u": [23, 3]})
    assert values(left) == values(right)
    assert values(left)[0] != values(left)[1]


def test_floats_are_refused_with_a_mend():
    with pytest.raises(AlignError, match=r"'UserID' holds floats.*Cast it to integers"):
        values(pl.Series("UserID", [1.0, 2.0]))


@pytest.mark.parametrize(
    "ids",
    [pl.Series([True, False]), pl.Series([b"a"]), np.array(["2026-01-01"], dtype="M8[D]"), [[1]]],
)
def test_kinds_that_cannot_be_an_id_are_refused(ids):
    with pytest.raises(AlignError, match="cannot be an id"):
        values(ids)


def test_a_list_of_mixed_kinds_is_refused():
    with pytest.raises(AlignError, match="not all of one kind"):
        values([1, "2"])


@pytest.mark.parametrize("ids", [[], pl.Series([], dtype=pl.Int64), pl.DataFrame({"id": []})])
def test_no_ids_at_all_is_an_error(ids):
    with pytest.raises(AlignError, match="no ids"):
        values(ids)


def test_a_key_without_columns_is_an_error():
    with pytest.raises(AlignError, match="at least one column"):
        values(pl.DataFrame())


def test_nulls_are_refused_with_their_count_or_dropped():
    frame = pl.DataFrame({"a": [1, None, 3, 4], "b": ["x", "y", None, "z"]})
    with pytest.raises(AlignError, match="2 of 4 rows have no id"):
        values(frame)
    keys = read_keys(frame, repeats="refuse", nulls="drop")
    assert keys.first_row.tolist() == [0, 3]
    assert (keys.nulls, keys.repeats, keys.rows) == (2, 0, 4)


def test_a_column_of_nothing_but_nulls_is_refused_for_its_nulls():
    with pytest.raises(AlignError, match="2 of 2 rows have no id"):
        values([None, None])
    with pytest.raises(AlignError, match="no ids to align in a table of 2 rows"):
        values([None, None], nulls="drop")


def test_repeats_are_refused_with_their_count_dropped_or_kept():
    ids = ["b", "a", "b", None, "a", "b"]
    with pytest.raises(AlignError, match="3 of 6 rows have an id that an earlier row has"):
        values(ids, nulls="drop")
    dropped = read_keys(ids, repeats="drop", nulls="drop")
    assert dropped.values == [b"b", b"a"]
    assert dropped.first_row.tolist() == [0, 1]  # the first row of each
    kept = read_keys(ids, repeats="keep", nulls="drop")
    assert kept.event_row.tolist() == [0, 1, 2, 4, 5]
    assert kept.event_key.tolist() == [0, 1, 0, 1, 0]


def test_errors_never_quote_an_id():
    with pytest.raises(AlignError) as caught:
        values(["secret-person", "secret-person"])
    assert "secret" not in str(caught.value)
