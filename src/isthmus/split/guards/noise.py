"""Random bits for guards, from a generator that is passed in and saved with the guard's state."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt

from isthmus.errors import JobError
from isthmus.link import Array


def thresholds(
    rng: np.random.Generator, shape: tuple[int, ...], at_random: bool
) -> npt.NDArray[np.uint16]:
    """What is added to the 16 bits behind the point before they are cut off, uint16 of `shape`.

    At random: uniform numbers, so that the mean of what arrives is right. Else a half, which rounds
    to the nearest, errs less and draws nothing.
    """
    if not at_random:
        return np.full(shape, 1 << 15, np.uint16)
    count = int(np.prod(shape))
    raw: npt.NDArray[np.uint64] = rng.bit_generator.random_raw(-(-count // 4))
    return raw.view(np.uint16)[:count].reshape(shape)


def generator_state(rng: np.random.Generator) -> Array:
    """A generator's state as uint8 [bytes]."""
    # Philox and others keep arrays.
    text = json.dumps(rng.bit_generator.state, default=lambda array: array.tolist())
    return np.frombuffer(text.encode(), np.uint8).copy()


def load_generator(rng: np.random.Generator, state: Array | None) -> None:
    """Continue from what `generator_state` returned.

    Raises:
        JobError: it is not the state of such a generator.
    """
    try:
        if state is None:
            raise ValueError("no state")
        rng.bit_generator.state = json.loads(state.tobytes())
    except (ValueError, KeyError, TypeError) as error:
        raise JobError("a checkpoint holds the state of another guard") from error
