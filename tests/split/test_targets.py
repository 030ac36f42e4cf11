"""Targets: losses against sums by hand, masks, weights, scores; one label as it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.split.test_conformance import OPTIONS
from tests.split.toy import PARTIES, make_toy

from isthmus.errors import JobError, NotFinite, ShapeMismatch
from isthmus.session import Session, run_parties
from isthmus.split import Target, Targets, TrainOptions, bce, predict, train, train_pooled
from isthmus.split.targets import PLAIN

LIKE = Target("like", share=0.8)
STARS = Target("stars", "real", weight=0.3, share=0.5, mean=3.5, std=1.2)
MOOD = Target("mood", "multiclass", outputs=3, classes=("bad", "so so", "good"))
ALL = Targets((LIKE, STARS, MOOD), weighted=True)


def drawn(rows, seed=0):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(rows, 5)).astype(np.float32))
    labels = np.stack(
        [
            rng.integers(0, 2, rows),
            rng.normal(size=rows),
            rng.integers(0, 3, rows),
            rng.random(rows) * 3,
        ],
        axis=1,
    ).astype(np.float32)
    for column in range(3):
        labels[rng.random(rows) < 0.3, column] = np.nan
    return logits, torch.from_numpy(labels)


def loss_by_hand(logits, labels):
    total = 0.0
    rows = zip(logits.double().tolist(), labels.double().tolist(), strict=True)
    for out, (like, stars, mood, weight) in rows:
        if not np.isnan(like):
            p = 1 / (1 + np.exp(-out[0]))
            total += weight / 0.8 * -np.log(p if like else 1 - p)
        if not np.isnan(stars):
            total += weight * 0.3 / 0.5 * (out[1] - stars) ** 2
        if not np.isnan(mood):
            odds = np.exp(out[2:])
            total += weight * -np.log(odds[int(mood)] / odds.sum())
    return total / len(logits)


def test_the_loss_is_the_sum_by_hand():
    logits, labels = drawn(40)
    assert ALL.loss(logits, labels).item() == pytest.approx(loss_by_hand(logits, labels), rel=1e-5)


@given(rows=st.integers(2, 30), cut=st.integers(1, 29), seed=st.integers(0, 99))
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(rows, cut, seed):
    """What a microbatch counts for does not hang on how many of its labels are missing."""
    cut = min(cut, rows - 1)
    logits, labels = drawn(rows, seed)
    parts = [slice(0, cut), slice(cut, rows)]
    shares = [cut / rows, 1 - cut / rows]
    mean = sum(s * ALL.loss(logits[p], labels[p]) for s, p in zip(shares, parts, strict=True))
    torch.testing.assert_close(mean, ALL.loss(logits, labels), rtol=1e-4, atol=1e-5)


def test_a_sample_without_a_label_has_no_gradient_and_one_without_weight_neither():
    logits, labels = drawn(30)
    labels[3, 0] = labels[3, 1] = labels[3, 2] = torch.nan
    labels[4, 3] = 0.0
    labels[5, 1] = torch.nan
    # Its squared error is infinite in float32, and must stay out all the same.
    logits[5, 1] = 1e30
    logits.requires_grad_()
    ALL.loss(logits, labels).backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[3].any()
    assert not logits.grad[4].any()
    assert not logits.grad[5, 1]
    assert logits.grad[6].any()


def test_no_labels_at_all_are_no_loss():
    logits, labels = drawn(4)
    labels[:, :3] = torch.nan
    assert ALL.loss(logits, labels).item() == 0.0


def test_scores_are_probabilities_and_values_in_their_own_unit():
    logits, _ = drawn(6)
    scores = ALL.scores(logits)
    assert scores.dtype == np.float64
    like, stars, mood = ALL.scores_of(scores)
    np.testing.assert_allclose(like, 1 / (1 + np.exp(-logits[:, 0].double().numpy())))
    np.testing.assert_allclose(stars, logits[:, 1].double().numpy() * 1.2 + 3.5)
    assert mood.shape == (6, 3)
    np.testing.assert_allclose(mood.sum(axis=1), 1.0)
    real = Targets((STARS,))
    assert real.scores(logits[:, 1]).shape == (6,)
    np.testing.assert_allclose(real.scores_of(real.scores(logits[:, 1]))[0], stars)
    truth = STARS.truth(np.array([0.0, 1.0, np.nan], np.float32))
    np.testing.assert_allclose(truth, [3.5, 4.7, np.nan], rtol=1e-6)


def test_one_binary_label_is_the_loss_it_was():
    assert PLAIN.plain
    assert PLAIN.loss is bce
    assert Targets((Target("click"),)).loss is bce
    for other in (
        Targets((Target("click"),), weighted=True),
        Targets((Target("click", share=0.9),)),
        Targets((STARS,)),
        Targets((Target("a"), Target("b"))),
    ):
        assert not other.plain
        assert other.loss is not bce


def test_targets_come_back_from_json():
    assert Targets.from_facts(json.loads(json.dumps(ALL.facts()))) == ALL


@pytest.mark.parametrize(
    ("targets", "labels", "said"),
    [
        (PLAIN, np.zeros((4, 1)), r"\(4, 1\)"),
        (ALL, np.zeros((4, 3)), r"\(4, 3\)"),
        (Targets((MOOD,)), np.array([[0.0], [3.0]]), "3 classes"),
        (Targets((LIKE,)), np.array([[0.0], [0.5]]), "binary"),
    ],
)
def test_labels_that_do_not_fit(targets, labels, said):
    with pytest.raises(JobError, match=said):
        targets.check(labels.astype(np.float32))


class TwoTasks(torch.nn.Module):
    """A top of one linear layer over the parties' `deep`."""

    def __init__(self, outputs):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(12, outputs, generator=generator) * 0.3)

    def forward(self, cuts):
        unused = sum(cut["sum"].sum(1) + cut["first"].sum(1) for cut in cuts.values())
        deep = torch.cat([cuts[p]["deep"] for p in PARTIES], 1)
        return deep @ self.weight + 0 * unused[:, None]


