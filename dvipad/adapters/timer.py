"""A timer as a file descriptor (``timerfd_create(2)``), to wait for it together with others."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_TFD_TIMER_ABSTIME: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """Becomes readable at the time it is set to. Times are CLOCK_MONOTONIC in ns."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        flags = _TFD_NONBLOCK | _TFD_CLOEXEC
        self._fd = self._checked(self._libc.timerfd_create(time.CLOCK_MONOTONIC, flags))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def set(self, at_ns: int | None) -> None:
        """Readable from `at_ns` on (at once when that has passed); None: not any more."""
        seconds, nanoseconds = divmod(max(at_ns, 1), 1_000_000_000) if at_ns is not None else (0, 0)
        value = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        result = self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(value), None)
        self._checked(result)

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._fd)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
