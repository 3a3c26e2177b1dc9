"""Sets of policies as text in a map: what the queue worker, a process of its own, reads them from.

A set never changes once a service names it, so a reader may keep what it has read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import count
from typing import Any, TypeAlias

from dvipad.adapters.bpf.layout import TEXT_BYTES, TEXT_KEY
from dvipad.adapters.bpf.maps import Map
from dvipad.config.model import Device, Prefix
from dvipad.core.policy_rows import PolicyRow

Rows: TypeAlias = tuple[tuple[PolicyRow, int], ...]
"""Policies without their rings, each with its slot."""


def write_set(texts: Map, number: int, rows: Rows) -> None:
    """Keep `rows` as the set `number`; raises `BpfError` when there is no room."""
    data = json.dumps([_plain(row, slot) for row, slot in rows]).encode()
    for part, at in enumerate(range(0, len(data), TEXT_BYTES)):
        value = data[at : at + TEXT_BYTES].ljust(TEXT_BYTES, b"\0")
        texts.update(TEXT_KEY.pack(number, part), value)


def read_set(texts: Map, number: int) -> Rows | None:
    """The set `number`; None when it is not there, or is on its way out."""
    parts: list[bytes] = []
    for part in count():
        value = texts.lookup(TEXT_KEY.pack(number, part))
        if value is None:
            break
        parts.append(value)
    try:
        return tuple(_row(item) for item in json.loads(b"".join(parts).rstrip(b"\0")))
    except ValueError:
        return None


def delete_set(texts: Map, number: int) -> None:
    """Forget the set `number`, from its first part on: what is left can be read no more."""
    for part in count():
        if not texts.delete(TEXT_KEY.pack(number, part)):
            return


def _plain(row: PolicyRow, slot: int) -> dict[str, Any]:
    return {
        "name": row.name,
        "slot": slot,
        "clients": [(str(prefix.network), prefix.length) for prefix in row.clients],
        "dscps": row.dscps,
        "interfaces": row.interfaces,
        "devices": [device.value for device in row.devices],
        "strict": row.strict,
    }


def _row(item: dict[str, Any]) -> tuple[PolicyRow, int]:
    clients: Sequence[tuple[str, int]] = item["clients"]
    row = PolicyRow(
        item["name"],
        tuple(Prefix(ip_address(network), length) for network, length in clients),
        tuple(item["dscps"]),
        tuple(item["interfaces"]),
        tuple(map(Device, item["devices"])),
        item["strict"],
    )
    return row, item["slot"]
