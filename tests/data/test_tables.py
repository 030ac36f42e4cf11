import gzip
import re

import polars as pl
import pytest

from isthmus.data import load_table, read_table, write_table
from isthmus.errors import DataError, SchemaError, StorageError

FRAME = pl.DataFrame({"ID": [1, 2], "name": ["a", "ü"], "x": [0.5, None]})


def write(path, suffix):
    match suffix:
        case ".csv":
            FRAME.write_csv(path)
        case ".tsv":
            FRAME.write_csv(path, separator="\t")
        case ".csv.gz" | ".tsv.gz":
            separator = "," if suffix == ".csv.gz" else "\t"
            path.write_bytes(gzip.compress(FRAME.write_csv(separator=separator).encode()))
        case ".parquet":
            FRAME.write_parquet(path)
        case ".jsonl" | ".ndjson":
            FRAME.write_ndjson(path)
        case _:
            FRAME.write_ipc(path)


@pytest.mark.parametrize(
    "suffix",
    [
        *(".csv", ".CSV", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"),
        *(".jsonl", ".ndjson", ".arrow", ".feather", ".ipc"),
    ],
)
def test_every_format_gives_the_same_table(tmp_path, suffix):
    path = tmp_path / f"my.table{suffix}"
    write(path, suffix.lower())
    frame = read_table(path)
    assert isinstance(frame, pl.LazyFrame)
    assert frame.collect().equals(FRAME)


def test_a_folder_of_parquet_files_is_one_table(tmp_path):
    FRAME[:1].write_parquet(tmp_path / "1.parquet")
    FRAME[1:].write_parquet(tmp_path / "2.parquet")
    assert load_table(tmp_path).equals(FRAME)


def test_columns_are_selected_and_missing_ones_named(tmp_path):
    path = tmp_path / "people.csv"
    FRAME.write_csv(path)
    assert load_table(path, ["x", "ID", "x"]).columns == ["x", "ID"]
    with pytest.raises(SchemaError, match=r"people\.csv has no column 'y'.*ID, name, x"):
        load_table(path, ["x", "y"])


def test_types_are_found_by_the_whole_file(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("zip\n" + "12345\n" * 20_000 + "T8H1N\n")
    assert load_table(path)["zip"].dtype == pl.String


def test_text_keeps_leading_zeros(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("zip,n\n00501,1\n")
    assert load_table(path, text=["zip", "absent"]).rows() == [("00501", 1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", b"a,b\n\xff\xfe,secret\n"),
        ("a.csv", b'a,b\n"secret,3\n'),
        ("a.parquet", b"secret"),
        ("a.arrow", b"secret"),
        ("a.jsonl", b'{"a": 1\nsecret'),
        ("a.xlsx", b"secret"),
        ("a", b"secret"),
    ],
)
def test_a_broken_table_is_named_and_not_quoted(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_table(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no table .*a\.csv"):
        read_table(tmp_path / "a.csv")
    with pytest.raises(DataError, match="is a folder without Parquet files"):
        load_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "id,n\n1,a\n2,Zoë\n".encode("latin-1"), "not UTF-8 text: row 2.*iconv -f ISO"),
        ("a.csv", "id,Zoë\n1,a\n".encode("latin-1"), "not UTF-8 text: the header"),
        ("a.csv.gz", gzip.compress(b"id\n1\n\xff\n", mtime=0), "not UTF-8 text: row 2"),
        ("a.tsv", "id\tn\n1\ta\n".encode("utf-16"), "not UTF-8 text: the header.*iconv -f UTF-16"),
        ("a.jsonl", '{"n": 1}\n{"n": "Zoë"}'.encode("latin-1"), "not UTF-8 text: line 2"),
        ("a.jsonl", b"", "is empty"),
        ("a.ndjson", b"\n \n", "is empty"),
        ("a.jsonl", b'\n [{"a": 1}, {"a": 2}]', "a JSON array, not JSON lines.*jq"),
        ("a.csv.gz", b"id\n1\n", "cannot be read as .gz"),
        ("a.csv.gz", gzip.compress(b"id\n1\n2\n", mtime=0)[:-9], "cannot be read as .gz"),
    ],
)
def test_what_is_wrong_with_a_text_file_is_said(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_table(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "Zo" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n1,2,3\n4,5,6,7\n", "2 rows have more values than the header's 2.* is row 2"),
        ('a,b\n"x,\ny",2\n"secret",2,\n', "1 row has more values than the header's 2.* is row 2"),
        ("a\n1\n1,secret\n", "1 row has more values than the header's 1.* is row 2"),
    ],
)
def test_a_row_with_more_values_than_the_header_is_refused(tmp_path, content, said):
    path = tmp_path / "a.csv"
    path.write_text(content)
    for columns in (None, ["a"]):
        with pytest.raises(DataError, match=said) as caught:
            load_table(path, columns)
    assert "secret" not in str(caught.value)


def test_quoted_values_may_hold_separators_and_lines(tmp_path):
    path = tmp_path / "a.csv"
    long = "x," * 100_000
    path.write_text(f'\ufeffa,b\r\n"1,\n""2""",3\r\n"{long}",4\r\n')
    assert load_table(path).rows() == [('1,\n"2"', 3), (long, 4)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_the_separator_is_found(tmp_path, separator, name):
    text = '\ufeffid|"a, b; c"|town\r\n1|2|"x, y"\r\n2|3|"u;v|w"\r\n3|4|'
    content = re.sub(r'"[^"]*"|\|', lambda m: separator if m[0] == "|" else m[0], text).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    found = load_table(path, text=["id"])
    assert found.columns == ["id", "a, b; c", "town"]
    assert found.rows() == [("1", 2, "x, y"), ("2", 3, "u;v|w"), ("3", 4, None)]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("a,b;c\n1,2;3\n", ["a", "b;c"]),
        ("a;b\n1;2;3\n", None),
        ("a|b,c\n1|2\n3|4\n", ["a", "b,c"]),
        ("tags\n1;2\n3;4\n", ["tags"]),
        ("a;b\n", ["a", "b"]),
    ],
)
def test_where_there_is_a_choice_the_suffix_decides(tmp_path, content, columns):
    path = tmp_path / "a.csv"
    path.write_text(content)
    if columns is None:
        with pytest.raises(DataError, match="1 row has more values than the header's 2"):
            load_table(path)
    else:
        assert load_table(path).columns == columns


def test_decimal_commas_are_numbers_where_commas_separate_nothing(tmp_path):
    path = tmp_path / "a.csv"
    rows = [
        "id;preis;menge;liste;code;name;leer;punkt",
        "1;1.234,50;3;3,17;1,5;a,b;;1.5",
        "2;-0,5;4;5,8,9;2,5;c;;2",
        "3;;5;;;;;3",
        "4;1,5e3;6;7;4;d;;4",
    ]
    path.write_text("\n".join(rows))
    found = load_table(path, text=["code"])
    assert found["preis"].to_list() == [1234.5, -0.5, None, 1500.0]
    assert found["menge"].to_list() == [3, 4, 5, 6]
    assert found["liste"].to_list() == ["3,17", "5,8,9", None, "7"]
    assert found["code"].to_list() == ["1,5", "2,5", None, "4"]
    assert found["punkt"].to_list() == [1.5, 2.0, 3.0, 4.0]
    assert found["name"].to_list() == ["a,b", "c", None, "d"]


def test_decimal_commas_are_text_where_commas_separate(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"1,5",2\n"2,5",3\n')
    assert load_table(path)["a"].to_list() == ["1,5", "2,5"]


def test_a_column_twice_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(SchemaError, match="'a' more than once"):
        read_table(path)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_tables_are_written_whole_or_not_at_all(tmp_path, full_disk, name):
    frame = pl.DataFrame({"a": range(50_000)})
    write_table(frame, tmp_path / "deep" / name)
    assert load_table(tmp_path / "deep" / name).equals(frame)
    with full_disk(1000), pytest.raises(StorageError, match=name):
        write_table(frame, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
