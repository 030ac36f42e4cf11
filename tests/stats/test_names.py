"""Columns may have the names that Polars gives to what it counts."""

import numpy as np
import polars as pl
import pytest

from isthmus.stats import BinningOptions, fit_bins, profile
from isthmus.trees import binning


@pytest.mark.parametrize("name", ["count", "level", "rows", "len", "index"])
def test_a_column_of_categories_may_have_any_name(name):
    table = pl.DataFrame({name: ["a", "b", "b", "c"] * 30})
    (found,) = profile(table).columns
    assert found.distinct == 3
    (bins,) = binning.fit_bins(table, np.ones(120, np.bool_), 8, 5)
    assert bins.categories == ("b", "a")
    assert list(fit_bins(table, BinningOptions())) == [name]
