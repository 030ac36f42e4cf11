"""The page of algorithms names each one, and says of each what its entry says."""

from pathlib import Path

import pytest

from isthmus.fedrec import algorithm, algorithm_names

SECURE = {
    "nothing": "nothing to hide",
    "sums": "yes",
    "tables": "no",
    "vectors": "no",
    "interactions": "no",
}


def rows():
    page = (Path(__file__).parents[2] / "docs" / "fedrec" / "algorithms.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    # Six cells make a row of the first table; those further down have figures.
    return {one[0].strip("`"): one[1:] for one in cells if len(one) == 6}


@pytest.mark.parametrize("name", algorithm_names())
def test_the_page_says_what_leaves_the_device(name):
    found = algorithm(name)
    assert name in rows(), f"docs/fedrec/algorithms.md has no row for {name}"
    title, _, _, leaves, secure = rows()[name]
    assert title.startswith(found.title)
    assert found.leaves in leaves
    assert secure == SECURE[found.leaves]


def test_the_page_names_none_that_is_not_there():
    assert set(rows()) <= set(algorithm_names())
