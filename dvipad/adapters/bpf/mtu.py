"""What fits the tunnels: the MTU of each, and the MSS that keeps clients' segments within it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dvipad.adapters.bpf.layout import Tunnel
from dvipad.adapters.bpf.settings import OUTER_HEADER, TUNNEL_HEADER, clamped_mss

IPV6_MINIMUM: Final = 1280
"""What every link must carry for IPv6 (RFC 8200, 5)."""


@dataclass(frozen=True, slots=True)
class TunnelMtu:
    """The tunnel to one node, in bytes.

    `route_mtu`: what the path to it carries, as far as the kernel knows; `inner_mtu`: what that
    leaves for a client's packet. `mss4`, `mss6`: the largest MSS for IPv4 and IPv6 DVIPAs whose
    segments fit, with room for GRE in any case.
    """

    route_mtu: int
    inner_mtu: int
    mss4: int
    mss6: int

    def narrow(self) -> bool:
        """Whether it lacks room for the shortest packets that IPv6 may count on."""
        return self.inner_mtu < IPV6_MINIMUM

    def text(self, uplink_mtu: int) -> str:
        """One line for the log: what fits, next to what the uplinks carry, and what to do."""
        fits = f"carries packets of {self.inner_mtu} bytes, its route {self.route_mtu}"
        if self.narrow():
            missing = self.route_mtu + IPV6_MINIMUM - self.inner_mtu
            return f"{fits}: too narrow for IPv6, which asks for {missing} bytes of the route"
        if self.inner_mtu >= uplink_mtu:
            return f"{fits}, the uplinks {uplink_mtu}: everything fits"
        return (
            f"{fits}, the uplinks {uplink_mtu}: clients are offered an MSS of at most {self.mss4} "
            f"(IPv4) and {self.mss6} (IPv6)"
        )


def tunnel_mtu(route_mtu: int, xcf_version: int, tunnel: Tunnel) -> TunnelMtu:
    """The tunnel over a path of `route_mtu` bytes, with outer headers of `xcf_version`."""
    header = OUTER_HEADER[xcf_version] + TUNNEL_HEADER[tunnel]
    return TunnelMtu(
        route_mtu,
        route_mtu - header,
        clamped_mss(route_mtu, xcf_version, 4, tunnel),
        clamped_mss(route_mtu, xcf_version, 6, tunnel),
    )
