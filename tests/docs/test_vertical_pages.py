"""The Python on the pages of vertical analytics and of alignment runs as it stands there.

A page's blocks run in order, in one namespace for each party, all parties at once. A statement
whose first line ends with `# at the label party` runs there alone, and so do those that follow
such a comment on a line of its own; likewise `# at a feature party`, `# at each feature party`
and `# at carol`.
"""

import ast
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from isthmus.align import align
from isthmus.jobs.job import load_job
from isthmus.session import run_parties
from isthmus.stats import BinningOptions, Disclosure, fit_woe

pytest.importorskip("tenseal")

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    *(
        page
        for page in sorted((DOCS / "vertical").glob("*.md"))
        if "```python" in page.read_text() and page.stem != "index"
    ),
    DOCS / "alignment.md",
]
ROWS = 600
EVERYBODY = frozenset({"bank", "shop", "carol"})
WHERE = re.compile(r"# at (?P<party>the label party|(a|each) feature party|carol)\b")


def blocks(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def whose(comment):
    """The parties that a comment such as `# at the label party` names, if it does."""
    found = WHERE.search(comment)
    if found is None:
        return set()
    said = found["party"]
    return {said} if said == "carol" else {"bank"} if "label" in said else {"shop"}


def statements(block):
    """Each statement of a block with the parties that run it."""
    lines, ends = block.splitlines(), 0
    section = EVERYBODY if "# at carol" in block else EVERYBODY - {"carol"}
    for node in ast.parse(block).body:
        for line in lines[ends : node.lineno - 1]:
            section = whose(line) or section
        ends = node.end_lineno
        everywhere = EVERYBODY if isinstance(node, ast.ImportFrom | ast.Import) else None
        yield node, everywhere or whose(lines[node.lineno - 1]) or section


def keys(party):
    """Ids by the names that the page on alignment has; each party has some of its own."""
    ids = [f"c{number}" if number < 500 else f"{party}{number}" for number in range(ROWS)]
    mails = [f"{one}@example.org" for one in ids]
    return pl.DataFrame({"ID": ids, "Shop": "a", "User": ids, "UserID": ids, "Mail": mails})


def made(folder):
    """What a page leaves to the reader: tables of a bank and a shop, labels, paths."""
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, ROWS, 2))
    score = first.sum(1) + second.sum(1) + rng.normal(size=ROWS)
    city = rng.choice(["A", "B"], ROWS)
    own = {
        "bank": {"age": 40 + 9 * first[:, 0], "income": np.exp(first[:, 1]), "city": city},
        "shop": {"age": 40 + 9 * second[:, 0], "income": np.exp(second[:, 1]), "city": city},
        "carol": {},
    }
    own["shop"]["months"] = rng.integers(-1, 60, ROWS).astype(float)
    y = (score > 1).astype(int)
    return {
        party: {
            "table": table,
            "keys": keys(party),
            "y": y,
            "labels": y,
            "scores": score,
            "p": 1 / (1 + np.exp(1 - score)),
            "claims": rng.poisson(1, ROWS) / 2,
            "means": rng.uniform(0.5, 2, ROWS),
            "exposure": np.full(ROWS, 2.0),
            "own_table": table,
            "numbers": table.select(pl.col(pl.Float64)),
            "training_rows": np.arange(ROWS // 2),
            "path": str(folder / party / "part.json"),
            "folder": str(folder / party / "folder"),
        }
        for party, table in zip(own, map(pl.DataFrame, own.values()), strict=True)
    }


def prepare(page, session, names):
    """What some pages take from others: a fit for the scorecard, an alignment for the drift."""
    names["own_columns"] = names["columns"] = names["numbers"].to_numpy()
    if page == "scorecard":
        names["fit"] = fit_woe(
            session,
            names["table"],
            label=names["y"] if session.is_label_party else None,
            options=BinningOptions(bins=4),
            disclosure=Disclosure(tell="woe"),
        )
        names["b0"] = -1.0
    if page == "pca":
        names["table"] = names["numbers"]
    if page == "alignment":
        names["table"] = names["keys"]
    if page == "profile":
        names["alignment"] = align(session, names["keys"]["ID"])


def run_together(page, chosen, parties, given):
    """Run the blocks at all these parties at once; names stay in each party's `given`."""

    def program(session):
        names = given[session.me] | {"session": session}
        prepare(page.stem, session, names)
        for block in chosen:
            for node, at in statements(block):
                if session.me in at:
                    exec(compile(ast.Module([node], []), page.name, "exec"), names)
        given[session.me] = names

    run_parties(dict.fromkeys(parties, program), label_party="bank")


def test_the_page_on_vertical_analytics_has_a_whole_program(capsys):
    (program,) = blocks(DOCS / "vertical" / "index.md")
    exec(compile(program, "index.md", "exec"), {})
    said = capsys.readouterr().out
    assert "AUC 0.9" in said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_as_it_stands(page, tmp_path):
    given = made(tmp_path)
    three = [block for block in blocks(page) if "# at carol" in block]
    run_together(page, [one for one in blocks(page) if one not in three], ["bank", "shop"], given)
    if three:
        given["carol"] |= {name: given["bank"][name] for name in ("fit", "LinearOptions")}
        run_together(page, three, ["bank", "shop", "carol"], given)


@pytest.mark.parametrize("name", ["looking", "modelling"])
def test_the_job_files_of_a_page_are_jobs(name, tmp_path):
    files = blocks(DOCS / "vertical" / f"{name}.md", "yaml")
    assert files
    for number, text in enumerate(files):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert load_job(path).spec.isthmus == 1
