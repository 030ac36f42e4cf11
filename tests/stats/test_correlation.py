"""Correlations, VIF and principal components of two parties' columns against the pooled ones."""

import threading

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from isthmus.crypto import he
from isthmus.crypto.side_by_side import Answers, Layout, opened, questions
from isthmus.errors import BadMessage, DataError, IsthmusError, JobError
from isthmus.session import Session, run_parties
from isthmus.stats import correlation, fit_pca
from isthmus.stats.wire import shown_names
from isthmus.stats.words import Words

pytest.importorskip("tenseal")


def tables(rows, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(rows, 2))
    own = common @ rng.normal(size=(2, 3)) + rng.normal(size=(rows, 3))
    partner = common @ rng.normal(size=(2, 2)) + rng.normal(size=(rows, 2))
    # A flag, whose rounding errors do not average out, a heavy tail, another scale.
    flag = (own[:, 0] + rng.normal(size=rows) > 1.5).astype(float)
    tail = np.exp(3 * partner[:, 0]) * 1e-5 + 1e6
    return (
        pl.DataFrame({"a": own[:, 0], "b": own[:, 1] * 1e4, "c": own[:, 2]}),
        pl.DataFrame({"d": partner[:, 1], "flag": flag, "tail": tail}),
    )


def run(function, own, partner, *, bob=None, alice=None, **options):
    programs = {
        "bob": lambda s: function(s, own, **{**options, **(bob or {})}),
        "alice": lambda s: function(s, partner, **{**options, **(alice or {})}),
    }
    return run_parties(programs, label_party="bob")


def pooled(own, partner):
    return np.hstack([own.to_numpy(), partner.to_numpy()])


@pytest.mark.parametrize("rows", [60, 500, 9000])
def test_the_matrix_is_that_of_the_pooled_columns(rows):
    own, partner = tables(rows)
    found = run(correlation, own, partner)
    expected = np.corrcoef(pooled(own, partner), rowvar=False)
    for party in ("bob", "alice"):
        assert found[party].columns == ("a", "b", "c", "d", "flag", "tail")
        assert found[party].parties == ("bob",) * 3 + ("alice",) * 3
        np.testing.assert_allclose(found[party].array(), expected, atol=1e-9)


def test_vif_is_that_of_regressions():
    own, partner = tables(400)
    found = run(correlation, own, partner, names=False)["bob"]
    assert found.columns == ("a", "b", "c", "0", "1", "2")
    x = StandardScaler().fit_transform(pooled(own, partner))
    for column, vif in enumerate(found.vif()):
        rest = np.delete(x, column, axis=1)
        r2 = LinearRegression().fit(rest, x[:, column]).score(rest, x[:, column])
        assert vif == pytest.approx(1 / (1 - r2), rel=1e-6)


def test_a_column_that_both_have_has_no_finite_vif():
    own, partner = tables(300)
    found = run(correlation, own, partner.with_columns(copy=own["a"]))["bob"]
    assert np.isinf(found.vif()).all()
    assert found.array()[0, -1] == pytest.approx(1, abs=1e-9)


def test_the_partner_gets_nothing_unless_shared():
    own, partner = tables(100)
    found = run(correlation, own, partner, share=False)
    assert found["alice"] is None
    assert found["bob"] is not None
    with pytest.raises(JobError, match="share = "):
        run(correlation, own, partner, alice={"share": False})


@pytest.mark.parametrize("covariance", [False, True])
@pytest.mark.parametrize("components", [1, 4, 6])
def test_components_are_those_of_scikit_learn(covariance, components):
    own, partner = tables(500)
    own = own.with_columns(pl.col("b") * 1e-4)
    partner = partner.with_columns(tail=(pl.col("tail") - 1e6 + 1e-3).log())
    found = run(fit_pca, own, partner, components=components, covariance=covariance)
    x = pooled(own, partner)
    if not covariance:
        x = StandardScaler().fit_transform(x)
    oracle = PCA(components, svd_solver="full").fit(x)
    axes = np.hstack([found["bob"].axes, found["alice"].axes])
    signs = np.sign((axes * oracle.components_).sum(axis=1))
    np.testing.assert_allclose(axes * signs[:, None], oracle.components_, atol=1e-6)
    scores = found["bob"].scores(own) + found["alice"].scores(partner)
    np.testing.assert_allclose(scores * signs, oracle.transform(x), atol=1e-6)
    for party in found.values():
        np.testing.assert_allclose(party.variance, oracle.explained_variance_, rtol=1e-6)
        np.testing.assert_allclose(
            party.variance_share, oracle.explained_variance_ratio_, rtol=1e-6
        )
    assert found["alice"].correlation is None


