"""Noise that a shard puts on what single clients send: no other release takes it off."""

import numpy as np
import pytest
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, QUICK
from tests.fedrec.devices.inside import GROUPS, begun

from isthmus.fedrec import RunOptions, recipe, run
from isthmus.fedrec.devices import Conduct
from isthmus.fedrec.devices.wire import Ask
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.keyed import key_of, normals

OWN = Conduct(secret=77, noise_key=key_of(b"a secret of this shard"))
FEW = QUICK | {"least": 3, "groups": 3}


def sketched(epsilon, conduct=OWN):
    """A shard and the sketches that it sends in the first round."""
    chosen = recipe("fedca-sketched", "fcf", FEW | {"epsilon": epsilon})
    worker = begun(chosen=chosen, defences=Defences(), conduct=conduct)[2].workers["ann"]
    own = {"clients": worker.part.clients}
    list(worker.answer(Ask(kind="train", number=1), own))
    return worker.method, next(worker.answer(Ask(kind="sketch", number=1), own))[1]["sketches"]


def test_two_runs_with_other_noise_do_not_tell_the_sketch():
    (method, one), (other, two) = sketched(8.0), sketched(4.0)
    assert np.array_equal(method.sketches, other.sketches)
    narrow, wide = method.deviation, other.deviation
    # Were the draws the same, this would be the sketch without noise.
    solved = (wide * one - narrow * two) / (wide - narrow)
    assert np.abs(solved - method.sketches).max() > 0.1


def test_the_same_sketch_has_the_same_noise_and_another_shard_other_noise():
    (method, one), (_, again) = sketched(8.0), sketched(8.0)
    assert np.array_equal(one, again)
    _, other = sketched(8.0, Conduct(secret=77, noise_key=key_of(b"of another")))
    assert np.abs(one - other).min() > 0
    # Without a key of its own it is made from the seed, which nobody else has either.
    _, seeded = sketched(8.0, Conduct(secret=77))
    assert np.abs(one - seeded).min() > 0
    assert method.deviation > 1


def uploaded(noise, extra=0.0):
    """What a shard sends of its clients under its own noise, from tables moved by `extra`."""
    chosen = recipe("fedavg", "fcf", QUICK)
    conduct = Conduct(77, defences=Defences(clip=1.0, noise=noise), noise_key=OWN.noise_key)
    going, crew, carrier = begun(chosen=chosen, defences=Defences(), conduct=conduct, rounds=1)
    going.method.shared.items[0, 0] += np.float32(extra)
    list(crew.train(going.method, going.method.work(1), np.arange(14)))
    return [arrays["rows"] for name, answer, arrays in carrier.sent if not answer.last]


def test_neither_other_noise_nor_other_tables_take_an_uploads_noise_off():
    one, two = uploaded(1.0), uploaded(2.0)
    assert len(one) == len(GROUPS)
    quiet = uploaded(1e-6)
    for first, second, clear in zip(one, two, quiet, strict=True):
        assert np.abs((2 * first - second) - clear).std() > 1
        assert (first - clear).std() == pytest.approx(1.0, rel=0.2)
    # A server that has the same round trained again from another table.
    for first, second in zip(one, uploaded(1.0, extra=0.5), strict=True):
        assert (first - second).std() > 1
    for first, again in zip(one, uploaded(1.0), strict=True):
        assert np.array_equal(first, again)


def test_a_shard_that_is_to_be_compared_with_a_run_draws_noise_as_it_does():
    chosen, noisy = recipe("fedavg", "fcf", QUICK), Defences(clip=1.0, noise=0.5)
    going, _, _ = begun(chosen=chosen, defences=noisy)
    found = going.go(lambda result: None)
    wanted = run(
        made_up(clients=14, items=30), chosen, HONEST, RunOptions(rounds=2, defences=noisy)
    )
    assert found.outcomes == wanted.outcomes
    own, _, _ = begun(chosen=chosen, defences=noisy, conduct=OWN)
    assert own.go(lambda result: None).outcomes != wanted.outcomes


def test_keyed_noise_is_normal():
    drawn = normals(key_of(b"x"), "what", np.zeros(3), 2.0, 100_001)
    assert len(drawn) == 100_001
    assert drawn.mean() == pytest.approx(0, abs=0.03)
    assert drawn.std() == pytest.approx(2.0, rel=0.02)
    assert (np.abs(drawn) > 2 * 1.96).mean() == pytest.approx(0.05, abs=0.005)
    half = drawn[:50_000]
    assert np.corrcoef(half, drawn[50_001:])[0, 1] == pytest.approx(0, abs=0.02)
    for other in (
        normals(key_of(b"y"), "what", np.zeros(3), 2.0, 9),
        normals(key_of(b"x"), "whose", np.zeros(3), 2.0, 9),
        normals(key_of(b"x"), "what", np.zeros(4), 2.0, 9),
        normals(key_of(b"x"), "what", np.zeros(3) + 1e-300, 2.0, 9),
        normals(key_of(b"x"), "what", np.zeros(3), 2.0000001, 9),
    ):
        assert np.abs(other - drawn[:9]).min() > 0
