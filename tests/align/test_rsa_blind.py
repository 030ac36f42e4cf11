"""Alignment by blind signatures: what it finds, what crosses for it, and hostile partners."""

import hashlib
import socket
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.align import two_parties
from tests.align.two_parties import recorded

from isthmus.align import align, rsa_blind
from isthmus.crypto.rsa import BYTES, RsaSigner
from isthmus.errors import BadMessage
from isthmus.link import create_identity, decode, open_links, trust
from isthmus.session import Session, run_parties

quick = settings(deadline=None, max_examples=3)
SHARED = [f"shared-person-{i}" for i in range(10)]
ALICE = [f"only-at-alice-{i}" for i in range(13)]
BOB = [f"only-at-bob-{i}" for i in range(7)]
SIGNER = RsaSigner()


@pytest.fixture(autouse=True, scope="module")
def small_chunks_and_one_key():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rsa_blind, "CHUNK", 8)
        patch.setattr(rsa_blind, "LAG", 1)
        patch.setattr(rsa_blind, "RsaSigner", lambda: SIGNER)
        yield


def run(ids, *, label_party="bob", protocol="rsa-blind", **options):
    def program(own):
        return lambda session: align(session, own, protocol=protocol, **options)

    programs = {party: program(own) for party, own in ids.items()}
    return run_parties(programs, label_party=label_party)


@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
@quick
@given(data=st.data())
def test_it_finds_what_diffie_hellman_finds(parties, data):
    kind = data.draw(st.sampled_from([st.integers(-5, 30), st.text(max_size=2)]))
    shared = data.draw(kind)
    rows = {p: list(data.draw(st.sets(kind, max_size=25)) | {shared}) for p in parties}
    new, old = run(rows), run(rows, protocol="ecdh", workers=0)
    for party in parties:
        assert new[party].rows.tolist() == old[party].rows.tolist()
        assert new[party].summary == old[party].summary


def test_a_fresh_key_in_every_run(monkeypatch):
    keys = []

    def fresh():
        keys.append(RsaSigner())
        return keys[-1]

    monkeypatch.setattr(rsa_blind, "RsaSigner", fresh)
    found = run({"alice": SHARED + ALICE, "bob": SHARED, "carol": SHARED[3:]}, workers=1)
    assert found["bob"].entities == 7
    assert (keys[0].modulus != keys[1].modulus).any()


def record(alice, bob):
    results = {}

    def program(ids):
        def run_one(session):
            results[session.me] = align(session, ids, protocol="rsa-blind")

        return run_one

    sent = recorded({"alice": program(alice), "bob": program(bob)})
    assert results["alice"].entities == results["bob"].entities == 10
    return sent


def rows_of(sent, topic, name):
    found = [m.tensors[name] for m in map(decode, sent) if m.topic == topic]
    return [row.tobytes() for array in found for row in array]


def test_only_the_announced_topics_and_sizes_cross_and_no_hash_of_an_id():
    one, two = (record(SHARED + ALICE, SHARED + BOB) for _ in range(2))
    topics = {party: Counter(decode(m).topic for m in one[party]) for party in one}
    both = {"align.hello": 1, "align.digest": 1}
    assert topics["alice"] == Counter({**both, "align.key": 1, "align.tags": 3, "align.signed": 3})
    assert topics["bob"] == Counter({**both, "align.blinded": 3, "align.common": 1})
    ids = [i.encode() for i in SHARED + ALICE + BOB]
    forbidden = [*ids, *(h(i).digest()[:16] for i in ids for h in (hashlib.sha256, hashlib.sha512))]
    forbidden += [hashed.to_bytes(BYTES, "big")[:16] for hashed in _hashes(ids)]
    for message in one["alice"] + one["bob"]:
        assert not any(part in message for part in forbidden)
    asked, again = (rows_of(sent["bob"], "align.blinded", "numbers") for sent in (one, two))
    assert len(set(asked) | set(again)) == 34
    tags, later = (rows_of(sent["alice"], "align.tags", "tags") for sent in (one, two))
    # The key is the same in both runs of this test alone: so are the tags, in another order.
    assert sorted(tags) == sorted(later)
    assert tags != later


def _hashes(ids):
    from isthmus.crypto import rsa

    return [int(value) for value in rsa._hashes(SIGNER.modulus, ids)]


