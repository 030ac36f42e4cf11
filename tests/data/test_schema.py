import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import (
    FeatureSpec,
    Schema,
    load_schema,
    parse_features,
    parse_schema,
    save_schema,
)
from isthmus.errors import SchemaError

SPECS = st.one_of(
    st.builds(FeatureSpec, kind=st.sampled_from(["numeric", "ignore"])),
    st.builds(
        FeatureSpec,
        kind=st.just("multi_hot"),
        separator=st.one_of(st.none(), st.text(min_size=1, max_size=3)),
        max_tokens=st.one_of(st.none(), st.integers(1, 9)),
    ),
    st.builds(FeatureSpec, kind=st.just("categorical"), min_count=st.integers(1, 9)),
    st.builds(FeatureSpec, kind=st.just("categorical"), buckets=st.integers(2, 99)),
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
SCHEMAS = st.builds(Schema, features=st.dictionaries(NAMES.map("f".__add__), SPECS)) | st.builds(
    Schema, key=st.lists(NAMES, max_size=3).map(tuple), label=st.sampled_from([None, "`a b` > 3"])
)


@given(SCHEMAS)
def test_a_schema_survives_its_file(tmp_path_factory, schema):
    path = tmp_path_factory.getbasetemp() / "schema.yaml"
    save_schema(schema, path)
    assert load_schema(path) == schema


def test_short_and_full_forms_mean_the_same():
    features = parse_features({"Age": "numeric", "G": {"kind": "multi_hot", "separator": "|"}})
    assert features["Age"] == FeatureSpec(kind="numeric")
    assert features["G"].short() == {"kind": "multi_hot", "separator": "|"}
    assert parse_features(features) == features


def test_a_key_is_one_name_or_several():
    assert parse_schema({"key": "ID"}, source="x").key == ("ID",)
    assert parse_schema({"key": ["a", "b"]}, source="x").key == ("a", "b")
    assert parse_schema({}, source="x").key == ()
    assert "key: ID\n" in Schema(key=("ID",)).to_yaml()


def test_ignored_features_are_not_used():
    schema = parse_schema({"features": {"a": "ignore", "b": "numeric"}}, source="x")
    assert list(schema.used()) == ["b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"features": {"Age": "number"}}, ["features.Age.kind", "'numeric'"]),
        ({"features": {"Age": {"kind": "numeric", "separater": "|"}}}, ["features.Age.separater"]),
        ({"features": {"Age": {"kind": "numeric", "separator": "|"}}}, ["Age", "multi_hot"]),
        ({"features": {"Age": {"kind": "numeric", "buckets": 9}}}, ["Age", "buckets"]),
        ({"features": {"A": {"kind": "categorical", "buckets": 1}}}, ["features.A.buckets"]),
        ({"features": {"A": {"kind": "categorical", "buckets": 9, "min_count": 2}}}, ["min_count"]),
        ({"features": {"A": {"kind": "categorical", "min_count": 0}}}, ["features.A.min_count"]),
        ({"features": {"A": {}}}, ["features.A.kind"]),
        ({"features": {"A": 3}}, ["features.A"]),
        ({"features": ["A"]}, ["features"]),
        ({"feature": {}}, ["feature"]),
        ({"label": "Rating is good"}, ["label", "not a label expression"]),
        ({"key": "ID", "features": {"ID": "categorical"}}, ["'ID'", "key"]),
        ({"label": "R > 3", "features": {"R": "numeric"}}, ["'R'", "label"]),
        ("just text", ["my.yaml"]),
        (None, ["my.yaml"]),
    ],
)
def test_a_wrong_schema_names_the_field(content, words):
    with pytest.raises(SchemaError) as caught:
        parse_schema(content, source="my.yaml")
    message = str(caught.value)
    assert "my.yaml" in message
    assert all(word in message for word in words), message
    assert "pydantic" not in message


def test_a_key_or_label_may_be_listed_as_ignored():
    content = {"key": "ID", "label": "R > 3", "features": {"ID": "ignore", "R": "ignore"}}
    assert parse_schema(content, source="x").used() == {}


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text("key: ID\nfeatures: [a\n")
    with pytest.raises(SchemaError, match=r"schema\.yaml, line 3: not valid YAML"):
        load_schema(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "schema.yaml"
    if content:
        path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"cannot read the schema .*schema\.yaml"):
        load_schema(path)


def test_yaml_cannot_build_objects(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text("key: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(SchemaError, match="not valid YAML"):
        load_schema(path)
