"""Hosts on a bridge, each with a data plane of its own, and TCP servers on the targets."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import Any, Final

from dvipad.adapters.bpf.layout import Role
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.settings import PlaneSettings
from dvipad.address import Address
from dvipad.lab.system import ip_batch
from tests.e2e.dvs_network import inside, run
from tests.e2e.plane_network import FOREVER_NS, SYSCTL, namespace, pin_folder

DVIPA: Final = {4: ip_address("192.0.2.100"), 6: ip_address("2001:db8::100")}
PORT: Final = 8080


def xcf(number: int, version: int) -> Address:
    """The address of host `number` on the LAN."""
    return ip_address(f"192.0.2.{number}" if version == 4 else f"2001:db8::{number}")


class Lan:
    """Host 9 is the client; the others are nodes, whose tunnels have outer headers of `outer`."""

    def __init__(self, stack: ExitStack, outer: int, **options: Any) -> None:
        self._stack = stack
        self._outer = outer
        self._options = options
        self._bridge = stack.enter_context(namespace())
        bridge = ["link add br0 type bridge mcast_snooping 0", "link set br0 up"]
        ip_batch(bridge, self._bridge)
        self.client = self.host(9)
        self.planes: dict[int, DataPlane] = {}
        self.names: dict[int, str] = {}

    def host(self, number: int) -> str:
        """A namespace on the bridge, that forwards nothing by itself."""
        name = self._stack.enter_context(namespace())
        with inside(name):
            (SYSCTL / "ipv4/ip_forward").write_text("0")
        cable = [
            f"link add eth0 type veth peer name port{number} netns {self._bridge}",
            f"addr add 192.0.2.{number}/24 dev eth0",
            f"addr add 2001:db8::{number}/64 dev eth0 nodad",
            "link set eth0 up",
        ]
        ip_batch(cable, name)
        ip_batch([f"link set port{number} master br0 up"], self._bridge)
        return name

    def node(self, number: int, role: Role, **options: Any) -> DataPlane:
        """A node that is `role` to both DVIPAs, and has them as addresses."""
        name = self.names[number] = self.host(number)
        place = "eth0" if role is Role.OWNER else "lo"
        dvipa6 = f"addr add {DVIPA[6]}/128 dev {place} nodad preferred_lft 0"
        ip_batch([f"addr add {DVIPA[4]}/32 dev lo", dvipa6], name)
        plane = self.open(number)
        self._stack.callback(self.destroy, number)
        for dvipa in DVIPA.values():
            plane.set_dvipa(dvipa, role, 1, **options)
        return plane

    def open(self, number: int) -> DataPlane:
        """Opens, or opens again, the data plane of a node."""
        before = self.planes.get(number)
        with inside(self.names[number]):
            settings = before.settings if before else self._settings(number)
            plane = self.planes[number] = DataPlane.open(settings)
        plane.renew_lease(FOREVER_NS)
        return plane

    def _settings(self, number: int) -> PlaneSettings:
        return PlaneSettings(
            xcf(number, self._outer),
            ("eth0",),
            pin_dir=pin_folder(),
            established=4096,
            embryonic=4096,
            **self._options,
        )

    def destroy(self, number: int) -> None:
        """Ends the data plane of a node, if it has one."""
        plane = self.planes.pop(number, None)
        if plane is not None:
            with inside(self.names[number]):
                plane.destroy()

    def mac(self, number: int) -> str:
        """The MAC address of a node."""
        name = self.names[number]
        return run("ip", "netns", "exec", name, "cat", "/sys/class/net/eth0/address").strip()

    def serve(self, number: int) -> None:
        """Answers each upload to either DVIPA with this node's number and the MD5 of it."""
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            with inside(self.names[number]):
                listener = socket.create_server((str(DVIPA[version]), PORT), family=family)
            self._stack.callback(listener.shutdown, socket.SHUT_RDWR)
            thread = threading.Thread(target=_accept, args=(listener, number), daemon=True)
            thread.start()

    def connect(self, version: int) -> socket.socket:
        """A connection of the client to a DVIPA."""
        with inside(self.client):
            return socket.create_connection((str(DVIPA[version]), PORT), timeout=5)


def _accept(listener: socket.socket, number: int) -> None:
    while True:
        try:
            connection, _peer = listener.accept()
        except OSError:
            listener.close()
            return
        threading.Thread(target=_answer, args=(connection, number), daemon=True).start()


def _answer(connection: socket.socket, number: int) -> None:
    digest = hashlib.md5()
    with connection:
        while data := connection.recv(1 << 16):
            digest.update(data)
        connection.sendall(f"{number} {digest.hexdigest()}".encode())


def exchange(connection: socket.socket, data: bytes) -> int:
    """Uploads `data`, checks the MD5 of what arrived, and returns the number of the node."""
    with connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(100):
            answer += part
    number, digest = answer.decode().split()
    assert digest == hashlib.md5(data).hexdigest()
    return int(number)


@contextmanager
def lan(outer: int, **options: Any) -> Iterator[Lan]:
    """An empty LAN; everything on it is gone at the end."""
    with ExitStack() as stack:
        yield Lan(stack, outer, **options)
