"""The number of the ruleset of nftables: another one after every change, whoever made it.

Asking for it costs a message; listing rules costs processes.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

_NETLINK_NETFILTER: Final = 12
_NFT_MSG_NEWGEN: Final = 10 << 8 | 15
_NFT_MSG_GETGEN: Final = 10 << 8 | 16
_REQUEST: Final = 1
_NFTA_GEN_ID: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_FAMILY: Final = struct.Struct("=BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_BYTES_MAX: Final = 4096


def generation() -> int | None:
    """The generation of this network namespace's rules, None when the kernel does not say."""
    body = _FAMILY.pack(socket.AF_UNSPEC, 0, 0)
    message = _HEADER.pack(_HEADER.size + len(body), _NFT_MSG_GETGEN, _REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.send(message)
            return parse(netlink.recv(_BYTES_MAX))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EPERM, errno.EINVAL):
            return None
        raise


def parse(answer: bytes) -> int | None:
    """The generation in the kernel's answer, None in any other."""
    if len(answer) < _HEADER.size or _HEADER.unpack_from(answer)[1] != _NFT_MSG_NEWGEN:
        return None
    at = _HEADER.size + _FAMILY.size
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == _NFTA_GEN_ID and len(answer) >= at + _ATTRIBUTE.size + 4:
            return int.from_bytes(answer[at + _ATTRIBUTE.size :][:4], "big")
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return None
