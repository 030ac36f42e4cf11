"""The job file's part about alignment: what is normalised, and which rows are kept."""

import pytest

from isthmus.align import Rule
from isthmus.errors import JobError
from isthmus.jobs.job import canonical_json, parse_job

JOB = """
isthmus: 1
name: demo
parties:
  alice: {features: {Age: numeric}}
  bob: {features: {Item: categorical}}
label: {party: bob, expression: Clicked}
"""


def parse(align="", more=""):
    return parse_job(JOB + (f"align: {align}\n" if align else "") + more)


def test_rules_follow_the_columns_of_the_key():
    spec = parse(
        "{key: [Shop, Tel, Mail], normalise: {Mail: email, Tel: {kind: phone, country: '49'}}}"
    )
    assert spec.spec.align.rules == (None, Rule("phone", country="49"), Rule("email"))
    assert parse("{key: Mail, normalise: {Mail: {kind: email, gmail: true}}}").spec.align.rules == (
        Rule("email", gmail=True),
    )
    assert parse().spec.align.rules == ()


def test_left_out_the_new_fields_are_no_part_of_what_is_agreed():
    assert parse().hash == parse("{rows: common, normalise: {}}").hash
    assert "normalise" not in canonical_json(parse().spec)
    hashes = {
        parse(align).hash
        for align in (
            "{}",
            "{rows: label}",
            "{normalise: {ID: text}}",
            "{normalise: {ID: email}}",
            "{normalise: {ID: {kind: email, gmail: true}}}",
            "{protocol: rsa-blind}",
        )
    }
    assert len(hashes) == 6


@pytest.mark.parametrize(
    ("align", "match"),
    [
        ("{normalise: {Mail: email}}", "'Mail' is no column of align.key: ID"),
        ("{normalise: {ID: rot13}}", "align.normalise.ID"),
        ("{normalise: {ID: phone}}", "phone needs the country"),
        ("{normalise: {ID: {kind: phone, country: '+49'}}}", "align.normalise.ID.country"),
        ("{normalise: {ID: {kind: text, country: '49'}}}", "country and trunk belong to phone"),
        ("{normalise: {ID: {kind: text, gmail: true}}}", "gmail belongs to email"),
        ("{rows: outer}", "align.rows"),
        ("{protocol: rsa}", "align.protocol"),
    ],
)
def test_what_makes_no_sense_is_refused(align, match):
    with pytest.raises(JobError, match=match):
        parse(align)


@pytest.mark.parametrize(
    ("feature", "more", "match"),
    [
        ("{kind: sequence, separator: ','}", "", "'Seen' is a sequence"),
        ("numeric", "predict: {to: [alice]}\n", "cannot be had with align.rows: label"),
    ],
)
def test_what_cannot_be_missing_is_refused(feature, more, match):
    text = JOB.replace("Age: numeric", f"Age: numeric, Seen: {feature}")
    assert parse_job(text + more)
    with pytest.raises(JobError, match=match):
        parse_job(text + "align: {rows: label}\n" + more)


def test_labels_at_several_parties_need_them_for_every_sample():
    text = JOB.replace(
        "expression: Clicked", "expression: Clicked, also: {paid: {party: alice, expression: Paid}}"
    )
    assert parse_job(text)
    with pytest.raises(JobError, match="nor for labels at several parties"):
        parse_job(text + "align: {rows: label}\n")
