"""What every node has to spare: its own measurements go out, those of all are kept (P4, P5)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DistMethod
from dvipad.core.context import Context
from dvipad.core.effects import Broadcast, Send
from dvipad.core.figures import FigureTable, Reporter
from dvipad.core.inputs import FiguresRead, OfStatus, PreferencesChanged
from dvipad.core.preferring import Preferences
from dvipad.core.source import Source
from dvipad.wire.messages import Figures, Weights

MEASURED: Final = frozenset(
    {DistMethod.BASEWLM, DistMethod.SERVERWLM, DistMethod.TARGCONTROLLED, DistMethod.HOTSTANDBY}
)
"""Methods that look at what nodes say of themselves."""
NO_SCALE: Final = 1
"""In place of a capacity: what an operator announces is not scaled by that of his node."""
_WILDCARDS: Final[dict[int, Address]] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}


@dataclass(frozen=True, slots=True)
class Spare:
    """`weight`, 0-64, of a capacity of `millicpus`."""

    weight: int
    millicpus: int
    source: Source


@dataclass(frozen=True, slots=True)
class _Told:
    """What a node said, and until when it holds."""

    weights: Weights
    until_ms: int
    servers: dict[tuple[Address | None, int], int]


class Workloads:
    """Of all nodes, by name, this one included.

    What a node said holds as long as it said itself; a node that falls silent about it is one of
    which nothing is known, and counts in `lapsed`. `figures`, `preferences`: what status objects
    say of the nodes, and what this one makes of it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[str, _Told] = {}
        self._sent: Weights | None = None
        self._sent_ms = 0
        self._changes = 0
        self.lapsed = 0
        self.figures = FigureTable(context)
        self.preferences = Preferences(self.figures)
        self._reporter = Reporter(context)

    @property
    def edition(self) -> int:
        """It grows with each change."""
        return self._changes + self.preferences.edition

    # -- this node's own ----------------------------------------------------------------------

    def measured(self, weights: Weights) -> None:
        """This node measured itself. Others are told what changed, and once before it lapses."""
        now_ms = self._context.now_ms
        self.received(self._context.settings.name, weights)
        if weights != self._sent or now_ms >= self._sent_ms + weights.valid_ms // 2:
            self._sent, self._sent_ms = weights, now_ms
            self._context.emit(Broadcast(weights))

    def greet(self, name: str) -> None:
        """A session with peer `name` began."""
        self.figures.greet(name)
        self._reporter.greet(name)
        if self._sent is not None:
            self._context.emit(Send(name, self._sent))

    # -- status objects -----------------------------------------------------------------------

    def of_status(self, event: OfStatus) -> None:
        """What the status file of this node says, or its status objects read."""
        match event:
            case PreferencesChanged():
                self.preferences.follow(event.preferences)
                self._context.touched.everything()
            case FiguresRead():
                own = self._context.settings.name
                self.figures.heard(own, self._reporter.read(event))
                if event.failing != self._context.failing:
                    self._context.failing = event.failing
                    self._context.touched.everything()

    def figures_received(self, name: str, message: Figures) -> None:
        """What status objects of node `name` read, or of others in its farm."""
        for said in message.nodes:
            own = said.node == self._context.settings.name
            whole = None if own else self.figures.heard(name, said)
            if whole is not None and self._reporter.is_of_farm(whole.node):
                self._reporter.keep(whole)

    # -- everybody's --------------------------------------------------------------------------

    def received(self, name: str, weights: Weights) -> None:
        """What node `name` says of itself."""
        known = self._told.get(name)
        servers = {(each.address, each.port): each.weight for each in weights.servers}
        self._told[name] = _Told(weights, self._context.now_ms + weights.valid_ms, servers)
        if known is None or known.weights != weights:
            self._changes += 1

    def forget(self, name: str) -> None:
        """Node `name` is gone."""
        self._changes += self._told.pop(name, None) is not None
        self.figures.forget(name)
        self._reporter.forget(name)

    def expire(self) -> None:
        """What holds no more is forgotten; figures that are due are told."""
        now_ms = self._context.now_ms
        for name in [name for name, told in self._told.items() if told.until_ms <= now_ms]:
            del self._told[name]
            self._changes += 1
            self.lapsed += 1
        self._reporter.flush()

    def deadline(self) -> int | None:
        """When `expire` has something to do."""
        lapse_ms = min((told.until_ms for told in self._told.values()), default=None)
        dues = [at_ms for at_ms in (lapse_ms, self._reporter.deadline()) if at_ms is not None]
        return min(dues, default=None)

    def known(self) -> dict[str, Weights]:
        """What holds now, by node."""
        return {name: told.weights for name, told in self._told.items()}

    def spare(self, method: DistMethod, name: str, dvipa: Address, port: int) -> Spare | None:
        """What node `name` has to spare for (`dvipa`, `port`) as `method` sees it; None: unknown.

        SERVERWLM, and HOTSTANDBY for its health, look at the server, and at the node when
        nothing is known of the server; BASEWLM at the node, TARGCONTROLLED at its operator's word.
        """
        told = self._told.get(name)
        if told is None:
            return None
        said = told.weights
        if method is DistMethod.TARGCONTROLLED:
            if said.announced is None:
                return None
            return Spare(said.announced, NO_SCALE, Source.ANNOUNCED)
        if method is not DistMethod.BASEWLM:
            for address in (dvipa, _WILDCARDS[dvipa.version], None):
                weight = told.servers.get((address, port))
                if weight is not None:
                    return Spare(weight, said.millicpus, Source.SERVER)
        return None if said.host is None else Spare(said.host, said.millicpus, Source.BASE)
