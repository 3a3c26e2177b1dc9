"""Tens of thousands of connections from several hosts and processes, as one object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from dvipad.address import Address
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import Kind, LabError
from dvipad.lab.traffic import Program

MODULE: Final = "dvipad.lab.held_connections"
QUIET_S: Final = 10.0
SPARE_S: Final = 10.0
CHECKED_PER_S: Final = 500
"""A check that is slower than this has failed."""


class HeldConnections(Program):
    """Connections of one client host (:mod:`dvipad.lab.held_connections`).

    On a slow lab it asks at a lower rate, and has more patience.
    """

    def __init__(
        self,
        cluster: Cluster,
        host: str,
        address: Address,
        port: int,
        *,
        connections: int,
        rate: float,
        quiet_s: float = QUIET_S,
    ) -> None:
        """Begin to open them; :meth:`opened` waits until they are."""
        slow = cluster.spec.slow
        options = {"connections": connections, "rate": rate / slow, "quiet-s": quiet_s * slow}
        words = [f"--{name}={value}" for name, value in options.items()]
        super().__init__(cluster, host, MODULE, str(address), str(port), *words)

    def opened(self) -> None:
        """Wait until all are open; raises :class:`LabError` when one could not be opened."""
        event = "opening"
        while event == "opening":
            values = self.expect("opening", "open", "failed", timeout_s=QUIET_S + SPARE_S)
            event = values["event"]
        if event == "failed":
            raise LabError(f"{self.host}: could not open all: {values['states']}")

    def phase(self, name: str) -> dict[str, Any]:
        """Begin the phase `name`; returns the figures of the one before."""
        self.command(f"phase {name}")
        return self.expect("phase")

    def checked(self, longest_s: float) -> dict[str, Any]:
        """The figures at the end of a check, which takes `longest_s` at the most."""
        return self.expect("checked", timeout_s=longest_s)


@dataclass(frozen=True, slots=True)
class CrowdReport:
    """What became of all connections. `states`: state → connections; `servers`: of those open.

    `unanswered`: open, and silent although asked. `max_gap_ms`: the longest time in which a client
    host got no answer on any connection.
    """

    connections: int
    states: Mapping[str, int]
    servers: Mapping[str, int]
    unanswered: int
    max_gap_ms: float

    @property
    def lost(self) -> int:
        """Connections that ended, or did not answer when they were asked, or wrongly."""
        return self.connections - self.states.get("open", 0) + self.unanswered


class Crowd:
    """`connections` of all clients of a lab together, in equal parts.

    Between checks `rate` of them per second are asked in turn, so that some always have data under
    way.
    """

    def __init__(
        self,
        cluster: Cluster,
        address: Address,
        port: int,
        connections: int,
        *,
        rate: float = 500.0,
        quiet_s: float = QUIET_S,
    ) -> None:
        """Open all; raises :class:`LabError` when one could not be opened.

        Opening or checking has come to a stop when nothing has moved for `quiet_s`.
        """
        hosts = [host.name for host in cluster.spec.hosts() if host.kind is Kind.CLIENT]
        part, rest = divmod(connections, len(hosts))
        self.connections = connections
        with ExitStack() as stack:
            self._programs = [
                stack.enter_context(
                    HeldConnections(
                        cluster,
                        name,
                        address,
                        port,
                        connections=part + (i < rest),
                        rate=rate / len(hosts),
                        quiet_s=quiet_s,
                    )
                )
                for i, name in enumerate(hosts)
            ]
            for program in self._programs:
                program.opened()
            self._stack = stack.pop_all()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def phase(self, name: str) -> CrowdReport:
        """Begin the phase `name`; returns the figures of the one before."""
        return self._joined([program.phase(name) for program in self._programs])

    def check(self) -> CrowdReport:
        """Ask every connection for an answer, and wait for all that come.

        The figures are those of the phase that is on, this check included.
        """
        for program in self._programs:
            program.command("check")
        longest_s = 2 * QUIET_S + SPARE_S + self.connections / CHECKED_PER_S
        return self._joined([program.checked(longest_s) for program in self._programs])

    def _joined(self, reports: list[dict[str, Any]]) -> CrowdReport:
        states: Counter[str] = Counter()
        servers: Counter[str] = Counter()
        for report in reports:
            states.update(report["states"])
            servers.update(report["servers"])
        return CrowdReport(
            self.connections,
            dict(states),
            dict(servers),
            sum(report["unanswered"] for report in reports),
            max(report["max_gap_ms"] for report in reports),
        )
