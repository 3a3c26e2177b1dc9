"""A packet socket (packet(7)) on one interface that receives what a filter lets pass."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import struct
from collections.abc import Iterator
from socket import (
    AF_PACKET,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOL_SOCKET,
    if_nametoindex,
    socket,
)
from typing import Final

from dvipad.adapters.probe_frames import FRAME_BYTES

ETHERNET: Final = 1
"""Kind of hardware (ARPHRD_ETHER)."""
EVERY_PROTOCOL: Final = 3
"""ETH_P_ALL. Such a socket sees a frame before TC programs do; that of one protocol after."""
MAX_READ: Final = 256
"""Frames that are read at once; the rest waits for the next turn of the loop."""
_SO_ATTACH_FILTER: Final = 26
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_MR_MULTICAST: Final = 0
_MEMBERSHIP: Final = struct.Struct("=iHH8s")
_INSTRUCTION_BYTES: Final = 8


class PacketSocket:
    """Raises ``OSError`` when there is no such interface, or no right (CAP_NET_RAW)."""

    def __init__(self, uplink: str, program: bytes, protocol: int = EVERY_PROTOCOL) -> None:
        self._uplink = uplink
        self._index = if_nametoindex(uplink)
        self._groups: set[bytes] = set()
        # Protocol 0 receives nothing: not one frame passes before the filter is there.
        self._socket = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        try:
            self.set_filter(program)
            self._socket.bind((uplink, protocol))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable when a frame has come."""
        return self._socket.fileno()

    def is_stale(self) -> bool:
        """Whether the interface is gone, or another one has its name now."""
        try:
            return if_nametoindex(self._uplink) != self._index
        except OSError:
            return True

    def set_filter(self, program: bytes) -> None:
        """Receive what this classic BPF program accepts, from now on."""
        buffer = ctypes.create_string_buffer(program, len(program))
        count = len(program) // _INSTRUCTION_BYTES
        description = struct.pack("HP", count, ctypes.addressof(buffer))
        self._socket.setsockopt(SOL_SOCKET, _SO_ATTACH_FILTER, description)

    def join(self, group: bytes) -> None:
        """Let the interface's card pass frames to this group address, too."""
        if group not in self._groups:
            request = _MEMBERSHIP.pack(self._index, _PACKET_MR_MULTICAST, len(group), group)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
            self._groups.add(group)

    def link_layer(self) -> tuple[int, bytes]:
        """Kind of hardware and address of the interface, as they are now."""
        name, _protocol, _kind, hardware, mac = self._socket.getsockname()
        if not name:
            raise OSError(errno.ENODEV, "the interface is gone")
        return hardware, mac

    def send(self, frame: bytes) -> None:
        """Send a whole frame."""
        self._socket.send(frame)

    def frames(self) -> Iterator[bytes]:
        """What has come, at most `MAX_READ` frames, each cut off after `FRAME_BYTES`."""
        for _ in range(MAX_READ):
            try:
                yield self._socket.recv(FRAME_BYTES)
            except BlockingIOError:
                return
            except OSError:
                return  # the interface went down: an error once, not a frame

    def close(self) -> None:
        """Close; the kernel takes some milliseconds for that."""
        with contextlib.suppress(OSError):
            self._socket.close()