def run(toy, labels, targets, options, outputs, judge=None):
    """The results of both parties, and the label party's scores of the test samples."""
    scores = {}

    def alice(session):
        bottom, data = toy.bottom("alice"), toy.data("alice")
        result = train(session, split=toy.split, bottom=bottom, data=data, options=options)
        predict(session, samples=toy.split.test, bottom=bottom, data=data, options=options)
        return result

    def bob(session):
        bottom, data, top = toy.bottom("bob"), toy.data("bob"), TwoTasks(outputs)
        result = train(
            session,
            split=toy.split,
            bottom=bottom,
            data=data,
            top=top,
            labels=labels,
            targets=targets,
            options=options,
            judge=judge,
        )
        scores["test"] = predict(
            session,
            samples=toy.split.test,
            bottom=bottom,
            data=data,
            top=top,
            options=options,
            targets=targets,
        )
        return result

    done = run_parties({"alice": alice, "bob": bob}, label_party="bob", seed=toy.seed)
    return done, scores["test"]


def two_targets(toy):
    rng = np.random.default_rng(1)
    stars = (toy.labels * 2 - 1 + rng.normal(scale=0.5, size=len(toy.labels))).astype(np.float32)
    stars[rng.random(len(stars)) < 0.4] = np.nan
    labels = np.stack([toy.labels, stars], axis=1)
    return labels, Targets((Target("like"), replace(STARS, share=0.6, weight=1.0)))


@pytest.mark.parametrize("schedule", ["exact", "microbatch:3", "pipeline:2", "local:2"])
def test_two_targets_train_under_every_kind_of_schedule(schedule):
    toy = make_toy(2000)
    labels, targets = two_targets(toy)
    options = replace(OPTIONS, epochs=3, metric="loss", schedule=schedule, score_batch=17)
    done, scores = run(toy, labels, targets, options, outputs=2)
    losses = [epoch.valid_loss for epoch in done["bob"].epochs]
    assert losses[done["bob"].best_epoch - 1] == min(losses)
    assert done["bob"].epochs[-1].train_loss < done["bob"].epochs[0].train_loss
    assert done["bob"].epochs[0].valid_auc is not None
    assert [e.valid_loss for e in done["alice"].epochs] == [round(x, 4) for x in losses]
    assert scores.shape == (len(toy.split.test), 2)
    truth = STARS.truth(labels[toy.split.test, 1])
    known = ~np.isnan(truth)
    assert np.corrcoef(truth[known], scores[known, 1])[0, 1] > 0.15


def test_the_pooled_reference_has_the_same_losses():
    toy = make_toy()
    labels, targets = two_targets(toy)
    options = replace(OPTIONS, epochs=2, metric="loss")
    done, _ = run(toy, labels, targets, options, outputs=2)
    pooled = train_pooled(
        Session(me="bob", parties=PARTIES, label_party="bob", seed=toy.seed),
        split=toy.split,
        bottoms={party: toy.bottom(party) for party in PARTIES},
        data={party: toy.data(party) for party in PARTIES},
        top=TwoTasks(2),
        labels=labels,
        targets=targets,
        options=options,
    )
    assert [e.valid_loss for e in pooled.epochs] == [e.valid_loss for e in done["bob"].epochs]
    assert [e.train_loss for e in pooled.epochs] == [e.train_loss for e in done["bob"].epochs]


def test_a_judge_ends_the_run_at_all_parties():
    toy = make_toy()
    labels, targets = two_targets(toy)

    def judge(record):
        return "not worth going on" if record.epoch == 2 else ""

    done, _ = run(toy, labels, targets, replace(OPTIONS, epochs=4), outputs=2, judge=judge)
    for party in PARTIES:
        assert len(done[party].epochs) == 2
        assert done[party].stop_reason == "not worth going on"


def test_a_top_with_too_few_outputs_is_refused():
    toy = make_toy()
    labels, targets = two_targets(toy)
    with pytest.raises(ShapeMismatch, match=r"\[batch, 2\]"):
        run(toy, labels, targets, OPTIONS, outputs=3)


def test_a_first_target_that_is_not_binary_needs_the_loss_as_metric():
    toy = make_toy()
    labels, _ = two_targets(toy)
    stars = Targets((replace(STARS, share=0.6),))
    with pytest.raises(JobError, match="no metric of the real target 'stars'"):
        run(toy, labels[:, 1:], stars, TrainOptions(device="cpu"), outputs=1)


def test_a_validation_loss_beyond_all_numbers_is_told_as_such():
    toy = make_toy()
    labels, targets = two_targets(toy)
    labels[toy.split.valid[:20], 1] = 1e30
    with pytest.raises(NotFinite, match="the validation loss after epoch 1 is not finite"):
        run(toy, labels, targets, replace(OPTIONS, metric="loss"), outputs=2)
