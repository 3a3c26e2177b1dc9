"""`make demo`: traffic to one address while its distributor dies, comes back, and a target dies.

Everything that is shown is seen from the client: which server answered, what its neighbour table
says about the DVIPA, what came back on 200 connections and when. The last line of the output is
`demo: OK connections=… lost=… takeover_gap_ms=… takeback_gap_ms=…` or `demo: FAILED why`.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import Final

from dvipad.lab import wrk
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.demo_table import Scene, Screen
from dvipad.lab.spec import TUNNELS, Kind, LabError, LabSpec
from dvipad.lab.traffic import (
    EchoServer,
    LongConnections,
    LongReport,
    NewConnections,
    NewReport,
    Nginx,
)

PREFIX: Final = "demo"
HTTP_PORT: Final = 80
ECHO_PORT: Final = 7
CONNECTIONS: Final = 200
INTERVAL_MS: Final = 20.0
NEW_PER_S: Final = 50.0
CURL_REQUESTS: Final = 300
WRK_SECONDS: Final = 2
WRK_CONNECTIONS: Final = 16
WATCH_S: Final = 3.0
TIMEOUT_S: Final = 20.0
DRAW_S: Final = 0.2
FLOWING_MS: Final = 500.0
"""Traffic flows when something came back on every connection within this time."""
READ_BYTES: Final = 65536


class Demo:
    """The steps of the demo on a cluster, in the order of :meth:`run`."""

    def __init__(self, cluster: Cluster, screen: Screen, running: ExitStack) -> None:
        """`running` gets everything that is started, and ends it."""
        self._cluster = cluster
        self._screen = screen
        self._scene = screen.scene
        self._running = running
        self._targets = [h.name for h in cluster.spec.hosts() if h.kind is Kind.TARGET]
        self._dvipa = cluster.spec.dvipa()
        self._url = wrk.url_of(self._dvipa, HTTP_PORT)
        self._long: LongConnections | None = None
        self._new: NewConnections | None = None

    def run(self) -> str:
        """All steps; returns the figures of the last line. Raises :class:`LabError`."""
        self.start_servers()
        self.request_with_curl()
        self.request_with_wrk()
        opened = self.open_connections()
        takeover_ms = self.cut_power("lb1", "lb2")
        takeback_ms = self.bring_back("lb1")
        victim = self._targets[-1]
        self.kill_target(victim)
        lost = self.finish(victim)
        if lost:
            raise LabError(f"{lost} of {opened} connections lost")
        gaps = f"takeover_gap_ms={takeover_ms:.0f} takeback_gap_ms={takeback_ms:.0f}"
        return f"connections={opened} lost={lost} {gaps}"

    def start_servers(self) -> None:
        """Start nginx and the echo server on every target, and wait until the client sees them."""
        self._screen.step(f"nginx and an echo server on {', '.join(self._targets)}")
        for target in self._targets:
            Nginx(self._cluster, target, [HTTP_PORT])
            self._running.enter_context(EchoServer(self._cluster, target, [ECHO_PORT]))
        seen: set[str] = set()

        def all_seen() -> bool:
            argv = ["curl", "-gs", "--max-time", "1", self._url]
            seen.add(self._cluster.run("client", argv, check=False).stdout.strip())
            return seen >= set(self._targets)

        self._watch_until(all_seen, f"all targets answer at {self._url}")

    def request_with_curl(self) -> None:
        """One curl, one connection per request."""
        self._screen.step(f"{CURL_REQUESTS} requests with curl, a connection each")
        argv = ["curl", "-s", "-S", "-H", "Connection: close", "--max-time", "30"]
        url = self._url.replace("[", "\\[").replace("]", "\\]") + f"?[1-{CURL_REQUESTS}]"
        pipe = subprocess.PIPE
        curl = self._cluster.popen("client", [*argv, url], stdout=pipe, stderr=subprocess.STDOUT)
        for line in self._lines(curl):
            if line not in self._targets:
                raise LabError(f"curl: {line!r}")
            self._scene.curl[line] += 1
        answers = self._scene.curl.total()
        if curl.wait() or answers != CURL_REQUESTS:
            raise LabError(f"curl: {answers} of {CURL_REQUESTS} requests answered")

    def request_with_wrk(self) -> None:
        """As many connections as there can be, for a moment."""
        self._screen.step(f"wrk for {WRK_SECONDS} s, a connection for each request")
        argv = wrk.command(
            self._url,
            self._cluster.paths.host("client"),
            connections=WRK_CONNECTIONS,
            seconds=WRK_SECONDS,
            new_connections=True,
        )
        pipe = subprocess.PIPE
        process = self._cluster.popen("client", argv, stdout=pipe, stderr=subprocess.STDOUT)
        result = wrk.parse(self._lines(process))
        self._scene.wrk.update(result.servers)
        if process.wait() or result.errors or not set(result.servers) <= set(self._targets):
            raise LabError(f"wrk: errors {result.errors}, answers {result.servers}")

    def open_connections(self) -> int:
        """Open the long connections, and go on opening new ones; returns how many are open."""
        self._screen.step(
            f"{CONNECTIONS} long connections with checked data, {NEW_PER_S:.0f} new/s"
        )
        self._long = self._running.enter_context(
            LongConnections(
                self._cluster,
                "client",
                self._dvipa,
                ECHO_PORT,
                connections=CONNECTIONS,
                interval_ms=INTERVAL_MS,
            )
        )
        self._new = self._running.enter_context(
            NewConnections(self._cluster, "client", self._dvipa, ECHO_PORT, rate=NEW_PER_S)
        )
        self._watch(WATCH_S)
        return self._long.opened.states.get("open", 0)

    def cut_power(self, distributor: str, backup: str) -> float:
        """Cut the distributor's power; returns the longest gap of the takeover, in ms."""
        self._phase("takeover")
        self._screen.step(f"power cut of {distributor}, which distributes all this")
        self._cluster.fail(distributor)
        self._until_at(backup)
        self._watch(WATCH_S)
        report = self._phase("rest")
        self._say_gap(f"{backup} took over", report)
        return report.max_gap_ms()

    def bring_back(self, distributor: str) -> float:
        """Give it back its power; returns the longest gap of the takeback, in ms."""
        self._phase("takeback")
        self._screen.step(f"{distributor} has power again, and takes the address back")
        self._cluster.heal(distributor, wait=False)
        self._until_at(distributor)
        self._watch(WATCH_S)
        report = self._phase("rest")
        self._say_gap(f"{distributor} took the address back", report)
        return report.max_gap_ms()

    def kill_target(self, target: str) -> None:
        """Cut a target's power; the others go on, and new connections go to them only."""
        self._phase("target")
        self._screen.step(f"power cut of {target}: its own connections are gone, no others")
        self._cluster.fail(target)
        self._scene.dead.add(target)
        self._watch(WATCH_S)
        if self._new is None:
            raise LabError("no new connections are being made")
        self._say_new(self._new.phase("survivors"))
        self._watch(WATCH_S)
        served = {name: self._scene.new.get(name, 0) for name in self._targets}
        idle = [name for name in self._targets if name != target and not served[name]]
        if idle or served[target]:
            raise LabError(f"after the end of {target}, new connections: {served}")

    def finish(self, victim: str) -> int:
        """Stop the traffic; returns the connections lost, those of `victim` not counted."""
        if self._long is None or self._new is None:
            raise LabError("no connections are open")
        self._refresh()
        report = self._long.stop()
        if report.states.get("corrupt"):
            raise LabError(f"{report.states['corrupt']} connections with wrong data")
        return report.lost(without=[victim])

    # Watching

    def _phase(self, name: str) -> LongReport:
        if self._long is None or self._new is None:
            raise LabError("no connections are open")
        self._say_new(self._new.phase(name))
        return self._long.phase(name)

    def _say_new(self, done: NewReport) -> None:
        """Say how new connections fared, if any of them was hurt."""
        if done.failed or done.slowed:
            failed = f"{sum(done.failed.values())} failed {dict(done.failed) or ''}".strip()
            self._screen.say(
                f"   new connections in {done.seconds:.1f} s: {done.answered} answered, "
                f"{failed}, {done.slowed} slowed by a retransmitted SYN"
            )

    def _say_gap(self, what: str, report: LongReport) -> None:
        self._screen.say(
            f"   {what}: longest gap {report.max_gap_ms():.0f} ms on {sum(report.states.values())} "
            f"connections, {report.lost()} lost"
        )
        if report.lost():
            raise LabError(f"{what}: {report.lost()} connections lost: {dict(report.states)}")

    def _until_at(self, host: str) -> None:
        """Wait until the client sends to `host`, and traffic flows on all connections."""

        def flows() -> bool:
            report = self._refresh()
            return self._scene.holder == host and report is not None and self._flowing(report)

        self._watch_until(flows, f"{host} has {self._dvipa}, and traffic flows")

    def _flowing(self, report: LongReport) -> bool:
        return report.lost() > 0 or report.quiet_ms() < FLOWING_MS

    def _refresh(self) -> LongReport | None:
        """Ask the client's programs and its neighbour table, and draw."""
        self._scene.holder = self._cluster.holder(self._dvipa) or "nobody"
        report = None
        if self._long is not None and self._new is not None:
            report = self._long.report()
            self._scene.long = report.servers
            self._scene.new = self._new.report().servers
        self._screen.draw()
        return report

    def _watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._refresh()
            time.sleep(DRAW_S)

    def _watch_until(self, predicate: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not predicate():
            if time.monotonic() >= end:
                raise LabError(f"not within {TIMEOUT_S:g} s: {what}")
            self._refresh()
            time.sleep(DRAW_S)

    def _lines(self, process: subprocess.Popen[str]) -> Iterator[str]:
        """The lines that a process prints until its end, as they come, drawing meanwhile."""
        if process.stdout is None:
            raise LabError("a process without output")
        rest = b""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            if select.select([process.stdout], [], [], DRAW_S)[0]:
                more = os.read(process.stdout.fileno(), READ_BYTES)
                if not more:
                    return
                *lines, rest = (rest + more).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            self._refresh()
        raise LabError(f"not within {TIMEOUT_S:g} s: the end of {process.args!r}")


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _run(spec: LabSpec) -> str:
    cluster = Cluster(spec)
    targets = [host.name for host in spec.hosts() if host.kind is Kind.TARGET]
    screen = Screen(Scene(targets, str(spec.dvipa())))
    try:
        with ExitStack() as running:
            screen.step("the lab: a client, two distributors, three targets")
            destroy(spec.prefix)
            cluster.up()
            return Demo(cluster, screen, running).run()
    finally:
        screen.close()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        cluster.down()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when all went well, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.split("\n")[0])
    parser.add_argument("--tunnel", choices=TUNNELS, default="ipip")
    parser.add_argument("--family", type=int, choices=(4, 6), default=4)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        spec = LabSpec(prefix=PREFIX, tunnel=arguments.tunnel, family=arguments.family)
        figures = _run(spec)
    except KeyboardInterrupt:
        print("demo: FAILED interrupted", flush=True)
        return 1
    except (LabError, OSError, subprocess.SubprocessError) as error:
        first, *more = str(error).splitlines() or [type(error).__name__]
        for line in more:
            print(f"   {line}")
        why = f"{first} {more[-1].strip()}" if more else first
        print(f"demo: FAILED {why}", flush=True)
        return 1
    print(f"demo: OK {figures}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
