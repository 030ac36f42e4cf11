"""A fit that was stopped goes on from its checkpoints, and ends as if nothing had happened."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.trees.made import OPTIONS, PARTS, ROWS, TABLE, Y
from tests.trees.test_between import heading
from tests.trees.test_conformance import CLASSES

from isthmus.errors import BadMessage, IsthmusError, StorageError
from isthmus.session import SilentProgress, run_parties
from isthmus.trees import Keeping, boosting, checkpoint, clear_checkpoints, feature_side, fit

EVERY = Keeping(seconds=0)
MANY = replace(OPTIONS, trees=7, depth=3)
CASES = {
    "plain": (MANY, Y, {}),
    "several classes": (replace(MANY, objective="multiclass", classes=3, trees=6), CLASSES, {}),
    "rows and columns drawn": (replace(MANY, subsample=0.6, columns=0.3), Y, {}),
    "one-side sampling": (replace(MANY, goss=(0.3, 0.2)), Y, {}),
    "early stopping": (
        replace(MANY, patience=3, trees=60, learning_rate=0.8),
        Y,
        {"valid": np.arange(0, ROWS, 4)},
    ),
    "first trees alone": (replace(MANY, own_trees=3), Y, {}),
}


class Stopped(Exception):
    """What a killed process is here."""


class Heard(SilentProgress):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def fitted(folder, options=MANY, labels=Y, table=TABLE, keeping=EVERY, change=None, **given):
    """Each party's part of the model, and what they said. `change` gets each session."""
    heard = Heard()

    def program(session):
        if change is not None:
            change(session)
        own = table.select(PARTS[session.me])
        if session.is_label_party:
            return fit(session, own, labels, options, keeping=keeping, **given)
        return fit(session, own, options=options)

    found = run_parties(
        dict.fromkeys(PARTS, program), label_party="alice", seed=5, folder=folder, progress=heard
    )
    return found, heard.said


