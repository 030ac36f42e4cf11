"""Sequences in the encoder: newest item last, padding in front, rows shared with another field."""

import numpy as np
import polars as pl
import pytest

from isthmus.data import fit_encoder
from isthmus.data.build_history import build_history
from isthmus.data.encoder import Encoder, load_features
from isthmus.data.event_tables import read_events
from isthmus.data.fields import NO_CODE, Values
from isthmus.data.history_files import load_histories, save_histories
from isthmus.data.sequences import fit_list
from isthmus.data.vectors import VectorField
from isthmus.errors import StorageError

LISTS = pl.Series("seen", [["a", "b", "a"], [], None, ["c"], ["b", "a", "c", "a"]])
FIT = {"length": 3, "min_count": 1, "buckets": None, "shared": None, "source": "x", "chunk": 2}
EVENTS = pl.DataFrame(
    {
        "user": [1, 1, 1, 2, 2],
        "item": ["a", "b", "new", "b", "z"],
        "when": [1, 2, 3, 1, 2],
    }
)


@pytest.mark.parametrize("column", [LISTS, LISTS.list.join("|")], ids=["lists", "text"])
def test_the_last_items_stand_last(column):
    field = fit_list(column.head(4), separator="|", **FIT)
    assert field.known.vocabulary.to_list() == ["a", "b", "c"]
    codes, _ = field.encode(column, "x")
    a, b, c, nothing = 2, 3, 4, NO_CODE
    assert codes.tolist() == [
        [a, b, a],
        [nothing] * 3,
        [nothing] * 3,
        [nothing, nothing, c],
        [a, c, a],
    ]


def test_an_item_counts_once_a_row():
    field = fit_list(LISTS, separator=None, **{**FIT, "min_count": 3})
    # "a" stands four times, but in two rows.
    assert field.known.vocabulary.to_list() == []


def histories(shared=None, **more):
    events, owner = read_events(
        EVENTS, pl.Series(["1", "1", "2"]), of="item", by="user", time="when"
    )
    at = np.array([3.0, 9.0, 2.0])
    return build_history(
        "history", events, owner, at, np.array([0, 2]), length=2, shared=shared, **more
    )


def test_the_vocabulary_holds_what_training_histories_hold():
    built = histories()
    # "new" and "z" stand in no training sample's history.
    assert built.field.known.vocabulary.to_list() == ["a", "b"]
    assert built.codes.tolist() == [2, 3, 1, 3, 1]
    assert histories(min_count=2).field.known.vocabulary.to_list() == ["b"]


def test_a_shared_vocabulary_is_the_other_fields():
    known = Values(pl.Series(["b", "new"]))
    built = histories(("MovieID", known))
    assert built.field.rows == 0
    assert built.codes.tolist() == [1, 2, 3, 2, 1]


def test_hashed_items_need_no_vocabulary():
    built = histories(buckets=7)
    assert built.field.rows == 9
    assert built.codes.min() >= 2


@pytest.fixture
def encoded(tmp_path):
    frame = pl.DataFrame(
        {
            "MovieID": ["a", "b", "c"],
            "Age": [1.0, 2.0, 3.0],
            "Poster": [[1.0, 2.0], None, [3.0, 4.0]],
        }
    )
    train = np.arange(2)
    encoder = fit_encoder(frame, {"MovieID": "categorical", "Age": "numeric"}, train)
    poster = VectorField("Poster", 2, None, 2.0)
    movie, age = encoder.fields
    built = histories(("MovieID", movie.known))
    encoder = Encoder((movie, poster, age), (built.field,))
    features = encoder.encode(frame, tmp_path)
    first = encoder.layout.field("history").first_row
    save_histories(tmp_path, [built.placed(first)])
    return tmp_path, encoder, features


def test_a_batch_has_stored_columns_then_histories(encoded):
    folder, encoder, features = encoded
    layout = encoder.layout
    assert [field.name for field in layout.fields] == ["MovieID", "Age", "history"]
    assert (layout.stored, layout.columns, layout.values) == (2, 4, 3)
    assert layout.vectors[0].start == 1
    movie, sequence = layout.field("MovieID"), layout.field("history")
    assert (sequence.first_row, sequence.rows, sequence.slots) == (movie.first_row, 0, 2)
    full = load_features(folder).with_histories(load_histories(folder, layout))
    index, values = full.gather(np.array([0, 1, 2]))
    a, b, unknown = movie.first_row + 2, movie.first_row + 3, movie.first_row + 1
    assert index[:, sequence.columns].tolist() == [[a, b], [b, unknown], [0, b]]
    np.testing.assert_allclose(values[:, 1:], [[0.5, 1.0], [0.0, 0.0], [1.5, 2.0]])
    assert features.layout == layout


def test_an_encoder_file_gives_the_same_encoder(encoded):
    folder, encoder, _ = encoded
    encoder.save(folder / "encoder.json")
    again = Encoder.load(folder / "encoder.json")
    assert again.layout == encoder.layout
    assert again.histories[0].known.vocabulary.to_list() == ["a", "b"]
    assert (again.fields[1].width, again.fields[1].scale) == (2, 2.0)


def test_spoilt_history_files_are_refused(encoded):
    folder, encoder, _ = encoded
    np.save(folder / "0.spans.npy", np.array([[0, 99]], dtype=np.int64))
    with pytest.raises(StorageError, match="do not belong together"):
        load_histories(folder, encoder.layout)
    (folder / "0.items.npy").unlink()
    with pytest.raises(StorageError, match="missing"):
        load_histories(folder, encoder.layout)


def test_a_list_column_may_share_the_rows_of_a_category(tmp_path):
    frame = pl.DataFrame(
        {
            "Seen": [["b", "a"], ["zzz"], []],
            "Item": ["a", "b", "a"],
            "Taste": [[1.0], [2.0], None],
        }
    )
    features = {
        "Seen": {"kind": "sequence", "length": 2, "share": "Item"},
        "Taste": {"kind": "vector", "width": 1},
        "Item": "categorical",
    }
    encoder = fit_encoder(frame, features, np.arange(2))
    seen, item = encoder.layout.fields
    assert (seen.name, seen.rows, seen.first_row) == ("Seen", 0, item.first_row)
    index, values = encoder.encode(frame).gather(np.arange(3))
    a, b, unknown = item.first_row + 2, item.first_row + 3, item.first_row + 1
    assert index[:, seen.columns].tolist() == [[b, a], [0, unknown], [0, 0]]
    assert index[:, item.columns].tolist() == [[a], [b], [a]]
    np.testing.assert_allclose(values[:, 0], np.array([1, 2, 0]) / np.sqrt(2.5), rtol=1e-6)
    encoder.save(tmp_path / "encoder.json")
    assert Encoder.load(tmp_path / "encoder.json").layout == encoder.layout
