"""What crosses the line, what each side refuses, and the same over TLS."""

import threading

import numpy as np
import pytest
from tests.linear.pooled import columns, fitted

from isthmus.crypto import he
from isthmus.errors import BadMessage, DataError, IsthmusError, JobError, TrainError
from isthmus.linear import LinearOptions, fit, predict
from isthmus.linear.result import LinearResult
from isthmus.link import Listener, Transcript, create_identity, memory_links, open_links, trust
from isthmus.session import PATIENCE, Session, run_parties

pytest.importorskip("tenseal")

X, RNG = columns(120, 5)
Y = (X[:, 0] + X[:, 3] + RNG.normal(size=120) > np.median(X[:, 0] + X[:, 3])).astype(float)
OPTIONS = LinearOptions(family="linear")
AGREED = OPTIONS.agreed() | {"rows": 120}
KEY = he.HeKey()


def fit_as(session, *, options=OPTIONS):
    if session.is_label_party:
        return fit(session, X[:, :2], Y, options)
    return fit(session, X[:, 2:], options=options)


def test_the_first_vector_is_the_label_residuals_regressed_on_the_partners_columns():
    """What the page says of it: the fitted values, and so in the space of the columns."""
    seen = []

    def label(session):
        link = session.links["bob"]
        take = link.recv

        def recv(topic, **patience):
            message = take(topic, **patience)
            seen.append(message)
            return message

        link.recv = recv
        return fit(session, None, Y, OPTIONS)

    run_parties({"alice": label, "bob": fit_as}, label_party="alice")
    assert {m.topic for m in seen} == {"linear.hello", "linear.products", "linear.direction"}
    first = next(m for m in seen if m.topic == "linear.direction").tensors["direction"]
    x = X[:, 2:] - X[:, 2:].mean(axis=0)
    fitted_values = x @ np.linalg.lstsq(x, Y - Y.mean(), rcond=None)[0]
    assert np.corrcoef(first, fitted_values)[0, 1] == pytest.approx(1.0, abs=1e-8)


def test_over_tls_it_is_the_same(tmp_path):
    made = {name: create_identity(tmp_path / name, name) for name in ("alice", "bob")}
    trust(tmp_path / "alice", made["bob"].certificate_path)
    trust(tmp_path / "bob", made["alice"].certificate_path)
    listener, found = Listener(tmp_path / "alice", "alice"), {}

    def party(me, partner, address):
        listen = {"listen": listener} if me == "alice" else {}
        links = open_links(tmp_path / me, me, {partner: address}, context="job", **listen)
        session = Session(me=me, parties=("alice", "bob"), label_party="alice", links=links)
        found[me] = fit_as(session)
        links[partner].close()

    other = threading.Thread(target=party, args=("bob", "alice", listener.address))
    other.start()
    party("alice", "bob", None)
    other.join()
    listener.close()
    here = run_parties({"alice": fit_as, "bob": fit_as}, label_party="alice")
    for name in ("alice", "bob"):
        # Masks and keys are fresh in every run, and have no part in the result.
        np.testing.assert_array_equal(found[name].coefficients, here[name].coefficients)


def test_a_transcript_shows_that_no_label_leaves_in_the_open(tmp_path):
    alice, bob = memory_links("alice", "bob", transcripts=(Transcript(tmp_path / "t"), None))
    sessions = [
        Session(me=one.me, parties=("alice", "bob"), label_party="alice", links={one.partner: one})
        for one in (alice, bob)
    ]
    other = threading.Thread(target=fit_as, args=(sessions[1],))
    other.start()
    fit_as(sessions[0])
    other.join()
    alice.close()
    sent = (tmp_path / "t").read_text()
    for topic in ("hello", "start", "residuals", "sums", "result"):
        assert f'"linear.{topic}"' in sent
    # No tensor of floats has as many numbers as there are rows.
    assert '["float64",[120' not in sent


def against(partner, *, honest="alice", program=fit_as):
    """Run the honest party against a partner's own program; raise the honest one's error."""
    errors = []

    def honest_program(session):
        try:
            return program(session)
        except BaseException as error:
            errors.append(error)
            raise

    def hostile_program(session):
        (link,) = session.links.values()
        partner(link)
        link.recv("never")  # until the honest side has failed

    programs = {"alice": hostile_program, "bob": hostile_program, honest: honest_program}
    with pytest.raises(IsthmusError):
        run_parties(programs, label_party="alice")
    raise errors[0]


