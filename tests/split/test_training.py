"""What a user of the trainer sees: early stopping, logs, other shapes of federation, refusals."""

import json
from dataclasses import astuple, replace

import numpy as np
import pytest
from tests.split.toy import PARTIES, make_toy
from torch import nn

from isthmus.data import Split
from isthmus.errors import BadMessage, JobError, NotFinite, ShapeMismatch
from isthmus.metrics import auc
from isthmus.models import DeepFMTop
from isthmus.session import Session, run_parties
from isthmus.split import TrainOptions, bce, predict, train, train_pooled
from isthmus.split.batches import epoch_batches

OPTIONS = TrainOptions(batch_size=64, epochs=3, learning_rate=0.02, patience=0, device="cpu")


def alice_program(toy, options=OPTIONS, bottom=None):
    def alice(session):
        module = bottom or toy.bottom("alice")
        result = train(
            session, split=toy.split, bottom=module, data=toy.data("alice"), options=options
        )
        predict(session, samples=toy.split.test, bottom=module, data=toy.data("alice"))
        return result

    return alice


def bob_program(toy, options=OPTIONS, top=None, labels=None):
    def bob(session):
        module, upper = toy.bottom("bob"), top or toy.top()
        result = train(
            session,
            split=toy.split,
            bottom=module,
            data=toy.data("bob"),
            top=upper,
            labels=toy.labels if labels is None else labels,
            options=options,
        )
        scores = predict(
            session, samples=toy.split.test, bottom=module, data=toy.data("bob"), top=upper
        )
        return result, scores

    return bob


def federate(alice, bob, seed=3, folder=None):
    return run_parties({"alice": alice, "bob": bob}, label_party="bob", seed=seed, folder=folder)


def test_the_federation_learns_what_bob_alone_cannot():
    toy = make_toy(rows=3000)
    options = replace(OPTIONS, epochs=12)
    _, scores = federate(alice_program(toy, options), bob_program(toy, options))["bob"]
    alone = Session(me="bob", parties=("bob",), label_party="bob", seed=3)
    bottom, top = toy.bottom("bob"), toy.top(parties=("bob",))
    train(
        alone,
        split=toy.split,
        bottom=bottom,
        data=toy.data("bob"),
        top=top,
        labels=toy.labels,
        options=options,
    )
    own = predict(alone, samples=toy.split.test, bottom=bottom, data=toy.data("bob"), top=top)
    truth = toy.labels[toy.split.test]
    assert scores.shape == own.shape == truth.shape
    assert auc(truth, scores) > auc(truth, own) + 0.1


def test_training_stops_early_and_keeps_the_best_epoch():
    toy = make_toy()
    options = replace(OPTIONS, epochs=40, patience=2, learning_rate=0.1)
    results = federate(alice_program(toy, options), bob_program(toy, options))
    result, scores = results["bob"]
    values = [epoch.valid_auc for epoch in result.epochs]
    assert len(values) < 40
    assert result.best_epoch == 1 + int(np.argmax(values))
    assert len(values) == result.best_epoch + 2
    assert "no better validation AUC in 2 epochs" in result.stop_reason
    assert results["alice"].best_epoch == result.best_epoch
    rerun = replace(options, epochs=result.best_epoch, patience=0)
    _, expected = federate(alice_program(toy, rerun), bob_program(toy, rerun))["bob"]
    np.testing.assert_array_equal(scores, expected)


def test_metrics_stay_with_the_label_party_unless_shared():
    toy = make_toy()
    private = replace(OPTIONS, share_metrics=False)
    results = federate(alice_program(toy, private), bob_program(toy, private))
    assert all(epoch.valid_auc is None for epoch in results["alice"].epochs)
    assert all(epoch.valid_auc is not None for epoch in results["bob"][0].epochs)
    shared = federate(alice_program(toy), bob_program(toy))
    assert [e.valid_auc for e in shared["alice"].epochs] == [
        round(e.valid_auc, 4) for e in shared["bob"][0].epochs
    ]


