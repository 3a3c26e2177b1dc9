"""What is left of policies to look at in a packet: all that the queue worker has to know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dvipad.address import Address
from dvipad.config.model import Device, Prefix
from dvipad.core.methods import Ring


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """What a policy looks at in a packet; what is empty does not matter. Requests that fit go to
    `ring` in turn; if it is empty they are refused. `strict`: the kernel's own choice may not pass
    the policy over. `targets`: how many meet it, 0 when the ring is that of its `else`."""

    name: str
    clients: tuple[Prefix, ...] = ()
    dscps: tuple[int, ...] = ()
    interfaces: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    strict: bool = False
    ring: Ring = ()
    targets: int = 0

    @property
    def looks_closely(self) -> bool:
        """Whether it looks at what costs time to find out: see `Request`."""
        return bool(self.interfaces or self.devices)

    @property
    def unseen(self) -> bool:
        """Whether it looks at what the kernel's own choice does not see."""
        return bool(self.dscps or self.interfaces or self.devices)


@dataclass(frozen=True, slots=True)
class Request:
    """What there is to see of a connection request; `interface` and `device` are told to those who
    look closely."""

    client: Address
    dscp: int = 0
    interface: str = ""
    device: Device = Device.OTHER


def fits(row: PolicyRow, request: Request) -> bool:
    """Whether `row` is for `request`."""
    return (
        (not row.dscps or request.dscp in row.dscps)
        and (not row.interfaces or request.interface in row.interfaces)
        and (not row.devices or request.device in row.devices)
        and (not row.clients or any(request.client in prefix for prefix in row.clients))
    )


def first(rows: Iterable[PolicyRow], request: Request) -> PolicyRow | None:
    """The first of `rows` that is for `request`; None: any target may have it."""
    return next((row for row in rows if fits(row, request)), None)
