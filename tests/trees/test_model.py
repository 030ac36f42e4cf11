"""A part of a model as a file, and what its columns did."""

import json
from dataclasses import replace

import pytest
from tests.trees.made import OPTIONS, PARTS, split_models

from isthmus.errors import StorageError
from isthmus.trees import TreeModel

MODELS, _ = split_models(replace(OPTIONS, goss=(0.5, 0.2), leaves=6))


@pytest.mark.parametrize("party", PARTS)
def test_a_part_comes_back_from_its_file(tmp_path, party):
    path = tmp_path / "model.json"
    MODELS[party].save(path)
    assert TreeModel.load(path) == MODELS[party]
    MODELS[party].save(str(path))
    assert TreeModel.load(str(path)) == MODELS[party]


def saved(tmp_path, party="alice"):
    MODELS[party].save(tmp_path / "model.json")
    return json.loads((tmp_path / "model.json").read_text())


def inner(content):
    return next(node for node in content["trees"][0] if node["party"] >= 0)


def own(content):
    return next(node for tree in content["trees"] for node in tree if node["party"] == 0)


def partners(content):
    return next(node for tree in content["trees"] for node in tree if node["party"] > 0)


DAMAGE = {
    "another format": lambda c: c.update(format="isthmus.trees/2"),
    "a field more": lambda c: c.update(more=1),
    "a field less": lambda c: c.pop("cuts"),
    "options that cannot be": lambda c: c["options"].update(depth=0),
    "edges that fall": lambda c: c["bins"][0].update(edges=[2.0, 1.0]),
    "a missing bin beyond": lambda c: c["bins"][0].update(missing=10**6),
    "a cut of no column": lambda c: c["cuts"][0].update(column=99),
    "a cut beyond the bins": lambda c: c["cuts"][0].update(bin=10**4),
    "a child before its parent": lambda c: inner(c).update(left=0),
    "a child twice": lambda c: inner(c).update(left=3),
    "a party that is not": lambda c: inner(c).update(party=7),
    "an own cut that is not": lambda c: own(c).update(cut=10**5),
    "a partner's cut that is not": lambda c: partners(c).update(cut=10**5),
    "a tree of no node": lambda c: c["trees"].append([]),
    "a start of more classes": lambda c: c["start"].append(0.0),
    "text for a number": lambda c: c["start"].__setitem__(0, "1"),
    "an infinite value": lambda c: c["trees"][0][0].update(value=float("inf")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused(tmp_path, name):
    content = saved(tmp_path)
    DAMAGE[name](content)
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(StorageError, match="no part of a model of trees"):
        TreeModel.load(tmp_path / "model.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "isthmus.trees/1"}', "\x00\xff"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(StorageError):
        TreeModel.load(tmp_path / "model.json")


def test_no_file_is_told(tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        TreeModel.load(tmp_path / "none.json")


def test_importance_names_own_columns_and_numbers_those_of_partners():
    found = MODELS["alice"].importance()
    assert [row.gain for row in found] == sorted((row.gain for row in found), reverse=True)
    for row in found:
        assert row.column in PARTS["alice"] if row.party == "alice" else row.column[0] == "#"
    for party in ("bob", "carol"):
        mine = MODELS[party].importance()
        assert {row.column for row in mine} <= set(PARTS[party])
        seen = sorted(row.splits for row in found if row.party == party)
        assert sorted(row.splits for row in mine) == seen


def test_a_part_holds_no_other_partys_columns():
    for party, names in PARTS.items():
        others = [name for other in PARTS if other != party for name in PARTS[other]]
        text = json.dumps([repr(MODELS[party].bins), repr(MODELS[party].cuts)])
        assert not any(f"'{name}'" in text for name in others)
        assert {one.column for one in MODELS[party].bins} <= set(names)
