"""Keeps the operator's orders: all of them over a restart of the daemon, those that pause a
target over a restart of the host, too."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from dvipad.address import Address
from dvipad.core.orders import Orders
from dvipad.wire.messages import MAX_WEIGHT

NAME: Final = "orders.json"
PORT_MAX: Final = 65_535

log = logging.getLogger(__name__)


class OrdersFile:
    """`run`: a folder that is empty after a restart of the host. `state`: one that is not."""

    def __init__(self, run: Path, state: Path) -> None:
        self._run = run / NAME
        self._state = state / NAME

    def load(self) -> Orders:
        """What is ordered; a file that makes no sense is set aside, and said."""
        now, kept = _read(self._run), _read(self._state)
        return replace(now, paused=now.paused | kept.paused)

    def save(self, orders: Orders) -> None:
        """Raises ``OSError`` when it cannot be written; the files are then as before."""
        _write(self._run, orders)
        _write(self._state, Orders(paused=orders.paused))


def _read(path: Path) -> Orders:
    try:
        return _parse(json.loads(path.read_text()))
    except FileNotFoundError:
        return Orders()
    except (OSError, ValueError, TypeError, KeyError) as error:
        aside = path.with_suffix(".broken")
        log.error("%s makes no sense (%s); it is set aside as %s", path, error, aside)
        try:
            path.replace(aside)
        except OSError as again:
            log.error("%s cannot be set aside: %s", path, again)
        return Orders()


def _parse(values: Any) -> Orders:
    return Orders(
        frozenset(ip_address(text) for text in values["deactivated"]),
        _ports(values["quiesced"]),
        _ports(values["paused"]),
        values["outside"] is True,
        frozenset(_activated(row) for row in values.get("activated", ())),
        _weight(values.get("weight")),
    )


def _activated(row: Any) -> tuple[Address, int]:
    text, number = row
    if type(number) is not int or number < 1:
        raise ValueError("an activation has a number")
    return ip_address(text), number


def _weight(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_WEIGHT):
        raise ValueError(f"a weight is a number from 0 to {MAX_WEIGHT}")
    return None if value is None else int(value)


def _ports(values: Any) -> frozenset[int]:
    if not all(type(port) is int and 0 <= port <= PORT_MAX for port in values):
        raise ValueError("a port is a number")
    return frozenset(values)


def _write(path: Path, orders: Orders) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    text = json.dumps(
        {
            "deactivated": sorted(str(dvipa) for dvipa in orders.deactivated),
            "quiesced": sorted(orders.quiesced),
            "paused": sorted(orders.paused),
            "outside": orders.outside,
            "activated": sorted([str(dvipa), number] for dvipa, number in orders.activated),
            "weight": orders.weight,
        }
    )
    with new.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
