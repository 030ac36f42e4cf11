from datetime import date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import Encoder, fit_encoder, load_features
from isthmus.errors import DataError, SchemaError, StorageError

TAGS = {"kind": "multi_hot", "separator": "|"}


def all_rows(frame):
    return np.arange(len(frame))


def codes(frame, kind, train=None, column="c", **options):
    """Codes of a single field, relative to its first row (padding is -1)."""
    train = all_rows(frame) if train is None else np.array(train, dtype=np.int64)
    encoder = fit_encoder(frame, {column: {"kind": kind, **options}}, train)
    return (encoder.encode(frame).index - encoder.layout.fields[0].first_row).tolist()


def column(values, **options):
    return pl.DataFrame({"c": pl.Series(values, **options)})


def test_a_vocabulary_is_of_the_training_rows_and_sorted_by_text():
    frame = column(["b", "a", None, "", "c", "b"])
    assert codes(frame, "categorical", train=[0, 1, 2]) == [[3], [2], [0], [0], [1], [3]]


def test_rare_values_fold_into_unknown():
    assert codes(column(["a", "a", "b"]), "categorical", min_count=2) == [[2], [2], [1]]


@given(st.permutations(range(6)))
def test_the_order_of_training_rows_does_not_matter(order):
    frame = column(["x", "y", "z", "x", "w", None])
    features = {"c": "categorical"}
    one = fit_encoder(frame, features, all_rows(frame)).encode(frame)
    two = fit_encoder(frame, features, np.array(order)).encode(frame)
    np.testing.assert_array_equal(one.index, two.index)


@pytest.mark.parametrize(
    "other",
    [
        column([7, 10, None, 8], dtype=pl.Int16),
        column([7.0, 10.0, None, 8.0]),
        column([7.0, 10.0, float("nan"), 8.0], dtype=pl.Float32),
        column(["7", "10", "", "8"]),
        column(["7", "10", None, "8"], dtype=pl.Categorical),
    ],
)
def test_a_category_is_the_same_in_any_type(other):
    frame = column([7, 10, 9])
    encoder = fit_encoder(frame, {"c": "categorical"}, all_rows(frame))
    # Sorted as text: "10", "7", "9".
    assert (encoder.encode(other).index - 1).tolist() == [[3], [2], [0], [1]]


def test_a_text_with_leading_zeros_is_not_the_integer():
    frame = column(["007", "7"])
    encoder = fit_encoder(frame, {"c": "categorical"}, all_rows(frame))
    assert (encoder.encode(column([7])).index - 1).tolist() == [[3]]
    only = fit_encoder(frame, {"c": "categorical"}, np.array([0]))
    assert (only.encode(column([7])).index - 1).tolist() == [[1]]


@pytest.mark.parametrize(
    "values",
    [
        [True, False, None],
        [date(2020, 2, 1), date(2020, 1, 1), None],
        [datetime(2020, 2, 1, 3), datetime(2020, 2, 1, 2, 59, 59, 1), None],
        [1.5, -2.25, float("nan")],
    ],
)
def test_other_types_are_categories_too(values):
    assert codes(column(values, strict=False), "categorical") == [[3], [2], [0]]


def test_a_type_that_cannot_be_a_category_is_refused():
    frame = pl.DataFrame({"c": [{"a": 1}]})
    with pytest.raises(SchemaError, match=r"'c' is of type Struct.*cannot be a category"):
        codes(frame, "categorical")


def test_hash_buckets_need_no_vocabulary_and_stay_the_same():
    frame = column(["a", "b", None, "a"])
    found = codes(frame, "categorical", train=[], buckets=1000)
    # BLAKE2b does not change: these are what an encoder made years ago gave.
    assert found == [[2 + 0x40F89E395B66422F % 1000], [found[1][0]], [0], [found[0][0]]]
    assert all(2 <= code[0] < 1002 for code in (found[0], found[1]))


