"""libbpf through ctypes: objects, maps, pins, TC programs, links, ring buffers.

Only what dvipad needs. The library is opened on first use, so that commands that never touch the
kernel work without it. Every failure is a :class:`BpfError`, an ``OSError`` whose message says
what was tried; a refused load carries the end of libbpf's log, where the verifier gives its reason.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Final

LOG_LINES_MAX: Final = 40
"""Lines of libbpf's log that an exception quotes at the most."""

_BPF_OBJ_NAME_LEN: Final = 16


class BpfError(OSError):
    """The kernel, or libbpf, refused something."""


class BpfMapInfo(ctypes.Structure):
    """The first fields of ``struct bpf_map_info`` (linux/bpf.h); the kernel fills what fits."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    name: bytes
    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * _BPF_OBJ_NAME_LEN),
    )


_PRINTER = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_SAMPLE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)

# name: (result, arguments). Results of int are negative errno values.
_FUNCTIONS: Final[dict[str, tuple[object, tuple[object, ...]]]] = {
    "libbpf_set_print": (c_void_p, (_PRINTER,)),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__find_program_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__type": (c_uint32, (c_void_p,)),
    "bpf_map__key_size": (c_uint32, (c_void_p,)),
    "bpf_map__value_size": (c_uint32, (c_void_p,)),
    "bpf_map__max_entries": (c_uint32, (c_void_p,)),
    "bpf_map__map_flags": (c_uint32, (c_void_p,)),
    "bpf_map__is_internal": (ctypes.c_bool, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_pin_path": (c_int, (c_void_p, c_char_p)),
    "bpf_map__initial_value": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_program__set_autoload": (c_int, (c_void_p, ctypes.c_bool)),
    "bpf_program__attach": (c_void_p, (c_void_p,)),
    "bpf_program__attach_cgroup": (c_void_p, (c_void_p, c_int)),
    "bpf_link__pin": (c_int, (c_void_p, c_char_p)),
    "bpf_link__open": (c_void_p, (c_char_p,)),
    "bpf_link__unpin": (c_int, (c_void_p,)),
    "bpf_link__destroy": (c_int, (c_void_p,)),
    "bpf_link__update_program": (c_int, (c_void_p, c_void_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_lookup_batch": (
        c_int,
        (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    ),
    "bpf_map_update_batch": (c_int, (c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_delete_batch": (c_int, (c_int, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_tc_hook_create": (c_int, (c_void_p,)),
    "bpf_tc_hook_destroy": (c_int, (c_void_p,)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "ring_buffer__new": (c_void_p, (c_int, _SAMPLE, c_void_p, c_void_p)),
    "ring_buffer__free": (None, (c_void_p,)),
    "ring_buffer__consume": (c_int, (c_void_p,)),
    "ring_buffer__epoll_fd": (c_int, (c_void_p,)),
}

_log: deque[str] = deque(maxlen=LOG_LINES_MAX)


def _print(level: int, template: bytes, arguments: int) -> int:
    """Keeps libbpf's messages; debug ones (level 2) are not even formatted."""
    if level >= 2:
        return 0
    line = ctypes.create_string_buffer(1 << 16)
    ctypes.CDLL(None).vsnprintf(line, c_size_t(len(line)), template, c_void_p(arguments))
    _log.extend(line.value.decode(errors="replace").splitlines())
    return 0


_printer = _PRINTER(_print)


@cache
def library() -> ctypes.CDLL:
    """libbpf.so.1 with all prototypes set; raises :class:`BpfError` when it is missing."""
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise BpfError(f"libbpf.so.1 cannot be loaded (Debian: package libbpf1): {error}") from None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    loaded.libbpf_set_print(_printer)
    return loaded


def log_tail() -> str:
    """The last lines that libbpf logged, the verifier's reason among them."""
    return "\n".join(_log)


