"""The heartbeat that travels by UDP: 20 bytes.

In network order: magic ``DH``, version of the protocol (1 byte), a zero byte, the token of the
session at the receiver (8), a number that grows with each heartbeat of the session (8). What
follows belongs to a later version, and is ignored; these 20 bytes are the same in all of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from dvipad.versions import GREETING

MAGIC: Final = b"DH"
_BEAT: Final = struct.Struct("!2sBxQQ")
BEAT_SIZE: Final = _BEAT.size
MAX_DATAGRAM: Final = 512
"""Bytes of a datagram that a node looks at; a longer one is none of the mesh's."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat: `token` is what the receiver's Hello asked for, `sequence` starts at 1,
    `version` is that of the session."""

    token: int
    sequence: int
    version: int = GREETING


def encode_beat(beat: Beat) -> bytes:
    """The datagram of `beat`."""
    return _BEAT.pack(MAGIC, beat.version, beat.token, beat.sequence)


def decode_beat(data: bytes) -> Beat | None:
    """The heartbeat in a datagram, of any version; None for anything else, whatever it is."""
    if not BEAT_SIZE <= len(data) <= MAX_DATAGRAM:
        return None
    magic, version, token, sequence = _BEAT.unpack_from(data)
    return Beat(token, sequence, version) if magic == MAGIC else None
