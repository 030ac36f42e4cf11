"""Alignment by oblivious transfer: what it finds, what crosses for it, and hostile partners."""

import hashlib
import socket
import threading
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.align import two_parties
from tests.align.two_parties import recorded

from isthmus.align import align, cuckoo, kkrt, telling
from isthmus.crypto import ot
from isthmus.errors import AlignError, BadMessage
from isthmus.link import create_identity, decode, memory_links, open_links, trust
from isthmus.session import Session, run_parties

quick = settings(deadline=None, max_examples=3)
SHARED = [f"shared-person-{i}" for i in range(10)]
ALICE = [f"only-at-alice-{i}" for i in range(13)]
BOB = [f"only-at-bob-{i}" for i in range(7)]
BINS = 1026
PUBLIC = ot.BaseSender().public
ANSWERS = ot.choose(PUBLIC, np.arange(512) % 2 == 0)[0]


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kkrt, "CHUNK", 200)
        yield


def run(ids, *, label_party="bob", protocol="kkrt", seed=0, **options):
    def program(own):
        return lambda session: align(session, own, protocol=protocol, workers=0, **options)

    programs = {party: program(own) for party, own in ids.items()}
    return run_parties(programs, label_party=label_party, seed=seed)


@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
@quick
@given(data=st.data())
def test_it_finds_what_diffie_hellman_finds(parties, data):
    kind = data.draw(st.sampled_from([st.integers(-5, 30), st.text(max_size=2)]))
    shared = data.draw(kind)
    rows = {p: list(data.draw(st.sets(kind, max_size=25)) | {shared}) for p in parties}
    new, old = run(rows), run(rows, protocol="ecdh")
    for party in parties:
        assert new[party].rows.tolist() == old[party].rows.tolist()
        assert new[party].summary == old[party].summary
    assert {rows["bob"][i] for i in new["bob"].rows} == set.intersection(*map(set, rows.values()))


def test_many_ids_of_unequal_number_and_two_columns():
    left = pl.DataFrame({"shop": [i % 7 for i in range(5000)], "user": list(range(5000))})
    right = pl.DataFrame({"s": [i % 7 for i in range(4500, 5200)], "u": list(range(4500, 5200))})
    results = run({"alice": left, "bob": right})
    assert len(results["bob"]) == 500
    assert left["user"][results["alice"].rows].equals(right["u"][results["bob"].rows])
    turned = run({"alice": left, "bob": right}, label_party="alice")
    assert turned["bob"].rows.tolist() == results["bob"].rows.tolist()


def test_a_feature_party_hears_of_what_all_have_and_of_nothing_else():
    rows = {
        "alice": [f"u{i}" for i in range(0, 90, 2)],
        "bob": [f"u{i}" for i in range(30)],
        "carol": [f"u{i}" for i in range(5, 8)],
    }
    results = run(rows)
    assert [rows["carol"][i] for i in results["carol"].rows] == ["u6"]
    assert results["bob"].summary.pairwise == {"alice": 15, "carol": 3}
    assert results["carol"].summary.partners == {"bob": 30}
    assert results["carol"].summary.pairwise == {}


def test_one_id_a_side():
    assert len(run({"alice": ["x"], "bob": ["x"]})["bob"]) == 1
    with pytest.raises(AlignError, match="no id is common"):
        run({"alice": ["x"], "bob": ["y"]})


def test_repeated_and_missing_ids_and_events():
    rows = {"alice": ["x", None, "y", "x"], "bob": ["y", "x", "y"]}
    with pytest.raises(AlignError, match="have no id"):
        run({**rows, "bob": ["x"]})
    with pytest.raises(AlignError, match="1 of 4 rows have an id that an earlier"):
        run({**rows, "bob": ["x"]}, nulls="drop")
    dropped = run(rows, nulls="drop", duplicates="drop")
    assert sorted(dropped["alice"].rows.tolist()) == [0, 2]
    assert sorted(dropped["bob"].rows.tolist()) == [0, 1]
    events = run(rows, nulls="drop", duplicates="drop", keys="entity")
    assert sorted(events["bob"].rows.tolist()) == [0, 1, 2]
    assert [rows["alice"][i] for i in events["alice"].rows] == [
        rows["bob"][i] for i in events["bob"].rows
    ]


