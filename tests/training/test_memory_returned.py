"""Large arrays go back to the system when they are freed, where that is asked for."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes
from neurogen.training.memory import LARGE, return_freed_memory

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype, libc.malloc.argtypes = Info, ctypes.c_void_p, [ctypes.c_size_t]

def mapped_of_100():
    before = libc.mallinfo2().hblks
    for _ in range(100):
        libc.malloc(LARGE + 1)
    return libc.mallinfo2().hblks - before

print(mapped_of_100(), end=" ")
return_freed_memory()
print(mapped_of_100())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps no such arrays, or other ones")
def test_large_arrays_are_mapped_by_themselves() -> None:
    """An array that the system maps by itself is gone when it is freed. A few fit into what is free already."""
    process = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, after = map(int, process.stdout.split())
    assert before == 0
    assert after > 50
