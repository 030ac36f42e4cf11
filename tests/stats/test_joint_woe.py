"""WOE and IV of a partner's columns: as if pooled, and what each side gets to see."""

import threading
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from isthmus.crypto import he
from isthmus.errors import BadMessage, DataError, IsthmusError, JobError, LinkError
from isthmus.link import Transcript, memory_links
from isthmus.session import Session, run_parties
from isthmus.stats import BinningOptions, Disclosure, WoeFit, fit_bins, fit_woe, woe_table
from isthmus.stats.columns import read
from isthmus.stats.packing import Packing
from isthmus.stats.weighted import FINEST, fixed
from isthmus.stats.wire import shown_names

pytest.importorskip("tenseal")

RNG = np.random.default_rng(11)


def tables(rows, seed=0):
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows)
    x = np.where(rng.random(rows) < 0.1, np.nan, score + rng.normal(size=rows))
    city = np.array(["ulm", "bonn", "kiel", "jena"])[rng.integers(0, 4, rows)]
    partner = pl.DataFrame({"x": x, "city": city, "n": rng.integers(0, 3, rows)})
    own = pl.DataFrame({"own": score * 0.3 + rng.normal(size=rows)})
    return own, partner, (score + rng.normal(size=rows) > 0.8).astype(np.int8)


def run(own, partner, label, *, options=None, told=None, shown=None, others=None):
    options = options or BinningOptions(bins=5)
    programs = {
        "bob": lambda s: fit_woe(s, own, label=label, options=options, disclosure=told),
        "alice": lambda s: fit_woe(s, partner, options=options, disclosure=shown),
    }
    for name, table in (others or {}).items():
        programs[name] = lambda s, table=table: fit_woe(s, table, options=options)
    return run_parties(programs, label_party="bob")


@pytest.mark.parametrize("rows", [300, 9000])
@pytest.mark.parametrize("method", ["quantile", "chi", "monotone"])
def test_tables_are_those_of_the_pooled_computation(rows, method):
    own, partner, label = tables(rows)
    options = BinningOptions(bins=5, method=method)
    found = run(own, partner, label, options=options)
    pooled = fit_bins(partner, options, label.astype(bool))
    theirs = {c.column: c for c in found["bob"].columns if c.party == "alice"}
    assert list(theirs) == partner.columns
    for name, bins in pooled.items():
        codes = bins.codes(read(partner[name]))
        hits = np.bincount(codes[label == 1], minlength=bins.count)
        expected = woe_table(np.bincount(codes), hits)
        assert theirs[name].table == expected
        assert theirs[name].bins is None
    for column in found["alice"].columns:
        assert column.bins == pooled[column.column]
        assert column.iv <= theirs[column.column].iv + 5e-4
        if rows == 9000:
            assert column.iv == round(theirs[column.column].iv, 3)
        assert column.woe is column.table is None
    assert [c.column for c in found["bob"].own()] == ["own"]


