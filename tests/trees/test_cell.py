"""Sums of few rows are not shown: bins are put together, and what is shown is still exact."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.trees.made import OPTIONS, PARTS, TABLE, Y, pooled_model, split_models

from isthmus.errors import JobError
from isthmus.metrics import auc
from isthmus.trees import TreeOptions
from isthmus.trees.sources import PartnerColumns


def shown(monkeypatch, options):
    """All partner histograms that the label party got in a fit, and the model's parts."""
    seen = []
    make = PartnerColumns._histogram

    def note(self, node, theirs, ends, allowed):
        found = make(self, node, theirs, ends, allowed)
        rows, which = self._nodes.learnt(node), self._round.columns
        seen.append((self.link.partner, which, self._numbers, rows, ends, found))
        return found

    monkeypatch.setattr(PartnerColumns, "_histogram", note)
    parts, predicted = split_models(options)
    return seen, parts, predicted


@pytest.mark.parametrize("cell", [1, 6, 30])
def test_every_sum_is_of_enough_rows(monkeypatch, cell):
    options = replace(OPTIONS, cell=cell, columns=0.7)
    seen, parts, _ = shown(monkeypatch, options)
    assert len(seen) > 20
    fewest = []
    for partner, columns, numbers, rows, ends, found in seen:
        bins = parts[partner].bins
        chosen = columns or range(len(bins))
        begins = np.cumsum([0, *(bins[column].width for column in chosen)])
        for column, (start, stop) in zip(chosen, pairwise(begins), strict=True):
            lasts = np.flatnonzero(ends[start:stop])
            group = np.searchsorted(lasts, bins[column].codes(TABLE)[rows])
            if len(lasts) > 1:
                fewest.append(np.bincount(group, minlength=len(lasts)).min())
            by_hand = np.zeros((len(lasts), 2), np.int64)
            np.add.at(by_hand, group, numbers.values[rows])
            np.testing.assert_array_equal(found.sums[start:stop][lasts], by_hand)
        assert (found.sums[~ends] == 0).all()
    assert min(fewest) >= cell or cell == 1


def test_a_coarser_model_is_not_much_worse():
    parts, predicted = split_models(replace(OPTIONS, cell=10))
    exact, reference = pooled_model(OPTIONS)
    assert parts["alice"].trees != exact.trees
    assert auc(Y, predicted) > auc(Y, reference) - 0.04
    assert {node.party for tree in parts["alice"].trees for node in tree} == {-1, 0, 1, 2}


def test_without_enough_rows_there_is_nothing_to_split_by():
    parts, _ = split_models(replace(OPTIONS, cell=500))
    assert not parts["bob"].cuts
    assert not parts["carol"].cuts
    assert parts["alice"].cuts
    assert set(PARTS) == set(parts)


def test_rows_that_only_the_label_party_leaves_out_do_not_count():
    with pytest.raises(JobError, match="cell counts rows that goss leaves out"):
        TreeOptions(cell=5, goss=(0.2, 0.1))
