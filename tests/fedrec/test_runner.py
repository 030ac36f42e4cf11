"""Runs: chosen rounds, checkpoints, what is written; the algorithms as the registry has them."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError, StorageError
from isthmus.fedrec import (
    Algorithm,
    Candidates,
    Guard,
    RunOptions,
    algorithm,
    algorithm_names,
    checkpoint,
    make_task,
    protocol,
    recipe,
    run,
)
from isthmus.fedrec.algorithms.ease import ease_weights
from isthmus.fedrec.options import parse_sets
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.results import RunResult

QUICK = {"epochs": 2, "batch": 16, "dim": 4}
HONEST = [protocol("honest-sampled"), protocol("full-ranking")]


class StoppedHere(Exception):
    pass


def without_times(result):
    return replace(result, rounds=[replace(one, seconds=0, cpu=0) for one in result.rounds])


@pytest.mark.parametrize("name", ["fedavg", "fedca", "pfedrec"])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(data, tmp_path, name):
    sets = {} if name == "pfedrec" else QUICK
    options = RunOptions(rounds=5, folder=tmp_path / "whole", checkpoint_every=2)
    whole = run(data, recipe(name, None, sets), HONEST, options)

    def stop(result):
        if result.rounds[-1].number == 3:
            raise StoppedHere

    broken = replace(options, folder=tmp_path / "broken")
    with pytest.raises(StoppedHere):
        run(data, recipe(name, None, sets), HONEST, broken, stop)
    seen = []
    again = run(
        data, recipe(name, None, sets), HONEST, replace(broken, resume=True),
        lambda result: seen.append(result.rounds[-1].number),
    )  # fmt: skip
    assert seen == [3, 4, 5]
    assert without_times(again) == without_times(whole)
    for file in ("ranks.safetensors",):
        first, second = (load_file(tmp_path / one / file) for one in ("whole", "broken"))
        assert first.keys() == second.keys()
        for key, values in first.items():
            np.testing.assert_array_equal(values, second[key])
    assert not (tmp_path / "broken" / "checkpoint.safetensors").exists()


def checkpoint_of(data, folder, chosen, **more):
    def stop(result):
        raise StoppedHere

    options = RunOptions(rounds=3, folder=folder, checkpoint_every=1, every=2, **more)
    with pytest.raises(StoppedHere):
        run(data, chosen, HONEST, options, stop)
    return replace(options, resume=True)


def test_a_checkpoint_of_other_settings_is_refused(data, tmp_path):
    options = checkpoint_of(data, tmp_path, recipe("fedavg", None, QUICK))
    other = recipe("fedavg", None, QUICK | {"rate": 0.5})
    with pytest.raises(JobError, match=r"other settings: rate 0\.\d+, here 0\.5"):
        run(data, other, HONEST, options)
    with pytest.raises(JobError, match="other settings: every 2, here 1"):
        run(data, recipe("fedavg", None, QUICK), HONEST, replace(options, every=1))
    clipped = replace(options, defences=Defences(clip=1.0))
    with pytest.raises(JobError, match=r"other settings: .*clip not set, here 1\.0"):
        run(data, recipe("fedavg", None, QUICK), HONEST, clipped)


def written_before(path, drop=()):
    """The checkpoint as versions wrote it that had neither heads in it nor these defences."""
    arrays = load_file(path)
    with safe_open(path, framework="numpy") as file:
        text = file.metadata()
    head, result = json.loads(text["head"]), json.loads(text["result"])
    del result["notes"]
    for name in drop:
        del head["privacy"][name], result["privacy"][name]
    text = {"mark": checkpoint.fingerprint(head), "result": json.dumps(result)}
    save_file(arrays, path, text)
    return RunResult.from_json(result)


def test_a_checkpoint_of_an_earlier_version_is_told_as_such(data, tmp_path):
    chosen, defences = recipe("fedavg", None, QUICK), Defences(clip=1.0)
    options = checkpoint_of(data, tmp_path, chosen, defences=defences)
    written_before(tmp_path / checkpoint.FILE, ["dropouts"])
    with pytest.raises(JobError, match="an earlier version, which did not have dropouts") as told:
        run(data, chosen, HONEST, options)
    assert "Leave out --resume" in told.value.mend
    with pytest.raises(JobError, match="other settings: seed 0, here 1"):
        run(data, chosen, HONEST, replace(options, seed=1))


def test_a_checkpoint_of_an_earlier_version_that_had_all_fields_is_taken_up(data, tmp_path):
    chosen = recipe("fedavg", None, QUICK)
    options = checkpoint_of(data, tmp_path, chosen)
    kept = written_before(tmp_path / checkpoint.FILE)
    # Seconds are not the same twice.
    assert run(data, chosen, HONEST, options).rounds[:1] == kept.rounds


def test_a_damaged_checkpoint_is_told(data, tmp_path):
    chosen = recipe("fedavg", None, QUICK)
    options = checkpoint_of(data, tmp_path, chosen)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StorageError, match="damaged"):
        run(data, chosen, HONEST, options)


def test_the_result_is_that_of_the_chosen_round(data, tmp_path):
    options = RunOptions(rounds=4, folder=tmp_path)
    result = run(data, recipe("fedavg", None, QUICK), HONEST, options)
    for name, outcome in result.outcomes.items():
        values = [one.valid["ndcg@10"] for one in outcome.judgements]
        assert outcome.best.valid["ndcg@10"] == max(values), name
    written = json.loads((tmp_path / "result.json").read_text())
    assert RunResult.from_json(written) == result
    ranks = load_file(tmp_path / "ranks.safetensors")
    hits = (ranks["full-ranking"] > 0) & (ranks["full-ranking"] <= 10)
    assert hits.mean() == pytest.approx(result.outcomes["full-ranking"].best.test["hr@10"])


def test_protocols_with_different_training_do_not_share_a_run(data):
    with pytest.raises(JobError, match="trainings of their own"):
        run(data, recipe("popularity"), [protocol("authors"), *HONEST])


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_explains_itself(name):
    found = algorithm(name)
    assert isinstance(found, Algorithm)
    assert found.name == name
    assert found.paper
    assert found.private
    for one in fields(found.settings):
        assert one.default is not None or one.default_factory


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_runs_judged_on_all_protocols(name):
    data = made_up(clients=12, items=30)
    for rules in ([protocol("authors")], HONEST):
        result = run(data, recipe(name), rules, RunOptions(rounds=2))
        assert len(result.rounds) == 2
        for outcome in result.outcomes.values():
            assert 0 <= outcome.best.test["ndcg@10"] <= outcome.best.test["hr@10"] <= 1


def test_clients_that_are_sampled_train_alone(data):
    result = run(data, recipe("fedavg", None, QUICK | {"share": 0.4}), HONEST, RunOptions(rounds=2))
    assert [one.clients for one in result.rounds] == [3, 3]


def test_a_guard_changes_what_the_server_sees_and_counts_its_bytes(data):
    class Nothing(Guard):
        """Sends back what the client began from."""

        def __call__(self, uploads, number):
            rows = uploads.starts.items[0][uploads.items]
            return replace(uploads, rows=rows)

    chosen = recipe("fedavg", None, QUICK)
    task = replace(make_task(data, HONEST[0], 0), guards=(Nothing(),))
    method = chosen.build(task)
    before = method.shared.items.copy()
    method.round(1, lambda clients, score: None)
    np.testing.assert_array_equal(method.shared.items, before)


@pytest.mark.parametrize("name", ["pfedrec", "gpfedrec"])
def test_some_clients_of_a_chunk_are_judged_as_all_of_it_are(data, name):
    task = make_task(data, HONEST[0], 0)
    found = []

    def all_of(clients):
        return Candidates.everything(len(clients), data.items)

    def watch(clients, score):
        if len(clients) < 3:
            return
        whole = score(clients, all_of(clients)).reshape(len(clients), -1)
        some = clients[[0, len(clients) - 1]]
        found.append((whole[[0, -1]], score(some, all_of(some)).reshape(2, -1)))

    recipe(name, None, {"epochs": 1}).build(task).round(1, watch)
    assert found
    for whole, some in found:
        np.testing.assert_array_equal(some, whole)


def test_settings_are_checked():
    assert recipe("fedca", None, {"alpha": "0.5", "epochs": "3"}).values()["alpha"] == 0.5
    for sets, words in (
        ({"nonsense": 1}, "no field 'nonsense'"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": 0}, "epochs must be"),
        ({"variant": "ours"}, "variant"),
    ):
        with pytest.raises(JobError, match=words):
            recipe("fedca", None, sets)
    for share, said in ((7, "must lie above 0"), (0, "must lie above 0"), ("nan", "finite number")):
        with pytest.raises(JobError, match=f"share .*{said}"):
            recipe("fedavg", None, {"share": share})
    with pytest.raises(JobError, match="no algorithm"):
        recipe("nobody")
    with pytest.raises(JobError, match="does not work with"):
        recipe("pfedrec", "fcf")
    with pytest.raises(JobError, match="takes no backbone"):
        recipe("ease", "fcf")
    with pytest.raises(JobError, match="FIELD=VALUE"):
        parse_sets(["x"])


def test_an_algorithm_of_ones_own_is_found_by_module_and_name():
    assert algorithm("isthmus.fedrec.algorithms.fedavg:ALGORITHM").name == "fedavg"
    with pytest.raises(JobError, match="cannot be imported"):
        algorithm("no.such.module:ALGORITHM")
    with pytest.raises(JobError, match="is no"):
        algorithm("math:pi")


def test_ease_by_its_definition():
    """B minimises |X - XB|^2 + ridge |B|^2 under a zero diagonal: column by column."""
    x = (np.random.default_rng(0).random((20, 6)) < 0.4).astype(float)
    found = ease_weights((x.T @ x).astype(np.float32), ridge=2.0)
    for j in range(6):
        rest = [i for i in range(6) if i != j]
        part = x[:, rest]
        wanted = np.linalg.solve(part.T @ part + 2.0 * np.eye(5), part.T @ x[:, j])
        np.testing.assert_allclose(found[rest, j], wanted, atol=1e-5)
        assert found[j, j] == 0


def test_popularity_and_item_knn_by_hand():
    from isthmus.fedrec import Candidates, Interactions

    rows = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 2)]
    rows += [(u, 3) for u in range(3)] + [(u, 4) for u in range(3)]
    rows.sort(key=lambda pair: pair[0])
    user, item = (np.array(one) for one in zip(*rows, strict=True))
    data = Interactions("x", 3, 6, user, item, "time")
    task = make_task(data, HONEST[0], 0)
    everything = Candidates.everything(3, 6)
    popular = recipe("popularity").build(task)
    popular.round(1, lambda clients, score: None)
    scores = popular.score(np.arange(3), everything).reshape(3, 6)
    assert scores.tolist() == [[3, 2, 1, 0, 0, 0]] * 3
    near = recipe("item-knn", None, {"shrink": 0, "neighbours": 6}).build(task)
    near.round(1, lambda clients, score: None)
    found = near.score(np.arange(3), everything).reshape(3, 6)
    # G_01 = 2, G_00 = 3, G_11 = 2; G_02 = 1, G_22 = 1.
    assert found[0, 2] == pytest.approx(1 / np.sqrt(3))
    assert found[2, 1] == pytest.approx(2 / np.sqrt(6))
