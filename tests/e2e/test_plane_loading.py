"""What a refusal to load says: the missing feature, the verifier's reason, the wrong uplink."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dvipad.adapters.bpf.device import drops_multicast
from dvipad.adapters.bpf.layout import SERVICE_HELD, Role, Service
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.plane import DataPlane
from tests.e2e.dvs_network import inside, run
from tests.e2e.plane_network import Bench, pin_folder
from tests.e2e.plane_packets import DVIPA, TARGETS, four

__all__ = ["four"]
pytestmark = pytest.mark.e2e

REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int dvipad_ingress(struct __sk_buff *skb) { return *(int *)(long)skb->data; }
char LICENSE[] SEC("license") = "GPL";
"""


def test_a_refused_program_is_explained(four: Bench, tmp_path: Path) -> None:
    source = tmp_path / "refused.bpf.c"
    source.write_text(REFUSED)
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-idirafter", include]
    target = tmp_path / "refused.bpf.o"
    subprocess.run(["clang", *flags, "-c", str(source), "-o", str(target)], check=True)
    pins = pin_folder()
    settings = replace(four.plane.settings, object_path=target, pin_dir=pins)
    with inside(four.netns), pytest.raises(BpfError) as refusal:
        DataPlane.open(settings)
    message = str(refusal.value)
    assert "refused.bpf.o" in message
    assert "it needs Linux 6.1 or later with CONFIG_BPF_SYSCALL" in message
    assert "invalid access to packet" in message
    assert not pins.exists(), "a mount was left behind"


def test_an_uplink_must_be_ethernet(four: Bench) -> None:
    settings = replace(four.plane.settings, uplinks=("lo",), pin_dir=pin_folder())
    with inside(four.netns), pytest.raises(BpfError, match="lo is not an Ethernet device"):
        DataPlane.open(settings)
    settings.pin_dir.rmdir()


def test_a_plane_needs_an_uplink(four: Bench) -> None:
    with pytest.raises(ValueError, match="needs an uplink"):
        DataPlane.open(replace(four.plane.settings, uplinks=()))


def egress_filters(name: str) -> str:
    return run("tc", "-n", name, "filter", "show", "dev", "up0", "egress")


def test_a_distributor_alone_has_only_the_filter_for_arp_on_egress(four: Bench) -> None:
    plane, own = four.plane, four.plane.settings.xcf
    plane.set_dvipa(DVIPA[4], Role.OWNER, 1)
    plane.set_service(DVIPA[4], 80, TARGETS[4])
    assert "dvipad_arp" in egress_filters(four.netns)
    assert "dvipad_egress" not in egress_filters(four.netns)
    plane.set_service(DVIPA[4], 80, (*TARGETS[4], own))
    assert "dvipad_egress" in egress_filters(four.netns), "it is a target, too"
    plane.set_service(DVIPA[4], 80, TARGETS[4])
    with inside(four.netns):
        plane.attach()
    assert "dvipad_egress" not in egress_filters(four.netns)
    plane.set_dvipa(DVIPA[6], Role.HIDDEN, 1)
    assert "dvipad_egress" in egress_filters(four.netns)


def test_a_host_that_drops_multicasts_has_its_refusals_held_back(four: Bench) -> None:
    pins = pin_folder()
    with inside(four.netns):
        assert not drops_multicast(("up0",))
        run("sysctl", "-qw", "net.ipv6.conf.up0.drop_unicast_in_l2_multicast=1")
        assert drops_multicast(("up0",))
        plane = DataPlane.open(replace(four.plane.settings, pin_dir=pins))
        plane.set_service(DVIPA[6], 80, TARGETS[4])
        ((_key, value),) = plane._maps["services"].items()
        assert Service.from_buffer_copy(value).flags == SERVICE_HELD
        assert "dvipad_egress" in egress_filters(four.netns)
        plane.destroy()
