"""What the tests of whole clusters share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dvipad.address import Address
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import Kind
from dvipad.lab.traffic import EchoServer

WAIT_S = 15.0


def targets_of(cluster: Cluster) -> list[str]:
    """Names of the targets."""
    return [host.name for host in cluster.spec.hosts() if host.kind is Kind.TARGET]


def profile(cluster_dvipa: str, options: str, targets: str = "ALL") -> str:
    """lb1 distributes port 80 with these options."""
    return "\n".join(
        (
            "VIPADYNAMIC",
            f"  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 {cluster_dvipa}",
            f"  VIPADISTRIBUTE DISTMETHOD {options} {cluster_dvipa} PORT 80 DESTIP {targets}",
            "ENDVIPADYNAMIC",
            "",
        )
    )


@contextmanager
def echo_servers(cluster: Cluster) -> Iterator[dict[str, EchoServer]]:
    """An echo server on every target and port; the distributor knows all of them."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(EchoServer(cluster, name, cluster.spec.ports))
            for name in targets_of(cluster)
        }
        wait_for_targets(cluster, "lb1", len(servers) * len(cluster.spec.ports))
        yield servers


def ready_targets(cluster: Cluster, host: str) -> int:
    """Targets of all ports, as `host` distributes them."""
    return sum(row["ready"] > 0 for row in cluster.view(host)["targets"])


def wait_for_targets(cluster: Cluster, host: str, count: int) -> None:
    """Wait until `host` distributes to `count` targets, over all ports."""
    cluster.wait_until(
        lambda: ready_targets(cluster, host) == count, WAIT_S, f"{host} knows {count} targets"
    )


def state(cluster: Cluster, host: str) -> str:
    """State of the DVIPA on `host`, in the words of the ownership table."""
    dvipa = str(cluster.spec.dvipa())
    rows = [row for row in cluster.view(host)["dvipas"] if row["dvipa"] == dvipa]
    return str(rows[0]["state"]) if rows else ""


def wait_for_state(cluster: Cluster, host: str, wanted: str) -> None:
    """Wait until the DVIPA is in that state on `host`."""
    cluster.wait_until(
        lambda: state(cluster, host) == wanted, WAIT_S, f"the DVIPA is {wanted} on {host}"
    )


def counters(cluster: Cluster, host: str) -> dict[str, Any]:
    """All counters of the daemon of `host`: `plane`, `queue`, `mesh`, …"""
    return cluster.ask(host, "counters")


def follow_policies(cluster: Cluster, host: str, text: str) -> None:
    """`host` goes by the policies in `text` when this returns: its data plane, too."""
    _follow(cluster, host, "policies.yaml", text)


def follow_profile(cluster: Cluster, host: str, text: str) -> None:
    """`host` has the profile `text` when this returns: its data plane, too."""
    _follow(cluster, host, "new.profile", text)


def follow_status(cluster: Cluster, host: str, text: str) -> None:
    """`host` has status objects, preferences and names as `text` says."""
    _follow(cluster, host, "status.yaml", text)


def _follow(cluster: Cluster, host: str, file: str, text: str) -> None:
    path = cluster.paths.host(host) / file
    path.write_text(text)
    answer = cluster.ask(host, "obeyfile", path=str(path))
    assert answer["accepted"], answer["problems"]
    wait_until_carried_out(cluster, host)


def wait_until_carried_out(cluster: Cluster, host: str) -> None:
    """Wait until what the core of `host` wants now is done: the last of it is in the hands of the
    thread that answers then."""
    cluster.wait_until(
        lambda: not counters(cluster, host)["runner"]["backlog"], WAIT_S, f"{host} has done all"
    )
    cluster.ask(host, "policies")


def wait_for_holder(cluster: Cluster, dvipa: Address, host: str) -> None:
    """Wait until the client sends packets for `dvipa` to `host`: a new owner announces itself when
    it is one."""
    cluster.wait_until(
        lambda: cluster.holder(dvipa) == host, WAIT_S, f"the client looks for {dvipa} at {host}"
    )
