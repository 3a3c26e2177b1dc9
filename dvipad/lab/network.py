"""The lab's LAN: namespaces, links, and the rules that cut or spoil the path between two hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dvipad.lab.spec import LAN, UPLINK, Host, Kind, LabError, LabSpec, namespace_pattern
from dvipad.lab.system import enter, ip_batch, namespaces, run

BRIDGE: Final = "br0"
TABLE: Final = "dvipad_lab"
LOSS_PARTS: Final = 10000
"""Losses are counted in parts of ten thousand: a hundredth of a percent."""

# Duplicate address detection would make an address unusable for its first second.
_HOST_SYSCTLS: Final = (
    "ipv6/conf/all/accept_dad=0",
    "ipv6/conf/default/accept_dad=0",
    "ipv6/conf/all/accept_ra=0",
    "ipv6/conf/default/accept_ra=0",
)
# A client makes more connections in a minute than the default range has ports.
_CLIENT_SYSCTLS: Final = ("ipv4/ip_local_port_range=1024 65535", "ipv4/tcp_tw_reuse=1")
_LAN_SYSCTLS: Final = ("ipv6/conf/all/disable_ipv6=1", "ipv6/conf/default/disable_ipv6=1")


def namespace(spec: LabSpec, name: str) -> str:
    """The namespace of the host `name`, or of the LAN."""
    return f"{spec.prefix}-{name}"


def existing(prefix: str) -> list[str]:
    """The namespaces of the lab `prefix` that exist now."""
    pattern = namespace_pattern(prefix)
    return [name for name in namespaces() if pattern.fullmatch(name)]


def create(spec: LabSpec, hosts: Sequence[Host]) -> None:
    """Make the LAN and the `hosts` on it."""
    lan = namespace(spec, LAN)
    ip_batch([f"netns add {lan}"])
    _sysctl(lan, _LAN_SYSCTLS)
    ip_batch(
        [
            f"link add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
            f"link set {BRIDGE} up",
        ],
        lan,
    )
    add_hosts(spec, hosts)


def add_hosts(spec: LabSpec, hosts: Sequence[Host]) -> None:
    """Make the namespaces of `hosts`, and connect them to the LAN."""
    ip_batch(f"netns add {namespace(spec, host.name)}" for host in hosts)
    for host in hosts:
        extra = _CLIENT_SYSCTLS if host.kind is Kind.CLIENT else ()
        _sysctl(namespace(spec, host.name), (*_HOST_SYSCTLS, *extra))
    ip_batch((line for host in hosts for line in _lan_side(spec, host)), namespace(spec, LAN))
    for host in hosts:
        ip_batch(_host_side(host), namespace(spec, host.name))


def _lan_side(spec: LabSpec, host: Host) -> list[str]:
    peer = f"peer name {UPLINK} address {host.mac} netns {namespace(spec, host.name)}"
    return [
        f"link add {host.name} type veth {peer}",
        f"link set {host.name} master {BRIDGE} up",
    ]


def _host_side(host: Host) -> list[str]:
    return [
        "link set lo up",
        f"link set {UPLINK} up",
        f"address add {host.address(4)}/24 dev {UPLINK}",
        f"address add {host.address(6)}/64 dev {UPLINK} nodad",
    ]


def _sysctl(name: str, settings: Iterable[str]) -> None:
    pairs = (setting.split("=", 1) for setting in settings)
    script = "\n".join(f"echo '{value}' > /proc/sys/net/{key}" for key, value in pairs)
    run(enter(name, ["sh", "-e"]), script)


def unplug(spec: LabSpec, host: Host) -> None:
    """Take the host's link away: from here on nothing that it sends gets out."""
    run(["ip", "-n", namespace(spec, LAN), "link", "delete", host.name])


def delete(names: Iterable[str]) -> None:
    """Delete namespaces, and with them their links, addresses, rules and programs."""
    lines = [f"netns delete {name}" for name in names]
    if lines:
        ip_batch(lines)


def rules_text(cuts: Iterable[tuple[str, str]], losses: Mapping[str, float]) -> str:
    """The LAN's whole nftables ruleset as one transaction.

    `cuts`: (from, to) hosts between which nothing passes; `losses`: host → percent of the packets,
    in either direction, that are lost at random.
    """
    pairs = ", ".join(f'"{a}" . "{b}"' for a, b in sorted(cuts))
    elements = f" elements = {{ {pairs} }}" if pairs else ""
    lost = [
        f'    {side} "{host}"{lottery(parts)} drop'
        for host, percent in sorted(losses.items())
        if (parts := round(percent * LOSS_PARTS / 100)) > 0
        for side in ("iifname", "oifname")
    ]
    return "\n".join(
        [
            f"table bridge {TABLE} {{ }}",
            f"delete table bridge {TABLE}",
            f"table bridge {TABLE} {{",
            f"  set cuts {{ type ifname . ifname;{elements} }}",
            "  chain forward {",
            "    type filter hook forward priority 0; policy accept;",
            "    iifname . oifname @cuts drop",
            *lost,
            "  }",
            "}",
            "",
        ]
    )


def lottery(parts: int) -> str:
    """The match that a packet passes with a chance of `parts` in `LOSS_PARTS`."""
    return "" if parts >= LOSS_PARTS else f" numgen random mod {LOSS_PARTS} < {parts}"


def apply_rules(
    spec: LabSpec, cuts: Iterable[tuple[str, str]], losses: Mapping[str, float]
) -> None:
    """Make the LAN lose what `cuts` and `losses` say, and nothing else."""
    if any(not 0 <= percent <= 100 for percent in losses.values()):
        raise LabError("a loss is a percentage from 0 to 100")
    run(enter(namespace(spec, LAN), ["nft", "-f", "-"]), rules_text(cuts, losses))


def neighbour(spec: LabSpec, host: Host, address: str) -> str | None:
    """The MAC address that `host` has in its neighbour table for `address`, None without one."""
    shown = run(["ip", "-n", namespace(spec, host.name), "neighbour", "show", "to", address])
    words = shown.split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else None