def test_axes_would_tell_the_correlations_of_a_single_column():
    own, partner = tables(300)
    errors = {}

    def fitted(table):
        def program(session):
            try:
                fit_pca(session, table, components=2)
            except DataError as error:
                errors[session.me] = str(error)

        return program

    programs = {"bob": fitted(own.select("a")), "alice": fitted(partner)}
    run_parties(programs, label_party="bob")
    assert set(errors) == {"bob", "alice"}
    assert "bob has one column" in errors["alice"]
    shared = run(fit_pca, own.select("a"), partner, components=2, share=True)
    np.testing.assert_allclose(
        shared["alice"].correlation.array(), shared["bob"].correlation.array()
    )
    with pytest.raises(JobError, match="share = "):
        run(fit_pca, own, partner, components=2, bob={"share": True})


def test_a_label_party_alone():
    own, _ = tables(50)
    alone = Session(me="bob", parties=("bob",), label_party="bob")
    np.testing.assert_allclose(
        correlation(alone, own).array(), np.corrcoef(own.to_numpy(), rowvar=False), atol=1e-12
    )
    fit = fit_pca(alone, own, components=3)
    assert fit.variance.sum() == pytest.approx(fit.total_variance)
    with pytest.raises(DataError, match="no column 'a'"):
        fit.scores(own.drop("a"))
    with pytest.raises(DataError, match="4 components of 3 columns"):
        fit_pca(alone, own, components=4)
    with pytest.raises(JobError, match="0 components"):
        fit_pca(alone, own, components=0)


@pytest.mark.parametrize("rows", [1, 100, 30_000, 10**6, 10**8])
def test_words_cannot_pass_the_range(rows):
    words = Words.of(rows, 12)
    assert words.count == 2
    assert rows != 30_000 or words.f == 17
    numbers = np.array([1.2345678901, -1.0, 0.3])
    high, low = words.split(numbers)
    assert (np.abs(low) <= 2 ** (words.f - 1)).all()
    assert rows * 4**words.f < 2**49
    back = (high + low * 2.0**-words.f) * 2.0**-words.f
    np.testing.assert_allclose(back, numbers, atol=2.0 ** (-2 * words.f))
    few = Words.of(rows, 3)
    assert few.count == 1
    (only,) = few.split(numbers)
    np.testing.assert_allclose(only * 2.0**-few.f, numbers, atol=2.0**-few.f)


def test_too_many_rows_for_any_precision():
    with pytest.raises(DataError, match="too many for the precision"):
        Words.of(2**40, 3)


@settings(max_examples=8, deadline=None)
@given(
    rows=st.sampled_from([1, 2, 7, 63, 300, 9000]),
    asked=st.sampled_from([1, 2, 5, 30]),
    owned=st.sampled_from([1, 3, 12]),
    words=st.sampled_from([1, 2]),
    to_key=st.booleans(),
    seed=st.integers(0, 9),
)
@example(rows=2, asked=1500, owned=3, words=1, to_key=True, seed=0)
@example(rows=9000, asked=5, owned=3, words=2, to_key=False, seed=0)
@example(rows=70_000, asked=12, owned=2, words=2, to_key=False, seed=0)
def test_sums_of_all_pairs_are_exact(rows, asked, owned, words, to_key, seed):
    rng = np.random.default_rng(seed)
    layout = Layout(rows, asked, owned, words, max(asked, owned))
    key = he.HeKey()
    public = he.HePublic(key.public())
    r, x = (
        [rng.integers(-(2**15), 2**15, (rows, count)) for _ in range(words)]
        for count in (asked, owned)
    )
    x[0][:, 0] = 0
    found, off = [], []
    answers, asking = Answers(public, layout, x), questions(key, layout, r)
    for chunk in range(layout.chunks):
        answers.add(chunk, [next(asking) for _ in range(layout.groups)])
    assert not list(asking)
    for group in range(layout.groups):
        sent, masks = answers.masked(group, to_key=to_key)
        assert len(sent) == layout.batches
        # Every slot that the key holder decrypts is masked.
        slots = key.decrypt(sent[0][0])
        assert rows == 1 or (np.abs(slots) > 2**40).mean() > 0.4
        found.append(opened(key, layout, sent))
        off.append(masks)
    sums = he.centred(np.concatenate(found, 2) - np.concatenate(off, 2))[:, :, :asked]
    if to_key:
        assert not np.concatenate(off, 2).any()
    np.testing.assert_array_equal(sums[0], x[0].T @ r[0])
    if words == 2:
        np.testing.assert_array_equal(sums[1], x[1].T @ r[0] + x[0].T @ r[1])


