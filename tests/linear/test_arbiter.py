"""Gradient steps under an arbiter's key against the same steps in NumPy, and scikit-learn."""

import threading

import numpy as np
import pytest
from sklearn import linear_model as sk
from tests.linear.pooled import coefficients, columns, fitted

from isthmus.crypto import he, products
from isthmus.errors import BadMessage, DataError, IsthmusError, JobError, TrainError
from isthmus.linear import LinearOptions, fit, predict
from isthmus.linear.arbiter import MOST, Plan
from isthmus.linear.span import Span
from isthmus.linear.taylor import Coordinates, Quadratic, batches
from isthmus.link import Listener, create_identity, open_links, trust
from isthmus.session import Session, run_parties

pytest.importorskip("tenseal")

ROWS, OWN = 600, 3
X, RNG = columns(ROWS, 7)
ETA = X[:, 0] - 0.5 * X[:, 5] + 0.2 * X[:, 3]
REAL = 5.0 + 3.0 * (ETA + RNG.normal(size=ROWS))
BINARY = (RNG.random(ROWS) < 1 / (1 + np.exp(ETA.mean() - ETA))).astype(float)
SESSION = Session(me="alice", parties=("alice", "bob", "carol"), label_party="alice")
TABLES = {"alice": X[:, :OWN], "bob": X[:, OWN:]}
THREE = {"alice": X[:, :2], "bob": X[:, 2:4], "dora": X[:, 4:]}


def options(**other):
    return LinearOptions(protocol="arbiter", arbiter="carol", **other)


def with_carol(tables):
    return tables | {"carol": None}


def steps_in_numpy(tables, y, opts, epochs, rng):
    """The same steps on the pooled columns, in float64, with the label party's intercept."""
    loss = Quadratic.of(opts.family)
    t = (y - loss.centre) / loss.curvature
    mean, scale = (t.mean(), t.std()) if opts.family == "linear" else (0.0, 1.0)
    t = (t - mean) / scale
    blocks = []
    for number, table in enumerate(tables.values()):
        block = Coordinates.of(Span(table, opts), opts, loss.curvature, scale)
        blocks.append(block if number else block.with_constant(loss.curvature))
    parts = batches(len(y), opts, rng)
    lengths = []
    for block in blocks:
        grams = [block.basis[part].T @ block.basis[part] / len(part) for part in parts]
        steepest = loss.curvature * max(np.linalg.eigvalsh(gram)[-1] for gram in grams)
        lengths.append(opts.learning_rate / (len(blocks) * steepest))
    theta = [np.zeros(block.basis.shape[1]) for block in blocks]
    for epoch in range(epochs):
        for part in parts:
            eta = sum(b.basis[part] @ w for b, w in zip(blocks, theta, strict=True))
            for i, block in enumerate(blocks):
                length = lengths[i] / np.sqrt(1 + opts.decay * epoch)
                gradient = loss.curvature * block.basis[part].T @ (eta - t[part]) / len(part)
                moved = theta[i] - length * gradient
                shrunk = np.sign(moved) * np.maximum(np.abs(moved) - length * block.lasso, 0)
                theta[i] = shrunk / (1 + length * block.ridge)
    found = [scale * b.to_columns @ w for b, w in zip(blocks, theta, strict=True)]
    return np.concatenate(found)


@pytest.mark.parametrize("tables", [TABLES, THREE], ids=["two", "three"])
@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("logistic", {}),
        ("linear", {"l2": 0.1}),
        ("logistic", {"l1": 0.02, "l2": 0.01}),
        ("linear", {"l1": 0.3, "batch_size": 220, "decay": 0.5}),
        ("logistic", {"batch_size": 250, "learning_rate": 0.7}),
    ],
)
def test_steps_are_those_of_the_pooled_columns(tables, family, other):
    y = REAL if family == "linear" else BINARY
    opts = options(family=family, epochs=5, tolerance=1e-9, **other)
    found = fitted(with_carol(tables), y, opts)
    rng = run_parties({"alice": lambda s: s.shared_rng("linear.batches")}, label_party="alice")
    expected = steps_in_numpy(tables, y, opts, 5, rng["alice"])
    # Of fixed point: 2^-14 of a deviation in the residuals, less in their mean.
    np.testing.assert_allclose(coefficients(found), expected, atol=2e-4)
    assert found["carol"].rounds == found["bob"].rounds == found["alice"].rounds
    assert not found["alice"].converged


