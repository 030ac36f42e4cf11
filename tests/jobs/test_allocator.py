"""What training frees is there for the next step."""

import os
import platform
import subprocess
import sys

import pytest

from isthmus.jobs.allocator import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from isthmus.jobs.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(5):
    [torch.ones(1 << 20) for _ in range(4)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    [torch.ones(1 << 20) for _ in range(4)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    # Else glibc adapts to what it sees, and may keep the memory by itself.
    limits = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    told = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | limits,
    )
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept():
    assert keep_freed_memory()
    assert faults("keep") < 0.1 * faults("give back")
