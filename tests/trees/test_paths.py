"""Predictions along the paths: the same scores, and no side that a row does not come to."""

from dataclasses import replace

import numpy as np
import pytest
from tests.trees.made import OPTIONS, PARTS, ROWS, SCORE, TABLE, split_models

from isthmus.errors import BadMessage, IsthmusError, JobError
from isthmus.session import run_parties
from isthmus.trees import predict

CLASSES = np.digitize(SCORE, [-0.3, 1.0]).astype(float)
OPTIONS = replace(OPTIONS, objective="multiclass", classes=3, trees=2)
MODELS, WHOLE = split_models(OPTIONS, CLASSES)


def own_table(party):
    return TABLE.select(PARTS[party])


def along(session, *, paths=True):
    return predict(session, MODELS[session.me], own_table(session.me), paths=paths)


def test_the_scores_are_the_same():
    found = run_parties(dict.fromkeys(PARTS, along), label_party="alice")
    np.testing.assert_array_equal(found["alice"], WHOLE)
    assert found["bob"] is found["carol"] is None


def test_rows_are_asked_about_at_cuts_that_they_come_to_alone():
    asked = []

    def alice(session):
        link = session.links["bob"]
        send = link.send

        def note(topic, tensors=None, header=None):
            if topic == "trees.ask":
                rows = np.unpackbits(tensors["rows"], axis=1, bitorder="little")[:, :ROWS]
                asked.extend(zip(tensors["cuts"].tolist(), rows.astype(bool), strict=True))
            send(topic, tensors, header)

        link.send = note
        return along(session)

    run_parties({"alice": alice, "bob": along, "carol": along}, label_party="alice")
    sides = {party: MODELS[party].sides(own_table(party)) for party in PARTS}
    come = {}
    for tree in MODELS["alice"].trees:
        here = {0: np.ones(ROWS, bool)}
        for number, node in enumerate(tree):
            if node.party < 0:
                continue
            left = sides[tuple(PARTS)[node.party]][node.cut]
            here[node.left], here[node.left + 1] = here[number] & left, here[number] & ~left
            if node.party == 1:
                come[node.cut] = here[number]
    assert len(asked) == len(come) > 10
    for cut, rows in asked:
        np.testing.assert_array_equal(rows, come[cut])
    assert sum(rows.sum() for _, rows in asked) < 0.5 * len(come) * ROWS


def test_both_sides_must_want_it():
    def program(session):
        return along(session, paths=session.is_label_party)

    with pytest.raises(JobError, match="differ in paths"):
        run_parties(dict.fromkeys(PARTS, program), label_party="alice")


def lie(me, topic, name, change):
    """What the other says where `me` changes a tensor of its messages of `topic`."""
    errors = {}

    def run(session):
        if session.me == me:
            link = session.links["alice" if me == "bob" else "bob"]
            send = link.send

            def changed(said, tensors=None, header=None):
                tensors = dict(tensors or {})
                if said == topic:
                    tensors[name] = change(np.array(tensors[name]))
                send(said, tensors, header)

            link.send = changed
        try:
            return along(session)
        except BaseException as error:
            errors[session.me] = error
            raise

    with pytest.raises(IsthmusError):
        run_parties(dict.fromkeys(PARTS, run), label_party="alice")
    raise errors["bob" if me == "alice" else "alice"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cuts", lambda v: v + 1000),
        ("cuts", lambda v: v - 1000),
        ("cuts", lambda v: 0 * v),
        ("cuts", lambda v: v[1:]),
        ("rows", lambda v: np.full_like(v, 255)),
        ("rows", lambda v: v[:, 1:]),
    ],
)
def test_a_partner_refuses_what_cannot_be_asked(name, change):
    with pytest.raises(BadMessage, match="alice"):
        lie("alice", "trees.ask", name, change)


@pytest.mark.parametrize("change", [lambda v: v[1:], lambda v: v.astype(np.int64)])
def test_the_label_party_refuses_what_is_no_answer(change):
    with pytest.raises(BadMessage, match="bob"):
        lie("bob", "trees.told", "left", change)
