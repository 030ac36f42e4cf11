from contextlib import suppress

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import parse_label
from isthmus.errors import SchemaError

FRAME = pl.DataFrame(
    {
        "Rating": [1, 3, 4, 5],
        "Zip-code": ["a", "b", "c", "a"],
        "clicked": [0, 1, 1, 0],
        "bought": [True, False, False, True],
        "score": [0.5, 2.5, 3.0, 1.0],
    }
)


@pytest.mark.parametrize(
    ("text", "column", "wanted"),
    [
        ("Rating > 3", "Rating", [0, 0, 1, 1]),
        ("Rating>=3", "Rating", [0, 1, 1, 1]),
        (" Rating < 3 ", "Rating", [1, 0, 0, 0]),
        ("Rating <= 3.5", "Rating", [1, 1, 0, 0]),
        ("Rating == 5", "Rating", [0, 0, 0, 1]),
        ("Rating != 5", "Rating", [1, 1, 1, 0]),
        ("Rating in [1, 5]", "Rating", [1, 0, 0, 1]),
        ("score > -1e-3", "score", [1, 1, 1, 1]),
        ("`Zip-code` in ['a', \"b\"]", "Zip-code", [1, 1, 0, 1]),
        ("`Zip-code` == 'c'", "Zip-code", [0, 0, 1, 0]),
        ("`Zip-code` in []", "Zip-code", None),
        ("clicked", "clicked", [0, 1, 1, 0]),
        ("bought", "bought", [1, 0, 0, 1]),
        ("bought == false", "bought", [0, 1, 1, 0]),
        ("bought in [true]", "bought", [1, 0, 0, 1]),
    ],
)
def test_expressions(text, column, wanted):
    if wanted is None:
        with pytest.raises(SchemaError):
            parse_label(text)
        return
    expression = parse_label(text)
    assert expression.columns == (column,)
    label = expression.evaluate(FRAME)
    assert label.dtype == np.float32
    assert label.tolist() == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", "> 3", "Rating >", "Rating > 3 4", "Rating > 3x", "Rating > x", "Rating = 3"),
        *("Zip-code == 'a'", "a in", "a in [", "a in [1,]", "a in [1 2]", "a in [b]", "a b"),
        *("__import__('os')", "a.b", "a > 'x", "`a", "a; b", "a in 3", "true", "a > 3 or b > 2"),
    ],
)
def test_everything_else_is_refused_with_the_grammar(text):
    with pytest.raises(SchemaError) as caught:
        parse_label(text)
    assert repr(text) in str(caught.value)
    assert "`column > 3`" in str(caught.value)


@given(st.text(max_size=30))
def test_no_text_does_anything_but_parse_or_be_refused(text):
    with suppress(SchemaError):
        assert parse_label(text).column in text


@pytest.mark.parametrize(
    "text",
    [
        *("Rating == 'x'", "Rating == true", "`Zip-code` == 1", "`Zip-code` > 'a'"),
        *("`Zip-code` >= 'a'", "`Zip-code` <= 'a'", "`Zip-code` < 'a'", "bought > true"),
        *("bought == 1", "`Zip-code` in [1]", "Rating in [1, 'a']", "bought == 'true'"),
    ],
)
def test_literals_must_be_of_the_columns_type(text):
    with pytest.raises(SchemaError, match="cannot be compared"):
        parse_label(text).evaluate(FRAME)


@pytest.mark.parametrize("values", [[None, 1.0, None], [float("nan"), 1.0, None]])
@pytest.mark.parametrize("text", ["c", "c > 3", "c in [1]"])
def test_nulls_are_refused_with_their_number(values, text):
    with pytest.raises(SchemaError, match=r"events\.csv.* missing in 2 of 3 rows"):
        parse_label(text).evaluate(pl.DataFrame({"c": values}), source="events.csv")


@pytest.mark.parametrize(("values", "bad"), [([0, 1, 2], 1), (["0", "1", "1"], 3), ([0.5] * 3, 3)])
def test_a_bare_column_must_hold_zeros_and_ones(values, bad):
    with pytest.raises(SchemaError, match=f"other than 0 and 1 in {bad} of 3"):
        parse_label("c").evaluate(pl.DataFrame({"c": values}))


def test_a_missing_label_column_is_named():
    with pytest.raises(SchemaError, match=r"events\.csv has no column 'Liked'"):
        parse_label("Liked > 3").evaluate(FRAME, source="events.csv")


def test_no_rows_give_no_labels():
    assert parse_label("Rating > 3").evaluate(FRAME.clear()).shape == (0,)
