"""What two lists of masked ids have in common, also where a partner made some up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.align import matching
from isthmus.errors import BadMessage
from isthmus.link import memory_links

LINK = memory_links("hub", "spoke")[0]
halves = st.binary(min_size=1, max_size=1).map(lambda byte: byte * 8)
values = st.lists(st.tuples(halves, halves), min_size=1, max_size=40, unique=True)


def tags(rows):
    return np.frombuffer(b"".join(map(b"".join, rows)), dtype=np.uint8).reshape(-1, 16)


@settings(deadline=None)
@given(ours=values, theirs=values, cut=st.integers(0, 40))
def test_it_is_the_intersection_whether_first_halves_agree_or_not(ours, theirs, cut):
    here, there = matching.in_common(LINK, [tags(ours)[:cut], tags(ours)[cut:]], [tags(theirs)])
    assert [ours[i] for i in here] == [theirs[i] for i in there]
    assert sorted(ours[i] for i in here) == sorted(set(ours) & set(theirs))


@pytest.mark.parametrize("other", [[0, 0], [0, 1, 1], [1, 0, 1]])
def test_a_value_twice_is_refused(other):
    rows = tags([(b"a" * 8, b"b" * 8), (b"c" * 8, b"d" * 8)])
    for ours, theirs in ((rows, rows[other]), (rows[other], rows)):
        with pytest.raises(BadMessage, match="spoke sent the same point twice"):
            matching.in_common(LINK, [ours], [theirs])


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16])
def test_chunks_hold_all_ids(count):
    sizes = [matching.length(count, i, 8) for i in range(-2, 5)]
    assert sum(sizes) == count
    assert sum(size > 0 for size in sizes) == matching.chunks(count, 8)
