"""What an operator sees on a terminal: events, top, progress, the support bundle."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import LongConnections
from tests.e2e.cluster_tools import WAIT_S, echo_servers, wait_for_state
from tests.e2e.conftest import MakeCluster
from tests.e2e.test_operator import dvipactl

pytestmark = pytest.mark.e2e


def argv(cluster: Cluster, host: str, *arguments: str) -> list[str]:
    path = str(cluster.paths.control(host))
    return [sys.executable, "-m", "dvipad.cli.dvipactl", "--socket", path, *arguments]


class Terminal:
    """`dvipactl` on a terminal of 80 columns and 24 lines."""

    def __init__(self, command: list[str]) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        environment = os.environ | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        self.said = ""

    def press(self, keys: str) -> None:
        """Type `keys`; what was said before is forgotten."""
        self.said = ""
        os.write(self.master, keys.encode())

    def expect(self, *words: str) -> None:
        """Read until all of `words` were said."""
        self._read(lambda: all(word in self.said for word in words), str(words))

    def ended(self) -> int:
        """Read until the command ends; its exit status."""
        self._read(lambda: self.process.poll() is not None, "the end")
        return self.process.returncode

    def _read(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 2 * WAIT_S
        while not done():
            assert time.monotonic() < deadline, f"no {what}: {self.said[-2000:]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the other end is closed
                    self.said += os.read(self.master, 65536).decode(errors="replace")


@contextlib.contextmanager
def terminal(command: list[str]) -> Iterator[Terminal]:
    made = Terminal(command)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        os.close(made.master)


def test_top_lives_through_a_restart(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    dvipa = str(cluster.spec.dvipa())
    with echo_servers(cluster):
        wait_for_state(cluster, "lb1", "ACTIVE")
        once = dvipactl(cluster, "lb1", "top", "--once", "--interval", "0.2")
        value = json.loads(dvipactl(cluster, "lb1", "top", "--json", "--interval", "0.2"))
        with terminal(argv(cluster, "lb1", "top", "--interval", "0.2")) as top:
            top.expect("lb1 joined", dvipa, "ACTIVE", f"{dvipa}..80", "q quit")
            top.press("s")
            top.expect("sort: node")
            top.press("/lb2\r")
            top.expect("filter: lb2")
            cluster.signal_daemon("lb1", signal.SIGKILL)
            top.expect("waiting for the daemon")
            top.press("s")
            cluster.start_daemon("lb1")
            top.expect("sort: rate", "lb1 joined")
            assert top.said.count("\x1b[2J") == 0, "the screen is cleared, it flickers"
            top.press("q")
            assert top.ended() == 0
    assert f"{dvipa}..80" in once and "ACTIVE" in once and "\x1b" not in once
    assert {row["name"] for row in value["members"]} == {"lb1", "lb2", "t1"}
    assert all(row["rate"] == 0.0 for row in value["targets"])


def test_events_are_followed_through_a_restart(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    assert "action=" in dvipactl(cluster, "lb1", "events", "--kind", "decision")
    assert dvipactl(cluster, "lb1", "events", "--since", "999999") != ""  # of a daemon before
    with terminal(argv(cluster, "lb1", "events", "--follow", "--json", "--kind", "start")) as seen:
        seen.expect("node lb1 is up")
        seen.said = ""
        cluster.signal_daemon("lb1", signal.SIGKILL)
        cluster.wait_until(lambda: not cluster.daemon_alive("lb1"), WAIT_S, "the daemon is dead")
        cluster.start_daemon("lb1")
        seen.expect("node lb1 is up")
        rows = [json.loads(row) for row in seen.said.splitlines() if row.startswith("{")]
        assert [row["kind"] for row in rows] == ["start"]
        seen.process.send_signal(signal.SIGINT)
        assert seen.ended() == 130


def test_wait_says_what_is_left(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=5)
        order = argv(cluster, "t1", "vary", "sysplex", "quiesce", "target", "--wait")
        with terminal(order) as waiting:
            waiting.expect("5 connections are left")
            assert long.stop().lost() == 0
            assert waiting.ended() == 0
            waiting.expect("quiesced target")


def test_the_bundle_of_a_node(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(targets=1)
    file = tmp_path / "bundle.tar.gz"
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=3)
        node = str(cluster.paths.node_file("lb1"))
        cluster.run("lb1", argv(cluster, "lb1", "support-bundle", str(file), "--node", node))
        hidden = tmp_path / "hidden.tar.gz"
        dvipactl(cluster, "lb1", "support-bundle", str(hidden), "--no-addresses")
        long.stop()
    texts = contents(file)
    assert json.loads(texts["view.json"])["view"]["name"] == "lb1"
    assert json.loads(texts["crt.json"])["total"] == 3
    assert json.loads(texts["events.json"])["events"]
    assert json.loads(texts["counters.json"])["plane"]
    assert "VIPADEFINE" in texts["profile"] and "node: lb1" in texts["node.yaml"]
    assert str(cluster.spec.dvipa()) in texts["ip-address.txt"]
    assert any("bpf" in text for name, text in texts.items() if name.endswith("-ingress.txt"))
    rows = json.loads(contents(hidden)["crt.json"])["rows"]
    assert {row["client"] for row in rows} == {"left out"}


def contents(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        found = {}
        for entry in archive:
            data = archive.extractfile(entry)
            assert data is not None
            found[Path(entry.name).name] = data.read().decode()
    return found