def test_numbers_are_standardised_by_the_training_rows():
    frame = column([1.0, 3.0, None, 9.0])
    encoder = fit_encoder(frame, {"c": "numeric"}, np.array([0, 1, 2]))
    data = encoder.encode(frame)
    assert data.values.tolist() == [[-1.0], [1.0], [1.0], [7.0]]
    assert (data.index - 1).tolist() == [[0], [0], [1], [0]]
    assert encoder.layout.fields[0].value_column == 0


@pytest.mark.parametrize("constant", [0.1, 5.0, 1e12, 0.0])
def test_a_constant_column_is_centred_and_not_blown_up(constant):
    frame = column([constant] * 3 + [constant + 1])
    data = fit_encoder(frame, {"c": "numeric"}, np.array([0, 1, 2])).encode(frame)
    np.testing.assert_allclose(data.values[:, 0], [0, 0, 0, 1], atol=1e-3)


@pytest.mark.parametrize(
    "series",
    [
        pl.Series([True, False, None]),
        pl.Series(["1", " 0 ", ""]),
        pl.Series(["1", "0", "nan"]),
        pl.Series([1, 0, None], dtype=pl.UInt8),
        pl.Series(["1", "0", None]).cast(pl.Decimal(5, 2)),
    ],
)
def test_numbers_come_in_many_types(series):
    frame = pl.DataFrame({"c": series})
    data = fit_encoder(frame, {"c": "numeric"}, all_rows(frame)).encode(frame)
    assert data.values[:, 0].tolist() == [1.0, -1.0, 1.0]
    assert data.index[:, 0].tolist() == [1, 1, 2]


def test_a_numeric_column_without_training_values_is_all_missing():
    frame = column([None, None, 4.0])
    data = fit_encoder(frame, {"c": "numeric"}, np.array([0, 1])).encode(frame)
    assert data.values[:, 0].tolist() == [1.0, 1.0, 4.0]


def test_text_in_a_numeric_column_names_row_and_count_but_never_the_value():
    frame = column(["1", "2", "secret", "", "also-secret"])
    with pytest.raises(SchemaError) as caught:
        fit_encoder(frame, {"c": "numeric"}, np.array([0]), source="people.csv")
    message = str(caught.value)
    assert "people.csv: numeric column 'c'" in message
    assert "in 2 rows" in message
    assert "first is row 3" in message
    assert "secret" not in message


def test_text_in_a_numeric_column_is_refused_in_a_later_table_too():
    encoder = fit_encoder(column([1, 2]), {"c": "numeric"}, np.array([0, 1]))
    with pytest.raises(SchemaError, match="first is row 2"):
        encoder.encode(column(["1", "x", "y"]), chunk=1)


@pytest.mark.parametrize("values", [[1.0, float("inf")], ["1", "-inf"], ["1", "1e999"]])
def test_infinity_is_refused(values):
    with pytest.raises(SchemaError, match="infinity in 1 rows, the first is row 2"):
        fit_encoder(column(values), {"c": "numeric"}, np.array([0]))


def test_numbers_whose_variance_overflows_are_refused():
    with pytest.raises(SchemaError, match="too large"):
        fit_encoder(column([1e300, -1e300]), {"c": "numeric"}, np.array([0, 1]))


def test_dates_are_not_numbers():
    with pytest.raises(SchemaError, match="not a number"):
        fit_encoder(column([date(2020, 1, 1)]), {"c": "numeric"}, np.array([0]))


def test_tokens_are_padded_and_no_token_is_missing():
    frame = column(["b|a", "c", "", None, " | ", "b|b"])
    assert codes(frame, "multi_hot", separator="|") == [
        [3, 2],
        [4, -1],
        [0, -1],
        [0, -1],
        [0, -1],
        [3, -1],
    ]
    assert fit_encoder(frame, {"c": TAGS}, all_rows(frame)).encode(frame).index[1, 1] == 0


