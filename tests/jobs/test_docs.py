"""What docs say of job files is made from the models, and current."""

from pathlib import Path

from isthmus.jobs.schema import field_reference, schema_text

DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_schema_is_current():
    """If this fails: isthmus job schema > docs/job.schema.json."""
    assert (DOCS / "job.schema.json").read_text() == schema_text()


def test_the_field_reference_is_current():
    """If this fails: put what `isthmus job schema --fields` prints at the end of docs/jobs.md."""
    assert (DOCS / "jobs.md").read_text().endswith(field_reference())
