"""What crosses the line, what each side refuses, and the same over TLS."""

import threading
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from tests.trees.made import OPTIONS, PARTS, ROWS, TABLE, Y, pooled_model, split_models

from isthmus.errors import BadMessage, DataError, IsthmusError, JobError
from isthmus.link import Listener, create_identity, open_links, trust
from isthmus.session import Session, SilentProgress, run_parties
from isthmus.trees import fit, fit_alone, predict

TWO = {"alice": PARTS["alice"], "bob": PARTS["bob"] + PARTS["carol"]}
SMALL = replace(OPTIONS, trees=2, depth=3)


def fit_as(session, *, options=SMALL, labels=Y):
    own = TABLE.select(TWO[session.me])
    if session.is_label_party:
        return fit(session, own, labels, options)
    return fit(session, own, options=options)


def recorded(program=fit_as):
    """All messages by sender, and what the parties made."""
    sent = {"alice": [], "bob": []}

    def listening(session):
        (link,) = session.links.values()
        send = link.send

        def note(topic, tensors=None, header=None):
            copies = {name: np.array(array) for name, array in (tensors or {}).items()}
            sent[session.me].append((topic, copies, dict(header or {})))
            send(topic, tensors, header)

        link.send = note
        return program(session)

    found = run_parties(dict.fromkeys(TWO, listening), label_party="alice", seed=5)
    return sent, found


def test_what_crosses_is_what_the_page_says():
    sent, found = recorded()
    topics = {me: list(dict.fromkeys(topic for topic, _, _ in sent[me])) for me in sent}
    assert set(topics["alice"]) == {
        f"trees.{name}"
        for name in ("hello", "begin", "answers", "keys", "tree", "numbers", "splits", "rows")
    }
    assert set(topics["bob"]) == {
        f"trees.{name}" for name in ("hello", "base", "columns", "choices", "sums", "sides")
    }
    # No float, neither a derivative nor an edge, is in any message of fitting.
    kinds = {
        array.dtype.kind for me in sent for _, tensors, _ in sent[me] for array in tensors.values()
    }
    assert kinds <= {"u", "i", "b"}
    headers = [header for me in sent for _, _, header in sent[me]]
    known = {"agreed", "resumable", "rho", "from", "tree", "done", "cuts"}
    assert all(set(header) <= known for header in headers)
    names = {name for part in TWO.values() for name in part}
    assert not any(name in str(headers) for name in names)
    assert {one.column for one in found["alice"].bins} == set(TWO["alice"])
    assert {one.column for one in found["bob"].bins} == set(TWO["bob"])


