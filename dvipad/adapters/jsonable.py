"""Frozen values as JSON: for the control socket and for `--json`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any


def jsonable(value: object) -> Any:
    """`value` in the types of JSON: dataclasses as objects, addresses as text, enums by value."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, IPv4Address | IPv6Address | Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    raise TypeError(f"no JSON for {type(value).__name__}")
