"""Clients and servers on the hosts of a lab, as objects: start, ask, stop."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, TypeVar

from dvipad.address import Address
from dvipad.lab.cluster import Cluster
from dvipad.lab.nginx import config_text, listening_ports
from dvipad.lab.spec import LabError, slowness

ANSWER_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 15.0
LISTEN_TIMEOUT_S: Final = 10.0
READ_BYTES: Final = 1 << 20
QUIET_MS: Final = 5000.0
"""An open connection on which nothing came back for so long (times the machine's slowness) is lost
too."""

P = TypeVar("P", bound="Program")


class Program:
    """A traffic program on a host, with its JSON lines and its commands."""

    def __init__(self, cluster: Cluster, host: str, module: str, *arguments: str) -> None:
        """Start `python -m module arguments` on `host`."""
        self.host = host
        self._name = f"{module.rpartition('.')[2]} on {host}"
        argv = [sys.executable, "-m", module, *arguments]
        pipe = subprocess.PIPE
        log = cluster.paths.host(host) / f"{module.rpartition('.')[2]}.log"
        with log.open("a") as errors:
            self.process = cluster.popen(host, argv, stdin=pipe, stdout=pipe, stderr=errors)
        self._log = log
        self._slow = cluster.spec.slow
        self._buffer = b""

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                _close(pipe)

    def command(self, line: str) -> None:
        """Send a command."""
        if self.process.stdin is None:
            raise LabError(f"{self._name}: takes no commands")
        try:
            os.write(self.process.stdin.fileno(), line.encode() + b"\n")
        except BrokenPipeError:
            raise LabError(f"{self._name}: has ended: {self._last_words()}") from None

    def expect(self, *events: str, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The next JSON line with one of these `events`; lines with other events are passed over.

        Raises :class:`LabError` when none comes in time (times the lab's slowness).
        """
        deadline = time.monotonic() + timeout_s * self._slow
        while True:
            line = self._line(deadline)
            if line is None:
                raise LabError(f"{self._name}: no {'/'.join(events)}: {self._last_words()}")
            values: dict[str, Any] = json.loads(line)
            if values["event"] in events:
                return values

    def _line(self, deadline: float) -> bytes | None:
        stdout = self.process.stdout
        if stdout is None:
            return None
        while b"\n" not in self._buffer:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([stdout], [], [], left_s)[0]:
                return None
            data = os.read(stdout.fileno(), READ_BYTES)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-1000:].strip() or "(it said nothing)"


