"""Vectors of a table: read from lists, arrays and text, scaled by the training rows, checked."""

import numpy as np
import polars as pl
import pytest

from isthmus.data.vectors import check_vectors, fit_vector, vectors_of
from isthmus.errors import SchemaError

ROWS = [[3.0, 4.0], None, [0.0, 5.0]]
COLUMNS = [
    pl.Series("v", ROWS),
    pl.Series("v", ROWS, dtype=pl.Array(pl.Float32, 2)),
    pl.Series("v", ["3 4", "", "0 5.0"]),
]


@pytest.mark.parametrize("column", COLUMNS, ids=["list", "array", "text"])
def test_vectors_are_divided_by_the_root_mean_square_of_training(column):
    field = fit_vector(column.head(2), 2, " ", "x", chunk=1)
    assert field.scale == pytest.approx(np.sqrt(25 / 2))
    found = field.encode(column, "x")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found * field.scale, [[3, 4], [0, 0], [0, 5]], rtol=1e-6)


def test_a_training_part_without_vectors_scales_by_one():
    assert fit_vector(pl.Series("v", [None, None]), 3, None, "x", chunk=9).scale == 1.0
    assert fit_vector(pl.Series("v", [[0.0], [0.0]]), 1, None, "x", chunk=9).scale == 1.0


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pl.Series("v", [[1.0, 2.0], None, [1.0]]), "not of width 2 in 1 rows, the first is row 3"),
        (pl.Series("v", [[1.0, 2.0], [1.0, float("nan")]]), "no finite number .* row 2"),
        (pl.Series("v", [[1.0, 2.0], [1.0, float("inf")]]), "no finite number .* row 2"),
        (pl.Series("v", [[1.0, 2.0], [1.0, None]]), "no finite number .* row 2"),
        (pl.Series("v", ["1 2", "1 x"]), "no finite number .* row 2"),
        (pl.Series("v", [1.0, 2.0]), "holds no vectors"),
        (pl.Series("v", [["a", "b"]]), "holds no vectors"),
    ],
)
def test_bad_vectors_are_refused_with_the_row(column, said):
    with pytest.raises(SchemaError, match=said):
        check_vectors(column, 2, " ", "x", chunk=1)


def test_text_needs_a_separator():
    with pytest.raises(SchemaError, match="no separator"):
        vectors_of(pl.Series("v", ["1 2"]), 2, None, "x")
