"""Checkpoints: a broken-off run ends with the same parameters as an undisturbed one."""

import itertools
from dataclasses import replace

import pytest
import torch
from tests.split.test_secure_training import OPTIONS as SECURE
from tests.split.test_secure_training import federate as federate_securely
from tests.split.toy import make_toy

from isthmus.errors import BadMessage, JobError, PartnerFailed
from isthmus.session import Session, run_parties
from isthmus.split import TrainOptions, train, train_pooled
from isthmus.split.state import PartialEpoch, stretches

OPTIONS = TrainOptions(
    batch_size=64, epochs=6, learning_rate=0.01, patience=0, device="cpu", checkpoint_steps=0
)
"""7 updates an epoch."""
OFTEN = replace(OPTIONS, checkpoint_steps=3, epochs=3)
"""Checkpoints after the updates 3, 6, 7; 10, 13, 14; 17, 20, 21."""


class Crash(Exception):
    pass


def federate(toy, folder, options=OPTIONS, crash_at=None, crasher="bob", dropout=0.3):
    """Run both parties; `crasher` stops in the forward pass number `crash_at`."""
    modules = {}

    def breaking(party, module):
        calls = []

        def hook(*_):
            calls.append(None)
            if len(calls) == crash_at and party == crasher:
                raise Crash

        module.register_forward_pre_hook(hook)
        modules[party] = module
        return module

    def alice(session):
        return train(
            session,
            split=toy.split,
            bottom=breaking("alice", toy.bottom("alice", dropout)),
            data=toy.data("alice"),
            options=options,
        )

    def bob(session):
        modules["top"] = toy.top(dropout)
        return train(
            session,
            split=toy.split,
            bottom=breaking("bob", toy.bottom("bob", dropout)),
            data=toy.data("bob"),
            top=modules["top"],
            labels=toy.labels,
            options=options,
        )

    results = run_parties(
        {"alice": alice, "bob": bob}, label_party="bob", seed=toy.seed, folder=folder
    )
    return results, modules


def assert_same(modules, reference):
    for name, module in reference.items():
        for key, value in module.state_dict().items():
            assert torch.equal(modules[name].state_dict()[key], value), f"{name}.{key}"


def untimed(result):
    return [replace(e, seconds=0.0, seconds_validation=0.0) for e in result.epochs]


def files(folder, party):
    return sorted((folder / party / "checkpoints").iterdir())


@pytest.mark.parametrize(("crasher", "crash_at"), [("bob", 25), ("alice", 40), ("bob", 3)])
def test_a_rerun_after_a_crash_ends_bitwise_like_an_undisturbed_run(tmp_path, crasher, crash_at):
    toy = make_toy()
    undisturbed, reference = federate(toy, tmp_path / "a")
    with pytest.raises(Crash):
        federate(toy, tmp_path / "b", crash_at=crash_at, crasher=crasher)
    results, modules = federate(toy, tmp_path / "b")
    assert_same(modules, reference)
    assert results["bob"].resumed_from == results["alice"].resumed_from
    assert (results["bob"].resumed_from > 0) == (crash_at > 20)
    assert untimed(results["bob"]) == untimed(undisturbed["bob"])


@pytest.mark.parametrize(
    ("schedule", "guard"),
    [
        ("exact", "none"),
        ("microbatch:2", "int8"),
        ("pipeline:3", "topk:0.5+int8"),
        ("pipeline:2+uncorrected", "lowrank:2"),
        ("local:2", "none"),
        ("adaptive:3", "fp8"),
    ],
)
def test_a_run_goes_on_from_within_an_epoch(tmp_path, schedule, guard):
    options = replace(OFTEN, schedule=schedule, gradient_guard=guard)
    toy = make_toy()
    undisturbed, reference = federate(toy, tmp_path / "a", options)
    for crasher, crash_at in (("bob", 6), ("alice", 5), ("bob", 7)):
        crash_at *= 2 if schedule in ("microbatch:2", "local:2") else 1
        with pytest.raises(Crash):
            federate(toy, tmp_path / "b", options, crash_at=crash_at, crasher=crasher)
    results, modules = federate(toy, tmp_path / "b", options)
    assert_same(modules, reference)
    steps = {result.resumed_step for result in results.values()}
    assert len(steps) == 1
    assert steps <= {6, 7, 10, 13, 14}
    assert untimed(results["bob"]) == untimed(undisturbed["bob"])


