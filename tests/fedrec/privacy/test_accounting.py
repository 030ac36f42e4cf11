"""Epsilon over rounds, against the definition, a looser bound, and another library's figures."""

import math

import numpy as np
import pytest

from isthmus.fedrec.algorithms import _gaussian
from isthmus.fedrec.privacy import Defences, epsilon_of

CASES = [(1.0, 1, 1e-5), (2.0, 10, 1e-5), (0.5, 10, 1e-5), (5.0, 100, 1e-6)]


def delta_by_integration(epsilon, multiplier, rounds):
    """E (1 - e^(epsilon - L))_+ of the privacy loss L, which adds up over rounds."""
    loss = rounds / (2 * multiplier**2)
    deviation = math.sqrt(rounds) / multiplier
    x = np.linspace(max(epsilon, loss - 12 * deviation), loss + 12 * deviation, 400_001)
    density = np.exp(-(((x - loss) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    return np.trapezoid(density * -np.expm1(epsilon - x), x)


@pytest.mark.parametrize(("multiplier", "rounds", "delta"), CASES)
def test_it_is_what_the_definition_says(multiplier, rounds, delta):
    found = epsilon_of(multiplier, rounds, delta)
    assert delta_by_integration(found, multiplier, rounds) == pytest.approx(delta, rel=1e-3)


@pytest.mark.parametrize(
    ("case", "known"), list(zip(CASES, (4.377178, 7.511276, 46.211210, 10.997151), strict=True))
)
def test_it_is_what_an_accountant_by_loss_distributions_says(case, known):
    """dp-accounting 0.6.0, `PLDAccountant`, which rounds upwards."""
    found = epsilon_of(*case)
    assert known - 0.001 < found <= known + 1e-5


@pytest.mark.parametrize(("multiplier", "rounds", "delta"), CASES)
def test_it_is_below_the_bound_of_zero_concentrated_privacy(multiplier, rounds, delta):
    rho = rounds / (2 * multiplier**2)
    assert epsilon_of(multiplier, rounds, delta) < rho + 2 * math.sqrt(rho * math.log(1 / delta))


def test_one_round_is_the_analytic_gaussian_mechanism():
    assert epsilon_of(0.8, 1, 1e-6) == _gaussian.epsilon(0.8, 1e-6)


def test_it_grows_with_rounds_and_falls_with_noise():
    grown = [epsilon_of(3.0, rounds) for rounds in (1, 2, 10, 100)]
    assert grown == sorted(grown)
    fallen = [epsilon_of(noise, 5) for noise in (0.5, 1.0, 4.0, 20.0)]
    assert fallen == sorted(fallen, reverse=True)
    assert epsilon_of(0.0) == math.inf


def test_two_data_sets_of_a_client_are_two_clips_apart():
    assert Defences(clip=3.0, noise=4.0).epsilon(10) == epsilon_of(2.0, 10)
