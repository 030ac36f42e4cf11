"""Union alignment: the label party's rows, with -1 where a feature party has none."""

import base64
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.align import Alignment, align
from isthmus.crypto import hash_to_points, multiply, new_secret
from isthmus.errors import AlignError, BadMessage, LinkError
from isthmus.link import Transcript, decode, memory_links
from isthmus.session import Session, run_parties

quick = settings(deadline=None, max_examples=10)
some = st.lists(st.integers(0, 20), min_size=1, unique=True)


def run(ids, **options):
    def program(own):
        return lambda session: align(session, own, rows="label", **{"workers": 0, **options})

    return run_parties({party: program(own) for party, own in ids.items()}, label_party="bob")


def picked(own, alignment):
    return [None if row < 0 else own[row] for row in alignment.rows.tolist()]


@quick
@given(alice=some, bob=some, carol=some, keys=st.sampled_from(["row", "entity"]), data=st.data())
def test_every_row_of_the_label_party_is_a_sample(alice, bob, carol, keys, data):
    ids = {party: [*own, 99] for party, own in (("alice", alice), ("bob", bob), ("carol", carol))}
    if keys == "entity":
        ids["bob"] += data.draw(st.lists(st.sampled_from(ids["bob"]), max_size=10))
    found = run(ids, keys=keys)
    samples = picked(ids["bob"], found["bob"])
    assert sorted(samples) == sorted(ids["bob"])
    assert sorted(found["bob"].rows) == list(range(len(samples)))
    for party in ("alice", "carol"):
        has = set(ids[party])
        assert picked(ids[party], found[party]) == [i if i in has else None for i in samples]
        assert found[party].entities == len(has & set(ids["bob"]))
        assert found[party].summary.unmatched == sum(i not in has for i in samples)
    counts = found["bob"].summary
    assert counts.common == len(set.intersection(*map(set, ids.values())))
    assert counts.pairwise == {p: len(set(ids[p]) & set(ids["bob"])) for p in ("alice", "carol")}
    assert (counts.samples, counts.unmatched) == (len(samples), 0)


@pytest.mark.parametrize("protocol", ["kkrt", "rsa-blind"])
def test_by_the_other_protocols(protocol):
    ids = {"alice": list(range(0, 30, 2)), "bob": list(range(12))}
    found = run(ids, protocol=protocol)
    samples = picked(ids["bob"], found["bob"])
    assert sorted(samples) == ids["bob"]
    assert picked(ids["alice"], found["alice"]) == [i if i % 2 == 0 else None for i in samples]


def test_it_is_kept_on_disk(tmp_path):
    found = run({"alice": [1, 2], "bob": [2, 3]})["alice"]
    found.save(tmp_path)
    again = Alignment.load(tmp_path)
    assert sorted(again.rows.tolist()) == [-1, 1]
    assert again.summary == found.summary


def test_repeated_and_missing_ids_of_the_label_party():
    ids = {"alice": ["a", "b"], "bob": ["b", None, "c", "b"]}
    found = run(ids, duplicates="drop", nulls="drop")
    assert sorted(found["bob"].rows.tolist()) == [0, 2]
    found = run(ids, keys="entity", nulls="drop")
    assert sorted(found["bob"].rows.tolist()) == [0, 2, 3]
    assert sorted(found["alice"].rows.tolist()) == [-1, 1, 1]
    with pytest.raises(AlignError, match="1 of 4 rows have no id"):
        run(ids, keys="entity")


def test_the_order_is_not_that_of_the_table_and_the_same_in_every_run():
    ids = {"alice": list(range(0, 50)), "bob": list(range(40))}
    first, second = run(ids)["bob"].rows.tolist(), run(ids)["bob"].rows.tolist()
    assert first == second != sorted(first)


def test_a_feature_party_without_a_common_id_is_an_error_on_both_sides():
    seen = {}

    def program(own):
        def body(session):
            try:
                align(session, own, rows="label", workers=0)
            except AlignError as error:
                seen[session.me] = str(error)
                raise

        return body

    with pytest.raises(AlignError, match="have no id in common"):
        run_parties({"alice": program(["x"]), "bob": program(["y"])}, label_party="bob")
    assert "bob and alice" in seen["bob"]
    assert "alice and bob" in seen["alice"]


def test_parties_that_keep_different_rows_are_told():
    def program(rows):
        return lambda session: align(session, ["x"], rows=rows, workers=0)

    with pytest.raises(AlignError, match="rows = "):
        run_parties({"alice": program("common"), "bob": program("label")}, label_party="bob")


def test_what_crosses_says_nothing_of_samples_that_are_not_shared():
    sent = {name: Transcript(payload=True) for name in ("alice", "bob")}
    to_bob, to_alice = memory_links(
        "alice", "bob", transcripts=(sent["alice"], sent["bob"]), timeout=20
    )

    def party(me, ids, links):
        session = Session(me=me, parties=("alice", "bob"), label_party="bob", links=links)
        align(session, ids, rows="label", workers=0)

    threads = [
        threading.Thread(target=party, args=("alice", ["a", "x", "y"], {"bob": to_bob})),
        threading.Thread(target=party, args=("bob", ["a", "b", "c", "x"], {"alice": to_alice})),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = [decode(base64.b64decode(entry.payload)) for entry in sent["bob"].entries]
    assert dict(messages[0].header)["rows"] == "label"
    (samples,) = [m for m in messages if m.topic == "align.samples"]
    assert sorted(samples.tensors["entity"].tolist()) == [-1, -1, 0, 1]
    assert dict(samples.header) == {"samples": 4}
    topics = [m.topic for m in messages]
    assert topics == [
        "align.hello",
        "align.points",
        "align.common",
        "align.digest",
        "align.samples",
    ]


POINTS = multiply(new_secret(), hash_to_points([b"a", b"b", b"c"]))


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ([0, 1, -2], "out of range"),
        ([0, 1, 3], "out of range"),
        ([0, 1, -1], "without some of the common"),
        ([0, 1, 2, 2], "with an id twice"),
        ([-1, -1], "without some of the common"),
    ],
)
def test_samples_that_make_no_sense(told, match):
    errors = []

    def honest(session):
        try:
            align(session, ["a", "b", "c"], rows="label", workers=0)
        except BaseException as error:
            errors.append(error)
            raise

    def hostile(session):
        (link,) = session.links.values()
        hello = {"protocol": "ecdh", "keys": "row", "rows": "label", "columns": 1, "ids": 3}
        link.send("align.hello", header=hello)
        link.send("align.points", {"points": POINTS})
        link.recv("align.echo")
        link.send("align.common", {"bits": np.array([0xE0], np.uint8)})
        link.send("align.digest", {"digest": link.recv("align.digest").tensors["digest"]})
        entity = np.array(told, np.int32)
        link.send("align.samples", {"entity": entity}, {"samples": len(told)})
        link.recv("never")

    with pytest.raises((LinkError, BadMessage)):
        run_parties({"honest": honest, "hostile": hostile}, label_party="hostile")
    with pytest.raises(BadMessage, match=match):
        raise errors[0]
