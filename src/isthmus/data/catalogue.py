"""The public data sets we know: their raw forms, their checksums, and one canonical form each.

Canonical tables: `ratings` (UserID, MovieID, Rating, Timestamp), `users` (UserID, Gender, Age,
Occupation, Zip-code), `movies` (MovieID, Title with its year, Genres separated by `|`). A raw file
is checked against its known SHA-256 and, whatever the raw form, so is the canonical content.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from isthmus.errors import SourceError

Tables = dict[str, pl.DataFrame]
Raw = Mapping[str, bytes]
Bundle = Callable[[str], bytes | None]
"""Gives the content of a raw file by its name, from a folder or an archive; None if not there."""

USER_COLUMNS = ["UserID", "Gender", "Age", "Occupation", "Zip-code"]


@dataclass(frozen=True)
class Form:
    """One raw form of a data set."""

    name: str
    files: Mapping[str, str | None]
    """File name to the digest of its uncompressed content, SHA-256 or, where no other is published,
    SHA-1; None if only the archive's is known."""
    read: Callable[[Raw], Tables]


@dataclass(frozen=True)
class DataSet:
    """A public data set."""

    name: str
    forms: tuple[Form, ...]
    content: Mapping[str, tuple[tuple[str, ...], str]]
    """Table to the columns that every form has and the SHA-256 of their content."""
    archive: str | None = None
    """Official address of the archive (zip or tar.gz), or of the one raw file itself."""
    archive_md5: str | None = None
    """Checksum that the publisher gives for the archive."""
    archive_sha256: str | None = None
    folder: str | None = None
    """The folder that the archive unpacks to."""
    most_bytes: int | None = None
    """No archive or raw file of this data set is larger; None for the usual limit."""
    wheel: str | None = None
    """A pinned package of the Python registry that carries one of the forms."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """What a form lacks, in words, by form name."""

    def read(self, bundle: Bundle, *, verified: bool = False) -> tuple[Form, Tables]:
        """The canonical tables from the first raw form that `bundle` holds whole.

        `verified` says that the archive's own checksum was right, which vouches for its content.

        Raises:
            SourceError: no form is whole, or a checksum is wrong.
        """
        for form in self.forms:
            raw = {name: content for name in form.files if (content := bundle(name)) is not None}
            if len(raw) < len(form.files):
                continue
            for name, digest in form.files.items():
                if digest is not None and _digest(raw[name], digest) != digest:
                    raise SourceError(f"{name} is not the published file: its checksum differs")
            return form, self._checked(form, raw, {} if verified else self.content)
        wanted = " or ".join(", ".join(form.files) for form in self.forms)
        raise SourceError(
            f"there is neither {wanted}" if " or " in wanted else f"no {wanted}",
            mend=f"They come from {self.archive}." if self.archive else "",
        )

    def _checked(
        self, form: Form, raw: Raw, content: Mapping[str, tuple[tuple[str, ...], str]]
    ) -> Tables:
        try:
            tables = form.read(raw)
            wrong = [
                name
                for name, (columns, digest) in content.items()
                if content_digest(tables[name].select(columns)) != digest
            ]
        except (pl.exceptions.PolarsError, UnicodeError) as error:
            raise SourceError(f"the files of {form.name} are malformed") from error
        if wrong:
            raise SourceError(f"the content of {', '.join(wrong)} is not the published one")
        return tables


def _digest(content: bytes, like: str) -> str:
    """By the function that gives digests of this length."""
    return hashlib.new({40: "sha1", 64: "sha256"}[len(like)], content).hexdigest()


def content_digest(frame: pl.DataFrame) -> str:
    """SHA-256 of all rows as text, sorted, so that neither file form nor row order matters."""
    rows = frame.select(
        pl.concat_str(pl.all().cast(pl.String).fill_null(""), separator="\x1f").alias("row")
    )["row"].sort()
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _csv(content: bytes, names: list[str], separator: str = "\t", skip: int = 0) -> pl.DataFrame:
    """Columns `names`, all as text, nothing quoted; the first `skip` lines are a header."""
    frame = pl.read_csv(
        io.BytesIO(content),
        has_header=False,
        skip_rows=skip,
        new_columns=names,
        separator=separator,
        quote_char=None,
        infer_schema=False,
    )
    return frame.select(names)


def _double_colon(content: bytes, names: list[str]) -> pl.DataFrame:
    return _csv(_utf8(content).replace(b"::", b"\t"), names)


def _utf8(content: bytes) -> bytes:
    """The published files are in Latin-1, many copies of them in UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1").encode()
    return content


