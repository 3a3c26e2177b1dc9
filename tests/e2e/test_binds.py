"""Binds to addresses of a VIPARANGE, seen as applications make them (D10)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from dvipad.adapters.bind_events import BindSettings, BindWatcher, Ranges
from dvipad.adapters.binds import ProgramBindWatcher, destroy
from dvipad.adapters.binds_poll import PollingBindWatcher
from dvipad.adapters.bpf.settings import object_file
from dvipad.adapters.nonlocal_bind import NAME
from dvipad.adapters.ranges import RangeWatcher
from dvipad.address import Address
from dvipad.core.inputs import AddressesBound
from tests.e2e.dvs_network import SLOW, bpffs, inside, namespace, wait_readable

pytestmark = pytest.mark.e2e

A4, B4, OUTSIDE4 = (ip_address(f"198.51.100.{n}") for n in (1, 2, 130))
A6, B6 = ip_address("2001:db8:ff::1"), ip_address("2001:db8:ff::2")
RANGES: Ranges = frozenset({(ip_address("198.51.100.0"), 25), (ip_address("2001:db8:ff::"), 64)})
SEEN_WITHIN_S = 1.0
IP_BIND_ADDRESS_NO_PORT = 24
IP_FREEBIND = 15
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
IPV4 = Path("/proc/sys/net/ipv4/ip_nonlocal_bind")
IPV6 = Path("/proc/sys/net/ipv6/ip_nonlocal_bind")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[BindSettings]:
    """A namespace without any of the addresses, with this thread in it."""
    with bpffs(tmp_path / "bpf") as pins, namespace() as name:
        made = BindSettings(pins / "binds", object_file("binds.bpf.o"))
        with inside(name):
            yield made
        destroy(made)
        assert not made.pin_dir.exists()


@pytest.fixture
def watching(settings: BindSettings, tmp_path: Path) -> Iterator[RangeWatcher]:
    """A watcher of `RANGES` whose first report is read."""
    watcher = RangeWatcher(settings, tmp_path)
    watcher.watch(RANGES)
    assert wait(watcher) == {}
    yield watcher
    watcher.destroy()


def wait(
    watcher: BindWatcher | RangeWatcher,
    like: Callable[[dict[Address, int]], bool] = lambda _bound: True,
    timeout_s: float = SEEN_WITHIN_S,
) -> dict[Address, int]:
    """The first report that is `like` this."""
    until = time.monotonic() + timeout_s * SLOW
    while wait_readable(watcher.fileno(), max(0.0, until - time.monotonic())):
        for event in watcher.read_events():
            assert isinstance(event, AddressesBound)
            if like(dict(event.bound)):
                return dict(event.bound)
    raise AssertionError("no such report")


def bind(address: Address, kind: int = STREAM, port: int = 0) -> socket.socket:
    """A socket that is bound to the address, and does nothing else."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    made = socket.socket(family, kind)
    made.bind((str(address), port))
    return made


@pytest.mark.parametrize("port", [0, 5060])
@pytest.mark.parametrize("kind", [STREAM, DATAGRAM], ids=["tcp", "udp"])
@pytest.mark.parametrize("address", [A4, A6], ids=["v4", "v6"])
def test_a_bind_is_seen_and_its_end(
    watching: RangeWatcher, address: Address, kind: int, port: int
) -> None:
    before_ns = time.monotonic_ns()
    with bind(address, kind, port):
        bound_ns = time.monotonic_ns()
        found = wait(watching)
        seen_ms = (time.monotonic_ns() - bound_ns) / 1e6
        assert list(found) == [address]
        assert before_ns < found[address] < bound_ns
    closed_ns = time.monotonic_ns()
    assert wait(watching) == {}
    gone_ms = (time.monotonic_ns() - closed_ns) / 1e6
    print(f"seen after {seen_ms:.2f} ms, gone after {gone_ms:.2f} ms")


