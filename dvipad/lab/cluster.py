"""A cluster in network namespaces, as an object: `dvipad lab`, tests, demo and benchmark use it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from dvipad.address import Address
from dvipad.cli.ask import Refused, ask
from dvipad.lab import network
from dvipad.lab.nursery import Nursery
from dvipad.lab.paths import LabPaths, remove_pins
from dvipad.lab.spec import (
    DEFAULT_PREFIX,
    LAN,
    Host,
    LabError,
    LabSpec,
    node_settings,
    pairs,
    profile_text,
    yaml_text,
)
from dvipad.lab.system import alive, enter, kill_all, processes, require_root, session

POLL_S: Final = 0.02
READY_TIMEOUT_S: Final = 20.0

T = TypeVar("T")


class Cluster:
    """A lab that exists or is about to: hosts, their links, and their daemons.

    `with Cluster(spec) as cluster:` brings it up, daemons ready, and takes it down. All methods
    raise :class:`LabError` when the lab is not in the state that they need.
    """

    def __init__(
        self, spec: LabSpec, *, daemons: bool = True, nursery: Nursery | None = None
    ) -> None:
        """A lab that is not up yet; `daemons` False: hosts and links only. Daemons are started
        by `nursery`, if there is one: sooner."""
        self.spec = spec
        self.nursery = nursery
        self.paths = LabPaths(spec.prefix)
        self.daemons = daemons
        self.wrapper: tuple[str, ...] = ()  # what daemons are run by
        self.cuts: set[tuple[str, str]] = set()
        self.losses: dict[str, float] = {}
        self._children: list[subprocess.Popen[Any]] = []

    @staticmethod
    def attach(prefix: str = DEFAULT_PREFIX) -> Cluster:
        """The lab `prefix` that some process brought up before."""
        state = LabPaths(prefix).load()
        cluster = Cluster(LabSpec.from_json(state["spec"]), daemons=state["daemons"])
        cluster.cuts = {(a, b) for a, b in state["cuts"]}
        cluster.losses = dict(state["losses"])
        return cluster

    def __enter__(self) -> Cluster:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # Up and down

    def up(self) -> None:
        """Make the hosts, start the daemons, and return when all of them are ready."""
        require_root()
        if network.existing(self.spec.prefix) or self.paths.top.exists():
            raise LabError(f"lab {self.spec.prefix!r} exists; remove it first: dvipad lab down")
        self.paths.top.mkdir(parents=True)
        self._save()
        self.paths.mount()
        network.create(self.spec, self.spec.hosts())
        network.apply_rules(self.spec, (), {})
        for host in self.spec.hosts():
            self._write_files(host)
        if self.daemons:
            for node in self.spec.nodes():
                self.start_daemon(node.name)
            self.wait_ready()

    def down(self) -> None:
        """Leave nothing of the lab behind, whatever there is of it."""
        destroy(self.spec.prefix)
        for child in self._children:
            child.wait()
        self._children.clear()

    def _save(self) -> None:
        self.paths.save(
            {
                "spec": self.spec.to_json(),
                "daemons": self.daemons,
                "cuts": sorted(self.cuts),
                "losses": self.losses,
            }
        )

    def _write_files(self, host: Host) -> None:
        folder = self.paths.host(host.name)
        folder.mkdir(parents=True, exist_ok=True)
        if not host.has_daemon:
            return
        profile = profile_text(self.spec, host)
        if profile is not None:
            self.paths.profile(host.name).write_text(profile)
        run, pins = self.paths.run(host.name), self.paths.pins(host.name)
        name = None if profile is None else self.paths.profile(host.name).name
        settings = node_settings(self.spec, host, str(run), str(pins), name)
        self.paths.node_file(host.name).write_text(yaml_text(settings))
        run.mkdir(exist_ok=True)

    # Commands on hosts

    def namespace(self, name: str) -> str:
        """The network namespace of the host `name`."""
        return network.namespace(self.spec, self.spec.host(name).name)

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` on the host `name`, which must not be failed."""
        self._require_powered(name)
        return enter(self.namespace(name), argv)

    def environment(self, name: str) -> dict[str, str]:
        """Environment of commands on a host: this Python's commands, the node's control socket."""
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        control = str(self.paths.control(name))
        return {
            **os.environ,
            "PATH": path,
            "DVIPAD_SOCKET": control,
            "DVIPAD_LAB": self.spec.prefix,
        }

    def run(
        self, name: str, argv: Sequence[str], *, timeout_s: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` on a host to its end; `check`: a bad exit status is a :class:`LabError`."""
        done = subprocess.run(
            self.command(name, argv),
            env=self.environment(name),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            words = (done.stderr or done.stdout).strip()
            raise LabError(f"{name}: {' '.join(argv)}: exit status {done.returncode}: {words}")
        return done

    def popen(
        self,
        name: str,
        argv: Sequence[str],
        *,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> subprocess.Popen[str]:
        """Start `argv` on a host, in a session of its own; pipes carry text.

        It dies with the host or with the lab, if not before.
        """
        child = subprocess.Popen(
            self.command(name, argv),
            env=self.environment(name),
            cwd=self.paths.host(name),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    # Daemons

    def start_daemon(self, name: str) -> int:
        """Start the daemon of a host; returns its process id. It appends to the host's log."""
        if self.daemon_alive(name):
            raise LabError(f"{name}: the daemon runs already")
        pid = self._spawn_daemon(name, ["run", str(self.paths.node_file(name))])
        self.paths.pid_file(name).write_text(f"{pid}\n")
        self.wait_until(  # until it has entered its namespace it would count as dead
            lambda: not alive(pid) or self.daemon_alive(name),
            READY_TIMEOUT_S,
            f"{name}: the daemon starts",
        )
        return pid

    def _spawn_daemon(self, name: str, arguments: Sequence[str]) -> int:
        log = self.paths.log(name)
        if self.nursery is not None and not self.wrapper:
            self._require_powered(name)
            where = self.namespace(name), arguments, self.environment(name)
            return self.nursery.start(*where, self.paths.host(name), log)
        argv = [*self.wrapper, sys.executable, "-m", "dvipad.cli.dvipad", *arguments]
        with log.open("a") as output:
            return self.popen(name, argv, stdout=output, stderr=output).pid

    def daemon_pid(self, name: str) -> int:
        """The process id of a host's daemon; raises :class:`LabError` when it does not run."""
        pid = self.paths.read_pid(name)
        if pid is None or not self.daemon_alive(name):
            raise LabError(f"{name}: no daemon runs")
        return pid

    def daemon_alive(self, name: str) -> bool:
        """Whether the daemon that was started last still runs."""
        self._reap()
        pid = self.paths.read_pid(name)
        return pid is not None and alive(pid) and pid in processes([self.namespace(name)])

    def daemon_processes(self, name: str) -> list[int]:
        """The daemon and its workers."""
        leader = self.paths.read_pid(name)
        pids = processes([self.namespace(name)])
        return [pid for pid in pids if session(pid) == leader and alive(pid)]

    def signal_daemon(self, name: str, number: signal.Signals, *, workers: bool = False) -> None:
        """Send a signal to a daemon, or to it and all its `workers` at the same time."""
        self.daemon_pid(name)
        pids = self.daemon_processes(name) if workers else [self.daemon_pid(name)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop_daemon(self, name: str, timeout_s: float = 10.0) -> None:
        """Ask a daemon to stop (SIGTERM), and wait until it has."""
        self.signal_daemon(name, signal.SIGTERM)
        self.wait_until(lambda: not self.daemon_alive(name), timeout_s, f"{name} stops")

    def _reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]

    # Faults

    def powered(self, name: str) -> bool:
        """Whether the host has power: False between `fail` and `heal`."""
        return self.namespace(name) in network.existing(self.spec.prefix)

    def _require_powered(self, name: str) -> None:
        if not self.powered(name):
            raise LabError(f"{name} has no power; dvipad lab heal {name}")

    def fail(self, name: str) -> None:
        """Cut a host's power: first its link goes, so that its end says nothing to anybody.

        Then its processes, and all that the kernel kept: sockets, addresses, programs, pins.
        """
        self._require_powered(name)
        network.unplug(self.spec, self.spec.host(name))
        kill_all([self.namespace(name)])
        remove_pins(self.paths.pins(name))
        network.delete([self.namespace(name)])
        shutil.rmtree(self.paths.run(name), ignore_errors=True)
        self._reap()

    def heal(self, name: str, *, wait: bool = True) -> None:
        """Give a failed host its power back: same MAC and addresses, a freshly started daemon.

        `wait`: return when the daemon is ready. Other programs of the host are not started again.
        """
        if self.powered(name):
            raise LabError(f"{name} has power")
        host = self.spec.host(name)
        network.add_hosts(self.spec, [host])
        self._write_files(host)
        if self.daemons and host.has_daemon:
            self.start_daemon(name)
            if wait:
                self.wait_ready([name])

    def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Drop all packets between two hosts, or only those from `one` to `other`."""
        self._change_cuts(self.cuts | pairs(self.spec, one, other, one_way))

    def join(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Undo :meth:`cut`."""
        self._change_cuts(self.cuts - pairs(self.spec, one, other, one_way))

    def loss(self, name: str, percent: float) -> None:
        """Lose `percent` of the packets from and to a host at random; 0 ends it."""
        losses = {**self.losses, self.spec.host(name).name: percent}
        self.losses, before = {host: p for host, p in losses.items() if p}, self.losses
        try:
            network.apply_rules(self.spec, self.cuts, self.losses)
        except LabError:
            self.losses = before
            raise
        self._save()

    def _change_cuts(self, cuts: set[tuple[str, str]]) -> None:
        network.apply_rules(self.spec, cuts, self.losses)
        self.cuts = cuts
        self._save()

    # Looking at it

    def ask(self, name: str, command: str, **fields: Any) -> dict[str, Any]:
        """One request to a node's control socket, and its answer.

        Raises :class:`LabError` when the daemon does not answer, or refuses.
        """
        try:
            return ask(self.paths.control(name), {"command": command, **fields})
        except Refused as error:
            raise LabError(f"{name}: {error}") from None

    def view(self, name: str) -> dict[str, Any]:
        """What a node thinks of the cluster: its DVIPAs, targets and members."""
        return dict(self.ask(name, "view")["view"])

    def holder(self, dvipa: Address, seen_by: str = "client") -> str | None:
        """The host to which `seen_by` sends packets for `dvipa` now, by its neighbour table."""
        mac = network.neighbour(self.spec, self.spec.host(seen_by), str(dvipa))
        return next((host.name for host in self.spec.hosts() if host.mac == mac), None)

    def ready(self, name: str) -> bool:
        """Whether the daemon answers; raises :class:`LabError` with its last words if it ended."""
        if not self.daemon_alive(name):
            tail = self.paths.log_tail(name)
            raise LabError(f"{name}: the daemon ended; its log says:\n{tail}")
        try:
            self.view(name)
        except LabError:
            return False
        return True

    def wait_ready(self, names: Sequence[str] = (), timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the daemons of `names`, by default of all nodes, are ready."""
        for name in names or [host.name for host in self.spec.nodes()]:

            def is_ready(name: str = name) -> bool:
                return self.ready(name)

            self.wait_until(is_ready, timeout_s, f"the daemon of {name} is ready")

    def wait_until(self, predicate: Callable[[], T], timeout_s: float, what: str) -> T:
        """Wait until `predicate` is true, and return its value.

        Raises :class:`LabError` naming `what` after `timeout_s` (times the lab's slowness); the
        predicate's own exceptions pass.
        """
        deadline = time.monotonic() + timeout_s * self.spec.slow
        while not (value := predicate()):
            if time.monotonic() >= deadline:
                raise LabError(f"not within {timeout_s:g} s: {what}")
            time.sleep(POLL_S * self.spec.slow)
        return value

    def status(self) -> list[dict[str, Any]]:
        """One row per host: name, namespace, power, addresses, daemon's pid, loss."""
        return [
            {
                "host": host.name,
                "namespace": self.namespace(host.name),
                "power": self.powered(host.name),
                "addresses": [str(host.address(4)), str(host.address(6))],
                "daemon": self.paths.read_pid(host.name) if self.daemon_alive(host.name) else None,
                "loss_percent": self.losses.get(host.name, 0),
            }
            for host in self.spec.hosts()
        ]


def destroy(prefix: str) -> None:
    """Leave nothing of the lab `prefix`: works after a crash too, and on what is half there.

    Every host loses its link before any process dies, as in a power cut.
    """
    names = network.existing(prefix)
    lan = [name for name in names if name.endswith(f"-{LAN}")]
    network.delete(lan)
    kill_all(names)
    network.delete(name for name in names if name not in lan)
    LabPaths(prefix).remove()
