from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.crypto.legendre import P, are_squares


def euler(value):
    return pow(value, (P - 1) // 2, P) == 1


EDGES = [0, 1, 2, 3, 4, 5, 7, P - 1, P - 2, 2**254, 2**30, 2**60 - 1, (P - 1) // 2, P // 3]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, P - 1), min_size=20, max_size=60))
def test_the_batch_agrees_with_eulers_criterion(values):
    # Enough values that the division steps are used, and not the slow way for a few.
    assert are_squares(EDGES + values).tolist() == [euler(v) for v in EDGES + values]


def test_squares_are_squares_and_twice_a_square_is_not():
    squares = [pow(v, 2, P) for v in range(1, 200)]
    assert are_squares(squares).all()
    assert not are_squares([2 * v % P for v in squares]).any()  # 2 is not a square modulo p


def test_none_and_few_values():
    assert are_squares([]).tolist() == []
    assert are_squares([4, 2, 0]).tolist() == [True, False, False]
