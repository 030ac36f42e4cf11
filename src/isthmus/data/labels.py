"""Label expressions such as `Rating > 3`: a tiny grammar, parsed and evaluated without `eval`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.columns import column_of
from isthmus.errors import SchemaError

GRAMMAR = (
    "Write `column`, `column > 3` (with >, >=, <, <=, == or !=) or `column in ['a', 'b']`; "
    "text goes in quotes, and a column with spaces or dashes in backticks."
)

Value = bool | float | str
Operator = Literal[">", ">=", "<", "<=", "==", "!=", "in", "01"]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_TOKEN = re.compile(
    r"""\s*(?:
      `(?P<quoted>[^`]+)`
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w])
    | (?P<name>[^\W\d]\w*)
    | '(?P<single>[^']*)'
    | "(?P<double>[^"]*)"
    | (?P<sign>>=|<=|==|!=|[><\[\],])
    )""",
    re.VERBOSE,
)
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class LabelExpression:
    """A parsed label expression; `operator` "01" is a bare column that holds 0 and 1 already."""

    text: str
    column: str
    operator: Operator
    values: tuple[Value, ...]
    """The literals: none for a bare column, one for a comparison, any number for `in`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `evaluate` needs."""
        return (self.column,)

    def evaluate(self, frame: pl.DataFrame, *, source: str = "the table") -> NDArray[np.float32]:
        """The label of every row of `frame`, float32 [rows], each 0 or 1.

        Raises:
            SchemaError: the column is missing, has nulls, or is of a type that cannot be compared
                with the literals; a bare column holds something other than 0 and 1.
        """
        column = column_of(frame, self.column, source)
        self._refuse_missing(column, source)
        if self.operator == "01":
            return self._as_is(column, source)
        literals = [_like(column, value) for value in self.values]
        ordered = self.operator in (">", ">=", "<", "<=")
        if None in literals or (ordered and not isinstance(literals[0], float)):
            raise SchemaError(
                f"{source}: column {self.column!r} is of type {column.dtype}, "
                f"which cannot be compared as the label {self.text!r} says"
            )
        if self.operator == "in":
            truth = reduce(operator.or_, (column == literal for literal in literals))
        else:
            truth = _COMPARE[self.operator](column, literals[0])
        return np.asarray(truth.to_numpy(), dtype=np.float32)

    def _refuse_missing(self, column: pl.Series, source: str) -> None:
        missing = column.null_count()
        if column.dtype.is_float():
            missing += int(column.is_nan().sum())
        if missing:
            raise SchemaError(
                f"{source}: the label {self.text!r} is missing in {missing} of {len(column)} rows",
                mend=f"Fill column {self.column!r} or drop these rows before the job.",
            )

    def _as_is(self, column: pl.Series, source: str) -> NDArray[np.float32]:
        number = column.dtype.is_numeric() or column.dtype == pl.Boolean
        label = column.cast(pl.Float32).to_numpy() if number else np.empty(0, np.float32)
        other = np.count_nonzero((label != 0) & (label != 1)) if number else len(column)
        if other:
            raise SchemaError(
                f"{source}: the label column {self.column!r} holds something other than 0 and 1 "
                f"in {other} of {len(column)} rows",
                mend=f"Say which values are positive. {GRAMMAR}",
            )
        return np.asarray(label, dtype=np.float32)


def parse_label(text: str) -> LabelExpression:
    """Parse a label expression.

    Raises:
        SchemaError: it does not follow the grammar; the message shows it.
    """
    tokens = _tokens(text)
    match tokens:
        case [("column", str(column))]:
            return LabelExpression(text, column, "01", ())
        case [
            ("column", str(column)),
            ("sign", ">" | ">=" | "<" | "<=" | "==" | "!=" as sign),
            last,
        ]:
            return LabelExpression(text, column, sign, (_literal(text, last),))
        case [("column", str(column)), ("column", "in"), ("sign", "["), *items, ("sign", "]")]:
            return LabelExpression(text, column, "in", _items(text, items))
    raise _not_a_label(text)


Token = tuple[str, Value]


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            raise _not_a_label(text)
        tokens.append(_token(found))
        position = found.end()
    return tokens


def _token(found: re.Match[str]) -> Token:
    group, content = next((k, v) for k, v in found.groupdict().items() if v is not None)
    if group == "number":
        return "literal", float(content)
    if group in ("single", "double"):
        return "literal", content
    if group == "name" and content in _BOOLEANS:
        return "literal", _BOOLEANS[content]
    return ("sign" if group == "sign" else "column"), content


def _literal(text: str, token: Token) -> Value:
    if token[0] != "literal":
        raise _not_a_label(text)
    return token[1]


def _items(text: str, items: list[Token]) -> tuple[Value, ...]:
    if len(items) % 2 == 0 or any(comma != ("sign", ",") for comma in items[1::2]):
        raise _not_a_label(text)
    return tuple(_literal(text, item) for item in items[::2])


def _not_a_label(text: str) -> SchemaError:
    return SchemaError(f"{text!r} is not a label expression", mend=GRAMMAR)


def _like(column: pl.Series, value: Value) -> Value | None:
    """`value` if the column's type can be compared with it, else None."""
    if isinstance(value, bool):
        return value if column.dtype == pl.Boolean else None
    if isinstance(value, float):
        return value if column.dtype.is_numeric() else None
    return value if isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum)) else None
