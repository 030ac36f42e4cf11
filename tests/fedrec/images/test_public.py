"""Images by name: made-up public sets, samples of them, and clients that are writers."""

import io
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from isthmus.cli.main import app
from isthmus.data import image_sets, sources
from isthmus.data.catalogue import Form
from isthmus.data.sources import get
from isthmus.errors import JobError, SourceError
from isthmus.fedrec.images import Images, Settings, deal, load, run
from isthmus.fedrec.images.networks import Mixture, Plain
from isthmus.fedrec.images.running import extractor


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def learnable(count, classes, shape, seed=9):
    """Images whose class is a bright square at one of some places."""
    rng = generator(seed)
    y = np.arange(count) % classes
    x = rng.integers(0, 120, (count, *shape), dtype=np.uint8)
    for one, label in zip(x, y.tolist(), strict=True):
        at = 6 * label
        one[at % 24 : at % 24 + 6, at // 24 * 6 : at // 24 * 6 + 6] += 130
    return x, y


@pytest.fixture
def public(monkeypatch, tmp_path):
    """CIFAR-10 of 200 images and FEMNIST of 120, fetched from a folder as they are published."""
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "raw"))
    (tmp_path / "raw").mkdir()
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    reader = image_sets.Cifar(tuple(names), "test_batch.bin", {"label": 10}, 30, 50)
    x, y = learnable(200, 10, (32, 32, 3))
    planes = x.transpose(0, 3, 1, 2).reshape(200, -1)
    rows = np.column_stack([y.astype(np.uint8), planes])
    for number, name in enumerate(names):
        part = rows[30 * number : 30 * number + 30]
        (tmp_path / "raw" / name).write_bytes(part.tobytes())
    (tmp_path / "raw" / "test_batch.bin").write_bytes(rows[150:].tobytes())
    written(tmp_path / "raw" / "femnist.parquet")
    put(
        monkeypatch,
        image_sets.CIFAR_10,
        dict.fromkeys([*names, "test_batch.bin"]),
        reader,
    )
    other = image_sets.Femnist("femnist.parquet", 120)
    put(monkeypatch, image_sets.FEMNIST, {"femnist.parquet": None}, other)
    return x, y


def put(monkeypatch, data, files, reader):
    form = Form(data.name, files, reader.read)
    new = replace(data, forms=(form,), archive=None, archive_md5=None, archive_sha256=None)
    monkeypatch.setattr(sources, "IMAGE_SETS", {**sources.IMAGE_SETS, data.name: new})


def written(path):
    x, y = learnable(120, 4, (28, 28))
    files = []
    for one in x:
        content = io.BytesIO()
        Image.fromarray(one).save(content, "PNG")
        files.append({"bytes": content.getvalue(), "path": None})
    # Writers of 50, 40, 26 and, too few to be a client, 4 images.
    owners = ["w"] * 50 + ["a"] * 40 + ["z"] * 26 + ["b"] * 4
    pl.DataFrame({"image": files, "writer_id": owners, "character": y}).write_parquet(path)


def test_a_public_set_by_its_name(public):
    x, y = public
    found = load("cifar-10")
    assert found.shape == (32, 32, 3)
    assert found.classes == 10
    assert found.x.dtype == np.uint8
    assert np.array_equal(found.x, x.reshape(200, -1))
    assert np.array_equal(found.y, y)
    assert found.pixels(np.arange(200)).dtype == np.float32
    pixels = found.pixels(np.arange(200)).reshape(-1, 3).astype(np.float64)
    assert pixels.mean(axis=0) == pytest.approx(0, abs=1e-4)
    assert pixels.std(axis=0) == pytest.approx(1, abs=1e-4)


def test_a_sample_of_images(public):
    x, y = public
    found = load("cifar-10", 37, generator(1))
    assert len(found.y) == 37
    assert found.classes == 10
    places = [np.flatnonzero((x.reshape(200, -1) == one).all(axis=1)) for one in found.x]
    assert [len(one) for one in places] == [1] * 37
    assert np.array_equal(y[np.concatenate(places)], found.y)
    again = load("cifar-10", 37, generator(1))
    assert np.array_equal(again.x, found.x)
    assert not np.array_equal(load("cifar-10", 37, generator(2)).y, found.y)
    assert len(load("digits", 50, generator()).y) == 50
    with pytest.raises(JobError, match="from 1 to 200"):
        load("cifar-10", 201, generator())