def test_over_tls(tmp_path):
    made = {name: create_identity(tmp_path / name, name, days=2) for name in ("alice", "bob")}
    trust(tmp_path / "alice", made["bob"].certificate_path)
    trust(tmp_path / "bob", made["alice"].certificate_path)
    rows = {"alice": list(range(700)), "bob": list(range(350, 900))}
    found, port = {}, _free_port()

    def be(me, partner, dial, listen):
        links = open_links(tmp_path / me, me, {partner: dial}, listen=listen, context="test")
        with links[partner]:
            session = Session(me=me, parties=("alice", "bob"), label_party="bob", links=links)
            found[me] = align(session, rows[me], protocol="kkrt")

    threads = [
        threading.Thread(target=be, args=("bob", "alice", None, f"127.0.0.1:{port}")),
        threading.Thread(target=be, args=("alice", "bob", f"127.0.0.1:{port}", None)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found["bob"]) == 350
    assert [rows["alice"][i] for i in found["alice"].rows] == [
        rows["bob"][i] for i in found["bob"].rows
    ]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# What crosses.


def record(alice, bob):
    """Align over recorded links: the messages that each party sent, in order."""

    def program(ids):
        return lambda session: align(session, ids, protocol="kkrt")

    return recorded({"alice": program(alice), "bob": program(bob)}, seed=5)


def joined(sent, topic, name):
    found = [m.tensors[name] for m in map(decode, sent) if m.topic == topic]
    return np.concatenate(found)


@pytest.fixture(scope="module")
def two_runs(small_chunks):
    return [record(SHARED + ALICE, SHARED + BOB) for _ in range(2)]


def test_only_the_announced_topics_and_sizes_cross(two_runs):
    sent = two_runs[0]
    topics = {party: Counter(decode(m).topic for m in sent[party]) for party in sent}
    both = {"align.hello": 1, "align.digest": 1}
    assert topics["alice"] == Counter({**both, "align.answers": 1, "align.tags": 1})
    assert topics["bob"] == Counter(
        {**both, "align.base": 1, "align.table": 1, "align.rows": 6, "align.common": 1}
    )
    assert joined(sent["bob"], "align.rows", "rows").shape == (BINS, 8)
    assert joined(sent["alice"], "align.tags", "tags").shape == (23, 3, 8)


def test_no_id_and_no_unkeyed_hash_of_one_crosses(two_runs):
    own = [i.encode() for i in SHARED + ALICE + BOB]
    forbidden = [
        *own,
        *(h(i).digest()[:8] for i in own for h in (hashlib.sha256, hashlib.blake2b, hashlib.md5)),
        *(digest.tobytes()[:8] for digest in cuckoo.digests(own)),
    ]
    for sent in two_runs:
        for message in sent["alice"] + sent["bob"]:
            assert not any(part in message for part in forbidden)


def test_everything_is_new_in_every_run(two_runs):
    for party, topic, name in (
        ("bob", "align.base", "point"),
        ("bob", "align.table", "seed"),
        ("bob", "align.rows", "rows"),
        ("alice", "align.answers", "points"),
        ("alice", "align.answers", "code"),
        ("alice", "align.tags", "tags"),
    ):
        first, second = (joined(sent[party], topic, name) for sent in two_runs)
        assert (first != second).mean() > 0.9


def test_rows_and_tags_look_random_and_none_comes_twice():
    sent = record([f"u{i}" for i in range(900)], [f"u{i}" for i in range(450, 1200)])
    rows = joined(sent["bob"], "align.rows", "rows")
    tags = joined(sent["alice"], "align.tags", "tags")
    for array in (rows, tags):
        bits = np.unpackbits(np.ascontiguousarray(array).view(np.uint8))
        assert abs(bits.mean() - 0.5) < 6 * 0.5 / np.sqrt(len(bits))
    assert len(np.unique(rows)) == rows.size
    assert len(np.unique(tags.reshape(-1, tags.shape[2]), axis=0)) == 3 * 900


def test_a_bit_for_each_id_comes_back_in_an_order_that_is_not_the_tables(two_runs):
    # One bit for the three tags of an id: in which of its bins it matched does not come back.
    told = [joined(sent["bob"], "align.common", "bits") for sent in two_runs]
    assert [bits.shape for bits in told] == [(3,), (3,)]
    assert [np.bitwise_count(bits).sum() for bits in told] == [10, 10]
    assert told[0].tobytes() != told[1].tobytes()  # equal once in a million runs


# Partners that do not keep to the protocol.


HELLO = {"protocol": "kkrt", "keys": "row", "columns": 1, "ids": len(SHARED)}


def against(partner, *, honest="hub"):
    two_parties.against(
        lambda session: align(session, SHARED, protocol="kkrt"),
        partner,
        honest=honest,
        hello=HELLO,
    )


CODE = np.arange(64, dtype=np.uint8).reshape(4, 16)


@pytest.mark.parametrize(
    "answers",
    [
        {"points": ANSWERS[:511], "code": CODE},
        {"points": ANSWERS[:, :1], "code": CODE},
        {"points": ANSWERS.astype(np.int16), "code": CODE},
        {"points": ANSWERS, "code": CODE[:3]},
        {"points": ANSWERS, "code": CODE.astype(np.float32)},
        {"points": ANSWERS},
        {"points": ANSWERS, "code": CODE, "more": CODE},
        {},
    ],
)
def test_answers_of_a_wrong_shape_kind_or_name(answers):
    with pytest.raises(BadMessage, match=r"hostile sent align\.answers"):
        against(lambda link: link.send("align.answers", answers))


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"\2" + bytes(31), b"\xff" * 32])
def test_points_that_are_not_in_the_group(point):
    bad = ANSWERS.copy()
    bad[77, 1] = np.frombuffer(point, np.uint8)
    with pytest.raises(BadMessage, match="hostile sent a point that is not in the group"):
        against(lambda link: link.send("align.answers", {"points": bad, "code": CODE}))
    with pytest.raises(BadMessage, match="hostile sent a point that is not in the group"):
        against(lambda link: link.send("align.base", {"point": bad[77, 1]}), honest="spoke")