def check(result: int, doing: str) -> int:
    """`result` of a libbpf call; a negative one is raised as :class:`BpfError`."""
    if result < 0:
        number = -result if result != -1 else (ctypes.get_errno() or 1)
        raise BpfError(number, f"{doing}: {os.strerror(number)}")
    return result


def check_pointer(pointer: int | None, doing: str) -> int:
    """`pointer` that a libbpf call returned; NULL is raised as :class:`BpfError`."""
    if not pointer:
        number = ctypes.get_errno()
        raise BpfError(number, f"{doing}: {os.strerror(number)}\n{log_tail()}".rstrip())
    return pointer


def possible_cpus() -> int:
    """Values that a per-CPU map has for each key."""
    return check(library().libbpf_num_possible_cpus(), "count the CPUs")


def get_pinned(path: Path) -> int:
    """A descriptor of the object pinned at `path`."""
    return check(library().bpf_obj_get(os.fsencode(path)), f"open {path}")


class Program:
    """A program of an open object; its descriptor is valid once the object is loaded."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        self.name: str = library().bpf_program__name(pointer).decode()

    @property
    def fd(self) -> int:
        """The program's descriptor."""
        return check(library().bpf_program__fd(self.pointer), f"program {self.name}")

    def set_autoload(self, load: bool) -> None:
        """Whether :meth:`BpfObject.load` loads this program."""
        check(library().bpf_program__set_autoload(self.pointer, load), f"program {self.name}")

    def attach(self) -> Link:
        """Attaches where the program's section says (tracepoints, tp_btf)."""
        pointer = library().bpf_program__attach(self.pointer)
        return Link(check_pointer(pointer, f"attach {self.name}"))

    def attach_cgroup(self, cgroup_fd: int) -> Link:
        """Attaches to the cgroup whose folder `cgroup_fd` is open on."""
        pointer = library().bpf_program__attach_cgroup(self.pointer, cgroup_fd)
        return Link(check_pointer(pointer, f"attach {self.name} to a cgroup"))


