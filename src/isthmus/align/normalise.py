"""Ids written alike: rules for telephone numbers, addresses of e-mail, names and national ids.

The parties agree on a rule for a column of the key; each applies it to its own values before they
are compared. All begin with Unicode's NFKC, which makes full-width digits and ligatures plain. A
value of which nothing proper is left counts as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import polars as pl

from isthmus.align.keys import Ids, text_frame
from isthmus.errors import JobError

Kind = Literal["text", "name", "email", "phone", "national_id"]


@dataclass(frozen=True)
class Rule:
    """How the values of one column are written before they are compared."""

    kind: Kind
    """`text`: lower case, without spaces at the ends and with single ones within. `name`: so too,
    without accents, hyphens and other marks. `email`: lower case, without spaces and a display
    name; with one @. `phone`: digits with the country's code first, 7 to 15 of them.
    `national_id`: letters and digits alone, in capitals."""
    country: str = ""
    """Of `phone`: the calling code of numbers that are written without one, such as 49."""
    trunk: str = "0"
    """Of `phone`: what is dialled before a number within the country and not from outside: 0 in
    most, 1 in North America, nothing in Italy or Spain."""
    gmail: bool = False
    """Of `email`: whether dots and what follows a + are left out in addresses of gmail.com."""

    def __post_init__(self) -> None:
        if self.kind not in _WRITTEN:
            raise JobError(
                f"there is no rule {self.kind!r} to normalise by; there is {', '.join(_WRITTEN)}"
            )
        digits = self.country.isdecimal() and self.country.isascii()
        if self.kind == "phone" and not (digits and self.country[0] != "0"):
            raise JobError(
                "normalising telephone numbers needs the calling code of the country of those that "
                "have none",
                mend="Give it as digits: country: '49'.",
            )
        if self.trunk and not (self.trunk.isdecimal() and self.trunk.isascii()):
            raise JobError(f"the trunk prefix {self.trunk!r} is not made of digits")

    def __str__(self) -> str:
        """The rule in a word or some, the same wherever the rule is the same."""
        options = {
            "phone": f" {self.country} {self.trunk or 'none'}",
            "email": " gmail" if self.gmail else "",
        }
        return self.kind + options.get(self.kind, "")


def described(rules: Sequence[Rule | None]) -> str:
    """The rules of a key's columns in a line, for the partners; empty where there are none."""
    return ", ".join(str(rule or "as it is") for rule in rules) if any(rules) else ""


def normalised(ids: Ids, rules: Sequence[Rule | None]) -> tuple[Ids, tuple[str, ...]]:
    """The ids as the rules write them, and in sentences how many that changed; never an id.

    Args:
        ids: an id a row.
        rules: one for each column of the key, or none at all.

    Raises:
        AlignError: a column is of a kind that cannot be an id.
        JobError: there are more or fewer rules than columns.
    """
    if not any(rules):
        return ids, ()
    frame = text_frame(ids)
    if len(rules) != frame.width:
        raise JobError(
            f"{len(rules)} rules to normalise by are for {frame.width} columns of the key",
            mend="Give one for each column, None for one that stays as it is.",
        )
    columns, said = [], []
    for column, rule in zip(frame.get_columns(), rules, strict=True):
        if rule is None:
            columns.append(column)
            continue
        written = frame.select(_WRITTEN[rule.kind](pl.col(column.name), rule)).to_series()
        columns.append(written)
        said.append(_said(column, written, rule))
    return pl.DataFrame(columns), tuple(text for text in said if text)


def _said(before: pl.Series, after: pl.Series, rule: Rule) -> str:
    """What a rule did to a column, or nothing if it did nothing."""
    changed = int((before != after).sum())
    lost = after.null_count() - before.null_count()
    kept = before.filter(after.is_not_null())
    merged = kept.n_unique() - after.drop_nulls().n_unique()
    if not changed and not lost:
        return ""
    return (
        f"normalising the key column {before.name!r} as {rule.kind} changed {changed:,} of "
        f"{len(before):,} values; {merged:,} distinct ones became equal to another, and {lost:,} "
        f"are no proper {rule.kind} and count as missing"
    )


def _text(column: pl.Expr, _: Rule) -> pl.Expr:
    return _proper(_spaced(_lower(column)), r"\S")


def _name(column: pl.Expr, _: Rule) -> pl.Expr:
    # Taken apart, an accented letter is a letter and a mark.
    plain = _lower(column).str.normalize("NFKD").str.replace_all(r"\p{M}", "")
    apart = plain.str.replace_all(r"['’`.]", "").str.replace_all(r"[^\p{L}\p{N}]+", " ")
    return _proper(_spaced(apart), r"\S")


def _email(column: pl.Expr, rule: Rule) -> pl.Expr:
    bare = _lower(column).str.replace(r"^.*<([^<>]*)>\s*$", "$1").str.replace(r"^\s*mailto:", "")
    bare = bare.str.replace_all(r"\s", "").str.replace(r"\.$", "")
    if rule.gmail:
        box = (
            bare.str.replace(r"@.*$", "")
            .str.replace(r"\+.*$", "")
            .str.replace_all(".", "", literal=True)
        )
        at_gmail = bare.str.contains(r"@(gmail|googlemail)\.com$")
        bare = pl.when(at_gmail).then(box + "@gmail.com").otherwise(bare)
    return _proper(bare, r"^[^@]+@[^@]+$")


def _phone(column: pl.Expr, rule: Rule) -> pl.Expr:
    # What is dialled within the country alone is often written in brackets: +49 (0)30.
    number = column.str.normalize("NFKC").str.replace(rf"\({rule.trunk}\)", "")
    abroad = number.str.contains(r"^[\s(]*(\+|00)")
    digits = number.str.replace_all(r"[^0-9\p{L}]", "")
    within = digits.str.replace(rf"^{rule.trunk}", "") if rule.trunk else digits
    whole = (
        pl.when(abroad)
        .then(digits.str.replace(r"^00", ""))
        .otherwise(pl.lit(rule.country) + within)
    )
    return _proper(whole, r"^[1-9][0-9]{6,14}$")


def _national_id(column: pl.Expr, _: Rule) -> pl.Expr:
    capitals = column.str.normalize("NFKC").str.to_uppercase()
    return _proper(capitals.str.replace_all(r"[^\p{L}\p{N}]", ""), r"\S")


def _lower(column: pl.Expr) -> pl.Expr:
    return column.str.normalize("NFKC").str.to_lowercase().str.normalize("NFKC")


def _spaced(column: pl.Expr) -> pl.Expr:
    return column.str.replace_all(r"\s+", " ").str.strip_chars()


def _proper(column: pl.Expr, pattern: str) -> pl.Expr:
    """The values that have the pattern; others are missing."""
    return pl.when(column.str.contains(pattern)).then(column)


_WRITTEN: Mapping[Kind, Callable[[pl.Expr, Rule], pl.Expr]] = MappingProxyType(
    {
        "text": _text,
        "name": _name,
        "email": _email,
        "phone": _phone,
        "national_id": _national_id,
    }
)