@pytest.mark.parametrize(("rows", "asked", "owned"), [(30_000, 13, 10), (569, 10, 20), (60, 3, 3)])
def test_few_ciphertexts_are_needed(rows, asked, owned):
    layout = Layout(rows, asked, owned, 1, owned)
    least = -(-rows * asked // he.SLOTS)
    assert least <= layout.groups * layout.chunks <= least + 1
    assert layout.groups * layout.batches <= owned


def test_of_many_rows_columns_come_in_groups():
    few, many = (Layout(rows, 20, 20, 2, 20) for rows in (20_000, 1_000_000))
    assert (few.groups, many.side) == (1, 3)
    # What is asked must be the same for all owners, and what is held at a time is bounded.
    wide = [Layout(1_000_000, 200, owned, 2, 400) for owned in (1, 400)]
    assert wide[0].side == wide[1].side
    assert wide[1].groups * wide[1].batches * 2 <= 1024


@pytest.mark.parametrize(("digits", "worst"), [(3, 1e-3), (5, 1e-5), (9, 1e-9)])
def test_as_many_digits_as_are_asked_for(digits, worst):
    own, partner = tables(9000)
    meters = []

    def metered(session, table):
        found = correlation(session, table, digits=digits)
        meters.extend(link.meter.snapshot() for link in session.links.values())
        return found

    found = run(metered, own, partner)["bob"].array()
    gap = np.abs(found - np.corrcoef(pooled(own, partner), rowvar=False)).max()
    assert gap < worst
    assert digits == 9 or gap > 1e-12
    # Three of bob's columns side by side: 4 chunks of rows; and 3 answers.
    sent = sum(topic.sent_bytes for meter in meters for topic in meter.values())
    ciphers = (4 + 3) * (2 if digits == 9 else 1)
    assert sent == pytest.approx(ciphers * 432_500 + 541_800, rel=0.02)
    with pytest.raises(JobError, match="0 decimals"):
        run(correlation, own, partner, digits=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d": 1.5}, "'d' does not vary"),
        ({"d": None}, "'d' has 60 missing"),
        ({"d": "x"}, "'d' has no numbers"),
    ],
)
def test_columns_that_cannot_be_used(change, said):
    own, partner = tables(60)
    partner = partner.with_columns(**{name: pl.lit(value) for name, value in change.items()})
    with pytest.raises(DataError, match=said):
        run(correlation, own, partner)


def test_too_few_rows_for_the_columns_of_the_others():
    own, partner = tables(29)
    for fewer in ({}, {"share": False}):
        with pytest.raises(DataError, match="29 rows are too few for 3 columns of"):
            run(correlation, own, partner, **fewer)
    # Three columns of alice's say nothing to her where nothing is shared.
    assert run(correlation, own.select("a", "b"), partner, share=False)["bob"] is not None
    with pytest.raises(DataError, match="29 rows are too few for 3 columns of alice"):
        run(correlation, own.select("a", "b"), partner)


def many(function, tables, **options):
    def program(table):
        return lambda s: function(s, table, **options)

    programs = {name: program(table) for name, table in tables.items()}
    return run_parties(programs, label_party="bob")


def four(rows):
    own, partner = tables(rows)
    third, fourth = tables(rows, seed=1)
    fourth = fourth.with_columns(d=fourth["d"] + partner["d"])
    return {
        "bob": own,
        "alice": partner,
        "carol": third.select("a", "b").with_columns(b=third["b"] * 1e-3 + own["a"]),
        "dave": fourth.select("d"),
    }


@pytest.mark.parametrize("rows", [200, 9000])
def test_four_parties_have_the_pooled_matrix(rows):
    given = four(rows)
    found = many(correlation, given)
    expected = np.corrcoef(np.hstack([t.to_numpy() for t in given.values()]), rowvar=False)
    for one in found.values():
        assert one == found["bob"]
        assert one.parties == ("bob",) * 3 + ("alice",) * 3 + ("carol",) * 2 + ("dave",)
        assert one.columns == ("a", "b", "c", "d", "flag", "tail", "a", "b", "d")
        np.testing.assert_allclose(one.array(), expected, atol=1e-9)


def test_feature_parties_learn_nothing_unless_shared():
    given = four(150)
    found = many(correlation, given, share=False)
    assert found["bob"] is not None
    assert found["alice"] is found["carol"] is found["dave"] is None


