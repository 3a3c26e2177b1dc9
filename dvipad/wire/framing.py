"""Frames: how messages are cut out of a byte stream.

A frame is, in network order: magic ``DV``, version of the protocol (1 byte), a zero byte, type of
the message (2 bytes), length of the header (4), length of the blob (4), the header (JSON in
UTF-8), the blob (the connections of a message as they are, never in JSON). Frames of the greeting
have its version for ever, all others the one that the ends agreed on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from dvipad.versions import GREETING, NEWEST
from dvipad.wire.errors import Fault, RemoteProtocolError

MAGIC: Final = b"DV"
_PREFIX: Final = struct.Struct("!2sBxHII")
PREFIX_SIZE: Final = _PREFIX.size
MAX_FRAME: Final = 4 * 1024 * 1024
"""Bytes of one frame at the most: a VIPA list of 1024 distributed DVIPAs fits, and so do two
full batches of connections."""

GREETINGS: Final = frozenset({1, 3})
"""Numbers of the greeting's messages, Hello and Goodbye."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it travels: `kind` is the number of its type."""

    kind: int
    header: bytes
    blob: bytes = b""


def encode_frame(frame: Frame, version: int = NEWEST) -> bytes:
    """The bytes of `frame` in a session of `version`; raises ``ValueError`` when it is longer than
    `MAX_FRAME`."""
    size = PREFIX_SIZE + len(frame.header) + len(frame.blob)
    if size > MAX_FRAME:
        raise ValueError(f"a frame has at most {MAX_FRAME} bytes, not {size}")
    version = GREETING if frame.kind in GREETINGS else version
    prefix = _PREFIX.pack(MAGIC, version, frame.kind, len(frame.header), len(frame.blob))
    return prefix + frame.header + frame.blob


class FrameDecoder:
    """Cuts frames out of bytes that come in any portions, in time linear in their number.

    `limit` (bytes of one frame, prefix included) and `version` may be changed between two frames: a
    peer that has not said who it is gets less room, and speaks the version of the greeting.
    """

    __slots__ = ("_buffer", "limit", "version")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self.limit = limit
        self.version = GREETING

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the stream; call `next_frame` until it returns None."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more bytes are fed.

        Raises `RemoteProtocolError` as soon as the prefix shows that no frame can follow; the
        stream is useless from there on.
        """
        buffer = self._buffer
        if not buffer:
            return None
        if not MAGIC.startswith(buffer[:2]) and buffer[:2] != MAGIC:
            raise RemoteProtocolError(Fault.MAGIC, f"a frame starts with {bytes(buffer[:2])!r}")
        if len(buffer) > 2 and buffer[2] not in (GREETING, self.version):
            raise _wrong_version(buffer[2], self.version)
        if len(buffer) < PREFIX_SIZE:
            return None
        _, version, kind, header_size, blob_size = _PREFIX.unpack_from(buffer)
        expected = GREETING if kind in GREETINGS else self.version
        if version != expected:
            raise _wrong_version(version, expected)
        end = PREFIX_SIZE + header_size + blob_size
        if end > self.limit:
            raise RemoteProtocolError(
                Fault.TOO_LONG, f"a frame of {end} bytes, the limit is {self.limit}"
            )
        if len(buffer) < end:
            return None
        middle = PREFIX_SIZE + header_size
        with memoryview(buffer) as view:
            frame = Frame(kind, bytes(view[PREFIX_SIZE:middle]), bytes(view[middle:end]))
        del buffer[:end]
        return frame


def _wrong_version(version: int, expected: int) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.VERSION, f"a frame of version {version}, not {expected}")
