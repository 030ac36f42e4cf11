import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import Features, FieldLayout, Histories, Layout
from isthmus.errors import DataError

LAYOUT = Layout(
    fields=(
        FieldLayout("item", "categorical", 0, 1, 1, 9),
        FieldLayout("seen", "sequence", 1, 3, 1, 0, slots=3, shares="item"),
    ),
    table_rows=10,
    columns=4,
    values=0,
    history_columns=3,
)


def histories(start, end, items=(1, 2, 3, 4, 5)):
    return Histories(
        "seen",
        np.array(items, dtype=np.int32),
        np.array(start, dtype=np.int64),
        np.array(end, dtype=np.int64),
    )


@given(st.lists(st.integers(1, 9), max_size=12), st.data(), st.integers(1, 6))
def test_the_newest_items_stand_last_behind_padding(items, data, width):
    cuts = st.tuples(st.integers(0, len(items)), st.integers(0, len(items))).map(sorted)
    pairs = data.draw(st.lists(cuts, min_size=1, max_size=5))
    made = histories([a for a, _ in pairs], [b for _, b in pairs], items)
    found = made.gather(np.arange(len(pairs)), width)
    assert found.dtype == np.int32
    for row, (a, b) in zip(found, pairs, strict=True):
        kept = items[a:b][-width:]
        assert row.tolist() == [0] * (width - len(kept)) + kept


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ([0, 2], [1], "do not end"),
        ([2], [1], "do not end"),
        ([0], [6], "outside"),
        ([-1], [1], "outside"),
    ],
)
def test_a_stretch_outside_the_events_is_refused(start, end, said):
    with pytest.raises(DataError, match=said):
        histories(start, end)
    with pytest.raises(DataError, match="items of the history 'seen' is int64"):
        Histories("seen", *(np.zeros(1, dtype=np.int64),) * 3)


def features(rows=None):
    index = np.array([[7], [8], [9]], dtype=np.int32)
    return Features(LAYOUT, index, np.empty((3, 0), np.float32), rows)


def test_a_history_is_of_its_sample_not_of_its_row():
    rows = np.array([2, 0, 2, 1])
    data = features().with_rows(rows).with_histories((histories([0, 0, 0, 3], [0, 2, 5, 4]),))
    index, _ = data.gather(np.array([0, 2, 3]))
    assert index.tolist() == [[9, 0, 0, 0], [9, 3, 4, 5], [8, 0, 0, 4]]
    assert data.with_layout(LAYOUT.pooled()).gather(np.array([2]))[0].tolist() == [[9, 3, 4, 5]]


def test_features_without_their_histories_cannot_be_gathered():
    with pytest.raises(DataError, match="not loaded"):
        features().gather(np.array([0]))
    with pytest.raises(DataError, match="has 2 samples, the features 3"):
        features().with_histories((histories([0, 0], [1, 1]),))
    with pytest.raises(DataError, match="the layout wants"):
        features().with_histories((histories([0] * 3, [1] * 3),) * 2)


def test_the_places_of_a_layout():
    assert (LAYOUT.stored, LAYOUT.slots, LAYOUT.gives) == (1, 4, 4)
    assert LAYOUT.slots_of("seen") == slice(1, 4)
    assert LAYOUT.pooled().slots_of("seen") == slice(1, 2)
    assert [field.name for field in LAYOUT.histories] == ["seen"]
    with pytest.raises(KeyError):
        LAYOUT.slots_of("other")