@pytest.mark.parametrize("intercept", [True, False])
def test_linear_regression_converges_to_the_pooled_one(intercept):
    x = np.random.default_rng(5).normal(size=(ROWS, 5)) + 0.3 * X[:, :5] + float(intercept)
    opts = options(family="linear", l2=0.05, intercept=intercept)
    y = REAL if intercept else REAL - REAL.mean()
    found = fitted({"alice": x[:, :2], "bob": x[:, 2:], "carol": None}, y, opts)
    pooled = sk.Ridge(alpha=0.05 * ROWS, fit_intercept=intercept, solver="svd").fit(x, y)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=5e-3)
    if intercept:
        assert found["alice"].intercept == pytest.approx(pooled.intercept_, abs=1e-2)
    assert all(found[party].converged for party in ("alice", "bob", "carol"))
    assert found["alice"].rounds < 40


def test_lasso_sets_the_same_coefficients_to_nothing():
    scaled = X / X.std(axis=0)
    tables = {"alice": scaled[:, :OWN], "bob": scaled[:, OWN:]}
    opts = options(family="linear", l1=0.5, tolerance=1e-3, epochs=400)
    found = fitted(with_carol(tables), REAL, opts)
    pooled = sk.Lasso(alpha=0.5, tol=1e-10).fit(scaled, REAL)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=5e-3)
    np.testing.assert_array_equal(coefficients(found) == 0, pooled.coef_ == 0)
    assert (pooled.coef_ == 0).any()


def test_the_taylor_series_ranks_as_logistic_regression():
    x = np.random.default_rng(6).normal(size=(ROWS, 5)) + 0.5 * X[:, [0, 1, 2, 3, 5]]
    offset = np.sin(np.arange(ROWS)) / 3
    tables = {"alice": x[:, :2], "bob": x[:, 2:], "carol": None}
    found = fitted(tables, BINARY, options(), offset=offset)
    pooled = sk.Ridge(alpha=0, solver="svd").fit(x, 4 * (BINARY - 0.5) - offset)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=5e-3)

    def program(session):
        return predict(session, found[session.me], tables[session.me])

    scores = run_parties(dict.fromkeys(tables, program), label_party="alice")
    eta = np.log(scores["alice"] / (1 - scores["alice"]))
    exact = sk.LogisticRegression(C=np.inf).fit(x, BINARY).decision_function(x)
    assert np.corrcoef(eta, exact)[0, 1] > 0.99
    assert scores["bob"] is None
    assert scores["carol"] is None


