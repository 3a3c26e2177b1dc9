"""Messages to frames and back, derived from the types of the messages' fields.

The header of a frame is a JSON object with a member per field: addresses and enums as text,
tuples as arrays, nested values as objects. A field of bytes is ``[offset, length]`` in the
frame's blob. A receiver ignores fields and types of messages that it does not know, and takes the
default of a field that is not there. `Position` never travels: it means something on the node of
the profile only. A session of an older version carries neither messages nor fields that came
later: they are not written, and what is there all the same is ignored like anything unknown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import UnionType
from typing import Any, Final, TypeAlias, Union, get_args, get_origin, get_type_hints

from dvipad.address import Address
from dvipad.config.model import OWNER_RANK, DistMethod, PortRange, Position, Prefix, TargetSpec
from dvipad.versions import MAX_VERSION, NEWEST
from dvipad.wire import messages
from dvipad.wire.errors import Fault, RemoteProtocolError
from dvipad.wire.framing import Frame, encode_frame
from dvipad.wire.messages import MAX_CONNECTIONS, Message

CONNECTION_SIZE: Final = 36
MAX_ITEMS: Final = 4096
"""Items of one list in a message."""
MAX_TEXT: Final = 255
"""Characters of one text in a message."""
MAX_NUMBER: Final = 2**63 - 1
MAX_PORT: Final = 65535
MAX_MILLICPUS: Final = 1_000_000_000

TYPES: Final[dict[int, type[Message]]] = {
    1: messages.Hello,
    2: messages.Heartbeat,
    3: messages.Goodbye,
    4: messages.Members,
    5: messages.VipaList,
    6: messages.SrvStat,
    7: messages.NewConn,
    8: messages.TermConn,
    9: messages.Dvipa,
    10: messages.Witness,
    11: messages.Weights,
    12: messages.Status,
    13: messages.Figures,
    14: messages.Quality,
}
"""Numbers of the messages; a number is never used for anything else."""
_NUMBERS: Final = {kind: number for number, kind in TYPES.items()}
SINCE: Final[dict[tuple[type, str], int]] = {
    (messages.Weights, ""): 2,
    (messages.Status, ""): 2,
    (messages.Figures, ""): 2,
    (messages.Quality, ""): 2,
    (messages.VipaList, "policies"): 2,
    (messages.VipaList, "labels"): 2,
}
"""The version that brought a message, or a field (its name); all others came with the first."""
WORDS_SINCE: Final[dict[Enum, tuple[int, Enum]]] = {
    DistMethod.LEASTCONN: (2, DistMethod.WEIGHTEDACTIVE),
}
"""The version that brought a word, and what an older session says instead."""

_RANGES: Final[dict[tuple[type, str], tuple[int, int]]] = {
    (messages.Hello, "oldest"): (1, MAX_VERSION),
    (messages.Hello, "newest"): (1, MAX_VERSION),
    (messages.Member, "port"): (1, MAX_PORT),
    (messages.PortStatus, "port"): (1, MAX_PORT),
    (messages.Active, "port"): (1, MAX_PORT),
    (messages.VipaEntry, "rank"): (0, OWNER_RANK),
    (messages.Witness, "rank"): (0, OWNER_RANK),
    (messages.ServerWeight, "port"): (1, MAX_PORT),
    (messages.ServerWeight, "weight"): (0, messages.MAX_WEIGHT),
    (messages.Weights, "host"): (0, messages.MAX_WEIGHT),
    (messages.Weights, "millicpus"): (1, MAX_MILLICPUS),
    (messages.Weights, "announced"): (0, messages.MAX_WEIGHT),
    (messages.ServiceQuality, "port"): (1, MAX_PORT),
    **dict.fromkeys(
        ((messages.ServiceQuality, name) for name in ("left", "cer", "sef", "queue")), (0, 100)
    ),
    **dict.fromkeys(((messages.ServiceQuality, name) for name in ("loss", "timeouts")), (0, 1000)),
    (PortRange, "first"): (1, MAX_PORT),
    (PortRange, "last"): (1, MAX_PORT),
    (Prefix, "length"): (0, 128),
    (TargetSpec, "weight"): (0, 99),
    (TargetSpec, "standby_rank"): (0, OWNER_RANK),
}
"""Numbers that are not just 0 to `MAX_NUMBER`."""

_text: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

Json: TypeAlias = Any
_Encode: TypeAlias = Callable[[Any, bytearray], Json]


@dataclass(slots=True)
class _Source:
    """What a frame has beside its header; how many fields of that nobody knows here."""

    blob: bytes
    unknown: int = 0


_Decode: TypeAlias = Callable[[Json, _Source], Any]


def encode(message: Message, version: int = NEWEST) -> bytes:
    """The frame of `message` in a session of `version`; empty when that does not know it.

    Raises ``ValueError`` for a message over a limit, which the receiver would refuse.
    """
    kind: Any = type(message)
    if kind is messages.Heartbeat:
        return _heartbeat(version)  # most frames are
    return _encode(message, kind, version)


@cache
def _heartbeat(version: int) -> bytes:
    return _encode(messages.Heartbeat(), messages.Heartbeat, version)


def _encode(message: Message, kind: Any, version: int) -> bytes:
    if not _knows(version, kind):
        return b""
    blob = bytearray()
    header = _encoder(kind, version)(message, blob)
    return encode_frame(Frame(_NUMBERS[kind], _text(header).encode(), bytes(blob)), version)


def decode(
    frame: Frame, version: int = NEWEST, counters: Counter[str] | None = None
) -> Message | None:
    """The message in `frame`, None for a type that `version` does not know.

    `counters` counts what was ignored. Raises `RemoteProtocolError` for anything that is not a
    message of its type.
    """
    counters = Counter() if counters is None else counters
    kind: Any = TYPES.get(frame.kind)
    if kind is None or not _knows(version, kind):
        counters["unknown_message"] += 1
        return None
    if kind is messages.Heartbeat and frame.header == b"{}":
        return messages.Heartbeat()
    try:
        header = json.loads(frame.header.decode())
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(Fault.JSON, f"{kind.__name__}: {error}") from None
    source = _Source(frame.blob)
    message: Message = _decoder(kind, version)(header, source)
    if source.unknown:
        counters["unknown_field"] += source.unknown
    return message


def _knows(version: int, kind: type, field: str = "") -> bool:
    return SINCE.get((kind, field), 1) <= version


def _wire_fields(kind: type, version: int) -> list[tuple[Field[Any], Any]]:
    """Fields that travel, each with its type."""
    hints = get_type_hints(kind)
    assert is_dataclass(kind)
    return [
        (item, hints[item.name])
        for item in fields(kind)
        if hints[item.name] is not Position and _knows(version, kind, item.name)
    ]


def _wrong_type(expected: str, value: Json) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.WRONG_TYPE, f"{type(value).__name__} instead of {expected}")


def _optional(hint: Any) -> Any | None:
    """The type in ``X | None``; None when `hint` is something else."""
    if get_origin(hint) not in (Union, UnionType):
        return None
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if len(kinds) == len(get_args(hint)):
        return None
    return kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007 - made at run time


# --- encoding ---------------------------------------------------------------------------------


@cache
def _encoder(hint: Any, version: int) -> _Encode:
    if hint == Address or hint in (IPv4Address, IPv6Address):
        return lambda value, blob: str(value)
    if hint in (bool, int):
        return lambda value, blob: value
    if hint is str:
        return _put_text
    if hint is bytes:
        return _put_bytes
    inner = _optional(hint)
    if inner is not None:
        put = _encoder(inner, version)
        return lambda value, blob: None if value is None else put(value, blob)
    if get_origin(hint) is tuple:
        return _tuple_encoder(_encoder(get_args(hint)[0], version))
    if isinstance(hint, type) and issubclass(hint, Enum):
        said = {word: _known_word(word, version).value for word in hint}
        return lambda value, blob: said[value]
    return _value_encoder(hint, version)


def _known_word(word: Enum, version: int) -> Enum:
    since, instead = WORDS_SINCE.get(word, (version, word))
    return word if since <= version else instead


def _put_text(value: str, blob: bytearray) -> Json:
    if len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"not a text for a message: {value[:64]!r}")
    return value


def _tuple_encoder(put_item: _Encode) -> _Encode:
    def put(value: tuple[Any, ...], blob: bytearray) -> Json:
        if len(value) > MAX_ITEMS:
            raise ValueError(f"a list in a message has at most {MAX_ITEMS} items")
        return [put_item(item, blob) for item in value]

    return put


def _put_bytes(value: bytes, blob: bytearray) -> Json:
    if len(value) % CONNECTION_SIZE or len(value) > MAX_CONNECTIONS * CONNECTION_SIZE:
        raise ValueError(
            f"{len(value)} bytes are not 0-{MAX_CONNECTIONS} connections of {CONNECTION_SIZE}"
        )
    offset = len(blob)
    blob += value
    return [offset, len(value)]


def _value_encoder(kind: type, version: int) -> _Encode:
    puts = [(item.name, _encoder(hint, version)) for item, hint in _wire_fields(kind, version)]

    def put(value: Any, blob: bytearray) -> Json:
        return {name: put_field(getattr(value, name), blob) for name, put_field in puts}

    return put


# --- decoding ---------------------------------------------------------------------------------


@cache
def _decoder(hint: Any, version: int) -> _Decode:
    if hint == Address:
        return _get_address
    if hint is bool:
        return _get_bool
    if hint is int:
        return _number_decoder(0, MAX_NUMBER)
    if hint is str:
        return _get_text
    if hint is bytes:
        return _get_bytes
    inner = _optional(hint)
    if inner is not None:
        return _optional_decoder(_decoder(inner, version))
    if get_origin(hint) is tuple:
        return _tuple_decoder(_decoder(get_args(hint)[0], version))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_decoder(hint)
    return _value_decoder(hint, version)


def _get_address(value: Json, source: _Source) -> Address:
    if not isinstance(value, str):
        raise _wrong_type("an address", value)
    if len(value) <= MAX_TEXT and "%" not in value:
        try:
            return ip_address(value)
        except ValueError:
            pass
    raise RemoteProtocolError(Fault.WRONG_VALUE, f"not an address: {value[:64]!r}")


def _get_bool(value: Json, source: _Source) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type("true or false", value)
    return value


def _get_text(value: Json, source: _Source) -> str:
    if not isinstance(value, str):
        raise _wrong_type("a text", value)
    if len(value) > MAX_TEXT:
        raise RemoteProtocolError(Fault.TOO_LONG, f"a text of {len(value)} characters")
    if not value.isprintable():
        raise RemoteProtocolError(Fault.WRONG_VALUE, f"not printable: {value!r}")
    return value


def _number_decoder(lowest: int, highest: int) -> _Decode:
    def get(value: Json, source: _Source) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type("a whole number", value)
        if not lowest <= value <= highest:
            raise RemoteProtocolError(
                Fault.WRONG_VALUE, f"a number that is not in {lowest}-{highest}"
            )
        return value

    return get


def _get_bytes(value: Json, source: _Source) -> bytes:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong_type("[offset, length]", value)
    blob = source.blob
    offset, size = (_number_decoder(0, len(blob))(part, source) for part in value)
    if offset + size > len(blob):
        raise RemoteProtocolError(Fault.WRONG_VALUE, "connections beyond the end of the blob")
    if size % CONNECTION_SIZE:
        raise RemoteProtocolError(Fault.WRONG_VALUE, f"{size} bytes are not whole connections")
    if size > MAX_CONNECTIONS * CONNECTION_SIZE:
        raise RemoteProtocolError(Fault.TOO_LONG, f"{size // CONNECTION_SIZE} connections")
    return blob[offset : offset + size]


def _optional_decoder(get_inner: _Decode) -> _Decode:
    return lambda value, source: None if value is None else get_inner(value, source)


def _tuple_decoder(get_item: _Decode) -> _Decode:
    def get(value: Json, source: _Source) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong_type("a list", value)
        if len(value) > MAX_ITEMS:
            raise RemoteProtocolError(Fault.TOO_LONG, f"a list of {len(value)} items")
        return tuple([get_item(item, source) for item in value])

    return get


def _enum_decoder(kind: type[Enum]) -> _Decode:
    known = {item.value: item for item in kind}

    def get(value: Json, source: _Source) -> Enum:
        if not isinstance(value, str):
            raise _wrong_type(f"a {kind.__name__}", value)
        if value not in known:
            raise RemoteProtocolError(Fault.WRONG_VALUE, f"{kind.__name__} {value[:64]!r}")
        return known[value]

    return get


def _value_decoder(kind: type, version: int) -> _Decode:
    gets = [
        (item.name, _field_decoder(kind, item.name, hint, version), item.default is MISSING)
        for item, hint in _wire_fields(kind, version)
    ]

    def get(value: Json, source: _Source) -> Any:
        if not isinstance(value, dict):
            raise _wrong_type(f"a {kind.__name__}", value)
        arguments = {}
        for name, get_field, required in gets:
            if name in value:
                arguments[name] = get_field(value[name], source)
            elif required:
                raise RemoteProtocolError(Fault.MISSING_FIELD, f"{kind.__name__}.{name}")
        source.unknown += len(value) - len(arguments)
        made = kind(**arguments)
        if isinstance(made, PortRange) and made.first > made.last:
            raise RemoteProtocolError(Fault.WRONG_VALUE, f"ports {made.first}-{made.last}")
        return made

    return get


def _field_decoder(kind: type, name: str, hint: Any, version: int) -> _Decode:
    limits = _RANGES.get((kind, name))
    if limits is None:
        return _decoder(hint, version)
    get = _number_decoder(*limits)
    return get if _optional(hint) is None else _optional_decoder(get)
