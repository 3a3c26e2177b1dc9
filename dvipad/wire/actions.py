"""What the mesh asks of its transport, and what the transport reports of connections."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from dvipad.address import Address
from dvipad.wire.events import MeshEvent
from dvipad.wire.redial import Endpoint


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to `endpoint`; answer with `Mesh.dialled`, or after `timeout_ms` at the latest
    with `Mesh.dial_failed`."""

    endpoint: Endpoint
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Write:
    """Send `data` on the connection."""

    connection_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; `abort`: with a reset, and without sending what waits.

    The mesh has forgotten the connection; what is still reported of it is ignored.
    """

    connection_id: int
    abort: bool


@dataclass(frozen=True, slots=True)
class Datagram:
    """Send `data` by UDP; it may be lost, and nobody is told."""

    endpoint: Endpoint
    data: bytes


@dataclass(frozen=True, slots=True)
class DatagramsMissing:
    """For the log: the UDP heartbeats of node `name`, whose session stands, do not arrive
    (`missing`), or do again. Something on the way lets pass TCP only."""

    name: str
    missing: bool


@dataclass(frozen=True, slots=True)
class Misfit:
    """For the log: the node at `address` is refused, until somebody does what `reason` says."""

    address: Address
    reason: str


class Ending(Enum):
    """How a connection ended that the mesh did not close."""

    EOF = "eof"
    """The other end closed it."""
    RESET = "reset"
    """The other end reset it."""
    TIMEOUT = "timeout"
    """What was sent was not acknowledged in time, or the host cannot be reached."""
    OVERFLOW = "overflow"
    """More waits to be sent than the transport keeps: the peer does not read."""


MeshAction: TypeAlias = Dial | Write | Close | Datagram | DatagramsMissing | Misfit
MeshOutput: TypeAlias = MeshAction | MeshEvent
