"""Image ground: gradients, dealing, what servers do, and that federation helps where it should."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from isthmus.cli.main import app
from isthmus.errors import DataError, JobError
from isthmus.fedrec.images import METHODS, Images, Settings, deal, load, run
from isthmus.fedrec.images.convolutions import Convolutions
from isthmus.fedrec.images.networks import Dense, Mixture, Plain
from isthmus.fedrec.images.running import _Run, averaged


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def made_up(count=240, classes=4, inputs=6):
    rng = generator(5)
    y = np.arange(count) % classes
    return Images("made-up", rng.normal(size=(count, inputs)) + 2 * np.eye(classes, inputs)[y], y)


def slopes(network, rows, x, y, places, step=1e-6):
    for place in places:
        more, less = rows.copy(), rows.copy()
        more[:, place] += step
        less[:, place] -= step
        yield (network.gradient(more, x, y)[0] - network.gradient(less, x, y)[0]) / (2 * step)


@pytest.mark.parametrize("network", [Plain(Dense((5,), 4), 3), Mixture(Dense((5,), 4), 3, gate=2)])
def test_gradients(network):
    rng = generator(1)
    rows = np.stack([network.initial(rng) for _ in range(2)]) + 0.1 * rng.normal(
        size=(2, network.size)
    )
    x, y = rng.normal(size=(2, 7, 5)), rng.integers(0, 3, (2, 7))
    _, found = network.gradient(rows, x, y)
    expected = np.stack(list(slopes(network, rows, x, y, range(network.size))), axis=1)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", [Plain, Mixture])
def test_gradients_of_convolutions(kind):
    # 17 x 19: the first pooling leaves a row out, the second a column.
    network, rng = kind(Convolutions((17, 19, 2), 4, filters=(2, 3)), 3), generator(7)
    rows = np.stack([network.initial(rng) for _ in range(2)]) + 0.1 * rng.normal(
        size=(2, network.size)
    )
    x, y = rng.normal(size=(2, 3, 17 * 19 * 2)), rng.integers(0, 3, (2, 3))
    _, found = network.gradient(rows, x, y)
    places = rng.permutation(network.size)[:150]
    expected = np.stack(list(slopes(network, rows, x, y, places, 1e-5)), axis=1)
    assert found[:, places] == pytest.approx(expected, abs=1e-6)
    assert np.count_nonzero(expected) > 100


def test_a_convolution_by_hand():
    network = Convolutions((16, 16, 1), 1, filters=(1, 1))
    rng = generator(3)
    image, a, c = rng.normal(size=(16, 16)), rng.normal(size=(5, 5)), rng.normal(size=(5, 5))

    def layer(pixels, weight):
        side = len(pixels) - 4
        out = np.array(
            [
                [(pixels[i : i + 5, j : j + 5] * weight).sum() for j in range(side)]
                for i in range(side)
            ]
        )
        return np.maximum(out.reshape(side // 2, 2, side // 2, 2).max(axis=(1, 3)), 0)

    parts = [a.reshape(25, 1), np.zeros(1), c.reshape(25, 1), np.zeros(1), np.ones((1, 1)), [2.0]]
    found, _ = network.apply([np.asarray(one)[None] for one in parts], image.reshape(1, 1, 256))
    assert found[0, 0, 0] == pytest.approx(layer(layer(image, a), c)[0, 0] + 2)
    with pytest.raises(JobError, match="15 x 16 are too small"):
        Convolutions((15, 16, 1), 1)


def test_clients_do_not_touch_each_other():
    network, rng = Mixture(Dense((5,), 4), 3), generator(2)
    rows = np.stack([network.initial(rng) for _ in range(3)])
    x, y = rng.normal(size=(3, 6, 5)), rng.integers(0, 3, (3, 6))
    whole = network.gradient(rows, x, y)[1]
    alone = network.gradient(rows[1:2], x[1:2], y[1:2])[1]
    assert np.allclose(whole[1], alone[0])


@pytest.mark.parametrize(("skew", "strength"), [("dirichlet", 0.3), ("shards", 2)])
def test_every_image_is_dealt_once(skew, strength):
    images = made_up()
    found = deal(images, 6, skew, strength, generator())
    parts = [*found.train, *found.valid, *found.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(240))
    assert found.weights.sum() == pytest.approx(1)
    if skew == "shards":
        assert max(len(np.unique(images.y[one])) for one in found.train) <= 4
    again = deal(images, 6, skew, strength, generator())
    assert all(np.array_equal(a, b) for a, b in zip(found.train, again.train, strict=True))


def test_a_small_strength_skews_more():
    images = made_up()

    def largest(strength):
        found = deal(images, 4, "dirichlet", strength, generator())
        shares = [np.bincount(images.y[one], minlength=4) / len(one) for one in found.train]
        return np.mean([one.max() for one in shares])

    assert largest(0.2) > largest(100) + 0.1


def test_the_mean_by_hand():
    assert averaged(np.array([[1.0, 2.0], [5.0, 0.0]]), np.array([0.25, 0.75])).tolist() == [4, 0.5]


def after_a_round(method, **more):
    images = made_up()
    clients = deal(images, 4, "dirichlet", 1.0, generator())
    one = _Run(images, clients, method, Settings(steps=3, batch=8, width=5, **more), 0)
    one.round(1)
    return one


def test_what_each_method_shares():
    alone = after_a_round("local-only").rows
    mean = after_a_round("fedavg")
    assert np.allclose(mean.rows, mean.clients.weights @ alone)
    mixed = after_a_round("pfedmoe")
    shared = mixed.network.shared
    assert shared == 6 * 5 + 5
    assert (mixed.rows[:, :shared] == mixed.rows[0, :shared]).all()
    assert not np.allclose(mixed.rows[0, shared:], mixed.rows[1, shared:])
    # All begin alike, so the first mixture is what it is made of.
    assert np.allclose(after_a_round("da-pfl", pull=0).rows, alone)


def test_da_pfl_mixes_by_its_weights():
    one = after_a_round("da-pfl", pull=0.0, own_weight=0.25)
    before = one.rows.copy()
    kept: list[np.ndarray] = []
    one._train = lambda begin, pull, number: kept.append(begin) or begin
    one.round(2)
    from isthmus.fedrec.algorithms import da_pfl

    xi = da_pfl.mixture(one.affinity, before.astype(np.float32), da_pfl.Settings(own_weight=0.25))
    assert np.allclose(np.diag(xi), 0.25)
    assert np.allclose(xi.sum(1), 1)
    assert np.allclose(kept[0], xi @ before)


def test_fedprox_moves_less():
    def moved(mu):
        one = after_a_round("fedprox", mu=mu, rate=0.05)
        start = one.network.initial(np.random.default_rng(0))
        fresh = _Run(one.images, one.clients, "fedprox", one.settings, 0).rows
        assert start.shape == fresh[0].shape
        return np.linalg.norm(one.rows - fresh)

    assert moved(5.0) < moved(0.0)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_and_follows_from_its_seed(method):
    images = made_up()
    clients = deal(images, 4, "dirichlet", 1.0, generator())
    settings = Settings(rounds=8, steps=5, batch=16, width=8)
    found = run(images, clients, method, settings)
    assert found.accuracy > 0.5
    assert found.to_json() == run(images, clients, method, settings).to_json()
    assert found.valid[found.chosen - 1] == max(found.valid)
    assert (found.up == 0) == (method == "local-only")


def test_digits_and_files(tmp_path):
    digits = load("digits")
    assert digits.x.shape == (1797, 64)
    assert digits.classes == 10
    path = tmp_path / "own.npz"
    np.savez(path, x=np.arange(24, dtype=np.uint8).reshape(6, 2, 2), y=np.arange(6) % 3)
    assert load(str(path)).x.shape == (6, 4)
    np.savez(path, x=np.zeros((3, 2)), y=np.zeros(3))
    with pytest.raises(DataError, match="classes from 0"):
        load(str(path))
    np.savez(path, pictures=np.zeros(3))
    with pytest.raises(DataError, match="arrays x and y"):
        load(str(path))
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="arrays x and y"):
        load(str(path))
    with pytest.raises(DataError, match="neither"):
        load(str(tmp_path / "none.npz"))


def test_what_does_not_fit_is_refused():
    images = made_up(count=20)
    with pytest.raises(JobError, match="fewer than 5"):
        deal(images, 10, "dirichlet", 0.1, generator())
    with pytest.raises(JobError, match="no skew"):
        deal(images, 2, "round", 1, generator())
    with pytest.raises(JobError, match="whole number"):
        deal(images, 2, "shards", 1.5, generator())
    with pytest.raises(JobError, match="rate"):
        Settings(rate=0)
    with pytest.raises(JobError, match="no network"):
        Settings(network="deep")
    for width in (0, -1):
        with pytest.raises(JobError, match="1 or more"):
            Settings(width=width)
    with pytest.raises(JobError, match="no method"):
        run(images, deal(images, 2, "shards", 2, generator()), "magic")


def test_the_command(tmp_path):
    out = tmp_path / "found.json"
    words = ["--algorithm", "pfedmoe", "--clients", "5", "--rounds", "2", "--out", str(out)]
    result = CliRunner().invoke(app, ["fedrec", "images", *words])
    assert result.exit_code == 0, result.output
    assert "pfedmoe" in result.output
    assert "local-only" in result.output
    assert len(json.loads(out.read_text())) == 2


def test_an_unknown_method_is_refused_before_training():
    result = CliRunner().invoke(app, ["fedrec", "images", "--algorithm", "nobody"])
    assert "no method 'nobody'" in str(result.exception)
    assert "seed 0" not in result.output


def test_shards_have_a_strength_of_their_own():
    words = ["--algorithm", "local-only", "--skew", "shards", "--clients", "5", "--rounds", "1"]
    result = CliRunner().invoke(app, ["fedrec", "images", *words])
    assert result.exit_code == 0, result.output