def as_bob(columns=3, products=None, **direction):
    """A feature party that greets, answers the first round, and then does as told."""

    def partner(link):
        link.send("linear.hello", header={"agreed": AGREED, "columns": columns})
        if products is not None:
            link.send("linear.products", products)
            return
        link.recv("linear.hello")
        link.send("linear.products", he.pack([KEY.encrypt(np.arange(5))]))
        link.send("linear.direction", **direction)

    return partner


@pytest.mark.parametrize("columns", [0, -1, 2.0, "3", None, 10**9, True])
def test_a_number_of_columns_that_cannot_be(columns):
    with pytest.raises(BadMessage, match="'columns'"):
        against(as_bob(columns))


@pytest.mark.parametrize(
    "products",
    [
        {},
        {"bytes": np.zeros(5, np.uint8), "sizes": np.array([5])},
        {"bytes": np.zeros(5, np.uint8), "sizes": np.array([2, 3])},
    ],
)
def test_products_that_are_no_ciphertexts(products):
    with pytest.raises(BadMessage):
        against(as_bob(products=products))


@pytest.mark.parametrize(
    "direction",
    [
        {"header": {}},
        {"header": {"settled": 1}},
        {"header": {"settled": False}},
        {"header": {"settled": False}, "tensors": {"direction": np.ones(120, np.float32)}},
        {"header": {"settled": False}, "tensors": {"direction": np.ones(119)}},
        {"header": {"settled": False}, "tensors": {"direction": np.full(120, np.nan)}},
        {"header": {"settled": False}, "tensors": {"direction": np.full(120, 1e200)}},
        {"header": {"settled": False}, "tensors": {"direction": np.ones(120)}},
        {"header": {"settled": False}, "tensors": {"direction": 2.0 * np.arange(120)}},
    ],
)
def test_directions_that_cannot_be(direction):
    def partner(link):
        link.send("linear.hello", header={"agreed": AGREED, "columns": 3})
        key = he.HePublic(link.recv("linear.hello").tensors["key"])
        link.send("linear.products", he.pack([key.encrypt(np.arange(5))]))
        link.send("linear.direction", **direction)

    with pytest.raises(BadMessage):
        against(partner)


def as_alice(hello=None, start=0.2, **residuals):
    def partner(link):
        link.send("linear.hello", hello or {"key": KEY.public()}, {"agreed": AGREED})
        link.send("linear.start", header={"curvature": start})
        link.send("linear.residuals", **residuals)
        link.send("linear.sums", {"sums": np.full(3, he.HALF + 1)})

    return partner


GOOD = {"done": False, "exponent": -3, "settled": 0.1}
ASKED = he.pack([KEY.encrypt(np.arange(120))]) | {"weights": np.empty(0)}


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"hello": {"key": np.zeros(9, np.uint8)}}, "public key"),
        ({"hello": {"other": np.zeros(9, np.uint8)}}, "public key"),
        ({"start": -1.0}, "curvature"),
        ({"start": "big"}, "curvature"),
        ({"header": {}}, "done"),
        ({"header": GOOD}, "weights"),
        ({"header": GOOD, "tensors": ASKED | {"weights": np.ones(1)}}, "weights"),
        ({"header": GOOD | {"exponent": 10**6}, "tensors": ASKED}, "exponent"),
        ({"header": GOOD | {"settled": 0.0}, "tensors": ASKED}, "settled"),
        ({"header": GOOD, "tensors": {"weights": np.empty(0)}}, "ciphertexts"),
        ({"header": GOOD, "tensors": ASKED}, "beyond the modulus"),
    ],
)
def test_a_label_party_that_does_not_keep_to_the_protocol(told, match):
    with pytest.raises(BadMessage, match=match):
        against(as_alice(**told), honest="bob")


def test_weights_of_another_number_of_directions_at_the_end():
    def partner(link):
        as_alice(header={"done": True})(link)
        link.send("linear.result", {"weights": np.ones(2)}, {"converged": True})

    with pytest.raises(BadMessage, match="weights"):
        against(partner, honest="bob")


def test_parties_with_different_options_or_rows_are_told_which():
    def other(session):
        return fit_as(session, options=LinearOptions(l2=1.0))

    with pytest.raises(JobError, match="differ in family, l2"):
        run_parties({"alice": fit_as, "bob": other}, label_party="alice")

    def fewer(session):
        return fit(session, X[:100, 2:], options=OPTIONS)

    with pytest.raises(JobError, match="differ in rows"):
        run_parties({"alice": fit_as, "bob": fewer}, label_party="alice")


