"""Tells when another host claims a DVIPA that this node owns (RFC 5227, 2.4; RFC 4862, 5.4.4).

Two packet sockets for each uplink, for ARP and for IPv6, behind the eBPF programs: what those
redirect never comes here, and a filter in the kernel lets pass only claims of the addresses that
are watched. So Python runs when there is a claim, and not otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from dvipad.adapters.packet_socket import PacketSocket
from dvipad.adapters.probe_frames import MAX_ADDRESSES, claims_of, read_claim
from dvipad.address import Address, order

SETTLE_S: Final = 1.0
"""A claim that comes less than this after this node became the owner, or before it ceases to be,
belongs to a move: who had, or gets, the DVIPA announces it."""
QUIET_S: Final = 60.0
"""The same claim is logged once in this time; it is counted once in `SETTLE_S`."""
MAX_CLAIMANTS: Final = 1024
"""(DVIPA, link-layer address) that are remembered; what is more is forgotten."""
_ETH_P_ARP: Final = 0x0806
_ETH_P_IPV6: Final = 0x86DD
_PROTOCOLS: Final = {4: _ETH_P_ARP, 6: _ETH_P_IPV6}

log = logging.getLogger(__name__)


class ConflictWatcher:
    """Watches the DVIPAs that `watch` was told last; `counters` counts `claimed_elsewhere`.

    To be used in one event loop. `members` gives the cluster's nodes by link-layer address, as
    far as they are neighbours; what one of them claims, `claimed` gets: (DVIPA, node).
    """

    def __init__(
        self,
        uplinks: Iterable[str],
        members: Callable[[], Mapping[bytes, str]],
        claimed: Callable[[Address, str], None],
        counters: Counter[str],
    ) -> None:
        self._uplinks = tuple(uplinks)
        self._members = members
        self._claimed = claimed
        self._counters = counters
        self._since_s: dict[Address, float] = {}
        self._filtered: dict[int, tuple[Address, ...]] = {}
        self._sockets: dict[tuple[str, int], PacketSocket] = {}
        self._logged_s: dict[tuple[Address, bytes], float] = {}
        self._pending: set[tuple[Address, bytes]] = set()
        self._loop = asyncio.get_running_loop()

    def watch(self, owned: Iterable[Address]) -> None:
        """These DVIPAs are this node's now; to be called about once a second, changed or not."""
        now_s = time.monotonic()
        self._since_s = {dvipa: self._since_s.get(dvipa, now_s) for dvipa in owned}
        for version in _PROTOCOLS:
            mine = sorted((each for each in self._since_s if each.version == version), key=order)
            wanted = tuple(mine[:MAX_ADDRESSES])
            changed = wanted != self._filtered.get(version, ())
            self._filtered[version] = wanted
            for uplink in self._uplinks:
                with contextlib.suppress(OSError):  # it is away; it is tried again
                    self._filter(uplink, version, changed)

    def _filter(self, uplink: str, version: int, changed: bool) -> None:
        sock = self._sockets.get((uplink, version))
        if sock is not None and sock.is_stale():
            self._drop(uplink, version)
            sock = None
        if sock is None and self._filtered[version]:
            program = claims_of(self._filtered[version])
            sock = PacketSocket(uplink, program, _PROTOCOLS[version])
            self._sockets[uplink, version] = sock
            self._loop.add_reader(sock.fileno(), self._readable, uplink, version)
        elif sock is not None and changed:
            try:
                sock.set_filter(claims_of(self._filtered[version]))
            except OSError:
                self._drop(uplink, version)  # its options are full: a new one, next time
                raise

    def _drop(self, uplink: str, version: int) -> None:
        sock = self._sockets.pop((uplink, version))
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def _readable(self, uplink: str, version: int) -> None:
        sock = self._sockets[uplink, version]
        for frame in sock.frames():
            claim = read_claim(frame)
            if claim is None or claim.probing or claim.mac in self._own():
                continue
            since_s = self._since_s.get(claim.address)
            if since_s is None or time.monotonic() - since_s < SETTLE_S:
                continue
            key = (claim.address, claim.mac)
            if key not in self._pending and len(self._pending) < MAX_CLAIMANTS:
                self._pending.add(key)
                self._loop.call_later(SETTLE_S, self._judge, *key, uplink, since_s)

    def _own(self) -> set[bytes]:
        own = set()
        for sock in self._sockets.values():
            with contextlib.suppress(OSError):
                own.add(sock.link_layer()[1])
        return own

    def _judge(self, dvipa: Address, mac: bytes, uplink: str, since_s: float) -> None:
        """Later: whether this node owned the DVIPA all the time, and who the other is."""
        self._pending.discard((dvipa, mac))
        if self._since_s.get(dvipa) != since_s:
            return
        member = self._members().get(mac)
        if member is not None:
            self._claimed(dvipa, member)
            return
        self._counters["claimed_elsewhere"] += 1
        now_s = time.monotonic()
        if len(self._logged_s) >= MAX_CLAIMANTS:
            self._logged_s.clear()
        if now_s - self._logged_s.get((dvipa, mac), -QUIET_S) >= QUIET_S:
            self._logged_s[dvipa, mac] = now_s
            log.error("%s is ours, but %s on %s says it has it", dvipa, mac.hex(":"), uplink)

    def close(self) -> None:
        """Watch no more."""
        self._since_s.clear()
        for uplink, version in tuple(self._sockets):
            self._drop(uplink, version)
