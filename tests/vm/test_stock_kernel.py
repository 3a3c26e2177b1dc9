"""On a stock kernel nothing is missing, and the first choice of everything works."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from dvipad.adapters.bpf.layout import Tunnel
from dvipad.adapters.features import detect
from dvipad.adapters.rules import Backend
from tests.e2e.plane_network import bench

pytestmark = pytest.mark.e2e


def test_it_is_the_stock_kernel_with_modules() -> None:
    assert re.fullmatch(r"6\.1\.0-[0-9]+-cloud-amd64", platform.release())
    assert (Path("/lib/modules") / platform.release() / "modules.dep").exists()


def test_nothing_is_missing() -> None:
    features = detect()
    assert features.missing == ()
    assert features.tracepoint
    assert features.queue is Backend.NFT


def test_the_verifier_takes_the_programs() -> None:
    """It refuses what later ones take: keys of maps behind a function's argument, larger frames."""
    with bench("192.0.2.1", tunnel=Tunnel.VXLAN) as made:
        assert made.plane.counters()


def test_the_nft_queue_expression_comes_from_its_module() -> None:
    detect()
    loaded = {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}
    assert {"nfnetlink_queue", "nft_queue", "sch_ingress"} <= loaded
