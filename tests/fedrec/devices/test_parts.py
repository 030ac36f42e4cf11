"""Parts of a population as files."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tests.fedrec.conftest import made_up

from isthmus.errors import DataError, JobError
from isthmus.fedrec import RunOptions, make_task, protocol, recipe
from isthmus.fedrec.devices import Census, Part, Plan, evenly, split
from isthmus.fedrec.devices.own_data import own_part, read_catalogue
from isthmus.fedrec.devices.parts import ascending, sorted_lists

RULES = protocol("authors")


@pytest.mark.parametrize("order", ["time", "none"])
@pytest.mark.parametrize("name", ["authors", "honest-sampled"])
def test_a_part_is_what_a_shard_of_the_whole_task_would_be(tmp_path, order, name):
    data, rules = made_up(order=order), protocol(name)
    whole = make_task(data, rules, 4)
    for number, part in enumerate(split(data, rules, 4, evenly(data.users, 2))):
        path = tmp_path / f"{number}.part"
        part.save(path)
        assert path.stat().st_mode & 0o077 == 0
        found, wanted = Part.load(path).task(threads=1, memory=1 << 20), whole.part(part.clients)
        for task in (found, wanted):
            assert task.seed == 4
        for one in ("valid", "test", "turn"):
            np.testing.assert_array_equal(
                getattr(found.population, one), getattr(wanted.population, one)
            )
        for one in ("items", "indptr"):
            for lists in ("avoid", "population.train"):
                a, b = found, wanted
                for step in lists.split("."):
                    a, b = getattr(a, step), getattr(b, step)
                np.testing.assert_array_equal(getattr(a, one), getattr(b, one))
        np.testing.assert_array_equal(found.shard.identity, wanted.shard.identity)


def test_damaged_parts_are_told(tmp_path):
    (part,) = split(made_up(), RULES, 0, [np.array([1, 4])])
    path = tmp_path / "a.part"
    part.save(path)
    arrays = load_file(path)
    census = {"census": part.census.model_dump_json()}
    for name, array in {
        "items": np.full_like(arrays["items"], 40),
        "clients": np.array([4, 1]),
        "indptr": arrays["indptr"][::-1].copy(),
        "valid": np.array([-2, 1], np.int32),
        "test": np.array([1, 40], np.int32),
        "turn": arrays["turn"][1:],
    }.items():
        save_file(arrays | {name: array}, path, census)
        with pytest.raises(DataError, match="damaged"):
            Part.load(path)
    save_file(arrays, path, {"census": "{}"})
    with pytest.raises(DataError, match="is no part"):
        Part.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is no part"):
        Part.load(path)
    with pytest.raises(DataError, match="is no census"):
        Census.load(path)


def test_a_plan_fits_its_census():
    census = Census.of(made_up(), RULES, 3)
    fedavg = recipe("fedavg")
    with pytest.raises(JobError, match="not cut for the protocol full-ranking"):
        Plan(census, fedavg, (protocol("full-ranking"),), RunOptions(seed=3))
    with pytest.raises(JobError, match="seed 3"):
        Plan(census, fedavg, (RULES,), RunOptions(seed=0))


@given(st.lists(st.lists(st.integers(-1, 6), max_size=5), max_size=5))
def test_sorted_lists(lists):
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    items = np.array([item for one in lists for item in one], np.int32)
    wanted = all(one == sorted(set(one)) and all(0 <= item < 6 for item in one) for one in lists)
    assert sorted_lists(indptr, items, 6) == wanted


@given(st.lists(st.integers(-1, 6), max_size=5))
def test_ascending(numbers):
    wanted = numbers == sorted(set(numbers)) and all(0 <= one < 6 for one in numbers)
    assert ascending(np.array(numbers, np.int64), 6) == wanted


def test_evenly_covers_everybody():
    groups = evenly(10, 3)
    np.testing.assert_array_equal(np.concatenate(groups), np.arange(10))
    assert {len(one) for one in groups} == {3, 4}


def rows_of(data):
    """The data as a table whose items are called `i<number>`; rows oldest first."""
    time = np.arange(len(data.user))
    order = np.random.default_rng(0).permutation(len(data.user))
    return pl.DataFrame(
        {
            "user": [f"u{one}" for one in data.user[order]],
            "item": [f"i{one}" for one in data.item[order]],
            "time": time[order],
        }
    )


def test_a_part_of_ones_own_rows_is_the_one_that_a_split_gives():
    data = made_up()
    groups = [np.arange(3), np.arange(3, 9)]
    wanted = split(data, protocol("honest-sampled"), 0, groups)[1]
    mine = rows_of(data).filter(pl.col("user").is_in([f"u{one}" for one in groups[1]])).sort("user")
    strange = pl.DataFrame({"user": ["u4"], "item": ["unheard of"], "time": [0]})
    catalogue = [f"i{number}" for number in range(data.items)]
    census = wanted.census
    found, people = own_part(pl.concat([mine, strange]), census, catalogue, 3)
    assert people == [f"u{one}" for one in groups[1]]
    np.testing.assert_array_equal(found.clients, wanted.clients)
    for name in ("valid", "test", "turn"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_array_equal(found.train.items, wanted.train.items)
    np.testing.assert_array_equal(found.train.indptr, wanted.train.indptr)


def test_own_rows_that_do_not_fit_are_told(tmp_path):
    data = made_up()
    census, frame = Census.of(data, RULES, 0), rows_of(data)
    catalogue = [f"i{number}" for number in range(data.items)]
    with pytest.raises(DataError, match="9 clients from number 1 on"):
        own_part(frame, census, catalogue, 1)
    with pytest.raises(DataError, match="no client"):
        own_part(frame, census, [f"x{number}" for number in range(data.items)], 0)
    path = tmp_path / "items.txt"
    path.write_text("\n".join([*catalogue[:-1], "i0"]) + "\n")
    with pytest.raises(DataError, match="39 different names on 40 lines"):
        read_catalogue(path, census)
    path.write_text("\n".join(catalogue) + "\n")
    assert read_catalogue(path, census) == catalogue


def test_without_times_what_is_held_out_is_drawn():
    data = made_up(order="none")
    census = Census.of(data, protocol("full-ranking"), 0)
    catalogue = [f"i{number}" for number in range(data.items)]
    part, _ = own_part(rows_of(data).drop("time"), census, catalogue, 0, least=3)
    assert part.turn is None
    heard = []
    own_part(rows_of(data).drop("time"), census, catalogue, 0, least=3, say=heard.append)
    assert heard == []
    some = rows_of(data).with_columns(
        pl.when(pl.int_range(pl.len()) == 2).then(None).otherwise(pl.col("time")).alias("time")
    )
    own_part(some, census, catalogue, 0, least=3, say=heard.append)
    assert f"1 of {len(some)} interactions has no time" in heard[0]
    task = part.task(threads=1, memory=1 << 20)
    for client in range(task.population.clients):
        held = {int(part.valid[client]), int(part.test[client])}
        assert not held & set(part.train.of(client).tolist())


def test_the_census_says_for_all_whether_times_count():
    data = made_up(order="time")
    census = Census.of(data, RULES, 0)
    assert census.timed
    assert Census.of(made_up(order="none"), RULES, 0).timed is False
    catalogue = [f"i{number}" for number in range(data.items)]
    with pytest.raises(DataError, match="some of these rows have none"):
        own_part(rows_of(data).drop("time"), census, catalogue, 0)
    without = census.model_copy(update={"timed": False})
    part, _ = own_part(rows_of(data), without, catalogue, 0)
    assert part.turn is None
    part, _ = own_part(rows_of(data), census.model_copy(update={"timed": None}), catalogue, 0)
    assert part.turn is not None