def _tables(ratings: pl.DataFrame, users: pl.DataFrame, movies: pl.DataFrame) -> Tables:
    ids = pl.col("^(UserID|MovieID|Rating|Timestamp|Position|Age)$").cast(pl.Int64)
    return {
        "ratings": ratings.with_columns(ids),
        "users": users.select(USER_COLUMNS).with_columns(ids),
        "movies": movies.select(
            "MovieID", pl.col("Title").str.strip_chars(), "Genres"
        ).with_columns(ids),
    }


_RATINGS = ["UserID", "MovieID", "Rating", "Timestamp"]
_USERS_100K = ["UserID", "Age", "Gender", "Occupation", "Zip-code"]
_GENRES_100K = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
]


def _ml_100k_published(raw: Raw) -> Tables:
    movies = ["MovieID", "Title", "date", "video", "url", *_GENRES_100K]
    items = _csv(_utf8(raw["u.item"]), movies, "|")
    flags = [
        pl.when(pl.col(genre) == "1").then(pl.lit(genre)).otherwise(None) for genre in _GENRES_100K
    ]
    return _tables(
        _csv(raw["u.data"], _RATINGS),
        _csv(raw["u.user"], _USERS_100K, "|"),
        items.with_columns(Genres=pl.concat_str(flags, separator="|", ignore_nulls=True)),
    )


def _ml_100k_atomic(raw: Raw) -> Tables:
    items = _csv(raw["ml-100k.item"], ["MovieID", "Name", "Year", "Genres"], skip=1)
    # The film that is called "unknown" has no year, and this form misspells it.
    nameless = pl.col("Year") == "unkonwn"
    title = (
        pl.when(nameless)
        .then(pl.lit("unknown"))
        .otherwise(pl.concat_str("Name", pl.lit(" ("), "Year", pl.lit(")")))
    )
    return _tables(
        _csv(raw["ml-100k.inter"], _RATINGS, skip=1),
        _csv(raw["ml-100k.user"], _USERS_100K, skip=1),
        items.with_columns(Title=title, Genres=pl.col("Genres").str.replace_all(" ", "|")),
    )


def _ml_1m_people(raw: Raw) -> tuple[pl.DataFrame, pl.DataFrame]:
    users = _double_colon(raw["users.dat"], USER_COLUMNS)
    return users, _double_colon(raw["movies.dat"], ["MovieID", "Title", "Genres"])


def _ml_1m_published(raw: Raw) -> Tables:
    return _tables(_double_colon(raw["ratings.dat"], _RATINGS), *_ml_1m_people(raw))


def _ml_1m_positions(raw: Raw) -> Tables:
    columns = ["UserID", "MovieID", "Rating", "Position", "Timestamp"]
    ratings = _csv(raw["ratings.csv"], columns, ",", skip=1)
    return _tables(ratings.select(*_RATINGS, "Position"), *_ml_1m_people(raw))


def _filmtrust(name: str) -> Callable[[Raw], Tables]:
    def read(raw: Raw) -> Tables:
        ratings = _csv(raw[name].replace(b"\r\n", b"\n"), ["UserID", "MovieID", "Rating"], " ")
        return {
            "ratings": ratings.with_columns(
                pl.col("UserID", "MovieID").cast(pl.Int64), pl.col("Rating").cast(pl.Float64)
            )
        }

    return read


def _microlens(name: str) -> Callable[[Raw], Tables]:
    def read(raw: Raw) -> Tables:
        lists = _csv(raw[name], ["UserID", "items"]).with_columns(
            pl.col("items").str.split(" "), pl.col("UserID").cast(pl.Int64)
        )
        ratings = lists.explode("items").select(
            "UserID",
            pl.col("items").cast(pl.Int64).alias("MovieID"),
            pl.int_range(pl.len()).over("UserID").alias("Position"),
        )
        return {"ratings": ratings}

    return read


