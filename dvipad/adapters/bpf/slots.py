"""Slots: who has a ring has one, a service or a policy of it, and in it a position and totals."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dvipad.adapters.bpf.atomic import Numbers
from dvipad.adapters.bpf.layout import SERVICES_MAX, TARGETS_MAX, Refused
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.maps import Map
from dvipad.address import Address

_TOTAL_SIZE: Final = 8
_ROWS: Final = ("totals", "completed", "active")
"""Maps with a row for each slot: a number for each target."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose slot it is: a service's, or that of its policy `policy`."""

    dvipa: Address
    port: int
    policy: str = ""


class Slots:
    """Positions in rings, connections chosen and active, requests refused: shared with program and
    worker."""

    def __init__(self, maps: dict[str, Map]) -> None:
        names = ("cursors", "refused", *_ROWS)
        self._memory = {name: maps[name].memory() for name in names}
        self._cursors = (ctypes.c_uint64 * SERVICES_MAX).from_buffer(self._memory["cursors"])
        self._refused = (Refused * SERVICES_MAX).from_buffer(self._memory["refused"])
        self.totals, self.completed, self.active = (Numbers(self._memory[row]) for row in _ROWS)
        self._free: list[int] = list(range(SERVICES_MAX - 1, -1, -1))
        self._holders: dict[int, tuple[Holder, int]] = {}
        self.edition = 0
        """Another one whenever a slot is given out or taken back."""

    def adopt(self, held: Iterable[tuple[int, Holder]]) -> None:
        """What a former daemon had given out."""
        for slot, holder in held:
            self._holders[slot] = (holder, 0)
        self._free = [slot for slot in self._free if slot not in self._holders]

    def take(self, holder: Holder) -> int:
        """A slot at its beginning; raises :class:`BpfError` when there is none."""
        if not self._free:
            what = f"policy {holder.policy} of port" if holder.policy else "port"
            raise BpfError(
                f"{what} {holder.port} of {holder.dvipa} is one too many: {SERVICES_MAX} is the "
                f"limit"
            )
        slot = self._free.pop()
        self._cursors[slot] = 0
        self._refused[slot] = Refused()
        self._clear(slot * TARGETS_MAX, TARGETS_MAX)
        self._holders[slot] = (holder, time.monotonic_ns())
        self.edition += 1
        return slot

    def give_back(self, slot: int, heir: int | None = None) -> None:
        """Nobody's any more; what was chosen counts as chosen by `heir` from now on."""
        if heir is not None:
            for index in range(TARGETS_MAX):
                count = self.total(slot, index)
                if count:
                    self.totals.add(heir * TARGETS_MAX + index, count)
                    done = self.completed.view[slot * TARGETS_MAX + index]
                    self.completed.add(heir * TARGETS_MAX + index, done)
        del self._holders[slot]
        self._free.append(slot)
        self.edition += 1

    def holder(self, slot: int, at_ns: int) -> Holder | None:
        """Who chose by `slot` at that time of CLOCK_MONOTONIC; None: it is nobody's, or was given
        out later."""
        holder, since_ns = self._holders.get(slot, (None, 0))
        return holder if since_ns <= at_ns else None

    def total(self, slot: int, index: int) -> int:
        """Connections chosen for a target."""
        return self.totals.view[slot * TARGETS_MAX + index]

    def refused(self, slot: int) -> int:
        """Requests refused."""
        row = self._refused[slot]
        return row.by_program + row.by_worker

    def forget_target(self, index: int) -> None:
        """Clears the totals of a target whose index may become another's."""
        for slot in range(SERVICES_MAX):
            self._clear(slot * TARGETS_MAX + index, 1)

    def _clear(self, cell: int, count: int) -> None:
        at, size = cell * _TOTAL_SIZE, count * _TOTAL_SIZE
        for name in _ROWS:
            self._memory[name][at : at + size] = bytes(size)
