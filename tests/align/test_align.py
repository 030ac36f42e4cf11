from contextlib import contextmanager

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.align import align, ecdh
from isthmus.errors import AlignError, JobError
from isthmus.session import Session, SilentProgress, run_parties

quick = settings(deadline=None, max_examples=15)

ints = st.integers(-5, 30)
words = st.text(max_size=2)
pairs = st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "ab", ""]))


def as_ids(rows, kind):
    if kind is pairs:
        schema = {"n": pl.Int64, "t": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row")
    return pl.Series("id", rows, dtype=pl.Int64 if kind is ints else pl.String)


@st.composite
def tables(draw, parties, repeats=()):
    """A list of rows per party, of one kind of id, with at least one id common to all."""
    kind = draw(st.sampled_from([ints, words, pairs]))
    shared = draw(kind)
    rows = {}
    for party in parties:
        ids = draw(st.lists(kind, max_size=25, unique=party not in repeats))
        ids = ids if shared in ids else [*ids, shared]
        rows[party] = draw(st.permutations(ids))
    return kind, rows


def run(ids, *, label_party="bob", seed=0, **options):
    def program(own):
        return lambda session: align(session, own, workers=0, **options)

    programs = {party: program(own) for party, own in ids.items()}
    return run_parties(programs, label_party=label_party, seed=seed)


def picked(rows, alignment):
    return [rows[i] for i in alignment.rows.tolist()]


@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
@quick
@given(data=st.data())
def test_all_parties_get_the_plain_intersection_in_one_order(parties, data):
    kind, rows = data.draw(tables(parties))
    results = run({party: as_ids(own, kind) for party, own in rows.items()})
    chosen = {party: picked(rows[party], results[party]) for party in parties}
    expected = set.intersection(*map(set, rows.values()))
    assert set(chosen["bob"]) == expected
    assert len(chosen["bob"]) == len(expected)
    assert all(order == chosen["bob"] for order in chosen.values())


@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
@quick
@given(data=st.data())
def test_with_entity_keys_every_event_of_a_common_entity_is_a_sample(parties, data):
    kind, rows = data.draw(tables(parties, repeats=("bob",)))
    results = run({party: as_ids(own, kind) for party, own in rows.items()}, keys="entity")
    chosen = {party: picked(rows[party], results[party]) for party in parties}
    common = set.intersection(*map(set, rows.values()))
    assert sorted(results["bob"].rows) == [i for i, x in enumerate(rows["bob"]) if x in common]
    assert all(order == chosen["bob"] for order in chosen.values())
    assert {result.entities for result in results.values()} == {len(common)}


@quick
@given(numbers=st.sets(st.integers(0, 30), min_size=1), more=st.sets(st.integers(31, 60)))
def test_integers_at_one_party_match_their_text_at_another(numbers, more):
    left, right = sorted(numbers | more), [str(i) for i in sorted(numbers, reverse=True)]
    results = run({"alice": left, "bob": right})
    assert [str(i) for i in picked(left, results["alice"])] == picked(right, results["bob"])
    assert len(results["bob"]) == len(numbers)


class Counting(SilentProgress):
    """Progress that remembers how far each party's bar came."""

    def __init__(self):
        self.bars = []

    @contextmanager
    def task(self, name, total=None):
        bar = Bar(total)
        self.bars.append(bar)
        yield bar


class Bar:
    def __init__(self, total):
        self.total, self.done = total, 0

    def advance(self, amount=1):
        self.done += amount


def test_progress_ends_where_it_said_it_would():
    progress = Counting()
    rows = {"alice": list(range(5)), "bob": list(range(3))}
    programs = {
        party: lambda session: align(session, rows[session.me], workers=0) for party in rows
    }
    run_parties(programs, label_party="bob", progress=progress)
    assert [(bar.total, bar.done) for bar in progress.bars] == [(8, 8), (8, 8)]


def test_many_chunks_of_unequal_number_three_parties(monkeypatch):
    monkeypatch.setattr(ecdh, "CHUNK", 4)
    monkeypatch.setattr(ecdh, "LAG", 2)
    rows = {
        "alice": [f"u{i}" for i in range(0, 90, 2)],
        "bob": [f"u{i}" for i in range(0, 30)],
        "carol": [f"u{i}" for i in range(5, 8)],
    }
    results = run(rows)
    assert {tuple(picked(rows[p], results[p])) for p in rows} == {("u6",)}
    bob = results["bob"].summary
    assert bob.pairwise == {"alice": 15, "carol": 3}
    assert bob.partners == {"alice": 45, "carol": 3}
    assert results["carol"].summary.partners == {"bob": 30}  # nothing about alice
    assert results["carol"].summary.pairwise == {}


def test_child_processes_give_the_same_alignment(monkeypatch):
    monkeypatch.setattr(ecdh, "CHUNK", 64)
    rows = {"alice": list(range(700)), "bob": list(range(350, 900))}

    def program(party, workers):
        return lambda session: align(session, rows[party], workers=workers)

    programs = {"alice": program("alice", 1), "bob": program("bob", 2)}
    pooled = run_parties(programs, label_party="bob")
    plain = run(rows)
    assert picked(rows["alice"], pooled["alice"]) == picked(rows["alice"], plain["alice"])
    assert pooled["bob"].rows.tolist() == plain["bob"].rows.tolist()
    assert len(pooled["bob"]) == 350


def test_the_order_follows_the_seed_and_not_the_tables():
    rows = {"alice": list(range(40)), "bob": list(range(40))}
    turned = {"alice": rows["alice"][::-1], "bob": rows["bob"][7:] + rows["bob"][:7]}
    first = picked(rows["bob"], run(rows)["bob"])
    assert first == picked(turned["bob"], run(turned)["bob"])
    assert first not in (rows["bob"], rows["bob"][::-1])
    assert first != picked(rows["bob"], run(rows, seed=1)["bob"])


def test_the_order_of_events_is_the_same_in_every_run_and_not_that_of_the_table():
    rows = {"alice": list(range(20)), "bob": [i % 20 for i in range(100)]}
    one, two = (run(rows, keys="entity")["bob"].rows.tolist() for _ in range(2))
    assert one == two
    assert one != sorted(one)
    # A partner knows the seed. Were the order a function of it alone, it could be undone.
    other = {**rows, "bob": [(i * 7) % 20 for i in range(100)]}
    assert one != run(other, keys="entity")["bob"].rows.tolist()


def test_duplicates_are_refused_with_their_count_or_their_first_row_kept():
    rows = {"alice": ["x", "y", "x"], "bob": ["y", "x"]}
    with pytest.raises(AlignError, match="1 of 3 rows"):
        run(rows)
    with pytest.raises(AlignError, match="1 of 3 rows"):
        run(rows, keys="entity")  # only the label party's may repeat
    results = run(rows, duplicates="drop")
    assert sorted(results["alice"].rows.tolist()) == [0, 1]
    assert results["alice"].summary.duplicates == 1


def test_nulls_are_refused_or_dropped_and_counted():
    rows = {"alice": ["x", None, "y"], "bob": ["y", "x"]}
    with pytest.raises(AlignError, match="1 of 3 rows have no id"):
        run(rows)
    results = run(rows, nulls="drop")
    assert sorted(results["alice"].rows.tolist()) == [0, 2]
    assert results["alice"].summary.nulls == 1


def test_nothing_in_common_is_an_error_on_both_sides():
    seen = {}

    def program(own):
        def body(session):
            try:
                align(session, own, workers=0)
            except AlignError as error:
                seen[session.me] = str(error)
                raise

        return body

    programs = {"alice": program(["007", "008"]), "bob": program(["7", "8", "9"])}
    with pytest.raises(AlignError, match="no id is common"):
        run_parties(programs, label_party="bob")
    assert "alice came with 2 ids, bob with 3" in seen["alice"]
    assert "bob came with 3 ids, alice with 2" in seen["bob"]
    assert all("leading zeros" in text for text in seen.values())


def test_nothing_common_to_all_three_tells_the_label_party_about_the_pairs():
    rows = {"alice": ["x"], "bob": ["x", "y"], "carol": ["y"]}
    with pytest.raises(AlignError, match="1 with alice, 1 with carol"):
        run(rows)


def test_parties_that_ask_for_different_things_are_told():
    def program(own, keys):
        return lambda session: align(session, own, keys=keys, workers=0)

    programs = {"alice": program(["x"], "row"), "bob": program(["x"], "entity")}
    with pytest.raises(AlignError, match="keys = "):
        run_parties(programs, label_party="bob")
    with pytest.raises(AlignError, match="columns = "):
        run({"alice": ["x"], "bob": pl.DataFrame({"a": ["x"], "b": ["y"]})})


@pytest.mark.parametrize("option", ["protocol", "keys", "duplicates", "nulls"])
def test_an_unknown_protocol_or_option_is_an_error(option):
    with pytest.raises(JobError, match=f"no {option} 'rot13'; there is "):
        run({"alice": ["x"], "bob": ["x"]}, **{option: "rot13"})


def test_a_party_alone_is_an_error():
    with pytest.raises(JobError, match="no partner"):
        align(Session(me="bob", parties=("bob",), label_party="bob"), ["x"])