_USERS_1M = "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"
_MOVIES_1M = "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"

ML_100K = DataSet(
    name="ml-100k",
    forms=(
        Form(
            "MovieLens 100K as published",
            {
                "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
                "u.item": None,
            },
            _ml_100k_published,
        ),
        Form(
            "MovieLens 100K as atomic files",
            {
                "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
                "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            },
            _ml_100k_atomic,
        ),
    ),
    content={
        "ratings": (
            tuple(_RATINGS),
            "4616e1d9682bd8f4f52d6c21afc478a4c8117a87cefe0f8a1bcd26eade440f49",
        ),
        "users": (
            tuple(USER_COLUMNS),
            "c13cb94e1f4b10a84be193535791bb029c81293e75989d615f56bd4ac6cd3bab",
        ),
        "movies": (
            ("MovieID", "Title", "Genres"),
            "b4828596f54dc8101d4bf1ead9dafe24a949baa036f77e4de2f36b6e98cbf23c",
        ),
    },
    archive="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    archive_md5="0e33842e24a9c977be4e0107933c0723",
    wheel="recbole==1.2.1",
)

ML_1M = DataSet(
    name="ml-1m",
    forms=(
        Form(
            "MovieLens 1M as published",
            {"ratings.dat": None, "users.dat": _USERS_1M, "movies.dat": _MOVIES_1M},
            _ml_1m_published,
        ),
        Form(
            "MovieLens 1M with positions",
            {
                "ratings.csv": "2a3f7721c9902762c3672b72c05fd756a0eb36c4f40242f3da88a954c7370119",
                "users.dat": _USERS_1M,
                "movies.dat": _MOVIES_1M,
            },
            _ml_1m_positions,
        ),
    ),
    content={
        "ratings": (
            ("UserID", "MovieID", "Rating"),
            "cad0d2bb103d72b0b73cc89ce4090255ad29df2b8598774c750ffc019db3ad88",
        ),
        "users": (
            tuple(USER_COLUMNS),
            "85ad038f7763efca00b40de5ce5af463d35fbd99a21681e93b789636ed04ae63",
        ),
        "movies": (
            ("MovieID", "Title", "Genres"),
            "bd403cae6b9fea78e4c805650830da2187d67c480d98563b8c98a5d7d99101ee",
        ),
    },
    archive="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    archive_md5="c4d9eecfca2ab87c1945afe126590906",
    limits={
        "MovieLens 1M with positions": "half of the timestamps are missing; Position, 0, 1, 2, ... "
        "within a user and oldest first, replaces them"
    },
)

FILMTRUST = DataSet(
    name="filmtrust",
    forms=tuple(
        Form(
            f"FilmTrust, {name}",
            {name: digest},
            _filmtrust(name),
        )
        for name, digest in (
            (
                "ratings.dat",
                "241167424e24d588e8871d68641e94ead98d5b3a4f0db01ef3181a74ad35e7a1",
            ),
            ("ratings.txt", None),
        )
    ),
    content={
        "ratings": (
            ("UserID", "MovieID", "Rating"),
            "486394fc0fc942fbf52f41cb27ce52705bf8ecd5db60a4465efb2cda341c5d8e",
        )
    },
    archive="https://guoguibing.github.io/librec/datasets/filmtrust.zip",
)

_MICROLENS_PAIRS = "46be22f478aa891b9c2a4b357c1df2ac2478793a99d58d07336e6277b6bf426d"
MICROLENS_50K = DataSet(
    name="microlens-50k",
    forms=tuple(
        Form(f"MicroLens-50k, {name}", {name: _MICROLENS_PAIRS}, _microlens(name))
        for name in ("pairs.tsv", "MicroLens-50k_pairs.tsv")
    ),
    content={
        "ratings": (
            ("UserID", "MovieID", "Position"),
            "c840f0ec9616a32b3dab00737daff10ea965440aab9a8ae68dc6e50ab90f51ff",
        )
    },
)

CATALOGUE: Mapping[str, DataSet] = {
    data.name: data for data in (ML_100K, ML_1M, FILMTRUST, MICROLENS_50K)
}