def test_addresses_outside_the_ranges_do_not_matter(watching: RangeWatcher) -> None:
    with bind(ip_address("127.0.0.1")), bind(OUTSIDE4), bind(ip_address("::")), bind(A4):
        assert list(wait(watching)) == [A4]


def test_what_others_bind_does_not_matter(watching: RangeWatcher) -> None:
    """Another namespace has the same addresses; many nodes of a lab share one kernel."""
    with namespace() as other:
        with inside(other):
            IPV4.write_text("1")
            elsewhere = bind(A4)
        with elsewhere, bind(B4):
            assert list(wait(watching)) == [B4]
    assert wait(watching) == {}


def test_each_bind_has_a_greater_number(watching: RangeWatcher) -> None:
    """A second socket is a new bind; the end of either is none."""
    first = bind(A4)
    one = wait(watching)[A4]
    second = bind(A4)
    two = wait(watching)[A4]
    assert two > one
    second.close()
    with bind(B4):
        assert wait(watching, lambda bound: B4 in bound)[A4] == two
        first.close()
        assert list(wait(watching)) == [B4]


def test_a_mapped_address_is_the_ipv4_one(watching: RangeWatcher) -> None:
    with socket.socket(socket.AF_INET6) as made:
        made.bind((f"::ffff:{A4}", 0))
        assert list(wait(watching)) == [A4]


def test_a_bind_without_a_port_counts(watching: RangeWatcher) -> None:
    """IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect()."""
    with socket.socket() as made:
        made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((str(A4), 0))
        assert list(wait(watching)) == [A4]
        made.bind((str(OUTSIDE4), 0))
        assert wait(watching) == {}


def test_a_refused_bind_does_not_count(watching: RangeWatcher) -> None:
    with bind(A4, port=5060) as made, socket.socket() as late:
        assert list(wait(watching)) == [A4]
        with pytest.raises(OSError, match="Invalid argument"):
            made.bind((str(B4), 0))
        with pytest.raises(OSError, match="in use"):
            late.bind((str(A4), 5060))
        with bind(A6):
            assert sorted(map(str, wait(watching))) == [str(A4), str(A6)]
    assert wait(watching, lambda bound: not bound) == {}


def test_connections_are_no_binds(watching: RangeWatcher) -> None:
    """What a listener accepts has its address, and may outlive it."""
    subprocess.run(["ip", "addr", "add", f"{A4}/32", "dev", "lo"], check=True)
    listener = bind(A4)
    listener.listen()
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    with client, server:
        assert list(wait(watching)) == [A4]
        listener.close()
        assert wait(watching) == {}


def test_a_killed_application_lets_go(watching: RangeWatcher) -> None:
    script = f"import socket,time; s=socket.socket(); s.bind(('{A4}',0)); print(1,flush=1); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert list(wait(watching, timeout_s=5.0)) == [A4]
        os.kill(child.pid, signal.SIGKILL)
        assert wait(watching) == {}


@pytest.mark.parametrize("gap", ["away", "adopted at once"])
def test_nothing_is_lost_while_no_daemon_runs(
    settings: BindSettings, tmp_path: Path, gap: str
) -> None:
    """The programs go on; the next daemon reads their table, with the numbers that were."""
    with ExitStack() as sockets:
        former = RangeWatcher(settings, tmp_path)
        former.watch(RANGES)
        kept, closed = sockets.enter_context(bind(A4)), bind(A6)
        numbers = wait(former, lambda bound: len(bound) == 2)
        if gap == "away":
            former.close()
        new = sockets.enter_context(bind(B6))
        closed.close()
        watcher = RangeWatcher(settings, tmp_path)
        watcher.watch(RANGES)
        former.close()
        found = wait(watcher)
        assert sorted(found, key=str) == [A4, B6]
        assert found[A4] == numbers[A4]
        assert found[B6] > numbers[A6]
        new.close()
        assert list(wait(watcher)) == [A4]
        kept.close()
        assert wait(watcher) == {}
        watcher.destroy()