@pytest.mark.parametrize("steps", [1, 3, 7, 100])
def test_under_exact_checkpoints_change_nothing(tmp_path, steps):
    toy = make_toy()
    undisturbed, reference = federate(toy, None, replace(OFTEN, checkpoint_steps=0))
    results, modules = federate(toy, tmp_path, replace(OFTEN, checkpoint_steps=steps))
    assert_same(modules, reference)
    for epoch, expected in zip(results["bob"].epochs, undisturbed["bob"].epochs, strict=True):
        # The sum of the losses is taken in another order, and nothing depends on it.
        assert epoch.train_loss == pytest.approx(expected.train_loss, rel=1e-12)
        assert epoch.valid_auc == expected.valid_auc
        assert epoch.valid_log_loss == expected.valid_log_loss
        assert epoch.samples == expected.samples


def test_three_parties_under_a_secure_sum_go_on_from_within_an_epoch(tmp_path):
    options = replace(SECURE, secure_sum=32, checkpoint_steps=3)
    expected, expected_scores = federate_securely(options, folder=tmp_path / "a")
    federate_securely(options, folder=tmp_path / "b")
    for checkpoint in (tmp_path / "b" / "carol").glob("checkpoints/epoch-*3.step-*"):
        checkpoint.unlink()
    resumed, scores = federate_securely(options, folder=tmp_path / "b")
    assert resumed.resumed_step == 20
    assert (scores == expected_scores).all()
    assert untimed(resumed) == untimed(expected)


def test_parties_resume_from_the_newest_point_that_both_hold(tmp_path):
    toy = make_toy()
    _, reference = federate(toy, tmp_path / "a")
    federate(toy, tmp_path / "b")
    files(tmp_path / "b", "alice")[-1].unlink()
    results, modules = federate(toy, tmp_path / "b")
    assert results["bob"].resumed_from == 5
    assert_same(modules, reference)


def test_a_finished_run_is_not_trained_again(tmp_path):
    toy = make_toy()
    _, reference = federate(toy, tmp_path)
    results, modules = federate(toy, tmp_path)
    assert results["bob"].resumed_from == len(results["bob"].epochs) == OPTIONS.epochs
    assert_same(modules, reference)


def test_other_options_start_afresh(tmp_path):
    toy = make_toy()
    federate(toy, tmp_path)
    results, _ = federate(toy, tmp_path, replace(OPTIONS, learning_rate=0.02))
    assert results["bob"].resumed_from == 0


def test_other_frozen_weights_start_afresh(tmp_path):
    toy = make_toy()
    federate(toy, tmp_path)
    frozen = make_toy()
    made = frozen.bottom

    def bottom(party, dropout):
        module = made(party, dropout)
        module.tower.layers[0].weight.requires_grad_(False)
        return module

    frozen.bottom = bottom
    results, _ = federate(frozen, tmp_path)
    assert results["bob"].resumed_step == 0


def test_checkpoints_of_two_runs_do_not_fit_together(tmp_path):
    toy = make_toy()
    federate(toy, tmp_path / "a")
    federate(toy, tmp_path / "b")
    for path in files(tmp_path / "b", "alice"):
        path.unlink()
    for path in files(tmp_path / "a", "alice"):
        path.rename(tmp_path / "b" / "alice" / "checkpoints" / path.name)
    results, _ = federate(toy, tmp_path / "b")
    assert results["bob"].resumed_step == 0


