"""What the data plane of one node must know before it is loaded."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.layout import GUARD, LAYOUT_VERSION, Settings, Tunnel
from dvipad.adapters.bpf.xdp import XdpMode
from dvipad.address import Address, pack

QUEUE_MARK: Final = 0x64760001
"""Mark of SYNs on their way to NFQUEUE; high bits spell "dv", to stay clear of others' marks."""
SEEN_MARK: Final = 0x64760002
"""Mark of all else that the program leaves to the local stack; the guard takes it away."""

DEFAULT_PIN_DIR: Final = Path("/sys/fs/bpf/dvipad")
OBJECT_NAME: Final = "distribute.bpf.o"
INSTALLED_OBJECTS: Final = Path(__file__).resolve().parent / "objects"
_REPOSITORY_OBJECTS: Final = Path(__file__).resolve().parents[3] / "build" / "bpf"

OUTER_HEADER: Final = {4: 20, 6: 40}
TUNNEL_HEADER: Final = {
    Tunnel.IPIP: 0,
    Tunnel.GRE: 4,
    Tunnel.IPIP_DEVICE: 0,
    Tunnel.GRE_DEVICE: 8,
    Tunnel.VXLAN: 30,
}
"""Bytes between the outer and the inner IP header."""
_TCP_HEADER: Final = 20
_BURST_NS: Final = 40_000_000
"""The worker gets SYNs while a CPU has half of this time's budget left."""
_MSS_MIN: Final = 88
"""Linux takes no smaller MSS (net.ipv4.tcp_min_snd_mss is 48 plus 40 of options)."""


def object_file(name: str) -> Path:
    """Where a compiled eBPF object is: in the repository's build folder, or in the package."""
    built = _REPOSITORY_OBJECTS / name
    return built if built.is_file() else INSTALLED_OBJECTS / name


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """One node's data plane.

    `xcf`: own XCF address; it decides the family of the outer header, for the whole cluster.
    `uplinks`: devices that carry clients and tunnels. `pin_dir`: a folder, on a bpffs or to become
    one. `object_path` None: the compiled program is looked for where builds and packages put it.
    `established`, `embryonic`: sizes of the CRT; `budget_per_s`: SYNs per second and CPU that go
    to the queue worker; `window`: SYNs that it may leave undecided; `stale_ms`: age of its beat
    from which it is not asked any more. `xdp`: where established connections are forwarded before
    TC sees their packets. `direct`: established connections go to targets on the same link without
    a tunnel. `vxlan_port`: UDP, of the whole cluster. `mtu`: of the smallest uplink; None: looked
    up.
    """

    xcf: Address
    uplinks: tuple[str, ...]
    tunnel: Tunnel = Tunnel.IPIP
    pin_dir: Path = DEFAULT_PIN_DIR
    object_path: Path | None = None
    queue_mark: int = QUEUE_MARK
    seen_mark: int = SEEN_MARK
    xdp: XdpMode = XdpMode.OFF
    direct: bool = False
    liveness_port: int = 4780
    mesh_port: int = 4780
    vxlan_port: int = 4789
    stale_ms: int = 300
    budget_per_s: int = 2000
    window: int = 10
    established: int = 262_144
    embryonic: int = 65_536
    mtu: int | None = None

    def program(self) -> Path:
        """The object file to load."""
        return self.object_path or object_file(OBJECT_NAME)

    def guard(self) -> Path:
        """Where the program is pinned that netfilter asks."""
        return self.pin_dir / GUARD


def clamped_mss(
    mtu: int, xcf_version: int, dvipa_version: int, tunnel: Tunnel = Tunnel.IPIP
) -> int:
    """The largest MSS whose segments fit the tunnel over links of `mtu` bytes (RFC 6691).

    Room for GRE is left with IPIP too: nodes of one cluster may be set to different tunnels, for
    instance while an operator changes it node by node.
    """
    header = max(TUNNEL_HEADER[Tunnel.GRE], TUNNEL_HEADER[tunnel])
    outer = OUTER_HEADER[xcf_version] + header
    return max(_MSS_MIN, mtu - outer - OUTER_HEADER[dvipa_version] - _TCP_HEADER)


def compile_settings(settings: PlaneSettings, mtu: int, tunnel_device: int = 0) -> Settings:
    """The value of the `settings` map; `mtu` is that of the narrowest uplink or tunnel,
    `tunnel_device` an interface index."""
    cost_ns = 1_000_000_000 // max(1, settings.budget_per_s)
    version, tunnel = settings.xcf.version, settings.tunnel
    return Settings(
        xcf=(ctypes.c_ubyte * 16).from_buffer_copy(pack(settings.xcf)),
        stale_ns=settings.stale_ms * 1_000_000,
        budget_cost_ns=cost_ns,
        budget_burst_ns=max(_BURST_NS, cost_ns),
        layout=LAYOUT_VERSION,
        xcf_family=version,
        tunnel=tunnel,
        queue_mark=settings.queue_mark,
        seen_mark=settings.seen_mark,
        window=settings.window,
        liveness_port=_port(settings.liveness_port),
        mesh_port=_port(settings.mesh_port),
        mss4=clamped_mss(mtu, version, 4, tunnel),
        mss6=clamped_mss(mtu, version, 6, tunnel),
        device=tunnel_device,
        overhead=OUTER_HEADER[version] + TUNNEL_HEADER[tunnel],
        vxlan_port=_port(settings.vxlan_port),
    )


def _port(number: int) -> ctypes.Array[ctypes.c_ubyte]:
    return (ctypes.c_ubyte * 2)(*number.to_bytes(2, "big"))
