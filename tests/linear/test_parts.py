"""Losses, whitening and fixed point, each by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.linear.pooled import columns

from isthmus.crypto.he import HALF
from isthmus.errors import DataError, JobError
from isthmus.linear import FAMILIES, LinearOptions, span
from isthmus.linear.precision import MOST_ROWS, Precision
from isthmus.linear.span import Span

LABELS = {
    "logistic": [0.0, 1.0],
    "linear": [-3.0, 2.0],
    "poisson": [0.0, 4.0],
    "gamma": [0.1, 9.0],
    "tweedie": [0.0, 2.5],
}


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=30)
@given(eta=st.floats(-6, 6), which=st.integers(0, 1))
def test_derivatives_are_those_of_the_loss(name, eta, which):
    family, y = FAMILIES[name](1.3), np.array([LABELS[name][which]])
    e, h = np.array([eta]), 1e-5
    slope = (family.loss(y, e + h) - family.loss(y, e - h)) / (2 * h)
    np.testing.assert_allclose(-family.residual(y, e), slope, rtol=1e-5, atol=1e-6)
    bend = (family.residual(y, e - h) - family.residual(y, e + h)) / (2 * h)
    np.testing.assert_allclose(family.curvature(y, e), bend, rtol=1e-5, atol=1e-6)
    # Where the label is what is expected of it, the curvature is the expected one.
    mean = family.mean(e)
    np.testing.assert_allclose(family.curvature(mean, e), family.information(e), rtol=1e-9)
    assert family.link(float(mean[0])) == pytest.approx(eta, abs=1e-6)


def test_logistic_keeps_its_digits_far_out():
    family = FAMILIES["logistic"](0.0)
    far = np.array([-1000.0, 1000.0])
    np.testing.assert_array_equal(family.mean(far), [0.0, 1.0])
    np.testing.assert_array_equal(family.loss(np.array([0.0, 1.0]), far), [0.0, 0.0])


@given(rows=st.integers(1, MOST_ROWS))
def test_no_number_of_rows_overflows(rows):
    bits = Precision.of(rows)
    assert rows << (bits.residual + bits.column) <= HALF
    assert rows << (bits.residual + bits.column + 1) > HALF


def test_too_many_rows_are_refused():
    with pytest.raises(JobError, match="more than the"):
        Precision.of(MOST_ROWS + 1)


@given(
    values=st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=20),
    rows=st.integers(20, 10**6),
)
def test_numbers_stay_within_their_bits(values, rows):
    bits = Precision.of(rows)
    # What float64 holds beside subnormal numbers.
    array = np.where(np.abs(values) < 1e-280, 0.0, values)
    whole, exponent = bits.residuals(array)
    assert np.abs(whole).max() <= 1 << bits.residual
    unit = np.ldexp(1.0, exponent)
    np.testing.assert_allclose(whole * unit, array, atol=unit / 2)
    if array.any():
        assert unit * (1 << bits.residual) <= 2 * np.abs(array).max()
    columns = np.column_stack([array, np.ones(len(array))])[:, int(not array.any()) :]
    cut, units = bits.columns(columns)
    assert np.abs(cut).max() == 1 << bits.column
    np.testing.assert_allclose(cut * units, columns, atol=units.max() * 0.51)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_basis_is_orthonormal_in_curvature_and_penalty(l2, intercept):
    x, _ = columns(200, 5)
    x = np.column_stack([x, x[:, 0] + x[:, 1], np.zeros(200)])
    span = Span(x, LinearOptions(l2=l2, intercept=intercept))
    assert span.rank == 5
    span.whiten(0.2)
    rng = np.random.default_rng(1)
    first = span.show(rng.normal(size=5))
    shown = np.column_stack([first, span.show(rng.normal(size=5)), span.show_rest()])
    centred = shown - shown.mean(axis=0) if intercept else shown
    gram = 0.2 * centred.T @ centred / 200
    weights = np.stack([span.coefficients(one) for one in np.eye(5)], axis=1)
    np.testing.assert_allclose(x @ weights, shown, atol=1e-9)
    np.testing.assert_allclose(gram + l2 * weights.T @ weights, np.eye(5), atol=1e-9)


def test_a_gradient_that_was_shown_gives_another_direction():
    x, _ = columns(200, 3)
    span = Span(x, LinearOptions())
    span.whiten(1.0)
    again = np.array([1.0, 2.0, 3.0])
    shown = np.column_stack([span.show(again), span.show(again), span.show(again)])
    centred = shown - shown.mean(axis=0)
    np.testing.assert_allclose(centred.T @ centred / 200, np.eye(3), atol=1e-9)


def test_too_few_independent_columns_are_refused():
    x, _ = columns(100, 1)
    twice = np.column_stack([x, 2 * x + 1])
    with pytest.raises(DataError, match="columns here are 1, fewer than 2"):
        Span(twice, LinearOptions())
    assert Span(twice, LinearOptions(least_columns=1)).rank == 1


def test_a_span_worked_out_by_parts_is_that_of_the_whole(monkeypatch):
    x, _ = columns(300, 4)
    x[257] *= 40
    whole = Span(x, LinearOptions(most_leverage=1.0))
    monkeypatch.setattr(span, "_ROWS", 64)
    parts = Span(x, LinearOptions(most_leverage=1.0))
    np.testing.assert_allclose(parts.scale, whole.scale, rtol=1e-12)
    for one in (whole, parts):
        one.whiten(0.2)
    np.testing.assert_allclose(abs(parts.basis), abs(whole.basis), atol=1e-9)
    # The row that stands out is in the last part but one.
    with pytest.raises(DataError, match="single a row out"):
        Span(x, LinearOptions())


def test_a_column_of_few_persons_is_refused():
    x, _ = columns(100, 2)
    rare = np.zeros(100)
    rare[:4] = 1
    with pytest.raises(DataError, match="column 2 sets 4 rows apart"):
        Span(np.column_stack([x, rare]), LinearOptions())
    assert Span(np.column_stack([x, rare]), LinearOptions(least_group=4)).rank == 3
    assert Span(np.column_stack([x, 1 - rare]), LinearOptions(least_group=4)).rank == 3


@pytest.mark.parametrize("intercept", [True, False])
def test_columns_that_single_a_row_out_are_refused(intercept):
    x, rng = columns(200, 3)
    options = LinearOptions(intercept=intercept)
    assert Span(x, options).rank == 3
    outlier = np.column_stack([x, rng.normal(size=200)])
    outlier[17, 3] = 1000.0
    with pytest.raises(DataError, match=r"leverage is 1.00.* far out in column 3"):
        Span(outlier, options)
    # Columns that each have many rows, and differ in one.
    half = (x[:, 0] > np.median(x[:, 0])).astype(float)
    other = half.copy()
    other[17] = 1 - other[17]
    with pytest.raises(DataError, match="single a row out"):
        Span(np.column_stack([half, other]), options)
    assert Span(outlier, LinearOptions(intercept=intercept, most_leverage=1.0)).rank == 4


def test_leverage_is_how_much_of_its_residual_a_row_gives_away():
    """By least squares from the products, as a feature party would take them apart."""
    x, _ = columns(100, 3)
    x[5] *= 6.0
    found = None
    for bound in np.linspace(0.02, 1.0, 491):
        try:
            Span(x, LinearOptions(most_leverage=bound))
        except DataError:
            continue
        found = bound
        break
    design = np.column_stack([np.ones(100), x])
    r = np.eye(100)[5]
    told = design @ np.linalg.lstsq(design, r, rcond=None)[0]
    assert found == pytest.approx(told[5], abs=0.002)


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": "probit"},
        {"power": 2.0},
        {"l2": -1.0},
        {"l2": float("nan")},
        {"tolerance": 0.0},
        {"rounds": 0},
        {"least_columns": 0},
        {"least_group": 0},
        {"rows_per_column": 0},
        {"most_leverage": 0.0},
        {"most_leverage": 1.1},
        {"l2": 0.1, "standard_errors": True},
        {"rounds": 3, "standard_errors": True},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(JobError):
        LinearOptions(**wrong)
