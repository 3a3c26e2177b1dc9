"""Asks the network whether another host has an address, before this node takes it.

Probes by RFC 5227 (2.1) and RFC 4862 (5.4), on every uplink at once, but in a fraction of the
time: a takeover waits for it. Many addresses can be probed at the same time. While there are some,
one packet socket for each uplink listens to ARP and neighbour discovery; it sees frames before the
node's own eBPF programs drop any of them. A filter of the addresses that are asked for would have
to be replaced for each of them, faster than the kernel frees the old ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor
from ipaddress import IPv6Address
from typing import Final

from dvipad.adapters.packet_socket import ETHERNET, PacketSocket
from dvipad.adapters.probe_frames import (
    Claim,
    every_claim,
    group_mac,
    probe_frame,
    read_claim,
)
from dvipad.address import Address

PROBES: Final = 3
"""Questions for each address on each uplink (PROBE_NUM of RFC 5227)."""
MAX_PROBED: Final = 256
"""Addresses that are probed at the same time; further ones wait for room."""

log = logging.getLogger(__name__)


class InUse(OSError):
    """EADDRINUSE: the host with link-layer address `mac` has the address."""

    def __init__(self, text: str, mac: bytes) -> None:
        super().__init__(errno.EADDRINUSE, text)
        self.mac = mac


class Prober:
    """Probes addresses on `uplinks` for `probe_ms` each; 0: every address is free.

    To be used in one event loop; `closer` closes sockets, for which the kernel waits some ms.
    `counters` counts `probed` and `in_use`. `rivals`: who probes for an address at the same time
    may have it first; False: only who has it counts.
    """

    def __init__(
        self,
        uplinks: Iterable[str],
        probe_ms: int,
        closer: Executor,
        counters: Counter[str],
        *,
        rivals: bool = True,
    ) -> None:
        self._rivals = rivals
        self._uplinks = tuple(uplinks)
        self._probe_s = probe_ms / 1000
        self._closer = closer
        self._counters = counters
        self._asked: dict[Address, asyncio.Future[InUse]] = {}
        self._room = asyncio.Semaphore(MAX_PROBED)
        self._sockets: dict[str, PacketSocket] = {}

    async def probe(self, address: Address) -> None:
        """Returns when nobody says that he has `address`, not even an uplink that works.

        Raises ``InUse`` (EADDRINUSE), naming link-layer address and uplink, as soon as somebody
        does, or when somebody else probes for it whose link-layer address is less than ours: of
        two that ask at the same time, one must go on. One address is probed once at a time.
        """
        if self._probe_s == 0:
            return
        async with self._room:
            self._counters["probed"] += 1
            answer = self._asked[address] = asyncio.get_running_loop().create_future()
            try:
                self._open()
                for _ in range(PROBES):
                    self._send(address)
                    await asyncio.wait((answer,), timeout=self._probe_s / PROBES)
                    if answer.done():
                        self._counters["in_use"] += 1
                        raise answer.result()
            finally:
                del self._asked[address]
                if not self._asked:
                    self._close()

    def _open(self) -> None:
        for uplink in self._uplinks:
            if uplink in self._sockets:
                continue
            try:
                opened = self._sockets[uplink] = PacketSocket(uplink, every_claim())
            except OSError as error:
                log.debug("no probes on %s: %s", uplink, error)
            else:
                loop = asyncio.get_running_loop()
                loop.add_reader(opened.fileno(), self._readable, uplink)

    def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets.values():
            loop.remove_reader(sock.fileno())
            loop.run_in_executor(self._closer, sock.close)
        self._sockets.clear()

    def _send(self, address: Address) -> None:
        for uplink, sock in self._sockets.items():
            try:
                hardware, mac = sock.link_layer()
                if hardware != ETHERNET:
                    continue  # nobody is asked for addresses there
                if isinstance(address, IPv6Address):
                    sock.join(group_mac(address))
                sock.send(probe_frame(mac, address))
            except OSError as error:
                log.debug("no probe for %s on %s: %s", address, uplink, error)

    def _readable(self, uplink: str) -> None:
        sock = self._sockets[uplink]
        for frame in sock.frames():
            claim = read_claim(frame)
            answer = None if claim is None else self._asked.get(claim.address)
            if claim is None or answer is None or answer.done():
                continue
            if claim.probing and not self._rivals:
                continue
            with contextlib.suppress(OSError):  # the interface goes
                if not self._yields(claim, sock.link_layer()[1]):
                    answer.set_result(in_use(claim, uplink))

    def _yields(self, claim: Claim, mac: bytes) -> bool:
        """Whether the host is this one, or asks as we do and loses."""
        own = {mac}
        for other in self._sockets.values():
            with contextlib.suppress(OSError):
                own.add(other.link_layer()[1])
        return claim.mac in own or (claim.probing and claim.mac > mac)


def in_use(claim: Claim, uplink: str) -> InUse:
    """The error that says who has an address."""
    what = "is asked for by" if claim.probing else "is in use by"
    return InUse(f"{claim.address} {what} {claim.mac.hex(':')} on {uplink}", claim.mac)
