"""What fits a tunnel, and what the log says of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.bpf.layout import Tunnel
from dvipad.adapters.bpf.mtu import tunnel_mtu
from dvipad.adapters.bpf.settings import clamped_mss


@pytest.mark.parametrize(
    ("version", "tunnel", "inner"),
    [
        (4, Tunnel.IPIP, 1480),
        (4, Tunnel.GRE, 1476),
        (6, Tunnel.IPIP, 1460),
        (6, Tunnel.GRE, 1456),
        (4, Tunnel.IPIP_DEVICE, 1480),
        (6, Tunnel.GRE_DEVICE, 1452),
        (4, Tunnel.VXLAN, 1450),
        (6, Tunnel.VXLAN, 1430),
    ],
)
def test_the_outer_header_leaves_less(version: int, tunnel: Tunnel, inner: int) -> None:
    found = tunnel_mtu(1500, version, tunnel)
    assert (found.route_mtu, found.inner_mtu) == (1500, inner)
    assert (found.mss4, found.mss6) == (
        clamped_mss(1500, version, 4, tunnel),
        clamped_mss(1500, version, 6, tunnel),
    )


@given(st.integers(576, 65_535), st.sampled_from([4, 6]), st.sampled_from(list(Tunnel)))
def test_segments_of_the_mss_fit(route_mtu: int, version: int, tunnel: Tunnel) -> None:
    found = tunnel_mtu(route_mtu, version, tunnel)
    assert found.mss4 + 40 <= found.inner_mtu
    assert found.mss6 + 60 <= found.inner_mtu


def test_the_log_names_the_mss_or_what_is_missing() -> None:
    assert tunnel_mtu(1500, 4, Tunnel.IPIP).text(1500) == (
        "carries packets of 1480 bytes, its route 1500, the uplinks 1500: "
        "clients are offered an MSS of at most 1436 (IPv4) and 1416 (IPv6)"
    )
    assert tunnel_mtu(1600, 4, Tunnel.IPIP).text(1500).endswith("everything fits")
    narrow = tunnel_mtu(1300, 6, Tunnel.GRE)
    assert narrow.narrow()
    assert narrow.text(1500) == (
        "carries packets of 1256 bytes, its route 1300: "
        "too narrow for IPv6, which asks for 1324 bytes of the route"
    )
    assert not tunnel_mtu(1324, 6, Tunnel.GRE).narrow()
