"""HAProxy as a rival, in tcp mode, as its manual tunes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dvipad.address import Address
from dvipad.lab.cluster import Cluster
from dvipad.lab.nginx import listening_ports
from dvipad.lab.spec import LabError

ROUND_ROBIN: Final = "roundrobin"
READY_S: Final = 10.0
MAX_CONNECTIONS: Final = 6000
BUFFER_BYTES: Final = 65536
PIPE_BYTES: Final = 524288
"""Measured: a third less CPU time for bulk data than with the defaults, no more for the rest."""

# HAProxy opens a connection of its own for each of the client's: it needs the ports, and closed
# connections must not hold them for a minute (HAProxy's management guide, "port exhaustion").
SYSCTLS: Final = ("net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1")


def place_text(address: Address, port: int) -> str:
    """An address with a port, as HAProxy's configuration and nft write it."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def config_text(
    services: Mapping[int, Sequence[Address]], family: int, threads: int, balance: str = ROUND_ROBIN
) -> str:
    """haproxy.cfg: each port of `services` goes to that port of its servers, by `balance`.

    It listens on every address, so that it can start before the address has come to its host.
    splice and smart accept/connect save copies and ACKs (configuration manual, 4.2), bigger
    buffers and pipes save turns (3.2).
    """
    lines = [
        "global",
        f"  nbthread {threads}",
        f"  maxconn {MAX_CONNECTIONS}",
        f"  tune.bufsize {BUFFER_BYTES}",
        f"  tune.pipesize {PIPE_BYTES}",
        "defaults",
        "  mode tcp",
        f"  balance {balance}",
        "  option splice-auto",
        "  option tcp-smart-accept",
        "  option tcp-smart-connect",
        "  timeout connect 5s",
        "  timeout client 1h",
        "  timeout server 1h",
        f"  maxconn {MAX_CONNECTIONS}",
    ]
    everywhere = "[::]" if family == 6 else "0.0.0.0"
    for port, servers in services.items():
        lines += [f"listen port{port}", f"  bind {everywhere}:{port} backlog 4096"]
        lines += [f"  server s{i} {place_text(a, port)}" for i, a in enumerate(servers, 1)]
    return "\n".join([*lines, ""])


class HAProxy:
    """HAProxy on a host of a lab, in the foreground; it dies with the host."""

    def __init__(
        self,
        cluster: Cluster,
        host: str,
        services: Mapping[int, Sequence[Address]],
        threads: int = 1,
        balance: str = ROUND_ROBIN,
    ) -> None:
        """Start, and return when it listens."""
        folder = cluster.paths.host(host) / "haproxy"
        folder.mkdir(exist_ok=True)
        config, log = folder / "haproxy.cfg", folder / "haproxy.log"
        config.write_text(config_text(services, cluster.spec.family, threads, balance))
        cluster.run(host, ["sysctl", "-q", "-w", *SYSCTLS])
        with log.open("a") as output:
            argv = ["haproxy", "-db", "-f", str(config)]
            self.process = cluster.popen(host, argv, stdout=output, stderr=output)

        def listens() -> bool:
            if self.process.poll() is not None:
                raise LabError(f"haproxy on {host} ended: {log.read_text()[-1000:]}")
            tables = cluster.run(host, ["cat", "/proc/net/tcp", "/proc/net/tcp6"]).stdout
            return set(services) <= listening_ports(tables)

        cluster.wait_until(listens, READY_S, f"haproxy on {host} listens")

    def stop(self) -> None:
        """End it at once, with its connections."""
        self.process.kill()
        self.process.wait()
