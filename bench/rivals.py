"""The ways to the servers that are compared; all of them on labs made alike.

Two labs exist side by side: one with daemons, where dvipad is at work, and one without, where the
others take turns, so that nobody's programs and rules are in another one's way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from types import TracebackType
from typing import Final

from bench.haproxy import HAProxy
from dvipad.address import Address
from dvipad.lab import wrk
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import UPLINK, Host, Kind, LabSpec
from dvipad.lab.traffic import NewConnections, Nginx

PREFIX: Final = "bench"
NFQUEUE_PORT: Final = 80
OFFLOAD_PORT: Final = 81
BULK_PORT: Final = 5201
"""iperf3 opens two connections that must come to the same server: one target only has this port."""
READY_S: Final = 20.0

ROUTED: Final = {4: "198.51.100.1", 6: "2001:db8:51::1"}
"""An address that lives behind a target and is reached through the box in the middle."""

BOX: Final = "lb1"
CLIENT: Final = "client"

_FORWARDING: Final = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.send_redirects=0",
    f"net.ipv4.conf.{UPLINK}.send_redirects=0",
    "net.ipv6.conf.all.forwarding=1",
)
_NO_REDIRECTS: Final = (
    "net.ipv4.conf.all.accept_redirects=0",
    "net.ipv6.conf.all.accept_redirects=0",
    f"net.ipv6.conf.{UPLINK}.accept_redirects=0",
)
# Ended connections must not fill the table of a box that sees many (nf_conntrack-sysctl).
_CONNTRACK: Final = tuple(
    f"net.netfilter.nf_conntrack_tcp_timeout_{state}=1"
    for state in ("time_wait", "close", "last_ack", "fin_wait", "close_wait")
)


def profile_text(spec: LabSpec) -> str:
    """The distributor's profile: a port decided by NFQUEUE, one offloaded, one for bulk data."""
    dvipa = spec.dvipa()
    ip4 = spec.family == 4
    defined = f"255.255.255.0 {dvipa}" if ip4 else f"DVIPA1 {dvipa}/64"
    name = str(dvipa) if ip4 else "DVIPA1"
    targets = [str(spec.xcf(host)) for host in targets_of(spec)]
    everywhere = " ".join(targets)
    return "\n".join(
        [
            "VIPADYNAMIC",
            f"  VIPADEFINE MOVEABLE IMMEDIATE {defined}",
            f"  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN {name} PORT {NFQUEUE_PORT}",
            f"    DESTIP {everywhere}",
            f"  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN OFFLOAD {name} PORT {OFFLOAD_PORT}",
            f"    DESTIP {everywhere}",
            f"  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN {name} PORT {BULK_PORT}",
            f"    DESTIP {targets[0]}",
            "ENDVIPADYNAMIC",
            "",
        ]
    )


def targets_of(spec: LabSpec) -> list[Host]:
    """The servers of a lab."""
    return [host for host in spec.hosts() if host.kind is Kind.TARGET]


class Labs:
    """Both labs, with the same servers on the same hosts."""

    def __init__(
        self, family: int, targets: int, direct: str = "auto", prefix: str = PREFIX
    ) -> None:
        """Nothing exists yet: that is what `with` does."""
        plain = LabSpec(prefix=f"{prefix}-plain", family=family, targets=targets)
        profiles = {BOX: profile_text(plain)}
        settings = {"direct": direct}
        own = replace(plain, prefix=f"{prefix}-dvipad", profiles=profiles, settings=settings)
        self.dvipad = Cluster(own)
        self.plain = Cluster(plain, daemons=False)
        self._running = ExitStack()

    def __enter__(self) -> Labs:
        try:
            for cluster in (self.plain, self.dvipad):
                destroy(cluster.spec.prefix)
                self._running.enter_context(cluster)
                self._start_servers(cluster)
            self._prepare_plain()
            self._await_distribution()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def _start_servers(self, cluster: Cluster) -> None:
        for host in targets_of(cluster.spec):
            nginx = Nginx(cluster, host.name, [NFQUEUE_PORT, OFFLOAD_PORT])
            self._running.callback(nginx.stop)
        first = targets_of(cluster.spec)[0].name
        argv = ["iperf3", "--server", "--port", str(BULK_PORT)]
        with (cluster.paths.host(first) / "iperf3.log").open("a") as log:
            cluster.popen(first, argv, stdout=log, stderr=log)

    def _prepare_plain(self) -> None:
        self.plain.run(BOX, ["sysctl", "-q", "-w", *_FORWARDING])
        for host in self.plain.spec.hosts():
            self.plain.run(host.name, ["sysctl", "-q", "-w", *_NO_REDIRECTS])

    def _await_distribution(self) -> None:
        """Wait until every target answers on both ports of the DVIPA."""
        spec = self.dvipad.spec
        wanted = {(p, h.name) for p in (NFQUEUE_PORT, OFFLOAD_PORT) for h in targets_of(spec)}
        seen: set[tuple[int, str]] = set()

        def all_seen() -> bool:
            for port in (NFQUEUE_PORT, OFFLOAD_PORT):
                argv = ["curl", "-gs", "--max-time", "1", wrk.url_of(spec.dvipa(), port)]
                name = self.dvipad.run(CLIENT, argv, check=False).stdout.strip()
                seen.add((port, name))
            return seen >= wanted

        self.dvipad.wait_until(all_seen, READY_S, f"all targets answer at {spec.dvipa()}")


