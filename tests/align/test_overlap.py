"""Counting what two parties have in common: the number, and nothing that says which."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.align import two_parties
from tests.align.two_parties import recorded

from isthmus.align import Overlap, Rule, count_overlap, ecdh, overlap
from isthmus.crypto import hash_to_points, multiply, new_secret
from isthmus.errors import AlignError, BadMessage, JobError
from isthmus.link import decode
from isthmus.session import Session, run_parties

quick = settings(deadline=None, max_examples=10)


def run(ids, **options):
    def program(own):
        return lambda session: count_overlap(session, own, workers=0, **options)

    return run_parties({party: program(own) for party, own in ids.items()}, label_party="bob")


@quick
@given(*[st.sets(st.integers(0, 40), min_size=1) for _ in range(3)])
def test_it_counts_what_each_pair_has_in_common(alice, bob, carol):
    found = run({"alice": sorted(alice), "bob": sorted(bob), "carol": sorted(carol)})
    with_alice, with_carol = len(alice & bob), len(carol & bob)
    assert found["bob"] == {
        "alice": Overlap(len(bob), len(alice), with_alice),
        "carol": Overlap(len(bob), len(carol), with_carol),
    }
    assert found["alice"] == {"bob": Overlap(len(alice), len(bob), with_alice)}
    assert found["carol"] == {"bob": Overlap(len(carol), len(bob), with_carol)}
    assert found["bob"]["alice"].rate == with_alice / len(bob)


def test_many_chunks_of_unequal_number(monkeypatch):
    monkeypatch.setattr(overlap, "CHUNK", 4)
    monkeypatch.setattr(ecdh, "CHUNK", 4)
    found = run({"alice": list(range(23)), "bob": list(range(20, 30))})
    assert found["alice"]["bob"] == Overlap(23, 10, 3)
    assert found["bob"]["alice"] == Overlap(10, 23, 3)


def test_nothing_in_common_is_no_error():
    assert run({"alice": ["x"], "bob": ["y"]})["alice"]["bob"].common == 0


def test_where_the_count_is_not_shared_the_label_party_alone_has_it():
    found = run({"alice": ["x", "y"], "bob": ["y"]}, shared=False)
    assert found == {"alice": {}, "bob": {"alice": Overlap(1, 2, 1)}}


def test_ids_are_normalised_and_doubles_dropped_as_agreed():
    ids = {"alice": ["A", "b", "B"], "bob": [" b ", "c", None]}
    found = run(ids, normalise=[Rule("text")], duplicates="drop", nulls="drop")
    assert found["bob"]["alice"] == Overlap(2, 2, 1)
    with pytest.raises(AlignError, match="1 of 3 rows"):
        run(ids, normalise=[Rule("text")])


def test_parties_that_are_about_to_do_different_things_are_told():
    def program(shared):
        return lambda session: count_overlap(session, ["x"], shared=shared)

    with pytest.raises(AlignError, match="protocol = "):
        run_parties({"alice": program(True), "bob": program(False)}, label_party="bob")
    with pytest.raises(JobError, match="no partner"):
        count_overlap(Session(me="bob", parties=("bob",), label_party="bob"), ["x"])


def test_the_order_of_what_comes_back_does_not_depend_on_what_went_out():
    def party(me):
        ids = [f"{me}-{i}" for i in range(9)] + ["shared"]
        return lambda session: count_overlap(session, ids, workers=0)

    sent = recorded({me: party(me) for me in ("alice", "bob")})
    messages = {name: [decode(one) for one in own] for name, own in sent.items()}
    topics = {name: Counter(m.topic for m in own) for name, own in messages.items()}
    assert topics["alice"] == {"align.hello": 1, "align.points": 1, "align.sorted": 1}
    assert topics["bob"] == {"align.hello": 1, "align.points": 1, "align.count": 1}
    (back,) = [m.tensors["points"] for m in messages["alice"] if m.topic == "align.sorted"]
    values = [row.tobytes() for row in back]
    assert values == sorted(values)
    assert back.shape == (10, 16)


# Hostile partners.

POINTS = multiply(new_secret(), hash_to_points([b"a", b"b", b"c"]))
SORTED = np.sort(np.ascontiguousarray(POINTS[:, :16]).view("S16")[:, 0]).view(np.uint8)
SORTED = SORTED.reshape(-1, 16)


HELLO = {"protocol": "count, shared", "keys": "row", "columns": 1, "ids": 3}


def against(partner, *, honest):
    two_parties.against(
        lambda session: count_overlap(session, ["x", "y", "z"], workers=0),
        partner,
        honest=honest,
        hello=HELLO,
    )


@pytest.mark.parametrize(
    ("back", "match"),
    [
        (SORTED[:2], r"sent align\.sorted as"),
        (SORTED.astype(np.int16), r"sent align\.sorted as"),
        (SORTED[::-1].copy(), "in another order"),
        (SORTED[[0, 1, 1]], "in another order, or a point twice"),
    ],
)
def test_what_a_feature_party_sends_back_is_checked(back, match):
    def partner(link):
        link.send("align.points", {"points": POINTS})
        link.send("align.sorted", {"points": back})

    with pytest.raises(BadMessage, match=match):
        against(partner, honest="hub")


@pytest.mark.parametrize("honest", ["hub", "spoke"])
@pytest.mark.parametrize(
    ("points", "match"),
    [(POINTS[[0, 1, 1]], "the same point twice"), (POINTS * 0, "a point of low order")],
)
def test_points_are_checked(points, match, honest):
    def partner(link):
        link.send("align.points", {"points": points})

    with pytest.raises(BadMessage, match=match):
        against(partner, honest=honest)


@pytest.mark.parametrize("count", [-1, 4, 1.0, None, True])
def test_a_count_that_cannot_be(count):
    def partner(link):
        link.send("align.points", {"points": POINTS})
        link.send("align.count", header={"common": count})

    with pytest.raises(BadMessage, match="without a proper 'common'"):
        against(partner, honest="spoke")
