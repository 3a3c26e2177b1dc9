"""What both ways of watching binds share: subnets, and what is reported (D10)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from dvipad.address import Address, order, pack, unpack
from dvipad.core.inputs import AddressesBound

Ranges: TypeAlias = frozenset[tuple[Address, int]]
"""(any address of it, prefix length) of each subnet."""

RANGES_MAX: Final = 8192
"""As in ``bpf/binds.bpf.c``; z/OS has 4096 for each version of IP."""
ADDRESS_BITS: Final = 128
_IPV4_OFFSET: Final = 96
"""Bits of ``::ffff:0:0/96``, in which packed IPv4 addresses lie."""


@dataclass(frozen=True, slots=True)
class BindSettings:
    """How to watch binds in the network namespace of the calling thread.

    `pin_dir`: a folder of its own on a bpffs. `object_path`: the compiled binds.bpf.c. `poll_ms`:
    how often sockets are listed where the kernel refuses the programs.
    """

    pin_dir: Path
    object_path: Path
    poll_ms: int = 50


class BindWatcher(Protocol):
    """Bound addresses of this node. Made and used in one thread."""

    def watch(self, ranges: Ranges) -> None:
        """These subnets are of interest from now on. What is bound is reported in any case."""

    def fileno(self) -> int:
        """Readable when :meth:`read_events` has something to do."""

    def read_events(self) -> list[AddressesBound]:
        """What is bound, if that changed since the last call: one event, or none."""

    def counters(self) -> dict[str, int]:
        """Binds and releases seen, and binds for which there was no room, by name."""

    def close(self) -> None:
        """Stops reading; programs in the kernel go on. Idempotent."""

    def destroy(self) -> None:
        """Stops reading, and takes everything out of the kernel."""


def packed_subnets(ranges: Ranges) -> frozenset[tuple[int, bytes]]:
    """Prefix length of the 16 bytes, and these bytes without the bits behind it."""
    return frozenset(
        _masked(length + (_IPV4_OFFSET if network.version == 4 else 0), pack(network))
        for network, length in ranges
    )


def _masked(length: int, packed: bytes) -> tuple[int, bytes]:
    rest = ADDRESS_BITS - length
    return length, (int.from_bytes(packed, "big") >> rest << rest).to_bytes(16, "big")


class Subnets:
    """Tells packed addresses of the ranges from others. Pure."""

    def __init__(self, ranges: Ranges) -> None:
        self.rows = packed_subnets(ranges)
        self._lengths = sorted({length for length, _ in self.rows})

    def __contains__(self, packed: bytes) -> bool:
        return any(_masked(length, packed) in self.rows for length in self._lengths)


class Reports:
    """What was reported last, and what is to be reported next. Pure."""

    def __init__(self) -> None:
        self._last: dict[Address, int] = {}
        self._due = False

    def again(self) -> None:
        """Report next time, whether something changed or not."""
        self._due = True

    def compare(self, bound: Iterable[tuple[bytes, int]]) -> list[AddressesBound]:
        """`bound`: packed address and number of each socket.

        The number of an address does not fall when the socket that was bound last closes before
        an older one: that is no new bind.
        """
        found: dict[bytes, int] = {}
        for packed, number in bound:
            found[packed] = max(number, found.get(packed, 0))
        addresses = ((unpack(packed), number) for packed, number in found.items())
        now = {each: max(number, self._last.get(each, 0)) for each, number in addresses}
        if now == self._last and not self._due:
            return []
        self._last, self._due = now, False
        return [AddressesBound(tuple(sorted(now.items(), key=lambda row: order(row[0]))))]
