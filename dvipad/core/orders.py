"""What the operator ordered, as one value: VARY TCPIP,,SYSPLEX of z/OS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from dvipad.address import Address


class Verb(Enum):
    """An operator's order; each one has another that undoes it."""

    DEACTIVATE = "deactivate"
    REACTIVATE = "reactivate"
    QUIESCE = "quiesce"
    RESUME = "resume"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    LEAVEGROUP = "leavegroup"
    JOINGROUP = "joingroup"


WHOLE_TARGET: Final = 0
"""In place of a port: every port of this node as a target."""


@dataclass(frozen=True, slots=True)
class Orders:
    """Everything that is ordered now.

    `deactivated`: DVIPAs that this node gives up, and does not take back or over. `quiesced`,
    `paused`: ports that get no new connections here, `WHOLE_TARGET` for all; what is paused
    stays so when the host is restarted. `outside`: the node left the group. `activated`: addresses
    of a VIPARANGE that a command activated here, each with the number of the latest command (D10).
    `weight`: what this node announces for TARGCONTROLLED, 0-64; None: what its node file says.
    """

    deactivated: frozenset[Address] = frozenset()
    quiesced: frozenset[int] = frozenset()
    paused: frozenset[int] = frozenset()
    outside: bool = False
    activated: frozenset[tuple[Address, int]] = frozenset()
    weight: int | None = None

    def bars(self, dvipa: Address) -> bool:
        """Whether this node is not to own `dvipa`."""
        return self.outside or dvipa in self.deactivated

    def refuses(self, port: int) -> bool:
        """Whether this node gets no new connections to `port`."""
        closed = self.quiesced | self.paused
        return self.outside or port in closed or WHOLE_TARGET in closed

    def with_order(self, verb: Verb, dvipa: Address | None, port: int) -> Orders:
        """These orders and one more. RESUME and UNPAUSE of the whole target undo ports, too."""
        match verb:
            case Verb.DEACTIVATE if dvipa is not None:
                return replace(self, deactivated=self.deactivated | {dvipa})
            case Verb.REACTIVATE if dvipa is not None:
                return replace(self, deactivated=self.deactivated - {dvipa})
            case Verb.QUIESCE:
                return replace(self, quiesced=self.quiesced | {port})
            case Verb.RESUME:
                return replace(self, quiesced=_without(self.quiesced, port))
            case Verb.PAUSE:
                return replace(self, paused=self.paused | {port})
            case Verb.UNPAUSE:
                return replace(self, paused=_without(self.paused, port))
            case Verb.LEAVEGROUP | Verb.JOINGROUP:
                return replace(self, outside=verb is Verb.LEAVEGROUP)
            case _:
                raise ValueError(f"{verb.value} needs a DVIPA")

    def activate(self, dvipa: Address) -> Orders:
        """These orders, and `dvipa` is activated here, or once more."""
        number = 1 + max((number for _, number in self.activated), default=0)
        return replace(self, activated=self.delete(dvipa).activated | {(dvipa, number)})

    def delete(self, dvipa: Address) -> Orders:
        """These orders without the activation of `dvipa`."""
        kept = frozenset(row for row in self.activated if row[0] != dvipa)
        return replace(self, activated=kept)


def _without(ports: frozenset[int], port: int) -> frozenset[int]:
    return frozenset() if port == WHOLE_TARGET else ports - {port}
