"""What the lab's traffic is made of: numbered, checksummed frames that a server sends back.

A connection starts with the line `who`, which the server answers with its name; more `who` lines
and frames may follow. A frame, network order: magic 4, connection 4, sequence 8, length of the
frame 4, filler, CRC-32 of all that 4. The filler depends on the sequence, so that a byte in the
wrong place shows.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

WHO: Final = b"who\n"
MAX_NAME: Final = 64
MIN_FRAME: Final = 24
MAX_FRAME: Final = 65536

_HEADER: Final = struct.Struct("!4sIQI")
_CRC: Final = struct.Struct("!I")
_MAGIC: Final = b"\xd5DVF"
_PATTERN: Final = bytes((7 * i + (i >> 8)) & 0xFF for i in range(MAX_FRAME + 256))


class FrameError(Exception):
    """The bytes are not what a correct peer sends: data was lost, changed or mixed up."""


def encode(connection: int, sequence: int, size: int = 32) -> bytes:
    """Frame `sequence` of a connection, `size` bytes long (MIN_FRAME to MAX_FRAME)."""
    if not MIN_FRAME <= size <= MAX_FRAME:
        raise ValueError(f"a frame has {MIN_FRAME} to {MAX_FRAME} bytes, not {size}")
    shift = sequence & 0xFF
    body = (
        _HEADER.pack(_MAGIC, connection, sequence, size)
        + _PATTERN[shift : shift + size - MIN_FRAME]
    )
    return body + _CRC.pack(zlib.crc32(body))


def take_frames(buffer: bytearray) -> tuple[list[tuple[int, int]], bytes]:
    """Take all whole frames out of `buffer`: their (connection, sequence), and their bytes.

    Raises :class:`FrameError` when something is not a correct frame.
    """
    found = []
    start = 0
    while len(buffer) - start >= MIN_FRAME:
        magic, connection, sequence, size = _HEADER.unpack_from(buffer, start)
        if magic != _MAGIC or not MIN_FRAME <= size <= MAX_FRAME:
            raise FrameError(f"not a frame: {bytes(buffer[start : start + MIN_FRAME])!r}")
        end = start + size
        if len(buffer) < end:
            break
        (crc,) = _CRC.unpack_from(buffer, end - _CRC.size)
        if zlib.crc32(buffer[start : end - _CRC.size]) != crc:
            raise FrameError(f"wrong checksum in frame {sequence} of connection {connection}")
        found.append((connection, sequence))
        start = end
    taken = bytes(buffer[:start])
    del buffer[:start]
    return found, taken