@pytest.mark.parametrize("rows", ["common", "label"])
def test_over_tls(tmp_path, rows):
    made = {name: create_identity(tmp_path / name, name, days=2) for name in ("alice", "bob")}
    trust(tmp_path / "alice", made["bob"].certificate_path)
    trust(tmp_path / "bob", made["alice"].certificate_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    found = {}

    def party(me, ids, dial):
        partner = "bob" if me == "alice" else "alice"
        listen = None if dial else address
        links = open_links(tmp_path / me, me, {partner: dial}, listen=listen, context="test")
        session = Session(me=me, parties=("alice", "bob"), label_party="bob", links=links)
        with links[partner]:
            found[me] = align(session, ids, protocol="rsa-blind", rows=rows)

    threads = [
        threading.Thread(target=party, args=("bob", SHARED + BOB, None)),
        threading.Thread(target=party, args=("alice", SHARED[::-1] + ALICE, address)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    samples = [(SHARED + BOB)[i] for i in found["bob"].rows]
    ours = [None if i < 0 else (SHARED[::-1] + ALICE)[i] for i in found["alice"].rows]
    assert ours == [i if i in SHARED else None for i in samples]
    assert sorted(samples) == sorted(SHARED if rows == "common" else SHARED + BOB)


# Hostile partners.

IDS = ["a", "b", "c", "d"]
KEY = {"modulus": SIGNER.modulus, "proof": SIGNER.prove()}
TAGS = SIGNER.tags([i.encode() for i in IDS])
NUMBERS = np.full((4, BYTES), 1, np.uint8)


HELLO = {"protocol": "rsa-blind", "keys": "row", "columns": 1, "ids": len(IDS)}


def against(partner, *, honest="hub"):
    two_parties.against(
        lambda session: align(session, IDS, protocol="rsa-blind", workers=0),
        partner,
        honest=honest,
        hello=HELLO,
    )


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ({**KEY, "proof": KEY["proof"][:7]}, r"sent align\.key as uint8 \[7, 384\]"),
        ({**KEY, "modulus": KEY["modulus"][1:]}, r"sent align\.key as"),
        ({**KEY, "modulus": KEY["modulus"].astype(np.int16)}, r"sent align\.key as"),
        ({"modulus": KEY["modulus"]}, r"sent align\.key with other tensors"),
        ({**KEY, "proof": KEY["proof"][::-1].copy()}, "a bad key: .* permutation"),
        ({**KEY, "modulus": KEY["modulus"] >> 1}, "a bad key: .* bits"),
    ],
)
def test_bad_keys(key, match):
    with pytest.raises(BadMessage, match=match):
        against(lambda link: link.send("align.key", key))


@pytest.mark.parametrize(
    ("topic", "tensors", "match"),
    [
        ("align.tags", {"tags": TAGS[:3]}, r"sent align\.tags as"),
        ("align.tags", {"tags": TAGS[:, :15]}, r"sent align\.tags as"),
        ("align.tags", {"tags": TAGS[[0, 1, 2, 2]]}, "twice"),
        ("align.signed", {"numbers": NUMBERS[:3]}, r"sent align\.signed as"),
        ("align.signed", {"numbers": NUMBERS.astype(np.int8)}, r"sent align\.signed as"),
        ("align.signed", {"numbers": NUMBERS}, "not the signature asked for"),
        ("align.signed", {"numbers": 0 * NUMBERS}, "not the signature asked for"),
    ],
)
def test_what_a_signer_sends_is_checked(topic, tensors, match):
    def partner(link):
        link.send("align.key", KEY)
        blinded = link.recv("align.blinded").tensors["numbers"]
        link.send("align.tags", tensors if topic == "align.tags" else {"tags": TAGS})
        signed = {"numbers": SIGNER.sign(blinded)}
        link.send("align.signed", tensors if topic == "align.signed" else signed)

    with pytest.raises(BadMessage, match=match):
        against(partner)


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        (NUMBERS[:, 1:], r"sent align\.blinded as"),
        (NUMBERS[:1], r"sent align\.blinded as"),
        (0 * NUMBERS, "a number that is out of range"),
        (0 * NUMBERS + 255, "a number that is out of range"),
    ],
)
def test_what_a_requester_sends_is_checked(numbers, match):
    with pytest.raises(BadMessage, match=match):
        against(lambda link: link.send("align.blinded", {"numbers": numbers}), honest="spoke")