def test_a_label_party_without_features_can_train():
    toy = make_toy(rows=2000)

    def bob(session):
        top = DeepFMTop({"alice": 6}, dim=4, hidden=(8,), seed=1)
        train(session, split=toy.split, top=top, labels=toy.labels, options=OPTIONS)
        return predict(session, samples=toy.split.test, top=top)

    scores = federate(alice_program(toy), bob)["bob"]
    assert auc(toy.labels[toy.split.test], scores) > 0.55


def test_three_parties_equal_their_pooled_network():
    toy = make_toy()
    toy.features["carol"] = toy.features["alice"]
    parties = ("alice", "bob", "carol")

    def feature(name):
        def program(session):
            module = toy.bottom(name)
            train(session, split=toy.split, bottom=module, data=toy.data(name), options=OPTIONS)
            predict(session, samples=toy.split.test, bottom=module, data=toy.data(name))

        return program

    programs = {
        "alice": feature("alice"),
        "bob": bob_program(toy, top=toy.top(parties=parties)),
        "carol": feature("carol"),
    }
    toy_parties = Session(me="carol", parties=parties, label_party="bob", seed=toy.seed)
    assert toy_parties.feature_parties == ("alice", "carol")
    result, _ = run_parties(programs, label_party="bob", seed=toy.seed)["bob"]
    pooled = train_pooled(
        Session(me="bob", parties=parties, label_party="bob", seed=toy.seed),
        split=toy.split,
        bottoms={p: toy.bottom(p) for p in parties},
        data={p: toy.data(p) for p in parties},
        top=toy.top(parties=parties),
        labels=toy.labels,
        options=OPTIONS,
    )
    np.testing.assert_allclose(
        [e.train_loss for e in result.epochs], [e.train_loss for e in pooled.epochs], atol=1e-6
    )


