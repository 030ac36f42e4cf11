import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import Features, FieldLayout, Layout
from isthmus.errors import DataError

LAYOUT = Layout(
    fields=(
        FieldLayout("colour", "categorical", 0, 1, 1, 5),
        FieldLayout("tags", "multi_hot", 1, 2, 6, 4),
        FieldLayout("age", "numeric", 3, 1, 10, 2, 0),
    ),
    table_rows=12,
    columns=4,
    values=1,
)


def features(rows=None, n=7):
    index = np.arange(n * 4, dtype=np.int32).reshape(n, 4)
    values = np.arange(n, dtype=np.float32).reshape(n, 1)
    return Features(LAYOUT, index, values, rows)


@given(st.lists(st.integers(0, 6), max_size=20))
def test_gather_takes_the_samples_in_order(samples):
    samples = np.array(samples, dtype=np.int64)
    data = features()
    index, values = data.gather(samples)
    np.testing.assert_array_equal(index, data.index[samples])
    np.testing.assert_array_equal(values, data.values[samples])
    assert index.dtype == np.int32
    assert values.dtype == np.float32


def test_gather_goes_through_rows_when_many_samples_share_one():
    data = features(np.array([3, 3, 0, 6], dtype=np.int64))
    index, _ = data.gather(np.array([1, 2]))
    np.testing.assert_array_equal(index, data.index[[3, 0]])
    assert len(data) == 4


def test_with_rows_shows_the_same_arrays_in_another_order():
    data = features()
    other = data.with_rows(np.array([5], dtype=np.int64))
    assert other.index is data.index
    assert len(other) == 1


def test_the_batch_is_a_copy():
    data = features()
    index, values = data.gather(np.array([0]))
    index[:], values[:] = -1, -1
    assert data.index[0, 1] == 1
    assert data.values[0, 0] == 0


@pytest.mark.parametrize("sample", [-1, 7, 2**40])
def test_a_sample_outside_is_refused(sample):
    with pytest.raises(IndexError, match=r"outside 0\.\.6"):
        features().gather(np.array([0, sample]))


@pytest.mark.parametrize("row", [-1, 7])
def test_rows_that_point_outside_are_refused(row):
    with pytest.raises(DataError, match="outside the 7 encoded rows"):
        features(np.array([0, row], dtype=np.int64))


def test_rows_of_another_dtype_are_refused():
    with pytest.raises(DataError, match="wanted int64"):
        features(np.array([0, 1], dtype=np.uint32))


def test_rows_may_be_of_32_bits():
    data = features(np.array([3, 0, 6], dtype=np.int32))
    index, _ = data.gather(np.array([2, 0], dtype=np.int32))
    np.testing.assert_array_equal(index, data.index[[6, 3]])


@pytest.mark.parametrize(
    ("index", "values"),
    [
        (np.zeros((3, 4), np.int64), np.zeros((3, 1), np.float32)),
        (np.zeros((3, 5), np.int32), np.zeros((3, 1), np.float32)),
        (np.zeros((3, 4), np.int32), np.zeros((3, 2), np.float32)),
        (np.zeros((3, 4), np.int32), np.zeros((2, 1), np.float32)),
    ],
)
def test_arrays_that_do_not_fit_the_layout_are_refused(index, values):
    with pytest.raises(DataError):
        Features(LAYOUT, index, values)


def test_a_field_is_found_by_name():
    assert LAYOUT.field("tags").columns == slice(1, 3)
    with pytest.raises(KeyError):
        LAYOUT.field("shape")