def tags_sent(tags):
    def partner(link):
        link.send("align.answers", {"points": ANSWERS, "code": CODE})
        link.send("align.tags", {"tags": tags})

    return partner


@pytest.mark.parametrize(
    "tags",
    [
        np.zeros((9, 3, 8), np.uint8),
        np.zeros((11, 3, 8), np.uint8),
        np.zeros((10, 2, 8), np.uint8),
        np.zeros((10, 3, 7), np.uint8),
        np.zeros((10, 3, 8), np.int8),
    ],
)
def test_tags_of_a_wrong_shape_or_kind(tags):
    with pytest.raises(BadMessage, match=r"hostile sent align\.tags as"):
        against(tags_sent(tags))


def test_tags_that_match_nothing_are_no_intersection():
    with pytest.raises(AlignError, match="no id is common"):
        against(tags_sent(np.zeros((10, 3, 8), np.uint8)))


@pytest.mark.parametrize(
    ("topic", "name", "tensor"),
    [
        ("align.base", "point", np.zeros(31, np.uint8)),
        ("align.base", "point", np.zeros(32, np.int8)),
        ("align.base", "spot", PUBLIC),
        ("align.table", "seed", np.zeros(15, np.uint8)),
        ("align.table", "seed", np.zeros((1, 16), np.uint8)),
        ("align.rows", "rows", np.zeros((199, 8), np.uint64)),
        ("align.rows", "rows", np.zeros((200, 7), np.uint64)),
        ("align.rows", "rows", np.zeros((200, 8), np.int64)),
        ("align.common", "bits", np.zeros(1, np.uint8)),
        ("align.common", "bits", np.full(2, 255, np.uint8)),
    ],
)
def test_what_a_label_party_sends_is_checked(topic, name, tensor):
    good = {
        "align.base": [{"point": PUBLIC}],
        "align.table": [{"seed": np.zeros(16, np.uint8)}],
        "align.rows": [
            {"rows": np.zeros((count, 8), np.uint64)} for count in (200, 200, 200, 200, 200, 26)
        ],
        "align.common": [{"bits": np.zeros(2, np.uint8)}],
    }
    good[topic][0] = {name: tensor}

    def partner(link):
        for sent, messages in good.items():
            for tensors in messages:
                link.send(sent, tensors)

    with pytest.raises(BadMessage, match=rf"hostile sent {topic.replace('.', '[.]')}"):
        against(partner, honest="spoke")


