"""The C library's allocator, told to keep what a training step frees for the next one."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""`M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of glibc's malloc.h."""
_KEPT = 256 << 20
_LARGEST = 32 << 20
"""glibc takes no more than this as the size from which blocks are mapped one by one."""


def keep_freed_memory() -> bool:
    """Ask glibc not to give freed blocks back to the system at once; whether it was asked.

    Tensors of a step are freed at its end and taken again by the next one. Given back in between,
    their pages are cleared and faulted in each time: 140 faults a step at batch 1024, 1,500 at
    4096. Elsewhere than under glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # First the threshold of mapping: setting either one ends glibc's own adaptation of both.
    asked = library.mallopt(_MMAP_THRESHOLD, _LARGEST), library.mallopt(_TRIM_THRESHOLD, _KEPT)
    return all(asked)
