"""Cuckoo tables: each id in one of its bins, whatever the ids, and a fresh seed where none fits."""

import hashlib
from math import comb, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.align import cuckoo


def values(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 3000), seed=st.integers(0, 2**32))
def test_every_id_lies_in_one_of_its_bins_and_no_bin_holds_two(count, seed):
    ids = values(count, seed)
    table = cuckoo.build(ids)
    bins = cuckoo.bins(count)
    assert table.ids.shape == (bins,)
    taken = np.flatnonzero(table.ids != cuckoo.EMPTY)
    who = table.ids[taken]
    assert sorted(who.tolist()) == list(range(count))
    homes = cuckoo.places(table.seed, ids, bins)
    assert (homes[:, who] == taken).any(axis=0).all()


def test_the_three_bins_lie_in_the_three_parts_evenly():
    bins = cuckoo.bins(30_000)
    homes = cuckoo.places(bytes(16), values(30_000), bins)
    part = bins // 3
    for number, row in enumerate(homes):
        assert row.min() >= number * part
        assert row.max() < (number + 1) * part
        loads = np.bincount((row - number * part) * 10 // part)
        assert np.abs(loads - 3000).max() < 6 * np.sqrt(3000)
    other = cuckoo.places(b"\1" + bytes(15), values(30_000), bins)
    assert (other != homes).mean() > 0.99


@pytest.mark.parametrize("ids", [1, 806, 807, 10_000, 1_000_000])
def test_sizes(ids):
    bins = cuckoo.bins(ids)
    assert bins % 3 == 0
    assert bins >= max(1.27 * ids, 1026)
    assert bins <= max(1.27 * ids + 3, 1026)


def test_four_ids_on_the_same_bins_are_too_rare_to_matter_in_the_smallest_table():
    largest = max(n for n in range(1, 1000) if cuckoo.bins(n) == 1026)
    assert log2(comb(largest, 4)) - 9 * log2(1026 // 3) < -41


def test_where_no_table_is_found_another_seed_is_drawn(monkeypatch):
    seen, settle = [], cuckoo._settle

    def fails_twice(homes, count):
        seen.append(homes)
        return None if len(seen) < 3 else settle(homes, count)

    monkeypatch.setattr(cuckoo, "_settle", fails_twice)
    table = cuckoo.build(values(100))
    assert len(seen) == 3
    assert (seen[0] != seen[1]).any()
    np.testing.assert_array_equal(cuckoo.places(table.seed, values(100), 1026), seen[2])


def test_ids_that_cannot_be_placed_are_given_up(monkeypatch):
    monkeypatch.setattr(cuckoo, "_MOST_ROUNDS", 50)
    homes = np.repeat(np.array([[0], [400], [800]], np.int32), 4, axis=1)
    assert cuckoo._settle(homes, 1026) is None
    assert cuckoo._settle(homes[:, :3], 1026) is not None


def test_digests_are_tagged_hashes(monkeypatch):
    monkeypatch.setattr(cuckoo, "_BATCH", 3)
    ids = [f"id{i}".encode() for i in range(8)]
    tag = b"isthmus.align.id.sha256.v1\x00"
    expected = b"".join(hashlib.sha256(tag + i).digest()[:16] for i in ids)
    assert cuckoo.digests(ids).tobytes() == expected
