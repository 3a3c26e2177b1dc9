"""Connections of each (DVIPA, port, target): chosen, ended, and how many the CRT holds now.

There are thousands of such rows, and reports are made while packets flow: keys are the numbers that
the maps hold, compared and counted without an object for each connection.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from dvipad.adapters.bpf.balance import place_of
from dvipad.adapters.bpf.crt_map import MAPPED
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.service_table import ServiceTable
from dvipad.adapters.bpf.tables import TargetTable
from dvipad.address import Address

Row: TypeAlias = tuple[Address, int, Address]
"""DVIPA, port, XCF address of a target."""
Key: TypeAlias = tuple[int, ...]
"""The same as the maps hold it: four words of the DVIPA, the port, the target's index."""

ENDED_MAX: Final = 65_536
"""Rows whose ended connections are counted; with one more all begin again at 0."""
ESTABLISHED: Final = ("established4", "established6")
EMBRYONIC: Final = ("embryonic4", "embryonic6")
_MAPPED: Final = tuple(memoryview(bytes(2) + MAPPED[2:]).cast("I"))
_PORT: Final = 17
"""Place of the DVIPA's port among the half words of a key of 36 bytes."""


@dataclass(frozen=True, slots=True)
class Census:
    """What the CRT held. `active`: established connections of each row; `entries`: of each map,
    where embryonic ones stay until others need their place; `at_ns`: when, of CLOCK_MONOTONIC."""

    active: dict[Key, int]
    entries: dict[str, int]
    at_ns: int


@dataclass(frozen=True, slots=True)
class Connections:
    """For each row that was asked for: connections chosen here, those whose target said that they
    are over, and those in the CRT at the last count (none before the first)."""

    chosen: Sequence[int]
    ended: list[int]
    active: list[int]


class Tally:
    """Counts for one data plane. Not safe for threads."""

    def __init__(self, maps: dict[str, Map], services: ServiceTable, targets: TargetTable) -> None:
        self._maps = maps
        self._services = services
        self._targets = targets
        self._ended: Counter[Key] = Counter()
        self._pages: Iterator[Census | None] | None = None
        self._rows: Sequence[Row] = ()
        self._edition = (-1, -1)
        self._places: dict[Key, int] = {}
        self.census: Census | None = None
        """The last complete count."""

    def ended(self, index: int, keys: bytes) -> None:
        """Connections, packed keys of 36 bytes, of the target `index` are over."""
        words, halves = memoryview(keys).cast("I"), memoryview(keys).cast("H")
        found = Counter(
            zip(*(words[4 + at :: 9] for at in range(4)), halves[_PORT::18], strict=True)
        )
        if len(self._ended) + len(found) > ENDED_MAX:
            self._ended.clear()
        for key, number in found.items():
            self._ended[*key, index] += number
            self._services.balance.ended(key, index, number)

    def forget(self, index: int) -> None:
        """The index may become another target's."""
        for key in [key for key in self._ended if key[-1] == index]:
            del self._ended[key]

    def count_on(self) -> bool:
        """Counts a page of the CRT, in a few milliseconds; returns whether more are left.

        After the last one `census` is new, and the next call begins anew.
        """
        if self._pages is None:
            self._pages = self._count()
        pages, self._pages = self._pages, None
        found = next(pages)
        if found is None:  # else, or after an error, the next call begins anew
            self._pages = pages
            return True
        self.census = found
        return False

    def rows(self, rows: Sequence[Row]) -> Connections:
        """What is known of `rows`; the same object again is answered faster."""
        edition = (self._services.slots.edition, self._targets.edition)
        if rows is not self._rows or edition != self._edition:
            self._rows, self._edition = rows, edition
            keys = (_key(*row[:2], self._targets.find(row[2])) for row in rows)
            self._places = {key: place for place, key in enumerate(keys)}
        active = self.census.active if self.census is not None else {}
        chosen = self._services.chosen(rows)
        return Connections(chosen, self._column(self._ended), self._column(active))

    def _column(self, counts: Mapping[Key, int]) -> list[int]:
        """`counts` in the order of the rows; most are 0."""
        column = [0] * len(self._rows)
        for key, count in counts.items():
            place = self._places.get(key)
            if place is not None:
                column[place] = count
        return column

    def _count(self) -> Iterator[Census | None]:
        """None after each page, the census at the end."""
        at_ns = time.monotonic_ns()
        self._services.balance.begin()
        four: Counter[Key] = Counter()
        six: Counter[Key] = Counter()
        entries = dict.fromkeys((*ESTABLISHED, *EMBRYONIC), 0)
        for name in entries:
            for keys, values in self._maps[name].batches():
                words, halves = memoryview(keys).cast("I"), memoryview(keys).cast("H")
                targets = memoryview(values).cast("I")[::4]
                entries[name] += len(targets)
                if name == "established4":
                    four.update(zip(words[1::3], halves[5::6], targets, strict=True))
                elif name == "established6":
                    dvipas = (words[4 + at :: 9] for at in range(4))
                    six.update(zip(*dvipas, halves[_PORT::18], targets, strict=True))
                yield None
        short = {(*_MAPPED, *key): number for key, number in four.items()}
        active = short | six
        self._services.balance.counted(active)
        yield Census(active, entries, at_ns)


def _key(dvipa: Address, port: int, index: int | None) -> Key:
    """The key of a row; that of a target without an index is nobody's."""
    return (*place_of(dvipa, port), -1 if index is None else index)