def test_tokens_that_training_did_not_have_share_unknown():
    frame = column(["a|b", "x|a|y|b"])
    assert codes(frame, "multi_hot", train=[0], separator="|") == [[2, 3], [1, 2]]


def test_max_tokens_caps_the_width():
    assert codes(column(["a|b|c", "c"]), "multi_hot", separator="|", max_tokens=2) == [
        [2, 3],
        [4, -1],
    ]


def test_lists_are_multi_hot_without_a_separator():
    frame = column([["y", "x"], [], None, ["x", None]])
    assert codes(frame, "multi_hot") == [[3, 2], [0, -1], [0, -1], [2, -1]]


def test_text_needs_a_separator():
    with pytest.raises(SchemaError, match="has no separator"):
        codes(column(["a|b"]), "multi_hot")


MIXED = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", None]),
        st.one_of(st.none(), st.floats(-1e6, 1e6)),
        st.one_of(st.none(), st.lists(st.sampled_from("pqrs"), max_size=4).map("|".join)),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=30,
)


def mixed(rows):
    return pl.DataFrame(
        rows,
        schema={"c": pl.String, "n": pl.Float64, "t": pl.String, "i": pl.Int64},
        orient="row",
    )


SPECS = {"c": "categorical", "n": "numeric", "t": TAGS, "i": "categorical"}


@given(MIXED, st.integers(1, 7))
def test_every_cell_means_what_the_layout_says(rows, chunk):
    frame = mixed(rows)
    encoder = fit_encoder(frame, SPECS, all_rows(frame), chunk=chunk)
    data, layout = encoder.encode(frame, chunk=chunk), encoder.layout
    assert data.index.shape == (len(rows), layout.columns)
    used = {0}
    for field in layout.fields:
        block = data.index[:, field.columns]
        own = set(range(field.first_row, field.first_row + field.rows))
        assert not own & used
        used |= own
        assert set(block.ravel().tolist()) <= own | {0}
        assert (block[:, 0] > 0).all()
    assert used == set(range(layout.table_rows))
    texts = sorted({row[0] for row in rows} - {None})
    start = layout.field("c").first_row
    for row, index in zip(rows, data.index[:, 0], strict=True):
        assert index == start + (0 if row[0] is None else 2 + texts.index(row[0]))
    tokens = sorted({token for row in rows if row[2] for token in row[2].split("|")})
    field = layout.field("t")
    for row, index in zip(rows, data.index[:, field.columns], strict=True):
        wanted = {field.first_row + 2 + tokens.index(t) for t in (row[2] or "").split("|") if t}
        assert set(index[index > 0].tolist()) == (wanted or {field.first_row})
    assert np.isfinite(data.values).all()


@given(MIXED, st.data())
def test_chunks_files_rows_and_saved_encoders_change_nothing(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("encoded")
    frame = mixed(rows)
    train = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1))), dtype=np.int64)
    encoder = fit_encoder(frame, SPECS, train)
    whole = encoder.encode(frame)
    encoder.save(folder / "encoder.json")
    loaded = Encoder.load(folder / "encoder.json")
    assert loaded.layout == encoder.layout
    mapped = loaded.encode(frame, folder / "features", chunk=3)
    np.testing.assert_array_equal(mapped.index, whole.index)
    np.testing.assert_array_equal(mapped.values, whole.values)
    some = encoder.encode(frame, rows=train, chunk=2)
    np.testing.assert_array_equal(some.index, whole.index[train])
    np.testing.assert_array_equal(some.values, whole.values[train])
    again = load_features(folder / "features")
    assert again.layout == encoder.layout
    np.testing.assert_array_equal(again.index, whole.index)


def test_files_are_mapped_and_nothing_half_written_is_left(tmp_path):
    frame = mixed([("a", 1.0, "p", 1)])
    data = fit_encoder(frame, SPECS, np.array([0])).encode(frame, tmp_path)
    assert not data.index.flags.owndata
    assert not data.index.flags.writeable
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.npy",
        "layout.json",
        "values.npy",
    ]


