"""The epsilon of several rounds with normal noise.

Dong, Roth, Su: Gaussian Differential Privacy, JRSS B 2022. A round whose noise has `multiplier`
times the sensitivity as its deviation is 1/multiplier-GDP; T rounds, each chosen in view of those
before, are sqrt(T)/multiplier-GDP (corollary 3.3), which is what one release with the multiplier
`multiplier / sqrt(T)` is. So the exact curve of a single release (Balle, Wang, ICML 2018, theorem
8) serves the composition too, and nothing is lost to a bound.

Nothing is gained from the sampling of clients: the server draws them and knows who took part.
"""

from __future__ import annotations

import math

from isthmus.fedrec.algorithms import _gaussian


def epsilon_of(multiplier: float, rounds: int = 1, delta: float = 1e-5) -> float:
    """The least epsilon at `delta`, to 1e-6; infinite without noise, or above 500.

    Args:
        multiplier: deviation of the noise by the sensitivity of what is released.
        rounds: how often it is released.
        delta: the probability that is left out.
    """
    if multiplier <= 0:
        return math.inf
    return _gaussian.epsilon(multiplier / math.sqrt(max(rounds, 1)), delta)


def epsilon_concentrated(multiplier: float, rounds: int = 1, delta: float = 1e-5) -> float:
    """The same for discrete noise, by concentrated differential privacy alone; somewhat larger.

    Each round has rho = 1 / (2 multiplier^2), rounds add up (Bun, Steinke, TCC 2016), and epsilon
    follows by Canonne, Kamath, Steinke, NeurIPS 2020, proposition 12, for the best order alpha.
    """
    if multiplier <= 0:
        return math.inf
    rho = max(rounds, 1) / (2 * multiplier**2)

    def at(order: float) -> float:
        tail = math.log(1 / delta) + order * math.log1p(-1 / order) - math.log(order - 1)
        return order * rho + tail / (order - 1)

    # One minimum: between the two thirds that are farther from it lies none.
    low, high = math.log(1e-6), math.log(1e6)
    while high - low > 1e-9:
        one, two = low + (high - low) / 3, high - (high - low) / 3
        if at(1 + math.exp(one)) < at(1 + math.exp(two)):
            high = two
        else:
            low = one
    found = max(0.0, at(1 + math.exp(low)))
    return found if found <= 500 else math.inf