class TorchDropout(torch.nn.Module):
    """A bottom of the user's, which draws from torch's one generator."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.drop = inner, torch.nn.Dropout(0.3)

    def forward(self, batch):
        return {name: self.drop(tensor) for name, tensor in self.inner(batch).items()}


def test_torchs_own_generator_goes_on_too(tmp_path):
    # Alone: parties that are threads of one process share that generator.
    toy = make_toy()

    def run(folder, crash_at=None):
        bottom = TorchDropout(toy.bottom("bob"))
        calls = itertools.count(1)

        def hook(*_):
            if next(calls) == crash_at:
                raise Crash

        bottom.register_forward_pre_hook(hook)
        top = toy.top(parties=("bob",))
        session = Session(
            me="bob", parties=("bob",), label_party="bob", seed=toy.seed, folder=folder
        )
        result = train_pooled(
            session,
            split=toy.split,
            bottoms={"bob": bottom},
            data={"bob": toy.data("bob")},
            top=top,
            labels=toy.labels,
            options=OFTEN,
        )
        return result, {"bob": bottom, "top": top}

    before = torch.get_rng_state()
    try:
        torch.manual_seed(1)
        _, reference = run(tmp_path / "a")
        torch.manual_seed(1)
        with pytest.raises(Crash):
            run(tmp_path / "b", crash_at=16)
        torch.manual_seed(2)
        result, modules = run(tmp_path / "b")
        assert result.resumed_step > 7
        assert_same(modules, reference)
    finally:
        torch.set_rng_state(before)


def test_the_parties_agree_on_how_often_checkpoints_are_written(tmp_path):
    toy = make_toy()

    def program(party, options, **more):
        def run(session):
            bottom, data = toy.bottom(party), toy.data(party)
            train(session, split=toy.split, bottom=bottom, data=data, options=options, **more)

        return run

    alice = program("alice", OFTEN)
    bob = program("bob", replace(OFTEN, checkpoint_steps=4), top=toy.top(), labels=toy.labels)
    with pytest.raises(JobError, match="differ in checkpoint_steps"):
        run_parties({"alice": alice, "bob": bob}, label_party="bob", seed=1)


@pytest.mark.parametrize(
    "point", [None, 5, [5], [5, "x"], ["5", "0" * 16], [True, "0" * 16], [-1, "0" * 16], [5, 5]]
)
@pytest.mark.parametrize("speaker", ["alice", "bob"])
def test_a_hostile_partner_cannot_ask_for_a_point_that_is_none(point, speaker):
    toy = make_toy()
    bottom, options = toy.bottom("alice"), replace(OPTIONS, epochs=1)

    def alice(session):
        data = toy.data("alice")
        if speaker == "alice":
            session = replace(session, links={"bob": Lying(session.hub, "resumable", [point])})
        train(session, split=toy.split, bottom=bottom, data=data, options=options)

    def bob(session):
        if speaker == "bob":
            session = replace(
                session, links={"alice": Lying(session.link("alice"), "point", point)}
            )
        train(session, split=toy.split, top=toy.top(parties=("alice",)), labels=toy.labels,
              options=options)  # fmt: skip

    said = "did not say which checkpoints" if speaker == "alice" else "asks to continue from"
    with pytest.raises(BadMessage, match=f"{speaker} {said}"):
        run_parties({"alice": alice, "bob": bob}, label_party="bob", seed=1)


class Lying:
    """A link on which one field of the greeting is false."""

    def __init__(self, link, field, value):
        self.link, self.field, self.value = link, field, value

    def send(self, topic, tensors=None, header=None):
        if topic == "train.hello":
            header = {**header, self.field: self.value}
        self.link.send(topic, tensors, header)

    def __getattr__(self, name):
        return getattr(self.link, name)


def test_stretches_end_where_checkpoints_are_due():
    def bounds(*arguments):
        return [(s.start, s.stop) for s in stretches(*arguments)]

    assert bounds(7, 3, 0) == [(0, 3), (3, 6), (6, 7)]
    assert bounds(7, 3, 6) == [(6, 7)]
    assert bounds(7, 0, 0) == bounds(7, 7, 0) == bounds(7, 9, 0) == [(0, 7)]
    assert bounds(7, 0, 7) == []


def test_the_loss_of_a_begun_epoch_is_the_mean_over_its_samples():
    partial = PartialEpoch().plus(2, 20, 1.0, 3.0).plus(1, 10, 0.5, 6.0)
    assert partial == PartialEpoch(3, 30, 1.5, 4.0)
    assert PartialEpoch().plus(2, 20, 1.0, 0.1).loss == 0.1
    assert PartialEpoch().plus(2, 20, 1.0, None).plus(1, 1, 1.0, None).loss is None


def test_the_partner_of_a_crashed_party_learns_that_it_failed():
    toy = make_toy()
    seen = []

    def alice(session):
        try:
            train(
                session,
                split=toy.split,
                bottom=toy.bottom("alice"),
                data=toy.data("alice"),
                options=OPTIONS,
            )
        except PartnerFailed as error:
            seen.append(str(error))
            raise

    def bob(session):
        raise Crash("row 17 of the secret table")

    with pytest.raises(Crash):
        run_parties({"alice": alice, "bob": bob}, label_party="bob", seed=1)
    assert len(seen) == 1
    assert "bob" in seen[0]
    assert "secret" not in seen[0]
