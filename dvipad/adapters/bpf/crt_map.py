"""A map of the CRT in its two halves, IPv4 and IPv6, as one with keys of 36 bytes.

Hashing is what a look-up costs the programs, so the key of an IPv4 connection is as short as can
be there (``struct connection4``). Everywhere else a connection is 36 bytes.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from dvipad.adapters.bpf.layout import CONNECTION, split_keys
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.maps import NOEXIST, Map

MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins among 16 bytes (RFC 4291, 2.5.5.2)."""
SHORT: Final = 12
"""Bytes of an IPv4 connection's own key."""


def shorten(key: bytes) -> bytes:
    """The key of an IPv4 connection in its map."""
    return key[12:16] + key[28:36]


def is_short(key: bytes) -> bool:
    """Whether it is an IPv4 connection's."""
    return key.startswith(MAPPED)


def lengthen(keys: bytes) -> bytes:
    """Packed keys of the IPv4 map as keys of 36 bytes."""
    count = len(keys) // SHORT
    found = bytearray((MAPPED + bytes(4) + MAPPED + bytes(8)) * count)
    for place in range(SHORT):  # byte by byte for all of them at once
        at = place + (12 if place < 4 else 24)
        found[at :: CONNECTION.size] = keys[place::SHORT]
    return bytes(found)


class CrtMap:
    """`four` and `six` as one. A key is 36 bytes, as `layout.CONNECTION` packs it."""

    def __init__(self, four: Map, six: Map) -> None:
        self._four = four
        self._six = six

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        """All elements: packed keys and packed values, many at a time."""
        for keys, values in self._four.batches():
            yield lengthen(keys), values
        yield from self._six.batches()

    def lookup(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        table, own = self._place(key)
        return table.lookup(own)

    def add(self, key: bytes, value: bytes) -> bool:
        """Sets `key` if it is new; False if it is not."""
        table, own = self._place(key)
        try:
            table.update(own, value, NOEXIST)
        except BpfError as error:
            if error.errno != errno.EEXIST:
                raise
            return False
        return True

    def update(self, key: bytes, value: bytes) -> None:
        """Sets `key`; a full map raises ``E2BIG``."""
        table, own = self._place(key)
        table.update(own, value)

    def update_batch(self, keys: bytes, value: bytes) -> None:
        """Sets all packed `keys` to `value`; when a map is full those before stay (``E2BIG``)."""
        for table, part in self._parts(keys):
            table.update_batch(part, value * (len(part) // table.key_size))

    def delete_batch(self, keys: bytes) -> int:
        """Removes all packed `keys`; those that are not there are skipped. Returns how many."""
        return sum(table.delete_batch(part) for table, part in self._parts(keys))

    def _place(self, key: bytes) -> tuple[Map, bytes]:
        return (self._four, shorten(key)) if is_short(key) else (self._six, key)

    def _parts(self, keys: bytes) -> tuple[tuple[Map, bytes], tuple[Map, bytes]]:
        four: list[bytes] = []
        six: list[bytes] = []
        for key in split_keys(keys):
            if is_short(key):
                four.append(shorten(key))
            else:
                six.append(key)
        return (self._four, b"".join(four)), (self._six, b"".join(six))
