"""Ids written alike: what each rule makes of a value, and what is said of it."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.align import Rule, align
from isthmus.align.normalise import described, normalised
from isthmus.errors import AlignError, JobError
from isthmus.session import run_parties

GERMAN, AMERICAN = Rule("phone", country="49"), Rule("phone", country="1", trunk="1")
ITALIAN = Rule("phone", country="39", trunk="")
RULES = [Rule("text"), Rule("name"), Rule("email"), Rule("email", gmail=True), GERMAN, AMERICAN]
RULES += [ITALIAN, Rule("national_id")]


def one(value, rule):
    (column,) = normalised(pl.Series("id", [value], dtype=pl.String), [rule])[0].get_columns()
    return column[0]


@pytest.mark.parametrize(
    ("rule", "same", "expected"),
    [
        (
            GERMAN,
            ["+49 (0)30 1234567", "0049-30-1234567", "030/123 45 67", "(030) 1234567", "301234567"],
            "49301234567",
        ),
        (
            GERMAN,
            ["+44 20 7946 0000", "0044 (0)20 7946-0000", "＋４４ ２０７９４６００００"],
            "442079460000",
        ),
        (AMERICAN, ["(212) 555-1234", "1-212-555-1234", "+1 212 555 1234"], "12125551234"),
        (ITALIAN, ["06 12345678", "+39 06 12345678"], "390612345678"),
        (
            Rule("email"),
            [" Ann.B@X.org", "ann.b@x.org.", "Ann <ann.b@x.org>", "mailto:ann.b@x.org"],
            "ann.b@x.org",
        ),
        (Rule("email"), ["A.b+c@gmail.com"], "a.b+c@gmail.com"),
        (Rule("email", gmail=True), ["A.b+c@googlemail.com", "ab@gmail.com"], "ab@gmail.com"),
        (Rule("email", gmail=True), ["a.b+c@x.org"], "a.b+c@x.org"),
        (Rule("national_id"), ["ab-12.3/4", " AB 1234 ", "ＡＢ１２３４"], "AB1234"),
        (
            Rule("name"),
            ["Müller-Lüd,  O’Neil ", "MULLER LUD ONEIL", "Mu\u0308ller Lüd O'Neil"],
            "muller lud oneil",
        ),
        (Rule("text"), ["  Foo\t Bar\n", "foo bar", "ＦＯＯ bar"], "foo bar"),
    ],
)
def test_ways_of_writing_become_one(rule, same, expected):
    assert [one(value, rule) for value in same] == [expected] * len(same)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (GERMAN, "ask her"),
        (GERMAN, "12"),
        (GERMAN, "+49 30 12345678901234"),
        (GERMAN, "030 1234567 ext 8"),
        (Rule("email"), "ann.x.org"),
        (Rule("email"), "a@b@c"),
        (Rule("national_id"), " -/ "),
        (Rule("name"), "..."),
        (Rule("text"), "   "),
        *[(rule, None) for rule in RULES],
        *[(rule, "") for rule in RULES],
    ],
)
def test_what_is_not_proper_is_missing(rule, value):
    assert one(value, rule) is None


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([Rule("text"), Rule("name"), Rule("email"), Rule("national_id")]), st.text())
def test_written_once_more_it_stays_as_it_is(rule, value):
    written = one(value, rule)
    assert one(written, rule) == written


def test_numbers_that_have_lost_their_zero_are_telephone_numbers():
    ids = pl.Series("p", [301234567])
    assert normalised(ids, [GERMAN])[0]["p"].to_list() == ["49301234567"]


def test_only_the_columns_that_have_a_rule_change_and_what_is_said_has_no_value():
    frame = pl.DataFrame({"Shop": ["A", "A", "A"], "Mail": ["X@y.z", "x@y.z", "?"]})
    ids, said = normalised(frame, [None, Rule("email")])
    assert ids["Shop"].to_list() == ["A", "A", "A"]
    assert ids["Mail"].to_list() == ["x@y.z", "x@y.z", None]
    assert said == (
        "normalising the key column 'Mail' as email changed 1 of 3 values; 1 distinct ones became "
        "equal to another, and 1 are no proper email and count as missing",
    )
    assert normalised(pl.Series("id", ["a", None]), [Rule("text")])[1] == ()
    assert normalised(["A"], [])[0] == ["A"]


def test_rules_that_make_no_sense():
    with pytest.raises(JobError, match="no rule 'rot13'"):
        Rule("rot13")
    for country in ("", "0", "+49", "²"):
        with pytest.raises(JobError, match="calling code"):
            Rule("phone", country=country)
    with pytest.raises(JobError, match="trunk prefix"):
        Rule("phone", country="49", trunk="x")
    with pytest.raises(JobError, match="1 rules to normalise by are for 2 columns"):
        normalised(pl.DataFrame({"a": ["x"], "b": ["y"]}), [Rule("text")])
    with pytest.raises(AlignError, match="holds floats"):
        normalised([1.5], [Rule("text")])


def test_rules_are_described_by_all_that_matters():
    assert described([]) == described([None, None]) == ""
    assert described([None, GERMAN]) == "as it is, phone 49 0"
    assert len({described([rule]) for rule in RULES}) == len(RULES)


def run(ids, rules):
    def program(party):
        return lambda session: align(
            session, ids[party], normalise=rules[party], duplicates="drop", nulls="drop", workers=0
        )

    return run_parties({party: program(party) for party in ids}, label_party="bob")


def test_parties_that_write_differently_find_each_other():
    ids = {
        "alice": ["030-12345678", "0171 7654321", None],
        "bob": ["+493012345678", "+4917176543210"],
    }
    found = run(ids, {"alice": [GERMAN], "bob": [GERMAN]})
    assert (found["alice"].rows.tolist(), found["bob"].rows.tolist()) == ([0], [0])
    assert found["alice"].summary.nulls == 1
    assert "changed 2 of 3 values" in found["alice"].warnings[0]
    assert not any("1234" in text for text in found["alice"].warnings)


def test_values_that_become_equal_are_repeated_ids():
    with pytest.raises(AlignError, match="1 of 2 rows have an id that an earlier row has"):
        run_parties(
            {
                "alice": lambda s: align(s, ["a", "A"], normalise=[Rule("text")]),
                "bob": lambda s: align(s, ["a"], normalise=[Rule("text")]),
            },
            label_party="bob",
        )


def test_parties_with_different_rules_are_told():
    with pytest.raises(AlignError, match="normalise = "):
        run({"alice": ["x"], "bob": ["x"]}, {"alice": [Rule("text")], "bob": []})
