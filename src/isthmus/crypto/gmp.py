"""The package gmpy2 (the extra `psi`), where it is installed: whole numbers many times faster."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from isthmus.errors import JobError


@cache
def find_gmpy2() -> ModuleType | None:
    """The package, or None where it is missing."""
    try:
        import gmpy2
    except ImportError:
        return None
    module: ModuleType = gmpy2
    return module


def need_gmpy2(what: str) -> ModuleType:
    """The package.

    Raises:
        JobError: it is missing, which `what` cannot do without.
    """
    module = find_gmpy2()
    if module is None:
        raise JobError(
            f"{what} needs the package gmpy2, which is not installed",
            mend="Run `pip install 'isthmus[psi]'`, or align with protocol: ecdh.",
        )
    return module
