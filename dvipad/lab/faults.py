"""Faults that a lab can have besides power cuts: partitions, a lossy mesh, links, meddlers."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Final

from dvipad.address import Address
from dvipad.lab import network
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LAN, UPLINK, LabError
from dvipad.lab.system import enter, run

MESH_PORT: Final = 4780
MESH_PROTOCOLS: Final = ("tcp", "udp")
TABLE: Final = "dvipad_lab_faults"
_RULE_LISTS: Final = (
    ("nft", "list", "ruleset"),
    ("iptables-save", "-t", "raw"),
    ("ip6tables-save", "-t", "raw"),
    ("iptables-legacy-save", "-t", "raw"),
    ("ip6tables-legacy-save", "-t", "raw"),
)
_RULE_FLUSHES: Final = (
    ("nft", "flush", "ruleset"),
    ("iptables", "-t", "raw", "-F"),
    ("ip6tables", "-t", "raw", "-F"),
    ("iptables-legacy", "-t", "raw", "-F"),
    ("ip6tables-legacy", "-t", "raw", "-F"),
)
_COUNTS: Final = re.compile(r"counter packets \d+ bytes \d+ ")


def faults_text(
    pairs: Collection[tuple[str, str]],
    mesh_loss_percent: float,
    protocols: Collection[str] = MESH_PROTOCOLS,
    hosts: Collection[str] = (),
) -> str:
    """The nftables table on the LAN's bridge: drop what goes `from, to`, and part of the mesh,
    or of what `hosts` have to do with it."""
    cuts = [f'    iifname "{one}" oifname "{other}" drop' for one, other in sorted(pairs)]
    parts = round(mesh_loss_percent * network.LOSS_PARTS / 100)
    places = [f'{side} "{host}" ' for host in hosts for side in ("iifname", "oifname")] or [""]
    loss = [
        # A datagram has the port on both sides, and takes part in the lottery once.
        f"    {place}meta l4proto {protocol} {ports}{network.lottery(parts)} drop"
        for place in places
        for protocol in protocols
        for ports in (f"th dport {MESH_PORT}", f"th sport {MESH_PORT} th dport != {MESH_PORT}")
        if parts > 0
    ]
    return "\n".join(
        [
            f"table bridge {TABLE} {{ }}",
            f"delete table bridge {TABLE}",
            f"table bridge {TABLE} {{",
            "  chain forward {",
            "    type filter hook forward priority 1; policy accept;",
            *cuts,
            *loss,
            "  }",
            "}",
            "",
        ]
    )


def _apply(
    cluster: Cluster,
    pairs: Collection[tuple[str, str]],
    mesh_loss_percent: float,
    protocols: Collection[str] = MESH_PROTOCOLS,
    hosts: Collection[str] = (),
) -> None:
    lan = network.namespace(cluster.spec, LAN)
    run(enter(lan, ["nft", "-f", "-"]), faults_text(pairs, mesh_loss_percent, protocols, hosts))


def partition(
    cluster: Cluster, one: Collection[str], other: Collection[str], *, one_way: bool = False
) -> None:
    """Let nothing pass between two groups of hosts, all at once; `one_way`: from `one` only.

    It replaces what :func:`partition` or :func:`lose_mesh` did before, as does :func:`mend`.
    """
    pairs = {(a, b) for a in one for b in other}
    _apply(cluster, pairs if one_way else pairs | {(b, a) for a, b in pairs}, 0.0)


def lose_mesh(
    cluster: Cluster,
    percent: float,
    protocols: Collection[str] = MESH_PROTOCOLS,
    *,
    hosts: Collection[str] = (),
) -> None:
    """Lose that part of the mesh's packets at random, between all nodes, in both directions.

    100 % of one of `protocols`: a firewall that knows only the other one. `hosts`: only what they
    send or get.
    """
    _apply(cluster, (), percent, protocols, hosts)


def mend(cluster: Cluster) -> None:
    """Undo :func:`partition` and :func:`lose_mesh`."""
    _apply(cluster, (), 0.0)


def set_link(cluster: Cluster, name: str, *, up: bool) -> None:
    """Pull the host's cable at the bridge, or plug it in: the host sees its carrier go."""
    lan = network.namespace(cluster.spec, LAN)
    run(["ip", "-n", lan, "link", "set", cluster.spec.host(name).name, "up" if up else "down"])


def flush_rules(cluster: Cluster, name: str) -> None:
    """What a firewall script does at its start: flush nftables, and the raw table of iptables."""
    for command in _RULE_FLUSHES:
        _run_if_there(cluster, name, command)


def queue_rules(cluster: Cluster, name: str) -> tuple[str, ...]:
    """The netfilter rules of a host that hand packets to a queue, as listed, without counts."""
    found = []
    for command in _RULE_LISTS:
        lines = _run_if_there(cluster, name, command).splitlines()
        found += [_COUNTS.sub("", line).strip() for line in lines if "queue" in line.lower()]
    return tuple(sorted(found))


def _run_if_there(cluster: Cluster, name: str, command: Collection[str]) -> str:
    """Output of a command on a host; one that is not installed or has no table says nothing."""
    shell = ["sh", "-c", 'command -v "$0" >/dev/null && exec "$0" "$@"', *command]
    return cluster.run(name, shell, check=False).stdout


def devices_of(cluster: Cluster, name: str, address: Address) -> tuple[str, ...]:
    """The interfaces of a host that have `address`."""
    shown = cluster.run(name, ["ip", "-j", "address", "show", "to", str(address)]).stdout
    rows = json.loads(shown or "[]")
    return tuple(sorted(row["ifname"] for row in rows if row.get("addr_info")))


def remove_address(cluster: Cluster, name: str, address: Address) -> None:
    """What a tidy operator does: delete an address that no configuration file mentions."""
    devices = devices_of(cluster, name, address)
    if not devices:
        raise LabError(f"{name} does not have {address}")
    for device in devices:
        host_address = f"{address}/{address.max_prefixlen}"
        cluster.run(name, ["ip", "address", "delete", host_address, "dev", device])


def filters(cluster: Cluster, name: str) -> tuple[int, int]:
    """How many lines `tc filter show` has for the host's uplink: ingress, egress."""
    counts = []
    for side in ("ingress", "egress"):
        command = ["tc", "filter", "show", "dev", UPLINK, side]
        counts.append(len(cluster.run(name, command, check=False).stdout.splitlines()))
    return counts[0], counts[1]


def remove_filters(cluster: Cluster, name: str) -> None:
    """Delete the TC filters of the host's uplink, whoever put them there."""
    for side in ("ingress", "egress"):
        cluster.run(name, ["tc", "filter", "delete", "dev", UPLINK, side], check=False)
