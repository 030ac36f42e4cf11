"""Messages of a linear model, checked before use: a partner's mistake is a clear `BadMessage`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage
from isthmus.link import Link, Message
from isthmus.link.checks import whole

MOST_COLUMNS = 2048
"""Independent columns of one feature party."""
_MOST_EXPONENT = 400
"""Two of them and the numbers they count still are within float64."""


def take(
    link: Link, message: Message, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """The tensor `name` of `message`, finite.

    Raises:
        BadMessage: it is missing, not finite, or of another dtype or shape than agreed.
    """
    array = message.tensors.get(name)
    if array is None or array.dtype != np.dtype(dtype) or array.shape != shape:
        shown = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
        raise BadMessage(
            f"{link.partner} sent {message.topic} with {name!r} as {shown}, "
            f"agreed was {np.dtype(dtype)} {list(shape)}"
        )
    if not np.isfinite(array).all():
        raise BadMessage(f"{link.partner} sent {message.topic} with NaN or infinity in {name!r}")
    return array


def positive(link: Link, message: Message, name: str) -> float:
    """A finite number above 0 of the header. Raises BadMessage."""
    value = message.header.get(name)
    if type(value) is not float or not math.isfinite(value) or value <= 0:
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    return value


def real(link: Link, message: Message, name: str) -> float:
    """A finite number of the header. Raises BadMessage."""
    value = message.header.get(name)
    if type(value) is not float or not math.isfinite(value):
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    return value


def exponent(link: Link, message: Message) -> int:
    """The power of two that whole numbers count in. Raises BadMessage."""
    return whole(link, message, "exponent", -_MOST_EXPONENT, _MOST_EXPONENT)


def choice(link: Link, message: Message, name: str, choices: tuple[Any, ...]) -> Any:
    """One of `choices` in the header, of the same type. Raises BadMessage."""
    value = message.header.get(name)
    if not any(type(value) is type(one) and value == one for one in choices):
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    return value
