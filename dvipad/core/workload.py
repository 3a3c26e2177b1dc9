"""What every node has to spare: its own measurements go out, those of all are kept (P4, P5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, assert_never

from dvipad.address import Address
from dvipad.config.model import DistMethod
from dvipad.core.context import Context
from dvipad.core.figures import FigureTable, Reporter
from dvipad.core.fitness import WELL, Fitness
from dvipad.core.inputs import FiguresRead, OfStatus, PreferencesChanged, Reached
from dvipad.core.preferring import Preferences
from dvipad.core.source import Source
from dvipad.core.words import Words
from dvipad.wire.messages import Figures, Quality, Weights

MEASURED: Final = frozenset(
    {DistMethod.BASEWLM, DistMethod.SERVERWLM, DistMethod.TARGCONTROLLED, DistMethod.HOTSTANDBY}
)
"""Methods that look at what nodes say of themselves."""
NO_SCALE: Final = 1
"""In place of a capacity: what an operator announces is not scaled by that of his node."""
_REACH: Final = ""
"""In place of a node's name: what this one counts as a distributor."""
_WILDCARDS: Final[dict[int, Address]] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}


@dataclass(frozen=True, slots=True)
class Spare:
    """`weight`, 0-64, of a capacity of `millicpus`."""

    weight: int
    millicpus: int
    source: Source


class Workloads:
    """Of all nodes, by name, this one included.

    What a node said holds as long as it said itself; a node that falls silent about it is one of
    which nothing is known, and counts in `lapsed`. `alarms` grows when a target ceases to answer,
    or answers again. `figures`, `preferences`: what status objects say of the nodes, and what this
    one makes of it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._weights = Words[Weights](context, self._weighed)
        self._quality = Words[Quality](context, self._judged)
        self._servers: dict[str, dict[tuple[Address | None, int], int]] = {}
        self._services: dict[str, dict[tuple[Address, int], Fitness]] = {}
        self._reach: dict[tuple[str, Address, int], int] = {}
        self._mute: dict[str, frozenset[tuple[str, Address, int]]] = {}
        self._active: dict[tuple[Address, int, Address], int] = {}
        self._changes = 0
        self.alarms = 0
        self.lapsed = 0
        self.figures = FigureTable(context)
        self.preferences = Preferences(self.figures)
        self._reporter = Reporter(context)

    @property
    def edition(self) -> int:
        """It grows with each change."""
        return self._changes + self.preferences.edition

    # -- this node's own ----------------------------------------------------------------------

    def measured(self, said: Weights | Quality | Reached) -> None:
        """This node measured itself, or how it reaches targets."""
        match said:
            case Weights():
                self._weights.say(said)
            case Quality():
                self._quality.say(said)
            case Reached():
                self._reach = {(each.name, each.dvipa, each.port): each.tcsr for each in said.rows}
                mute = frozenset(key for key, tcsr in self._reach.items() if tcsr == 0)
                self._note(_REACH, mute)
            case _:
                assert_never(said)

    def counted(self, active: dict[tuple[Address, int, Address], int]) -> None:
        """This node counted the connections of its targets."""
        self._changes += active != self._active
        self._active = active

    def active(self, dvipa: Address, port: int, xcf: Address) -> int | None:
        """Active connections of a target, as this node counted them; None: it did not."""
        return self._active.get((dvipa, port, xcf))

    def greet(self, name: str) -> None:
        """A session with peer `name` began."""
        self._weights.greet(name)
        self._quality.greet(name)
        self.figures.greet(name)
        self._reporter.greet(name)

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

    def received(self, name: str, said: Weights | Quality) -> None:
        """What node `name` says of itself."""
        match said:
            case Weights():
                self._weights.received(name, said)
            case Quality():
                self._quality.received(name, said)
            case _:
                assert_never(said)

    def _weighed(self, name: str, weights: Weights | None) -> None:
        self._changes += 1
        servers = () if weights is None else weights.servers
        self._servers[name] = {(each.address, each.port): each.weight for each in servers}

    def _judged(self, name: str, quality: Quality | None) -> None:
        services = () if quality is None else quality.services
        found = {
            (each.dvipa, each.port): Fitness(each.left, WELL.tcsr, each.cer, each.sef)
            for each in services
        }
        if found != self._services.get(name, {}):
            self._services[name] = found
            mute = (key for key, fitness in found.items() if fitness.tsr == 0)
            self._note(name, frozenset((name, *key) for key in mute))

    def _note(self, who: str, mute: frozenset[tuple[str, Address, int]]) -> None:
        """Something changed; targets that do not answer, as node `who` says, are these."""
        self._changes += 1
        self.alarms += mute != self._mute.get(who, frozenset())
        self._mute[who] = mute

    def forget(self, name: str) -> None:
        """Node `name` is gone."""
        self._weights.forget(name)
        self._quality.forget(name)
        self.figures.forget(name)
        self._reporter.forget(name)
        for kept in (self._servers, self._services, self._mute):
            kept.pop(name, None)

    def expire(self) -> None:
        """What holds no more is forgotten; figures that are due are told."""
        self.lapsed += self._weights.expire()
        self._quality.expire()
        self._reporter.flush()

    def deadline(self) -> int | None:
        """When `expire` has something to do."""
        dues = (self._weights.deadline(), self._quality.deadline(), self._reporter.deadline())
        return min((due_ms for due_ms in dues if due_ms is not None), default=None)

    def known(self) -> dict[str, Weights]:
        """What holds now, by node."""
        return self._weights.known()

    def fitness(self, name: str, dvipa: Address, port: int) -> Fitness:
        """How well node `name` serves (`dvipa`, `port`); what is not known is well."""
        tcsr = self._reach.get((name, dvipa, port), 100)
        said = self._services.get(name, {}).get((dvipa, port), WELL)
        return said if tcsr == said.tcsr else replace(said, tcsr=tcsr)

    def spare(self, method: DistMethod, name: str, dvipa: Address, port: int) -> Spare | None:
        """What node `name` has to spare for (`dvipa`, `port`) as `method` sees it; None: unknown.

        SERVERWLM, and HOTSTANDBY for its health, look at the server, and at the node when
        nothing is known of the server; BASEWLM at the node, TARGCONTROLLED at its operator's word.
        """
        said = self._weights.of(name)
        if said is None:
            return None
        if method is DistMethod.TARGCONTROLLED:
            if said.announced is None:
                return None
            return Spare(said.announced, NO_SCALE, Source.ANNOUNCED)
        if method is not DistMethod.BASEWLM:
            for address in (dvipa, _WILDCARDS[dvipa.version], None):
                weight = self._servers[name].get((address, port))
                if weight is not None:
                    return Spare(weight, said.millicpus, Source.SERVER)
        return None if said.host is None else Spare(said.host, said.millicpus, Source.BASE)
