"""What TCP counts of a connection: ``struct tcp_info`` (linux/tcp.h). No I/O here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_BACKOFF: Final = 4
_RTT: Final = 68
_TOTAL_RETRANS: Final = 100
_DATA_SEGS_OUT: Final = 156
_TOTAL_RTO: Final = 240
"""Offsets. The kernel's structure grows at its end: what a kernel lacks is not there."""
_SHORT: Final = struct.Struct("=H")
_LONG: Final = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Flow:
    """Of one connection, since it began.

    `segments` that had to be acknowledged, `retransmits` of them, `timeouts`: how often the
    retransmission timer ran out, `round_trip_us`: smoothed, 0: not measured yet.
    """

    segments: int
    retransmits: int
    timeouts: int
    round_trip_us: int = 0


def flow_of(info: bytes) -> Flow | None:
    """What `info` says; None when it is too short to say anything (before Linux 4.6).

    A kernel before Linux 6.7 does not count timeouts: then those of the segment in flight count,
    as long as it is not acknowledged.
    """
    if len(info) < _DATA_SEGS_OUT + _LONG.size:
        return None
    counts = counts_timeouts(info)
    timeouts = _SHORT.unpack_from(info, _TOTAL_RTO)[0] if counts else info[_BACKOFF]
    sent, again, round_trip_us = (
        _LONG.unpack_from(info, at)[0] for at in (_DATA_SEGS_OUT, _TOTAL_RETRANS, _RTT)
    )
    return Flow(sent + 1, again, timeouts, round_trip_us)  # the SYN is one, too


def counts_timeouts(info: bytes) -> bool:
    """Whether the kernel that gave `info` counts them."""
    return len(info) >= _TOTAL_RTO + _SHORT.size
