"""docs/errors.md has a row for every code, and no row for a code that does not exist."""

import re
from collections.abc import Iterator
from pathlib import Path

from isthmus.errors import IsthmusError

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def tree(error: type[IsthmusError]) -> Iterator[type[IsthmusError]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__.startswith("isthmus"):
            yield from tree(child)


def rows() -> dict[str, list[str]]:
    found = re.findall(r"^\| `([^`]+)` \|(.+)\|(.+)\|$", PAGE.read_text(), re.MULTILINE)
    return {code: [when.strip(), mend.strip()] for code, when, mend in found}


def test_every_code_has_a_row_and_every_row_a_code():
    assert rows().keys() == {error.code for error in tree(IsthmusError)}


def test_every_row_says_when_and_what_to_do():
    assert all(when and mend for when, mend in rows().values())


def test_codes_are_told_apart():
    errors = list(tree(IsthmusError))
    assert len({error.code for error in errors}) == len(errors)
    assert len({error.public for error in errors}) == len(errors)