def test_sockets_that_were_bound_before_are_found(settings: BindSettings, tmp_path: Path) -> None:
    IPV4.write_text("1")
    IPV6.write_text("1")
    udp, tcp = bind(A4, DATAGRAM), bind(A6)
    tcp.listen()
    watcher = RangeWatcher(settings, tmp_path)
    watcher.watch(RANGES)
    assert sorted(map(str, wait(watcher))) == [str(A4), str(A6)]
    udp.close()
    assert list(wait(watcher)) == [A6]
    tcp.close()
    assert wait(watcher) == {}
    watcher.destroy()
    assert (IPV4.read_text(), IPV6.read_text()) == ("1\n", "1\n")


def test_ranges_come_and_go(watching: RangeWatcher) -> None:
    with bind(A4), bind(A6):
        assert len(wait(watching, lambda bound: len(bound) == 2)) == 2
        watching.watch(frozenset({(ip_address("198.51.100.0"), 25)}))
        assert list(wait(watching)) == [A4]
        watching.watch(RANGES)
        with bind(B4):
            assert B4 in wait(watching, lambda bound: B4 in bound)


def test_more_sockets_than_one_wake_can_tell(watching: RangeWatcher) -> None:
    """The ring of wakes is small; the table is what counts."""
    with ExitStack() as sockets:
        for _ in range(700):
            sockets.enter_context(bind(A4, DATAGRAM))
        last = sockets.enter_context(bind(B4))
        assert sorted(map(str, wait(watching, lambda bound: len(bound) == 2))) == [
            str(A4),
            str(last.getsockname()[0]),
        ]
        assert watching.counters()["binds"] == 701
    assert wait(watching, lambda bound: not bound) == {}
    assert watching.counters() == {"binds": 701, "releases": 701, "lost_binds": 0}


def test_the_setting_is_remembered_and_put_back(settings: BindSettings, tmp_path: Path) -> None:
    IPV6.write_text("1")
    former = RangeWatcher(settings, tmp_path)
    former.watch(RANGES)
    assert (IPV4.read_text(), IPV6.read_text()) == ("1\n", "1\n")
    former.close()  # killed
    assert (tmp_path / NAME).exists()
    watcher = RangeWatcher(settings, tmp_path)
    watcher.watch(RANGES)
    IPV4.write_text("0")
    watcher.repair()
    assert IPV4.read_text() == "1\n"
    watcher.watch(frozenset({(ip_address("2001:db8:ff::"), 64)}))
    assert (IPV4.read_text(), IPV6.read_text()) == ("0\n", "1\n")
    watcher.watch(frozenset())
    assert (IPV4.read_text(), IPV6.read_text()) == ("0\n", "1\n")
    assert not (tmp_path / NAME).exists()
    assert not settings.pin_dir.exists()
    watcher.destroy()


def test_listing_sockets_does_where_programs_are_refused(settings: BindSettings) -> None:
    IPV4.write_text("1")
    watcher = PollingBindWatcher(settings)
    watcher.watch(RANGES)
    assert wait(watcher) == {}
    with bind(A4) as listener, bind(B4, DATAGRAM):
        listener.listen()
        first = wait(watcher, lambda bound: len(bound) == 2)
        with bind(A4) as second:
            second.listen()
            assert wait(watcher)[A4] > first[A4]
    assert wait(watcher, lambda bound: not bound) == {}
    watcher.close()


def test_programs_of_two_nodes_get_along(settings: BindSettings, tmp_path: Path) -> None:
    """Both sit on the same cgroup."""
    with namespace() as other:
        with inside(other):
            there = BindSettings(settings.pin_dir.with_name("there"), settings.object_path)
            one = ProgramBindWatcher(there)
            one.watch(RANGES)
            assert wait(one) == {}
        two = RangeWatcher(settings, tmp_path)
        two.watch(RANGES)
        with bind(A4):
            assert list(wait(two, bool)) == [A4]
            assert not wait_readable(one.fileno(), 0.05)
        one.destroy()
        with bind(B4):
            assert list(wait(two, lambda bound: B4 in bound)) == [B4]
        two.destroy()
