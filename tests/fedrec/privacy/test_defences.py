"""Which defences go together, and with which algorithms; what a run says of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.conftest import made_up
from tests.fedrec.test_command import COLUMNS, fedrec
from tests.fedrec.test_command import table as table

from isthmus.errors import JobError
from isthmus.fedrec import RunOptions, Uploads, make_task, protocol, recipe, run
from isthmus.fedrec.privacy import Defences, NormBound

RULES = [protocol("full-ranking")]
QUICK = {"epochs": 1, "batch": 16, "dim": 4}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"noise": 1.0}, "without a clip"),
        ({"noise": 1.0, "clip": 1.0, "pseudo_items": 2}, "pseudo-items add nothing"),
        ({"clip": -1.0}, "clip must be"),
        ({"noise": float("nan")}, "noise must be"),
        ({"delta": 0.0}, "delta"),
        ({"pseudo_fresh": True}, "pseudo_fresh"),
    ],
)
def test_defences_that_make_no_sense_are_refused(given, words):
    with pytest.raises(JobError, match=words):
        Defences(**given)


MASKED, NOISED = Defences(secure_sum=True), Defences(clip=1.0, noise=1.0)
PSEUDO, CLIPPED = Defences(pseudo_items=1), Defences(clip=1.0)


@pytest.mark.parametrize(
    ("name", "defences", "words"),
    [
        *((name, MASKED, "own tables") for name in ("fedca", "gpfedrec", "fedatt", "fedem")),
        ("trimmed-mean", MASKED, "own tables"),
        ("fedfast", MASKED, "own vectors"),
        ("fedcia", MASKED, "not masked here"),
        ("fedca", NOISED, "tables of their own"),
        ("gpfedrec", NOISED, "how many batches"),
        ("perfedrec", PSEUDO, "user's vector"),
        ("pfedmoe", MASKED, "which items it has"),
        ("da-pfl", PSEUDO, "how popular"),
        *((name, CLIPPED, "does not send item rows") for name in ("ease", "ordered-pairs")),
        ("popularity", PSEUDO, "does not send item rows"),
        ("gfcf", MASKED, "does not send item rows"),
        ("local-only", PSEUDO, "sends nothing"),
        ("random", PSEUDO, "sends nothing"),
    ],
)
def test_an_algorithm_that_a_defence_would_not_reach_is_refused(name, defences, words):
    with pytest.raises(JobError, match=words):
        run(made_up(), recipe(name), RULES, RunOptions(rounds=1, defences=defences))


def test_a_guard_of_a_users_own_is_refused_where_it_would_do_nothing():
    with pytest.raises(JobError, match="does not send item rows"):
        run(made_up(), recipe("ease"), RULES, RunOptions(guards=(NormBound(1.0),)))


def test_without_defences_nothing_is_said():
    result = run(made_up(), recipe("fedavg", None, QUICK), RULES, RunOptions(rounds=1))
    assert result.privacy == {}
    assert not Defences(delta=1e-6)


def test_a_result_tells_epsilon_over_its_rounds():
    options = RunOptions(rounds=4, defences=Defences(clip=1.0, noise=6.0))
    result = run(made_up(), recipe("fedavg", None, QUICK), RULES, options)
    told = result.privacy
    assert told["rounds"] == 4
    assert told["epsilon_round"] < told["epsilon"] == pytest.approx(Defences(
        clip=1.0, noise=6.0).epsilon(4))  # fmt: skip
    assert "over 4 rounds" in told["protects"][0]
    json.dumps(result.to_json(), allow_nan=False)


def test_an_epsilon_above_500_is_none():
    record = Defences(clip=1.0, noise=0.01).record(10, recipe("fedavg").algorithm)
    assert record["epsilon"] is None
    assert "above 500" in record["protects"][0]


def test_a_checkpoint_of_other_defences_is_refused(tmp_path):
    class Stop(Exception):
        pass

    def stop(result):
        if result.rounds[-1].number == 2:
            raise Stop

    options = RunOptions(rounds=3, folder=tmp_path, checkpoint_every=1, defences=PSEUDO)
    made = recipe("fedavg", None, QUICK)
    with pytest.raises(Stop):
        run(made_up(), made, RULES, options, stop)
    again = replace(options, resume=True)
    with pytest.raises(JobError, match="other settings"):
        run(made_up(), made, RULES, replace(again, defences=Defences(pseudo_items=2)))
    ended = run(made_up(), made, RULES, again)
    whole = run(made_up(), made, RULES, RunOptions(rounds=3, defences=PSEUDO))
    assert ended.outcomes == whole.outcomes


class Lies:
    """A guard: every client says that it weighs 1 and has 7 in all rows that it touched."""

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        return replace(
            uploads, rows=np.full_like(uploads.rows, 7), weight=np.ones(len(uploads.clients))
        )


@pytest.mark.parametrize("name", ["fedca", "pfedgraph", "fedem"])
def test_servers_use_what_was_uploaded_and_nothing_else(name, monkeypatch):
    """Weights and tables that go into the mixture are those that went through the guards."""
    import importlib

    module = importlib.import_module(f"isthmus.fedrec.algorithms.{name}")
    seen = {}
    what = {"fedca": "composite", "pfedgraph": "collaboration", "fedem": "weights"}[name]
    inner = getattr(module, what)

    def spied(*given):
        by_rank = {one.ndim: one for one in given if isinstance(one, np.ndarray)}
        seen["weights"] = by_rank[1]
        seen["tables"] = given[1] if name != "pfedgraph" else given[0]
        return inner(*given)

    monkeypatch.setattr(module, what, spied)
    sets = {"mixed": 0.5} | ({} if name == "fedem" else QUICK)
    task = replace(make_task(made_up(clients=12), RULES[0], 1), guards=(Lies(),))
    method = recipe(name, None, sets).build(task)
    initial = method.model.initial.items.copy()
    method.round(1, lambda clients, score: None)
    assert (seen["weights"] == 1).all()
    tables = np.asarray(seen["tables"])
    if name == "pfedgraph":
        changes = tables[:, : initial.size].reshape(-1, *initial.shape)
        allowed = (changes == 0) | np.isclose(changes, 7 - initial, atol=1e-5)
    else:
        allowed = (tables == initial) | (tables == 7)
    assert allowed.all()


def test_the_command_line_says_what_is_protected(table):
    result = fedrec(
        "run", "--data", table, *COLUMNS, "--algorithm", "fedavg", "--rounds", 2, "--set", "dim=4",
        "--set", "epochs=1", "--secure-sum", "--clip", 1, "--noise", 4,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for words in ("Noise of 4 clips on the sum", "over 2 rounds", "no client's part"):
        assert words in result.output


def test_the_command_line_refuses_what_needs_tables(table):
    result = fedrec("run", "--data", table, *COLUMNS, "--algorithm", "fedca", "--secure-sum")
    assert result.exit_code == 1
    assert "needs each client's own tables" in str(result.exception)


def test_the_help_has_an_example():
    shown = " ".join(fedrec("run", "--help").output.split())
    assert "--algorithm pfedrec --pseudo-items 4" in shown
    for name in ("--pseudo-items", "--clip", "--noise", "--secure-sum"):
        assert name in shown
