"""Pairwise masks: they cancel, look uniform, and no word of them comes twice."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.crypto.curve25519 import LowOrderPoint
from isthmus.crypto.masks import MaskKey, Masks, Roster, _fill

NAMES = ("alice", "carol", "dave", "eve", "frank")


def agreed(n=3, purpose="train"):
    keys = [MaskKey() for _ in range(n)]
    roster = Roster(purpose, NAMES[:n], tuple(key.public for key in keys))
    return [key.masks(name, roster) for key, name in zip(keys, NAMES[:n], strict=True)]


def mask_of(masks, topic="cut", count=2000, dtype=np.uint32):
    words = np.zeros(count, dtype)
    masks.add_to(words, topic)
    return words


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 5),
    count=st.integers(0, 40),
    dtype=st.sampled_from([np.uint32, np.uint64]),
    messages=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_the_sum_of_masked_words_is_the_sum_of_the_words(n, count, dtype, messages, seed):
    rng = np.random.default_rng(seed)
    parties = agreed(n)
    for number in range(messages):
        top = np.iinfo(dtype).max
        plain = [rng.integers(0, top, count, dtype, endpoint=True) for _ in range(n)]
        masked = [words.copy() for words in plain]
        for masks, words in zip(parties, masked, strict=True):
            assert masks.add_to(words, "cut") == number
        np.testing.assert_array_equal(sum(masked), sum(plain))


def test_masks_look_uniform():
    words = mask_of(agreed(2)[0], count=200_000)
    bits = np.unpackbits(words.view(np.uint8)).mean()
    assert abs(bits - 0.5) < 5 * 0.5 / np.sqrt(32 * 200_000)
    counts = np.bincount(words >> 24, minlength=256)
    expected = 200_000 / 256
    # Chi-squared with 255 degrees of freedom: 400 is beyond the 1 - 1e-8 quantile.
    assert ((counts - expected) ** 2 / expected).sum() < 400


def test_masks_differ_by_message_topic_pair_purpose_and_session():
    alice, carol, _ = agreed()
    found = [mask_of(alice), mask_of(alice), mask_of(alice, "valid"), mask_of(carol)]
    found += [mask_of(agreed()[0]), mask_of(agreed(purpose="predict")[0])]
    keys = (bytes(31) + b"1", bytes(31) + b"2")
    for key in keys:
        found.append(mask_of(Masks("alice", NAMES[:2], {"carol": key})))
    for i, a in enumerate(found):
        for b in found[:i]:
            assert np.count_nonzero(a == b) < 5
            assert np.count_nonzero(a == (0 - b).astype(np.uint32)) < 5


def test_words_depend_on_the_whole_roster():
    # The same key pairs, as a program that kept them would have it.
    alice, carol, dave, eve = (MaskKey() for _ in range(4))
    keys = (alice.public, carol.public, dave.public)
    rosters = [
        Roster("train", NAMES[:3], keys),
        Roster("predict", NAMES[:3], keys),
        Roster("train", NAMES[:2], keys[:2]),
        Roster("train", NAMES[:3], (*keys[:2], eve.public)),
    ]
    found = {alice.masks("alice", roster)._keys["carol"] for roster in rosters}
    assert len(found) == len(rosters)


def test_no_words_of_a_topic_are_used_twice():
    # Shifted too: a message must not go on in the stream of the one before.
    alice, _ = agreed(2)
    messages = [mask_of(alice, count=400) for _ in range(20)]
    everything = np.concatenate(messages)
    assert len(np.unique(everything)) > len(everything) - 5


def test_a_pair_of_a_larger_federation_has_its_own_key():
    # What alice adds against carol is not what she adds against dave.
    first, second, _ = agreed()
    assert first._keys["carol"] == second._keys["alice"]
    assert len({*first._keys.values(), *second._keys.values()}) == 3


def test_the_stream_is_chacha20():
    # RFC 8439, appendix A.1, test vector 1: key, nonce and counter zero.
    stream = np.empty(4, np.uint32)
    _fill(stream, bytes(16), bytes(32), 0)
    assert stream.tobytes().hex() == "76b8e0ada0f13d90405d6ae55386bd28"


def test_masks_are_not_copied_or_stored():
    alice, _ = agreed(2)
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="the same words again"):
            way(alice)


def test_no_secret_is_shown():
    alice, _ = agreed(2)
    (key,) = alice._keys.values()
    for text in (repr(alice), repr(MaskKey())):
        assert repr(key) not in text
        assert "object at" in text


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little")])
def test_a_key_of_low_order_is_refused(point):
    own = MaskKey()
    with pytest.raises(LowOrderPoint, match="carol"):
        own.masks("alice", Roster("train", ("alice", "carol"), (own.public, point)))


def test_another_key_in_our_place_is_refused():
    own, other, third = MaskKey(), MaskKey(), MaskKey()
    roster = Roster("train", ("alice", "carol"), (other.public, third.public))
    with pytest.raises(ValueError, match="does not hold the key of alice"):
        own.masks("alice", roster)
    with pytest.raises(ValueError, match="does not hold the key of eve"):
        own.masks("eve", roster)


@pytest.mark.parametrize(
    ("parties", "keys"),
    [
        (("alice",), (b"a",)),
        (("alice", "carol"), (b"a",)),
        (("alice", "alice"), (b"a", b"b")),
        (("alice", "carol"), (b"a", b"a")),
    ],
)
def test_a_roster_holds_two_or_more_parties_and_keys(parties, keys):
    with pytest.raises(ValueError, match=r"parties with|twice"):
        Roster("train", parties, keys)


def test_digests_of_rosters_differ_in_every_part():
    rosters = [
        Roster("train", ("a", "b"), (b"1", b"2")),
        Roster("predict", ("a", "b"), (b"1", b"2")),
        Roster("train", ("a", "c"), (b"1", b"2")),
        Roster("train", ("b", "a"), (b"1", b"2")),
        Roster("train", ("a", "b"), (b"1", b"3")),
        Roster("train", ("a", "b"), (b"2", b"1")),
    ]
    assert len({roster.digest for roster in rosters}) == len(rosters)


def test_tags_prove_the_pair_the_sender_and_the_content():
    alice, carol, dave = agreed()
    tag = alice.tag("carol", "alice", b"x")
    assert tag == carol.tag("alice", "alice", b"x")
    others = [
        alice.tag("carol", "carol", b"x"),
        alice.tag("carol", "alice", b"y"),
        alice.tag("dave", "alice", b"x"),
        dave.tag("carol", "alice", b"x"),
    ]
    assert tag not in others
    assert all(a != b for a, b in pairwise(others))


@pytest.mark.parametrize("words", [np.zeros(3), np.zeros(3, np.int32), np.zeros((2, 2), np.uint32)])
def test_other_arrays_are_not_masked(words):
    with pytest.raises(ValueError, match="cannot mask"):
        agreed(2)[0].add_to(words, "cut")
