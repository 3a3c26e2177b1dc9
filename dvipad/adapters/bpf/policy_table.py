"""Policies in the data plane: rings of their own, and sets of them that services name.

A service swaps its set in one update of its own entry; only then the former set goes. Rings change
in place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from dvipad.adapters.bpf.layout import (
    POLICY_BITS,
    POLICY_KEY,
    POLICY_NONE,
    POLICY_UNSEEN,
    TEXT_KEY,
    Service,
    index_key,
    key_index,
)
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.policy_text import Rows, delete_set, read_set, write_set
from dvipad.adapters.bpf.slots import Holder, Slots
from dvipad.address import Address
from dvipad.core.policy_prefixes import NONE, UNSEEN, compile_prefixes
from dvipad.core.policy_rows import PolicyRow

_SET_BITS: Final = 32
_INSTEAD: Final = {UNSEEN: POLICY_UNSEEN, NONE: POLICY_NONE}
_PREFIX_BITS: Final = POLICY_BITS - _SET_BITS


@dataclass(frozen=True, slots=True)
class PolicySet:
    """`number` 0: no policies. `rows` are without their rings."""

    number: int = 0
    rows: Rows = ()


EMPTY: Final = PolicySet()


class PolicyTable:
    """The maps `policies`, `policy_rings` and `policy_texts`."""

    def __init__(self, maps: dict[str, Map], slots: Slots) -> None:
        self._prefixes = maps["policies"]
        self._rings = maps["policy_rings"]
        self._texts = maps["policy_texts"]
        self._slots = slots
        self._last = 0

    def adopt(self, number: int) -> PolicySet:
        """A set that a service named when the maps were opened."""
        return PolicySet(number, read_set(self._texts, number) or ()) if number else EMPTY

    def keep_only(self, sets: Iterable[PolicySet]) -> None:
        """Remove what a former daemon left half done."""
        known = {each.number: each for each in sets if each.number}
        texts = {TEXT_KEY.unpack(key)[0] for key, _ in self._texts.items()}
        for number in texts - known.keys():
            delete_set(self._texts, number)
        for key, _ in list(self._prefixes.items()):
            if POLICY_KEY.unpack(key)[1] not in known:
                self._prefixes.delete(key)
        slots = {slot for each in known.values() for _, slot in each.rows}
        for key, _ in list(self._rings.items()):
            if key_index(key) not in slots:
                self._rings.delete(key)
        self._last = max(texts | known.keys(), default=0)

    def follow(
        self,
        before: PolicySet,
        rows: tuple[PolicyRow, ...],
        holder: Holder,
        entry: Callable[[int, tuple[Address, ...]], Service],
    ) -> PolicySet:
        """The set for `rows`; the service of `holder` is to name it, and then `drop` the former.

        `entry` makes the value of a slot and its ring.
        """
        known = {row.name: slot for row, slot in before.rows}
        self._last += 1
        now = PolicySet(self._last)
        try:
            for row in rows:
                slot = known.get(row.name)
                if slot is None:
                    slot = self._slots.take(replace(holder, policy=row.name))
                now = replace(now, rows=(*now.rows, (replace(row, ring=(), targets=0), slot)))
                self._rings.update(index_key(slot), bytes(entry(slot, row.ring)))
            if now.rows == before.rows:
                return before
            if not rows:
                return EMPTY
            write_set(self._texts, now.number, now.rows)
            for key, value in _prefixes(now.number, now.rows):
                self._prefixes.update(key, value.to_bytes(4, sys.byteorder))
        except BpfError:
            self.drop(now, before, None)
            raise
        return now

    def drop(self, former: PolicySet, now: PolicySet, heir: int | None) -> None:
        """No service names the set `former` any more; `heir` is the slot of the one that did."""
        if former.number in (0, now.number):
            return
        for key, _ in _prefixes(former.number, former.rows):
            self._prefixes.delete(key)
        delete_set(self._texts, former.number)
        kept = {slot for _, slot in now.rows}
        for _, slot in former.rows:
            if slot not in kept:
                self._rings.delete(index_key(slot))
                self._slots.give_back(slot, heir)

    def ring(self, slot: int) -> Service | None:
        """The ring of a policy."""
        value = self._rings.lookup(index_key(slot))
        return None if value is None else Service.from_buffer_copy(value)


def _prefixes(number: int, rows: Rows) -> Iterator[tuple[bytes, int]]:
    """Keys and values of `policies`."""
    compiled = compile_prefixes([row for row, _ in rows])
    for (bits, length), place in compiled.items():
        client = bits.to_bytes(_PREFIX_BITS // 8, "big")
        key = POLICY_KEY.pack(_SET_BITS + length, number, client)
        yield key, _INSTEAD[place] if place < 0 else rows[place][1]