@pytest.mark.parametrize("covariance", [False, True])
def test_components_of_three_parties(covariance):
    given = {name: table for name, table in four(300).items() if name != "alice"}
    given["bob"] = given["bob"].select(pl.col("b") * 1e-4)
    found = many(fit_pca, given, components=3, covariance=covariance)
    x = np.hstack([t.to_numpy() for t in given.values()])
    if not covariance:
        x = StandardScaler().fit_transform(x)
    oracle = PCA(3, svd_solver="full").fit(x)
    scores = sum(found[name].scores(table) for name, table in given.items())
    signs = np.sign((scores * oracle.transform(x)).sum(axis=0))
    np.testing.assert_allclose(scores * signs, oracle.transform(x), atol=1e-6)
    np.testing.assert_allclose(found["dave"].variance, oracle.explained_variance_, rtol=1e-6)


def test_what_the_label_party_carries_it_cannot_open():
    """Between two partners it holds ciphertexts of another's key, and sums that are masked."""
    given = four(200)
    seen = {}

    def watched(session):
        for link in session.links.values():
            link.recv = _noting(link.recv, link.partner, seen)
        return correlation(session, given["bob"], share=False)

    programs = {
        name: (lambda s, t=table: correlation(s, t, share=False)) for name, table in given.items()
    }
    run_parties({**programs, "bob": watched}, label_party="bob")
    opened_ = [sums for (_, topic), sums in seen.items() if topic == "correlation.opened"]
    assert opened_
    for sums in [*opened_, *(s for (_, t), s in seen.items() if t == "correlation.masks")]:
        values = np.concatenate([one.ravel() for one in sums])
        assert (np.abs(values) > 2**40).mean() > 0.9
        # Each has a mask of its own.
        assert np.unique(values).size == values.size


def test_answers_wait_for_their_turn():
    """One that answers while another's answers are awaited would fill the label party's window."""
    given = {name: table for name, table in four(200).items() if name != "dave"}
    said, sent = [], threading.Event()

    def watched(name):
        def program(session):
            link = session.hub
            send = link.send

            def noting(topic, *rest, **options):
                if topic == "correlation.answers" and name == "alice" and not said:
                    sent.wait(0.5)
                send(topic, *rest, **options)
                if topic == "correlation.answers":
                    said.append(name)
                    if name == "carol":
                        sent.set()

            link.send = noting
            return correlation(session, given[name])

        return program

    programs = {name: watched(name) for name in ("alice", "carol")}
    run_parties(
        {"bob": lambda s: correlation(s, given["bob"]), **programs},
        label_party="bob",
    )
    # Carol's are last: those to bob, and then those to what alice asks.
    assert said == ["alice", "carol", "carol"]


def _noting(recv, partner, seen):
    def noting(topic, **options):
        message = recv(topic, **options)
        if "sums" in message.tensors:
            seen.setdefault((partner, topic), []).append(np.array(message.tensors["sums"]))
        return message

    return noting


HELLO = {"rows": 60, "columns": 2, "same": {"share": True, "digits": 9}}


def hostile_partner(inner, names=("x", "y"), products=0):
    def hostile(session):
        link = session.hub
        link.send("correlation.hello", header=HELLO)
        public = he.HePublic(link.recv("correlation.key").tensors["key"])
        # One answer for both columns, and each of the two words.
        answer = he.pack([public.encrypt(np.array([products]))] * 2)
        link.send("correlation.answers", answer)  # before it is asked for
        link.send("correlation.own", {"matrix": inner, "names": shown_names(names)})
        link.recv("never")

    return hostile


@pytest.mark.parametrize(
    ("inner", "more"),
    [
        (np.eye(2) * 3, {}),
        (np.array([[1, 0.5], [0.2, 1]]), {}),
        (np.array([[1, np.nan], [np.nan, 1]]), {}),
        (np.eye(3), {}),
        (np.eye(2), {"names": ("x", "x")}),
        (np.eye(2), {"products": 2**48}),
    ],
)
def test_what_cannot_be_correlations_is_refused(inner, more):
    own = {"a": np.arange(60.0)}
    errors = []

    def honest(session):
        try:
            correlation(session, own)
        except IsthmusError as error:
            errors.append(error)
            raise

    with pytest.raises(IsthmusError):
        run_parties(
            {"hostile": hostile_partner(inner, **more), "honest": honest}, label_party="honest"
        )
    assert isinstance(errors[0], BadMessage)
    assert "hostile sent" in str(errors[0])


