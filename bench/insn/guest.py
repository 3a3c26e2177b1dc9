"""Runs in the emulated machine: a client, a box and a server in a row, for each path anew.

python -m bench.insn.guest ROUNDS

Prints `insn PATH KIND INSTRUCTIONS` for each round: of one packet, from the client's system call
to where it is dropped, in front of the server. The path `drop` drops it in front of the box.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.build import FOLDER
from bench.insn.frames import BOX, BOX_INSIDE, CLIENT, DVIPA, PORT, SERVER, key, mac
from bench.insn.kinds import KINDS, Kind
from dvipad.adapters.bpf.layout import Role
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.settings import PlaneSettings

ENDS: Final = FOLDER / "ends.bpf.o"
FOREVER_NS: Final = 1 << 62
CLONE_NEWNET: Final = 0x4000_0000
MODULES: Final = ("veth", "sch_ingress", "cls_bpf", "ip_vs", "ip_vs_rr", "ipip")

_TOPOLOGY: Final = """
link add a0 netns a address {a0} type veth peer name d0 netns d address {d0}
link add d1 netns d address {d1} type veth peer name b0 netns b address {b0}
"""
_INSIDE: Final = {
    "a": (f"addr add {CLIENT}/24 dev a0", "link set a0 up"),
    "d": (
        f"addr add {BOX}/24 dev d0",
        f"addr add {BOX_INSIDE}/24 dev d1",
        "link set lo up",
        "link set d0 up",
        "link set d1 up",
        f"neigh add {CLIENT} lladdr {{a0}} dev d0 nud permanent",
        f"neigh add {SERVER} lladdr {{b0}} dev d1 nud permanent",
    ),
    "b": (f"addr add {SERVER}/24 dev b0", "link set b0 up"),
}


def run(*words: str) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE).stdout


def inside(name: str, *words: str) -> str:
    """The same in a network namespace."""
    return run("ip", "netns", "exec", name, *words)


@contextmanager
def row_of_hosts() -> Iterator[None]:
    """Namespaces a (client), d (box) and b (server)."""
    macs = {name: mac(name).hex(":") for name in ("a0", "d0", "d1", "b0")}
    try:
        for name in _INSIDE:
            run("ip", "netns", "add", name)
        batch = _TOPOLOGY.format(**macs)
        subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
        for name, lines in _INSIDE.items():
            text = "\n".join(line.format(**macs) for line in lines) + "\n"
            subprocess.run(["ip", "-n", name, "-batch", "-"], input=text, text=True, check=True)
        inside("d", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield
    finally:
        for name in _INSIDE:
            run("ip", "netns", "delete", name)


def enter(namespace: int) -> None:
    """This process is in that network namespace from now on (`os.setns` is of Python 3.12)."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """This process is in a network namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    enter(there)
    try:
        yield
    finally:
        enter(home)
        os.close(home)
        os.close(there)


def attach(name: str, device: str, side: str, section: str) -> None:
    """A program of `ends.bpf.c` on a device."""
    inside(name, "tc", "qdisc", "replace", "dev", device, "clsact")
    program = ("obj", str(ENDS), "sec", f"tc/{section}")
    inside(name, "tc", "filter", "add", "dev", device, side, "bpf", "da", *program)


# -- the paths -----------------------------------------------------------------------------------


@contextmanager
def dropped() -> Iterator[None]:
    """The base line: not even the box sees it."""
    attach("d", "d0", "ingress", "sink")
    yield


@contextmanager
def routed() -> Iterator[None]:
    """Plain forwarding: the DVIPA lives behind the server."""
    run("ip", "-n", "d", "route", "add", str(DVIPA), "via", str(SERVER))
    yield


@contextmanager
def device() -> Iterator[None]:
    """A route to the kernel's own ipip device."""
    ends = ("remote", str(SERVER), "local", str(BOX_INSIDE))
    run("ip", "-n", "d", "link", "add", "tunnel", "type", "ipip", *ends)
    run("ip", "-n", "d", "link", "set", "tunnel", "up")
    run("ip", "-n", "d", "route", "add", str(DVIPA), "dev", "tunnel")
    yield


@contextmanager
def ipvs() -> Iterator[None]:
    """LVS-TUN: IPVS with a real server behind an IPIP tunnel."""
    run("ip", "-n", "d", "addr", "add", f"{DVIPA}/32", "dev", "lo")
    service = f"{DVIPA}:{PORT}"
    inside("d", "ipvsadm", "-A", "-t", service, "-s", "rr")
    inside("d", "ipvsadm", "-a", "-t", service, "-r", f"{SERVER}:{PORT}", "-i")
    yield


@contextmanager
def dvipad() -> Iterator[None]:
    """Our data plane, on both devices of the box, as a daemon would set it."""
    settings = PlaneSettings(BOX_INSIDE, ("d0", "d1"), pin_dir=Path("/run/insn-bpf"), mtu=1500)
    with namespace("d"):
        plane = DataPlane.open(settings)
    try:
        plane.set_members(frozenset({SERVER}))
        plane.set_dvipa(DVIPA, Role.OWNER, 1)
        plane.set_service(DVIPA, PORT, (SERVER,), offload=True)
        plane.insert_connections(SERVER, key(), b"")
        plane.renew_lease(FOREVER_NS)
        yield
    finally:
        with namespace("d"):
            plane.destroy()


PATHS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    "drop": dropped,
    "route": routed,
    "ipip": device,
    "ipvs": ipvs,
    "dvipad": dvipad,
}


def measure(kind: Kind, turn: int) -> float:
    """Instructions for each packet of one run; what is said once, like a first SYN, is not
    counted."""
    if kind.opening is not None:
        send(FOLDER / f"{kind.opening}.frames", 1)
    return send(FOLDER / kind.file(turn), kind.count)


def send(frames: Path, count: int) -> float:
    """Sends from the client; instructions for each frame."""
    return float(inside("a", str(FOLDER / "sender"), "a0", str(frames), str(count)))


def main() -> int:
    """Measure everything."""
    rounds = int(sys.argv[1])
    for module in MODULES:
        run("modprobe", module)
    for path, prepare in PATHS.items():
        for kind in KINDS:
            with ExitStack() as stack:
                stack.enter_context(row_of_hosts())
                if kind.headroom:
                    attach("a", "a0", "egress", "headroom")
                stack.enter_context(prepare())
                if path != "drop":
                    attach("b", "b0", "ingress", "sink")
                for turn in range(rounds):
                    print(f"insn {path} {kind.name} {measure(kind, turn)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
