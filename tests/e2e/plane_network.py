"""A data plane without a daemon, for tests: packets into its programs, or hosts on a bridge."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import pytest
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from dvipad.adapters.bpf.layout import Tunnel
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.settings import PlaneSettings
from dvipad.adapters.bpf.tc import TestRun, test_run
from dvipad.lab.system import ip_batch
from dvipad.vmlab.__main__ import VM_VARIABLE
from tests.e2e.dvs_network import inside, run

NOT_HERE: Final = () if VM_VARIABLE in os.environ else (Tunnel.IPIP_DEVICE, Tunnel.GRE_DEVICE)
"""Tunnels whose devices only a stock kernel is sure to have (``make vmlab``)."""
TUNNELS: Final = tuple(
    pytest.param(tunnel, id=tunnel.name.lower()) for tunnel in Tunnel if tunnel not in NOT_HERE
)
SYSCTL: Final = Path("/proc/sys/net")
"""Of the namespace in which the thread is that looks."""
PROGRAMMED: Final = (Tunnel.IPIP, Tunnel.GRE)
"""Tunnels that the program makes itself."""
PASS = 0xFFFF_FFFF
DROP = 2
REDIRECT = 7
FOREVER_NS = 1 << 62
_numbers = itertools.count()

# Loopback, from which test runs come, has this MAC: the packet is for this host.
OWN_MAC = "00:00:00:00:00:00"
PEER_MAC = "02:00:00:00:00:07"


def frame(*layers: Packet) -> bytes:
    """An Ethernet frame to this host, as bytes."""
    packet = Ether(dst=OWN_MAC, src=PEER_MAC)
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


@contextmanager
def namespace() -> Iterator[str]:
    """A new network namespace without IPv6 address detection delays; gone at the end."""
    name = f"dvp-{os.getpid()}-{next(_numbers)}"
    run("ip", "netns", "add", name)
    try:
        with inside(name):
            for where in ("all", "default"):
                (SYSCTL / f"ipv6/conf/{where}/accept_dad").write_text("0")
        ip_batch(["link set lo up"], name)
        yield name
    finally:
        run("ip", "netns", "del", name)


@dataclass
class Bench:
    """A loaded plane in a namespace of its own, for test runs."""

    plane: DataPlane
    netns: str
    _before: dict[str, int] = field(default_factory=dict)

    def run(self, program: str, packet: bytes, context: bytes = b"") -> TestRun:
        """Runs `dvipad_ingress` or `dvipad_egress` on a frame."""
        self._before = self.plane.counters()
        with inside(self.netns):
            return test_run(self.plane.program_fd(f"dvipad_{program}"), packet, context)

    def ingress(self, *layers: Packet) -> TestRun:
        """A packet that comes in."""
        return self.run("ingress", frame(*layers))

    def counted(self) -> dict[str, int]:
        """What the last run counted."""
        now = self.plane.counters()
        return {name: now[name] - was for name, was in self._before.items() if now[name] != was}


def pin_folder() -> Path:
    """A fresh folder for pins; `DataPlane` mounts and removes it."""
    return Path(tempfile.mkdtemp(prefix="dvp-"))


@contextmanager
def bench(xcf: str, **options: Any) -> Iterator[Bench]:
    """A data plane on one end of a cable, its DVIPAs unset, its lease endless."""
    with ExitStack() as stack:
        name = stack.enter_context(namespace())
        stack.enter_context(inside(name))
        links = [f"link set {end} up" for end in ("up0", "up1")]
        address = "addr add 192.0.2.1/24 dev up0"
        ip_batch(["link add up0 type veth peer name up1", *links, address], name)
        options.setdefault("established", 1024)
        options.setdefault("embryonic", 1024)
        settings = PlaneSettings(
            ip_address(xcf), ("up0",), pin_dir=pin_folder(), mtu=1500, **options
        )
        plane = DataPlane.open(settings)
        stack.callback(plane.destroy)
        plane.renew_lease(FOREVER_NS)
        yield Bench(plane, name)