def test_a_sample_of_writers_is_whole(public):
    sizes = {"a": 40, "b": 4, "w": 50, "z": 26}
    for seed in range(8):
        found = load("femnist", 41, generator(seed))
        _, counts = np.unique(found.writers, return_counts=True)
        assert set(counts.tolist()) <= set(sizes.values())
        # So many or more, and not with the last writer left out.
        assert len(found.y) >= 41
        assert len(found.y) - counts.max() < 41


def test_writers_are_clients(public):
    images = load("femnist")
    clients = deal(images, 3, "writers", 1, generator())
    owned = [
        np.concatenate(one) for one in zip(clients.train, clients.valid, clients.test, strict=True)
    ]
    assert sorted(len(one) for one in owned) == [26, 40, 50]
    for one in owned:
        assert len(np.unique(images.writers[one])) == 1
        assert len(np.unique(one)) == len(one)
    with pytest.raises(JobError, match="3 writers have 5 images or more"):
        deal(images, 4, "writers", 1, generator())
    with pytest.raises(JobError, match="have no writers"):
        deal(load("cifar-10"), 4, "writers", 1, generator())


def test_images_of_a_known_set_that_is_nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path))
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "nowhere"))
    new = replace(image_sets.CIFAR_100, archive="http://127.0.0.1:9/cifar-100-binary.tar.gz")
    monkeypatch.setattr(sources, "IMAGE_SETS", {"cifar-100": new})
    with pytest.raises(SourceError, match="isthmus data get cifar-100 --source FOLDER"):
        load("cifar-100")


def test_networks_for_images(tmp_path):
    flat = Images("flat", np.zeros((4, 300)), np.arange(4))
    with pytest.raises(JobError, match="no rows and columns"):
        extractor(flat, Settings(network="cnn"))
    with pytest.raises(JobError, match="8 x 8 are too small"):
        extractor(load("digits"), Settings(network="cnn"))
    one = extractor(
        Images("c", np.zeros((4, 3072)), np.arange(4), (32, 32, 3)), Settings(network="cnn")
    )
    dense = 5 * 5 * 32 * 128 + 128
    filters = (25 * 3 * 16 + 16) + (25 * 16 * 32 + 32)
    assert Plain(one, 10).size == filters + dense + 128 * 10 + 10
    assert Mixture(one, 10).shared == filters + dense
    path = tmp_path / "own.npz"
    for shape, known in (((16, 20), (16, 20, 1)), ((16, 20, 3), (16, 20, 3)), ((3, 16, 20), None)):
        np.savez(path, x=np.zeros((4, *shape)), y=np.arange(4))
        assert load(str(path)).shape == known


@pytest.mark.parametrize("method", ["fedavg", "pfedmoe", "da-pfl"])
def test_convolutions_learn(public, method):
    images = load("cifar-10")
    clients = deal(images, 2, "dirichlet", 5.0, generator())
    settings = Settings(rounds=3, steps=8, batch=16, width=16, network="cnn", rate=0.05)
    assert run(images, clients, method, settings).accuracy > 0.5


def invoke(*words):
    return CliRunner().invoke(app, ["fedrec", "images", "--rounds", "1", *words])


def test_the_command_by_name(public, tmp_path):
    out = tmp_path / "found.json"
    short = ("--algorithm", "local-only", "--out", str(out))
    result = invoke("--data", "cifar-10", "--take", "60", "--clients", "2", *short)
    assert result.exit_code == 0, result.output
    assert get("cifar-10").is_dir()
    assert len(json.loads(out.read_text())) == 1
    result = invoke("--data", "femnist", "--clients", "2", "--network", "dense", *short)
    assert result.exit_code == 0, result.output
    result = invoke("--data", "digits", "--skew", "writers", *short)
    assert "have no writers" in str(result.exception)
    result = invoke("--data", "cifar-11", *short)
    assert "cifar-10, cifar-100, femnist" in str(result.exception)
