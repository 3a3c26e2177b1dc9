"""The connection routing table in its two maps: the only place where it is kept."""

from __future__ import annotations

import ctypes
import errno
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from dvipad.adapters.bpf.crt_map import CrtMap
from dvipad.adapters.bpf.layout import CONNECTION, ENDING_MAX, ROUTE, End, Ending, split_keys
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.maps import BATCH_MAX, Map
from dvipad.adapters.bpf.tables import TargetTable
from dvipad.adapters.bpf.tc import run_syscall
from dvipad.address import Address, pack, unpack

_UNDER_WAY_NS: Final = 1_000_000_000
"""An entry is in its map far sooner after the time that is written in it."""

CHOSEN_NS: Final = 5_000_000_000
"""A younger entry is of the same connection, and not of an earlier one of the same client port."""

OPENING_NS: Final = 130_000_000_000
"""A client stops opening a connection after 127 s (net.ipv4.tcp_syn_retries 6)."""


@dataclass(frozen=True, slots=True)
class CrtRow:
    """One connection. `established`: the client has acknowledged. `target` None: it is gone.

    `closing`: one side has sent a FIN or RST. `created_ns`: of CLOCK_MONOTONIC. `chooser`: 1 more
    than the slot of the ring that chose the target; 0: it was not chosen here.
    """

    client: Address
    client_port: int
    dvipa: Address
    dvipa_port: int
    target: Address | None
    established: bool
    closing: bool
    created_ns: int
    chooser: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which connections are asked for; None: whichever."""

    dvipa: Address | None = None
    client: Address | None = None
    client_port: int | None = None

    def test(self) -> Callable[[bytes], bool]:
        """Tells by the key of a connection whether it is one of them."""
        whole = CONNECTION.pack(
            pack(self.client) if self.client else b"",
            pack(self.dvipa) if self.dvipa else b"",
            self.client_port or 0,
            0,
        )
        spans = ((self.client, 0, 16), (self.dvipa, 16, 32), (self.client_port, 32, 34))
        given = [(start, whole[start:end]) for value, start, end in spans if value is not None]
        if not given:
            return lambda _key: True
        (start, first), *others = given  # the first one turns nearly all away: no loop for these
        return lambda key: (
            key.startswith(first, start) and all(key.startswith(part, at) for at, part in others)
        )


EVERYTHING: Final = Wanted()


def _entries(table: CrtMap) -> Iterator[tuple[bytes, int, int, int, int]]:
    """Key, target index, closing, chooser, created_ns of every entry."""
    for keys, values in table.batches():
        yield from (
            (key, *route)
            for key, route in zip(split_keys(keys), ROUTE.iter_unpack(values), strict=True)
        )


class Ender:
    """Compares and deletes in the kernel, through the program ``dvipad_end``; `tell` gets the
    target index and the keys of what was deleted."""

    def __init__(self, endings: Map, program_fd: int, tell: Callable[[int, bytes], None]) -> None:
        self._tell = tell
        self._memory = endings.memory()
        self._ending = Ending.from_buffer(self._memory)
        self._program_fd = program_fd

    def end(self, index: int, keys: bytes, before_ns: int) -> tuple[int, bytes]:
        """How many of `keys` were deleted, and those of which it cannot be told yet."""
        deleted = 0
        unclear: list[bytes] = []
        size = CONNECTION.size * ENDING_MAX
        for at in range(0, len(keys), size):
            part = keys[at : at + size]
            results = self._run(index, part, before_ns)
            over = results.count(End.DELETED)
            deleted += over
            if over:
                every = over == len(results)
                told = part if every else b"".join(_where(part, results, End.DELETED))
                self._tell(index, told)
            if End.UNCLEAR in results:
                unclear += _where(part, results, End.UNCLEAR)
        return deleted, b"".join(unclear)

    def _run(self, index: int, keys: bytes, before_ns: int) -> bytes:
        count = len(keys) // CONNECTION.size
        self._ending.target, self._ending.before_ns = index, before_ns
        self._ending.count = count
        ctypes.memmove(self._ending.keys, keys, len(keys))
        run_syscall(self._program_fd)
        return bytes(self._ending.result)[:count]


def _where(keys: bytes, results: bytes, wanted: End) -> list[bytes]:
    pairs = zip(split_keys(keys), results, strict=True)
    return [key for key, result in pairs if result == wanted]


class CrtTable:
    """`established` and `embryonic`."""

    def __init__(
        self, established: CrtMap, embryonic: CrtMap, targets: TargetTable, ender: Ender
    ) -> None:
        self._ender = ender
        self._established = established
        self._embryonic = embryonic
        self._targets = targets
        self._oldest_ns = 0

    def insert(self, index: int, established: bytes, embryonic: bytes) -> int:
        """Enters packed keys for a target; returns for how many there was no room."""
        lost = 0
        value = ROUTE.pack(index, 0, 0, time.monotonic_ns())
        for table, keys in ((self._established, established), (self._embryonic, embryonic)):
            size = BATCH_MAX * CONNECTION.size
            for at in range(0, len(keys), size):
                lost += _insert(table, keys[at : at + size], value)
        return lost

    def insert_hearsay(self, index: int, keys: bytes) -> None:
        """Enters packed keys as embryonic, but for those that are, and are younger than
        `CHOSEN_NS`."""
        now_ns = time.monotonic_ns()
        value = ROUTE.pack(index, 0, 0, now_ns)
        for key in split_keys(keys):
            if self._embryonic.add(key, value):
                continue
            known = self._embryonic.lookup(key)
            if known is not None:
                _target, closing, _chooser, created_ns = ROUTE.unpack(known)
                if not closing and created_ns > now_ns - CHOSEN_NS:
                    continue
            self._embryonic.update(key, value)

    def end(self, index: int, keys: bytes, before_ns: int) -> bytes:
        """Removes those of `keys` that lead to target `index` and are over.

        Over is what is closing, and what was made before `before_ns`. Returns the keys of which
        this cannot be told yet.
        """
        return self._ender.end(index, keys, before_ns)[1]

    def _delete_where(self, ended: Callable[[bytes, int, int], bool]) -> int:
        count = 0
        for table in (self._embryonic, self._established):
            keys = [
                key
                for key, index, _closing, _chooser, created_ns in _entries(table)
                if ended(key, index, created_ns)
            ]
            count += table.delete_batch(b"".join(keys))
        return count

    def purge_target(self, index: int) -> int:
        """Removes every connection of a target; returns how many entries that were."""
        return self._delete_where(lambda _key, target, _created: target == index)

    def purge_dvipa(self, dvipa: Address) -> int:
        """Removes every connection of a DVIPA; returns how many entries that were."""
        packed = pack(dvipa)
        return self._delete_where(lambda key, _target, _created: key[16:32] == packed)

    def retain(self, dvipa: Address, index: int, keys: bytes, before_ns: int) -> int:
        """Removes connections of (DVIPA, target) made before `before_ns` that `keys` lacks."""
        if before_ns <= self._oldest_ns:  # as it is for a CRT that was collected just now
            return 0
        packed, old = pack(dvipa), self._older(index, before_ns)
        if old:
            old.difference_update(split_keys(keys))
        gone = b"".join(key for key in old if key[16:32] == packed)
        return self._ender.end(index, gone, before_ns)[0]

    def _older(self, index: int, before_ns: int) -> set[bytes]:
        """Keys of the entries of a target made before `before_ns`.

        Notes the age of the oldest entry of all: what comes later is younger than this look.
        """
        oldest_ns = time.monotonic_ns() - _UNDER_WAY_NS
        found: set[bytes] = set()
        for table in (self._embryonic, self._established):
            for keys, values in table.batches():
                created = memoryview(values).cast("Q")[1::2]
                oldest_ns = min(oldest_ns, min(created))
                if oldest_ns < before_ns:
                    routes = zip(split_keys(keys), ROUTE.iter_unpack(values), strict=True)
                    old = ((key, i) for key, (i, _, _, ns) in routes if ns < before_ns)
                    found.update(key for key, i in old if i == index)
        self._oldest_ns = oldest_ns
        return found

    def connections(self, dvipa: Address) -> dict[Address, tuple[bytes, bytes]]:
        """Packed keys of a DVIPA's connections: target → (established, embryonic).

        An entry that was promoted counts as established only.
        """
        packed = pack(dvipa)
        promoted: set[bytes] = set()
        found: defaultdict[int, tuple[list[bytes], list[bytes]]] = defaultdict(lambda: ([], []))
        for key, index, _closing, *_ in _entries(self._established):
            if key[16:32] == packed:
                found[index][0].append(key)
                promoted.add(key)
        for key, index, closing, *_ in _entries(self._embryonic):
            if key[16:32] == packed and not closing and key not in promoted:
                found[index][1].append(key)
        result: dict[Address, tuple[bytes, bytes]] = {}
        for index, (established, embryonic) in found.items():
            address = self._targets.address(index)
            if address is not None:
                result[address] = (b"".join(established), b"".join(embryonic))
        return result

    def count(self, dvipa: Address, others: bytes) -> int:
        """How many connections of a DVIPA there are, here and among the keys `others`.

        An entry that was promoted, or is among `others`, counts once. A handshake that nobody goes
        on with is none.
        """
        packed = pack(dvipa)
        found = set(split_keys(others))
        for keys, _values in self._established.batches():
            if packed in keys:
                found.update(key for key in split_keys(keys) if key[16:32] == packed)
        since_ns = time.monotonic_ns() - OPENING_NS
        for keys, values in self._embryonic.batches():
            if packed in keys:
                routes = zip(split_keys(keys), ROUTE.iter_unpack(values), strict=True)
                found.update(
                    key
                    for key, (_index, closing, _chooser, created_ns) in routes
                    if key[16:32] == packed and not closing and created_ns > since_ns
                )
        return len(found)

    def rows(self, wanted: Wanted) -> list[CrtRow]:
        """The connections that are wanted, in the order of the maps."""
        fits = wanted.test()
        promoted: set[bytes] = set()
        rows: list[CrtRow] = []
        for table, established in ((self._established, True), (self._embryonic, False)):
            for key, index, closing, chooser, created_ns in _entries(table):
                if not fits(key) or key in promoted:
                    continue
                if established:
                    promoted.add(key)
                client, address, client_port, port = CONNECTION.unpack(key)
                rows.append(
                    CrtRow(
                        unpack(client),
                        client_port,
                        unpack(address),
                        port,
                        self._targets.address(index),
                        established,
                        closing != 0,
                        created_ns,
                        chooser,
                    )
                )
        return rows


def _insert(table: CrtMap, keys: bytes, value: bytes) -> int:
    try:
        table.update_batch(keys, value)
    except BpfError as error:
        if error.errno != errno.E2BIG:
            raise
    else:
        return 0
    lost = 0
    for key in split_keys(keys):  # full: what is there already can still be renewed
        try:
            table.update(key, value)
        except BpfError as error:
            if error.errno != errno.E2BIG:
                raise
            lost += 1
    return lost