def await_service(cluster: Cluster, port: int, targets: set[str]) -> None:
    """Wait until all targets answer at the DVIPA (with names: echo servers), and none fails."""

    def all_answer() -> bool:
        connections = NewConnections(
            cluster, CLIENT, cluster.spec.dvipa(), port, rate=200, count=12, timeout_s=2
        )
        with connections:
            report = connections.finish()
        return not report.failed and set(report.servers) == targets

    cluster.wait_until(all_answer, READY_S, f"all targets answer at {cluster.spec.dvipa()}")


class Rival(ABC):
    """One way from the client to the servers; :meth:`start` and :meth:`stop` for each turn."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name = name
        self.cluster = cluster
        self._targets = targets_of(cluster.spec)
        self._family = cluster.spec.family
        self._undo: list[tuple[str, str]] = []

    @abstractmethod
    def start(self, turn: int) -> Address:
        """Make the way; returns the address that the client uses. `turn` counts from 0.

        Who has one server only takes another one in each turn.
        """

    def stop(self) -> None:
        """Take away what :meth:`start` has made, whatever there is of it."""
        while self._undo:
            self._on(*self._undo.pop())

    def bulk(self) -> Address:
        """Like :meth:`start`, for port `BULK_PORT`, which the first target alone has."""
        return self.start(0)

    def port(self) -> int:
        """The port of the web servers."""
        return NFQUEUE_PORT

    def _do(self, host: str, command: str, undo: str) -> None:
        self._on(host, command)
        self._undo.append((host, undo))

    def _on(self, host: str, command: str) -> None:
        self.cluster.run(host, command.split())


class Direct(Rival):
    """Nothing in the middle."""

    def start(self, turn: int) -> Address:
        return self._targets[turn % len(self._targets)].address(self._family)


class Dvipad(Rival):
    """The DVIPA; with `port` another service of it."""

    def __init__(self, name: str, cluster: Cluster, port: int = NFQUEUE_PORT) -> None:
        super().__init__(name, cluster)
        self._port = port

    def start(self, turn: int) -> Address:
        return self.cluster.spec.dvipa()

    def port(self) -> int:
        return self._port


class Route(Rival):
    """Plain forwarding by the box to one target; the target answers the client directly.

    That is dvipad's own shape without its work: the floor for any box in the middle.
    """

    def start(self, turn: int) -> Address:
        target = self._targets[turn % len(self._targets)]
        box = self.cluster.spec.host(BOX)
        routed = ip_address(ROUTED[self._family])
        prefix = f"{routed}/{routed.max_prefixlen}"
        for host, verb, place in (
            (target.name, "address", f"{prefix} dev lo"),
            (BOX, "route", f"{prefix} via {target.address(self._family)}"),
            (CLIENT, "route", f"{prefix} via {box.address(self._family)}"),
        ):
            self._do(host, f"ip {verb} add {place}", f"ip {verb} del {place}")
        return routed


class ProxyRival(Rival):
    """HAProxy in tcp mode, one thread."""

    _proxy: HAProxy | None = None

    def start(self, turn: int) -> Address:
        servers = [host.address(self._family) for host in self._targets]
        services = {NFQUEUE_PORT: servers, BULK_PORT: servers[:1]}
        self._proxy = HAProxy(self.cluster, BOX, services, threads=1)
        return self.cluster.spec.host(BOX).address(self._family)

    def stop(self) -> None:
        if self._proxy is not None:
            self._proxy.stop()
            self._proxy = None


def dnat_text(family: int, box: Address, servers: Sequence[Address]) -> str:
    """The nftables ruleset: round robin by numgen for the web, the first server for bulk data."""
    kind = "ip" if family == 4 else "ip6"
    turns = ", ".join(f"{i} : {address}" for i, address in enumerate(servers))
    return "\n".join(
        [
            f"table {kind} bench {{",
            "  chain prerouting {",
            "    type nat hook prerouting priority dstnat; policy accept;",
            f"    {kind} daddr {box} tcp dport {NFQUEUE_PORT} "
            f"dnat to numgen inc mod {len(servers)} map {{ {turns} }}",
            f"    {kind} daddr {box} tcp dport {BULK_PORT} dnat to {servers[0]}",
            "  }",
            "}",
            "",
        ]
    )


class Dnat(Rival):
    """nftables numgen DNAT; the servers' way back to the client leads through the box."""

    def start(self, turn: int) -> Address:
        spec = self.cluster.spec
        box, client = spec.host(BOX).address(self._family), spec.host(CLIENT).address(self._family)
        servers = [host.address(self._family) for host in self._targets]
        ruleset = self.cluster.paths.host(BOX) / "dnat.nft"
        ruleset.write_text(dnat_text(self._family, box, servers))
        kind = "ip" if self._family == 4 else "ip6"
        self._do(BOX, f"nft -f {ruleset}", f"nft delete table {kind} bench")
        self.cluster.run(BOX, ["sysctl", "-q", "-w", *_CONNTRACK])
        for host in self._targets:
            way = f"{client} via {box}"
            self._do(host.name, f"ip route add {way}", f"ip route del {way}")
        return box


RIVALS: Final[dict[str, Callable[[Labs], Rival]]] = {
    "direct": lambda labs: Direct("direct", labs.plain),
    "route": lambda labs: Route("route", labs.plain),
    "nfqueue": lambda labs: Dvipad("nfqueue", labs.dvipad),
    "offload": lambda labs: Dvipad("offload", labs.dvipad, OFFLOAD_PORT),
    "dvipad": lambda labs: Dvipad("dvipad", labs.dvipad),
    "haproxy": lambda labs: ProxyRival("haproxy", labs.plain),
    "dnat": lambda labs: Dnat("dnat", labs.plain),
}
"""By the names that the figures have."""
