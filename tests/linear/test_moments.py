"""Least squares from moments against scikit-learn, and what it refuses."""

import numpy as np
import pytest
from sklearn import linear_model as sk
from tests.linear.pooled import coefficients, columns, fitted

from isthmus.crypto import he
from isthmus.errors import BadMessage, DataError, IsthmusError, JobError
from isthmus.linear import LinearOptions, fit
from isthmus.session import run_parties

pytest.importorskip("tenseal")

ROWS, OWN = 400, 3
X, RNG = columns(ROWS, 7)
REAL = X[:, 0] - 0.5 * X[:, 5] + RNG.normal(size=ROWS)
BINARY = (np.median(REAL) < REAL).astype(float)
TABLES = {"alice": X[:, :OWN], "bob": X[:, OWN:]}


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_linear_regression_is_the_pooled_one(l2, intercept):
    options = LinearOptions(family="linear", protocol="moments", l2=l2, intercept=intercept)
    found = fitted(TABLES, REAL, options)
    pooled = sk.Ridge(alpha=l2 * ROWS, fit_intercept=intercept, solver="svd").fit(X, REAL)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=1e-4)
    if intercept:
        assert found["alice"].intercept == pytest.approx(pooled.intercept_, abs=2e-4)
    else:
        assert found["alice"].intercept is None
    assert found["bob"].shown == 0


@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_logistic_regression_is_that_of_the_taylor_series(l2):
    offset = RNG.normal(size=ROWS)
    options = LinearOptions(protocol="moments", l2=l2)
    found = fitted(TABLES, BINARY, options, offset=offset)
    # log 2 - (y - 1/2) eta + eta^2 / 8 is a square with the label 4 (y - 1/2), over 4.
    pooled = sk.Ridge(alpha=4 * l2 * ROWS, solver="svd").fit(X, 4 * (BINARY - 0.5) - offset)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=1e-4)
    assert found["alice"].intercept == pytest.approx(pooled.intercept_, abs=2e-4)


def test_a_label_party_without_columns_and_a_partner_with_dependent_ones():
    x = np.column_stack([X, X[:, 0] + X[:, 1]])
    options = LinearOptions(family="linear", protocol="moments")
    found = fitted({"alice": None, "bob": x}, REAL, options)
    pooled = sk.LinearRegression().fit(x, REAL).predict(x)
    ours = x @ found["bob"].coefficients + found["alice"].intercept
    np.testing.assert_allclose(ours, pooled, atol=1e-4)


def test_only_sums_reach_the_label_party():
    """Nothing that comes has a number for each row; ciphertexts open to masked slots."""
    topics = []

    def label(session):
        link = session.links["bob"]
        take = link.recv

        def recv(topic, **patience):
            message = take(topic, **patience)
            floats = [t for t in message.tensors.values() if t.dtype == np.float64]
            topics.append((topic, sum(one.size for one in floats)))
            return message

        link.recv = recv
        return fit(session, TABLES["alice"], REAL, options)

    def feature(session):
        return fit(session, TABLES["bob"], options=options)

    options = LinearOptions(family="linear", protocol="moments")
    run_parties({"alice": label, "bob": feature}, label_party="alice")
    assert set(topics) == {("linear.hello", 0), ("linear.moments", 0), ("linear.shift", 0)}
    assert len(topics) == 3


def test_of_more_rows_than_a_ciphertext_has_slots_too():
    x, rng = columns(20_000, 7)
    label = x[:, 0] - 0.5 * x[:, 5] + rng.normal(size=len(x))
    options = LinearOptions(family="linear", protocol="moments")
    found = fitted({"alice": x[:, :OWN], "bob": x[:, OWN:]}, label, options)
    pooled = sk.LinearRegression().fit(x, label)
    np.testing.assert_allclose(coefficients(found), pooled.coef_, atol=1e-4)


def test_sums_in_several_units_are_refused():
    x, rng = columns(900, 43)
    options = LinearOptions(family="linear", protocol="moments")
    errors = []

    def label(session):
        try:
            return fit(session, x[:, :3], rng.normal(size=900), options)
        except BadMessage as error:
            errors.append(error)
            raise

    def feature(session):
        send, sent = session.hub.send, []

        def other(topic, tensors=None, header=None):
            if topic == "linear.moments":
                sent.append(header["exponent"])
                header = {"exponent": header["exponent"] - len(sent)}
            send(topic, tensors, header)

        session.hub.send = other
        return fit(session, x[:, 3:], options=options)

    with pytest.raises(IsthmusError):
        run_parties({"alice": label, "bob": feature}, label_party="alice")
    assert "several units" in str(errors[0])


def test_what_moments_cannot_do_is_refused():
    for wrong in (
        {"family": "poisson"},
        {"family": "linear", "standard_errors": True},
        {"family": "linear", "rounds": 3},
    ):
        with pytest.raises(JobError):
            LinearOptions(protocol="moments", **wrong)
    with pytest.raises(JobError, match="no protocol"):
        LinearOptions(protocol="paillier")
    options = LinearOptions(family="linear", protocol="moments")
    with pytest.raises(JobError, match="weights"):
        fitted(TABLES, REAL, options, weights=np.arange(1.0, ROWS + 1))
    with pytest.raises(JobError, match="one feature party"):
        fitted({"alice": None, "bob": X[:, :3], "carol": X[:, 3:]}, REAL, options)


def test_more_own_columns_than_rows_can_hide_are_refused():
    options = LinearOptions(family="linear", protocol="moments", rows_per_column=90)
    with pytest.raises(DataError, match=r"each of the 6 own columns"):
        fitted({"alice": X[:, :5], "bob": X[:, 5:]}, REAL, options)


@pytest.mark.parametrize("vectors", [0, 21, 2.0, None])
def test_a_label_party_that_asks_for_more_is_refused(vectors):
    options = LinearOptions(family="linear", protocol="moments")
    errors = []

    def label(session):
        link = session.links["bob"]
        agreed = options.agreed() | {"rows": ROWS}
        link.send("linear.hello", {"key": he.HeKey().public()}, {"agreed": agreed})
        link.send("linear.start", header={"vectors": vectors})
        link.recv("never")

    def feature(session):
        try:
            return fit(session, TABLES["bob"], options=options)
        except BadMessage as error:
            errors.append(error)
            raise

    with pytest.raises(IsthmusError):
        run_parties({"alice": label, "bob": feature}, label_party="alice")
    assert "vectors" in str(errors[0])
