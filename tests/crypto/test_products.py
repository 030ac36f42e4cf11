"""Encrypted sums of products against NumPy, and what each side gets to see."""

import numpy as np
import pytest

from isthmus.crypto import he, products
from isthmus.crypto.he_sums import Sums
from isthmus.crypto.products import Shape

pytest.importorskip("tenseal")


def numbers(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-(2**20), 2**20, rows), rng.integers(-(2**14), 2**14, (rows, columns))


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (7, 3), (1000, 30), (he.SLOTS, 2), (he.SLOTS + 1, 2), (20_000, 3)]
)
@pytest.mark.parametrize("to_key", [False, True])
def test_sums_are_those_of_numpy(key, public, rows, columns, to_key):
    r, x = numbers(rows, columns)
    x[:, 0] = 0
    shape = Shape(rows, columns)
    asked = products.encrypted(key, shape, r)
    assert len(asked) == shape.asked
    answers, off = products.masked(public, shape, asked, x, to_key=to_key)
    assert len(answers) == shape.answered
    found = products.opened(key, shape, answers)
    np.testing.assert_array_equal(products.unmasked(found, off), x.T @ r)
    if to_key:
        assert not off.any()
    else:
        # What the key holder sees is not the sum.
        assert not (found == x.T @ r).any()


def test_sums_are_the_ciphertexts_of_one_product_after_the_other(key, public):
    r, x = numbers(he.SLOTS, 2)
    sums, zero = Sums(public), public.encrypt(np.zeros(0, np.int64))
    asked = [key.encrypt(r), key.encrypt(r[::-1])]
    total = sums.sum()
    for one, values in zip(asked, x.T, strict=True):
        total.add(sums.turned(one), sums.factor(values))
    plainly = zero + asked[0].times(x[:, 0]) + asked[1].times(x[:, 1])
    np.testing.assert_array_equal(total.added_to(zero).tensor(), plainly.tensor())


@pytest.mark.parametrize("rows", [50, he.SLOTS + 5])
def test_the_key_holder_sees_uniform_slots(key, public, rows):
    r, x = numbers(rows, 2)
    shape = Shape(rows, 2)
    answers, _ = products.masked(public, shape, products.encrypted(key, shape, r), x, to_key=True)
    slots = key.decrypt(answers[0])
    counts = np.histogram(slots, 8, (-he.HALF, he.HALF))[0]
    assert np.abs(counts - he.SLOTS / 8).max() < 5 * np.sqrt(he.SLOTS / 8)


def test_columns_share_a_ciphertext_where_there_is_room():
    assert Shape(1024, 30).answered == 4
    assert Shape(30_000, 24) == Shape(rows=30_000, columns=24)
    assert (Shape(30_000, 24).asked, Shape(30_000, 24).answered) == (4, 24)
    with pytest.raises(ValueError, match="0 columns"):
        Shape(3, 0)


def test_what_can_overflow_is_known_before():
    assert products.fits(30_000, 2**17, 2**16)
    assert not products.fits(30_000, 2**20, 2**20)


def test_wrong_shapes_are_told(key, public):
    shape = Shape(4, 2)
    with pytest.raises(ValueError, match="where there are 4 rows"):
        products.encrypted(key, shape, np.arange(3))
    asked = products.encrypted(key, shape, np.arange(4))
    with pytest.raises(ValueError, match="do not fit"):
        products.masked(public, shape, asked, np.zeros((3, 2), np.int64))
