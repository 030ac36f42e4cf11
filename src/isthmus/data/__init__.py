"""Tables, schemas, labels, encoders and encoded features of one party; public data sets."""

from isthmus.data.encoder import Encoder, fit_encoder, load_features
from isthmus.data.features import (
    PADDING,
    Features,
    FieldKind,
    FieldLayout,
    Layout,
    VectorLayout,
)
from isthmus.data.histories import Histories
from isthmus.data.infer import ColumnProfile, describe, infer_schema
from isthmus.data.labels import LabelExpression, parse_label
from isthmus.data.schema import (
    FeatureSpec,
    Kind,
    Schema,
    load_schema,
    parse_features,
    parse_schema,
    save_schema,
)
from isthmus.data.split import Split, split_samples
from isthmus.data.tables import load_table, read_table, write_table

__all__ = [
    "PADDING",
    "ColumnProfile",
    "Encoder",
    "FeatureSpec",
    "Features",
    "FieldKind",
    "FieldLayout",
    "Histories",
    "Kind",
    "LabelExpression",
    "Layout",
    "Schema",
    "Split",
    "VectorLayout",
    "describe",
    "fit_encoder",
    "infer_schema",
    "load_features",
    "load_schema",
    "load_table",
    "parse_features",
    "parse_label",
    "parse_schema",
    "read_table",
    "save_schema",
    "split_samples",
    "write_table",
]