WEIGHTS = {
    "whole": lambda rng, rows: rng.integers(0, 5, rows),
    "cents": lambda rng, rows: rng.integers(1, 500, rows) / 100,
    "real": lambda rng, rows: rng.gamma(2.0, size=rows) * 1e4,
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("method", ["quantile", "chi", "monotone"])
def test_weighted_tables_are_those_of_the_pooled_computation(kind, method):
    own, partner, label = tables(900)
    weights = WEIGHTS[kind](np.random.default_rng(1), label.size)
    options = BinningOptions(bins=5, method=method)
    programs = {
        "bob": lambda s: fit_woe(
            s, own, label=label, weights=weights, weighted=True, options=options,
            disclosure=Disclosure(tell="woe"),
        ),
        "alice": lambda s: fit_woe(s, partner, options=options, weighted=True),
        "carol": lambda s: fit_woe(s, partner.select("x"), options=options, weighted=True),
    }  # fmt: skip
    found = run_parties(programs, label_party="bob")
    told = {(c.party, c.column): c for name in ("alice", "carol") for c in found[name].columns}
    columns = {"bob": own, "alice": partner, "carol": partner}
    for column in found["bob"].columns:
        owner = column if column.party == "bob" else told[column.party, column.column]
        codes = owner.bins.codes(read(columns[column.party][column.column]))
        # The definition, straight from the rows.
        p, n = (
            np.array([weights[(codes == b) & (label == of)].sum() for b in range(codes.max() + 1)])
            for of in (1, 0)
        )
        share, other = p / weights[label == 1].sum(), n / weights[label == 0].sum()
        np.testing.assert_allclose(column.woe, np.log(share / other), atol=1e-6)
        assert column.iv == pytest.approx(((share - other) * np.log(share / other)).sum(), abs=1e-6)
        np.testing.assert_allclose(column.table.weights, p + n, rtol=1e-6)
        assert column.table.rows == tuple(np.bincount(codes).tolist())
        np.testing.assert_allclose(owner.woe, column.woe)
        if method == "monotone" and column.column in ("own", "x"):
            rates = (p / (p + n))[: owner.bins.values]
            assert (np.diff(rates) >= 0).all() or (np.diff(rates) <= 0).all()
    assert WoeFit.from_json(found["bob"].to_json()) == found["bob"]


def test_weights_of_one_are_no_weights():
    own, partner, label = tables(500)
    programs = {
        "bob": lambda s: fit_woe(s, own, label=label, weights=np.ones(500), weighted=True),
        "alice": lambda s: fit_woe(s, partner, weighted=True),
    }
    found = run_parties(programs, label_party="bob")
    plain = run(own, partner, label, options=BinningOptions())
    for one, other in zip(found["bob"].columns, plain["bob"].columns, strict=True):
        assert (one.iv, one.woe, one.bins) == (other.iv, other.woe, other.bins)


@pytest.mark.parametrize(
    ("weights", "said"),
    [(np.ones(3), "shape"), (-np.ones(40), "not negative"), (np.full(40, np.nan), "finite")],
)
def test_weights_that_are_none_are_refused(weights, said):
    alone = Session(me="bob", parties=("bob",), label_party="bob")
    label = np.arange(40) % 2
    with pytest.raises(DataError, match=said):
        fit_woe(alone, {"a": np.arange(40.0)}, label=label, weights=weights, weighted=True)
    with pytest.raises(JobError, match="weights are given by the label party"):
        fit_woe(alone, {"a": np.arange(40.0)}, label=label, weights=np.ones(40))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_weights_become_whole_numbers(size):
    given = np.random.default_rng(2).gamma(1.0, size=5000) * size
    found = fixed(given, 5000)
    assert found.whole.mean() <= FINEST * 1.01
    np.testing.assert_allclose(found.whole / found.scale, given, atol=given.mean() * 1e-6)
    assert found.most >= found.whole.sum()
    assert found.most < he.HALF
    exact = fixed(given.round(2) if size == 1 else np.arange(5000) % 7, 5000)
    assert (
        exact.whole / exact.scale == (given.round(2) if size == 1 else np.arange(5000) % 7)
    ).all()


def test_parties_that_do_not_agree_on_weights_stop():
    own, partner, label = tables(300)
    for here, there in ((True, False), (False, True)):
        programs = {
            "bob": lambda s, here=here: fit_woe(
                s, own, label=label, weights=np.ones(300) if here else None, weighted=here
            ),
            "alice": lambda s, there=there: fit_woe(s, partner, weighted=there),
        }
        with pytest.raises(JobError, match="weighted = "):
            run_parties(programs, label_party="bob")


def test_of_weights_a_partner_learns_the_magnitude_alone():
    own, partner, label = tables(300)
    given, heard = np.full(300, 3.0), {}

    def alice(session):
        link, recv = session.hub, session.hub.recv

        def noting(topic, **options):
            message = recv(topic, **options)
            heard.setdefault(topic, []).append(message)
            return message

        link.recv = noting
        return fit_woe(session, partner, weighted=True)

    programs = {
        "bob": lambda s: fit_woe(s, own, label=label, weights=given, weighted=True),
        "alice": alice,
    }
    run_parties(programs, label_party="bob")
    assert [message.header for message in heard["woe.weight"]] == [{"most": 1023}] * 2


def test_told_the_woe_the_partner_transforms_its_columns():
    own, partner, label = tables(400)
    found = run(own, partner, label, told=Disclosure(tell="woe"))
    theirs = {c.column: c for c in found["bob"].columns if c.party == "alice"}
    wide = found["alice"].transform(partner)
    assert wide.columns == partner.columns
    codes = found["alice"].codes(partner)
    for name, column in theirs.items():
        np.testing.assert_array_equal(wide[name], np.array(column.woe)[codes[name]])
    with pytest.raises(DataError, match="no column 'x'"):
        found["alice"].transform(partner.drop("x"))


def test_no_bin_of_one_class_is_told():
    partner = pl.DataFrame({"x": np.repeat(np.arange(10.0), 40), "gap": [None] * 40 + [1.0] * 360})
    label = (np.arange(400) >= 320).astype(int)  # the last two values are all positive
    label[::40] = 1
    told = run(pl.DataFrame(), partner, label, told=Disclosure(tell="woe", least_class=10))
    for column in told["bob"].columns:
        rows, hits = np.array(column.table.rows), np.array(column.table.positives)
        assert (hits >= 10).all()
        assert (rows - hits >= 10).all()
        assert rows.sum() == 400
    assert told["alice"].columns[0].bins.count == len(told["bob"].columns[0].woe)


def test_the_iv_that_is_told_is_of_bins_with_both_classes():
    partner = pl.DataFrame({"x": np.repeat(np.arange(4.0), 50)})
    label = np.zeros(200, int)
    label[30:100] = 1  # the second value is all positive, the third and fourth have none
    label[100] = 1
    found = run(pl.DataFrame(), partner, label)
    (mine,), (told,) = found["bob"].columns, found["alice"].columns
    assert mine.table.positives == (20, 50, 1, 0)
    assert told.bins.count == 4
    assert told.iv < mine.iv
    for least, expected in ((1, woe_table([50, 150], [20, 51])), (5, woe_table([200], [71]))):
        (told,) = run(pl.DataFrame(), partner, label, told=Disclosure(least_class=least))[
            "alice"
        ].columns
        assert told.iv == round(expected.total_iv, 3)


def test_keep_alone_is_told_of_a_selection():
    own, partner, label = tables(500)
    found = run(own, partner, label, told=Disclosure(tell="keep", least_iv=0.1))
    kept = {c.column for c in found["alice"].selected()}
    assert kept == {c.column for c in found["bob"].selected() if c.party == "alice"} == {"x"}
    assert all(c.iv is c.woe is None for c in found["alice"].columns)
    assert found["alice"].ivs()["iv"].to_list() == [None] * 3
    with pytest.raises(JobError, match="WOE of 'x' is not known to alice"):
        found["alice"].transform(partner)


def test_columns_go_by_numbers_where_names_are_not_shown():
    own, partner, label = tables(300)
    found = run(own, partner, label, shown=Disclosure(names=False))
    assert [c.column for c in found["bob"].columns] == ["own", "0", "1", "2"]
    assert [c.column for c in found["alice"].columns] == partner.columns


def test_three_parties_and_a_label_party_without_columns():
    _, partner, label = tables(300)
    more = pl.DataFrame({"z": label + RNG.normal(size=300)})
    empty = pl.DataFrame()
    found = run(
        empty, partner, label, others={"carol": more, "dora": pl.DataFrame({"k": more["z"]})}
    )
    assert {c.party for c in found["bob"].columns} == {"alice", "carol", "dora"}
    assert [c.column for c in found["carol"].columns] == ["z"]


def test_edges_that_the_owner_gave_stay():
    own, partner, label = tables(300)
    free = BinningOptions(method="monotone", bins=5)
    cut = replace(free, edges={"x": [-1.0, 0.0, 1.0]})
    programs = {
        "bob": lambda s: fit_woe(s, own, label=label, options=free),
        "alice": lambda s: fit_woe(s, partner, options=cut),
    }
    found = run_parties(programs, label_party="bob")
    assert found["alice"].columns[0].bins.edges == (-1.0, 0.0, 1.0)
    assert found["alice"].columns[0].bins.count == 5  # four and the missing


def test_neither_label_nor_values_cross():
    own, partner, label = tables(300)
    sent = {"alice": Transcript(payload=True), "bob": Transcript(payload=True)}
    to_bob, to_alice = memory_links("alice", "bob", transcripts=(sent["alice"], sent["bob"]))
    sessions = {
        name: Session(me=name, parties=("alice", "bob"), label_party="bob", links=links)
        for name, links in (("alice", {"bob": to_bob}), ("bob", {"alice": to_alice}))
    }
    other = threading.Thread(target=lambda: fit_woe(sessions["alice"], partner))
    other.start()
    fit_woe(sessions["bob"], own, label=label)
    other.join()
    topics = {name: [entry.topic for entry in one.entries] for name, one in sent.items()}
    assert topics["alice"] == ["woe.hello", "woe.bins", "woe.sums"]
    assert topics["bob"] == ["woe.hello", "woe.key", "woe.label", "woe.result"]


def test_a_cell_below_the_minimum_is_never_shown():
    rare = pl.DataFrame({"x": ["a"] * 290 + ["b"] * 7 + [None] * 3})
    label = np.arange(300) % 2
    found = run(pl.DataFrame(), rare, label, options=BinningOptions(least=10))
    (column,) = found["bob"].columns
    assert column.table.rows == (300,)
    found = run(pl.DataFrame(), rare, label, options=BinningOptions(least=7))
    assert found["bob"].columns[0].table.rows == (293, 7)


def test_the_label_party_tells_nothing_of_bins_smaller_than_its_own_minimum():
    label, partner = np.arange(300) % 2, {"x": np.repeat([0.0, 1.0], [293, 7])}
    programs = {
        "bob": lambda s: fit_woe(s, {}, label=label, options=BinningOptions(least=8)),
        "alice": lambda s: fit_woe(s, partner, options=BinningOptions(least=7)),
    }
    with pytest.raises(DataError, match="alice has bins of 7 rows; bob tells nothing"):
        run_parties(programs, label_party="bob")


@pytest.mark.parametrize("rows", [1, 7, 300, 30_000, 10**6, 2**31 - 1])
def test_bins_share_sums_without_loss(rows):
    packing = Packing(rows)
    hits = np.array([rows, 0, min(rows, 5), rows, 1, 0, rows])
    weights = np.array(
        [
            [packing.weights(np.array([b], np.int32), p)[0] for b in range(7)]
            for p in range(packing.sums(7))
        ]
    )
    assert packing.digits(weights @ hits, 7).tolist() == hits.tolist()
    assert packing.base**packing.together < 2**49


def test_tables_of_different_length_or_options_are_refused():
    own, partner, label = tables(300)
    with pytest.raises(DataError, match=r"alice comes with 299 rows|bob comes with 300 rows"):
        run(own, partner[:299], label)

    def program(method, label=None):
        options = BinningOptions(method=method)
        table = partner if label is None else own
        return lambda s: fit_woe(s, table, label=label, options=options)

    programs = {"bob": program("chi", label), "alice": program("quantile")}
    with pytest.raises(JobError, match="method = "):
        run_parties(programs, label_party="bob")
    with pytest.raises(JobError, match="alice must not have a label"):
        run_parties(
            {"bob": program("chi", label), "alice": program("chi", label)}, label_party="bob"
        )
    with pytest.raises(JobError, match="nothing called 'all'"):
        Disclosure(tell="all")


SAME = {"method": "quantile", "bins": 10, "adjustment": 0.5}
HELLO = {"rows": 40, "columns": 1, "same": SAME}
ABOUT = np.array([[2, 2, 1, 1]], np.int32)
ROWS = np.array([20, 20])


def against_label_party(partner):
    errors = []

    def honest(session):
        try:
            fit_woe(session, {"own": np.arange(40.0)}, label=np.arange(40) % 2)
        except IsthmusError as error:
            errors.append(error)
            raise

    def hostile(session):
        partner(session.hub)
        session.hub.recv("never")

    with pytest.raises(IsthmusError):
        run_parties({"hostile": hostile, "honest": honest}, label_party="honest")
    raise errors[0]


@pytest.mark.parametrize(
    ("tensors", "names"),
    [
        ({"about": ABOUT, "rows": ROWS + 1}, ["x"]),
        ({"about": ABOUT, "rows": np.array([0, 40])}, ["x"]),
        ({"about": ABOUT, "rows": np.array([-1, 41])}, ["x"]),
        ({"about": ABOUT, "rows": ROWS[:1]}, ["x"]),
        ({"about": ABOUT, "rows": ROWS.astype(float)}, ["x"]),
        ({"about": ABOUT * 2, "rows": np.array([10, 10, 10, 10])}, ["x"]),
        ({"about": ABOUT * -1, "rows": ROWS}, ["x"]),
        ({"about": ABOUT[:, :3], "rows": ROWS}, ["x"]),
        ({"rows": ROWS}, ["x"]),
        ({"about": ABOUT, "rows": ROWS}, ["x", "y"]),
        ({"about": ABOUT, "rows": ROWS}, [7]),
        ({"about": ABOUT, "rows": ROWS}, [""]),
        ({"about": ABOUT, "rows": ROWS}, ["x" * 201]),
        ({"about": ABOUT, "rows": ROWS}, [["x"]]),
    ],
)
def test_impossible_bins_are_refused(tensors, names):
    def partner(link):
        link.send("woe.hello", header=HELLO)
        link.send("woe.bins", {**tensors, "names": shown_names(names)})

    with pytest.raises(BadMessage, match=r"hostile sent woe\.bins"):
        against_label_party(partner)


@pytest.mark.parametrize("hello", [{}, {**HELLO, "rows": True}, {**HELLO, "same": 3}])
def test_an_impossible_greeting_is_refused(hello):
    with pytest.raises(BadMessage, match=r"hostile sent woe\.hello"):
        against_label_party(lambda link: link.send("woe.hello", header=hello))


def test_sums_that_are_none_are_refused():
    from isthmus.crypto import he

    def partner(link, mine):
        link.send("woe.hello", header=HELLO)
        link.send("woe.bins", {"about": ABOUT, "rows": ROWS, "names": shown_names(["x"])})
        public = he.HePublic(link.recv("woe.key").tensors["key"])
        link.send("woe.sums", mine(public))

    def of_five(public):
        return he.pack([public.encrypt(np.array([5]))])

    with pytest.raises(BadMessage, match="cannot be those of its bins"):
        against_label_party(lambda link: partner(link, of_five))
    with pytest.raises(BadMessage, match="1 ciphertexts were expected"):
        against_label_party(lambda link: partner(link, lambda public: he.pack([])))


GROUPS, KEEP = np.array([0, 1], np.int32), np.ones(1, np.uint8)


@pytest.mark.parametrize(
    ("tensors", "tell"),
    [
        ({"groups": GROUPS, "keep": KEEP}, "all"),
        ({"groups": GROUPS, "keep": KEEP}, None),
        ({"groups": GROUPS[::-1], "keep": KEEP}, "keep"),
        ({"groups": GROUPS + 1, "keep": KEEP}, "keep"),
        ({"groups": GROUPS - 1, "keep": KEEP}, "keep"),
        ({"groups": GROUPS[:1], "keep": KEEP}, "keep"),
        ({"groups": GROUPS, "keep": KEEP * 2}, "keep"),
        ({"groups": GROUPS, "keep": KEEP}, "iv"),
        ({"groups": GROUPS, "keep": KEEP, "iv": np.array([np.nan])}, "iv"),
        ({"groups": GROUPS, "keep": KEEP, "iv": np.ones(1), "woe": np.ones(3)}, "woe"),
    ],
)
def test_an_impossible_result_is_refused(tensors, tell):
    from isthmus.crypto import he, products

    errors = []

    def honest(session):
        try:
            fit_woe(session, {"x": np.repeat([0.0, 1.0], 20)})
        except LinkError as error:
            errors.append(error)
            raise

    def hostile(session):
        (link,) = session.links.values()
        link.send("woe.hello", header=HELLO)
        key = he.HeKey()
        link.send("woe.key", {"key": key.public()})
        shape = products.Shape(40, he.SLOTS)
        link.send("woe.label", he.pack(products.encrypted(key, shape, np.arange(40) % 2)))
        link.send("woe.result", tensors, header={"tell": tell})
        link.recv("never")

    with pytest.raises(LinkError):
        run_parties({"honest": honest, "hostile": hostile}, label_party="hostile")
    assert isinstance(errors[0], BadMessage)
    assert "hostile sent" in str(errors[0])