def test_a_party_without_features_or_rows_is_fine(tmp_path):
    frame = mixed([("a", 1.0, "p", 1)])
    none = fit_encoder(frame, {"c": "ignore"}, np.array([0])).encode(frame, tmp_path / "a")
    assert none.gather(np.array([0]))[0].shape == (1, 0)
    empty = fit_encoder(frame, SPECS, np.array([0])).encode(frame.clear(), tmp_path / "b")
    assert len(empty) == 0


def test_a_missing_column_names_the_table_and_its_columns(tmp_path):
    frame = mixed([("a", 1.0, "p", 1)])
    with pytest.raises(SchemaError, match=r"people.csv has no column 'z'.*c, n, t, i"):
        fit_encoder(frame, {"z": "numeric"}, np.array([0]), source="people.csv")
    encoder = fit_encoder(frame, SPECS, np.array([0]))
    with pytest.raises(SchemaError, match="no column 't'"):
        encoder.encode(frame.drop("t"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("row", [-1, 2])
def test_training_rows_outside_the_table_are_refused(row):
    with pytest.raises(DataError, match="outside the 2 rows"):
        fit_encoder(column(["a", "b"]), {"c": "categorical"}, np.array([row]))


def test_a_full_disk_leaves_no_features(tmp_path, full_disk):
    frame = column(np.arange(20_000))
    encoder = fit_encoder(frame, {"c": "numeric"}, all_rows(frame))
    with full_disk(10_000), pytest.raises(StorageError, match=r"values.npy|index.npy"):
        encoder.encode(frame, tmp_path)
    assert not list(tmp_path.iterdir())
    with full_disk(50), pytest.raises(StorageError, match=r"encoder\.json"):
        encoder.save(tmp_path / "encoder.json")
    assert not list(tmp_path.iterdir())


def test_a_failed_second_encoding_does_not_pass_for_the_first(tmp_path, full_disk):
    frame = column(np.arange(20_000))
    encoder = fit_encoder(frame, {"c": "numeric"}, all_rows(frame))
    encoder.encode(frame, tmp_path)
    with full_disk(10_000), pytest.raises(StorageError):
        encoder.encode(frame, tmp_path)
    with pytest.raises(StorageError, match="cannot read the layout"):
        load_features(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 2, "fields": []}', b"\xff", b"[]"])
def test_a_broken_encoder_file_is_named(tmp_path, content):
    path = tmp_path / "encoder.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"encoder\.json"):
        Encoder.load(path)


def test_a_missing_encoder_file_is_named(tmp_path):
    with pytest.raises(StorageError, match="cannot read the encoder"):
        Encoder.load(tmp_path / "encoder.json")


@pytest.mark.parametrize("name", ["index.npy", "values.npy"])
def test_features_cut_short_are_refused(tmp_path, name):
    frame = mixed([("a", 1.0, "p", 1)] * 10)
    fit_encoder(frame, SPECS, np.array([0])).encode(frame, tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    for content in (whole[:-4], b"", b"not an array"):
        path.write_bytes(content)
        with pytest.raises(StorageError, match=name):
            load_features(tmp_path)
    np.save(path, np.zeros((10, 9)))
    with pytest.raises(StorageError, match=name):
        load_features(tmp_path)


def test_features_of_two_encodings_are_refused(tmp_path):
    frame = mixed([("a", 1.0, "p", 1)] * 10)
    encoder = fit_encoder(frame, SPECS, np.array([0]))
    encoder.encode(frame, tmp_path / "a")
    encoder.encode(frame[:5], tmp_path / "b")
    (tmp_path / "b" / "index.npy").replace(tmp_path / "a" / "index.npy")
    with pytest.raises(StorageError, match="do not belong together"):
        load_features(tmp_path / "a")
