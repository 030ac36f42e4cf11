import pytest

from isthmus.jobs.report import words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (338_112_400, "338 MB"),
        (2_880_000, "2.88 MB"),
        (5_400_000_000, "5.4 GB"),
        (7_000_000_000_000, "7 TB"),
    ],
)
def test_bytes(count, text):
    assert words.as_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.61, "0.61 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (31.2, "31 s"),
        (99.9, "1 min 40 s"),
        (725, "12 min 5 s"),
        (12_000, "3 h 20 min"),
    ],
)
def test_seconds(seconds, text):
    assert words.as_seconds(seconds) == text


def test_differences_have_a_sign_but_for_nothing():
    assert words.as_difference(0.0251) == "+0.0251"
    assert words.as_difference(-0.0006) == "−0.0006"
    assert words.as_difference(-0.000001) == "0.0000"


def test_names_in_a_sentence():
    assert words.as_list(("a",)) == "a"
    assert words.as_list(("a", "b")) == "a and b"
    assert words.as_list(("a", "b", "c")) == "a, b and c"


def test_errors_and_ratios_are_short():
    assert [words.as_times(ratio) for ratio in (3.7685, 17.34, 1.0)] == ["3.77", "17.3", "1"]
    assert [words.as_error(error) for error in (None, 0.0, 0.00613)] == ["–", "0", "0.0061"]
