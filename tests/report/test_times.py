import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.jobs import report as r
from isthmus.jobs.report.times import shares, time_table


def phases(**seconds):
    return tuple(r.Phase(name=name, seconds=taken) for name, taken in seconds.items())


def test_what_lies_between_the_phases_is_a_row_and_the_pooled_model_is_none(make_report):
    shown = phases(align=4.31, train=31.2, pooled=9.87)
    table = time_table(make_report(phases=shown, seconds=37.9))
    assert [(row.name, row.seconds, row.share) for row in table.rows] == [
        ("align", "4.31", "12%"),
        ("train", "31.20", "82%"),
        ("between the phases", "2.39", "6%"),
    ]
    assert (table.total, table.apart) == ("37.90", "9.87")


@settings(deadline=None)
@given(st.lists(st.floats(0, 2000), max_size=8), st.floats(0, 3))
def test_the_numbers_add_up_as_they_are_shown(label_report, taken, rest):
    named = {f"phase {at}": seconds for at, seconds in enumerate(taken)}
    changes = {"phases": phases(**named), "seconds": sum(taken) + rest}
    table = time_table(label_report.model_copy(update=changes))

    def number(text):
        return float(text.replace(",", "").rstrip("%"))

    assert number(table.total) == pytest.approx(sum(number(row.seconds) for row in table.rows))
    if number(table.total):
        assert sum(number(row.share) for row in table.rows) == 100
        assert sum(row.fraction for row in table.rows) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("amounts", "whole"), [([1, 1, 1], [34, 33, 33]), ([0, 0], [0, 0]), ([], []), ([5], [100])]
)
def test_shares(amounts, whole):
    assert shares(amounts) == whole