def test_a_label_party_without_columns_and_a_party_with_constant_ones():
    theirs = np.column_stack([X, np.full(ROWS, 3.0)])
    opts = options(family="linear")
    found = fitted({"alice": None, "bob": theirs, "carol": None}, REAL, opts)
    pooled = sk.LinearRegression().fit(X, REAL)
    np.testing.assert_allclose(found["bob"].coefficients[:-1], pooled.coef_, atol=5e-3)
    assert found["bob"].coefficients[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_dependent_columns_and_a_label_party_with_a_constant_one(l1):
    x = np.random.default_rng(7).normal(size=(ROWS, 3)) + 0.2 * X[:, [0, 3, 5]]
    theirs = np.column_stack([x, x[:, 0] + x[:, 1], np.full(ROWS, 3.0)])
    tables = {"alice": np.full((ROWS, 1), 2.0), "bob": theirs, "carol": None}
    found = fitted(tables, REAL, options(family="linear", l1=l1))
    pooled = sk.Lasso(alpha=l1, tol=1e-10) if l1 else sk.LinearRegression()
    ours = theirs @ found["bob"].coefficients + found["alice"].intercept
    assert found["alice"].coefficients == pytest.approx(0.0, abs=1e-9)
    # L1 is on columns as they are, scikit-learn's too.
    np.testing.assert_allclose(ours, pooled.fit(theirs, REAL).predict(theirs), atol=0.02)


def test_over_tls_it_is_the_same(tmp_path):
    names = ("alice", "bob", "carol")
    made = {name: create_identity(tmp_path / name, name) for name in names}
    for name in ("bob", "carol"):
        trust(tmp_path / "alice", made[name].certificate_path)
        trust(tmp_path / name, made["alice"].certificate_path)
    listener, found = Listener(tmp_path / "alice", "alice"), {}
    opts = options(epochs=3)

    def party(me):
        partners = names[1:] if me == "alice" else ("alice",)
        addresses = dict.fromkeys(partners, None if me == "alice" else listener.address)
        listen = {"listen": listener} if me == "alice" else {}
        links = open_links(tmp_path / me, me, addresses, context="job", **listen)
        session = Session(me=me, parties=names, label_party="alice", links=links)
        found[me] = fit(session, TABLES.get(me), BINARY if me == "alice" else None, opts)
        for link in links.values():
            link.close()

    others = [threading.Thread(target=party, args=(name,)) for name in names[1:]]
    for other in others:
        other.start()
    party("alice")
    for other in others:
        other.join()
    listener.close()
    here = fitted(with_carol(TABLES), BINARY, opts)
    for name in names:
        # Masks and keys are fresh in every run, and have no part in the result.
        np.testing.assert_array_equal(found[name].coefficients, here[name].coefficients)


def test_batches_are_the_same_in_every_epoch_and_have_all_rows_once():
    opts = options(batch_size=100)
    parts = batches(450, opts, np.random.default_rng(1))
    assert sorted(map(len, parts)) == [90] * 5
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(450))
    (whole,) = batches(100, opts, np.random.default_rng(1))
    np.testing.assert_array_equal(whole, np.arange(100))


def test_what_cannot_be_fitted_is_refused():
    for wrong in (
        {"protocol": "arbiter"},
        {"arbiter": "carol"},
        {"protocol": "arbiter", "arbiter": ""},
        {"protocol": "arbiter", "arbiter": "carol", "family": "gamma"},
        {"protocol": "arbiter", "arbiter": "carol", "rounds": 3},
        {"batch_size": 0},
        {"epochs": 0},
        {"learning_rate": 2.0},
        {"decay": -1.0},
        {"l1": -0.1},
        {"l1": 0.1, "standard_errors": True},
    ):
        with pytest.raises(JobError):
            LinearOptions(**wrong)
    with pytest.raises(JobError, match='protocol="arbiter"'):
        fitted(TABLES, REAL, LinearOptions(family="linear", l1=0.1))
    with pytest.raises(JobError, match="weights"):
        fitted(with_carol(TABLES), BINARY, options(), weights=np.arange(1.0, ROWS + 1))
    with pytest.raises(JobError, match="beside the arbiter"):
        fitted({"alice": X, "carol": None}, BINARY, options())
    with pytest.raises(JobError, match="came with columns"):
        fitted(TABLES | {"carol": X}, BINARY, options())
    with pytest.raises(JobError, match="no partner"):
        fitted(TABLES, BINARY, options())


