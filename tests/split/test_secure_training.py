"""Training under a secure sum, through `train` and `predict`, with three and with five parties."""

from dataclasses import replace

import numpy as np
import pytest
from tests.split.toy import make_toy

from isthmus.errors import JobError, ShapeMismatch
from isthmus.models import DeepFMTop
from isthmus.session import run_parties
from isthmus.split import TrainOptions, predict, train
from isthmus.split.aggregation import TOGETHER, AggregatedTop, Aggregation, Sum

OPTIONS = TrainOptions(batch_size=64, epochs=3, learning_rate=0.02, patience=0, device="cpu")
NAMES = ("alice", "carol", "dave", "eve")


def federate(options, parties=2, folder=None, tops=None):
    toy = make_toy()
    feature_parties = NAMES[:parties]
    for name in feature_parties:
        toy.features[name] = toy.features["alice"]

    def feature(name):
        def program(session):
            bottom, data = toy.bottom(name), toy.data(name)
            train(session, split=toy.split, bottom=bottom, data=data, options=options)
            predict(session, samples=toy.split.test, bottom=bottom, data=data, options=options)

        return program

    def bob(session):
        inner = DeepFMTop({TOGETHER: 6, "bob": 6}, dim=4, hidden=(8,), seed=5)
        top = AggregatedTop(inner, feature_parties, Aggregation(Sum())) if tops is None else tops
        bottom, data = toy.bottom("bob"), toy.data("bob")
        result = train(
            session,
            split=toy.split,
            bottom=bottom,
            data=data,
            top=top,
            labels=toy.labels,
            options=options,
        )
        samples = toy.split.test
        scores = predict(
            session, samples=samples, bottom=bottom, data=data, top=top, options=options
        )
        return result, scores

    programs = {name: feature(name) for name in feature_parties} | {"bob": bob}
    return run_parties(programs, label_party="bob", seed=3, folder=folder)["bob"]


@pytest.mark.parametrize("parties", [2, 4])
@pytest.mark.parametrize(("bits", "close"), [(32, 2e-3), (64, 1e-5)])
def test_a_secure_sum_trains_what_a_plain_sum_trains(parties, bits, close):
    plain, plain_scores = federate(OPTIONS, parties)
    secure, scores = federate(replace(OPTIONS, secure_sum=bits), parties)
    np.testing.assert_allclose(
        [epoch.train_loss for epoch in secure.epochs],
        [epoch.train_loss for epoch in plain.epochs],
        atol=close,
    )
    np.testing.assert_allclose(scores, plain_scores, atol=close)
    if bits == 32:  # the other ring is finer than float32
        assert not np.array_equal(scores, plain_scores)


@pytest.mark.parametrize("schedule", ["microbatch:3", "pipeline:2"])
def test_every_schedule_works_under_a_secure_sum(schedule):
    options = replace(OPTIONS, schedule=schedule)
    plain, _ = federate(options)
    secure, _ = federate(replace(options, secure_sum=64))
    assert secure.epochs[-1].train_loss == pytest.approx(plain.epochs[-1].train_loss, abs=1e-4)


def test_a_run_goes_on_under_fresh_masks(tmp_path):
    options = replace(OPTIONS, secure_sum=32)
    _, expected = federate(options, folder=tmp_path / "a")
    federate(replace(options, epochs=3), folder=tmp_path / "b")
    for checkpoint in (tmp_path / "b").glob("*/checkpoints/epoch-000003*"):
        checkpoint.unlink()
    resumed, scores = federate(options, folder=tmp_path / "b")
    assert resumed.resumed_from == 2
    np.testing.assert_array_equal(scores, expected)


def test_one_feature_party_has_nobody_to_hide_among():
    with pytest.raises(JobError, match="at least two feature parties"):
        federate(replace(OPTIONS, secure_sum=32), parties=1)


def test_a_top_that_takes_the_parties_apart_is_refused():
    top = DeepFMTop(dict.fromkeys(("alice", "carol", "bob"), 6), dim=4, hidden=(8,))
    with pytest.raises(ShapeMismatch, match="alice"):
        federate(replace(OPTIONS, secure_sum=32), tops=top)
