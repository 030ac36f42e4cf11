"""Files of what was fitted: kept as they are, and refused when they are anything else."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import DataError, StorageError
from isthmus.session import Session
from isthmus.stats import (
    BinningOptions,
    Correlation,
    Scale,
    Scorecard,
    SplitPca,
    TableProfile,
    WoeFit,
    correlation,
    fit_pca,
    fit_woe,
    profile,
    scorecard,
    storing,
)

RNG = np.random.default_rng(4)
TABLE = pl.DataFrame(
    {
        "n": np.where(RNG.random(400) < 0.1, -1.0, RNG.normal(size=400)),
        "m": RNG.normal(size=400),
        "city": RNG.choice(["ulm", "bonn", "kiel"], 400),
    }
)
LABEL = (RNG.random(400) < 0.3).astype(int)
ALONE = Session(me="bob", parties=("bob",), label_party="bob")
OPTIONS = BinningOptions(bins=4, special={"n": [-1], "city": ["kiel"]})
NUMBERS = TABLE.select("n", "m")


def made():
    fit = fit_woe(ALONE, TABLE, label=LABEL, options=OPTIONS)
    return {
        "binning": fit,
        "card": scorecard(fit, {"n": 0.5, "city": 1.0}, scale=Scale(), intercept=-1.0),
        "correlation": correlation(ALONE, NUMBERS),
        "pca": fit_pca(ALONE, NUMBERS, components=2),
        "profile": profile(TABLE),
    }


MADE = made()
KINDS = {name: type(one) for name, one in MADE.items()}


def same(first, second):
    if isinstance(first, SplitPca):
        return first.to_json() == second.to_json() and first.axes.dtype == second.axes.dtype
    return first == second


@pytest.mark.parametrize("name", MADE)
def test_a_file_gives_back_what_was_saved(tmp_path, name):
    path = tmp_path / "deep" / "part.json"
    MADE[name].save(str(path))
    back = KINDS[name].load(str(path))
    assert same(back, MADE[name])
    assert json.loads(path.read_text())


def test_what_was_read_transforms_as_what_was_fitted(tmp_path):
    for name in ("binning", "card", "pca"):
        MADE[name].save(tmp_path / name)
    fit, card = WoeFit.load(tmp_path / "binning"), Scorecard.load(tmp_path / "card")
    assert fit.transform(TABLE).equals(MADE["binning"].transform(TABLE))
    np.testing.assert_array_equal(card.points(TABLE), MADE["card"].points(TABLE))
    pca = SplitPca.load(tmp_path / "pca")
    np.testing.assert_array_equal(pca.scores(NUMBERS), MADE["pca"].scores(NUMBERS))
    labels = [label for column in fit.own() for label in column.bins.labels()]
    assert "= -1" in labels


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"rows": 1e999}']
)
def test_another_file_is_one_clear_error(tmp_path, kind, content):
    path = tmp_path / "part.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"part\.json is damaged"):
        kind.load(path)


@pytest.mark.parametrize("kind", KINDS.values())
def test_no_file_and_a_file_that_is_too_large(tmp_path, kind, monkeypatch):
    with pytest.raises(StorageError, match="cannot read"):
        kind.load(tmp_path / "none")
    monkeypatch.setattr(storing, "LARGEST", 10)
    (tmp_path / "large").write_bytes(b" " * 11)
    with pytest.raises(StorageError, match="larger than 10 bytes"):
        kind.load(tmp_path / "large")


@pytest.mark.parametrize("name", [name for name in MADE if name != "profile"])
def test_a_part_of_another_kind_is_refused(tmp_path, name):
    MADE["profile"].save(tmp_path / "profile")
    with pytest.raises(StorageError, match="damaged, or is another kind"):
        KINDS[name].load(tmp_path / "profile")
    with pytest.raises(DataError):
        TableProfile.from_json(MADE[name].to_json())


def changed(name, *path_and_value):
    """The JSON of `MADE[name]` with one value changed."""
    *path, value = path_and_value
    whole = json.loads(MADE[name].to_json())
    at = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value(at[path[-1]]) if callable(value) else value
    return json.dumps(whole)


def longer(values):
    return [*values, values[-1]]


CONTRADICTIONS = [
    ("binning", ("columns", 1, "column"), "n"),
    ("binning", ("rows",), -1),
    ("binning", ("columns", 0, "column"), "k"),
    ("binning", ("columns", 0, "woe"), longer),
    ("binning", ("columns", 0, "table", "woe"), longer),
    ("binning", ("columns", 0, "table", "rows", 0), 10**30),
    ("binning", ("columns", 0, "table", "positives", 0), -1),
    ("binning", ("columns", 0, "bins", "groups", 0), 77),
    ("binning", ("columns", 0, "bins", "groups"), lambda groups: [-1] * len(groups)),
    ("binning", ("columns", 0, "bins", "groups"), longer),
    ("binning", ("columns", 0, "bins", "values"), 9),
    ("binning", ("columns", 0, "bins", "edges"), lambda edges: edges[::-1]),
    ("binning", ("columns", 0, "bins", "special"), ["x"]),
    ("binning", ("columns", 2, "bins", "special"), [1.0]),
    ("binning", ("columns", 2, "bins", "categories"), lambda names: [names[0]] * len(names)),
    ("binning", ("columns", 2, "bins", "edges"), [0.5]),
    ("card", ("columns", 0, "points"), longer),
    ("card", ("columns", 0, "labels"), longer),
    ("card", ("columns", 1), None),
    ("correlation", ("matrix", 0, 1), 1.5),
    ("correlation", ("matrix", 0, 1), 0.5),
    ("correlation", ("matrix", 0, 0), 0.5),
    ("correlation", ("matrix"), None),
    ("correlation", ("parties",), longer),
    ("correlation", ("columns",), ["n", "n"]),
    ("correlation", ("rows",), 0),
    ("pca", ("mean",), longer),
    ("pca", ("columns",), ["n", "n"]),
    ("pca", ("scale", 0), 0.0),
    ("pca", ("axes", 0), longer),
    ("pca", ("axes", 0, 0), 2.0),
    ("pca", ("variance",), lambda values: values[::-1]),
    ("pca", ("total_variance",), -1.0),
    ("pca", ("correlation", "rows"), -1),
]


@pytest.mark.parametrize(("name", "path", "value"), CONTRADICTIONS)
def test_a_part_that_contradicts_itself_is_refused(name, path, value):
    path = (path,) if isinstance(path, str) else path
    if name == "card" and path == ("columns", 1):
        text = changed(name, "columns", lambda columns: [columns[0]] * 2)
    else:
        text = changed(name, *path, value)
    with pytest.raises(DataError):
        KINDS[name].from_json(text)


def places(value, path=()):
    """Paths of all values of some JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@pytest.mark.parametrize("name", MADE)
@given(data=st.data())
def test_whatever_is_changed_is_read_or_refused_and_nothing_else(name, data):
    paths = list(places(json.loads(MADE[name].to_json())))
    path = data.draw(st.sampled_from(paths))
    value = data.draw(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([])
        | st.floats(allow_nan=True)
    )  # fmt: skip
    # Any other error fails the test.
    with suppress(DataError):
        found = KINDS[name].from_json(changed(name, *path, value))
        assert KINDS[name].from_json(found.to_json()).to_json() == found.to_json()


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        MADE["correlation"].save(tmp_path / "file" / "part.json")
    assert Correlation.from_json(MADE["correlation"].to_json()) == MADE["correlation"]