def test_batches_that_would_tell_of_few_rows_are_refused():
    few = options(batch_size=250, rows_per_column=60)
    with pytest.raises(DataError, match="200 rows has fewer than 60 for each of the 4 own columns"):
        fitted(with_carol(TABLES), BINARY, few)
    for tables in (TABLES, {"alice": None, "bob": X[:, OWN : OWN + 2]}):
        with pytest.raises(JobError, match="batches of 40 rows are too small"):
            fitted(with_carol(tables), BINARY, options(batch_size=40))
    rare = np.column_stack([X[:, OWN:], np.arange(ROWS) < 8])
    whole = options(family="linear", epochs=1)
    fitted({"alice": None, "bob": rare, "carol": None}, REAL, whole)
    opts = options(family="linear", epochs=1, batch_size=300)
    with pytest.raises(DataError, match="rows apart"):
        fitted({"alice": None, "bob": rare, "carol": None}, REAL, opts)


def test_steps_that_run_away_and_labels_far_out_are_told():
    wild = REAL.copy()
    wild[0] = 1e6
    with pytest.raises(DataError, match="deviations from the mean"):
        fitted(with_carol(TABLES), wild, options(family="linear"))
    plan = Plan.of(SESSION, ROWS, options())
    whole = plan.whole(np.array([1.0, -32.0]))
    np.testing.assert_array_equal(whole, [1 << plan.bits, -32 << plan.bits])
    for beyond in (32.1, np.nan):
        with pytest.raises(TrainError, match="beyond 32"):
            plan.whole(np.array([0.0, beyond]))


@pytest.mark.parametrize("rows", [60, ROWS, 30_000, 1 << 24])
@pytest.mark.parametrize("parties", [2, 3, 9])
def test_no_sum_of_parties_can_overflow(rows, parties):
    names = tuple(f"party{number}" for number in range(parties + 1))
    session = Session(me=names[0], parties=names, label_party=names[0])
    plan = Plan.of(session, rows, options())
    largest = parties * int(plan.whole(np.array([MOST]))[0])
    assert products.fits(rows, largest, 1 << plan.precision.column)
    assert not products.fits(rows, 4 * largest, 1 << plan.precision.column + 1)


def test_only_masked_sums_reach_the_arbiter_and_no_rows_the_label_party():
    seen = {"alice": [], "carol": []}

    def watched(session):
        if session.me in seen:
            for link in session.links.values():
                take = link.recv

                def recv(topic, take=take, me=session.me, who=link.partner, **patience):
                    message = take(topic, **patience)
                    seen[me].append((who, message))
                    return message

                link.recv = recv
        opts = options(family="linear", epochs=1)
        if session.me == "alice":
            return fit(session, TABLES["alice"], REAL, opts)
        return fit(session, TABLES.get(session.me), options=opts)

    run_parties(dict.fromkeys(with_carol(TABLES), watched), label_party="alice")
    topics = {(who, message.topic) for who, message in seen["carol"]}
    assert topics == {("alice", "linear.arbiter"), ("alice", "linear.products")}
    for who, message in seen["alice"] + seen["carol"]:
        names = set(message.tensors)
        assert names <= {"bytes", "sizes", "key", "sums"}, (who, message.topic, names)
    sums = [m.tensors["sums"] for who, m in seen["alice"] if m.topic == "linear.sums"]
    assert [len(one) for one in sums] == [OWN + 1, len(TABLES["bob"][0])]
    # Uniform, so of the size of the modulus.
    assert np.abs(np.concatenate(sums)).max() > 1 << 44


def against(partner, *, honest):
    """Run honest parties against the program of the one it is named for; raise their error."""
    errors = []

    def honest_program(session):
        try:
            data = TABLES.get(session.me)
            return fit(session, data, BINARY if session.me == "alice" else None, options(epochs=2))
        except BadMessage as error:
            errors.append(error)
            raise

    def hostile_program(session):
        if session.me == partner.__name__:
            partner(session)
        # Until an honest one has failed.
        session.links.get(honest[0], session.links.get("alice")).recv("never")

    programs = dict.fromkeys(("alice", "bob", "carol"), hostile_program)
    with pytest.raises(IsthmusError):
        run_parties(programs | dict.fromkeys(honest, honest_program), label_party="alice")
    raise errors[0]


