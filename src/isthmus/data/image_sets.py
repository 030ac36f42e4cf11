"""The public image sets: CIFAR-10 and CIFAR-100 in their binary form, and FEMNIST with its writers.

Each becomes one table `images`: `image` (the bytes of its pixels, row by row, the channels of a
pixel side by side), `label` (from 0), and what the set has besides. Nothing of them is pickle.

Digests are published facts: of CIFAR's archives by the data sets of TensorFlow (SHA-256) and, the
MD5 of CIFAR-10's, by its authors' page; of the files in them by MXNet (SHA-1); of FEMNIST's file,
at one revision of its repository, by a study whose scripts check it.
Whatever a digest says, sizes, counts and labels are checked as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import polars as pl

from isthmus.data.catalogue import DataSet, Form, Raw, Tables
from isthmus.errors import SourceError

MOST_BYTES = 256 << 20
"""Of an archive or file; the largest, FEMNIST's, has some 200 MB."""

CIFAR_SHAPE = (32, 32, 3)
"""Rows, columns, channels."""
FEMNIST_SHAPE = (28, 28, 1)
_FEMNIST_CLASSES = 62
_FEMNIST_IMAGES = 814_277
_AT_ONCE = 20_000
"""Images to unpack at a time."""


@dataclass(frozen=True)
class Cifar:
    """CIFAR's binary form: records of some label bytes and 3072 of pixels, red, green, blue.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """

    train: tuple[str, ...]
    test: str
    labels: Mapping[str, int]
    """Name of each label byte, in the order of the file, to how many classes it tells apart."""
    records: int
    """Of each training file."""
    tests: int = 10_000

    def read(self, raw: Raw) -> Tables:
        """The table `images`; `part` says whether an image was in a training or the test file.

        Raises:
            SourceError: a file has another length, or labels that cannot be.
        """
        parts = [self._records(name, raw[name], self.records, "train") for name in self.train]
        parts.append(self._records(self.test, raw[self.test], self.tests, "test"))
        return {"images": pl.concat(parts)}

    def _records(self, name: str, content: bytes, count: int, part: str) -> pl.DataFrame:
        width = len(self.labels) + int(np.prod(CIFAR_SHAPE))
        if len(content) != count * width:
            raise SourceError(
                f"{name} has {len(content):,} bytes, not the {count * width:,} of "
                f"{count:,} records; it is cut short or another file"
            )
        rows = np.frombuffer(content, np.uint8).reshape(count, width)
        columns = dict(zip(self.labels, rows.T, strict=False))
        for what, classes in self.labels.items():
            _check_labels(name, what, columns[what], classes)
        high, wide, channels = CIFAR_SHAPE
        planes = rows[:, len(self.labels) :].reshape(count, channels, high, wide)
        return pl.DataFrame(
            {
                "image": packed(planes.transpose(0, 2, 3, 1)),
                **{what: pl.Series(one, dtype=pl.Int64) for what, one in columns.items()},
                "part": pl.repeat(part, count, eager=True),
            }
        )


def packed(images: np.ndarray) -> pl.Series:
    """Images, uint8 [N, ...], as a column of bytes."""
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    return pl.Series("image", [one.tobytes() for one in flat], pl.Binary)


def _check_labels(name: str, what: str, labels: np.ndarray, classes: int) -> None:
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise SourceError(f"{name} holds a {what} that is not in 0 to {classes - 1}")


@dataclass(frozen=True)
class Femnist:
    """FEMNIST as one Parquet file: `image` (a PNG of 28 x 28), `writer_id`, `character`."""

    name: str
    images: int = _FEMNIST_IMAGES

    def read(self, raw: Raw) -> Tables:
        """The table `images`, with the column `writer`.

        Raises:
            SourceError: Pillow is not installed; columns, number of rows or labels are others; or
                an image is no PNG of 28 x 28.
        """
        frame = self._checked(raw[self.name])
        unpack = _png()
        column = frame["image"].struct.field("bytes")
        chunks = [
            self._unpacked(column.slice(start, _AT_ONCE), unpack)
            for start in range(0, len(frame), _AT_ONCE)
        ]
        return {
            "images": pl.DataFrame(
                {
                    "image": pl.concat(chunks),
                    "label": frame["character"].cast(pl.Int64),
                    "writer": frame["writer_id"].cast(pl.String),
                }
            )
        }

    def _checked(self, content: bytes) -> pl.DataFrame:
        wanted = {"image", "writer_id", "character"}
        schema = pl.read_parquet_schema(io.BytesIO(content))
        image = schema.get("image")
        if not wanted <= set(schema) or not isinstance(image, pl.Struct):
            raise SourceError(f"{self.name} lacks a column of {', '.join(sorted(wanted))}")
        if "bytes" not in {field.name for field in image.fields}:
            raise SourceError(f"{self.name}: the column image holds no files")
        frame = pl.read_parquet(io.BytesIO(content), columns=sorted(wanted))
        if len(frame) != self.images:
            raise SourceError(f"{self.name} has {len(frame):,} rows, not {self.images:,}")
        flat = frame.select("writer_id", "character", pl.col("image").struct.field("bytes"))
        if not frame["character"].dtype.is_integer() or any(flat.null_count().row(0)):
            raise SourceError(f"{self.name}: a writer, character or image is missing")
        _check_labels(self.name, "character", frame["character"].to_numpy(), _FEMNIST_CLASSES)
        return frame

    def _unpacked(self, column: pl.Series, unpack: Callable[[bytes], bytes]) -> pl.Series:
        try:
            return pl.Series("image", [unpack(one) for one in column], pl.Binary)
        except (OSError, ValueError, SyntaxError) as error:
            # What Pillow raises on a file that is none, a broken one and a broken chunk of one.
            raise SourceError(f"{self.name} holds an image that is no PNG of 28 x 28") from error