def test_masked_derivatives_and_shares_look_random():
    """Bytes of the numbers and of the sums, whose contents are far from it, are uniform."""
    sent, _ = recorded()
    for me, topic, name in (("alice", "trees.numbers", "masked"), ("bob", "trees.sums", "sums")):
        content = [tensors[name].reshape(-1) for t, tensors, _ in sent[me] if t == topic]
        counts = np.bincount(np.concatenate(content).view(np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert expected >= 30
        # 255 degrees of freedom: above 400 once in 10^8 times.
        assert ((counts - expected) ** 2 / expected).sum() < 400


def test_a_partner_gets_the_same_whatever_the_labels_are_until_nodes_are_split():
    """Masks are fresh, so no masked number repeats, between labels or between runs."""
    seen = []
    for labels in (Y, Y, 1 - Y):
        sent, _ = recorded(lambda session, labels=labels: fit_as(session, labels=labels))
        seen.append(next(t["masked"] for topic, t, _ in sent["alice"] if topic == "trees.numbers"))
    assert not (seen[0] == seen[1]).any()
    assert not (seen[0] == seen[2]).any()


def test_over_tls_it_is_the_same(tmp_path):
    made = {name: create_identity(tmp_path / name, name) for name in TWO}
    trust(tmp_path / "alice", made["bob"].certificate_path)
    trust(tmp_path / "bob", made["alice"].certificate_path)
    listener, found, scores = Listener(tmp_path / "alice", "alice"), {}, {}

    def party(me, partner, address):
        listen = {"listen": listener} if me == "alice" else {}
        links = open_links(tmp_path / me, me, {partner: address}, context="job", **listen)
        session = Session(me=me, parties=tuple(TWO), label_party="alice", links=links)
        found[me] = fit_as(session)
        scores[me] = predict(session, found[me], TABLE.select(TWO[me]))
        links[partner].close()

    other = threading.Thread(target=party, args=("bob", "alice", listener.address))
    other.start()
    party("alice", "bob", None)
    other.join()
    listener.close()
    here, predicted = split_models(SMALL, parts=TWO)
    assert found == here
    np.testing.assert_array_equal(scores["alice"], predicted)
    assert scores["bob"] is None


def tampered(me, topic, change, program=fit_as):
    """Run both parties, where `me` changes a message of `topic`; raise the other's error."""
    errors = {}

    def run(session):
        if session.me == me:
            (link,) = session.links.values()
            send = link.send

            def lie(name, tensors=None, header=None):
                tensors, header = dict(tensors or {}), dict(header or {})
                if name == topic:
                    change(tensors, header)
                send(name, tensors, header)

            link.send = lie
        try:
            return program(session)
        except BaseException as error:
            errors[session.me] = error
            raise

    with pytest.raises(IsthmusError):
        run_parties(dict.fromkeys(TWO, run), label_party="alice", seed=5)
    raise errors["bob" if me == "alice" else "alice"]


def putting(name, value):
    def change(tensors, header):
        tensors[name] = value

    return change


def changing(name, how):
    def change(tensors, header):
        tensors[name] = how(np.array(tensors[name]))

    return change


def heading(name, value):
    def change(tensors, header):
        header[name] = value

    return change


def plus_one(array):
    array.reshape(-1)[0] += 1
    return array


def all_set(array):
    return np.full_like(array, 255)


BOB_LIES = {
    "trees.hello": [putting("more", np.zeros(1))],
    "trees.columns": [
        putting("values", np.zeros(0, np.int64)),
        changing("values", lambda v: v + 100),
        changing("values", lambda v: 0 * v),
        changing("values", lambda v: -v),
        changing("missing", lambda v: v[:-1]),
        changing("missing", lambda v: v.astype(np.uint8)),
    ],
    "trees.base": [putting("point", np.full(32, 255, np.uint8)), putting("point", np.zeros(3))],
    "trees.choices": [
        changing("rows", lambda v: v[:-1]),
        changing("rows", lambda v: v.view(np.int64)),
    ],
    "trees.sums": [
        changing("sums", plus_one),
        changing("sums", lambda v: v[:, :-1]),
        changing("sums", lambda v: v.astype(np.float64)),
        changing("allowed", all_set),
        changing("allowed", lambda v: v[:-1]),
        changing("ends", lambda v: 0 * v),
        changing("ends", all_set),
        changing("ends", lambda v: v[1:]),
    ],
    "trees.sides": [
        changing("left", all_set),
        changing("left", lambda v: 0 * v),
        changing("left", lambda v: v[:-1]),
    ],
}
ALICE_LIES = {
    "trees.hello": [
        changing("learnt", all_set),
        changing("learnt", lambda v: 0 * v),
        changing("learnt", lambda v: v[1:]),
    ],
    "trees.answers": [changing("points", all_set), changing("points", lambda v: v[1:])],
    "trees.keys": [changing("sealed", lambda v: v[1:]), putting("more", np.zeros(1))],
    "trees.tree": [
        heading("tree", -1),
        heading("tree", 10**6),
        heading("tree", True),
        changing("used", lambda v: 0 * v),
        changing("used", all_set),
        changing("columns", lambda v: 0 * v),
        changing("columns", all_set),
    ],
    "trees.numbers": [changing("masked", lambda v: v[1:]), changing("masked", lambda v: v[:, 1:])],
    "trees.splits": [
        changing("nodes", lambda v: v + 1),
        changing("nodes", lambda v: v - 1),
        changing("nodes", lambda v: np.repeat(v, 2)),
        changing("cuts", lambda v: 0 * v + 2**62),
        changing("cuts", lambda v: 0 * v - 2),
        changing("cuts", lambda v: v[:, :2]),
        putting("more", np.zeros(1)),
    ],
    "trees.rows": [changing("left", all_set), changing("left", lambda v: v[1:])],
}


def cases(lies):
    return [(topic, number) for topic, changes in lies.items() for number in range(len(changes))]


@pytest.mark.parametrize(("topic", "number"), cases(BOB_LIES))
def test_the_label_party_refuses_what_cannot_be(topic, number):
    with pytest.raises(BadMessage, match="bob"):
        tampered("bob", topic, BOB_LIES[topic][number])


@pytest.mark.parametrize(("topic", "number"), cases(ALICE_LIES))
def test_a_partner_refuses_what_cannot_be(topic, number):
    with pytest.raises(BadMessage, match="alice"):
        tampered("alice", topic, ALICE_LIES[topic][number])


def test_a_partner_keeps_to_its_own_rows_of_a_leaf():
    """In a node of half the rows, the first bin of sixty has not sixty any more."""

    def first_bins(tensors, header):
        if 0 not in tensors["nodes"]:
            tensors["cuts"] = 0 * tensors["cuts"]

    def program(session):
        return fit_as(session, options=replace(SMALL, min_rows=60))

    with pytest.raises(BadMessage, match="a cut that is not allowed"):
        tampered("alice", "trees.splits", first_bins, program)


def test_a_tree_comes_once():
    """A second tree under the same masks would show differences of derivatives."""
    with pytest.raises(BadMessage, match="'tree'"):
        tampered("alice", "trees.tree", heading("tree", 0))


def fit_and_predict(session):
    model = fit_as(session)
    return predict(session, model, TABLE.select(TWO[session.me]))


@pytest.mark.parametrize(
    ("topic", "change", "error", "said"),
    [
        ("trees.predict", heading("rows", ROWS - 1), DataError, "rows"),
        ("trees.predict", heading("rows", -1), BadMessage, "'rows'"),
        ("trees.predict", heading("cuts", 0), JobError, "another model"),
        ("trees.bits", changing("left", all_set), BadMessage, "beyond the last"),
        ("trees.bits", changing("left", lambda v: v[1:]), BadMessage, "agreed was"),
    ],
)
def test_predictions_of_a_partner_that_does_not_fit(topic, change, error, said):
    with pytest.raises(error, match=said):
        tampered("bob", topic, change, fit_and_predict)


@pytest.mark.parametrize("rows", [0, -1, 1 << 20, 2.0, None])
def test_a_partner_sends_no_more_at_a_time_than_it_should(rows):
    with pytest.raises(BadMessage, match="'rows'"):
        tampered("alice", "trees.pieces", heading("rows", rows), fit_and_predict)


def test_predictions_in_small_pieces_are_the_same(monkeypatch):
    _, whole = split_models(SMALL, parts=TWO)
    # The package has a function of the module's name.
    monkeypatch.setattr(import_module("isthmus.trees.predict"), "_BITS", 1000)
    _, pieces = split_models(SMALL, parts=TWO)
    np.testing.assert_array_equal(whole, pieces)


def test_parties_that_differ_are_told_in_what():
    def program(session):
        options = replace(SMALL, depth=4) if session.is_label_party else SMALL
        return fit_as(session, options=options)

    with pytest.raises(JobError, match="differ in depth"):
        run_parties(dict.fromkeys(TWO, program), label_party="alice")


def test_what_is_at_the_wrong_party():
    def bob_with_labels(session):
        return fit(session, TABLE.select(TWO[session.me]), Y, SMALL)

    with pytest.raises(JobError, match="not the label party"):
        run_parties(dict.fromkeys(TWO, bob_with_labels), label_party="alice")

    def nobody_with_labels(session):
        return fit(session, TABLE.select(TWO[session.me]), None, SMALL)

    with pytest.raises(JobError, match="without labels"):
        run_parties(dict.fromkeys(TWO, nobody_with_labels), label_party="alice")


def test_columns_come_by_name():
    with pytest.raises(DataError, match="not as ndarray") as caught:
        fit_alone(np.zeros((40, 2)), np.arange(40) % 2)
    assert "schema" in caught.value.mend


def test_a_partner_without_a_column_that_can_be_split():
    def program(session):
        if session.is_label_party:
            return fit_as(session)
        return fit(session, TABLE.select("x2").with_columns(x2=1.0), options=SMALL)

    with pytest.raises(DataError, match="two bins"):
        run_parties(dict.fromkeys(TWO, program), label_party="alice")


@pytest.mark.parametrize(
    ("labels", "given", "error", "said"),
    [
        (Y + 1, {}, DataError, "0 and 1"),
        (0 * Y, {}, DataError, "both"),
        (Y[1:], {}, DataError, "699 labels"),
        (Y[:, None], {}, DataError, "one number a row"),
        (np.where(Y > 0, np.nan, 0), {}, DataError, "not finite"),
        (Y, {"weights": 0 * Y}, DataError, "above 0"),
        (Y, {"valid": [ROWS]}, DataError, "beyond"),
        (Y, {"valid": [0.5]}, DataError, "numbers of rows"),
        (Y, {"valid": np.arange(ROWS)}, DataError, "none is left"),
    ],
)
def test_labels_and_rows_that_cannot_be_used(labels, given, error, said):
    with pytest.raises(error, match=said):
        pooled_model(SMALL, labels, **given)


def test_patience_needs_rows_to_stop_by():
    with pytest.raises(JobError, match="valid"):
        pooled_model(replace(SMALL, patience=2))


def test_predicting_needs_the_own_part_and_the_parties():
    model, _ = pooled_model(SMALL)
    session = Session(me="bob", parties=("alice", "bob"), label_party="alice")
    with pytest.raises(JobError, match="label party's part"):
        predict(session, model, TABLE)
    session = Session(me="alice", parties=("alice", "bob"), label_party="alice")
    with pytest.raises(JobError, match="not of the session's parties"):
        predict(session, model, TABLE)


class Noted(SilentProgress):
    def __init__(self):
        self.notes = []

    @contextmanager
    def task(self, name, total=None):
        yield self

    def advance(self, amount=1):
        pass

    def note(self, text):
        self.notes.append(text)


def test_some_twenty_rounds_of_many_are_noted_the_first_and_the_last_among_them():
    heard = Noted()

    def program(session):
        return fit_as(session, options=replace(SMALL, trees=45, depth=1))

    model = run_parties(dict.fromkeys(TWO, program), label_party="alice", progress=heard)["alice"]
    numbers = [int(text.split(",")[0].removeprefix("round ")) for text in heard.notes]
    assert numbers == [1, *range(2, 45, 2), 45]
    assert heard.notes[-1] == f"round 45, loss {model.losses[-1]:.5f}"
