"""A search over the settings of trees and of linear models, which are no networks."""

import json

import pytest
from tests.jobs.tables import made_up

from isthmus.errors import JobError
from isthmus.jobs.job import load_job
from isthmus.jobs.tune.report import TuneReport
from isthmus.jobs.tune.search import Search, run_search
from isthmus.jobs.tune.space import as_overrides, load_space

TREES = "trees: {trees: 5, depth: 2, min_rows: 10}\n"
WOE = "bin: {bins: 4, tell: woe, transform: true}\nlinear: {family: logistic, l2: 0.1}\n"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("tune"), rows=600)


def searched(tables, job, space):
    source = tables.folder / "space.yaml"
    source.write_text(space)
    out = tables.folder / "runs"
    page = run_search(Search(job=job.path, space=load_space(source), source=source, out=out))
    return TuneReport.model_validate_json((page.parent / "tune.json").read_bytes())


@pytest.mark.parametrize(
    ("text", "space"),
    [
        (TREES, "trees.depth: {low: 1, high: 4}\n  trees.learning_rate: {low: 0.05, high: 0.9}"),
        (WOE, "linear.l2: {low: 1e-4, high: 10.0, log: true}"),
    ],
)
def test_the_best_trial_is_what_a_run_gives(tables, text, space):
    job = tables.job(text)
    found = searched(tables, job, f"trials: 4\nstartup: 1\nspace:\n  {space}\n")
    assert [trial.state for trial in found.trials] == ["done"] * 4
    assert len({json.dumps(trial.values) for trial in found.trials}) > 1
    best = next(trial for trial in found.trials if trial.number == found.best)
    assert best.metric == max(trial.metric for trial in found.trials)
    chosen = load_job(job.path, as_overrides(best.values))
    tables.run(chosen)
    result = json.loads(tables.at(chosen, "bob", "train", "result.json").read_text())
    assert result["validation"]["auc"] == best.metric


@pytest.mark.parametrize(
    ("text", "label", "space", "said"),
    [
        (TREES, "amount, kind: real", "trees.depth", "has trees of another label"),
        ("profile: {}\n", '"y == 1"', "trees.depth", "trains none"),
        (TREES, '"y == 1"', "trees.family", "trees.family"),
    ],
)
def test_what_cannot_be_searched_is_told(tables, text, label, space, said):
    job = tables.job(text)
    job.path.write_text(job.path.read_text().replace('"y == 1"', label))
    with pytest.raises(JobError, match=said):
        searched(tables, job, f"trials: 2\nspace:\n  {space}: {{choice: [1, 2]}}\n")
