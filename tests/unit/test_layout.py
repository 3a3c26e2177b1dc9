"""layout.py says what bpf/dvipad.h says: sizes and offsets by BTF, names and limits by text."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.bpf import counting, layout
from dvipad.adapters.bpf.settings import (
    PlaneSettings,
    clamped_mss,
    compile_settings,
    object_file,
)
from dvipad.address import Address, pack

HEADER = Path(__file__).parents[2] / "bpf" / "dvipad.h"
STRUCTS = {
    "connection": layout.Connection,
    "connection4": layout.Connection4,
    "front": layout.Front,
    "route": layout.Route,
    "ending": layout.Ending,
    "dvipa": layout.Dvipa,
    "service_key": layout.ServiceKey,
    "service": layout.Service,
    "refused": layout.Refused,
    "target": layout.Target,
    "uplink": layout.Uplink,
    "settings": layout.Settings,
    "shared": layout.Shared,
}

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(
    lambda address: _not_mapped(address) if isinstance(address, IPv6Address) else address
)
ports = st.integers(0, 65535)


def _not_mapped(address: IPv6Address) -> Address:
    return address.ipv4_mapped or address


@pytest.fixture(scope="module")
def btf() -> dict[str, Any]:
    """The struct types of the compiled object, by name."""
    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin")
    assert bpftool, "bpftool is not installed"
    program = object_file("distribute.bpf.o")
    assert program.is_file(), "the eBPF objects are not built: make -C bpf"
    dump = subprocess.run(
        [bpftool, "-j", "btf", "dump", "file", str(program)], capture_output=True, check=True
    )
    types = json.loads(dump.stdout)["types"]
    return {each["name"]: each for each in types if each["kind"] == "STRUCT"}


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_agree_in_size_and_offsets(name: str, btf: dict[str, Any]) -> None:
    mirror = STRUCTS[name]
    assert ctypes.sizeof(mirror) == btf[name]["size"]
    theirs = {each["name"]: each["bits_offset"] // 8 for each in btf[name]["members"]}
    ours = {field[0]: getattr(mirror, field[0]).offset for field in mirror._fields_}
    assert ours == theirs


def test_packers_agree_with_structs() -> None:
    assert layout.CONNECTION.size == ctypes.sizeof(layout.Connection) == 36
    assert layout.ROUTE.size == ctypes.sizeof(layout.Route)
    route = layout.Route.from_buffer_copy(layout.ROUTE.pack(7, 1, 5, 99))
    assert (route.target, route.closing, route.chooser, route.created_ns) == (7, 1, 5, 99)


def test_counters_have_the_names_and_order_of_the_header() -> None:
    body = HEADER.read_text().partition("enum counter {")[2].partition("COUNTERS,")[0]
    names = re.findall(r"^\tCOUNT_(\w+),", body, re.MULTILINE)
    assert tuple(name.lower() for name in names) == counting.COUNTERS


def test_constants_have_the_values_of_the_header() -> None:
    text = HEADER.read_text()
    defined = dict(re.findall(r"^#define (\w+) (\d+)", text, re.MULTILINE))
    for name in (
        "LAYOUT_VERSION",
        "DVIPAS_MAX",
        "SERVICES_MAX",
        "TARGETS_MAX",
        "RING_MAX",
        "MEMBERS_MAX",
        "UPLINKS_MAX",
        "FRONT_MAX",
        "THIS_NODE",
        "DVIPA_COLLECTING",
        "DVIPA_QUIET",
        "SERVICE_OFFLOAD",
        "SERVICE_HELD",
        "TUNNEL_ID",
        "PREFIXES_MAX",
        "TEXTS_MAX",
        "TEXT_BYTES",
    ):
        assert getattr(layout, name) == int(defined[name]), name
    enums = dict(re.findall(r"^\t(ROLE_\w+|TUNNEL_\w+|FRONT_[A-Z_]+) = (\d+),", text, re.MULTILINE))
    assert enums == {
        **{f"ROLE_{role.name}": str(role.value) for role in layout.Role},
        **{f"FRONT_{kind.name}": str(kind.value) for kind in layout.FrontKind},
        **{f"TUNNEL_{tunnel.name}": str(tunnel.value) for tunnel in layout.Tunnel},
    }
    assert PlaneSettings.__dataclass_fields__["established"].default == int(
        defined["ESTABLISHED_MAX"]
    )
    assert PlaneSettings.__dataclass_fields__["embryonic"].default == int(defined["EMBRYONIC_MAX"])


@given(addresses, ports, addresses, ports)
def test_connection_keys_have_network_order(
    client: Address, client_port: int, dvipa: Address, dvipa_port: int
) -> None:
    key = layout.connection_key(client, client_port, dvipa, dvipa_port)
    assert key[:32] == pack(client) + pack(dvipa)
    assert key[32:] == client_port.to_bytes(2, "big") + dvipa_port.to_bytes(2, "big")


@given(st.lists(st.binary(min_size=36, max_size=36)))
def test_batches_split_into_the_keys_that_they_are_made_of(keys: list[bytes]) -> None:
    assert list(layout.split_keys(b"".join(keys))) == keys


def test_a_batch_with_a_torn_key_is_refused() -> None:
    with pytest.raises(ValueError, match="37 bytes"):
        layout.split_keys(bytes(37))


@given(addresses, ports)
def test_service_keys_can_be_read_back(dvipa: Address, port: int) -> None:
    key = layout.service_key(dvipa, port)
    assert len(key) == ctypes.sizeof(layout.ServiceKey)
    assert layout.service_of(key) == (dvipa, port)


@pytest.mark.parametrize(
    ("xcf", "dvipa", "mss"), [(4, 4, 1436), (4, 6, 1416), (6, 4, 1416), (6, 6, 1396)]
)
def test_segments_of_the_clamped_mss_fill_the_tunnel(xcf: int, dvipa: int, mss: int) -> None:
    assert clamped_mss(1500, xcf, dvipa) == mss
    outer, inner = (20 if xcf == 4 else 40) + 4, (20 if dvipa == 4 else 40) + 20
    assert mss + outer + inner == 1500


def test_settings_compile_for_the_program() -> None:
    settings = PlaneSettings(
        ip_address("192.0.2.1"),
        ("eth0",),
        tunnel=layout.Tunnel.GRE,
        liveness_port=0x1234,
        stale_ms=300,
        budget_per_s=10,
    )
    value = compile_settings(settings, 1500)
    assert bytes(value.xcf) == pack(settings.xcf)
    assert (value.xcf_family, value.tunnel, value.queue_mark) == (4, 1, settings.queue_mark)
    assert bytes(value.liveness_port) == b"\x12\x34"
    assert value.stale_ns == 300_000_000
    assert value.budget_cost_ns == value.budget_burst_ns == 100_000_000, "one SYN must fit"
    assert (value.mss4, value.mss6) == (1436, 1416)
    assert (value.device, value.overhead) == (0, 24)
    value = compile_settings(replace(settings, tunnel=layout.Tunnel.VXLAN), 1500, 7)
    assert (value.mss4, value.mss6) == (1410, 1390)
    assert (value.device, value.overhead, bytes(value.vxlan_port)) == (7, 50, b"\x12\xb5")


def test_keys_of_policies_have_the_size_of_the_header(btf: dict[str, Any]) -> None:
    assert layout.POLICY_KEY.size == btf["policy_key"]["size"]
    assert layout.TEXT_KEY.size == btf["text_key"]["size"]
    defined = re.search(r"#define POLICY_BITS \((.+?)\)", HEADER.read_text())
    assert defined and sum(map(int, defined[1].split("+"))) == layout.POLICY_BITS
