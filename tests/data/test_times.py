"""Times as numbers, of every type that a file may bring."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from isthmus.data.times import times_of
from isthmus.errors import SchemaError

MAY = datetime(2024, 5, 31, 18, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-31T18:30:00",
        "2024-05-31 18:30:00.0",
        "2024-05-31T18:30",
        "2024-05-31T18:30:00Z",
        "2024-05-31T20:30:00+02:00",
        "2024-05-31 20:30:00+0200",
    ],
)
def test_iso_text_is_seconds_in_utc(text):
    assert times_of(pl.Series("t", [text, None, ""]), "x")[0] == MAY
    assert np.isnan(times_of(pl.Series("t", [text, None, ""]), "x")[1:]).all()


def test_dates_and_text_of_dates_agree():
    dates = times_of(pl.Series("t", [date(2024, 5, 31), None]), "x")
    texts = times_of(pl.Series("t", ["2024-05-31", None]), "x")
    assert dates[0] == texts[0] == MAY - 18.5 * 3600
    assert np.isnan(dates[1])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetimes_with_and_without_a_zone(unit):
    plain = pl.Series("t", [datetime(2024, 5, 31, 18, 30)], dtype=pl.Datetime(unit))
    zoned = plain.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    assert times_of(plain, "x")[0] == times_of(zoned, "x")[0] == MAY


def test_numbers_stay_as_they_are():
    assert times_of(pl.Series("t", [3, 1, None]), "x")[:2].tolist() == [3.0, 1.0]
    assert times_of(pl.Series("t", ["3.5", " 1 "]), "x").tolist() == [3.5, 1.0]
    big = times_of(pl.Series("t", [2**60, 2**60 + 1, 2**60 + 2**10]), "x")
    assert (np.diff(big) >= 0).all()


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pl.Series("t", ["31.05.2024", "2024-05-31"]), "no time in 1 rows"),
        (pl.Series("t", [1.0, float("inf")]), "infinity"),
        (pl.Series("t", [[1], [2]]), "which is no time"),
        (pl.Series("t", [True]), "which is no time"),
    ],
)
def test_what_is_no_time_is_refused(column, said):
    with pytest.raises(SchemaError, match=said):
        times_of(column, "views.csv")
