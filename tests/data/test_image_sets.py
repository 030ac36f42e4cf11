"""Image sets: files of the published formats, made up, and bad ones."""

import gzip
import io
import struct
import tarfile
import zlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from isthmus.data.catalogue import Form
from isthmus.data.image_sets import CIFAR_10, CIFAR_100, FEMNIST, IMAGE_SETS, Cifar, Femnist
from isthmus.data.sources import get, load_tables
from isthmus.errors import SourceError

PIXELS = 32 * 32 * 3


@pytest.fixture(autouse=True)
def _own_places(monkeypatch, tmp_path):
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))


def records(rng, count, *classes):
    labels = [rng.integers(0, most, count, dtype=np.uint8) for most in classes]
    pixels = rng.integers(0, 256, (count, PIXELS), dtype=np.uint8)
    return np.column_stack([*labels, pixels])


@pytest.fixture
def small(monkeypatch):
    """The data sets with few records, and files whose digests are not known."""

    def put(data, *readers):
        forms = [
            Form(old.name, dict.fromkeys(old.files), reader.read)
            for old, reader in zip(data.forms, readers, strict=True)
        ]
        new = replace(data, forms=tuple(forms), archive_md5=None, archive_sha256=None)
        monkeypatch.setattr("isthmus.data.sources.IMAGE_SETS", {data.name: new})

    return put


BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEN = Cifar(BATCHES, "test_batch.bin", {"label": 10}, 4, 3)
HUNDRED = Cifar(("train.bin",), "test.bin", {"coarse": 20, "label": 100}, 6, 3)


def cifar_10(rng, folder):
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: records(rng, 4, 10) for name in BATCHES}
    made["test_batch.bin"] = records(rng, 3, 10)
    for name, rows in made.items():
        (folder / name).write_bytes(rows.tobytes())
    return np.concatenate(list(made.values()))


def test_cifar_10_from_a_folder(small, tmp_path):
    small(CIFAR_10, TEN)
    rows = cifar_10(np.random.default_rng(1), tmp_path / "raw" / "cifar-10-batches-bin")
    table = load_tables(get("cifar-10", source=tmp_path / "raw"))["images"]
    assert table.columns == ["image", "label", "part"]
    assert table["label"].to_list() == rows[:, 0].tolist()
    assert table["part"].to_list() == ["train"] * 20 + ["test"] * 3
    image = np.frombuffer(table["image"][7], np.uint8).reshape(32, 32, 3)
    # The first 1024 bytes of a record are red, row by row.
    assert image[0, 1, 0] == rows[7, 1 + 1]
    assert image[2, 0, 1] == rows[7, 1 + 1024 + 64]
    assert image[31, 31, 2] == rows[7, -1]


@pytest.mark.parametrize("what", ["archive", "folder with it"])
def test_cifar_100_from_its_archive(small, tmp_path, what):
    small(CIFAR_100, HUNDRED)
    rng = np.random.default_rng(2)
    made = {"train.bin": records(rng, 6, 20, 100), "test.bin": records(rng, 3, 20, 100)}
    path = tmp_path / "cifar-100-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, rows in {"fine_label_names.txt": rng.bytes(9), **made}.items():
            content = bytes(rows)
            info = tarfile.TarInfo(f"cifar-100-binary/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    table = load_tables(get("cifar-100", source=path if what == "archive" else tmp_path))["images"]
    rows = np.concatenate(list(made.values()))
    assert table["coarse"].to_list() == rows[:, 0].tolist()
    assert table["label"].to_list() == rows[:, 1].tolist()
    assert sorted(table["image"][8]) == sorted(rows[8, 2:].tobytes())
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(SourceError, match="archive is broken"):
        get("cifar-100", source=path)


def test_a_cifar_file_that_is_cut_short(small, tmp_path):
    small(CIFAR_10, TEN)
    cifar_10(np.random.default_rng(1), tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match=r"data_batch_3\.bin has 12,291 bytes, not the 12,292"):
        get("cifar-10", source=tmp_path)


@pytest.mark.parametrize(("place", "value", "what"), [(0, 20, "coarse"), (1, 100, "label")])
def test_a_cifar_label_that_cannot_be(place, value, what):
    rows = records(np.random.default_rng(3), 6, 20, 100)
    test = rows[:3].tobytes()
    rows[4, place] = value
    with pytest.raises(SourceError, match=rf"train\.bin holds a {what} that is not in 0 to"):
        HUNDRED.read({"train.bin": rows.tobytes(), "test.bin": test})


@pytest.mark.parametrize("name", sorted(IMAGE_SETS))
def test_files_of_another_checksum_are_refused(tmp_path, name):
    data = IMAGE_SETS[name]
    for file in data.forms[0].files:
        (tmp_path / file).write_bytes(b"of the right name")
    with pytest.raises(SourceError, match="is not the published file: its checksum differs"):
        get(name, source=tmp_path)


@pytest.mark.parametrize("data", [CIFAR_10, CIFAR_100], ids=lambda data: data.name)
def test_an_archive_of_another_checksum_is_refused(tmp_path, data):
    path = tmp_path / data.archive.rsplit("/", 1)[-1]
    path.write_bytes(b"\x1f\x8b of the right name")
    for source in (path, tmp_path):
        with pytest.raises(SourceError, match=r"archive of cifar-10.* is not the published one"):
            get(data.name, source=source)


def test_a_folder_without_cifar_says_where_it_comes_from(tmp_path):
    with pytest.raises(SourceError, match=r"data_batch_1\.bin.*cifar-10-binary\.tar\.gz"):
        get("cifar-10", source=tmp_path)


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def femnist(pixels, labels, writers, **columns):
    frame = pl.DataFrame(
        {
            "image": [{"bytes": png(one), "path": None} for one in pixels],
            "writer_id": writers,
            "hsf_id": [0] * len(pixels),
            "character": labels,
        },
        schema_overrides={"image": pl.Struct({"bytes": pl.Binary, "path": pl.String})},
    ).with_columns(**columns)
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(4).integers(0, 256, (4, 28, 28), dtype=np.uint8)


LABELS, WRITERS = [0, 61, 10, 10], ["f0000_14", "f0000_14", "f0001_41", "f0000_14"]
OTHER = FEMNIST.forms[1].name


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "femnist.parquet"])
def test_femnist_keeps_its_writers(small, tmp_path, pixels, name):
    small(FEMNIST, *(Femnist(one, 4) for form in FEMNIST.forms for one in form.files))
    (tmp_path / name).write_bytes(femnist(pixels, LABELS, WRITERS))
    for source in (tmp_path, tmp_path / name):
        folder = get("femnist", source=source)
        table = load_tables(folder)["images"]
        assert table["label"].to_list() == LABELS
        assert table["writer"].to_list() == WRITERS
        assert b"".join(table["image"]) == pixels.tobytes()
    # What was not checked against a known checksum is told.
    assert ("no checksum is known" in (folder / "source.json").read_text()) == (
        name == "femnist.parquet"
    )


