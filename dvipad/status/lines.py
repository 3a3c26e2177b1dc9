"""What the daemon and its status process say to each other: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from dvipad.config.dns import NameConfig
from dvipad.config.status import ObjectConfig

LINE_MAX: Final = 1 << 20
BEAT_S: Final = 1.0
"""The process says something at least that often."""


def line(value: Mapping[str, Any]) -> bytes:
    """`value` on one line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def parse(data: bytes) -> dict[str, Any]:
    """What a line says; raises ``ValueError`` when it is none."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def object_order(config: ObjectConfig) -> dict[str, Any]:
    """A status object, as the process is told of it."""
    options = dict(config.options)
    if config.kind == "tcp" and config.port is not None:
        options.setdefault("port", str(config.port))
    return {
        "object": config.name,
        "kind": config.kind,
        "interval_s": config.interval_ms / 1000,
        "timeout_s": config.timeout_ms / 1000,
        "options": options,
    }


def name_order(config: NameConfig, address: str) -> dict[str, Any]:
    """A name, and the address that it is to have."""
    return {
        "name": config.name,
        "zone": config.zone,
        "address": address,
        "server": str(config.server),
        "server_port": config.server_port,
        "key": None if config.key is None else str(config.key),
        "ttl": config.ttl,
        "timeout_s": config.timeout_ms / 1000,
    }