def tampered(who, topic, change):
    """Three honest programs, of which one sends something else under a topic; who refused it."""
    given = {name: table for name, table in four(200).items() if name != "dave"}
    refused = {}

    def program(name, table):
        def run_(session):
            if name == who:
                for link in session.links.values():
                    link.send = _changing(link.send, topic, change)
            try:
                correlation(session, table)
            except BadMessage as error:
                refused[name] = str(error)
                raise

        return run_

    with pytest.raises(BadMessage):
        run_parties({n: program(n, t) for n, t in given.items()}, label_party="bob")
    return refused


def _changing(send, topic, change):
    def changing(sent, tensors=None, **options):
        if sent == topic:
            tensors = {name: change(np.array(value)) for name, value in tensors.items()}
        return send(sent, tensors, **options)

    return changing


@pytest.mark.parametrize(
    ("who", "topic", "change", "by"),
    [
        ("bob", "correlation.columns", lambda x: x + 1, "alice"),
        ("bob", "correlation.columns", lambda x: x * [1, 1, -1], "alice"),
        ("bob", "correlation.key", lambda x: x[:-5], "alice"),
        ("bob", "correlation.asked", lambda x: x[:1], "alice"),
        ("bob", "correlation.shared", lambda x: x * 1.5, "alice"),
        ("bob", "correlation.shared", lambda x: np.eye(len(x)), "alice"),
        ("bob", "correlation.names", lambda x: x[:-1], "alice"),
        ("carol", "correlation.answers", lambda x: x[:1], "bob"),
        ("carol", "correlation.masks", lambda x: x + he.MODULUS, "bob"),
        ("carol", "correlation.masks", lambda x: np.full_like(x, np.iinfo(np.int64).min), "bob"),
        ("carol", "correlation.masks", lambda x: -x, "bob"),
        ("alice", "correlation.opened", lambda x: x.astype(float), "bob"),
        ("alice", "correlation.key", lambda x: x[:100], "carol"),
    ],
)
def test_a_message_that_cannot_be_is_refused(who, topic, change, by):
    assert by in tampered(who, topic, change)


def test_components_of_correlations_at_hand():
    own, partner = tables(300)
    joint = run(correlation, own, partner, share=False)
    fresh = run(fit_pca, own, partner, components=3)

    def again(**changes):
        given = {"bob": {"joint": joint["bob"]}, "alice": {"joint": None}} | changes
        return run(fit_pca, own, partner, components=3, reuse=True, **given)

    for party, found in again().items():
        np.testing.assert_allclose(found.axes, fresh[party].axes, atol=1e-9)
        np.testing.assert_allclose(found.variance, fresh[party].variance, atol=1e-9)
    other = run(correlation, own.select("b", "a", "c"), partner, share=False)["bob"]
    for wrong in (None, other, run(correlation, *tables(299))["bob"]):
        with pytest.raises(DataError, match="of other columns or rows"):
            again(bob={"joint": wrong})
    with pytest.raises(JobError, match="reuse = "):
        again(bob={"reuse": False})


def test_a_party_asks_another_when_the_label_party_has_time():
    """It has not while it waits for answers of its own, and what is asked may fill the window."""
    given = four(200)
    order = []

    def noted(session):
        links = list(session.links.values())
        for link in links:
            link.send = _sending(link.send, link.partner, order)
            link.recv = _receiving(link.recv, link.partner, order)
        return correlation(session, given["bob"])

    programs = {name: (lambda s, t=table: correlation(s, t)) for name, table in given.items()}
    run_parties({**programs, "bob": noted}, label_party="bob")
    for holder in ("alice", "carol"):
        asked = [at for at, one in enumerate(order) if one == ("of", holder, "correlation.asked")]
        turns = [at for at, one in enumerate(order) if one == ("to", holder, "correlation.turn")]
        # Behind its turns to answer, which are as many as holders before it.
        turn = turns[("alice", "carol").index(holder) + 1]
        assert turn < min(asked)
        own = [at for at, one in enumerate(order) if one == ("of", "dave", "correlation.answers")]
        assert min(own) < turn
    # To answer bob, and alice; what carol asks goes to dave alone. The last asks nothing.
    assert order.count(("to", "dave", "correlation.turn")) == 2


def _sending(send, partner, order):
    def noting(topic, *given, **other):
        order.append(("to", partner, topic))
        send(topic, *given, **other)

    return noting


def _receiving(recv, partner, order):
    def noting(topic, **options):
        message = recv(topic, **options)
        order.append(("of", partner, topic))
        return message

    return noting
