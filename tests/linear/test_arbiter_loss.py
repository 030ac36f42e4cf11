"""The loss that ends a fit with an arbiter: its values, who has them, what it is refused for."""

from itertools import pairwise

import numpy as np
import pytest
from tests.linear.pooled import columns, fitted

from isthmus.errors import BadMessage, DataError, IsthmusError, JobError
from isthmus.linear import LinearOptions, LinearResult, fit
from isthmus.session import run_parties

pytest.importorskip("tenseal")

ROWS, OWN = 600, 3
X, RNG = columns(ROWS, 7)
ETA = X[:, 0] - 0.5 * X[:, 5] + 0.2 * X[:, 3]
REAL = 5.0 + 3.0 * (ETA + RNG.normal(size=ROWS))
BINARY = (RNG.random(ROWS) < 1 / (1 + np.exp(ETA.mean() - ETA))).astype(float)
TABLES = {"alice": X[:, :OWN], "bob": X[:, OWN:], "carol": None}


def options(**other):
    return LinearOptions(protocol="arbiter", arbiter="carol", stop="loss", **other)


def taylor(found, y, family, *, l1=0.0, l2=0.0):
    """The loss with penalties at the coefficients of `found`, in float64."""
    weights = np.concatenate([found["alice"].coefficients, found["bob"].coefficients])
    eta = X @ weights + found["alice"].intercept
    penalty = l2 / 2 * (weights**2).sum() + l1 * np.abs(weights).sum()
    if family == "linear":
        return (((y - eta) ** 2).mean() / 2 + penalty) / y.var()
    return (np.log(2) - (y - 0.5) * eta + eta**2 / 8).mean() + penalty


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("logistic", {}),
        ("logistic", {"l2": 0.05}),
        ("linear", {"l2": 0.1}),
        ("linear", {"l1": 0.4, "l2": 0.1}),
    ],
)
def test_the_losses_are_those_of_the_coefficients(family, other):
    y = REAL if family == "linear" else BINARY
    found = fitted(TABLES, y, options(family=family, epochs=400, loss_change=2e-6, **other))
    losses = found["alice"].losses
    assert losses[0] == pytest.approx(0.5 if family == "linear" else np.log(2), abs=1e-5)
    # With one batch every step lowers the loss; the last loss is of one step before the end.
    assert all(after < before + 2e-6 for before, after in pairwise(losses))
    assert losses[-1] == pytest.approx(taylor(found, y, family, **other), abs=5e-6)
    assert abs(losses[-2] - losses[-1]) <= 2e-6
    assert all(one.converged for one in found.values())
    assert len(losses) == found["alice"].rounds < 400
    assert found["bob"].losses == found["carol"].losses == ()


def test_a_coarse_change_stops_early_and_few_epochs_before_it():
    coarse = fitted(TABLES, REAL, options(family="linear", loss_change=0.01))["alice"]
    assert coarse.converged
    assert coarse.rounds < 10
    short = fitted(TABLES, REAL, options(family="linear", loss_change=2e-6, epochs=3))["alice"]
    assert not short.converged
    assert len(short.losses) == 3


def test_of_several_batches_it_is_the_loss_before_each_ones_step():
    found = fitted(TABLES, BINARY, options(batch_size=250, learning_rate=0.5, epochs=30))["alice"]
    assert found.rounds == 3 * len(found.losses)
    assert found.losses[0] < np.log(2)
    assert found.losses[0] > found.losses[-1]


def test_a_label_party_without_columns_has_losses_too():
    opts = options(family="linear", intercept=False, l2=0.1)
    found = fitted(TABLES | {"alice": None}, REAL - REAL.mean(), opts)
    assert found["alice"].losses[0] == pytest.approx(0.5, abs=1e-5)
    assert found["alice"].converged


def test_losses_are_in_the_file(tmp_path):
    found = fitted(TABLES, REAL, options(family="linear", epochs=4))
    for party, result in found.items():
        result.save(tmp_path / party)
        assert LinearResult.load(tmp_path / party).losses == result.losses
    assert len(found["alice"].losses) == 4


def test_with_steps_no_loss_crosses_and_none_is_kept():
    told = []

    def program(session):
        opts = LinearOptions(protocol="arbiter", arbiter="carol", family="linear", epochs=2)
        if session.me == "bob":
            send = session.hub.send

            def watched(topic, tensors=None, header=None):
                told.append((topic, dict(header or {})))
                send(topic, tensors, header)

            session.hub.send = watched
        if session.me == "alice":
            return fit(session, TABLES["alice"], REAL, opts)
        return fit(session, TABLES[session.me], options=opts)

    found = run_parties(dict.fromkeys(TABLES, program), label_party="alice")
    assert found["alice"].losses == ()
    settled = [header for topic, header in told if topic == "linear.settled"]
    assert len(settled) == 2
    assert all(set(header) == {"settled"} for header in settled)


def test_what_cannot_be_stopped_by_a_loss_is_refused():
    for wrong in ({"stop": "loss"}, {"stop": "never", "protocol": "arbiter", "arbiter": "carol"}):
        with pytest.raises(JobError, match="stop"):
            LinearOptions(**wrong)
    for change in (1e-7, float("nan"), float("inf")):
        with pytest.raises(JobError, match="loss_change"):
            options(loss_change=change)
    three = {"alice": X[:, :2], "bob": X[:, 2:4], "dora": X[:, 4:], "carol": None}
    with pytest.raises(JobError, match="one feature party"):
        fitted(three, BINARY, options())


def test_the_label_is_one_of_the_columns_that_rows_are_counted_for():
    tables = {"alice": X[:, :4], "bob": X[:, 4:6], "carol": None}
    steps = LinearOptions(
        family="linear", protocol="arbiter", arbiter="carol", epochs=1, rows_per_column=150
    )
    fitted(tables, REAL, steps)
    with pytest.raises(DataError, match="150 for each of the 5 own columns, of which the label"):
        fitted(tables, REAL, options(family="linear", epochs=1, rows_per_column=150))


def test_labels_of_few_rows_are_refused_as_a_column_would_be():
    rare = (np.arange(ROWS) < 4).astype(float)
    steps = LinearOptions(protocol="arbiter", arbiter="carol", epochs=1)
    fitted(TABLES, rare, steps)
    with pytest.raises(DataError, match="the label one more column") as caught:
        fitted(TABLES, rare, options(epochs=1))
    assert 'stop="steps"' in caught.value.mend


@pytest.mark.parametrize("loss", [None, 1, "0.5"])
def test_a_feature_party_that_tells_no_number(loss):
    errors = []

    def bob(session):
        link = session.hub
        send = link.send

        def lie(topic, tensors=None, header=None):
            if topic == "linear.settled":
                header = {**header, "loss": loss}
            send(topic, tensors, header)

        link.send = lie
        return fit(session, TABLES["bob"], options=options(epochs=2))

    def alice(session):
        try:
            return fit(session, TABLES["alice"], BINARY, options(epochs=2))
        except BadMessage as error:
            errors.append(error)
            raise

    def carol(session):
        return fit(session, None, options=options(epochs=2))

    with pytest.raises(IsthmusError):
        run_parties({"alice": alice, "bob": bob, "carol": carol}, label_party="alice")
    assert "without a proper 'loss'" in errors[0].message