class Link:
    """An attachment; it ends with :meth:`destroy`, unless it is pinned."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    @classmethod
    def open(cls, path: Path) -> Link:
        """The link pinned at `path`."""
        return cls(check_pointer(library().bpf_link__open(os.fsencode(path)), f"open {path}"))

    def pin(self, path: Path) -> None:
        """Keeps the attachment alive at `path` when this process ends."""
        check(library().bpf_link__pin(self.pointer, os.fsencode(path)), f"pin {path}")

    def unpin(self) -> None:
        """Removes the pin."""
        check(library().bpf_link__unpin(self.pointer), "unpin a link")

    def update(self, program: Program) -> None:
        """Replaces the program of this attachment, atomically."""
        result = library().bpf_link__update_program(self.pointer, program.pointer)
        check(result, f"replace the program of a link by {program.name}")

    def destroy(self) -> None:
        """Lets go of the link: detaches it, unless it is pinned."""
        library().bpf_link__destroy(self.pointer)


class MapDefinition:
    """A map of an open object, before it is loaded."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        self.name: str = library().bpf_map__name(pointer).decode()

    @property
    def internal(self) -> bool:
        """A section of globals (.rodata, .bss), not a map of its own."""
        return bool(library().bpf_map__is_internal(self.pointer))

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Type, key size, value size, maximum of entries, flags."""
        lib = library()
        return (
            lib.bpf_map__type(self.pointer),
            lib.bpf_map__key_size(self.pointer),
            lib.bpf_map__value_size(self.pointer),
            lib.bpf_map__max_entries(self.pointer),
            lib.bpf_map__map_flags(self.pointer),
        )

    def set_max_entries(self, entries: int) -> None:
        """Sizes the map; before load only."""
        check(library().bpf_map__set_max_entries(self.pointer, entries), f"size map {self.name}")

    def set_pin_path(self, path: Path) -> None:
        """Loading reuses the map pinned there, if its shape is equal, or else pins it there."""
        result = library().bpf_map__set_pin_path(self.pointer, os.fsencode(path))
        check(result, f"pin map {self.name}")

    def write_initial(self, value: bytes) -> None:
        """Sets the first bytes of a section of globals; before load only."""
        size = c_size_t()
        address = library().bpf_map__initial_value(self.pointer, byref(size))
        if not address or len(value) > size.value:
            raise BpfError(f"map {self.name} takes no initial value of {len(value)} bytes")
        ctypes.memmove(address, value, len(value))


class BpfObject:
    """A compiled object file: open, adjust its maps, load, use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise BpfError(f"{path} is missing: build it with `make -C bpf`")
        pointer = library().bpf_object__open_file(os.fsencode(path), None)
        self._pointer: int | None = check_pointer(pointer, f"open {path}")

    def _walk(self, step: Callable[[int | None, int | None], int | None]) -> list[int]:
        found: list[int] = []
        pointer = step(self._pointer, None)
        while pointer:
            found.append(pointer)
            pointer = step(self._pointer, pointer)
        return found

    def maps(self) -> list[MapDefinition]:
        """All maps of the object."""
        return [MapDefinition(pointer) for pointer in self._walk(library().bpf_object__next_map)]

    def programs(self) -> list[Program]:
        """All programs of the object."""
        return [Program(pointer) for pointer in self._walk(library().bpf_object__next_program)]

    def program(self, name: str) -> Program:
        """The program called `name`."""
        pointer = library().bpf_object__find_program_by_name(self._pointer, name.encode())
        return Program(check_pointer(pointer, f"find program {name}"))

    def load(self, needs: str) -> None:
        """Creates the maps and has the kernel verify the programs.

        `needs`: the kernel features that a refusal may be about, for the exception.
        """
        _log.clear()
        result = library().bpf_object__load(self._pointer)
        if result < 0:
            raise BpfError(
                -result,
                f"the kernel refused {self.path.name} ({os.strerror(-result)}); "
                f"it needs {needs}\n{log_tail()}",
            )

    def pin_program(self, name: str, path: Path) -> None:
        """Keeps the loaded program called `name` at `path`, instead of what is pinned there."""
        new = path.with_name(f"{path.name}_new")
        new.unlink(missing_ok=True)
        check(library().bpf_obj_pin(self.program(name).fd, os.fsencode(new)), f"pin {path}")
        new.rename(path)

    def map_fd(self, name: str) -> int:
        """A descriptor of its own (the caller closes it) of the loaded map called `name`."""
        pointer = library().bpf_object__find_map_by_name(self._pointer, name.encode())
        fd = library().bpf_map__fd(check_pointer(pointer, f"find map {name}"))
        return os.dup(check(fd, f"map {name}"))

    def close(self) -> None:
        """Frees the object; what is pinned or attached stays."""
        if self._pointer:
            library().bpf_object__close(self._pointer)
            self._pointer = None


class RingBuffer:
    """The reading end of a BPF_MAP_TYPE_RINGBUF."""

    def __init__(self, map_fd: int, handle: Callable[[bytes], None]) -> None:
        def sample(_context: int, data: int, size: int) -> int:
            handle(ctypes.string_at(data, size))
            return 0

        self._callback = _SAMPLE(sample)  # libbpf keeps only the pointer
        pointer = library().ring_buffer__new(map_fd, self._callback, None, None)
        self._pointer: int | None = check_pointer(pointer, "open a ring buffer")

    def fileno(self) -> int:
        """Readable when there is something to consume."""
        return check(library().ring_buffer__epoll_fd(self._pointer), "ring buffer")

    def consume(self) -> int:
        """Calls `handle` for everything that is there; returns how many."""
        return check(library().ring_buffer__consume(self._pointer), "read a ring buffer")

    def close(self) -> None:
        """Frees the buffer; the map stays."""
        if self._pointer:
            library().ring_buffer__free(self._pointer)
            self._pointer = None