def test_a_label_party_that_lies_about_what_is_common_is_found_out(monkeypatch):
    honest = telling.tell_common
    monkeypatch.setattr(
        telling,
        "tell_common",
        lambda pairs, count: honest(
            [kkrt.Pairs(p.link, p.size, p.here, p.there[::-1].copy() * 0 + 3) for p in pairs], count
        ),
    )
    with pytest.raises(AlignError, match="found other common ids"):
        run({"alice": SHARED, "bob": SHARED})


def test_a_feature_party_that_sends_an_id_twice(monkeypatch):
    digests = cuckoo.digests
    twin = SHARED[0].encode()
    monkeypatch.setattr(
        cuckoo, "digests", lambda ids: digests([twin if i == b"twin" else i for i in ids])
    )
    with pytest.raises(BadMessage, match="alice sent tags of the same id twice"):
        run({"alice": ["twin", *SHARED], "bob": SHARED})


@pytest.mark.parametrize(("rows", "found"), [([0, 1], [5, 5]), ([1, 1], [4, 5])])
def test_tags_that_match_one_to_many(rows, found):
    class Finder:
        def find(self, part, tags):
            return (np.array(rows), np.array(found)) if part == 1 else (np.empty(0, int),) * 2

    hub, spoke = memory_links("hub", "spoke")
    spoke.send("align.tags", {"tags": np.zeros((2, 3, 8), np.uint8)})
    with pytest.raises(BadMessage, match="spoke sent tags of the same id twice"):
        kkrt._Partner(hub, 2, 8).matches(Finder())


# Small parts.


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [(1, 1, 8), (1000, 1000, 8), (10**5, 10**5, 10), (10**6, 10**6, 10), (10**7, 10**7, 11)],
)
def test_tags_are_long_enough(mine, theirs, expected):
    assert kkrt.tag_bytes(mine, theirs) == kkrt.tag_bytes(theirs, mine) == expected
    assert 2 ** (8 * expected) >= mine * theirs * 2**40
    assert kkrt.tag_bytes(kkrt.MOST_IDS, kkrt.MOST_IDS) <= 13
    assert cuckoo.bins(kkrt.MOST_IDS) < 2**31


def test_tags_that_begin_alike_are_told_apart():
    rng = np.random.default_rng(0)
    own = rng.integers(0, 256, (30, 10), dtype=np.uint8)
    own[:8, :8] = 7  # eight whose heads agree
    inside = np.full(30, cuckoo.EMPTY, np.int32)
    inside[:10] = np.arange(100, 110)
    finder = kkrt._Finder(inside, own)
    asked = np.concatenate([own[[3, 29, 7, 9]], own[:1] ^ np.uint8([0] * 9 + [255])])
    rows, found = finder.find(0, asked)
    assert dict(zip(rows.tolist(), found.tolist(), strict=True)) == {0: 103, 2: 107, 3: 109}
    for part in (1, 2):
        assert [len(array) for array in finder.find(part, asked)] == [0, 0]


def test_too_many_ids_are_refused():
    session = Session(me="bob", parties=("alice", "bob"), label_party="bob")
    with pytest.raises(AlignError, match=r"up to 1,600,000,000 ids a party.*ecdh"):
        kkrt.intersect(session, [b"x"], {"alice": kkrt.MOST_IDS + 1}, None)