def _close(pipe: IO[Any]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return


@dataclass(frozen=True, slots=True)
class LongReport:
    """The figures of :class:`LongConnections` in one phase.

    `states`: state → connections; `servers`: server's name → `connections`, `open`, `max_gap_ms`,
    `quiet_ms` (silent until now). `own_stall_ms`: how long the client itself did not run, at worst.
    """

    phase: str
    seconds: float
    states: Mapping[str, int]
    servers: Mapping[str, Mapping[str, float]]
    echoed: int
    own_stall_ms: float

    def max_gap_ms(self, without: Collection[str] = ()) -> float:
        """The longest gap on a connection that is open, those of servers `without` excluded."""
        return max((row["max_gap_ms"] for row in self._rows(without)), default=0.0)

    def quiet_ms(self, without: Collection[str] = ()) -> float:
        """How long, at worst, an open connection has been silent until now."""
        return max((row["quiet_ms"] for row in self._rows(without)), default=0.0)

    def lost(self, without: Collection[str] = ()) -> int:
        """Connections that ended, or are open and silent for `QUIET_MS` on some server."""
        rows, limit_ms = self._rows(without), QUIET_MS * slowness()
        ended = sum(int(row["connections"] - row["open"]) for row in rows)
        return ended + sum(int(row["open"]) for row in rows if row["quiet_ms"] >= limit_ms)

    def _rows(self, without: Collection[str]) -> list[Mapping[str, float]]:
        return [row for server, row in self.servers.items() if server not in without]


class LongConnections(Program):
    """Long connections with checked data (:mod:`dvipad.lab.long_connections`)."""

    def __init__(
        self,
        cluster: Cluster,
        host: str,
        address: Address,
        port: int,
        *,
        connections: int = 200,
        interval_ms: float = 20.0,
        size: int = 32,
    ) -> None:
        """Open all connections; raises :class:`LabError` when one cannot be opened.

        On a slow lab the interval is as much longer.
        """
        slow = cluster.spec.slow
        options = {
            "connections": connections,
            "interval-ms": interval_ms * slow,
            "size": size,
            "connect-timeout-s": CONNECT_TIMEOUT_S * slow,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        module = "dvipad.lab.long_connections"
        super().__init__(cluster, host, module, str(address), str(port), *words)
        try:
            values = self.expect("open", "failed", timeout_s=2 * ANSWER_TIMEOUT_S)
            if values["event"] == "failed":
                raise LabError(f"{self._name}: could not open all: {values['states']}")
        except BaseException:
            self.kill()
            raise
        self.opened = _long(values)

    def phase(self, name: str) -> LongReport:
        """End the phase that is on, begin the phase `name`; returns the figures of the first."""
        self.command(f"phase {name}")
        return _long(self.expect("phase"))

    def report(self) -> LongReport:
        """The figures of this phase until now."""
        self.command("report")
        return _long(self.expect("report"))

    def stop(self) -> LongReport:
        """End all connections; returns the figures of the last phase."""
        self.command("stop")
        values = self.expect("result")
        self.kill()
        return _long(values)


def _long(values: Mapping[str, Any]) -> LongReport:
    return LongReport(**{name: values[name] for name in LongReport.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class NewReport:
    """The figures of :class:`NewConnections` in one phase.

    `failed`: reason → connections; `servers`: server's name → connections that it answered.
    """

    phase: str
    seconds: float
    started: int
    answered: int
    pending: int
    failed: Mapping[str, int]
    slowed: int
    retransmits: int
    max_connect_ms: float
    mean_connect_ms: float
    servers: Mapping[str, int]


class NewConnections(Program):
    """New connections at a rate (:mod:`dvipad.lab.new_connections`)."""

    def __init__(
        self,
        cluster: Cluster,
        host: str,
        address: Address,
        port: int,
        *,
        rate: float = 500.0,
        count: int = 0,
        requests: int = 1,
        timeout_s: float = 10.0,
    ) -> None:
        """Start; `count` 0: until :meth:`stop`, otherwise :meth:`finish` waits for the end.

        On a slow lab the rate is as much lower, and each connection may take as much longer.
        """
        slow = cluster.spec.slow
        options = {
            "rate": rate / slow,
            "count": count,
            "requests": requests,
            "timeout-s": timeout_s * slow,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        module = "dvipad.lab.new_connections"
        super().__init__(cluster, host, module, str(address), str(port), *words)
        self._longest_s = count / rate + timeout_s
        self.expect("open")

    def phase(self, name: str) -> NewReport:
        """End the phase that is on, begin the phase `name`; returns the figures of the first."""
        self.command(f"phase {name}")
        return _new(self.expect("phase"))

    def report(self) -> NewReport:
        """The figures of this phase until now."""
        self.command("report")
        return _new(self.expect("report"))

    def finish(self) -> NewReport:
        """Wait until all `count` connections have been made, and return the figures."""
        values = self.expect("result", timeout_s=self._longest_s + ANSWER_TIMEOUT_S)
        self.kill()
        return _new(values)

    def stop(self) -> NewReport:
        """Start no more connections, wait for the last ones, and return the figures."""
        self.command("stop")
        return self.finish()


def _new(values: Mapping[str, Any]) -> NewReport:
    return NewReport(**{name: values[name] for name in NewReport.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class GapReport:
    """The figures of :class:`GapProbe` in one phase.

    `max_gap_ms`: the longest time without an answer, one that is not over included, which began
    `quiet_ms` ago. `own_stall_ms`: how late the prober itself was, at worst.
    """

    phase: str
    seconds: float
    sent: int
    answered: int
    refused: int
    max_gap_ms: float
    quiet_ms: float
    own_stall_ms: float


class GapProbe(Program):
    """How long an address answers nobody (:mod:`dvipad.lab.gap_probe`)."""

    def __init__(
        self, cluster: Cluster, host: str, address: Address, port: int, interval_ms: float = 5.0
    ) -> None:
        """Start; raises :class:`LabError` when the address does not answer now."""
        words = [str(address), str(port), f"--interval-ms={interval_ms}"]
        super().__init__(cluster, host, "dvipad.lab.gap_probe", *words)
        try:
            if self.expect("open", "failed", timeout_s=2 * ANSWER_TIMEOUT_S)["event"] == "failed":
                raise LabError(f"{self._name}: {address} port {port} does not answer")
        except BaseException:
            self.kill()
            raise

    def phase(self, name: str) -> GapReport:
        """End the phase that is on, begin the phase `name`; returns the figures of the first."""
        self.command(f"phase {name}")
        return _gap(self.expect("phase"))

    def report(self) -> GapReport:
        """The figures of this phase until now."""
        self.command("report")
        return _gap(self.expect("report"))

    def stop(self) -> GapReport:
        """Stop probing; returns the figures of the last phase."""
        self.command("stop")
        values = self.expect("result")
        self.kill()
        return _gap(values)


def _gap(values: Mapping[str, Any]) -> GapReport:
    return GapReport(**{name: values[name] for name in GapReport.__dataclass_fields__})


class EchoServer(Program):
    """The checking echo server on a host, which answers with the host's name."""

    def __init__(
        self,
        cluster: Cluster,
        host: str,
        ports: Sequence[int] = (7,),
        bind: Sequence[Address] = (),
    ) -> None:
        """Start, and return when it listens: on `bind`, or on every address."""
        words = [f"--port={port}" for port in ports] + [f"--bind={address}" for address in bind]
        super().__init__(cluster, host, "dvipad.lab.echo", f"--name={host}", *words)
        self.expect("listening")

    def stop(self) -> dict[str, Any]:
        """Stop it; returns its counts."""
        self.process.send_signal(signal.SIGTERM)
        values = self.expect("result")
        self.kill()
        return values


class Nginx:
    """nginx on a host, in a folder of its own; every answer is the host's name."""

    def __init__(
        self,
        cluster: Cluster,
        host: str,
        ports: Sequence[int] = (80,),
        bind: Sequence[Address] = (),
    ) -> None:
        """Start, and return when it listens: on `bind`, or on every address."""
        folder = cluster.paths.host(host) / "nginx"
        folder.mkdir(exist_ok=True)
        config = folder / "nginx.conf"
        config.write_text(config_text(host, ports, bind))
        argv = ["nginx", "-p", f"{folder}/", "-c", str(config), "-e", "error.log"]
        self._cluster = cluster
        with (folder / "nginx.out").open("a") as output:
            self.process = cluster.popen(host, argv, stdout=output, stderr=output)

        def listens() -> bool:
            if self.process.poll() is not None:
                raise LabError(f"nginx on {host} ended: {(folder / 'nginx.out').read_text()}")
            net = Path(f"/proc/{self.process.pid}/net")
            found = listening_ports((net / "tcp").read_text() + (net / "tcp6").read_text())
            return set(ports) <= found

        cluster.wait_until(listens, LISTEN_TIMEOUT_S, f"nginx on {host} listens")

    def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        self.process.terminate()
        self.process.wait(timeout=LISTEN_TIMEOUT_S)
