"""Guards through `train` and `predict`: agreed options, checkpoints, hostile messages."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.split.test_recovery import Crash, assert_same, federate
from tests.split.test_secure_training import OPTIONS as SECURE
from tests.split.test_secure_training import federate as federate_securely
from tests.split.test_training import alice_program, bob_program, hostile
from tests.split.test_training import federate as federate_two
from tests.split.toy import make_toy

from isthmus.errors import BadMessage, JobError
from isthmus.split import TrainOptions

OPTIONS = TrainOptions(batch_size=64, epochs=6, learning_rate=0.01, patience=0, device="cpu")
GUARDED = replace(OPTIONS, cut_guard="int8", gradient_guard="topk:0.5+int8")


@pytest.mark.parametrize("guard", ["fp16", "int8", "topk:0.5", "lowrank:4+fp16"])
def test_a_guarded_run_learns_nearly_what_an_exact_one_learns(guard):
    toy = make_toy(rows=2000)
    options = replace(OPTIONS, epochs=8, learning_rate=0.02)
    exact = federate_two(alice_program(toy, options), bob_program(toy, options))["bob"][0]
    options = replace(options, cut_guard=guard, gradient_guard=guard)
    guarded = federate_two(alice_program(toy, options), bob_program(toy, options))["bob"][0]
    assert guarded.epochs[-1].train_loss < exact.epochs[0].train_loss
    assert guarded.epochs[-1].train_loss == pytest.approx(exact.epochs[-1].train_loss, abs=0.08)
    assert guarded.epochs[-1].train_loss != exact.epochs[-1].train_loss


def test_a_guards_memory_is_part_of_the_checkpoint(tmp_path):
    toy = make_toy()
    _, reference = federate(toy, tmp_path / "a", GUARDED)
    with pytest.raises(Crash):
        federate(toy, tmp_path / "b", GUARDED, crash_at=30)
    results, modules = federate(toy, tmp_path / "b", GUARDED)
    assert results["bob"].resumed_from > 0
    assert_same(modules, reference)


def test_parties_must_agree_on_the_guards():
    toy = make_toy()
    with pytest.raises(JobError, match="differ in cut_guard"):
        federate_two(
            alice_program(toy, GUARDED), bob_program(toy, replace(GUARDED, cut_guard="fp16"))
        )


def test_a_plain_message_where_a_guarded_one_was_agreed_is_refused():
    toy = make_toy()
    options = replace(OPTIONS, cut_guard="int8")
    plain = {"deep": np.zeros((64, 6), np.float32)}
    alice = hostile(lambda tensors, header: (plain, header), options)
    with pytest.raises(BadMessage, match=r"alice sent no valid train\.cut: a guarded message"):
        federate_two(alice, bob_program(toy, options))


def test_an_unknown_guard_is_refused_before_training():
    toy = make_toy()
    options = replace(OPTIONS, cut_guard="int9")
    with pytest.raises(JobError, match="no guard 'int9'"):
        federate_two(alice_program(toy, options), bob_program(toy, options))


def test_gradients_may_be_guarded_under_a_secure_sum_and_cuts_may_not():
    options = replace(SECURE, secure_sum=32, gradient_guard="int8")
    result, scores = federate_securely(options)
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss
    assert np.isfinite(scores).all()
    with pytest.raises(JobError, match="cannot be had with a secure sum"):
        federate_securely(replace(options, cut_guard="int8"))


def test_each_party_may_have_a_guard_of_its_own():
    options = replace(
        SECURE, epochs=1, cut_guard={"alice": "int8"}, gradient_guard={"carol": "zlib"}
    )
    result, _ = federate_securely(options)
    seen = {(one.party, one.direction): one for one in result.guards}
    assert seen.keys() == {("alice", "cut"), ("carol", "gradient")}
    cut, gradient = seen["alice", "cut"], seen["carol", "gradient"]
    assert (cut.guard, cut.lossy, cut.relative_error) == ("int8", True, None)
    assert (gradient.guard, gradient.lossy, gradient.relative_error) == ("zlib", False, 0.0)
    assert cut.ratio > 2
    toy = make_toy()
    steps = -(-len(toy.split.train) // options.batch_size)
    assert gradient.messages == steps
    assert gradient.bytes_before == 4 * len(toy.split.train) * 11  # deep 6, sum 4, first 1
    assert cut.messages == steps + -(-len(toy.split.valid) // 8192)


def test_a_guard_for_all_is_one_for_each():
    for_all, _ = federate_securely(replace(SECURE, epochs=1, cut_guard="int4"))
    each = replace(SECURE, epochs=1, cut_guard={"alice": "int4", "carol": "int4"})
    for_each, _ = federate_securely(each)
    assert for_each.epochs[0].train_loss == for_all.epochs[0].train_loss
    assert for_each.guards == for_all.guards


def test_a_guard_of_nobody_is_refused():
    with pytest.raises(JobError, match=r"a guard for dave, which is no feature party") as caught:
        federate_securely(replace(SECURE, cut_guard={"alice": "int8", "dave": "int8"}))
    assert "alice, carol" in caught.value.mend
    with pytest.raises(JobError, match=r"a guard for bob, which is no feature party"):
        federate_securely(replace(SECURE, gradient_guard={"bob": "int8"}))


def test_one_partys_guard_on_its_cut_is_enough_to_refuse_a_secure_sum():
    options = replace(SECURE, secure_sum=32, cut_guard={"carol": "fp16"})
    with pytest.raises(JobError, match=r"'fp16' on carol's cut tensors cannot be had"):
        federate_securely(options)


def test_guards_do_not_touch_torchs_generator():
    toy = make_toy()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    federate_two(alice_program(toy, GUARDED), bob_program(toy, GUARDED))
    assert torch.equal(torch.get_rng_state(), before)
