"""What crosses the links: nothing that depends on an id that is not shared, without a secret."""

import hashlib
from collections import Counter

import pytest
from tests.align.two_parties import recorded

from isthmus.align import align, ecdh
from isthmus.crypto import hash_to_points
from isthmus.link import decode

SHARED = [f"shared-person-{i}" for i in range(10)]
ALICE = [f"only-at-alice-{i}" for i in range(13)]
BOB = [f"only-at-bob-{i}" for i in range(7)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(ecdh, "CHUNK", 8)
    monkeypatch.setattr(ecdh, "LAG", 1)


def record(alice, bob, **options):
    """Align over recorded links: the encoded messages that each party sent, in order."""

    def program(ids):
        return lambda session: align(session, ids, workers=0, **options)

    return recorded({"alice": program(alice), "bob": program(bob)}, seed=5)


def messages(sent, topic):
    return [m for m in map(decode, sent) if m.topic == topic]


def rows_of(sent, topic, name="points"):
    return [row.tobytes() for m in messages(sent, topic) for row in m.tensors[name]]


def test_only_the_announced_topics_and_sizes_cross():
    sent = record(SHARED + ALICE, SHARED + BOB)
    topics = {party: Counter(decode(m).topic for m in sent[party]) for party in sent}
    hello, digest = {"align.hello": 1}, {"align.digest": 1}
    assert topics["alice"] == Counter({**hello, "align.points": 3, "align.echo": 3, **digest})
    assert topics["bob"] == Counter({**hello, "align.points": 3, "align.common": 1, **digest})
    assert len(rows_of(sent["alice"], "align.points")) == 23
    assert len(rows_of(sent["bob"], "align.points")) == 17
    headers = [dict(decode(m).header) for m in sent["alice"] + sent["bob"] if decode(m).header]
    same = {"protocol": "ecdh", "keys": "row", "columns": 1}
    assert headers == [{**same, "ids": 23}, {**same, "ids": 17}]


def test_no_id_and_no_unkeyed_hash_of_one_crosses():
    ids = [i.encode() for i in SHARED + ALICE + BOB]
    forbidden = [
        *ids,
        *(point.tobytes()[:16] for point in hash_to_points(ids)),
        *(h(i).digest()[:16] for i in ids for h in (hashlib.sha256, hashlib.blake2b, hashlib.md5)),
    ]
    sent = record(SHARED + ALICE, SHARED + BOB)
    for message in sent["alice"] + sent["bob"]:
        assert not any(part in message for part in forbidden)


def test_every_point_is_new_in_every_run():
    one, two = (record(SHARED + ALICE, SHARED + BOB) for _ in range(2))
    for party, topic in (
        ("alice", "align.points"),
        ("alice", "align.echo"),
        ("bob", "align.points"),
    ):
        first, second = (rows_of(sent[party], topic) for sent in (one, two))
        assert len(set(first)) == len(first)
        assert not set(first) & set(second)


def test_what_does_not_change_between_runs_does_not_depend_on_ids_that_are_not_shared():
    one = record(SHARED + ALICE, SHARED + BOB)
    two = record(SHARED + [i.upper() for i in ALICE], SHARED + [i.upper() for i in BOB])
    for party in one:
        for topic in ("align.hello", "align.digest"):
            first, second = (
                [m for m in sent[party] if decode(m).topic == topic] for sent in (one, two)
            )
            assert first == second


def test_the_order_of_sending_is_not_that_of_the_table():
    # Where alice's shared ids come first in her table, their points come anywhere on the wire.
    places = set()
    for _ in range(4):
        sent = record(SHARED, SHARED + BOB)
        bits = messages(sent["bob"], "align.common")[0].tensors["bits"].tobytes()
        assert bits == b"\xff\xc0"
        sent = record(SHARED + ALICE, SHARED + BOB)
        places.add(messages(sent["bob"], "align.common")[0].tensors["bits"].tobytes())
    assert len(places) > 1
    assert all(sum(byte.bit_count() for byte in bits) == 10 for bits in places)


def test_with_entity_keys_only_positions_cross_besides():
    sent = record(SHARED + ALICE, SHARED + SHARED[:4] + BOB + BOB, keys="entity")
    assert len(rows_of(sent["bob"], "align.points")) == 17  # distinct ids, not events
    told = messages(sent["bob"], "align.samples")
    assert [m.tensors["entity"].dtype.name for m in told] == ["int32"]
    counts = Counter(told[0].tensors["entity"].tolist())
    assert sorted(counts) == list(range(10))
    assert sorted(counts.values()) == [1] * 6 + [2] * 4
    assert not messages(sent["alice"], "align.samples")
