"""The algorithms, one file each.

A file of this package defines `ALGORITHM`; its name, with `-` for `_`, is the algorithm's. Nothing
else is to be edited for a new one. Files that begin with `_` are helpers.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from pkgutil import iter_modules

from isthmus.errors import JobError
from isthmus.fedrec.method import Algorithm


def algorithm_names() -> list[str]:
    """The names of all algorithms."""
    return sorted(
        one.name.replace("_", "-") for one in iter_modules(__path__) if one.name[0] != "_"
    )


def algorithm(name: str) -> Algorithm:
    """The algorithm called `name`; `module:NAME` finds one of your own.

    Raises:
        JobError: there is none.
    """
    if ":" in name:
        return _outside(name)
    if name not in algorithm_names():
        raise JobError(f"there is no algorithm {name!r}", mend=_meant(name))
    found: Algorithm = import_module(f"{__name__}.{name.replace('-', '_')}").ALGORITHM
    return found


def _meant(name: str) -> str:
    """What to write in place of a name that is not there."""
    known = algorithm_names()
    whole, *sets = name.split("+")
    head, _, backbone = whole.partition("/")
    close = difflib.get_close_matches(head.lower().replace("_", "-"), known, n=1)
    if not close:
        return f"Known: {', '.join(known)}."
    if head == name:
        return f"Did you mean {close[0]!r}? `isthmus fedrec list` has all."
    words = [f"--algorithm {close[0]}"] + ([f"--backbone {backbone}"] if backbone else [])
    words += [f"--set {one}" for one in sets]
    return f"NAME/BACKBONE and NAME+FIELD=VALUE are for `compare`; here: {' '.join(words)}."


def _outside(name: str) -> Algorithm:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise JobError(
            f"the algorithm {name} cannot be imported",
            mend="Name it as module:NAME, the module being on PYTHONPATH.",
        ) from error
    if not isinstance(found, Algorithm):
        raise JobError(f"{name} is no isthmus.fedrec.Algorithm")
    return found