def broken(pixels, labels=LABELS, writers=WRITERS, **columns):
    return femnist(pixels, labels, writers, **columns)


def huge(side):
    """A PNG that says that it is large."""
    size = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(b"x")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda p: broken(p, labels=[0, 1, 62, 3]), "character that is not in 0 to 61"),
        (lambda p: broken(p, labels=[0, 1, -1, 3]), "character that is not in 0 to 61"),
        (lambda p: broken(p, labels=[0, 1, None, 3]), "is missing"),
        (lambda p: broken(p, writers=["a", "b", None, "c"]), "is missing"),
        (lambda p: broken(p, labels=["a", "b", "c", "d"]), "is missing"),
        (lambda p: broken(p[:3], LABELS[:3], WRITERS[:3]), "has 3 rows, not 4"),
        (lambda p: broken(p[:, :27]), "no PNG of 28 x 28"),
        (lambda p: broken(p, image=pl.lit(b"none")), "lacks a column"),
        (lambda p: broken(p, image=pl.struct(bytes=pl.lit(png(p[0])[:60]))), "no PNG"),
        (lambda p: broken(p, image=pl.struct(bytes=pl.lit(b"\xff\xd8\xff\xe0"))), "no PNG"),
        (lambda p: broken(p, image=pl.struct(bytes=pl.lit(huge(65535)))), "no PNG"),
        (lambda p: broken(p, image=pl.struct(bytes=pl.lit(huge(10000)))), "no PNG"),
        (lambda p: broken(p, image=pl.struct(path=pl.lit("a.png"))), "holds no files"),
        (lambda p: broken(p)[:-20], "malformed"),
    ],
)
def test_bad_femnist_files(small, tmp_path, pixels, made, message):
    small(FEMNIST, *(Femnist(one, 4) for form in FEMNIST.forms for one in form.files))
    (tmp_path / "femnist.parquet").write_bytes(made(pixels))
    with pytest.raises(SourceError, match=message):
        get("femnist", source=tmp_path)


def test_femnist_without_pillow_says_how_to_get_it(monkeypatch, pixels):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(SourceError, match=r"isthmus\[fedrec\]"):
        Femnist("a.parquet", 4).read({"a.parquet": femnist(pixels, LABELS, WRITERS)})


def test_no_image_set_is_read_past_its_limit(small, tmp_path, monkeypatch):
    small(CIFAR_10, TEN)
    cifar_10(np.random.default_rng(1), tmp_path)
    monkeypatch.setattr("isthmus.data.sources.MOST_BYTES", 10)
    assert load_tables(get("cifar-10", source=tmp_path))["images"].height == 23
    (tmp_path / "test_batch.bin").write_bytes(bytes(300))
    monkeypatch.setattr(
        "isthmus.data.sources.IMAGE_SETS", {"cifar-10": replace(CIFAR_10, most_bytes=200)}
    )
    with pytest.raises(SourceError, match="too large to be the published file"):
        get("cifar-10", source=tmp_path)


@pytest.mark.parametrize("what", ["header", "member"])
def test_an_archive_that_unpacks_to_more_is_not_read_on(tmp_path, monkeypatch, what):
    """A name's own header (pax) is read whole, however long it says that it is."""
    monkeypatch.setattr(
        "isthmus.data.sources.IMAGE_SETS", {"femnist": replace(FEMNIST, most_bytes=1 << 20)}
    )
    info = tarfile.TarInfo("label.txt")
    info.type, info.size = (b"x" if what == "header" else b"0"), 8 << 20
    path, seen = tmp_path / "femnist.tar.gz", []
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(info.size))
    assert path.stat().st_size < 1 << 20
    real = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda self, size=-1: seen.append(real(self, size)) or seen[-1]
    )
    with pytest.raises(SourceError, match="unpacks to more than the published files"):
        get("femnist", source=path)
    assert sum(map(len, seen)) < 2 << 20