KEY = he.HeKey()
MATCH = {"start": "scale", "residuals": "ciphertexts", "sums": "sums", "epoch": "converged"}
GOOD = {"done": False, "rows": ROWS, "columns": 3}
ANSWER = he.pack([KEY.encrypt(np.arange(3))])


@pytest.mark.parametrize(
    ("header", "times", "match"),
    [
        ({"done": None}, 1, "done"),
        (GOOD | {"rows": 1}, 1, "rows"),
        (GOOD | {"columns": 0}, 1, "columns"),
        (GOOD | {"columns": 900}, 1, "were expected"),
        (GOOD, 5, "more sums than were agreed"),
        ({"done": True, "converged": 1, "steps": 2}, 1, "converged"),
        ({"done": True, "converged": True, "steps": 3}, 1, "steps"),
    ],
)
def test_an_arbiter_opens_no_more_and_no_other_sums_than_were_agreed(header, times, match):
    """A label party that asked for sums over a single row would see what partners encrypt."""

    def alice(session):
        link = session.links["carol"]
        agreed = {"agreed": options(epochs=2).agreed(), "rows": ROWS}
        link.send("linear.arbiter", header=agreed)
        public = he.HePublic(link.recv("linear.key").tensors["key"])
        for _ in range(times):
            link.send("linear.products", he.pack([public.encrypt(np.arange(3))]), header)

    with pytest.raises(BadMessage, match=match):
        against(alice, honest=["carol"])


@pytest.mark.parametrize(
    "sums", [None, np.zeros(2, np.int64), np.zeros(4), np.full(4, he.HALF + 1)]
)
def test_an_arbiter_that_sends_no_sums(sums):
    def carol(session):
        session.hub.send("linear.key", {"key": KEY.public()})
        session.hub.send("linear.sums", {} if sums is None else {"sums": sums})

    with pytest.raises(BadMessage, match="carol sent"):
        against(carol, honest=["alice", "bob"])


def test_an_arbiter_without_a_key():
    def carol(session):
        session.hub.send("linear.key")

    with pytest.raises(BadMessage, match="public key"):
        against(carol, honest=["alice", "bob"])


@pytest.mark.parametrize("topic", ["linear.predictor", "linear.products", "linear.settled"])
def test_a_feature_party_that_does_not_keep_to_the_protocol(topic):
    def bob(session):
        link = session.hub
        agreed = options(epochs=2).agreed() | {"rows": ROWS}
        link.send("linear.hello", header={"agreed": agreed, "columns": 4})
        public = he.HePublic(link.recv("linear.hello").tensors["key"])
        good = he.pack([public.encrypt(np.arange(3))])
        for step in ("linear.predictor", "linear.products"):
            link.send(step, {} if step == topic else good)
        link.send("linear.settled", header={"settled": 1})

    with pytest.raises(BadMessage, match="settled" if topic.endswith("settled") else "ciphertexts"):
        against(bob, honest=["alice", "carol"])


@pytest.mark.parametrize("topic", MATCH)
def test_a_label_party_that_does_not_keep_to_the_protocol(topic):
    def alice(session):
        link = session.links["bob"]
        agreed = options(epochs=2).agreed() | {"rows": ROWS}
        link.send("linear.hello", {"key": KEY.public()}, {"agreed": agreed})
        link.send("linear.start", header={"scale": 0.0 if topic == "start" else 1.0})
        link.send("linear.residuals", {} if topic == "residuals" else ANSWER)
        link.send("linear.sums", {"sums": np.zeros(3 if topic == "sums" else 4, np.int64)})
        link.send("linear.epoch", header={"done": False})

    with pytest.raises(BadMessage, match=MATCH[topic]):
        against(alice, honest=["bob"])