def test_more_columns_than_rows_can_hide_are_refused():
    with pytest.raises(DataError, match="fewer than 50 for each of the 3 columns of bob"):
        fitted({"alice": None, "bob": X[:, 2:]}, Y, LinearOptions(rows_per_column=50))


def test_labels_that_columns_give_away_are_refused():
    given = (X[:, 2] > np.median(X[:, 2])).astype(float)
    with pytest.raises(TrainError):
        fitted({"alice": None, "bob": X[:, 2:]}, given, LinearOptions(tolerance=1e-6))


def test_data_that_cannot_be_used_is_refused():
    session = Session(
        me="alice",
        parties=("alice", "bob"),
        label_party="alice",
        links={"bob": memory_links("alice", "bob")[0]},
    )
    holes = X[:, :2].copy()
    holes[3, 1] = np.nan
    for data, labels, options, extra, match in [
        (holes, Y, OPTIONS, {}, "column 1 has missing"),
        (np.where(np.isnan(holes), 1e300, holes), Y, OPTIONS, {}, "column 1 has values beyond"),
        (X[:, 0], Y, OPTIONS, {}, r"\[rows, columns\]"),
        (X[:, :2].astype(str).astype(object) + "a", Y, OPTIONS, {}, "not all numbers"),
        (X[:9, :2], Y, OPTIONS, {}, "9 rows of columns and 120 labels"),
        (X[:, :2], Y + 1, LinearOptions(), {}, "labels 0 and 1"),
        (X[:, :2], np.ones(120), LinearOptions(), {}, "all labels are the same"),
        (X[:, :2], Y, LinearOptions(family="gamma"), {}, "above 0"),
        (X[:, :2], -Y, LinearOptions(family="poisson"), {}, "0 and above"),
        (X[:, :2], 0 * Y, LinearOptions(family="tweedie"), {}, "all labels are 0"),
        (X[:, :2], [], OPTIONS, {}, "no labels"),
        (X[:, :2], Y, OPTIONS, {"weights": -np.ones(120)}, "above 0"),
        (X[:, :2], Y, OPTIONS, {"offset": np.ones(3)}, "offset"),
    ]:
        with pytest.raises(DataError, match=match):
            fit(session, data, labels, options, **extra)


def test_who_brings_what_is_checked():
    alice = {"bob": memory_links("alice", "bob")[0]}
    parties = ("alice", "bob")
    label = Session(me="alice", parties=parties, label_party="alice", links=alice)
    feature = Session(me="alice", parties=parties, label_party="bob", links=alice)
    alone = Session(me="alice", parties=parties, label_party="alice")
    for session, data, labels in [
        (label, X, None),
        (feature, X, Y),
        (feature, None, None),
        (alone, X, Y),
    ]:
        with pytest.raises(JobError):
            fit(session, data, labels, OPTIONS)


RESULT = LinearResult(
    options=OPTIONS, coefficients=np.ones(2), intercept=1.0, rounds=1, converged=True, shown=0
)


def test_predictions_need_the_same_columns_and_rows():
    def score(values):
        return lambda link: link.send("linear.score", {"score": values})

    def label(session):
        return predict(session, RESULT, X[:, :2])

    for wrong in (np.ones(7), np.full(120, np.inf), np.ones(120, np.int64)):
        with pytest.raises(BadMessage, match="'score'"):
            against(score(wrong), program=label)

    def other(session):
        return predict(session, RESULT, X[:, :3])

    with pytest.raises(DataError, match="3 columns for a model of 2"):
        against(score(np.ones(120)), program=other)


@pytest.mark.parametrize("protocol", ["vectors", "moments"])
def test_nobody_gives_up_on_a_party_that_is_busy_with_another(protocol):
    waits = {}

    def patient(session):
        for link in session.links.values():
            link.recv = _noting(link.recv, waits)
        return fit_as(session, options=LinearOptions(family="linear", protocol=protocol))

    run_parties({"alice": patient, "bob": patient}, label_party="alice")
    assert "linear.result" in waits
    assert set(waits.values()) == {PATIENCE}


def _noting(recv, waits):
    def noting(topic, *, timeout=None):
        waits[topic] = timeout
        return recv(topic, timeout=timeout)

    return noting