def test_epochs_are_logged_as_json_lines_and_tensorboard(tmp_path):
    toy = make_toy()
    options = replace(OPTIONS, tensorboard=True)
    federate(alice_program(toy), bob_program(toy, options), folder=tmp_path)
    lines = (tmp_path / "bob" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert json.loads(lines[0])["valid_auc"] > 0
    assert any((tmp_path / "bob" / "tensorboard").iterdir())


def test_all_parties_draw_the_same_batches_and_every_row_once():
    sessions = [Session(me=party, parties=PARTIES, label_party="bob", seed=5) for party in PARTIES]
    rows = np.arange(100, 203)
    alice, bob = (epoch_batches(session, rows, 2, 10) for session in sessions)
    assert all(np.array_equal(a, b) for a, b in zip(alice, bob, strict=True))
    assert sorted(np.concatenate(alice)) == rows.tolist()
    assert not np.array_equal(alice[0], epoch_batches(sessions[0], rows, 3, 10)[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [({"batch_size": 32}, "batch_size"), ({"learning_rate": 0.5}, "learning_rate")],
)
def test_different_options_are_refused_by_name(change, named):
    toy = make_toy()
    with pytest.raises(JobError, match=f"alice and bob differ in {named}"):
        federate(alice_program(toy, replace(OPTIONS, **change)), bob_program(toy))


def test_different_samples_are_refused():
    toy, other = make_toy(), make_toy(rows=610)
    with pytest.raises(JobError, match="differ in split"):
        federate(alice_program(other), bob_program(toy))


def test_a_top_for_other_widths_names_party_tensor_and_shapes():
    toy = make_toy()
    top = DeepFMTop({"alice": 7, "bob": 6}, dim=4, hidden=(8,))
    with pytest.raises(ShapeMismatch, match=r"'deep' of alice.*'batch', 7.*'batch', 6"):
        federate(alice_program(toy), bob_program(toy, top=top))


def test_roles_are_checked():
    toy = make_toy()
    alone = Session(me="bob", parties=PARTIES, label_party="bob")
    with pytest.raises(JobError, match="needs a top model and labels"):
        train(alone, split=toy.split, bottom=toy.bottom("bob"), data=toy.data("bob"))
    alice = Session(me="alice", parties=PARTIES, label_party="bob")
    with pytest.raises(JobError, match="only the label party bob"):
        train(
            alice,
            split=toy.split,
            bottom=toy.bottom("alice"),
            data=toy.data("alice"),
            labels=toy.labels,
        )


class Poisoned(nn.Module):
    """A bottom that sends NaN from its third training batch on."""

    def __init__(self, inner, value=float("nan")):
        super().__init__()
        self.inner, self.value, self.calls = inner, value, 0

    def forward(self, batch):
        cut = self.inner(batch)
        self.calls += self.training
        if self.calls >= 3:
            cut["deep"] = cut["deep"] * self.value
        return cut


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_partner_that_sends_nan_is_named(value):
    toy = make_toy()
    with pytest.raises(
        NotFinite, match=r"alice sent NaN or infinity in train\.cut 'deep' at step 2"
    ):
        federate(alice_program(toy, bottom=Poisoned(toy.bottom("alice"), value)), bob_program(toy))


def test_nan_in_the_labels_is_an_error_and_not_a_model():
    toy = make_toy()
    labels = toy.labels.copy()
    labels[toy.split.train[5]] = np.nan
    with pytest.raises(NotFinite, match="the loss is nan"):
        federate(alice_program(toy), bob_program(toy, labels=labels))


def hostile(respond, options=OPTIONS):
    """An alice that greets well and then sends what `respond` makes of her cut."""

    def alice(session):
        toy = make_toy()
        module = toy.bottom("alice")

        class Lying:
            def __getattr__(self, name):
                return getattr(session.hub, name)

            def send(self, topic, tensors=None, header=None):
                if topic == "train.cut":
                    tensors, header = respond(dict(tensors), dict(header))
                session.hub.send(topic, tensors, header)

        lying = replace(session, links={"bob": Lying()})
        train(lying, split=toy.split, bottom=module, data=toy.data("alice"), options=options)

    return alice


@pytest.mark.parametrize(
    ("respond", "error", "message"),
    [
        (lambda t, h: (t | {"deep": t["deep"][:, :3]}, h), ShapeMismatch, r"\[64, 3\].*\[64, 6\]"),
        (lambda t, h: (t | {"deep": t["deep"][:5]}, h), ShapeMismatch, r"\[5, 6\]"),
        (lambda t, h: ({"deep": t["deep"]}, h), BadMessage, "agreed were"),
        (lambda t, h: (t | {"extra": t["deep"]}, h), BadMessage, "extra"),
        (lambda t, h: (t | {"sum": t["sum"].astype(np.float64)}, h), BadMessage, "float64"),
        (lambda t, h: (t, h | {"step": 7}), BadMessage, "step 7, we are at step 0"),
        (lambda t, h: (t, {}), BadMessage, "step None"),
    ],
)
def test_a_lying_partner_is_caught(respond, error, message):
    toy = make_toy()
    with pytest.raises(error, match=message):
        federate(hostile(respond), bob_program(toy))


def test_learning_rates_follow_warm_up_and_decay():
    warm = TrainOptions(warmup_steps=4)
    assert [warm.rate_factor(step, 10) for step in (0, 3, 9)] == [0.25, 1.0, 1.0]
    linear = TrainOptions(decay="linear")
    assert [linear.rate_factor(step, 10) for step in (0, 5, 10)] == [1.0, 0.5, 0.0]
    cosine = TrainOptions(decay="cosine")
    assert cosine.rate_factor(5, 10) == pytest.approx(0.5)


def speaking(topic, header):
    """A session whose party says `header` under `topic` in place of what it should."""

    def wrap(session):
        partner = next(iter(session.links))

        class Lying:
            def __getattr__(self, name):
                return getattr(session.links[partner], name)

            def send(self, about, tensors=None, said=None, **named):
                honest = dict(said or named.get("header") or {})
                session.links[partner].send(
                    about, tensors, honest | header if about == topic else honest
                )

        return replace(session, links={partner: Lying()})

    return wrap


@pytest.mark.parametrize(
    ("widths", "error"),
    [
        ({"deep": [1 << 40]}, BadMessage),
        ({"deep": [1 << 62, 1 << 62]}, BadMessage),
        ({"deep": [-1]}, BadMessage),
        ({"deep": 6}, BadMessage),
        ([], BadMessage),
        ({}, BadMessage),
        ({"deep": [6], "sum": [4], "first": [1], "evil": [1 << 19]}, ShapeMismatch),
        ({"deep": [6], "sum": [4]}, ShapeMismatch),
    ],
)
def test_impossible_cuts_are_refused_before_anything_is_allocated(widths, error):
    toy = make_toy()
    lie = speaking("train.hello", {"widths": widths})
    with pytest.raises(error, match="alice"):
        federate(lambda session: alice_program(toy)(lie(session)), bob_program(toy))


def test_a_cut_for_prediction_must_fit_the_top_too():
    toy = make_toy()
    lie = speaking("predict.hello", {"widths": {"x": [1]}})
    with pytest.raises(ShapeMismatch, match="alice"):
        federate(lambda session: alice_program(toy)(lie(session)), bob_program(toy))


@pytest.mark.parametrize(
    "decision",
    [
        {"best": False},
        {"best": 1},
        {"epoch": 9},
        {"stop": None},
        {"stop": "\x1b[2J"},
        {"stop": "x" * 300},
        {"valid_auc": 5.0},
        {"valid_log_loss": -1.0},
        {"train_loss": "low"},
    ],
)
def test_a_label_party_that_sends_no_valid_decision_is_caught(decision):
    toy = make_toy()
    lie = speaking("train.epoch", decision)
    with pytest.raises(BadMessage, match="bob sent no valid decision on epoch 1"):
        federate(alice_program(toy), lambda session: bob_program(toy)(lie(session)))


def test_errors_repeat_little_of_what_a_partner_sent():
    toy = make_toy()
    lie = speaking("train.hello", {"point": "\x1b" * 2_000})
    with pytest.raises(BadMessage) as caught:
        federate(alice_program(toy), lambda session: bob_program(toy)(lie(session)))
    assert len(str(caught.value)) < 200
    assert "\x1b" not in str(caught.value)


def test_nothing_to_predict():
    toy = make_toy()
    alone = Session(me="bob", parties=("bob",), label_party="bob")
    scores = predict(alone, samples=np.empty(0, np.int64), top=toy.top(parties=("bob",)))
    assert scores.shape == (0,)


def test_parties_may_keep_the_positions_of_the_split_in_other_dtypes():
    toy = make_toy()
    wide = replace(toy, split=Split(*(p.astype(np.int64) for p in astuple(toy.split))))
    results = federate(alice_program(toy), bob_program(wide))
    expected = federate(alice_program(toy), bob_program(toy))
    np.testing.assert_array_equal(results["bob"][1], expected["bob"][1])


def test_a_loss_may_be_negative():
    toy = make_toy()

    def bob(session):
        return train(
            session,
            split=toy.split,
            bottom=toy.bottom("bob"),
            data=toy.data("bob"),
            top=toy.top(),
            labels=toy.labels,
            loss=lambda logits, labels: bce(logits, labels) - 10.0,
            options=OPTIONS,
        )

    def alice(session):
        return train(
            session,
            split=toy.split,
            bottom=toy.bottom("alice"),
            data=toy.data("alice"),
            options=OPTIONS,
        )

    assert federate(alice, bob)["alice"].epochs[-1].train_loss < -9.0
