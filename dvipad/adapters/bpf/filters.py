"""TC programs on the hooks of a device's clsact qdisc, replaced without a gap (tc-bpf(8)).

By rtnetlink, because libbpf attaches for all protocols only: a filter that is for ARP alone costs
other packets next to nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.rtnetlink import (
    CREATE,
    DUMP,
    attribute,
    change,
    messages,
    request,
)

HANDLE: Final = 1
_NEWTFILTER: Final = 44
_DELTFILTER: Final = 45
_GETTFILTER: Final = 46
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_BPF_FD: Final = 6
_TCA_BPF_NAME: Final = 7
_TCA_BPF_FLAGS: Final = 8
_ACT_DIRECT: Final = 1
_ETH_P_ALL: Final = 0x0003
_ETH_P_ARP: Final = 0x0806
GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})
"""The device is gone, or its qdisc, or the filter."""
_TCMSG: Final = struct.Struct("=BxHiIII")


class Side(IntEnum):
    """The two hooks of clsact; the value is the parent of their filters."""

    INGRESS = 0xFFFF_FFF2
    EGRESS = 0xFFFF_FFF3


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a program goes: `protocol` is the Ethernet type of the packets that it gets,
    `priority` its place among other filters. Devices are those of `netlink`'s namespace."""

    program: str
    side: Side
    protocol: int
    priority: int

    def attach(self, netlink: socket.socket, ifindex: int, program_fd: int) -> None:
        """Puts the program there, atomically in place of the one that we had there before."""
        options = (
            attribute(_TCA_BPF_FD, struct.pack("=I", program_fd))
            + attribute(_TCA_BPF_NAME, self.program.encode() + b"\0")
            + attribute(_TCA_BPF_FLAGS, struct.pack("=I", _ACT_DIRECT))
        )
        body = attribute(_TCA_KIND, b"bpf\0") + attribute(_TCA_OPTIONS, options)
        try:
            self._change(netlink, _NEWTFILTER, CREATE, ifindex, body)
        except OSError as error:
            raise self._error("attach", ifindex, error) from None

    def detach(self, netlink: socket.socket, ifindex: int) -> None:
        """Takes our program away, if it is there."""
        try:
            self._change(netlink, _DELTFILTER, 0, ifindex, b"")
        except OSError as error:
            if error.errno not in GONE:
                raise self._error("detach", ifindex, error) from None

    def _change(
        self, netlink: socket.socket, kind: int, flags: int, ifindex: int, body: bytes
    ) -> None:
        info = self.priority << 16 | socket.htons(self.protocol)
        message = _TCMSG.pack(0, 0, ifindex, HANDLE, self.side, info) + body
        change(netlink, kind, flags, message)

    def _error(self, what: str, ifindex: int, error: OSError) -> BpfError:
        number = error.errno or errno.EIO
        text = f"{what} {self.program}, {self.side.name.lower()} of device {ifindex}"
        return BpfError(number, f"{text}: {os.strerror(number)}")


INGRESS: Final = Hook("dvipad_ingress", Side.INGRESS, _ETH_P_ALL, 49_152)
"""The first of tc's own priorities, as are the others."""
EGRESS: Final = Hook("dvipad_egress", Side.EGRESS, _ETH_P_ALL, 49_152)
DEVICE_INGRESS: Final = Hook("dvipad_device", Side.INGRESS, _ETH_P_ALL, 49_152)
ARP_EGRESS: Final = Hook("dvipad_arp", Side.EGRESS, _ETH_P_ARP, 49_153)


def has_filters(netlink: socket.socket, ifindex: int) -> bool:
    """Whether anything hangs on the device's clsact qdisc."""
    for side in Side:
        question = _TCMSG.pack(0, 0, ifindex, 0, side, 0)
        answers = messages(netlink, request(_GETTFILTER, DUMP, question))
        if _NEWTFILTER in [kind for kind, _payload in answers]:
            return True
    return False
