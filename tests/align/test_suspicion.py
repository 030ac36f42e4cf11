"""Ids that one side writes differently are lost without an error: the side that sees it says so."""

import polars as pl
import pytest

from isthmus.align import Alignment, align
from isthmus.session import run_parties

NUMBERS = [str(n) for n in range(1, 101)]


def meet(alice, bob):
    def program(ids):
        return lambda session: align(session, pl.Series("id", ids), workers=0)

    return run_parties({"alice": program(alice), "bob": program(bob)}, label_party="bob")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ([f"{n:>03}" for n in NUMBERS], "of the 99 ids here with leading zeros, none found"),
        ([n if n > "5" else f" {n}" for n in NUMBERS], "with spaces around them, none found"),
        ([n if n > "5" else f"{n}.0" for n in NUMBERS], "with a fraction of zero, like 7.0, none"),
    ],
)
def test_a_form_that_finds_no_partner_is_told_where_it_stands(own, said):
    # 100 has no leading zero, so that something is common.
    found = meet(own, [int(n) for n in NUMBERS])
    assert any(said in warning for warning in found["alice"].warnings), found["alice"].warnings
    assert not any("ids here with" in warning for warning in found["bob"].warnings)


def test_capital_letters():
    found = meet([f"u{n}" for n in NUMBERS] + ["X1", "X2"], [f"u{n}" for n in NUMBERS] + ["x1"])
    (warning,) = found["alice"].warnings
    assert "of the 2 ids here with capital letters, none found" in warning
    assert found["bob"].warnings == ()


def test_forms_that_both_sides_keep_are_no_trouble():
    codes = [f"{n:>04}-A" for n in NUMBERS]
    found = meet(codes[:60], codes[40:])
    assert found["alice"].warnings == found["bob"].warnings == ()


def test_a_small_match_is_told_on_both_sides():
    found = meet(NUMBERS, [*NUMBERS[:9], *(f"x{n}" for n in range(500))])
    for party in ("alice", "bob"):
        (warning,) = found[party].warnings
        assert "only 9 ids are common to all, of 100" in warning
    assert meet(NUMBERS, NUMBERS[:9])["alice"].warnings == ()  # a small table is no small match


def test_warnings_name_no_id_and_are_kept(tmp_path):
    found = meet(["00secret7", *NUMBERS], NUMBERS)["alice"]
    assert found.warnings
    assert "secret" not in "".join(found.warnings)
    found.save(tmp_path)
    assert Alignment.load(tmp_path).warnings == found.warnings
