"""Simulated rounds whose clients drop out of the secure sum: what the aggregator is given."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.conftest import made_up
from tests.fedrec.test_command import COLUMNS, fedrec
from tests.fedrec.test_command import table as table

from isthmus.errors import JobError
from isthmus.fedrec import RunOptions, Sums, make_task, protocol, recipe, run
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.secure_sum import STEP, SecureSum

RULES = protocol("full-ranking")
QUICK = {"epochs": 1, "batch": 16, "dim": 4}
LOSSY = Defences(secure_sum=True, dropouts=0.3)


class Sees:
    """FedAvg that keeps its sums, and what its clients sent."""

    def aggregate(self, shared, uploads):
        self.sums = Sums.like(shared)
        for chunk in uploads:
            self.sums.add(chunk, chunk.weight)
            self.sealed = chunk.sealed
        return shared


def summed(defences, clients=12, number=1):
    task = make_task(made_up(clients=clients, items=30), RULES, 5)
    method = recipe("fedavg", None, QUICK).build(defences.protect(task))
    method.aggregator = sees = Sees()
    report = method.round(number, lambda clients, score: None)
    return sees, report


def test_the_sums_are_those_of_the_survivors():
    sees, _ = summed(LOSSY)
    sealed = sees.sealed
    survive = sealed.drops.survive
    assert 12 - 3 <= survive.sum() < 12
    sums, uploads = sees.sums, sealed.uploads
    wanted = Sums.like(recipe_shared(uploads))
    for place in np.flatnonzero(survive):
        own = slice(uploads.indptr[place], uploads.indptr[place + 1])
        wanted.add(
            replace(
                uploads, clients=uploads.clients[[place]], items=uploads.items[own],
                rows=uploads.rows[own], network=uploads.network[[place]],
                indptr=np.array([0, own.stop - own.start]),
            ),
            uploads.weight[[place]],
        )  # fmt: skip
    np.testing.assert_allclose(sums.items, wanted.items, atol=12 * STEP)
    np.testing.assert_allclose(sums.mass, wanted.mass, atol=12 * STEP)
    assert sums.weight == pytest.approx(wanted.weight)
    assert sums.clients == wanted.clients == survive.sum()


def recipe_shared(uploads):
    class Like:
        items, network = uploads.starts.items[0], uploads.starts.network[0]

    return Like


@pytest.mark.parametrize("noise", [{}, {"clip": 1.0, "noise": 2.0}])
def test_the_masks_change_no_bit(noise):
    masked, one = summed(replace(LOSSY, **noise))
    plain, other = summed(replace(LOSSY, masks_left_out=True, **noise))
    np.testing.assert_array_equal(masked.sums.items, plain.sums.items)
    assert masked.sums.weight == plain.sums.weight
    assert one.up == other.up


def test_who_drops_out_follows_the_seed_and_the_round():
    first = [summed(LOSSY, number=number)[0].sealed.drops.step for number in (1, 2, 3)]
    again = [summed(LOSSY, number=number)[0].sealed.drops.step for number in (1, 2, 3)]
    np.testing.assert_array_equal(first, again)
    assert len({tuple(one) for one in first}) == 3


def test_the_survivors_noise_alone_is_as_much_as_was_asked_for():
    task = make_task(made_up(clients=40, items=200, least=4, most=6), RULES, 5)
    found = {}
    for dropouts in (0.0, 0.3):
        defences = Defences(
            clip=1e-6, noise=1e6, secure_sum=True, dropouts=dropouts, masks_left_out=True
        )
        method = recipe("fedavg", None, QUICK).build(defences.protect(task))
        method.aggregator = sees = Sees()
        method.round(1, lambda clients, score: None)
        found[dropouts] = sees.sums.items.std()
        drops = sees.sealed.drops
    assert found[0.0] == pytest.approx(1.0, rel=0.1)
    least = 40 - SecureSum(task, dropouts=0.3).rules.terms(40).lost
    assert found[0.3] == pytest.approx(np.sqrt(drops.survive.sum() / least), rel=0.1)
    assert found[0.3] >= 0.95


def test_a_run_says_so_and_reaches_its_end():
    result = run(
        made_up(clients=12, items=30), recipe("fedavg", None, QUICK), [RULES],
        RunOptions(rounds=3, defences=LOSSY),
    )  # fmt: skip
    assert len(result.rounds) == 3
    assert result.privacy["dropouts"] == 0.3
    assert any("0.3 of the clients drop out" in one for one in result.privacy["protects"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dropouts": 0.1}, "those of a secure sum"),
        ({"dropouts": 0.4, "secure_sum": True}, "more than a third"),
        ({"dropouts": -0.1, "secure_sum": True}, "dropouts must be"),
    ],
)
def test_dropouts_that_make_no_sense_are_refused(given, words):
    with pytest.raises(JobError, match=words):
        Defences(**given)


def test_an_algorithm_that_counts_on_all_clients_is_refused():
    with pytest.raises(JobError, match="divides its sums"):
        run(made_up(), recipe("fedca-sketched"), [RULES], RunOptions(rounds=1, defences=LOSSY))


def test_the_command_line_takes_dropouts(table):
    result = fedrec(
        "run", "--data", table, *COLUMNS, "--algorithm", "fedavg", "--rounds", 2, "--set", "dim=4",
        "--set", "epochs=1", "--secure-sum", "--dropouts", 0.1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "0.1 of the clients drop out" in " ".join(result.output.split())
