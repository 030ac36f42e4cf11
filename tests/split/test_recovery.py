"""Checkpoints: a broken-off run ends with the same parameters as an undisturbed one."""

import hashlib
from dataclasses import replace

import pytest
import torch
from tests.split.toy import make_toy

from isthmus.errors import PartnerFailed
from isthmus.session import run_parties
from isthmus.split import TrainOptions, train
from isthmus.split.checkpoint import CheckpointFolder

OPTIONS = TrainOptions(batch_size=64, epochs=6, learning_rate=0.01, patience=0, device="cpu")


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
        bottom = breaking("alice", toy.bottom("alice", dropout))
        return train(
            session, split=toy.split, bottom=bottom, data=toy.data("alice"), options=options
        )

    def bob(session):
        bottom = breaking("bob", toy.bottom("bob", dropout))
        modules["top"] = toy.top(dropout)
        return train(
            session,
            split=toy.split,
            bottom=bottom,
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

    def untimed(result):
        return [replace(e, seconds=0.0, seconds_validation=0.0) for e in result.epochs]

    assert untimed(results["bob"]) == untimed(undisturbed["bob"])


def test_parties_resume_from_the_newest_epoch_that_both_hold(tmp_path):
    toy = make_toy()
    _, reference = federate(toy, tmp_path / "a")
    short = replace(OPTIONS, epochs=6)
    federate(toy, tmp_path / "b", short)
    alice = tmp_path / "b" / "alice" / "checkpoints"
    newest = sorted(alice.iterdir())[-1]
    newest.unlink()
    results, modules = federate(toy, tmp_path / "b")
    assert results["bob"].resumed_from == 5
    assert_same(modules, reference)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    toy = make_toy()
    _, reference = federate(toy, tmp_path / "a")
    federate(toy, tmp_path / "b")
    newest = sorted((tmp_path / "b" / "bob" / "checkpoints").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    results, modules = federate(toy, tmp_path / "b")
    assert results["bob"].resumed_from == 5
    assert_same(modules, reference)


def test_a_cut_off_checkpoint_is_passed_over(tmp_path):
    folder = CheckpointFolder(tmp_path, "mark")
    folder.save(1, {"x": torch.ones(3)}, {})
    folder.save(2, {"x": torch.ones(3)}, {})
    newest = sorted(tmp_path.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:5])
    assert folder.epochs() == [1]


def test_checkpoints_of_another_run_are_not_seen(tmp_path):
    CheckpointFolder(tmp_path, "one").save(1, {"x": torch.ones(1)}, {"a": 1})
    assert CheckpointFolder(tmp_path, "one").load(1).facts == {"a": 1}
    assert CheckpointFolder(tmp_path, "other").epochs() == []


def test_other_options_start_afresh(tmp_path):
    toy = make_toy()
    federate(toy, tmp_path)
    results, _ = federate(toy, tmp_path, replace(OPTIONS, learning_rate=0.02))
    assert results["bob"].resumed_from == 0


def test_only_the_last_two_checkpoints_are_kept(tmp_path):
    toy = make_toy()
    federate(toy, tmp_path)
    names = sorted(p.name[:12] for p in (tmp_path / "bob" / "checkpoints").iterdir())
    assert names == ["epoch-000005", "epoch-000006"]


def test_a_finished_run_is_not_trained_again(tmp_path):
    toy = make_toy()
    _, reference = federate(toy, tmp_path)
    results, modules = federate(toy, tmp_path)
    assert results["bob"].resumed_from == len(results["bob"].epochs) == OPTIONS.epochs
    assert_same(modules, reference)


def test_the_partner_of_a_crashed_party_learns_that_it_failed(tmp_path):
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


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"\x02" + b"\0" * 7 + b"{}"])
def test_a_file_that_only_looks_like_a_checkpoint_is_passed_over(tmp_path, content):
    digest = hashlib.sha256(content).hexdigest()[:32]
    (tmp_path / f"epoch-000001.{digest}.safetensors").write_bytes(content)
    assert CheckpointFolder(tmp_path, "mark").epochs() == []
