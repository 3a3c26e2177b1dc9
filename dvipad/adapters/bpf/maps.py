"""One loaded eBPF map, through libbpf: single elements, batches, shared memory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from ctypes import byref, c_uint32
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.libbpf import (
    BpfError,
    BpfMapInfo,
    check,
    get_pinned,
    library,
    possible_cpus,
)

BATCH_MAX: Final = 16_384
"""Elements of one batch lookup; a hash bucket larger than that cannot occur."""

ANY: Final = 0
NOEXIST: Final = 1
_PERCPU_TYPES: Final = frozenset({5, 6, 10})  # PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH


class Map:
    """A map by its descriptor, which it owns. Keys and values are bytes of the exact size.

    The value of a per-CPU map is that of all possible CPUs, one after the other, each padded to
    8 bytes.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        info = BpfMapInfo()
        size = c_uint32(ctypes.sizeof(info))
        check(library().bpf_obj_get_info_by_fd(fd, byref(info), byref(size)), "inspect a map")
        self.info = info
        self.name: str = info.name.decode(errors="replace")
        self.key_size = info.key_size
        percpu = info.type in _PERCPU_TYPES
        padded = (info.value_size + 7) & ~7
        self.value_size = padded * possible_cpus() if percpu else info.value_size
        self._value = ctypes.create_string_buffer(self.value_size)

    @classmethod
    def open(cls, path: Path) -> Map:
        """The map pinned at `path`; raises :class:`BpfError` when there is none."""
        return cls(get_pinned(path))

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Type, key size, value size, maximum of entries, flags."""
        info = self.info
        return (info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)

    def close(self) -> None:
        """Closes the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lookup(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        result = library().bpf_map_lookup_elem(self.fd, key, self._value)
        if result == -errno.ENOENT:
            return None
        check(result, f"look into map {self.name}")
        return self._value.raw

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Sets `key`; with NOEXIST only if it is new (``EEXIST``). A full map raises ``E2BIG``."""
        result = library().bpf_map_update_elem(self.fd, key, value, flags)
        check(result, f"update map {self.name}")

    def delete(self, key: bytes) -> bool:
        """Removes `key`; False when it was not there."""
        result = library().bpf_map_delete_elem(self.fd, key)
        if result == -errno.ENOENT:
            return False
        check(result, f"delete from map {self.name}")
        return True

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        """All elements: packed keys and packed values, up to BATCH_MAX of them at a time.

        Elements that come or go meanwhile may be seen or not.
        """
        size = min(BATCH_MAX, self.info.max_entries)
        keys = ctypes.create_string_buffer(size * self.key_size)
        values = ctypes.create_string_buffer(size * self.value_size)
        token = ctypes.create_string_buffer(max(self.key_size, 8))
        position: ctypes.Array[ctypes.c_char] | None = None
        while True:
            count = c_uint32(size)
            result = library().bpf_map_lookup_batch(
                self.fd, position, token, keys, values, byref(count), None
            )
            if result != -errno.ENOENT:  # which says: this was the last batch
                check(result, f"read map {self.name}")
            if count.value:
                yield (
                    ctypes.string_at(keys, count.value * self.key_size),
                    ctypes.string_at(values, count.value * self.value_size),
                )
            if result:
                return
            position = token

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All elements, one by one."""
        for keys, values in self.batches():
            for index in range(len(keys) // self.key_size):
                yield (
                    keys[index * self.key_size : (index + 1) * self.key_size],
                    values[index * self.value_size : (index + 1) * self.value_size],
                )

    def update_batch(self, keys: bytes, values: bytes) -> None:
        """Sets all packed `keys`; when the map is full those before stay (``E2BIG``)."""
        total = len(keys) // self.key_size
        if len(keys) != total * self.key_size or len(values) != total * self.value_size:
            raise ValueError(f"keys and values do not fit map {self.name}")
        if not total:
            return
        count = c_uint32(total)
        result = library().bpf_map_update_batch(self.fd, keys, values, byref(count), None)
        check(result, f"update {total} elements of map {self.name} (done: {count.value})")

    def delete_batch(self, keys: bytes) -> int:
        """Removes all packed `keys`; those that are not there are skipped. Returns how many."""
        deleted = 0
        while keys:
            count = c_uint32(len(keys) // self.key_size)
            result = library().bpf_map_delete_batch(self.fd, keys, byref(count), None)
            deleted += count.value
            if result != -errno.ENOENT:
                check(result, f"delete from map {self.name}")
                break
            keys = keys[(count.value + 1) * self.key_size :]  # the missing one stopped the batch
        return deleted

    def memory(self) -> mmap.mmap:
        """The values of a BPF_F_MMAPABLE array as shared memory, each padded to 8 bytes."""
        size = ((self.info.value_size + 7) & ~7) * self.info.max_entries
        try:
            return mmap.mmap(self.fd, size)
        except OSError as error:
            raise BpfError(error.errno, f"map {self.name} into memory: {error}") from None
