"""Rows of numbers in shared memory that others add to in the same instant."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any, Final

from dvipad.adapters.bpf.libbpf import BpfError

LIBRARY: Final = "libatomic.so.1"
_SEQ_CST: Final = 5  # __ATOMIC_SEQ_CST
_SIZE: Final = 8


@cache
def fetch_add() -> Any:
    """Atomic addition, from the compiler's own library: Python has none. Raises `BpfError`."""
    try:
        function = getattr(ctypes.CDLL(LIBRARY), "__atomic_fetch_add_8")
    except (OSError, AttributeError) as error:
        raise BpfError(f"{LIBRARY}: {error}; install the package libatomic1") from None
    function.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int)
    function.restype = ctypes.c_int64
    return function


class Numbers:
    """The memory of a map whose values are of 8 bytes, signed."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._kept = ctypes.c_char.from_buffer(memory)
        self._start = ctypes.addressof(self._kept)
        self._add = fetch_add()
        self.view = memoryview(memory).cast("q")
        """To read, and for stores of which the last one may win."""

    def add(self, place: int, number: int) -> int:
        """Adds `number` at once for everybody; returns what was there."""
        if not 0 <= place < len(self.view):
            raise IndexError(place)
        before: int = self._add(self._start + place * _SIZE, number, _SEQ_CST)
        return before
