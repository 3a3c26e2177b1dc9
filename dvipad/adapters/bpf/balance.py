"""Active connections of targets, of services that are balanced: the map `active`.

Who chooses adds one (``choose()`` in ``bpf/choose.h``, the worker). This side takes away what
targets say is over, at once; and at each census of the CRT it corrects what never became a
connection, or was chosen by another node.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dvipad.adapters.bpf.atomic import Numbers
from dvipad.adapters.bpf.layout import TARGETS_MAX
from dvipad.address import Address, pack

Place: TypeAlias = tuple[int, ...]
"""A service as the maps have it: four words of the DVIPA, the port."""


def place_of(dvipa: Address, port: int) -> Place:
    """The place of (DVIPA, port)."""
    return (*memoryview(pack(dvipa)).cast("I"), socket.htons(port))


@dataclass(frozen=True, slots=True)
class _Counted:
    """A balanced service: its slot, and the indexes of all targets that it has had."""

    slot: int
    indexes: frozenset[int]


class Balance:
    """Of one data plane. Not safe for threads."""

    def __init__(self, active: Numbers) -> None:
        self._active = active
        self._services: dict[Place, _Counted] = {}
        self._marks: dict[tuple[Place, int, int], int] = {}

    def __bool__(self) -> bool:
        """Whether there is any service to balance."""
        return bool(self._services)

    def follow(self, place: Place, slot: int, indexes: Iterable[int]) -> None:
        """A service is balanced, with these targets."""
        known = self._services.get(place)
        former = frozenset[int]() if known is None or known.slot != slot else known.indexes
        self._services[place] = _Counted(slot, former | frozenset(indexes))

    def forget(self, place: Place) -> None:
        """A service is balanced no more."""
        self._services.pop(place, None)

    def ended(self, place: Place, index: int, number: int) -> None:
        """So many connections of a target are over."""
        known = self._services.get(place)
        if known is not None:
            self._active.add(known.slot * TARGETS_MAX + index, -number)

    def begin(self) -> None:
        """A census begins."""
        self._marks = {
            (place, known.slot, index): self._active.view[known.slot * TARGETS_MAX + index]
            for place, known in self._services.items()
            for index in known.indexes
        }

    def counted(self, found: Mapping[tuple[int, ...], int]) -> None:
        """It found so many connections, by place and index."""
        for (place, slot, index), before in self._marks.items():
            known = self._services.get(place)
            if known is not None and known.slot == slot:
                cell = slot * TARGETS_MAX + index
                self._active.add(cell, found.get((*place, index), 0) - before)
        self._marks = {}

    def active(self, place: Place) -> dict[int, int]:
        """Active connections of a service, by the index of the target; none, if nobody counts."""
        known = self._services.get(place)
        if known is None:
            return {}
        row = known.slot * TARGETS_MAX
        return {index: max(0, self._active.view[row + index]) for index in known.indexes}
