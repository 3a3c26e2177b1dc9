"""What every node has to spare: its own measurements go out, those of all are kept (P4, P5)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DistMethod
from dvipad.core.context import Context
from dvipad.core.effects import Broadcast, Send
from dvipad.core.inputs import ActiveCounted, Measured
from dvipad.wire.messages import Weights

MEASURED: Final = frozenset(
    {DistMethod.BASEWLM, DistMethod.SERVERWLM, DistMethod.TARGCONTROLLED, DistMethod.HOTSTANDBY}
)
"""Methods that look at what nodes say of themselves."""
NO_SCALE: Final = 1
"""In place of a capacity: what an operator announces is not scaled by that of his node."""
_WILDCARDS: Final[dict[int, Address]] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}


class Source(Enum):
    """Where the weight of a target comes from."""

    CONFIGURED = "configured"
    """WEIGHT of the profile."""
    BASE = "base"
    """Its node has so much to spare."""
    SERVER = "server"
    """Its server has."""
    ANNOUNCED = "announced"
    """Its operator says so."""
    DEFAULT = "default"
    """Nothing is known of it."""


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
    which nothing is known, and counts in `lapsed`. `edition` grows with each change.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[str, _Told] = {}
        self._active: dict[tuple[Address, int, Address], int] = {}
        self._sent: Weights | None = None
        self._sent_ms = 0
        self.edition = 0
        self.lapsed = 0

    # -- this node's own ----------------------------------------------------------------------

    def noted(self, event: Measured | ActiveCounted) -> None:
        """This node measured itself, or counted its targets' connections."""
        if isinstance(event, Measured):
            self._measured(event.weights)
            return
        counts = dict(event.counts)
        self.edition += counts != self._active
        self._active = counts

    def active(self, dvipa: Address, port: int, xcf: Address) -> int | None:
        """Active connections of a target, as this node counted them; None: it did not."""
        return self._active.get((dvipa, port, xcf))

    def _measured(self, weights: Weights) -> None:
        """Others are told what changed, and once before it lapses."""
        now_ms = self._context.now_ms
        self.received(self._context.settings.name, weights)
        if weights != self._sent or now_ms >= self._sent_ms + weights.valid_ms // 2:
            self._sent, self._sent_ms = weights, now_ms
            self._context.emit(Broadcast(weights))

    def greet(self, name: str) -> None:
        """A session with peer `name` began."""
        if self._sent is not None:
            self._context.emit(Send(name, self._sent))

    # -- everybody's --------------------------------------------------------------------------

    def received(self, name: str, weights: Weights) -> None:
        """What node `name` says of itself."""
        known = self._told.get(name)
        servers = {(each.address, each.port): each.weight for each in weights.servers}
        self._told[name] = _Told(weights, self._context.now_ms + weights.valid_ms, servers)
        if known is None or known.weights != weights:
            self.edition += 1

    def forget(self, name: str) -> None:
        """Node `name` is gone."""
        self.edition += self._told.pop(name, None) is not None

    def expire(self) -> None:
        """What holds no more is forgotten."""
        now_ms = self._context.now_ms
        for name in [name for name, told in self._told.items() if told.until_ms <= now_ms]:
            del self._told[name]
            self.edition += 1
            self.lapsed += 1

    def deadline(self) -> int | None:
        """When `expire` has something to do."""
        return min((told.until_ms for told in self._told.values()), default=None)

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