def breaks(monkeypatch, owner, name, some, *args, **given):
    """Run with another function in the place of one, which stops it."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, some)
        with pytest.raises(Stopped):
            fitted(*args, **given)


def stopped(folder, monkeypatch, *args, rounds=4, **given):
    """Run until the label party has made so many rounds."""
    made = boosting.Boosting.round

    def some(self, number):
        if number == rounds:
            raise Stopped
        made(self, number)

    breaks(monkeypatch, boosting.Boosting, "round", some, folder, *args, **given)


def files(folder, party):
    return sorted((folder / party / checkpoint.FOLDER).iterdir())


@pytest.mark.parametrize("case", CASES)
def test_a_fit_that_was_stopped_ends_like_one_that_was_not(case, tmp_path, monkeypatch):
    options, labels, given = CASES[case]
    whole, said = fitted(None, options, labels, **given)
    assert said == []
    stopped(tmp_path, monkeypatch, options, labels, **given)
    found, said = fitted(tmp_path, options, labels, **given)
    assert said == ["continuing after round 4"] * len(PARTS)
    assert found == whole
    assert len(whole["alice"].losses) > 5


def test_a_partner_that_stops_within_a_tree(tmp_path, monkeypatch):
    grow, trees = feature_side._Tree.grow, []

    def some(self):
        trees.append(self)
        if len(trees) > 9:
            raise Stopped
        grow(self)

    breaks(monkeypatch, feature_side._Tree, "grow", some, tmp_path)
    found, said = fitted(tmp_path)
    # Two appear in each tree, so that the tenth is of the fifth.
    assert said[0] == "continuing after round 4"
    assert found == fitted(None)[0]


def test_noise_is_drawn_anew_and_all_that_was_shown_is_counted(tmp_path, monkeypatch):
    options = replace(MANY, noise=1.0)
    whole, _ = fitted(None, options)
    grow, trees = boosting.Boosting._add, []

    def some(self, *args):
        grow(self, *args)
        trees.append(args)
        if len(trees) == 6:
            raise Stopped

    # Kept after the third and the sixth, of which the sixth does not come about.
    keeping = Keeping(3, iter(range(100)).__next__)
    breaks(monkeypatch, boosting.Boosting, "_add", some, tmp_path, options, keeping=keeping)
    found, said = fitted(tmp_path, options)
    assert said == ["continuing after round 3"] * 3
    assert found["alice"].trees[:3] != whole["alice"].trees[:3]
    for party in PARTS:
        # Six trees, and four of the seven again.
        assert found[party].rho == whole[party].rho * 10 / 7
    # All begins anew, and what was shown is still counted.
    for path in files(tmp_path, "alice"):
        path.unlink()
    found, _ = fitted(tmp_path, options)
    assert found["bob"].rho == found["alice"].rho == whole["bob"].rho * 17 / 7
    # Other options are another account.
    assert fitted(tmp_path, replace(options, l2=2.0))[0]["bob"].rho == whole["bob"].rho


def test_an_account_that_cannot_be_read_is_none(tmp_path):
    options = replace(MANY, noise=1.0)
    fitted(tmp_path, options)
    (tmp_path / "bob" / checkpoint.FOLDER / "noise.json").write_text("{")
    with pytest.raises(StorageError, match="what noisy sums have cost"):
        fitted(tmp_path, options)


def test_checkpoints_come_by_the_clock(tmp_path, monkeypatch):
    times = iter([0, 10, 29, 31, 31, 50, 60, 61, 61, *range(62, 90)])
    saved = []
    save = checkpoint.Checkpoints.save

    def note(self, point, arrays, facts):
        saved.append(point.rounds)
        save(self, point, arrays, facts)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", note)
    fitted(tmp_path, keeping=Keeping(30.0, times.__next__))
    assert saved == [3] * 3 + [6] * 3


def test_two_are_kept_and_a_finished_fit_need_not_be_made_again(tmp_path):
    found, _ = fitted(tmp_path)
    for party in PARTS:
        assert [path.name[:12] for path in files(tmp_path, party)] == [
            "round-000005",
            "round-000006",
        ]
    again, said = fitted(tmp_path)
    assert said == ["continuing after round 6"] * 3
    assert again == found
    clear_checkpoints(tmp_path / "bob")
    clear_checkpoints(None)
    assert list((tmp_path / "bob").iterdir()) == []


def changed(name):
    return {
        "options": {"options": replace(MANY, l2=2.0)},
        "labels": {"labels": 1 - Y},
        "weights": {"weights": np.full(ROWS, 2.0)},
        "held out": {"valid": np.arange(5)},
        "alice's column": {"table": TABLE.with_columns(x0=-TABLE["x0"])},
        "bob's column": {"table": TABLE.with_columns(x2=-TABLE["x2"])},
    }[name]


@pytest.mark.parametrize(
    "name", ["options", "labels", "weights", "held out", "alice's column", "bob's column"]
)
def test_of_other_options_or_data_all_begins_anew(name, tmp_path):
    fitted(tmp_path)
    old = {path for party in PARTS for path in files(tmp_path, party)}
    found, said = fitted(tmp_path, **changed(name))
    assert said == []
    assert found == fitted(None, **changed(name))[0]
    assert not old & {path for party in PARTS for path in files(tmp_path, party)}


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_smaller_of_what_the_parties_have(tmp_path, monkeypatch):
    whole, _ = fitted(None)
    stopped(tmp_path, monkeypatch)
    damage(files(tmp_path, "carol")[-1])
    found, said = fitted(tmp_path)
    assert said == ["continuing after round 3"] * 3
    assert found == whole


def test_a_label_party_that_has_less(tmp_path, monkeypatch):
    whole, _ = fitted(None)
    stopped(tmp_path, monkeypatch)
    damage(files(tmp_path, "alice")[-1])
    files(tmp_path, "bob")[0].unlink()  # of round 3: round 4's is cut back
    found, said = fitted(tmp_path)
    assert said == ["continuing after round 3"] * 3
    assert found == whole


@pytest.mark.parametrize("party", PARTS)
def test_one_without_checkpoints_begins_anew_and_so_do_all(party, tmp_path):
    fitted(tmp_path)
    for path in files(tmp_path, party):
        damage(path)
    left = tmp_path / party / checkpoint.FOLDER / ".new.safetensors.123.part"
    left.write_bytes(b"half")
    found, said = fitted(tmp_path)
    assert said == []
    assert found == fitted(None)[0]
    assert not left.exists()


def test_checkpoints_of_two_runs_do_not_go_together(tmp_path):
    for name in ("one", "other"):
        fitted(tmp_path / name)
    for path in files(tmp_path / "one", "bob"):
        path.unlink()
    for path in files(tmp_path / "other", "bob"):
        path.rename(tmp_path / "one" / "bob" / checkpoint.FOLDER / path.name)
    assert fitted(tmp_path / "one")[1] == []


def test_nothing_of_the_transfers_or_masks_is_on_disk(tmp_path):
    """The fields by name: trees, scores and cuts, and no key."""
    fitted(tmp_path)
    names = {party: set(load_file(files(tmp_path, party)[-1])) for party in PARTS}
    assert names["alice"] == {
        *("sizes", "nodes", "values", "scores", "losses", "valid_losses"),
        *("own_cuts", "cuts"),
    }
    assert names["bob"] == names["carol"] == {"made", "cuts"}


def test_a_disk_that_is_full_is_told(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.Path, "write_bytes", full)
    with pytest.raises(StorageError, match="no space left"):
        fitted(tmp_path)


def test_one_that_cannot_be_read_any_more_is_told(tmp_path, monkeypatch):
    fitted(tmp_path)
    points = checkpoint.Checkpoints.points

    def lose(self):
        found = points(self)
        for path in self._files():
            damage(path)
        return found

    monkeypatch.setattr(checkpoint.Checkpoints, "points", lose)
    with pytest.raises(StorageError, match="was there a moment ago"):
        fitted(tmp_path)


@pytest.mark.parametrize(
    ("me", "topic", "name", "value"),
    [
        ("bob", "trees.columns", "resumable", None),
        ("bob", "trees.columns", "resumable", [[1, "x"]]),
        ("bob", "trees.columns", "resumable", [[1, "0" * 16]] * 101),
        ("bob", "trees.columns", "resumable", [[-1, "0" * 16]]),
        ("bob", "trees.columns", "resumable", [[True, "0" * 16]]),
        ("bob", "trees.columns", "rho", -1.0),
        ("bob", "trees.columns", "rho", 0),
        ("bob", "trees.columns", "rho", None),
        ("alice", "trees.begin", "from", [3, "0" * 16]),
        ("alice", "trees.begin", "from", [0, "../../file"]),
        ("alice", "trees.begin", "from", None),
        ("alice", "trees.tree", "keep", 0),
        ("alice", "trees.tree", "keep", "x"),
    ],
)
def test_what_cannot_be_is_refused(me, topic, name, value, tmp_path):
    errors = {}

    def lying(session):
        if session.me != me:
            return
        link = session.links["bob" if me == "alice" else "alice"]
        send = link.send

        def lie(said, tensors=None, header=None):
            header = dict(header or {})
            if said == topic and (name != "keep" or "keep" in header):
                heading(name, value)({}, header)
            send(said, tensors, header)

        link.send = lie

    def program(session):
        lying(session)
        try:
            own = TABLE.select(PARTS[session.me])
            labels = Y if session.is_label_party else None
            keeping = EVERY if session.is_label_party else None
            return fit(session, own, labels, MANY, keeping=keeping)
        except BaseException as error:
            errors[session.me] = error
            raise

    with pytest.raises(IsthmusError):
        run_parties(dict.fromkeys(PARTS, program), label_party="alice", seed=5, folder=tmp_path)
    with pytest.raises(BadMessage, match=me):
        raise errors["bob" if me == "alice" else "alice"]