def _png() -> Callable[[bytes], bytes]:
    """A function from a PNG to the 784 bytes of its grey pixels."""
    try:
        image = import_module("PIL.Image")
    except ImportError as error:
        raise SourceError(
            "FEMNIST's images are PNG, and Pillow, which reads them, is not installed",
            mend="Run `pip install 'isthmus[fedrec]'`.",
        ) from error

    def unpack(content: bytes) -> bytes:
        try:
            with image.open(io.BytesIO(content), formats=["PNG"]) as one:
                if one.size != FEMNIST_SHAPE[:2]:
                    raise ValueError("another size")
                pixels: bytes = one.convert("L").tobytes()
                return pixels
        except (image.DecompressionBombError, image.DecompressionBombWarning) as error:
            # Neither is an error of a file to Python.
            raise ValueError("another size") from error

    return unpack


_CIFAR = "https://www.cs.toronto.edu/~kriz"
_BATCHES = (
    "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "26e2849e66a845b7f1e4614ae70f4889ae604628",
)


def _batches() -> Sequence[str]:
    return [f"data_batch_{number}.bin" for number in range(1, 6)]


CIFAR_10 = DataSet(
    name="cifar-10",
    forms=(
        Form(
            "CIFAR-10, binary version",
            {
                **dict(zip(_batches(), _BATCHES, strict=True)),
                "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
            },
            Cifar(tuple(_batches()), "test_batch.bin", {"label": 10}, 10_000).read,
        ),
    ),
    content={},
    archive=f"{_CIFAR}/cifar-10-binary.tar.gz",
    archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
    archive_sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    most_bytes=MOST_BYTES,
)

CIFAR_100 = DataSet(
    name="cifar-100",
    forms=(
        Form(
            "CIFAR-100, binary version",
            {
                "train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
                "test.bin": "8fb6623e830365ff53cf14adec797474f5478006",
            },
            Cifar(("train.bin",), "test.bin", {"coarse": 20, "label": 100}, 50_000).read,
        ),
    ),
    content={},
    archive=f"{_CIFAR}/cifar-100-binary.tar.gz",
    archive_md5="03b5dce01913d631647c71ecec9e9cb8",
    archive_sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    most_bytes=MOST_BYTES,
)

_FEMNIST = "train-00000-of-00001.parquet"
FEMNIST = DataSet(
    name="femnist",
    forms=(
        Form(
            "FEMNIST of flwrlabs, revision df739a2b",
            {_FEMNIST: "cdb389c8d41d5facab79a4a8d452724c30d9c629a1c1e0b1e9ae9de2c633522b"},
            Femnist(_FEMNIST).read,
        ),
        Form(
            "FEMNIST, another Parquet file",
            {"femnist.parquet": None},
            Femnist("femnist.parquet").read,
        ),
    ),
    content={},
    archive=(
        "https://huggingface.co/datasets/flwrlabs/femnist/resolve/"
        f"df739a2b09df2b5cc1ec93107659b9a9a8566487/data/{_FEMNIST}"
    ),
    most_bytes=MOST_BYTES,
    limits={
        "FEMNIST, another Parquet file": "no checksum is known of this file: its columns, the "
        "number of its rows, its labels and the size of its images were checked"
    },
)

IMAGE_SETS: Mapping[str, DataSet] = {data.name: data for data in (CIFAR_10, CIFAR_100, FEMNIST)}
SHAPES = {"cifar-10": CIFAR_SHAPE, "cifar-100": CIFAR_SHAPE, "femnist": FEMNIST_SHAPE}
"""Of one image: rows, columns, channels."""
