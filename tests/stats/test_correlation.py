"""Correlations, VIF and principal components of two parties' columns against the pooled ones."""

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from isthmus.errors import BadMessage, DataError, IsthmusError, JobError
from isthmus.session import Session, run_parties
from isthmus.stats import correlation, fit_pca
from isthmus.stats.correlation import _Words
from isthmus.stats.wire import shown_names

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
    words = _Words.of(rows)
    assert rows != 30_000 or words.f == 17
    high, low = words.split(np.array([1.2345678901, -1.0, 0.3]))
    assert (np.abs(low) <= 2 ** (words.g - 1)).all()
    assert rows * 4**words.f < 2**49
    back = (high + low * 2.0**-words.g) * 2.0**-words.f
    np.testing.assert_allclose(back, [1.2345678901, -1.0, 0.3], atol=2.0 ** (-2 * words.f))


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


def test_too_few_rows_for_the_label_partys_columns():
    own, partner = tables(29)
    with pytest.raises(DataError, match="29 rows are too few for 3 columns of bob"):
        run(correlation, own, partner)


def test_three_parties_are_refused():
    own, partner = tables(60)
    programs = {
        "bob": lambda s: correlation(s, own),
        "alice": lambda s: correlation(s, partner),
        "carol": lambda s: correlation(s, partner),
    }
    with pytest.raises(JobError, match="between two parties, and there are 3"):
        run_parties(programs, label_party="bob")


HELLO = {"rows": 60, "columns": 2, "same": {"share": True}}


def hostile_partner(inner, names=("x", "y"), products=0):
    from isthmus.crypto import he

    def hostile(session):
        link = session.hub
        link.send("correlation.hello", header=HELLO)
        public = he.HePublic(link.recv("correlation.key").tensors["key"])
        answer = he.pack([public.encrypt(np.array([products]))])
        for _ in range(2):
            link.send("correlation.products", answer)  # the second before it is asked for
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
